"""The canonical question, and the same question as bytes for a wire.

``ChatRequest`` is what drivers encode; ``WireRequest`` is what they make of it, without host or credentials;
``HttpRequest`` is that, addressed and signed, which is all a transport sees.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dhenara_async.config import AIModelCallConfig, Bounds
from dhenara_async.messages.messages import Message, Role
from dhenara_async.response import CallWarning

_HEADER_BYTES = Bounds().max_header_bytes


@dataclass(slots=True, frozen=True)
class ChatRequest:
    """One question to one model, legal for it.

    Attributes:
        messages: The conversation, oldest first; never empty.
        instructions: What leads the conversation, for this call only.
        config: The call's knobs.
        stream: Whether the answer is to be streamed on the wire.
    """

    messages: tuple[Message, ...]
    instructions: tuple[str, ...]
    config: AIModelCallConfig
    stream: bool

    @classmethod
    def of(
        cls, messages: Iterable[Message], *, instructions: Iterable[str], config: AIModelCallConfig, stream: bool
    ) -> "ChatRequest":
        """A request in which system messages that lead the conversation stand before the call's instructions."""
        turns = tuple(messages)
        first = next((at for at, message in enumerate(turns) if message.role is not Role.SYSTEM), len(turns))
        leading = (message.get_text() for message in turns[:first])
        texts = tuple(text for text in (*leading, *instructions) if text.strip())
        return cls(messages=turns[first:], instructions=texts, config=config, stream=stream)


@dataclass(slots=True, frozen=True)
class WireRequest:
    """What a driver makes of a ``ChatRequest``: everything but where it goes and who we are.

    Attributes:
        path: Below the host's base URL, query included (``/chat/completions``).
        headers: The dialect's own headers.
        body: JSON.
        warnings: Knobs that could not be taken as given.
        lists: Headers whose values are lists: a caller's own join the dialect's instead of replacing them.
        replaced: Whether halves of surrogate pairs, which JSON cannot hold, were replaced by U+FFFD in the body.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[CallWarning, ...] = ()
    lists: frozenset[str] = frozenset()
    replaced: bool = False


@dataclass(slots=True, frozen=True)
class HttpRequest:
    """A ``POST`` ready to be sent.

    Attributes:
        url: Absolute, already encoded.
        headers: All of them; credentials among them, hence no repr.
        body: The bytes to send.
        max_header_bytes: The most bytes that the header block of the answer may have.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    max_header_bytes: int = _HEADER_BYTES
