"""``python -m benchmarks plain``: CPU microseconds for a plain (not streamed) call, among many concurrent ones.

The answer is one JSON body of a few hundred words. Measured as in ``stream``: processor time of this process, peers
take turns, ratios are taken within a round, and each text is compared with the text that the server sent.
"""

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio

from benchmarks import machine, report, wire
from benchmarks.opened import open_all
from benchmarks.options import add_common, peers_of, server_beside_us
from benchmarks.peers import FLOOR, Calls, Peer
from benchmarks.rounds import Row, all_fine, median_of, positive, take_turns

_EVENTS = 200
_SETTLING = 0.01  # seconds: work that a peer leaves to threads and tasks is charged to it and not to the next peer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--calls", type=positive, default=200, help="calls a measurement (default: %(default)s)")
    parser.add_argument("--concurrency", type=positive, default=50, help="calls at once (default: %(default)s)")
    add_common(parser, "plain", rounds=7)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a peer failed or its text differs from the text that the server sent."""
    facts = report.environment(arguments.loop)
    peers, missing = peers_of(arguments)
    callers = [peer for peer in peers if not peer.streams_only]
    machine.allow_open_files(arguments.concurrency)
    with server_beside_us(arguments) as server:
        rows = machine.run_on(arguments.loop, _measure_all, server, arguments, callers)

    head = ("dialect", "peer", "text", "CPU us/call", "÷ floor", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=3)
    print(f"\n{arguments.calls} calls, {arguments.concurrency} at once; {median_of(arguments.rounds)}")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "plain",
            "environment": facts,
            "options": {name: getattr(arguments, name) for name in ("calls", "rounds", "concurrency")},
            "skipped": missing,
            "rows": [row.as_json("cpu_microseconds_per_call") for row in rows],
        },
    )
    return 0 if all_fine(rows) else 1


async def _measure_all(server: str, arguments: argparse.Namespace, peers: Sequence[Peer]) -> list[Row]:
    rows: list[Row] = []
    for dialect in arguments.dialect or wire.DIALECTS:
        rows += await _measure(server, dialect, arguments, [peer for peer in peers if dialect in peer.dialects])
    return rows


async def _measure(server: str, dialect: str, arguments: argparse.Namespace, peers: Sequence[Peer]) -> list[Row]:
    expected = wire.plain_text(dialect, _EVENTS)
    print(f"{dialect} ", end="", file=sys.stderr, flush=True)
    async with AsyncExitStack() as stack:
        url = f"{server}/{dialect}/plain/{_EVENTS}"
        rows, ready, opened = await open_all(stack, peers, {"dialect": dialect}, dialect, url)

        async def measure(name: str) -> float:
            spent, texts = await _spend(opened[name], arguments.calls, arguments.concurrency)
            if any(text != expected for text in texts):
                rows[name].text_matches = False
            return spent * 1e6 / arguments.calls

        await take_turns(ready, measure, rounds=arguments.rounds, reference=FLOOR)
    return list(rows.values())


async def _spend(calls: Calls, count: int, concurrency: int) -> tuple[float, list[str]]:
    """Return the CPU seconds of ``count`` calls by ``concurrency`` workers, and the answers."""
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
    await anyio.sleep(_SETTLING)
    return time.process_time() - before, texts
