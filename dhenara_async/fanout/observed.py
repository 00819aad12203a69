"""``ObservedFanOut``: reports one fan-out to the observers that were given for it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from random import getrandbits
from time import perf_counter

from dhenara_async.calls.observed import entered, report
from dhenara_async.calls.observer import Observer
from dhenara_async.calls.records import CallOutcome, FanOutEnded, FanOutStarted

_NOWHERE: AbstractContextManager[object] = nullcontext()


class ObservedFanOut:
    """Reports one fan-out to its observers, in the order in which they were given.

    Args:
        observers: The observers; with none, every method does nothing.
        clock: Returns seconds that never decrease.
    """

    def __init__(self, observers: Sequence[Observer], *, clock: Callable[[], float] = perf_counter) -> None:
        self._observers = tuple(observers)
        self._clock = clock
        self._started: FanOutStarted | None = None
        self._started_at = 0.0

    def start(self, calls: int | None) -> None:
        """Report that the fan-out starts; ``calls`` is the number of its requests, if it is known."""
        if not self._observers:
            return
        self._started_at = self._clock()
        self._started = FanOutStarted(f"{getrandbits(128):032x}", calls)
        report([observer.fan_out_started for observer in self._observers], self._started)

    def calling(self) -> AbstractContextManager[object]:
        """Return the context in which one call is made: those of the observers, entered already."""
        if self._started is None:
            return _NOWHERE
        with ExitStack() as stack:
            for observer in self._observers:
                entered(stack, observer.around_fan_out, self._started)
            return stack.pop_all()

    def end(self, *, complete: int, failed: int, outcome: CallOutcome, error: BaseException | None) -> None:
        """Report that the fan-out has ended, unless it did not start or that was reported; see ``FanOutEnded``."""
        started, self._started = self._started, None
        if started is not None:
            seconds = self._clock() - self._started_at
            record = FanOutEnded(started.fan_out_id, complete, failed, outcome, error, seconds)
            report([observer.fan_out_ended for observer in self._observers], record)
