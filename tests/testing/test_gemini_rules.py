"""The loopback server's Gemini is as strict as the service: tools, schemas, thinking, signatures."""

import re
from collections.abc import Callable
from typing import cast

import httpx
import pytest

from dhenara_async import AIModelAPIProviderEnum
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall
from dhenara_async.testing.dialects.gemini_spelling import in_camel_case

JSON = dict[str, object]

_NEW, _OLD = "gemini-3.8-flash", "gemini-2.5-flash"
_STAND_IN = "skip_thought_signature_validator"
_STAND_IN_ENCODED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
_F: JSON = {"name": "f"}
_TOOLS: JSON = {"tools": [{"functionDeclarations": [_F]}]}
_SEARCH: JSON = {"googleSearch": {}}
_BOTH: JSON = {"tools": [{"functionDeclarations": [_F]}, _SEARCH]}
_SCHEMA: JSON = {"type": "object", "properties": {"a": {"type": "string"}}}


def _mode(**config: object) -> JSON:
    return {**_TOOLS, "toolConfig": {"functionCallingConfig": config}}


def _generation(**config: object) -> JSON:
    return {"generationConfig": config}


def _declared(**declaration: object) -> JSON:
    return {"tools": [{"functionDeclarations": [{**_F, **declaration}]}]}


def _thinking(**config: object) -> JSON:
    return _generation(thinkingConfig=config)


def _content(role: str, *parts: JSON) -> JSON:
    return {"role": role, "parts": list(parts)}


_HI = _content("user", {"text": "hi"})


def _called(*signatures: str | None, results: int | None = None, inside: JSON | None = None) -> JSON:
    """A turn with a call for each signature, and its results."""
    calls: list[JSON] = [
        {"functionCall": {"name": "f", "args": {}}, **({"thoughtSignature": word} if word else {})}
        for word in signatures
    ]
    response: JSON = {"name": "f", "response": {}, **({"parts": [{"inlineData": inside}]} if inside else {})}
    given: list[JSON] = [{"functionResponse": response}] * (len(calls) if results is None else results)
    return {"contents": [_HI, _content("model", *calls), _content("user", *given)]}


_PICTURE: JSON = {"mimeType": "image/png", "data": "AAAA"}
_SOUND: JSON = {"mimeType": "audio/wav", "data": "AAAA"}

_REFUSED: list[tuple[str, JSON, str]] = [
    (_NEW, {"tools": [{"web_search": {}}]}, 'Unknown name "webSearch"'),
    (_NEW, {"tools": [{"functionDeclarations": [{"name": "1st"}]}]}, "Invalid function name"),
    (_NEW, {"tools": [{"functionDeclarations": [_F, _F]}]}, "Duplicate function declaration found: f"),
    (_NEW, _declared(strict=True), 'Unknown name "strict"'),
    (_NEW, _declared(parameters=_SCHEMA, parametersJsonSchema=_SCHEMA), "exclusive"),
    (_NEW, _declared(parametersJsonSchema={"$schema": "x"}), "unsupported keyword $schema"),
    (_NEW, _declared(parametersJsonSchema={"properties": {"a": {"const": 1}}}), "unsupported keyword const"),
    (_NEW, _declared(parametersJsonSchema={"$defs": {"a": {"anyOf": [{"examples": ["x"]}]}}}), "keyword examples"),
    (_NEW, _mode(mode="REQUIRED"), 'function_calling_config.mode\': "REQUIRED"'),
    (_NEW, _mode(mode="AUTO", allowedFunctionNames=["f"]), "only supported with mode ANY"),
    (_NEW, _mode(mode="ANY", allowedFunctionNames=["g"]), "g is not declared"),
    (_NEW, {**_mode(mode="ANY"), "tools": []}, "no function declarations"),
    (_NEW, {"toolConfig": {"mode": "ANY"}}, 'Unknown name "mode"'),
    (_OLD, {"toolConfig": {"includeServerSideToolInvocations": True}}, "Tool call context circulation is not enabled"),
    (_OLD, _BOTH, "cannot be combined"),
    (_NEW, _BOTH, "include_server_side_tool_invocations"),
    (_OLD, {**_TOOLS, **_generation(responseMimeType="application/json")}, "'application/json' is unsupported"),
    (_NEW, _generation(responseJsonSchema=_SCHEMA), "response_mime_type"),
    (
        _NEW,
        _generation(responseJsonSchema=_SCHEMA, responseSchema=_SCHEMA, responseMimeType="application/json"),
        "only one of response_schema",
    ),
    (
        _NEW,
        _generation(responseJsonSchema={"exclusiveMinimum": 1}, responseMimeType="application/json"),
        "unsupported keyword exclusiveMinimum",
    ),
    (_NEW, _thinking(thinkingLevel="LOW", thinkingBudget=5), "only one of thinking budget and thinking level"),
    (_OLD, _thinking(thinkingLevel="LOW", thinkingBudget=5), "only one of thinking budget and thinking level"),
    (_NEW, _thinking(thinkingBudget=5), "Thinking budget is not supported"),
    (_OLD, _thinking(thinkingLevel="LOW"), "Thinking level is not supported"),
    (_NEW, _thinking(thinkingLevel="MAX"), "thinking_level"),
    (_NEW, _thinking(effort="low"), 'Unknown name "effort"'),
    ("gemini-3.7-flash", _thinking(thinkingLevel="MINIMAL"), "MINIMAL is not supported"),
    ("gemini-2.5-pro", _thinking(thinkingBudget=0), "only works in thinking mode"),
    ("gemini-2.0-flash", _thinking(includeThoughts=True), "Thinking is not supported"),
    (_NEW, _generation(candidateCount=9), "candidate_count"),
    (_NEW, _generation(logprobs=2), "response_logprobs"),
    (_NEW, _called(None), "missing a thought_signature in functionCall parts"),
    (_NEW, _called(None, _STAND_IN), "missing a thought_signature in functionCall parts"),
    (_NEW, _called(_STAND_IN, results=2), "number of function response parts is equal"),
    (_NEW, _called("Zm9yZWlnbg=="), "Thought signature is not valid"),
    (_NEW, _called(_STAND_IN, "Zm9yZWlnbg=="), "Thought signature is not valid"),
    (_OLD, _called(None, inside=_PICTURE), "Multimodal function responses are not supported"),
    (_NEW, _called(_STAND_IN, inside=_SOUND), "Unsupported MIME type"),
    (
        _NEW,
        {"contents": [_HI, _content("model", {"text": "", "thoughtSignature": "Zm9yZWlnbg=="}), _HI]},
        "Thought signature is not valid",
    ),
]

_TAKEN: list[tuple[str, JSON]] = [
    (_NEW, {**_BOTH, "toolConfig": {"includeServerSideToolInvocations": True}}),
    (_NEW, {"tools": [_SEARCH, {"url_context": {}}, {"codeExecution": {}}]}),
    (_NEW, {"tools": [{"function_declarations": [{**_F, "parameters_json_schema": _SCHEMA}]}]}),
    (_NEW, _declared(parametersJsonSchema={"properties": {"const": {"type": "string", "enum": ["examples"]}}})),
    (_NEW, _mode(mode="ANY", allowedFunctionNames=["f"])),
    (_NEW, _mode(mode="VALIDATED")),
    (_NEW, {**_TOOLS, **_generation(responseMimeType="application/json", responseJsonSchema=_SCHEMA)}),
    (_NEW, _thinking(thinkingLevel="low", include_thoughts=True)),
    (_OLD, _thinking(thinkingBudget=0)),
    (_NEW, _generation(candidateCount=2, responseLogprobs=True, logprobs=2)),
    (_NEW, _called(_STAND_IN, None, inside=_PICTURE)),
    (_NEW, _called(_STAND_IN_ENCODED)),
    (_OLD, _called(None)),
    (_OLD, _called("Zm9yZWlnbg==")),
]


async def _post(server: ProviderServer, model: str, body: JSON) -> httpx.Response:
    url = f"{server.base_url(AIModelAPIProviderEnum.GOOGLE_AI)}/v1beta/models/{model}:generateContent"
    async with httpx.AsyncClient(headers={"x-goog-api-key": "key"}) as client:
        return await client.post(url, json={"contents": [_HI], **body})


def _as_it_is(body: JSON) -> JSON:
    return body


def _in_snake_case(body: JSON) -> JSON:
    """The body in protobuf's own names; what is an application's stays as it is."""
    return {
        re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name): value if name in _FREE else _snake_value(value)
        for name, value in body.items()
    }


_FREE = {"args", "response", "parametersJsonSchema", "responseJsonSchema", "properties"}


def _snake_value(value: object) -> object:
    if isinstance(value, list):
        return [_snake_value(item) for item in cast("list[object]", value)]
    return _in_snake_case(cast(JSON, value)) if isinstance(value, dict) else value


_SPELLED = pytest.mark.parametrize("spelled", [_as_it_is, _in_snake_case])


@_SPELLED
@pytest.mark.parametrize(("model", "body", "message"), _REFUSED)
async def test_refuses(model: str, body: JSON, message: str, spelled: Callable[[JSON], JSON]) -> None:
    async with ProviderServer() as server:
        response = await _post(server, model, spelled(body))
        error = response.json()["error"]
        assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
        assert message in error["message"]


@_SPELLED
@pytest.mark.parametrize(("model", "body"), _TAKEN)
async def test_takes(model: str, body: JSON, spelled: Callable[[JSON], JSON]) -> None:
    async with ProviderServer() as server:
        response = await _post(server, model, spelled(body))
        assert response.status_code == 200, response.text


async def test_takes_what_the_documentation_leaves_out() -> None:
    """A role, and the lists around single values."""
    body: JSON = {
        "contents": {"parts": {"text": "hi"}},
        "system_instruction": {"parts": {"text": "Be brief."}},
        "tools": {"function_declarations": {"name": "f"}},
        "safety_settings": {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"},
        "generation_config": {"max_output_tokens": 9, "thinking_config": {"thinking_level": "low"}},
    }
    async with ProviderServer() as server:
        assert (await _post(server, _NEW, body)).status_code == 200
        (seen,) = server.requests
        assert (seen.system, seen.turns) == ("Be brief.", (("user", "hi"),))
        assert seen.json == body


async def test_refuses_a_field_in_both_spellings() -> None:
    body: JSON = {"generationConfig": {"topK": 1, "top_k": 1}}
    async with ProviderServer() as server:
        refused = (await _post(server, _NEW, body)).json()
        assert 'Unknown name "top_k"' in refused["error"]["message"]


async def test_leaves_the_names_of_an_application_as_they_are() -> None:
    arguments = {"first_name": {"last_name": "x", "mime_type": 1}}
    call: JSON = {"function_call": {"name": "f", "args": arguments}, "thought_signature": _STAND_IN}
    result: JSON = {"function_response": {"name": "f", "response": {"page_count": 2}}}
    schema = {"type": "OBJECT", "properties": {"first_name": {"type": "STRING", "max_length": "9"}}}
    body: JSON = {
        "contents": [_HI, _content("model", call), _content("user", result)],
        "tools": [{"function_declarations": [{"name": "f", "parameters": schema}]}],
        "generation_config": {"response_mime_type": "application/json", "response_schema": schema},
    }
    async with ProviderServer() as server:
        assert (await _post(server, _NEW, body)).status_code == 200
        said = [text for _, text in server.requests[0].turns]
    assert said == ["hi", 'f({"first_name":{"last_name":"x","mime_type":1}})', '{"page_count":2}']
    declared = in_camel_case(body)["tools"]
    told = cast("list[JSON]", cast("list[JSON]", declared)[0]["functionDeclarations"])[0]
    assert told["parameters"] == {
        "type": "OBJECT",
        "properties": {"first_name": {"type": "STRING", "maxLength": "9"}},
    }


async def test_signatures_are_good_for_the_model_they_were_given_for() -> None:
    script = [Answer(tool_calls=(ScriptedToolCall(call_id="", name="f"),))] + [Answer(text="x")] * 2
    async with ProviderServer(script) as server:
        first = (await _post(server, _NEW, _TOOLS)).json()
        signature = first["candidates"][0]["content"]["parts"][0]["thoughtSignature"]
        assert (await _post(server, _NEW, _called(signature))).status_code == 200
        urlsafe = signature.replace("+", "-").replace("/", "_")
        assert (await _post(server, _NEW, _called(urlsafe))).status_code == 200
        other = await _post(server, "gemini-4-argon", _called(signature))
        assert "Thought signature is not valid" in other.text
