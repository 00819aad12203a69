"""Anthropic Messages as the loopback server speaks it.

Follows: the anthropic SDK 2.12 (``types/message_create_params.py``, ``lib/streaming``),
https://platform.claude.com/docs/en/api/messages and the versioning page beside it (read 2026-11-22).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dhenara_async.endpoint import Dialect
from dhenara_async.response import FinishReason
from dhenara_async.testing.dialects.anthropic_messages_blocks import check_block, check_hosted_pairs, check_tool_pairs
from dhenara_async.testing.dialects.anthropic_messages_rules import (
    check_caching,
    check_labels,
    check_output,
    check_tool_choice,
    check_tools,
)
from dhenara_async.testing.dialects.anthropic_messages_thinking import (
    check_continued_turn,
    check_signatures,
    check_thinking,
    generation,
    signature,
    transformations,
)
from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
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
    dump,
    fits,
    kind_of,
    objects,
    parsed_arguments,
    sse,
)
from dhenara_async.testing.script import ScriptedToolCall, canonical_json, words

_NEWEST_VERSION = "2026-10-21"
_VERSIONS = ("2023-06-01", _NEWEST_VERSION)
_FIELDS = {
    "model": (JsonKind.STRING,),
    "messages": (JsonKind.ARRAY,),
    "max_tokens": (JsonKind.INTEGER,),
    "cache_control": (JsonKind.OBJECT,),
    "container": (JsonKind.STRING, JsonKind.OBJECT),
    "diagnostics": (JsonKind.OBJECT,),
    "inference_geo": (JsonKind.STRING,),
    "metadata": (JsonKind.OBJECT,),
    "output_config": (JsonKind.OBJECT,),
    "service_tier": (JsonKind.STRING,),
    "speed": (JsonKind.STRING,),
    "stop_sequences": (JsonKind.ARRAY,),
    "stream": (JsonKind.BOOLEAN,),
    "system": (JsonKind.STRING, JsonKind.ARRAY),
    "thinking": (JsonKind.OBJECT,),
    "tool_choice": (JsonKind.OBJECT,),
    "tools": (JsonKind.ARRAY,),
    "user_profile_id": (JsonKind.STRING,),
    "workspace_id": (JsonKind.STRING,),
}
_BETA_FIELDS = {
    "billing_policy": (JsonKind.STRING, JsonKind.OBJECT),
    "compaction": (JsonKind.OBJECT,),
    "context_management": (JsonKind.OBJECT,),
    "fallback_credit_token": (JsonKind.STRING,),
    "fallbacks": (JsonKind.ARRAY,),
    "mcp_servers": (JsonKind.ARRAY,),
    "output_format": (JsonKind.OBJECT,),
    "thread": (JsonKind.STRING, JsonKind.OBJECT),
}
_SAMPLING = {"temperature": (JsonKind.NUMBER,), "top_p": (JsonKind.NUMBER,), "top_k": (JsonKind.INTEGER,)}
_ROLES = ("user", "assistant", "system")
_STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.CONTEXT_WINDOW: "model_context_window_exceeded",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.REFUSAL: "refusal",
    FinishReason.PAUSE: "pause_turn",
    FinishReason.OTHER: "compaction",
}
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# Models


def _takes_system_messages(model: str) -> bool:
    version = generation(model)
    return version >= (4, 8) if "opus" in model else version >= (5, 0) and not _is_sonnet_5(model)


def _is_sonnet_5(model: str) -> bool:
    return "sonnet" in model and generation(model) == (5, 0)


# Checks


def _version(arrived: Arrived) -> None:
    version = arrived.headers.get("anthropic-version")
    if version is None:
        raise Refusal("anthropic-version: header is required")
    if version not in _VERSIONS:
        raise Refusal(f'anthropic-version: "{version}" is not a valid version')


def _fields(arrived: Arrived) -> None:
    fields = {**_FIELDS, **_SAMPLING}
    if arrived.query.get("beta") == "true" or "anthropic-beta" in arrived.headers:
        fields |= _BETA_FIELDS
    newest = arrived.headers["anthropic-version"] == _NEWEST_VERSION
    for name in ("model", "messages", "max_tokens"):
        if name not in arrived.body:
            raise Refusal(f"{name}: Field required")
    for name, value in arrived.body.items():
        if name not in fields or (newest and name in _SAMPLING):
            raise Refusal(f"{name}: Extra inputs are not permitted")
        if not fits(value, fields[name]):
            raise Refusal(f"{name}: Input should be {' or '.join(fields[name])}, not {kind_of(value)}")


def _limits(arrived: Arrived) -> None:
    body = arrived.body
    most = body["max_tokens"]
    if isinstance(most, int) and most < 0:
        raise Refusal("max_tokens: Input should be greater than or equal to 0")
    if isinstance(body.get("temperature"), int | float) and not 0 <= float(str(body["temperature"])) <= 1:
        raise Refusal("temperature: range: 0..1")
    if generation(as_text(body["model"])) >= (4, 7):
        for name in _SAMPLING:
            if name in body and body[name] not in (1, 1.0):
                raise Refusal(f"{name}: only the default value is supported for this model")
    for index, stop in enumerate(as_array(body.get("stop_sequences"))):
        if not as_text(stop).strip():
            raise Refusal(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")


def _roles(arrived: Arrived) -> None:
    entries = as_array(arrived.body["messages"])
    if not entries:
        raise Refusal("messages: at least one message is required")
    for index, entry in enumerate(entries):
        message = as_object(entry)
        role = message.get("role")
        if role not in _ROLES:
            raise Refusal(f"messages.{index}.role: Input should be 'user', 'assistant' or 'system'")
        if role == "system":
            _check_system_message(arrived, index)
        extra = set(message) - {"role", "content"}
        if extra:
            raise Refusal(f"messages.{index}.{min(extra)}: Extra inputs are not permitted")
    if as_object(entries[0])["role"] != "user":
        raise Refusal('messages: first message must use the "user" role')


def _check_system_message(arrived: Arrived, index: int) -> None:
    """Check that a system message follows a user turn and precedes its answer."""
    if index == 0:
        raise Refusal("messages.0: use the top-level 'system' parameter for the initial system prompt")
    if not _takes_system_messages(as_text(arrived.body["model"])):
        raise Refusal(f"messages.{index}: role 'system' is not supported on this model")
    roles = [as_object(message).get("role") for message in as_array(arrived.body["messages"])]
    following = roles[index + 1] if index + 1 < len(roles) else "assistant"
    if roles[index - 1] not in {"user", "system"} or following not in {"assistant", "system"}:
        raise Refusal(f"messages.{index}: a 'system' message must follow a user turn and precede an assistant turn")


def _contents(arrived: Arrived) -> None:
    newest = arrived.headers["anthropic-version"] == _NEWEST_VERSION
    for index, message in objects(arrived.body["messages"]):
        content = message.get("content")
        where = f"messages.{index}"
        if isinstance(content, str):
            check_block(f"{where}.content", "user", {"type": "text", "text": content}, newest=newest)
            continue
        if not fits(content, (JsonKind.ARRAY,)):
            raise Refusal(f"{where}.content: Input should be a valid string or list")
        if not content:
            raise Refusal(f"{where}: all messages must have non-empty content except for the optional final assistant")
        for number, block in objects(as_array(content)):
            check_block(f"{where}.content.{number}", as_text(message["role"]), block, newest=newest)
    for number, block in objects(arrived.body.get("system")):
        check_block(f"system.{number}", "instructions", block, newest=newest)


def _tool_pairs(arrived: Arrived) -> None:
    messages = [message for _index, message in objects(arrived.body["messages"])]
    check_tool_pairs(messages)
    check_hosted_pairs(messages)


def _ends_with_user(arrived: Arrived) -> None:
    last = as_object(as_array(arrived.body["messages"])[-1])
    if last["role"] != "assistant":
        return
    final = as_object(next(reversed(as_array(last.get("content"))), None))
    if as_text(final.get("type")).endswith(("server_tool_use", "_tool_result")):
        return  # a paused turn is sent back unchanged, to be continued
    if generation(as_text(arrived.body["model"])) >= (4, 6):
        raise Refusal(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    text = _text(last.get("content"))
    if text != text.rstrip():
        raise Refusal("messages: final assistant content cannot end with trailing whitespace")


# Reading requests


def _read(arrived: Arrived) -> ParsedConversation:
    system = [text] if (text := _text(arrived.body.get("system"))) else []
    turns = TurnBuilder()
    for _index, message in objects(arrived.body.get("messages")):
        content = message.get("content")
        role = as_text(message.get("role"))
        if role == "system":
            system.append(_text(content))
            continue
        for _number, block in objects(content):
            if block.get("type") == "tool_result":
                turns.add("user", _text(block.get("content")))
        turns.add("assistant" if role == "assistant" else "user", _text(content))
        for _number, block in objects(content):
            if block.get("type") == "tool_use":
                turns.add("assistant", f"{as_text(block.get('name'))}({canonical_json(block.get('input'))})")
    return ParsedConversation(
        model=as_text(arrived.body.get("model")),
        stream=arrived.body.get("stream") is True,
        system="\n".join(system),
        turns=turns.turns(),
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(block.get("text")) for _index, block in objects(content) if block.get("type") == "text")


# Writing answers


def _usage(reply: Reply) -> dict[str, object]:
    """Build the usage; its input count excludes cached tokens, both read and written."""
    usage = reply.usage
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    counts: dict[str, object] = {
        "input_tokens": (usage.input_tokens or 0) - (read or 0) - (written or 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }
    by_age = {
        "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
        "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
    }
    if any(count is not None for count in by_age.values()):
        counts["cache_creation"] = {name: count or 0 for name, count in by_age.items()}
    if searches := usage.web_searches or len(reply.answer.web_searches):
        counts["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return {name: count for name, count in counts.items() if count is not None}


def _ending(reply: Reply) -> dict[str, object]:
    answer = reply.answer
    reason = _STOP_REASONS.get(answer.ending, "end_turn")
    if answer.stop_sequence is not None and answer.ending is FinishReason.STOP:
        reason = "stop_sequence"
    details = {"type": "refusal", "category": None, "explanation": answer.refusal or None}
    return {
        "stop_reason": reason,
        "stop_sequence": answer.stop_sequence,
        "stop_details": details if reason == "refusal" else None,
    }


def _message(reply: Reply, **fields: object) -> dict[str, object]:
    return {
        "model": reply.conversation.model,
        "id": reply.identifier("msg_01"),
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        **fields,
    }


def _failure(reply: Reply) -> Refusal:
    return Refusal(f"The model {reply.conversation.model} failed while it answered.", status=500)


def _plain(reply: Reply) -> object:
    reply = _with_forced_call(reply)
    answer = reply.answer
    if answer.ending is FinishReason.ERROR:
        raise _failure(reply)
    content: list[dict[str, object]] = []
    if answer.reasoning or answer.signature:
        thinking = _visible_thinking(reply)
        content.append({"type": "thinking", "thinking": thinking, "signature": signature(reply, thinking)})
    content += _search_blocks(reply)
    if answer.text:
        cited: dict[str, object] = {"citations": _citations(reply)} if answer.citations else {}
        content.append({"type": "text", "text": answer.text, **cited})
    for call in answer.tool_calls:
        arguments = parsed_arguments(call.arguments)
        content.append({"type": "tool_use", "id": call.call_id, "name": call.name, "input": arguments})
    return _message(reply, content=content, **_ending(reply), usage=_usage(reply), **transformations(reply.arrived))


def _with_forced_call(reply: Reply) -> Reply:
    """Turn scripted JSON text into a call of the tool that the request forces."""
    choice, answer = as_object(reply.arrived.body.get("tool_choice")), reply.answer
    kind = choice.get("type")
    names = [as_text(tool.get("name")) for _index, tool in objects(reply.arrived.body.get("tools"))]
    forced = as_text(choice.get("name")) if kind == "tool" else names[-1] if kind == "any" else ""
    if not forced or answer.tool_calls or not answer.text.startswith("{"):
        return reply
    call = ScriptedToolCall(call_id=reply.identifier("toolu_01"), name=forced, arguments=answer.text)
    return replace(reply, answer=replace(answer, text="", pieces=None, tool_calls=(call,)))


def _visible_thinking(reply: Reply) -> str:
    """Return the thinking; empty if the request omits its display."""
    hidden = as_object(reply.arrived.body.get("thinking")).get("display") == "omitted"
    return "" if hidden else reply.answer.reasoning


def _search_blocks(reply: Reply) -> Iterator[dict[str, object]]:
    """Yield each search and its results, the sources that the answer cites."""
    found = [
        {
            "type": "web_search_result",
            "url": citation.url or "",
            "title": citation.title or "",
            "page_age": None,
            "encrypted_content": reply.identifier("encrypted_", number),
        }
        for number, citation in enumerate(reply.answer.citations)
    ]
    for number, query in enumerate(reply.answer.web_searches):
        identifier = reply.identifier("srvtoolu_01", number)
        yield {"type": "server_tool_use", "id": identifier, "name": "web_search", "input": {"query": query}}
        yield {"type": "web_search_tool_result", "tool_use_id": identifier, "content": found}


def _citations(reply: Reply) -> list[dict[str, object]]:
    return [
        {
            "type": "web_search_result_location",
            "url": citation.url or "",
            "title": citation.title,
            "cited_text": citation.cited_text or "",
            "encrypted_index": reply.identifier("index_", number),
        }
        for number, citation in enumerate(reply.answer.citations)
    ]


def _stream(reply: Reply) -> Streamed:
    return Streamed("text/event-stream; charset=utf-8", _pieces(_with_forced_call(reply)))


def _pieces(reply: Reply) -> Iterator[StreamPiece]:
    usage = {**_usage(reply), "output_tokens": 1}
    usage.pop("output_tokens_details", None)
    yield _event("message_start", message=_message(reply, stop_details=None, usage=usage))
    for index, (start, deltas) in enumerate(_blocks(reply)):
        yield _event("content_block_start", index=index, content_block=start)
        if index == 0:
            yield _event("ping")
        for delta in deltas:
            yield _event("content_block_delta", token=delta["type"] != "signature_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    if reply.answer.ending is FinishReason.ERROR:
        body = as_object(_error(_failure(reply), reply.identifier("req_"), reply.arrived))
        yield StreamPiece(sse(body, event="error"))
        return
    ending: dict[str, object] = {"delta": _ending(reply), "usage": _usage(reply), **transformations(reply.arrived)}
    yield StreamPiece(sse({"type": "message_delta", **ending}, event="message_delta"))
    yield _event("message_stop")


def _blocks(reply: Reply) -> Iterator[tuple[dict[str, object], list[dict[str, object]]]]:
    """Yield the start of each content block, and its deltas."""
    answer = reply.answer
    deltas: list[dict[str, object]]
    if answer.reasoning or answer.signature:
        shown = _visible_thinking(reply)
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in words(shown)]
        if sealed := signature(reply, shown):
            deltas.append({"type": "signature_delta", "signature": sealed})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    for block in _search_blocks(reply):
        if block["type"] == "server_tool_use":
            yield {**block, "input": {}}, _input_deltas(dump(block["input"]).decode())
        else:
            yield block, []
    if answer.text:
        start: dict[str, object] = {"type": "text", "text": "", **({"citations": []} if answer.citations else {})}
        cited: list[dict[str, object]] = [{"type": "citations_delta", "citation": entry} for entry in _citations(reply)]
        yield start, [*({"type": "text_delta", "text": piece} for piece in answer.text_deltas()), *cited]
    for call in answer.tool_calls:
        start = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}}
        yield start, _input_deltas("" if call.arguments == "{}" else call.arguments)


def _input_deltas(arguments: str) -> list[dict[str, object]]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *words(arguments))]


def _event(kind: str, *, token: bool = False, **fields: object) -> StreamPiece:
    return StreamPiece(sse({"type": kind, **fields}, event=kind), token)


# Credentials and errors


def _credential(headers: Mapping[str, str]) -> str:
    return headers.get("x-api-key") or bearer(headers)


def _unauthorized(key: str) -> Refusal:
    return Refusal("invalid x-api-key" if key else "x-api-key header is required", status=401)


def _not_found(_method: str, _path: str) -> Refusal:
    return Refusal("Not Found", status=404)


def _error(refusal: Refusal, request_id: str, _arrived: Arrived) -> object:
    kind = refusal.type or _ERROR_TYPES.get(
        refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error"
    )
    error: dict[str, object] = {"type": kind, "message": refusal.message}
    if refusal.code is not None:
        error["details"] = {"error_code": refusal.code}
    return {"type": "error", "error": error, "request_id": request_id}


ANTHROPIC_MESSAGES = WireDialect(
    dialect=Dialect.ANTHROPIC_MESSAGES,
    request_id_header="request-id",
    credential=_credential,
    unauthorized=_unauthorized,
    not_found=_not_found,
    read=_read,
    rules=(
        _version,
        _fields,
        _limits,
        check_thinking,
        check_tools,
        check_tool_choice,
        check_output,
        check_labels,
        _roles,
        _contents,
        check_caching,
        _tool_pairs,
        _ends_with_user,
        check_continued_turn,
        check_signatures,
    ),
    plain=_plain,
    stream=_stream,
    error=_error,
)
