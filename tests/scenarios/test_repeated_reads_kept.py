"""Repeated reads over a kept connection, where the reader itself waits for the response head, without another task."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from dhenara_async import AIModelCallConfig, AIModelClient, ResponseStream, RetryPolicy, StreamEvent, Timeouts
from dhenara_async.calls import source as sources
from dhenara_async.errors import DeadlineError, InvalidRequestError, StreamStateError
from dhenara_async.request import HttpRequest
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests.loopback import (
    PATIENCE,
    Connection,
    Play,
    Server,
    chat_body,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunked,
    head,
    serve,
    stalling,
    whole,
)
from tests.scenarios.test_cancellation import nothing_left
from tests.scenarios.test_repeated_reads import ATTEMPTS, PIECES, TEXT, WORDS, Attempt, Impatient, by_scope, text_of

pytestmark = pytest.mark.usefixtures("private_aiohttp")


def after_a_call(play: Play) -> Play:
    """Answer one plain request, then go on as ``play`` over the same connection."""

    async def both(connection: Connection) -> None:
        await connection.request()
        await connection.send(whole(chat_body("Ready.")))
        await play(connection)

    return both


@asynccontextmanager
async def kept(
    play: Play, config: AIModelCallConfig | None = None
) -> AsyncGenerator[tuple[AIModelClient, Server, AiohttpTransport]]:
    """A client whose transport keeps one connection, over which ``play`` answers."""
    transport = AiohttpTransport()
    try:
        async with nothing_left(), serve(after_a_call(play)) as server:
            client = AIModelClient(chat_endpoint(server.url), config, transport=transport)
            assert (await client.generate("Ready?")).text() == "Ready."
            yield client, server, transport
            await transport.aclose()
    finally:
        await transport.aclose()


async def give_up(stream: ResponseStream) -> None:
    """Cancel a read that waits for the response head."""
    with pytest.raises(TimeoutError):
        await by_scope(stream.__anext__)


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_every_event_comes_once(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhenara_async.calls.stream.Step", None)  # no task is needed
    reader = Impatient(attempt)
    async with kept(reader.talk) as (client, server, _):
        async with client.stream("Sing.") as stream:
            events = await reader.all_of(stream)
        assert (server.connections, len(server.requests)) == (1, 2)
    check_grammar([event for event in events if isinstance(event, StreamEvent)])
    assert text_of(events) == stream.response.text() == TEXT
    assert reader.given_up >= 3 * (len(PIECES) - 1)


async def test_two_readers_share_the_events() -> None:
    events: list[StreamEvent] = []
    gate = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        await gate.wait()
        await connection.send(chunked(*chat_stream(*WORDS)))

    async with kept(play) as (client, server, _), client.stream("Sing.") as stream, anyio.create_task_group() as tasks:

        async def read() -> None:
            events.extend([await anext(stream) for _ in range(2)])

        tasks.start_soon(read)
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    check_grammar(events, complete=False)
    assert (len(events), len(server.requests)) == (4, 2)


async def test_a_second_reader_takes_over_from_a_cancelled_one() -> None:
    gate = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        await gate.wait()
        await connection.send(chunked(*chat_stream(*WORDS)))

    async with kept(play) as (client, server, _), client.stream("Sing.") as stream:
        async with asyncio.TaskGroup() as tasks:
            first, second = (tasks.create_task(stream.batch()) for _ in range(2))
            await anyio.wait_all_tasks_blocked()
            first.cancel()
            await anyio.wait_all_tasks_blocked()
            gate.set()
            with anyio.fail_after(PATIENCE):
                assert await second
                assert (await stream.collect()).text() == TEXT
        assert len(server.requests) == 2


async def test_leaving_the_block_before_the_head_hangs_up() -> None:
    async with kept(stalling()) as (client, server, _):
        async with client.stream("Sing.") as stream:
            await give_up(stream)
            await give_up(stream)
        await server.wait_hung_up()
        assert len(server.requests) == 2


async def test_closing_from_another_task_ends_the_wait_for_the_head() -> None:
    async with kept(stalling()) as (client, server, _):
        async with client.stream("Sing.") as stream, asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_error_of(stream))
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
            with anyio.fail_after(PATIENCE):
                assert isinstance(await reading, StreamStateError)
        await server.wait_hung_up()


async def _error_of(stream: ResponseStream) -> Exception | None:
    try:
        await anext(stream)
    except Exception as exc:  # noqa: BLE001 - looked at by the test
        return exc
    return None


async def test_closing_the_transport_ends_the_wait_for_the_head() -> None:
    async with kept(stalling()) as (client, _, transport), client.stream("Sing.") as stream:
        await give_up(stream)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_error_of(stream))
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
            with anyio.fail_after(PATIENCE):
                assert isinstance(await reading, StreamStateError)


async def test_an_error_response_is_read_in_pieces() -> None:
    gate = asyncio.Event()
    refusal = whole(b'{"error": {"message": "No such song."}}', 400)

    async def play(connection: Connection) -> None:
        await connection.request()
        await connection.send(refusal[:-10])
        await gate.wait()
        await connection.send(refusal[-10:])

    async with kept(play) as (client, server, _), client.stream("Sing.") as stream:
        await give_up(stream)
        await give_up(stream)
        gate.set()
        with anyio.fail_after(PATIENCE), pytest.raises(InvalidRequestError, match="No such song"):
            await anext(stream)
        assert len(server.requests) == 2


async def test_an_overloaded_provider_is_asked_again() -> None:
    async def play(connection: Connection) -> None:
        await connection.request()
        await connection.send(whole(b"{}", 503))
        await connection.request()
        await connection.send(chunked(*chat_stream(*WORDS)))

    config = AIModelCallConfig(retries=RetryPolicy(attempts=2))
    async with kept(play, config) as (client, server, _), client.stream("Sing.") as stream:
        events = await Impatient().all_of(stream)
        assert text_of(events) == TEXT
        assert (stream.response.attempts, len(server.requests)) == (2, 3)


async def test_a_kept_connection_that_ends_is_replaced() -> None:
    config = AIModelCallConfig(retries=RetryPolicy(attempts=2))

    connections = 0

    async def one_answer(connection: Connection) -> None:
        nonlocal connections
        connections += 1
        await connection.request()
        if connections > 1:
            await connection.send(chunked(*chat_stream(*WORDS)))
            return
        await connection.send(whole(chat_body("Ready.")))
        await connection.request()  # gets no answer

    transport = AiohttpTransport()
    async with nothing_left(), serve(one_answer) as server:
        client = AIModelClient(chat_endpoint(server.url), config, transport=transport)
        await client.generate("Ready?")
        async with client.stream("Sing.") as stream:
            assert text_of(await Impatient().all_of(stream)) == TEXT
        assert (server.connections, len(server.requests)) == (2, 3)
        await transport.aclose()


async def test_the_first_byte_limit_counts_on_between_reads() -> None:
    config = AIModelCallConfig(timeouts=Timeouts(first_byte=0.1), retries=RetryPolicy(attempts=1))
    async with kept(stalling()) as (client, server, _):  # whose first call has no such limit
        async with client.stream("Sing.", config=config) as stream:
            with pytest.raises(DeadlineError) as caught:
                await Impatient().all_of(stream)
        assert caught.value.limit == "first_byte"
        await server.wait_hung_up()


async def test_a_stream_that_is_closed_while_it_is_signed_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    signing, gate = asyncio.Event(), asyncio.Event()

    async def sign(_self: object, request: HttpRequest) -> HttpRequest:
        signing.set()
        await gate.wait()
        return request

    async with kept(stalling(head(), chat_delta("Ebb"))) as (client, server, _):
        monkeypatch.setattr("dhenara_async.hosts.auth.KeyHeader.sign", sign)
        async with client.stream("Sing.") as stream, asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_error_of(stream))
            await signing.wait()
            await stream.aclose()
            gate.set()
            assert isinstance(await reading, StreamStateError)
        assert len(server.requests) == 1


async def test_transports_without_two_steps_use_a_task() -> None:
    class Plain:
        """Has no ``starter``."""

    assert not sources._starts_requests(Plain)  # pyright: ignore[reportPrivateUsage] - the cached check
    assert sources._starts_requests(AiohttpTransport)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("unasked", [True, False], ids=["unasked bytes", "the end of the connection"])
async def test_an_idle_connection_that_is_lost_before_the_first_read_is_not_used(unasked: bool) -> None:
    connections, asked, said = 0, asyncio.Event(), asyncio.Event()

    async def play(connection: Connection) -> None:
        nonlocal connections
        connections += 1
        await connection.request()
        if connections > 1:
            await connection.send(chunked(*chat_stream(*WORDS)))
            return
        await connection.send(whole(chat_body("Ready.")))
        await asked.wait()
        if unasked:
            await connection.send(whole(chat_body("Of another tenant.")))
            said.set()
            await connection.request()
        else:
            await connection.finish()
            said.set()

    transport = AiohttpTransport()
    async with nothing_left(), serve(play) as server:
        client = AIModelClient(chat_endpoint(server.url), transport=transport)
        await client.generate("Ready?")
        async with client.stream("Sing.") as stream:  # finds the idle connection
            asked.set()
            await said.wait()
            assert text_of(await Impatient().all_of(stream)) == TEXT
        assert (server.connections, len(server.requests)) == (2, 2)
        await transport.aclose()
