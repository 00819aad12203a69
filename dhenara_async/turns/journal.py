"""``JournalWriter``: keeps the events of a manager's turns in its store while the turns are answered.

One task writes for all turns: it looks at their logs a few times a second, and flushes what is new in one transaction,
which also renews the leases and tells of cancellations that were asked for. Reading an answer costs what it costs
without it: the events are taken from the logs that readers attach to.

A failure never stops a stream. Events that could not be flushed are tried again, and last of all with the turn's node;
if that fails too, the end of the turn raises. A turn that another process has claimed meanwhile is not this writer's
any more: its call is closed and nothing more of it is kept.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

import anyio

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import DeadlineError, StoreError, UnknownConversationError
from dhenara_async.stores import ConversationStore, NewTurn, StoredTurn, StoreWithJournal, TurnBatch, TurnWriter
from dhenara_async.turns.keeping import keep, keep_lost
from dhenara_async.turns.log import Journal, TurnLog
from dhenara_async.turns.process import new_writer

logger: Final = logging.getLogger("dhenara_async")

LEASE_SECONDS: float = 10.0
"""A process that stands still for longer loses its turns, if another one looks for them."""

_RENEW_SECONDS: Final = 1.0  # how late a cancellation may be learned of
_WATCHED_SECONDS: Final = 0.025  # the delay of batches while another process reads
_LEAST_SECONDS: Final = 0.02  # between two flushes: a transaction costs as much as some thousand events
_RETRY_SECONDS: Final = 1.0
_BEGIN_SECONDS: Final = 5.0  # a store that hangs delays a turn no longer
_END_SECONDS: Final = 30.0

FENCED: Final = (
    "another process has ended it as interrupted, because this one stood still for too long, or its conversation was "
    "deleted"
)


class JournaledTurn:
    """One turn of a writer.

    Args:
        store: The store of the turn's owner.
        log: Its events.
        new: The turn before its answer.
        stop: Called once if the turn has to end: with True if somebody asked for that, with False if it is fenced.
        is_held: Tells whether somebody can still end the turn; the lease of one that was forgotten runs out.
        conversation: Its conversation.

    Attributes:
        beginning: Begins it in the store; None before.
        stored: The turn in the store; None until it is begun there.
        kept: How many of its events are kept.
        watched: Whether another process reads it.
        fenced: Whether it is not this writer's any more.
        is_known: Whether the store has had a turn or node of its id before.
    """

    def __init__(
        self,
        store: StoreWithJournal,
        log: TurnLog,
        new: NewTurn,
        stop: Callable[[bool], None],
        is_held: Callable[[], bool],
        conversation: Conversation,
    ) -> None:
        self.store = store
        self.log = log
        self.new = new
        self.is_held = is_held
        self.conversation = conversation
        self._stop: Callable[[bool], None] | None = stop
        self.beginning: asyncio.Task[None] | None = None
        self.stored: StoredTurn | None = None
        self.kept = 0
        self.watched = self.fenced = self.is_known = False

    def batches(self, most: int) -> list[TurnBatch]:
        """Return the events that are not kept yet, in batches of at most ``most``."""
        events = self.log.events
        if self.stored is None or self.kept == len(events):
            return []
        number, places = self.stored.number, range(self.kept, len(events), most)
        return [TurnBatch(number, place, events.cut(place, place + most)) for place in places]

    def must_stop(self, *, cancelled: bool) -> None:
        """Tell the turn once that it has to end."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop(cancelled)


class JournalWriter:
    """Keeps the events of turns; see above.

    Args:
        store: The manager's store.
        journal: How often, and for how long after the end.
    """

    def __init__(self, store: StoreWithJournal, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self.identity: TurnWriter = new_writer()
        self._turns: dict[int, JournaledTurn] = {}
        self._task: asyncio.Task[None] | None = None
        self._due: asyncio.Event | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self._busy = asyncio.Lock()
        self._flushed_at = self._expired_at = 0.0

    def has(self, turn: StoredTurn) -> bool:
        """Whether this writer still keeps a turn, which it begins or has begun."""
        return turn.number in self._turns

    async def begin(self, turn: JournaledTurn) -> None:
        """Keep a turn before its first request. A store that fails or hangs does not stop it.

        Raises:
            UnknownConversationError: The conversation was deleted.
        """
        turn.beginning = asyncio.get_running_loop().create_task(self._begin(turn))
        await asyncio.wait([turn.beginning], timeout=_BEGIN_SECONDS)
        if turn.beginning.done():
            turn.beginning.result()

    async def _begin(self, turn: JournaledTurn) -> None:
        try:
            store: ConversationStore = turn.store  # type: ignore[assignment] - every store with a journal is one
            await keep_lost(store, turn.conversation, turn.new.draft.parent_id)
            turn.stored = await turn.store.begin_turn(turn.new, self.identity, lease=LEASE_SECONDS)
        except UnknownConversationError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a store raises, the stream goes on
            logger.warning("turn %s is not kept while it is answered: %s", turn.log.turn_id, exc)
            return
        turn.is_known = turn.stored is None
        if turn.stored is not None and turn.log.ended_at is None:
            self._turns[turn.stored.number] = turn
            turn.log.call_at(self._journal.max_events, self._wake)
            self._start()

    async def end(self, turn: JournaledTurn, conversation: Conversation, node: ConversationNode) -> None:
        """Keep the rest of a turn and its node, also under cancellation.

        Raises:
            StoreError: Not everything is kept; the message names the turn.
            UnknownConversationError: The conversation was deleted.
            DeadlineError: The store takes too long.
        """
        ending = asyncio.get_running_loop().create_task(self._end(turn, conversation, node))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        with anyio.CancelScope(shield=True):
            await asyncio.wait([ending], timeout=_END_SECONDS)
        if not ending.done():
            logger.error("the store did not keep turn %s within %s s", node.id, _END_SECONDS)
            raise DeadlineError(limit="store", seconds=_END_SECONDS)
        ending.result()

    async def _end(self, turn: JournaledTurn, conversation: Conversation, node: ConversationNode) -> None:
        if turn.beginning is not None and not turn.beginning.done():
            await asyncio.wait([turn.beginning])
        async with self._busy:  # no flush has events of it now, and none will
            if turn.stored is not None:
                self._turns.pop(turn.stored.number, None)
        try:
            if turn.fenced:
                raise StoreError(FENCED)
            if turn.stored is None:
                store: ConversationStore = turn.store  # type: ignore[assignment] - every store with a journal is one
                await keep(store, conversation, node)
            else:
                rest = turn.batches(self._journal.max_events)
                if not await self._ended(turn.store, turn.stored, rest, node):
                    turn.fenced = True
                    raise StoreError(FENCED)
                conversation.mark_kept(node.id)
        except StoreError as exc:
            if not turn.fenced:
                conversation.mark_lost(node.id)
            raise StoreError(f"turn {turn.log.turn_id} is not kept: {exc}") from exc

    async def _ended(
        self, store: StoreWithJournal, turn: StoredTurn, rest: Sequence[TurnBatch], node: ConversationNode
    ) -> bool:
        """End a turn in its store; False if it is not this writer's any more.

        A store that fails is asked once more: where only the answer to its commit was lost, the turn has ended.
        """
        try:
            return await store.end_turn(turn, self.identity, rest, node, keep=self._journal.keep)
        except StoreError:
            if await store.end_turn(turn, self.identity, rest, node, keep=self._journal.keep):
                return True
            return await store.find_node(node.id) == (turn.conversation_id, node)

    async def close(self) -> None:
        """Stop writing, when the turns whose readers were cancelled at the end are kept; later ones keep themselves."""
        loop = asyncio.get_running_loop()
        endings = [ending for ending in self._endings if ending.get_loop() is loop]
        if endings:
            await asyncio.wait(endings, timeout=_END_SECONDS)
        task, self._task = self._task, None
        if task is not None and not task.done() and task.get_loop() is loop:
            async with self._busy:  # not in the middle of a flush
                task.cancel()
            await asyncio.wait([task])

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._due = asyncio.Event()
            self._task = loop.create_task(self._run(self._due), name="journal of turns")

    def _wake(self) -> None:
        if self._due is not None:
            self._due.set()

    async def _run(self, due: asyncio.Event) -> None:
        retry_at = 0.0
        while self._turns:
            delay = _WATCHED_SECONDS if any(turn.watched for turn in self._turns.values()) else self._journal.max_delay
            with suppress(TimeoutError):
                await asyncio.wait_for(due.wait(), max(delay, retry_at - monotonic()))
            rest = self._flushed_at + _LEAST_SECONDS - monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
            due.clear()
            if retry_at <= monotonic() and not await self._flushed():
                retry_at = monotonic() + _RETRY_SECONDS

    async def _flushed(self) -> bool:
        try:
            return await self._flush()
        except Exception:  # a fault of ours must not end the journal of all turns
            logger.exception("the journal failed and goes on")
            return False

    async def _flush(self) -> bool:
        """Keep what is new of all turns; False if the store failed."""
        async with self._busy:
            for number in [number for number, turn in self._turns.items() if not turn.is_held()]:
                del self._turns[number]
            turns = list(self._turns.values())
            ends = [len(turn.log.events) for turn in turns]
            batches = [batch for turn in turns for batch in turn.batches(self._journal.max_events)]
            if not batches and monotonic() - self._flushed_at < min(_RENEW_SECONDS, LEASE_SECONDS / 4):
                return True
            try:
                states = await self._store.flush_turns(self.identity, batches, lease=LEASE_SECONDS)
                await self._expire()
            except Exception as exc:  # noqa: BLE001 - whatever a store raises, the streams go on
                logger.warning("events of %d turns could not be kept, and will be tried again: %s", len(turns), exc)
                return False
            self._flushed_at = monotonic()
            for turn, end in zip(turns, ends, strict=True):
                state = None if turn.stored is None else states.get(turn.stored.number)
                if state is None:
                    turn.fenced = True
                    if turn.stored is not None:
                        self._turns.pop(turn.stored.number, None)
                    turn.must_stop(cancelled=False)
                    continue
                turn.kept, turn.watched = end, state.watched
                turn.log.call_at(end + self._journal.max_events, self._wake)
                if state.cancel_requested:
                    turn.must_stop(cancelled=True)
            return True

    async def _expire(self) -> None:
        """Remove old turns of the store once in a while."""
        if monotonic() - self._expired_at > max(1.0, min(60.0, self._journal.keep)):
            self._expired_at = monotonic()
            await self._store.expire_turns()
