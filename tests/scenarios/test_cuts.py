"""A recorded stream that is cut is never taken as whole, and what arrived before the cut is kept.

In memory, where the body simply ends, the cuts are around every line end and at every fifth byte between;
``DHENARA_SOAK=1`` tries every byte, of longer streams. A sample goes over real sockets, by a reset and in good order,
with and without a framing that gives the cut away.
"""

import os
import re
from dataclasses import replace
from functools import cache
from random import Random
from typing import Literal

import anyio
import pytest

from dhenara_async import AIModelClient, Dialect
from dhenara_async.errors import DhenaraError, ReadError, TruncatedStreamError
from dhenara_async.events import PartEnd, StreamEnd
from dhenara_async.testing import Fault, ProviderServer, ReplayTransport, check_grammar
from tests import recordings
from tests.loopback import PATIENCE, SPEAKERS, endpoint_at
from tests.recordings import Recording
from tests.replays import Heard, check_cut, listen

pytestmark = pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)

DIALECTS = tuple(SPEAKERS)
SOAK = os.environ.get("DHENARA_SOAK") == "1"
LARGEST = (20 if SOAK else 6) * 1024
"""The most bytes of a stream; a longer one takes its square in time."""
SAMPLE = 12
_ENDS = {
    Dialect.ANTHROPIC_MESSAGES: rb'"type": ?"message_stop"',
    Dialect.OPENAI_RESPONSES: rb'"type": ?"response\.completed"',
    Dialect.OPENAI_CHAT: rb'"finish_reason": ?"',
    Dialect.GEMINI: rb'"finishReason": ?"',
}


@cache
def chosen(dialect: Dialect) -> Recording:
    """The recorded stream of ``dialect`` with the most to cut: reasoning, signatures and tool calls, then size."""
    rows = [row for row in recordings.index() if recordings.DIALECTS[str(row["api"])] is dialect]
    streams = [recordings.load(str(row["id"])) for row in rows if row["framing"] == "sse"]
    telling = ("tool_calls", "reasoning", "signature")
    fit = [
        recording
        for recording in streams
        if recording.status == 200
        and recording.expect["kind"] == "message"
        and recording.id not in recordings.EXCEPTIONS
        and re.search(_ENDS[dialect], recording.body)
        and len(recording.body) <= LARGEST
    ]
    return max(fit, key=lambda recording: (sum(tag in recording.features for tag in telling), len(recording.body)))


def whole_at(recording: Recording) -> int:
    """How many bytes have to be there before anybody may call it whole: the line that says so, without its end."""
    says = list(re.finditer(_ENDS[recording.dialect], recording.body))
    end = says[0] if recording.dialect is Dialect.OPENAI_CHAT else says[-1]  # some hosts say it again with the usage
    line = re.compile(rb"[^\r\n]*").match(recording.body, end.end())
    assert line is not None
    return line.end()


async def replayed(recording: Recording, body: bytes) -> Heard:
    """A call that is answered with ``body``, from memory."""
    transport = ReplayTransport(body, headers=recording.headers)
    return await listen(AIModelClient(recording.endpoint("http://127.0.0.1"), transport=transport))


def places_to_cut(body: bytes) -> list[int]:
    """Every place with ``DHENARA_SOAK=1``; else those around line ends, where a cut matters, and a sample of others."""
    if SOAK:
        return list(range(len(body)))
    ends = (match.start() for match in re.finditer(rb"[\r\n]", body))
    around = (place for end in ends for place in range(end - 1, end + 3))
    return sorted({*range(0, len(body), 5), *(place for place in around if 0 <= place < len(body))})


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_cut_at_any_byte_keeps_what_arrived_and_is_never_whole(dialect: Dialect) -> None:
    recording = chosen(dialect)
    body, end = recording.body, whole_at(recording)
    whole = await replayed(recording, body)
    full = whole.events
    assert whole.failure is None
    check_grammar(full)
    parts = [event for event in full if isinstance(event, PartEnd)]
    assert len(parts) >= 1
    assert end > len(body) // 2
    came = 0
    for place in places_to_cut(body):
        heard = await replayed(recording, body[:place])
        if place < end:
            check_cut(heard, full, TruncatedStreamError)
            assert len(heard.events) >= came, "more bytes, fewer events"
            came = len(heard.events)
        else:  # what may still be missing is a count of tokens
            assert heard.failure is None, place
            assert [event for event in heard.events if isinstance(event, PartEnd)] == parts
            assert isinstance(heard.events[-1], StreamEnd)
            check_grammar(heard.events)
    assert came > 2


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("ending", "framing", "error"),
    [
        ("reset", "chunked", ReadError),
        ("eof", "chunked", ReadError),
        ("reset", "length", ReadError),
        ("eof", "length", ReadError),
        ("eof", "close", TruncatedStreamError),
    ],
)
async def test_a_stream_cut_on_a_real_socket_is_an_error(
    dialect: Dialect,
    ending: Literal["reset", "eof"],
    framing: Literal["chunked", "length", "close"],
    error: type[DhenaraError],
) -> None:
    recording = chosen(dialect)
    headers = {"content-type": "text/event-stream"}
    good = Fault(body=recording.body, headers=headers)
    places = sorted({0, 1, whole_at(recording) - 1, *Random(7).sample(range(whole_at(recording)), SAMPLE)})
    cuts = [replace(good, cut=place, ending=ending, framing=framing) for place in places]
    async with ProviderServer([good, *cuts]) as server:
        client = AIModelClient(endpoint_at(server, dialect))
        full = await listen(client)
        assert full.failure is None
        start, *rest = full.events
        for number in range(len(cuts)):
            heard = await listen(client)
            if heard.events:  # the start tells the request's own id
                assert type(heard.events[0]) is type(start)
                heard.events[0] = start
            check_cut(heard, [start, *rest], error)
            with anyio.fail_after(PATIENCE):
                await server.wait_closed(number + 2)
        assert [closing.by for closing in server.closed] == ["client", *["server"] * len(cuts)]
        assert len(server.requests) == len(cuts) + 1
