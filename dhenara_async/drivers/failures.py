"""Reads failures: the error class for an error response, or for an error object inside an answer."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import cast

import orjson

from dhenara_async.drivers.base import (
    QUOTED_BYTES,
    JsonObject,
    as_count,
    as_list,
    as_object,
    as_text,
    dumped,
    request_id_of,
)
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.framing.lenient_json import loads

KEPT_BODY_BYTES = 64 * 1024
_SEARCHED_CHARACTERS = 4096
_LONGEST_MESSAGE = 4096
_CONTEXT_CODES = frozenset(
    {
        *("context_length_exceeded", "context_window_exceeded", "exceed_context_size_error"),
        *("model_context_window_exceeded", "request_too_large"),
    }
)
# Most hosts have no error code for a full context window. These are the messages of Anthropic, Gemini, Bedrock, xAI,
# OpenRouter, Mistral, vLLM, TGI and llama.cpp.
_CONTEXT = r"\bcontext[ _](?:size|length|window|limit)"
_CONTEXT_WORDS = re.compile(
    r"(?:exceed|larger|longer|beyond|maximum|available|too (?:large|long|big|many)).{0,120}"
    + _CONTEXT
    + r"|"
    + _CONTEXT
    + r".{0,120}(?:exceed|too (?:small|short|long))"
    r"|\b(?:prompt|input|request)s? (?:is|are) too long"
    r"|\binput token count.{0,80}exceed"
    r"|\bmaximum prompt length"
    r"|\binputs?`? tokens.{0,60}must be <=",
    re.IGNORECASE | re.DOTALL,
)
_MAY_BE_CONTEXT = frozenset({400, 413, 422, 500})
# HTTP status by the code or type of an error inside an answer: of OpenAI, compatible hosts and Bedrock.
_WORDS_BY_STATUS: Mapping[int, str] = {
    400: "invalid_request_error bad_request context_length_exceeded invalid_prompt validationexception",
    401: "authentication_error invalid_authentication_error invalid_api_key unauthorized",
    403: "permission_error permission_denied permission_denied_error forbidden accessdeniedexception",
    404: "not_found_error not_found model_not_found resourcenotfoundexception",
    429: (
        "rate_limit_exceeded rate_limit_error rate_limit_reached_error too_many_requests requests tokens "
        "insufficient_quota exceeded_current_quota_error quota_exceeded resource_exhausted usage_limit_reached "
        "throttlingexception"
    ),
    500: (
        "server_error internal_server_error internal_error api_error vector_store_timeout "
        "internalserverexception modelstreamerrorexception"
    ),
    503: (
        "overloaded overloaded_error engine_overloaded engine_overloaded_error server_is_overloaded slow_down "
        "service_unavailable service_unavailable_error unavailable serviceunavailableexception"
    ),
    504: "timeout timeout_error request_timeout gateway_timeout modeltimeoutexception",
}
_STATUS_BY_WORD = {word: status for status, words in _WORDS_BY_STATUS.items() for word in words.split()}


def api_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str,
    message: str,
    code: str | None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> APIError:
    """Build the typed error for ``status`` and ``code``.

    The provider's ``x-should-retry`` header overrides our own choice of whether a retry makes sense.
    """
    text = message or _plain_text(body) or "no message"
    kind = _error_class(status, code, text)
    verdict = {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    if verdict is None and code == "insufficient_quota":
        verdict = False
    if verdict is None and status in (408, 409):
        verdict = True
    return kind(
        f"{provider} answered {status}{f' ({code})' if code else ''}: {_shortened(text)}",
        provider=provider,
        status=status,
        code=code,
        request_id=request_id or request_id_of(headers),
        retry_after=retry_after if retry_after is not None else retry_after_seconds(headers),
        body=body[:KEPT_BODY_BYTES].decode(errors="replace"),
        retryable=verdict,
    )


_CLASSES_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}


def _error_class(status: int, code: str | None, message: str) -> type[APIError]:
    if code in _CONTEXT_CODES:
        return ContextLengthError
    if status in _MAY_BE_CONTEXT and _CONTEXT_WORDS.search(message, 0, _SEARCHED_CHARACTERS):
        return ContextLengthError
    if code == "model_not_found":
        return NotFoundError
    found = _CLASSES_BY_STATUS.get(status)
    if found is not None:
        return found
    if status >= 500:
        return ServerError
    return InvalidRequestError if status >= 400 else APIError


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the wait in seconds that the host asks for: ``retry-after-ms``, then ``retry-after`` as seconds or date.

    Where both are missing or invalid, the upstream provider's headers count, which LiteLLM copies with the prefix
    ``llm_provider-``. None = no valid wait given.
    """
    for prefix in ("", "llm_provider-"):
        text = bounded_wait(headers.get(f"{prefix}retry-after-ms"), unit=1000.0)
        if text is None:
            text = bounded_wait(headers.get(f"{prefix}retry-after"))
        if text is None:
            text = _seconds_until(headers.get(f"{prefix}retry-after"), headers.get("date"))
        if text is not None:
            return text
    return None


LONGEST_WAIT = 366 * 86_400.0
"""Seconds; a longer wait is cut to this one."""


def bounded_wait(text: str | None, *, unit: float = 1.0) -> float | None:
    """Parse a number of seconds from a header or body, limited to 0 … ``LONGEST_WAIT``; None if it is not a number.

    Args:
        text: The number in digits; None = missing.
        unit: Length of a second in the number's unit, such as 1000 for milliseconds.
    """
    try:
        seconds = float(text or "") / unit
    except ValueError:
        return None
    return None if isnan(seconds) else min(max(0.0, seconds), LONGEST_WAIT)


def _seconds_until(date: str | None, now: str | None) -> float | None:
    """Return the seconds until ``date``, by the response's own clock, so that a wrong local clock does not matter."""
    from email.utils import parsedate_to_datetime

    if not date or not now:
        return None
    try:
        seconds = (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()
    except (IndexError, OverflowError, TypeError, ValueError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT)


def truncated(terminal: str) -> TruncatedStreamError:
    """Return the error for a body that ended before its terminal event."""
    return TruncatedStreamError(
        f"the stream ended without {terminal}; .partial holds the answer so far, which may be incomplete"
    )


def error_number(error: JsonObject) -> int | None:
    """Return the number in an error object's code or status (HTTP or the host's own); None if there is none."""
    names = ("status_code", "code", "error_code", "status")
    return next((number for name in names if (number := _number(error.get(name)))), None)


def error_status(error: JsonObject) -> int | None:
    """Return the HTTP status of an error object, by its number, its code or its type; None if it has none of them."""
    number = error_number(error)
    if number is not None and 400 <= number < 600:
        return number
    words = (as_text(error.get(name)).lower() for name in ("code", "error_code", "type", "status"))
    return next((_STATUS_BY_WORD[word] for word in words if word in _STATUS_BY_WORD), None)


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII) else as_count(value)


def error_object(body: bytes) -> JsonObject:
    """Return the JSON object of an error body, or the only element of an array; empty if the body is neither."""
    try:
        value = loads(body)
    except ValueError:
        return {}
    if isinstance(value, list):
        items = cast(list[object], value)
        value = items[0] if items else None
    return as_object(value)


@dataclass(frozen=True, slots=True)
class ErrorFields:
    """The fields of a provider's error object; built by ``error_fields``.

    Attributes:
        message: The message; empty if there is none.
        code: The error code, else its number; None if there is neither.
        status: The HTTP status; None if it cannot be derived.
        layers: The nested error objects, outermost first, for fields of one dialect only.
    """

    message: str
    code: str | None
    status: int | None
    layers: tuple[JsonObject, ...]


_DEEPEST = 5
_INSIDE = ("error", "errors", "message", "detail")
_NAMED_ERROR = re.compile(r"(error|exception)\Z", re.IGNORECASE)
_MESSAGES = ("message", "error", "detail", "msg", "Message", "error_message", "error_description")
_CODES = ("code", "error_code", "type", "__type")
_NO_CODES = frozenset({"error", "None", "null"})


def error_fields(parsed: JsonObject) -> ErrorFields:
    """Read an error object in any of the shapes that hosts and gateways use.

    The fields may be at the top, in ``error`` or ``errors``, in a member named like an error (``throttlingException``),
    or as JSON text in the message, where a gateway quotes the upstream provider. The result has the innermost message
    and the outermost code.
    """
    layers = tuple(_layers(parsed))
    numbers = (error_number(layer) for layer in layers)
    code = next((word for layer in layers if (word := _code(layer))), None)
    return ErrorFields(
        message=next((words for layer in reversed(layers) if (words := _message(layer))), ""),
        code=code or next((str(number) for number in numbers if number), None),
        status=next((status for layer in layers if (status := error_status(layer)) is not None), None),
        layers=layers,
    )


def _layers(layer: JsonObject) -> Iterator[JsonObject]:
    """Yield an error object, then the error objects nested in it."""
    for _ in range(_DEEPEST):
        if not layer:
            return
        yield layer
        inside = next((inner for name in _INSIDE if (inner := _object_in(layer.get(name), name))), None)
        layer = _named_error(layer) if inside is None else inside


def _object_in(value: object, name: str) -> JsonObject:
    """Return the error object in a member: an object, the first element of a list, or JSON text; empty if there is
    none."""
    if name != "detail":  # a list there is a validation report, and is kept whole
        items = as_list(value)
        value = items[0] if items else value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return as_object(value)


def _named_error(layer: JsonObject) -> JsonObject:
    """Return the object in a member named like an error, such as ``throttlingException``; empty if there is none."""
    for name, value in layer.items():
        found = _NAMED_ERROR.search(name)
        inner = as_object(value) if found else {}
        if found and inner:
            return inner if found[0] == "error" else {"type": name, **inner}
    return {}


def _message(layer: JsonObject) -> str:
    """Return the message of one error object, without the error objects nested in it."""
    texts = ((as_text(layer.get(name)).strip(), name) for name in _MESSAGES)
    words = next((text for text, name in texts if text and not _object_in(text, name)), "")
    if words:
        return words
    detail = as_list(layer.get("detail")) or as_object(layer.get("detail"))
    if detail:
        try:
            return dumped(detail)
        except ProtocolError:  # nested too deeply: the start of the body is quoted instead
            return ""
    return "; ".join(filter(None, map(as_text, as_list(layer.get("errors")))))


def _code(layer: JsonObject) -> str | None:
    codes = (as_text(layer.get(name)) for name in _CODES)
    return next((code for code in codes if code and code not in _NO_CODES), None)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} … ({len(text)} characters in all)"


def _plain_text(body: bytes) -> str:
    return body[:QUOTED_BYTES].decode(errors="replace").strip()
