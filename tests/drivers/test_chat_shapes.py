"""Messages of Chat Completions in the shapes that hosts give them: nothing is lost, and nothing is said twice."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import cast

import orjson
import pytest
from chat_answers import DONE, SOME_HOST, decoded, delta, events_of, whole
from chat_hosts import ENCODED, JSON, PNG, endpoint_at

from dhenara_async import AIModelAPIProviderEnum, FinishReason
from dhenara_async.drivers.openai_chat.choice import ChoiceInFlight, Sources
from dhenara_async.drivers.openai_chat.quirks import Quirks
from dhenara_async.drivers.parts import PartsInFlight
from dhenara_async.errors import (
    APIError,
    BoundsError,
    ContextLengthError,
    DhenaraError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.events import ReasoningDelta, TextDelta
from dhenara_async.framing import NamedFrame
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.response import ChatResponse
from tests.steps import growth

_Provider = AIModelAPIProviderEnum

# ---------------------------------------------------------------------------------------------------- contents

_PICTURE: JSON = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}
# content: reasoning, text, refusal
_NONE: list[object] = []
_CONTENTS: Mapping[str, tuple[object, tuple[str, str, str]]] = {
    "a list of strings": (["sal", "mon"], ("", "salmon", "")),
    "text parts": ([{"type": "text", "text": "sal"}, {"type": "text", "text": "mon"}], ("", "salmon", "")),
    "output_text parts": ([{"type": "output_text", "text": "salmon", "annotations": _NONE}], ("", "salmon", "")),
    "parts without a type": ([{"text": "sal"}, {"text": "mon"}], ("", "salmon", "")),
    "content in a part": ([{"type": "text", "content": "salmon"}], ("", "salmon", "")),
    "a text with a value": ([{"type": "text", "text": {"value": "salmon", "annotations": _NONE}}], ("", "salmon", "")),
    "a part of a new type": ([{"type": "poem", "text": "salmon", "content": "prose"}], ("", "salmon", "")),
    "one part": ({"type": "text", "text": "salmon"}, ("", "salmon", "")),
    "one part without a type": ({"text": "salmon"}, ("", "salmon", "")),
    "strings and parts": (["sal", {"text": "mon"}, None, 5, _NONE], ("", "salmon", "")),
    "an object": ({"fish": "salmon", "summary": "pink"}, ("", '{"fish":"salmon","summary":"pink"}', "")),
    "a refusal part": ([{"type": "refusal", "refusal": "never"}], ("", "", "never")),
    "a refusal part without a type": ([{"refusal": "never"}], ("", "", "never")),
    "a refusal behind words": (["so", {"type": "refusal", "refusal": "never"}], ("", "so", "never")),
    "thinking": ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}], ("hm", "so", "")),
    "thinking in a list": (
        [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"text": "m"}]}, "so"],
        ("hm", "so", ""),
    ),
    "thinking without a type": ([{"thinking": "hm"}, "so"], ("hm", "so", "")),
    "reasoning in a text": ([{"type": "reasoning", "text": "hm"}, "so"], ("hm", "so", "")),
    "a reasoning item": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": "s"}]}, "so"],
        ("hm", "so", ""),
    ),
    "a reasoning item of two summaries": (
        [{"type": "reasoning", "summary": [{"text": "hm"}, {"text": "ah"}]}, {"type": "text", "text": "so"}],
        ("hm\n\nah", "so", ""),
    ),
    "a reasoning item of its own text": (
        [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}, "so"],
        ("hm", "so", ""),
    ),
}


def _both(said: JSON) -> list[ChatResponse]:
    """An answer of one message: plain, in a stream of one delta, and of a delta for each part of its content."""
    answers = [decoded([whole(**said)], stream=False), decoded([delta(**said), delta("stop"), DONE])]
    content = said.get("content")
    if isinstance(content, list):
        pieces = [delta(content=[each]) for each in cast("list[object]", content)]
        answers.append(decoded([delta(**{**said, "content": None}), *pieces, delta("stop"), DONE]))
    return answers


def _said(response: ChatResponse) -> tuple[str, str, str]:
    return response.reasoning(), response.text(), response.refusal()


@pytest.mark.parametrize("case", _CONTENTS)
def test_contents(case: str) -> None:
    content, wanted = _CONTENTS[case]
    answers = _both({"content": content})
    assert [_said(answer) for answer in answers] == [wanted] * len(answers)
    assert answers[0].choices[0].parts == answers[1].choices[0].parts
    for answer in answers:
        refused = wanted[2] and not wanted[1]
        assert answer.finish_reason is (FinishReason.REFUSAL if refused else FinishReason.STOP)


def test_signature_of_a_reasoning_item_is_kept() -> None:
    (thought, _) = _both({"content": _CONTENTS["a reasoning item"][0]})[0].choices[0].parts
    assert thought.provider_state == {"signature": "s"}


def test_calls_and_pictures_in_a_content() -> None:
    call: JSON = {"type": "tool_use", "id": "a", "name": "catch", "input": {"fish": 2}}
    for answer in _both({"content": [{"type": "text", "text": "so"}, _PICTURE, call]}):
        assert (answer.text(), [file.data for file in answer.files()]) == ("so", [PNG])
        assert [(call.call_id, call.name, call.arguments) for call in answer.tools()] == [("a", "catch", '{"fish":2}')]
        assert answer.finish_reason is FinishReason.TOOL_CALLS


def test_sources_in_a_part_of_a_content() -> None:
    cited: JSON = {"type": "url_citation", "url": "https://fish.test", "title": "Fish"}
    for name in ("annotations", "citations"):
        for answer in _both({"content": [{"type": "output_text", "text": "so", name: [cited]}]}):
            assert [(found.url, found.title) for found in answer.citations()] == [("https://fish.test", "Fish")]


@pytest.mark.parametrize("refusal", ["never", ["nev", {"text": "er"}], {"refusal": "never"}])
def test_refusals(refusal: object) -> None:
    assert [_said(answer) for answer in _both({"content": None, "refusal": refusal})] == [("", "", "never")] * 2


@pytest.mark.parametrize("said", ["salmon", ["sal", "mon"]])
def test_a_message_that_is_its_content(said: object) -> None:
    plain: JSON = {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
    streamed: JSON = {"choices": [{"index": 0, "delta": said}]}
    assert decoded([plain], stream=False).text() == decoded([streamed, delta("stop")]).text() == "salmon"


def test_choices_that_are_one_and_texts_of_the_protocol_before_chats() -> None:
    alone: JSON = {"choices": {"message": {"content": "salmon"}, "finish_reason": "stop"}}
    text: JSON = {"choices": [{"text": "sal", "index": 0}]}
    rest: JSON = {"choices": [{"text": "mon", "index": 0, "finish_reason": "stop"}]}
    assert decoded([alone], stream=False).text() == decoded([text, rest]).text() == "salmon"


# ---------------------------------------------------------------------------------------------------- thinking

_DETAIL: JSON = {"type": "reasoning.text", "text": "hm", "index": 0}
_THOUGHTS: Mapping[str, tuple[JSON, str]] = {
    "details with a text": ({"reasoning_details": [_DETAIL]}, "hm"),
    "details that are one": ({"reasoning_details": _DETAIL}, "hm"),
    "details with a summary": (
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm", "index": 0}]},
        "hm",
    ),
    "details with a list": ({"reasoning_details": [{"type": "reasoning.summary", "summary": [{"text": "hm"}]}]}, "hm"),
    "details with two summaries": (
        {
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": "hm", "index": 0},
                {"type": "reasoning.summary", "summary": "ah", "index": 1},
            ]
        },
        "hm\n\nah",
    ),
    "details that are sealed": (
        {"reasoning_details": [_DETAIL, {"type": "reasoning.encrypted", "data": "x", "index": 1}]},
        "hm",
    ),
    "details beside their text": ({"reasoning": "hm", "reasoning_details": [_DETAIL]}, "hm"),
    "two fields with one text": ({"reasoning": "hm", "reasoning_content": "hm"}, "hm"),
    "a list": ({"reasoning_content": ["h", {"type": "text", "text": "m"}]}, "hm"),
    "an object": ({"reasoning": {"content": "hm"}}, "hm"),
    "thinking": ({"thinking": "hm"}, "hm"),
    "thinking blocks": ({"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}, "hm"),
    "thinking blocks beside their text": (
        {"reasoning_content": "hm", "thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
        "hm",
    ),
    "settings and no words": ({"reasoning": {"effort": "high"}, "thinking": True, "reasoning_content": 5}, ""),
}


@pytest.mark.parametrize("case", _THOUGHTS)
def test_thinking(case: str) -> None:
    thought, wanted = _THOUGHTS[case]
    answers = _both({**thought, "content": "so"})
    assert [_said(answer) for answer in answers] == [(wanted, "so", "")] * len(answers)
    assert answers[0].choices[0].parts == answers[1].choices[0].parts


def test_summaries_in_a_stream_have_a_blank_line_between_them() -> None:
    told = [("one", 0), (" more", 0), ("two", 1)]
    pieces: list[list[JSON]] = [[{"type": "reasoning.summary", "summary": text, "index": at}] for text, at in told]
    chunks = [*(delta(reasoning_details=piece) for piece in pieces), delta(content="so"), delta("stop")]
    events = events_of(chunks)
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["one", " more", "\n\ntwo"]
    assert decoded(chunks).reasoning() == "one more\n\ntwo"


def test_details_that_repeat_a_reasoning_field_add_nothing() -> None:
    chunks = [
        delta(reasoning="hm"),
        delta(reasoning_details=[{**_DETAIL, "signature": "s"}]),
        delta("stop", content="so"),
    ]
    response = decoded(chunks, _Provider.OPENROUTER)
    assert response.reasoning() == "hm"
    assert response.choices[0].parts[0].provider_state == {"reasoning_details": [{**_DETAIL, "signature": "s"}]}


# ---------------------------------------------------------------------------------------------------- whole messages


def _beside(deltas: JSON | None, message: object, finish: object = None) -> JSON:
    choice: JSON = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "c", "choices": [choice if deltas is None else {**choice, "delta": deltas}]}


def _content(text: str) -> JSON:
    return {"role": "assistant", "content": text}


_REPEATED: Mapping[str, list[JSON]] = {
    "beside deltas": [
        _beside(_content("sal"), _content("sal")),
        _beside(_content("mon"), _content("salmon")),
        _beside(_content(""), _content("salmon"), "stop"),
    ],
    "beside empty deltas": [
        _beside(_content(""), _content("sal")),
        _beside(_content(""), _content("salmon")),
        _beside({}, _content("salmon"), "stop"),
    ],
    "without deltas": [
        _beside(None, _content("sal")),
        _beside(None, _content("salmon")),
        _beside(None, _content("salmon"), "stop"),
    ],
    "behind deltas": [delta(content="sal"), delta(content="mon"), _beside(None, _content("salmon"), "stop")],
    "behind deltas, with more": [delta(content="sal"), _beside(None, _content("salmon"), "stop")],
    "behind deltas, in other words": [delta(content="salmon"), _beside(None, _content("Salmon!"), "stop")],
    "behind deltas, shorter": [delta(content="salmon"), _beside(None, _content("salm"), "stop")],
    "a step behind the deltas": [
        _beside(_content("sal"), _content("")),
        _beside(_content("mon"), _content("sal")),
        _beside({}, _content("salmon"), "stop"),
    ],
    "each a piece": [_beside(None, _content("sal")), _beside(None, _content("mon"), "stop")],
    "as lists": [_beside({}, {"content": ["sal"]}), _beside({}, {"content": ["sal", {"text": "mon"}]}, "stop")],
    "null": [_beside(_content("salmon"), None), _beside({}, None, "stop")],
    "once": [_beside({}, _content("salmon"), "stop")],
}


@pytest.mark.parametrize("case", _REPEATED)
@pytest.mark.parametrize("thinks", [False, True], ids=["words", "thinking"])
def test_messages_in_a_stream_are_neither_lost_nor_doubled(case: str, thinks: bool) -> None:
    chunks = _REPEATED[case]
    if thinks:
        chunks = [orjson.loads(orjson.dumps(chunk).replace(b'"content"', b'"reasoning"')) for chunk in chunks]
        if case == "as lists":  # which thinking has nowhere
            return
    events = events_of([*chunks, DONE])
    kind = ReasoningDelta if thinks else TextDelta
    response = decoded([*chunks, DONE])
    assert "".join(event.text for event in events if isinstance(event, kind)) == "salmon"
    assert (response.reasoning() if thinks else response.text()) == "salmon"
    assert response.finish_reason is FinishReason.STOP


def test_other_repeated_fields_of_messages_count_once() -> None:
    call: JSON = {"id": "a", "type": "function", "function": {"name": "catch", "arguments": "{}"}}
    cited: JSON = {"type": "url_citation", "url_citation": {"url": "https://fish.test"}}
    rest: JSON = {"tool_calls": [call], "images": [_PICTURE], "annotations": [cited], "reasoning": "hm"}
    message = {**_content("salmon"), **rest}
    told = [
        _beside(_content("sal"), {**_content("sal"), "reasoning": "hm"}),
        _beside({}, message),
        _beside({}, message, "stop"),
    ]
    for chunks in (
        told,
        [_beside(None, message), _beside(None, message, "stop")],
        [delta(**message), _beside({}, message, "stop")],
    ):
        response = decoded([*chunks, DONE])
        assert _said(response) == ("hm", "salmon", "")
        assert ([call.name for call in response.tools()], len(response.files())) == (["catch"], 1)
        assert [citation.url for citation in response.citations()] == ["https://fish.test"]


def test_a_stream_of_messages_that_is_cut_is_not_whole() -> None:
    for chunks in (_REPEATED["beside deltas"], _REPEATED["beside empty deltas"], _REPEATED["without deltas"]):
        with pytest.raises(TruncatedStreamError):
            decoded(chunks[:-1])


# ---------------------------------------------------------------------------------------------------- sources

_FOUND: JSON = {"url": "https://fish.test", "title": "Fish"}
_SOURCES: Mapping[str, JSON] = {
    "search_results": {"search_results": [_FOUND]},
    "citations that are objects": {"citations": [_FOUND]},
    "citations and what was found": {"citations": ["https://fish.test"], "search_results": [_FOUND]},
    "sources": {"sources": [_FOUND]},
}


@pytest.mark.parametrize("case", _SOURCES)
@pytest.mark.parametrize("inside", [False, True], ids=["beside the choices", "in the message"])
def test_sources(case: str, inside: bool) -> None:
    told = _SOURCES[case]
    if inside:
        if "citations" not in told:
            return
        answers = _both({"content": "so", **told})[:2] + _both({"content": "so", "context": told})[:2]
    else:
        answers = [
            decoded([{**whole(content="so"), **told}], stream=False),
            decoded(
                [{**whole(content="so"), "usage": {"prompt_tokens": 1}, **told}], stream=False
            ),  # as most bodies are
            decoded([{**delta(content="so"), **told}, {**delta("stop"), **told}]),
        ]
    for answer in answers:
        assert [(cited.url, cited.title) for cited in answer.citations()] == [("https://fish.test", "Fish")]


# ---------------------------------------------------------------------------------------------------- the end

_WORDS: Mapping[FinishReason, str] = {
    FinishReason.STOP: "stop STOP Stop end_turn END_TURN stop_sequence eos eos_token completed FINISH_REASON_STOP",
    FinishReason.LENGTH: "length LENGTH max_tokens MAX_TOKENS incomplete max_output_tokens FinishReason.MAX_TOKENS",
    FinishReason.CONTEXT_WINDOW: "model_length model_context_window_exceeded context_length_exceeded",
    FinishReason.CONTENT_FILTER: (
        "content_filter CONTENT_FILTER content_filtered content-filter SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT "
        "SPII guardrail_intervened sensitive"
    ),
    FinishReason.REFUSAL: "refusal",
    FinishReason.PAUSE: "pause_turn",
    FinishReason.ERROR: "error ERROR insufficient_system_resource MALFORMED_FUNCTION_CALL network_error",
    FinishReason.OTHER: "a_new_word OTHER",
}


@pytest.mark.parametrize(
    ("reason", "word"), [(reason, word) for reason, words in _WORDS.items() for word in words.split()]
)
def test_finish_reasons_of_all_makers(reason: FinishReason, word: str) -> None:
    usage: JSON = {"usage": {"prompt_tokens": 1}}  # with which a plain answer goes the short way
    for response in (
        decoded([{**whole(word, content="so"), **usage}], stream=False),
        decoded([whole(word, content="so")], stream=False),
        decoded([delta(content="so"), delta(word)]),
        decoded([delta(content="so"), delta(word), delta(None), {"choices": [], **usage}, DONE]),
    ):
        assert (response.finish_reason, response.choices[0].raw_finish_reason) == (reason, word)


_NO_CHOICES: tuple[object, ...] = (None, _NONE, [None], [_NONE], dict[str, object](), "so", 5, [{"index": 0}])


@pytest.mark.parametrize("word", ["tool_calls", "TOOL_CALLS", "tool_use", "function_call", "stop", "STOP", "end_turn"])
def test_a_clean_end_is_tool_calls_exactly_if_there_are_calls(word: str) -> None:
    calls: list[JSON] = [{"index": 0, "id": "a", "function": {"name": "catch", "arguments": "{}"}}]
    for said, reason in (({"tool_calls": calls}, FinishReason.TOOL_CALLS), ({"content": "so"}, FinishReason.STOP)):
        for response in (decoded([whole(word, **said)], stream=False), decoded([delta(**said), delta(word)])):
            assert (response.finish_reason, response.choices[0].raw_finish_reason) == (reason, word)


@pytest.mark.parametrize("nothing", [None, "", "null", {}, False])
def test_a_finish_reason_that_says_nothing(nothing: object) -> None:
    with pytest.raises(TruncatedStreamError):
        decoded([delta(nothing, content="so"), delta(nothing)])
    assert decoded([delta("length", content="so"), delta(nothing), DONE]).finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("choices", _NO_CHOICES)
@pytest.mark.parametrize("usage", [{}, {"usage": {"prompt_tokens": 1}}], ids=["bare", "with usage"])
def test_an_answer_without_a_choice_says_so(choices: object, usage: JSON) -> None:
    body: JSON = {"id": "c", "choices": choices, **usage}
    with pytest.raises(ProtocolError, match="choice"):
        decoded([body], stream=False)
    for chunks in ([body], [body, DONE]):
        if choices == [{"index": 0}]:
            continue  # a choice without words, in a stream
        with pytest.raises(ProtocolError, match="choice"):
            decoded(chunks)


# ---------------------------------------------------------------------------------------------------- failures

_BURNT: JSON = {"message": "the fish is burnt", "code": 529}
_TOO_LONG = "the maximum context length is 10 fish, you brought 12"
_FAILURES: Mapping[str, tuple[JSON, type[APIError], str]] = {
    "in a choice": ({"choices": [{"index": 0, "delta": {"content": ""}, "error": _BURNT}]}, OverloadedError, "burnt"),
    "in a choice, with words": (
        {"choices": [{"index": 0, "delta": {"content": "so"}, "error": _BURNT}]},
        OverloadedError,
        "burnt",
    ),
    "in a choice that ends": (
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": _BURNT}]},
        OverloadedError,
        "burnt",
    ),
    "in a message's choice": ({"choices": [{"message": {}, "error": "burnt"}]}, ServerError, "burnt"),
    "beside choices": (
        {"choices": [{"index": 0, "delta": {"content": "so"}}], "error": _BURNT},
        OverloadedError,
        "burnt",
    ),
    "as a string": ({"error": "burnt"}, ServerError, "burnt"),
    "in a list": ({"errors": [_BURNT]}, OverloadedError, "burnt"),
    "in a list beside no choices": ({"choices": [], "errors": [_BURNT]}, OverloadedError, "burnt"),
    "with a code of its own": ({"error_code": "BAD_REQUEST", "message": "burnt"}, InvalidRequestError, "burnt"),
    "in a message that is JSON": (
        {"error_code": "BAD_REQUEST", "message": orjson.dumps({"inner_error": {"message": "burnt"}}).decode()},
        InvalidRequestError,
        "burnt",
    ),
    "as a detail": ({"detail": "burnt"}, ServerError, "burnt"),
    "as an object": ({"object": "error", "message": "burnt", "code": 429}, RateLimitError, "burnt"),
    "in an envelope": (
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "burnt"}},
        ServerError,
        "burnt",
    ),
    "of a provider behind a router": (
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": orjson.dumps({"error": {"message": _TOO_LONG}}).decode(), "provider_name": "Pond"},
            }
        },
        ContextLengthError,
        "10 fish",
    ),
    "of a provider behind a router, in words": (
        {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "burnt"}}},
        RateLimitError,
        "Provider returned error: burnt",
    ),
}


@pytest.mark.parametrize("case", _FAILURES)
def test_failures_inside_answers(case: str) -> None:
    told, kind, words = _FAILURES[case]
    for chunks, stream in (([told], False), ([told], True), ([delta(content="so"), told, DONE], True)):
        with pytest.raises(kind, match=words):
            decoded(chunks, stream=stream)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"the fish is burnt", ServerError, "the fish is burnt"),
        (b'{"message":"the fish is burnt"}', ServerError, "the fish is burnt"),
        (b'{"error":{"message":"wait","code":429}}', RateLimitError, "wait"),
        (b'{"code":"rate_limit_exceeded","message":"wait"}', RateLimitError, "wait"),
        (b'"burnt"', ServerError, "burnt"),
        (b'{"choices":[{"index":0,"delta":{"content":"so"}}]}', ServerError, "choices"),
        (b"[]", ServerError, "500"),
    ],
)
def test_an_event_that_is_called_error_is_a_failure(data: bytes, kind: type[APIError], words: str) -> None:
    for before in ([], [delta(content="so")]):
        with pytest.raises(kind, match=words):
            decoded([*before, NamedFrame(data, b"error")])


def test_an_event_of_another_name_is_none() -> None:
    ended = NamedFrame(orjson.dumps(delta("stop", content="so")), b"end")
    assert decoded([ended]).text() == "so"


@pytest.mark.parametrize("nothing", [None, "", {}, [], 0])
def test_an_error_that_is_none(nothing: object) -> None:
    body: JSON = {**whole(content="so"), "error": nothing, "errors": nothing, "detail": nothing}
    body["choices"] = [{**cast("list[JSON]", body["choices"])[0], "error": nothing}]
    body["base_resp"] = {"status_code": 0, "status_msg": "success"}
    assert decoded([body], stream=False).text() == decoded([body]).text() == "so"


# ---------------------------------------------------------------------------------------------------- token counts

_COUNTS: JSON = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@pytest.mark.parametrize(
    "last",
    [
        {},
        None,
        [],
        "none",
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"cost": 0.1},
        {"prompt_tokens": -1},
    ],
)
def test_a_last_report_without_counts_takes_none_back(last: object) -> None:
    chunks: list[JSON] = [{**delta(content="so"), "usage": _COUNTS}, delta("stop"), {"choices": [], "usage": last}]
    usage = decoded([*chunks, DONE]).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 7, 18)


def test_a_report_of_zeros_is_one_where_there_is_no_other() -> None:
    zeros: JSON = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    usage = decoded([delta(content="so"), {**delta("stop"), "usage": zeros}]).usage
    assert (usage.input_tokens, usage.output_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ({"prompt_tokens": "11", "completion_tokens": "7"}, (11, 7, None, None)),
        ({"prompt_tokens": 11.0, "completion_tokens": -7}, (11, None, None, None)),
        ({"input_tokens": 11, "output_tokens": 7}, (11, 7, None, None)),
        ({**_COUNTS, "completion_tokens_details": {"reasoning_tokens": 9}}, (11, 16, None, 9)),
        ({**_COUNTS, "completion_tokens_details": {"reasoning_tokens": 7}}, (11, 7, None, 7)),
        ({**_COUNTS, "completion_tokens_details": {"reasoning_tokens": "9"}}, (11, 16, None, 9)),
        ({**_COUNTS, "reasoning_tokens": 3}, (11, 7, None, 3)),
        ({**_COUNTS, "prompt_tokens_details": {"cached_tokens": 20}}, (31, 7, 20, None)),
        ({**_COUNTS, "prompt_tokens_details": None, "completion_tokens_details": []}, (11, 7, None, None)),
        ({"prompt_tokens": [11], "completion_tokens": {}}, (None, None, None, None)),
    ],
)
def test_counts(told: JSON, counts: tuple[int | None, ...]) -> None:
    for response in (
        decoded([{**whole(content="so"), "usage": told}], stream=False),
        decoded([delta(content="so"), {**delta("stop"), "usage": told}]),
    ):
        usage = response.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.reasoning_tokens) == counts


# ---------------------------------------------------------------------------------------------------- hostile types

_HOSTILE: tuple[object, ...] = (
    *(None, True, 5, -1.5, "", "x", _NONE, [None], [_NONE], dict[str, object](), {"x": None}, [{"type": 5}]),
)
_PLACES: Mapping[str, Callable[[object], JSON]] = {
    **{
        f"a message's {name}": lambda value, name=name: {name: value}
        for name in (
            *("content", "reasoning", "reasoning_content", "reasoning_details", "thinking", "thinking_blocks"),
            *("refusal", "annotations", "citations", "context", "images", "audio", "executed_tools"),
            *("tool_calls", "function_call"),
        )
    },
    "a part's text": lambda value: {"content": [{"type": "text", "text": value}]},
    "a part's thinking": lambda value: {"content": [{"type": "thinking", "thinking": value, "signature": value}]},
    "a part's summary": lambda value: {"content": [{"type": "reasoning", "summary": value}]},
    "a part's refusal": lambda value: {"content": [{"type": "refusal", "refusal": value}]},
    "a part's type": lambda value: {"content": [{"type": value, "text": "so"}]},
    "a part's picture": lambda value: {"content": [{"type": "image_url", "image_url": value}]},
    "a call's function": lambda value: {"tool_calls": [{"index": value, "id": value, "function": value}]},
    "a call's arguments": lambda value: {"tool_calls": [{"function": {"name": "catch", "arguments": value}}]},
    "a call's name": lambda value: {"tool_calls": [{"function": {"name": value, "arguments": "{}"}}]},
    "the old call's name": lambda value: {"function_call": {"name": value, "arguments": value}},
    "a detail's words": lambda value: {"reasoning_details": [{"type": value, "text": value, "index": value}]},
}


@pytest.mark.parametrize("place", _PLACES)
def test_hostile_types_are_read_over(place: str) -> None:
    for value in _HOSTILE:
        said = _PLACES[place](value)
        for chunks, stream in (
            ([whole(**{"content": "so", **said})], False),
            (
                [
                    delta(content="so"),
                    delta(**said),
                    _beside({}, said),
                    _beside(None, said),
                    delta("stop", content="!"),
                ],
                True,
            ),
        ):
            response = decoded(chunks, stream=stream)
            assert not stream or response.text()[0] + response.text()[-1] == "s!"


@pytest.mark.parametrize("name", ["delta", "message", "index", "finish_reason", "logprobs", "usage", "text", "error"])
def test_hostile_choices_are_read_over(name: str) -> None:
    for value in _HOSTILE:
        odd: JSON = {"choices": [{"index": 0, "delta": {"content": "so"}, name: value}, value]}
        try:
            decoded([delta(content="a"), odd, delta("stop"), DONE])
        except DhenaraError:
            assert value and name == "error"


@pytest.mark.parametrize(
    "name", ["id", "model", "choices", "usage", "citations", "search_results", "sources", "x_groq"]
)
def test_hostile_chunks_are_read_over(name: str) -> None:
    for value in _HOSTILE:
        chunks: list[JSON] = [{**delta(content="so"), name: value}, {**delta("stop", content="so"), name: value}]
        if name == "choices":
            chunks.append(delta("stop", content="so"))
        assert decoded([*chunks, DONE]).text() in ("so", "soso", "x")


# ---------------------------------------------------------------------------------------------------- much of it

_LARGE: JSON = {"bounds": {"max_parts": 100_000}}


def _annotations(count: int) -> None:
    cited: JSON = {"type": "url_citation", "url_citation": {"url": "https://fish.test"}}
    chunks = [delta(content="so"), *([delta(annotations=[cited])] * count), delta("stop")]
    assert len(decoded(chunks, config=_LARGE).citations()) == count


def _names(count: int) -> None:
    calls = [{"index": 0, "function": {"name": "f", "arguments": "[" if at else '{"a":'}} for at in range(count)]
    assert len(decoded([*(delta(tool_calls=[call]) for call in calls), delta("stop")]).tools()) == 1


def _choices_with_sources(count: int) -> None:
    choices = [{"index": at, "delta": {"content": "so"}, "finish_reason": "stop"} for at in range(count // 50)]
    told: JSON = {"choices": choices, "citations": [f"https://fish.test/{at}" for at in range(50)]}
    assert len(decoded([told], config=_LARGE).choices) == count // 50


def _messages(count: int) -> None:
    chunks = [_beside({"content": "so"}, {"content": "s"}) for _ in range(count)]
    assert len(decoded([*chunks, delta("stop")]).text()) == 2 * count


def _blanks(count: int) -> None:
    assert decoded([*([delta(content=" ")] * count), delta("stop")], _Provider.LM_STUDIO).text() == " " * count


@pytest.mark.parametrize("work", [_annotations, _names, _choices_with_sources, _messages, _blanks])
def test_work_is_linear_in_the_input(work: Callable[[int], None]) -> None:
    assert growth(work, 500) < 2.2


def test_sources_are_not_copied_for_every_choice() -> None:
    choices = [{"index": at, "delta": {"content": "so"}, "finish_reason": "stop"} for at in range(20)]
    response = decoded([{"choices": choices, "citations": ["https://fish.test"] * 20}])
    held = {id(part.citations) for choice in response.choices for part in choice.parts if part.type == "text"}
    assert (len(response.choices), len(held)) == (20, 1)


def test_citations_are_added_in_place() -> None:
    """A copy for every annotation would be work that no count of calls sees."""
    parts = PartsInFlight(expected_origin(endpoint_at(SOME_HOST)))
    choice = ChoiceInFlight(parts, 0, Quirks(), Sources(parts), "wav")
    held: set[int] = set()
    for _ in range(100):
        choice.feed({"annotations": [{"url": "https://fish.test"}]}, [])
        held.add(id(attrgetter("_citations")(choice)))
    assert len(held) == 1


_MANY: Mapping[str, JSON] = {
    "annotations": delta(annotations=[{"url": "https://fish.test"}] * 300),
    "sources": {**delta(content=["so"]), "citations": ["https://fish.test"] * 300},
    "choices": {"choices": [{"index": at, "delta": {"content": "so"}} for at in range(300)]},
    "calls": delta(tool_calls=[{"function": {"name": f"f{at}"}} for at in range(300)]),
    "logprobs": {
        "choices": [{"delta": {"content": "so"}, "logprobs": {"content": [{"top_logprobs": [None] * 100}] * 400}}]
    },
}


@pytest.mark.parametrize("what", _MANY)
def test_counts_are_bounded(what: str) -> None:
    with pytest.raises(BoundsError) as caught:
        decoded([delta(content="so"), _MANY[what], delta("stop")], config={"bounds": {"max_parts": 200}})
    assert caught.value.setting == "max_parts"
