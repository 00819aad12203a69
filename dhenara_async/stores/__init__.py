"""Where conversations are stored: the protocol ``ConversationStore``, and ``MemoryStore``, which needs no database.

To write a store of your own, implement ``ConversationStore`` and test it with ``testing.check_store``.
"""

from dhenara_async.stores.memory import MemoryStore
from dhenara_async.stores.protocol import ConversationPage, ConversationStore, StoredConversation

__all__ = ["ConversationPage", "ConversationStore", "MemoryStore", "StoredConversation"]
