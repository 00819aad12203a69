"""How long an answer may take to begin: one timer for all requests that have the same limit.

Who was asked first is late first, so a timer is only ever needed for one of them. Nearly all answers come long before,
and a timer of its own, set and taken back, would cost a request as much as its head does.
"""

import asyncio
from typing import Protocol

from dhenara_async.errors import DeadlineError


class Waiter(Protocol):
    """A connection over which an answer is awaited."""

    def set_exception(self, exc: BaseException) -> None:
        """Raise this to whoever reads from it."""
        ...


class FirstByteTimer:
    """Ends the waits that last too long.

    Args:
        loop: Whose time it is.
        seconds: How long each may wait.
    """

    __slots__ = ("_loop", "_seconds", "_timer", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.waiting: dict[Waiter, float] = {}  # until when; the first to be late first

    def begin(self, waiter: Waiter) -> None:
        """It waits from now on."""
        until = self.waiting[waiter] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._look)

    def end(self, waiter: Waiter) -> None:
        """Its answer has come, or nobody waits for it any more."""
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
