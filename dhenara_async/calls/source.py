"""``EndpointSource``: the events of one endpoint's answer, from the first request to the end of the response body.

Its life is the table ``TRANSITIONS``. One request is a ``SentRequest``; what a call remembers of failed requests, and
whether another one follows, is in ``Attempts``. A failed call is sent again only before any of its content was handed
over, at most as often as its config allows, and within the retry budget that all calls of its client share.

The time limits that the transport does not keep are kept by one ``Clock`` per call, which is not moved for every event.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from functools import cache
from typing import Protocol, cast

import anyio

from dhenara_async.calls.attempts import Attempts, call_without_reasoning, log_retry, log_retry_without_reasoning
from dhenara_async.calls.call import Call, CallRecord, Delivery
from dhenara_async.calls.deadlines import Clock
from dhenara_async.calls.observed import ObservedCall
from dhenara_async.calls.observed_endpoint import NOWHERE, ObservedEndpoint
from dhenara_async.calls.records import EndpointOutcome
from dhenara_async.calls.sent_request import SentRequest, while_open
from dhenara_async.errors import APIError, ConnectError, DhenaraError, StreamStateError
from dhenara_async.events import Heartbeat, PartStart, StreamEvent, StreamReset, StreamStart, UsageUpdate
from dhenara_async.messages.messages import Origin
from dhenara_async.transport import Exchange, RequestStarter, StartsRequests

CLOSE_SECONDS = 1.0
_CANCELLED = "the request was cancelled before its answer was complete"
_OVERLOADED = (429, 503, 529)
# Events without content: while no other event has been handed over, the call can be sent again unnoticed.
_EMPTY = frozenset({StreamStart, Heartbeat, UsageUpdate, StreamReset})
_WORDS = frozenset({"text", "reasoning"})  # parts whose start is no content: some hosts send it long before the text


class State(StrEnum):  # keys of the table below: the hash of a plain Enum is a function in Python
    """Where the answer of an endpoint is."""

    READY = "the next step sends the request"
    WAITING = "an attempt failed; the next step waits, then sends the request again"
    OPENED = "the response head has arrived; no content has been handed over"
    FLOWING = "content has been handed over; only the transport limits the wait for more"
    TIMED = "content has been handed over; a Clock limits the wait for more"
    COMPLETE = "the answer is complete; its response body has not ended"
    DRAINING = "the rest of the response body is read and dropped"
    ENDED = "the response body has ended"
    FAILED = "the call failed; every further step raises its error"
    CLOSED = "the source was closed"


class Input(StrEnum):
    """The events that move a source from one state to the next."""

    HEAD = "a response head arrived"
    CONTENT = "content was handed over"
    TIMED_CONTENT = "content was handed over, in a call with a Clock"
    ANSWER_END = "the end of the answer was decoded"
    DRAIN = "reading the rest of the body began"
    BODY_END = "the response body ended, or draining it did"
    RETRY = "the attempt failed and another one follows"
    WAITED = "the wait before an attempt is over"
    FAILURE = "the attempt failed and no other one follows"
    CLOSE = "the source was closed"


_ANYWHERE = {Input.FAILURE: State.FAILED, Input.CLOSE: State.CLOSED}
_ENDS = {Input.ANSWER_END: State.COMPLETE, Input.BODY_END: State.ENDED}

TRANSITIONS: dict[State, dict[Input, State]] = {
    State.READY: {**_ANYWHERE, Input.HEAD: State.OPENED, Input.RETRY: State.WAITING, Input.BODY_END: State.ENDED},
    State.WAITING: {**_ANYWHERE, Input.WAITED: State.READY, Input.RETRY: State.WAITING},
    State.OPENED: {
        **_ANYWHERE,
        **_ENDS,
        Input.CONTENT: State.FLOWING,
        Input.TIMED_CONTENT: State.TIMED,
        Input.RETRY: State.WAITING,
    },
    State.FLOWING: {**_ANYWHERE, **_ENDS},
    State.TIMED: {**_ANYWHERE, **_ENDS},
    State.COMPLETE: {**_ANYWHERE, Input.DRAIN: State.DRAINING, Input.BODY_END: State.ENDED},
    State.DRAINING: {**_ANYWHERE, Input.DRAIN: State.DRAINING, Input.BODY_END: State.ENDED},
    State.ENDED: {**_ANYWHERE, Input.BODY_END: State.ENDED},
    State.FAILED: {Input.CLOSE: State.CLOSED},
    # A source can be closed while another task is inside ``receive``: nothing that this task meets changes the state.
    State.CLOSED: dict.fromkeys(Input, State.CLOSED),
}

_UNNOTICED = (State.READY, State.WAITING, State.OPENED)  # another attempt would take back no content
_FLOWING = State.FLOWING


class EventSource(Protocol):
    """The events of an answer, step by step."""

    @property
    def over(self) -> bool:
        """Whether the answer has ended: nothing is left to receive."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether cancelling ``receive`` now loses nothing: the next ``receive`` continues at the same place."""
        ...

    @property
    def origin(self) -> Origin:
        """The endpoint that answers at this moment; cheaper than ``account.origin``."""
        ...

    @property
    def account(self) -> CallRecord:
        """The record of the call at this moment."""
        ...

    async def receive(self) -> Sequence[StreamEvent]:
        """Do one step and return its events, possibly none.

        Raises:
            DhenaraError: The answer failed; every event before the failure has been returned.
        """
        ...

    async def close(self, *, lost: bool = False) -> None:
        """End the call: the provider's socket is closed before this returns. Can be called again.

        Args:
            lost: Whether another member of a race was faster; for observers.
        """
        ...


class EndpointSource:
    """The events of one endpoint's answer; see ``EventSource``.

    Args:
        call: The prepared call.
        observed: Reports the call to observers; None = there are none.
    """

    __slots__ = (
        "_announced",
        "_attempts",
        "_awaiting_head",
        "_call",
        "_clock",
        "_failure",
        "_observed",
        "_request",
        "_starter",
        "_state",
        "repeatable",
    )

    def __init__(self, call: Call, observed: ObservedCall | None = None) -> None:
        self._call = call
        self._state = State.READY
        self._attempts = Attempts()
        self._request = SentRequest(call)  # the current one
        self._clock: Clock | None = None
        self._failure: DhenaraError | None = None
        self._observed = None if observed is None else ObservedEndpoint(observed)
        self._announced = False  # a StreamStart has been handed over, maybe by an earlier attempt
        headers_follow = observed is not None and observed.adds_headers
        self._starter = (
            None if headers_follow else _starter(call.source)
        )  # sends the first request in the reader's task
        self._awaiting_head: list[asyncio.Future[None]] | None = None  # readers beside the one that opens directly
        self.repeatable: bool = self._starter is not None or not isinstance(call.source, Delivery)

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._failure is None and (self._state is State.ENDED or self._state is State.CLOSED)

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self._call.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        call, request = self._call, self._request
        return CallRecord(
            origin=call.origin,
            request_id=request.request_id,
            tries=self._attempts.all(call, status=request.status, request_id=request.request_id),
            warnings=call.warnings,
            report=call.report,
            request=call.request,
            pricing=call.pricing,
            prefix=call.prefix,
            usage=request.body.usage,
        )

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        if self._failure is not None:
            raise self._failure
        request = self._request
        exchange = request.exchange
        try:
            if self._state is _FLOWING and exchange is not None:  # the short way, once per token
                chunk = await exchange.read()
                body = request.body
                events = body.take(chunk)
                if not chunk or body.complete:
                    if self._observed is not None:
                        self._observed.receive(events, content=False)
                    self._read_to(chunk, exchange)
                return events
            return await self._step()
        except DhenaraError as exc:
            return await self._recover(exc)

    async def close(self, *, lost: bool = False) -> None:
        """See ``EventSource``."""
        if self._state is State.CLOSED:
            return
        undrained = self._state is State.COMPLETE
        self._move(Input.CLOSE)
        request, source = self._request, self._call.source
        exchange = request.exchange
        cut = exchange is None or not exchange.ended()
        try:
            try:
                if exchange is not None and undrained and cut and not _being_cancelled():
                    await request.drain(exchange)  # the reader left at the last event: nearly at the body's end
            finally:
                if exchange is not None and not request.body.complete:
                    exchange.interrupt(StreamStateError(_CANCELLED))  # its readers wait no longer
                await request.close()
        finally:
            self._release()
            if self._observed is not None:
                complete = request.body.complete
                self._report_attempt_end(None if complete else StreamStateError(_CANCELLED))
                unfinished = "lost" if lost else "cancelled" if _being_cancelled() else "left"
                self._report_end("complete" if complete else unfinished)
            if isinstance(source, Delivery) and (source.owns_transport or cut):
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    if source.owns_transport:
                        await source.transport.aclose()
                    else:
                        await asyncio.sleep(0)  # a loop closes a socket in its next iteration

    def _move(self, happened: Input) -> None:
        self._state = TRANSITIONS[self._state][happened]

    # ------------------------------------------------------------------------------------------------ steps

    async def _step(self) -> Sequence[StreamEvent]:
        """Open the exchange if there is none, then read once and decode the bytes."""
        exchange = self._request.exchange
        if self._state is State.READY or self._state is State.WAITING:
            source = self._call.source
            if self._observed is not None:
                call = self._call
                self._observed.start(call.origin, call.request, call.warnings, call.report)
            if not isinstance(source, Delivery):
                self._request.body.complete = True
                events = self._hand_over(source)
                self._end()
                return events
            if self._awaiting_head is not None:
                await self._wait_for_opener(self._awaiting_head)
                return ()
            if self._starter is None:
                exchange = await self._open(source)
            else:
                exchange = await self._open_directly(source, self._starter)
        request = self._request
        if exchange is None:
            return ()
        if request.body.complete:  # every event has been handed over before
            await self._drain(exchange)
            return ()
        clock = self._clock
        chunk = await (exchange.read() if clock is None else clock.reading(exchange))
        events = request.body.take(chunk)
        if chunk and request.body.plain and exchange.ended():
            chunk, events = b"", request.body.take(b"")  # a plain body is decoded at its end
        events = self._hand_over(events)
        self._read_to(chunk, exchange)
        return events

    def _read_to(self, chunk: bytes, exchange: Exchange) -> None:
        """Note how far the body has been read: ``chunk`` was its last one if it is empty."""
        if not chunk or (self._request.body.complete and exchange.ended()):
            self._end()
        elif self._request.body.complete:
            self._move(Input.ANSWER_END)

    async def _drain(self, exchange: Exchange) -> None:
        if not exchange.ended():  # mostly the body ends with the answer
            self._move(Input.DRAIN)  # if cancelled, the next read drains again, and closing the stream does not
            await self._request.drain(exchange)
        self._end()

    def _end(self) -> None:
        """Note the end of the response body."""
        self._move(Input.BODY_END)
        self._release()
        if self._observed is not None:
            self._report_attempt_end(None)
            self._report_end("complete")

    def _release(self, *, sent: bool = True) -> None:
        """Return everything that the request holds beside its connection."""
        if self._clock is not None:
            self._clock.rest()
        self._request.release(sent=sent)

    def _hand_over(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """Return ``events`` for the reader: a start is completed, or turned into a reset if there was one before."""
        if not events:
            return events
        clock = self._clock
        if clock is not None and clock.counts_content and says(events):
            clock.heard()
        if self._observed is not None and (self._state in _UNNOTICED or self._request.body.complete):
            self._observed.receive(events, content=self._state in _UNNOTICED and says(events))
        if self._state not in _UNNOTICED:
            return events
        first = events[0]
        if isinstance(first, StreamStart):
            events = (self._announcement(first), *events[1:])
        if self._state is State.OPENED and says(events):
            self._move(Input.CONTENT if clock is None else Input.TIMED_CONTENT)
            if not self._request.body.complete:
                self._call.settle()
        return events

    def _announcement(self, start: StreamStart) -> StreamStart | StreamReset:
        """Complete ``start``; a reset if an earlier attempt has been announced."""
        start = StreamStart(
            start.model,
            start.provider,
            start.response_id,
            request_id=self._request.request_id,
            warnings=self._call.warnings,
        )
        if self._announced:
            return StreamReset(reason=self._attempts.failed[-1].error or "", start=start)
        self._announced = True
        return start

    # ------------------------------------------------------------------------------------------------ attempts

    async def _open_directly(self, source: Delivery, starter: RequestStarter) -> Exchange | None:
        """Send the first request and read the response head, in the task of a reader, which may be cancelled.

        If it is cancelled before the request was sent, or the idle connection has gone, a ``Step`` sends it. Once it
        was sent, the next read continues.
        """
        self._awaiting_head = []
        try:
            if not self._request.sent:
                self._starter, self.repeatable = None, False
                self._report_start()
                if self._observed is None:
                    started = await self._request.start(source, starter)
                else:
                    with self._observed.sending():
                        started = await self._request.start(source, starter)
                if not started:
                    return None
                source.budget.earn()
                self._starter, self.repeatable = starter, True
            exchange = await self._open(source)
        finally:
            for waiter in self._awaiting_head:
                if not waiter.done():
                    waiter.set_result(None)
            self._awaiting_head = None
        return exchange

    async def _wait_for_opener(self, waiters: list[asyncio.Future[None]]) -> None:
        """Wait until the reader that opens the exchange has done so, or was cancelled."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        await waiter

    async def _open(self, source: Delivery) -> Exchange:
        """Send the request, after the wait before it, and read the response head."""
        if self._clock is None and Clock.wanted(source.timeouts):
            self._clock = Clock(source.timeouts)
        if not self._attempts.failed and not self._request.sent:
            source.budget.earn()
        if self._state is State.WAITING:
            await while_open(source, source.timing.sleep(self._attempts.waited))
            self._move(Input.WAITED)
            self._attempts.start()
        self._report_start()
        try:
            with self._sending():
                exchange = await self._request.open(source, self._clock)
        except APIError as refusal:
            exchange = await self._open_without_reasoning(refusal)
        self._move(Input.HEAD)
        self.repeatable = getattr(exchange, "repeatable", False)
        return exchange

    async def _open_without_reasoning(self, refusal: APIError) -> Exchange:
        """Send the call once more without the opaque reasoning that was refused; raise other refusals."""
        first = self._request
        second = None if first.exchange is None else call_without_reasoning(self._call, refusal)
        if second is None or not isinstance(second.source, Delivery):
            raise refusal
        await first.close()  # mostly the second request then uses its connection
        self._note(refusal)
        log_retry_without_reasoning(self._call, refusal)
        self._call, self._request = second, first.replaced_by(second)
        self._attempts.waited = 0.0
        self._attempts.start()
        self._report_start()
        try:
            with self._sending():
                return await self._request.open(second.source, self._clock)
        except DhenaraError as exc:
            exc.add_note(f"The second of two requests; the first, with its history's reasoning, met: {refusal}")
            raise

    async def _recover(self, exc: DhenaraError) -> Sequence[StreamEvent]:
        """Prepare the next attempt after ``exc``; if there is none, return the events before it, or raise it."""
        request = self._request
        salvaged, request.body.salvaged = request.body.salvaged, ()
        if self._state in _UNNOTICED and not says(salvaged):
            remaining = None if self._clock is None else self._clock.remaining()
            wait = self._attempts.wait_after(self._call, exc, remaining=remaining)
            if wait is not None:
                await self._retry(exc, wait)
                return ()
        events = self._hand_over(salvaged)
        self._fail(exc)
        await request.close()
        if events:
            return events
        raise exc

    async def _retry(self, exc: DhenaraError, wait: float) -> None:
        """Drop the failed request; the next step waits for ``wait`` seconds before it sends another."""
        failed = self._request
        self._note(exc)
        self._give_back(exc)
        self._starter, self.repeatable = None, False
        self._move(Input.RETRY)
        self._attempts.waited = wait
        self._request = SentRequest(self._call)
        log_retry(self._call, exc, failed.request_id, wait)
        await failed.close()

    def _fail(self, exc: DhenaraError) -> None:
        self._note(exc)
        self._give_back(exc)
        exc.attempts = len(self._attempts.failed)
        self._report_end("failed", exc)
        self._failure = exc
        self._move(Input.FAILURE)

    def _note(self, exc: DhenaraError) -> None:
        """Record that the current request failed."""
        request = self._request
        self._attempts.fail(
            self._call, exc, status=request.status, request_id=request.request_id, usage=request.body.usage
        )
        self._report_attempt_end(exc)

    def _report_start(self) -> None:
        """Report to observers that a request is about to be sent, and add their headers to it."""
        if self._observed is not None:
            self._observed.start_attempt(self._call.origin)
            if self._observed.adds_headers:
                self._request.headers = self._observed.headers()

    def _sending(self) -> AbstractContextManager[object]:
        """Return the context in which a request is sent."""
        return NOWHERE if self._observed is None else self._observed.sending()

    def _report_attempt_end(self, error: DhenaraError | None) -> None:
        """Report to observers that the current attempt has ended, if there is one."""
        if self._observed is not None:
            request = self._request
            self._observed.end_attempt(
                request_id=request.request_id,
                status=error.status if isinstance(error, APIError) else request.status,
                error=error,
                usage=request.body.usage,
            )

    def _report_end(self, outcome: EndpointOutcome, error: DhenaraError | None = None) -> None:
        """Report to observers that the answer has ended, unless that was reported."""
        if self._observed is not None:
            request = self._request
            self._observed.end(
                self._call.origin,
                outcome=outcome,
                request_id=request.request_id,
                status=error.status if isinstance(error, APIError) else request.status,
                error=error,
                usage=request.body.usage,
            )

    def _give_back(self, exc: DhenaraError) -> None:
        """Return the permission of a failed request, and tell the limiter if the provider is overloaded."""
        if isinstance(exc, APIError) and exc.status in _OVERLOADED:
            self._request.refused(exc.retry_after)
        self._release(sent=not isinstance(exc, ConnectError))


def _starter(source: Delivery | Sequence[StreamEvent]) -> RequestStarter | None:
    """Return the function that sends the request of ``source``; None = it has to be sent in another way, or later."""
    if not isinstance(source, Delivery) or source.prepare is not None or source.limiter is not None:
        return None
    transport = source.transport
    if not _starts_requests(type(transport)) or Clock.wanted(source.timeouts):
        return None
    return cast("StartsRequests", transport).starter(source.request)


@cache
def _starts_requests(transport: type) -> bool:
    """Whether a class of transports implements ``StartsRequests``: the check costs as much as building a request."""
    return issubclass(transport, StartsRequests)


def _being_cancelled() -> bool:
    """Whether the running task is being cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def says(events: Iterable[StreamEvent]) -> bool:
    """Whether any of ``events`` has content of the answer."""
    for event in events:
        if isinstance(event, PartStart):
            if event.kind not in _WORDS:
                return True
        elif event.__class__ not in _EMPTY:
            return True
    return False
