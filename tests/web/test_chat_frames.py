"""Answers of Chat Completions as bytes: sources in texts, calls of old functions, and reasons of the end."""

from typing import Any, cast

import orjson
import pytest

from dhenara_async import Turn
from dhenara_async.errors import DeadlineError
from dhenara_async.events import PartEnd, PartStart, StreamEvent, StreamReset, TextDelta, ToolCallDelta
from dhenara_async.messages.messages import Citation, TextPart, ToolCallPart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.web.openai.chat.feeds import CompletionStreamFeed
from dhenara_async.web.openai.chat.frames import ChatFrames, CompletionHead, completion_body, finish_of

HEAD = CompletionHead("chatcmpl-1", 1, "m")
OLD = CompletionHead("chatcmpl-1", 1, "m", functions=True)
SOURCE = Citation(url="https://a.example", title="A", start=0, end=3)
OWN = Citation(file_id="file-1", start=0, end=3)
TEXT = TextPart(text="One", citations=(SOURCE, OWN))
CALLS = tuple(ToolCallPart(call_id=f"c{at}", name=f"f{at}", arguments='{"a":1}') for at in range(2))


def deltas(head: CompletionHead, events: list[StreamEvent]) -> list[dict[str, Any]]:
    told = ChatFrames(head, include_usage=False).feed(events).decode()
    lines = [line.removeprefix("data: ") for line in told.splitlines() if line]
    return [orjson.loads(line)["choices"][0]["delta"] for line in lines]


def text_events(part_id: int) -> list[StreamEvent]:
    return [PartStart(part_id, "text"), TextDelta(part_id, TEXT.text), PartEnd(part_id, TEXT)]


def message_of(head: CompletionHead, *parts: TextPart | ToolCallPart) -> dict[str, Any]:
    choice = Choice(parts=parts, finish_reason=FinishReason.STOP)
    body = completion_body(head, ChatResponse(choices=(choice,), model="m", provider="p"))
    return orjson.loads(body)["choices"][0]["message"]


def places(annotations: list[dict[str, Any]]) -> list[tuple[int, int]]:
    cited = [annotation["url_citation"] for annotation in annotations]
    return [(each["start_index"], each["end_index"]) for each in cited]


def test_web_sources_are_placed_in_the_whole_content() -> None:
    whole = message_of(HEAD, TEXT, TEXT)
    streamed = deltas(HEAD, [*text_events(0), *text_events(1)])
    assert whole["content"] == "".join(delta.get("content", "") for delta in streamed) == "OneOne"
    assert places(whole["annotations"]) == [(0, 3), (3, 6)]
    assert [place for delta in streamed for place in places(delta.get("annotations", []))] == [(0, 3), (3, 6)]


def test_web_sources_of_an_answer_that_was_begun_again_stand_behind_the_void_words() -> None:
    streamed = deltas(HEAD, [*text_events(0), StreamReset("again"), *text_events(0)])
    content = "".join(delta.get("content", "") for delta in streamed)
    start, end = places(streamed[-1]["annotations"])[0]
    assert (content, content[start:end]) == ("One\n\nOne", "One")
    assert start == 5


def test_a_message_without_a_refusal_says_so() -> None:
    assert message_of(HEAD, TEXT)["refusal"] is None


def test_only_the_first_of_several_calls_is_told_as_a_function_call() -> None:
    events: list[StreamEvent] = []
    for at, call in enumerate(CALLS):
        start = PartStart(at, "tool_call", call_id=call.call_id, name=call.name)
        events += [start, ToolCallDelta(at, call.arguments), PartEnd(at, call)]
    told = [delta["function_call"] for delta in deltas(OLD, events)]
    assert told == [{"name": "f0", "arguments": ""}, {"arguments": '{"a":1}'}]
    message = message_of(OLD, *CALLS)
    assert message["function_call"] == {"name": "f0", "arguments": '{"a":1}'}
    assert "tool_calls" not in message


@pytest.mark.parametrize("finish", [FinishReason.PAUSE, FinishReason.OTHER])
def test_an_answer_that_ended_before_its_end_is_told_as_too_short(finish: FinishReason) -> None:
    assert finish_of(Choice(parts=(TEXT,), finish_reason=finish)) == "length"


async def test_an_answer_that_fails_before_its_first_word_is_left() -> None:
    error, left = DeadlineError(limit="first_event", seconds=1), list[object]()

    class Failing:
        async def __aenter__(self) -> None: ...

        async def batch(self) -> list[StreamEvent]:
            raise error

        async def __aexit__(self, *outcome: object) -> None:
            left.append(outcome[1])

    feed = CompletionStreamFeed(cast("Turn", Failing()), ChatFrames(HEAD, include_usage=False))
    with pytest.raises(DeadlineError):
        await feed.__aenter__()
    assert left == [error]
