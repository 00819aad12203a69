"""Google's Gemini models.

Source: the model literals of the ``google-genai`` package 3.4 and the vendor's deprecation notes (read 2026-11-22)
"""

from datetime import date
from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.GOOGLE_AI

Gemini4Carbon: Final = AIModel(
    model_name="gemini-4-carbon",
    provider=_MAKER,
    display_name="Gemini 4 Carbon",
)
Gemini4Argon: Final = AIModel(
    model_name="gemini-4-argon",
    provider=_MAKER,
    display_name="Gemini 4 Argon",
    context_window=1_048_576,
)
Gemini4Hydrogen: Final = AIModel(
    model_name="gemini-4-hydrogen",
    provider=_MAKER,
    display_name="Gemini 4 Hydrogen",
)
Gemini38Flash: Final = AIModel(
    model_name="gemini-3.8-flash",
    provider=_MAKER,
    display_name="Gemini 3.8 Flash",
    context_window=1_048_576,
)
Gemini37Flash: Final = AIModel(
    model_name="gemini-3.7-flash",
    provider=_MAKER,
    display_name="Gemini 3.7 Flash",
    context_window=1_048_576,
)
Gemini36Flash: Final = AIModel(
    model_name="gemini-3.6-flash",
    provider=_MAKER,
    display_name="Gemini 3.6 Flash",
    context_window=1_048_576,
)
Gemini35Flash: Final = AIModel(
    model_name="gemini-3.5-flash",
    provider=_MAKER,
    display_name="Gemini 3.5 Flash",
    context_window=1_048_576,
)
Gemini35FlashLite: Final = AIModel(
    model_name="gemini-3.5-flash-lite",
    provider=_MAKER,
    display_name="Gemini 3.5 Flash-Lite",
    context_window=1_048_576,
)
Gemini31ProPreview: Final = AIModel(
    model_name="gemini-3.1-pro-preview",
    provider=_MAKER,
    display_name="Gemini 3.1 Pro Preview",
    context_window=1_048_576,
)
Gemini31FlashLite: Final = AIModel(
    model_name="gemini-3.1-flash-lite",
    provider=_MAKER,
    display_name="Gemini 3.1 Flash-Lite",
    context_window=1_048_576,
)
Gemini3ProImage: Final = AIModel(
    model_name="gemini-3-pro-image",
    provider=_MAKER,
    display_name="Gemini 3 Pro Image",
)
Gemini31FlashImage: Final = AIModel(
    model_name="gemini-3.1-flash-image",
    provider=_MAKER,
    display_name="Gemini 3.1 Flash Image",
)
Gemini25Pro: Final = AIModel(
    model_name="gemini-2.5-pro",
    provider=_MAKER,
    display_name="Gemini 2.5 Pro",
    context_window=1_048_576,
)
Gemini25Flash: Final = AIModel(
    model_name="gemini-2.5-flash",
    provider=_MAKER,
    display_name="Gemini 2.5 Flash",
    context_window=1_048_576,
)
Gemini25FlashLite: Final = AIModel(
    model_name="gemini-2.5-flash-lite",
    provider=_MAKER,
    display_name="Gemini 2.5 Flash-Lite",
    context_window=1_048_576,
)
# Retired.

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
