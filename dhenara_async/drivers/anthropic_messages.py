"""Anthropic Messages, under the rules of API version 2026-10-21.

Source: https://docs.anthropic.com/en/api/messages and the types of the ``anthropic`` package 2.12 (read 2026-11-22)
"""

from collections.abc import Callable, Mapping, Sequence

import orjson

from dhenara_async.drivers.base import (
    Decoder,
    JsonObject,
    KnobWarnings,
    OpenPart,
    PartsInFlight,
    api_error,
    as_count,
    as_list,
    as_object,
    as_text,
    error_object,
    finish_of,
    is_object,
    load,
    truncated,
    usage_events,
    wire,
)
from dhenara_async.endpoint import AIModelEndpoint, Capabilities
from dhenara_async.errors import APIError, ProtocolError, UnsupportedError
from dhenara_async.events import Heartbeat, PartKind, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from dhenara_async.framing import Frame
from dhenara_async.messages import FilePart, Message, Origin, Part, RefusalPart, Role, TextPart
from dhenara_async.models.families import capabilities
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import FinishReason, Usage

VERSION = "2026-10-21"
# The newest version refuses sampling knobs even at their defaults; models that still take them do so under this one.
VERSION_WITH_SAMPLING = "2023-06-01"
# The API wants a limit in every request; this one is below what it makes clients stream for.
DEFAULT_MAX_TOKENS = 16_384

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.CONTEXT_WINDOW,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
}

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


class AnthropicMessagesDriver:
    """See the module."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        model = endpoint.ai_model
        can = capabilities(model)
        config = request.config
        warnings = KnobWarnings(model.model_name)
        limit = config.max_output_tokens or min(DEFAULT_MAX_TOKENS, model.max_output_tokens or DEFAULT_MAX_TOKENS)
        body: JsonObject = {
            "model": model.model_name,
            "max_tokens": limit,
            "messages": [_encode_message(message, model.model_name) for message in request.messages],
        }
        if request.instructions:
            body["system"] = [{"type": "text", "text": text} for text in request.instructions]
        if config.stop:
            body["stop_sequences"] = list(config.stop)
        if request.stream:
            body["stream"] = True
        sampling = _sampling(request, can, warnings)
        body.update(sampling)
        warnings.drop_unless(False, config, ("seed",), "the Messages API has no seed")
        version = VERSION_WITH_SAMPLING if sampling else VERSION
        return wire("/v1/messages", body, config, warnings, {"anthropic-version": version})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return _Decoder(origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        return _error(status, headers, body, error_object(body), provider)


def _sampling(request: ChatRequest, can: Capabilities, warnings: KnobWarnings) -> JsonObject:
    config = request.config
    knobs = ("temperature", "top_p", "top_k")
    if not warnings.drop_unless(can.sampling, config, knobs, "this model samples as it likes"):
        return {}
    sampling: JsonObject = {}
    if config.temperature is not None:
        sampling["temperature"] = warnings.clamp("temperature", config.temperature, 1.0)
    if config.top_p is not None:
        if "temperature" in sampling:
            warnings.dropped("top_p", "Claude takes temperature or top_p, not both")
        else:
            sampling["top_p"] = config.top_p
    if config.top_k is not None:
        sampling["top_k"] = config.top_k
    return sampling


def _encode_message(message: Message, model: str) -> JsonObject:
    role = "assistant" if message.role is Role.ASSISTANT else "user"
    return {"role": role, "content": [_encode_part(part, model) for part in message.parts]}


def _encode_part(part: Part, model: str) -> JsonObject:
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text", "text": part.text}
        case FilePart() if part.media_type.startswith("image/"):
            return {"type": "image", "source": _image_source(part, model)}
        case FilePart(data=bytes()) if part.media_type.startswith("text/"):
            source = {"type": "text", "media_type": "text/plain", "data": part.get_text()}
            document: JsonObject = {"type": "document", "source": source}
            return document | ({"title": part.filename} if part.filename else {})
        case _:
            raise UnsupportedError(f"{model}: cannot send a part of type {part.type!r} to the Messages API yet")


def _image_source(part: FilePart, model: str) -> JsonObject:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    if part.data is None:
        raise UnsupportedError(f"{model}: an image by file id cannot be sent to the Messages API yet")
    if part.media_type not in _IMAGE_TYPES:
        raise UnsupportedError(f"{model} takes {', '.join(sorted(_IMAGE_TYPES))}, not {part.media_type}")
    return {"type": "base64", "media_type": part.media_type, "data": part.get_base64()}


# ---------------------------------------------------------------------------------------------------- answers


class _Decoder:
    """Blocks by index; usage is the start's, overlaid by what ``message_delta`` repeats."""

    __slots__ = ("_blocks", "_done", "_handlers", "_has_calls", "_parts", "_stop", "_usage")

    def __init__(self, origin: Origin) -> None:
        self._parts = PartsInFlight(origin)
        self._blocks: dict[object, OpenPart] = {}
        self._usage: JsonObject = {}
        self._stop: JsonObject = {}
        self._has_calls = False
        self._done = False
        self._handlers: dict[object, Callable[[JsonObject], Sequence[StreamEvent]]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "message": self._message,
            "ping": lambda event: [Heartbeat()] if self._parts.started else [],
            "error": self._raise,
        }

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        event = load(frame.data)
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._block_delta(event)
        handler = self._handlers.get(kind)
        if handler is not None:
            return handler(event)
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

    def _message_start(self, event: JsonObject) -> Sequence[StreamEvent]:
        message = as_object(event.get("message"))
        self._note_usage(message.get("usage"))
        return [
            self._parts.begin(model=message.get("model"), response_id=message.get("id")),
            *usage_events(self.usage),
        ]

    def _block_start(self, event: JsonObject) -> Sequence[StreamEvent]:
        block = as_object(event.get("content_block"))
        part = self._open(block)
        self._blocks[event.get("index")] = part
        return [part.start, *self._grow(part, as_text(block.get("text")) or as_text(block.get("thinking")))]

    def _open(self, block: JsonObject) -> OpenPart:
        kind = as_text(block.get("type"))
        match kind:
            case "text":
                part = self._parts.open("text")
                if block.get("citations"):
                    part.state = {"type": "text", "citations": block["citations"]}
            case "thinking":
                part = self._parts.open("reasoning")
                part.state = {"type": "thinking", "signature": as_text(block.get("signature"))}
            case "redacted_thinking":
                part = self._parts.open("reasoning")
                part.state = dict(block)
            case "tool_use":
                self._has_calls = True
                part = self._parts.open("tool_call", call_id=as_text(block.get("id")), name=as_text(block.get("name")))
                extra = {key: value for key, value in block.items() if key not in ("type", "id", "name", "input")}
                part.state = {"type": "tool_use", **extra} if extra else {}
            case _:
                part = self._parts.open("hosted_tool", name=kind)
                part.state = dict(block)
        return part

    def _block_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        part = self._blocks.get(event.get("index"))
        delta = event.get("delta")
        if part is None or not is_object(delta):
            return ()
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
                part.state.setdefault("type", "text")
                citations = as_list(part.state.setdefault("citations", []))
                citations.append(delta.get("citation"))
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
            case _:
                return ()

    def _block_stop(self, event: JsonObject) -> Sequence[StreamEvent]:
        part = self._blocks.pop(event.get("index"), None)
        return () if part is None else (self._close(part),)

    def _close(self, part: OpenPart) -> StreamEvent:
        match part.start.kind:
            case "tool_call" if not part.pieces:
                return self._parts.close(part, text="{}")  # a function without arguments streams none
            case "hosted_tool" if part.pieces:
                part.state["input"] = _input("".join(part.pieces))
            case _:
                pass
        return self._parts.close(part)

    def _message_delta(self, event: JsonObject) -> Sequence[StreamEvent]:
        self._stop |= as_object(event.get("delta"))
        self._note_usage(event.get("usage"))
        return usage_events(self.usage)

    def _message_stop(self, event: JsonObject) -> Sequence[StreamEvent]:
        self._done = True
        open_parts = [self._close(part) for part in self._blocks.values()]
        self._blocks.clear()
        self._parts.finishes[0] = finish_of(
            self._stop.get("stop_reason"),
            _FINISH,
            has_calls=self._has_calls,
            stop_sequence=self._stop.get("stop_sequence"),
        )
        if not self._parts.started:
            raise ProtocolError("the stream has a message_stop but no message_start")
        return [*open_parts, self._parts.end()]

    def _message(self, message: JsonObject) -> Sequence[StreamEvent]:
        """A plain body: the same steps, from the finished blocks."""
        events = list(self._message_start({"message": message}))
        for block in map(as_object, as_list(message.get("content"))):
            part = self._open(block)
            events.append(part.start)
            if block.get("type") == "tool_use":
                events += self._grow(part, orjson.dumps(block.get("input", {})).decode())
            else:
                events += self._grow(part, as_text(block.get("text")) or as_text(block.get("thinking")))
            events.append(self._close(part))
        self._stop = message
        return [*events, *self._message_stop(message)]

    def _note_usage(self, usage: object) -> None:
        self._usage |= {key: value for key, value in as_object(usage).items() if value is not None}

    def _raise(self, event: JsonObject) -> Sequence[StreamEvent]:
        raise _error(200, {}, orjson.dumps(event), event, self._parts.provider)


def _input(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _usage(raw: JsonObject) -> Usage | None:
    """``input_tokens`` on the wire leaves out what went through the cache; ours includes it."""
    if not raw:
        return None
    fresh, output = as_count(raw.get("input_tokens")), as_count(raw.get("output_tokens"))
    read, written = as_count(raw.get("cache_read_input_tokens")), as_count(raw.get("cache_creation_input_tokens"))
    total_input = None if fresh is None else fresh + (read or 0) + (written or 0)
    return Usage(
        input_tokens=total_input,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=as_count(as_object(raw.get("output_tokens_details")).get("thinking_tokens")),
        total_tokens=None if total_input is None or output is None else total_input + output,
        source="reported",
    )


def _error(status: int, headers: Mapping[str, str], body: bytes, parsed: JsonObject, provider: str) -> APIError:
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
