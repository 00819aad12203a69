"""Which names a server may be called by. Pure.

A page of another site can have its own name point to a loopback address, and a browser then takes the server behind it
for that site (DNS rebinding). The browser still sends the name as ``Host``, so a name that is not the server's own is
refused. An IP address is no name that anybody could point anywhere.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# not urlsplit, to which [::1].evil.example is the host ::1
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{0,5}))?", re.I | re.ASCII
)


def is_loopback(host: str) -> bool:
    """Whether an address to listen at can be reached from this computer alone."""
    if host in _LOOPBACK:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class KnownHosts:
    """The hosts that a request may name.

    Args:
        host: The address that the server listens at.
        names: Further names of it, such as that of a proxy before it.
    """

    def __init__(self, host: str, names: Collection[str] = ()) -> None:
        self._names = _LOOPBACK | {host.lower(), *(host_name(name) or "" for name in names)}
        self._any_address = not is_loopback(host)

    def has(self, header: str | None) -> bool:
        """Whether a ``Host`` header names this server; its port does not matter, because a tunnel may change it."""
        name = host_name(header)
        if name is None:
            return False
        if name in self._names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback


def host_name(header: str | None) -> str | None:
    """Return the host of a ``Host`` header in lower case, without port and brackets; None if it is not one."""
    found = _HOST.fullmatch(header or "")
    if found is None or int(found["port"] or 0) > 65535:
        return None
    return (found["address"] or found["name"].rstrip(".")).lower() or None


def same_site(origin: str, host: str | None) -> bool:
    """Whether an ``Origin`` is the site that a ``Host`` header names, with its port."""
    scheme, _, site = origin.partition("://")
    return scheme in {"http", "https"} and host_name(site) is not None and site.lower() == (host or "").lower()
