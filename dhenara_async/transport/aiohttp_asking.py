"""A request over aiohttp's pool, read by aiohttp's parser, without what its client does between the two.

``ClientSession`` merges headers and cookies, follows redirects, tells tracers, and has a task write the body: for a
short call that is half of what the processor does. A call here needs none of it. Connections, proxies aside, TLS, name
look-ups and the pool stay aiohttp's, and so does every byte that is parsed. There is no public way to these, so this
looks inside, in versions that it was tried with; whatever is out of the ordinary goes by the session.

Source: aiohttp 3.14.5, ``client.py``, ``client_reqrep.py``, ``client_proto.py`` and ``connector.py`` (read 2026-11-22)
"""

# pyright: reportPrivateUsage=false

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import aiohttp
from aiohttp import helpers, http_writer
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import BaseConnector, Connection
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from dhenara_async.request import HttpRequest
from dhenara_async.transport.aiohttp_reading import AT_ONCE
from dhenara_async.transport.first_byte import FirstByteTimer
from dhenara_async.transport.unpacking import ACCEPTED

if TYPE_CHECKING:
    from aiohttp.http import RawResponseMessage

MOST_BYTES = 1 << 16
"""What is larger may not fit into the socket, and waits for it as only a task can."""

# Of another version these may be missing, and are not asked for.
_written = cast("Callable[[str, CIMultiDict[str]], bytes]", getattr(http_writer, "_serialize_headers", None))
_NO_TIMER = cast("helpers.BaseTimerContext", getattr(helpers, "TimerNoop", object)())
_WAYS = 1000
# What sends a session's requests; None where somebody stood in for it when this was loaded.
_name = getattr(getattr(aiohttp.ClientSession._request, "__code__", None), "co_qualname", "")
_REAL: object = aiohttp.ClientSession._request if _name == "ClientSession._request" else None


@dataclass(slots=True)
class Route:
    """What all requests for one URL have in common.

    Attributes:
        example: Says which of the pool's connections are right, and how to make another; never sent.
        line: The first line of a request.
    """

    example: aiohttp.ClientRequest
    line: str
    _headers: Mapping[str, str] | None = field(default=None, repr=False)
    _head: bytes = field(default=b"", repr=False)

    def head(self, headers: Mapping[str, str], length: int) -> "Head":
        """The head of a request with ``headers`` and a body of so many bytes.

        Calls of an endpoint have the same headers as a rule, so those of the last one are kept as they were written.

        Raises:
            ValueError: A header cannot be sent.
        """
        if headers != self._headers:
            fields = CIMultiDict(self.example.headers)
            fields.update(headers)
            fields.popall("Content-Length", None)
            self._head = _written(self.line, fields).removesuffix(b"\r\n")
            self._headers = dict(headers)
        return Head(b"%bContent-Length: %d\r\n\r\n" % (self._head, length))


class Head:
    """The head of a request, the key in it, which is not shown where reporters of errors show the locals of frames."""

    __slots__ = ("written",)

    def __init__(self, written: bytes) -> None:
        self.written: bytes = written


class Answer:
    """An answer whose head has come: as much of aiohttp's ``ClientResponse`` as an exchange needs."""

    __slots__ = ("_connection", "content", "headers", "protocol", "status")

    def __init__(
        self, connection: Connection, protocol: ResponseHandler, message: "RawResponseMessage", content: StreamReader
    ) -> None:
        self._connection = connection
        self.protocol: ResponseHandler = protocol
        self.content: StreamReader = content
        self.status: int = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        content.on_eof(connection.release)

    def close(self) -> None:
        """Hang up, unless the body is over: then the connection has been given back."""
        hang_up(self._connection)

    def __del__(self) -> None:
        if self._connection.protocol is not None:  # left alone, with its event loop for instance
            self._connection.release()  # which closes it, since its body is not over


class DirectSender:
    """The ways to the hosts of one session.

    Args:
        session: Its defaults are what requests begin with.
        connector: Its pool.
    """

    def __init__(self, session: aiohttp.ClientSession, connector: BaseConnector) -> None:
        self._session = session
        self._connector = connector
        self._known: dict[str, Route] = {}
        self._patience: dict[float, FirstByteTimer] = {}

    def find(self, request: HttpRequest) -> Route | None:
        """The way of ``request``, if it is known; None = by the session, unless it can be learned."""
        return self._known.get(request.url) if self._suits(request) else None

    def learn(self, request: HttpRequest, address: URL) -> Route | None:
        """How to send ``request`` to ``address``, which no proxy stands before; None = by the session."""
        if not self._suits(request):
            return None
        if address.scheme not in ("http", "https") or not address.raw_host or address.raw_user is not None:
            return None  # what is wrong with it, the session says
        example = aiohttp.ClientRequest(
            "POST", address, headers={"accept-encoding": ACCEPTED}, loop=self._connector._loop, session=self._session
        )
        if len(self._known) >= _WAYS:
            self._known.clear()
        way = self._known[request.url] = Route(example, f"POST {address.raw_path_qs} HTTP/1.1")
        return way

    async def ask(
        self, way: Route, request: HttpRequest, *, connect: aiohttp.ClientTimeout, first_byte: float | None
    ) -> Answer:
        """Send a request and wait for the head of the answer.

        Args:
            way: Where to.
            request: What is sent, beside the headers that every request has.
            connect: How long getting a connection may take.
            first_byte: Seconds from there to the head; None = no limit.

        Raises:
            DeadlineError: There was no head in time.
            aiohttp.ClientError: It failed; ``ConnectionTimeoutError`` if there was no connection in time.
            HttpProcessingError: The head is none.
            ValueError: A header cannot be sent.
        """
        head = way.head(request.headers, len(request.body))
        try:
            connection = await self._connector.connect(way.example, [], connect)
        except TimeoutError as exc:
            raise aiohttp.ConnectionTimeoutError from exc
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("the connection was closed while it was kept")
            protocol.set_response_params(
                timer=_NO_TIMER,
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=request.max_header_bytes,
                max_field_size=request.max_header_bytes,
            )
            transport.write(head.written + request.body)
            message, content = await self._answered(protocol, first_byte)
        except BaseException:
            hang_up(connection)
            raise
        return Answer(connection, protocol, message, content)

    async def _answered(
        self, protocol: ResponseHandler, first_byte: float | None
    ) -> "tuple[RawResponseMessage, StreamReader]":
        """The head of the answer, and where its body comes."""
        patience = None if first_byte is None else self._patience.get(first_byte) or self._begun(first_byte)
        if patience is not None:
            patience.begin(protocol)
        try:
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # not the answer yet
                message, content = await protocol.read()
            return message, content
        finally:
            if patience is not None:
                patience.end(protocol)

    def _begun(self, seconds: float) -> FirstByteTimer:
        if len(self._patience) >= _WAYS:  # somebody has another limit for every call
            self._patience.clear()  # those who wait are looked after: their timer keeps what it belongs to
        patience = self._patience[seconds] = FirstByteTimer(self._connector._loop, seconds)
        return patience

    def _suits(self, request: HttpRequest) -> bool:
        """Whether it is short enough, its caller has no transfer-encoding of its own, which is the session's affair,
        and nobody traces the session, or stands in for aiohttp's client as test tools do."""
        return (
            AT_ONCE
            and len(request.body) <= MOST_BYTES
            and "transfer-encoding" not in request.headers
            and not self._session.trace_configs
            and aiohttp.ClientSession._request is _REAL
        )


def hang_up(connection: Connection) -> None:
    """Close a connection at once, whatever is on its way."""
    transport = connection.transport
    if transport is not None:
        transport.abort()  # to say goodbye, as TLS would, takes a host that listens
    connection.close()
