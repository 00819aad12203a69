"""``ListingSource``: the events of a call whose config has servers of tools, which are listed before the request."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.source import EventSource
from dhenara_async.events import StreamEvent
from dhenara_async.messages.messages import Origin
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.tools.sources import ListedTools


class ListingSource:
    """Lists the tools in its first step, and then is the source of the real call; see ``EventSource``.

    Args:
        provisional: The source of the call without the servers, which is never asked: so faults of the call are found
            before anything is opened.
        sessions: Opens the servers.
        owned: Whether the sessions end with this source.
        listed: Lists the tools.
        prepare: Prepares the call with the listed tools.
    """

    def __init__(
        self,
        provisional: EventSource,
        sessions: ToolSessions,
        *,
        owned: bool,
        listed: Callable[[ToolSessions], Awaitable[ListedTools]],
        prepare: Callable[[ListedTools], EventSource],
    ) -> None:
        self._inner = provisional
        self._sessions = sessions
        self._owned = owned
        self._list = listed
        self._prepare = prepare
        self._tools: ListedTools | None = None
        self._closed = False

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._inner.over

    @property
    def repeatable(self) -> bool:
        """See ``EventSource``."""
        return self._tools is not None and self._inner.repeatable

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self._inner.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        account = self._inner.account
        if self._tools is None or not self._tools.warnings:
            return account
        return replace(account, warnings=account.warnings + self._tools.warnings)

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        if self._tools is None:
            tools = await self._list(self._sessions)
            provisional, self._inner = self._inner, self._prepare(tools)
            self._tools = tools
            await provisional.close()
            if self._closed:  # by another task, while the tools were listed
                await self._inner.close()
        return await self._inner.receive()

    async def close(self, *, lost: bool = False) -> None:
        """See ``EventSource``."""
        self._closed = True
        try:
            await self._inner.close(lost=lost)
        finally:
            if self._owned:
                await self._sessions.aclose()
