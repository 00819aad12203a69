"""Connections of ``dhenara-async serve``: idle ones end and lock nobody out, and heads are read strictly."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import cast

import anyio
import pytest
from anyio.abc import SocketStream
from starlette.applications import Starlette
from yarl import URL

from dhenara_async.web.serving.connections import ConnectionLimit
from dhenara_async.web.serving.guard import GuardReceive, GuardRules, GuardScope, GuardSend, ServeGuard
from dhenara_async.web.serving.protocol import counted_protocol
from tests.virtual_time import Clock, run
from tests.web.servers import served

HEAD = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"


class App:
    """An ASGI app: it answers ``/held`` when told to, all else at once; ``/tidied`` goes on behind its answer."""

    def __init__(self) -> None:
        self.held = 0
        self.release = anyio.Event()
        self.tidied = anyio.Event()

    async def __call__(self, scope: GuardScope, receive: GuardReceive, send: GuardSend) -> None:
        if scope["path"] == "/held":
            self.held += 1
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"here", "more_body": False})
        if scope["path"] == "/tidied":
            await self.tidied.wait()


class Stand:
    """A server with few connections, and clients of it."""

    def __init__(self, app: App, limit: ConnectionLimit, port: int, stack: AsyncExitStack) -> None:
        self.app = app
        self.limit = limit
        self._port = port
        self._stack = stack

    async def connected(self, *, client: str = "127.0.0.1") -> SocketStream:
        connection = await anyio.connect_tcp("127.0.0.1", self._port, local_host=client)
        return await self._stack.enter_async_context(connection)

    async def held(self) -> SocketStream:
        """Return a connection with a request that is answered on release; like ``used``, on a slow machine."""
        while True:
            before, client, gone = self.app.held, await self.connected(), anyio.Event()
            with suppress(anyio.BrokenResourceError):
                await client.send(HEAD % b"/held")
            async with anyio.create_task_group() as tasks:

                async def watch(client: SocketStream = client, gone: anyio.Event = gone) -> None:
                    await is_closed(client)
                    gone.set()

                tasks.start_soon(watch)
                while self.app.held == before and not gone.is_set():  # noqa: ASYNC110 - the app counts
                    await anyio.sleep(0.001)
                tasks.cancel_scope.cancel()
            if self.app.held > before:
                return client

    async def used(self) -> SocketStream:
        """Return a connection that has had an answer; one that ended before, on a slow machine, is opened again."""
        while True:
            client = await self.connected()
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                assert await answer_to(client) == b"200"
                return client


@asynccontextmanager
async def stand(*, most: int = 256, seconds: float = 60.0, guarded: bool = False) -> AsyncGenerator[Stand]:
    app = App()
    limit = ConnectionLimit(ServeGuard(app, GuardRules()) if guarded else app, most=most, seconds=seconds)
    served_app = cast("Starlette", limit)  # any ASGI app is served alike
    with anyio.fail_after(60):
        async with served(served_app, http=counted_protocol(limit)) as url, AsyncExitStack() as stack:
            yield Stand(app, limit, URL(url).port or 0, stack)
            app.release.set()


async def answer_to(client: SocketStream, path: bytes = b"/") -> bytes:
    await client.send(HEAD % path)
    return await answered(client)


async def answered(client: SocketStream) -> bytes:
    received = b""
    while not received.endswith(b"here"):
        received += await client.receive()
    return received.split()[1]


async def is_closed(client: SocketStream) -> bool:
    """Wait until the server has closed a connection."""
    try:
        return not await client.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return True


async def test_idle_connections_give_way_to_new_ones_and_requests_do_not() -> None:
    async with stand(most=20) as here:
        held = [await here.held() for _ in range(5)]
        idle = [await here.connected() for _ in range(60)]
        client = await here.connected()
        for _ in range(2):  # kept alive in between
            assert await answer_to(client) == b"200"
        assert len(here.limit) <= 20
        for gone in idle[:40]:
            assert await is_closed(gone)
        here.app.release.set()
        for kept in held:
            assert await answered(kept) == b"200"


@pytest.mark.skipif(sys.platform != "linux", reason="the whole of 127.0.0.0/8 is loopback on Linux only")
async def test_the_client_with_the_most_idle_connections_loses_one() -> None:
    async with stand(most=5) as here:
        oldest = await here.connected(client="127.0.0.2")
        greedy = [await here.connected() for _ in range(8)]
        for gone in greedy[:4]:
            assert await is_closed(gone)
        assert await answer_to(oldest) == b"200"


async def test_when_all_connections_are_busy_another_is_taken_all_the_same() -> None:
    async with stand(most=3) as here:  # uvicorn's own limit would refuse it
        for _ in range(4):
            await here.held()
        assert len(here.limit) == 4


async def test_a_connection_ends_without_a_whole_request_in_time_and_not_while_it_is_answered() -> None:
    async with stand(seconds=0.3) as here:
        held = await here.held()
        used = await here.used()
        silent, dripping = await here.connected(), await here.connected()

        async def drip(client: SocketStream) -> None:
            for byte in HEAD:
                try:
                    await client.send(bytes([byte]))
                except (anyio.BrokenResourceError, anyio.EndOfStream):
                    return
                await anyio.sleep(0.05)

        async with anyio.create_task_group() as tasks:
            for client in (dripping, used):
                tasks.start_soon(drip, client)
            for client in (silent, dripping, used):
                assert await is_closed(client)
        here.app.release.set()
        assert await answered(held) == b"200"
        assert await is_closed(held)
        while len(here.limit):  # noqa: ASYNC110 - the server counts
            await anyio.sleep(0.001)


async def test_a_request_goes_on_when_the_one_before_it_ends_behind_its_answer() -> None:
    async with stand(seconds=0.3) as here:
        client = await here.connected()
        assert await answer_to(client, b"/tidied") == b"200"
        await client.send(HEAD % b"/held")
        while not here.app.held:  # noqa: ASYNC110 - the app counts
            await anyio.sleep(0.001)
        here.app.tidied.set()
        await anyio.sleep(0.6)
        here.app.release.set()
        assert await answered(client) == b"200"
        assert await is_closed(client)


class OnePort(asyncio.Transport):
    """A connection from the one port that a client has, without a network."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 80)})
        self.shut = False

    def close(self) -> None:
        self.shut = True


async def asks_from_one_port(limit: ConnectionLimit) -> None:
    scope: dict[str, object] = {"type": "http", "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 80)}
    await limit(cast("GuardScope", scope), cast("GuardReceive", None), cast("GuardSend", None))


def test_a_client_may_come_back_from_the_port_of_a_connection_whose_request_is_still_at_work() -> None:
    async def comes_back() -> None:
        ends = [anyio.Event(), anyio.Event()]
        left = iter(ends)

        async def app(scope: GuardScope, receive: GuardReceive, send: GuardSend) -> None:
            await next(left).wait()

        limit = ConnectionLimit(app, seconds=10)
        first, second = OnePort(), OnePort()
        async with anyio.create_task_group() as tasks:
            limit.opened(first)
            tasks.start_soon(asks_from_one_port, limit)
            await anyio.sleep(5)
            limit.opened(second)
            limit.closed(first)  # the end of the old one is told late
            assert len(limit) == 1
            ends[0].set()
            await anyio.sleep(5)
            tasks.start_soon(asks_from_one_port, limit)
            await anyio.sleep(60)
            assert not second.shut
            ends[1].set()
            await anyio.sleep(11)
            assert second.shut

    run(Clock(), comes_back())


async def test_a_target_that_is_no_path_and_a_head_that_is_read_in_two_ways_are_refused() -> None:
    refused = (
        *(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n" for target in ("http://evil.example/", "*", "localhost:80")),
        *(
            "CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n",
            "GET //evil.example/x HTTP/1.1\r\nHost: localhost\r\n",
        ),
        *("GET / HTTP/1.1\r\nHost : localhost\r\n", "GET / HTTP/1.1\r\n"),
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 200_000}\r\n",
    )
    async with stand(guarded=True) as here:
        for head in refused:
            client = await here.connected()
            await client.send(f"{head}Connection: close\r\n\r\n".encode())
            assert (await client.receive()).split()[1] == b"400", head
        assert await answer_to(await here.connected()) == b"200"
