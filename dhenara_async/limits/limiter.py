"""How many requests may be under way and how many are sent in a minute, for each endpoint; who has to wait waits here.

A call acquires a slot before it is sent and releases it when it is over. ``Limiter`` is what a client needs of whoever
hands out slots, so that one that counts for many processes can take the place of ``LocalLimiter``, which counts for
this one.

**A minute is any sixty seconds.** Every request is remembered for sixty seconds; another may go when, with it, those
remembered are within the limit. So nothing is sent beyond the limit, wherever a provider's own minute begins. (A token
bucket as large as the limit lets twice as much through in the minute after a quiet one. The package ``aiolimiter`` is
such a bucket, and belongs to one event loop.)

**Nobody overtakes.** Whoever is first in an endpoint's line looks at the clock, everybody else sleeps until it is their
turn. A large request is not starved by small ones behind it.

**Nothing is handed over.** A waiter takes its slot itself when it wakes, without an await in between. A cancelled one
never had a slot to give back; it leaves the line and wakes the next. That holds across event loops and threads: the
arithmetic is under one lock, which is never held over an await, and waiters are woken in their own loops.

**The provider's word counts besides.** When an answer's headers say that nothing is left, or no more than has been sent
since, nobody is sent until the reset that they name. ``retry-after`` counts where a request was refused, and there
alone, because some hosts send it with every answer. A reset that is far off, of a quota of the day say, is not waited
for: every now and then one request tries.

Sources: the headers of recorded answers from OpenAI, Azure, Anthropic, Mistral and Together;
https://github.com/mjpieters/aiolimiter (read 2026-11-22)
"""

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import inf
from threading import RLock
from typing import Literal, Protocol

from pydantic import Field

from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.messages import Origin
from dhenara_async.usage.tokens import Usage

MINUTE = 60.0
UNSAID_SECONDS = 1.0
"""How long an endpoint is left alone after it refused a request and did not say for how long."""
LONGEST_SECONDS = 60.0
"""How long a provider's word closes an endpoint before one request tries, unless said otherwise."""


class Limits(FrozenModel):
    """What one endpoint (provider, host, account and model) may be asked; None = no limit.

    Attributes:
        concurrency: Calls under way at the same time, from before they are sent to the end of their answers.
        requests_per_minute: Requests in any sixty seconds.
        tokens_per_minute: Tokens of the requests in any sixty seconds, questions and answers: an estimate at first,
            then what an answer's usage says. One request that is estimated to take more than all of them goes alone.
    """

    concurrency: int | None = Field(default=None, gt=0)
    requests_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_minute: int | None = Field(default=None, gt=0)


class Slot(Protocol):
    """Leave to send one request. Its methods do not wait, and can be called in any order and from any thread."""

    def told(self, headers: Mapping[str, str]) -> None:
        """The headers that an answer came with."""
        ...

    def refused(self, seconds: float | None) -> None:
        """The provider refused for want of capacity; nobody else is sent for so long, None = it did not say."""
        ...

    def spent(self, usage: Usage) -> None:
        """What the request really took, in place of the estimate."""
        ...

    def release(self) -> None:
        """The call is over, however it ended. Further calls of this do nothing."""
        ...


class Limiter(Protocol):
    """Who says when a request may be sent."""

    async def acquire(self, origin: Origin, *, tokens: int) -> Slot:
        """Wait until one more request may be sent.

        Args:
            origin: Where to.
            tokens: About how many it will take, its answer included.

        Returns:
            The leave to send it, for the caller to release. Where this is cancelled there is nothing to release.
        """
        ...


@dataclass(slots=True, eq=False)
class Sent:
    """One request of the last minute.

    Attributes:
        leaves: When it is a minute old, by the limiter's clock.
        tokens: What it took, as far as known.
        counts: Whether it is not yet that old.
    """

    leaves: float
    tokens: int
    counts: bool = True


class Minute:
    """The requests of the last sixty seconds: pure arithmetic, by whatever clock its times come from."""

    def __init__(self, limits: Limits) -> None:
        self._requests = limits.requests_per_minute
        self._tokens = limits.tokens_per_minute
        self._sent: deque[Sent] = deque()
        self._sum = 0

    def delay(self, tokens: int, now: float) -> float:
        """Seconds until a request of ``tokens`` may be sent; 0 = at once."""
        self._forget(now)
        due = now
        if self._requests is not None and len(self._sent) >= self._requests:
            due = self._sent[0].leaves
        if self._tokens is not None:
            over = self._sum + min(tokens, self._tokens) - self._tokens
            for sent in self._sent:  # the oldest first
                if over <= 0:
                    break
                over -= sent.tokens
                due = sent.leaves
        return due - now

    def take(self, tokens: int, now: float) -> Sent:
        """Count a request that is sent now."""
        sent = Sent(now + MINUTE, tokens)
        if self._requests is not None or self._tokens is not None:
            self._sent.append(sent)
            self._sum += tokens
        return sent

    def correct(self, sent: Sent, tokens: int) -> None:
        """Say what a request really took; that changes nothing when it is more than a minute old."""
        if sent.counts:
            self._sum += tokens - sent.tokens
        sent.tokens = tokens

    def empty(self, now: float) -> bool:
        """Whether nothing was sent."""
        self._forget(now)
        return not self._sent

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0].leaves <= now:
            old = self._sent.popleft()
            old.counts = False
            self._sum -= old.tokens


@dataclass(frozen=True, slots=True)
class Quota:
    """What a provider says is left.

    Attributes:
        name: Its own name for it (``tokens``, ``input-tokens``, ``req-10-second`` …).
        counts: What it is a number of; ``some_tokens``: of tokens that an estimate of all does not tell.
        left: How much.
        seconds: Until it is full again.
    """

    name: str
    counts: Literal["requests", "tokens", "some_tokens"]
    left: int
    seconds: float


def read_quotas(headers: Mapping[str, str], *, now: float) -> tuple[Quota, ...]:
    """What an answer's rate-limit headers say is left; those that cannot be read are passed over.

    Args:
        headers: Of the answer, in any case.
        now: Seconds since 1970, for hosts that name a point of time; an answer's own ``date`` is preferred.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    told: list[Quota] = []
    for name, value in lower.items():
        if (known := _REMAINING.fullmatch(name)) is None or not _NUMBER.fullmatch(value):
            continue
        word = known["of"] or known["those"] or "requests"
        if (what := _WORD.fullmatch(word)) is None:
            continue  # of images, say: a request may not need any
        seconds = _reset(lower, name, word, now)
        if seconds is None and what["unit"]:
            seconds = int(what["number"] or 1) * _UNITS[what["unit"]]
        if seconds is not None:
            told.append(Quota(word, _COUNTS[what["what"]], int(value), max(0.0, seconds)))
    return tuple(told)


_REMAINING = re.compile(r"(?:x-)?ratelimit-remaining(?:-(?P<of>.+))?|anthropic-ratelimit-(?P<those>.+)-remaining")
_NUMBER = re.compile(r"[0-9]{1,18}")
_WORD = re.compile(
    r"(?P<what>requests|req|tokens|(?:input|output)-tokens)"
    r"(?:-(?:(?P<number>[0-9]{1,4})-)?(?P<unit>second|minute|hour|day|month))?"
)
_COUNTS: Mapping[str, Literal["requests", "tokens", "some_tokens"]] = {
    "requests": "requests",
    "req": "requests",
    "tokens": "tokens",
    "input-tokens": "some_tokens",
    "output-tokens": "some_tokens",
}
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "month": 30 * 86400.0}
_SPAN = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|us|µs|ns|[dhms]))+")
_STEP = re.compile(r"([0-9.]+)(ms|us|µs|ns|[dhms])")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PLAIN = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_EPOCH = 1e9  # a plain number beyond it is a point of time, a thousandfold one in milliseconds


def _reset(headers: Mapping[str, str], remaining: str, word: str, now: float) -> float | None:
    """Seconds until the quota of a ``remaining`` header is full; None where it is not told or cannot be read."""
    value = headers.get(remaining.replace("remaining", "reset"), "")
    if _SPAN.fullmatch(value):
        return sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(value))
    if _PLAIN.fullmatch(value):
        number = float(value)
        if number >= _EPOCH:
            return (number / 1000 if number >= 1000 * _EPOCH else number) - _answered_at(headers, now)
        # Azure counts in milliseconds and is the one that names the period: 1 of 120 a minute is back in 500
        return number / 1000 if f"x-ratelimit-renewalperiod-{word}" in headers else number
    try:
        moment = datetime.fromisoformat(value)
        return moment.timestamp() - _answered_at(headers, now) if moment.tzinfo is not None else None
    except (OverflowError, ValueError):
        return None


def _answered_at(headers: Mapping[str, str], now: float) -> float:
    """By the host's clock where it tells, so that a wrong clock of ours does not matter."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, OverflowError, TypeError, ValueError):
        return now


class LocalLimiter:
    """Hands out slots in this process; safe in any thread and any event loop, several of each at a time included.

    Args:
        limits: Of every endpoint alike, or by endpoint. A mapping's keys are ``provider:model``, ``model``,
            ``provider`` (as in ``Origin``) or ``*``, and the first of these that is there counts; an endpoint without
            any has no limits but what its provider says. Each endpoint is counted by itself whichever key it falls
            under.
        longest_wait: Seconds that a provider's word closes an endpoint before one request tries, and then another
            after as many. A quota of the day would else hold calls until midnight that would rather fail.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        limits: Limits | Mapping[str, Limits],
        *,
        longest_wait: float = LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits: Mapping[str, Limits] = {"*": limits} if isinstance(limits, Limits) else dict(limits)
        self._longest_wait = longest_wait
        self._clock = clock
        self._lanes: dict[_Key, _Lane] = {}
        self._sweep_at = _LANES
        # Reentrant: the garbage collector can close a forgotten coroutine, whose clean-up comes back here, at any
        # allocation under the lock.
        self._lock = RLock()

    async def acquire(self, origin: Origin, *, tokens: int) -> Slot:
        """Wait in the endpoint's line until one more request may be sent; see ``Limiter``."""
        import asyncio

        import anyio

        woken = asyncio.Event()
        waiter = _Waiter(asyncio.get_running_loop(), woken.set)
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
                        return _LocalSlot(self._lock, self._clock, lane, lane.take(tokens, now))
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
            if len(self._lanes) >= self._sweep_at:  # accounts come and go
                self._sweep(self._clock())
            lane = self._lanes[key] = _Lane(self._limits_of(origin), self._longest_wait)
        return lane

    def _sweep(self, now: float) -> None:
        """Forget who is idle, and the eldest of those who are only remembered where there are too many of them."""
        self._lanes = {known: lane for known, lane in self._lanes.items() if not lane.idle(now)}
        for known in tuple(self._lanes)[: max(0, len(self._lanes) - _MOST_LANES // 2)]:
            if not self._lanes[known].in_use:
                del self._lanes[known]
        self._sweep_at = min(max(_LANES, 2 * len(self._lanes)), max(_MOST_LANES, len(self._lanes) + _LANES))

    def _limits_of(self, origin: Origin) -> Limits:
        keys = (f"{origin.provider}:{origin.model}", origin.model, origin.provider, "*")
        return next((self._limits[key] for key in keys if key in self._limits), Limits())


_Key = tuple[str, str, str | None, str]
_LANES = 64
_MOST_LANES = 10_000
_MOST_QUOTAS = 64  # that one endpoint is remembered to have told of, each by its name


class _Loop(Protocol):
    """What is needed of the event loop that a waiter is in."""

    def call_soon_threadsafe(self, callback: Callable[[], None], /) -> object: ...
    def is_closed(self) -> bool: ...


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody in the line: the loop it waits in, and what ends its sleep there."""

    loop: _Loop
    wake: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Grant:
    """A request of a lane, with how much the lane had sent when it was sent, itself included."""

    sent: Sent
    requests: int
    tokens: int


@dataclass(slots=True)
class _Told:
    """A quota, the request whose answer told it, and by the limiter's clock when it is full again and the next try."""

    quota: Quota
    at: _Grant
    full: float
    next_try: float


class _Lane:
    """One endpoint's line and numbers. Everything here runs under the limiter's lock."""

    def __init__(self, limits: Limits, longest_wait: float) -> None:
        self.queue: OrderedDict[_Waiter, None] = OrderedDict()
        self.minute = Minute(limits)
        self._concurrency = limits.concurrency
        self._longest_wait = longest_wait
        self._active = 0
        self._requests = self._tokens = 0  # ever sent
        self._told: dict[str, _Told] = {}

    def delay(self, waiter: _Waiter, tokens: int, now: float) -> float:
        """Seconds until ``waiter`` may send; 0 or less = at once, infinite = when it is woken."""
        if self._first().loop.is_closed():
            self.wake()
        if self._first() is not waiter:
            return inf
        if self._concurrency is not None and self._active >= self._concurrency:
            return inf
        closed = max((told.next_try - now for told in self._used_up(now)), default=0.0)
        return max(self.minute.delay(tokens, now), closed)

    def take(self, tokens: int, now: float) -> _Grant:
        for told in self._used_up(now):  # so this one tries
            told.next_try = min(told.full, now + self._longest_wait)
        self._active += 1
        self._requests += 1
        self._tokens += tokens
        return _Grant(self.minute.take(tokens, now), self._requests, self._tokens)

    def leave(self, waiter: _Waiter) -> None:
        self.queue.pop(waiter, None)
        self.wake()

    def give_back(self) -> None:
        self._active -= 1
        self.wake()

    def tell(self, quotas: Iterable[Quota], at: _Grant, now: float) -> None:
        for quota in quotas:
            known = self._told.get(quota.name)
            if known is None or known.at.requests <= at.requests:  # answers can overtake each other
                self._told[quota.name] = self._said(quota, at, now)
                if len(self._told) > _MOST_QUOTAS:
                    del self._told[next(iter(self._told))]
        self.wake()

    def close(self, seconds: float, at: _Grant, now: float) -> None:
        said, known = self._said(Quota("", "some_tokens", 0, seconds), at, now), self._told.get("")
        if known is None or known.full < said.full:
            self._told[""] = said

    def _said(self, quota: Quota, at: _Grant, now: float) -> _Told:
        return _Told(quota, at, now + quota.seconds, now + min(quota.seconds, self._longest_wait))

    def wake(self) -> None:
        """Have the first of the line look again. Those whose loop was closed over them never leave it by themselves."""
        while self.queue:
            first = self._first()
            try:
                first.loop.call_soon_threadsafe(first.wake)
            except RuntimeError:
                self.queue.pop(first, None)
            else:
                return

    def _first(self) -> _Waiter:
        return next(iter(self.queue))

    def idle(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        told = any(told.full > now for told in self._told.values())
        return not self.in_use and not told and self.minute.empty(now)

    @property
    def in_use(self) -> bool:
        """Whether somebody waits in it, or has a request under way."""
        return bool(self.queue or self._active)

    def _used_up(self, now: float) -> list[_Told]:
        return [told for told in self._told.values() if told.full > now and self._left(told) <= 0]

    def _left(self, told: _Told) -> int:
        """What is left of a quota after what was sent since: the answers to that have not come yet."""
        match told.quota.counts:
            case "requests":
                return told.quota.left - (self._requests - told.at.requests)
            case "tokens":
                return told.quota.left - (self._tokens - told.at.tokens)
            case "some_tokens":
                return told.quota.left


class _LocalSlot:
    """A request of a lane."""

    def __init__(self, lock: RLock, clock: Callable[[], float], lane: _Lane, grant: _Grant) -> None:
        self._lock = lock
        self._clock = clock
        self._lane = lane
        self._grant = grant
        self._released = False

    def told(self, headers: Mapping[str, str]) -> None:
        quotas = read_quotas(headers, now=time.time())
        if quotas:
            with self._lock:
                self._lane.tell(quotas, self._grant, self._clock())

    def refused(self, seconds: float | None) -> None:
        """A request that was refused still is one, but took no tokens."""
        with self._lock:
            self._lane.close(UNSAID_SECONDS if seconds is None else seconds, self._grant, self._clock())
            self._lane.minute.correct(self._grant.sent, 0)

    def spent(self, usage: Usage) -> None:
        """What was not told stays as it was estimated."""
        tokens = usage.total_tokens
        if tokens is None and (usage.input_tokens, usage.output_tokens) != (None, None):
            tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if tokens is None:
            return
        with self._lock:
            self._lane.minute.correct(self._grant.sent, max(0, tokens))
            self._lane.wake()

    def release(self) -> None:
        with self._lock:
            if not self._released:
                self._released = True
                self._lane.give_back()
