"""Broken answers end in an answer or in an error of ours; what is merely unknown changes nothing."""

import random
from itertools import islice

import orjson
import pytest

from dhenara_async import AIModelClient, AIModelEndpoint, ChatResponse
from dhenara_async.errors import DhenaraError
from dhenara_async.testing import ReplayTransport
from tests import fuzz, recordings
from tests.recordings import Recording

needs_recordings = pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)

_STREAMS = recordings.ids(framing="sse")[::6]
_FUTURE = (b'event: future.thing\ndata: {"type":"future.thing","news":[1,{"a":null}]}\n\n', b": keep-alive\n\n")


@needs_recordings
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_comes_the_call_ends_in_order(seed: int) -> None:
    seen: set[bool] = set()
    for name, recording, body in islice(fuzz.cases(seed), 150):
        try:
            error = await fuzz.outcome(recording, body)
        except Exception as exc:  # noqa: BLE001 - the point is that there is no other exception
            pytest.fail(f"{name}: {exc!r}")
        assert error is None or isinstance(error, DhenaraError)
        seen.add(error is None)
    assert seen == {True, False}  # breaking does something, but not everything breaks


@needs_recordings
@pytest.mark.parametrize("recording_id", _STREAMS)
async def test_unknown_events_and_fields_change_nothing(recording_id: str) -> None:
    recording = recordings.load(recording_id)
    chance = random.Random(recording_id)
    expected = await _meaning(recording, recording.body)
    assert await _meaning(recording, _with_unknown_fields(recording.body, chance)) == expected
    if b"\r" not in recording.body:
        assert await _meaning(recording, _with_unknown_events(recording.body, chance)) == expected


def _with_unknown_events(body: bytes, chance: random.Random) -> bytes:
    events = body.split(b"\n\n")
    for _ in range(5):
        events.insert(chance.randrange(max(1, len(events) - 1)), chance.choice(_FUTURE).removesuffix(b"\n\n"))
    return b"\n\n".join(events)


def _with_unknown_fields(body: bytes, chance: random.Random) -> bytes:
    lines = body.split(b"\n")
    for at, line in enumerate(lines):
        if line.startswith(b"data: {") and chance.random() < 0.5:
            value: object = orjson.loads(line.removeprefix(b"data: "))
            _add_fields(value, chance)
            lines[at] = b"data: " + orjson.dumps(value)
    return b"\n".join(lines)


def _add_fields(value: object, chance: random.Random) -> None:
    """Fields nobody knows, in the frames of the protocol; not inside what is the caller's (arguments, results)."""
    if isinstance(value, list):
        items: list[object] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        for item in items:
            _add_fields(item, chance)
    elif isinstance(value, dict):
        fields: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        for name in list(fields):
            if name not in ("args", "input", "arguments", "delta", "metadata", "parts"):
                _add_fields(fields[name], chance)
        fields[f"x_future_{chance.randrange(9)}"] = chance.choice([None, 1, "new", [], {"deep": [1]}])


async def _meaning(recording: Recording, body: bytes) -> object:
    """What a person would notice of an answer."""
    client = AIModelClient(
        recording.endpoint("http://127.0.0.1"), transport=ReplayTransport(body, headers=recording.headers)
    )
    async with client.stream("Go on.") as stream:
        try:
            answer = (await stream.collect()).chat_response
        except DhenaraError as exc:
            answer = stream.partial.chat_response
            return type(exc), _plainly(answer)
    return _plainly(answer)


def _plainly(answer: ChatResponse) -> object:
    calls = [(call.call_id, call.name, call.arguments) for call in answer.tools()]
    words = (answer.text(), answer.reasoning(), answer.refusal())
    return words, calls, answer.finish_reason, answer.raw_finish_reason, answer.usage, answer.response_id


@needs_recordings
async def test_a_huge_event_is_an_answer_like_any_other() -> None:
    recording = recordings.load(next(row for row in recordings.ids(framing="sse") if row.startswith("openai_chat/")))
    first = recording.body.split(b"\n\n", 1)[0]
    chunk = orjson.loads(first.removeprefix(b"data: "))
    text = "w" * (32 * 1024 * 1024)
    chunk["choices"] = [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]
    endpoint: AIModelEndpoint = recording.endpoint("http://127.0.0.1")
    body = b"data: " + orjson.dumps(chunk) + b"\n\ndata: [DONE]\n\n"
    client = AIModelClient(endpoint, transport=ReplayTransport(body, headers=recording.headers))
    async with client.stream("Go on.") as stream:
        assert (await stream.collect()).text() == text
