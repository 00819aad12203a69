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
import errno
import os
import select
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

import aiohttp
from aiohttp import EMPTY_PAYLOAD, StreamReader
from aiohttp.connector import Connection
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from dhenara_async.config import Timeouts
from dhenara_async.errors import (
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    ReadError,
    StreamStateError,
    TransportError,
)
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Exchange, RequestStarter, header_block_too_large
from dhenara_async.transport.aiohttp_internals import (
    DirectRequest,
    DirectSender,
    ForkSafeConnector,
    Route,
    buffered,
    hang_up,
    logger,
    take,
    usable,
    wait,
)
from dhenara_async.transport.decompression import ACCEPTED, unpacked
from dhenara_async.transport.first_byte import FirstByteTimer
from dhenara_async.transport.open_calls import OpenCalls, broken_off, refused, running_loop
from dhenara_async.transport.proxies import Proxy, proxy_for

Got = TypeVar("Got")

CONNECTING = 100
"""How many connections to one host are made at once: as many as most servers queue, asyncio's too."""

LARGE_BYTES = 1 << 20
"""The size from which a body is sent in pieces: encrypting it at once would block the event loop."""


_PIECE_BYTES = 1 << 18
_POLLS = hasattr(select, "poll")
_FAILURES = (aiohttp.ClientError, HttpProcessingError, TimeoutError, ValueError)  # of a request
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
        except _FAILURES as exc:
            raise _failure(exc, request.max_header_bytes, timeouts) from exc.with_traceback(None)
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
    ) -> "_PendingAiohttp | None":
        """Send a request over an idle connection; None = there is none any more."""
        connection = kept.connector.idle(route.key)
        if connection is None:
            return None
        try:
            protocol = direct.write(connection, route, request)
        except _FAILURES as exc:
            raise _failure(exc, request.max_header_bytes, timeouts) from exc.with_traceback(None)
        return _PendingAiohttp(
            connection, protocol, direct.timer(timeouts.first_byte), request, timeouts, kept.open_calls
        )

    async def _connect_and_start(
        self, kept: "_Kept", direct: DirectSender, route: Route, request: HttpRequest, timeouts: Timeouts
    ) -> "_PendingAiohttp":
        """Send a request over an idle or a new connection."""
        try:
            connection = await direct.connect(route, self._client_timeout(timeouts))
            protocol = direct.write(connection, route, request)
        except _FAILURES as exc:
            if kept.open_calls.closed:  # while a connection was made
                raise broken_off() from exc
            raise _failure(exc, request.max_header_bytes, timeouts) from exc.with_traceback(None)
        return _PendingAiohttp(
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
    ) -> "_Response":
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
            return cast("_Response", response)
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
            limit, seconds = _connecting(timeouts)
            raise DeadlineError(limit=limit, seconds=seconds) from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise _translated(exc, timeouts) from exc
        except (AttributeError, TypeError) as exc:  # another version of aiohttp; the first call connects instead
            logger.warning("warm_up does not work with aiohttp %s: %s", aiohttp.__version__, exc)
            return
        connection.release()

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
        connector = _Connector(
            limit=self._limit, keepalive=self._keepalive, connecting=self._connecting, private=private
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
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
            made = aiohttp.ClientTimeout(total=None, connect=_connecting(timeouts)[1])
            self._last_timeout = (timeouts, made)
        return self._last_timeout[1]


@dataclass(frozen=True, slots=True)
class _Kept:
    """The session of one event loop, its pool, and the generator that closes it; ``direct`` is None if not usable."""

    session: aiohttp.ClientSession
    connector: "_Connector"
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


# The connection that the running task has just made, so that it is not taken for a kept one.
_new: ContextVar[object] = ContextVar("dhenara_async new connection", default=None)


class _Connector(ForkSafeConnector):
    """A pool that makes only so many connections to a host at once, and discards kept ones with unrequested bytes.

    Each host has a semaphore of its own, so that one that does not answer delays no other. The time limit of connecting
    covers the wait for it: many calls of a host that is gone fail as soon as one.

    ``connect`` and ``_create_connection`` are the documented hooks of a connector. Their arguments are passed on as
    they come, whatever a version of aiohttp passes.
    """

    def __init__(self, *, limit: int, keepalive: float, connecting: int, private: bool) -> None:
        super().__init__(limit=limit, keepalive=keepalive, private=private)
        self._most_connecting = connecting
        self._doors: dict[tuple[str | None, int | None], _Door] = {}

    def idle(self, key: Any) -> Connection | None:
        """Return a kept connection that has received nothing since its last response; None = there is none.

        Bytes that a host sent unasked would be read as the response to the next request, maybe of another tenant.

        Args:
            key: The key of the connection in the pool.
        """
        while True:
            connection = self.take_idle(key)
            if connection is None or not _has_received(connection):
                return connection
            hang_up(connection)

    async def connect(self, *args: Any, **more: Any) -> Connection:
        """Return a new connection, or a kept one as ``idle`` does."""
        while True:
            connection = await super().connect(*args, **more)
            made = _new.get()
            if made is not None:
                _new.set(None)
            if made is connection.protocol or not _has_received(connection):
                return connection
            hang_up(connection)

    async def _create_connection(self, req: aiohttp.ClientRequest, *args: Any, **more: Any) -> Any:
        """Make a connection; called by ``connect`` within the time limit."""
        key = (req.url.host, req.url.port)
        door = self._doors.get(key)
        if door is None:
            door = self._doors[key] = _Door(asyncio.Semaphore(self._most_connecting))
        door.users += 1
        try:
            async with door.opens:
                made = await super()._create_connection(req, *args, **more)
                _new.set(made)
                return made
        finally:
            door.users -= 1
            if not door.users:
                del self._doors[key]


@dataclass(slots=True)
class _Door:
    """Limits how many connections to one host are being made; kept while there are any."""

    opens: asyncio.Semaphore
    users: int = 0


def _has_received(connection: Connection) -> bool:
    """Whether a kept connection is closed, or has bytes to read although no request was sent over it."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    raw = transport.get_extra_info("socket")
    if raw is None:
        return False
    number = raw.fileno()
    if number < 0:
        return True
    if _POLLS:
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([raw], [], [], 0)[0])


class _PendingAiohttp(DirectRequest):
    """A request that was sent directly; see ``PendingResponse``."""

    __slots__ = ("_max_header_bytes", "_timeouts")

    def __init__(
        self,
        connection: Connection,
        protocol: Any,
        timer: FirstByteTimer | None,
        request: HttpRequest,
        timeouts: Timeouts,
        open_calls: OpenCalls,
    ) -> None:
        super().__init__(connection, protocol, timer)
        self._max_header_bytes = request.max_header_bytes  # and not the request: its body may be large
        self._timeouts = timeouts
        open_calls.add(self)

    async def head(self) -> Exchange:
        """See ``PendingResponse``."""
        try:
            message, content = await self.next_head()
            while 100 <= message.code < 200 and message.code != 101:  # informational, not the response yet
                message, content = await self.next_head()
            self.begin(content)
        except asyncio.CancelledError:  # the wait can be repeated
            raise
        except (DeadlineError, StreamStateError):
            self.close()
            raise
        except _FAILURES as exc:
            self.close()
            raise _failure(exc, self._max_header_bytes, self._timeouts) from exc.with_traceback(None)
        except BaseException:
            self.close()
            raise
        return unpacked(AiohttpExchange(self, content, message.code, message.headers, self._timeouts, private=True))


class _Response(aiohttp.ClientResponse):
    """A response whose connection is closed with it at any time, also before its head has arrived.

    It keeps its connection's protocol, which knows how the connection ended: aiohttp drops it at the end of the body.
    """

    protocol: Any = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self.protocol = connection.protocol
        return await super().start(connection)

    def close(self) -> None:
        if self.connection is not None:
            hang_up(self.connection)
        super().close()


class AiohttpExchange:
    """A response; see ``Exchange``.

    aiohttp's own ``sock_read`` limit moves a timer at every read, which costs more than decoding the token that was
    read. Here one timer a stream looks from time to time whether a read has been waiting for too long.
    """

    repeatable: Final = True

    __slots__ = (
        "__weakref__",
        "_at_once",
        "_content",
        "_loop",
        "_response",
        "_silent",
        "_timeouts",
        "_waiting_since",
        "_watch",
        "headers",
        "status",
    )

    def __init__(
        self,
        response: DirectRequest | _Response,
        content: StreamReader,
        status: int,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        *,
        private: bool,
    ) -> None:
        self._response = response
        self._content = content
        self._at_once = private and content is not EMPTY_PAYLOAD
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._silent = 0.0  # seconds that cancelled reads have waited
        self._watch: asyncio.TimerHandle | None = None  # set from the first read that has to wait
        self.status: int = status
        self.headers: Mapping[str, str] = headers

    async def read(self) -> bytes:
        """See ``Exchange``. Never by line, because a line has no size limit."""
        content = self._content
        try:
            chunk = take(content) if self._at_once else None
            while chunk is None:  # one function: each coroutine below the reader is resumed for every token
                self._waiting_since = self._loop.time() - self._silent
                if self._watch is None and self._timeouts.between_bytes is not None:
                    self._look(self._timeouts.between_bytes)
                if self._at_once:
                    await wait(content)
                    chunk = take(content)
                else:
                    chunk = await content.readany()
        except asyncio.CancelledError:  # the reader may come back; the host's silence continues
            if self._waiting_since is not None:
                self._silent = self._loop.time() - self._waiting_since
                self._waiting_since = None
            raise
        except (DeadlineError, StreamStateError):  # raised by ``interrupt``
            self._stop_watching()
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            self._stop_watching()
            rest = b"" if content.exception() is None else buffered(content)
            if rest:
                return rest  # the next read raises
            raise _translated(exc, self._timeouts) from exc
        self._waiting_since, self._silent = None, 0.0
        if not chunk:
            self._stop_watching()
            if self._was_reset():
                raise ReadError("the connection broke: it was reset, in a body that only its end would have ended")
        return chunk

    def _was_reset(self) -> bool:
        """Whether a body without a length was cut by a reset, which aiohttp reports as a normal end.

        Other failures there are hosts that close without TLS's goodbye, as many do after a complete response.
        """
        response, headers = self._response, self.headers
        if "content-length" in headers or "transfer-encoding" in headers:
            return False
        failure = None if response.protocol is None else response.protocol.exception()
        return isinstance(failure, aiohttp.ClientOSError) and failure.errno == errno.ECONNRESET

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._content.set_exception(error)

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._content.at_eof() and not self._was_reset()

    async def close(self) -> None:
        """See ``Exchange``. Closing does not await in aiohttp, so it cannot be cancelled."""
        self._stop_watching()
        self._response.close()

    def _look(self, limit: float) -> None:
        """Fail a read that has waited for ``limit`` seconds; otherwise check again when it will have."""
        waited = 0.0 if self._waiting_since is None else self._loop.time() - self._waiting_since
        if waited >= limit:
            self._content.set_exception(aiohttp.SocketTimeoutError())
        else:
            self._watch = self._loop.call_later(limit - waited, self._look, limit)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _connecting(timeouts: Timeouts) -> tuple[str, float | None]:
    """Return the time limit of connecting, and its seconds; None = no limit."""
    connect, first_byte = timeouts.connect, timeouts.first_byte
    if first_byte is not None and (connect is None or first_byte < connect):
        return "first_byte", first_byte
    return "connect", connect


def _failure(exc: Exception, max_header_bytes: int, timeouts: Timeouts) -> DhenaraError:
    """Translate the failure of a request.

    Raise it from ``exc.with_traceback(None)``: among the locals of aiohttp's frames are the headers with the key.
    """
    return header_block_too_large(max_header_bytes) if _is_head_too_large(exc) else _translated(exc, timeouts)


def _is_head_too_large(exc: BaseException) -> bool:
    """Whether the head of a response was too large for aiohttp, or had too many headers."""
    if isinstance(exc, LineTooLong) or (isinstance(exc, BadHttpMessage) and "Too many headers" in exc.message):
        return True
    return exc.__cause__ is not None and _is_head_too_large(exc.__cause__)


_PROXY_REFUSES = frozenset({400, 401, 403, 405, 407})  # final: a retry would get the same answer


def _translated(exc: Exception, timeouts: Timeouts) -> TransportError | ConfigurationError:
    """Translate an exception of aiohttp."""
    match exc:
        case aiohttp.ConnectionTimeoutError():
            limit, seconds = _connecting(timeouts)
            return DeadlineError(limit=limit, seconds=seconds)
        case aiohttp.SocketTimeoutError():
            return DeadlineError(limit="between_bytes", seconds=timeouts.between_bytes)
        case TimeoutError():
            return ConnectError("no connection: looking up or connecting took longer than the system waits")
        case aiohttp.InvalidURL():
            return ConfigurationError("the base_url of the endpoint is not a URL")
        case aiohttp.ClientConnectionResetError():
            return ConnectError("a kept connection had been closed by the host; nothing was sent over it")
        case aiohttp.ClientProxyConnectionError():
            return ConnectError(f"no connection to the proxy of the environment, {exc.host}:{exc.port}: {exc.os_error}")
        case aiohttp.ClientConnectorError():
            return ConnectError(f"no connection to {exc.host}:{exc.port}: {exc.os_error}")
        case aiohttp.ClientHttpProxyError():
            _forget_headers(exc)
            refused = ConnectError(f"no connection: the proxy from the environment answered {exc.status}")
            refused.retryable = exc.status not in _PROXY_REFUSES
            return refused
        case aiohttp.ClientResponseError():
            _forget_headers(exc)
            return ReadError(f"the connection broke: {type(exc).__name__}")
        case aiohttp.ClientError() | HttpProcessingError():
            return ReadError(f"the connection broke: {type(exc).__name__}")
        case _:
            return ConfigurationError("a header of the request holds characters that cannot be sent")


def _forget_headers(exc: aiohttp.ClientResponseError) -> None:
    """Remove the headers from aiohttp's exception: its text quotes the request, with the key."""
    exc.request_info = exc.request_info._replace(headers=CIMultiDictProxy(CIMultiDict[str]()))
    exc.args = (exc.request_info, exc.history)
