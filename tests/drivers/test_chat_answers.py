"""What the answers of Chat Completions mean, whatever their host makes of the protocol."""

import base64
from collections.abc import Callable, Mapping
from typing import cast

import orjson
import pytest
from chat_answers import DONE, decoded, delta, events_of, whole
from chat_hosts import ENCODED, JSON, PNG, endpoint_at, wire_messages

from dhenara_async import (
    AIModelAPIProviderEnum,
    ConversationNode,
    FinishReason,
    Message,
    PromptFormatter,
    Role,
    ToolResultPart,
)
from dhenara_async.drivers.openai_chat.calls import Braces
from dhenara_async.errors import APIError, DhenaraError, RateLimitError, TruncatedStreamError
from dhenara_async.events import PartEnd, PartStart, StreamEnd, StreamStart, ToolCallDelta

_Provider = AIModelAPIProviderEnum

# ---------------------------------------------------------------------------------------------------- answers


_CITED: JSON = {
    "type": "url_citation",
    "url_citation": {"url": "https://a.test", "title": "A", "start_index": 1, "end_index": 3, "content": "words"},
}


@pytest.mark.parametrize("early", [{}, {"id": "", "model": ""}, {"id": None, "model": None}, {"id": 5, "model": []}])
@pytest.mark.parametrize("told", [1, 2, 3, 4])
def test_model_and_id_after_the_first_chunk(early: JSON, told: int) -> None:
    late = {"id": "answer-9", "model": "heron-2-0611"}
    chunks: list[JSON] = [
        {**early, "choices": [], "prompt_filter_results": []},
        delta(reasoning="Hm."),
        delta(content="so"),
        delta("stop"),
        {"choices": [], "usage": {"prompt_tokens": 3}},
    ]
    named = [{**chunk, "id": "", **(late if place >= told else early)} for place, chunk in enumerate(chunks)]
    response = decoded(named)
    assert (response.model, response.response_id) == ("heron-2-0611", "answer-9")
    assert [part.origin and part.origin.served_model for part in response.choices[0].parts] == ["heron-2-0611"] * 2


def test_the_first_model_and_id_stay() -> None:
    named: list[JSON] = [{**_SO, "model": "heron-2"}, {**_END, "id": "another", "model": "egret-1"}]
    response = decoded(named)
    assert (response.model, response.response_id) == ("heron-2", "c")


def test_annotations_are_citations_streamed_and_plain() -> None:
    plain = decoded([whole(content="abc", annotations=[_CITED, {"type": "new"}])])
    streamed = decoded([delta(content="abc"), delta(annotations=[_CITED]), delta("stop")])
    early = decoded([delta(annotations=[_CITED]), delta(content="abc"), delta("stop")])
    assert plain.choices == streamed.choices == early.choices
    (citation,) = plain.citations()
    assert (citation.url, citation.title, citation.cited_text) == ("https://a.test", "A", "words")
    assert (citation.start, citation.end) == (1, 3)


def test_sources_of_the_whole_answer() -> None:
    told: JSON = {
        "citations": ["https://a.test", "https://b.test"],
        "search_results": [{"url": "https://b.test", "title": "B"}],
    }
    response = decoded([{**delta(content="ab"), **told}, {**delta("stop"), **told}])
    assert [(cited.url, cited.title) for cited in response.citations()] == [
        ("https://a.test", None),
        ("https://b.test", "B"),
    ]


def test_logprobs() -> None:
    entry: JSON = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1}]}
    logprobs = {"logprobs": {"content": [entry], "refusal": None}}
    chunk = delta(content="a")
    chunk["choices"] = [{**cast("list[JSON]", chunk["choices"])[0], **logprobs}]
    body = whole(content="aa")
    both = {"logprobs": {"content": [entry, entry]}}
    body["choices"] = [{**cast("list[JSON]", body["choices"])[0], **both}]
    streamed, plain = decoded([chunk, chunk, delta("stop")]), decoded([body])
    assert streamed.choices == plain.choices
    (part,) = streamed.choices[0].parts
    assert part.type == "text"
    assert [(token.token, token.logprob, token.top) for token in part.logprobs] == [("a", -0.5, (("b", -1.0),))] * 2


def test_images_and_sound() -> None:
    image: JSON = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}
    for chunks in (
        [whole(content="see", images=[image])],
        [delta(content="see"), delta(images=[image]), delta("stop")],
    ):
        (file,) = decoded(chunks).files()
        assert (file.media_type, file.data) == ("image/png", PNG)
    pieces = [base64.b64encode(piece).decode() for piece in (b"on", b"e two")]
    sound: list[JSON] = [
        delta(role="assistant", audio={"id": "audio_1", "transcript": "one "}),
        delta(audio={"data": pieces[0]}),
        delta(audio={"data": pieces[1], "transcript": "two"}),
        delta("stop"),
        {"choices": [{"index": 0, "delta": {"audio": {"expires_at": 5}}}]},
    ]
    response = decoded(sound, config={"extra_body": {"audio": {"format": "mp3"}}})
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
    streamed = decoded(
        [delta(executed_tools=[begun]), delta(executed_tools=[ended]), delta(content="so"), delta("stop")]
    )
    plain = decoded([whole(content="so", executed_tools=[{**begun, **ended}])])
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
    pieces = [delta(content=said[at : at + size]) for at in range(0, len(said), size)]
    response = decoded([*pieces, delta("stop")], _Provider.LM_STUDIO)
    assert (response.reasoning(), response.text()) == (reasoning, text)
    assert decoded([whole(content=said)], _Provider.LM_STUDIO).choices == response.choices
    assert decoded([*pieces, delta("stop")], _Provider.GROQ).text() == said


def test_reasoning_details_of_a_stream_becomewhole() -> None:
    piece: JSON = {"type": "reasoning.text", "format": "f", "index": 0}
    chunks = [
        delta(reasoning="one", reasoning_details=[{**piece, "text": "one", "signature": None}]),
        delta(reasoning=" two", reasoning_details=[{**piece, "text": " two"}]),
        delta(reasoning_details=[{**piece, "signature": "s"}]),
        delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "x", "index": 1}]),
        delta("stop", content="so"),
    ]
    thought = decoded(chunks, _Provider.OPENROUTER).choices[0].parts[0]
    assert thought.provider_state == {
        "reasoning_details": [
            {**piece, "text": "one two", "signature": "s"},
            {"type": "reasoning.encrypted", "data": "x", "index": 1},
        ]
    }
    assert thought.get_text() == "one two"


def test_a_stream_without_a_finish_reason() -> None:
    """A cut stream, at every host: all of them say a finish reason."""
    chunks = [delta(content="so"), delta(tool_calls=[_raw_call("a", "add", "{}")])]
    for host in (_Provider.OLLAMA, _Provider.GROQ, _Provider.LLAMA_CPP):
        for sent in ([], chunks[:1], chunks):
            with pytest.raises(TruncatedStreamError):
                decoded(sent, host)


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
    for before in ([], [delta(content="so")]):
        with pytest.raises(kind) as caught:
            decoded([*before, chunk])
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
    counted = decoded([{**whole(content="x"), "usage": usage}]).usage
    assert (counted.input_audio_tokens, counted.output_audio_tokens, counted.web_searches) == (4, 3, 2)
    apart = decoded([{**whole(content="x"), "usage": usage}], _Provider.XAI).usage
    assert (counted.output_tokens, apart.output_tokens) == (5, 6)


_COUNTS: JSON = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
_END: JSON = {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


_SO = delta(content="so")
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
    usage = decoded(_PLACES[place]).usage
    counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.source)
    assert counts == ((None, None, None, "unknown") if place in {"null", "absent"} else (7, 2, 9, "reported"))


def _raw_call(call_id: str | None, name: str | None, arguments: object, index: object = 0) -> JSON:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call: JSON = {"function": function}
    if call_id is not None:
        call["id"] = call_id
    if index is not None:
        call["index"] = index
    return call


_WANTED = [("a", "add", '{"a":1}'), ("b", "sub", '{"b":2}')]
_UNNAMED = [("", "add", '{"a":1}'), ("", "sub", '{"b":2}')]
_MATRIX: dict[str, tuple[list[JSON], list[tuple[str, str, str]]]] = {
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
    "names that are empty at first": (
        [
            _raw_call("a", "", ""),
            _raw_call("a", "add", '{"a":1}'),
            {"index": 1, "id": "b", "type": "function", "function": {"name": None, "arguments": None}},
            _raw_call(None, "sub", None, 1),
            _raw_call(None, None, '{"b":2}', 1),
        ],
        _WANTED,
    ),
    "names that are empty at first, index missing": (
        [
            {"id": "a", "type": "function"},
            _raw_call(None, "add", "", None),
            _raw_call(None, None, '{"a":1}', None),
            _raw_call("b", "sub", '{"b":2}', None),
        ],
        _WANTED,
    ),
    "names behind their arguments": (
        [_raw_call("a", "", '{"a"'), _raw_call(None, "add", ":1}"), _raw_call("b", "sub", '{"b":2}', 1)],
        _WANTED,
    ),
    "names in pieces": (
        [
            _raw_call("a", "a", ""),
            _raw_call(None, "d", None),
            _raw_call(None, "d", '{"a":1}'),
            _raw_call("b", "s", None, 1),
            _raw_call("b", "ub", '{"b":2}', 1),
        ],
        _WANTED,
    ),
    "names in pieces, interleaved": (
        [
            _raw_call("a", "a", ""),
            _raw_call("b", "su", "", 1),
            _raw_call(None, "dd", ""),
            _raw_call(None, "b", '{"b"', 1),
            _raw_call(None, None, '{"a":1}'),
            _raw_call(None, None, ":2}", 1),
        ],
        _WANTED,
    ),
    "names in pieces, index missing": (
        [
            _raw_call("a", "a", None, None),
            _raw_call(None, "dd", None, None),
            _raw_call(None, None, '{"a":1}', None),
            _raw_call("b", "sub", '{"b":2}', None),
        ],
        _WANTED,
    ),
    "names as far as they have come": (
        [_raw_call("a", "ad", ""), _raw_call("a", "add", '{"a":1}'), _raw_call("b", "sub", '{"b":2}', 1)],
        _WANTED,
    ),
    "names repeated with every fragment": (
        [
            _raw_call("a", "add", ""),
            _raw_call(None, "add", '{"a"'),
            _raw_call(None, "add", ":1}"),
            _raw_call("b", "sub", "", 1),
            _raw_call(None, "sub", '{"b":2}', 1),
            _raw_call(None, "sub", "", 1),
        ],
        _WANTED,
    ),
    "ids that are late": (
        [
            _raw_call(None, "add", ""),
            _raw_call("a", None, '{"a"'),
            _raw_call(None, None, ":1}"),
            _raw_call("", "sub", '{"b"', 1),
            _raw_call("b", "sub", ":2}", 1),
        ],
        _WANTED,
    ),
    "indexes in strings": (
        [
            _raw_call("a", "add", '{"a"', "0"),
            _raw_call("b", "sub", '{"b"', "1"),
            _raw_call(None, None, ":1}", "0"),
            _raw_call(None, None, ":2}", "1"),
        ],
        _WANTED,
    ),
    "whole calls said again": (
        [
            _raw_call("a", "add", '{"a":1}'),
            _raw_call("a", "add", '{"a":1}'),
            _raw_call("b", "sub", '{"b":2}', 1),
            _raw_call("b", "sub", '{"b":2}', 1),
        ],
        _WANTED,
    ),
    "an empty object first": (
        [
            _raw_call("a", "add", "{}"),
            _raw_call(None, None, '{"a":1}'),
            _raw_call("b", "sub", "{}", 1),
            _raw_call("b", "sub", '{"b":2}', 1),
        ],
        _WANTED,
    ),
    "nothing in it": (
        [{}, {"index": 0}, _raw_call("a", "add", '{"a":1}'), {}, _raw_call("b", "sub", '{"b":2}', 1)],
        _WANTED,
    ),
    "without a function around them": (
        [
            {"id": "a", "name": "add", "arguments": '{"a":1}'},
            {"id": "b", "type": "function", "name": "sub", "parameters": {"b": 2}},
        ],
        _WANTED,
    ),
    "braces and quotes in strings": (
        [
            _raw_call("a", "add", '{"a":"}\\'),
            _raw_call("a", "add", '"{\\'),
            _raw_call("a", "add", '\\"}'),
            _raw_call("a", "sub", '{"b":2}'),
        ],
        [("a", "add", '{"a":"}\\"{\\\\"}'), ("a", "sub", '{"b":2}')],
    ),
}
_OBJECTS: Mapping[str, list[JSON]] = {
    "an object": [_raw_call("a", "add", {"a": 1}), _raw_call("b", "sub", {"b": 2}, 1)],
    "an object behind an empty one": [
        _raw_call("a", "add", {}),
        _raw_call("b", "sub", [], 1),
        _raw_call(None, None, {"a": 1}),
        _raw_call(None, None, {"b": 2}, 1),
    ],
    "an object again and again": [
        _raw_call("a", "add", {"a": 0}),
        _raw_call("a", "add", {"a": 1}),
        _raw_call("a", "add", {"a": 1}),
        _raw_call("b", "sub", {"b": 2}, 1),
    ],
    "an object behind its text": [
        _raw_call("a", "add", '{"a":1}'),
        _raw_call("a", None, {"a": 1}),
        _raw_call("b", "sub", {"b": 2}, 1),
    ],
}
_MATRIX.update({f"arguments are {name}": (fragments, _WANTED) for name, fragments in _OBJECTS.items()})


@pytest.mark.parametrize("at_once", [False, True], ids=["apart", "at once"])
@pytest.mark.parametrize("case", _MATRIX)
def test_parallel_calls_are_kept_apart(case: str, at_once: bool) -> None:
    fragments, wanted = _MATRIX[case]
    deltas = [delta(tool_calls=fragments)] if at_once else [delta(tool_calls=[piece]) for piece in fragments]
    response = decoded([delta(content="let me see"), *deltas, delta("tool_calls")])
    assert [(call.call_id, call.name, call.arguments) for call in response.tools()] == wanted
    assert response.finish_reason is FinishReason.TOOL_CALLS


def test_a_call_starts_with_its_whole_name_and_id_and_its_first_arguments() -> None:
    starts: list[tuple[str | None, str | None]] = []
    for piece in (_raw_call(None, "ad", ""), _raw_call("a", "d", None), _raw_call(None, None, "{")):
        events = events_of([delta(content="so"), delta(tool_calls=[piece]), DONE])
        starts += [(event.name, event.call_id) for event in events if isinstance(event, PartStart) and event.name]
    assert starts == [("ad", ""), ("d", "a")]
    chunks = [delta(tool_calls=[piece]) for piece in (_raw_call("a", "add", ""), _raw_call(None, None, "{"))]
    kinds = [
        type(event) for event in events_of([*chunks, delta(tool_calls=[_raw_call(None, None, "}")]), delta("stop")])
    ]
    assert kinds == [StreamStart, PartStart, ToolCallDelta, ToolCallDelta, PartEnd, StreamEnd]


def test_text_behind_a_call_is_a_part_behind_it() -> None:
    chunks = [delta(content="a"), delta(tool_calls=[_raw_call("a", "add", "")]), delta(content="b"), delta("stop")]
    assert [part.get_text() for part in decoded(chunks).choices[0].parts] == ["a", "add()", "b"]


_LEGACY: Mapping[str, list[JSON]] = {
    "whole": [{"name": "add", "arguments": '{"a":1}'}],
    "an object": [{"name": "add", "arguments": {"a": 1}}],
    "in pieces": [{"name": "add", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ":1}"}],
    "the name in pieces": [{"name": "a"}, {"name": "dd"}, {"arguments": '{"a":1}'}],
    "the name late": [{"name": ""}, {"arguments": '{"a":1}'}, {"name": "add"}],
    "the name repeated": [{"name": "add", "arguments": '{"a"'}, {"name": "add", "arguments": ":1}"}, {"name": "add"}],
}


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside tool_calls"])
@pytest.mark.parametrize("case", _LEGACY)
def test_the_call_of_the_protocol_before_tools(case: str, beside: bool) -> None:
    deltas: list[JSON] = []
    for piece in _LEGACY[case]:
        calls = [{"index": 0, "id": "a", "function": piece}] if beside else None
        deltas.append(delta(content=None, function_call=piece, tool_calls=calls))
    response = decoded([*deltas, delta("function_call")])
    (call,) = response.tools()
    assert (call.name, call.arguments, call.call_id) == ("add", '{"a":1}', "a" if beside else "")
    assert (response.finish_reason, response.choices[0].raw_finish_reason) == (FinishReason.TOOL_CALLS, "function_call")
    if len(deltas) == 1:
        message = cast("list[JSON]", deltas[0]["choices"])[0]["delta"]
        assert (
            decoded([whole("stop", **cast("JSON", message))], stream=False).choices[0].parts
            == response.choices[0].parts
        )


def test_the_call_of_the_protocol_before_tools_goes_on_as_a_call() -> None:
    response = decoded([whole("function_call", content=None, function_call={"name": "add", "arguments": "{}"})])
    node = ConversationNode(user_query="?", response=response, timestamp="2026-01-01T00:00:00")
    (call,) = response.tools()
    endpoint = endpoint_at(_Provider.GROQ)
    asked = [Message.user(ToolResultPart.of(call, "3"))]
    messages = PromptFormatter.format_conversation([node], endpoint, asked=asked).messages
    _, said, result = wire_messages(_Provider.GROQ, list(messages))
    (spelled,) = cast("list[JSON]", said["tool_calls"])
    assert spelled["function"] == {"name": "add", "arguments": "{}"}
    assert spelled["id"] == result["tool_call_id"] != ""


def test_work_for_repeated_names_grows_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    take = cast("Callable[[Braces, str], None]", vars(Braces)["_take"])

    def counted(this: Braces, piece: str) -> None:
        looked_at.append(len(piece))
        take(this, piece)

    monkeypatch.setattr(Braces, "_take", counted)
    pieces = ['{"words":"', *(["so }"] * 500), '"}']
    chunks = [delta(tool_calls=[_raw_call(None, "note", piece)]) for piece in pieces]
    (call,) = decoded([*chunks, delta("stop")]).tools()
    assert call.arguments == "".join(pieces)
    assert sum(looked_at) <= len(call.arguments)


def test_state_of_a_call_goes_back_to_its_model_only() -> None:
    call = {**_raw_call("a", "add", "{}"), "extra_content": {"google": {"thought_signature": "s"}}}
    response = decoded([delta(tool_calls=[call]), delta("tool_calls")])
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
    response = decoded([delta(content="a"), {"choices": [odd, None], "new": {}}, delta("stop", content="b")])
    first = next(choice for choice in response.choices if choice.index == 0)
    assert "".join(part for part in first.text() if part in "ab") == "ab"
