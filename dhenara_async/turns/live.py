"""The turns of a manager that are being answered, or ended not long ago."""

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import StreamStateError, UnknownTurnError
from dhenara_async.turns.log import TurnLog

_MOST_ENDED_EVENTS = 200_000


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

    def running(self, owner: str | None, conversation_id: str) -> tuple[ConversationNode, ...]:
        """Return the turns of a conversation that have not ended, without their answers, in the order in which they
        began."""
        return tuple(
            log.draft
            for (whose, _), log in self._logs.items()
            if whose == owner and log.conversation_id == conversation_id and log.ended_at is None and log.draft
        )

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

    async def finish(self, seconds: float) -> None:
        """Wait for the turns without a reader, and cancel those that take longer."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=seconds)
        await self.close(at_once=True)

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
