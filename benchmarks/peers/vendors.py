"""The vendors' SDKs. Their limit of 1 000 connections is lifted: the others have none."""

from contextlib import asynccontextmanager

from benchmarks.peers.calls import KEY, MAX_OUTPUT_TOKENS, PROMPT, Calls, Opened, Take
from benchmarks.wire import MODELS


@asynccontextmanager
async def open_openai_chat(_dialect: str, url: str) -> Opened:
    """Open the vendor's SDK for Chat Completions."""
    from httpx2 import Limits
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    model = MODELS["openai_chat"]

    http = DefaultAsyncHttpxClient(limits=Limits(max_connections=None))

    async with AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0, http_client=http) as client:

        async def stream(take: Take) -> None:
            chunks = await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": PROMPT}], stream=True
            )
            async for chunk in chunks:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    take(text)

        async def generate() -> str:
            answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": PROMPT}])
            return answer.choices[0].message.content or ""

        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_openai_responses(_dialect: str, url: str) -> Opened:
    """Open the vendor's SDK for Responses."""
    from httpx2 import Limits
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    model = MODELS["openai_responses"]

    http = DefaultAsyncHttpxClient(limits=Limits(max_connections=None))

    async with AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0, http_client=http) as client:

        async def stream(take: Take) -> None:
            events = await client.responses.create(model=model, input=PROMPT, store=False, stream=True)
            async for event in events:
                if event.type == "response.output_text.delta":
                    take(event.delta)

        async def generate() -> str:
            return (await client.responses.create(model=model, input=PROMPT, store=False)).output_text

        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_anthropic(_dialect: str, url: str) -> Opened:
    """Open the vendor's SDK, with its plain iterator of events."""
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from httpx2 import Limits

    model = MODELS["anthropic_messages"]

    http = DefaultAsyncHttpxClient(limits=Limits(max_connections=None))

    async with AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0, http_client=http) as client:

        async def stream(take: Take) -> None:
            events = await client.messages.create(
                model=model,
                max_tokens=MAX_OUTPUT_TOKENS,
                messages=[{"role": "user", "content": PROMPT}],
                stream=True,
            )
            async for event in events:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    take(event.delta.text)

        async def generate() -> str:
            answer = await client.messages.create(
                model=model, max_tokens=MAX_OUTPUT_TOKENS, messages=[{"role": "user", "content": PROMPT}]
            )
            return "".join(block.text for block in answer.content if block.type == "text")

        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_anthropic_helper(dialect: str, url: str) -> Opened:
    """Open the vendor's SDK, with ``messages.stream()``, which accumulates the message as this library does."""
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from httpx2 import Limits

    model = MODELS["anthropic_messages"]
    http = DefaultAsyncHttpxClient(limits=Limits(max_connections=None))

    async with (
        AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0, http_client=http) as client,
        open_anthropic(dialect, url) as plain,
    ):

        async def stream(take: Take) -> None:
            async with client.messages.stream(
                model=model, max_tokens=MAX_OUTPUT_TOKENS, messages=[{"role": "user", "content": PROMPT}]
            ) as events:
                async for event in events:
                    if event.type == "text":
                        take(event.text)

        async def fold() -> str:
            async with client.messages.stream(
                model=model, max_tokens=MAX_OUTPUT_TOKENS, messages=[{"role": "user", "content": PROMPT}]
            ) as events:
                return await events.get_final_text()

        yield Calls(stream=stream, generate=plain.generate, fold=fold)


@asynccontextmanager
async def open_google_genai(_dialect: str, url: str) -> Opened:
    """Open the vendor's SDK."""
    from google import genai
    from google.genai.types import HttpOptions

    model = MODELS["gemini"]

    async with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=url)).aio as client:

        async def stream(take: Take) -> None:
            chunks = await client.models.generate_content_stream(  # pyright: ignore[reportUnknownMemberType] - PIL's
                model=model, contents=PROMPT
            )
            async for chunk in chunks:
                if text := chunk.text:
                    take(text)

        async def generate() -> str:
            answer = await client.models.generate_content(  # pyright: ignore[reportUnknownMemberType] - PIL's
                model=model, contents=PROMPT
            )
            return answer.text or ""

        yield Calls(stream=stream, generate=generate)
