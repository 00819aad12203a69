"""``TurnLog``: the events of one turn, which readers replay and follow; one append to a list for each event."""

import asyncio
from dataclasses import dataclass
from time import monotonic
from uuid import uuid4

from dhenara_async.conversation import ConversationNode
from dhenara_async.events import StreamEvent
from dhenara_async.frozen import ShortRepr


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Journal(ShortRepr):
    """How long the events of a turn are kept for readers who attach to it.

    At most 200 000 events of ended turns are kept in all (some 30 MB); the turns that ended first go first.

    Attributes:
        keep: Seconds after the end of the turn.
    """

    keep: float = 600.0


class TurnLog:
    """The events of one turn, in order.

    Args:
        turn_id: The id of the turn and of its node.
        conversation_id: Where its node goes.
        draft: The turn before its answer.
    """

    def __init__(self, turn_id: str, conversation_id: str, draft: ConversationNode | None = None) -> None:
        self.turn_id = turn_id
        self.conversation_id = conversation_id
        self.draft = draft
        self.epoch: str = uuid4().hex[:8]  # a log that is begun again under the same id has other cursors
        self.events: list[StreamEvent] = []
        self.node: ConversationNode | None = None
        self.failure: BaseException | None = None
        self.ended_at: float | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, event: StreamEvent) -> None:
        """Log an event and wake the readers."""
        self.events.append(event)
        if self._waiting:
            self._wake()

    def end(self, node: ConversationNode | None, failure: BaseException | None) -> None:
        """The turn is over: ``node`` is what it left, ``failure`` is the error of its stream."""
        self.node, self.failure, self.ended_at = node, failure, monotonic()
        self._wake()

    async def wait(self) -> None:
        """Wait for the next event or the end."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
