"""Reading the answers of OpenAI Responses: streamed or plain, words, thinking, calls, and what the provider ran itself.

Source: https://platform.openai.com/docs/api-reference/responses-streaming and the types of the ``openai`` package 3.54
(``types/responses/response_stream_event.py``, ``response_output_item.py``, read 2026-11-22)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypedDict

import orjson

from dhenara_async.drivers.base import (
    JsonObject,
    as_count,
    as_list,
    as_object,
    as_text,
    has_more,
    is_object,
    load,
    not_an_object,
    only_one,
    quote,
)
from dhenara_async.drivers.failures import truncated
from dhenara_async.drivers.openai_responses_content import INPUT_TRANSFORMATIONS
from dhenara_async.drivers.openai_responses_reading import (
    HOSTED,
    citation_of,
    decoded,
    logprobs_of,
    media_type_of,
    reasoning_text,
    responses_error,
    said_of,
    usage_of,
)
from dhenara_async.drivers.parts import OpenPart, PartsInFlight, finish_of, state, usage_events
from dhenara_async.errors import ProtocolError
from dhenara_async.events import (
    ChoiceFinish,
    Heartbeat,
    PartKind,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.framing import Frame
from dhenara_async.messages import Origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import FinishReason
from dhenara_async.usage import Usage

_INCOMPLETE = {
    "incomplete:max_output_tokens": FinishReason.LENGTH,
    "incomplete:content_filter": FinishReason.CONTENT_FILTER,
}
_STATUS = {"completed": FinishReason.STOP}
_CALLS = ("function_call", "custom_tool_call")
_FAILURES = ("error", "response.failed")
_OF_A_TEXT = frozenset(("type", "text"))
_ENOUGH = 3  # numbers in a row that show that a host counts its events
# What a tool of the provider's is at: nothing to say yet, but a sign of life.
_AT_WORK = (".in_progress", ".searching", ".interpreting", ".generating", ".compacting", ".partial_image")

_Key = tuple[object, object]
_WHOLE = object()  # in place of a content index, for items that are one part; no wire can name it
_TRANSCRIPT: _Key = (_WHOLE, _WHOLE)


class _Usual(TypedDict):
    """The usual event, as far as it is looked at; others are told by how that fails."""

    type: str
    output_index: int
    content_index: int
    delta: str
    sequence_number: int


class ResponsesDecoder:
    """One answer. Parts by (output index, content index): some gateways change item ids in mid-stream, indexes stay.

    Events are numbered. Hosts that number none, or all alike, are left alone; where numbers have gone up by one, one
    that was there already means that events come twice or out of order. A number may be missing, since gateways leave
    events out, but not together with words that the finished item has.

    Args:
        request: The question.
        origin: The endpoint that answers.
    """

    __slots__ = (
        "_audio",
        "_done",
        "_finished",
        "_gap",
        "_has_calls",
        "_lost",
        "_next",
        "_numbered",
        "_open",
        "_parts",
        "_raw_usage",
        "_refused",
        "_run",
        "_searches",
        "_spoke",
        "_trusted",
    )

    def __init__(self, request: ChatRequest, origin: Origin) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._open: dict[_Key, OpenPart] = {}
        self._finished: set[int | None] = set()
        self._raw_usage: JsonObject = {}
        self._searches: int | None = None
        self._audio: list[bytes] = []
        self._has_calls = self._refused = self._spoke = self._done = False
        self._next = self._run = 0  # the number that is due; where the present row of numbers began
        self._numbered, self._trusted, self._gap = True, False, False
        self._lost = False  # words came for an item that was finished

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        try:
            usual: _Usual = orjson.loads(frame)
        except orjson.JSONDecodeError:
            return () if frame == b"[DONE]" else self._feed(load(frame), frame)
        try:  # words for a text that is open, in their turn, as nearly every event has them
            if usual["type"] == "response.output_text.delta":
                part, text = self._open[usual["output_index"], usual["content_index"]], usual["delta"]
                if text and text.__class__ is str and (not self._numbered or usual["sequence_number"] == self._next):
                    self._next += self._numbered
                    part.pieces.append(text)
                    return (TextDelta(part.part_id, text),)
        except (KeyError, TypeError):  # another event
            pass
        event: object = usual
        if not is_object(event):
            raise not_an_object(frame)
        return self._feed(event, frame)

    def _feed(self, event: JsonObject, frame: Frame) -> Sequence[StreamEvent]:
        kind = event.get("type")
        if event.get("sequence_number") == self._next:
            self._next += 1
        elif self._numbered:
            self._check_number(event)
        if kind == "response.output_text.delta":
            return self._begun(self._delta(event, "text", _place(event)))
        handler = self._HANDLERS.get(kind)
        if handler is not None:
            return self._begun(handler(self, event))
        if kind is None:
            return self._plain(event, frame)
        if self._parts.started and as_text(kind).endswith(_AT_WORK):
            return (Heartbeat(),)
        return ()  # event types are added weekly

    def finish(self) -> Sequence[StreamEvent]:
        if not self._done:
            raise truncated("response.completed")
        return ()

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._raw_usage, self._searches)

    def _check_number(self, event: JsonObject) -> None:
        """Judge a number that was not due."""
        number, due = as_count(event.get("sequence_number")), self._next
        self._trusted = self._trusted or due - self._run >= _ENOUGH
        if number is None or number <= 0 or event.get("type") in _FAILURES:  # what gateways make up often has none
            self._numbered = self._trusted
        elif number > due:
            self._gap = self._gap or self._trusted
            self._next, self._run = number + 1, number
        elif self._trusted:
            raise ProtocolError(f"the events of the stream come twice or out of order: number {number} after {due - 1}")
        else:
            self._numbered = False

    # ------------------------------------------------------------------------------------------ while it streams

    def _begun(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """``events``, after a start of our own where the host began without announcing its response."""
        if self._parts.started or not events:
            return events
        return [self._parts.begin(model=None, response_id=None), *events]

    def _created(self, event: JsonObject) -> Sequence[StreamEvent]:
        if self._parts.started:
            return ()
        response = as_object(event.get("response"))
        return (self._parts.begin(model=response.get("model"), response_id=response.get("id")),)

    def _in_progress(self, event: JsonObject) -> Sequence[StreamEvent]:
        return (Heartbeat(),) if self._parts.started else self._created(event)

    def _item_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        item, key = as_object(event.get("item")), _item_of(event)
        if key in self._open or key[0] in self._finished:
            return ()
        kind = item.get("type")
        if kind == "reasoning":
            part = self._open[key] = self._parts.open("reasoning")
        elif kind in _CALLS:
            part = self._open[key] = self._open_call(item)
        else:
            return ()  # messages open with their content, hosted calls come whole
        return (part.start,)

    def _open_call(self, item: JsonObject) -> OpenPart:
        self._has_calls = True
        return self._parts.open("tool_call", call_id=as_text(item.get("call_id")), name=as_text(item.get("name")))

    def _content_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        kind = as_object(event.get("part")).get("type")
        key = _refusal_of(event) if kind == "refusal" else _place(event)
        if kind not in ("output_text", "refusal") or key in self._open or key[0] in self._finished:
            return ()
        return (self._open_content(key, "text" if kind == "output_text" else "refusal").start,)

    def _open_content(self, key: _Key, kind: PartKind) -> OpenPart:
        if kind == "refusal":
            self._refused = True
        part = self._open[key] = self._parts.open(kind)
        return part

    def _delta(self, event: JsonObject, kind: PartKind, key: _Key) -> Sequence[StreamEvent]:
        """A delta; opens its part where the host did not announce it."""
        text = as_text(event.get("delta"))
        if not text:
            return ()
        if key[0] in self._finished:
            self._lost = True
            return ()
        part, events = self._open.get(key), list[StreamEvent]()
        if part is None:
            if kind == "tool_call":
                return ()  # nobody said whose arguments these are; the finished item repeats them
            part = self._open_content(key, kind)
            events.append(part.start)
        elif part.start.kind != kind:
            return ()  # of an item that was announced as something else
        part.pieces.append(text)
        events.append(_delta_of(part, text))
        return events

    def _annotation_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        """Kept for hosts that do not repeat them with the finished item."""
        part = self._open.get(_place(event))
        if part is not None and event.get("annotation"):
            part.state["annotations"] = [*as_list(part.state.get("annotations")), event["annotation"]]
        return ()

    # ------------------------------------------------------------------------------------------ sound

    def _audio_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        sound = decoded(as_text(event.get("delta")))
        if sound:
            self._audio.append(sound)
        return ()

    def _audio_done(self) -> list[StreamEvent]:
        """The sound as one file; the stream does not say which kind of sound it is."""
        if not self._audio:
            return []
        sound = b"".join(self._audio)
        self._audio.clear()
        return self._parts.file("audio/*", {}, data=sound)

    def _transcript_done(self) -> Sequence[StreamEvent]:
        part = self._open.pop(_TRANSCRIPT, None)
        return () if part is None else (self._parts.close(part),)

    # ------------------------------------------------------------------------------------------ finished items

    def _item_done(self, event: JsonObject) -> Sequence[StreamEvent]:
        return self._finish_item(as_count(event.get("output_index")), as_object(event.get("item")))

    def _finish_item(self, index: int | None, item: JsonObject) -> list[StreamEvent]:
        """Close an item's parts from its final form; whatever was not streamed is opened and closed here."""
        if index is not None and index in self._finished:
            return []
        self._finished.add(index)
        events: list[StreamEvent] = []
        kind = item.get("type")
        if kind == "message":
            for position, content in enumerate(map(as_object, as_list(item.get("content")))):
                self._finish_content((index, position), content, item, events)
        elif kind == "reasoning":
            part = self._open_or_new((index, _WHOLE), "reasoning", events)
            part.state = {key: item[key] for key in ("id", "summary", "encrypted_content") if key in item}
            self._finish_text(part, reasoning_text(item), events)
        elif kind in _CALLS:
            part = self._taken((index, _WHOLE), "tool_call")
            if part is None:
                part = self._open_call(item)
                events.append(part.start)
            part.state = {key: item[key] for key in ("id", "namespace") if item.get(key)}
            if kind != "function_call":
                part.state["type"] = kind
            self._finish_text(part, as_text(item.get("arguments")) or as_text(item.get("input")), events)
        else:
            events += self._finish_hosted(item)
        return events

    def _finish_hosted(self, item: JsonObject) -> list[StreamEvent]:
        kind = as_text(item.get("type"))
        if kind == "image_generation_call":
            image = decoded(as_text(item.get("result")))
            if image:
                kept = {key: value for key, value in item.items() if key != "result"}
                return self._parts.file(media_type_of(item), kept, data=image)
        read = HOSTED.get(kind)
        tool, asked, output = read(item) if read else (None, None, None)
        call_id = as_text(item.get("call_id")) or None
        return self._parts.hosted(kind, dict(item), tool=tool, call_id=call_id, asked=asked, output=output)

    def _open_or_new(self, key: _Key, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        part = self._taken(key, kind)
        if part is None:
            part = self._parts.open(kind)
            events.append(part.start)
        return part

    def _taken(self, key: _Key, kind: PartKind) -> OpenPart | None:
        """The open part at ``key``; one of another kind stays open until the end."""
        part = self._open.get(key)
        return self._open.pop(key) if part is not None and part.start.kind == kind else None

    def _finish_content(self, key: _Key, content: JsonObject, item: JsonObject, events: list[StreamEvent]) -> None:
        match content.get("type"):
            case "output_text":
                part = self._open_or_new(key, "text", events)
                text = as_text(content.get("text"))
                self._spoke = self._spoke or bool(text)
                annotations = content.get("annotations") or part.state.get("annotations")
                part.logprobs = logprobs_of(content.get("logprobs"))
            case "refusal":
                self._refused = True
                part = self._open_or_new((key[0], ("refusal", key[1])), "refusal", events)
                text, annotations = as_text(content.get("refusal")), None
            case "output_audio":
                self._finish_audio(content, events)
                return
            case kind:
                events += self._parts.hosted(as_text(kind), {**item, "content": [content]})
                return
        part.state = said_of(item)
        if annotations:
            part.state["annotations"] = annotations
        self._finish_text(part, text, events)

    def _finish_audio(self, content: JsonObject, events: list[StreamEvent]) -> None:
        """Sound inside a message, as plain bodies have it: the words it says, then the sound."""
        words = as_text(content.get("transcript"))
        if words and _TRANSCRIPT not in self._open:
            part = self._parts.open("text")
            events.append(part.start)
            self._finish_text(part, words, events)
        sound = decoded(as_text(content.get("data")))
        if sound and not self._audio:
            events += self._parts.file("audio/*", {}, data=sound)

    def _finish_text(self, part: OpenPart, text: str, events: list[StreamEvent]) -> None:
        """Close a part; one that streamed nothing hands its text over as one delta first."""
        if text and not part.pieces:
            part.pieces.append(text)
            events.append(_delta_of(part, text))
        elif text and self._gap and part.start.kind != "reasoning" and text != "".join(part.pieces):
            raise ProtocolError("events of the stream are missing, and with them words that the finished item has")
        events.append(self._close(part))

    def _close(self, part: OpenPart) -> StreamEvent:
        part.citations = [citation_of(as_object(entry)) for entry in as_list(part.state.get("annotations")) if entry]
        return self._parts.close(part)

    # ------------------------------------------------------------------------------------------ the end

    def _terminal(self, event: JsonObject) -> Sequence[StreamEvent]:
        response = as_object(event.get("response"))
        events = list(self._created(event))
        if response.get("status") == "failed" or response.get("error"):
            self._raise(response)
        # Where items came without an index, nobody can tell which of these are the same.
        items = [] if None in self._finished else as_list(response.get("output"))
        if self._lost and not items:
            raise ProtocolError("words came for an item that was finished, and the end does not repeat them")
        for index, item in enumerate(map(as_object, items)):
            events += self._finish_item(index, item)
        self._done = True
        self._raw_usage = as_object(response.get("usage"))
        self._searches = as_count(
            as_object(as_object(response.get("tool_usage")).get("web_search")).get("num_requests")
        )
        self._spoke = self._spoke or any(part.start.kind == "text" for part in self._open.values())
        events += [self._close(part) for part in self._open.values()]
        self._open.clear()
        events += self._audio_done()
        withheld = as_list(response.get("input_transformations"))
        if withheld:
            events += self._parts.hosted(INPUT_TRANSFORMATIONS, {}, output=withheld, report=True)
        self._parts.finishes[0] = self._finish_reason(response)
        return [*events, *usage_events(self.usage), self._parts.end()]

    def _finish_reason(self, response: JsonObject) -> ChoiceFinish:
        status = as_text(response.get("status"))
        if status == "incomplete":
            reason = as_text(as_object(response.get("incomplete_details")).get("reason"))
            return finish_of(f"{status}:{reason}" if reason else status, _INCOMPLETE, has_calls=self._has_calls)
        finish = finish_of(status, _STATUS, has_calls=self._has_calls)
        if finish.finish_reason is FinishReason.STOP and self._has_calls:
            finish.finish_reason = FinishReason.TOOL_CALLS
        elif finish.finish_reason is FinishReason.STOP and self._refused and not self._spoke:
            finish.finish_reason = FinishReason.REFUSAL
        return finish

    def _plain(self, body: JsonObject, data: bytes) -> Sequence[StreamEvent]:
        """A plain body is the response itself."""
        if body.get("error"):
            self._raise(body)
        if "output" not in body and body.get("object") != "response":
            raise ProtocolError(f"the answer has no output, so it is no response: {quote(data)}")
        whole = () if self._parts.started else self._at_once(body)
        return whole or self._terminal({"response": body})

    def _at_once(self, body: JsonObject) -> Sequence[StreamEvent]:
        """A plain answer, all at once, if it is one text, as many are; else nothing is done."""
        item = only_one(body.get("output"))
        content = only_one(item.get("content"))
        text, word = as_text(content.get("text")), as_text(body.get("status"))
        if not text or word != "completed" or body.get("tool_usage") or body.get("input_transformations"):
            return ()
        if item.get("type") != "message" or content.get("type") != "output_text" or has_more(content, _OF_A_TEXT):
            return ()
        self._done, self._raw_usage = True, as_object(body.get("usage"))
        return self._parts.all_at_once(
            text,
            model=body.get("model"),
            response_id=body.get("id"),
            finish=finish_of(word, _STATUS, has_calls=False),
            usage=self.usage,
            kept=state(said_of(item)),
        )

    def _raise(self, event: JsonObject) -> Sequence[StreamEvent]:
        """``error`` events come flat or nested; failed responses hold one."""
        error = as_object(event.get("error")) or event
        raise responses_error(200, {}, orjson.dumps(event), error, self._parts.provider)

    _HANDLERS: ClassVar[Mapping[object, "Callable[[ResponsesDecoder, JsonObject], Sequence[StreamEvent]]"]] = {
        "response.created": lambda self, event: self._created(event),
        "response.in_progress": lambda self, event: self._in_progress(event),
        "response.queued": lambda self, event: self._in_progress(event),
        "response.output_item.added": lambda self, event: self._item_added(event),
        "response.content_part.added": lambda self, event: self._content_added(event),
        "response.output_text.annotation.added": lambda self, event: self._annotation_added(event),
        "response.refusal.delta": lambda self, event: self._delta(event, "refusal", _refusal_of(event)),
        "response.reasoning_summary_text.delta": lambda self, event: self._delta(event, "reasoning", _item_of(event)),
        "response.reasoning_text.delta": lambda self, event: self._delta(event, "reasoning", _item_of(event)),
        "response.function_call_arguments.delta": lambda self, event: self._delta(event, "tool_call", _item_of(event)),
        "response.custom_tool_call_input.delta": lambda self, event: self._delta(event, "tool_call", _item_of(event)),
        "response.audio.delta": lambda self, event: self._audio_delta(event),
        "response.audio.done": lambda self, _event: self._audio_done(),
        "response.audio.transcript.delta": lambda self, event: self._delta(event, "text", _TRANSCRIPT),
        "response.audio.transcript.done": lambda self, _event: self._transcript_done(),
        "response.output_item.done": lambda self, event: self._item_done(event),
        "response.completed": lambda self, event: self._terminal(event),
        "response.incomplete": lambda self, event: self._terminal(event),
        "response.failed": lambda self, event: self._terminal(event),
        "response.cancelled": lambda self, event: self._terminal(event),
        "error": lambda self, event: self._raise(event),
    }


def _item_of(event: JsonObject) -> _Key:
    return as_count(event.get("output_index")), _WHOLE


def _place(event: JsonObject) -> _Key:
    return as_count(event.get("output_index")), as_count(event.get("content_index"))


def _refusal_of(event: JsonObject) -> _Key:
    """Apart from the text at that place, so that no word can end up in a part of the other kind."""
    return as_count(event.get("output_index")), ("refusal", as_count(event.get("content_index")))


def _delta_of(part: OpenPart, text: str) -> StreamEvent:
    match part.start.kind:
        case "text":
            return TextDelta(part.part_id, text)
        case "reasoning":
            return ReasoningDelta(part.part_id, text)
        case "refusal":
            return RefusalDelta(part.part_id, text)
        case _:
            return ToolCallDelta(part.part_id, text)
