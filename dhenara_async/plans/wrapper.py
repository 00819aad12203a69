"""``SourceWrapper``: the base of event sources that read an inner one."""

from collections.abc import Sequence

from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.source import EventSource
from dhenara_async.events import StreamEvent
from dhenara_async.messages.messages import Origin


class SourceWrapper:
    """Passes on everything of an inner event source; subclasses override what they change. See ``EventSource``.

    Args:
        source: The inner event source; a subclass may replace ``_source`` later.
    """

    def __init__(self, source: EventSource) -> None:
        self._source = source

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._source.over

    @property
    def repeatable(self) -> bool:
        """See ``EventSource``."""
        return self._source.repeatable

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self._source.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        return self._source.account

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        return await self._source.receive()

    async def close(self, *, lost: bool = False) -> None:
        """See ``EventSource``."""
        await self._source.close(lost=lost)
