"""OpenAI asks before it runs a call of a hosted MCP server: the decision, at once or later, and with another model."""

from pathlib import Path
from typing import cast

import pytest

from dhenara_async import (
    AIModelClient,
    ConversationManager,
    Dialect,
    HostedToolPart,
    Message,
    Pending,
    Role,
    StreamEvent,
    TextPart,
    Tool,
    ToolApprovalRequest,
    ToolCallPart,
    ToolEnd,
    ToolPolicy,
    ToolResultPart,
    ToolStart,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.testing import Answer, ProviderServer, SeenRequest, check_grammar
from tests.loops.approval_requests import ASKS, CONFIG, GOES_ON, REQUEST, Items, answer, script, told
from tests.loops.tools import SPEAKERS, endpoint_of

RESPONSES = Dialect.OPENAI_RESPONSES
OTHERS = [dialect for dialect in SPEAKERS if dialect is not RESPONSES]


def decisions_in(seen: SeenRequest) -> Items:
    """The items of the request from the one on that asks for approval."""
    given = cast("dict[str, Items]", seen.json)["input"]
    place = next(at for at, item in enumerate(given) if item.get("type") == "mcp_approval_request")
    return given[place:]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_request_waits_in_the_store_and_is_approved_by_another_manager(tmp_path: Path, streaming: bool) -> None:
    config = CONFIG.changed(streaming=streaming)
    async with ProviderServer(script(ASKS, GOES_ON)) as server:
        endpoint = endpoint_of(server, RESPONSES)
        async with ConversationManager(store=tmp_path / "chat.db", config=config) as manager:
            conversation = await manager.create()
            async with manager.turn(conversation, "Roll.", endpoint, run_tools=ToolPolicy()) as turn:
                events: list[StreamEvent] = [event async for event in turn]
            check_grammar(events)
            (asked,) = [event.call for event in events if isinstance(event, ToolApprovalRequest)]
            assert (asked.call_id, asked.name, asked.arguments) == ("mcpr_1", "dice__roll", '{"sides":6}')
            assert asked.hosted
            assert turn.outcome == "pending"
            assert turn.node.answer.approvals() == (asked,)
            assert turn.node.answer.tools() == ()
        async with ConversationManager(store=tmp_path / "chat.db", config=config) as other:
            opened = await other.open(conversation.id)
            assert opened.path()[-1].answer.approvals() == (asked,)
            with pytest.raises(ConfigurationError, match="the calls of the head: mcpr_1"):
                await other.resume(opened, {"mcpr_2": True}, endpoint)
            async with other.resume(opened, {"mcpr_1": True}, endpoint) as more:
                resumed = [event async for event in more]
            check_grammar(resumed)
            assert [type(event) for event in resumed[:2]] == [ToolStart, ToolEnd]
            node = more.node
            assert node.answer.text() == "A four."
            (ran,) = [part for part in node.answer.choices[0].parts if isinstance(part, HostedToolPart)]
            assert (ran.name, ran.output) == ("mcp_call", "4")
            assert node.loop_id == turn.node.loop_id
            assert await other.resume(opened, {"mcpr_1": True}, endpoint) == node
        assert [seen.error for seen in server.requests] == [None, None]
        decision = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
        assert decisions_in(server.requests[-1]) == [REQUEST, decision]


@pytest.mark.parametrize("decided", [True, False, "too risky"])
async def test_an_approve_function_decides_at_once(decided: bool | str) -> None:
    seen_calls: list[ToolCallPart] = []

    def approve(call: ToolCallPart) -> bool | str:
        seen_calls.append(call)
        return decided

    said = answer(told("No.")) if decided is not True else GOES_ON
    async with ProviderServer(script(ASKS, said)) as server:
        client = AIModelClient(endpoint_of(server, RESPONSES), CONFIG)
        response = await client.generate("Roll.", run_tools=ToolPolicy(approve=approve))
        assert response.conversion is not None
        assert response.conversion.entries == ()  # the decision is all there, as the provider takes it
        (call,) = seen_calls
        assert (call.name, call.parsed(), call.hosted) == ("dice__roll", {"sides": 6}, True)
        decision = decisions_in(server.requests[-1])[1]
        assert decision["approve"] is (decided is True)
        reason = {True: None, False: "the user did not allow this call"}
        expected = reason[decided] if isinstance(decided, bool) else "the user did not allow this call: too risky"
        assert decision.get("reason") == expected


async def test_a_turn_without_a_policy_leaves_the_request_to_resume() -> None:
    async with ProviderServer(script(ASKS, GOES_ON)) as server, ConversationManager(config=CONFIG) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, RESPONSES)
        node = await manager.ask(conversation, "Roll.", endpoint)
        (call,) = node.answer.approvals()
        last = await manager.resume(conversation, {call.call_id: True}, endpoint)
        assert last.answer.text() == "A four."


async def test_a_request_that_nobody_decided_about_is_not_approved() -> None:
    async with ProviderServer(script(ASKS, answer(told("As you like.")))) as server:
        async with ConversationManager(config=CONFIG) as manager:
            conversation, endpoint = await manager.create(), endpoint_of(server, RESPONSES)
            await manager.ask(conversation, "Roll.", endpoint)
            node = await manager.ask(conversation, "Never mind.", endpoint)
        (request, decision, question) = decisions_in(server.requests[-1])
        assert (request, decision["approve"], question["role"]) == (REQUEST, False, "user")
        assert node.conversion is not None
        assert [entry.code for entry in node.conversion.entries] == ["tool_result_synthesized"]


@pytest.mark.parametrize("dialect", OTHERS)
async def test_another_model_is_told_of_the_request_and_of_the_decision_in_words(dialect: Dialect) -> None:
    async with ProviderServer(script(ASKS, Answer(text="I cannot roll."))) as server:
        async with ConversationManager(config=CONFIG) as manager:
            conversation = await manager.create()
            await manager.ask(conversation, "Roll.", endpoint_of(server, RESPONSES), run_tools=ToolPolicy())
            node = await manager.resume(conversation, {"mcpr_1": True}, endpoint_of(server, dialect))
        last = server.requests[-1]
        assert last.error is None
        words = "\n".join(text for _, text in last.turns)
        assert 'asked for approval to run "dice__roll({"sides":6})"' in words
        assert "[result of dice__roll: the user allowed this call]" in words
        assert node.conversion is not None
        codes = [entry.code for entry in node.conversion.entries]
        assert "hosted_tool_summarized" in codes
        assert "tool_result_as_text" in codes


@pytest.mark.parametrize("dialect", OTHERS)
async def test_another_model_goes_on_while_a_request_waits(dialect: Dialect) -> None:
    async with ProviderServer(script(ASKS, Answer(text="Yes?"), GOES_ON)) as server:
        async with ConversationManager(config=CONFIG) as manager:
            conversation, home = await manager.create(), endpoint_of(server, RESPONSES)
            waiting = await manager.ask(conversation, "Roll.", home, run_tools=ToolPolicy())
            await manager.ask(conversation, "Wait.", endpoint_of(server, dialect))
            with pytest.raises(ConfigurationError, match="checkout"):
                await manager.resume(conversation, {"mcpr_1": True}, home)
            await manager.checkout(conversation, waiting.id)
            node = await manager.resume(conversation, {"mcpr_1": True}, home)
        assert node.answer.text() == "A four."
        assert [seen.error for seen in server.requests] == [None] * 3


async def test_functions_and_requests_of_one_answer_are_decided_apart() -> None:
    painted: list[str] = []

    def paint(colour: str) -> str:
        """Paint something."""
        painted.append(colour)
        return f"It is {colour}."

    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "paint"}
    asks = answer(REQUEST, {**REQUEST, "id": "mcpr_2"}, {**call, "arguments": '{"colour": "red"}'})
    config = CONFIG.changed(tools=(*CONFIG.tools, Tool.from_function(paint)))
    decided = {"mcpr_1": True, "call_1": True}
    async with ProviderServer(script(asks, GOES_ON)) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, RESPONSES)
        policy = ToolPolicy(approve=lambda call: decided.get(call.call_id, Pending))
        turn = manager.turn(conversation, "Roll and paint.", endpoint, run_tools=policy)
        node = await turn
        assert (turn.outcome, painted) == ("pending", ["red"])
        assert '- `dice__roll({"sides":6})` needs approval' in conversation.to_markdown()
        last = await manager.resume(conversation, {"mcpr_2": False}, endpoint)
        assert (last.parent_id, painted) == (node.id, ["red"])
    sent = decisions_in(server.requests[-1])
    assert server.requests[-1].error is None
    assert [(item["type"], item.get("approve")) for item in sent] == [
        ("mcp_approval_request", None),
        ("mcp_approval_request", None),
        ("function_call", None),
        ("mcp_approval_response", True),
        ("mcp_approval_response", False),
        ("function_call_output", None),
    ]


@pytest.mark.parametrize("denied", [False, True])
async def test_a_result_made_by_the_caller_is_the_decision(denied: bool) -> None:
    async with ProviderServer(script(ASKS, answer(told("So be it.")))) as server:
        client = AIModelClient(endpoint_of(server, RESPONSES), CONFIG)
        question = Message.user("Roll.")
        response = (await client.generate(messages=[question])).chat_response
        (call,) = response.approvals()
        decision = ToolResultPart(call_id=call.call_id, content=[TextPart(text="not now")], denied=denied)
        said = Message(role=Role.USER, parts=[decision])
        await client.generate(messages=[question, response.as_message(), said])
        (_, sent) = decisions_in(server.requests[-1])
    assert (sent["approve"], sent.get("reason")) == ((False, "not now") if denied else (True, None))
