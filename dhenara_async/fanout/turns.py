"""One question of a conversation to several at once: turns beside each other, each of which leaves a node."""

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Protocol, Self

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import StreamStateError
from dhenara_async.fanout.engine import Fan, Opener
from dhenara_async.fanout.values import FanOutProgress, Outcome, TaggedBatch, TaggedEvent
from dhenara_async.plans.targets import Target


class Siblings(Opener[Target], Protocol):
    """Makes turns that follow the same node, and sees to it that each leaves one."""

    async def prepare(self) -> None:
        """Read what all of them are asked with, before any of them is opened.

        Raises:
            ConfigurationError: A file cannot be read or used.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> tuple[ConversationNode, ...]:
        """The nodes, one for each outcome, those made up for that did not come about as turns."""
        ...


class TurnFanOut:
    """The same question answered by several at once; made by ``ConversationManager.fan_out``.

    Iterate it inside ``async with``, or await it for its nodes. Leaving the block cancels what is left, closes every
    socket and leaves a node for every target, whatever became of it.
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
        """What one network read of one turn has brought, or how a turn ended; None when all have. Cheaper than events.

        Raises:
            StreamStateError: The block has not been entered, or was left before the end.
        """
        return await self._fan.batch()

    async def collect(self) -> list[Outcome]:
        """Wait for the end of all turns without handing over what they say; how each ended.

        Raises:
            StreamStateError: The block has not been entered, or was left before the end.
        """
        await self._fan.collect()
        return self._fan.results

    @property
    def nodes(self) -> tuple[ConversationNode, ...]:
        """The turns, in the order of their targets, whenever they ended.

        Raises:
            StreamStateError: The block has not ended yet.
        """
        if self._nodes is None:
            raise StreamStateError("the turns are not over; their nodes are there when the block has ended")
        return self._nodes

    @property
    def results(self) -> list[Outcome]:
        """How each turn ended, in the order of their targets, once all have or the block has been left.

        Raises:
            StreamStateError: They have not all ended.
        """
        return self._fan.results

    def outcome(self, index: int) -> Outcome | None:
        """How turn ``index`` ended; None if it has not, or if there is none."""
        return self._fan.outcome(index)

    @property
    def progress(self) -> FanOutProgress:
        """How far it has come."""
        return self._fan.progress

    def cancel(self, index: int | None = None) -> None:
        """Cancel one turn, or all; the block goes on, and what had come of them stays in their nodes."""
        self._fan.cancel(index)

    async def _run(self) -> tuple[ConversationNode, ...]:
        self._fan.deliver_nothing()
        async with self:
            await self.collect()
        return self.nodes
