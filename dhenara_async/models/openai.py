"""OpenAI's models.

Source: the model literals and docstrings of the ``openai`` package 3.54 (read 2026-11-22)
"""

from datetime import date
from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.OPEN_AI

GPT62Sol: Final = AIModel(
    model_name="gpt-6.2-sol",
    provider=_MAKER,
    display_name="GPT-6.2 Sol",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT61Terra: Final = AIModel(
    model_name="gpt-6.1-terra",
    provider=_MAKER,
    display_name="GPT-6.1 Terra",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT6Luna: Final = AIModel(
    model_name="gpt-6-luna",
    provider=_MAKER,
    display_name="GPT-6 Luna",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT4oMini: Final = AIModel(
    model_name="gpt-4o-mini",
    provider=_MAKER,
    display_name="GPT-4o mini",
    context_window=128_000,
    max_output_tokens=16_384,
    retired_on=date(2027, 1, 14),
    replacement="gpt-6-luna",
)
O3Mini: Final = AIModel(
    model_name="o3-mini",
    provider=_MAKER,
    display_name="o3-mini",
    context_window=200_000,
    max_output_tokens=100_000,
    retired_on=date(2026, 10, 23),
    replacement="gpt-6-luna",
)
