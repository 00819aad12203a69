"""Every wire fixture through the public client: whole, byte by byte, and cut short.

The repository owns these answers, so they are tested without the recordings too. See ``tests/wire_fixtures``.
"""

import re
from itertools import accumulate

import pytest

from dhenara_async import AIModelCallConfig, Dialect
from dhenara_async.errors import APIError, DhenaraError, ProtocolError, TruncatedStreamError
from dhenara_async.events import PartEnd
from dhenara_async.response import ChatResponse, Choice
from dhenara_async.testing import check_grammar
from tests.replays import Heard, check_cut, check_fold, listen
from tests.wire_fixtures import MODEL, SERVED, Expected, WireFixture, expected_shapes, names

_ENDS = {
    Dialect.ANTHROPIC_MESSAGES: rb'"type": ?"message_stop"',
    Dialect.OPENAI_RESPONSES: rb'"type":"response\.(completed|incomplete)"',
    Dialect.OPENAI_CHAT: rb'"finish_reason":"',
    Dialect.GEMINI: rb'"(finishReason|blockReason)": ?"',
}
_FIXTURES = [WireFixture(name) for name in names()]
_STREAMS = [fixture for fixture in _FIXTURES if fixture.is_stream]
_PLAIN = [fixture for fixture in _FIXTURES if not fixture.is_stream]
_FAILING = [fixture for fixture in _STREAMS if "error" in fixture.expected]
_WHOLE = [fixture for fixture in _STREAMS if fixture not in _FAILING]


def _name(fixture: WireFixture) -> str:
    return fixture.name


async def _streamed(fixture: WireFixture, body: bytes, *, byte_by_byte: bool = False) -> Heard:
    return await listen(fixture.client(body, byte_by_byte=byte_by_byte), _config(fixture.expected))


def _config(expected: Expected) -> AIModelCallConfig:
    return AIModelCallConfig.model_validate({"retries": 0, **expected.get("config", {})})


def _described(response: ChatResponse) -> dict[str, object]:
    """The answer in the form of an expectation."""
    return {
        "choices": [_described_choice(choice) for choice in response.choices],
        "usage": response.usage.model_dump(exclude_defaults=True, exclude={"source"}),
    }


def _described_choice(choice: Choice) -> dict[str, object]:
    told = choice.model_dump(exclude_defaults=True, include={"finish_reason", "raw_finish_reason", "stop_sequence"})
    parts = [
        {"type": part.type, **part.model_dump(mode="json", exclude_defaults=True, exclude={"origin"})}
        for part in choice.parts
    ]
    return {**told, "parts": parts}


def _check_answer(fixture: WireFixture, response: ChatResponse) -> None:
    expected, (model, response_id) = fixture.expected, SERVED[fixture.dialect]
    assert _described(response) == {"choices": expected["choices"], "usage": expected["usage"]}
    assert (response.model, response.response_id) == (model, response_id)
    assert [choice.index for choice in response.choices] == list(range(len(response.choices)))
    for origin in (part.origin for choice in response.choices for part in choice.parts):
        assert origin is not None
        assert (origin.dialect, origin.model, origin.served_model) == (fixture.dialect, MODEL, model)
    if "structured" in expected:
        assert response.structured() == expected["structured"]
    assert ChatResponse.model_validate_json(response.model_dump_json()) == response


def _check_failure(fixture: WireFixture, heard: Heard) -> None:
    expected, failure = fixture.expected, heard.failure
    told = expected.get("error", {})
    assert isinstance(failure, APIError)
    found = {
        "class": type(failure).__name__,
        "status": failure.status,
        "code": failure.code,
        "retryable": failure.retryable,
    }
    assert {**found, "message": told.get("message")} == told
    assert str(told["message"]) in str(failure)
    check_grammar(heard.events, complete=False)
    assert not heard.stream.complete
    assert _described(heard.stream.partial.chat_response)["choices"] == expected["choices"]


def _whole_at(fixture: WireFixture) -> int:
    """How many bytes have to arrive before the stream is whole: the line that says so, without its line end."""
    end = list(re.finditer(_ENDS[fixture.dialect], fixture.body))[-1]
    line = re.compile(rb"[^\r\n]*").match(fixture.body, end.end())
    assert line is not None
    return line.end()


def _cuts(body: bytes) -> list[int]:
    """Places to cut a body: behind every line, before and behind its line end, and in the middle of it."""
    lines = body.splitlines(keepends=True)
    starts = accumulate(map(len, lines), initial=0)
    places = [
        place
        for start, line in zip(starts, lines, strict=False)
        for place in (start, start + len(line) // 2, start + len(line.rstrip()))
    ]
    return sorted(set(places))


@pytest.mark.parametrize("fixture", _WHOLE, ids=_name)
async def test_a_stream_has_the_expected_content_whole_and_byte_by_byte(fixture: WireFixture) -> None:
    whole = await _streamed(fixture, fixture.body)
    assert whole.failure is None
    check_grammar(whole.events)
    check_fold(whole.events, whole.stream.response.chat_response)
    _check_answer(fixture, whole.stream.response.chat_response)
    pieces = await _streamed(fixture, fixture.body, byte_by_byte=True)
    assert (pieces.failure, pieces.events) == (None, whole.events)


@pytest.mark.parametrize("fixture", _FAILING, ids=_name)
async def test_a_stream_with_an_error_keeps_the_content_before_it(fixture: WireFixture) -> None:
    whole = await _streamed(fixture, fixture.body)
    _check_failure(fixture, whole)
    pieces = await _streamed(fixture, fixture.body, byte_by_byte=True)
    _check_failure(fixture, pieces)
    assert pieces.events == whole.events


@pytest.mark.parametrize("fixture", _PLAIN, ids=_name)
async def test_a_plain_body_has_the_expected_content_whole_and_byte_by_byte(fixture: WireFixture) -> None:
    for byte_by_byte in (False, True):
        client = fixture.client(fixture.body, byte_by_byte=byte_by_byte)
        answer = await client.generate("Go on.", config=_config(fixture.expected))
        _check_answer(fixture, answer.chat_response)


@pytest.mark.parametrize("fixture", _WHOLE, ids=_name)
async def test_a_stream_that_is_cut_short_is_never_whole(fixture: WireFixture) -> None:
    whole, end = await _streamed(fixture, fixture.body), _whole_at(fixture)
    came = 0
    for place in _cuts(fixture.body):
        heard = await _streamed(fixture, fixture.body[:place])
        if place < end:
            check_cut(heard, whole.events, TruncatedStreamError)
            assert len(heard.events) >= came, "more bytes, fewer events"
            came = len(heard.events)
        else:  # only token counts may still be missing
            assert heard.failure is None, place
            parts = [event for event in heard.events if isinstance(event, PartEnd)]
            assert parts == [event for event in whole.events if isinstance(event, PartEnd)]
            check_grammar(heard.events)


@pytest.mark.parametrize("fixture", _FAILING, ids=_name)
async def test_a_stream_that_is_cut_before_its_error_is_truncated(fixture: WireFixture) -> None:
    body = fixture.body
    whole = await _streamed(fixture, body)
    error = re.search(rb'"error": ?\{|"type": ?"error"', body)
    assert error is not None
    *_, before = re.finditer(rb"(\r?\n){2}", body[: error.start()])
    for place in _cuts(body[: before.start()]):
        heard = await _streamed(fixture, body[:place])
        assert type(heard.failure) is TruncatedStreamError
        assert heard.events == whole.events[: len(heard.events)]


@pytest.mark.parametrize("fixture", _PLAIN, ids=_name)
async def test_a_plain_body_that_is_cut_short_is_an_error(fixture: WireFixture) -> None:
    body = fixture.body.rstrip()
    for place in {0, 1, *range(2, len(body) - 1, 29), len(body) - 1}:
        with pytest.raises(DhenaraError) as caught:
            await fixture.client(body[:place]).generate("Go on.", config=_config(fixture.expected))
        assert isinstance(caught.value, ProtocolError | TruncatedStreamError)


def test_every_fixture_has_an_expectation() -> None:
    assert expected_shapes() == {fixture.shape for fixture in _FIXTURES}
