"""``ToolResults``: the results of tool calls, from the end of each call until a node has them."""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from dhenara_async.conversation import Conversation
from dhenara_async.messages.messages import ToolResultPart
from dhenara_async.stores import ConversationStore, StoreWithToolResults


class ToolResults:
    """Keeps the results of tool calls, so that a loop that was cut, in any process, runs none of them again.

    Args:
        store: The store of the conversations; where it cannot keep results, they are kept in this process.
    """

    def __init__(self, store: ConversationStore) -> None:
        self._store = store if isinstance(store, StoreWithToolResults) else None
        self._kept: WeakKeyDictionary[Conversation, dict[str, dict[int, ToolResultPart]]] = WeakKeyDictionary()

    async def keep(self, conversation: Conversation, node_id: str, place: int, result: ToolResultPart) -> None:
        """Keep a result.

        Args:
            conversation: Where the call was made.
            node_id: The id of the node whose answer has the call.
            place: The place of the call in the answer, from 0.
            result: The result.

        Raises:
            StoreError: It is not stored.
        """
        if self._store is not None:
            await self._store.keep_tool_result(conversation.id, node_id, place, result)
            return
        self._kept.setdefault(conversation, {}).setdefault(node_id, {})[place] = result

    async def of(self, conversation: Conversation, node_id: str) -> Mapping[int, ToolResultPart]:
        """Return the results of the calls of a node, by place.

        Raises:
            StoreError: The store failed.
        """
        if self._store is not None:
            return await self._store.tool_results(conversation.id, node_id)
        return self._kept.get(conversation, {}).get(node_id, {})
