"""Reads the ``input`` of a request for a response: a text, or items. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/create (read 2026-11-28)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from dhenara_async.drivers.openai_responses.native import ITEMS
from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.dicts import read_messages
from dhenara_async.messages.messages import (
    Message,
    MessageLike,
    ReasoningPart,
    Role,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.web.inputs.fields import BodyFields, RefusedRequest, as_fields, bad, items_of, text_of
from dhenara_async.web.openai.errors import refused
from dhenara_async.web.openai.responses.ids import is_reference, response_of_item

_TEXT = 20_000_000
_ID = 2_000
# The fields of each type of content part. file_id is not among them: it would name any file of the provider's account,
# those of other users too.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "input_text": ("text",),
    "output_text": ("text",),
    "text": ("text",),
    "refusal": ("refusal",),
    "input_image": ("image_url",),
    "input_file": ("file_data", "file_url", "filename"),
    "input_audio": ("input_audio",),
}
_ROLES = ("user", "assistant", "system", "developer")
# Items of a provider's own tools: no other provider reads them, and those of our answers are known by their ids. A
# compaction is not among them: it stands for the history before it.
_LEFT_OUT = ITEMS.keys() - {"compaction"}


@dataclass(frozen=True, slots=True, repr=False)
class GivenItem(ShortRepr):
    """One message of the input, or several items that are one: those of an answer, or the results of its calls.

    Attributes:
        message: The message; an answer that is only referred to has no parts.
        responses: The ids of the responses of ours that its items name, in order.
        referred: Whether some of its items are references, so that it cannot be taken as it is.
    """

    message: Message
    responses: tuple[str, ...] = ()
    referred: bool = False


def given_items(given: object, most: int) -> tuple[tuple[str, ...], tuple[GivenItem, ...]]:
    """Read the input.

    Args:
        given: The field of the request.
        most: How many items it may have.

    Returns:
        The texts of its system and developer messages, and all other messages, oldest first.

    Raises:
        RefusedRequest: It cannot be read; the words repeat nothing of it.
    """
    if isinstance(given, str):
        text = text_of({"input": given}, "input", limit=_TEXT)
        if not text or not text.strip():
            raise bad("input is empty.")
        return (), (GivenItem(Message.user(text)),)
    if given is None:
        raise bad("input is missing.")
    items = items_of({"input": given}, "input")
    if not items:
        raise bad("input is empty.")
    if len(items) > most:
        raise RefusedRequest(413, f"input has more than {most} items.")
    read = _messages([as_fields(item, f"input[{at}]") for at, item in enumerate(items)])
    led = [item.message.get_text() for item in read if item.message.role is Role.SYSTEM]
    system = tuple(filter(None, led))
    return system, _joined(item for item in read if item.message.role is not Role.SYSTEM)


def _messages(items: Sequence[BodyFields]) -> list[GivenItem]:
    """Return a message for each item, except for those that are left out."""
    read: list[GivenItem] = []
    names: dict[str, str] = {}  # of the functions, by the ids of their calls
    for at, item in enumerate(items):
        shown = _message(item, at)
        if shown is None:
            continue
        try:
            message = read_messages([shown])[0]
        except (ConfigurationError, ValueError, RecursionError):  # their words may repeat what was sent
            raise bad(f"input[{at}] is not an item as the Responses API takes it.") from None
        names.update({part.call_id: part.name for part in message.parts if isinstance(part, ToolCallPart)})
        read.append(GivenItem(_with_names(message, names), *_named(item)))
    return read


def _with_names(message: Message, names: Mapping[str, str]) -> Message:
    """Return results with the names of their functions, by which some providers know them."""
    if not any(isinstance(part, ToolResultPart) for part in message.parts):
        return message
    parts = [
        part.changed(name=names.get(part.call_id, "")) if isinstance(part, ToolResultPart) else part
        for part in message.parts
    ]
    return message.changed(parts=tuple(parts))


def _named(item: BodyFields) -> tuple[tuple[str, ...], bool]:
    """Return the response of ours that an item belongs to, and whether the item is only a reference.

    Some clients, such as Codex, leave out ids; the encrypted content of our reasoning is an id as well.
    """
    name, sealed = item.get("id"), item.get("encrypted_content")
    if not isinstance(name, str) and isinstance(sealed, str) and is_reference(sealed):
        name = sealed
    response = response_of_item(name) if isinstance(name, str) else None
    return (() if response is None else (response,)), item.get("type") == "item_reference"


def _joined(items: Iterable[GivenItem]) -> tuple[GivenItem, ...]:
    """Return messages with the items of one answer, and the results of its calls, in one."""
    joined: list[GivenItem] = []
    for item in items:
        last = joined[-1] if joined else None
        if last is not None and _continues(item.message, last.message):
            message = Message(role=last.message.role, parts=[*last.message.parts, *item.message.parts])
            joined[-1] = GivenItem(message, (*last.responses, *item.responses), last.referred or item.referred)
        else:
            joined.append(item)
    return tuple(joined)


def _continues(message: Message, before: Message) -> bool:
    if message.role is not before.role:
        return False
    both = (*message.parts, *before.parts)
    return message.role is Role.ASSISTANT or all(isinstance(part, ToolResultPart) for part in both)


# -------------------------------------------------------------------------------------------------------- items


def _message(item: BodyFields, at: int) -> MessageLike | None:
    """Return an item with the fields that say something to a model; None if it is left out."""
    kind = item.get("type", "message")
    match kind:
        case "message":
            role = item.get("role")
            if role not in _ROLES:
                raise bad(f"input[{at}].role is none of {', '.join(_ROLES)}.")
            return {"role": role, "content": _content(item.get("content"), f"input[{at}].content")}
        case "function_call":
            call = {name: text_of(item, name, limit=_TEXT) for name in ("call_id", "name", "arguments")}
            return {"type": "function_call", **call}
        case "function_call_output":
            output = _content(item.get("output"), f"input[{at}].output")
            return {"type": kind, "call_id": text_of(item, "call_id", limit=_ID), "output": output}
        case "reasoning":
            return Message(role=Role.ASSISTANT, parts=[_reasoning(item, at)])
        case "item_reference":
            if response_of_item(text_of(item, "id", limit=_ID) or "") is None:
                raise bad(f"input[{at}] refers to an item that is not kept here.")
            return Message(role=Role.ASSISTANT, parts=[])
        case str() if kind in _LEFT_OUT:
            return None
        case "mcp_approval_response":
            raise bad(
                f"input[{at}] decides about a call of an MCP server: this API calls none, so nothing waits for it."
            )
        case _:
            raise bad(f"input[{at}] has a type that is not known here.")


def _content(content: object, name: str) -> str | list[dict[str, object]]:
    if isinstance(content, str):
        return text_of({name: content}, name, limit=_TEXT) or ""
    if not isinstance(content, list):
        raise bad(f"{name} is not a text or a list.")
    return [_part(part, name) for part in cast("list[object]", content)]


def _part(part: object, name: str) -> dict[str, object]:
    fields = as_fields(part, f"a part of {name}")
    kind = fields.get("type")
    known = _PARTS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise refused(
            f"A part of {name} has an unknown type. Known are {', '.join(_PARTS)}.", name, "unsupported_value"
        )
    kept = {each: fields[each] for each in known if fields.get(each) is not None}
    if not kept:
        words = f"A part of {name} has none of {', '.join(known)}: this API keeps no uploaded files."
        raise refused(words, name, "unsupported_value")
    for each, value in kept.items():
        if isinstance(value, str):
            text_of(kept, each, limit=_TEXT)
    return {"type": kind, **kept}


def _reasoning(item: BodyFields, at: int) -> ReasoningPart:
    """Return reasoning with its encrypted content as it was given, which goes back to the model that is asked."""
    summary = () if item.get("summary") is None else items_of(item, "summary")
    pieces = [as_fields(piece, f"input[{at}].summary") for piece in summary]
    texts = [text_of(piece, "text", limit=_TEXT) or "" for piece in pieces]
    item_id, sealed = text_of(item, "id", limit=_ID), text_of(item, "encrypted_content", limit=_TEXT)
    if not sealed or is_reference(sealed):
        return ReasoningPart(text="\n\n".join(texts))
    shown = [{"type": "summary_text", "text": text} for text in texts]
    state = {"type": "reasoning", "summary": shown, "encrypted_content": sealed}
    if item_id is not None and response_of_item(item_id) is None:  # an id of ours would not be known elsewhere
        state["id"] = item_id
    return ReasoningPart.model_validate({"text": "\n\n".join(texts), "provider_state": state})
