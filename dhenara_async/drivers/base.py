"""The contract of a dialect, and what every dialect needs to read JSON and to write a request.

One decoder serves both ways an answer can come: a plain body is fed as one frame and folds to the same response as
its stream would.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeGuard, cast

import orjson

from dhenara_async.config import AIModelCallConfig
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import APIError, ConfigurationError, ProtocolError, UnsupportedError, printable
from dhenara_async.events import StreamEvent
from dhenara_async.framing import Frame
from dhenara_async.framing.lenient_json import exact, read, writable
from dhenara_async.messages.media import placeholder
from dhenara_async.messages.messages import FilePart, Origin
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import CallWarning, Usage

JsonObject = dict[str, object]

QUOTED_BYTES = 200
_DIGITS = re.compile(r"\d{1,18}", re.ASCII)


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
        return as_object(exact(value, data))
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
    """``value`` as a whole number of tokens, also from its digits as a string; None if it is none, or negative."""
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
    """A tool call's arguments as JSON text; hosts send that text, or the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else dumped(value)


def dumped(value: object) -> str:
    """A JSON value as JSON text, however deep it is nested: orjson writes less deep than it reads.

    Raises:
        ProtocolError: It is nested too deep even so.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as exc:
        raise ProtocolError("the provider sent JSON that is nested too deep to be written again") from exc


def arguments_object(value: object) -> object:
    """A tool call's arguments as the JSON value they are; hosts send that value, or an object as JSON text.

    A text that holds no JSON object stays as it is.
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
    """Collects what becomes of knobs that a target cannot take as given."""

    __slots__ = ("_model", "_warnings")

    def __init__(self, model: str) -> None:
        self._model = printable(model)
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
    sketch = part if as_it_is else part.changed(data=placeholder(part.media_type))
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
        encoded, replaced = orjson.dumps(body), False
    except orjson.JSONEncodeError:
        encoded, replaced = _written(body)
    encoded = bytes(memoryview(encoded))  # a copy: its own holds 4 KiB at least, as long as the call
    return WireRequest(path=path, headers=headers, body=encoded, warnings=warnings.seal(), replaced=replaced)


def _written(body: JsonObject) -> tuple[bytes, bool]:
    """A body that orjson refuses, and whether halves of surrogate pairs had to be replaced in it: in JSON they cannot
    be, while integers beyond 64 bits can."""
    try:
        return orjson.dumps(writable(body, str)), False
    except TypeError:
        pass
    try:
        return orjson.dumps(writable(body)), True
    except TypeError as exc:
        raise ConfigurationError(f"the request cannot be written as JSON: {exc}") from exc


def merge(target: JsonObject, extra: Mapping[str, object]) -> None:
    """Lay ``extra`` over ``target``, object by object."""
    for key, value in extra.items():
        present = target.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            merge(cast(JsonObject, present), cast(Mapping[str, object], value))
        else:
            target[key] = value
