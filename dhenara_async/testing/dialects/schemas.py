"""Reads JSON schemas as the providers do: which objects of one are schemas, and whether its pointers lead anywhere.

The names of properties and of definitions, and the values in ``enum``, ``const``, ``default`` and ``examples``, are the
caller's own: they may look like any keyword.
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
    """Every schema inside a schema, itself first; the empty ones are left out."""
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
    """The first pointer of a schema that leads nowhere inside it; None if there is none."""
    pointers = (inner["$ref"] for inner in subschemas(schema) if isinstance(inner.get("$ref"), str))
    return next((pointer for pointer in map(str, pointers) if not _leads_somewhere(pointer, schema)), None)


def _leads_somewhere(pointer: str, schema: object) -> bool:
    if pointer == "#":
        return True
    if not pointer.startswith("#/"):
        return False
    place: object = schema
    for step in pointer.removeprefix("#/").split("/"):
        name, items = step.replace("~1", "/").replace("~0", "~"), as_array(place)
        if name in as_object(place):
            place = as_object(place)[name]
        elif name.isdecimal() and len(name) < 6 and int(name) < len(items):
            place = items[int(name)]
        else:
            return False
    return True
