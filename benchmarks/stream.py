"""``python -m benchmarks stream``: CPU microseconds a token event costs, from the socket to the user's ``async for``.

What is counted is the processor time of this process (user and system) for whole streamed calls, request included,
divided by the token events of the stream. The server is another process. Peers take turns within a round, and a ratio
is taken within its round. Each peer's text is compared with what was sent, outside the measured time.
"""

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio

from benchmarks import report, wire
from benchmarks.peers import FLOOR, PEER_NAMES, Calls, Peer, choose, count_reads
from benchmarks.rounds import Row, positive, take_turns
from benchmarks.server import MODES, ignore_proxies, running_server


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one group of interleaved rounds has in common."""

    dialect: str
    mode: str
    events: int
    concurrency: int
    rounds: int

    def url(self, server: str) -> str:
        return f"{server}/{self.dialect}/{self.mode}/{self.events}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell ``parser`` this command's options."""
    parser.add_argument("--events", type=positive, default=1000, help="token events a stream (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=positive, default=7, help="how often each peer is measured (default: %(default)s)"
    )
    parser.add_argument("--concurrency", type=positive, default=1, help="streams at once (default: %(default)s)")
    parser.add_argument("--dialect", action="append", choices=wire.DIALECTS, help="repeatable (default: all)")
    parser.add_argument("--mode", choices=(*MODES, "both"), default="both", help="how the server writes")
    parser.add_argument("--peer", action="append", choices=PEER_NAMES, help="repeatable (default: all)")
    parser.add_argument("--json", type=Path, default=report.RESULTS / "stream.json", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; the exit status is 1 if a peer's text was not what the server sent."""
    facts = report.environment()
    peers, missing = choose(arguments.peer, arguments.dialect)
    for peer in missing:
        print(f"skipped: {peer.name} ({', '.join(peer.dialects)}): {peer.package} is not installed")
    modes = MODES if arguments.mode == "both" else (arguments.mode,)
    plans = [
        _Plan(dialect, mode, arguments.events, arguments.concurrency, arguments.rounds)
        for dialect in arguments.dialect or wire.DIALECTS
        for mode in modes
    ]
    ignore_proxies()
    with running_server() as server:
        rows, events_per_read = anyio.run(_measure_all, server, plans, peers)

    head = ("dialect", "mode", "peer", "text", "CPU us/event", "÷ floor", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=4)
    print(f"\n{arguments.events} token events a stream, {arguments.concurrency} at once, median of {arguments.rounds}")
    print(
        "events a read, one stream alone: "
        + ", ".join(f"{place} {count:.1f}" for place, count in events_per_read.items())
    )
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "stream",
            "environment": facts,
            "options": {name: getattr(arguments, name) for name in ("events", "rounds", "concurrency")},
            "events_per_read": events_per_read,
            "skipped": [peer.name for peer in missing],
            "rows": [row.as_json("cpu_microseconds_per_event") for row in rows],
        },
    )
    return 0 if all(row.text_matches for row in rows) else 1


async def _measure_all(
    server: str, plans: Sequence[_Plan], peers: Sequence[Peer]
) -> tuple[list[Row], dict[str, float]]:
    rows: list[Row] = []
    events_per_read: dict[str, float] = {}
    for plan in plans:
        rows += await _measure(server, plan, [peer for peer in peers if plan.dialect in peer.dialects])
        reads = await count_reads(plan.dialect, plan.url(server))
        events_per_read[f"{plan.dialect} {plan.mode}"] = round(plan.events / reads, 2)
    return rows, events_per_read


async def _measure(server: str, plan: _Plan, peers: Sequence[Peer]) -> list[Row]:
    rows = {peer.name: Row({"dialect": plan.dialect, "mode": plan.mode}, peer.name) for peer in peers}
    print(f"{plan.dialect} {plan.mode} ", end="", file=sys.stderr, flush=True)
    async with AsyncExitStack() as stack:
        opened = {
            peer.name: await stack.enter_async_context(peer.open(plan.dialect, plan.url(server))) for peer in peers
        }

        async def measure(name: str) -> float:
            return await _microseconds_per_event(opened[name], plan, rows[name])

        await take_turns(rows, measure, rounds=plan.rounds, reference=FLOOR)
    return list(rows.values())


async def _microseconds_per_event(calls: Calls, plan: _Plan, row: Row) -> float:
    """CPU of ``plan.concurrency`` streams at once, by token events; checks their text afterwards."""
    results: list[list[str]] = []

    async def one() -> None:
        results.append(await calls.stream())

    gc.collect()
    before = time.process_time()
    async with anyio.create_task_group() as group:
        for _ in range(plan.concurrency):
            group.start_soon(one)
    spent = time.process_time() - before

    expected = wire.answer(plan.dialect, plan.events).digest
    if any(wire.text_digest("".join(texts)) != expected for texts in results):
        row.text_matches = False
    return spent * 1e6 / (plan.events * plan.concurrency)
