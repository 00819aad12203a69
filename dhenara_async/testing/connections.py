"""The loopback server's connections: which side closed each, and the bytes of faulty answers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from struct import pack

import anyio
from aiohttp import web

from dhenara_async.testing.script import Closing, Fault

_CLOSE_SECONDS = 2.0
_RESET = pack("ii", 1, 0)  # SO_LINGER: discard unsent bytes, and send a reset


@dataclass(slots=True)
class ConnectionLog:
    """Records the connections of a server.

    Attributes:
        opened: The number of accepted connections.
        closed: The closed connections, in the order of closing.
    """

    opened: int = 0
    closed: list[Closing] = field(default_factory=list[Closing])
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, closing: Closing) -> None:
        """Record a closed connection."""
        self.closed.append(closing)
        self._changed.set()

    async def wait_closed(self, count: int) -> None:
        """Wait until ``count`` connections are closed."""
        while len(self.closed) < count:
            self._changed.clear()
            await self._changed.wait()


class Connection:
    """The connection of a client, for answers with faulty bytes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.cut_by_server: bool = False
        self.closed: asyncio.Event = asyncio.Event()
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client has closed the connection."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def cut(self, *, reset: bool) -> None:
        """Close the connection from the side of the server."""
        if self._transport.is_closing():
            return
        self.cut_by_server = True
        if reset:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    async def silent(self, seconds: float | None, until: asyncio.Event | None = None) -> None:
        """Send nothing for ``seconds``, or until an event; None = until the client closes the connection."""
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:

                async def end(event: asyncio.Event) -> None:
                    await event.wait()
                    tasks.cancel_scope.cancel()

                for event in (self.closed, until):
                    if event is not None:
                        tasks.start_soon(end, event)


class Connections(web.Server):
    """aiohttp's low-level server, which also records connections.

    Args:
        handle: Answers a request; its result is ignored if the connection is closed.
        log: Records the connections.
        largest_body: The most bytes that a request may have.
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
        self._shutting_down = False

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """See ``web.Server``."""
        super().connection_made(handler, transport)
        self._open[handler] = Connection(transport)
        self._log.opened += 1

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """See ``web.Server``."""
        super().connection_lost(handler, exc)
        connection = self._open.pop(handler)
        connection.closed.set()
        by_server = connection.cut_by_server or self._shutting_down
        self._log.note(Closing("server" if by_server else "client", asyncio.get_running_loop().time()))

    def pre_shutdown(self) -> None:
        """See ``web.Server``; from now on the server is the side that closes."""
        self._shutting_down = True
        super().pre_shutdown()


async def misbehave(connection: Connection, fault: Fault, head: bytes, pieces: Sequence[bytes], last: bytes) -> None:
    """Send an answer with its faults, and close the connection.

    Args:
        connection: The connection.
        fault: How the answer is stalled, slowed down and cut.
        head: The head, with its empty line.
        pieces: The framed events of the body, up to the byte where it is cut.
        last: The end of the body's framing.
    """
    if fault.stall == "head":
        await connection.silent(fault.seconds, fault.until)
    if fault.cut == "head":
        connection.cut(reset=fault.ending == "reset")
        return
    connection.write(head)
    for number, piece in enumerate(pieces):
        if fault.stall == number:
            await connection.silent(fault.seconds, fault.until)
        if not fault.trickle:
            connection.write(piece)
            continue
        for place in range(len(piece)):
            connection.write(piece[place : place + 1])
            await asyncio.sleep(0)  # otherwise the bytes would be sent together
    if fault.stall == "end" or fault.stall == len(pieces):
        await connection.silent(fault.seconds, fault.until)
    if isinstance(fault.cut, int):
        connection.cut(reset=fault.ending == "reset")
        return
    connection.write(last)
    if fault.cut == "idle" or fault.framing == "close":
        connection.cut(reset=fault.cut == "idle" and fault.ending == "reset")
        return
    await connection.silent(_CLOSE_SECONDS)  # the head has announced the close, so the client should close first
    connection.cut(reset=False)
