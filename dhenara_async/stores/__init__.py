"""Where conversations are kept. ``ConversationStore`` is the seam; ``MemoryStore`` is the one that needs nothing."""

from typing import Protocol

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import UnknownConversationError


class ConversationStore(Protocol):
    """Keeps nodes; only ever adds."""

    async def create(self, conversation_id: str) -> None:
        """Make room for a conversation; harmless if it exists."""
        ...

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """Keep one more turn."""
        ...

    async def load(self, conversation_id: str) -> Conversation:
        """The conversation with every turn that was kept.

        Raises:
            UnknownConversationError: It was never created here.
        """
        ...


class MemoryStore:
    """Keeps conversations for as long as the process lives."""

    def __init__(self) -> None:
        self._nodes: dict[str, list[ConversationNode]] = {}

    async def create(self, conversation_id: str) -> None:
        """See ``ConversationStore``."""
        self._nodes.setdefault(conversation_id, [])

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """See ``ConversationStore``."""
        self._nodes.setdefault(conversation_id, []).append(node)

    async def load(self, conversation_id: str) -> Conversation:
        """See ``ConversationStore``."""
        if conversation_id not in self._nodes:
            raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")
        return Conversation(conversation_id, nodes=self._nodes[conversation_id])
