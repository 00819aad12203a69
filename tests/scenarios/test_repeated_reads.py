"""A read that is cancelled loses nothing, wherever it waits, and the next one goes on; only the block ends the stream.

The server says the next piece when a reader has given up waiting for it three times.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import httpx
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Experiment,
    Failover,
    FanOut,
    FetchPolicy,
    FilePart,
    HttpxTransport,
    Limits,
    Message,
    Race,
    ResponseStream,
    RetryPolicy,
    Router,
    StreamEvent,
    Target,
    TextDelta,
    Timeouts,
    fan_out,
)
from dhenara_async.calls.shared import SharedResources
from dhenara_async.errors import DeadlineError, ServerError, StreamStateError
from dhenara_async.limits.limiter import LocalLimiter
from dhenara_async.testing import ReplayTransport
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.transport import Transport
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from dhenara_async.turns.turn import Turn
from tests.loopback import (
    LAST_CHUNK,
    PATIENCE,
    Connection,
    Play,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    chunked,
    head,
    serve,
    stalling,
    whole,
)
from tests.scenarios.test_cancellation import nothing_left
from tests.steady import steady

MOMENT = 0.002
WORDS = ("Ebb", " and", " flow.")
TEXT = "".join(WORDS)
PIECES = (head(transfer_encoding="chunked"), *map(chunk, chat_stream(*WORDS)), LAST_CHUNK)
WIRES = ("aiohttp", "httpx")

Attempt = Callable[[Callable[[], Awaitable[object]]], Awaitable[object]]
"""Waits for a moment; raises ``TimeoutError`` if that was not enough."""


async def by_wait_for(read: Callable[[], Awaitable[object]]) -> object:
    return await asyncio.wait_for(read(), MOMENT)


async def by_timeout(read: Callable[[], Awaitable[object]]) -> object:
    async with asyncio.timeout(MOMENT):
        return await read()


async def by_scope(read: Callable[[], Awaitable[object]]) -> object:
    with anyio.move_on_after(MOMENT):
        return await read()
    raise TimeoutError


async def by_cancelling(read: Callable[[], Awaitable[object]]) -> object:
    """In a task that is cancelled at its first wait, again and again."""

    async def reading() -> object:
        try:
            return await read()
        except StopAsyncIteration as exc:  # a task group would put it into a group
            return exc

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reading())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
    if task.cancelled():
        raise TimeoutError
    if isinstance(came := task.result(), StopAsyncIteration):
        raise came
    return came


ATTEMPTS: tuple[Attempt, ...] = (by_wait_for, by_timeout, by_scope, by_cancelling)


@dataclass(slots=True)
class Impatient:
    """A reader that waits for moments.

    Attributes:
        attempt: How.
        gate: Passed by the server once for every piece.
        given_up: How often it was cancelled.
    """

    attempt: Attempt = by_scope
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    given_up: int = 0

    async def all_of(self, reader: "ResponseStream | Turn | FanOut") -> list[object]:
        """Every event; the server goes on when this has given up three times more."""
        events: list[object] = []
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    events.append(await self.attempt(reader.__anext__))
                except StopAsyncIteration:
                    return events
                except TimeoutError as exc:
                    if isinstance(exc, DeadlineError):
                        raise
                    self.given_up += 1
                    if self.given_up % 3 == 0:
                        self.gate.release()

    async def talk(self, connection: Connection) -> None:
        """Answer every request, piece by piece."""
        while await connection.request() is not None:
            for piece in PIECES:
                await self.gate.acquire()
                await connection.send(piece)


def text_of(events: list[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@asynccontextmanager
async def over(wire: str) -> AsyncGenerator[Transport]:
    async with httpx.AsyncClient() as http:
        made = AiohttpTransport() if wire == "aiohttp" else HttpxTransport(http)
        yield made
        await made.aclose()


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("wire", WIRES)
async def test_every_event_comes_once(wire: str, attempt: Attempt) -> None:
    reader = Impatient(attempt)
    async with nothing_left(), serve(reader.talk) as server, over(wire) as transport:
        async with AIModelClient(chat_endpoint(server.url), transport=transport).stream("Sing.") as stream:
            events = await reader.all_of(stream)
        assert (server.connections, len(server.requests)) == (1, 1)
    check_grammar([event for event in events if isinstance(event, StreamEvent)])
    assert text_of(events) == TEXT
    assert stream.response.text() == TEXT
    assert (stream.failure, stream.response.attempts) == (None, 1)
    assert reader.given_up >= 3 * (len(PIECES) - 1)


@pytest.mark.parametrize("name", ["batch", "collect"])
@pytest.mark.parametrize("wire", WIRES)
async def test_other_reads_can_be_repeated_too(wire: str, name: str) -> None:
    reader = Impatient()
    async with nothing_left(), serve(reader.talk) as server, over(wire) as transport:
        async with AIModelClient(chat_endpoint(server.url), transport=transport).stream("Sing.") as stream:
            read: Callable[[], Awaitable[object]] = getattr(stream, name)
            with anyio.fail_after(PATIENCE):
                while not stream.complete:
                    try:
                        await by_scope(read)
                    except TimeoutError:
                        reader.gate.release()
        assert len(server.requests) == 1
    assert stream.response.text() == TEXT


Plan = Callable[[AIModelEndpoint, AIModelEndpoint], Target]
PLANS: dict[str, Plan] = {
    "failover": lambda bad, good: Failover([bad, good]),
    "continue": lambda bad, good: Failover([bad, good], mode="continue"),
    "race": lambda _bad, good: Race([good, good]),
    "hedged race": lambda bad, good: Race([bad, good], hedge_after=0.001),
    "router": lambda _bad, good: Router(lambda _said, _config: "good", {"good": good}),
    "experiment": lambda _bad, good: Experiment({"good": (good, 1.0)}),
    "failover of a race": lambda bad, good: Failover([Race([bad, bad]), good]),
}


@pytest.mark.parametrize("refusal", [whole(b"{}", 500), head() + chat_delta("Wrong")], ids=["refused", "cut"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("wire", WIRES)
async def test_plans_go_on_between_reads(wire: str, plan: Plan, refusal: bytes) -> None:
    reader, once = Impatient(), AIModelCallConfig(retries=RetryPolicy(attempts=1))

    async def fail(connection: Connection) -> None:
        await connection.request()
        await reader.gate.acquire()
        await connection.send(refusal)

    async with nothing_left(), serve(fail) as bad, serve(reader.talk) as good, over(wire) as transport:
        target = plan(chat_endpoint(bad.url), chat_endpoint(good.url))
        if isinstance(target, Race) and refusal.endswith(b"\n\n"):
            pytest.skip("who has won a race is on its own")
        async with AIModelClient(target, once, transport=transport).stream("Sing.") as stream:
            events = await reader.all_of(stream)
        assert len(bad.requests) <= 2
    check_grammar([event for event in events if isinstance(event, StreamEvent)])
    assert stream.response.text().endswith(TEXT)
    assert stream.failure is None


@pytest.mark.parametrize("wire", WIRES)
async def test_retries_and_their_delays_continue_across_cancelled_reads(wire: str) -> None:
    reader, refused = Impatient(), 0

    async def play(connection: Connection) -> None:
        nonlocal refused
        while refused < 2:
            if await connection.request() is None:
                return
            await reader.gate.acquire()
            refused += 1
            await connection.send(whole(b"{}", 503))
        await reader.talk(connection)

    config = AIModelCallConfig(retries=RetryPolicy(attempts=3, first_delay=0.05))
    async with nothing_left(), serve(play) as server, over(wire) as transport:
        async with AIModelClient(chat_endpoint(server.url), config, transport=transport).stream("Sing.") as stream:
            events = await reader.all_of(stream)
        assert len(server.requests) == 3
    assert text_of(events) == TEXT
    assert [attempt.status for attempt in stream.response.tries] == [503, 503, 200]


async def test_a_disconnect_after_an_empty_first_event_is_retried() -> None:
    """There the reader reads by itself, and the rest before the other try must not be its own."""
    reader, cut = Impatient(), [head(), chat_delta("")]

    async def play(connection: Connection) -> None:
        if cut and await connection.request() is not None:
            await connection.send(cut.pop(0))
            await reader.gate.acquire()
            await connection.send(cut.pop(0))
            await reader.gate.acquire()
            return
        await reader.talk(connection)

    config = AIModelCallConfig(retries=RetryPolicy(first_delay=0.05))
    async with nothing_left(), serve(play) as server:
        async with AIModelClient(chat_endpoint(server.url), config).stream("Sing.") as stream:
            events = await reader.all_of(stream)
        assert len(server.requests) == 2
    check_grammar([event for event in events if isinstance(event, StreamEvent)])
    assert text_of(events) == TEXT


@pytest.mark.parametrize("wire", WIRES)
async def test_a_turn_read_in_cancelled_pieces_is_complete(wire: str) -> None:
    reader = Impatient()
    async with nothing_left(), serve(reader.talk) as server, over(wire) as transport:
        async with ConversationManager(transport=transport) as manager:
            conversation = await manager.create()
            async with manager.turn(conversation, "Sing.", chat_endpoint(server.url)) as turn:
                events = await reader.all_of(turn)
        assert len(server.requests) == 1
    assert text_of(events) == TEXT
    assert (turn.node.status, turn.node.attempts) == ("complete", 1)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_fan_out_read_in_cancelled_pieces_is_complete(wire: str) -> None:
    reader = Impatient()
    async with nothing_left(), serve(reader.talk) as server, over(wire) as transport:
        calls = [(chat_endpoint(server.url), "Sing.") for _ in range(3)]
        async with fan_out(calls, transport=transport) as fan:
            events = await reader.all_of(fan)
        assert len(server.requests) == 3
    assert len(events) == 3 * 7
    assert [result.unwrap().text() for result in fan.results] == [TEXT] * 3


async def test_a_slot_and_a_file_are_waited_for_once() -> None:
    reader = Impatient()
    limiter = LocalLimiter(Limits(concurrency=1))
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)

    async def host(connection: Connection) -> None:
        while await connection.request() is not None:
            await reader.gate.acquire()
            await connection.send(whole(png, content_type="image/png"))

    config = AIModelCallConfig(fetch=FetchPolicy(allow_http=True, allow_private=True))
    async with nothing_left(), serve(host) as files, serve(reader.talk) as server:
        endpoint = chat_endpoint(server.url)
        asked = Message.user("Sing.", FilePart.from_url(f"{files.url}/x.png"))
        client = AIModelClient(endpoint, config, shared=SharedResources(limiter=limiter))
        stream = client.stream(asked)
        slot = await limiter.acquire(stream.partial.endpoint, tokens=0)
        async with stream:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await by_scope(stream.__anext__)
            slot.release()
            events = await reader.all_of(stream)
        assert (len(files.requests), len(server.requests)) == (1, 1)
        (await limiter.acquire(stream.response.endpoint, tokens=0)).release()
    assert text_of(events) == TEXT


# ------------------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize("play", [stalling(), stalling(head()), stalling(head(), chat_delta("Ebb"))])
@pytest.mark.parametrize("wire", WIRES)
async def test_leaving_the_block_hangs_up(wire: str, play: Play) -> None:
    async with nothing_left(), serve(play) as server, over(wire) as transport:
        async with AIModelClient(chat_endpoint(server.url), transport=transport).stream("Sing.") as stream:
            with pytest.raises(TimeoutError):
                await by_scope(stream.collect)
            with anyio.fail_after(PATIENCE):
                await server.asked.wait()
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await by_timeout(stream.collect)
        await server.wait_hung_up()
        assert len(server.requests) == 1
        for read in (stream.__anext__, stream.batch, stream.collect):
            with pytest.raises(StreamStateError, match="was closed"):
                await read()


async def test_events_that_arrive_between_reads_are_in_the_answer() -> None:
    transport = ReplayTransport(chat_delta("Ebb"), headers={"content-type": "text/event-stream"})
    client = AIModelClient(chat_endpoint("http://127.0.0.1:1"), transport=transport)
    async with nothing_left(), client.stream("Sing.") as stream:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(stream)
        await anyio.wait_all_tasks_blocked()
        assert stream.partial.text() == ""  # nobody has read it
    assert stream.partial.text() == "Ebb"


async def refuse(connection: Connection) -> None:
    await connection.request()
    await connection.send(whole(b"{}", 500))


async def test_a_failure_between_reads_is_raised_by_the_next_read() -> None:
    config = AIModelCallConfig(retries=RetryPolicy(attempts=1))
    async with nothing_left(), serve(refuse) as server:
        async with AIModelClient(chat_endpoint(server.url), config).stream("Sing.") as stream:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anext(stream)
            for _ in range(2):
                with pytest.raises(ServerError):
                    await anext(stream)
        assert len(server.requests) == 1


async def test_two_readers_share_the_events() -> None:
    events: list[StreamEvent] = []
    gate = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        await gate.wait()
        await connection.send(chunked(*chat_stream(*WORDS)))

    async with (
        nothing_left(),
        serve(play) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Sing.") as stream,
        anyio.create_task_group() as tasks,
    ):

        async def read() -> None:
            events.extend([await anext(stream) for _ in range(2)])

        tasks.start_soon(read)
        tasks.start_soon(read)
        await server.asked.wait()
        gate.set()
    check_grammar(events, complete=False)
    assert len(events) == 4


SILENCES = [
    ("first_byte", ()),
    ("first_content", ()),
    ("total", ()),
    ("between_bytes", (head(), chat_delta("Ebb"))),
    ("between_content", (head(), chat_delta("Ebb"))),
    ("total", (head(), chat_delta("Ebb"))),
]


@pytest.mark.parametrize(("limit", "pieces"), SILENCES)
@pytest.mark.parametrize("wire", WIRES)
async def test_time_limits_hold_however_short_the_reads_are(wire: str, limit: str, pieces: tuple[bytes, ...]) -> None:
    config = AIModelCallConfig(timeouts=Timeouts.model_validate({limit: 0.1}), retries=RetryPolicy(attempts=1))
    async with nothing_left(), serve(stalling(*pieces)) as server, over(wire) as transport:
        async with AIModelClient(chat_endpoint(server.url), config, transport=transport).stream("Sing.") as stream:
            with pytest.raises(DeadlineError) as caught:
                await Impatient().all_of(stream)
        assert caught.value.limit == limit
        await server.wait_left()


async def test_a_slow_reader_does_not_trigger_the_silence_limit() -> None:
    async def attempt(limit: float) -> None:
        config = AIModelCallConfig(timeouts=Timeouts(between_bytes=limit, between_content=limit))
        reader = Impatient()
        async with nothing_left(), serve(reader.talk) as server:
            stream = AIModelClient(chat_endpoint(server.url), config).stream("Sing.")
            async with stream:
                for _ in range(3):
                    reader.gate.release()
                await anext(stream)
                with pytest.raises(TimeoutError):
                    while True:
                        await by_timeout(stream.__anext__)
                await anyio.sleep(limit * 2)
                for _ in PIECES:
                    reader.gate.release()
                await stream.collect()
        assert stream.response.text() == TEXT

    await steady(attempt, 0.1)


async def pings(connection: Connection) -> None:
    await connection.request()
    await connection.send(head(), chat_delta("Ebb"))
    while True:
        await connection.send(b": ping\n\n")
        await anyio.sleep(0.01)


async def test_pings_do_not_reset_the_limit_between_contents() -> None:
    config = AIModelCallConfig(timeouts=Timeouts(between_content=0.1, between_bytes=PATIENCE))
    async with nothing_left(), serve(pings) as server:
        async with AIModelClient(chat_endpoint(server.url), config).stream("Sing.") as stream:
            with anyio.fail_after(PATIENCE), pytest.raises(DeadlineError) as caught:
                await stream.collect()
        assert caught.value.limit == "between_content"
