"""However the network cuts a body, the events are the same: framing and decoding in memory, over recorded streams.

Cuts fall inside characters, inside lines, between ``\\r`` and ``\\n`` and between events. One byte at a time and random
cuts go over every stream; every single place to cut in two goes over small streams that were chosen for their oddities.
The tools that this takes, which users have as well, are tested first.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from dhenara_async import AIModelClient
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import Dialect
from dhenara_async.errors import ConfigurationError, DhenaraError
from dhenara_async.events import (
    ChoiceFinish,
    Heartbeat,
    PartEnd,
    PartStart,
    ReasoningDelta,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamStart,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from dhenara_async.framing import Frame, Framer, name_of
from dhenara_async.framing.sse import SSEFramer
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import FilePart, Message, ReasoningPart, TextPart, ToolCallPart
from dhenara_async.request import ChatRequest
from dhenara_async.response import ChatResponse, FinishReason, Usage
from dhenara_async.testing import ReplayTransport, check_grammar, split_bytes, split_everywhere, split_randomly
from tests import recordings
from tests.cases import SOAK, cases
from tests.loopback import ONCE
from tests.recordings import Recording

_needs_recordings = pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)

# ---------------------------------------------------------------------------------------------------- the tools

_START = StreamStart(model="m", provider="p")
_END = StreamEnd(FinishReason.STOP, "stop", (ChoiceFinish(0, FinishReason.STOP, "stop"),))
_GOOD: tuple[StreamEvent, ...] = (
    _START,
    PartStart(0, "text"),
    TextDelta(0, "Hi"),
    PartStart(1, "tool_call", call_id="c", name="add"),
    TextDelta(0, "!"),
    ToolCallDelta(1, '{"a":1}'),
    PartEnd(1, ToolCallPart(call_id="c", name="add", arguments='{"a":1}')),
    UsageUpdate(Usage()),
    PartEnd(0, TextPart(text="Hi!")),
    Heartbeat(),
    PartStart(2, "tool_call", call_id="d", name="now"),
    PartEnd(2, ToolCallPart(call_id="d", name="now", arguments="{}")),
    PartStart(3, "file"),
    PartEnd(3, FilePart(media_type="image/png", url="https://example.com/a.png")),
    _END,
)


def _with(place: int, *events: StreamEvent) -> tuple[StreamEvent, ...]:
    """A good stream with the event at ``place`` replaced."""
    return (*_GOOD[:place], *events, *_GOOD[place + 1 :])


_BROKEN: list[tuple[str, tuple[StreamEvent, ...]]] = [
    ("event 0: StreamStart comes first", _GOOD[1:]),
    ("event 1: StreamStart comes once", (_START, *_GOOD)),
    ("event 3: part ids are 0, 1, 2", _with(3, PartStart(2, "tool_call"))),
    ("event 3: part ids are 0, 1, 2", _with(3, PartStart(0, "tool_call"))),
    ("event 2: a delta belongs to an open part, but part 1 was never", _with(2, TextDelta(1, "Hi"))),
    ("event 2: a delta belongs to an open part, but part -1 was never", _with(2, TextDelta(-1, "Hi"))),
    ("event 9: a delta belongs to an open part, but part 0 has already ended", _with(9, TextDelta(0, "Hi"))),
    ("event 2: a delta has the kind of its part", _with(2, ReasoningDelta(0, "Hi"))),
    ("event 5: a delta has the kind of its part", _with(5, TextDelta(1, '{"a":1}'))),
    ("event 7: a part is its deltas, joined", _with(4)),
    ("event 5: a part is its deltas, joined", _with(5)),
    ("event 8: the part of PartEnd has the kind of its PartStart", _with(8, PartEnd(0, ReasoningPart(text="Hi!")))),
    ("event 11: a part keeps the name and the call id", _with(11, PartEnd(2, ToolCallPart(call_id="e", name="now")))),
    ("event 9: a part ends once", _with(9, PartEnd(0, TextPart(text="Hi!")))),
    ("event 13: every part ends before StreamEnd, but these are open: [0]", _with(8)),
    ("event 14: a stream ends with StreamEnd", _GOOD[:-1]),
    ("event 0: a stream ends with StreamEnd", ()),
    ("event 15: nothing follows StreamEnd", (*_GOOD, UsageUpdate(Usage()))),
    ("event 14: StreamEnd has the finish reason of every choice", _with(14, StreamEnd(FinishReason.STOP))),
    (
        "event 14: StreamEnd has the finish reason of every choice, but it lacks [0]",
        _with(14, StreamEnd(FinishReason.STOP, choices=(ChoiceFinish(1, FinishReason.STOP),))),
    ),
    ("event 14: StreamEnd's reason is", _with(14, StreamEnd(FinishReason.LENGTH, choices=_END.choices))),
    ("event 4: a delta belongs to an open part", _with(3, StreamReset("fail-over"))),
]


@pytest.mark.parametrize(("rule", "events"), _BROKEN)
def test_grammar_check_names_the_broken_rule(rule: str, events: Sequence[StreamEvent]) -> None:
    with pytest.raises(AssertionError) as caught:
        check_grammar(events)
    assert str(caught.value).startswith(rule)


def test_grammar_check_takes_what_is_legal() -> None:
    check_grammar(_GOOD)
    check_grammar((*_GOOD[:5], StreamReset("fail-over"), *_GOOD[1:]))  # ids begin anew
    check_grammar((_START, _END))
    for length in range(len(_GOOD)):
        check_grammar(_GOOD[:length], complete=False)


def test_splits_join_to_the_body_and_are_all_there() -> None:
    body = "data: é\n\n".encode()
    ways = list(split_everywhere(body))
    assert all(b"".join(way) == body and all(way) for way in ways)
    assert ways[0] == (body,)
    assert ways[1] == split_bytes(body)
    assert [len(way[0]) for way in ways[2:]] == list(range(1, len(body)))
    assert list(split_everywhere(b"")) == []
    long = bytes(range(256)) * 4
    assert b"".join(split_randomly(long, seed=1)) == long
    assert split_randomly(long, seed=1) == split_randomly(long, seed=1) != split_randomly(long, seed=2)
    assert max(map(len, split_randomly(long, seed=1, longest=3))) == 3


def test_replay_transport_refuses_other_chunks_and_shows_no_key() -> None:
    with pytest.raises(ConfigurationError, match="must join"):
        ReplayTransport(b"abc", chunks=(b"a", b"b"))
    assert repr(ReplayTransport(b"abc", status=404)) == "ReplayTransport(status=404, 3 bytes, 0 requests seen)"


# ---------------------------------------------------------------------------------------------------- the streams

_SEEDS = (1, 2)
_LARGEST = 12 * 1024
_CHOSEN_PER_DIALECT = 12

_ODDITIES: dict[str, Callable[[Recording], bool]] = {
    "characters of several bytes": lambda recording: not recording.body.isascii(),
    "a long line": lambda recording: max(map(len, recording.body.splitlines())) > 1500,
    "comments": lambda recording: recording.body.startswith(b":") or b"\n:" in recording.body,
    "carriage returns": lambda recording: b"\r\n" in recording.body,
    "no carriage returns": lambda recording: b"\r" not in recording.body,
    "an unterminated last event": lambda recording: "unterminated_last_event" in recording.features,
    "tool calls": lambda recording: "tool_calls" in recording.features,
    "several tool calls": lambda recording: "parallel_tools" in recording.features,
    "reasoning": lambda recording: "reasoning" in recording.features,
    "a signature": lambda recording: "signature" in recording.features,
    "a refusal": lambda recording: "refusal" in recording.features,
    "hosted tools": lambda recording: "web_search" in recording.features or "code_execution" in recording.features,
    "a failure inside": lambda recording: recording.expect["kind"] == "stream_error",
    "no finish": lambda recording: recording.id in recordings.EXCEPTIONS,
}


@dataclass(frozen=True, slots=True)
class _Told:
    """Everything that came out of one body."""

    frames: list[Frame]
    events: list[StreamEvent]
    response: ChatResponse
    failure: tuple[type[DhenaraError], str] | None


class _PlainBody:
    """A framer for a body that is one frame."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Frame]:
        self._pieces.append(chunk)
        return []

    def finish(self) -> list[Frame]:
        return [b"".join(self._pieces)]


def _tell(recording: Recording, chunks: Iterable[bytes]) -> _Told:
    """Frame, decode and fold ``chunks`` as a stream does, without one. A plain body is one frame."""
    endpoint = recording.endpoint("http://127.0.0.1")
    origin = expected_origin(endpoint)
    question = ChatRequest.of(
        [Message.user("Go on.")], instructions=(), config=AIModelCallConfig(), stream=recording.stream
    )
    decoder = driver_for(endpoint).decoder(question, origin)
    framer: Framer = SSEFramer() if recording.framing == "sse" else _PlainBody()
    accumulator = Accumulator(provider=origin.provider, model=origin.model)
    frames: list[Frame] = []
    events: list[StreamEvent] = []

    def take(new: Sequence[Frame]) -> None:
        frames.extend(new)
        for frame in new:
            events.extend(decoder.feed(frame))

    failure: DhenaraError | None = None
    try:
        for chunk in chunks:
            take(framer.feed(chunk))
        take(framer.finish())
        events.extend(decoder.finish())
    except DhenaraError as exc:
        failure = exc
    accumulator.feed(events)
    return _Told(
        frames,
        events,
        accumulator.response() if accumulator.finished else accumulator.partial(),
        None if failure is None else (type(failure), str(failure)),
    )


def _named_frames(chunks: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The frames of a stream, with the names that their events have."""
    framer = SSEFramer()
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)]
    return [(name_of(frame), bytes(frame)) for frame in (*frames, *framer.finish())]


@cache
def _chosen() -> list[str]:
    """For each dialect the smallest stream of every oddity, then the smallest of the rest."""
    streams = [recordings.load(recording_id) for recording_id in recordings.ids(framing="sse")]
    small = sorted((stream for stream in streams if len(stream.body) <= _LARGEST), key=lambda stream: len(stream.body))
    chosen: list[str] = []
    for dialect in Dialect:
        speaking = [stream for stream in small if stream.dialect is dialect]
        odd = (next((stream.id for stream in speaking if is_odd(stream)), None) for is_odd in _ODDITIES.values())
        order = dict.fromkeys([*(found for found in odd if found), *(stream.id for stream in speaking)])
        chosen += list(order)[:_CHOSEN_PER_DIALECT]
    return chosen


@_needs_recordings
def test_every_place_to_cut_gives_the_same_events() -> None:
    """A decoder sees frames alone, so equal frames are equal events; the next test decodes other cuts as well."""
    with cases() as case:
        for recording_id in _chosen():
            body = recordings.load(recording_id).body
            whole = _named_frames([body])
            with case(recording_id):
                for chunks in split_everywhere(body):
                    assert _named_frames(chunks) == whole, f"cut after {len(chunks[0])} bytes"


@_needs_recordings
@pytest.mark.parametrize("api", recordings.DIALECTS)
def test_any_stream_may_come_in_small_pieces(api: str) -> None:
    """Every stream comes in random pieces, and one in three of them byte by byte; a soak cuts all in all ways."""
    streams = [recording_id for recording_id in recordings.ids(framing="sse") if recording_id.startswith(f"{api}/")]
    with cases() as case:
        for number, recording in enumerate(map(recordings.load, streams)):
            with case(recording.id):
                whole = _tell(recording, [recording.body])
                check_grammar(whole.events, complete=whole.failure is None)
                if SOAK or number % 3 == 0:
                    assert _tell(recording, split_bytes(recording.body)) == whole, "byte by byte"
                for seed in _SEEDS if SOAK else (number,):
                    assert _tell(recording, split_randomly(recording.body, seed=seed)) == whole, f"seed {seed}"


@_needs_recordings
@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_lines_may_end_in_any_way(line_end: bytes) -> None:
    with cases() as case:
        for recording in map(recordings.load, _chosen()):
            with case(recording.id):
                whole = _tell(recording, [recording.body])
                body = recording.body.replace(b"\r\n", b"\n").replace(b"\n", line_end)
                randomly = (split_randomly(body, seed=seed, longest=8) for seed in _SEEDS)
                for chunks in ((body,), split_bytes(body), *randomly):
                    assert _tell(recording, chunks) == whole


@_needs_recordings
async def test_a_stream_that_is_not_announced_is_recognised() -> None:
    """No content type, a blank line first, and reads of one byte: what the body is has to be told from its start."""
    with cases() as case:
        for recording in map(recordings.load, _chosen()):
            with case(recording.id):
                await _check_unannounced(recording)


async def _check_unannounced(recording: Recording) -> None:
    whole = _tell(recording, [recording.body])
    body = b"\r\n" + recording.body
    transport = ReplayTransport(body, chunks=split_bytes(body))
    events: list[StreamEvent] = []
    failure: DhenaraError | None = None
    client = AIModelClient(recording.endpoint("http://127.0.0.1"), ONCE, transport=transport)
    async with client.stream("Go on.") as stream:
        try:
            async for event in stream:
                events.append(event)
        except DhenaraError as exc:
            failure = exc
    assert events == whole.events
    if whole.failure is None:
        assert failure is None
    else:  # the stream quotes the start of a body that gave nothing at all
        kind, message = whole.failure
        assert type(failure) is kind and str(failure).startswith(message)
    assert [request.url.startswith("http://127.0.0.1/") for request in transport.requests] == [True]
    assert "key" not in repr(transport.requests)


@_needs_recordings
@pytest.mark.parametrize("api", recordings.DIALECTS)
def test_a_plain_answer_follows_the_grammar_too(api: str) -> None:
    plain = [recording_id for recording_id in recordings.ids(framing="json") if recording_id.startswith(f"{api}/")]
    with cases() as case:
        for recording in map(recordings.load, plain):
            if recording.status == 200:
                with case(recording.id):
                    told = _tell(recording, [recording.body])
                    check_grammar(told.events, complete=told.failure is None)


@_needs_recordings
def test_chosen_streams_have_every_oddity() -> None:
    chosen = [recordings.load(recording_id) for recording_id in _chosen()]
    assert len(chosen) == _CHOSEN_PER_DIALECT * len(Dialect)
    missing = [oddity for oddity, is_odd in _ODDITIES.items() if not any(map(is_odd, chosen))]
    assert not missing
