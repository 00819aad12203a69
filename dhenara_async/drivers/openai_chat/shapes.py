"""Normalizes the shapes that a Chat Completions message has at compatible hosts.

By OpenAI's reference ``content`` is a string. Hosts also send a list of strings, of typed parts, of parts without a
type, or a single part, and reasoning in fields and parts of many names.

Source: the compatible hosts' references and SDK types (read 2026-11-22)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dhenara_async.drivers.base import JsonObject, as_count, as_list, as_object, as_text, dumped, is_object
from dhenara_async.drivers.parts import OpenPart

PieceKind = Literal["text", "reasoning", "refusal", "image", "stored_file", "call"]

THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_blocks")
# Fields with the text of an object, at any host.
_WORD_FIELDS = ("text", "value", "thinking", "reasoning", "summary", "content", "output_text", "refusal")
_DEEPEST_WORDS = 6
_BREAK = "\n\n"  # between two summaries, as hosts that join them write it
_KINDS: Mapping[str, PieceKind] = {
    "text": "text",
    "output_text": "text",
    "input_text": "text",
    "thinking": "reasoning",
    "reasoning": "reasoning",
    "reasoning_text": "reasoning",
    "reasoning_content": "reasoning",
    "summary_text": "reasoning",
    "refusal": "refusal",
    "image_url": "image",
    "output_image": "image",
    "tool_file": "stored_file",
    "tool_use": "call",
}
_DETAIL_WORDS = ("text", "summary", "content")


@dataclass(slots=True)
class Piece:
    """One part of a message's content.

    Attributes:
        kind: The kind of content.
        text: Its text.
        raw: The part as received; empty if it was a string.
        signature: Opaque state to send back with its reasoning; None = none.
    """

    kind: PieceKind
    text: str
    raw: JsonObject = field(default_factory=dict[str, object])
    signature: object = None


def message_in(value: object) -> JsonObject:
    """Return a message or delta; some hosts send its content alone."""
    content = as_list(value) or as_text(value)
    return {"content": content} if content else as_object(value)


def pieces_of(content: object) -> Iterator[Piece]:
    """Yield the parts of a content that is not a string."""
    if is_object(content) and "type" not in content and not text_in(content.get("text")):
        yield Piece("text", dumped(content) if content else "")  # a structured answer, as an object
        return
    for item in as_list(content) or [content]:
        if isinstance(item, str):
            yield Piece("text", item)
        elif is_object(item):
            yield _piece(item)


def _piece(item: JsonObject) -> Piece:
    named = as_text(item.get("type"))
    match _KINDS.get(named) or (None if named else _kind_by_field(item)):
        case None:  # text of an unknown type; its other fields are not read
            return Piece("text", text_in(item.get("text")), item)
        case "reasoning":
            summary = as_list(item.get("summary"))
            text = _BREAK.join(filter(None, map(text_in, summary))) or text_in(item)
            parts = (as_object(part).get("signature") for part in (*summary, *as_list(item.get("thinking"))))
            return Piece("reasoning", text, item, item.get("signature") or next(filter(None, parts), None))
        case "text" | "refusal" as kind:
            return Piece(kind, text_in(item), item)
        case kind:
            return Piece(kind, "", item)


def _kind_by_field(item: JsonObject) -> PieceKind:
    """Return the kind of a part without a type."""
    for name, kind in _KINDS.items():
        if item.get(name):
            return kind
    return "text"


def text_in(value: object, depth: int = 0) -> str:
    """Return the text in a string, an object or a list of these; empty if there is none."""
    if isinstance(value, str):
        return value
    if value is None or depth > _DEEPEST_WORDS:
        return ""
    if is_object(value):
        return next((text for name in _WORD_FIELDS if (text := text_in(value.get(name), depth + 1))), "")
    return "".join(text_in(item, depth + 1) for item in as_list(value))


def reasoning_of(message: JsonObject) -> tuple[str, list[object]]:
    """Return the reasoning beside the content of a message.

    Returns:
        The text of the first reasoning field, since others repeat it; and ``reasoning_details``, which may have the
        same text, or the only text.
    """
    text = ""
    for name in THINKING_FIELDS:
        text = text_in(message.get(name))
        if text:
            break
    details = message.get("reasoning_details")
    return text, [details] if details and is_object(details) else as_list(details)


class DetailWords:
    """Reads the text of ``reasoning_details``, for hosts that send it nowhere else."""

    __slots__ = ("_has_text", "_index")

    def __init__(self) -> None:
        self._index: int | None = None
        self._has_text = False

    def read(self, details: list[object]) -> str:
        """Return the text of the next details; a blank line separates two summaries."""
        pieces: list[str] = []
        for detail in map(as_object, details):
            text = next((text_in(detail[name]) for name in _DETAIL_WORDS if detail.get(name)), "")
            if not text:
                continue
            index = as_count(detail.get("index"))
            apart = index != self._index if index is not None else bool(pieces)
            if self._has_text and apart and as_text(detail.get("type")).endswith("summary"):
                pieces.append(_BREAK)
            pieces.append(text)
            self._index, self._has_text = index, True
        return "".join(pieces)


class ReceivedText:
    """The text of a choice in parts of one kind, for hosts that repeat all of it in later chunks."""

    __slots__ = ("_counted", "_ended", "_size", "_size_of_ended")

    def __init__(self) -> None:
        self._ended: list[str] = []
        self._size = self._size_of_ended = 0
        self._counted = 0  # pieces of the open part that are counted in ``_size``

    def end(self, text: str) -> None:
        """Add the complete text of a part that has ended."""
        self._ended.append(text)
        self._size_of_ended += len(text)
        self._size, self._counted = self._size_of_ended, 0

    def repeated_length(self, text: str, speaking: OpenPart | None) -> int | None:
        """Return how much of the beginning of ``text`` was received before; None if it begins differently.

        Args:
            text: The text of a message.
            speaking: The open part of this kind; None = none.
        """
        pieces = [] if speaking is None else speaking.pieces
        self._size += sum(map(len, pieces[self._counted :]))
        self._counted = len(pieces)
        if len(text) < self._size:  # checked before joining, which would otherwise take quadratic time
            return None
        return self._size if text.startswith("".join((*self._ended, *pieces))) else None
