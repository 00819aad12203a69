"""One timer for many waits: each ends at its own time, and nobody else's."""

import asyncio
from dataclasses import dataclass

from dhenara_async.errors import DeadlineError
from dhenara_async.transport.first_byte import FirstByteTimer
from tests.virtual_time import Clock, VirtualLoop, run

SECONDS = 10.0


@dataclass(eq=False)
class Waiter:
    """Notes when it is told that it is late, and what."""

    clock: Clock
    late_at: float | None = None
    told: BaseException | None = None

    def set_exception(self, exc: BaseException) -> None:
        self.late_at, self.told = self.clock.now, exc


class Counting(VirtualLoop):
    """Counts the timers that are set."""

    timers = 0

    def call_at(self, *args: object, **more: object) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*args, **more)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_each_wait_fails_at_its_own_deadline() -> None:
    clock = Clock(now=0.0)
    first, second, third = waiters = [Waiter(clock) for _ in range(3)]

    async def work() -> None:
        patience = FirstByteTimer(asyncio.get_running_loop(), SECONDS)
        for waiter in waiters:
            patience.begin(waiter)
            await asyncio.sleep(0.1)
        patience.end(second)
        await asyncio.sleep(100)
        assert not patience.waiting
        patience.begin(second)  # after everybody was gone
        await asyncio.sleep(100)

    run(clock, work())
    assert [round(waiter.late_at or 0, 3) for waiter in waiters] == [10, 110.3, 10.2]
    for waiter in (first, second, third):
        assert isinstance(waiter.told, DeadlineError)
        assert (waiter.told.limit, waiter.told.seconds) == ("first_byte", SECONDS)


def test_timely_responses_set_hardly_any_timers() -> None:
    clock = Clock(now=0.0)
    waiters = [Waiter(clock) for _ in range(1000)]

    async def work() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Counting)
        patience, before = FirstByteTimer(loop, SECONDS), loop.timers
        for waiter in waiters:
            patience.begin(waiter)
            clock.now += 0.01
            patience.end(waiter)
        return loop.timers - before

    with asyncio.Runner(loop_factory=lambda: Counting(clock)) as runner:
        assert runner.run(work()) == 1
    assert [waiter for waiter in waiters if waiter.told is not None] == []
