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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from pydantic import BaseModel, JsonValue, ValidationError

from dhenara_async.errors import ConfigurationError, UnsupportedError
from dhenara_async.framing.lenient_json import dumps, read

JsonSchema = dict[str, JsonValue]


class AsksForStructure(Protocol):
    """The field of an ``AIModelCallConfig`` that is read here."""

    @property
    def structured_output(self) -> type[BaseModel] | JsonSchema | None: ...


class DanglingReferenceError(UnsupportedError):
    """A schema has a reference to a missing definition."""


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The schema of a structured output.

    Attributes:
        name: The schema's name, for wire formats that require one: letters, digits, ``_`` and ``-``, at most 64.
        schema: JSON schema with an object as its root.
        model: The pydantic class of the schema; None if the caller passed a schema.
    """

    name: str
    schema: JsonSchema
    model: type[BaseModel] | None


def output_schema(config: AsksForStructure) -> OutputSchema | None:
    """Return the schema of ``config.structured_output``; None if that is unset.

    Raises:
        ConfigurationError: Its root is not an object, or pydantic cannot generate the schema.
    """
    wanted = config.structured_output
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        title = wanted.get("title")
        return OutputSchema(_name(title if isinstance(title, str) else ""), _rooted(wanted, "the schema"), None)
    return OutputSchema(_name(wanted.__name__), _rooted(model_schema(wanted), wanted.__name__), wanted)


def model_schema(model: type[BaseModel]) -> JsonSchema:
    """Return the JSON schema of a pydantic model, with the descriptions from its type hints (see ``descriptions``).

    Raises:
        ConfigurationError: Pydantic cannot generate the schema.
    """
    from pydantic import PydanticUserError

    from dhenara_async.tools.descriptions import DescribedSchema

    try:
        return model.model_json_schema(schema_generator=DescribedSchema)
    except PydanticUserError as exc:
        raise ConfigurationError(f"{model.__name__} has no JSON schema: {exc.message}") from exc


def _name(title: str) -> str:
    legal = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in title)
    return legal[:64] or "answer"


def _rooted(schema: JsonSchema, called: str) -> JsonSchema:
    """Return ``schema`` with the reference at its root resolved; every target requires an object there."""
    top = _unfolded(schema, schema)
    if _kinds(top) != {"object"}:
        raise ConfigurationError(
            f"structured output needs an object as its root, which {called} is not; wrap it in a member of an object"
        )
    return top


# ---------------------------------------------------------------------------------------------------- target subsets

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

# The keywords with schemas inside. All other values are data, and the keys of the maps are the caller's own names.
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_SCHEMAS = frozenset(
    {
        *("items", "additionalItems", "unevaluatedItems", "contains", "contentSchema"),
        *("additionalProperties", "unevaluatedProperties", "propertyNames", "not", "if", "then", "else"),
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


def expanded_root(schema: JsonSchema) -> JsonSchema:
    """Return ``schema`` with the reference at its root resolved and its ``allOf`` merged."""
    return _unfolded(schema, schema)


def is_object_schema(schema: JsonSchema) -> bool:
    """Whether an expanded schema accepts objects only."""
    return _kinds(schema) == {"object"}


# ---------------------------------------------------------------------------------------------------- rewriting


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
        waiting = list(_references(rewritten))
        while waiting:  # keep only definitions that are still referenced
            reference = waiting.pop()
            if reference == "#":
                continue
            group, name = _steps(reference)
            if name in as_schema(kept.get(group)):
                continue
            given = self.moved.get(reference, reference)
            self._refuse_recursion(given)
            definition = self._schema(_target_of(self.root, given), name)
            kept[group] = {**as_schema(kept.get(group)), name: definition}
            waiting += _references(definition)
        return {**rewritten, **kept}

    def _pointer(self, reference: str) -> JsonSchema:
        """Return a ``$ref`` to a definition. A reference to another place of the schema becomes a definition first,
        because rewriting changes the path to that place."""
        _target_of(self.root, reference)
        if reference == "#" or (len(steps := _steps(reference)) == 2 and steps[0] in _DEFINITIONS):
            return {"$ref": reference}
        name = "_".join(re.sub(r"[^a-zA-Z0-9_-]", "_", step) for step in steps)
        while name in as_schema(self.root.get("$defs")) or self.moved.get(f"#/$defs/{name}", reference) != reference:
            name += "_"
        self.moved[f"#/$defs/{name}"] = reference
        return {"$ref": f"#/$defs/{name}"}

    def _refuse_recursion(self, reference: str) -> None:
        if not self.target.recursive and reference in _reachable(self.root, reference):
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
        schema = _merged_all_of(schema, self.root)
        unenforced: dict[str, JsonValue] = {}
        result = self._annotations(schema)
        self._choices(schema, result, where)
        self._values(schema, result, where)
        kinds = _kinds(schema)
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
            return self._schema({**_target_of(self.root, reference), **own}, where)
        finally:
            self.unfolding.pop()

    def _annotations(self, schema: JsonSchema) -> JsonSchema:
        kept = ("title", "description") if self.target.titled else ("description",)
        result: JsonSchema = {key: schema[key] for key in kept if isinstance(schema.get(key), str)}
        kinds = schema.get("type") or sorted(_kinds(schema))
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
        required = _texts(schema.get("required"))
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
        optional = self.target.all_required and not required and not _takes_null(member, self.root)
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
        if "exclusiveMinimum" not in self.target.keeps and _kinds(schema) <= {"integer", "null"}:
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


# ---------------------------------------------------------------------------------------------------- reading schemas

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


def _texts(value: JsonValue) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _kinds(schema: JsonSchema) -> set[str]:
    """Return the types that a schema states or implies; empty if they depend on a choice or are unrestricted."""
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return set(_texts(named))
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


def _steps(reference: str) -> list[str]:
    """Return the steps of a JSON pointer; empty if it does not begin at the root."""
    if not reference.startswith("#/"):
        return []
    return [step.replace("~1", "/").replace("~0", "~") for step in reference.removeprefix("#/").split("/")]


def _target_of(root: JsonSchema, reference: str) -> JsonSchema:
    if reference == "#":
        return root
    found: JsonValue = root if (steps := _steps(reference)) else None
    for step in steps:
        if isinstance(found, list):
            items = dict(enumerate(found))
            found = items.get(int(step)) if step.isdecimal() and len(step) < 6 else None
        else:
            found = as_schema(found).get(step)
    if not isinstance(found, dict):
        raise DanglingReferenceError(f"the schema refers to {reference!r}, which is not among its definitions")
    return found


def _unfolded(schema: JsonSchema, root: JsonSchema) -> JsonSchema:
    """Return ``schema`` with the references at its root resolved and its ``allOf`` merged."""
    seen: set[str] = set()
    while isinstance(reference := schema.get("$ref"), str) and reference not in seen and reference != "#":
        seen.add(reference)
        own = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**_target_of(root, reference), **own}
    return _merged_all_of(schema, root)


def _merged_all_of(schema: JsonSchema, root: JsonSchema) -> JsonSchema:
    """Merge the schemas in ``allOf`` into one; return ``schema`` unchanged if two of them share a keyword."""
    branches = schema.get("allOf")
    if not isinstance(branches, list):
        return schema
    merged: JsonSchema = {key: value for key, value in schema.items() if key != "allOf"}
    for branch in branches:
        addition = _unfolded(as_schema(branch), root)
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
            merged[key] = cast(JsonValue, list(dict.fromkeys([*_texts(present), *_texts(value)])))
        else:
            return False
    return True


def _references(schema: JsonValue) -> Iterator[str]:
    """Yield all references in a schema, except those inside its definitions."""
    if not isinstance(schema, dict):
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield reference
    for inner in _inside_of(schema):
        yield from _references(inner)


def _inside_of(schema: JsonSchema) -> Iterator[JsonValue]:
    """Yield the schemas directly inside a schema, except its definitions. A member may have a keyword as its name."""
    for key, value in schema.items():
        if key in _SCHEMA_MAPS:
            yield from as_schema(value).values()
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            yield from value
        elif key in _SCHEMAS:
            yield value


def _reachable(root: JsonSchema, start: str) -> set[str]:
    """Return all references that are reachable from ``start``, directly or indirectly."""
    found: set[str] = set()
    waiting = list(_references(_target_of(root, start)))
    while waiting:
        reference = waiting.pop()
        if reference not in found:
            found.add(reference)
            waiting += _references(_target_of(root, reference))
    return found


def _takes_null(schema: JsonValue, root: JsonSchema, seen: Sequence[str] = ()) -> bool:
    if not isinstance(schema, dict):
        return schema is True
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return reference not in seen and _takes_null(_target_of(root, reference), root, (*seen, reference))
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        return any(_takes_null(choice, root, seen) for choice in choices)
    kinds = _kinds(schema)
    return not kinds or "null" in kinds


# ---------------------------------------------------------------------------------------------------- reading answers

_MOST_FAULTS = 8
_MOST_STEPS = 20
_LONGEST_FAULT = 500


def restored(schema: JsonSchema, value: JsonValue) -> JsonValue:
    """Remove the nulls that stand for absent optional members which ``schema`` does not allow to be null.

    Returns ``value`` itself if there are none.
    """
    try:
        return _restored([schema], value, schema)
    except RecursionError:  # a degenerate answer; no real schema is a thousand levels deep
        return value


def _restored(schemas: Sequence[JsonSchema], value: JsonValue, root: JsonSchema) -> JsonValue:
    if isinstance(value, list):
        items = [as_schema(each.get("items")) for schema in schemas for each in _branches(schema, root)]
        elements = [_restored([item for item in items if item], element, root) for element in value]
        return elements if any(new is not old for new, old in zip(elements, value, strict=True)) else value
    if not isinstance(value, dict):
        return value
    branches = [each for schema in schemas for each in _branches(schema, root)]
    kept: JsonSchema = {}
    for name, member in value.items():
        declared = [
            as_schema(each.get("properties"))[name] for each in branches if name in as_schema(each.get("properties"))
        ]
        needed = any(name in _texts(each.get("required")) for each in branches)
        if member is None and declared and not needed and not any(_takes_null(each, root) for each in declared):
            continue
        kept[name] = _restored([each for each in declared if isinstance(each, dict)], member, root)
    same = len(kept) == len(value) and all(kept[name] is value[name] for name in kept)
    return value if same else kept


def _branches(schema: JsonSchema, root: JsonSchema, seen: Sequence[str] = ()) -> Iterator[JsonSchema]:
    """Yield ``schema`` and all schemas that it may resolve to by reference or choice."""
    yield schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        yield from _branches(_target_of(root, reference), root, (*seen, reference))
    for key in ("anyOf", "oneOf", "allOf"):
        choices = schema.get(key)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                yield from _branches(choice, root, seen)


def without_placeholders(schema: JsonSchema, text: str) -> str | None:
    """Apply ``restored`` to JSON text; None if that changes nothing or the text is not JSON."""
    try:
        value = cast("JsonValue", read(text))
    except ValueError:
        return None
    lean = restored(schema, value)
    try:
        return None if lean is value else dumps(lean).decode()
    except TypeError:  # the value is nested too deeply to be written
        return None


def validation_words(exc: ValidationError) -> str:
    """Describe validation errors and their places in one line, without the input and with its keys shortened."""
    faults = exc.errors(include_input=False, include_url=False, include_context=False)
    words = [f"{_place(fault['loc'])}: {shortened(fault['msg'], _LONGEST_FAULT)}" for fault in faults[:_MOST_FAULTS]]
    more = len(faults) - len(words)
    return "; ".join(words) + (f"; and {more} more" if more else "")


def _place(steps: Sequence[int | str]) -> str:
    return ".".join(shortened(str(step)) for step in steps[:_MOST_STEPS]) or "it"


def shortened(text: str, most: int = 100) -> str:
    """Return ``text``, shortened to ``most`` characters with an ellipsis at its end if it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
