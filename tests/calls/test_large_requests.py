"""Requests with large files: encoded in a thread and sent piece by piece, so that the loop has its turns meanwhile."""

import base64
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import anyio
import anyio.to_thread
import orjson
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    AiohttpTransport,
    ConversationManager,
    Dialect,
    FetchPolicy,
    FilePart,
    Message,
    Timeouts,
)
from dhenara_async.calls.prepare import LARGE_BYTES
from dhenara_async.drivers.base import Driver
from dhenara_async.errors import APIError, ConfigurationError, DhenaraError, UnsupportedError
from dhenara_async.events import TextDelta
from dhenara_async.hosts.registry import driver_for
from dhenara_async.messages.messages import Role, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.request import ChatRequest, HttpRequest, WireRequest
from dhenara_async.transport import aiohttp_transport
from tests.loopback import (
    PATIENCE,
    SPEAKERS,
    Connection,
    chat_body,
    chat_delta,
    chat_endpoint,
    head,
    moved,
    replies,
    serve,
    stalling,
    whole,
)

PNG = b"\x89PNG\r\n\x1a\n"
LARGE = FilePart.from_bytes(PNG + bytes(range(256)) * (LARGE_BYTES >> 8))
QUESTION = Message.user("What is this?", LARGE)
ONCE = AIModelCallConfig(streaming=False)


class Encodings:
    """Every encoding, by any driver: in which thread, and of how many bytes of files."""

    def __init__(self) -> None:
        self.by_loop: list[int] = []
        self.elsewhere: list[int] = []
        self.before: Callable[[int], None] = lambda _size: None
        self._loop = threading.get_ident()

    def spying(self, driver: Driver) -> Callable[[Driver, ChatRequest, AIModelEndpoint], WireRequest]:
        encode = type(driver).encode

        def spied(self_: Driver, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
            size = sum(len(file.data or b"") for file in _files(request))
            (self.by_loop if threading.get_ident() == self._loop else self.elsewhere).append(size)
            self.before(size)
            return encode(self_, request, endpoint)

        return spied


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> Encodings:
    spy = Encodings()
    for dialect in Dialect:
        driver = driver_for(_endpoint(dialect, "http://127.0.0.1:1"))
        monkeypatch.setattr(type(driver), "encode", spy.spying(driver))
    return spy


def _endpoint(dialect: Dialect, url: str) -> AIModelEndpoint:
    provider, model = SPEAKERS[dialect]
    endpoint = chat_endpoint(url, model=model)
    api = endpoint.api.model_copy(update={"provider": provider, "dialect": dialect, "base_url": url})
    return moved(endpoint.model_copy(update={"api": api}), url)


def _files(request: ChatRequest) -> Iterator[FilePart]:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, FilePart):
                yield part
            elif isinstance(part, ToolResultPart):
                yield from (item for item in part.content if isinstance(item, FilePart))


@pytest.mark.parametrize("dialect", Dialect)
async def test_encoding_in_a_thread_gives_the_same_bytes_as_on_the_loop(
    dialect: Dialect, encodings: Encodings, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [
        Message.user("Look at both.", FilePart.from_bytes(PNG + b"small"), LARGE),
        Message(role=Role.ASSISTANT, parts=(ToolCallPart(call_id="call_1", name="look", arguments="{}"),)),
        Message.user(ToolResultPart(call_id="call_1", name="look", content=(TextPart(text="a"), LARGE))),
        Message.user("And now?"),
    ]
    async with serve(replies(whole(b"{}", 400))) as server:
        client = AIModelClient(_endpoint(dialect, server.url), ONCE)
        for large in (LARGE_BYTES, 1 << 40):
            monkeypatch.setattr("dhenara_async.calls.prepare.LARGE_BYTES", large)
            with pytest.raises(APIError):
                await client.generate(messages=messages)
        by_thread, by_loop = (seen.body for seen in server.requests)
    assert by_thread == by_loop
    assert LARGE.get_base64().encode() in by_thread
    whole_size = encodings.elsewhere[0]
    assert whole_size >= len(LARGE.data or b"")
    assert encodings.elsewhere == [whole_size]
    assert (encodings.by_loop[0] < 1000, encodings.by_loop[1:]) == (True, [whole_size])


async def test_only_requests_above_the_threshold_are_encoded_in_a_thread(encodings: Encodings) -> None:
    small = FilePart.from_bytes(PNG + bytes(LARGE_BYTES // 2))
    async with serve(replies(whole(chat_body("Small.")))) as server:
        await AIModelClient(chat_endpoint(server.url), ONCE).generate(Message.user("What is this?", small))
        await AIModelClient(chat_endpoint(server.url), ONCE).generate(Message.user("And these?", small, small))
    assert encodings.by_loop == [small.size, 2 * len(PNG)]
    assert encodings.elsewhere == [2 * (small.size or 0)]


async def test_unsupported_large_files_are_refused_before_the_block(encodings: Encodings) -> None:
    file = LARGE.model_copy(update={"media_type": "model/gltf-binary"})
    for asked in (Message.user(file), Message.user(file, "half \ud800")):
        with pytest.raises((UnsupportedError, ConfigurationError)):
            AIModelClient(_endpoint(Dialect.ANTHROPIC_MESSAGES, "http://127.0.0.1:1")).stream(asked)
    assert encodings.elsewhere == []


async def test_a_large_text_file_that_is_not_utf8_is_refused_before_the_block(encodings: Encodings) -> None:
    """A model may have made a text file that is not UTF-8, which the Anthropic dialect cannot send."""
    endpoint = _endpoint(Dialect.ANTHROPIC_MESSAGES, "http://127.0.0.1:1")
    made = FilePart(media_type="text/plain", data=b"words " * LARGE_BYTES)
    AIModelClient(endpoint).stream(Message.user("What is this?", made))
    raw = FilePart(media_type="application/json", data=b"\xff" * LARGE_BYTES)
    with pytest.raises(UnsupportedError):
        AIModelClient(endpoint).stream(Message.user("What is this?", raw))
    assert encodings.by_loop[0] == 1
    assert encodings.elsewhere == []


async def test_a_retry_sends_the_same_bytes(encodings: Encodings) -> None:
    config = ONCE.model_copy(update={"retries": AIModelCallConfig.model_validate({"retries": 1}).retries})
    async with serve(replies(whole(b"{}", 503), whole(chat_body("Now.")))) as server:
        response = await AIModelClient(chat_endpoint(server.url), config).generate(QUESTION)
        first, second = (seen.body for seen in server.requests)
    assert response.text() == "Now."
    assert first == second
    assert encodings.elsewhere == [LARGE.size] * 2


async def test_a_node_keeps_the_large_file() -> None:
    async with serve(replies(whole(chat_body("A picture.")))) as server, ConversationManager(config=ONCE) as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "What is this?", chat_endpoint(server.url), files=[LARGE])
        await manager.ask(conversation, "Sure?", chat_endpoint(server.url))
        bodies = [seen.body for seen in server.requests]
    assert node.attached_files == (LARGE,)
    assert all(LARGE.get_base64().encode() in body for body in bodies)


@pytest.mark.parametrize("how", ["cancelled", "deadline", "closed"])
async def test_leaving_during_encoding_sends_nothing_and_leaks_nothing(how: str, encodings: Encodings) -> None:
    encoding, go_on = threading.Event(), threading.Event()

    def hold(size: int) -> None:
        if size >= LARGE_BYTES:
            encoding.set()
            assert go_on.wait(PATIENCE)

    encodings.before = hold
    timeouts = Timeouts(total=0.05) if how == "deadline" else Timeouts()
    transport = AiohttpTransport()
    async with serve(replies(whole(chat_body("Never.")))) as server:
        client = AIModelClient(chat_endpoint(server.url), AIModelCallConfig(timeouts=timeouts), transport=transport)
        stream = client.stream(QUESTION)
        failures: list[DhenaraError] = []

        async def read() -> None:
            async with stream:
                try:
                    await stream.collect()
                except DhenaraError as exc:
                    failures.append(exc)
                finally:
                    encoding.set()  # a slow machine may be out of time before it has begun

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await anyio.to_thread.run_sync(encoding.wait)
                if how == "cancelled":
                    tasks.cancel_scope.cancel()
                    go_on.set()
                elif how == "closed":
                    go_on.set()
                    await stream.aclose()
                else:
                    tasks.start_soon(anyio.to_thread.run_sync, _later(go_on))
        assert (server.connections, server.requests) == (0, [])
    assert len(failures) == (0 if how == "cancelled" else 1)
    await transport.aclose()


def _later(event: threading.Event) -> Callable[[], None]:
    """Sets ``event`` after a moment: a thread that must be waited for does not end before."""

    def work() -> None:
        event.wait(0.1)
        event.set()

    return work


async def test_large_requests_are_encoded_one_at_a_time(encodings: Encodings) -> None:
    lock = threading.Lock()

    def alone(size: int) -> None:
        if size >= LARGE_BYTES:
            assert lock.acquire(blocking=False)
            threading.Event().wait(0.01)  # others would have their chance
            lock.release()

    encodings.before = alone
    async with serve(replies(whole(chat_body("Yes.")))) as server, anyio.create_task_group() as tasks:
        client = AIModelClient(chat_endpoint(server.url), ONCE)
        for _ in range(4):
            tasks.start_soon(client.generate, QUESTION)
    assert encodings.elsewhere == [LARGE.size] * 4


async def test_downloaded_files_are_encoded_in_a_thread(encodings: Encodings) -> None:
    """A target that cannot fetch a picture's URL is sent its bytes."""

    async def host(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.send(whole(LARGE.data or b"", content_type="image/png"))

    fetch = FetchPolicy(allow_http=True, allow_private=True)
    async with serve(host) as files, serve(replies(whole(chat_body("Fetched.")))) as server:
        link = FilePart.from_url(f"{files.url}/x.png")
        config = ONCE.model_copy(update={"fetch": fetch})
        response = await AIModelClient(chat_endpoint(server.url), config).generate(Message.user("What?", link))
        (seen,) = server.requests
    assert response.text() == "Fetched."
    assert LARGE.get_base64().encode() in seen.body
    assert encodings.elsewhere == [LARGE.size]


async def test_a_large_body_is_sent_piece_by_piece() -> None:
    body = orjson.dumps({"data": base64.b64encode(bytes(3 << 20)).decode()})
    turns = 0

    async def others(sent: anyio.Event) -> None:
        nonlocal turns
        while not sent.is_set():
            await anyio.lowlevel.checkpoint()
            turns += 1

    sent, sender = anyio.Event(), AiohttpTransport()
    async with serve(replies(whole(b"{}"))) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others, sent)
            request = HttpRequest(f"{server.url}/v1/x", {"content-type": "application/json"}, body)
            exchange = await sender.send(request, Timeouts())
            await exchange.close()
            sent.set()
        await sender.aclose()
        (seen,) = server.requests
    assert seen.body == body
    assert (seen.header("content-length"), seen.header("transfer-encoding")) == ([str(len(body))], [])
    assert turns > len(body) // aiohttp_transport.LARGE_BYTES


@pytest.mark.parametrize("more", [-1, 0, 1, 2, 3])
def test_base64_in_pieces_is_the_same(more: int) -> None:
    data = PNG + bytes(range(256)) * (3 << 11)
    file = FilePart.from_bytes(data[: (3 << 18) + more] + data[: 3 << 18])
    assert file.get_base64() == base64.b64encode(file.data or b"").decode()


@pytest.mark.parametrize("size", [60_000, 5_000_000], ids=["straight", "by the session"])
async def test_a_stream_drops_its_request_at_the_first_content(size: int) -> None:
    """What was asked is held by whoever asked; the request it made would be the same again, as long as the answer."""
    count = 200_000_000 // size // 20
    prompts = [f"{number} " + "x" * size for number in range(count)]
    async with serve(stalling(head(), chat_delta("One"))) as server, AIModelClient(chat_endpoint(server.url)) as client:
        async with client.stream("Hi.") as warm:
            await warm.batch()
        tracemalloc.start()
        try:
            async with AsyncExitStack() as stack:
                before, _peak = tracemalloc.get_traced_memory()
                for prompt in prompts:
                    stream = await stack.enter_async_context(client.stream(prompt))
                    while not any(isinstance(event, TextDelta) for event in await stream.batch()):
                        pass
                server.requests.clear()  # which are in this process too
                gc.collect()
                held, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (held - before) / count < size / 4 + 30_000
