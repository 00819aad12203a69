"""Event loops whose time is set: a sleep is over at once, and the clock says that it was as long as it should be."""

import asyncio
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

# What a clock goes on by at least: sums of floats can fall short of a time by less than a loop takes for too early.
_TICK = 1e-6


@dataclass(slots=True)
class Clock:
    """What the time is; any number of loops can go by it, one after another."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class _Skipping(selectors.DefaultSelector):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        assert timeout is not None, "everybody waits, and for nothing: this would never end"
        if timeout > 0:
            self._clock.now += max(timeout, _TICK)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that goes by ``clock`` and skips every wait. It ends a test that would hang."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock
        super().__init__(_Skipping(clock))

    def time(self) -> float:
        return self._now()


def run(clock: Clock, work: Coroutine[object, object, Result]) -> Result:
    """What ``asyncio.run`` does, in the time of ``clock``."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(work)
