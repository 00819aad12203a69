"""Checks a caller's extra headers, and finds secrets and account credentials in them. Pure.

Source: RFC 9110, sections 5.1, 5.5 and 7.6.1 (read 2026-11-22)
"""

import re
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import BeforeValidator, PlainSerializer, SecretStr

from dhenara_async.errors import ConfigurationError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
# They frame a message, or concern one connection: a contradicting value is request smuggling.
_TRANSPORTS = frozenset(
    {
        *("connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade"),
    }
)
# Headers whose values errors may quote: helpful and harmless.
_PUBLIC = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "anthropic-beta", "anthropic-version", "cache-control"),
        *("content-type", "http-referer", "idempotency-key", "openai-beta", "referer", "traceparent", "tracestate"),
        *("user-agent", "x-client-request-id", "x-request-id", "x-title"),
    }
)
_CREDENTIAL = re.compile(
    r"auth|key|token|secret|cookie|credential|passw|signature|organi[sz]ation|project|tenant|account|workspace"
)
_SHORTEST_SECRET = 8  # shorter values are words of any text


def sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """Check a caller's headers and lower-case their names, so that they replace this library's headers of that name.

    Raises:
        ConfigurationError: A name is not a token, belongs to the transport, or a value has control characters in it.
    """
    fault = next(_faults(headers), None)
    if fault is not None:
        del headers  # reporters of errors show the locals of this frame
        raise ConfigurationError(fault)
    return {name.lower(): value.strip(" \t") for name, value in headers.items()}


def _faults(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        if _TOKEN.fullmatch(name) is None or _UNSENDABLE.search(value):
            yield f"the extra header {name!r} holds characters that no header can carry"
        elif name.lower() in _TRANSPORTS:
            yield f"the extra header {name!r} is set by the transport: leave it out"


def secrets_of(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the header values to mask in errors: credentials, and all values that are not known to be harmless."""
    for name, value in headers.items():
        if name.lower() not in _PUBLIC:
            secret = value.strip().rpartition(" ")[2]  # without "Bearer"
            if len(secret) >= _SHORTEST_SECRET:
                yield secret


def credentials_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that identify an account, names in lower case."""
    lower = ((name.lower(), value.strip()) for name, value in headers.items())
    return {name: value for name, value in lower if name not in _PUBLIC and _CREDENTIAL.search(name)}


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers for people: values that are not known to be harmless are masked."""
    return {name.lower(): value if name.lower() in _PUBLIC else "***" for name, value in headers.items()}


def names_a_secret(name: str) -> bool:
    """Whether a field of that name would hold a credential."""
    return _CREDENTIAL.search(name.lower()) is not None


def _open(value: object) -> object:
    """Convert the secrets of a dump back to plain headers."""
    if not isinstance(value, Mapping):
        return value
    given = cast("Mapping[object, object]", value)
    return {name: item.get_secret_value() if isinstance(item, SecretStr) else item for name, item in given.items()}


def _sealed(headers: Mapping[str, str]) -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in headers.items()}


OPENED = BeforeValidator(_open)
"""For a field of headers: accepts the secrets that ``SEALED`` dumps."""

SEALED = PlainSerializer(_sealed)
"""For a field of headers: dumps have secrets in their place, JSON a mask."""
