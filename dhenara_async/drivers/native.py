"""What of a provider's own blocks goes back to it: the shapes that may, and whether they say what their part says.

A stored node is data that others may have written. So a native block is sent only if its type is on its dialect's list,
with no other keys than the list has for it; and what a model would read in it has to be what the part's own fields
show, so that nobody reads one thing while the model reads another.

A dialect's lists are data in its ``…_native.py``: shapes made of the kinds of values below.
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


class Kind(Enum):
    """What a value in a native block may be; null is taken for any of them."""

    WORD = "word"
    """An id, a status, a name: one piece of at most 512 printable ASCII characters, with no room for a sentence."""
    SEAL = "seal"
    """Text that only the provider can read: a signature, encrypted content."""
    SHOWN = "shown"
    """Text that the part shows as well. Shapes do not check that; the dialect compares it with the part."""
    NUMBER = "number"
    FLAG = "flag"
    JSON = "json"
    """Any value, which the part shows as well."""
    NOTHING = "null"
    LEFT = "left"
    """Something that answers hold and requests do not: it is left out, and that is no loss."""


@dataclass(frozen=True, slots=True)
class Each:
    """A list of values of one shape."""

    shape: "Shape"


class ByType:
    """An object that says by its ``type`` which of several shapes it has.

    Args:
        shapes: The shapes by type; ``type`` itself is in none of them.
    """

    __slots__ = ("shapes",)

    def __init__(self, shapes: "Mapping[str, Mapping[str, Shape]]") -> None:
        self.shapes: Mapping[str, Mapping[str, Shape]] = {
            name: {"type": Kind.WORD, **shape} for name, shape in shapes.items()
        }


@dataclass(frozen=True, slots=True)
class Either:
    """A value of the first of several shapes that fits it."""

    shapes: "Sequence[Shape]"


Shape = Kind | Each | ByType | Either | Mapping[str, "Shape"]

_LONGEST_WORD = 512
_LONGEST_KEY = 40
_MOST_NAMED = 8

# The keys to a value, the last one first: written out only where there is something to say of it.
_Way = tuple[object, ...]


class _MisfitError(Exception):
    """A value has another shape; the message says where."""

    def __init__(self, at: "_Way", what: str) -> None:
        super().__init__(f"{_told(at) or 'the block'} {what}")


def cut(state: ProviderState, shape: Shape) -> Vetted:
    """``state`` without the keys that ``shape`` does not have; nothing of it where a value has another shape."""
    unknown: list[_Way] = []
    try:
        kept = _fitted(state, shape, (), unknown)
    except _MisfitError as exc:
        return Vetted(None, "not_allowed", f"this API takes back no such block: {exc}")
    left = cast("ProviderState", kept) or None
    if unknown:
        names = sorted(set(map(_told, unknown)))[:_MOST_NAMED]
        return Vetted(left, "not_allowed", f"keys that this API does not take back: {', '.join(names)}")
    return Vetted(left)


def repeats(state: Mapping[str, object], shown: Mapping[str, object]) -> Vetted | None:
    """``altered`` where a state says anything else than the part ``shown``, by key; None where it does not."""
    wrong = next((key for key, value in shown.items() if key in state and not shows(value, state[key])), None)
    return None if wrong is None else altered(wrong)


def refused(why: str) -> Vetted:
    """Nothing of a state may be sent, because this API takes no such block back."""
    return Vetted(None, "not_allowed", why)


def altered(what: str) -> Vetted:
    """Nothing of a state may be sent, because ``what`` in it is not what the part shows."""
    return Vetted(None, "altered", f"{what} of the provider's own block is not what the part shows")


def says(text: str, words: str) -> bool:
    """Whether ``words`` are in ``text``, white space apart, which joining pieces may add."""
    return not words or words == text or "".join(words.split()) in "".join(text.split())


def shows(shown: object, native: object) -> bool:
    """Whether a part's field ``shown`` is what its block has under ``native``, the block being within bounds.

    What is encrypted is not compared, because no field shows it, and JSON may be there as its text.
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
    """``value`` as far as ``shape`` has it, the very one if that is all; keys it has not are added to ``unknown``.

    Raises:
        _MisfitError: It has another shape.
    """
    if value is None:
        return None
    if shape.__class__ is Kind:
        if not _CHECKS[cast("Kind", shape)](value):
            raise _MisfitError(at, f"is no {cast('Kind', shape).value}")
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
        if wanted is None or wanted is Kind.LEFT:
            whole = False
            if wanted is None:
                unknown.append((at, key))
            continue
        new = kept[key] = _fitted(item, wanted, (at, key), unknown)
        whole = whole and new is item
    return value if whole else kept


def _told(at: _Way) -> str:
    """The way to a value in words; keys are data too, so they are cut."""
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


_CHECKS: Mapping[Kind, Callable[[object], bool]] = {
    Kind.WORD: _is_word,
    Kind.SEAL: _is_text,
    Kind.SHOWN: _is_text,
    Kind.NUMBER: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    Kind.FLAG: lambda value: isinstance(value, bool),
    Kind.JSON: lambda _value: True,
    Kind.LEFT: lambda _value: True,
    Kind.NOTHING: lambda _value: False,
}
