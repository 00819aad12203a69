"""Short names of endpoints: which provider and model they mean, and every place that takes them."""

from collections.abc import AsyncIterator

import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Experiment,
    Failover,
    Host,
    ModelCall,
    Race,
    Router,
    as_completed,
    fan_out,
    first_of,
    gather,
    register_host,
)
from dhenara_async.cli.endpoints import endpoint_of
from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.names import meaning
from dhenara_async.hosts.table import HOSTS
from dhenara_async.models.anthropic import ClaudeSonnet55
from dhenara_async.models.groq import GPTOSS120B
from dhenara_async.models.openai import GPT62Sol
from dhenara_async.testing import ProviderServer

CLAUDE = "anthropic:claude-sonnet-5-5"
GPT = "openai/gpt-6.2-sol"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """Stand-ins, found and paid by the usual variables, as a name finds the real providers."""
    async with ProviderServer() as server:
        for provider in (AIModelAPIProviderEnum.ANTHROPIC, AIModelAPIProviderEnum.OPEN_AI):
            monkeypatch.setenv(HOSTS[provider].base_url_variables[0], server.base_url(provider))
            monkeypatch.setenv(HOSTS[provider].key_variables[0], "a key of a stand-in")
        yield server


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        (CLAUDE, "anthropic", ClaudeSonnet55),
        ("anthropic/claude-sonnet-5-5", "anthropic", ClaudeSonnet55),
        (" Anthropic : claude-sonnet-5-5 ", "anthropic", ClaudeSonnet55),
        ("claude-sonnet-5-5", "anthropic", ClaudeSonnet55),
        (GPT, "openai", GPT62Sol),
        ("gpt-6.2-sol", "openai", GPT62Sol),
        ("ft:gpt-4o:acme::1", "openai", AIModel(model_name="ft:gpt-4o:acme::1")),
        ("openai:tomorrows-model", "openai", AIModel(model_name="tomorrows-model")),
        ("google:gemini-99", "google_ai", AIModel(model_name="gemini-99")),
        ("gemini:gemini-99", "google_ai", AIModel(model_name="gemini-99")),
        ("google_ai:gemini-99", "google_ai", AIModel(model_name="gemini-99")),
        ("gemini-99", "google_ai", AIModel(model_name="gemini-99")),
        ("groq:openai/gpt-oss-120b", "groq", GPTOSS120B),
        ("groq/openai/gpt-oss-120b", "groq", GPTOSS120B),
        ("ollama:llama3:8b", "ollama", AIModel(model_name="llama3:8b")),
        ("lm-studio:qwen", "lm_studio", AIModel(model_name="qwen")),
        ("openai_compatible:claude-sonnet-5-5", "openai_compatible", ClaudeSonnet55),
    ],
)
def test_a_name_means_a_provider_and_a_model(name: str, provider: str, model: AIModel) -> None:
    expected = AIModelEndpoint(api=AIModelAPI(provider=provider), ai_model=model)
    assert AIModelEndpoint.of(name) == expected
    assert endpoint_of(meaning(name), None) == expected  # the parser of the command line is the same
    assert AIModelEndpoint.of(name) is AIModelEndpoint.of(name)
    assert not AIModelEndpoint.of(name).api.from_data


def test_every_provider_has_its_own_value_as_a_name() -> None:
    assert [AIModelEndpoint.of(f"{name}:m").api.provider for name in AIModelAPIProviderEnum] == [
        *AIModelAPIProviderEnum
    ]


def test_a_registered_host_has_a_name_too() -> None:
    register_host("Short Names Inc", Host("http://127.0.0.1:9/v1", key_required=False))
    assert AIModelEndpoint.of("Short Names Inc:m").api.provider == "Short Names Inc"


def test_with_a_default_provider_only_a_colon_separates() -> None:
    default = AIModelAPIProviderEnum.VLLM
    assert meaning("openai/gpt-oss-20b", default=default).provider is default
    assert meaning("openai:gpt-oss-20b", default=default).provider is AIModelAPIProviderEnum.OPEN_AI


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("antropic:claude-sonnet-5-5", "no provider is called 'antropic'; .* may be anthropic"),
        ("gogle:gemini-99", "no provider is called 'gogle'; .*google"),
        ("zzz:model", "no provider is called 'zzz'; .* one of openai, anthropic"),
        ("llama3:8b", "no provider is called 'llama3'"),
        ("story-teller-9", "the provider of 'story-teller-9' is unknown; write provider:story-teller-9"),
        ("anthropic:", "names no model; write provider:model"),
        ("anthropic", "names no model"),
        ("", "names no model"),
    ],
)
def test_a_name_that_means_nothing_says_what_to_write(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AIModelEndpoint.of(name)


async def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="set ANTHROPIC_API_KEY"):
        await AIModelClient(CLAUDE).generate("Hi.")


async def test_clients_and_plans_take_names(server: ProviderServer) -> None:
    targets = (
        CLAUDE,
        Failover([CLAUDE, GPT]),
        Race([CLAUDE, GPT]),
        Router(lambda _messages, _config: "big", targets={"big": CLAUDE}),
        Router(lambda _messages, _config: CLAUDE),
        Router(strengths={"anything": CLAUDE}),
        Experiment({"a": (CLAUDE, 1), "b": (GPT, 0)}),
        Failover([Experiment({"a": CLAUDE})]),
    )
    for target in targets:
        async with AIModelClient(target) as client:
            assert (await client.generate("Hi.")).text()
    claude = AIModelEndpoint.of(CLAUDE)
    assert Failover([CLAUDE, GPT]).targets == (claude, AIModelEndpoint.of(GPT))
    assert Failover([CLAUDE]) == Failover([claude])
    assert AIModelClient(CLAUDE).model_endpoint == claude


async def test_a_fan_out_takes_names(server: ProviderServer) -> None:
    requests = [(CLAUDE, "Hi."), ModelCall(GPT, "Hi.")]
    assert [outcome.unwrap().endpoint.provider for outcome in await fan_out(requests)] == ["anthropic", "openai"]
    assert len(await gather(requests)) == len(await first_of(2, requests)) == 2
    async with as_completed(requests) as outcomes:
        assert {outcome.index async for outcome in outcomes if outcome.error is None} == {0, 1}


async def test_a_conversation_takes_names(server: ProviderServer) -> None:
    async with ConversationManager() as manager:
        await manager.warm_up([CLAUDE, GPT])
        conversation = await manager.create()
        async with manager.turn(conversation, "Hi.", CLAUDE) as turn:
            await turn.collect()
        await manager.ask(conversation, "Again.", GPT)
        assert manager.check(conversation, CLAUDE).fits
        nodes = await manager.fan_out(conversation, "Both.", [CLAUDE, GPT])
    assert [node.origin and node.origin.provider for node in (*conversation.path()[:2], *nodes)] == [
        *("anthropic", "openai", "anthropic", "openai"),
    ]
