"""Bytes out, bytes in. The one seam to the network: no JSON, no provider names.

Source of the shape: what httpx's transports and aiohttp's client have in common.
"""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from dhenara_async.config import Timeouts
from dhenara_async.errors import BoundsError
from dhenara_async.request import HttpRequest

Got = TypeVar("Got")


class Exchange(Protocol):
    """One answer whose head has arrived and whose body is being read. Holds a connection until it ends.

    An exchange may have an attribute ``repeatable = True``: a cancelled ``read`` has taken nothing, and can be called
    again. Streams read all others in a task of their own, which a cancelled reader does not cancel.
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
        """Give the answer up from outside: a read that is waiting, or else the next one, raises ``error``."""
        ...

    def ended(self) -> bool:
        """Whether the whole body has been read."""
        ...

    async def close(self) -> None:
        """Give the answer up: the socket is closed before this returns. Harmless after the end."""
        ...


class Transport(Protocol):
    """Sends requests over connections that it keeps; whoever made it closes it."""

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """Send ``request`` and wait for the head of the answer, whatever its status. Redirects are not followed.

        Raises:
            ConnectError: No connection.
            ReadError: The connection broke before the answer began.
            DeadlineError: A time limit ran out.
            BoundsError: The header block is too large to be read at all; whoever asked checks its size besides.
            StreamStateError: The transport is closed, or was closed before the answer began.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection, and send nothing any more.

        Whoever waits for an answer, or reads one, gets a ``StreamStateError`` at once.
        """
        ...


@dataclass(slots=True, frozen=True)
class FileRequest:
    """A ``GET`` of somebody's file, whose host has been looked up and found to be one that may be asked.

    Attributes:
        url: Absolute, already encoded, without credentials.
        host: Its host, in ASCII: what the certificate has to be for.
        addresses: The host's addresses; no other may be connected to, or the check was for nothing.
        headers: All of them but ``host``; nothing that says who we are.
    """

    url: str = field(repr=False)
    host: str
    addresses: tuple[str, ...]
    headers: Mapping[str, str]


@runtime_checkable
class Downloads(Protocol):
    """What a transport is besides, if files are to be downloaded over connections of its kind too."""

    async def get(self, request: FileRequest) -> Exchange:
        """Ask for a file and wait for the head of the answer. No redirects, cookies or credentials; the body as sent.

        Raises:
            ConnectError: No connection.
            ReadError: The connection broke before the answer began.
        """
        ...


@runtime_checkable
class WarmsUp(Protocol):
    """What a transport is besides, if it can have a connection ready before there is anything to send over it."""

    async def warm_up(self, url: str, timeouts: Timeouts) -> None:
        """Look up the host of ``url`` and connect to it, TLS included; the connection waits in the pool, nothing sent.

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
    """What a transport is besides, if closing it ends calls too that have not been sent, or wait for another try."""

    async def while_open(self, work: Coroutine[object, object, Got]) -> Got:
        """Await ``work``, which is broken off when the transport is closed.

        Raises:
            StreamStateError: The transport is closed, or was closed before ``work`` was done.
        """
        ...
