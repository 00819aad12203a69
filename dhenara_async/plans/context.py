"""Data and helpers that all plans share: the call's context, its remaining time, and the failures of its targets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import anyio

from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.source import EndpointSource, EventSource
from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import DeadlineError, DhenaraError
from dhenara_async.events import StreamStart
from dhenara_async.messages.messages import Message, Origin
from dhenara_async.plans.targets import RoutingContext, Target, label

LOST_RACE = "cancelled: another target was faster"
"""The ``error`` of an ``Attempt`` that lost a race."""

OpenEndpoint = Callable[[AIModelEndpoint, AIModelCallConfig, Sequence[Message]], EndpointSource]
"""Prepares the call to one endpoint, with messages appended to the request; sends nothing yet."""


@dataclass(frozen=True, slots=True)
class PlanContext:
    """One call to a plan.

    Attributes:
        open_endpoint: Prepares the call to one endpoint.
        config: Configuration of the call.
        context: Data that routers and experiments decide by.
        shared: Resources shared by the calls of one client or manager.
        so_far: Text of the answer to continue; None = a new answer. A continued answer cannot be restarted, because
            the source delivers only its rest.
        continuation: User message that asks for the rest from a model that does not accept ``so_far`` as a prefill.
    """

    open_endpoint: OpenEndpoint
    config: AIModelCallConfig
    context: RoutingContext
    shared: SharedResources
    so_far: str | None = None
    continuation: str | None = None


OpenSource = Callable[[Target, PlanContext], EventSource]
"""Builds the event source of a target; raises like ``plans.sources.source_of``."""


def with_remaining_time(context: PlanContext, started_at: float | None) -> PlanContext:
    """Return ``context`` with the total time limit reduced by the time since ``started_at`` (None = not started).

    Raises:
        DeadlineError: No time is left.
    """
    total = context.config.timeouts.total
    if total is None or started_at is None:
        return context
    remaining = total - (anyio.current_time() - started_at)
    if remaining <= 0:
        raise DeadlineError(limit="total", seconds=total)
    timeouts = context.config.timeouts.changed(total=remaining)
    return replace(context, config=context.config.changed(timeouts=timeouts))


def with_total_limit(exc: DhenaraError, context: PlanContext) -> DhenaraError:
    """Restore the caller's total time limit in ``exc``: a later target was given only the remaining time."""
    total = context.config.timeouts.total
    if isinstance(exc, DeadlineError) and exc.limit == "total" and exc.seconds != total:
        whole = DeadlineError(limit="total", seconds=total)
        whole.__cause__ = exc
        return whole
    return exc


def describe(exc: DhenaraError) -> str:
    """Format an error as class and message."""
    return f"{type(exc).__name__}: {exc}"


@dataclass(slots=True)
class TargetFailures:
    """The targets that failed, with their errors, in order.

    Attributes:
        errors: Label and error of each.
    """

    errors: list[tuple[str, DhenaraError]] = field(default_factory=list[tuple[str, DhenaraError]])

    def add(self, target: Target, exc: DhenaraError) -> None:
        """Record the failure of ``target``."""
        self.errors.append((label(target), exc))

    def summary(self) -> str | None:
        """Format all failures in one line; None if there are none."""
        return "; ".join(f"{name}: {describe(exc)}" for name, exc in self.errors) or None

    def first_error(self) -> DhenaraError:
        """Return the first error, with a note about each of the others."""
        (_name, first), *others = self.errors
        for name, exc in others:
            if exc is not first:
                first.add_note(f"{name} failed too: {describe(exc)}")
        return first


def with_model(start: StreamStart, origin: Origin) -> StreamStart:
    """Return ``start`` with a model: the requested one of ``origin`` where the provider reported none."""
    return start if start.model is not None else replace(start, model=origin.model)
