"""Checks the provider's own blocks before they are sent back: allowed shapes, and agreement with the visible part.

A stored node is untrusted data. A native block is sent only if its type is on the dialect's allow-list, and only with
the keys that the list has for that type. Text in it that a model would read must equal the part's own fields, so that
people and the model read the same words.

Each dialect's allow-list is data in its ``native.py``: shapes made of the kinds of values below.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import is_not
from typing import cast

import orjson

from dhenara_async.drivers.base import JsonObject, is_object
from dhenara_async.drivers.rules import Vetted, within_bounds
from dhenara_async.messages.messages import ProviderState


class ValueKind(Enum):
    """Kinds of values in a native block. Null is accepted for each."""

    WORD = "word"
    """An id, a status, a name: at most 512 printable ASCII characters without spaces, so no room for a sentence."""
    SEAL = "seal"
    """Text that only the provider can read: a signature, encrypted content."""
    SHOWN = "shown"
    """Text that the part shows as well. Shapes do not check that; the dialect compares it with the part."""
    NUMBER = "number"
    FLAG = "flag"
    JSON = "json"
    """Any JSON value, which the part shows as well."""
    NOTHING = "null"
    LEFT = "left"
    """A field of answers that requests do not have: it is left out without loss."""


@dataclass(frozen=True, slots=True)
class Each:
    """A list of values of one shape."""

    shape: "Shape"


class ByType:
    """An object whose ``type`` selects one of several shapes.

    Args:
        shapes: The shapes by type, without ``type`` itself.
    """

    __slots__ = ("shapes",)

    def __init__(self, shapes: "Mapping[str, Mapping[str, Shape]]") -> None:
        self.shapes: Mapping[str, Mapping[str, Shape]] = {
            name: {"type": ValueKind.WORD, **shape} for name, shape in shapes.items()
        }


@dataclass(frozen=True, slots=True)
class Either:
    """A value that fits at least one of several shapes; the first fit counts."""

    shapes: "Sequence[Shape]"


Shape = ValueKind | Each | ByType | Either | Mapping[str, "Shape"]

_LONGEST_WORD = 512
_LONGEST_KEY = 40
_MOST_NAMED = 8

# The path to a value as linked keys, innermost first. It is turned into text only for a message.
_Way = tuple[object, ...]


class _MisfitError(Exception):
    """A value does not fit its shape; the message says where."""

    def __init__(self, at: "_Way", what: str) -> None:
        super().__init__(f"{_path(at) or 'the block'} {what}")


def cut(state: ProviderState, shape: Shape) -> Vetted:
    """Return ``state`` without the keys that ``shape`` lacks; nothing at all if a value does not fit."""
    unknown: list[_Way] = []
    try:
        kept = _fitted(state, shape, (), unknown)
    except _MisfitError as exc:
        return Vetted(None, "not_allowed", f"this API does not accept this block in a request: {exc}")
    left = cast("ProviderState", kept) or None
    if unknown:
        names = sorted(set(map(_path, unknown)))[:_MOST_NAMED]
        return Vetted(left, "not_allowed", f"keys that this API does not accept in a request: {', '.join(names)}")
    return Vetted(left)


def repeats(state: Mapping[str, object], shown: Mapping[str, object]) -> Vetted | None:
    """Return ``altered`` if a key of the state differs from the part's fields ``shown``; None if all agree."""
    wrong = next((key for key, value in shown.items() if key in state and not shows(value, state[key])), None)
    return None if wrong is None else altered(wrong)


def refused(why: str) -> Vetted:
    """Refuse the whole state, because the API does not accept such a block in a request."""
    return Vetted(None, "not_allowed", why)


def altered(what: str) -> Vetted:
    """Refuse the whole state, because ``what`` in it differs from the part's own fields."""
    return Vetted(None, "altered", f"{what} of the provider's own block differs from the part")


def says(text: str, words: str) -> bool:
    """Whether ``text`` contains ``words``, ignoring white space, which joining pieces may add."""
    return not words or words == text or "".join(words.split()) in "".join(text.split())


def shows(shown: object, native: object) -> bool:
    """Whether a part's field ``shown`` equals the ``native`` field of its block.

    Encrypted fields are ignored, because no part shows them. JSON may be given as its text.
    """
    if shown == native:
        return True
    return within_bounds(shown) and _parsed(_readable(shown)) == _parsed(_readable(native))


def _readable(value: object) -> object:
    if is_object(value):
        return {key: _readable(item) for key, item in value.items() if not key.startswith("encrypted_")}
    if isinstance(value, list):
        return [_readable(item) for item in cast("list[object]", value)]
    return value


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _fitted(value: object, shape: Shape, at: _Way, unknown: list[_Way]) -> object:
    """Return ``value`` reduced to ``shape``, or ``value`` itself if nothing was removed; removed keys are added to
    ``unknown``.

    Raises:
        _MisfitError: The value does not fit the shape.
    """
    if value is None:
        return None
    if shape.__class__ is ValueKind:
        if not _CHECKS[cast("ValueKind", shape)](value):
            raise _MisfitError(at, f"is no {cast('ValueKind', shape).value}")
        return value
    match shape:
        case Each():
            return _fitted_list(value, shape, at, unknown)
        case ByType():
            return _fitted_by_type(value, shape, at, unknown)
        case Either():
            return _fitted_either(value, shape, at, unknown)
        case _:
            return _fitted_object(value, cast("Mapping[str, Shape]", shape), at, unknown)


def _fitted_list(value: object, shape: Each, at: _Way, unknown: list[_Way]) -> object:
    if not isinstance(value, list):
        raise _MisfitError(at, "is no list")
    items, inside = cast("list[object]", value), (at, "[]")
    kept = [_fitted(item, shape.shape, inside, unknown) for item in items]
    return kept if any(map(is_not, kept, items)) else items


def _fitted_by_type(value: object, shape: ByType, at: _Way, unknown: list[_Way]) -> object:
    kind = value.get("type") if is_object(value) else None
    of_type = shape.shapes.get(kind) if isinstance(kind, str) else None
    if of_type is None:
        raise _MisfitError(at, "has a type that is not on the list")
    return _fitted_object(value, of_type, at, unknown)


def _fitted_either(value: object, shape: Either, at: _Way, unknown: list[_Way]) -> object:
    for one in shape.shapes:
        seen: list[_Way] = []
        try:
            kept = _fitted(value, one, at, seen)
        except _MisfitError:
            continue
        unknown += seen
        return kept
    raise _MisfitError(at, "has none of the shapes on the list")


def _fitted_object(value: object, shape: Mapping[str, Shape], at: _Way, unknown: list[_Way]) -> object:
    if not is_object(value):
        raise _MisfitError(at, "is no object")
    kept: JsonObject = {}
    whole = True
    for key, item in value.items():
        wanted = shape.get(key)
        if wanted is None or wanted is ValueKind.LEFT:
            whole = False
            if wanted is None:
                unknown.append((at, key))
            continue
        new = kept[key] = _fitted(item, wanted, (at, key), unknown)
        whole = whole and new is item
    return value if whole else kept


def _path(at: _Way) -> str:
    """Return the path to a value as text. Keys are untrusted data too, so they are shortened."""
    words: list[str] = []
    while at:
        before, key = at
        at, word = cast("_Way", before), str(key)
        words.append(
            word if word == "[]" or (_is_word(word) and len(word) <= _LONGEST_KEY) else f"{word[:_LONGEST_KEY]!r}…"
        )
    return ".".join(reversed(words)).replace(".[]", "[]")


def _is_word(value: object) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST_WORD:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_CHECKS: Mapping[ValueKind, Callable[[object], bool]] = {
    ValueKind.WORD: _is_word,
    ValueKind.SEAL: _is_text,
    ValueKind.SHOWN: _is_text,
    ValueKind.NUMBER: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    ValueKind.FLAG: lambda value: isinstance(value, bool),
    ValueKind.JSON: lambda _value: True,
    ValueKind.LEFT: lambda _value: True,
    ValueKind.NOTHING: lambda _value: False,
}
