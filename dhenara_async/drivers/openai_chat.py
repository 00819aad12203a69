"""OpenAI Chat Completions, and what the many compatible hosts make of it.

Hosts differ by ``Quirks``, which are data in their row of ``hosts``; nothing here asks who they are.

Source: https://platform.openai.com/docs/api-reference/chat and the types of the ``openai`` package 3.54
(read 2026-11-22)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

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
    quote,
    truncated,
    usage_events,
    wire,
)
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import APIError, ProtocolError, UnsupportedError
from dhenara_async.events import (
    PartKind,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.framing import Frame
from dhenara_async.messages import FilePart, Message, Origin, Part, RefusalPart, Role, TextPart
from dhenara_async.models.families import capabilities
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import FinishReason, Usage

MAX_STOPS = 4

_FINISH = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.CONTEXT_WINDOW,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "error": FinishReason.ERROR,
    "insufficient_system_resource": FinishReason.ERROR,
}


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a host's wire differs from OpenAI's own.

    Attributes:
        max_tokens_field: What the cap on the answer is called.
        seed_field: What the seed is called.
        stream_options: Whether usage in a stream has to be asked for.
        developer_role: Whether the ``developer`` role is known.
        top_k: Whether ``top_k`` is known.
        reasoning_apart: Whether ``completion_tokens`` leaves the reasoning tokens out.
    """

    max_tokens_field: str = "max_tokens"
    seed_field: str = "seed"
    stream_options: bool = True
    developer_role: bool = False
    top_k: bool = False
    reasoning_apart: bool = False


OPENAI = Quirks(max_tokens_field="max_completion_tokens", developer_role=True)


class OpenAIChatDriver:
    """See the module.

    Args:
        quirks: How the host differs.
    """

    def __init__(self, quirks: Quirks = OPENAI) -> None:
        self._quirks = quirks

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        model, config, quirks = endpoint.ai_model, request.config, self._quirks
        can = capabilities(model)
        warnings = KnobWarnings(model.model_name)
        body: JsonObject = {"model": model.model_name, "messages": self._messages(request, endpoint)}
        if config.max_output_tokens is not None:
            body[quirks.max_tokens_field] = config.max_output_tokens
        if warnings.drop_unless(can.sampling, config, ("temperature", "top_p"), "a reasoning model refuses it"):
            if config.temperature is not None:
                body["temperature"] = warnings.clamp("temperature", config.temperature, 2.0)
            if config.top_p is not None:
                body["top_p"] = config.top_p
        if warnings.drop_unless(quirks.top_k, config, ("top_k",), "this API has no top_k") and config.top_k:
            body["top_k"] = config.top_k
        warnings.drop_unless(can.seed, config, ("seed",), "a reasoning model refuses it")
        if can.seed and config.seed is not None:
            body[quirks.seed_field] = config.seed
        if warnings.drop_unless(can.stop, config, ("stop",), "a reasoning model refuses it") and config.stop:
            if len(config.stop) > MAX_STOPS:
                warnings.adjusted("stop", list(config.stop[:MAX_STOPS]), f"at most {MAX_STOPS} are taken")
            body["stop"] = list(config.stop[:MAX_STOPS])
        if request.stream:
            body["stream"] = True
            if quirks.stream_options:
                body["stream_options"] = {"include_usage": True}
        return wire("/chat/completions", body, config, warnings, {})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return _Decoder(origin, self._quirks)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        return _error(status, headers, body, error_object(body), provider)

    def _messages(self, request: ChatRequest, endpoint: AIModelEndpoint) -> list[JsonObject]:
        model = endpoint.ai_model
        developer = self._quirks.developer_role and capabilities(model).developer_role
        leader = "developer" if developer else "system"
        messages: list[JsonObject] = []
        if request.instructions:
            messages.append({"role": leader, "content": "\n\n".join(request.instructions)})
        for message in request.messages:
            role = leader if message.role is Role.SYSTEM else message.role.value
            messages.append({"role": role, "content": _content(message, model.model_name)})
        return messages


def _content(message: Message, model: str) -> object:
    """A string where one text is all there is: every compatible host takes that, not every one takes lists."""
    if len(message.parts) == 1 and isinstance(message.parts[0], TextPart):
        return message.parts[0].text
    return [_encode_part(part, model) for part in message.parts]


def _encode_part(part: Part, model: str) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case RefusalPart():
            return {"type": "refusal", "refusal": part.text}
        case FilePart() if part.media_type.startswith("image/") and part.file_id is None:
            url = part.url or f"data:{part.media_type};base64,{part.get_base64()}"
            return {"type": "image_url", "image_url": {"url": url}}
        case FilePart(data=bytes()) if part.media_type.startswith("text/"):
            return {"type": "text", "text": f"{part.filename or 'Attached text'}:\n{part.get_text()}"}
        case _:
            raise UnsupportedError(f"{model}: cannot send a part of type {part.type!r} to Chat Completions yet")


# ---------------------------------------------------------------------------------------------------- answers


@dataclass(slots=True)
class _Choice:
    """One choice in flight. A text or reasoning part ends when the other kind begins; calls stay open."""

    index: int
    speaking: OpenPart | None = None
    calls: list[OpenPart] = field(default_factory=list[OpenPart])
    calls_by_id: dict[str, OpenPart] = field(default_factory=dict[str, OpenPart])
    calls_by_index: dict[int, OpenPart] = field(default_factory=dict[int, OpenPart])
    raw_finish: object = None
    ended: bool = False
    refused: bool = False
    spoke: bool = False


class _Decoder:
    __slots__ = ("_choices", "_done", "_parts", "_quirks", "_raw_usage")

    def __init__(self, origin: Origin, quirks: Quirks) -> None:
        self._parts = PartsInFlight(origin)
        self._quirks = quirks
        self._choices: dict[object, _Choice] = {}
        self._raw_usage: JsonObject = {}
        self._done = False

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        data = frame.data
        if data == b"[DONE]":
            return self._end() if self._parts.started and not self._done else ()
        chunk = load(data)
        events: list[StreamEvent] = []
        if not self._parts.started:
            self._check(chunk, data)
            events.append(self._parts.begin(model=chunk.get("model"), response_id=chunk.get("id")))
        elif "error" in chunk:
            self._check(chunk, data)
        choices = chunk.get("choices")
        if isinstance(choices, list):
            for choice in cast("list[object]", choices):
                if is_object(choice):
                    self._feed_choice(choice, events)
        if chunk.get("usage") is not None:
            self._raw_usage = as_object(chunk["usage"])
        if "x_groq" in chunk:
            self._note_extras(chunk)
        return events

    def finish(self) -> Sequence[StreamEvent]:
        if self._done:
            return ()
        if self._choices and all(choice.ended for choice in self._choices.values()):
            return self._end()
        raise truncated("a finish_reason or [DONE]")

    @property
    def usage(self) -> Usage | None:
        return _usage(self._raw_usage, self._quirks)

    def _check(self, chunk: JsonObject, data: bytes) -> None:
        if chunk.get("error"):
            raise _error(200, {}, data, chunk, self._parts.provider)
        if not chunk.keys() & {"choices", "object", "usage"}:
            raise ProtocolError(f"the answer has no choices, so it is no chat completion: {quote(data)}")

    def _feed_choice(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        choice = self._choices.get(raw.get("index", 0))
        if choice is None:
            choice = self._new_choice(raw)
        delta = raw.get("delta")
        if is_object(delta):
            content, speaking = delta.get("content"), choice.speaking
            if len(delta) == 1 and speaking is not None and speaking.start.kind == "text" and isinstance(content, str):
                if content:  # the usual delta: words and nothing else
                    speaking.pieces.append(content)
                    events.append(TextDelta(speaking.part_id, content))
            else:
                self._feed_message(choice, delta, events)
        elif "message" in raw:
            self._feed_message(choice, as_object(raw["message"]), events)
            choice.ended = True  # a plain body is whole
        if raw.get("finish_reason") is not None:
            choice.raw_finish = raw["finish_reason"]
            choice.ended = True
        if "usage" in raw:  # where some hosts put it
            self._raw_usage = as_object(raw["usage"]) or self._raw_usage

    def _new_choice(self, raw: JsonObject) -> _Choice:
        index = as_count(raw.get("index")) or 0
        return self._choices.setdefault(index, _Choice(index))

    def _feed_message(self, choice: _Choice, message: JsonObject, events: list[StreamEvent]) -> None:
        """A delta, or the whole message of a plain body: reasoning, then words, then calls."""
        reasoning = as_text(message.get("reasoning_content")) or as_text(message.get("reasoning"))
        details = as_list(message.get("reasoning_details"))
        if reasoning or details:
            self._reason(choice, reasoning, details, events)
        content = message.get("content")
        if isinstance(content, str):
            self._speak(choice, "text", content, events)
        else:
            self._feed_chunks(choice, as_list(content), events)
        self._feed_rest(choice, message, events)

    def _feed_rest(self, choice: _Choice, message: JsonObject, events: list[StreamEvent]) -> None:
        refusal = as_text(message.get("refusal"))
        if refusal:
            choice.refused = True
            self._speak(choice, "refusal", refusal, events)
        for call in map(as_object, as_list(message.get("tool_calls"))):
            self._call(choice, call, events)
        legacy = as_object(message.get("function_call"))
        if legacy.get("name"):  # the protocol before tools; kept whole, since nothing we send can ask for it
            events += self._parts.whole("hosted_tool", dict(legacy), name="function_call", choice=choice.index)

    def _feed_chunks(self, choice: _Choice, content: list[object], events: list[StreamEvent]) -> None:
        """Content as a list of typed chunks."""
        for chunk in map(as_object, content):
            if chunk.get("type") == "thinking":
                thoughts = chunk.get("thinking")
                texts = [as_text(as_object(item).get("text")) for item in as_list(thoughts)]
                self._speak(choice, "reasoning", "".join(texts) or as_text(thoughts), events)
            elif chunk.get("type") == "text":
                self._speak(choice, "text", as_text(chunk.get("text")), events)

    def _reason(self, choice: _Choice, text: str, details: list[object], events: list[StreamEvent]) -> None:
        part = self._part(choice, "reasoning", events)
        if details:
            as_list(part.state.setdefault("reasoning_details", [])).extend(details)
        if text:
            part.pieces.append(text)
            events.append(ReasoningDelta(part.part_id, text))

    def _speak(self, choice: _Choice, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        if not text:
            return
        part = self._part(choice, kind, events)
        part.pieces.append(text)
        match kind:
            case "reasoning":
                events.append(ReasoningDelta(part.part_id, text))
            case "refusal":
                events.append(RefusalDelta(part.part_id, text))
            case _:
                choice.spoke = True
                events.append(TextDelta(part.part_id, text))

    def _part(self, choice: _Choice, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        """The part of that kind that is open, or a new one after closing the other kind."""
        speaking = choice.speaking
        if speaking is not None and speaking.start.kind == kind:
            return speaking
        if speaking is not None:
            events.append(self._parts.close(speaking))
        choice.speaking = part = self._parts.open(kind, choice=choice.index)
        events.append(part.start)
        return part

    def _call(self, choice: _Choice, raw: JsonObject, events: list[StreamEvent]) -> None:
        function = as_object(raw.get("function"))
        custom = as_object(raw.get("custom"))
        name = as_text(function.get("name")) or as_text(custom.get("name"))
        arguments = as_text(function.get("arguments")) or as_text(custom.get("input"))
        call_id = as_text(raw.get("id"))
        index = as_count(raw.get("index"))
        part = self._call_slot(choice, call_id, index, name)
        if part is None:
            part = self._open_call(choice, call_id, index, name, events)
            extra = raw.get("extra_content")
            if extra:
                part.state["extra_content"] = extra
        if arguments:
            part.pieces.append(arguments)
            events.append(ToolCallDelta(part.part_id, arguments))

    def _call_slot(self, choice: _Choice, call_id: str, index: int | None, name: str) -> OpenPart | None:
        """Which call a fragment continues: by id if it has one, else by index, else the latest; None = a new call.

        Hosts reuse and omit indexes; an id that was not seen before always begins a call.
        """
        if call_id:
            return choice.calls_by_id.get(call_id)
        if index is not None and index in choice.calls_by_index:
            return choice.calls_by_index[index]
        if name or not choice.calls:
            return None
        return choice.calls[-1]

    def _open_call(
        self, choice: _Choice, call_id: str, index: int | None, name: str, events: list[StreamEvent]
    ) -> OpenPart:
        if choice.speaking is not None:
            events.append(self._parts.close(choice.speaking))
            choice.speaking = None
        part = self._parts.open("tool_call", choice=choice.index, call_id=call_id, name=name)
        choice.calls.append(part)
        if call_id:
            choice.calls_by_id[call_id] = part
        if index is not None:
            choice.calls_by_index[index] = part
        events.append(part.start)
        return part

    def _note_extras(self, chunk: JsonObject) -> None:
        extra = as_object(chunk.get("x_groq"))
        if extra.get("error"):
            raise _error(200, {}, orjson.dumps(extra), extra, self._parts.provider)
        usage = as_object(extra.get("usage"))
        if usage and not self._raw_usage:
            self._raw_usage = usage

    def _end(self) -> Sequence[StreamEvent]:
        self._done = True
        events: list[StreamEvent] = []
        if not self._choices:
            self._choices[0] = _Choice(0)
        for choice in self._choices.values():
            open_parts = [choice.speaking] if choice.speaking is not None else []
            events += [self._parts.close(part) for part in (*open_parts, *choice.calls)]
            finish = finish_of(choice.raw_finish, _FINISH, has_calls=bool(choice.calls), choice=choice.index)
            if choice.refused and not choice.spoke and finish.finish_reason is FinishReason.STOP:
                finish.finish_reason = FinishReason.REFUSAL
            self._parts.finishes[choice.index] = finish
        return [*events, *usage_events(self.usage), self._parts.end()]


_CACHE_READS = ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens")  # where hosts put it at the top


def _first_count(*values: object) -> int | None:
    return next((count for value in values if (count := as_count(value)) is not None), None)


def _usage(raw: JsonObject, quirks: Quirks) -> Usage | None:
    if not raw:
        return None
    into, out = as_object(raw.get("prompt_tokens_details")), as_object(raw.get("completion_tokens_details"))
    read = _first_count(into.get("cached_tokens"), *map(raw.get, _CACHE_READS))
    written = _first_count(into.get("cache_write_tokens"), raw.get("cache_creation_input_tokens"))
    prompt = as_count(raw.get("prompt_tokens"))
    if prompt is not None and read is not None and read > prompt:
        prompt += read  # a part cannot be more than its whole: here it was counted apart
    reasoning, output = as_count(out.get("reasoning_tokens")), as_count(raw.get("completion_tokens"))
    if quirks.reasoning_apart and output is not None:
        output += reasoning or 0
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=reasoning,
        total_tokens=as_count(raw.get("total_tokens")),
        source="reported",
    )


def _error(status: int, headers: Mapping[str, str], body: bytes, parsed: JsonObject, provider: str) -> APIError:
    """Hosts disagree on the shape: ``error`` as object or text, everything at the top, or ``detail``."""
    raw = parsed.get("error")
    error = as_object(raw) or parsed
    number = as_count(error.get("status_code")) or as_count(error.get("code"))
    code = as_text(error.get("code")) or as_text(error.get("type")) or None
    detail = parsed.get("detail")
    message = as_text(error.get("message")) or as_text(raw) or as_text(detail)
    if not message and detail:
        message = orjson.dumps(detail).decode()
    return api_error(
        (number if number and 400 <= number < 600 else 500) if status == 200 else status,
        headers,
        body,
        provider=provider,
        message=message,
        code=code or (str(number) if number else None),
    )
