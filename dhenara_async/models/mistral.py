"""Mistral's models.

Source: the ``mistralai`` package 3.7 and the data of ``genai-prices`` 0.2.3 (read 2026-11-22)
"""

from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.MISTRAL

MistralLarge4: Final = AIModel(
    model_name="mistral-large-4",
    provider=_MAKER,
    display_name="Mistral Large 4",
    context_window=1_048_576,
)
MistralLarge2512: Final = AIModel(
    model_name="mistral-large-2512",
    provider=_MAKER,
    display_name="Mistral Large 2512",
    context_window=262_144,
)
MistralMedium35: Final = AIModel(
    model_name="mistral-medium-3-5",
    provider=_MAKER,
    display_name="Mistral Medium 3.5",
    context_window=262_144,
)
MistralSmallLatest: Final = AIModel(
    model_name="mistral-small-latest",
    provider=_MAKER,
    display_name="Mistral Small Latest",
    context_window=262_144,
)
Codestral2508: Final = AIModel(
    model_name="codestral-2508",
    provider=_MAKER,
    display_name="Codestral 2508",
    context_window=256_000,
)
Ministral14B2512: Final = AIModel(
    model_name="ministral-14b-2512",
    provider=_MAKER,
    display_name="Ministral 14B 2512",
    context_window=262_144,
)
Ministral8B2512: Final = AIModel(
    model_name="ministral-8b-2512",
    provider=_MAKER,
    display_name="Ministral 8B 2512",
    context_window=262_144,
)
Ministral3B2512: Final = AIModel(
    model_name="ministral-3b-2512",
    provider=_MAKER,
    display_name="Ministral 3B 2512",
    context_window=131_072,
)
