"""``delay`` and ``RetryBudget``: whether and when a failed call is sent again. Nothing here sleeps or sends.

Waits have full jitter, because clients that failed together would otherwise return together. A provider's
``retry-after`` replaces the backoff. All calls of a client share a budget, so that retries never multiply an outage.

Source: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/ (read 2026-11-22)
"""

from threading import Lock

from dhenara_async.config import RetryPolicy
from dhenara_async.errors import APIError, DeadlineError, DhenaraError

# Limits of the whole call: another request would have no time left either.
_OF_THE_CALL = frozenset({"total", "first_content"})


def delay(
    policy: RetryPolicy, failed: int, error: DhenaraError, *, remaining: float | None, draw: float
) -> float | None:
    """Return the seconds to wait before the next request of a call; None to give up.

    Args:
        policy: The retry policy of the call.
        failed: Number of its requests that failed, from 1.
        error: The last failure; its ``retry_after`` replaces the backoff.
        remaining: Seconds left of the call's time; None = unlimited.
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
    retry_after = error.retry_after if isinstance(error, APIError) else None
    if retry_after is not None and retry_after > policy.longest_wait:
        return None
    wait = retry_after
    if wait is None:
        wait = draw * min(policy.longest_delay, policy.first_delay * 2 ** (failed - 1))
    return None if remaining is not None and wait >= remaining else wait


class RetryBudget:
    """The retries that all calls of a client may make together; thread-safe.

    The budget starts full. Each call adds ``share`` and each retry takes 1, so in an outage at most that share of the
    calls is retried.

    Args:
        most: The maximum number of saved retries.
        share: The part of a retry that each call adds.
    """

    def __init__(self, *, most: float = 20.0, share: float = 0.2) -> None:
        self._most = most
        self._share = share
        self._left = most
        self._lock = Lock()

    def earn(self) -> None:
        """Add the share of a call that begins."""
        if self._left >= self._most:  # as in nearly all calls; reading it needs no lock
            return
        with self._lock:
            self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Take one retry from the budget; False if there is none."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True
