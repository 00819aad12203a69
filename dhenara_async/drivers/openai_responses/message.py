"""Messages of a Responses answer while they are received: texts, refusals, and other contents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text
from dhenara_async.drivers.openai_responses.answer import AnswerInFlight, continued, grow, loose_rest_of, rest_of
from dhenara_async.drivers.openai_responses.reading import (
    MessageContent,
    annotations_of,
    citation_of,
    contents_of,
    decoded,
    logprobs_of,
    replayed_fields,
)
from dhenara_async.drivers.parts import OpenPart
from dhenara_async.events import StreamEvent

_Words = Literal["text", "refusal"]
_TextKey = tuple[_Words, int]  # with the content index
_FIRST_TEXT: _TextKey = ("text", 0)
_LIKELIHOODS_IN_A_PART = 100  # how many log probabilities count as one part


@dataclass(slots=True)
class _Plan:
    """How a part is finished.

    Attributes:
        place: Its content index in the stream; None if it was not streamed.
        rest: The text that it lacks.
        contents: The finished contents that it covers; usually one.
    """

    place: int | None
    rest: str
    contents: list[MessageContent]


class MessageItem:
    """A message: texts and refusals by content index, and other contents.

    Args:
        answer: The answer that it belongs to.
        index: Its output index; None if unknown.
    """

    group: ClassVar[str] = "message"
    __slots__ = (
        "_aliases",
        "_announced",
        "_answer",
        "_closed",
        "_done_contents",
        "_index",
        "_latest",
        "_parts",
        "_said",
    )

    def __init__(self, answer: AnswerInFlight, index: int | None) -> None:
        self._answer, self._index = answer, index
        self._parts: dict[_TextKey, OpenPart] = {}
        self._closed: list[OpenPart] = []
        self._latest: dict[_Words, int] = {}  # the content index of the newest part
        self._announced: dict[_TextKey, str] = {}
        self._done_contents: dict[_TextKey, JsonObject] = {}  # in case the finished item lacks them
        self._aliases: dict[
            _TextKey, _TextKey
        ] = {}  # of contents whose done events have another place than their deltas
        self._said: JsonObject = {}

    @property
    def silent(self) -> bool:
        """Whether it has no text so far."""
        return not any(part.pieces for part in (*self._closed, *self._parts.values()))

    def agrees(self, item: JsonObject) -> bool:
        """Whether ``item`` may be another form of this item, judged by its text."""
        received = "".join("".join(part.pieces) for part in (*self._closed, *self._parts.values()))
        return loose_rest_of(received, "".join(content.text for content in contents_of(item))) is not None

    def announce(self, item: JsonObject) -> Sequence[StreamEvent]:
        """Read its announcement; text in it counts only if no other text follows."""
        self._said |= replayed_fields(item)
        for place, content in enumerate(contents_of(item)):
            if content.text and (content.kind == "text" or content.kind == "refusal"):
                self._announced.setdefault((content.kind, place), content.text)
        return ()

    def announce_content(self, content: MessageContent, place: int | None) -> Sequence[StreamEvent]:
        """Open one of its parts; text in the announcement counts only if no other text follows."""
        events: list[StreamEvent] = []
        if content.kind == "text" or content.kind == "refusal":
            key = self._key(content.kind, place)
            if content.text:
                self._announced[key] = content.text
            if key not in self._parts:
                self._open(key, events)
        return events

    def add(self, kind: _Words, place: int | None, text: str) -> Sequence[StreamEvent]:
        """Append a delta; opens the part if it was not announced."""
        key, events = self._key(kind, place), list[StreamEvent]()
        if key not in self._parts:
            key = self._announced_key(key)
        part = self._parts.get(key) or self._open(key, events)
        announced = self._announced.pop(key, "")
        if announced and not part.pieces:
            text = continued(announced, text)
        if kind == "text" and self._index is not None:
            self._answer.texts[self._index, key[1]] = part  # its next deltas take the fast branch
        events.append(grow(part, text))
        return events

    def complete(self, content: MessageContent, place: int | None) -> Sequence[StreamEvent]:
        """Complete a part with the whole text of its done event."""
        events: list[StreamEvent] = []
        if content.kind == "text" or content.kind == "refusal":
            key = self._key_of_done_event(content.kind, place, content.text)
            part = self._parts.get(key)
            if part is None and content.text:
                part = self._open(key, events)
            if part is not None:
                self._done_contents[key] = {**self._done_contents.get(key, {}), **content.raw}
                rest = rest_of(part.pieces, content.text)
                if rest:
                    events.append(grow(part, rest))
        return events

    def cite(self, place: int | None, annotation: object) -> None:
        """Keep a citation, for hosts that do not repeat it with the finished item."""
        part = self._parts.get(self._key("text", place))
        if part is not None and annotation:
            self._answer.parts.admit(1)
            as_list(part.state.setdefault("annotations", [])).append(annotation)

    def finish(self, item: JsonObject) -> list[StreamEvent]:
        """Close its parts, after the text that was not streamed."""
        self._said |= replayed_fields(item)
        contents, events = contents_of(item), list[StreamEvent]()
        if self._finish_usual(contents, events):
            return events
        plans: dict[int, _Plan] = {}
        for kind in {content.kind for content in contents}:
            if kind == "text" or kind == "refusal":
                plans |= self._plan(kind, contents)
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

    def _key(self, kind: _Words, place: int | None) -> _TextKey:
        key = kind, self._latest.get(kind, 0) if place is None else place
        return self._aliases.get(key, key)

    def _announced_key(self, key: _TextKey) -> _TextKey:
        """Return the key for text at an unknown place: the newest part, if it still waits for text."""
        latest = key[0], self._latest.get(key[0], 0)
        if latest not in self._parts or latest in self._done_contents or self._parts[latest].pieces:
            return key
        self._aliases[key] = latest
        return latest

    def _key_of_done_event(self, kind: _Words, place: int | None, text: str) -> _TextKey:
        """Return the key for a done event: its place, or the newest part if no other can be meant."""
        key = self._key(kind, place)
        latest = kind, self._latest.get(kind, 0)
        if key in self._parts or latest in self._done_contents or latest not in self._parts:
            return key
        if rest_of(self._parts[latest].pieces, text) is None:
            return key
        self._aliases[key] = latest
        return latest

    def _open(self, key: _TextKey, events: list[StreamEvent]) -> OpenPart:
        part = self._parts[key] = self._answer.open(key[0], events)
        self._latest[key[0]] = key[1]
        return part

    def _finish_usual(self, contents: Sequence[MessageContent], events: list[StreamEvent]) -> bool:
        """Close the part of a message with one text, streamed and finished at the same place, as in most messages."""
        if len(contents) != 1 or len(self._parts) != 1 or contents[0].kind != "text":
            return False
        part = self._parts.get(_FIRST_TEXT)
        rest = rest_of(part.pieces, contents[0].text) if part is not None and part.pieces else None
        if part is None or rest is None:
            return False
        if rest:
            events.append(grow(part, rest))
        self._close(_FIRST_TEXT, contents, events)
        return True

    def _plan(self, kind: _Words, contents: Sequence[MessageContent]) -> dict[int, _Plan]:
        """Assign the finished contents of a kind to parts, by content index.

        Usually each has its own part. But deltas may have had different or equal indexes: then the text of all parts is
        compared with that of all contents.
        """
        finished = {place: content for place, content in enumerate(contents) if content.kind == kind}
        streamed = {key[1]: "".join(part.pieces) for key, part in self._parts.items() if key[0] == kind}
        if all(place in finished and finished[place].text.startswith(text) for place, text in streamed.items()):
            return {
                place: _Plan(
                    place if place in streamed else None, content.text[len(streamed.get(place, "")) :], [content]
                )
                for place, content in finished.items()
            }
        rest = loose_rest_of("".join(streamed.values()), "".join(content.text for content in finished.values()))
        if rest is not None:
            return _in_order(list(streamed), finished, rest)
        self._answer.check_contradiction()
        return {
            place: _Plan(place, "", [content]) if place in streamed else _Plan(None, content.text, [content])
            for place, content in finished.items()
        }

    def _finish_part(self, key: _TextKey, plan: _Plan, events: list[StreamEvent]) -> None:
        if plan.place is not None:
            key = key[0], plan.place
        part = self._parts.get(key) or self._open(key, events)
        rest = plan.rest or ("" if part.pieces else self._announced.get(key, ""))
        if rest:
            events.append(grow(part, rest))
        self._close(key, plan.contents, events)

    def _finish_unmentioned(self, events: list[StreamEvent]) -> None:
        """Close the parts that the finished item lacks, and those that were only announced."""
        silent = {"text", "refusal"} - self._latest.keys()
        for key, text in self._announced.items():
            part = self._parts.get(key) or (self._open(key, events) if key[0] in silent else None)
            if part is not None and not part.pieces:
                events.append(grow(part, text))
        for key in list(self._parts):
            self._close(key, [], events)

    def _close(self, key: _TextKey, contents: Sequence[MessageContent], events: list[StreamEvent]) -> None:
        """Close a part with the citations and log probabilities of its finished contents, else of its done event."""
        part = self._parts.pop(key)
        self._closed.append(part)
        if self._answer.texts.get((self._index, key[1])) is part:
            del self._answer.texts[self._index, key[1]]
        done_content = self._done_contents.get(key, {})
        cited = [entry for content in contents for entry in annotations_of(content.raw)] or annotations_of(done_content)
        streamed = as_list(part.state.get("annotations"))
        self._answer.parts.admit(max(0, len(cited) - len(streamed)))
        cited = cited or streamed
        part.state = {**self._said, "annotations": cited} if cited else {**self._said}
        part.citations = [citation_of(as_object(entry)) for entry in cited]
        raw = [entry for content in contents for entry in as_list(content.raw.get("logprobs"))]
        part.logprobs = logprobs_of(raw or done_content.get("logprobs"))
        self._answer.parts.admit(sum(1 + len(each.top) for each in part.logprobs) // _LIKELIHOODS_IN_A_PART)
        events.append(self._answer.close(part))

    def _finish_audio(self, content: MessageContent, events: list[StreamEvent]) -> None:
        """Emit audio inside a message, as in plain bodies: the transcript, then the audio."""
        if content.text and self._answer.transcript is None:
            self._answer.say("text", content.text, events)
        sound = decoded(as_text(content.raw.get("data")))
        if sound and not self._answer.audio:
            events += self._answer.parts.file("audio/*", {}, data=sound)


def _in_order(places: Sequence[int], finished: Mapping[int, MessageContent], rest: str) -> dict[int, _Plan]:
    """Assign the finished contents to the parts in order; the last part takes the remaining text."""
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
