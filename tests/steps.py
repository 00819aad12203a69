"""Counts work in steps, for tests of how work grows: seconds tell more of the machine than of the code."""

import sys
from collections.abc import Callable
from types import FrameType


def steps(work: Callable[[], object]) -> int:
    """How many calls ``work`` makes, of Python's functions and of those written in C."""
    count = 0

    def seen(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times the steps of ``work(size)`` does ``work(2 * size)`` take: 2 where it is linear, 4 if quadratic."""
    work(size)  # what only a first time does is done before
    return steps(lambda: work(2 * size)) / steps(lambda: work(size))
