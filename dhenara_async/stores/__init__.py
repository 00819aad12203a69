"""Where conversations are stored: the protocol ``ConversationStore``, ``MemoryStore`` and ``SQLStore``.

``MemoryStore`` needs no database. ``SQLStore`` is loaded when it is first used, and needs the extra ``sql`` (SQLite) or
``postgres``. To write a store of your own, implement ``ConversationStore`` and test it with ``testing.check_store``.
"""

from typing import TYPE_CHECKING

from dhenara_async.conversation import LoadedTurns
from dhenara_async.errors import MissingExtraError
from dhenara_async.stores.journal import (
    NewTurn,
    StoredTurn,
    StoreWithJournal,
    TurnBatch,
    TurnPage,
    TurnState,
    TurnWriter,
)
from dhenara_async.stores.memory import MemoryStore
from dhenara_async.stores.outline import ConversationOutline, NodeOutline
from dhenara_async.stores.protocol import (
    ConversationPage,
    ConversationStore,
    StoredConversation,
    StoreWithDescriptions,
    StoreWithInstructions,
    StoreWithOutlines,
    StoreWithOwners,
    StoreWithPaths,
    StoreWithSearch,
    StoreWithToolResults,
)
from dhenara_async.stores.search import SearchHit

if TYPE_CHECKING:
    from dhenara_async.stores.sql import SQLStore

__all__ = [
    "ConversationOutline",
    "ConversationPage",
    "ConversationStore",
    "LoadedTurns",
    "MemoryStore",
    "NewTurn",
    "NodeOutline",
    "SQLStore",
    "SearchHit",
    "StoreWithDescriptions",
    "StoreWithInstructions",
    "StoreWithJournal",
    "StoreWithOutlines",
    "StoreWithOwners",
    "StoreWithPaths",
    "StoreWithSearch",
    "StoreWithToolResults",
    "StoredConversation",
    "StoredTurn",
    "TurnBatch",
    "TurnPage",
    "TurnState",
    "TurnWriter",
]


def __getattr__(name: str) -> object:
    if name != "SQLStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from dhenara_async.stores.sql import SQLStore
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in {"sqlalchemy", "alembic", "greenlet"}:
            raise
        raise MissingExtraError("SQLStore", extra="sql") from exc
    return SQLStore
