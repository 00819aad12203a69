"""``python -m benchmarks memory``: bytes that an open stream holds while it waits for the provider.

Each measurement is a separate process that has made one call before. It then opens the streams, each of which receives
some events and stays open. The first quarter fills memory that the imports left free; the growth of the resident memory
after that is divided by the number of the other streams. Slow peers open a fifth of the streams.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import cast

from benchmarks import machine, report, wire
from benchmarks.memory_round import Held
from benchmarks.options import add_common, ignore_proxies, peers_of
from benchmarks.peers import FLOOR, Peer
from benchmarks.rounds import Row, all_fine, enter, positive, rotated
from benchmarks.server import running_server
from benchmarks.worker import Job, WorkerError, running_worker

_DEADLINE = 120.0
_SLOW_SHARE = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--streams", type=positive, default=2000, help="open at once (default: %(default)s)")
    parser.add_argument("--events", type=positive, default=20, help="token events each (default: %(default)s)")
    add_common(parser, "memory", rounds=3)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a peer failed or its text differs from the text that the server sent."""
    machine.check_loop(arguments.loop)
    facts = report.environment(arguments.loop)
    peers, missing = peers_of(arguments)
    machine.allow_open_files(arguments.streams)
    ignore_proxies()
    rows: list[Row] = []
    with running_server(machine.core_of(1, machine.cores())) as server:
        for dialect in arguments.dialect or wire.DIALECTS:
            speaking = [peer for peer in peers if dialect in peer.dialects]
            rows += _measure(arguments, server, dialect, speaking)

    head = ("dialect", "peer", "text", "KiB/stream", "÷ floor", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=3)
    print(f"\n{arguments.streams} open streams, of slow peers a fifth; median of {arguments.rounds} fresh processes")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "memory",
            "environment": facts,
            "options": {name: getattr(arguments, name) for name in ("streams", "events", "rounds")},
            "skipped": missing,
            "rows": [row.as_json("kibibytes_per_stream") for row in rows],
        },
    )
    return 0 if all_fine(rows) else 1


def _measure(arguments: argparse.Namespace, server: str, dialect: str, peers: Sequence[Peer]) -> list[Row]:
    rows = {peer.name: Row({"dialect": dialect}, peer.name, slow=peer.slow) for peer in peers}
    print(f"{dialect} ", end="", file=sys.stderr, flush=True)
    for number in range(arguments.rounds):
        costs: dict[str, float] = {}
        for peer in rotated(peers, number):
            row = rows[peer.name]
            if row.failure is None:
                streams = max(1, arguments.streams // _SLOW_SHARE) if peer.slow else arguments.streams
                costs |= _measure_one(arguments, server, dialect, row, streams)
        enter(rows, costs, reference=FLOOR)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return list(rows.values())


def _measure_one(arguments: argparse.Namespace, server: str, dialect: str, row: Row, streams: int) -> dict[str, float]:
    """Return the KiB of a stream, by the peer's name; empty if it failed, and its row then has the error."""
    job = Job(
        work="memory",
        peer=row.peer,
        dialect=dialect,
        server=server,
        mode="stalled",
        events=arguments.events,
        streams=streams,
        core=machine.core_of(0, machine.cores()),
        loop=arguments.loop,
        deadline=_DEADLINE,
    )
    try:
        with running_worker(job) as worker:
            worker.begin()
            held = cast(Held, worker.result())
    except WorkerError as error:
        row.fail(error)
        return {}
    row.text_matches = row.text_matches and held["text_matches"]
    return {row.peer: held["bytes_per_stream"] / 1024}
