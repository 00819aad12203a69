"""Invents values that fit a JSON schema, for answers without a model: ``test_mode`` and the loopback server.

The same schema always gives the same value: the first choice of everything, optional members included. Two things are
out of reach: ``pattern`` beyond simple classes and repetitions, and ``not``, ``if`` and ``dependentSchemas``.

Source: https://json-schema.org/draft/2020-12/json-schema-validation (read 2026-11-28)
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import cast

from pydantic import JsonValue

Schema = Mapping[str, JsonValue]

_DEEPEST = 5  # from here on, only what is required
_BOTTOM = 40  # a schema that requires itself has no finite value
_FORMATS: Mapping[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "P1D",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "12345678-1234-4234-8234-123456789abc",
}
_UNITS = ("a", "A", "1", "Ab", "a1", "A1", "-", "_", " ")
_SHAPES = (
    *_FORMATS.values(),
    *("AB-123", "AB-1234", "ABC-123", "A1-B2", "#a1b2c3", "1.0", "1.0.0", "12:30", "+12025550123"),
)
_WORD = re.compile(r"[(,] ?(\w+): ")


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool as a model sees it.

    Attributes:
        name: Its name.
        description: Its purpose.
        parameters: JSON schema of its arguments.
    """

    name: str
    description: str
    parameters: Schema


def sample(schema: Schema) -> JsonValue:
    """Return a value that fits ``schema``."""
    return _Sampler(schema).value(schema, "", 0, 0)


def sample_arguments(tool: DeclaredTool) -> dict[str, JsonValue]:
    """Invent arguments for a tool: an object, also where the schema does not say so."""
    value = sample(tool.parameters)
    return value if isinstance(value, dict) else {}


def chosen(tools: Sequence[DeclaredTool], choice: str | None, question: str) -> DeclaredTool | None:
    """Return the tool that an obedient model calls: the forced one, or one that the question has a word of.

    Args:
        tools: The declared tools.
        choice: ``required``, ``none``, the name of a forced tool, or None if the model may choose.
        question: The user's last words.
    """
    if choice == "none" or not tools:
        return None
    if choice not in (None, "required"):
        return next((tool for tool in tools if tool.name == choice), None)
    said = set(_words(question))
    fitting = next((tool for tool in tools if tool.name in question or said & set(_words(tool.name))), None)
    return fitting or (tools[0] if choice == "required" else None)


def _words(text: str) -> Iterable[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return (word for word in re.findall(r"[^\W_]+", spaced.lower()) if len(word) > 3)


class _Sampler:
    def __init__(self, root: Schema) -> None:
        self._root = root

    def value(self, given: JsonValue | Schema, name: str, depth: int, index: int) -> JsonValue:
        """Return a value for a schema inside of the root.

        Args:
            given: The schema.
            name: The name of the member; the text of strings without other demands.
            depth: The number of schemas around it.
            index: The index in an array, so that items differ.
        """
        schema = self._plain(given, depth)
        if "const" in schema:
            return schema["const"]
        if choices := _list(schema.get("enum")):
            return choices[index % len(choices)]
        match _kind(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number" as kind:
                return _number(schema, index, whole=kind == "integer")
            case "boolean":
                return index % 2 == 0
            case "null":
                return None
            case _:
                return _text(schema, name, index)

    def _plain(self, given: JsonValue | Schema, depth: int) -> Schema:
        """Return the schema without references and choices."""
        schema = _map(given)
        for _ in range(_BOTTOM):
            branches = _list(schema.get("anyOf")) or _list(schema.get("oneOf"))
            if "$ref" in schema:
                schema = _merged(_without(schema, "$ref"), self._target(str(schema["$ref"])))
            elif parts := _list(schema.get("allOf")):
                schema = _without(schema, "allOf")
                for part in parts:
                    schema = _merged(schema, self._plain(part, depth))
            elif branches:
                schema = _merged(_without(schema, "anyOf", "oneOf"), self._branch(branches, depth))
            else:
                break
        return {**_described(schema), **schema}

    def _branch(self, branches: Sequence[JsonValue], depth: int) -> Schema:
        """Return the first branch that is not null; deep down, the null or the first one without members."""
        plain = [_map(branch) for branch in branches]
        nulls = [branch for branch in plain if branch.get("type") == "null"]
        others = [branch for branch in plain if branch.get("type") != "null"]
        if depth < _DEEPEST:
            return (others or nulls)[0]
        simple = [branch for branch in others if not branch.keys() & {"$ref", "properties", "items"}]
        return (nulls or simple or others)[0]

    def _target(self, reference: str) -> Schema:
        found: JsonValue | Schema = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            found = _map(found).get(step.replace("~1", "/").replace("~0", "~"))
        return _map(found)

    def _object(self, schema: Schema, depth: int) -> JsonValue:
        properties = _map(schema.get("properties"))
        required = [str(name) for name in _list(schema.get("required"))]
        names = [name for name in properties if depth < _DEEPEST or name in required]
        names += [name for name in required if name not in properties]
        made: dict[str, JsonValue] = {}
        if depth > _BOTTOM:
            return made
        for name in names:
            made[name] = self.value(properties.get(name, {}), name, depth + 1, 0)
        more = schema.get("additionalProperties")
        fewest = _whole(schema.get("minProperties")) or (1 if isinstance(more, dict) and more and not names else 0)
        for index in range(len(made), fewest):
            made[f"key{index + 1}"] = self.value(more if isinstance(more, dict) else {}, "value", depth + 1, index)
        return made

    def _array(self, schema: Schema, name: str, depth: int) -> JsonValue:
        first = _list(schema.get("prefixItems"))
        rest = schema.get("items", {})
        number = _whole(schema.get("minItems")) or max(len(first), 1 if depth < _DEEPEST and rest is not False else 0)
        most = _whole(schema.get("maxItems"))
        number = number if most is None else min(number, most)
        if depth > _BOTTOM:
            number = 0
        return [
            self.value(first[index] if index < len(first) else rest, name, depth + 1, index) for index in range(number)
        ]


def _described(schema: Schema) -> Schema:
    """Return the limits in a description, where ``schemas`` puts them if the provider does not enforce them."""
    text = schema.get("description")
    line = text.rpartition("\n")[2] if isinstance(text, str) else ""
    limits: dict[str, JsonValue] = {}
    while line.endswith(")") and (found := _WORD.match(line)):
        try:
            limits[found[1]], end = json.JSONDecoder().raw_decode(line, found.end())
        except ValueError:
            break
        line = line[end:]
    return limits


def _kind(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind.lower()  # Gemini's own schemas have capitals
    if schema.keys() & {"properties", "required", "additionalProperties", "minProperties"}:
        return "object"
    if schema.keys() & {"items", "prefixItems", "minItems"}:
        return "array"
    if schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}:
        return "number"
    return "string"


def _number(schema: Schema, index: int, *, whole: bool) -> JsonValue:
    step = _float(schema.get("multipleOf"))
    least, most = _float(schema.get("minimum")), _float(schema.get("maximum"))
    above, below = _float(schema.get("exclusiveMinimum")), _float(schema.get("exclusiveMaximum"))
    gap = step or (1 if whole else _gap(above if above is not None else least, below if below is not None else most))
    low = max((bound for bound in (least, None if above is None else above + gap) if bound is not None), default=None)
    high = min((bound for bound in (most, None if below is None else below - gap) if bound is not None), default=None)
    start = low if low is not None else min(1.0, high) if high is not None else 1.0
    unit = step or (1 if whole else None)
    if unit is not None:
        if step is None or low is not None or high is None:
            start = ceil(start / unit) * unit
        else:
            start = floor(start / unit) * unit
    value = start + index * gap
    if high is not None and value > high:
        value = start
    return int(value) if whole or (step is None and value == int(value) and low is None) else value


def _gap(low: float | None, high: float | None) -> float:
    return 1.0 if low is None or high is None or high - low > 2 else (high - low) / 4


def _text(schema: Schema, name: str, index: int) -> str:
    shape = schema.get("format")
    if isinstance(shape, str) and shape in _FORMATS:
        return _FORMATS[shape]
    least, most = _whole(schema.get("minLength")) or 0, _whole(schema.get("maxLength"))
    text = " ".join(filter(None, (name.replace("_", " "), str(index + 1) if index else ""))) or "example"
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        return _matching(pattern, [text, *_SHAPES], least, most)
    text = text.ljust(least, ".")
    return text if most is None else text[:most]


def _matching(pattern: str, candidates: Sequence[str], least: int, most: int | None) -> str:
    """Return the first of the candidates, and then of short repetitions, that matches."""
    try:
        wanted = re.compile(pattern)
    except re.error:
        return candidates[0]
    tried = (*candidates, *(unit * number for number in range(41) for unit in _UNITS))
    fitting = (text for text in tried if len(text) >= least and (most is None or len(text) <= most))
    return next((text for text in fitting if wanted.search(text)), candidates[0])


def _merged(one: Schema, other: Schema) -> Schema:
    merged: dict[str, JsonValue] = {**other, **one}
    for name in ("properties", "$defs"):
        if name in one and name in other:
            merged[name] = {**_map(other[name]), **_map(one[name])}
    if "required" in one and "required" in other:
        merged["required"] = [*_list(other["required"]), *_list(one["required"])]
    return merged


def _without(schema: Schema, *names: str) -> Schema:
    return {name: value for name, value in schema.items() if name not in names}


def _map(value: JsonValue | Schema) -> Schema:
    return value if isinstance(value, Mapping) else cast("Schema", {})


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _float(value: JsonValue) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: JsonValue) -> int | None:
    return int(value) if isinstance(value, int | float | str) and str(value).isdigit() else None
