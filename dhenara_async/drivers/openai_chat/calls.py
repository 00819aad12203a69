"""Assembles the tool calls of one Chat Completions answer from their fragments.

By OpenAI's reference, a call's first fragment has its index, id and name, and each further one its index and a piece of
the arguments. Hosts reuse and omit ids and indexes, send the name or the id later, send the name in pieces or again
with every fragment, and send the arguments as an object. A call's ``PartStart`` has its name and id, so it waits for
the first arguments behind them. Calls that never get an id start at the end of the answer.

Source: https://platform.openai.com/docs/api-reference/chat-streaming and the compatible hosts' own references (read
2026-11-22)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from dhenara_async.drivers.base import JsonObject, as_count, as_object, as_text, dumped
from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.events import StreamEvent, ToolCallDelta

_MARKS = re.compile(r'["\\{}]')
_NOTHING_YET = "{}"  # some hosts send it before the real arguments


class Braces:
    """Detects whether pieces of JSON text form a complete object. Scans each piece once."""

    __slots__ = ("_depth", "_escaped", "_quoted", "_read", "has_calls")

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False  # the last character was a backslash inside a string
        self._read = 0
        self.has_calls: bool = False

    def closed(self, pieces: list[str]) -> bool:
        """Whether a complete object is in ``pieces``, to which pieces may have been appended since the last call."""
        for piece in pieces[self._read :]:
            self._take(piece)
        self._read = len(pieces)
        return self.has_calls and self._depth == 0 and not self._quoted

    def _take(self, piece: str) -> None:
        skipped = 0 if self._escaped else -1
        self._escaped = False if piece else self._escaped
        for found in _MARKS.finditer(piece):
            place, mark = found.start(), found[0]
            if place == skipped:
                continue
            if mark == "\\":
                skipped = place + 1 if self._quoted else -1
                self._escaped = self._quoted and skipped == len(piece)
            elif mark == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if mark == "{" else -1
                self.has_calls = self.has_calls or mark == "{"


@dataclass(slots=True, eq=False)
class CallInFlight:
    """A call as received so far.

    Attributes:
        index: The host's index; None = missing.
        call_id: Its id; empty = not received yet.
        custom: Whether its arguments are free text instead of JSON.
        names: The pieces of its name.
        pieces: The pieces of its arguments.
        provisional: Whether the arguments so far may be replaced: an object, or a placeholder.
        extra: Opaque fields to send back with the call.
        part: Its part; None = not started.
    """

    index: int | None
    call_id: str
    custom: bool = False
    names: list[str] = field(default_factory=list[str])
    pieces: list[str] = field(default_factory=list[str])
    provisional: bool = False
    extra: object = None
    part: OpenPart | None = None
    name_size: int = 0
    size: int = 0
    braces: Braces | None = None

    @property
    def blank(self) -> bool:
        """Whether only its index and id have arrived."""
        return not (self.names or self.pieces)

    def is_named(self, name: str) -> bool:
        """Whether ``name`` equals its name so far."""
        return len(name) == self.name_size and "".join(self.names) == name

    def whole(self) -> bool:
        """Whether its arguments are complete."""
        if self.braces is None:
            self.braces = Braces()
        return self.braces.closed(self.pieces)

    def repeats(self, call_id: str, name: str, arguments: str) -> bool:
        """Whether a fragment with a name only repeats this complete call."""
        if not arguments:
            return self.is_named(name)
        same = call_id and call_id == self.call_id and self.is_named(name)
        return bool(same) and len(arguments) == self.size and "".join(self.pieces) == arguments

    def continues(self, call_id: str, name: str) -> bool:
        """Whether a fragment with a name and new arguments may belong to this complete call."""
        return self.provisional and bool(call_id) and call_id == self.call_id and self.is_named(name)

    def take_name(self, name: str) -> None:
        """Append to the name, unless the fragment repeats the whole name, possibly extended."""
        if self.part is not None or not name:
            return
        if self.names and len(name) >= self.name_size and name.startswith("".join(self.names)):
            self.names.clear()
            self.name_size = 0
        self.names.append(name)
        self.name_size += len(name)

    def take_arguments(self, arguments: str, *, whole: bool) -> bool:
        """Append to the arguments; ``whole`` = an object, not a piece of JSON text.

        Returns:
            Whether the arguments are final as they stand.
        """
        if not arguments or (whole and self.pieces and not self.provisional):
            return False
        if self.provisional:
            self.pieces.clear()
            self.size, self.braces = 0, None
        self.provisional = whole or (arguments == _NOTHING_YET and not self.pieces and self.part is None)
        self.pieces.append(arguments)
        self.size += len(arguments)
        return not self.provisional


class CallsInFlight:
    """The calls of one choice.

    Args:
        parts: The parts of the answer.
        choice: The choice's index.
    """

    __slots__ = ("_by_id", "_by_index", "_calls", "_choice", "_legacy", "_parts", "_started")

    def __init__(self, parts: PartsInFlight, choice: int) -> None:
        self._parts = parts
        self._choice = choice
        self._calls: list[CallInFlight] = []
        self._by_id: dict[str, tuple[CallInFlight, int | None]] = {}
        self._by_index: dict[int, CallInFlight] = {}
        self._legacy: CallInFlight | None = None
        self._started = 0  # how many have started; calls start in order

    @property
    def has_calls(self) -> bool:
        """Whether any call has arrived."""
        return any(not call.blank for call in self._calls)

    def feed(self, raw: JsonObject) -> list[StreamEvent]:
        """Decode a fragment of a call, or a whole call."""
        if len(raw) == 2:  # an index and a piece of the arguments, as in nearly all fragments
            more = self._continue_arguments(raw)
            if more is not None:
                return more
        custom = as_object(raw.get("custom"))
        function = as_object(raw.get("function")) or custom or raw
        index, call_id = as_count(raw.get("index")), as_text(raw.get("id"))
        name, (arguments, whole) = as_text(function.get("name")), _arguments(function)
        call = self._find(call_id, index, name, arguments)
        if call is not None and name and call.names and call.whole():
            if call.repeats(call_id, name, arguments):
                return []
            call = call if call.continues(call_id, name) else None
        if call is None:
            call = self._new(CallInFlight(index, call_id, bool(custom)))
        elif call_id and not call.call_id and call.part is None:
            call.call_id = call_id
            self._by_id[call_id] = call, index
        call.take_name(name)
        call.extra = raw.get("extra_content") or call.extra
        return self._add(call, arguments, whole=whole)

    def _continue_arguments(self, raw: JsonObject) -> list[StreamEvent] | None:
        """Decode a further piece of arguments for a started call; None if ``raw`` is anything else."""
        index, function = raw.get("index"), as_object(raw.get("function"))
        call = self._by_index.get(index) if isinstance(index, int) else None
        arguments = function.get("arguments")
        if call is None or call.part is None or not isinstance(arguments, str) or function.get("name"):
            return None
        call.pieces.append(arguments)
        call.size += len(arguments)
        return [ToolCallDelta(call.part.part_id, arguments)] if arguments else []

    def feed_legacy(self, raw: JsonObject) -> list[StreamEvent]:
        """Decode a fragment of ``function_call``, the predecessor of ``tool_calls``.

        Some gateways send both, for old and new clients; then it has nothing new.
        """
        call = self._legacy
        if call is None:
            if self._calls:
                return []
            call = self._legacy = self._new(CallInFlight(None, ""))
        name, (arguments, whole) = as_text(raw.get("name")), _arguments(raw)
        if name and call.names and call.whole():
            return []
        call.take_name(name)
        return self._add(call, arguments, whole=whole)

    def settle(self) -> list[StreamEvent]:
        """Start the calls that are ready, because other content follows them."""
        events: list[StreamEvent] = []
        while self._started < len(self._calls) and self._ready(self._calls[self._started]):
            self._start(self._calls[self._started], events)
        return events

    def close(self) -> list[StreamEvent]:
        """Close all calls; calls not started yet start with the fields received so far."""
        events: list[StreamEvent] = []
        for call in self._calls[self._started :]:
            if call.blank:
                self._started += 1
            else:
                self._start(call, events)
        for call in self._calls:
            if call.part is not None:
                call.part.state = _state(call)
                events.append(self._parts.close(call.part))
        return events

    def _new(self, call: CallInFlight) -> CallInFlight:
        self._parts.admit(1)
        self._calls.append(call)
        if call.call_id:
            self._by_id[call.call_id] = call, call.index
        if call.index is not None:
            self._by_index[call.index] = call
        return call

    def _find(self, call_id: str, index: int | None, name: str, arguments: str) -> CallInFlight | None:
        """Return the call that a fragment continues: by id, else by index, else the latest; None = a new call."""
        latest = self._calls[-1] if self._calls else None
        if not call_id:
            return self._find_without_id(latest, index, name)
        known, place = self._by_id.get(call_id, (None, None))
        if known is not None:
            other = name and None not in (index, place) and index != place
            return self._by_index.get(index or 0) if other else known
        there = latest if index is None else self._by_index.get(index)
        if name:
            return there if there is not None and _awaits_id(there, index, name) else None
        if arguments:  # some hosts give every fragment a different id
            return self._by_index.get(index or 0, latest)
        return None if there is not None and index is None and there.whole() else there

    def _find_without_id(self, latest: CallInFlight | None, index: int | None, name: str) -> CallInFlight | None:
        known = latest if index is None else self._by_index.get(index)
        if known is None:
            return None if name else latest
        if not name or index is not None or not known.names:
            return known
        continues = known.call_id and (not known.pieces or known.is_named(name)) and not known.whole()
        return known if continues else None

    def _add(self, call: CallInFlight, arguments: str, *, whole: bool) -> list[StreamEvent]:
        """Append arguments to a call. Starts it, and the calls before it, once name and id are complete."""
        if not call.take_arguments(arguments, whole=whole):
            return []
        if call.part is not None:
            return [ToolCallDelta(call.part.part_id, arguments)]
        events: list[StreamEvent] = []
        while call.part is None and self._ready(self._calls[self._started]):
            self._start(self._calls[self._started], events)
        return events

    def _ready(self, call: CallInFlight) -> bool:
        return bool(call.names and (call.call_id or call is self._legacy))

    def _start(self, call: CallInFlight, events: list[StreamEvent]) -> None:
        self._started += 1
        name = "".join(call.names)
        self._parts.admit(-1)  # it was counted when it arrived
        call.part = part = self._parts.open("tool_call", choice=self._choice, call_id=call.call_id, name=name)
        call.provisional = False
        part.pieces = call.pieces
        events.append(part.start)
        if call.pieces:
            events.append(ToolCallDelta(part.part_id, "".join(call.pieces)))


def _state(call: CallInFlight) -> JsonObject:
    """Return the opaque state to send back with the call."""
    state: JsonObject = {"type": "custom"} if call.custom else {}
    if call.extra:
        state["extra_content"] = call.extra
    return state


def _awaits_id(call: CallInFlight, index: int | None, name: str) -> bool:
    """Whether a fragment with a new id and a name may belong to ``call`` at the same index."""
    if not call.names:
        return index is not None or not call.call_id
    if index is None or call.call_id or call.whole():
        return False
    return not call.pieces or call.is_named(name)


def _arguments(function: JsonObject) -> tuple[str, bool]:
    """Return the arguments of a fragment, and whether they came as an object instead of JSON text."""
    value = function.get("arguments") or function.get("input") or function.get("parameters")
    if isinstance(value, str):
        return value, False
    return (dumped(value), True) if value else ("", False)


def calls_in(value: object) -> Iterable[JsonObject]:
    """Return the calls in ``tool_calls``: a list, or at some hosts a single call."""
    items: list[object] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    return (as_object(item) for item in items if item)
