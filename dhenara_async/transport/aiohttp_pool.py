"""``AiohttpPool``: kept connections, and how many are made at once."""

import asyncio
import select
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from dhenara_async.transport.aiohttp_internals import ForkSafeConnector, hang_up

_POLLS = hasattr(select, "poll")

# The connection that the running task has just made, so that it is not taken for a kept one.
_new: ContextVar[object] = ContextVar("dhenara_async new connection", default=None)


class AiohttpPool(ForkSafeConnector):
    """A pool that makes only so many connections to a host at once, and discards kept ones with unrequested bytes.

    Each host has a semaphore of its own, so that one that does not answer delays no other. The time limit of connecting
    covers the wait for it: many calls of a host that is gone fail as soon as one.

    ``connect`` and ``_create_connection`` are the documented hooks of a connector. Their arguments are passed on as
    they come, whatever a version of aiohttp passes.
    """

    def __init__(self, *, limit: int, keepalive: float, connecting: int, private: bool) -> None:
        super().__init__(limit=limit, keepalive=keepalive, private=private)
        self._most_connecting = connecting
        self._doors: dict[tuple[str | None, int | None], _Door] = {}

    def idle(self, key: Any) -> Connection | None:
        """Return a kept connection that has received nothing since its last response; None = there is none.

        Bytes that a host sent unasked would be read as the response to the next request, maybe of another tenant.

        Args:
            key: The key of the connection in the pool.
        """
        while True:
            connection = self.take_idle(key)
            if connection is None or not _has_received(connection):
                return connection
            hang_up(connection)

    async def connect(self, *args: Any, **more: Any) -> Connection:
        """Return a new connection, or a kept one as ``idle`` does."""
        while True:
            connection = await super().connect(*args, **more)
            made = _new.get()
            if made is not None:
                _new.set(None)
            if made is connection.protocol or not _has_received(connection):
                return connection
            hang_up(connection)

    async def _create_connection(self, req: aiohttp.ClientRequest, *args: Any, **more: Any) -> Any:
        """Make a connection; called by ``connect`` within the time limit."""
        key = (req.url.host, req.url.port)
        door = self._doors.get(key)
        if door is None:
            door = self._doors[key] = _Door(asyncio.Semaphore(self._most_connecting))
        door.users += 1
        try:
            async with door.opens:
                made = await super()._create_connection(req, *args, **more)
                _new.set(made)
                return made
        finally:
            door.users -= 1
            if not door.users:
                del self._doors[key]


@dataclass(slots=True)
class _Door:
    """Limits how many connections to one host are being made; kept while there are any."""

    opens: asyncio.Semaphore
    users: int = 0


def _has_received(connection: Connection) -> bool:
    """Whether a kept connection is closed, or has bytes to read although no request was sent over it."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    raw = transport.get_extra_info("socket")
    if raw is None:
        return False
    number = raw.fileno()
    if number < 0:
        return True
    if _POLLS:
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([raw], [], [], 0)[0])
