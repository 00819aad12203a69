"""The small things an answer of Gemini holds: sources, likelihoods, arguments in pieces, token counts, errors.

Source: https://ai.google.dev/api/generate-content and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import cast

from dhenara_async.drivers.base import JsonObject, as_count, as_list, as_object, as_text, is_object
from dhenara_async.drivers.failures import api_error
from dhenara_async.errors import APIError
from dhenara_async.messages import Citation
from dhenara_async.response import Usage

_PATH_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\[['"]([^'"]+)['"]\]""")
_LONGEST_ARRAY = 10_000  # an index in a path is the provider's word; it may not make us fill the memory
_NOTHING = object()
_STATUS_BY_NAME: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def logprob_of(raw: object) -> tuple[str, float] | None:
    """A token, and how likely it was; None where neither is told."""
    item = as_object(raw)
    value = item.get("logProbability", 0.0)  # proto3 leaves out a zero
    return (as_text(item.get("token")), float(value)) if item and isinstance(value, int | float) else None


def source_of(chunk: JsonObject) -> Citation:
    """``web``, ``retrievedContext``, ``maps`` or ``image``: they share the names of their fields."""
    value = next((as_object(item) for item in chunk.values() if is_object(item)), dict[str, object]())
    document = as_text(value.get("documentName")) or as_text(value.get("fileSearchStore")) or None
    return Citation(
        url=as_text(value.get("uri")) or as_text(value.get("sourceUri")) or None,
        title=as_text(value.get("title")) or None,
        cited_text=as_text(value.get("text")) or None,
        file_id=document,
    )


def span_of(data: bytes, start: int, end: int, words: object) -> tuple[int, int] | None:
    """A range of bytes as a range of characters; None if it does not lie in ``data``, or other ``words`` are there."""
    if end > len(data):
        return None
    try:
        first, passage = len(data[:start].decode()), data[start:end].decode()
    except UnicodeDecodeError:
        return None
    if isinstance(words, str) and words != passage:
        return None
    return first, first + len(passage)


def lay(arguments: JsonObject, piece: JsonObject) -> None:
    """Lay one ``partialArg`` into the arguments; a text goes on where it was left."""
    path = [
        name or quoted or int(number) for name, number, quoted in _PATH_STEP.findall(as_text(piece.get("jsonPath")))
    ]
    value = _partial_value(piece)
    if not path or value is _NOTHING:
        return
    at: object = arguments
    for step, following in zip(path, [*path[1:], None], strict=True):
        fresh: object = value if following is None else [] if isinstance(following, int) else {}
        at = _descend(at, step, fresh, last=following is None)


def _descend(at: object, step: object, fresh: object, *, last: bool) -> object:
    if is_object(at) and isinstance(step, str):
        present = at.get(step)
        if last:
            at[step] = present + fresh if isinstance(present, str) and isinstance(fresh, str) else fresh
            return None
        return at.setdefault(step, fresh)
    if isinstance(at, list) and isinstance(step, int) and step < _LONGEST_ARRAY:
        items = cast("list[object]", at)
        items += [None] * (step + 1 - len(items))
        present = items[step]
        if last:
            items[step] = present + fresh if isinstance(present, str) and isinstance(fresh, str) else fresh
            return None
        if present is None:
            items[step] = fresh
        return items[step]
    return None


def _partial_value(piece: JsonObject) -> object:
    if "nullValue" in piece:
        return None
    return next((piece[name] for name in ("stringValue", "numberValue", "boolValue") if name in piece), _NOTHING)


def decoded(encoded: str) -> bytes | None:
    """Base64 of either alphabet; None if it is none, or nothing."""
    try:
        return base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def usage_of(raw: JsonObject) -> Usage | None:
    """Thoughts and tool-use prompts are counted apart on the wire; ours include them."""
    counts = {key: as_count(value) for key, value in raw.items()}
    prompt, answer = counts.get("promptTokenCount"), counts.get("candidatesTokenCount")
    thoughts, tools = counts.get("thoughtsTokenCount"), counts.get("toolUsePromptTokenCount")
    total = counts.get("totalTokenCount")
    if prompt is None and answer is None and total is None:
        return None
    return Usage.trusted(
        input_tokens=None if prompt is None else prompt + (tools or 0),
        cache_read_tokens=counts.get("cachedContentTokenCount"),
        cache_write_tokens=None,
        output_tokens=None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0),
        reasoning_tokens=thoughts,
        total_tokens=total,
        cache_write_5m_tokens=None,
        cache_write_1h_tokens=None,
        cache_write_30m_tokens=None,
        cache_write_12h_tokens=None,
        input_audio_tokens=_audio(raw, "promptTokensDetails", "toolUsePromptTokensDetails"),
        output_audio_tokens=_audio(raw, "candidatesTokensDetails"),
        web_searches=None,
        source="reported",
    )


def _audio(raw: JsonObject, *fields: str) -> int | None:
    """The tokens of audio in the breakdowns by modality; None if they tell of none."""
    entries = [as_object(entry) for name in fields for entry in as_list(raw.get(name))]
    counts = [as_count(entry.get("tokenCount")) for entry in entries if entry.get("modality") == "AUDIO"]
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def error_of(status: int, headers: Mapping[str, str], body: bytes, error: JsonObject, provider: str) -> APIError:
    """What an ``error`` object means; inside an answer (status 200) its own code, or its name, is the status."""
    number, name = as_count(error.get("code")), as_text(error.get("status"))
    inside = number if number is not None and 400 <= number < 600 else _STATUS_BY_NAME.get(name, 500)
    delay = next(
        (as_object(item)["retryDelay"] for item in as_list(error.get("details")) if "retryDelay" in as_object(item)),
        None,
    )
    return api_error(
        inside if status == 200 else status,
        headers,
        body,
        provider=provider,
        message=as_text(error.get("message")),
        code=name or (str(number) if number else None),
        retry_after=_seconds(as_text(delay)),
    )


def _seconds(duration: str) -> float | None:
    """``"17s"`` or ``"0.5s"`` as seconds."""
    try:
        return float(duration.removesuffix("s")) if duration else None
    except ValueError:
        return None
