"""Downloads by aiohttp: one session per file, which connects to checked addresses only and resolves no names.

A name can resolve to another address a moment after the check, so the session gets the checked addresses.

No cookies, no redirects, no ``.netrc``, no proxy from the environment: a proxy would resolve the name itself.

Source: https://docs.aiohttp.org/en/stable/client_advanced.html#custom-resolver (read 2026-11-22)
"""

import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from dhenara_async.errors import ConnectError, ReadError, TransportError
from dhenara_async.transport import FileRequest

CLOSE_SECONDS = 1.0


class AiohttpDownloads:
    """See ``Downloads``."""

    async def get(self, request: FileRequest) -> "AiohttpDownload":
        """See ``Downloads``."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Checked(request.addresses), use_dns_cache=False, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the caller limits the whole download, name look-ups included
            auto_decompress=False,
            trust_env=False,
        )
        try:
            url = URL(request.url, encoded=True)
            response = await session.get(url, headers=request.headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            await _close(session)
            raise _translated(exc, request.host) from exc
        except BaseException:
            await _close(session)
            raise
        return AiohttpDownload(session, response, request.host)


class AiohttpDownload:
    """A file being received; see ``Exchange``."""

    def __init__(self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse, host: str) -> None:
        self._session = session
        self._response = response
        self._host = host
        self.status: int = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        """See ``Exchange``."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise _translated(exc, self._host) from exc

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._response.content.set_exception(error)

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._response.content.at_eof()

    async def close(self) -> None:
        """See ``Exchange``."""
        self._response.close()
        await _close(self._session)


class _Checked(AbstractResolver):
    """A resolver that returns the checked addresses for every name."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


async def _close(session: aiohttp.ClientSession) -> None:
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        await session.close()


def _translated(exc: Exception, host: str) -> TransportError:
    if isinstance(exc, aiohttp.ClientConnectorError):
        return ConnectError(f"no connection to {host}, which has the file: {exc.os_error}")
    return ReadError(f"the connection to {host}, which has the file, broke: {type(exc).__name__}")
