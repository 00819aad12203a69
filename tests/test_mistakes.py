"""Twenty mistakes of a first hour: each is an error of this library, and one sentence says what to write instead."""

import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from dhenara_async import (
    AIModelAPI,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Failover,
    Message,
    fan_out,
)
from dhenara_async.errors import AuthenticationError, ConfigurationError, DhenaraError, NotFoundError, StreamStateError
from dhenara_async.hosts.table import HOSTS
from dhenara_async.testing import ProviderServer, ScriptedError
from tests.readme.blocks import section

NAME = "anthropic:claude-sonnet-5-5"
KEY = "sk-a-secret-that-no-error-shows"


def wrong(value: object) -> Any:
    """Pass a value of a type that the argument does not have."""
    return value


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """Stand-ins that the usual variables lead to."""
    async with ProviderServer() as server:
        for provider in ("anthropic", "openai"):
            monkeypatch.setenv(HOSTS[provider].base_url_variables[0], server.base_url(provider))
            monkeypatch.setenv(HOSTS[provider].key_variables[0], KEY)
        yield server


Doing = Callable[[AIModelClient, ConversationManager], Awaitable[object]]


async def _text_as_prompt_list(client: AIModelClient, _: ConversationManager) -> object:
    return await client.generate(wrong(["What is this?"]))


async def _dict_as_config(client: AIModelClient, _: ConversationManager) -> object:
    return await client.generate("Hi.", config=wrong({"max_output_tokens": 10}))


async def _text_as_instructions(client: AIModelClient, _: ConversationManager) -> object:
    return await client.generate("Hi.", instructions="Be brief.")


async def _text_as_context(client: AIModelClient, _: ConversationManager) -> object:
    return await client.generate("Hi.", context="Before.")


async def _one_message_as_messages(client: AIModelClient, _: ConversationManager) -> object:
    return await client.generate(messages=wrong(Message.user("Hi.")))


async def _unknown_shape(client: AIModelClient, _: ConversationManager) -> object:
    return await client.generate(messages=[{"role": "model", "content": "Hi."}])


async def _id_as_conversation(_: AIModelClient, manager: ConversationManager) -> object:
    conversation = await manager.create()
    return await manager.ask(wrong(conversation.id), "Hi.", NAME)


async def _forgotten_await(_: AIModelClient, manager: ConversationManager) -> object:
    return await manager.ask(wrong(manager.create()), "Hi.", NAME)


async def _turn_without_a_block(_: AIModelClient, manager: ConversationManager) -> object:
    return [event async for event in manager.turn(await manager.create(), "Hi.", NAME)]


async def _unknown_turn(_: AIModelClient, manager: ConversationManager) -> object:
    return await manager.regenerate(await manager.create(), "an id", NAME)


async def _stream_without_a_block(client: AIModelClient, _: ConversationManager) -> object:
    return [event async for event in client.stream("Hi.")]


async def _awaited_stream(client: AIModelClient, _: ConversationManager) -> object:
    return await client.stream("Hi.")


async def _swapped_arguments(_: AIModelClient, manager: ConversationManager) -> object:
    return await manager.ask(await manager.create(), wrong(AIModelEndpoint.of(NAME)), "Hi.")


async def _targets_one_by_one(_client: AIModelClient, _manager: ConversationManager) -> object:
    return Failover(wrong(NAME), wrong("openai:gpt-6.2-sol"))


async def _misspelt_option(_client: AIModelClient, _manager: ConversationManager) -> object:
    return AIModelCallConfig(**wrong({"max_tokens": 10}))


async def _option_out_of_range(_client: AIModelClient, _manager: ConversationManager) -> object:
    return AIModelCallConfig(temperature=-1)


async def _misspelt_provider(_client: AIModelClient, _manager: ConversationManager) -> object:
    return AIModelClient("antropic:claude-sonnet-5-5")


async def _one_endpoint_for_many(_: AIModelClient, manager: ConversationManager) -> object:
    return await manager.fan_out(await manager.create(), "Hi.", wrong(NAME))


async def _one_file(_: AIModelClient, manager: ConversationManager) -> object:
    return await manager.ask(await manager.create(), "Hi.", NAME, files="https://example.test/a.png")


async def _request_that_is_no_pair(_client: AIModelClient, _manager: ConversationManager) -> object:
    return (await fan_out(wrong(["Hi."])))[0].unwrap()


MISTAKES: list[tuple[Doing, type[DhenaraError], str]] = [
    (_text_as_prompt_list, ConfigurationError, "write messages=[…] for a conversation, or ['…', file]"),
    (_dict_as_config, ConfigurationError, "write AIModelCallConfig(max_output_tokens=…)"),
    (_text_as_instructions, ConfigurationError, "write instructions=['…']"),
    (_text_as_context, ConfigurationError, "write context=[…]"),
    (_one_message_as_messages, ConfigurationError, "pass a single question as prompt"),
    (_unknown_shape, ConfigurationError, "message 0: the role of a message is user, assistant, system"),
    (_id_as_conversation, ConfigurationError, "write await manager.open(id)"),
    (_forgotten_await, ConfigurationError, "write conversation = await manager.create()"),
    (_turn_without_a_block, StreamStateError, "async with manager.turn(…) as turn"),
    (_unknown_turn, ConfigurationError, "pass the id of one of conversation.nodes"),
    (_stream_without_a_block, StreamStateError, "async with client.stream(…) as stream"),
    (_awaited_stream, StreamStateError, "await client.generate(…) returns the whole answer"),
    (_swapped_arguments, ConfigurationError, "write manager.turn(conversation, 'text', endpoint)"),
    (_targets_one_by_one, ConfigurationError, "write Failover([first, second])"),
    (_misspelt_option, ConfigurationError, "there is no max_tokens (similar: max_output_tokens"),
    (_option_out_of_range, ConfigurationError, "temperature: input should be greater than or equal to 0"),
    (_misspelt_provider, ConfigurationError, "no provider is called 'antropic'; write provider:model, where"),
    (_one_endpoint_for_many, ConfigurationError, "write [endpoint]"),
    (_one_file, ConfigurationError, "write files=[…]"),
    (_request_that_is_no_pair, ConfigurationError, "a request is a ModelCall, (endpoint, prompt) or"),
]


@pytest.mark.parametrize(("do", "kind", "words"), MISTAKES, ids=[do.__name__[1:] for do, _, _ in MISTAKES])
async def test_a_mistake_is_told_in_one_sentence_before_anything_is_sent(
    do: Doing, kind: type[DhenaraError], words: str, server: ProviderServer
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as: a coroutine was never awaited
        async with AIModelClient(NAME) as client, ConversationManager() as manager:
            with pytest.raises(kind) as caught:
                await do(client, manager)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Hi." not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize("name", ["files", "instructions", "tool_results", "endpoints"])
async def test_one_value_for_a_sequence_is_told_by_name(name: str) -> None:
    """A form without a file, and a number for a text, are no sequences."""
    manager = ConversationManager()
    conversation = await manager.create()
    for value in (5, True) if name == "instructions" else (None, 5):
        with pytest.raises(ConfigurationError, match=f"{name} is a sequence"):
            if name == "endpoints":
                manager.fan_out(conversation, "Hi.", wrong(value))
            else:
                manager.turn(conversation, "Hi.", NAME, **wrong({name: value}))
    with pytest.raises(ConfigurationError, match="instructions is a sequence"):
        await manager.create(instructions=wrong(5))


def test_the_readme_has_every_mistake_with_its_message() -> None:
    rows = [row.split(" | ")[1].strip(" |") for row in section("Common mistakes").splitlines() if row.startswith("| ")]
    shown = [re.sub(r",? …\)?$", "", row.replace("`", "")) for row in rows[1:]]
    assert [words for _, _, words in MISTAKES if not any(row and row in words for row in shown)] == []
    assert len(shown) >= len(MISTAKES)


def test_a_wrong_option_has_pydantics_error_as_its_cause() -> None:
    with pytest.raises(ValueError, match="temperature") as caught:
        AIModelCallConfig(temperature=-1)
    assert isinstance(caught.value.__cause__, ValidationError)


async def test_what_can_be_understood_works(server: ProviderServer) -> None:
    config = AIModelCallConfig(stop="END", timeouts=30)
    assert (config.stop, config.timeouts.total) == (("END",), 30)
    said: list[Mapping[str, object]] = [{"role": "user", "content": "Hi."}]
    assert (await AIModelClient(NAME, config).generate(messages=said)).text()


@pytest.mark.parametrize(
    ("variable", "key", "source"),
    [
        ("ANTHROPIC_API_KEY", None, "the key came from the environment variable ANTHROPIC_API_KEY"),
        (None, KEY, "the key came from AIModelAPI(api_key=…)"),
    ],
)
async def test_a_wrong_key_is_told_with_its_source(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, key: str | None, source: str
) -> None:
    async with ProviderServer(api_key="another") as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url("anthropic"))
        if variable is None:
            monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        else:
            monkeypatch.setenv(variable, KEY)
        endpoint = AIModelEndpoint(
            api=AIModelAPI(provider="anthropic", api_key=key), ai_model=AIModelEndpoint.of(NAME).ai_model
        )
        with pytest.raises(AuthenticationError) as caught:
            await AIModelClient(endpoint).generate("Hi.")
    assert str(caught.value).endswith(source)
    assert KEY not in str(caught.value)


async def test_no_key_for_a_host_that_wants_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="set ANTHROPIC_API_KEY"):
        await AIModelClient(NAME).generate("Hi.")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    async with ProviderServer([ScriptedError(401, "who are you?")]) as server:
        api = AIModelAPI(provider="vllm", base_url=server.base_url("vllm"))
        with pytest.raises(AuthenticationError, match=r"no key was sent; pass AIModelAPI.* or set VLLM_API_KEY"):
            await AIModelClient(AIModelEndpoint(api=api, ai_model=AIModelEndpoint.of("vllm:m").ai_model)).generate(
                "Hi."
            )


@pytest.mark.parametrize(
    ("name", "more", "hint"),
    [
        (
            "openai:m",
            "",
            "from AIModelAPI(base_url=…), has no path; for this dialect it usually ends in /v1",
        ),
        ("groq:m", "/", "it usually ends in /v1"),
        ("anthropic:m", "/v1", "ends in /v1; leave that out, it is added to each request"),
        ("gemini:m", "/v1beta", "ends in /v1beta; leave that out"),
    ],
)
async def test_a_base_url_with_a_wrong_end_is_told_with_a_404(name: str, more: str, hint: str) -> None:
    async with ProviderServer([ScriptedError(404, "no such path")] * 2) as server:
        named = AIModelEndpoint.of(name)
        api = AIModelAPI(provider=named.api.provider, api_key=KEY, base_url=server.url + more)
        with pytest.raises(NotFoundError) as caught:
            await AIModelClient(AIModelEndpoint(api=api, ai_model=named.ai_model)).generate("Hi.")
        assert hint in str(caught.value)
        right = AIModelEndpoint(api=server.api(named.api.provider), ai_model=named.ai_model)
        if named.api.provider != "openai":
            with pytest.raises(NotFoundError) as caught:
                await AIModelClient(right).generate("Hi.")
            assert "base URL" not in str(caught.value)
