"""Normalizes Gemini's JSON to one spelling and one shape.

Protobuf JSON has two names for a field, ``finishReason`` and ``finish_reason``; gateways and proxies send either or
both. They also send one object or a bare string where Gemini has a list.

Source: https://protobuf.dev/programming-guides/json/ (read 2026-11-28)
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, cast

from dhenara_async.drivers.base import JsonObject, as_count, as_object, is_object

_PROTO_NAME: Final = re.compile(rb'_[a-z0-9]+"\s*:')
_SEPARATED: Final = re.compile(r"_+([a-z0-9])")
_ANSWERS: Final = frozenset(("candidates", "promptFeedback", "usageMetadata", "prompt_feedback", "usage_metadata"))
_OTHERS: Final = frozenset(("args", "response", "partMetadata", "parsed", "error", "errors"))
"""Fields whose members keep their names: arguments and results of functions, application data, errors."""
PART_DATA: Final = (
    *("functionCall", "functionResponse", "inlineData", "fileData"),
    *("executableCode", "codeExecutionResult", "toolCall", "toolResponse"),
)
_OF_A_PART: Final = frozenset(("text", "thought", "thoughtSignature", *PART_DATA))


def normalized(value: object, data: bytes) -> object:
    """Return a chunk, or a list of chunks, without its envelope and with its fields named in camelCase.

    Args:
        value: The value parsed from ``data``.
        data: The JSON text. It is searched for names in snake_case first, so that usual chunks are not traversed.
    """
    proto = _PROTO_NAME.search(data) is not None
    if isinstance(value, list):
        return [_normalized(item, proto=proto) for item in cast("list[object]", value)]
    return _normalized(value, proto=proto)


def _normalized(chunk: object, *, proto: bool) -> object:
    if is_object(chunk) and "response" in chunk and _ANSWERS.isdisjoint(chunk):  # Code Assist wraps its answers
        chunk = as_object(chunk["response"]) or chunk
    if not proto or not is_object(chunk) or _ANSWERS.isdisjoint(chunk):
        return chunk
    return _in_camel_case(chunk)


def _in_camel_case(value: object) -> object:
    if isinstance(value, list):
        return [_in_camel_case(item) for item in cast("list[object]", value)]
    if not is_object(value):
        return value
    renamed: JsonObject = {}
    for key, item in value.items():
        name = _SEPARATED.sub(_upper, key) if "_" in key else key
        if item is not None or name not in renamed:  # both spellings may be present, one of them null
            renamed[name] = item if name in _OTHERS else _in_camel_case(item)
    return renamed


def _upper(found: re.Match[str]) -> str:
    return found[1].upper()


def candidates_of(value: object) -> Sequence[object]:
    """Return the candidates of a chunk, or its single candidate without a list around it.

    Candidates that share an index, or have none, get the lowest free ones: they are different answers.
    """
    if is_object(value):
        return (value,)
    if not isinstance(value, list):
        return ()
    candidates = cast("list[object]", value)
    return candidates if len(candidates) < 2 else list(_numbered(candidates))


def _numbered(candidates: Sequence[object]) -> Iterator[object]:
    indexes = [as_count(candidate.get("index")) if is_object(candidate) else None for candidate in candidates]
    taken = set(indexes)
    free = (number for number in range(2 * len(candidates)) if number not in taken)
    seen: set[int] = set()
    for candidate, number in zip(candidates, indexes, strict=True):
        if not is_object(candidate):
            continue
        if number is None or number in seen:
            number = next(free)
        seen.add(number)
        yield candidate if candidate.get("index") == number else {**candidate, "index": number}


def parts_of(candidate: JsonObject) -> list[JsonObject]:
    """Return the parts of a candidate, with or without a list and a content around them."""
    content = candidate.get("content")
    return list(_parts(candidate if content is None else content))


def _parts(content: object) -> Iterator[JsonObject]:
    if isinstance(content, str):
        yield {"text": content}
    elif isinstance(content, list):
        for item in cast("list[object]", content):
            yield from _parts(item)
    elif is_object(content):
        if content.get("parts") is not None:
            yield from _parts(content["parts"])
        elif not _OF_A_PART.isdisjoint(content):
            yield {name: value for name, value in content.items() if name in _OF_A_PART}
