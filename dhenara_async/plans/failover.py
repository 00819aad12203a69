"""The event source of a ``Failover``: reads one target after the other until one completes the answer.

Content that a failed target has already delivered either stays (``continue``), is replaced (``restart``) or ends the
call (``fail``). The state machine below decides how the events of the next target reach the reader.
"""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import assert_never

import anyio

from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.source import EndpointSource, EventSource, says
from dhenara_async.errors import (
    APIError,
    ConfigurationError,
    ConversionLossError,
    DeadlineError,
    DhenaraError,
    StreamStateError,
    UnsupportedError,
)
from dhenara_async.events import (
    Heartbeat,
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolApprovalRequest,
    ToolCallDelta,
    ToolEnd,
    ToolProgress,
    ToolStart,
    UsageUpdate,
)
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.messages import Origin, ReasoningPart, TextPart
from dhenara_async.plans.context import (
    LOST_RACE,
    OpenSource,
    PlanContext,
    TargetFailures,
    describe,
    with_model,
    with_remaining_time,
    with_total_limit,
)
from dhenara_async.plans.continuation import CannotContinueError
from dhenara_async.plans.targets import Failover, Target, endpoints, label, may_pass_elsewhere
from dhenara_async.plans.wrapper import SourceWrapper
from dhenara_async.response import Attempt, Decision, Seam

logger: logging.Logger = logging.getLogger("dhenara_async")


class _FailoverState(Enum):
    """How much of the current target was delivered, and how its next events are delivered."""

    CONNECTING = auto()
    """Nothing was delivered by any target."""
    STARTED = auto()
    """The current target's start was delivered, but no content: another target can take over unnoticed."""
    ANSWERING = auto()
    """Content of the current target was delivered, and stands."""
    RESTARTING = auto()
    """The reader has the start, and maybe content, of a failed target: the next start replaces it by a reset."""
    CONTINUING = auto()
    """The reader has content of a failed target that stands: events are held back until the next content."""
    FAILED = auto()
    """The error was raised."""


class _FailoverSignal(Enum):
    """The events that change the state."""

    START = auto()
    """The current target sent its start."""
    CONTENT = auto()
    """The current target sent content."""
    RESET = auto()
    """The current target took its content back, because it starts over itself."""
    RESTART = auto()
    """The current target failed, and another one starts over."""
    CONTINUE = auto()
    """The current target failed, and another one continues its content."""
    GIVE_UP = auto()
    """The current target failed, and no other target takes over."""


_TRANSITIONS: Mapping[_FailoverState, Mapping[_FailoverSignal, _FailoverState]] = {
    _FailoverState.CONNECTING: {
        _FailoverSignal.START: _FailoverState.STARTED,
        _FailoverSignal.RESTART: _FailoverState.CONNECTING,
        _FailoverSignal.GIVE_UP: _FailoverState.FAILED,
    },
    _FailoverState.STARTED: {
        _FailoverSignal.CONTENT: _FailoverState.ANSWERING,
        _FailoverSignal.RESET: _FailoverState.STARTED,
        _FailoverSignal.RESTART: _FailoverState.RESTARTING,
        _FailoverSignal.GIVE_UP: _FailoverState.FAILED,
    },
    _FailoverState.ANSWERING: {
        _FailoverSignal.CONTENT: _FailoverState.ANSWERING,
        _FailoverSignal.RESET: _FailoverState.STARTED,
        _FailoverSignal.RESTART: _FailoverState.RESTARTING,
        _FailoverSignal.CONTINUE: _FailoverState.CONTINUING,
        _FailoverSignal.GIVE_UP: _FailoverState.FAILED,
    },
    _FailoverState.RESTARTING: {
        _FailoverSignal.START: _FailoverState.STARTED,
        _FailoverSignal.RESTART: _FailoverState.RESTARTING,
        _FailoverSignal.GIVE_UP: _FailoverState.FAILED,
    },
    _FailoverState.CONTINUING: {
        _FailoverSignal.START: _FailoverState.CONTINUING,
        _FailoverSignal.CONTENT: _FailoverState.ANSWERING,
        _FailoverSignal.RESET: _FailoverState.CONTINUING,
        _FailoverSignal.CONTINUE: _FailoverState.CONTINUING,
        _FailoverSignal.GIVE_UP: _FailoverState.FAILED,
    },
    _FailoverState.FAILED: {
        _FailoverSignal.GIVE_UP: _FailoverState.FAILED,
    },
}
"""The next state. A signal that is not in a state's row leaves the state unchanged."""

_DELIVERED_CONTENT = frozenset(
    {_FailoverState.ANSWERING, _FailoverState.CONTINUING}
)  # states in which delivered content stands
_HAS_START = frozenset(
    {_FailoverState.STARTED, _FailoverState.ANSWERING}
)  # states in which events of the current target were delivered
_NOT_OF_THE_HOST = (ConfigurationError, UnsupportedError, ConversionLossError)


class FailoverSource(SourceWrapper):
    """Reads one target after the other until one completes the answer; see ``EventSource``.

    Args:
        plan: The targets in order, and when the next one is called.
        context: The call.
        open_source: Builds the event sources of targets.

    Raises:
        ConfigurationError: No target can be called; the first target's reason.
        UnsupportedError: No target can be called; the first target's reason.
    """

    def __init__(self, plan: Failover, context: PlanContext, open_source: OpenSource) -> None:
        self._plan = plan
        self._context = context
        self._open_source = open_source
        # a source that continues an answer cannot take back the part that another source delivered
        self._mode = "fail" if context.so_far is not None and plan.mode == "restart" else plan.mode
        self._state = _FailoverState.CONNECTING
        self._closed = False  # orthogonal to the state: ``close`` may come from another task while events are read
        self._untried = deque(_healthy_first(plan.targets, context.shared))
        self._failures = TargetFailures()
        self._earlier_attempts: list[Attempt] = []
        self._seams: list[Seam] = []
        self._started_at: float | None = None
        self._break_reason = ""  # error of the latest target of which events were delivered
        self._part_offset = 0  # number of parts that earlier targets delivered
        self._delivered = Accumulator(provider="", model="") if self._mode == "continue" else None
        self._held: list[StreamEvent] = []  # while CONTINUING: events of the current target before its first content
        # of the failed target whose content was delivered, until another target delivers its own
        self._failed_record: CallRecord | None = None
        opened = self._open_next(context)
        if opened is None:
            raise self._failures.first_error()
        self._target, source = opened
        super().__init__(source)

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self.account.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        current = self._source.account
        answering = self._failed_record or current
        reason = self._failures.summary()
        if reason is None and self._target is not self._plan.targets[0]:
            reason = "the targets before it failed recently"
        decision = Decision(kind="failover", choice=label(self._target), reason=reason)
        return replace(
            answering,
            tries=(*self._earlier_attempts, *current.tries),
            plan=(decision, *current.plan),
            seams=(*self._seams, *self._shifted(answering.seams)),
        )

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        if self._started_at is None:
            self._started_at = anyio.current_time()
        try:
            events = await self._source.receive()
        except DhenaraError as exc:
            await self._source.close()
            # the stream or its connections were closed meanwhile: the target did not fail
            if self._closed or self._state is _FailoverState.FAILED or isinstance(exc, StreamStateError):
                raise
            self._fail_over(with_total_limit(exc, self._context))
            return ()
        # an endpoint that has delivered content never takes it back, so its further events change nothing here
        unchanged = self._state is _FailoverState.ANSWERING and self._delivered is None
        if not events or (unchanged and isinstance(self._source, EndpointSource)):
            return events
        return self._deliver_all(events)

    async def close(self, *, lost: bool = False) -> None:
        """See ``EventSource``."""
        self._closed = True
        await super().close(lost=lost)

    def _advance(self, signal: _FailoverSignal | None) -> _FailoverState:
        """Change the state by ``signal`` (None = no change); return the state before."""
        before = self._state
        if signal is not None:
            self._state = _TRANSITIONS[before].get(signal, before)
        return before

    # ------------------------------------------------------------------------------------------------ the next target

    def _open_next(self, context: PlanContext) -> tuple[Target, EventSource] | None:
        """Open the next target that can be called; None if there is none."""
        while self._untried:
            target = self._untried.popleft()
            try:
                return target, self._open_source(target, context)
            except DhenaraError as exc:
                if not isinstance(exc, CannotContinueError) and not self._plan.counts(exc):
                    raise
                self._failures.add(target, exc)
        return None

    def _fail_over(self, exc: DhenaraError) -> None:
        """Switch to the next target after the current one failed with ``exc``.

        Raises:
            DhenaraError: No other target takes over.
        """
        self._failures.add(self._target, exc)
        self._cool_down(exc)
        if self._state in _HAS_START:
            self._break_reason = describe(exc)
        delivered_content = self._state in _DELIVERED_CONTENT
        if not self._plan.counts(exc) or (delivered_content and self._mode == "fail"):
            raise self._give_up(exc)
        try:
            context = with_remaining_time(self._context, self._started_at)
        except DeadlineError as late:
            raise self._give_up(late) from exc
        partial = self._delivered if delivered_content else None
        if partial is not None:
            context = self._continuing(context, partial, exc)
        opened = self._open_next_or_raise(context, exc)
        logger.warning("%s failed with %s; calling %s", label(self._target), type(exc).__name__, label(opened[0]))
        self._switch(opened, continues=partial is not None)

    def _continuing(self, context: PlanContext, partial: Accumulator, exc: DhenaraError) -> PlanContext:
        """Return ``context`` for a target that continues the delivered content."""
        obstacle = _obstacle_to_continuing(partial)
        if obstacle is not None:
            raise self._give_up(_with_obstacle(exc, obstacle))
        return replace(
            context,
            so_far=(context.so_far or "") + "".join(partial.texts()),
            continuation=self._plan.continuation or context.continuation,
        )

    def _open_next_or_raise(self, context: PlanContext, exc: DhenaraError) -> tuple[Target, EventSource]:
        """Open the next target; raise the first error, or ``exc`` where all that is left cannot continue."""
        failed = len(self._failures.errors)
        opened = self._open_next(context)
        if opened is not None:
            return opened
        refusals = [refusal for _name, refusal in self._failures.errors[failed:]]
        if refusals and all(isinstance(refusal, CannotContinueError) for refusal in refusals):
            raise self._give_up(_with_obstacle(exc, str(refusals[0])))
        raise self._give_up(self._failures.first_error())

    def _switch(self, opened: tuple[Target, EventSource], *, continues: bool) -> None:
        """Make ``opened`` the current target, and keep the record of the one that failed."""
        record = self._source.account
        self._earlier_attempts += record.tries
        if continues:
            self._seams += self._shifted(record.seams)
            record = replace(record, seams=())  # now part of ``self._seams``, whichever target continues
            self._held = []
        if self._failed_record is None and self._state in _DELIVERED_CONTENT:
            self._failed_record = record
        self._advance(_FailoverSignal.CONTINUE if continues else _FailoverSignal.RESTART)
        self._target, self._source = opened

    def _give_up(self, exc: DhenaraError) -> DhenaraError:
        """Return ``exc`` with the number of attempts, to be raised to the reader."""
        self._advance(_FailoverSignal.GIVE_UP)
        exc.attempts = max(1, len(self.account.tries))
        return exc

    def _cool_down(self, exc: DhenaraError) -> None:
        """Have later calls try the failed endpoints last for a while, unless the request was at fault."""
        if not self._plan.cooldown or not may_pass_elsewhere(exc) or isinstance(exc, _NOT_OF_THE_HOST):
            return
        retry_after = exc.retry_after if isinstance(exc, APIError) else None
        seconds = max(self._plan.cooldown, retry_after or 0.0)
        for attempt in self._source.account.tries:
            if attempt.error is not None and attempt.error != LOST_RACE:
                self._context.shared.cooldowns.cool(attempt.endpoint, seconds)

    # ------------------------------------------------------------------------------------------------ events

    def _deliver_all(self, events: Sequence[StreamEvent]) -> list[StreamEvent]:
        """Return the events that the reader gets for ``events``."""
        delivered = [each for event in events for each in self._deliver(event)]
        if self._delivered is not None:
            self._delivered.feed(delivered)
        return delivered

    def _deliver(self, event: StreamEvent) -> Sequence[StreamEvent]:
        signal = _signal_of(event)
        before = self._advance(signal)
        if before is _FailoverState.CONTINUING:
            return self._deliver_continuation(event, signal)
        self._failed_record = None
        if isinstance(event, StreamStart):
            start = with_model(event, self._source.account.origin)
            return (
                start if before is _FailoverState.CONNECTING else StreamReset(reason=self._break_reason, start=start),
            )
        if signal is _FailoverSignal.CONTENT and before is not _FailoverState.ANSWERING:
            self._context.shared.cooldowns.clear(self._source.account.origin)
        return (_renumbered(event, self._part_offset),)

    def _deliver_continuation(self, event: StreamEvent, signal: _FailoverSignal | None) -> Sequence[StreamEvent]:
        """Hold the events of a continuing target back until its first content, which the seam precedes."""
        if isinstance(event, Heartbeat):
            return (event,)
        if isinstance(event, StreamReset):
            self._held = [] if event.start is None else [event.start]
            return ()
        if signal is not _FailoverSignal.CONTENT:
            self._held.append(event)
            return ()
        self._context.shared.cooldowns.clear(self._source.account.origin)
        return (*self._seam(), _renumbered(event, self._part_offset))

    def _seam(self) -> list[StreamEvent]:
        """Build the events between the content of two targets: open parts end, the next target is named."""
        after = self._source.account.origin
        before = after if self._failed_record is None else self._failed_record.origin
        self._failed_record = None
        first = next((event for event in self._held if isinstance(event, StreamStart)), None)
        start = with_model(first or StreamStart(model=None, provider=after.provider), after)
        ends: list[StreamEvent] = []
        if self._delivered is not None:
            open_parts = self._delivered.close_open_parts()
            ends += [replace(end, part=end.part.changed(origin=before)) for end in open_parts]
            self._part_offset = self._delivered.part_count
        self._seams.append(Seam(part=self._part_offset, before=before, after=after, reason=self._break_reason))
        held = [_renumbered(event, self._part_offset) for event in self._held if event is not first]
        self._held = []
        return [*ends, StreamSeam(self._break_reason, start), *held]

    def _shifted(self, seams: Sequence[Seam]) -> tuple[Seam, ...]:
        return tuple(seam.changed(part=seam.part + self._part_offset) for seam in seams)


def _signal_of(event: StreamEvent) -> _FailoverSignal | None:
    """Classify ``event``; None where it cannot change the state."""
    match event:
        case TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta():
            return _FailoverSignal.CONTENT
        case PartStart() | PartEnd() | UsageUpdate() | Heartbeat() | StreamSeam() | StreamEnd():
            return _FailoverSignal.CONTENT if says((event,)) else None
        case StreamStart():
            return _FailoverSignal.START
        case StreamReset():
            return _FailoverSignal.RESET
        case StepStart() | ToolApprovalRequest() | ToolStart() | ToolProgress() | ToolEnd():
            return None  # of a tool loop, which is around plans
        case _:
            assert_never(event)


def _healthy_first(targets: Sequence[Target], shared: SharedResources) -> list[Target]:
    """Return ``targets`` in their order, but those that failed recently last."""
    cooldowns = shared.cooldowns
    if not cooldowns.any:
        return list(targets)

    def is_cooling(target: Target) -> bool:
        try:
            origins = [expected_origin(endpoint) for endpoint in endpoints(target)]
        except ConfigurationError:  # an endpoint without a known host; opening it raises the same error
            return False
        return bool(origins) and all(map(cooldowns.cooling, origins))

    return sorted(targets, key=is_cooling)


def _obstacle_to_continuing(partial: Accumulator) -> str | None:
    """Return why another target cannot continue ``partial``; None if it can."""
    choices = partial.partial().choices
    if [choice.index for choice in choices] != [0]:
        return "only a response with one choice can be continued, and this one has several"
    parts = choices[0].parts
    if len(parts) < partial.part_count:
        return "the open part is a file or a hosted-tool block, which cannot be continued"
    others = sorted({part.type for part in parts if not isinstance(part, TextPart | ReasoningPart)})
    if others:
        return f"only texts can be continued, and the answer has {', '.join(others)}"
    return None


def _with_obstacle(exc: DhenaraError, obstacle: str) -> DhenaraError:
    exc.args = (f"{exc}; it was not continued elsewhere: {obstacle}", *exc.args[1:])
    return exc


def _renumbered(event: StreamEvent, offset: int) -> StreamEvent:
    """Return ``event`` with its part id moved behind the ``offset`` parts of earlier targets."""
    if not offset:
        return event
    match event:
        case PartStart() | TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta() | PartEnd():
            return replace(event, part_id=event.part_id + offset)
        case StreamStart() | StreamReset() | StreamSeam() | StreamEnd() | UsageUpdate() | Heartbeat():
            return event
        case StepStart() | ToolApprovalRequest() | ToolStart() | ToolProgress() | ToolEnd():
            return event
        case _:
            assert_never(event)
