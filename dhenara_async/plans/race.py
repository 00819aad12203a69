"""The event source of a ``Race``: calls several targets, keeps the first to send content and closes the others."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from dhenara_async.calls.attempts import priced
from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.source import CLOSE_SECONDS, EventSource, says
from dhenara_async.errors import DeadlineError, DhenaraError, StreamStateError
from dhenara_async.events import StreamEvent, StreamStart
from dhenara_async.messages.messages import Origin
from dhenara_async.plans.context import (
    LOST_RACE,
    OpenSource,
    PlanContext,
    TargetFailures,
    with_model,
    with_remaining_time,
    with_total_limit,
)
from dhenara_async.plans.targets import Race, Target, label, percentile
from dhenara_async.response import Attempt, Decision

MIN_LATENCY_SAMPLES = 10
"""Number of measured latencies that a percentile needs."""
DEFAULT_HEDGE_SECONDS = 1.0
"""Delay before the next target starts while there are too few latencies for a percentile."""


@dataclass(slots=True, eq=False)
class _Runner:
    """One target of a running race.

    Attributes:
        target: The endpoint or plan.
        source: Its event source.
        origin: Its first endpoint, under which its latency is recorded.
        events: Events received while the race was undecided.
        started_at: Time of its start; None = not started.
        failure: Error with which it failed; None = it has not failed.
    """

    target: Target
    source: EventSource
    origin: Origin
    events: list[StreamEvent] = field(default_factory=list[StreamEvent])
    started_at: float | None = None
    failure: DhenaraError | None = None

    def lost_attempts(self) -> tuple[Attempt, ...]:
        """Return its requests with their usage, marked as lost where they did not fail."""
        if self.started_at is None:
            return ()
        record = self.source.account
        return tuple(
            attempt
            if attempt.error is not None
            else priced(attempt.changed(error=LOST_RACE), record.usage, record.pricing)
            for attempt in record.tries
        )


class RaceSource:
    """Delivers the events of the first target that sends content; see ``EventSource``.

    The race takes place within one ``receive``: when it returns, the sockets of the other targets are closed.

    Args:
        plan: The targets, and the delay between their starts.
        context: The call.
        open_source: Builds the event sources of targets.

    Raises:
        ConfigurationError: No target can be called; the first target's reason.
        UnsupportedError: No target can be called; the first target's reason.
    """

    def __init__(self, plan: Race, context: PlanContext, open_source: OpenSource) -> None:
        self._plan = plan
        self._context = context
        self._open_source = open_source
        self._untried = deque(plan.targets)
        self._runners: list[_Runner] = []
        self._failures = TargetFailures()
        self._winner: _Runner | None = None
        self._running = 0
        self._all_stopped = anyio.Event()  # no started target is still running
        self._crash: Exception | None = None  # an error that ends the race, to be raised outside of the task group
        first = self._open_next(context)
        if first is None:
            raise self._failures.first_error()
        self._first = first

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._winner is not None and self._winner.source.over

    @property
    def repeatable(self) -> bool:
        """See ``EventSource``."""
        return self._winner is not None and self._winner.source.repeatable

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return (self._winner or self._first).source.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        winner = self._winner
        if winner is None:
            record = self._first.source.account
            attempts = [attempt for runner in self._runners for attempt in runner.lost_attempts()]
            return replace(record, tries=tuple(attempts) or record.tries)
        record = winner.source.account
        lost = [attempt for runner in self._runners if runner is not winner for attempt in runner.lost_attempts()]
        started = sum(runner.started_at is not None for runner in self._runners)
        reason = f"the first of {started} to send content"
        decision = Decision(kind="race", choice=label(winner.target), reason=reason)
        return replace(record, tries=(*lost, *record.tries), plan=(decision, *record.plan))

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        if self._winner is not None:
            return await self._winner.source.receive()
        winner = await self._run()
        events, winner.events = winner.events, []
        origin = winner.source.account.origin
        return [with_model(event, origin) if isinstance(event, StreamStart) else event for event in events]

    async def close(self, *, lost: bool = False) -> None:
        """See ``EventSource``."""
        for runner in self._runners:
            await runner.source.close(lost=lost)

    async def _run(self) -> _Runner:
        """Run the race until a target wins.

        Raises:
            DhenaraError: All targets failed; the first target's error.
        """
        race_started, delay = anyio.current_time(), self._hedge_delay()
        async with anyio.create_task_group() as tasks:
            runner: _Runner | None = self._first
            while runner is not None:
                self._running += 1
                runner.started_at = anyio.current_time()
                self._all_stopped = anyio.Event()
                tasks.start_soon(self._run_one, runner, tasks.cancel_scope)
                if self._untried and delay:
                    with anyio.move_on_after(delay):
                        await self._all_stopped.wait()
                try:
                    runner = self._open_next(with_remaining_time(self._context, race_started))
                except DeadlineError:
                    break  # the running targets have the same deadline
        if self._crash is not None:
            raise self._crash
        if self._winner is None:
            raise self._all_failed()
        self._record_latencies(self._winner)
        return self._winner

    def _all_failed(self) -> DhenaraError:
        """Return the first target's error, with notes about the others."""
        for runner in self._runners:
            if runner.failure is not None:
                self._failures.add(runner.target, with_total_limit(runner.failure, self._context))
        error = self._failures.first_error()
        error.attempts = max(1, len(self.account.tries))
        return error

    async def _run_one(self, runner: _Runner, race: anyio.CancelScope) -> None:
        """Read one target until its first content; the first runner to get there cancels the race."""
        source = runner.source
        try:
            while True:
                events = await source.receive()
                runner.events += events
                if says(events) or source.over:
                    break
            if self._winner is None:
                self._winner = runner
                race.cancel()
        except StreamStateError as exc:  # the connections were closed, for every target
            runner.failure = self._crash = exc
            race.cancel()
        except DhenaraError as exc:
            runner.failure = exc
        except Exception as exc:  # noqa: BLE001 - a bug, or an error of a user's function: raised as it is, in no group
            self._crash = exc
            race.cancel()
        finally:
            if self._winner is not runner:
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await source.close(lost=self._winner is not None)
            self._running -= 1
            if not self._running:
                self._all_stopped.set()

    def _open_next(self, context: PlanContext) -> _Runner | None:
        """Open the next target that can be called; None if there is none."""
        while self._untried:
            target = self._untried.popleft()
            try:
                source = self._open_source(target, context)
            except DhenaraError as exc:
                self._failures.add(target, exc)
                continue
            runner = _Runner(target, source, source.account.origin)
            self._runners.append(runner)
            return runner
        return None

    def _hedge_delay(self) -> float:
        """Return the seconds between the starts of two targets."""
        share, after = self._plan.percentile, self._plan.hedge_after
        if share is None:
            return 0.0 if after is None else float(after)
        latencies = self._context.shared.latencies.of(self._first.origin)
        return percentile(latencies, share) if len(latencies) >= MIN_LATENCY_SAMPLES else DEFAULT_HEDGE_SECONDS

    def _record_latencies(self, winner: _Runner) -> None:
        """Record the winner's latency, and the time so far of the first target, which is a lower bound."""
        now = anyio.current_time()
        for runner in {id(runner): runner for runner in (winner, self._first)}.values():
            if runner.started_at is not None and runner.failure is None:
                self._context.shared.latencies.learn(runner.origin, now - runner.started_at)
