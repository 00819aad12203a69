"""``AIModelClient`` and ``ResponseStream`` against real sockets: whole answers, broken ones, and every way to leave."""

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import httpx
import orjson
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    AiohttpTransport,
    Dialect,
    FilePart,
    HttpxTransport,
    Message,
    ResponseStream,
    StreamEnd,
    StreamEvent,
    StreamStart,
    TextDelta,
    Timeouts,
)
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.timing import Timing
from dhenara_async.errors import (
    ConnectError,
    DeadlineError,
    DhenaraError,
    OverloadedError,
    ProtocolError,
    ReadError,
    StreamStateError,
    TruncatedStreamError,
)
from dhenara_async.response import FinishReason
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.testing.grammar import check_grammar
from tests.loopback import (
    LAST_CHUNK,
    NO_RETRIES,
    ONCE,
    PATIENCE,
    SPEAKERS,
    Connection,
    Server,
    boundaries,
    chat_body,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    chunked,
    endpoint_at,
    event,
    head,
    moved,
    nobody,
    once,
    replies,
    resetting,
    serve,
    stalling,
    whole,
)
from tests.steady import steady

DIALECTS = list(SPEAKERS)
WORDS = ("One", " two", " three.")
TEXT = "".join(WORDS)


def texts(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def drain(stream: ResponseStream) -> tuple[list[StreamEvent], DhenaraError | None]:
    """Every event of a stream, and the failure it ended with."""
    events: list[StreamEvent] = []
    try:
        async for item in stream:
            events.append(item)
    except DhenaraError as exc:
        return events, exc
    return events, None


@asynccontextmanager
async def nothing_left() -> AsyncGenerator[None]:
    """Fails if the block leaves a task behind; garbage is collected inside, so that its warnings belong to the test."""
    before = asyncio.all_tasks()
    with anyio.fail_after(PATIENCE):
        yield
        while left := {task for task in asyncio.all_tasks() - before if not task.done()}:
            await asyncio.wait(left)
    gc.collect()


# ------------------------------------------------------------------------------------------------------ whole answers


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("streaming", [False, True])
async def test_generate(dialect: Dialect, streaming: bool) -> None:
    async with ProviderServer([Answer(text=TEXT, pieces=WORDS)]) as server:
        client = AIModelClient(endpoint_at(server, dialect), AIModelCallConfig(streaming=streaming))
        response = await client.generate("Count.", context=["Hello."], instructions=["Be brief."])
        (seen,) = server.requests
    assert response.text() == response.chat_response.choices[0].contents[0].get_text() == TEXT
    assert response.chat_response.finish_reason is FinishReason.STOP
    assert response.chat_response.usage.source == "reported"
    assert (seen.stream, seen.system) == (streaming, "Be brief.")
    ((role, said),) = seen.turns
    assert (role, said.replace("\n", "")) == ("user", "Hello.Count.")
    assert seen.authenticated
    assert response.endpoint.provider == SPEAKERS[dialect][0].value


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_stream(dialect: Dialect) -> None:
    async with ProviderServer([Answer(text=TEXT, pieces=WORDS)] * 2) as server:
        client = AIModelClient(endpoint_at(server, dialect))
        async with client.stream("Count.") as stream:
            events = [item async for item in stream]
        async with client.stream("Count.") as folded:
            response = await folded.collect()
        assert [request.stream for request in server.requests] == [True, True]
    check_grammar(events)
    assert [item.text for item in events if isinstance(item, TextDelta)] == list(WORDS)
    assert texts(events) == stream.response.text() == response.text() == TEXT
    assert stream.response == stream.partial
    assert stream.complete
    assert stream.failure is None
    start = events[0]
    assert isinstance(start, StreamStart)
    assert start.request_id == stream.response.request_id


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_request_id_and_latency(dialect: Dialect) -> None:
    async with ProviderServer() as server:
        client = AIModelClient(endpoint_at(server, dialect))
        async with client.stream("Count.") as stream:
            assert stream.partial.latency.first_event is None
            response = await stream.collect()
    assert response.request_id == (None if dialect is Dialect.GEMINI else "req_loopback000001")
    latency = response.latency
    assert latency.first_event is not None
    assert 0 < latency.first_event <= latency.total
    assert stream.response.latency == latency


async def test_batches_join_to_the_events() -> None:
    async with (
        ProviderServer([Answer(text=TEXT, pieces=WORDS)]) as server,
        AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT)).stream("Count.") as stream,
    ):
        events: list[StreamEvent] = []
        while batch := await stream.batch():
            events += batch
    check_grammar(events)
    assert texts(events) == TEXT


async def test_warnings_on_the_start_and_the_response() -> None:
    config = AIModelCallConfig(seed=7, max_output_tokens=99)
    async with (
        ProviderServer() as server,
        AIModelClient(endpoint_at(server, Dialect.ANTHROPIC_MESSAGES), config).stream("Hi.") as stream,
    ):
        start = await anext(stream)
        response = await stream.collect()
    assert isinstance(start, StreamStart)
    assert [warning.knob for warning in start.warnings] == ["seed"]
    assert response.warnings == start.warnings


async def test_a_config_of_the_call_replaces_the_clients() -> None:
    async with serve(replies(whole(chat_body(TEXT)))) as server:
        client = AIModelClient(chat_endpoint(server.url), AIModelCallConfig(max_output_tokens=1, temperature=0.5))
        await client.generate("Hi.", config=AIModelCallConfig(max_output_tokens=2))
        await client.generate("Hi.")
        bodies = [orjson.loads(request.body) for request in server.requests]
    assert [(body["max_tokens"], body.get("temperature")) for body in bodies] == [(2, None), (1, 0.5)]


async def test_extras_are_merged_last() -> None:
    config = AIModelCallConfig(
        max_output_tokens=5,
        extra_body={"max_tokens": 6, "stream_options": {"more": True}, "new": [1]},
        extra_headers={"Accept": "text/mine", "X-Mine": "é", "User-Agent": "mine/1"},
    )
    async with serve(replies(whole(b"".join(chat_stream(TEXT)), content_type="text/event-stream"))) as server:
        endpoint = chat_endpoint(server.url)
        api = endpoint.api.model_copy(update={"headers": {"X-Host": "1", "X-Mine": "host"}})
        async with AIModelClient(endpoint.model_copy(update={"api": api}), config).stream("Hi.") as stream:
            await stream.collect()
        (request,) = server.requests
    body = orjson.loads(request.body)
    assert (body["max_tokens"], body["new"], body["stream"]) == (6, [1], True)
    assert body["stream_options"] == {"include_usage": True, "more": True}
    names = ("accept", "x-mine", "x-host", "user-agent", "content-type", "authorization")
    assert [request.header(name) for name in names] == [
        ["text/mine"],
        ["é"],
        ["1"],
        ["mine/1"],
        ["application/json"],
        ["Bearer loopback-key"],
    ]


async def test_no_key_no_header() -> None:
    async with serve(replies(whole(chat_body(TEXT)))) as server:
        await AIModelClient(chat_endpoint(server.url, key=None)).generate("Hi.")
        (request,) = server.requests
    assert request.header("authorization") == []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("streaming", [False, True])
async def test_test_mode_needs_neither_network_nor_key(
    dialect: Dialect, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    provider, model = SPEAKERS[dialect]
    endpoint = AIModelEndpoint.model_validate({"api": {"provider": provider}, "ai_model": {"model_name": model}})
    client = AIModelClient(endpoint, AIModelCallConfig(test_mode=True, streaming=streaming))
    response = await client.generate("What is it?")
    async with client.stream("What is it?") as stream:
        events = [item async for item in stream]
    check_grammar(events)
    assert texts(events) == response.text() == stream.response.text()
    assert "What is it?" in response.text()
    assert model in response.text()
    assert response.chat_response.finish_reason is FinishReason.STOP
    assert response.chat_response.usage.source == "unknown"


def _no_network(*_arguments: object) -> None:
    raise AssertionError("test mode opened a connection")


# -------------------------------------------------------------------------------------------------------- connections


async def test_a_block_keeps_one_connection() -> None:
    async with nothing_left(), serve(replies(chunked(*chat_stream(*WORDS)))) as server:
        async with AIModelClient(chat_endpoint(server.url)) as client:
            for number in range(10):
                if number % 2:
                    assert (await client.generate("Count.")).text() == TEXT
                else:
                    async with client.stream("Count.") as stream:
                        assert texts([item async for item in stream]) == TEXT
            assert (server.connections, len(server.requests)) == (1, 10)
            assert not server.hung_up.is_set()
        await server.wait_hung_up()


@pytest.mark.parametrize("stop_at_end", [False, True])
async def test_a_stream_whose_body_ends_late_gives_its_connection_back(stop_at_end: bool) -> None:
    shared = SharedResources(timing=Timing(drain=PATIENCE))  # a busy machine is not what is tested

    async def play(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.send(head(transfer_encoding="chunked"), *map(chunk, chat_stream(*WORDS)))
            await anyio.wait_all_tasks_blocked()  # the client has read [DONE] and found no end of the body
            await connection.send(LAST_CHUNK)

    async with nothing_left(), serve(play) as server, AIModelClient(chat_endpoint(server.url), shared=shared) as client:
        for _ in range(10):
            async with client.stream("Count.") as stream:
                async for item in stream:
                    if stop_at_end and isinstance(item, StreamEnd):
                        break
            assert stream.response.text() == TEXT
        assert (server.connections, len(server.requests)) == (1, 10)


async def test_an_unmarked_stream_that_stays_open_ends_all_the_same() -> None:
    stream_bytes = b"".join(chat_stream(*WORDS))
    play = stalling(head(content_type="", transfer_encoding="chunked"), chunk(stream_bytes))
    async with nothing_left(), serve(play) as server:
        with anyio.fail_after(PATIENCE):
            response = await AIModelClient(chat_endpoint(server.url)).generate("Count.")
        await server.wait_hung_up()
    assert response.text() == TEXT


async def test_outside_a_block_each_call_closes_its_own() -> None:
    async with nothing_left(), serve(replies(whole(chat_body(TEXT)))) as server:
        client = AIModelClient(chat_endpoint(server.url))
        for number in range(1, 4):
            await client.generate("Count.")
            await server.wait_hung_up()
            assert server.connections == number


async def test_a_shared_transport_is_shared_and_left_open() -> None:
    async with nothing_left(), serve(replies(whole(chat_body(TEXT)))) as server:
        transport = AiohttpTransport()
        for name in ("a", "b"):
            endpoint = chat_endpoint(server.url, model=name)
            async with AIModelClient(endpoint, transport=transport) as client:
                await client.generate("Count.")
            await AIModelClient(endpoint, transport=transport).generate("Count.")
        assert (server.connections, len(server.requests)) == (1, 4)
        assert not server.hung_up.is_set()
        await transport.aclose()
        await server.wait_hung_up()


async def test_a_refusal_gives_its_connection_back() -> None:
    refusal = whole(b'{"error": {"message": "no"}}', 429)
    async with (
        nothing_left(),
        serve(replies(refusal)) as server,
        AIModelClient(chat_endpoint(server.url), ONCE) as client,
    ):
        for _ in range(3):
            with pytest.raises(DhenaraError, match="no"):
                await client.generate("Hi.")
        assert len(server.requests) == 3


async def test_a_small_pool_survives_broken_and_abandoned_streams() -> None:
    answers = {
        "Refuse.": whole(b"{}", 500),
        "Cut.": chunked(chat_delta("x")),
        "Break.": chunked(*chat_stream(*WORDS)),
        "Count.": chunked(*chat_stream(*WORDS)),
    }

    async def play(connection: Connection) -> None:
        while (request := await connection.request()) is not None:
            question = orjson.loads(request.body)["messages"][0]["content"]
            await connection.send(answers[question])

    async with nothing_left(), serve(play) as server:
        transport = AiohttpTransport(limit=1)
        client = AIModelClient(
            chat_endpoint(server.url),
            AIModelCallConfig(timeouts=Timeouts(connect=PATIENCE), retries=NO_RETRIES),
            transport=transport,
        )
        for _ in range(20):
            for question in ("Refuse.", "Cut."):
                with pytest.raises(DhenaraError):
                    await client.generate(question, config=AIModelCallConfig(streaming=True, retries=NO_RETRIES))
            async with client.stream("Break.") as stream:
                assert isinstance(await anext(stream), StreamStart)
        assert (
            await client.generate("Count.", config=AIModelCallConfig(streaming=True, retries=NO_RETRIES))
        ).text() == TEXT
        await transport.aclose()


# -------------------------------------------------------------------------------------------------- out of order


async def test_a_client_is_entered_once_at_a_time() -> None:
    async with ProviderServer() as server:
        client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT))
        async with client:
            with pytest.raises(StreamStateError, match="already in a block"):
                await client.__aenter__()
        async with client:
            assert (await client.generate("Hi.")).text()


async def test_stream_states() -> None:
    async with nothing_left(), serve(stalling(head(), chat_delta("One"))) as server:
        stream = AIModelClient(chat_endpoint(server.url)).stream("Count.")
        assert stream.partial.text() == ""
        for use in (stream.__anext__, stream.collect, stream.batch):
            with pytest.raises(StreamStateError, match="inside its block"):
                await use()
    assert (server.connections, stream.complete) == (0, False)


async def test_stream_states_in_and_after_the_block() -> None:
    async with nothing_left(), serve(stalling(head(), chat_delta("One"))) as server:
        client = AIModelClient(chat_endpoint(server.url))
        async with client.stream("Count.") as stream:
            with pytest.raises(StreamStateError, match="entered once"):
                await stream.__aenter__()
            with pytest.raises(StreamStateError, match="not complete"):
                _ = stream.response
            assert stream.partial.text() == ""
            async for item in stream:
                if isinstance(item, TextDelta):
                    break
            with pytest.raises(StreamStateError, match="not complete"):
                _ = stream.response
            assert stream.partial.text() == "One"
        assert stream.partial.text() == "One"
        for use in (stream.__anext__, stream.collect, stream.batch):
            with pytest.raises(StreamStateError):
                await use()
        await stream.aclose()
        with pytest.raises(StreamStateError, match="entered once"):
            await stream.__aenter__()
        await server.wait_hung_up()


async def test_a_finished_stream_stays_finished() -> None:
    async with ProviderServer([Answer(text=TEXT)]) as server:
        async with AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT)).stream("Count.") as stream:
            assert [item async for item in stream]
            assert [item async for item in stream] == []
            assert await stream.batch() == []
            assert (await stream.collect()).text() == TEXT
        assert [item async for item in stream] == []
        assert stream.response.text() == TEXT


# ----------------------------------------------------------------------------------------------------------- leaving


class Left(Exception):
    """Raised by the reader."""


async def _leave_by_break(stream: ResponseStream) -> None:
    async with stream:
        async for item in stream:
            if isinstance(item, TextDelta):
                break


async def _leave_by_exception(stream: ResponseStream) -> None:
    with pytest.raises(Left):
        async with stream:
            async for item in stream:
                if isinstance(item, TextDelta):
                    raise Left


async def _leave_by_scope(stream: ResponseStream) -> None:
    with anyio.CancelScope() as scope:
        async with stream:
            async for item in stream:
                if isinstance(item, TextDelta):
                    scope.cancel()
    assert scope.cancelled_caught


async def _leave_by_timeout(stream: ResponseStream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit, stream:
            async for item in stream:
                if isinstance(item, TextDelta):  # the limit is over when there is something to lose
                    limit.reschedule(asyncio.get_running_loop().time())


async def _leave_by_task_cancel(stream: ResponseStream) -> None:
    arrived = asyncio.Event()

    async def read() -> None:
        async with stream:
            async for item in stream:
                if isinstance(item, TextDelta):
                    arrived.set()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(read())
        await arrived.wait()
        await anyio.wait_all_tasks_blocked()
        task.cancel()
    assert task.cancelled()


async def _leave_by_aclose(stream: ResponseStream) -> None:
    async with stream:
        async for item in stream:
            if isinstance(item, TextDelta):
                await stream.aclose()
                break


async def _leave_by_aclose_elsewhere(stream: ResponseStream) -> None:
    arrived = asyncio.Event()

    async def read() -> None:
        async with stream:
            with pytest.raises(DhenaraError):
                async for item in stream:
                    if isinstance(item, TextDelta):
                        arrived.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await arrived.wait()
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()


LEAVING: list[Callable[[ResponseStream], Awaitable[None]]] = [
    _leave_by_break,
    _leave_by_exception,
    _leave_by_scope,
    _leave_by_timeout,
    _leave_by_task_cancel,
    _leave_by_aclose,
    _leave_by_aclose_elsewhere,
]


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("kept", [False, True])
async def test_leaving_early_hangs_up(leave: Callable[[ResponseStream], Awaitable[None]], kept: bool) -> None:
    async with nothing_left(), serve(stalling(head(), chat_delta("One"), chat_delta(" two"))) as server:
        client = AIModelClient(chat_endpoint(server.url))
        if kept:
            async with client:
                stream = client.stream("Count.")
                await leave(stream)
                await server.wait_hung_up()  # although the client's block is still open
        else:
            stream = client.stream("Count.")
            await leave(stream)
            await server.wait_hung_up()
        assert server.connections == 1
        partial = stream.partial
        assert partial.text() in {"One", "One two"}
        assert partial.chat_response.finish_reason is FinishReason.ERROR
        assert partial.chat_response.choices[0].parts[0].status == "interrupted"
        assert partial.chat_response.usage.source != "reported"
        with pytest.raises(StreamStateError):
            _ = stream.response


@pytest.mark.parametrize("head_sent", [False, True])
async def test_leaving_before_the_first_byte_hangs_up(head_sent: bool) -> None:
    play = stalling(head()) if head_sent else stalling()
    async with nothing_left(), serve(play) as server:
        stream = AIModelClient(chat_endpoint(server.url)).stream("Count.")
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_asked, server, scope)
                async with stream:
                    await anext(stream)
        assert scope.cancelled_caught
        await server.wait_hung_up()
    assert stream.partial.chat_response.choices[0].parts == ()


async def _cancel_when_asked(server: Server, scope: anyio.CancelScope) -> None:
    await server.asked.wait()
    await anyio.wait_all_tasks_blocked()
    scope.cancel()


async def test_leaving_without_reading_opens_nothing() -> None:
    async with nothing_left(), serve(stalling()) as server:
        async with AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream:
            pass
        assert server.connections == 0
    assert stream.partial.text() == ""


async def test_a_cancelled_read_ends_nothing() -> None:
    async with nothing_left(), serve(stalling(head(), chat_delta("One"))) as server:
        async with AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream:
            for use in (stream.collect, stream.__anext__, stream.batch, stream.collect):
                scope = anyio.CancelScope()
                while not scope.cancelled_caught:  # events that came late are read first
                    with anyio.move_on_after(0.05) as scope:
                        await use()
                assert stream.failure is None
            while stream.partial.text() != "One":
                with anyio.move_on_after(0.05):
                    await stream.collect()
        await server.wait_hung_up()
        assert len(server.requests) == 1


async def test_cancelled_generate_hangs_up() -> None:
    async with nothing_left(), serve(stalling(head(content_type="application/json"), b'{"choices":')) as server:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_asked, server, scope)
                await AIModelClient(chat_endpoint(server.url)).generate("Count.")
        assert scope.cancelled_caught
        await server.wait_hung_up()


# ------------------------------------------------------------------------------------------------------ broken answers

_TERMINAL = {
    Dialect.OPENAI_CHAT: b'"finish_reason":"stop"',
    Dialect.OPENAI_RESPONSES: b'"type":"response.completed"',
    Dialect.ANTHROPIC_MESSAGES: b'"type":"message_stop"',
    Dialect.GEMINI: b'"finishReason":',
}


async def _recorded(dialect: Dialect, answer: Answer) -> list[bytes]:
    """The events of one streamed answer of ``ProviderServer``, as bytes."""
    bodies: list[bytes] = []

    async def keep(response: httpx.Response) -> None:
        bodies.append(await response.aread())

    async with ProviderServer([answer]) as server, httpx.AsyncClient(event_hooks={"response": [keep]}) as http:
        client = AIModelClient(endpoint_at(server, dialect), transport=HttpxTransport(http))
        async with client.stream("Count.") as stream:
            await stream.collect()
    return [piece + b"\n\n" for piece in bodies[0].replace(b"\r\n", b"\n").split(b"\n\n") if piece]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("torn", [False, True])
async def test_a_stream_cut_at_any_event_is_truncated(dialect: Dialect, torn: bool) -> None:
    recorded = await _recorded(dialect, Answer(text=TEXT, reasoning="I can count.", pieces=WORDS))
    beginnings = boundaries(recorded)
    tails = [part[: len(part) // 2] if torn else b"" for part in recorded]
    left = [beginning + tail for beginning, tail in zip(beginnings, [*tails, b""], strict=True)]

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(head(), left.pop(0))

    cut = 0
    async with nothing_left(), ProviderServer() as provider, serve(play) as server:
        endpoint = endpoint_at(provider, dialect)
        base_url = (endpoint.api.base_url or "").replace(provider.url, server.url)
        client = AIModelClient(moved(endpoint, base_url), ONCE)
        for beginning in beginnings:
            async with client.stream("Count.") as stream:
                events, failure = await drain(stream)
            whole_answer = _TERMINAL[dialect] in beginning
            cut += not whole_answer
            check_grammar(events, complete=whole_answer)
            assert TEXT.startswith(texts(events))
            assert stream.partial.text() == texts(events)
            if whole_answer:
                assert (failure, stream.response.text()) == (None, TEXT)
                continue
            assert type(failure) is TruncatedStreamError
            assert failure.retryable
            assert not stream.complete
            assert stream.failure is failure
            assert stream.partial.chat_response.usage.source != "reported"
    assert cut >= len(WORDS) + 1


async def test_a_cut_chunked_body_is_a_read_error() -> None:
    async with (
        serve(once(head(transfer_encoding="chunked"), chunk(chat_delta("One")), b"99\r\ndata")) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        events, failure = await drain(stream)
    assert type(failure) is ReadError
    assert texts(events) == stream.partial.text() == "One"


async def test_a_reset_is_a_read_error() -> None:
    arrived = anyio.Event()
    begun = (head(transfer_encoding="chunked"), chunk(chat_delta("One")))
    async with (
        nothing_left(),
        serve(resetting(*begun, when=arrived)) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        with pytest.raises(ReadError, match="connection broke") as caught:
            async for item in stream:
                if isinstance(item, TextDelta):
                    arrived.set()
        with pytest.raises(ReadError):
            await anext(stream)
    assert caught.value.retryable
    assert stream.failure is caught.value
    assert stream.partial.text() == "One"


async def test_a_connection_closed_instead_of_an_answer_is_a_read_error() -> None:
    async with nothing_left(), serve(once()) as server:
        with pytest.raises(ReadError):
            await AIModelClient(chat_endpoint(server.url), ONCE).generate("Hi.")


@pytest.mark.parametrize("bad", [b"data: {broken\n\n", b"data: 7\n\n", b'data: {"choices": [{"delta": {}}]\n\n'])
async def test_events_before_a_failing_frame_are_handed_over_first(bad: bytes) -> None:
    body = chat_delta("One") + chat_delta(" two") + bad + chat_delta(" three.")
    async with nothing_left(), serve(stalling(head(), body)) as server:
        async with AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream:
            events, failure = await drain(stream)
        await server.wait_hung_up()
    assert type(failure) is ProtocolError
    check_grammar(events, complete=False)
    assert texts(events) == stream.partial.text() == "One two"


async def test_collect_raises_what_the_iteration_would() -> None:
    async with (
        serve(once(head(), chat_delta("One"), b"data: {broken\n\n")) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        with pytest.raises(ProtocolError):
            await stream.collect()
    assert stream.partial.text() == "One"


async def test_an_error_inside_the_stream_comes_after_the_events_before_it() -> None:
    error = event({"error": {"message": "too much", "code": 503}})
    async with (
        serve(once(head(), chat_delta("One"), error, b"data: [DONE]\n\n")) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        events, failure = await drain(stream)
    assert isinstance(failure, OverloadedError)
    assert "too much" in str(failure)
    assert texts(events) == "One"


@pytest.mark.parametrize("after", [b"data: {broken\n\n", chat_delta("more"), event({"error": {"message": "no"}})])
@pytest.mark.parametrize("together", [False, True])
async def test_nothing_follows_the_end(after: bytes, together: bool) -> None:
    pieces = [b"".join(chat_stream(*WORDS)), after]

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            if together:
                pieces[:] = [b"".join(pieces)]
            for piece in pieces:
                await connection.send(head() if piece is pieces[0] else b"", piece)
                await anyio.wait_all_tasks_blocked()

    async with (
        nothing_left(),
        serve(play) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        events, failure = await drain(stream)
    assert failure is None
    check_grammar(events)
    assert stream.response.text() == TEXT


async def test_usage_of_an_interrupted_answer_is_an_estimate() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    told = event({"id": "1", "choices": [], "usage": usage})
    async with (
        nothing_left(),
        serve(stalling(head(), chat_delta("One"), told, chat_delta(" two"))) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        async for item in stream:
            if isinstance(item, TextDelta) and item.text == " two":
                break
    seen = stream.partial.chat_response.usage
    assert (seen.input_tokens, seen.output_tokens, seen.source) == (5, 2, "estimated")


# ------------------------------------------------------------------------------------------------- answers that are odd

_PAGE = b"<!DOCTYPE html>\n<html><body>Sign in to the airport Wi-Fi</body></html>"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("body", "content_type", "quoted"),
    [
        (_PAGE, "text/html; charset=utf-8", "<!DOCTYPE html>"),
        (_PAGE, "application/json", "<!DOCTYPE html>"),
        (_PAGE, "", "<!DOCTYPE html>"),
        (b"", "application/json", "an empty body"),
        (b"", "text/html", "an empty body"),
        (b" \n", "", "an empty body"),
        (b'{"choices": [', "application/json", "choices"),
        (b'"text"', "application/json", "text"),
        (b"[]", "application/json", r"\[\]"),
        (b'{"hello": "world"}', "application/json", "hello"),
    ],
)
async def test_a_body_that_is_no_answer_is_quoted(streaming: bool, body: bytes, content_type: str, quoted: str) -> None:
    async with nothing_left(), serve(replies(whole(body, 200, content_type))) as server:
        client = AIModelClient(chat_endpoint(server.url), AIModelCallConfig(streaming=streaming, retries=NO_RETRIES))
        with pytest.raises(ProtocolError, match=quoted):
            await client.generate("Hi.")


@pytest.mark.parametrize("body", [b"", _PAGE, b": nothing\n\n"])
async def test_an_event_stream_without_events_is_truncated(body: bytes) -> None:
    async with nothing_left(), serve(once(head(), body)) as server:
        with pytest.raises(ProtocolError) as caught:
            await AIModelClient(
                chat_endpoint(server.url), AIModelCallConfig(streaming=True, retries=NO_RETRIES)
            ).generate("Hi.")
    if body is _PAGE:
        assert "<!DOCTYPE html>" in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("asked_to_stream", [False, True])
async def test_a_server_that_answers_the_other_way_is_understood(dialect: Dialect, asked_to_stream: bool) -> None:
    """JSON to a request for a stream, and a stream to a request for JSON."""
    bodies: list[tuple[str, bytes]] = []

    async def keep(response: httpx.Response) -> None:
        bodies.append((response.headers["content-type"], await response.aread()))

    answer = Answer(text=TEXT)
    async with ProviderServer([answer]) as provider, httpx.AsyncClient(event_hooks={"response": [keep]}) as http:
        endpoint = endpoint_at(provider, dialect)
        other = AIModelCallConfig(streaming=not asked_to_stream)
        await AIModelClient(endpoint, other, transport=HttpxTransport(http)).generate("Count.")
    ((content_type, body),) = bodies
    async with nothing_left(), serve(replies(whole(body, 200, content_type))) as server:
        base_url = (endpoint.api.base_url or "").replace(provider.url, server.url)
        client = AIModelClient(moved(endpoint, base_url), AIModelCallConfig(streaming=asked_to_stream))
        response = await client.generate("Count.")
        if asked_to_stream:
            async with client.stream("Count.") as stream:
                check_grammar([item async for item in stream])
    assert response.text() == TEXT
    assert response.chat_response.usage.source == "reported"


async def test_one_byte_at_a_time() -> None:
    body = b"".join(chat_stream("Grüße", " 🙂", "\u2028\u0085 ende"))

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(head())
            for at in range(len(body)):
                await connection.send(body[at : at + 1])

    async with (
        nothing_left(),
        serve(play) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        events, failure = await drain(stream)
    assert failure is None
    check_grammar(events)
    assert texts(events) == "Grüße 🙂\u2028\u0085 ende"


async def test_an_event_larger_than_any_line_limit() -> None:
    long = "x" * (4 * 1024 * 1024)
    async with (
        serve(replies(chunked(*chat_stream(long)))) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Count.") as stream,
    ):
        response = await stream.collect()
    assert response.text() == long


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused(status: int) -> None:
    async with nothing_left(), serve(stalling()) as elsewhere:
        answer = whole(b"", status, location=f"{elsewhere.url}/v1/chat/completions")
        async with serve(replies(answer)) as server:
            with pytest.raises(ProtocolError, match=f"redirects elsewhere \\({status}\\)") as caught:
                await AIModelClient(chat_endpoint(server.url)).generate("Hi.")
        assert (len(server.requests), elsewhere.connections) == (1, 0)
    assert "base_url" in str(caught.value)


# ----------------------------------------------------------------------------------------------------------- deadlines

_SHORT = 0.05


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((), id="before the head"),
        pytest.param((head(),), id="before the first event"),
        pytest.param((head(), chat_delta("One")), id="between events"),
        pytest.param((head(), chat_delta("One"), b"data: {"), id="inside an event"),
    ],
)
async def test_silence(pieces: tuple[bytes, ...]) -> None:
    limit = "between_bytes" if pieces else "first_byte"
    config = AIModelCallConfig(timeouts=Timeouts.model_validate({limit: _SHORT}), retries=NO_RETRIES)
    async with (
        nothing_left(),
        serve(stalling(*pieces)) as server,
        AIModelClient(chat_endpoint(server.url), config).stream("Count.") as stream,
    ):
        with anyio.fail_after(PATIENCE):
            events, failure = await drain(stream)
        await server.wait_hung_up()
    assert isinstance(failure, DeadlineError)
    assert isinstance(failure, TimeoutError)
    assert (failure.limit, failure.seconds, failure.retryable) == (limit, _SHORT, True)
    assert texts(events) == stream.partial.text() == ("One" if len(pieces) > 1 else "")


async def test_pings_keep_a_silent_stream_alive() -> None:
    async def attempt(limit: float) -> None:
        config = AIModelCallConfig(timeouts=Timeouts(between_bytes=limit), retries=NO_RETRIES)

        async def play(connection: Connection) -> None:
            if await connection.request() is not None:
                await connection.send(head())
                for _ in range(12):
                    await anyio.sleep(limit / 10)
                    await connection.send(b": ping\n\n")
                await connection.send(*chat_stream(*WORDS))

        async with nothing_left(), serve(play) as server:
            response = await AIModelClient(chat_endpoint(server.url), config).generate("Count.")
        assert response.text() == TEXT

    await steady(attempt, 0.3)


@pytest.mark.parametrize("answered", [False, True])
async def test_total(answered: bool) -> None:
    async def play(connection: Connection) -> None:
        if await connection.request() is None:
            return
        if answered:
            await connection.send(head(), chat_delta("One"))
        while answered:
            await connection.send(b": ping\n\n")
            await anyio.sleep(0.01)
        await connection.until_hung_up()

    config = AIModelCallConfig(timeouts=Timeouts(total=_SHORT * 4))
    async with (
        nothing_left(),
        serve(play) as server,
        AIModelClient(chat_endpoint(server.url), config).stream("Count.") as stream,
    ):
        with anyio.fail_after(PATIENCE):
            _events, failure = await drain(stream)
        if server.connections:  # on a slow machine the time is over before
            await server.wait_hung_up()
    assert isinstance(failure, DeadlineError)
    assert (failure.limit, failure.seconds) == ("total", _SHORT * 4)


async def test_connect_waits_for_the_pool() -> None:
    config = AIModelCallConfig(timeouts=Timeouts(connect=_SHORT), retries=NO_RETRIES)
    async with nothing_left(), serve(stalling(head(), chat_delta("One"))) as server:
        transport = AiohttpTransport(limit=1)
        client = AIModelClient(chat_endpoint(server.url), config, transport=transport)
        async with AIModelClient(chat_endpoint(server.url), transport=transport).stream("Count.") as holding:
            await anext(holding)
            with anyio.fail_after(PATIENCE), pytest.raises(DeadlineError) as caught:
                await client.generate("Count.")
        await transport.aclose()
        assert server.connections == 1
    assert (caught.value.limit, caught.value.seconds) == ("connect", _SHORT)


async def test_connect_to_a_host_that_does_not_answer() -> None:
    config = AIModelCallConfig(timeouts=Timeouts(connect=_SHORT), retries=NO_RETRIES)
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):  # a full backlog: the next handshake is left unanswered
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        client = AIModelClient(chat_endpoint(f"http://127.0.0.1:{deaf.getsockname()[1]}"), config)
        async with nothing_left():
            with anyio.fail_after(PATIENCE), pytest.raises(DeadlineError) as caught:
                await client.generate("Count.")
    assert caught.value.limit == "connect"


async def test_connection_refused() -> None:
    with nobody() as url:
        async with nothing_left():
            with pytest.raises(ConnectError, match=url.removeprefix("http://")) as caught:
                await AIModelClient(chat_endpoint(url), ONCE).generate("Hi.")
    assert caught.value.retryable


async def _opening(client: AIModelClient, asked: anyio.Event) -> tuple[ResponseStream, "asyncio.Task[int]"]:
    """A stream whose head does not come, and the task that waits for it; gives what is left of its cancellations."""
    stream = client.stream("Count.")

    async def read() -> int:
        task = asyncio.current_task()
        assert task is not None
        async with stream:
            with pytest.raises(StreamStateError, match="closed"):
                await anext(stream)
        await asyncio.sleep(0)  # whoever was closed upon goes on with something else
        return task.cancelling()

    reader = asyncio.create_task(read())  # noqa: TID251 - a task that is cancelled natively is what this is about
    await asked.wait()
    return stream, reader


async def test_closing_an_opening_stream_cancels_nothing_but_the_opening() -> None:
    async with serve(stalling()) as server, AIModelClient(chat_endpoint(server.url)) as client:
        stream, reader = await _opening(client, server.asked)
        await stream.aclose()
        with anyio.fail_after(PATIENCE):
            assert await reader == 0


async def test_cancelling_while_a_stream_closes_raises_the_cancellation() -> None:
    async with serve(stalling()) as server, AIModelClient(chat_endpoint(server.url)) as client:
        stream, reader = await _opening(client, server.asked)
        reader.cancel()
        await stream.aclose()
        with anyio.fail_after(PATIENCE):
            await asyncio.wait([reader])
        assert reader.cancelled()


async def test_reading_a_stream_outside_of_a_task_is_an_error() -> None:
    told = asyncio.Future[BaseException | None]()

    def read() -> None:
        step = anext(stream).__await__()
        try:
            next(step)
        except RuntimeError as exc:  # anyio's own, as it cannot be closed out of there either
            told.set_result(exc.__context__)

    async with serve(stalling()) as server, AIModelClient(chat_endpoint(server.url)) as client:
        async with client.stream("Count.") as stream:
            asyncio.get_running_loop().call_soon(read)
            with anyio.fail_after(PATIENCE):
                said = await told
        assert server.requests == []
    assert isinstance(said, StreamStateError)
    assert "inside a task" in str(said)


async def test_a_prompt_may_be_a_list_of_texts_and_files() -> None:
    picture = FilePart.from_bytes(b"\x89PNG\r\n\x1a\n", filename="cat.png")
    async with ProviderServer() as server:
        client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT))
        await client.generate(["What is it?", picture, "Answer in one word."])
        await client.generate(Message.user("What is it?", picture, "Answer in one word."))
        async with client.stream(("What is it?", picture, "Answer in one word.")) as stream:
            await stream.collect()
        sent = [request.turns for request in server.requests]
    assert sent[0] == sent[1] == sent[2]
    assert b"image/png" in server.requests[0].body
