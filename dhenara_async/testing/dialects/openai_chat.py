"""The loopback server's OpenAI Chat Completions, for OpenAI and compatible hosts.

Follows: the openai SDK 3.54 (``types/chat``, ``lib/streaming/chat``),
https://platform.openai.com/docs/api-reference/chat and the references of the hosts (read 2026-11-22).
"""

from collections.abc import Iterable, Iterator
from typing import cast

from dhenara_async.endpoint import Dialect
from dhenara_async.response import FinishReason
from dhenara_async.testing.dialects.base import (
    Arrived,
    ParsedConversation,
    Refusal,
    Reply,
    Streamed,
    StreamPiece,
    TurnBuilder,
    WireDialect,
    as_array,
    as_object,
    as_text,
    bearer,
    objects,
    sse,
)
from dhenara_async.testing.dialects.openai_chat_rules import CHAT_RULES
from dhenara_async.testing.dialects.openai_errors import error_body, not_found, unauthorized
from dhenara_async.testing.script import ScriptedToolCall, words

_REASONING_FIELDS: dict[str, str] = dict.fromkeys(("groq", "openrouter", "together", "cerebras", "ollama"), "reasoning")
_FINISH = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_WINDOW: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
}

_USAGE_WITH_THE_END = frozenset({"mistral", "together"})
LOGPROB = -0.125
"""The natural logarithm of every token's probability here."""


# Reading requests


def _read(arrived: Arrived) -> ParsedConversation:
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
            called = as_object(call.get("function")) or as_object(call.get("custom"))
            arguments = as_text(called.get("arguments")) + as_text(called.get("input"))
            turns.add("assistant", f"{as_text(called.get('name'))}({arguments})")
    return ParsedConversation(
        model=as_text(arrived.body.get("model")),
        stream=arrived.body.get("stream") is True,
        system="\n".join(system),
        turns=turns.turns(),
    )


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(part.get("text")) + as_text(part.get("refusal")) for _index, part in objects(content))


# Writing answers


def _finish(reply: Reply) -> str:
    answer = reply.answer
    if answer.ending is FinishReason.REFUSAL and not answer.refusal:
        return "content_filter"
    provider = reply.arrived.provider
    if provider == "mistral" and answer.ending is FinishReason.CONTEXT_WINDOW:
        return "model_length"
    return _FINISH.get(answer.ending, "eos" if provider == "together" else "stop")


def _usage(reply: Reply) -> dict[str, object]:
    usage, provider = reply.usage, reply.arrived.provider
    into = {
        "cached_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "audio_tokens": usage.input_audio_tokens,
    }
    out = {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": usage.output_audio_tokens}
    counts: dict[str, object] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {name: count for name, count in into.items() if count is not None},
        "completion_tokens_details": {name: count for name, count in out.items() if count is not None},
    }
    if provider == "xai":  # this host counts reasoning separately
        counts["completion_tokens"] = (usage.output_tokens or 0) - (usage.reasoning_tokens or 0)
    if provider == "deepseek":
        del counts["prompt_tokens_details"]
        counts["prompt_cache_hit_tokens"] = usage.cache_read_tokens or 0
        counts["prompt_cache_miss_tokens"] = (usage.input_tokens or 0) - (usage.cache_read_tokens or 0)
    if provider == "openrouter":
        counts["cost"] = 0.00042
        if reply.answer.web_searches:
            counts["server_tool_use"] = {"web_search_requests": len(reply.answer.web_searches)}
    return counts


def _reasoning_field(reply: Reply) -> str | None:
    """Return the host's field for reasoning text; OpenAI itself has none."""
    provider = reply.arrived.provider
    return None if provider == "openai" else _REASONING_FIELDS.get(provider, "reasoning_content")


def _thoughts(reply: Reply, text: str, *, sealed: bool) -> dict[str, object]:
    """Build a piece of reasoning in the host's fields; ``sealed`` adds the opaque state at its end."""
    if reply.arrived.provider == "mistral":
        return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}], "closed": sealed}]}
    fields: dict[str, object] = {_reasoning_field(reply) or "": text} if text else {}
    if reply.arrived.provider == "openrouter":
        detail: dict[str, object] = {"type": "reasoning.text", "format": "unknown", "index": 0}
        seal = {"signature": reply.signature()} if sealed and reply.signature() else {}
        fields["reasoning_details"] = [{**detail, **({"text": text} if text else {}), **seal}]
    return fields


def _annotations(reply: Reply) -> list[dict[str, object]]:
    text = reply.answer.text
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": cited.url,
                "title": cited.title or "",
                "start_index": cited.start or 0,
                "end_index": len(text) if cited.end is None else cited.end,
            },
        }
        for cited in reply.answer.citations
        if cited.url is not None
    ]


def _logprobs(reply: Reply, tokens: Iterable[str]) -> dict[str, object] | None:
    """Build log probabilities, if requested: the same for every token, with the token itself as its alternative."""
    if not reply.arrived.body.get("logprobs"):
        return None
    entries = [{"token": token, "bytes": list(token.encode()), "logprob": LOGPROB} for token in tokens]
    beside = bool(reply.arrived.body.get("top_logprobs"))
    content = [{**entry, "top_logprobs": [entry] if beside else []} for entry in entries]
    return {"content": content, "refusal": None}


def _failure(reply: Reply) -> Refusal:
    return Refusal(f"The model {reply.conversation.model} failed while it answered.", status=500)


def _count(reply: Reply) -> int:
    asked = reply.arrived.body.get("n")
    return asked if isinstance(asked, int) and asked > 0 else 1


def _plain(reply: Reply) -> object:
    if reply.answer.ending is FinishReason.ERROR:
        raise _failure(reply)
    logprobs = _logprobs(reply, reply.answer.text_deltas())
    return {
        "id": reply.identifier("chatcmpl-"),
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.conversation.model,
        "choices": [
            {"index": index, "message": _message(reply), "logprobs": logprobs, "finish_reason": _finish(reply)}
            for index in range(_count(reply))
        ],
        "usage": _usage(reply),
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }


def _message(reply: Reply) -> dict[str, object]:
    answer = reply.answer
    message: dict[str, object] = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": answer.refusal or None,
        "annotations": _annotations(reply),
    }
    if answer.reasoning and _reasoning_field(reply):
        thoughts = _thoughts(reply, answer.reasoning, sealed=True)
        if "content" in thoughts and answer.text:
            thoughts["content"] = [*as_array(thoughts["content"]), {"type": "text", "text": answer.text}]
        message |= thoughts
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    return message


def _call(call: ScriptedToolCall) -> dict[str, object]:
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _stream(reply: Reply) -> Streamed:
    return Streamed("text/event-stream; charset=utf-8", _pieces(reply))


def _pieces(reply: Reply) -> Iterator[StreamPiece]:
    provider = reply.arrived.provider
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

    def chunk(index: int, delta: dict[str, object], finish: str | None = None, *, token: bool = False) -> StreamPiece:
        logprobs = _logprobs(reply, [as_text(delta["content"])]) if token and "content" in delta else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        usage: dict[str, object] = {"usage": _usage(reply)} if finish and provider in _USAGE_WITH_THE_END else {}
        extra = {"x_groq": {"id": reply.identifier("req_"), "usage": _usage(reply)}} if finish else {}
        return StreamPiece(sse({**head, "choices": [choice], **usage, **(extra if provider == "groq" else {})}), token)

    if provider == "openrouter":
        yield StreamPiece(b": OPENROUTER PROCESSING\n\n")
    for index in range(_count(reply)):
        yield chunk(index, {"role": "assistant", "content": None if reply.answer.tool_calls else "", "refusal": None})
        for delta in _deltas(reply):
            yield chunk(index, delta, token=True)
        if reply.answer.ending is FinishReason.ERROR:
            yield StreamPiece(sse(_error(_failure(reply), "", reply.arrived)))
            return
        yield chunk(index, {}, _finish(reply))
    if include_usage or provider == "openrouter":
        yield StreamPiece(sse({**head, "choices": [], "usage": _usage(reply)}))
    yield StreamPiece(b"data: [DONE]\n\n")


def _deltas(reply: Reply) -> Iterator[dict[str, object]]:
    answer = reply.answer
    shown = words(answer.reasoning) if _reasoning_field(reply) else ()
    for number, piece in enumerate(shown, start=1):
        yield _thoughts(reply, piece, sealed=number == len(shown))
    for piece in answer.text_deltas():
        yield {"content": piece}
    if answer.citations:
        yield {"annotations": _annotations(reply)}
    for piece in words(answer.refusal):
        yield {"refusal": piece}
    for index, call in enumerate(answer.tool_calls):
        if reply.arrived.provider == "mistral":
            yield {"tool_calls": [{"index": index, **_call(call)}]}  # this host sends a call in one delta
            continue
        first = {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield {"tool_calls": [{"index": index, **first}]}
        for piece in words(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _error(refusal: Refusal, request_id: str, arrived: Arrived) -> object:
    """Build the error body: most hosts use OpenAI's, two have its members at the top level."""
    body = cast("dict[str, dict[str, object]]", error_body(refusal, request_id, arrived))
    match arrived.provider:
        case "cerebras":
            return body["error"]
        case "mistral":
            return {"object": "error", **body["error"], "raw_status_code": refusal.status}
        case "openrouter":
            return {"error": {**body["error"], "code": refusal.status}}
        case _:
            return body


OPENAI_CHAT = WireDialect(
    dialect=Dialect.OPENAI_CHAT,
    request_id_header="x-request-id",
    credential=bearer,
    unauthorized=unauthorized,
    not_found=not_found,
    read=_read,
    rules=CHAT_RULES,
    plain=_plain,
    stream=_stream,
    error=_error,
)
