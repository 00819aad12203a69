"""``python -m benchmarks accumulate``: whether the cost of a delta grows with the length of the answer.

Measures the peers that return the whole answer, and compares it with the text that was sent. The figures are the
processor time of a long answer, and the median of some short ones, each less the cost of a call with one delta, divided
by its deltas. A ratio of 1 is linear; rebuilding the answer at every delta is quadratic, and its ratio shows that.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from benchmarks import machine, report, wire
from benchmarks.opened import open_all
from benchmarks.options import add_common, peers_of, server_beside_us
from benchmarks.peers import Calls, Peer
from benchmarks.rounds import Row, all_fine, positive, ratio_cells, take_turns

_SHORT, _LONG = "short", "long"
_CALLS = 10
_BAR = 1.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--short", type=positive, default=1000, help="deltas of a short answer (default: %(default)s)")
    parser.add_argument("--long", type=positive, default=100_000, help="deltas of a long answer (default: %(default)s)")
    add_common(parser, "accumulate", rounds=5)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a peer failed or its text differs from the text that the server sent."""
    facts = report.environment(arguments.loop)
    peers, missing = peers_of(arguments)
    folding = [peer for peer in peers if peer.folds]
    with server_beside_us(arguments) as server:
        rows = machine.run_on(arguments.loop, _measure_all, server, arguments, folding)

    head = ("dialect", "deltas", "peer", "text", "CPU us/delta", f"÷ {arguments.short}", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=4)
    print(f"\nmedian of {arguments.rounds}; the bar is {_BAR} ÷ the short answer's")
    over = [row for row in rows if row.ratios and statistics.median(row.ratios) > _BAR]
    for row in over:
        print(f"over the bar: {row.peer} ({row.place['dialect']}) with {ratio_cells(row.ratios)[0]}")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "accumulate",
            "environment": facts,
            "options": {"short": arguments.short, "long": arguments.long, "rounds": arguments.rounds},
            "skipped": missing,
            "rows": [row.as_json("cpu_microseconds_per_delta") for row in rows],
        },
    )
    return 0 if all_fine(rows) else 1


async def _measure_all(server: str, arguments: argparse.Namespace, peers: Sequence[Peer]) -> list[Row]:
    sizes = {"one": 1, _SHORT: arguments.short, _LONG: arguments.long}
    found: list[Row] = []
    for dialect in arguments.dialect or wire.DIALECTS:
        for peer in peers:
            if dialect in peer.dialects:
                print(f"{dialect} {peer.name} ", end="", file=sys.stderr, flush=True)
                found += await _measure(server, dialect, peer, sizes, arguments.rounds)
    return found


async def _measure(server: str, dialect: str, peer: Peer, sizes: dict[str, int], rounds: int) -> Sequence[Row]:
    """Build a row for the short answers and one for the long; they alternate with each other, not with other peers."""
    async with AsyncExitStack() as stack:
        rows: dict[str, Row] = {}
        calls: dict[str, Calls] = {}
        for name, deltas in sizes.items():
            place = {"dialect": dialect, "deltas": str(deltas)}
            url = f"{server}/{dialect}/blast/{deltas}"
            made, _, opened = await open_all(stack, [peer], place, dialect, url)
            rows |= {name: made[peer.name]}
            if peer.name in opened:
                calls[name] = opened[peer.name]

        async def measure(name: str) -> float:
            own_cost = await _seconds(calls["one"], rows["one"], dialect, 1)
            spent = await _seconds(calls[name], rows[name], dialect, sizes[name])
            return max(spent - own_cost, 0.0) * 1e6 / sizes[name]

        gc.collect()
        gc.freeze()  # collections before each call then examine only the garbage of calls, not all imported modules
        measured = {name: rows[name] for name in (_SHORT, _LONG) if name in calls and "one" in calls}
        await take_turns(measured, measure, rounds=rounds, reference=_SHORT)
    return [rows[_SHORT], rows[_LONG]]


async def _seconds(calls: Calls, row: Row, dialect: str, deltas: int) -> float:
    """Return the CPU seconds of one call; of a short call, the median of some."""
    if calls.fold is None:
        raise LookupError("it does not put answers together")
    expected = wire.answer(dialect, deltas).digest
    times: list[float] = []
    for _ in range(1 if deltas >= 10_000 else _CALLS):
        gc.collect()
        before = time.process_time()
        text = await calls.fold()
        times.append(time.process_time() - before)
        if wire.text_digest(text) != expected:
            row.text_matches = False
    return statistics.median(times)
