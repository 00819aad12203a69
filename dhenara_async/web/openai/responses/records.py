"""The fields of a kept response that its turn's node does not have: kept in the node's metadata. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from pydantic import JsonValue

from dhenara_async.conversation import ConversationNode, question
from dhenara_async.drivers.base import JsonObject
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import FilePart, Part, TextPart, ToolResultPart
from dhenara_async.turns.turn import CANCELLED
from dhenara_async.web.frames.failures import failure_named
from dhenara_async.web.openai.errors import error_of
from dhenara_async.web.openai.responses.ids import TurnPlace, response_id
from dhenara_async.web.openai.responses.input import ResponseRequest
from dhenara_async.web.openai.responses.object import ResponseHead, response_body

_KEY = "openai_response"

GIVEN: Mapping[str, JsonValue] = {_KEY: {"given": True}}
"""The metadata of a turn that was answered elsewhere, and came with a request."""


@dataclass(frozen=True, slots=True, repr=False)
class ResponseRecord(ShortRepr):
    """The fields of a response that are kept with its node.

    Attributes:
        head: The fields of the request that the response repeats.
        system: The texts of the system and developer messages of the request.
        history: How many nodes before this one were part of the request.
    """

    head: ResponseHead
    system: Sequence[str] = field(repr=False)
    history: int


def metadata_of(asked: ResponseRequest, *, created_at: int, previous: str | None, history: int) -> JsonObject:
    """Return the metadata of a turn.

    Args:
        asked: The request.
        created_at: When it came, in seconds since 1970.
        previous: The response that it follows; None if it follows none.
        history: How many nodes before the turn's own are part of the request.
    """
    record: JsonObject = {
        "created_at": created_at,
        "model": asked.model,
        "background": asked.background,
        "metadata": dict(asked.metadata),
        "echo": dict(asked.echo),
        "instructions": asked.instructions,
        "previous": previous,
        "system": list(asked.system),
        "history": history,
    }
    return {_KEY: record}


def record_of(place: TurnPlace, node: ConversationNode) -> ResponseRecord:
    """Return what a node, or the draft of one that is being answered, says of its response.

    A node that was made elsewhere, such as by a chat page of the same app, has a response too, with fewer fields.
    """
    given = cast("Mapping[str, JsonValue]", (node.metadata or {}).get(_KEY) or {})
    name, model = response_id(place), "" if node.origin is None else node.origin.model
    head = ResponseHead(
        id=name,
        created_at=cast("int", given.get("created_at", int(datetime.fromisoformat(node.timestamp).timestamp()))),
        model=cast("str", given.get("model", model)),
        previous_response_id=cast("str | None", given.get("previous")),
        conversation=place.conversation,
        background=given.get("background") is True,
        instructions=cast("str | None", given.get("instructions")),
        metadata=cast("Mapping[str, str]", given.get("metadata", {})),
        echo=cast("Mapping[str, object]", given.get("echo", {})),
    )
    return ResponseRecord(head, cast("Sequence[str]", given.get("system", ())), cast("int", given.get("history", 0)))


def system_of(path: Iterable[ConversationNode]) -> list[str]:
    """Return the texts of the system and developer messages of all requests on a path."""
    texts: list[str] = []
    for node in path:
        given = cast("Mapping[str, JsonValue]", (node.metadata or {}).get(_KEY) or {})
        texts += cast("Sequence[str]", given.get("system", ()))
    return texts


def is_given(node: ConversationNode) -> bool:
    """Whether a turn was answered elsewhere, and came with a request."""
    return node.metadata == GIVEN


def body_of_node(head: ResponseHead, node: ConversationNode) -> bytes:
    """Return a response whose turn has ended as one object, the same as that of the last event of its stream."""
    if node.status == "complete":
        return response_body(head, node.response)
    if node.error == CANCELLED:
        return response_body(head, node.response, "cancelled")
    name, _, _ = (node.error or "").partition(": ")
    return response_body(head, node.response, "failed", error_of(failure_named(name)))


def input_items_of(place: TurnPlace, path: Sequence[ConversationNode]) -> list[JsonObject]:
    """Return the items of a request, oldest first.

    Args:
        place: The turn of the response.
        path: The turns from the first one to that one.
    """
    record = record_of(place, path[-1])
    given = path[len(path) - 1 - record.history :]
    items: list[JsonObject] = [_message("system", [_text("input_text", text)]) for text in record.system]
    for node in given:
        items += [_result(result) for result in node.tool_results]
        asked = question(node.user_query, node.attached_files, order=node.order)
        content = [content for message in asked for part in message.parts if (content := _asked(part))]
        if content:
            items.append(_message("user", content))
        if node is not given[-1] and node.response is not None:
            items += _answer(node.response.choices[0].parts)
    tail = response_id(place).removeprefix("resp_")
    return [{"id": f"in_{tail}_{at}", **item} for at, item in enumerate(items)]


def _message(role: str, content: Sequence[JsonObject]) -> JsonObject:
    return {"type": "message", "role": role, "status": "completed", "content": content}


def _text(kind: str, text: str) -> JsonObject:
    return {"type": kind, "text": text}


def _asked(part: Part) -> JsonObject | None:
    match part:
        case FilePart():
            return _file(part)
        case TextPart():
            return _text("input_text", part.text)
        case _:
            return None


def _file(file: FilePart) -> JsonObject:
    """Return a file without its bytes: the client has sent them itself."""
    if file.kind == "image":
        return {"type": "input_image", "image_url": file.url, "detail": "auto"}
    return {"type": "input_file", "filename": file.filename, "file_url": file.url}


def _result(result: ToolResultPart) -> JsonObject:
    output = result.get_text()
    return {"type": "function_call_output", "call_id": result.call_id, "output": output, "status": "completed"}


def _answer(parts: Iterable[Part]) -> list[JsonObject]:
    items: list[JsonObject] = []
    for part in parts:
        if part.type == "text":
            items.append(_message("assistant", [{**_text("output_text", part.text), "annotations": []}]))
        elif part.type == "tool_call":
            call = {"call_id": part.call_id, "name": part.name, "arguments": part.arguments, "status": "completed"}
            items.append({"type": "function_call", **call})
    return items
