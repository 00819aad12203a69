# google-genai's signatures name classes of packages that are not installed here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The vendors' SDKs as clients of the loopback server send the twins of our loops' requests: same calls and results."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import httpx
import orjson
import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI

from dhenara_async import AIModelAPIProviderEnum, AIModelCallConfig, AIModelClient, Dialect, Tool, ToolPolicy
from dhenara_async.testing import Answer, ProviderServer
from tests.loops.tools import SPEAKERS, Studio, call, endpoint_of, paint_step

_PROMPT = "Paint two."
_SCRIPT = [
    paint_step(1, call(1, "paint", '{"number": 1}'), call(2, "paint", '{"number": 2}')),
    Answer(text="Done."),
]
_MODEL = {dialect: model for dialect, (_, model) in SPEAKERS.items()}
_STUDIO = Studio()
_TOOL = Tool.from_function(_STUDIO.paint)


def _paint(arguments: object) -> str:
    values = cast("Mapping[str, int]", orjson.loads(arguments) if isinstance(arguments, str) else arguments)
    return _STUDIO.paint(values["number"])


async def _chat(server: ProviderServer) -> None:
    url = server.base_url(AIModelAPIProviderEnum.OPEN_AI)
    tools: Any = [{"type": "function", "function": {"name": "paint", "parameters": _TOOL.parameters}}]
    messages: list[Any] = [{"role": "user", "content": _PROMPT}]
    async with AsyncOpenAI(base_url=url, api_key="key", max_retries=0) as client:
        for _ in range(2):
            model = _MODEL[Dialect.OPENAI_CHAT]
            completion = await client.chat.completions.create(model=model, messages=messages, tools=tools)
            said: Any = completion.choices[0].message
            messages.append(said)
            messages += [
                {"role": "tool", "tool_call_id": made.id, "content": _paint(made.function.arguments)}
                for made in said.tool_calls or ()
            ]


async def _responses(server: ProviderServer) -> None:
    url = server.base_url(AIModelAPIProviderEnum.OPEN_AI)
    tools: Any = [{"type": "function", "name": "paint", "parameters": _TOOL.parameters, "strict": False}]
    items: list[Any] = [{"role": "user", "content": _PROMPT}]
    async with AsyncOpenAI(base_url=url, api_key="key", max_retries=0) as client:
        for _ in range(2):
            model = _MODEL[Dialect.OPENAI_RESPONSES]
            response = await client.responses.create(model=model, input=items, tools=tools, store=False)
            items += response.output
            items += [
                {"type": "function_call_output", "call_id": made.call_id, "output": _paint(made.arguments)}
                for made in response.output
                if made.type == "function_call"
            ]


async def _anthropic(server: ProviderServer) -> None:
    url = server.base_url(AIModelAPIProviderEnum.ANTHROPIC)
    tools: Any = [{"name": "paint", "input_schema": _TOOL.parameters}]
    messages: list[Any] = [{"role": "user", "content": _PROMPT}]
    async with AsyncAnthropic(base_url=url, api_key="key", max_retries=0) as client:
        for _ in range(2):
            model = _MODEL[Dialect.ANTHROPIC_MESSAGES]
            said = await client.messages.create(model=model, messages=messages, tools=tools, max_tokens=100)
            messages.append({"role": "assistant", "content": said.content})
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": _paint(block.input)}
                for block in said.content
                if block.type == "tool_use"
            ]
            messages += [{"role": "user", "content": results}] if results else []


async def _gemini(server: ProviderServer) -> None:
    options = types.HttpOptions(
        base_url=server.base_url(AIModelAPIProviderEnum.GOOGLE_AI),
        async_client_args={"transport": httpx.AsyncHTTPTransport()},
    )
    declared = types.FunctionDeclaration(name="paint", parameters_json_schema=_TOOL.parameters)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    contents: list[Any] = [types.UserContent(_PROMPT)]
    client = genai.Client(api_key="key", http_options=options)
    for _ in range(2):
        answer = await client.aio.models.generate_content(
            model=_MODEL[Dialect.GEMINI], contents=contents, config=config
        )
        content: Any = (answer.candidates or [])[0].content
        contents.append(content)
        results = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=part.function_call.id, name="paint", response={"result": _paint(part.function_call.args)}
                )
            )
            for part in content.parts
            if part.function_call
        ]
        contents += [types.Content(role="user", parts=results)] if results else []


_VENDORS: Mapping[Dialect, Callable[[ProviderServer], Awaitable[None]]] = {
    Dialect.OPENAI_CHAT: _chat,
    Dialect.OPENAI_RESPONSES: _responses,
    Dialect.ANTHROPIC_MESSAGES: _anthropic,
    Dialect.GEMINI: _gemini,
}


@pytest.mark.parametrize("dialect", _VENDORS)
async def test_the_vendors_sdk_sends_the_same_calls_and_results(dialect: Dialect) -> None:
    async with ProviderServer([*_SCRIPT, *_SCRIPT]) as server:
        client = AIModelClient(endpoint_of(server, dialect), AIModelCallConfig(tools=[_TOOL], max_output_tokens=100))
        response = await client.generate(_PROMPT, run_tools=ToolPolicy())
        await _VENDORS[dialect](server)
        ours, theirs = server.requests[:2], server.requests[2:]
    assert response.text() == "Done."
    assert [seen.error for seen in server.requests] == [None] * 4
    assert [seen.turns for seen in ours] == [seen.turns for seen in theirs]
    assert "picture 2 is painted" in ours[1].turns[-1][1]
