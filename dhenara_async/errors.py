"""The exceptions of this library.

A class exists only where a caller would handle it differently::

    DhenaraError
    ├── ConfigurationError(ValueError)     fix it before any byte is sent: a key is missing, an option is bad
    │   ├── MissingExtraError(ImportError) an optional dependency is not installed; carries the extra's name
    │   └── NotLoadedError                 a part of a large conversation that was not loaded from its store is needed
    ├── UnsupportedError                   this model or dialect cannot express a part; names the part and the model
    ├── ConversionLossError                strict policy: this hop would lose content; carries the entries
    ├── BudgetError                        the call would spend more than its budget allows; nothing was sent
    ├── UnknownConversationError(LookupError)  the store holds no conversation with that id
    ├── StoreError                         the store cannot read or write: a file, a database or the way to it failed
    │   └── SchemaError                    the database is newer than this package, or not migrated yet
    ├── ToolServerError                    a server of tools cannot be opened, or does not list them; nothing was sent
    ├── StreamStateError(RuntimeError)     our API misused: ``.response`` before the end, a closed stream iterated
    │   └── DetachedError                  the turn goes on without this block: attach to it to read on
    ├── ToolArgumentsError(ValueError)     a tool call's arguments do not fit the tool: send the message to the model
    ├── StructuredOutputError(ValueError)  the answer does not follow its schema; carries the answer's text
    │   ├── AnswerRefusedError             the model or a filter declined: show the refusal, do not ask again
    │   └── AnswerCutError                 the answer ended early: raise the limit, or continue from there
    ├── TransportError
    │   ├── ConnectError                   no connection: nothing was sent, another try is safe
    │   ├── ReadError                      the connection broke while the answer was received
    │   └── DeadlineError(TimeoutError)    one of our time limits ran out; carries its name and value
    ├── ProtocolError                      the provider broke its own protocol: bad JSON, an HTML page
    │   ├── TruncatedStreamError           the body ended before the dialect's terminal event
    │   └── BoundsError                    larger than ``Bounds`` allows; carries the setting and its value
    └── APIError                           the provider refused or failed the call
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

# Line ends, terminal control characters, bidirectional overrides, and surrogates, which UTF-8 cannot encode.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str) -> str:
    """Return ``text`` with control characters escaped (``\\n``, ``\\x1b``), so that it stays on one log line."""
    return text if text.isprintable() else _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


class DhenaraError(Exception):
    """Base of every error of this library. Messages contain no control characters, also in quoted provider text.

    Attributes:
        retryable: Whether the same call may succeed if it is made again unchanged.
        attempts: Number of requests the call had made when it failed; also 1 if none was sent.
    """

    retryable: bool = False
    attempts: int = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigurationError(DhenaraError, ValueError):
    """A mistake found before any byte was sent: a missing key, a bad option, an unreadable file."""


class NotLoadedError(ConfigurationError):
    """A part of a large conversation is needed that was not loaded from its store; the message says how to load it."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed; the message has the command that installs it.

    Attributes:
        extra: The name of the extra, as in ``pip install 'dhenara-async[httpx]'``.
    """

    def __init__(self, feature: str, *, extra: str) -> None:
        super().__init__(f"{feature} needs the extra {extra!r}: pip install 'dhenara-async[{extra}]'")
        self.extra = extra


class UnsupportedError(DhenaraError):
    """The target cannot express a content part of the request; nothing was sent."""


class ConversionLossError(DhenaraError):
    """A strict conversion policy refused a hop that would lose content; nothing was sent.

    Attributes:
        entries: The losses, one description per part, in request order.
    """

    def __init__(self, message: str, *, entries: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.entries: tuple[object, ...] = tuple(entries)


class BudgetError(DhenaraError):
    """The call would spend more than its budget allows; nothing was sent.

    Attributes:
        limit: The exceeded part of the budget: ``money`` or ``tokens``.
        left: The remaining budget, after the reservations of running calls; below 0 if answers cost more than their
            estimate.
        asked: The estimate for the refused call; 0 if unknown.
    """

    def __init__(self, message: str, *, limit: str, left: Decimal | int, asked: Decimal | int) -> None:
        super().__init__(message)
        self.limit = limit
        self.left = left
        self.asked = asked


class UnknownConversationError(DhenaraError, LookupError):
    """The store holds no conversation with that id."""


class UnknownTurnError(DhenaraError, LookupError):
    """No such turn can be attached to or cancelled here."""


class StoreError(DhenaraError):
    """A store could not read or write: its file, its database or the connection failed. Messages hold no content."""


class SchemaError(StoreError):
    """The database was written by a newer version of the package, or is not migrated to this one yet."""


class ToolServerError(DhenaraError):
    """A server of tools cannot be opened, or does not list its tools; nothing was sent to the model.

    Attributes:
        server: The server's name.
    """

    def __init__(self, message: str, *, server: str) -> None:
        super().__init__(message)
        self.server: str = server


class StreamStateError(DhenaraError, RuntimeError):
    """The library was used out of order: a result before its end, a stream outside its block."""


class DetachedError(StreamStateError):
    """A turn goes on without the block that asks for it: it was detached, or this block left before its end."""


class ToolArgumentsError(DhenaraError, ValueError):
    """A tool call's arguments do not fit the tool. The message can be sent to the model as the call's result.

    Attributes:
        name: The tool's name.
    """

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.args: tuple[str, ...] = (_CONTROL_BUT_LINES.sub(_escaped, message),)  # models read multi-line text well
        self.name = name


class StructuredOutputError(DhenaraError, ValueError):
    """An answer is not the requested structured output: it is not JSON, does not follow the schema, or is missing.

    Attributes:
        text: The answer's text; for a refusal with a text of its own, the refusal.
        finish_reason: Why the answer ended, a value of ``FinishReason``.
    """

    def __init__(self, message: str, *, text: str, finish_reason: str) -> None:
        super().__init__(message)
        self.text = text
        self.finish_reason = finish_reason


class AnswerRefusedError(StructuredOutputError):
    """The model, or a filter of its provider, declined to answer."""


class AnswerCutError(StructuredOutputError):
    """The answer ended before it was complete."""


class TransportError(DhenaraError):
    """The bytes did not arrive: connecting, reading or waiting failed."""

    retryable = True


class ConnectError(TransportError):
    """No connection could be made; the provider received no request."""


class ReadError(TransportError):
    """The connection broke while the answer was being received."""


class DeadlineError(TransportError, TimeoutError):
    """One of our own time limits ran out.

    Attributes:
        limit: The limit's name: a field of ``Timeouts`` (``connect``, ``first_byte`` …), ``fetch`` or ``store``.
        seconds: The limit's value in seconds.
    """

    def __init__(self, *, limit: str, seconds: float | None) -> None:
        super().__init__(f"gave up: the time limit {limit}={seconds} s ran out")
        self.limit = limit
        self.seconds = seconds


class ProtocolError(DhenaraError):
    """The provider's answer breaks the provider's own protocol: invalid JSON, an undocumented shape, an HTML page."""

    retryable = True


class TruncatedStreamError(ProtocolError):
    """The body ended before the dialect's terminal event, so the answer may be incomplete."""


class BoundsError(ProtocolError):
    """An answer, its headers or the downloads for a call are larger than ``Bounds`` allows. Not retried.

    Attributes:
        setting: The exceeded field of ``Bounds``.
        limit: The field's value.
    """

    retryable = False

    def __init__(self, message: str, *, setting: str, limit: int) -> None:
        super().__init__(f"{message} (the limit is Bounds({setting}={limit}), set it by AIModelCallConfig(bounds=…))")
        self.setting = setting
        self.limit = limit


class APIError(DhenaraError):
    """The provider refused or failed the call, by its status or by an error event inside the stream.

    Attributes:
        provider: The provider's name, as stored with answers (``"openai"``).
        status: The HTTP status; for an error event inside a stream, the status that its error type stands for.
        code: The provider's own error code or type, as sent; None if absent.
        request_id: The provider's request id, to quote to its support; None if absent.
        retry_after: Seconds to wait before the next try, as asked by the provider; None if absent.
        body: The error body as text, at most 64 KiB.
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
        self.code: str | None = None if code is None else printable(code)
        self.request_id: str | None = None if request_id is None else printable(request_id)
        self.retry_after = retry_after
        self.body = body
        if retryable is not None:
            self.retryable = retryable


class AuthenticationError(APIError):
    """The provider does not know this key."""


class PermissionDeniedError(APIError):
    """The key is valid but lacks permission for this call."""


class NotFoundError(APIError):
    """This host has no such model or path."""


class InvalidRequestError(APIError):
    """The provider rejects the request as invalid."""


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit into the model's context window."""


class RateLimitError(APIError):
    """Too many requests or tokens; ``retry_after`` has the provider's waiting time, if it sent one."""

    retryable = True


class OverloadedError(APIError):
    """The provider has no capacity at the moment."""

    retryable = True


class ServerError(APIError):
    """The provider had an internal failure."""

    retryable = True
