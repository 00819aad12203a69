"""Finds the items of a Responses answer that events refer to.

An event refers to its item by output index, by id, or by neither; gateways leave out either, change ids in mid-stream,
or use one index for all items. So the index counts first, then the id, then the text.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dhenara_async.drivers.base import JsonObject, as_count, as_text
from dhenara_async.drivers.openai_responses.answer import AnswerInFlight
from dhenara_async.drivers.openai_responses.items import CallItem, Item, ReasoningItem, new_item
from dhenara_async.drivers.openai_responses.message import MessageItem
from dhenara_async.drivers.openai_responses.reading import CALLS, call_fields, contents_of, kind_of, sections_of
from dhenara_async.events import StreamEvent

Wanted = TypeVar("Wanted", MessageItem, ReasoningItem, CallItem)
_MOST_MISSES = 100
_MOST_SILENT = 100  # how many items without a part are allowed before they are counted


@dataclass(slots=True, eq=False)
class _ItemSlot:
    """An item with its identifiers.

    Attributes:
        item: The item.
        index: Its output index; None = unknown.
        item_id: Its own id; empty = unknown.
        call_id: A call's id; empty = unknown, or not a call.
        final: Its finished form; None while it is open.
        held: The finished form of a call without arguments, which the end of the answer may provide.
        announced: Whether an event has announced it.
        repeated: Whether the end of the answer repeats it.
    """

    item: Item
    index: int | None
    item_id: str
    call_id: str = ""
    final: JsonObject | None = None
    held: JsonObject | None = None
    announced: bool = False
    repeated: bool = False

    @property
    def group(self) -> str:
        """The kind of item: ``message``, ``reasoning``, ``call``, or a hosted type."""
        return self.item.group


@dataclass(slots=True)
class _KnownItems:
    """The items received before the end of an answer, by each of their identifiers."""

    ids: dict[tuple[str, str], deque[_ItemSlot]] = field(default_factory=dict[tuple[str, str], deque[_ItemSlot]])
    calls: dict[str, deque[_ItemSlot]] = field(default_factory=dict[str, deque[_ItemSlot]])
    groups: dict[str, deque[_ItemSlot]] = field(default_factory=dict[str, deque[_ItemSlot]])


class ItemsInFlight:
    """Finds the item that an event refers to, and creates unannounced ones.

    Args:
        answer: The answer that they belong to.

    Attributes:
        lost: Whether text arrived for a finished item.
    """

    __slots__ = ("_answer", "_by_call", "_by_id", "_by_index", "_misses", "_newest", "_open", "_slots", "lost")

    def __init__(self, answer: AnswerInFlight) -> None:
        self._answer = answer
        self._slots: list[_ItemSlot] = []
        self._by_index: dict[int, _ItemSlot] = {}
        self._by_id: dict[str, _ItemSlot] = {}
        self._by_call: dict[str, _ItemSlot] = {}
        self._open: dict[tuple[str, bool], dict[int, _ItemSlot]] = {}  # by group, and whether they have an index
        self._newest: dict[str, _ItemSlot] = {}  # by group, the item finished last
        self._misses = 0  # failed comparisons of text: bounded, since each may read all text
        self.lost: bool = False

    def __len__(self) -> int:
        return len(self._slots)

    def find(self, event: JsonObject, kind: type[Wanted], *, streamed: bool = False) -> Wanted | None:
        """Return the item that an event refers to; None if it is of another kind, or finished.

        Args:
            event: An event about an item.
            kind: The kind of item that the event is about.
            streamed: Whether the event has text that no later event repeats, which is lost if the item is finished.
        """
        index = as_count(event.get("output_index"))
        slot = None if index is None else self._by_index.get(index)
        if slot is not None and slot.final is None:  # the usual case
            return slot.item if isinstance(slot.item, kind) else None
        item_id = as_text(event.get("item_id"))
        slot = self._named(index, item_id, kind.group) or self._unnamed(index, item_id, kind.group)
        if slot is None or (slot.final is not None and slot.group != kind.group):  # an index that is reused
            slot = self._add(kind.group, index, item_id)
        if slot.final is not None:
            self.lost = self.lost or streamed
            return None
        return slot.item if isinstance(slot.item, kind) else None

    def announce(self, index: int | None, item: JsonObject) -> Sequence[StreamEvent]:
        """Process the announcement of an item."""
        kind, item_id, call_id = kind_of(item), as_text(item.get("id")), as_text(item.get("call_id"))
        group = _group(kind)
        slot = self._named(index, item_id, group, call_id)
        if slot is not None and slot.final is not None:
            if slot.group == group and (not item_id or slot.item_id in ("", item_id)):
                return ()
            slot = None  # an index that is reused
        if slot is None:
            slot = self._add(kind, index, item_id)
        elif slot.group != group:
            return ()
        if call_id:
            slot.call_id = slot.call_id or call_id
            self._by_call[call_id] = slot
        slot.announced = True
        return slot.item.announce(item)

    def finish(self, index: int | None, item: JsonObject) -> Sequence[StreamEvent]:
        """Process the finished form of an item."""
        kind, item_id, call_id = kind_of(item), as_text(item.get("id")), as_text(item.get("call_id"))
        group = _group(kind)
        slot = self._named(index, item_id, group, call_id)
        if slot is None and index is None:
            slot = self._alike(item, group)
        if slot is not None and slot.group != group:
            slot = None
        if slot is None and index is None and (call_id or not item_id):
            slot = self._newest.get(group)
        if slot is not None and slot.final is not None:
            if _same(slot.final, item):
                return ()
            slot = None
        slot = slot or self._add(kind, index, item_id)
        if isinstance(slot.item, CallItem) and slot.item.silent and not call_fields(item).arguments:
            slot.held = item
            return slot.item.announce(item)
        return self._finish(slot, item)

    def settle(self, items: Sequence[JsonObject]) -> list[StreamEvent]:
        """Process the items at the end of the answer: finish open ones, and add missing ones.

        Args:
            items: All of them, in order; empty if the end does not repeat them.
        """
        events: list[StreamEvent] = []
        for item, slot in self._pairs(_without_repetitions(items)):
            if slot is None:
                slot = self._add(kind_of(item), None, "")
            elif slot.final is not None:
                if not (slot.item.silent and _has_words(item)):
                    continue
                slot, item = self._add(kind_of(item), None, ""), _without_seal(item)
            events += self._finish(slot, item)
        for slot in self._slots:
            if slot.final is None:
                events += self._finish(slot, slot.held or {})
        return events

    def _named(self, index: int | None, item_id: str, group: str, call_id: str = "") -> _ItemSlot | None:
        """Return the item at an index, else that with an id, else the open one with the id of a call."""
        slot = None if index is None else self._by_index.get(index)
        if slot is not None:
            return slot
        slot = self._by_id.get(item_id) if item_id else None
        if slot is None and call_id:
            slot = self._by_call.get(call_id)
            slot = None if slot is None or slot.final is not None else slot
        if slot is None or slot.group != group or None not in (index, slot.index):
            return None
        return self._placed(slot, index)

    def _unnamed(self, index: int | None, item_id: str, group: str) -> _ItemSlot | None:
        """Return the open item for an event without identifiers: the newest one, or the oldest one without an index."""
        indexless = self._open.get((group, False))
        if index is not None:
            return self._placed(next(iter(indexless.values())), index) if indexless else None
        for waiting in (indexless, self._open.get((group, True))):
            slot = next(reversed(waiting.values())) if waiting else None
            if slot is not None and (slot.announced or not (item_id and slot.item_id)):
                return slot  # a new item would have been announced, whatever its id
        return None

    def _alike(self, item: JsonObject, group: str) -> _ItemSlot | None:
        """Return the open item that matches a finished one by its text: the oldest or the newest of its group."""
        for has_index in (True, False):
            waiting = self._open.get((group, has_index))
            ends = (next(iter(waiting.values())), next(reversed(waiting.values()))) if waiting else ()
            for slot in sorted(ends, key=lambda slot: slot.item.silent):
                if _may_be(slot, item) and self._agrees(slot, item):
                    return slot
        return None

    def _placed(self, slot: _ItemSlot, index: int | None) -> _ItemSlot:
        """Return ``slot``, whose index is ``index`` from now on."""
        if index is not None and slot.index is None:
            if slot.final is None:
                del self._open[slot.group, False][id(slot)]
                self._open.setdefault((slot.group, True), {})[id(slot)] = slot
            slot.index = index
            self._by_index[index] = slot
        return slot

    def _agrees(self, slot: _ItemSlot, item: JsonObject) -> bool:
        if self._misses < _MOST_MISSES and slot.item.agrees(item):
            return True
        self._misses += 1
        return False

    def _add(self, kind: str, index: int | None, item_id: str) -> _ItemSlot:
        if len(self._slots) >= self._answer.parts.opened + _MOST_SILENT:
            self._answer.parts.admit(1)  # an item without a part takes memory, too
        slot = _ItemSlot(new_item(kind, self._answer, index), index, item_id)
        self._slots.append(slot)
        self._open.setdefault((slot.group, index is not None), {})[id(slot)] = slot
        if index is not None:
            self._by_index[index] = slot
        if item_id:
            self._by_id[item_id] = slot
        return slot

    def _finish(self, slot: _ItemSlot, item: JsonObject) -> list[StreamEvent]:
        slot.final = item
        slot.item_id = slot.item_id or as_text(item.get("id"))
        slot.call_id = slot.call_id or as_text(item.get("call_id"))
        self._newest[slot.group] = slot
        del self._open[slot.group, slot.index is not None][id(slot)]
        return slot.item.finish(item)

    # ------------------------------------------------------------------------------------------ the end

    def _pairs(self, items: Sequence[JsonObject]) -> list[tuple[JsonObject, _ItemSlot | None]]:
        """Pair each item at the end with the earlier item that it repeats, if any."""
        if not self._slots:
            return [(item, None) for item in items]
        found = [self._repeated_in_place(place, item) for place, item in enumerate(items)]
        if None in found:
            self._search(items, found)
        return list(zip(items, found, strict=True))

    def _search(self, items: Sequence[JsonObject], found: list[_ItemSlot | None]) -> None:
        """Find the items that the end has at other places, with other ids, or with other text."""
        names = self._names()
        for place, item in enumerate(items):
            if found[place] is None:
                found[place] = _repeated_by_name(item, names)
        for place, item in enumerate(items):  # with different ids
            slot = self._by_index.get(place)
            if found[place] is None and slot is not None and _may_be(slot, item) and self._agrees(slot, item):
                found[place] = _claimed(slot)
        for place, item in enumerate(items):  # at different places, too
            if found[place] is None:
                found[place] = self._first(names.groups.get(_group(kind_of(item))), item)
        for place, item in enumerate(items):  # with different text
            slot = self._by_index.get(place)
            if found[place] is None and slot is not None and _may_be(slot, item):
                found[place] = _claimed(slot)

    def _names(self) -> _KnownItems:
        names = _KnownItems()
        for slot in sorted(self._slots, key=lambda slot: slot.item.silent):  # silent ones last: they match any item
            names.groups.setdefault(slot.group, deque()).append(slot)
            if slot.item_id:
                names.ids.setdefault((slot.group, slot.item_id), deque()).append(slot)
            if slot.call_id:
                names.calls.setdefault(slot.call_id, deque()).append(slot)
        return names

    def _repeated_in_place(self, place: int, item: JsonObject) -> _ItemSlot | None:
        """Return the item at the same place, if its identifiers agree."""
        slot, item_id = self._by_index.get(place), as_text(item.get("id"))
        if slot is None or (item_id and slot.item_id not in ("", item_id)) or not _may_be(slot, item):
            return None
        return _claimed(slot)

    def _first(self, slots: "deque[_ItemSlot] | None", item: JsonObject) -> _ItemSlot | None:
        """Return the first item that is not repeated yet, if its text agrees with ``item``."""
        while slots and slots[0].repeated:
            slots.popleft()
        found = slots and _may_be(slots[0], item) and self._agrees(slots[0], item)
        return _claimed(slots[0]) if slots and found else None


def _group(kind: str) -> str:
    return "call" if kind in CALLS else kind


def _may_be(slot: _ItemSlot, item: JsonObject) -> bool:
    """Whether ``item`` may repeat ``slot``, judged by its type and the id of its call."""
    call_id = as_text(item.get("call_id"))
    return not slot.repeated and slot.group == _group(kind_of(item)) and slot.call_id in ("", call_id or slot.call_id)


def _claimed(slot: _ItemSlot) -> _ItemSlot:
    slot.repeated = True
    return slot


def _repeated_by_name(item: JsonObject, names: _KnownItems) -> _ItemSlot | None:
    """Return the item of the same call, or with the same id."""
    group, item_id = _group(kind_of(item)), as_text(item.get("id"))
    slot = _next(names.calls.get(as_text(item.get("call_id"))), item)
    return slot or _next(names.ids.get((group, item_id)), item)


def _next(slots: "deque[_ItemSlot] | None", item: JsonObject) -> _ItemSlot | None:
    """Return the first item that is not repeated yet, if ``item`` may repeat it."""
    while slots and slots[0].repeated:
        slots.popleft()
    return _claimed(slots[0]) if slots and _may_be(slots[0], item) else None


def _without_repetitions(items: Sequence[JsonObject]) -> list[JsonObject]:
    """Return ``items`` without exact duplicates, ids included."""
    if len(items) < 2:
        return [*items]
    kept: list[JsonObject] = []
    first: dict[str, JsonObject] = {}
    for item in items:
        item_id = as_text(item.get("id"))
        if not item_id or first.setdefault(item_id, item) is item or first[item_id] != item:
            kept.append(item)
    return kept


def _same(one: JsonObject, other: JsonObject) -> bool:
    """Whether two finished forms are of the same item."""
    calls = [as_text(each.get("call_id")) for each in (one, other)]
    if calls[0] != calls[1] and all(calls):
        return False
    ids = as_text(one.get("id")), as_text(other.get("id"))
    words = _comparable_text(one)
    return ids[0] == ids[1] != "" or one == other or (bool(words) and words == _comparable_text(other))


def _comparable_text(item: JsonObject) -> object:
    """Return the text of an item for comparison; None for a hosted item."""
    match kind_of(item):
        case "message":
            return [content.text for content in contents_of(item)]
        case "reasoning":
            return [text for _, text in sections_of(item)]
        case "function_call" | "custom_tool_call":
            return call_fields(item)
        case _:
            return None


def _has_words(item: JsonObject) -> bool:
    if kind_of(item) == "reasoning":
        return bool(sections_of(item))
    return any(content.text and content.kind in ("text", "refusal") for content in contents_of(item))


def _without_seal(item: JsonObject) -> JsonObject:
    """Return ``item`` without the opaque state to send back, which its first form already has."""
    return {name: value for name, value in item.items() if name not in ("id", "encrypted_content", "call_id")}
