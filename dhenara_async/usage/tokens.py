"""What an answer took, in tokens: one meaning for every number, whoever reports it."""

from typing import Literal

from dhenara_async.frozen import FrozenModel


class Usage(FrozenModel):
    """Tokens, with the same meaning for every provider; None = not told, never zero instead.

    Attributes:
        input_tokens: All prompt tokens, cache reads and writes included.
        cache_read_tokens: Those of ``input_tokens`` that were read from a cache.
        cache_write_tokens: Those of ``input_tokens`` that were written to a cache.
        output_tokens: All generated tokens, reasoning included.
        reasoning_tokens: Those of ``output_tokens`` that were reasoning.
        total_tokens: Input and output together.
        cache_write_5m_tokens: Those of ``cache_write_tokens`` that are kept for five minutes.
        cache_write_1h_tokens: Those that are kept for an hour.
        cache_write_30m_tokens: Those that are kept for half an hour at least.
        cache_write_12h_tokens: Those that are kept for twelve hours at least.
        input_audio_tokens: Those of ``input_tokens`` that were audio.
        output_audio_tokens: Those of ``output_tokens`` that were audio.
        web_searches: How many searches the provider ran.
        source: ``reported`` only if the provider told.
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
"""Nothing was told."""
