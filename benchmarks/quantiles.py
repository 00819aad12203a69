"""Reduces many measured values to evenly spaced quantiles, which can be merged."""

from collections.abc import Sequence

_STEPS = 1000


def quantiles(values: Sequence[float]) -> list[float]:
    """Return at most 1 001 of the sorted ``values``, evenly spaced from the smallest to the largest."""
    if len(values) <= _STEPS:
        return list(values)
    last = len(values) - 1
    return [values[step * last // _STEPS] for step in range(_STEPS + 1)]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that a ``share`` (0 to 1) of the sorted ``values`` does not exceed; 0 if there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
