"""Cancelling and leaving fan-outs: no task or socket is left; a slow reader slows the hosts down."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from dhenara_async import FanOut, ModelCall, TextDelta, as_completed, fan_out
from dhenara_async.errors import StreamStateError
from dhenara_async.testing import ProviderServer
from tests.fanout.test_fan_out import GroupingServer, expected_text, repeat_question, requests_to, run_other_tasks
from tests.loopback import (
    LAST_CHUNK,
    PATIENCE,
    Connection,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    head,
    serve,
)
from tests.scenarios.test_cancellation import host, nothing_left


@asynccontextmanager
async def no_task_left() -> AsyncGenerator[None]:
    """Fail if the block leaves a task of the library, or an object with a resource warning."""
    yield
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("dhenara_async")] == []
    gc.collect()


async def begun(fan: FanOut, count: int) -> None:
    """Read until ``count`` calls have sent content."""
    heard: set[int] = set()
    while len(heard) < count:
        tagged = await anext(fan)
        if isinstance(tagged.event, TextDelta):
            heard.add(tagged.index)


# ---------------------------------------------------------------------------------------------- cancelling single calls


async def test_cancelling_one_call_leaves_the_others_running() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server, ProviderServer(repeat_question) as good, no_task_left():
        calls = [ModelCall(chat_endpoint(server.url), "stay", key="one"), *requests_to(good, "abc")]
        async with fan_out(calls) as fan:
            async for tagged in fan:
                if tagged.index == 0 and isinstance(tagged.event, TextDelta):
                    fan.cancel(0)
                    fan.cancel(0)
            await grouping.wait_closed_early(1)
    one, *others = fan.results
    assert (one.cancelled, one.response, one.key) == (True, None, "one")
    assert isinstance(one.error, StreamStateError)
    assert one.partial is not None
    assert one.partial.text() == "stay"
    with pytest.raises(StreamStateError, match="cancelled"):
        one.unwrap()
    assert [other.unwrap().text() for other in others] == [expected_text(question) for question in "abc"]


async def test_a_call_can_be_cancelled_before_it_starts() -> None:
    async with ProviderServer(repeat_question) as server, no_task_left():
        async with fan_out(requests_to(server, "abc"), limit=1) as fan:
            fan.cancel(0)
            fan.cancel(2)
            fan.cancel(7)
            indexes = {tagged.index async for tagged in fan}
            fan.cancel(1)  # this call has ended
        assert [request.turns[-1][1] for request in server.requests] == ["b"]
    assert indexes == {1}
    assert [result.cancelled for result in fan.results] == [True, False, True]
    assert [result.partial for result in fan.results] == [None] * 3
    assert [result.key for result in fan.results] == ["key of a", "key of b", "key of c"]


async def test_a_call_can_be_cancelled_right_after_its_start() -> None:
    async with ProviderServer(repeat_question) as server, no_task_left(), fan_out(requests_to(server, "ab")) as fan:
        while fan.progress.running < 2:  # noqa: ASYNC110 - this takes only a moment
            await asyncio.sleep(0)
        fan.cancel(1)
        assert {tagged.index async for tagged in fan} == {0}
    assert [result.cancelled for result in fan.results] == [False, True]
    assert fan.results[1].partial is None  # the call was not started


async def test_cancelling_all_calls_keeps_the_block_open() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server, no_task_left():
        calls = [(chat_endpoint(server.url), "stay") for _ in range(6)]
        async with fan_out(calls, limit=3) as fan:
            await begun(fan, 3)
            fan.cancel()
            ends: list[int] = []
            while batch := await fan.batch():
                ends += [batch.index] if batch.outcome is not None else []
            await anyio.lowlevel.checkpoint()  # the reader is not cancelled
            await grouping.wait_closed_early(3)
    assert sorted(ends) == list(range(6))
    assert len(grouping.questions) == 3
    assert [result.cancelled for result in fan.results] == [True] * 6
    assert [result.partial is not None for result in fan.results] == [True] * 3 + [False] * 3


async def test_cancelling_an_ended_call_has_no_effect() -> None:
    async with ProviderServer(repeat_question) as server, fan_out(requests_to(server, "ab")) as fan:
        await fan.collect()
        fan.cancel()
        fan.cancel(0)
    assert [result.cancelled for result in fan.results] == [False, False]


async def test_cancelling_ends_the_wait_for_further_requests() -> None:
    async def never() -> AsyncGenerator[ModelCall]:
        await anyio.sleep_forever()
        yield ModelCall(chat_endpoint("http://127.0.0.1:1"), "never")

    async with no_task_left():
        async with fan_out(never()) as fan:
            await run_other_tasks()
            fan.cancel()
            assert [tagged async for tagged in fan] == []
        assert fan.results == []


# ------------------------------------------------------------------------------------------------------ ways of leaving


class Mine(Exception):
    """An error of the caller's own code."""


async def by_break(fan: FanOut) -> None:
    async with fan:
        await begun(fan, 3)


async def by_raising(fan: FanOut) -> None:
    with pytest.raises(Mine) as caught:
        async with fan:
            await begun(fan, 3)
            raise Mine
    assert caught.value.__context__ is None


async def by_a_scope(fan: FanOut) -> None:
    with anyio.CancelScope() as scope:
        async with fan:
            await begun(fan, 3)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def by_a_deadline(fan: FanOut) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1000) as deadline, fan:
            await begun(fan, 3)
            deadline.reschedule(0)
            async for _ in fan:
                pass


async def by_cancelling_the_task(fan: FanOut) -> None:
    async def read() -> None:
        async with fan:
            await begun(fan, 3)
            ready.set()
            async for _ in fan:
                pass

    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(read())
        await ready.wait()
        task.cancel()
    assert task.cancelled()


async def by_cancelling_who_awaits(fan: FanOut) -> None:
    async def collect() -> None:
        await fan

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(collect())
        with anyio.fail_after(PATIENCE):
            while fan.progress.running < 3:  # noqa: ASYNC110 - this takes only a moment
                await asyncio.sleep(0)
            await anyio.wait_all_tasks_blocked()
            await anyio.sleep(0.05)  # for them to be sent; nothing is asserted of how far they got
        task.cancel()
    assert task.cancelled()


WAYS = [by_break, by_raising, by_a_scope, by_a_deadline, by_cancelling_the_task]


@pytest.mark.parametrize("leave", WAYS)
async def test_leaving_closes_every_socket_before_control_returns(leave: Callable[[FanOut], Awaitable[None]]) -> None:
    """The server runs in another thread; this one blocks until the server has seen the end of all calls."""
    async with nothing_left():
        with host() as server:
            fan = fan_out([(chat_endpoint(server.url), f"mid-stream #{number}") for number in range(5)], limit=3)
            await leave(fan)
            for _ in range(1000):
                if len(server.ends) < 3:
                    server.closed.wait(0.01)
                    server.closed.clear()
            assert sorted(server.ends) == ["0", "1", "2"]
    assert [result.cancelled for result in fan.results] == [True] * 5
    assert [result.partial is not None for result in fan.results] == [True] * 3 + [False] * 2
    with pytest.raises(StreamStateError):
        await anext(fan)


async def test_cancelling_an_awaited_fan_out_cancels_all_calls() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server, no_task_left():
        await by_cancelling_who_awaits(fan_out([(chat_endpoint(server.url), "stay") for _ in range(3)]))
        await grouping.wait_closed_early(len(grouping.questions))


async def test_leaving_the_block_at_once_records_outcomes_for_all_requests() -> None:
    async with ProviderServer(repeat_question) as server, no_task_left():
        async with fan_out(requests_to(server, "abc")) as fan:
            pass
        assert [result.cancelled for result in fan.results] == [True] * 3
        async with fan_out(requests_to(server, "abc")) as fan:
            while fan.progress.running < 3:  # noqa: ASYNC110 - this takes only a moment
                await asyncio.sleep(0)
        assert [result.cancelled for result in fan.results] == [True] * 3
        async with as_completed(requests_to(server, "abc")):
            pass


# --------------------------------------------------------------------------------------------------------- slow readers


async def test_a_slow_reader_slows_the_hosts_down() -> None:
    """The hosts cannot send more than the socket buffers hold while the reader does not read."""
    piece, pieces, streams = "x" * 65_000, 400, 5
    written = 0

    async def talkative(connection: Connection) -> None:
        nonlocal written
        if await connection.request() is None:
            return
        await connection.send(head(transfer_encoding="chunked"))
        for _ in range(pieces):
            await connection.send(chunk(chat_delta(piece)))
            written += len(piece)
        await connection.send(*map(chunk, chat_stream("!")), LAST_CHUNK)
        await connection.until_hung_up()

    async def stalled() -> int:
        """Wait until no host can write any more."""
        while True:
            before = written
            for _ in range(20):
                await run_other_tasks()
            if before == written > 0:
                return written

    async with serve(talkative) as server, no_task_left():
        fan = fan_out([(chat_endpoint(server.url), "talk") for _ in range(streams)])
        async with fan:
            first = await fan.batch()
            assert first is not None
            held = await stalled()
            # the buffers of two sockets and one aiohttp stream; Linux lets a pair of sockets have up to 10 MB
            assert held < streams * 11_000_000
            assert held < streams * pieces * len(piece) // 2
            taken = 0
            while taken < held // 2:  # some more is read, and some more can be written
                batch = await fan.batch()
                assert batch is not None
                taken += sum(len(event.text) for event in batch.events if isinstance(event, TextDelta))
            assert await stalled() > held
            assert written - taken < streams * 11_000_000
            results = await fan.collect()
    assert [len(result.unwrap().text()) for result in results] == [pieces * len(piece) + 1] * streams
