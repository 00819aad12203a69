"""One model at every host that speaks Chat Completions, and what is sent to it."""

import base64
from collections.abc import Iterable, Mapping
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Dialect,
    Message,
    PromptFormatter,
    Role,
)
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import Part
from dhenara_async.request import ChatRequest

JSON = dict[str, object]
_Provider = AIModelAPIProviderEnum

# One model a host, such as it serves.
MODELS: Mapping[AIModelAPIProviderEnum, str] = {
    _Provider.OPEN_AI: "gpt-5",
    _Provider.DEEPSEEK: "deepseek-v4-pro",
    _Provider.GROQ: "openai/gpt-oss-120b",
    _Provider.MISTRAL: "mistral-large-4",
    _Provider.XAI: "grok-4.7",
    _Provider.OPENROUTER: "anthropic/claude-sonnet-5.5",
    _Provider.TOGETHER: "zai-org/GLM-5",
    _Provider.FIREWORKS: "accounts/fireworks/models/kimi-k3",
    _Provider.CEREBRAS: "gpt-oss-120b",
    _Provider.OLLAMA: "qwen3:8b",
    _Provider.VLLM: "Qwen/Qwen3-8B",
    _Provider.LM_STUDIO: "qwen3",
    _Provider.LLAMA_CPP: "gemma-4",
    _Provider.OPENAI_COMPATIBLE: "anything",
}
HOSTS = pytest.mark.parametrize("host", MODELS, ids=[host.value for host in MODELS])
PNG = b"\x89PNG\r\n\x1a\npixels"
ENCODED = base64.b64encode(PNG).decode()


def endpoint_at(
    host: AIModelAPIProviderEnum, model: str | None = None, api: AIModelAPI | None = None
) -> AIModelEndpoint:
    base_url = "https://host.test/v1" if host is _Provider.OPENAI_COMPATIBLE else None
    here = api or AIModelAPI(provider=host, base_url=base_url, dialect=Dialect.OPENAI_CHAT, api_key="key")
    return AIModelEndpoint(api=here, ai_model=AIModel(model_name=model or MODELS[host]))


def encoded(
    endpoint: AIModelEndpoint, messages: Iterable[Message], config: AIModelCallConfig | None = None
) -> tuple[JSON, list[tuple[str, str]]]:
    """The body, and which knobs were dropped or adjusted."""
    formatted = PromptFormatter.format_messages(messages, endpoint)
    request = ChatRequest.of(formatted.messages, instructions=(), config=config or AIModelCallConfig(), stream=False)
    wire = driver_for(endpoint).encode(request, endpoint)
    return orjson.loads(wire.body), [(warning.code, warning.knob) for warning in wire.warnings]


def wire_messages(host: AIModelAPIProviderEnum, messages: Iterable[Message]) -> list[JSON]:
    return cast("list[JSON]", encoded(endpoint_at(host), messages)[0]["messages"])


def own(host: AIModelAPIProviderEnum, *parts: Part) -> Message:
    """What the endpoint of ``host`` said itself."""
    origin = expected_origin(endpoint_at(host))
    return Message(role=Role.ASSISTANT, parts=[part.model_copy(update={"origin": origin}) for part in parts])
