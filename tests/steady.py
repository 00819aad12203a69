"""Makes an attempt again, with a longer limit, that a machine which stood still has spoilt.

A test of a time limit waits for nothing but the end of it. Where the limit must also *not* be over before something
has come, no limit is long enough for a machine that stands still; so only failures in a loop that was in time count.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

_STEP = 0.005
_MOST_SECONDS = 30.0


class Lateness:
    """Looks at the running loop every few milliseconds while its block lasts.

    Attributes:
        worst: How many seconds too late it came at most: for so long nothing else in the loop has run.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_STEP, self._again)

    def __enter__(self) -> "Lateness":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._look()

    def _again(self) -> None:
        self._look()
        self._timer = self._loop.call_later(_STEP, self._again)

    def _look(self) -> None:
        self.worst = max(self.worst, self._loop.time() - self._timer.when())


async def steady(attempt: Callable[[float], Awaitable[None]], limit: float) -> None:
    """Make an attempt, and make it again with twice the limit if it failed while the loop was late.

    Args:
        attempt: What is tested, with servers of its own; it is given the seconds of the limit.
        limit: Seconds of the limit at first.
    """
    while True:
        late = Lateness()
        try:
            with late:
                await attempt(limit)
        except Exception:
            if late.worst < limit / 10 or limit > _MOST_SECONDS:
                raise
            limit *= 2
        else:
            return
