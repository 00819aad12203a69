"""Reads the bodies of requests without holding up the event loop."""

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

_LARGE = 1 << 17  # bytes that take longer to read than the loop may stand still
_Read = TypeVar("_Read")


async def read_by(read: Callable[[bytes], _Read], body: bytes) -> _Read:
    """Return what a function reads of a body; a large one is read in a thread.

    Args:
        read: The function; it touches nothing that other requests share.
        body: The body.

    Raises:
        RefusedRequest: The function raises it.
    """
    return await to_thread.run_sync(read, body) if len(body) > _LARGE else read(body)
