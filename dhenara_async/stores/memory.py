"""``MemoryStore``: conversations in the memory of this process."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from types import MappingProxyType, TracebackType
from typing import Self

from pydantic import JsonValue

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import UnknownConversationError
from dhenara_async.stores.protocol import ConversationPage, StoredConversation


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Record:
    """One stored conversation; ``number`` counts conversations in the order of their creation."""

    number: int
    title: str | None
    metadata: Mapping[str, JsonValue]
    created: datetime = field(default_factory=_now)
    updated: datetime = field(default_factory=_now)
    nodes: dict[str, ConversationNode] = field(default_factory=dict[str, ConversationNode])
    head: str | None = None

    def listed(self, conversation_id: str) -> StoredConversation:
        metadata = deepcopy(self.metadata)
        return StoredConversation(conversation_id, self.title, metadata, self.created, self.updated)


class MemoryStore:
    """Stores conversations for as long as the process lives; closing it keeps them. See ``ConversationStore``."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}  # in the order of creation
        self._deleted: set[str] = set()
        self._numbers = count(1)

    async def create(
        self, conversation_id: str, *, title: str | None = None, metadata: Mapping[str, JsonValue] | None = None
    ) -> None:
        """See ``ConversationStore``."""
        self._deleted.discard(conversation_id)
        self._create(conversation_id, title, metadata or {})

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """See ``ConversationStore``."""
        if conversation_id in self._deleted:
            raise UnknownConversationError(f"conversation {conversation_id!r} was deleted; node {node.id} is not kept")
        record = self._create(conversation_id)
        stored = record.nodes.get(node.id)
        if stored is not None:
            if stored != node:
                raise ValueError(
                    f"conversation {conversation_id!r} already has a different node {node.id!r}; "
                    "nodes are never overwritten, so append this one under an id of its own"
                )
            return
        record.nodes[node.id] = node
        record.updated = _now()
        if node.status != "failed":
            record.head = node.id

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        """See ``ConversationStore``."""
        record = self._record(conversation_id)
        if node_id not in record.nodes:
            raise ValueError(f"conversation {conversation_id!r} has no node {node_id!r} in this store")
        record.head, record.updated = node_id, _now()

    async def load(self, conversation_id: str) -> Conversation:
        """See ``ConversationStore``."""
        record = self._record(conversation_id)
        return Conversation(conversation_id, nodes=record.nodes.values(), head=record.head)

    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        """See ``ConversationStore``."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; a page has at least 1 conversation")
        if before is not None and not before.isdecimal():
            raise ValueError("before is not a cursor of this store: pass the next of the page before")
        newest_first = reversed(self._records.items())
        older = (pair for pair in newest_first if before is None or pair[1].number < int(before))
        page = tuple(islice(older, limit))
        last = page[-1][1].number if page and next(older, None) is not None else None
        items = tuple(record.listed(conversation_id) for conversation_id, record in page)
        return ConversationPage(items, None if last is None else str(last))

    async def rename(self, conversation_id: str, title: str | None) -> None:
        """See ``ConversationStore``."""
        record = self._record(conversation_id)
        record.title, record.updated = title, _now()

    async def delete(self, conversation_id: str) -> None:
        """See ``ConversationStore``."""
        if self._records.pop(conversation_id, None) is not None:
            self._deleted.add(conversation_id)

    async def aclose(self) -> None:
        """Do nothing: the conversations stay, and there are no connections to release."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _create(
        self, conversation_id: str, title: str | None = None, metadata: Mapping[str, JsonValue] = MappingProxyType({})
    ) -> _Record:
        record = self._records.get(conversation_id)
        if record is None:
            record = self._records[conversation_id] = _Record(next(self._numbers), title, deepcopy(dict(metadata)))
        return record

    def _record(self, conversation_id: str) -> _Record:
        record = self._records.get(conversation_id)
        if record is None:
            raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")
        return record
