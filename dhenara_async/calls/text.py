"""``TextStream``: the text of an answer while it arrives."""

from collections.abc import Awaitable, Callable
from typing import Self

from dhenara_async.events import StreamEvent, TextDelta


class TextStream:
    """Iterates over the text of a stream or turn, piece by piece, and skips its other events.

    Args:
        read: Receives the next event; raises ``StopAsyncIteration`` at the end.
    """

    def __init__(self, read: Callable[[], Awaitable[StreamEvent]]) -> None:
        self._read = read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while True:
            event = await self._read()
            if isinstance(event, TextDelta) and event.text:
                return event.text
