"""The loopback server's Gemini is as strict as the service: tools, schemas, thinking, signatures."""

import httpx
import pytest

from dhenara_async import AIModelAPIProviderEnum
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall

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


@pytest.mark.parametrize(("model", "body", "message"), _REFUSED)
async def test_refuses(model: str, body: JSON, message: str) -> None:
    async with ProviderServer() as server:
        response = await _post(server, model, body)
        error = response.json()["error"]
        assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
        assert message in error["message"]


@pytest.mark.parametrize(("model", "body"), _TAKEN)
async def test_takes(model: str, body: JSON) -> None:
    async with ProviderServer() as server:
        response = await _post(server, model, body)
        assert response.status_code == 200, response.text


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
