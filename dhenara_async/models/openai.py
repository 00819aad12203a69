"""OpenAI's models.

Source: the model literals and docstrings of the ``openai`` package 3.54 (read 2026-11-22)
"""

from datetime import date
from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.OPEN_AI

GPT62Astra: Final = AIModel(
    model_name="gpt-6.2-astra",
    provider=_MAKER,
    display_name="GPT-6.2 Astra",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT6Astra: Final = AIModel(
    model_name="gpt-6-astra",
    provider=_MAKER,
    display_name="GPT-6 Astra",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT62Sol: Final = AIModel(
    model_name="gpt-6.2-sol",
    provider=_MAKER,
    display_name="GPT-6.2 Sol",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT61Sol: Final = AIModel(
    model_name="gpt-6.1-sol",
    provider=_MAKER,
    display_name="GPT-6.1 Sol",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT6Sol: Final = AIModel(
    model_name="gpt-6-sol",
    provider=_MAKER,
    display_name="GPT-6 Sol",
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
GPT56Sol: Final = AIModel(
    model_name="gpt-5.6-sol",
    provider=_MAKER,
    display_name="GPT-5.6 Sol",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT56Terra: Final = AIModel(
    model_name="gpt-5.6-terra",
    provider=_MAKER,
    display_name="GPT-5.6 Terra",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT56Luna: Final = AIModel(
    model_name="gpt-5.6-luna",
    provider=_MAKER,
    display_name="GPT-5.6 Luna",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT55: Final = AIModel(
    model_name="gpt-5.5",
    provider=_MAKER,
    display_name="GPT-5.5",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
GPT55Pro: Final = AIModel(
    model_name="gpt-5.5-pro",
    provider=_MAKER,
    display_name="GPT-5.5 pro",
    context_window=1_000_000,
    max_output_tokens=128_000,
)
GPT54: Final = AIModel(
    model_name="gpt-5.4",
    provider=_MAKER,
    display_name="GPT-5.4",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT54Pro: Final = AIModel(
    model_name="gpt-5.4-pro",
    provider=_MAKER,
    display_name="GPT-5.4 pro",
    context_window=1_050_000,
    max_output_tokens=128_000,
)
GPT54Mini: Final = AIModel(
    model_name="gpt-5.4-mini",
    provider=_MAKER,
    display_name="GPT-5.4 mini",
    context_window=400_000,
    max_output_tokens=128_000,
)
GPT52: Final = AIModel(
    model_name="gpt-5.2",
    provider=_MAKER,
    display_name="GPT-5.2",
    context_window=400_000,
    max_output_tokens=128_000,
)
# Scheduled for retirement.

GPT54Nano: Final = AIModel(
    model_name="gpt-5.4-nano",
    provider=_MAKER,
    display_name="GPT-5.4 nano",
    context_window=400_000,
    max_output_tokens=128_000,
    retired_on=date(2027, 4, 1),
    replacement="gpt-6-luna",
)
GPT51: Final = AIModel(
    model_name="gpt-5.1",
    provider=_MAKER,
    display_name="GPT-5.1",
    context_window=400_000,
    max_output_tokens=128_000,
    retired_on=date(2027, 4, 1),
    replacement="gpt-6.1-sol",
)
GPT41: Final = AIModel(
    model_name="gpt-4.1",
    provider=_MAKER,
    display_name="GPT-4.1",
    context_window=1_000_000,
    max_output_tokens=32_768,
    retired_on=date(2027, 1, 14),
    replacement="gpt-6.1-sol",
)
GPT41Mini: Final = AIModel(
    model_name="gpt-4.1-mini",
    provider=_MAKER,
    display_name="GPT-4.1 mini",
    context_window=1_000_000,
    max_output_tokens=32_768,
    retired_on=date(2027, 1, 14),
    replacement="gpt-6.1-terra",
)
GPT4o: Final = AIModel(
    model_name="gpt-4o",
    provider=_MAKER,
    display_name="GPT-4o",
    context_window=128_000,
    max_output_tokens=16_384,
    retired_on=date(2027, 1, 14),
    replacement="gpt-6.1-sol",
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
GPT5: Final = AIModel(
    model_name="gpt-5",
    provider=_MAKER,
    display_name="GPT-5",
    context_window=400_000,
    max_output_tokens=128_000,
    retired_on=date(2026, 12, 11),
    replacement="gpt-6.1-sol",
)
GPT5Mini: Final = AIModel(
    model_name="gpt-5-mini",
    provider=_MAKER,
    display_name="GPT-5 mini",
    context_window=400_000,
    max_output_tokens=128_000,
    retired_on=date(2026, 12, 11),
    replacement="gpt-6.1-terra",
)
GPT5Nano: Final = AIModel(
    model_name="gpt-5-nano",
    provider=_MAKER,
    display_name="GPT-5 nano",
    context_window=400_000,
    max_output_tokens=128_000,
    retired_on=date(2026, 12, 11),
    replacement="gpt-6-luna",
)
O3: Final = AIModel(
    model_name="o3",
    provider=_MAKER,
    display_name="o3",
    context_window=200_000,
    max_output_tokens=100_000,
    retired_on=date(2026, 12, 11),
    replacement="gpt-6.1-sol",
)
# Retired.

O4Mini: Final = AIModel(
    model_name="o4-mini",
    provider=_MAKER,
    display_name="o4-mini",
    context_window=200_000,
    max_output_tokens=100_000,
    retired_on=date(2026, 10, 23),
    replacement="gpt-6.1-terra",
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
O1: Final = AIModel(
    model_name="o1",
    provider=_MAKER,
    display_name="o1",
    context_window=200_000,
    max_output_tokens=100_000,
    retired_on=date(2026, 10, 23),
    replacement="gpt-6.1-sol",
)
GPT41Nano: Final = AIModel(
    model_name="gpt-4.1-nano",
    provider=_MAKER,
    display_name="GPT-4.1 nano",
    context_window=1_000_000,
    max_output_tokens=32_768,
    retired_on=date(2026, 10, 23),
    replacement="gpt-6-luna",
)
