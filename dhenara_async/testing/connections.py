"""The loopback server's connections: which side closed each, and the bytes of faulty answers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from struct import pack

from aiohttp import web

from dhenara_async.testing.script import Closing, Fault

_PATIENCE_SECONDS = 2.0
_RESET = pack("ii", 1, 0)  # SO_LINGER: drop what has not been sent, and say so


@dataclass(slots=True)
class ConnectionLog:
    """What became of all connections.

    Attributes:
        opened: How many were accepted.
        closed: Those that are over, in the order in which they ended.
    """

    opened: int = 0
    closed: list[Closing] = field(default_factory=list[Closing])
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, closing: Closing) -> None:
        """One is over."""
        self.closed.append(closing)
        self._news.set()

    async def wait_closed(self, count: int) -> None:
        """Wait until ``count`` of them are over."""
        while len(self.closed) < count:
            self._news.clear()
            await self._news.wait()


class Connection:
    """One client's connection, where the HTTP is ours to spoil."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.cut_by_us: bool = False
        self.over: asyncio.Event = asyncio.Event()
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send bytes; a client that has gone is no failure."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def cut(self, *, reset: bool) -> None:
        """End it from our side."""
        if self._transport.is_closing():
            return
        self.cut_by_us = True
        if reset:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    async def silent(self, seconds: float | None) -> None:
        """Say nothing for a while; None = until the client has gone."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


class Connections(web.Server):
    """aiohttp's low-level server, which tells connections beside requests.

    Args:
        handle: Answers a request; what it returns for a connection that is over goes nowhere.
        log: Where they are noted.
        largest_body: The most bytes a request may have.
    """

    def __init__(
        self,
        handle: Callable[[web.BaseRequest, Connection], Awaitable[web.StreamResponse]],
        log: ConnectionLog,
        *,
        largest_body: int,
    ) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await handle(request, self._open[request.protocol])

        loop = asyncio.get_running_loop()
        super().__init__(
            answer,
            request_factory=lambda message, payload, protocol, writer, task: web.BaseRequest(
                message, payload, protocol, writer, task, loop, client_max_size=largest_body
            ),
            access_log=None,
        )
        self._open: dict[web.RequestHandler, Connection] = {}
        self._log = log
        self._ending = False

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """See ``web.Server``."""
        super().connection_made(handler, transport)
        self._open[handler] = Connection(transport)
        self._log.opened += 1

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """See ``web.Server``."""
        super().connection_lost(handler, exc)
        connection = self._open.pop(handler)
        connection.over.set()
        ours = connection.cut_by_us or self._ending
        self._log.note(Closing("server" if ours else "client", asyncio.get_running_loop().time()))

    def pre_shutdown(self) -> None:
        """See ``web.Server``; from here on it is we who close."""
        self._ending = True
        super().pre_shutdown()


async def misbehave(connection: Connection, fault: Fault, head: bytes, pieces: Sequence[bytes], last: bytes) -> None:
    """Send an answer as ``fault`` has it, and see its connection to an end.

    Args:
        connection: Where to.
        fault: How it is stalled, slowed down and cut.
        head: The head, its empty line included.
        pieces: The body's events, framed; where it is cut at a byte, only what comes before that.
        last: The sign that the body is over.
    """
    if fault.stall == "head":
        await connection.silent(fault.seconds)
    if fault.cut == "head":
        connection.cut(reset=fault.ending == "reset")
        return
    connection.write(head)
    for number, piece in enumerate(pieces):
        if fault.stall == number:
            await connection.silent(fault.seconds)
        if not fault.trickle:
            connection.write(piece)
            continue
        for place in range(len(piece)):
            connection.write(piece[place : place + 1])
            await asyncio.sleep(0)  # else they would be sent together
    if fault.stall == "end" or fault.stall == len(pieces):
        await connection.silent(fault.seconds)
    if isinstance(fault.cut, int):
        connection.cut(reset=fault.ending == "reset")
        return
    connection.write(last)
    if fault.cut == "idle" or fault.framing == "close":
        connection.cut(reset=fault.cut == "idle" and fault.ending == "reset")
        return
    await connection.silent(_PATIENCE_SECONDS)  # it is the client's to close: the head has said so
    connection.cut(reset=False)
