"""Reading the values in answers of the Messages API: blocks in any spelling, tokens, citations, failures.

Gateways in front of other models write these values as those models do. What they mean is read here, so that the
decoder sees the API's own blocks alone.

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
"""By the word for how an answer ended: the API's own, and those of the models that gateways put behind it."""

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
    """The blocks of a message, whose content may also be a text, one block, or a list with texts in it."""
    values: Sequence[object] = cast("list[object]", content) if isinstance(content, list) else (content,)
    return [block for value in values if (block := block_of(value))]


def block_of(value: object) -> JsonObject:
    """A block with its type, in the API's own words where it has other makers'; empty if there is nothing in it."""
    if isinstance(value, str):
        return {"type": "text", "text": value} if value else {}
    block = as_object(value)
    kind = as_text(block.get("type"))
    if kind in _TEXTS:
        return {"type": "text", "text": words(block.get("text"))}
    if kind in _THOUGHTS:
        return _thoughts(block)
    if kind in _CALLS or (kind == "tool_use" and "input" not in block and "arguments" in block):
        return _call(block)
    if kind or not block:
        return block
    return {**block, "type": _kind_of(block)}


def _kind_of(block: JsonObject) -> str:
    """The type of a block that does not say it."""
    if "thinking" in block:
        return "thinking"
    if "text" in block:
        return "text"
    if "tool_use_id" in block:
        return "tool_result"
    if "name" in block:
        return "tool_use"
    return "redacted_thinking" if "data" in block else "unknown"


def _thoughts(block: JsonObject) -> JsonObject:
    told = (words(block.get(name)) for name in ("text", "reasoning", "thinking", "summary", "content"))
    signature = as_text(block.get("signature"))
    return {"type": "thinking", "thinking": next(filter(None, told), ""), "signature": signature}


def _call(block: JsonObject) -> JsonObject:
    function = as_object(block.get("function")) or block
    given = (function.get(name) for name in ("input", "arguments", "parameters"))
    return {
        "type": "tool_use",
        "id": block.get("call_id") or block.get("id"),
        "name": function.get("name"),
        "input": next((value for value in given if value), None),
    }


def said(block: JsonObject) -> str:
    """The words that a block holds when it begins: a text, thinking or a refusal."""
    match block.get("type"):
        case "text":
            return words(block.get("text"))
        case "thinking":
            return words(block.get("thinking")) or words(block.get("text"))
        case "refusal":
            return words(block.get("refusal")) or words(block.get("text"))
        case _:
            return ""


def words(value: object) -> str:
    """A text that stands for itself, in a list of pieces, or in an object with ``text``."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(words, cast("list[object]", value)))
    if is_object(value):
        return words(value.get("text") or value.get("content") or value.get("value"))
    return ""


def name_in(value: object) -> str:
    """A name or an id, which some gateways count in numbers; empty if it is none."""
    return str(value) if type(value) is int else as_text(value)


def rest(block: JsonObject, *read: str) -> JsonObject:
    """The fields of a block beside those in ``read``, with its type; empty if there are none."""
    left = {key: value for key, value in block.items() if key not in read and value not in (None, [])}
    return {"type": block["type"], **left} if len(left) > 1 else {}


def input_text(value: object) -> str:
    """A call's input as JSON text: ``{}`` where there is none."""
    return arguments_text(value) or "{}"


def hosted_input(block: JsonObject, streamed: Sequence[str]) -> object:
    """The input of a call that the provider runs itself: as it was streamed, else as its block began."""
    return arguments_object("".join(streamed)) if streamed else arguments_object(block.get("input"))


def hosted_tool(block: JsonObject, kind: str) -> HostedToolType | None:
    """The tool that a block of type ``kind`` calls, or gives the result of; None for one we have no name for."""
    name = as_text(block.get("name")) if kind == "server_tool_use" else kind.removesuffix("_tool_result")
    return _HOSTED.get(name)


def readable(value: object) -> object:
    """A result without its encrypted fields, which are long; the block keeps them."""
    if isinstance(value, list):
        return [readable(item) for item in cast("list[object]", value)]
    if is_object(value):
        return {key: item for key, item in value.items() if not key.startswith("encrypted_")}
    return value


def citation_of(raw: JsonObject) -> Citation:
    """A source, of a web search, a search result or a document; its place in the answer is not told."""
    title = as_text(raw.get("title")) or as_text(raw.get("document_title"))
    return Citation(
        url=as_text(raw.get("url")) or as_text(raw.get("source")) or None,
        title=title or None,
        cited_text=as_text(raw.get("cited_text")) or None,
        file_id=as_text(raw.get("file_id")) or None,
    )


def joined(pieces: Sequence[str]) -> str:
    """Opaque text from its pieces. One that comes whole behind them, or once more, is not added to them."""
    *before, last = pieces
    begun = "".join(before)
    whole = last == begun or (len(begun) >= _TELLING and last.startswith(begun))
    return last if whole else begun + last


_TELLING = 8  # so many characters are not the same by chance


# ---------------------------------------------------------------------------------------------------- tokens

_INPUTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_COUNTS = (*_INPUTS, "output_tokens")
_INNER_COUNTS = (
    ("cache_creation", "ephemeral_5m_input_tokens"),
    ("cache_creation", "ephemeral_1h_input_tokens"),
    ("output_tokens_details", "thinking_tokens"),
    ("server_tool_use", "web_search_requests"),
)


def overlaid(known: Mapping[str, int], usage: JsonObject) -> Mapping[str, int]:
    """The counts of a newer report over those that are known.

    A report may leave fields out. Gateways that count nothing themselves end with zeros: a report of nothing else
    tells nothing, and one without any input, cached or not, takes none back.
    """
    told: dict[str, int] = {}
    for name in _COUNTS:
        if (count := as_count(usage.get(name))) is not None:
            told[name] = count
    for outer, name in _INNER_COUNTS:
        if (inner := usage.get(outer)) and (count := as_count(as_object(inner).get(name))) is not None:
            told[name] = count
    if known and not any(told.values()):
        return known
    if not any(told.get(name) for name in _INPUTS):
        told = {name: count for name, count in told.items() if name not in _INPUTS or not known.get(name)}
    return {**known, **told}


def usage_of(counts: Mapping[str, int]) -> Usage | None:
    """The tokens of an answer; ``input_tokens`` on the wire leaves out what went through the cache, ours does not."""
    if not counts:
        return None
    fresh, output = counts.get("input_tokens"), counts.get("output_tokens")
    read, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
    thinking = counts.get("thinking_tokens")
    if output is not None and thinking is not None and thinking > output:
        output += thinking  # a part cannot be more than its whole: here it was counted apart
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
    """Whether an event of a type that the API does not have reports a failure; ``kind`` is empty where it has none."""
    if kind:
        return kind in _STATUS_BY_TYPE or kind.endswith(("_error", "Exception"))
    told = as_text(event.get("message")) or event.get("detail") or event.get("errors") or event.get("error_code")
    return bool(told) or any(name.endswith("Exception") for name in event)


def failure_inside(event: JsonObject, provider: str) -> APIError:
    """The error for a failure that an event, a block or a delta reports."""
    return messages_error(200, {}, dumped(event).encode(), event, provider)


def messages_error(status: int, headers: Mapping[str, str], body: bytes, parsed: JsonObject, provider: str) -> APIError:
    """The error for a body with an HTTP status, or for one inside an answer, where ``status`` is 200.

    The latter tells its own status, by a number, or by its type.
    """
    told = error_fields(parsed)
    return api_error(
        _status_inside(told.layers, told.status) if status == 200 else status,
        headers,
        body,
        provider=provider,
        message=told.message,
        code=_detailed_code(told.layers) or told.code,
        request_id=next((name for layer in told.layers if (name := as_text(layer.get("request_id")))), None),
    )


def _status_inside(layers: Sequence[JsonObject], told: int | None) -> int:
    numbers = [number for layer in layers if (number := error_number(layer)) is not None and 400 <= number < 600]
    known = [_STATUS_BY_TYPE[kind] for layer in layers if (kind := as_text(layer.get("type"))) in _STATUS_BY_TYPE]
    return next(iter((*numbers, *known)), told or 500)


def _detailed_code(layers: Sequence[JsonObject]) -> str | None:
    codes = (as_text(as_object(layer.get("details")).get("error_code")) for layer in layers)
    return next(filter(None, codes), None)
