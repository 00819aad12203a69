"""Everything that can go wrong with an answer, on purpose, over real sockets: each fault in every dialect, both ways.

``ROWS`` is the table: what is done to an answer, and what the library has to say about it, streamed and plain. A cell
is one row in one dialect, one way; where a dialect differs, the row says so. Each cell is tried without retries, with
two of them while the fault stays, and with two of them where it goes away after the first request. The cells of a row
are tried at once.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Literal

import anyio
import anyio.lowlevel
import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import AIModel, AIModelAPI, AIModelClient, AIModelEndpoint, Dialect
from dhenara_async.calls.input import CallInput
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.config import AIModelCallConfig, RetryPolicy, Timeouts
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    DeadlineError,
    DhenaraError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ReadError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.events import PartEnd, StreamEvent, StreamReset, StreamStart, TextDelta
from dhenara_async.messages.messages import Message
from dhenara_async.testing import Answer, Closing, Fault, ProviderServer, ReplayTransport, ScriptedError, check_grammar
from dhenara_async.testing.faults import codings, compressed
from dhenara_async.testing.script import Script
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from dhenara_async.transport.decompression import ACCEPTED
from tests.cases import cases
from tests.loopback import PATIENCE, SPEAKERS, endpoint_at
from tests.steady import steady
from tests.wire_lies import FAILURES, LIES, Failure, Lie, sse

WORDS = ("One", " two", " three", " four.")
WHOLE = "".join(WORDS)
ANSWER = Answer(WHOLE, pieces=WORDS)
HALF = "One two"
PAGE = b"<!DOCTYPE html><html><body>Gateway of the canteen</body></html>"
SHORT = 0.2
BRIEF = 0.01
LONG = Timeouts(first_byte=PATIENCE, between_bytes=PATIENCE)
PASSED = asyncio.Event()
PASSED.set()
QUESTION = [Message.user("Count.")]
CONTENT = {
    Dialect.OPENAI_CHAT: (1, 1),
    Dialect.OPENAI_RESPONSES: (2, 4),
    Dialect.ANTHROPIC_MESSAGES: (1, 3),
    Dialect.GEMINI: (0, 0),
}
"""How many events come before the part with the words is opened, and before the first word."""


@dataclass(frozen=True, slots=True)
class Where:
    """Places in the good answer of one dialect, for a fault to be put at.

    Attributes:
        opening: The event that opens the part with the words; 0 for a plain body.
        first: The event with the first word; 0 for a plain body.
        third: The event with the third word; 1, the second half, for a plain body.
        byte: How many bytes come before the third word.
        packed: How many bytes come before it, in the event with it, where the body is compressed with gzip.
    """

    opening: int
    first: int
    third: int
    byte: int
    packed: int


@dataclass(frozen=True, slots=True)
class Then:
    """What comes of a fault.

    Attributes:
        error: What is raised, exactly; None = the answer is whole.
        kept: The text that there is all the same.
        again: Whether the call is made again where it may be.
        limit: Which of our time limits ran out.
        altered: Whether the answer, as far as it came, is another than the good one.
    """

    error: type[DhenaraError] | None = None
    kept: str = ""
    again: bool = False
    limit: str | None = None
    altered: bool = False


CLEAN = Then(kept=WHOLE)
BROKEN = Then(ReadError, again=True)
TRUNCATED = Then(TruncatedStreamError, again=True)
NONSENSE = Then(ProtocolError, again=True)
LIMITED = Then(RateLimitError, again=True)
DIALECTS = tuple(SPEAKERS)
WAYS = (True, False)


@dataclass(frozen=True, slots=True)
class Row:
    """One fault and what comes of it.

    Attributes:
        name: What it is.
        make: The fault, at the places of the dialect's answer.
        streamed: What comes of it in a stream.
        plain: What comes of it in a plain body.
        but: What comes of it instead in some dialects, by ``(dialect, whether streamed)``.
        timeouts: The call's limits.
        closer: Which side has to end the connection.
    """

    name: str
    make: Callable[[Where], Fault]
    streamed: Then
    plain: Then
    but: Mapping[tuple[Dialect, bool], Then] = field(default_factory=dict[tuple[Dialect, bool], Then])
    timeouts: Timeouts = LONG
    closer: Literal["client", "server"] = "client"

    def then(self, dialect: Dialect, streamed: bool) -> Then:
        """What comes of it in a cell."""
        return self.but.get((dialect, streamed)) or (self.streamed if streamed else self.plain)


def refusal(status: int, *, code: str | None = None, retry_info: float | None = None, **headers: str) -> ScriptedError:
    """A failure; header names with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ScriptedError(status, "Not now, please.", code=code, headers=named, retry_info=retry_info)


def both(
    name: str,
    make: Callable[[Where], Fault],
    then: Then,
    *,
    but: Mapping[tuple[Dialect, bool], Then] | None = None,
    timeouts: Timeouts = LONG,
    closer: Literal["client", "server"] = "client",
) -> Row:
    """A row whose outcome is the same both ways."""
    return Row(name, make, then, then, but or {}, timeouts, closer)


NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def date(seconds: float = 0) -> str:
    """A header's date, so many seconds after noon."""
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


ROWS: Sequence[Row] = (
    both("nothing", lambda at: Fault(answer=ANSWER), CLEAN),
    both("refuse 400", lambda at: Fault(answer=refusal(400)), Then(InvalidRequestError)),
    both("refuse 401", lambda at: Fault(answer=refusal(401)), Then(AuthenticationError)),
    both("refuse 429", lambda at: Fault(answer=refusal(429)), LIMITED),
    both("refuse 500", lambda at: Fault(answer=refusal(500)), Then(ServerError, again=True)),
    both("refuse 503", lambda at: Fault(answer=refusal(503)), Then(OverloadedError, again=True)),
    both("refuse, retry-after-ms", lambda at: Fault(answer=refusal(429, retry_after_ms="1")), LIMITED),
    both("refuse, retry-after", lambda at: Fault(answer=refusal(429, retry_after="0")), LIMITED),
    both(
        "refuse, retry-after as a date",
        lambda at: Fault(answer=refusal(429, retry_after=date(), date=date())),
        LIMITED,
    ),
    both(
        "refuse, retry-after too long", lambda at: Fault(answer=refusal(429, retry_after="3600")), Then(RateLimitError)
    ),
    both(
        "refuse, retry-after a date too far",
        lambda at: Fault(answer=refusal(429, retry_after=date(3600), date=date())),
        Then(RateLimitError),
    ),
    both(
        "refuse, RetryInfo too long",
        lambda at: Fault(answer=refusal(429, retry_info=3600.0)),
        LIMITED,
        but={(Dialect.GEMINI, way): Then(RateLimitError) for way in WAYS},
    ),
    both(
        "refuse, x-should-retry: false",
        lambda at: Fault(answer=refusal(500, x_should_retry="false")),
        Then(ServerError),
    ),
    both(
        "refuse, x-should-retry: true",
        lambda at: Fault(answer=refusal(400, x_should_retry="true")),
        Then(InvalidRequestError, again=True),
    ),
    both(
        "refuse with a page",
        lambda at: Fault(answer=refusal(503), body=PAGE, headers={"content-type": "text/html"}),
        Then(OverloadedError, again=True),
    ),
    both(
        "refuse, cut in the body",
        lambda at: Fault(answer=refusal(503), cut=9),
        Then(OverloadedError, again=True),
        closer="server",
    ),
    both(
        "refuse, stall in the body",
        lambda at: Fault(answer=refusal(503), stall=1),
        Then(OverloadedError, again=True),
        timeouts=Timeouts(between_bytes=SHORT),
    ),
    both(
        "stall before the head",
        lambda at: Fault(answer=ANSWER, stall="head"),
        Then(DeadlineError, again=True, limit="first_byte"),
        timeouts=Timeouts(first_byte=SHORT),
    ),
    both(
        "stall before the first event",
        lambda at: Fault(answer=ANSWER, stall=0),
        Then(DeadlineError, again=True, limit="between_bytes"),
        timeouts=Timeouts(between_bytes=SHORT),
    ),
    both(
        "stall before the first word",
        lambda at: Fault(answer=ANSWER, stall=at.opening),
        Then(DeadlineError, again=True, limit="between_bytes"),
        timeouts=Timeouts(between_bytes=SHORT),
    ),
    both(
        "stall before the first word, limited",
        lambda at: Fault(answer=ANSWER, stall=at.opening),
        Then(DeadlineError, limit="first_content"),
        timeouts=Timeouts(first_content=SHORT),
    ),
    Row(
        "stall between words",
        lambda at: Fault(answer=ANSWER, stall=at.third),
        Then(DeadlineError, HALF, limit="between_bytes"),
        Then(DeadlineError, again=True, limit="between_bytes"),
        timeouts=Timeouts(between_bytes=SHORT),
    ),
    Row(
        "stall between words, limited",
        lambda at: Fault(answer=ANSWER, stall=at.third),
        Then(DeadlineError, HALF, limit="between_content"),
        Then(DeadlineError, again=True, limit="between_content"),
        timeouts=Timeouts(between_content=SHORT),
    ),
    Row(
        "stall between words, the whole limited",
        lambda at: Fault(answer=ANSWER, stall=at.third),
        Then(DeadlineError, HALF, limit="total"),
        Then(DeadlineError, limit="total"),
        timeouts=Timeouts(total=SHORT),
    ),
    both("stall for a moment", lambda at: Fault(answer=ANSWER, stall=at.third, seconds=BRIEF), CLEAN),
    both("stall before the head for a moment", lambda at: Fault(answer=ANSWER, stall="head", seconds=BRIEF), CLEAN),
    both(  # a plain body has told its length; no event of Gemini's says that it is the last
        "stall at the end",
        lambda at: Fault(answer=ANSWER, stall="end"),
        CLEAN,
        but={(Dialect.GEMINI, True): Then(DeadlineError, WHOLE, limit="between_bytes")},
        timeouts=Timeouts(between_bytes=SHORT),
    ),
    both("trickle", lambda at: Fault(answer=ANSWER, trickle=True), CLEAN),
    both("reset before the head", lambda at: Fault(answer=ANSWER, cut="head"), BROKEN, closer="server"),
    both("eof before the head", lambda at: Fault(answer=ANSWER, cut="head", ending="eof"), BROKEN, closer="server"),
    both("reset before the body", lambda at: Fault(answer=ANSWER, cut=0), BROKEN, closer="server"),
    both("eof before the body", lambda at: Fault(answer=ANSWER, cut=0, ending="eof"), BROKEN, closer="server"),
    Row(
        "eof before a body without length",
        lambda at: Fault(answer=ANSWER, cut=0, ending="eof", framing="close"),
        TRUNCATED,
        NONSENSE,
        closer="server",
    ),
    Row(
        "reset in a word",
        lambda at: Fault(answer=ANSWER, cut=at.byte),
        Then(ReadError, HALF),
        BROKEN,
        closer="server",
    ),
    Row(
        "eof in a word",
        lambda at: Fault(answer=ANSWER, cut=at.byte, ending="eof"),
        Then(ReadError, HALF),
        BROKEN,
        closer="server",
    ),
    Row(
        "eof in a word of a body without length",
        lambda at: Fault(answer=ANSWER, cut=at.byte, ending="eof", framing="close"),
        Then(TruncatedStreamError, HALF),
        NONSENSE,
        closer="server",
    ),
    both(
        "reset before a body without length",
        lambda at: Fault(answer=ANSWER, cut=0, framing="close"),
        BROKEN,
        closer="server",
    ),
    Row(
        "reset in a word of a body without length",
        lambda at: Fault(answer=ANSWER, cut=at.byte, framing="close"),
        Then(ReadError, HALF),
        BROKEN,
        closer="server",
    ),
    Row(
        "eof in a word of a stream with a length",
        lambda at: Fault(answer=ANSWER, cut=at.byte, ending="eof", framing="length"),
        Then(ReadError, HALF),
        BROKEN,
        closer="server",
    ),
    both("a body without length", lambda at: Fault(answer=ANSWER, framing="close"), CLEAN, closer="server"),
    both("a body with a length", lambda at: Fault(answer=ANSWER, framing="length"), CLEAN),
    both("a body in chunks", lambda at: Fault(answer=ANSWER, framing="chunked"), CLEAN),
    both("reset while idle", lambda at: Fault(answer=ANSWER, cut="idle"), CLEAN, closer="server"),
    both("eof while idle", lambda at: Fault(answer=ANSWER, cut="idle", ending="eof"), CLEAN, closer="server"),
    both(
        "error first",
        lambda at: Fault(answer=ANSWER, error=refusal(500, code="server_error")),
        Then(ServerError, again=True),
    ),
    Row(
        "error before the first word",
        lambda at: Fault(answer=ANSWER, error=refusal(500, code="server_error"), error_at=at.opening),
        Then(ServerError, again=True),
        Then(ServerError, again=True),
    ),
    Row(
        "error between words",
        lambda at: Fault(answer=ANSWER, error=refusal(500, code="server_error"), error_at=at.third),
        Then(ServerError, HALF),
        Then(ServerError, again=True),
    ),
    Row(
        "error of limits between words",
        lambda at: Fault(answer=ANSWER, error=refusal(429, code="rate_limit_exceeded"), error_at=at.third),
        Then(RateLimitError, HALF),
        LIMITED,
    ),
    both("bad JSON first", lambda at: Fault(answer=ANSWER, corrupt="json"), NONSENSE),
    Row(
        "bad JSON between words",
        lambda at: Fault(answer=ANSWER, corrupt="json", corrupt_at=at.third),
        Then(ProtocolError, HALF),
        NONSENSE,
    ),
    both("bad UTF-8 first", lambda at: Fault(answer=ANSWER, corrupt="utf-8"), NONSENSE),
    Row(
        "bad UTF-8 between words",
        lambda at: Fault(answer=ANSWER, corrupt="utf-8", corrupt_at=at.third),
        Then(ProtocolError, HALF),
        NONSENSE,
    ),
    both("called JSON", lambda at: Fault(answer=ANSWER, headers={"content-type": "application/json"}), CLEAN),
    both("called text", lambda at: Fault(answer=ANSWER, headers={"content-type": "text/plain"}), CLEAN),
    both("called nothing", lambda at: Fault(answer=ANSWER, headers={"content-type": ""}), CLEAN),
    both("called a stream", lambda at: Fault(answer=ANSWER, headers={"content-type": "text/event-stream"}), CLEAN),
    both("a page", lambda at: Fault(answer=ANSWER, body=PAGE, headers={"content-type": "text/html"}), NONSENSE),
    Row("a page called an answer", lambda at: Fault(answer=ANSWER, body=PAGE), TRUNCATED, NONSENSE),
    Row("an empty body", lambda at: Fault(answer=ANSWER, body=b""), TRUNCATED, NONSENSE),
    both(
        "200 with an error",
        lambda at: Fault(answer=refusal(500, code="server_error"), status=200),
        Then(ServerError, again=True),
    ),
    both("201", lambda at: Fault(answer=ANSWER, status=201), CLEAN),
    Row(
        "no end",
        lambda at: Fault(answer=ANSWER, terminal="missing"),
        Then(TruncatedStreamError, WHOLE),
        NONSENSE,
        but={(Dialect.GEMINI, True): Then(TruncatedStreamError, "One two three")},  # the last word says that it ends
    ),
    Row("two ends", lambda at: Fault(answer=ANSWER, terminal="twice"), CLEAN, NONSENSE),
    Row(  # nobody can tell where events have no numbers; the deltas are what was shown
        "words out of order",
        lambda at: Fault(answer=ANSWER, swap=(at.first, at.first + 1)),
        Then(kept=" twoOne three four.", altered=True),
        NONSENSE,
        but={(Dialect.OPENAI_RESPONSES, True): Then(ProtocolError, " two", altered=True)},
    ),
    Row(  # nor here
        "a word twice",
        lambda at: Fault(answer=ANSWER, repeat=at.first + 1),
        Then(kept="One two two three four.", altered=True),
        NONSENSE,
        but={(Dialect.OPENAI_RESPONSES, True): Then(ProtocolError, HALF)},
    ),
    Row(  # nor here; where they have, the finished item has to tell words from what a gateway has left out
        "a word lost",
        lambda at: Fault(answer=ANSWER, lose=at.third),
        Then(kept="One two four.", altered=True),
        NONSENSE,
        but={(Dialect.OPENAI_RESPONSES, True): Then(ProtocolError, "One two four.", altered=True)},
    ),
    Row(  # which in two dialects is the first word itself, and in two is told by what comes after it
        "the opening of the words lost",
        lambda at: Fault(answer=ANSWER, lose=at.opening),
        Then(kept=" two three four.", altered=True),
        NONSENSE,
        but={
            (Dialect.OPENAI_RESPONSES, True): CLEAN,
            (Dialect.ANTHROPIC_MESSAGES, True): Then(kept=WHOLE, altered=True),
        },
    ),
    Row(
        "the last before the first",
        lambda at: Fault(answer=ANSWER, swap=(0, -1)),
        NONSENSE,
        NONSENSE,
        but={
            (Dialect.OPENAI_CHAT, True): CLEAN,  # neither [DONE] nor the role says anything
            (Dialect.OPENAI_RESPONSES, True): Then(kept=WHOLE, altered=True),  # the last event repeats the whole
            # one that goes on after its end has to end again
            (Dialect.GEMINI, True): Then(TruncatedStreamError, " four. two threeOne", altered=True),
        },
    ),
    both("long lines", lambda at: Fault(answer=ANSWER, padding=300_000), CLEAN),
    *(
        both(
            f"compressed with {coding}",
            lambda at, coding=coding: Fault(answer=ANSWER, compress=coding),
            CLEAN if coding in ACCEPTED else Then(ProtocolError),
        )
        for coding in codings()
    ),
    both("stall until an event that came before", lambda at: Fault(answer=ANSWER, stall=at.third, until=PASSED), CLEAN),
    both(
        "compressed, stall for a moment",
        lambda at: Fault(answer=ANSWER, compress="gzip", stall=at.third, seconds=BRIEF),
        CLEAN,
    ),
    Row(
        "compressed and cut",
        lambda at: Fault(answer=ANSWER, compress="gzip", cut=at.packed),
        Then(ReadError, HALF),
        BROKEN,
        closer="server",
    ),
    both("not compressed as it says", lambda at: Fault(answer=ANSWER, headers={"content-encoding": "gzip"}), BROKEN),
    both(
        "redirect", lambda at: Fault(answer=ANSWER, status=307, headers={"location": "/elsewhere"}), Then(ProtocolError)
    ),
)
CELLS = [(dialect, streamed) for dialect in DIALECTS for streamed in WAYS]


@dataclass(frozen=True, slots=True)
class Told:
    """All that a call has told.

    Attributes:
        stream: The call.
        events: What was handed over.
        failure: What was raised.
        requests: How many the server saw.
        closed: The connections it saw end.
    """

    stream: ResponseStream
    events: list[StreamEvent]
    failure: DhenaraError | None
    requests: int
    closed: Sequence[Closing]


async def told(
    script: Script, dialect: Dialect, streamed: bool, *, timeouts: Timeouts | None = None, attempts: int = 1
) -> Told:
    """Make one call over connections of its own, and wait until the server has seen the end of them."""
    policy = RetryPolicy(attempts=attempts, first_delay=0)
    config = AIModelCallConfig(timeouts=timeouts or Timeouts(), retries=policy)
    events: list[StreamEvent] = []
    failure: DhenaraError | None = None
    async with ProviderServer(script) as server:
        client = AIModelClient(endpoint_at(server, dialect))
        with anyio.fail_after(PATIENCE):
            async with client.open(CallInput(QUESTION, (), config, streamed)) as stream:
                try:
                    async for event in stream:
                        events.append(event)
                except DhenaraError as exc:
                    failure = exc
            await server.wait_closed(server.connections)
        assert len(server.closed) == server.connections
        return Told(stream, events, failure, len(server.requests), server.closed)


def always(fault: Fault) -> Script:
    """The same fault for every request."""
    return lambda _seen: fault


def shown(events: Sequence[StreamEvent]) -> list[object]:
    """Events without what is another thing for every request: ids, and the state that hangs on them."""
    return [
        event.text
        if isinstance(event, TextDelta)
        else (PartEnd, event.part_id, event.part.type)
        if isinstance(event, PartEnd)
        else type(event)
        for event in events
    ]


async def body_of(dialect: Dialect, streamed: bool) -> bytes:
    """The good answer as it is sent."""
    async with ProviderServer([ANSWER]) as server:
        record = ReplayTransport(b"")
        client = AIModelClient(endpoint_at(server, dialect), transport=record)
        async with client.open(CallInput(QUESTION, (), AIModelCallConfig(retries=0), streamed)) as stream:
            with pytest.raises(ProtocolError):
                await stream.collect()
        transport = AiohttpTransport()
        try:
            exchange = await transport.send(record.requests[0], Timeouts())
            body = b""
            while chunk := await exchange.read():
                body += chunk
        finally:
            await transport.aclose()
    return body


_GOOD: dict[tuple[Dialect, bool], tuple[Where, list[object]]] = {}


async def good(dialect: Dialect, streamed: bool) -> tuple[Where, list[object]]:
    """The places in a good answer, and its events."""
    if (dialect, streamed) not in _GOOD:
        opening, first = CONTENT[dialect] if streamed else (0, 0)
        body = await body_of(dialect, streamed)
        third = first + 2 if streamed else 1
        pieces = re.findall(rb".+?(?:\r?\n){2}", body, re.DOTALL) if streamed else [body[: len(body) // 2]]
        packed = (
            sum(map(len, compressed(pieces[:third], "gzip"))) - 8
        )  # less what ends it all; ids are of no fixed size
        whole = await told([ANSWER], dialect, streamed)
        assert whole.failure is None
        where = Where(opening, first, third, body.index(WORDS[2].encode()), packed)
        _GOOD[dialect, streamed] = where, shown(whole.events)
    return _GOOD[dialect, streamed]


def check(got: Told, then: Then, clean: Sequence[object], *, attempts: int) -> None:
    """Hold a call that met the same fault at every try to what its cell says."""
    requests = attempts if then.again else 1
    failure, partial = got.failure, got.stream.partial
    assert type(failure) is (then.error or type(None)), repr(failure)
    assert got.requests == len(partial.tries) == partial.attempts == requests
    assert partial.text() == then.kept
    check_grammar(got.events, complete=then.error is None)
    answers = [place for place, event in enumerate(got.events) if isinstance(event, StreamStart | StreamReset)]
    last = shown(got.events[answers[-1] + 1 :]) if answers else []
    if not then.altered:
        assert last == clean[1 : len(last) + 1]
    if failure is None:
        assert got.stream.response.text() == then.kept
        assert then.altered or len(last) + 1 == len(clean)
        return
    assert failure.attempts == requests
    assert all((attempt.error or "").startswith(type(failure).__name__) for attempt in partial.tries)
    assert getattr(failure, "limit", None) == then.limit
    assert got.stream.failure is failure
    assert not got.stream.complete
    assert partial.chat_response.usage.source != "reported"


async def check_cell(row: Row, dialect: Dialect, streamed: bool, limit: float) -> None:
    """Make the three calls of a cell at once, because all of them wait where the server stalls.

    Args:
        row: The fault.
        dialect: In which it is met.
        streamed: By which way.
        limit: Seconds for the limit that is short in the row.
    """
    where, clean = await good(dialect, streamed)
    short = {name: limit for name in Timeouts.model_fields if getattr(row.timeouts, name) == SHORT}
    timeouts = row.timeouts.model_copy(update=short)
    then, fault = row.then(dialect, streamed), row.make(where)
    async with asyncio.TaskGroup() as tasks:
        staying = {
            attempts: tasks.create_task(told(always(fault), dialect, streamed, timeouts=timeouts, attempts=attempts))
            for attempts in (1, 3)
        }
        passing = tasks.create_task(told([fault, ANSWER], dialect, streamed, timeouts=timeouts, attempts=3))
    for attempts, task in staying.items():
        got = task.result()
        check(got, then, clean, attempts=attempts)
        assert {closing.by for closing in got.closed} == {row.closer}
        assert len(got.closed) == got.requests
    after = passing.result()
    if then.again:
        assert (after.failure, after.requests) == (None, 2)
        assert after.stream.response.text() == WHOLE
        assert [attempt.error is None for attempt in after.stream.response.tries] == [False, True]
        assert sum(isinstance(event, StreamStart) for event in after.events) == 1
    else:
        check(after, then, clean, attempts=1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_each_server_fault_raises_its_error(row: Row) -> None:
    with cases() as case:

        async def tried(dialect: Dialect, streamed: bool) -> None:
            with case(f"{dialect}, {'streamed' if streamed else 'plain'}"):
                await steady(partial(check_cell, row, dialect, streamed), SHORT)

        async with asyncio.TaskGroup() as tasks:
            for dialect, streamed in CELLS:
                tasks.create_task(tried(dialect, streamed))


def test_no_cell_is_missing() -> None:
    """Every fault, dialect and way has a cell of its own that says what comes of it, and every means of a fault is
    used."""
    outcomes = [row.then(dialect, streamed) for row in ROWS for dialect in DIALECTS for streamed in WAYS]
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert set(DIALECTS) == set(Dialect)
    assert len(CELLS) == 4 * 2
    assert len(outcomes) == len(ROWS) * 4 * 2
    assert all(then.error is not None or then.kept for then in outcomes)
    plain = Fault(answer=ANSWER)
    faults = [row.make(Where(1, 2, 3, 4, 5)) for row in ROWS]
    for one in fields(Fault):
        assert any(getattr(fault, one.name) != getattr(plain, one.name) for fault in faults), one.name


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("ending", ["reset", "eof"])
async def test_an_idle_connection_that_was_closed_is_not_used_again(
    dialect: Dialect, ending: Literal["reset", "eof"]
) -> None:
    async with ProviderServer([Fault(answer=ANSWER, cut="idle", ending=ending), ANSWER]) as server:
        async with AIModelClient(endpoint_at(server, dialect), AIModelCallConfig(retries=0)) as client:
            first = await client.generate("Count.")
            with anyio.fail_after(PATIENCE):
                await server.wait_closed()
            for _ in range(10):  # until the news has come through the loop; before that see the next test
                await anyio.lowlevel.checkpoint()
            second = await client.generate("Count.")
        assert (first.text(), second.text()) == (WHOLE, WHOLE)
        assert (server.connections, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("ending", ["reset", "eof"])
async def test_a_kept_connection_that_breaks_under_a_request_costs_a_retry(ending: Literal["reset", "eof"]) -> None:
    script = [ANSWER, Fault(answer=ANSWER, cut="head", ending=ending), ANSWER]
    async with ProviderServer(script) as server:
        config = AIModelCallConfig(retries=RetryPolicy(first_delay=0))
        async with AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), config) as client:
            assert (await client.generate("Count.")).attempts == 1
            second = await client.generate("Count.")
        assert (second.text(), second.attempts) == (WHOLE, 2)
        assert (second.tries[0].error or "").startswith("ReadError")
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_a_cut_connection_raises_its_error() -> None:
    async with ProviderServer([Fault(cut="head"), Fault()]) as server:
        client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), AIModelCallConfig(retries=1))
        assert (await client.generate("Hi.")).text() == "A word or two."
        with anyio.fail_after(PATIENCE):
            await server.wait_closed(2)
        assert [closing.by for closing in server.closed] == ["server", "client"]
        assert server.closed[0].at <= server.closed[1].at


# ---------------------------------------------------------------------------------------------------- slow readers


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("ending", ["reset", "eof"])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_a_slow_reader_gets_all_that_had_arrived(
    dialect: Dialect, ending: Literal["reset", "eof"], framing: Literal["chunked", "length", "close"]
) -> None:
    """What had come off the socket before it broke is handed over before the failure, however late it is asked for.

    A kernel may drop what it had not handed on when it sees a reset; the one under these tests does not.
    """
    where, clean = await good(dialect, True)
    fault = Fault(answer=ANSWER, stall=where.first + 1, seconds=BRIEF, cut=where.byte, ending=ending, framing=framing)
    events: list[StreamEvent] = []
    failure: DhenaraError | None = None
    async with ProviderServer([fault]) as server:
        client = AIModelClient(endpoint_at(server, dialect), AIModelCallConfig(retries=0))
        with anyio.fail_after(PATIENCE):
            async with client.open(CallInput(QUESTION, (), AIModelCallConfig(retries=0), True)) as stream:
                try:
                    async for event in stream:
                        events.append(event)
                        if isinstance(event, TextDelta) and event.text == WORDS[0]:
                            await server.wait_closed()
                            for _ in range(10):  # until the news has come through the loop
                                await anyio.lowlevel.checkpoint()
                except DhenaraError as exc:
                    failure = exc
        assert [closing.by for closing in server.closed] == ["server"]
        assert len(server.requests) == 1
    assert type(failure) is (TruncatedStreamError if (framing, ending) == ("close", "eof") else ReadError)
    assert shown(events) == clean[: len(events)]
    assert stream.partial.text() == HALF


# ---------------------------------------------------------------------------------------------------- lies of the wire


async def replayed(dialect: Dialect, body: bytes, *, streamed: bool) -> Told:
    """Make one call that is answered with ``body``."""
    provider, model = SPEAKERS[dialect]
    api = AIModelAPI(provider=provider, api_key=SecretStr("loopback-key"), dialect=dialect)
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))
    headers = {"content-type": "text/event-stream" if streamed else "application/json"}
    transport = ReplayTransport(body, headers=headers)
    events: list[StreamEvent] = []
    failure: DhenaraError | None = None
    client = AIModelClient(endpoint, transport=transport)
    async with client.open(CallInput(QUESTION, (), AIModelCallConfig(retries=0), streamed)) as stream:
        try:
            async for event in stream:
                events.append(event)
        except DhenaraError as exc:
            failure = exc
    return Told(stream, events, failure, len(transport.requests), ())


BEGINNINGS: Mapping[Dialect, Mapping[str, object]] = {
    Dialect.OPENAI_CHAT: {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
    Dialect.OPENAI_RESPONSES: {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "a",
        "sequence_number": 4,
    },
    Dialect.ANTHROPIC_MESSAGES: {"type": "message_start", "message": {"id": "msg_1", "model": "m"}},
    Dialect.GEMINI: {"candidates": [{"content": {"parts": [{"text": "a"}]}, "index": 0}]},
}


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("streamed", WAYS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_failure_inside_an_answer_is_the_one_its_status_would_have_been(
    dialect: Dialect, streamed: bool, begun: bool
) -> None:
    with cases() as case:
        for told_of in FAILURES:
            if told_of.dialect is dialect:
                with case(orjson.dumps(told_of.event).decode()):
                    await check_failure(told_of, streamed, begun)


async def check_failure(told_of: Failure, streamed: bool, begun: bool) -> None:
    event = told_of.event
    if streamed:
        body = sse(*([dict(BEGINNINGS[told_of.dialect])] if begun else []), event)
    else:
        body = orjson.dumps(event.get("response", event))
    got = await replayed(told_of.dialect, body, streamed=streamed)
    failure = got.failure
    assert isinstance(failure, APIError)
    assert type(failure) is told_of.error, repr(failure)
    assert (failure.status, failure.retryable) == (told_of.status, told_of.retryable)
    assert got.stream.partial.text() == (
        "a" if streamed and begun and told_of.dialect is not Dialect.ANTHROPIC_MESSAGES else ""
    )
    assert got.requests == 1


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_is_taken_for_what_it_is(dialect: Dialect) -> None:
    with cases() as case:
        for lie in LIES:
            if lie.dialect is dialect:
                with case(lie.name):
                    await check_lie(lie)


async def check_lie(lie: Lie) -> None:
    got = await replayed(lie.dialect, lie.body, streamed=True)
    assert type(got.failure) is (lie.error or type(None)), repr(got.failure)
    check_grammar(got.events, complete=lie.error is None)
    assert got.stream.partial.text() == lie.text
    assert "".join(event.text for event in got.events if isinstance(event, TextDelta)).startswith(lie.text)
    assert got.requests == 1
