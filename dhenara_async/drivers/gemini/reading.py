"""Reads the values in Gemini answers: finish reasons, log probabilities, files, token counts, errors.

Source: https://ai.google.dev/api/generate-content and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

import orjson

from dhenara_async.drivers.base import JsonObject, as_count, as_list, as_object, as_text, is_object
from dhenara_async.drivers.failures import api_error, bounded_wait, error_fields, error_number
from dhenara_async.drivers.parts import finish_of
from dhenara_async.errors import APIError
from dhenara_async.events import ChoiceFinish
from dhenara_async.response import FinishReason, Usage

_FINISH_BY_MEANING: Final = {
    FinishReason.STOP: "STOP END_TURN",
    FinishReason.TOOL_CALLS: "TOOL_CALLS TOOL_USE FUNCTION_CALL",
    FinishReason.LENGTH: "MAX_TOKENS LENGTH",
    FinishReason.PAUSE: "CONTINUATION",
    FinishReason.CONTENT_FILTER: (
        "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
        "IMAGE_RECITATION ESCALATION MODEL_ARMOR PUP_LIMITED_DISABLED CONTENT_FILTER"
    ),
    FinishReason.ERROR: (
        "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MALFORMED_RESPONSE "
        "MISSING_THOUGHT_SIGNATURE ERROR"
    ),
}
# By the enum's numbers, from 0, which gateways send that re-encode the protocol. Vertex numbers differ from 6 on.
_NUMBERED: Final = (
    *("UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE", "BLOCKLIST"),
    *("PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL"),
)
# sent by encoders that do not omit default values
_UNSPECIFIED: Final = frozenset(("", "UNSPECIFIED", "BLOCKREASONUNSPECIFIED"))
_NO_LETTER: Final = re.compile(r"[^A-Z]+")
_FINISH: Final = {
    _NO_LETTER.sub("", word): reason for reason, words in _FINISH_BY_MEANING.items() for word in words.split()
}
_STATUS_BY_NAME: Final[Mapping[str, int]] = {
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
    "INTERNAL": 500,
}
_GRPC_CODES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
# Fields of an answer's chunk that an error does not have.
_ANSWERS: Final = frozenset(("candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"))


def reason_of(raw: object) -> str:
    """Return a finish or block reason as one word of capitals, in any spelling; empty if there is none.

    ``MAX_TOKENS``, ``max_tokens``, ``FinishReason.MAX_TOKENS``, ``FINISH_REASON_MAX_TOKENS``, ``MaxTokens`` and 2 are
    the same.
    """
    number = as_count(raw)
    if number is not None:
        raw = _NUMBERED[number] if number < len(_NUMBERED) else "UNKNOWN"
    elif not isinstance(raw, str):
        raw = "UNKNOWN" if raw else ""
    word = _NO_LETTER.sub("", raw.rpartition(".")[2].upper()).removeprefix("FINISHREASON")
    return "" if word in _UNSPECIFIED else word


def finish_by(raw: object, *, has_calls: bool, choice: int = 0, blocked: object = None) -> ChoiceFinish:
    """Return how a candidate ended, from its ``finishReason`` ``raw`` and a ``blockReason`` ``blocked``.

    A missing reason is ``other``: the answer has ended for no stated reason.
    """
    word = reason_of(raw)
    finish = finish_of(word, _FINISH, has_calls=has_calls, choice=choice)
    if blocked and finish.finish_reason in (FinishReason.STOP, FinishReason.TOOL_CALLS):
        return ChoiceFinish(choice, FinishReason.CONTENT_FILTER, str(blocked))
    if word:
        finish.raw_finish_reason = str(raw)
    else:
        finish.finish_reason = FinishReason.OTHER
    return finish


def logprob_of(raw: object) -> tuple[str, float] | None:
    """Return a token with its log probability; None if either is missing."""
    item = as_object(raw)
    value = item.get("logProbability", 0.0)  # proto3 omits zeros
    return (as_text(item.get("token")), float(value)) if item and isinstance(value, int | float) else None


def decoded(encoded: str) -> bytes | None:
    """Decode base64 of either alphabet, with or without padding; None if it is invalid or empty."""
    standard = encoded.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def newest_counts(known: JsonObject, report: JsonObject) -> JsonObject:
    """Update token counts with a newer report. Counts only grow: a report with missing fields or zeros resets none."""
    total = _is_positive(report.get("totalTokenCount"))
    if total and all(report.values()):
        return report
    kept = {name: count for name, count in known.items() if not _is_positive(report.get(name))}
    if not total:
        return report | kept
    return report | {name: count for name, count in kept.items() if name in report}


def _is_positive(count: object) -> bool:
    number = as_count(count)
    return number > 0 if number is not None else bool(count) and not isinstance(count, int | float)


def usage_of(raw: JsonObject) -> Usage | None:
    """Return the tokens of an answer. The wire counts thoughts and tool-use prompts separately; ``Usage`` includes
    them."""
    counts = {key: as_count(value) for key, value in raw.items()}
    prompt, answer = counts.get("promptTokenCount"), counts.get("candidatesTokenCount")
    thoughts, tools = counts.get("thoughtsTokenCount"), counts.get("toolUsePromptTokenCount")
    total = counts.get("totalTokenCount")
    if prompt is None and answer is None and total is None:
        return None
    cached = counts.get("cachedContentTokenCount")
    if prompt is not None and cached is not None and cached > prompt:  # counted separately
        prompt += cached
    return Usage.unchecked(
        input_tokens=None if prompt is None else prompt + (tools or 0),
        cache_read_tokens=cached,
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
    """Return the audio tokens in the breakdowns by modality; None if there are none."""
    found: int | None = None
    for name in fields:
        for entry in as_list(raw.get(name)):
            counts = as_object(entry)
            if counts.get("modality") == "AUDIO" and (count := as_count(counts.get("tokenCount"))) is not None:
                found = (found or 0) + count
    return found


def is_failure(chunk: JsonObject) -> bool:
    """Whether a chunk is an error, with an ``error`` member or, from some gateways, without it."""
    if chunk.get("error"):
        return True
    if not _ANSWERS.isdisjoint(chunk):
        return False
    if chunk.get("errors") or chunk.get("error_code") or chunk.get("detail") or chunk.get("type") == "error":
        return True
    return bool(chunk.get("message")) and not chunk.keys().isdisjoint(("code", "status"))


def failure_in(data: bytes) -> JsonObject:
    """Return the error object of an event named ``error``, whose data may be any JSON or plain text."""
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = data.decode(errors="replace").strip()
    items = as_list(value)
    value = items[0] if items else value
    return value if is_object(value) else {"error": {"message": value if isinstance(value, str) else ""}}


def error_of(status: int, headers: Mapping[str, str], body: bytes, parsed: JsonObject, provider: str) -> APIError:
    """Return the typed error for an error object; inside an answer (status 200) its own code or name gives the status.

    Args:
        status: The HTTP status.
        headers: Response headers, with lower-case names.
        body: The source of the object.
        parsed: The error object, or an object with ``error`` in it.
        provider: The name of the provider.
    """
    error = error_fields(parsed)
    codes = [code for layer in error.layers if (code := _name_of(layer) or str(error_number(layer) or ""))]
    inside = error.status or next((_STATUS_BY_NAME[code] for code in codes if code in _STATUS_BY_NAME), 500)
    details = (as_object(item) for layer in error.layers for item in as_list(layer.get("details")))
    delays = (_seconds(item.get("retryDelay") or item.get("retry_delay")) for item in details)
    return api_error(
        inside if status == 200 else status,
        headers,
        body,
        provider=provider,
        message=error.message,
        code=codes[0] if codes else error.code,
        retry_after=next((delay for delay in delays if delay is not None), None),
    )


def _name_of(layer: JsonObject) -> str:
    """Return the name of an error: ``status``, or ``code`` if it is not a number, or the name of a gRPC number."""
    status, code = as_text(layer.get("status")), as_text(layer.get("code"))
    if status.isupper():
        return status
    if code and not code.isdecimal():
        return code
    number = as_count(layer.get("code"))
    return _GRPC_CODES[number] if number and number < len(_GRPC_CODES) else ""


def _seconds(duration: object) -> float | None:
    """Convert ``"17s"``, ``"0.5s"`` or ``{"seconds": 17}`` to seconds."""
    if is_object(duration):
        return bounded_wait(str(as_count(duration.get("seconds"))))
    return bounded_wait(as_text(duration).removesuffix("s"))
