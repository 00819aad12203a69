"""The guard before ``dhenara-async serve``: each of its rules, over a real server."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from yarl import URL

from dhenara_async.errors import ConfigurationError
from dhenara_async.web.serving.buckets import Buckets
from dhenara_async.web.serving.guard import GuardRules, GuardSend, ServeGuard
from dhenara_async.web.serving.hosts import KnownHosts, same_site
from tests.loopback import PATIENCE
from tests.web.servers import served

TOKEN = "a-token-of-nobody"


async def told(request: Request) -> Response:
    body = await request.body()
    return Response(f"{request.url.path} {len(body)}")


async def silent(scope: object, receive: Callable[[], Awaitable[Mapping[str, object]]], send: object) -> None:
    """Read the body, and answer only if it is whole."""
    while (await receive())["type"] == "http.request":
        pass


async def broken(request: Request) -> Response:
    raise RuntimeError("SECRET of the app")


@asynccontextmanager
async def guarded(rules: GuardRules) -> AsyncGenerator[tuple[str, aiohttp.ClientSession]]:
    routes = [Route("/broken", broken), Route("/{rest:path}", told, methods=["GET", "POST"])]
    app = cast("Starlette", ServeGuard(Starlette(routes=routes), rules))  # any ASGI app is served alike
    async with served(app) as url, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield url, session


EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there


async def test_only_its_own_names_pages_and_plain_paths_reach_the_app() -> None:
    async with guarded(GuardRules(names=("box.example",), body_bytes=1000)) as (url, session):
        here = url.removeprefix("http://")

        async def status(path: str = "/", method: str = "GET", data: object = None, **headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            address = URL(url + path, encoded=True)
            async with session.request(method, address, headers=named, data=data, allow_redirects=False) as reply:
                assert reply.headers["x-content-type-options"] == "nosniff"
                assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
                return reply.status

        for host in (here, "localhost:9", "[::1]:8000", "BOX.example"):
            assert await status(host=host) == 200, host
        for host in ("evil.example", "192.0.2.1", "127.0.0.1.evil.example", "localhost@evil.example", "localhost:x"):
            assert await status(host=host) == 421, host
        for host in (
            "[::1].evil.example",
            "[::1]evil.example:80",
            "[::1%lo]",
            "localhost%00",
            "127.1",
            "localhost:99999",
        ):
            assert await status(host=host) == 421, host
        for origin in (f"http://{here}",):
            assert await status(method="POST", origin=origin) == 200
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"ftp://{here}", f"http://{here}?x"):
            for method in ("GET", "POST"):
                assert await status(method=method, origin=origin) == 403, origin
        assert await status(method="POST", origin="null", sec_fetch_site="same-origin") == 200
        assert await status(sec_fetch_site="cross-site", sec_fetch_mode="no-cors", sec_fetch_dest="image") == 403
        assert await status(sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="document") == 200
        assert await status(sec_fetch_site="same-site", sec_fetch_mode="cors", sec_fetch_dest="empty") == 403
        for path in ("/a/../b", "/..", "/%2e%2e/b", "/a//b", "/a%2Fb", "/a\\b", "/a%5cb", "/a%00", "/%252e/b"):
            assert await status(path) == 400, path
        assert await status("/a.b/..c") == 200

        async def pieces(number: int) -> AsyncIterator[bytes]:
            for _ in range(number):
                yield b"x" * 100

        assert await status("/", "POST", b"x" * 1000) == 200
        assert await status("/", "POST", b"x" * 1001) == 413
        assert await status("/", "POST", pieces(10)) == 200  # without a length
        assert await status("/", "POST", pieces(11)) == 413


async def test_a_body_that_is_cut_is_told_even_by_an_app_that_says_nothing() -> None:
    cases = ((b"2000\r\n" + b"x" * 0x2000 + b"\r\n", PATIENCE, b"413"), (b"2\r\nxy\r\n", 0.1, b"408"))
    for body, seconds, expected in cases:
        app = cast("Starlette", ServeGuard(silent, GuardRules(body_bytes=100, body_seconds=seconds)))
        async with served(app) as url, await anyio.connect_tcp("127.0.0.1", URL(url).port or 0) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            with anyio.fail_after(PATIENCE):
                assert (await client.receive()).split()[1] == expected


async def test_an_app_may_wait_for_its_client_to_leave_for_longer_than_for_a_body() -> None:
    async def waiting(scope: object, receive: Callable[[], Awaitable[Mapping[str, object]]], send: GuardSend) -> None:
        assert (await receive())["more_body"] is False
        left = False
        with anyio.move_on_after(0.3):
            left = (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 500 if left else 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    app = cast("Starlette", ServeGuard(waiting, GuardRules(body_seconds=0.1)))
    async with served(app) as url, aiohttp.ClientSession() as session, session.get(url) as reply:
        assert reply.status == 200


async def test_a_request_that_names_two_hosts_is_refused() -> None:
    async with guarded(GuardRules()) as (url, _):
        for hosts in (("evil.example", "127.0.0.1"), ("127.0.0.1", "evil.example"), ("127.0.0.1", "127.0.0.1")):
            named = "".join(f"Host: {host}\r\n" for host in hosts)
            async with await anyio.connect_tcp("127.0.0.1", URL(url).port or 0) as client:
                await client.send(f"GET / HTTP/1.1\r\n{named}Connection: close\r\n\r\n".encode())
                assert (await client.receive()).split()[1] in {b"400", b"421"}, (
                    hosts
                )  # 400: of a server that looks itself


async def test_a_fault_of_the_app_shows_nothing_of_it() -> None:
    async with guarded(GuardRules()) as (url, session), session.get(f"{url}/broken") as reply:
        assert reply.status == 500
        assert "SECRET" not in await reply.text()
        assert reply.headers["x-frame-options"] == "DENY"


async def test_a_token_is_demanded_once_and_kept_as_a_cookie_that_is_not_it() -> None:
    async with guarded(GuardRules(token=TOKEN)) as (url, session):
        async with session.get(f"{url}/play/") as reply:
            assert reply.status == 401
            assert TOKEN not in await reply.text()
        async with session.get(f"{url}/v1/models") as reply:
            assert reply.status == 401
            assert (await reply.json())["error"]["code"] == "invalid_api_key"
        for key, expected in ((TOKEN, 200), (TOKEN + "x", 401), ("", 401)):
            async with session.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}) as reply:
                assert reply.status == expected
        async with session.get(f"{url}/play/?a=1&token={TOKEN}", allow_redirects=False) as reply:
            assert (reply.status, reply.headers["location"]) == (303, "/play/?a=1")
            cookie = reply.headers["set-cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
        async with session.post(f"{url}/play/?q=token=x") as reply:  # the session has the cookie now
            assert reply.status == 200
        mine = cookie.partition(";")[0]
        for others in ('prefs={"a":1}; ', "a[b]=1; ", "x y=1; ", "; =; "):  # of other apps of this host
            async with aiohttp.request("GET", f"{url}/play/", headers={"cookie": others + mine}) as reply:
                assert reply.status == 200, others
        async with session.get(f"{url}//evil.example/?token={TOKEN}", allow_redirects=False) as reply:
            assert reply.status == 400
        session.cookie_jar.clear()
        async with session.post(f"{url}/?token={TOKEN}") as reply:  # an address may be in somebody's log
            assert reply.status == 401
        guesses: list[int] = []
        for number in range(12):
            async with session.get(f"{url}/?token=guess-number-{number}") as reply:
                guesses.append(reply.status)
        assert guesses[-1] == 429
        async with session.get(f"{url}/?token={TOKEN}") as reply:  # the right one is not tried either
            assert reply.status == 429


async def test_a_client_that_comes_too_often_is_told_when_to_come_again() -> None:
    async with guarded(GuardRules(rate=0.01, burst=3)) as (url, session):
        seen: list[tuple[int, bool]] = []
        for _ in range(4):
            async with session.get(url) as reply:
                seen.append((reply.status, int(reply.headers.get("retry-after", "0")) > 50))
        assert seen == [(200, False)] * 3 + [(429, True)]


def test_a_bucket_fills_again_and_the_table_is_bounded() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 3, lambda: now[0], clients=5)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 1.0
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0.5]
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets) == 5


def test_another_address_than_loopback_needs_a_token_that_cannot_be_guessed() -> None:
    for host, token in ((EVERYWHERE, None), ("192.0.2.1", None), ("example.org", None), ("127.0.0.1", "short")):
        with pytest.raises(ConfigurationError, match="token"):
            GuardRules(host=host, token=token)
    for token in (TOKEN + " x", TOKEN + "\n", "\N{OGONEK}" * 20):  # no header can carry it
        with pytest.raises(ConfigurationError, match="token"):
            GuardRules(token=token)
    for name in ("", "http://box.example/", "box example"):
        with pytest.raises(ConfigurationError, match="no name of a host"):
            GuardRules(names=(name,))
    assert KnownHosts("127.0.0.1", ["Box.example.:8000"]).has("box.example")
    assert KnownHosts(EVERYWHERE).has("192.0.2.7:8000")  # an address is no name that could be pointed here
    assert not KnownHosts(EVERYWHERE).has("evil.example")
    assert GuardRules(host="127.9.9.9").token is None


async def test_a_websocket_is_closed() -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def never(*_: object) -> None:
        raise AssertionError

    async def receive() -> dict[str, object]:
        await anyio.sleep_forever()
        raise AssertionError

    await ServeGuard(never, GuardRules())({"type": "websocket"}, receive, send)  # pyright: ignore[reportArgumentType]
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://Chat.Example", "chat.example", True),
        ("http://localhost:8000", "localhost:8001", False),
        ("ftp://localhost", "localhost", False),
        ("null", "null", False),
        ("http://", None, False),
        ("http://", "", False),
        ("http://a b", "a b", False),
    ],
)
def test_a_page_is_of_the_site_that_the_host_names_with_its_port(origin: str, host: str | None, same: bool) -> None:
    assert same_site(origin, host) is same
