"""Answers and errors of the Messages API.

Source: https://docs.anthropic.com/en/api/messages-streaming and the types of the ``anthropic`` package 2.12
(read 2026-11-22)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypedDict, cast

import orjson

from dhenara_async.drivers.anthropic_messages_content import REPORTS
from dhenara_async.drivers.base import (
    JsonObject,
    as_count,
    as_list,
    as_object,
    as_text,
    is_object,
    load,
    not_an_object,
    only_one,
)
from dhenara_async.drivers.failures import api_error, truncated
from dhenara_async.drivers.parts import OpenPart, PartsInFlight, finish_of, usage_events
from dhenara_async.errors import APIError, ProtocolError
from dhenara_async.events import (
    Heartbeat,
    PartKind,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.framing import Frame
from dhenara_async.messages import Citation, Origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import FinishReason, Usage
from dhenara_async.tools import HostedToolType

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.CONTEXT_WINDOW,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
}
_ANSWERED = _FINISH | {"tool_use": FinishReason.STOP}

_STATUS_BY_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_REPORTS = frozenset(REPORTS)
_WORDS = ("text", "thinking", "partial_json")  # of a delta

# By the name in ``server_tool_use``, which a result's type repeats before ``_tool_result``.
_HOSTED: Mapping[str, HostedToolType] = {
    "web_search": "web_search",
    "web_fetch": "url_context",
    "code_execution": "code_execution",
    "bash_code_execution": "code_execution",
    "text_editor_code_execution": "code_execution",
}


class _Words(TypedDict):
    """The usual delta."""

    type: str
    text: str


class _Usual(TypedDict):
    """The usual event, as far as it is looked at; others are told by how that fails."""

    type: str
    index: int
    delta: _Words


class MessagesDecoder:
    """One answer. Blocks by index; usage is the start's, overlaid by what ``message_delta`` repeats.

    Args:
        request: The question.
        origin: The endpoint that answers.
        answer_tool: The tool whose call is a structured answer, decoded as text; None = there is none.
    """

    __slots__ = (
        "_answer_tool",
        "_answered",
        "_blocks",
        "_done",
        "_has_calls",
        "_parts",
        "_reports",
        "_stop",
        "_usage",
    )

    def __init__(self, request: ChatRequest, origin: Origin, *, answer_tool: str | None = None) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._answer_tool = answer_tool
        self._answered = False
        self._blocks: dict[object, OpenPart] = {}
        self._usage: JsonObject = {}
        self._stop: JsonObject = {}
        self._reports: JsonObject = {}
        self._has_calls = False
        self._done = False

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        try:
            usual: _Usual = orjson.loads(frame)
        except orjson.JSONDecodeError:
            return self._feed(load(frame))
        try:  # words for a text that is open, as nearly every event has them
            if usual["type"] == "content_block_delta":
                delta, part = usual["delta"], self._blocks[usual["index"]]
                if (
                    delta["type"] == "text_delta"
                    and part.start.kind == "text"
                    and (text := delta["text"])
                    and text.__class__ is str
                ):
                    part.pieces.append(text)
                    return (TextDelta(part.part_id, text),)
        except (KeyError, TypeError):  # another event
            pass
        event: object = usual
        if not is_object(event):
            raise not_an_object(frame)
        return self._feed(event)

    def _feed(self, event: JsonObject) -> Sequence[StreamEvent]:
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._block_delta(event)
        handler = self._HANDLERS.get(as_text(kind))
        if self._done:
            return ()  # nothing follows the end
        if handler is not None:
            return handler(self, event)
        if "error" in event:
            self._raise(event)
        return ()  # event types are added without a version change

    def finish(self) -> Sequence[StreamEvent]:
        if not self._done:
            raise truncated("message_stop")
        return ()

    @property
    def usage(self) -> Usage | None:
        return _usage(self._usage)

    # ------------------------------------------------------------------------------------------------ the message

    def _message_start(self, event: JsonObject) -> Sequence[StreamEvent]:
        message = as_object(event.get("message"))
        self._note(message)
        if self._parts.started:
            return usage_events(self.usage)
        return [
            self._parts.begin(model=message.get("model"), response_id=message.get("id")),
            *usage_events(self.usage),
        ]

    def _message_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        delta = as_object(event.get("delta"))
        self._stop |= delta
        self._note(delta)
        self._note(event)
        return usage_events(self.usage) if self._parts.started else ()

    def _message_stop(self, event: JsonObject) -> Sequence[StreamEvent]:
        if not self._parts.started:
            raise ProtocolError("the stream has a message_stop but no message_start")
        self._done = True
        open_parts = [self._close(part) for part in self._blocks.values()]
        self._blocks.clear()
        self._parts.finishes[0] = finish_of(
            self._stop.get("stop_reason"),
            _ANSWERED if self._answered and not self._has_calls else _FINISH,
            has_calls=self._has_calls,
            stop_sequence=self._stop.get("stop_sequence"),
        )
        return [*open_parts, *self._reported(), self._parts.end()]

    def _message(self, message: JsonObject) -> Sequence[StreamEvent]:
        """A plain body: the same steps, from the finished blocks."""
        self._note(message)
        whole = () if self._parts.started else self._at_once(message)
        if whole:
            return whole
        events: list[StreamEvent] = []
        if not self._parts.started:
            events.append(self._parts.begin(model=message.get("model"), response_id=message.get("id")))
        for block in map(as_object, as_list(message.get("content"))):
            part = self._open(block)
            events.append(part.start)
            if block.get("type") == "tool_use":
                events += self._grow(part, orjson.dumps(block.get("input", {})).decode())
            else:
                events += self._grow(part, as_text(block.get("text")) or as_text(block.get("thinking")))
            events.append(self._close(part))
        self._stop = message
        *rest, end = self._message_stop(message)
        return [*events, *rest, *usage_events(self.usage), end]

    def _at_once(self, message: JsonObject) -> Sequence[StreamEvent]:
        """A plain answer, all at once, if it is one text, as most are; else nothing is done."""
        block = only_one(message.get("content"))
        text = as_text(block.get("text"))
        if not text or block.get("type") != "text" or _rest(block, "text") or self._reports:
            return ()
        self._done = True
        stop, word = message.get("stop_sequence"), message.get("stop_reason")
        return self._parts.all_at_once(
            text,
            model=message.get("model"),
            response_id=message.get("id"),
            finish=finish_of(word, _FINISH, has_calls=False, stop_sequence=stop),
            usage=self.usage,
        )

    def _note(self, message: JsonObject) -> None:
        """Keep what a message, or a change to it, says of itself; what is left out or null stays as it was."""
        usage = message.get("usage")
        if is_object(usage):
            self._usage.update([entry for entry in usage.items() if entry[1] is not None])
        if not _REPORTS.isdisjoint(message):
            self._reports |= {name: message[name] for name in REPORTS if message.get(name)}

    def _reported(self) -> list[StreamEvent]:
        """Parts for what the answer says of itself: why it was refused, its container, what was done to the input."""
        events: list[StreamEvent] = []
        for name, report in self._reports.items():
            explanation = as_text(as_object(report).get("explanation"))
            if name == "stop_details" and explanation:
                part = self._parts.open("refusal")
                part.state = {"type": name, name: report}
                events += [part.start, *self._grow(part, explanation), self._parts.close(part)]
            elif name != "context_management" or as_list(as_object(report).get("applied_edits")):
                events += self._parts.hosted(name, {"type": name, name: report}, output=report, report=True)
        return events

    def _raise(self, event: JsonObject) -> Sequence[StreamEvent]:
        raise messages_error(200, {}, orjson.dumps(event), event, self._parts.provider)

    # ------------------------------------------------------------------------------------------------ its blocks

    def _block_start(self, event: JsonObject) -> Sequence[StreamEvent]:
        if not self._parts.started:
            raise ProtocolError("the stream has a content block before its message_start")
        index, block = _place(event), as_object(event.get("content_block"))
        reused = self._blocks.pop(index, None)
        part = self._blocks[index] = self._open(block)
        said = self._grow(part, as_text(block.get("text")) or as_text(block.get("thinking")))
        return [part.start, *said] if reused is None else [self._close(reused), part.start, *said]

    def _open(self, block: JsonObject) -> OpenPart:
        kind, name = as_text(block.get("type")), as_text(block.get("name"))
        match kind:
            case "text":
                part = self._parts.open("text")
                part.state = _rest(block, "text")
                if block.get("citations"):
                    part.cite(map(_citation, as_list(block["citations"])))
            case "thinking":
                part = self._parts.open("reasoning")
                part.state = {"signature": "", **_rest(block, "thinking"), "type": "thinking"}
            case "redacted_thinking":
                part = self._parts.open("reasoning")
                part.state = dict(block)
            case "tool_use" if name and name == self._answer_tool:
                self._answered = True
                part = self._parts.open("text")
                part.state = {"type": "tool_use", "id": block.get("id"), "name": name}
            case "tool_use":
                self._has_calls = True
                part = self._parts.open("tool_call", call_id=as_text(block.get("id")), name=name)
                part.state = _rest(block, "id", "name", "input")
            case _:
                # only of a call and of what names one is it known that they belong together
                call_id = as_text(block.get("id" if kind.endswith("tool_use") else "tool_use_id")) or None
                part = self._parts.open("hosted_tool", call_id=call_id, name=kind)
                part.state = dict(block)
        return part

    def _block_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        try:
            part = self._blocks.get(event.get("index"))
        except TypeError:  # no number at all
            return ()
        delta = event.get("delta")
        if not is_object(delta):
            return ()
        if part is None:
            return _nobodys(event, delta)
        kind = delta.get("type")
        if kind == "text_delta":
            text = delta.get("text")
            if part.start.kind == "text" and isinstance(text, str) and text:
                part.pieces.append(text)
                return (TextDelta(part.part_id, text),)
            return ()
        return self._other_delta(part, kind, delta)

    def _other_delta(self, part: OpenPart, kind: object, delta: JsonObject) -> Sequence[StreamEvent]:
        match kind:
            case "thinking_delta":
                return self._grow(part, as_text(delta.get("thinking")))
            case "input_json_delta":
                return self._grow(part, as_text(delta.get("partial_json")))
            case "signature_delta":
                part.state["signature"] = as_text(delta.get("signature"))
            case "citations_delta":
                citation = delta.get("citation")
                part.state.setdefault("type", "text")
                part.state["citations"] = [*as_list(part.state.get("citations")), citation]
                part.cite([_citation(citation)])
            case _ if part.start.kind == "hosted_tool":
                # A block that is kept as it is, a compaction for example: what comes later completes it.
                part.state |= {key: value for key, value in delta.items() if key != "type"}
            case _:
                pass  # delta types are added without a version change
        return ()

    def _grow(self, part: OpenPart, text: str) -> Sequence[StreamEvent]:
        if not text:
            return ()
        part.pieces.append(text)
        kind: PartKind = part.start.kind
        match kind:
            case "text":
                return (TextDelta(part.part_id, text),)
            case "reasoning":
                return (ReasoningDelta(part.part_id, text),)
            case "tool_call":
                return (ToolCallDelta(part.part_id, text),)
            case "refusal":
                return (RefusalDelta(part.part_id, text),)
            case _:
                return ()

    def _block_stop(self, event: JsonObject) -> Sequence[StreamEvent]:
        part = self._blocks.pop(_place(event), None)
        return () if part is None else (self._close(part),)

    def _close(self, part: OpenPart) -> StreamEvent:
        match part.start.kind:
            case "tool_call" if not part.pieces:
                return self._parts.close(part, text="{}")  # a function without arguments streams none
            case "hosted_tool":
                return self._close_hosted(part)
            case _:
                return self._parts.close(part)

    def _close_hosted(self, part: OpenPart) -> StreamEvent:
        block = part.state
        if part.pieces:
            block["input"] = _input("".join(part.pieces))
        kind = part.start.name or ""
        name = as_text(block.get("name")) if kind == "server_tool_use" else kind.removesuffix("_tool_result")
        tool = _HOSTED.get(name)
        return self._parts.close_hosted(
            part, tool=tool, asked=block.get("input"), output=_readable(block.get("content"))
        )

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
        "error": lambda self, event: self._raise(event),
    }


def _nobodys(event: JsonObject, delta: JsonObject) -> Sequence[StreamEvent]:
    """A delta for a block that is not open; words must not get lost in silence."""
    if _place(event) is not None and any(delta.get(name) for name in _WORDS):
        raise ProtocolError(f"the stream goes on with content block {event['index']}, which is not open")
    return ()


def _place(event: JsonObject) -> int | None:
    return as_count(event.get("index"))


def _rest(block: JsonObject, *said: str) -> JsonObject:
    """What a block has beside the fields in ``said``, with its type; empty if there is nothing."""
    rest = {key: value for key, value in block.items() if key not in said and value not in (None, [])}
    return {"type": block["type"], **rest} if len(rest) > 1 else {}


def _input(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _readable(value: object) -> object:
    """A result without what only the provider can read, which is long; the block keeps it."""
    if isinstance(value, list):
        return [_readable(item) for item in cast(list[object], value)]
    if is_object(value):
        return {key: item for key, item in value.items() if not key.startswith("encrypted_")}
    return value


def _citation(raw: object) -> Citation:
    """A source, of a web search, a search result or a document; where it is cited in the answer is not told."""
    citation = as_object(raw)
    title = as_text(citation.get("title")) or as_text(citation.get("document_title"))
    return Citation(
        url=as_text(citation.get("url")) or as_text(citation.get("source")) or None,
        title=title or None,
        cited_text=as_text(citation.get("cited_text")) or None,
        file_id=as_text(citation.get("file_id")) or None,
    )


def _usage(raw: JsonObject) -> Usage | None:
    """``input_tokens`` on the wire leaves out what went through the cache; ours includes it."""
    if not raw:
        return None
    fresh, output = as_count(raw.get("input_tokens")), as_count(raw.get("output_tokens"))
    read, written = as_count(raw.get("cache_read_input_tokens")), as_count(raw.get("cache_creation_input_tokens"))
    total_input = None if fresh is None else fresh + (read or 0) + (written or 0)
    by_age = as_object(raw.get("cache_creation"))
    return Usage.trusted(
        input_tokens=total_input,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=as_count(as_object(raw.get("output_tokens_details")).get("thinking_tokens")),
        total_tokens=None if total_input is None or output is None else total_input + output,
        cache_write_5m_tokens=as_count(by_age.get("ephemeral_5m_input_tokens")),
        cache_write_1h_tokens=as_count(by_age.get("ephemeral_1h_input_tokens")),
        cache_write_30m_tokens=None,
        cache_write_12h_tokens=None,
        input_audio_tokens=None,
        output_audio_tokens=None,
        web_searches=as_count(as_object(raw.get("server_tool_use")).get("web_search_requests")),
        source="reported",
    )


def messages_error(status: int, headers: Mapping[str, str], body: bytes, parsed: JsonObject, provider: str) -> APIError:
    """What an error body means; one inside a stream comes with status 200 and tells the real one by its type."""
    error = as_object(parsed.get("error"))
    kind = as_text(error.get("type"))
    code = as_text(as_object(error.get("details")).get("error_code")) or kind or None
    return api_error(
        _STATUS_BY_TYPE.get(kind, 500) if status == 200 else status,
        headers,
        body,
        provider=provider,
        message=as_text(error.get("message")),
        code=code,
        request_id=as_text(parsed.get("request_id")) or None,
    )
