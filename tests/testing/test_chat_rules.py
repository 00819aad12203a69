"""What the strict server refuses of Chat Completions, at each host in that host's own words and shape."""

from collections.abc import AsyncIterator
from typing import cast

import openai
import pytest

from dhenara_async.endpoint import AIModelAPIProviderEnum
from dhenara_async.testing import Answer, ProviderServer

JSON = dict[str, object]
_Provider = AIModelAPIProviderEnum

_HI: JSON = {"role": "user", "content": "hi"}
_SAID: JSON = {"role": "assistant", "content": "so"}
_FUNCTION: JSON = {"name": "add", "parameters": {"type": "object", "properties": {}}}
_TOOLS: list[JSON] = [{"type": "function", "function": _FUNCTION}]


def _calls(call_id: str = "call_1", **more: object) -> JSON:
    function = {"name": "add", "arguments": "{}"}
    call = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call], **more}


def _result(call_id: str = "call_1") -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": "2"}


def _strict(schema: JSON) -> JSON:
    return {"tools": [{"type": "function", "function": {"name": "add", "parameters": schema, "strict": True}}]}


def _format(schema: JSON, **more: object) -> JSON:
    told = {"name": "city", "schema": schema, "strict": True, **more}
    return {"response_format": {"type": "json_schema", "json_schema": told}}


_OPEN: JSON = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
_CLOSED: JSON = {**_OPEN, "additionalProperties": False}
_PART = "messages[0].content[0]"


def _part(**part: object) -> JSON:
    return {"messages": [{"role": "user", "content": [part]}]}


_TURN = [_HI, _calls(), _result()]
_NINE = [_HI, _calls("abcdefgh1"), _result("abcdefgh1")]
_FORCED: JSON = {"tools": _TOOLS, "tool_choice": "required"}
_PLACED: JSON = {"reasoning_content": "hm"}

_REFUSED: list[tuple[AIModelAPIProviderEnum, str, JSON, str]] = [
    # E-O6, E-O8, E-O9
    (_Provider.OPEN_AI, "gpt-4o", {"messages": [_HI, _calls("x" * 41), _result("x" * 41)]}, "maximum length 40"),
    (
        _Provider.OPEN_AI,
        "gpt-5.4",
        {"tools": _TOOLS, "reasoning_effort": "low"},
        "Function tools with reasoning_effort",
    ),
    (
        _Provider.OPEN_AI,
        "gpt-5.4",
        {"tools": _TOOLS, "reasoning_effort": "none"},
        "Function tools with reasoning_effort",
    ),
    (_Provider.OPEN_AI, "gpt-5.6-sol", {"tools": _TOOLS}, "not supported for gpt-5.6-sol in /v1/chat/completions"),
    (_Provider.OPEN_AI, "gpt-6-sol", {"tools": _TOOLS, "reasoning_effort": "low"}, "use /v1/responses"),
    (_Provider.OPEN_AI, "gpt-5", {"max_tokens": 5}, "Use 'max_completion_tokens' instead."),
    (_Provider.OPEN_AI, "gpt-5", {"temperature": 1}, "Unsupported parameter: 'temperature'"),
    (_Provider.OPEN_AI, "gpt-5", {"reasoning_effort": "vast"}, "Invalid value: 'vast'"),
    # E-M1, E-M2
    (
        _Provider.MISTRAL,
        "m",
        {"messages": _TURN},
        "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
    ),
    (_Provider.MISTRAL, "m", {"messages": [*_NINE, _HI]}, "Unexpected role 'user' after role 'tool'"),
    (
        _Provider.MISTRAL,
        "m",
        {"messages": [_HI, _SAID]},
        "Expected last role User or Tool (or Assistant with prefix True)",
    ),
    (
        _Provider.MISTRAL,
        "m",
        {"messages": [_HI, {"role": "assistant", "content": ""}, _HI]},
        "either content or tool_calls",
    ),
    # E-D1
    (
        _Provider.DEEPSEEK,
        "deepseek-v4-pro",
        {"messages": _TURN},
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
    ),
    (_Provider.DEEPSEEK, "deepseek-v4-pro", _FORCED, "does not support this tool_choice"),
    (_Provider.DEEPSEEK, "deepseek-v4-pro", _format(_CLOSED), "Invalid value: 'json_schema'"),
    # E-Q1, E-C1
    (
        _Provider.GROQ,
        "m",
        {"messages": [_HI, {**_SAID, **_PLACED}, _HI]},
        "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property",
    ),
    (_Provider.GROQ, "m", {"logprobs": True}, "property 'logprobs' is unsupported"),
    (_Provider.GROQ, "m", {"n": 2}, "at most 1"),
    (
        _Provider.CEREBRAS,
        "m",
        {"messages": [_HI, {**_SAID, **_PLACED}, _HI]},
        "messages.1.assistant.reasoning_content: property",
    ),
    (_Provider.CEREBRAS, "m", {"reasoning": {}}, "body.reasoning: property"),
    (_Provider.CEREBRAS, "m", {"metadata": {}}, "body.metadata: property"),
    # the rest
    (_Provider.XAI, "grok-4.7", {"stop": "x"}, "does not support parameter stop"),
    (_Provider.LLAMA_CPP, "m", {"messages": [_HI, {"role": "system", "content": "x"}]}, "must be at the beginning"),
    (_Provider.VLLM, "m", {"messages": [_HI, _HI]}, "Conversation roles must alternate"),
    (_Provider.VLLM, "m", {"messages": [_SAID, _HI]}, "Conversation roles must alternate"),
    (
        _Provider.OPENROUTER,
        "m",
        {"messages": [_HI, {**_SAID, "reasoning_details": [{"type": "reasoning.encrypted", "data": "forged"}]}, _HI]},
        "encrypted reasoning was produced under a different model",
    ),
    # pairs
    (_Provider.OPEN_AI, "gpt-4o", {"messages": [_HI, _calls(), _HI]}, "must be followed by tool messages"),
    (_Provider.GROQ, "m", {"messages": [_HI, _result()]}, "must be a response to a preceding message"),
    # tools and schemas
    (_Provider.OPEN_AI, "gpt-4o", {"tool_choice": "auto"}, "'tool_choice' is only allowed when 'tools' are specified"),
    (_Provider.OPEN_AI, "gpt-4o", {"parallel_tool_calls": True}, "only allowed when 'tools' are specified"),
    (_Provider.OPEN_AI, "gpt-4o", {"tools": _TOOLS, "tool_choice": "any"}, "Invalid value: 'any'"),
    (
        _Provider.OPEN_AI,
        "gpt-4o",
        {"tools": _TOOLS, "tool_choice": {"type": "function", "function": {"name": "sub"}}},
        "no function named 'sub'",
    ),
    (_Provider.OPEN_AI, "gpt-4o", {"tools": []}, "Invalid 'tools'"),
    (_Provider.OPEN_AI, "gpt-4o", {"tools": _TOOLS * 129}, "Invalid 'tools'"),
    (_Provider.OPEN_AI, "gpt-4o", {"tools": [{"type": "web_search"}]}, "Invalid value: 'web_search'"),
    (
        _Provider.OPEN_AI,
        "gpt-4o",
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        "does not match pattern",
    ),
    (_Provider.OPEN_AI, "gpt-4o", _strict(_OPEN), "'additionalProperties' is required to be supplied and to be false."),
    (_Provider.OPEN_AI, "gpt-4o", _strict({**_CLOSED, "required": []}), "Missing 'a'."),
    (_Provider.OPEN_AI, "gpt-4o", _format(_OPEN), "Invalid schema for response_format 'city': In context=()"),
    (
        _Provider.OPEN_AI,
        "gpt-4o",
        _format({**_CLOSED, "properties": {"a": _OPEN}}),
        "In context=('properties', 'a'), 'additionalProperties'",
    ),
    (_Provider.OPEN_AI, "gpt-4o", _format({"type": "array"}), "got 'type: \"array\"'"),
    (_Provider.OPEN_AI, "gpt-4o", _format(_CLOSED, name="a city"), "does not match pattern"),
    (_Provider.OPEN_AI, "gpt-4o", {"response_format": {"type": "json_object"}}, "must contain the word 'json'"),
    # files
    (_Provider.GROQ, "m", _part(type="file", file={"file_id": "f"}), "Supported values are: 'text', 'image_url'"),
    (_Provider.OPEN_AI, "gpt-4o", _part(type="file", file={}), f"Missing required parameter: '{_PART}.file.file_id'"),
    (_Provider.OPEN_AI, "gpt-4o", _part(type="file", file={"file_data": "https://a.test"}), "base64-encoded data URL"),
    (
        _Provider.OPEN_AI,
        "gpt-4o",
        _part(type="input_audio", input_audio={"data": "", "format": "flac"}),
        "Invalid value: 'flac'",
    ),
]

_TAKEN: list[tuple[AIModelAPIProviderEnum, str, JSON]] = [
    (_Provider.OPEN_AI, "gpt-5.4", {"tools": _TOOLS, "tool_choice": "required", "parallel_tool_calls": False}),
    (_Provider.OPEN_AI, "gpt-6-sol", {"tools": _TOOLS, "reasoning_effort": "none"}),
    (_Provider.OPEN_AI, "gpt-5", {"tools": _TOOLS, "reasoning_effort": "low"}),
    (_Provider.OPEN_AI, "gpt-4o", _strict(_CLOSED)),
    (_Provider.OPEN_AI, "gpt-4o", _format(_CLOSED)),
    (_Provider.OPEN_AI, "gpt-4o", _format(_OPEN, strict=False)),
    (_Provider.GROQ, "m", {"messages": [_HI, _calls("x" * 41), _result("x" * 41)]}),
    (_Provider.GROQ, "m", {"messages": [_HI, {**_SAID, "reasoning": "hm"}, _HI]}),
    (_Provider.CEREBRAS, "m", {"messages": [_HI, {**_SAID, "reasoning": "hm"}, _HI], "clear_thinking": False}),
    (_Provider.MISTRAL, "m", {"messages": [*_NINE, _SAID, _HI], "tools": _TOOLS, "tool_choice": "any"}),
    (_Provider.MISTRAL, "m", {"messages": [_HI, {**_SAID, "prefix": True}]}),
    (_Provider.MISTRAL, "m", _part(type="document_url", document_url="https://a.test")),
    (_Provider.DEEPSEEK, "deepseek-v4-pro", {"messages": [_HI, _calls(reasoning_content=""), _result()]}),
    (_Provider.DEEPSEEK, "deepseek-v4-pro", {**_FORCED, "messages": _TURN, "thinking": {"type": "disabled"}}),
    (_Provider.XAI, "grok-4.20-non-reasoning", {"stop": "x"}),
    (_Provider.VLLM, "m", {"messages": [{"role": "system", "content": "x"}, *_TURN, _SAID, _HI]}),
    (_Provider.LLAMA_CPP, "m", {"messages": [*_TURN, _HI, _SAID]}),
    (_Provider.OPENROUTER, "m", _part(type="file", file={"file_data": "https://a.test"})),
]


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    """A server that answers anything that is allowed."""
    async with ProviderServer() as running:
        yield running


async def _post(server: ProviderServer, host: AIModelAPIProviderEnum, body: JSON) -> None:
    async with openai.AsyncOpenAI(base_url=server.base_url(host), api_key="key", max_retries=0) as client:
        await client.post("/chat/completions", body=body, cast_to=object)


@pytest.mark.parametrize(("host", "model", "change", "message"), _REFUSED)
async def test_refuses(
    server: ProviderServer, host: AIModelAPIProviderEnum, model: str, change: JSON, message: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await _post(server, host, {"model": model, "messages": [_HI], **change})
    assert message in str(_error(caught.value)["message"])
    assert server.requests[0].status == caught.value.status_code == (500 if host is _Provider.LLAMA_CPP else 400)


def _error(raised: openai.APIStatusError) -> JSON:
    body = cast("JSON", raised.body)
    return cast("JSON", body.get("error", body))


@pytest.mark.parametrize(("host", "model", "change"), _TAKEN)
async def test_takes(server: ProviderServer, host: AIModelAPIProviderEnum, model: str, change: JSON) -> None:
    await _post(server, host, {"model": model, "messages": [_HI], **change})
    assert server.requests[0].error is None


@pytest.mark.parametrize(
    ("host", "body"),
    [
        (
            _Provider.MISTRAL,
            {"object": "error", "type": "invalid_function_call", "code": "3280", "raw_status_code": 400},
        ),
        (_Provider.CEREBRAS, {"code": "wrong_api_format"}),
        (_Provider.OPENROUTER, {"code": 400}),
    ],
)
async def test_error_has_the_shape_of_its_host(
    server: ProviderServer, host: AIModelAPIProviderEnum, body: JSON
) -> None:
    messages = [_HI, _calls(reasoning_content="hm"), _result("nobody's")]
    with pytest.raises(openai.BadRequestError) as caught:
        await _post(server, host, {"model": "m", "messages": messages})
    assert body.items() <= _error(caught.value).items()


async def test_sealed_reasoning_is_good_for_its_own_model() -> None:
    async with ProviderServer([Answer("x", reasoning="hm", signature="seal"), Answer("y"), Answer("z")]) as server:
        details: list[JSON] = [{"type": "reasoning.text", "text": "hm", "signature": "seal", "index": 0}]
        history = [_HI, {**_SAID, "reasoning_details": details}, _HI]
        await _post(server, _Provider.OPENROUTER, {"model": "m", "messages": [_HI]})
        await _post(server, _Provider.OPENROUTER, {"model": "m", "messages": history})
        with pytest.raises(openai.BadRequestError):
            await _post(server, _Provider.OPENROUTER, {"model": "other", "messages": history})
