"""Reads JSON schemas: their types, references and parts."""

from collections.abc import Iterator, Sequence
from typing import cast

from pydantic import JsonValue

from dhenara_async.errors import UnsupportedError

JsonSchema = dict[str, JsonValue]

# The keywords with schemas inside. All other values are data, and the keys of the maps are the caller's own names.
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_SCHEMAS = frozenset(
    {
        *("items", "additionalItems", "unevaluatedItems", "contains", "contentSchema"),
        *("additionalProperties", "unevaluatedProperties", "propertyNames", "not", "if", "then", "else"),
    }
)


class DanglingReferenceError(UnsupportedError):
    """A schema has a reference to a missing definition."""


def expanded_root(schema: JsonSchema) -> JsonSchema:
    """Return ``schema`` with the reference at its root resolved and its ``allOf`` merged."""
    return unfolded(schema, schema)


def is_object_schema(schema: JsonSchema) -> bool:
    """Whether an expanded schema accepts objects only."""
    return kinds_of(schema) == {"object"}


_TYPES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (dict, "object"),
    (list, "array"),
)


def as_schema(value: JsonValue) -> JsonSchema:
    """Return ``value`` if it is an object, else an empty schema."""
    return value if isinstance(value, dict) else {}


def texts(value: JsonValue) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def kinds_of(schema: JsonSchema) -> set[str]:
    """Return the types that a schema states or implies; empty if they depend on a choice or are unrestricted."""
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return set(texts(named))
    values = schema.get("enum")
    if "const" in schema:
        values = [schema["const"]]
    if isinstance(values, list):
        return {_kind_of(value) for value in values}
    if schema.keys() & {"anyOf", "oneOf", "$ref"}:
        return set()
    if schema.keys() & {"properties", "additionalProperties", "patternProperties"}:
        return {"object"}
    return {"array"} if schema.keys() & {"items", "prefixItems"} else set()


def _kind_of(value: JsonValue) -> str:
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "null")


def pointer_steps(reference: str) -> list[str]:
    """Return the steps of a JSON pointer; empty if it does not begin at the root."""
    if not reference.startswith("#/"):
        return []
    return [step.replace("~1", "/").replace("~0", "~") for step in reference.removeprefix("#/").split("/")]


def target_of_reference(root: JsonSchema, reference: str) -> JsonSchema:
    if reference == "#":
        return root
    found: JsonValue = root if (steps := pointer_steps(reference)) else None
    for step in steps:
        if isinstance(found, list):
            items = dict(enumerate(found))
            found = items.get(int(step)) if step.isdecimal() and len(step) < 6 else None
        else:
            found = as_schema(found).get(step)
    if not isinstance(found, dict):
        raise DanglingReferenceError(f"the schema refers to {reference!r}, which is not among its definitions")
    return found


def unfolded(schema: JsonSchema, root: JsonSchema) -> JsonSchema:
    """Return ``schema`` with the references at its root resolved and its ``allOf`` merged."""
    seen: set[str] = set()
    while isinstance(reference := schema.get("$ref"), str) and reference not in seen and reference != "#":
        seen.add(reference)
        own = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**target_of_reference(root, reference), **own}
    return merged_all_of(schema, root)


def merged_all_of(schema: JsonSchema, root: JsonSchema) -> JsonSchema:
    """Merge the schemas in ``allOf`` into one; return ``schema`` unchanged if two of them share a keyword."""
    branches = schema.get("allOf")
    if not isinstance(branches, list):
        return schema
    merged: JsonSchema = {key: value for key, value in schema.items() if key != "allOf"}
    for branch in branches:
        addition = unfolded(as_schema(branch), root)
        if not isinstance(branch, dict) or "allOf" in addition or not _merge(merged, addition):
            return schema
    return merged


def _merge(merged: JsonSchema, addition: JsonSchema) -> bool:
    """Add the keywords of ``addition`` to ``merged``; return False if both have a keyword with different values."""
    for key, value in addition.items():
        present = merged.get(key)
        if key not in merged or present == value or key in {"title", "description"}:
            merged.setdefault(key, value)
        elif key == "properties" and not as_schema(present).keys() & as_schema(value).keys():
            merged[key] = {**as_schema(present), **as_schema(value)}
        elif key == "required":
            merged[key] = cast(JsonValue, list(dict.fromkeys([*texts(present), *texts(value)])))
        else:
            return False
    return True


def references(schema: JsonValue) -> Iterator[str]:
    """Yield all references in a schema, except those inside its definitions."""
    if not isinstance(schema, dict):
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield reference
    for inner in _inside_of(schema):
        yield from references(inner)


def _inside_of(schema: JsonSchema) -> Iterator[JsonValue]:
    """Yield the schemas directly inside a schema, except its definitions. A member may have a keyword as its name."""
    for key, value in schema.items():
        if key in _SCHEMA_MAPS:
            yield from as_schema(value).values()
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            yield from value
        elif key in _SCHEMAS:
            yield value


def reachable(root: JsonSchema, start: str) -> set[str]:
    """Return all references that are reachable from ``start``, directly or indirectly."""
    found: set[str] = set()
    waiting = list(references(target_of_reference(root, start)))
    while waiting:
        reference = waiting.pop()
        if reference not in found:
            found.add(reference)
            waiting += references(target_of_reference(root, reference))
    return found


def takes_null(schema: JsonValue, root: JsonSchema, seen: Sequence[str] = ()) -> bool:
    if not isinstance(schema, dict):
        return schema is True
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return reference not in seen and takes_null(target_of_reference(root, reference), root, (*seen, reference))
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        return any(takes_null(choice, root, seen) for choice in choices)
    kinds = kinds_of(schema)
    return not kinds or "null" in kinds
