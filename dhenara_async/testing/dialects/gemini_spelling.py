"""Rewrites Gemini requests to the one spelling that the checks of the dialect read.

Protobuf JSON accepts a field by its camelCase name and by its name in the ``.proto`` file, and a single value for a
list; the vendor's SDK mixes the spellings, and its documentation omits lists and roles.

Follows: https://protobuf.dev/programming-guides/json/ and the google-genai SDK 3.6 (read 2026-11-28).
"""

import re
from collections.abc import Mapping

from dhenara_async.testing.dialects.base import JsonKind, as_array, as_object, kind_of

_SEPARATED = re.compile(r"_([a-z0-9])")
# Structs and maps: their keys belong to the application.
_STRUCTS = frozenset(("args", "response", "parametersJsonSchema", "responseJsonSchema", "partMetadata", "labels"))
_VALUES = frozenset(("default", "example", "headers", "responseFormat"))
_MAPS = frozenset(
    ("properties", "defs", "$defs")
)  # in a schema: the keys belong to the application, the values are schemas
_REPEATED = frozenset(("contents", "parts", "tools", "functionDeclarations", "safetySettings"))


def in_camel_case(body: Mapping[str, object]) -> dict[str, object]:
    """Return a request's body in camelCase, with lists for single values and a role for every content."""
    spelled = _message(body)
    contents = as_array(spelled.get("contents"))
    for content in map(as_object, contents):
        if not content.get("role"):
            content["role"] = "user"
    return spelled


def _message(value: Mapping[str, object]) -> dict[str, object]:
    spelled: dict[str, object] = {}
    for sent_name, item in value.items():
        name = _SEPARATED.sub(lambda match: match[1].upper(), sent_name)
        if name in spelled or (name != sent_name and name in value):
            spelled[sent_name] = item  # sent under both names: the second one is refused as unknown
        else:
            spelled[name] = _field(name, item)
    return spelled


def _field(name: str, item: object) -> object:
    if name in _STRUCTS or name in _VALUES:
        return item
    kind = kind_of(item)
    if name in _MAPS and kind is JsonKind.OBJECT:
        return {key: _value(member) for key, member in as_object(item).items()}
    return [_value(item)] if name in _REPEATED and kind is JsonKind.OBJECT else _value(item)


def _value(item: object) -> object:
    match kind_of(item):
        case JsonKind.OBJECT:
            return _message(as_object(item))
        case JsonKind.ARRAY:
            return [_value(member) for member in as_array(item)]
        case _:
            return item
