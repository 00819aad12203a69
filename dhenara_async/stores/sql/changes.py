"""``Changes``: when turns that other processes answer may have changed.

PostgreSQL tells by notifications with the numbers of turns, to a connection that listens while somebody waits. SQLite
tells by the counter ``PRAGMA data_version``, which is looked at 40 times a second while somebody waits. Both are hints:
a waiting reader reads the rows again after a while, told or not.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from anyio import to_thread

logger: Final = logging.getLogger("dhenara_async")

CHANNEL: Final = "dhenara_async_turns"
_POLL_SECONDS: Final = 0.025
_POOLED_SECONDS: Final = 0.1  # a pooler passes no notifications on, so the rows are read again that often
_IDLE_SECONDS: Final = 2.0
_MOST_HINTS: Final = 10_000

Connect = Callable[[], "Awaitable[tuple[Any, Callable[[], Awaitable[None]]]]"]
"""Opens a connection of its own to PostgreSQL: the driver's connection, and a function that closes it."""


class Changes:
    """The hints of one database.

    Args:
        path: The SQLite file; None for PostgreSQL.
        connect: Opens a connection that listens; None where there are no notifications.
    """

    def __init__(self, path: str | None, connect: Connect | None) -> None:
        self._path = path
        self._connect = connect
        self._clock = 0  # counts the hints
        self._hints: dict[int, int] = {}  # the last hint of each turn
        self._all = 0  # the last hint that may concern any turn
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def notifies(self) -> bool:
        """Whether writers have to notify."""
        return self._path is None and self._connect is not None

    def mark(self) -> int:
        """Return the mark of this moment, for ``wait``."""
        return self._clock

    async def wait(self, number: int, mark: int, seconds: float) -> None:
        """Wait until there is a hint for a turn since ``mark``, or so many seconds are over."""
        if self._path is None and self._connect is None:
            await asyncio.sleep(min(seconds, _POOLED_SECONDS))
            return
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._run(), name="changes of turns")
        if max(self._all, self._hints.get(number, 0)) > mark:
            return
        woken = loop.create_future()
        self._waiting[woken] = number
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            self._waiting.pop(woken, None)

    async def aclose(self) -> None:
        """Stop looking and listening."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        """Look or listen until nobody has waited for a while. A failure leaves the waiting to their own patience."""
        try:
            await (self._listen() if self._path is None else self._look(self._path))
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - any of the driver: the rows are read every second all the same
            logger.warning("changes of turns are not told (%s); they are looked for", type(exc).__name__)
            await asyncio.sleep(1)
        finally:
            self._hints.clear()
            self._wake_all()

    async def _look(self, path: str) -> None:
        connection = await to_thread.run_sync(_open, path)
        try:
            known, idle = None, 0.0
            while idle < _IDLE_SECONDS:
                version: object
                try:  # 5 us: a look into the memory that the processes of the file share
                    version = connection.execute("PRAGMA data_version").fetchone()[0]
                except sqlite3.OperationalError:  # somebody has locked the file
                    version = None
                if version != known:
                    known = version
                    self._wake_all()
                idle = 0.0 if self._waiting else idle + _POLL_SECONDS
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            connection.close()

    async def _listen(self) -> None:
        assert self._connect is not None  # noqa: S101 - else nobody waits here
        connection, close = await self._connect()
        try:
            async with aclosing(_notifications(connection)) as said:
                self._wake_all()  # what was said before was not heard
                idle = 0.0
                async for numbers in said:
                    for number in numbers:
                        self._wake(number)
                    idle = 0.0 if self._waiting or numbers else idle + 1
                    if idle >= _IDLE_SECONDS:
                        return
        finally:
            await close()

    def _wake(self, number: int) -> None:
        self._clock += 1
        if len(self._hints) >= _MOST_HINTS:  # somebody has waited for hours: one hint for all stands for the old ones
            self._hints.clear()
            self._all = self._clock
        self._hints[number] = self._clock
        for future, waited in self._waiting.items():
            if waited == number and not future.done():
                future.set_result(None)

    def _wake_all(self) -> None:
        self._clock += 1
        self._all = self._clock
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


async def _notifications(connection: Any) -> AsyncGenerator[list[int]]:
    """Listen; yield the numbers of each notification, and an empty list where there was none for a second."""
    if hasattr(connection, "add_listener"):  # asyncpg
        queue: asyncio.Queue[str] = asyncio.Queue()

        def heard(_: object, pid: int, channel: str, payload: str) -> None:
            queue.put_nowait(payload)

        await connection.add_listener(CHANNEL, heard)
        while not connection.is_closed():
            try:
                yield _numbers(await asyncio.wait_for(queue.get(), 1))
            except TimeoutError:
                yield []
        return
    await connection.execute(f"LISTEN {CHANNEL}")
    while True:
        numbers: list[int] = []
        async with aclosing(connection.notifies(timeout=1, stop_after=1)) as said:
            async for notification in said:
                numbers += _numbers(notification.payload)
        yield numbers


def _numbers(payload: str) -> list[int]:
    return [int(number) for number in payload.split() if number.isdecimal()]
