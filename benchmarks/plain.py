"""``python -m benchmarks plain``: CPU microseconds a plain, not streamed, call costs with many under way.

The answer is one JSON body of a few hundred words. Counted as in ``stream``: processor time of this process, peers
taking turns, ratios within a round, each text compared with what the server sent.
"""

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from benchmarks import report, wire
from benchmarks.peers import FLOOR, PEER_NAMES, Calls, Peer, choose
from benchmarks.rounds import Row, positive, take_turns
from benchmarks.server import ignore_proxies, running_server

_EVENTS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell ``parser`` this command's options."""
    parser.add_argument("--calls", type=positive, default=200, help="calls a measurement (default: %(default)s)")
    parser.add_argument("--concurrency", type=positive, default=50, help="calls at once (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=positive, default=7, help="how often each peer is measured (default: %(default)s)"
    )
    parser.add_argument("--dialect", action="append", choices=wire.DIALECTS, help="repeatable (default: all)")
    parser.add_argument("--peer", action="append", choices=PEER_NAMES, help="repeatable (default: all)")
    parser.add_argument("--json", type=Path, default=report.RESULTS / "plain.json", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; the exit status is 1 if a peer's text was not what the server sent."""
    facts = report.environment()
    peers, missing = choose(arguments.peer, arguments.dialect)
    for peer in missing:
        print(f"skipped: {peer.name} ({', '.join(peer.dialects)}): {peer.package} is not installed")
    ignore_proxies()
    with running_server() as server:
        rows = anyio.run(_measure_all, server, arguments, [peer for peer in peers if not peer.streams_only])

    head = ("dialect", "peer", "text", "CPU us/call", "÷ floor", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=3)
    print(f"\n{arguments.calls} calls, {arguments.concurrency} at once, median of {arguments.rounds}")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "plain",
            "environment": facts,
            "options": {name: getattr(arguments, name) for name in ("calls", "rounds", "concurrency")},
            "skipped": [peer.name for peer in missing],
            "rows": [row.as_json("cpu_microseconds_per_call") for row in rows],
        },
    )
    return 0 if all(row.text_matches for row in rows) else 1


async def _measure_all(server: str, arguments: argparse.Namespace, peers: Sequence[Peer]) -> list[Row]:
    rows: list[Row] = []
    for dialect in arguments.dialect or wire.DIALECTS:
        rows += await _measure(server, dialect, arguments, [peer for peer in peers if dialect in peer.dialects])
    return rows


async def _measure(server: str, dialect: str, arguments: argparse.Namespace, peers: Sequence[Peer]) -> list[Row]:
    rows = {peer.name: Row({"dialect": dialect}, peer.name) for peer in peers}
    expected = wire.plain_text(dialect, _EVENTS)
    print(f"{dialect} ", end="", file=sys.stderr, flush=True)
    async with AsyncExitStack() as stack:
        url = f"{server}/{dialect}/plain/{_EVENTS}"
        opened = {peer.name: await stack.enter_async_context(peer.open(dialect, url)) for peer in peers}

        async def measure(name: str) -> float:
            spent, texts = await _spend(opened[name], arguments.calls, arguments.concurrency)
            if any(text != expected for text in texts):
                rows[name].text_matches = False
            return spent * 1e6 / arguments.calls

        await take_turns(rows, measure, rounds=arguments.rounds, reference=FLOOR)
    return list(rows.values())


async def _spend(calls: Calls, count: int, concurrency: int) -> tuple[float, list[str]]:
    """CPU seconds of ``count`` calls by ``concurrency`` workers, and what was answered."""
    texts: list[str] = []
    turns = iter(range(count))

    async def work() -> None:
        for _ in turns:
            texts.append(await calls.generate())

    gc.collect()
    before = time.process_time()
    async with anyio.create_task_group() as group:
        for _ in range(concurrency):
            group.start_soon(work)
    return time.process_time() - before, texts
