"""Reads JSON schemas as the providers do: finds the schemas inside a schema, and references without a target.

The names of properties and definitions, and the values in ``enum``, ``const``, ``default`` and ``examples``, are the
caller's own: they may look like keywords.
"""

from collections.abc import Iterator

from dhenara_async.testing.dialects.base import as_array, as_object

_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SINGLE = (
    *("items", "additionalItems", "unevaluatedItems", "contains", "contentSchema"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames", "not", "if", "then", "else"),
)


def subschemas(schema: object) -> Iterator[dict[str, object]]:
    """Yield a schema and every schema inside it; empty ones are left out."""
    here = as_object(schema)
    if not here:
        return
    yield here
    for word in _MAPS:
        for member in as_object(here.get(word)).values():
            yield from subschemas(member)
    for word in _LISTS:
        for item in as_array(here.get(word)):
            yield from subschemas(item)
    for word in _SINGLE:
        yield from subschemas(here.get(word))


def dangling_reference(schema: object) -> str | None:
    """Return the first reference of a schema without a target inside it; None if there is none."""
    pointers = (inner["$ref"] for inner in subschemas(schema) if isinstance(inner.get("$ref"), str))
    return next((pointer for pointer in map(str, pointers) if not _has_target(pointer, schema)), None)


def _has_target(pointer: str, schema: object) -> bool:
    if pointer == "#":
        return True
    if not pointer.startswith("#/"):
        return False
    target: object = schema
    for step in pointer.removeprefix("#/").split("/"):
        name, items = step.replace("~1", "/").replace("~0", "~"), as_array(target)
        if name in as_object(target):
            target = as_object(target)[name]
        elif name.isdecimal() and len(name) < 6 and int(name) < len(items):
            target = items[int(name)]
        else:
            return False
    return True
