"""The spans of tool loops: one agent around its calls and tools, ended once however the loop ends."""

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from pydantic import BaseModel

from dhenara_async import AIModelCallConfig, AIModelClient, ConversationManager, Dialect, Pending, ToolPolicy
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall
from tests.calls.telemetry.telemetry import Telemetry, attributes_of, id_of, parent_of
from tests.loops.tools import SPEAKERS, Studio, endpoint_of, steps


class Count(BaseModel):
    n: int


def names_of(spans: list[ReadableSpan]) -> list[str]:
    return [span.name.split(" ")[0] for span in spans]


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_an_agent_is_around_its_calls_and_tools(dialect: Dialect) -> None:
    telemetry, studio = Telemetry(), Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with (
        ProviderServer(steps(2)) as server,
        ConversationManager(config=config, observers=[telemetry.observer()]) as manager,
    ):
        conversation = await manager.create()
        with telemetry.tracers.get_tracer("test").start_as_current_span("outside") as outside:
            node = await manager.ask(
                conversation, "Paint two.", endpoint_of(server, dialect), run_tools=ToolPolicy(max_steps=8)
            )
    *inner, agent, _ = telemetry.spans
    operation = "generate_content" if dialect is Dialect.GEMINI else "chat"
    assert names_of(inner) == [operation, "execute_tool", operation, "execute_tool", operation]
    assert agent.name == "invoke_agent"
    assert parent_of(agent) == outside.get_span_context().span_id
    assert {parent_of(span) for span in inner} == {id_of(agent)}
    assert attributes_of(agent)["gen_ai.conversation.id"] == conversation.id
    assert attributes_of(agent)["dhenara.loop.id"] == node.loop_id
    assert [span.status.status_code for span in telemetry.spans] == [StatusCode.UNSET] * 7
    assert [each.span_id for each in conversation.nodes] == [f"{id_of(span):016x}" for span in inner[::2]]
    metrics = telemetry.metrics()
    assert [value for _, value in metrics["gen_ai.invoke_agent.inference_calls"]] == [3]
    assert [value for _, value in metrics["gen_ai.invoke_agent.tool_calls"]] == [2]


async def test_a_loop_that_stops_at_its_limit_is_no_error() -> None:
    telemetry, studio = Telemetry(), Studio()
    async with (
        ProviderServer(steps(3)) as server,
        ConversationManager(observers=[telemetry.observer()]) as manager,
    ):
        conversation = await manager.create()
        async with manager.turn(
            conversation,
            "Paint three.",
            endpoint_of(server, Dialect.OPENAI_CHAT),
            config=AIModelCallConfig(tools=studio.tools),
            run_tools=ToolPolicy(max_steps=1),
        ) as turn:
            await turn.collect()
    agent = telemetry.span("invoke_agent")
    assert (attributes_of(agent)["dhenara.outcome"], agent.status.status_code) == ("limit", StatusCode.UNSET)


async def test_a_loop_that_is_cancelled_while_a_tool_runs_ends_its_spans() -> None:
    telemetry = Telemetry()
    running = anyio.Event()

    async def wait() -> str:
        """Wait for ever."""
        running.set()
        await anyio.sleep_forever()
        return ""

    answer = Answer(tool_calls=(ScriptedToolCall("call_1", "wait"),))
    async with (
        ProviderServer([answer]) as server,
        ConversationManager(observers=[telemetry.observer()]) as manager,
        anyio.create_task_group() as tasks,
    ):
        conversation = await manager.create()

        async def ask() -> None:
            config = AIModelCallConfig(tools=[wait])
            endpoint = endpoint_of(server, Dialect.ANTHROPIC_MESSAGES)
            await manager.ask(conversation, "Wait.", endpoint, config=config, run_tools=ToolPolicy())

        tasks.start_soon(ask)
        await running.wait()
        tasks.cancel_scope.cancel()
    assert names_of([*telemetry.spans]) == ["chat", "execute_tool", "invoke_agent"]
    assert [attributes_of(span).get("dhenara.outcome") for span in telemetry.spans] == [None, "cancelled", "cancelled"]
    assert [span.status.status_code for span in telemetry.spans] == [StatusCode.UNSET] * 3


async def test_structured_output_that_is_asked_again_is_no_agent() -> None:
    telemetry = Telemetry()
    config = AIModelCallConfig(structured_output=Count, structured_retries=1)
    async with (
        ProviderServer([Answer('{"n": "one"}'), Answer('{"n": 1}')]) as server,
        ConversationManager(observers=[telemetry.observer()]) as manager,
    ):
        conversation = await manager.create()
        await manager.ask(conversation, "How many?", endpoint_of(server, Dialect.OPENAI_CHAT), config=config)
    assert names_of([*telemetry.spans]) == ["chat", "chat"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_loop_outside_of_conversations_is_an_agent_too(streaming: bool) -> None:
    telemetry, studio = Telemetry(), Studio()
    config = AIModelCallConfig(tools=studio.tools, streaming=streaming)
    async with ProviderServer(steps(1)) as server:
        client = AIModelClient(endpoint_of(server, Dialect.GEMINI), config, observers=[telemetry.observer()])
        await client.generate("Paint one.", run_tools=ToolPolicy())
    *inner, agent = telemetry.spans
    assert names_of([*inner, agent]) == ["generate_content", "execute_tool", "generate_content", "invoke_agent"]
    assert {parent_of(span) for span in inner} == {id_of(agent)}


async def test_a_loop_that_waits_for_an_approval_is_two_agents_of_one_loop() -> None:
    telemetry, studio = Telemetry(), Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with (
        ProviderServer(steps(1)) as server,
        ConversationManager(config=config, observers=[telemetry.observer()]) as manager,
    ):
        conversation, endpoint = await manager.create(), endpoint_of(server, Dialect.ANTHROPIC_MESSAGES)
        policy = ToolPolicy(approve=lambda _: Pending())
        node = await manager.ask(conversation, "Paint one.", endpoint, run_tools=policy)
        waiting = telemetry.span("invoke_agent")
        assert attributes_of(waiting)["dhenara.outcome"] == "pending"
        await manager.resume(conversation, {call.call_id: True for call in node.answer.tools()}, endpoint)
    first, second = [span for span in telemetry.spans if span.name == "invoke_agent"]
    assert attributes_of(first)["dhenara.loop.id"] == attributes_of(second)["dhenara.loop.id"] == node.loop_id
    assert "dhenara.outcome" not in attributes_of(second)
    assert parent_of(telemetry.span("execute_tool")) == id_of(second)
