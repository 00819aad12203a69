"""``ObservedCall``: reports one call to the observers that were given for it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from random import getrandbits
from time import perf_counter
from types import TracebackType
from typing import TypeVar

from dhenara_async.calls.observer import Observer
from dhenara_async.calls.records import CallEnded, CallOutcome, CallStarted, FirstContent, TraceIds
from dhenara_async.config import AIModelCallConfig
from dhenara_async.messages.messages import Origin
from dhenara_async.response import ChatResponse, FinishReason
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
        plan: The kind of plan that is asked; None = one endpoint.
        stream: Whether the provider is asked to stream.
        clock: Returns seconds that never decrease.

    Attributes:
        observers: The observers.
        clock: Returns seconds that never decrease.
        id: Unique id of the call.
        wants_content: Whether any observer wants prompts and answers.
        adds_headers: Whether any observer adds headers to requests.
        surrounds: The observers with a context of their own for requests.
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
        plan: str | None = None,
        stream: bool = False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.observers: tuple[Observer, ...] = tuple(observers)
        self.clock: Callable[[], float] = clock
        self.id: str = f"{getrandbits(128):032x}"  # reseeded in a forked process
        self.wants_content: bool = any(observer.wants_content for observer in self.observers)
        self.adds_headers: bool = any(observer.adds_headers for observer in self.observers)
        self.surrounds: tuple[Observer, ...] = tuple(filter(_surrounds, self.observers))
        self._start = (config, messages, instructions, conversation, node, parent, plan, stream)
        self._endpoints = 0
        self._attempts = 0
        self._started_at: float | None = None
        self._ended = False
        self._trace: TraceIds | None = None

    def start(self, endpoint: Origin) -> None:
        """Report that the call starts."""
        self._started_at = self.clock()
        record = CallStarted(self.id, endpoint, *self._start)
        report([observer.call_started for observer in self.observers], record)

    def next_endpoint(self) -> int:
        """Count one more endpoint; return its number."""
        self._endpoints += 1
        return self._endpoints

    def next_attempt(self) -> int:
        """Count one more request; return its number."""
        self._attempts += 1
        return self._attempts

    def receive_content(self, endpoint: Origin) -> None:
        """Report that the first content has arrived."""
        record = FirstContent(self.id, endpoint, self._seconds())
        report([observer.first_content for observer in self.observers], record)

    def end(
        self,
        endpoint: Origin,
        *,
        outcome: CallOutcome,
        request_id: str | None,
        status: int | None,
        error: BaseException | None,
        usage: Usage | None,
        finish_reason: FinishReason | None,
        answer: ChatResponse | None,
    ) -> None:
        """Report that the call has ended.

        Args:
            endpoint: The endpoint that answered, or was asked last.
            outcome: How the call ended.
            request_id: The provider's id of the last request.
            status: HTTP status of the last request.
            error: Why the call failed, or what left its block.
            usage: Tokens of the answer.
            finish_reason: Why the model stopped; None if the answer is not complete.
            answer: The answer, complete or not; None if no observer wants content.
        """
        self._trace = self._find_trace()
        seconds, attempts = self._seconds(), self._attempts
        record = CallEnded(
            self.id, endpoint, request_id, status, attempts, error, usage, finish_reason, seconds, outcome
        )
        for observer in self.observers:
            report([observer.call_ended], replace(record, answer=answer) if observer.wants_content else record)

    def ends_now(self) -> bool:
        """Whether the call has started and its end has not been reported; True at most once."""
        if self._started_at is None or self._ended:
            return False
        self._ended = True
        return True

    @property
    def trace(self) -> TraceIds | None:
        """Where the call is found in a trace, by the first observer that knows; None = nowhere."""
        if self._started_at is None or self._ended:
            return self._trace
        return self._find_trace()

    def _find_trace(self) -> TraceIds | None:
        for observer in self.observers:
            try:
                found = observer.trace_ids(self.id)
            except Exception:  # as in ``report``
                logger.exception("an observer failed at trace_ids; the call continues")
                continue
            if found is not None:
                return found
        return None

    def _seconds(self) -> float:
        return 0.0 if self._started_at is None else self.clock() - self._started_at


def entered(
    stack: ExitStack, method: Callable[[Record], AbstractContextManager[object] | None], record: Record
) -> None:
    """Enter the context that an observer's method returns, if any; leaving it never breaks a call either."""
    try:
        context = method(record)
        if context is not None:
            stack.enter_context(_Guarded(context))
    except Exception:  # an observer never breaks a call, as in ``report``
        logger.exception("an observer failed at %s; the call continues", type(record).__name__)


def _surrounds(observer: Observer) -> bool:
    return type(observer).around_request is not Observer.around_request


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
        except Exception:  # an observer never breaks a call, as in ``report``
            logger.exception("an observer failed at the end of its context; the call continues")


def report(methods: Sequence[Callable[[Record], None]], record: Record) -> None:
    """Hand ``record`` to the methods of observers; what they raise is logged."""
    for method in methods:
        try:
            method(record)
        except Exception:  # an observer never breaks a call
            logger.exception("an observer failed at %s; the call continues", type(record).__name__)
