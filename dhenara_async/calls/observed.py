"""``ObservedCall`` and ``ObservedLoop``: report one call, or one tool loop, to the observers that were given for it."""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from types import TracebackType
from typing import TypeVar
from uuid import uuid4

from dhenara_async.calls.observer import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    FirstContent,
    LoopEnded,
    LoopOutcome,
    LoopStarted,
    Observer,
    ToolEnded,
    ToolOutcome,
    ToolStarted,
)
from dhenara_async.config import AIModelCallConfig
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import Origin, ToolCallPart, ToolResultPart
from dhenara_async.response import FinishReason
from dhenara_async.usage.tokens import Usage

logger: logging.Logger = logging.getLogger("dhenara_async")

Record = TypeVar("Record")


class ObservedCall:
    """Reports one call to its observers, in the order in which they were given.

    Args:
        observers: The observers, at least one.
        config: Options of the call.
        messages: Number of messages.
        instructions: Number of instructions.
        conversation: Id of the conversation; None outside of one.
        node: Id of the turn; None outside of a conversation.
        parent: Id of the tool loop that the call is a step of; None outside of one.
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
        parent: str | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._observers = tuple(observers)
        self._clock = clock
        self._config = config
        self._messages = messages
        self._instructions = instructions
        self._conversation = conversation
        self._node = node
        self._parent = parent
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
            self._parent,
        )
        _report([observer.call_started for observer in self._observers], record)

    def start_attempt(self, endpoint: Origin) -> "ObservedAttempt":
        """Report that a request is about to be sent."""
        self._attempts += 1
        record = AttemptStarted(self._id, endpoint, self._attempts)
        _report([observer.attempt_started for observer in self._observers], record)
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
        _report([observer.attempt_ended for observer in self._observers], record)

    def receive_content(self, endpoint: Origin) -> None:
        """Report that the first content has arrived."""
        record = FirstContent(self._id, endpoint, self._seconds())
        _report([observer.first_content for observer in self._observers], record)

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
        _report([observer.call_ended for observer in self._observers], record)

    def ends_now(self) -> bool:
        """Whether the call has started and its end has not been reported; True at most once."""
        if self._started_at is None or self._ended:
            return False
        self._ended = True
        return True

    def _seconds(self) -> float:
        return 0.0 if self._started_at is None else self._clock() - self._started_at


@dataclass(frozen=True, slots=True, repr=False)
class ObservedAttempt(ShortRepr):
    """A request whose end has not been reported.

    Attributes:
        record: The record of its start.
        started_at: Time of its start, in seconds of the clock.
    """

    record: AttemptStarted
    started_at: float


class ObservedLoop:
    """Reports one tool loop to its observers, in the order in which they were given.

    The loop calls ``start`` before its first model call, passes ``loop_id`` to its model calls as
    ``CallInput.parent``, uses ``tool`` for every tool call, and calls ``end`` once on every way out.

    Args:
        observers: The observers; with none, every method does nothing.
        loop_id: Id of the loop.
        clock: Returns seconds that never decrease.
    """

    def __init__(
        self, observers: Sequence[Observer], loop_id: str, *, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._observers = tuple(observers)
        self._clock = clock
        self._started_at: float | None = None
        self._ended = False
        self._tool_calls = 0
        self.loop_id: str = loop_id

    def start(
        self,
        endpoint: Origin,
        *,
        tools: Sequence[str],
        max_steps: int | None,
        conversation: str | None = None,
        node: str | None = None,
    ) -> None:
        """Report that the loop starts; see ``LoopStarted``."""
        self._started_at = self._clock()
        if self._observers:
            record = LoopStarted(self.loop_id, endpoint, tuple(tools), max_steps, conversation, node)
            _report([observer.loop_started for observer in self._observers], record)

    def tool(self, call: ToolCallPart) -> "ObservedTool":
        """Report that a tool call is about to be run."""
        self._tool_calls += 1
        return ObservedTool(self._observers, self.loop_id, self._tool_calls, call, self._clock)

    def end(self, endpoint: Origin, *, steps: int, outcome: LoopOutcome, error: BaseException | None = None) -> None:
        """Report that the loop has ended, unless it did not start or its end was reported."""
        if self._started_at is None or self._ended:
            return
        self._ended = True
        if self._observers:
            seconds = self._clock() - self._started_at
            record = LoopEnded(self.loop_id, endpoint, steps, self._tool_calls, outcome, error, seconds)
            _report([observer.loop_ended for observer in self._observers], record)


class ObservedTool:
    """Reports one tool call of a loop; made by ``ObservedLoop.tool``.

    Run the tool inside ``with tool.running():``, then call ``end`` once, also after a cancellation.

    Args:
        observers: The observers.
        loop_id: Id of the loop.
        number: Number of the tool call within the loop.
        call: The model's call.
        clock: Returns seconds that never decrease.
    """

    __slots__ = ("_clock", "_ended", "_observers", "_records", "_started_at")

    def __init__(
        self,
        observers: Sequence[Observer],
        loop_id: str,
        number: int,
        call: ToolCallPart,
        clock: Callable[[], float],
    ) -> None:
        self._observers = observers
        self._clock = clock
        self._started_at = clock()
        self._ended = False
        record = ToolStarted(loop_id, number, call.call_id, call.name, None)
        self._records: list[ToolStarted] = [
            replace(record, arguments=call.arguments) if observer.wants_content else record for observer in observers
        ]
        for observer, started in zip(observers, self._records, strict=True):
            _report([observer.tool_started], started)

    @contextmanager
    def running(self) -> Generator[None]:
        """Run the tool in the contexts of the observers."""
        with ExitStack() as stack:
            for observer, record in zip(self._observers, self._records, strict=True):
                _enter(stack, observer.around_tool, record)
            yield

    def end(
        self, *, outcome: ToolOutcome, error: BaseException | None = None, result: ToolResultPart | None = None
    ) -> None:
        """Report that the tool call has its result, unless that was reported."""
        if self._ended:
            return
        self._ended = True
        seconds = self._clock() - self._started_at
        for observer, started in zip(self._observers, self._records, strict=True):
            ended = ToolEnded(
                started.loop_id,
                started.number,
                started.tool_call_id,
                started.name,
                outcome,
                error,
                result if observer.wants_content else None,
                seconds,
            )
            _report([observer.tool_ended], ended)


def _enter(stack: ExitStack, method: Callable[[Record], AbstractContextManager[object] | None], record: Record) -> None:
    """Enter the context that an observer's method returns, if any."""
    try:
        context = method(record)
        if context is not None:
            stack.enter_context(_Guarded(context))
    except Exception:  # as in ``_report``
        logger.exception("an observer failed at %s; the call continues", type(record).__name__)


class _Guarded(AbstractContextManager[None]):
    """A context of an observer whose end never breaks a call and never hides an exception."""

    def __init__(self, context: AbstractContextManager[object]) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._context.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._context.__exit__(kind, exc, trace)
        except Exception:  # as in ``_report``
            logger.exception("an observer failed at the end of its context; the call continues")


def _report(methods: Sequence[Callable[[Record], None]], record: Record) -> None:
    for method in methods:
        try:
            method(record)
        except Exception:  # an observer never breaks a call
            logger.exception("an observer failed at %s; the call continues", type(record).__name__)
