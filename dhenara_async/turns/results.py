"""``ToolResults``: the results of tool calls, from the end of each call until a node has them."""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from dhenara_async.conversation import Conversation
from dhenara_async.messages.messages import ToolResultPart


class ToolResults:
    """Keeps the results of tool calls whose loop was cut before a model was shown them."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Conversation, dict[str, dict[int, ToolResultPart]]] = WeakKeyDictionary()

    async def keep(self, conversation: Conversation, node_id: str, place: int, result: ToolResultPart) -> None:
        """Keep a result.

        Args:
            conversation: Where the call was made.
            node_id: The id of the node whose answer has the call.
            place: The place of the call in the answer, from 0.
            result: The result.
        """
        self._kept.setdefault(conversation, {}).setdefault(node_id, {})[place] = result

    async def of(self, conversation: Conversation, node_id: str) -> Mapping[int, ToolResultPart]:
        """Return the results of the calls of a node, by place."""
        return self._kept.get(conversation, {}).get(node_id, {})
