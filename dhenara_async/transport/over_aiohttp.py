"""The transport that comes with the library: aiohttp, with nothing of it that a stream does not need.

No cookie jar, no redirects, no total time limit, proxies from the environment. The TLS context is aiohttp's, made once
for the process. A pool belongs to the event loop it was made in, so a transport keeps one session a loop.

Source: https://docs.aiohttp.org/en/stable/client_reference.html (read 2026-11-22)
"""

import asyncio
from collections.abc import Mapping

import aiohttp
from yarl import URL

from dhenara_async.config import Timeouts
from dhenara_async.errors import ConfigurationError, ConnectError, DeadlineError, ReadError, TransportError
from dhenara_async.request import HttpRequest


class AiohttpTransport:
    """Connections by aiohttp.

    Args:
        limit: The most connections at once; 0 = no limit.
        keepalive: Seconds an idle connection is kept.
        trust_env: Whether ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY`` and ``.netrc`` are honoured.
    """

    def __init__(self, *, limit: int = 0, keepalive: float = 30.0, trust_env: bool = True) -> None:
        self._limit = limit
        self._keepalive = keepalive
        self._trust_env = trust_env
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._last_timeout: tuple[Timeouts, aiohttp.ClientTimeout] | None = None

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> "AiohttpExchange":
        """See ``Transport``."""
        session = self._sessions.get(asyncio.get_running_loop()) or self._new_session()
        try:
            response = await session.post(
                URL(request.url, encoded=True),
                data=request.body,
                headers=request.headers,
                timeout=self._client_timeout(timeouts),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise _translated(exc, timeouts) from exc
        return AiohttpExchange(response, timeouts)

    async def aclose(self) -> None:
        """See ``Transport``. Closes the running loop's connections; those of loops that are gone went with them."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=self._keepalive),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
        )
        self._sessions[asyncio.get_running_loop()] = session
        return session

    def _client_timeout(self, timeouts: Timeouts) -> aiohttp.ClientTimeout:
        """Calls share their config as a rule, so the last one's timeout object nearly always fits."""
        if self._last_timeout is None or self._last_timeout[0] is not timeouts:
            made = aiohttp.ClientTimeout(
                total=timeouts.total, connect=timeouts.connect, sock_read=timeouts.between_bytes
            )
            self._last_timeout = (timeouts, made)
        return self._last_timeout[1]


class AiohttpExchange:
    """One answer; see ``Exchange``."""

    __slots__ = ("_content", "_response", "_timeouts", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, timeouts: Timeouts) -> None:
        self._response = response
        self._content = response.content
        self._timeouts = timeouts
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        """See ``Exchange``. Never by line: a line of a stream has no limit."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise _translated(exc, self._timeouts) from exc

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._content.at_eof()

    async def close(self) -> None:
        """See ``Exchange``. Closing does not await in aiohttp, so nothing can keep it from happening."""
        self._response.close()


def _translated(exc: Exception, timeouts: Timeouts) -> TransportError | ConfigurationError:
    """aiohttp's words as ours; the one place where that happens."""
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return DeadlineError(limit="connect", seconds=timeouts.connect)
        case aiohttp.SocketTimeoutError():
            return DeadlineError(limit="between_bytes", seconds=timeouts.between_bytes)
        case TimeoutError():
            return DeadlineError(limit="total", seconds=timeouts.total)
        case aiohttp.InvalidURL():
            return ConfigurationError("the base_url of the endpoint is not a URL")
        case aiohttp.ClientConnectorError():
            return ConnectError(f"no connection to {exc.host}:{exc.port}: {exc.os_error}")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return ConnectError("no connection: the proxy from the environment refused or failed")
        case aiohttp.ClientError():
            return ReadError(f"the connection broke: {type(exc).__name__}")
        case _:
            return ConfigurationError("a header of the request holds characters that cannot be sent")
