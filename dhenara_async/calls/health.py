"""What the calls of a client or manager learn of endpoints: who failed a moment ago, and how quickly each one answers.

Numbers that calls in several threads and event loops share; the clock is monotonic and can be set. Both tables hold a
bounded number of endpoints, of which those that nobody has asked for the longest time go first: a program that serves
tenants has another endpoint for every key.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from dhenara_async.messages.messages import Origin

REMEMBERED = 100
"""How many of an endpoint's latest answers count."""

MOST_ENDPOINTS = 1000
"""How many endpoints each table holds."""


Kept = TypeVar("Kept")


class Cooldowns:
    """Which endpoints failed so recently that others are asked first.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[Origin, float] = OrderedDict()
        self._lock = Lock()

    def cool(self, origin: Origin, seconds: float) -> None:
        """``origin`` has failed; it is left alone for so long, or longer where that was said before."""
        with self._lock:
            until = self._clock() + seconds
            if seconds > 0 and until > self._until.get(origin, 0.0):
                self._until[origin] = until
                _make_newest(self._until, origin)

    def clear(self, origin: Origin) -> None:
        """``origin`` answers again."""
        if self._until:
            with self._lock:
                self._until.pop(origin, None)

    def cooling(self, origin: Origin) -> bool:
        """Whether ``origin`` is still left alone."""
        with self._lock:
            until = self._until.get(origin)
            if until is None:
                return False
            if until > self._clock():
                return True
            del self._until[origin]
            return False

    @property
    def any(self) -> bool:
        """Whether anybody may be cooling; spares most calls the question who."""
        return bool(self._until)


class Latencies:
    """How long endpoints took, of late, to say something."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[Origin, deque[float]] = OrderedDict()
        self._lock = Lock()

    def learn(self, origin: Origin, seconds: float) -> None:
        """One more answer."""
        with self._lock:
            self._seconds.setdefault(origin, deque(maxlen=REMEMBERED)).append(seconds)
            _make_newest(self._seconds, origin)

    def of(self, origin: Origin) -> tuple[float, ...]:
        """The latest, oldest first."""
        with self._lock:
            return tuple(self._seconds.get(origin, ()))


def _make_newest(table: OrderedDict[Origin, Kept], origin: Origin) -> None:
    table.move_to_end(origin)
    if len(table) > MOST_ENDPOINTS:
        table.popitem(last=False)
