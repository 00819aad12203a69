"""The three forms of a request.

``ChatRequest`` is provider-neutral. A driver encodes it to a ``WireRequest``, without host or credentials. With address
and credentials it is an ``HttpRequest``, the only form that a transport receives.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dhenara_async.config import AIModelCallConfig, Bounds
from dhenara_async.messages.messages import Message, Role
from dhenara_async.response import CallWarning

_HEADER_BYTES = Bounds().max_header_bytes


@dataclass(slots=True, frozen=True)
class ChatRequest:
    """A provider-neutral request that is legal for its model.

    Attributes:
        messages: The conversation, oldest first; never empty.
        instructions: The system instructions, for this call only.
        config: The call's settings.
        stream: Whether the answer is streamed on the wire.
        continuation: The provider's token to go on with its answer to this very request; None = a new answer.
    """

    messages: tuple[Message, ...]
    instructions: tuple[str, ...]
    config: AIModelCallConfig
    stream: bool
    continuation: str | None = None

    @classmethod
    def of(
        cls, messages: Iterable[Message], *, instructions: Iterable[str], config: AIModelCallConfig, stream: bool
    ) -> "ChatRequest":
        """Build a request; leading system messages become instructions, before the call's own."""
        turns = tuple(messages)
        first = next((at for at, message in enumerate(turns) if message.role is not Role.SYSTEM), len(turns))
        leading = (message.get_text() for message in turns[:first])
        texts = tuple(text for text in (*leading, *instructions) if text.strip())
        return cls(messages=turns[first:], instructions=texts, config=config, stream=stream)


@dataclass(slots=True, frozen=True)
class WireRequest:
    """A ``ChatRequest`` encoded for one dialect, without host and credentials.

    Attributes:
        path: The path below the host's base URL, query included (``/chat/completions``).
        headers: The dialect's own headers.
        body: JSON.
        warnings: Settings that were dropped or adjusted.
        lists: Headers with list values: the caller's values are appended to the dialect's instead of replacing them.
        replaced: Whether lone surrogates, which JSON cannot hold, were replaced by U+FFFD in the body.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[CallWarning, ...] = ()
    lists: frozenset[str] = frozenset()
    replaced: bool = False


@dataclass(slots=True, frozen=True)
class HttpRequest:
    """A ``POST`` request with address and credentials.

    Attributes:
        url: Absolute, already encoded.
        headers: All headers; not in the repr because they contain credentials.
        body: The bytes to send.
        max_header_bytes: Maximum bytes of the response's header block.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    max_header_bytes: int = _HEADER_BYTES
