"""``Observer``: methods that a client calls when a call or an attempt starts and ends, for metrics, traces and logs.

Methods are synchronous and are called at most a few times per call, never per token. Without observers a call pays one
comparison for each of them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar
from uuid import uuid4

from dhenara_async.config import AIModelCallConfig
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import Origin
from dhenara_async.response import FinishReason
from dhenara_async.usage.tokens import Usage

logger: logging.Logger = logging.getLogger("dhenara_async")

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, repr=False)
class CallStarted(ShortRepr):
    """A call that starts.

    Attributes:
        call_id: Unique id, the same in all records of the call.
        endpoint: The endpoint that is asked first.
        config: Options of the call.
        messages: Number of messages in front of the model, those of earlier turns not included.
        instructions: Number of instructions.
        conversation: Id of the conversation; None outside of one.
        node: Id of the turn; None outside of a conversation.
    """

    call_id: str
    endpoint: Origin
    config: AIModelCallConfig
    messages: int
    instructions: int
    conversation: str | None
    node: str | None


@dataclass(frozen=True, slots=True, repr=False)
class AttemptStarted(ShortRepr):
    """A request that is about to be sent.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that is asked.
        number: Number of the request within the call, from 1; all members of a plan count together.
    """

    call_id: str
    endpoint: Origin
    number: int


@dataclass(frozen=True, slots=True, repr=False)
class AttemptEnded(ShortRepr):
    """A request whose response ended.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that was asked.
        number: Number of the request within the call.
        request_id: The provider's id of the request; None if it sent none.
        status: HTTP status; None if no response head arrived.
        error: Why it failed; None if the answer is complete. ``StreamStateError`` if it was cancelled, as in a race.
        usage: The last token report; None if none arrived.
        seconds: Time since the attempt started, waiting for permission to send included.
    """

    call_id: str
    endpoint: Origin
    number: int
    request_id: str | None
    status: int | None
    error: BaseException | None
    usage: Usage | None
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class FirstContent(ShortRepr):
    """The first content of an answer: text, reasoning, a tool call or another part.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that answers.
        seconds: Time since the call started.
    """

    call_id: str
    endpoint: Origin
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class CallEnded(ShortRepr):
    """A call that ended.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that answered, or was asked last.
        request_id: The provider's id of the last request; None if it sent none.
        status: HTTP status of the last request; None if no response head arrived.
        attempts: Number of requests.
        error: Why the call failed; None if its answer is complete. If its block was left before the end: the exception
            that left it (``asyncio.CancelledError`` if it was cancelled), else a ``StreamStateError``.
        usage: Tokens of the answer; None if the provider reported none.
        finish_reason: Why the model stopped; None if the answer is not complete.
        seconds: Time since the call started.
    """

    call_id: str
    endpoint: Origin
    request_id: str | None
    status: int | None
    attempts: int
    error: BaseException | None
    usage: Usage | None
    finish_reason: FinishReason | None
    seconds: float


class Observer:
    """Receives a record when a call or an attempt starts and ends. Subclass it, and override the methods you need.

    Pass observers to ``AIModelClient(observers=[…])`` or ``ConversationManager(observers=[…])``. A call that
    starts also ends, exactly once. A call that cannot be prepared (``ConfigurationError``) does not start.

    Methods run in the call's thread and event loop, so they have to be quick. An exception that a method raises is
    logged under ``dhenara_async`` and has no other effect. Records hold no prompts and no answers.
    """

    def call_started(self, record: CallStarted) -> None:
        """A call starts."""

    def attempt_started(self, record: AttemptStarted) -> None:
        """A request is about to be sent."""

    def attempt_ended(self, record: AttemptEnded) -> None:
        """A request has ended, with an answer or an error."""

    def first_content(self, record: FirstContent) -> None:
        """The first content of the answer has arrived."""

    def call_ended(self, record: CallEnded) -> None:
        """The call has ended, with an answer or an error."""


class ObservedCall:
    """Reports one call to its observers, in the order in which they were given.

    Args:
        observers: The observers, at least one.
        config: Options of the call.
        messages: Number of messages.
        instructions: Number of instructions.
        conversation: Id of the conversation; None outside of one.
        node: Id of the turn; None outside of a conversation.
        clock: Returns seconds that never decrease.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        config: AIModelCallConfig,
        *,
        messages: int,
        instructions: int,
        conversation: str | None,
        node: str | None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._observers = tuple(observers)
        self._clock = clock
        self._config = config
        self._messages = messages
        self._instructions = instructions
        self._conversation = conversation
        self._node = node
        self._id = uuid4().hex
        self._attempts = 0
        self._started_at: float | None = None
        self._ended = False

    def start(self, endpoint: Origin) -> None:
        """Report that the call starts."""
        self._started_at = self._clock()
        record = CallStarted(
            self._id,
            endpoint,
            self._config,
            self._messages,
            self._instructions,
            self._conversation,
            self._node,
        )
        self._report([observer.call_started for observer in self._observers], record)

    def start_attempt(self, endpoint: Origin) -> "ObservedAttempt":
        """Report that a request is about to be sent."""
        self._attempts += 1
        record = AttemptStarted(self._id, endpoint, self._attempts)
        self._report([observer.attempt_started for observer in self._observers], record)
        return ObservedAttempt(record, self._clock())

    def end_attempt(
        self,
        attempt: "ObservedAttempt",
        *,
        request_id: str | None,
        status: int | None,
        error: BaseException | None,
        usage: Usage | None,
    ) -> None:
        """Report that a request has ended."""
        started, seconds = attempt.record, self._clock() - attempt.started_at
        record = AttemptEnded(self._id, started.endpoint, started.number, request_id, status, error, usage, seconds)
        self._report([observer.attempt_ended for observer in self._observers], record)

    def receive_content(self, endpoint: Origin) -> None:
        """Report that the first content has arrived."""
        record = FirstContent(self._id, endpoint, self._seconds())
        self._report([observer.first_content for observer in self._observers], record)

    def end(
        self,
        endpoint: Origin,
        *,
        request_id: str | None,
        status: int | None,
        error: BaseException | None,
        usage: Usage | None,
        finish_reason: FinishReason | None,
    ) -> None:
        """Report that the call has ended."""
        record = CallEnded(
            self._id, endpoint, request_id, status, self._attempts, error, usage, finish_reason, self._seconds()
        )
        self._report([observer.call_ended for observer in self._observers], record)

    def ends_now(self) -> bool:
        """Whether the call has started and its end has not been reported; True at most once."""
        if self._started_at is None or self._ended:
            return False
        self._ended = True
        return True

    def _seconds(self) -> float:
        return 0.0 if self._started_at is None else self._clock() - self._started_at

    def _report(self, methods: Sequence[Callable[[Record], None]], record: Record) -> None:
        for method in methods:
            try:
                method(record)
            except Exception:  # an observer never breaks a call
                logger.exception("an observer failed at %s; the call continues", type(record).__name__)


@dataclass(frozen=True, slots=True, repr=False)
class ObservedAttempt(ShortRepr):
    """A request whose end has not been reported.

    Attributes:
        record: The record of its start.
        started_at: Time of its start, in seconds of the clock.
    """

    record: AttemptStarted
    started_at: float
