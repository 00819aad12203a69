"""Marks of deleted responses: nodes behind the turns whose responses were deleted. Pure.

Nodes are never taken out of a conversation; code that shows one shows marks as such.
"""

from dhenara_async.conversation import ConversationNode
from dhenara_async.stores import NodeOutline

_BEGIN = "deleted-"
_ERROR = "its response was deleted"


def mark_id(node_id: str) -> str:
    """Return the id of the mark of a turn."""
    return f"{_BEGIN}{node_id}"


def is_mark_id(node_id: str) -> bool:
    """Whether an id is that of a mark."""
    return node_id.startswith(_BEGIN)


def mark_of(node: ConversationNode) -> ConversationNode:
    """Return the mark of a turn, the same one each time."""
    return ConversationNode(
        id=mark_id(node.id),
        parent_id=node.id,
        status="failed",  # so that it does not become the head
        error=_ERROR,
        attempts=0,
        timestamp=node.timestamp,  # every mark of a node is equal: it may be put there twice
    )


def shell_of(node: ConversationNode) -> ConversationNode:
    """Return the place of a turn in its conversation, without its words."""
    return ConversationNode(
        id=node.id,
        parent_id=node.parent_id,
        status="failed",
        error=_ERROR,
        attempts=0,
        timestamp=node.timestamp,
    )


def is_mark(node: ConversationNode | NodeOutline) -> bool:
    """Whether a node is a mark: the response of the turn before it was deleted."""
    return is_mark_id(node.id) and node.error == _ERROR
