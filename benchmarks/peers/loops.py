"""Tool loops of this library and of frameworks: each runs one function of its caller until the model is done."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.calls import KEY, PROMPT, loaded
from benchmarks.wire import MODELS

MODEL = MODELS["openai_chat"]

RunLoop = Callable[[], Awaitable[str]]
"""Runs a whole loop, streamed, and returns the last text."""

OpenedLoop = AsyncGenerator[RunLoop]


async def paint(number: int) -> str:
    """Paint a picture.

    Args:
        number: The number of the picture.
    """
    return f"picture {number} is painted"


@asynccontextmanager
async def open_ours(url: str, steps: int) -> OpenedLoop:
    """Open this library: ``client.stream(…, run_tools=…)``."""
    from dhenara_async import AIModelCallConfig, AIModelClient, ToolPolicy

    policy = ToolPolicy(max_steps=steps + 1)
    async with AIModelClient(_endpoint(url), AIModelCallConfig(tools=[paint], retries=0)) as client:

        async def run() -> str:
            async with client.stream(PROMPT, run_tools=policy) as stream:
                async for _ in stream:
                    pass
            return stream.response.text()

        yield run


@asynccontextmanager
async def open_our_turns(url: str, steps: int) -> OpenedLoop:
    """Open this library: ``manager.turn(…, run_tools=…)``, whose steps are nodes of a conversation in memory."""
    from dhenara_async import AIModelCallConfig, ConversationManager, ToolPolicy

    endpoint, policy = _endpoint(url), ToolPolicy(max_steps=steps + 1)
    async with ConversationManager(config=AIModelCallConfig(tools=[paint], retries=0)) as manager:

        async def run() -> str:
            conversation = await manager.create()
            async with manager.turn(conversation, PROMPT, endpoint, run_tools=policy) as turn:
                async for _ in turn:
                    pass
            return turn.node.answer.text()

        yield run


def _endpoint(url: str) -> Any:
    from dhenara_async import AIModel, AIModelAPI, AIModelEndpoint

    values = {"provider": "openai", "api_key": KEY, "base_url": f"{url}/v1", "dialect": "openai_chat"}
    return AIModelEndpoint(api=AIModelAPI.model_validate(values), ai_model=AIModel(model_name=MODEL))


@asynccontextmanager
async def open_pydantic_ai(url: str, steps: int) -> OpenedLoop:
    """Open pydantic-ai: ``Agent.run_stream_events``."""
    pydantic_ai = loaded("pydantic_ai")
    openai = loaded("pydantic_ai.models.openai")
    provider = loaded("pydantic_ai.providers.openai").OpenAIProvider(api_key=KEY, base_url=f"{url}/v1")
    agent = pydantic_ai.Agent(openai.OpenAIChatModel(MODEL, provider=provider), tools=[paint])

    async def run() -> str:
        text = ""
        async with agent.run_stream_events(PROMPT) as events:
            async for event in events:
                if event.event_kind == "agent_run_result":
                    text = event.result.output
        return text

    yield run


@asynccontextmanager
async def open_openai_agents(url: str, steps: int) -> OpenedLoop:
    """Open openai-agents: ``Runner.run_streamed`` without its tracing."""
    agents = loaded("agents")
    agents.set_tracing_disabled(True)
    client = loaded("openai").AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0)
    model = agents.OpenAIChatCompletionsModel(MODEL, client)
    agent = agents.Agent(name="painter", model=model, tools=[agents.function_tool(paint)])

    async def run() -> str:
        result = agents.Runner.run_streamed(agent, PROMPT, max_turns=steps + 1)
        async for _ in result.stream_events():
            pass
        return result.final_output

    async with client:
        yield run


@asynccontextmanager
async def open_langgraph(url: str, steps: int) -> OpenedLoop:
    """Open LangGraph: the agent of LangChain, which is a graph, streamed as messages."""
    os.environ.setdefault("LANGSMITH_TRACING", "false")
    chat = loaded("langchain_openai").ChatOpenAI(model=MODEL, api_key=KEY, base_url=f"{url}/v1", max_retries=0)
    agent = loaded("langchain.agents").create_agent(chat, tools=[paint])
    question = {"messages": [{"role": "user", "content": PROMPT}]}
    options = {"recursion_limit": 4 * steps + 10}

    async def run() -> str:
        last = ""
        async for chunk, _ in agent.astream(question, options, stream_mode="messages"):
            if chunk.type == "AIMessageChunk":
                last = chunk.text if chunk.id != run_id[0] else last + chunk.text
                run_id[0] = chunk.id
        return last

    run_id: list[str | None] = [None]
    yield run


@dataclass(frozen=True, slots=True)
class LoopPeer:
    """A library whose tool loop is measured.

    Attributes:
        name: Its name in the table.
        packages: The packages that must be importable.
        open: Opens it at the server's URL, for loops of so many steps.
        slow: Whether it skips most rounds.
    """

    name: str
    packages: tuple[str, ...]
    open: Callable[[str, int], AbstractAsyncContextManager[RunLoop]]
    slow: bool = False


LOOP_PEERS = (
    LoopPeer("dhenara_async", ("dhenara_async",), open_ours),
    LoopPeer("dhenara_async turns", ("dhenara_async",), open_our_turns),
    LoopPeer("pydantic-ai", ("pydantic_ai", "openai"), open_pydantic_ai, slow=True),
    LoopPeer("openai-agents", ("agents", "openai"), open_openai_agents, slow=True),
    LoopPeer("langgraph", ("langgraph", "langchain", "langchain_openai"), open_langgraph, slow=True),
)
