"""Google's Gemini models.

Source: the model literals of the ``google-genai`` package 3.4 and the vendor's deprecation notes (read 2026-11-22)
"""

from datetime import date
from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.GOOGLE_AI

Gemini4Argon: Final = AIModel(
    model_name="gemini-4-argon", provider=_MAKER, display_name="Gemini 4 Argon", context_window=1_048_576
)
Gemini38Flash: Final = AIModel(
    model_name="gemini-3.8-flash", provider=_MAKER, display_name="Gemini 3.8 Flash", context_window=1_048_576
)
Gemini35FlashLite: Final = AIModel(
    model_name="gemini-3.5-flash-lite",
    provider=_MAKER,
    display_name="Gemini 3.5 Flash-Lite",
    context_window=1_048_576,
)
Gemini20Flash: Final = AIModel(
    model_name="gemini-2.0-flash",
    provider=_MAKER,
    display_name="Gemini 2.0 Flash",
    context_window=1_048_576,
    max_output_tokens=8_192,
    retired_on=date(2026, 6, 1),
    replacement="gemini-3.8-flash",
)
Gemini20FlashLite: Final = AIModel(
    model_name="gemini-2.0-flash-lite",
    provider=_MAKER,
    display_name="Gemini 2.0 Flash-Lite",
    context_window=1_048_576,
    max_output_tokens=8_192,
    retired_on=date(2026, 6, 1),
    replacement="gemini-3.5-flash-lite",
)
