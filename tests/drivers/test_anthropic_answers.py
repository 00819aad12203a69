"""Answers in the Messages API's dialect as gateways and proxies write them, streamed and plain.

Each shape is read with the client's own reader, checked against the grammar, and compared with what it means.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import cast

import orjson
import pytest
from pydantic import BaseModel

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Bounds,
    ChatResponse,
    FinishReason,
    HostedToolPart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.body import ResponseBody
from dhenara_async.drivers.anthropic_messages.blocks import Blocks
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
from dhenara_async.events import StreamEvent, StreamStart, ToolCallDelta
from dhenara_async.framing import NamedFrame
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.request import ChatRequest
from dhenara_async.testing import check_grammar
from dhenara_async.usage.tokens import Usage
from tests.steps import growth

JSON = dict[str, object]
MODEL = "claude-sonnet-5-5"
ENDPOINT = AIModelEndpoint(
    api=AIModelAPI(provider=AIModelAPIProviderEnum.ANTHROPIC, api_key="key"), ai_model=AIModel(model_name=MODEL)
)
TIDES: JSON = {"harbour": "Oban", "day": 3}
AS_TEXT = '{"harbour":"Oban","day":3}'


class Tide(BaseModel):
    """When the water is high."""

    harbour: str
    day: int


class Read:
    """What became of a body.

    Attributes:
        events: All events before the end or the failure.
        failure: What was raised; None = the answer is whole.
    """

    def __init__(self, body: bytes, *, stream: bool, config: AIModelCallConfig | None = None) -> None:
        asked = ChatRequest.of(
            [Message.user("When?")], instructions=(), config=config or AIModelCallConfig(), stream=stream
        )
        self.events: list[StreamEvent] = []
        self.failure: DhenaraError | None = None
        reading = ResponseBody(driver_for(ENDPOINT).decoder(asked, expected_origin(ENDPOINT)))
        reading.begin("text/event-stream" if stream else "application/json")
        try:
            self.events += reading.take(body)
            if not reading.complete:
                self.events += reading.take(b"")
        except DhenaraError as exc:
            self.events += reading.salvaged
            self.failure = exc
        check_grammar(self.events, complete=self.failure is None)
        accumulator = Accumulator(provider="anthropic", model=MODEL)
        accumulator.feed(self.events)
        self.partial = accumulator.partial()

    @property
    def answer(self) -> ChatResponse:
        """The whole answer."""
        assert self.failure is None, repr(self.failure)
        return self.partial


def sse(*events: object) -> bytes:
    """A stream of events, as JSON without names; bytes stand for themselves."""
    return b"".join(
        event if isinstance(event, bytes) else b"data: " + orjson.dumps(event) + b"\n\n" for event in events
    )


def start(**message: object) -> JSON:
    told: JSON = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-served", "content": []}
    usage = {"usage": {"input_tokens": 11, "output_tokens": 1}}
    return {"type": "message_start", "message": {**told, **usage, **message}}


def opened(block: object, index: object = 0) -> JSON:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: object = 0, **told: object) -> JSON:
    return {"type": "content_block_delta", "index": index, "delta": told}


def text(words: object, index: object = 0) -> JSON:
    return delta(index, type="text_delta", text=words)


def thought(words: object, index: object = 0) -> JSON:
    return delta(index, type="thinking_delta", thinking=words)


def argued(piece: object, index: object = 0) -> JSON:
    return delta(index, type="input_json_delta", partial_json=piece)


def closed(index: object = 0) -> JSON:
    return {"type": "content_block_stop", "index": index}


def stopping(word: object = "end_turn", usage: object = None, **told: object) -> JSON:
    usage = {"output_tokens": 7} if usage is None else usage
    return {"type": "message_delta", "delta": {"stop_reason": word, "stop_sequence": None}, "usage": usage, **told}


STOP: JSON = {"type": "message_stop"}
TEXT: JSON = {"type": "text", "text": ""}
THINKING: JSON = {"type": "thinking", "thinking": "", "signature": ""}
USED = {"input_tokens": 11, "output_tokens": 7}


def call(given: object = None, **more: object) -> JSON:
    return {"type": "tool_use", "id": "toolu_1", "name": "tides", "input": {} if given is None else given, **more}


def streamed(*events: object, word: object = "end_turn", first: JSON | None = None) -> Read:
    """A stream of these block events."""
    return Read(sse(first or start(), *events, stopping(word), STOP), stream=True)


def plain(content: object, word: object = "end_turn", config: AIModelCallConfig | None = None, **more: object) -> Read:
    """A plain body with this content."""
    body = {**cast("JSON", start(content=content, stop_reason=word, usage=USED)["message"]), **more}
    return Read(orjson.dumps(body), stream=False, config=config)


def parts(read: Read) -> list[tuple[str, str]]:
    """Kind and text of each part of a whole answer."""
    said = read.answer.choices[0].parts
    return [(part.type, part.arguments if isinstance(part, ToolCallPart) else part.get_text()) for part in said]


# ---------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        (TIDES, AS_TEXT),
        (AS_TEXT, AS_TEXT),
        ({}, "{}"),
        ("", "{}"),
        (None, "{}"),
        ("{}", "{}"),
        ("no JSON", "no JSON"),
        ([1, 2], "[1,2]"),
    ],
)
def test_a_complete_input_is_emitted_once_and_encoded_once(given: object, arguments: str) -> None:
    block = {**call(), "input": given}
    reads = [
        plain([block]),
        streamed(opened(block), closed()),
        streamed(opened(block), argued(""), closed()),
        streamed(opened(block), argued({}), closed()),
        streamed(opened(block), argued(None), closed()),
        streamed(opened(block)),
        streamed(opened(call()), argued(given), closed()),
        streamed(opened(call()), argued(""), argued(given), closed()),
        streamed(opened({"type": "tool_use", "id": "toolu_1", "name": "tides"}), argued(given)),
        streamed(opened(call()), {**closed(), "content_block": block}),
        streamed(first=start(content=[block])),
        Read(sse(start(content=[block], stop_reason="tool_use", usage=USED), STOP), stream=True),
        Read(sse(start(), {**STOP, "message": {"content": [block]}}), stream=True),
    ]
    if given != {} and given:
        reads.append(streamed(opened(block), argued(arguments[:1]), argued(arguments[1:]), closed()))
    for read in reads:
        (made,) = read.answer.tools()
        assert (made.call_id, made.name, made.arguments) == ("toolu_1", "tides", arguments)
        assert read.answer.finish_reason is FinishReason.TOOL_CALLS
        told = "".join(event.arguments for event in read.events if isinstance(event, ToolCallDelta))
        assert told in (arguments, "" if arguments == "{}" else arguments)


def test_integers_of_any_size_keep_their_digits() -> None:
    digits = "123456789012345678901234567890"
    block = b'{"type":"tool_use","id":"toolu_1","name":"tides","input":{"day":%b}}' % digits.encode()
    opening = b'data: {"type":"content_block_start","index":0,"content_block":%b}\n\n' % block
    whole = orjson.dumps({**cast("JSON", start()["message"]), "stop_reason": "tool_use"})
    for read in (
        Read(sse(start(), opening, stopping("tool_use"), STOP), stream=True),
        Read(whole.replace(b'"content":[]', b'"content":[%b]' % block), stream=False),
    ):
        assert read.answer.tools()[0].arguments == f'{{"day":{digits}}}'


def test_objects_in_pieces_are_put_together() -> None:
    read = streamed(opened(call()), argued({"harbour": "Oban"}), argued({"day": 3}), closed(), word="tool_use")
    assert read.answer.tools()[0].arguments == AS_TEXT


@pytest.mark.parametrize(
    "block",
    [
        {"id": "toolu_1", "name": "tides", "input": TIDES},
        {"type": "tool_use", "id": "toolu_1", "name": "tides", "arguments": AS_TEXT},
        {"type": "function_call", "call_id": "toolu_1", "name": "tides", "arguments": AS_TEXT},
        {"type": "function", "id": "toolu_1", "function": {"name": "tides", "arguments": TIDES}},
    ],
)
def test_calls_that_other_makers_spell(block: JSON) -> None:
    for read in (plain([block]), plain(block), streamed(opened(block), closed())):
        (made,) = read.answer.tools()
        assert (made.call_id, made.name, made.arguments) == ("toolu_1", "tides", AS_TEXT)


@pytest.mark.parametrize("given", [TIDES, AS_TEXT])
def test_the_input_of_a_hosted_tool_stays_an_object(given: object) -> None:
    block: JSON = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": given}
    empty: JSON = {**block, "input": {}}
    for read in (
        plain([block]),
        streamed(opened(block), closed()),
        streamed(opened(empty), argued(given), closed()),
        streamed(opened(empty), argued(AS_TEXT[:9]), argued(AS_TEXT[9:])),
    ):
        (part,) = read.answer.choices[0].parts
        assert isinstance(part, HostedToolPart)
        assert part.input == TIDES
        assert (part.provider_state or {})["input"] == TIDES


@pytest.mark.parametrize("given", [TIDES, AS_TEXT])
def test_a_structured_answer_by_tool_in_every_shape(given: object) -> None:
    config = AIModelCallConfig(structured_output=Tide)
    block = {**call(given), "name": "Tide"}
    empty: JSON = {**block, "input": {}}
    bodies = [
        sse(start(), opened(block), closed(), stopping("tool_use"), STOP),
        sse(start(), opened(block), argued(""), stopping("tool_use"), STOP),
        sse(start(), opened(block), argued(AS_TEXT), closed(), stopping("tool_use"), STOP),
        sse(start(), opened(empty), argued(given), closed(), stopping(), STOP),
        sse(start(), opened({**empty, "name": ""}), delta(name="Tide"), argued(given), closed(), stopping(), STOP),
        sse(start(content=[block], stop_reason="tool_use"), STOP),
    ]
    reads = [*(Read(body, stream=True, config=config) for body in bodies), plain([block], "tool_use", config)]
    for read in reads:
        assert (read.answer.text(), read.answer.tools()) == (AS_TEXT, ())
        assert read.answer.finish_reason is FinishReason.STOP


# ---------------------------------------------------------------------------------------------------- names and places


@pytest.mark.parametrize(
    "events",
    [
        [opened({**call(), "name": ""}), delta(name="tides", type="input_json_delta", partial_json=AS_TEXT)],
        [opened({**call(), "name": None}), argued(AS_TEXT[:5]), delta(name="tides"), argued(AS_TEXT[5:]), closed()],
        [opened({**call(), "id": ""}), argued(AS_TEXT[:5]), delta(id="toolu_1"), argued(AS_TEXT[5:]), closed()],
        [opened({"type": "tool_use"}), opened(call()), argued(AS_TEXT), closed()],
        [opened({"type": "tool_use", "name": "tides"}), argued(AS_TEXT), opened(call()), closed()],
        [opened(call()), opened(call()), argued(AS_TEXT), closed()],
        [opened(call(), "0"), argued(AS_TEXT[:5], 0), argued(AS_TEXT[5:], "0"), closed("0")],
        [opened(call(), None), argued(AS_TEXT, None), closed(None)],
    ],
)
def test_names_ids_and_indexes_come_as_they_may(events: Sequence[JSON]) -> None:
    (made,) = streamed(*events).answer.tools()
    assert (made.call_id, made.name, made.arguments) == ("toolu_1", "tides", AS_TEXT)


def test_a_call_without_a_name_is_emitted() -> None:
    unnamed = opened({"type": "tool_use", "id": "toolu_1", "name": ""})
    for events in ([unnamed, argued(AS_TEXT), closed()], [unnamed, argued(AS_TEXT)]):
        (made,) = streamed(*events).answer.tools()
        assert (made.name, made.arguments) == ("", AS_TEXT)
    assert parts(streamed(unnamed, argued(AS_TEXT), opened("Noon."))) == [("tool_call", AS_TEXT), ("text", "Noon.")]


@pytest.mark.parametrize(
    "events",
    [
        [opened(TEXT, "0"), text("High ", "0"), text("water", "0"), closed("0")],
        [opened(TEXT, None), text("High ", None), text("water", None), closed(None)],
        [opened(TEXT), text("High ", None), text("water", None)],
        [text("High "), text("water"), closed()],
        [text("High ", None), text("water", None), closed(None)],
        [{"type": "content_block_start", "index": 0}, text("High "), text("water"), closed()],
        [opened({"type": "text", "text": "High water"}), closed()],
        [opened({"type": "text", "text": "High water"})],
        [opened({"type": "text", "text": "High "}), text("water"), closed()],
        [opened(TEXT), opened(TEXT), text("High water"), closed()],
        [opened(TEXT), text(["High ", {"text": "water"}]), closed()],
        [opened(TEXT), delta(text="High "), delta(type="text", text="water"), closed()],
        [opened(TEXT), {"type": "content_block_delta", "index": 0, "delta": "High water"}, closed()],
        [opened(TEXT), {**closed(), "content_block": {"type": "text", "text": "High water"}}],
        [opened(TEXT), text("High water"), {**closed(), "content_block": {"type": "text", "text": "High water"}}],
        [opened("High water")],
    ],
)
def test_a_repeated_text_is_emitted_once(events: Sequence[JSON]) -> None:
    assert parts(streamed(*events)) == [("text", "High water")]


def test_blocks_without_indexes_follow_each_other() -> None:
    events = (opened(THINKING, None), thought("Moon?", None), closed(None), opened(TEXT, None), text("Noon.", None))
    assert parts(streamed(*events)) == [("reasoning", "Moon?"), ("text", "Noon.")]
    assert parts(streamed(thought("Moon?", None), closed(None), text("Noon.", None))) == [
        ("reasoning", "Moon?"),
        ("text", "Noon."),
    ]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([opened(TEXT), thought("Moon?"), text("Noon.")], [("text", ""), ("reasoning", "Moon?"), ("text", "Noon.")]),
        ([opened(THINKING), text("Noon."), closed()], [("reasoning", ""), ("text", "Noon.")]),
        ([opened(TEXT), argued('{"a":'), argued("1}")], [("text", '{"a":1}')]),
        ([opened(TEXT), argued({"a": 1}), closed()], [("text", '{"a":1}')]),
        (
            [opened(call()), argued(AS_TEXT[:5]), text("I look."), thought("Hm."), argued(AS_TEXT[5:]), closed()],
            [("tool_call", AS_TEXT), ("text", "I look."), ("reasoning", "Hm.")],
        ),
        ([opened({"type": "refusal", "refusal": ""}), text("No.")], [("refusal", "No.")]),
    ],
)
def test_a_delta_decides_the_kind_of_its_block(events: Sequence[JSON], expected: object) -> None:
    assert parts(streamed(*events)) == expected


def test_words_for_a_block_that_was_closed_are_a_fault() -> None:
    for more in (text("more"), thought("more"), argued("more")):
        read = streamed(opened(TEXT), text("High"), closed(), more)
        assert type(read.failure) is ProtocolError
        assert read.partial.choices[0].parts[0].get_text() == "High"


def test_events_are_known_by_their_names_where_they_have_no_type() -> None:
    events = [start(), opened(TEXT), text("High "), text("water"), closed(), stopping(), STOP]
    named = b"".join(
        b"event: " + str(event["type"]).encode() + b"\ndata: " + orjson.dumps({**event, "type": None}) + b"\n\n"
        for event in events
    )
    untyped = sse(*({key: value for key, value in event.items() if key != "type"} for event in events[:-2]))
    for body in (named, named.replace(b'{"type":null}', b"{}"), untyped + sse(stopping(), STOP)):
        read = Read(body, stream=True)
        assert parts(read) == [("text", "High water")]
        assert read.answer.usage.output_tokens == 7


# ---------------------------------------------------------------------------------------------------- content


CONTENTS: Sequence[tuple[object, list[tuple[str, str]]]] = [
    ("Noon.", [("text", "Noon.")]),
    (["No", "on."], [("text", "No"), ("text", "on.")]),
    ({"type": "text", "text": "Noon."}, [("text", "Noon.")]),
    ([{"text": "Noon."}], [("text", "Noon.")]),
    ({"text": "Noon."}, [("text", "Noon.")]),
    ([{"type": "output_text", "text": "Noon.", "annotations": [{"type": "x"}]}], [("text", "Noon.")]),
    ([{"type": "text", "text": ["No", {"text": "on."}]}], [("text", "Noon.")]),
    ([{"type": "text", "text": {"value": "Noon."}}], [("text", "Noon.")]),
    ([{"thinking": "Moon?", "signature": "c2ln"}, "Noon."], [("reasoning", "Moon?"), ("text", "Noon.")]),
    ([{"type": "thinking", "text": "Moon?"}], [("reasoning", "Moon?")]),
    (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Moon?"}]}, {"text": "Noon."}],
        [("reasoning", "Moon?"), ("text", "Noon.")],
    ),
    ([{"data": "b3BhcXVl"}], [("reasoning", "")]),
    ([{"type": "refusal", "refusal": "No."}], [("refusal", "No.")]),
    (None, []),
    ("", []),
    ([None, JSON(), list[object](), "", 7], []),
    (7, []),
]


@pytest.mark.parametrize(("content", "expected"), CONTENTS)
def test_content_is_read_in_every_shape(content: object, expected: list[tuple[str, str]]) -> None:
    assert parts(plain(content)) == expected
    assert parts(Read(sse(start(content=content, stop_reason="end_turn"), STOP), stream=True)) == expected
    blocks = cast("list[object]", content) if isinstance(content, list) else [content]
    told = [opened(block, index) for index, block in enumerate(blocks)]
    assert parts(streamed(*told)) == expected


def test_blocks_inside_message_start_are_emitted_once() -> None:
    noon: JSON = {"type": "text", "text": "Noon."}
    held = start(content=[{**THINKING, "thinking": "Moon?", "signature": "c2ln"}, noon])
    both = [("reasoning", "Moon?"), ("text", "Noon.")]
    repeated = [opened(THINKING), thought("Moon?"), closed(), opened(TEXT, 1), text("Noon.", 1), closed(1)]
    assert parts(streamed(first=held)) == both
    assert parts(streamed(*repeated, first=held)) == both
    assert parts(streamed(*repeated[3:], first=held)) == both
    assert parts(streamed(opened(TEXT, 2), text("Later.", 2), first=held)) == [*both, ("text", "Later.")]
    assert parts(streamed(text(" Later.", 1), first=held)) == [("reasoning", "Moon?"), ("text", "Noon. Later.")]
    assert parts(Read(sse(held, {**held, "type": "message_start"}, stopping(), STOP), stream=True)) == both
    assert parts(streamed(opened(TEXT), text("Noon."), first=start(content=[TEXT]))) == [("text", "Noon.")]


def test_a_start_that_is_the_whole_answer() -> None:
    """As scripts get it that run the caller's tools: no model ran, so there is no more than the start and the stop."""
    caller = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}
    container = {"id": "container_7", "expires_at": "2026-11-28T12:00:00Z"}
    blocks = [call(TIDES, caller=caller), {**call(TIDES), "id": "toolu_2"}]
    usage = {"input_tokens": 0, "output_tokens": 0}
    first = start(content=blocks, stop_reason="tool_use", container=container, usage=usage)
    read = Read(sse(first, STOP), stream=True)
    assert read.answer == plain(blocks, "tool_use", container=container, usage=usage).answer
    one, two = read.answer.tools()
    assert (one.arguments, two.call_id) == (AS_TEXT, "toolu_2")
    assert one.provider_state == {"type": "tool_use", "caller": caller}
    assert (read.answer.finish_reason, read.answer.raw_finish_reason) == (FinishReason.TOOL_CALLS, "tool_use")
    assert (read.answer.usage.input_tokens, read.answer.usage.output_tokens) == (0, 0)
    (report,) = (part for part in read.answer.choices[0].parts if isinstance(part, HostedToolPart))
    assert report.output == container


def test_a_whole_answer_behind_its_stream_adds_nothing() -> None:
    whole = cast("JSON", start(content=[{"type": "text", "text": "Noon."}], stop_reason="end_turn")["message"])
    for last in (whole, {**STOP, "message": whole}):
        read = Read(sse(start(), opened(TEXT), text("Noon."), closed(), last), stream=True)
        assert parts(read) == [("text", "Noon.")]
        assert read.answer.raw_finish_reason == "end_turn"


@pytest.mark.parametrize("more", [{"stop_reason": "max_tokens"}, {"role": "assistant"}])
def test_a_plain_body_without_a_type(more: JSON) -> None:
    read = Read(orjson.dumps({"content": "Noon.", **more}), stream=False)
    assert parts(read) == [("text", "Noon.")]
    expected = FinishReason.LENGTH if "stop_reason" in more else FinishReason.STOP
    assert read.answer.finish_reason is expected


# ---------------------------------------------------------------------------------------------------- opaque state


def _kept(read: Read) -> list[object]:
    return [part.provider_state for part in read.answer.choices[0].parts]


SIGNATURE = "RXEgc2lnbmF0dXJlIG9mIGEgdGhvdWdodA=="


@pytest.mark.parametrize(
    "events",
    [
        [opened(THINKING), thought("Moon?"), delta(type="signature_delta", signature=SIGNATURE), closed()],
        [
            opened(THINKING),
            thought("Moon?"),
            *(delta(type="signature_delta", signature=SIGNATURE[at : at + 9]) for at in range(0, 40, 9)),
            closed(),
        ],
        [opened({**THINKING, "thinking": "Moon?", "signature": SIGNATURE}), closed()],
        [
            opened({**THINKING, "thinking": "Moon?", "signature": SIGNATURE}),
            delta(type="signature_delta", signature=SIGNATURE),
        ],
        [
            opened(THINKING),
            thought("Moon?"),
            *(delta(type="signature_delta", signature=SIGNATURE[:end]) for end in (20, len(SIGNATURE))),
        ],
        [opened(THINKING), delta(type="thinking_delta", thinking="Moon?", signature=SIGNATURE), closed()],
        [
            opened(THINKING),
            delta(type="signature_delta", signature=""),
            thought("Moon?"),
            {**closed(), "content_block": {**THINKING, "thinking": "Moon?", "signature": SIGNATURE}},
        ],
        [thought("Moon?"), delta(type="signature_delta", signature=SIGNATURE)],
    ],
)
def test_a_signature_is_whole_however_it_comes(events: Sequence[JSON]) -> None:
    read = streamed(*events)
    assert parts(read) == [("reasoning", "Moon?")]
    assert _kept(read) == [{"type": "thinking", "signature": SIGNATURE}]


def test_a_signature_without_thinking_is_kept_and_thinking_without_one_too() -> None:
    signed = delta(type="signature_delta", signature=SIGNATURE)
    assert _kept(streamed(opened(THINKING), signed)) == [{"type": "thinking", "signature": SIGNATURE}]
    assert _kept(streamed(signed)) == [{"type": "thinking", "signature": SIGNATURE}]
    assert _kept(streamed(opened(TEXT), signed, text("Noon.")))[1:2] == [{"type": "thinking", "signature": SIGNATURE}]
    for unsigned in (plain([{"type": "thinking", "thinking": "Moon?"}]), streamed(thought("Moon?"))):
        (part,) = unsigned.answer.choices[0].parts
        assert isinstance(part, ReasoningPart)
        assert (part.text, part.provider_state) == ("Moon?", {"type": "thinking", "signature": ""})


@pytest.mark.parametrize(
    "events",
    [
        [opened({"type": "redacted_thinking", "data": "b3BhcXVlIGFuZCBsb25n"}), closed()],
        [
            opened({"type": "redacted_thinking", "data": ""}),
            delta(type="redacted_thinking_delta", data="b3BhcXVlIGFu"),
            delta(data="ZCBsb25n"),
            closed(),
        ],
        [opened({"type": "redacted_thinking", "data": "b3BhcXVl"}), delta(type="data_delta", data="IGFuZCBsb25n")],
        [delta(type="redacted_thinking_delta", data="b3BhcXVlIGFuZCBsb25n"), closed()],
        [
            opened({"type": "redacted_thinking"}),
            {**closed(), "content_block": {"type": "redacted_thinking", "data": "b3BhcXVlIGFuZCBsb25n"}},
        ],
    ],
)
def test_redacted_thinking_is_whole_however_it_comes(events: Sequence[JSON]) -> None:
    assert _kept(streamed(*events)) == [{"type": "redacted_thinking", "data": "b3BhcXVlIGFuZCBsb25n"}]


# ---------------------------------------------------------------------------------------------------- one answer only


def test_two_answers_are_never_made_one() -> None:
    begun = [start(), opened(TEXT), text("I look."), closed(), opened(call(), 1), argued('{"har', 1)]
    second = [start(id="msg_2"), opened(TEXT), text("I look again."), closed(), stopping(), STOP]
    read = Read(sse(*begun, *second), stream=True)
    assert isinstance(read.failure, TruncatedStreamError)
    assert read.failure.retryable
    assert read.partial.text() == "I look."
    stopped = Read(sse(*begun[:4], stopping(), *second), stream=True)
    assert isinstance(stopped.failure, TruncatedStreamError)
    held = Read(sse(start(content="Noon."), *second), stream=True)
    assert isinstance(held.failure, TruncatedStreamError)


def test_a_start_that_is_repeated_is_harmless() -> None:
    for again in (start(), start(id=""), start(id=None)):
        read = Read(sse(start(), again, opened(TEXT), text("Noon"), again, text("."), stopping(), STOP), stream=True)
        assert read.answer.text() == "Noon."
    retried = Read(sse(start(id="msg_0"), start(), opened(TEXT), text("Noon."), stopping(), STOP), stream=True)
    assert retried.answer.text() == "Noon."
    ended = Read(sse(start(), text("Noon."), stopping(), STOP, start(id="msg_2"), text("No.")), stream=True)
    assert ended.answer.text() == "Noon."


@pytest.mark.parametrize(
    "late",
    [
        [start()],
        [{**stopping(), "id": "msg_1", "model": "claude-served"}],
        [stopping(), {**STOP, "message": start()["message"]}],
    ],
)
@pytest.mark.parametrize("empty", ["", None])
def test_id_and_model_count_when_they_come_late(late: Sequence[JSON], empty: str | None) -> None:
    first = start(id=empty, model=empty)
    read = Read(sse(first, opened(TEXT), text("Noon."), closed(), *late, stopping(), STOP), stream=True)
    assert (read.answer.response_id, read.answer.model) == ("msg_1", "claude-served")
    (part,) = read.answer.choices[0].parts
    assert isinstance(part, TextPart)
    assert part.origin is not None
    assert part.origin.served_model == "claude-served"
    assert read.events[0] == StreamStart(None, "anthropic")


def test_a_start_without_its_message() -> None:
    bare = {"type": "message_start"}
    flat = {**cast("JSON", start()["message"]), "type": "message_start"}
    assert Read(sse(bare, opened(TEXT), text("Noon."), stopping(), STOP), stream=True).answer.text() == "Noon."
    read = Read(sse(flat, opened(TEXT), text("Noon."), stopping(), STOP), stream=True)
    assert (read.answer.response_id, read.answer.usage.input_tokens) == ("msg_1", 11)


# ---------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("word", "without_calls", "with_calls"),
    [
        *((word, "stop", "tool_calls") for word in ("end_turn", "stop_sequence", "stop", "STOP", "tool_use")),
        *((word, "stop", "tool_calls") for word in ("tool_calls", "TOOL_USE", "function_call", None, "")),
        *((word, "length", "length") for word in ("max_tokens", "MAX_TOKENS", "length", "incomplete")),
        *((word, "content_filter", "content_filter") for word in ("content_filter", "SAFETY", "content_filtered")),
        ("refusal", "refusal", "refusal"),
        ("pause_turn", "pause", "pause"),
        ("model_context_window_exceeded", "context_window", "context_window"),
        ("error", "error", "error"),
        ("of_tomorrow", "other", "other"),
    ],
)
def test_reasons_to_stop_in_anybodys_words(word: str | None, without_calls: str, with_calls: str) -> None:
    said: JSON = {"type": "text", "text": "Noon."}
    for expected, block in ((without_calls, said), (with_calls, call(TIDES))):
        for read in (plain([block], word), streamed(opened(block), closed(), word=word)):
            assert (read.answer.finish_reason, read.answer.raw_finish_reason) == (expected, word or None)


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_reason_to_stop_is_never_taken_back(nothing: str | None) -> None:
    told = {**stopping("max_tokens"), "delta": {"stop_reason": "max_tokens", "stop_sequence": "END"}}
    later: list[JSON] = [
        stopping(nothing),
        {"type": "message_delta", "delta": {}, "usage": {}},
        {"type": "message_delta", "usage": None},
        {**STOP, "message": {"stop_reason": nothing, "stop_sequence": nothing}},
    ]
    for last in later:
        read = Read(sse(start(), opened(TEXT), text("Noon"), closed(), told, last, STOP), stream=True)
        assert read.answer.finish_reason is FinishReason.LENGTH
        assert read.answer.choices[0].stop_sequence == "END"
    early = streamed(opened(TEXT), text("Noon"), first=start(stop_reason="end_turn"), word="max_tokens")
    assert early.answer.finish_reason is FinishReason.LENGTH
    flat = {"type": "message_delta", "stop_reason": "max_tokens"}
    assert Read(sse(start(), flat, STOP), stream=True).answer.finish_reason is FinishReason.LENGTH


def test_only_its_own_end_ends_a_stream() -> None:
    begun = sse(start(), opened(TEXT), text("High"), closed(), stopping())
    mark = b"data: [DONE]\n\n"
    for body in (begun, begun + mark, begun + b"event: done\n" + mark, begun + sse({"content": "water"})):
        read = Read(body, stream=True)
        assert type(read.failure) is TruncatedStreamError
        assert read.partial.text() == "High"
    named = b"event: message_stop\ndata:"
    assert Read(begun + named, stream=True).failure is not None  # it is cut
    for body in (begun + mark + sse(STOP), begun + sse(STOP) + mark, begun + named + b" {}\n\n"):
        assert Read(body, stream=True).answer.text() == "High"


# ---------------------------------------------------------------------------------------------------- failures


def _failed(read: Read) -> APIError:
    assert isinstance(read.failure, APIError), repr(read.failure)
    return read.failure


@pytest.mark.parametrize(
    ("told", "kind", "says"),
    [
        (b"event: error\ndata: no cook is free\n\n", ServerError, "no cook is free"),
        (b'event: error\ndata: "no cook is free"\n\n', ServerError, "no cook is free"),
        (b"error: no cook is free\n\n", ServerError, "no cook is free"),
        (b'event: error\ndata: {"message":"no cook is free","code":529}\n\n', OverloadedError, "no cook is free"),
        (b'event: error\ndata: {"error":"no cook is free"}\n\n', ServerError, "no cook is free"),
        (b'event: error\ndata: {"type":"overloaded_error","message":"busy"}\n\n', OverloadedError, "busy"),
        (b'event: error\ndata: {"detail":"busy"}\n\n', ServerError, "busy"),
        (b"event: error\ndata: [1,2]\n\n", ServerError, "[1,2]"),
        (sse({"type": "error", "error": {"type": "rate_limit_error", "message": "wait"}}), RateLimitError, "wait"),
        (sse({"type": "error", "error": {"message": "wait", "code": "429"}}), RateLimitError, "wait"),
        (sse({"type": "error", "message": "busy"}), ServerError, "busy"),
        (sse({"type": "error"}), ServerError, "error"),
        (sse({"type": "message_start", "message": {"error": {"message": "busy"}}}), ServerError, "busy"),
        (b'event: message\ndata: {"error":{"message":"busy"}}\n\n', ServerError, "busy"),
        (sse({"error": {"message": "busy", "type": "stream_error"}}), ServerError, "busy"),
        (sse({"error": "busy"}), ServerError, "busy"),
        (sse({"message": "busy", "code": 529}), OverloadedError, "busy"),
        (sse({"type": "overloaded_error", "message": "busy"}), OverloadedError, "busy"),
        (sse({"errors": [{"message": "busy", "code": 503}]}), OverloadedError, "busy"),
        (sse({"error_code": "BUSY", "message": '{"error":{"message":"no cook"}}'}), ServerError, "(BUSY): no cook"),
        (sse({"throttlingException": {"message": "wait"}}), RateLimitError, "wait"),
        (sse({**stopping("error"), "error": {"message": "busy"}}), ServerError, "busy"),
        (sse({"type": "message_delta", "delta": {"error": {"message": "busy"}}}), ServerError, "busy"),
        (sse({"type": "content_block_delta", "index": 0, "error": {"message": "busy"}}), ServerError, "busy"),
        (sse(delta(type="error_delta", error={"message": "busy"})), ServerError, "busy"),
        (sse({**STOP, "error": {"type": "overloaded_error", "message": "busy"}}), OverloadedError, "busy"),
        (sse(opened({"type": "error", "error": {"code": 529, "message": "busy"}}, 1)), OverloadedError, "busy"),
        (sse({"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}), ContextLengthError, "too long"),
    ],
)  # fmt: skip
def test_failures_inside_an_answer(told: bytes, kind: type[APIError], says: str) -> None:
    read = Read(sse(start(), opened(TEXT), text("High")) + told + sse(closed(), stopping(), STOP), stream=True)
    error = _failed(read)
    assert type(error) is kind
    assert says in str(error)
    assert read.partial.text() == "High"
    before = Read(told, stream=True)
    if b"content_block" not in told:
        assert type(_failed(before)) is kind


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ({"type": "message", "error": {"type": "overloaded_error", "message": "busy"}}, OverloadedError, "busy"),
        ({"type": "error", "error": {"type": "api_error", "message": "busy"}}, ServerError, "busy"),
        ({"error": "busy"}, ServerError, "busy"),
        ({"message": "wait", "code": 429}, RateLimitError, "wait"),
        ({"detail": [{"loc": ["max_tokens"], "msg": "missing"}]}, ServerError, "max_tokens"),
        ({"type": "message", "content": [{"type": "error", "message": "busy"}]}, ServerError, "busy"),
    ],
)
def test_failures_with_status_200(body: JSON, kind: type[APIError], says: str) -> None:
    error = _failed(Read(orjson.dumps(body), stream=False))
    assert type(error) is kind
    assert says in str(error)


@pytest.mark.parametrize(
    ("status", "body", "kind", "says", "code"),
    [
        (429, {"message": "wait"}, RateLimitError, "wait", None),
        (429, {"error": "wait"}, RateLimitError, "wait", None),
        (
            500,
            {"error": {"message": "litellm: busy", "type": "None", "param": "None", "code": "500"}},
            ServerError,
            "litellm: busy",
            "500",
        ),
        (
            529,
            {"error": {"message": '{"type":"error","error":{"type":"overloaded_error","message":"no cook"}}'}},
            OverloadedError,
            "no cook",
            "overloaded_error",
        ),
        (
            400,
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "m", "details": {"error_code": "x"}},
            },
            InvalidRequestError,
            "m",
            "x",
        ),
        (
            400,
            {"detail": "input length and `max_tokens` exceed context limit: 9 + 9 > 8"},
            ContextLengthError,
            "exceed context limit",
            None,
        ),
        (
            400,
            [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}],
            InvalidRequestError,
            "m",
            "400",
        ),
    ],
)
def test_errors_by_status(status: int, body: object, kind: type[APIError], says: str, code: str | None) -> None:
    error = driver_for(ENDPOINT).error(status, {}, orjson.dumps(body), provider="anthropic")
    assert (type(error), error.status, error.code) == (kind, status, code)
    assert says in str(error)


@pytest.mark.parametrize("depth", [300, 900])
def test_a_failure_that_is_nested_deeply_is_one_of_ours(depth: int) -> None:
    nested = b'{"detail":' * depth + b"1" + b"}" * depth
    for told in (b'data: {"error":%b}\n\n' % nested, b"event: error\ndata: %b\n\n" % nested):
        assert isinstance(Read(sse(start()) + told, stream=True).failure, DhenaraError)
    assert isinstance(driver_for(ENDPOINT).error(400, {}, nested, provider="anthropic"), InvalidRequestError)


def test_fields_for_errors_that_are_empty_are_none() -> None:
    assert plain("Noon.", error=None).answer.text() == "Noon."
    assert streamed(opened(TEXT), text("Noon."), {"error": None}, {"type": "info", "message": "ok"}).failure is None


def test_an_error_event_behind_the_end_says_nothing() -> None:
    asked = ChatRequest.of([Message.user("When?")], instructions=(), config=AIModelCallConfig(), stream=True)
    decoder = driver_for(ENDPOINT).decoder(asked, expected_origin(ENDPOINT))
    for event in (start(), stopping(), STOP):
        decoder.feed(orjson.dumps(event))
    late = [NamedFrame(b"late", b"error"), orjson.dumps({"error": "late"}), orjson.dumps(text("late"))]
    assert [list(decoder.feed(frame)) for frame in late] == [[], [], []]


# ---------------------------------------------------------------------------------------------------- tokens


def _used(*reports: object, first: object = MappingProxyType({"input_tokens": 11, "output_tokens": 1})) -> Usage:
    first = dict(cast("JSON", first)) if isinstance(first, Mapping) else first
    told = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage} for usage in reports]
    return Read(sse(start(usage=first), opened(TEXT), text("Noon."), closed(), *told, STOP), stream=True).answer.usage


@pytest.mark.parametrize(
    ("reports", "input_tokens", "output_tokens"),
    [
        ([{"output_tokens": "7"}], 11, 7),
        ([{"input_tokens": "12", "output_tokens": 7.0}], 12, 7),
        ([{"output_tokens": 7}, {}], 11, 7),
        ([{"output_tokens": 7}, None], 11, 7),
        ([{"output_tokens": 7}, {"input_tokens": 0, "output_tokens": 0}], 11, 7),
        ([{"output_tokens": 7}, {"output_tokens": 0}], 11, 7),
        ([{"input_tokens": 0, "output_tokens": 7}], 11, 7),
        ([{"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 7}], 11, 7),
        ([{"output_tokens": -1}], 11, 1),
        ([{"input_tokens": -5, "output_tokens": 7}], 11, 7),
        ([{"output_tokens": "many"}], 11, 1),
        ([{"output_tokens": True}, "7", [7]], 11, 1),
        ([{"input_tokens": None, "output_tokens": 7}], 11, 7),
        ([{"input_tokens": 0, "cache_read_input_tokens": 11, "output_tokens": 7}], 11, 7),
        ([{"cache_read_input_tokens": 90}, {"input_tokens": 12, "cache_read_input_tokens": 0}], 12, 1),
        ([{"output_tokens": 7}, {"input_tokens": 11, "output_tokens": 0}], 11, 0),
        ([{"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 5}}], 11, 7),
        ([{"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 9}}], 11, 16),
    ],
)
def test_counts_are_kept_whatever_comes_later(reports: Sequence[object], input_tokens: int, output_tokens: int) -> None:
    usage = _used(*reports)
    assert (usage.input_tokens, usage.output_tokens) == (input_tokens, output_tokens)
    assert usage.total_tokens == input_tokens + output_tokens
    whole: JSON = {"input_tokens": 11, "output_tokens": 1}
    for report in reports[:1]:
        kept = cast("JSON", report).items() if isinstance(report, dict) else ()
        whole |= {name: count for name, count in kept if count}
    if len(reports) == 1 and "input_tokens" not in cast("JSON", reports[0]) and output_tokens != 1:
        told = plain("Noon.", usage=whole).answer.usage
        assert (told.input_tokens, told.output_tokens) == (input_tokens, output_tokens)


@pytest.mark.parametrize("usage", [None, {}, [], "7", {"input_tokens": -1, "output_tokens": "x"}])
def test_no_counts_are_no_usage(usage: object) -> None:
    assert plain("Noon.", usage=usage).answer.usage == Usage()
    assert _used({}, first=usage).source == "unknown"


def test_counts_at_the_end_become_an_event() -> None:
    last = {**STOP, "usage": {"input_tokens": 11, "output_tokens": 9}}
    read = Read(sse(start(usage=None), opened(TEXT), text("Noon."), closed(), last), stream=True)
    assert (read.answer.usage.input_tokens, read.answer.usage.output_tokens) == (11, 9)


# ---------------------------------------------------------------------------------------------------- how it grows


def _citation(number: int) -> JSON:
    return {"type": "char_location", "cited_text": f"words {number}", "document_index": number}


def _growing(events: Callable[[int], Sequence[JSON]]) -> Callable[[int], None]:
    """Decodes a stream with so many of some event; many have to be possible for each."""
    config = AIModelCallConfig(bounds=Bounds(max_parts=10**6))
    asked = ChatRequest.of([Message.user("When?")], instructions=(), config=config, stream=True)

    def decode(count: int) -> None:
        decoder = driver_for(ENDPOINT).decoder(asked, expected_origin(ENDPOINT))
        for event in (start(), *events(count), stopping(), STOP):
            decoder.feed(orjson.dumps(event))
        decoder.finish()

    return decode


GROWING: Mapping[str, Callable[[int], Sequence[JSON]]] = {
    "citations": lambda count: [
        opened(TEXT),
        *(delta(type="citations_delta", citation=_citation(number)) for number in range(count)),
    ],
    "pieces of a signature": lambda count: [
        opened(THINKING),
        *(delta(type="signature_delta", signature=f"piece {number}") for number in range(count)),
    ],
    "pieces of redacted thinking": lambda count: [delta(data=f"piece {number}") for number in range(count)],
    "objects for arguments": lambda count: [
        opened(call()),
        *(argued({f"key {number}": number}) for number in range(count)),
    ],
    "blocks that stay open": lambda count: [opened(TEXT, number) for number in range(count)],
    "blocks that change": lambda count: [
        opened(TEXT),
        *(event for _ in range(count) for event in (thought("Moon?"), text("Noon."))),
    ],
    "deltas of a call without a name": lambda count: [
        opened({"type": "tool_use"}),
        *(argued("1") for _ in range(count)),
    ],
    "counts": lambda count: [stopping(None) for _ in range(count)],
}


@pytest.mark.parametrize("kind", GROWING)
def test_work_is_linear_in_the_input(kind: str) -> None:
    assert growth(_growing(GROWING[kind]), 400) < 2.2


def test_lists_of_citations_grow_in_place() -> None:
    """Their copies are made in C, which steps do not count."""
    blocks = Blocks(PartsInFlight(expected_origin(ENDPOINT)), answer_tool=None)
    blocks.start(0, dict(TEXT))
    part = blocks.open[0]
    lists: set[int] = set()
    for number in range(50):
        blocks.delta(0, {"type": "citations_delta", "citation": _citation(number)})
        lists |= {id(part.state["citations"]), id(part.citations)}
    assert (len(lists), len(part.citations)) == (2, 50)


def test_citations_count_against_the_bounds() -> None:
    config = AIModelCallConfig(bounds=Bounds(max_parts=20))
    cited = [delta(type="citations_delta", citation=_citation(number)) for number in range(30)]
    read = Read(sse(start(), opened(TEXT), *cited, stopping(), STOP), stream=True, config=config)
    whole: JSON = {"type": "text", "text": "Noon.", "citations": [_citation(number) for number in range(30)]}
    for failure in (read.failure, plain([whole], config=config).failure):
        assert isinstance(failure, BoundsError)
        assert failure.setting == "max_parts"


# ---------------------------------------------------------------------------------------------------- hostile types

VALUES: Sequence[object] = (
    *(None, True, 0, -1, 1.5, "", "x", "0", "tool_use", "thinking", AS_TEXT, [], {}, ["x"], [1, None]),
    *({"x": 1}, [{"text": "x"}], {"type": "tool_use", "name": "f"}, {"type": "refusal", "refusal": "n"}, {"data": "d"}),
)


def _places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = (
        cast("JSON", value).items()
        if isinstance(value, dict)
        else enumerate(cast("list[object]", value))
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _changed(events: list[JSON], chance: random.Random) -> list[JSON]:
    """Events with one of them lost, repeated or moved, or one value in them another."""
    events = deepcopy(events)
    match chance.randrange(6):
        case 0:
            del events[chance.randrange(len(events))]
        case 1:
            events.insert(chance.randrange(len(events)), deepcopy(chance.choice(events)))
        case 2:
            events.insert(chance.randrange(len(events)), events.pop(chance.randrange(len(events))))
        case _:
            *way, last = chance.choice([path for path in _places(events) if len(path) > 1])
            at = cast("dict[str | int, object]", events)
            for step in way:
                at = cast("dict[str | int, object]", at[step])
            at[last] = deepcopy(chance.choice(VALUES))
    return events


@pytest.mark.parametrize("seed", range(4))
def test_no_shape_raises_an_untyped_error(seed: int) -> None:
    chance = random.Random(seed)
    hosted: JSON = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    usual: list[JSON] = [
        start(usage={"input_tokens": 3, "cache_creation": {"ephemeral_5m_input_tokens": 1}}),
        *(opened(THINKING), thought("Moon?"), delta(type="signature_delta", signature=SIGNATURE), closed()),
        *(opened(TEXT, 1), text("No", 1), delta(1, type="citations_delta", citation=_citation(1)), text("on.", 1)),
        *(opened(call(), 2), argued(AS_TEXT[:5], 2), argued(AS_TEXT[5:], 2), closed(2)),
        *(opened(hosted, 3), argued(AS_TEXT, 3), closed(3)),
        *(stopping("tool_use"), STOP),
    ]
    content = [event["content_block"] for event in usual if "content_block" in event]
    for _ in range(500):
        events = usual
        for _ in range(chance.randrange(1, 4)):
            events = _changed(events, chance)
        Read(sse(*events), stream=True)
        (body,) = _changed([cast("JSON", start(content=content, stop_reason="end_turn")["message"])] * 1, chance)[
            :1
        ] or [{}]
        Read(orjson.dumps(body), stream=False)
