"""Anthropic's models.

Source: the model literals and end-of-life dates of the ``anthropic`` package 2.12 (read 2026-11-22)
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
ClaudeMythos52: Final = AIModel(
    model_name="claude-mythos-5-2",
    provider=_MAKER,
    display_name="Claude Mythos 5.2",
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
ClaudeFable51: Final = AIModel(
    model_name="claude-fable-5-1",
    provider=_MAKER,
    display_name="Claude Fable 5.1",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeFable5: Final = AIModel(
    model_name="claude-fable-5",
    provider=_MAKER,
    display_name="Claude Fable 5",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeOpus5: Final = AIModel(
    model_name="claude-opus-5",
    provider=_MAKER,
    display_name="Claude Opus 5",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeSonnet5: Final = AIModel(
    model_name="claude-sonnet-5",
    provider=_MAKER,
    display_name="Claude Sonnet 5",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeOpus48: Final = AIModel(
    model_name="claude-opus-4-8",
    provider=_MAKER,
    display_name="Claude Opus 4.8",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeOpus47: Final = AIModel(
    model_name="claude-opus-4-7",
    provider=_MAKER,
    display_name="Claude Opus 4.7",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeOpus46: Final = AIModel(
    model_name="claude-opus-4-6",
    provider=_MAKER,
    display_name="Claude Opus 4.6",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeSonnet46: Final = AIModel(
    model_name="claude-sonnet-4-6",
    provider=_MAKER,
    display_name="Claude Sonnet 4.6",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
ClaudeOpus45: Final = AIModel(
    model_name="claude-opus-4-5",
    provider=_MAKER,
    display_name="Claude Opus 4.5",
    context_window=200_000,
    max_output_tokens=64_000,
)
ClaudeHaiku45: Final = AIModel(
    model_name="claude-haiku-4-5",
    provider=_MAKER,
    display_name="Claude Haiku 4.5",
    context_window=200_000,
    max_output_tokens=64_000,
)
# Scheduled for retirement.

ClaudeSonnet45: Final = AIModel(
    model_name="claude-sonnet-4-5",
    provider=_MAKER,
    display_name="Claude Sonnet 4.5",
    context_window=200_000,
    max_output_tokens=64_000,
    retired_on=date(2026, 11, 30),
    replacement="claude-sonnet-5-5",
)
# Retired at the maker's own host; clouds keep their own calendars.

ClaudeOpus4: Final = AIModel(
    model_name="claude-opus-4-20250514",
    provider=_MAKER,
    display_name="Claude Opus 4",
    context_window=200_000,
    retired_on=date(2026, 6, 15),
    replacement="claude-opus-5-5",
)
ClaudeSonnet4: Final = AIModel(
    model_name="claude-sonnet-4-20250514",
    provider=_MAKER,
    display_name="Claude Sonnet 4",
    context_window=200_000,
    retired_on=date(2026, 6, 15),
    replacement="claude-sonnet-5-5",
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
