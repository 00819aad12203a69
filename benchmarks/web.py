"""``python -m benchmarks web``: CPU microseconds for each event of a web response, ours and a loop written by hand.

The server is a process of its own: uvicorn with a raw ASGI loop, or aiohttp.web. Both ways read the same answer in
memory, which comes event by event, and take turns within a round. Then many clients read slow answers at once: the
delay of each event on its way, and the memory for each client.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import anyio
import orjson

from benchmarks import machine, report
from benchmarks.options import add_json, ignore_proxies
from benchmarks.quantiles import quantile
from benchmarks.rounds import Row, all_fine, positive, take_turns

_FRAMEWORKS = ("uvicorn", "aiohttp")
_WAYS = ("floor", "ours")
_BAR = 1.3
_WORD = "token "
_SLOW = (
    "server",
    "peer",
    "clients",
    "right",
    "delay_p50_milliseconds",
    "delay_p99_milliseconds",
    "kibibytes_per_client",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--events", type=positive, default=2000, help="events of a response (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=500, help="slow clients, or 0 (default: %(default)s)")
    parser.add_argument("--seconds", type=positive, default=5, help="how long they read (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--loop", choices=machine.LOOPS, default="asyncio", help="event loop (default: %(default)s)")
    add_json(parser, "web")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a response failed or its text differs from the answer's."""
    facts = report.environment(arguments.loop)
    machine.check_loop(arguments.loop)
    ignore_proxies()
    machine.allow_open_files(arguments.clients)
    available = machine.cores()
    rows: list[Row] = []
    slow: list[dict[str, object]] = []
    machine.pin(machine.core_of(0, available))
    for framework in _FRAMEWORKS:
        with _server(framework, machine.core_of(1, available)) as server:
            rows += machine.run_on(arguments.loop, _measure, server, framework, arguments)
        for way in _WAYS if arguments.clients > 0 else ():  # a new process for each: memory is not given back
            with _server(framework, machine.core_of(1, available)) as server:
                slow.append(machine.run_on(arguments.loop, _read_slowly, server, framework, way, arguments))
    head = ("server", "peer", "text", "CPU us/event", "÷ floor", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=3)
    print(f"\nmedian of {arguments.rounds}; the bar is {_BAR} ÷ the floor's\n")
    if slow:
        report.print_table(_SLOW, [[str(line[column]) for column in _SLOW] for line in slow], left=2)
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "web",
            "environment": facts,
            "options": {"events": arguments.events, "rounds": arguments.rounds, "clients": arguments.clients},
            "skipped": [],
            "rows": [row.as_json("cpu_microseconds_per_event") for row in rows],
            "slow_clients": slow,
        },
    )
    return 0 if all_fine(rows) and all(line["right"] == line["clients"] for line in slow) else 1


@contextmanager
def _server(framework: str, core: int | None) -> Generator[str]:
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "benchmarks.web_server", framework, "" if core is None else str(core)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = "" if process.stdout is None else process.stdout.readline().strip()
            if not port:
                raise RuntimeError("The web server did not start; its error stands above.")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def _facts(session: aiohttp.ClientSession, server: str) -> dict[str, float]:
    async with session.get(f"{server}/facts") as reply:
        return orjson.loads(await reply.read())


def _texts(body: bytes) -> list[str]:
    lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    events = [orjson.loads(line[6:]) for line in lines]
    return [event["text"] for event in events if event["type"] == "text_delta"]


async def _measure(server: str, framework: str, arguments: argparse.Namespace) -> list[Row]:
    rows = {way: Row({"server": framework}, way) for way in _WAYS}
    print(f"{framework} ", end="", file=sys.stderr, flush=True)
    async with aiohttp.ClientSession() as session:

        async def measure(way: str) -> float:
            before = (await _facts(session, server))["cpu"]
            async with session.get(f"{server}/{way}/{arguments.events}/0") as reply:
                body = await reply.read()
            spent = (await _facts(session, server))["cpu"] - before
            if _texts(body) != [_WORD] * arguments.events:
                rows[way].text_matches = False
            return spent * 1e6 / arguments.events

        await take_turns(rows, measure, rounds=arguments.rounds, reference="floor")
    return list(rows.values())


async def _read_slowly(server: str, framework: str, way: str, arguments: argparse.Namespace) -> dict[str, object]:
    events = arguments.seconds * 10
    delays: list[float] = []
    right = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        resident = (await _facts(session, server))["resident"]
        most: list[float] = []

        async def read() -> None:
            nonlocal right
            count, rest = 0, b""
            async with session.get(f"{server}/{way}/{events}/100000") as reply:
                async for piece in reply.content.iter_any():
                    now = time.monotonic()
                    whole, end, rest = (rest + piece).rpartition(b"\n\n")
                    texts = _texts(whole + end)
                    delays.extend(now - float(text) for text in texts)
                    count += len(texts)
            right += count == events

        async with anyio.create_task_group() as group:
            for _ in range(arguments.clients):
                group.start_soon(read)
            await anyio.sleep(arguments.seconds * 0.7)
            most.append((await _facts(session, server))["resident"])
    each = (statistics.fmean(most) - resident) / arguments.clients / 1024
    ordered = sorted(delays)
    return {
        "server": framework,
        "peer": way,
        "clients": arguments.clients,
        "right": right,
        "delay_p50_milliseconds": round(quantile(ordered, 0.5) * 1e3, 2),
        "delay_p99_milliseconds": round(quantile(ordered, 0.99) * 1e3, 2),
        "kibibytes_per_client": round(each, 1),
    }
