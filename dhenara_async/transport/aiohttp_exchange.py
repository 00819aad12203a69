"""``AiohttpExchange``: a response of aiohttp that is read chunk by chunk."""

import asyncio
import errno
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from aiohttp import EMPTY_PAYLOAD, StreamReader
from aiohttp.connector import Connection

from dhenara_async.config import Timeouts
from dhenara_async.errors import DeadlineError, ReadError, StreamStateError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Exchange
from dhenara_async.transport.aiohttp_failures import FAILURES, failure_of_request, translated
from dhenara_async.transport.aiohttp_internals import DirectRequest, buffered, hang_up, take, wait
from dhenara_async.transport.decompression import unpacked
from dhenara_async.transport.first_byte import FirstByteTimer
from dhenara_async.transport.open_calls import OpenCalls


class PendingAiohttp(DirectRequest):
    """A request that was sent directly; see ``PendingResponse``."""

    __slots__ = ("_max_header_bytes", "_timeouts")

    def __init__(
        self,
        connection: Connection,
        protocol: Any,
        timer: FirstByteTimer | None,
        request: HttpRequest,
        timeouts: Timeouts,
        open_calls: OpenCalls,
    ) -> None:
        super().__init__(connection, protocol, timer)
        self._max_header_bytes = request.max_header_bytes  # and not the request: its body may be large
        self._timeouts = timeouts
        open_calls.add(self)

    async def head(self) -> Exchange:
        """See ``PendingResponse``."""
        try:
            message, content = await self.next_head()
            while 100 <= message.code < 200 and message.code != 101:  # informational, not the response yet
                message, content = await self.next_head()
            self.begin(content)
        except asyncio.CancelledError:  # the wait can be repeated
            raise
        except (DeadlineError, StreamStateError):
            self.close()
            raise
        except FAILURES as exc:
            self.close()
            raise failure_of_request(exc, self._max_header_bytes, self._timeouts) from exc.with_traceback(None)
        except BaseException:
            self.close()
            raise
        return unpacked(AiohttpExchange(self, content, message.code, message.headers, self._timeouts, private=True))


class HeldResponse(aiohttp.ClientResponse):
    """A response whose connection is closed with it at any time, also before its head has arrived.

    It keeps its connection's protocol, which knows how the connection ended: aiohttp drops it at the end of the body.
    """

    protocol: Any = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self.protocol = connection.protocol
        return await super().start(connection)

    def close(self) -> None:
        if self.connection is not None:
            hang_up(self.connection)
        super().close()


class AiohttpExchange:
    """A response; see ``Exchange``.

    aiohttp's own ``sock_read`` limit moves a timer at every read, which costs more than decoding the token that was
    read. Here one timer a stream looks from time to time whether a read has been waiting for too long.
    """

    repeatable: Final = True

    __slots__ = (
        "__weakref__",
        "_at_once",
        "_content",
        "_loop",
        "_response",
        "_silent",
        "_timeouts",
        "_waiting_since",
        "_watch",
        "headers",
        "status",
    )

    def __init__(
        self,
        response: DirectRequest | HeldResponse,
        content: StreamReader,
        status: int,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        *,
        private: bool,
    ) -> None:
        self._response = response
        self._content = content
        self._at_once = private and content is not EMPTY_PAYLOAD
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._silent = 0.0  # seconds that cancelled reads have waited
        self._watch: asyncio.TimerHandle | None = None  # set from the first read that has to wait
        self.status: int = status
        self.headers: Mapping[str, str] = headers

    async def read(self) -> bytes:
        """See ``Exchange``. Never by line, because a line has no size limit."""
        content = self._content
        try:
            chunk = take(content) if self._at_once else None
            while chunk is None:  # one function: each coroutine below the reader is resumed for every token
                self._waiting_since = self._loop.time() - self._silent
                if self._watch is None and self._timeouts.between_bytes is not None:
                    self._look(self._timeouts.between_bytes)
                if self._at_once:
                    await wait(content)
                    chunk = take(content)
                else:
                    chunk = await content.readany()
        except asyncio.CancelledError:  # the reader may come back; the host's silence continues
            if self._waiting_since is not None:
                self._silent = self._loop.time() - self._waiting_since
                self._waiting_since = None
            raise
        except (DeadlineError, StreamStateError):  # raised by ``interrupt``
            self._stop_watching()
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            self._stop_watching()
            rest = b"" if content.exception() is None else buffered(content)
            if rest:
                return rest  # the next read raises
            raise translated(exc, self._timeouts) from exc
        self._waiting_since, self._silent = None, 0.0
        if not chunk:
            self._stop_watching()
            if self._was_reset():
                raise ReadError("the connection broke: it was reset, in a body that only its end would have ended")
        return chunk

    def _was_reset(self) -> bool:
        """Whether a body without a length was cut by a reset, which aiohttp reports as a normal end.

        Other failures there are hosts that close without TLS's goodbye, as many do after a complete response.
        """
        response, headers = self._response, self.headers
        if "content-length" in headers or "transfer-encoding" in headers:
            return False
        failure = None if response.protocol is None else response.protocol.exception()
        return isinstance(failure, aiohttp.ClientOSError) and failure.errno == errno.ECONNRESET

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._content.set_exception(error)

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._content.at_eof() and not self._was_reset()

    async def close(self) -> None:
        """See ``Exchange``. Closing does not await in aiohttp, so it cannot be cancelled."""
        self._stop_watching()
        self._response.close()

    def _look(self, limit: float) -> None:
        """Fail a read that has waited for ``limit`` seconds; otherwise check again when it will have."""
        waited = 0.0 if self._waiting_since is None else self._loop.time() - self._waiting_since
        if waited >= limit:
            self._content.set_exception(aiohttp.SocketTimeoutError())
        else:
            self._watch = self._loop.call_later(limit - waited, self._look, limit)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
