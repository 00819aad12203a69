"""Downloads a file for a target that cannot fetch its URL, protected against server-side request forgery.

Each redirect is handled like the first URL: the URL is checked and rebuilt (``file_urls``), its host is resolved here,
every address must be of an allowed class, and the connection goes to exactly these addresses (``Downloads``). The name
is resolved only once, so DNS rebinding has no effect. If a server fetches a URL itself (``Fetcher.check``), it resolves
the name again, which no check here can prevent.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from socket import SOCK_STREAM
from urllib.parse import unquote, urljoin, urlsplit

import anyio

from dhenara_async.config import Bounds, FetchPolicy
from dhenara_async.downloads.file_urls import DownloadAddress, check_class, download_address
from dhenara_async.downloads.inlining import FileKey, key_of
from dhenara_async.errors import (
    BoundsError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    TransportError,
)
from dhenara_async.hosts.addresses import AddressClass, class_of
from dhenara_async.messages.media import downloaded
from dhenara_async.messages.messages import FilePart
from dhenara_async.transport import Downloads, Exchange, FileRequest, ResolvesHosts, Transport

AT_ONCE = 4
"""Maximum number of parallel downloads per call."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429})
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "dhenara-async"}


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """Resolve ``host`` to all its addresses."""
    found = await anyio.getaddrinfo(host, port, type=SOCK_STREAM)
    return [str(info[4][0]) for info in found]


class Fetcher:
    """Downloads files.

    Args:
        policy: The download rules.
        downloads: Opens the connections.
        resolve: Resolves host names.
        bounds: Limits on the number of files and on their total size, per call.
    """

    def __init__(
        self, policy: FetchPolicy, downloads: Downloads, resolve: Resolve, bounds: Bounds | None = None
    ) -> None:
        self._policy = policy
        self._bounds = bounds or Bounds()
        self._received = 0  # bytes of all files
        self._downloads = downloads
        self._resolve = resolve

    async def fetch_all(self, parts: Iterable[FilePart]) -> dict[FileKey, FilePart]:
        """Download files in parallel; the first failure cancels the others.

        Raises:
            ConfigurationError: The policy forbids a URL, or a file contradicts its declared media type.
            TransportError: A download failed.
            BoundsError: There are too many files, or they are too large together.
        """
        parts, most = tuple(parts), self._bounds.max_downloads
        if len(parts) > most:
            words = f"the call needs {len(parts)} files downloaded"
            raise BoundsError(words, setting="max_downloads", limit=most)
        self._received = 0
        files: dict[FileKey, FilePart] = {}
        failures: list[DhenaraError] = []
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def one(part: FilePart) -> None:
            try:
                async with limiter:
                    files[key_of(part)] = await self.fetch(part)
            except DhenaraError as exc:  # collected, so that the caller gets it without an exception group
                failures.append(exc)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for part in parts:
                tasks.start_soon(one, part)
        if failures:
            raise failures[0]
        return files

    async def check(self, urls: Iterable[str]) -> None:
        """Refuse URLs that must not be sent to a server, because their hosts are in its or our private network.

        Hosts that cannot be resolved here are skipped.

        Raises:
            ConfigurationError: A host has an address that the policy does not allow.
            DeadlineError: Resolving took longer than the policy's ``seconds``.
        """
        checked = False
        with anyio.move_on_after(self._policy.seconds):
            for url in dict.fromkeys(urls):
                await self._check(url)
            checked = True
        if not checked:
            raise DeadlineError(limit="fetch", seconds=self._policy.seconds)

    async def _check(self, url: str) -> None:
        place = download_address(url, self._policy.changed(allow_http=True))  # the server may fetch it so
        try:
            await self._addresses(place)
        except ConnectError:
            return

    async def fetch(self, part: FilePart) -> FilePart:
        """Download ``part`` and return it with its bytes instead of its URL; errors as for ``fetch_all``."""
        url = part.url
        if url is None:
            return part
        policy = self._policy
        downloaded_file: tuple[bytes, DownloadAddress, str] | None = None
        with anyio.move_on_after(policy.seconds):
            downloaded_file = await self._follow(url)
        if downloaded_file is None:
            raise DeadlineError(limit="fetch", seconds=policy.seconds)
        data, place, reported_type = downloaded_file
        try:
            media_type = downloaded(data, declared=part.media_type, reported=reported_type)
            named = part.filename or _filename(url)
            return FilePart(media_type=media_type, data=data, filename=named, origin=part.origin)
        except ConfigurationError as exc:
            raise ConfigurationError(f"cannot use the file from {place.host}: {exc}") from exc

    async def _follow(self, url: str) -> tuple[bytes, DownloadAddress, str]:
        """Follow the redirects and return the bytes, their final address and the ``content-type``."""
        place = download_address(url, self._policy)
        asked: AddressClass | None = None
        for _ in range(self._policy.redirects + 1):
            addresses, kind = await self._addresses(place)
            if asked not in (None, kind):
                raise ConfigurationError(f"the host of the file redirects from {asked} addresses to {kind} ones")
            asked = kind
            exchange = await self._downloads.get(FileRequest(place.url, place.host, addresses, _HEADERS))
            try:
                if exchange.status not in _REDIRECTS:
                    return await self._read(exchange, place), place, exchange.headers.get("content-type", "")
                place = self._next(place, exchange.headers.get("location", ""))
            finally:
                await exchange.close()
        raise ConfigurationError(
            f"the host of the file redirects more than {self._policy.redirects} times (FetchPolicy.redirects)"
        )

    def _next(self, place: DownloadAddress, location: str) -> DownloadAddress:
        if not location:
            raise _final(f"{place.host}, which has the file, redirects without a location")
        try:
            url = urljoin(place.url, location)
            scheme = urlsplit(url).scheme
        except ValueError as exc:
            raise _final(f"{place.host}, which has the file, redirects to something that is not a URL") from exc
        if scheme != place.scheme:
            raise ConfigurationError(
                f"{place.host}, which has the file, redirects away from {place.scheme}, which is not followed"
            )
        return download_address(url, self._policy)

    async def _addresses(self, place: DownloadAddress) -> tuple[tuple[str, ...], AddressClass]:
        """Resolve a host to addresses of one class. One forbidden address refuses the host: it may be an attack."""
        if place.address is not None:
            return (str(place.address),), class_of(place.address)
        try:
            named = [ip_address(name) for name in await self._resolve(place.host, place.port)]
        except (OSError, ValueError) as exc:
            raise ConnectError(f"the host of the file, {place.host}, was not found") from exc
        if not named:
            raise ConnectError(f"the host of the file, {place.host}, was not found")
        kind: AddressClass = "public"
        for address in named:
            found = class_of(address)
            check_class(found, place.host, self._policy)
            if found != "public":
                kind = found
        return tuple(map(str, dict.fromkeys(named))), kind

    async def _read(self, exchange: Exchange, place: DownloadAddress) -> bytes:
        status, headers, most = exchange.status, exchange.headers, self._policy.max_bytes
        if status != 200:
            failed = TransportError(f"{place.host}, which has the file, answered {status}")
            failed.retryable = status >= 500 or status in _TRY_AGAIN
            raise failed
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise _final(f"{place.host}, which has the file, sent it compressed although it was asked not to")
        length = headers.get("content-length", "")
        too_long = ConfigurationError(
            f"the file from {place.host} has more than {most} bytes, the most there may be (FetchPolicy.max_bytes)"
        )
        announced = int(length[:20]) if length.isdecimal() else 0
        if announced > most:
            raise too_long
        self._check_total(announced)
        data = bytearray()
        while chunk := await exchange.read():
            data += chunk
            if len(data) > most:
                raise too_long
            self._received += len(chunk)
            self._check_total(0)
        return bytes(data)

    def _check_total(self, more: int) -> None:
        """Raise if the bytes received so far and ``more`` bytes exceed the total limit."""
        most = self._bounds.max_download_bytes_total
        if self._received + more > most:
            words = "the files to download for the call are too large together"
            raise BoundsError(words, setting="max_download_bytes_total", limit=most)


def fetcher_for(transport: Transport, policy: FetchPolicy, bounds: Bounds | None = None) -> Fetcher:
    """Build a fetcher that uses ``transport``, or aiohttp if ``transport`` does not support downloads."""
    if isinstance(transport, Downloads):
        resolve = transport.addresses_of if isinstance(transport, ResolvesHosts) else addresses_of
        return Fetcher(policy, transport, resolve, bounds)
    from dhenara_async.transport.aiohttp_downloads import AiohttpDownloads

    return Fetcher(policy, AiohttpDownloads(), addresses_of, bounds)


def _filename(url: str) -> str | None:
    """Return the last segment of a URL's path if it looks like a file name; else None."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return name if "." in name.strip(".") and name.isprintable() and "/" not in name and "\\" not in name else None


def _final(message: str) -> TransportError:
    """Build an error that is not retried."""
    failure = TransportError(message)
    failure.retryable = False
    return failure
