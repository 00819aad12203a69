"""Opens conversations from a store, a part of them if they are large, and loads other parts when they are needed."""

from typing import Final

from dhenara_async.calls.checks import check_conversation
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError
from dhenara_async.stores import ConversationStore, LoadedTurns, StoreWithPaths

OTHERS: Final = 100
"""Up to that many turns beside the path are loaded with it: most conversations are whole then."""


async def opened(store: ConversationStore, conversation_id: str, *, path_only: bool = False) -> Conversation:
    """Return a conversation: whole, or its path if the store can load a part and ``OTHERS`` more turns exist.

    Raises:
        UnknownConversationError: The store does not have it.
    """
    if not isinstance(store, StoreWithPaths):
        return await store.load(conversation_id)
    loaded = await store.load_path(conversation_id, others=0 if path_only else OTHERS)
    return Conversation.of_loaded(conversation_id, loaded)


async def load_node(store: ConversationStore, conversation: Conversation, node_id: str) -> ConversationNode:
    """Return a turn; if it is not loaded, it and the turns before it are loaded first.

    Raises:
        ConfigurationError: The conversation has no such turn.
        UnknownConversationError: The store does not have the conversation.
    """
    check_conversation(conversation)
    if conversation.get(node_id) is None and not conversation.complete and isinstance(store, StoreWithPaths):
        try:
            conversation.add_loaded(await store.load_path(conversation.id, node_id))
        except ValueError as exc:
            raise _no_turn(node_id) from exc
    return node_of(conversation, node_id)


def node_of(conversation: Conversation, node_id: str) -> ConversationNode:
    """Return a turn that is loaded.

    Raises:
        ConfigurationError: The conversation has no such turn.
    """
    check_conversation(conversation)
    node = conversation.get(node_id)
    if node is None:
        raise _no_turn(node_id)
    return node


async def load_children(
    store: ConversationStore, conversation: Conversation, node_id: str | None
) -> tuple[ConversationNode, ...]:
    """Return the turns that follow a turn, and load those that are not loaded; None = the first turns.

    Raises:
        ConfigurationError: The conversation has no such turn.
        UnknownConversationError: The store does not have the conversation.
    """
    check_conversation(conversation)
    if node_id is not None:
        await load_node(store, conversation, node_id)
    if not conversation.complete and isinstance(store, StoreWithPaths):
        conversation.add_loaded(await store.load_children(conversation.id, node_id))
    return conversation.children(node_id)


async def load_all(store: ConversationStore, conversation: Conversation) -> Conversation:
    """Load the turns that are not loaded, and return the conversation.

    Raises:
        UnknownConversationError: The store does not have it.
    """
    check_conversation(conversation)
    if not conversation.complete:
        whole = await store.load(conversation.id)
        followers: dict[str | None, int] = {None: whole.children_count(None)}
        followers |= {node.id: whole.children_count(node.id) for node in whole.nodes}
        conversation.add_loaded(LoadedTurns(whole.nodes, followers, len(whole.nodes)))
    return conversation


def _no_turn(node_id: str) -> ConfigurationError:
    return ConfigurationError(f"the conversation has no turn {node_id!r}: pass the id of one of conversation.nodes")
