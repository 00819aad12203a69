"""Turns, readers, streams and fan-outs as responses of a real server, in every protocol of our own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Conversation,
    ConversationManager,
    Dialect,
    Failover,
    StreamEvent,
    ToolPolicy,
    Turn,
    event_to_dict,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import Citation
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError, ScriptedToolCall
from dhenara_async.web.responses import sse_feed
from dhenara_async.web.starlette import json_lines_response, sse_response, text_response, ui_message_response
from tests.loopback import endpoint_at
from tests.web.protocols import blocks_of, events_of, kinds, ui_message_of
from tests.web.servers import Endpoint, one_route, served

TEXT = "The robot paints a red fox, “slowly”.\n\nIt dries."
Respond = Callable[[Turn, Request], Response]
ANSWER = Answer(text=TEXT, reasoning="A fox is red.")


@dataclass
class Reply:
    """A whole reply."""

    status: int
    headers: dict[str, str]
    body: bytes


async def fetch(url: str, headers: dict[str, str] | None = None) -> Reply:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        return Reply(reply.status, {name.lower(): value for name, value in reply.headers.items()}, await reply.read())


async def replied(endpoint: Endpoint, headers: dict[str, str] | None = None) -> Reply:
    async with served(one_route(endpoint)) as url:
        return await fetch(url, headers)


async def events_in(manager: ConversationManager, turn_id: str) -> list[StreamEvent]:
    async with manager.attach(turn_id) as reader:
        return [event async for event in reader]


async def test_server_sent_events_are_the_events_and_go_on_from_every_id() -> None:
    async with ProviderServer([ANSWER]) as provider, ConversationManager() as manager:
        conversation, turns = await manager.create(), list[str]()

        async def answer(request: Request) -> Response:
            if turns:
                return sse_response(manager.attach(turns[0]), request)
            turn = manager.turn(conversation, "What?", endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES))
            turns.append(turn.id)
            return sse_response(turn, request)

        async with served(one_route(answer)) as url:
            whole = await fetch(url)
            events = [event_to_dict(event) for event in await events_in(manager, turns[0])]
            assert whole.status == 200
            assert whole.headers["content-type"] == "text/event-stream"
            assert whole.headers["cache-control"] == "no-cache, no-transform"
            assert whole.headers["x-accel-buffering"] == "no"
            first, *told, last = blocks_of(whole.body)
            assert (first.retry, last.id) == ("1000", "end")
            assert [orjson.loads(block.data or "") for block in told] == events
            for place, block in enumerate(told[:-1], 1):
                rest = await fetch(url, {"Last-Event-ID": block.id or ""})
                assert events_of(rest.body) == events[place:]
            for done in (told[-1].id, "end"):
                nothing = await fetch(url, {"Last-Event-ID": done or ""})
                assert (nothing.status, nothing.body) == (204, b"")
                assert "content-type" not in nothing.headers
            reset, *again = events_of((await fetch(url, {"Last-Event-ID": "x.y.3"})).body)
            assert reset["type"] == "stream_reset"
            assert again == events[1:]


async def test_an_event_source_of_one_url_asks_once_and_misses_nothing() -> None:
    async with ProviderServer([ANSWER]) as provider, ConversationManager() as manager:
        endpoint = endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)

        async def ask(request: Request) -> Response:
            return sse_response(manager.turn(Conversation("c1"), "What?", endpoint, turn_id="t1"), request)

        async with served(one_route(ask)) as url:
            whole = await fetch(url)
            _, *told, last = blocks_of(whole.body)
            events = events_of(whole.body)
            for place, block in enumerate(told[:-1], 1):
                assert events_of((await fetch(url, {"Last-Event-ID": block.id or ""})).body) == events[place:]
            for done in (told[-1].id, last.id):
                assert (await fetch(url, {"Last-Event-ID": done or ""})).status == 204
            ahead = f"{(told[-1].id or '').rpartition('.')[0]}.{len(told) + 1}"
            for unknown in ("t1.other.3", ahead):
                reset, *again = events_of((await fetch(url, {"Last-Event-ID": unknown})).body)
                assert (reset["type"], again) == ("stream_reset", events[1:])
        assert len(provider.requests) == 1
        assert len((await manager.open("c1")).nodes) == 1


async def test_a_reset_takes_no_event_of_a_tool_loop_away() -> None:
    async with ProviderServer([ANSWER]) as provider, ConversationManager() as manager:
        endpoint = endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)

        async def told(last: str | None) -> list[dict[str, Any]]:
            turn = manager.turn(Conversation("c1"), "What?", endpoint, run_tools=ToolPolicy(), turn_id="t1")
            async with sse_feed(turn, last_event_id=last) as feed:
                body = [feed.begin()]
                while (data := await feed.read()) is not None:
                    body.append(data)
            return events_of(b"".join(body))

        whole = await told(None)
        assert whole[0]["type"] == "step_start"
        reset, *again = await told("x.y.3")
        assert (reset["type"], again) == ("stream_reset", whole)


async def test_lines_and_words_of_a_plain_stream() -> None:
    async with ProviderServer(lambda _: ANSWER) as provider, AIModelClient(at_chat(provider)) as client:

        async def lines(request: Request) -> Response:
            return json_lines_response(client.stream("What?"), request)

        async def words(request: Request) -> Response:
            return text_response(client.stream("What?"), request)

        events = [orjson.loads(line) for line in (await replied(lines)).body.splitlines()]
        assert events[0]["type"] == "stream_start"
        assert events[-1]["type"] == "stream_end"
        assert "".join(event["text"] for event in events if event["type"] == "text_delta") == TEXT
        reply = await replied(words)
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.body.decode() == TEXT


def at_chat(provider: ProviderServer) -> AIModelEndpoint:
    return endpoint_at(provider, Dialect.OPENAI_CHAT)


async def test_a_page_gets_text_reasoning_calls_and_sources() -> None:
    called = Answer(
        text="See.",
        reasoning="A fox.",
        tool_calls=(ScriptedToolCall("call_7", "paint", '{"colour": "red"}'), ScriptedToolCall("call_8", "dry", "{")),
        citations=(Citation(url="https://example.com/fox", title="Fox"),),
    )
    async with ProviderServer([called]) as provider, ConversationManager() as manager:
        turn = manager.turn(await manager.create(), "What?", endpoint_at(provider, Dialect.OPENAI_RESPONSES))

        async def answer(request: Request) -> Response:
            return ui_message_response(turn, request)

        reply = await replied(answer)
        assert reply.headers["x-vercel-ai-ui-message-stream"] == "v1"
        message = ui_message_of(reply.body)
        assert message.id == turn.id
        assert list(message.texts.values()) == ["See."]
        assert list(message.reasoning.values()) == ["A fox."]
        good, bad = message.tools.values()
        assert good[-1]["input"] == {"colour": "red"}
        assert good[-1]["dynamic"] is True
        assert "".join(str(chunk["inputTextDelta"]) for chunk in good[1:-1]) == '{"colour": "red"}'
        assert (bad[-1]["type"], bad[-1]["input"]) == ("tool-input-error", "{")
        assert [source["url"] for source in message.others] == ["https://example.com/fox"]
        assert message.finish is not None
        assert message.finish["finishReason"] == "tool-calls"
        metadata = message.finish["messageMetadata"]
        assert isinstance(metadata, dict)
        assert {"model", "usage", "status"} <= metadata.keys()


@pytest.mark.parametrize("after_words", [False, True])
async def test_a_cut_answer_never_looks_complete(after_words: bool) -> None:
    secret = "quota of org-12345"
    steps = Fault(answer=ANSWER, cut=1500) if after_words else ScriptedError(status=401, message=secret)
    async with ProviderServer(lambda _: steps) as provider, ConversationManager() as manager:
        responses: tuple[Respond, ...] = (sse_response, json_lines_response, ui_message_response, text_response)
        for respond in responses:

            async def answer(request: Request, respond: Respond = respond) -> Response:
                turn = manager.turn(await manager.create(), "What?", at_chat(provider))
                return respond(turn, request)

            if respond is text_response:
                with pytest.raises(aiohttp.ClientError):
                    await replied(answer)
                continue
            reply = await replied(answer)
            assert reply.status == 200
            assert secret.encode() not in reply.body
            if respond is ui_message_response:
                message = ui_message_of(reply.body)
                assert message.error
                assert bool(message.texts or message.reasoning) is after_words
                continue
            told = (
                events_of(reply.body) if respond is sse_response else list(map(orjson.loads, reply.body.splitlines()))
            )
            assert told[-1]["type"] == "error"
            assert told[-1]["code"] == ("ReadError" if after_words else "AuthenticationError")
            assert ("text_delta" in kinds(told) or "reasoning_delta" in kinds(told)) is after_words


async def test_what_cannot_begin_is_refused_with_a_status() -> None:
    async with ConversationManager() as manager:

        async def gone(request: Request) -> Response:
            return sse_response(manager.attach("nobody"), request)

        reply = await replied(gone)
        assert reply.status == 404
        assert reply.body == b"There is no such answer, or it ended too long ago."


async def test_a_fan_out_is_one_tagged_stream() -> None:
    def script(seen: object) -> Answer | ScriptedError:
        return ScriptedError(status=400, message="no") if "gemini" in str(seen) else ANSWER

    async with ProviderServer(script) as provider, ConversationManager() as manager:
        conversation = await manager.create()
        endpoints = [at_chat(provider), endpoint_at(provider, Dialect.GEMINI)]

        async def answer(request: Request) -> Response:
            return sse_response(manager.fan_out(conversation, "What?", endpoints), request)

        *told, last = events_of((await replied(answer)).body)
        assert last == {"type": "end"}
        first = [frame["event"] for frame in told if frame["index"] == 0 and "event" in frame]
        assert (
            "".join(str(cast("dict[str, object]", event).get("text", "")) for event in first) == f"A fox is red.{TEXT}"
        )
        outcomes = {frame["index"]: frame["outcome"] for frame in told if "outcome" in frame}
        assert outcomes == {0: "complete", 1: "failed"}
        with pytest.raises(ConfigurationError, match="sse_response"):
            ui_message_response(manager.fan_out(conversation, "What?", endpoints), Request({"type": "http"}))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("sdk", [6, 7])
async def test_words_taken_back_by_fail_over(sdk: int) -> None:
    steps = [Fault(answer=ANSWER, cut=900), ANSWER]
    async with ProviderServer(steps) as provider, ConversationManager() as manager:
        plan = Failover([at_chat(provider), endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)])
        turn = manager.turn(await manager.create(), "What?", plan)

        async def answer(request: Request) -> Response:
            return ui_message_response(turn, request, sdk=7 if sdk == 7 else 6)

        message = ui_message_of((await replied(answer)).body)
        assert list(message.texts.values())[-1] == TEXT
        marks = [chunk["type"] for chunk in message.others]
        assert marks == (["reset-step"] if sdk == 7 else ["data-reset"])
        assert message.finish


async def test_a_cursor_of_another_turn_resets_a_tool_loop_once_with_ids_that_count_on() -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    call = Answer(tool_calls=(ScriptedToolCall("c1", "add", '{"a":1,"b":2}'),))
    async with ProviderServer([call, Answer(text="3")]) as provider, ConversationManager() as manager:
        turn = manager.turn(
            await manager.create(),
            "1 + 2?",
            endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES),
            config=AIModelCallConfig(tools=[add]),
            run_tools=ToolPolicy(),
        )
        feed, told = sse_feed(turn, last_event_id="another.turn.3"), [b""]
        async with feed:
            while (data := await feed.read()) is not None:
                told.append(data)
    blocks = blocks_of(b"".join(told))
    assert kinds(events_of(b"".join(told)))[:2] == ["stream_reset", "step_start"]
    assert kinds(events_of(b"".join(told))).count("stream_reset") == 1
    assert len(told) > 2  # batches: the reset is before the first one only
    first, second = (int((block.id or "").rpartition(".")[2]) for block in blocks[:2])
    assert second == first + 1
