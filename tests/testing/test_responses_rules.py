"""What the loopback server refuses of OpenAI Responses beside plain conversations: each in the provider's own shape."""

from collections.abc import AsyncIterator
from typing import cast

import openai
import pytest

from dhenara_async.endpoint import AIModelAPIProviderEnum
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall

JSON = dict[str, object]

_HI: JSON = {"role": "user", "content": "hi"}
_CALL = ScriptedToolCall(call_id="call_1", name="add")
_OUTPUT: JSON = {"type": "function_call_output", "call_id": "call_1", "output": "2"}


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    """Always thinks, then calls ``add``."""
    async with ProviderServer(lambda _seen: Answer(reasoning="hm", tool_calls=(_CALL,))) as running:
        yield running


@pytest.fixture
async def client(server: ProviderServer) -> AsyncIterator[openai.AsyncOpenAI]:
    """The openai SDK, pointed at the server."""
    async with _client(server) as opened:
        yield opened


def _client(server: ProviderServer, key: str = "key") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.base_url(AIModelAPIProviderEnum.OPEN_AI), api_key=key, max_retries=0)


async def _post(client: openai.AsyncOpenAI, **change: object) -> JSON:
    body = {"model": "gpt-6-sol", "input": "hi", **change}
    return cast(JSON, await client.post("/responses", body=body, cast_to=object))


async def _refused(client: openai.AsyncOpenAI, **change: object) -> tuple[str, str | None, str | None]:
    """Message, code and parameter of the refusal."""
    with pytest.raises(openai.BadRequestError) as caught:
        await _post(client, **change)
    return str(caught.value), caught.value.code, caught.value.param


def _function(**change: object) -> JSON:
    parameters: JSON = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}
    return {"type": "function", "name": "add", "parameters": parameters, "strict": True, **change}


def _object(**properties: object) -> JSON:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _format(schema: JSON, **change: object) -> JSON:
    return {"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True, **change}}


_WRONG: list[tuple[JSON, str, str | None]] = [
    ({"tools": [{"type": "robot"}]}, "Invalid value: 'robot'", "invalid_value"),
    (
        {"tools": [{"type": "function", "function": {"name": "add"}}]},
        "Missing required parameter: 'tools[0].name'",
        "missing_required_parameter",
    ),
    ({"tools": [_function(colour="red")]}, "Unknown parameter: 'tools[0].colour'", "unknown_parameter"),
    ({"tools": [_function(name="a b")]}, "does not match pattern", "invalid_value"),
    ({"tools": [_function(name="x" * 65)]}, "maximum length 64", "string_above_max_length"),
    (
        {"tools": [_function(parameters={"type": "array"}, strict=None)]},
        "Invalid schema for function 'add'",
        "invalid_function_parameters",
    ),
    (
        {"tools": [_function(parameters={"type": "object", "properties": {}})]},
        "'additionalProperties' is required to be supplied and to be false",
        "invalid_function_parameters",
    ),
    ({"tools": [{"type": "file_search"}]}, "'tools[0].vector_store_ids'", "missing_required_parameter"),
    ({"tools": [{"type": "code_interpreter"}]}, "'tools[0].container'", "missing_required_parameter"),
    ({"tool_choice": "always"}, "Invalid value: 'always'", "invalid_value"),
    ({"tool_choice": "required"}, "must be specified with 'tools'", None),
    ({"tool_choice": {"type": "function", "name": "sub"}, "tools": [_function()]}, "'sub' not found", None),
    ({"text": {"format": {"type": "yaml"}}}, "Invalid value: 'yaml'", "invalid_value"),
    (
        {"text": {"format": {"type": "json_schema", "json_schema": {}}}},
        "Missing required parameter: 'text.format.name'",
        "missing_required_parameter",
    ),
    ({"text": {"format": {"type": "json_object"}}}, "must contain the word 'json'", None),
    ({"text": _format({"type": "array"})}, "'type: \"object\"', got 'type: \"array\"'", "invalid_json_schema"),
    (
        {"text": _format({**_object(a={"type": "string"}), "required": []})},
        "In context=(), 'required' is required to be supplied and to be an array including every key in properties. "
        "Missing 'a'.",
        "invalid_json_schema",
    ),
    (
        {"text": _format(_object(a={"type": "array", "items": {"type": "object", "properties": {}}}))},
        "In context=('properties', 'a', 'items'), 'additionalProperties'",
        "invalid_json_schema",
    ),
    (
        {"text": _format(_object(a={"oneOf": [{"type": "string"}]}))},
        "In context=('properties', 'a'), 'oneOf' is not permitted.",
        "invalid_json_schema",
    ),
    (
        {"text": _format(_object(a={"$ref": "#/$defs/x", "description": "d"}))},
        "$ref cannot have keywords {'description'}",
        "invalid_json_schema",
    ),
    ({"include": ["everything"]}, "Invalid value: 'everything'", "invalid_value"),
    ({"reasoning": {"effort": "huge"}}, "Invalid value: 'huge'", "invalid_value"),
    ({"reasoning": {"summary": "none"}}, "Invalid value: 'none'", "invalid_value"),
    (
        {"reasoning": {"effort": "low"}, "model": "gpt-4o-mini"},
        "Unsupported parameter: 'reasoning.effort'",
        "unsupported_parameter",
    ),
    ({"reasoning": {"effort": "none"}, "model": "o3-mini"}, "Unsupported value: 'none'", "unsupported_value"),
    ({"temperature": 1, "reasoning": {"effort": "low"}, "model": "gpt-5.1"}, "'temperature' is not supported", None),
    ({"top_logprobs": 21, "model": "gpt-4o-mini"}, "between 0 and 20", "integer_above_max_value"),
    ({"safety_identifier": "x" * 129}, "maximum length 128", "string_above_max_length"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "at most 16 properties", "object_above_max_properties"),
    ({"metadata": {"a": 1}}, "Invalid type for 'metadata.a'", "invalid_type"),
    (
        {"prompt_cache_options": {"ttl": "30m"}, "model": "gpt-5.5"},
        "Unsupported parameter: 'prompt_cache_options'",
        "unsupported_parameter",
    ),
]


@pytest.mark.parametrize(("change", "message", "code"), _WRONG)
async def test_refuses(client: openai.AsyncOpenAI, change: JSON, message: str, code: str | None) -> None:
    said, told, _param = await _refused(client, **change)
    assert message in said
    assert told == code


_PARTS: list[tuple[JSON, str]] = [
    ({"type": "input_image", "image_url": "data:image/bmp;base64,AAAA"}, "png, jpeg, gif or webp"),
    ({"type": "input_image", "image_url": "cat.png"}, "Expected a valid URL"),
    ({"type": "input_file"}, "Missing required parameter: 'input[0].content[0].file_id'"),
    ({"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"}, "content[0].filename"),
    ({"type": "input_file", "filename": "a.pdf", "file_data": "AAAA"}, "base64-encoded data URL"),
    ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "ogg"}}, "Invalid value: 'ogg'"),
]


@pytest.mark.parametrize(("part", "message"), _PARTS)
async def test_refuses_files(client: openai.AsyncOpenAI, part: JSON, message: str) -> None:
    said, _code, _param = await _refused(client, input=[{"role": "user", "content": [part]}])
    assert message in said


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [_function(), {"type": "web_search"}], "tool_choice": {"type": "function", "name": "add"}},
        {"tools": [_function(parameters=None, strict=None)], "tool_choice": "required"},
        {"text": _format({**_object(a={"$ref": "#/$defs/x"}), "$defs": {"x": {"anyOf": [{"type": "string"}]}}})},
        {"text": _format({"type": "object", "properties": {"a": {}}}, strict=False)},
        {"reasoning": {"effort": "high", "summary": "auto"}, "include": ["reasoning.encrypted_content"]},
        {"prompt_cache_options": {"ttl": "30m"}, "prompt_cache_key": "k"},
        {"temperature": 1, "reasoning": {"effort": "none"}, "model": "gpt-5.6"},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://host.test/a.pdf"}]}]},
    ],
)
async def test_accepts(client: openai.AsyncOpenAI, change: JSON) -> None:
    assert (await _post(client, **change))["status"] == "completed"


async def _answered(client: openai.AsyncOpenAI) -> tuple[JSON, JSON]:
    thought, call = cast(list[JSON], (await _post(client))["output"])
    return thought, call


def _only(item: JSON, *names: str) -> JSON:
    return {name: item[name] for name in names}


async def test_takes_back_what_it_made(client: openai.AsyncOpenAI) -> None:
    thought, call = await _answered(client)
    bare = _only(call, "type", "call_id", "name", "arguments")
    for items in (
        [thought, call],
        [thought, bare],
        [_only(thought, "type", "summary", "encrypted_content"), call],
        [bare],
    ):
        assert (await _post(client, input=[_HI, *items, _OUTPUT]))["status"] == "completed"


async def test_refuses_reasoning_it_cannot_verify(client: openai.AsyncOpenAI, server: ProviderServer) -> None:
    thought, call = await _answered(client)
    history = [_HI, thought, call, _OUTPUT]
    forged = [_HI, {**thought, "encrypted_content": "gAAA"}, call, _OUTPUT]
    edited = [_HI, {**thought, "summary": [{"type": "summary_text", "text": "mh"}]}, call, _OUTPUT]
    async with _client(server, "another key") as stranger:
        for asked, change in (
            (client, {"input": forged}),
            (client, {"input": edited}),
            (client, {"input": history, "model": "gpt-6-luna"}),
            (stranger, {"input": history}),
        ):
            said, code, _param = await _refused(asked, **change)
            assert code == "invalid_encrypted_content"
            assert "could not be verified" in said


async def test_refuses_what_was_torn_from_its_reasoning(client: openai.AsyncOpenAI) -> None:
    thought, call = await _answered(client)
    alone, code, _param = await _refused(client, input=[_HI, call, _OUTPUT])
    assert f"of type 'function_call' was provided without its required 'reasoning' item: '{thought['id']}'" in alone
    assert code is None
    apart, _code, _param = await _refused(
        client, input=[_HI, thought, {"role": "assistant", "content": "x"}, call, _OUTPUT]
    )
    assert "without its required 'reasoning' item" in apart
    last, _code, _param = await _refused(client, input=[_HI, thought, _HI])
    assert f"Item '{thought['id']}' of type 'reasoning' was provided without its required following item." in last


async def test_custom_calls_are_paired_too(client: openai.AsyncOpenAI) -> None:
    call: JSON = {"type": "custom_tool_call", "call_id": "call_1", "name": "add", "input": "1 and 1"}
    output: JSON = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "2"}
    assert (await _post(client, input=[_HI, call, output]))["status"] == "completed"
    assert "No tool output found" in (await _refused(client, input=[_HI, call]))[0]
    assert "No tool call found" in (await _refused(client, input=[_HI, output]))[0]


async def test_a_script_that_searches_needs_the_tool() -> None:
    async with ProviderServer([Answer(web_searches=("q",), text="x")]) as server, _client(server) as client:
        with pytest.raises(openai.InternalServerError, match="declares no web_search tool"):
            await _post(client)
