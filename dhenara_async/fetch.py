"""Downloads a file for a target that cannot fetch its URL, by rules that keep the machine it runs on safe.

A URL comes from anybody, and a server can reach what they cannot: its own ports, its network, its cloud's metadata.
So every hop goes the same way: the URL is taken apart and written anew, its host is looked up here, every address must
be of a class that may be asked, and the connection is made to those addresses and no others (``Downloads``). A name
that resolves to something else the second time, which is how checks are usually tricked, has no second time.

Rules: https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
and the IANA special-purpose address registries (read 2026-11-22)
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import SOCK_STREAM
from urllib.parse import quote, unquote, urljoin, urlsplit

import anyio

from dhenara_async.addresses import AddressClass, ascii_host, class_of
from dhenara_async.config import FetchPolicy
from dhenara_async.errors import ConfigurationError, ConnectError, DeadlineError, DhenaraError, TransportError
from dhenara_async.links import FileKey, key_of
from dhenara_async.media import downloaded
from dhenara_async.messages import FilePart
from dhenara_async.transport import Downloads, Exchange, FileRequest, Transport

AT_ONCE = 4
"""The most files of one call that are downloaded at the same time."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_OURS: tuple[AddressClass, ...] = ("private", "loopback")
_UNSENDABLE = re.compile(r"[\x00-\x20\x7f\\]")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429})
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "dhenara-async"}


@dataclass(slots=True, frozen=True)
class Place:
    """A URL that may be asked, as far as it tells by itself.

    Attributes:
        scheme: ``https`` or ``http``.
        host: In ASCII and lower case; an IPv6 address without its brackets.
        port: The one it names, else its scheme's.
        url: The same URL, written anew from what was checked, without a fragment.
        address: What the host is if it is an address itself; None for a name.
    """

    scheme: str
    host: str
    port: int
    url: str
    address: IPv4Address | IPv6Address | None


def place_of(url: str, policy: FetchPolicy) -> Place:
    """``url``, checked as far as that goes without a network.

    Raises:
        ConfigurationError: It is not a URL, or the policy does not allow it.
    """
    if _UNSENDABLE.search(url):
        raise ConfigurationError("the file URL has spaces, backslashes or control characters in it")
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise ConfigurationError("the file URL is not a URL") from exc
    scheme = parts.scheme
    if scheme not in ("https", "http"):
        raise ConfigurationError("files are downloaded from https:// only")
    if scheme == "http" and not policy.allow_http:
        raise ConfigurationError("files are downloaded from https:// only, unless FetchPolicy.allow_http is set")
    if "@" in parts.netloc:
        raise ConfigurationError("the file URL holds credentials, which a download does not send")
    host, address = _host(hostname, bracketed="[" in parts.netloc)
    if address is not None:
        _check_class(class_of(address), host, policy)
    try:
        path, query = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~"), quote(parts.query, safe="/?%:@!$&'()*+,;=~")
    except UnicodeEncodeError as exc:
        raise ConfigurationError("the file URL has half characters in it") from exc
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    rebuilt = f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")
    return Place(scheme, host, port or (443 if scheme == "https" else 80), rebuilt, address)


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """Every address the system knows for ``host``."""
    found = await anyio.getaddrinfo(host, port, type=SOCK_STREAM)
    return [str(info[4][0]) for info in found]


class Fetcher:
    """Downloads files.

    Args:
        policy: The rules.
        downloads: Makes the connections.
        resolve: Looks names up; the only way to an address.
    """

    def __init__(self, policy: FetchPolicy, downloads: Downloads, resolve: Resolve) -> None:
        self._policy = policy
        self._downloads = downloads
        self._resolve = resolve

    async def fetch_all(self, parts: Iterable[FilePart]) -> dict[FileKey, FilePart]:
        """Download files, a few at a time; the first failure gives the others up.

        Raises:
            ConfigurationError: A rule of the policy forbids one, or it is not what it is declared to be.
            TransportError: One did not arrive.
        """
        files: dict[FileKey, FilePart] = {}
        failures: list[DhenaraError] = []
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def one(part: FilePart) -> None:
            try:
                async with limiter:
                    files[key_of(part)] = await self.fetch(part)
            except DhenaraError as exc:  # kept apart, so that the caller gets it and not a group of one
                failures.append(exc)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for part in parts:
                tasks.start_soon(one, part)
        if failures:
            raise failures[0]
        return files

    async def fetch(self, part: FilePart) -> FilePart:
        """``part`` with its bytes in the place of its URL; errors as for ``fetch_all``."""
        url = part.url
        if url is None:
            return part
        policy = self._policy
        came: tuple[bytes, Place, str] | None = None
        with anyio.move_on_after(policy.seconds):
            came = await self._follow(url)
        if came is None:
            raise DeadlineError(limit="fetch", seconds=policy.seconds)
        data, place, told = came
        try:
            media_type = downloaded(data, declared=part.media_type, told=told)
            named = part.filename or _filename(url)
            return FilePart(media_type=media_type, data=data, filename=named, origin=part.origin)
        except ConfigurationError as exc:
            raise ConfigurationError(f"cannot use the file from {place.host}: {exc}") from exc
        except ValueError as exc:  # pydantic's, around the words of check_signature
            raise ConfigurationError(f"cannot use the file from {place.host}: it is empty or damaged") from exc

    async def _follow(self, url: str) -> tuple[bytes, Place, str]:
        """The bytes at the end of the redirects, where they came from, and what they are said to be."""
        place = place_of(url, self._policy)
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

    def _next(self, place: Place, location: str) -> Place:
        if not location:
            raise _final(f"{place.host}, which has the file, redirects without saying where to")
        try:
            url = urljoin(place.url, location)
            scheme = urlsplit(url).scheme
        except ValueError as exc:
            raise _final(f"{place.host}, which has the file, redirects to something that is not a URL") from exc
        if scheme != place.scheme:
            raise ConfigurationError(
                f"{place.host}, which has the file, redirects away from {place.scheme}, which is not followed"
            )
        return place_of(url, self._policy)

    async def _addresses(self, place: Place) -> tuple[tuple[str, ...], AddressClass]:
        """Where a host may be connected to. One address that may not be asked spoils all: somebody is trying."""
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
            _check_class(found, place.host, self._policy)
            if found != "public":
                kind = found
        return tuple(map(str, dict.fromkeys(named))), kind

    async def _read(self, exchange: Exchange, place: Place) -> bytes:
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
        if length.isdecimal() and int(length[:20]) > most:
            raise too_long
        data = bytearray()
        while chunk := await exchange.read():
            data += chunk
            if len(data) > most:
                raise too_long
        return bytes(data)


def fetcher_for(transport: Transport, policy: FetchPolicy) -> Fetcher:
    """A fetcher over connections of ``transport``'s kind, by aiohttp where it makes none for files."""
    if isinstance(transport, Downloads):
        return Fetcher(policy, transport, addresses_of)
    from dhenara_async.transport.downloads_over_aiohttp import AiohttpDownloads

    return Fetcher(policy, AiohttpDownloads(), addresses_of)


def _host(hostname: str, *, bracketed: bool) -> tuple[str, IPv4Address | IPv6Address | None]:
    """A host's usual spelling, and its address if it is one; 0x7f.1, 0177.1 and 2130706433 are refused as tricks."""
    if bracketed or ":" in hostname:
        try:
            return hostname, IPv6Address("" if "%" in hostname else hostname)  # no zones
        except ValueError as exc:
            raise ConfigurationError("the host of the file URL is not an address") from exc
    try:
        host = ascii_host(hostname).removesuffix(".")
    except ValueError as exc:
        raise ConfigurationError(f"the host of the file URL is not a name: it {exc}") from exc
    if _NUMBER.fullmatch(host.rpartition(".")[2]) is None:
        return host, None
    try:
        return host, IPv4Address(host)
    except ValueError as exc:
        raise ConfigurationError("the host of the file URL is an address in disguise") from exc


def _check_class(kind: AddressClass, host: str, policy: FetchPolicy) -> None:
    if kind == "public" or (policy.allow_private and kind in _OURS):
        return
    unless = ", unless FetchPolicy.allow_private is set" if kind in _OURS else ""
    raise ConfigurationError(f"{host} has a {kind} address, and files are downloaded from public ones only{unless}")


def _filename(url: str) -> str | None:
    """The last piece of a URL's path where it looks like a file's name."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return name if "." in name.strip(".") and name.isprintable() and "/" not in name and "\\" not in name else None


def _final(message: str) -> TransportError:
    """A failure that another try would only repeat."""
    failure = TransportError(message)
    failure.retryable = False
    return failure
