"""``LoopStream``: the answers of a tool loop, read like one stream; between them the tools run.

An answer is read from its own stream at no extra cost. The work between two answers (storing the first, running tools,
asking again) is done by a task of its own, so that a reader whose read is cancelled loses nothing; leaving the block
cancels that task, and with it the tools.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from inspect import isawaitable
from types import TracebackType
from typing import NoReturn, Self, cast

from pydantic import JsonValue

from dhenara_async.calls.loop_steps import EventBuffer, LoopStep, LoopSteps, StoredCalls
from dhenara_async.calls.observed_loop import ObservedLoop
from dhenara_async.calls.paused_answers import joined
from dhenara_async.calls.records import LoopOutcome
from dhenara_async.calls.step import Step
from dhenara_async.calls.text import TextStream
from dhenara_async.errors import ConfigurationError, DeadlineError, DhenaraError, StreamStateError
from dhenara_async.events import LoopEvent, StepStart, StreamEvent, ToolApprovalRequest
from dhenara_async.frozen import short_repr
from dhenara_async.messages.messages import Origin, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.response import AIModelCallResponse, CallWarning
from dhenara_async.tools.loop import (
    AskNext,
    EndLoop,
    LoopProgress,
    LoopState,
    RunCalls,
    decision_key,
    denial,
    is_pending,
)
from dhenara_async.tools.policy import Approval, Pending, ToolPolicy
from dhenara_async.tools.runner import ToolRunner

_ADVICE = "a tool loop is read inside its block: async with client.stream(…, run_tools=…) as stream"


class LoopStream:
    """The answers of a tool loop: iterate it inside ``async with``.

    The events of all answers come one after another, with ``StepStart``, ``ToolStart``, ``ToolEnd`` and
    ``ToolApprovalRequest`` between them. A read that is cancelled can be repeated and loses nothing, and tools run on
    meanwhile; leaving the block cancels the running tools and the running call.

    Args:
        steps: Makes the model calls.
        progress: The rules of the loop, before its first step.
        runner: Runs the calls; None = they are not run.
        observed: Reports the loop to observers.
        seconds: Time limit of the whole loop; None = unlimited.
        conversation: Id of the conversation, for observers; None outside of one.
        stored: The calls that a resumed loop begins with; None = it begins with a model call.

    Attributes:
        advice: The right way to read it, for a caller that reads it outside its block; a turn sets its own.
        responses: The complete answers so far, oldest first; one that its provider cut and went on with is one answer.
        outcome: How the loop ended: ``complete``, ``limit`` (``ToolPolicy.max_steps``) or ``pending`` (a call waits for
            approval); None while it runs, and after a failure.
        reason: The exception that ended its block, for the node of an unfinished answer; None if there was none.
    """

    advice: str = _ADVICE

    def __init__(
        self,
        steps: LoopSteps,
        progress: LoopProgress,
        runner: ToolRunner | None,
        observed: ObservedLoop,
        *,
        seconds: float | None = None,
        conversation: str | None = None,
        stored: StoredCalls | None = None,
    ) -> None:
        self.responses: list[AIModelCallResponse] = []
        self._goes_on = False  # the running call goes on with the last of them
        self.outcome: LoopOutcome | None = None
        self.reason: BaseException | None = None
        self._steps = steps
        self._progress = progress
        self._runner = runner
        self._observed = observed
        self._seconds = seconds
        self._conversation = conversation
        self._stored = stored
        self._due: float | None = None
        self._state = LoopState.ASKING
        self._step: LoopStep | None = None
        self._last: LoopStep | None = None
        self._between: Step[None] | None = None
        self._working = False
        self._asked: Origin | None = None
        self._ready = EventBuffer()
        self._failure: BaseException | None = None
        self._entered = self._closed = False

    def __repr__(self) -> str:
        return short_repr("LoopStream", (("state", self._state.value), ("steps", self._progress.steps)))

    # ------------------------------------------------------------------------------------------------ reading

    async def __aenter__(self) -> Self:
        if self._entered:
            raise StreamStateError("a tool loop can be entered once; make another")
        self._entered = True
        self._due = None if self._seconds is None else asyncio.get_running_loop().time() + self._seconds
        if self._stored is not None and self._stored.over:
            self._state, self.outcome = LoopState.ENDED, "complete"
            return self
        if self._stored is not None:
            self._start_observing(self._steps.expected)
            self._state = LoopState.RUNNING  # from the first read on: until then it may turn out to run elsewhere
            return self
        try:
            await self._ask(None)
        except BaseException as exc:
            self._failure = exc
            self._end_observing(exc)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reason = exc
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        ready = self._ready
        if not ready.events:
            ready.events[:0] = await self._read()
        if not ready.events:
            raise StopAsyncIteration
        return ready.events.pop(0)

    async def batch(self) -> list[StreamEvent]:
        """Return the events that are there, at least one; an empty list at the end. Faster than one by one.

        Raises:
            DhenaraError: A model call failed, or the loop's time is over.
        """
        return self._ready.take() or await self._read()

    def text(self) -> TextStream:
        """Return the text of all answers as it arrives; see ``ResponseStream.text``."""
        return TextStream(self.__anext__)

    async def collect(self) -> AIModelCallResponse:
        """Receive the rest of all answers and return the last one.

        Raises:
            DhenaraError: A model call failed, or the loop's time is over.
        """
        while await self.batch():
            pass
        return self.response

    @property
    def response(self) -> AIModelCallResponse:
        """The last answer of the ended loop.

        Raises:
            StreamStateError: The loop has not ended, or no model was asked.
        """
        if self._state is not LoopState.ENDED:
            raise StreamStateError("the tool loop has not ended; .partial has the answer so far")
        if not self.responses:
            raise StreamStateError("no model was asked: every call still waits for approval")
        return self.responses[-1]

    @property
    def partial(self) -> AIModelCallResponse:
        """The newest answer so far, at any time and after any failure.

        Raises:
            StreamStateError: No model was asked.
        """
        if self._last is None:
            raise StreamStateError("no model was asked yet")
        return self._last.partial

    def partial_structured(self) -> JsonValue:
        """Return the object of ``structured_output`` so far; see ``ResponseStream.partial_structured``."""
        from dhenara_async.tools.structured import so_far

        if self._last is None:
            return None
        parts = self._last.partial.chat_response.choices[0].parts
        return so_far([part.text for part in parts if isinstance(part, TextPart)])

    @property
    def complete(self) -> bool:
        """Whether the loop has ended without a failure."""
        return self._state is LoopState.ENDED

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the loop early; None if there was none."""
        return self._failure

    @property
    def prefix(self) -> str | None:
        """None: each answer has its own; see ``ResponseStream.prefix``."""
        return None

    async def aclose(self) -> None:
        """End the loop: running tools are cancelled and the provider's socket is closed. Can be called again."""
        if self._closed:
            return
        self._closed = True
        reason = self._failure or self.reason
        try:
            if self._between is not None:
                await self._between.end()
        finally:
            try:
                await self._leave(reason)
            finally:
                self._end_observing(reason)
                self._ready.wake()
                if self._runner is not None:
                    await self._runner.aclose()

    # ------------------------------------------------------------------------------------------------ the loop

    async def _read(self) -> list[StreamEvent]:
        """Return the next events, at least one; empty at the end."""
        while True:
            if not self._entered:
                raise StreamStateError(self.advice)
            if self._ready.events:
                return self._ready.take()
            if self._failure is not None:
                self._raise_failure(self._failure)
            if self._state is LoopState.ENDED and self._between is None:
                return []
            if self._closed:
                raise StreamStateError("the tool loop was left before its end; make another")
            try:
                events = await self._receive()
            except asyncio.CancelledError:
                raise  # the next read goes on
            except BaseException as exc:
                self._failure = exc
                raise
            if events:
                return events

    def _raise_failure(self, failure: BaseException) -> NoReturn:
        if isinstance(failure, DhenaraError):
            raise failure
        raise StreamStateError("the tool loop was broken off; make another") from failure

    async def _receive(self) -> list[StreamEvent]:
        """Read the answer, or wait for the work between two answers; the events may be in ``_ready`` instead."""
        if self._stored is not None and not self._stored.over:
            stored, self._stored = self._stored, None
            await self._work(lambda: self._answer_calls(stored.calls, stored.decisions))
        if self._between is None and self._step is not None:
            events = await self._step.batch()
            if not events and self._between is None:
                await self._work(self._go_on)
            return events
        if self._working:
            await self._ready.wait()
        between = self._between
        if between is not None and not self._working and not self._ready.events:
            self._between = None
            await between.end()
            between.result()
        return []

    async def _work(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin work between two answers, in a task of its own."""

        async def whole() -> None:
            try:
                await work()
            finally:
                self._working = False
                self._ready.wake()

        self._working, self._state = True, LoopState.RUNNING
        self._between = Step(whole)
        await self._between.begin()

    async def _go_on(self) -> None:
        """Do what follows the complete answer."""
        step = cast("LoopStep", self._step)
        answer = step.response
        if self._goes_on:
            answer = joined(self.responses.pop(), answer)
        move = self._progress.after(answer.chat_response)
        warnings = (move.warning,) if isinstance(move, EndLoop) and move.warning is not None else ()
        self.responses.append(answer.changed(warnings=(*answer.warnings, *warnings)) if warnings else answer)
        await self._leave(None, warnings)
        match move:
            case RunCalls():
                await self._answer_calls(move.calls, {})
            case AskNext():
                await self._ask(move)
            case EndLoop():
                self._end(move.outcome)

    async def _ask(self, asked: AskNext | None) -> None:
        """Begin the next model call."""
        self._goes_on = asked is not None and asked.goes_on
        step = self._steps.make(asked, self._remaining())
        if self._asked is None:
            self._start_observing(self._steps.expected)
        await step.__aenter__()
        self._step = self._last = step
        endpoint = step.partial.endpoint
        if self._asked is None:
            self._start_observing(endpoint)
        self._progress.steps += 1
        self._state = LoopState.ASKING
        self._ready.add(StepStart(self._steps.node_id, endpoint))

    async def _leave(self, reason: BaseException | None, warnings: Sequence[CallWarning] = ()) -> None:
        step, self._step = self._step, None
        if step is not None:
            await self._steps.leave(step, reason, warnings)

    async def _answer_calls(self, calls: tuple[ToolCallPart, ...], decisions: Mapping[str, Approval]) -> None:
        """Run the calls of an answer, then ask the model again, unless some of them wait for approval."""
        scope = asyncio.timeout(self._remaining())
        try:
            async with scope:
                results, pending = await self._results(calls, decisions)
        except TimeoutError as exc:
            if not scope.expired():
                raise
            raise DeadlineError(limit="total", seconds=self._seconds) from exc
        if pending:
            self._end("pending")
            return
        await self._ask(AskNext(results))

    async def _results(
        self, calls: tuple[ToolCallPart, ...], decisions: Mapping[str, Approval]
    ) -> tuple[tuple[ToolResultPart, ...], bool]:
        """Return the results of the calls that have one, and whether a call waits for approval."""
        runner, policy = cast("ToolRunner", self._runner), cast("ToolPolicy", self._progress.policy)
        results = dict(await self._steps.results())
        allowed: list[tuple[int, ToolCallPart]] = []
        denials: dict[int, str] = {}
        pending = False
        for place, call in enumerate(calls):
            if place in results:
                continue
            decided = decisions.get(decision_key(call))
            approval = await _approval(policy, call) if decided is None else decided
            if is_pending(approval):
                pending = True
                self._ready.add(ToolApprovalRequest(call))
                continue
            words = denial(approval)
            if words is not None:
                denials[place] = words
            allowed.append((place, call))
        if allowed:
            results |= await runner.run(allowed, denials, emit=self._emit, keep=self._steps.keep)
        return tuple(results[place] for place in sorted(results)), pending

    def _emit(self, event: LoopEvent) -> None:
        self._ready.add(event)

    def _end(self, outcome: LoopOutcome) -> None:
        self._state, self.outcome = LoopState.ENDED, outcome
        self._end_observing(None)

    def _remaining(self) -> float | None:
        """Return the seconds that the loop has left.

        Raises:
            DeadlineError: None are left.
        """
        if self._due is None:
            return None
        left = self._due - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineError(limit="total", seconds=self._seconds)
        return left

    # ------------------------------------------------------------------------------------------------ observers

    def _start_observing(self, endpoint: Origin | None) -> None:
        if endpoint is None:
            return
        self._asked = endpoint
        if self._runner is None:  # calls alone are no agent
            return
        self._observed.start(
            endpoint,
            tools=self._runner.names,
            max_steps=None if self._progress.policy is None else self._progress.policy.max_steps,
            conversation=self._conversation,
            node=self._steps.node_id,
        )

    def _end_observing(self, reason: BaseException | None) -> None:
        if self._last is not None:
            self._asked = self._last.partial.endpoint
        outcome = self.outcome
        if outcome is None:
            cancelled = isinstance(reason, asyncio.CancelledError)
            outcome = "cancelled" if cancelled else "left" if self._failure is None else "failed"
        if self._asked is not None:
            self._observed.end(self._asked, steps=self._progress.steps, outcome=outcome, error=reason)


async def _approval(policy: ToolPolicy, call: ToolCallPart) -> Approval:
    """Return the decision of the policy about a call.

    Raises:
        ConfigurationError: ``approve`` returned something else.
    """
    if policy.approve is None:
        return Pending if call.hosted else True
    approval = policy.approve(call)
    approval = await approval if isawaitable(approval) else approval
    if not isinstance(approval, bool | str) and not is_pending(approval):
        raise ConfigurationError(
            f"approve(call) returns True, False, a reason or Pending, not {type(approval).__name__}"
        )
    return approval
