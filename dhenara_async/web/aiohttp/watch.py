"""``ConnectionWatch``: tells answers that their client has gone away, with one timer for all connections of a loop."""

import asyncio
from typing import ClassVar
from weakref import WeakKeyDictionary, ref

SECONDS = 0.04
"""Time between two looks at the connections: a client that has gone away is noticed within 100 ms."""


class ConnectionWatch:
    """Looks at the connections of a loop at intervals, as aiohttp has no event for a lost one.

    A timer for each connection would cost a server with 500 of them a fifth of its processor; looking at 500 of them
    from one timer takes some 50 us.
    """

    # Weak on both sides: timers and waiters hold their loop, so a watch that is kept here would keep an ended loop.
    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, "ref[ConnectionWatch]"]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], asyncio.Transport] = {}
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of_running_loop(cls) -> "ConnectionWatch":
        """Return the watch of the running loop, which lives as long as somebody waits for it."""
        loop = asyncio.get_running_loop()
        known = cls._of_loops.get(loop)
        watch = None if known is None else known()
        if watch is None:
            watch = cls()
            cls._of_loops[loop] = ref(watch)
        return watch

    async def lost(self, transport: asyncio.Transport | None) -> None:
        """Return when the connection is lost or being closed.

        Args:
            transport: The connection, as ``request.transport`` has it; None = it is lost already.
        """
        if transport is None or transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[future] = transport
        if self._timer is None:
            self._timer = loop.call_later(SECONDS, self._look, loop)
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        for future, transport in self._waiting.items():
            if transport.is_closing() and not future.done():
                future.set_result(None)
        self._timer = loop.call_later(SECONDS, self._look, loop) if self._waiting else None
