"""The vendors' own SDKs ask ``ProviderServer`` for an object, streamed and plain, and parse what they get."""

import httpx
import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI
from pydantic import BaseModel

from dhenara_async import AIModelAPIProviderEnum
from dhenara_async.testing import Answer, ProviderServer

STREAMED = pytest.mark.parametrize("streamed", [False, True])
KEY = "a loopback key"


class City(BaseModel):
    name: str
    people: int


PARIS = City(name="Paris", people=2_100_000)
SCRIPT = [Answer(text=PARIS.model_dump_json())]


def _openai(server: ProviderServer) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=KEY, base_url=server.base_url(AIModelAPIProviderEnum.OPEN_AI), max_retries=0)


@STREAMED
async def test_openai_responses(streamed: bool) -> None:
    async with ProviderServer(SCRIPT) as server, _openai(server) as client:
        if streamed:
            async with client.responses.stream(model="gpt-6.2-sol", input="hi", text_format=City) as stream:
                parsed = (await stream.get_final_response()).output_parsed
        else:
            parsed = (await client.responses.parse(model="gpt-6.2-sol", input="hi", text_format=City)).output_parsed
    assert parsed == PARIS


@STREAMED
async def test_openai_chat(streamed: bool) -> None:
    async with ProviderServer(SCRIPT) as server, _openai(server) as client:
        if streamed:
            async with client.chat.completions.stream(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], response_format=City
            ) as stream:
                parsed = (await stream.get_final_completion()).choices[0].message.parsed
        else:
            completion = await client.chat.completions.parse(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], response_format=City
            )
            parsed = completion.choices[0].message.parsed
    assert parsed == PARIS


@STREAMED
async def test_anthropic(streamed: bool) -> None:
    async with ProviderServer(SCRIPT) as server:
        url = server.base_url(AIModelAPIProviderEnum.ANTHROPIC)
        async with AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0) as client:
            if streamed:
                async with client.messages.stream(
                    model="claude-sonnet-5-5",
                    max_tokens=99,
                    messages=[{"role": "user", "content": "hi"}],
                    output_format=City,
                ) as stream:
                    parsed = (await stream.get_final_message()).parsed_output
            else:
                message = await client.messages.parse(
                    model="claude-sonnet-5-5",
                    max_tokens=99,
                    messages=[{"role": "user", "content": "hi"}],
                    output_format=City,
                )
                parsed = message.parsed_output
    assert parsed == PARIS


@STREAMED
async def test_gemini(streamed: bool) -> None:
    async with ProviderServer(SCRIPT) as server:
        # a transport of httpx's own: the SDK's aiohttp session warns of its own deprecations
        options = types.HttpOptions(
            base_url=server.base_url(AIModelAPIProviderEnum.GOOGLE_AI),
            async_client_args={"transport": httpx.AsyncHTTPTransport()},
        )
        config = types.GenerateContentConfig(
            response_mime_type="application/json", response_json_schema=City.model_json_schema()
        )
        async with genai.Client(api_key=KEY, http_options=options).aio as client:
            if streamed:
                stream = await client.models.generate_content_stream(  # pyright: ignore[reportUnknownMemberType] - PIL in its types
                    model="gemini-3.8-flash", contents="hi", config=config
                )
                text = "".join([chunk.text or "" async for chunk in stream])
            else:
                answer = await client.models.generate_content(  # pyright: ignore[reportUnknownMemberType] - PIL in its types
                    model="gemini-3.8-flash", contents="hi", config=config
                )
                text = answer.text or ""
    assert City.model_validate_json(text) == PARIS
