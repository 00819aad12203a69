"""The time limits of a call that are not its transport's: one timer a request, which is not moved for every event.

Kept here are the limits of the whole call and those that count what is said; connecting, the first byte and silence on
the wire are the transport's. A limit never lies around the reader's own code, only around what is awaited for it.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from dhenara_async.config import Timeouts
from dhenara_async.errors import DeadlineError
from dhenara_async.transport import Exchange

Got = TypeVar("Got")


class Clock:
    """Keeps the time limits of one call, which begins when this is made; further tries belong to it.

    Args:
        timeouts: The call's limits.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._began = self._loop.time()
        self._spoke = False  # something was said
        self._silent = 0.0  # seconds for which reads have waited since then, or since the head
        self._reading_since: float | None = None
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.counts_content: bool = timeouts.first_content is not None or timeouts.between_content is not None

    @staticmethod
    def wanted(timeouts: Timeouts) -> bool:
        """Whether there is anything to keep."""
        return (timeouts.total, timeouts.first_content, timeouts.between_content) != (None, None, None)

    def remaining(self) -> float | None:
        """Seconds that the call has left; None = there is no limit."""
        due = self._due_of_the_call()
        return None if due is None else max(0.0, due[0] - self._loop.time())

    async def within(self, work: Awaitable[Got]) -> Got:
        """``work``, which is ours and not the reader's, as long as the call has time.

        Raises:
            DeadlineError: It had none left.
        """
        due = self._due_of_the_call()
        if due is None:
            return await work
        at, limit, seconds = due
        scope = asyncio.timeout_at(at)
        try:
            async with scope:
                return await work
        except TimeoutError as exc:
            if scope.expired():
                raise DeadlineError(limit=limit, seconds=seconds) from exc
            raise

    def watch(self, exchange: Exchange) -> None:
        """Look after the reading of an answer whose head has come."""
        self._exchange, self._silent = exchange, 0.0
        self._look()

    async def reading(self, exchange: Exchange) -> bytes:
        """The next bytes; what the reader does between two reads is not the host's silence.

        The host's is what all of them wait together until something is said, those included that are cancelled.
        """
        began = self._reading_since = self._loop.time()
        try:
            return await exchange.read()
        finally:
            self._silent += self._loop.time() - began
            self._reading_since = None

    def heard(self) -> None:
        """Something was said."""
        self._spoke, self._silent = True, 0.0

    def rest(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._exchange = None

    def _due_of_the_call(self) -> tuple[float, str, float] | None:
        """When the call has to be over, or to have said something, whichever is first."""
        limits = self._timeouts
        dues: list[tuple[float, str, float]] = []
        if limits.total is not None:
            dues.append((self._began + limits.total, "total", limits.total))
        if limits.first_content is not None and not self._spoke:
            dues.append((self._began + limits.first_content, "first_content", limits.first_content))
        return min(dues, default=None)

    def _dues(self) -> list[tuple[float, str, float]]:
        due = self._due_of_the_call()
        dues = [] if due is None else [due]
        silence = self._timeouts.between_content
        if silence is not None:
            since = self._loop.time() if self._reading_since is None else self._reading_since
            dues.append((since + silence - self._silent, "between_content", silence))
        return dues

    def _look(self) -> None:
        """End a read that has waited for too long; otherwise look again when the next limit is due."""
        dues, exchange = self._dues(), self._exchange
        if not dues or exchange is None:
            self._timer = None
            return
        at, limit, seconds = min(dues)
        now = self._loop.time()
        if at > now:
            self._timer = self._loop.call_at(at, self._look)
        elif self._reading_since is None and limit != "total":
            self._timer = self._loop.call_later(min(seconds, 0.05), self._look)  # there may be something to read
        else:
            self._timer = None
            exchange.interrupt(DeadlineError(limit=limit, seconds=seconds))
