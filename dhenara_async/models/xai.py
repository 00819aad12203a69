"""xAI's models.

Source: the ``xai-sdk`` package 1.21 and the data of ``genai-prices`` 0.2.3 (read 2026-11-22)
"""

from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.XAI

Grok47: Final = AIModel(
    model_name="grok-4.7",
    provider=_MAKER,
    display_name="Grok 4.7",
    context_window=500_000,
)
Grok46: Final = AIModel(
    model_name="grok-4.6",
    provider=_MAKER,
    display_name="Grok 4.6",
    context_window=500_000,
)
Grok45: Final = AIModel(
    model_name="grok-4.5",
    provider=_MAKER,
    display_name="Grok 4.5",
    context_window=500_000,
)
Grok43: Final = AIModel(
    model_name="grok-4.3",
    provider=_MAKER,
    display_name="Grok 4.3",
    context_window=1_000_000,
)
Grok420: Final = AIModel(
    model_name="grok-4.20",
    provider=_MAKER,
    display_name="Grok 4.20",
    context_window=1_000_000,
)
GrokBuild01: Final = AIModel(
    model_name="grok-build-0.1",
    provider=_MAKER,
    display_name="Grok Build 0.1",
    context_window=256_000,
)
