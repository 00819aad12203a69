"""AG-UI's own client reads our runs."""

from pathlib import Path
from typing import Any

import pytest

from dhenara_async import AIModelCallConfig, Dialect, Pending, ToolPolicy
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedToolCall
from dhenara_async.testing.script import ScriptStep, SeenRequest
from tests.loops.approval_requests import ASKS, CONFIG, GOES_ON, script
from tests.loops.tools import endpoint_of
from tests.web import node_clients
from tests.web.test_chat_routes import Chat, chatting

TEXT = "The robot paints a red fox."


def paint(colour: str) -> str:
    """Paint something."""
    return f"It is {colour}."


def answer(seen: SeenRequest) -> ScriptStep:
    question = seen.turns[-1][1]
    if question == "Paint it!":
        call = ScriptedToolCall("call_1", "paint", '{"colour": "red"}')
        return Answer(text="I paint. ", reasoning="A fox is red.", tool_calls=(call,))
    if "cut" in question:
        return Fault(answer=Answer(text=TEXT), cut=1500)
    if "slow" in question:
        return Fault(answer=Answer(text=TEXT), stall=6, seconds=2.0)  # the join has to come meanwhile
    if "stall" in question:
        return Fault(answer=Answer(text=TEXT), stall=6)
    return Answer(text=TEXT)


@pytest.fixture(scope="session")
def node_home() -> Path:
    return node_clients.installed()


async def agents(chat: Chat, home: Path, *steps: object) -> Any:
    return await node_clients.run("agui.mjs", home, {"api": f"{chat.page.url}/api/ag-ui", "steps": steps})


def kinds(run: Any) -> list[str]:
    return [event["type"] for event in run["events"]]


async def test_what_the_agent_shows(node_home: Path) -> None:
    config = AIModelCallConfig(tools=[paint])
    async with chatting(answer, config=config, run_tools=ToolPolicy()) as chat:
        tools, followed, cut, stopped = await agents(
            chat,
            node_home,
            {"thread": "a", "send": "Paint it!", "props": {"model": "claude"}},
            {"thread": "a", "send": "More?", "keep": 9},
            {"thread": "c", "send": "cut"},
            {"thread": "s", "send": "stall", "stopAfter": 3},
        )
        assert len([text for role, text in chat.provider.requests[2].turns if role == "user"]) == 3
    assert tools["error"] is None
    roles = [(message["role"], message.get("content")) for message in tools["messages"]]
    assert roles == [
        ("user", "Paint it!"),
        ("reasoning", "A fox is red."),
        ("assistant", "I paint. "),
        ("tool", "It is red."),
        ("assistant", TEXT),
    ]
    assert tools["messages"][2]["toolCalls"][0]["function"] == {"name": "paint", "arguments": '{"colour": "red"}'}
    finished = tools["events"][-1]
    assert finished["outcome"] == {"type": "success"}
    assert finished["usage"][0]["outputTokens"] > 0
    assert followed["error"] is None
    assert followed["messages"][-1]["content"] == TEXT
    assert kinds(cut)[-1] == "RUN_ERROR"
    assert cut["events"][-1]["code"] == "ReadError"
    assert stopped["error"] is None
    assert stopped["events"][-1]["outcome"] == {"type": "cancelled"}


async def test_a_late_join_shows_the_answer_once(node_home: Path) -> None:
    async with chatting(answer) as chat:
        _, left, joined = await agents(
            chat,
            node_home,
            {"thread": "j", "send": "First?"},
            {"thread": "j", "send": "slow", "keep": 2, "leaveAfter": 3},
            {"thread": "j", "join": True, "keep": 4},
        )
    assert "RUN_FINISHED" not in kinds(left)
    assert joined["error"] is None
    assert kinds(joined)[:3] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "TEXT_MESSAGE_START"]
    assert [message["content"] for message in joined["messages"]] == ["First?", TEXT, "slow", TEXT]


async def test_an_interrupt_is_resumed(node_home: Path) -> None:
    config = AIModelCallConfig(tools=[paint])
    decision = {"interruptId": "call_1", "status": "resolved", "payload": {"approved": True}}
    async with chatting(answer, config=config, run_tools=ToolPolicy(approve=lambda call: Pending())) as chat:
        asked, resumed, again = await agents(
            chat,
            node_home,
            {"thread": "i", "send": "Paint it!"},
            {"thread": "i", "keep": 9, "resume": [decision]},
            {"thread": "i", "keep": 3, "resume": [decision]},  # as if the reply had been lost
        )
        assert len(chat.provider.requests) == 2
    interrupt = {"id": "call_1", "reason": "tool_approval", "toolCallId": "call_1"}
    assert asked["events"][-1]["outcome"] == {"type": "interrupt", "interrupts": [interrupt]}
    assert (resumed["error"], resumed["events"][-1]["outcome"]) == (None, {"type": "success"})
    assert [message.get("content") for message in resumed["messages"][-2:]] == ["It is red.", TEXT]
    assert (again["error"], again["events"][-1]["outcome"]) == (None, {"type": "success"})
    shown = [[(each["role"], each.get("content")) for each in run["messages"]] for run in (resumed, again)]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("policy", [None, ToolPolicy()])
async def test_an_interrupt_of_a_hosted_server_is_resumed(policy: ToolPolicy | None, node_home: Path) -> None:
    decision = {"interruptId": "mcpr_1", "status": "resolved", "payload": {"approved": True}}
    async with ProviderServer(script(ASKS, GOES_ON)) as provider:
        models = {"dice": endpoint_of(provider, Dialect.OPENAI_RESPONSES)}
        async with chatting(answer, config=CONFIG, run_tools=policy, more_models=models) as chat:
            asked, resumed = await agents(
                chat,
                node_home,
                {"thread": "h", "send": "Roll.", "props": {"model": "dice"}},
                {"thread": "h", "keep": 9, "resume": [decision], "props": {"model": "dice"}},
            )
    interrupt = {"id": "mcpr_1", "reason": "tool_approval", "toolCallId": "mcpr_1"}
    assert asked["events"][-1]["outcome"] == {"type": "interrupt", "interrupts": [interrupt]}
    named = [event["toolCallName"] for event in asked["events"] if event["type"] == "TOOL_CALL_START"]
    assert named == ["mcp", "dice__roll"]
    assert (resumed["error"], resumed["events"][-1]["outcome"]) == (None, {"type": "success"})
    assert resumed["messages"][-1]["content"] == "A four."
