"""One answer as it comes: the place where a driver meets a transport.

``ResponseStream`` holds a socket, so it is an async context manager; leaving its block closes the socket, whatever the
reason. It is a class with its own state rather than an async generator, because closing a generator from outside does
not close what it iterates. Everything that one network read decodes is handed over without another await.
"""

import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from types import TracebackType
from typing import Self

from pydantic import JsonValue

from dhenara_async.accumulator import Accumulator
from dhenara_async.auth import Auth
from dhenara_async.blame import blames_reasoning
from dhenara_async.config import Timeouts
from dhenara_async.conversion import ConversionReport, dropped_by_server
from dhenara_async.drivers.base import KEPT_BODY_BYTES, QUOTED_BYTES, Decoder, Driver, quote
from dhenara_async.errors import (
    APIError,
    ConversionLossError,
    DhenaraError,
    ProtocolError,
    StreamStateError,
    TransportError,
    TruncatedStreamError,
)
from dhenara_async.events import (
    ChoiceFinish,
    PartEnd,
    PartStart,
    StreamEnd,
    StreamEvent,
    StreamStart,
    TextDelta,
    UsageUpdate,
)
from dhenara_async.framing import Frame, Framer
from dhenara_async.framing.sse import DEFAULT_LIMIT_BYTES, SSEFramer
from dhenara_async.messages import Origin, TextPart
from dhenara_async.prices import Pricing
from dhenara_async.request import ChatRequest, HttpRequest
from dhenara_async.response import AIModelCallResponse, CallWarning, ChatResponse, FinishReason, Latency
from dhenara_async.transport import Exchange, Transport

logger: logging.Logger = logging.getLogger("dhenara_async")

DRAIN_SECONDS = 0.25
CLOSE_SECONDS = 1.0
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "mistral-correlation-id")


@dataclass(slots=True, frozen=True)
class Delivery:
    """How a call reaches its provider.

    Attributes:
        request: Addressed, not signed.
        auth: Signs it.
        timeouts: Time limits.
        transport: Sends it.
        owns_transport: Whether the transport is closed with the stream.
        prepare: Finishes the request, of which files are still elsewhere; None = it is whole.
    """

    request: HttpRequest
    auth: Auth
    timeouts: Timeouts
    transport: Transport
    owns_transport: bool
    prepare: Callable[[], Awaitable[HttpRequest]] | None = None


@dataclass(slots=True, frozen=True)
class Call:
    """Everything that is known of a call before its first byte is sent.

    Attributes:
        request: The question.
        driver: Encoded it and decodes the answer.
        origin: Who answers.
        source: How the answer comes; events instead of a delivery are the answer (``test_mode``).
        warnings: What became of knobs.
        report: What became of the history.
        pricing: How the call is counted in money.
        prefix: Hash of everything the model is shown, where its reasoning is bound to that.
        without_reasoning: Makes the same call over the same transport without the opaque reasoning of its history, for
            when that was refused; gives None where there is none. Raises ``ConversionLossError`` where the policy
            forbids to leave it out. None = there is no second try.
    """

    request: ChatRequest
    driver: Driver
    origin: Origin
    source: Delivery | tuple[StreamEvent, ...]
    warnings: tuple[CallWarning, ...]
    report: ConversionReport
    pricing: Pricing
    prefix: str | None = None
    without_reasoning: "Callable[[], Call | None] | None" = None


def rehearsal(request: ChatRequest, origin: Origin) -> tuple[StreamEvent, ...]:
    """An answer without any network: says who would have been asked what, in the grammar of a real one."""
    asked = request.messages[-1].get_text()
    text = f"[test mode] {origin.model} was not called. It would have answered: {asked}"
    part = TextPart(text=text, origin=origin)
    words = [TextDelta(0, word) for word in re.findall(r"\s*\S+|\s+$", text)]
    return (
        StreamStart(model=origin.model, provider=origin.provider),
        PartStart(0, "text"),
        *words,
        PartEnd(0, part),
        StreamEnd(FinishReason.STOP, None, (ChoiceFinish(0, FinishReason.STOP),)),
    )


class ResponseStream:
    """An answer being received: iterate it inside ``async with``.

    The request is sent when the first event is asked for. A failure is raised from the iteration, after every event
    that came before it; ``partial`` then has the answer as far as it came.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._ready: deque[StreamEvent] = deque()
        self._accumulator = Accumulator(provider=call.origin.provider, model=call.origin.model)
        self._decoder: Decoder = call.driver.decoder(call.request, call.origin)
        self._framer: Framer | None = None  # None while it is not known, or for a plain body
        self._head = b""  # the first bytes of the body, to quote if nothing can be made of them
        self._plain: list[bytes] = []
        self._plain_bytes = 0
        self._exchange: Exchange | None = None
        self._request_id: str | None = None
        self._failure: BaseException | None = None
        self._attempts = 1
        self._entered = self._over = self._closed = False
        self._started_at = perf_counter()
        self._first_event_at: float | None = None
        self._ended_at: float | None = None

    # ------------------------------------------------------------------------------------------------ the user's side

    async def __aenter__(self) -> Self:
        if self._entered:
            raise StreamStateError("a stream can be entered once; ask the client for another")
        self._entered = True
        self._started_at = perf_counter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        ready = self._ready
        while not ready:
            if self._over:
                self._raise_or_stop()
            await self._receive()
        return ready.popleft()

    async def batch(self) -> list[StreamEvent]:
        """The events of the next network read, at least one; empty at the end. Cheaper than one by one.

        Raises:
            DhenaraError: The call failed, after every event before the failure was handed over.
        """
        while not self._ready:
            if self._over:
                self._raise_failure()
                return []
            await self._receive()
        events = list(self._ready)
        self._ready.clear()
        return events

    async def collect(self) -> AIModelCallResponse:
        """Receive the rest of the answer without handing it over piece by piece, and return the whole.

        Raises:
            DhenaraError: The call failed; ``partial`` has what came.
        """
        while not self._over:
            await self._receive()
            self._ready.clear()
        self._raise_failure()
        return self.response

    @property
    def response(self) -> AIModelCallResponse:
        """The complete answer.

        Raises:
            StreamStateError: The answer is not complete; ``partial`` has what came.
        """
        return self._respond(self._accumulator.response())

    @property
    def partial(self) -> AIModelCallResponse:
        """The answer as far as it has come, at any time and after any failure."""
        decoder_usage = self._decoder.usage
        if decoder_usage is not None and not self._accumulator.finished:
            self._accumulator.feed((UsageUpdate(decoder_usage),))
        return self._respond(self._accumulator.partial())

    def partial_structured(self) -> JsonValue:
        """The object that ``structured_output`` asked for, as far as it has come, as plain JSON.

        A string that is still coming is there as far as it has come; no validator sees it. The whole text is read at
        each call, so ask as often as you show it, not for every event.

        Returns:
            None while there is nothing yet, and for an answer that is no JSON.
        """
        from dhenara_async.structured import so_far

        return so_far(self._accumulator.texts())

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come."""
        return self._accumulator.finished

    @property
    def prefix(self) -> str | None:
        """Hash of everything the model is shown, where its reasoning is bound to that; else None."""
        return self._call.prefix

    @property
    def failure(self) -> BaseException | None:
        """What ended the stream before its time; None if nothing did."""
        return self._failure

    async def aclose(self) -> None:
        """End the stream: the provider's socket is closed before this returns. Can be called again."""
        if self._closed:
            return
        self._closed = True
        if self._exchange is not None:
            try:
                if self._accumulator.finished and not self._over:
                    await self._drain(self._exchange)  # left at the last event: the connection is as good as ended
            finally:
                self._over = True
                await self._exchange.close()
        self._over = True
        source = self._call.source
        if isinstance(source, Delivery) and source.owns_transport:
            import anyio

            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await source.transport.aclose()

    # ------------------------------------------------------------------------------------------------ the wire's side

    async def _receive(self) -> None:
        """Do one step: open the exchange, or read once and decode what came."""
        try:
            if self._exchange is None:
                await self._begin()
                return
            if self._accumulator.finished:  # everything has been handed over before this
                await self._drain(self._exchange)
                return
            chunk = await self._exchange.read()
            if self._first_event_at is None and len(self._head) < QUOTED_BYTES:
                self._head += chunk
            if self._framer is not None and chunk:  # the usual step: more of the stream
                self._decode(self._framer.feed(chunk))
            else:
                self._take_other(chunk, self._exchange.headers)
        except BaseException as exc:
            self._failure = exc
            self._keep_secrets(exc)
            if isinstance(exc, DhenaraError):
                exc.attempts = self._attempts
            self._finish()
            if self._exchange is not None:
                await self._exchange.close()
            if not isinstance(exc, DhenaraError):
                raise  # cancellation and our own faults do not wait for events that are still to be handed over

    def _keep_secrets(self, exc: BaseException) -> None:
        """Some hosts quote the key that they refuse, and we quote hosts."""
        source = self._call.source
        if not isinstance(exc, DhenaraError) or not isinstance(source, Delivery):
            return
        hide = source.auth.hide
        exc.args = tuple(hide(argument) if isinstance(argument, str) else argument for argument in exc.args)
        if isinstance(exc, APIError):
            exc.body = hide(exc.body)
            exc.code = exc.code and hide(exc.code)

    async def _begin(self) -> None:
        if not self._entered or self._closed:
            raise StreamStateError("a stream is read inside its block: async with client.stream(…) as stream")
        source = self._call.source
        if isinstance(source, Delivery):
            try:
                await self._open(source)
            except APIError as refusal:
                await self._open_again(refusal)
        else:
            self._take(source)
            self._finish()

    def _raise_failure(self) -> None:
        if isinstance(self._failure, DhenaraError):
            raise self._failure
        if self._failure is not None and not self._accumulator.finished:
            # not the old exception again: a cancellation belongs to its scope, which may be long gone
            raise StreamStateError("the stream was broken off; ask the client for another") from self._failure
        if self._closed and not self._accumulator.finished:
            raise StreamStateError("the stream was closed; ask the client for another")

    def _raise_or_stop(self) -> None:
        self._raise_failure()
        raise StopAsyncIteration

    async def _open(self, source: Delivery) -> None:
        request = source.request if source.prepare is None else await source.prepare()
        signed = await source.auth.sign(request)
        self._exchange = exchange = await source.transport.send(signed, source.timeouts)
        headers = exchange.headers
        self._request_id = next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)
        if exchange.status >= 300:
            await self._refuse(exchange)
        if "event-stream" in headers.get("content-type", ""):
            self._framer = SSEFramer()

    async def _open_again(self, refusal: APIError) -> None:
        """Make the call once more, without the reasoning that it was refused for; if it was not, raise the refusal.

        A history's reasoning is formatted so that it is taken back. This is for when a provider sees it otherwise:
        better an answer without it than none. It happens once, and before anything has reached the reader.
        """
        second = None if self._exchange is None else self._second(refusal)
        if second is None or self._exchange is None or not isinstance(second.source, Delivery):
            raise refusal
        await self._exchange.close()  # mostly its connection is free by now, for the second request to go over
        self._keep_secrets(refusal)
        origin = second.origin
        logger.warning(
            "%s refused the reasoning of the history (%s, request %s); asking %s again without it",
            origin.provider,
            refusal.status,
            refusal.request_id,
            origin.model,
        )
        self._call, self._attempts, self._request_id = second, self._attempts + 1, None
        self._decoder = second.driver.decoder(second.request, origin)
        try:
            await self._open(second.source)
        except DhenaraError as exc:
            exc.add_note(f"The second of two requests; the first, with its history's reasoning, met: {refusal}")
            raise

    def _second(self, refusal: APIError) -> Call | None:
        """The call without the reasoning of its history, if that is what the provider refuses."""
        make = self._call.without_reasoning
        if make is None or not blames_reasoning(refusal):
            return None
        try:
            return make()
        except ConversionLossError:
            words = "; without the reasoning of the history it may be taken, but a strict policy forbids to try"
            refusal.args = (f"{refusal}{words}",)
            return None

    async def _refuse(self, exchange: Exchange) -> None:
        provider = self._call.origin.provider
        if exchange.status < 400:
            redirect = ProtocolError(
                f"{provider} redirects elsewhere ({exchange.status}), which is not followed because the key would go "
                "along; check the base_url"
            )
            redirect.retryable = False
            raise redirect
        body = b""
        try:
            while len(body) < KEPT_BODY_BYTES and (chunk := await exchange.read()):
                body += chunk
        except TransportError as exc:
            logger.debug("the body of an error broke off: %s", exc)  # its status says more than that
        raise self._call.driver.error(exchange.status, exchange.headers, body, provider=provider)

    def _take_other(self, chunk: bytes, headers: Mapping[str, str]) -> None:
        """A read that is not simply more of a stream: the end of the body, a plain body, or the first of an unmarked
        one."""
        if self._framer is None:
            self._framer = self._without_content_type(chunk, headers)
            if self._framer is not None:
                self._decode(self._framer.feed(chunk))
                return
        if self._framer is not None:
            self._decode_rest(self._framer)
        elif chunk:
            if self._plain or not chunk.isspace():  # leading white space tells nothing: what the body is comes after it
                self._plain.append(chunk)
            self._plain_bytes += len(chunk)
            if self._plain_bytes > DEFAULT_LIMIT_BYTES:
                raise ProtocolError(f"the answer is larger than {DEFAULT_LIMIT_BYTES} bytes; giving it up")
            return
        else:
            self._decode([Frame(b"".join(self._plain))])
            self._take(self._decoder.finish())
        self._finish()

    def _without_content_type(self, chunk: bytes, headers: Mapping[str, str]) -> Framer | None:
        """A body that is not announced as a stream: a plain one, unless its first byte says otherwise."""
        if self._plain or not chunk.strip() or "json" in headers.get("content-type", ""):
            return None
        return None if chunk.lstrip()[:1] in (b"{", b"[", b"<") else SSEFramer()

    def _decode(self, frames: Sequence[Frame]) -> None:
        """Decode frames; events before a failing frame are kept, and nothing is read after the answer's end."""
        events: list[StreamEvent] = []
        feed = self._decoder.feed
        try:
            for frame in frames:
                events += feed(frame)
                if events and events[-1].__class__ is StreamEnd:
                    break
        except DhenaraError:
            raise
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as exc:
            raise ProtocolError(f"the provider's answer has a shape that its dialect does not allow: {exc}") from exc
        finally:
            if events:
                self._take(events)

    def _decode_rest(self, framer: Framer) -> None:
        """The end of a stream's body: its last, maybe torn, frame, then whatever the decoder makes of it."""
        torn: ProtocolError | None = None
        try:
            self._decode(framer.finish())
        except ProtocolError as exc:
            torn = exc
        try:
            self._take(self._decoder.finish())
        except TruncatedStreamError as exc:
            if self._first_event_at is None:
                raise TruncatedStreamError(f"{exc}; it began with {quote(self._head.lstrip())}") from torn
            raise exc from torn

    def _take(self, events: Sequence[StreamEvent]) -> None:
        if not events:
            return
        if self._first_event_at is None:
            self._first_event_at = perf_counter()
            first = events[0]
            if isinstance(first, StreamStart):
                complete = replace(first, request_id=self._request_id, warnings=self._call.warnings)
                events = (complete, *events[1:])
        self._accumulator.feed(events)
        self._ready.extend(events)

    async def _drain(self, exchange: Exchange) -> None:
        """Read on to the end of the body for a moment: only then can the connection be used again."""
        if not exchange.ended():
            import anyio

            with anyio.move_on_after(DRAIN_SECONDS):
                try:
                    while await exchange.read():
                        pass
                except DhenaraError as exc:
                    logger.debug("the connection broke after the end of the answer: %s", exc)
        self._finish()

    def _finish(self) -> None:
        self._over = True
        self._ended_at = perf_counter()

    def _respond(self, chat_response: ChatResponse) -> AIModelCallResponse:
        began, first, ended = self._started_at, self._first_event_at, self._ended_at
        wanted = self._call.request.config.structured_output
        if wanted is not None:
            chat_response = chat_response.wanted(wanted)
        return AIModelCallResponse(
            chat_response=chat_response,
            endpoint=self._call.origin,
            request_id=self._request_id,
            attempts=self._attempts,
            latency=Latency(
                first_event=None if first is None else first - began,
                total=(perf_counter() if ended is None else ended) - began,
            ),
            warnings=self._call.warnings,
            conversion=self._report(chat_response),
            pricing=self._call.pricing,
        )

    def _report(self, chat_response: ChatResponse) -> ConversionReport:
        """What became of the history, with what the provider says it did to it."""
        report, call = self._call.report, self._call
        parts = (part for choice in chat_response.choices for part in choice.parts)
        dropped = dropped_by_server(parts, call.request.messages, call.origin)
        return report.model_copy(update={"entries": (*report.entries, *dropped)}) if dropped else report
