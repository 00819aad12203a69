"""The aiohttp transport on its own: pools, loops, proxies of the environment, and its errors in our words."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from dhenara_async import AIModelClient, AiohttpTransport, Timeouts
from dhenara_async.errors import ConfigurationError, ConnectError, DeadlineError, ReadError
from dhenara_async.request import HttpRequest
from tests.loopback import (
    ONCE,
    PATIENCE,
    Connection,
    Server,
    chat_body,
    chat_endpoint,
    chunk,
    chunked,
    head,
    nobody,
    once,
    replies,
    resetting,
    serve,
    stalling,
    whole,
)
from tests.steady import steady

NO_LIMITS = Timeouts(connect=PATIENCE, between_bytes=PATIENCE)


pytestmark = pytest.mark.usefixtures("both_aiohttp_ways")


@asynccontextmanager
async def transport(*, limit: int = 0, trust_env: bool = False) -> AsyncGenerator[AiohttpTransport]:
    made = AiohttpTransport(limit=limit, trust_env=trust_env)
    try:
        yield made
    finally:
        await made.aclose()


def request(url: str, body: bytes = b"{}", **headers: str) -> HttpRequest:
    return HttpRequest(f"{url}/v1/x?y=%2F", {"content-type": "application/json", **headers}, body)


async def body_of(sender: AiohttpTransport, asked: HttpRequest, timeouts: Timeouts = NO_LIMITS) -> bytes:
    """The whole body of an answer, read to its end."""
    exchange = await sender.send(asked, timeouts)
    pieces: list[bytes] = []
    try:
        while piece := await exchange.read():
            pieces.append(piece)
        assert exchange.ended()
    finally:
        await exchange.close()
    return b"".join(pieces)


async def test_a_request_and_its_response_arrive_unchanged() -> None:
    answer = whole(b"body", 418, "text/x", X_Mixed="Case")
    async with serve(replies(answer)) as server, transport() as sender:
        exchange = await sender.send(request(server.url, b"\x00bytes", **{"x-mine": "1"}), NO_LIMITS)
        assert (exchange.status, exchange.headers["x-mixed"], exchange.headers["content-type"]) == (
            418,
            "Case",
            "text/x",
        )
        assert await exchange.read() == b"body"
        assert await exchange.read() == b""
        (seen,) = server.requests
    assert (seen.target, seen.body, seen.header("x-mine")) == ("/v1/x?y=%2F", b"\x00bytes", ["1"])
    assert seen.header("cookie") == []


async def test_cookies_are_not_kept() -> None:
    answer = whole(b"", 200, set_cookie="session=1; Path=/")
    async with serve(replies(answer)) as server, transport() as sender:
        for _ in range(2):
            await body_of(sender, request(server.url))
        assert [seen.header("cookie") for seen in server.requests] == [[], []]


async def test_a_body_without_a_length_that_is_reset_raises_a_read_error() -> None:
    when = anyio.Event()
    async with serve(resetting(head(), b"all that came", when=when)) as server, transport() as sender:
        exchange = await sender.send(request(server.url), NO_LIMITS)
        when.set()
        await anyio.sleep(0.1)  # all of it is here before anything is read
        assert await exchange.read() == b"all that came"
        assert not exchange.ended()
        with pytest.raises(ReadError, match="reset"):
            await exchange.read()
        await exchange.close()


async def test_a_cancelled_read_can_be_repeated() -> None:
    go_on = anyio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        await connection.send(head())
        await go_on.wait()
        await connection.send(b"late")

    async with serve(play) as server, transport() as sender:
        exchange = await sender.send(request(server.url), NO_LIMITS)
        for _ in range(2):
            with anyio.move_on_after(0.02):
                await exchange.read()
        go_on.set()
        assert [await exchange.read(), await exchange.read()] == [b"late", b""]
        await exchange.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No Content\r\n\r\n", whole(b"")], ids=["no body", "an empty one"])
async def test_a_response_without_a_body_ends_at_once(answer: bytes) -> None:
    async with serve(replies(answer)) as server, transport() as sender:
        for _ in range(2):
            assert await body_of(sender, request(server.url)) == b""
    assert server.connections == 1


async def test_a_connection_that_was_read_to_its_end_is_used_again() -> None:
    async with serve(replies(chunked(b"abc"), whole(b"def"))) as server, transport() as sender:
        assert [await body_of(sender, request(server.url)) for _ in range(4)] == [b"abc", b"def", b"def", b"def"]
        assert server.connections == 1


async def test_closing_a_response_early_closes_its_connection() -> None:
    async with serve(stalling(head(), b"abc")) as server, transport() as sender:
        exchange = await sender.send(request(server.url), NO_LIMITS)
        assert await exchange.read() == b"abc"
        assert not exchange.ended()
        await exchange.close()
        await exchange.close()
        await server.wait_hung_up()


async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(whole(b"abc"))
            await connection.finish()
            await connection.until_hung_up()

    async with serve(play) as server, transport() as sender:
        for number in range(1, 4):
            assert await body_of(sender, request(server.url)) == b"abc"
            await server.wait_hung_up()
            assert server.connections == number


async def test_the_pool_has_a_limit() -> None:
    release = anyio.Event()

    async def play(connection: Connection) -> None:
        while await connection.request() is not None:
            await release.wait()
            await connection.send(whole(b"abc"))

    async with serve(play) as server, transport(limit=2) as sender:
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(body_of(sender, request(server.url))) for _ in range(6)]
            await server.wait_connected(2)
            await anyio.wait_all_tasks_blocked()
            assert server.connections == 2
            release.set()
        assert [call.result() for call in calls] == [b"abc"] * 6
        assert (server.connections, len(server.requests)) == (2, 6)


async def test_refused_and_unknown_hosts() -> None:
    with nobody() as url:
        async with transport() as sender:
            with pytest.raises(ConnectError, match=url.removeprefix("http://")):
                await sender.send(request(url), NO_LIMITS)


@pytest.mark.parametrize("url", ["http://", "no url", "http://:1"])
async def test_an_invalid_url_is_a_configuration_error(url: str) -> None:
    async with transport() as sender:
        with pytest.raises(ConfigurationError):
            await sender.send(HttpRequest(url, {}, b""), NO_LIMITS)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\n",
    ],
)
async def test_a_malformed_response_is_a_read_error(answer: bytes) -> None:
    async with serve(once(answer)) as server, transport() as sender:
        with pytest.raises(ReadError, match="connection broke"):
            await sender.send(request(server.url), NO_LIMITS)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"abc")[:-1],
        head(transfer_encoding="chunked") + chunk(b"abc"),
        head(transfer_encoding="chunked") + b"no number\r\n",
        whole(b"this is no gzip", content_encoding="gzip"),
    ],
)
async def test_a_broken_body_is_a_read_error(answer: bytes) -> None:
    async with serve(once(answer)) as server, transport() as sender:
        with pytest.raises(ReadError, match="connection broke"):
            await body_of(sender, request(server.url))


async def test_the_silence_limit_does_not_run_while_no_read_waits() -> None:
    """Silence is the host's: a reader that takes its time between two reads is no reason to give up."""

    async def attempt(limit: float) -> None:
        more = anyio.Event()

        async def play(connection: Connection) -> None:
            if await connection.request() is not None:
                await connection.send(head(), b"abc")
                await more.wait()
                await connection.send(b"def")

        async with serve(play) as server, transport() as sender:
            exchange = await sender.send(request(server.url), Timeouts(between_bytes=limit))
            assert await exchange.read() == b"abc"
            await anyio.sleep(limit * 2)
            more.set()
            assert await exchange.read() == b"def"
            assert await exchange.read() == b""
            await exchange.close()

    await steady(attempt, 0.1)


async def test_silence_after_some_bytes_is_a_deadline_error() -> None:
    async with serve(stalling(head(), b"abc")) as server, transport() as sender:
        exchange = await sender.send(request(server.url), Timeouts(between_bytes=0.05))
        assert await exchange.read() == b"abc"
        with anyio.fail_after(PATIENCE), pytest.raises(DeadlineError) as caught:
            await exchange.read()
        assert caught.value.limit == "between_bytes"
        await exchange.close()
        await server.wait_hung_up()


async def test_each_call_has_its_own_limits() -> None:
    async with serve(replies(whole(b"abc"))) as server, transport() as sender:
        for limit in (None, 5.0, None):
            timeouts = Timeouts(connect=limit, first_byte=limit, between_bytes=limit)
            assert await body_of(sender, request(server.url), timeouts) == b"abc"
    async with serve(stalling()) as server, transport() as sender:
        for limit in (0.01, 0.02):
            with pytest.raises(DeadlineError) as caught:
                await sender.send(request(server.url), Timeouts(first_byte=limit))
            assert (caught.value.limit, caught.value.seconds) == ("first_byte", limit)


# --------------------------------------------------------------------------------------------------------------- loops


def test_two_loops_one_after_the_other_and_one_transport() -> None:
    """A pool belongs to its loop: the second run must not be handed the first one's connections."""
    shared = AiohttpTransport(trust_env=False)

    async def call(server: Server) -> str:
        client = AIModelClient(chat_endpoint(server.url), transport=shared)
        texts = [(await client.generate("Hi.")).text() for _ in range(2)]
        await shared.aclose()
        return " ".join(texts)

    play = replies(whole(chat_body("Hello.")))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(play)) as server:
        for number in range(1, 6):
            assert asyncio.run(call(server)) == "Hello. Hello."
            assert server.connections == number


def test_two_loops_at_once_and_one_transport() -> None:
    shared = AiohttpTransport(trust_env=False)

    async def call(url: str) -> str:
        text = (await AIModelClient(chat_endpoint(url), transport=shared).generate("Hi.")).text()
        await shared.aclose()
        return text

    play = replies(whole(chat_body("Hello.")))
    with (
        start_blocking_portal() as first,
        start_blocking_portal() as second,
        first.wrap_async_context_manager(serve(play)) as server,
    ):
        calls = [portal.start_task_soon(call, server.url) for portal in (first, second) for _ in range(1)]
        assert [each.result(PATIENCE) for each in calls] == ["Hello.", "Hello."]


# ------------------------------------------------------------------------------------------------------------- proxies

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
async def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with serve(replies(whole(chat_body("By proxy.")))) as proxy:
        monkeypatch.setenv(name, proxy.url)
        response = await AIModelClient(chat_endpoint("http://provider.invalid")).generate("Hi.")
        (seen,) = proxy.requests
    assert response.text() == "By proxy."
    assert seen.target == "http://provider.invalid/v1/chat/completions"


async def test_hosts_in_no_proxy_are_connected_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(replies(whole(b"", 502))) as proxy, serve(replies(whole(chat_body("Direct.")))) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        response = await AIModelClient(chat_endpoint(server.url)).generate("Hi.")
        assert proxy.connections == 0
    assert response.text() == "Direct."


async def test_trust_env_false_ignores_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(replies(whole(b"", 502))) as proxy, serve(replies(whole(b"abc"))) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with transport(trust_env=False) as sender:
            assert await body_of(sender, request(server.url)) == b"abc"
        assert proxy.connections == 0


async def test_an_unreachable_proxy_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as url, pytest.raises(ConnectError):
        monkeypatch.setenv("HTTP_PROXY", url)
        await AIModelClient(chat_endpoint("http://provider.invalid"), ONCE).generate("Hi.")
