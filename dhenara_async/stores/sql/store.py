"""``SQLStore``: the store on SQLite and PostgreSQL."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Self

from anyio import to_thread
from pydantic import JsonValue
from sqlalchemy import Row, Select, delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError, StoreError, UnknownConversationError
from dhenara_async.frozen import shortened
from dhenara_async.stores.protocol import ConversationPage, StoredConversation
from dhenara_async.stores.search import SearchHit, asked_words, snippet, words_of
from dhenara_async.stores.sql import attachments
from dhenara_async.stores.sql.address import database_url
from dhenara_async.stores.sql.database import Database
from dhenara_async.stores.sql.sqlite import JournalMode
from dhenara_async.stores.sql.tables import conversations, nodes, tombstones

_Found = Row[int, str | None, int, str | None]  # seq, head, version, instructions
_SQLITE_INDEX: Final = "nodes.seq IN (SELECT rowid FROM node_words WHERE node_words MATCH :asked)"
_POSTGRES_INDEX: Final = "nodes.found @@ plainto_tsquery('simple', :asked)"
_LARGE_LOAD: Final = 200_000  # characters of nodes from which they are read in a thread


class SQLStore:
    """Stores conversations in an SQLite file or a PostgreSQL database. See ``ConversationStore``.

    It connects when it is first used, or at ``async with``, and again if it is used after ``aclose``. Any number of
    processes may use the same database. An SQLite file is created and migrated by itself; a PostgreSQL database is
    migrated by ``dhenara-async db upgrade URL``.

    What is deleted from an SQLite file is gone from its bytes when ``delete`` returns. PostgreSQL keeps deleted rows
    until it vacuums the tables.

    Args:
        address: The path of an SQLite file, or a URL: ``sqlite:///…``, ``postgresql://…`` (psycopg) or
            ``postgresql+asyncpg://…``.
        owner: Whose conversations it sees and creates; None = those without an owner. See ``scoped``.
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
        self._database = Database(database_url(address), pooled=pooled, journal=journal)
        self._owner = _checked_owner(owner)

    def __repr__(self) -> str:
        return shortened(f"SQLStore({self._database.name!r})")

    def scoped(self, owner: str | None) -> "SQLStore":
        """See ``StoreWithOwners``. The stores of all owners share their connections; closing one closes all."""
        scoped = object.__new__(SQLStore)
        scoped._database, scoped._owner = self._database, _checked_owner(owner)
        return scoped

    async def create(
        self, conversation_id: str, *, title: str | None = None, metadata: Mapping[str, JsonValue] | None = None
    ) -> None:
        """See ``ConversationStore``.

        Raises:
            ConfigurationError: The id or the title has characters that no database can keep, or the metadata is no
                JSON.
        """
        _demand_storable(conversation_id, "the id of a conversation")
        _demand_storable(title or "", "the title of a conversation")
        await self._create(conversation_id, title, _json(metadata or {}), None)

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
        _demand_storable(conversation_id, "the id of a conversation")
        _demand_storable(title or "", "the title of a conversation")
        await self._create(conversation_id, title, _json(metadata or {}), json.dumps(list(instructions)))

    async def _create(self, conversation_id: str, title: str | None, described: str, instructions: str | None) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(tombstones).where(tombstones.c.key == self._tombstone(conversation_id)))
            await self._insert(connection, conversation_id, title, described, instructions)

        await self._database.write(work)

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """See ``ConversationStore``."""
        for name in (conversation_id, node.id, node.parent_id or ""):
            _demand_storable(name, "an id")
        words = words_of(node)
        body, contents = attachments.take_out(node, node.model_dump_json())

        async def work(connection: AsyncConnection) -> None:
            row = await self._locked(connection, conversation_id)
            if row is None:
                key = self._tombstone(conversation_id)
                if await connection.scalar(select(tombstones.c.key).where(tombstones.c.key == key)) is not None:
                    raise UnknownConversationError(
                        f"conversation {conversation_id!r} was deleted; node {node.id} is not kept"
                    )
                if node.parent_id is not None:
                    raise _unknown(conversation_id)
                await self._insert(connection, conversation_id, None, "{}", None)
                row = await self._locked(connection, conversation_id)
                assert row is not None  # noqa: S101 - it was inserted in this transaction
            stored = await connection.scalar(
                select(nodes.c.body).where(
                    nodes.c.conversation == row.seq, nodes.c.owner == self._owner, nodes.c.id == node.id
                )
            )
            if stored is not None:
                if stored != body:
                    raise ValueError(
                        f"conversation {conversation_id!r} already has a different node {node.id!r}; "
                        "nodes are never overwritten, so append this one under an id of its own"
                    )
                return
            if node.parent_id is not None:
                await self._demand_node(connection, conversation_id, row.seq, node.parent_id)
            values = {"id": node.id, "parent": node.parent_id, "status": node.status, "body": body, "words": words}
            inserted = insert(nodes).values(conversation=row.seq, owner=self._owner, **values).returning(nodes.c.seq)
            seq = (await connection.execute(inserted)).scalar_one()
            await attachments.keep(connection, self._owner, seq, contents, is_sqlite=self._database.is_sqlite)
            await self._move(connection, row.seq, row.head if node.status == "failed" else node.id, row.version)

        await self._database.write(work)

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        """See ``ConversationStore``."""

        async def work(connection: AsyncConnection) -> None:
            row = await self._locked(connection, conversation_id)
            if row is None:
                raise _unknown(conversation_id)
            await self._demand_node(connection, conversation_id, row.seq, node_id)
            await self._move(connection, row.seq, node_id, row.version)

        self._demand_known(conversation_id)
        await self._database.write(work)

    async def load(self, conversation_id: str) -> Conversation:
        """See ``ConversationStore``."""

        return await self._load(conversation_id, lambda seq, _: self._all(seq))

    async def load_path(self, conversation_id: str) -> Conversation:
        """See ``StoreWithPaths``."""
        return await self._load(conversation_id, self._path)

    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        """See ``ConversationStore``."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; a page has at least 1 conversation")
        if before is not None and not (before.isascii() and before.isdecimal() and len(before) < 19):
            raise ValueError("before is not a cursor of this store: pass the next of the page before")
        limit = min(limit, 1_000_000)
        query = select(conversations).where(conversations.c.owner == self._owner)
        if before is not None:
            query = query.where(conversations.c.seq < int(before))
        query = query.order_by(conversations.c.seq.desc()).limit(limit + 1)

        async def work(connection: AsyncConnection) -> Sequence[Row[Any]]:
            return (await connection.execute(query)).all()

        rows = await self._database.read(work)
        items = tuple(
            StoredConversation(
                row.id,
                row.title,
                json.loads(row.metadata),
                datetime.fromisoformat(row.created),
                datetime.fromisoformat(row.updated),
            )
            for row in rows[:limit]
        )
        return ConversationPage(items, str(rows[limit - 1].seq) if len(rows) > limit else None)

    async def search(self, query: str, *, limit: int = 20) -> tuple[SearchHit, ...]:
        """See ``StoreWithSearch``."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; it is at least 1")
        words = asked_words(query)
        if not words:
            return ()
        found = select(conversations.c.id.label("conversation"), conversations.c.title, nodes.c.id, nodes.c.words)
        found = found.join_from(nodes, conversations, nodes.c.conversation == conversations.c.seq)
        mine = (nodes.c.owner == self._owner, conversations.c.owner == self._owner)
        found = found.where(*mine).order_by(nodes.c.seq.desc()).limit(min(limit, 1_000_000))
        if self._database.is_sqlite:
            index, asked = _SQLITE_INDEX, "words : (" + " AND ".join(f'"{word}"' for word in words) + ")"
            if any(character.isascii() and character.isalnum() for character in self._owner):
                quoted = self._owner.replace('"', '""')  # only to be fast: the statement compares the owner itself
                asked = f'owner : "{quoted}" AND {asked}'
        else:
            index, asked = _POSTGRES_INDEX, " ".join(words)
        found = found.where(text(index).bindparams(asked=asked))

        async def work(connection: AsyncConnection) -> Sequence[Row[str, str | None, str, str]]:
            return (await connection.execute(found)).all()

        rows = await self._database.read(work)
        return tuple(SearchHit(row.conversation, row.id, row.title, snippet(row.words, words)) for row in rows)

    async def rename(self, conversation_id: str, title: str | None) -> None:
        """See ``ConversationStore``."""
        _demand_storable(title or "", "the title of a conversation")

        async def work(connection: AsyncConnection) -> None:
            row = await self._locked(connection, conversation_id)
            if row is None:
                raise _unknown(conversation_id)
            mine = (conversations.c.seq == row.seq, conversations.c.owner == self._owner)
            await connection.execute(update(conversations).where(*mine).values(title=title, updated=_now()))

        self._demand_known(conversation_id)
        await self._database.write(work)

    async def delete(self, conversation_id: str) -> None:
        """See ``ConversationStore``.

        Raises:
            StoreError: It is deleted, and its words are still in SQLite's log because another process reads it.
        """

        async def work(connection: AsyncConnection) -> bool:
            row = await self._locked(connection, conversation_id)
            if row is None:
                return False
            mine = (nodes.c.conversation == row.seq, nodes.c.owner == self._owner)
            await attachments.forget(connection, self._owner, row.seq)
            await connection.execute(delete(nodes).where(*mine))
            await connection.execute(
                delete(conversations).where(conversations.c.seq == row.seq, conversations.c.owner == self._owner)
            )
            await connection.execute(insert(tombstones).values(key=self._tombstone(conversation_id)))
            if self._database.is_sqlite:  # until it is merged, the index keeps the words of deleted rows
                await connection.execute(text("INSERT INTO node_words(node_words) VALUES ('optimize')"))
            return True

        if _storable(conversation_id) and await self._database.write(work):
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

    async def _insert(
        self,
        connection: AsyncConnection,
        conversation_id: str,
        title: str | None,
        described: str,
        instructions: str | None,
    ) -> None:
        """Insert a conversation, unless it exists."""
        now = _now()
        dialect_insert = sqlite_insert if self._database.is_sqlite else postgres_insert
        row = dialect_insert(conversations).values(
            owner=self._owner,
            id=conversation_id,
            title=title,
            metadata=described,
            instructions=instructions,
            version=0,
            created=now,
            updated=now,
        )
        await connection.execute(row.on_conflict_do_nothing(index_elements=["owner", "id"]))

    async def _load(self, conversation_id: str, wanted: Callable[[int, str | None], Select[int, str]]) -> Conversation:
        async def work(connection: AsyncConnection) -> tuple[_Found, dict[int, str], dict[int, dict[str, bytes]]]:
            row = await self._found(connection, conversation_id)
            if row is None:
                raise _unknown(conversation_id)
            bodies = {row.seq: row.body for row in await connection.execute(wanted(row.seq, row.head))}
            return row, bodies, await attachments.read(connection, self._owner, bodies)

        self._demand_known(conversation_id)
        row, bodies, contents = await self._database.read(work)
        return await _conversation(conversation_id, row, bodies, contents)

    def _all(self, seq: int) -> Select[int, str]:
        """Select every node of a conversation, in order."""
        mine = (nodes.c.conversation == seq, nodes.c.owner == self._owner)
        return select(nodes.c.seq, nodes.c.body).where(*mine).order_by(nodes.c.seq)

    def _path(self, seq: int, head: str | None) -> Select[int, str]:
        """Select the nodes from the first to the head; parents have lower numbers than their children."""
        mine = (nodes.c.conversation == seq, nodes.c.owner == self._owner)
        path = select(nodes.c.seq, nodes.c.parent).where(*mine, nodes.c.id == head).cte("path", recursive=True)
        path = path.union_all(select(nodes.c.seq, nodes.c.parent).where(*mine, nodes.c.id == path.c.parent))
        return self._all(seq).where(nodes.c.seq.in_(select(path.c.seq)))

    async def _found(self, connection: AsyncConnection, conversation_id: str) -> _Found | None:
        return (await connection.execute(self._where(conversation_id))).one_or_none()

    async def _locked(self, connection: AsyncConnection, conversation_id: str) -> _Found | None:
        """The conversation's row, locked until the end of the transaction, so that heads move in the order of nodes."""
        return (await connection.execute(self._where(conversation_id).with_for_update())).one_or_none()

    def _where(self, conversation_id: str) -> Select[int, str | None, int, str | None]:
        row = select(conversations.c.seq, conversations.c.head, conversations.c.version, conversations.c.instructions)
        return row.where(conversations.c.owner == self._owner, conversations.c.id == conversation_id)

    async def _demand_node(self, connection: AsyncConnection, conversation_id: str, seq: int, node_id: str) -> None:
        """Refuse the id of a node that is not in the conversation."""
        mine = (nodes.c.conversation == seq, nodes.c.owner == self._owner, nodes.c.id == node_id)
        if not _storable(node_id) or await connection.scalar(select(nodes.c.seq).where(*mine)) is None:
            raise ValueError(f"conversation {conversation_id!r} has no node {node_id!r} in this store")

    async def _move(self, connection: AsyncConnection, seq: int, head: str | None, version: int) -> None:
        """Set the head, if it is still the one that was read."""
        mine = (conversations.c.seq == seq, conversations.c.owner == self._owner, conversations.c.version == version)
        moved = update(conversations).where(*mine).values(head=head, version=version + 1, updated=_now())
        if (await connection.execute(moved)).rowcount != 1:
            raise StoreError(
                "the head of the conversation was moved by a statement of somebody else; nothing is stored"
            )

    def _demand_known(self, conversation_id: str) -> None:
        """Refuse an id that no database can keep as one that does not exist."""
        if not _storable(conversation_id):
            raise _unknown(conversation_id)

    def _tombstone(self, conversation_id: str) -> str:
        return sha256(json.dumps([self._owner, conversation_id]).encode()).hexdigest()


async def _conversation(
    conversation_id: str, row: _Found, bodies: Mapping[int, str], contents: Mapping[int, Mapping[str, bytes]]
) -> Conversation:
    instructions = None if row.instructions is None else json.loads(row.instructions)

    def build() -> Conversation:
        whole = (attachments.put_back(body, contents.get(seq, {})) for seq, body in bodies.items())
        nodes = map(ConversationNode.model_validate_json, whole)
        return Conversation(conversation_id, nodes=nodes, head=row.head, instructions=instructions)

    return build() if sum(map(len, bodies.values())) < _LARGE_LOAD and not contents else await to_thread.run_sync(build)


def _unknown(conversation_id: str) -> UnknownConversationError:
    return UnknownConversationError(f"no conversation {conversation_id!r} in this store")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _json(metadata: Mapping[str, JsonValue]) -> str:
    try:
        return json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError("the metadata of a conversation is a JSON object") from exc


def _storable(text: str) -> bool:
    """Whether a database can keep ``text``: without NUL, and without lone surrogates, which have no UTF-8."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _demand_storable(text: str, what: str) -> None:
    if not _storable(text):
        raise ConfigurationError(f"{what} has a NUL or half a surrogate pair, which no database can keep")


def _checked_owner(owner: str | None) -> str:
    if owner == "":
        raise ConfigurationError(
            "the owner is empty: pass the id of a user, or None for conversations without an owner"
        )
    _demand_storable(owner or "", "the owner")
    return owner or ""
