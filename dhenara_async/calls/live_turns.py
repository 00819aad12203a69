"""The turns of a manager that are being answered, or ended not long ago, and the readers attached to them.

A turn logs its events in a ``TurnLog``: one append to a list for each event. A ``TurnReader`` replays the log from a
cursor and follows it while the turn goes on.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self
from uuid import uuid4

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import DhenaraError, StreamStateError, UnknownTurnError
from dhenara_async.events import StreamEvent, StreamReset, StreamStart
from dhenara_async.frozen import ShortRepr


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Journal(ShortRepr):
    """How long the events of a turn are kept for readers who attach to it.

    At most 200 000 events of ended turns are kept in all (some 30 MB); the turns that ended first go first.

    Attributes:
        keep: Seconds after the end of the turn.
    """

    keep: float = 600.0


_MOST_ENDED_EVENTS = 200_000


class TurnLog:
    """The events of one turn, in order.

    Args:
        turn_id: The id of the turn and of its node.
        conversation_id: Where its node goes.
    """

    def __init__(self, turn_id: str, conversation_id: str) -> None:
        self.turn_id = turn_id
        self.conversation_id = conversation_id
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


class TurnReader:
    """Reads a turn from a cursor: first what came before, then what comes. ``async with manager.attach(…) as reader``.

    Leaving the block never ends the turn.

    Args:
        find: Returns the log; may raise ``UnknownTurnError``.
        cursor: Where an earlier reader of this turn was; None = from the beginning.
    """

    def __init__(self, find: Callable[[], TurnLog], cursor: str | None) -> None:
        self._find = find
        self._from = cursor
        self._log: TurnLog | None = None
        self._seq = 0
        self._resets = False

    async def __aenter__(self) -> Self:
        log = self._log = self._find()
        if self._from is not None:
            turn_id, _, place = self._from.rpartition(".")
            known = turn_id == f"{log.turn_id}.{log.epoch}" and place.isascii() and place.isdecimal()
            if known and len(place) < 19 and int(place) <= len(log.events):
                self._seq = int(place)
            else:
                self._resets = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        log = self._demand_log()
        while self._seq >= len(log.events):
            if log.ended_at is not None:
                self._end(log)
            await log.wait()
        event = log.events[self._seq]
        self._seq += 1
        if self._resets:
            self._resets = False
            start = event if isinstance(event, StreamStart) else None
            return StreamReset("the cursor is not one of this turn as it is kept; the turn follows whole", start)
        return event

    @property
    def cursor(self) -> str:
        """Where this reader is: pass it to ``manager.attach`` to go on after the last event that was read."""
        log = self._demand_log()
        return f"{log.turn_id}.{log.epoch}.{self._seq}"

    @property
    def node(self) -> ConversationNode:
        """The finished turn.

        Raises:
            StreamStateError: It is not over.
        """
        node = self._demand_log().node
        if node is None:
            raise StreamStateError("the turn is not over; its node is there when its events have ended")
        return node

    def _demand_log(self) -> TurnLog:
        if self._log is None:
            raise StreamStateError("a turn is attached to in a block: async with manager.attach(…) as reader")
        return self._log

    def _end(self, log: TurnLog) -> None:
        """Raise the error of the turn, or stop the iteration."""
        if log.node is not None and log.node.status == "complete":
            raise StopAsyncIteration
        if isinstance(log.failure, DhenaraError):
            raise log.failure
        reason = "it failed" if log.node is None else log.node.error
        raise StreamStateError(f"turn {log.turn_id} ended before its answer was complete: {reason}")


class LiveTurns:
    """The logs of a manager's turns, by owner and id, and the tasks of those that go on without a reader.

    Args:
        keep: Seconds that a log stays after the end of its turn.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._logs: dict[tuple[str | None, str], TurnLog] = {}
        self._ended: dict[tuple[str | None, str], TurnLog] = {}  # those of them that have ended, the first one first
        self._ended_events = 0
        self._tasks: dict[TurnLog, asyncio.Task[None]] = {}

    def begin(self, owner: str | None, log: TurnLog) -> None:
        """Let readers attach to a turn. Logs whose time is over are removed."""
        self._drop((owner, log.turn_id))
        self._logs[owner, log.turn_id] = log
        self._drop_old()

    def end(
        self, owner: str | None, log: TurnLog, node: ConversationNode | None, failure: BaseException | None
    ) -> None:
        """End a turn: ``node`` is what it left, ``failure`` is the error of its stream."""
        log.end(node, failure)
        if self._logs.get((owner, log.turn_id)) is log:
            self._ended[owner, log.turn_id] = log
            self._ended_events += len(log.events) + 1
            self._drop_old()

    def find(self, owner: str | None, turn_id: str) -> TurnLog:
        """Return the log of a turn.

        Raises:
            UnknownTurnError: The owner has no such turn, or it ended longer than ``keep`` ago.
        """
        log = self._logs.get((owner, turn_id))
        if log is None or (log.ended_at is not None and monotonic() - log.ended_at >= self._keep):
            raise UnknownTurnError(
                f"no turn {turn_id!r} is answered in this manager, or it ended more than {self._keep:g} s ago: "
                "open its conversation, where its node has the same id"
            )
        return log

    def forget(self, owner: str | None, conversation_id: str) -> None:
        """Remove the ended turns of a deleted conversation."""
        for key, log in list(self._ended.items()):
            if key[0] == owner and log.conversation_id == conversation_id:
                self._drop(key)

    def _drop_old(self) -> None:
        """Remove the ended turns that are kept no longer: each is looked at once, whatever the number of turns."""
        now = monotonic()
        while self._ended:
            key, log = next(iter(self._ended.items()))
            kept = log.ended_at is not None and now - log.ended_at < self._keep
            if kept and self._ended_events <= _MOST_ENDED_EVENTS:
                return
            self._drop(key)

    def _drop(self, key: tuple[str | None, str]) -> None:
        self._logs.pop(key, None)
        ended = self._ended.pop(key, None)
        if ended is not None:
            self._ended_events -= len(ended.events) + 1

    def go_on(self, log: TurnLog, finish: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run ``finish`` in a task of the manager."""
        # a task group belongs to the task that entered it; a manager is entered and left in any, and this never raises
        task = self._tasks[log] = asyncio.get_running_loop().create_task(finish(), name=f"turn {log.turn_id}")
        task.add_done_callback(lambda _: self._tasks.pop(log, None))

    async def cancel(self, log: TurnLog) -> None:
        """End a turn without a reader; it has left its node when this returns.

        Raises:
            StreamStateError: The turn still has the reader who began it.
        """
        task = self._tasks.get(log)
        if task is not None:
            await asyncio.sleep(0)  # a task that is cancelled before its first step would leave no node
            task.cancel()
            await asyncio.wait([task])
        elif log.ended_at is None:
            raise StreamStateError(
                f"turn {log.turn_id} is read in its own block: leave the block, or detach() the turn there first"
            )

    async def close(self, *, at_once: bool) -> None:
        """Wait for the turns without a reader; ``at_once`` cancels them, which keeps what came of them."""
        try:
            while self._tasks and not at_once:
                await asyncio.wait(list(self._tasks.values()))
        finally:  # also when the wait is cancelled
            await asyncio.sleep(0)  # as in cancel
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
