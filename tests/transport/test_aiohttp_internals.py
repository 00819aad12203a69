"""aiohttp's private parts give the bytes that its public interface gives, and give way to it in other versions."""

import builtins
import gc
import gzip
import logging
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import aiohttp
import anyio
import pytest
from aiohttp import connector
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader
from yarl import URL

from dhenara_async import AIModelClient, AiohttpTransport, Timeouts
from dhenara_async.errors import ConfigurationError, ConnectError, DeadlineError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import aiohttp_internals
from dhenara_async.transport.aiohttp_internals import DIRECT_BYTES, DirectSender, Route
from dhenara_async.transport.decompression import ACCEPTED
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
from tests.steady import steady

pytestmark = pytest.mark.usefixtures("private_aiohttp")

NO_LIMITS = Timeouts(connect=PATIENCE, between_bytes=PATIENCE)
HEADERS = {"content-type": "application/json", "authorization": "Bearer ünïcode", "x-empty": "", "user-agent": "mine"}


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that are asked without the session, as they are asked."""
    asked: list[str] = []
    write = DirectSender.write

    def noted(
        self: DirectSender, connection: connector.Connection, route: Route, request: HttpRequest
    ) -> ResponseHandler:
        asked.append(str(route.example.url))
        return write(self, connection, route, request)

    monkeypatch.setattr(DirectSender, "write", noted)
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
@pytest.mark.parametrize("body", [b"", b"{}", b"\x00" * DIRECT_BYTES])
async def test_a_direct_request_equals_that_of_the_session(path: str, body: bytes, direct: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        assert await ask(sender, server.url + path, body) == b"ok"
        assert len(direct) == 1
        await sender.aclose()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            url = URL(server.url + path, encoded=True)
            headers = {**HEADERS, "accept-encoding": ACCEPTED}  # aiohttp's own depends on Python and other packages
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                await response.read()
        mine, theirs = server.requests
    assert said(mine) == said(theirs)


async def test_direct_and_session_requests_share_a_connection(direct: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        for size in (2, DIRECT_BYTES + 1, 2, DIRECT_BYTES + 1):
            assert await ask(sender, server.url, b"." * size) == b"ok"
        await sender.aclose()
    assert (server.connections, len(server.requests), len(direct)) == (1, 4, 2)


async def test_informational_responses_are_skipped(direct: list[str]) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with serve(replies(early + whole(b"ok"))) as server:
        sender = AiohttpTransport()
        assert [await ask(sender, server.url) for _ in range(2)] == [b"ok", b"ok"]
        await sender.aclose()
    assert (len(direct), server.connections) == (2, 1)


async def test_changed_headers_are_sent(direct: list[str]) -> None:
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
    assert len(direct) == 6


async def test_the_first_byte_limit_ends_with_the_head(direct: list[str]) -> None:
    async def attempt(limit: float) -> None:
        async def play(connection: Connection) -> None:
            for _ in range(2):
                await connection.request()
                await connection.send(head(content_length="4"))
                await anyio.sleep(limit * 2)
                await connection.send(b"late")

        direct.clear()
        async with serve(play) as server:
            sender = AiohttpTransport()
            for _ in range(2):
                exchange = await sender.send(HttpRequest(server.url, HEADERS, b""), Timeouts(first_byte=limit))
                assert await exchange.read() == b"late"
                await exchange.close()
            await sender.aclose()
        assert (len(direct), server.connections) == (2, 1)

    await steady(attempt, 0.1)


async def test_many_different_first_byte_limits_are_kept(direct: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_internals, "_MOST_ROUTES", 2)
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
    assert len(direct) == 11


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


async def test_a_traced_session_sends_every_request(direct: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert (seen, direct) == (["POST"], [])


async def test_a_replaced_client_function_is_called(direct: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As test tools do, which put a function of theirs where the client's is."""
    met = RuntimeError("nothing leaves this test")

    async def refuse(*_: object, **__: object) -> aiohttp.ClientResponse:
        raise met

    monkeypatch.setattr(aiohttp.ClientSession, "_request", refuse)
    sender = AiohttpTransport()
    with pytest.raises(RuntimeError) as raised:
        await ask(sender, "http://127.0.0.1:1/")
    await sender.aclose()
    assert (raised.value, direct) == (met, [])


async def test_credentials_in_the_address_are_sent_as_aiohttp_sends_them(direct: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        address = server.url.replace("//", "//me:secret@")
        exchange = await sender.send(HttpRequest(address, {}, b"{}"), NO_LIMITS)
        await exchange.close()
        await sender.aclose()
        (seen,) = server.requests
    assert (seen.header("authorization"), direct) == (["Basic bWU6c2VjcmV0"], [])


async def test_a_request_with_a_transfer_encoding_goes_through_the_session(direct: list[str]) -> None:
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        with anyio.move_on_after(0.2):  # whatever comes of it: this server does not understand it
            await (
                await sender.send(HttpRequest(server.url, {"transfer-encoding": "chunked"}, b"{}"), NO_LIMITS)
            ).close()
        await sender.aclose()
    assert direct == []


async def test_more_urls_than_the_route_cache_holds_are_all_served(
    direct: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_internals, "_MOST_ROUTES", 2)
    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        for number in (1, 2, 3, 1, 2, 3):
            assert await ask(sender, f"{server.url}/{number}") == b"ok"
        await sender.aclose()
    assert [seen.target for seen in server.requests] == ["/1", "/2", "/3", "/1", "/2", "/3"]
    assert len(direct) == 6


async def test_a_response_that_is_never_closed_closes_its_connection() -> None:
    async with serve(stalling(head())) as server:
        sender = AiohttpTransport()
        await sender.send(HttpRequest(server.url, {}, b"{}"), Timeouts(between_bytes=None))
        gc.collect()
        await server.wait_hung_up()
        await sender.aclose()


async def test_cancelling_before_the_head_closes_the_connection() -> None:
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


# ------------------------------------------------------------------------------------------------ reading

NOISE = random.Random(20261122)  # the same every time
PIECES = [NOISE.randbytes(NOISE.choice((1, 7, 300, 20_000, 300_000))) for _ in range(120)]
BODY = b"".join(PIECES)


async def read_at_once(content: StreamReader) -> bytes:
    while (data := aiohttp_internals.take(content)) is None:
        await aiohttp_internals.wait(content)
    return data


async def received(url: str, read: Callable[[StreamReader], Awaitable[bytes]], *, idle: float = 0.0) -> bytes:
    pieces: list[bytes] = []
    async with aiohttp.ClientSession(read_bufsize=4096) as session, session.post(url, data=b"{}") as response:
        while piece := await read(response.content):
            pieces.append(piece)
            await anyio.sleep(idle)
        assert response.content.at_eof()
        assert await read(response.content) == b""
    return b"".join(pieces)


@pytest.mark.parametrize("read", [read_at_once, StreamReader.readany], ids=["at once", "by aiohttp"])
@pytest.mark.parametrize("idle", [0.0, 0.001], ids=["busy", "slow"])
async def test_bodies_are_read_completely(read: Callable[[StreamReader], Awaitable[bytes]], idle: float) -> None:
    answers = {
        "chunked": (chunked(*PIECES), BODY),
        "with a length": (whole(BODY), BODY),
        "compressed": (whole(gzip.compress(b"0" * 3_000_000), content_encoding="gzip"), b"0" * 3_000_000),
        "in compressed chunks": (
            head(transfer_encoding="chunked", content_encoding="gzip")
            + chunked(gzip.compress(BODY)).partition(b"\r\n\r\n")[2],
            BODY,
        ),
        "empty": (chunked(), b""),
    }
    for name, (answer, body) in answers.items():
        async with serve(replies(answer)) as server:
            with anyio.fail_after(PATIENCE):
                assert await received(server.url, read, idle=idle) == body, name


async def test_a_partly_read_body_is_continued() -> None:
    async with (
        serve(replies(chunked(b"one", b"two"))) as server,
        aiohttp.ClientSession() as session,
        session.post(server.url, data=b"{}") as response,
    ):
        begun = await response.content.readexactly(2)
        rest = b""
        while piece := await read_at_once(response.content):
            rest += piece
    assert (begun, rest) == (b"on", b"etwo")


async def test_an_unread_body_pauses_the_host() -> None:
    sent = 0

    async def play(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(head(transfer_encoding="chunked"))
        with anyio.move_on_after(0.5):
            for _ in range(1000):
                await connection.send(b"%x\r\n%s\r\n" % (100_000, b"." * 100_000))
                sent += 1

    async with (
        serve(play) as server,
        aiohttp.ClientSession() as session,
        session.post(server.url, data=b"{}") as response,
    ):
        assert await read_at_once(response.content)
        await anyio.sleep(0.6)
        response.close()
    assert sent < 300  # 100 MB would have come


# ------------------------------------------------------------------------------------------------ the switch


@pytest.fixture
def nothing_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """As in a new process, which has logged no reason yet."""
    monkeypatch.setattr(aiohttp_internals, "_logged", set[str]())
    caplog.set_level(logging.INFO, logger="dhenara_async")
    return caplog


async def stream_twice() -> None:
    """Two transports, each with a stream, a plain call and a large one."""
    for _ in range(2):
        sender = AiohttpTransport()
        async with serve(replies(chunked(*chat_stream("One", " two")))) as server:
            endpoint = chat_endpoint(server.url)
            await sender.warm_up(server.url, NO_LIMITS)
            async with AIModelClient(endpoint, transport=sender).stream("Hi.") as stream:
                assert (await stream.collect()).text() == "One two"
            assert (await AIModelClient(endpoint, transport=sender).generate("x" * DIRECT_BYTES)).text() == "One two"
        await sender.aclose()


def test_the_installed_version_is_one_that_was_tested() -> None:
    """If this fails, aiohttp has a new version: read what the module says, test it, and add it."""
    assert aiohttp_internals.reason_against() is None, aiohttp.__version__


@pytest.mark.parametrize("version", ["3.15.0", "4.0.0a1", "3.13.9", ""])
async def test_another_version_uses_the_public_interface_and_logs_once(
    version: str, direct: list[str], monkeypatch: pytest.MonkeyPatch, nothing_logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", version)
    await stream_twice()
    (line,) = nothing_logged.messages
    assert f"aiohttp {version} is not one of the versions that were tested" in line
    assert direct == []


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in aiohttp_internals.REQUIRED.items() for name in names]
)
async def test_a_missing_attribute_uses_the_public_interface_and_logs_once(
    owner: str,
    name: str,
    direct: list[str],
    monkeypatch: pytest.MonkeyPatch,
    nothing_logged: pytest.LogCaptureFixture,
) -> None:
    find = aiohttp_internals._find  # pyright: ignore[reportPrivateUsage]

    def without(sought: str) -> object:
        found = find(sought)
        if sought != owner:
            return found
        return SimpleNamespace(**{each: None for each in aiohttp_internals.REQUIRED[owner] if each != name})

    monkeypatch.setattr(aiohttp_internals, "_find", without)
    await stream_twice()
    (line,) = nothing_logged.messages
    assert f"lacks {owner}.{name}" in line
    assert direct == []


async def test_missing_modules_use_the_public_interface(
    direct: list[str], monkeypatch: pytest.MonkeyPatch, nothing_logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aiohttp_internals, "REQUIRED", {"aiohttp.no_such_module:Class": ("one", "two")})
    await stream_twice()
    (line,) = nothing_logged.messages
    assert "lacks aiohttp.no_such_module:Class.one, aiohttp.no_such_module:Class.two" in line
    assert direct == []


@pytest.mark.parametrize(
    ("module", "name"), [("aiohttp.helpers", "TimerNoop"), ("aiohttp.http_writer", "_serialize_headers")]
)
async def test_an_attribute_taken_from_aiohttp_uses_the_public_interface(
    module: str,
    name: str,
    direct: list[str],
    monkeypatch: pytest.MonkeyPatch,
    nothing_logged: pytest.LogCaptureFixture,
) -> None:
    owner = sys.modules[module]
    monkeypatch.setattr(builtins, name, getattr(owner, name), raising=False)  # where aiohttp's own code finds it still
    monkeypatch.delattr(owner, name)
    await stream_twice()
    (line,) = nothing_logged.messages
    assert f"lacks {module}.{name}" in line
    assert direct == []


def test_the_package_can_be_imported_without_the_private_parts() -> None:
    code = """
import aiohttp, builtins
for module, name in ((aiohttp.client_proto, "ResponseHandler"), (aiohttp.helpers, "TimerNoop"),
                     (aiohttp.http_writer, "_serialize_headers")):
    setattr(builtins, name, getattr(module, name))
    delattr(module, name)
del aiohttp.ClientSession._request, aiohttp.BaseConnector.connect
from dhenara_async import AiohttpTransport
from dhenara_async.transport.aiohttp_internals import reason_against
AiohttpTransport()
print(reason_against())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "ResponseHandler" in done.stdout
    assert "TimerNoop" in done.stdout


async def test_a_changed_client_request_leaves_warming_up_undone(
    monkeypatch: pytest.MonkeyPatch, nothing_logged: pytest.LogCaptureFixture, public_aiohttp: None
) -> None:
    def changed(*_: object, **__: object) -> None:
        raise TypeError("unexpected keyword argument 'loop'")

    async with serve(replies(whole(b"ok"))) as server:
        sender = AiohttpTransport()
        with monkeypatch.context() as patch:
            patch.setattr(aiohttp, "ClientRequest", changed)
            await sender.warm_up(server.url, NO_LIMITS)
        assert await ask(sender, server.url) == b"ok"
        await sender.aclose()
    assert "warm_up does not work with aiohttp" in nothing_logged.messages[0]


async def test_the_environment_turns_the_private_parts_off(
    public_aiohttp: None, direct: list[str], nothing_logged: pytest.LogCaptureFixture
) -> None:
    await stream_twice()
    assert direct == []
    assert nothing_logged.messages == []


async def test_bytes_before_a_failure_are_read_where_aiohttp_can(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        """A reader of another version."""

        def _read_nowait(self, limit: int, more: int) -> bytes:
            return bytes(limit + more)

    assert aiohttp_internals.buffered(Changed()) == b""  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert aiohttp_internals.buffered(object()) == b""  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
