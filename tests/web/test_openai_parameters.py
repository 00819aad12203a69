"""What each parameter of both APIs does, and that every answer is what the SDK's own types declare."""

from typing import Any

import aiohttp
import orjson
import pytest
from pydantic import TypeAdapter

from dhenara_async import AIModelCallConfig, Dialect
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.testing.script import ScriptedToolCall, SeenRequest
from dhenara_async.web.openai.chat.functions import with_tools
from dhenara_async.web.openai.chat.options import completion_config
from dhenara_async.web.openai.responses.options import response_config, response_echo
from tests.loopback import endpoint_at
from tests.web.openai_clients import front, openai, sdk_at

DIALECTS = pytest.mark.parametrize(
    "dialect", [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI]
)
FUNCTION: dict[str, Any] = {
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
TOOL = {"type": "function", "function": FUNCTION}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
AUDIO = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
FILE: dict[str, Any] = {"type": "file", "file": {"file_id": "file-1"}}
SEARCH = {"type": "web_search"}
ALLOWED = {"mode": "required", "tools": [TOOL]}

# what is answered
CHAT: list[dict[str, Any]] = [
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}},
    {"logprobs": True, "top_logprobs": 2},
    {"logprobs": False, "top_logprobs": 0},
    {"n": 2, "stop": ["x"], "seed": 3, "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.5},
    {"functions": [FUNCTION], "function_call": "auto"},
    {"functions": [FUNCTION], "function_call": {"name": "add"}},
    *({"tools": [TOOL], "tool_choice": choice} for choice in ("auto", "none", "required", TOOL)),
    {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED}, "parallel_tool_calls": False},
    {"service_tier": "flex", "metadata": {"a": "b"}, "user": "u", "store": False, "verbosity": "low"},
    {"reasoning_effort": "low", "prediction": {"type": "content", "content": "x"}, "web_search_options": {}},
    {"stream_options": {"include_usage": True, "include_obfuscation": False}},
]
RESPONSES: list[dict[str, Any]] = [
    {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
    {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}},
    {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"]},
    {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    {"truncation": "auto", "service_tier": "flex", "metadata": {"a": "b"}, "user": "u", "max_tool_calls": 3},
    {"reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 99, "temperature": 0.5, "top_p": 0.5},
    *({"tools": [{"type": "function", **FUNCTION}], "tool_choice": choice} for choice in ("none", "required")),
    {"tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "add"}},
    {"tools": [SEARCH, {"type": "custom", "name": "x"}], "tool_choice": SEARCH, "parallel_tool_calls": False},
    {
        "store": False,
        "prompt_cache_key": "k",
        "safety_identifier": "u",
        "stream_options": {"include_obfuscation": False},
    },
    {"context_management": [{"type": "compaction", "compact_threshold": 1000}], "background": False},
]
# what is refused, and the parameter that is named as wrong
REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("chat", "response_format.type", {"response_format": {"type": "xml"}}),
    ("chat", "top_logprobs", {"top_logprobs": 2}),
    ("chat", "top_logprobs", {"logprobs": True, "top_logprobs": 99}),
    ("chat", "logprobs", {"logprobs": 1}),
    ("chat", "n", {"n": 99}),
    ("chat", "temperature", {"temperature": "hot"}),
    ("chat", "reasoning_effort", {"reasoning_effort": "huge"}),
    ("chat", "tools", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
    ("chat", "tool_choice", {"tools": [TOOL], "tool_choice": "always"}),
    ("chat", "tool_choice", {"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "x"}}}),
    (
        "chat",
        "tool_choice",
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {**ALLOWED, "mode": "always"}}},
    ),
    ("chat", "modalities", AUDIO),
    ("chat", "messages[0].content", {"messages": [{"role": "user", "content": [FILE]}]}),
    ("chat", "messages[0].audio", {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
    (
        "responses",
        "input[0].content",
        {"input": [{"role": "user", "content": [{"type": "input_file", **FILE["file"]}]}]},
    ),
    ("responses", "text.format.type", {"text": {"format": {"type": "xml"}}}),
    ("responses", "text.verbosity", {"text": {"verbosity": "loud"}}),
    ("responses", "truncation", {"truncation": "some"}),
    ("responses", "max_tool_calls", {"max_tool_calls": 1, "tools": [SEARCH]}),
    ("responses", "prompt", {"prompt": {"id": "pmpt_1"}}),
    ("responses", "parallel_tool_calls", {"parallel_tool_calls": "yes"}),
    ("responses", "reasoning.effort", {"reasoning": {"effort": "huge"}}),
    ("responses", "tool_choice", {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "always"}),
    (
        "responses",
        "tool_choice",
        {
            "tools": [{"type": "function", **FUNCTION}],
            "tool_choice": {"type": "allowed_tools", "mode": "always", "tools": [{"type": "function", "name": "add"}]},
        },
    ),
    ("responses", "previous_response_id", {"previous_response_id": "resp_1"}),
    ("responses", "background", {"background": True, "store": False}),
]


def answer_to(request: SeenRequest) -> Answer:
    """A call where the tool is offered and may be called, else JSON."""
    body = request.body.lower()
    if b'"add"' in body and b'"none"' not in body and b'"three"' not in body:
        return Answer(tool_calls=(ScriptedToolCall("call_1", "add", '{"a":1}'),))
    return Answer(text='{"a":"b"}', reasoning="Hm.")


def data_of(text: str) -> list[str]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line for line in lines if line != "[DONE]"]


@DIALECTS
async def test_every_answer_has_the_shape_of_the_sdks_types(dialect: Dialect) -> None:
    chunk = openai.types.chat.ChatCompletionChunk
    apis: list[tuple[str, dict[str, Any], list[dict[str, Any]], Any, Any]] = [
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "Say JSON."}]},
            CHAT,
            openai.types.chat.ChatCompletion.model_validate_json,
            chunk.model_validate_json,
        ),
        (
            "responses",
            {"input": "Say JSON."},
            RESPONSES,
            openai.types.responses.Response.model_validate_json,
            TypeAdapter[Any](openai.types.responses.ResponseStreamEvent).validate_json,
        ),
    ]
    async with (
        ProviderServer(answer_to) as provider,
        front({"m": endpoint_at(provider, dialect)}) as (url, _),
        aiohttp.ClientSession(headers={"authorization": "Bearer ann-key"}) as session,
    ):
        for path, question, cases, whole, event in apis:
            for at, case in enumerate(cases):
                streamed = (at + [*Dialect].index(dialect)) % 2 == 0  # each case is streamed at some of the dialects
                body = {"model": "m", **question, **case, "stream": streamed}
                async with session.post(f"{url}/{path}", json=body) as reply:
                    told = await reply.text()
                assert reply.status == 200, (case, told)
                for piece in data_of(told) if streamed else [told]:
                    (event if streamed else whole)(piece)


async def test_a_refusal_names_its_parameter() -> None:
    async with (
        ProviderServer([]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        for api, param, wrong in REFUSED:
            with pytest.raises(openai.BadRequestError) as caught:
                if api == "chat":
                    messages = [{"role": "user", "content": "Hi"}]
                    await sdk.chat.completions.create(**{"model": "m", "messages": messages, **wrong})
                else:
                    await sdk.responses.create(**{"model": "m", "input": "Hi", **wrong})
            assert (caught.value.param, caught.value.code is None) == (param, False), wrong
    assert provider.requests == []


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_only_the_allowed_ones_of_the_tools_are_passed_on(api: str) -> None:
    functions: list[dict[str, Any]] = [FUNCTION, {"name": "sub"}]
    if api == "chat":
        tools = [{"type": "function", "function": function} for function in functions]
        choice: dict[str, Any] = {"type": "allowed_tools", "allowed_tools": ALLOWED}
        config = completion_config({"tools": tools, "tool_choice": choice}, AIModelCallConfig())
    else:
        tools = [{"type": "function", **function} for function in functions]
        choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]}
        config = response_config({"tools": tools, "tool_choice": choice}, AIModelCallConfig())
    assert [getattr(tool, "name", None) for tool in config.tools] == ["add"]
    assert config.tool_choice == "required"


def test_a_function_of_the_old_kind_is_the_only_call_and_the_chosen_one() -> None:
    fields = {"functions": [FUNCTION, {"name": "sub"}], "function_call": {"name": "sub"}}
    config = completion_config(with_tools(fields), AIModelCallConfig())
    assert config.parallel_tool_calls is False
    assert getattr(config.tool_choice, "name", None) == "sub"


def test_a_response_repeats_the_options_that_it_knows() -> None:
    known = {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "top_logprobs": 2, "truncation": "auto"}
    fields = {**known, "reasoning": {"effort": "low", "x": 1}, "text": {"verbosity": "low", "x": 1}, "x": 1}
    assert response_echo(fields) == known


FORMATS: dict[Dialect, bytes] = {
    Dialect.OPENAI_CHAT: b'"response_format":{"type":"json_object"}',
    Dialect.OPENAI_RESPONSES: b'"text":{"format":{"type":"json_object"}}',
    Dialect.ANTHROPIC_MESSAGES: b'"tool_choice":{"type":"tool","name":"answer"}',
    Dialect.GEMINI: b'"responseMimeType":"application/json"',
}


@DIALECTS
async def test_any_json_object_is_asked_for_in_each_providers_own_way(dialect: Dialect) -> None:
    async with ProviderServer(answer_to) as provider, front({"m": endpoint_at(provider, dialect)}) as (url, _):
        async with sdk_at(url) as sdk:
            messages = [{"role": "user", "content": "Say JSON."}]
            wanted = {"type": "json_object"}
            completion = await sdk.chat.completions.create(model="m", messages=messages, response_format=wanted)
            response = await sdk.responses.create(model="m", input="Say JSON.", text={"format": wanted})
        assert completion.choices[0].message.content == response.output_text == '{"a":"b"}'
        assert all(FORMATS[dialect] in request.body for request in provider.requests)


async def test_log_probabilities_arrive_as_the_provider_gave_them() -> None:
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "logprobs": True}
    async with (
        ProviderServer([Answer(text="One two")] * 3) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        plain = await sdk.chat.completions.create(**asked, top_logprobs=2)
        async with sdk.chat.completions.stream(**asked, top_logprobs=2) as stream:
            streamed = await stream.get_final_completion()
        response = await sdk.responses.create(model="m", input="Hi", include=["message.output_text.logprobs"])
    told = plain.choices[0].logprobs.content
    assert "".join(entry.token for entry in told) == "One two"
    assert [len(entry.top_logprobs) for entry in told] == [2] * len(told)
    assert streamed.choices[0].logprobs.content == told
    alone: list[dict[str, Any]] = [{**entry.to_dict(), "top_logprobs": []} for entry in told]
    assert [entry.to_dict() for entry in response.output[0].content[0].logprobs] == alone


@DIALECTS
async def test_functions_of_the_old_kind_go_both_ways(dialect: Dialect) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "One?"}]
    asked: dict[str, Any] = {"model": "m", "functions": [FUNCTION]}
    async with (
        ProviderServer(answer_to) as provider,
        front({"m": endpoint_at(provider, dialect)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        answer = (await sdk.chat.completions.create(**asked, messages=messages)).choices[0]
        chunks = [
            chunk.choices[0]
            async for chunk in await sdk.chat.completions.create(**asked, messages=messages, stream=True)
        ]
        called = answer.message.function_call
        assert (answer.finish_reason, answer.message.tool_calls) == ("function_call", None)
        assert (called.name, orjson.loads(called.arguments)) == ("add", {"a": 1})
        pieces = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call is not None]
        assert (pieces[0].name, "".join(piece.arguments for piece in pieces)) == ("add", called.arguments)
        assert chunks[-1].finish_reason == "function_call"
        result = {"role": "function", "name": "add", "content": "Three"}
        messages += [answer.message.model_dump(exclude_none=True), result]
        last = await sdk.chat.completions.create(**asked, messages=messages)
        assert last.choices[0].message.content == '{"a":"b"}'
        assert b"Three" in provider.requests[-1].body
