"""The class of an error is found by what the provider says, where its code or status says too little."""

import orjson
import pytest

from dhenara_async.drivers.failures import api_error, error_fields
from dhenara_async.errors import (
    APIError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    ServerError,
)


def _error(status: int, message: str, code: str | None = None) -> APIError:
    return api_error(status, {}, b"", provider="acme", message=message, code=code)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "exceed_context_size_error", "no room"),
        (413, "request_too_large", "no room"),
        (400, None, "the request exceeds the available context size, try a larger one"),
        (500, None, "context size exceeded by 12 tokens"),
        (400, "400", "This endpoint's maximum context length is 100 tokens, and 120 were requested."),
        (400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 90 + 20 > 100"),
        (400, "invalid_request_error", "prompt is too long: 120 tokens > 100 maximum"),
        (400, "INVALID_ARGUMENT", "The input token count (120) exceeds the maximum number of tokens allowed (100)."),
        (422, None, "`inputs` tokens + `max_new_tokens` must be <= 100. Given: 90 and 20"),
        (400, None, "This model's maximum prompt length is 100 but the request contains 120 tokens."),
        (400, "ValidationException", "Input is too long for requested model."),
        (400, None, "Prompt contains 120 tokens, too large for model with 100 maximum context length"),
    ],
)
def test_a_prompt_that_does_not_fit_is_known_by_words_or_code(status: int, code: str | None, message: str) -> None:
    error = _error(status, message, code)
    assert type(error) is ContextLengthError
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens", InvalidRequestError),
        (400, "messages.0.content: text content is required in this context", InvalidRequestError),
        (429, "Too many tokens, please wait; the maximum context window is unaffected", RateLimitError),
        (404, "no model with such a context window exceeds that", NotFoundError),
        (503, "exceeded the context window of the scheduler", ServerError),
    ],
)
def test_other_errors_are_not_taken_for_it(status: int, message: str, kind: type[APIError]) -> None:
    error = _error(status, message)
    assert not isinstance(error, ContextLengthError)
    assert isinstance(error, kind) or status == 503


def test_a_long_message_is_cut() -> None:
    error = _error(500, "x" * 5_000_000)
    assert len(str(error)) < 5000
    assert "5000000 characters" in str(error)


_QUOTED = orjson.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "no cook is free"}}).decode()


@pytest.mark.parametrize(
    ("parsed", "message", "code", "status"),
    [
        ({"error": {"message": "no fish", "code": "sold_out"}}, "no fish", "sold_out", None),
        ({"error": {"message": "no fish", "code": 429}}, "no fish", "429", 429),
        ({"error": {"message": "no fish", "type": "None", "param": "None", "code": "529"}}, "no fish", "529", 529),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "wait"}}, "wait", "rate_limit_error", 429),
        ({"error": {"error": {"message": "no fish", "type": "sold_out"}}}, "no fish", "sold_out", None),
        ({"error": "no fish"}, "no fish", None, None),
        ({"error": "sold_out", "message": "no fish"}, "no fish", None, None),
        ({"message": "no fish", "code": 503}, "no fish", "503", 503),
        ({"detail": "no fish"}, "no fish", None, None),
        ({"detail": [{"loc": ["fish"], "msg": "missing"}]}, '[{"loc":["fish"],"msg":"missing"}]', None, None),
        ({"errors": [{"message": "no fish", "code": 7003}]}, "no fish", "7003", None),
        ({"errors": ["no fish", "no soup"]}, "no fish; no soup", None, None),
        ({"error_code": "SOLD_OUT", "message": "no fish"}, "no fish", "SOLD_OUT", None),
        ({"error_code": "SOLD_OUT", "message": _QUOTED}, "no cook is free", "SOLD_OUT", 503),
        (
            {"error_code": "SOLD_OUT", "message": orjson.dumps({"cook_error": {"message": _QUOTED}}).decode()},
            "no cook is free",
            "SOLD_OUT",
            503,
        ),
        ({"throttlingException": {"message": "wait"}}, "wait", "throttlingException", 429),
        ({"__type": "ServiceUnavailableException", "Message": "closed"}, "closed", "ServiceUnavailableException", None),
        ({"error": {"message": "{no fish}"}}, "{no fish}", None, None),
        ({"error": [None, 1]}, "", None, None),
        ({"error": None, "message": {"deep": []}, "code": None}, "", None, None),
        ({}, "", None, None),
    ],
)
def test_errors_are_read_in_every_shape(
    parsed: dict[str, object], message: str, code: str | None, status: int | None
) -> None:
    told = error_fields(parsed)
    assert (told.message, told.code, told.status) == (message, code, status)


def test_an_error_that_is_nested_without_end_is_read_so_far() -> None:
    nested: dict[str, object] = {"message": "no fish"}
    for _ in range(2000):
        nested = {"error": nested}
    assert error_fields(nested).message == ""


@pytest.mark.parametrize("depth", [300, 100_000])
def test_deeply_nested_details_become_the_message_if_they_can_be_serialized(depth: int) -> None:
    detail: object = "no fish"
    for _ in range(depth):
        detail = [detail]
    assert error_fields({"detail": detail}).message == ("[" * 300 + '"no fish"' + "]" * 300 if depth == 300 else "")
