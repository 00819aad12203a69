"""Decodes answers of the Messages API, streamed or plain.

Source: https://docs.anthropic.com/en/api/messages-streaming and the types of the ``anthropic`` package 2.12 (read
2026-11-22)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, TypedDict

import orjson

from dhenara_async.drivers.anthropic_messages.blocks import Blocks, content_field
from dhenara_async.drivers.anthropic_messages.content import REPORTS
from dhenara_async.drivers.anthropic_messages.reading import (
    FINISH,
    blocks_of,
    failure_inside,
    is_failure,
    messages_error,
    rest,
    updated_counts,
    usage_of,
)
from dhenara_async.drivers.base import (
    BatchDecoder,
    JsonObject,
    as_list,
    as_object,
    as_text,
    is_object,
    load,
    not_an_object,
    only_one,
)
from dhenara_async.drivers.failures import error_object, truncated
from dhenara_async.drivers.parts import PartsInFlight, finish_of, usage_events
from dhenara_async.errors import ProtocolError, TruncatedStreamError
from dhenara_async.events import (
    Heartbeat,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.framing import Frame, name_of
from dhenara_async.framing.lenient_json import exact
from dhenara_async.messages.messages import Origin
from dhenara_async.request import ChatRequest
from dhenara_async.usage.tokens import Usage

_REPORTS = frozenset(REPORTS)


class _UsualDelta(TypedDict):
    """A delta of the usual shape."""

    type: str
    text: str


class _UsualMessagesEvent(TypedDict):
    """An event of the usual shape, as far as it is read; another shape fails with KeyError or TypeError."""

    type: str
    index: int
    delta: _UsualDelta


class MessagesDecoder(BatchDecoder):
    """Decodes one answer. Token counts of later events update those of the start; a stop reason stays once it is set.

    Args:
        request: The request that is answered.
        origin: The endpoint that answers.
        answer_tool: The tool whose call carries a structured answer, decoded as text; None = there is none.
    """

    __slots__ = (
        "_blocks",
        "_counts",
        "_done",
        "_id",
        "_open",
        "_parts",
        "_reports",
        "_shown",
        "_stop_reason",
        "_stop_sequence",
    )

    def __init__(self, request: ChatRequest, origin: Origin, *, answer_tool: str | None = None) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._blocks = Blocks(self._parts, answer_tool)
        self._open = self._blocks.open
        self._id = ""
        self._counts: Mapping[str, int] = {}
        self._shown = self._counts  # the counts in the last usage event
        self._stop_reason: object = None
        self._stop_sequence: object = None
        self._reports: JsonObject = {}
        self._done = False

    def feed_all(self, frames: Iterator[Frame], events: list[StreamEvent]) -> None:
        """See ``drivers.base.FeedAll``."""
        blocks = self._open
        for frame in frames:
            try:
                usual: _UsualMessagesEvent = orjson.loads(frame)
            except orjson.JSONDecodeError:
                last = self._feed_named(frame)
            else:
                try:  # a text delta for an open text part, as in nearly every event
                    if usual["type"] == "content_block_delta":
                        delta, part = usual["delta"], blocks[usual["index"]]
                        if (
                            delta["type"] == "text_delta"
                            and part.start.kind == "text"
                            and (text := delta["text"])
                            and text.__class__ is str
                        ):
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

    def _feed_named(self, frame: Frame) -> Sequence[StreamEvent]:
        """Decode a frame with an event name that its data does not begin with, or one that is not JSON."""
        name = name_of(frame)
        if self._done:
            return ()  # events after the end are ignored
        if name == b"error":
            raise messages_error(200, {}, bytes(frame), error_object(frame), self._parts.provider)
        if name == b"message":  # the default name of an event without one
            name = b""
        return self._feed(load(frame), frame, name.decode(errors="replace"))

    def _feed(self, event: JsonObject, frame: Frame, name: str = "") -> Sequence[StreamEvent]:
        kind = as_text(event.get("type")) or name or _kind_of(event)
        if self._done:
            return ()
        if kind == "content_block_delta":
            return self._block_delta(event)
        if kind == "message" and not self._parts.started and not event.get("error"):
            whole = self._at_once(event)
            if whole:
                return whole
        if b'"input"' in frame or b'_result"' in frame:  # of calls and tools, whose numbers must stay exact
            event = as_object(exact(event, frame))
        handler = self._HANDLERS.get(kind)
        if event.get("error") or (handler is None and is_failure(event, kind)):
            self._raise_failure(event)
        return () if handler is None else handler(self, event)  # new types are ignored

    def finish(self) -> Sequence[StreamEvent]:
        if not self._done:
            raise truncated("message_stop")
        return ()

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._counts)

    # ------------------------------------------------------------------------------------------------ the message

    def _message_start(self, event: JsonObject) -> Sequence[StreamEvent]:
        message = as_object(event.get("message")) or event
        if message.get("error"):
            self._raise_failure(message)
        self._check_same(as_text(message.get("id")))
        self._read_metadata(message)
        if message.get("content"):
            self._blocks.hold(blocks_of(message["content"]))
        events: list[StreamEvent] = []
        if not self._parts.started:
            events.append(self._parts.begin(model=message.get("model"), response_id=message.get("id")))
        return [*events, *self._usage_events()]

    def _check_same(self, answer_id: str) -> None:
        """Refuse a second answer, which gateways that retry append to an incomplete first one.

        Before the first block there is no content to mix up. Some gateways repeat the start of the same answer.
        """
        if self._id and answer_id and answer_id != self._id and (self._blocks.any or self._stop_reason):
            raise TruncatedStreamError(
                "the stream began another answer before the end of the first; .partial holds the first"
            )
        self._id = answer_id or self._id

    def _message_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        delta = as_object(event.get("delta"))
        if delta.get("error"):
            self._raise_failure(delta)
        self._read_metadata(delta)
        self._read_metadata(event)
        return self._usage_events() if self._parts.started else ()

    def _message_stop(self, event: JsonObject) -> Sequence[StreamEvent]:
        if not self._parts.started:
            raise ProtocolError("the stream has a message_stop but no message_start")
        return self._end(event, as_object(event.get("message")))

    def _message(self, message: JsonObject) -> Sequence[StreamEvent]:
        """Decode a plain body, or a whole answer that repeats its stream."""
        if self._parts.started:
            return self._end(message)
        return [self._parts.begin(model=message.get("model"), response_id=message.get("id")), *self._end(message)]

    def _at_once(self, message: JsonObject) -> Sequence[StreamEvent]:
        """Decode a plain answer in one step if it is a single text, as most are; otherwise return nothing."""
        block = only_one(message.get("content"))
        text = as_text(block.get("text"))
        if not text or block.get("type") != "text" or rest(block, "text"):
            return ()
        self._read_metadata(message)
        if self._reports:
            return ()
        self._done = True
        return self._parts.all_at_once(
            text,
            model=message.get("model"),
            response_id=message.get("id"),
            finish=finish_of(self._stop_reason, FINISH, has_calls=False, stop_sequence=self._stop_sequence),
            usage=self.usage,
        )

    def _end(self, *update: JsonObject) -> list[StreamEvent]:
        """End the answer. Fields that the last event repeats count only if they have not arrived before."""
        for message in filter(None, update):
            self._read_metadata(message)
            if message.get("content") and not self._blocks.any:
                self._blocks.hold(blocks_of(message["content"]))
        self._done = True
        events = self._blocks.end()
        self._parts.finishes[0] = finish_of(
            self._stop_reason, FINISH, has_calls=self._blocks.has_calls, stop_sequence=self._stop_sequence
        )
        usage = [] if self._counts is self._shown else self._usage_events()
        return [*events, *self._metadata_parts(), *usage, self._parts.end()]

    def _usage_events(self) -> list[StreamEvent]:
        self._shown = self._counts
        return usage_events(self.usage)

    def _read_metadata(self, update: JsonObject) -> None:
        """Keep the metadata of a message or message delta; missing or null fields leave earlier values unchanged."""
        usage = update.get("usage")
        if is_object(usage) and usage:
            self._counts = updated_counts(self._counts, usage)
        self._stop_reason = update.get("stop_reason") or self._stop_reason
        self._stop_sequence = update.get("stop_sequence") or self._stop_sequence
        if not _REPORTS.isdisjoint(update):
            self._reports |= {name: update[name] for name in REPORTS if update.get(name)}
        self._parts.complete(model=update.get("model"), response_id=update.get("id"))

    def _metadata_parts(self) -> list[StreamEvent]:
        """Return parts for the answer's metadata: its refusal, its container, edits applied to the input."""
        events: list[StreamEvent] = []
        for name, report in self._reports.items():
            explanation = as_text(as_object(report).get("explanation"))
            if name == "stop_details" and explanation:
                part = self._parts.open("refusal")
                part.state = {"type": name, name: report}
                part.pieces.append(explanation)
                events += [part.start, RefusalDelta(part.part_id, explanation), self._parts.close(part)]
            elif name != "context_management" or as_list(as_object(report).get("applied_edits")):
                events += self._parts.hosted(name, {"type": name, name: report}, output=report, report=True)
        return events

    def _raise_failure(self, event: JsonObject) -> Sequence[StreamEvent]:
        raise failure_inside(event, self._parts.provider)

    # ------------------------------------------------------------------------------------------------ its blocks

    def _block_start(self, event: JsonObject) -> Sequence[StreamEvent]:
        if not self._parts.started:
            raise ProtocolError("the stream has a content block before its message_start")
        return self._blocks.start(event.get("index"), event.get("content_block"))

    def _block_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        index, delta = event.get("index"), event.get("delta")
        part = self._open.get(index) if index.__class__ is int else None  # type: ignore[arg-type] - just compared
        if part is not None and is_object(delta):
            kind, reasons = delta.get("type"), part.start.kind == "reasoning"
            if reasons and kind == "thinking_delta" and len(delta) == 2:
                text = delta.get("thinking")
                if text and isinstance(text, str):
                    part.pieces.append(text)
                    return (ReasoningDelta(part.part_id, text),)
            elif kind == "input_json_delta" and part.start.kind == "tool_call":
                text = delta.get("partial_json")
                if text and isinstance(text, str):
                    part.pieces.append(text)
                    return (ToolCallDelta(part.part_id, text),)
        elif event.get("error"):
            self._raise_failure(event)
        elif not self._parts.started:
            if delta and (isinstance(delta, str) or content_field(as_object(delta))):
                raise ProtocolError("the stream has a content block before its message_start")
            return ()
        return self._blocks.delta(index, delta)

    def _block_stop(self, event: JsonObject) -> Sequence[StreamEvent]:
        return self._blocks.stop(event.get("index"), event.get("content_block"))

    def _ping(self, _event: JsonObject) -> Sequence[StreamEvent]:
        return (Heartbeat(),) if self._parts.started else ()

    _HANDLERS: ClassVar[Mapping[str, "Callable[[MessagesDecoder, JsonObject], Sequence[StreamEvent]]"]] = {
        "message_start": lambda self, event: self._message_start(event),
        "content_block_start": lambda self, event: self._block_start(event),
        "content_block_stop": lambda self, event: self._block_stop(event),
        "message_delta": lambda self, event: self._message_delta(event),
        "message_stop": lambda self, event: self._message_stop(event),
        "message": lambda self, event: self._message(event),
        "ping": lambda self, event: self._ping(event),
        "error": lambda self, event: self._raise_failure(event),
    }


def _kind_of(event: JsonObject) -> str:
    """Return the type of an event without a ``type`` field; empty if its fields match no type of the API."""
    delta = event.get("delta")
    if delta:
        return "content_block_delta" if isinstance(delta, str) or content_field(as_object(delta)) else "message_delta"
    if is_object(event.get("message")):
        return "message_start"
    if "content_block" in event:
        return "content_block_start"
    return "message" if "content" in event and (event.get("role") or event.get("stop_reason")) else ""
