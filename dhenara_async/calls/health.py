"""``Cooldowns`` and ``Latencies``: endpoints that failed recently, and how quickly each endpoint answers.

The calls of a client or manager share these tables, across threads and event loops. Each table holds a bounded number
of endpoints and drops the least recently used first: a program with many tenants has an endpoint for every key.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from dhenara_async.messages.messages import Origin

REMEMBERED = 100
"""Number of latest answers of an endpoint that count."""

MOST_ENDPOINTS = 1000
"""Maximum number of endpoints in each table."""


Kept = TypeVar("Kept")


class Cooldowns:
    """Endpoints that failed so recently that plans ask others first.

    Args:
        clock: Returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[Origin, float] = OrderedDict()
        self._lock = Lock()

    def cool(self, origin: Origin, seconds: float) -> None:
        """Avoid ``origin`` for ``seconds``, or longer if an earlier failure said so."""
        with self._lock:
            until = self._clock() + seconds
            if seconds > 0 and until > self._until.get(origin, 0.0):
                self._until[origin] = until
                _make_newest(self._until, origin)

    def clear(self, origin: Origin) -> None:
        """Stop avoiding ``origin``: it answers again."""
        if self._until:
            with self._lock:
                self._until.pop(origin, None)

    def cooling(self, origin: Origin) -> bool:
        """Whether ``origin`` is still avoided."""
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
        """Whether any endpoint may be avoided; a quick test for most calls."""
        return bool(self._until)


class Latencies:
    """Recent times to first content of each endpoint."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[Origin, deque[float]] = OrderedDict()
        self._lock = Lock()

    def learn(self, origin: Origin, seconds: float) -> None:
        """Add the time to first content of an answer."""
        with self._lock:
            self._seconds.setdefault(origin, deque(maxlen=REMEMBERED)).append(seconds)
            _make_newest(self._seconds, origin)

    def of(self, origin: Origin) -> tuple[float, ...]:
        """Return the recent times of ``origin`` in seconds, oldest first."""
        with self._lock:
            return tuple(self._seconds.get(origin, ()))


def _make_newest(table: OrderedDict[Origin, Kept], origin: Origin) -> None:
    table.move_to_end(origin)
    if len(table) > MOST_ENDPOINTS:
        table.popitem(last=False)
