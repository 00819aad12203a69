"""Anthropic Messages, whole: what is sent for every knob and part, what is made of every block, and loops of both."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, cast

import anthropic
import orjson
import pytest
from pydantic import BaseModel, JsonValue
from sdk_types import problems

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ChatResponse,
    Citation,
    ConversationNode,
    Dialect,
    FilePart,
    FinishReason,
    HostedTool,
    HostedToolPart,
    JsonPart,
    Message,
    NamedTool,
    Origin,
    PromptCache,
    PromptFormatter,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.errors import ProtocolError, UnsupportedError
from dhenara_async.events import StreamEvent
from dhenara_async.framing.sse import SSEFramer
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.testing import Answer, ProviderServer, ReplayTransport, ScriptedToolCall, check_grammar
from tests import recordings
from tests.loopback import NO_RETRIES

JsonObject = dict[str, object]

_NEW, _FABLE, _OPUS_46, _OLD, _OLDER = (
    "claude-sonnet-5-5",
    "claude-fable-5-2",
    "claude-opus-4-6",
    "claude-haiku-4-5",
    "claude-sonnet-4-0",
)
_PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
_PDF = b"%PDF-1.7 words"
_ADD = Tool(
    name="add",
    description="Adds two numbers.",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
)


class Weather(BaseModel):
    """What it is like outside."""

    city: str
    degrees: float


def _endpoint(model: str, api: AIModelAPI | None = None) -> AIModelEndpoint:
    here = api or AIModelAPI(provider=AIModelAPIProviderEnum.ANTHROPIC, api_key="key")
    return AIModelEndpoint(api=here, ai_model=AIModel(model_name=model))


def _wire(
    model: str, config: AIModelCallConfig | None = None, messages: Sequence[Message] = (Message.user("hi"),)
) -> WireRequest:
    """What is sent; in any case it fits the SDK's own types."""
    endpoint = _endpoint(model)
    legal = PromptFormatter.format_messages(messages, endpoint).messages
    request = ChatRequest.of(legal, instructions=(), config=config or AIModelCallConfig(), stream=False)
    wire = driver_for(endpoint).encode(request, endpoint)
    extras = {"temperature", "top_p", "top_k"} if wire.headers["anthropic-version"] == "2023-06-01" else set[str]()
    assert problems(Dialect.ANTHROPIC_MESSAGES, wire.body, stream=False, extras=extras) == []
    return wire


def _body(
    model: str, config: AIModelCallConfig | None = None, messages: Sequence[Message] = (Message.user("hi"),)
) -> JsonObject:
    return orjson.loads(_wire(model, config, messages).body)


def _said(model: str, *messages: Message) -> list[JsonObject]:
    return cast("list[JsonObject]", _body(model, messages=messages)["messages"])


def _warned(wire: WireRequest) -> list[tuple[str, str]]:
    return [(warning.code, warning.knob) for warning in wire.warnings]


# ---------------------------------------------------------------------------------------------------- tools


def test_tools_are_spelled_with_schema_and_choice() -> None:
    strict = _ADD.model_copy(update={"name": "strictly", "strict": True, "description": ""})
    bare = Tool(name="now", parameters={"properties": {}})
    body = _body(_NEW, AIModelCallConfig(tools=[_ADD, strict, bare], tool_choice="auto"))
    assert body["tools"] == [
        {"name": "add", "description": "Adds two numbers.", "input_schema": _ADD.parameters},
        {"name": "strictly", "input_schema": _ADD.parameters, "strict": True},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        (NamedTool(name="add"), None, {"type": "tool", "name": "add"}),
    ],
)
def test_tool_choice(choice: object, parallel: bool | None, expected: object) -> None:
    config = AIModelCallConfig.model_validate({"tools": [_ADD], "tool_choice": choice, "parallel_tool_calls": parallel})
    wire = _wire(_NEW, config)
    assert orjson.loads(wire.body).get("tool_choice") == expected
    assert wire.warnings == ()


@pytest.mark.parametrize(
    ("model", "more"), [(_FABLE, {}), (_OLD, {"reasoning": True}), (_OPUS_46, {"max_reasoning_tokens": 2000})]
)
@pytest.mark.parametrize("choice", ["required", NamedTool(name="add")])
def test_a_choice_that_cannot_be_forced_is_left_to_the_model(model: str, more: JsonObject, choice: object) -> None:
    config = AIModelCallConfig.model_validate({"tools": [_ADD], "tool_choice": choice, **more})
    wire = _wire(model, config)
    assert orjson.loads(wire.body)["tool_choice"] == {"type": "auto"}
    assert _warned(wire) == [("param_adjusted", "tool_choice")]


def test_choosing_without_tools_is_dropped() -> None:
    wire = _wire(_NEW, AIModelCallConfig(tool_choice="required", parallel_tool_calls=False))
    assert not {"tools", "tool_choice"} & orjson.loads(wire.body).keys()
    assert _warned(wire) == [("param_dropped", "tool_choice"), ("param_dropped", "parallel_tool_calls")]


def test_hosted_tools_take_their_options() -> None:
    tools = [
        HostedTool(
            type="web_search", options={"max_uses": 3, "user_location": {"type": "approximate", "city": "Bern"}}
        ),
        HostedTool(type="url_context", options={"citations": {"enabled": True}}),
        HostedTool(type="code_execution", options={"type": "code_execution_20260120"}),
        HostedTool(type="file_search"),
    ]
    wire = _wire(_NEW, AIModelCallConfig(tools=tools))
    search, fetch, code = orjson.loads(wire.body)["tools"]
    assert search == {
        "type": "web_search_20260318",
        "name": "web_search",
        "max_uses": 3,
        "user_location": {"type": "approximate", "city": "Bern"},
    }
    assert fetch == {"type": "web_fetch_20260318", "name": "web_fetch", "citations": {"enabled": True}}
    assert code == {"type": "code_execution_20260120", "name": "code_execution"}
    assert _warned(wire) == [("param_dropped", "tools")]


def test_results_come_first_and_in_every_form() -> None:
    call = ToolCallPart(call_id="toolu_1", name="add", arguments='{"a": 1.0,  "b":2}')
    broken = ToolCallPart(call_id="toolu_2", name="add", arguments='{"a": 1,')
    no_object = ToolCallPart(call_id="toolu_3", name="add", arguments="[1]")
    empty = ToolCallPart(call_id="toolu_4", name="now", arguments="")
    results = [
        ToolResultPart.of(call, {"sum": 3}),
        ToolResultPart.of(broken, "was broken", is_error=True),
        ToolResultPart.of(no_object, "see", FilePart(media_type="image/png", data=_PNG), JsonPart(value=[1, None])),
        ToolResultPart.of(empty, " ", is_error=True),
    ]
    wire = _wire(
        _NEW,
        messages=[
            Message.user("add"),
            Message.assistant("I add.", call, broken, no_object, empty),
            Message.user("and then?", *results[:2], FilePart.from_url("https://x.test/a.png"), *results[2:]),
        ],
    )
    _, assistant, user = orjson.loads(wire.body)["messages"]
    assert assistant["content"][0] == {"type": "text", "text": "I add."}
    inputs = [block["input"] for block in assistant["content"][1:]]
    assert inputs == [{"a": 1.0, "b": 2}, {"_raw": '{"a": 1,'}, {"_raw": "[1]"}, {}]
    assert b'"input":{"a": 1.0,  "b":2}' in wire.body
    assert [block["type"] for block in user["content"]] == [*["tool_result"] * 4, "text", "image"]
    added, failed, seen, nothing = user["content"][:4]
    assert added == {"type": "tool_result", "tool_use_id": "toolu_1", "content": '{"sum":3}'}
    assert failed == {"type": "tool_result", "tool_use_id": "toolu_2", "content": "was broken", "is_error": True}
    assert [block["type"] for block in seen["content"]] == ["text", "image", "text"]
    assert (nothing["content"], nothing["is_error"]) == ("(no output)", True)


# ---------------------------------------------------------------------------------------------------- reasoning


@pytest.mark.parametrize(
    ("model", "knobs", "thinking", "effort"),
    [
        (_NEW, {}, None, None),
        (_NEW, {"reasoning": True}, {"type": "adaptive"}, None),
        (_NEW, {"reasoning": False}, {"type": "disabled"}, None),
        (_NEW, {"reasoning_effort": "none"}, {"type": "disabled"}, None),
        (_NEW, {"max_reasoning_tokens": 0}, {"type": "disabled"}, None),
        (_NEW, {"reasoning_effort": "max"}, {"type": "adaptive"}, "max"),
        (_NEW, {"reasoning_summary": "auto"}, {"type": "adaptive", "display": "summarized"}, None),
        (_NEW, {"reasoning_summary": "none"}, None, None),
        (
            _NEW,
            {"reasoning_effort": "low", "reasoning_summary": "none"},
            {"type": "adaptive", "display": "omitted"},
            "low",
        ),
        (_OLD, {"reasoning": True}, {"type": "enabled", "budget_tokens": 8192}, None),
        (_OLD, {"reasoning": False}, {"type": "disabled"}, None),
        (_OLD, {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 2048}, None),
        (_OLD, {"reasoning_effort": "max"}, {"type": "enabled", "budget_tokens": 40_960}, None),
        (_OLD, {"max_reasoning_tokens": 5000}, {"type": "enabled", "budget_tokens": 5000}, None),
        (
            _OLD,
            {"reasoning_effort": "high", "max_output_tokens": 4000},
            {"type": "enabled", "budget_tokens": 2000},
            None,
        ),
        (_OPUS_46, {"max_reasoning_tokens": 5000}, {"type": "enabled", "budget_tokens": 5000}, None),
        (_OPUS_46, {"reasoning_effort": "high"}, {"type": "adaptive"}, "high"),
    ],
)
def test_reasoning_is_asked_for_as_the_model_wants(
    model: str, knobs: JsonObject, thinking: object, effort: str | None
) -> None:
    wire = _wire(model, AIModelCallConfig.model_validate(knobs))
    body = orjson.loads(wire.body)
    assert body.get("thinking") == thinking
    assert body.get("output_config") == ({"effort": effort} if effort else None)
    assert body["max_tokens"] == knobs.get("max_output_tokens", body["max_tokens"])
    assert wire.warnings == ()


@pytest.mark.parametrize(
    ("model", "knobs", "thinking", "effort", "warned"),
    [
        (_NEW, {"reasoning_effort": "minimal"}, "adaptive", "low", [("param_adjusted", "reasoning_effort")]),
        (_OPUS_46, {"reasoning_effort": "xhigh"}, "adaptive", "high", [("param_adjusted", "reasoning_effort")]),
        (_NEW, {"max_reasoning_tokens": 9000}, "adaptive", None, [("param_dropped", "max_reasoning_tokens")]),
        (
            _NEW,
            {"reasoning": False, "reasoning_effort": "max"},
            "disabled",
            None,
            [("param_dropped", "reasoning_effort")],
        ),
        (_FABLE, {"reasoning": False}, "adaptive", "low", [("param_adjusted", "reasoning")]),
        (_OLD, {"max_reasoning_tokens": 10}, "enabled", None, [("param_adjusted", "max_reasoning_tokens")]),
        (
            _OLD,
            {"max_reasoning_tokens": 9000, "max_output_tokens": 2000},
            "enabled",
            None,
            [("param_adjusted", "max_reasoning_tokens")],
        ),
        (_OLD, {"reasoning": True, "max_output_tokens": 1000}, None, None, [("param_dropped", "reasoning")]),
        (_OLD, {"reasoning_summary": "auto"}, None, None, [("param_dropped", "reasoning_summary")]),
        ("claude-3-5-haiku-latest", {"reasoning": True}, None, None, [("param_dropped", "reasoning")]),
        ("claude-3-5-haiku-latest", {"reasoning": False}, None, None, []),
        (_NEW, {"temperature": 0.5}, None, None, [("param_dropped", "temperature")]),
        (_OLD, {"temperature": 0.5, "reasoning": True}, "enabled", None, [("param_dropped", "temperature")]),
    ],
)
def test_reasoning_that_cannot_be_had_as_asked(
    model: str, knobs: JsonObject, thinking: str | None, effort: str | None, warned: list[tuple[str, str]]
) -> None:
    wire = _wire(model, AIModelCallConfig.model_validate(knobs))
    body = orjson.loads(wire.body)
    assert body.get("thinking", {}).get("type") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert _warned(wire) == warned


def _origin(model: str) -> Origin:
    return expected_origin(_endpoint(model))


def _thought(model: str, text: str = "", **state: JsonValue) -> ReasoningPart:
    kept: dict[str, JsonValue] = {"type": "thinking", "signature": "c2ln", **state}
    return ReasoningPart(text=text, origin=_origin(model), provider_state=kept)


def test_a_loop_begun_without_thinking_goes_on_without() -> None:
    call = ToolCallPart(call_id="toolu_1", name="add", arguments="{}")
    begun = [Message.user("add"), Message.assistant(call), Message.user(ToolResultPart.of(call, "3"))]
    config = AIModelCallConfig(tools=[_ADD], reasoning=True)
    wire = _wire(_OLD, config, begun)
    assert orjson.loads(wire.body)["thinking"] == {"type": "disabled"}
    assert _warned(wire) == [("param_adjusted", "reasoning")]
    with_thinking = [begun[0], Message.assistant(_thought(_OLD), call), begun[2]]
    closed = [*begun, Message.assistant("3"), Message.user("and 4?")]
    for messages in (with_thinking, closed):
        assert cast("JsonObject", _body(_OLD, config, messages)["thinking"])["type"] == "enabled"
    assert _body(_NEW, config, begun)["thinking"] == {"type": "adaptive"}


def test_opaque_parts_go_back_as_they_came_and_only_to_their_model() -> None:
    redacted = ReasoningPart(origin=_origin(_NEW), provider_state={"type": "redacted_thinking", "data": "b3BhcXVl"})
    unsigned = ReasoningPart(text="hm", origin=_origin(_NEW))
    blank = _thought(_NEW, "hm", signature="")
    search: dict[str, JsonValue] = {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "web_search",
        "input": {"query": "q"},
    }
    hosted = HostedToolPart(
        name="server_tool_use", tool="web_search", input=search["input"], origin=_origin(_NEW), provider_state=search
    )
    cited: dict[str, JsonValue] = {
        "type": "web_search_result_location",
        "url": "https://x.test",
        "title": "X",
        "cited_text": "x",
        "encrypted_index": "abc",
    }
    text = TextPart(
        text="so",
        citations=[Citation(url="https://x.test", title="X", cited_text="x")],
        origin=_origin(_NEW),
        provider_state={"type": "text", "citations": [cited]},
    )
    report = HostedToolPart(name="container", origin=_origin(_NEW), provider_state={"type": "container"})
    answer = Message.assistant(_thought(_NEW, "hm"), redacted, hosted, unsigned, blank, text, _thought(_NEW), report)
    said = _said(_NEW, Message.user("q"), answer, Message.user("why?"))[1]["content"]
    assert said == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        search,
        {"type": "text", "text": "so", "citations": [cited]},
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
    ]
    said = _said(_FABLE, Message.user("q"), Message.assistant(_thought(_NEW), text), Message.user("why?"))[1]["content"]
    assert said == [{"type": "text", "text": "so"}]
    said = _said(_FABLE, Message.user("q"), Message.assistant(hosted, "so"), Message.user("why?"))[1]["content"]
    assert said == [{"type": "text", "text": '[web_search "q"]'}, {"type": "text", "text": "so"}]


def test_citations_are_not_sent_in_user_messages() -> None:
    text = TextPart(text="so", origin=_origin(_NEW), provider_state={"type": "text", "citations": [{"type": "x"}]})
    assert _said(_NEW, Message.user(text)) == [{"role": "user", "content": [{"type": "text", "text": "so"}]}]


# ---------------------------------------------------------------------------------------------------- structured output


def test_structured_output_is_native_where_the_model_has_it() -> None:
    body = _body(_NEW, AIModelCallConfig(structured_output=Weather, reasoning_effort="low"))
    output = cast("JsonObject", body["output_config"])
    form = cast("JsonObject", output["format"])
    schema = cast("JsonObject", form["schema"])
    assert (output["effort"], form["type"], schema["type"]) == ("low", "json_schema", "object")
    assert schema["required"] == ["city", "degrees"]
    assert "tools" not in body


def test_structured_output_of_older_models_is_a_forced_tool() -> None:
    body = _body(_OLDER, AIModelCallConfig(structured_output=Weather))
    (tool,) = cast("list[JsonObject]", body["tools"])
    assert tool["name"] == "Weather"
    assert body["tool_choice"] == {"type": "tool", "name": "Weather"}
    assert "output_config" not in body
    own = Tool(name="Weather", parameters=_ADD.parameters)
    body = _body(_OLDER, AIModelCallConfig(structured_output=Weather, tools=[own]))
    assert [tool["name"] for tool in cast("list[JsonObject]", body["tools"])] == ["Weather", "Weather_"]
    assert body["tool_choice"] == {"type": "any"}
    wire = _wire(_OLDER, AIModelCallConfig(structured_output=Weather, reasoning=True))
    assert orjson.loads(wire.body)["tool_choice"] == {"type": "auto"}
    assert _warned(wire) == [("param_adjusted", "structured_output")]


# ---------------------------------------------------------------------------------------------------- files, services


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            FilePart(media_type="image/png", data=_PNG),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgpwaXhlbHM="}},
        ),
        (
            FilePart.from_url("https://x.test/a.webp"),
            {"type": "image", "source": {"type": "url", "url": "https://x.test/a.webp"}},
        ),
        (
            FilePart(media_type="application/pdf", data=_PDF, filename="a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjcgd29yZHM="},
                "title": "a.pdf",
            },
        ),
        (
            FilePart.from_url("https://x.test/a.pdf"),
            {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
        ),
        (
            FilePart(media_type="application/json", data=b"[1]"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "[1]"}},
        ),
        (
            FilePart(media_type="application/pdf", file_id="file_1"),
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            FilePart(media_type="image/png", file_id="file_1"),
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (FilePart(media_type="text/csv", file_id="file_1"), {"type": "container_upload", "file_id": "file_1"}),
    ],
)
def test_files(part: FilePart, block: object) -> None:
    wire = _wire(_NEW, messages=[Message.user(part)])
    assert orjson.loads(wire.body)["messages"][0]["content"] == [block]
    assert wire.headers.get("anthropic-beta") == ("files-api-2025-04-14" if part.file_id else None)


@pytest.mark.parametrize(
    "part",
    [
        FilePart(media_type="audio/wav", data=b"RIFF0000WAVE"),
        FilePart(media_type="video/mp4", url="https://x.test/a.mp4"),
        FilePart(media_type="audio/wav", file_id="file_1"),
        FilePart(media_type="image/bmp", data=b"BM12"),
        FilePart(media_type="application/zip", data=b"PK\x03\x04"),
        FilePart(media_type="application/json", data=b"\xff"),
    ],
)
def test_files_it_cannot_take(part: FilePart) -> None:
    for message in (Message.user(part), Message.user(ToolResultPart(call_id="toolu_1", content=[part]))):
        with pytest.raises(UnsupportedError, match=_NEW):
            _body(_NEW, messages=[message])


def test_supported_services_are_sent_and_others_warned_of() -> None:
    config = AIModelCallConfig(
        prompt_cache=PromptCache(ttl="1h", key="k"),
        user_id="u-1",
        metadata={"team": "a"},
        service_tier="standard_only",
        n=2,
        top_logprobs=3,
        seed=1,
    )
    wire = _wire(_NEW, config)
    body = orjson.loads(wire.body)
    assert body["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert (body["metadata"], body["service_tier"]) == ({"user_id": "u-1"}, "standard_only")
    assert sorted(knob for _code, knob in _warned(wire)) == ["metadata", "n", "prompt_cache", "seed", "top_logprobs"]
    assert _body(_NEW, AIModelCallConfig(prompt_cache=True))["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in _body(_NEW, AIModelCallConfig(prompt_cache=False))
    assert _wire(_NEW, AIModelCallConfig(n=1)).warnings == ()


# ---------------------------------------------------------------------------------------------------- decoding


def _decoded(frames: Sequence[JsonObject], config: AIModelCallConfig | None = None) -> ChatResponse:
    endpoint = _endpoint(_NEW)
    request = ChatRequest.of(
        [Message.user("hi")], instructions=(), config=config or AIModelCallConfig(), stream=len(frames) > 1
    )
    decoder = driver_for(endpoint).decoder(request, expected_origin(endpoint))
    events: list[StreamEvent] = []
    for frame in frames:
        events += decoder.feed(orjson.dumps(frame))
    events += decoder.finish()
    check_grammar(events)
    accumulator = Accumulator(provider="anthropic", model=_NEW)
    accumulator.feed(events)
    return accumulator.response()


def _plain(*blocks: JsonObject, **more: object) -> JsonObject:
    return {
        "type": "message",
        "id": "msg_1",
        "model": _NEW,
        "content": list(blocks),
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
        **more,
    }


def _streamed(*steps: JsonObject, stop: str = "end_turn", **more: object) -> list[JsonObject]:
    start = {**_plain(), "stop_reason": None}
    delta: JsonObject = {"type": "message_delta", "delta": {"stop_reason": stop, **more}, "usage": {"output_tokens": 2}}
    return [{"type": "message_start", "message": start}, *steps, delta, {"type": "message_stop"}]


_SEARCH: JsonObject = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
_FOUND: JsonObject = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "url": "https://x.test", "title": "X", "encrypted_content": "abc"}],
}
_CITATIONS: list[JsonObject] = [
    {
        "type": "web_search_result_location",
        "url": "https://x.test",
        "title": "X",
        "cited_text": "words",
        "encrypted_index": "abc",
    },
    {
        "type": "char_location",
        "cited_text": "more",
        "document_index": 0,
        "document_title": "notes.md",
        "file_id": "file_1",
        "start_char_index": 0,
        "end_char_index": 4,
    },
    {"type": "search_result_location", "source": "https://y.test", "title": "Y", "cited_text": "yes"},
    {"type": "of_tomorrow"},
]


def _block(index: int, start: JsonObject, *deltas: Mapping[str, object]) -> list[JsonObject]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def test_hosted_tools_and_citations_both_ways() -> None:
    plain = _decoded([_plain(_SEARCH, _FOUND, {"type": "text", "text": "so it is", "citations": _CITATIONS})])
    streamed = _decoded(
        _streamed(
            *_block(
                0,
                {**_SEARCH, "input": {}},
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": '{"query":'},
                {"type": "input_json_delta", "partial_json": ' "q"}'},
            ),
            *_block(1, _FOUND),
            *_block(
                2,
                {"type": "text", "text": "", "citations": []},
                {"type": "text_delta", "text": "so it "},
                {"type": "citations_delta", "citation": _CITATIONS[0]},
                {"type": "text_delta", "text": "is"},
                *({"type": "citations_delta", "citation": citation} for citation in _CITATIONS[1:]),
            ),
        )
    )
    assert plain == streamed
    search, found, text = plain.choices[0].parts
    assert isinstance(search, HostedToolPart)
    assert isinstance(found, HostedToolPart)
    assert (search.name, search.tool, search.call_id) == ("server_tool_use", "web_search", "srvtoolu_1")
    assert (search.input, search.output) == ({"query": "q"}, None)
    assert (found.name, found.tool, found.call_id) == ("web_search_tool_result", "web_search", "srvtoolu_1")
    assert found.output == [{"type": "web_search_result", "url": "https://x.test", "title": "X"}]
    assert (search.provider_state, found.provider_state) == (_SEARCH, _FOUND)
    assert plain.citations() == (
        Citation(url="https://x.test", title="X", cited_text="words"),
        Citation(title="notes.md", cited_text="more", file_id="file_1"),
        Citation(url="https://y.test", title="Y", cited_text="yes"),
        Citation(),
    )
    assert text.provider_state == {"type": "text", "citations": _CITATIONS}


def test_unknown_blocks_and_compaction_are_kept() -> None:
    compaction: JsonObject = {"type": "compaction", "content": "so far", "encrypted_content": "abc"}
    late: JsonObject = {"type": "compaction_delta", "content": "so far", "encrypted_content": "abc"}
    unknown: JsonObject = {"type": "hologram", "id": "h-1", "data": [1, {"deep": None}]}
    plain = _decoded([_plain(compaction, unknown)])
    streamed = _decoded(_streamed(*_block(0, {"type": "compaction", "content": None}, late), *_block(1, unknown)))
    assert plain == streamed
    assert [part.provider_state for part in plain.choices[0].parts] == [compaction, unknown]
    assert _replayed(plain, _endpoint(_NEW)) == [compaction]  # only what is known to be taken back is sent


def test_usage_counts_cache_ages_and_searches() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        "server_tool_use": {"web_search_requests": 2},
        "output_tokens": 7,
    }
    told = _decoded([_plain(usage=usage)]).usage
    assert (told.input_tokens, told.cache_read_tokens, told.cache_write_tokens) == (45, 5, 30)
    assert (told.cache_write_5m_tokens, told.cache_write_1h_tokens, told.web_searches) == (20, 10, 2)


def test_metadata_of_an_answer_is_kept_and_never_sent() -> None:
    changes: list[JsonObject] = [
        {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "model_binding_mismatch"}
    ]
    container: JsonObject = {"id": "container_1", "expires_at": "2026-11-22T12:00:00Z"}
    details: JsonObject = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    reports: JsonObject = {
        "input_transformations": changes,
        "container": container,
        "context_management": {"applied_edits": []},
    }
    text: JsonObject = {"type": "text", "text": "Well,"}
    plain = _decoded([_plain(text, **reports, stop_reason="refusal", stop_details=details)])
    steps = _block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Well,"})
    frames = _streamed(*steps, stop="refusal", stop_details=details, **reports)
    streamed = _decoded(frames)
    assert sorted(map(repr, plain.choices[0].parts)) == sorted(map(repr, streamed.choices[0].parts))
    assert (plain.finish_reason, plain.refusal(), plain.text()) == (FinishReason.REFUSAL, "Not this.", "Well,")
    (refusal,) = (part for part in plain.choices[0].parts if isinstance(part, RefusalPart))
    assert refusal.provider_state == {"type": "stop_details", "stop_details": details}
    kept = {part.name: part.output for part in plain.choices[0].parts if isinstance(part, HostedToolPart)}
    assert kept == {"input_transformations": changes, "container": container}
    bare = _decoded([_plain(stop_reason="refusal", stop_details={"type": "refusal", "category": "cyber"})])
    (part,) = bare.choices[0].parts
    assert isinstance(part, HostedToolPart)
    assert (part.name, part.output) == ("stop_details", {"type": "refusal", "category": "cyber"})
    assert _replayed(plain, _endpoint(_NEW))[0] == text


def test_a_structured_answer_by_tool_reads_as_text() -> None:
    config = AIModelCallConfig(structured_output=Weather)
    call: JsonObject = {"type": "tool_use", "id": "toolu_1", "name": "Weather", "input": {"city": "Bern", "degrees": 3}}
    plain = _decoded([_plain(call, stop_reason="tool_use")], config)
    steps = _block(
        0,
        {**call, "input": {}},
        {"type": "input_json_delta", "partial_json": '{"city":"Bern",'},
        {"type": "input_json_delta", "partial_json": '"degrees":3}'},
    )
    assert plain == _decoded(_streamed(*steps, stop="tool_use"), config)
    assert plain.text() == '{"city":"Bern","degrees":3}'
    assert (plain.finish_reason, plain.raw_finish_reason, plain.tools()) == (FinishReason.STOP, "tool_use", ())
    assert _replayed(plain, _endpoint(_NEW)) == [{"type": "text", "text": plain.text()}]
    other = {**call, "id": "toolu_2", "name": "add"}
    assert _decoded([_plain(call, other, stop_reason="tool_use")], config).finish_reason is FinishReason.TOOL_CALLS


def test_streams_out_of_order() -> None:
    text: JsonObject = {"type": "text", "text": ""}
    one, two = {"type": "text_delta", "text": "one"}, {"type": "text_delta", "text": "two"}
    reused = _block(0, text, one)[:-1] + _block(0, text, two)
    assert [part.get_text() for part in _decoded(_streamed(*reused)).choices[0].parts] == ["one", "two"]
    odd: list[JsonObject] = [
        {"type": "content_block_delta", "index": [], "delta": one},
        {"type": "content_block_stop", "index": {}},
        {"type": ["of", "tomorrow"]},
        *_block(0, text, one, {"type": "delta_of_tomorrow", "x": 1}),
    ]
    frames = _streamed(*odd)
    assert _decoded([frames[0], *frames, frames[-1]]).text() == "one"
    with pytest.raises(ProtocolError, match="before its message_start"):
        _decoded(_block(0, text, one))


# ---------------------------------------------------------------------------------------------------- replay


def _replayed(response: ChatResponse, endpoint: AIModelEndpoint) -> list[JsonObject]:
    """The answer's blocks after a node, its JSON, and a request to the same model."""
    node = ConversationNode(user_query="q", response=response, timestamp="2026-11-22T12:00:00Z")
    kept = ConversationNode.model_validate_json(node.model_dump_json())
    messages = [*kept.as_messages(), Message.user("go on")]
    formatted = PromptFormatter.format_messages(messages, endpoint)
    request = ChatRequest.of(formatted.messages, instructions=(), config=AIModelCallConfig(), stream=False)
    body = orjson.loads(driver_for(endpoint).encode(request, endpoint).body)
    return [block for message in body["messages"] if message["role"] == "assistant" for block in message["content"]]


def _own_blocks(body: bytes) -> list[JsonObject]:
    """The blocks of a plain recorded answer, less blank texts, and texts less citations that there are none of."""
    blocks = cast("list[JsonObject]", orjson.loads(body)["content"])
    for block in blocks:
        if block["type"] == "text" and not block.get("citations"):
            block.pop("citations", None)
    return [block for block in blocks if block["type"] != "text" or str(block["text"]).strip()]


def _streamed_blocks(body: bytes) -> bytes:
    """The plain body that a recorded stream would have been, put together as the documentation says."""
    blocks: dict[str, JsonObject] = {}
    inputs: dict[str, str] = {}
    for line in body.split(b"\n"):
        event = cast("JsonObject", orjson.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {})
        index, delta = str(event.get("index")), cast("JsonObject", event.get("delta"))
        if event.get("type") == "content_block_start":
            blocks[index] = cast("JsonObject", event["content_block"])
        elif event.get("type") == "content_block_delta" and "partial_json" in delta:
            inputs[index] = f"{inputs.get(index, '')}{delta['partial_json']}"
        elif event.get("type") == "content_block_delta":
            _complete(blocks[index], delta)
    for index, text in inputs.items():
        blocks[index]["input"] = orjson.loads(text or "{}")
    return orjson.dumps({"content": list(blocks.values())})


def _complete(block: JsonObject, delta: JsonObject) -> None:
    for field in delta.keys() - {"type"}:
        match field:
            case "text" | "thinking":
                block[field] = f"{block[field]}{delta[field]}"
            case "citation":
                block["citations"] = [*cast("list[object]", block.get("citations") or []), delta[field]]
            case _:
                block[field] = delta[field]


def _is_torn(block: JsonObject, blocks: Sequence[JsonObject]) -> bool:
    """Whether a hosted call, or what it gave, is in an answer without the other: neither goes back without it."""
    match block["type"]:
        case "server_tool_use" | "mcp_tool_use":
            return not any(other.get("tool_use_id") == block["id"] for other in blocks)
        case _ if "tool_use_id" in block:
            return not any(other.get("id") == block["tool_use_id"] for other in blocks)
        case _:
            return False


def _is_line(block: JsonObject) -> bool:
    """Whether a block is a line about something that could not go back."""
    return block["type"] == "text" and str(block["text"]).startswith("[")


_RECORDED = [
    (str(row["id"]), str(row["framing"]))
    for row in recordings.index()
    if str(row["id"]).startswith("anthropic_messages/") and row["status"] == 200
]


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("framing", ["json", "sse"])
def test_recorded_answers_go_back_block_for_block(framing: str) -> None:
    kinds: set[object] = set()
    torn = 0
    for name in (name for name, framed in _RECORDED if framed == framing):
        recording = recordings.load(name)
        endpoint = recording.endpoint("https://host.test")
        request = ChatRequest.of([Message.user("q")], instructions=(), config=AIModelCallConfig(), stream=False)
        decoder = driver_for(endpoint).decoder(request, expected_origin(endpoint))
        framer = SSEFramer()
        frames = [recording.body] if framing == "json" else [*framer.feed(recording.body), *framer.finish()]
        accumulator = Accumulator(provider="anthropic", model="m")
        for frame in frames:
            accumulator.feed(decoder.feed(frame))
        blocks = _own_blocks(recording.body if framing == "json" else _streamed_blocks(recording.body))
        whole = [block for block in blocks if not _is_torn(block, blocks)]
        torn += len(blocks) - len(whole)
        replayed = _replayed(accumulator.response(), endpoint)
        assert [block for block in replayed if block in blocks or not _is_line(block)] == whole, name
        kinds |= {block["type"] for block in whole}
    assert torn  # it occurs
    assert {"text", "thinking", "tool_use", "server_tool_use", "web_search_tool_result"} <= kinds


# ---------------------------------------------------------------------------------------------------- loops


def _stored(response: ChatResponse) -> ChatResponse:
    return ChatResponse.model_validate_json(response.model_dump_json())


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def streaming(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


_CALLS = (
    ScriptedToolCall(call_id="toolu_1", name="add", arguments='{"a":1,"b":2}'),
    ScriptedToolCall(call_id="toolu_2", name="add", arguments='{"a":3,"b":4}'),
)


@pytest.mark.parametrize("model", [_NEW, _FABLE, _OLD])
async def test_a_tool_loop_with_thinking(model: str, streaming: bool) -> None:
    script = [
        Answer(reasoning="I add twice.", text="Let me add.", tool_calls=_CALLS),
        Answer(text="3 and 7."),
        Answer(text="yes"),
    ]
    config = AIModelCallConfig(tools=[_ADD], reasoning=True, streaming=streaming)
    async with ProviderServer(script) as server:
        client = AIModelClient(_endpoint(model, server.api(AIModelAPIProviderEnum.ANTHROPIC)), config)
        asked = Message.user("1+2 and 3+4?")
        first = _stored((await client.generate(messages=[asked])).chat_response)
        assert (first.finish_reason, first.reasoning()) == (FinishReason.TOOL_CALLS, "I add twice.")
        said = Message.assistant(*first.choices[0].parts)
        results = [ToolResultPart.of(call, {"sum": sum(_ints(call))}) for call in first.tools()]
        second = await client.generate(messages=[asked, said, Message.user(*results)])
        assert second.text() == "3 and 7."
        said_too = Message.assistant(*second.chat_response.choices[0].parts)
        await client.generate(messages=[asked, said, Message.user(*results), said_too, Message.user("sure?")])
        assert [seen.error for seen in server.requests] == [None, None, None]
        sent = cast("JsonObject", server.requests[1].json)
        longer = cast("JsonObject", server.requests[2].json)
    history, longer_history = cast("list[JsonObject]", sent["messages"]), cast("list[JsonObject]", longer["messages"])
    assert longer_history[: len(history)] == history
    kinds = [block["type"] for block in cast("list[JsonObject]", history[1]["content"])]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    assert [block["content"] for block in cast("list[JsonObject]", history[2]["content"])] == ['{"sum":3}', '{"sum":7}']


def _ints(call: ToolCallPart) -> list[int]:
    return [value for value in call.parsed().values() if isinstance(value, int)]


@pytest.mark.parametrize("model", [_NEW, _FABLE, _OLDER])
@pytest.mark.parametrize("tools", [(), (_ADD,)])
async def test_a_structured_call(model: str, tools: tuple[Tool, ...], streaming: bool) -> None:
    script = [Answer(text='{"city":"Bern","degrees":3.5}')]
    config = AIModelCallConfig(structured_output=Weather, tools=tools, streaming=streaming)
    async with ProviderServer(script) as server:
        client = AIModelClient(_endpoint(model, server.api(AIModelAPIProviderEnum.ANTHROPIC)), config)
        response = await client.generate("Weather in Bern?")
        assert server.requests[0].error is None
    assert response.structured() == Weather(city="Bern", degrees=3.5)
    assert response.chat_response.finish_reason is FinishReason.STOP
    assert response.warnings == ()


@pytest.mark.parametrize(("summary", "shown"), [(None, "Hm, let me see."), ("auto", "Hm, let me see."), ("none", "")])
async def test_a_reasoning_call(summary: Literal["auto", "none"] | None, shown: str, streaming: bool) -> None:
    config = AIModelCallConfig(reasoning_effort="high", reasoning_summary=summary, streaming=streaming)
    async with ProviderServer([Answer(reasoning="Hm, let me see.", text="42"), Answer(text="43")]) as server:
        client = AIModelClient(_endpoint(_NEW, server.api(AIModelAPIProviderEnum.ANTHROPIC)), config)
        response = await client.generate("?")
        thought, text = response.chat_response.choices[0].parts
        assert (thought.get_text(), text.get_text()) == (shown, "42")
        assert response.chat_response.usage.reasoning_tokens == 4
        parts = _stored(response.chat_response).choices[0].parts
        await client.generate(messages=[Message.user("?"), Message.assistant(*parts), Message.user("and?")])
        assert [seen.error for seen in server.requests] == [None, None]
        sent = orjson.loads(server.requests[1].body)
    assert sent["output_config"] == {"effort": "high"}
    assert sent["messages"][1]["content"][0]["type"] == "thinking"


async def test_a_search_with_sources(streaming: bool) -> None:
    source = Citation(url="https://x.test", title="X", cited_text="words")
    script = [Answer(text="So it is.", web_searches=("is it?",), citations=(source,)), Answer(text="ok")]
    config = AIModelCallConfig(tools=[HostedTool(type="web_search")], streaming=streaming)
    async with ProviderServer(script) as server:
        client = AIModelClient(_endpoint(_NEW, server.api(AIModelAPIProviderEnum.ANTHROPIC)), config)
        response = (await client.generate("Is it?")).chat_response
        assert (response.citations(), response.usage.web_searches) == ((source,), 1)
        search, found, text = response.choices[0].parts
        assert isinstance(search, HostedToolPart)
        assert (search.tool, search.input) == ("web_search", {"query": "is it?"})
        parts = _stored(response).choices[0].parts
        await client.generate(messages=[Message.user("Is it?"), Message.assistant(*parts), Message.user("ok?")])
        assert server.requests[1].error is None
        sent = orjson.loads(server.requests[1].body)["messages"][1]["content"]
    assert sent[:2] == [search.provider_state, found.provider_state]
    assert sent[2] == {
        "type": "text",
        "text": "So it is.",
        "citations": cast("JsonObject", text.provider_state)["citations"],
    }


async def test_a_paused_turn_goes_back_as_it_is(streaming: bool) -> None:
    paused = Answer(web_searches=("long",), finish_reason=FinishReason.PAUSE)
    config = AIModelCallConfig(tools=[HostedTool(type="web_search")], streaming=streaming)
    async with ProviderServer([paused, Answer(text="done")]) as server:
        client = AIModelClient(_endpoint(_NEW, server.api(AIModelAPIProviderEnum.ANTHROPIC)), config)
        response = (await client.generate("Search.")).chat_response
        assert response.finish_reason is FinishReason.PAUSE
        said = Message.assistant(*response.choices[0].parts)
        resumed = await client.generate(messages=[Message.user("Search."), said])
        assert (resumed.text(), server.requests[1].error) == ("done", None)
        assert orjson.loads(server.requests[1].body)["messages"][-1]["role"] == "assistant"


# ---------------------------------------------------------------------------------------------------- the vendor's SDK


@pytest.fixture
async def loopback() -> AsyncIterator[ProviderServer]:
    source = Citation(url="https://x.test", title="X", cited_text="words")
    script = [
        Answer(reasoning="Hm.", text="So it is.", web_searches=("is it?",), citations=(source,), tool_calls=_CALLS[:1])
    ] * 2
    async with ProviderServer(script) as server:
        yield server


async def test_the_sdk_gets_the_same(loopback: ProviderServer, streaming: bool) -> None:
    tools: list[anthropic.types.ToolUnionParam] = [
        {"type": "web_search_20260318", "name": "web_search"},
        {"name": "add", "input_schema": {"type": "object", "properties": {}}},
    ]
    base_url = loopback.base_url(AIModelAPIProviderEnum.ANTHROPIC)
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="key", max_retries=0) as sdk:
        asked: list[anthropic.types.MessageParam] = [{"role": "user", "content": [{"type": "text", "text": "Is it?"}]}]
        if streaming:
            async with sdk.messages.stream(model=_NEW, max_tokens=99, messages=asked, tools=tools) as stream:
                message = await stream.get_final_message()
        else:
            message = await sdk.messages.create(model=_NEW, max_tokens=99, messages=asked, tools=tools)
    config = AIModelCallConfig(tools=[HostedTool(type="web_search"), Tool(name="add")], streaming=streaming)
    endpoint = _endpoint(_NEW, loopback.api(AIModelAPIProviderEnum.ANTHROPIC))
    ours = (await AIModelClient(endpoint, config).generate("Is it?")).chat_response
    theirs = [cast("JsonObject", block.model_dump(exclude_none=True)) for block in message.content]
    replayed = _replayed(ours, endpoint)
    # Ids are made anew for each answer, and a signature is of what stood before it, the tools among it.
    for block in (*theirs, *replayed):
        for fresh in ("id", "tool_use_id", "signature"):
            block.pop(fresh, None)
        for entry in (
            *cast("list[JsonObject]", block.get("content", [])),
            *cast("list[JsonObject]", block.get("citations", [])),
        ):
            for fresh in ("page_age", "encrypted_content", "encrypted_index"):
                entry.pop(fresh, None)
    assert replayed == theirs
    assert (ours.raw_finish_reason, ours.usage.output_tokens) == (message.stop_reason, message.usage.output_tokens)
    assert message.usage.server_tool_use is not None
    assert ours.usage.web_searches == message.usage.server_tool_use.web_search_requests


async def test_betas_of_the_callers_join_ours() -> None:
    file = FilePart(media_type="application/pdf", file_id="file_1")
    transport = ReplayTransport(b"{}")
    api = AIModelAPI(provider=AIModelAPIProviderEnum.ANTHROPIC, base_url="http://127.0.0.1", api_key="key")
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=_NEW))
    config = AIModelCallConfig(extra_headers={"Anthropic-Beta": "mine-2026-01-01"}, retries=NO_RETRIES)
    client = AIModelClient(endpoint, config, transport=transport)
    with pytest.raises(ProtocolError):
        await client.generate(Message.user("Read.", file))
    sent = transport.requests[0].headers["anthropic-beta"].split(",")
    assert sent[-1] == "mine-2026-01-01" and len(sent) == 2
