"""Leaving a call, at every point where it can wait and in every way: the socket goes at once, and nothing else does.

The server runs in a thread of its own, so that a test can stand still until it has seen the end: if a socket were
closed only when the loop goes on, it would never come.
"""

import asyncio
import gc
import logging
import os
import socket
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from time import perf_counter
from typing import Literal

import anyio
import httpx
import orjson
import pytest
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    FetchPolicy,
    FilePart,
    HttpxTransport,
    Limits,
    Message,
    ResponseStream,
    RetryPolicy,
    StreamEnd,
    TextDelta,
    Timeouts,
)
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.timing import Timing
from dhenara_async.errors import DeadlineError, StreamStateError
from dhenara_async.limits.limiter import LocalLimiter
from dhenara_async.response import AIModelCallResponse
from dhenara_async.transport import Transport
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from dhenara_async.turns.turn import Turn
from tests.loopback import (
    PATIENCE,
    Connection,
    HttpSeen,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunked,
    head,
    serve,
    whole,
)

SHORT = 0.05
_LINUX = sys.platform == "linux"

# ---------------------------------------------------------------------------------------------------------- the server

Phase = Literal[
    "slot", "pool", "connecting", "headers", "error body", "first event", "mid-stream", "draining", "retry", "download"
]
PHASES: tuple[Phase, ...] = (
    *("slot", "pool", "connecting", "headers", "error body"),
    *("first event", "mid-stream", "draining", "retry", "download"),
)
SAID: dict[str, tuple[bytes, ...]] = {
    "headers": (),
    "download": (),
    "error body": (head(500), b"it is"),
    "first event": (head(),),
    "mid-stream": (head(), chat_delta("One"), chat_delta(" two")),
    "draining": (head(), *chat_stream("One", " two")),
}
"""What is said in each phase before nothing more is."""

UNSEEN = frozenset({"slot", "pool", "connecting"})
"""Phases in which the server has not heard of the call."""


@dataclass(slots=True)
class Host:
    """The server as the tests' thread sees it.

    Attributes:
        url: Its root.
        asked: Set when the call that is to be left has arrived, or what goes before it has.
        closed: Set when that call's connection has been closed by its client.
        requests: What has arrived; forgotten as soon as it is answered.
        ends: When calls' connections were closed, by number, in seconds of ``perf_counter``.
    """

    url: str = ""
    asked: Event = field(default_factory=Event)
    closed: Event = field(default_factory=Event)
    requests: list[HttpSeen] = field(default_factory=list[HttpSeen])
    ends: dict[str, float] = field(default_factory=dict[str, float])

    async def play(self, connection: Connection) -> None:
        """Do as the question says; a question is a phase, or a phase and a number."""
        while (request := await connection.request()) is not None:
            self.requests.clear()
            question = orjson.loads(request.body)["messages"][-1]["content"] if request.body else "download"
            phase, _, number = question.partition(" #")
            if phase == "retry":
                await connection.send(whole(b"{}", 503, retry_after="50"))
                self.asked.set()
                continue
            if phase not in SAID:
                await connection.send(chunked(*chat_stream("Fine.")))
                continue
            await connection.send(*SAID[phase])
            self.asked.set()
            await connection.until_hung_up()
            self.ends[number] = perf_counter()
            self.closed.set()
            return


@contextmanager
def host() -> Generator[Host]:
    """A server in a thread of its own."""
    with ExitStack() as stack:
        seen = Host()
        portal = stack.enter_context(start_blocking_portal())
        server = stack.enter_context(portal.wrap_async_context_manager(serve(seen.play)))
        seen.url, seen.requests = server.url, server.requests
        yield seen


@contextmanager
def deaf_host() -> Generator[str]:
    """A port where connecting gets no answer: the line of those who wait for one is full."""
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"


def open_sockets() -> int:
    """How many sockets this process has, those of the server included."""
    count = 0
    for name in Path("/proc/self/fd").iterdir() if _LINUX else ():
        with suppress(OSError):  # the one that lists them
            count += str(name.readlink()).startswith("socket:")
    return count


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread, or in none
            await anyio.sleep(0.001)


@asynccontextmanager
async def nothing_left() -> AsyncGenerator[None]:
    """Fails if the block leaves tasks or sockets behind; what garbage has to say, it says inside."""
    before, sockets = asyncio.all_tasks(), open_sockets()
    yield
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
    gc.collect()
    await until(lambda: open_sockets() <= sockets)


# ----------------------------------------------------------------------------------------------------------- the cells


@dataclass(slots=True)
class Cell:
    """A call that gets as far as its phase and no further.

    Attributes:
        phase: Where it waits.
        host: Who is asked.
        transport: Two connections.
        endpoint: Where it goes.
        means: Its limiter, with three slots.
        config: Its knobs.
        asked: What it asks.
        arrived: Set when everything that is said has been read.
    """

    phase: Phase
    host: Host
    transport: Transport
    endpoint: AIModelEndpoint
    shared: SharedResources
    config: AIModelCallConfig
    asked: Message
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def waiting(self) -> None:
        """Wait until the call has got there."""
        if self.phase not in UNSEEN:
            await until(self.host.asked.is_set)
        if self.phase in ("mid-stream", "draining"):
            with anyio.fail_after(PATIENCE):
                await self.arrived.wait()
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()

    def check(self) -> None:
        """The server has seen the end, although this thread does nothing for it meanwhile."""
        if self.phase not in UNSEEN and self.phase != "retry":
            assert self.host.closed.wait(PATIENCE)

    def stream(self, *, shared: bool) -> ResponseStream:
        """The call, over the shared connections or some of its own."""
        transport = self.transport if shared else None
        client = AIModelClient(self.endpoint, self.config, transport=transport, shared=self.shared)
        return client.stream(self.asked)


@asynccontextmanager
async def cell(phase: Phase, *, wire: str = "aiohttp", tries: int = 2, **timeouts: float) -> AsyncGenerator[Cell]:
    """Set ``phase`` up; afterwards two connections still serve, all slots are free, and nothing is left."""
    patient = Timing(drain=1000)  # a call that waits for the end of a body does not end in time
    async with nothing_left():
        with host() as server, ExitStack() as stack:
            url = stack.enter_context(deaf_host()) if phase == "connecting" else server.url
            asked = Message.user(phase)
            if phase == "download":
                asked = Message.user(phase, FilePart.from_url(f"{url}/cat.png"))
            seconds = timeouts.pop("fetch", 1000)
            async with httpx.AsyncClient(limits=httpx.Limits(max_connections=2)) as http:
                made = Cell(
                    phase,
                    server,
                    AiohttpTransport(limit=2) if wire == "aiohttp" else HttpxTransport(http),
                    chat_endpoint(url),
                    SharedResources(limiter=LocalLimiter(Limits(concurrency=3)), timing=patient),
                    AIModelCallConfig(
                        timeouts=Timeouts.model_validate({"connect": 1000, **timeouts}),
                        fetch=FetchPolicy(allow_http=True, allow_private=True, seconds=seconds),
                        retries=RetryPolicy(attempts=tries),
                    ),
                    asked,
                )
                async with occupied(made):
                    yield made
                # a limiter waits out what the host has asked for
                shared = SharedResources(timing=patient) if phase == "retry" else made.shared
                good = AIModelClient(chat_endpoint(server.url), transport=made.transport, shared=shared)
                with anyio.fail_after(PATIENCE):
                    async with anyio.create_task_group() as tasks:
                        for _ in range(4):
                            tasks.start_soon(fine, good)
                    async with good.stream("mid-stream") as one, good.stream("mid-stream") as other:
                        await anext(one)
                        await anext(other)
                await made.transport.aclose()


async def fine(client: AIModelClient) -> None:
    config = AIModelCallConfig(streaming=True, timeouts=Timeouts(connect=PATIENCE))
    assert (await client.generate("Hi.", config=config)).text() == "Fine."


@asynccontextmanager
async def occupied(made: Cell) -> AsyncGenerator[None]:
    """Take what the call has to wait for."""
    limiter = made.shared.limiter
    if made.phase == "slot" and limiter is not None:
        origin = made.stream(shared=True).partial.endpoint
        slots = [await limiter.acquire(origin, tokens=0) for _ in range(3)]
        yield
        for slot in slots:
            slot.release()
    elif made.phase == "pool":
        holder = AIModelClient(made.endpoint, transport=made.transport)
        async with holder.stream("mid-stream") as first, holder.stream("mid-stream") as second:
            await anext(first)
            await anext(second)
            yield
    else:
        yield


def is_truthful(came: AIModelCallResponse, phase: Phase) -> None:
    """What is left of the answer is what was said of it, and nothing is told of its tokens that nobody knows."""
    usage = came.chat_response.usage
    assert came.text() == ("One two" if phase in ("mid-stream", "draining") else "")
    assert usage.source in ("estimated", "unknown")
    assert 0 not in (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    assert came.attempts == len(came.tries) == 1


# ------------------------------------------------------------------------------------------------------ ways of leaving

Reader = ResponseStream | Turn


async def read(reader: Reader, place: Cell, *, strictly: bool = True) -> None:
    """Read to the end; if ``strictly``, the server has seen that end before this loop does anything else."""
    try:
        async with reader:
            async for event in reader:
                if isinstance(event, StreamEnd) or event == TextDelta(0, " two"):
                    place.arrived.set()
    finally:
        if strictly:
            place.check()


async def by_cancelling(reader: Reader, place: Cell) -> None:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(read(reader, place))
        await place.waiting()
        task.cancel()
    assert task.cancelled()


async def by_cancelling_again_and_again(reader: Reader, place: Cell) -> None:
    """Whoever is impatient."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(read(reader, place, strictly=False))
        await place.waiting()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
    await until(lambda: place.phase in UNSEEN or place.phase == "retry" or place.host.closed.is_set())


async def by_deadline(reader: Reader, place: Cell) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, reader, place)
            await place.waiting()
            scope.deadline = anyio.current_time()
    assert scope.cancelled_caught


async def by_timeout(reader: Reader, place: Cell) -> None:
    limit = asyncio.timeout(None)

    async def limited() -> None:
        with pytest.raises(TimeoutError):
            async with limit:
                await read(reader, place)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(limited())
        await place.waiting()
        limit.reschedule(asyncio.get_running_loop().time())


async def by_closing_elsewhere(reader: Reader, place: Cell) -> None:
    ended: list[BaseException | None] = []

    async def reading() -> None:
        try:
            await read(reader, place, strictly=False)
        except StreamStateError as exc:
            assert "was closed" in str(exc)
            ended.append(exc)
        else:
            ended.append(None)

    assert isinstance(reader, ResponseStream)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reading())
        await place.waiting()
        await reader.aclose()
        place.check()
        await reader.aclose()
    assert (ended == [None]) is (place.phase == "draining")  # then the whole answer was there


Route = Callable[[Reader, Cell], Awaitable[None]]
WAYS: tuple[Route, ...] = (by_cancelling, by_cancelling_again_and_again, by_deadline, by_timeout, by_closing_elsewhere)


def named(way: object) -> str | None:
    return getattr(way, "__name__", None)


@pytest.mark.parametrize("way", WAYS, ids=named)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("wire", ["aiohttp", "httpx", "of its own"])
async def test_leaving_a_waiting_stream_closes_its_connection(wire: str, phase: Phase, way: Route) -> None:
    shared = wire != "of its own"
    if phase == "pool" and not shared:
        pytest.skip("connections of its own are never taken")
    if wire == "httpx" and way is by_cancelling_again_and_again:
        pytest.skip("httpx awaits while it closes, and only anyio's cancellations can be kept from that")
    async with cell(phase, wire=wire if shared else "aiohttp") as place:
        stream = place.stream(shared=shared)
        with anyio.fail_after(PATIENCE):
            await way(stream, place)
        is_truthful(stream.partial, phase)
        assert stream.complete is (phase == "draining")


@pytest.mark.parametrize("way", [way for way in WAYS if way is not by_closing_elsewhere], ids=named)
@pytest.mark.parametrize("phase", PHASES)
async def test_leaving_a_waiting_turn_closes_its_connection_and_keeps_its_node(phase: Phase, way: Route) -> None:
    async with cell(phase) as place:
        manager = ConversationManager(transport=place.transport, config=place.config)
        manager._turns.shared = place.shared  # pyright: ignore[reportPrivateUsage] - no user sets a clock
        async with manager:
            conversation = await manager.create()
            files = [part for part in place.asked.parts if isinstance(part, FilePart)]
            turn = manager.turn(conversation, phase, place.endpoint, files=files)
            with anyio.fail_after(PATIENCE):
                await way(turn, place)
            (node,) = conversation.nodes
            is_truthful(turn.partial, phase)
        status = {"mid-stream": "interrupted", "draining": "complete"}.get(phase, "failed")
        assert (node.status, node is turn.node) == (status, True)
        assert (node.error is None) is (status == "complete")


TIME_LIMITS: list[tuple[Phase, str]] = [
    *(("slot", limit) for limit in ("total", "first_content")),
    *(("pool", limit) for limit in ("connect", "first_byte", "total")),
    *(("connecting", limit) for limit in ("connect", "first_byte", "first_content", "total")),
    *(("headers", limit) for limit in ("first_byte", "first_content", "total")),
    *(("first event", limit) for limit in ("between_bytes", "first_content", "between_content", "total")),
    *(("mid-stream", limit) for limit in ("between_bytes", "between_content", "total")),
    *(("download", limit) for limit in ("fetch", "first_content", "total")),
]


@pytest.mark.parametrize(("phase", "limit"), TIME_LIMITS)
@pytest.mark.parametrize("wire", ["aiohttp", "httpx", "of its own"])
async def test_a_time_limit_of_the_call_ends_it_as_well(wire: str, phase: Phase, limit: str) -> None:
    shared = wire != "of its own"
    if phase == "pool" and not shared:
        pytest.skip("connections of its own are never taken")
    async with cell(phase, wire=wire if shared else "aiohttp", tries=1, **{limit: SHORT}) as place:
        stream = place.stream(shared=shared)
        with anyio.fail_after(PATIENCE), pytest.raises(DeadlineError) as caught:
            await read(stream, place, strictly=False)
        if place.host.asked.is_set():  # on a slow machine the limit is over before the call arrives
            place.check()
        assert (caught.value.limit, caught.value.seconds) == (limit, SHORT)
        if limit != "total":  # which may be over before anything is said
            is_truthful(stream.partial, phase)


# ------------------------------------------------------------------------------------ leaving with an event in the hand


class Gone(Exception):
    """The reader's own."""


async def in_the_block(stream: ResponseStream, leave: str) -> None:
    """Read what is said, and leave the block."""
    last = TextDelta(0, " two")
    async with stream:
        async for event in stream:
            if event == last or isinstance(event, StreamEnd):
                break
        if leave == "exception":
            raise Gone
        if leave == "cancelled":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        if leave == "closed":
            await stream.aclose()


@pytest.mark.parametrize("leave", ["left", "exception", "cancelled", "closed"])
@pytest.mark.parametrize("wire", ["aiohttp", "httpx", "of its own"])
async def test_leaving_the_block_in_any_way_closes_the_connection(wire: str, leave: str) -> None:
    shared = wire != "of its own"
    async with cell("mid-stream", wire=wire if shared else "aiohttp") as place:
        stream = place.stream(shared=shared)

        met: list[BaseException] = []

        async def leaving() -> None:
            try:
                await in_the_block(stream, leave)
            except (Gone, asyncio.CancelledError) as exc:
                met.append(exc)
            place.check()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leaving())
        expected = {"exception": [Gone], "cancelled": [asyncio.CancelledError]}.get(leave, [])
        assert [type(exc) for exc in met] == expected
        is_truthful(stream.partial, "mid-stream")


# -------------------------------------------------------------------------------------------------- many, and at random

SOAK = os.environ.get("DHENARA_SOAK") == "1"
AT_ONCE = 200


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not _LINUX, reason="sockets and memory are counted in /proc")
async def test_random_cancellations_leave_no_socket_and_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    """``DHENARA_SOAK=1`` runs ten thousand."""
    caplog.set_level(logging.ERROR, "dhenara_async")  # pytest would keep the record of every retry
    random, count = Random(5), 10_000 if SOAK else 1_000
    questions = [*SAID, "retry", "Hi."]
    config = AIModelCallConfig(fetch=FetchPolicy(allow_http=True, allow_private=True))
    async with nothing_left():
        with host() as server:
            # what idles is soon let go, so that sockets that stay open are not in a pool
            pools, sockets = (AiohttpTransport(keepalive=0.1), AiohttpTransport(limit=2, keepalive=0.1)), open_sockets()
            clients = [
                AIModelClient(chat_endpoint(server.url), config, transport=pool) for pool in (*pools[:1], *pools)
            ]

            async def one(seed: int) -> None:
                draw = Random(seed)
                phase = draw.choice(questions)
                asked = Message.user(f"{phase} #{seed}")
                if phase == "download":
                    asked = Message.user(phase, FilePart.from_url(f"{server.url}/cat.png"))
                with anyio.move_on_after(draw.uniform(0, 0.1)):
                    async with draw.choice(clients).stream(asked) as stream:
                        async for _ in stream:
                            if draw.random() < 0.1:
                                break
                        if draw.random() < 0.5:
                            await anyio.sleep(draw.uniform(0, 0.1))

            async def storm(calls: int) -> None:
                seeds = iter([random.random() for _ in range(calls)])

                async def worker() -> None:
                    for seed in seeds:
                        await one(int(seed * 1e9))

                async with anyio.create_task_group() as tasks:
                    for _ in range(AT_ONCE):
                        tasks.start_soon(worker)

            async def objects_left() -> int:
                """Counts only when all connections are closed: one that still closes has a dozen objects or more."""
                await until(lambda: open_sockets() <= sockets)
                await checkpoint()  # what the loop has yet to call about the last of them
                gc.collect()
                return len(gc.get_objects())

            await storm(3_000 if SOAK else 1_000)  # until memory has found its level; it stays there, whatever comes
            objects, before, tasks_before = await objects_left(), resident(), asyncio.all_tasks()
            await storm(count)
            left, after = await objects_left() - objects, resident()
            assert left <= count // 2
            assert asyncio.all_tasks() == tasks_before
            for client in clients:
                with anyio.fail_after(PATIENCE):
                    async with anyio.create_task_group() as tasks:
                        for _ in range(4):
                            tasks.start_soon(fine, client)
            await until(lambda: open_sockets() <= sockets)
            assert after <= before * 1.10
            if SOAK:
                print(f"{count} calls: resident memory {before / 1e6:.1f} → {after / 1e6:.1f} MB")
            for pool in pools:
                await pool.aclose()


@pytest.mark.slow
async def test_the_server_sees_every_cancellation() -> None:
    """Figures are printed with ``DHENARA_SOAK=1``; what comes first is asserted above, and that it comes here."""
    rounds, after = 100 if SOAK else 3, dict[str, list[float]]()
    config = AIModelCallConfig(fetch=FetchPolicy(allow_http=True, allow_private=True))
    async with nothing_left():
        with host() as server:
            transport = AiohttpTransport()
            client = AIModelClient(chat_endpoint(server.url), config, transport=transport)
            for phase in ("headers", "error body", "first event", "mid-stream", "draining"):
                for number in range(rounds):
                    name = f"{phase} {number}"
                    server.asked.clear()

                    async def reading(asked: str) -> None:
                        async with client.stream(asked) as stream:
                            async for _ in stream:
                                pass

                    async with asyncio.TaskGroup() as tasks:
                        task = tasks.create_task(reading(f"{phase} #{name}"))
                        await until(server.asked.is_set)
                        await anyio.sleep(0.005)
                        cancelled_at = perf_counter()
                        task.cancel()
                    await until(partial(server.ends.__contains__, name))
                    after.setdefault(phase, []).append(server.ends[name] - cancelled_at)
            await transport.aclose()
    every = [seconds for each in after.values() for seconds in each]
    assert len(every) == 5 * rounds
    assert max(every) < PATIENCE
    if SOAK:
        for phase, each in (*after.items(), ("all", every)):
            print(f"{phase}: median {1000 * statistics.median(each):.2f} ms, worst {1000 * max(each):.2f} ms")


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["headers", "mid-stream", "draining"])
async def test_streams_closed_from_another_task_leave_nothing(phase: Phase) -> None:
    """While a read is pending, by several at once, and again."""
    random, heard = Random(8), list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))
    async with nothing_left():
        with host() as server:
            transport = AiohttpTransport(limit=2)
            client = AIModelClient(chat_endpoint(server.url), transport=transport)
            for number in range(1000 if SOAK else 100):
                stream = client.stream(f"{phase} #{number}")

                async def reading(stream: ResponseStream) -> None:
                    async with stream:
                        try:
                            async for _ in stream:
                                pass
                        except StreamStateError:
                            pass

                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(reading(stream))
                    await anyio.sleep(random.uniform(0, 0.004))
                    for _ in range(3):
                        tasks.create_task(stream.aclose())
                await stream.aclose()
            for _ in range(4):
                await fine(client)
            await transport.aclose()
    assert heard == []
