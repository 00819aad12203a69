"""The token usage of an answer, with the same meaning for every provider."""

from collections.abc import Iterable
from typing import Literal

from dhenara_async.frozen import FrozenModel


class Usage(FrozenModel):
    """Token counts, with the same meaning for every provider; None = not reported, never 0 instead.

    Attributes:
        input_tokens: All prompt tokens, cache reads and writes included.
        cache_read_tokens: The part of ``input_tokens`` read from a cache.
        cache_write_tokens: The part of ``input_tokens`` written to a cache.
        output_tokens: All generated tokens, reasoning included.
        reasoning_tokens: The part of ``output_tokens`` spent on reasoning.
        total_tokens: Input and output together.
        cache_write_5m_tokens: The part of ``cache_write_tokens`` cached for 5 minutes.
        cache_write_1h_tokens: The part of ``cache_write_tokens`` cached for 1 hour.
        cache_write_30m_tokens: The part of ``cache_write_tokens`` cached for at least 30 minutes.
        cache_write_12h_tokens: The part of ``cache_write_tokens`` cached for at least 12 hours.
        input_audio_tokens: The part of ``input_tokens`` that was audio.
        output_audio_tokens: The part of ``output_tokens`` that was audio.
        web_searches: Number of searches that the provider ran.
        source: ``reported`` by the provider, ``estimated`` here, or ``unknown``.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    cache_write_30m_tokens: int | None = None
    cache_write_12h_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    web_searches: int | None = None
    source: Literal["reported", "estimated", "unknown"] = "unknown"


UNKNOWN: Usage = Usage.unchecked()
"""No usage was reported."""

_COUNTS = tuple(name for name in Usage.model_fields if name != "source")
_RELIABILITY = ("reported", "estimated", "unknown")


def total_usage(usages: Iterable[Usage]) -> Usage:
    """Return the sum of several usages.

    A count is the sum of those that are known, and None if none is; ``source`` is the least reliable one of them.
    """
    every = tuple(usages)
    counts: dict[str, int | None] = {}
    for name in _COUNTS:
        known = [count for usage in every if (count := getattr(usage, name)) is not None]
        counts[name] = sum(known) if known else None
    source = max((usage.source for usage in every), key=_RELIABILITY.index, default="unknown")
    return Usage.model_validate({**counts, "source": source})
