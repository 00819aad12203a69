"""What users write must type-check. Never run; pyright reads it."""

from decimal import Decimal
from pathlib import Path
from typing import assert_never, assert_type

from pydantic import BaseModel, JsonValue

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelCallResponse,
    AIModelClient,
    AIModelEndpoint,
    ChatResponse,
    Citation,
    ConversationManager,
    ConversationNode,
    ConversionCheck,
    ConversionPolicy,
    Decision,
    Dialect,
    Experiment,
    Failover,
    FanOut,
    FilePart,
    Heartbeat,
    Host,
    HostedTool,
    McpServer,
    Message,
    ModelCall,
    Outcome,
    PartEnd,
    PartStart,
    Pending,
    PromptFormatter,
    Quirks,
    Race,
    ReasoningDelta,
    RefusalDelta,
    ResponseStream,
    Role,
    Router,
    Seam,
    StepStart,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TaggedBatch,
    TaggedEvent,
    Target,
    TextDelta,
    TextPart,
    Tool,
    ToolApprovalRequest,
    ToolCallDelta,
    ToolEnd,
    ToolPolicy,
    ToolProgress,
    ToolResultPart,
    ToolStart,
    Usage,
    UsageUpdate,
    as_completed,
    fan_out,
    first_of,
    gather,
    register_driver,
    register_host,
    run_tools,
)
from dhenara_async.calls.blocking import BlockingClient
from dhenara_async.drivers import Driver
from dhenara_async.errors import APIError, DeadlineError
from dhenara_async.models.anthropic import ClaudeSonnet55

api = AIModelAPI(provider=AIModelAPIProviderEnum.OPEN_AI, base_url="http://127.0.0.1:1/v1", dialect=Dialect.OPENAI_CHAT)
endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="any"))
other = AIModelEndpoint(api=AIModelAPI(provider=AIModelAPIProviderEnum.ANTHROPIC), ai_model=ClaudeSonnet55)


async def calls() -> None:
    client = AIModelClient(model_endpoint=endpoint, config=AIModelCallConfig(max_output_tokens=10, stop=["x"]))
    assert_type(client, AIModelClient)
    response = await client.generate(prompt="hello", context=["a", Message.user("b")], instructions=["c"])
    assert_type(response, AIModelCallResponse)
    assert_type(response.chat_response, ChatResponse)
    assert_type(response.chat_response.choices[0].contents[0].get_text(), str)
    assert_type(response.chat_response.usage, Usage)
    async with client, client.stream(messages=[Message.user("x", FilePart.from_path("y.png"))]) as stream:
        assert_type(stream, ResponseStream)
        async for event in stream:
            assert_type(event, StreamEvent)
            handle(event)
    assert_type(stream.response, AIModelCallResponse)
    assert_type(stream.partial_structured(), JsonValue)


async def plans() -> None:
    failover = Failover([endpoint, other], mode="continue", on=APIError, continuation="Go on.")
    race = Race((endpoint, failover), hedge_after="p95")
    router = Router(lambda said, config: "few" if len(said) < config.retries.attempts else race, {"few": endpoint})
    strong = Router(strengths={"images": other, "anything": failover})
    experiment = Experiment({"a": endpoint, "b": (router, 0.5)}, sticky_by="user", name="greeting")
    assert_type(
        Failover([endpoint], on=[APIError, DeadlineError]).counts(DeadlineError(limit="total", seconds=1)), bool
    )
    assert_type(Failover([endpoint], on=lambda error: error.retryable).targets, tuple[Target, ...])
    plan: Target = Experiment({"a": race, "b": strong}, sticky_by=lambda said, config: said[-1].get_text())
    assert_type(AIModelClient(failover), AIModelClient)
    assert_type(AIModelClient(model_endpoint=experiment, is_async=False), BlockingClient)
    async with AIModelClient(race).stream(prompt="hello") as stream:
        async for event in stream:
            assert_type(event, StreamEvent)
    assert_type(stream.response.plan, tuple[Decision, ...])
    assert_type(stream.response.seams, tuple[Seam, ...])
    assert_type(await AIModelClient(plan).generate("hello"), AIModelCallResponse)
    async with ConversationManager() as manager:
        conversation = await manager.create()
        for target in (failover, race, router, strong, experiment, plan, endpoint):
            async with manager.turn(conversation, "hello", target) as turn:
                assert_type(await turn.collect(), AIModelCallResponse)
            assert_type(await manager.ask(conversation, "and?", target), ConversationNode)
            assert_type(manager.check(conversation, target, tool_results=()), ConversionCheck)
    assert_type(turn.node.plan, tuple[Decision, ...])


def handle(event: StreamEvent) -> str:
    match event:
        case TextDelta(text=text) | ReasoningDelta(text=text) | RefusalDelta(text=text):
            return text
        case ToolCallDelta(arguments=arguments):
            return arguments
        case PartEnd(part=part):
            return part.get_text()
        case StreamStart() | PartStart() | UsageUpdate() | Heartbeat() | StreamReset() | StreamSeam() | StreamEnd():
            return event.type
        case StepStart(node_id=node_id):
            return node_id or ""
        case ToolStart(call=call) | ToolProgress(call=call) | ToolApprovalRequest(call=call):
            return call.name
        case ToolEnd(result=result):
            return result.get_text()
        case _:
            assert_never(event)


def servers_of_tools() -> None:
    servers = [
        McpServer.http("https://example.com/mcp", headers={"x-key": "…"}, auth="…", name="crm", allow=["find"]),
        McpServer.stdio("python", ["server.py"], env={"KEY": "…"}, pins={"find": "…"}),
        McpServer.stdio("python", "-m", "server", timeout=None),
    ]
    assert_type(servers[0], McpServer)
    config = AIModelCallConfig(tools=[weather, *servers, HostedTool(type="mcp", options={"server_url": "https://…"})])
    assert_type(config.tools, tuple[Tool | HostedTool | McpServer, ...])
    assert_type(config.declared_tools, tuple[Tool | HostedTool, ...])


def blocking() -> None:
    client = AIModelClient(model_endpoint=endpoint, config=AIModelCallConfig(), is_async=False)
    assert_type(client, BlockingClient)
    assert_type(client.generate(prompt="hello"), AIModelCallResponse)
    assert_type(client.warm_up(), None)
    with client.stream(prompt="hello") as stream:
        for event in stream:
            assert_type(event, StreamEvent)


class Person(BaseModel):
    name: str


def weather(city: str) -> str:
    return city


async def saying() -> None:
    config = AIModelCallConfig(tools=[weather, Person, HostedTool(type="web_search")], structured_output=Person)
    client = AIModelClient(endpoint, config)
    response = await client.generate(messages=[Message.user("x")])
    assert_type(response.structured(Person), Person)
    assert_type(response.cost(), Decimal | None)
    assert_type(response.chat_response.as_message(), Message)
    assert_type(response.chat_response.citations(), tuple[Citation, ...])
    assert_type(await run_tools(response.chat_response.tools(), config.tools), tuple[ToolResultPart, ...])


async def conversations() -> None:
    async with ConversationManager(policy=ConversionPolicy(strict=True)) as manager:
        conversation = await manager.create()
        async with manager.turn(
            conversation, "hello", endpoint, instructions=["be brief"], files=[Path("a.png")]
        ) as turn:
            async for event in turn:
                assert_type(event, StreamEvent)
        assert_type(turn.node, ConversationNode)
        assert_type(await manager.ask(conversation, "and?", other), ConversationNode)
        formatted = PromptFormatter.format_conversation(conversation.path(), endpoint)
        assert_type(formatted.messages, tuple[Message, ...])
    node = ConversationNode(user_query="q", attached_files=[], response=None, timestamp="2026-11-22T00:00:00")
    prompts = PromptFormatter.format_conversion_node_as_prompts(
        model=ClaudeSonnet55, user_query="q", attached_files=[], previous_response=[]
    )
    assert_type(prompts, list[Message])
    assert_type(Message(role=Role.USER, parts=[TextPart(text="x")]), Message)
    assert_type(node.model_dump_json(), str)


async def many() -> None:
    requests = [(endpoint, "a"), (other, Message.user("b"), AIModelCallConfig()), ModelCall(other, "c", key=7)]
    assert_type(await fan_out(requests, limit=50), list[Outcome])
    async with fan_out(((endpoint, f"{number}") for number in range(9)), connecting=2) as fan:
        assert_type(fan, FanOut)
        async for tagged in fan:
            assert_type(tagged, TaggedEvent)
            assert_type(tagged.event, StreamEvent)
        assert_type(await fan.batch(), TaggedBatch | None)
        fan.cancel(1)
    assert_type([result.unwrap() for result in fan.results], list[AIModelCallResponse])
    assert_type(await gather([(endpoint, "a"), (other, "b")], limit=2), list[AIModelCallResponse])
    assert_type(await first_of(1, [(endpoint, "a")]), list[AIModelCallResponse])
    async with as_completed(requests, config=AIModelCallConfig(streaming=True)) as ended:
        async for outcome in ended:
            assert_type(outcome, Outcome)
    async with ConversationManager() as manager:
        conversation = await manager.create()
        async with manager.fan_out(conversation, "a", [endpoint, other]) as turns:
            async for tagged in turns:
                assert_type(tagged.event, StreamEvent)
        assert_type(turns.nodes, tuple[ConversationNode, ...])
        assert_type(await manager.fan_out(conversation, "b", [endpoint]), tuple[ConversationNode, ...])


class Answered(BaseModel):
    city: str


def add(a: int, b: int) -> int:
    return a + b


async def look_up(city: str) -> Answered:
    return Answered(city=city)


async def tools(client: AIModelClient) -> None:
    offered = [add, look_up, Answered, Tool.from_function(add, strict=True), HostedTool(type="web_search")]
    config = AIModelCallConfig(tools=offered, tool_choice="auto", structured_output=Answered)
    assert_type(config.tools, tuple[Tool | HostedTool | McpServer, ...])
    response = await client.generate(prompt="x", config=config)
    assert_type(await run_tools(response.chat_response.tools(), offered), tuple[ToolResultPart, ...])
    assert_type(await client.generate("x", run_tools=ToolPolicy(max_steps=2)), AIModelCallResponse)
    async with client.stream("x", config=config, run_tools=ToolPolicy(approve=lambda call: Pending)) as loop:
        async for event in loop:
            assert_type(event, StreamEvent)
    assert_type(loop.responses, list[AIModelCallResponse])
    assert_type(response.structured(), object)
    assert_type(response.structured(Answered), Answered)
    assert_type(response.chat_response.structured(list[int], choice=1), list[int])


def made_elsewhere(driver: Driver) -> None:
    assert_type(register_driver("acme_lines", lambda host: made_for(host, driver)), None)
    row = Host(
        "https://api.acme.test",
        "acme_lines",
        key_variables=("ACME_API_KEY",),
        quirks=Quirks(max_tokens_field="max_completion_tokens"),
        fetches=lambda part: part.kind == "image",
    )
    assert_type(register_host("acme", row), None)
    assert_type(register_host("plain", Host(base_url=None, dialect=Dialect.GEMINI)), None)
    api = AIModelAPI(provider="acme", api_key="key", dialect="acme_lines")
    assert_type(api.provider, AIModelAPIProviderEnum | str)
    assert_type(api.dialect, Dialect | str | None)
    assert_type(AIModelEndpoint(api=api, ai_model=AIModel(model_name="acme-1", provider="acme")), AIModelEndpoint)


def made_for(host: Host, driver: Driver) -> Driver:
    assert_type(host.dialect, Dialect | str)
    return driver
