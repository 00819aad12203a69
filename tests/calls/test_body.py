"""Bodies are read despite deviations of hosts: blank events, marks, wrong content types, split characters."""

from collections.abc import Sequence
from itertools import product

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Bounds,
    ChatResponse,
    Dialect,
    StreamEvent,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.body import ResponseBody
from dhenara_async.drivers.base import Decoder
from dhenara_async.errors import BoundsError, DhenaraError, ProtocolError, TruncatedStreamError
from dhenara_async.events import TextDelta
from dhenara_async.framing import Frame
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.request import ChatRequest
from dhenara_async.testing import check_grammar
from dhenara_async.usage.tokens import Usage
from tests.cases import cases

STREAM, JSON = "text/event-stream", "application/json"
CHAT, RESPONSES, ANTHROPIC, GEMINI = (
    Dialect.OPENAI_CHAT,
    Dialect.OPENAI_RESPONSES,
    Dialect.ANTHROPIC_MESSAGES,
    Dialect.GEMINI,
)
DIALECTS = (CHAT, RESPONSES, ANTHROPIC, GEMINI)
PROVIDERS = {
    CHAT: AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
    RESPONSES: AIModelAPIProviderEnum.OPEN_AI,
    ANTHROPIC: AIModelAPIProviderEnum.ANTHROPIC,
    GEMINI: AIModelAPIProviderEnum.GOOGLE_AI,
}
Events = list[tuple[str, str]]  # each event's name, empty where the dialect has none, and its data


def events_of(dialect: Dialect, *literals: str) -> Events:
    """A stream that says a text in pieces.

    Args:
        dialect: Its dialect.
        literals: The pieces, each a JSON string's inside, as it stands on the wire.
    """
    match dialect:
        case Dialect.OPENAI_CHAT:
            chunk = '{"id":"c1","model":"m1","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}'
            told = [chunk % ('{"content":"' + text + '"}', "null") for text in literals]
            return [("", data) for data in (*told, chunk % ("{}", '"stop"'), "[DONE]")]
        case Dialect.OPENAI_RESPONSES:
            said = "".join(literals)
            part = '{"type":"output_text","text":"%s","annotations":[]}' % said  # noqa: UP031 - braces abound
            item = '{"id":"i1","type":"message","role":"assistant","status":"completed","content":[%s]}' % part  # noqa: UP031
            response = '{"id":"r1","model":"m1","status":"%s","output":[%s]}'
            where = '"item_id":"i1","output_index":0,"content_index":0'
            named = [
                ("response.created", f'"response":{response % ("in_progress", "")}'),
                ("response.output_item.added", '"output_index":0,"item":{"id":"i1","type":"message","content":[]}'),
                *(("response.output_text.delta", f'{where},"delta":"{text}"') for text in literals),
                ("response.output_item.done", f'"output_index":0,"item":{item}'),
                ("response.completed", f'"response":{response % ("completed", item)}'),
            ]
            return [(name, f'{{"type":"{name}",{data}}}') for name, data in named]
        case Dialect.ANTHROPIC_MESSAGES:
            named = [
                ("message_start", '"message":{"id":"m1","role":"assistant","model":"m1","content":[]}'),
                ("content_block_start", '"index":0,"content_block":{"type":"text","text":""}'),
                *(("content_block_delta", f'"index":0,"delta":{{"type":"text_delta","text":"{x}"}}') for x in literals),
                ("content_block_stop", '"index":0'),
                ("message_delta", '"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}'),
            ]
            told = [(name, f'{{"type":"{name}",{data}}}') for name, data in named]
            return [*told, ("message_stop", '{"type":"message_stop"}')]
        case _:
            chunk = '{"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"%s"}]}%s}]}'
            last = len(literals) - 1
            ends = ["" if place < last else ',"finishReason":"STOP"' for place in range(len(literals))]
            return [("", chunk % pair) for pair in zip(literals, ends, strict=True)]


def sse(events: Events, *, between: str = "", behind: str = "", before: str = "") -> bytes:
    """The stream's bytes, with more behind each event, behind all and before all."""
    told = (f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n" for name, data in events)
    return (before + between.join(told) + behind).encode("utf-8", "surrogatepass")


def plain_of(dialect: Dialect, literal: str) -> str:
    match dialect:
        case Dialect.OPENAI_CHAT:
            return f'{{"id":"c1","choices":[{{"index":0,"message":{{"content":"{literal}"}},"finish_reason":"stop"}}]}}'
        case Dialect.OPENAI_RESPONSES:
            part = f'{{"type":"output_text","text":"{literal}"}}'
            return f'{{"id":"r1","status":"completed","output":[{{"type":"message","content":[{part}]}}]}}'
        case Dialect.ANTHROPIC_MESSAGES:
            return f'{{"type":"message","content":[{{"type":"text","text":"{literal}"}}],"stop_reason":"end_turn"}}'
        case _:
            return f'{{"candidates":[{{"content":{{"parts":[{{"text":"{literal}"}}]}},"finishReason":"STOP"}}]}}'


class OneByOne:
    """A decoder without ``feed_all``, as other packages may have."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        return self._decoder.feed(frame)

    def finish(self) -> Sequence[StreamEvent]:
        return self._decoder.finish()

    @property
    def usage(self) -> Usage | None:
        return self._decoder.usage


def read_events(
    body: bytes,
    dialect: Dialect,
    *,
    stream: bool = True,
    announced: str = STREAM,
    bounds: Bounds | None = None,
    cut: int = 0,
    one_by_one: bool = False,
) -> Sequence[StreamEvent]:
    """Return the events of a body that arrives in pieces of ``cut`` bytes; 0 = in one piece."""
    api = AIModelAPI(provider=PROVIDERS[dialect], dialect=dialect, api_key="k", base_url="http://127.0.0.1:9/v1")
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))
    config = AIModelCallConfig(bounds=bounds or Bounds())
    decoder = driver_for(endpoint).decoder(ChatRequest((), (), config, stream=stream), expected_origin(endpoint))
    reading = ResponseBody(OneByOne(decoder) if one_by_one else decoder, config.bounds.max_answer_bytes)
    reading.begin(announced)
    chunks = [body[at : at + cut] for at in range(0, len(body), cut)] if cut else [body]
    events: list[StreamEvent] = []
    for chunk in (*chunks, b""):
        if chunk or not reading.complete:
            events += reading.take(chunk)
    return events


def read(body: bytes, dialect: Dialect, *, stream: bool = True, announced: str = STREAM, cut: int = 0) -> ChatResponse:
    events = read_events(body, dialect, stream=stream, announced=announced, cut=cut)
    check_grammar(events)
    accumulator = Accumulator(provider="x", model="m")
    accumulator.feed(events)
    response = accumulator.response()
    if len(response.choices) == 1:
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == response.text()
    return response


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "blank",
    ["data:\n\n", "data: \n\n", "data:  \t\n\n", "event: ping\ndata:\n\n", "data:\ndata:\n\n", ": hi\ndata:\n\n"],
)
def test_events_without_data_are_ignored(dialect: Dialect, blank: str) -> None:
    body = sse(events_of(dialect, "Hel", "lo"), before=blank, between=blank, behind=blank)
    assert read(body, dialect).text() == "Hello"
    assert read(body, dialect, cut=7).text() == "Hello"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("mark", ["data: [DONE]\n\n", "data:[DONE]\n\n", "data:  [DONE] \n\n"])
def test_a_done_event_after_the_end_is_ignored(dialect: Dialect, mark: str) -> None:
    assert read(sse(events_of(dialect, "Hel", "lo"), behind=mark), dialect).text() == "Hello"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_done_event_does_not_end_a_truncated_answer(dialect: Dialect) -> None:
    events = events_of(dialect, "Hel", "lo")
    cut = events[: next(place for place, (_, data) in enumerate(events) if '"lo"' in data)]
    with pytest.raises(TruncatedStreamError):
        read(sse(cut, behind="" if dialect is CHAT else "data: [DONE]\n\n"), dialect)


def test_spaces_around_the_done_event_of_chat_are_ignored() -> None:
    events = [*events_of(CHAT, "Hel", "lo")[:-1], ("", " [DONE] ")]
    assert read(sse(events), CHAT).text() == "Hello"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_surrogate_pairs_split_over_two_events_are_joined(dialect: Dialect, cut: int) -> None:
    robot = read(sse(events_of(dialect, r"Hi \ud83e", r"\udd16!")), dialect, cut=cut)
    assert robot.text() == "Hi \N{ROBOT FACE}!"
    alone = read(sse(events_of(dialect, r"Hi \ud83e", "there", r"\udd16!")), dialect, cut=cut)
    assert alone.text() == "Hi \ufffdthere\ufffd!"
    last = read(sse(events_of(dialect, "Hi ", r"\ud83e")), dialect, cut=cut)
    assert last.text() == "Hi \ufffd"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_decoder_without_feed_all_gives_the_same_events(dialect: Dialect) -> None:
    told = events_of(dialect, "One", "\\ud83d", "\\ude00", " two")  # the halves are repaired amid the others
    behind = told[:0] if dialect is GEMINI else told[:2]  # Gemini's answers have no end but the body's
    body = sse([*told[:2], ("", " "), *told[2:], *behind])
    assert read_events(body, dialect, one_by_one=True) == read_events(body, dialect)
    assert read(body, dialect).text() == "One\U0001f600 two"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_lone_surrogate_in_a_plain_body_becomes_a_replacement_character(dialect: Dialect) -> None:
    response = read(plain_of(dialect, r"Hi \ud83e, \ud83e\udd16").encode(), dialect, stream=False, announced=JSON)
    assert response.text() == "Hi \ufffd, \N{ROBOT FACE}"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nan_and_infinity_are_accepted(dialect: Dialect) -> None:
    extra = '"x":NaN,"y":[Infinity,-Infinity],'
    body = plain_of(dialect, "NaN").replace("{", "{" + extra, 1)
    assert read(body.encode(), dialect, stream=False, announced=JSON).text() == "NaN"
    events = [(name, data.replace("{", "{" + extra, 1)) for name, data in events_of(dialect, "Hel", "lo")]
    assert read(sse(events), dialect).text() == "Hello"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("behind", ["", "[DONE]", "\n\ndata: [DONE]\n\n", "\ndata:[DONE]"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\ufeff\n", " \n"])
def test_a_plain_body_is_read_between_a_byte_order_mark_and_a_done_event(
    dialect: Dialect, before: str, behind: str
) -> None:
    body = (before + plain_of(dialect, "Hello") + behind).encode()
    assert read(body, dialect, stream=False, announced=JSON).text() == "Hello"
    assert read(body, dialect, stream=False, announced=JSON, cut=1).text() == "Hello"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_with_another_content_type_is_recognised_by_its_first_bytes(dialect: Dialect) -> None:
    types = (JSON, "application/vnd.api+json; charset=utf-8", "", "text/plain")
    beginnings = ("", ": hi\n\n", "\ufeff", "\n", "retry: 3\n\n", "id: 1\n")
    with cases() as case:
        for announced, before, stream, cut in product(types, beginnings, (True, False), (0, 1)):
            with case(f"{announced!r}, {before!r}, stream={stream}, cut={cut}"):
                body = sse(events_of(dialect, "Hel", "lo"), before=before)
                assert read(body, dialect, stream=stream, announced=announced, cut=cut).text() == "Hello"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_plain_body_with_the_content_type_of_a_stream_is_read(dialect: Dialect, stream: bool) -> None:
    body = plain_of(dialect, "Hello").encode()
    assert read(body, dialect, stream=stream, announced=STREAM).text() == "Hello"
    lines = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
    assert read(lines, dialect, stream=stream, announced=STREAM).text() == "Hello"


@pytest.mark.parametrize("body", [b"", b" ", b"dat", b"nonsense", b"<html>", b'{"a":', b"[DONE]"])
def test_a_body_that_is_neither_stream_nor_json_is_refused(body: bytes) -> None:
    for dialect in DIALECTS:
        with pytest.raises(ProtocolError):
            read(body, dialect, stream=False, announced=JSON)


# ---------------------------------------------------------------------------------------------------- size limits


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_above_max_answer_bytes_is_refused(dialect: Dialect, stream: bool) -> None:
    bounds = Bounds(max_answer_bytes=4000)
    body = sse(events_of(dialect, *["word " * 20] * 60)) if stream else plain_of(dialect, "word " * 1000).encode()
    with pytest.raises(BoundsError, match="max_answer_bytes=4000") as caught:
        read_events(body, dialect, stream=stream, announced=STREAM if stream else JSON, bounds=bounds, cut=500)
    assert (caught.value.setting, caught.value.limit, caught.value.retryable) == ("max_answer_bytes", 4000, False)


def test_an_answer_above_max_parts_is_refused() -> None:
    call = '{"index":%d,"id":"c%d","function":{"name":"f","arguments":"{}"}}'
    calls = ",".join(call % (place, place) for place in range(12))
    body = (
        f'{{"id":"c","choices":[{{"index":0,"message":{{"tool_calls":[{calls}]}},"finish_reason":"stop"}}]}}'.encode()
    )
    with pytest.raises(BoundsError, match="max_parts=10"):
        read_events(body, CHAT, stream=False, announced=JSON, bounds=Bounds(max_parts=10))
    events = read_events(body, CHAT, stream=False, announced=JSON, bounds=Bounds(max_parts=12))
    assert events[-1].type == "stream_end"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("unit", [b"[],", b"{},", b"0,", b'"",'])
def test_json_that_would_take_far_more_memory_than_its_bytes_is_refused(unit: bytes, stream: bool) -> None:
    body = b'{"x":[' + unit * (6_000_000 // len(unit)) + b"0]}"
    body = b"data: " + body + b"\n\n" if stream else body
    bounds = Bounds(max_answer_bytes=16_000_000)
    with pytest.raises(BoundsError, match="max_answer_bytes"):
        read_events(body, CHAT, stream=stream, announced=STREAM if stream else JSON, bounds=bounds, cut=1_000_000)


def test_a_large_text_full_of_brackets_is_read() -> None:
    words = "Well, [then], {so}, " * 400_000
    bounds = Bounds(max_answer_bytes=128 * 1024 * 1024)
    events = read_events(plain_of(CHAT, words).encode(), CHAT, stream=False, announced=JSON, bounds=bounds)
    assert any(isinstance(event, TextDelta) and event.text == words for event in events)


def test_bounds_errors_are_dhenara_errors() -> None:
    assert issubclass(BoundsError, DhenaraError)
