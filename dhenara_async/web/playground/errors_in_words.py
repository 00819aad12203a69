"""Errors as the page shows them: what happened, and what to do about it. Pure."""

from collections.abc import Mapping

from dhenara_async.conversation import ConversationNode
from dhenara_async.turns.turn import CANCELLED
from dhenara_async.web.chat.history import Json
from dhenara_async.web.frames.failures import Failure, failure_named, failure_of

_AGAIN = "Run it again, or ask another model."
_LATER = "Wait a moment and run it again, or ask another model."
_ADVICE: Mapping[str, str] = {
    "AuthenticationError": "Check the key of this provider: dhenara-async keys set PROVIDER, or its variable.",
    "PermissionDeniedError": "Check what the key of this provider may use, or ask another model.",
    "NotFoundError": "Check the name of the model, or ask another one.",
    "RateLimitError": _LATER,
    "OverloadedError": _LATER,
    "ServerError": _LATER,
    "ContextLengthError": "Ask a model with a larger context, or go on from an earlier turn.",
    "InvalidRequestError": "Ask another model, or leave out files and unusual options.",
    "UnsupportedError": "Ask a model that takes files of this kind, or leave the file out.",
    "ConversionLossError": "Ask the model that gave the earlier answers, or go on from an earlier turn.",
    "BudgetError": "Raise the budget of this app, or wait until it is renewed.",
    "ConfigurationError": "Check the settings of this model.",
    "MissingExtraError": "Install what the message of the app's log names.",
    "StoreError": "Check that the database can be reached and has room, then run it again.",
    "UnknownConversationError": "It was deleted; begin a new conversation.",
    "Cancelled": "Run it again for another answer.",
}


_TO_OPERATORS: Mapping[str, str] = {
    "AuthenticationError": "The provider does not accept the key.",
    "PermissionDeniedError": "The key may not be used for this.",
    "NotFoundError": "The provider has no such model.",
    "ConfigurationError": "This model is not set up as it has to be.",
    "MissingExtraError": "A part of this library is not installed.",
}
"""Messages for those who run the app themselves, in place of a request to tell them."""


def told_node_error(node: ConversationNode, *, details: bool) -> Json | None:
    """Return why a turn is not complete; None if it is.

    Args:
        node: The turn.
        details: Whether the recorded words go along, which may quote the provider.
    """
    if node.status == "complete":
        return None
    return told_error(node.error or "", details=details)


def told_error(recorded: str, *, details: bool) -> Json:
    """Return a recorded error in words: ``message``, ``advice``, ``code``, and ``detail`` if it may be told.

    Args:
        recorded: The class of the error, and its message behind a colon.
        details: Whether the recorded words go along.
    """
    if recorded == CANCELLED:
        return {"code": "Cancelled", "message": "It was stopped.", "advice": _ADVICE["Cancelled"]}
    name, _, words = recorded.partition(": ")
    failure = failure_named(name)
    return _told(failure, words, details=details)


def told_exception(error: BaseException, *, details: bool) -> Json:
    """Return an error that was raised in words; see ``told_error``."""
    failure = failure_of(error)
    return _told(failure, "" if failure.code == "InternalError" else str(error), details=details)


def _told(failure: Failure, words: str, *, details: bool) -> Json:
    message = _TO_OPERATORS.get(failure.code, failure.message) if details else failure.message
    told: Json = {"code": failure.code, "message": message, "advice": _ADVICE.get(failure.code, _AGAIN)}
    if details and words:
        told["detail"] = words
    return told
