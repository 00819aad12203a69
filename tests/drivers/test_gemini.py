"""The Gemini dialect whole: what it says of tools, thinking, schemas and files, and what it hears."""

import base64
from typing import cast

import httpx
import orjson
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel
from sdk_types import problems

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Choice,
    ConversationNode,
    Dialect,
    FilePart,
    Message,
    Origin,
    PromptFormatter,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.drivers.base import Decoder
from dhenara_async.drivers.gemini.content import STAND_IN_SIGNATURE
from dhenara_async.drivers.gemini.driver import GeminiDriver
from dhenara_async.errors import UnsupportedError
from dhenara_async.framing import Frame
from dhenara_async.framing.sse import SSEFramer
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.messages import Citation, HostedToolPart, JsonPart, ToolResultPart
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import ChatResponse
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall
from dhenara_async.tools.declarations import HostedTool, NamedTool, Tool
from tests.recordings import FOUND, MISSING, Recording, ids, load

JSON = dict[str, object]

_GOOGLE = AIModelAPIProviderEnum.GOOGLE_AI
_API = AIModelAPI(provider=_GOOGLE, api_key="key", base_url="https://host.test")
_PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
_PNG_TEXT = base64.b64encode(_PNG).decode()
_ELSEWHERE = Origin(provider="elsewhere", dialect="unheard_of", endpoint="host.test", account=None, model="m-1")
_SCHEMA: JSON = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_WEATHER = Tool(name="weather", description="Tells the weather.", parameters=_SCHEMA)  # type: ignore[arg-type]
_TIME = Tool(name="time")
_SEARCH = HostedTool(type="web_search")


def _endpoint(model: str = "gemini-3.8-flash", api: AIModelAPI = _API) -> AIModelEndpoint:
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


def _own(model: str = "gemini-3.8-flash") -> Origin:
    return expected_origin(_endpoint(model))


def _wire(messages: list[Message], config: AIModelCallConfig | None, model: str, *, stream: bool) -> WireRequest:
    endpoint = _endpoint(model)
    formatted = PromptFormatter.format_messages(messages, endpoint).messages
    request = ChatRequest.of(formatted, instructions=(), config=config or AIModelCallConfig(), stream=stream)
    wire = GeminiDriver().encode(request, endpoint)
    assert problems(Dialect.GEMINI, wire.body, stream=stream) == []
    return wire


def _body(
    *messages: Message, config: AIModelCallConfig | None = None, model: str = "gemini-3.8-flash", warned: object = ()
) -> JSON:
    """The request's body; the SDK's types take it, and the knobs that were ``warned`` of are these."""
    wire = _wire(list(messages) or [Message.user("hi")], config, model, stream=False)
    assert tuple((warning.code.removeprefix("param_"), warning.knob) for warning in wire.warnings) == warned
    return cast(JSON, orjson.loads(wire.body))


def _contents(*messages: Message, model: str = "gemini-3.8-flash") -> list[JSON]:
    return cast("list[JSON]", _body(*messages, model=model)["contents"])


# ---------------------------------------------------------------------------------------------------- knobs


_BOTH = AIModelCallConfig(tools=[_WEATHER, _TIME])
_DECLARED = {"name": "weather", "description": "Tells the weather.", "parametersJsonSchema": _SCHEMA}


def test_functions_are_declared_with_json_schemas() -> None:
    assert _body(config=_BOTH)["tools"] == [{"functionDeclarations": [_DECLARED, {"name": "time"}]}]
    assert "toolConfig" not in _body(config=_BOTH)


@pytest.mark.parametrize(
    ("knobs", "mode"),
    [
        ({"tool_choice": "auto"}, {"mode": "AUTO"}),
        ({"tool_choice": "required"}, {"mode": "ANY"}),
        ({"tool_choice": "none"}, {"mode": "NONE"}),
        ({"tool_choice": NamedTool(name="time")}, {"mode": "ANY", "allowedFunctionNames": ["time"]}),
        ({"tools": [_WEATHER.model_copy(update={"strict": True})]}, {"mode": "VALIDATED"}),
    ],
)
def test_tool_choice_is_a_mode(knobs: JSON, mode: JSON) -> None:
    config = _BOTH.model_copy(update=knobs)
    assert _body(config=config)["toolConfig"] == {"functionCallingConfig": mode}


def test_hosted_tools_stand_beside_functions_from_gemini_3_on() -> None:
    files = HostedTool(type="file_search", options={"fileSearchStoreNames": ["fileSearchStores/one"]})
    others = [_SEARCH, HostedTool(type="code_execution"), HostedTool(type="url_context"), files]
    config = AIModelCallConfig(tools=[_TIME, *others])
    new = _body(config=config)
    assert new["tools"] == [
        {"functionDeclarations": [{"name": "time"}]},
        {"googleSearch": {}},
        {"codeExecution": {}},
        {"urlContext": {}},
        {"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/one"]}},
    ]
    assert new["toolConfig"] == {"includeServerSideToolInvocations": True}
    old = _body(config=config, model="gemini-2.5-flash", warned=(("dropped", "tools"),))
    assert old["tools"] == [{"functionDeclarations": [{"name": "time"}]}]
    assert "toolConfig" not in old
    alone = _body(config=AIModelCallConfig(tools=[_SEARCH]), model="gemini-2.5-flash")
    assert alone.keys() == {"contents", "tools"}
    assert alone["tools"] == [{"googleSearch": {}}]


@pytest.mark.parametrize(
    ("model", "knobs", "thinking", "warned"),
    [
        ("gemini-3.8-flash", {}, None, ()),
        ("gemini-3.8-flash", {"reasoning_effort": "low"}, {"thinkingLevel": "LOW"}, ()),
        (
            "gemini-3.8-flash",
            {"reasoning_effort": "max"},
            {"thinkingLevel": "HIGH"},
            (("adjusted", "reasoning_effort"),),
        ),
        ("gemini-3.8-flash", {"reasoning": False}, {"thinkingLevel": "MINIMAL"}, ()),
        ("gemini-3.7-flash", {"reasoning": False}, {"thinkingLevel": "LOW"}, (("adjusted", "reasoning"),)),
        ("gemini-3.8-flash", {"max_reasoning_tokens": 500}, None, (("dropped", "max_reasoning_tokens"),)),
        ("gemini-3.8-flash", {"reasoning_summary": "auto"}, {"includeThoughts": True}, ()),
        ("gemini-3.8-flash", {"reasoning_summary": "none"}, {"includeThoughts": False}, ()),
        ("gemini-2.5-flash", {"reasoning": True}, {"thinkingBudget": -1}, ()),
        ("gemini-2.5-flash", {"reasoning": False}, {"thinkingBudget": 0}, ()),
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}, ()),
        ("gemini-2.5-pro", {"reasoning": False}, {"thinkingBudget": 128}, (("adjusted", "reasoning"),)),
        ("gemini-2.5-flash", {"max_reasoning_tokens": 500}, {"thinkingBudget": 500}, ()),
        ("gemini-2.5-flash", {"reasoning_effort": "medium"}, {"thinkingBudget": 8192}, ()),
        ("gemini-2.5-flash", {"reasoning_effort": "high", "max_output_tokens": 2000}, {"thinkingBudget": 1000}, ()),
        ("gemini-2.0-flash", {"reasoning": False, "reasoning_summary": "none"}, None, ()),
        ("gemini-2.0-flash", {"reasoning": True}, None, (("dropped", "reasoning"),)),
    ],
)
def test_thinking_is_a_budget_or_a_level(model: str, knobs: JSON, thinking: JSON | None, warned: object) -> None:
    body = _body(config=AIModelCallConfig.model_validate(knobs), model=model, warned=warned)
    assert cast(JSON, body.get("generationConfig", {})).get("thinkingConfig") == thinking


class _City(BaseModel):
    name: str
    people: int


def test_structured_output_is_a_json_schema() -> None:
    config = AIModelCallConfig(structured_output=_City, tools=[_TIME])
    made = cast(JSON, _body(config=config)["generationConfig"])
    assert made["responseMimeType"] == "application/json"
    assert cast(JSON, cast(JSON, made["responseJsonSchema"])["properties"]).keys() == {"name", "people"}
    old = _body(config=config, model="gemini-2.5-flash", warned=(("adjusted", "structured_output"),))
    assert "generationConfig" not in old
    assert b'"people"' in orjson.dumps(old["systemInstruction"]).replace(b'\\"', b'"')


def test_other_knobs() -> None:
    config = AIModelCallConfig.model_validate(
        {
            "n": 2,
            "top_logprobs": 3,
            "seed": 7,
            "service_tier": "flex",
            "prompt_cache": True,
            "metadata": {"team": "a"},
            "user_id": "u",
            "parallel_tool_calls": False,
        }
    )
    dropped = tuple(("dropped", knob) for knob in ("metadata", "user_id", "parallel_tool_calls"))
    body = _body(config=config, warned=dropped)
    assert body["serviceTier"] == "flex"
    assert body["generationConfig"] == {"seed": 7, "candidateCount": 2, "responseLogprobs": True, "logprobs": 3}
    keyed = AIModelCallConfig.model_validate({"prompt_cache": {"ttl": "1h"}})
    assert _body(config=keyed, warned=(("dropped", "prompt_cache"),)).keys() == {"contents"}


# ---------------------------------------------------------------------------------------------------- parts


def _call(number: int, *, origin: Origin = _ELSEWHERE, signature: str = "", arguments: str = "{}") -> ToolCallPart:
    kept = {"thoughtSignature": signature} if signature else None
    return ToolCallPart(
        call_id=f"call_{number}",
        name=f"f{number}",
        arguments=arguments,
        origin=origin,
        provider_state=kept,  # type: ignore[arg-type]
    )


def test_foreign_calls_get_the_stand_in_on_the_first_of_each_step() -> None:
    one, two, three = _call(1, signature="Zm9yZWlnbg=="), _call(2), _call(3)
    asked, answered, again, *_ = _contents(
        Message.user("go"),
        Message.assistant(one, two),
        Message.user(ToolResultPart.of(two, "b"), ToolResultPart.of(one, "a")),
        Message.assistant(three),
        Message.user(ToolResultPart.of(three, {"c": 1})),
    )[1:]
    signatures = [part.get("thoughtSignature") for part in cast("list[JSON]", asked["parts"])]
    assert signatures == [STAND_IN_SIGNATURE, None]
    assert answered["parts"] == [
        {"functionResponse": {"id": "call_1", "name": "f1", "response": {"output": "a"}}},
        {"functionResponse": {"id": "call_2", "name": "f2", "response": {"output": "b"}}},
    ]
    assert cast("list[JSON]", again["parts"])[0]["thoughtSignature"] == STAND_IN_SIGNATURE


def test_own_calls_keep_their_signatures_and_no_other_gets_one() -> None:
    one, two = _call(1, origin=_own(), signature="b3du"), _call(2, origin=_own(), arguments='{"a": 1}')
    messages = [Message.user("go"), Message.assistant(one, two)]
    messages.append(Message.user(ToolResultPart.of(one, "a"), ToolResultPart.of(two, "b")))
    assert _contents(*messages)[1]["parts"] == [
        {"functionCall": {"id": "call_1", "name": "f1", "args": {}}, "thoughtSignature": "b3du"},
        {"functionCall": {"id": "call_2", "name": "f2", "args": {"a": 1}}},
    ]
    older = cast("list[JSON]", _contents(*messages, model="gemini-2.5-flash")[1]["parts"])
    assert all("thoughtSignature" not in part for part in older)
    other = cast("list[JSON]", _contents(*messages, model="gemini-4-argon")[1]["parts"])
    assert other[0]["thoughtSignature"] == STAND_IN_SIGNATURE


def test_signature_goes_back_to_its_own_model_only() -> None:
    said = TextPart(text="x", origin=_own("gemini-4-argon"), provider_state={"thoughtSignature": "eA=="})
    history = [Message.user("go"), Message.assistant(said), Message.user("on")]
    assert _contents(*history)[1]["parts"] == [{"text": "x"}]
    assert _contents(*history, model="gemini-4-argon")[1]["parts"] == [{"text": "x", "thoughtSignature": "eA=="}]


def test_the_signature_of_an_incomplete_text_is_left_out_and_reported() -> None:
    cut = TextPart(text="x", origin=_own(), provider_state={"thoughtSignature": "eA=="}, status="interrupted")
    history = [Message.user("go"), Message.assistant(cut), Message.user("on")]
    assert _contents(*history)[1]["parts"] == [{"text": "x"}]
    (entry,) = PromptFormatter.format_messages(history, _endpoint()).report.entries
    assert (entry.code, entry.reason, entry.message, entry.part) == ("reasoning_dropped", "aborted_turn", 1, 0)


@pytest.mark.parametrize(
    ("part", "code"),
    [(ReasoningPart(origin=_own()), "reasoning_dropped"), (TextPart(text="", origin=_own()), "blank_text_dropped")],
)
def test_empty_unsigned_parts_are_left_out_and_reported(part: ReasoningPart | TextPart, code: str) -> None:
    signed = part.model_copy(update={"provider_state": {"thoughtSignature": "eA=="}})
    history = [Message.user("go"), Message.assistant(part, signed, "x"), Message.user("on")]
    thought: JSON = {"thought": True} if isinstance(part, ReasoningPart) else {}
    assert _contents(*history)[1]["parts"] == [{"text": "", **thought, "thoughtSignature": "eA=="}, {"text": "x"}]
    (entry,) = PromptFormatter.format_messages(history, _endpoint()).report.entries
    assert (entry.code, entry.message, entry.part) == (code, 1, 0)


def test_broken_arguments_are_wrapped() -> None:
    call = _call(1, arguments='{"a": ')
    said = _contents(Message.user("go"), Message.assistant(call), Message.user(ToolResultPart.of(call, "?")))[1]
    first = cast(JSON, cast("list[JSON]", said["parts"])[0]["functionCall"])
    assert first["args"] == {"_raw": '{"a": '}


_IMAGE = FilePart(media_type="image/png", data=_PNG, filename="a.png")
_SOUND = FilePart(media_type="audio/wav", data=b"RIFFsound")


@pytest.mark.parametrize(
    ("result", "response"),
    [
        (ToolResultPart.of(_call(1), "words"), {"output": "words"}),
        (ToolResultPart.of(_call(1)), {"output": ""}),
        (ToolResultPart.of(_call(1), "one", "two"), {"output": "one\ntwo"}),
        (ToolResultPart.of(_call(1), {"a": [1]}), {"a": [1]}),
        (ToolResultPart.of(_call(1), JsonPart(value=[1, 2])), {"output": [1, 2]}),
        (ToolResultPart.of(_call(1), "one", {"a": 1}), {"output": ["one", {"a": 1}]}),
        (ToolResultPart.of(_call(1), "no luck", is_error=True), {"error": "no luck"}),
        (ToolResultPart.of(_call(1), {"why": 1}, is_error=True), {"error": {"why": 1}}),
    ],
)
def test_results_are_objects(result: ToolResultPart, response: JSON) -> None:
    given = _contents(Message.user("go"), Message.assistant(_call(1)), Message.user(result))[2]
    assert given["parts"] == [{"functionResponse": {"id": "call_1", "name": "f1", "response": response}}]


def test_files_of_results_go_inside_where_they_may() -> None:
    result = ToolResultPart.of(_call(1), "seen", _IMAGE, _SOUND)
    messages = [Message.user("go"), Message.assistant(_call(1)), Message.user(result, "and now?")]
    sound = {"inlineData": {"mimeType": "audio/wav", "data": base64.b64encode(b"RIFFsound").decode()}}
    response: JSON = {"id": "call_1", "name": "f1", "response": {"output": "seen"}}
    inside = {"inlineData": {"mimeType": "image/png", "data": _PNG_TEXT, "displayName": "a.png"}}
    assert _contents(*messages)[2]["parts"] == [
        {"functionResponse": {**response, "parts": [inside]}},
        {"text": "Files from the result of f1:"},
        sound,
        {"text": "and now?"},
    ]
    image = {"inlineData": {"mimeType": "image/png", "data": _PNG_TEXT}}
    assert _contents(*messages, model="gemini-2.5-flash")[2]["parts"] == [
        {"functionResponse": response},
        {"text": "Files from the result of f1:"},
        image,
        sound,
        {"text": "and now?"},
    ]


def test_files_by_bytes_address_and_id() -> None:
    video = FilePart.from_url("https://www.youtube.com/watch?v=x")
    stored = FilePart(media_type="application/pdf", file_id="files/abc")
    there = FilePart(media_type="audio/mpeg", file_id="gs://bucket/a.mp3")
    pdf = FilePart(media_type="application/pdf", data=b"%PDF-1.7")
    assert _contents(Message.user(video, stored, there, pdf))[0]["parts"] == [
        {"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}},
        {
            "fileData": {
                "mimeType": "application/pdf",
                "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
            }
        },
        {"fileData": {"mimeType": "audio/mpeg", "fileUri": "gs://bucket/a.mp3"}},
        {"inlineData": {"mimeType": "application/pdf", "data": base64.b64encode(b"%PDF-1.7").decode()}},
    ]
    with pytest.raises(UnsupportedError, match=r"gemini-3\.8-flash.*application/zip"):
        _contents(Message.user(FilePart(media_type="application/zip", data=b"PK")))


# ---------------------------------------------------------------------------------------------------- answers


def _decoder(stream: bool = False, model: str = "gemini-3.8-flash") -> Decoder:
    request = ChatRequest.of([Message.user("hi")], instructions=(), config=AIModelCallConfig(), stream=stream)
    return GeminiDriver().decoder(request, _own(model))


def _heard(*chunks: object, model: str = "gemini-3.8-flash") -> ChatResponse:
    decoder, accumulator = _decoder(len(chunks) > 1, model), Accumulator(provider="google_ai", model=model)
    for chunk in chunks:
        accumulator.feed(decoder.feed(orjson.dumps(chunk)))
    accumulator.feed(decoder.finish())
    return accumulator.response()


def _chunk(*parts: JSON, **more: object) -> JSON:
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": list(parts)}, **more}]}


def test_pictures_are_files_and_go_back_with_their_signature() -> None:
    raw: JSON = {"inlineData": {"mimeType": "image/png", "data": _PNG_TEXT}, "thoughtSignature": "c2ln"}
    response = _heard(_chunk({"text": "Here: "}, raw, finishReason="STOP"))
    (file,) = response.files()
    assert (file.media_type, file.data) == ("image/png", _PNG)
    assert _replayed(response)[1]["parts"] == [{"text": "Here: "}, raw]
    assert _replayed(response, "gemini-4-argon")[1]["parts"] == [{"text": "Here: "}]


def test_sound_keeps_its_whole_type() -> None:
    raw: JSON = {"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": "AAAA"}}
    response = _heard(_chunk(raw, finishReason="STOP"))
    assert response.files()[0].media_type == "audio/L16"
    assert _replayed(response)[1]["parts"] == [raw]


_GROUNDED = "Zürich is “big”. It rains in Bern."
_RAIN = "It rains in Bern."
_STARTS = _GROUNDED.encode().index(_RAIN.encode())
_GROUNDING = {
    "webSearchQueries": ["weather bern", "zürich"],
    "groundingChunks": [{"web": {"uri": "https://a.test", "title": "a"}}, {"web": {"uri": "https://b.test"}}],
    "groundingSupports": [
        {"segment": {"endIndex": _STARTS - 1, "text": _GROUNDED[:16]}, "groundingChunkIndices": [1]},
        {
            "segment": {"startIndex": _STARTS, "endIndex": len(_GROUNDED.encode()), "text": _RAIN},
            "groundingChunkIndices": [0, 1],
        },
    ],
}


@pytest.mark.parametrize("streamed", [False, True])
def test_citations_count_characters(streamed: bool) -> None:
    thought: JSON = {"text": "Hm.", "thought": True}
    last: JSON = {"finishReason": "STOP", "groundingMetadata": _GROUNDING, "urlContextMetadata": {"urlMetadata": []}}
    if streamed:
        pieces = [_chunk({"text": _GROUNDED[:5]}), _chunk({"text": _GROUNDED[5:]})]
        response = _heard(_chunk(thought), *pieces, _chunk({"text": "", "thoughtSignature": "c2ln"}, **last))
    else:
        response = _heard(_chunk(thought, {"text": _GROUNDED}, **last))
    spans = [(cited.url, _GROUNDED[cited.start : cited.end]) for cited in response.citations()]
    assert spans == [("https://a.test", _RAIN), ("https://b.test", _GROUNDED[:16]), ("https://b.test", _RAIN)]
    (text,) = (part for part in response.choices[0].parts if isinstance(part, TextPart) and part.text)
    assert text.provider_state is not None
    assert text.provider_state.keys() == {"groundingMetadata", "urlContextMetadata"}
    assert b"grounding" not in orjson.dumps(_replayed(response))


def test_citations_without_a_passage_are_kept() -> None:
    grounding = {"groundingChunks": [{"retrievedContext": {"text": "own words", "title": "t", "documentName": "d"}}]}
    sources = {"citationSources": [{"startIndex": 1, "endIndex": 900, "uri": "https://c.test"}, {"endIndex": 2}]}
    answer = _chunk({"text": "Yes."}, groundingMetadata=grounding, citationMetadata=sources, finishReason="STOP")
    assert _heard(answer).citations() == (
        Citation(title="t", cited_text="own words", file_id="d"),
        Citation(url="https://c.test"),
        Citation(start=0, end=2),
    )


def test_hosted_tools_are_parts_and_go_back_as_they_came() -> None:
    parts: list[JSON] = [
        {
            "toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "s1", "args": {"queries": ["x"]}},
            "thoughtSignature": "YQ==",
        },
        {
            "toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "id": "s1", "response": {"y": 1}},
            "thoughtSignature": "Yg==",
        },
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
        {"text": "1", "thoughtSignature": "Yw=="},
    ]
    response = _heard(_chunk(*parts, finishReason="STOP"))
    hosted = [part for part in response.choices[0].parts if isinstance(part, HostedToolPart)]
    assert [(part.name, part.tool, part.call_id, part.input, part.output) for part in hosted] == [
        ("toolCall", "web_search", "s1", {"queries": ["x"]}, None),
        ("toolResponse", "web_search", "s1", None, {"y": 1}),
        ("executableCode", "code_execution", None, {"language": "PYTHON", "code": "print(1)"}, None),
        ("codeExecutionResult", "code_execution", None, None, {"outcome": "OUTCOME_OK", "output": "1\n"}),
    ]
    assert _replayed(response)[1]["parts"] == parts


def test_arguments_that_come_in_pieces() -> None:
    def piece(path: str, **value: object) -> JSON:
        return {"jsonPath": path, **value}

    def step(*pieces: JSON, **more: object) -> JSON:
        return _chunk({"functionCall": {"partialArgs": list(pieces), "willContinue": True, **more}})

    response = _heard(
        step(piece("$.city", stringValue="New ", willContinue=True), name="weather", id="c1"),
        step(piece("$.city", stringValue="York"), piece("$.days[1].hot", boolValue=True)),
        step(piece("$.days[0]", nullValue="NULL_VALUE"), piece("$['a b']", numberValue=2)),
        _chunk({"functionCall": {}}, finishReason="STOP"),
    )
    (call,) = response.tools()
    assert (call.call_id, call.name) == ("c1", "weather")
    assert call.parsed() == {"city": "New York", "days": [None, {"hot": True}], "a b": 2}
    assert response.finish_reason == "tool_calls"


def test_several_candidates_logprobs_and_audio() -> None:
    logprobs = {
        "chosenCandidates": [{"token": "A", "logProbability": -0.5}],
        "topCandidates": [
            {"candidates": [{"token": "A", "logProbability": -0.5}, {"token": "B", "logProbability": -1}]}
        ],
    }
    answer = _chunk({"text": "A"}, finishReason="STOP", logprobsResult=logprobs)
    cast("list[JSON]", answer["candidates"]).append(
        {"index": 1, "content": {"parts": [{"text": "B"}]}, "finishReason": "MAX_TOKENS"}
    )
    answer["usageMetadata"] = {
        "promptTokenCount": 9,
        "totalTokenCount": 10,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2}, {"modality": "AUDIO", "tokenCount": 7}],
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}],
    }
    response = _heard(answer)
    assert [(choice.text(), choice.finish_reason) for choice in response.choices] == [("A", "stop"), ("B", "length")]
    (text,) = response.choices[0].parts
    assert isinstance(text, TextPart)
    assert [(item.token, item.logprob, tuple(item.top)) for item in text.logprobs] == [
        ("A", -0.5, (("A", -0.5), ("B", -1.0)))
    ]
    assert (response.usage.input_audio_tokens, response.usage.output_audio_tokens) == (7, 1)


def _replayed(response: ChatResponse, model: str = "gemini-3.8-flash") -> list[JSON]:
    """The answer through a node's JSON into the next request, with every call answered."""
    node = ConversationNode(user_query="q", attached_files=[], response=response, timestamp="2026-11-22T12:00:00Z")
    again = ConversationNode.model_validate_json(node.model_dump_json())
    assert again == node
    results = [ToolResultPart.of(call, "done") for call in again.response.tools()] if again.response else []
    formatted = PromptFormatter.format_conversation([again], _endpoint(model)).messages
    return _contents(*formatted, Message.user(*results, "next"), model=model)


def _frames(recording: Recording) -> list[Frame]:
    if recording.framing != "sse":
        return [recording.body]
    framer = SSEFramer()
    return [*framer.feed(recording.body), *framer.finish()]


def _said(recording: Recording) -> list[JSON]:
    """The parts of a recorded answer, with neighbours of one kind joined where neither is signed."""
    joined: list[JSON] = []
    for frame in _frames(recording):
        candidates = cast("list[JSON]", cast(JSON, orjson.loads(frame)).get("candidates", []))
        for candidate in candidates[:1]:
            content = cast("dict[str, list[JSON]]", candidate.get("content", {}))
            for part in content.get("parts", []):
                if joined and _run_on(joined[-1], part):
                    joined[-1]["text"] = cast(str, joined[-1]["text"]) + cast(str, part["text"])
                elif part.get("text") != "" or "thoughtSignature" in part:
                    joined.append(dict(part))
    return joined


def _run_on(last: JSON, part: JSON) -> bool:
    return last.keys() == part.keys() <= {"text", "thought"} and last.get("thought") == part.get("thought")


def _signed_recordings() -> list[str]:
    names = [name for name in ids() if name.startswith("gemini_generate/")]
    return [name for name in names if b"thoughtSignature" in load(name).body] if FOUND else []


@pytest.mark.skipif(not FOUND, reason=MISSING)
@pytest.mark.parametrize("recording_id", _signed_recordings() or ["none"])
def test_signed_answers_go_back_byte_for_byte(recording_id: str) -> None:
    recording = load(recording_id)
    accumulator = Accumulator(provider="google_ai", model="gemini-3.8-flash")
    decoder = _decoder(recording.stream)
    for frame in _frames(recording):
        accumulator.feed(decoder.feed(frame))
    accumulator.feed(decoder.finish())
    sent = _replayed(accumulator.response())[1]["parts"]
    assert orjson.dumps(_sorted(sent)) == orjson.dumps(_sorted(_said(recording)))


def _recorded(*features: str) -> list[str]:
    names = [name for name in ids() if name.startswith("gemini_generate/")]
    return [name for name in names if not {*features}.isdisjoint(load(name).features)]


@pytest.mark.skipif(not FOUND, reason=MISSING)
@pytest.mark.parametrize("recording_id", _recorded("citations", "image_output") or ["none"])
def test_recorded_sources_and_pictures(recording_id: str) -> None:
    """The recordings list a source once, and by its address or the title it has on the web."""
    recording = load(recording_id)
    accumulator = Accumulator(provider="google_ai", model="gemini-3.8-flash")
    decoder = _decoder(recording.stream)
    for frame in _frames(recording):
        accumulator.feed(decoder.feed(frame))
    partial = accumulator.partial()  # some of these end without a reason
    accumulator.feed(decoder.finish())
    response = accumulator.response()
    if recording.stream:  # a plain body waits for its end, which tells it from the first event of a stream
        assert partial.text() == response.text()
    listed = cast("list[str | None]", recording.expect.get("citations") or [])
    assert list(dict.fromkeys(cited.url or cited.title for cited in response.citations())) == list(
        dict.fromkeys(listed)
    )
    for part in (part for part in response.choices[0].parts if isinstance(part, TextPart)):
        for cited in part.citations:
            assert cited.end is None or 0 <= (cited.start or 0) < cited.end <= len(part.text)
    images = cast("list[JSON]", recording.expect.get("images") or [])
    assert [(file.media_type, len(file.data or b"")) for file in response.files()] == [
        (image["mime"], image["bytes"]) for image in images
    ]


def _sorted(value: object) -> object:
    """The order of members says nothing; a call without arguments has empty ones."""
    if isinstance(value, list):
        return [_sorted(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        members = cast(JSON, value)
        if "functionCall" in members:
            members: JSON = {**members, "functionCall": {"args": {}, **cast(JSON, members["functionCall"])}}
        return {key: _sorted(members[key]) for key in sorted(members)}
    return value


# ---------------------------------------------------------------------------------------------------- a strict host


_PARIS = ScriptedToolCall(call_id="fc1", name="weather", arguments='{"city":"Paris"}')
_NOW = ScriptedToolCall(call_id="", name="time")


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-2.5-flash"])
@pytest.mark.parametrize("streaming", [False, True])
async def test_tool_loop(model: str, streaming: bool) -> None:
    script = [Answer(reasoning="Two things.", tool_calls=(_PARIS, _NOW)), Answer(text="It rains at noon.")]
    async with ProviderServer(script) as server:
        client = AIModelClient(_endpoint(model, server.api(_GOOGLE)), _BOTH.model_copy(update={"streaming": streaming}))
        first = (await client.generate("Weather?")).chat_response
        assert [(call.name, call.parsed()) for call in first.tools()] == [("weather", {"city": "Paris"}), ("time", {})]
        paris, now = first.tools()
        results = Message.user(ToolResultPart.of(now, "noon"), ToolResultPart.of(paris, {"sky": "rain"}))
        messages = [Message.user("Weather?"), Message.assistant(*first.choices[0].parts), results]
        assert (await client.generate(messages=messages)).text() == "It rains at noon."
        assert [seen.status for seen in server.requests] == [200, 200]
        body = cast(JSON, server.requests[1].json)
        answered = cast("list[JSON]", cast("list[JSON]", body["contents"])[2]["parts"])
    assert answered == [
        {"functionResponse": {"id": "fc1", "name": "weather", "response": {"sky": "rain"}}},
        {"functionResponse": {"name": "time", "response": {"output": "noon"}}},
    ]


@pytest.mark.parametrize("streaming", [False, True])
async def test_structured_and_reasoning_calls(streaming: bool) -> None:
    script = [Answer(text='{"name":"Bern","people":134000}'), Answer(reasoning="Hm.", text="42")]
    async with ProviderServer(script) as server:
        client = AIModelClient(_endpoint(api=server.api(_GOOGLE)))
        config = AIModelCallConfig(structured_output=_City, streaming=streaming)
        structured = await client.generate("Which?", config=config)
        assert _City.model_validate_json(structured.text()).people == 134_000
        config = AIModelCallConfig(reasoning_effort="high", reasoning_summary="auto", streaming=streaming)
        thought = (await client.generate("Why?", config=config)).chat_response
        assert (thought.reasoning(), thought.text()) == ("Hm.", "42")
        messages = [Message.user("Why?"), Message.assistant(*thought.choices[0].parts), Message.user("And?")]
        async with ProviderServer() as other:
            elsewhere = AIModelClient(_endpoint(api=other.api(_GOOGLE)))
            await elsewhere.generate(messages=messages)  # another host: no signature may arrive there
        assert b"thoughtSignature" not in other.requests[0].body
        assert [part for part in thought.choices[0].parts if isinstance(part, ReasoningPart)]


@pytest.mark.parametrize("streaming", [False, True])
async def test_searches_candidates_and_logprobs(streaming: bool) -> None:
    cited = Citation(url="https://a.test", title="a", start=7, end=12)
    async with ProviderServer(
        [Answer(text="Zürich rains.", web_searches=("zürich",), citations=(cited,))] * 2
    ) as server:
        client = AIModelClient(_endpoint(api=server.api(_GOOGLE)))
        config = AIModelCallConfig(tools=[_SEARCH, _TIME], n=2, top_logprobs=1, streaming=streaming)
        response = (await client.generate("Weather?", config=config)).chat_response
        assert [choice.citations() for choice in response.choices] == [(cited,), (cited,)]
        assert [part.tool for part in response.choices[0].parts if isinstance(part, HostedToolPart)] == [
            "web_search"
        ] * 2
        assert _tokens(response.choices[1]) == ["Zürich", " rains."]
        messages = [Message.user("Weather?"), Message.assistant(*response.choices[0].parts), Message.user("And?")]
        await client.generate(messages=messages, config=config)
        assert server.requests[1].status == 200


def _tokens(choice: Choice) -> list[str]:
    return [item.token for part in choice.parts if isinstance(part, TextPart) for item in part.logprobs]


# ---------------------------------------------------------------------------------------------------- the vendor's SDK


def _vendor(server: ProviderServer) -> genai.Client:
    options = types.HttpOptions(
        base_url=server.base_url(_GOOGLE), async_client_args={"transport": httpx.AsyncHTTPTransport()}
    )
    return genai.Client(api_key="key", http_options=options)


@pytest.mark.parametrize("streamed", [False, True])
async def test_vendor_gets_the_same_tool_loop(streamed: bool) -> None:
    script = [Answer(reasoning="Two things.", tool_calls=(_PARIS, _NOW)), Answer(text="It rains at noon.")]
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema=_SCHEMA)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW, include_thoughts=True),
    )
    async with ProviderServer(script) as server, _vendor(server).aio as client:
        history: list[types.Content] = [types.UserContent("Weather?")]
        parts = await _vendor_says(client, history, config, streamed=streamed)
        calls = [part.function_call for part in parts if part.function_call]
        assert [(call.name, call.args) for call in calls] == [("weather", {"city": "Paris"}), ("time", {})]
        assert "".join(part.text or "" for part in parts if part.thought) == "Two things."
        results = [types.Part.from_function_response(name=call.name or "", response={"a": 1}) for call in calls]
        history += [types.Content(role="model", parts=parts), types.Content(role="user", parts=results)]
        again = await _vendor_says(client, history, config, streamed=streamed)
        assert "".join(part.text or "" for part in again) == "It rains at noon."


async def _vendor_says(
    client: genai.client.AsyncClient,
    history: list[types.Content],
    config: types.GenerateContentConfig,
    *,
    streamed: bool,
) -> list[types.Part]:
    model = "gemini-3.8-flash"
    if not streamed:
        whole = await client.models.generate_content(  # pyright: ignore[reportUnknownMemberType] - PIL's images
            model=model, contents=list(history), config=config
        )
        return _vendor_parts(whole)
    stream = await client.models.generate_content_stream(  # pyright: ignore[reportUnknownMemberType] - PIL's images
        model=model, contents=list(history), config=config
    )
    return [part async for chunk in stream for part in _vendor_parts(chunk)]


def _vendor_parts(response: types.GenerateContentResponse) -> list[types.Part]:
    candidates = response.candidates or []
    content = candidates[0].content if candidates else None
    return list(content.parts or []) if content else []
