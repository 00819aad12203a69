"""Reads the options of a request for a response. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/create (read 2026-11-28)
"""

from collections.abc import Mapping, Sequence
from typing import cast

from dhenara_async.config import AIModelCallConfig
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.tools.declarations import HostedTool, HostedToolType
from dhenara_async.web.inputs.fields import BodyFields, as_fields, items_of, text_of
from dhenara_async.web.openai.errors import refused
from dhenara_async.web.openai.options import (
    FUNCTION_NAME,
    checked_choice,
    checked_options,
    declared_function,
    wanted_format,
    with_options,
)

_ECHO_BYTES = 16_384
"""A longer list of tools or schema is not repeated: each response would keep a copy."""

_OPTIONS: tuple[tuple[str, str], ...] = (
    ("max_output_tokens", "max_output_tokens"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_logprobs", "top_logprobs"),
    ("parallel_tool_calls", "parallel_tool_calls"),
    ("user", "user_id"),
    ("safety_identifier", "user_id"),
)
_REASONING: tuple[tuple[str, str], ...] = (("effort", "reasoning_effort"), ("summary", "reasoning_summary"))
_ECHOED = (
    *("max_output_tokens", "temperature", "top_p", "parallel_tool_calls", "reasoning", "text", "tools", "tool_choice"),
    *("truncation", "top_logprobs"),
)
_LOGPROBS = "message.output_text.logprobs"
_CHOICES = ("function", "allowed_tools")
# file_search is not among them: it would read any store of the provider's account. Nor is mcp:
# its tokens would be kept with the response.
_HOSTED: Mapping[str, HostedToolType] = {
    "web_search": "web_search",
    "web_search_preview": "web_search",
    "code_interpreter": "code_execution",
}


def response_config(fields: BodyFields, base: AIModelCallConfig) -> AIModelCallConfig:
    """Return the options of the call; those of the request count before those of ``base``, whose tools are left out.

    Raises:
        RefusedRequest: A known option has a value that it cannot have.
    """
    if fields.get("truncation") not in (None, "auto", "disabled"):  # is repeated: no driver has such a setting
        raise refused("truncation is neither auto nor disabled.", "truncation")
    tools, choice = _chosen(_tools(fields), fields.get("tool_choice"))
    chosen: dict[str, object] = {"tools": tools, **checked_options(fields, _OPTIONS)}
    if _LOGPROBS in _included(fields):
        chosen.setdefault("top_logprobs", 0)
    if fields.get("max_tool_calls") is not None and any(isinstance(tool, HostedTool) for tool in tools):
        words = "max_tool_calls is not known here: no provider can be told how often its own tools may run."
        raise refused(words, "max_tool_calls", "unsupported_parameter")
    if fields.get("reasoning") is not None:
        chosen |= checked_options(as_fields(fields["reasoning"], "reasoning"), _REASONING, "reasoning.")
    if choice is not None and tools:
        chosen["tool_choice"] = choice
    if (schema := _schema(fields)) is not None:
        chosen["structured_output"] = schema
    return with_options(base, chosen, "tools, tool_choice or text.format is not as the Responses API takes it.")


def response_echo(fields: BodyFields) -> Mapping[str, object]:
    """Return what a response repeats of its request; it was read by ``response_config`` before."""
    echo = {name: fields[name] for name in _ECHOED if fields.get(name) is not None}
    for name, known in (("reasoning", ("effort", "summary")), ("text", ("format", "verbosity"))):
        if name in echo:
            given = as_fields(echo[name], name)
            echo[name] = {inner: given[inner] for inner in known if given.get(inner) is not None}
    choice = echo.get("tool_choice")
    if isinstance(choice, dict) and cast("BodyFields", choice).get("type") not in _CHOICES:
        del echo["tool_choice"]  # the model was not bound to it
    if "tools" in echo:
        echo["tools"] = [tool for tool in items_of(fields, "tools") if _is_passed_on(as_fields(tool, "a tool"))]
    return {name: value for name, value in echo.items() if len(dumps(value)) <= _ECHO_BYTES}


# -------------------------------------------------------------------------------------------------------- tools

_Declared = Sequence[Mapping[str, object] | HostedTool]


def _tools(fields: BodyFields) -> _Declared:
    """Return functions, and the hosted tools that are passed on; others are left out, as for any unknown option."""
    if fields.get("tools") is None:
        return []
    tools: list[Mapping[str, object] | HostedTool] = []
    for at, item in enumerate(items_of(fields, "tools")):
        tool = as_fields(item, f"tools[{at}]")
        kind = text_of(tool, "type", limit=FUNCTION_NAME)
        if kind == "function":
            tools.append(declared_function(tool))
        elif kind is not None and kind in _HOSTED and (hosted := HostedTool(type=_HOSTED[kind])) not in tools:
            tools.append(hosted)
    return tools


def _is_passed_on(tool: BodyFields) -> bool:
    return tool.get("type") in {"function", *_HOSTED}


def _chosen(tools: _Declared, choice: object) -> tuple[_Declared, object]:
    """Return the tools that may be called, and the choice among them."""
    if choice is None or isinstance(choice, str):
        return tools, checked_choice(choice)
    given = as_fields(choice, "tool_choice")
    match given.get("type"):
        case "function":
            return tools, {"name": given.get("name")}
        case "allowed_tools":
            allowed = [as_fields(tool, "tool_choice.tools").get("name") for tool in items_of(given, "tools")]
            kept = [tool for tool in tools if isinstance(tool, HostedTool) or tool["name"] in allowed]
            return kept, checked_choice(given.get("mode"))
        case _:  # a hosted tool: no other provider can be told which one it must use
            return tools, None


def _schema(fields: BodyFields) -> object:
    if fields.get("text") is None:
        return None
    text = as_fields(fields["text"], "text")
    if text.get("verbosity") not in (None, "low", "medium", "high"):
        raise refused("text.verbosity is none of low, medium and high.", "text.verbosity")
    return wanted_format(text.get("format"), "text.format")


def _included(fields: BodyFields) -> Sequence[object]:
    return () if fields.get("include") is None else items_of(fields, "include")
