"""Chat Completions in each host's words: tools, thinking, files and every knob."""

import base64
from itertools import product
from typing import cast

import orjson
import pytest
from chat_hosts import ENCODED, HOSTS, JSON, MODELS, PNG, encoded, endpoint_at, own, wire_messages
from pydantic import BaseModel
from sdk_types import problems

from dhenara_async import (
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    Dialect,
    FilePart,
    Message,
    PromptFormatter,
    ReasoningPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.errors import UnsupportedError
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.tools.declarations import HostedTool, NamedTool, Tool

_Provider = AIModelAPIProviderEnum

# ---------------------------------------------------------------------------------------------------- tools

_ADD = Tool(
    name="add",
    description="Adds.",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    strict=True,
)
_CALL = ToolCallPart(call_id="call_1", name="add", arguments='{"a": 1}')
_OTHER = ToolCallPart(call_id="call_2", name="add", arguments="")


def test_function_is_declared() -> None:
    body, warned = encoded(endpoint_at(_Provider.OPEN_AI), [Message.user("hi")], AIModelCallConfig(tools=[_ADD]))
    parameters = {**_ADD.parameters, "additionalProperties": False}
    function = {"name": "add", "description": "Adds.", "parameters": parameters, "strict": True}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert warned == []


def test_no_strict_where_it_is_not_known() -> None:
    body, warned = encoded(endpoint_at(_Provider.OLLAMA), [Message.user("hi")], AIModelCallConfig(tools=[_ADD]))
    function = {"name": "add", "description": "Adds.", "parameters": _ADD.parameters}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert [knob for _code, knob in warned] == ["tools"]


_NAMED = {"type": "function", "function": {"name": "add"}}
_CHOICES: list[tuple[AIModelAPIProviderEnum, object, object, list[tuple[str, str]]]] = [
    (_Provider.OPEN_AI, "auto", "auto", []),
    (_Provider.OPEN_AI, "none", "none", []),
    (_Provider.OPEN_AI, "required", "required", []),
    (_Provider.OPEN_AI, NamedTool(name="add"), _NAMED, []),
    (_Provider.MISTRAL, "required", "any", []),
    (_Provider.MISTRAL, NamedTool(name="add"), _NAMED, []),
    (_Provider.DEEPSEEK, "required", "auto", [("param_adjusted", "tool_choice")]),
    (_Provider.DEEPSEEK, NamedTool(name="add"), "auto", [("param_adjusted", "tool_choice")]),
    (_Provider.OLLAMA, "auto", None, []),
    (_Provider.OLLAMA, "required", None, [("param_dropped", "tool_choice")]),
]


@pytest.mark.parametrize(("host", "choice", "spelled", "warned"), _CHOICES)
def test_tool_choice(
    host: AIModelAPIProviderEnum, choice: object, spelled: object, warned: list[tuple[str, str]]
) -> None:
    tool = Tool(name="add")
    config = AIModelCallConfig.model_validate({"tools": [tool], "tool_choice": choice})
    body, found = encoded(endpoint_at(host), [Message.user("hi")], config)
    assert (body.get("tool_choice"), found) == (spelled, warned)
    assert len(cast("list[object]", body["tools"])) == 1


def test_choice_is_forced_where_thinking_is_off() -> None:
    config = AIModelCallConfig(tools=[Tool(name="add")], tool_choice="required", reasoning=False)
    body, warned = encoded(endpoint_at(_Provider.DEEPSEEK), [Message.user("hi")], config)
    assert (body["tool_choice"], body["thinking"], warned) == ("required", {"type": "disabled"}, [])


def test_host_that_heeds_no_choice_gets_no_tools_where_none_may_be_called() -> None:
    config = AIModelCallConfig(tools=[Tool(name="add")], tool_choice="none")
    body, warned = encoded(endpoint_at(_Provider.OLLAMA), [Message.user("hi")], config)
    assert body.keys() == {"model", "messages"}
    assert warned == []


def test_parallel_calls() -> None:
    config = AIModelCallConfig(tools=[Tool(name="add")], parallel_tool_calls=False)
    assert encoded(endpoint_at(_Provider.OPEN_AI), [Message.user("hi")], config)[0]["parallel_tool_calls"] is False
    body, warned = encoded(endpoint_at(_Provider.TOGETHER), [Message.user("hi")], config)
    assert "parallel_tool_calls" not in body
    assert warned == [("param_dropped", "parallel_tool_calls")]
    alone = AIModelCallConfig(parallel_tool_calls=True, tool_choice="required")
    body, warned = encoded(endpoint_at(_Provider.OPEN_AI), [Message.user("hi")], alone)
    assert body.keys() == {"model", "messages"}
    assert {knob for _code, knob in warned} == {"parallel_tool_calls", "tool_choice"}


def _wire_call(call_id: str, arguments: str) -> JSON:
    return {"id": call_id, "type": "function", "function": {"name": "add", "arguments": arguments}}


def test_results_stand_behind_their_calls_and_files_behind_all_results() -> None:
    picture = FilePart(media_type="image/png", data=PNG)
    history = [
        Message.user("add"),
        Message.assistant(_CALL, _OTHER),
        Message.user("wait", ToolResultPart.of(_CALL, "see", picture, {"b": [1, "é"]})),
        Message.user(ToolResultPart.of(_OTHER, "no such number", is_error=True), "go on"),
    ]
    assert wire_messages(_Provider.OPEN_AI, history) == [
        {"role": "user", "content": "add"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [_wire_call("call_1", '{"a": 1}'), _wire_call("call_2", "{}")],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": 'see\n{"b":[1,"é"]}'},
        {"role": "tool", "tool_call_id": "call_2", "content": "Error: no such number"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Files from the result of add:"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}},
            ],
        },
        {"role": "user", "content": "wait"},
        {"role": "user", "content": "go on"},
    ]


def test_mistral_speaks_between_tool_and_user() -> None:
    history = [
        Message.user("add"),
        Message.assistant(_CALL),
        Message.user(ToolResultPart.of(_CALL, 2), "and now?"),
        Message.assistant("so"),
    ]
    call_id = "RksXkbv4v"  # what is made of "call_1", the same every time
    assert wire_messages(_Provider.MISTRAL, history)[1:] == [
        {"role": "assistant", "content": None, "tool_calls": [_wire_call(call_id, '{"a": 1}')]},
        {"role": "tool", "tool_call_id": call_id, "content": "2"},
        {"role": "assistant", "content": "OK"},
        {"role": "user", "content": "and now?"},
        {"role": "assistant", "content": "so", "prefix": True},
    ]


@pytest.mark.parametrize(("host", "content"), [(_Provider.GROQ, None), (_Provider.LLAMA_CPP, ""), (_Provider.VLLM, "")])
def test_answer_of_calls_only(host: AIModelAPIProviderEnum, content: str | None) -> None:
    answer = wire_messages(host, [Message.user("add"), Message.assistant(_CALL)])[1]
    assert answer["content"] == content


# ---------------------------------------------------------------------------------------------------- reasoning

_OFF, _LOW, _MEDIUM, _XHIGH = (
    AIModelCallConfig(reasoning=False),
    AIModelCallConfig(reasoning_effort="low"),
    AIModelCallConfig(reasoning_effort="medium"),
    AIModelCallConfig(reasoning_effort="xhigh"),
)
_BUDGET = AIModelCallConfig(max_reasoning_tokens=2000)
_HIDDEN = AIModelCallConfig(reasoning_summary="none")
_ADJUSTED, _DROPPED = ("param_adjusted", "reasoning_effort"), ("param_dropped", "reasoning_effort")
_EFFORTS: list[tuple[AIModelAPIProviderEnum, str | None, AIModelCallConfig, JSON, list[tuple[str, str]]]] = [
    (_Provider.OPEN_AI, None, _LOW, {"reasoning_effort": "low"}, []),
    (_Provider.OPEN_AI, None, _XHIGH, {"reasoning_effort": "high"}, [_ADJUSTED]),
    (_Provider.OPEN_AI, None, _OFF, {"reasoning_effort": "minimal"}, [("param_adjusted", "reasoning")]),
    (_Provider.OPEN_AI, "gpt-5.4", _OFF, {"reasoning_effort": "none"}, []),
    (_Provider.OPEN_AI, "gpt-4o-mini", _LOW, {}, [_DROPPED]),
    (_Provider.OPEN_AI, "gpt-4o-mini", _OFF, {}, []),
    (_Provider.OPEN_AI, None, _BUDGET, {"reasoning_effort": "medium"}, [("param_dropped", "max_reasoning_tokens")]),
    (_Provider.DEEPSEEK, None, _OFF, {"thinking": {"type": "disabled"}}, []),
    (_Provider.DEEPSEEK, None, AIModelCallConfig(reasoning=True), {"thinking": {"type": "enabled"}}, []),
    (
        _Provider.DEEPSEEK,
        None,
        _MEDIUM,
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        [_ADJUSTED],
    ),
    (
        _Provider.DEEPSEEK,
        None,
        AIModelCallConfig(reasoning_effort="minimal"),
        {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
        [_ADJUSTED],
    ),
    (_Provider.DEEPSEEK, None, _XHIGH, {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, [_ADJUSTED]),
    (_Provider.GROQ, None, _LOW, {"reasoning_effort": "low"}, []),
    (_Provider.GROQ, None, _HIDDEN, {"include_reasoning": False}, []),
    (_Provider.GROQ, "qwen/qwen3-32b", _LOW, {"reasoning_format": "parsed"}, [_DROPPED]),
    (_Provider.GROQ, "qwen/qwen3-32b", _OFF, {"reasoning_effort": "none"}, []),
    (_Provider.GROQ, "qwen/qwen3.8-27b", _LOW, {"reasoning_effort": "low", "reasoning_format": "parsed"}, []),
    (_Provider.GROQ, "qwen/qwen3.8-27b", _HIDDEN, {"reasoning_format": "hidden"}, []),
    (_Provider.MISTRAL, None, _LOW, {"reasoning_effort": "high"}, [_ADJUSTED]),
    (_Provider.MISTRAL, None, _OFF, {"reasoning_effort": "none"}, []),
    (_Provider.OPENROUTER, None, _XHIGH, {"reasoning": {"effort": "xhigh"}}, []),
    (_Provider.OPENROUTER, None, _BUDGET, {"reasoning": {"max_tokens": 2000}}, []),
    (_Provider.OPENROUTER, None, _HIDDEN, {"reasoning": {"exclude": True}}, []),
    (_Provider.OPENROUTER, None, _OFF, {"reasoning": {"effort": "none"}}, []),
    (_Provider.TOGETHER, None, _OFF, {"reasoning": {"enabled": False}}, []),
    (_Provider.TOGETHER, None, _XHIGH, {"reasoning": {"enabled": True}, "reasoning_effort": "high"}, [_ADJUSTED]),
    (_Provider.FIREWORKS, None, _BUDGET, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, []),
    (_Provider.FIREWORKS, None, _XHIGH, {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, [_ADJUSTED]),
    (_Provider.CEREBRAS, None, _OFF, {"reasoning_effort": "low"}, [("param_adjusted", "reasoning")]),
    (_Provider.CEREBRAS, "qwen-3.8-27b", _OFF, {"reasoning_effort": "none"}, []),
    (_Provider.CEREBRAS, None, _HIDDEN, {"reasoning_format": "hidden"}, []),
    (_Provider.XAI, None, _LOW, {"reasoning_effort": "low"}, []),
    (_Provider.XAI, "grok-4.20-reasoning", _LOW, {}, [_DROPPED]),
    (_Provider.VLLM, None, _XHIGH, {"reasoning_effort": "xhigh"}, []),
]


@pytest.mark.parametrize(("host", "model", "config", "spelled", "warned"), _EFFORTS)
def test_thinking_is_asked_for(
    host: AIModelAPIProviderEnum,
    model: str | None,
    config: AIModelCallConfig,
    spelled: JSON,
    warned: list[tuple[str, str]],
) -> None:
    body, found = encoded(endpoint_at(host, model), [Message.user("hi")], config)
    assert {key: value for key, value in body.items() if key not in {"model", "messages"}} == spelled
    assert found == warned


@pytest.mark.parametrize(
    ("model", "config", "effort", "warned"),
    [
        ("gpt-5", _LOW, "low", []),
        ("o3-mini", _LOW, "low", []),
        ("gpt-5.4", _LOW, None, [_DROPPED]),
        ("gpt-5.4", AIModelCallConfig(), None, []),
        ("gpt-5.6-sol", AIModelCallConfig(), "none", [_ADJUSTED]),
        ("gpt-6-sol", _LOW, "none", [_ADJUSTED]),
        ("gpt-6-sol", _OFF, "none", []),
        ("gpt-4o-mini", AIModelCallConfig(), None, []),
    ],
)
async def test_newer_models_call_functions_without_reasoning(
    model: str, config: AIModelCallConfig, effort: str | None, warned: list[tuple[str, str]]
) -> None:
    """And the strict host takes each of these, which it would not with the effort that was asked for."""
    knobs = config.model_copy(update={"tools": (Tool(name="add"),)})
    body, found = encoded(endpoint_at(_Provider.OPEN_AI, model), [Message.user("hi")], knobs)
    assert (body.get("reasoning_effort"), found) == (effort, warned)
    async with ProviderServer([Answer("x")]) as server:
        endpoint = endpoint_at(_Provider.OPEN_AI, model, server.api(_Provider.OPEN_AI, dialect=Dialect.OPENAI_CHAT))
        assert (await AIModelClient(endpoint, knobs).generate("hi")).text() == "x"


def test_sampling_with_effort_none() -> None:
    for effort, sampled in (("none", True), ("high", False), (None, True)):
        config = AIModelCallConfig.model_validate({"reasoning_effort": effort, "temperature": 0.5, "top_logprobs": 2})
        body, _warned = encoded(endpoint_at(_Provider.OPEN_AI, "gpt-5.2"), [Message.user("hi")], config)
        assert (body.get("temperature"), body.get("top_logprobs")) == ((0.5, 2) if sampled else (None, None))


_THOUGHT = ReasoningPart(text="hm")
_DETAILS: list[JSON] = [
    {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0},
    {"type": "reasoning.encrypted", "data": "x", "index": 1},
]
_BACK: list[tuple[AIModelAPIProviderEnum, ReasoningPart, JSON]] = [
    (_Provider.DEEPSEEK, _THOUGHT, {"content": "so", "reasoning_content": "hm"}),
    (_Provider.FIREWORKS, _THOUGHT, {"content": "so", "reasoning_content": "hm"}),
    (_Provider.GROQ, _THOUGHT, {"content": "so", "reasoning": "hm"}),
    (_Provider.CEREBRAS, _THOUGHT, {"content": "so", "reasoning": "hm"}),
    (_Provider.OPENROUTER, _THOUGHT, {"content": "so", "reasoning": "hm"}),
    (
        _Provider.OPENROUTER,
        ReasoningPart.model_validate({"text": "hm", "provider_state": {"reasoning_details": _DETAILS}}),
        {"content": "so", "reasoning_details": _DETAILS},
    ),
    (
        _Provider.MISTRAL,
        ReasoningPart(text="hm", provider_state={"signature": "s"}),
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True, "signature": "s"},
                {"type": "text", "text": "so"},
            ]
        },
    ),
    *(
        (host, _THOUGHT, {"content": "so"})
        for host in (
            *(_Provider.OPEN_AI, _Provider.XAI, _Provider.TOGETHER, _Provider.OLLAMA, _Provider.VLLM),
            *(_Provider.LM_STUDIO, _Provider.LLAMA_CPP, _Provider.OPENAI_COMPATIBLE),
        )
    ),
]


@pytest.mark.parametrize(("host", "thought", "spelled"), _BACK)
def test_thinking_goes_back_where_its_host_wants_it(
    host: AIModelAPIProviderEnum, thought: ReasoningPart, spelled: JSON
) -> None:
    said = own(host, thought, *Message.assistant("so").parts)
    history = [Message.user("?"), said, Message.user("!")]
    assert wire_messages(host, history)[1] == {"role": "assistant", **spelled}
    report = PromptFormatter.format_messages(history, endpoint_at(host)).report
    kept = len(spelled) > 1 or not isinstance(spelled["content"], str)
    assert [(entry.code, entry.reason) for entry in report.entries] == (
        [] if kept else [("reasoning_dropped", "unsupported_by_target")]
    )


@HOSTS
def test_no_foreign_thought_arrives(host: AIModelAPIProviderEnum) -> None:
    """But one host wants the field itself at every answer, empty if need be."""
    history = [
        Message.user("?"),
        Message.assistant(_THOUGHT, "so", _CALL),
        Message.assistant("well"),
        Message.user("!"),
    ]
    spoken = wire_messages(host, history)
    assert b"hm" not in orjson.dumps(spoken)
    answers = [message for message in spoken if message["role"] == "assistant" and message["content"] != "OK"]
    wanted = {"reasoning_content": ""} if host is _Provider.DEEPSEEK else {}
    assert [{key: value for key, value in answer.items() if key.startswith("reasoning")} for answer in answers] == (
        [wanted] * len(answers)
    )


def test_thought_of_another_model_goes_back_as_words_only() -> None:
    origin = expected_origin(endpoint_at(_Provider.OPENROUTER, "other"))
    for host, kept in ((_Provider.DEEPSEEK, True), (_Provider.OPENROUTER, False), (_Provider.XAI, False)):
        origin = expected_origin(endpoint_at(host, "other"))
        thought = ReasoningPart(text="hm", origin=origin, provider_state={"reasoning_details": [{"data": "x"}]})
        body = orjson.dumps(wire_messages(host, [Message.user("?"), Message.assistant(thought, "so")]))
        assert (b"hm" in body, b'"x"' in body) == (kept, False)


# ---------------------------------------------------------------------------------------------------- system messages


@HOSTS
def test_instruction_inside_the_conversation(host: AIModelAPIProviderEnum) -> None:
    history = [
        Message.system("lead"),
        Message.user("a"),
        Message.assistant("b"),
        Message.system("later"),
        Message.user("c"),
    ]
    spoken = [(message["role"], message["content"]) for message in wire_messages(host, history)]
    if host in {_Provider.OPEN_AI, _Provider.GROQ, _Provider.MISTRAL}:
        leader = "developer" if host is _Provider.OPEN_AI else "system"
        assert spoken == [(leader, "lead"), ("user", "a"), ("assistant", "b"), (leader, "later"), ("user", "c")]
    elif host in {_Provider.VLLM, _Provider.LM_STUDIO, _Provider.LLAMA_CPP}:  # one message a turn
        last = ("user", "<system>later</system>\n\nc")
        assert spoken == [("system", "lead"), ("user", "a"), ("assistant", "b"), last]
    else:
        assert spoken[3:] == [("user", "<system>later</system>"), ("user", "c")]


def test_instruction_at_the_end_is_the_users_where_only_the_user_may_be_last() -> None:
    history = [Message.system("lead"), Message.user("a"), Message.system("later")]
    assert wire_messages(_Provider.MISTRAL, history)[-1] == {"role": "user", "content": "<system>later</system>"}
    assert wire_messages(_Provider.GROQ, history)[-1] == {"role": "system", "content": "later"}


def test_words_come_as_one_string_where_lists_are_for_media() -> None:
    history = [
        Message.user("a", "b"),
        Message.assistant("c", "d"),
        Message.user("e", FilePart(media_type="image/png", data=PNG)),
    ]
    spoken = [message["content"] for message in wire_messages(_Provider.DEEPSEEK, history)]
    assert spoken[:2] == ["a\n\nb", "cd"]
    assert isinstance(spoken[2], list)
    assert isinstance(wire_messages(_Provider.OPEN_AI, history)[0]["content"], list)


# ---------------------------------------------------------------------------------------------------- files

_PDF = FilePart(media_type="application/pdf", data=b"%PDF-1.7", filename="a.pdf")
_PDF_URL = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.7").decode()
_WAV = FilePart(media_type="audio/wav", data=b"RIFF")
_MP3 = FilePart(media_type="audio/mpeg", data=b"ID3")
_SOUND = base64.b64encode(b"RIFF").decode()
_FILES: list[tuple[AIModelAPIProviderEnum, FilePart, JSON | None]] = [
    (_Provider.OPEN_AI, _PDF, {"type": "file", "file": {"filename": "a.pdf", "file_data": _PDF_URL}}),
    (
        _Provider.OPEN_AI,
        FilePart(media_type="application/pdf", file_id="file-1"),
        {"type": "file", "file": {"file_id": "file-1"}},
    ),
    (_Provider.OPEN_AI, FilePart(media_type="image/png", file_id="file-1"), None),
    (_Provider.OPENROUTER, _PDF, {"type": "file", "file": {"filename": "a.pdf", "file_data": _PDF_URL}}),
    (
        _Provider.OPENROUTER,
        FilePart(media_type="application/pdf", url="https://h.test/a.pdf"),
        {"type": "file", "file": {"filename": "document.pdf", "file_data": "https://h.test/a.pdf"}},
    ),
    (_Provider.MISTRAL, _PDF, {"type": "document_url", "document_url": _PDF_URL, "document_name": "a.pdf"}),
    (
        _Provider.MISTRAL,
        FilePart(media_type="application/pdf", url="https://h.test/a.pdf"),
        {"type": "document_url", "document_url": "https://h.test/a.pdf"},
    ),
    (_Provider.GROQ, _PDF, None),
    (_Provider.LLAMA_CPP, _PDF, None),
    (_Provider.OPEN_AI, FilePart(media_type="application/pdf", url="https://h.test/a.pdf"), None),
    (_Provider.OPEN_AI, _WAV, {"type": "input_audio", "input_audio": {"data": _SOUND, "format": "wav"}}),
    (
        _Provider.OPENROUTER,
        _MP3,
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"ID3").decode(), "format": "mp3"}},
    ),
    (_Provider.OPEN_AI, FilePart(media_type="audio/flac", data=b"fLaC"), None),
    (_Provider.MISTRAL, _WAV, {"type": "input_audio", "input_audio": _SOUND}),
    (_Provider.GROQ, _WAV, None),
    (_Provider.OPEN_AI, FilePart(media_type="video/mp4", data=b"mp4"), None),
    (
        _Provider.TOGETHER,
        FilePart(media_type="video/mp4", url="https://h.test/a.mp4"),
        {"type": "video_url", "video_url": {"url": "https://h.test/a.mp4"}},
    ),
    (_Provider.OLLAMA, FilePart(media_type="image/png", url="https://h.test/a.png"), None),
    (
        _Provider.GROQ,
        FilePart(media_type="image/png", url="https://h.test/a.png"),
        {"type": "image_url", "image_url": {"url": "https://h.test/a.png"}},
    ),
    (
        _Provider.GROQ,
        FilePart(media_type="application/json", data=b'{"a":1}', filename="a.json"),
        {"type": "text", "text": 'a.json:\n{"a":1}'},
    ),
]


@pytest.mark.parametrize(("host", "file", "spelled"), _FILES)
def test_files(host: AIModelAPIProviderEnum, file: FilePart, spelled: JSON | None) -> None:
    history = [Message.user("look", file)]
    if spelled is None:
        with pytest.raises(UnsupportedError, match=MODELS[host]):
            wire_messages(host, history)
        return
    (message,) = wire_messages(host, history)
    assert message["content"] == [{"type": "text", "text": "look"}, spelled]


# ---------------------------------------------------------------------------------------------------- knobs


class City(BaseModel):
    """A city."""

    name: str
    size: int


_SCHEMA = {
    "properties": {"name": {"title": "Name", "type": "string"}, "size": {"title": "Size", "type": "integer"}},
    "required": ["name", "size"],
    "title": "City",
    "type": "object",
    "description": "A city.",
    "additionalProperties": False,
}


@HOSTS
def test_structured_output(host: AIModelAPIProviderEnum) -> None:
    config = AIModelCallConfig(structured_output=City)
    body, warned = encoded(endpoint_at(host), [Message.user("Where?")], config)
    if host is _Provider.DEEPSEEK:
        assert body["response_format"] == {"type": "json_object"}
        assert warned == [("param_adjusted", "structured_output")]
        first = cast("list[JSON]", body["messages"])[0]
        assert first["role"] == "system"
        assert "JSON" in str(first["content"])
        assert orjson.loads(str(first["content"]).partition("\n")[2])["required"] == ["name", "size"]
        return
    strict = {} if host is _Provider.OLLAMA else {"strict": True}
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "City", "schema": _SCHEMA, **strict},
    }
    assert body.get("provider") == ({"require_parameters": True} if host is _Provider.OPENROUTER else None)
    assert warned == []


_LABELS = AIModelCallConfig.model_validate(
    {
        "n": 2,
        "top_logprobs": 3,
        "metadata": {"team": "red"},
        "user_id": "u1",
        "service_tier": "flex",
        "prompt_cache": {"key": "k1"},
    }
)
_LABELLED: list[tuple[AIModelAPIProviderEnum, JSON]] = [
    (
        _Provider.OPEN_AI,
        {
            "n": 2,
            "logprobs": True,
            "top_logprobs": 3,
            "metadata": {"team": "red"},
            "safety_identifier": "u1",
            "service_tier": "flex",
            "prompt_cache_key": "k1",
        },
    ),
    (_Provider.GROQ, {"user": "u1", "service_tier": "flex"}),
    (
        _Provider.MISTRAL,
        {
            "n": 2,
            "logprobs": True,
            "top_logprobs": 3,
            "metadata": {"team": "red"},
            "service_tier": "flex",
            "prompt_cache_key": "k1",
        },
    ),
    (_Provider.TOGETHER, {"n": 2, "logprobs": 3}),
    (_Provider.DEEPSEEK, {"logprobs": True, "top_logprobs": 3}),
    (
        _Provider.CEREBRAS,
        {"logprobs": True, "top_logprobs": 3, "user": "u1", "service_tier": "flex", "prompt_cache_key": "k1"},
    ),
    (_Provider.OLLAMA, {"logprobs": True, "top_logprobs": 3}),
    (_Provider.LM_STUDIO, {}),
]
_KNOB_OF = {
    "logprobs": "top_logprobs",
    "safety_identifier": "user_id",
    "user": "user_id",
    "prompt_cache_key": "prompt_cache",
}


@pytest.mark.parametrize(("host", "spelled"), _LABELLED)
def test_labels(host: AIModelAPIProviderEnum, spelled: JSON) -> None:
    """Each knob is sent or warned of, never both and never neither."""
    model = "gpt-4o-mini" if host is _Provider.OPEN_AI else None
    body, warned = encoded(endpoint_at(host, model), [Message.user("hi")], _LABELS)
    assert {key: value for key, value in body.items() if key not in {"model", "messages"}} == spelled
    sent = {_KNOB_OF.get(key, key) for key in spelled}
    assert {knob for _code, knob in warned} == {
        *("n", "top_logprobs", "metadata", "user_id", "service_tier", "prompt_cache")
    } - sent
    assert {code for code, _knob in warned} <= {"param_dropped"}


_SEARCH = AIModelCallConfig(tools=[HostedTool(type="web_search", options={"max_results": 3})])


@pytest.mark.parametrize(
    ("host", "model", "spelled"),
    [
        (_Provider.OPEN_AI, "gpt-5-search-api", {"web_search_options": {"max_results": 3}}),
        (_Provider.OPENROUTER, None, {"plugins": [{"id": "web", "max_results": 3}]}),
        (_Provider.OPEN_AI, "gpt-4o-mini", None),
        (_Provider.GROQ, None, None),
    ],
)
def test_web_search(host: AIModelAPIProviderEnum, model: str | None, spelled: JSON | None) -> None:
    body, warned = encoded(endpoint_at(host, model), [Message.user("hi")], _SEARCH)
    assert {key: value for key, value in body.items() if key not in {"model", "messages"}} == (spelled or {})
    assert warned == ([] if spelled else [("param_dropped", "tools")])


_OWN_FIELDS = {"random_seed", "top_k", "reasoning", "thinking", "provider", "plugins", "reasoning_format", "logprobs"}


@HOSTS
def test_bodies_fit_the_sdk(host: AIModelAPIProviderEnum) -> None:
    """OpenAI's own types, but for what the host has beyond them."""
    history = [
        Message.system("lead"),
        Message.user("add", FilePart(media_type="image/png", data=PNG)),
        Message.assistant("let me see", _CALL, _OTHER),
        Message.user(ToolResultPart.of(_CALL, 2), ToolResultPart.of(_OTHER, is_error=True), "so?"),
    ]
    knobs = (
        AIModelCallConfig(tools=[_ADD], tool_choice="auto", parallel_tool_calls=True, structured_output=City),
        AIModelCallConfig(tools=[_ADD], tool_choice=NamedTool(name="add"), reasoning_effort="high"),
        _LABELS,
    )
    for config, turns in product(knobs, (2, 4)):
        body, _warned = encoded(endpoint_at(host), history[:turns], config)
        own = _OWN_FIELDS & body.keys() if host is not _Provider.OPEN_AI else set[str]()
        found = problems(Dialect.OPENAI_CHAT, orjson.dumps(body), stream=False, extras=own)
        if host is _Provider.DEEPSEEK:
            found = [problem for problem in found if "reasoning_content: unknown" not in problem]
        if host is _Provider.GROQ:
            found = [problem for problem in found if "service_tier" not in problem]
        assert found == []
