"""A fan-out of turns: one question of a conversation to several targets at once, each answered by its own node."""

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Protocol, Self

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import StreamStateError
from dhenara_async.fanout.engine import Fan, Opener
from dhenara_async.fanout.values import FanOutProgress, Outcome, TaggedBatch, TaggedEvent
from dhenara_async.plans.targets import Target


class Siblings(Opener[Target], Protocol):
    """Opens sibling turns, which follow the same node, and makes sure that each adds a node."""

    async def prepare(self) -> None:
        """Read the files of the question, before any turn is opened.

        Raises:
            ConfigurationError: A file cannot be read or used.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> tuple[ConversationNode, ...]:
        """Return one node for each outcome; a turn that was never opened gets a failed node."""
        ...


class TurnFanOut:
    """The turns of one question to several targets; made by ``ConversationManager.fan_out``.

    Iterate it inside ``async with``, or await it for its nodes. Leaving the block cancels running turns, closes every
    socket and adds a node for every target, also for failed and cancelled ones.
    """

    def __init__(self, fan: Fan[Target], siblings: Siblings) -> None:
        self._fan = fan
        self._siblings = siblings
        self._nodes: tuple[ConversationNode, ...] | None = None

    async def __aenter__(self) -> Self:
        await self._siblings.prepare()
        await self._fan.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._fan.leave(exc)
        finally:
            self._nodes = await self._siblings.settle(self._fan.results)

    def __await__(self) -> Generator[object, None, tuple[ConversationNode, ...]]:
        return self._run().__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaggedEvent:
        return await self._fan.event()

    async def batch(self) -> TaggedBatch | None:
        """Receive the events of one network read of one turn, or its outcome; None when all turns have ended.

        This is cheaper than iterating over single events.

        Raises:
            StreamStateError: The block was not entered, or was left early.
        """
        return await self._fan.batch()

    async def collect(self) -> list[Outcome]:
        """Wait until all turns have ended, without delivering their events; return the outcomes.

        Raises:
            StreamStateError: The block was not entered, or was left early.
        """
        await self._fan.collect()
        return self._fan.results

    @property
    def nodes(self) -> tuple[ConversationNode, ...]:
        """The nodes of the turns, in the order of the targets.

        Raises:
            StreamStateError: The block was not left yet.
        """
        if self._nodes is None:
            raise StreamStateError("the turns have not ended; their nodes are available after the block")
        return self._nodes

    @property
    def results(self) -> list[Outcome]:
        """The outcomes of the turns, in the order of the targets.

        Raises:
            StreamStateError: Some turns have not ended, and the block was not left yet.
        """
        return self._fan.results

    def outcome(self, index: int) -> Outcome | None:
        """Return the outcome of turn ``index``; None if it has not ended or does not exist."""
        return self._fan.outcome(index)

    @property
    def progress(self) -> FanOutProgress:
        """The numbers of waiting, running and ended turns."""
        return self._fan.progress

    def cancel(self, index: int | None = None) -> None:
        """Cancel one turn, or all; the block stays open, and partial answers stay in their nodes."""
        self._fan.cancel(index)

    async def _run(self) -> tuple[ConversationNode, ...]:
        self._fan.deliver_nothing()
        async with self:
            await self.collect()
        return self.nodes
