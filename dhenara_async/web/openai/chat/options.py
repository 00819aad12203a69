"""Reads the options of a request of Chat Completions. Pure.

Source: https://platform.openai.com/docs/api-reference/chat/create (read 2026-11-28)
"""

from typing import cast

from dhenara_async.config import AIModelCallConfig
from dhenara_async.web.inputs.fields import BodyFields, as_fields, items_of
from dhenara_async.web.openai.errors import refused
from dhenara_async.web.openai.options import (
    checked_choice,
    checked_option,
    checked_options,
    declared_function,
    wanted_format,
    with_options,
)

_MOST_CHOICES = 8

_OPTIONS: tuple[tuple[str, str], ...] = (
    ("max_tokens", "max_output_tokens"),
    ("max_completion_tokens", "max_output_tokens"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("seed", "seed"),
    ("stop", "stop"),
    ("parallel_tool_calls", "parallel_tool_calls"),
    ("reasoning_effort", "reasoning_effort"),
    ("user", "user_id"),
    ("safety_identifier", "user_id"),
    ("n", "n"),
)


def completion_config(fields: BodyFields, base: AIModelCallConfig) -> AIModelCallConfig:
    """Return the options of the call; those of the request count before those of ``base``, whose tools are left out.

    Raises:
        RefusedRequest: A known option has a value that it cannot have, or asks for what no answer here has.
    """
    tools, choice = _chosen(_tools(fields), fields.get("tool_choice"))
    chosen: dict[str, object] = {"tools": tools, **checked_options(fields, _OPTIONS)}
    choices = cast("int", chosen.get("n", 1))
    if choices > _MOST_CHOICES:
        raise refused(f"n is at most {_MOST_CHOICES}.", "n")
    if choices == 1:
        chosen.pop("n", None)  # what every provider does anyway
    if choice is not None and tools:
        chosen["tool_choice"] = choice
    if (schema := wanted_format(fields.get("response_format"), "response_format", "json_schema")) is not None:
        chosen["structured_output"] = schema
    if (beside := _alternatives(fields)) is not None:
        chosen["top_logprobs"] = beside
    modalities = fields.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise refused("This API answers with text only: leave out modalities.", "modalities", "unsupported_value")
    return with_options(base, chosen, "tools, tool_choice or response_format is not as Chat Completions takes it.")


def _alternatives(fields: BodyFields) -> object:
    """Return how many alternatives each token is told with; None if log probabilities are not wanted."""
    wanted, beside = fields.get("logprobs"), fields.get("top_logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        raise refused("logprobs is not true or false.", "logprobs")
    if wanted:
        return checked_option("top_logprobs", "top_logprobs", 0 if beside is None else beside)
    if beside:
        raise refused("top_logprobs needs logprobs: true.", "top_logprobs")
    return None


def _tools(fields: BodyFields) -> list[dict[str, object]]:
    if fields.get("tools") is None:
        return []
    tools: list[dict[str, object]] = []
    for at, item in enumerate(items_of(fields, "tools")):
        tool = as_fields(item, f"tools[{at}]")
        if tool.get("type", "function") != "function":
            words = f"tools[{at}] is not a function: this API passes on functions only."
            raise refused(words, "tools", "unsupported_value")
        tools.append({**declared_function(as_fields(tool.get("function"), f"tools[{at}].function"))})
    return tools


def _chosen(tools: list[dict[str, object]], choice: object) -> tuple[list[dict[str, object]], object]:
    """Return the tools that may be called, and the choice among them."""
    if choice is None or isinstance(choice, str):
        return tools, checked_choice(choice)
    given = as_fields(choice, "tool_choice")
    match given.get("type", "function"):
        case "function":
            return tools, {"name": as_fields(given.get("function"), "tool_choice.function").get("name")}
        case "allowed_tools":
            listed = as_fields(given.get("allowed_tools"), "tool_choice.allowed_tools")
            allowed = [_name_of(tool) for tool in items_of(listed, "tools")]
            return [tool for tool in tools if tool["name"] in allowed], checked_choice(listed.get("mode"))
        case _:
            raise refused("tool_choice chooses no function: this API passes on functions only.", "tool_choice")


def _name_of(tool: object) -> object:
    function = as_fields(tool, "a tool of tool_choice").get("function")
    return as_fields(function, "a tool of tool_choice").get("name")
