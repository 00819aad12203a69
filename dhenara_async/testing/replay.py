"""A transport that answers from memory: the whole client under test, without a socket.

Use it if the bytes of an answer are known, from a recording or written by hand; use ``ProviderServer`` to test a real
connection.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import anyio.lowlevel

from dhenara_async.config import Timeouts
from dhenara_async.errors import ConfigurationError
from dhenara_async.request import HttpRequest


class ReplayTransport:
    """Gives the same answer to every request and keeps the requests: ``AIModelClient(endpoint, transport=…)``.

    Args:
        body: The answer's bytes.
        status: The answer's HTTP status.
        headers: The answer's headers. Without a content type, the first byte decides whether the body is a stream,
            as for a real host.
        chunks: The body cut into reads, for example ``split_bytes(body)``; None = one read.

    Attributes:
        requests: The sent requests, oldest first, with credentials; their repr shows the address only.

    Raises:
        ConfigurationError: The chunks do not join to the body.
    """

    def __init__(
        self,
        body: bytes,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        chunks: Sequence[bytes] | None = None,
    ) -> None:
        if chunks is not None and b"".join(chunks) != body:
            raise ConfigurationError("the chunks of a ReplayTransport must join to its body")
        self.requests: list[HttpRequest] = []
        self._body = body
        self._status = status
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        # an empty piece would read as the end of the body
        self._chunks = tuple(chunk for chunk in ((body,) if chunks is None else chunks) if chunk)

    def __repr__(self) -> str:
        return f"ReplayTransport(status={self._status}, {len(self._body)} bytes, {len(self.requests)} requests seen)"

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> "ReplayExchange":
        """See ``Transport``; time limits are ignored."""
        await anyio.lowlevel.checkpoint()
        self.requests.append(request)
        return ReplayExchange(self._status, self._headers, self._chunks)

    async def aclose(self) -> None:
        """See ``Transport``; there is nothing to close."""
        await anyio.lowlevel.checkpoint()


class ReplayExchange:
    """One answer from memory; see ``Exchange``."""

    repeatable: Final = True

    __slots__ = ("_error", "_remaining", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], chunks: Sequence[bytes]) -> None:
        self.status: int = status
        self.headers: Mapping[str, str] = headers
        self._remaining = list(reversed(chunks))
        self._error: Exception | None = None

    async def read(self) -> bytes:
        """See ``Exchange``. Other tasks run between two reads, as they would at a socket."""
        await anyio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error
        return self._remaining.pop() if self._remaining else b""

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._error = error

    def ended(self) -> bool:
        """See ``Exchange``."""
        return not self._remaining

    async def close(self) -> None:
        """See ``Exchange``."""
        self._remaining.clear()
