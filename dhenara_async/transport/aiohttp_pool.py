"""``AiohttpPool``: kept connections, and how many are made at once."""

import asyncio
import select
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection

from dhenara_async.transport.aiohttp_internals import ForkSafeConnector, hang_up

_POLLS = hasattr(select, "poll")

# How often a task waits for its turn until the loop has looked at the sockets, and read from them.
_STEPS_TO_READ = 3

_Taken = TypeVar("_Taken", Connection, Connection | None)

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
        self._unused = WeakSet[object]()

    def idle(self, key: Any) -> Connection | None:
        """Return a kept connection that has received nothing since its last response; None = there is none.

        Bytes that a host sent unasked would be read as the response to the next request, maybe of another tenant.
        A new connection over TLS with unread bytes stays in the pool, for ``connect`` to find out what they are.

        Args:
            key: The key of the connection in the pool.
        """
        while True:
            connection = self.take_idle(key)
            if connection is None or not _has_received(connection):
                return self._used(connection)
            if self._may_be_tickets(connection):
                connection.release()
                return None
            hang_up(connection)

    async def connect(self, *args: Any, **more: Any) -> Connection:
        """Return a new connection, or a kept one as ``idle`` does."""
        while True:
            connection = await super().connect(*args, **more)
            made = _new.get()
            if made is not None:
                _new.set(None)
            if made is connection.protocol or not _has_received(connection):
                return self._used(connection)
            if self._may_be_tickets(connection):
                try:
                    for _ in range(_STEPS_TO_READ):
                        await asyncio.sleep(0)
                except BaseException:
                    hang_up(connection)
                    raise
                if not _has_received(connection):
                    return self._used(connection)
            hang_up(connection)

    def keep_unused(self, connection: Connection) -> None:
        """Put a connection into the pool over which no request was sent."""
        self._unused.add(connection.protocol)
        connection.release()

    def _used(self, connection: _Taken) -> _Taken:
        """Return a connection over which a request is sent now."""
        if connection is not None:
            self._unused.discard(connection.protocol)
        return connection

    def _may_be_tickets(self, connection: Connection) -> bool:
        """Whether what a connection has to read may be the session tickets that TLS 1.3 sends after the handshake.

        A loop that was busy since then has not read them. Before a first request, aiohttp notes any other byte when the
        loop reads it, and the connection counts as received.
        """
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or protocol.should_close or protocol not in self._unused:
            return False
        return transport.get_extra_info("ssl_object") is not None

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
