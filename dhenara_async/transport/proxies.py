"""Finds the proxy of a URL by ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` of the environment.

They mean what they mean to curl: an address without a scheme is one of ``http://``, the lower-case name of a variable
wins, and ``NO_PROXY`` holds names, suffixes, addresses and networks, with or without a port. Where no variable is set,
Python asks the system for its settings.

Source: https://everything.curl.dev/usingcurl/proxies/env.html (read 2026-11-22)
"""

import os
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import SecretStr
from yarl import URL

from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.addresses import ascii_host


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        address: Without a user and password.
        authorization: The value of ``proxy-authorization`` that says those; None = nothing does.
    """

    address: URL
    authorization: str | None = field(default=None, repr=False)


def proxy_for(url: URL) -> Proxy | None:
    """Return the proxy for requests to ``url``; None = connect to the host.

    Raises:
        ConfigurationError: There is one that cannot be used; the variable is named, its value is not, for it may hold a
            password.
    """
    proxies = getproxies()
    kind = next((kind for kind in (url.scheme, "all") if proxies.get(kind)), None)
    if kind is None or not url.host or _bypassed(url.host, url.port, proxies.get("no", "")):
        return None
    address, name = SecretStr(proxies[kind].strip()), _variable(kind)
    del proxies  # reporters of errors show the locals of this frame
    return _read(address, name)


def _read(address: SecretStr, variable: str) -> Proxy:
    """Parse the proxy address of ``variable``. The address is a secret because it may contain a password."""
    made = _parsed(address.get_secret_value())
    if isinstance(made, Proxy):
        return made
    raise ConfigurationError(f"{variable} {made}")


def _parsed(address: str) -> Proxy | str:
    """Return the proxy at ``address``, or the end of an error message."""
    scheme, colon, rest = address.partition("://")
    if not colon:
        scheme, rest = "http", address.removeprefix("//")
    scheme = scheme.lower()
    if scheme.startswith("socks"):
        return _SOCKS
    if scheme not in ("http", "https"):
        return "names a proxy of a scheme that is neither http:// nor https://"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        made = URL.build(scheme=scheme, host=ascii_host(parts.hostname or ""), port=parts.port)
    except ValueError:
        return _NO_ADDRESS
    if parts.username is None:
        return Proxy(made)
    userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(made, f"Basic {b64encode(userinfo.encode()).decode()}")


_SOCKS = (
    "names a SOCKS proxy, which aiohttp cannot speak to: set HTTPS_PROXY and HTTP_PROXY to an HTTP proxy, list the "
    "host in NO_PROXY, pass AiohttpTransport(trust_env=False) to do without a proxy, or use HttpxTransport with a "
    "client of httpx[socks]"
)
_NO_ADDRESS = (
    "is not the address of a proxy, as http://host:port or http://user:password@host:port with special characters "
    "percent-encoded"
)


def _variable(kind: str) -> str:
    """Return the name of the environment variable of a setting."""
    names = (f"{kind}_proxy", f"{kind}_proxy".upper(), *os.environ)
    found = (name for name in names if name.lower() == f"{kind}_proxy" and os.environ.get(name))
    return next(found, "a setting of the system")


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    if proxy_bypass(host):
        return True
    return any(_matches(entry.strip().lower(), host.lower(), port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of ``NO_PROXY`` matches a host, in forms that Python does not cover: ports, networks, ``*``."""
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, number = entry.rpartition(":")
    if colon and (name.endswith("]") or ":" not in name):
        if number != str(port):
            return False
        entry = name
    entry = entry.removeprefix("[").removesuffix("]").removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))
