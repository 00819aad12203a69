"""``ServeGuard``: what stands before the app of ``dhenara-async serve``, as an ASGI middleware.

In this order: the path is plain, the host is known, the client does not come too often, the request comes from the
server's own pages, the token is right, and the body is neither too large nor too slow. Every response gets the security
headers.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html, https://web.dev/articles/fetch-metadata (read 2026-11-28)
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from math import ceil
from time import monotonic
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import anyio

from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.web.openai.errors import OpenAIError
from dhenara_async.web.playground.security import HEADERS
from dhenara_async.web.serving.buckets import Buckets
from dhenara_async.web.serving.hosts import KnownHosts, host_name, is_loopback, same_site

GuardScope = MutableMapping[str, Any]
GuardMessage = MutableMapping[str, Any]
GuardReceive = Callable[[], Awaitable[GuardMessage]]
GuardSend = Callable[[GuardMessage], Awaitable[None]]
GuardedApp = Callable[[GuardScope, GuardReceive, GuardSend], Awaitable[None]]

SHORTEST_TOKEN = 12
"""Characters of a token at least."""

_TOKEN = re.compile(rf"[!-~]{{{SHORTEST_TOKEN},}}")

_TRICKS = (b"\\", b"%2e", b"%2f", b"%5c", b"%00", b"%25")
_WORDS: Mapping[int, str] = {
    400: "The path of this address is not plain.",
    401: "Open the address that the server has printed, with ?token= at its end; or send the token as a bearer key.",
    403: "This server does not take requests from other sites.",
    408: "The body of the request did not come in time.",
    413: "The body is too large.",
    421: "This server is not called that: use the address that it has printed, or --allow-host NAME.",
    429: "Too many requests at the moment. Try again later.",
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GuardRules(ShortRepr):
    """The rules for requests that a guard lets through.

    Attributes:
        host: The address that the server listens at.
        token: The secret that clients have to send; None = none is needed, on a loopback address only.
        names: Further names of the server.
        body_bytes: Bytes of one request body.
        body_seconds: Seconds from one piece of a body to the next.
        rate: Requests of one client a second, in the long run.
        burst: Requests of one client at once.
        api: The beginning of the paths of the API, whose errors are in OpenAI's shape.

    Raises:
        ConfigurationError: There is no token for another address than loopback, or one that can be guessed or cannot be
            sent in a header; or a further name is none.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    names: Collection[str] = ()
    body_bytes: int = 32 * 1024 * 1024
    body_seconds: float = 30.0
    rate: float = 50.0
    burst: int = 300
    api: str = "/v1"

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigurationError(f"{self.host} can be reached from other computers: give --token")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ConfigurationError(
                f"a token has at least {SHORTEST_TOKEN} characters, all of them ASCII, and no space"
            )
        for name in self.names:
            if host_name(name) is None:
                raise ConfigurationError(f"{name!r} is no name of a host: write it as in box.example")


class ServeGuard:
    """An ASGI app before another one. See the module.

    Args:
        app: The app behind the guard.
        rules: The rules for requests.
        clock: Returns seconds.
    """

    def __init__(self, app: GuardedApp, rules: GuardRules, *, clock: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._rules = rules
        self._hosts = KnownHosts(rules.host, rules.names)
        self._requests = Buckets(rules.rate, rules.burst, clock)
        self._guesses = Buckets(0.2, 10, clock)
        self._token = None if rules.token is None else rules.token.encode()
        # not the token itself, so that a cookie that leaks is of no use as a key
        self._proof = "" if self._token is None else hmac.new(self._token, b"cookie", sha256).hexdigest()

    async def __call__(self, scope: GuardScope, receive: GuardReceive, send: GuardSend) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        passing = _Passing(scope, receive, send, self._rules)
        client = _client_of(scope)
        status, more = self._verdict(scope, passing.headers, client)
        if status == 303:
            await passing.redirect(more)
        elif status != 200:
            await passing.refuse(status, more)
        elif passing.declared > self._rules.body_bytes:
            await passing.refuse(413)
        else:
            await self._passed_on(scope, passing)

    async def _passed_on(self, scope: GuardScope, passing: "_Passing") -> None:
        try:
            await self._app(scope, passing.receive, passing.send)
        except Exception:  # the app may take the end of a body that was cut for a fault
            if passing.cut is None:
                raise
        await passing.finish()

    def _verdict(
        self, scope: GuardScope, headers: Mapping[str, str], client: str
    ) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        """Return 200 for a request to pass on, else the status of its refusal, and further headers."""
        if not _is_plain(scope):
            return 400, ()
        if _has_many_hosts(scope) or not self._hosts.has(headers.get("host")):
            return 421, ()
        wait = self._requests.take(client)
        if wait:
            return 429, [(b"retry-after", b"%d" % ceil(wait))]
        if not _is_own(scope, headers):
            return 403, ()
        if self._token is None:
            return 200, ()
        return self._asked_for_token(scope, headers, client, self._token)

    def _asked_for_token(
        self, scope: GuardScope, headers: Mapping[str, str], client: str, token: bytes
    ) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        """Return the verdict on the token of a request: a bearer key, a cookie, or a part of the address."""
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        in_address = next((value for name, value in query if name == "token"), None) if _is_read(scope) else None
        wait = self._guesses.wait(client)
        if in_address is not None and not wait and _equal(in_address, token):
            return 303, self._into_cookie(scope, urlencode([(name, value) for name, value in query if name != "token"]))
        cookie = _cookie_of(headers.get("cookie", ""), self._cookie_name(scope))
        if cookie is not None and _equal(cookie, self._proof.encode()):
            return 200, ()
        kind, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip() if kind.lower() == "bearer" else None
        if given is None and in_address is None:
            return 401, [(b"www-authenticate", b"Bearer")]
        if wait:
            return 429, [(b"retry-after", b"%d" % ceil(wait))]
        if given is not None and _equal(given, token):
            return 200, ()
        self._guesses.take(client)
        return 401, [(b"www-authenticate", b"Bearer")]

    def _into_cookie(self, scope: GuardScope, rest: str) -> Sequence[tuple[bytes, bytes]]:
        """Return the headers that send a browser to the same address without the token, which it keeps as a cookie."""
        path = scope.get("raw_path") or str(scope["path"]).encode(errors="replace")
        place = b"/" + path.lstrip(b"/") + (f"?{rest}".encode() if rest else b"")
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        kept = f"{self._cookie_name(scope)}={self._proof}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return [(b"location", place), (b"set-cookie", kept.encode())]

    def _cookie_name(self, scope: GuardScope) -> str:
        """Return the name of the cookie: cookies do not tell ports apart, and there may be several servers."""
        server = scope.get("server") or ("", 0)
        return f"dhenara-async-{server[1] or 0}"


class _Passing:
    """One request on its way: counts its body, and adds the headers to its response.

    Args:
        scope: The request.
        receive: Where its body comes from.
        send: Where its response goes.
        rules: How long the body may be.

    Attributes:
        headers: The headers of the request, names in lower case.
        declared: The length of the body that they tell.
        cut: The status that says why the body was cut; None = it was not.
    """

    def __init__(self, scope: GuardScope, receive: GuardReceive, send: GuardSend, rules: GuardRules) -> None:
        self._receive = receive
        self._send = send
        self._rules = rules
        self._api = str(scope["path"]).startswith(rules.api + "/")
        self._size = 0
        self._begun = self._refused = self._has_body = False
        self.cut: int | None = None
        raw = cast("Sequence[tuple[bytes, bytes]]", scope["headers"])
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw
        }
        length = self.headers.get("content-length", "0")
        self.declared: int = int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else 1 << 62

    async def receive(self) -> GuardMessage:
        """Return the next piece of the body; one that is too large or too slow ends as if the client had left."""
        # behind the body an app waits for the client to leave, however long that takes
        with anyio.move_on_after(None if self._has_body else self._rules.body_seconds):
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._size += len(message.get("body", b""))
            if self._size <= self._rules.body_bytes:
                self._has_body = not message.get("more_body", False)
                return message
            self.cut = 413
        self.cut = self.cut or 408
        return {"type": "http.disconnect"}

    async def send(self, message: GuardMessage) -> None:
        """Send a piece of the response."""
        await self.finish()
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": _secured(message.get("headers", ()))}
        await self._send(message)

    async def finish(self) -> None:
        """Say why the body was cut, unless a response has begun."""
        if self.cut is not None and not self._begun:
            await self.refuse(self.cut)

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole response that says why."""
        self._begun = self._refused = True
        words = _WORDS[status]
        code = "invalid_api_key" if status == 401 else None
        body = OpenAIError(status, words, code).body if self._api else words.encode()
        media_type = b"application/json" if self._api else b"text/plain; charset=utf-8"
        await self._whole(status, [(b"content-type", media_type), *headers], body)

    async def redirect(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the client to the address without the token."""
        await self._whole(303, headers, b"")

    async def _whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        told = [*headers, (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": status, "headers": _secured(told)})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _secured(headers: Collection[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    known = {name.lower() for name, _ in headers}
    missing = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in known]
    return [*headers, *missing]


def _is_plain(scope: GuardScope) -> bool:
    """Whether a path has nothing that servers, proxies and disks read differently."""
    raw = scope.get("raw_path")
    path = (raw if isinstance(raw, bytes) else str(scope["path"]).encode(errors="replace")).lower()
    steps = path.split(b"/")
    tricks = b"" in steps[1:-1] or b"." in steps or b".." in steps or any(trick in path for trick in _TRICKS)
    return path.startswith(b"/") and not tricks and all(0x20 < byte < 0x7F for byte in path)


def _has_many_hosts(scope: GuardScope) -> bool:
    """Whether a request names several hosts: a proxy may go by another one than this server."""
    return sum(name.lower() == b"host" for name, _ in scope["headers"]) > 1


def _is_own(scope: GuardScope, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a page of this server, from no page at all, or opens a page."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin == "null" and site == "same-origin":  # some browsers hide it from pages without a referrer
        return True
    if origin is not None:
        return same_site(origin, headers.get("host"))
    if site is None or site in {"same-origin", "none"}:
        return True
    opens = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return opens and _is_read(scope)


def _is_read(scope: GuardScope) -> bool:
    return scope["method"] in {"GET", "HEAD"}


def _equal(given: str, known: bytes) -> bool:
    """Compare in a time that tells nothing of the difference."""
    return hmac.compare_digest(given.encode(errors="replace"), known)


def _client_of(scope: GuardScope) -> str:
    """Return the client that the requests are counted for: an address, or the network of an IPv6 address."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(int(address) >> 64)
    return host


def _cookie_of(header: str, name: str) -> str | None:
    """Return the value of a cookie, whatever others there are: all apps of a host share theirs, well formed or not."""
    for pair in header.split(";"):
        given, _, value = pair.partition("=")
        if given.strip() == name:
            return value.strip()
    return None
