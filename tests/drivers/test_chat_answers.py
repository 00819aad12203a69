"""What the answers of Chat Completions mean, whatever their host makes of the protocol."""

import base64
from collections.abc import Iterable, Mapping
from typing import cast

import orjson
import pytest
from chat_hosts import ENCODED, JSON, PNG, endpoint_at, wire_messages

from dhenara_async import (
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    FinishReason,
    Message,
    Role,
    StreamEvent,
)
from dhenara_async.accumulator import Accumulator
from dhenara_async.errors import APIError, DhenaraError, RateLimitError, TruncatedStreamError
from dhenara_async.hosts import driver_for, target_of
from dhenara_async.request import ChatRequest
from dhenara_async.response import ChatResponse
from dhenara_async.testing import check_grammar

_Provider = AIModelAPIProviderEnum

# ---------------------------------------------------------------------------------------------------- answers


def _decoded(
    chunks: Iterable[JSON], host: AIModelAPIProviderEnum = _Provider.OPENAI_COMPATIBLE, *, config: JSON | None = None
) -> ChatResponse:
    endpoint = endpoint_at(host)
    request = ChatRequest((), (), AIModelCallConfig.model_validate(config or {}), stream=True)
    decoder = driver_for(endpoint).decoder(request, target_of(endpoint))
    events: list[StreamEvent] = []
    for chunk in chunks:
        events += decoder.feed(orjson.dumps(chunk))
    events += decoder.finish()
    check_grammar(events)
    accumulator = Accumulator(provider="x", model="m")
    accumulator.feed(events)
    return accumulator.response()


def _delta(finish: str | None = None, /, **delta: object) -> JSON:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _whole(finish: str | None = "stop", /, **message: object) -> JSON:
    message = {"role": "assistant", **message}
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


_CITED: JSON = {
    "type": "url_citation",
    "url_citation": {"url": "https://a.test", "title": "A", "start_index": 1, "end_index": 3, "content": "words"},
}


@pytest.mark.parametrize("early", [{}, {"id": "", "model": ""}, {"id": None, "model": None}, {"id": 5, "model": []}])
@pytest.mark.parametrize("told", [1, 2, 3, 4])
def test_model_and_id_told_after_the_first_chunk(early: JSON, told: int) -> None:
    late = {"id": "answer-9", "model": "heron-2-0611"}
    chunks: list[JSON] = [
        {**early, "choices": [], "prompt_filter_results": []},
        _delta(reasoning="Hm."),
        _delta(content="so"),
        _delta("stop"),
        {"choices": [], "usage": {"prompt_tokens": 3}},
    ]
    named = [{**chunk, "id": "", **(late if place >= told else early)} for place, chunk in enumerate(chunks)]
    response = _decoded(named)
    assert (response.model, response.response_id) == ("heron-2-0611", "answer-9")
    assert [part.origin and part.origin.served_model for part in response.choices[0].parts] == ["heron-2-0611"] * 2


def test_model_and_id_told_first_stay() -> None:
    named: list[JSON] = [{**_SO, "model": "heron-2"}, {**_END, "id": "another", "model": "egret-1"}]
    response = _decoded(named)
    assert (response.model, response.response_id) == ("heron-2", "c")


def test_annotations_are_citations_streamed_and_plain() -> None:
    plain = _decoded([_whole(content="abc", annotations=[_CITED, {"type": "new"}])])
    streamed = _decoded([_delta(content="abc"), _delta(annotations=[_CITED]), _delta("stop")])
    early = _decoded([_delta(annotations=[_CITED]), _delta(content="abc"), _delta("stop")])
    assert plain.choices == streamed.choices == early.choices
    (citation,) = plain.citations()
    assert (citation.url, citation.title, citation.cited_text) == ("https://a.test", "A", "words")
    assert (citation.start, citation.end) == (1, 3)


def test_sources_of_the_whole_answer() -> None:
    told: JSON = {
        "citations": ["https://a.test", "https://b.test"],
        "search_results": [{"url": "https://b.test", "title": "B"}],
    }
    response = _decoded([{**_delta(content="ab"), **told}, {**_delta("stop"), **told}])
    assert [(cited.url, cited.title) for cited in response.citations()] == [
        ("https://a.test", None),
        ("https://b.test", "B"),
    ]


def test_logprobs() -> None:
    entry: JSON = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1}]}
    logprobs = {"logprobs": {"content": [entry], "refusal": None}}
    chunk = _delta(content="a")
    chunk["choices"] = [{**cast("list[JSON]", chunk["choices"])[0], **logprobs}]
    whole = _whole(content="aa")
    both = {"logprobs": {"content": [entry, entry]}}
    whole["choices"] = [{**cast("list[JSON]", whole["choices"])[0], **both}]
    streamed, plain = _decoded([chunk, chunk, _delta("stop")]), _decoded([whole])
    assert streamed.choices == plain.choices
    (part,) = streamed.choices[0].parts
    assert part.type == "text"
    assert [(token.token, token.logprob, token.top) for token in part.logprobs] == [("a", -0.5, (("b", -1.0),))] * 2


def test_images_and_sound() -> None:
    image: JSON = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}
    for chunks in (
        [_whole(content="see", images=[image])],
        [_delta(content="see"), _delta(images=[image]), _delta("stop")],
    ):
        (file,) = _decoded(chunks).files()
        assert (file.media_type, file.data) == ("image/png", PNG)
    pieces = [base64.b64encode(piece).decode() for piece in (b"on", b"e two")]
    sound: list[JSON] = [
        _delta(role="assistant", audio={"id": "audio_1", "transcript": "one "}),
        _delta(audio={"data": pieces[0]}),
        _delta(audio={"data": pieces[1], "transcript": "two"}),
        _delta("stop"),
        {"choices": [{"index": 0, "delta": {"audio": {"expires_at": 5}}}]},
    ]
    response = _decoded(sound, config={"extra_body": {"audio": {"format": "mp3"}}})
    (file,) = response.files()
    assert (file.media_type, file.data, file.provider_state) == (
        "audio/mpeg",
        b"one two",
        {"id": "audio_1", "expires_at": 5},
    )
    assert response.text() == "one two"


def test_tools_that_the_host_ran() -> None:
    begun: JSON = {"index": 0, "type": "search", "arguments": '{"query": "x"}'}
    ended: JSON = {"index": 0, "output": "found", "search_results": {"results": [{"url": "https://a.test"}]}}
    streamed = _decoded(
        [_delta(executed_tools=[begun]), _delta(executed_tools=[ended]), _delta(content="so"), _delta("stop")]
    )
    plain = _decoded([_whole(content="so", executed_tools=[{**begun, **ended}])])
    for response in (streamed, plain):
        hosted, text = response.choices[0].parts
        assert hosted.type == "hosted_tool"
        assert (hosted.name, hosted.tool, hosted.input) == ("search", "web_search", {"query": "x"})
        assert hosted.output == {"results": [{"url": "https://a.test"}]}
        assert text.get_text() == "so"
    assert streamed.choices == plain.choices


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("said", "reasoning", "text"),
    [
        ("<think>hm <b></think>so", "hm <b>", "so"),
        ("\n<think>hm</think>", "hm", ""),
        ("<thin ice", "", "<thin ice"),
        ("no <think>x</think>", "", "no <think>x</think>"),
        ("<think>cut <", "cut <", ""),
        ("<thi", "", "<thi"),
    ],
)
def test_thinking_between_marks(said: str, reasoning: str, text: str, size: int) -> None:
    pieces = [_delta(content=said[at : at + size]) for at in range(0, len(said), size)]
    response = _decoded([*pieces, _delta("stop")], _Provider.LM_STUDIO)
    assert (response.reasoning(), response.text()) == (reasoning, text)
    assert _decoded([_whole(content=said)], _Provider.LM_STUDIO).choices == response.choices
    assert _decoded([*pieces, _delta("stop")], _Provider.GROQ).text() == said


def test_reasoning_details_of_a_stream_become_whole() -> None:
    piece: JSON = {"type": "reasoning.text", "format": "f", "index": 0}
    chunks = [
        _delta(reasoning="one", reasoning_details=[{**piece, "text": "one", "signature": None}]),
        _delta(reasoning=" two", reasoning_details=[{**piece, "text": " two"}]),
        _delta(reasoning_details=[{**piece, "signature": "s"}]),
        _delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "x", "index": 1}]),
        _delta("stop", content="so"),
    ]
    thought = _decoded(chunks, _Provider.OPENROUTER).choices[0].parts[0]
    assert thought.provider_state == {
        "reasoning_details": [
            {**piece, "text": "one two", "signature": "s"},
            {"type": "reasoning.encrypted", "data": "x", "index": 1},
        ]
    }
    assert thought.get_text() == "one two"


def test_end_that_is_not_said() -> None:
    """Lenient for the one host that leaves it out; a cut stream everywhere else."""
    chunks = [_delta(content="so"), _delta(tool_calls=[_raw_call("a", "add", "{}")])]
    assert _decoded(chunks, _Provider.OLLAMA).finish_reason is FinishReason.TOOL_CALLS
    assert _decoded(chunks[:1], _Provider.OLLAMA).finish_reason is FinishReason.STOP
    for host in (_Provider.GROQ, _Provider.LLAMA_CPP):
        with pytest.raises(TruncatedStreamError):
            _decoded(chunks, host)
    with pytest.raises(TruncatedStreamError):
        _decoded([], _Provider.OLLAMA)


@pytest.mark.parametrize(
    ("chunk", "kind", "status"),
    [
        ({"error": {"code": 429, "message": "slow down"}, "choices": []}, RateLimitError, 429),
        ({"x_groq": {"error": "gone"}, "choices": []}, APIError, 500),
        ({"error": "gone"}, APIError, 500),
        ({"choices": None}, TruncatedStreamError, None),
    ],
)
def test_error_inside_an_answer(chunk: JSON, kind: type[DhenaraError], status: int | None) -> None:
    for before in ([], [_delta(content="so")]):
        with pytest.raises(kind) as caught:
            _decoded([*before, chunk])
        assert getattr(caught.value, "status", None) == status


def test_usage_details() -> None:
    usage: JSON = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "cost": 0.1,
        "prompt_tokens_details": {"audio_tokens": 4, "cached_tokens": 2},
        "completion_tokens_details": {"audio_tokens": 3, "reasoning_tokens": 1},
        "server_tool_use": {"web_search_requests": 2},
    }
    counted = _decoded([{**_whole(content="x"), "usage": usage}]).usage
    assert (counted.input_audio_tokens, counted.output_audio_tokens, counted.web_searches) == (4, 3, 2)
    apart = _decoded([{**_whole(content="x"), "usage": usage}], _Provider.XAI).usage
    assert (counted.output_tokens, apart.output_tokens) == (5, 6)


_COUNTS: JSON = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
_END: JSON = {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


_SO = _delta(content="so")
_NOTHING: list[object] = []
_PLACES: dict[str, list[JSON]] = {
    "first": [{**_SO, "usage": _COUNTS}, _END],
    "with the finish": [_SO, {**_END, "usage": _COUNTS}],
    "apart": [_SO, _END, {"id": "1", "choices": _NOTHING, "usage": _COUNTS}],
    "without choices": [_SO, _END, {"id": "1", "usage": _COUNTS}],
    "the newest wins": [{**_SO, "usage": {"prompt_tokens": 1}}, {**_END, "usage": _COUNTS}],
    "null": [_SO, {**_END, "usage": None}],
    "absent": [_SO, _END],
}


@pytest.mark.parametrize("place", _PLACES)
def test_usage_wherever_it_stands(place: str) -> None:
    usage = _decoded(_PLACES[place]).usage
    counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.source)
    assert counts == ((None, None, None, "unknown") if place in {"null", "absent"} else (7, 2, 9, "reported"))


def _raw_call(call_id: str | None, name: str | None, arguments: str, index: object = 0) -> JSON:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call: JSON = {"function": function}
    if call_id is not None:
        call["id"] = call_id
    if index is not None:
        call["index"] = index
    return call


_WANTED = [("a", "add", '{"a":1}'), ("b", "sub", '{"b":2}')]
_UNNAMED = [("", "add", '{"a":1}'), ("", "sub", '{"b":2}')]
_MATRIX: Mapping[str, tuple[list[JSON], list[tuple[str, str, str]]]] = {
    "by the book": (
        [
            _raw_call("a", "add", ""),
            _raw_call(None, None, '{"a":1}'),
            _raw_call("b", "sub", "", 1),
            _raw_call(None, None, '{"b":2}', 1),
        ],
        _WANTED,
    ),
    "interleaved": (
        [
            _raw_call("a", "add", '{"a"'),
            _raw_call("b", "sub", '{"b"', 1),
            _raw_call(None, None, ":1}"),
            _raw_call(None, None, ":2}", 1),
        ],
        _WANTED,
    ),
    "interleaved by id, index reused": (
        [
            _raw_call("a", "add", '{"a"'),
            _raw_call("b", "sub", '{"b"'),
            _raw_call("a", None, ":1}"),
            _raw_call("b", None, ":2}"),
        ],
        _WANTED,
    ),
    "index reused": (
        [
            _raw_call("a", "add", ""),
            _raw_call(None, None, '{"a":1}'),
            _raw_call("b", "sub", ""),
            _raw_call(None, None, '{"b":2}'),
        ],
        _WANTED,
    ),
    "index missing": (
        [
            _raw_call("a", "add", "", None),
            _raw_call(None, None, '{"a":1}', None),
            _raw_call("b", "sub", "", None),
            _raw_call("", None, '{"b":2}', None),
        ],
        _WANTED,
    ),
    "index begins at one": ([_raw_call("a", "add", '{"a":1}', 1), _raw_call("b", "sub", '{"b":2}', 2)], _WANTED),
    "index null, whole": (
        [{**_raw_call("a", "add", '{"a":1}'), "index": None}, {**_raw_call("b", "sub", '{"b":2}'), "index": None}],
        _WANTED,
    ),
    "id and name repeated": (
        [
            _raw_call("a", "add", '{"a"'),
            _raw_call("a", "add", ":1}"),
            _raw_call("a", "add", ""),
            _raw_call("b", "sub", '{"b"', 1),
            _raw_call("b", "sub", ":2}", 1),
        ],
        _WANTED,
    ),
    "a new id with every fragment": (
        [
            _raw_call("a", "add", '{"a"'),
            _raw_call("a2", None, ":1}"),
            _raw_call("b", "sub", '{"b"', 1),
            _raw_call("b2", None, ":2}", 1),
        ],
        _WANTED,
    ),
    "id missing": ([_raw_call(None, "add", '{"a":1}'), _raw_call(None, "sub", '{"b":2}', 1)], _UNNAMED),
    "id missing, index reused": ([_raw_call(None, "add", '{"a":1}'), _raw_call("", "sub", '{"b":2}')], _UNNAMED),
    "id and index missing": (
        [
            _raw_call(None, "add", '{"a"', None),
            _raw_call(None, None, ":1}", None),
            _raw_call(None, "sub", '{"b":2}', None),
        ],
        _UNNAMED,
    ),
    "the same id twice": (
        [_raw_call("a", "add", '{"a":1}'), _raw_call("a", "sub", '{"b":2}', 1)],
        [("a", "add", '{"a":1}'), ("a", "sub", '{"b":2}')],
    ),
    "the same id and index twice": (
        [_raw_call("a", "add", '{"a":1}'), _raw_call("a", "sub", '{"b":2}')],
        [("a", "add", '{"a":1}'), ("a", "sub", '{"b":2}')],
    ),
}


@pytest.mark.parametrize("at_once", [False, True], ids=["apart", "at once"])
@pytest.mark.parametrize("case", _MATRIX)
def test_calls_are_told_apart(case: str, at_once: bool) -> None:
    fragments, wanted = _MATRIX[case]
    deltas = [_delta(tool_calls=fragments)] if at_once else [_delta(tool_calls=[piece]) for piece in fragments]
    response = _decoded([_delta(content="let me see"), *deltas, _delta("tool_calls")])
    assert [(call.call_id, call.name, call.arguments) for call in response.tools()] == wanted
    assert response.finish_reason is FinishReason.TOOL_CALLS


def test_state_of_a_call_goes_back_to_its_model_only() -> None:
    call = {**_raw_call("a", "add", "{}"), "extra_content": {"google": {"thought_signature": "s"}}}
    response = _decoded([_delta(tool_calls=[call]), _delta("tool_calls")])
    history = [Message.user("?"), Message(role=Role.ASSISTANT, parts=response.choices[0].parts)]
    spelled = cast("list[JSON]", wire_messages(_Provider.OPENAI_COMPATIBLE, history)[1]["tool_calls"])[0]
    assert spelled["extra_content"] == {"google": {"thought_signature": "s"}}
    assert b"extra_content" not in orjson.dumps(wire_messages(_Provider.GROQ, history))


_ODD: list[JSON] = [
    {"index": [1], "delta": {"content": "x"}},
    {"index": "0", "delta": {"content": 5}},
    {"delta": None, "finish_reason": "a new word"},
    {"delta": {"tool_calls": [None, 5, {"index": {}, "id": 7, "function": None}]}},
    {"delta": {"annotations": [None, {"type": 5}], "images": [{}], "executed_tools": ["x"], "audio": 3}},
    {"delta": {"content": [{"type": "tool_file", "file_type": 5, "file_id": "f"}, {"type": "new"}, None]}},
    {"delta": {"reasoning_details": [None, {"type": 5}, {}]}},
    {"delta": {"content": "y"}, "logprobs": {"content": [None, {"token": 5, "top_logprobs": 3}]}},
]


@pytest.mark.parametrize("odd", _ODD)
def test_odd_shapes_are_read_over(odd: JSON) -> None:
    response = _decoded([_delta(content="a"), {"choices": [odd, None], "new": {}}, _delta("stop", content="b")])
    first = next(choice for choice in response.choices if choice.index == 0)
    assert "".join(part for part in first.text() if part in "ab") == "ab"
