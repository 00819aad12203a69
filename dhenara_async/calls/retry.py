"""When a failed call is made again, and how long after: pure arithmetic, which neither sleeps nor sends.

Full jitter, because clients that failed together would otherwise come back together; the provider's own word on when to
come back wins over ours; and a budget that all calls of a client share, so that retries never multiply an outage.

Source: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/ (read 2026-11-22)
"""

from threading import Lock

from dhenara_async.config import RetryPolicy
from dhenara_async.errors import APIError, DeadlineError, DhenaraError

# What these limit is the call as a whole: another request has no time left either.
_OF_THE_CALL = frozenset({"total", "first_content"})


def delay(
    policy: RetryPolicy, failed: int, error: DhenaraError, *, remaining: float | None, draw: float
) -> float | None:
    """Seconds to wait before the next request of a call, or None to give up.

    Args:
        policy: The call's.
        failed: How many of its requests have failed, from 1.
        error: The last failure; its ``retry_after`` wins over our own backoff.
        remaining: Seconds that are left of the call's time; None = there is no limit.
        draw: A random number from 0 up to 1.

    Raises:
        ValueError: ``failed`` is below 1.
    """
    if failed < 1:
        raise ValueError("a first request is not a retry: failed counts from 1")
    if failed >= policy.attempts or not error.retryable:
        return None
    if isinstance(error, DeadlineError) and error.limit in _OF_THE_CALL:
        return None
    told = error.retry_after if isinstance(error, APIError) else None
    if told is not None and told > policy.longest_wait:
        return None
    wait = draw * min(policy.longest_delay, policy.first_delay * 2 ** (failed - 1)) if told is None else told
    return None if remaining is not None and wait >= remaining else wait


class RetryBudget:
    """How many retries all calls of a client may make together; safe in any thread.

    It starts full, every call adds a little and every retry takes one: however many calls fail in an outage, their
    retries are at most that share of them.

    Args:
        most: The most that is saved up.
        share: What every call adds.
    """

    def __init__(self, *, most: float = 20.0, share: float = 0.2) -> None:
        self._most = most
        self._share = share
        self._left = most
        self._lock = Lock()

    def earn(self) -> None:
        """A call begins."""
        with self._lock:
            self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Whether one more retry may be made; if so, it is counted."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True
