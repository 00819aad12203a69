"""One endpoint's answer, from the request to the last event: the place where a driver meets a transport.

A feed sends the request and reads the answer. Here, and nowhere else, a call that failed is made again: only
before anything of its answer has been handed over, at most as often as its config says, and as long as the budget that
all calls of its client share has something left. The time limits that are not the transport's are kept here too, by one
timer for each request, which is not moved for every event.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import anyio

from dhenara_async.calls.body import ResponseBody
from dhenara_async.calls.deadlines import Clock
from dhenara_async.calls.retry import RetryBudget, delay
from dhenara_async.config import Timeouts
from dhenara_async.drivers.base import Driver
from dhenara_async.drivers.failures import KEPT_BODY_BYTES
from dhenara_async.drivers.reasoning_refusals import refuses_reasoning
from dhenara_async.errors import (
    APIError,
    ConnectError,
    ConversionLossError,
    DeadlineError,
    DhenaraError,
    ProtocolError,
    TransportError,
    printable,
)
from dhenara_async.events import Heartbeat, PartStart, StreamEvent, StreamReset, StreamStart, UsageUpdate
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.formatter.window import estimate_messages
from dhenara_async.framing import Framing
from dhenara_async.framing.sse import SSE
from dhenara_async.hosts.auth import Auth
from dhenara_async.limits.limiter import Limiter, Slot
from dhenara_async.messages.messages import Message, Origin
from dhenara_async.request import ChatRequest, HttpRequest
from dhenara_async.response import Attempt, CallWarning, Decision, Seam
from dhenara_async.transport import EndsWaits, Exchange, Transport, check_header_block
from dhenara_async.usage.prices import Pricing, list_price, loaded
from dhenara_async.usage.tokens import UNKNOWN, Usage

logger: logging.Logger = logging.getLogger("dhenara_async")

DRAIN_SECONDS = 0.25
CLOSE_SECONDS = 1.0
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "mistral-correlation-id")
# Events that say nothing of the answer: while no other has been handed over, the call can be made again unnoticed.
_EMPTY = frozenset({StreamStart, Heartbeat, UsageUpdate, StreamReset})
_WORDS = frozenset({"text", "reasoning"})  # parts whose start says nothing: some hosts send it long before a word

Got = TypeVar("Got")


@dataclass(slots=True)
class Delivery:
    """How a call reaches its provider.

    Attributes:
        request: Addressed, not signed.
        auth: Signs it.
        timeouts: Time limits.
        transport: Sends it.
        owns_transport: Whether the transport is closed with the stream.
        prepare: Finishes the request, of which files are still elsewhere; None = it is whole.
        budget: What it may spend on retries, with all other calls of its client.
        limiter: Says when it may be sent; None = at once.
        framing: How the body is cut into messages if it is streamed.
    """

    request: HttpRequest
    auth: Auth
    timeouts: Timeouts
    transport: Transport
    owns_transport: bool
    prepare: Callable[[], Awaitable[HttpRequest]] | None = None
    budget: RetryBudget = field(default_factory=RetryBudget)
    limiter: Limiter | None = None
    framing: Framing = SSE


@dataclass(slots=True)
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

    def settle(self) -> None:
        """Let go of what only another try would need: the answer has begun, and may last longer than all before it."""
        self.without_reasoning = None
        if isinstance(self.source, Delivery):
            self.source.request, self.source.prepare = _SENT, None


_SENT = HttpRequest("", {}, b"")


@dataclass(slots=True)
class CallRecord:
    """Who answers, and what is known of the call beside its events.

    Attributes:
        origin: Who answers.
        request_id: What the provider calls the request; None if not told.
        tries: Every request so far, the one under way included.
        warnings: What became of knobs.
        report: What became of the history.
        messages: What was sent of it.
        pricing: How the call is counted in money.
        prefix: Hash of everything the model is shown, where its reasoning is bound to that.
        usage: The newest report of tokens, even one that no event has carried; None = none came.
        plan: What plans over endpoints made of the call, the outermost first.
        seams: Where one endpoint went on with the answer of another.
    """

    origin: Origin
    request_id: str | None
    tries: tuple[Attempt, ...]
    warnings: tuple[CallWarning, ...]
    report: ConversionReport
    messages: tuple[Message, ...]
    pricing: Pricing
    prefix: str | None
    usage: Usage | None
    plan: tuple[Decision, ...] = ()
    seams: tuple[Seam, ...] = ()


class EventSource(Protocol):
    """Where the events of a stream come from."""

    @property
    def over(self) -> bool:
        """Whether the answer has come to its end: nothing is left to receive."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether a ``receive`` that is cancelled now loses nothing: the next one goes on where it was."""
        ...

    @property
    def origin(self) -> Origin:
        """Who answers, at this moment; as in ``account``, which takes longer to put together."""
        ...

    @property
    def account(self) -> CallRecord:
        """Who answers, at this moment."""
        ...

    async def receive(self) -> Sequence[StreamEvent]:
        """Do one step; the events that came of it, maybe none.

        Raises:
            DhenaraError: The answer failed, and every event before that has been handed over.
        """
        ...

    async def close(self) -> None:
        """End it: the provider's socket is closed before this returns. Can be called again."""
        ...


class EndpointSource:
    """The answer of one endpoint; see ``EventSource``."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reading = _reading(call)
        self._exchange: Exchange | None = None
        self._slot: Slot | None = None
        self._request_id: str | None = None
        self._failed: tuple[Attempt, ...] = ()
        self._waited = 0.0
        self._resting = self._draining = False  # between two tries; between the last event and the end of the body
        self.repeatable: bool = not isinstance(call.source, Delivery)  # see ``EventSource``
        self._failure: DhenaraError | None = None  # to be raised when the events before it have been handed over
        self._greeted = False  # StreamStart has been handed over
        self._spoken = False  # something of the answer has been handed over
        self._flows = False  # and nothing more is to be looked after than that it comes
        self._over = self._closed = False
        self._clock: Clock | None = None

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._over and self._failure is None

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self._call.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        call = self._call
        nothing_under_way = self._failure is not None or self._resting
        return CallRecord(
            origin=call.origin,
            request_id=self._request_id,
            tries=self._failed if nothing_under_way else (*self._failed, self._attempt(None)),
            warnings=call.warnings,
            report=call.report,
            messages=call.request.messages,
            pricing=call.pricing,
            prefix=call.prefix,
            usage=self._reading.usage,
        )

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        if self._failure is not None:
            raise self._failure
        try:
            if self._flows and self._exchange is not None and not self._reading.complete:  # a step without its detours
                chunk = await self._exchange.read()
                events = self._reading.take(chunk)
                if not chunk or (self._reading.complete and self._exchange.ended()):
                    self._ended()
                return events
            return self._handed(await self._step())
        except DhenaraError as exc:
            salvaged, self._reading.salvaged = self._reading.salvaged, ()
            wait = None if self._spoken or says(salvaged) else self._wait_after(exc)
            if wait is not None:
                await self._retire(exc, wait)
                return ()
            self._give_up(exc)
            if self._exchange is not None:
                await self._exchange.close()
            if salvaged:
                return self._handed(salvaged)
            raise

    async def close(self) -> None:
        """See ``EventSource``."""
        if self._closed:
            return
        self._closed = True
        cut = self._exchange is None or not self._exchange.ended()
        try:
            if self._exchange is not None:
                try:
                    if self._reading.complete and not (self._over or self._draining or _being_cancelled()):
                        await self._drain(self._exchange)  # left at the last event: the connection is as good as ended
                finally:
                    await self._exchange.close()
        finally:
            self._ended()
            source = self._call.source
            if isinstance(source, Delivery) and (source.owns_transport or cut):
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    if source.owns_transport:
                        await source.transport.aclose()
                    else:
                        await asyncio.sleep(0)  # a loop closes a socket at its next turn, whoever asked for it

    # ------------------------------------------------------------------------------------------------ steps

    async def _step(self) -> Sequence[StreamEvent]:
        """Open the exchange if there is none, then read once and decode what came."""
        exchange = self._exchange
        if exchange is None:
            events = await self._begin()
            exchange = self._exchange
            if exchange is None:
                return events
        if self._reading.complete:  # everything has been handed over before this
            await self._drain(exchange)
            return ()
        clock = self._clock
        if clock is None:
            chunk = await exchange.read()
        else:
            chunk = await clock.reading(exchange)
        reading = self._reading
        events = reading.take(chunk)
        if chunk and reading.plain and exchange.ended():
            chunk, events = b"", reading.take(b"")  # all that it says
        if not chunk or (reading.complete and exchange.ended()):
            self._ended()
        return events

    def _handed(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """``events`` as the reader gets them: who begins to answer is told once, whatever it took."""
        if not events:
            return events
        clock = self._clock
        if clock is not None and clock.counts_content and says(events):
            clock.heard()
        if self._spoken:
            return events
        first = events[0]
        if isinstance(first, StreamStart):
            start = StreamStart(
                first.model,
                first.provider,
                first.response_id,
                request_id=self._request_id,
                warnings=self._call.warnings,
            )
            told = StreamReset(reason=self._failed[-1].error or "", start=start) if self._greeted else start
            self._greeted = True
            events = (told, *events[1:])
        self._spoken = says(events)
        if self._spoken and not self._reading.complete:
            self._flows = clock is None
            self._call.settle()
        return events

    async def _begin(self) -> Sequence[StreamEvent]:
        source = self._call.source
        if not isinstance(source, Delivery):
            self._over = self._reading.complete = True
            return source
        if self._clock is None and Clock.wanted(source.timeouts):
            self._clock = Clock(source.timeouts)
        if not self._failed:
            source.budget.earn()
        if self._resting:
            await _while_open(source, asyncio.sleep(self._waited))
            self._resting = False
        try:
            await self._open(source)
        except APIError as refusal:
            await self._open_without_reasoning(refusal)
        return ()

    async def _open(self, source: Delivery) -> None:
        request = source.request
        if source.prepare is not None or source.limiter is not None:
            request = await _while_open(source, self._prepared(source))
        signed = await self._in_time(source.auth.sign(request))
        self._exchange = exchange = await self._in_time(source.transport.send(signed, source.timeouts))
        headers = exchange.headers
        check_header_block(headers, request.max_header_bytes)
        if self._slot is not None:
            self._slot.told(headers)
        for name in _REQUEST_ID_HEADERS:
            told = headers.get(name)
            if told:
                self._request_id = printable(source.auth.hide(told))
                break
        if exchange.status >= 300:
            await self._refuse(exchange)
        self._reading.begin(headers.get("content-type", ""))
        if self._clock is not None:
            self._clock.watch(exchange)
        self.repeatable = getattr(exchange, "repeatable", False)

    async def _prepared(self, source: Delivery) -> HttpRequest:
        """The request, when it may be sent, with everything that it needs."""
        if source.limiter is not None and self._slot is None:
            asked = self._call.request
            tokens = estimate_messages(asked.messages, asked.instructions, asked.config.tools)
            tokens += asked.config.max_output_tokens or 0
            self._slot = await self._in_time(source.limiter.acquire(self._call.origin, tokens=tokens))
        return source.request if source.prepare is None else await self._in_time(source.prepare())

    async def _in_time(self, work: Awaitable[Got]) -> Got:
        """``work``, as long as the call has time for it."""
        return await work if self._clock is None else await self._clock.within(work)

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
            while len(body) < KEPT_BODY_BYTES and (chunk := await self._in_time(exchange.read())):
                body += chunk
        except TransportError as exc:
            logger.debug("the body of an error broke off: %s", exc)  # its status says more than that
        except ProtocolError as exc:  # it cannot be read: why stands in the place of its words
            body = str(exc).encode()
        raise self._call.driver.error(exchange.status, exchange.headers, body, provider=provider)

    # ------------------------------------------------------------------------------------------------ other tries

    def _wait_after(self, exc: DhenaraError) -> float | None:
        """Seconds after which the call is made again; None if it is not."""
        source = self._call.source
        if not isinstance(source, Delivery) or self._closed:
            return None
        policy = self._call.request.config.retries
        remaining = None if self._clock is None else self._clock.remaining()
        wait = delay(policy, len(self._failed) + 1, exc, remaining=remaining, draw=random.random())
        if wait is None or not source.budget.spend():
            return None
        return wait

    async def _retire(self, exc: DhenaraError, wait: float) -> None:
        """Forget what came of a request that failed; the next step begins with a rest of ``wait`` seconds."""
        self._note(exc)
        self.repeatable = False
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await exchange.close()
        logger.warning(
            "%s failed with %s (request %s); asking %s again in %.2f s",
            self._call.origin.provider,
            type(exc).__name__,
            self._request_id,
            printable(self._call.origin.model),
            wait,
        )
        self._forget(self._call)
        self._waited = wait
        self._resting = True

    def _forget(self, call: Call) -> None:
        """Begin ``call`` anew."""
        self._call = call
        self._reading = _reading(call)
        self._request_id = None

    async def _open_without_reasoning(self, refusal: APIError) -> None:
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
            printable(origin.model),
        )
        self._failed = (*self._failed, self._attempt(refusal))
        self._forget(second)
        self._waited, self._exchange = 0.0, None
        try:
            await self._open(second.source)
        except DhenaraError as exc:
            exc.add_note(f"The second of two requests; the first, with its history's reasoning, met: {refusal}")
            raise

    def _second(self, refusal: APIError) -> Call | None:
        """The call without the reasoning of its history, if that is what the provider refuses."""
        make = self._call.without_reasoning
        if make is None or not refuses_reasoning(refusal):
            return None
        try:
            return make()
        except ConversionLossError:
            words = "; without the reasoning of the history it may be taken, but a strict policy forbids to try"
            refusal.args = (f"{refusal}{words}",)
            return None

    def _give_up(self, exc: DhenaraError) -> None:
        self._note(exc)
        exc.attempts = len(self._failed)
        self._failure = exc
        self._over = True

    def _note(self, exc: DhenaraError) -> None:
        """A request has failed: put down how, and give back what it held."""
        self._keep_secrets(exc)
        self._failed = (*self._failed, self._attempt(exc))
        if self._slot is not None and isinstance(exc, APIError) and exc.status in (429, 503, 529):
            self._slot.refused(exc.retry_after)
        self._let_go(sent=not isinstance(exc, ConnectError))

    def _attempt(self, exc: DhenaraError | None) -> Attempt:
        """The request under way, or what became of it."""
        exchange = self._exchange
        usage = self._reading.usage if exc is not None else None
        attempt = Attempt.unchecked(
            endpoint=self._call.origin,
            error=None if exc is None else f"{type(exc).__name__}: {exc}",
            status=exc.status if isinstance(exc, APIError) else None if exchange is None else exchange.status,
            request_id=self._request_id,
            waited=self._waited,
            usage=UNKNOWN,
            cost=None,
        )
        return priced(attempt, usage, self._call.pricing)

    def _keep_secrets(self, exc: DhenaraError) -> None:
        """Some hosts quote the key that they refuse, and we quote hosts."""
        source = self._call.source
        if not isinstance(source, Delivery):
            return
        hide = source.auth.hide
        chain: list[BaseException] = [exc]
        known: set[int] = set()
        while chain:  # what caused it is printed with it, and may quote the host too
            one = chain.pop()
            known.add(id(one))
            one.args = tuple(hide(value) if isinstance(value, str) else value for value in one.args)
            said = vars(one)
            said.update({name: hide(value) for name, value in said.items() if isinstance(value, str)})
            chain += [each for each in (one.__cause__, one.__context__) if each is not None and id(each) not in known]

    def _let_go(self, *, sent: bool = True) -> None:
        """Give back what a request holds beside its connection; ``sent`` unless its provider saw nothing of it."""
        if self._clock is not None:
            self._clock.rest()
        slot, self._slot = self._slot, None
        if slot is not None:
            if self._reading.usage is not None:
                slot.spent(self._reading.usage)
            elif not sent:
                slot.spent(Usage(total_tokens=0))
            slot.release()

    def _ended(self) -> None:
        """The body has been read to its end."""
        self._over = True
        self._let_go()

    async def _drain(self, exchange: Exchange) -> None:
        """Read on to the end of the body for a moment: only then can the connection be used again."""
        if exchange.ended():  # as it mostly is: the end of the body comes with the end of the answer
            self._ended()
            return
        self._draining = True
        enough = asyncio.get_running_loop().call_later(DRAIN_SECONDS, _interrupt, exchange)  # a scope costs much more
        try:
            while not exchange.ended() and await exchange.read():
                pass
        except DhenaraError as exc:
            logger.debug("the connection broke, or was held open, after the end of the answer: %s", exc)
        finally:  # whoever is cancelled here does not wait once more when the stream is closed
            enough.cancel()
            self._ended()


def _reading(call: Call) -> ResponseBody:
    decoder = call.driver.decoder(call.request, call.origin)
    framing = call.source.framing if isinstance(call.source, Delivery) else SSE
    return ResponseBody(decoder, call.request.config.bounds.max_answer_bytes, framing)


async def _while_open(source: Delivery, work: Coroutine[object, object, Got]) -> Got:
    """``work`` of a call that has no exchange yet; it ends when the transport is closed, where that can tell."""
    transport = source.transport
    return await (transport.while_open(work) if isinstance(transport, EndsWaits) else work)


def _interrupt(exchange: Exchange) -> None:
    exchange.interrupt(DeadlineError(limit="drain", seconds=DRAIN_SECONDS))


def _being_cancelled() -> bool:
    """Whether somebody wants the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def says(events: Iterable[StreamEvent]) -> bool:
    """Whether any of ``events`` says something of the answer."""
    for event in events:
        if isinstance(event, PartStart):
            if event.kind not in _WORDS:
                return True
        elif event.__class__ not in _EMPTY:
            return True
    return False


def priced(attempt: Attempt, usage: Usage | None, pricing: Pricing) -> Attempt:
    """``attempt``, which gave no answer, with what it is known to have taken, and what that costs.

    Args:
        attempt: The request.
        usage: The last that was told of it; None = nothing.
        pricing: How its endpoint is counted; list prices count once they are loaded.
    """
    if usage is None:
        return attempt
    cost = None
    if pricing.rates is not None:
        cost = pricing.rates.price(usage)
    elif loaded():
        cost = list_price(usage, provider=attempt.endpoint.provider, models=[attempt.endpoint.model])
    return attempt.changed(usage=usage.changed(source="estimated"), cost=cost)
