"""What a node tells of its turn: when it was asked, when its first word came, when it ended, and under which knobs."""

from datetime import datetime

import orjson
import pytest
from pydantic import BaseModel

from dhenara_async import (
    AIModelCallConfig,
    ConversationManager,
    ConversationNode,
    Dialect,
    HostedTool,
    McpServer,
    ToolPolicy,
)
from dhenara_async.errors import OverloadedError
from dhenara_async.testing import Answer, ProviderServer, ScriptedError, ScriptedToolCall
from tests.loopback import NO_RETRIES, endpoint_at

# A node as it was stored before nodes had times, knobs, traces and loops; its fields are in their old order.
OLD = (
    '{"id":"a","parent_id":null,"user_query":"Hi","attached_files":[],"tool_results":[],"instructions":[],'
    '"response":null,"timestamp":"2026-11-22T10:00:00+00:00","origin":null,"status":"complete","error":null,'
    '"request_id":null,"attempts":1,"tries":[],"plan":[],"seams":[],"warnings":[],'
    '"conversion":{"entries":[],"parts":[],"counted":{}},"cost":null,"charge":null,"prefix":null,"signature":null}'
)


def test_nodes_of_earlier_versions_come_back_byte_for_byte() -> None:
    old = ConversationNode.model_validate_json(OLD)
    assert (old.asked_at, old.first_word_at, old.knobs, old.loop_id) == (None, None, None, None)
    assert old.model_dump_json() == OLD
    assert ConversationNode.model_validate_json(OLD).model_dump(mode="json") == orjson.loads(OLD)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_turn_says_when_it_was_asked_answered_and_over(*, streaming: bool) -> None:
    async with ProviderServer([Answer(text="One. Two.")] * 2) as server, ConversationManager() as manager:
        conversation = await manager.create()
        for dialect in (Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES):
            config = AIModelCallConfig(streaming=streaming, temperature=0.5)
            node = await manager.ask(conversation, "Count!", endpoint_at(server, dialect), config=config)
            assert node.asked_at is not None
            assert node.first_word_at is not None
            asked, began, over = map(datetime.fromisoformat, (node.asked_at, node.first_word_at, node.timestamp))
            assert asked.tzinfo is not None
            assert asked <= began <= over
            assert node.knobs == ({"temperature": 0.5, "streaming": True} if streaming else {"temperature": 0.5})
            assert ConversationNode.model_validate_json(node.model_dump_json()) == node


async def test_a_turn_of_which_nothing_came_has_no_first_word() -> None:
    async with ProviderServer([ScriptedError(529, "busy")] * 2) as server, ConversationManager() as manager:
        conversation, who = await manager.create(), endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        with pytest.raises(OverloadedError):
            await manager.ask(conversation, "Count!", who, config=AIModelCallConfig(retries=NO_RETRIES))
        (failed,) = await manager.fan_out(conversation, "Count!", [who], config=AIModelCallConfig(retries=NO_RETRIES))
        for node in (conversation.nodes[0], failed):
            assert (node.status, node.first_word_at) == ("failed", None)
            assert node.asked_at is not None
            assert node.knobs == {"retries": {"attempts": 1}}


async def test_every_turn_of_a_loop_says_when_it_was_asked() -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"Sunny in {city}."

    call = Answer(tool_calls=(ScriptedToolCall(call_id="call_1", name="weather", arguments='{"city":"Rome"}'),))
    async with ProviderServer([call, Answer(text="Sunny.")]) as server, ConversationManager() as manager:
        who, config = endpoint_at(server, Dialect.OPENAI_CHAT), AIModelCallConfig(tools=[weather], seed=7)
        conversation = await manager.create()
        turn = manager.turn(conversation, "Weather?", who, config=config, run_tools=ToolPolicy())
        await turn
        first, second = turn.nodes
        assert first.knobs == second.knobs == {"seed": 7, "tools": ["weather"]}
        assert first.asked_at is not None
        assert second.asked_at is not None
        assert first.timestamp <= second.asked_at <= (second.first_word_at or "")


class Report(BaseModel):
    """A structured output."""

    words: int


def test_knobs_have_no_secrets() -> None:
    secret = "Rumpelstilzchen"
    config = AIModelCallConfig(
        extra_headers={"Authorization": secret, "x-team": secret},
        extra_body={"provider": {"key": secret}},
        metadata={"customer": secret},
        user_id=secret,
        tools=[
            HostedTool(type="web_search", options={"key": secret}),
            McpServer.http(f"https://a.test/{secret}", name="a"),
        ],
        structured_output=Report,
        stop="END",
        top_p=0,
    )
    knobs = config.knobs()
    assert secret not in str(knobs)
    assert knobs == {
        "top_p": 0.0,
        "stop": ["END"],
        "tools": ["web_search", "a"],
        "structured_output": "Report",
        "metadata": ["customer"],
        "extra_body": ["provider"],
        "extra_headers": ["Authorization", "x-team"],
    }
    assert AIModelCallConfig().knobs() == AIModelCallConfig(structured_output=None, tools=[]).knobs() == {}
    assert AIModelCallConfig(structured_output={"type": "object"}).knobs() == {"structured_output": "schema"}
