"""Everything that this library uses of aiohttp's private parts, behind one switch. No other file touches them.

- ``DirectSender`` sends short requests over aiohttp's pool without ``ClientSession``, which merges headers and cookies,
  follows redirects, calls tracers and starts a task to write the body: half of the processor time of a short call.
- ``take`` and ``wait`` read a body's buffer in one go. ``readany`` does so chunk by chunk and resumes the connection at
  each: a third of the processor time of a token.
- ``LastWordsProtocol`` receives the answer of a host that refuses a request while it is being sent and closes the
  connection at once. A failed write makes asyncio drop what was received, and the answer (a 413, say) would be lost.

``reason_against`` is the switch. These parts are used only with the versions that they were tested with, and only while
every attribute is there; otherwise the transport uses aiohttp's public interface and logs that once. The environment
variable ``DHENARA_AIOHTTP_INTERNALS=0`` turns them off. Connections, TLS, name look-ups, the pool and the parser are
aiohttp's in either case.

``ForkSafeConnector`` and ``buffered`` are outside of the switch: they do nothing where aiohttp has no such attribute.

Source: aiohttp 3.14.5, ``client.py``, ``client_reqrep.py``, ``client_proto.py``, ``connector.py`` and ``streams.py``;
CPython 3.11 to 3.14, ``asyncio/selector_events.py`` and ``sslproto.py`` (read 2026-11-28)
"""

# pyright: reportPrivateUsage=false

import asyncio
import logging
import os
import socket
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp import ClientConnectionError, StreamReader
from multidict import CIMultiDict
from yarl import URL

from dhenara_async.request import HttpRequest
from dhenara_async.transport.decompression import ACCEPTED
from dhenara_async.transport.first_byte import FirstByteTimer

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import BaseConnector, Connection
    from aiohttp.helpers import BaseTimerContext
    from aiohttp.http import RawResponseMessage

logger: logging.Logger = logging.getLogger("dhenara_async")


# ------------------------------------------------------------------------------------------------ the switch

VARIABLE = "DHENARA_AIOHTTP_INTERNALS"
TESTED_VERSIONS = ("3.14.",)

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "aiohttp.http_writer": ("_serialize_headers",),
    "aiohttp.helpers": ("TimerNoop",),
    "aiohttp.client_proto:ResponseHandler": (
        *("connected", "read", "set_response_params", "set_exception", "resume_reading", "data_received"),
        *("connection_lost", "transport", "_reading_paused"),
    ),
    "aiohttp.streams:StreamReader": (
        *("_buffer", "_buffer_offset", "_cursor", "_eof", "_exception", "_http_chunk_splits", "_loop", "_protocol"),
        *("_read_nowait", "_size", "_waiter", "on_eof"),
    ),
    "aiohttp:TCPConnector": ("connect", "_get", "_release"),
    "aiohttp:ClientRequest": ("connection_key",),
    "aiohttp:ClientSession": ("_request", "trace_configs"),
}
"""The attributes that must be there, by the module, or ``module:class``, that has them."""

_logged: set[str] = set()  # reasons; at most one for each version of aiohttp that a process sees


def reason_against() -> str | None:
    """Return why the public interface has to be used; None = the private parts may be used."""
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE}=0 is set"
    if not aiohttp.__version__.startswith(TESTED_VERSIONS):
        return f"aiohttp {aiohttp.__version__} is not one of the versions that were tested ({TESTED_VERSIONS[0]}x)"
    missing = [f"{owner}.{name}" for owner, names in REQUIRED.items() for name in names if not _has(owner, name)]
    return f"aiohttp {aiohttp.__version__} lacks {', '.join(missing)}" if missing else None


def usable() -> bool:
    """Whether the private parts may be used; logs once for each reason against it."""
    reason = reason_against()
    if reason is not None and reason not in _logged:
        _logged.add(reason)
        level = logging.DEBUG if os.environ.get(VARIABLE) == "0" else logging.WARNING
        logger.log(level, "calls go through aiohttp's public interface, which takes more processor time: %s", reason)
    return reason is None


def _has(owner: str, name: str) -> bool:
    return hasattr(_find(owner), name)


def _find(owner: str) -> object:
    """Return a module, or the class of a ``module:class``; None if there is none."""
    module, _, attribute = owner.partition(":")
    try:
        found: object = import_module(module)
    except ImportError:
        return None
    return getattr(found, attribute, None) if attribute else found


# ------------------------------------------------------------------------------------------------ sending

DIRECT_BYTES = 1 << 16
"""The largest body that is sent directly: a larger one may not fit into the socket, and waits as only a task can."""

_serialize_headers = cast(
    "Callable[[str, CIMultiDict[str]], bytes]", getattr(_find("aiohttp.http_writer"), "_serialize_headers", None)
)
_NO_TIMER = cast("BaseTimerContext", getattr(_find("aiohttp.helpers"), "TimerNoop", object)())
_MOST_ROUTES = 1000
# aiohttp's own function that sends a session's requests; None where a tracer or test tool had replaced it at import.
_request = getattr(aiohttp.ClientSession, "_request", None)
_name = getattr(getattr(_request, "__code__", None), "co_qualname", "")
_REAL: object = _request if _name == "ClientSession._request" else None


@dataclass(slots=True)
class Route:
    """The common part of all requests for one URL.

    Attributes:
        example: Selects a connection of the pool, or says how to make one; never sent.
        line: The first line of a request.
        key: The key of the connection in the pool.
    """

    example: aiohttp.ClientRequest
    line: str
    key: "ConnectionKey"
    _headers: Mapping[str, str] | None = field(default=None, repr=False)
    _head: bytes = field(default=b"", repr=False)

    def message(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Build the bytes of a request. Never name them: error reporters show local variables, and here is the key.

        Calls of an endpoint mostly have the same headers, so the bytes of the last ones are kept.

        Raises:
            ValueError: A header cannot be sent.
        """
        if headers != self._headers:
            fields = CIMultiDict(self.example.headers)
            fields.update(headers)
            fields.popall("Content-Length", None)
            self._head = _serialize_headers(self.line, fields).removesuffix(b"\r\n")
            self._headers = dict(headers)
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)


class DirectRequest:
    """A request that was sent, and its response once the head of that has arrived.

    Args:
        connection: The connection that it was sent over.
        protocol: Reads the response.
        timer: Limits the wait for the head; None = no limit.
    """

    __slots__ = ("__weakref__", "_connection", "_content", "_timer", "protocol")

    def __init__(self, connection: "Connection", protocol: "ResponseHandler", timer: FirstByteTimer | None) -> None:
        self.protocol: ResponseHandler = protocol
        self._connection: Connection | None = connection  # None once the request was given up before its response
        self._content: StreamReader | None = None  # the body of the response; None until its head has arrived
        self._timer = timer
        if timer is not None:
            timer.begin(protocol)

    def next_head(self) -> Coroutine[Any, Any, "tuple[RawResponseMessage, StreamReader]"]:
        """Return the wait for the next head, maybe an informational one, and its body. Cancelling it loses nothing.

        Raises:
            aiohttp.ClientError: The connection broke, or the request was given up.
            HttpProcessingError: The head is malformed.
            DeadlineError: The head did not arrive in time.
        """
        if self._connection is None:
            raise aiohttp.ClientConnectionError("the request was given up")
        return self.protocol.read()

    def begin(self, content: StreamReader) -> None:
        """Begin the response whose body is ``content``: with its end, the pool has the connection back.

        Raises:
            aiohttp.ClientError: The request was given up.
        """
        if self._connection is None:
            raise aiohttp.ClientConnectionError("the request was given up")
        if self._timer is not None:
            self._timer.end(self.protocol)
        self._content = content
        content.on_eof(self._connection.release)

    def interrupt(self, error: Exception) -> None:
        """Raise ``error`` in the task that waits for the response, or in the next one that does."""
        (self.protocol if self._content is None else self._content).set_exception(error)

    def ended(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self._connection is None if self._content is None else self._content.at_eof()

    def close(self) -> None:
        """Close the connection, unless the body has ended and the pool has the connection back."""
        connection = self._connection
        if connection is None:
            return
        if self._content is None:
            self._connection = None
            if self._timer is not None:
                self._timer.end(self.protocol)
        hang_up(connection)

    def __del__(self) -> None:
        connection = self._connection
        if connection is not None and connection.protocol is not None:  # never closed, as when its event loop ended
            connection.release()  # which closes it, since its response has not ended


class DirectSender:
    """Sends short requests over the pool of one session.

    Args:
        session: Its default headers begin every request.
        connector: Its pool.
    """

    def __init__(self, session: aiohttp.ClientSession, connector: "BaseConnector") -> None:
        self._session = session
        self._connector = connector
        self._loop = asyncio.get_running_loop()
        self._routes: dict[str, Route] = {}
        self._timers: dict[float, FirstByteTimer] = {}

    def find(self, request: HttpRequest) -> Route | None:
        """Return the cached route of ``request``; None = use the session, unless ``learn`` makes one."""
        return self._routes.get(request.url) if self._suits(request) else None

    def open_route(self, request: HttpRequest) -> Route | None:
        """Return the cached route of ``request`` if the pool keeps an idle connection for it."""
        route = self._routes.get(request.url)
        return route if route is not None and _keeps(self._connector, route.key) and self._suits(request) else None

    def learn(self, request: HttpRequest, address: URL) -> Route | None:
        """Make and cache the route to ``address``, which needs no proxy; None = use the session."""
        if not self._suits(request):
            return None
        if address.scheme not in ("http", "https") or not address.raw_host or address.raw_user is not None:
            return None  # the session reports what is wrong with it
        example = aiohttp.ClientRequest(
            "POST", address, headers={"accept-encoding": ACCEPTED}, loop=self._loop, session=self._session
        )
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        route = self._routes[request.url] = Route(
            example, f"POST {address.raw_path_qs} HTTP/1.1", example.connection_key
        )
        return route

    async def connect(self, route: Route, limits: aiohttp.ClientTimeout) -> "Connection":
        """Return an idle or a new connection for ``route``, within the time limit of connecting.

        Raises:
            aiohttp.ClientError: It failed; ``ConnectionTimeoutError`` if there was no connection in time.
        """
        try:
            return await self._connector.connect(route.example, [], limits)
        except TimeoutError as exc:
            raise aiohttp.ConnectionTimeoutError from exc

    def write(self, connection: "Connection", route: Route, request: HttpRequest) -> "ResponseHandler":
        """Send a request over a connection, and return what reads the response. A failure closes the connection.

        Raises:
            aiohttp.ClientError: It failed.
            ValueError: A header cannot be sent.
        """
        try:
            protocol = connection.protocol
            transport = None if protocol is None else protocol.transport
            if protocol is None or transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("the connection was closed while it was kept")
            protocol.set_response_params(
                timer=_NO_TIMER,
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=request.max_header_bytes,
                max_field_size=request.max_header_bytes,
            )
            transport.write(route.message(request.headers, request.body))
        except BaseException:
            hang_up(connection)
            raise
        return protocol

    def timer(self, first_byte: float | None) -> FirstByteTimer | None:
        """Return the timer of a limit for the head of the response, in seconds; None = no limit."""
        return None if first_byte is None else self._timers.get(first_byte) or self._new_timer(first_byte)

    def _new_timer(self, seconds: float) -> FirstByteTimer:
        if len(self._timers) >= _MOST_ROUTES:  # the program sets another limit for every call
            self._timers.clear()  # running waits keep their timers
        timer = self._timers[seconds] = FirstByteTimer(self._loop, seconds)
        return timer

    def _suits(self, request: HttpRequest) -> bool:
        """Whether a request may be sent directly.

        It must be short and have no transfer encoding of its own, and no tracer or test tool may watch the session.
        """
        return (
            len(request.body) <= DIRECT_BYTES
            and "transfer-encoding" not in request.headers
            and not self._session.trace_configs
            and aiohttp.ClientSession._request is _REAL
        )


def _keeps(connector: "BaseConnector", key: "ConnectionKey") -> bool:
    """Whether the pool has an idle connection; False where another version of aiohttp keeps them elsewhere."""
    idle = getattr(connector, "_conns", None)
    return bool(idle and idle.get(key))


def hang_up(connection: "Connection") -> None:
    """Close a connection at once, whatever is still being sent or received. Uses public attributes only."""
    transport = connection.transport
    if transport is not None:
        transport.abort()  # TLS's goodbye would take a host that listens
    connection.close()


# ------------------------------------------------------------------------------------------------ reading


def take(content: StreamReader) -> bytes | None:
    """Return the buffered bytes of a body; empty at its end, None if nothing has arrived yet.

    Raises:
        Exception: The failure that ended the body.
    """
    if content._exception is not None:
        raise content._exception
    buffer = content._buffer
    if not buffer:
        return b"" if content._eof else None
    if content._buffer_offset:  # a part of the first chunk has been read
        return content._read_nowait(-1)
    data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
    buffer.clear()
    content._size = 0
    content._cursor += len(data)
    splits = content._http_chunk_splits
    if splits:
        last = splits[-1]
        splits.clear()
        if last >= content._cursor:
            splits.append(last)
    protocol = content._protocol
    if protocol._reading_paused:
        protocol.resume_reading()
    return data


def wait(content: StreamReader) -> asyncio.Future[None]:
    """Return a future that is done when ``take`` has something. One reader at a time; a cancelled one may come back.

    Raises:
        RuntimeError: The connection is closed and its buffer is empty.
    """
    if not content._protocol.connected:
        raise RuntimeError("the connection is closed")
    waiter = content._waiter = content._loop.create_future()
    return waiter


def buffered(content: StreamReader) -> bytes:
    """Return the bytes that arrived before a body failed, which no public method returns; empty if there are none."""
    read = getattr(content, "_read_nowait", None)
    try:
        return b"" if read is None else read(-1)
    except (AttributeError, TypeError):  # another version of aiohttp
        return b""


# ------------------------------------------------------------------------------------------------ connections


class ForkSafeConnector(aiohttp.TCPConnector):
    """A pool that leaves its connections alone in a forked process.

    A child shares sockets and the loop's ``epoll`` with its parent; closing a connection would deafen the parent on it.

    Args:
        limit: The most connections at once; 0 = no limit.
        keepalive: Seconds an idle connection is kept.
        private: Whether private parts may be used; see ``usable``.
    """

    def __init__(self, *, limit: int, keepalive: float, private: bool) -> None:
        self._process = os.getpid()
        super().__init__(limit=limit, keepalive_timeout=keepalive)  # pyright: ignore[reportUnknownMemberType] - a tuple
        if private:
            self._factory = partial(LastWordsProtocol, loop=asyncio.get_running_loop())

    def take_idle(self, key: "ConnectionKey") -> "Connection | None":
        """Take a connection out of the pool; None = no idle one is connected.

        aiohttp's coroutine waits for nothing where no tracer watches the session, so it can be run here and now.
        """
        taking = self._get(key, [])
        try:
            taking.send(None)
        except StopIteration as end:
            return end.value
        taking.close()
        return None

    def __del__(self, *defaults: object) -> None:
        if os.getpid() == self._process:
            super().__del__(*defaults)

    def _release(self, *args: Any, **more: Any) -> None:
        """Take a connection back; aiohttp calls this."""
        if os.getpid() == self._process:
            super()._release(*args, **more)


_MOST_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16

if not TYPE_CHECKING:  # without it, LastWordsProtocol is not used
    ResponseHandler = _find("aiohttp.client_proto:ResponseHandler") or asyncio.Protocol


class LastWordsProtocol(ResponseHandler):
    """A connection that reads what has arrived before it is closed because of a failed write."""

    _drained = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        tls = _tls_of(transport)
        if tls is not None:
            _drain_before_tls_ends(tls, self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See ``asyncio.Protocol``."""
        if exc is not None:
            self.drain()
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, *cause: Any, **more: Any) -> None:
        """Fail the reader of the response; aiohttp calls this when it cannot send a body."""
        if isinstance(exc, OSError | ClientConnectionError) and not isinstance(exc, TimeoutError):
            self.drain()
        super().set_exception(exc, *cause, **more)

    def drain(self) -> None:
        """Receive what has arrived at a connection that is about to be closed."""
        transport = self.transport
        if self._drained or transport is None:
            return
        self._drained = True
        tls = _tls_of(transport)
        if tls is None and transport.get_extra_info("sslcontext") is not None:
            return  # not asyncio's TLS, as in uvloop
        for piece in _arrived(transport):
            if tls is None:
                self.data_received(piece)
            else:
                tls.get_buffer(len(piece))[: len(piece)] = piece
                tls.buffer_updated(len(piece))


def _tls_of(transport: asyncio.BaseTransport) -> SSLProtocol | None:
    """Return asyncio's TLS protocol below a connection; None without TLS, or with that of another loop."""
    tls: object = getattr(transport, "_ssl_protocol", None)
    return tls if isinstance(tls, SSLProtocol) else None


def _drain_before_tls_ends(tls: SSLProtocol, protocol: LastWordsProtocol) -> None:
    """Have ``protocol`` drain the socket before TLS learns that the connection is lost and forgets its state."""
    lose = tls.connection_lost

    def lost(exc: BaseException | None) -> None:
        del tls.connection_lost  # or it would refer to itself
        if exc is not None:
            protocol.drain()
        lose(exc)

    tls.connection_lost = lost


def _arrived(transport: asyncio.BaseTransport) -> Iterator[bytes]:
    """Read what the system has received for a connection."""
    with suppress(OSError), socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as twin:
        twin.setblocking(False)
        for _ in range(_MOST_BYTES // _PIECE_BYTES):
            piece = twin.recv(_PIECE_BYTES)
            if not piece:
                return
            yield piece
