"""What Gemini's answers mean, whatever gateways and proxies make of the protocol, streamed and plain."""

import base64
import re
from collections.abc import Callable, Sequence
from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Bounds,
    ConversationNode,
    HostedToolPart,
    Message,
    PromptFormatter,
    ReasoningPart,
    StreamEvent,
    TextPart,
    ToolResultPart,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.body import ResponseBody
from dhenara_async.drivers.base import Decoder
from dhenara_async.drivers.gemini import citing as gemini_citing
from dhenara_async.drivers.gemini.calls import PartialArguments
from dhenara_async.drivers.gemini.citing import EncodedText
from dhenara_async.drivers.gemini.driver import GeminiDriver
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    BoundsError,
    ContextLengthError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.framing import Frame, NamedFrame
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import ChatResponse
from dhenara_async.testing import check_grammar
from tests.steps import growth

JSON = dict[str, object]

MODEL = "gemini-3.8-flash"
SIGNED = "c2VhbA=="
PNG = b"\x89PNG\r\n\x1a\n" + b"dots"
ENCODED = base64.b64encode(PNG).decode()
_API = AIModelAPI(provider=AIModelAPIProviderEnum.GOOGLE_AI, api_key="key", base_url="https://host.test")
ENDPOINT = AIModelEndpoint(api=_API, ai_model=AIModel(model_name=MODEL))


def decoder_of(*, stream: bool, bounds: Bounds | None = None) -> Decoder:
    config = AIModelCallConfig(bounds=bounds or Bounds())
    request = ChatRequest.of([Message.user("hi")], instructions=(), config=config, stream=stream)
    return GeminiDriver().decoder(request, expected_origin(ENDPOINT))


def told(*frames: Frame, stream: bool = True) -> ChatResponse:
    """The answer in raw frames."""
    decoder = decoder_of(stream=stream)
    events: list[StreamEvent] = []
    for frame in frames:
        events += decoder.feed(frame)
    events += decoder.finish()
    check_grammar(events)
    accumulator = Accumulator(provider="google_ai", model=MODEL)
    accumulator.feed(events)
    response = accumulator.response()
    assert response.usage == (decoder.usage or response.usage)
    return response


def heard(*chunks: object, stream: bool = True) -> ChatResponse:
    return told(*map(orjson.dumps, chunks), stream=stream)


def chunk(*parts: object, **more: object) -> JSON:
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": list(parts)}, **more}]}


def both(*chunks: JSON) -> ChatResponse:
    """The answer in ``chunks``; it is the same in one plain body, and in the array that a stream without SSE is."""
    streamed = heard(*chunks)
    first, *others = map(candidate_of, chunks)
    contents = [cast(JSON, candidate.get("content", {})) for candidate in (first, *others)]
    parts = [part for content in contents for part in cast("list[object]", content["parts"])]
    candidate = {name: value for one in (first, *others) for name, value in one.items()}
    beside = {name: value for one in chunks for name, value in one.items()}
    body = {**beside, "candidates": [{**candidate, "content": {"parts": parts}}]}
    assert heard(body, stream=False) == streamed
    assert heard(list(chunks)) == streamed
    return streamed


def candidate_of(one: JSON) -> JSON:
    return cast("list[JSON]", one["candidates"])[0]


def sent_on(response: ChatResponse) -> list[JSON]:
    """The answer's parts in the next request to the same model, every call answered, by way of a stored node."""
    node = ConversationNode(user_query="q", response=response, timestamp="2026-11-28T12:00:00Z")
    again = ConversationNode.model_validate_json(node.model_dump_json())
    assert again == node
    results = [ToolResultPart.of(call, "done") for call in response.tools()]
    asked = [Message.user(*results, "next")]
    messages = PromptFormatter.format_conversation([again], ENDPOINT, asked=asked).messages
    request = ChatRequest.of(messages, instructions=(), config=AIModelCallConfig(), stream=False)
    body = cast(JSON, orjson.loads(GeminiDriver().encode(request, ENDPOINT).body))
    return cast("list[JSON]", cast("list[JSON]", body["contents"])[1]["parts"])


def calls_of(response: ChatResponse) -> list[tuple[str, str, str]]:
    return [(call.call_id, call.name, call.arguments) for call in response.tools()]


# ---------------------------------------------------------------------------------------------------- calls


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ({"args": {"town": "Bern"}}, '{"town":"Bern"}'),
        ({"args": '{"town": "Bern"}'}, '{"town": "Bern"}'),
        ({"args": '{"town": '}, '{"town":'),
        ({"args": ""}, "{}"),
        ({"args": " \n"}, "{}"),
        ({"args": None}, "{}"),
        ({"args": []}, "{}"),
        ({"args": [1]}, "[1]"),
        ({}, "{}"),
    ],
)
def test_arguments_are_an_object_or_its_text(arguments: JSON, meant: str) -> None:
    last = chunk(finishReason="STOP")
    response = both(chunk({"functionCall": {"id": "c1", "name": "visit", **arguments}}), last)
    assert calls_of(response) == [("c1", "visit", meant)]
    assert response.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "pieces",
    [
        [{"id": "c1", "name": "visit"}, {"args": {"town": "Bern"}}],
        [{"name": "visit"}, {"id": "c1", "args": {"town": "Bern"}}],
        [{"id": "c1", "args": {"town": "Bern"}}, {"name": "visit"}],
        [{"id": "c1", "name": "", "args": None}, {"id": "c1", "name": "visit", "args": {"town": "Bern"}}],
        [{"id": "c1", "name": "visit", "willContinue": True}, {"args": '{"town":"Be'}, {"args": 'rn"}'}],
        [{"id": "c1", "willContinue": True}, {"name": "visit", "args": {"town": "Bern"}}, {}],
    ],
)
def test_a_call_in_pieces_is_one_call(pieces: list[JSON]) -> None:
    if "willContinue" in pieces[0]:
        for piece in pieces[1:-1]:
            piece["willContinue"] = True
    response = both(*[chunk({"functionCall": piece}) for piece in pieces], chunk(finishReason="STOP"))
    assert calls_of(response) == [("c1", "visit", '{"town":"Bern"}')]


def test_calls_without_arguments_and_with_one_id_stay_apart() -> None:
    now: JSON = {"functionCall": {"id": "c", "name": "now"}}
    last: JSON = {"functionCall": {"id": "c", "name": "now", "args": {}}}
    response = both(chunk(now, now), chunk(last, finishReason="STOP"))
    assert calls_of(response) == [("c", "now", "{}")] * 3


def test_a_call_without_a_name_is_kept() -> None:
    response = both(chunk({"functionCall": {"args": {"a": 1}}}, {"text": "so"}, finishReason="STOP"))
    assert calls_of(response) == [("", "", '{"a":1}')]
    assert response.text() == "so"


def test_the_end_of_a_call_that_has_ended_is_none() -> None:
    response = both(
        chunk({"functionCall": {"name": "now", "args": {}}}, {"functionCall": {}}), chunk(finishReason="STOP")
    )
    assert calls_of(response) == [("", "now", "{}")]


def test_a_hole_in_a_list_of_arguments_counts_every_element() -> None:
    pieces = [{"jsonPath": f"$.l{number}[999]", "numberValue": 1} for number in range(20)]
    call: JSON = {"functionCall": {"name": "f", "partialArgs": pieces}}
    with pytest.raises(BoundsError, match="max_parts"):
        heard(chunk(call, finishReason="STOP"))
    (one,) = heard(chunk({"functionCall": {"name": "f", "partialArgs": pieces[:1]}}, finishReason="STOP")).tools()
    assert one.arguments == f'{{"l0":[{"null," * 999}1]}}'


# ---------------------------------------------------------------------------------------------------- signatures


_CALL: JSON = {"functionCall": {"name": "visit", "args": {}}}
_BARE: list[JSON] = [
    {"thoughtSignature": SIGNED},
    {"text": None, "thoughtSignature": SIGNED},
    {"text": "", "thoughtSignature": SIGNED},
    {"text": "", "thought": False, "thoughtSignature": SIGNED, "functionCall": None},
]


@pytest.mark.parametrize("bare", _BARE)
def test_a_signature_behind_words_stays_behind_them(bare: JSON) -> None:
    for end in (chunk(bare, finishReason="STOP"), chunk(bare)):
        response = both(chunk({"text": "Yes"}), end, chunk(finishReason="STOP"))
        assert sent_on(response) == [{"text": "Yes"}, {"text": "", "thoughtSignature": SIGNED}]


@pytest.mark.parametrize("bare", _BARE)
def test_a_signature_before_and_between_words_stays_there(bare: JSON) -> None:
    response = both(chunk(bare), chunk({"text": "One"}, bare, {"text": "two"}), chunk(finishReason="STOP"))
    sealed = {"text": "", "thoughtSignature": SIGNED}
    assert sent_on(response) == [sealed, {"text": "One"}, sealed, {"text": "two"}]
    assert response.text() == "Onetwo"


@pytest.mark.parametrize("bare", _BARE)
@pytest.mark.parametrize("together", [False, True])
def test_a_signature_before_a_call_is_the_calls(bare: JSON, together: bool) -> None:
    chunks = [chunk(bare, _CALL)] if together else [chunk(bare), chunk(_CALL)]
    response = both(*chunks, chunk(_CALL, finishReason="STOP"))
    first, second = sent_on(response)
    assert first["thoughtSignature"] == SIGNED
    assert "thoughtSignature" not in second
    assert first["functionCall"] == second["functionCall"]


def test_a_call_that_has_its_own_signature_takes_no_other() -> None:
    response = both(chunk({"thoughtSignature": "YQ=="}, {**_CALL, "thoughtSignature": SIGNED}, finishReason="STOP"))
    empty, call = sent_on(response)
    assert empty == {"text": "", "thoughtSignature": "YQ=="}
    assert call["thoughtSignature"] == SIGNED


def test_a_signature_behind_a_call_stays_behind_it() -> None:
    response = both(chunk(_CALL, {"thoughtSignature": SIGNED}, finishReason="STOP"))
    assert sent_on(response)[1] == {"text": "", "thoughtSignature": SIGNED}


def test_a_signature_amid_a_call_is_the_calls() -> None:
    pieces: list[JSON] = [
        {"functionCall": {"name": "visit", "willContinue": True}},
        {"thoughtSignature": SIGNED},
        {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "numberValue": 1}]}},
    ]
    (call,) = sent_on(both(*map(chunk, pieces), chunk(finishReason="STOP")))
    assert call["thoughtSignature"] == SIGNED


def test_a_signature_inside_the_call_is_its_own() -> None:
    call: JSON = {"functionCall": {"name": "visit", "args": {}, "thoughtSignature": SIGNED}}
    assert sent_on(both(chunk(call, finishReason="STOP")))[0]["thoughtSignature"] == SIGNED


@pytest.mark.parametrize("words", [{}, {"text": ""}, {"text": None}])
def test_a_signature_of_a_thought_is_a_thought(words: JSON) -> None:
    signed: JSON = {**words, "thought": True, "thoughtSignature": SIGNED}
    response = both(chunk({"text": "Hm.", "thought": True}), chunk(signed), chunk({"text": "Yes"}, finishReason="STOP"))
    assert [type(part) for part in response.choices[0].parts] == [ReasoningPart, ReasoningPart, TextPart]
    assert sent_on(response)[1] == {"text": "", "thought": True, "thoughtSignature": SIGNED}


# ---------------------------------------------------------------------------------------------------- spellings


def in_snake_case(value: object) -> object:
    """All names of the protocol, and none of an application, as protobuf has them."""
    if isinstance(value, list):
        return [in_snake_case(item) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    return {
        re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name): item
        if name in {"args", "response"}
        else in_snake_case(item)
        for name, item in cast(JSON, value).items()
    }


_USED: JSON = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 5,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 9,
    "toolUsePromptTokenCount": 2,
    "totalTokenCount": 34,
    "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
}
_EVERYTHING: list[JSON] = [
    {
        **chunk({"text": "Hm.", "thought": True}, {"text": "", "thought": True, "thoughtSignature": "YQ=="}),
        "modelVersion": "served-9",
        "responseId": "resp-1",
    },
    chunk({"text": "See"}),
    chunk({"text": ' the_map":'}),
    chunk({"inlineData": {"mimeType": "image/png", "data": ENCODED}, "thoughtSignature": SIGNED}),
    chunk(
        {"executableCode": {"language": "PYTHON", "code": "a_b = 1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
        {"toolCall": {"toolType": "URL_CONTEXT", "id": "t", "args": {"deep_er": {"in_side": 1}}}},
        {"toolResponse": {"toolType": "URL_CONTEXT", "id": "t", "response": {"a_b": [{"c_d": 1}]}}},
    ),
    chunk({"functionCall": {"id": "c", "name": "f_g", "args": {"a_b": {"c_d": [1]}}}, "thoughtSignature": SIGNED}),
    chunk(
        {
            "functionCall": {
                "name": "h",
                "partialArgs": [{"jsonPath": "$.a_b", "stringValue": "x"}],
                "willContinue": False,
            }
        }
    ),
    {
        **chunk(
            finishReason="STOP",
            groundingMetadata={
                "webSearchQueries": ["a"],
                "groundingChunks": [{"retrievedContext": {"title": "t", "documentName": "d"}}],
                "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 3}, "groundingChunkIndices": [0]}],
            },
            citationMetadata={"citationSources": [{"startIndex": 1, "endIndex": 3, "uri": "https://a.test"}]},
            logprobsResult={"chosenCandidates": [{"token": "See", "logProbability": -1.0}]},
        ),
        "usageMetadata": _USED,
    },
]


def test_both_spellings_of_the_protocol_mean_the_same() -> None:
    response = both(*_EVERYTHING)
    spelled = [cast(JSON, in_snake_case(one)) for one in _EVERYTHING]
    assert orjson.dumps(spelled).count(b"_") > orjson.dumps(_EVERYTHING).count(b"_") + 40
    assert heard(*spelled) == response
    assert heard(spelled) == response
    mixed = [one if number % 2 else other for number, (one, other) in enumerate(zip(spelled, _EVERYTHING, strict=True))]
    assert heard(*mixed) == response
    assert (response.model, response.response_id) == ("served-9", "resp-1")
    assert [call.parsed() for call in response.tools()] == [{"a_b": {"c_d": [1]}}, {"a_b": "x"}]
    hosted = [part for part in response.choices[0].parts if isinstance(part, HostedToolPart)]
    assert [part.input for part in hosted][2] == {"deep_er": {"in_side": 1}}
    assert [part.output for part in hosted][3] == {"a_b": [{"c_d": 1}]}
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (22, 12, 9)
    assert (usage.input_audio_tokens, usage.web_searches) == (4, 1)


def test_default_values_written_by_an_encoder_are_ignored() -> None:
    nothing: JSON = {"text": None, "inlineData": None, "functionCall": None, "thought": None, "thoughtSignature": None}
    blank: JSON = {"text": "", "functionCall": None}
    picture = {"mimeType": "image/png", "data": ENCODED}
    first = {**chunk({**nothing, "text": "Here"}, finishReason="FINISH_REASON_UNSPECIFIED"), "error": None}
    first["promptFeedback"] = {"blockReason": "BLOCK_REASON_UNSPECIFIED", "safetyRatings": []}
    response = both(
        first,
        chunk({**nothing, "inlineData": picture, "text": ""}, nothing, blank),
        chunk({**nothing, "functionCall": {"name": "f", "args": {}}}, finishReason=0),
        chunk({**nothing, "text": "and", "functionCall": {"name": "g", "args": {}}, "thoughtSignature": SIGNED}),
        {**chunk(finishReason="STOP"), "promptFeedback": {"blockReason": 0}},
    )
    assert (response.text(), len(response.files()), response.finish_reason) == ("Hereand", 1, "tool_calls")
    assert [part.get("thoughtSignature") for part in sent_on(response) if part.get("functionCall")][1] == SIGNED


@pytest.mark.parametrize(
    "content",
    [
        "Good day",
        ["Good ", "day"],
        ["Good ", {"text": "day"}],
        {"parts": "Good day"},
        {"parts": {"text": "Good day"}},
        {"role": "model", "parts": ["Good ", {"text": "day"}, ""]},
        {"role": "model", "text": "Good day"},
        [{"parts": [{"text": "Good "}]}, {"parts": "day"}],
        {"text": "Good day", "parts": None},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_content_in_other_shapes(content: object, stream: bool) -> None:
    candidate: JSON = {"content": content, "finishReason": "STOP"}
    assert heard({"candidates": [candidate]}, stream=stream).text() == "Good day"
    assert heard({"candidates": candidate}, stream=stream).text() == "Good day"


@pytest.mark.parametrize("stream", [False, True])
def test_parts_without_a_content(stream: bool) -> None:
    for shape in ({"parts": [{"text": "Good day"}]}, {"text": "Good day", "content": None}):
        assert heard({"candidates": [{**shape, "finishReason": "STOP"}]}, stream=stream).text() == "Good day"
    nothings: list[JSON] = [{"content": None}, {"content": {"parts": None}}, {"content": {}}, {}]
    for nothing in nothings:
        assert heard({"candidates": [{**nothing, "finishReason": "STOP"}]}, stream=stream).text() == ""


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_in_a_wrapping(stream: bool) -> None:
    chunks = [chunk({"text": "Good "}), chunk({"text": "day"}, finishReason="STOP")]
    wrapped = [{"response": one, "traceId": "t"} for one in (chunks if stream else chunks[1:])]
    assert heard(*wrapped, stream=stream).text().endswith("day")
    spelled = {"response": in_snake_case(chunks[1])}
    assert heard(spelled, stream=stream).text() == "day"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "indexes",
    [
        ({}, {}),
        ({}, {"index": 1}),
        ({"index": 0}, {"index": 0}),
        ({"index": None}, {"index": None}),
        ({"index": 1}, {}),
    ],
)
def test_candidates_are_not_merged(indexes: Sequence[JSON], stream: bool) -> None:
    one, two = ({**index, "content": {"parts": [{"text": word}]}} for index, word in zip(indexes, "ab", strict=True))
    ends = [{**index, "finishReason": "STOP"} for index in indexes]
    if stream:
        response = heard({"candidates": [one, two]}, {"candidates": ends})
    else:
        response = heard({"candidates": [{**one, **ends[0]}, {**two, **ends[1]}]}, stream=False)
    assert sorted(choice.text() for choice in response.choices) == ["a", "b"]


def test_an_index_in_other_spellings_is_the_same() -> None:
    indexes: list[JSON] = [{"index": 0}, {"index": "0"}, {"index": None}, {}, {"index": 0.0}]
    chunks = [{"candidates": [{**index, "content": {"parts": [{"text": "x"}]}}]} for index in indexes]
    response = heard(*chunks, chunk(finishReason="STOP"))
    assert [choice.text() for choice in response.choices] == ["xxxxx"]


@pytest.mark.parametrize("data", [ENCODED, ENCODED.rstrip("="), base64.urlsafe_b64encode(PNG).decode()])
def test_pictures_in_any_base64(data: str) -> None:
    for name, kind in (("inlineData", "mimeType"), ("inline_data", "mime_type"), ("inlineData", "mime_type")):
        response = both(chunk({name: {kind: "image/png", "data": data}}, finishReason="STOP"))
        assert [(file.media_type, file.data) for file in response.files()] == [("image/png", PNG)]


# ---------------------------------------------------------------------------------------------------- reasons


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("STOP", "stop"),
        ("stop", "stop"),
        ("Stop", "stop"),
        ("FinishReason.STOP", "stop"),
        ("FINISH_REASON_STOP", "stop"),
        ("end_turn", "stop"),
        ("tool_calls", "stop"),
        (1, "stop"),
        ("1", "stop"),
        ("max_tokens", "length"),
        ("MaxTokens", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("length", "length"),
        (2, "length"),
        (3, "content_filter"),
        ("safety", "content_filter"),
        ("content_filter", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        (7, "content_filter"),
        (10, "error"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("malformed_function_call", "error"),
        ("UNEXPECTED_TOOL_CALL", "error"),
        ("MISSING_THOUGHT_SIGNATURE", "error"),
        (5, "other"),
        (99, "other"),
        ("NEVER_HEARD_OF", "other"),
        (["STOP"], "other"),
    ],
)
@pytest.mark.parametrize("name", ["finishReason", "finish_reason"])
def test_finish_reasons_in_any_spelling(word: object, meant: str, name: str) -> None:
    response = both(chunk({"text": "So"}), chunk(**{name: word}))
    assert (response.finish_reason, response.raw_finish_reason) == (meant, str(word))
    if meant == "stop":
        assert both(chunk(_CALL), chunk(**{name: word})).finish_reason == "tool_calls"


@pytest.mark.parametrize("later", [None, "", 0, "FINISH_REASON_UNSPECIFIED", "finish_reason_unspecified"])
def test_a_later_chunk_takes_no_reason_back(later: object) -> None:
    response = heard(chunk({"text": "So"}, finishReason="MAX_TOKENS"), chunk(finishReason=later), {"usageMetadata": {}})
    assert (response.finish_reason, response.raw_finish_reason) == ("length", "MAX_TOKENS")


@pytest.mark.parametrize("unsaid", [None, "", 0, "FINISH_REASON_UNSPECIFIED"])
def test_a_stream_that_never_says_why_it_ends_is_cut(unsaid: object) -> None:
    for chunks in (
        [chunk({"text": "So"}, finishReason=unsaid)],
        [chunk({"text": "So"}), chunk(finishReason=unsaid), {"usageMetadata": {"totalTokenCount": 3}}],
        [[chunk({"text": "So"}, finishReason=unsaid)]],
    ):
        with pytest.raises(TruncatedStreamError):
            heard(*chunks)


def test_a_plain_answer_without_a_finish_reason() -> None:
    response = heard(chunk({"text": "So"}), stream=False)
    assert (response.text(), response.finish_reason, response.raw_finish_reason) == ("So", "other", None)


@pytest.mark.parametrize("reason", ["PROHIBITED_CONTENT", "prohibited_content", "BlockReason.SAFETY", 4, "NEW_ONE"])
@pytest.mark.parametrize("finish", [{}, {"finishReason": "STOP"}])
def test_words_and_then_a_block(reason: object, finish: JSON) -> None:
    for feedback in ({"promptFeedback": {"blockReason": reason}}, {"prompt_feedback": {"block_reason": reason}}):
        response = heard(chunk({"text": "So"}, **finish), feedback)
        assert (response.text(), response.finish_reason) == ("So", "content_filter")
        assert response.raw_finish_reason == str(reason)
        plain = heard({**chunk({"text": "So"}, **finish), **feedback}, stream=False)
        assert plain == response
        alone = heard({**feedback, "candidates": []}, stream=False)
        assert (alone.finish_reason, alone.raw_finish_reason) == ("content_filter", str(reason))


def test_a_reason_of_the_candidate_stays_beside_a_block() -> None:
    response = heard(chunk({"text": "So"}, finishReason="MAX_TOKENS"), {"promptFeedback": {"blockReason": "OTHER"}})
    assert response.finish_reason == "length"


@pytest.mark.parametrize(
    "body",
    [{"candidates": None}, {"candidates": []}, {"candidates": [None]}, {"usageMetadata": {"totalTokenCount": 1}}],
)
def test_a_plain_answer_without_candidates_is_none(body: JSON) -> None:
    with pytest.raises(ProtocolError, match="candidates"):
        heard({**body, "modelVersion": "m"}, stream=False)
    with pytest.raises(ProtocolError):
        heard(body)


# ---------------------------------------------------------------------------------------------------- a stream unasked


def test_events_are_a_stream_also_where_a_body_was_asked_for() -> None:
    usage: JSON = {"usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}
    words = [{**chunk({"text": word}, finishReason="STOP"), **usage} for word in ("Good ", "day")]
    assert heard(*words, stream=False).text() == "Good day"
    with pytest.raises(TruncatedStreamError):
        heard({**chunk({"text": "Good "}), **usage}, {**chunk({"text": "day"}), **usage}, stream=False)


@pytest.mark.parametrize("frame", [b'"So."', b"3", b"true"])
def test_a_payload_that_is_not_an_object_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an object"):
        told(orjson.dumps(chunk({"text": "x"})), frame)


# ---------------------------------------------------------------------------------------------------- metadata, usage


@pytest.mark.parametrize("unnamed", [{}, {"modelVersion": "", "responseId": ""}, {"modelVersion": None}])
@pytest.mark.parametrize("late", [0, 1, 2, 20])
def test_model_and_id_may_arrive_late(unnamed: JSON, late: int) -> None:
    usage: JSON = {"usageMetadata": {"totalTokenCount": 2}}
    first = {**chunk({"text": "Hm", "thought": True}), **unnamed, **usage}
    words = [{**chunk({"text": "x"}), **unnamed, **usage} for _ in range(late)]
    end: JSON = {"finishReason": "STOP"} if late > 2 else {}
    named: JSON = {"modelVersion": "served-9", "responseId": "resp-1"}
    for names in (named, cast(JSON, in_snake_case(named))):
        last = {**chunk({"text": "y"}, **end), **usage, **names}
        response = heard(first, *words, last, chunk(finishReason="STOP"))
        assert (response.model, response.response_id) == ("served-9", "resp-1")
        origins = [part.origin for part in response.choices[0].parts]
        assert [origin and origin.served_model for origin in origins] == ["served-9"] * 2


def test_counts_as_text_and_below_zero() -> None:
    told_as = {"promptTokenCount": "11", "candidatesTokenCount": "7", "totalTokenCount": -18, "thoughtsTokenCount": -1}
    usage = both({**chunk({"text": "x"}, finishReason="STOP"), "usageMetadata": told_as}).usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.total_tokens) == (11, 7, None, None)


@pytest.mark.parametrize(
    "last",
    [
        {},
        None,
        {"trafficType": "ON_DEMAND"},
        {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0},
        {"promptTokenCount": "0", "candidatesTokenCount": "0", "totalTokenCount": "0"},
        {"promptTokenCount": None, "candidatesTokenCount": None, "totalTokenCount": None},
        {"promptTokenCount": 11, "candidatesTokenCount": 0, "totalTokenCount": 18},
        "none",
    ],
)
@pytest.mark.parametrize("usual", [False, True])
def test_counts_are_never_reset(last: object, usual: bool) -> None:
    real = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
    words = {**chunk({"text": "x"}), "usageMetadata": real}
    named = {**chunk({"text": "y"}), "usageMetadata": {"totalTokenCount": 11}, "modelVersion": "m", "responseId": "r"}
    chunks = [named, words] if usual else [words]
    response = heard(*chunks, {**chunk(finishReason="STOP"), "usageMetadata": last}, {"usageMetadata": last})
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 7, 18)


def test_counts_are_those_of_the_last_whole_report() -> None:
    first = {"promptTokenCount": 9, "candidatesTokenCount": 21, "thoughtsTokenCount": 35, "totalTokenCount": 65}
    last = {"promptTokenCount": 87, "thoughtsTokenCount": 78, "totalTokenCount": 165}
    response = heard(
        {**chunk({"text": "x"}), "usageMetadata": first}, {**chunk(finishReason="STOP"), "usageMetadata": last}
    )
    assert (response.usage.input_tokens, response.usage.output_tokens) == (87, 78)


def test_thoughts_and_cached_tokens_beyond_the_others() -> None:
    counts = {"promptTokenCount": 10, "cachedContentTokenCount": 30, "candidatesTokenCount": 7}
    counts |= {"thoughtsTokenCount": 20, "totalTokenCount": 67}
    usage = both({**chunk({"text": "x"}, finishReason="STOP"), "usageMetadata": counts}).usage
    assert (usage.input_tokens, usage.cache_read_tokens) == (40, 30)
    assert (usage.output_tokens, usage.reasoning_tokens) == (27, 20)


# ---------------------------------------------------------------------------------------------------- failures


_BUSY: JSON = {"code": 503, "message": "Busy."}
_NAMED: JSON = {"message": "Busy.", "status": "RESOURCE_EXHAUSTED"}
_NESTED = orjson.dumps({"error": {**_BUSY, "code": 400, "status": "INVALID_ARGUMENT"}}).decode()
_FAILURES: list[tuple[object, type[APIError], str | None]] = [
    ({"error": {**_NAMED, "code": 429}}, RateLimitError, "RESOURCE_EXHAUSTED"),
    ([{"error": {**_NAMED, "code": 429}}], RateLimitError, "RESOURCE_EXHAUSTED"),
    ({"error": _NAMED}, RateLimitError, "RESOURCE_EXHAUSTED"),
    ({"error": {"message": "Busy.", "code": "RESOURCE_EXHAUSTED"}}, RateLimitError, "RESOURCE_EXHAUSTED"),
    ({"error": {"message": "Busy.", "code": "429"}}, RateLimitError, "429"),
    ({"error": {"message": "Busy.", "code": 8}}, RateLimitError, "RESOURCE_EXHAUSTED"),
    ({"error": [_BUSY]}, OverloadedError, "503"),
    ({"error": "Busy."}, ServerError, None),
    ({"error": {**_BUSY, "code": 401, "status": "UNAUTHENTICATED"}}, AuthenticationError, "UNAUTHENTICATED"),
    ({"error": {"code": 502, "message": _NESTED}}, ServerError, "502"),
    ({"error": {"message": _NESTED}}, InvalidRequestError, "INVALID_ARGUMENT"),
    ({"error": {"code": 502, "status": "BAD", "message": _NESTED}}, ServerError, "BAD"),
    ({"error": {"error": {**_BUSY, "status": "UNAVAILABLE"}}}, OverloadedError, "UNAVAILABLE"),
    ({"errors": [_BUSY]}, OverloadedError, "503"),
    ({**_BUSY, "status": "UNAVAILABLE"}, OverloadedError, "UNAVAILABLE"),
    ({"status": 503, "message": "Busy."}, OverloadedError, "503"),
    ({"error_code": "BAD_REQUEST", "message": "Busy."}, InvalidRequestError, "BAD_REQUEST"),
    ({"detail": "Busy."}, ServerError, None),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}, OverloadedError, "overloaded_error"),
    ({"candidates": [{"error": _BUSY, "index": 0}]}, OverloadedError, "503"),
    ({"candidates": [{"error": "Busy.", "content": {"parts": []}}]}, ServerError, None),
    ({"candidates": [], "error": _BUSY}, OverloadedError, "503"),
    ({"response": {"error": _BUSY}}, OverloadedError, "503"),
]


@pytest.mark.parametrize(("failure", "kind", "code"), _FAILURES)
def test_failures_inside_an_answer(failure: object, kind: type[APIError], code: str | None) -> None:
    data = orjson.dumps(failure)
    streams: list[tuple[list[Frame], bool]] = [
        ([data], True),
        ([data], False),
        ([orjson.dumps(chunk({"text": "So"})), data], True),
        ([orjson.dumps(chunk({"text": "So"}, finishReason="STOP")), data], True),
    ]
    if not (isinstance(failure, dict) and "candidates" in failure):
        streams.append(([NamedFrame(data, b"error")], True))
    for frames, stream in streams:
        with pytest.raises(APIError, match=r": Busy\.$") as caught:
            told(*frames, stream=stream)
        assert type(caught.value) is kind
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ({"retryDelay": "17s"}, 17),
        ({"retryDelay": "0.5s"}, 0.5),
        ({"retry_delay": {"seconds": 17}}, 17),
        ({"retryDelay": "soon"}, None),
        ({"reason": "QUOTA"}, None),
    ],
)
def test_how_long_to_wait(delay: JSON, seconds: float | None) -> None:
    error: JSON = {"error": {**_NAMED, "details": [{"@type": "x"}, delay]}}
    for told_as in (error, {"error": {"message": orjson.dumps(error).decode()}}):
        with pytest.raises(RateLimitError) as caught:
            heard(told_as)
        assert caught.value.retry_after == seconds


def test_a_prompt_that_is_too_long_for_the_model() -> None:
    message = "The input token count (20) exceeds the maximum number of tokens allowed (10)."
    with pytest.raises(ContextLengthError):
        heard({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message}})


@pytest.mark.parametrize("nothing", [None, {}, [], "", False])
def test_an_error_that_is_none(nothing: object) -> None:
    chunks = [{**chunk({"text": "So"}), "error": nothing}, {**chunk(finishReason="STOP"), "error": nothing}]
    assert both(*chunks).text() == "So"
    assert heard(chunk({"text": "So"}, error=nothing), chunk(finishReason="STOP", error=nothing)).text() == "So"


@pytest.mark.parametrize(
    "words",
    [b"upstream is gone", b'"upstream is gone"', b'{"text":1,"message":"upstream is gone"}', b'["upstream is gone"]'],
)
def test_an_event_that_is_named_error_is_a_failure(words: bytes) -> None:
    for begun in ([], [orjson.dumps(chunk({"text": "So"}))]):
        with pytest.raises(ServerError, match="upstream is gone"):
            told(*begun, NamedFrame(words, b"error"))


def test_an_event_with_another_name_is_a_chunk() -> None:
    frames = [NamedFrame(orjson.dumps(one), b"chunk") for one in (chunk({"text": "So"}), chunk(finishReason="STOP"))]
    assert told(*frames).text() == "So"


def test_words_before_a_failure_in_an_array_are_kept() -> None:
    failure = {"error": {"code": 503, "message": "Busy."}}
    reading = ResponseBody(decoder_of(stream=True))
    reading.begin("application/json")
    reading.take(orjson.dumps([chunk({"text": "So"}), failure]))
    with pytest.raises(OverloadedError):
        reading.take(b"")
    accumulator = Accumulator(provider="google_ai", model=MODEL)
    accumulator.feed(reading.salvaged)
    assert accumulator.partial().text() == "So"


@pytest.mark.parametrize(
    "body",
    [
        b'[{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED"}}]',
        b'{"error":"Slow down."}',
        b'{"message":"Slow down."}',
        b'{"detail":"Slow down."}',
        b"Slow down.",
    ],
)
def test_failures_as_a_status(body: bytes) -> None:
    error = GeminiDriver().error(429, {}, body, provider="google_ai")
    assert type(error) is RateLimitError
    assert str(error).endswith("Slow down.")


# ---------------------------------------------------------------------------------------------------- the work it takes


def _grounded(count: int) -> list[Frame]:
    """A text of many passages with a source each, half of them told without their words."""
    supports = [
        {
            "segment": {"startIndex": 5 * at, "endIndex": 5 * at + 3, **({"text": "Zü"} if at % 2 else {})},
            "groundingChunkIndices": [at],
        }
        for at in range(count)
    ]
    sources = [{"web": {"uri": f"https://{at}.test"}} for at in range(count)]
    grounding = {"groundingChunks": sources, "groundingSupports": supports}
    return [orjson.dumps(chunk({"text": "Zü. " * count}, finishReason="STOP", groundingMetadata=grounding))]


def _signed(count: int) -> list[Frame]:
    parts = [{"text": "ä", "thoughtSignature": SIGNED}, {"text": "", "thoughtSignature": SIGNED}]
    sources = [{"endIndex": 2 * at + 2, "startIndex": 2 * at, "uri": "u"} for at in range(count)]
    return [
        *[orjson.dumps(chunk(*parts)) for _ in range(count)],
        orjson.dumps(chunk(finishReason="STOP", citationMetadata={"citationSources": sources})),
    ]


def _in_pieces(count: int) -> list[Frame]:
    piece = {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x" * 40}], "willContinue": True}
    return [
        orjson.dumps(chunk({"functionCall": {"name": "f", "willContinue": True}})),
        *[orjson.dumps(chunk({"functionCall": piece})) for _ in range(count)],
        orjson.dumps(chunk({"functionCall": {}}, finishReason="STOP")),
    ]


def _many(count: int) -> list[Frame]:
    return [orjson.dumps({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}] * count})]


@pytest.mark.parametrize("frames_of", [_grounded, _signed, _in_pieces, _many])
def test_work_is_linear_in_the_input(frames_of: Callable[[int], list[Frame]]) -> None:
    frames = {count: frames_of(count) for count in (150, 300)}

    def work(count: int) -> None:
        decoder = decoder_of(stream=True)
        for frame in frames[count]:
            decoder.feed(frame)
        decoder.finish()

    assert growth(work, 150) < 2.2


def test_a_text_is_encoded_once_however_many_passages_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    looked_at: list[int] = []
    count = gemini_citing._count  # pyright: ignore[reportPrivateUsage] - counts what it is given

    class Counted(EncodedText):
        def __init__(self, text: str) -> None:
            encoded.append(text)
            super().__init__(text)

    def counted(data: bytes) -> int:
        looked_at.append(len(data))
        return count(data)

    monkeypatch.setattr(gemini_citing, "EncodedText", Counted)
    monkeypatch.setattr(gemini_citing, "_count", counted)
    bytes_of: list[int] = []
    for passages in (1000, 2000):
        looked_at.clear()
        assert len(told(*_grounded(passages)).citations()) == passages
        bytes_of.append(sum(looked_at))
    assert encoded == ["Zü. " * 1000, "Zü. " * 2000]
    assert bytes_of[1] < 2.2 * bytes_of[0]


def test_a_string_of_many_pieces_is_joined_once() -> None:
    arguments = PartialArguments(lambda _: None)
    for _ in range(300):
        arguments.lay({"jsonPath": "$.a.b", "stringValue": "xy"})
    held = cast(JSON, arguments._root["a"])["b"]  # pyright: ignore[reportPrivateUsage] - the pieces are the point
    assert held == ["xy"] * 300
    assert arguments.whole() == {"a": {"b": "xy" * 300}}


@given(st.text("aä€🤖", max_size=40), st.integers(0, 170), st.integers(0, 170))
def test_offsets_of_bytes_are_those_of_characters(text: str, start: int, length: int) -> None:
    data, end = text.encode(), start + length
    text_of_some_length = "ü" * 1000 + text  # beyond the first mark
    try:
        passage = data[start:end].decode() if end <= len(data) else None
        first = len(data[:start].decode())
    except UnicodeDecodeError:
        passage, first = None, 0
    expected = None if passage is None else (first, first + len(passage))
    assert EncodedText(text).span(start, end, None) == expected
    assert EncodedText(text).span(start, end, data[start:end] + b"x") is None
    later = EncodedText(text_of_some_length).span(2000 + start, 2000 + end, None)
    assert later == (None if expected is None else (1000 + expected[0], 1000 + expected[1]))


def test_sources_and_candidates_are_bounded() -> None:
    bounds = Bounds(max_parts=50)
    for frames_of in (_grounded, _signed, _many):
        with pytest.raises(BoundsError, match="max_parts"):
            decoder = decoder_of(stream=True, bounds=bounds)
            for frame in frames_of(60):
                decoder.feed(frame)
            decoder.finish()
