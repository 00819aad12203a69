"""Cuts a response body into frames as its protocol defines them, however the network split it.

``Framer`` is the interface; ``Framing`` names one in a row of the hosts' table. ``sse`` is the only framing so far; a
binary one for cloud hosts would be a file beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

Frame = bytes
"""The undecoded payload of one message; for a plain body, the whole body. Plain bytes, because one is created per
token; a message with a name is a ``NamedFrame``."""


class NamedFrame(bytes):
    """A message with an event name that its payload does not repeat at its start.

    Parse it with ``drivers.load``, or convert it to ``bytes``: orjson accepts no subclass of bytes.

    Args:
        data: The payload.
        event: The event name.
    """

    event: bytes

    def __new__(cls, data: bytes, event: bytes) -> Self:
        frame = super().__new__(cls, data)
        frame.event = event
        return frame


def name_of(frame: Frame) -> bytes:
    """Return the event name of ``frame``; empty if it has none, or if the payload begins with it."""
    return frame.event if isinstance(frame, NamedFrame) else b""


class Framer(Protocol):
    """Cuts one body into frames; buffers the bytes of an incomplete frame."""

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that ``chunk`` completes.

        Raises:
            ProtocolError: A frame grew past the limit.
        """
        ...

    def finish(self) -> list[Frame]:
        """Return the frames left at the end of the body; the last one may be incomplete."""
        ...


@dataclass(frozen=True, slots=True)
class Framing:
    """A way to cut streamed bodies into messages.

    Attributes:
        media_type: Sent as the ``accept`` header of streaming requests. A response whose content type contains its
            second half is streamed.
        framer: Makes the framer of one body, given the size limit of a frame in bytes.
        starts: The first bytes of a streamed body, to recognize one whose content type does not say so; empty = every
            body that is no JSON or HTML document is streamed.
    """

    media_type: str
    framer: Callable[[int], Framer]
    starts: tuple[bytes, ...] = ()

    def announced_by(self, content_type: str) -> bool:
        """Whether a response with this content type is streamed in this framing."""
        return self.media_type.partition("/")[2] in content_type
