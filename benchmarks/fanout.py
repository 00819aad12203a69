"""``python -m benchmarks fanout``: the number of paced streams that one core handles, and the lag of their tokens.

The server writes the tokens of each stream by a schedule, as fast as a provider does, and the first text has the start
of the schedule; both processes share the monotonic clock of the machine. The lag of a token is the time from its due
moment to its receipt. It includes the lag of the server, which is also reported separately. Each peer has its own
processes, one for each worker, and each worker has its own server; peers take turns.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from benchmarks import fanout_plot, machine, report
from benchmarks.fanout_round import Round
from benchmarks.fanout_rows import FanoutRow, Figures, together
from benchmarks.options import add_common, ignore_proxies, peers_of
from benchmarks.peers import FLOOR, OURS, Peer
from benchmarks.rounds import median_of, positive, rotated, takes_part
from benchmarks.server import lateness, running_server
from benchmarks.worker import Job, Worker, WorkerError, running_worker

_DIALECTS = ("openai_chat",)
_OVERTIME = 20  # the longest round, as a multiple of its schedule
_OPENING = 60.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument(
        "--concurrency", type=positive, action="append", help="streams at once; repeatable (default: 2000)"
    )
    parser.add_argument(
        "--rate", type=positive, default=20, help="tokens a second of each stream (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=positive, default=5, help="length of each stream (default: %(default)s)")
    parser.add_argument(
        "--workers", type=positive, default=1, help="processes the streams are split over (default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, help="PNG or SVG of tokens a second and lags by streams at once")
    add_common(parser, "fanout", rounds=3)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, draw and write; returns 1 if a stream failed or its text differs from the text that was sent."""
    machine.check_loop(arguments.loop)
    if arguments.plot is not None:
        fanout_plot.check()
    facts = report.environment(arguments.loop)
    arguments.dialect = arguments.dialect or _DIALECTS
    peers, missing = peers_of(arguments, default=(FLOOR, OURS))
    concurrencies: list[int] = sorted(arguments.concurrency or [2000])
    machine.allow_open_files(concurrencies[-1])
    ignore_proxies()
    available = machine.cores()
    if len(available) < 2 * arguments.workers:
        print(f"{arguments.workers} workers and as many servers share {len(available) or 'unknown'} cores")
    rows: list[FanoutRow] = []
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running_server(machine.core_of(2 * place + 1, available)))
            for place in range(arguments.workers)
        ]
        for dialect in arguments.dialect:
            speaking = [peer for peer in peers if dialect in peer.dialects]
            for concurrency in concurrencies:
                rows += _measure(arguments, servers, dialect, concurrency, speaking)

    report.print_table(FanoutRow.HEAD, [row.as_cells() for row in rows], left=3)
    print(
        f"\n{arguments.rate} tokens a second for {arguments.seconds} s; {arguments.workers} workers;"
        f" {median_of(arguments.rounds)}; CPU with the requests; RSS after the first round and the last"
    )
    print(report.environment_line(facts))
    names = ("rate", "seconds", "workers", "rounds")
    report.write_json(
        arguments.json,
        {
            "benchmark": "fanout",
            "environment": facts,
            "options": {**{name: getattr(arguments, name) for name in names}, "concurrency": concurrencies},
            "skipped": missing,
            "rows": [row.as_json() for row in rows],
        },
    )
    if arguments.plot is not None:
        fanout_plot.draw(rows, arguments.plot)
    return 0 if all(row.fine for row in rows) else 1


def _measure(
    arguments: argparse.Namespace, servers: Sequence[str], dialect: str, concurrency: int, peers: Sequence[Peer]
) -> list[FanoutRow]:
    rows = {peer.name: FanoutRow(dialect, concurrency, peer.name) for peer in peers}
    print(f"{dialect} {concurrency} ", end="", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        crews: dict[str, list[Worker]] = {}
        for peer in peers:
            jobs = _jobs(arguments, servers, dialect, concurrency, peer.name)
            try:
                crews[peer.name] = [stack.enter_context(running_worker(job)) for job in jobs]
            except WorkerError as error:
                rows[peer.name].fail(error)
        slow = {peer.name for peer in peers if peer.slow}
        for number in range(arguments.rounds):
            figures: dict[str, Figures] = {}
            for name in rotated([*crews], number):
                if rows[name].failure is None and takes_part(name in slow, number):
                    figures |= _measure_round(rows[name], crews[name], servers)
            for name, round_figures in figures.items():
                rows[name].enter(round_figures, figures.get(FLOOR))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return list(rows.values())


def _measure_round(row: FanoutRow, crew: Sequence[Worker], servers: Sequence[str]) -> dict[str, Figures]:
    """Measure one round of a peer, by name; empty if it cannot be opened, and its row then has the error."""
    for server in servers:
        lateness(server)
    try:
        for worker in crew:
            worker.begin()
        results = [cast(Round, worker.result()) for worker in crew]
    except WorkerError as error:
        row.fail(error)
        return {}
    figures = together(results, [lateness(server) for server in servers])
    if figures.first_error is not None:
        print(f"\n{row.peer}: {figures.errors} streams failed: {figures.first_error}", file=sys.stderr)
    return {row.peer: figures}


def _jobs(
    arguments: argparse.Namespace, servers: Sequence[str], dialect: str, concurrency: int, peer: str
) -> list[Job]:
    """Build a job for each worker; the first workers get the remainder."""
    available = machine.cores()
    shares = [len(range(place, concurrency, arguments.workers)) for place in range(arguments.workers)]
    return [
        Job(
            work="fanout",
            peer=peer,
            dialect=dialect,
            server=servers[place],
            mode=f"paced-{1_000_000 // arguments.rate}-{share}",
            events=arguments.rate * arguments.seconds,
            streams=share,
            core=machine.core_of(2 * place, available),
            loop=arguments.loop,
            deadline=_OPENING + _OVERTIME * arguments.seconds,
        )
        for place, share in enumerate(shares)
        if share
    ]
