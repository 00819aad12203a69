"""The turns of a manager that are being answered, or ended not long ago, and how readers find them and others."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Final, Protocol
from weakref import ref

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import DhenaraError, StoreError, UnknownTurnError
from dhenara_async.stores import ConversationStore, NewTurn, StoredTurn, StoreWithJournal
from dhenara_async.stores.signing import SigningKeys
from dhenara_async.turns.follower import Follower, log_of_node
from dhenara_async.turns.journal import FENCED, JournaledTurn, JournalWriter
from dhenara_async.turns.keeping import wait_out
from dhenara_async.turns.log import Journal, TurnLog
from dhenara_async.turns.recovery import end_dead_turn, is_dead

logger: Final = logging.getLogger("dhenara_async")

_MOST_ENDED_EVENTS = 200_000
_CANCEL_SECONDS: Final = 30.0


class RunningTurn(Protocol):
    """A turn that is read in its own block."""

    async def cancel(self) -> None:
        """End it; its node keeps what came."""
        ...

    async def cut(self, failure: DhenaraError) -> None:
        """Close its call; its reader gets ``failure``."""
        ...


class LiveTurns:
    """The logs of a manager's turns, by owner and id, and the tasks of those that go on without a reader.

    Args:
        journal: How long logs stay, and how they are kept in the store.
        store: The manager's store; None, or one that keeps no journal = turns are known in this manager only.
        signing: The keys that sign nodes; None = they are not signed.

    Attributes:
        writer: Keeps the events in the store; None = nobody does.
    """

    def __init__(
        self, journal: Journal, store: ConversationStore | None = None, signing: SigningKeys | None = None
    ) -> None:
        self._keep = journal.keep
        self._signing = signing
        self.writer: JournalWriter | None = (
            JournalWriter(store, journal) if isinstance(store, StoreWithJournal) else None
        )
        self._logs: dict[tuple[str | None, str], TurnLog] = {}
        self._ended: dict[tuple[str | None, str], TurnLog] = {}  # those of them that have ended, the first one first
        self._ended_events = 0
        self._tasks: dict[TurnLog, asyncio.Task[None]] = {}
        self._running: dict[TurnLog, ref[RunningTurn]] = {}
        self._journaled: dict[TurnLog, JournaledTurn] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._followers: dict[tuple[str | None, str], Follower] = {}

    def begin(self, owner: str | None, log: TurnLog, turn: RunningTurn | None = None) -> None:
        """Let readers attach to a turn. Logs whose time is over are removed."""
        self._drop((owner, log.turn_id))
        self._logs[owner, log.turn_id] = log
        if turn is not None:
            self._running[log] = ref(turn)
        self._drop_old()

    async def keep(self, log: TurnLog, store: ConversationStore, new: NewTurn, conversation: Conversation) -> bool:
        """Keep a turn in the store before its first request; False if the store has had a turn of that id.

        Raises:
            UnknownConversationError: The conversation was deleted.
        """
        if self.writer is None or not isinstance(store, StoreWithJournal):
            return True
        turn = JournaledTurn(
            store, log, new, lambda cancelled: self._stop(log, cancelled), lambda: self._is_held(log), conversation
        )
        self._journaled[log] = turn
        await self.writer.begin(turn)
        if turn.is_known:
            del self._journaled[log]
        return not turn.is_known

    def is_kept(self, log: TurnLog) -> bool:
        """Whether the node of a turn is kept by ``kept``, together with its last events."""
        return log in self._journaled

    async def kept(self, log: TurnLog, conversation: Conversation, node: ConversationNode) -> bool:
        """Keep the rest of a turn and its node in the store; False if its store keeps no journal.

        Raises:
            StoreError: Not everything is kept; the message names the turn.
            UnknownConversationError: The conversation was deleted.
            DeadlineError: The store takes too long.
        """
        turn = self._journaled.pop(log, None)
        if turn is None or self.writer is None:
            return False
        await self.writer.end(turn, conversation, node)
        return True

    def end(
        self, owner: str | None, log: TurnLog, node: ConversationNode | None, failure: BaseException | None
    ) -> None:
        """End a turn: ``node`` is what it left, ``failure`` is the error of its stream."""
        log.end(node, failure)
        self._running.pop(log, None)
        self._journaled.pop(log, None)
        if self._logs.get((owner, log.turn_id)) is log:
            self._ended[owner, log.turn_id] = log
            self._ended_events += len(log.events) + 1
            self._drop_old()

    def discard(self, owner: str | None, log: TurnLog, failure: BaseException | None) -> None:
        """Forget a turn that could not begin; readers who have attached meanwhile get ``failure``."""
        log.end(None, failure)
        self._running.pop(log, None)
        self._journaled.pop(log, None)
        if self._logs.get((owner, log.turn_id)) is log:
            self._drop((owner, log.turn_id))

    def find(self, owner: str | None, turn_id: str) -> TurnLog | None:
        """Return the log of a turn of this manager; None if there is none, or it ended longer than ``keep`` ago."""
        log = self._logs.get((owner, turn_id))
        if log is None or (log.ended_at is not None and monotonic() - log.ended_at >= self._keep):
            return None
        return log

    async def open(self, owner: str | None, store: ConversationStore, turn_id: str) -> TurnLog:
        """Return the log of a turn: of this manager, or a copy that follows what the store has of it.

        Raises:
            UnknownTurnError: The owner has no such turn, or it ended too long ago for a store without a journal.
            StoreError: The store failed.
        """
        log = self.find(owner, turn_id)
        if log is None:
            if self.writer is None or not isinstance(store, StoreWithJournal):
                raise UnknownTurnError(
                    f"no turn {turn_id!r} is answered in this manager, or it ended more than {self._keep:g} s ago: "
                    "open its conversation, where its node has the same id"
                )
            log = await self._stored(owner, store, turn_id)
        log.readers += 1
        return log

    async def _stored(
        self, owner: str | None, store: StoreWithJournal, turn_id: str, own: TurnLog | None = None
    ) -> TurnLog:
        """Return a copy of what the store has of a turn, made in ``own`` if that is given."""
        follower = self._followers.get((owner, turn_id))
        if follower is None or follower.failed or own is not None:
            page = await store.read_turn(turn_id)
            if page is None:
                stored = await store.find_node(turn_id)
                if stored is None:
                    raise UnknownTurnError(f"there is no turn {turn_id!r}: pass the id of a turn, or of its node")
                return log_of_node(*stored, own)
            follower = self._followers.get((owner, turn_id))  # another reader may have been faster
            if follower is None or follower.failed or own is not None:
                follower = self._followers[owner, turn_id] = Follower(store, page, self._close_dead(store), own)
                follower.start()
        await follower.begun()
        return follower.log

    async def follow_instead(self, owner: str | None, store: ConversationStore, log: TurnLog) -> None:
        """Make the log of a turn that could not begin a copy of the turn that has its id in another process.

        Raises:
            UnknownTurnError: That turn is gone.
        """
        self._running.pop(log, None)
        if self._logs.get((owner, log.turn_id)) is log:
            self._drop((owner, log.turn_id))
        if isinstance(store, StoreWithJournal):
            await self._stored(owner, store, log.turn_id, log)

    def release(self, owner: str | None, log: TurnLog) -> None:
        """Note that a reader of a log has left; a copy that nobody reads follows no longer."""
        log.readers -= 1
        follower = self._followers.get((owner, log.turn_id))
        if follower is not None and follower.log is log and log.readers <= 0:
            del self._followers[owner, log.turn_id]
            follower.stop()

    async def end_dead(self, store: ConversationStore, conversation_id: str) -> None:
        """End the turns of a conversation whose process is gone; each leaves an ``interrupted`` node.

        Raises:
            StoreError: The store failed.
        """
        if self.writer is not None and isinstance(store, StoreWithJournal):
            for turn in await store.open_turns(conversation_id):
                await self._end_dead(store, turn)

    def _close_dead(self, store: StoreWithJournal) -> Callable[[str], Coroutine[object, object, None]]:
        async def close(turn_id: str) -> None:
            page = await store.read_turn(turn_id)
            if page is not None:
                await self._end_dead(store, page.turn)

        return close

    async def _end_dead(self, store: StoreWithJournal, turn: StoredTurn) -> bool:
        """End a turn whose process is gone, and return whether it is. A turn of this manager is not, even if the store
        was away for longer than its lease."""
        if self.writer is None or self.writer.has(turn) or not is_dead(turn):
            return False
        await end_dead_turn(store, turn, self.writer.identity, self._signing, self._keep)
        return True

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

    async def cancel(self, owner: str | None, store: ConversationStore, turn_id: str) -> None:
        """End a turn, wherever it is answered; it has left its node when this returns.

        Raises:
            UnknownTurnError: The owner has no such turn.
            StoreError: The store failed, or the process that answers the turn does not end it.
        """
        log = self.find(owner, turn_id)
        if log is not None:
            await self._cancel(log)
            return
        if self.writer is None or not isinstance(store, StoreWithJournal):
            raise UnknownTurnError(f"no turn {turn_id!r} is answered in this manager, or it ended too long ago")
        await store.cancel_turn(turn_id)
        deadline = monotonic() + _CANCEL_SECONDS
        while True:
            page = await store.read_turn(turn_id, 1 << 53)
            if page is None and await store.find_node(turn_id) is None:
                raise UnknownTurnError(f"there is no turn {turn_id!r}: pass the id of a turn, or of its node")
            if page is None or page.turn.ended:
                return
            if await self._end_dead(store, page.turn):
                continue
            if monotonic() > deadline:
                raise StoreError(f"the process that answers turn {turn_id} has not ended it within 30 s")
            await store.watch_turn(page.turn, seconds=5)
            await store.turn_changed(page, seconds=0.25)

    async def _cancel(self, log: TurnLog) -> None:
        task = self._tasks.get(log)
        if task is not None:
            await asyncio.sleep(0)  # a task that is cancelled before its first step would leave no node
            task.cancel()
            await asyncio.wait([task])
        elif log.ended_at is None:
            running = self._running.get(log)
            turn = None if running is None else running()
            if turn is not None:
                await turn.cancel()

    def _stop(self, log: TurnLog, cancelled: bool) -> None:
        """End a turn for the writer: it was cancelled elsewhere, or is not this manager's any more."""
        running = self._running.get(log)
        turn = None if running is None else running()
        if cancelled:
            closing = self._cancel(log)
        elif turn is not None:
            closing = turn.cut(StoreError(f"turn {log.turn_id} is not kept: {FENCED}"))
        else:
            return
        task = asyncio.get_running_loop().create_task(self._quietly(closing), name=f"end of turn {log.turn_id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _quietly(self, closing: Coroutine[object, object, None]) -> None:
        try:
            await closing
        except Exception:  # its reader is told too
            logger.exception("a turn could not be ended properly")

    def _is_held(self, log: TurnLog) -> bool:
        """Whether a block or a task still has the turn: nobody can end one whose block was forgotten."""
        running = self._running.get(log)
        return log in self._tasks or (running is not None and running() is not None)

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
        finally:  # also when the wait is cancelled, and in a task of its own, in case that it is cancelled again
            ending = asyncio.get_running_loop().create_task(self._end_all(), name="end of all turns")
            cancelled = await wait_out(ending, _CANCEL_SECONDS)
            if not ending.done():
                ending.cancel()
                logger.error("the turns without a reader did not end within %s s", _CANCEL_SECONDS)
            if cancelled is not None:
                raise cancelled
            if ending.done():
                ending.result()

    async def _end_all(self) -> None:
        await asyncio.sleep(0)  # as in cancel
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for follower in self._followers.values():
            follower.stop()
        self._followers.clear()
        if self.writer is not None:
            await self.writer.close()
