"""OpenAI Chat Completions as the loopback server speaks it, for OpenAI and for those that copy it.

Follows: the openai SDK 3.54 (``types/chat``, ``lib/streaming/chat``) and
https://platform.openai.com/docs/api-reference/chat (read 2026-11-22).
"""

from collections.abc import Iterator

from dhenara_async.endpoint import Dialect
from dhenara_async.response import FinishReason
from dhenara_async.testing.dialects.base import (
    Arrived,
    Conversation,
    Kind,
    Piece,
    Refusal,
    Reply,
    Streamed,
    TurnBuilder,
    WireDialect,
    as_array,
    as_object,
    as_text,
    bearer,
    fits,
    objects,
    sse,
)
from dhenara_async.testing.dialects.openai_errors import (
    check_fields,
    check_kind,
    check_length,
    error_body,
    invalid_value,
    not_found,
    reasons,
    takes_sampling,
    takes_stop,
    unauthorized,
    unsupported,
)
from dhenara_async.testing.script import Answer, ScriptedToolCall, words

_FIELDS = {
    "model": (Kind.STRING,),
    "messages": (Kind.ARRAY,),
    "audio": (Kind.OBJECT,),
    "frequency_penalty": (Kind.NUMBER,),
    "function_call": (Kind.STRING, Kind.OBJECT),
    "functions": (Kind.ARRAY,),
    "logit_bias": (Kind.OBJECT,),
    "logprobs": (Kind.BOOLEAN,),
    "max_completion_tokens": (Kind.INTEGER,),
    "max_tokens": (Kind.INTEGER,),
    "metadata": (Kind.OBJECT,),
    "modalities": (Kind.ARRAY,),
    "moderation": (Kind.OBJECT,),
    "n": (Kind.INTEGER,),
    "parallel_tool_calls": (Kind.BOOLEAN,),
    "prediction": (Kind.OBJECT,),
    "presence_penalty": (Kind.NUMBER,),
    "prompt_cache_key": (Kind.STRING,),
    "prompt_cache_options": (Kind.OBJECT,),
    "prompt_cache_retention": (Kind.STRING,),
    "reasoning_effort": (Kind.STRING,),
    "response_format": (Kind.OBJECT,),
    "safety_identifier": (Kind.STRING,),
    "seed": (Kind.INTEGER,),
    "service_tier": (Kind.STRING,),
    "stop": (Kind.STRING, Kind.ARRAY),
    "store": (Kind.BOOLEAN,),
    "stream": (Kind.BOOLEAN,),
    "stream_options": (Kind.OBJECT,),
    "temperature": (Kind.NUMBER,),
    "tool_choice": (Kind.STRING, Kind.OBJECT),
    "tools": (Kind.ARRAY,),
    "top_logprobs": (Kind.INTEGER,),
    "top_p": (Kind.NUMBER,),
    "user": (Kind.STRING,),
    "verbosity": (Kind.STRING,),
    "web_search_options": (Kind.OBJECT,),
}
# What the hosts that copy this dialect take beyond it; OpenAI itself refuses each of these.
_FIELDS_ELSEWHERE = {
    **_FIELDS,
    "chat_template_kwargs": (Kind.OBJECT,),
    "clear_thinking": (Kind.BOOLEAN,),
    "include_reasoning": (Kind.BOOLEAN,),
    "min_p": (Kind.NUMBER,),
    "models": (Kind.ARRAY,),
    "plugins": (Kind.ARRAY,),
    "preset": (Kind.STRING,),
    "prompt_mode": (Kind.STRING,),
    "provider": (Kind.OBJECT,),
    "random_seed": (Kind.INTEGER,),
    "reasoning": (Kind.OBJECT,),
    "reasoning_format": (Kind.STRING,),
    "repetition_penalty": (Kind.NUMBER,),
    "safe_prompt": (Kind.BOOLEAN,),
    "thinking": (Kind.OBJECT,),
    "top_k": (Kind.INTEGER,),
    "transforms": (Kind.ARRAY,),
    "usage": (Kind.OBJECT,),
}
_ROLES = ("developer", "system", "user", "assistant", "tool")
_PARTS = {
    "developer": ("text",),
    "system": ("text",),
    "tool": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
}
_SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs")
_RANGES = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
_REASONING_FIELDS: dict[str, str] = dict.fromkeys(("groq", "openrouter", "together", "cerebras", "ollama"), "reasoning")
_FINISH = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_WINDOW: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
}


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
        check_kind(f"messages[{index}]", message, (Kind.OBJECT,))
        role = as_object(message).get("role")
        if role is None:
            param = f"messages[{index}].role"
            raise Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
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
        check_kind(param, content, (Kind.STRING, Kind.ARRAY))
        if fits(content, (Kind.ARRAY,)):
            _check_parts(param, as_text(message["role"]), as_array(content))


def _check_parts(param: str, role: str, parts: list[object]) -> None:
    if not parts:
        raise Refusal(f"Invalid '{param}': empty array.", code="empty_array", param=param)
    for index, entry in enumerate(parts):
        check_kind(f"{param}[{index}]", entry, (Kind.OBJECT,))
        part = as_object(entry)
        kind = part.get("type")
        if kind not in _PARTS[role]:
            raise invalid_value(f"{param}[{index}].type", kind, _PARTS[role])
        needed = {"image_url": Kind.OBJECT, "file": Kind.OBJECT, "input_audio": Kind.OBJECT}.get(
            as_text(kind), Kind.STRING
        )
        check_kind(f"{param}[{index}].{kind}", part.get(as_text(kind)), (needed,))
        if kind == "image_url":
            check_kind(f"{param}[{index}].image_url.url", as_object(part["image_url"]).get("url"), (Kind.STRING,))


def _tool_pairs(arrived: Arrived) -> None:
    open_ids: list[str] = []
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
        open_ids = _call_ids(index, message)
    _check_answered(open_ids, len(as_array(arrived.body["messages"])))


def _check_answered(open_ids: list[str], index: int) -> None:
    if open_ids:
        raise Refusal(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_ids)}",
            param=f"messages.[{index}].role",
        )


def _call_ids(index: int, message: dict[str, object]) -> list[str]:
    calls = message.get("tool_calls")
    if calls is None:
        return []
    param = f"messages[{index}].tool_calls"
    if message["role"] != "assistant":
        raise Refusal(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
    if not as_array(calls):
        raise Refusal(f"Invalid '{param}': empty array.", code="empty_array", param=param)
    ids: list[str] = []
    for number, call in objects(calls):
        check_kind(f"{param}[{number}].id", call.get("id"), (Kind.STRING,))
        check_length(f"{param}[{number}].id", as_text(call.get("id")), 40)
        function = as_object(call.get("function"))
        check_kind(f"{param}[{number}].function.name", function.get("name"), (Kind.STRING,))
        check_kind(f"{param}[{number}].function.arguments", function.get("arguments"), (Kind.STRING,))
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
    model = as_text(body["model"])
    if not reasons(model):
        return
    if body.get("max_tokens") is not None:
        raise unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
    if body.get("stop") is not None and not takes_stop(model):
        raise unsupported("stop")
    for name in _SAMPLING:
        if body.get(name) is not None and not takes_sampling(model, body.get("reasoning_effort")):
            raise unsupported(name)


# What a request says


def _read(arrived: Arrived) -> Conversation:
    system: list[str] = []
    turns = TurnBuilder()
    for _index, message in objects(arrived.body.get("messages")):
        role = message.get("role")
        text = _content_text(message.get("content")) + as_text(message.get("refusal"))
        if role in {"system", "developer"}:
            system.append(text)
            continue
        turns.add("assistant" if role == "assistant" else "user", text)
        for _number, call in objects(message.get("tool_calls")):
            function = as_object(call.get("function"))
            turns.add("assistant", f"{as_text(function.get('name'))}({as_text(function.get('arguments'))})")
    return Conversation(
        model=as_text(arrived.body.get("model")),
        stream=arrived.body.get("stream") is True,
        system="\n".join(system),
        turns=turns.turns(),
    )


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(part.get("text")) + as_text(part.get("refusal")) for _index, part in objects(content))


# What an answer looks like


def _finish(answer: Answer) -> str:
    if answer.ending is FinishReason.REFUSAL and not answer.refusal:
        return "content_filter"
    return _FINISH.get(answer.ending, "stop")


def _usage(reply: Reply) -> dict[str, object]:
    usage = reply.usage
    prompt = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {name: count for name, count in prompt.items() if count is not None},
        "completion_tokens_details": (
            {} if usage.reasoning_tokens is None else {"reasoning_tokens": usage.reasoning_tokens}
        ),
    }


def _reasoning_field(reply: Reply) -> str | None:
    """Where this host shows thinking: OpenAI itself shows none here."""
    provider = reply.arrived.provider
    return None if provider == "openai" else _REASONING_FIELDS.get(provider, "reasoning_content")


def _failure(reply: Reply) -> Refusal:
    return Refusal(f"The model {reply.conversation.model} failed while it answered.", status=500)


def _plain(reply: Reply) -> object:
    answer = reply.answer
    if answer.ending is FinishReason.ERROR:
        raise _failure(reply)
    message: dict[str, object] = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": answer.refusal or None,
        "annotations": [],
    }
    field = _reasoning_field(reply)
    if field and answer.reasoning:
        message[field] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    return {
        "id": reply.identifier("chatcmpl-"),
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.conversation.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}],
        "usage": _usage(reply),
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }


def _call(call: ScriptedToolCall) -> dict[str, object]:
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _stream(reply: Reply) -> Streamed:
    return Streamed("text/event-stream; charset=utf-8", _pieces(reply))


def _pieces(reply: Reply) -> Iterator[Piece]:
    include_usage = as_object(reply.arrived.body.get("stream_options")).get("include_usage") is True
    head: dict[str, object] = {
        "id": reply.identifier("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": reply.conversation.model,
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }
    if include_usage:
        head["usage"] = None

    def chunk(delta: dict[str, object], finish: str | None = None, *, token: bool = False) -> Piece:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return Piece(sse({**head, "choices": [choice]}), token)

    yield chunk({"role": "assistant", "content": None if reply.answer.tool_calls else "", "refusal": None})
    for delta in _deltas(reply):
        yield chunk(delta, token=True)
    if reply.answer.ending is FinishReason.ERROR:
        yield Piece(sse(error_body(_failure(reply), "", reply.arrived)))
        return
    yield chunk({}, _finish(reply.answer))
    if include_usage:
        yield Piece(sse({**head, "choices": [], "usage": _usage(reply)}))
    yield Piece(b"data: [DONE]\n\n")


def _deltas(reply: Reply) -> Iterator[dict[str, object]]:
    answer = reply.answer
    field = _reasoning_field(reply)
    for piece in words(answer.reasoning) if field else ():
        yield {field or "": piece}
    for piece in answer.text_deltas():
        yield {"content": piece}
    for piece in words(answer.refusal):
        yield {"refusal": piece}
    for index, call in enumerate(answer.tool_calls):
        first = {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield {"tool_calls": [{"index": index, **first}]}
        for piece in words(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


OPENAI_CHAT = WireDialect(
    dialect=Dialect.OPENAI_CHAT,
    request_id_header="x-request-id",
    credential=bearer,
    unauthorized=unauthorized,
    not_found=not_found,
    read=_read,
    rules=(_fields, _roles, _contents, _tool_pairs, _limits, _reasoning_models),
    plain=_plain,
    stream=_stream,
    error=error_body,
)
