"""What goes into many calls at once and what comes out of them: plain values."""

from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.messages.messages import Message
from dhenara_async.plans.targets import Target
from dhenara_async.response import AIModelCallResponse


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One of many calls: who is asked what.

    Attributes:
        endpoint: Who is asked: an endpoint, or a plan over several.
        prompt: The question.
        context: What was said before it, oldest first; plain texts are the user's.
        messages: The whole conversation instead of ``prompt`` and ``context``.
        instructions: What leads this call.
        config: Its knobs; None = those of the whole.
        key: A name of the caller's own, to be found again on everything that comes of the call.
    """

    endpoint: Target
    prompt: str | Message | None = None
    _: KW_ONLY
    context: Sequence[str | Message] = ()
    messages: Sequence[Message] | None = None
    instructions: Sequence[str] = ()
    config: AIModelCallConfig | None = None
    key: Hashable = None


ModelCallLike = ModelCall | tuple[Target, str | Message] | tuple[Target, str | Message, AIModelCallConfig | None]
"""A call, or what it takes at least: ``(endpoint, prompt)`` or ``(endpoint, prompt, config)``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one of many calls ended: it has either a response or an error.

    Attributes:
        index: Its place among the requests, from 0.
        key: As its request had it.
        response: The complete answer; None if it is not complete.
        error: Why it is not: an error of this library, or whatever a hook or a limiter of the caller's raised. Of a
            call that was cancelled, a ``StreamStateError``.
        partial: The answer as far as it had come, where there is an error; None if the call was not even begun.
        cancelled: Whether somebody cancelled it: by name, with all others, or by leaving the block.
    """

    index: int
    key: Hashable
    response: AIModelCallResponse | None = None
    error: Exception | None = None
    partial: AIModelCallResponse | None = None
    cancelled: bool = False

    def unwrap(self) -> AIModelCallResponse:
        """The response.

        Raises:
            Exception: The call's error, if it has one.
        """
        if self.response is not None:
            return self.response
        raise self.error or StreamStateError("the call has neither a response nor an error")


@dataclass(slots=True)
class TaggedEvent:
    """An event, and which of the calls it belongs to.

    Attributes:
        index: The call's place among the requests, from 0.
        key: As its request had it.
        event: The event; those of one call follow the one grammar, in order.
    """

    index: int
    key: Hashable
    event: StreamEvent


@dataclass(slots=True)
class TaggedBatch:
    """What one network read of one call has brought, or how the call ended.

    Attributes:
        index: The call's place among the requests, from 0.
        key: As its request had it.
        events: In order; empty where there is an outcome.
        outcome: How the call ended, the last that is heard of it; None = it goes on.
    """

    index: int
    key: Hashable
    events: Sequence[StreamEvent]
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class FanOutProgress:
    """How far many calls have come.

    Attributes:
        total: How many there are; None while that is not known.
        waiting: How many have not been begun; None likewise.
        running: How many are under way.
        done: How many have a complete answer.
        failed: How many ended without one, cancelled ones included.
    """

    total: int | None
    waiting: int | None
    running: int
    done: int
    failed: int
