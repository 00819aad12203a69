"""Models served by Groq, by its model ids.

Source: the ``groq`` package 1.7 and the data of ``genai-prices`` 0.2.3 (read 2026-11-22)
"""

from typing import Final

from dhenara_async.endpoint import AIModel, AIModelAPIProviderEnum

_HOST = AIModelAPIProviderEnum.GROQ

GPTOSS120B: Final = AIModel(
    model_name="openai/gpt-oss-120b",
    provider=_HOST,
    display_name="GPT-OSS 120B",
    context_window=131_072,
)
GPTOSS20B: Final = AIModel(
    model_name="openai/gpt-oss-20b",
    provider=_HOST,
    display_name="GPT-OSS 20B",
    context_window=131_072,
)
Qwen3827B: Final = AIModel(
    model_name="qwen/qwen3.8-27b",
    provider=_HOST,
    display_name="Qwen 3.8 27B",
    context_window=131_072,
)
Llama3370BVersatile: Final = AIModel(
    model_name="llama-3.3-70b-versatile",
    provider=_HOST,
    display_name="Llama 3.3 70B Versatile",
    context_window=131_072,
)
