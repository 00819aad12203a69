"""Errors in the shape of OpenAI's API: ``{"error": {message, type, param, code}}``. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import ShortRepr
from dhenara_async.web.chat.http import WebReply
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.inputs.fields import RefusedRequest

JSON = "application/json"

# The status and the code of a failure where OpenAI has a word for it: its clients act on them. The SDK sends a request
# again at 429 and from 500 on, so what cannot succeed the next time has another status.
_KNOWN: dict[str, tuple[int, str | None]] = {
    "BudgetError": (403, "insufficient_quota"),
    "ContextLengthError": (400, "context_length_exceeded"),
    "RateLimitError": (429, "rate_limit_exceeded"),
    "InvalidRequestError": (400, None),
    "UnsupportedError": (400, "unsupported_value"),
    "ConversionLossError": (400, "unsupported_value"),
}


@dataclass(frozen=True, slots=True, repr=False)
class OpenAIError(ShortRepr):
    """An error as a client of OpenAI's API reads it.

    Attributes:
        status: The HTTP status.
        message: A sentence for people.
        code: OpenAI's word for it; None if it has none.
        param: The field of the request that is wrong; None if it is no single one.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None

    @property
    def type(self) -> str:
        """OpenAI's kind of the error, which follows from its status."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    @property
    def body(self) -> bytes:
        """The body of a response, or the data of an event, that tells of the error."""
        told = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return dumps({"error": told})


NO_MODEL = OpenAIError(404, "There is no such model: GET /v1/models lists the names.", "model_not_found", "model")
NOT_ASKED = OpenAIError(
    400, "This model cannot be asked that: a message is empty, or a part or an option does not fit it."
)


FAILED = OpenAIError(502, "The provider reported an error in place of the rest of the answer.")
"""The error of an answer that its provider ended with the finish reason ``error``."""


class OpenAIRefusal(RefusedRequest):
    """A request that is answered with an error of OpenAI's API.

    Attributes:
        error: The error.
    """

    def __init__(self, error: OpenAIError) -> None:
        super().__init__(error.status, error.message)
        self.error: OpenAIError = error


def refused(words: str, param: str, code: str = "invalid_value") -> OpenAIRefusal:
    """Return the refusal of a request because of one of its fields.

    Args:
        words: The sentence for the client, without anything that it sent.
        param: The field, with dots before the names inside it.
        code: OpenAI's word for what is wrong.
    """
    return OpenAIRefusal(OpenAIError(400, words, code, param))


def error_of(failure: Failure) -> OpenAIError:
    """Return a failure as an error of OpenAI's API."""
    status, code = _KNOWN.get(failure.code, (failure.status, None))
    return OpenAIError(status, failure.message, code)


def error_reply(error: OpenAIError, headers: Mapping[str, str] | None = None) -> WebReply:
    """Return an error as a whole response.

    Args:
        error: The error.
        headers: Further headers; None = none.
    """
    return WebReply(error.status, error.body, JSON, {"cache-control": "no-store", **(headers or {})})
