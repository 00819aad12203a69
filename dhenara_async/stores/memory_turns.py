"""``MemoryTurns``: the turns of a ``MemoryStore`` while they are answered, and their events."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import Final

from dhenara_async.conversation import ConversationNode
from dhenara_async.stores.event_list import EventList
from dhenara_async.stores.journal import NewTurn, StoredTurn, TurnBatch, TurnPage, TurnState, TurnWriter

MOST_ENDED_EVENTS: Final = 200_000
"""How many events of ended turns are kept in all, some 30 MB; those of the turn that ended first go first."""


@dataclass(slots=True)
class _Row:
    """One turn; ``batches`` are its events, ``changes`` counts what happened to it."""

    owner: str | None
    turn: StoredTurn
    lease_until: float
    watched_until: float = 0.0
    cancel_requested: bool = False
    expires: float | None = None
    events: EventList = field(default_factory=EventList)
    changes: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])

    def change(self) -> None:
        """Wake every task that waits for a change."""
        self.changes += 1
        for future in self.waiting:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, future)

    def seen(self) -> StoredTurn:
        """Return the turn as it is now."""
        ended = self.expires is not None
        return replace(self.turn, ended=ended, expired=not ended and self.lease_until < monotonic())


@dataclass(slots=True)
class TurnTable:
    """The turns of the stores of all owners. Flushes and reads cost what the running turns cost, not the ended ones."""

    rows: dict[int, _Row] = field(default_factory=dict[int, _Row])
    by_id: dict[tuple[str | None, str], _Row] = field(default_factory=dict[tuple[str | None, str], _Row])
    running: dict[int, _Row] = field(default_factory=dict[int, _Row])  # the one that began first is the first
    ended: dict[int, _Row] = field(default_factory=dict[int, _Row])  # the one that ended first is the first
    ended_events: int = 0
    expiries: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])  # a heap; removed turns stay
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def begin(self, row: _Row) -> None:
        """Add a running turn."""
        self.rows[row.turn.number] = self.running[row.turn.number] = self.by_id[row.owner, row.turn.id] = row

    def end(self, row: _Row, keep: float) -> None:
        """End a running turn, which stays for so many seconds."""
        row.expires = monotonic() + keep
        self.running.pop(row.turn.number, None)
        self.ended[row.turn.number] = row
        heappush(self.expiries, (row.expires, row.turn.number))
        self.ended_events += len(row.events) + 1
        row.change()
        self.expire()

    def remove(self, row: _Row) -> None:
        """Remove a turn."""
        self.rows.pop(row.turn.number, None)
        self.running.pop(row.turn.number, None)
        self.by_id.pop((row.owner, row.turn.id), None)
        if self.ended.pop(row.turn.number, None) is not None:
            self.ended_events -= len(row.events) + 1
        row.change()

    def expire(self) -> None:
        """Remove the ended turns whose time is over, and the oldest if there are too many."""
        now = monotonic()
        while self.expiries and self.expiries[0][0] <= now:
            row = self.ended.get(heappop(self.expiries)[1])
            if row is not None:
                self.remove(row)
        while self.ended_events > MOST_ENDED_EVENTS:
            self.remove(next(iter(self.ended.values())))


class MemoryTurns:
    """See ``StoreWithJournal``. The base of ``MemoryStore``, which adds the conversations and their nodes."""

    _turns: TurnTable
    _owner: str | None

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """See ``ConversationStore``."""
        raise NotImplementedError

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        """See ``ConversationStore``."""
        raise NotImplementedError

    def _head_of(self, conversation_id: str) -> str | None:
        raise NotImplementedError

    def _refuse_deleted(self, conversation_id: str, node_id: str) -> None:
        raise NotImplementedError

    def _has_node(self, conversation_id: str, node_id: str) -> bool:
        raise NotImplementedError

    async def begin_turn(self, turn: NewTurn, writer: TurnWriter, *, lease: float) -> StoredTurn | None:
        """See ``StoreWithJournal``."""
        key = (self._owner, turn.draft.id)
        self._refuse_deleted(turn.conversation_id, turn.draft.id)
        if key in self._turns.by_id or self._has_node(turn.conversation_id, turn.draft.id):
            return None
        stored = StoredTurn.begun(next(self._turns.numbers), turn, writer)
        self._turns.begin(_Row(self._owner, stored, monotonic() + lease))
        return stored

    async def flush_turns(
        self, writer: TurnWriter, batches: Sequence[TurnBatch], *, lease: float
    ) -> Mapping[int, TurnState]:
        """See ``StoreWithJournal``."""
        now, states = monotonic(), dict[int, TurnState]()
        for number, row in self._turns.running.items():
            if row.turn.writer.id == writer.id:
                row.lease_until = now + lease
                states[number] = TurnState(row.cancel_requested, row.watched_until > now)
        for batch in batches:
            if batch.turn in states:
                self._add(self._turns.rows[batch.turn], batch)
        return states

    async def end_turn(
        self,
        turn: StoredTurn,
        writer: TurnWriter,
        batches: Sequence[TurnBatch],
        node: ConversationNode,
        *,
        keep: float,
        aside: bool = False,
    ) -> bool:
        """See ``StoreWithJournal``."""
        self._refuse_deleted(turn.conversation_id, node.id)
        row = self._mine(turn)
        if row is None or row.turn.writer.id != writer.id:
            return False
        head = self._head_of(turn.conversation_id)
        await self.append(turn.conversation_id, node)  # nothing waits in there
        if aside and head is not None and head != node.parent_id:
            await self.checkout(turn.conversation_id, head)
        for batch in batches:
            self._add(row, batch)
        self._turns.end(row, keep)
        return True

    async def open_turns(self, conversation_id: str) -> tuple[StoredTurn, ...]:
        """See ``StoreWithJournal``."""
        rows = [row for row in self._turns.running.values() if row.owner == self._owner]
        return tuple(row.seen() for row in rows if row.turn.conversation_id == conversation_id)

    async def claim_turn(self, turn: StoredTurn, writer: TurnWriter, *, lease: float, gone: bool) -> bool:
        """See ``StoreWithJournal``."""
        row = self._mine(turn)
        if row is None or row.turn.writer.id != turn.writer.id or not (gone or row.seen().expired):
            return False
        row.turn, row.lease_until = replace(row.turn, writer=writer), monotonic() + lease
        row.change()
        return True

    async def read_turn(self, turn_id: str, first_seq: int = 0) -> TurnPage | None:
        """See ``StoreWithJournal``."""
        self._turns.expire()
        row = self._turns.by_id.get((self._owner, turn_id))
        return None if row is None else TurnPage(row.seen(), row.events[first_seq:], row.changes)

    async def cancel_turn(self, turn_id: str) -> bool:
        """See ``StoreWithJournal``."""
        row = self._turns.by_id.get((self._owner, turn_id))
        if row is None or row.expires is not None:
            return False
        row.cancel_requested = True
        return True

    async def watch_turn(self, turn: StoredTurn, *, seconds: float) -> None:
        """See ``StoreWithJournal``."""
        row = self._mine(turn)
        if row is not None:
            row.watched_until = monotonic() + seconds

    async def turn_changed(self, page: TurnPage, *, seconds: float) -> None:
        """See ``StoreWithJournal``."""
        row = self._turns.rows.get(page.turn.number)
        if row is None or row.changes != page.mark:
            return
        woken = asyncio.get_running_loop().create_future()
        row.waiting.add(woken)
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            row.waiting.discard(woken)

    async def expire_turns(self) -> None:
        """See ``StoreWithJournal``."""
        self._turns.expire()

    def _forget_turns_of(self, conversation_id: str) -> None:
        """Remove the turns of a conversation that is deleted."""
        for row in list(self._turns.rows.values()):
            if row.owner == self._owner and row.turn.conversation_id == conversation_id:
                self._turns.remove(row)

    def _mine(self, turn: StoredTurn) -> _Row | None:
        """Return the row of a turn of this owner that has not ended."""
        row = self._turns.rows.get(turn.number)
        return row if row is not None and row.owner == self._owner and row.expires is None else None

    def _add(self, row: _Row, batch: TurnBatch) -> None:
        if batch.first_seq == len(row.events):
            row.events.extend(batch.events)
            row.change()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
