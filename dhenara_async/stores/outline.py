"""Outlines: the tree of a conversation without its answers and files, for pages that show all of it.

They are read from the JSON of nodes without building them: a tree of thousands of turns has megabytes of answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import orjson
from pydantic import JsonValue

from dhenara_async.conversation import ConversationNode
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import Origin

_SHOWN: Final = 200
_READ: Final = 2_000

_NodeFields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NodeOutline(ShortRepr):
    """A node without its answer and its files.

    Attributes:
        id: The node's id.
        parent_id: The node that it follows; None = it is a first one.
        question: The beginning of its question, at most 200 characters, with single spaces.
        status: As the node's.
        error: Why it is not complete; None if it is.
        origin: The endpoint that answered; None if it is not known.
        answered_by: The model that the answer names; None without an answer.
        asked_at: When it was asked, else when it ended, as ISO 8601.
        loop_id: The tool loop that it is a step of; None outside of one.
        files: The number of files of its question.
        tool_results: The number of results of tool calls that it answers to.
        losses: The number of changes on the way to its model that lost content.
        metadata: The JSON object of the application's own; None if it gave none.
    """

    id: str
    parent_id: str | None
    question: str = field(repr=False)
    status: Literal["complete", "interrupted", "failed"]
    error: str | None = field(repr=False)
    origin: Origin | None = field(repr=False)
    answered_by: str | None
    asked_at: str
    loop_id: str | None
    files: int
    tool_results: int
    losses: int
    metadata: Mapping[str, JsonValue] | None = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class ConversationOutline(ShortRepr):
    """The tree of a conversation, or the newest part of it.

    Attributes:
        nodes: The outlines, in the order in which the nodes were added.
        head: The id of the head; None if there is none.
    """

    nodes: tuple[NodeOutline, ...] = field(repr=False)
    head: str | None


def outline_of(node: ConversationNode) -> NodeOutline:
    """Return the outline of a node."""
    return NodeOutline(
        id=node.id,
        parent_id=node.parent_id,
        question=_shown(node.user_query),
        status=node.status,
        error=node.error,
        origin=node.origin,
        answered_by=None if node.response is None else node.response.model,
        asked_at=node.asked_at or node.timestamp,
        loop_id=node.loop_id,
        files=len(node.attached_files),
        tool_results=len(node.tool_results),
        losses=len(node.conversion.lossy),
        metadata=node.metadata,
    )


def outline_of_json(body: str) -> NodeOutline | None:
    """Return the outline of a node's JSON; None if only a parser of nodes can read it."""
    try:
        return _read_from(cast("_NodeFields", orjson.loads(body)))
    except (orjson.JSONDecodeError, KeyError):  # half of a surrogate pair; a node from before a field was there
        return None


def _read_from(node: _NodeFields) -> NodeOutline:
    origin, answer = cast("_NodeFields | None", node["origin"]), cast("_NodeFields | None", node["response"])
    entries = cast("Sequence[_NodeFields]", node["conversion"]["entries"])
    return NodeOutline(
        id=node["id"],
        parent_id=node["parent_id"],
        question=_shown(node["user_query"]),
        status=node["status"],
        error=node["error"],
        origin=None if origin is None else Origin.model_validate(origin),
        answered_by=None if answer is None else answer["model"],
        asked_at=node.get("asked_at") or node["timestamp"],
        loop_id=node.get("loop_id"),
        files=len(node["attached_files"]),
        tool_results=len(node["tool_results"]),
        losses=sum(entry["severity"] == "lossy" for entry in entries),
        metadata=node.get("metadata"),
    )


def _shown(question: str) -> str:
    words = " ".join(question[:_READ].split())
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
