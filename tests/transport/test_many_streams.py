"""Many streams at once: how connections are made, kept and given back."""

import gc
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from dhenara_async import AIModelCallConfig, AiohttpTransport, ModelCall, Timeouts, fan_out
from dhenara_async.errors import ConfigurationError, DeadlineError
from dhenara_async.request import HttpRequest
from tests.loopback import (
    LAST_CHUNK,
    PATIENCE,
    Connection,
    Server,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    chunked,
    head,
    replies,
    serve,
    whole,
)

STREAMS = 600
NO_LIMITS = Timeouts(connect=None, between_bytes=None)
LONG = AIModelCallConfig(timeouts=Timeouts(connect=60))


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Room for both ends of every stream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * STREAMS + 200
    if soft < wanted and hard < wanted:
        pytest.skip("this machine does not let a process open so many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sockets() -> int:
    """How many this process has open."""
    links = (one for one in Path("/proc/self/fd").iterdir() if one.is_symlink())
    return sum(str(one.readlink()).startswith("socket:") for one in links)


class Hall:
    """A host that says the last word of no answer before ``group`` streams have begun, then goes on at once."""

    def __init__(self, group: int) -> None:
        self._group = group
        self.speaking = 0
        self.full = anyio.Event()

    async def play(self, connection: Connection) -> None:
        while (seen := await connection.request()) is not None:
            word = seen.header("x-word")[0]
            await connection.send(head(200, transfer_encoding="chunked"), chunk(chat_delta(f"{word} ")))
            self.speaking += 1
            if self.speaking == self._group:
                self.full.set()
            await self.full.wait()
            await connection.send(*map(chunk, chat_stream(word)), LAST_CHUNK)

    def again(self) -> None:
        self.speaking, self.full = 0, anyio.Event()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets are counted in /proc")
@pytest.mark.usefixtures("descriptors")
async def test_hundreds_of_streams_are_not_mixed_up_and_release_their_connections() -> None:
    hall, transport = Hall(STREAMS), AiohttpTransport()

    def calls(server: Server) -> Iterator[ModelCall]:
        endpoint = chat_endpoint(server.url)
        for number in range(STREAMS):
            config = LONG.model_copy(update={"extra_headers": {"x-word": f"{number}"}})
            yield ModelCall(endpoint, "Say your number twice.", config=config, key=number)

    async with serve(hall.play) as server:
        before = sockets()
        for _ in range(2):
            hall.again()
            async with fan_out(calls(server), limit=None, transport=transport) as fan:
                outcomes = await fan.collect()
            assert [outcome.unwrap().text() for outcome in outcomes] == [f"{key} {key}" for key in range(STREAMS)]
            assert server.connections == STREAMS  # the second time over those of the first
        await transport.aclose()
        with anyio.fail_after(PATIENCE):
            while sockets() > before:  # the host's ends go when it has noticed
                await anyio.lowlevel.checkpoint()
    gc.collect()


async def test_only_a_limited_number_of_connections_are_made_at_once() -> None:
    """Hosts that accept and do not shake hands: who waits for one of them does not hold up another."""

    async def play(connection: Connection) -> None:
        await connection.until_hung_up()

    sender = AiohttpTransport(connecting=2)
    async with serve(play) as silent, serve(play) as other, serve(replies(whole(b"{}"))) as alive:
        async with anyio.create_task_group() as tasks:
            for server in (silent, silent, silent, silent, other):
                tasks.start_soon(sender.send, request(server.url.replace("http:", "https:")), NO_LIMITS)
            exchange = await sender.send(request(alive.url), NO_LIMITS)
            await exchange.close()
            await silent.wait_connected(2)
            await other.wait_connected(1)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert silent.connections == 2
            tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:  # those who have left are not waited for
            for _ in range(2):
                tasks.start_soon(sender.send, request(silent.url.replace("http:", "https:")), NO_LIMITS)
            await silent.wait_connected(4)
            tasks.cancel_scope.cancel()
        await sender.aclose()


async def test_the_connect_limit_covers_the_wait_for_a_turn() -> None:
    async def play(connection: Connection) -> None:
        await connection.until_hung_up()

    failures: list[DeadlineError] = []
    sender, timeouts = AiohttpTransport(connecting=1), Timeouts(connect=0.05)
    async with serve(play) as server:

        async def send() -> None:
            with pytest.raises(DeadlineError) as caught:
                await sender.send(request(server.url.replace("http:", "https:")), timeouts)
            failures.append(caught.value)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(send)
        await sender.aclose()
        assert server.connections < 10  # the first, and whoever had a little left
    assert {(error.limit, error.seconds) for error in failures} == {("connect", 0.05)}
    assert len(failures) == 50


async def test_waiting_calls_connect_in_the_end() -> None:
    sender = AiohttpTransport(connecting=1)
    async with serve(replies(chunked(b"abc"))) as server:
        bodies: list[bytes] = []

        async def ask() -> None:
            exchange = await sender.send(request(server.url), Timeouts())
            bodies.append(await exchange.read())
            await exchange.close()

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
        await sender.aclose()
    assert bodies == [b"abc"] * 20


async def test_all_streams_share_one_name_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[object] = []
    look_up = socket.getaddrinfo

    def counted(host: str, *args: object, **kwargs: object) -> object:
        looked_up.append(host)
        return look_up(host, *args, **kwargs)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    sender = AiohttpTransport()
    async with serve(replies(whole(b"{}"))) as server:
        url = server.url.replace("127.0.0.1", "localhost")

        async def ask() -> None:
            exchange = await sender.send(request(url), Timeouts())
            await exchange.close()

        async with anyio.create_task_group() as asking:
            for _ in range(50):
                asking.start_soon(ask)
        await sender.aclose()
    assert looked_up.count("localhost") == 1


def test_a_connecting_limit_of_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="connecting"):
        AiohttpTransport(connecting=0)


def request(url: str) -> HttpRequest:
    return HttpRequest(f"{url}/v1/x", {"content-type": "application/json"}, b"{}")
