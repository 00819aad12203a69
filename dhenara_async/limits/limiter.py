"""Rate limits by endpoint: how many requests run at once, and how many requests and tokens are sent in a minute.

A call acquires a slot before it is sent and releases the slot when it has ended. ``Limiter`` is the interface that a
client needs, so that a limiter shared by many processes can replace ``LocalLimiter``, which counts for one process.

**A minute is any sixty seconds.** Every request is remembered for sixty seconds; another one is sent when it keeps the
remembered ones within the limit. So the limit holds in every window, wherever a provider's own minute starts. (A token
bucket of the size of the limit admits twice the limit in the minute after a quiet one. The package ``aiolimiter`` is
such a bucket, and is bound to one event loop.)

**First come, first served.** Only the first waiter of an endpoint's queue looks at the clock; the others sleep until
they are first. Small requests do not starve a large one in front of them.

**Waiters take their slots themselves**, when they wake, without an await in between. A cancelled waiter has no slot to
return; it leaves the queue and wakes the next. This holds across event loops and threads: the counts are guarded by one
lock, which is never held over an await, and each waiter is woken in its own loop.

**Quotas reported by the provider count too.** When response headers report that nothing is left, or no more than was
sent since, no request is sent until the reset that they name. ``retry-after`` counts only for refused requests, because
some hosts send it with every response. A distant reset, for example of a daily quota, is not waited for: from time to
time, one request is sent as a probe.

Sources: the headers of recorded answers from OpenAI, Azure, Anthropic, Mistral and Together;
https://github.com/mjpieters/aiolimiter (read 2026-11-22)
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from threading import RLock
from typing import Protocol

from pydantic import Field

from dhenara_async.frozen import FrozenModel
from dhenara_async.limits.quota_headers import Quota, read_quotas
from dhenara_async.messages.messages import Origin
from dhenara_async.usage.tokens import Usage

MINUTE = 60.0
DEFAULT_PAUSE_SECONDS = 1.0
"""Pause of an endpoint after it refused a request without naming a time."""
LONGEST_WAIT_SECONDS = 60.0
"""Default of ``LocalLimiter.longest_wait``."""


class Limits(FrozenModel):
    """Rate limits of one endpoint (provider, host, account and model); None = no limit.

    Attributes:
        concurrency: Highest number of running calls, from before they are sent to the end of their responses.
        requests_per_minute: Highest number of requests in any sixty seconds.
        tokens_per_minute: Highest number of input and output tokens of the requests in any sixty seconds: estimated
            first, then corrected by the reported usage. A request with a larger estimate is sent alone.
    """

    concurrency: int | None = Field(default=None, gt=0)
    requests_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_minute: int | None = Field(default=None, gt=0)


class Slot(Protocol):
    """Permission to send one request. Its methods do not wait, and can be called in any order and from any thread."""

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """Report the headers of the response."""
        ...

    def refused(self, seconds: float | None) -> None:
        """Report that the provider refused the request for lack of capacity.

        Args:
            seconds: Time for which no request should be sent; None = not reported.
        """
        ...

    def spent(self, usage: Usage) -> None:
        """Report the real usage, which replaces the estimate."""
        ...

    def release(self) -> None:
        """Return the slot when the call has ended; further calls do nothing."""
        ...


class Limiter(Protocol):
    """Decides when a request may be sent."""

    async def acquire(self, origin: Origin, *, tokens: int) -> Slot:
        """Wait until one more request may be sent.

        Args:
            origin: Endpoint of the request.
            tokens: Estimated tokens of the request and its response.

        Returns:
            The slot, which the caller must release. A cancelled ``acquire`` leaves nothing to release.
        """
        ...


@dataclass(slots=True, eq=False)
class CountedRequest:
    """A request with its time and tokens.

    Attributes:
        expires_at: Time at which it is a minute old, by the limiter's clock.
        tokens: Its estimated or real tokens.
        counts: Whether it is younger than a minute.
    """

    expires_at: float
    tokens: int
    counts: bool = True


class MinuteWindow:
    """The requests of the last sixty seconds; all times come from the caller's clock."""

    def __init__(self, limits: Limits) -> None:
        self._requests = limits.requests_per_minute
        self._tokens = limits.tokens_per_minute
        self._sent: deque[CountedRequest] = deque()
        self._sum = 0

    def delay(self, tokens: int, now: float) -> float:
        """Return the seconds until a request of ``tokens`` may be sent; 0 = at once."""
        self._drop_expired(now)
        due = now
        if self._requests is not None and len(self._sent) >= self._requests:
            due = self._sent[0].expires_at
        if self._tokens is not None:
            over = self._sum + min(tokens, self._tokens) - self._tokens
            for sent in self._sent:  # oldest first
                if over <= 0:
                    break
                over -= sent.tokens
                due = sent.expires_at
        return due - now

    def take(self, tokens: int, now: float) -> CountedRequest:
        """Record a request that is sent now."""
        sent = CountedRequest(now + MINUTE, tokens)
        if self._requests is not None or self._tokens is not None:
            self._sent.append(sent)
            self._sum += tokens
        return sent

    def correct(self, sent: CountedRequest, tokens: int) -> None:
        """Set the real tokens of a request; no effect if it is older than a minute."""
        if sent.counts:
            self._sum += tokens - sent.tokens
        sent.tokens = tokens

    def empty(self, now: float) -> bool:
        """Whether no request was sent in the last minute."""
        self._drop_expired(now)
        return not self._sent

    def _drop_expired(self, now: float) -> None:
        while self._sent and self._sent[0].expires_at <= now:
            old = self._sent.popleft()
            old.counts = False
            self._sum -= old.tokens


class LocalLimiter:
    """Limits the requests of this process; safe to use from several threads and event loops at once.

    Args:
        limits: Limits of every endpoint, or a mapping by endpoint. The keys of a mapping are ``provider:model``,
            ``model``, ``provider`` (as in ``Origin``) or ``*``, and the first match in this order counts; an endpoint
            without a match has no limits but the quotas that its provider reports. Each endpoint is counted
            separately, also if several match the same key.
        longest_wait: Seconds for which a quota reported by the provider pauses an endpoint before one request is sent
            as a probe; the next probe follows after the same time. Without it, an exhausted daily quota would hold
            calls until midnight.
        clock: Returns monotonic seconds.
        wall_clock: Returns seconds since 1970, to compare with reset times in headers.
    """

    def __init__(
        self,
        limits: Limits | Mapping[str, Limits],
        *,
        longest_wait: float = LONGEST_WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits: Mapping[str, Limits] = {"*": limits} if isinstance(limits, Limits) else dict(limits)
        self._longest_wait = longest_wait
        self._clock = clock
        self._wall_clock = wall_clock
        self._lanes: dict[_LaneKey, _Lane] = {}
        self._sweep_at = _LANES
        # Reentrant: at any allocation under the lock, the garbage collector may close a forgotten coroutine, whose
        # clean-up acquires the lock again.
        self._lock = RLock()

    async def acquire(self, origin: Origin, *, tokens: int) -> Slot:
        """Wait in the endpoint's queue until one more request may be sent; see ``Limiter``."""
        import asyncio

        import anyio

        woken = asyncio.Event()
        waiter = _WaitingAcquire(asyncio.get_running_loop(), woken.set)
        tokens = max(0, tokens)
        with self._lock:
            lane = self._lane(origin)
            lane.queue[waiter] = None
        try:
            while True:
                with self._lock:
                    woken.clear()
                    now = self._clock()
                    seconds = lane.delay(waiter, tokens, now)
                    if seconds <= 0:
                        return _LocalSlot(self._lock, self._clock, self._wall_clock, lane, lane.take(tokens, now))
                if seconds == inf:
                    await woken.wait()
                else:
                    with anyio.move_on_after(seconds):
                        await woken.wait()
        finally:
            with self._lock:
                lane.leave(waiter)

    def _lane(self, origin: Origin) -> "_Lane":
        key = (origin.provider, origin.endpoint, origin.account, origin.model)
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= self._sweep_at:  # most are of accounts that are no longer used
                self._sweep(self._clock())
            lane = self._lanes[key] = _Lane(self._limits_of(origin), self._longest_wait)
        return lane

    def _sweep(self, now: float) -> None:
        """Remove idle lanes, and if too many are left, the oldest of those that are not in use."""
        self._lanes = {key: lane for key, lane in self._lanes.items() if not lane.idle(now)}
        for key in tuple(self._lanes)[: max(0, len(self._lanes) - _MOST_LANES // 2)]:
            if not self._lanes[key].in_use:
                del self._lanes[key]
        self._sweep_at = min(max(_LANES, 2 * len(self._lanes)), max(_MOST_LANES, len(self._lanes) + _LANES))

    def _limits_of(self, origin: Origin) -> Limits:
        keys = (f"{origin.provider}:{origin.model}", origin.model, origin.provider, "*")
        return next((self._limits[key] for key in keys if key in self._limits), Limits())


_LaneKey = tuple[str, str, str | None, str]
_LANES = 64
_MOST_LANES = 10_000
_MOST_QUOTAS = 64  # quotas kept of one endpoint, by their names


class _Loop(Protocol):
    """The methods that a waiter needs of its event loop."""

    def call_soon_threadsafe(self, callback: Callable[[], None], /) -> object: ...
    def is_closed(self) -> bool: ...


@dataclass(slots=True, eq=False)
class _WaitingAcquire:
    """A waiting ``acquire``: its event loop, and the function that wakes it there."""

    loop: _Loop
    wake: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Grant:
    """A sent request, with the totals of its lane at that moment, itself included."""

    sent: CountedRequest
    requests: int
    tokens: int


@dataclass(slots=True)
class _ReportedQuota:
    """A quota, the request whose response reported it, and the times of its reset and of the next probe."""

    quota: Quota
    grant: _Grant
    resets_at: float
    next_probe: float


class _Lane:
    """The queue and the counts of one endpoint; used under the limiter's lock only."""

    def __init__(self, limits: Limits, longest_wait: float) -> None:
        self.queue: OrderedDict[_WaitingAcquire, None] = OrderedDict()
        self.minute = MinuteWindow(limits)
        self._concurrency = limits.concurrency
        self._longest_wait = longest_wait
        self._active = 0
        self._requests = self._tokens = 0  # totals since the lane was made
        self._quotas: dict[str, _ReportedQuota] = {}  # by name; "" = a refusal

    def delay(self, waiter: _WaitingAcquire, tokens: int, now: float) -> float:
        """Return the seconds until ``waiter`` may send; 0 or less = at once, infinity = when it is woken."""
        if self._first().loop.is_closed():
            self.wake()
        if self._first() is not waiter:
            return inf
        if self._concurrency is not None and self._active >= self._concurrency:
            return inf
        pause = max((reported.next_probe - now for reported in self._used_up(now)), default=0.0)
        return max(self.minute.delay(tokens, now), pause)

    def take(self, tokens: int, now: float) -> _Grant:
        """Count a request that is sent now; if a quota is used up, this request is its probe."""
        for reported in self._used_up(now):
            reported.next_probe = min(reported.resets_at, now + self._longest_wait)
        self._active += 1
        self._requests += 1
        self._tokens += tokens
        return _Grant(self.minute.take(tokens, now), self._requests, self._tokens)

    def leave(self, waiter: _WaitingAcquire) -> None:
        """Remove ``waiter`` from the queue and wake the next."""
        self.queue.pop(waiter, None)
        self.wake()

    def give_back(self) -> None:
        """Count a call that has ended."""
        self._active -= 1
        self.wake()

    def report(self, quotas: Iterable[Quota], grant: _Grant, now: float) -> None:
        """Take quotas from the response to ``grant``, unless a later request has reported them already."""
        for quota in quotas:
            previous = self._quotas.get(quota.name)
            if previous is None or previous.grant.requests <= grant.requests:
                self._quotas[quota.name] = self._reported(quota, grant, now)
                if len(self._quotas) > _MOST_QUOTAS:
                    del self._quotas[next(iter(self._quotas))]
        self.wake()

    def pause(self, seconds: float, grant: _Grant, now: float) -> None:
        """Send nothing for ``seconds``, or until the end of a longer pause."""
        refusal, previous = self._reported(Quota("", "some_tokens", 0, seconds), grant, now), self._quotas.get("")
        if previous is None or previous.resets_at < refusal.resets_at:
            self._quotas[""] = refusal

    def _reported(self, quota: Quota, grant: _Grant, now: float) -> _ReportedQuota:
        return _ReportedQuota(quota, grant, now + quota.seconds, now + min(quota.seconds, self._longest_wait))

    def wake(self) -> None:
        """Wake the first waiter, and remove waiters whose loops are closed: they never leave by themselves."""
        while self.queue:
            first = self._first()
            try:
                first.loop.call_soon_threadsafe(first.wake)
            except RuntimeError:
                self.queue.pop(first, None)
            else:
                return

    def _first(self) -> _WaitingAcquire:
        return next(iter(self.queue))

    def idle(self, now: float) -> bool:
        """Whether the lane can be removed without losing a count or a quota."""
        has_quota = any(reported.resets_at > now for reported in self._quotas.values())
        return not self.in_use and not has_quota and self.minute.empty(now)

    @property
    def in_use(self) -> bool:
        """Whether a request is waiting or running."""
        return bool(self.queue or self._active)

    def _used_up(self, now: float) -> list[_ReportedQuota]:
        return [quota for quota in self._quotas.values() if quota.resets_at > now and self._remaining(quota) <= 0]

    def _remaining(self, reported: _ReportedQuota) -> int:
        """Return what is left of a quota after the requests that were sent since it was reported."""
        quota, grant = reported.quota, reported.grant
        match quota.counts:
            case "requests":
                return quota.left - (self._requests - grant.requests)
            case "tokens":
                return quota.left - (self._tokens - grant.tokens)
            case "some_tokens":
                return quota.left


class _LocalSlot:
    """The slot of one request of a lane; see ``Slot``."""

    def __init__(
        self,
        lock: RLock,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        lane: _Lane,
        grant: _Grant,
    ) -> None:
        self._lock = lock
        self._clock = clock
        self._wall_clock = wall_clock
        self._lane = lane
        self._grant = grant
        self._released = False

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """See ``Slot``."""
        quotas = read_quotas(headers, now=self._wall_clock())
        if quotas:
            with self._lock:
                self._lane.report(quotas, self._grant, self._clock())

    def refused(self, seconds: float | None) -> None:
        """See ``Slot``; a refused request counts as a request, but without tokens."""
        with self._lock:
            self._lane.pause(DEFAULT_PAUSE_SECONDS if seconds is None else seconds, self._grant, self._clock())
            self._lane.minute.correct(self._grant.sent, 0)

    def spent(self, usage: Usage) -> None:
        """See ``Slot``; the estimate stays where no tokens were reported."""
        tokens = usage.total_tokens
        if tokens is None and (usage.input_tokens, usage.output_tokens) != (None, None):
            tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if tokens is None:
            return
        with self._lock:
            self._lane.minute.correct(self._grant.sent, max(0, tokens))
            self._lane.wake()

    def release(self) -> None:
        """See ``Slot``."""
        with self._lock:
            if not self._released:
                self._released = True
                self._lane.give_back()
