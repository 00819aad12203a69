"""Everything this library raises.

A class exists only where a caller would do something different about it::

    DhenaraError
    ├── ConfigurationError(ValueError)     fix it before any byte is sent: a key is missing, an option is bad
    ├── UnsupportedError                   this model or dialect cannot say that; names the part and the model
    ├── ConversionLossError                strict policy: this hop would lose something; carries the entries
    ├── BudgetError                        the call would spend more than its budget allows; nothing was sent
    ├── UnknownConversationError(LookupError)  the store holds no conversation of that id
    ├── StreamStateError(RuntimeError)     our API misused: ``.response`` before the end, a closed stream iterated
    ├── ToolArgumentsError(ValueError)     the model called a tool with arguments that do not fit it: tell it so
    ├── StructuredOutputError(ValueError)  the answer is not what its schema asks for; has its text
    │   ├── AnswerRefusedError             the model or a filter declined: show the words, do not ask again
    │   └── AnswerCutError                 it ended before it was whole: raise the limit, or go on from there
    ├── TransportError
    │   ├── ConnectError                   no connection: nothing was sent, another try is safe
    │   ├── ReadError                      the connection broke while the answer came
    │   └── DeadlineError(TimeoutError)    a time limit of ours ran out; says which and its value
    ├── ProtocolError                      the provider broke its own protocol: bad JSON, an HTML page
    │   ├── TruncatedStreamError           the body ended before the dialect's terminal event
    │   └── BoundsError                    more than a setting of ``Bounds`` allows; says which and its value
    └── APIError                           the provider said no
        ├── AuthenticationError            401: the key is wrong
        ├── PermissionDeniedError          403: the key may not do this
        ├── NotFoundError                  404: no such model or path
        ├── InvalidRequestError            400, 413, 422 …: the request itself is refused
        │   └── ContextLengthError         the prompt does not fit the model's window
        ├── RateLimitError                 429
        ├── OverloadedError                503, 529: the provider has no capacity now
        └── ServerError                    any other 5xx

Every error has ``retryable``: whether the same call may succeed a moment later. Messages say what happened, with
which model, and what to do; keys and prompts never enter them.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

# Characters that end a line, colour or move about what a terminal shows, or have no bytes in UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str) -> str:
    """``text`` with its control characters as escapes (``\\n``, ``\\x1b``), so that it is one line of a log."""
    return text if text.isprintable() else _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


class DhenaraError(Exception):
    """Base of every error of this library. Messages have no control characters, whoever said what they quote.

    Attributes:
        retryable: Whether the same call may succeed if it is simply made again.
        attempts: How many requests the call had taken when it failed; 1 also where none was sent.
    """

    retryable: bool = False
    attempts: int = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigurationError(DhenaraError, ValueError):
    """Something to fix before any byte is sent: a missing key, a bad option, an unreadable file."""


class UnsupportedError(DhenaraError):
    """The target cannot express a content part of the request; nothing was sent."""


class ConversionLossError(DhenaraError):
    """A strict conversion policy refused a hop that would lose content; nothing was sent.

    Attributes:
        entries: What would have been lost, one description a part, in request order.
    """

    def __init__(self, message: str, *, entries: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.entries: tuple[object, ...] = tuple(entries)


class BudgetError(DhenaraError):
    """The call would spend more than its budget allows; nothing was sent.

    Attributes:
        limit: Which part of the budget: ``money`` or ``tokens``.
        left: What is left of it, without what calls under way may still take; below 0 where answers took more than
            was expected of them.
        asked: What the call was expected to take; 0 where that is not known.
    """

    def __init__(self, message: str, *, limit: str, left: Decimal | int, asked: Decimal | int) -> None:
        super().__init__(message)
        self.limit = limit
        self.left = left
        self.asked = asked


class UnknownConversationError(DhenaraError, LookupError):
    """The store holds no conversation with that id."""


class StreamStateError(DhenaraError, RuntimeError):
    """The library was used out of order: a result before its end, a stream outside its block."""


class ToolArgumentsError(DhenaraError, ValueError):
    """The model called a tool with arguments that do not fit it. The message can be sent back to it as the result.

    Attributes:
        name: The tool.
    """

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.args = (_CONTROL_BUT_LINES.sub(_escaped, message),)  # a model reads lines
        self.name = name


class StructuredOutputError(DhenaraError, ValueError):
    """An answer is not the structured output that was asked for: not JSON, not what the schema says, or missing.

    Attributes:
        text: What the model did say; for a refusal that has words of its own, those words.
        finish_reason: Why it ended, a value of ``FinishReason``.
    """

    def __init__(self, message: str, *, text: str, finish_reason: str) -> None:
        super().__init__(message)
        self.text = text
        self.finish_reason = finish_reason


class AnswerRefusedError(StructuredOutputError):
    """The model, or a filter of its provider, declined to answer."""


class AnswerCutError(StructuredOutputError):
    """The answer ended before it was whole."""


class TransportError(DhenaraError):
    """The bytes did not arrive: connecting, reading or waiting failed."""

    retryable = True


class ConnectError(TransportError):
    """No connection could be made; the provider saw nothing of the call."""


class ReadError(TransportError):
    """The connection broke while the answer was on its way."""


class DeadlineError(TransportError, TimeoutError):
    """One of our own time limits ran out.

    Attributes:
        limit: Which one: a name of ``Timeouts`` (``connect``, ``first_byte`` …), ``fetch`` or ``store``.
        seconds: The limit's value.
    """

    def __init__(self, *, limit: str, seconds: float | None) -> None:
        super().__init__(f"gave up: the time limit {limit}={seconds} s ran out")
        self.limit = limit
        self.seconds = seconds


class ProtocolError(DhenaraError):
    """The provider's answer breaks its own protocol: not JSON, not the announced shape, an HTML page."""

    retryable = True


class TruncatedStreamError(ProtocolError):
    """The body ended before the dialect's terminal event, so nobody knows whether the answer is whole."""


class BoundsError(ProtocolError):
    """An answer, its headers or the downloads for a call are larger than ``Bounds`` allows. Not retried.

    Attributes:
        setting: The field of ``Bounds``.
        limit: Its value.
    """

    retryable = False

    def __init__(self, message: str, *, setting: str, limit: int) -> None:
        super().__init__(f"{message} (the limit is Bounds({setting}={limit}), set it by AIModelCallConfig(bounds=…))")
        self.setting = setting
        self.limit = limit


class APIError(DhenaraError):
    """The provider refused or failed the call, by status or by an error inside the stream.

    Attributes:
        provider: Who answered, as stored with answers (``"openai"``).
        status: HTTP status; for an error inside a stream that had begun well, the status its type stands for.
        code: The provider's own code or type, as sent; None if it sent none.
        request_id: What the provider calls this request, for its support; None if not told.
        retry_after: Seconds the provider asks us to wait; None if it did not say.
        body: The error body as text, at most 64 KiB of it.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.code = None if code is None else printable(code)
        self.request_id = None if request_id is None else printable(request_id)
        self.retry_after = retry_after
        self.body = body
        if retryable is not None:
            self.retryable = retryable


class AuthenticationError(APIError):
    """The provider does not know this key."""


class PermissionDeniedError(APIError):
    """The key is known but may not do this."""


class NotFoundError(APIError):
    """There is no such model or path at this host."""


class InvalidRequestError(APIError):
    """The provider finds the request itself at fault."""


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit into the model's context window."""


class RateLimitError(APIError):
    """Too many requests or tokens; ``retry_after`` says when to come back, if the provider told."""

    retryable = True


class OverloadedError(APIError):
    """The provider has no capacity at the moment."""

    retryable = True


class ServerError(APIError):
    """The provider failed on its side."""

    retryable = True
