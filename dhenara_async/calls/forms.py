"""A template for requests of a single question: encoded once, then filled with each question.

Most calls of a service differ in nothing but the words that are asked: same endpoint, same knobs, same instructions, no
history. The body of such a call has the same bytes around the words, whatever these are, so it is enough
to have it written once, with a word in their place that is found again. Dialects from outside may do as they like.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from dhenara_async.config import AIModelCallConfig
from dhenara_async.formatter.conversion import ConversionReport, PartOutcome
from dhenara_async.messages.messages import Message, Role, TextPart
from dhenara_async.request import ChatRequest, WireRequest

_MARKS = ("dhenara/1/question", "another question, of other words: dhenara/2")
_NATIVE = PartOutcome.unchecked(node=None, message=0, part=0, kind="text", outcome="native")
REPORT: ConversionReport = ConversionReport.unchecked(parts=(_NATIVE,))
"""The report of a single question: nothing was changed."""


Write = Callable[[Message], tuple[ChatRequest, WireRequest] | None]
"""Encodes a single question; None if formatting adds or changes anything."""


@dataclass(slots=True)
class Form:
    """The template for calls with the same config and instructions.

    Attributes:
        config: The knobs.
        given: The instructions, as the caller gave them.
        stream: Whether the answer is to be streamed on the wire.
        example: The request for one of the marks, and that as it is written; None while it is not written, or where
            the words are not found in what is written.
        written: Whether ``write`` was called.
    """

    config: AIModelCallConfig
    given: tuple[str, ...]
    stream: bool
    example: tuple[ChatRequest, WireRequest] | None = None
    written: bool = False
    _around: tuple[bytes, bytes] = (b"", b"")

    def fits(self, config: AIModelCallConfig, given: tuple[str, ...], *, stream: bool) -> bool:
        """Whether the template is for this config, these instructions and this ``stream``."""
        return config is self.config and stream is self.stream and given == self.given

    def write(self, write: Write) -> None:
        """Encode the template, once; with two marks, to prove that only the question differs."""
        self.written = True
        one, other = (write(Message.user(mark)) for mark in _MARKS)
        if one is None or other is None:
            return
        around, again = (
            tuple(wire.body.split(orjson.dumps(mark))) for (_, wire), mark in zip((one, other), _MARKS, strict=True)
        )
        beside, still = (replace(wire, body=b"") for _, wire in (one, other))
        if len(around) == 2 and around == again and beside == still:
            self._around, self.example = around, one

    def filled(self, words: str) -> bytes:
        """Fill the template with ``words``.

        Raises:
            orjson.JSONEncodeError: They cannot be written as JSON.
        """
        before, after = self._around
        return b"".join((before, orjson.dumps(words), after))


def is_fixed(config: AIModelCallConfig) -> bool:
    """Whether no encoded part of ``config`` is mutable: no dictionary and no schema.

    Its headers may have been; they are no part of what is written, and are looked at for every call.
    """
    return not (config.tools or config.structured_output or config.extra_body or config.metadata)


def lone_question(messages: Sequence[Message]) -> str | None:
    """The text of a single question; None if the call is more than that."""
    if len(messages) != 1:
        return None
    (message,) = messages
    parts = message.parts
    if message.role is not Role.USER or message.node is not None or len(parts) != 1:
        return None
    (part,) = parts
    return part.text if isinstance(part, TextPart) and part.text.strip() else None
