"""The request of a question that is not sent, for people: no credential is in it."""

import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    ConversationManager,
    HostedTool,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import FilePart
from dhenara_async.models import openai

KEY = "sk-THE-KEY-OF-THE-CALLER"
OTHER = "THE-OTHER-SECRET"


def endpoint(provider: AIModelAPIProviderEnum, model: AIModel, key: str | None = KEY) -> AIModelEndpoint:
    api = AIModelAPI(
        provider=provider,
        api_key=None if key is None else SecretStr(key),
        headers={"X-Proxy-Key": OTHER, "User-Agent": "ours"},
    )
    return AIModelEndpoint(api=api, ai_model=model)


@pytest.mark.parametrize(
    ("provider", "model", "header"),
    [
        (AIModelAPIProviderEnum.OPEN_AI, openai.GPT6Luna, "authorization"),
        (AIModelAPIProviderEnum.ANTHROPIC, AIModel(model_name="claude-sonnet-5-5"), "x-api-key"),
        (AIModelAPIProviderEnum.GOOGLE_AI, AIModel(model_name="gemini-3.8-flash"), "x-goog-api-key"),
    ],
)
async def test_a_preview_has_no_secret(provider: AIModelAPIProviderEnum, model: AIModel, header: str) -> None:
    config = AIModelCallConfig(
        extra_headers={"x-more": OTHER},
        extra_body={"data_sources": [{"api_key": OTHER, "name": "kept"}], "auth": {"token": [OTHER]}},
    )
    manager = ConversationManager()
    conversation = await manager.create()
    picture = FilePart.from_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 1000)
    made = manager.preview(conversation, endpoint(provider, model), query="Why?", files=[picture], config=config)
    told = repr(made) + made.url + repr(made.headers) + made.body
    assert KEY not in told
    assert OTHER not in told
    assert (made.method, made.headers[header], made.headers["user-agent"]) == ("POST", "***", "ours")
    body = orjson.loads(made.body)
    assert body["data_sources"] == [{"api_key": "***", "name": "kept"}]
    assert "(1008 bytes of image/png)" in made.body
    assert "Why?" in made.body


async def test_the_token_of_a_hosted_server_is_masked() -> None:
    tool = HostedTool(
        type="mcp", options={"server_label": "x", "server_url": "https://x.example", "authorization": KEY}
    )
    config = AIModelCallConfig(tools=[tool])
    manager = ConversationManager()
    model = endpoint(AIModelAPIProviderEnum.OPEN_AI, openai.GPT6Luna, "sk-" + "y" * 20)
    made = manager.preview(await manager.create(), model, query="Why?", config=config)
    assert "x.example" in made.body
    assert KEY not in made.body


async def test_nothing_to_ask_and_no_key_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    manager = ConversationManager()
    conversation = await manager.create()
    with pytest.raises(ConfigurationError, match="nothing to ask"):
        manager.preview(conversation, endpoint(AIModelAPIProviderEnum.OPEN_AI, openai.GPT6Luna))
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        manager.preview(conversation, endpoint(AIModelAPIProviderEnum.OPEN_AI, openai.GPT6Luna, None), query="Why?")
