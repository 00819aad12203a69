"""The items of an answer of OpenAI Responses while they are received: messages, thoughts, calls, and hosted tools.

An item's words come in up to four ways: deltas, ``*.done`` events, the finished item, and the response at the end.
Hosts leave some of them out, so each may hold all words, or the rest of those that came before. Whatever is new becomes
a delta: joined deltas are the part's text. Where two ways contradict each other, what was streamed stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from dhenara_async.drivers.base import JsonObject, arguments_object, as_list, as_object, as_text, is_object
from dhenara_async.drivers.openai_responses_reading import (
    HOSTED,
    SECTION_BREAK,
    CallFields,
    Content,
    Section,
    annotations_of,
    call_fields,
    citation_of,
    contents_of,
    decoded,
    kept_thought,
    kind_of,
    logprobs_of,
    media_type_of,
    said_of,
    sections_of,
)
from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.errors import ProtocolError
from dhenara_async.events import PartKind, ReasoningDelta, RefusalDelta, StreamEvent, TextDelta, ToolCallDelta

Place = tuple[object, object]
"""An output index and a content index."""


class Answer:
    """The state that all items of one answer share.

    Args:
        parts: Numbers the answer's parts.

    Attributes:
        parts: The same.
        texts: The texts that are open, by their place, for the usual delta.
        has_calls: Whether there is a call to a tool of ours.
        refused: Whether there is a refusal.
        spoke: Whether there is a text that is not empty.
        gap: Whether numbered events are missing.
        sound: The pieces of audio that are in no file yet.
        transcript: The words of the audio, while they come.
    """

    __slots__ = ("gap", "has_calls", "parts", "refused", "sound", "spoke", "texts", "transcript")

    def __init__(self, parts: PartsInFlight) -> None:
        self.parts = parts
        self.texts: dict[Place, OpenPart] = {}
        self.has_calls = self.refused = self.spoke = self.gap = False
        self.sound: list[bytes] = []
        self.transcript: OpenPart | None = None

    def open(self, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        """Open a part; its start goes to ``events``."""
        part = self.parts.open(kind)
        self.refused = self.refused or kind == "refusal"
        events.append(part.start)
        return part

    def close(self, part: OpenPart) -> StreamEvent:
        """The end of a part."""
        self.spoke = self.spoke or (part.start.kind == "text" and bool(part.pieces))
        return self.parts.close(part)

    def say(self, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        """Add a part to ``events`` whose words come in one piece."""
        part = self.open(kind, events)
        events += (grow(part, text), self.close(part))

    def play(self, events: list[StreamEvent]) -> None:
        """Add the sound to ``events`` as one file; the API does not say which kind of sound it is."""
        if self.sound:
            sound = b"".join(self.sound)
            self.sound.clear()
            events += self.parts.file("audio/*", {}, data=sound)

    def check_contradiction(self) -> None:
        """Refuse words that differ from those that were streamed, if some of the latter may be lost.

        Raises:
            ProtocolError: Numbered events are missing.
        """
        if self.gap:
            raise ProtocolError("events of the stream are missing, and with them words that the finished item has")


def grow(part: OpenPart, text: str) -> StreamEvent:
    """Add words to a part; returns their delta."""
    part.pieces.append(text)
    match part.start.kind:
        case "text":
            return TextDelta(part.part_id, text)
        case "reasoning":
            return ReasoningDelta(part.part_id, text)
        case "refusal":
            return RefusalDelta(part.part_id, text)
        case _:
            return ToolCallDelta(part.part_id, text)


def rest_of(pieces: list[str], whole: str) -> str | None:
    """The words that ``whole`` has behind those of ``pieces``; None if it does not begin with them.

    Joins ``pieces`` in place, but not if their first one, which has whatever was joined before, is longer than
    ``whole`` already: so all joining together is linear in what the host sent, however often it repeats itself.
    """
    if len(pieces) > 1 and len(pieces[0]) <= len(whole):
        pieces[:] = ["".join(pieces)]
    said = pieces[0] if pieces else ""
    if whole.startswith(said):
        return whole[len(said) :]
    return "" if said.startswith(whole) else None


def loose_rest_of(said: str, whole: str) -> str | None:
    """As ``rest_of``; white space around a text, which some hosts cut off when it is finished, is no difference."""
    rest = rest_of([said], whole)
    return rest_of([said.strip()], whole.strip()) if rest is None else rest


def _continued(announced: str, delta: str) -> str:
    """A part's first delta, behind the words that it was announced with unless the delta begins to repeat them."""
    return delta if announced.startswith(delta) else announced + delta


# ---------------------------------------------------------------------------------------------------- messages

_Words = Literal["text", "refusal"]
_Key = tuple[_Words, int]  # with the content index


@dataclass(slots=True)
class _Plan:
    """How a part is finished.

    Attributes:
        place: Its content index while it was streamed; None if it was not.
        rest: The words that it lacks.
        contents: The finished contents whose words it has; usually one.
    """

    place: int | None
    rest: str
    contents: list[Content]


class MessageItem:
    """A message: texts and refusals by their place in its content, and what else is in it.

    Args:
        answer: The answer that it belongs to.
        index: Its output index; None if that is not known.
    """

    group: ClassVar[str] = "message"
    __slots__ = ("_aliases", "_announced", "_answer", "_closed", "_index", "_latest", "_parts", "_said", "_told")

    def __init__(self, answer: Answer, index: int | None) -> None:
        self._answer, self._index = answer, index
        self._parts: dict[_Key, OpenPart] = {}
        self._closed: list[OpenPart] = []
        self._latest: dict[_Words, int] = {}  # the content index of the part that was opened last
        self._announced: dict[_Key, str] = {}
        self._told: dict[_Key, JsonObject] = {}  # contents of done events, for what the finished item may lack
        self._aliases: dict[_Key, _Key] = {}  # of contents that done events tell of another place than deltas do
        self._said: JsonObject = {}

    @property
    def silent(self) -> bool:
        """Whether it has had no words so far."""
        return not any(part.pieces for part in (*self._closed, *self._parts.values()))

    def agrees(self, item: JsonObject) -> bool:
        """Whether ``item`` may be another form of this one, by its words."""
        said = "".join("".join(part.pieces) for part in (*self._closed, *self._parts.values()))
        return loose_rest_of(said, "".join(content.text for content in contents_of(item))) is not None

    def announce(self, item: JsonObject) -> Sequence[StreamEvent]:
        """Take its first form; words in it count if no others come."""
        self._said |= said_of(item)
        for place, content in enumerate(contents_of(item)):
            if content.text and (content.kind == "text" or content.kind == "refusal"):
                self._announced.setdefault((content.kind, place), content.text)
        return ()

    def announce_content(self, content: Content, place: int | None) -> Sequence[StreamEvent]:
        """Open one of its parts; words in it count if no others come."""
        events: list[StreamEvent] = []
        if content.kind == "text" or content.kind == "refusal":
            key = self._key(content.kind, place)
            if content.text:
                self._announced[key] = content.text
            if key not in self._parts:
                self._open(key, events)
        return events

    def add(self, kind: _Words, place: int | None, text: str) -> Sequence[StreamEvent]:
        """Add a delta; its part is opened here if nobody has announced it."""
        key, events = self._key(kind, place), list[StreamEvent]()
        if key not in self._parts:
            key = self._announced_key(key)
        part = self._parts.get(key) or self._open(key, events)
        announced = self._announced.pop(key, "")
        if announced and not part.pieces:
            text = _continued(announced, text)
        if kind == "text" and self._index is not None:
            self._answer.texts[self._index, key[1]] = part  # its next deltas are usual ones
        events.append(grow(part, text))
        return events

    def tell(self, content: Content, place: int | None) -> Sequence[StreamEvent]:
        """Take all words of a part, as its own done event has them."""
        events: list[StreamEvent] = []
        if content.kind == "text" or content.kind == "refusal":
            key = self._told_key(content.kind, place, content.text)
            part = self._parts.get(key)
            if part is None and content.text:
                part = self._open(key, events)
            if part is not None:
                self._told[key] = {**self._told.get(key, {}), **content.raw}
                rest = rest_of(part.pieces, content.text)
                if rest:
                    events.append(grow(part, rest))
        return events

    def cite(self, place: int | None, annotation: object) -> None:
        """Keep a source of a text, for hosts that do not repeat it with the finished item."""
        part = self._parts.get(self._key("text", place))
        if part is not None and annotation:
            self._answer.parts.admit(1)
            as_list(part.state.setdefault("annotations", [])).append(annotation)

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Close its parts; words that were not streamed come out before."""
        self._said |= said_of(item)
        contents = contents_of(item)
        plans = {**self._plan("text", contents), **self._plan("refusal", contents)}
        events: list[StreamEvent] = []
        for place, content in enumerate(contents):
            match content.kind:
                case "text" | "refusal":
                    if place in plans:
                        self._finish_part((content.kind, place), plans[place], events)
                case "reasoning":
                    self._answer.say("reasoning", content.text, events)
                case "audio":
                    self._finish_audio(content, events)
                case "other":
                    native = {name: item[name] for name in ("id", "role", "status", "phase") if name in item}
                    native = {"type": "message", **native, "content": [content.raw]}
                    events += self._answer.parts.hosted(as_text(content.raw.get("type")), native)
        self._finish_unmentioned(events)
        return events

    def _key(self, kind: _Words, place: int | None) -> _Key:
        key = kind, self._latest.get(kind, 0) if place is None else place
        return self._aliases.get(key, key)

    def _announced_key(self, key: _Key) -> _Key:
        """Where words at a place without a part belong: to the newest part, if that still waits for its words."""
        latest = key[0], self._latest.get(key[0], 0)
        if latest not in self._parts or latest in self._told or self._parts[latest].pieces:
            return key
        self._aliases[key] = latest
        return latest

    def _told_key(self, kind: _Words, place: int | None, text: str) -> _Key:
        """The part of a done event: that at its place, or the newest one if only that can have been meant."""
        key = self._key(kind, place)
        latest = kind, self._latest.get(kind, 0)
        if key in self._parts or latest in self._told or latest not in self._parts:
            return key
        if rest_of(self._parts[latest].pieces, text) is None:
            return key
        self._aliases[key] = latest
        return latest

    def _open(self, key: _Key, events: list[StreamEvent]) -> OpenPart:
        part = self._parts[key] = self._answer.open(key[0], events)
        self._latest[key[0]] = key[1]
        return part

    def _plan(self, kind: _Words, contents: Sequence[Content]) -> dict[int, _Plan]:
        """Find the parts for the finished contents of a kind, by their places.

        Usually each has its own. Content indexes may have been others in the deltas, though, or all the same: then the
        words of all parts are compared with those of all contents.
        """
        finished = {place: content for place, content in enumerate(contents) if content.kind == kind}
        said = {key[1]: "".join(part.pieces) for key, part in self._parts.items() if key[0] == kind}
        if all(place in finished and finished[place].text.startswith(text) for place, text in said.items()):
            return {
                place: _Plan(place if place in said else None, content.text[len(said.get(place, "")) :], [content])
                for place, content in finished.items()
            }
        rest = loose_rest_of("".join(said.values()), "".join(content.text for content in finished.values()))
        if rest is not None:
            return _in_order(list(said), finished, rest)
        self._answer.check_contradiction()
        return {
            place: _Plan(place, "", [content]) if place in said else _Plan(None, content.text, [content])
            for place, content in finished.items()
        }

    def _finish_part(self, key: _Key, plan: _Plan, events: list[StreamEvent]) -> None:
        if plan.place is not None:
            key = key[0], plan.place
        part = self._parts.get(key) or self._open(key, events)
        rest = plan.rest or ("" if part.pieces else self._announced.get(key, ""))
        if rest:
            events.append(grow(part, rest))
        self._close(key, plan.contents, events)

    def _finish_unmentioned(self, events: list[StreamEvent]) -> None:
        """Close the parts that the finished item does not have, and those that were only announced."""
        silent = {"text", "refusal"} - self._latest.keys()
        for key, text in self._announced.items():
            part = self._parts.get(key) or (self._open(key, events) if key[0] in silent else None)
            if part is not None and not part.pieces:
                events.append(grow(part, text))
        for key in list(self._parts):
            self._close(key, [], events)

    def _close(self, key: _Key, contents: Sequence[Content], events: list[StreamEvent]) -> None:
        """Close a part, with the sources and likelihoods of its finished contents, else of its done event."""
        part = self._parts.pop(key)
        self._closed.append(part)
        if self._answer.texts.get((self._index, key[1])) is part:
            del self._answer.texts[self._index, key[1]]
        told = self._told.get(key, {})
        cited = [entry for content in contents for entry in annotations_of(content.raw)] or annotations_of(told)
        streamed = as_list(part.state.get("annotations"))
        self._answer.parts.admit(max(0, len(cited) - len(streamed)))
        cited = cited or streamed
        part.state = {**self._said, "annotations": cited} if cited else {**self._said}
        part.citations = [citation_of(as_object(entry)) for entry in cited]
        raw = [entry for content in contents for entry in as_list(content.raw.get("logprobs"))]
        part.logprobs = logprobs_of(raw or told.get("logprobs"))
        events.append(self._answer.close(part))

    def _finish_audio(self, content: Content, events: list[StreamEvent]) -> None:
        """Sound inside a message, as plain bodies have it: the words it says, then the sound."""
        if content.text and self._answer.transcript is None:
            self._answer.say("text", content.text, events)
        sound = decoded(as_text(content.raw.get("data")))
        if sound and not self._answer.sound:
            events += self._answer.parts.file("audio/*", {}, data=sound)


def _in_order(places: Sequence[int], finished: Mapping[int, Content], rest: str) -> dict[int, _Plan]:
    """Give the finished contents to the parts in order; the last part takes the words that no part has."""
    plans: dict[int, _Plan] = {}
    last: _Plan | None = None
    for number, (place, content) in enumerate(finished.items()):
        if last is None:
            final = number >= min(len(places), len(finished)) - 1
            plans[place] = plan = _Plan(places[-1 if final else number], rest if final else "", [content])
            last = plan if final else None
        else:
            last.contents.append(content)
    return plans


# ---------------------------------------------------------------------------------------------------- thoughts


class ReasoningItem:
    """A thought: one part, whose sections have a blank line between them.

    Args:
        answer: The answer that it belongs to.
    """

    group: ClassVar[str] = "reasoning"
    __slots__ = ("_aliases", "_announced", "_answer", "_latest", "_part", "_places", "_sections", "_told")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._part: OpenPart | None = None
        self._sections: dict[Section, list[str]] = {}
        self._latest: Section | None = None  # nothing is behind it yet, so it may grow
        self._places: dict[str, int] = {}  # by their list, the place of the section that came last
        self._announced: dict[Section, str] = {}
        self._told: set[Section] = set()
        self._aliases: dict[Section, Section] = {}  # as for a message

    @property
    def silent(self) -> bool:
        """Whether it has had no words so far."""
        return not self._sections

    def agrees(self, item: JsonObject) -> bool:
        """Whether ``item`` may be another form of this one, by its words."""
        return loose_rest_of(self._said(), "".join(text for _, text in sections_of(item))) is not None

    def announce(self, item: JsonObject) -> Sequence[StreamEvent]:
        """Open its part; words in its first form count if no others come."""
        self._announced |= sections_of(item)
        events: list[StreamEvent] = []
        self._opened(events)
        return events

    def announce_section(self, name: str, place: int | None, text: str) -> None:
        """Begin another section; ``text`` counts if no other words come."""
        if place is None:
            place = self._places[name] + 1 if name in self._places else 0
        self._places[name] = place
        if text:
            self._announced[name, place] = text

    def add(self, name: str, place: int | None, text: str) -> Sequence[StreamEvent]:
        """Add a delta to a section, which begins here if it is not the one that came last."""
        section, events = self._section(name, place), list[StreamEvent]()
        announced = self._announced.pop(section, "")
        if announced and section not in self._sections:
            text = _continued(announced, text)
        self._grow(section, text, events)
        return events

    def tell(self, name: str, place: int | None, text: str) -> Sequence[StreamEvent]:
        """Take all words of a section, as its own done event has them."""
        section = self._told_section(self._section(name, place), text)
        self._told.add(section)
        events: list[StreamEvent] = []
        if self._may_grow(section):
            rest = rest_of(self._sections.get(section, []), text)
            if rest:
                self._grow(section, rest, events)
        return events

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Close its part; words that were not streamed come out before."""
        events: list[StreamEvent] = []
        part = self._opened(events)
        self._complete(sections_of(item) or ([] if self._sections else list(self._announced.items())), events)
        part.state = kept_thought(item)
        events.append(self._answer.close(part))
        return events

    def _said(self) -> str:
        return "".join("".join(words) for words in self._sections.values())

    def _section(self, name: str, place: int | None) -> Section:
        section = name, self._places.get(name, 0) if place is None else place
        self._places[name] = section[1]
        return self._aliases.get(section, section)

    def _told_section(self, section: Section, text: str) -> Section:
        """The section of a done event: that at its place, or the newest one if only that can have been meant."""
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

    def _complete(self, told: Sequence[tuple[Section, str]], events: list[StreamEvent]) -> None:
        """Add the words of the finished sections that did not come before."""
        whole = dict(told)
        said = {section: "".join(words) for section, words in self._sections.items()}
        if all(whole.get(section, "").startswith(words) for section, words in said.items()):
            for section, text in told:
                rest = text[len(said.get(section, "")) :]
                if rest and self._may_grow(section):
                    self._grow(section, rest, events)
            return
        joined = "".join(said.values())  # the places of the deltas were others
        known = len(joined) if "".join(whole.values()).startswith(joined) else None
        for (name, place), text in told:
            if known is None:
                break  # what was streamed stays
            if known < len(text):
                going_on = self._latest if known else None
                self._grow(going_on or (f"finished {name}", place), text[known:], events)
            known = max(0, known - len(text))


# ---------------------------------------------------------------------------------------------------- calls


class CallItem:
    """A call to a tool of ours. It waits until its name and its id are known, since its part starts with them.

    Args:
        answer: The answer that it belongs to.
    """

    group: ClassVar[str] = "call"
    __slots__ = ("_announced", "_answer", "_call_id", "_item_id", "_name", "_part", "_waiting")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._name = self._call_id = self._item_id = self._announced = ""
        self._part: OpenPart | None = None
        self._waiting: list[str] = []  # arguments that came before the part could start

    @property
    def silent(self) -> bool:
        """Whether it has had no arguments so far."""
        return not self._pieces

    def agrees(self, item: JsonObject) -> bool:
        """Whether ``item`` may be another form of this one, by its name and arguments."""
        told = call_fields(item)
        return told.name in ("", self._name or told.name) and self._rest(told.arguments) is not None

    def announce(self, item: JsonObject) -> Sequence[StreamEvent]:
        """Take its first form; arguments in it count if no others come."""
        events: list[StreamEvent] = []
        told = call_fields(item)
        self._announced = told.arguments
        self._learn(told, item, events)
        return events

    def add(self, text: str) -> Sequence[StreamEvent]:
        """Add a delta of its arguments."""
        announced, self._announced = self._announced, ""
        if announced and not self._pieces:
            text = _continued(announced, text)
        if self._part is not None:
            return (grow(self._part, text),)
        self._waiting.append(text)
        return ()

    def tell(self, event: JsonObject) -> Sequence[StreamEvent]:
        """Take all its arguments, and its name, as its own done event has them."""
        events: list[StreamEvent] = []
        told = call_fields(event)
        self._learn(told, {}, events)
        rest = self._rest(told.arguments)
        if rest:
            events += self.add(rest)
        return events

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Close its part; arguments that were not streamed come out before."""
        events: list[StreamEvent] = []
        told = call_fields(item)
        self._learn(told, item, events)
        part = self._part or self._start(events)
        rest = self._rest(told.arguments)
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
        """The arguments that did not come yet; None if others came."""
        rest = rest_of(self._pieces, arguments)
        if rest is None and _same_object("".join(self._pieces), arguments):
            return ""  # spelled in another way
        return rest

    def _learn(self, told: CallFields, item: JsonObject, events: list[StreamEvent]) -> None:
        self._name = self._name or told.name
        self._call_id = self._call_id or told.call_id
        self._item_id = self._item_id or as_text(item.get("id"))
        if self._part is None and self._name and self._call_id:
            self._start(events)

    def _start(self, events: list[StreamEvent]) -> OpenPart:
        self._answer.has_calls = True
        call_id = self._call_id or self._item_id  # that of the item is better than none
        part = self._answer.parts.open("tool_call", call_id=call_id, name=self._name)
        events.append(part.start)
        if self._waiting:
            events.append(grow(part, "".join(self._waiting)))
            self._waiting.clear()
        self._part = part
        return part


def _same_object(one: str, other: str) -> bool:
    first = arguments_object(one)
    return is_object(first) and first == arguments_object(other)


# ---------------------------------------------------------------------------------------------------- other items


class HostedItem:
    """An item of the provider's own: a tool that it ran, a picture that it drew. It comes in one piece.

    Args:
        answer: The answer that it belongs to.
        kind: Its type.
    """

    __slots__ = ("_answer", "group")

    def __init__(self, answer: Answer, kind: str) -> None:
        self._answer = answer
        self.group = kind

    @property
    def silent(self) -> bool:
        """Whether something of it may still come: never, once it is finished."""
        return False

    def agrees(self, _item: JsonObject) -> bool:
        """Whether ``_item`` may be another form of this one."""
        return True

    def announce(self, _item: JsonObject) -> Sequence[StreamEvent]:
        """Take its first form, which says nothing that the finished one does not."""
        return ()

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Its part, or the file that it made; nothing if it was never finished."""
        if not item:
            return []
        if self.group == "image_generation_call":
            image = decoded(as_text(item.get("result")))
            if image:
                kept = {key: value for key, value in item.items() if key != "result"}
                return self._answer.parts.file(media_type_of(item), kept, data=image)
        read = HOSTED.get(self.group)
        tool, asked, output = read(item) if read else (None, None, None)
        call_id = as_text(item.get("call_id")) or None
        return self._answer.parts.hosted(self.group, dict(item), tool=tool, call_id=call_id, asked=asked, output=output)


Item = MessageItem | ReasoningItem | CallItem | HostedItem


def new_item(kind: str, answer: Answer, index: int | None) -> Item:
    """An item of a type, as far as nothing of it has come."""
    match kind:
        case "message":
            return MessageItem(answer, index)
        case "reasoning":
            return ReasoningItem(answer)
        case "function_call" | "custom_tool_call" | "call":
            return CallItem(answer)
        case _:
            return HostedItem(answer, kind)
