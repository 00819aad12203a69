"""From bytes to frames: a body is cut where its protocol says, however the network cut it.

``Framer`` is the seam; ``sse`` is the only framing so far, a binary one for cloud hosts is a file beside it.
"""

from typing import Protocol, Self

Frame = bytes
"""One message of a body: its payload, undecoded; for a plain body the whole of it. Bare bytes, because one is made per
token; a message that has a name of its own is a ``NamedFrame``."""


class NamedFrame(bytes):
    """A message with a name that its payload does not begin by repeating.

    Read it with ``drivers.load``, or make ``bytes`` of it: orjson takes no other class.

    Args:
        data: The payload.
        event: The name.
    """

    event: bytes

    def __new__(cls, data: bytes, event: bytes) -> Self:
        frame = super().__new__(cls, data)
        frame.event = event
        return frame


def name_of(frame: Frame) -> bytes:
    """The name that the protocol gives ``frame``; empty where there is none but what the payload says first."""
    return frame.event if isinstance(frame, NamedFrame) else b""


class Framer(Protocol):
    """Cuts one body into frames; holds the bytes that are not a whole frame yet."""

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that are complete with ``chunk``.

        Raises:
            ProtocolError: A frame grew past the limit.
        """
        ...

    def finish(self) -> list[Frame]:
        """What was left when the body ended; the last of it may be torn."""
        ...
