"""What users write must type-check. Never run; pyright reads it."""

from typing import assert_never, assert_type

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelCallResponse,
    AIModelClient,
    AIModelEndpoint,
    ChatResponse,
    ConversationManager,
    ConversationNode,
    ConversionPolicy,
    Dialect,
    FilePart,
    Heartbeat,
    Message,
    PartEnd,
    PartStart,
    PromptFormatter,
    ReasoningDelta,
    RefusalDelta,
    ResponseStream,
    Role,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamStart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    Usage,
    UsageUpdate,
)
from dhenara_async.blocking import BlockingClient
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


def handle(event: StreamEvent) -> str:
    match event:
        case TextDelta(text=text) | ReasoningDelta(text=text) | RefusalDelta(text=text):
            return text
        case ToolCallDelta(arguments=arguments):
            return arguments
        case PartEnd(part=part):
            return part.get_text()
        case StreamStart() | PartStart() | UsageUpdate() | Heartbeat() | StreamReset() | StreamEnd():
            return event.type
        case _:
            assert_never(event)


def blocking() -> None:
    client = AIModelClient(model_endpoint=endpoint, config=AIModelCallConfig(), is_async=False)
    assert_type(client, BlockingClient)
    assert_type(client.generate(prompt="hello"), AIModelCallResponse)
    with client.stream(prompt="hello") as stream:
        for event in stream:
            assert_type(event, StreamEvent)


async def conversations() -> None:
    async with ConversationManager(policy=ConversionPolicy(strict=True)) as manager:
        conversation = await manager.create()
        async with manager.turn(conversation, "hello", endpoint, instructions=["be brief"], files=["a.png"]) as turn:
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
