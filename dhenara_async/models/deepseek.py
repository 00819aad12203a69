"""DeepSeek's models.

Source: https://api-docs.deepseek.com and the data of ``genai-prices`` 0.2.3 (read 2026-11-22)
"""

from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_MAKER = AIModelAPIProviderEnum.DEEPSEEK

DeepSeekFlash: Final = AIModel(
    model_name="deepseek-flash",
    provider=_MAKER,
    display_name="DeepSeek Flash",
    context_window=1_000_000,
)
DeepSeekV4Pro: Final = AIModel(
    model_name="deepseek-v4-pro",
    provider=_MAKER,
    display_name="DeepSeek V4 Pro",
    context_window=1_000_000,
)
DeepSeekV4Flash: Final = AIModel(
    model_name="deepseek-v4-flash",
    provider=_MAKER,
    display_name="DeepSeek V4 Flash",
    context_window=1_000_000,
)
