"""``MemoryStore``: conversations in the memory of this process."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice, takewhile
from types import MappingProxyType, TracebackType
from typing import Self

from pydantic import JsonValue

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError, UnknownConversationError
from dhenara_async.messages.messages import ToolResultPart
from dhenara_async.stores.memory_turns import MemoryTurns, TurnTable
from dhenara_async.stores.outline import ConversationOutline, outline_of
from dhenara_async.stores.protocol import ConversationPage, StoredConversation
from dhenara_async.stores.search import SearchHit, asked_words, demand_cursor, demand_limit, matches, snippet, words_of
from dhenara_async.stores.storable import demand_owner, demand_storable, demand_title, metadata_json


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Record:
    """One stored conversation; ``number`` counts conversations in the order of their creation."""

    number: int
    title: str | None
    metadata: Mapping[str, JsonValue]
    instructions: tuple[str, ...] | None = None
    created: datetime = field(default_factory=_now)
    updated: datetime = field(default_factory=_now)
    nodes: dict[str, ConversationNode] = field(default_factory=dict[str, ConversationNode])
    head: str | None = None
    results: dict[tuple[str, int], ToolResultPart] = field(default_factory=dict[tuple[str, int], ToolResultPart])

    def listed(self, conversation_id: str) -> StoredConversation:
        metadata = deepcopy(self.metadata)
        return StoredConversation(conversation_id, self.title, metadata, self.created, self.updated)


class MemoryStore(MemoryTurns):
    """Stores conversations for as long as the process lives; closing it keeps them. See ``ConversationStore``."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}  # in the order of creation
        self._deleted: set[str] = set()
        self._numbers = count(1)
        self._order: dict[tuple[str, str], None] = {}  # every node, as (conversation, node), in the order of appending
        self._owners: dict[str | None, MemoryStore] = {None: self}  # shared by the stores of all owners
        self._owner: str | None = None
        self._turns = TurnTable()  # shared too

    def scoped(self, owner: str | None) -> "MemoryStore":
        """See ``StoreWithOwners``."""
        demand_owner(owner)
        if owner not in self._owners:
            store = self._owners[owner] = MemoryStore()
            store._owners, store._owner, store._turns = self._owners, owner, self._turns
        return self._owners[owner]

    def __repr__(self) -> str:
        return f"MemoryStore(conversations={len(self._records)})"

    async def create(
        self, conversation_id: str, *, title: str | None = None, metadata: Mapping[str, JsonValue] | None = None
    ) -> None:
        """See ``ConversationStore``."""
        self._create_again(conversation_id, title, metadata, None)

    async def create_instructed(
        self,
        conversation_id: str,
        instructions: Sequence[str],
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """See ``StoreWithInstructions``."""
        self._create_again(conversation_id, title, metadata, tuple(instructions))

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """See ``ConversationStore``."""
        for name in (conversation_id, node.id, node.parent_id or ""):
            demand_storable(name, "an id")
        self._refuse_deleted(conversation_id, node.id)
        if (
            node.parent_id is not None and self._owners[None] is not self
        ):  # without owners, hand-built histories may go on
            if conversation_id not in self._records:
                raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")
            if node.parent_id not in self._records[conversation_id].nodes:
                raise ConfigurationError(
                    f"conversation {conversation_id!r} has no node {node.parent_id!r} in this store"
                )
        record = self._create(conversation_id)
        stored = record.nodes.get(node.id)
        if stored is not None:
            if stored != node:
                raise ConfigurationError(
                    f"conversation {conversation_id!r} already has a different node {node.id!r}; "
                    "nodes are never overwritten, so append this one under an id of its own"
                )
            return
        record.nodes[node.id] = node
        self._order[conversation_id, node.id] = None
        record.updated = _now()
        if node.status != "failed":
            record.head = node.id

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        """See ``ConversationStore``."""
        record = self._record(conversation_id)
        if node_id not in record.nodes:
            raise ConfigurationError(f"conversation {conversation_id!r} has no node {node_id!r} in this store")
        record.head, record.updated = node_id, _now()

    async def load(self, conversation_id: str) -> Conversation:
        """See ``ConversationStore``."""
        record = self._record(conversation_id)
        nodes = record.nodes.values()
        return Conversation(conversation_id, nodes=nodes, head=record.head, instructions=record.instructions)

    async def outline(self, conversation_id: str, *, after: str | None = None) -> ConversationOutline:
        """See ``StoreWithOutlines``."""
        record = self._record(conversation_id)
        if after is not None and after not in record.nodes:
            raise ConfigurationError(f"conversation {conversation_id!r} has no node {after!r} in this store")
        newest_first = reversed(record.nodes.values())
        added = tuple(takewhile(lambda node: node.id != after, newest_first))
        return ConversationOutline(tuple(map(outline_of, reversed(added))), record.head)

    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        """See ``ConversationStore``."""
        limit, last_seen = demand_limit(limit), demand_cursor(before)
        newest_first = reversed(self._records.items())
        older = (pair for pair in newest_first if last_seen is None or pair[1].number < last_seen)
        page = tuple(islice(older, limit))
        last = page[-1][1].number if page and next(older, None) is not None else None
        items = tuple(record.listed(conversation_id) for conversation_id, record in page)
        return ConversationPage(items, None if last is None else str(last))

    async def describe(self, conversation_id: str) -> StoredConversation:
        """See ``StoreWithDescriptions``."""
        return self._record(conversation_id).listed(conversation_id)

    async def search(self, query: str, *, limit: int = 20) -> tuple[SearchHit, ...]:
        """See ``StoreWithSearch``. It reads every node."""
        limit = demand_limit(limit)
        words, hits = asked_words(query), list[SearchHit]()
        for conversation_id, node_id in reversed(self._order) if words else ():
            record = self._records[conversation_id]
            text = words_of(record.nodes[node_id])
            if matches(text, words):
                hits.append(SearchHit(conversation_id, node_id, record.title, snippet(text, words)))
                if len(hits) == limit:
                    break
        return tuple(hits)

    async def rename(self, conversation_id: str, title: str | None) -> None:
        """See ``ConversationStore``."""
        demand_title(title)
        record = self._record(conversation_id)
        record.title, record.updated = title, _now()

    async def delete(self, conversation_id: str) -> None:
        """See ``ConversationStore``."""
        record = self._records.pop(conversation_id, None)
        if record is not None:
            self._deleted.add(conversation_id)
            self._forget_turns_of(conversation_id)
            for node_id in record.nodes:
                self._order.pop((conversation_id, node_id), None)

    async def keep_tool_result(self, conversation_id: str, node_id: str, place: int, result: ToolResultPart) -> None:
        """See ``StoreWithToolResults``."""
        if conversation_id not in self._records:
            raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")
        self._records[conversation_id].results.setdefault((node_id, place), result)

    async def tool_results(self, conversation_id: str, node_id: str) -> Mapping[int, ToolResultPart]:
        """See ``StoreWithToolResults``."""
        record = self._records.get(conversation_id)
        kept = {} if record is None else record.results
        return {place: result for (node, place), result in kept.items() if node == node_id}

    async def find_node(self, node_id: str) -> tuple[str, ConversationNode] | None:
        """See ``StoreWithJournal``."""
        for conversation_id, known in reversed(self._order):
            if known == node_id:
                return conversation_id, self._records[conversation_id].nodes[node_id]
        return None

    async def aclose(self) -> None:
        """Do nothing: the conversations stay, and there are no connections to release."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _refuse_deleted(self, conversation_id: str, node_id: str) -> None:
        if conversation_id in self._deleted:
            raise UnknownConversationError(f"conversation {conversation_id!r} was deleted; node {node_id} is not kept")

    def _head_of(self, conversation_id: str) -> str | None:
        record = self._records.get(conversation_id)
        return None if record is None else record.head

    def _has_node(self, conversation_id: str, node_id: str) -> bool:
        return (conversation_id, node_id) in self._order

    def _create_again(
        self,
        conversation_id: str,
        title: str | None,
        metadata: Mapping[str, JsonValue] | None,
        instructions: tuple[str, ...] | None,
    ) -> None:
        """Create a conversation, also where one of that id was deleted."""
        demand_storable(conversation_id, "the id of a conversation")
        demand_title(title)
        described: dict[str, JsonValue] = json.loads(metadata_json(metadata))
        self._deleted.discard(conversation_id)
        self._create(conversation_id, title, described, instructions)

    def _create(
        self,
        conversation_id: str,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] = MappingProxyType({}),
        instructions: tuple[str, ...] | None = None,
    ) -> _Record:
        record = self._records.get(conversation_id)
        if record is None:
            record = _Record(next(self._numbers), title, dict(metadata), instructions)
            self._records[conversation_id] = record
        return record

    def _record(self, conversation_id: str) -> _Record:
        record = self._records.get(conversation_id)
        if record is None:
            raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")
        return record
