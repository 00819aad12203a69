"""Plans over endpoints at work: each is a feed, made of the feeds of its members, so that plans nest.

A reader of a plan's stream sees one answer in the one grammar. Whatever became of other members is data: the account
has every request, what each plan decided, and the seams.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import anyio

from dhenara_async.accumulator import Accumulator
from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import (
    APIError,
    ConfigurationError,
    ConversionLossError,
    DeadlineError,
    DhenaraError,
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
    UsageUpdate,
)
from dhenara_async.feed import CLOSE_SECONDS, Account, EndpointFeed, Feed, priced, says
from dhenara_async.hosts import driver_for, target_of
from dhenara_async.means import Means
from dhenara_async.messages import Message, Origin, ReasoningPart, Role, TextPart
from dhenara_async.response import Attempt, Decision, Seam
from dhenara_async.targets import (
    Experiment,
    Failover,
    Occasion,
    Race,
    Router,
    Target,
    decided,
    endpoints,
    label,
    may_pass_elsewhere,
    percentile,
)

logger: logging.Logger = logging.getLogger("dhenara_async")

LOST = "cancelled: another target was faster"
"""What an ``Attempt`` says that lost a race."""
LEARNED_FROM = 10
"""How many answers a percentile takes."""
UNLEARNED_SECONDS = 1.0
"""When the next one of a race starts, as long as there is no percentile."""

_NOT_OF_THE_HOST = (ConfigurationError, UnsupportedError, ConversionLossError)

Ask = Callable[[AIModelEndpoint, AIModelCallConfig, Sequence[Message]], EndpointFeed]
"""Makes the call to one endpoint, with further messages behind the question; nothing is sent yet."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan is asked.

    Attributes:
        ask: Makes the call to one endpoint.
        config: The call's knobs.
        occasion: What routers and experiments decide by.
        means: What calls of the same client or manager share.
        so_far: The text of the answer that is to be gone on with; None = it is to begin. Nothing may then be taken
            back, because what is made of it is only the rest.
        continuation: What a model is told that cannot be handed that text as the beginning of its own answer.
    """

    ask: Ask
    config: AIModelCallConfig
    occasion: Occasion
    means: Means
    so_far: str | None = None
    continuation: str | None = None


def feed_of(target: Target, question: Question) -> Feed:
    """The answer of ``target``.

    Raises:
        ConfigurationError: Nobody of it can be called as asked.
        UnsupportedError: Nobody can be told a part of what is asked.
    """
    match target:
        case AIModelEndpoint():
            return question.ask(target, question.config, _handed(target, question))
        case Failover():
            return FailoverFeed(target, question)
        case Race():
            return RaceFeed(target, question)
        case Router() | Experiment():
            chosen, decision = decided(target, question.occasion)
            return ChosenFeed(feed_of(chosen, question), decision)


class _CannotGoOnError(UnsupportedError):
    """A target cannot go on with the answer of another."""


def _handed(endpoint: AIModelEndpoint, question: Question) -> list[Message]:
    """What stands behind the question where an answer is to be gone on with."""
    if not question.so_far or not question.so_far.strip():
        return []
    said = Message(role=Role.ASSISTANT, parts=(TextPart(text=question.so_far),))
    if driver_for(endpoint).rules(endpoint).prefill:
        return [said]
    if question.continuation is None:
        model = endpoint.ai_model.model_name
        raise _CannotGoOnError(f"{model} cannot be handed the beginning of its answer; give Failover a continuation")
    return [said, Message.user(question.continuation)]


def _in_time(question: Question, began: float | None) -> Question:
    """``question`` with what is left of the whole call's time; ``began`` = not yet where None.

    Raises:
        DeadlineError: Nothing is left.
    """
    total = question.config.timeouts.total
    if total is None or began is None:
        return question
    left = total - (anyio.current_time() - began)
    if left <= 0:
        raise DeadlineError(limit="total", seconds=total)
    timeouts = question.config.timeouts.model_copy(update={"total": left})
    return replace(question, config=question.config.model_copy(update={"timeouts": timeouts}))


def _of_the_whole(exc: DhenaraError, question: Question) -> DhenaraError:
    """A limit of the whole call in the caller's words: who was asked later knew only what was left of it."""
    total = question.config.timeouts.total
    if isinstance(exc, DeadlineError) and exc.limit == "total" and exc.seconds != total:
        whole = DeadlineError(limit="total", seconds=total)
        whole.__cause__ = exc
        return whole
    return exc


def _described(exc: DhenaraError) -> str:
    return f"{type(exc).__name__}: {exc}"


@dataclass(slots=True)
class _Failures:
    """Who failed, and how, in order."""

    all: list[tuple[str, DhenaraError]] = field(default_factory=list[tuple[str, DhenaraError]])

    def add(self, target: Target, exc: DhenaraError) -> None:
        self.all.append((label(target), exc))

    def words(self) -> str | None:
        return "; ".join(f"{who}: {_described(exc)}" for who, exc in self.all) or None

    def first(self) -> DhenaraError:
        """The first one, which knows of the others."""
        (_who, first), *others = self.all
        for who, exc in others:
            if exc is not first:
                first.add_note(f"{who} was asked too: {_described(exc)}")
        return first


@dataclass(slots=True)
class _Break:
    """Where an answer broke off that somebody is to go on with.

    Attributes:
        account: Of who broke off.
        said: What came until then.
        held: Of who goes on, what says nothing yet.
    """

    account: Account
    said: Accumulator
    held: list[StreamEvent] = field(default_factory=list[StreamEvent])


class ChosenFeed:
    """The answer of whom a router or an experiment chose; see ``Feed``."""

    def __init__(self, feed: Feed, decision: Decision) -> None:
        self._feed = feed
        self._decision = decision

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``Feed``."""
        return await self._feed.receive()

    async def close(self) -> None:
        """See ``Feed``."""
        await self._feed.close()

    @property
    def over(self) -> bool:
        """See ``Feed``."""
        return self._feed.over

    @property
    def account(self) -> Account:
        """See ``Feed``."""
        account = self._feed.account
        return replace(account, plan=(self._decision, *account.plan))


class FailoverFeed:
    """The answer of the first target that gives one; see ``Feed``.

    Raises:
        ConfigurationError: None of them can be called as asked, and the first for this reason.
        UnsupportedError: Likewise.
    """

    def __init__(self, plan: Failover, question: Question) -> None:
        self._plan = plan
        self._question = question
        # what another began cannot be taken back by who goes on with it
        self._mode = "fail" if question.so_far is not None and plan.mode == "restart" else plan.mode
        self._waiting = deque(_healthy_first(plan.targets, question.means))
        self._failures = _Failures()
        self._tries: list[Attempt] = []  # of those before
        self._seams: list[Seam] = []  # likewise
        self._began: float | None = None
        self._greeted = False  # StreamStart has been handed over
        self._spoken = False  # something of the answer has been handed over, and stands
        self._shown = False  # something of the present target has been handed over
        self._reason = ""  # why the last one broke off of whom something had been
        self._offset = 0  # how many parts others have made
        self._said = Accumulator(provider="", model="") if self._mode == "continue" else None
        self._break: _Break | None = None  # while somebody is to go on, and has said nothing yet
        opened = self._next(question)
        if opened is None:
            raise self._failures.first()
        self._target, self._feed = opened

    @property
    def over(self) -> bool:
        """See ``Feed``."""
        return self._feed.over

    @property
    def account(self) -> Account:
        """See ``Feed``."""
        account = self._feed.account
        reason = self._failures.words()
        if reason is None and self._target is not self._plan.targets[0]:
            reason = "those before it had failed a moment ago"
        decision = Decision(kind="failover", choice=label(self._target), reason=reason)
        standing = account if self._break is None else self._break.account
        return replace(
            account,
            origin=standing.origin,
            usage=account.usage if account.usage is not None else standing.usage,
            tries=(*self._tries, *account.tries),
            plan=(decision, *account.plan),
            seams=(*self._seams, *self._shifted(account.seams)),
        )

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``Feed``."""
        if self._began is None:
            self._began = anyio.current_time()
        try:
            events = await self._feed.receive()
        except DhenaraError as exc:
            await self._feed.close()
            self._go_on_after(_of_the_whole(exc, self._question))
            return ()
        plainly = self._shown and self._spoken and self._said is None and isinstance(self._feed, EndpointFeed)
        if plainly or not events:
            return events  # nothing to note down, and nothing that an endpoint says from here on takes anything back
        return self._told(events)

    async def close(self) -> None:
        """See ``Feed``."""
        await self._feed.close()

    # ------------------------------------------------------------------------------------------------ who is next

    def _next(self, question: Question) -> tuple[Target, Feed] | None:
        """The next target that can be called as asked."""
        while self._waiting:
            target = self._waiting.popleft()
            try:
                return target, feed_of(target, question)
            except DhenaraError as exc:
                if not isinstance(exc, _CannotGoOnError) and not self._plan.counts(exc):
                    raise
                self._failures.add(target, exc)
        return None

    def _go_on_after(self, exc: DhenaraError) -> None:
        """Have the next one answer, or raise what is to be raised."""
        self._failures.add(self._target, exc)
        self._cool(exc)
        if self._shown:
            self._reason = _described(exc)
        if not self._plan.counts(exc) or (self._spoken and self._mode == "fail"):
            raise self._final(exc)
        try:
            question = _in_time(self._question, self._began)
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
            if refusals and all(isinstance(refusal, _CannotGoOnError) for refusal in refusals):
                raise self._final(_adding(exc, str(refusals[0])))
            raise self._final(self._failures.first())
        logger.warning("%s failed with %s; asking %s", label(self._target), type(exc).__name__, label(opened[0]))
        self._tries += account.tries
        if said is not None:
            self._seams += self._shifted(account.seams)
            self._break = _Break(account if self._break is None else self._break.account, said)
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
                self._question.means.cooldowns.cool(attempt.endpoint, max(self._plan.cooldown, told or 0.0))

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
        self._shown = True
        match event:
            case StreamStart():
                start = _named(event, self._feed.account.origin)
                if not self._greeted:
                    self._greeted = True
                    return (start,)
                self._spoken = False
                return (StreamReset(reason=self._reason, start=start),)
            case StreamReset():
                self._spoken = False
            case Heartbeat() | UsageUpdate():
                pass
            case _:
                if not self._spoken:
                    self._spoken = True
                    self._question.means.cooldowns.clear(self._feed.account.origin)
        return (_moved(event, self._offset),)

    def _after_a_break(self, event: StreamEvent, gap: "_Break") -> Sequence[StreamEvent]:
        """What comes of who is to go on: nobody hears of it before it says something."""
        match event:
            case StreamStart() | UsageUpdate():
                gap.held.append(event)
                return ()
            case StreamReset():
                gap.held[:] = [] if event.start is None else [event.start]
                return ()
            case Heartbeat():
                return (event,)
            case _:
                self._break, self._shown = None, True
                self._question.means.cooldowns.clear(self._feed.account.origin)
                return (*self._seam(gap), _moved(event, self._offset))

    def _seam(self, gap: "_Break") -> list[StreamEvent]:
        """The end of what came before, and who goes on."""
        before, after = gap.account.origin, self._feed.account.origin
        begun = next((event for event in gap.held if isinstance(event, StreamStart)), None)
        start = _named(begun or StreamStart(model=None, provider=after.provider), after)
        ends = [replace(end, part=end.part.model_copy(update={"origin": before})) for end in gap.said.broken_off()]
        self._offset = gap.said.started
        self._seams.append(Seam(part=self._offset, before=before, after=after, reason=self._reason))
        return [*ends, StreamSeam(self._reason, start), *(event for event in gap.held if event is not begun)]

    def _shifted(self, seams: Sequence[Seam]) -> tuple[Seam, ...]:
        return tuple(seam.model_copy(update={"part": seam.part + self._offset}) for seam in seams)


def _healthy_first(targets: Sequence[Target], means: Means) -> list[Target]:
    """``targets`` in their order, those at the end that have failed a moment ago."""
    cooldowns = means.cooldowns
    if not cooldowns.any:
        return list(targets)

    def cools(target: Target) -> bool:
        known = list(endpoints(target))
        return bool(known) and all(cooldowns.cooling(target_of(endpoint)) for endpoint in known)

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
    if len(parts) < said.started:
        return "what was on its way when it broke off comes whole or not at all, so nobody can go on with it"
    others = sorted({part.type for part in parts if not isinstance(part, TextPart | ReasoningPart)})
    if others:
        return f"only texts can be gone on with elsewhere, and the answer has {', '.join(others)}"
    return None


def _adding(exc: DhenaraError, words: str) -> DhenaraError:
    exc.args = (f"{exc}; it was not continued elsewhere: {words}", *exc.args[1:])
    return exc


def _named(start: StreamStart, origin: Origin) -> StreamStart:
    """``start``, which names the model in any case: what was asked of another target is none of this one's."""
    return start if start.model is not None else replace(start, model=origin.model)


def _moved(event: StreamEvent, offset: int) -> StreamEvent:
    """``event`` where ``offset`` parts stand before those of its stream."""
    if not offset:
        return event
    match event:
        case PartStart() | TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta() | PartEnd():
            return replace(event, part_id=event.part_id + offset)
        case _:
            return event


# ---------------------------------------------------------------------------------------------------------- races


@dataclass(slots=True, eq=False)
class _Runner:
    """One of a race.

    Attributes:
        target: Who.
        feed: Its answer.
        origin: Who was asked first for that.
        events: What came while the race was open.
        began: When it started; None = not yet.
        failure: Why it is out.
    """

    target: Target
    feed: Feed
    origin: Origin
    events: list[StreamEvent] = field(default_factory=list[StreamEvent])
    began: float | None = None
    failure: DhenaraError | None = None

    def tries(self) -> tuple[Attempt, ...]:
        """Its requests, as those of one who did not win."""
        if self.began is None:
            return ()
        account = self.feed.account
        return tuple(
            attempt
            if attempt.error is not None
            else priced(attempt.model_copy(update={"error": LOST}), account.usage, account.pricing)
            for attempt in account.tries
        )


class RaceFeed:
    """The answer of the target that says something first; see ``Feed``.

    The race is run within one ``receive``: when that returns, the others' sockets are closed; only the winner is left.

    Raises:
        ConfigurationError: None of them can be called as asked, and the first for this reason.
        UnsupportedError: Likewise.
    """

    def __init__(self, plan: Race, question: Question) -> None:
        self._plan = plan
        self._question = question
        self._waiting = deque(plan.targets)
        self._runners: list[_Runner] = []
        self._failures = _Failures()
        self._winner: _Runner | None = None
        self._running = 0
        self._nobody = anyio.Event()  # nobody who has started is still running
        self._crash: Exception | None = None
        first = self._next(question)
        if first is None:
            raise self._failures.first()
        self._first = first

    @property
    def over(self) -> bool:
        """See ``Feed``."""
        return self._winner is not None and self._winner.feed.over

    @property
    def account(self) -> Account:
        """See ``Feed``."""
        winner = self._winner
        if winner is None:
            account = self._first.feed.account
            tries = [attempt for runner in self._runners for attempt in runner.tries()]
            return replace(account, tries=tuple(tries) or account.tries)
        account = winner.feed.account
        others = [attempt for runner in self._runners if runner is not winner for attempt in runner.tries()]
        ran = sum(runner.began is not None for runner in self._runners)
        decision = Decision(kind="race", choice=label(winner.target), reason=f"the first of {ran} to say something")
        return replace(account, tries=(*others, *account.tries), plan=(decision, *account.plan))

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``Feed``."""
        if self._winner is not None:
            return await self._winner.feed.receive()
        winner = await self._run()
        events, winner.events = winner.events, []
        origin = winner.feed.account.origin
        return [_named(event, origin) if isinstance(event, StreamStart) else event for event in events]

    async def close(self) -> None:
        """See ``Feed``."""
        for runner in self._runners:
            await runner.feed.close()

    async def _run(self) -> _Runner:
        """Run the race to its end."""
        began, wait = anyio.current_time(), self._hedge()
        async with anyio.create_task_group() as tasks:
            runner: _Runner | None = self._first
            while runner is not None:
                self._running += 1
                runner.began = anyio.current_time()
                self._nobody = anyio.Event()
                tasks.start_soon(self._let_run, runner, tasks.cancel_scope)
                if self._waiting and wait:
                    with anyio.move_on_after(wait):
                        await self._nobody.wait()
                try:
                    runner = self._next(_in_time(self._question, began))
                except DeadlineError:
                    break  # those who run will notice too
        if self._crash is not None:
            raise self._crash
        if self._winner is None:
            for runner in self._runners:
                if runner.failure is not None:
                    self._failures.add(runner.target, _of_the_whole(runner.failure, self._question))
            error = self._failures.first()
            error.attempts = max(1, len(self.account.tries))
            raise error
        self._learn(self._winner)
        return self._winner

    async def _let_run(self, runner: _Runner, race: anyio.CancelScope) -> None:
        feed = runner.feed
        try:
            while True:
                events = await feed.receive()
                runner.events += events
                if says(events) or feed.over:
                    break
            if self._winner is None:
                self._winner = runner
                race.cancel()
        except DhenaraError as exc:
            runner.failure = exc
        except Exception as exc:  # noqa: BLE001 - a fault, or a user's function that failed: told as itself, outside
            self._crash = exc
            race.cancel()
        finally:
            if self._winner is not runner:
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await feed.close()
            self._running -= 1
            if not self._running:
                self._nobody.set()

    def _next(self, question: Question) -> _Runner | None:
        """The next one that can be called as asked."""
        while self._waiting:
            target = self._waiting.popleft()
            try:
                feed = feed_of(target, question)
            except DhenaraError as exc:
                self._failures.add(target, exc)
                continue
            runner = _Runner(target, feed, feed.account.origin)
            self._runners.append(runner)
            return runner
        return None

    def _hedge(self) -> float:
        """Seconds between one start and the next."""
        share, after = self._plan.percentile, self._plan.hedge_after
        if share is None:
            return 0.0 if after is None else float(after)
        known = self._question.means.latencies.of(self._first.origin)
        return percentile(known, share) if len(known) >= LEARNED_FROM else UNLEARNED_SECONDS

    def _learn(self, winner: _Runner) -> None:
        """How long the winner took; the first one too, of which it is known only that it would have taken longer."""
        now = anyio.current_time()
        for runner in {id(runner): runner for runner in (winner, self._first)}.values():
            if runner.began is not None and runner.failure is None:
                self._question.means.latencies.learn(runner.origin, now - runner.began)
