"""The rules of OpenAI Responses for all fields except the input: tools, structured output, reasoning, other knobs.

Follows: the openai SDK 3.54 (``types/responses/tool_param.py``, ``response_text_config_param.py``) and
https://platform.openai.com/docs/guides/structured-outputs (supported schemas, read 2026-11-22).
"""

import re
from collections.abc import Mapping

from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    Refusal,
    Rule,
    as_array,
    as_object,
    as_text,
    dump,
    objects,
)
from dhenara_async.testing.dialects.openai_errors import (
    check_kind,
    check_length,
    checked_name,
    invalid_value,
    missing,
    reasons,
    schema_problem,
    takes_sampling,
    unknown,
    unsupported,
)

_TOOLS: Mapping[str, tuple[str, ...]] = {
    "function": ("name",),
    "file_search": ("vector_store_ids",),
    "code_interpreter": ("container",),
    "mcp": ("server_label",),
    "custom": ("name",),
    "web_search": (),
    "web_search_2025_08_26": (),
    "web_search_preview": (),
    "web_search_preview_2025_03_11": (),
    "image_generation": (),
    "computer": (),
    "computer_use_preview": (),
    "shell": (),
    "local_shell": (),
    "apply_patch": (),
    "tool_search": (),
    "namespace": ("name", "tools"),
    "programmatic_tool_calling": (),
}
"""Every kind of tool, and what it cannot do without."""

_FUNCTION_FIELDS = frozenset(
    {
        "type",
        "name",
        "description",
        "parameters",
        "strict",
        "allowed_callers",
        "defer_loading",
        "output_schema",
        "async",
    }
)
_CHOICES = ("none", "auto", "required")
_FORMATS = ("text", "json_object", "json_schema")
_FORMAT_FIELDS = frozenset({"type", "name", "schema", "strict", "description"})
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SUMMARIES = ("auto", "concise", "detailed")
_INCLUDES = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
_MAX_IDENTIFIER = 128
_MAX_LABELS = 16
_FIXED_CACHE = re.compile(r"o\d|gpt-[34]|gpt-5(\.[0-5])?(?![.\d])")


def _tools(arrived: Arrived) -> None:
    for index, entry in enumerate(as_array(arrived.body.get("tools"))):
        param = f"tools[{index}]"
        check_kind(param, entry, (JsonKind.OBJECT,))
        tool = as_object(entry)
        kind = as_text(tool.get("type"))
        if kind not in _TOOLS:
            raise invalid_value(f"{param}.type", tool.get("type"), tuple(_TOOLS))
        for field in _TOOLS[kind]:
            if not tool.get(field):
                raise missing(f"{param}.{field}")
        if kind == "function":
            _check_function(param, tool)


def _check_function(param: str, tool: dict[str, object]) -> None:
    for field in tool:
        if field not in _FUNCTION_FIELDS:
            raise unknown(f"{param}.{field}")
    name = checked_name(f"{param}.name", tool["name"])
    check_kind(f"{param}.parameters", tool.get("parameters"), (JsonKind.OBJECT, JsonKind.NULL))
    check_kind(f"{param}.strict", tool.get("strict"), (JsonKind.BOOLEAN, JsonKind.NULL))
    schema = as_object(tool.get("parameters"))
    problem = schema_problem(schema, strict=tool.get("strict") is True) if schema else None
    if problem is not None:
        raise Refusal(
            f"Invalid schema for function '{name}': {problem}",
            code="invalid_function_parameters",
            param=f"{param}.parameters",
        )


def _tool_choice(arrived: Arrived) -> None:
    choice, tools = arrived.body.get("tool_choice"), [tool for _index, tool in objects(arrived.body.get("tools"))]
    if choice is None:
        return
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise invalid_value("tool_choice", choice, _CHOICES)
        if choice == "required" and not tools:
            raise Refusal(
                "Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice", code=None
            )
        return
    named = as_object(choice)
    if named.get("type") == "function":
        if not named.get("name"):
            raise missing("tool_choice.name")
        if named["name"] not in [tool.get("name") for tool in tools if tool.get("type") == "function"]:
            raise Refusal(
                f"Tool choice 'function' with name '{named['name']}' not found in 'tools' parameter.",
                param="tool_choice",
            )


def _text_format(arrived: Arrived) -> None:
    wanted = as_object(as_object(arrived.body.get("text")).get("format"))
    if not wanted:
        return
    kind = wanted.get("type")
    if kind not in _FORMATS:
        raise invalid_value("text.format.type", kind, _FORMATS)
    if kind == "json_object" and b"json" not in dump(arrived.body["input"]).lower():
        raise Refusal(
            "Response input messages must contain the word 'json' in some form to use 'text.format' of type "
            "'json_object'.",
            param="input",
        )
    if kind == "json_schema":
        _check_schema_format(wanted)


def _check_schema_format(wanted: dict[str, object]) -> None:
    for field in ("name", "schema"):
        if wanted.get(field) is None:
            raise missing(f"text.format.{field}")
    for field in wanted:
        if field not in _FORMAT_FIELDS:
            raise unknown(f"text.format.{field}")
    name = checked_name("text.format.name", wanted["name"])
    check_kind("text.format.schema", wanted["schema"], (JsonKind.OBJECT,))
    problem = schema_problem(as_object(wanted["schema"]), strict=wanted.get("strict") is True)
    if problem is not None:
        raise Refusal(
            f"Invalid schema for response_format '{name}': {problem}",
            code="invalid_json_schema",
            param="text.format.schema",
        )


def _reasoning(arrived: Arrived) -> None:
    model, reasoning = as_text(arrived.body["model"]), as_object(arrived.body.get("reasoning"))
    effort, summary = reasoning.get("effort"), reasoning.get("summary")
    for name in ("effort", "summary"):
        if reasoning.get(name) is not None and _does_not_reason(model):
            raise unsupported(f"reasoning.{name}")
    if effort is not None and effort not in _EFFORTS:
        raise invalid_value("reasoning.effort", effort, _EFFORTS)
    if effort == "none" and reasons(model) and not takes_sampling(model, effort):
        raise Refusal(
            f"Unsupported value: 'none' is not supported with the '{model}' model.",
            code="unsupported_value",
            param="reasoning.effort",
        )
    if summary is not None and summary not in _SUMMARIES:
        raise invalid_value("reasoning.summary", summary, _SUMMARIES)


def _does_not_reason(model: str) -> bool:
    """Whether a model is known as a non-reasoning model of OpenAI; False for models of other makers."""
    return not reasons(model) and model.startswith(("gpt-", "chatgpt-")) and not model.startswith("gpt-oss")


def _knobs(arrived: Arrived) -> None:
    body = arrived.body
    for index, entry in enumerate(as_array(body.get("include"))):
        if entry not in _INCLUDES:
            raise invalid_value(f"include[{index}]", entry, _INCLUDES)
    most = body.get("top_logprobs")
    if isinstance(most, int) and not 0 <= most <= 20:
        raise Refusal(
            f"Invalid 'top_logprobs': expected a value between 0 and 20, but got {most} instead.",
            code="integer_above_max_value",
            param="top_logprobs",
        )
    check_length("safety_identifier", as_text(body.get("safety_identifier")), _MAX_IDENTIFIER)
    if body.get("prompt_cache_options") is not None and _FIXED_CACHE.match(as_text(body["model"])):
        raise unsupported("prompt_cache_options")
    labels = as_object(body.get("metadata"))
    if len(labels) > _MAX_LABELS:
        raise Refusal(
            f"Invalid 'metadata': too many properties. Expected an object with at most {_MAX_LABELS} properties, but "
            f"got {len(labels)} instead.",
            code="object_above_max_properties",
            param="metadata",
        )
    for name, value in labels.items():
        check_kind(f"metadata.{name}", value, (JsonKind.STRING,))


KNOB_RULES: tuple[Rule, ...] = (_tools, _tool_choice, _text_format, _reasoning, _knobs)
