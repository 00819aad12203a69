"""Decodes answers of OpenAI Responses, streamed or plain: text, reasoning, calls and hosted tools.

Source: https://platform.openai.com/docs/api-reference/responses-streaming and the types of the ``openai`` package 3.54
(``types/responses/response_stream_event.py``, ``response_output_item.py``, read 2026-11-22)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, NoReturn, TypedDict

import orjson

from dhenara_async.drivers.base import (
    BatchDecoder,
    JsonObject,
    arguments_text,
    as_count,
    as_list,
    as_object,
    as_text,
    dumped,
    has_more,
    is_object,
    load,
    not_an_object,
    only_one,
    quote,
)
from dhenara_async.drivers.failures import truncated
from dhenara_async.drivers.openai_responses.answer import AnswerInFlight, grow, rest_of
from dhenara_async.drivers.openai_responses.content import INPUT_TRANSFORMATIONS
from dhenara_async.drivers.openai_responses.items import CallItem, ReasoningItem
from dhenara_async.drivers.openai_responses.matching import ItemsInFlight
from dhenara_async.drivers.openai_responses.message import MessageItem
from dhenara_async.drivers.openai_responses.reading import (
    MessageContent,
    content_of,
    counts_anything,
    decoded,
    failure_in,
    is_failed,
    is_failure,
    items_of,
    replayed_fields,
    responses_error,
    text_of,
    usage_of,
)
from dhenara_async.drivers.parts import PartsInFlight, finish_of, state, usage_events
from dhenara_async.errors import ProtocolError, TruncatedStreamError
from dhenara_async.events import ChoiceFinish, Heartbeat, StreamEnd, StreamEvent, TextDelta
from dhenara_async.framing import Frame, name_of
from dhenara_async.framing.lenient_json import exact
from dhenara_async.messages.messages import Origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import FinishReason
from dhenara_async.usage.tokens import Usage

# Reasons for an incomplete answer: OpenAI's, and those of hosts that use Chat Completions' names.
_INCOMPLETE: Mapping[str, FinishReason] = {
    "": FinishReason.LENGTH,
    "max_output_tokens": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "max_completion_tokens": FinishReason.LENGTH,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
    "context_length_exceeded": FinishReason.CONTEXT_WINDOW,
    "model_context_window_exceeded": FinishReason.CONTEXT_WINDOW,
}
_STATUS = {"completed": FinishReason.STOP}
_UNSETTLED = frozenset(("", "in_progress", "queued"))  # statuses without an outcome; the terminal event's type decides
_FAILURES = ("error", "response.error", "response.failed")
_OF_A_TEXT = frozenset(("type", "text"))
_ENOUGH = 3  # consecutive numbers that prove that a host counts its events
# Progress of hosted tools: no content, but a sign of life.
_AT_WORK = (".in_progress", ".searching", ".interpreting", ".generating", ".compacting", ".partial_image")


class _UsualResponsesEvent(TypedDict):
    """An event of the usual shape, as far as it is read; another shape fails with KeyError or TypeError."""

    type: str
    output_index: int
    content_index: int
    delta: str
    sequence_number: int


class ResponsesDecoder(BatchDecoder):
    """Decodes one answer. Its items are found by output index, since some gateways change item ids in mid-stream.

    Events are numbered. Hosts without numbers, or with equal ones, are not checked. Where numbers have increased by
    one, a repeated number means duplicate or reordered events. A number may be missing, since gateways leave events
    out, but not together with text that contradicts the finished item.

    Args:
        request: The request that is answered.
        origin: The endpoint that answers.
    """

    __slots__ = (
        "_answer",
        "_done",
        "_items",
        "_next",
        "_numbered",
        "_parts",
        "_raw_usage",
        "_response_id",
        "_run",
        "_searches",
        "_texts",
        "_trusted",
    )

    def __init__(self, request: ChatRequest, origin: Origin) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._answer = AnswerInFlight(self._parts)
        self._texts = self._answer.texts
        self._items = ItemsInFlight(self._answer)
        self._raw_usage: JsonObject = {}
        self._searches: int | None = None
        self._response_id = ""
        self._done = False
        self._next = self._run = 0  # the expected number; the first number of the current sequence
        self._numbered, self._trusted = True, False

    def feed_all(self, frames: Iterator[Frame], events: list[StreamEvent]) -> None:
        """See ``drivers.base.FeedAll``."""
        texts = self._texts
        for frame in frames:
            try:
                usual: _UsualResponsesEvent = orjson.loads(frame)
            except orjson.JSONDecodeError:
                last = self._feed_unusual(frame)
            else:
                try:  # a text delta for an open text part, in order, as in nearly every event
                    if usual["type"] == "response.output_text.delta":
                        part, text = texts[usual["output_index"], usual["content_index"]], usual["delta"]
                        if (
                            text
                            and text.__class__ is str
                            and (not self._numbered or usual["sequence_number"] == self._next)
                        ):
                            self._next += self._numbered
                            part.pieces.append(text)
                            events.append(TextDelta(part.part_id, text))
                            continue
                except (KeyError, TypeError):  # another kind of event
                    pass
                event: object = usual
                if not is_object(event):
                    raise not_an_object(frame)
                last = self._feed(event, frame)
            events += last
            if last and last[-1].__class__ is StreamEnd:
                return

    def _feed_unusual(self, frame: Frame) -> Sequence[StreamEvent]:
        """Decode a frame that is not plain JSON: another dialect's end mark, or a frame with an event name."""
        if frame == b"[DONE]":
            return ()
        name = name_of(frame)
        if name == b"error":
            self._fail(failure_in(frame))
        event = load(frame)
        if name and "type" not in event and not event.get("object"):
            event["type"] = name.decode(errors="replace")
        return self._feed(event, frame)

    def _feed(self, event: JsonObject, frame: Frame) -> Sequence[StreamEvent]:
        kind = event.get("type")
        if not kind:
            return self._plain(event, frame)
        if not as_text(kind).endswith(".delta"):
            event = as_object(exact(event, frame))
        if event.get("sequence_number") == self._next:
            self._next += 1
        elif self._numbered:
            self._check_number(event)
        handler = self._HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is not None:
            return self._with_start(event, handler(self, event))
        if event.get("error") and not as_text(kind).startswith("response."):
            self._fail(event)
        if self._parts.started and as_text(kind).endswith(_AT_WORK):
            return (Heartbeat(),)
        return ()  # new event types are added weekly, so others are ignored

    def finish(self) -> Sequence[StreamEvent]:
        if not self._done:
            raise truncated("response.completed")
        return ()

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._raw_usage, self._searches)

    def _check_number(self, event: JsonObject) -> None:
        """Check a number that was not expected."""
        number, due = as_count(event.get("sequence_number")), self._next
        self._trusted = self._trusted or due - self._run >= _ENOUGH
        if number is None or number <= 0 or event.get("type") in _FAILURES:  # events added by gateways often have none
            self._numbered = self._trusted
        elif number >= due:
            self._answer.gap = self._answer.gap or (self._trusted and number > due)
            self._next, self._run = number + 1, number if number > due else self._run
        elif self._trusted:
            raise ProtocolError(
                f"the events of the stream are duplicated or out of order: number {number} after {due - 1}"
            )
        else:
            self._numbered = False

    # ------------------------------------------------------------------------------------------ the response

    def _with_start(self, event: JsonObject, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """Return ``events``, after a start event where the host has not announced its response."""
        if self._parts.started:
            if self._parts.nameless:
                self._parts.complete(model=event.get("model"), response_id=event.get("response_id"))
            return events
        if not events:
            return events
        return [self._parts.begin(model=event.get("model"), response_id=event.get("response_id")), *events]

    def _created(self, event: JsonObject) -> Sequence[StreamEvent]:
        response_id = as_text(as_object(event.get("response")).get("id"))
        if response_id and self._response_id and response_id != self._response_id and len(self._items):
            raise TruncatedStreamError(
                "the stream began another response before the end of the first; .partial holds the first"
            )
        self._response_id = self._response_id or response_id
        return self._read_metadata(event)

    def _in_progress(self, event: JsonObject) -> Sequence[StreamEvent]:
        return self._read_metadata(event) or (Heartbeat(),)

    def _read_metadata(self, event: JsonObject) -> Sequence[StreamEvent]:
        """Read the metadata of a response; returns the start of the stream if this is the first event."""
        response = as_object(event.get("response"))
        usage = response.get("usage") or event.get("usage")
        if usage:
            raw = as_object(usage)
            if not self._raw_usage or counts_anything(raw):  # zeros never replace counts
                self._raw_usage = raw
        model = response.get("model") or event.get("model")
        response_id = response.get("id") or event.get("response_id")
        if not self._parts.started:
            return (self._parts.begin(model=model, response_id=response_id),)
        self._parts.complete(model=model, response_id=response_id)
        return ()

    # ------------------------------------------------------------------------------------------ items

    def _item_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        return self._items.announce(as_count(event.get("output_index")), as_object(event.get("item")))

    def _item_done(self, event: JsonObject) -> Sequence[StreamEvent]:
        return self._items.finish(as_count(event.get("output_index")), self._checked(as_object(event.get("item"))))

    def _checked(self, item: JsonObject) -> JsonObject:
        if is_failed(item):
            self._fail(item)
        return item

    # ------------------------------------------------------------------------------------------ messages

    def _words_delta(self, event: JsonObject, kind: Literal["text", "refusal"]) -> Sequence[StreamEvent]:
        text = text_of(event.get("delta"))
        message = self._items.find(event, MessageItem, streamed=True) if text else None
        return message.add(kind, _place(event), text) if message else ()

    def _words_done(self, event: JsonObject, kind: Literal["text", "refusal"]) -> Sequence[StreamEvent]:
        details: JsonObject = {"annotations": event.get("annotations"), "logprobs": event.get("logprobs")}
        return self._whole_content(
            event, MessageContent(kind, text_of(event.get(kind)) or text_of(event.get("text")), details)
        )

    def _part_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        content = content_of(event.get("part"))
        if content is None or content.kind == "reasoning":
            return self._section_added(event, "content", "content_index")
        message = self._items.find(event, MessageItem)
        return message.announce_content(content, _place(event)) if message else ()

    def _part_done(self, event: JsonObject) -> Sequence[StreamEvent]:
        content = content_of(event.get("part"))
        if content is None or content.kind == "reasoning":
            return self._section_done(event, "content", "content_index")
        return self._whole_content(event, content)

    def _whole_content(self, event: JsonObject, content: MessageContent) -> Sequence[StreamEvent]:
        message = self._items.find(event, MessageItem)
        return message.complete(content, _place(event)) if message else ()

    def _annotation_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        message = self._items.find(event, MessageItem)
        if message is not None:
            message.cite(_place(event), event.get("annotation"))
        return ()

    # ------------------------------------------------------------------------------------------ thoughts

    def _thought_delta(self, event: JsonObject, name: str, place: str) -> Sequence[StreamEvent]:
        text = text_of(event.get("delta"))
        thought = self._items.find(event, ReasoningItem, streamed=True) if text else None
        return thought.add(name, as_count(event.get(place)), text) if thought else ()

    def _section_added(self, event: JsonObject, name: str, place: str) -> Sequence[StreamEvent]:
        thought = self._items.find(event, ReasoningItem)
        if thought is not None:
            thought.announce_section(name, as_count(event.get(place)), text_of(event.get("part")))
        return ()

    def _section_done(self, event: JsonObject, name: str, place: str) -> Sequence[StreamEvent]:
        text = text_of(event.get("text")) or text_of(event.get("part"))
        thought = self._items.find(event, ReasoningItem) if text else None
        return thought.complete(name, as_count(event.get(place)), text) if thought else ()

    # ------------------------------------------------------------------------------------------ calls

    def _arguments_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        text = arguments_text(event.get("delta"))
        call = self._items.find(event, CallItem, streamed=True) if text else None
        return call.add(text) if call else ()

    def _arguments_done(self, event: JsonObject) -> Sequence[StreamEvent]:
        call = self._items.find(event, CallItem)
        return call.complete(event) if call else ()

    # ------------------------------------------------------------------------------------------ sound

    def _audio_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        sound = decoded(as_text(event.get("delta")))
        if sound:
            self._answer.audio.append(sound)
        return ()

    def _audio_done(self) -> Sequence[StreamEvent]:
        events: list[StreamEvent] = []
        self._answer.play(events)
        return events

    def _transcript_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        text, events = text_of(event.get("delta")), list[StreamEvent]()
        if text:
            answer = self._answer
            answer.transcript = answer.transcript or answer.open("text", events)
            events.append(grow(answer.transcript, text))
        return events

    def _transcript_done(self, event: JsonObject) -> Sequence[StreamEvent]:
        part, events = self._answer.transcript, list[StreamEvent]()
        if part is not None:
            rest = rest_of(part.pieces, as_text(event.get("transcript")))
            if rest:
                events.append(grow(part, rest))
            events.append(self._answer.close(part))
            self._answer.transcript = None
        return events

    # ------------------------------------------------------------------------------------------ the end

    def _terminal(self, event: JsonObject) -> Sequence[StreamEvent]:
        response = as_object(event.get("response")) or event  # some hosts omit the envelope
        events = list(self._read_metadata(event))
        kind, status = as_text(event.get("type")), as_text(response.get("status"))
        if kind == "response.failed" or status.lower() in ("failed", "error") or _error_in(event):
            self._fail(event)
        items = [self._checked(item) for item in items_of(response)]
        if self._items.lost and not items:
            raise ProtocolError("text arrived for a finished item, and the end of the answer does not repeat it")
        events += self._items.settle(items)
        answer = self._answer
        if answer.transcript is not None:
            events += self._transcript_done({})
        answer.play(events)
        summary = as_text(response.get("output_text"))  # of its texts: some hosts send it in place of items
        if summary and not (answer.has_text or answer.refused or answer.has_calls):
            answer.say("text", summary, events)
        self._done = True
        tools = as_object(response.get("tool_usage"))
        self._searches = as_count(as_object(tools.get("web_search")).get("num_requests")) if tools else None
        withheld = as_list(response.get("input_transformations"))
        if withheld:
            events += self._parts.hosted(INPUT_TRANSFORMATIONS, {}, output=withheld, report=True)
        self._parts.finishes[0] = self._finish_reason(kind, status, response.get("incomplete_details"))
        return [*events, *usage_events(self.usage), self._parts.end()]

    def _finish_reason(self, kind: str, status: str, details: object) -> ChoiceFinish:
        """Return how the answer ended, by its status, or by the event's type if the status is not final."""
        ending, calls = kind.removeprefix("response."), self._answer.has_calls
        reason = as_text(details) or as_text(as_object(details).get("reason")) if details else ""
        word = status.lower()
        if ending in ("incomplete", "cancelled") or word in _UNSETTLED:
            word = status = ending or status
        if word == "incomplete" or (reason and word in ("", "completed")):
            status = f"incomplete:{reason}" if reason else status
            return finish_of(status, {status: _INCOMPLETE.get(reason.lower(), FinishReason.OTHER)}, has_calls=calls)
        finish = finish_of(status, {status: FinishReason.STOP} if word == "completed" else {}, has_calls=calls)
        if finish.finish_reason is FinishReason.STOP and self._answer.refused and not self._answer.has_text:
            finish.finish_reason = FinishReason.REFUSAL
        return finish

    # ------------------------------------------------------------------------------------------ plain bodies

    def _plain(self, body: JsonObject, data: bytes) -> Sequence[StreamEvent]:
        """Decode a plain body: the response itself, or an object with the response as its only member."""
        whole = () if self._parts.started or body.get("error") else self._at_once(body)
        if whole:
            return whole
        body = as_object(exact(body, data))
        inner = as_object(body.get("response"))
        if "output" not in body and ("output" in inner or inner.get("object") == "response"):
            body = inner
        if body.get("error"):
            self._fail(body)
        if "output" not in body and body.get("object") != "response":
            if is_failure(body):
                self._fail(body)
            raise ProtocolError(f"the answer is not a response: it has no output: {quote(data)}")
        return self._terminal({"response": body})

    def _at_once(self, body: JsonObject) -> Sequence[StreamEvent]:
        """Decode a plain answer in one step if it is a single text, as many are; otherwise return nothing."""
        item = only_one(body.get("output"))
        content = only_one(item.get("content"))
        text, word = as_text(content.get("text")), as_text(body.get("status"))
        if not text or word != "completed" or body.get("incomplete_details") or item.get("error"):
            return ()
        if item.get("type") != "message" or content.get("type") != "output_text" or has_more(content, _OF_A_TEXT):
            return ()
        if body.get("tool_usage") or body.get("input_transformations"):
            return ()
        self._done, self._raw_usage = True, as_object(body.get("usage"))
        return self._parts.all_at_once(
            text,
            model=body.get("model"),
            response_id=body.get("id"),
            finish=finish_of(word, _STATUS, has_calls=False),
            usage=self.usage,
            kept=state(replayed_fields(item)),
        )

    def _fail(self, event: JsonObject) -> NoReturn:
        """Raise the failure that an event, a response or an item reports."""
        error = _error_in(event)
        details = {"error": error} if error else {name: event[name] for name in event if name != "response"}
        raise responses_error(200, {}, dumped(event).encode(), details, self._parts.provider)

    _HANDLERS: ClassVar[Mapping[str, "Callable[[ResponsesDecoder, JsonObject], Sequence[StreamEvent]]"]] = {
        "response.created": lambda self, event: self._created(event),
        "response.in_progress": lambda self, event: self._in_progress(event),
        "response.queued": lambda self, event: self._in_progress(event),
        "response.output_item.added": lambda self, event: self._item_added(event),
        "response.output_item.done": lambda self, event: self._item_done(event),
        "response.content_part.added": lambda self, event: self._part_added(event),
        "response.content_part.done": lambda self, event: self._part_done(event),
        "response.output_text.delta": lambda self, event: self._words_delta(event, "text"),
        "response.output_text.done": lambda self, event: self._words_done(event, "text"),
        "response.output_text.annotation.added": lambda self, event: self._annotation_added(event),
        "response.refusal.delta": lambda self, event: self._words_delta(event, "refusal"),
        "response.refusal.done": lambda self, event: self._words_done(event, "refusal"),
        "response.reasoning_summary_part.added": lambda self, event: self._section_added(event, *_SUMMARY),
        "response.reasoning_summary_part.done": lambda self, event: self._section_done(event, *_SUMMARY),
        "response.reasoning_summary_text.delta": lambda self, event: self._thought_delta(event, *_SUMMARY),
        "response.reasoning_summary_text.done": lambda self, event: self._section_done(event, *_SUMMARY),
        "response.reasoning_text.delta": lambda self, event: self._thought_delta(event, *_THOUGHT),
        "response.reasoning_text.done": lambda self, event: self._section_done(event, *_THOUGHT),
        "response.function_call_arguments.delta": lambda self, event: self._arguments_delta(event),
        "response.function_call_arguments.done": lambda self, event: self._arguments_done(event),
        "response.custom_tool_call_input.delta": lambda self, event: self._arguments_delta(event),
        "response.custom_tool_call_input.done": lambda self, event: self._arguments_done(event),
        "response.audio.delta": lambda self, event: self._audio_delta(event),
        "response.audio.done": lambda self, _event: self._audio_done(),
        "response.audio.transcript.delta": lambda self, event: self._transcript_delta(event),
        "response.audio.transcript.done": lambda self, event: self._transcript_done(event),
        "response.completed": lambda self, event: self._terminal(event),
        "response.incomplete": lambda self, event: self._terminal(event),
        "response.failed": lambda self, event: self._terminal(event),
        "response.cancelled": lambda self, event: self._terminal(event),
        "response.error": lambda self, event: self._fail(event),
        "error": lambda self, event: self._fail(event),
    }


# By the list of a reasoning item that a section is in: its name, and the name of its index in events.
_SUMMARY = "summary", "summary_index"
_THOUGHT = "content", "content_index"


def _place(event: JsonObject) -> int | None:
    return as_count(event.get("content_index"))


def _error_in(event: JsonObject) -> object:
    """Return the error of a response, else of the event itself; None or another empty value if there is none."""
    return as_object(event.get("response")).get("error") or event.get("error")
