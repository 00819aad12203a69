"""``python -m benchmarks all``: every command, one after another, into one file; takes minutes.

Each command is a separate process, so that none inherits the memory, cores and modules of another, and failures are
isolated.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from benchmarks import machine, report
from benchmarks.peers import PEER_NAMES

# Counts for a run of minutes, and counts that only show whether everything runs.
_MODEST = {
    "stream": "--rounds 5",
    "latency": "--rounds 5",
    "accumulate": "--rounds 3",
    "plain": "--rounds 5",
    "fanout": "--rounds 3",
    "memory": "--rounds 2",
    "startup": "--rounds 5",
    "convert": "--rounds 3",
    "tracing": "--rounds 5",
    "web": "--rounds 5",
    "loop": "--rounds 5",
    "store": "--calls 50",
}
_SMOKE = {
    "stream": "--rounds 1 --events 20 --concurrency 4",
    "latency": "--rounds 1 --calls 2",
    "accumulate": "--rounds 1 --short 50 --long 200",
    "plain": "--rounds 1 --calls 4 --concurrency 2",
    "fanout": "--rounds 1 --concurrency 6 --rate 20 --seconds 1 --workers 2",
    "memory": "--rounds 1 --streams 10 --dialect openai_chat",
    "startup": "--rounds 1",
    "convert": "--rounds 1 --turns 25 --turns 50 --target gemini",
    "tracing": "--rounds 1 --events 200 --calls 2",
    "web": "--rounds 1 --events 20 --clients 0",
    "loop": "--rounds 1 --steps 2 --calls 2 --peer dhenara_async",
    "store": "--calls 2 --nodes 200 --database sqlite --events 200 --rounds 1",
}
_WITH_PEERS = ("stream", "latency", "accumulate", "plain", "memory", "fanout")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--only", action="append", choices=tuple(_MODEST), help="repeatable (default: all commands)")
    parser.add_argument("--peer", action="append", choices=PEER_NAMES, help="repeatable (default: the commands')")
    parser.add_argument("--loop", choices=machine.LOOPS, default="asyncio", help="event loop (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="with tiny counts: does it run? the figures mean nothing")
    parser.add_argument("--json", type=Path, default=report.RESULTS / "all.json", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Run the commands; returns 1 if one of them failed."""
    machine.check_loop(arguments.loop)
    facts = report.environment(arguments.loop)
    results: dict[str, object] = {}
    failed: list[str] = []
    counts = _SMOKE if arguments.smoke else _MODEST
    names = [name for name in counts if not arguments.only or name in arguments.only]
    with TemporaryDirectory() as folder:
        for number, name in enumerate(names, start=1):
            print(f"[{number}/{len(names)}] {name}", file=sys.stderr, flush=True)
            print(f"\n== {name}\n", flush=True)
            path = Path(folder) / f"{name}.json"
            options = [*counts[name].split(), "--json", str(path)]
            if name in _WITH_PEERS:
                options += [f"--loop={arguments.loop}", *(f"--peer={peer}" for peer in arguments.peer or ())]
            if subprocess.run([sys.executable, "-m", "benchmarks", name, *options], check=False).returncode:
                failed.append(name)
            results[name] = orjson.loads(path.read_bytes()) if path.exists() else None
    report.write_json(arguments.json, {"benchmark": "all", "environment": facts, "failed": failed, "results": results})
    if failed:
        print(f"failed, at least in part: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
