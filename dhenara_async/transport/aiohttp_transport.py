"""The default transport: aiohttp, without the features that a stream does not need.

No cookie jar, no redirects, no total time limit, proxies from the environment. The TLS context is aiohttp's, made once
for the process, when this module is imported. A pool belongs to the event loop it was made in, so a transport keeps one
session a loop, and closes it when its loop ends.

Thousands of streams at once share one lookup of their host (aiohttp has them wait for the first) and shake hands by the
hundred: a host queues only so many connections that nobody has accepted yet, and handshakes that are all begun together
all end together, late. TLS sessions are not resumed, for which asyncio has no means: what saves handshakes is the pool.

Source: https://docs.aiohttp.org/en/stable/client_reference.html (read 2026-11-22)
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar, cast
from weakref import WeakSet

import aiohttp
from yarl import URL

from dhenara_async.config import Timeouts
from dhenara_async.errors import ConfigurationError, DeadlineError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Exchange, RequestStarter
from dhenara_async.transport.aiohttp_exchange import AiohttpExchange, HeldResponse, PendingAiohttp
from dhenara_async.transport.aiohttp_failures import FAILURES, connecting_limit, failure_of_request, translated
from dhenara_async.transport.aiohttp_internals import DirectSender, Route, logger, usable
from dhenara_async.transport.aiohttp_pool import AiohttpPool
from dhenara_async.transport.decompression import ACCEPTED, unpacked
from dhenara_async.transport.open_calls import OpenCalls, broken_off, refused, running_loop
from dhenara_async.transport.proxies import Proxy, proxy_for

Got = TypeVar("Got")

CONNECTING = 100
"""How many connections to one host are made at once: as many as most servers queue, asyncio's too."""

LARGE_BYTES = 1 << 20
"""The size from which a body is sent in pieces: encrypting it at once would block the event loop."""


_PIECE_BYTES = 1 << 18
_HOSTS = 1000  # the size of the proxy cache


class AiohttpTransport:
    """Sends requests by aiohttp, in any number of event loops, one after another or in several threads.

    A process that was forked makes connections of its own, and leaves those of its parent alone.

    Args:
        limit: The most connections at once; 0 = no limit.
        connecting: The most connections to one host that are being made at once; the others wait, which counts as
            connecting (``Timeouts.connect``).
        keepalive: Seconds an idle connection is kept.
        trust_env: Whether ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` are honoured. They are read
            once for each host; ``.netrc`` is not read, since every host here wants a key.
    """

    def __init__(
        self, *, limit: int = 0, connecting: int = CONNECTING, keepalive: float = 30.0, trust_env: bool = True
    ) -> None:
        if connecting < 1:
            raise ConfigurationError("connecting is how many connections to a host are made at once: 1 or more")
        self._limit = limit
        self._connecting = connecting
        self._keepalive = keepalive
        self._trust_env = trust_env
        self._sessions: dict[asyncio.AbstractEventLoop, _Kept] = {}
        self._process = os.getpid()
        self._closed: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._proxies: dict[tuple[str, str | None, int | None], Proxy | None] = {}
        self._last_timeout: tuple[Timeouts, aiohttp.ClientTimeout] | None = None

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``."""
        loop = running_loop()
        kept = self._sessions.get(loop) or await self._keep(loop)
        return await kept.open_calls.run(self._send(kept, request, timeouts))

    async def _send(self, kept: "_Kept", request: HttpRequest, timeouts: Timeouts) -> Exchange:
        direct = kept.direct
        route = None if direct is None else direct.find(request)
        proxy: Proxy | None = None
        if route is None:
            url = URL(request.url, encoded=True)
            proxy = self._proxy_for(url)
            route = direct.learn(request, url) if proxy is None and direct is not None else None
        if direct is not None and route is not None:
            pending = await self._connect_and_start(kept, direct, route, request, timeouts)
            try:
                return await pending.head()
            except BaseException:
                pending.close()
                raise
        try:
            response = await self._by_session(kept.session, request, timeouts, proxy)
        except DeadlineError:
            raise
        except FAILURES as exc:
            raise failure_of_request(exc, request.max_header_bytes, timeouts) from exc.with_traceback(None)
        exchange = AiohttpExchange(
            response, response.content, response.status, response.headers, timeouts, private=direct is not None
        )
        kept.open_calls.add(exchange)
        return unpacked(exchange)

    def starter(self, request: HttpRequest) -> RequestStarter | None:
        """See ``StartsRequests``: for short requests to a host that a kept connection leads to."""
        try:
            kept = self._sessions.get(asyncio.get_running_loop())
        except RuntimeError:
            return None
        direct = None if kept is None else kept.direct
        route = None if direct is None else direct.open_route(request)
        return None if kept is None or direct is None or route is None else partial(self._start, kept, direct, route)

    def _start(
        self, kept: "_Kept", direct: DirectSender, route: Route, request: HttpRequest, timeouts: Timeouts
    ) -> PendingAiohttp | None:
        """Send a request over an idle connection; None = there is none any more."""
        connection = kept.connector.idle(route.key)
        if connection is None:
            return None
        try:
            protocol = direct.write(connection, route, request)
        except FAILURES as exc:
            raise failure_of_request(exc, request.max_header_bytes, timeouts) from exc.with_traceback(None)
        return PendingAiohttp(
            connection, protocol, direct.timer(timeouts.first_byte), request, timeouts, kept.open_calls
        )

    async def _connect_and_start(
        self, kept: "_Kept", direct: DirectSender, route: Route, request: HttpRequest, timeouts: Timeouts
    ) -> PendingAiohttp:
        """Send a request over an idle or a new connection."""
        try:
            connection = await direct.connect(route, self._client_timeout(timeouts))
            protocol = direct.write(connection, route, request)
        except FAILURES as exc:
            if kept.open_calls.closed:  # while a connection was made
                raise broken_off() from exc
            raise failure_of_request(exc, request.max_header_bytes, timeouts) from exc.with_traceback(None)
        return PendingAiohttp(
            connection, protocol, direct.timer(timeouts.first_byte), request, timeouts, kept.open_calls
        )

    async def while_open(self, work: Coroutine[object, object, Got]) -> Got:
        """See ``EndsWaits``."""
        try:
            loop = running_loop()
            kept = self._sessions.get(loop) or await self._keep(loop)
        except BaseException:
            work.close()
            raise
        return await kept.open_calls.run(work)

    async def _by_session(
        self,
        session: aiohttp.ClientSession,
        request: HttpRequest,
        timeouts: Timeouts,
        proxy: Proxy | None,
    ) -> HeldResponse:
        """Send a request by the session: for proxies, large bodies and traced sessions."""
        body = request.body
        more = {"content-length": str(len(body))} if len(body) >= LARGE_BYTES else {}
        # no secret is a local variable here: error reporters show those
        request = replace(request, headers={"accept-encoding": ACCEPTED, **request.headers, **more})
        if proxy is not None and proxy.authorization is not None and not request.url.startswith("https:"):
            request = replace(request, headers={**request.headers, "proxy-authorization": proxy.authorization})
        silence = asyncio.timeout(timeouts.first_byte)
        try:
            async with silence:
                response = await session.post(
                    URL(request.url, encoded=True),
                    data=body if len(body) < LARGE_BYTES else _Pieces(body),
                    headers=request.headers,
                    timeout=self._client_timeout(timeouts),
                    allow_redirects=False,
                    proxy=None if proxy is None else proxy.address,
                    proxy_headers=_for_tunnels(proxy) if request.url.startswith("https:") else None,
                    max_line_size=request.max_header_bytes,
                    max_field_size=request.max_header_bytes,
                )
        except TimeoutError:
            if not silence.expired():
                raise
        else:
            return cast("HeldResponse", response)
        raise DeadlineError(limit="first_byte", seconds=timeouts.first_byte)

    async def warm_up(self, url: str, timeouts: Timeouts) -> None:
        """See ``WarmsUp``. A connection that nothing is sent over is kept as long as any other idle one."""
        loop = running_loop()
        kept = self._sessions.get(loop) or await self._keep(loop)
        await kept.open_calls.run(self._connect(kept, url, timeouts))

    async def _connect(self, kept: "_Kept", url: str, timeouts: Timeouts) -> None:
        address = URL(url, encoded=True)
        proxy = self._proxy_for(address)
        loop = asyncio.get_running_loop()
        try:
            request = aiohttp.ClientRequest(
                "POST",
                address,
                loop=loop,
                session=kept.session,
                proxy=None if proxy is None else proxy.address,
                proxy_headers=_for_tunnels(proxy) if address.scheme == "https" else None,
            )  # never sent: selects a connection of the pool
            connection = await kept.connector.connect(request, [], self._client_timeout(timeouts))
        except TimeoutError as exc:
            limit, seconds = connecting_limit(timeouts)
            raise DeadlineError(limit=limit, seconds=seconds) from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise translated(exc, timeouts) from exc
        except (AttributeError, TypeError) as exc:  # another version of aiohttp; the first call connects instead
            logger.warning("warm_up does not work with aiohttp %s: %s", aiohttp.__version__, exc)
            return
        kept.connector.keep_unused(connection)

    async def aclose(self) -> None:
        """See ``Transport``. It is closed for the running loop. Other loops have their own connections, which they
        close, or which end with them."""
        loop = running_loop()
        self._closed.add(loop)
        kept = self._sessions.pop(loop, None)
        if kept is not None:
            kept.open_calls.end()
            await kept.until_the_end.aclose()

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> "_Kept":
        if loop in self._closed:
            raise refused()
        if os.getpid() != self._process:
            self._leave_to_the_parent()
        for other in list(self._sessions):
            # the loop ended without closing its generators: close the session; its sockets are freed with the loop
            if other.is_closed() and (gone := self._sessions.pop(other, None)) is not None:
                await gone.session.close()
        private = usable()
        connector = AiohttpPool(
            limit=self._limit, keepalive=self._keepalive, connecting=self._connecting, private=private
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=HeldResponse,
            auto_decompress=False,
        )
        until_the_end = self._until_the_end(loop, session)
        direct = DirectSender(session, connector) if private else None
        kept = self._sessions[loop] = _Kept(session, connector, direct, until_the_end)
        await anext(kept.until_the_end)  # does not wait, so no other task can make a session for this loop meanwhile
        return kept

    async def _until_the_end(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
    ) -> AsyncGenerator[None]:
        """Closes ``session`` when it is closed: an ending event loop closes its asynchronous generators."""
        try:
            yield
        finally:
            self._sessions.pop(loop, None)
            await session.close()

    def _leave_to_the_parent(self) -> None:
        """Forget the connections inherited from the parent process without closing them: the parent uses them."""
        inherited, self._sessions = self._sessions, {}
        self._process = os.getpid()
        for kept in inherited.values():
            kept.session.detach()

    def _proxy_for(self, url: URL) -> Proxy | None:
        """Return the proxy of a URL, cached by host: aiohttp would read a file in a thread for each request."""
        if not self._trust_env:
            return None
        key = (url.scheme, url.host, url.port)
        if key not in self._proxies:
            if len(self._proxies) >= _HOSTS:
                self._proxies.clear()
            self._proxies[key] = proxy_for(url)
        return self._proxies[key]

    def _client_timeout(self, timeouts: Timeouts) -> aiohttp.ClientTimeout:
        """Build aiohttp's timeouts. Most calls share their config, so the last object is cached."""
        if self._last_timeout is None or self._last_timeout[0] is not timeouts:
            made = aiohttp.ClientTimeout(total=None, connect=connecting_limit(timeouts)[1])
            self._last_timeout = (timeouts, made)
        return self._last_timeout[1]


@dataclass(frozen=True, slots=True)
class _Kept:
    """The session of one event loop, its pool, and the generator that closes it; ``direct`` is None if not usable."""

    session: aiohttp.ClientSession
    connector: AiohttpPool
    direct: DirectSender | None
    until_the_end: AsyncGenerator[None]
    open_calls: OpenCalls = field(default_factory=OpenCalls)


def _for_tunnels(proxy: Proxy | None) -> Mapping[str, str] | None:
    """Return the headers of the tunnel request to a proxy; None = no headers."""
    if proxy is None or proxy.authorization is None:
        return None
    return {"proxy-authorization": proxy.authorization}


class _Pieces:
    """A large body, sent in pieces; other tasks run between two pieces."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._sent = 0

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        piece = self._body[self._sent : self._sent + _PIECE_BYTES]
        if not piece:
            raise StopAsyncIteration
        if self._sent:
            await asyncio.sleep(0)
        self._sent += len(piece)
        return piece
