"""``ObservedLoop``: reports one tool loop to the observers that were given for it."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter

from dhenara_async.calls.observed import entered, report
from dhenara_async.calls.observer import Observer
from dhenara_async.calls.records import LoopEnded, LoopOutcome, LoopStarted, ToolEnded, ToolOutcome, ToolStarted
from dhenara_async.messages.messages import Origin, ToolCallPart, ToolResultPart


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
            report([observer.loop_started for observer in self._observers], record)

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
            report([observer.loop_ended for observer in self._observers], record)


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
        self._records: list[ToolStarted] = [
            ToolStarted(loop_id, number, call.call_id, call.name, call.arguments if observer.wants_content else None)
            for observer in observers
        ]
        for observer, started in zip(observers, self._records, strict=True):
            report([observer.tool_started], started)

    @contextmanager
    def running(self) -> Generator[None]:
        """Run the tool in the contexts of the observers."""
        with ExitStack() as stack:
            for observer, record in zip(self._observers, self._records, strict=True):
                entered(stack, observer.around_tool, record)
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
            report([observer.tool_ended], ended)
