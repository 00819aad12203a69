"""Items of a Responses answer while they are received: reasoning, calls and hosted tools.

Messages are in ``message``; ``answer`` describes how an item's text arrives.
"""

from collections.abc import Sequence
from typing import ClassVar

from dhenara_async.drivers.base import JsonObject, arguments_object, as_text, is_object
from dhenara_async.drivers.openai_responses.answer import AnswerInFlight, continued, grow, loose_rest_of, rest_of
from dhenara_async.drivers.openai_responses.message import MessageItem
from dhenara_async.drivers.openai_responses.reading import (
    APPROVAL_REQUEST,
    HOSTED,
    SECTION_BREAK,
    CallFields,
    Section,
    call_fields,
    decoded,
    kind_of,
    media_type_of,
    replayed_reasoning,
    sections_of,
)
from dhenara_async.drivers.parts import OpenPart
from dhenara_async.events import StreamEvent

# ---------------------------------------------------------------------------------------------------- thoughts


class ReasoningItem:
    """A reasoning item: one part, whose sections are separated by blank lines.

    Args:
        answer: The answer that it belongs to.
    """

    group: ClassVar[str] = "reasoning"
    __slots__ = ("_aliases", "_announced", "_answer", "_latest", "_part", "_places", "_sections", "_told")

    def __init__(self, answer: AnswerInFlight) -> None:
        self._answer = answer
        self._part: OpenPart | None = None
        self._sections: dict[Section, list[str]] = {}
        self._latest: Section | None = None  # no section follows it yet, so it may be extended
        self._places: dict[str, int] = {}  # by their list, the index of the newest section
        self._announced: dict[Section, str] = {}
        self._told: set[Section] = set()
        self._aliases: dict[Section, Section] = {}  # see MessageItem

    @property
    def silent(self) -> bool:
        """Whether it has no text so far."""
        return not self._sections

    def agrees(self, item: JsonObject) -> bool:
        """Whether ``item`` may be another form of this item, judged by its text."""
        return loose_rest_of(self._text(), "".join(text for _, text in sections_of(item))) is not None

    def announce(self, item: JsonObject) -> Sequence[StreamEvent]:
        """Open its part; the text in its announcement counts only if no other text follows."""
        self._announced |= sections_of(item)
        events: list[StreamEvent] = []
        self._opened(events)
        return events

    def announce_section(self, name: str, place: int | None, text: str) -> None:
        """Begin another section; ``text`` counts only if no other text follows."""
        if place is None:
            place = self._places[name] + 1 if name in self._places else 0
        self._places[name] = place
        if text:
            self._announced[name, place] = text

    def add(self, name: str, place: int | None, text: str) -> Sequence[StreamEvent]:
        """Append a delta to a section, or begin the section unless it is the newest one."""
        latest = self._latest
        # continues the newest section, as most deltas do
        if self._part is not None and latest is not None and latest == (name, place):
            self._sections[latest].append(text)
            return (grow(self._part, text),)
        section, events = self._section(name, place), list[StreamEvent]()
        announced = self._announced.pop(section, "")
        if announced and section not in self._sections:
            text = continued(announced, text)
        self._grow(section, text, events)
        return events

    def complete(self, name: str, place: int | None, text: str) -> Sequence[StreamEvent]:
        """Complete a section with the whole text of its done event."""
        section = self._section_of_done_event(self._section(name, place), text)
        self._told.add(section)
        events: list[StreamEvent] = []
        if self._may_grow(section):
            rest = rest_of(self._sections.get(section, []), text)
            if rest:
                self._grow(section, rest, events)
        return events

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Close its part, after the text that was not streamed."""
        events: list[StreamEvent] = []
        part = self._opened(events)
        self._complete(sections_of(item) or ([] if self._sections else list(self._announced.items())), events)
        part.state = replayed_reasoning(item)
        events.append(self._answer.close(part))
        return events

    def _text(self) -> str:
        return "".join("".join(words) for words in self._sections.values())

    def _section(self, name: str, place: int | None) -> Section:
        section = name, self._places.get(name, 0) if place is None else place
        self._places[name] = section[1]
        return self._aliases.get(section, section)

    def _section_of_done_event(self, section: Section, text: str) -> Section:
        """Return the section of a done event: the one at its place, or the newest one if no other can be meant."""
        latest = self._latest
        if section in self._sections or latest is None or latest in self._told or latest[0] != section[0]:
            return section
        if rest_of(self._sections[latest], text) is None:
            return section
        self._aliases[section] = latest
        return latest

    def _opened(self, events: list[StreamEvent]) -> OpenPart:
        if self._part is None:
            self._part = self._answer.open("reasoning", events)
        return self._part

    def _may_grow(self, section: Section) -> bool:
        return section == self._latest or section not in self._sections

    def _grow(self, section: Section, text: str, events: list[StreamEvent]) -> None:
        part = self._opened(events)
        self._sections.setdefault(section, []).append(text)
        if section != self._latest and part.pieces:
            text = SECTION_BREAK + text
        self._latest = section
        events.append(grow(part, text))

    def _complete(self, finished: Sequence[tuple[Section, str]], events: list[StreamEvent]) -> None:
        """Add the text of the finished sections that was not streamed."""
        whole = dict(finished)
        streamed = {section: "".join(words) for section, words in self._sections.items()}
        if all(whole.get(section, "").startswith(words) for section, words in streamed.items()):
            for section, text in finished:
                rest = text[len(streamed.get(section, "")) :]
                if rest and self._may_grow(section):
                    self._grow(section, rest, events)
            return
        joined = "".join(streamed.values())  # the deltas had other places
        streamed_length = len(joined) if "".join(whole.values()).startswith(joined) else None
        for (name, place), text in finished:
            if streamed_length is None:
                break  # the streamed text stays
            if streamed_length < len(text):
                going_on = self._latest if streamed_length else None
                self._grow(going_on or (f"finished {name}", place), text[streamed_length:], events)
            streamed_length = max(0, streamed_length - len(text))


# ---------------------------------------------------------------------------------------------------- calls

_LONGEST_SPELLING = 4  # another spelling of the same JSON is at most this many times longer


class CallItem:
    """A tool call for the caller to run. It waits for its name and id, since the start of its part has both.

    Args:
        answer: The answer that it belongs to.
    """

    group: ClassVar[str] = "call"
    __slots__ = ("_announced", "_answer", "_call_id", "_item_id", "_name", "_part", "_waiting")

    def __init__(self, answer: AnswerInFlight) -> None:
        self._answer = answer
        self._name = self._call_id = self._item_id = self._announced = ""
        self._part: OpenPart | None = None
        self._waiting: list[str] = []  # arguments received before the part could start

    @property
    def silent(self) -> bool:
        """Whether it has no arguments so far."""
        return not self._pieces

    def agrees(self, item: JsonObject) -> bool:
        """Whether ``item`` may be another form of this item, judged by its name and arguments."""
        fields = call_fields(item)
        return fields.name in ("", self._name or fields.name) and self._rest(fields.arguments) is not None

    def announce(self, item: JsonObject) -> Sequence[StreamEvent]:
        """Read its announcement; arguments in it count only if no others follow."""
        events: list[StreamEvent] = []
        fields = call_fields(item)
        self._announced = fields.arguments
        self._read_fields(fields, item, events)
        return events

    def add(self, text: str) -> Sequence[StreamEvent]:
        """Append a delta of its arguments."""
        announced, self._announced = self._announced, ""
        if announced and not self._pieces:
            text = continued(announced, text)
        if self._part is not None:
            return (grow(self._part, text),)
        self._waiting.append(text)
        return ()

    def complete(self, event: JsonObject) -> Sequence[StreamEvent]:
        """Complete its name and arguments from its done event."""
        events: list[StreamEvent] = []
        fields = call_fields(event)
        self._read_fields(fields, {}, events)
        rest = self._rest(fields.arguments)
        if rest:
            events += self.add(rest)
        return events

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Close its part, after the arguments that were not streamed."""
        events: list[StreamEvent] = []
        fields = call_fields(item)
        self._read_fields(fields, item, events)
        part = self._part or self._start(events)
        rest = self._rest(fields.arguments)
        if rest is None:
            self._answer.check_contradiction()
        elif not part.pieces:
            rest = rest or self._announced
        if rest:
            events.append(grow(part, rest))
        part.state = {name: item[name] for name in ("id", "namespace") if item.get(name)}
        if kind_of(item) == "custom_tool_call":
            part.state["type"] = "custom_tool_call"
        events.append(self._answer.close(part))
        return events

    @property
    def _pieces(self) -> list[str]:
        return self._waiting if self._part is None else self._part.pieces

    def _rest(self, arguments: str) -> str | None:
        """Return the arguments that have not arrived yet; None if others have."""
        pieces = self._pieces
        rest = rest_of(pieces, arguments)
        # the work is bounded by the size of what was received
        if rest is None and len(pieces[0]) <= _LONGEST_SPELLING * len(arguments):
            pieces[:] = ["".join(pieces)]
            return "" if _same_object(pieces[0], arguments) else None
        return rest

    def _read_fields(self, fields: CallFields, item: JsonObject, events: list[StreamEvent]) -> None:
        self._name = self._name or fields.name
        self._call_id = self._call_id or fields.call_id
        self._item_id = self._item_id or as_text(item.get("id"))
        if self._part is None and self._name and self._call_id:
            self._start(events)

    def _start(self, events: list[StreamEvent]) -> OpenPart:
        self._answer.has_calls = True
        call_id = self._call_id or self._item_id  # the item's id is better than none
        part = self._answer.parts.open("tool_call", call_id=call_id, name=self._name)
        events.append(part.start)
        if self._waiting:
            events.append(grow(part, "".join(self._waiting)))
            self._waiting.clear()
        self._part = part
        return part


def _same_object(one: str, other: str) -> bool:
    """Whether two JSON texts spell the same object."""
    first = arguments_object(one)
    return is_object(first) and first == arguments_object(other)


# ---------------------------------------------------------------------------------------------------- other items


class HostedItem:
    """A hosted item, such as a tool call run by the provider or a generated image; arrives in one piece.

    Args:
        answer: The answer that it belongs to.
        kind: The item's type.
    """

    __slots__ = ("_answer", "group")

    def __init__(self, answer: AnswerInFlight, kind: str) -> None:
        self._answer = answer
        self.group: str = kind

    @property
    def silent(self) -> bool:
        """Whether content may still arrive: false once it is finished."""
        return False

    def agrees(self, _item: JsonObject) -> bool:
        """Whether ``_item`` may be another form of this item."""
        return True

    def announce(self, _item: JsonObject) -> Sequence[StreamEvent]:
        """Ignore its announcement, which has nothing beyond the finished item."""
        return ()

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Return the events of its part or generated file; none if it was never finished."""
        if not item:
            return []
        if self.group == "image_generation_call":
            image = decoded(as_text(item.get("result")))
            if image:
                kept = {key: value for key, value in item.items() if key != "result"}
                return self._answer.parts.file(media_type_of(item), kept, data=image)
        read = HOSTED.get(self.group)
        tool, asked, output = read(item) if read else (None, None, None)
        asks = self.group == APPROVAL_REQUEST
        call_id = as_text(item.get("id" if asks else "call_id")) or None
        return self._answer.parts.hosted(
            self.group, dict(item), tool=tool, call_id=call_id, asked=asked, output=output, needs_approval=asks
        )


Item = MessageItem | ReasoningItem | CallItem | HostedItem


def new_item(kind: str, answer: AnswerInFlight, index: int | None) -> Item:
    """Return an empty item of the given type."""
    match kind:
        case "message":
            return MessageItem(answer, index)
        case "reasoning":
            return ReasoningItem(answer)
        case "function_call" | "custom_tool_call" | "call":
            return CallItem(answer)
        case _:
            return HostedItem(answer, kind)
