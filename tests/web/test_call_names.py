"""Tool calls whose provider sends no ids, or the same ones in every answer: live, after a reload, and approved."""

from typing import Any

import pytest

from dhenara_async import AIModelCallConfig, ConversationNode, Pending, ToolPolicy
from dhenara_async.events import PartEnd, PartStart, StreamEvent, StreamReset, StreamStart, ToolCallDelta, ToolEnd
from dhenara_async.messages.messages import TextPart, ToolCallPart, ToolResultPart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.testing import Answer, ScriptedToolCall
from dhenara_async.testing.script import ScriptStep, SeenRequest
from dhenara_async.web.chat.history import messages_of
from dhenara_async.web.frames.ag_ui import AGUIFrames
from dhenara_async.web.frames.call_names import CallNames, calls_in
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.ui_messages import UIMessageFrames
from tests.web.protocols import events_of as read
from tests.web.test_chat_routes import Chat, chatting


def events_of(body: bytes) -> list[Any]:
    return list(read(body))


START = StreamStart(model="m", provider="acme")


def call(call_id: str, city: str, part_id: int = 0) -> list[StreamEvent]:
    part = ToolCallPart(call_id=call_id, name="weather", arguments=f'{{"city":"{city}"}}')
    return [PartStart(part_id, "tool_call", call_id=call_id, name="weather"), PartEnd(part_id, part)]


def result(call_id: str, words: str) -> ToolEnd:
    return ToolEnd(ToolResultPart(call_id=call_id, name="weather", content=(TextPart(text=words),)))


def test_names_are_the_keys_of_decisions_while_they_are_free() -> None:
    names = CallNames()
    assert [names.new("", "weather"), names.new("", "weather"), names.new("c", "weather")] == [
        "weather",
        "weather~2",
        "c",
    ]
    assert [names.asked("", "weather"), names.asked("", "weather")] == ["weather", "weather~2"]
    assert [names.answered("", "weather"), names.answered("", "weather")] == ["weather", "weather~2"]
    names.next_answer()
    assert (names.new("c", "weather"), names.answered("c", "weather"), names.last("c")) == ("c~2", "c~2", "c~2")


def test_a_message_that_goes_on_keeps_its_names() -> None:
    names = CallNames([("c", False), ("c~2", True)])
    assert (names.answered("c", "weather"), names.made("c~2"), names.new("c", "weather")) == ("c~2", False, "c~3")


def test_calls_in_messages_of_a_client() -> None:
    messages: list[dict[str, object]] = [
        {"role": "assistant", "toolCalls": [{"id": "a"}, {"id": 1}, "junk", {"id": "b"}]},
        {"role": "tool", "toolCallId": "a", "content": "x"},
        {"role": "assistant", "toolCalls": "junk"},
    ]
    assert calls_in(messages) == [("a", False), ("b", True)]


@pytest.mark.parametrize("call_id", ["", "c1"])
def test_every_result_is_at_its_own_call(call_id: str) -> None:
    events = [START, *call(call_id, "Oslo"), *call(call_id, "Rome", 1), result(call_id, "snow"), result(call_id, "sun")]
    events += [START, *call(call_id, "Bonn"), result(call_id, "rain")]
    expected = {"Oslo": "snow", "Rome": "sun", "Bonn": "rain"}

    page: dict[str, Any] = {}
    cities: dict[str, str] = {}
    for chunk in events_of(UIMessageFrames("n").feed(events)):
        if chunk["type"] == "tool-input-available":
            assert chunk["toolCallId"] not in cities
            cities[chunk["toolCallId"]] = chunk["input"]["city"]
        if chunk["type"] == "tool-output-available":
            page[cities[chunk["toolCallId"]]] = chunk["output"]
    assert page == expected

    agent: dict[str, Any] = {}
    cities.clear()
    written = [call(call_id, "Oslo")[0], ToolCallDelta(0, '{"city":"Oslo"}'), call(call_id, "Oslo")[1]]
    for event in events_of(
        AGUIFrames("t", "r", "n").feed([START, *(written if call_id else events[1:3]), *events[3:]])
    ):
        if event["type"] == "TOOL_CALL_START":
            assert event["toolCallId"] not in cities
            cities[event["toolCallId"]] = ["Oslo", "Rome", "Bonn"][len(cities)]
        if event["type"] == "TOOL_CALL_RESULT":
            agent[cities[event["toolCallId"]]] = event["content"]
    assert agent == expected


@pytest.mark.parametrize(("known", "kind"), [((), {"dynamic": True}), (("weather",), {})])
def test_a_call_that_is_cut_ends_under_its_own_name(known: tuple[str, ...], kind: dict[str, object]) -> None:
    frames = UIMessageFrames("n", known_tools=known)
    frames.feed([START, PartStart(0, "tool_call", call_id="c1", name="weather"), ToolCallDelta(0, '{"ci')])
    error, _ = events_of(frames.fail(Failure("ReadError", "It broke.")))
    assert error == {
        "type": "tool-input-error",
        "toolCallId": "c1",
        "toolName": "weather",
        "input": {},
        "errorText": "It broke.",
        **kind,
    }


@pytest.mark.parametrize("arguments", ["", '{"ci', '{"city":"Rome"}'])
def test_a_call_that_is_cut_waits_for_nothing_after_a_reload(arguments: str) -> None:
    part = ToolCallPart(call_id="c1", name="weather", arguments=arguments, status="interrupted")
    choice = Choice(parts=(part,), finish_reason=FinishReason.OTHER)
    answer = ChatResponse(choices=(choice,), model="m", provider="acme")
    for loop_id in (None, "n"):  # outside a tool loop, and inside one, where a whole call waits for approval
        node = ConversationNode(id="n", loop_id=loop_id, response=answer, status="interrupted")
        (message,) = messages_of([node], lambda _node, _file: None)
        assert message["parts"] == [
            {"type": "step-start"},
            {
                "type": "dynamic-tool",
                "toolName": "weather",
                "toolCallId": "c1",
                "state": "output-error",
                "input": {},
                "errorText": "the arguments of this call are not complete",
            },
        ]


def test_a_call_that_is_taken_back_does_not_stay_open_on_a_page_of_version_6() -> None:
    frames = UIMessageFrames("n")
    opened = [START, PartStart(0, "tool_call", call_id="c1", name="weather"), ToolCallDelta(0, '{"ci')]
    chunks = events_of(frames.feed([*opened, StreamReset("it broke"), *call("c1", "Rome")]))
    told = [(chunk["type"], chunk.get("toolCallId")) for chunk in chunks]
    assert told.index(("tool-input-error", "c1")) < told.index(("data-reset", None))
    assert told[-1] == ("tool-input-available", "c1~2")


def test_nothing_is_taken_back_of_a_step_without_words() -> None:
    frames = UIMessageFrames("n")
    chunks = events_of(frames.feed([START, *call("c1", "Oslo"), START, StreamReset("it broke"), *call("c2", "Rome")]))
    assert "data-reset" not in [chunk["type"] for chunk in chunks]


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def same_ids(seen: SeenRequest) -> ScriptStep:
    asked = sum(role != "user" for role, _ in seen.turns)
    cities = {0: "Oslo", 1: "Rome"}
    answered = min(asked, seen.body.count(b"sunny in"))
    if answered in cities:
        return Answer(tool_calls=(ScriptedToolCall("c1", "weather", f'{{"city":"{cities[answered]}"}}'),))
    return Answer(text="All sunny.")


async def history(chat: Chat) -> list[tuple[str, str, object]]:
    _, page = await chat.page.get("chat/chat-1")
    parts = page["messages"][-1]["parts"]
    return [(one["toolCallId"], one["state"], one.get("output")) for one in parts if one["type"] == "dynamic-tool"]


async def test_a_second_call_with_the_id_of_the_first_can_be_approved() -> None:
    policy = ToolPolicy(approve=lambda call: Pending() if "Rome" in call.arguments else True)
    async with chatting(same_ids, config=AIModelCallConfig(tools=[weather]), run_tools=policy) as chat:
        status, body = await chat.page.send("POST", "chat", chat.page.say("Weather?", model="claude"))
        assert status == 200
        chunks = events_of(body)
        asked = [chunk for chunk in chunks if chunk["type"] == "tool-approval-request"]
        assert [chunk["toolCallId"] for chunk in asked] == ["c1~2"]
        waiting = await history(chat)
        assert waiting == [("c1", "output-available", "sunny in Oslo"), ("c1~2", "approval-requested", None)]

        calls: list[Any] = [
            {"type": "dynamic-tool", "toolCallId": "c1", "state": "output-available"},
            {
                "type": "dynamic-tool",
                "toolCallId": "c1~2",
                "state": "approval-responded",
                "approval": {"id": "c1~2", "approved": True},
            },
        ]
        answer: dict[str, object] = {"id": chunks[0]["messageId"], "role": "assistant", "parts": calls}
        chat.page.messages.append(answer)
        status, body = await chat.page.send("POST", "chat", chat.page.body(model="claude"))
        assert status == 200, body
        outputs = [one for one in events_of(body) if one["type"] == "tool-output-available"]
        assert [(one["toolCallId"], one["output"]) for one in outputs] == [("c1~2", "sunny in Rome")]
        assert await history(chat) == [*waiting[:1], ("c1~2", "output-available", "sunny in Rome")]


async def test_an_agent_approves_a_second_call_with_the_id_of_the_first() -> None:
    policy = ToolPolicy(approve=lambda call: Pending() if "Rome" in call.arguments else True)
    async with chatting(same_ids, config=AIModelCallConfig(tools=[weather]), run_tools=policy) as chat:
        question: dict[str, object] = {"id": "q", "role": "user", "content": "Weather?"}
        run: dict[str, object] = {"threadId": "t", "messages": [question], "forwardedProps": {"model": "claude"}}
        _, body = await chat.page.send("POST", "ag-ui", {**run, "runId": "r1"})
        [interrupt] = events_of(body)[-1]["outcome"]["interrupts"]
        assert interrupt["id"] == "c1~2"
        told = [
            {"id": "a", "role": "assistant", "toolCalls": [{"id": "c1"}, {"id": "c1~2"}]},
            {"id": "b", "role": "tool", "toolCallId": "c1", "content": "sunny in Oslo"},
        ]
        decided = [{"interruptId": "c1~2", "status": "resolved", "payload": {"approved": True}}]
        going_on = {**run, "runId": "r2", "messages": [question, *told], "resume": decided}
        _, body = await chat.page.send("POST", "ag-ui", going_on)
    results = [one for one in events_of(body) if one["type"] == "TOOL_CALL_RESULT"]
    assert [(one["toolCallId"], one["content"]) for one in results] == [("c1~2", "sunny in Rome")]
