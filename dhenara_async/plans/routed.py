"""The event source of a target that a router or an experiment chose."""

from collections.abc import Sequence
from dataclasses import replace

from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.source import EventSource
from dhenara_async.events import StreamEvent
from dhenara_async.messages.messages import Origin
from dhenara_async.response import Decision


class RoutedSource:
    """Passes on the events of the chosen target, and adds the decision to its record; see ``EventSource``."""

    def __init__(self, source: EventSource, decision: Decision) -> None:
        self._source = source
        self._decision = decision

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        return await self._source.receive()

    async def close(self) -> None:
        """See ``EventSource``."""
        await self._source.close()

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
        record = self._source.account
        return replace(record, plan=(self._decision, *record.plan))
