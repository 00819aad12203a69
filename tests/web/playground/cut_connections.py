"""A proxy whose connections break, between the browser and the page."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream, SocketStream


class Proxy:
    """Passes bytes on to a server until it is told to break.

    Attributes:
        url: The server's URL, through this proxy.
        accepted: Number of connections so far.
    """

    def __init__(self, server: str, port: int) -> None:
        address = urlsplit(server)
        self.url = f"http://127.0.0.1:{port}{address.path}"
        self.accepted = 0
        self._port = address.port or 0
        self._open: set[SocketStream] = set()
        self._broken = False

    async def break_connections(self) -> None:
        """Break the open connections, and those that come, until they are mended."""
        self._broken = True
        for stream in list(self._open):
            await anyio.aclose_forcefully(stream)

    def mend(self) -> None:
        """Pass bytes on again."""
        self._broken = False

    async def serve(self, client: SocketStream) -> None:
        """Serve one connection."""
        self.accepted += 1
        if self._broken:
            await anyio.aclose_forcefully(client)
            return
        async with client, await anyio.connect_tcp("127.0.0.1", self._port) as server:
            self._open |= {client, server}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_pass, client, server)
                await _pass(server, client)
                tasks.cancel_scope.cancel()
            self._open -= {client, server}


async def _pass(one: ByteStream, other: ByteStream) -> None:
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await other.send(await one.receive())


@asynccontextmanager
async def proxied(server: str) -> AsyncGenerator[Proxy]:
    """Serve a proxy in front of a server."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", family=socket.AF_INET)
    async with listener, anyio.create_task_group() as tasks:
        proxy = Proxy(server, listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - not Django
        tasks.start_soon(listener.serve, proxy.serve)
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()
