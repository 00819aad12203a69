"""``Frames``: what every protocol of the web has in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dhenara_async.conversation import ConversationNode
from dhenara_async.events import StreamEvent
from dhenara_async.frozen import ShortRepr
from dhenara_async.response import AIModelCallResponse
from dhenara_async.web.frames.failures import Failure

UNBUFFERED: Mapping[str, str] = {
    # no-transform: proxies that compress would hold the words back; x-accel-buffering is nginx's own header
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
"""Headers that keep proxies and browsers from holding an answer back."""


@dataclass(frozen=True, slots=True, repr=False)
class Ended(ShortRepr):
    """The results of a complete answer.

    Attributes:
        node: The turn's node; None outside a conversation.
        response: The answer outside a conversation; None for a turn.
    """

    node: ConversationNode | None = None
    response: AIModelCallResponse | None = None


class Frames(Protocol):
    """Writes one answer in one protocol. An instance is for one response."""

    @property
    def media_type(self) -> str:
        """The content type of the response."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Further headers of the response, names in lower case."""
        ...

    @property
    def comment(self) -> bytes:
        """The bytes that keep a quiet connection open, between any two writes; empty if the protocol has none."""
        ...

    def begin(self) -> bytes:
        """Return what comes before the first event."""
        ...

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """Return the next events.

        Args:
            events: The events, in order.
            ids: A cursor for each event, to go on behind it; empty if the answer cannot be gone on with.
        """
        ...

    def end(self, ended: Ended) -> bytes:
        """Return the end of a complete answer."""
        ...

    def fail(self, failure: Failure) -> bytes | None:
        """Return the end of an answer that was cut; None = break the connection, since the protocol has no words."""
        ...
