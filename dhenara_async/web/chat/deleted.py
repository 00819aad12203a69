"""Turns whose responses were deleted: found in the store by their marks, and conversations without their words."""

from collections.abc import Iterable
from contextlib import suppress

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError, UnknownConversationError, UnknownTurnError
from dhenara_async.manager import ConversationManager
from dhenara_async.stores import SearchHit, StoreWithPaths
from dhenara_async.web.chat.marks import is_mark, mark_id, shell_of


async def is_deleted(manager: ConversationManager, conversation: Conversation, node_id: str) -> bool:
    """Whether the response of a turn was deleted.

    Args:
        manager: The manager, confined to the owner of the conversation.
        conversation: The conversation of the turn.
        node_id: The id of the turn.

    Raises:
        UnknownConversationError: The store does not have the conversation.
    """
    return await has_node(manager, conversation, mark_id(node_id))


async def has_node(manager: ConversationManager, conversation: Conversation, node_id: str) -> bool:
    """Whether the stored conversation has a node.

    Args:
        manager: The manager, confined to the owner of the conversation.
        conversation: The conversation.
        node_id: The id of the node.

    Raises:
        UnknownConversationError: The store does not have the conversation.
    """
    try:
        await manager.load(conversation, node_id)
    except ConfigurationError:
        return False
    return True


async def demand_kept(manager: ConversationManager, chat_id: str, node_id: str) -> None:
    """Demand that the response of a turn was not deleted, of a conversation that is not open.

    Args:
        manager: The manager, confined to the owner of the conversation.
        chat_id: The id of the conversation.
        node_id: The id of the turn.

    Raises:
        UnknownTurnError: It was deleted.
        UnknownConversationError: The store does not have the conversation.
    """
    store, mark = manager.store, mark_id(node_id)
    if isinstance(store, StoreWithPaths):
        try:
            await store.load_path(chat_id, mark)
        except ValueError:  # there is no mark, and nothing was read
            return
    elif (await store.load(chat_id)).get(mark) is None:
        return
    raise UnknownTurnError(f"the response of turn {node_id!r} was deleted")


async def hits_left(manager: ConversationManager, hits: Iterable[SearchHit]) -> list[SearchHit]:
    """Return what was found without the turns whose responses were deleted.

    Args:
        manager: The manager, confined to the owner of the conversations.
        hits: What the store has found.

    Raises:
        StoreError: The store failed.
    """
    left = list[SearchHit]()
    for hit in hits:
        with suppress(UnknownTurnError, UnknownConversationError):  # the whole conversation may be deleted in between
            await demand_kept(manager, hit.conversation, hit.node)
            left.append(hit)
    return left


def without_deleted(conversation: Conversation) -> Conversation:
    """Return a conversation that is ``complete`` with empty turns in place of those whose responses were deleted."""
    marks = {node.id for node in conversation.nodes if is_mark(node)}
    if not marks:
        return conversation

    def left(node: ConversationNode) -> ConversationNode:
        return shell_of(node) if mark_id(node.id) in marks else node

    nodes = [left(node) for node in conversation.nodes if node.id not in marks]
    head = None if conversation.head is None else conversation.head.id
    return Conversation(conversation.id, nodes=nodes, head=head, instructions=conversation.instructions)
