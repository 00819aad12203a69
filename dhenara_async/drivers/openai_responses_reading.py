"""The small things an answer of OpenAI Responses holds: sources, likelihoods, token counts, hosted tools, errors.

Source: https://platform.openai.com/docs/api-reference/responses/object and the types of the ``openai`` package 3.54
(``types/responses/response_output_item.py``, read 2026-11-22)
"""

import base64
import binascii
from collections.abc import Callable, Mapping

from dhenara_async.drivers.base import JsonObject, as_count, as_list, as_object, as_text
from dhenara_async.drivers.failures import api_error, told_status
from dhenara_async.errors import APIError
from dhenara_async.messages import Citation, TokenLogprob
from dhenara_async.tools import HostedToolType
from dhenara_async.usage import Usage


def said_of(message: JsonObject) -> JsonObject:
    """What a message says of itself, and wants to have back."""
    return {name: message[name] for name in ("id", "phase") if message.get(name)}


def reasoning_text(item: JsonObject) -> str:
    pieces = (*as_list(item.get("summary")), *as_list(item.get("content")))
    return "".join(as_text(as_object(piece).get("text")) for piece in pieces)


def citation_of(annotation: JsonObject) -> Citation:
    """A ``url_citation``, ``file_citation``, ``container_file_citation`` or ``file_path``; the raw one is kept too."""
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


def usage_of(raw: JsonObject, searches: int | None) -> Usage | None:
    if not raw and searches is None:
        return None
    into, out = as_object(raw.get("input_tokens_details")), as_object(raw.get("output_tokens_details"))
    written = as_object(into.get("cache_write_tokens_details"))
    return Usage.trusted(
        input_tokens=as_count(raw.get("input_tokens")),
        cache_read_tokens=as_count(into.get("cached_tokens")),
        cache_write_tokens=as_count(into.get("cache_write_tokens")),
        output_tokens=as_count(raw.get("output_tokens")),
        reasoning_tokens=as_count(out.get("reasoning_tokens")),
        total_tokens=as_count(raw.get("total_tokens")),
        cache_write_5m_tokens=None,
        cache_write_1h_tokens=None,
        cache_write_30m_tokens=as_count(written.get("ttl_30m_tokens")),
        cache_write_12h_tokens=as_count(written.get("ttl_12h_tokens")),
        input_audio_tokens=None,
        output_audio_tokens=None,
        web_searches=searches,
        source="reported",
    )


_Reading = tuple[HostedToolType | None, object, object]


def _web_search(item: JsonObject) -> _Reading:
    action = as_object(item.get("action"))
    asked = {key: value for key, value in action.items() if key != "sources"}
    return "web_search", asked or None, action.get("sources") or item.get("results")


def _mcp_call(item: JsonObject) -> _Reading:
    asked = {key: item[key] for key in ("server_label", "name", "arguments") if item.get(key) is not None}
    return None, asked, item.get("error") if item.get("output") is None else item["output"]


# By the type of an item: our word for the tool, what it was asked, and what came of it.
HOSTED: Mapping[str, Callable[[JsonObject], _Reading]] = {
    "web_search_call": _web_search,
    "file_search_call": lambda item: ("file_search", item.get("queries"), item.get("results")),
    "code_interpreter_call": lambda item: ("code_execution", item.get("code"), item.get("outputs")),
    "mcp_call": _mcp_call,
    "mcp_approval_request": _mcp_call,
    "mcp_list_tools": lambda item: (None, item.get("server_label"), item.get("tools") or item.get("error")),
    "tool_search_call": lambda item: (None, item.get("arguments"), None),
    "tool_search_output": lambda item: (None, None, item.get("tools")),
    "shell_call": lambda item: (None, item.get("action"), None),
    "shell_call_output": lambda item: (None, None, item.get("output")),
    "local_shell_call": lambda item: (None, item.get("action"), None),
    "computer_call": lambda item: (None, item.get("action") or item.get("actions"), None),
    "program": lambda item: (None, item.get("code"), None),
    "program_output": lambda item: (None, None, item.get("result")),
}


def responses_error(status: int, headers: Mapping[str, str], body: bytes, error: JsonObject, provider: str) -> APIError:
    """What an error object means; inside an answer, where ``status`` is 200, its code tells the status."""
    said = as_text(error.get("code"))
    kind = as_text(error.get("type"))
    code = said or (kind if kind != "error" else "") or None  # the type of an event is not that of its failure
    message = as_text(error.get("message")) or as_text(error.get("detail"))
    known = told_status(error) or (400 if said else 500)  # of its codes, all but a few are about the request
    return api_error(known if status == 200 else status, headers, body, provider=provider, message=message, code=code)
