"""The frameworks, measured by the first call in their documentation."""

import os
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.peers.calls import KEY, MAX_OUTPUT_TOKENS, PROMPT, Calls, Opened, Take, loaded
from benchmarks.wire import MODELS

_MESSAGES = [{"role": "user", "content": PROMPT}]


@asynccontextmanager
async def open_litellm(dialect: str, url: str) -> Opened:
    """Open litellm: ``acompletion``, and ``aresponses`` for OpenAI Responses."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise it downloads prices
    litellm = loaded("litellm")
    litellm.suppress_debug_info = True  # otherwise every call prints a link to its list of providers
    model = MODELS[dialect]
    where: Mapping[str, dict[str, object]] = {
        "openai_chat": {"model": f"openai/{model}", "api_base": f"{url}/v1"},
        "openai_responses": {"model": f"openai/{model}", "api_base": f"{url}/v1"},
        "anthropic_messages": {"model": f"anthropic/{model}", "api_base": url, "max_tokens": MAX_OUTPUT_TOKENS},
        "gemini": {"model": f"gemini/{model}", "api_base": f"{url}/v1beta/models/{model}"},
    }
    options = {**where[dialect], "api_key": KEY, "max_retries": 0}

    async def stream(take: Take) -> None:
        async for chunk in await litellm.acompletion(messages=_MESSAGES, stream=True, **options):
            if chunk.choices and (text := chunk.choices[0].delta.content):
                take(text)

    async def generate() -> str:
        answer = await litellm.acompletion(messages=_MESSAGES, **options)
        return answer.choices[0].message.content or ""

    async def stream_response(take: Take) -> None:
        async for event in await litellm.aresponses(input=PROMPT, store=False, stream=True, **options):
            if event.type == "response.output_text.delta":
                take(event.delta)

    async def respond() -> str:
        answer = await litellm.aresponses(input=PROMPT, store=False, **options)
        return answer.output[0].content[0].text

    if dialect == "openai_responses":
        yield Calls(stream=stream_response, generate=respond)
    else:
        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_pydantic_ai(dialect: str, url: str) -> Opened:
    """Open pydantic-ai: ``Agent.run_stream`` and ``Agent.run``, without the default delay that joins deltas."""
    models = loaded(f"pydantic_ai.models.{_PYDANTIC_AI[dialect][0]}")
    providers = loaded(f"pydantic_ai.providers.{_PYDANTIC_AI[dialect][0]}")
    _, model_class, provider_class = _PYDANTIC_AI[dialect]
    base_url = f"{url}/v1" if dialect.startswith("openai") else url
    provider = getattr(providers, provider_class)(api_key=KEY, base_url=base_url)
    model = getattr(models, model_class)(MODELS[dialect], provider=provider)
    agent = loaded("pydantic_ai").Agent(model, model_settings={"max_tokens": MAX_OUTPUT_TOKENS})

    async def stream(take: Take) -> None:
        async with agent.run_stream(PROMPT) as answer:
            async for text in answer.stream_text(delta=True, debounce_by=None):
                take(text)

    async def generate() -> str:
        return (await agent.run(PROMPT)).output

    yield Calls(stream=stream, generate=generate)


_PYDANTIC_AI = {
    "openai_chat": ("openai", "OpenAIChatModel", "OpenAIProvider"),
    "openai_responses": ("openai", "OpenAIResponsesModel", "OpenAIProvider"),
    "anthropic_messages": ("anthropic", "AnthropicModel", "AnthropicProvider"),
    "gemini": ("google", "GoogleModel", "GoogleProvider"),
}


@asynccontextmanager
async def open_langchain(dialect: str, url: str) -> Opened:
    """Open LangChain: ``astream`` and ``ainvoke`` of the vendor's chat model."""
    chat = _langchain(dialect, url)

    async def stream(take: Take) -> None:
        async for chunk in chat.astream(PROMPT):
            if text := chunk.text:
                take(text)

    async def generate() -> str:
        return (await chat.ainvoke(PROMPT)).text

    yield Calls(stream=stream, generate=generate)


def _langchain(dialect: str, url: str) -> Any:
    model = MODELS[dialect]
    match dialect:
        case "anthropic_messages":
            return loaded("langchain_anthropic").ChatAnthropic(
                model=model, api_key=KEY, base_url=url, max_tokens=MAX_OUTPUT_TOKENS, max_retries=0
            )
        case "gemini":
            return loaded("langchain_google_genai").ChatGoogleGenerativeAI(
                model=model, api_key=KEY, base_url=url, max_retries=0
            )
        case _:
            return loaded("langchain_openai").ChatOpenAI(
                model=model,
                api_key=KEY,
                base_url=f"{url}/v1",
                max_retries=0,
                use_responses_api=dialect == "openai_responses",
            )
