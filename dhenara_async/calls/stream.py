"""``ResponseStream``: the reader's side of one answer.

``ResponseStream`` holds a socket, so it is an async context manager; leaving its block closes the socket, whatever the
reason. It is a class with its own state rather than an async generator, because closing a generator from outside does
not close what it iterates. All events of one network read are handed over without another await. Its events come
from an ``EventSource``: one endpoint, or a plan over several.

A cancelled read loses nothing. While the source is ``repeatable``, as an answer that flows is, the reader calls
``receive`` itself, at no cost; otherwise a ``Step`` calls it in a task of its own.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Generator, Sequence
from time import perf_counter
from types import TracebackType
from typing import NoReturn, Self

from pydantic import JsonValue

from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.attempts import priced
from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.observed import ObservedCall
from dhenara_async.calls.partial_usage import estimated_usage, prompt_tokens
from dhenara_async.calls.records import CallOutcome
from dhenara_async.calls.source import EventSource, says
from dhenara_async.calls.step import Step
from dhenara_async.calls.text import TextStream
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
    ToolCallDelta,
    UsageUpdate,
)
from dhenara_async.formatter.conversion import ConversionReport, dropped_by_server
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import short_repr
from dhenara_async.messages.messages import Origin, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.request import ChatRequest
from dhenara_async.response import AIModelCallResponse, Attempt, ChatResponse, FinishReason, Latency
from dhenara_async.tools.declarations import NamedTool, Tool
from dhenara_async.tools.samples import DeclaredTool, chosen, sample, sample_arguments
from dhenara_async.tools.schemas import output_schema
from dhenara_async.transport.open_calls import running_loop
from dhenara_async.usage.tokens import Usage

_CLOSED = "the stream was closed; ask the client for another"


def rehearsal(request: ChatRequest, origin: Origin) -> tuple[StreamEvent, ...]:
    """Build the events of a ``test_mode`` answer. Uses no network.

    A call with ``structured_output`` gets an object that fits its schema. A call with tools gets a tool call, if it
    forces one or if the question has a word of a tool's name; not after the result of a call. Any other answer names
    the model and repeats the question.
    """
    last = request.messages[-1]
    asked = last.get_text()
    tools = [tool for tool in request.config.tools if isinstance(tool, Tool)]
    declared = [DeclaredTool(tool.name, tool.description, tool.parameters) for tool in tools]
    choice = request.config.tool_choice
    forced = choice.name if isinstance(choice, NamedTool) else None if choice == "auto" else choice
    has_results = any(isinstance(part, ToolResultPart) for part in last.parts)
    called = None if has_results else chosen(declared, forced, asked)
    if called is not None:
        return _rehearsed_call(called, origin)
    wanted = output_schema(request.config)
    if wanted is not None:
        text = dumps(sample(wanted.schema)).decode()
    else:
        text = f"[test mode] {origin.model} was not called. It would have answered: {asked}"
    return _rehearsed_text(text, origin)


def _rehearsed_call(tool: DeclaredTool, origin: Origin) -> tuple[StreamEvent, ...]:
    arguments = dumps(sample_arguments(tool)).decode()
    part = ToolCallPart(call_id="call_1", name=tool.name, arguments=arguments, origin=origin)
    return (
        StreamStart(model=origin.model, provider=origin.provider),
        PartStart(0, "tool_call", call_id=part.call_id, name=part.name),
        ToolCallDelta(0, arguments),
        PartEnd(0, part),
        StreamEnd(FinishReason.TOOL_CALLS, None, (ChoiceFinish(0, FinishReason.TOOL_CALLS),)),
    )


def _rehearsed_text(text: str, origin: Origin) -> tuple[StreamEvent, ...]:
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

    The request is sent when the first event is requested. A failure is raised from the iteration, after every event
    before it; ``partial`` then has the answer up to there.

    A read that is cancelled (``asyncio.wait_for(anext(stream), 15)``, ``anyio.move_on_after``, ``asyncio.timeout``)
    loses nothing: the next read continues at the same place, without a missing or repeated event. Meanwhile the request
    continues, including its retries. Only leaving the block, ``aclose()`` and time limits end the stream.

    Args:
        source: The source of its events.
        config: Options of the call.
        ends_with_reader: Whether a cancelled read ends the stream, as in ``generate``; reads then need no task of
            their own.
        observed: Reports the call to observers; None = there are none.
        clock: Returns seconds that never decrease; for ``latency``.

    Attributes:
        advice: The right way to read it, for a caller that reads it outside its block; a turn sets its own.
    """

    advice: str = "a stream is read inside its block: async with client.stream(…) as stream"

    def __init__(
        self,
        source: EventSource,
        config: AIModelCallConfig,
        *,
        ends_with_reader: bool = False,
        observed: ObservedCall | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._source = source
        self._clock = clock
        self._config = config
        self._ends_with_reader = ends_with_reader
        self._step: Step[Sequence[StreamEvent]] | None = None
        origin = source.origin
        self._ready: list[StreamEvent] = []  # in reverse order
        self._accumulator = Accumulator(provider=origin.provider, model=origin.model)
        self._failure: BaseException | None = None
        self._entered = self._over = self._closed = False
        self._started_at = self._clock()
        self._first_event_at: float | None = None
        self._first_content_at: float | None = None
        self._ended_at: float | None = None
        self._estimate: tuple[ChatRequest, int] | None = None  # a request and its estimated tokens
        self._on_enter: Callable[[], None] | None = None
        self._on_close: Callable[[AIModelCallResponse], Awaitable[None]] | None = None
        self._observed = self._without_content = observed  # the latter until the first content has arrived

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ended" if self._over else "open" if self._entered else "not entered"
        return short_repr("ResponseStream", (("model", self._source.origin.model), ("state", state)))

    # ------------------------------------------------------------------------------------------------ reading

    async def __aenter__(self) -> Self:
        if self._entered:
            raise StreamStateError("a stream can be entered once; ask the client for another")
        running_loop()
        if self._on_enter is not None:
            self._on_enter()
        self._entered = True
        self._started_at = self._clock()
        if self._observed is not None:
            self._observed.start(self._source.origin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(exc)

    def __await__(self) -> Generator[object, None, NoReturn]:
        """Refuse ``await client.stream(…)``: a stream is a block.

        Raises:
            StreamStateError: Always; it says what to write.
        """
        raise StreamStateError(f"{self.advice}; await client.generate(…) returns the whole answer")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._ready:
            if self._over:
                self._raise_or_stop()
            try:  # as in ``_receive``, without a coroutine more to be resumed for every token
                if not self._entered or self._closed:
                    self._refuse()
                source = self._source
                if self._step is None and (source.repeatable or self._ends_with_reader):
                    self._take(await source.receive())
                else:
                    self._take(await self._stepped())
            except asyncio.CancelledError:
                raise
            except BaseException as exc:
                await self._fail(exc)
                if not isinstance(exc, DhenaraError):
                    raise
        return self._ready.pop()

    def bracket(self, enter: Callable[[], None], close: Callable[[AIModelCallResponse], Awaitable[None]]) -> None:
        """Call ``enter`` when the block is entered, where it may refuse, and ``close`` with the answer at its end."""
        self._on_enter, self._on_close = enter, close

    def text(self) -> TextStream:
        """Return the text of the answer as it arrives: ``async for word in stream.text()``.

        It reads the same events as the stream itself. If a plan starts the answer again at another endpoint, the new
        answer's text follows; code that shows text across such a restart reads the events and obeys ``StreamReset``.
        """
        return TextStream(self.__anext__)

    async def batch(self) -> list[StreamEvent]:
        """Return the events of the next network read, at least one; an empty list at the end. Faster than one by one.

        Can be cancelled and called again, like any read.

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
        """Receive the rest of the answer and return the complete response.

        Can be cancelled and called again; other reads do not return the events that it received.

        Raises:
            DhenaraError: The call failed; ``partial`` has the answer up to there.
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
            StreamStateError: The answer is not complete; ``partial`` has its beginning.
        """
        return self._respond(self._accumulator.response())

    @property
    def partial(self) -> AIModelCallResponse:
        """The answer so far, at any time and after any failure. The usage of an incomplete answer is estimated."""
        accumulator, account = self._accumulator, self._source.account
        if accumulator.finished:
            return self._respond(accumulator.partial())
        if account.usage is not None:
            accumulator.feed((UsageUpdate(account.usage),))
        answer = accumulator.partial()
        received = accumulator.parts_of_endpoint()
        if not (received or account.usage is not None or accumulator.announced):
            return self._respond(answer)  # the request may have been refused
        usage = estimated_usage(account.usage, received, self._prompt_tokens(account.request))
        response = self._respond(answer.changed(usage=usage))
        return response.changed(tries=_estimated_tries(account, usage)) if received else response

    def partial_structured(self) -> JsonValue:
        """Return the object of ``structured_output`` so far, as plain JSON.

        An unfinished string has its text so far; nothing is validated. Each call parses the whole text, so call this as
        often as you display it, not for every event.

        Returns:
            None while there is no JSON yet, and for an answer that is not JSON.
        """
        from dhenara_async.tools.structured import so_far

        return so_far(self._accumulator.texts())

    @property
    def complete(self) -> bool:
        """Whether the complete answer has arrived."""
        return self._accumulator.finished

    @property
    def prefix(self) -> str | None:
        """Hash of everything the model is shown, for endpoints that bind reasoning to it; None for all others."""
        return self._source.account.prefix

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the stream early; None if there was none."""
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
            if self._step is not None:
                await self._end_step(self._step)
        finally:
            try:
                await self._source.close()
            finally:
                self._finish()
                if self._observed is not None:
                    left = "cancelled" if isinstance(reason, asyncio.CancelledError) else "left"
                    failed = self._failure is not None and not isinstance(self._failure, StreamStateError)
                    self._report_end(self._observed, "failed" if failed else left, reason)
                if self._on_close is not None:
                    await self._on_close(self.partial)

    # ------------------------------------------------------------------------------------------------ receiving

    async def _receive(self) -> None:
        """Let the source do one step."""
        try:
            if not self._entered or self._closed:
                self._refuse()
            if self._step is None and (self._source.repeatable or self._ends_with_reader):
                self._take(await self._source.receive())
            else:
                self._take(await self._stepped())
        except asyncio.CancelledError:
            raise  # the next read goes on
        except BaseException as exc:
            await self._fail(exc)
            if not isinstance(exc, DhenaraError):
                raise  # faults of the library are raised before events that are waiting

    async def _stepped(self) -> Sequence[StreamEvent]:
        """Wait for the step that a cancelled reader left running, or for a new one, and return its events."""
        step = self._step
        if step is None:
            step = Step(self._source.receive)
            await step.begin()
            self._step = step
        await step.wait()
        if self._closed and self.complete:  # only the end of the connection was awaited
            self._finish()
            return ()
        if self._closed:
            raise StreamStateError(_CLOSED)
        if self._step is not step:  # another reader waited too, and took the events
            return ()
        self._step = None
        return step.result()

    async def _end_step(self, step: Step[Sequence[StreamEvent]]) -> None:
        """End the running step; its events count as received, although no reader took them."""
        self._step = None
        await step.end()
        try:
            self._accumulator.feed(step.result())
        except StreamStateError:  # the step ended without a result
            pass
        except DhenaraError as exc:
            self._failure = self._failure or exc

    def _refuse(self) -> NoReturn:
        raise StreamStateError(self.advice)

    def _take(self, events: Sequence[StreamEvent]) -> None:
        if events:
            if self._first_content_at is None:
                now = self._clock()
                if self._first_event_at is None:
                    self._first_event_at = now
                if says(events):
                    self._first_content_at = now
            self._accumulator.feed(events)
            ready = list(events)
            if len(ready) > 1:
                ready.reverse()
            self._ready = ready + self._ready if self._ready else ready
            if self._without_content is not None and says(events):
                self._without_content.receive_content(self._source.origin)
                self._without_content = None
        if self._source.over:
            self._finish()
            if self._observed is not None:
                self._report_end(self._observed, "left", None)

    async def _fail(self, exc: BaseException) -> None:
        """End the stream after a failure of its source."""
        self._failure = exc
        if self._closed and isinstance(exc, DhenaraError):  # closed by another task, which caused this failure
            self._failure = StreamStateError(_CLOSED)
            self._failure.__cause__ = exc
        self._finish()
        try:
            await self._source.close()
        finally:
            if self._observed is not None:
                self._report_end(self._observed, "left" if self._closed else "failed", exc)

    def _report_end(self, observed: ObservedCall, unfinished: CallOutcome, error: BaseException | None) -> None:
        """Report to observers that the call has ended, unless that was reported before.

        Args:
            observed: Reports it.
            unfinished: How it ended if its answer is not complete.
            error: Why it failed, or what left its block.
        """
        if not observed.ends_now():
            return
        complete = self._accumulator.finished
        if error is None and not complete:
            error = self._failure or StreamStateError("the stream was closed before its answer was complete")
        account = self._source.account
        observed.end(
            account.origin,
            outcome="complete" if complete else unfinished,
            request_id=account.request_id,
            status=account.tries[-1].status if account.tries else None,
            error=None if complete else error,
            usage=account.usage,
            finish_reason=self._accumulator.finish_reason,
            answer=self._accumulator.partial() if observed.wants_content else None,
        )

    def _raise_failure(self) -> None:
        if isinstance(self._failure, DhenaraError):
            raise self._failure
        if self._failure is not None and not self._accumulator.finished:
            # not the old exception: a cancellation belongs to its scope, which may have ended
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

    def _prompt_tokens(self, request: ChatRequest) -> int:
        """Estimate the tokens of ``request`` once, because ``partial`` may be read at every event."""
        if self._estimate is None or self._estimate[0] is not request:
            self._estimate = (request, prompt_tokens(request))
        return self._estimate[1]

    def _respond(self, chat_response: ChatResponse) -> AIModelCallResponse:
        began, first, ended = self._started_at, self._first_event_at, self._ended_at
        content = self._first_content_at
        wanted = self._config.structured_output
        account = self._source.account
        trace = None if self._observed is None else self._observed.trace
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
                first_content=None if content is None else content - began,
            ),
            warnings=warnings,
            conversion=_reported(account, chat_response),
            pricing=account.pricing,
            trace_id=None if trace is None else trace.trace_id,
            span_id=None if trace is None else trace.span_id,
        ).warned_of_missing_prices()


def _estimated_tries(account: CallRecord, usage: Usage) -> tuple[Attempt, ...]:
    """Return the attempts; if the one that delivered the answer failed, it has the answer's ``usage`` and its cost."""
    tries = list(account.tries)
    for place in reversed(range(len(tries))):
        if tries[place].endpoint == account.origin:
            if tries[place].error is not None:
                tries[place] = priced(tries[place], usage, account.pricing)
            break
    return tuple(tries)


def _reported(account: CallRecord, chat_response: ChatResponse) -> ConversionReport:
    """Return the report on the history, with the parts that the provider says it dropped."""
    report = account.report
    for choice in chat_response.choices:
        dropped = dropped_by_server(choice.parts, account.request.messages, account.origin)
        if dropped:
            report = report.changed(entries=(*report.entries, *dropped))
    return report
