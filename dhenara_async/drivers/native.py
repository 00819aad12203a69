"""What of a provider's own blocks goes back to it: the shapes that may, and whether they say what their part says.

A stored node is data that others may have written. So a native block is sent only if its type is on its dialect's list,
with no other keys than the list has for it; and what a model would read in it has to be what the part's own fields
show, so that nobody reads one thing while the model reads another.

A dialect's lists are data in its ``…_native.py``: shapes made of the kinds of values below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import cast

import orjson

from dhenara_async.drivers.base import JsonObject, is_object
from dhenara_async.messages import ProviderState
from dhenara_async.rules import Vetted, within_bounds


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


@dataclass(frozen=True, slots=True)
class ByType:
    """An object that says by its ``type`` which of several shapes it has; ``type`` itself is in none of them."""

    shapes: "Mapping[str, Mapping[str, Shape]]"


@dataclass(frozen=True, slots=True)
class Either:
    """A value of the first of several shapes that fits it."""

    shapes: "Sequence[Shape]"


Shape = Kind | Each | ByType | Either | Mapping[str, "Shape"]

_LONGEST_WORD = 512


class _MisfitError(Exception):
    """A value has another shape; the message says where."""


def cut(state: ProviderState, shape: Shape) -> Vetted:
    """``state`` without the keys that ``shape`` does not have; nothing of it where a value has another shape."""
    unknown: list[str] = []
    try:
        kept = _fitted(state, shape, "", unknown)
    except _MisfitError as exc:
        return Vetted(None, "not_allowed", f"this API takes back no such block: {exc}")
    left = cast("ProviderState", kept) or None
    if unknown:
        return Vetted(left, "not_allowed", f"keys that this API does not take back: {', '.join(sorted(unknown)[:8])}")
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


def same_words(one: str, other: str) -> bool:
    """Whether two texts differ in white space alone, which joining pieces may add."""
    return one == other or one.split() == other.split() or "".join(one.split()) == "".join(other.split())


def begins_with(text: str, words: str) -> bool:
    """Whether ``text`` begins with ``words``, white space apart."""
    return "".join(text.split()).startswith("".join(words.split()))


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


def _fitted(value: object, shape: Shape, at: str, unknown: list[str]) -> object:
    """``value`` as far as ``shape`` has it, the very one if that is all; keys it has not are added to ``unknown``.

    Raises:
        _MisfitError: It has another shape.
    """
    if value is None:
        return None
    match shape:
        case Kind():
            if not _is(value, shape):
                raise _MisfitError(f"{at or 'the block'} is no {shape.value}")
            return value
        case Each():
            return _fitted_list(value, shape, at, unknown)
        case ByType():
            return _fitted_by_type(value, shape, at, unknown)
        case Either():
            return _fitted_either(value, shape, at, unknown)
        case _:
            return _fitted_object(value, shape, at, unknown)


def _fitted_list(value: object, shape: Each, at: str, unknown: list[str]) -> object:
    if not isinstance(value, list):
        raise _MisfitError(f"{at} is no list")
    items = cast("list[object]", value)
    kept = [_fitted(item, shape.shape, f"{at}[]", unknown) for item in items]
    return items if all(new is old for new, old in zip(kept, items, strict=True)) else kept


def _fitted_by_type(value: object, shape: ByType, at: str, unknown: list[str]) -> object:
    kind = value.get("type") if is_object(value) else None
    of_type = shape.shapes.get(kind) if isinstance(kind, str) else None
    if of_type is None:
        raise _MisfitError(f"the type of {at or 'the block'} is not on the list")
    return _fitted_object(value, {"type": Kind.WORD, **of_type}, at, unknown)


def _fitted_either(value: object, shape: Either, at: str, unknown: list[str]) -> object:
    for one in shape.shapes:
        seen: list[str] = []
        try:
            kept = _fitted(value, one, at, seen)
        except _MisfitError:
            continue
        unknown += seen
        return kept
    raise _MisfitError(f"{at} has none of the shapes on the list")


def _fitted_object(value: object, shape: Mapping[str, Shape], at: str, unknown: list[str]) -> object:
    if not is_object(value):
        raise _MisfitError(f"{at or 'the block'} is no object")
    kept: JsonObject = {}
    whole = True
    for key, item in value.items():
        wanted = shape.get(key)
        if wanted is None or wanted is Kind.LEFT:
            whole = False
            if wanted is None:
                unknown.append(_named(at, key))
            continue
        new = kept[key] = _fitted(item, wanted, _named(at, key), unknown)
        whole = whole and new is item
    return value if whole else kept


def _named(at: str, key: str) -> str:
    """A key with the way to it, for a message; a key is data too, so it is cut."""
    word = key if _is_word(key) and len(key) <= 40 else f"{key[:40]!r}…"
    return f"{at}.{word}" if at else word


def _is(value: object, kind: Kind) -> bool:
    match kind:
        case Kind.WORD:
            return isinstance(value, str) and _is_word(value)
        case Kind.SEAL | Kind.SHOWN:
            return isinstance(value, str)
        case Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Kind.FLAG:
            return isinstance(value, bool)
        case Kind.JSON | Kind.LEFT:
            return True
        case Kind.NOTHING:
            return False


def _is_word(text: str) -> bool:
    return len(text) <= _LONGEST_WORD and text.isascii() and text.isprintable() and " " not in text
