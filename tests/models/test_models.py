"""The named models, what is told of those that are gone, and what an id says of its model."""

import re
import warnings
from datetime import date, timedelta

import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Capabilities,
    ConversationManager,
)
from dhenara_async.models import anthropic, cerebras, deepseek, google, groq, mistral, openai, xai
from dhenara_async.models.families import capabilities
from dhenara_async.testing import ReplayTransport

_Provider = AIModelAPIProviderEnum
_MAKERS = {
    _Provider.ANTHROPIC: anthropic,
    _Provider.OPEN_AI: openai,
    _Provider.GOOGLE_AI: google,
    _Provider.DEEPSEEK: deepseek,
    _Provider.MISTRAL: mistral,
    _Provider.XAI: xai,
    _Provider.GROQ: groq,
    _Provider.CEREBRAS: cerebras,
}
_WINDOW_NOT_TOLD = {"gemini-4-carbon", "gemini-4-hydrogen", "gemini-3-pro-image", "gemini-3.1-flash-image"}
_CONSTANTS = [
    (name, value, maker)
    for maker, module in _MAKERS.items()
    for name, value in vars(module).items()
    if isinstance(value, AIModel)
]
_SEED = {
    "Claude37Sonnet": "claude-3-7-sonnet-20250219",
    "Claude35Haiku": "claude-3-5-haiku-20241022",
    "O3Mini": "o3-mini",
    "GPT4oMini": "gpt-4o-mini",
    "Gemini20Flash": "gemini-2.0-flash",
    "Gemini20FlashLite": "gemini-2.0-flash-lite",
}
_STREAM = b"""event: message_start
data: {"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":1,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"hi"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}

event: message_stop
data: {"type":"message_stop"}

"""
_STREAMING = AIModelCallConfig(streaming=True)


def test_seed_models_exist() -> None:
    named = {name: model.model_name for name, model, _maker in _CONSTANTS}
    assert _SEED.items() <= named.items()


@pytest.mark.parametrize(("name", "model", "maker"), _CONSTANTS, ids=[name for name, _model, _maker in _CONSTANTS])
def test_constant_is_complete(name: str, model: AIModel, maker: AIModelAPIProviderEnum) -> None:
    assert model.provider is maker
    assert model.display_name
    assert (model.context_window is None) == (model.model_name in _WINDOW_NOT_TOLD)
    assert (model.retired_on is None) == (model.replacement is None)
    # Named for what it is called, so that nobody has to look it up.
    letters = re.sub(r"[^a-z0-9]", "", model.display_name.lower())
    assert sorted(letters) == sorted(name.lower())


def test_ids_are_named_once() -> None:
    ids = [(model.provider, model.model_name) for _name, model, _maker in _CONSTANTS]
    assert len(ids) == len(set(ids))


def test_replacements_are_alive() -> None:
    alive = {model.model_name for _name, model, _maker in _CONSTANTS if model.retired_on is None}
    assert {model.replacement for _name, model, _maker in _CONSTANTS if model.retired_on} <= alive


def _endpoint(model: AIModel, *, base_url: str | None = None) -> AIModelEndpoint:
    api = AIModelAPI(provider=_Provider.ANTHROPIC, api_key="a key of no use", base_url=base_url)
    return AIModelEndpoint(api=api, ai_model=model)


def _transport() -> ReplayTransport:
    return ReplayTransport(_STREAM, headers={"content-type": "text/event-stream"})


async def test_retired_model_warns_at_its_makers_host() -> None:
    client = AIModelClient(_endpoint(anthropic.Claude37Sonnet), _STREAMING, transport=_transport())
    with pytest.warns(UserWarning, match="claude-3-7-sonnet-20250219 was retired .*; use claude-sonnet-5-5") as caught:
        response = await client.generate("hi")
    (warned,) = caught
    assert warned.filename == __file__
    (warning,) = response.warnings
    assert (warning.code, warning.knob, warning.message) == ("model_retired", "ai_model", str(warned.message))


async def test_retired_model_warns_once_for_each_place() -> None:
    """By Python's own rule, which counts places: so the place has to be the user's, whichever way the call is made."""
    endpoint, transport = _endpoint(anthropic.Claude35Haiku), _transport()
    client = AIModelClient(endpoint, _STREAMING, transport=transport)
    manager = ConversationManager(transport=transport)
    conversation = await manager.create()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            await client.generate("hi")
            async with client.stream("hi") as stream:
                await stream.collect()
            await manager.ask(conversation, "hi", endpoint)
            async with manager.turn(conversation, "hi", endpoint) as turn:
                await turn.collect()
    assert len(transport.requests) == 12
    assert [warned.filename for warned in caught] == [__file__] * 4
    assert len({warned.lineno for warned in caught}) == 4


@pytest.mark.parametrize(
    ("model", "base_url"),
    [
        pytest.param(anthropic.Claude37Sonnet, "http://gateway.test", id="another host has a calendar of its own"),
        pytest.param(anthropic.ClaudeSonnet55, None, id="not retired"),
        pytest.param(
            anthropic.Claude37Sonnet.model_copy(update={"retired_on": date.today() + timedelta(days=2)}),
            None,
            id="not yet",
        ),
        pytest.param(openai.O3Mini, None, id="another maker's"),
        pytest.param(AIModel(model_name="claude-3-7-sonnet-20250219"), None, id="nothing known of it"),
    ],
)
async def test_nothing_to_warn_of(model: AIModel, base_url: str | None) -> None:
    """Warnings are errors in this suite: one would end the call."""
    client = AIModelClient(_endpoint(model, base_url=base_url), _STREAMING, transport=_transport())
    assert (await client.generate("hi")).warnings == ()


async def test_rehearsal_of_a_retired_model_is_quiet() -> None:
    client = AIModelClient(_endpoint(anthropic.Claude37Sonnet), AIModelCallConfig(test_mode=True))
    assert (await client.generate("hi")).warnings == ()


def test_a_model_may_speak_for_itself() -> None:
    own = Capabilities(sampling=True, prefill=False)
    assert capabilities(AIModel(model_name="claude-sonnet-5-5", capabilities=own)) is own
