"""``SQLStore``: the store on SQLite and PostgreSQL."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from weakref import WeakValueDictionary

from anyio import to_thread
from pydantic import JsonValue
from sqlalchemy import Connection, Integer, Row, column, delete, insert, select, table, text, update

from dhenara_async.conversation import Conversation, ConversationNode, LoadedTurns
from dhenara_async.errors import ConfigurationError, StoreError, UnknownConversationError
from dhenara_async.frozen import shortened
from dhenara_async.stores.outline import ConversationOutline
from dhenara_async.stores.protocol import ConversationPage, StoredConversation
from dhenara_async.stores.search import SearchHit, asked_words, demand_cursor, demand_limit, snippet, words_of
from dhenara_async.stores.sql import attachments, files, loading
from dhenara_async.stores.sql.address import database_url
from dhenara_async.stores.sql.database import Database
from dhenara_async.stores.sql.journal import JournalTables
from dhenara_async.stores.sql.loading import Found, Sums
from dhenara_async.stores.sql.sqlite import JournalMode
from dhenara_async.stores.sql.statements import (
    CONVERSATION,
    FORGET_TOMBSTONE,
    INSERT_NODE,
    LOCKED_CONVERSATION,
    MOVE_HEAD,
    MOVE_HEAD_AND_SUMS,
    NODE_BODY,
    NODE_NUMBER,
    TOMBSTONE,
)
from dhenara_async.stores.sql.tables import conversations, nodes, tombstones, tool_results
from dhenara_async.stores.sql.tool_results import ToolResultTable
from dhenara_async.stores.storable import demand_owner, demand_storable, demand_title, metadata_json, storable
from dhenara_async.usage.budget import Amount

T = TypeVar("T")
_MANY_TURNS: Final = 2_000  # of which a tree is built in a thread
_WORDS: Final = table("node_words", column("rowid", Integer))
_POSTGRES_INDEX: Final = "nodes.found @@ plainto_tsquery('simple', :asked)"


class SQLStore(JournalTables, ToolResultTable):
    """Stores conversations in an SQLite file or a PostgreSQL database. See ``ConversationStore``.

    It connects when it is first used, or at ``async with``, and again if it is used after ``aclose``. Any number of
    processes may use the same database. Threads with event loops of their own need a store each: one that two loops use
    at once raises a ``ConfigurationError``. An SQLite file is created and migrated by itself; a PostgreSQL database is
    migrated by ``dhenara-async db upgrade URL``.

    Deleted content is gone from the bytes of an SQLite file when ``delete`` returns. PostgreSQL keeps deleted rows
    until it vacuums the tables.

    Args:
        address: The path of an SQLite file, or a URL: ``sqlite:///…``, ``postgresql://…`` (psycopg) or
            ``postgresql+asyncpg://…``.
        owner: The owner of the conversations that it sees and creates; None = those without an owner. See ``scoped``.
        pooled: Whether a pooler such as pgbouncer stands between; no prepared statements then.
        journal: ``wal``, or ``delete`` for a file on a network file system that only one process uses.

    Raises:
        ConfigurationError: The address or the owner cannot be used.
    """

    def __init__(
        self,
        address: str | os.PathLike[str],
        *,
        owner: str | None = None,
        pooled: bool = False,
        journal: JournalMode = "wal",
    ) -> None:
        demand_owner(owner)
        self._database = Database(database_url(address), pooled=pooled, journal=journal)
        self._owner = owner or ""
        self._drafts: WeakValueDictionary[tuple[int, str], ConversationNode] = WeakValueDictionary()

    def __repr__(self) -> str:
        return shortened(f"SQLStore({self._database.name!r})")

    def scoped(self, owner: str | None) -> "SQLStore":
        """See ``StoreWithOwners``. The stores of all owners share their connections; closing one closes all."""
        scoped = object.__new__(SQLStore)
        demand_owner(owner)
        scoped._database, scoped._owner = self._database, owner or ""
        scoped._drafts = self._drafts
        return scoped

    async def create(
        self, conversation_id: str, *, title: str | None = None, metadata: Mapping[str, JsonValue] | None = None
    ) -> None:
        """See ``ConversationStore``.

        Raises:
            ConfigurationError: The id or the title has characters that no database can keep, or the metadata is no
                JSON.
        """
        await self._create(conversation_id, title, metadata, None)

    async def create_instructed(
        self,
        conversation_id: str,
        instructions: Sequence[str],
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """See ``StoreWithInstructions``.

        Raises:
            ConfigurationError: As ``create`` does.
        """
        await self._create(conversation_id, title, metadata, json.dumps(list(instructions)))

    async def _create(
        self,
        conversation_id: str,
        title: str | None,
        metadata: Mapping[str, JsonValue] | None,
        instructions: str | None,
    ) -> None:
        demand_storable(conversation_id, "the id of a conversation")
        demand_title(title)
        described = metadata_json(metadata)

        def work(connection: Connection) -> None:
            connection.execute(FORGET_TOMBSTONE, {"of_key": self._tombstone(conversation_id)})
            self._insert(connection, conversation_id, title, described, instructions)

        await self._database.write(work)

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """See ``ConversationStore``."""
        await self._database.write(await self._prepared(conversation_id, node), row=(self._owner, conversation_id))

    async def _prepared(self, conversation_id: str, node: ConversationNode) -> Callable[[Connection], None]:
        """Prepare a node for a transaction; return what appends it there."""
        for name in (conversation_id, node.id, node.parent_id or ""):
            demand_storable(name, "an id")
        words = words_of(node)
        body, contents = await attachments.encoded(node)

        def work(connection: Connection) -> None:
            row = self._locked(connection, conversation_id)
            if row is None:
                self._refuse_deleted(connection, conversation_id, node.id)
                if node.parent_id is not None:
                    raise _unknown(conversation_id)
                self._insert(connection, conversation_id, None, "{}", None)
                row = self._locked(connection, conversation_id)
                assert row is not None  # noqa: S101 - it was inserted in this transaction
            stored = connection.scalar(
                NODE_BODY, {"of_conversation": row.seq, "of_owner": self._owner, "of_id": node.id}
            )
            if stored is not None:
                if stored != body:
                    raise ConfigurationError(
                        f"conversation {conversation_id!r} already has a different node {node.id!r}; "
                        "nodes are never overwritten, so append this one under an id of its own"
                    )
                return
            if node.parent_id is not None:
                self._demand_node(connection, conversation_id, row.seq, node.parent_id)
            sums = loading.sums_of(connection, self._owner, row).plus(node)
            values = {
                "conversation": row.seq,
                "owner": self._owner,
                "id": node.id,
                "parent": node.parent_id,
                "status": node.status,
                "body": body,
                "words": words,
            }
            seq = connection.execute(INSERT_NODE, values).scalar_one()
            files.keep_for_node(connection, self._owner, seq, contents)
            self._move(connection, row, row.head if node.status == "failed" else node.id, sums)

        return work

    def _refuse_deleted(self, connection: Connection, conversation_id: str, node_id: str) -> None:
        """Refuse a node of a conversation that was deleted."""
        if connection.scalar(TOMBSTONE, {"of_key": self._tombstone(conversation_id)}) is not None:
            raise UnknownConversationError(f"conversation {conversation_id!r} was deleted; node {node_id} is not kept")

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        """See ``ConversationStore``."""

        def work(connection: Connection) -> None:
            row = self._locked(connection, conversation_id)
            if row is None:
                raise _unknown(conversation_id)
            self._demand_node(connection, conversation_id, row.seq, node_id)
            self._move(connection, row, node_id)

        self._demand_known(conversation_id)
        await self._database.write(work, row=(self._owner, conversation_id))

    async def load(self, conversation_id: str) -> Conversation:
        """See ``ConversationStore``."""

        def work(connection: Connection, row: Found) -> tuple[Found, Sequence[ConversationNode]]:
            return row, loading.all_nodes(connection, self._owner, row)

        row, loaded = await self._read(conversation_id, work)
        instructions = loading.instructions_of(row)

        def build() -> Conversation:
            return Conversation(conversation_id, nodes=loaded, head=row.head, instructions=instructions)

        return build() if len(loaded) < _MANY_TURNS else await to_thread.run_sync(build)

    async def load_path(self, conversation_id: str, node_id: str | None = None, *, others: int = 0) -> LoadedTurns:
        """See ``StoreWithPaths``."""

        def work(connection: Connection, row: Found) -> LoadedTurns:
            last = row.head if node_id is None else node_id
            loaded = loading.path(connection, self._owner, row, last, others)
            if loaded is None:
                raise _no_node(conversation_id, last)
            return loaded

        if node_id is not None and not storable(node_id):
            raise _no_node(conversation_id, node_id)
        return await self._read(conversation_id, work)

    async def load_children(self, conversation_id: str, node_id: str | None) -> LoadedTurns:
        """See ``StoreWithPaths``."""

        def work(connection: Connection, row: Found) -> LoadedTurns:
            if node_id is not None:
                self._demand_node(connection, conversation_id, row.seq, node_id)
            return loading.children(connection, self._owner, row, node_id)

        return await self._read(conversation_id, work)

    async def outline(self, conversation_id: str, *, after: str | None = None) -> ConversationOutline:
        """See ``StoreWithOutlines``."""

        def work(connection: Connection, row: Found) -> ConversationOutline:
            number = 0
            if after is not None:
                number = self._number_of(connection, conversation_id, row.seq, after)
            return ConversationOutline(tuple(loading.outlines(connection, self._owner, row, number)), row.head)

        return await self._read(conversation_id, work)

    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        """See ``ConversationStore``."""
        limit, last_seen = demand_limit(limit), demand_cursor(before)
        query = select(conversations).where(conversations.c.owner == self._owner)
        if last_seen is not None:
            query = query.where(conversations.c.seq < last_seen)
        query = query.order_by(conversations.c.seq.desc()).limit(limit + 1)

        def work(connection: Connection) -> Sequence[Row[Any]]:
            return connection.execute(query).all()

        rows = await self._database.read(work)
        items = tuple(_described(row) for row in rows[:limit])
        return ConversationPage(items, str(rows[limit - 1].seq) if len(rows) > limit else None)

    async def describe(self, conversation_id: str) -> StoredConversation:
        """See ``StoreWithDescriptions``."""
        self._demand_known(conversation_id)
        mine = (conversations.c.owner == self._owner, conversations.c.id == conversation_id)
        query = select(conversations).where(*mine)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise _unknown(conversation_id)
        return _described(row)

    async def search(self, query: str, *, limit: int = 20) -> tuple[SearchHit, ...]:
        """See ``StoreWithSearch``."""
        limit = demand_limit(limit)
        words = asked_words(query)
        if not words:
            return ()
        found = select(conversations.c.id.label("conversation"), conversations.c.title, nodes.c.id, nodes.c.words)
        if self._database.is_sqlite:
            asked = "words : (" + " AND ".join(f'"{word}"' for word in words) + ")"
            if any(character.isascii() and character.isalnum() for character in self._owner):
                quoted = self._owner.replace('"', '""')  # only to be fast: the statement compares the owner itself
                asked = f'owner : "{quoted}" AND {asked}'
            # The index gives the newest first, so it is read first and no further than the limit: the owner in an
            # expression keeps SQLite from reading all nodes of the owner by their own index instead.
            found = found.join_from(_WORDS, nodes, nodes.c.seq == _WORDS.c.rowid)
            matched, mine, newest = "node_words MATCH :asked", nodes.c.owner.concat("") == self._owner, _WORDS.c.rowid
        else:
            found, asked = found.select_from(nodes), " ".join(words)
            matched, mine, newest = _POSTGRES_INDEX, nodes.c.owner == self._owner, nodes.c.seq
        found = found.join(conversations, nodes.c.conversation == conversations.c.seq)
        found = found.where(text(matched).bindparams(asked=asked), mine, conversations.c.owner == self._owner)
        found = found.order_by(newest.desc()).limit(limit)

        def work(connection: Connection) -> Sequence[Row[str, str | None, str, str]]:
            return connection.execute(found).all()

        rows = await self._database.read(work)
        return tuple(SearchHit(row.conversation, row.id, row.title, snippet(row.words, words)) for row in rows)

    async def rename(self, conversation_id: str, title: str | None) -> None:
        """See ``ConversationStore``."""
        demand_title(title)

        def work(connection: Connection) -> None:
            row = self._locked(connection, conversation_id)
            if row is None:
                raise _unknown(conversation_id)
            mine = (conversations.c.seq == row.seq, conversations.c.owner == self._owner)
            connection.execute(update(conversations).where(*mine).values(title=title, updated=_now()))

        self._demand_known(conversation_id)
        await self._database.write(work, row=(self._owner, conversation_id))

    async def delete(self, conversation_id: str) -> None:
        """See ``ConversationStore``.

        Raises:
            StoreError: It is deleted, and its words are still in SQLite's log because another process reads it.
        """

        def work(connection: Connection) -> bool:
            row = self._locked(connection, conversation_id)
            if row is None:
                return False
            mine = (nodes.c.conversation == row.seq, nodes.c.owner == self._owner)
            self._forget_turns_of(connection, conversation_id)
            files.forget_of_conversation(connection, self._owner, row.seq)
            connection.execute(delete(nodes).where(*mine))
            kept = (tool_results.c.owner == self._owner, tool_results.c.conversation == conversation_id)
            connection.execute(delete(tool_results).where(*kept))
            connection.execute(
                delete(conversations).where(conversations.c.seq == row.seq, conversations.c.owner == self._owner)
            )
            connection.execute(insert(tombstones).values(key=self._tombstone(conversation_id)))
            if self._database.is_sqlite:  # until it is merged, the index keeps the words of deleted rows
                connection.execute(text("INSERT INTO node_words(node_words) VALUES ('optimize')"))
            return True

        if storable(conversation_id) and await self._database.write(work, row=(self._owner, conversation_id)):
            await self._database.truncate_log()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._database.aclose()

    async def __aenter__(self) -> Self:
        await self._database.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _insert(
        self,
        connection: Connection,
        conversation_id: str,
        title: str | None,
        described: str,
        instructions: str | None,
    ) -> None:
        """Insert a conversation, unless it exists."""
        now = _now()
        values = {
            "owner": self._owner,
            "id": conversation_id,
            "title": title,
            "metadata": described,
            "instructions": instructions,
            "version": 0,
            "created": now,
            "updated": now,
            **Sums(0, Amount()).columns(),
        }
        connection.execute(self._statements.insert_conversation, values)

    async def _read(self, conversation_id: str, work: Callable[[Connection, Found], T]) -> T:
        """Run ``work`` on the row of a conversation."""

        def found(connection: Connection) -> T:
            row = connection.execute(CONVERSATION, {"of_owner": self._owner, "of_id": conversation_id}).one_or_none()
            if row is None:
                raise _unknown(conversation_id)
            return work(connection, row)

        self._demand_known(conversation_id)
        return await self._database.read(found)

    def _locked(self, connection: Connection, conversation_id: str) -> Found | None:
        """The conversation's row, locked until the end of the transaction, so that heads move in the order of nodes."""
        mine = {"of_owner": self._owner, "of_id": conversation_id}
        if self._database.is_sqlite:  # which has locked everything
            return connection.execute(CONVERSATION, mine).one_or_none()
        line = int.from_bytes(bytes.fromhex(self._tombstone(conversation_id))[:8], signed=True)
        return connection.execute(LOCKED_CONVERSATION, mine | {"of_line": line}).one_or_none()

    def _demand_node(self, connection: Connection, conversation_id: str, seq: int, node_id: str) -> None:
        """Refuse the id of a node that is not in the conversation."""
        self._number_of(connection, conversation_id, seq, node_id)

    def _number_of(self, connection: Connection, conversation_id: str, seq: int, node_id: str) -> int:
        """Return the number of a node in the order of all nodes.

        Raises:
            ConfigurationError: The conversation does not have it.
        """
        mine = {"of_conversation": seq, "of_owner": self._owner, "of_id": node_id}
        number = connection.scalar(NODE_NUMBER, mine) if storable(node_id) else None
        if number is None:
            raise _no_node(conversation_id, node_id)
        return int(number)

    def _move(self, connection: Connection, row: Found, head: str | None, sums: Sums | None = None) -> None:
        """Set the head, if it is still the one that was read, and the sums, if they have changed."""
        parameters = {
            "of_seq": row.seq,
            "of_owner": self._owner,
            "of_version": row.version,
            "new_head": head,
            "new_updated": _now(),
        }
        if sums is not None:
            parameters |= {f"new_{name}": value for name, value in sums.columns().items()}
        moved = connection.execute(MOVE_HEAD if sums is None else MOVE_HEAD_AND_SUMS, parameters)
        if moved.rowcount != 1:
            raise StoreError(
                "the head of the conversation was moved by a statement of somebody else; nothing is stored"
            )

    def _demand_known(self, conversation_id: str) -> None:
        """Refuse an id that no database can keep as one that does not exist."""
        if not storable(conversation_id):
            raise _unknown(conversation_id)

    def _tombstone(self, conversation_id: str) -> str:
        return sha256(json.dumps([self._owner, conversation_id]).encode()).hexdigest()


def _unknown(conversation_id: str) -> UnknownConversationError:
    return UnknownConversationError(f"no conversation {conversation_id!r} in this store")


def _no_node(conversation_id: str, node_id: str | None) -> ConfigurationError:
    return ConfigurationError(f"conversation {conversation_id!r} has no node {node_id!r} in this store")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _described(row: Row[Any]) -> StoredConversation:
    """Return a row of conversations as the list shows it."""
    created, updated = datetime.fromisoformat(row.created), datetime.fromisoformat(row.updated)
    return StoredConversation(row.id, row.title, json.loads(row.metadata), created, updated)
