"""URLs of files, as far as they can be checked without a network. Pure.

A URL comes from anybody. Whoever fetches it, this process or a server in the same network, can reach what its author
cannot: own ports, neighbours, a cloud's metadata. So a URL is taken apart and written anew, and its host decides where
it may go.

Rules: https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
(read 2026-11-22)
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote, urlsplit

from dhenara_async.config import FetchPolicy
from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.addresses import AddressClass, ascii_host, class_of

_OURS: tuple[AddressClass, ...] = ("private", "loopback")
_UNSENDABLE = re.compile(r"[\x00-\x20\x7f\\]")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".lan")
_ANY_SCHEME = FetchPolicy(allow_http=True)


@dataclass(slots=True, frozen=True)
class DownloadAddress:
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


def download_address(url: str, policy: FetchPolicy) -> DownloadAddress:
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
        check_class(class_of(address), host, policy)
    try:
        path, query = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~"), quote(parts.query, safe="/?%:@!$&'()*+,;=~")
    except UnicodeEncodeError as exc:
        raise ConfigurationError("the file URL has half characters in it") from exc
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    rebuilt = f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")
    return DownloadAddress(scheme, host, port or (443 if scheme == "https" else 80), rebuilt, address)


def leads_inside(url: str) -> bool:
    """Whether no server may be handed a URL of ``http`` or ``https``, because it may lead into that server's network.

    True for addresses that are not public, however they are written, for names of this machine or its network, and for
    what is no URL that a download would ask for.
    """
    try:
        target = download_address(url, _ANY_SCHEME)
    except ConfigurationError:
        return True
    return target.address is None and is_local(target.host)


def is_local(host: str) -> bool:
    """Whether a host is of this machine or its network, as far as the name alone tells."""
    name = host.rstrip(".").lower()
    try:
        return not ip_address(name).is_global
    except ValueError:
        return "." not in name or name.endswith(_LOCAL_NAMES)


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


def check_class(kind: AddressClass, host: str, policy: FetchPolicy) -> None:
    """Refuse addresses of a kind that the policy does not allow.

    Raises:
        ConfigurationError: It does not allow them.
    """
    if kind == "public" or (policy.allow_private and kind in _OURS):
        return
    unless = ", unless FetchPolicy.allow_private is set" if kind in _OURS else ""
    raise ConfigurationError(f"{host} has a {kind} address, and files are downloaded from public ones only{unless}")
