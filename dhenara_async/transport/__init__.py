"""The interface between calls and the network: sends and receives bytes, and knows neither JSON nor providers.

Source of the shape: what httpx's transports and aiohttp's client have in common.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from dhenara_async.config import Timeouts
from dhenara_async.errors import BoundsError
from dhenara_async.request import HttpRequest

Got = TypeVar("Got")


class Exchange(Protocol):
    """A response whose head has arrived and whose body is being read. Holds a connection until its end.

    An exchange may have an attribute ``repeatable = True``: a cancelled ``read`` consumes nothing and can be called
    again. Streams read other exchanges in a separate task, which a cancelled reader does not cancel.
    """

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, to be looked up by names in lower case."""
        ...

    async def read(self) -> bytes:
        """The next bytes, as many as are there; ``b""`` at the end, when the connection is back in its pool.

        Raises:
            ReadError: The connection broke.
            DeadlineError: A time limit of the call ran out.
            StreamStateError: The transport was closed.
        """
        ...

    def interrupt(self, error: Exception) -> None:
        """Abort the response from outside: the waiting read, or else the next one, raises ``error``."""
        ...

    def ended(self) -> bool:
        """Whether the whole body has been read."""
        ...

    async def close(self) -> None:
        """Abort the response: the socket is closed before this returns. Does nothing after the end."""
        ...


class Transport(Protocol):
    """Sends requests over pooled connections. Its creator closes it."""

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """Send ``request`` and wait for the head of the answer, whatever its status. Redirects are not followed.

        Raises:
            ConnectError: No connection.
            ReadError: The connection broke before the answer began.
            DeadlineError: A time limit ran out.
            BoundsError: The header block is too large to be parsed; callers check its size as well.
            StreamStateError: The transport is closed, or was closed before the answer began.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection and refuse further requests.

        Calls that wait for a response or read one get a ``StreamStateError`` at once.
        """
        ...


class PendingResponse(Protocol):
    """A request that was sent and whose response head has not been read. Holds a connection until its end."""

    async def head(self) -> Exchange:
        """Wait for the head of the response. A cancelled wait loses nothing: call this again.

        Raises:
            DhenaraError: As ``Transport.send``.
        """
        ...

    def close(self) -> None:
        """Close the connection. Does nothing once ``head`` has returned or failed."""
        ...


@runtime_checkable
class StartsRequests(Protocol):
    """Implemented by transports that can send a request at once and wait for its response in a second step.

    A reader can then wait for the response in its own task and be cancelled meanwhile without losing the request.
    Requests of other transports are sent in a task of their own, which costs two iterations of the event loop.
    """

    def starter(self, request: HttpRequest) -> "RequestStarter | None":
        """Return the function that sends ``request`` over an idle connection; None = there is none, use ``send``."""
        ...


RequestStarter = Callable[[HttpRequest, Timeouts], PendingResponse | None]
"""Sends a request, or returns None because the idle connection has gone: use ``send``. Raises as ``Transport.send``."""


@dataclass(slots=True, frozen=True)
class FileRequest:
    """A ``GET`` request for a file, whose host was resolved and passed the fetch policy.

    Attributes:
        url: Absolute, already encoded, without credentials.
        host: Its host, in ASCII: the name that the certificate must have.
        addresses: The host's checked addresses; no other may be connected to.
        headers: All headers except ``host``; none identifies the caller.
    """

    url: str = field(repr=False)
    host: str
    addresses: tuple[str, ...]
    headers: Mapping[str, str]


@runtime_checkable
class Downloads(Protocol):
    """Implemented by transports that can also download files."""

    async def get(self, request: FileRequest) -> Exchange:
        """Request a file and wait for the head of the response. No redirects, cookies or credentials; the body as sent.

        Raises:
            ConnectError: No connection.
            ReadError: The connection broke before the answer began.
        """
        ...


@runtime_checkable
class ResolvesHosts(Protocol):
    """Implemented by transports that know the network addresses of the hosts of files, such as a replay."""

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host; they are checked as those of a name server are.

        Raises:
            OSError: The host is not known.
        """
        ...


@runtime_checkable
class WarmsUp(Protocol):
    """Implemented by transports that can open a connection before the first request."""

    async def warm_up(self, url: str, timeouts: Timeouts) -> None:
        """Resolve the host of ``url`` and connect, TLS included. The connection waits in the pool; nothing is sent.

        Raises:
            ConnectError: No connection.
            DeadlineError: ``timeouts.connect`` ran out.
        """
        ...


def check_header_block(headers: Mapping[str, str], limit: int) -> None:
    """Refuse an answer whose header block is too large.

    Raises:
        BoundsError: It has more than ``limit`` bytes.
    """
    if sum(map(len, headers)) + sum(map(len, headers.values())) + _BETWEEN * len(headers) > limit:
        raise header_block_too_large(limit)


def header_block_too_large(limit: int) -> BoundsError:
    """The error for a header block of more than ``limit`` bytes."""
    return BoundsError("the header block of the answer is too large", setting="max_header_bytes", limit=limit)


_BETWEEN = len(": \r\n")


@runtime_checkable
class EndsWaits(Protocol):
    """Implemented by transports whose closing also ends calls that wait to be sent or retried."""

    async def while_open(self, work: Coroutine[object, object, Got]) -> Got:
        """Await ``work``; closing the transport cancels it.

        Raises:
            StreamStateError: The transport is closed, or was closed before ``work`` was done.
        """
        ...
