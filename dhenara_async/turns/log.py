"""``TurnLog``: the events of one turn, which readers replay and follow; one append to a list for each event."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import uuid4

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import ConfigurationError
from dhenara_async.events import StreamEvent, ToolApprovalRequest, ToolEnd, ToolProgress, ToolStart
from dhenara_async.frozen import ShortRepr
from dhenara_async.stores.event_list import EventList


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Journal(ShortRepr):
    """How a manager's store keeps the events of turns while they are answered.

    They survive a crash of the process, and other processes on the same store read them. In memory, at most 200 000
    events of ended turns are kept in all (some 30 MB); the turns that ended first go first.

    Attributes:
        max_delay: Seconds after which an event is in the store at the latest; while another process reads the turn it
            is sooner.
        max_events: The number of events of a turn after which they are in the store sooner, at most 50 times a second.
        keep: Seconds after the end of the turn for which its events stay; its node stays for ever.

    Raises:
        ConfigurationError: A number is negative, or ``max_events`` is 0.
    """

    max_delay: float = 0.25
    max_events: int = 64
    keep: float = 600.0

    def __post_init__(self) -> None:
        if not (self.max_delay >= 0 and self.keep >= 0 and self.max_events >= 1):
            raise ConfigurationError("a Journal has max_delay and keep from 0 on, and max_events from 1 on")


_NEVER: Final = 1 << 62


class TurnLog:
    """The events of one turn, in order.

    Args:
        turn_id: The id of the turn and of its node.
        conversation_id: Where its node goes.
        draft: The turn before its answer.
        epoch: Stands in its cursors; None = a new one, so that a log that is begun again under the same id has others.

    Attributes:
        is_copy: Whether the turn is answered in another process, so that events may come later than a reader has them.
        readers: How many readers have attached to it.
    """

    is_copy: bool = False
    readers: int = 0

    def __init__(
        self,
        turn_id: str,
        conversation_id: str,
        draft: ConversationNode | None = None,
        *,
        epoch: str | None = None,
    ) -> None:
        self.turn_id = turn_id
        self.conversation_id = conversation_id
        self.draft = draft
        self.epoch: str = epoch or uuid4().hex[:8]
        self.events: EventList = EventList()
        self.node: ConversationNode | None = None
        self.failure: BaseException | None = None
        self.ended_at: float | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._alert_at: int = _NEVER  # the number of events from which somebody is told
        self._called_at: int = _NEVER
        self._call: Callable[[], None] | None = None

    def add(self, event: StreamEvent) -> None:
        """Log an event and wake the readers."""
        self.events.append(event)
        if len(self.events) >= self._alert_at:
            self._alert()

    def add_all(self, events: Sequence[StreamEvent]) -> None:
        """Log events and wake the readers."""
        self.events.extend(events)
        if len(self.events) >= self._alert_at:
            self._alert()

    def call_at(self, number: int, call: Callable[[], None]) -> None:
        """Call ``call`` once when there are ``number`` events, in place of an earlier call."""
        self._called_at, self._call = number, call
        self._alert_at = 0 if self._waiting else number
        if len(self.events) >= number:
            self._alert()

    def _alert(self) -> None:
        if self._waiting:
            self._wake()
        if self._call is not None and len(self.events) >= self._called_at:
            call, self._call, self._called_at = self._call, None, _NEVER
            call()
        self._alert_at = self._called_at

    @property
    def is_complete(self) -> bool:
        """Whether the turn has ended with a complete answer.

        The last node of a tool loop is complete also where the loop ended while the calls of its answer ran.
        """
        node = self.node
        if self.failure is not None or node is None or node.status != "complete":
            return False
        return not _ends_amid_tools(self.events)

    def end(self, node: ConversationNode | None, failure: BaseException | None) -> None:
        """The turn is over: ``node`` is what it left, ``failure`` is the error of its stream."""
        self.node, self.failure, self.ended_at = node, failure, monotonic()
        self._wake()

    async def wait(self) -> None:
        """Wait for the next event or the end."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._alert_at = 0
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


def _ends_amid_tools(events: Sequence[StreamEvent]) -> bool:
    """Whether calls were running at the end, or the model was not asked about their results."""
    running, has_results = 0, False
    for event in reversed(events):
        match event:
            case ToolStart():
                running += 1
            case ToolEnd():
                running, has_results = running - 1, True
            case ToolProgress():
                pass
            case ToolApprovalRequest():  # it waits with the results that are there
                has_results = False
                break
            case _:
                break
    return running > 0 or has_results
