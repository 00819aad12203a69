"""Converts host names to ASCII and classifies IP addresses. Pure.

A name outside ASCII is spelled as browsers spell it: mapped by UTS 46 without transitional processing, then punycode.
The package ``idna`` is loaded by the first such name. Browsers also take symbols (``☃.example``), which IDNA 2008 does
not have, so those are encoded without its check.

Sources: https://url.spec.whatwg.org/#idna, https://www.unicode.org/reports/tr46/ and the IANA registries of
special-purpose addresses (read 2026-11-22)
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

AddressClass = Literal["public", "private", "loopback", "link-local", "multicast", "reserved"]

_PRIVATE_V4 = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
_RESERVED_V4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))
_PRIVATE_V6 = IPv6Network("fc00::/7")
_PUBLIC_V6 = IPv6Network("2000::/3")
# Includes tunnels, whose other end can be anywhere.
_RESERVED_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")

_LONGEST_LABEL = 63
_LONGEST_NAME = 253
_LABEL = re.compile(r"[a-z0-9_-]+")
_PUNYCODE = "xn--"


def ascii_host(name: str) -> str:
    """Convert a host name or IP address to ASCII and lower case.

    Args:
        name: Without a port; an IPv6 address without its brackets.

    Raises:
        ValueError: It is neither; the message continues a sentence that begins with "the host".
    """
    if ":" in name:
        try:
            IPv6Address(name)
        except ValueError as exc:
            raise ValueError("is not an IPv6 address") from exc
        return name.lower()
    mapped = name.lower() if name.isascii() else _mapped(name)
    labels = mapped.removesuffix(".").split(".")  # a trailing dot names the root and is allowed
    if not all(labels):
        raise ValueError("has an empty label (two dots in a row, or one at its start)")
    spelled = ".".join(map(_ascii_label, labels))
    if len(spelled) > _LONGEST_NAME:
        raise ValueError(f"has more than {_LONGEST_NAME} characters")
    return f"{spelled}." if mapped.endswith(".") else spelled


def class_of(address: IPv4Address | IPv6Address) -> AddressClass:
    """Classify an IP address; an IPv4 address embedded in an IPv6 one is classified by itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return class_of(address.ipv4_mapped)
        if address in _NAT64:
            return class_of(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if isinstance(address, IPv4Address):
        if any(address in network for network in _PRIVATE_V4):
            return "private"
        public = address.is_global and not any(address in network for network in _RESERVED_V4)
    else:
        if address in _PRIVATE_V6:
            return "private"
        public = address in _PUBLIC_V6 and not any(address in network for network in _RESERVED_V6)
    return "public" if public else "reserved"


def _mapped(name: str) -> str:
    """Apply the mapping of UTS 46: lower case, plain letters and dots, composed characters."""
    import idna

    try:
        return idna.uts46_remap(name, std3_rules=False, transitional=False)
    except (idna.IDNAError, UnicodeError) as exc:
        raise ValueError("has characters that no host name has") from exc


def _ascii_label(label: str) -> str:
    if not label.isascii():
        label = _encoded(label)
    elif label.startswith(_PUNYCODE):
        _check_punycode(label)
    if len(label) > _LONGEST_LABEL:
        raise ValueError(f"has a label of more than {_LONGEST_LABEL} characters")
    if _LABEL.fullmatch(label) is None:
        raise ValueError("has characters that no host name has")
    return label


def _encoded(label: str) -> str:
    import idna

    try:
        return idna.alabel(label).decode()
    except idna.InvalidCodepoint:  # a symbol, which browsers take
        return _PUNYCODE + label.encode("punycode").decode()
    except (idna.IDNAError, UnicodeError) as exc:
        if len(label) + len(_PUNYCODE) > _LONGEST_LABEL:
            raise ValueError(f"has a label of more than {_LONGEST_LABEL} characters") from exc
        raise ValueError("has characters that no host name has") from exc


def _check_punycode(label: str) -> None:
    import idna

    try:
        try:
            idna.ulabel(label)
        except idna.InvalidCodepoint:  # a symbol, which browsers take, unless UTS 46 forbids it
            idna.uts46_remap(label.removeprefix(_PUNYCODE).encode().decode("punycode"), False, False)
    except (idna.IDNAError, UnicodeError) as exc:
        raise ValueError(f"has a label that begins with {_PUNYCODE} and is not punycode") from exc
