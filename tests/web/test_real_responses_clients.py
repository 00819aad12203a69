"""The Responses API of our front, read by the AI SDK's provider and by OpenAI's own client for JavaScript."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dhenara_async import Dialect
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.testing.script import ScriptedToolCall
from tests.loopback import endpoint_at
from tests.web import node_clients
from tests.web.openai_clients import front

# what a provider of each dialect wants back with its reasoning; Chat Completions has no such thing
STATES = {
    Dialect.OPENAI_CHAT: b"",
    Dialect.OPENAI_RESPONSES: b'"encrypted_content":',
    Dialect.ANTHROPIC_MESSAGES: b'"signature":',
    Dialect.GEMINI: b'"thoughtSignature":',
}
CALL = Answer(
    text="One moment.", reasoning="Let me add.", tool_calls=(ScriptedToolCall("call_1", "add", '{"a":1,"b":2}'),)
)
TALK = [CALL, Answer(text=" It is 3.", reasoning=" Done."), Answer(text="Yes.")]


@pytest.fixture(scope="session")
def node_home() -> Path:
    return node_clients.installed()


async def test_two_clients_talk_with_every_dialect(node_home: Path) -> None:
    """Items are sent back as references, as reasoning and words, or by the id of the response before."""
    async with AsyncExitStack() as stack:
        providers = {dialect: await stack.enter_async_context(ProviderServer(TALK * 3)) for dialect in STATES}
        broken = await stack.enter_async_context(
            ProviderServer([Fault(answer=Answer(text="one two three"), terminal="missing")] * 3)
        )
        models = {dialect.value: endpoint_at(provider, dialect) for dialect, provider in providers.items()}
        broken_model = endpoint_at(broken, Dialect.ANTHROPIC_MESSAGES)
        url, _ = await stack.enter_async_context(front({**models, "broken": broken_model}))
        plan = {"url": url, "models": [*models], "broken": "broken"}
        results = await node_clients.run("responses.mjs", node_home, plan)
    for shown in results.pop("broken"):
        assert shown["errors"]
    expected = {"texts": ["One moment. It is 3.", "Yes."], "reasoning": "Let me add. Done.", "errors": []}
    assert results == {model: [expected] * 3 for model in models}
    for dialect, provider in providers.items():
        bodies = [request.body for request in provider.requests]
        assert len(bodies) == 9
        for first in (0, 3, 6):
            assert [body.count(b'"call_1"') > 0 for body in bodies[first : first + 3]] == [False, True, True], dialect
            assert [body.count(STATES[dialect]) > 0 for body in bodies[first + 1 : first + 3]] == [True, True], dialect
