"""A wire between a client and a server that a test can hold back or break."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from struct import pack
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream

_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Wire:
    """Forwards the bytes of connections to a server.

    Args:
        server: The URL of the server.
        hold: Nothing of an answer is forwarded from these bytes on, until ``release`` is called.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, server: str, hold: bytes | None) -> None:
        self.url = ""
        self._server = urlsplit(server)
        self._hold = hold
        self._released = anyio.Event()
        self._clients: set[SocketStream] = set()

    def release(self) -> None:
        """Forward what was held back, and hold nothing from now on."""
        self._released.set()

    async def cut(self) -> None:
        """Break all connections of clients."""
        for client in list(self._clients):
            raw = client.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
            await client.aclose()

    async def forward(self, client: SocketStream) -> None:
        """Serve one connection."""
        self._clients.add(client)
        try:
            async with (
                client,
                await anyio.connect_tcp(str(self._server.hostname), self._server.port or 80) as server,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._copy, client, server, None, tasks.cancel_scope)
                tasks.start_soon(self._copy, server, client, self._hold, tasks.cancel_scope)
        finally:
            self._clients.discard(client)

    async def _copy(
        self, source: SocketStream, target: SocketStream, hold: bytes | None, scope: anyio.CancelScope
    ) -> None:
        waiting = b""  # a beginning of the bytes to look for could be its end
        try:
            while True:
                waiting += await source.receive()
                if hold is not None and not self._released.is_set():
                    place = waiting.find(hold)
                    ready = len(waiting) - len(hold) + 1 if place < 0 else place
                    await target.send(waiting[: max(ready, 0)])
                    waiting = waiting[max(ready, 0) :]
                    if place < 0:
                        continue
                    await self._released.wait()
                await target.send(waiting)
                waiting = b""
        except _GONE:
            scope.cancel()


@asynccontextmanager
async def wired(server: str, *, hold: bytes | None = None) -> AsyncGenerator[Wire]:
    """Forward connections to a server until the block ends."""
    wire = Wire(server, hold)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        wire.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 - anyio's, not Django's
        tasks.start_soon(listener.serve, wire.forward)
        yield wire
        tasks.cancel_scope.cancel()
