"""The answer of the target that says something first; the others are hung up on."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from dhenara_async.calls.source import CLOSE_SECONDS, CallRecord, EventSource, priced, says
from dhenara_async.errors import DeadlineError, DhenaraError, StreamStateError
from dhenara_async.events import StreamEvent, StreamStart
from dhenara_async.messages.messages import Origin
from dhenara_async.plans.context import LOST, Failures, Open, PlanContext, in_time, named, of_the_whole
from dhenara_async.plans.targets import Race, Target, label, percentile
from dhenara_async.response import Attempt, Decision

LEARNED_FROM = 10
"""How many answers a percentile takes."""
UNLEARNED_SECONDS = 1.0
"""When the next one of a race starts, as long as there is no percentile."""


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
    feed: EventSource
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
            else priced(attempt.changed(error=LOST), account.usage, account.pricing)
            for attempt in account.tries
        )


class RaceSource:
    """The answer of the target that says something first; see ``EventSource``.

    The race is run within one ``receive``: when that returns, the others' sockets are closed; only the winner is left.

    Args:
        plan: Who runs, and when each starts.
        question: What they are asked.
        open: Makes the answers of targets.

    Raises:
        ConfigurationError: None of them can be called as asked, and the first for this reason.
        UnsupportedError: Likewise.
    """

    def __init__(self, plan: Race, question: PlanContext, open: Open) -> None:
        self._plan = plan
        self._question = question
        self._open = open
        self._waiting = deque(plan.targets)
        self._runners: list[_Runner] = []
        self._failures = Failures()
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
        """See ``EventSource``."""
        return self._winner is not None and self._winner.feed.over

    @property
    def repeatable(self) -> bool:
        """See ``EventSource``."""
        return self._winner is not None and self._winner.feed.repeatable

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return (self._winner or self._first).feed.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
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
        """See ``EventSource``."""
        if self._winner is not None:
            return await self._winner.feed.receive()
        winner = await self._run()
        events, winner.events = winner.events, []
        origin = winner.feed.account.origin
        return [named(event, origin) if isinstance(event, StreamStart) else event for event in events]

    async def close(self) -> None:
        """See ``EventSource``."""
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
                    runner = self._next(in_time(self._question, began))
                except DeadlineError:
                    break  # those who run will notice too
        if self._crash is not None:
            raise self._crash
        if self._winner is None:
            for runner in self._runners:
                if runner.failure is not None:
                    self._failures.add(runner.target, of_the_whole(runner.failure, self._question))
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
        except StreamStateError as exc:  # the connections were closed: nobody else would come further
            runner.failure = self._crash = exc
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

    def _next(self, question: PlanContext) -> _Runner | None:
        """The next one that can be called as asked."""
        while self._waiting:
            target = self._waiting.popleft()
            try:
                feed = self._open(target, question)
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
        known = self._question.shared.latencies.of(self._first.origin)
        return percentile(known, share) if len(known) >= LEARNED_FROM else UNLEARNED_SECONDS

    def _learn(self, winner: _Runner) -> None:
        """How long the winner took; the first one too, of which it is known only that it would have taken longer."""
        now = anyio.current_time()
        for runner in {id(runner): runner for runner in (winner, self._first)}.values():
            if runner.began is not None and runner.failure is None:
                self._question.shared.latencies.learn(runner.origin, now - runner.began)
