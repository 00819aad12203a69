"""The answer of the first target that gives one: begun anew elsewhere, or gone on with, where it broke off."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.source import CallRecord, EndpointSource, EventSource, says
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
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.messages import Origin, ReasoningPart, TextPart
from dhenara_async.plans.context import LOST, Failures, Open, PlanContext, described, in_time, named, of_the_whole
from dhenara_async.plans.continuation import CannotGoOnError
from dhenara_async.plans.targets import Failover, Target, endpoints, label, may_pass_elsewhere
from dhenara_async.response import Attempt, Decision, Seam

logger: logging.Logger = logging.getLogger("dhenara_async")

_NOT_OF_THE_HOST = (ConfigurationError, UnsupportedError, ConversionLossError)


@dataclass(slots=True)
class _Break:
    """Where an answer broke off that somebody is to go on with.

    Attributes:
        said: What came until then.
        held: Of who goes on, what says nothing yet.
    """

    said: Accumulator
    held: list[StreamEvent] = field(default_factory=list[StreamEvent])


class FailoverSource:
    """The answer of the first target that gives one; see ``EventSource``.

    Args:
        plan: Who is asked, and when the next one is.
        question: What.
        open: Makes the answers of targets.

    Raises:
        ConfigurationError: None of them can be called as asked, and the first for this reason.
        UnsupportedError: Likewise.
    """

    def __init__(self, plan: Failover, question: PlanContext, open: Open) -> None:
        self._plan = plan
        self._question = question
        self._open = open
        # what another began cannot be taken back by who goes on with it
        self._mode = "fail" if question.so_far is not None and plan.mode == "restart" else plan.mode
        self._waiting = deque(_healthy_first(plan.targets, question.shared))
        self._failures = Failures()
        self._tries: list[Attempt] = []  # of those before
        self._seams: list[Seam] = []  # likewise
        self._closed = False
        self._began: float | None = None
        self._greeted = False  # StreamStart has been handed over
        self._spoken = False  # something of the answer has been handed over, and stands
        self._shown = False  # something of the present target has been handed over
        self._reason = ""  # why the last one broke off of whom something had been
        self._offset = 0  # how many parts others have made
        self._said = Accumulator(provider="", model="") if self._mode == "continue" else None
        self._break: _Break | None = None  # while somebody is to go on, and has said nothing yet
        self._standing: CallRecord | None = None  # of who broke off, as long as what it said is what the reader has
        opened = self._next(question)
        if opened is None:
            raise self._failures.first()
        self._target, self._feed = opened

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._feed.over

    @property
    def repeatable(self) -> bool:
        """See ``EventSource``."""
        return self._feed.repeatable

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self.account.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        account = self._feed.account
        standing = account if self._standing is None else self._standing
        reason = self._failures.words()
        if reason is None and self._target is not self._plan.targets[0]:
            reason = "those before it had failed a moment ago"
        decision = Decision(kind="failover", choice=label(self._target), reason=reason)
        return replace(
            standing,
            tries=(*self._tries, *account.tries),
            plan=(decision, *account.plan),
            seams=(*self._seams, *self._shifted(standing.seams)),
        )

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        if self._began is None:
            self._began = anyio.current_time()
        try:
            events = await self._feed.receive()
        except DhenaraError as exc:
            await self._feed.close()
            # closed from another task, or with its connections: what it met then is no reason to ask anybody
            if self._closed or isinstance(exc, StreamStateError):
                raise
            self._go_on_after(of_the_whole(exc, self._question))
            return ()
        plainly = self._shown and self._spoken and self._said is None and isinstance(self._feed, EndpointSource)
        if plainly or not events:
            return events  # nothing to note down, and nothing that an endpoint says from here on takes anything back
        return self._told(events)

    async def close(self) -> None:
        """See ``EventSource``."""
        self._closed = True
        await self._feed.close()

    # ------------------------------------------------------------------------------------------------ who is next

    def _next(self, question: PlanContext) -> tuple[Target, EventSource] | None:
        """The next target that can be called as asked."""
        while self._waiting:
            target = self._waiting.popleft()
            try:
                return target, self._open(target, question)
            except DhenaraError as exc:
                if not isinstance(exc, CannotGoOnError) and not self._plan.counts(exc):
                    raise
                self._failures.add(target, exc)
        return None

    def _go_on_after(self, exc: DhenaraError) -> None:
        """Have the next one answer, or raise what is to be raised."""
        self._failures.add(self._target, exc)
        self._cool(exc)
        if self._shown:
            self._reason = described(exc)
        if not self._plan.counts(exc) or (self._spoken and self._mode == "fail"):
            raise self._final(exc)
        try:
            question = in_time(self._question, self._began)
        except DeadlineError as late:
            raise self._final(late) from exc
        said = self._said if self._spoken else None
        if said is not None:
            if (why := _why_not(said)) is not None:
                raise self._final(_adding(exc, why))
            question = replace(
                question,
                so_far=(question.so_far or "") + "".join(said.texts()),
                continuation=self._plan.continuation or question.continuation,
            )
        failed, account = len(self._failures.all), self._feed.account
        opened = self._next(question)
        if opened is None:
            refusals = [refusal for _who, refusal in self._failures.all[failed:]]
            if refusals and all(isinstance(refusal, CannotGoOnError) for refusal in refusals):
                raise self._final(_adding(exc, str(refusals[0])))
            raise self._final(self._failures.first())
        logger.warning("%s failed with %s; asking %s", label(self._target), type(exc).__name__, label(opened[0]))
        self._tries += account.tries
        if said is not None:
            self._seams += self._shifted(account.seams)
            account = replace(account, seams=())  # they stand, whoever goes on
            self._break = _Break(said)
        if self._spoken and self._standing is None:
            self._standing = account
        self._shown = False
        self._target, self._feed = opened

    def _final(self, exc: DhenaraError) -> DhenaraError:
        exc.attempts = max(1, len(self.account.tries))
        return exc

    def _cool(self, exc: DhenaraError) -> None:
        """Whoever failed, and not for what was asked, is asked last for a while."""
        if not self._plan.cooldown or not may_pass_elsewhere(exc) or isinstance(exc, _NOT_OF_THE_HOST):
            return
        told = exc.retry_after if isinstance(exc, APIError) else None
        for attempt in self._feed.account.tries:
            if attempt.error is not None and attempt.error != LOST:
                self._question.shared.cooldowns.cool(attempt.endpoint, max(self._plan.cooldown, told or 0.0))

    # ------------------------------------------------------------------------------------------------ what is told

    def _told(self, events: Sequence[StreamEvent]) -> list[StreamEvent]:
        """``events`` as the reader gets them."""
        told: list[StreamEvent] = []
        for event in events:
            told += self._each(event)
        if self._said is not None:
            self._said.feed(told)
        return told

    def _each(self, event: StreamEvent) -> Sequence[StreamEvent]:
        if self._break is not None:
            return self._after_a_break(event, self._break)
        self._shown, self._standing = True, None
        match event:
            case StreamStart():
                start = named(event, self._feed.account.origin)
                if not self._greeted:
                    self._greeted = True
                    return (start,)
                self._spoken = False
                return (StreamReset(reason=self._reason, start=start),)
            case StreamReset():
                self._spoken = False
            case _ if not self._spoken and says((event,)):
                self._spoken = True
                self._question.shared.cooldowns.clear(self._feed.account.origin)
            case _:
                pass
        return (_moved(event, self._offset),)

    def _after_a_break(self, event: StreamEvent, gap: "_Break") -> Sequence[StreamEvent]:
        """What comes of who is to go on: nobody hears of it before it says something."""
        match event:
            case StreamReset():
                gap.held[:] = [] if event.start is None else [event.start]
                return ()
            case Heartbeat():
                return (event,)
            case _ if not says((event,)):
                gap.held.append(event)
                return ()
            case _:
                self._break, self._shown = None, True
                self._question.shared.cooldowns.clear(self._feed.account.origin)
                return (*self._seam(gap), _moved(event, self._offset))

    def _seam(self, gap: "_Break") -> list[StreamEvent]:
        """The end of what came before, and who goes on."""
        after = self._feed.account.origin
        before = after if self._standing is None else self._standing.origin
        self._standing = None
        begun = next((event for event in gap.held if isinstance(event, StreamStart)), None)
        start = named(begun or StreamStart(model=None, provider=after.provider), after)
        ends = [replace(end, part=end.part.changed(origin=before)) for end in gap.said.close_open_parts()]
        self._offset = gap.said.part_count
        self._seams.append(Seam(part=self._offset, before=before, after=after, reason=self._reason))
        held = [_moved(event, self._offset) for event in gap.held if event is not begun]
        return [*ends, StreamSeam(self._reason, start), *held]

    def _shifted(self, seams: Sequence[Seam]) -> tuple[Seam, ...]:
        return tuple(seam.changed(part=seam.part + self._offset) for seam in seams)


def _healthy_first(targets: Sequence[Target], shared: SharedResources) -> list[Target]:
    """``targets`` in their order, those at the end that have failed a moment ago."""
    cooldowns = shared.cooldowns
    if not cooldowns.any:
        return list(targets)

    def cools(target: Target) -> bool:
        known = list(endpoints(target))
        return bool(known) and all(cooldowns.cooling(expected_origin(endpoint)) for endpoint in known)

    def cooling(target: Target) -> bool:
        try:
            return cools(target)
        except ConfigurationError:  # nobody knows its host: it will say so itself
            return False

    return sorted(targets, key=cooling)


def _why_not(said: Accumulator) -> str | None:
    """Why an answer cannot be gone on with by somebody else; None if it can."""
    choices = said.partial().choices
    if [choice.index for choice in choices] != [0]:
        return "only a single answer can be gone on with elsewhere, and several were on their way"
    parts = choices[0].parts
    if len(parts) < said.part_count:
        return "what was on its way when it broke off comes whole or not at all, so nobody can go on with it"
    others = sorted({part.type for part in parts if not isinstance(part, TextPart | ReasoningPart)})
    if others:
        return f"only texts can be gone on with elsewhere, and the answer has {', '.join(others)}"
    return None


def _adding(exc: DhenaraError, words: str) -> DhenaraError:
    exc.args = (f"{exc}; it was not continued elsewhere: {words}", *exc.args[1:])
    return exc


def _moved(event: StreamEvent, offset: int) -> StreamEvent:
    """``event`` where ``offset`` parts stand before those of its stream."""
    if not offset:
        return event
    match event:
        case PartStart() | TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta() | PartEnd():
            return replace(event, part_id=event.part_id + offset)
        case _:
            return event
