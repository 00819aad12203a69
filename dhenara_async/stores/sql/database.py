"""One database: its connections, its transactions, and its errors in our words."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio import to_thread
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dhenara_async.errors import ConfigurationError, MissingExtraError, StoreError
from dhenara_async.stores.sql import sqlite
from dhenara_async.stores.sql.changes import Changes
from dhenara_async.stores.sql.schema import demand_current

T = TypeVar("T")
_Work = Callable[[AsyncConnection], Awaitable[Any]]
_WaitingWork = tuple[_Work, asyncio.Future[Any]]
_DEADLINE: Final = 90.0
"""Seconds after which one piece of work counts as failed; longer than SQLite waits for other processes."""
_TOGETHER: Final = 64  # pieces of work in one transaction
_EXTRAS: Final = {"aiosqlite": "sql", "psycopg": "postgres", "asyncpg": "asyncpg"}


class Database:
    """Connections to one database, opened with the first piece of work and again after ``aclose``.

    A piece of work is one transaction. It is shielded from cancellation, because a cancelled statement costs its
    connection, and nobody knows whether a cancelled commit happened; the deadline bounds how long that takes.

    Args:
        url: The address, with its driver.
        pooled: Whether a pooler such as pgbouncer stands between: no prepared statements then.
        journal: The journal mode of an SQLite file.
    """

    def __init__(self, url: URL, *, pooled: bool, journal: sqlite.JournalMode) -> None:
        self.url = url
        self.is_sqlite: bool = url.get_backend_name() == "sqlite"
        self._pooled = pooled
        self._journal: sqlite.JournalMode = journal
        self._engine: AsyncEngine | None = None
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

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction that only reads, all of it from one state of the database."""
        return await self._run(work, begin="BEGIN", isolation="REPEATABLE READ")

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]], *, row: Hashable | None = None) -> T:
        """Run ``work`` in a transaction that is committed when it returns, and rolled back when it raises.

        Args:
            work: It.
            row: What it locks first. Transactions of this process with the same ``row`` run one after the other: who
                waits for a lock in the database keeps a connection from others meanwhile.
        """
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

    async def _write_in_line(self, work: Callable[[AsyncConnection], Awaitable[T]], row: Hashable) -> T:
        key = asyncio.get_running_loop(), row
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = asyncio.Lock()
        with self._translated(), anyio.fail_after(_DEADLINE, shield=True):
            async with line:
                return await self._run(work, begin="BEGIN")

    async def _write_waiting(self) -> None:
        """Write what waits: several pieces in one transaction, because a transaction costs more than a statement."""
        while self._waiting:
            some, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            some = [(work, done) for work, done in some if not done.done()]
            if len(some) < 2 or not await self._write_together(some):
                for work, done in some:
                    await self._write_alone(work, done)

    async def _write_together(self, pieces: "Sequence[_WaitingWork]") -> bool:
        """Write several pieces; False if one failed, and none is written."""

        async def work(connection: AsyncConnection) -> list[Any]:
            return [await work(connection) for work, _ in pieces]

        try:
            results = await self._run(work, begin="BEGIN IMMEDIATE")
        except Exception:  # noqa: BLE001 - raised again for the piece that failed
            return False
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
        with self._translated(), anyio.fail_after(_DEADLINE, shield=True):
            async with engine.connect() as connection:
                connection = await connection.execution_options(begin=None)
                row = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).first()
        if row is not None and row[0]:
            raise StoreError("the deleted words are still in the write-ahead log: another process is reading it")

    async def aclose(self) -> None:
        """Close every connection."""
        await self.changes.aclose()
        engine, self._engine = self._engine, None
        if engine is not None:
            with anyio.move_on_after(10, shield=True):
                await engine.dispose()

    async def _listener(self) -> tuple[Any, Callable[[], Awaitable[None]]]:
        """Open a connection for notifications: the driver's, and a function that closes it."""
        connection = await (await self._opened()).connect()

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

    async def _run(
        self, work: Callable[[AsyncConnection], Awaitable[T]], *, begin: str, isolation: str | None = None
    ) -> T:
        engine = await self._opened()
        with self._translated(), anyio.fail_after(_DEADLINE, shield=True):
            async with engine.connect() as connection:
                connection = await connection.execution_options(begin=begin)
                if isolation is not None and not self.is_sqlite:  # SQLite's transactions are like that anyway
                    connection = await connection.execution_options(isolation_level=isolation)
                async with connection.begin():
                    return await work(connection)

    async def _opened(self) -> AsyncEngine:
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

    async def _open(self) -> AsyncEngine:
        if self.is_sqlite:
            await to_thread.run_sync(sqlite.prepare, self.url, self._journal)
        engine = await to_thread.run_sync(self._new_engine)  # it loads the driver
        if not self.is_sqlite:
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(demand_current)
            except BaseException:
                with anyio.move_on_after(5, shield=True):
                    await engine.dispose()
                raise
        return engine

    def _new_engine(self) -> AsyncEngine:
        arguments: dict[str, Any] = {}
        if self.is_sqlite:
            arguments["timeout"] = sqlite.BUSY_SECONDS
        elif self._pooled and self.url.get_driver_name() == "psycopg":
            arguments["prepare_threshold"] = None
        elif self._pooled:
            arguments |= {"prepared_statement_cache_size": 0, "statement_cache_size": 0}
        engine = create_async_engine(
            self.url, hide_parameters=True, connect_args=arguments, pool_pre_ping=not self.is_sqlite, pool_size=8
        )
        if self.is_sqlite:
            event.listen(engine.sync_engine, "connect", sqlite.configure)
            event.listen(engine.sync_engine, "begin", _begin)
        return engine

    @property
    def name(self) -> str:
        """The path of an SQLite file, or the URL without its password."""
        return _name(self.url)

    def _translated(self) -> "_Translated":
        return translated(self.url)


def translated(url: URL) -> "_Translated":
    """Return a block in which errors of the database and its driver become ``StoreError``."""
    return _Translated(_name(url))


def _name(url: URL) -> str:
    return (url.database or "") if url.get_backend_name() == "sqlite" else url.render_as_string()


class _Translated:
    """Raises errors of the database and its driver as ``StoreError``, without statements and values."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        match exc:
            case ModuleNotFoundError():
                raise missing_extra(exc) from exc
            case DBAPIError():
                said = str(exc.orig).partition("\n")[0]  # the lines after the first quote values
                raise StoreError(f"the store {self._name} failed: {said}") from exc
            case SQLAlchemyError():
                raise StoreError(f"the store {self._name} failed: {type(exc).__name__}") from exc
            case TimeoutError() if not isinstance(exc, StoreError):
                raise StoreError(f"the store {self._name} did not answer within {_DEADLINE:.0f} s") from exc
            case OSError():
                raise StoreError(f"the store {self._name} cannot be reached: {exc.strerror or exc}") from exc
            case _:
                return


def missing_extra(exc: ModuleNotFoundError) -> ConfigurationError:
    """The error for a driver that is not installed: it names the extra."""
    extra = _EXTRAS.get((exc.name or "").partition(".")[0], "sql")
    if extra == "asyncpg":
        return ConfigurationError(f"this store needs {exc.name}, which is not installed: pip install asyncpg")
    return MissingExtraError("this store", extra=extra)


def _begin(connection: Any) -> None:
    """Begin the transaction of a piece of work: immediate if it writes, else it could not be granted the lock later."""
    begin = connection.get_execution_options().get("begin")
    if begin is not None:
        connection.exec_driver_sql(begin)
