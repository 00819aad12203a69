"""Spans and metrics: exactly one ended span each, however a call ends, with the right parent and without content."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from time import time_ns

import anyio
import pytest
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    AiohttpTransport,
    AttemptStarted,
    CallEnded,
    CallStarted,
    ConversationManager,
    ConversationNode,
    ConversationPolicy,
    Dialect,
    EndpointEnded,
    EndpointStarted,
    Failover,
    Message,
    OpenTelemetryObserver,
    Race,
    SharedResources,
    Target,
    ToolCallPart,
    ToolResultPart,
    Usage,
    fan_out,
)
from dhenara_async.calls.input import CallInput
from dhenara_async.calls.observed_loop import ObservedLoop
from dhenara_async.calls.telemetry.attributes import is_vendors
from dhenara_async.calls.telemetry.names import NAMES
from dhenara_async.errors import ConfigurationError, DhenaraError
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from tests.calls.telemetry.telemetry import Telemetry, attributes_of, id_of, parent_of
from tests.loopback import ONCE, SPEAKERS, chat_endpoint, endpoint_at, serve, stalling

CANARY = "the canary sang of Zanzibar"
USAGE = Usage(
    input_tokens=50,
    cache_read_tokens=20,
    cache_write_tokens=None,
    output_tokens=7,
    reasoning_tokens=3,
    source="reported",
)
ANSWER = Answer(f"{CANARY}, twice", usage=USAGE)
COUNTERS = {
    "gen_ai.client.inference.usage.input_tokens": "input_tokens",
    "gen_ai.client.inference.usage.output_tokens": "output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens": "cache_write_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens": "reasoning_tokens",
}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture(autouse=True)
def no_context_is_lost(caplog: pytest.LogCaptureFixture) -> Iterable[None]:
    yield
    assert [record for record in caplog.records if record.name == "opentelemetry.context"] == []
    assert [record for record in caplog.records if "an observer failed" in record.message] == []


async def whole(client: AIModelClient) -> None:
    assert CANARY in (await client.generate(CANARY)).text()


async def failing(client: AIModelClient) -> None:
    with pytest.raises(DhenaraError):
        await client.generate(CANARY)


async def leaving(client: AIModelClient) -> None:
    async with client.stream(CANARY) as stream:
        await anext(stream)


async def cancelled(client: AIModelClient) -> None:
    with anyio.CancelScope() as scope:
        async with client.stream(CANARY) as stream:
            await anext(stream)
            scope.cancel()
            await anyio.sleep_forever()


Way = Callable[[AIModelClient], Awaitable[None]]
WAYS: dict[str, tuple[Answer | Fault | ScriptedError, Way, str | None, str | None]] = {
    "whole": (ANSWER, whole, None, None),
    "cut": (Fault(answer=ANSWER, terminal="missing"), failing, "TruncatedStreamError", None),
    "error before": (ScriptedError(401, CANARY), failing, "AuthenticationError", None),
    "error inside": (Fault(answer=ANSWER, error=ScriptedError(500, CANARY), error_at=3), failing, "ServerError", None),
    "left": (Fault(answer=ANSWER, stall=3), leaving, None, "left"),
    "cancelled": (Fault(answer=ANSWER, stall=3), cancelled, None, "cancelled"),
    "deadline": (Fault(answer=ANSWER, stall="head"), failing, "DeadlineError", None),
}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_a_call_leaves_one_ended_span(dialect: Dialect, way: str, planned: bool, telemetry: Telemetry) -> None:
    step, run, error_type, outcome = WAYS[way]
    limits = {"timeouts": 0.05} if way == "deadline" else {}
    config = AIModelCallConfig.model_validate({"retries": 0, "streaming": True, "max_output_tokens": 99, **limits})
    async with ProviderServer([step]) as server:
        endpoint = endpoint_at(server, dialect)
        target: Target = Failover([endpoint]) if planned else endpoint
        with telemetry.tracers.get_tracer("test").start_as_current_span("outside") as outside:
            await run(AIModelClient(target, config, observers=[telemetry.observer()]))
    operation = "generate_content" if dialect is Dialect.GEMINI else "chat"
    span = telemetry.span(f"{operation} {endpoint.ai_model.model_name}")
    attributes = attributes_of(span)
    assert len(telemetry.spans) == (3 if planned else 2)
    assert (span.kind, attributes["gen_ai.operation.name"]) == (SpanKind.CLIENT, operation)
    assert attributes["gen_ai.request.model"] == endpoint.ai_model.model_name
    assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", int(server.url.rsplit(":")[-1]))
    assert attributes["gen_ai.request.max_tokens"] == 99
    assert attributes.get("error.type") == error_type
    assert attributes.get("dhenara.outcome") == outcome
    assert span.status.status_code is (StatusCode.UNSET if error_type is None else StatusCode.ERROR)
    assert attributes["gen_ai.response.finish_reasons"] == (("stop",) if way == "whole" else ("error",))
    assert [event.name for event in span.events] == (["dhenara.attempt"] if error_type else [])
    around = outside.get_span_context().span_id
    if planned:
        plan = telemetry.span("failover")
        assert (plan.kind, parent_of(plan)) == (SpanKind.INTERNAL, around)
        assert (attributes_of(plan).get("error.type"), plan.status.status_code) == (error_type, span.status.status_code)
        assert not [name for name in attributes_of(plan) if name.startswith("gen_ai.usage")]
        around = id_of(plan)
    assert parent_of(span) == around
    assert [event.log_record.event_name for event in telemetry.events] == (
        ["gen_ai.client.inference.exception"] if error_type else []
    )
    durations = telemetry.metrics()["gen_ai.client.inference.duration"]
    assert [point.get("error.type") for point, _ in durations] == [error_type]
    exported = telemetry.exported()
    assert "Zanzibar" not in exported
    assert "sk-loopback" not in exported
    assert endpoint.api.api_key is not None
    assert endpoint.api.api_key.get_secret_value() not in exported


@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("streaming", [True, False])
async def test_counters_are_the_usage_and_what_is_unknown_is_absent(
    dialect: Dialect, streaming: bool, telemetry: Telemetry
) -> None:
    async with ProviderServer([ANSWER]) as server:
        config = AIModelCallConfig(streaming=streaming)
        client = AIModelClient(endpoint_at(server, dialect), config, observers=[telemetry.observer()])
        response = await client.generate(CANARY)
    usage, metrics = response.chat_response.usage, telemetry.metrics()
    counted = {
        field: sum(value for _, value in metrics.get(name, ())) for name, field in COUNTERS.items() if name in metrics
    }
    known = {field: getattr(usage, field) for field in COUNTERS.values() if getattr(usage, field) is not None}
    assert counted == known
    attributes = attributes_of(telemetry.spans[0])
    assert attributes["gen_ai.usage.input_tokens"] == usage.input_tokens
    assert attributes["gen_ai.usage.output_tokens"] == usage.output_tokens
    assert attributes.get("gen_ai.usage.cache_write.input_tokens") == usage.cache_write_tokens
    assert attributes["gen_ai.response.model"] == response.chat_response.model
    assert attributes.get("gen_ai.response.id") == response.chat_response.response_id
    assert ("gen_ai.response.time_to_first_chunk" in attributes) is streaming
    assert ("gen_ai.client.inference.time_to_first_chunk" in metrics) is streaming
    (point, _), *_ = metrics["gen_ai.client.inference.usage.input_tokens"]
    assert point["gen_ai.token.modality"] == "unknown"
    assert (response.trace_id, response.span_id) == _ids(telemetry.spans[0])


def _ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


async def test_the_older_names_are_a_switch(telemetry: Telemetry) -> None:
    async with ProviderServer([ANSWER]) as server:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        client = AIModelClient(endpoint, ONCE, observers=[telemetry.observer(names="1.41")])
        await client.generate(CANARY)
    metrics = telemetry.metrics()
    tokens = {point["gen_ai.token.type"]: value for point, value in metrics["gen_ai.client.token.usage"]}
    assert tokens == {"input": 50, "output": 7}
    assert "gen_ai.client.operation.duration" in metrics
    assert not [name for name in metrics if "inference" in name]


async def test_retries_are_events_of_one_span(telemetry: Telemetry) -> None:
    again = ScriptedError(503, CANARY, headers={"retry-after": "0"})
    async with ProviderServer([again, ANSWER]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        await AIModelClient(endpoint, observers=[telemetry.observer()]).generate(CANARY)
    (span,) = telemetry.spans
    (event,) = span.events
    assert (span.status.status_code, attributes_of(span)["dhenara.attempts"]) == (StatusCode.UNSET, 2)
    assert event.attributes is not None
    assert (event.name, event.attributes["error.type"]) == ("dhenara.attempt", "OverloadedError")
    assert event.attributes["http.response.status_code"] == 503


async def test_the_loser_of_a_race_is_no_error(telemetry: Telemetry) -> None:
    async with serve(stalling()) as slow, ProviderServer([ANSWER]) as quick:
        winner = endpoint_at(quick, Dialect.ANTHROPIC_MESSAGES)
        client = AIModelClient(Race([chat_endpoint(slow.url), winner]), ONCE, observers=[telemetry.observer()])
        response = await client.generate(CANARY)
    race = telemetry.span("race")
    won = telemetry.span(f"chat {winner.ai_model.model_name}")
    (lost,) = [span for span in telemetry.spans if span not in (race, won)]
    assert attributes_of(lost)["dhenara.outcome"] == "lost"
    assert [span.status.status_code for span in telemetry.spans] == [StatusCode.UNSET] * 3
    assert parent_of(won) == parent_of(lost) == id_of(race)
    assert (response.trace_id, response.span_id) == _ids(won)
    assert "gen_ai.usage.input_tokens" not in attributes_of(lost)


async def test_a_reader_may_sit_in_another_task(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """A span that is current across a ``yield`` is detached in the wrong task, which OpenTelemetry logs."""
    async with ProviderServer([ANSWER]) as server:
        client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), ONCE, observers=[telemetry.observer()])
        stream = client.stream(CANARY)

        async def enter() -> None:
            await stream.__aenter__()
            await anext(stream)

        async def read() -> None:
            await stream.collect()

        for step in (enter, read, stream.aclose):
            await asyncio.get_running_loop().create_task(step())
    assert [span.status.status_code for span in telemetry.spans] == [StatusCode.UNSET]
    assert "dhenara.outcome" not in attributes_of(telemetry.spans[0])


async def test_the_blocking_client_keeps_the_span_around_it(telemetry: Telemetry) -> None:
    async with ProviderServer([ANSWER]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)

        def ask() -> None:
            with telemetry.tracers.get_tracer("test").start_as_current_span("outside"):
                client = AIModelClient(endpoint, ONCE, is_async=False, observers=[telemetry.observer()])
                client.generate(CANARY)

        await asyncio.to_thread(ask)
    assert parent_of(telemetry.span("chat")) == id_of(telemetry.span("outside"))


async def test_a_stream_that_nobody_reads_has_its_span(telemetry: Telemetry) -> None:
    client = AIModelClient(chat_endpoint("http://127.0.0.1:9"), ONCE, observers=[telemetry.observer()])
    async with client.stream(CANARY):
        pass
    (span,) = telemetry.spans
    assert attributes_of(span)["dhenara.outcome"] == "left"


async def test_a_node_keeps_its_place_in_the_trace(telemetry: Telemetry) -> None:
    async with ProviderServer([ANSWER]) as server, ConversationManager(observers=[telemetry.observer()]) as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, CANARY, endpoint_at(server, Dialect.GEMINI))
    (span,) = telemetry.spans
    assert (node.trace_id, node.span_id) == _ids(span)
    assert attributes_of(span)["gen_ai.conversation.id"] == conversation.id
    assert attributes_of(span)["dhenara.turn.id"] == node.id
    assert ConversationNode.model_validate_json(node.model_dump_json()) == node


async def test_a_history_that_is_cut_is_compacted(telemetry: Telemetry) -> None:
    window = ConversationPolicy(keep_turns=1)
    async with (
        ProviderServer([ANSWER] * 3) as server,
        ConversationManager(observers=[telemetry.observer()], window=window) as manager,
    ):
        conversation = await manager.create()
        for _ in range(3):
            await manager.ask(conversation, CANARY, endpoint_at(server, Dialect.OPENAI_CHAT))
    compacted = [attributes_of(span).get("gen_ai.conversation.compacted") for span in telemetry.spans]
    assert compacted == [None, None, True]


@pytest.mark.parametrize("way", ["private_aiohttp", "public_aiohttp"])
async def test_the_http_span_of_aiohttp_is_inside(
    way: str, telemetry: Telemetry, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(way)
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracers)
    try:
        async with ProviderServer([ANSWER, ANSWER]) as server, aclosing(AiohttpTransport()) as transport:
            client = AIModelClient(
                endpoint_at(server, Dialect.OPENAI_CHAT), ONCE, transport=transport, observers=[telemetry.observer()]
            )
            await whole(client)
            await whole(client)
    finally:
        instrumentor.uninstrument()
    http = [span for span in telemetry.spans if span.name == "POST"]
    calls = [span for span in telemetry.spans if span.name.startswith("chat")]
    assert [parent_of(span) for span in http] == [id_of(span) for span in calls]
    assert len(calls) == 2
    sent = [request.headers["traceparent"].split("-")[2] for request in server.requests]
    assert sent == [f"{id_of(span):016x}" for span in http]


@pytest.mark.parametrize("propagate", [True, False])
async def test_a_trace_goes_on_in_a_gateway_of_ones_own_only_if_asked(propagate: bool, telemetry: Telemetry) -> None:
    async with ProviderServer([ANSWER]) as server:
        client = AIModelClient(
            endpoint_at(server, Dialect.OPENAI_CHAT), ONCE, observers=[telemetry.observer(propagate=propagate)]
        )
        await whole(client)
    trace_id, span_id = _ids(telemetry.spans[0])
    sent = server.requests[0].headers
    assert sent.get("traceparent", "").split("-")[1:3] == ([trace_id, span_id] if propagate else [])
    assert "baggage" not in sent


@pytest.mark.parametrize(
    "name",
    ["openai:gpt-5", "anthropic:claude-sonnet-5-5", "google:gemini-3-flash", "groq:x", "together:x", "mistral:x"],
)
def test_a_vendor_is_no_gateway_of_ones_own(name: str) -> None:
    endpoint = AIModelEndpoint.of(name)
    assert is_vendors(expected_origin(endpoint))
    mine = endpoint.changed(api=endpoint.api.changed(base_url="https://llm.example.org/v1"))
    assert not is_vendors(expected_origin(mine))
    theirs = endpoint.changed(api=endpoint.api.changed(base_url="https://eu.api.openai.com/v1"))
    assert is_vendors(expected_origin(theirs))


async def test_a_tool_loop_is_an_agent_with_its_tools_and_calls(telemetry: Telemetry) -> None:
    observer = telemetry.observer()
    call = ToolCallPart(call_id="call_1", name="weather", arguments=f'{{"city": "{CANARY}"}}')
    tracer = telemetry.tracers.get_tracer("test")
    async with ProviderServer([ANSWER]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        origin = expected_origin(endpoint)
        loop = ObservedLoop([observer], "loop-1")
        loop.start(origin, tools=["weather"], max_steps=8, conversation="talk-1")
        client = AIModelClient(endpoint, ONCE, observers=[observer])
        asked = CallInput([Message.user(CANARY)], (), ONCE, stream=True, conversation="talk-1", parent="loop-1")
        async with client.open(asked) as stream:
            await stream.collect()
        for outcome in ("complete", "failed", "denied"):
            tool = loop.tool(call)
            with tool.running(), tracer.start_as_current_span(f"inside {outcome}"):
                pass
            error = LookupError(CANARY) if outcome == "failed" else None
            tool.end(outcome=outcome, error=error, result=ToolResultPart.of(call, CANARY))
        loop.end(origin, steps=1, outcome="complete")
    agent, inference = telemetry.span("invoke_agent"), telemetry.span("chat")
    tools = [span for span in telemetry.spans if span.name == "execute_tool weather"]
    assert {parent_of(span) for span in (inference, *tools)} == {id_of(agent)}
    assert (agent.kind, {span.kind for span in tools}) == (SpanKind.INTERNAL, {SpanKind.INTERNAL})
    assert [attributes_of(span).get("error.type") for span in tools] == [None, "LookupError", None]
    assert [attributes_of(span).get("dhenara.outcome") for span in tools] == [None, None, "denied"]
    assert [parent_of(telemetry.span(f"inside {word}")) for word in ("complete", "failed", "denied")] == [
        id_of(span) for span in tools
    ]
    metrics = telemetry.metrics()
    assert [value for _, value in metrics["gen_ai.invoke_agent.inference_calls"]] == [1]
    assert [value for _, value in metrics["gen_ai.invoke_agent.tool_calls"]] == [3]
    assert {"gen_ai.invoke_agent.duration", "gen_ai.execute_tool.duration"} <= metrics.keys()
    assert "Zanzibar" not in telemetry.exported()


def test_the_extra_is_the_api_alone() -> None:
    """Without an SDK nothing of one is imported, a call works, and nothing is recorded."""
    program = """
import asyncio, sys
from dhenara_async import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelCallConfig, AIModelClient
from dhenara_async import AIModelEndpoint, OpenTelemetryObserver
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
endpoint = AIModelEndpoint.of("openai:gpt-5")
client = AIModelClient(endpoint, AIModelCallConfig(test_mode=True), observers=[OpenTelemetryObserver()])
response = asyncio.run(client.generate("Trees?"))
assert response.text() and response.trace_id is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.instrumentation"))]
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"0\.1\.0, 1\.41"):
        OpenTelemetryObserver(names="2.0")  # type: ignore[arg-type] - what is refused
    assert set(NAMES) == {"0.1.0", "1.41"}


async def test_a_fan_out_is_around_its_calls_alone(telemetry: Telemetry) -> None:
    tracer = telemetry.tracers.get_tracer("test")
    observer = telemetry.observer()
    async with ProviderServer([ANSWER, ScriptedError(401, CANARY)]) as server:
        one, two = (endpoint_at(server, dialect) for dialect in (Dialect.OPENAI_CHAT, Dialect.GEMINI))
        calls = [(one, CANARY), (Failover([two]), CANARY)]
        with tracer.start_as_current_span("outside") as outside:
            async with fan_out(calls, shared=SharedResources(observers=(observer,)), limit=1) as fan:
                await fan.collect()
                with tracer.start_as_current_span("inside the block"):
                    pass
    fan_span, chat, plan = (telemetry.span(name) for name in ("fan_out", "chat", "failover"))
    around = outside.get_span_context().span_id
    assert (fan_span.kind, parent_of(fan_span)) == (SpanKind.INTERNAL, around)
    assert parent_of(telemetry.span("inside the block")) == around
    assert parent_of(chat) == parent_of(plan) == id_of(fan_span)
    assert parent_of(telemetry.span("generate_content")) == id_of(plan)
    attributes = attributes_of(fan_span)
    assert (attributes["dhenara.fan_out.calls"], attributes["dhenara.fan_out.failed"]) == (2, 1)
    assert (fan_span.status.status_code, attributes.get("dhenara.outcome")) == (StatusCode.UNSET, None)


@pytest.mark.parametrize("way", ["left", "cancelled", "failed"])
async def test_a_fan_out_that_does_not_end_by_itself_says_so(way: str, telemetry: Telemetry) -> None:
    def requests(endpoint: AIModelEndpoint) -> Iterable[tuple[AIModelEndpoint, str]]:
        yield endpoint, CANARY
        if way == "failed":
            raise LookupError(CANARY)

    async with serve(stalling()) as server:
        calls = requests(chat_endpoint(server.url))
        with anyio.CancelScope() as scope, suppress(LookupError):
            async with fan_out(calls, shared=SharedResources(observers=(telemetry.observer(),))) as fan:
                await server.asked.wait()
                if way == "cancelled":
                    scope.cancel()
                    await anyio.sleep_forever()
                if way == "failed":
                    await fan.batch()
    fan_span, call = telemetry.span("fan_out"), telemetry.span("chat")
    assert parent_of(call) == id_of(fan_span)
    assert attributes_of(call)["dhenara.outcome"] == "cancelled"
    assert attributes_of(fan_span).get("error.type") == ("LookupError" if way == "failed" else None)
    assert attributes_of(fan_span).get("dhenara.outcome") == (None if way == "failed" else way)
    assert "Zanzibar" not in telemetry.exported()


async def test_the_turns_of_a_fan_out_are_inside(telemetry: Telemetry) -> None:
    async with (
        ProviderServer([ANSWER, ANSWER]) as server,
        ConversationManager(observers=[telemetry.observer()]) as manager,
    ):
        conversation = await manager.create()
        targets = [endpoint_at(server, dialect) for dialect in (Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES)]
        nodes = await manager.fan_out(conversation, CANARY, targets)
    fan_span = telemetry.span("fan_out")
    chats = [span for span in telemetry.spans if span.name.startswith("chat")]
    assert {parent_of(span) for span in chats} == {id_of(fan_span)}
    assert {node.span_id for node in nodes} == {f"{id_of(span):016x}" for span in chats}


def test_a_vendor_gets_no_trace_and_a_span_ends_when_its_answer_does(telemetry: Telemetry) -> None:
    """The protocol alone: with content, the span of a plan's endpoint is kept until the answer is handed over."""
    observer = telemetry.observer(propagate=True, capture_content=True)
    vendors = expected_origin(AIModelEndpoint.of("openai:gpt-5"))
    own = vendors.changed(endpoint="llm.example.org")
    usage, config = Usage(), AIModelCallConfig()
    observer.call_started(CallStarted("call", vendors, config, 1, 0, None, None, plan="failover"))
    for number, endpoint in enumerate((vendors, own), start=1):
        observer.endpoint_started(EndpointStarted("call", number, endpoint, config, (), False, None))
        sent = observer.request_headers(AttemptStarted("call", endpoint, number, number))
        assert list(sent) == ([] if endpoint is vendors else ["traceparent"])
        outcome, error = ("complete", None) if endpoint is own else ("failed", DhenaraError(CANARY))
        told = (None, 200, 1, error, usage, None, None, (), None, 0.5)
        observer.endpoint_ended(EndpointEnded("call", number, endpoint, outcome, *told))
    ended = time_ns()
    assert [span.name for span in telemetry.spans] == ["chat gpt-5"]
    observer.call_ended(CallEnded("call", own, None, 200, 2, None, usage, None, 1.0))
    assert [span.name for span in telemetry.spans] == ["chat gpt-5", "chat gpt-5", "failover"]
    assert (telemetry.spans[1].end_time or ended + 1) <= ended < (telemetry.spans[2].end_time or 0)


async def test_a_log_exporter_that_raises_costs_neither_the_span_nor_the_metrics(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the collector is gone")

    monkeypatch.setattr("dhenara_async.calls.telemetry.events.Events.fail", fail)
    async with ProviderServer([ScriptedError(401, CANARY)]) as server:
        await failing(AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), ONCE, observers=[telemetry.observer()]))
    assert [span.status.status_code for span in telemetry.spans] == [StatusCode.ERROR]
    assert len(telemetry.metrics()["gen_ai.client.inference.duration"]) == 1
