"""Models served by Cerebras, by its model ids.

Source: the ``cerebras-cloud-sdk`` package 1.91 and the data of ``genai-prices`` 0.2.3 (read 2026-11-22)
"""

from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_HOST = AIModelAPIProviderEnum.CEREBRAS

GPTOSS120B: Final = AIModel(
    model_name="gpt-oss-120b",
    provider=_HOST,
    display_name="GPT-OSS 120B",
    context_window=131_072,
)
Qwen3827B: Final = AIModel(
    model_name="qwen-3.8-27b",
    provider=_HOST,
    display_name="Qwen 3.8 27B",
    context_window=65_536,
)
