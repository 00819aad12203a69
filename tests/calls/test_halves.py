"""Lone surrogates in requests: every dialect sends U+FFFD instead, and the report says so."""

import os
from collections.abc import Mapping
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelCallResponse,
    AIModelClient,
    ConversationManager,
    ConversationNode,
    Dialect,
    FilePart,
    Message,
    PromptFormatter,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.formatter.formatter import FormattedConversation
from dhenara_async.formatter.halves import without_halves
from dhenara_async.messages.messages import HostedToolPart, JsonPart, Part
from dhenara_async.testing import Answer, ProviderServer
from tests.loopback import SPEAKERS, endpoint_at
from tests.raw_json import keys, leaves

DIALECTS = list(SPEAKERS)
NAME = os.fsdecode(b"caf\xe9")  # the last byte becomes half of a pair
SENT = "caf\ufffd"

CALL = ToolCallPart(call_id="call_1", name="look", arguments='{"where": "here"}')


def repaired(response: AIModelCallResponse) -> list[tuple[int | None, int | None, str]]:
    report = response.conversion
    assert report.lossy == ()
    return [(entry.message, entry.part, entry.kind) for entry in report.entries if entry.code == "text_repaired"]


def texts(body: object) -> set[str]:
    """Every text in a request and every key; results that are JSON text are read once more."""
    found = {text for _key, text in leaves(body) if isinstance(text, str)} | set(keys(body))
    for text in [*found]:
        if text.startswith("{"):
            inner: object = orjson.loads(text)
            found |= {inside for _key, inside in leaves(inner) if isinstance(inside, str)} | set(keys(inner))
    return found


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("part", "says"),
    [
        (TextPart(text=NAME), SENT),
        (TextPart(text="whole \ud83d\ude00"), "whole \U0001f600"),
        (FilePart(media_type="text/plain", data=b"pages", filename=NAME), None),
        (ToolResultPart.of(CALL, NAME), SENT),
        (ToolResultPart.of(CALL, {"files": [NAME]}), SENT),
        (ToolResultPart.of(CALL, {NAME: 4}), SENT),
        (ToolResultPart.of(CALL, {"a": {NAME: 10**30}}), SENT),
    ],
)
async def test_a_lone_surrogate_in_a_question_is_replaced_and_reported(
    dialect: Dialect, streaming: bool, part: Part, says: str | None
) -> None:
    asked = [Message.user("Go."), Message.assistant(CALL), Message.user(ToolResultPart.of(CALL, "fine"))]
    if isinstance(part, ToolResultPart):
        asked[2] = Message.user(part)
    else:
        asked.append(Message.user("So?", part))
    config = AIModelCallConfig(streaming=streaming)
    async with ProviderServer([Answer(text="Well.")]) as server:
        response = await AIModelClient(endpoint_at(server, dialect), config).generate(messages=asked)
        sent = texts(server.requests[0].json)
    if says is not None or SENT in sent:  # not every dialect has a place for a name
        assert repaired(response) == [(len(asked) - 1, len(asked[-1].parts) - 1, part.type)]
    assert response.warnings == ()
    if says is not None:
        assert any(says in text for text in sent)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_lone_surrogate_in_one_of_several_questions_is_reported_for_that_one(dialect: Dialect) -> None:
    """Among them are requests from a form that was made for another question."""
    async with ProviderServer([Answer(text="Well.")] * 4) as server:
        client = AIModelClient(endpoint_at(server, dialect))
        for question in ("One?", "Two?", f"What is in {NAME}?", "Three?"):
            response = await client.generate(question)
            assert repaired(response) == ([(0, 0, "text")] if NAME in question else [])
        assert f"What is in {SENT}?" in texts(server.requests[2].json)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_lone_surrogates_in_the_history_are_replaced_and_reported(dialect: Dialect) -> None:
    """The history of another model has texts, tool calls with results, and a hosted tool."""
    call = ToolCallPart(call_id=f"call_{NAME}", name="look", arguments=f'{{"where": "{NAME}"}}')
    escaped = ToolCallPart(call_id="call_2", name="look", arguments='{"where": "caf\\ud83d", "n": NaN}')
    ran = HostedToolPart(name="search", input={"query": NAME}, output={NAME: [NAME]})
    history = [
        Message.user("Go."),
        Message.assistant(NAME, ran, call, escaped),
        Message.user(ToolResultPart.of(call, "one"), ToolResultPart.of(escaped, "two")),
    ]
    async with ProviderServer([Answer(text="Well.")]) as server:
        response = await AIModelClient(endpoint_at(server, dialect)).generate(messages=history)
        sent = texts(server.requests[0].json)
    assert set(repaired(response)) >= {(1, 0, "text"), (1, 1, "hosted_tool"), (1, 2, "tool_call"), (1, 3, "tool_call")}
    assert SENT in sent
    assert "caf\ufffd" in sent
    assert not any("\\ud83d" in text for text in sent)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_lone_surrogates_in_tools_and_instructions_give_warnings(dialect: Dialect) -> None:
    def look(where: str) -> str:
        return where

    tool = Tool.from_function(look, description=f"Look into {NAME}.")
    config = AIModelCallConfig(tools=[tool], user_id=NAME, extra_body={})
    async with ProviderServer([Answer(text="Well.")] * 2) as server:
        client = AIModelClient(endpoint_at(server, dialect), config)
        response = await client.generate("Go.", instructions=[f"Mind {NAME}."])
        sound = await client.generate("Go.", config=AIModelCallConfig(user_id="me"))
        sent = texts(server.requests[0].json)
    assert {f"Look into {SENT}.", f"Mind {SENT}."} <= sent
    assert repaired(response) == []
    told = set(response.warnings) - set(sound.warnings)
    assert {(warning.code, warning.knob) for warning in told} == {
        ("param_adjusted", "instructions"),
        ("param_adjusted", "tools"),
        ("param_adjusted", "user_id"),
    }
    assert all("U+FFFD" in warning.message for warning in told)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_reports_of_a_conversation_name_the_node_with_the_surrogate(dialect: Dialect) -> None:
    async with (
        ProviderServer([Answer(text="Well.")] * 3) as server,
        ConversationManager() as manager,
    ):
        endpoint = endpoint_at(server, dialect)
        conversation = await manager.create()
        first = await manager.ask(conversation, f"What is in {NAME}?", endpoint)
        check = manager.check(conversation, endpoint, query="And?")
        second = await manager.ask(conversation, "And?", endpoint)
        third = await manager.ask(conversation, "So?", endpoint)
        assert all(f"What is in {SENT}?" in texts(seen.json) for seen in server.requests)
    of_the_first = (check.report, second.conversion, third.conversion)
    for report, node in ((first.conversion, None), *((report, first.id) for report in of_the_first)):
        (entry,) = report.entries
        assert (entry.code, entry.node, entry.message, entry.part) == ("text_repaired", node, 0, 0)
    stored = ConversationNode.model_validate_json(first.model_dump_json())
    assert stored.user_query == f"What is in {SENT}?"
    assert stored == first.model_copy(update={"user_query": stored.user_query})


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_requests_without_lone_surrogates_are_formatted_once(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    formatted, format_messages = list[bool](), PromptFormatter.format_messages

    def counted(*given: object, **knobs: object) -> FormattedConversation:
        formatted.append(cast("bool", knobs["mend"]))
        return cast("FormattedConversation", format_messages(*given, **knobs))  # type: ignore[arg-type]

    monkeypatch.setattr(PromptFormatter, "format_messages", counted)
    async with ProviderServer([Answer(text="Well.")] * 3) as server:
        client = AIModelClient(endpoint_at(server, dialect))
        await client.generate("é \U0001f600", context=["日本"])
        assert formatted == [False]
        big = ToolResultPart.of(CALL, 10**30)
        await client.generate(messages=[Message.user("Go."), Message.assistant(CALL), Message.user(big)])
        assert formatted == [False, False]  # numbers of any size can be written
        await client.generate("Hm.", context=[NAME])
        assert formatted == [False, False, False, True]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_integers_of_any_size_are_sent_exactly(dialect: Dialect) -> None:
    called = ToolCallPart(call_id="call_1", name="look", arguments=f'{{"n": {10**30}}}')
    result = ToolResultPart(call_id="call_1", name="look", content=[JsonPart(value={"n": -(10**25), "x": [1 << 64]})])
    asked = [Message.user("Go."), Message.assistant(called), Message.user(result)]
    config = AIModelCallConfig(extra_body={"metadata": {"big": 10**40}} if dialect is Dialect.OPENAI_CHAT else {})
    async with ProviderServer([Answer(text="Well.")]) as server:
        response = await AIModelClient(endpoint_at(server, dialect), config).generate(messages=asked)
        body = server.requests[0].body.decode()
    for number in (10**30, -(10**25), 1 << 64):
        assert str(number) in body
    assert (10**40 in config.extra_body.get("metadata", {}).values()) == (str(10**40) in body)  # type: ignore[union-attr]
    assert {entry.code for entry in response.conversion.entries} <= {"signature_synthesized"}


def test_lone_surrogates_are_replaced_in_every_kind_of_part() -> None:
    parts: Mapping[str, Part] = {
        "text": TextPart(text=NAME, provider_state={"type": "text", "a": [NAME]}),
        "tool_call": ToolCallPart(call_id=NAME, name=NAME, arguments=NAME),
        "hosted_tool": HostedToolPart(name=NAME, call_id=NAME, output=[{NAME: NAME}]),
    }
    message, places = without_halves(Message.assistant("fine", *parts.values()))
    assert places == {1, 2, 3}
    assert NAME not in repr(message)
    message.model_dump_json().encode()
    sound = Message.assistant("fine")
    assert without_halves(sound) == (sound, frozenset())
    assert without_halves(sound)[0] is sound
