"""The class of an error is found by what the provider says, where its code or status says too little."""

import pytest

from dhenara_async.drivers.failures import api_error
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
