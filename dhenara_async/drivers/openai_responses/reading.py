"""Reads the values in Responses answers: text, sources, log probabilities, token counts, hosted tools, errors.

Gateways that imitate the API send many of them in other shapes: a string where a list of parts is usual, a part without
its type, arguments as an object. They are normalized here, so that the decoder sees one shape.

Source: https://platform.openai.com/docs/api-reference/responses/object and the types of the ``openai`` package 3.54
(``types/responses/response_output_item.py``, read 2026-11-22)
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dhenara_async.drivers.base import (
    JsonObject,
    arguments_text,
    as_count,
    as_list,
    as_object,
    as_text,
)
from dhenara_async.drivers.failures import api_error, error_fields, error_object
from dhenara_async.errors import APIError
from dhenara_async.framing import Frame
from dhenara_async.framing.lenient_json import loads
from dhenara_async.messages.messages import Citation, TokenLogprob
from dhenara_async.tools.declarations import HostedToolType
from dhenara_async.usage.tokens import Usage

CALLS = ("function_call", "custom_tool_call")
SECTION_BREAK = "\n\n"
"""Separates the sections of one reasoning item: its summary has several, each a paragraph of its own."""

# ---------------------------------------------------------------------------------------------------- items

# Types that gateways give to function calls.
_KINDS = {
    "output_text": "message",
    "text": "message",
    "refusal": "message",
    "function": "function_call",
    "tool_call": "function_call",
}
# The types of untyped items, by a field that only they have.
_KINDS_BY_FIELD = (
    ("arguments", "function_call"),
    ("call_id", "function_call"),
    ("summary", "reasoning"),
    ("encrypted_content", "reasoning"),
    ("content", "message"),
    ("text", "message"),
    ("refusal", "message"),
)


def items_of(response: JsonObject) -> list[JsonObject]:
    """Return the items of a response, which may be a string, or one item without a list."""
    return [_item(entry) for entry in _entries(response.get("output")) if entry]


def _item(entry: object) -> JsonObject:
    return {"type": "message", "content": entry} if isinstance(entry, str) else as_object(entry)


def kind_of(item: JsonObject) -> str:
    """Return the type of an item, derived from its fields where it is missing; empty if they do not decide it."""
    kind = as_text(item.get("type"))
    if kind:
        return _KINDS.get(kind, kind)
    return next((kind for name, kind in _KINDS_BY_FIELD if item.get(name)), "")


def replayed_fields(message: JsonObject) -> JsonObject:
    """Return the fields of a message to send back with it."""
    return {name: message[name] for name in ("id", "phase") if message.get(name)}


@dataclass(slots=True)
class CallFields:
    """The fields of a function call in one event; empty if missing."""

    name: str
    call_id: str
    arguments: str


def call_fields(item: JsonObject) -> CallFields:
    """Return the fields of a call, from its item or an event about it."""
    function = as_object(item.get("function"))
    fields = (item.get("arguments"), item.get("input"), function.get("arguments"))
    return CallFields(
        name=as_text(item.get("name")) or as_text(function.get("name")),
        call_id=as_text(item.get("call_id")),
        arguments=next((arguments_text(value) for value in fields if value is not None and value != ""), ""),
    )


# ---------------------------------------------------------------------------------------------------- words


@dataclass(slots=True)
class MessageContent:
    """One part of a message's content.

    Attributes:
        kind: The kind of content; ``other`` = unknown to this dialect.
        text: Its text; empty if it has none.
        raw: The part as received; empty if it was a string.
    """

    kind: Literal["text", "refusal", "reasoning", "audio", "other"]
    text: str
    raw: JsonObject


_TEXTS = frozenset(("output_text", "text", "input_text"))
_THOUGHTS = frozenset(("reasoning_text", "summary_text", "reasoning", "thinking"))


def contents_of(message: JsonObject) -> list[MessageContent]:
    """Return the content of a message: a list of parts, one part, or a string."""
    raw = message.get("content") or message.get("text") or message.get("output_text")
    if not raw and message.get("refusal"):
        raw = {"type": "refusal", "refusal": message["refusal"]}
    return [content for entry in _entries(raw) if (content := content_of(entry)) is not None]


def content_of(entry: object) -> MessageContent | None:
    """Return one part of a content; None if it is empty."""
    if isinstance(entry, str):
        return MessageContent("text", entry, {}) if entry else None
    raw = as_object(entry)
    kind = as_text(raw.get("type"))
    if kind in _TEXTS:
        return MessageContent("text", text_of(raw.get("text")), raw)
    if kind == "refusal" or (not kind and raw.get("refusal")):
        return MessageContent("refusal", text_of(raw.get("refusal")) or text_of(raw.get("text")), raw)
    if kind in _THOUGHTS:
        return MessageContent("reasoning", text_of(raw), raw)
    if kind == "output_audio":
        return MessageContent("audio", as_text(raw.get("transcript")), raw)
    if not kind and text_of(raw):
        return MessageContent("text", text_of(raw), raw)
    return MessageContent("other", "", raw) if raw else None


def text_of(value: object) -> str:
    """Return the text in a value: a string, an object's ``text``, ``content``, ``value`` …, or a list of these."""
    if isinstance(value, str):
        return value
    entries, raw = as_list(value), as_object(value)
    if entries:
        return "".join(map(text_of, entries))
    fields = (raw.get(name) for name in ("text", "content", "value", "thinking", "reasoning", "summary"))
    return next((words for part in fields if part and (words := text_of(part))), "")


Section = tuple[str, int]
"""A section of a reasoning item: ``summary`` or ``content``, and its index in that list."""


def sections_of(thought: JsonObject) -> list[tuple[Section, str]]:
    """Return the text of a reasoning item by section, without empty sections."""
    found = [
        ((name, place), words)
        for name in ("summary", "content")
        for place, entry in enumerate(_entries(thought.get(name)))
        if (words := text_of(entry))
    ]
    if found:
        return found
    words = text_of(thought.get("text")) or text_of(thought.get("reasoning"))
    return [(("content", 0), words)] if words else []


def replayed_reasoning(thought: JsonObject) -> JsonObject:
    """Return the fields of a reasoning item to send back, in the shape that the API requires."""
    kept = {name: thought[name] for name in ("id", "summary", "encrypted_content") if name in thought}
    if not isinstance(kept.get("summary", []), list):
        text = text_of(kept["summary"])
        kept["summary"] = [{"type": "summary_text", "text": text}] if text else []
    return kept


def _entries(value: object) -> Iterable[object]:
    """Return the entries of a list; a value that is not a list counts as its only entry."""
    return as_list(value) or (() if value is None or value == [] else (value,))


# ---------------------------------------------------------------------------------------------------- details


def annotations_of(raw: JsonObject) -> list[object]:
    """Return the raw annotations of a text."""
    return [entry for entry in as_list(raw.get("annotations")) if entry]


def citation_of(annotation: JsonObject) -> Citation:
    """Return the citation of a ``url_citation``, ``file_citation``, ``container_file_citation`` or ``file_path``; the
    raw one is kept too."""
    return Citation(
        url=as_text(annotation.get("url")) or None,
        title=as_text(annotation.get("title")) or as_text(annotation.get("filename")) or None,
        file_id=as_text(annotation.get("file_id")) or None,
        start=as_count(annotation.get("start_index")),
        end=as_count(annotation.get("end_index")),
    )


def logprobs_of(raw: object) -> list[TokenLogprob]:
    found: list[TokenLogprob] = []
    for entry in map(as_object, as_list(raw)):
        token = _token(entry)
        if token is not None:
            others = (_token(as_object(other)) for other in as_list(entry.get("top_logprobs")))
            top = tuple(other for other in others if other is not None)
            found.append(TokenLogprob(token=token[0], logprob=token[1], top=top))
    return found


def _token(entry: JsonObject) -> tuple[str, float] | None:
    token, logprob = entry.get("token"), entry.get("logprob")
    if isinstance(token, str) and isinstance(logprob, int | float):
        return token, float(logprob)
    return None


def decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def media_type_of(item: JsonObject) -> str:
    kind = as_text(item.get("output_format")) or "png"
    return "image/svg+xml" if kind == "svg" else f"image/{kind}"


# ---------------------------------------------------------------------------------------------------- tokens


_CACHE_READS = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")


def counts_anything(raw: JsonObject) -> bool:
    """Whether a usage report has a number above zero."""
    for value in raw.values():  # noqa: SIM110 - half of what a generator costs
        if as_count(value):
            return True
    return False


UNREPORTED = "unreported"
"""The field of details in which our own OpenAI-compatible front names the counts that its provider did not tell."""


def usage_of(raw: JsonObject, searches: int | None) -> Usage | None:
    """Return the tokens of a usage report, also with Chat Completions' field names, as some gateways send it."""
    if not raw and searches is None:
        return None
    into = as_object(raw.get("input_tokens_details") or raw.get("prompt_tokens_details"))
    out = as_object(raw.get("output_tokens_details") or raw.get("completion_tokens_details"))
    written = as_object(into.get("cache_write_tokens_details"))
    prompt, output = as_count(raw.get("input_tokens")), as_count(raw.get("output_tokens"))
    prompt = _first_count(raw, "prompt_tokens") if prompt is None else prompt
    output = _first_count(raw, "completion_tokens") if output is None else output
    read, reasoning = _detail(into, "cached_tokens"), _detail(out, "reasoning_tokens")
    read = _first_count(raw, *_CACHE_READS) if read is None else read
    reasoning = _first_count(raw, "reasoning_tokens") if reasoning is None else reasoning
    total = as_count(raw.get("total_tokens"))
    if prompt is output is total is read is reasoning is searches is None:
        return None
    return Usage.unchecked(
        input_tokens=_with_part(prompt, read),
        cache_read_tokens=read,
        cache_write_tokens=_detail(into, "cache_write_tokens"),
        output_tokens=_with_part(output, reasoning),
        reasoning_tokens=reasoning,
        total_tokens=total,
        cache_write_5m_tokens=None,
        cache_write_1h_tokens=None,
        cache_write_30m_tokens=as_count(written.get("ttl_30m_tokens")),
        cache_write_12h_tokens=as_count(written.get("ttl_12h_tokens")),
        input_audio_tokens=None,
        output_audio_tokens=None,
        web_searches=searches,
        source="reported",
    )


def _detail(details: JsonObject, name: str) -> int | None:
    return None if name in as_list(details.get(UNREPORTED)) else as_count(details.get(name))


def _first_count(raw: JsonObject, *names: str) -> int | None:
    return next((count for name in names if (count := as_count(raw.get(name))) is not None), None)


def _with_part(whole: int | None, part: int | None) -> int | None:
    """Return ``whole``, plus ``part`` if that is larger: such a host counts the two separately."""
    return whole + part if whole is not None and part is not None and part > whole else whole


# ---------------------------------------------------------------------------------------------------- hosted tools

_HostedFields = tuple[HostedToolType | None, object, object]


def _web_search(item: JsonObject) -> _HostedFields:
    action = as_object(item.get("action"))
    asked = {key: value for key, value in action.items() if key != "sources"}
    return "web_search", asked or None, action.get("sources") or item.get("results")


def _mcp_call(item: JsonObject) -> _HostedFields:
    asked = {key: item[key] for key in ("server_label", "name", "arguments") if item.get(key) is not None}
    return "mcp", asked, item.get("error") if item.get("output") is None else item["output"]


APPROVAL_REQUEST = "mcp_approval_request"
"""The type of an item that asks whether a call of an MCP server may run."""

# By the type of an item: its hosted tool, its input, and its output.
HOSTED: Mapping[str, Callable[[JsonObject], _HostedFields]] = {
    "web_search_call": _web_search,
    "file_search_call": lambda item: ("file_search", item.get("queries"), item.get("results")),
    "code_interpreter_call": lambda item: ("code_execution", item.get("code"), item.get("outputs")),
    "mcp_call": _mcp_call,
    APPROVAL_REQUEST: _mcp_call,
    "mcp_list_tools": lambda item: ("mcp", item.get("server_label"), item.get("tools") or item.get("error")),
    "tool_search_call": lambda item: (None, item.get("arguments"), None),
    "tool_search_output": lambda item: (None, None, item.get("tools")),
    "shell_call": lambda item: (None, item.get("action"), None),
    "shell_call_output": lambda item: (None, None, item.get("output")),
    "local_shell_call": lambda item: (None, item.get("action"), None),
    "computer_call": lambda item: (None, item.get("action") or item.get("actions"), None),
    "program": lambda item: (None, item.get("code"), None),
    "program_output": lambda item: (None, None, item.get("result")),
}


# ---------------------------------------------------------------------------------------------------- failures


def failure_in(frame: Frame) -> JsonObject:
    """Return the error object of an event named as an error; plain text becomes its message."""
    fields = error_object(frame)
    if fields:
        return fields
    try:
        value = loads(bytes(frame))
    except ValueError:
        value = frame.decode(errors="replace")
    return {"message": text_of(value)}


def is_failure(body: JsonObject) -> bool:
    """Whether a body without any field of a response is a failure reported by a gateway."""
    return any(body.get(name) for name in ("error", "errors", "error_code", "error_message", "detail", "message"))


def is_failed(item: JsonObject) -> bool:
    """Whether an item reports a failure instead of content."""
    kind = as_text(item.get("type"))
    return kind == "error" or (bool(item.get("error")) and kind in ("", "message", "reasoning", *CALLS))


def responses_error(status: int, headers: Mapping[str, str], body: bytes, error: JsonObject, provider: str) -> APIError:
    """Return the typed error for an error object; inside an answer, where ``status`` is 200, its code gives the status.

    Args:
        status: The HTTP status.
        headers: Response headers, with lower-case names.
        body: The bytes of the failure, kept with the error.
        error: An error object, or an object with one in it.
        provider: The name of the provider.
    """
    fields = error_fields({name: value for name, value in error.items() if not _is_type_of_event(name, value)})
    message = fields.message
    if status == 200:
        # nearly all of the API's error codes are about the request
        named = any(as_text(layer.get("code")) for layer in fields.layers)
        status = fields.status or (400 if named else 500)
        message = message or "the provider gave no reason"  # the body may repeat the prompt, so it is not quoted
    return api_error(status, headers, body, provider=provider, message=message, code=fields.code)


def _is_type_of_event(name: str, value: object) -> bool:
    """Whether a field is the type of the event, not of its failure."""
    return name == "type" and as_text(value).startswith("response.")
