"""Rewrites JSON schemas for structured output and tools into the subset that a target supports; drivers state it.

A schema is rewritten only if every answer that follows the rewritten schema also follows the caller's. Two exceptions:

- OpenAI's strict mode has no optional members. An optional member without a default may be ``null`` instead, and
  ``restored`` removes such placeholders from the answer.
- A constraint on a value (a length, a pattern, a range) that a target does not enforce moves into the description. A
  pydantic class still validates it in the answer.

A schema that a target cannot enforce has a fallback with a warning: at OpenAI the non-strict mode
(``drivers.openai_schema``), at Anthropic the arguments of a forced tool call.

Sources: https://developers.openai.com/api/docs/guides/structured-outputs
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
https://ai.google.dev/gemini-api/docs/structured-output (read 2026-11-22)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from dhenara_async.errors import UnsupportedError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.tools.schema_reading import (
    JsonSchema,
    as_schema,
    expanded_root,
    kinds_of,
    merged_all_of,
    pointer_steps,
    reachable,
    references,
    takes_null,
    target_of_reference,
    texts,
)

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
RANGES = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_NARROWING = RANGES | {
    *("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"),
    *("minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "default", "examples"),
}
_LOOKS_AROUND = re.compile(r"\(\?<?[=!]")  # no target supports lookahead or lookbehind
_LOGIC = frozenset(
    {
        *("not", "if", "then", "else", "allOf", "dependentRequired", "dependentSchemas", "dependencies"),
        *("patternProperties", "propertyNames", "contains", "minContains", "maxContains"),
        *("unevaluatedProperties", "unevaluatedItems", "additionalItems", "$dynamicRef", "$recursiveRef"),
    }
)

_DEFINITIONS = ("$defs", "definitions")


@dataclass(frozen=True, slots=True)
class SchemaSubset:
    """The subset of JSON schema that a target supports.

    Attributes:
        name: The target's name, for messages.
        keeps: The constraint keywords that it enforces.
        formats: The values of ``format`` that it enforces; None = all.
        closed: Whether it requires ``additionalProperties: false`` on every object, and a type on every value.
        only_nonempty: Whether ``minItems: 1`` is the only array length that it enforces.
        all_required: Whether it has no optional members.
        recursive: Whether a schema may contain itself.
        constants: Whether it supports ``const``; if not, an ``enum`` with one value is sent.
        titled: Whether it accepts titles.
        lenient: Whether it ignores unknown keywords, so that those can move into the description.
    """

    name: str
    keeps: frozenset[str]
    formats: frozenset[str] | None
    closed: bool
    only_nonempty: bool = False
    all_required: bool = False
    recursive: bool = True
    constants: bool = True
    titled: bool = True
    lenient: bool = False


def rewritten(schema: JsonSchema, subset: SchemaSubset) -> JsonSchema:
    """Rewrite ``schema`` for a target that supports ``subset``.

    Raises:
        UnsupportedError: The subset cannot express the schema.
    """
    return _Rewriting(subset, expanded_root(schema)).result()


@dataclass(slots=True)
class _Rewriting:
    """Rewrites one schema for one target."""

    target: SchemaSubset
    root: JsonSchema
    unfolding: list[str] = field(default_factory=list[str])
    moved: dict[str, str] = field(default_factory=dict[str, str])  # pointers to places, by those to their definitions

    def result(self) -> JsonSchema:
        rewritten = self._schema(self.root, "the top")
        kept: JsonSchema = {}
        waiting = list(references(rewritten))
        while waiting:  # keep only definitions that are still referenced
            reference = waiting.pop()
            if reference == "#":
                continue
            group, name = pointer_steps(reference)
            if name in as_schema(kept.get(group)):
                continue
            given = self.moved.get(reference, reference)
            self._refuse_recursion(given)
            definition = self._schema(target_of_reference(self.root, given), name)
            kept[group] = {**as_schema(kept.get(group)), name: definition}
            waiting += references(definition)
        return {**rewritten, **kept}

    def _pointer(self, reference: str) -> JsonSchema:
        """Return a ``$ref`` to a definition. A reference to another place of the schema becomes a definition first,
        because rewriting changes the path to that place."""
        target_of_reference(self.root, reference)
        if reference == "#" or (len(steps := pointer_steps(reference)) == 2 and steps[0] in _DEFINITIONS):
            return {"$ref": reference}
        name = "_".join(re.sub(r"[^a-zA-Z0-9_-]", "_", step) for step in steps)
        while name in as_schema(self.root.get("$defs")) or self.moved.get(f"#/$defs/{name}", reference) != reference:
            name += "_"
        self.moved[f"#/$defs/{name}"] = reference
        return {"$ref": f"#/$defs/{name}"}

    def _refuse_recursion(self, reference: str) -> None:
        if not self.target.recursive and reference in reachable(self.root, reference):
            raise self._refusal(reference.rpartition("/")[2], "contains itself")

    def _refusal(self, where: str, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.target.name} cannot be held to this schema: {where} {what}")

    def _schema(self, schema: JsonValue, where: str) -> JsonSchema:
        if schema is True or schema == {}:
            return self._anything(where)
        if not isinstance(schema, dict):
            raise self._refusal(where, "accepts no value at all")
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if set(schema) - {"$ref", "title", "default", "$comment", *_DEFINITIONS}:
                return self._beside_reference(schema, reference, where)
            return self._pointer(reference)
        schema = merged_all_of(schema, self.root)
        unenforced: dict[str, JsonValue] = {}
        result = self._annotations(schema)
        self._choices(schema, result, where)
        self._values(schema, result, where)
        kinds = kinds_of(schema)
        if "object" in kinds:
            self._object(schema, result, where)
        if "array" in kinds:
            self._array(schema, result, where)
        self._narrowing(schema, result, unenforced)
        self._logic(schema, unenforced, where)
        if not kinds and not result.keys() & {"anyOf", "enum", "const"}:
            result.update(self._anything(where))
        _describe(result, unenforced)
        return result

    def _anything(self, where: str) -> JsonSchema:
        if self.target.closed:
            raise self._refusal(where, "may be of any type")
        return {}

    def _beside_reference(self, schema: JsonSchema, reference: str, where: str) -> JsonSchema:
        """Resolve a ``$ref`` with keywords beside it, which no target accepts, into a copy of its definition."""
        if reference in self.unfolding:
            return self._pointer(reference)
        self._refuse_recursion(reference)
        self.unfolding.append(reference)
        try:
            own = {key: value for key, value in schema.items() if key not in {"$ref", *_DEFINITIONS}}
            return self._schema({**target_of_reference(self.root, reference), **own}, where)
        finally:
            self.unfolding.pop()

    def _annotations(self, schema: JsonSchema) -> JsonSchema:
        kept = ("title", "description") if self.target.titled else ("description",)
        result: JsonSchema = {key: schema[key] for key in kept if isinstance(schema.get(key), str)}
        kinds = schema.get("type") or sorted(kinds_of(schema))
        if kinds:
            result["type"] = kinds[0] if isinstance(kinds, list) and len(kinds) == 1 else cast(JsonValue, kinds)
        return result

    def _choices(self, schema: JsonSchema, result: JsonSchema, where: str) -> None:
        branches = schema.get("anyOf") or schema.get("oneOf")  # a discriminator makes the two the same
        if isinstance(branches, list):
            result["anyOf"] = [self._schema(branch, f"{where}, choice {at}") for at, branch in enumerate(branches, 1)]

    def _values(self, schema: JsonSchema, result: JsonSchema, where: str) -> None:
        values = schema.get("enum")
        if "const" in schema:
            if self.target.constants:
                result["const"] = schema["const"]
            else:
                values = [schema["const"]]
        if not isinstance(values, list):
            return
        if any(isinstance(value, dict | list) for value in values) and self.target.closed:
            raise self._refusal(where, "lists values that are objects or arrays")
        if self.target.lenient and any(isinstance(value, bool) for value in values):
            _describe(result, {"enum": values})  # its enums hold texts and numbers only
        else:
            result["enum"] = values

    def _object(self, schema: JsonSchema, result: JsonSchema, where: str) -> None:
        properties, extra = schema.get("properties"), schema.get("additionalProperties")
        named = isinstance(properties, dict)
        if self.target.closed:
            if not (named or extra is False) or isinstance(extra, dict) or (extra is True and not properties):
                raise self._refusal(where, "is an object with keys that are not named in it")
            result["additionalProperties"] = False
        elif isinstance(extra, dict):
            result["additionalProperties"] = self._schema(extra, f"{where}, any other key")
        elif extra is not None:
            result["additionalProperties"] = extra
        required = texts(schema.get("required"))
        if named or self.target.closed:
            members = as_schema(properties)
            result["properties"] = {
                name: self._member(member, name in required, _inside(where, name)) for name, member in members.items()
            }
            required = list(members) if self.target.all_required else [name for name in required if name in members]
        if required or self.target.all_required:
            result["required"] = cast(JsonValue, required)

    def _member(self, member: JsonValue, required: bool, where: str) -> JsonSchema:
        rewritten = self._schema(member, where)
        optional = self.target.all_required and not required and not takes_null(member, self.root)
        has_default = isinstance(member, dict) and member.get("default") is not None
        return _nullable(rewritten) if optional and not has_default else rewritten

    def _array(self, schema: JsonSchema, result: JsonSchema, where: str) -> None:
        first = schema.get("prefixItems")
        if isinstance(first, list):
            if self.target.closed:
                raise self._refusal(where, "is an array with a schema for each place")
            result["prefixItems"] = [self._schema(item, f"{where}, item {at}") for at, item in enumerate(first, 1)]
        items = schema.get("items", True)
        if items is not False and (items is not True or self.target.closed):
            result["items"] = self._schema(items, f"{where}, its items")

    def _narrowing(self, schema: JsonSchema, result: JsonSchema, unenforced: dict[str, JsonValue]) -> None:
        limits: JsonSchema = {key: value for key, value in schema.items() if key in _NARROWING}
        if "exclusiveMinimum" not in self.target.keeps and kinds_of(schema) <= {"integer", "null"}:
            _include_bounds(limits)
        for key, value in limits.items():
            enforced = key in self.target.keeps
            if key == "format" and self.target.formats is not None:
                enforced = enforced and value in self.target.formats
            if key == "minItems" and self.target.only_nonempty:
                enforced = value in (0, 1)
            if key == "pattern" and _LOOKS_AROUND.search(str(value)):
                enforced = False
            if key == "default" and "const" in schema:
                continue
            if enforced:
                result[key] = value
            elif value is not None and key not in {"contentMediaType"}:
                unenforced[key] = value

    def _logic(self, schema: JsonSchema, unenforced: dict[str, JsonValue], where: str) -> None:
        for key in sorted(schema.keys() & _LOGIC):
            if not self.target.lenient:
                raise self._refusal(where, f"uses {key!r}")
            unenforced[key] = schema[key]


def _inside(where: str, name: str) -> str:
    return name if where == "the top" else f"{where}.{name}"


def _include_bounds(limits: JsonSchema) -> None:
    """Convert exclusive bounds of integers to inclusive ones."""
    for exclusive, inclusive, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        bound = limits.get(exclusive)
        if isinstance(bound, int) and not isinstance(bound, bool) and inclusive not in limits:
            limits[inclusive] = bound + step
            del limits[exclusive]


def _describe(result: JsonSchema, unenforced: Mapping[str, JsonValue]) -> None:
    """Add constraints that the target does not enforce to the description, so that the model can still follow them."""
    if not unenforced:
        return
    words = ", ".join(f"{key}: {dumps(value).decode()}" for key, value in unenforced.items())
    before = result.get("description")
    result["description"] = f"{before}\n({words})" if isinstance(before, str) and before else f"({words})"


def _nullable(schema: JsonSchema) -> JsonSchema:
    """Return ``schema`` with ``null`` as a further choice."""
    kind = schema.get("type")
    if isinstance(kind, str) and not schema.keys() & {"enum", "const", "anyOf"}:
        return {**schema, "type": [kind, "null"]}
    outside: JsonSchema = {key: schema[key] for key in ("title", "description") if key in schema}
    inside: JsonSchema = {key: value for key, value in schema.items() if key not in outside}
    choices = inside.get("anyOf")
    if isinstance(choices, list) and len(inside) == 1:
        return {**outside, "anyOf": [*choices, {"type": "null"}]}
    return {**outside, "anyOf": [inside, {"type": "null"}]}
