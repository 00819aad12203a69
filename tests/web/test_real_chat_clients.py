"""The AI SDK's own client, versions 6 and 7, reads our chat."""

import base64
from pathlib import Path
from typing import Any, cast

import pytest

from dhenara_async import AIModelCallConfig, Dialect, Pending, ToolPolicy
from dhenara_async.messages.messages import Citation
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedToolCall
from dhenara_async.testing.script import ScriptStep, SeenRequest
from tests.loops.approval_requests import ASKS, CONFIG, GOES_ON, Items, script, told
from tests.loops.approval_requests import answer as answer_of
from tests.loops.tools import endpoint_of
from tests.web import node_clients
from tests.web.test_chat_routes import PNG, Chat, chatting

PICTURE = "data:image/png;base64," + base64.b64encode(PNG).decode()
TEXT = "The robot paints a red fox."


@pytest.fixture(scope="session")
def node_home() -> Path:
    return node_clients.installed()


def answer(seen: SeenRequest) -> ScriptStep:
    """Answer by the words of the question."""
    question = seen.turns[-1][1]
    if "everything" in question:
        return Answer(
            text=TEXT,
            reasoning="A fox is red.",
            tool_calls=(ScriptedToolCall("call_1", "paint", '{"colour": "red"}'),),
            citations=(Citation(url="https://example.com/fox", title="Fox"),),
        )
    if "cut" in question:
        return Fault(answer=Answer(text=TEXT), cut=1500)
    if "over" in question and seen.dialect is Dialect.OPENAI_CHAT:
        return Fault(answer=Answer(text=TEXT), cut=1500)
    if "slow" in question:
        return Fault(answer=Answer(text=TEXT), stall=6, seconds=1.0)
    if "stall" in question:
        return Fault(answer=Answer(text=TEXT), stall=6)
    return Answer(text=TEXT)


def shown(message: Any) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


async def page(chat: Chat, home: Path, sdk: int, *steps: object) -> Any:
    return await node_clients.run("chat.mjs", home, {"sdk": sdk, "api": f"{chat.page.url}/api/chat", "steps": steps})


@pytest.mark.parametrize("sdk", [6, 7])
async def test_what_the_page_shows(sdk: int, node_home: Path) -> None:
    picture = {"type": "file", "mediaType": "image/png", "url": PICTURE}
    async with chatting(answer, sdk=sdk) as chat:
        everything, followed, cut, file, again, anew = await page(
            chat,
            node_home,
            sdk,
            {"chat": "a", "send": "everything", "body": {"model": "claude"}},
            {"chat": "b", "send": "One?"},
            {"chat": "c", "send": "cut"},
            {"chat": "d", "send": {"parts": [picture, {"type": "text", "text": "What?"}]}},
            {"chat": "c", "resume": True},
            {"chat": "b", "load": True, "regenerate": True, "body": {"model": "claude"}},
        )
    for whole in (everything, followed, file, anew):
        assert (whole["status"], whole["error"], whole["problems"]) == ("ready", None, [])
        assert shown(whole["messages"][-1]) == TEXT
    kinds = [part["type"] for part in everything["messages"][-1]["parts"]]
    assert {"step-start", "reasoning", "text", "dynamic-tool"} <= set(kinds)
    (tool,) = [part for part in everything["messages"][-1]["parts"] if part["type"] == "dynamic-tool"]
    assert (tool["state"], tool["input"]) == ("input-available", {"colour": "red"})
    assert everything["messages"][-1]["metadata"]["usage"]["outputTokens"] > 0
    assert cut["status"] == "error"
    assert cut["error"]
    assert TEXT.startswith(shown(cut["messages"][-1]).strip() or "x")
    assert all(part.get("state") != "streaming" for part in cut["messages"][-1]["parts"])
    assert again["messages"] == []
    assert [message["role"] for message in anew["messages"]] == ["user", "assistant"]
    assert anew["messages"][-1]["id"] != followed["messages"][-1]["id"]


@pytest.mark.parametrize("sdk", [6, 7])
async def test_a_reload_in_mid_answer_shows_it_once(sdk: int, node_home: Path) -> None:
    async with chatting(answer, sdk=sdk) as chat:
        resumes = [{"chat": "r", "resume": True, "keep": keep} for keep in (0, 1, 2)]
        resumes.append({"chat": "r", "resume": True, "load": True})
        left, *resumed = await page(chat, node_home, sdk, {"chat": "r", "send": "slow", "leaveAfter": 1}, resumes)
    assert left["status"] == "ready"
    assert shown(left["messages"][-1]) != TEXT
    for reload in resumed:
        answers = [message for message in reload["messages"] if message["role"] == "assistant"]
        assert [(message["id"], shown(message)) for message in answers] == [(left["messages"][-1]["id"], TEXT)]
        assert (reload["status"], reload["problems"]) == ("ready", [])


@pytest.mark.parametrize("sdk", [6, 7])
async def test_stop_and_fail_over_after_words(sdk: int, node_home: Path) -> None:
    async with chatting(answer, sdk=sdk) as chat:
        stopped, over, reloaded = await page(
            chat,
            node_home,
            sdk,
            {"chat": "s", "send": "stall", "stopAfter": 3},
            {"chat": "o", "send": "over", "body": {"model": "safe"}},
            {"chat": "o", "load": True},
        )
        await chat.provider.wait_closed()
    assert (stopped["status"], stopped["problems"]) == ("ready", [])
    assert TEXT.startswith(shown(stopped["messages"][-1]))
    assert all(part.get("state") != "streaming" for part in stopped["messages"][-1]["parts"])
    assert (over["status"], over["problems"]) == ("ready", [])
    assert shown(over["messages"][-1]).endswith(TEXT)
    if sdk == 7:
        assert shown(over["messages"][-1]) == TEXT
    assert shown(reloaded["messages"][-1]) == TEXT


def paint(colour: str) -> str:
    """Paint something."""
    return f"It is {colour}."


@pytest.mark.parametrize(("sdk", "known"), [(6, ()), (6, ("paint",)), (7, ("paint",))])
async def test_a_tool_loop_is_one_message(sdk: int, known: tuple[str, ...], node_home: Path) -> None:
    fox, paper = Citation(url="https://example.com/fox", title="Fox"), Citation(title="A paper")

    def steps(seen: SeenRequest) -> ScriptStep:
        if seen.turns[-1][1] == "Paint it!":
            calls = [("call_1", '{"colour": "red"}'), ("call_2", '{"col')]
            return Answer(
                text="I paint. ",
                tool_calls=tuple(ScriptedToolCall(name, "paint", arguments) for name, arguments in calls),
                citations=(fox,),
            )
        return Answer(text=TEXT, citations=(paper, fox))

    options: dict[str, Any] = {"config": AIModelCallConfig(tools=[paint]), "run_tools": ToolPolicy()}
    async with chatting(steps, sdk=sdk, known_tools=known, **options) as chat:
        live, loaded, followed = await page(
            chat,
            node_home,
            sdk,
            {"chat": "t", "send": "Paint it!", "body": {"model": "claude"}},
            {"chat": "t", "load": True},
            {"chat": "t", "keep": 2, "send": "More?"},
        )
    for whole in (live, loaded):
        assert whole["problems"] == []
        user, message = whole["messages"]
        assert user["role"] == "user"
        assert shown(message) == f"I paint. {TEXT}"
        kind = "tool-paint" if known else "dynamic-tool"
        tool, broken = (part for part in message["parts"] if part["type"] == kind)
        assert '{"col' in (broken.pop("input", None), broken.pop("rawInput", None))  # versions 6 and 7 differ
        assert (tool["state"], tool["output"], broken["state"]) == ("output-available", "It is red.", "output-error")
        sources = [part for part in message["parts"] if part["type"].startswith("source-")]
        assert [source["title"] for source in sources] == ["Fox", "A paper"]
        assert len({source["sourceId"] for source in sources}) == 2
    assert live["messages"][-1]["id"] == loaded["messages"][-1]["id"]
    assert live["messages"][-1]["parts"] == loaded["messages"][-1]["parts"]
    assert shown(followed["messages"][-1]) == TEXT
    assert [role for role, _ in chat.provider.requests[-1].turns] == ["user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize(("sdk", "policy"), [(6, None), (7, ToolPolicy())])
async def test_a_call_of_a_hosted_server_runs_when_the_page_approves_it(
    sdk: int, policy: ToolPolicy | None, node_home: Path
) -> None:
    """OpenAI asks for the approval; with a tool loop and without one the page shows the same."""
    async with ProviderServer(script(ASKS, GOES_ON, ASKS, answer_of(told("As you like.")))) as provider:
        models = {"dice": endpoint_of(provider, Dialect.OPENAI_RESPONSES)}
        options: dict[str, Any] = {"sdk": sdk, "config": CONFIG, "run_tools": policy, "more_models": models}
        dice = {"model": "dice"}
        async with chatting(answer, **options) as chat:
            asked, loaded, approved, again, _, _, denied, denied_again = await page(
                chat,
                node_home,
                sdk,
                {"chat": "h", "send": "Roll.", "body": dice},
                {"chat": "h", "load": True},
                {"chat": "h", "keep": 2, "approve": True, "body": dice},
                {"chat": "h", "load": True},
                {"chat": "d", "send": "Roll.", "body": dice},
                {"chat": "d", "load": True},
                {"chat": "d", "keep": 2, "approve": "Not now.", "body": dice},
                {"chat": "d", "load": True},
            )
        decisions = [
            item
            for seen in provider.requests
            for item in cast("dict[str, Items]", seen.json)["input"]
            if item.get("type") == "mcp_approval_response"
        ]
    tools = [
        [(part["toolName"], part["state"]) for part in whole["messages"][-1]["parts"] if part["type"] == "dynamic-tool"]
        for whole in (asked, loaded, approved, again, denied, denied_again)
    ]
    lists, ran = ("mcp", "output-available"), ("mcp", "output-available")
    waits, done, refused = (
        ("dice__roll", f"{state}") for state in ("approval-requested", "output-available", "output-denied")
    )
    assert tools == [
        [lists, waits],
        [lists, waits],
        [lists, done, ran],
        [lists, done, ran],
        [lists, refused],
        [lists, refused],
    ]
    for whole, words in ((approved, "A four."), (again, "A four."), (denied, "As you like.")):
        assert (whole["problems"], whole["error"]) == ([], None)
        assert shown(whole["messages"][-1]) == words
    assert [(decision["approve"], decision.get("reason")) for decision in decisions] == [
        (True, None),
        (False, "the user did not allow this call: Not now."),
    ]


@pytest.mark.parametrize("sdk", [6, 7])
async def test_a_call_runs_when_the_page_approves_it(sdk: int, node_home: Path) -> None:
    painted: list[str] = []

    def paint(colour: str) -> str:
        """Paint something."""
        painted.append(colour)
        return f"It is {colour}."

    def steps(seen: SeenRequest) -> ScriptStep:
        if seen.turns[-1][1] == "Paint it!":
            return Answer(text="I paint. ", tool_calls=(ScriptedToolCall("call_1", "paint", '{"colour": "red"}'),))
        return Fault(answer=Answer(text=TEXT), stall=6, seconds=0.7)

    policy = ToolPolicy(approve=lambda call: Pending())
    config = AIModelCallConfig(tools=[paint])
    async with chatting(steps, sdk=sdk, config=config, run_tools=policy) as chat:
        asked, left, *reloaded, approved, loaded, again, _, denied = await page(
            chat,
            node_home,
            sdk,
            {"chat": "t", "send": "Paint it!"},
            {"chat": "t", "keep": 2, "approve": True, "leaveAfter": 12},
            [{"chat": "t", "load": True, "resume": True}, {"chat": "t", "keep": 2, "resume": True}],
            {"chat": "t", "load": True},
            {"chat": "t", "load": True},
            {"chat": "n", "send": "Paint it!"},
            {"chat": "n", "load": True},
            {"chat": "n", "keep": 2, "approve": "Not now."},
        )
        _, forged = await chat.page.send("POST", "chat", {"id": "n", "messages": approved["messages"]})
    assert painted == ["red"]
    assert forged == b"The last message is not the user's, and approves nothing."
    states = [
        [part["state"] for part in whole["messages"][-1]["parts"] if part["type"] == "dynamic-tool"]
        for whole in (asked, approved, loaded, again)
    ]
    assert states == [["approval-requested"], ["output-available"], ["output-available"], ["approval-requested"]]
    assert TEXT not in shown(left["messages"][-1])
    for whole in (*reloaded, approved, loaded, denied):
        assert (whole["problems"], len(whole["messages"])) == ([], 2)
        assert shown(whole["messages"][-1]) == f"I paint. {TEXT}"
        assert whole["messages"][-1]["id"] == (asked if whole is not denied else again)["messages"][-1]["id"]
    assert "Not now." in chat.provider.requests[-1].turns[-1][1]
