"""The options that most commands share, and their handling before measurement."""

import argparse
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import machine, report, wire
from benchmarks.peers import PEER_NAMES, Peer, choose
from benchmarks.rounds import positive
from benchmarks.server import HOST, running_server


def add_common(parser: argparse.ArgumentParser, name: str, *, rounds: int) -> None:
    """Add the common options of command ``name`` to ``parser``."""
    parser.add_argument(
        "--rounds", type=positive, default=rounds, help="how often each peer is measured (default: %(default)s)"
    )
    parser.add_argument("--dialect", action="append", choices=wire.DIALECTS, help="repeatable (default: all)")
    parser.add_argument("--peer", action="append", choices=PEER_NAMES, help="repeatable (default: all)")
    parser.add_argument("--loop", choices=machine.LOOPS, default="asyncio", help="event loop (default: %(default)s)")
    add_json(parser, name)


def add_json(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the option for the result file of command ``name`` to ``parser``."""
    parser.add_argument("--json", type=Path, default=report.RESULTS / f"{name}.json", help="default: %(default)s")


def peers_of(arguments: argparse.Namespace, *, default: Sequence[str] | None = None) -> tuple[list[Peer], list[str]]:
    """Return the requested peers that are installed, and the names of those that are missing; prints the missing ones.

    Args:
        arguments: The options.
        default: The peers if none is named; None = all.
    """
    peers, missing = choose(arguments.peer or default, arguments.dialect)
    packages: dict[str, list[str]] = {}
    for peer in missing:
        packages.setdefault(peer.name, []).append(peer.needs)
    for name, needed in packages.items():
        print(f"skipped: {name}: not installed: {', '.join(dict.fromkeys(needed))}")
    return peers, [*packages]


def ignore_proxies() -> None:
    """Exclude the loopback server from the proxies of the environment, which the SDKs would use."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST


@contextmanager
def server_beside_us(arguments: argparse.Namespace) -> Generator[str]:
    """Run the server on one core and this process on another; yields the server's root URL."""
    machine.check_loop(arguments.loop)
    ignore_proxies()
    available = machine.cores()
    with running_server(machine.core_of(1, available)) as server:
        machine.pin(machine.core_of(0, available))
        yield server
