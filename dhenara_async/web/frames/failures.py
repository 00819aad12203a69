"""Errors in words for people who use an app: no text of a provider, no secrets, nothing of the request."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from dhenara_async import errors
from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    BudgetError,
    ConfigurationError,
    ContextLengthError,
    ConversionLossError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    StoreError,
    StreamStateError,
    TransportError,
    UnknownConversationError,
    UnknownTurnError,
    UnsupportedError,
)
from dhenara_async.frozen import ShortRepr
from dhenara_async.turns.turn import CANCELLED

OPERATOR_ERRORS: tuple[type[BaseException], ...] = (
    AuthenticationError,
    PermissionDeniedError,
    NotFoundError,
    ConfigurationError,
)
"""Errors of the account, the name of the model or an option: only the people who run the app can mend them."""

_OPERATOR = "This model cannot be used at the moment. The people who run this app have to look into it."

# The first class that fits counts: a subclass stands before its base.
_WORDS: tuple[tuple[type[BaseException], int, str], ...] = (
    (BudgetError, 429, "The budget for answers is used up."),
    (ContextLengthError, 413, "The conversation is too long for this model."),
    (RateLimitError, 429, "The model gets too many requests at the moment. Try again later."),
    (OverloadedError, 503, "The model is overloaded at the moment. Try again later."),
    (AuthenticationError, 502, _OPERATOR),
    (PermissionDeniedError, 502, _OPERATOR),
    (NotFoundError, 502, _OPERATOR),
    (InvalidRequestError, 502, "The model refused the request."),
    (APIError, 502, "The model failed. Try again later."),
    (DeadlineError, 504, "The model took too long to answer."),
    (TransportError, 502, "The connection to the model broke before the answer was complete."),
    (ProtocolError, 502, "The connection to the model broke before the answer was complete."),
    (UnsupportedError, 422, "This model cannot take what was sent, such as a file of this kind."),
    (ConversionLossError, 422, "This model cannot take everything that the conversation has."),
    (UnknownConversationError, 404, "There is no such conversation."),
    (UnknownTurnError, 404, "There is no such answer, or it ended too long ago."),
    (StoreError, 503, "The answer could not be kept. Try again later."),
    (ConfigurationError, 500, _OPERATOR),
    (StreamStateError, 500, "The answer ended before it was complete."),
)
_CUT = "The answer ended before it was complete."
_STOPPED = "The answer was stopped."
_UNEXPECTED = "Something went wrong inside this app."


@dataclass(frozen=True, slots=True, repr=False)
class Failure(ShortRepr):
    """Why an answer is not complete.

    Attributes:
        code: The name of the error's class, such as ``RateLimitError``; ``Cancelled`` if the answer was stopped.
        message: A sentence for people, without any text of the provider or of the request.
        retryable: Whether the same question may succeed a moment later.
        status: The HTTP status, if nothing was sent yet.
        retry_after: Seconds until the question may succeed, as the provider asks for; None if it asked for none.
    """

    code: str
    message: str
    retryable: bool = False
    status: int = 500
    retry_after: float | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of a response without an answer: when to ask again, and whether that makes sense.

        The SDKs of OpenAI and Anthropic ask again at every status from 500 on unless ``x-should-retry`` says no.
        """
        told: dict[str, str] = {}
        if self.retry_after is not None and self.retry_after >= 0:
            told["retry-after"] = str(ceil(self.retry_after))
        if self.status >= 500 and not self.retryable:
            told["x-should-retry"] = "false"
        return told

    @property
    def cancelled(self) -> bool:
        """Whether somebody stopped the answer, in place of an error."""
        return self.code == _CANCELLED

    def to_dict(self) -> dict[str, object]:
        """Return ``type`` (``error``), ``code``, ``message`` and ``retryable``."""
        return {"type": "error", "code": self.code, "message": self.message, "retryable": self.retryable}


_CANCELLED = "Cancelled"


def failure_of(error: BaseException, node: ConversationNode | None = None) -> Failure:
    """Describe an error for the people who use an app.

    Args:
        error: The error that ended the answer.
        node: The node of the turn, if there is one yet.
    """
    of_node = None if node is None else node.error
    of_loop = isinstance(error, StreamStateError) and str(error).endswith(CANCELLED)  # whose node may be complete
    if of_node == CANCELLED or of_loop:
        return Failure(_CANCELLED, _STOPPED, retryable=True, status=409)
    for kind, status, words in _WORDS:
        if isinstance(error, kind):
            retryable = bool(getattr(error, "retryable", False))
            wait = error.retry_after if isinstance(error, APIError) else None
            return Failure(type(error).__name__, words, retryable, status, wait)
    return Failure("InternalError", _UNEXPECTED)


def failure_named(name: str) -> Failure:
    """Describe an error of which only the name of its class is left, as in the ``error`` of a node.

    Args:
        name: The name of the class; any other text is an answer that was cut for another reason.
    """
    error = getattr(errors, name, None) if name.isidentifier() else None
    if isinstance(error, type) and issubclass(error, errors.DhenaraError):
        for kind, status, words in _WORDS:
            if issubclass(error, kind):
                return Failure(name, words, bool(getattr(error, "retryable", False)), status)
    return Failure("Interrupted", _CUT, retryable=True)
