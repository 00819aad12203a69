"""Anthropic's models.

Source: the model literals of the ``anthropic`` package 2.12 and the vendor's deprecation page (read 2026-11-22)
"""

from datetime import date
from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.ANTHROPIC

ClaudeFable52: Final = AIModel(
    model_name="claude-fable-5-2",
    provider=_MAKER,
    display_name="Claude Fable 5.2",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeOpus55: Final = AIModel(
    model_name="claude-opus-5-5",
    provider=_MAKER,
    display_name="Claude Opus 5.5",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeSonnet55: Final = AIModel(
    model_name="claude-sonnet-5-5",
    provider=_MAKER,
    display_name="Claude Sonnet 5.5",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeHaiku55: Final = AIModel(
    model_name="claude-haiku-5-5",
    provider=_MAKER,
    display_name="Claude Haiku 5.5",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeHaiku45: Final = AIModel(
    model_name="claude-haiku-4-5",
    provider=_MAKER,
    display_name="Claude Haiku 4.5",
    context_window=200_000,
    max_output_tokens=64_000,
)
Claude37Sonnet: Final = AIModel(
    model_name="claude-3-7-sonnet-20250219",
    provider=_MAKER,
    display_name="Claude 3.7 Sonnet",
    context_window=200_000,
    max_output_tokens=64_000,
    retired_on=date(2026, 2, 19),
    replacement="claude-sonnet-5-5",
)
Claude35Haiku: Final = AIModel(
    model_name="claude-3-5-haiku-20241022",
    provider=_MAKER,
    display_name="Claude 3.5 Haiku",
    context_window=200_000,
    max_output_tokens=8_192,
    retired_on=date(2026, 2, 19),
    replacement="claude-haiku-5-5",
)
