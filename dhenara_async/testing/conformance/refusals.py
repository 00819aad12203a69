"""Test a driver's promises about HTTP errors: any body is read, and each status has its error class."""

from collections.abc import Mapping
from typing import cast

from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from dhenara_async.hosts.auth import KeyHeader
from dhenara_async.testing.conformance.bench import KEY, Bench, Recorded
from dhenara_async.testing.conformance.findings import Findings, demand

STATUSES: Mapping[int, tuple[type[APIError], bool]] = {
    400: (InvalidRequestError, False),
    401: (AuthenticationError, False),
    403: (PermissionDeniedError, False),
    404: (NotFoundError, False),
    408: (InvalidRequestError, True),
    409: (InvalidRequestError, True),
    413: (InvalidRequestError, False),
    422: (InvalidRequestError, False),
    429: (RateLimitError, True),
    500: (ServerError, True),
    502: (ServerError, True),
    503: (OverloadedError, True),
    529: (OverloadedError, True),
}
"""The error class of each HTTP status, and whether it is retryable."""

# Bodies without a kind of error, so that the status decides …
_WITHOUT_KIND = {
    "a JSON body": b'{"error": {"message": "No."}}',
    "a flat JSON body": b'{"message": "No."}',
    "an empty body": b"",
    "an HTML page": b"<!doctype html><html><body><h1>Bad gateway</h1></body></html>",
}
# … and malformed bodies.
_MALFORMED = {
    "null": b"null",
    "an empty array": b"[]",
    "an array of one": b'[{"error": {"message": "No.", "code": 5}}]',
    "numbers as texts": b'{"error": {"message": 1, "type": 2, "code": 3.5, "status": 4, "details": 5}}',
    "objects as texts": b'{"error": {"message": {"a": []}, "type": ["b"], "code": {"c": 1}, "details": [1, {}]}}',
    "a text as the error": b'{"error": "No.", "detail": [{"loc": ["body"], "msg": "field required"}]}',
    "a number as the error": b'{"error": 5, "message": null}',
    "bytes that are not UTF-8": b"\xff\xfe\x00{",
    "half of a JSON body": b'{"error": {"mess',
}
_AUTH = "authorization"


def check_errors(bench: Bench, findings: Findings) -> None:
    """Test ``error()`` with every status, and with good and bad bodies."""
    for status, (kind, retryable) in STATUSES.items():
        for name, body in _WITHOUT_KIND.items():
            with findings.of("error.total", f"status {status} with {name}"):
                error = _error(bench, status, {"retry-after": "3"}, body)
                with findings.of("error.kind", f"status {status} with {name}"):
                    _check_kind(bench, error, status, kind, retryable)
        for name, body in _MALFORMED.items():
            with findings.of("error.total", f"status {status} with {name}"):
                _error(bench, status, {}, body)
    with findings.of("error.total", "a key that the provider quotes"):
        _check_secrets(bench, findings)


def check_refusal(bench: Bench, recorded: Recorded, where: str, findings: Findings) -> None:
    """Test ``error()`` with a recorded error response."""
    with findings.of("error.total", where):
        error = _error(bench, recorded.status, recorded.headers, recorded.body)
        with findings.of("decode.expected", where):
            wanted = recorded.error or APIError
            demand(isinstance(error, wanted), f"it should be {wanted.__name__} and is {type(error).__name__}: {error}")
            included = recorded.text is None or recorded.text in str(error)
            demand(included, f"the error should say {recorded.text!r} and says {str(error)!r}")
        with findings.of("error.kind", where):
            demand(error.status == recorded.status, f"its status is {error.status} instead of {recorded.status}")


def _error(bench: Bench, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    error = cast("object", bench.driver.error(status, headers, body, provider=bench.origin.provider))
    if not isinstance(error, APIError):
        raise AssertionError(f"it returned {error!r}, which is not an APIError")
    return error


def _check_kind(bench: Bench, error: APIError, status: int, kind: type[APIError], retryable: bool) -> None:
    demand(isinstance(error, kind), f"it should be {kind.__name__} and is {type(error).__name__}")
    demand(error.retryable is retryable, f"retryable should be {retryable} and is {error.retryable}")
    demand(error.status == status, f"its status is {error.status}")
    demand(error.provider == bench.origin.provider, f"its provider is {error.provider!r}")
    demand(error.retry_after == 3.0, f"retry-after is 3 s, and retry_after is {error.retry_after}")
    demand(str(status) in str(error), f"the message does not name the status: {error}")


def _check_secrets(bench: Bench, findings: Findings) -> None:
    """Test that a quoted key is only in the fields that the client masks before it raises the error."""
    hide = KeyHeader(_AUTH, bench.endpoint.api.api_key).hide
    words = f"Incorrect API key provided: {KEY}.".encode()
    bodies = (b'{"error": {"message": "%s", "code": "%s"}, "message": "%s"}' % ((words,) * 3), words)
    for body in bodies:
        error = _error(bench, 401, {}, body)
        with findings.of("error.secrets", "a key that the provider quotes"):
            attributes = {**vars(error)}
            attributes |= {"body": hide(error.body), "code": error.code and hide(error.code)}
            shown = {"its message": " ".join(hide(str(argument)) for argument in error.args)}
            shown |= {name: repr(value) for name, value in attributes.items()}
            shown |= {"its cause": f"{error.__cause__!r}"}
            held = [name for name, text in shown.items() if KEY in text]
            demand(not held, f"the key is in {', '.join(held)}")
