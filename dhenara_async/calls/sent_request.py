"""``SentRequest``: one request of a call, from waiting for permission to send it to the end of its response body."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import replace
from typing import TypeVar

from dhenara_async.calls.body import ResponseBody
from dhenara_async.calls.call import Call, Delivery
from dhenara_async.calls.deadlines import Clock
from dhenara_async.calls.timing import SYSTEM
from dhenara_async.drivers.base import request_id_headers, request_id_of
from dhenara_async.drivers.failures import KEPT_BODY_BYTES
from dhenara_async.errors import DeadlineError, DhenaraError, ProtocolError, StreamStateError, TransportError, printable
from dhenara_async.formatter.window import estimate_messages
from dhenara_async.framing.sse import SSE
from dhenara_async.limits.limiter import Slot
from dhenara_async.request import HttpRequest
from dhenara_async.transport import EndsWaits, Exchange, PendingResponse, RequestStarter, check_header_block
from dhenara_async.usage.tokens import Usage

logger: logging.Logger = logging.getLogger("dhenara_async")


Got = TypeVar("Got")


class SentRequest:
    """One request and its response.

    Args:
        call: The call that it belongs to.
        slot: Permission to send that an earlier request of the call has not used up; None = none.

    Attributes:
        call: The call that it belongs to.
        body: Decodes the response body.
        exchange: The request on its connection; None until the response head has arrived.
        request_id: The provider's id of the request; None if it sent none.
        headers: Headers to add to the request, such as the trace that it belongs to.
    """

    __slots__ = ("_closed", "_pending", "_refusal", "_slot", "body", "call", "exchange", "headers", "request_id")

    def __init__(self, call: Call, slot: Slot | None = None) -> None:
        self.call: Call = call
        decoder = call.driver.decoder(call.request, call.origin)
        framing = call.source.framing if isinstance(call.source, Delivery) else SSE
        self.body: ResponseBody = ResponseBody(decoder, call.request.config.bounds.max_answer_bytes, framing)
        self.exchange: Exchange | None = None
        self.request_id: str | None = None
        self.headers: Mapping[str, str] = {}
        self._slot = slot
        self._pending: PendingResponse | None = None  # sent in two steps, and waiting for the response head
        self._refusal = b""  # the body of an error response so far
        self._closed = False

    @property
    def status(self) -> int | None:
        """The HTTP status; None until the response head has arrived."""
        return None if self.exchange is None else self.exchange.status

    def replaced_by(self, call: Call) -> "SentRequest":
        """Return a request for ``call`` that takes over this one's permission to send."""
        slot, self._slot = self._slot, None
        return SentRequest(call, slot)

    @property
    def sent(self) -> bool:
        """Whether the request was sent, so that a cancelled ``open`` continues with the wait for its response."""
        return self._pending is not None or self.exchange is not None

    async def start(self, source: Delivery, starter: RequestStarter) -> bool:
        """Send the request without waiting for the response head; ``open`` continues. If cancelled, nothing was sent.

        Returns:
            Whether it was sent; otherwise ``open`` sends it, over a new connection.

        Raises:
            DhenaraError: As ``open``.
            StreamStateError: The request was closed while it was signed.
        """
        signed = await source.auth.sign(source.request)
        if self._closed:
            raise StreamStateError("the stream was closed while its request was signed; ask the client for another")
        self._pending = starter(signed, source.timeouts)
        return self._pending is not None

    async def open(self, source: Delivery, clock: Clock | None) -> Exchange:
        """Send the request if it was not started, and read the response head.

        Raises:
            APIError: The provider refused the request.
            DhenaraError: The request could not be prepared or sent, or the head is not valid.
        """
        if self.exchange is None:
            self.exchange = await (self._send(source, clock) if self._pending is None else self._pending.head())
            self._pending = None
        exchange = self.exchange
        headers = exchange.headers
        check_header_block(headers, source.request.max_header_bytes)
        if self._slot is not None:
            self._slot.note_headers(headers)
        request_id = request_id_of(headers, request_id_headers(self.call.driver))
        if request_id is not None:
            self.request_id = printable(source.auth.hide(request_id))
        if exchange.status >= 300:
            await self._refuse(exchange, clock)
        self.body.begin(headers.get("content-type", ""))
        if clock is not None:
            clock.watch(exchange)
        return exchange

    async def close(self) -> None:
        """Close the connection of the request, unless its response has ended."""
        self._closed = True
        if self.exchange is not None:
            await self.exchange.close()
        elif self._pending is not None:
            self._pending.close()

    async def drain(self, exchange: Exchange) -> None:
        """Read the rest of the response body for a moment: a connection can be reused only after its end."""
        source = self.call.source
        seconds = (source.timing if isinstance(source, Delivery) else SYSTEM).drain
        # a timer costs much less than a scope
        timer = asyncio.get_running_loop().call_later(seconds, _interrupt, exchange, seconds)
        try:
            while not exchange.ended() and await exchange.read():
                pass
        except DhenaraError as exc:
            logger.debug("the connection broke, or was held open, after the end of the answer: %s", exc)
        finally:
            timer.cancel()

    def refused(self, retry_after: float | None) -> None:
        """Tell the limiter that the provider is overloaded; ``retry_after`` is the wait that it asks for."""
        if self._slot is not None:
            self._slot.refused(retry_after)

    def release(self, *, sent: bool = True) -> None:
        """Return the permission to send.

        Args:
            sent: Whether the request can have reached the provider.
        """
        slot, self._slot = self._slot, None
        if slot is None:
            return
        if self.body.usage is not None:
            slot.spent(self.body.usage)
        elif not sent:
            slot.spent(Usage(total_tokens=0))
        slot.release()

    async def _send(self, source: Delivery, clock: Clock | None) -> Exchange:
        """Send the request and wait for the response head."""
        request = source.request
        if source.prepare is not None or source.limiter is not None:
            request = await while_open(source, self._prepared(source, clock))
        if self.headers:
            request = replace(request, headers={**request.headers, **self.headers})
        signed = await _in_time(clock, source.auth.sign(request))
        return await _in_time(clock, source.transport.send(signed, source.timeouts))

    async def _prepared(self, source: Delivery, clock: Clock | None) -> HttpRequest:
        """Return the complete request once there is permission to send it."""
        if source.limiter is not None and self._slot is None:
            request = self.call.request
            tokens = estimate_messages(request.messages, request.instructions, request.config.declared_tools)
            tokens += request.config.max_output_tokens or 0
            self._slot = await _in_time(clock, source.limiter.acquire(self.call.origin, tokens=tokens))
        return source.request if source.prepare is None else await _in_time(clock, source.prepare())

    async def _refuse(self, exchange: Exchange, clock: Clock | None) -> None:
        """Raise the error that a response with an error status stands for."""
        provider = self.call.origin.provider
        if exchange.status < 400:
            redirect = ProtocolError(
                f"{provider} redirects elsewhere ({exchange.status}), which is not followed because the key would go "
                "along; check the base_url"
            )
            redirect.retryable = False
            raise redirect
        try:
            while len(self._refusal) < KEPT_BODY_BYTES and (chunk := await _in_time(clock, exchange.read())):
                self._refusal += chunk
        except TransportError as exc:
            logger.debug("the body of an error broke off: %s", exc)  # its status says more than that
        except ProtocolError as exc:  # an unreadable body: quote the reason in its place
            self._refusal = str(exc).encode()
        error = self.call.driver.error(exchange.status, exchange.headers, self._refusal, provider=provider)
        hint = self.call.source.hints.get(exchange.status) if isinstance(self.call.source, Delivery) else None
        if hint is not None:
            error.args = (f"{error}; {hint}", *error.args[1:])
        raise error


async def while_open(source: Delivery, work: Coroutine[object, object, Got]) -> Got:
    """Await ``work`` of a call that has no exchange yet; closing the transport ends it, where that is supported."""
    transport = source.transport
    return await (transport.while_open(work) if isinstance(transport, EndsWaits) else work)


async def _in_time(clock: Clock | None, work: Awaitable[Got]) -> Got:
    """Await ``work`` within the time limits of the call."""
    return await work if clock is None else await clock.within(work)


def _interrupt(exchange: Exchange, seconds: float) -> None:
    exchange.interrupt(DeadlineError(limit="drain", seconds=seconds))
