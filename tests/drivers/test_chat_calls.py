"""Whole calls in Chat Completions, at a strict stand-in of every host that speaks it."""

from typing import cast

import orjson
import pytest
from chat_hosts import HOSTS, endpoint_at
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from dhenara_async import (
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelCallResponse,
    AIModelClient,
    Dialect,
    FinishReason,
    Message,
    Role,
    ToolResultPart,
)
from dhenara_async.response import ChatResponse, Choice
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall

_Provider = AIModelAPIProviderEnum

# ---------------------------------------------------------------------------------------------------- whole calls


class City(BaseModel):
    """A city."""

    name: str
    size: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


_LOOP = [
    Answer(
        text="Let me see.",
        reasoning="I must add these.",
        tool_calls=(
            ScriptedToolCall("toolu_" + "x" * 30, "add", '{"a": 1, "b": 2}'),
            ScriptedToolCall("call_b", "add", '{"a": 3, "b": 4}'),
        ),
    ),
    Answer(text="3 and 7", reasoning="That was easy."),
    Answer(text='{"name": "Oslo", "size": 700000}'),
]


@HOSTS
@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streamed"])
async def test_tool_loop_reasoning_and_structured_output(host: AIModelAPIProviderEnum, streaming: bool) -> None:
    """Against the strict host, which knows what each real one refuses."""
    async with ProviderServer(_LOOP) as server:
        endpoint = endpoint_at(host, api=server.api(host, dialect=Dialect.OPENAI_CHAT))
        config = AIModelCallConfig(streaming=streaming, tools=[add], reasoning_effort="high")
        async with AIModelClient(endpoint, config) as client:
            history = [Message.system("Be kind."), Message.user("Add them.")]
            asked = await client.generate(messages=history)
            _check_first(asked.chat_response.choices[0], shown=host is not _Provider.OPEN_AI)
            results = [
                ToolResultPart.of(call, add(**cast("dict[str, int]", call.parsed())))
                for call in asked.chat_response.tools()
            ]
            history += [_said(asked), Message(role=Role.USER, parts=results)]
            told = await client.generate(messages=history)
            assert told.text() == "3 and 7"
            history += [_said(told), Message.user("And a city?")]
            structured = AIModelCallConfig(streaming=streaming, structured_output=City)
            city = await client.generate(messages=history, config=structured)
    assert orjson.loads(city.text()) == {"name": "Oslo", "size": 700000}
    assert [(seen.status, seen.error, seen.stream) for seen in server.requests] == [(200, None, streaming)] * 3
    turns = server.requests[-1].turns
    assert [text for role, text in turns if role == "user"][-2:] == ["3\n7", "And a city?"]
    thoughts = b"I must add these." in server.requests[-1].body
    assert thoughts is (host in _SHOWN_AGAIN)


_SHOWN_AGAIN = frozenset(
    {
        *(_Provider.DEEPSEEK, _Provider.FIREWORKS, _Provider.GROQ, _Provider.CEREBRAS),
        *(_Provider.OPENROUTER, _Provider.MISTRAL),
    }
)


def _said(response: AIModelCallResponse) -> Message:
    return Message(role=Role.ASSISTANT, parts=response.chat_response.choices[0].parts)


def _check_first(choice: Choice, *, shown: bool) -> None:
    assert choice.text() == "Let me see."
    assert choice.reasoning() == ("I must add these." if shown else "")
    assert [(call.name, call.parsed()) for call in choice.tools()] == [
        ("add", {"a": 1, "b": 2}),
        ("add", {"a": 3, "b": 4}),
    ]
    assert choice.finish_reason is FinishReason.TOOL_CALLS


@HOSTS
async def test_streamed_and_plain_fold_to_the_same(host: AIModelAPIProviderEnum) -> None:
    folded: list[ChatResponse] = []
    for streaming in (False, True):
        async with ProviderServer(_LOOP[:1]) as server:
            endpoint = endpoint_at(host, api=server.api(host, dialect=Dialect.OPENAI_CHAT))
            answer = await AIModelClient(endpoint).generate("hi", config=AIModelCallConfig(streaming=streaming))
        folded.append(answer.chat_response)
    plain, streamed = (orjson.loads(response.model_dump_json()) for response in folded)
    for document in (plain, streamed):
        for part in document["choices"][0]["parts"]:
            part["origin"]["endpoint"] = "the server"  # it had another port each time
        document["choices"][0].pop("raw_finish_reason")  # which one host does not stream
    assert plain == streamed


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("host", [_Provider.OPEN_AI, _Provider.GROQ, _Provider.OPENROUTER, _Provider.OLLAMA])
async def test_the_openai_sdk_gets_the_same(host: AIModelAPIProviderEnum, streamed: bool) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Add them."}]
    async with (
        ProviderServer(_LOOP[:1]) as server,
        AsyncOpenAI(base_url=server.base_url(host), api_key="key", max_retries=0) as client,
    ):
        if streamed:
            async with client.chat.completions.stream(model="m", messages=messages) as stream:
                completion = await stream.get_final_completion()
        else:
            completion = await client.chat.completions.create(model="m", messages=messages)
    message = completion.choices[0].message
    assert message.content == "Let me see."
    assert message.tool_calls
    calls = [(call.id, call.function.arguments) for call in message.tool_calls if call.type == "function"]
    assert calls == [(call.call_id, call.arguments) for call in _LOOP[0].tool_calls]
