"""Requests as bytes, cut without being written anew: what a cache or a seal is about is how they are spelled."""

import re
from collections.abc import Iterator
from json import JSONDecoder
from typing import cast

_DECODER = JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_KEYS = ("messages", "input", "contents")


def turns(body: bytes) -> list[bytes]:
    """The messages, items or contents of a request in any dialect, each spelled as it is there.

    Args:
        body: The request's bytes.

    Raises:
        ValueError: There are none.
    """
    text = body.decode()
    for key, begin, _end in _members(text):
        if key in _KEYS:
            return [text[start:end].encode() for start, end in _items(text, begin)]
    raise ValueError("the body has no conversation")


def objects(raw: list[bytes]) -> list[dict[str, object]]:
    """The same, read."""
    return [cast("dict[str, object]", _DECODER.decode(item.decode())) for item in raw]


def leaves(value: object, under: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a JSON document that is neither object nor array, each with the key that it stands under."""
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield from leaves(item, key)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from leaves(item, under)
    else:
        yield under, value


def keys(value: object) -> Iterator[str]:
    """Every key of a JSON document, at any depth."""
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield key
            yield from keys(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from keys(item)


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """The members of the object that a text is: key, and where its value begins and ends."""
    at = _after_space(text, 1)
    while text[at] != "}":
        key, at = cast("tuple[str, int]", _DECODER.raw_decode(text, at))
        begin = _after_space(text, _after_space(text, at) + 1)  # the colon
        end = _DECODER.raw_decode(text, begin)[1]
        yield key, begin, end
        at = _after_comma(text, end)


def _items(text: str, begin: int) -> Iterator[tuple[int, int]]:
    """Where the items of the array that begins there begin and end."""
    at = _after_space(text, begin + 1)
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        yield at, end
        at = _after_comma(text, end)


def _after_comma(text: str, at: int) -> int:
    at = _after_space(text, at)
    return _after_space(text, at + 1) if text[at] == "," else at


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
