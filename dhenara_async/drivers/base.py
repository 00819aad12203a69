"""The contract of a wire dialect, and helpers that every dialect uses to read JSON and to build requests.

A decoder reads streamed and plain answers alike: a plain body is fed as one frame, and folds to the same response as
its stream would.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Protocol, TypeGuard, cast

import orjson

from dhenara_async.config import AIModelCallConfig
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import APIError, ConfigurationError, ProtocolError, UnsupportedError, printable
from dhenara_async.events import StreamEnd, StreamEvent
from dhenara_async.framing import Frame
from dhenara_async.framing.lenient_json import exact, read, writable
from dhenara_async.messages.media import placeholder
from dhenara_async.messages.messages import FilePart, Origin
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import CallWarning, Usage

JsonObject = dict[str, object]

QUOTED_BYTES = 200
REQUEST_ID_HEADERS: tuple[str, ...] = ("x-request-id", "request-id", "apim-request-id")
"""The headers that most providers and gateways use for their id of a request, best first."""
_DIGITS = re.compile(r"\d{1,18}", re.ASCII)


class Decoder(Protocol):
    """Turns the frames of one answer into events. Holds the state of that answer only."""

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        """Return the events that ``frame`` completes, possibly none.

        Raises:
            APIError: The provider reports a failure inside the answer.
            ProtocolError: The dialect does not allow this frame.
        """
        ...

    def finish(self) -> Sequence[StreamEvent]:
        """Return the last events, at the end of the body.

        Raises:
            TruncatedStreamError: The body ended without a terminal event.
        """
        ...

    @property
    def usage(self) -> Usage | None:
        """The newest token counts, including counts that no event has carried yet; None = none reported."""
        ...


FeedAll = Callable[[Iterator[Frame], list[StreamEvent]], None]
"""Decodes frames up to the end of the answer, and appends their events to the list; raises as ``Decoder.feed`` does.

The frame that it refuses is the last one that it has taken from the iterator.
"""


def feed_all_of(decoder: Decoder) -> FeedAll:
    """Return the function that decodes many frames: the decoder's own ``feed_all``, or a loop over its ``feed``.

    A decoder may have a ``feed_all`` for speed: a network read often has many frames, and a call for each of them costs
    as much as the rest of decoding a usual one, its JSON aside.
    """
    own: FeedAll | None = getattr(decoder, "feed_all", None)
    return partial(_feed_each, decoder) if own is None else own


def _feed_each(decoder: Decoder, frames: Iterator[Frame], events: list[StreamEvent]) -> None:
    for frame in frames:
        events += decoder.feed(frame)
        if events and events[-1].__class__ is StreamEnd:
            return


class BatchDecoder:
    """Base of a decoder that decodes many frames at once; it feeds one frame as a batch of one.

    Each decoder has its own loop in ``feed_all``, with the check for a usual frame inline, since a call for each frame
    would slow every token down.
    """

    __slots__ = ()

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        """See ``Decoder.feed``."""
        events: list[StreamEvent] = []
        self.feed_all(iter((frame,)), events)
        return events

    def feed_all(self, frames: Iterator[Frame], events: list[StreamEvent]) -> None:
        """See ``FeedAll``."""
        raise NotImplementedError


class Driver(Protocol):
    """One wire dialect.

    A dialect whose hosts use other headers than ``REQUEST_ID_HEADERS`` for their id of a request also has the attribute
    ``request_id_headers``: their names in lower case, best first.
    """

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        """Translate the request into the dialect's path, headers and JSON body.

        Raises:
            UnsupportedError: The dialect has no representation for a content part.
        """
        ...

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        """Return a decoder for the answer to ``request``; it marks every part with ``origin``."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        """Return the typed error for an HTTP error response; ``headers`` have lower-case names."""
        ...

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        """Return the rules for a history sent to ``endpoint``. ``encode`` accepts every history that obeys them."""
        ...


def request_id_of(headers: Mapping[str, str], names: Sequence[str] = REQUEST_ID_HEADERS) -> str | None:
    """Return the provider's id of a request, from the first of the headers ``names`` that has a value."""
    for name in names:
        value = headers.get(name)
        if value:
            return value
    return None


def request_id_headers(driver: Driver) -> Sequence[str]:
    """Return the headers in which the hosts of a dialect send their id of a request, best first."""
    names: Sequence[str] = getattr(driver, "request_id_headers", REQUEST_ID_HEADERS)
    return names


# ---------------------------------------------------------------------------------------------------- reading JSON


def load(data: bytes) -> JsonObject:
    """Parse a frame's payload as a JSON object.

    Raises:
        ProtocolError: The payload is not a JSON object; the message quotes its start.
    """
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        if data.__class__ is not bytes:  # a NamedFrame: orjson accepts no subclass of bytes
            return load(bytes(data))
        raise not_json(data) from exc
    if is_object(value):
        return as_object(exact(value, data))
    raise not_an_object(data)


def not_an_object(data: bytes) -> ProtocolError:
    """Return the error for a payload that is valid JSON, but not an object."""
    return ProtocolError(f"the provider sent JSON that is not an object: {quote(data)}")


def not_json(data: bytes) -> ProtocolError:
    """Return the error for a payload that is not JSON."""
    return ProtocolError(f"the provider sent a body that is not JSON: {quote(data)}")


def quote(data: bytes) -> str:
    """Quote the start of a body for an error message."""
    if not data.strip():
        return "an empty body"
    return repr(data[:QUOTED_BYTES].decode(errors="replace"))


def is_object(value: object) -> TypeGuard[JsonObject]:
    """Whether ``value`` is a JSON object."""
    return isinstance(value, dict)


def as_object(value: object) -> JsonObject:
    """Return ``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] - JSON has such keys


def as_list(value: object) -> list[object]:
    """Return ``value`` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType] - of anything


def as_text(value: object) -> str:
    """Return ``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def only_one(value: object) -> JsonObject:
    """Return the object of a JSON array with one element; an empty object for any other value."""
    items = as_list(value)
    return as_object(items[0]) if len(items) == 1 else {}


def has_more(value: JsonObject, than: AbstractSet[str]) -> bool:
    """Whether ``value`` has a field outside ``than`` that is not null, empty or zero."""
    for name, item in value.items():  # noqa: SIM110 - half of what a generator costs
        if item and name not in than:
            return True
    return False


def as_count(value: object) -> int | None:
    """Return a token count, given as a number or as a string of digits; None if it is invalid or negative."""
    if type(value) is int:
        return value if value >= 0 else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value) if value >= 0 else None
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return None


def arguments_text(value: object) -> str:
    """Return a tool call's arguments as JSON text. Hosts send either the text or the object."""
    if isinstance(value, str):
        return value
    return "" if value is None else dumped(value)


def dumped(value: object) -> str:
    """Serialize a JSON value, also one that is nested deeper than orjson can write.

    Raises:
        ProtocolError: The value is nested too deeply for Python's ``json`` as well.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as exc:
        raise ProtocolError("the provider sent JSON that is nested too deeply to be serialized") from exc


def arguments_object(value: object) -> object:
    """Return a tool call's arguments as a JSON value. Hosts send either the value or an object as JSON text.

    Text that does not hold a JSON object is returned unchanged.
    """
    if not isinstance(value, str):
        return value
    try:
        parsed = read(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, dict) else value  # pyright: ignore[reportUnknownVariableType] - of anything


# ---------------------------------------------------------------------------------------------------- writing requests


class KnobWarnings:
    """Collects warnings about settings that the target cannot take as given."""

    __slots__ = ("_model", "_warnings")

    def __init__(self, model: str) -> None:
        self._model = printable(model)
        self._warnings: list[CallWarning] = []

    def dropped(self, knob: str, why: str) -> None:
        """Warn that ``knob`` is left out of the request."""
        message = f"{knob} was not sent to {self._model}: {why}"
        self._warnings.append(CallWarning(code="param_dropped", knob=knob, message=message))

    def adjusted(self, knob: str, value: object, why: str) -> None:
        """Warn that ``knob`` is sent as ``value``."""
        message = f"{knob} was sent to {self._model} as {value}: {why}"
        self._warnings.append(CallWarning(code="param_adjusted", knob=knob, message=message))

    def drop_unless(self, allowed: bool, config: AIModelCallConfig, knobs: Sequence[str], why: str) -> bool:
        """Warn of each set knob among ``knobs`` unless ``allowed``; returns ``allowed``."""
        if not allowed:
            for knob in knobs:
                if getattr(config, knob) not in (None, (), {}):
                    self.dropped(knob, why)
        return allowed

    def clamp(self, knob: str, value: float, most: float) -> float:
        """Return ``value``, limited to ``most`` with a warning."""
        if value <= most:
            return value
        self.adjusted(knob, most, f"the maximum is {most}")
        return most

    def seal(self) -> tuple[CallWarning, ...]:
        return tuple(self._warnings)


def takes(encode: Callable[[FilePart], object], part: FilePart) -> bool:
    """Whether ``encode`` accepts a file, tried with a few placeholder bytes in place of its data.

    A text file is tried with its own data: it need not be UTF-8, and some dialects only take UTF-8.
    """
    as_it_is = part.data is None or part.kind == "text"
    sketch = part if as_it_is else part.changed(data=placeholder(part.media_type))
    try:
        encode(sketch)
    except UnsupportedError:
        return False
    return True


def wire(
    path: str, body: JsonObject, config: AIModelCallConfig, warnings: KnobWarnings, headers: Mapping[str, str]
) -> WireRequest:
    """Build the finished request: ``extra_body`` merged over ``body`` (objects member by member), as JSON bytes."""
    if config.extra_body:
        merge(body, config.extra_body)
    try:
        encoded, replaced = orjson.dumps(body), False
    except orjson.JSONEncodeError:
        encoded, replaced = _written(body)
    encoded = bytes(
        memoryview(encoded)
    )  # a copy: orjson's own buffer keeps at least 4 KiB for as long as the call lives
    return WireRequest(path=path, headers=headers, body=encoded, warnings=warnings.seal(), replaced=replaced)


def _written(body: JsonObject) -> tuple[bytes, bool]:
    """Serialize a body that orjson refuses. Returns the JSON, and whether unpaired surrogates were replaced in it.
    Integers beyond 64 bits are kept."""
    try:
        return orjson.dumps(writable(body, str)), False
    except TypeError:
        pass
    try:
        return orjson.dumps(writable(body)), True
    except TypeError as exc:
        raise ConfigurationError(f"the request cannot be serialized as JSON: {exc}") from exc


def merge(target: JsonObject, extra: Mapping[str, object]) -> None:
    """Merge ``extra`` into ``target``, object by object."""
    for key, value in extra.items():
        present = target.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            merge(cast(JsonObject, present), cast(Mapping[str, object], value))
        else:
            target[key] = value
