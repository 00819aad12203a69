"""Content blocks of one Messages API answer: opened, extended by deltas, and closed, as parts.

Gateways leave out fields that the API always sends: starts, stops, indexes, the right type. A block is emitted as soon
as its type is certain, and no text is emitted twice. Three things are held back:

- Blocks inside ``message_start``, until it is clear that the stream does not repeat them.
- The input of a call that arrives complete with its block, until the block ends: deltas may repeat it.
- A call without a name or an id, until both have arrived or the block ends.

Source: https://docs.anthropic.com/en/api/messages-streaming and the types of the ``anthropic`` package 2.12 (read
2026-11-22)
"""

from collections.abc import Mapping
from typing import cast

from dhenara_async.drivers.anthropic_messages.reading import (
    block_of,
    citation_of,
    failure_inside,
    hosted_input,
    hosted_tool,
    initial_text,
    input_text,
    joined,
    name_in,
    readable,
    rest,
    text_in,
)
from dhenara_async.drivers.base import JsonObject, arguments_text, as_count, as_list, as_object, as_text, is_object
from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.errors import ProtocolError
from dhenara_async.events import PartKind, ReasoningDelta, RefusalDelta, StreamEvent, TextDelta, ToolCallDelta

# The content field of a delta, by the delta's type.
_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
    "citations_delta": "citation",
}
# The type of block that a delta extends, by the delta's content field.
_BLOCK_BY_FIELD = {
    "text": "text",
    "thinking": "thinking",
    "partial_json": "tool_use",
    "signature": "thinking",
    "citation": "text",
    "data": "redacted_thinking",
}
_PART_BY_BLOCK: Mapping[object, PartKind] = {
    "text": "text",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
    "tool_use": "tool_call",
    "refusal": "refusal",
}

BlockPlace = int | tuple[int, str]
"""The index of a block; with its type where two blocks share the index."""


class Blocks:
    """The content blocks of one answer; see the module. Accepts indexes and blocks as the wire has them.

    Args:
        parts: The parts of the answer.
        answer_tool: The tool whose call carries a structured answer, emitted as text; None = there is none.

    Attributes:
        open: The open blocks, by their place.
        has_calls: Whether the answer has a tool call for the caller to run.
    """

    __slots__ = (
        "_answer_tool",
        "_begun",
        "_held",
        "_inputs",
        "_last",
        "_parts",
        "_sealed",
        "_unnamed",
        "has_calls",
        "open",
    )

    def __init__(self, parts: PartsInFlight, answer_tool: str | None) -> None:
        self._parts = parts
        self._answer_tool = answer_tool
        self._begun: set[int] = set()  # indexes of all blocks so far, closed ones included
        self._last = 0  # the index of the newest block, to which events without an index refer
        self._held: list[JsonObject] = []
        self._unnamed: dict[int, tuple[JsonObject, list[JsonObject]]] = {}  # calls, with their deltas
        self._inputs: dict[int, object] = {}  # by part: a call's input that arrived complete
        self._sealed: dict[int, dict[str, list[str]]] = {}  # by part and field: pieces of opaque state
        self.open: dict[BlockPlace, OpenPart] = {}
        self.has_calls: bool = False

    @property
    def any(self) -> bool:
        """Whether any block has arrived."""
        return bool(self._begun or self._held)

    def hold(self, blocks: list[JsonObject]) -> None:
        """Hold the blocks of a whole message, unless blocks have arrived before."""
        if not self._begun:
            self._held = blocks

    def start(self, index: object, content: object) -> list[StreamEvent]:
        """Begin a block. Without ``content``, its first delta decides its type."""
        block, place = block_of(content), as_count(index)
        if place is None:
            place = len(self._begun) or len(self._held)
        events = self._release(place) if self._held else []
        if not block:
            return events
        self._last = place
        if place in self._unnamed and block.get("type") != "tool_use":
            events += self._name(place, {})
        known, deltas = self._unnamed.pop(place, ({}, []))
        block = {**block, **{key: value for key, value in known.items() if not block.get(key)}}
        if _is_unnamed(block):
            self._begun.add(place)
            self._unnamed[place] = block, deltas
            return events
        events += self._begin(place, block)
        for delta in deltas:
            events += self._grow(place, delta)
        return events

    def delta(self, index: object, content: object) -> list[StreamEvent]:
        """Add a delta to a block.

        Raises:
            ProtocolError: The block is closed already, or is a call that never got a name. Text must not be lost
                silently.
        """
        place = self._last if index is None else as_count(index)
        delta: JsonObject = {"type": "text_delta", "text": content} if isinstance(content, str) else as_object(content)
        if place is None or not delta:
            return []
        if index is None and place in self._begun and place not in self.open and place not in self._unnamed:
            place = len(self._begun)
        if place in self.open:
            return self._grow(place, delta)
        if place in self._unnamed:
            return self._name(place, delta)
        events: list[StreamEvent] = []
        for at, block in enumerate(self._held):
            events += self._begin(at, block)
        self._held = []
        if place not in self.open:
            events += self._begin_by_delta(place, delta)
        return [*events, *self._grow(place, delta)] if place in self.open else events

    def stop(self, index: object, content: object) -> list[StreamEvent]:
        """End a block; some proxies repeat the whole block as ``content``."""
        place = self._last if index is None else as_count(index)
        if place is None:
            return []
        events = self._name(place, {}) if place in self._unnamed else []
        part, block = self.open.get(place), block_of(content)
        if part is not None and _repeats(part, block):
            self._keep_input(part, block)
            events += self._say(part, initial_text(block))
        if part is not None and part.start.kind == "reasoning" and part.part_id not in self._sealed:
            part.state |= {field: block[field] for field in ("signature", "data") if block.get(field)}
        return [*events, *self._close_at(place)]

    def end(self) -> list[StreamEvent]:
        """End the answer, with every open or held block."""
        events = self._release(len(self._held))
        for place in list(self._unnamed):
            events += self._name(place, {})
        for part in self.open.values():
            events += self._close(part)
        self.open.clear()
        return events

    # ------------------------------------------------------------------------------------------------ beginning

    def _release(self, before: int) -> list[StreamEvent]:
        """Emit the held blocks with an index below ``before``; the stream repeats the others."""
        events: list[StreamEvent] = []
        held, self._held = self._held[:before], []
        for place, block in enumerate(held):
            events += self._begin(place, block)
            events += self._close_at(place)
        return events

    def _begin(self, place: int, block: JsonObject) -> list[StreamEvent]:
        """Open a block. Closes the block that is open at its place, unless both are the same."""
        self._last = place
        there = self.open.get(place)
        if there is not None and _repeats(there, block):
            self._keep_input(there, block)
            return self._say(there, initial_text(block))
        events = self._close_at(place)
        self._begun.add(place)
        part = self.open[place] = self._opened(block)
        return [*events, part.start, *self._say(part, initial_text(block))]

    def _begin_by_delta(self, place: int, delta: JsonObject) -> list[StreamEvent]:
        """Open an unannounced block, with the type that its first delta belongs to."""
        field = content_field(delta)
        if field is None or field == "citation":
            return []
        if place not in self._begun and field != "partial_json":
            return self._begin(place, {"type": _BLOCK_BY_FIELD[field]})
        if field == "signature":
            return []
        raise ProtocolError(f"the stream continues content block {place}, which is not open")

    def _name(self, place: int, delta: JsonObject) -> list[StreamEvent]:
        """Add a delta to a call that lacks its name or id; an empty delta ends the wait."""
        block, deltas = self._unnamed[place]
        if delta:
            deltas.append(delta)
            block |= {key: delta[key] for key in ("id", "name") if delta.get(key)}
            if _is_unnamed(block):
                return []
        del self._unnamed[place]
        events = self._begin(place, block)
        for kept in deltas:
            events += self._grow(place, kept)
        return events

    def _opened(self, block: JsonObject) -> OpenPart:
        kind, name = as_text(block.get("type")), name_in(block.get("name"))
        match kind:
            case "text":
                part = self._parts.open("text")
                part.state = rest(block, "text")
                citations = [entry for entry in as_list(block.get("citations")) if is_object(entry)]
                if citations:
                    self._parts.admit(len(citations))
                    part.cite(map(citation_of, citations))
            case "thinking":
                part = self._parts.open("reasoning")
                part.state = {"signature": "", **rest(block, "thinking", "text"), "type": "thinking"}
            case "redacted_thinking":
                part = self._parts.open("reasoning")
                part.state = dict(block)
            case "refusal":
                part = self._parts.open("refusal")
            case "tool_use" if name and name == self._answer_tool:
                part = self._parts.open("text")
                part.state = {"type": "tool_use", "id": block.get("id"), "name": name}
                self._keep_input(part, block)
            case "tool_use":
                self.has_calls = True
                part = self._parts.open("tool_call", call_id=name_in(block.get("id")), name=name)
                part.state = rest(block, "id", "name", "input")
                self._keep_input(part, block)
            case "error":
                raise failure_inside(block, self._parts.provider)
            case _:
                # only a tool_use block and the blocks that name its id are known to belong together
                call_id = name_in(block.get("id" if kind.endswith("tool_use") else "tool_use_id")) or None
                part = self._parts.open("hosted_tool", call_id=call_id, name=kind)
                part.state = dict(block)
        return part

    def _keep_input(self, part: OpenPart, block: JsonObject) -> None:
        """Keep a call's input that arrived complete, as an object or as JSON text."""
        given, known = block.get("input"), self._inputs.get(part.part_id)
        if is_object(known) and is_object(given):
            known.update(given)
        elif given:
            self._inputs[part.part_id] = given

    # ------------------------------------------------------------------------------------------------ growing

    def _grow(self, place: int, delta: JsonObject) -> list[StreamEvent]:
        """Add a delta to the block that is open at ``place``."""
        part = self.open[place]
        field = _FIELDS.get(as_text(delta.get("type")))
        if part.start.kind == "hosted_tool":
            self._complete(part, field, delta)
            return []
        field = field or content_field(delta)
        value = None if field is None else delta.get(field)
        match field:
            case "text":
                return self._tell(place, "text", text_in(value))
            case "thinking":
                events = self._tell(place, "thinking", text_in(value))
                return [*events, *self._seal(place, "signature", as_text(delta.get("signature")))]
            case "partial_json":
                return self._argue(part, value)
            case "signature" | "data":
                return self._seal(place, field, as_text(value))
            case "citation":
                self._cite(part, value)
            case _ if delta.get("error"):
                raise failure_inside(delta, self._parts.provider)
            case _:
                pass  # new types come without a version change and are ignored
        return []

    def _complete(self, part: OpenPart, field: str | None, delta: JsonObject) -> None:
        """Add a delta to a block that is kept whole: a hosted call or its result, a compaction, an unknown type."""
        if field is None:
            part.state |= {key: value for key, value in delta.items() if key != "type"}
            return
        value = delta.get(field)
        if field == "partial_json" and isinstance(value, str):
            part.pieces += [value] if value else []  # a call without input streams one empty piece
        elif field == "partial_json":
            part.state["input"] = value or part.state.get("input")
        elif field == "citation":
            _append(part.state, "citations", value)
        elif piece := text_in(value):
            self._add_piece(part, field, piece)

    def _tell(self, place: int, kind: str, text: str) -> list[StreamEvent]:
        if not text:
            return []
        part, events = self._fitting(place, kind)
        return [*events, *self._say(part, text)]

    def _fitting(self, place: int, kind: str) -> tuple[OpenPart, list[StreamEvent]]:
        """Return the part for a delta that extends a block of type ``kind``, with the events that open it.

        Some gateways announce every block as text and then send thinking. The delta decides: the block ends, and
        another begins. A call stays open, and other text at its place becomes a part beside it.
        """
        part = self.open[place]
        if _fits(part, kind):
            return part, []
        at: BlockPlace = place
        if part.start.kind == "tool_call" or _is_answer(part):
            at = place, kind
            if at in self.open:
                return self.open[at], []
        events = self._close_at(at)
        part = self.open[at] = self._opened({"type": kind})
        return part, [*events, part.start]

    def _argue(self, part: OpenPart, value: object) -> list[StreamEvent]:
        """Add arguments: a piece of JSON text, or the whole object."""
        if isinstance(value, str):
            return self._say(part, value)
        if part.start.kind == "tool_call" or _is_answer(part):
            self._keep_input(part, {"input": value})
            return []
        return self._say(part, arguments_text(value))

    def _seal(self, place: int, field: str, piece: str) -> list[StreamEvent]:
        """Add opaque state of thinking, which gateways may split."""
        if not piece or (field == "signature" and self.open[place].state.get("type") == "redacted_thinking"):
            return []
        part, events = self._fitting(place, _BLOCK_BY_FIELD[field])
        self._add_piece(part, field, piece)
        return events

    def _add_piece(self, part: OpenPart, field: str, piece: str) -> None:
        pieces = self._sealed.setdefault(part.part_id, {}).setdefault(field, [])
        if not pieces:
            pieces.append(as_text(part.state.get(field)))
        pieces.append(piece)

    def _cite(self, part: OpenPart, citation: object) -> None:
        if not is_object(citation) or part.start.kind != "text":
            return
        self._parts.admit(1)
        part.cite((citation_of(citation),))
        if not _is_answer(part):
            part.state.setdefault("type", "text")
            _append(part.state, "citations", citation)

    def _say(self, part: OpenPart, text: str) -> list[StreamEvent]:
        if not text:
            return []
        part.pieces.append(text)
        kind: PartKind = part.start.kind
        match kind:
            case "text":
                return [TextDelta(part.part_id, text)]
            case "reasoning":
                return [ReasoningDelta(part.part_id, text)]
            case "tool_call":
                return [ToolCallDelta(part.part_id, text)]
            case "refusal":
                return [RefusalDelta(part.part_id, text)]
            case _:
                return []

    # ------------------------------------------------------------------------------------------------ ending

    def _close_at(self, place: BlockPlace) -> list[StreamEvent]:
        """Close the blocks that are open at a place."""
        part = self.open.pop(place, None)
        if part is None:
            return []
        events = self._close(part)
        if self.open and isinstance(place, int):
            for kind in ("text", "thinking", "redacted_thinking"):
                aside = self.open.pop((place, kind), None)
                events += [] if aside is None else self._close(aside)
        return events

    def _close(self, part: OpenPart) -> list[StreamEvent]:
        hosted = part.start.kind == "hosted_tool"
        for field, pieces in self._sealed.pop(part.part_id, {}).items():
            part.state[field] = "".join(pieces) if hosted else joined(pieces)
        if hosted:
            return [self._close_hosted(part)]
        given = self._inputs.pop(part.part_id, None)
        called = part.start.kind == "tool_call"
        if part.pieces or not (called or _is_answer(part)):
            return [self._parts.close(part)]
        if given is None and called:
            return [self._parts.close(part, text="{}")]  # a function without arguments streams none
        return [*self._say(part, input_text(given)), self._parts.close(part)]

    def _close_hosted(self, part: OpenPart) -> StreamEvent:
        block, kind = part.state, part.start.name or ""
        if part.pieces or isinstance(block.get("input"), str):
            block["input"] = hosted_input(block, part.pieces)
        return self._parts.close_hosted(
            part, tool=hosted_tool(block, kind), asked=block.get("input"), output=readable(block.get("content"))
        )


def content_field(delta: JsonObject) -> str | None:
    """Return the content field of a delta; None if it has none."""
    return next((field for field in _BLOCK_BY_FIELD if delta.get(field)), None)


def _append(state: JsonObject, field: str, value: object) -> None:
    """Append to a list in opaque state, in place."""
    known = state.get(field)
    if isinstance(known, list):
        cast("list[object]", known).append(value)
    else:
        state[field] = [value]


def _is_unnamed(block: JsonObject) -> bool:
    return block.get("type") == "tool_use" and not (block.get("name") and block.get("id"))


def _is_answer(part: OpenPart) -> bool:
    """Whether a text part is the call of the tool that carries a structured answer."""
    return part.start.kind == "text" and part.state.get("type") == "tool_use"


def _fits(part: OpenPart, kind: str) -> bool:
    """Whether a block of type ``kind`` becomes a part of this kind."""
    if part.start.kind == "refusal":
        return kind == "text"
    redacted = part.state.get("type") == "redacted_thinking"
    return (
        part.start.kind == _PART_BY_BLOCK[kind] and not _is_answer(part) and redacted == (kind == "redacted_thinking")
    )


def _repeats(part: OpenPart, block: JsonObject) -> bool:
    """Whether ``block`` repeats the beginning of an open part that has no content yet."""
    kind = block.get("type")
    if part.pieces or part.start.kind == "hosted_tool":
        return False
    if _is_answer(part):
        return kind == "tool_use" and part.state.get("id") == block.get("id")
    return _PART_BY_BLOCK.get(kind) == part.start.kind and (part.start.call_id or "") == name_in(block.get("id"))
