"""A plain answer of one text takes a short way through its decoder, and must come out as by the long one."""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from inspect import getsource
from types import ModuleType
from typing import Any, cast

import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    ChatResponse,
    Dialect,
    Message,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.body import ResponseBody
from dhenara_async.drivers.anthropic_messages import decode as anthropic_messages_decode
from dhenara_async.drivers.anthropic_messages import reading as anthropic_messages_reading
from dhenara_async.drivers.gemini import calls as gemini_calls
from dhenara_async.drivers.gemini import citing as gemini_citing
from dhenara_async.drivers.gemini import decode as gemini_decode
from dhenara_async.drivers.gemini import reading as gemini_reading
from dhenara_async.drivers.gemini import spelling as gemini_spelling
from dhenara_async.drivers.openai_chat import calls as openai_chat_calls
from dhenara_async.drivers.openai_chat import choice as openai_chat_choice
from dhenara_async.drivers.openai_chat import decode as openai_chat_decode
from dhenara_async.drivers.openai_chat import reading as openai_chat_reading
from dhenara_async.drivers.openai_chat import shapes as openai_chat_shapes
from dhenara_async.drivers.openai_responses import answer as openai_responses_answer
from dhenara_async.drivers.openai_responses import decode as openai_responses_decode
from dhenara_async.drivers.openai_responses import items as openai_responses_items
from dhenara_async.drivers.openai_responses import matching as openai_responses_matching
from dhenara_async.drivers.openai_responses import message as openai_responses_message
from dhenara_async.drivers.openai_responses import reading as openai_responses_reading
from dhenara_async.errors import ConfigurationError, DhenaraError
from dhenara_async.events import StreamEvent
from dhenara_async.hosts.registry import dialect_of, driver_for, expected_origin
from dhenara_async.request import ChatRequest
from dhenara_async.usage.tokens import Usage
from tests import recordings
from tests.cases import sample

Json = Any
GONE = object()
ASKED = (Message.user("Well?"),)


@dataclass(frozen=True, slots=True)
class Wire:
    """A dialect's plain answer of one text, as its provider sends it, and what reads it."""

    usual: Json
    decoder: type[object]
    rooms: tuple[ModuleType, ...]


WIRES = {
    Dialect.OPENAI_CHAT: Wire(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1795353600,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
            "service_tier": "default",
        },
        openai_chat_decode.ChatDecoder,
        (openai_chat_decode, openai_chat_choice, openai_chat_calls, openai_chat_shapes, openai_chat_reading),
    ),
    Dialect.OPENAI_RESPONSES: Wire(
        {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-6.2-sol",
            "output": [
                {
                    "id": "msg_1",
                    "type": "message",
                    "status": "completed",
                    "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello."}],
                    "phase": "final_answer",
                    "role": "assistant",
                }
            ],
            "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11},
        },
        openai_responses_decode.ResponsesDecoder,
        (
            openai_responses_answer,
            openai_responses_decode,
            openai_responses_items,
            openai_responses_matching,
            openai_responses_message,
            openai_responses_reading,
        ),
    ),
    Dialect.ANTHROPIC_MESSAGES: Wire(
        {
            "model": "claude-sonnet-5-5",
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "Hello.", "citations": None}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "stop_details": None,
            "usage": {"input_tokens": 9, "cache_read_input_tokens": 3, "output_tokens": 2},
        },
        anthropic_messages_decode.MessagesDecoder,
        (anthropic_messages_decode, anthropic_messages_reading),
    ),
    Dialect.GEMINI: Wire(
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "Hello.", "thoughtSignature": "c2ln"}], "role": "model"},
                    "finishReason": "STOP",
                    "index": 0,
                }
            ],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
            "modelVersion": "gemini-3.8-flash",
            "responseId": "r1",
        },
        gemini_decode.GeminiDecoder,
        (gemini_decode, gemini_reading, gemini_spelling, gemini_calls, gemini_citing),
    ),
}
VALUES: Sequence[Json] = (
    *(None, True, False, 0, 1, 1.5, "", "x", "completed", "STOP", "stop"),
    *([], {}, ["x"], [1, None], {"x": 1}, [{"text": "x"}], [{"type": "text", "text": "x"}]),
)


@dataclass(frozen=True, slots=True)
class Read:
    """What became of a body."""

    events: list[StreamEvent]
    failure: str | None
    usage: Usage | None
    response: ChatResponse


def read(endpoint: AIModelEndpoint, body: bytes) -> Read:
    """What its decoder makes of a body."""
    request = ChatRequest(ASKED, (), AIModelCallConfig(), stream=False)
    reading = ResponseBody(driver_for(endpoint).decoder(request, expected_origin(endpoint)))
    events, failure = list[StreamEvent](), None
    reading.begin("application/json")
    try:
        for chunk in (body, b""):
            events += reading.take(chunk)
    except DhenaraError as exc:
        events += reading.salvaged
        failure = f"{type(exc).__name__}: {exc}"
    accumulator = Accumulator(provider="p", model="m")
    accumulator.feed(events)
    return Read(events, failure, reading.usage, accumulator.partial())


class DirectSender:
    """Reads bodies by both ways, and counts how often the short one was taken."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.short = 0

    def same(self, endpoint: AIModelEndpoint, body: bytes) -> bool:
        decoder = WIRES[Dialect(dialect_of(endpoint))].decoder
        at_once = cast("Callable[[object, object], Sequence[StreamEvent]]", vars(decoder)["_at_once"])

        def noted(this: object, whole: object) -> Sequence[StreamEvent]:
            events = at_once(this, whole)
            self.short += bool(events)
            return events

        with self._patch.context() as patch:
            patch.setattr(decoder, "_at_once", noted)
            shortly = read(endpoint, body)
        with self._patch.context() as patch:
            patch.setattr(decoder, "_at_once", _at_length)
            return shortly == read(endpoint, body)


def _at_length(_this: object, _whole: object) -> Sequence[StreamEvent]:
    return ()


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> DirectSender:
    return DirectSender(monkeypatch)


def hosts(dialect: Dialect) -> list[AIModelEndpoint]:
    """An endpoint of every host that speaks ``dialect``."""
    made: list[AIModelEndpoint] = []
    for provider in AIModelAPIProviderEnum:
        api = AIModelAPI(provider=provider, dialect=dialect, base_url="http://127.0.0.1:1/v1", api_key=SecretStr("k"))
        endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model"))
        with suppress(ConfigurationError):
            driver_for(endpoint)
            made.append(endpoint)
    return made


def places(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to everything in a JSON value."""
    items: Iterable[tuple[str | int, Json]] = ()
    if isinstance(value, dict):
        items = cast("dict[str, Json]", value).items()
    elif isinstance(value, list):
        items = enumerate(cast("list[Json]", value))
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(value: Json, path: tuple[str | int, ...], to: Json) -> Json:
    """A copy with another value at that place; without the place where that is ``GONE``."""
    copy = at = deepcopy(value)
    for step in path[:-1]:
        at = at[step]
    if to is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = deepcopy(to)
    return copy


def vocabulary(wire: Wire) -> list[str]:
    """Every word in the rooms that read this wire: whatever they look at is among these."""
    return sorted({word for room in wire.rooms for word in re.findall(r'"([A-Za-z_]+)"', getsource(room))})


def variants(wire: Wire) -> Iterator[Json]:
    """The usual body with one thing changed, left out or added, and lists with one thing twice.

    A word that is added has a third of the values, others at each place; a soak tries all of them.
    """
    added = (*VALUES, wire.usual)
    for path in places(wire.usual):
        for value in (GONE, *VALUES):
            yield changed(wire.usual, path, value)
    for place, path in enumerate(((), *places(wire.usual))):
        at = reduce(lambda value, step: value[step], path, wire.usual)
        if isinstance(at, list):
            yield changed(wire.usual, path, [*at, *at])
        elif isinstance(at, dict):
            for number, word in enumerate(vocabulary(wire)):
                for value in sample(added, 3, place + number):
                    yield {**wire.usual, word: value} if not path else changed(wire.usual, (*path, word), value)


@pytest.mark.parametrize("dialect", WIRES)
def test_the_usual_answer_goes_the_short_way_at_every_host(dialect: Dialect, ways: DirectSender) -> None:
    endpoints = hosts(dialect)
    body = orjson.dumps(WIRES[dialect].usual)
    for words in (b"Hello.", b"<think>Hm.</think>Hello."):  # at some hosts an answer may begin with its thinking
        said = body.replace(b"Hello.", words)
        assert [endpoint for endpoint in endpoints if not ways.same(endpoint, said)] == []
    assert 0 < ways.short <= 2 * len(endpoints)


@pytest.mark.parametrize("dialect", WIRES)
def test_whatever_else_is_in_it(dialect: Dialect, ways: DirectSender) -> None:
    wire, endpoint = WIRES[dialect], hosts(dialect)[0]
    tried = [orjson.dumps(body) for body in variants(wire)]
    for body in tried:
        assert ways.same(endpoint, body), body.decode()
    assert 0 < ways.short < len(tried)


@pytest.mark.parametrize("dialect", WIRES)
def test_two_things_at_a_time(dialect: Dialect, ways: DirectSender) -> None:
    wire, endpoint, chance = WIRES[dialect], hosts(dialect)[0], random.Random(dialect)
    words = vocabulary(wire)
    for _ in sample(range(2000), 2):
        body: Json = wire.usual
        for _ in range(2):
            path = chance.choice([(), *places(body)])
            at = reduce(lambda value, step: value[step], path, body)
            if isinstance(at, dict):
                body = changed({"": body}, ("", *path, chance.choice(words)), chance.choice(VALUES))[""]
            elif path:
                body = changed(body, path, chance.choice((GONE, *VALUES)))
        assert ways.same(endpoint, orjson.dumps(body)), orjson.dumps(body).decode()


def test_names_in_snake_case(ways: DirectSender) -> None:
    """Proxies spell Gemini's names so; the short way does not look for them."""
    wire, endpoint = WIRES[Dialect.GEMINI], hosts(Dialect.GEMINI)[0]
    sound: Json = {"usageMetadata": {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}]}}
    usual: Json = {**wire.usual, "usageMetadata": {**wire.usual["usageMetadata"], **sound["usageMetadata"]}}
    assert ways.same(endpoint, orjson.dumps(usual))
    assert ways.short == 1
    for path in places(usual):
        snake = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", str(path[-1]))
        value: Json = reduce(lambda at, step: at[step], path, usual)
        if snake != str(path[-1]):
            assert ways.same(endpoint, orjson.dumps(changed(changed(usual, path, GONE), (*path[:-1], snake), value))), (
                path
            )


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("dialect", WIRES)
def test_recorded_answers(dialect: Dialect, ways: DirectSender) -> None:
    recorded = [recordings.load(name) for name in recordings.ids(framing="json")]
    answers = [each for each in recorded if each.dialect is dialect and each.status < 300]
    for each in answers:
        assert ways.same(each.endpoint("http://127.0.0.1:1/v1"), each.body), each.id
    assert 0 < ways.short < len(answers)
