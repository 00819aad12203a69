"""The usage of answers that were left before their end: estimated by what was received, for every dialect."""

import sys
from decimal import Decimal

import anyio
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Budget,
    ConversationManager,
    Dialect,
    Pricing,
    Rates,
    TextDelta,
    Tool,
    ToolCallDelta,
    Usage,
)
from dhenara_async.calls.partial_usage import estimated_usage
from dhenara_async.errors import BudgetError
from dhenara_async.messages.messages import ReasoningPart, TextPart, ToolCallPart
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall
from tests.loopback import chat_delta, chat_endpoint, endpoint_at, head, serve, stalling

STREAMED = AIModelCallConfig(streaming=True)
WORDS = "one two three four five six seven eight nine ten " * 3
RECEIVED = -(-len(" ".join(WORDS.split()[:23])) // 4)  # the estimate of 23 words: four letters are a token
QUESTION = "Count as far as you can, please."
RATES = Pricing(rates=Rates(input=Decimal(1_000), output=Decimal(1_000)))  # a thousandth for each token


async def left_after_23_words(endpoint: AIModelEndpoint, manager: ConversationManager) -> Usage:
    conversation = await manager.create()
    async with manager.turn(conversation, QUESTION, endpoint, config=STREAMED) as turn:
        count = 0
        async for event in turn:
            count += isinstance(event, TextDelta)
            if count == 23:
                break
    assert turn.node.error == "the reader left before the end"
    assert turn.node.response is not None
    assert len(turn.node.response.text().split()) >= 23  # a read may have brought more than was looked at
    return turn.node.usage


@pytest.mark.parametrize("dialect", list(Dialect))
async def test_an_answer_that_was_left_counts_what_was_received(dialect: Dialect) -> None:
    pieces = tuple(f"{word} " for word in WORDS.split())
    async with (
        ProviderServer([Answer(text="".join(pieces), pieces=pieces)], delay=0.002) as server,
        ConversationManager() as manager,
    ):
        usage = await left_after_23_words(endpoint_at(server, dialect), manager)
    assert usage.source == "estimated"
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    assert 0 < usage.input_tokens <= len(QUESTION)
    assert RECEIVED <= usage.output_tokens <= len(WORDS) // 4
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


async def test_a_budget_counts_the_answers_that_were_left() -> None:
    """Such a host reports usage at the end only; a caller who always leaves must not talk for nothing."""
    play = stalling(head(), chat_delta("a word " * 100), chat_delta("more"))
    async with serve(play) as server, ConversationManager(budget=Budget(tokens=150)) as manager:
        endpoint = chat_endpoint(server.url).changed(pricing=RATES)
        conversation = await manager.create()
        turn = manager.turn(conversation, QUESTION, endpoint, config=STREAMED)
        with anyio.CancelScope() as scope:
            async with turn:
                async for event in turn:
                    if event == TextDelta(0, "more"):
                        scope.cancel()
        assert scope.cancelled_caught
        assert (turn.node.usage.input_tokens, turn.node.usage.output_tokens) == (8, 176)
        assert turn.node.cost == Decimal("0.184")
        with pytest.raises(BudgetError):
            await manager.ask(conversation, "And now?", endpoint)


async def test_the_arguments_of_a_call_count() -> None:
    arguments = '{"city": "' + "Llanfairpwllgwyngyll" * 10 + '"}'
    weather = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
    answer = Answer(tool_calls=(ScriptedToolCall("call_1", "weather", arguments),))
    config = AIModelCallConfig(streaming=True, tools=[weather])
    async with (
        ProviderServer([answer], delay=0.002) as server,
        AIModelClient(endpoint_at(server, Dialect.OPENAI_RESPONSES)).stream(QUESTION, config=config) as stream,
    ):
        async for event in stream:
            if isinstance(event, ToolCallDelta):
                break
    usage = stream.partial.chat_response.usage
    assert usage.source == "estimated"
    assert (usage.output_tokens or 0) >= 1
    assert (usage.input_tokens or 0) > 8  # the declared tool is part of the prompt


async def test_a_complete_answer_keeps_what_was_reported() -> None:
    reported = Usage(input_tokens=7, output_tokens=3)
    async with ProviderServer([Answer(text=WORDS, usage=reported)]) as server:
        client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT))
        async with client.stream(QUESTION) as stream:
            await stream.collect()
        usage = stream.partial.chat_response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (7, 3, "reported")


async def test_a_request_without_any_answer_has_no_usage() -> None:
    async with (
        serve(stalling(head())) as server,
        AIModelClient(chat_endpoint(server.url)).stream(QUESTION) as stream,
    ):
        with anyio.move_on_after(0.05):
            await anext(stream)
    assert stream.partial.chat_response.usage == Usage()


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (None, (10, 8, 3)),
        (Usage(input_tokens=40, output_tokens=1, total_tokens=41, source="reported"), (40, 8, 3)),
        (Usage(input_tokens=40, output_tokens=90, source="reported"), (40, 90, 3)),
        (Usage(output_tokens=60, reasoning_tokens=50, source="reported"), (10, 60, 50)),
        (Usage(output_tokens=1, reasoning_tokens=50, source="reported"), (10, 55, 50)),
    ],
)
def test_reports_and_estimates(reported: Usage | None, expected: tuple[int, int, int]) -> None:
    parts = (
        ReasoningPart(text="twelve chars"),
        TextPart(text="eight ch"),
        ToolCallPart(call_id="1", name="f", arguments='{"a":1}'),
    )
    usage = estimated_usage(reported, parts, 10)
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == expected
    assert usage.total_tokens == expected[0] + expected[1]
    assert usage.source == "estimated"


async def test_without_the_extra_the_response_says_why_it_has_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    async with ProviderServer() as server:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        response = await AIModelClient(endpoint).generate("Hi.")
        own = await AIModelClient(endpoint.changed(pricing=RATES)).generate("Hi.")
    assert response.cost() is None
    assert response.charge() is None
    assert response.chat_response.cost() is None
    (warning,) = response.warnings
    assert (warning.code, warning.knob) == ("price_unknown", "pricing")
    assert "dhenara-async[prices]" in warning.message
    assert own.cost() is not None
    assert own.warnings == ()
