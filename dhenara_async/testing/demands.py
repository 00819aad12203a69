"""Reads from a request, in any dialect, which object or tool call it asks for; nothing here fails, whatever it is."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from dhenara_async.endpoint import Dialect
from dhenara_async.testing.dialects.base import as_array, as_object, as_text
from dhenara_async.testing.script import SeenRequest
from dhenara_async.tools.samples import DeclaredTool

_Object = Mapping[str, object]
_IN_SCHEMAS = frozenset({"properties", "$ref", "$defs"})
_FORCES = frozenset({"any", "required"})


@dataclass(frozen=True, slots=True)
class Demands:
    """The content that a request asks for besides text.

    Attributes:
        schema: The JSON schema of the answer; None if any text will do.
        tools: The declared functions.
        choice: ``required``, ``none``, the name of a forced function, or None if the model may choose.
        has_results: Whether it ends with results of tool calls.
    """

    schema: Mapping[str, JsonValue] | None
    tools: tuple[DeclaredTool, ...]
    choice: str | None
    has_results: bool


def demands_of(seen: SeenRequest) -> Demands:
    """Return the demands of a request."""
    body = as_object(seen.json)
    match seen.dialect:
        case Dialect.OPENAI_RESPONSES:
            schema = as_object(as_object(body.get("text")).get("format")).get("schema")
            tools = as_array(body.get("tools"))
            last = _last(body.get("input"))
            results = last.get("type") == "function_call_output"
            choice = _choice(body.get("tool_choice"))
        case Dialect.OPENAI_CHAT:
            schema = as_object(as_object(body.get("response_format")).get("json_schema")).get("schema")
            tools = [as_object(tool).get("function") for tool in as_array(body.get("tools"))]
            results = _last(body.get("messages")).get("role") == "tool"
            choice = _choice(body.get("tool_choice"))
        case Dialect.ANTHROPIC_MESSAGES:
            schema = as_object(as_object(body.get("output_config")).get("format")).get("schema")
            tools = as_array(body.get("tools"))
            blocks = as_array(_last(body.get("messages")).get("content"))
            results = any(as_object(block).get("type") == "tool_result" for block in blocks)
            choice = _choice(body.get("tool_choice"))
        case _:
            output = as_object(body.get("generationConfig"))
            schema = output.get("responseJsonSchema") or output.get("responseSchema")
            groups = (as_object(group).get("functionDeclarations") for group in as_array(body.get("tools")))
            tools = [tool for group in groups for tool in as_array(group)]
            parts = as_array(_last(body.get("contents")).get("parts"))
            results = any("functionResponse" in as_object(part) for part in parts)
            choice = _gemini_choice(as_object(as_object(body.get("toolConfig")).get("functionCallingConfig")))
    wanted = as_object(schema) or _in_words(seen.system)
    declared = tuple(_declared(as_object(tool)) for tool in tools if as_text(as_object(tool).get("name")))
    return Demands(cast("Mapping[str, JsonValue]", wanted) or None, declared, choice, results)


def _last(turns: object) -> _Object:
    return as_object((as_array(turns) or [None])[-1])


def _declared(tool: _Object) -> DeclaredTool:
    schemas = (tool.get(name) for name in ("parameters", "input_schema", "parametersJsonSchema"))
    parameters = next((as_object(schema) for schema in schemas if schema), dict[str, object]())
    return DeclaredTool(
        as_text(tool.get("name")), as_text(tool.get("description")), cast("Mapping[str, JsonValue]", parameters)
    )


def _choice(choice: object) -> str | None:
    """Return the choice of OpenAI (a word, or an object with the name) and of Anthropic (an object with a type)."""
    fields = as_object(choice)
    word = choice if isinstance(choice, str) else as_text(fields.get("type"))
    name = as_text(fields.get("name")) or as_text(as_object(fields.get("function")).get("name"))
    return name or ("required" if word in _FORCES else "none" if word == "none" else None)


def _gemini_choice(config: _Object) -> str | None:
    names = as_array(config.get("allowedFunctionNames"))
    match as_text(config.get("mode")).upper():
        case "ANY":
            return as_text(names[0]) if names else "required"
        case "NONE":
            return "none"
        case _:
            return None


def _in_words(system: str) -> dict[str, object]:
    """Return the schema that stands in the instructions of a model without native schemas; empty if there is none."""
    none: dict[str, object] = {}
    if "schema" not in system.lower():
        return none
    return next((found for found in _objects(system) if found.keys() & _IN_SCHEMAS), none)


def _objects(text: str) -> Iterator[dict[str, object]]:
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            yield cast("dict[str, object]", value)
        at = text.find("{", end)
