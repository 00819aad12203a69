"""One answer as it comes: the reader's side.

``ResponseStream`` holds a socket, so it is an async context manager; leaving its block closes the socket, whatever the
reason. It is a class with its own state rather than an async generator, because closing a generator from outside does
not close what it iterates. Everything that one network read decodes is handed over without another await. Where the
events come from, one endpoint or several, is its feed's affair.

A read that is cancelled ends nothing. Where the feed says that its ``receive`` can be cancelled without loss, which is
so while an answer flows, the reader calls it itself, at no cost; everywhere else a ``Step`` does, in a task of its own.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from time import perf_counter
from types import TracebackType
from typing import NoReturn, Self

from pydantic import JsonValue

from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.observer import ObservedCall
from dhenara_async.calls.source import EventSource, says
from dhenara_async.calls.step import Step
from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import DhenaraError, StreamStateError
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
from dhenara_async.formatter.conversion import ConversionReport, dropped_by_server
from dhenara_async.messages.messages import Origin, TextPart
from dhenara_async.request import ChatRequest
from dhenara_async.response import AIModelCallResponse, ChatResponse, FinishReason, Latency
from dhenara_async.transport.open_calls import running_loop

_CLOSED = "the stream was closed; ask the client for another"


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

    A read that is cancelled (``asyncio.wait_for(anext(stream), 15)``, ``anyio.move_on_after``, ``asyncio.timeout``)
    loses nothing: the next one goes on where it was, and no event is left out or told twice. The request stays under
    way meanwhile, other tries included. Only leaving the block, ``aclose()`` and its time limits end the stream.

    Args:
        feed: Where its events come from.
        config: The call's knobs.
        ends_with_reader: Its only reader gives it up when cancelled, as ``generate`` does; then no read is repeated,
            and none takes a task of its own.
        observed: Reports the call to observers; None = there are none.
        clock: Returns seconds that never decrease; for ``latency``.
    """

    def __init__(
        self,
        feed: EventSource,
        config: AIModelCallConfig,
        *,
        ends_with_reader: bool = False,
        observed: ObservedCall | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._config = config
        self._ends_with_reader = ends_with_reader
        self._step: Step[Sequence[StreamEvent]] | None = None
        origin = feed.origin
        self._ready: list[StreamEvent] = []  # the next one last
        self._accumulator = Accumulator(provider=origin.provider, model=origin.model)
        self._failure: BaseException | None = None
        self._entered = self._over = self._closed = False
        self._started_at = self._clock()
        self._first_event_at: float | None = None
        self._ended_at: float | None = None
        self._observed = self._without_content = observed  # the second until the first content has arrived

    # ------------------------------------------------------------------------------------------------ the user's side

    async def __aenter__(self) -> Self:
        if self._entered:
            raise StreamStateError("a stream can be entered once; ask the client for another")
        running_loop()
        self._entered = True
        self._started_at = self._clock()
        if self._observed is not None:
            self._observed.start(self._feed.origin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(exc)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._ready:
            if self._over:
                self._raise_or_stop()
            try:  # as in ``_receive``, without a coroutine more to be resumed for every token
                if not self._entered or self._closed:
                    self._refuse()
                feed = self._feed
                if self._step is None and (feed.repeatable or self._ends_with_reader):
                    self._take(await feed.receive())
                else:
                    self._take(await self._stepped())
            except asyncio.CancelledError:
                raise
            except BaseException as exc:
                await self._fail(exc)
                if not isinstance(exc, DhenaraError):
                    raise
        return self._ready.pop()

    async def batch(self) -> list[StreamEvent]:
        """The events of the next network read, at least one; empty at the end. Cheaper than one by one.

        Can be cancelled and called again, as any read.

        Raises:
            DhenaraError: The call failed, after every event before the failure was handed over.
        """
        while not self._ready:
            if self._over:
                self._raise_failure()
                return []
            await self._receive()
        events, self._ready = self._ready[::-1], []
        return events

    async def collect(self) -> AIModelCallResponse:
        """Receive the rest of the answer without handing it over piece by piece, and return the whole.

        Can be cancelled and called again; what it has received then is handed over by no other read.

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
        usage = self._feed.account.usage
        if usage is not None and not self._accumulator.finished:
            self._accumulator.feed((UsageUpdate(usage),))
        return self._respond(self._accumulator.partial())

    def partial_structured(self) -> JsonValue:
        """The object that ``structured_output`` asked for, as far as it has come, as plain JSON.

        A string that is still coming is there as far as it has come; no validator sees it. The whole text is read at
        each call, so ask as often as you show it, not for every event.

        Returns:
            None while there is nothing yet, and for an answer that is no JSON.
        """
        from dhenara_async.tools.structured import so_far

        return so_far(self._accumulator.texts())

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come."""
        return self._accumulator.finished

    @property
    def prefix(self) -> str | None:
        """Hash of everything the model is shown, where its reasoning is bound to that; else None."""
        return self._feed.account.prefix

    @property
    def failure(self) -> BaseException | None:
        """What ended the stream before its time; None if nothing did."""
        return self._failure

    async def aclose(self) -> None:
        """End the stream: the provider's socket is closed before this returns. Can be called again."""
        await self._close(None)

    async def _close(self, reason: BaseException | None) -> None:
        """Close the stream; ``reason`` is the exception that leaves its block, if any."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._end_step()
        finally:
            try:
                await self._feed.close()
            finally:
                self._finish()
                if self._observed is not None:
                    self._report_end(self._observed, reason)

    # ------------------------------------------------------------------------------------------------ the feed's side

    async def _receive(self) -> None:
        """Let the feed do one step."""
        try:
            if not self._entered or self._closed:
                self._refuse()
            if self._step is None and (self._feed.repeatable or self._ends_with_reader):
                self._take(await self._feed.receive())
            else:
                self._take(await self._stepped())
        except asyncio.CancelledError:
            raise  # the next read goes on
        except BaseException as exc:
            await self._fail(exc)
            if not isinstance(exc, DhenaraError):
                raise  # our own faults do not wait for events that are still to be handed over

    async def _stepped(self) -> Sequence[StreamEvent]:
        """What the feed's next step gives, or the one that is under way since a reader was cancelled."""
        step = self._step
        if step is None:
            step = Step(self._feed.receive)
            await step.begin()
            self._step = step
        await step.wait()
        if self._closed and self.complete:  # nothing but the end of the connection was waited for
            self._finish()
            return ()
        if self._closed:
            raise StreamStateError(_CLOSED)
        if self._step is not step:  # somebody else waited too, and has taken it
            return ()
        self._step = None
        return step.result()

    async def _end_step(self) -> None:
        """End the step under way; what had come of it was received, although nobody has read it."""
        step, self._step = self._step, None
        if step is None:
            return
        await step.end()
        try:
            self._accumulator.feed(step.result())
        except StreamStateError:  # it was ended
            pass
        except DhenaraError as exc:
            self._failure = self._failure or exc

    def _refuse(self) -> NoReturn:
        raise StreamStateError("a stream is read inside its block: async with client.stream(…) as stream")

    def _take(self, events: Sequence[StreamEvent]) -> None:
        if events:
            if self._first_event_at is None:
                self._first_event_at = self._clock()
            self._accumulator.feed(events)
            ready = list(events)
            if len(ready) > 1:
                ready.reverse()
            self._ready = ready + self._ready if self._ready else ready
            if self._without_content is not None and says(events):
                self._without_content.receive_content(self._feed.origin)
                self._without_content = None
        if self._feed.over:
            self._finish()
            if self._observed is not None:
                self._report_end(self._observed, None)

    async def _fail(self, exc: BaseException) -> None:
        """The feed has failed."""
        self._failure = exc
        if self._closed and isinstance(exc, DhenaraError):  # from another task: what it met is of our own making
            self._failure = StreamStateError(_CLOSED)
            self._failure.__cause__ = exc
        self._finish()
        try:
            await self._feed.close()
        finally:
            if self._observed is not None:
                self._report_end(self._observed, exc)

    def _report_end(self, observed: ObservedCall, error: BaseException | None) -> None:
        """Report to observers that the call has ended, unless that was reported before."""
        if not observed.ends_now():
            return
        complete = self._accumulator.finished
        if error is None and not complete:
            error = self._failure or StreamStateError("the stream was closed before its answer was complete")
        account, answer = self._feed.account, self._accumulator.partial()
        observed.end(
            account.origin,
            request_id=account.request_id,
            status=account.tries[-1].status if account.tries else None,
            error=None if complete else error,
            usage=account.usage,
            finish_reason=answer.choices[0].finish_reason if complete and answer.choices else None,
        )

    def _raise_failure(self) -> None:
        if isinstance(self._failure, DhenaraError):
            raise self._failure
        if self._failure is not None and not self._accumulator.finished:
            # not the old exception again: a cancellation belongs to its scope, which may be long gone
            raise StreamStateError("the stream was broken off; ask the client for another") from self._failure
        if self._closed and not self._accumulator.finished:
            raise StreamStateError(_CLOSED)

    def _raise_or_stop(self) -> None:
        self._raise_failure()
        raise StopAsyncIteration

    def _finish(self) -> None:
        self._over = True
        if self._ended_at is None:
            self._ended_at = self._clock()

    def _respond(self, chat_response: ChatResponse) -> AIModelCallResponse:
        began, first, ended = self._started_at, self._first_event_at, self._ended_at
        wanted = self._config.structured_output
        account = self._feed.account
        warnings = account.warnings
        if wanted is not None:
            chat_response = chat_response.wanted(wanted)
            warnings += chat_response.unwrapped()
        return AIModelCallResponse.unchecked(
            chat_response=chat_response,
            endpoint=account.origin,
            request_id=account.request_id,
            attempts=len(account.tries),
            tries=account.tries,
            plan=account.plan,
            seams=account.seams,
            latency=Latency.unchecked(
                first_event=None if first is None else first - began,
                total=(self._clock() if ended is None else ended) - began,
            ),
            warnings=warnings,
            conversion=_reported(account, chat_response),
            pricing=account.pricing,
        )


def _reported(account: CallRecord, chat_response: ChatResponse) -> ConversionReport:
    """What became of the history, with what the provider says it did to it."""
    report = account.report
    for choice in chat_response.choices:
        dropped = dropped_by_server(choice.parts, account.messages, account.origin)
        if dropped:
            report = report.changed(entries=(*report.entries, *dropped))
    return report
