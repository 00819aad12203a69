"""``Timing``: the clock, the sleep, the random numbers and the drain time of calls, so that tests can replace them."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The clock, the sleep, the random numbers and the drain time of calls. Time limits use the event loop's clock.

    Attributes:
        clock: Returns seconds that never decrease; for latencies and observers.
        sleep: Waits that many seconds before another attempt.
        draw: Returns a random number from 0 up to 1, for the jitter of that wait.
        drain: Seconds in which the rest of a response body is read after its answer, to keep the connection.
    """

    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Coroutine[object, object, None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    drain: float = 0.25


SYSTEM: Timing = Timing()
"""The clock, the sleep and the random numbers of the system, with the usual drain time."""
