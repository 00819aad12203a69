"""Calls outside of conversations that run their tools: asynchronous, blocking, and with a plan."""

from collections.abc import Sequence
from itertools import permutations

import anyio.to_thread
import pytest
from pydantic import BaseModel

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Dialect,
    Observer,
    Router,
    StepStart,
    StreamEvent,
    ToolApprovalRequest,
    ToolPolicy,
)
from dhenara_async.calls.observer import CallStarted, LoopEnded, LoopStarted, ToolEnded, ToolStarted
from dhenara_async.messages.messages import Message
from dhenara_async.testing import Answer, ProviderServer, check_grammar
from dhenara_async.tools.policy import Pending
from tests.loops.tools import SPEAKERS, Studio, endpoint_of, paint_step, steps

CHAT = Dialect.OPENAI_CHAT


class Picture(BaseModel):
    """A picture."""

    title: str


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_stream_and_generate_run_tools(dialect: Dialect) -> None:
    studio, last = Studio(), Answer(text='{"title": "Fox"}')
    config = AIModelCallConfig(tools=studio.tools, structured_output=Picture)
    async with ProviderServer([*steps(2, last), *steps(2, last)]) as server:
        client = AIModelClient(endpoint_of(server, dialect), config)
        async with client.stream("Paint.", run_tools=ToolPolicy()) as stream:
            events: list[StreamEvent] = [event async for event in stream]
        check_grammar(events)
        assert [event.node_id for event in events if isinstance(event, StepStart)] == [None] * 3
        assert stream.outcome == "complete"
        assert len(stream.responses) == 3
        assert stream.response.structured() == Picture(title="Fox")
        assert stream.partial_structured() == {"title": "Fox"}
        response = await client.generate("Paint.", run_tools=ToolPolicy())
        assert response.structured() == Picture(title="Fox")
        assert [seen.error for seen in server.requests] == [None] * 6
    assert studio.painted == [1, 2, 1, 2]


async def test_a_blocking_client_runs_tools() -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([*steps(2), *steps(1)]) as server:
        endpoint = endpoint_of(server, CHAT)

        def ask() -> tuple[str, Sequence[StreamEvent]]:
            client = AIModelClient(endpoint, config, is_async=False)
            text = client.generate("Paint.", run_tools=ToolPolicy()).text()
            with client.stream("Paint.", run_tools=ToolPolicy()) as stream:
                return text, list(stream)

        text, events = await anyio.to_thread.run_sync(ask)
    check_grammar(events)
    assert text == "All is painted."
    assert studio.painted == [1, 2, 1]


async def test_a_call_that_waits_ends_the_loop() -> None:
    config = AIModelCallConfig(tools=Studio().tools)
    async with ProviderServer(steps(1)) as server:
        client = AIModelClient(endpoint_of(server, CHAT), config)
        async with client.stream("Paint.", run_tools=ToolPolicy(approve=lambda _: Pending)) as stream:
            events = [event async for event in stream]
    assert isinstance(events[-1], ToolApprovalRequest)
    assert stream.outcome == "pending"
    assert stream.response.chat_response.tools()


async def test_answers_are_asked_again_without_a_policy() -> None:
    config = AIModelCallConfig(structured_output=Picture, structured_retries=1)
    async with ProviderServer([Answer(text="Fox!"), Answer(text='{"title": "Fox"}')]) as server:
        response = await AIModelClient(endpoint_of(server, CHAT), config).generate("Paint.")
    assert response.structured() == Picture(title="Fox")


def answers_before(messages: Sequence[Message]) -> int:
    return sum(message.role == "assistant" for message in messages)


def alternating(first: AIModelEndpoint, second: AIModelEndpoint) -> Router:
    """A plan whose endpoint changes with every answer."""
    return Router(lambda messages, _: (first, second)[answers_before(messages) % 2])


@pytest.mark.parametrize("kept", [True, False])
async def test_the_model_changes_after_each_step_in_every_pair_of_dialects(kept: bool) -> None:
    for first, second in permutations(SPEAKERS, 2):
        studio = Studio()
        config = AIModelCallConfig(tools=studio.tools, streaming=first is CHAT)
        async with ProviderServer(steps(4)) as server:
            router = alternating(endpoint_of(server, first), endpoint_of(server, second))
            if kept:
                async with ConversationManager(config=config) as manager:
                    conversation = await manager.create()
                    await manager.turn(conversation, "Paint.", router, run_tools=ToolPolicy())
                    answer = conversation.last_answer()
            else:
                response = await AIModelClient(router, config).generate("Paint.", run_tools=ToolPolicy())
                answer = response.chat_response
            assert answer.text() == "All is painted.", (first, second)
            assert [seen.error for seen in server.requests] == [None] * 5, (first, second)
            assert [seen.dialect for seen in server.requests] == [first, second, first, second, first]
        assert studio.painted == [1, 2, 3, 4]


class Notes(Observer):
    """Collects the records of loops."""

    wants_content = True

    def __init__(self) -> None:
        self.records: list[object] = []

    def call_started(self, record: CallStarted) -> None:
        self.records.append(("call", record.parent))

    def loop_started(self, record: LoopStarted) -> None:
        self.records.append(("loop", record.loop_id, record.tools[0], record.max_steps))

    def tool_started(self, record: ToolStarted) -> None:
        self.records.append(("tool", record.number, record.arguments))

    def tool_ended(self, record: ToolEnded) -> None:
        self.records.append(("tool ended", record.number, record.outcome))

    def loop_ended(self, record: LoopEnded) -> None:
        self.records.append(("loop ended", record.steps, record.tool_calls, record.outcome))


async def test_observers_see_the_loop_its_calls_and_its_tools() -> None:
    notes, script = Notes(), [paint_step(1), Answer(text="Done.")]
    config = AIModelCallConfig(tools=Studio().tools)
    async with (
        ProviderServer(script) as server,
        ConversationManager(config=config, observers=[notes]) as manager,
    ):
        turn = manager.turn(await manager.create(), "Paint.", endpoint_of(server, CHAT), run_tools=ToolPolicy())
        await turn
    assert notes.records == [
        ("loop", turn.id, "paint", 8),
        ("call", turn.id),
        ("tool", 1, '{"number": 1}'),
        ("tool ended", 1, "complete"),
        ("call", turn.id),
        ("loop ended", 2, 1, "complete"),
    ]
