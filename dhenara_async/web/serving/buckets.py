"""``Buckets``: how often each client may do something, in a table that does not grow. Pure."""

from collections import OrderedDict
from collections.abc import Callable


class Buckets:
    """A token bucket for each of the newest clients.

    Args:
        rate: Tokens that come back each second.
        burst: The most tokens that a client may have.
        clock: Returns seconds; only their differences count.
        clients: Number of clients that are remembered; the one that was seen least lately is forgotten first.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float], *, clients: int = 4096) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._most = clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def wait(self, client: str) -> float:
        """Return the seconds until the client has a token; 0 if it has one."""
        return max(0.0, (1.0 - self._tokens(client)) / self._rate)

    def take(self, client: str) -> float:
        """Take a token of a client, and return 0; without one, return the seconds until it has one."""
        wait = self.wait(client)
        if not wait:
            self._left[client] = (self._tokens(client) - 1.0, self._clock())
            self._left.move_to_end(client)
            if len(self._left) > self._most:
                self._left.popitem(last=False)
        return wait

    def _tokens(self, client: str) -> float:
        tokens, seen = self._left.get(client, (float(self._burst), 0.0))
        return min(float(self._burst), tokens + (self._clock() - seen) * self._rate)
