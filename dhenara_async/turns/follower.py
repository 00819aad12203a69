"""``Follower``: a copy of the log of a turn that another process answers, for every reader here.

It reads the rows of the turn, and reads on when the store tells of a change, at the latest every second. The end is
told by the turn's row. A turn whose process is gone is ended here.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Final

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import DhenaraError, StoreError
from dhenara_async.events import (
    ChoiceFinish,
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    StreamStart,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.stores import StoreWithJournal, TurnPage
from dhenara_async.turns.log import TurnLog
from dhenara_async.turns.recovery import is_dead, last_step

logger: Final = logging.getLogger("dhenara_async")

_PATIENCE: Final = 1.0  # seconds after which the rows are read again, whatever was told
_WATCH: Final = 10.0  # seconds for which the writer is told of readers here
_TRIES: Final = 10

NODE_EPOCH: Final = "node"
"""Stands in the cursors of a turn that is replayed from its node."""


class Follower:
    """Follows one turn as long as it has readers.

    Args:
        store: The store of the turn's owner.
        page: The turn with its events so far.
        close_dead: Ends the turn if its process is gone.
        log: An empty log that becomes the copy; None = a new one.

    Attributes:
        log: The copy.
        failed: Whether the store failed for too long; a new follower is needed then.
    """

    def __init__(
        self,
        store: StoreWithJournal,
        page: TurnPage,
        close_dead: Callable[[str], Coroutine[object, object, None]],
        log: TurnLog | None = None,
    ) -> None:
        turn = page.turn
        self.log: TurnLog = log or TurnLog(turn.id, turn.conversation_id, turn.draft)
        self.log.epoch, self.log.is_copy = turn.epoch, True
        self.log.add_all(page.events)
        self.failed: bool = False
        self._store = store
        self._page = page
        self._close_dead = close_dead
        self._watched_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.get_running_loop().create_task(self._follow(), name=f"readers of turn {self.log.turn_id}")

    def stop(self) -> None:
        """Follow no longer."""
        if self._task is not None:
            self._task.cancel()

    async def begun(self) -> None:
        """Wait until the end of a turn that has ended is known here too."""
        while self._page.turn.ended and self.log.ended_at is None:
            await self.log.wait()

    async def _follow(self) -> None:
        tries = 0
        while self.log.ended_at is None:
            try:
                await self._step()
                tries = 0
            except DhenaraError as exc:
                tries += 1
                if tries == _TRIES:
                    logger.warning("turn %s cannot be read any more: %s", self.log.turn_id, exc)
                    self.failed = True
                    failure = StoreError(f"turn {self.log.turn_id} cannot be read any more: {exc}")
                    self.log.end(None, failure)
                    return
                await asyncio.sleep(_PATIENCE)

    async def _step(self) -> None:
        """Wait for a change and read what is new."""
        page, store = self._page, self._store
        if page.turn.ended:
            stored = await store.find_node(last_step(page.turn, self.log.events).draft.id)
            self.log.end(None if stored is None else stored[1], None)
            return
        if is_dead(page.turn):
            await self._close_dead(page.turn.id)
        else:
            if monotonic() > self._watched_until - _WATCH / 2:
                await store.watch_turn(page.turn, seconds=_WATCH)
                self._watched_until = monotonic() + _WATCH
            await store.turn_changed(page, seconds=_PATIENCE)
        newer = await store.read_turn(page.turn.id, len(self.log.events))
        if newer is None:  # it has ended long ago, or its conversation was deleted
            stored = await store.find_node(page.turn.id)
            self.log.end(None if stored is None else stored[1], None)
            return
        self._page = newer
        self.log.add_all(newer.events)


def log_of_node(conversation_id: str, node: ConversationNode, log: TurnLog | None = None) -> TurnLog:
    """Return the log of a turn whose events are not kept any more, made from its node.

    Args:
        conversation_id: The conversation of the node.
        node: The node.
        log: An empty log to fill; None = a new one.
    """
    log = log or TurnLog(node.id, conversation_id)
    log.epoch = NODE_EPOCH
    log.add_all(_events_of(node))
    log.end(node, None)
    return log


def _events_of(node: ConversationNode) -> list[StreamEvent]:
    response = node.response
    if response is None:
        return []
    events: list[StreamEvent] = [
        StreamStart(response.model, response.provider, response.response_id, node.request_id, node.warnings)
    ]
    parts = [(choice.index, part) for choice in response.choices for part in choice.parts]
    for part_id, (choice, part) in enumerate(parts):
        events += (*_beginning(part_id, part, choice), PartEnd(part_id, part))
    events.append(UsageUpdate(response.usage))
    if node.status == "complete":
        finishes = tuple(
            ChoiceFinish(choice.index, choice.finish_reason, choice.raw_finish_reason, choice.stop_sequence)
            for choice in response.choices
        )
        events.append(StreamEnd(finishes[0].finish_reason, finishes[0].raw_finish_reason, finishes))
    return events


def _beginning(part_id: int, part: Part, choice: int) -> tuple[StreamEvent, ...]:
    """Return the events before the end of a part: its text comes in one delta."""
    match part:
        case TextPart():
            return PartStart(part_id, "text", choice), TextDelta(part_id, part.text)
        case ReasoningPart():
            return PartStart(part_id, "reasoning", choice), ReasoningDelta(part_id, part.text)
        case RefusalPart():
            return PartStart(part_id, "refusal", choice), RefusalDelta(part_id, part.text)
        case ToolCallPart():
            start = PartStart(part_id, "tool_call", choice, part.call_id, part.name)
            return start, ToolCallDelta(part_id, part.arguments)
        case FilePart():
            return (PartStart(part_id, "file", choice),)
        case HostedToolPart():
            return (PartStart(part_id, "hosted_tool", choice, None, part.name),)
        case ToolResultPart():  # stands in questions
            return ()
