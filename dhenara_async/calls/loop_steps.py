"""The parts of a tool loop: its steps, the calls that a resumed one begins with, its events before they are read."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dhenara_async.events import StreamEvent
from dhenara_async.messages.messages import Origin, ToolCallPart, ToolResultPart
from dhenara_async.response import AIModelCallResponse, CallWarning
from dhenara_async.tools.loop import AskNext
from dhenara_async.tools.policy import Approval


class LoopStep(Protocol):
    """One model call of a loop: a stream, or a turn."""

    async def __aenter__(self) -> object: ...
    async def batch(self) -> list[StreamEvent]: ...
    @property
    def response(self) -> AIModelCallResponse: ...
    @property
    def partial(self) -> AIModelCallResponse: ...


class LoopSteps(Protocol):
    """Makes the model calls of a loop, and keeps what it leaves."""

    def make(self, asked: AskNext | None, seconds: float | None) -> LoopStep:
        """Make the next model call; nothing is sent yet.

        Args:
            asked: The question; None = the question that the loop begins with.
            seconds: The time that the loop has left; None = unlimited.
        """
        ...

    @property
    def node_id(self) -> str | None:
        """The id of the node of the call that was made last; None outside of a conversation."""
        ...

    @property
    def expected(self) -> Origin | None:
        """The endpoint that is asked first; None if only a router's function knows."""
        ...

    async def leave(self, step: LoopStep, reason: BaseException | None, warnings: Sequence[CallWarning]) -> None:
        """End a model call whose block was entered; ``reason`` is the exception that ends it early, if any."""
        ...

    async def results(self) -> Mapping[int, ToolResultPart]:
        """Return the results of the last answer's calls that were stored before, by place."""
        ...

    async def keep(self, place: int, result: ToolResultPart) -> None:
        """Store the result of one of the last answer's calls."""
        ...


@dataclass(frozen=True, slots=True)
class StoredCalls:
    """The calls that a resumed loop begins with.

    Attributes:
        calls: All calls of the answer.
        decisions: Decisions of a person by ``decision_key``; the policy decides about all other calls.
        over: Whether the loop went on before, so that nothing is left to run.
    """

    calls: tuple[ToolCallPart, ...]
    decisions: Mapping[str, Approval]
    over: bool = False


@dataclass(slots=True)
class EventBuffer:
    """Events that were not read yet, and the readers that wait for some.

    Attributes:
        events: The events, oldest first.
        waiters: The waits of the readers.
    """

    events: list[StreamEvent] = field(default_factory=list[StreamEvent])
    waiters: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])

    def add(self, event: StreamEvent) -> None:
        """Add an event and wake the readers."""
        self.events.append(event)
        self.wake()

    async def wait(self) -> None:
        """Wait until ``wake``; a cancelled wait loses nothing."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        finally:  # a reader may give up and come back many times while a tool runs
            if waiter in self.waiters:
                self.waiters.remove(waiter)

    def wake(self) -> None:
        """Wake the readers."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def take(self) -> list[StreamEvent]:
        """Remove and return the events."""
        taken, self.events = self.events, []
        return taken
