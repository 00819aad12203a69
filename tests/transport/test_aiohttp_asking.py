"""What asks over aiohttp's pool without aiohttp's client says what that says, and leaves to it what it cannot do."""

import gc

import aiohttp
import anyio
import pytest
from yarl import URL

from dhenara_async import AIModelClient, AiohttpTransport, Timeouts
from dhenara_async.errors import ConfigurationError, ConnectError, DeadlineError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import aiohttp_asking
from dhenara_async.transport.aiohttp_asking import MOST_BYTES, Answer, DirectSender
from tests.loopback import (
    PATIENCE,
    Connection,
    HttpSeen,
    chat_endpoint,
    chat_stream,
    chunked,
    head,
    replies,
    serve,
    stalling,
    whole,
)

NO_LIMITS = Timeouts(connect=PATIENCE, between_bytes=PATIENCE)
HEADERS = {"content-type": "application/json", "authorization": "Bearer ünïcode", "x-empty": "", "user-agent": "mine"}


@pytest.fixture
def straight(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that are asked without the session, as they are asked."""
    asked: list[str] = []
    ask = DirectSender.ask

    async def noted(self: DirectSender, way: aiohttp_asking.Route, *args: object, **more: object) -> Answer:
        asked.append(str(way.example.url))
        return await ask(self, way, *args, **more)  # type: ignore[arg-type] - handed on

    monkeypatch.setattr(DirectSender, "ask", noted)
    return asked


async def ask(sender: AiohttpTransport, url: str, body: bytes = b"{}") -> bytes:
    """The body that comes back, read to its end."""
    exchange = await sender.send(HttpRequest(url, HEADERS, body), NO_LIMITS)
    pieces: list[bytes] = []
    try:
        while piece := await exchange.read():
            pieces.append(piece)
    finally:
        await exchange.close()
    return b"".join(pieces)


def said(request: HttpSeen) -> tuple[str, list[tuple[str, str]], bytes]:
    return request.target, sorted(request.headers), request.body


@pytest.mark.parametrize("path", ["", "/", "/v1/x", "/v1/x?y=%2F&z", "/a%20b/:streamGenerateContent?alt=sse", "?q=1"])
@pytest.mark.parametrize("body", [b"", b"{}", b"\x00" * MOST_BYTES])
async def test_the_host_is_told_what_the_session_would_tell(path: str, body: bytes, straight: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        assert await ask(sender, server.url + path, body) == b"ok"
        assert len(straight) == 1
        await sender.aclose()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            url = URL(server.url + path, encoded=True)
            async with session.post(url, data=body, headers=HEADERS, allow_redirects=False) as response:
                await response.read()
        mine, theirs = server.requests
    assert said(mine) == said(theirs)


async def test_a_connection_serves_both_ways_in_turns(straight: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        for size in (2, MOST_BYTES + 1, 2, MOST_BYTES + 1):
            assert await ask(sender, server.url, b"." * size) == b"ok"
        await sender.aclose()
    assert (server.connections, len(server.requests), len(straight)) == (1, 4, 2)


async def test_what_comes_before_the_answer_is_passed_over(straight: list[str]) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with serve(replies(early + whole(b"ok"))) as server:
        sender = AiohttpTransport()
        assert [await ask(sender, server.url) for _ in range(2)] == [b"ok", b"ok"]
        await sender.aclose()
    assert (len(straight), server.connections) == (2, 1)


async def test_headers_that_change_from_one_request_to_the_next_are_told(straight: list[str]) -> None:
    changing = {**HEADERS, "x-turn": "0"}
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        for turn in ("0", "1", "1", "2"):
            changing["x-turn"] = turn
            await (await sender.send(HttpRequest(server.url, changing, turn.encode()), NO_LIMITS)).close()
        without = {name: value for name, value in changing.items() if name != "x-turn"}
        await (await sender.send(HttpRequest(server.url, without, b""), NO_LIMITS)).close()
        await (await sender.send(HttpRequest(server.url, {"Content-Length": "7", **without}, b"ab"), NO_LIMITS)).close()
        await sender.aclose()
    seen = [(each.header("x-turn"), each.header("content-length"), each.body) for each in server.requests]
    assert seen == [
        (["0"], ["1"], b"0"),
        (["1"], ["1"], b"1"),
        (["1"], ["1"], b"1"),
        (["2"], ["1"], b"2"),
        ([], ["0"], b""),
        ([], ["2"], b"ab"),
    ]
    assert len(straight) == 6


async def test_an_answer_that_has_begun_may_take_its_time(straight: list[str]) -> None:
    limits = Timeouts(first_byte=0.1)

    async def play(connection: Connection) -> None:
        for _ in range(2):
            await connection.request()
            await connection.send(head(content_length="4"))
            await anyio.sleep(0.2)
            await connection.send(b"late")

    async with serve(play) as server:
        sender = AiohttpTransport()
        for _ in range(2):
            exchange = await sender.send(HttpRequest(server.url, HEADERS, b""), limits)
            assert await exchange.read() == b"late"
            await exchange.close()
        await sender.aclose()
    assert (len(straight), server.connections) == (2, 1)


async def test_another_limit_for_every_call(straight: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_asking, "_WAYS", 2)
    async with serve(replies(whole(b"ok"))) as server, serve(stalling()) as silent:
        sender = AiohttpTransport()

        async def wait() -> None:
            with pytest.raises(DeadlineError, match="first_byte") as raised:
                await sender.send(HttpRequest(silent.url, HEADERS, b""), Timeouts(first_byte=0.3))
            assert raised.value.seconds == 0.3

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await silent.asked.wait()
            for seconds in range(50, 60):
                limits = Timeouts(first_byte=seconds)
                await (await sender.send(HttpRequest(server.url, HEADERS, b""), limits)).close()
        await sender.aclose()
    assert len(straight) == 11


@pytest.mark.parametrize(
    "bad", [{"x-a": "1\r\nx-b: 2"}, {"x\r\nb": "1"}, {"x-a": "\x00"}], ids=["value", "name", "nul"]
)
async def test_a_header_cannot_smuggle_another(bad: dict[str, str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        with pytest.raises(ConfigurationError):
            await sender.send(HttpRequest(server.url, {**HEADERS, **bad}, b"{}"), NO_LIMITS)
        await sender.aclose()
    assert server.requests == []


async def test_a_kept_connection_that_is_closing_is_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is between the moment a loop learns of the end and the one the pool does."""
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        assert await ask(sender, server.url) == b"ok"
        connect = aiohttp.BaseConnector.connect

        async def closing(*args: object) -> aiohttp.connector.Connection:
            connection = await connect(*args)  # type: ignore[arg-type] - handed on
            if connection.transport is not None:
                connection.transport.close()
            return connection

        monkeypatch.setattr(aiohttp.BaseConnector, "connect", closing)
        with pytest.raises(ConnectError, match="nothing was sent"):
            await ask(sender, server.url)
        await sender.aclose()
    assert len(server.requests) == 1


async def test_who_traces_sees_every_request(straight: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's and Sentry's instruments do: they give every session that is made a trace of theirs."""
    seen: list[str] = []

    async def began(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.method)

    make = aiohttp.ClientSession.__init__

    def traced(self: aiohttp.ClientSession, *args: object, **more: object) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(began)
        make(self, *args, **more, trace_configs=[trace])  # type: ignore[arg-type] - handed on

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", traced)
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        assert await ask(sender, server.url) == b"ok"
        await sender.aclose()
    assert (seen, straight) == (["POST"], [])


async def test_who_stands_in_for_the_client_is_asked(straight: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As test tools do, which put a function of theirs where the client's is."""
    met = RuntimeError("nothing leaves this test")

    async def refuse(*_: object, **__: object) -> aiohttp.ClientResponse:
        raise met

    monkeypatch.setattr(aiohttp.ClientSession, "_request", refuse)
    sender = AiohttpTransport()
    with pytest.raises(RuntimeError) as raised:
        await ask(sender, "http://127.0.0.1:1/")
    await sender.aclose()
    assert (raised.value, straight) == (met, [])


async def test_other_versions_are_asked_their_own_way(straight: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_asking, "AT_ONCE", False)
    async with (
        serve(replies(chunked(*chat_stream("One", " two")))) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Hi.") as stream,
    ):
        assert (await stream.collect()).text() == "One two"
    assert straight == []


async def test_credentials_in_the_address_are_sent_as_aiohttp_sends_them(straight: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        address = server.url.replace("//", "//me:secret@")
        exchange = await sender.send(HttpRequest(address, {}, b"{}"), NO_LIMITS)
        await exchange.close()
        await sender.aclose()
        (seen,) = server.requests
    assert (seen.header("authorization"), straight) == (["Basic bWU6c2VjcmV0"], [])


async def test_a_transfer_encoding_of_the_callers_own_is_the_sessions_affair(straight: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        with anyio.move_on_after(0.2):  # whatever comes of it: this server does not understand it
            await (
                await sender.send(HttpRequest(server.url, {"transfer-encoding": "chunked"}, b"{}"), NO_LIMITS)
            ).close()
        await sender.aclose()
    assert straight == []


async def test_more_addresses_than_are_remembered(straight: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_asking, "_WAYS", 2)
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        for number in (1, 2, 3, 1, 2, 3):
            assert await ask(sender, f"{server.url}/{number}") == b"ok"
        await sender.aclose()
    assert [seen.target for seen in server.requests] == ["/1", "/2", "/3", "/1", "/2", "/3"]
    assert len(straight) == 6


async def test_an_answer_that_is_left_alone_closes_its_connection() -> None:
    async with serve(stalling(head())) as server:
        sender = AiohttpTransport()
        await sender.send(HttpRequest(server.url, {}, b"{}"), Timeouts(between_bytes=None))
        gc.collect()
        await server.wait_hung_up()
        await sender.aclose()


async def test_cancelling_closes_the_connection_whose_head_is_waited_for() -> None:
    async def play(connection: Connection) -> None:
        await connection.request()
        await connection.until_hung_up()

    async with serve(play) as server:
        sender = AiohttpTransport()
        with anyio.move_on_after(PATIENCE) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, sender, server.url)
                await server.asked.wait()
                tasks.cancel_scope.cancel()
        assert not scope.cancelled_caught
        await server.wait_hung_up()
        await sender.aclose()
