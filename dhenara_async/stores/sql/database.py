"""One database: its connections, its transactions, and its errors in our words.

Work is plain blocking code on a connection of SQLAlchemy. For SQLite it runs in a thread, so that a transaction costs
one change of threads, not one for each statement. For PostgreSQL it runs on the loop, in a greenlet of SQLAlchemy that
gives way to other tasks while the server works.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio import to_thread
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from dhenara_async.errors import ConfigurationError, MissingExtraError, StoreError
from dhenara_async.stores.sql import sqlite
from dhenara_async.stores.sql.changes import Changes
from dhenara_async.stores.sql.schema import demand_current

T = TypeVar("T")
_Work = Callable[[Connection], Any]
_WaitingWork = tuple[_Work, asyncio.Future[Any]]
_DEADLINE: Final = 90.0
"""Seconds after which one piece of work counts as failed; longer than SQLite waits for other processes."""
_CLOSE_SECONDS: Final = 10.0
_ROLLED_BACK: Final = frozenset({"40P01", "40001"})
"""Codes of PostgreSQL for a transaction that it has undone for the sake of others: a deadlock, or no order for all."""
_TRIES: Final = 5  # of such a transaction
_TOGETHER: Final = 64  # pieces of work in one transaction
_THREADS: Final = 8  # that work in an SQLite file at once; one of them may write


class Database:
    """Connections to one database, opened with the first piece of work and again after ``aclose``.

    A piece of work is one transaction. It is shielded from cancellation, because a cancelled statement costs its
    connection, and nobody knows whether a cancelled commit happened; the deadline bounds how long that takes. It
    runs again if PostgreSQL has undone it for the sake of others.

    Args:
        url: The address, with its driver.
        pooled: Whether a pooler such as pgbouncer stands between: no prepared statements then.
        journal: The journal mode of an SQLite file.
    """

    def __init__(self, url: URL, *, pooled: bool, journal: sqlite.JournalMode) -> None:
        self.url = url
        self._loop: asyncio.AbstractEventLoop | None = None  # that it is used on
        self.is_sqlite: bool = url.get_backend_name() == "sqlite"
        self._pooled = pooled
        self._journal: sqlite.JournalMode = journal
        self._engine: Engine | None = None
        self._threads = anyio.CapacityLimiter(_THREADS)
        self.changes: Changes = Changes(url.database if self.is_sqlite else None, None if pooled else self._listener)
        self._opening = anyio.Lock()
        self._waiting: list[_WaitingWork] = []  # pieces of work for an SQLite file, in order
        self._lines: WeakValueDictionary[tuple[object, Hashable], asyncio.Lock] = WeakValueDictionary()
        self._writing: asyncio.Task[None] | None = None  # runs them, so that they do not poll for the file's lock

    async def open(self) -> None:
        """Connect, and create or check the schema. Nothing happens if it is open.

        Raises:
            StoreError: The database cannot be opened.
            SchemaError: Its schema is newer, or on PostgreSQL not migrated.
        """
        await self._opened()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction that only reads, all of it from one state of the database."""
        return await self._run(work, begin="BEGIN", isolation="REPEATABLE READ")

    async def write(self, work: Callable[[Connection], T], *, row: Hashable | None = None) -> T:
        """Run ``work`` in a transaction that is committed when it returns, and rolled back when it raises.

        Args:
            work: It.
            row: The row that it locks first. Transactions of this process with the same ``row`` run one after the
                other, because a transaction that waits for a lock in the database keeps a connection from others.
        """
        self._demand_loop()
        if not self.is_sqlite and row is not None:
            return await self._write_in_line(work, row)
        if not self.is_sqlite:
            return await self._run(work, begin="BEGIN")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, done))
        if self._writing is None or self._writing.done() or self._writing.get_loop() is not loop:
            del self._waiting[:-1]  # of a loop that is gone
            self._writing = loop.create_task(self._write_waiting(), name="transactions of a store")
        with anyio.CancelScope(shield=True):
            await done
        return done.result()

    async def _write_in_line(self, work: Callable[[Connection], T], row: Hashable) -> T:
        key = asyncio.get_running_loop(), row
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = asyncio.Lock()
        with self._translated(), anyio.fail_after(_DEADLINE, shield=True):
            async with line:
                return await self._run(work, begin="BEGIN")

    async def _write_waiting(self) -> None:
        """Write what waits: several pieces in one transaction, because a transaction costs more than a statement."""
        some: list[_WaitingWork] = []
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
                some = [(work, done) for work, done in some if not done.done()]
                if len(some) < 2 or not await self._write_together(some):
                    for work, done in some:
                        await self._write_alone(work, done)
        finally:  # cancelled with every task of the loop: nothing else would wake the waiting tasks
            for _, done in (*some, *self._waiting):
                done.cancel()
            self._waiting.clear()

    async def _write_together(self, pieces: "Sequence[_WaitingWork]") -> bool:
        """Write several pieces; False if one may have failed, and none is written."""
        begun = False

        def work(connection: Connection) -> list[Any]:
            nonlocal begun
            begun = True
            return [work(connection) for work, _ in pieces]

        try:
            results = await self._run(work, begin="BEGIN IMMEDIATE")
        except Exception as exc:  # noqa: BLE001 - for the callers, or raised again for the piece that failed
            if begun:
                return False
            for _, done in pieces:  # the file is locked: one after the other would wait as long each
                if not done.done():
                    done.set_exception(exc)
            return True
        for (_, done), result in zip(pieces, results, strict=True):
            if not done.done():
                done.set_result(result)
        return True

    async def _write_alone(self, work: "_Work", done: asyncio.Future[Any]) -> None:
        try:
            result = await self._run(work, begin="BEGIN IMMEDIATE")
        except Exception as exc:  # noqa: BLE001 - for the caller
            if not done.done():
                done.set_exception(exc)
        else:
            if not done.done():
                done.set_result(result)

    async def truncate_log(self) -> None:
        """Empty the write-ahead log of an SQLite file, where deleted words may still stand.

        Raises:
            StoreError: Readers kept the log in use for too long; the next write or ``aclose`` empties it.
        """
        if not self.is_sqlite or self._journal != "wal":
            return
        engine = await self._opened()

        def truncate() -> bool:
            with engine.connect().execution_options(begin=None) as connection:
                row = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").first()
                return row is not None and bool(row[0])

        with self._translated(), anyio.fail_after(_DEADLINE, shield=True):
            is_used = await to_thread.run_sync(truncate, abandon_on_cancel=True, limiter=self._threads)
        if is_used:
            raise StoreError("the deleted words are still in the write-ahead log: another process is reading it")

    async def aclose(self) -> None:
        """Close every connection, after the transactions that wait for an SQLite file."""
        await self.changes.aclose()
        writing = self._writing
        if writing is not None and writing.get_loop() is asyncio.get_running_loop():
            with anyio.CancelScope(shield=True):
                await asyncio.wait([writing], timeout=_CLOSE_SECONDS)
        engine, self._engine = self._engine, None
        self._loop = None
        if engine is not None:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await _dispose(engine)

    async def _listener(self) -> tuple[Any, Callable[[], Awaitable[None]]]:
        """Open a connection for notifications: the driver's, and a function that closes it."""
        connection = await AsyncEngine(await self._opened()).connect()

        async def close() -> None:
            with anyio.move_on_after(5, shield=True):
                await connection.invalidate()  # a connection that listens does not go back to the others
                await connection.close()

        try:
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            return (await connection.get_raw_connection()).driver_connection, close
        except BaseException:
            await close()
            raise

    async def _run(self, work: Callable[[Connection], T], *, begin: str, isolation: str | None = None) -> T:
        engine = await self._opened()
        if self.is_sqlite:  # whose transactions are isolated anyway
            return await self._run_in_thread(engine, work, begin)
        with self._translated(), anyio.fail_after(_DEADLINE, shield=True):
            for _ in range(_TRIES - 1):
                try:
                    return await _run_on_loop(engine, work, begin, isolation)
                except DBAPIError as exc:
                    if getattr(exc.orig, "sqlstate", None) not in _ROLLED_BACK:
                        raise
            return await _run_on_loop(engine, work, begin, isolation)

    async def _run_in_thread(self, engine: Engine, work: Callable[[Connection], T], begin: str) -> T:
        given_up = threading.Event()

        def run() -> T:
            with engine.connect().execution_options(begin=begin, is_given_up=given_up.is_set) as connection:
                try:
                    with connection.begin():
                        result = work(connection)
                        if given_up.is_set():  # its caller was told that it has failed
                            raise TimeoutError
                        return result
                finally:
                    if self._engine is not engine:  # closed meanwhile: nobody would close what goes back to its pool
                        connection.detach()

        with self._translated(), anyio.fail_after(_DEADLINE, shield=True):
            try:
                return await to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._threads)
            except BaseException:
                given_up.set()
                raise

    def _demand_loop(self) -> None:
        """Refuse work from two event loops at once: what one of them does would never wake the other."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and self._loop.is_running():
                raise ConfigurationError(
                    f"the store {self.name} is in use on the event loop of another thread: make a store for each loop"
                )
            self._loop = loop

    async def _opened(self) -> Engine:
        self._demand_loop()
        if self._engine is not None:
            return self._engine
        with anyio.CancelScope(shield=True):
            await self._opening.acquire()
        try:
            if self._engine is None:
                with self._translated():
                    self._engine = await self._open()
            return self._engine
        finally:
            self._opening.release()

    async def _open(self) -> Engine:
        if self.is_sqlite:
            await to_thread.run_sync(sqlite.prepare, self.url, self._journal)
        engine = await to_thread.run_sync(self._new_engine)  # it loads the driver
        if not self.is_sqlite:
            try:
                async with AsyncEngine(engine).connect() as connection:
                    await connection.run_sync(demand_current)
            except BaseException:
                with anyio.move_on_after(5, shield=True):
                    await _dispose(engine)
                raise
        return engine

    def _new_engine(self) -> Engine:
        arguments: dict[str, Any] = {}
        if self.is_sqlite:
            engine = create_engine(
                self.url, hide_parameters=True, connect_args={"timeout": sqlite.BUSY_SECONDS}, pool_size=_THREADS
            )
            event.listen(engine, "connect", sqlite.configure)
            event.listen(engine, "begin", _begin)
            return engine
        if self._pooled and self.url.get_driver_name() == "psycopg":
            arguments["prepare_threshold"] = None
        elif self._pooled:
            arguments |= {"prepared_statement_cache_size": 0, "statement_cache_size": 0}
        opened = create_async_engine(
            self.url, hide_parameters=True, connect_args=arguments, pool_pre_ping=True, pool_size=8
        )
        return opened.sync_engine

    @property
    def name(self) -> str:
        """The path of an SQLite file, or the URL without its password."""
        return _name(self.url)

    def _translated(self) -> "_Translated":
        return translated(self.url)


def translated(url: URL) -> "_Translated":
    """Return a block in which errors of the database and its driver become ``StoreError``."""
    return _Translated(_name(url), is_sqlite=url.get_backend_name() == "sqlite")


def _name(url: URL) -> str:
    return (url.database or "") if url.get_backend_name() == "sqlite" else url.render_as_string()


class _Translated:
    """Raises errors of the database and its driver as ``StoreError``, without statements and values."""

    def __init__(self, name: str, *, is_sqlite: bool) -> None:
        self._name = name
        self._is_sqlite = is_sqlite

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        match exc:
            case ModuleNotFoundError():
                raise missing_extra(exc, is_sqlite=self._is_sqlite) from exc
            case DBAPIError():
                said = str(exc.orig).partition("\n")[0]  # the lines after the first quote values
                advice = sqlite.advice_for(said) if self._is_sqlite else ""
                raise StoreError(f"the store {self._name} failed: {said}{advice}") from exc
            case SQLAlchemyError():
                raise StoreError(f"the store {self._name} failed: {type(exc).__name__}") from exc
            case TimeoutError() if not isinstance(exc, StoreError):
                raise StoreError(f"the store {self._name} did not answer within {_DEADLINE:.0f} s") from exc
            case OSError():
                raise StoreError(f"the store {self._name} cannot be reached: {exc.strerror or exc}") from exc
            case _:
                return


def missing_extra(exc: ModuleNotFoundError, *, is_sqlite: bool) -> ConfigurationError:
    """The error for a package that is not installed: it names the extra."""
    extra = "sql" if is_sqlite else "postgres"
    if (exc.name or "").partition(".")[0] == "asyncpg":
        return ConfigurationError(f"this store needs {exc.name}, which is not installed: pip install asyncpg")
    return MissingExtraError("this store", extra=extra)


def off_loop(connection: Connection, work: Callable[[], T]) -> T:
    """Run what takes long without the database, and not on the loop, inside of a piece of work."""
    return await_only(to_thread.run_sync(work)) if connection.dialect.is_async else work()


async def _run_on_loop(engine: Engine, work: Callable[[Connection], T], begin: str, isolation: str | None) -> T:
    async with AsyncEngine(engine).connect() as connection:
        connection = await connection.execution_options(begin=begin)
        if isolation is not None:
            connection = await connection.execution_options(isolation_level=isolation)
        async with connection.begin():
            return await connection.run_sync(work)


async def _dispose(engine: Engine) -> None:
    """Close every connection of an engine."""
    if engine.dialect.is_async:
        await AsyncEngine(engine).dispose()
    else:
        await to_thread.run_sync(engine.dispose)  # the last connection to a file writes its log into it


def _begin(connection: Any) -> None:
    """Begin the transaction of a piece of work: immediate if it writes, else it could not be granted the lock later."""
    options = connection.get_execution_options()
    begin = options.get("begin")
    if begin == "BEGIN IMMEDIATE":
        sqlite.begin_writing(connection, options["is_given_up"])
    elif begin is not None:
        connection.exec_driver_sql(begin)
