"""Requests, outcomes, events and progress of a fan-out, as plain values."""

from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import MessageLike, Prompt
from dhenara_async.plans.targets import Target
from dhenara_async.response import AIModelCallResponse


@dataclass(frozen=True, slots=True, repr=False)
class ModelCall(ShortRepr):
    """One request of a fan-out.

    Attributes:
        endpoint: Target of the call: an endpoint, its short name, or a plan over several.
        prompt: The user's question.
        context: Earlier messages, oldest first; plain texts are user messages.
        messages: The whole conversation, instead of ``prompt`` and ``context``.
        instructions: System instructions of this call.
        config: Configuration of this call; None = the fan-out's.
        key: The caller's own name for the call, repeated on its events and its outcome.
    """

    endpoint: Target | str
    prompt: Prompt | None = None
    _: KW_ONLY
    context: Sequence[str | MessageLike] = ()
    messages: Sequence[MessageLike] | None = None
    instructions: Sequence[str] = ()
    config: AIModelCallConfig | None = None
    key: Hashable = None


ModelCallLike = ModelCall | tuple[Target | str, Prompt] | tuple[Target | str, Prompt, AIModelCallConfig | None]
"""A request: a ``ModelCall``, ``(endpoint, prompt)`` or ``(endpoint, prompt, config)``."""


@dataclass(frozen=True, slots=True, repr=False)
class Outcome(ShortRepr):
    """The result of one call of a fan-out: either a response or an error.

    Attributes:
        index: Position of the request, from 0.
        key: The request's key.
        response: The complete response; None if the call failed or was cancelled.
        error: Why there is no response: an error of this library, or an exception raised by the caller's own hook or
            limiter; a ``StreamStateError`` for a cancelled call.
        partial: The response received before the error; None if there is a response or the call was not started.
        cancelled: Whether the call was cancelled: by ``cancel``, or because the block was left.
    """

    index: int
    key: Hashable
    response: AIModelCallResponse | None = None
    error: Exception | None = None
    partial: AIModelCallResponse | None = None
    cancelled: bool = False

    def unwrap(self) -> AIModelCallResponse:
        """Return the response.

        Raises:
            Exception: The call's error, if there is no response.
        """
        if self.response is not None:
            return self.response
        raise self.error or StreamStateError("the call has neither a response nor an error")


@dataclass(slots=True, repr=False)
class TaggedEvent(ShortRepr):
    """An event with the call that it belongs to.

    Attributes:
        index: Position of the call's request, from 0.
        key: The request's key.
        event: The event; the events of one call are in order and follow the grammar of ``dhenara_async.events``.
    """

    index: int
    key: Hashable
    event: StreamEvent


@dataclass(slots=True, repr=False)
class TaggedBatch(ShortRepr):
    """The events of one network read of one call, or the call's outcome.

    Attributes:
        index: Position of the call's request, from 0.
        key: The request's key.
        events: The events, in order; empty where there is an outcome.
        outcome: The outcome, in the call's last batch; None = the call is running.
    """

    index: int
    key: Hashable
    events: Sequence[StreamEvent]
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, repr=False)
class FanOutProgress(ShortRepr):
    """The numbers of waiting, running and ended calls of a fan-out.

    Attributes:
        total: Number of calls; None while it is not known.
        waiting: Number of calls that were not started; None while it is not known.
        running: Number of running calls.
        done: Number of calls with a complete response.
        failed: Number of calls that ended without one, cancelled calls included.
    """

    total: int | None
    waiting: int | None
    running: int
    done: int
    failed: int
