"""Calls that fail, hang or do not exist, limits, deadlines, cancellation, and answers that must fit a schema."""

import asyncio
import subprocess
import sys
from contextvars import ContextVar
from dataclasses import dataclass

import anyio
import orjson
import pytest
from pydantic import BaseModel

from dhenara_async import (
    AIModelCallConfig,
    Budget,
    ConversationManager,
    Dialect,
    StreamEvent,
    ToolContext,
    ToolEnd,
    ToolPolicy,
    ToolStart,
)
from dhenara_async.errors import BudgetError, ConfigurationError, DeadlineError
from dhenara_async.messages.messages import ToolCallPart
from dhenara_async.testing import Answer, Fault, ProviderServer, check_grammar
from tests.loopback import PATIENCE
from tests.loops.tools import SPEAKERS, Studio, call, endpoint_of, paint_step, steps
from tests.steady import steady

CHAT = Dialect.OPENAI_CHAT


class Picture(BaseModel):
    """A picture."""

    title: str
    price: int


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_every_call_gets_a_result_whatever_it_does(dialect: Dialect) -> None:
    wrong = '{"number": "none"}'
    answer = paint_step(
        1,
        call(1, "paint", '{"number": 7}'),
        call(2, "fail"),
        call(3, "hang"),
        call(4, "sculpt"),
        call(5, "paint", wrong),
    )
    script = [answer, Answer(text='{"title": "Fox", "price": 3}')]

    async def attempt(limit: float) -> None:
        studio, policy = Studio(), ToolPolicy(timeout=limit)
        config = AIModelCallConfig(tools=studio.tools, structured_output=Picture)
        async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
            conversation = await manager.create()
            async with manager.turn(conversation, "Paint.", endpoint_of(server, dialect), run_tools=policy) as turn:
                events: list[StreamEvent] = [event async for event in turn]
            assert [seen.error for seen in server.requests] == [None, None]
        check_grammar(events)
        assert turn.response.structured() == Picture(title="Fox", price=3)
        results = turn.node.tool_results
        assert [result.is_error for result in results] == [False, True, True, True, True]
        words = [result.get_text() for result in results]
        assert words[0] == "picture 7 is painted"
        assert words[1] == "ValueError: no paint is left"
        assert words[2] == f"the tool did not answer within {limit} seconds and was stopped"
        assert words[3] == "there is no tool 'sculpt'; there are: paint, fail, hang"
        assert "do not fit" in words[4]
        assert studio.painted == [7]
        assert studio.cancelled == 1

    await steady(attempt, 0.2)


@pytest.mark.parametrize("dialect", [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES])
async def test_arguments_that_do_not_parse_go_back_to_the_model(dialect: Dialect) -> None:
    studio = Studio()
    script = [paint_step(1, call(1, "paint", '{"number": 7')), paint_step(2), Answer(text="Done.")]
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "Paint.", endpoint_of(server, dialect), run_tools=ToolPolicy())
        assert [seen.error for seen in server.requests] == [None] * 3
    assert node.answer.text() == "Done."
    assert conversation.path()[1].tool_results[0].is_error
    assert studio.painted == [2]


async def test_the_limit_ends_with_a_warning_and_can_be_resumed() -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer(steps(4)) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, Dialect.ANTHROPIC_MESSAGES)
        turn = manager.turn(conversation, "Paint.", endpoint, run_tools=ToolPolicy(max_steps=2))
        node = await turn
        assert turn.outcome == "limit"
        assert [warning.code for warning in node.warnings] == ["tool_limit"]
        assert turn.response.warnings == node.warnings
        assert studio.painted == [1]
        more = manager.resume(conversation, {}, endpoint, run_tools=ToolPolicy())
        last = await more
        assert more.outcome == "complete"
        assert studio.painted == [1, 2, 3, 4]
        assert last.answer.text() == "All is painted."
        assert {each.loop_id for each in conversation.nodes} == {turn.id}
        assert [seen.error for seen in server.requests] == [None] * 5


async def test_unanswered_calls_never_reach_a_provider_without_results() -> None:
    config = AIModelCallConfig(tools=Studio().tools)
    async with ProviderServer([paint_step(1), Answer(text="Hello.")]) as server, ConversationManager() as manager:
        conversation = await manager.create()
        first = endpoint_of(server, Dialect.OPENAI_RESPONSES)
        await manager.turn(conversation, "Paint.", first, config=config, run_tools=ToolPolicy(max_steps=1))
        node = await manager.ask(conversation, "Never mind.", endpoint_of(server, Dialect.ANTHROPIC_MESSAGES))
        assert [seen.error for seen in server.requests] == [None] * 2
    assert node.answer.text() == "Hello."


@pytest.mark.parametrize("how", ["leave", "cancel", "detach"])
async def test_whoever_leaves_cancels_the_running_tool(how: str) -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    script = [paint_step(1, call(1, "paint", '{"number": 1}'), call(2, "hang")), Answer(text="Done.")]
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        turn = manager.turn(conversation, "Paint.", endpoint, run_tools=ToolPolicy(timeout=None))

        async def read() -> None:
            async with turn:
                async for event in turn:
                    if isinstance(event, ToolEnd) and how != "cancel":
                        if how == "detach":
                            turn.detach()
                        break

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await asyncio.wait_for(studio.hanging.wait(), PATIENCE)
            if how == "cancel":
                group.cancel_scope.cancel()
        if how == "detach":
            await manager.cancel(turn.id)
        assert studio.cancelled == 1
        assert turn.outcome is None
        assert turn.node.answer.tools()[0].name == "paint"
        # what was seen is not run again
        studio.hanging.clear()
        async with manager.resume(conversation, {"call_2": "it takes too long"}, endpoint) as more:
            events = [event async for event in more]
        check_grammar(events)
        assert more.node.answer.text() == "Done."
    assert studio.painted == [1]
    assert [event.call.name for event in events if isinstance(event, ToolStart)] == ["hang"]
    denied = more.node.tool_results[1]
    assert denied.get_text() == "the user did not allow this call: it takes too long"
    assert (denied.denied, denied.is_error) == (True, True)
    assert [b'"denied"' in result.model_dump_json().encode() for result in more.node.tool_results] == [False, True]


async def test_a_cancelled_read_loses_nothing_while_tools_run() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        started.set()
        await go_on.wait()
        return "waited"

    config = AIModelCallConfig(tools=[wait])
    script = [paint_step(1, call(1, "wait")), Answer(text="Done.")]
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        async with manager.turn(conversation, "Wait.", endpoint_of(server, CHAT), run_tools=ToolPolicy()) as turn:
            events: list[StreamEvent] = []
            cancelled = 0
            while True:
                try:
                    events.append(await asyncio.wait_for(anext(turn), 0.05))
                except TimeoutError:
                    cancelled += 1
                    if cancelled == 3:
                        go_on.set()
                except StopAsyncIteration:
                    break
    check_grammar(events)
    assert cancelled >= 3
    assert turn.node.answer.text() == "Done."


async def test_the_time_limit_of_a_call_holds_over_the_loop() -> None:
    async def attempt(limit: float) -> None:
        studio = Studio()
        config = AIModelCallConfig(tools=studio.tools, timeouts=limit)
        script = [paint_step(1, call(1, "hang")), Answer(text="Done.")]
        async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
            conversation = await manager.create()
            with pytest.raises(DeadlineError, match="total"):
                await manager.turn(conversation, "Hang.", endpoint_of(server, CHAT), run_tools=ToolPolicy())
            assert studio.cancelled == 1
            assert [node.status for node in conversation.nodes] == ["complete"]

    await steady(attempt, 0.3)


async def test_the_budget_holds_over_the_loop() -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with (
        ProviderServer(steps(9)) as server,
        ConversationManager(config=config, conversation_budget=Budget(tokens=400)) as manager,
    ):
        conversation = await manager.create()
        with pytest.raises(BudgetError):
            await manager.turn(conversation, "Paint.", endpoint_of(server, CHAT), run_tools=ToolPolicy(max_steps=20))
    assert 0 < len(conversation.nodes) < 9


async def test_an_answer_that_does_not_fit_is_asked_again() -> None:
    studio = Studio()
    script = [paint_step(1), Answer(text='{"title": "Fox"}'), Answer(text='{"title": "Fox", "price": 3}')]
    config = AIModelCallConfig(tools=studio.tools, structured_output=Picture, structured_retries=2)
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        turn = manager.turn(conversation, "Paint.", endpoint_of(server, CHAT), run_tools=ToolPolicy())
        node = await turn
        assert node.answer.structured(Picture) == Picture(title="Fox", price=3)
        assert len(turn.nodes) == 3
        assert "price" in node.user_query
        again = [Answer(text="no"), Answer(text="no"), Answer(text="no")]
        async with ProviderServer(again) as stubborn:
            turn = manager.turn(conversation, "Again.", endpoint_of(stubborn, CHAT))  # without run_tools
            assert (await turn).answer.text() == "no"
            assert len(turn.nodes) == 3


async def test_leaving_closes_the_request_of_a_later_step() -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    script = [paint_step(1), Fault(answer=Answer(text="Half of it."), stall=3), Answer(text="Whole.")]
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        async with manager.turn(conversation, "Paint.", endpoint, run_tools=ToolPolicy()) as turn:
            async for event in turn:
                if event.type == "text_delta" and event.text == "Half":
                    break
        assert [node.status for node in turn.nodes] == ["complete", "interrupted"]
        with anyio.fail_after(PATIENCE):
            await server.wait_closed()
        assert server.closed[0].by == "client"
        assert (await manager.resume(conversation, {}, endpoint)).answer.text() == "Whole."
        assert [seen.error for seen in server.requests] == [None] * 3
    assert studio.painted == [1]
    assert [node.answer.text() for node in conversation.path()] == ["Step 1.", "Whole."]


async def test_a_tool_that_asks_its_own_conversation_is_told_at_once() -> None:
    async with ProviderServer([paint_step(1, call(1, "ask")), Answer(text="Done.")]) as server:
        async with ConversationManager() as manager:
            conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)

            async def ask() -> str:
                return (await manager.ask(conversation, "And you?", endpoint)).answer.text()

            config = AIModelCallConfig(tools=[ask])
            node = await manager.ask(conversation, "Ask.", endpoint, config=config, run_tools=ToolPolicy())
        assert node.tool_results[0].get_text().startswith("StreamStateError: a tool cannot wait for a turn")
        assert node.answer.text() == "Done."


async def test_a_forced_tool_is_forced_once() -> None:
    config = AIModelCallConfig(tools=Studio().tools, tool_choice="required")
    async with ProviderServer([*steps(1), *steps(1)]) as server, ConversationManager(config=config) as manager:
        endpoint = endpoint_of(server, CHAT)
        await manager.ask(await manager.create(), "Paint.", endpoint, run_tools=ToolPolicy())
        await manager.client(endpoint).generate("Paint.", run_tools=ToolPolicy())
        bodies = [orjson.loads(seen.body) for seen in server.requests]
    assert [body["tool_choice"] for body in bodies] == ["required", "auto"] * 2


@dataclass
class User:
    name: str


async def test_tools_get_the_context_and_the_context_variables_of_the_caller() -> None:
    request: ContextVar[str] = ContextVar("request", default="none")

    def greet(word: str, user: ToolContext[User]) -> str:
        """Greet the user.

        Args:
            word: A word.
            user: Never seen by the model.
        """
        return f"{word}, {user.name} ({request.get()})"

    script = [paint_step(1, call(1, "greet", '{"word": "Hello"}')), Answer(text="Done.")]
    config = AIModelCallConfig(tools=[greet])
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        with pytest.raises(ConfigurationError, match="takes a User as its context"):
            manager.turn(conversation, "Greet.", endpoint, run_tools=ToolPolicy())
        request.set("request 7")
        node = await manager.ask(conversation, "Greet.", endpoint, run_tools=ToolPolicy(context=User("Ada")))
        assert node.tool_results[0].get_text() == "Hello, Ada (request 7)"
        assert b"Never seen" not in server.requests[0].body
        assert b'"user":' not in server.requests[0].body.split(b'"tools"')[1]


async def test_on_error_words_a_failure_or_ends_the_loop() -> None:
    studio = Studio()

    def hide(call: ToolCallPart, exc: BaseException) -> str | None:
        return f"{call.name} is out of order"

    def stop(call: ToolCallPart, exc: BaseException) -> str | None:
        raise exc

    script = [paint_step(1, call(1, "fail"), call(2, "hang")), Answer(text="Done.")]
    config = AIModelCallConfig(tools=studio.tools)
    async with (
        ProviderServer([script[0], script[1], script[0]]) as server,
        ConversationManager(config=config) as manager,
    ):
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        policy = ToolPolicy(on_error=hide, timeout=0.1)
        node = await manager.ask(conversation, "Fail.", endpoint, run_tools=policy)
        assert [result.get_text() for result in node.tool_results] == ["fail is out of order", "hang is out of order"]
        with pytest.raises(ValueError, match="no paint is left"):
            await manager.turn(conversation, "Fail.", endpoint, run_tools=ToolPolicy(on_error=stop))
    assert studio.cancelled == 2


async def test_a_tool_without_a_function_is_refused() -> None:
    from dhenara_async import Tool

    config = AIModelCallConfig(tools=[Tool(name="elsewhere")])
    async with ProviderServer() as server, ConversationManager(config=config) as manager:
        with pytest.raises(ConfigurationError, match="no function to run"):
            manager.turn(await manager.create(), "Hi.", endpoint_of(server, CHAT), run_tools=ToolPolicy())


def test_a_function_that_never_returns_does_not_keep_the_program_from_ending() -> None:
    code = """
import anyio, threading
from dhenara_async import ToolCallPart, run_tools

def hang() -> str:
    threading.Event().wait()
    return "never"

async def main() -> None:
    with anyio.move_on_after(0.05):
        await run_tools([ToolCallPart(call_id="1", name="hang")], [hang])
    print("over")

anyio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("over\n", "")
