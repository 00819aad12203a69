"""OpenAI Responses, whole: what is asked and answered there, as its own SDK types it and as a strict host takes it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, cast

import openai
import orjson
import pytest
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseFunctionWebSearch,
    ResponseReasoningItem,
    ToolParam,
)
from pydantic import BaseModel, JsonValue
from sdk_types import problems

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelCallResponse,
    AIModelClient,
    AIModelEndpoint,
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
from dhenara_async.config import PromptCache
from dhenara_async.endpoint import Capabilities
from dhenara_async.errors import ConfigurationError, UnsupportedError
from dhenara_async.events import Heartbeat, StreamEvent, StreamStart
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import Citation, HostedToolPart, Part, TokenLogprob, ToolResultPart
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import ChatResponse, FinishReason
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall, check_grammar
from dhenara_async.tools.declarations import HostedTool, HostedToolType, NamedTool, Tool
from tests import recordings

JSON = dict[str, object]

_PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
_PNG_URL = f"data:image/png;base64,{base64.b64encode(_PNG).decode()}"
_OPEN_AI = AIModelAPIProviderEnum.OPEN_AI


def _at(model: str = "gpt-6-sol", api: AIModelAPI | None = None) -> AIModelEndpoint:
    return AIModelEndpoint(api=api or AIModelAPI(provider=_OPEN_AI, api_key="key"), ai_model=AIModel(model_name=model))


def _encoded(
    messages: Sequence[Message] = (Message.user("hi"),),
    config: AIModelCallConfig | None = None,
    *,
    model: str = "gpt-6-sol",
    stream: bool = False,
) -> WireRequest:
    endpoint = _at(model)
    formatted = PromptFormatter.format_messages(messages, endpoint)
    request = ChatRequest.of(formatted.messages, instructions=(), config=config or AIModelCallConfig(), stream=stream)
    return driver_for(endpoint).encode(request, endpoint)


def _body(wire: WireRequest, *, typed: bool = True) -> JSON:
    """The body, which fits the SDK's types unless they are known not to have it."""
    body = cast(JSON, orjson.loads(wire.body))
    if typed:
        assert problems(Dialect.OPENAI_RESPONSES, wire.body, stream=body.get("stream") is True) == []
    return body


def _items(*messages: Message, typed: bool = True) -> list[JSON]:
    return cast(list[JSON], _body(_encoded(messages), typed=typed)["input"])


def _sent(wire: WireRequest) -> list[JSON]:
    """The items of a request that the SDK's types are not asked about."""
    return cast(list[JSON], cast(JSON, orjson.loads(wire.body))["input"])


def _own(model: str = "gpt-6-sol") -> Origin:
    return expected_origin(_at(model))


# ---------------------------------------------------------------------------------------------------- tools

_WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def test_functions_are_flat_and_always_say_parameters_and_strict() -> None:
    body = _body(_encoded(config=AIModelCallConfig(tools=[_WEATHER, _WEATHER.model_copy(update={"strict": True})])))
    loose, strict = cast(list[JSON], body["tools"])
    assert loose == {
        "type": "function",
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": _WEATHER.parameters,
        "strict": None,
    }
    assert strict["strict"] is True
    assert cast(JSON, strict["parameters"])["additionalProperties"] is False


def test_schema_that_strict_mode_cannot_hold_to_is_sent_without_it() -> None:
    free = Tool(name="free", parameters={"type": "object", "additionalProperties": {"type": "string"}}, strict=True)
    wire = _encoded(config=AIModelCallConfig(tools=[free]))
    (tool,) = cast(list[JSON], _body(wire)["tools"])
    assert tool["strict"] is False
    assert [(warning.code, warning.knob) for warning in wire.warnings] == [("param_adjusted", "tools")]


@pytest.mark.parametrize(
    ("choice", "spelled"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ("none", "none"),
        (NamedTool(name="weather"), {"type": "function", "name": "weather"}),
    ],
)
def test_tool_choice(choice: Literal["auto", "required", "none"] | NamedTool, spelled: object) -> None:
    config = AIModelCallConfig(tools=[_WEATHER], tool_choice=choice, parallel_tool_calls=False)
    body = _body(_encoded(config=config))
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (spelled, False)


_HOSTED: list[tuple[HostedToolType, JSON, JSON, str]] = [
    ("web_search", {"search_context_size": "low"}, {"type": "web_search"}, "web_search_call.action.sources"),
    (
        "code_execution",
        {"container": {"memory_limit": "4g"}},
        {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
        "code_interpreter_call.outputs",
    ),
    ("file_search", {"vector_store_ids": ["vs_1"]}, {"type": "file_search"}, "file_search_call.results"),
]


@pytest.mark.parametrize(("kind", "options", "spelled", "include"), _HOSTED)
def test_hosted_tools(kind: HostedToolType, options: JSON, spelled: JSON, include: str) -> None:
    tool = HostedTool(type=kind, options=cast("dict[str, JsonValue]", options))
    for _again in range(2):  # what one call's options say must not stay for the next
        body = _body(_encoded(config=AIModelCallConfig(tools=[tool])))
        assert body["tools"] == [{**options, **spelled}]
        assert body["include"] == ["reasoning.encrypted_content", include]
    if kind == "code_execution":
        plain = _body(_encoded(config=AIModelCallConfig(tools=[HostedTool(type=kind)])))
        assert plain["tools"] == [{"type": "code_interpreter", "container": {"type": "auto"}}]


def test_file_search_needs_a_place() -> None:
    with pytest.raises(ConfigurationError, match="vector_store_ids"):
        _encoded(config=AIModelCallConfig(tools=[HostedTool(type="file_search")]))


# ---------------------------------------------------------------------------------------------------- knobs


class _City(BaseModel):
    name: str
    people: int = 0


_KNOBS: Mapping[str, tuple[str, AIModelCallConfig, JSON]] = {
    "effort": ("gpt-5.6-sol", AIModelCallConfig(reasoning_effort="high"), {"reasoning": {"effort": "high"}}),
    "summary": (
        "gpt-5.6-sol",
        AIModelCallConfig(reasoning_effort="low", reasoning_summary="detailed"),
        {"reasoning": {"effort": "low", "summary": "detailed"}},
    ),
    "no summary": ("gpt-5.6-sol", AIModelCallConfig(reasoning_summary="none"), {"reasoning": None}),
    "on where it is anyway": ("gpt-5.6-sol", AIModelCallConfig(reasoning=True), {"reasoning": None}),
    "on where it is not": ("gpt-5.1", AIModelCallConfig(reasoning=True), {"reasoning": {"effort": "medium"}}),
    "off": ("gpt-5.6-sol", AIModelCallConfig(reasoning=False), {"reasoning": {"effort": "none"}}),
    "off where it never is on": ("gpt-4o-mini", AIModelCallConfig(reasoning=False), {"reasoning": None}),
    "sampling while quiet": (
        "gpt-5.1",
        AIModelCallConfig(temperature=0.5, reasoning_effort="none"),
        {"temperature": 0.5, "reasoning": {"effort": "none"}},
    ),
    "logprobs": (
        "gpt-4o-mini",
        AIModelCallConfig(top_logprobs=2),
        {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
    ),
    "logprobs without others": (
        "gpt-4o-mini",
        AIModelCallConfig(top_logprobs=0),
        {"top_logprobs": 0, "include": ["message.output_text.logprobs"]},
    ),
    "cache key": (
        "gpt-4o-mini",
        AIModelCallConfig(prompt_cache=PromptCache(key="k")),
        {"prompt_cache_key": "k", "prompt_cache_options": None},
    ),
    "no cache": ("gpt-6-sol", AIModelCallConfig(prompt_cache=False), {"prompt_cache_options": {"mode": "explicit"}}),
    "cache as it comes": ("gpt-6-sol", AIModelCallConfig(prompt_cache=True), {"prompt_cache_options": None}),
    "who and what": (
        "gpt-6-sol",
        AIModelCallConfig(metadata={"team": "a"}, user_id="u-1", service_tier="flex", n=1),
        {"metadata": {"team": "a"}, "safety_identifier": "u-1", "service_tier": "flex"},
    ),
}


@pytest.mark.parametrize("case", _KNOBS)
def test_knob_is_spelled(case: str) -> None:
    model, config, spelled = _KNOBS[case]
    for stream in (False, True):
        wire = _encoded(config=config, model=model, stream=stream)
        body = _body(wire)
        assert {name: body.get(name) for name in spelled} == spelled
        assert wire.warnings == ()


_NOT_TAKEN: Mapping[str, tuple[str, AIModelCallConfig, str, JSON]] = {
    "budget": ("gpt-6-sol", AIModelCallConfig(max_reasoning_tokens=9), "max_reasoning_tokens", {"reasoning": None}),
    "effort of one that does not think": (
        "gpt-4o-mini",
        AIModelCallConfig(reasoning_effort="high"),
        "reasoning_effort",
        {"reasoning": None, "include": None},
    ),
    "effort between": (
        "o3-mini",
        AIModelCallConfig(reasoning_effort="minimal"),
        "reasoning_effort",
        {"reasoning": {"effort": "low"}},
    ),
    "off where it cannot be": (
        "o3-mini",
        AIModelCallConfig(reasoning=False),
        "reasoning",
        {"reasoning": {"effort": "low"}},
    ),
    "too much": (
        "o3-mini",
        AIModelCallConfig(reasoning_effort="max"),
        "reasoning_effort",
        {"reasoning": {"effort": "high"}},
    ),
    "minimal is not none": (
        "gpt-5.1",
        AIModelCallConfig(reasoning_effort="minimal"),
        "reasoning_effort",
        {"reasoning": {"effort": "low"}},
    ),
    "sampling while it thinks": (
        "gpt-5.1",
        AIModelCallConfig(temperature=0.5, reasoning_effort="low"),
        "temperature",
        {"temperature": None},
    ),
    "logprobs while it thinks": (
        "o3-mini",
        AIModelCallConfig(top_logprobs=0),
        "top_logprobs",
        {"include": ["reasoning.encrypted_content"]},
    ),
    "several answers": ("gpt-6-sol", AIModelCallConfig(n=2), "n", {"n": None}),
    "choice of nothing": ("gpt-6-sol", AIModelCallConfig(tool_choice="required"), "tool_choice", {"tool_choice": None}),
    "reading a page": (
        "gpt-6-sol",
        AIModelCallConfig(tools=[HostedTool(type="url_context")]),
        "tools",
        {"tools": None},
    ),
    "lifetime": (
        "gpt-6-sol",
        AIModelCallConfig(prompt_cache=PromptCache(ttl="1h")),
        "prompt_cache",
        {"prompt_cache_options": {"ttl": "12h"}},
    ),
    "lifetime of an old cache": (
        "gpt-5.4",
        AIModelCallConfig(prompt_cache=PromptCache(ttl="1h")),
        "prompt_cache",
        {"prompt_cache_options": None},
    ),
    "schema for one that cannot": (
        "gpt-3.5-turbo",
        AIModelCallConfig(structured_output=_City),
        "structured_output",
        {"text": None},
    ),
}


@pytest.mark.parametrize("case", _NOT_TAKEN)
def test_an_unsupported_setting_is_warned_of(case: str) -> None:
    model, config, knob, spelled = _NOT_TAKEN[case]
    wire = _encoded(config=config, model=model)
    body = _body(wire)
    assert {name: body.get(name) for name in spelled} == spelled
    assert [warning.knob for warning in wire.warnings] == [knob]


def test_a_little_thought_is_more_than_none() -> None:
    model = AIModel(model_name="m-1", capabilities=Capabilities(efforts=("none", "high")))
    endpoint = _at().model_copy(update={"ai_model": model})
    request = ChatRequest.of(
        [Message.user("hi")], instructions=(), config=AIModelCallConfig(reasoning_effort="minimal"), stream=False
    )
    assert _body(driver_for(endpoint).encode(request, endpoint))["reasoning"] == {"effort": "high"}


def test_structured_output_names_a_strict_schema() -> None:
    wire = _encoded(config=AIModelCallConfig(structured_output=_City))
    spelled = cast(JSON, cast(JSON, _body(wire)["text"])["format"])
    schema = cast(JSON, spelled["schema"])
    assert (spelled["type"], spelled["name"], spelled["strict"]) == ("json_schema", "_City", True)
    assert (schema["additionalProperties"], schema["required"]) == (False, ["name", "people"])
    assert wire.warnings == ()


# ---------------------------------------------------------------------------------------------------- items


def _call(call_id: str = "call_1", name: str = "weather", arguments: str = '{"city": "Bern"}') -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


def test_results_stand_before_the_next_words() -> None:
    first, second = _call(), _call("call_2", arguments="")
    items = _items(
        Message.user("weather?"),
        Message.assistant("Let me see.", first, second),
        Message.user("and thanks", ToolResultPart.of(first, "sun"), ToolResultPart.of(second, {"sky": "blue"})),
    )
    assert items[1:] == [
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Bern"}'},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
        {"type": "function_call_output", "call_id": "call_2", "output": '{"sky":"blue"}'},
        {"role": "user", "content": [{"type": "input_text", "text": "and thanks"}]},
    ]


def test_result_with_files_is_a_list() -> None:
    call = _call()
    picture = FilePart(media_type="image/png", data=_PNG)
    paper = FilePart(media_type="application/pdf", data=b"%PDF-1.7", filename="a.pdf")
    result = ToolResultPart.of(call, "look", picture, paper, is_error=True)
    output = _items(Message.user("?"), Message.assistant(call), Message.user(result))[-1]["output"]
    assert output == [
        {"type": "input_text", "text": "Error:"},
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": _PNG_URL, "detail": "auto"},
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": f"data:application/pdf;base64,{base64.b64encode(b'%PDF-1.7').decode()}",
        },
    ]


def test_a_failed_result_is_marked_in_words() -> None:
    call = _call()
    items = _items(
        Message.user("?"), Message.assistant(call), Message.user(ToolResultPart.of(call, "no", is_error=True))
    )
    assert items[-1]["output"] == "Error: no"


def test_ids_fit_and_still_pair() -> None:
    long, twin, nameless = _call("x" * 65), _call("x" * 64 + "y"), [_call(""), _call("")]
    calls = [long, twin, *nameless]
    results = [ToolResultPart.of(call, str(number)) for number, call in enumerate(calls)]
    items = _items(Message.user("?"), Message.assistant(*calls), Message.user(*results))
    made = [str(item["call_id"]) for item in items if item.get("type") == "function_call"]
    answered = [str(item["call_id"]) for item in items if item.get("type") == "function_call_output"]
    assert made == answered
    assert len(set(made)) == 4
    assert all(0 < len(call_id) <= 64 for call_id in made)
    assert made == [
        item["call_id"]
        for item in _items(Message.user("?"), Message.assistant(*calls), Message.user(*results))
        if item.get("type") == "function_call"
    ]


def test_custom_call_is_answered_as_one() -> None:
    call = _call(arguments="free text").model_copy(
        update={"origin": _own(), "provider_state": {"type": "custom_tool_call", "id": "ctc_1"}}
    )
    items = _items(Message.user("?"), Message.assistant(call), Message.user(ToolResultPart.of(call, "ok")))
    assert items[1:] == [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "weather", "input": "free text"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"},
    ]


def _thought(encrypted: str | None = "gAAA", **state: JsonValue) -> ReasoningPart:
    kept: dict[str, JsonValue] = {"id": "rs_1", "summary": [], **state}
    if encrypted is not None:
        kept["encrypted_content"] = encrypted
    return ReasoningPart(text="hm", origin=_own(), provider_state=kept)


_SENT: JSON = {"type": "reasoning", "summary": [], "id": "rs_1", "encrypted_content": "gAAA"}


def test_reasoning_goes_back_with_nothing_else() -> None:
    thought = _thought(content=[{"type": "reasoning_text", "text": "x"}], status="completed")
    items = _items(Message.user("?"), Message.assistant(thought, "well"), Message.user("and?"))
    assert items[1:3] == [_SENT, {"role": "assistant", "content": "well"}]


@pytest.mark.parametrize(
    "parts",
    [
        (_thought(None), TextPart(text="well")),
        (TextPart(text="well"), _thought()),
        (TextPart(text="well"), _thought(), _thought()),
        (TextPart(text="well"), _thought(), TextPart(text=" ", origin=_own(), provider_state={"id": "msg_1"})),
    ],
)
def test_reasoning_that_cannot_be_read_or_leads_nowhere_stays_out(parts: tuple[Part, ...]) -> None:
    items = _items(Message.user("?"), Message.assistant(*parts), Message.user("and?"))
    assert items[1] == {"role": "assistant", "content": "well"}
    assert len(items) == 3


def test_search_without_its_reasoning_stays_out() -> None:
    search: JSON = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "open_page"}}
    state = cast("dict[str, JsonValue]", search)
    hosted = HostedToolPart(name="web_search_call", input=state["action"], origin=_own(), provider_state=state)
    led = _items(Message.user("?"), Message.assistant(_thought(), hosted, "well"))
    assert led[1:3] == [_SENT, search]
    assert [
        item.get("role") for item in _items(Message.user("?"), Message.assistant(_thought(None), hosted, "well"))
    ] == [
        "user",
        "assistant",
    ]


def test_searches_without_their_reasoning_stay_out_all_of_them() -> None:
    """Also behind one that a line tells of instead."""
    told: dict[str, JsonValue] = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "q"}}
    first = HostedToolPart(name="web_search_call", origin=_own(), input={"query": "q"}, provider_state=told)
    second = first.model_copy(update={"input": None, "provider_state": {**told, "id": "ws_2"}})
    answer = Message.assistant(_thought(None), first, second, "well")
    said = _items(Message.user("?"), answer, Message.user("and?"))[1:-1]
    assert said == [
        {"role": "assistant", "content": '[web_search_call "q"]'},
        {"role": "assistant", "content": "well"},
    ]


def test_a_phase_is_sent_back_to_its_own_provider_only() -> None:
    said = TextPart(text="first", origin=_own(), provider_state={"id": "msg_1", "phase": "commentary"})
    foreign = said.model_copy(update={"origin": said.origin and said.origin.model_copy(update={"dialect": "other"})})
    home, away = (_items(Message.user("?"), Message.assistant(part))[1] for part in (said, foreign))
    assert home == {"role": "assistant", "content": "first", "phase": "commentary"}
    assert away == {"role": "assistant", "content": "first"}


def test_a_dropped_blank_text_is_reported() -> None:
    blank = TextPart(text=" ", origin=_own(), provider_state={"id": "msg_1", "phase": "commentary"})
    history = [Message.user("?"), Message.assistant(blank, "well"), Message.user("and?")]
    assert _items(*history)[1:-1] == [{"role": "assistant", "content": "well"}]
    (entry,) = PromptFormatter.format_messages(history, _at()).report.entries
    assert (entry.code, entry.message, entry.part) == ("blank_text_dropped", 1, 0)


_FILES: Mapping[str, tuple[FilePart, JSON]] = {
    "image by id": (
        FilePart(media_type="image/bmp", file_id="file-1"),
        {"type": "input_image", "file_id": "file-1", "detail": "auto"},
    ),
    "pdf by id": (
        FilePart(media_type="application/pdf", file_id="file-1"),
        {"type": "input_file", "file_id": "file-1"},
    ),
    "pdf by url": (
        FilePart.from_url("https://host.test/a.pdf"),
        {"type": "input_file", "file_url": "https://host.test/a.pdf"},
    ),
    "nameless pdf": (
        FilePart(media_type="application/pdf", data=b"%PDF-"),
        {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
    ),
    "text by url": (
        FilePart(media_type="text/csv", url="https://host.test/a.csv"),
        {"type": "input_file", "file_url": "https://host.test/a.csv"},
    ),
    "text": (
        FilePart(media_type="text/csv", data=b"a,b", filename="a.csv"),
        {"type": "input_text", "text": "a.csv:\na,b"},
    ),
}


@pytest.mark.parametrize("case", _FILES)
def test_files(case: str) -> None:
    part, spelled = _FILES[case]
    assert _items(Message.user(part)) == [{"role": "user", "content": [spelled]}]


def test_sound_is_spelled_although_the_types_lack_it() -> None:
    (item,) = _items(Message.user(FilePart(media_type="audio/mpeg", data=b"ID3")), typed=False)
    assert item["content"] == [{"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}}]


@pytest.mark.parametrize(
    "part",
    [
        FilePart(media_type="video/mp4", data=b"x"),
        FilePart(media_type="image/tiff", data=b"x"),
        FilePart(media_type="audio/ogg", data=b"x"),
        FilePart(media_type="audio/mpeg", file_id="file-1"),
    ],
    ids=lambda part: part.media_type,
)
def test_an_unsupported_file_is_refused(part: FilePart) -> None:
    with pytest.raises(UnsupportedError, match=f"gpt-6-sol.*{part.media_type}"):
        _encoded([Message.user(part)])


# ---------------------------------------------------------------------------------------------------- answers


def _decoded(*frames: JSON | bytes, model: str = "gpt-6-sol") -> tuple[list[StreamEvent], ChatResponse]:
    endpoint = _at(model)
    request = ChatRequest.of([Message.user("hi")], instructions=(), config=AIModelCallConfig(), stream=True)
    decoder = driver_for(endpoint).decoder(request, _own(model))
    events: list[StreamEvent] = []
    for frame in frames:
        events += decoder.feed(frame if isinstance(frame, bytes) else orjson.dumps(frame))
    events += decoder.finish()
    check_grammar(events)
    accumulator = Accumulator(provider="openai", model=model)
    accumulator.feed(events)
    return events, accumulator.response()


def _plain(*output: JSON, **more: object) -> JSON:
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": list(output), **more}


def _said(text: str, **more: object) -> JSON:
    content: JSON = {"type": "output_text", "text": text, "annotations": [], **more}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [content]}


def test_citations_of_every_kind() -> None:
    annotations = [
        {"type": "url_citation", "url": "https://a.test", "title": "A", "start_index": 1, "end_index": 3},
        {"type": "file_citation", "file_id": "file-1", "filename": "b.txt", "index": 4},
        {"type": "container_file_citation", "file_id": "c-1", "filename": "c.png", "start_index": 0, "end_index": 2},
        {"type": "file_path", "file_id": "d-1", "index": 0},
        {"type": "unheard_of", "novelty": 1},
    ]
    _events, response = _decoded(_plain(_said("words", annotations=annotations)))
    assert response.citations() == (
        Citation(url="https://a.test", title="A", start=1, end=3),
        Citation(file_id="file-1", title="b.txt"),
        Citation(file_id="c-1", title="c.png", start=0, end=2),
        Citation(file_id="d-1"),
        Citation(),
    )
    assert response.choices[0].parts[0].provider_state == {"id": "msg_1", "annotations": annotations}


@pytest.mark.parametrize("repeated", [False, True])
def test_annotations_that_only_the_stream_tells(repeated: bool) -> None:
    done: JSON = {"type": "response.output_item.done", "output_index": 0, "item": _said("x")}
    place = {"output_index": 0, "content_index": 0}
    annotation = {"type": "url_citation", "url": "https://a.test", "title": "A", "start_index": 0, "end_index": 1}
    _events, response = _decoded(
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.output_text.delta", **place, "delta": "x"},
        {"type": "response.output_text.annotation.added", **place, "annotation": annotation},
        {"type": "response.output_text.annotation.added", **place, "annotation": None},
        *([done] if repeated else []),
        {"type": "response.completed", "response": {"status": "completed", "output": None}},
    )
    assert [cited.url for cited in response.citations()] == ["https://a.test"]


def test_a_call_with_arguments_only_at_the_end() -> None:
    call: JSON = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add"}
    _events, response = _decoded(
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**call, "arguments": ""}},
        {"type": "response.completed", "response": _plain({**call, "arguments": '{"a":1}'})},
    )
    assert [call.parsed() for call in response.tools()] == [{"a": 1}]


def test_answer_that_begins_without_a_word_of_its_response() -> None:
    place = {"output_index": 0, "content_index": 0}
    events, response = _decoded(
        {"type": "response.output_text.delta", **place, "delta": "x"},
        {"type": "response.output_item.done", "output_index": 0, "item": _said("x")},
        {"type": "response.completed", "response": _plain(_said("x"))},
    )
    assert isinstance(events[0], StreamStart)
    assert response.text() == "x"


def test_deltas_for_an_item_of_another_kind_are_nobodys() -> None:
    call: JSON = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": "{}"}
    place = {"output_index": 0, "content_index": None}
    _events, response = _decoded(
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
        {"type": "response.output_item.added", "output_index": 0, "item": {**call, "arguments": ""}},
        {"type": "response.reasoning_text.delta", **place, "delta": "hm"},
        {"type": "response.refusal.delta", **place, "delta": "no"},
        {"type": "response.completed", "response": _plain(call, {**call, "call_id": "call_2"})},
    )
    assert [(call.call_id, call.name, call.arguments) for call in response.tools()] == [
        ("call_1", "add", "{}"),
        ("call_2", "add", "{}"),
    ]
    assert response.reasoning() == ""


def test_items_of_hosted_tools_become_parts() -> None:
    items: list[JSON] = [
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://a.test"}]},
        },
        {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "results": [{"text": "found"}]},
        {"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "f", "arguments": "{}", "output": "done"},
        {"type": "tool_search_output", "id": "tso_1", "call_id": "tsc_1", "tools": [{"name": "f"}]},
        {"type": "unheard_of", "id": "x_1"},
    ]
    events, response = _decoded(
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.web_search_call.searching", "output_index": 0},
        {"type": "response.unheard_of.happened", "output_index": 0},
        {"type": "response.completed", "response": _plain(*items)},
    )
    hosted = cast("tuple[HostedToolPart, ...]", response.choices[0].parts)
    assert [part.provider_state for part in hosted] == items
    assert [(part.name, part.tool, part.call_id, part.input, part.output) for part in hosted] == [
        (
            "web_search_call",
            "web_search",
            None,
            {"type": "search", "query": "q"},
            [{"type": "url", "url": "https://a.test"}],
        ),
        ("file_search_call", "file_search", None, ["q"], [{"text": "found"}]),
        ("code_interpreter_call", "code_execution", None, "1+1", [{"type": "logs", "logs": "2"}]),
        ("mcp_call", "mcp", None, {"server_label": "s", "name": "f", "arguments": "{}"}, "done"),
        ("tool_search_output", None, "tsc_1", None, [{"name": "f"}]),
        ("unheard_of", None, None, None, None),
    ]
    assert sum(isinstance(event, Heartbeat) for event in events) == 1


def test_pictures_come_as_files_and_go_back_as_they_were() -> None:
    item: JSON = {
        "type": "image_generation_call",
        "id": "ig_1",
        "status": "completed",
        "output_format": "webp",
        "result": base64.b64encode(b"RIFFpixels").decode(),
    }
    _events, response = _decoded(_plain(item, {**item, "result": None}))
    picture, nothing = response.choices[0].parts
    assert isinstance(picture, FilePart)
    assert (picture.media_type, picture.data) == ("image/webp", b"RIFFpixels")
    assert "result" not in (picture.provider_state or {})  # the bytes are kept once
    assert isinstance(nothing, HostedToolPart)
    assert _items(Message.user("draw"), Message.assistant(picture), Message.user("more"))[1] == item


def test_sound_and_its_words() -> None:
    _events, response = _decoded(
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.audio.delta", "delta": base64.b64encode(b"la").decode()},
        {"type": "response.audio.transcript.delta", "delta": "sung"},
        {"type": "response.audio.delta", "delta": base64.b64encode(b"lala").decode()},
        {"type": "response.audio.transcript.done"},
        {"type": "response.audio.done"},
        {"type": "response.completed", "response": _plain()},
    )
    words, sound = response.choices[0].parts
    assert isinstance(sound, FilePart)
    assert (words.get_text(), sound.data, sound.media_type) == ("sung", b"lalala", "audio/*")
    assert len(_items(Message.user("sing"), Message.assistant(words, sound), Message.user("more"))) == 3


def test_logprobs_usage_and_incomplete_details() -> None:
    withheld = [{"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "model_mismatch"}]
    logprobs = [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}]},
        {"token": None},
    ]
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {
            "cached_tokens": 1,
            "cache_write_tokens": 5,
            "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 3},
        },
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 13,
    }
    more: JSON = {"usage": usage, "tool_usage": {"web_search": {"num_requests": 2}}, "input_transformations": withheld}
    _events, response = _decoded(_plain(_said("a", logprobs=logprobs), **more))
    said, report = response.choices[0].parts
    assert isinstance(said, TextPart)
    assert isinstance(report, HostedToolPart)
    assert said.logprobs == (TokenLogprob(token="a", logprob=-0.5, top=[("b", -1.0)]),)
    assert (report.name, report.output) == ("input_transformations", withheld)
    told = response.usage
    assert (told.cache_write_tokens, told.cache_write_30m_tokens, told.cache_write_12h_tokens) == (5, 2, 3)
    assert (told.input_tokens, told.cache_read_tokens, told.web_searches) == (9, 1, 2)
    assert len(_items(Message.user("?"), Message.assistant(said, report), Message.user("!"))) == 3


@pytest.mark.parametrize("index", [[], {}, "one", None, 1.5, True])
def test_places_that_are_none_break_nothing(index: object) -> None:
    events, response = _decoded(
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.output_item.added", "output_index": index, "item": {"type": "function_call", "name": "f"}},
        {"type": "response.content_part.added", "output_index": index, "content_index": index, "part": {}},
        {"type": "response.output_text.delta", "output_index": index, "content_index": index, "delta": "x"},
        {"type": "response.refusal.delta", "output_index": index, "content_index": index, "delta": "x"},
        {"type": "response.output_item.done", "output_index": index, "item": _said("whole")},
        {"type": "response.completed", "response": _plain(_said("whole"))},
    )
    assert events
    assert response.text().count("whole") == 1


# ---------------------------------------------------------------------------------------------------- recordings

_RECORDED = [name for name in recordings.ids() if name.startswith("openai_responses/")]
_NATIVE = ("web_search_call", "file_search_call", "code_interpreter_call", "mcp_call", "mcp_list_tools")


def _recorded_answer(recording: recordings.Recording) -> tuple[list[JSON], ChatResponse]:
    """The items of a recorded answer as they were finished on the wire, and what we make of it."""
    if recording.framing == "json":
        body = cast(JSON, orjson.loads(recording.body))
        return cast(list[JSON], body["output"]), _decoded(body)[1]
    lines = [line[6:] for line in recording.body.split(b"\n") if line.startswith(b"data: {")]
    finished = [event["item"] for event in map(orjson.loads, lines) if event["type"] == "response.output_item.done"]
    return finished, _decoded(*lines)[1]


def _to_send_again(items: Sequence[JSON]) -> Iterator[JSON]:
    """The recorded items that have to go back as they came, in order, by rules of their own."""
    for position, item in enumerate(items):
        kind = item["type"]
        if kind == "reasoning" and item.get("encrypted_content"):
            assert position + 1 < len(items)
            yield {key: item[key] for key in ("type", "id", "summary", "encrypted_content")}
        elif kind in _NATIVE:
            unreadable = position and items[position - 1]["type"] == "reasoning"
            if not (unreadable and not items[position - 1].get("encrypted_content")):
                yield item
        elif kind == "function_call":
            yield {key: item[key] for key in ("type", "call_id", "name", "arguments", "namespace") if item.get(key)}


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("name", _RECORDED)
def test_recorded_answers_go_back_as_they_came(name: str) -> None:
    recording = recordings.load(name)
    if recording.expect["kind"] != "message":
        pytest.skip("no answer to send again")
    items, response = _recorded_answer(recording)
    answer = Message.model_validate_json(Message.assistant(*response.choices[0].parts).model_dump_json())
    results = [ToolResultPart.of(call, "done") for call in answer.parts if isinstance(call, ToolCallPart)]
    wire = _encoded([Message.user("go on"), answer, Message.user(*results, "next")])
    sent = [item for item in _sent(wire) if item.get("type") in (*_NATIVE, "reasoning", "function_call")]
    assert sent == list(_to_send_again(items))
    said = "".join(str(item["content"]) for item in _sent(wire) if item.get("role") == "assistant")
    assert said == response.text() + response.refusal()


_CITING = [
    str(row["id"])
    for row in recordings.index()
    if row["api"] == "openai_responses" and "citations" in cast(list[str], row["features"])
]


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("name", _CITING)
def test_recorded_citations(name: str) -> None:
    recording = recordings.load(name)
    _finished, response = _recorded_answer(recording)
    assert [cited.url or cited.file_id for cited in response.citations()] == recording.expect["citations"]


# ---------------------------------------------------------------------------------------------------- a strict host


async def _ask(
    endpoint: AIModelEndpoint, messages: Sequence[Message], config: AIModelCallConfig, *, streamed: bool
) -> AIModelCallResponse:
    client = AIModelClient(endpoint, config)
    if not streamed:
        return await client.generate(messages=list(messages))
    async with client.stream(messages=list(messages)) as stream:
        async for _event in stream:
            pass
    return stream.response


_ADD = ScriptedToolCall(call_id="call_1", name="weather", arguments='{"city": "Bern"}')


@pytest.mark.parametrize("streamed", [False, True])
async def test_tool_loop_with_reasoning(streamed: bool) -> None:
    script = [
        Answer(reasoning="Look it up.", tool_calls=(_ADD,)),
        Answer(reasoning="Clear.", text="Sunny."),
        Answer(text="Bye."),
    ]
    config = AIModelCallConfig(tools=[_WEATHER], reasoning_effort="high", reasoning_summary="auto")
    async with ProviderServer(script) as server:
        endpoint = _at(api=server.api(_OPEN_AI))
        history = [Message.user("weather?")]
        first = await _ask(endpoint, history, config, streamed=streamed)
        (call,) = first.chat_response.tools()
        assert (call.parsed(), first.chat_response.finish_reason) == ({"city": "Bern"}, FinishReason.TOOL_CALLS)
        history += [
            Message.assistant(*first.chat_response.choices[0].parts),
            Message.user(ToolResultPart.of(call, "sun")),
        ]
        second = await _ask(endpoint, history, config, streamed=streamed)
        assert (second.text(), second.chat_response.reasoning()) == ("Sunny.", "Clear.")
        history += [Message.assistant(*second.chat_response.choices[0].parts), Message.user("thanks")]
        third = await _ask(endpoint, history, config, streamed=streamed)
    assert (third.text(), third.warnings) == ("Bye.", ())
    sent = cast(list[JSON], cast(JSON, server.requests[-1].json)["input"])
    assert [item.get("type", item.get("role")) for item in sent] == [
        "user",
        "reasoning",
        "function_call",
        "function_call_output",
        "reasoning",
        "assistant",
        "user",
    ]
    assert problems(Dialect.OPENAI_RESPONSES, server.requests[-1].body, stream=streamed) == []


async def test_streamed_and_plain_are_the_same() -> None:
    answer = Answer(
        reasoning="hm",
        web_searches=("bern",),
        text="It is sunny.",
        citations=(Citation(url="https://w.test", title="W", start=0, end=2),),
        tool_calls=(_ADD,),
    )
    config = AIModelCallConfig(tools=[_WEATHER, HostedTool(type="web_search")])
    found: list[ChatResponse] = []
    for streamed in (False, True):
        async with ProviderServer([answer]) as server:
            response = await _ask(_at(api=server.api(_OPEN_AI)), [Message.user("?")], config, streamed=streamed)
        parts = [
            part.model_copy(update={"origin": part.origin and part.origin.model_copy(update={"endpoint": "same"})})
            for part in response.chat_response.choices[0].parts
        ]
        choice = response.chat_response.choices[0].model_copy(update={"parts": tuple(parts)})
        found.append(response.chat_response.model_copy(update={"choices": (choice,)}))
    assert found[0] == found[1]
    assert found[0].usage.web_searches == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_search_goes_back_to_the_same_model(streamed: bool) -> None:
    cited = Citation(url="https://w.test", title="W", start=0, end=2)
    script = [Answer(reasoning="hm", web_searches=("bern",), text="Sunny.", citations=(cited,)), Answer(text="Bye.")]
    config = AIModelCallConfig(tools=[HostedTool(type="web_search")])
    async with ProviderServer(script) as server:
        endpoint = _at(api=server.api(_OPEN_AI))
        first = await _ask(endpoint, [Message.user("?")], config, streamed=streamed)
        (search,) = [part for part in first.chat_response.choices[0].parts if isinstance(part, HostedToolPart)]
        assert (search.tool, search.output) == ("web_search", [{"type": "url", "url": "https://w.test"}])
        assert first.chat_response.citations() == (cited,)
        answer = Message.assistant(*first.chat_response.choices[0].parts)
        second = await _ask(endpoint, [Message.user("?"), answer, Message.user("!")], config, streamed=streamed)
    assert second.text() == "Bye."
    sent = cast(list[JSON], cast(JSON, server.requests[-1].json)["input"])
    assert [item.get("type") for item in sent] == [None, "reasoning", "web_search_call", None, None]


@pytest.mark.parametrize("streamed", [False, True])
async def test_structured_call(streamed: bool) -> None:
    config = AIModelCallConfig(structured_output=_City)
    async with ProviderServer([Answer(text='{"name": "Bern", "people": 9}')]) as server:
        response = await _ask(_at(api=server.api(_OPEN_AI)), [Message.user("?")], config, streamed=streamed)
    assert response.structured(_City) == _City(name="Bern", people=9)


@pytest.mark.parametrize("streamed", [False, True])
async def test_logprobs_of_a_call(streamed: bool) -> None:
    config = AIModelCallConfig(top_logprobs=1)
    async with ProviderServer([Answer(text="a b")]) as server:
        endpoint = _at("gpt-4o-mini", server.api(_OPEN_AI))
        response = await _ask(endpoint, [Message.user("?")], config, streamed=streamed)
    (part,) = response.chat_response.choices[0].parts
    assert isinstance(part, TextPart)
    assert [(entry.token, entry.top) for entry in part.logprobs] == [
        ("a", (("a", -0.125),)),
        (" b", ((" b", -0.125),)),
    ]


async def test_files_reach_a_strict_host() -> None:
    files = [part for part, _spelled in _FILES.values()]
    async with ProviderServer() as server:
        call = _call()
        messages = [
            Message.user("look", *files),
            Message.assistant(call),
            Message.user(ToolResultPart.of(call, FilePart(media_type="image/png", data=_PNG))),
        ]
        await _ask(_at(api=server.api(_OPEN_AI)), messages, AIModelCallConfig(), streamed=False)
    assert server.requests[0].status == 200


async def test_reasoning_of_another_model_is_left_out_and_forged_reasoning_refused() -> None:
    """The refusal costs the reasoning, not the answer."""
    answers = [Answer(reasoning="hm", text="a"), Answer(text="b"), Answer(text="c"), Answer(text="d")]
    async with ProviderServer(answers) as server:
        endpoint = _at(api=server.api(_OPEN_AI))
        first = await _ask(endpoint, [Message.user("?")], AIModelCallConfig(), streamed=False)
        history = [Message.user("?"), Message.assistant(*first.chat_response.choices[0].parts), Message.user("!")]
        other = endpoint.model_copy(update={"ai_model": AIModel(model_name="gpt-6-luna")})
        second = await _ask(other, history, AIModelCallConfig(), streamed=False)
        assert [entry.code for entry in second.conversion.entries] == ["reasoning_dropped"]
        thought, *said = history[1].parts
        forged = thought.model_copy(
            update={"provider_state": {**(thought.provider_state or {}), "encrypted_content": "gAAAforged"}}
        )
        third = await _ask(
            endpoint,
            [history[0], Message.assistant(forged, *said), history[2]],
            AIModelCallConfig(),
            streamed=False,
        )
    assert [seen.status for seen in server.requests] == [200, 200, 400, 200]
    assert b"gAAAforged" in server.requests[2].body
    assert b"gAAAforged" not in server.requests[3].body
    assert [entry.code for entry in third.conversion.entries] == ["reasoning_stripped_after_400"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_openai_sdk_gets_the_same(streamed: bool) -> None:
    answer = Answer(
        reasoning="hm",
        web_searches=("bern",),
        text="Sunny.",
        citations=(Citation(url="https://w.test", title="W"),),
        tool_calls=(_ADD,),
    )
    tools: list[ToolParam] = [
        {"type": "web_search"},
        {"type": "function", "name": "weather", "parameters": None, "strict": None},
    ]
    async with (
        ProviderServer([answer]) as server,
        openai.AsyncOpenAI(base_url=server.base_url(_OPEN_AI), api_key="key", max_retries=0) as client,
    ):
        if streamed:
            async with client.responses.stream(model="gpt-6-sol", input="hi", tools=tools) as stream:
                response: Response = await stream.get_final_response()
        else:
            response = await client.responses.create(model="gpt-6-sol", input="hi", tools=tools)
    thought, search, _message, call = response.output
    assert isinstance(thought, ResponseReasoningItem)
    assert isinstance(search, ResponseFunctionWebSearch)
    assert isinstance(call, ResponseFunctionToolCall)
    assert (thought.summary[0].text, search.action.type, call.arguments) == ("hm", "search", _ADD.arguments)
    assert response.output_text == "Sunny."
    assert response.tool_usage
    assert response.tool_usage.web_search.num_requests == 1


async def test_the_openai_sdk_hears_every_event() -> None:
    answer = Answer(text="Sunny.", web_searches=("bern",), citations=(Citation(url="https://w.test"),))
    async with (
        ProviderServer([answer]) as server,
        openai.AsyncOpenAI(base_url=server.base_url(_OPEN_AI), api_key="key", max_retries=0) as client,
    ):
        tools: list[ToolParam] = [{"type": "web_search"}]
        stream = await client.responses.create(model="gpt-6-sol", input="hi", tools=tools, stream=True)
        kinds = [event.type.removeprefix("response.") async for event in stream]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
