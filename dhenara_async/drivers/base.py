"""The contract of a dialect, and the few things every dialect needs.

One decoder serves both ways an answer can come: a plain body is fed as one frame and folds to the same response as
its stream would.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard, cast

import orjson
from pydantic import JsonValue

from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
    UnsupportedError,
)
from dhenara_async.events import (
    ChoiceFinish,
    PartEnd,
    PartKind,
    PartStart,
    StreamEnd,
    StreamEvent,
    StreamStart,
    TextDelta,
    UsageUpdate,
)
from dhenara_async.framing import Frame
from dhenara_async.media import placeholder
from dhenara_async.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    Origin,
    Part,
    ProviderState,
    ReasoningPart,
    RefusalPart,
    TextPart,
    TokenLogprob,
    ToolCallPart,
)
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import CallWarning, FinishReason, Usage
from dhenara_async.rules import Rules
from dhenara_async.tools import HostedToolType

JsonObject = dict[str, object]

QUOTED_BYTES = 200
KEPT_BODY_BYTES = 64 * 1024


class Decoder(Protocol):
    """Turns the frames of one answer into events; holds that answer's state and nothing else."""

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        """The events in ``frame``, possibly none.

        Raises:
            APIError: The provider reports a failure inside the answer.
            ProtocolError: The frame is not what this dialect allows.
        """
        ...

    def finish(self) -> Sequence[StreamEvent]:
        """The last events, at the end of the body.

        Raises:
            TruncatedStreamError: No terminal event was seen.
        """
        ...

    @property
    def usage(self) -> Usage | None:
        """The newest report of tokens, even one that no event has carried yet; None = none came."""
        ...


class Driver(Protocol):
    """One wire dialect."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        """The request in this dialect's words.

        Raises:
            UnsupportedError: A content part cannot be said in this dialect.
        """
        ...

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        """A decoder for the one answer to ``request``; its parts carry ``origin``."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        """What an HTTP error of this dialect means; ``headers`` have lower-case names."""
        ...

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        """What ``endpoint`` demands of a history; what obeys them, ``encode`` takes."""
        ...


# ---------------------------------------------------------------------------------------------------- reading JSON


def load(data: bytes) -> JsonObject:
    """A frame's payload as a JSON object.

    Raises:
        ProtocolError: It is not one; the message quotes its start.
    """
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        if data.__class__ is not bytes:  # a frame that has a name: orjson takes no bytes but plain ones
            return load(bytes(data))
        raise not_json(data) from exc
    if is_object(value):
        return value
    raise not_an_object(data)


def not_an_object(data: bytes) -> ProtocolError:
    """The error for a payload that is JSON and no object."""
    return ProtocolError(f"the provider sent JSON that is not an object: {quote(data)}")


def not_json(data: bytes) -> ProtocolError:
    """The error for a payload that no JSON parser takes."""
    return ProtocolError(f"the provider sent something that is not JSON: {quote(data)}")


def quote(data: bytes) -> str:
    """The start of a body, fit for an error message."""
    if not data.strip():
        return "an empty body"
    return repr(data[:QUOTED_BYTES].decode(errors="replace"))


def is_object(value: object) -> TypeGuard[JsonObject]:
    """Whether ``value`` is a JSON object."""
    return isinstance(value, dict)


def as_object(value: object) -> JsonObject:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] - JSON has such keys


def as_list(value: object) -> list[object]:
    """``value`` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType] - of anything


def as_text(value: object) -> str:
    """``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def only_one(value: object) -> JsonObject:
    """The one object of a JSON array; an empty one if it is none, or has more or less in it."""
    items = as_list(value)
    return as_object(items[0]) if len(items) == 1 else {}


def has_more(value: JsonObject, than: AbstractSet[str]) -> bool:
    """Whether there is anything in ``value`` beside the fields in ``than``: what is null, empty or zero is not."""
    for name, item in value.items():  # noqa: SIM110 - half of what a generator costs
        if item and name not in than:
            return True
    return False


def as_count(value: object) -> int | None:
    """``value`` if it is a whole number of tokens, else None."""
    if value is None or type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def state(value: Mapping[str, object]) -> ProviderState | None:
    """Opaque state to keep on a part; None if there is nothing in it."""
    return cast(ProviderState, dict(value)) or None


# ---------------------------------------------------------------------------------------------------- building parts


@dataclass(slots=True)
class OpenPart:
    """A part that is being received."""

    part_id: int
    start: PartStart
    pieces: list[str] = field(default_factory=list[str])
    state: JsonObject = field(default_factory=dict[str, object])
    citations: Sequence[Citation] = ()
    logprobs: Sequence[TokenLogprob] = ()

    def cite(self, citations: Iterable[Citation]) -> None:
        """Say where its words come from; most parts never do."""
        self.citations = [*self.citations, *citations]


class PartsInFlight:
    """Numbers, opens and closes the parts of one answer, and makes the events for it.

    Args:
        origin: Who makes the parts; ``served`` completes it once the response names its model.
    """

    __slots__ = ("_count", "_origin", "finishes", "started")

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._count = 0
        self.started: bool = False
        self.finishes: dict[int, ChoiceFinish] = {}

    @property
    def provider(self) -> str:
        return self._origin.provider

    def begin(self, *, model: object, response_id: object) -> StreamStart:
        """The start of the stream; ``model`` and ``response_id`` as the provider reports them."""
        self.started = True
        served = as_text(model) or None
        self._origin = _served_by(self._origin, served)
        return StreamStart(served, self._origin.provider, as_text(response_id) or None)

    def open(self, kind: PartKind, *, choice: int = 0, call_id: str | None = None, name: str | None = None) -> OpenPart:
        part = OpenPart(self._count, PartStart(self._count, kind, choice, call_id, name))
        self._count += 1
        return part

    def close(self, part: OpenPart, *, text: str | None = None) -> PartEnd:
        """The part's end; ``text`` replaces what its deltas gave, where the provider repeats the whole."""
        return PartEnd(part.part_id, self._finished(part, "".join(part.pieces) if text is None else text))

    def hosted(
        self,
        name: str,
        part_state: JsonObject,
        *,
        choice: int = 0,
        tool: HostedToolType | None = None,
        call_id: str | None = None,
        asked: object = None,
        output: object = None,
        report: bool = False,
    ) -> list[StreamEvent]:
        """Something the provider ran itself, in one piece: no deltas. ``asked`` and ``output`` are plain JSON."""
        part = self.open("hosted_tool", choice=choice, call_id=call_id, name=name)
        part.state = part_state
        return [part.start, self.close_hosted(part, tool=tool, asked=asked, output=output, report=report)]

    def close_hosted(
        self,
        part: OpenPart,
        *,
        tool: HostedToolType | None = None,
        asked: object = None,
        output: object = None,
        report: bool = False,
    ) -> PartEnd:
        """The end of a hosted part that was opened before, because its input was streamed."""
        ended = HostedToolPart(
            name=part.start.name or "",
            tool=tool,
            call_id=part.start.call_id,
            input=cast("JsonValue", asked),
            output=cast("JsonValue", output),
            report=report,
            origin=self._origin,
            provider_state=state(part.state),
        )
        return PartEnd(part.part_id, ended)

    def file(
        self,
        media_type: str,
        part_state: JsonObject,
        *,
        choice: int = 0,
        data: bytes | None = None,
        url: str | None = None,
        file_id: str | None = None,
        filename: str | None = None,
    ) -> list[StreamEvent]:
        """A generated file, in one piece: no deltas.

        Its bytes are not checked: they are what the provider sent, and worth having even if they are not what it says.
        """
        part = self.open("file", choice=choice)
        ended = FilePart.trusted(
            type="file",
            media_type=media_type,
            data=data,
            url=url,
            file_id=file_id,
            filename=filename,
            origin=self._origin,
            provider_state=state(part_state),
            status="complete",
        )
        return [part.start, PartEnd(part.part_id, ended)]

    def all_at_once(
        self,
        text: str,
        *,
        model: object,
        response_id: object,
        finish: ChoiceFinish,
        usage: Usage | None,
        kept: ProviderState | None = None,
    ) -> list[StreamEvent]:
        """Everything, from the start to the end, for an answer of one text that came in one piece."""
        return [
            self.begin(model=model, response_id=response_id),
            PartStart(0, "text", 0),
            TextDelta(0, text),
            PartEnd(0, self._text(text, kept, (), ())),
            *usage_events(usage),
            StreamEnd(finish.finish_reason, finish.raw_finish_reason, (finish,)),
        ]

    def end(self) -> StreamEnd:
        """The end of the stream, from the choices' recorded finishes."""
        finishes = tuple(self.finishes[choice] for choice in sorted(self.finishes))
        first = finishes[0]
        return StreamEnd(first.finish_reason, first.raw_finish_reason, finishes)

    def _text(
        self,
        text: str,
        kept: ProviderState | None,
        citations: tuple[Citation, ...],
        logprobs: tuple[TokenLogprob, ...],
    ) -> TextPart:
        return TextPart.trusted(
            origin=self._origin,
            provider_state=kept,
            status="complete",
            type="text",
            text=text,
            citations=citations,
            logprobs=logprobs,
        )

    def _finished(self, part: OpenPart, text: str) -> Part:
        origin, kept = self._origin, state(part.state)
        match part.start.kind:
            case "text":
                return self._text(text, kept, tuple(part.citations), tuple(part.logprobs))
            case "reasoning":
                return ReasoningPart.trusted(text=text, origin=origin, provider_state=kept)
            case "refusal":
                return RefusalPart.trusted(text=text, origin=origin, provider_state=kept)
            case "tool_call":
                return ToolCallPart(
                    call_id=part.start.call_id or "",
                    name=part.start.name or "",
                    arguments=text,
                    origin=origin,
                    provider_state=kept,
                )
            case _:
                return HostedToolPart(name=part.start.name or "", origin=origin, provider_state=kept)


_served: dict[tuple[int, str | None], tuple[Origin, Origin]] = {}
_MOST_SERVED, _LONGEST_MODEL = 1000, 200


def _served_by(asked: Origin, model: str | None) -> Origin:
    """``asked`` with the model that its host reports: the same for every answer, so it is made once."""
    key = id(asked), model
    known = _served.get(key)  # which keeps it, so that its id stays its own
    if known is not None:
        return known[1]
    served = Origin.trusted(**{**asked.__dict__, "served_model": model})
    if len(model or "") <= _LONGEST_MODEL:
        if len(_served) >= _MOST_SERVED:
            _served.clear()
        _served[key] = asked, served
    return served


def truncated(terminal: str) -> TruncatedStreamError:
    """The error for a body that ended before its terminal event."""
    return TruncatedStreamError(
        f"the stream ended without {terminal}; what came is in .partial, but nobody knows whether it is whole"
    )


def usage_events(usage: Usage | None) -> list[StreamEvent]:
    """The event that carries ``usage``, if there is any."""
    return [] if usage is None else [UsageUpdate(usage)]


def finish_of(
    raw: object, table: Mapping[str, FinishReason], *, has_calls: bool, choice: int = 0, stop_sequence: object = None
) -> ChoiceFinish:
    """How a choice ended, from the provider's own word.

    A missing word means a clean end that was not explained (``tool_calls`` if there are any, else ``stop``); an
    unknown one is ``other`` and kept.
    """
    word = str(raw) if raw is not None and raw != "" else None
    if word is None:
        reason = FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
    else:
        reason = table.get(word, FinishReason.OTHER)
    return ChoiceFinish(choice, reason, word, as_text(stop_sequence) or None)


# ---------------------------------------------------------------------------------------------------- writing requests


class KnobWarnings:
    """Collects what becomes of knobs that a target cannot take as given."""

    __slots__ = ("_model", "_warnings")

    def __init__(self, model: str) -> None:
        self._model = model
        self._warnings: list[CallWarning] = []

    def dropped(self, knob: str, why: str) -> None:
        """``knob`` was left out of the request."""
        message = f"{knob} was not sent to {self._model}: {why}"
        self._warnings.append(CallWarning(code="param_dropped", knob=knob, message=message))

    def adjusted(self, knob: str, value: object, why: str) -> None:
        """``knob`` was sent as ``value``."""
        message = f"{knob} was sent to {self._model} as {value}: {why}"
        self._warnings.append(CallWarning(code="param_adjusted", knob=knob, message=message))

    def drop_unless(self, allowed: bool, config: AIModelCallConfig, knobs: Sequence[str], why: str) -> bool:
        """Warn of each of ``knobs`` that is set although it is not ``allowed``; returns ``allowed``."""
        if not allowed:
            for knob in knobs:
                if getattr(config, knob) not in (None, (), {}):
                    self.dropped(knob, why)
        return allowed

    def clamp(self, knob: str, value: float, most: float) -> float:
        """``value``, or ``most`` with a warning if it is above."""
        if value <= most:
            return value
        self.adjusted(knob, most, f"its range ends at {most}")
        return most

    def seal(self) -> tuple[CallWarning, ...]:
        return tuple(self._warnings)


def takes(encode: Callable[[FilePart], object], part: FilePart) -> bool:
    """Whether ``encode`` has a place for a file, tried with a few bytes in place of its own.

    A text is tried as it is: one that a model made need not be UTF-8, and not every dialect has a place for that.
    """
    as_it_is = part.data is None or part.kind == "text"
    sketch = part if as_it_is else part.model_copy(update={"data": placeholder(part.media_type)})
    try:
        encode(sketch)
    except UnsupportedError:
        return False
    return True


def wire(
    path: str, body: JsonObject, config: AIModelCallConfig, warnings: KnobWarnings, headers: Mapping[str, str]
) -> WireRequest:
    """The finished request: ``extra_body`` merged over ``body`` (objects member by member), as JSON bytes."""
    if config.extra_body:
        merge(body, config.extra_body)
    try:
        encoded = bytes(memoryview(orjson.dumps(body)))  # a copy: its own holds 4 KiB at least, as long as the call
    except orjson.JSONEncodeError as exc:  # half of a surrogate pair, as cutting a JavaScript string leaves it
        raise ConfigurationError(f"the request cannot be written as JSON: {exc}") from exc
    return WireRequest(path=path, headers=headers, body=encoded, warnings=warnings.seal())


def merge(target: JsonObject, extra: Mapping[str, object]) -> None:
    """Lay ``extra`` over ``target``, object by object."""
    for key, value in extra.items():
        present = target.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            merge(cast(JsonObject, present), cast(Mapping[str, object], value))
        else:
            target[key] = value


# ---------------------------------------------------------------------------------------------------- reading errors

_CONTEXT_CODES = frozenset({"context_length_exceeded", "model_context_window_exceeded", "request_too_large"})
# What a failure inside an answer means, where nothing is a status: the words of OpenAI and of compatible hosts.
_WORDS_BY_STATUS: Mapping[int, str] = {
    400: "invalid_request_error bad_request context_length_exceeded invalid_prompt",
    401: "authentication_error invalid_authentication_error invalid_api_key unauthorized",
    403: "permission_error permission_denied permission_denied_error forbidden",
    404: "not_found_error not_found model_not_found",
    429: (
        "rate_limit_exceeded rate_limit_error rate_limit_reached_error too_many_requests requests tokens "
        "insufficient_quota exceeded_current_quota_error quota_exceeded resource_exhausted usage_limit_reached"
    ),
    500: "server_error internal_server_error internal_error api_error vector_store_timeout",
    503: (
        "overloaded overloaded_error engine_overloaded engine_overloaded_error server_is_overloaded slow_down "
        "service_unavailable service_unavailable_error unavailable"
    ),
    504: "timeout timeout_error request_timeout gateway_timeout",
}
_STATUS_BY_WORD = {word: status for status, words in _WORDS_BY_STATUS.items() for word in words.split()}


def api_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str,
    message: str,
    code: str | None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> APIError:
    """The error class for ``status`` and ``code``, with everything a caller may want to act on.

    The provider's own verdict (``x-should-retry``) wins over ours on whether another try makes sense.
    """
    kind = _error_class(status, code)
    text = message or _plain_text(body) or "no message"
    verdict = {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    if verdict is None and code == "insufficient_quota":
        verdict = False
    if verdict is None and status in (408, 409):
        verdict = True
    return kind(
        f"{provider} answered {status}{f' ({code})' if code else ''}: {text}",
        provider=provider,
        status=status,
        code=code,
        request_id=request_id or _first(headers, "x-request-id", "request-id", "apim-request-id"),
        retry_after=retry_after if retry_after is not None else retry_after_seconds(headers),
        body=body[:KEPT_BODY_BYTES].decode(errors="replace"),
        retryable=verdict,
    )


_CLASSES_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}


def _error_class(status: int, code: str | None) -> type[APIError]:
    if code in _CONTEXT_CODES:
        return ContextLengthError
    if code == "model_not_found":
        return NotFoundError
    found = _CLASSES_BY_STATUS.get(status)
    if found is not None:
        return found
    if status >= 500:
        return ServerError
    return InvalidRequestError if status >= 400 else APIError


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds the host asks us to wait: ``retry-after-ms``, then ``retry-after`` as seconds or date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    return _seconds_until(headers.get("retry-after"), headers.get("date"))


def _seconds_until(date: str | None, now: str | None) -> float | None:
    """From the response's own clock, so that a wrong clock of ours does not matter."""
    from email.utils import parsedate_to_datetime

    if not date or not now:
        return None
    try:
        return max(0.0, (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds())
    except (TypeError, ValueError):
        return None


def told_number(error: JsonObject) -> int | None:
    """A number that an error object has for a code or a status, of HTTP or of the host's own; None if it has none."""
    return next((number for name in ("status_code", "code", "status") if (number := _number(error.get(name)))), None)


def told_status(error: JsonObject) -> int | None:
    """The HTTP status that an error object stands for, by its number, its code or its type; None if it tells none."""
    number = told_number(error)
    if number is not None and 400 <= number < 600:
        return number
    words = (as_text(error.get(name)).lower() for name in ("code", "type", "status"))
    return next((_STATUS_BY_WORD[word] for word in words if word in _STATUS_BY_WORD), None)


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII) else as_count(value)


def error_object(body: bytes) -> JsonObject:
    """An error body's JSON object, or the only element of an array of one; empty if it is neither."""
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(value, list):
        items = cast(list[object], value)
        value = items[0] if items else None
    return as_object(value)


def _plain_text(body: bytes) -> str:
    return body[:QUOTED_BYTES].decode(errors="replace").strip()


def _first(headers: Mapping[str, str], *names: str) -> str | None:
    return next((headers[name] for name in names if headers.get(name)), None)
