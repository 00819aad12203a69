"""Replaces lone surrogates, which no request can hold; file names and cut texts contain them.

They are detected when a request is encoded; only then is the history converted again with this module.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, cast

from dhenara_async.config import AIModelCallConfig
from dhenara_async.framing.lenient_json import well_formed
from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.messages import Message
from dhenara_async.response import CallWarning

REPLACED = "half of a surrogate pair is sent as U+FFFD"

_V = TypeVar("_V", bound=FrozenModel)
_KEPT = frozenset({"origin"})  # the origin is never sent


def without_halves(message: Message) -> tuple[Message, frozenset[int]]:
    """Return a message without lone surrogates, and the indexes of its changed parts."""
    parts = tuple(map(_mended_value, message.parts))
    changed = frozenset(at for at, part in enumerate(parts) if part is not message.parts[at])
    return (message.changed(parts=parts), changed) if changed else (message, changed)


def warnings_of_halves(instructions: Iterable[str], config: AIModelCallConfig) -> tuple[CallWarning, ...]:
    """Return a warning for each setting with lone surrogates; for ``summary`` if no setting has any."""
    given: dict[str, object] = {"instructions": tuple(instructions), **config.__dict__}
    if isinstance(config.structured_output, type):
        given["structured_output"] = config.structured_output.model_json_schema()
    found = [name for name, value in given.items() if _mended(value) is not value] or ["summary"]
    return tuple(
        CallWarning(code="param_adjusted", knob=name, message=f"{name}: {REPLACED}, because JSON cannot carry it")
        for name in found
    )


def _mended_value(value: _V) -> _V:
    changes = {
        name: mended
        for name, held in value.__dict__.items()
        if name not in _KEPT and (mended := _mended(held)) is not held
    }
    return value.changed(**changes) if changes else value


def _mended(value: object) -> object:
    """Return ``value`` without lone surrogates, or itself if it has none. Of keys that become equal, the last wins."""
    match value:
        case str():
            formed = well_formed(value)
            return value if formed == value else formed
        case FrozenModel():
            return _mended_value(value)
        case Mapping():
            given = cast("Mapping[object, object]", value)
            mended = {_mended(key): _mended(item) for key, item in given.items()}
            same = all(key in mended and mended[key] is item for key, item in given.items())
            return given if same else mended
        case list() | tuple():
            items = cast("Sequence[object]", value)
            new = [_mended(item) for item in items]
            same = all(made is item for made, item in zip(new, items, strict=True))
            return items if same else (new if isinstance(value, list) else tuple(new))
        case _:
            return value
