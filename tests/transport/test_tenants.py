"""A transport that tenants share keeps nothing of one for another, and grows with none of them."""

import traceback
from http.cookiejar import DefaultCookiePolicy
from urllib.request import Request

import anyio
import httpx
import pytest
from yarl import URL

from dhenara_async import AiohttpTransport, HttpxTransport, Timeouts
from dhenara_async.errors import DhenaraError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Transport
from dhenara_async.transport.aiohttp_pool import AiohttpPool
from tests.loopback import PATIENCE, Connection, chunked, replies, serve, whole
from tests.transport.conftest import Opened

LIMITS = Timeouts(connect=PATIENCE, between_bytes=PATIENCE)
SECRET = "tenant-key-quagga-99"


async def body_of(sender: Transport, url: str, **headers: str) -> bytes:
    exchange = await sender.send(HttpRequest(url, headers, b"{}"), LIMITS)
    body = b""
    while piece := await exchange.read():
        body += piece
    await exchange.close()
    return body


async def test_cookies_of_responses_are_not_kept(opened: Opened) -> None:
    async with serve(replies(whole(b"x", 200, set_cookie="who=a; Path=/"))) as server, opened() as sender:
        for _ in range(3):
            await body_of(sender, server.url)
    assert [seen.header("cookie") for seen in server.requests] == [[]] * 3


async def test_the_callers_own_cookies_are_sent() -> None:
    """What the caller gave the client, or got by it without this library, is the caller's affair."""
    answers = replies(whole(b"x", 200, set_cookie="theirs=2; Path=/"))
    async with serve(answers) as server, httpx.AsyncClient(trust_env=False, cookies={"given": "1"}) as client:
        sender = HttpxTransport(client)
        await body_of(sender, server.url)
        await body_of(sender, server.url)
        assert dict(client.cookies) == {"given": "1"}
        await client.get(server.url)
        assert dict(client.cookies) == {"given": "1", "theirs": "2"}
        client.cookies = {"given": "3"}  # another jar
        await body_of(sender, server.url)
        assert dict(client.cookies) == {"given": "3"}
    assert [seen.header("cookie") for seen in server.requests[:2]] == [["given=1"]] * 2


async def test_a_custom_cookie_policy_is_kept() -> None:
    class Everything(DefaultCookiePolicy):
        def set_ok(self, cookie: object, request: Request) -> bool:
            return True

    answers = replies(whole(b"x", 200, set_cookie="a=2; Path=/"))
    async with serve(answers) as server, httpx.AsyncClient(trust_env=False) as client:
        client.cookies.jar.set_policy(Everything())
        await body_of(HttpxTransport(client), server.url)
        assert dict(client.cookies) == {"a": "2"}


@pytest.mark.parametrize("late", [False, True], ids=["right behind", "a moment later"])
@pytest.mark.parametrize("answer", [whole(b"of A"), chunked(b"of ", b"A")], ids=["length", "chunks"])
async def test_unrequested_bytes_are_not_read_as_the_next_response(answer: bytes, late: bool, opened: Opened) -> None:
    async def play(connection: Connection) -> None:
        first = True
        while await connection.request() is not None:
            if not first or server.connections > 1:
                await connection.send(whole(b"of B"))
            elif late:
                await connection.send(answer)
                await goes_on.wait()
                await connection.send(whole(b"of nobody"))
                said.set()
            else:
                await connection.send(answer + whole(b"of nobody"))
                said.set()
            first = False

    goes_on, said = anyio.Event(), anyio.Event()
    async with serve(play) as server, opened() as sender:
        assert await body_of(sender, server.url) == b"of A"
        goes_on.set()
        with anyio.fail_after(PATIENCE):
            await said.wait()
        await anyio.wait_all_tasks_blocked()
        assert await body_of(sender, server.url) == b"of B"
        assert await body_of(sender, server.url) == b"of B"
    assert server.connections == 2


async def test_clean_connections_are_reused(opened: Opened) -> None:
    async with serve(replies(whole(b"one"), chunked(b"two"))) as server, opened() as sender:
        for _ in range(4):
            await body_of(sender, server.url)
    assert server.connections == 1


async def test_tables_of_hosts_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    doors: list[dict[object, object]] = []
    made = AiohttpPool.__init__

    def noted(self: AiohttpPool, **given: object) -> None:
        made(self, **given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        doors.append(self._doors)  # type: ignore[arg-type]  # pyright: ignore

    monkeypatch.setattr(AiohttpPool, "__init__", noted)
    sender = AiohttpTransport()
    async with serve(replies(whole(b"x"))) as server:
        await body_of(sender, server.url)
        await body_of(sender, server.url.replace("127.0.0.1", "localhost"))
        assert doors == [{}]
        for number in range(2500):
            sender._proxy_for(URL(f"http://h{number}.example"))  # pyright: ignore[reportPrivateUsage]
        assert len(sender._proxies) <= 1000  # pyright: ignore[reportPrivateUsage]
        await sender.aclose()


def locals_of(exc: BaseException) -> list[str]:
    """What an error reporter that shows locals shows of an error and its causes."""
    shown: list[str] = []
    chain: list[BaseException] = [exc]
    while chain:
        one = chain.pop()
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                shown += [f"{frame.f_code.co_qualname} {name}={value!r}" for name, value in frame.f_locals.items()]
        chain += [each for each in (one.__cause__, one.__context__) if each is not None]
    return shown


@pytest.mark.parametrize("failure", ["hangs up", "stalls", "nonsense", "nobody", "no such host"])
@pytest.mark.parametrize("size", [1, 100_000, 2_000_000])
async def test_failures_do_not_hold_the_key_in_a_local(failure: str, size: int, opened: Opened) -> None:
    async def play(connection: Connection) -> None:
        if await connection.request() is not None and failure != "hangs up":
            await connection.send(b"SSH-2.0\r\n\r\n") if failure == "nonsense" else await connection.until_hung_up()

    async with serve(play) as server, opened() as sender:
        url = {"nobody": "http://127.0.0.1:1", "no such host": "http://nowhere.invalid"}.get(failure, server.url)
        limits = Timeouts(connect=PATIENCE, first_byte=0.1 if failure == "stalls" else PATIENCE)
        request = HttpRequest(url, {"authorization": f"Bearer {SECRET}"}, b"." * size)
        with pytest.raises(DhenaraError) as caught:
            await sender.send(request, limits)
    assert [text for text in locals_of(caught.value) if SECRET in text] == []
