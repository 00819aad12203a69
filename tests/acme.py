"""A host and a dialect from outside the package, whole: written by public names alone, as anybody would.

Its turns are made of pieces, and its answer is a list of things said, in one body or each an event of its own.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Literal

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelEndpoint,
    FilePart,
    FinishReason,
    Host,
    HostedTool,
    Origin,
    ReasoningDelta,
    ReasoningPart,
    StreamEvent,
    TextDelta,
    TextPart,
    Tool,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    Usage,
    register_driver,
    register_host,
)
from dhenara_async.drivers import (
    ChatRequest,
    Decoder,
    Frame,
    JsonObject,
    KnobWarnings,
    OpenPart,
    Part,
    PartsInFlight,
    Place,
    Rules,
    WireRequest,
    api_error,
    as_count,
    as_list,
    as_object,
    as_text,
    error_object,
    finish_of,
    load,
    name_of,
    truncated,
    usage_events,
    wire,
)
from dhenara_async.errors import APIError, UnsupportedError

_WHY = {"done": FinishReason.STOP, "called": FinishReason.TOOL_CALLS}


class AcmeDriver:
    """Turns made of pieces; an answer is a list of things said, whole in one body or each an event of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return Rules(reasoning_back="model", error_flag=True, files=_takes)

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        model, config = endpoint.ai_model.model_name, request.config
        warnings = KnobWarnings(model)
        warnings.drop_unless(False, config, _NO_SUCH_KNOBS, "Acme has no such knob")
        turns = [
            {"who": turn.role.value, "pieces": [_spelled(part) for part in turn.parts]} for turn in request.messages
        ]
        body: JsonObject = {"model": model, "lead": list(request.instructions), "turns": turns}
        if config.max_output_tokens is not None:
            body["limit"] = config.max_output_tokens
        if config.tools:
            body["functions"] = [tool.name for tool in config.tools if isinstance(tool, Tool)]
            for tool in config.tools:
                if isinstance(tool, HostedTool):
                    warnings.dropped("tools", f"Acme has no {tool.type} of its own")
        return wire("/talk/live" if request.stream else "/talk", body, config, warnings, {"x-acme-version": "3"})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return AcmeDecoder(origin, request.config.bounds.max_parts)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        message = as_text(error_object(body).get("oops"))
        return api_error(status, headers, body, provider=provider, message=message, code=None)


_NO_SUCH_KNOBS = (
    *("temperature", "top_p", "top_k", "stop", "seed", "n", "top_logprobs"),
    *("reasoning", "reasoning_effort", "max_reasoning_tokens", "reasoning_summary"),
    *("tool_choice", "parallel_tool_calls", "structured_output", "prompt_cache"),
    *("metadata", "user_id", "service_tier"),
)


def _takes(part: FilePart, place: Place) -> bool:
    return place == "question" and part.file_id is None


def _spelled(part: Part) -> JsonObject:
    match part:
        case TextPart():
            return {"say": part.text}
        case ReasoningPart():
            return {"thought": part.text, **(part.provider_state or {})}
        case ToolCallPart():
            return {"call": part.call_id, "name": part.name, "with": part.arguments}
        case ToolResultPart() if not any(isinstance(item, FilePart) for item in part.content):
            failed = {"failed": True} if part.is_error else {}
            return {"result": part.call_id, "say": part.get_text(), **failed}
        case FilePart(data=bytes() as data):
            return {"file": part.media_type, "base64": base64.b64encode(data).decode()}
        case FilePart(url=str() as url):
            return {"file": part.media_type, "url": url}
        case _:
            raise UnsupportedError(f"Acme has no words for a {part.type} part")


class AcmeDecoder:
    def __init__(self, origin: Origin, most: int) -> None:
        self._parts = PartsInFlight(origin, most)
        self._open: OpenPart | None = None
        self._called = self._ended = False
        self._usage: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        data = load(frame)
        if name := name_of(frame):
            return self._said(name.decode(), data)
        things = map(as_object, as_list(data.get("said")))
        return [event for thing in things for event in self._said(as_text(thing.get("kind")), thing)]

    def finish(self) -> Sequence[StreamEvent]:
        if not self._ended:
            raise truncated("an end")
        return ()

    def _said(self, kind: str, thing: JsonObject) -> list[StreamEvent]:
        text = as_text(thing.get("text"))
        match kind:
            case "hello":
                return [self._parts.begin(model=thing.get("model"), response_id=thing.get("id"))]
            case "thought":
                return self._more("reasoning", text)
            case "seal":
                if self._open is not None:
                    self._open.state["seal"] = text
                return []
            case "speech":
                return self._more("text", text)
            case "call":
                self._called = True
                call = self._parts.open("tool_call", call_id=as_text(thing.get("id")), name=as_text(thing.get("name")))
                call.pieces.append(text)
                return [*self._close(), call.start, ToolCallDelta(call.part_id, text), self._parts.close(call)]
            case "end":
                return self._end(thing)
            case _:
                return []  # things that nobody has told us of

    def _more(self, kind: Literal["reasoning", "text"], text: str) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if self._open is None or self._open.start.kind != kind:
            events += self._close()
            self._open = self._parts.open(kind)
            events.append(self._open.start)
        self._open.pieces.append(text)
        delta = ReasoningDelta if kind == "reasoning" else TextDelta
        return [*events, delta(self._open.part_id, text)]

    def _close(self) -> list[StreamEvent]:
        part, self._open = self._open, None
        return [] if part is None else [self._parts.close(part)]

    def _end(self, thing: JsonObject) -> list[StreamEvent]:
        self._ended = True
        read, written = as_count(thing.get("read")), as_count(thing.get("written"))
        self._usage = Usage(input_tokens=read, output_tokens=written, source="reported")
        self._parts.finishes[0] = finish_of(thing.get("why"), _WHY, has_calls=self._called)
        return [*self._close(), *usage_events(self._usage), self._parts.end()]


KEY = "acme-key-that-nobody-may-see"
ACME = Host(
    "https://api.acme.test",
    "acme_pieces",
    key_variables=("ACME_API_KEY",),
    base_url_variables=("ACME_BASE_URL",),
    key_header="x-acme-key",
    key_prefix="Key ",
)
register_driver("acme_pieces", AcmeDriver)
register_host("acme", ACME)

ACME_1 = AIModelEndpoint(api=AIModelAPI(provider="acme"), ai_model=AIModel(model_name="acme-1", provider="acme"))
ANSWER: tuple[JsonObject, ...] = (
    {"kind": "hello", "id": "a-1", "model": "acme-1-june"},
    {"kind": "thought", "text": "Hm. "},
    {"kind": "thought", "text": "Yes."},
    {"kind": "seal", "text": "sealed"},
    {"kind": "weather"},
    {"kind": "speech", "text": "Good "},
    {"kind": "speech", "text": "day \N{ROBOT FACE}"},
    {"kind": "end", "why": "done", "read": 7, "written": 5},
)
CALLING: tuple[JsonObject, ...] = (
    ANSWER[0],
    {"kind": "call", "id": "c-1", "name": "add", "text": '{"a":1}'},
    {"kind": "end", "why": "called", "read": 7, "written": 5},
)
