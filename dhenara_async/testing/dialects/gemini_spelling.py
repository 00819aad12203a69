"""Requests in the spelling that the checks of Gemini's dialect know.

Protobuf JSON takes a field by its camelCase name and by its name in the ``.proto`` file, and one value where a list is
wanted; the vendor's own SDK mixes the spellings, and its documentation leaves lists and roles out.

Follows: https://protobuf.dev/programming-guides/json/ and the google-genai SDK 3.6 (read 2026-11-28).
"""

import re
from collections.abc import Mapping

from dhenara_async.testing.dialects.base import Kind, as_array, as_object, kind_of

_SEPARATED = re.compile(r"_([a-z0-9])")
# Structs and maps: their members are the application's.
_STRUCTS = frozenset(("args", "response", "parametersJsonSchema", "responseJsonSchema", "partMetadata", "labels"))
_VALUES = frozenset(("default", "example", "headers", "responseFormat"))
_MAPS = frozenset(("properties", "defs", "$defs"))  # of a schema: their keys are, their values are schemas
_REPEATED = frozenset(("contents", "parts", "tools", "functionDeclarations", "safetySettings"))


def in_camel_case(body: Mapping[str, object]) -> dict[str, object]:
    """A request's body in camelCase, with its lists as lists and a role for every content."""
    spelled = _message(body)
    contents = as_array(spelled.get("contents"))
    for content in map(as_object, contents):
        if not content.get("role"):
            content["role"] = "user"
    return spelled


def _message(value: Mapping[str, object]) -> dict[str, object]:
    spelled: dict[str, object] = {}
    for told, item in value.items():
        name = _SEPARATED.sub(lambda found: found[1].upper(), told)
        if name in spelled or (name != told and name in value):
            spelled[told] = item  # said twice: the second name is refused as unknown
        else:
            spelled[name] = _field(name, item)
    return spelled


def _field(name: str, item: object) -> object:
    if name in _STRUCTS or name in _VALUES:
        return item
    kind = kind_of(item)
    if name in _MAPS and kind is Kind.OBJECT:
        return {key: _value(member) for key, member in as_object(item).items()}
    return [_value(item)] if name in _REPEATED and kind is Kind.OBJECT else _value(item)


def _value(item: object) -> object:
    match kind_of(item):
        case Kind.OBJECT:
            return _message(as_object(item))
        case Kind.ARRAY:
            return [_value(member) for member in as_array(item)]
        case _:
            return item
