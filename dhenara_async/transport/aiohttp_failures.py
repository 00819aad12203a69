"""Translates what aiohttp raises into the errors of this package, without the headers that hold the key."""

import aiohttp
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy

from dhenara_async.config import Timeouts
from dhenara_async.errors import (
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    ReadError,
    TransportError,
)
from dhenara_async.transport import header_block_too_large

FAILURES: tuple[type[Exception], ...] = (aiohttp.ClientError, HttpProcessingError, TimeoutError, ValueError)
"""The exceptions that sending a request by aiohttp raises."""


def connecting_limit(timeouts: Timeouts) -> tuple[str, float | None]:
    """Return the time limit of connecting, and its seconds; None = no limit."""
    connect, first_byte = timeouts.connect, timeouts.first_byte
    if first_byte is not None and (connect is None or first_byte < connect):
        return "first_byte", first_byte
    return "connect", connect


def failure_of_request(exc: Exception, max_header_bytes: int, timeouts: Timeouts) -> DhenaraError:
    """Translate the failure of a request.

    Raise it from ``exc.with_traceback(None)``: among the locals of aiohttp's frames are the headers with the key.
    """
    return header_block_too_large(max_header_bytes) if _is_head_too_large(exc) else translated(exc, timeouts)


def _is_head_too_large(exc: BaseException) -> bool:
    """Whether the head of a response was too large for aiohttp, or had too many headers."""
    if isinstance(exc, LineTooLong) or (isinstance(exc, BadHttpMessage) and "Too many headers" in exc.message):
        return True
    return exc.__cause__ is not None and _is_head_too_large(exc.__cause__)


_PROXY_REFUSES = frozenset({400, 401, 403, 405, 407})  # final: a retry would get the same answer


def translated(exc: Exception, timeouts: Timeouts) -> TransportError | ConfigurationError:
    """Translate an exception of aiohttp."""
    match exc:
        case aiohttp.ConnectionTimeoutError():
            limit, seconds = connecting_limit(timeouts)
            return DeadlineError(limit=limit, seconds=seconds)
        case aiohttp.SocketTimeoutError():
            return DeadlineError(limit="between_bytes", seconds=timeouts.between_bytes)
        case TimeoutError():
            return ConnectError("no connection: looking up or connecting took longer than the system waits")
        case aiohttp.InvalidURL():
            return ConfigurationError("the base_url of the endpoint is not a URL")
        case aiohttp.ClientConnectionResetError():
            return ConnectError("a kept connection had been closed by the host; nothing was sent over it")
        case aiohttp.ClientProxyConnectionError():
            return ConnectError(f"no connection to the proxy of the environment, {exc.host}:{exc.port}: {exc.os_error}")
        case aiohttp.ClientConnectorError():
            return ConnectError(f"no connection to {exc.host}:{exc.port}: {exc.os_error}")
        case aiohttp.ClientHttpProxyError():
            _forget_headers(exc)
            refused = ConnectError(f"no connection: the proxy from the environment answered {exc.status}")
            refused.retryable = exc.status not in _PROXY_REFUSES
            return refused
        case aiohttp.ClientResponseError():
            _forget_headers(exc)
            return ReadError(f"the connection broke: {type(exc).__name__}")
        case aiohttp.ClientError() | HttpProcessingError():
            return ReadError(f"the connection broke: {type(exc).__name__}")
        case _:
            return ConfigurationError("a header of the request holds characters that cannot be sent")


def _forget_headers(exc: aiohttp.ClientResponseError) -> None:
    """Remove the headers from aiohttp's exception: its text quotes the request, with the key."""
    exc.request_info = exc.request_info._replace(headers=CIMultiDictProxy(CIMultiDict[str]()))
    exc.args = (exc.request_info, exc.history)
