"""Reads the values in Messages API answers: blocks in any spelling, token counts, citations, failures.

Gateways in front of other models keep those models' spelling. It is normalized here, so that the decoder only sees the
API's own blocks.

Source: the types of the ``anthropic`` package 2.12 (read 2026-11-22)
"""

from collections.abc import Mapping, Sequence
from typing import cast

from dhenara_async.drivers.base import (
    JsonObject,
    arguments_object,
    arguments_text,
    as_count,
    as_object,
    as_text,
    dumped,
    is_object,
)
from dhenara_async.drivers.failures import api_error, error_fields, error_number
from dhenara_async.errors import APIError
from dhenara_async.messages.messages import Citation
from dhenara_async.response import FinishReason
from dhenara_async.tools.declarations import HostedToolType
from dhenara_async.usage.tokens import Usage

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.CONTEXT_WINDOW,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
}
_FOREIGN_FINISH = {
    **dict.fromkeys(("stop", "eos", "completed", "complete", "finish"), FinishReason.STOP),
    **dict.fromkeys(("length", "max_output_tokens", "incomplete", "model_length"), FinishReason.LENGTH),
    **dict.fromkeys(("tool_calls", "function_call", "tool_call"), FinishReason.TOOL_CALLS),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "guardrail_intervened", "safety"), FinishReason.CONTENT_FILTER
    ),
    "error": FinishReason.ERROR,
}
_ANY_FINISH = _FOREIGN_FINISH | _FINISH
FINISH: Mapping[str, FinishReason] = _ANY_FINISH | {word.upper(): reason for word, reason in _ANY_FINISH.items()}
"""Finish reasons by the API's stop reason, and by those of other models behind gateways."""

# By the name in ``server_tool_use``, which a result's type repeats before ``_tool_result``.
_HOSTED: Mapping[str, HostedToolType] = {
    "web_search": "web_search",
    "web_fetch": "url_context",
    "code_execution": "code_execution",
    "bash_code_execution": "code_execution",
    "text_editor_code_execution": "code_execution",
}

_STATUS_BY_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


# ---------------------------------------------------------------------------------------------------- blocks

_TEXTS = frozenset({"output_text", "input_text"})
_THOUGHTS = frozenset({"reasoning", "reasoning_text", "reasoning_content"})
_CALLS = frozenset({"function_call", "tool_call", "function"})


def blocks_of(content: object) -> list[JsonObject]:
    """Return the blocks of a message content: a list of blocks and texts, a text, or one block."""
    values: Sequence[object] = cast("list[object]", content) if isinstance(content, list) else (content,)
    return [block for value in values if (block := block_of(value))]


def block_of(value: object) -> JsonObject:
    """Return a block with its type, translated from other makers' spelling; empty if it has no content."""
    if isinstance(value, str):
        return {"type": "text", "text": value} if value else {}
    block = as_object(value)
    kind = as_text(block.get("type"))
    if kind in _TEXTS:
        return {"type": "text", "text": text_in(block.get("text"))}
    if kind in _THOUGHTS:
        return _thinking_block(block)
    if kind in _CALLS or (kind == "tool_use" and "input" not in block and "arguments" in block):
        return _call_block(block)
    if kind or not block:
        return block
    return {**block, "type": _kind_of(block)}


def _kind_of(block: JsonObject) -> str:
    """Return the type of a block without a ``type`` field."""
    if "thinking" in block:
        return "thinking"
    if "text" in block:
        return "text"
    if "tool_use_id" in block:
        return "tool_result"
    if "name" in block:
        return "tool_use"
    return "redacted_thinking" if "data" in block else "unknown"


def _thinking_block(block: JsonObject) -> JsonObject:
    found = (text_in(block.get(name)) for name in ("text", "reasoning", "thinking", "summary", "content"))
    signature = as_text(block.get("signature"))
    return {"type": "thinking", "thinking": next(filter(None, found), ""), "signature": signature}


def _call_block(block: JsonObject) -> JsonObject:
    function = as_object(block.get("function")) or block
    given = (function.get(name) for name in ("input", "arguments", "parameters"))
    return {
        "type": "tool_use",
        "id": block.get("call_id") or block.get("id"),
        "name": function.get("name"),
        "input": next((value for value in given if value), None),
    }


def initial_text(block: JsonObject) -> str:
    """Return the text in the start of a block: of a text, thinking or a refusal."""
    match block.get("type"):
        case "text":
            return text_in(block.get("text"))
        case "thinking":
            return text_in(block.get("thinking")) or text_in(block.get("text"))
        case "refusal":
            return text_in(block.get("refusal")) or text_in(block.get("text"))
        case _:
            return ""


def text_in(value: object) -> str:
    """Return the text of a string, of a list of pieces, or of an object with ``text``."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(text_in, cast("list[object]", value)))
    if is_object(value):
        return text_in(value.get("text") or value.get("content") or value.get("value"))
    return ""


def name_in(value: object) -> str:
    """Return a name or an id, which some gateways send as a number; empty for any other type."""
    return str(value) if type(value) is int else as_text(value)


def rest(block: JsonObject, *read: str) -> JsonObject:
    """Return the fields of a block beside those in ``read``, with its type; empty if there are none."""
    left = {key: value for key, value in block.items() if key not in read and value not in (None, [])}
    return {"type": block["type"], **left} if len(left) > 1 else {}


def input_text(value: object) -> str:
    """Return a call's input as JSON text; ``{}`` if there is none."""
    return arguments_text(value) or "{}"


def hosted_input(block: JsonObject, streamed: Sequence[str]) -> object:
    """Return the input of a hosted call: the streamed one, else that in the start of its block."""
    return arguments_object("".join(streamed)) if streamed else arguments_object(block.get("input"))


def hosted_tool(block: JsonObject, kind: str) -> HostedToolType | None:
    """Return the tool that a block of type ``kind`` calls, or is a result of; None for an unknown one."""
    if kind in {"mcp_tool_use", "mcp_tool_result"}:
        return "mcp"
    name = as_text(block.get("name")) if kind == "server_tool_use" else kind.removesuffix("_tool_result")
    return _HOSTED.get(name)


def readable(value: object) -> object:
    """Return a result without its encrypted fields, which are long; the block keeps them."""
    if isinstance(value, list):
        return [readable(item) for item in cast("list[object]", value)]
    if is_object(value):
        return {key: item for key, item in value.items() if not key.startswith("encrypted_")}
    return value


def citation_of(raw: JsonObject) -> Citation:
    """Return a citation of a web search, a search result or a document."""
    title = as_text(raw.get("title")) or as_text(raw.get("document_title"))
    return Citation(
        url=as_text(raw.get("url")) or as_text(raw.get("source")) or None,
        title=title or None,
        cited_text=as_text(raw.get("cited_text")) or None,
        file_id=as_text(raw.get("file_id")) or None,
    )


def joined(pieces: Sequence[str]) -> str:
    """Join the pieces of opaque text. A last piece that repeats the whole text is not appended."""
    *before, last = pieces
    begun = "".join(before)
    whole = last == begun or (len(begun) >= _UNLIKELY_LENGTH and last.startswith(begun))
    return last if whole else begun + last


_UNLIKELY_LENGTH = 8  # the shortest text whose repetition is no coincidence


# ---------------------------------------------------------------------------------------------------- tokens

_INPUTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_COUNTS = (*_INPUTS, "output_tokens")
_INNER_COUNTS = (
    ("cache_creation", "ephemeral_5m_input_tokens"),
    ("cache_creation", "ephemeral_1h_input_tokens"),
    ("output_tokens_details", "thinking_tokens"),
    ("server_tool_use", "web_search_requests"),
)


def updated_counts(known: Mapping[str, int], usage: JsonObject) -> Mapping[str, int]:
    """Update token counts with a newer report.

    A report may leave fields out. Gateways that do not count end with zeros: a report of zeros alone is ignored, and a
    report without input tokens, cached or not, does not reset earlier ones.
    """
    found: dict[str, int] = {}
    for name in _COUNTS:
        if (count := as_count(usage.get(name))) is not None:
            found[name] = count
    for outer, name in _INNER_COUNTS:
        if (inner := usage.get(outer)) and (count := as_count(as_object(inner).get(name))) is not None:
            found[name] = count
    if known and not any(found.values()):
        return known
    if not known:
        return found
    if not any(found.get(name) for name in _INPUTS):
        found = {name: count for name, count in found.items() if name not in _INPUTS or not known.get(name)}
    return {**known, **found}


def usage_of(counts: Mapping[str, int]) -> Usage | None:
    """Return the tokens of an answer. The wire's ``input_tokens`` excludes cached tokens; ``Usage`` includes them."""
    if not counts:
        return None
    fresh, output = counts.get("input_tokens"), counts.get("output_tokens")
    read, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
    thinking = counts.get("thinking_tokens")
    if output is not None and thinking is not None and thinking > output:
        output += thinking  # thinking is counted separately here: as a part of the output it could not exceed it
    total_input = None if fresh is None else fresh + (read or 0) + (written or 0)
    return Usage.unchecked(
        input_tokens=total_input,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=thinking,
        total_tokens=None if total_input is None or output is None else total_input + output,
        cache_write_5m_tokens=counts.get("ephemeral_5m_input_tokens"),
        cache_write_1h_tokens=counts.get("ephemeral_1h_input_tokens"),
        cache_write_30m_tokens=None,
        cache_write_12h_tokens=None,
        input_audio_tokens=None,
        output_audio_tokens=None,
        web_searches=counts.get("web_search_requests"),
        source="reported",
    )


# ---------------------------------------------------------------------------------------------------- failures


def is_failure(event: JsonObject, kind: str) -> bool:
    """Whether an event of an unknown type reports a failure; ``kind`` is empty if the event has no type."""
    if kind:
        return kind in _STATUS_BY_TYPE or kind.endswith(("_error", "Exception"))
    found = as_text(event.get("message")) or event.get("detail") or event.get("errors") or event.get("error_code")
    return bool(found) or any(name.endswith("Exception") for name in event)


def failure_inside(event: JsonObject, provider: str) -> APIError:
    """Return the error for a failure that an event, a block or a delta reports."""
    return messages_error(200, {}, dumped(event).encode(), event, provider)


def messages_error(status: int, headers: Mapping[str, str], body: bytes, parsed: JsonObject, provider: str) -> APIError:
    """Return the error for an HTTP error body, or for a failure inside an answer, where ``status`` is 200.

    A failure inside an answer has its status as a number, or by its type.
    """
    found = error_fields(parsed)
    return api_error(
        _status_inside(found.layers, found.status) if status == 200 else status,
        headers,
        body,
        provider=provider,
        message=found.message,
        code=_detailed_code(found.layers) or found.code,
        request_id=next((name for layer in found.layers if (name := as_text(layer.get("request_id")))), None),
    )


def _status_inside(layers: Sequence[JsonObject], found: int | None) -> int:
    numbers = [number for layer in layers if (number := error_number(layer)) is not None and 400 <= number < 600]
    known = [_STATUS_BY_TYPE[kind] for layer in layers if (kind := as_text(layer.get("type"))) in _STATUS_BY_TYPE]
    return next(iter((*numbers, *known)), found or 500)


def _detailed_code(layers: Sequence[JsonObject]) -> str | None:
    codes = (as_text(as_object(layer.get("details")).get("error_code")) for layer in layers)
    return next(filter(None, codes), None)
