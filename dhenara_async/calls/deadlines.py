"""``Clock``: the time limits of a call that its transport does not keep, with one timer per request.

These are the limits of the whole call and of the waits for content. The transport limits connecting, the first byte and
silence on the wire. A limit applies to waits of the library only, never to the reader's own code. The timer is not
moved for every event.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from dhenara_async.config import Timeouts
from dhenara_async.errors import DeadlineError
from dhenara_async.transport import Exchange

Got = TypeVar("Got")


class Clock:
    """Keeps the time limits of one call, including all of its attempts; the call begins when the clock is created.

    Args:
        timeouts: The call's limits.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._began = self._loop.time()
        self._content_arrived = False  # content has arrived
        self._silent = 0.0  # seconds that reads have waited since the last content, or since the head
        self._reading_since: float | None = None
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.counts_content: bool = timeouts.first_content is not None or timeouts.between_content is not None

    @staticmethod
    def wanted(timeouts: Timeouts) -> bool:
        """Whether ``timeouts`` has a limit that a clock keeps."""
        return (timeouts.total, timeouts.first_content, timeouts.between_content) != (None, None, None)

    def remaining(self) -> float | None:
        """Return the seconds that the call has left; None = unlimited."""
        due = self._due_of_the_call()
        return None if due is None else max(0.0, due[0] - self._loop.time())

    async def within(self, work: Awaitable[Got]) -> Got:
        """Await ``work``, which is the library's own, as long as the call has time.

        Raises:
            DeadlineError: The call ran out of time.
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
        """Limit the reads of a response whose head has arrived."""
        self._exchange, self._silent = exchange, 0.0
        self._check()

    async def reading(self, exchange: Exchange) -> bytes:
        """Read the next bytes. Time that the reader spends between two reads is not the host's silence.

        The silence is the time that all reads wait until content arrives, including reads that are cancelled.
        """
        began = self._reading_since = self._loop.time()
        try:
            return await exchange.read()
        finally:
            self._silent += self._loop.time() - began
            self._reading_since = None

    def heard(self) -> None:
        """Note that content arrived."""
        self._content_arrived, self._silent = True, 0.0

    def rest(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._exchange = None

    def _due_of_the_call(self) -> tuple[float, str, float] | None:
        """Return the earliest limit of the whole call: its time, its name and its seconds."""
        limits = self._timeouts
        dues: list[tuple[float, str, float]] = []
        if limits.total is not None:
            dues.append((self._began + limits.total, "total", limits.total))
        if limits.first_content is not None and not self._content_arrived:
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

    def _check(self) -> None:
        """Interrupt a read that has waited for too long; otherwise set the timer to the next limit."""
        dues, exchange = self._dues(), self._exchange
        if not dues or exchange is None:
            self._timer = None
            return
        at, limit, seconds = min(dues)
        now = self._loop.time()
        if at > now:
            self._timer = self._loop.call_at(at, self._check)
        elif self._reading_since is None and limit != "total":
            self._timer = self._loop.call_later(min(seconds, 0.05), self._check)  # unread bytes may have arrived
        else:
            self._timer = None
            exchange.interrupt(DeadlineError(limit=limit, seconds=seconds))
