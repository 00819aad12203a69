"""``JournalTables``: the turns of an ``SQLStore`` while they are answered, and their events.

Locks are taken in one order, so that transactions do not wait for each other in a circle: first the row of a
conversation, then rows of turns by number. Times are compared by the database's clock alone.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from anyio import to_thread
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    func,
    select,
    update,
)

from dhenara_async.conversation import ConversationNode
from dhenara_async.events import PartEnd, StreamEvent, ToolEnd
from dhenara_async.messages.messages import FilePart, HostedToolPart, Origin
from dhenara_async.stores.event_lines import event_lines, events_of
from dhenara_async.stores.event_list import DeltaRun, pieces_of
from dhenara_async.stores.journal import NewTurn, StoredTurn, TurnBatch, TurnPage, TurnState, TurnWriter
from dhenara_async.stores.sql import attachments, files
from dhenara_async.stores.sql.changes import CHANNEL
from dhenara_async.stores.sql.database import Database, off_loop
from dhenara_async.stores.sql.loading import Found, nodes_of
from dhenara_async.stores.sql.statements import Statements, statements_for
from dhenara_async.stores.sql.tables import conversations, nodes, turn_events, turns
from dhenara_async.stores.storable import demand_storable, storable

_MANY: Final = 4_000  # events from which they are written and read in a thread
_NUMBERS: Final = 300  # of turns in one notification, which holds less than 8 000 bytes


class JournalTables:
    """See ``StoreWithJournal``. The base of ``SQLStore``, which adds the conversations and their nodes."""

    _database: Database
    _owner: str
    _drafts: WeakValueDictionary[tuple[int, str], ConversationNode]
    """The drafts of turns with large files, by number and epoch, as long as somebody has them: they never change."""

    async def _prepared(self, conversation_id: str, node: ConversationNode) -> Callable[[Connection], None]:
        raise NotImplementedError

    def _tombstone(self, conversation_id: str) -> str:
        raise NotImplementedError

    def _locked(self, connection: Connection, conversation_id: str) -> Found | None:
        raise NotImplementedError

    def _refuse_deleted(self, connection: Connection, conversation_id: str, node_id: str) -> None:
        raise NotImplementedError

    async def begin_turn(self, turn: NewTurn, writer: TurnWriter, *, lease: float) -> StoredTurn | None:
        """See ``StoreWithJournal``."""
        draft = turn.draft
        for name in (turn.conversation_id, draft.id):
            demand_storable(name, "an id")
        body, contents = await attachments.encoded(draft)
        values: dict[str, Any] = {
            "owner": self._owner,
            "id": draft.id,
            "conversation": turn.conversation_id,
            "epoch": turn.epoch,
            "draft": body,
            "config": turn.config,
            "target": None if turn.target is None else turn.target.model_dump_json(),
            **_columns(writer),
            "watched_until": 0.0,
            "cancel_requested": False,
            "last_seq": 0,
            "lease": lease,
        }
        parameters = {f"new_{name}": value for name, value in values.items()} | {
            "of_owner": self._owner,
            "of_id": turn.conversation_id,
            "of_node": draft.id,
            "of_key": self._tombstone(turn.conversation_id),
        }

        def work(connection: Connection) -> int | None:
            number = connection.scalar(self._statements.begin, parameters)
            if number is None:
                self._refuse_deleted(connection, turn.conversation_id, draft.id)
            elif contents:
                files.keep_for_turn(connection, self._owner, number, contents)
            return number

        number = await self._database.write(work)
        if number is None:
            return None
        if contents:
            self._drafts[number, turn.epoch] = draft
        return StoredTurn.begun(number, turn, writer)

    async def flush_turns(
        self, writer: TurnWriter, batches: Sequence[TurnBatch], *, lease: float
    ) -> Mapping[int, TurnState]:
        """See ``StoreWithJournal``."""
        rows = await _rows(batches)

        def work(connection: Connection) -> dict[int, TurnState]:
            found = connection.execute(self._statements.renew, {"of_writer": writer.id, "new_lease": lease}).all()
            epochs = {row.seq: row.epoch for row in found}
            kept = [row for row in rows if row["turn"] in epochs]
            for row in kept:
                row["epoch"] = epochs[row["turn"]]
            self._keep_events(connection, kept)
            changed = {row["turn"] for row in kept}
            self._notify(connection, [row.seq for row in found if row.read and row.seq in changed])
            return {row.seq: TurnState(bool(row.cancel_requested), bool(row.read)) for row in found}

        return await self._database.write(work)

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
        rows, append = await _rows(batches), await self._prepared(turn.conversation_id, node)
        ended = {
            "of_turn": turn.number,
            "of_owner": self._owner,
            "of_writer": writer.id,
            "new_keep": keep,
            "new_last": batches[-1].first_seq + len(batches[-1].events) if batches else None,
        }

        def work(connection: Connection) -> bool:
            row = None
            if aside or not self._database.is_sqlite:  # SQLite has locked everything
                row = self._locked(connection, turn.conversation_id)
            found = connection.execute(self._statements.end, ended).one_or_none()
            if found is None:
                self._refuse_deleted(connection, turn.conversation_id, node.id)
                return False
            for batch in rows:
                batch["epoch"] = turn.epoch
            self._keep_events(connection, rows)
            append(connection)
            if aside and row is not None and row.head is not None and row.head != node.parent_id:
                back = update(conversations).where(conversations.c.seq == row.seq, conversations.c.owner == self._owner)
                connection.execute(back.values(head=row.head))
            self._notify(connection, [turn.number] if found.read else [])
            return True

        return await self._database.write(work, row=(self._owner, turn.conversation_id))

    async def open_turns(self, conversation_id: str) -> tuple[StoredTurn, ...]:
        """See ``StoreWithJournal``."""
        wanted = self._turn_rows().where(turns.c.conversation == conversation_id, turns.c.ended.is_(None))

        def work(connection: Connection) -> tuple[StoredTurn, ...]:
            return tuple(self._turn(connection, row) for row in connection.execute(wanted.order_by(turns.c.seq)).all())

        return await self._database.read(work) if storable(conversation_id) else ()

    async def claim_turn(self, turn: StoredTurn, writer: TurnWriter, *, lease: float, gone: bool) -> bool:
        """See ``StoreWithJournal``."""
        mine = [turns.c.seq == turn.number, turns.c.owner == self._owner, turns.c.ended.is_(None)]
        mine.append(turns.c.writer == turn.writer.id)
        if not gone:
            mine.append(turns.c.lease_until < self._now)
        claimed = update(turns).where(*mine).values(lease_until=self._now + lease, **_columns(writer))

        def work(connection: Connection) -> bool:
            return connection.execute(claimed).rowcount == 1

        return await self._database.write(work)

    async def read_turn(self, turn_id: str, first_seq: int = 0) -> TurnPage | None:
        """See ``StoreWithJournal``."""
        if not storable(turn_id):
            return None
        mark = self._database.changes.mark()

        def work(connection: Connection) -> tuple[StoredTurn, list[tuple[int, str]]] | None:
            parameters = {"of_owner": self._owner, "of_id": turn_id}
            row = connection.execute(self._statements.turn, parameters).one_or_none()
            if row is None:
                return None
            later = {"of_turn": row.seq, "of_epoch": row.epoch, "of_first": first_seq}
            found = connection.execute(self._statements.events, later).all()
            return self._turn(connection, row), [(batch.first_seq, batch.events) for batch in found]

        found = await self._database.read(work)
        if found is None:
            return None
        turn, batches = found
        lines = "\n".join(text for _, text in batches)
        is_long = len(lines) > 50 * _MANY
        events = await to_thread.run_sync(events_of, lines) if is_long else events_of(lines)
        skipped = first_seq - batches[0][0] if batches else 0
        return TurnPage(turn, events[skipped:] if skipped > 0 else events, mark)

    async def cancel_turn(self, turn_id: str) -> bool:
        """See ``StoreWithJournal``."""
        if not storable(turn_id):
            return False
        mine = (turns.c.owner == self._owner, turns.c.id == turn_id, turns.c.ended.is_(None))

        def work(connection: Connection) -> bool:
            return connection.execute(update(turns).where(*mine).values(cancel_requested=True)).rowcount == 1

        return await self._database.write(work)

    async def watch_turn(self, turn: StoredTurn, *, seconds: float) -> None:
        """See ``StoreWithJournal``."""
        mine = (turns.c.seq == turn.number, turns.c.owner == self._owner, turns.c.ended.is_(None))

        def work(connection: Connection) -> None:
            connection.execute(update(turns).where(*mine).values(watched_until=self._now + seconds))

        await self._database.write(work)

    async def turn_changed(self, page: TurnPage, *, seconds: float) -> None:
        """See ``StoreWithJournal``."""
        await self._database.changes.wait(page.turn.number, page.mark, seconds)

    async def find_node(self, node_id: str) -> tuple[str, ConversationNode] | None:
        """See ``StoreWithJournal``."""
        mine = (nodes.c.owner == self._owner, nodes.c.id == node_id)
        wanted = select(nodes.c.seq, nodes.c.body, conversations.c.id).join(
            conversations, conversations.c.seq == nodes.c.conversation
        )

        def work(connection: Connection) -> tuple[str, ConversationNode] | None:
            row = connection.execute(wanted.where(*mine).order_by(nodes.c.seq.desc()).limit(1)).one_or_none()
            if row is None:
                return None
            (node,) = nodes_of(connection, self._owner, {row.seq: row.body})
            return row.id, node

        return await self._database.read(work) if storable(node_id) else None

    async def expire_turns(self) -> None:
        """See ``StoreWithJournal``."""
        over = turns.c.expires < self._now

        def found(connection: Connection) -> bool:
            return connection.scalar(select(turns.c.seq).where(over).limit(1)) is not None

        if await self._database.read(found):
            await self._database.write(lambda connection: forget_turns(connection, over))

    def _forget_turns_of(self, connection: Connection, conversation_id: str) -> None:
        """Delete the turns of a conversation whose row is locked."""
        forget_turns(connection, turns.c.owner == self._owner, turns.c.conversation == conversation_id)

    def _keep_events(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write batches. One that begins where an earlier one did takes its place: its events are the same and perhaps
        more, because the commit of the earlier one was taken for failed when its answer was lost."""
        if rows:
            connection.execute(self._statements.keep_events, rows)

    def _notify(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Wake the readers of turns in other processes, with the numbers of the turns alone."""
        if self._database.changes.notifies:
            for first in range(0, len(numbers), _NUMBERS):
                said = " ".join(map(str, numbers[first : first + _NUMBERS]))
                connection.execute(select(func.pg_notify(CHANNEL, said)))

    @property
    def _statements(self) -> Statements:
        return statements_for(is_sqlite=self._database.is_sqlite)

    @property
    def _now(self) -> ColumnElement[float]:
        return self._statements.now

    def _turn_rows(self) -> Select[Any]:
        expired = (turns.c.lease_until < self._now).label("expired")
        return select(turns, expired).where(turns.c.owner == self._owner)

    def _turn(self, connection: Connection, row: Any) -> StoredTurn:
        """Return the turn of a row."""
        draft = self._drafts.get((row.seq, row.epoch))
        if draft is None and attachments.is_marked(row.draft):
            contents = files.of_turns(connection, self._owner, [row.seq]).get(row.seq, {})
            draft = off_loop(connection, partial(attachments.decoded, row.draft, contents))
            self._drafts[row.seq, row.epoch] = draft
        return _turn(row, draft or ConversationNode.model_validate_json(row.draft))


def forget_turns(connection: Connection, *which: ColumnElement[bool]) -> None:
    """Delete turns and their events."""
    in_order = select(turns.c.seq).where(*which).order_by(turns.c.seq).with_for_update()
    numbers = list(connection.scalars(in_order))
    for first in range(0, len(numbers), _NUMBERS):
        some = numbers[first : first + _NUMBERS]
        files.forget_of_turns(connection, some)
        connection.execute(delete(turn_events).where(turn_events.c.turn.in_(some)))
        connection.execute(delete(turns).where(turns.c.seq.in_(some)))


def _columns(writer: TurnWriter) -> dict[str, Any]:
    return {"writer": writer.id, "host": writer.host, "pid": writer.pid, "started": writer.started}


def _turn(row: Any, draft: ConversationNode) -> StoredTurn:
    return StoredTurn(
        number=row.seq,
        id=row.id,
        conversation_id=row.conversation,
        epoch=row.epoch,
        draft=draft,
        target=None if row.target is None else Origin.model_validate_json(row.target),
        writer=TurnWriter(id=row.writer, host=row.host, pid=row.pid, started=row.started),
        expired=bool(row.expired),
        ended=row.ended is not None,
    )


async def _rows(batches: Sequence[TurnBatch]) -> list[dict[str, Any]]:
    """Return the rows of batches without their epochs, written in a thread where that takes long."""
    is_large = sum(len(batch.events) for batch in batches) > _MANY or any(
        any(map(_has_content, pieces_of(batch.events))) for batch in batches
    )
    return await to_thread.run_sync(_written, batches) if is_large else _written(batches)


def _has_content(event: StreamEvent | DeltaRun) -> bool:
    """Whether an event may be megabytes large."""
    if isinstance(event, ToolEnd):
        return attachments.has_large_file((event.result,))
    return isinstance(event, PartEnd) and isinstance(event.part, FilePart | HostedToolPart)


def _written(batches: Sequence[TurnBatch]) -> list[dict[str, Any]]:
    return [
        {
            "turn": batch.turn,
            "first_seq": batch.first_seq,
            "number": len(batch.events),
            "events": event_lines(batch.events),
        }
        for batch in batches
    ]
