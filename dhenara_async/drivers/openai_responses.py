"""OpenAI Responses, stateless: nothing is stored at the provider, so a conversation can leave and come back.

Source: https://platform.openai.com/docs/api-reference/responses and the types of the ``openai`` package 3.54
(read 2026-11-22)
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
    load,
    quote,
    truncated,
    usage_events,
    wire,
)
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import APIError, ProtocolError, UnsupportedError
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
from dhenara_async.messages import FilePart, Message, Origin, Part, Role, TextPart
from dhenara_async.models.families import capabilities
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import FinishReason, Usage

MIN_OUTPUT_TOKENS = 16

_INCOMPLETE = {
    "incomplete:max_output_tokens": FinishReason.LENGTH,
    "incomplete:content_filter": FinishReason.CONTENT_FILTER,
}
_STATUS = {"completed": FinishReason.STOP}
_STATUS_BY_CODE = {
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "vector_store_timeout": 500,
}


class OpenAIResponsesDriver:
    """See the module."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        model, config = endpoint.ai_model, request.config
        can = capabilities(model)
        warnings = KnobWarnings(model.model_name)
        body: JsonObject = {
            "model": model.model_name,
            "input": [item for message in request.messages for item in _items(message, model.model_name)],
            "store": False,
            "include": ["reasoning.encrypted_content"],
        }
        if request.instructions:
            body["instructions"] = "\n\n".join(request.instructions)
        if config.max_output_tokens is not None:
            limit = max(config.max_output_tokens, MIN_OUTPUT_TOKENS)
            if limit != config.max_output_tokens:
                warnings.adjusted("max_output_tokens", limit, "the API takes no less")
            body["max_output_tokens"] = limit
        if warnings.drop_unless(can.sampling, config, ("temperature", "top_p"), "a reasoning model refuses it"):
            if config.temperature is not None:
                body["temperature"] = warnings.clamp("temperature", config.temperature, 2.0)
            if config.top_p is not None:
                body["top_p"] = config.top_p
        warnings.drop_unless(False, config, ("top_k", "stop", "seed"), "the Responses API has no such parameter")
        if request.stream:
            body["stream"] = True
        return wire("/responses", body, config, warnings, {})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return _Decoder(origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        parsed = error_object(body)
        return _error(status, headers, body, as_object(parsed.get("error")) or parsed, provider)


def _items(message: Message, model: str) -> list[JsonObject]:
    """An assistant's texts as one item each (a list there would need item ids), anything else as one message."""
    if message.role is Role.ASSISTANT:
        return [{"role": "assistant", "content": _assistant_text(part, model)} for part in message.parts]
    role = "developer" if message.role is Role.SYSTEM else "user"
    return [{"role": role, "content": [_encode_part(part, model) for part in message.parts]}]


def _assistant_text(part: Part, model: str) -> str:
    if isinstance(part, TextPart):
        return part.text
    raise UnsupportedError(f"{model}: cannot send an assistant part of type {part.type!r} to the Responses API yet")


def _encode_part(part: Part, model: str) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "input_text", "text": part.text}
        case FilePart() if part.media_type.startswith("image/") and part.file_id is None:
            url = part.url or f"data:{part.media_type};base64,{part.get_base64()}"
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        case FilePart(data=bytes()) if part.media_type.startswith("text/"):
            return {"type": "input_text", "text": f"{part.filename or 'Attached text'}:\n{part.get_text()}"}
        case _:
            raise UnsupportedError(f"{model}: cannot send a part of type {part.type!r} to the Responses API yet")


# ---------------------------------------------------------------------------------------------------- answers

_Key = tuple[object, object]


class _Decoder:
    """Parts by (output index, content index): some gateways change item ids in mid-stream, indexes stay."""

    __slots__ = ("_done", "_handlers", "_has_calls", "_open", "_parts", "_raw_usage", "_refused", "_seen", "_spoke")

    def __init__(self, origin: Origin) -> None:
        self._parts = PartsInFlight(origin)
        self._open: dict[_Key, OpenPart] = {}
        self._seen: set[object] = set()
        self._raw_usage: JsonObject = {}
        self._has_calls = self._refused = self._spoke = self._done = False
        self._handlers: dict[object, Callable[[JsonObject], Sequence[StreamEvent]]] = {
            "response.created": self._created,
            "response.in_progress": self._in_progress,
            "response.queued": self._in_progress,
            "response.output_item.added": self._item_added,
            "response.content_part.added": self._content_added,
            "response.refusal.delta": lambda event: self._delta(event, "refusal", "content_index"),
            "response.reasoning_summary_text.delta": lambda event: self._delta(event, "reasoning", None),
            "response.reasoning_text.delta": lambda event: self._delta(event, "reasoning", None),
            "response.function_call_arguments.delta": lambda event: self._delta(event, "tool_call", None),
            "response.custom_tool_call_input.delta": lambda event: self._delta(event, "tool_call", None),
            "response.output_item.done": self._item_done,
            "response.completed": self._terminal,
            "response.incomplete": self._terminal,
            "response.failed": self._terminal,
            "response.cancelled": self._terminal,
            "error": self._raise,
        }

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        data = frame.data
        if data == b"[DONE]":
            return ()
        event = load(data)
        kind = event.get("type")
        if kind == "response.output_text.delta":
            part = self._open.get((event.get("output_index"), event.get("content_index")))
            text = event.get("delta")
            if part is not None and isinstance(text, str) and text:
                part.pieces.append(text)
                return (TextDelta(part.part_id, text),)
            return self._delta(event, "text", "content_index")
        handler = self._handlers.get(kind)
        if handler is not None:
            return handler(event)
        if kind is None:
            return self._plain(event, data)
        return ()  # event types are added weekly

    def finish(self) -> Sequence[StreamEvent]:
        if not self._done:
            raise truncated("response.completed")
        return ()

    @property
    def usage(self) -> Usage | None:
        return _usage(self._raw_usage)

    def _created(self, event: JsonObject) -> Sequence[StreamEvent]:
        if self._parts.started:
            return ()
        response = as_object(event.get("response"))
        return (self._parts.begin(model=response.get("model"), response_id=response.get("id")),)

    def _in_progress(self, event: JsonObject) -> Sequence[StreamEvent]:
        return (Heartbeat(),) if self._parts.started else self._created(event)

    def _item_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        item, index = as_object(event.get("item")), event.get("output_index")
        self._seen.add(index)
        match item.get("type"):
            case "reasoning":
                part = self._open[index, None] = self._parts.open("reasoning")
            case "function_call" | "custom_tool_call":
                part = self._open[index, None] = self._open_call(item)
            case _:
                return ()  # messages open with their content, hosted calls come whole
        return (part.start,)

    def _open_call(self, item: JsonObject) -> OpenPart:
        self._has_calls = True
        return self._parts.open("tool_call", call_id=as_text(item.get("call_id")), name=as_text(item.get("name")))

    def _content_added(self, event: JsonObject) -> Sequence[StreamEvent]:
        kind = as_object(event.get("part")).get("type")
        key = (event.get("output_index"), event.get("content_index"))
        if kind not in ("output_text", "refusal") or key in self._open:
            return ()
        return (self._open_content(key, "text" if kind == "output_text" else "refusal").start,)

    def _open_content(self, key: _Key, kind: PartKind) -> OpenPart:
        self._seen.add(key[0])
        if kind == "refusal":
            self._refused = True
        part = self._open[key] = self._parts.open(kind)
        return part

    def _delta(self, event: JsonObject, kind: PartKind, content: str | None) -> Sequence[StreamEvent]:
        """A delta; opens its part where the host did not announce it."""
        text = as_text(event.get("delta"))
        if not text:
            return ()
        key = (event.get("output_index"), event.get(content) if content else None)
        part, events = self._open.get(key), list[StreamEvent]()
        if part is None:
            part = self._open_content(key, kind)
            events.append(part.start)
        part.pieces.append(text)
        match kind:
            case "text":
                events.append(TextDelta(part.part_id, text))
            case "reasoning":
                events.append(ReasoningDelta(part.part_id, text))
            case "refusal":
                events.append(RefusalDelta(part.part_id, text))
            case _:
                events.append(ToolCallDelta(part.part_id, text))
        return events

    def _item_done(self, event: JsonObject) -> Sequence[StreamEvent]:
        return self._finish_item(event.get("output_index"), as_object(event.get("item")))

    def _finish_item(self, index: object, item: JsonObject) -> list[StreamEvent]:
        """Close an item's parts from its final form; whatever was not streamed is opened and closed here."""
        self._seen.add(index)
        events: list[StreamEvent] = []
        match item.get("type"):
            case "message":
                kept = {key: item[key] for key in ("id", "phase") if item.get(key)}
                for position, content in enumerate(map(as_object, as_list(item.get("content")))):
                    self._finish_content((index, position), content, kept, events)
            case "reasoning":
                part = self._open_or_new((index, None), "reasoning", events)
                part.state = {key: item[key] for key in ("id", "summary", "encrypted_content") if key in item}
                self._finish_text(part, _reasoning_text(item), events)
            case "function_call" | "custom_tool_call":
                part = self._open.pop((index, None), None)
                if part is None:
                    part = self._open_call(item)
                    events.append(part.start)
                part.state = {key: item[key] for key in ("id", "type") if item.get(key) not in (None, "function_call")}
                self._finish_text(part, as_text(item.get("arguments")) or as_text(item.get("input")), events)
            case kind:
                events += self._parts.whole("hosted_tool", dict(item), name=as_text(kind))
        return events

    def _open_or_new(self, key: _Key, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        part = self._open.pop(key, None)
        if part is None:
            part = self._open_content(key, kind)
            del self._open[key]
            events.append(part.start)
        return part

    def _finish_content(self, key: _Key, content: JsonObject, kept: JsonObject, events: list[StreamEvent]) -> None:
        refusal = content.get("type") == "refusal"
        text = as_text(content.get("refusal" if refusal else "text"))
        part = self._open_or_new(key, "refusal" if refusal else "text", events)
        part.state = dict(kept)
        if content.get("annotations"):
            part.state["annotations"] = content["annotations"]
        if text and not refusal:
            self._spoke = True
        self._finish_text(part, text, events)

    def _finish_text(self, part: OpenPart, text: str, events: list[StreamEvent]) -> None:
        """Close a part; one that streamed nothing hands its text over as one delta first."""
        if text and not part.pieces:
            part.pieces.append(text)
            match part.start.kind:
                case "text":
                    events.append(TextDelta(part.part_id, text))
                case "reasoning":
                    events.append(ReasoningDelta(part.part_id, text))
                case "refusal":
                    events.append(RefusalDelta(part.part_id, text))
                case _:
                    events.append(ToolCallDelta(part.part_id, text))
        events.append(self._parts.close(part))

    def _terminal(self, event: JsonObject) -> Sequence[StreamEvent]:
        response = as_object(event.get("response"))
        events = list(self._created(event))
        if response.get("status") == "failed" or response.get("error"):
            self._raise(response)
        for index, item in enumerate(map(as_object, as_list(response.get("output")))):
            if index not in self._seen:
                events += self._finish_item(index, item)
        self._done = True
        self._raw_usage = as_object(response.get("usage"))
        self._spoke = self._spoke or any(part.start.kind == "text" for part in self._open.values())
        events += [self._parts.close(part) for part in self._open.values()]
        self._open.clear()
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
        return self._terminal({"response": body})

    def _raise(self, event: JsonObject) -> Sequence[StreamEvent]:
        """``error`` events come flat or nested; failed responses hold one."""
        error = as_object(event.get("error")) or event
        raise _error(200, {}, orjson.dumps(event), error, self._parts.provider)


def _reasoning_text(item: JsonObject) -> str:
    pieces = (*as_list(item.get("summary")), *as_list(item.get("content")))
    return "".join(as_text(as_object(piece).get("text")) for piece in pieces)


def _usage(raw: JsonObject) -> Usage | None:
    if not raw:
        return None
    into, out = as_object(raw.get("input_tokens_details")), as_object(raw.get("output_tokens_details"))
    return Usage(
        input_tokens=as_count(raw.get("input_tokens")),
        cache_read_tokens=as_count(into.get("cached_tokens")),
        cache_write_tokens=as_count(into.get("cache_write_tokens")),
        output_tokens=as_count(raw.get("output_tokens")),
        reasoning_tokens=as_count(out.get("reasoning_tokens")),
        total_tokens=as_count(raw.get("total_tokens")),
        source="reported",
    )


def _error(status: int, headers: Mapping[str, str], body: bytes, error: JsonObject, provider: str) -> APIError:
    code = as_text(error.get("code")) or as_text(error.get("type")) or None
    message = as_text(error.get("message")) or as_text(error.get("detail"))
    known = _STATUS_BY_CODE.get(code or "", 400)
    return api_error(known if status == 200 else status, headers, body, provider=provider, message=message, code=code)
