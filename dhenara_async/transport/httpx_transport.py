"""A transport around a caller's own ``httpx.AsyncClient``: for HTTP/2, custom authentication, mounts or mocks.

The client stays the caller's: its limits, proxies and TLS apply, and the caller closes it. Files are downloaded by
separate clients. ``httpx2`` has the same names as ``httpx``, so its clients work as well. Neither is imported with this
module, so that the package can be searched and star-imported without them; the extra ``httpx`` installs ``httpx``.

Source: https://www.python-httpx.org/async/ (read 2026-11-22)
"""

import os
import re
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from http.cookiejar import Cookie, CookieJar, CookiePolicy, DefaultCookiePolicy
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeVar, cast
from urllib.request import Request as UrllibRequest

import anyio

from dhenara_async.config import Timeouts
from dhenara_async.errors import (
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    MissingExtraError,
    ReadError,
    StreamStateError,
)
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Exchange, FileRequest, header_block_too_large
from dhenara_async.transport.decompression import ACCEPTED, unpacked
from dhenara_async.transport.open_calls import OpenCalls, broken_off, refused, running_loop

if TYPE_CHECKING:
    import httpx
    import httpx2

Got = TypeVar("Got")

CLOSE_SECONDS = 1.0
_MARK = "dhenara_async"
_OURS = {_MARK: True}
_DEEPEST = 8  # nested streams, from httpx's to the connection's
_UNLIMITED = Timeouts(connect=None, between_bytes=None)  # the caller limits the whole download


class _Library(Protocol):
    """The names of ``httpx`` that are used here; ``httpx2`` has them too."""

    AsyncClient: "type[httpx.AsyncClient]"
    Request: "type[httpx.Request]"
    Timeout: "type[httpx.Timeout]"
    URL: "type[httpx.URL]"
    ConnectError: "type[httpx.ConnectError]"
    ConnectTimeout: "type[httpx.ConnectTimeout]"
    HTTPError: "type[httpx.HTTPError]"
    InvalidURL: "type[httpx.InvalidURL]"
    LocalProtocolError: "type[httpx.LocalProtocolError]"
    PoolTimeout: "type[httpx.PoolTimeout]"
    ProxyError: "type[httpx.ProxyError]"
    StreamError: "type[httpx.StreamError]"
    TimeoutException: "type[httpx.TimeoutException]"
    UnsupportedProtocol: "type[httpx.UnsupportedProtocol]"

    def create_ssl_context(self) -> ssl.SSLContext:
        """Build the library's default TLS context."""
        ...


def _library_of(client: object) -> _Library:
    """Return the library that ``client`` comes from; ``httpx`` for a stand-in of a test.

    Raises:
        MissingExtraError: It comes from neither, and httpx is not installed.
    """
    packages = {base.__module__.partition(".")[0] for base in type(client).__mro__}
    try:
        return cast("_Library", import_module("httpx2" if "httpx2" in packages else "httpx"))
    except ImportError as exc:
        raise MissingExtraError("HttpxTransport", extra="httpx") from exc


class HttpxTransport:
    """Sends requests by a caller's ``httpx.AsyncClient`` or ``httpx2.AsyncClient``.

    The client's own cookies are sent, but cookies of responses are not kept, because calls of different accounts share
    the client. Responses are requested in gzip or deflate and decompressed here, whatever httpx supports.

    Args:
        client: An open ``httpx.AsyncClient`` or ``httpx2.AsyncClient``; it is not closed here.

    Raises:
        MissingExtraError: httpx is not installed.
    """

    def __init__(self, client: "httpx.AsyncClient | httpx2.AsyncClient") -> None:
        self._library = _library_of(client)
        self._client = cast("httpx.AsyncClient", client)
        self._jar: CookieJar | None = None
        self._tls: ssl.SSLContext | None = None
        self._open_calls = OpenCalls()
        self._process = os.getpid()

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``."""
        return await self.while_open(self._send(request, timeouts))

    async def while_open(self, work: Coroutine[object, object, Got]) -> Got:
        """See ``EndsWaits``. A client that its owner has closed counts as a closed transport."""
        try:
            self._check()
        except BaseException:
            work.close()
            raise
        return await self._open_calls.run(work)

    def _check(self) -> None:
        running_loop()
        if self._client.is_closed:
            raise refused()
        if os.getpid() != self._process:
            raise StreamStateError(
                "this process was forked and has its parent's httpx.AsyncClient, whose connections are in use there; "
                "make an HttpxTransport around a client of its own"
            )

    async def _send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        if self._client.cookies.jar is not self._jar:  # the owner can replace the client's cookies at any time
            self._jar = self._client.cookies.jar
            _ignore_our_cookies(self._jar, self._library)
        # reading has two limits, before and after the head; httpx has only one, so both are enforced here
        limits = self._library.Timeout(
            timeouts.between_bytes, read=None, connect=timeouts.connect, pool=timeouts.connect
        )
        try:
            built = self._client.build_request(
                "POST",
                request.url,
                content=request.body,
                headers={"accept-encoding": ACCEPTED, **request.headers},
                timeout=limits,
                extensions=_OURS,
            )
            with anyio.move_on_after(timeouts.first_byte):
                response = await self._client.send(built, stream=True, follow_redirects=False)
                exchange = HttpxExchange(response, timeouts, self._client, self._library)
                self._open_calls.add(exchange)
                return exchange if response.is_stream_consumed else unpacked(exchange)
        except (self._library.HTTPError, self._library.InvalidURL, UnicodeEncodeError) as exc:
            if "Receive buffer too long" in str(exc):  # h11's words, where the head is longer than it takes
                raise header_block_too_large(request.max_header_bytes) from exc.with_traceback(None)
            # without the frames of httpx, among whose locals are the headers with the key
            raise _translated(exc, timeouts, self._client, self._library) from exc.with_traceback(None)
        raise DeadlineError(limit="first_byte", seconds=timeouts.first_byte)

    async def get(self, request: FileRequest) -> "HttpxDownload":
        """See ``Downloads``. Not by the caller's client: each file gets one of its own, and nothing of the caller's.

        httpx has no resolver to replace, so the checked address stands in the URL, and the name goes where it is needed
        besides: into the ``host`` header and the TLS handshake. A pool tells connections apart by what stands in the
        URL, so a shared one would hand a connection that was verified for one name to another at the same address.
        """
        if self._tls is None:
            self._tls = self._library.create_ssl_context()
        client = self._library.AsyncClient(verify=self._tls, trust_env=False, timeout=None)
        try:
            response = await _send_to_first(client, request, self._library)
            return HttpxDownload(response, _UNLIMITED, client, self._library)
        except BaseException:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await client.aclose()
            raise

    async def aclose(self) -> None:
        """See ``Transport``. Open calls are ended; the client stays open until its owner closes it."""
        self._open_calls.end()


class HttpxExchange:
    """A response; see ``Exchange``."""

    def __init__(
        self, response: "httpx.Response", timeouts: Timeouts, client: "httpx.AsyncClient", library: _Library
    ) -> None:
        self._response = response
        self._library = library
        self._client = client
        self._timeouts = timeouts
        # as it was sent, unless a mock or an event hook has read it before
        self._body: AsyncIterator[bytes] = (
            response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
        )
        self._ended = False
        self._error: Exception | None = None
        self._reading: anyio.CancelScope | None = None
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        """See ``Exchange``."""
        if self._error is not None:
            raise self._error
        silence = self._timeouts.between_bytes
        with anyio.move_on_after(silence) as self._reading:
            return await self._read()
        raise self._error or DeadlineError(limit="between_bytes", seconds=silence)

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._error = error
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> bytes:
        try:
            async for chunk in self._body:
                if chunk:
                    return chunk
        except (self._library.HTTPError, self._library.StreamError) as exc:
            raise _translated(exc, self._timeouts, self._client, self._library) from exc
        self._ended = True
        await _close_if_more_was_received(self._response)
        return b""

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._ended

    async def close(self) -> None:
        """See ``Exchange``."""
        await self._response.aclose()


class _IgnoreOurCookies(DefaultCookiePolicy):
    """A cookie policy that ignores cookies in responses to this library's requests."""

    def __init__(self, library: _Library) -> None:
        super().__init__()
        self._request_type = library.Request

    def set_ok(self, cookie: Cookie, request: UrllibRequest) -> bool:
        asked: object = getattr(request, "request", None)
        ours = isinstance(asked, self._request_type) and _MARK in asked.extensions
        return not ours and super().set_ok(cookie, request)


def _ignore_our_cookies(jar: CookieJar, library: _Library) -> None:
    """Set the policy of a cookie jar, unless its owner has set a custom one."""
    present = cast("CookiePolicy", jar._policy)  # type: ignore[attr-defined]  # pyright: ignore
    if type(present) is DefaultCookiePolicy:
        policy = _IgnoreOurCookies(library)
        vars(policy).update(vars(present))
        jar.set_policy(policy)


async def _close_if_more_was_received(response: "httpx.Response") -> None:
    """Close a connection that received bytes after its response: they would be read as the next response.

    httpx checks the socket before it reuses a connection, but not its own buffer, which is not public. This reads
    private attributes, and does nothing if they are missing.
    """
    stream: object = response.stream
    for _ in range(_DEEPEST):
        connection = getattr(stream, "_connection", None)
        if connection is not None:
            state = getattr(connection, "_h11_state", None)
            if state is not None and state.trailing_data[0]:
                await connection.aclose()
            return
        stream = getattr(stream, "_stream", None) or getattr(stream, "_httpcore_stream", None)


class HttpxDownload(HttpxExchange):
    """A file being received over a client of its own."""

    async def close(self) -> None:
        """See ``Exchange``."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await super().close()
            await self._client.aclose()


async def _send_to_first(client: "httpx.AsyncClient", request: FileRequest, library: _Library) -> "httpx.Response":
    """Send the request to the first address that accepts a connection, and wait for the response head."""
    url = library.URL(request.url)
    headers = {**request.headers, "host": url.netloc.decode()}
    failure: Exception | None = None
    for address in request.addresses:
        there = url.copy_with(host=address)
        built = library.Request("GET", there, headers=headers, extensions={"sni_hostname": request.host})
        try:
            return await client.send(built, stream=True, follow_redirects=False)
        except library.ConnectError as exc:
            failure = exc
        except library.HTTPError as exc:
            raise _translated(exc, _UNLIMITED, client, library) from exc
    raise ConnectError(f"no connection to {request.host}, which has the file: {failure}") from failure


_PROXY_REFUSES = re.compile(r"40[01357]\b")  # final: a retry would get the same answer


def _translated(exc: Exception, timeouts: Timeouts, client: "httpx.AsyncClient", library: _Library) -> DhenaraError:
    """Translate an exception of httpx."""
    if client.is_closed:
        return broken_off()
    if isinstance(exc, library.ConnectTimeout | library.PoolTimeout):
        return DeadlineError(limit="connect", seconds=timeouts.connect)
    if isinstance(exc, library.TimeoutException):
        return DeadlineError(limit="between_bytes", seconds=timeouts.between_bytes)
    if isinstance(exc, library.ProxyError):
        failed = ConnectError(f"no connection by way of the proxy: {exc}")
        failed.retryable = _PROXY_REFUSES.match(str(exc)) is None
        return failed
    if isinstance(exc, library.ConnectError):
        return ConnectError(f"no connection: {exc}")
    if isinstance(exc, library.InvalidURL | library.UnsupportedProtocol):
        return ConfigurationError("the base_url of the endpoint is not a URL")
    if isinstance(exc, UnicodeEncodeError | library.LocalProtocolError):
        return ConfigurationError("a header of the request holds characters that cannot be sent")
    return ReadError(f"the connection broke: {type(exc).__name__}")
