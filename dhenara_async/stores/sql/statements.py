"""The statements that every turn needs, built once.

To build a statement of SQLAlchemy takes several times as long as SQLite needs to run it. Parameters begin with ``of_``
where they choose rows, and with ``new_`` where they are values.
"""

from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Double,
    Executable,
    Select,
    Text,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from dhenara_async.stores.sql.tables import conversations, nodes, tombstones, turn_events, turns

_SQLITE_NOW: Final = "((julianday('now') - 2440587.5) * 86400.0)"
_POSTGRES_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"

_MY_CONVERSATION: Final = (conversations.c.owner == bindparam("of_owner"), conversations.c.id == bindparam("of_id"))
_MY_NODE: Final = (
    nodes.c.conversation == bindparam("of_conversation"),
    nodes.c.owner == bindparam("of_owner"),
    nodes.c.id == bindparam("of_id"),
)

CONVERSATION: Final = select(
    *(conversations.c.seq, conversations.c.head, conversations.c.version, conversations.c.instructions),
    *(conversations.c.turns, conversations.c.tokens, conversations.c.money),
).where(*_MY_CONVERSATION)
"""The row of a conversation."""

_LINE: Final = select(func.pg_advisory_xact_lock(bindparam("of_line"))).cte("line")
LOCKED_CONVERSATION: Final = CONVERSATION.join_from(conversations, _LINE, true()).with_for_update(of=conversations)
"""The same in PostgreSQL, locked until the end of the transaction.

A transaction that waits for a row that changes again and again may wait for ever: the row that it is given has a newer
version then, which another transaction has locked. Waiters for an advisory lock are served in order.
"""

TOMBSTONE: Final = select(tombstones.c.key).where(tombstones.c.key == bindparam("of_key"))
"""The mark of a deleted conversation."""

FORGET_TOMBSTONE: Final = delete(tombstones).where(tombstones.c.key == bindparam("of_key"))

NODE_NUMBER: Final = select(nodes.c.seq).where(*_MY_NODE)
NODE_BODY: Final = select(nodes.c.body).where(*_MY_NODE)
INSERT_NODE: Final = insert(nodes).returning(nodes.c.seq)

_MOVED: Final = (
    update(conversations)
    .where(
        conversations.c.seq == bindparam("of_seq"),
        conversations.c.owner == bindparam("of_owner"),
        conversations.c.version == bindparam("of_version"),
    )
    .values(head=bindparam("new_head"), version=conversations.c.version + 1, updated=bindparam("new_updated"))
)
MOVE_HEAD: Final = _MOVED
"""Sets the head of a conversation, if its version is the one that was read."""
MOVE_HEAD_AND_SUMS: Final = _MOVED.values(
    turns=bindparam("new_turns"), tokens=bindparam("new_tokens"), money=bindparam("new_money")
)


class Statements:
    """The statements that each kind of database has its own words for.

    Args:
        is_sqlite: For which database.
    """

    def __init__(self, *, is_sqlite: bool) -> None:
        dialect_insert = sqlite_insert if is_sqlite else postgres_insert
        now: ColumnElement[float] = literal_column(_SQLITE_NOW if is_sqlite else _POSTGRES_NOW, Double[float]())
        self.now: ColumnElement[float] = now
        lease_until = now + bindparam("new_lease", type_=Double)
        number, owner = bindparam("of_turn", type_=turns.c.seq.type), bindparam("of_owner", type_=Text)
        writer = bindparam("of_writer", type_=Text)

        new = dialect_insert(conversations)
        self.insert_conversation: Executable = new.on_conflict_do_nothing(index_elements=["owner", "id"])

        # One statement does it all: a turn costs as little as it can before its first request.
        inside = select(conversations.c.seq).where(*_MY_CONVERSATION).scalar_subquery()
        known = select(nodes.c.seq).where(nodes.c.conversation == inside, nodes.c.id == bindparam("of_node"))
        columns = [column for column in turns.c if column.name not in ("seq", "ended", "expires")]
        values: dict[str, ColumnElement[Any]] = {
            column.name: bindparam(f"new_{column.name}", type_=column.type) for column in columns
        } | {"lease_until": lease_until}
        given: Select[Any] = select(*values.values()).where(~(exists(known) | exists(TOMBSTONE)))
        row = dialect_insert(turns).from_select(list(values), given, include_defaults=False)
        self.begin: Executable = row.on_conflict_do_nothing(index_elements=["owner", "id"]).returning(turns.c.seq)

        read = (turns.c.watched_until > now).label("read")
        mine = (turns.c.writer == writer, turns.c.ended.is_(None))
        in_order = select(turns.c.seq).where(*mine).order_by(turns.c.seq).with_for_update()
        renewed = update(turns).where(turns.c.seq.in_(in_order), *mine).values(lease_until=lease_until)
        self.renew: Executable = renewed.returning(turns.c.seq, turns.c.epoch, turns.c.cancel_requested, read)

        batch = dialect_insert(turn_events)
        later = {"number": batch.excluded.number, "events": batch.excluded.events}
        self.keep_events: Executable = batch.on_conflict_do_update(
            index_elements=["turn", "epoch", "first_seq"], set_=later
        )

        counted = select(func.coalesce(func.max(turn_events.c.first_seq + turn_events.c.number), 0))
        kept = counted.where(turn_events.c.turn == number).scalar_subquery()
        last = func.coalesce(bindparam("new_last", type_=turns.c.last_seq.type), kept)
        self.end: Executable = (
            update(turns)
            .where(turns.c.seq == number, turns.c.owner == owner, *mine)
            .values(ended=now, expires=now + bindparam("new_keep", type_=Double), last_seq=last)
            .returning(read)
        )

        one = (turns.c.owner == owner, turns.c.id == bindparam("of_id"))
        self.turn: Executable = select(turns, (turns.c.lease_until < now).label("expired")).where(*one)
        of_turn = (turn_events.c.turn == number, turn_events.c.epoch == bindparam("of_epoch"))
        later_ones = turn_events.c.first_seq + turn_events.c.number > bindparam(
            "of_first", type_=turn_events.c.first_seq.type
        )
        events = select(turn_events.c.first_seq, turn_events.c.events).where(*of_turn, later_ones)
        self.events: Executable = events.order_by(turn_events.c.first_seq)


@cache
def statements_for(*, is_sqlite: bool) -> Statements:
    """Return the statements for a database."""
    return Statements(is_sqlite=is_sqlite)
