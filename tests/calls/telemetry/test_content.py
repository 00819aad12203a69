"""Prompts and answers in traces: only if asked for, in the shapes of the conventions, cut to a size."""

from typing import cast

import orjson
import pytest
from pydantic import JsonValue

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    Dialect,
    Failover,
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.calls.records import CallContent
from dhenara_async.calls.telemetry.capture import VARIABLE
from dhenara_async.calls.telemetry.content import ByteBudget, requested
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError, ScriptedToolCall
from tests.calls.telemetry.telemetry import Telemetry, attributes_of
from tests.loopback import ONCE, endpoint_at

REQUIRED = {
    "text": {"content"},
    "reasoning": {"content"},
    "tool_call": {"name"},
    "tool_call_response": {"response"},
    "server_tool_call": {"name", "server_tool_call"},
    "blob": {"modality", "content"},
    "uri": {"modality", "uri"},
    "file": {"modality", "file_id"},
}
"""What the JSON schemas of the conventions require of each part, beside its type."""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def weather(city: str) -> str:
    """The weather of a city."""
    return city


def parsed(text: object) -> list[dict[str, JsonValue]]:
    assert isinstance(text, str)
    return cast("list[dict[str, JsonValue]]", orjson.loads(text))


async def ask(telemetry: Telemetry, *, capture: bool, planned: bool = False) -> None:
    answer = Answer("Mild.", reasoning="Rome.", tool_calls=(ScriptedToolCall("call_1", "weather", '{"city":"Rome"}'),))
    async with ProviderServer([ScriptedError(500, "Down."), answer] if planned else [answer]) as server:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        client = AIModelClient(
            Failover([endpoint, endpoint]) if planned else endpoint,
            AIModelCallConfig(retries=0, tools=[weather]),
            observers=[telemetry.observer(capture_content=capture)],
        )
        await client.generate("How is Rome?", instructions=["Be short."])


@pytest.mark.parametrize("planned", [False, True])
async def test_content_is_on_the_span_of_the_endpoint_that_answered(planned: bool) -> None:
    telemetry = Telemetry()
    await ask(telemetry, capture=True, planned=planned)
    span = next(span for span in telemetry.spans if "gen_ai.output.messages" in (span.attributes or {}))
    attributes = attributes_of(span)
    assert span.name.startswith("chat ")
    asked = [{"role": "user", "parts": [{"type": "text", "content": "How is Rome?"}]}]
    assert parsed(attributes["gen_ai.input.messages"]) == asked
    assert parsed(attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be short."}]
    (tool,) = parsed(attributes["gen_ai.tool.definitions"])
    assert (tool["type"], tool["name"]) == ("function", "weather")
    (choice,) = parsed(attributes["gen_ai.output.messages"])
    assert (choice["role"], choice["finish_reason"]) == ("assistant", "tool_call")
    assert choice["parts"] == [
        {"type": "reasoning", "content": "Rome."},
        {"type": "text", "content": "Mild."},
        {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Rome"}},
    ]
    assert "dhenara.content.truncated" not in attributes
    assert span.end_time is not None
    assert not planned or all(span.end_time <= (other.end_time or 0) for other in telemetry.spans[-1:])


@pytest.mark.parametrize(
    ("word", "spans", "events"),
    [
        ("", False, False),
        ("NO_CONTENT", False, False),
        ("span_only", True, False),
        ("EVENT_ONLY", False, True),
        ("SPAN_AND_EVENT", True, True),
        ("everything", False, False),
    ],
)
async def test_the_official_switch_has_the_last_word(
    word: str, spans: bool, events: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, word)
    telemetry = Telemetry()
    await ask(telemetry, capture=word in ("NO_CONTENT", "everything"))
    assert ("gen_ai.input.messages" in attributes_of(telemetry.spans[0])) is spans
    details = [event.log_record for event in telemetry.events]
    assert [record.event_name for record in details] == ["gen_ai.client.inference.operation.details"] * events
    if events:
        messages = (details[0].attributes or {})["gen_ai.output.messages"]
        assert isinstance(messages, list | tuple)
        assert details[0].span_id == telemetry.spans[0].get_span_context().span_id  # type: ignore[union-attr]
    assert ("Rome" in telemetry.exported()) is (spans or events)


async def test_large_content_is_cut_and_says_so() -> None:
    telemetry = Telemetry()
    async with ProviderServer([Answer("word " * 500)]) as server:
        observer = telemetry.observer(capture_content=True, max_content_bytes=100)
        client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), ONCE, observers=[observer])
        await client.generate("é" * 1000)
    attributes = attributes_of(telemetry.spans[0])
    assert attributes["dhenara.content.truncated"] is True
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        text = attributes[name]
        assert isinstance(text, str)
        assert len(text.encode()) < 300
        assert "(cut)" in text


async def test_what_came_of_an_answer_that_breaks_off_is_kept() -> None:
    telemetry = Telemetry()
    async with ProviderServer([Fault(answer=Answer("Pines sway."), terminal="missing")]) as server:
        config = AIModelCallConfig(retries=0, streaming=True)
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        client = AIModelClient(endpoint, config, observers=[telemetry.observer(capture_content=True)])
        with pytest.raises(Exception, match="ended"):
            await client.generate("Trees?")
    (choice,) = parsed(attributes_of(telemetry.spans[0])["gen_ai.output.messages"])
    assert (choice["parts"], choice["finish_reason"]) == ([{"type": "text", "content": "Pines sway."}], "error")


def test_every_part_has_a_shape() -> None:
    call = ToolCallPart(call_id="1", name="f", arguments="not json \ud800")
    messages = (
        Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="hm"), call)),
        Message(role=Role.USER, parts=(ToolResultPart.of(call, {"a": 1}), ToolResultPart.of(call, "x", {"b": 2}))),
        Message(
            role=Role.USER,
            parts=(
                TextPart(text="see"),
                FilePart(media_type="image/png", data=PNG),
                FilePart.from_url("https://example.org/a.pdf"),
                FilePart(media_type="application/pdf", file_id="file-1"),
            ),
        ),
        Message(
            role=Role.ASSISTANT, parts=(HostedToolPart(name="server_tool_use", tool="web_search", input={"q": 1}),)
        ),
    )
    shapes, cut = requested(CallContent(messages, (), ()), ByteBudget)
    assert not cut
    parts = [cast("list[dict[str, JsonValue]]", message["parts"]) for message in shapes["gen_ai.input.messages"]]
    assert [message["role"] for message in shapes["gen_ai.input.messages"]] == [
        "assistant",
        "tool",
        "user",
        "assistant",
    ]
    assert [[part["type"] for part in each] for each in parts] == [
        ["reasoning", "tool_call"],
        ["tool_call_response", "tool_call_response"],
        ["text", "blob", "uri", "file"],
        ["server_tool_call"],
    ]
    assert all(REQUIRED[str(part["type"])] <= part.keys() for each in parts for part in each)
    assert parts[0][1]["arguments"] == "not json ?"
    assert parts[1][0]["response"] == {"a": 1}
    assert parts[1][1]["response"] == [{"type": "text", "content": "x"}, {"type": "json", "content": {"b": 2}}]
    assert [part["modality"] for part in parts[2][1:]] == ["image", "document", "document"]
    assert parts[3][0]["server_tool_call"] == {"type": "web_search", "input": {"q": 1}}
    assert JsonPart(value={"a": 1}).get_text() == '{"a":1}'


def test_a_budget_bounds_all_texts_together() -> None:
    budget = ByteBudget(10)
    texts = [budget.text("forty-two") for _ in range(1_000)]
    assert texts[0] == "forty-two"
    assert budget.cut
    assert len("".join(texts)) < 40
