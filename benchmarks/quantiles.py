"""Many measured values as few: evenly spaced quantiles, which can be put together again."""

from collections.abc import Sequence

_STEPS = 1000


def quantiles(values: Sequence[float]) -> list[float]:
    """At most 1 001 of ``values``, sorted ones, from the smallest to the largest at even distances."""
    if len(values) <= _STEPS:
        return list(values)
    last = len(values) - 1
    return [values[step * last // _STEPS] for step in range(_STEPS + 1)]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of ``values``, sorted ones, do not exceed; 0 if there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
