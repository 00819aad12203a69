"""``python -m benchmarks stream``: CPU microseconds for each token event, from the socket to the user's ``async for``.

The figure is the processor time of this process (user and system) for whole streamed calls, including the request,
divided by the token events of the stream. The server is another process. Peers take turns within a round, and ratios
are taken within it. Each peer's text is compared with the sent text, outside the measured time.
"""

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import anyio

from benchmarks import machine, report, wire
from benchmarks.opened import open_all
from benchmarks.options import add_common, peers_of, server_beside_us
from benchmarks.peers import FLOOR, Calls, Peer
from benchmarks.peers.floor import count_reads
from benchmarks.rounds import Row, all_fine, median_of, positive, take_turns

_MODES = ("blast", "each")
_GAP = 1000  # microseconds between two events of a single stream
_SETTLING = 0.01  # seconds: work that a peer leaves to threads and tasks is charged to it and not to the next peer


@dataclass(frozen=True, slots=True)
class _Plan:
    """The settings of one group of interleaved rounds."""

    dialect: str
    mode: str
    events: int
    concurrency: int
    rounds: int

    def url(self, server: str) -> str:
        # Concurrent streams together get ten times the rate of a single one, which the server can always keep.
        gap = _GAP * max(1, self.concurrency // 10)
        mode = f"each-{gap}" if self.mode == "each" else self.mode
        return f"{server}/{self.dialect}/{mode}/{self.events}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument(
        "--events",
        type=positive,
        default=1000,
        help="token events of a stream, of which each has a tenth if there are several (default: %(default)s)",
    )
    parser.add_argument(
        "--concurrency", type=positive, action="append", help="streams at once; repeatable (default: 1, 100)"
    )
    parser.add_argument("--mode", choices=(*_MODES, "both"), default="both", help="how the server writes")
    add_common(parser, "stream", rounds=7)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a peer failed or its text differs from the text that the server sent."""
    facts = report.environment(arguments.loop)
    peers, missing = peers_of(arguments)
    concurrencies: list[int] = arguments.concurrency or [1, 100]
    machine.allow_open_files(max(concurrencies))
    plans = [
        _Plan(dialect, mode, _events(arguments.events, concurrency), concurrency, arguments.rounds)
        for concurrency in concurrencies
        for dialect in arguments.dialect or wire.DIALECTS
        for mode in (_MODES if arguments.mode == "both" else (arguments.mode,))
    ]
    with server_beside_us(arguments) as server:
        rows, events_per_read = machine.run_on(arguments.loop, _measure_all, server, plans, peers)

    head = ("dialect", "mode", "streams", "peer", "text", "CPU us/event", "÷ floor", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=5)
    shown = ", ".join(f"{count} at once of {_events(arguments.events, count)} events" for count in concurrencies)
    print(f"\n{shown}; {median_of(arguments.rounds)}")
    print(
        "events a read of the floor's, one stream alone: "
        + ", ".join(f"{place} {count:.1f}" for place, count in events_per_read.items())
    )
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "stream",
            "environment": facts,
            "options": {"events": arguments.events, "rounds": arguments.rounds, "concurrency": concurrencies},
            "events_per_read": events_per_read,
            "skipped": missing,
            "rows": [row.as_json("cpu_microseconds_per_event") for row in rows],
        },
    )
    return 0 if all_fine(rows) else 1


def _events(events: int, concurrency: int) -> int:
    return events if concurrency == 1 else max(1, events // 10)


async def _measure_all(
    server: str, plans: Sequence[_Plan], peers: Sequence[Peer]
) -> tuple[list[Row], dict[str, float]]:
    rows: list[Row] = []
    events_per_read: dict[str, float] = {}
    for plan in plans:
        rows += await _measure(server, plan, [peer for peer in peers if plan.dialect in peer.dialects])
        if plan.concurrency == 1:
            reads = await count_reads(plan.dialect, plan.url(server))
            events_per_read[f"{plan.dialect} {plan.mode}"] = round(plan.events / reads, 2)
    return rows, events_per_read


async def _measure(server: str, plan: _Plan, peers: Sequence[Peer]) -> list[Row]:
    place = {"dialect": plan.dialect, "mode": plan.mode, "streams": str(plan.concurrency)}
    print(f"{' '.join(place.values())} ", end="", file=sys.stderr, flush=True)
    async with AsyncExitStack() as stack:
        rows, ready, calls = await open_all(stack, peers, place, plan.dialect, plan.url(server))

        async def measure(name: str) -> float:
            return await _microseconds_per_event(calls[name], plan, rows[name])

        await take_turns(ready, measure, rounds=plan.rounds, reference=FLOOR)
    return list(rows.values())


async def _microseconds_per_event(calls: Calls, plan: _Plan, row: Row) -> float:
    """Return the CPU time of ``plan.concurrency`` concurrent streams for each token event; checks their text later."""
    results: list[list[str]] = [[] for _ in range(plan.concurrency)]
    gc.collect()
    before = time.process_time()
    async with anyio.create_task_group() as group:
        for texts in results:
            group.start_soon(calls.stream, texts.append)
    await anyio.sleep(_SETTLING)
    spent = time.process_time() - before

    expected = wire.answer(plan.dialect, plan.events).digest
    if any(wire.text_digest("".join(texts)) != expected for texts in results):
        row.text_matches = False
    return spent * 1e6 / (plan.events * plan.concurrency)
