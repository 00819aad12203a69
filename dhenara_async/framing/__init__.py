"""From bytes to frames: a body is cut where its protocol says, however the network cut it.

``Framer`` is the seam; ``sse`` is the only framing so far, a binary one for cloud hosts is a file beside it.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Frame:
    """One message of a body.

    Attributes:
        data: Its payload, undecoded; for a plain body the whole of it.
        event: Its name, where the protocol gives it one.
    """

    data: bytes
    event: bytes = b""


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
