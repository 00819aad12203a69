"""``python -m benchmarks latency``: milliseconds from the call to its first text, over a warm connection.

The server answers at once, with a few events in one write, so the time is spent on the request and the first event in
the peer: wall time, one call after another, the median of a round. The peer's own latency is its median less that of
the floor in the same round.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from benchmarks import machine, report, wire
from benchmarks.opened import open_all
from benchmarks.options import add_common, peers_of, server_beside_us
from benchmarks.peers import FLOOR, Calls, Peer
from benchmarks.rounds import Row, all_fine, positive, take_turns

_EVENTS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--calls", type=positive, default=30, help="calls a measurement (default: %(default)s)")
    add_common(parser, "latency", rounds=9)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a peer failed or its text differs from the text that the server sent."""
    facts = report.environment(arguments.loop)
    peers, missing = peers_of(arguments)
    with server_beside_us(arguments) as server:
        rows = machine.run_on(arguments.loop, _measure_all, server, arguments, peers)

    head = ("dialect", "peer", "text", "first text ms", "÷ floor", "min..max", "ms over the floor")
    added = [f"{cost:+.2f}" if (cost := over_the_floor(row)) is not None else "-" for row in rows]
    report.print_table(head, [(*row.as_cells(), cell) for row, cell in zip(rows, added, strict=True)], left=3)
    print(f"\nmedian of {arguments.calls} calls one after another, and of {arguments.rounds} rounds of that")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "latency",
            "environment": facts,
            "options": {"calls": arguments.calls, "rounds": arguments.rounds},
            "skipped": missing,
            "rows": [
                {**row.as_json("first_text_milliseconds"), "milliseconds_over_the_floor": over_the_floor(row)}
                for row in rows
            ],
        },
    )
    return 0 if all_fine(rows) else 1


def over_the_floor(row: Row) -> float | None:
    """Return the median of the peer's own latency in milliseconds; None if there is no floor to compare with."""
    added = [cost - cost / ratio for cost, ratio in zip(row.costs, row.ratios, strict=False)]
    return round(statistics.median(added), 3) if added else None


async def _measure_all(server: str, arguments: argparse.Namespace, peers: Sequence[Peer]) -> list[Row]:
    found: list[Row] = []
    for dialect in arguments.dialect or wire.DIALECTS:
        print(f"{dialect} ", end="", file=sys.stderr, flush=True)
        async with AsyncExitStack() as stack:
            url = f"{server}/{dialect}/blast/{_EVENTS}"
            speaking = [peer for peer in peers if dialect in peer.dialects]
            rows, ready, opened = await open_all(stack, speaking, {"dialect": dialect}, dialect, url)
            expected = wire.answer(dialect, _EVENTS).digest

            async def measure(
                name: str, rows: dict[str, Row] = rows, opened: dict[str, Calls] = opened, expected: str = expected
            ) -> float:
                times = [await _first_text(opened[name], rows[name], expected) for _ in range(arguments.calls)]
                return statistics.median(times) * 1e3

            await take_turns(ready, measure, rounds=arguments.rounds, reference=FLOOR)
        found += rows.values()
    return found


async def _first_text(calls: Calls, row: Row, expected: str) -> float:
    """Return the seconds to the first text of one call; reads it to its end, so that its connection is kept."""
    texts: list[str] = []
    moments: list[float] = []

    def take(text: str) -> None:
        moments.append(time.perf_counter())
        texts.append(text)

    begun = time.perf_counter()
    await calls.stream(take)
    if wire.text_digest("".join(texts)) != expected:
        row.text_matches = False
    return moments[0] - begun if moments else 0.0
