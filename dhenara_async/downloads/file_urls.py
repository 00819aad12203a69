"""Checks URLs of files without a network. Pure.

A URL may come from an untrusted user. The process that fetches it can reach hosts that the user cannot: local ports,
neighbours in the network, a cloud's metadata service. So a URL is parsed and rebuilt, and its host decides whether it
is allowed.

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
    """A checked URL of a file.

    Attributes:
        scheme: ``https`` or ``http``.
        host: The host in ASCII and lower case; an IPv6 address without brackets.
        port: The port in the URL, else the scheme's default.
        url: The URL, rebuilt from its checked components, without a fragment.
        address: The host as an IP address; None if it is a name.
    """

    scheme: str
    host: str
    port: int
    url: str
    address: IPv4Address | IPv6Address | None


def download_address(url: str, policy: FetchPolicy) -> DownloadAddress:
    """Parse and check ``url`` without a network.

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
    """Whether a URL may lead into a private network, so that it must not be sent to a server.

    True for non-public addresses in any notation, for names of this machine or its network, and for invalid URLs.
    """
    try:
        target = download_address(url, _ANY_SCHEME)
    except ConfigurationError:
        return True
    return target.address is None and is_local(target.host)


def is_local(host: str) -> bool:
    """Whether a host name or address belongs to this machine or its network, judged without DNS."""
    name = host.rstrip(".").lower()
    try:
        return not ip_address(name).is_global
    except ValueError:
        return "." not in name or name.endswith(_LOCAL_NAMES)


def _host(hostname: str, *, bracketed: bool) -> tuple[str, IPv4Address | IPv6Address | None]:
    """Normalize a host, and parse it if it is an address; 0x7f.1, 0177.1 and 2130706433 are refused as disguised."""
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
    """Check an address class against the policy.

    Raises:
        ConfigurationError: The policy does not allow the class.
    """
    if kind == "public" or (policy.allow_private and kind in _OURS):
        return
    unless = ", unless FetchPolicy.allow_private is set" if kind in _OURS else ""
    raise ConfigurationError(f"{host} has a {kind} address, and files are downloaded from public ones only{unless}")
