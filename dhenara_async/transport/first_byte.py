"""The time limit of the first byte: one timer for all requests with the same limit.

The oldest request is the first to run out of time, so one timer is enough. Nearly all responses begin long before, and
setting and cancelling a timer for each request would cost as much processor time as its head.
"""

import asyncio
from typing import Protocol

from dhenara_async.errors import DeadlineError


class Waiter(Protocol):
    """A connection that waits for a response."""

    def set_exception(self, exc: BaseException) -> None:
        """Raise ``exc`` in the task that reads the connection."""
        ...


class FirstByteTimer:
    """Fails the connections that wait for longer than the limit.

    Args:
        loop: The event loop, whose clock counts.
        seconds: The limit of each wait.
    """

    __slots__ = ("_loop", "_seconds", "_timer", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.waiting: dict[Waiter, float] = {}  # deadlines, the earliest first

    def begin(self, waiter: Waiter) -> None:
        """Start the time limit of ``waiter``."""
        until = self.waiting[waiter] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._look)

    def end(self, waiter: Waiter) -> None:
        """Stop the time limit of ``waiter``."""
        self.waiting.pop(waiter, None)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self.waiting:
            waiter, until = next(iter(self.waiting.items()))
            if until > now:
                self._timer = self._loop.call_at(until, self._look)
                return
            self.end(waiter)
            waiter.set_exception(DeadlineError(limit="first_byte", seconds=self._seconds))
