"""Each rule of the strict server: 400 in the provider's own shape, which its SDK raises as its own type."""

# google-genai's signatures name classes of packages that are not installed here.
# pyright: reportUnknownMemberType=false

from collections.abc import AsyncIterator
from typing import cast

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError

from dhenara_async.endpoint import AIModelAPIProviderEnum
from dhenara_async.testing import ProviderServer

JSON = dict[str, object]

_HI: JSON = {"role": "user", "content": "hi"}
_CALL: JSON = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
_PIXEL: JSON = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def _said(role: str, content: object) -> JSON:
    return {"role": role, "content": content}


def _calls(*calls: JSON) -> JSON:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def _result(call_id: str) -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": "2"}


def _message(error: openai.APIStatusError | anthropic.APIStatusError) -> str:
    body = cast("JSON", error.body)
    return str(cast("JSON", body.get("error", body))["message"])


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    """A server that answers anything that is allowed."""
    async with ProviderServer() as running:
        yield running


@pytest.fixture
async def openai_client(server: ProviderServer) -> AsyncIterator[openai.AsyncOpenAI]:
    """The openai SDK, pointed at the server."""
    base_url = server.base_url(AIModelAPIProviderEnum.OPEN_AI)
    async with openai.AsyncOpenAI(base_url=base_url, api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_client(server: ProviderServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The anthropic SDK, pointed at the server."""
    base_url = server.base_url(AIModelAPIProviderEnum.ANTHROPIC)
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="key", max_retries=0) as client:
        yield client


_CHAT: list[tuple[JSON, str]] = [
    ({"colour": "red"}, "Unknown parameter: 'colour'."),
    ({"model": None}, "Missing required parameter: 'model'."),
    ({"messages": []}, "Invalid 'messages': empty array"),
    ({"temperature": "hot"}, "Invalid type for 'temperature': expected a number, but got a string"),
    ({"temperature": 2.5}, "Invalid 'temperature'"),
    ({"messages": [_said("robot", "hi")]}, "Invalid value: 'robot'"),
    ({"messages": [{"content": "hi"}]}, "Missing required parameter: 'messages[0].role'"),
    ({"messages": [_said("assistant", None)]}, "expected a string, got null"),
    ({"messages": [_said("user", [{"type": "input_text", "text": "hi"}])]}, "Invalid value: 'input_text'"),
    ({"messages": [_said("system", [_PIXEL]), _HI]}, "Invalid value: 'image_url'"),
    (
        {"messages": [_HI, _calls(_CALL), {"role": "tool", "tool_call_id": "call_1", "content": [_PIXEL]}]},
        "Invalid value: 'image_url'",
    ),
    ({"messages": [_HI, _calls(_CALL), _HI]}, "must be followed by tool messages responding to each 'tool_call_id'"),
    ({"messages": [_HI, _calls(_CALL)]}, "must be followed by tool messages"),
    ({"messages": [_HI, _result("call_1")]}, "must be a response to a preceding message with 'tool_calls'"),
    ({"messages": [_HI, _calls(_CALL), _result("other")]}, "must be a response to a preceding message"),
    ({"messages": [_HI, _calls({**_CALL, "id": "x" * 41}), _result("x" * 41)]}, "maximum length 40"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "Invalid 'stop': array too long"),
    ({"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "at the same time"),
    (
        {"model": "o3-mini", "max_tokens": 5},
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use",
    ),
    ({"model": "gpt-5.6-sol", "temperature": 1}, "Unsupported parameter: 'temperature'"),
    ({"model": "gpt-5-mini", "stop": "x"}, "Unsupported parameter: 'stop'"),
    ({"model": "gpt-6-sol", "temperature": 1}, "Unsupported parameter: 'temperature'"),
    ({"model": "gpt-5", "top_p": 0.5, "reasoning_effort": "none"}, "Unsupported parameter: 'top_p'"),
]


@pytest.mark.parametrize(("change", "message"), _CHAT)
async def test_chat_refuses(
    openai_client: openai.AsyncOpenAI, server: ProviderServer, change: JSON, message: str
) -> None:
    body = {"model": "gpt-4o-mini", "messages": [_HI], **change}
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.post("/chat/completions", body=body, cast_to=object)
    assert message in _message(caught.value)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id == "req_loopback000001"
    assert server.requests[0].status == 400
    assert message in (server.requests[0].error or "")


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [_HI, _calls(_CALL, {**_CALL, "id": "b"}), _result("b"), _result("call_1"), _HI]},
        {"messages": [_said("developer", "brief"), _HI, _said("system", "longer")]},
        {"messages": [_said("user", [{"type": "text", "text": "hi"}, _PIXEL])]},
        {"model": "gpt-6-sol", "temperature": 0.5, "reasoning_effort": "none"},
        {"model": "gpt-5.4-nano", "temperature": 0},
        {"model": "o3-mini", "stop": "x"},
        {"stop": ["a", "b"], "seed": 3, "max_tokens": 5, "temperature": None},
    ],
)
async def test_chat_accepts(openai_client: openai.AsyncOpenAI, change: JSON) -> None:
    body = {"model": "gpt-4o-mini", "messages": [_HI], **change}
    await openai_client.post("/chat/completions", body=body, cast_to=object)


_FUNCTION_CALL: JSON = {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"}
_FUNCTION_OUTPUT: JSON = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
_REASONING: JSON = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}

_RESPONSES: list[tuple[JSON, str]] = [
    ({"stop": ["x"]}, "Unknown parameter: 'stop'."),
    ({"seed": 1}, "Unknown parameter: 'seed'."),
    ({"messages": [_HI]}, "Unknown parameter: 'messages'."),
    ({"input": None}, "Missing required parameter: 'input'."),
    ({"input": []}, "Invalid 'input': empty array"),
    ({"store": "no"}, "Invalid type for 'store': expected a boolean"),
    ({"max_output_tokens": 15}, "Expected a value >= 16"),
    ({"temperature": 1}, "Unsupported parameter: 'temperature' is not supported with this model."),
    ({"input": [_said("tool", "2")]}, "Invalid value: 'tool'"),
    ({"input": [_said("assistant", [{"type": "input_text", "text": "hi"}])]}, "Invalid value: 'input_text'"),
    ({"input": [_said("user", [{"type": "output_text", "text": "hi"}])]}, "Invalid value: 'output_text'"),
    ({"input": [_said("user", [{"type": "text", "text": "hi"}])]}, "Invalid value: 'text'"),
    ({"input": [{"type": "thinking"}]}, "Invalid value: 'thinking'"),
    ({"input": [_HI, {**_FUNCTION_CALL, "call_id": "x" * 65}]}, "maximum length 64"),
    ({"input": [_HI, _FUNCTION_CALL]}, "No tool output found for function call call_1"),
    ({"input": [_HI, _FUNCTION_OUTPUT]}, "No tool call found for function call output with call_id call_1"),
    ({"input": [_HI, _FUNCTION_OUTPUT, _FUNCTION_CALL]}, "No tool call found"),
    (
        {"input": [_HI, {**_REASONING, "content": [{"type": "reasoning_text", "text": "x"}]}, _FUNCTION_CALL]},
        "Invalid 'input[1].content': array too long. Expected an array with maximum length 0",
    ),
    ({"input": [_HI, _REASONING, _HI]}, "without its required following item"),
    ({"input": [_HI, {**_FUNCTION_CALL, "id": "toolu_1"}, _FUNCTION_OUTPUT]}, "Expected an ID that begins with 'fc'"),
    ({"previous_response_id": "resp_1"}, "Previous response with id 'resp_1' not found."),
]


@pytest.mark.parametrize(("change", "message"), _RESPONSES)
async def test_responses_refuses(openai_client: openai.AsyncOpenAI, change: JSON, message: str) -> None:
    body = {"model": "gpt-6-sol", "input": "hi", **change}
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.post("/responses", body=body, cast_to=object)
    assert message in _message(caught.value)


async def test_responses_accepts(openai_client: openai.AsyncOpenAI, server: ProviderServer) -> None:
    items: list[JSON] = [
        _said("user", [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "https://x/y.png"}]),
        {name: value for name, value in _REASONING.items() if name != "encrypted_content"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I add."}]},
        _FUNCTION_CALL,
        _FUNCTION_OUTPUT,
        _said("system", "Be brief."),
        _said("user", "and now?"),
    ]
    await openai_client.post("/responses", body={"model": "gpt-6-sol", "input": items}, cast_to=object)
    assert server.requests[0].turns == (("user", "hi"), ("assistant", "I add.\nadd({})"), ("user", "2\nand now?"))


def _blocks(role: str, *blocks: JSON) -> JSON:
    return {"role": role, "content": list(blocks)}


_TEXT: JSON = {"type": "text", "text": "hi"}
_USE: JSON = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
_USE_RESULT: JSON = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}
_DOCUMENT: JSON = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}

_MESSAGES: list[tuple[JSON, str]] = [
    ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ({"max_tokens": "many"}, "max_tokens: Input should be an integer"),
    ({"temperature": 1}, "temperature: Extra inputs are not permitted"),
    ({"top_k": 1}, "top_k: Extra inputs are not permitted"),
    ({"messages": []}, "at least one message is required"),
    ({"messages": [_said("robot", "hi")]}, "messages.0.role"),
    ({"messages": [_said("assistant", "hi"), _HI]}, 'first message must use the "user" role'),
    ({"messages": [_said("system", "x"), _HI]}, "messages.0: use the top-level 'system' parameter"),
    ({"messages": [_HI, _said("system", "x")], "model": "claude-sonnet-4-6"}, "role 'system' is not supported"),
    ({"messages": [_HI, _said("system", "x"), _HI]}, "must follow a user turn and precede an assistant turn"),
    ({"messages": [_said("user", "")]}, "text content blocks must be non-empty"),
    ({"messages": [_said("user", " \n")]}, "must contain non-whitespace text"),
    ({"messages": [_blocks("user", {"type": "text", "text": " "})]}, "must contain non-whitespace text"),
    ({"system": [{"type": "text", "text": ""}]}, "text content blocks must be non-empty"),
    ({"messages": [_said("user", [])]}, "non-empty content"),
    ({"messages": [_HI, _said("assistant", "So")]}, "does not support assistant message prefill"),
    ({"messages": [_HI, _said("assistant", "So ")], "model": "claude-haiku-4-5"}, "trailing whitespace"),
    ({"messages": [_blocks("user", {"type": "image_url"})]}, "Input tag 'image_url'"),
    (
        {
            "messages": [
                _blocks(
                    "user",
                    {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": "AAAA"}},
                )
            ]
        },
        "media_type: Input should be 'image/jpeg'",
    ),
    ({"messages": [_HI, _blocks("assistant", _USE), _HI]}, "`tool_use` ids were found without `tool_result` blocks"),
    (
        {"messages": [_HI, _blocks("assistant", _USE), _blocks("user", _TEXT, _USE_RESULT)]},
        "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
    ),
    ({"messages": [_blocks("user", _USE_RESULT)]}, "unexpected `tool_use_id` found in `tool_result` blocks"),
    (
        {"messages": [_HI, _blocks("assistant", {**_USE, "id": "a.b"}), _HI]},
        "String should match pattern '^[a-zA-Z0-9_-]+$'",
    ),
    ({"messages": [_HI, _blocks("assistant", _DOCUMENT), _HI]}, "Input tag 'document'"),
    (
        {"messages": [_HI, _blocks("assistant", {"type": "thinking", "thinking": "x"}), _HI]},
        "signature: Field required",
    ),
]


@pytest.mark.parametrize(("change", "message"), _MESSAGES)
async def test_messages_refuses(anthropic_client: anthropic.AsyncAnthropic, change: JSON, message: str) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [_HI], **change}
    with pytest.raises(anthropic.BadRequestError) as caught:
        await anthropic_client.post("/v1/messages", body=body, cast_to=object)
    assert message in _message(caught.value)
    assert cast("JSON", caught.value.body)["type"] == "error"
    assert caught.value.request_id == "req_loopback000001"


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
async def test_messages_needs(anthropic_client: anthropic.AsyncAnthropic, missing: str) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [_HI]}
    del body[missing]
    with pytest.raises(anthropic.BadRequestError, match=f"{missing}: Field required"):
        await anthropic_client.post("/v1/messages", body=body, cast_to=object)


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        ("1999-01-01", {}, "is not a valid version"),
        ("2023-06-01", {"temperature": 0.5, "model": "claude-sonnet-4-6"}, None),
        ("2023-06-01", {"temperature": 0.5}, "only the default value"),
        ("2023-06-01", {"temperature": 1.5, "model": "claude-sonnet-4-6"}, "range"),
        ("2023-06-01", {"messages": [_HI, _blocks("assistant", _DOCUMENT), _HI]}, None),
    ],
)
async def test_messages_versions(
    anthropic_client: anthropic.AsyncAnthropic, version: str, change: JSON, message: str | None
) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [_HI], **change}
    options = anthropic_client.with_options(default_headers={"anthropic-version": version})
    if message is None:
        await options.post("/v1/messages", body=body, cast_to=object)
        return
    with pytest.raises(anthropic.BadRequestError, match=message):
        await options.post("/v1/messages", body=body, cast_to=object)


async def test_messages_needs_a_version(server: ProviderServer) -> None:
    url = server.base_url(AIModelAPIProviderEnum.ANTHROPIC)
    body = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [_HI]}
    async with httpx.AsyncClient() as client:
        response = await client.post(f"{url}/v1/messages", json=body, headers={"x-api-key": "key"})
    assert (response.status_code, response.json()["error"]["message"]) == (400, "anthropic-version: header is required")


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [_HI, _said("system", "Be brief.")]},
        {"messages": [_HI, _HI]},
        {"messages": [_HI, _blocks("assistant", _TEXT, _USE), _blocks("user", _USE_RESULT, _TEXT)]},
        {"messages": [_HI, _said("assistant", "So")], "model": "claude-sonnet-4-5-20250929"},
    ],
)
async def test_messages_accepts(anthropic_client: anthropic.AsyncAnthropic, change: JSON) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [_HI], **change}
    await anthropic_client.post("/v1/messages", body=body, cast_to=object)


def _content(role: str, *parts: JSON) -> JSON:
    return {"role": role, "parts": list(parts)}


_USER = _content("user", {"text": "hi"})
_ASK: JSON = {"functionCall": {"name": "add", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"}
_GIVE: JSON = {"functionResponse": {"name": "add", "response": {"result": 2}}}
_COUNTS = "number of function response parts is equal to the number of function call parts"

_GEMINI: list[tuple[JSON, str]] = [
    ({"colour": "red"}, 'Unknown name "colour": Cannot find field.'),
    ({"generationConfig": {"maxTokens": 1}}, "Unknown name \"maxTokens\" at 'generation_config'"),
    ({"generationConfig": {"maxOutputTokens": "x"}}, "Invalid value at 'generation_config.maxOutputTokens'"),
    ({"generationConfig": {"stopSequences": ["1", "2", "3", "4", "5", "6"]}}, "must not exceed 5"),
    ({"contents": []}, "contents is not specified"),
    ({"contents": [_content("assistant", {"text": "hi"})]}, "Please use a valid role: user, model."),
    ({"contents": [_content("system", {"text": "hi"}), _USER]}, "Please use a valid role: user, model."),
    ({"contents": [_content("model", {"text": "hi"}), _USER]}, "begin with a user turn"),
    ({"contents": [_content("user")]}, "contents.parts must not be empty"),
    ({"contents": [_content("user", {})]}, "required oneof field 'data' must have one initialized field"),
    ({"contents": [_content("user", {"text": "a", "inlineData": {}})]}, "oneof field 'data' is already set"),
    ({"contents": [_content("user", {"text": ""})]}, "text must not be empty"),
    ({"contents": [_content("user", {"type": "text", "text": "x"})]}, 'Unknown name "type"'),
    ({"contents": [_content("user", {"inlineData": {"mimeType": "image/png", "data": "?"}})]}, "inline_data"),
    ({"contents": [_USER, _content("model", _ASK), _USER]}, _COUNTS),
    ({"contents": [_USER, _content("model", _ASK), _content("user", _GIVE, _GIVE)]}, _COUNTS),
    ({"contents": [_USER, _content("model", _ASK)]}, _COUNTS),
    ({"contents": [_content("user", _GIVE)]}, "immediately after a function call turn"),
    (
        {"contents": [_content("user", {"text": "x"}, _ASK), _content("user", _GIVE)]},
        "function call turn comes immediately after a user turn",
    ),
    (
        {
            "contents": [
                _USER,
                _content("model", {"functionCall": {"name": "add", "args": {}}}),
                _content("user", _GIVE),
            ]
        },
        "Function call is missing a thought_signature in functionCall parts.",
    ),
    ({"systemInstruction": {"parts": []}}, "parts must not be empty"),
]


def _gemini(server: ProviderServer, body: JSON) -> genai.Client:
    """The SDK with a request body of ours: laid over its own, so that it cannot mend what is wrong."""
    options = types.HttpOptions(
        base_url=server.base_url(AIModelAPIProviderEnum.GOOGLE_AI),
        async_client_args={"transport": httpx.AsyncHTTPTransport()},
        extra_body=body,
    )
    return genai.Client(api_key="key", http_options=options)


@pytest.mark.parametrize(("change", "message"), _GEMINI)
@pytest.mark.parametrize("streamed", [False, True])
async def test_gemini_refuses(server: ProviderServer, change: JSON, message: str, streamed: bool) -> None:
    async with _gemini(server, change).aio as client:
        with pytest.raises(ClientError) as caught:
            if streamed:
                stream = await client.models.generate_content_stream(model="gemini-3.8-flash", contents="hi")
                _chunks = [chunk async for chunk in stream]
            else:
                await client.models.generate_content(model="gemini-3.8-flash", contents="hi")
    assert message in str(caught.value.message)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("model", "contents"),
    [
        ("gemini-3.8-flash", [_USER, _content("model", _ASK), _content("user", _GIVE)]),
        ("gemini-3.8-flash", [_USER, _content("model", _ASK), _content("model", _ASK), _content("user", _GIVE, _GIVE)]),
        (
            "gemini-2.5-flash",
            [_USER, _content("model", {"functionCall": {"name": "add"}}), _content("user", _GIVE)],
        ),
        (
            "gemini-3.8-flash",
            [
                _USER,
                _content("model", {"functionCall": {"name": "add", "args": {}}}),
                _content("user", _GIVE),
                _content("model", {"text": "2"}, {"text": "", "thoughtSignature": "skip_thought_signature_validator"}),
                _USER,
            ],
        ),
    ],
)
async def test_gemini_accepts(server: ProviderServer, model: str, contents: list[JSON]) -> None:
    async with _gemini(server, {"contents": contents}).aio as client:
        await client.models.generate_content(model=model, contents="hi")
    assert server.requests[0].json == {"contents": contents}
