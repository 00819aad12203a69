"""The answer of whom a router or an experiment chose."""

from collections.abc import Sequence
from dataclasses import replace

from dhenara_async.calls.source import CallRecord, EventSource
from dhenara_async.events import StreamEvent
from dhenara_async.messages.messages import Origin
from dhenara_async.response import Decision


class RoutedSource:
    """The answer of whom a router or an experiment chose; see ``EventSource``."""

    def __init__(self, feed: EventSource, decision: Decision) -> None:
        self._feed = feed
        self._decision = decision

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        return await self._feed.receive()

    async def close(self) -> None:
        """See ``EventSource``."""
        await self._feed.close()

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._feed.over

    @property
    def repeatable(self) -> bool:
        """See ``EventSource``."""
        return self._feed.repeatable

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self._feed.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        account = self._feed.account
        return replace(account, plan=(self._decision, *account.plan))
