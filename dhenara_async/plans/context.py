"""What a plan is asked, and what all plans say of time that is over and of who failed."""

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

LOST = "cancelled: another target was faster"
"""What an ``Attempt`` says that lost a race."""

Ask = Callable[[AIModelEndpoint, AIModelCallConfig, Sequence[Message]], EndpointSource]
"""Makes the call to one endpoint, with further messages behind the question; nothing is sent yet."""


@dataclass(frozen=True, slots=True)
class PlanContext:
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
    context: RoutingContext
    shared: SharedResources
    so_far: str | None = None
    continuation: str | None = None


Open = Callable[[Target, PlanContext], EventSource]
"""Makes the answer of a target; see ``plans.feed_of`` for what it raises."""


def in_time(question: PlanContext, began: float | None) -> PlanContext:
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
    timeouts = question.config.timeouts.changed(total=left)
    return replace(question, config=question.config.changed(timeouts=timeouts))


def of_the_whole(exc: DhenaraError, question: PlanContext) -> DhenaraError:
    """A limit of the whole call in the caller's words: who was asked later knew only what was left of it."""
    total = question.config.timeouts.total
    if isinstance(exc, DeadlineError) and exc.limit == "total" and exc.seconds != total:
        whole = DeadlineError(limit="total", seconds=total)
        whole.__cause__ = exc
        return whole
    return exc


def described(exc: DhenaraError) -> str:
    return f"{type(exc).__name__}: {exc}"


@dataclass(slots=True)
class Failures:
    """Who failed, and how, in order."""

    all: list[tuple[str, DhenaraError]] = field(default_factory=list[tuple[str, DhenaraError]])

    def add(self, target: Target, exc: DhenaraError) -> None:
        self.all.append((label(target), exc))

    def words(self) -> str | None:
        return "; ".join(f"{who}: {described(exc)}" for who, exc in self.all) or None

    def first(self) -> DhenaraError:
        """The first one, which knows of the others."""
        (_who, first), *others = self.all
        for who, exc in others:
            if exc is not first:
                first.add_note(f"{who} was asked too: {described(exc)}")
        return first


def named(start: StreamStart, origin: Origin) -> StreamStart:
    """``start``, which names the model in any case: what was asked of another target is none of this one's."""
    return start if start.model is not None else replace(start, model=origin.model)
