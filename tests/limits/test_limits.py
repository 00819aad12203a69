"""Rate limits: waiting times by own limits and reported quotas, order, event loops and threads."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dhenara_async import Limiter, Limits, LocalLimiter, Origin, Usage
from dhenara_async.limits.limiter import (
    DEFAULT_PAUSE_SECONDS,
    LONGEST_WAIT_SECONDS,
    MINUTE,
    CountedRequest,
    MinuteWindow,
    Slot,
)
from dhenara_async.limits.quota_headers import Quota, read_quotas
from tests import recordings
from tests.virtual_time import Clock, VirtualLoop, run

GPT = Origin(provider="openai", dialect="openai_responses", endpoint="o.example", account="k1", model="gpt-6.2-sol")
CLAUDE = Origin(
    provider="anthropic", dialect="anthropic_messages", endpoint="a.example", account="k2", model="claude-sonnet-5-5"
)
NOON = 1_790_000_000.0


def limiter_of(clock: Clock, **limits: int) -> LocalLimiter:
    return LocalLimiter(Limits.model_validate(limits), clock=clock)


async def started(limiter: Limiter, clock: Clock, *, tokens: int = 0, origin: Origin = GPT) -> tuple[Slot, float]:
    """Acquire a slot; return it with the seconds of the wait."""
    before = clock.now
    slot = await limiter.acquire(origin, tokens=tokens)
    return slot, clock.now - before


# ----------------------------------------------------------------------------------------------- the window of a minute

LIMITS = st.builds(
    Limits,
    requests_per_minute=st.none() | st.integers(1, 6),
    tokens_per_minute=st.none() | st.integers(1, 60),
)
GAPS = st.sampled_from((0.0, 0.1, 1.0, 7.5, 20.0, 59.9, 60.0, 61.0, 200.0)) | st.floats(0, 90)
ASKED = st.lists(st.tuples(GAPS, st.integers(0, 70)), max_size=40)


@given(LIMITS, ASKED)
def test_no_sixty_seconds_exceed_the_limit_and_no_request_waits_without_need(
    limits: Limits, asked: list[tuple[float, int]]
) -> None:
    minute, now, log = MinuteWindow(limits), 0.0, list[tuple[float, int]]()
    for gap, tokens in asked:
        now += gap
        while (wait := minute.delay(tokens, now)) > 0:
            assert wait <= MINUTE + 1e-9
            assert breaks(limits, [*log, (now, tokens)])  # sending now would exceed the limit
            now += wait
        log.append((now, tokens))
        minute.take(tokens, now)
        assert not breaks(limits, log)


def breaks(limits: Limits, log: list[tuple[float, int]]) -> bool:
    """Whether the sixty seconds before the last request exceed the limits."""
    end, _ = log[-1]
    window = [tokens for at, tokens in log if at + MINUTE > end]
    if limits.requests_per_minute is not None and len(window) > limits.requests_per_minute:
        return True
    if limits.tokens_per_minute is None or sum(window) <= limits.tokens_per_minute:
        return False
    return sum(window[:-1]) > 0  # one that is larger than the limit may go where nothing else did


@given(LIMITS, st.lists(st.tuples(GAPS, st.integers(0, 70), st.integers(0, 39), st.integers(0, 200)), max_size=40))
def test_real_usage_replaces_the_estimate(limits: Limits, asked: list[tuple[float, int, int, int]]) -> None:
    minute, now, sent = MinuteWindow(limits), 0.0, list[CountedRequest]()
    for gap, tokens, which, really in asked:
        now += gap
        while (wait := minute.delay(tokens, now)) > 0:
            now += wait
        sent.append(minute.take(tokens, now))
        minute.correct(sent[which % len(sent)], really)
        remembered = sum(one.tokens for one in sent if one.expires_at > now)
        if limits.tokens_per_minute is not None:
            probe = max(0, limits.tokens_per_minute - remembered)
            free = limits.requests_per_minute is None or (
                sum(one.expires_at > now for one in sent) < limits.requests_per_minute
            )
            if free and remembered <= limits.tokens_per_minute:
                assert minute.delay(probe, now) == 0
            if remembered + 1 > limits.tokens_per_minute:
                assert minute.delay(1, now) > 0
    assert minute.empty(now + MINUTE)
    assert minute.delay(10**9, now + MINUTE) == 0  # no remainder of corrections is left behind


@pytest.mark.parametrize("field", ["concurrency", "requests_per_minute", "tokens_per_minute"])
def test_a_limit_of_zero_is_refused(field: str) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate({field: 0})


def test_limits_round_trip_through_json() -> None:
    limits = Limits(concurrency=3, tokens_per_minute=1000)
    assert Limits.model_validate_json(limits.model_dump_json()) == limits


# ------------------------------------------------------------------------------------------------------------ the queue


def test_two_hundred_waiters_are_served_in_order_within_the_limits() -> None:
    clock = Clock()
    limiter, served, under_way, most = limiter_of(clock, concurrency=3), list[int](), 0, 0

    async def call(number: int) -> None:
        nonlocal under_way, most
        slot = await limiter.acquire(GPT, tokens=0)
        served.append(number)
        under_way += 1
        most = max(most, under_way)
        await anyio.sleep(Random(number).uniform(0.1, 5))
        under_way -= 1
        slot.release()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(call, number)

    run(clock, main())
    assert served == list(range(200))
    assert most == 3


def test_requests_beyond_the_limit_are_sent_a_minute_later() -> None:
    clock = Clock()
    limiter, began, at = limiter_of(clock, requests_per_minute=10), clock.now, list[tuple[int, float]]()

    async def call(number: int) -> None:
        (await limiter.acquire(GPT, tokens=0)).release()
        at.append((number, clock.now - began))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(call, number)

    run(clock, main())
    assert [number for number, _ in at] == list(range(200))
    assert [time for _, time in at] == pytest.approx([60.0 * (number // 10) for number in range(200)], abs=1e-3)


def test_a_small_request_does_not_overtake_a_large_one() -> None:
    clock = Clock()
    limiter, served = limiter_of(clock, tokens_per_minute=100), list[str]()

    async def call(name: str, tokens: int) -> None:
        await limiter.acquire(GPT, tokens=tokens)
        served.append(name)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for name, tokens in (("first", 60), ("large", 80), ("small", 10)):
                group.start_soon(call, name, tokens)

    began = clock.now
    run(clock, main())
    assert served == ["first", "large", "small"]
    assert clock.now - began == pytest.approx(60, abs=1e-3)


def test_a_request_larger_than_the_limit_is_sent_alone() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tokens_per_minute=100)

    async def main() -> list[float]:
        return [(await started(limiter, clock, tokens=tokens))[1] for tokens in (1, 5000, 1, 99, 1)]

    assert run(clock, main()) == pytest.approx([0, 60, 60, 0, 60], abs=1e-3)


def test_endpoints_are_counted_separately() -> None:
    clock = Clock()
    limiter = limiter_of(clock, requests_per_minute=1)
    others = ({"provider": "azure"}, {"endpoint": "p.example"}, {"account": None}, {"model": "gpt-6.2-luna"})

    async def main() -> None:
        await limiter.acquire(GPT, tokens=0)
        for other in others:
            assert (await started(limiter, clock, origin=GPT.model_copy(update=other)))[1] == 0
        served = GPT.model_copy(update={"served_model": "gpt-6.2-sol-2026-10-01"})  # the same endpoint all the same
        assert (await started(limiter, clock, origin=served))[1] == pytest.approx(60)

    run(clock, main())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("openai:gpt-6.2-sol", "gpt-6.2-sol", "openai", "*"), "openai:gpt-6.2-sol"),
        (("gpt-6.2-sol", "openai", "*"), "gpt-6.2-sol"),
        (("openai", "*", "anthropic"), "openai"),
        (("*", "anthropic"), "*"),
        (("anthropic", "anthropic:gpt-6.2-sol", "claude-sonnet-5-5"), None),
    ],
)
def test_the_most_specific_key_applies(keys: tuple[str, ...], expected: str | None) -> None:
    clock = Clock()
    limits = {key: Limits(requests_per_minute=1 if key == expected else 2) for key in keys}

    async def main() -> list[float]:
        limiter = LocalLimiter(limits, clock=clock)
        return [(await started(limiter, clock))[1] for _ in range(3)]

    assert run(clock, main()) == pytest.approx([0, 0, 0] if expected is None else [0, 60, 60])


def test_without_limits_no_request_waits_or_is_remembered() -> None:
    clock = Clock()
    limiter = LocalLimiter({}, clock=clock)

    async def main() -> None:
        for number in range(300):  # accounts come and go
            origin = GPT.model_copy(update={"account": f"k{number}"})
            slot, waited = await started(limiter, clock, tokens=10**9, origin=origin)
            assert waited == 0
            slot.release()

    run(clock, main())
    assert len(vars(limiter)["_lanes"]) <= 64


def test_an_endpoint_with_counted_requests_is_not_removed() -> None:
    clock = Clock()
    limiter = limiter_of(clock, requests_per_minute=1)

    async def main() -> float:
        (await limiter.acquire(GPT, tokens=0)).release()
        for number in range(300):
            await limiter.acquire(GPT.model_copy(update={"account": f"a{number}"}), tokens=0)
        return (await started(limiter, clock))[1]

    assert run(clock, main()) == pytest.approx(60)


# ---------------------------------------------------------------------------------------------------- cancelled waiters


def test_cancelled_waiters_leak_no_slot_and_the_others_keep_their_order() -> None:
    clock = Clock()
    limiter, served, random = limiter_of(clock, concurrency=2), list[int](), Random(7)
    scopes: dict[int, anyio.CancelScope] = {}

    async def call(number: int) -> None:
        with anyio.CancelScope() as scopes[number]:
            slot = await limiter.acquire(GPT, tokens=0)
            try:
                served.append(number)
                await anyio.sleep(1)
            finally:
                slot.release()

    gone = set(random.sample(range(200), 100))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(call, number)
            for number in random.sample(sorted(gone), len(gone)):  # some wait, some are first, some are served
                await anyio.sleep(0.37)
                scopes[number].cancel()
        assert (await started(limiter, clock))[1] == 0
        assert (await started(limiter, clock))[1] == 0
        with anyio.move_on_after(10) as scope:
            await limiter.acquire(GPT, tokens=0)
        assert scope.cancelled_caught  # two are allowed, no more

    run(clock, main())
    assert served == sorted(served)
    assert set(range(200)) - gone <= set(served)


def test_a_waiter_cancelled_while_waking_wakes_the_next() -> None:
    clock = Clock()
    limiter, served = limiter_of(clock, concurrency=1), list[int]()
    scopes: dict[int, anyio.CancelScope] = {}

    async def call(number: int) -> None:
        with anyio.CancelScope() as scopes[number]:
            slot = await limiter.acquire(GPT, tokens=0)
            served.append(number)
            slot.release()

    async def main() -> None:
        slot = await limiter.acquire(GPT, tokens=0)
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(call, number)
            await anyio.sleep(1)
            slot.release()  # wakes the first
            scopes[0].cancel()  # which never gets to run

    run(clock, main())
    assert served == [1, 2]


@pytest.mark.parametrize("late", [-1e-3, 0, 1e-9, 1e-3])
@pytest.mark.parametrize("whose", ["asyncio", "anyio"])
def test_a_timeout_at_the_end_of_the_wait_loses_no_slot(whose: str, late: float) -> None:
    clock = Clock()
    limiter = limiter_of(clock, requests_per_minute=1, concurrency=1)

    async def main() -> None:
        (await limiter.acquire(GPT, tokens=0)).release()
        limit = asyncio.timeout(60 + late) if whose == "asyncio" else _fail_after(60 + late)
        slot = None
        with suppress(TimeoutError):
            async with limit:
                slot = await limiter.acquire(GPT, tokens=0)
        assert (slot is None) == (late < 0) or abs(late) < 1e-6
        if slot is not None:
            slot.release()
        second, waited = await started(limiter, clock)
        assert waited == pytest.approx(0 if slot is None else 60, abs=2e-3)
        second.release()
        assert (await started(limiter, clock))[1] == pytest.approx(60, abs=1e-3)

    run(clock, main())


@asynccontextmanager
async def _fail_after(seconds: float) -> AsyncGenerator[None]:
    with anyio.fail_after(seconds):
        yield


def test_the_next_waiter_is_rescheduled_when_the_first_leaves() -> None:
    clock = Clock()
    limiter, waited = limiter_of(clock, tokens_per_minute=100), list[float]()

    async def small() -> None:
        waited.append((await started(limiter, clock, tokens=20))[1])

    async def main() -> None:
        await limiter.acquire(GPT, tokens=70)
        async with anyio.create_task_group() as group:
            with anyio.move_on_after(5):
                group.start_soon(small)  # runs when this task waits, so it is second in the queue
                await limiter.acquire(GPT, tokens=90)

    run(clock, main())
    assert waited == pytest.approx([5])


def test_releasing_a_slot_twice_returns_it_once() -> None:
    clock = Clock()
    limiter = limiter_of(clock, concurrency=1)

    async def main() -> None:
        slot = await limiter.acquire(GPT, tokens=0)
        slot.release()
        slot.release()
        await limiter.acquire(GPT, tokens=0)
        slot.release()
        with anyio.move_on_after(10) as scope:
            await limiter.acquire(GPT, tokens=0)
        assert scope.cancelled_caught

    run(clock, main())


def test_a_released_slot_still_accepts_reports() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tokens_per_minute=100)

    async def main() -> float:
        slot = await limiter.acquire(GPT, tokens=100)
        slot.release()
        slot.note_headers({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "3s"})
        slot.spent(Usage(total_tokens=1))
        return (await started(limiter, clock, tokens=99))[1]

    assert run(clock, main()) == pytest.approx(3)


# ------------------------------------------------------------------------------------------------------- reported usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(total_tokens=40), 5),  # the rest is free as soon as the usage is reported
        (Usage(input_tokens=30, output_tokens=10), 5),
        (Usage(input_tokens=40), 5),
        (Usage(total_tokens=41), 60),
        (Usage(total_tokens=4000), 60),
        (Usage(total_tokens=-5), 5),
        (Usage(), 60),  # no usage reported: the estimate stays
    ],
)
def test_a_waiter_is_woken_when_real_usage_is_below_the_estimate(usage: Usage, expected: float) -> None:
    clock = Clock()
    limiter, began, at = limiter_of(clock, tokens_per_minute=100), clock.now, list[float]()

    async def second() -> None:
        await limiter.acquire(GPT, tokens=60)
        at.append(clock.now - began)

    async def main() -> None:
        slot = await limiter.acquire(GPT, tokens=100)
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            await anyio.sleep(5)
            slot.spent(usage)

    run(clock, main())
    assert at == pytest.approx([expected], abs=1e-3)


def test_negative_token_counts_do_not_raise_the_limit() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tokens_per_minute=100)

    async def main() -> list[float]:
        await limiter.acquire(GPT, tokens=-1000)
        (await limiter.acquire(GPT, tokens=0)).spent(Usage(total_tokens=-1000))
        return [(await started(limiter, clock, tokens=100))[1] for _ in range(2)]

    assert run(clock, main()) == pytest.approx([0, 60], abs=1e-3)


def test_usage_reported_after_a_minute_changes_no_count() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tokens_per_minute=100)

    async def main() -> list[float]:
        slot = await limiter.acquire(GPT, tokens=100)
        await anyio.sleep(61)
        first = (await started(limiter, clock, tokens=50))[1]
        slot.spent(Usage(total_tokens=5000))
        slot.spent(Usage(total_tokens=0))
        return [first, (await started(limiter, clock, tokens=50))[1], (await started(limiter, clock, tokens=1))[1]]

    assert run(clock, main()) == pytest.approx([0, 0, 60], abs=1e-3)


# ----------------------------------------------------------------------------------------- refusals and reported quotas


@pytest.mark.parametrize(
    ("told", "expected"),
    [(17.0, 17), (None, DEFAULT_PAUSE_SECONDS), (86400.0, LONGEST_WAIT_SECONDS), (0.0, 0), (-3.0, 0)],
)
def test_after_a_refusal_no_request_is_sent_before_the_retry_time(told: float | None, expected: float) -> None:
    clock = Clock()
    limiter = limiter_of(clock)

    async def main() -> list[float]:
        slot = await limiter.acquire(GPT, tokens=0)
        slot.refused(told)
        slot.release()
        there = (await started(limiter, clock, origin=CLAUDE))[1]
        return [there, (await started(limiter, clock))[1]]

    assert run(clock, main()) == pytest.approx([0, expected], abs=1e-3)


def test_a_refusal_pauses_current_waiters_and_a_shorter_one_does_not_shorten_it() -> None:
    clock = Clock()
    limiter, began, at = limiter_of(clock, requests_per_minute=2), clock.now, list[float]()

    async def third() -> None:
        await limiter.acquire(GPT, tokens=0)
        at.append(clock.now - began)

    async def main() -> None:
        one, two = await limiter.acquire(GPT, tokens=0), await limiter.acquire(GPT, tokens=0)
        async with anyio.create_task_group() as group:
            group.start_soon(third)
            await anyio.sleep(50)
            one.refused(40)
            two.refused(1)

    run(clock, main())
    assert at == pytest.approx([90], abs=1e-3)


def test_a_refused_request_counts_as_a_request_without_tokens() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tokens_per_minute=100, requests_per_minute=2)

    async def main() -> list[float]:
        slot = await limiter.acquire(GPT, tokens=100)
        slot.refused(2)
        return [(await started(limiter, clock, tokens=50))[1] for _ in range(2)]

    assert run(clock, main()) == pytest.approx([2, 58], abs=1e-3)


def headers_of(left: int, reset: str, kind: str = "requests") -> dict[str, str]:
    return {f"x-ratelimit-remaining-{kind}": str(left), f"x-ratelimit-reset-{kind}": reset}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (headers_of(0, "20ms"), 0.02),
        (headers_of(0, "12s", "tokens"), 12),
        (headers_of(0, "12s", "input-images"), 0),
        (headers_of(5, "12s"), 0),
        (headers_of(0, "soon"), 0),
        ({"x-ratelimit-remaining-requests": "0"}, 0),
        ({"X-RateLimit-Remaining-Requests": "0", "X-RateLimit-Reset-Requests": "4"}, 4),
        ({"retry-after": "33", **headers_of(5, "12s")}, 0),  # of an answer, not of a refusal
        ({"anthropic-ratelimit-output-tokens-remaining": "0"}, 0),
    ],
)
def test_a_request_waits_for_the_reset_of_an_exhausted_quota(headers: Mapping[str, str], expected: float) -> None:
    clock = Clock()
    limiter = limiter_of(clock)

    async def main() -> list[float]:
        (await limiter.acquire(GPT, tokens=3)).note_headers(headers)
        return [(await started(limiter, clock, tokens=3))[1] for _ in range(2)]

    assert run(clock, main()) == pytest.approx([expected, 0], abs=1e-3)


def test_a_reset_time_without_a_date_header_is_compared_with_the_wall_clock() -> None:
    clock = Clock()
    limiter = LocalLimiter(Limits(), clock=clock, wall_clock=lambda: NOON)

    async def main() -> float:
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{NOON + 12:.0f}"}
        (await limiter.acquire(GPT, tokens=0)).note_headers(headers)
        return (await started(limiter, clock))[1]

    assert run(clock, main()) == pytest.approx(12, abs=1e-3)


def test_later_requests_count_against_the_reported_quota() -> None:
    clock = Clock()
    limiter = limiter_of(clock)

    async def main() -> list[float]:
        first = await limiter.acquire(GPT, tokens=0)
        second = await limiter.acquire(GPT, tokens=0)  # under way when the first is answered
        first.note_headers(headers_of(3, "30s"))
        waited = [(await started(limiter, clock))[1] for _ in range(3)]
        second.note_headers(headers_of(9, "30s"))  # sent later, so its report is newer
        first.note_headers(headers_of(0, "30s"))
        return [*waited, (await started(limiter, clock))[1]]

    assert run(clock, main()) == pytest.approx([0, 0, 30, 0], abs=1e-3)


def test_later_tokens_count_against_the_reported_quota() -> None:
    clock = Clock()
    limiter = limiter_of(clock)

    async def main() -> list[float]:
        slot = await limiter.acquire(GPT, tokens=500)
        slot.note_headers(headers_of(1000, "10s", "tokens"))
        return [(await started(limiter, clock, tokens=500))[1] for _ in range(3)]

    assert run(clock, main()) == pytest.approx([0, 0, 10], abs=1e-3)


def test_a_larger_reported_quota_wakes_the_waiter() -> None:
    clock = Clock()
    limiter, began, at = limiter_of(clock), clock.now, list[float]()

    async def third() -> None:
        await limiter.acquire(GPT, tokens=0)
        at.append(clock.now - began)

    async def main() -> None:
        one, two = await limiter.acquire(GPT, tokens=0), await limiter.acquire(GPT, tokens=0)
        one.note_headers(headers_of(0, "50s"))
        async with anyio.create_task_group() as group:
            group.start_soon(third)
            await anyio.sleep(2)
            two.note_headers(headers_of(8, "50s"))

    run(clock, main())
    assert at == pytest.approx([2], abs=1e-3)


def test_an_exhausted_daily_quota_is_probed_by_one_request_at_a_time() -> None:
    clock = Clock()
    limiter, began, at = limiter_of(clock), clock.now, list[float]()

    async def call(number: int) -> None:
        slot = await limiter.acquire(GPT, tokens=0)
        at.append(clock.now - began)
        slot.note_headers(headers_of(0, "6h0m0s") if number < 2 else headers_of(50, "6h0m0s"))

    async def main() -> None:
        (await limiter.acquire(GPT, tokens=0)).note_headers(headers_of(0, "6h0m0s"))
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(call, number)

    run(clock, main())
    assert at == pytest.approx([60, 120, 180, 180, 180, 180], abs=1e-3)


def test_a_long_refusal_is_probed_by_one_request_at_a_time() -> None:
    clock = Clock()
    limiter, began = limiter_of(clock), clock.now

    async def main() -> list[float]:
        (await limiter.acquire(GPT, tokens=0)).refused(150)
        return [(await limiter.acquire(GPT, tokens=0), clock.now - began)[1] for _ in range(5)]

    assert run(clock, main()) == pytest.approx([60, 120, 150, 150, 150], abs=1e-3)


def test_the_longest_wait_can_be_configured() -> None:
    clock = Clock()
    limiter = LocalLimiter(Limits(), longest_wait=600, clock=clock)

    async def main() -> list[float]:
        slot = await limiter.acquire(GPT, tokens=0)
        slot.note_headers(headers_of(0, "6m0s"))
        first = (await started(limiter, clock))[1]
        slot.refused(3600)
        return [first, (await started(limiter, clock))[1]]

    assert run(clock, main()) == pytest.approx([360, 600], abs=1e-3)


# ------------------------------------------------------------------------------------------------------ reading headers

AZURE = {"x-ratelimit-renewalperiod-requests": "60", "x-ratelimit-renewalperiod-tokens": "60"}
DATE = {"date": "Mon, 21 Sep 2026 14:13:20 GMT"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            headers_of(499, "120ms") | headers_of(199221, "233ms", "tokens"),
            [("requests", "requests", 499, 0.12), ("tokens", "tokens", 199221, 0.233)],
        ),
        (headers_of(14397, "2m59.56s"), [("requests", "requests", 14397, 179.56)]),
        (headers_of(1, "1h2m3s"), [("requests", "requests", 1, 3723)]),
        (headers_of(1, "1d"), [("requests", "requests", 1, 86400)]),
        (headers_of(1, "500µs"), [("requests", "requests", 1, 0.0005)]),
        (headers_of(119, "500") | AZURE, [("requests", "requests", 119, 0.5)]),
        (headers_of(119, "500"), [("requests", "requests", 119, 500)]),
        (
            {"x-ratelimit-remaining-requests-day": "7", "x-ratelimit-reset-requests-day": "33011.38"},
            [("requests-day", "requests", 7, 33011.38)],
        ),
        (
            {"x-ratelimit-remaining-req-10-second": "53", "x-ratelimit-remaining-tokens-minute": "1999370"},
            [("req-10-second", "requests", 53, 10), ("tokens-minute", "tokens", 1999370, 60)],
        ),
        ({"x-ratelimit-remaining": "19", "x-ratelimit-reset": "2"}, [("requests", "requests", 19, 2)]),
        ({"ratelimit-remaining": "19", "ratelimit-reset": "2"}, [("requests", "requests", 19, 2)]),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000003"}, [("requests", "requests", 0, 3)]),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000003500"}, [("requests", "requests", 0, 3.5)]),
        (
            {
                "anthropic-ratelimit-requests-remaining": "9999",
                "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:21Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-09-21T16:13:25+02:00",
                "anthropic-ratelimit-tokens-remaining": "5",
                "anthropic-ratelimit-tokens-reset": "2026-09-21T14:13:00Z",
            },
            [("requests", "requests", 9999, 1), ("input-tokens", "some_tokens", 0, 5), ("tokens", "tokens", 5, 0)],
        ),
        (
            {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-09-21T14:13:00"},
            [],  # in which time zone?
        ),
        (headers_of(-1, "0"), []),  # some hosts report this for uncounted units
        (headers_of(1, "1 s"), []),
        (headers_of(1, ""), []),
        (headers_of(1, "-5s"), []),
        (headers_of(1, "nan"), []),
        ({"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "1s"}, []),
        ({"x-ratelimit-remaining-requests": "9" * 5000, "x-ratelimit-reset-requests": "1s"}, []),
        ({"x-ratelimit-limit-requests": "9", "retry-after": "2"}, []),
        ({}, []),
    ],
)
def test_quota_headers_are_read(headers: Mapping[str, str], expected: list[tuple[str, str, int, float]]) -> None:
    read = read_quotas(headers, now=NOON)
    assert [(quota.name, quota.counts, quota.left) for quota in read] == [told[:3] for told in expected]
    assert [quota.seconds for quota in read] == pytest.approx([told[3] for told in expected])


def test_reset_times_are_compared_with_the_hosts_clock() -> None:
    reset = {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-09-21T14:13:27Z"}
    assert [quota.seconds for quota in read_quotas(reset | DATE, now=NOON + 5000)] == [7]
    assert [quota.seconds for quota in read_quotas(reset | {"date": "noon"}, now=NOON)] == [7]


NAMES = st.sampled_from(
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset", "date")
) | st.from_regex(r"(x-ratelimit-remaining|anthropic-ratelimit)-[a-z0-9-]*", fullmatch=True)


@given(st.dictionaries(NAMES, st.text(max_size=30) | st.from_regex(r"[0-9.]{0,400}(ms|s|m|Z)?", fullmatch=True)))
def test_invalid_quota_headers_are_ignored(headers: dict[str, str]) -> None:
    for quota in read_quotas(headers | {"x-ratelimit-remaining-requests": "3"}, now=NOON):
        assert quota.seconds >= 0
        assert quota.left >= 0


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
def test_recorded_quota_headers_are_read() -> None:
    """The numbers show whether units are read correctly: a used share of a quota resets in that share of the period."""
    read: dict[str, list[Quota]] = {}
    for row in recordings.index():
        headers = recordings.load(str(row["id"])).headers
        told = read_quotas(headers, now=NOON)
        said = {name for name in headers if "ratelimit-remaining" in name or name.endswith("-remaining")}
        unsaid = {name for name in said if name.endswith("-images") or not _has_reset(name, headers)}
        assert len(told) == len(said - unsaid), row["id"]
        for quota in told:
            limit = headers.get(f"x-ratelimit-limit-{quota.name}")
            if limit is not None and quota.name in headers_of_periods(headers):
                used = (int(limit) - quota.left) / int(limit)
                shares = [used * period for period in (MINUTE, 24 * 60 * MINUTE)]
                assert any(quota.seconds == pytest.approx(share, rel=0.2, abs=0.005) for share in shares), row["id"]
            read.setdefault(str(row["api"]), []).append(quota)
    assert {api: {quota.counts for quota in quotas} for api, quotas in read.items()} == {
        "openai_chat": {"requests", "tokens"},
        "openai_responses": {"requests", "tokens"},
        "anthropic_messages": {"requests", "tokens", "some_tokens"},
        "mistral_chat": {"requests", "tokens"},
    }
    assert sum(map(len, read.values())) > 1000


def headers_of_periods(headers: Mapping[str, str]) -> set[str]:
    """Return the kinds of quota with a reported reset time."""
    start = "x-ratelimit-reset-"
    return {name.removeprefix(start) for name in headers if name.startswith(start)}


def _has_reset(name: str, headers: Mapping[str, str]) -> bool:
    spans = ("-second", "-minute", "-month")
    return name.replace("remaining", "reset") in headers or name.endswith(spans)


# ---------------------------------------------------------------------------------------------------- loops and threads


def test_successive_event_loops_share_the_counts() -> None:
    clock = Clock()
    limiter = limiter_of(clock, requests_per_minute=1, concurrency=1)

    async def first() -> Slot:
        return await limiter.acquire(GPT, tokens=0)

    async def second(slot: Slot) -> float:
        slot.release()
        return (await started(limiter, clock))[1]

    assert run(clock, second(run(clock, first()))) == pytest.approx(60)


def test_waiters_of_a_closed_loop_do_not_block_others() -> None:
    clock = Clock()
    limiter = limiter_of(clock, concurrency=1)

    async def take() -> Slot:
        return await limiter.acquire(GPT, tokens=0)

    slot = run(clock, take())
    loop = VirtualLoop(clock)
    abandoned = [loop.create_task(take()) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()
    assert not any(task.done() for task in abandoned)

    at: list[float] = []

    async def waiting() -> None:
        await limiter.acquire(GPT, tokens=0)
        at.append(clock.now - began)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(waiting)
            await anyio.sleep(4)
            slot.release()

    began = clock.now
    run(clock, main())
    assert at == pytest.approx([4])
    abandoned.clear()
    gc.collect()  # leaving late does no harm
    assert len(vars(limiter)["_lanes"]) == 1


def test_waiters_of_a_closed_loop_are_skipped_if_no_other_waiter_wakes_the_queue() -> None:
    clock = Clock()
    limiter = limiter_of(clock, requests_per_minute=1)
    loop = VirtualLoop(clock)
    abandoned = [loop.create_task(limiter.acquire(GPT, tokens=0)) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(10))  # the first is served, the others sleep
    loop.close()
    assert [task.done() for task in abandoned] == [True, False, False]

    async def main() -> float:
        return (await started(limiter, clock))[1]

    assert run(clock, main()) == pytest.approx(50, abs=1e-3)


def test_four_threads_with_event_loops_share_a_limit_and_serve_all_waiters() -> None:
    limiter = LocalLimiter(Limits(concurrency=3))
    counting, under_way, most, served = threading.Lock(), 0, 0, 0

    async def call() -> None:
        nonlocal under_way, most, served
        slot = await limiter.acquire(GPT, tokens=1)
        with counting:
            under_way += 1
            most = max(most, under_way)
        await anyio.lowlevel.checkpoint()
        with counting:
            under_way -= 1
            served += 1
        slot.spent(Usage(total_tokens=1))
        slot.release()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(call)
                if number % 10 == 0:
                    group.start_soon(impatient)

    async def impatient() -> None:
        with anyio.move_on_after(0.0005):
            (await limiter.acquire(GPT, tokens=1)).release()

    threads = [threading.Thread(target=asyncio.run, args=(main(),), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert served == 400
    assert 1 <= most <= 3


def test_a_waiter_is_woken_from_another_thread() -> None:
    limiter = LocalLimiter(Limits(concurrency=1))
    waiting, served = threading.Event(), threading.Event()

    async def hold() -> Slot:
        return await limiter.acquire(GPT, tokens=0)

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(waiting.set)
        (await limiter.acquire(GPT, tokens=0)).release()
        served.set()

    slot = asyncio.run(hold())
    thread = threading.Thread(target=asyncio.run, args=(wait(),), daemon=True)
    thread.start()
    assert waiting.wait(60)
    assert not served.is_set()
    slot.release()
    assert served.wait(60)
    thread.join(timeout=60)
    assert not thread.is_alive()


class OwnLimiter:
    """A limiter that a user could write."""

    async def acquire(self, origin: Origin, *, tokens: int) -> Slot:
        return await LocalLimiter(Limits()).acquire(origin, tokens=tokens)


async def test_a_custom_class_implements_the_limiter_protocol() -> None:
    limiter: Limiter = OwnLimiter()
    (await limiter.acquire(GPT, tokens=0)).release()
