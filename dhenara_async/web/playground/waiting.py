"""Calls of tools that wait for a person: found in the store, so that they wait after a reload or a restart as well."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.frozen import ShortRepr
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import ToolCallPart, ToolResultPart
from dhenara_async.stores import StoreWithToolResults
from dhenara_async.tools.loop import wanted_calls


@dataclass(frozen=True, slots=True, repr=False)
class WaitingCalls(ShortRepr):
    """The calls that keep a tool loop from going on.

    Attributes:
        node_id: The turn whose answer has them, from which the loop goes on.
        calls: The calls without a result, in the order of the answer. None of them = all have been run, and the process
            ended before the model was told: the loop goes on without a decision.
    """

    node_id: str
    calls: tuple[ToolCallPart, ...] = field(repr=False)


async def waiting_at_end(
    manager: ConversationManager,
    conversation: Conversation,
    node: ConversationNode,
    running: Iterable[ConversationNode],
) -> WaitingCalls | None:
    """Return the calls that a turn waits with; None if it is not the end of a tool loop, or another turn follows it.

    A turn that was cut while its tools ran waits with the calls of the turn before.

    Args:
        manager: The manager of the owner.
        conversation: The conversation, with the turns before ``node``.
        node: The turn.
        running: The turns of the conversation that are being answered.

    Raises:
        StoreError: The store failed.
    """
    if node.loop_id is None or conversation.children_count(node.id):
        return None
    cut = node.status == "interrupted" and not node.tool_results and not node.user_query
    asking = conversation.get(node.parent_id) if cut and node.parent_id is not None else node
    if asking is None or any(draft.parent_id == asking.id for draft in running):
        return None
    return await calls_left(manager, conversation, asking)


async def calls_left(
    manager: ConversationManager, conversation: Conversation, node: ConversationNode
) -> WaitingCalls | None:
    """Return the calls of a step of a tool loop that have no result yet; None if it is no such step, or has no calls.

    Args:
        manager: The manager of the owner.
        conversation: The conversation of the turn.
        node: The turn.

    Raises:
        StoreError: The store failed.
    """
    if node.loop_id is None or node.response is None or node.status != "complete":
        return None
    calls, store = wanted_calls(node.response), manager.store
    if not calls:
        return None
    kept = isinstance(store, StoreWithToolResults)
    results = await store.tool_results(conversation.id, node.id) if kept else dict[int, ToolResultPart]()
    return WaitingCalls(node.id, tuple(call for place, call in enumerate(calls) if place not in results))


async def goes_on(
    manager: ConversationManager, chat_id: str, node: ConversationNode, turn_id: str | None = None
) -> bool:
    """Whether a tool loop has gone on from a step, or is about to.

    Args:
        manager: The manager of the owner.
        chat_id: The conversation.
        node: The step.
        turn_id: A turn that would go on from it and has begun already: only those that began before it count.

    Raises:
        UnknownConversationError: The store does not have the conversation.
    """
    running = await manager.running(chat_id)  # first: a turn that ends in between is a node then
    going_on = [draft.id for draft in running if draft.parent_id == node.id and draft.loop_id == node.loop_id]
    if going_on and going_on[0] != turn_id:
        return True
    conversation = await manager.open(chat_id, path_only=True)
    return any(follower.tool_results for follower in await manager.children(conversation, node.id))
