"""Gemini's request checks beyond field shapes: tools, schemas, thinking, and foreign signatures.

Follows: the google-genai SDK 3.4 (``types.py``), https://ai.google.dev/gemini-api/docs/thought-signatures,
https://ai.google.dev/gemini-api/docs/function-calling, https://ai.google.dev/gemini-api/docs/structured-output and
error texts that users of the API have reported (read 2026-11-22).
"""

import base64
import re
from collections.abc import Mapping

from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    Refusal,
    as_array,
    as_object,
    as_text,
    fits,
    kind_of,
    objects,
)
from dhenara_async.testing.dialects.schemas import dangling_reference, subschemas

_STAND_INS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
ACCEPTED_STAND_INS = frozenset((*_STAND_INS, *(base64.b64encode(word.encode()).decode() for word in _STAND_INS)))

_TOOLS = {
    "functionDeclarations": JsonKind.ARRAY,
    "googleSearch": JsonKind.OBJECT,
    "googleSearchRetrieval": JsonKind.OBJECT,
    "googleMaps": JsonKind.OBJECT,
    "codeExecution": JsonKind.OBJECT,
    "urlContext": JsonKind.OBJECT,
    "fileSearch": JsonKind.OBJECT,
    "computerUse": JsonKind.OBJECT,
    "mcpServers": JsonKind.ARRAY,
}
_DECLARATION = {
    "name": JsonKind.STRING,
    "description": JsonKind.STRING,
    "parameters": JsonKind.OBJECT,
    "parametersJsonSchema": JsonKind.OBJECT,
    "response": JsonKind.OBJECT,
    "responseJsonSchema": JsonKind.OBJECT,
    "behavior": JsonKind.STRING,
}
_TOOL_CONFIG = {
    "functionCallingConfig": JsonKind.OBJECT,
    "retrievalConfig": JsonKind.OBJECT,
    "includeServerSideToolInvocations": JsonKind.BOOLEAN,
}
_CALLING_CONFIG = {
    "mode": JsonKind.STRING,
    "allowedFunctionNames": JsonKind.ARRAY,
    "streamFunctionCallArguments": JsonKind.BOOLEAN,
}
_THINKING_CONFIG = {
    "includeThoughts": JsonKind.BOOLEAN,
    "thinkingBudget": JsonKind.INTEGER,
    "thinkingLevel": JsonKind.STRING,
}
_MODES = {"AUTO", "ANY", "NONE", "VALIDATED"}
_LEVELS = {"MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"}
_RESULT_MEDIA = {"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"}
# JSON Schema keywords outside the subset.
_BAD_KEYWORDS = {"$schema", "examples", "discriminator", "exclusiveMinimum", "exclusiveMaximum", "const"}
_MOST_CANDIDATES = 8


def model_of(arrived: Arrived) -> str:
    """Return the model in the path."""
    return arrived.path.rpartition("models/")[2].partition(":")[0]


def is_third_or_later(model: str) -> bool:
    """Whether a model requires its thought signatures; an unknown Gemini counts as new."""
    found = re.match(r"gemini-(\d+)", model)
    return int(found[1]) >= 3 if found else model.startswith("gemini")


def _members(where: str, value: Mapping[str, object], fields: Mapping[str, JsonKind]) -> None:
    for name, entry in value.items():
        if name not in fields:
            raise Refusal(f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field.")
        if entry is not None and not fits(entry, (fields[name],)):
            raise Refusal(f"Invalid value at '{where}.{name}': expected {fields[name]}, got {kind_of(entry)}.")


def _entries(arrived: Arrived) -> list[dict[str, object]]:
    return [as_object(entry) for entry in as_array(arrived.body.get("tools")) if entry]


def _functions(arrived: Arrived) -> list[dict[str, object]]:
    return [as_object(item) for entry in _entries(arrived) for item in as_array(entry.get("functionDeclarations"))]


def _hosted(arrived: Arrived) -> list[str]:
    return [name for entry in _entries(arrived) for name in entry if name != "functionDeclarations"]


# Tools


def tools(arrived: Arrived) -> None:
    """Check that every tool is known, and every function has a legal, unique name and one kind of schema."""
    names: list[str] = []
    for index, entry in enumerate(_entries(arrived)):
        _members(f"tools[{index}]", entry, _TOOLS)
        for number, declaration in objects(entry.get("functionDeclarations")):
            where = f"tools[{index}].function_declarations[{number}]"
            _members(where, declaration, _DECLARATION)
            name = as_text(declaration.get("name"))
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}", name):
                raise Refusal(f"* GenerateContentRequest.{where}.name: Invalid function name.")
            if declaration.get("parameters") and declaration.get("parametersJsonSchema"):
                raise Refusal(f"* GenerateContentRequest.{where}: parameters and parameters_json_schema are exclusive.")
            names.append(name)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Refusal(f"Duplicate function declaration found: {twice}")


def tool_config(arrived: Arrived) -> None:
    """Check that the mode exists, and forces only declared functions."""
    config = as_object(arrived.body.get("toolConfig"))
    _members("tool_config", config, _TOOL_CONFIG)
    calling = as_object(config.get("functionCallingConfig"))
    _members("tool_config.function_calling_config", calling, _CALLING_CONFIG)
    mode = calling.get("mode")
    if mode is not None and mode not in _MODES:
        raise Refusal(f"Invalid value at 'tool_config.function_calling_config.mode': \"{mode}\"")
    allowed = as_array(calling.get("allowedFunctionNames"))
    if allowed and mode not in {"ANY", "VALIDATED"}:
        raise Refusal("* tool_config.function_calling_config.allowed_function_names: only supported with mode ANY.")
    declared = {as_text(function.get("name")) for function in _functions(arrived)}
    if mode == "ANY" and not declared:
        raise Refusal("Function calling mode is set to ANY but no function declarations are provided.")
    unknown = [name for name in allowed if name not in declared]
    if unknown:
        raise Refusal(f"* tool_config.function_calling_config.allowed_function_names: {unknown[0]} is not declared.")


def combinations(arrived: Arrived) -> None:
    """Check functions beside hosted tools: illegal before Gemini 3, later only with server-side calls included."""
    modern = is_third_or_later(model_of(arrived))
    circulates = bool(as_object(arrived.body.get("toolConfig")).get("includeServerSideToolInvocations"))
    functions, hosted = _functions(arrived), _hosted(arrived)
    if circulates and not modern:
        raise Refusal("Tool call context circulation is not enabled for this model.")
    if functions and hosted and not modern:
        raise Refusal(f"Built-in tools ({', '.join(hosted)}) and Function Calling cannot be combined in one request.")
    if functions and hosted and not circulates:
        raise Refusal(
            "Please enable tool_config.include_server_side_tool_invocations to use Built-in tools with functions."
        )
    wants_json = as_object(arrived.body.get("generationConfig")).get("responseMimeType") == "application/json"
    if wants_json and (functions or hosted) and not modern:
        raise Refusal("Tool use with a response mime type: 'application/json' is unsupported")


# Schemas


def schemas(arrived: Arrived) -> None:
    """Check that JSON schemas stay in the subset, and structured output requests JSON."""
    config = as_object(arrived.body.get("generationConfig"))
    given = [name for name in ("responseSchema", "responseJsonSchema") if config.get(name) is not None]
    if len(given) > 1:
        raise Refusal("* generation_config: only one of response_schema and response_json_schema can be set.")
    if given and config.get("responseMimeType") not in {"application/json", "text/x.enum"}:
        raise Refusal("* generation_config.response_mime_type: must be application/json when a schema is set.")
    for function in _functions(arrived):
        _check_schema(f"function {as_text(function.get('name'))}", function.get("parametersJsonSchema"))
    _check_schema("generation_config.response_json_schema", config.get("responseJsonSchema"))


def _check_schema(where: str, schema: object) -> None:
    bad = next((word for inner in subschemas(schema) for word in inner if word in _BAD_KEYWORDS), None)
    if bad is not None:
        raise Refusal(f"* GenerateContentRequest: the schema of {where} uses the unsupported keyword {bad}.")
    pointer = dangling_reference(schema)
    if pointer is not None:
        raise Refusal(f"* GenerateContentRequest: the schema of {where} refers to {pointer}, which is not defined.")


# Generation


def generation(arrived: Arrived) -> None:
    """Check the ranges of numbers."""
    config = as_object(arrived.body.get("generationConfig"))
    count = config.get("candidateCount")
    if isinstance(count, int) and not 1 <= count <= _MOST_CANDIDATES:
        raise Refusal(f"* generation_config.candidate_count: must be in the range [1, {_MOST_CANDIDATES}].")
    if config.get("logprobs") is not None and not config.get("responseLogprobs"):
        raise Refusal("* generation_config.logprobs: only valid if response_logprobs is true.")


def thinking(arrived: Arrived) -> None:
    """Check thinking: a budget for 2.5, a level from 3 on, never both; some models cannot turn it off."""
    model = model_of(arrived)
    config = as_object(as_object(arrived.body.get("generationConfig")).get("thinkingConfig"))
    _members("generation_config.thinking_config", config, _THINKING_CONFIG)
    budget, level = config.get("thinkingBudget"), config.get("thinkingLevel")
    if budget is not None and level is not None:
        raise Refusal("You can only set only one of thinking budget and thinking level.")
    if config and re.match(r"gemini-(1|2\.0)", model):
        raise Refusal("Thinking is not supported for this model.")
    if is_third_or_later(model):
        _check_level(model, budget, level)
    elif level is not None:
        raise Refusal("Thinking level is not supported for this model.")
    elif budget == 0 and model.startswith("gemini-2.5-pro"):
        raise Refusal("Budget 0 is invalid. This model only works in thinking mode.")


def _check_level(model: str, budget: object, level: object) -> None:
    if budget is not None:
        raise Refusal("Thinking budget is not supported for this model; use thinking level.")
    if level is not None and as_text(level).upper() not in _LEVELS:
        raise Refusal(f"Invalid value at 'generation_config.thinking_config.thinking_level': \"{level}\"")
    quiet = re.match(r"gemini-(3-pro|3\.1-pro|3\.7-flash)", model) is None
    if as_text(level).upper() == "MINIMAL" and not quiet:
        raise Refusal("Thinking level MINIMAL is not supported for this model.")


# Content


def result_media(arrived: Arrived) -> None:
    """Check files inside a function's response: from Gemini 3 on, and only some kinds."""
    for _index, content in objects(arrived.body.get("contents")):
        for _number, part in objects(content.get("parts")):
            for _place, inside in objects(as_object(part.get("functionResponse")).get("parts")):
                media_type = as_text(as_object(inside.get("inlineData")).get("mimeType"))
                if not is_third_or_later(model_of(arrived)):
                    raise Refusal("Multimodal function responses are not supported for this model.")
                if media_type not in _RESULT_MEDIA:
                    raise Refusal(f"Unsupported MIME type in a function response: {media_type or 'none'}")


def issued_signatures(arrived: Arrived) -> None:
    """Check, from Gemini 3 on, that a signature was sent for this model, or is the documented placeholder."""
    model = model_of(arrived)
    if not is_third_or_later(model):
        return
    issued = {_normalized(signature) for name, signature in arrived.issued if name == model}
    issued |= {_normalized(signature) for signature in ACCEPTED_STAND_INS}
    for index, content in objects(arrived.body.get("contents")):
        for number, part in objects(content.get("parts")):
            signature = as_text(part.get("thoughtSignature"))
            if signature and _normalized(signature) not in issued:
                raise Refusal(f"Thought signature is not valid. (contents[{index}].parts[{number}])")


def _normalized(signature: str) -> str:
    """Normalise base64 to the URL-safe alphabet without padding; clients use both alphabets."""
    return signature.replace("+", "-").replace("/", "_").rstrip("=")
