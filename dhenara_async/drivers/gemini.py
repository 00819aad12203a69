"""Gemini generateContent and streamGenerateContent, as the Developer API speaks them.

The stream has no terminal event of its own: it is whole if a candidate said why it finished, or the prompt was blocked.

Source: https://ai.google.dev/api/generate-content and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote as quote_path

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
    not_json,
    truncated,
    usage_events,
    wire,
)
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import APIError, ProtocolError, UnsupportedError
from dhenara_async.events import ChoiceFinish, PartKind, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from dhenara_async.framing import Frame
from dhenara_async.messages import FilePart, Message, Origin, Part, RefusalPart, Role, TextPart
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import FinishReason, Usage

API_VERSION = "v1beta"  # a superset of v1
MAX_STOPS = 5

_FINISH_BY_MEANING = {
    FinishReason.STOP: "STOP",
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.PAUSE: "CONTINUATION",
    FinishReason.CONTENT_FILTER: (
        "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
        "IMAGE_RECITATION ESCALATION MODEL_ARMOR PUP_LIMITED_DISABLED"
    ),
    FinishReason.ERROR: (
        "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MALFORMED_RESPONSE MISSING_THOUGHT_SIGNATURE"
    ),
}
_FINISH: dict[str, FinishReason] = {
    **{word: reason for reason, words in _FINISH_BY_MEANING.items() for word in words.split()},
    # the same as enum numbers, which gateways that re-encode the protocol send
    "1": FinishReason.STOP,
    "2": FinishReason.LENGTH,
    "3": FinishReason.CONTENT_FILTER,
    "4": FinishReason.CONTENT_FILTER,
}


class GeminiDriver:
    """See the module."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        model, config = endpoint.ai_model.model_name, request.config
        warnings = KnobWarnings(model)
        body: JsonObject = {"contents": [_encode_message(message, model) for message in request.messages]}
        if request.instructions:
            body["systemInstruction"] = {"parts": [{"text": text} for text in request.instructions]}
        knobs: JsonObject = {
            "maxOutputTokens": config.max_output_tokens,
            "topP": config.top_p,
            "topK": config.top_k,
            "seed": config.seed,
        }
        if config.temperature is not None:
            knobs["temperature"] = warnings.clamp("temperature", config.temperature, 2.0)
        if config.stop:
            if len(config.stop) > MAX_STOPS:
                warnings.adjusted("stop", list(config.stop[:MAX_STOPS]), f"at most {MAX_STOPS} are taken")
            knobs["stopSequences"] = list(config.stop[:MAX_STOPS])
        generation = {name: value for name, value in knobs.items() if value is not None}
        if generation:
            body["generationConfig"] = generation
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return wire(f"/{API_VERSION}/{_model_path(model)}:{method}", body, config, warnings, {})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return _Decoder(origin, plain=not request.stream)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        return _error(status, headers, body, as_object(error_object(body).get("error")), provider)


def _model_path(model: str) -> str:
    """``models/x`` for a bare id; tuned models bring their own collection."""
    path = model if "/" in model else f"models/{model}"
    return quote_path(path, safe="/")


def _encode_message(message: Message, model: str) -> JsonObject:
    role = "model" if message.role is Role.ASSISTANT else "user"
    return {"role": role, "parts": [_encode_part(part, model) for part in message.parts]}


def _encode_part(part: Part, model: str) -> JsonObject:
    match part:
        case TextPart() | RefusalPart():
            return {"text": part.text}
        case FilePart() if part.media_type.startswith("image/") and part.file_id is None:
            if part.url is None:
                return {"inlineData": {"mimeType": part.media_type, "data": part.get_base64()}}
            known: JsonObject = {} if part.media_type == "image/*" else {"mimeType": part.media_type}
            return {"fileData": {**known, "fileUri": part.url}}
        case FilePart(data=bytes()) if part.media_type.startswith("text/"):
            return {"inlineData": {"mimeType": "text/plain", "data": part.get_base64()}}
        case _:
            raise UnsupportedError(f"{model}: cannot send a part of type {part.type!r} to Gemini yet")


# ---------------------------------------------------------------------------------------------------- answers


@dataclass(slots=True)
class _Candidate:
    index: int
    speaking: OpenPart | None = None
    has_calls: bool = False
    raw_finish: object = None


class _Decoder:
    """Parts are deltas: texts of one kind run on, unless a signature sets one apart.

    ``plain``: the body is one document, whose own end proves it whole even where no candidate says why it finished.
    """

    __slots__ = ("_blocked", "_candidates", "_done", "_parts", "_plain", "_raw_usage")

    def __init__(self, origin: Origin, *, plain: bool) -> None:
        self._parts = PartsInFlight(origin)
        self._candidates: dict[object, _Candidate] = {}
        self._raw_usage: JsonObject = {}
        self._blocked: str = ""
        self._plain = plain
        self._done = False

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        data = frame.data
        try:
            chunk: object = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise not_json(data) from exc
        events: list[StreamEvent] = []
        if is_object(chunk):
            self._feed_chunk(chunk, events)
        elif isinstance(chunk, list):  # without alt=sse the answer is one array of chunks
            self._plain = True
            for item in cast(list[object], chunk):
                self._feed_chunk(as_object(item), events)
        return events

    def finish(self) -> Sequence[StreamEvent]:
        if self._done:
            return ()
        finished = any(candidate.raw_finish is not None for candidate in self._candidates.values())
        if not (finished or self._blocked or self._plain):
            raise truncated("a finishReason")
        return self._end()

    @property
    def usage(self) -> Usage | None:
        return _usage(self._raw_usage)

    def _feed_chunk(self, chunk: JsonObject, events: list[StreamEvent]) -> None:
        if not self._parts.started:
            if "error" in chunk:
                self._raise(chunk)
            if not chunk.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
                return  # nothing of ours in it: the end of the body will say that nothing came
            events.append(self._parts.begin(model=chunk.get("modelVersion"), response_id=chunk.get("responseId")))
        candidates = chunk.get("candidates")
        if isinstance(candidates, list):
            for raw in cast("list[object]", candidates):
                if is_object(raw):
                    self._feed_candidate(raw, events)
        usage = chunk.get("usageMetadata")
        if is_object(usage):
            self._raw_usage = usage  # only read at the end: it comes with every chunk
        if "error" in chunk:
            self._raise(chunk)
        if "promptFeedback" in chunk:
            feedback = as_object(chunk["promptFeedback"])
            self._blocked = as_text(feedback.get("blockReason")) or self._blocked

    def _feed_candidate(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        candidate = self._candidates.get(raw.get("index", 0))
        if candidate is None:
            candidate = self._new_candidate(raw)
        content = raw.get("content")
        parts = content.get("parts") if is_object(content) else None
        if isinstance(parts, list):
            for part in cast("list[object]", parts):
                if is_object(part):
                    self._feed_part(candidate, part, events)
        if "finishReason" in raw:
            candidate.raw_finish = raw["finishReason"]
        if "groundingMetadata" in raw or "citationMetadata" in raw:
            self._keep_grounding(candidate, raw)

    def _new_candidate(self, raw: JsonObject) -> _Candidate:
        index = as_count(raw.get("index")) or 0
        return self._candidates.setdefault(index, _Candidate(index))

    def _feed_part(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        text = raw.get("text")
        if isinstance(text, str):
            speaking = candidate.speaking
            if len(raw) == 1 and speaking is not None and speaking.start.kind == "text":
                if text:  # the usual part: more words of the text that is open
                    speaking.pieces.append(text)
                    events.append(TextDelta(speaking.part_id, text))
                return
            kind: PartKind = "reasoning" if raw.get("thought") else "text"
            signature = raw.get("thoughtSignature")
            if signature:
                self._signed_text(candidate, kind, text, signature, events)
            elif text:
                self._speak(candidate, kind, text, events)
        elif "functionCall" in raw:
            self._call(candidate, raw, events)
        else:
            name = next((key for key in raw if key not in ("thought", "thoughtSignature")), "")
            if name:
                self._pause(candidate, events)
                events += self._parts.whole("hosted_tool", dict(raw), name=name, choice=candidate.index)

    def _speak(self, candidate: _Candidate, kind: PartKind, text: str, events: list[StreamEvent]) -> OpenPart:
        part = candidate.speaking
        if part is None or part.start.kind != kind:
            self._pause(candidate, events)
            part = candidate.speaking = self._parts.open(kind, choice=candidate.index)
            events.append(part.start)
        if text:
            part.pieces.append(text)
            events.append(TextDelta(part.part_id, text) if kind == "text" else ReasoningDelta(part.part_id, text))
        return part

    def _signed_text(
        self, candidate: _Candidate, kind: PartKind, text: str, signature: object, events: list[StreamEvent]
    ) -> None:
        """A signature belongs to exactly its own part, which may be empty: never merged with a neighbour."""
        self._pause(candidate, events)
        part = self._speak(candidate, kind, text, events)
        part.state = {"thoughtSignature": signature}
        self._pause(candidate, events)

    def _call(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        self._pause(candidate, events)
        candidate.has_calls = True
        call = as_object(raw["functionCall"])
        part = self._parts.open(
            "tool_call",
            choice=candidate.index,
            call_id=as_text(call.get("id")),
            name=as_text(call.get("name")),
        )
        if raw.get("thoughtSignature"):
            part.state = {"thoughtSignature": raw["thoughtSignature"]}
        arguments = orjson.dumps(call.get("args") or {}).decode()
        part.pieces.append(arguments)
        events += [part.start, ToolCallDelta(part.part_id, arguments), self._parts.close(part)]

    def _keep_grounding(self, candidate: _Candidate, raw: JsonObject) -> None:
        kept = {key: raw[key] for key in ("groundingMetadata", "citationMetadata") if raw.get(key)}
        if candidate.speaking is not None:
            candidate.speaking.state |= kept

    def _pause(self, candidate: _Candidate, events: list[StreamEvent]) -> None:
        if candidate.speaking is not None:
            events.append(self._parts.close(candidate.speaking))
            candidate.speaking = None

    def _end(self) -> Sequence[StreamEvent]:
        self._done = True
        events: list[StreamEvent] = []
        if not self._parts.started:
            raise ProtocolError("the answer holds neither candidates nor feedback on the prompt")
        for candidate in self._candidates.values():
            self._pause(candidate, events)
            finish = finish_of(candidate.raw_finish, _FINISH, has_calls=candidate.has_calls, choice=candidate.index)
            if candidate.raw_finish is None:
                finish.finish_reason = FinishReason.OTHER
            elif candidate.has_calls and finish.finish_reason is FinishReason.STOP:
                finish.finish_reason = FinishReason.TOOL_CALLS
            self._parts.finishes[candidate.index] = finish
        if not self._candidates:
            reason = FinishReason.CONTENT_FILTER if self._blocked else FinishReason.OTHER
            self._parts.finishes[0] = ChoiceFinish(0, reason, self._blocked or None)
        return [*events, *usage_events(self.usage), self._parts.end()]

    def _raise(self, chunk: JsonObject) -> None:
        raise _error(200, {}, orjson.dumps(chunk), as_object(chunk.get("error")), self._parts.provider)


def _usage(raw: JsonObject) -> Usage | None:
    """Thoughts and tool-use prompts are counted apart on the wire; ours include them."""
    counts = {key: as_count(value) for key, value in raw.items()}
    prompt, answer = counts.get("promptTokenCount"), counts.get("candidatesTokenCount")
    thoughts, tools = counts.get("thoughtsTokenCount"), counts.get("toolUsePromptTokenCount")
    total = counts.get("totalTokenCount")
    if prompt is None and answer is None and total is None:
        return None
    return Usage(
        input_tokens=None if prompt is None else prompt + (tools or 0),
        cache_read_tokens=counts.get("cachedContentTokenCount"),
        output_tokens=None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0),
        reasoning_tokens=thoughts,
        total_tokens=total,
        source="reported",
    )


def _error(status: int, headers: Mapping[str, str], body: bytes, error: JsonObject, provider: str) -> APIError:
    number = as_count(error.get("code"))
    delay = next(
        (as_object(item)["retryDelay"] for item in as_list(error.get("details")) if "retryDelay" in as_object(item)),
        None,
    )
    return api_error(
        (number or 500) if status == 200 else status,
        headers,
        body,
        provider=provider,
        message=as_text(error.get("message")),
        code=as_text(error.get("status")) or (str(number) if number else None),
        retry_after=_seconds(as_text(delay)),
    )


def _seconds(duration: str) -> float | None:
    """``"17s"`` or ``"0.5s"`` as seconds."""
    try:
        return float(duration.removesuffix("s")) if duration else None
    except ValueError:
        return None
