"""Answers that a provider cuts go on by themselves in a tool loop, as their provider means it."""

from typing import cast

import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    ConversationManager,
    ConversationNode,
    Dialect,
    FinishReason,
    HostedTool,
    ToolPolicy,
)
from dhenara_async.testing import Answer, ProviderServer
from tests.loops.tools import endpoint_of

SEARCH = AIModelCallConfig(tools=[HostedTool(type="web_search")])


def cut(text: str = "", *searches: str) -> Answer:
    return Answer(text=text, web_searches=searches, finish_reason=FinishReason.PAUSE)


def messages_of(body: object, key: str) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", cast("dict[str, object]", body)[key])


async def test_anthropic_gets_the_cut_answer_back_as_it_stands() -> None:
    script = [cut("", "robots"), cut("", "more robots"), Answer(text="They paint."), Answer(text="Yes.")]
    async with ProviderServer(script) as server, ConversationManager(config=SEARCH) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, Dialect.ANTHROPIC_MESSAGES)
        turn = manager.turn(conversation, "What do robots do?", endpoint, run_tools=ToolPolicy())
        node = await turn
        assert node.answer.text() == "They paint."
        assert [each.user_query for each in turn.nodes] == ["What do robots do?", "", ""]
        await manager.ask(conversation, "Really?", endpoint)
        assert [seen.error for seen in server.requests] == [None] * 4
        sent = [messages_of(seen.json, "messages") for seen in server.requests]
    assert [message["role"] for message in sent[1]] == ["user", "assistant"]
    assert sent[1][:1] == sent[0]
    blocks = cast("list[dict[str, object]]", sent[1][1]["content"])
    assert [block["type"] for block in blocks] == ["server_tool_use", "web_search_tool_result"]
    assert [message["role"] for message in sent[3]] == ["user", "assistant", "user"]


async def test_gemini_gets_the_same_request_with_the_token() -> None:
    script = [cut("Once "), cut("upon a "), Answer(text="time."), Answer(text="The end.")]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, Dialect.GEMINI)
        turn = manager.turn(conversation, "Tell a story.", endpoint, run_tools=ToolPolicy())
        await turn
        await manager.ask(conversation, "And then?", endpoint)
        assert [seen.error for seen in server.requests] == [None] * 4
        bodies = [cast("dict[str, object]", seen.json) for seen in server.requests]
    assert [body.get("continuationToken") for body in bodies] == [None, "dG9rZW4tMQ==", "dG9rZW4tMg==", None]
    assert bodies[0]["contents"] == bodies[1]["contents"] == bodies[2]["contents"]
    told = [part.get_text() for node in turn.nodes for part in node.answer.choices[0].contents]
    assert "".join(told) == "Once upon a time."
    assert [seen.turns for seen in server.requests][3] == (
        ("user", "Tell a story."),
        ("assistant", "Once upon a time."),
        ("user", "And then?"),
    )
    again = ConversationNode.model_validate_json(turn.nodes[0].model_dump_json())
    assert again == turn.nodes[0]  # the token is on the node


async def test_the_response_of_a_call_is_the_whole_answer() -> None:
    script = [cut('{"name": '), cut('"Ada", '), Answer(text='"born": 1815}')]
    config = AIModelCallConfig(structured_output={"type": "object"})
    async with ProviderServer(script) as server:
        client = AIModelClient(endpoint_of(server, Dialect.GEMINI), config)
        response = await client.generate("Who?", run_tools=ToolPolicy())
        assert [seen.error for seen in server.requests] == [None] * 3
    assert response.text() == '{"name": "Ada", "born": 1815}'
    assert response.structured() == {"name": "Ada", "born": 1815}
    assert response.chat_response.finish_reason is FinishReason.STOP
    assert (response.attempts, len(response.tries)) == (3, 3)
    assert response.chat_response.usage.input_tokens == 3  # each request is billed


async def test_another_model_is_asked_to_go_on_where_it_cannot_know() -> None:
    script = [cut("Once "), Answer(text="upon a time.")]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        conversation = await manager.create()
        await manager.ask(conversation, "Tell a story.", endpoint_of(server, Dialect.GEMINI))
        other = endpoint_of(server, Dialect.OPENAI_RESPONSES)
        draft = manager.turn(conversation, "Go on.", other)
        await draft
        assert [seen.error for seen in server.requests] == [None] * 2


@pytest.mark.parametrize("dialect", [Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI])
async def test_an_answer_that_is_cut_again_and_again_ends_at_the_limit(dialect: Dialect) -> None:
    answer = cut("", "robots") if dialect is Dialect.ANTHROPIC_MESSAGES else cut("more ")
    async with ProviderServer([answer] * 3) as server, ConversationManager(config=SEARCH) as manager:
        turn = manager.turn(
            await manager.create(), "Go on.", endpoint_of(server, dialect), run_tools=ToolPolicy(max_steps=3)
        )
        node = await turn
        assert (turn.outcome, len(turn.nodes)) == ("limit", 3)
        assert [warning.code for warning in node.warnings if warning.knob == "run_tools"] == ["tool_limit"]
