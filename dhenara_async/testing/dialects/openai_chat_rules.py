"""The request checks of Chat Completions, at OpenAI and at each compatible host.

Follows: the openai SDK 3.54 (``types/chat``), https://platform.openai.com/docs/api-reference/chat, and refusals
observed at the hosts (read 2026-11-22).
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
    fits,
    objects,
)
from dhenara_async.testing.dialects.openai_chat_hosts import check_host
from dhenara_async.testing.dialects.openai_errors import (
    check_fields,
    check_kind,
    check_length,
    checked_name,
    invalid_value,
    missing,
    reasons,
    schema_problem,
    takes_sampling,
    takes_stop,
    unknown,
    unsupported,
)

_FIELDS = {
    "model": (JsonKind.STRING,),
    "messages": (JsonKind.ARRAY,),
    "audio": (JsonKind.OBJECT,),
    "frequency_penalty": (JsonKind.NUMBER,),
    "function_call": (JsonKind.STRING, JsonKind.OBJECT),
    "functions": (JsonKind.ARRAY,),
    "logit_bias": (JsonKind.OBJECT,),
    "logprobs": (JsonKind.BOOLEAN,),
    "max_completion_tokens": (JsonKind.INTEGER,),
    "max_tokens": (JsonKind.INTEGER,),
    "metadata": (JsonKind.OBJECT,),
    "modalities": (JsonKind.ARRAY,),
    "moderation": (JsonKind.OBJECT,),
    "n": (JsonKind.INTEGER,),
    "parallel_tool_calls": (JsonKind.BOOLEAN,),
    "prediction": (JsonKind.OBJECT,),
    "presence_penalty": (JsonKind.NUMBER,),
    "prompt_cache_key": (JsonKind.STRING,),
    "prompt_cache_options": (JsonKind.OBJECT,),
    "prompt_cache_retention": (JsonKind.STRING,),
    "reasoning_effort": (JsonKind.STRING,),
    "response_format": (JsonKind.OBJECT,),
    "safety_identifier": (JsonKind.STRING,),
    "seed": (JsonKind.INTEGER,),
    "service_tier": (JsonKind.STRING,),
    "stop": (JsonKind.STRING, JsonKind.ARRAY),
    "store": (JsonKind.BOOLEAN,),
    "stream": (JsonKind.BOOLEAN,),
    "stream_options": (JsonKind.OBJECT,),
    "temperature": (JsonKind.NUMBER,),
    "tool_choice": (JsonKind.STRING, JsonKind.OBJECT),
    "tools": (JsonKind.ARRAY,),
    "top_logprobs": (JsonKind.INTEGER,),
    "top_p": (JsonKind.NUMBER,),
    "user": (JsonKind.STRING,),
    "verbosity": (JsonKind.STRING,),
    "web_search_options": (JsonKind.OBJECT,),
}
# Extra fields of the compatible hosts; OpenAI itself refuses them.
_FIELDS_ELSEWHERE = {
    **_FIELDS,
    "chat_template_kwargs": (JsonKind.OBJECT,),
    "clear_thinking": (JsonKind.BOOLEAN,),
    "include_reasoning": (JsonKind.BOOLEAN,),
    "min_p": (JsonKind.NUMBER,),
    "models": (JsonKind.ARRAY,),
    "plugins": (JsonKind.ARRAY,),
    "preset": (JsonKind.STRING,),
    "prompt_mode": (JsonKind.STRING,),
    "provider": (JsonKind.OBJECT,),
    "random_seed": (JsonKind.INTEGER,),
    "reasoning": (JsonKind.OBJECT,),
    "reasoning_format": (JsonKind.STRING,),
    "repetition_penalty": (JsonKind.NUMBER,),
    "safe_prompt": (JsonKind.BOOLEAN,),
    "thinking": (JsonKind.OBJECT,),
    "top_k": (JsonKind.INTEGER,),
    "transforms": (JsonKind.ARRAY,),
    "usage": (JsonKind.OBJECT,),
}
_ROLES = ("developer", "system", "user", "assistant", "tool")
_PARTS = {
    "developer": ("text",),
    "system": ("text",),
    "tool": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
}
_PARTS_ELSEWHERE = {
    **_PARTS,
    "user": ("text", "image_url"),
    "assistant": ("text",),
}
_PARTS_AT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "openai": _PARTS,
    "openai_compatible": _PARTS,
    "openrouter": {**_PARTS, "assistant": ("text",)},
    "vllm": {**_PARTS_ELSEWHERE, "user": ("text", "image_url", "input_audio")},
    "together": {**_PARTS_ELSEWHERE, "user": ("text", "image_url", "video_url")},
    "mistral": {
        **_PARTS_ELSEWHERE,
        "user": ("text", "image_url", "input_audio", "document_url"),
        "assistant": ("text", "thinking"),
    },
}
_KINDS = {
    "image_url": JsonKind.OBJECT,
    "video_url": JsonKind.OBJECT,
    "file": JsonKind.OBJECT,
    "input_audio": JsonKind.OBJECT,
    "thinking": JsonKind.ARRAY,
}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_CHOICES = ("none", "auto", "required")
_FORMATS = ("text", "json_object", "json_schema")
_MAX_TOOLS = 128
_SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs")
_RANGES = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
# Checks


def _fields(arrived: Arrived) -> None:
    check_fields(
        arrived, _FIELDS if arrived.provider == "openai" else _FIELDS_ELSEWHERE, required=("model", "messages")
    )
    if not as_array(arrived.body["messages"]):
        raise Refusal(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            code="empty_array",
            param="messages",
        )


def _roles(arrived: Arrived) -> None:
    for index, message in enumerate(as_array(arrived.body["messages"])):
        check_kind(f"messages[{index}]", message, (JsonKind.OBJECT,))
        role = as_object(message).get("role")
        if role is None:
            param = f"messages[{index}].role"
            raise missing(param)
        if role not in _ROLES:
            raise invalid_value(f"messages[{index}].role", role, _ROLES)


def _contents(arrived: Arrived) -> None:
    for index, message in objects(arrived.body["messages"]):
        param = f"messages[{index}].content"
        content = message.get("content")
        if content is None:
            if message["role"] != "assistant" or not (message.get("tool_calls") or message.get("refusal")):
                raise Refusal(
                    f"Invalid value for 'content': expected a string, got null. ({param})",
                    param=param,
                )
            continue
        check_kind(param, content, (JsonKind.STRING, JsonKind.ARRAY))
        if fits(content, (JsonKind.ARRAY,)):
            _check_parts(arrived.provider, param, as_text(message["role"]), as_array(content))


def _check_parts(provider: str, param: str, role: str, parts: list[object]) -> None:
    if not parts:
        raise Refusal(f"Invalid '{param}': empty array.", code="empty_array", param=param)
    supported = _PARTS_AT.get(provider, _PARTS_ELSEWHERE)[role]
    for index, entry in enumerate(parts):
        check_kind(f"{param}[{index}]", entry, (JsonKind.OBJECT,))
        part = as_object(entry)
        kind = as_text(part.get("type"))
        if kind not in supported:
            raise invalid_value(f"{param}[{index}].type", part.get("type"), supported)
        as_base64 = kind == "input_audio" and provider == "mistral"
        needed = JsonKind.STRING if as_base64 else _KINDS.get(kind, JsonKind.STRING)
        check_kind(f"{param}[{index}].{kind}", part.get(kind), (needed,))
        if kind in ("image_url", "video_url"):
            check_kind(f"{param}[{index}].{kind}.url", as_object(part[kind]).get("url"), (JsonKind.STRING,))
        elif kind == "input_audio" and not as_base64:
            form = as_object(part["input_audio"]).get("format")
            if form not in ("wav", "mp3"):
                raise invalid_value(f"{param}[{index}].input_audio.format", form, ("wav", "mp3"))
        elif kind == "file":
            _check_file(provider, f"{param}[{index}].file", as_object(part["file"]))


def _check_file(provider: str, param: str, file: dict[str, object]) -> None:
    if file.get("file_id") is not None:
        return
    if not file.get("file_data"):
        raise missing(f"{param}.file_id")
    if not as_text(file["file_data"]).startswith("data:") and provider != "openrouter":
        raise Refusal(
            f"Invalid '{param}.file_data'. Expected a base64-encoded data URL with an application/pdf MIME type.",
            code="invalid_value",
            param=f"{param}.file_data",
        )


def _tool_pairs(arrived: Arrived) -> None:
    open_ids: list[str] = []
    longest = 40 if arrived.provider == "openai" else 64
    for index, message in objects(arrived.body["messages"]):
        if message["role"] == "tool":
            call_id = as_text(message.get("tool_call_id"))
            if call_id not in open_ids:
                raise Refusal(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                    "'tool_calls'.",
                    param=f"messages[{index}].role",
                )
            open_ids.remove(call_id)
            continue
        _check_answered(open_ids, index)
        open_ids = _call_ids(index, message, longest)
    _check_answered(open_ids, len(as_array(arrived.body["messages"])))


def _check_answered(open_ids: list[str], index: int) -> None:
    if open_ids:
        raise Refusal(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_ids)}",
            param=f"messages.[{index}].role",
        )


def _call_ids(index: int, message: dict[str, object], longest: int) -> list[str]:
    calls = message.get("tool_calls")
    if calls is None:
        return []
    param = f"messages[{index}].tool_calls"
    if message["role"] != "assistant":
        raise unknown(param)
    if not as_array(calls):
        raise Refusal(f"Invalid '{param}': empty array.", code="empty_array", param=param)
    ids: list[str] = []
    for number, call in objects(calls):
        check_kind(f"{param}[{number}].id", call.get("id"), (JsonKind.STRING,))
        check_length(f"{param}[{number}].id", as_text(call.get("id")), longest)
        kind, text = ("custom", "input") if call.get("type") == "custom" else ("function", "arguments")
        fields = as_object(call.get(kind))
        checked_name(f"{param}[{number}].{kind}.name", fields.get("name"))
        check_kind(f"{param}[{number}].{kind}.{text}", fields.get(text), (JsonKind.STRING,))
        ids.append(as_text(call.get("id")))
    return ids


def _limits(arrived: Arrived) -> None:
    body = arrived.body
    stop = as_array(body.get("stop"))
    if len(stop) > 4:
        raise Refusal(
            f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length "
            f"{len(stop)} instead.",
            code="array_above_max_length",
            param="stop",
        )
    for name, (lowest, highest) in _RANGES.items():
        value = body.get(name)
        if isinstance(value, int | float) and not lowest <= value <= highest:
            raise Refusal(
                f"Invalid '{name}': decimal out of range. Expected a value between {lowest} and {highest}, but got "
                f"{value} instead.",
                code="decimal_out_of_range",
                param=name,
            )
    if body.get("stream_options") is not None and body.get("stream") is not True:
        raise Refusal(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise Refusal("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")


def _reasoning_models(arrived: Arrived) -> None:
    body = arrived.body
    model, effort = as_text(body["model"]), body.get("reasoning_effort")
    if arrived.provider == "openai" and effort is not None and effort not in _EFFORTS:
        raise invalid_value("reasoning_effort", effort, _EFFORTS)
    if not reasons(model):
        return
    if arrived.provider == "openai" and not _calls(model, effort) and _functions(arrived):
        raise Refusal(
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. To use "
            "function tools, use /v1/responses or set reasoning_effort to 'none'.",
            param="reasoning_effort",
        )
    if body.get("max_tokens") is not None:
        raise unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
    if body.get("stop") is not None and not takes_stop(model):
        raise unsupported("stop")
    for name in _SAMPLING:
        if body.get(name) is not None and not takes_sampling(model, effort):
            raise unsupported(name)


def _calls(model: str, effort: object) -> bool:
    """Whether a reasoning model can call functions in this dialect; newer ones cannot while they reason."""
    if re.match(r"o\d|gpt-5(-|$)|gpt-5\.[123](-|$)", model):
        return True
    return effort is None if re.match(r"gpt-5\.[45](-|$)", model) else effort == "none"


def _functions(arrived: Arrived) -> list[str]:
    tools = [tool for _index, tool in objects(arrived.body.get("tools"))]
    return [as_text(as_object(tool.get("function")).get("name")) for tool in tools if tool.get("type") == "function"]


def _tools(arrived: Arrived) -> None:
    tools = arrived.body.get("tools")
    for field in ("tool_choice", "parallel_tool_calls"):
        if tools is None and arrived.body.get(field) is not None and arrived.provider == "openai":
            raise Refusal(
                f"Invalid value for '{field}': '{field}' is only allowed when 'tools' are specified.", param=field
            )
    if tools is not None and not 1 <= len(as_array(tools)) <= _MAX_TOOLS:
        raise Refusal(f"Invalid 'tools': expected an array with 1 to {_MAX_TOOLS} entries.", param="tools")
    for index, tool in objects(tools):
        kind = tool.get("type")
        if kind == "function":
            _check_function(f"tools[{index}].function", tool.get("function"))
        elif kind != "custom" or arrived.provider != "openai":
            raise invalid_value(f"tools[{index}].type", kind, ("function", "custom"))
    _check_choice(arrived)


def _check_function(param: str, value: object) -> None:
    check_kind(param, value, (JsonKind.OBJECT,))
    function = as_object(value)
    for field in function:
        if field not in {"name", "description", "parameters", "strict"}:
            raise unknown(f"{param}.{field}")
    name = checked_name(f"{param}.name", function.get("name"))
    if function.get("parameters") is not None:
        check_kind(f"{param}.parameters", function["parameters"], (JsonKind.OBJECT,))
        problem = schema_problem(as_object(function["parameters"]), strict=function.get("strict") is True)
        if problem is not None:
            raise Refusal(
                f"Invalid schema for function '{name}': {problem}",
                code="invalid_function_parameters",
                param=f"{param}.parameters",
            )


def _check_choice(arrived: Arrived) -> None:
    choice = arrived.body.get("tool_choice")
    words = (*_CHOICES, "any") if arrived.provider == "mistral" else _CHOICES
    if isinstance(choice, str) and choice not in words:
        raise invalid_value("tool_choice", choice, words)
    named = as_object(choice)
    if named.get("type") == "function":
        name = as_object(named.get("function")).get("name")
        if name not in _functions(arrived):
            raise Refusal(
                f"Invalid value for 'tool_choice': no function named '{name}' was specified in the 'tools' parameter.",
                param="tool_choice",
            )


def _response_format(arrived: Arrived) -> None:
    wanted = as_object(arrived.body.get("response_format"))
    if not wanted:
        return
    kind = wanted.get("type")
    formats = _FORMATS[:2] if arrived.provider == "deepseek" else _FORMATS
    if kind not in formats:
        raise invalid_value("response_format.type", kind, formats)
    if kind == "json_object" and b"json" not in dump(arrived.body["messages"]).lower():
        raise Refusal(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )
    if kind == "json_schema":
        param = "response_format.json_schema"
        check_kind(param, wanted.get("json_schema"), (JsonKind.OBJECT,))
        json_schema = as_object(wanted["json_schema"])
        name = checked_name(f"{param}.name", json_schema.get("name"))
        check_kind(f"{param}.schema", json_schema.get("schema"), (JsonKind.OBJECT,))
        problem = schema_problem(as_object(json_schema["schema"]), strict=json_schema.get("strict") is True)
        if problem is not None:
            raise Refusal(
                f"Invalid schema for response_format '{name}': {problem}",
                code="invalid_json_schema",
                param="response_format",
            )


CHAT_RULES: tuple[Rule, ...] = (
    _fields,
    _roles,
    _contents,
    check_host,
    _tool_pairs,
    _tools,
    _response_format,
    _limits,
    _reasoning_models,
)
