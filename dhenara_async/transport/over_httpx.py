"""A transport around a caller's own ``httpx.AsyncClient``: for HTTP/2, custom authentication, mounts or mocks.

Needs the extra ``httpx``. The client stays the caller's: its limits, proxies and TLS apply, and the caller closes it.

Source: https://www.python-httpx.org/async/ (read 2026-11-22)
"""

from collections.abc import AsyncIterator, Mapping

import httpx

from dhenara_async.config import Timeouts
from dhenara_async.errors import ConfigurationError, ConnectError, DeadlineError, ReadError, TransportError
from dhenara_async.request import HttpRequest


class HttpxTransport:
    """Connections by a client of yours.

    Args:
        client: An open ``httpx.AsyncClient``; it is not closed here.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> "HttpxExchange":
        """See ``Transport``. ``Timeouts.total`` has no counterpart in httpx and is refused rather than ignored."""
        if timeouts.total is not None:
            raise ConfigurationError("HttpxTransport has no total time limit; set Timeouts(total=None)")
        limits = httpx.Timeout(timeouts.between_bytes, connect=timeouts.connect, pool=timeouts.connect)
        try:
            built = self._client.build_request(
                "POST", request.url, content=request.body, headers=dict(request.headers), timeout=limits
            )
            response = await self._client.send(built, stream=True, follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as exc:
            raise _translated(exc, timeouts) from exc
        return HttpxExchange(response, timeouts)

    async def aclose(self) -> None:
        """Nothing: the client is its owner's to close."""


class HttpxExchange:
    """One answer; see ``Exchange``."""

    def __init__(self, response: httpx.Response, timeouts: Timeouts) -> None:
        self._response = response
        self._timeouts = timeouts
        self._body: AsyncIterator[bytes] = response.aiter_bytes()
        self._ended = False
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        """See ``Exchange``."""
        try:
            async for chunk in self._body:
                if chunk:
                    return chunk
        except (httpx.HTTPError, httpx.StreamError) as exc:
            raise _translated(exc, self._timeouts) from exc
        self._ended = True
        return b""

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._ended

    async def close(self) -> None:
        """See ``Exchange``."""
        await self._response.aclose()


def _translated(exc: Exception, timeouts: Timeouts) -> TransportError | ConfigurationError:
    match exc:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return DeadlineError(limit="connect", seconds=timeouts.connect)
        case httpx.TimeoutException():
            return DeadlineError(limit="between_bytes", seconds=timeouts.between_bytes)
        case httpx.ConnectError() | httpx.ProxyError():
            return ConnectError(f"no connection: {exc}")
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return ConfigurationError("the base_url of the endpoint is not a URL")
        case UnicodeEncodeError() | httpx.LocalProtocolError():
            return ConfigurationError("a header of the request holds characters that cannot be sent")
        case _:
            return ReadError(f"the connection broke: {type(exc).__name__}")
