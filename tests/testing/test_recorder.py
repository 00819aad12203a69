"""``Recorder`` and ``Replayer``: real exchanges in a file without keys, and the same answers from it."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from pydantic import JsonValue, SecretStr

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AiohttpTransport,
    ConversationManager,
    Dialect,
    FetchPolicy,
    FilePart,
    StreamEvent,
)
from dhenara_async.config import RetryPolicy, Timeouts
from dhenara_async.errors import (
    BoundsError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    ReadError,
    StreamStateError,
    TruncatedStreamError,
)
from dhenara_async.request import HttpRequest
from dhenara_async.testing import Answer, Fault, ProviderServer, Recorder, Replayer, ReplayTransport, record_or_replay
from dhenara_async.testing.exchanges import RecordedExchange, RecordedPiece
from dhenara_async.testing.replayer import ReplayedExchange
from dhenara_async.transport import Exchange, Transport
from tests.loopback import PATIENCE, Connection, endpoint_at, head, serve, whole

ONCE = AIModelCallConfig(retries=RetryPolicy(attempts=1))
KEY = "sk-canary-0123456789"


async def talk(transport: Transport, server: ProviderServer, dialect: Dialect) -> list[list[StreamEvent]]:
    """The events of a streamed call, and of two turns."""
    endpoint = endpoint_at(server, dialect)
    endpoint = endpoint.changed(api=endpoint.api.changed(api_key=SecretStr(KEY)))
    async with AIModelClient(endpoint, transport=transport) as client, client.stream("Paint äöü.") as stream:
        told = [[event async for event in stream]]
    async with ConversationManager(transport=transport) as manager:
        conversation = await manager.create()
        for question in ("One?", "Two?"):
            async with manager.turn(conversation, question, endpoint) as turn:
                told.append([event async for event in turn])
    return told


@pytest.mark.parametrize("timing", [False, True])
@pytest.mark.parametrize("dialect", Dialect)
async def test_a_recording_gives_the_same_events_and_holds_no_key(
    tmp_path: Path, dialect: Dialect, timing: bool
) -> None:
    file = tmp_path / "talk.jsonl"
    async with ProviderServer(api_key=KEY) as server:
        async with Recorder(AiohttpTransport(), file) as recorder:
            told = await talk(recorder, server, dialect)
        async with Replayer(file, timing=timing) as replayer:
            again = await talk(replayer, server, dialect)
        assert len(server.requests) == 3
    assert [[event for event in events if event.type != "heartbeat"] for events in again] == [
        [event for event in events if event.type != "heartbeat"] for events in told
    ]
    assert replayer.left == ()
    assert KEY.encode() not in file.read_bytes()
    assert len(file.read_bytes().splitlines()) == len(recorder.exchanges) == 3


async def test_a_different_question_is_refused_with_its_difference(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    async with ProviderServer() as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        async with Recorder(AiohttpTransport(), file) as recorder:
            await AIModelClient(endpoint, transport=recorder).generate("One?")
        replayer = Replayer(file)
        with pytest.raises(ConfigurationError, match=r'messages\[0\]\.content is "Two\?" and was "One\?"'):
            await AIModelClient(endpoint, transport=replayer).generate("Two?")
        assert len(replayer.left) == 1
        await AIModelClient(endpoint, transport=replayer).generate("One?")
        with pytest.raises(ConfigurationError, match="every recorded exchange is used"):
            await AIModelClient(endpoint, transport=replayer).generate("One?")


async def test_a_cut_and_an_answer_that_was_left_are_replayed_as_such(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    cut = Fault(answer=Answer(text="The fox is red."), cut=4)
    async with ProviderServer([cut, Answer(text="The fox is red.")], delay=0.01) as server:
        client = AIModelClient(endpoint_at(server, Dialect.ANTHROPIC_MESSAGES), ONCE)
        texts: list[str] = []
        async with Recorder(AiohttpTransport()) as recorder:
            client = AIModelClient(client.model_endpoint, ONCE, transport=recorder)
            stream = client.stream("One?")
            with pytest.raises((ReadError, TruncatedStreamError)) as seen:
                async with stream:
                    await stream.collect()
            texts.append(stream.partial.text())
            async with client.stream("Two?") as stream:
                await anext(stream)
            recorder.save(file)
        client = AIModelClient(client.model_endpoint, ONCE, transport=Replayer(file))
        stream = client.stream("One?")
        with pytest.raises(type(seen.value)):
            async with stream:
                await stream.collect()
        assert stream.partial.text() == texts[0]
        with pytest.raises(ReadError, match="reader left"):
            async with client.stream("Two?") as stream:
                await stream.collect()


async def test_a_refused_connection_is_replayed(tmp_path: Path) -> None:
    async with ProviderServer() as server:
        endpoint = endpoint_at(server, Dialect.GEMINI)
    file = tmp_path / "talk.jsonl"
    errors: list[str] = []
    async with Recorder(AiohttpTransport(), file) as recorder:
        for transport in (recorder, None):
            with anyio.fail_after(60), pytest.raises(DhenaraError) as failed:
                opened = transport or Replayer(file)
                await AIModelClient(endpoint, ONCE, transport=opened).generate("One?")
            errors.append(repr(failed.value))
    assert errors[0] == errors[1]


async def test_a_fixture_records_once_and_replays_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "folder" / "talk.jsonl"
    with pytest.raises(ConfigurationError, match="DHENARA_RECORD=1"):
        async with record_or_replay(file):
            pass
    async with ProviderServer() as server:
        client = endpoint_at(server, Dialect.OPENAI_RESPONSES)
        for variable in ("1", "0"):
            monkeypatch.setenv("DHENARA_RECORD", variable)
            async with record_or_replay(file) as transport:
                answer = await AIModelClient(client, transport=transport).generate("One?")
            assert answer.text()
        assert len(server.requests) == 1


async def test_secrets_inside_a_request_are_not_written(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    extra: JsonValue = {
        "tools": [{"type": "mcp", "authorization": "mcp-secret-token", "server_url": "https://acme.dev/mcp"}]
    }
    async with ProviderServer([Answer(text="Fine.")]) as server:
        config = AIModelCallConfig(extra_body={"metadata": extra}, retries=RetryPolicy(attempts=1))
        async with Recorder(AiohttpTransport(), file) as recorder:
            client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), config, transport=recorder)
            with suppress(DhenaraError):  # the loopback server may refuse it: the request is recorded all the same
                await client.generate("One?")
    assert b"mcp-secret-token" not in file.read_bytes()
    assert b"https://acme.dev/mcp" in file.read_bytes()


async def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text('{"url": 1}\n')
    with pytest.raises(ConfigurationError, match="line 1"):
        Replayer(tmp_path / "text")


class Echo:
    """A transport whose answers quote credentials, cut in two places by the network, and one of which is no UTF-8."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``."""
        headers = {"x-quoted": f"{KEY} is no key", "openai-organization": "acme"}
        return await ReplayTransport(b"".join(self.pieces), headers=headers, chunks=self.pieces).send(request, timeouts)

    async def aclose(self) -> None:
        """See ``Transport``."""


async def drained(exchange: Exchange) -> list[bytes]:
    """Every read of a response until its end."""
    reads: list[bytes] = []
    while read := await exchange.read():
        reads.append(read)
    await exchange.close()
    return reads


async def test_credentials_are_hidden_wherever_request_and_response_quote_them() -> None:
    pieces = [f"you sent {KEY[:7]}".encode(), KEY[7:9].encode(), f"{KEY[9:]} ä".encode()[:-1], b"\xa4 mcp-pass"]
    pieces += [b"word url-token-1 a%22b%2Fcdefg hdr-value-1 basic-pass-1", KEY.encode() + b"\xff"]
    body = {
        "text": f"I quote {KEY}",
        "tools": [
            {
                "authToken": "mcp-password",
                "server_url": "https://me:basic-pass-1@acme.dev/mcp?access=1&token=url-token-1",
            },
            {"headers": {"X-Api-Key": 'a"b/cdefg', "x-any": "hdr-value-1"}, "prompt_cache_key": "stays"},
        ],
    }
    headers = {"authorization": f"Bearer {KEY}"}
    request = HttpRequest(f"https://user:{KEY}@acme.dev/v1?key={KEY}&alt=sse", headers, orjson.dumps(body))
    recorder = Recorder(Echo(pieces))
    assert await drained(await recorder.send(request, Timeouts())) == pieces
    recorded = recorder.exchanges[0]
    reads = [piece.data() for piece in recorded.pieces]
    assert reads == [b"you sent ***", " ä".encode()[:-1], b"\xa4 ***", b" *** *** *** ***", b"***\xff"]
    assert recorded.headers == {"x-quoted": "*** is no key"}
    assert recorded.url == "https://user:**********@acme.dev/v1?key=***&alt=sse"
    assert recorded.body == {
        "text": "I quote ***",
        "tools": [
            {"authToken": "***", "server_url": "https://me:***@acme.dev/mcp?access=1&token=***"},
            {"headers": {"X-Api-Key": "***", "x-any": "***"}, "prompt_cache_key": "stays"},
        ],
    }
    plain = HttpRequest(request.url, headers, f"no JSON {KEY} \xff".encode("latin-1"))
    await drained(await recorder.send(plain, Timeouts()))
    assert recorder.exchanges[1].body == "no JSON *** �"


async def test_a_cancelled_send_and_any_error_are_recorded_and_replayed(tmp_path: Path) -> None:
    failures = [
        RuntimeError("a transport of the user"),
        BoundsError("the header block of the answer is too large", setting="max_header_bytes", limit=9),
        DeadlineError(limit="first_byte", seconds=0.5),
        ConfigurationError("a header of the request holds characters that cannot be sent"),
    ]

    class Failing(Echo):
        async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
            if not failures:
                await anyio.sleep_forever()
            raise failures.pop(0)

    request = HttpRequest("https://acme.dev/v1", {}, b"{}")
    expected = [ReadError(str(failures[0])), *failures[1:]]
    async with Recorder(Failing([]), tmp_path / "talk.jsonl") as recorder:
        while failures:
            with pytest.raises(type(failures[0])):
                await recorder.send(request, Timeouts())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.send, request, Timeouts())
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    replayer = Replayer(tmp_path / "talk.jsonl")
    for failure in [*expected, ReadError("the recorded exchange had no response: its caller did not wait")]:
        with pytest.raises(type(failure)) as failed:
            await replayer.send(request, Timeouts())
        assert repr(failed.value) == repr(failure)
    assert replayer.left == ()


async def test_a_read_that_is_cancelled_and_repeated_waits_only_for_the_rest_of_the_time() -> None:
    slow = RecordedExchange(
        url="", body=None, status=200, pieces=[RecordedPiece.of(b"late", 0.2), RecordedPiece.of(b"", 60)]
    )
    exchange = ReplayedExchange(slow, timing=True)
    read = b""
    with anyio.fail_after(PATIENCE):
        while not read:
            with anyio.move_on_after(0.05):
                read = await exchange.read()
        assert read == b"late"
        async with anyio.create_task_group() as tasks:

            async def interrupted() -> None:
                with pytest.raises(ReadError, match="from outside"):
                    await exchange.read()

            tasks.start_soon(interrupted)
            await anyio.wait_all_tasks_blocked()
            exchange.interrupt(ReadError("from outside"))


async def test_a_read_that_its_own_side_broke_off_is_recorded_as_left() -> None:
    recorder = Recorder(Echo([b"one", b"two"]))
    exchange = await recorder.send(HttpRequest("https://acme.dev/v1", {}, b"{}"), Timeouts())
    assert await exchange.read() == b"one"
    exchange.interrupt(StreamStateError("the request was cancelled"))
    with pytest.raises(StreamStateError):
        await exchange.read()
    (recorded,) = recorder.exchanges
    assert (recorded.ended, recorded.error, len(recorded.pieces)) == ("left", None, 1)


async def test_a_response_is_closed_although_its_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "talk").mkdir()
    inner: list[Exchange] = []

    class Seen(Echo):
        async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
            inner.append(await super().send(request, timeouts))
            return inner[0]

    recorder = Recorder(Seen([b"one", b"two"]), tmp_path / "talk" / "file")
    exchange = await recorder.send(HttpRequest("https://acme.dev/v1", {}, b"{}"), Timeouts())
    (tmp_path / "talk" / "file").unlink()
    (tmp_path / "talk").rmdir()
    with pytest.raises(OSError, match="talk"):
        await exchange.close()
    assert inner[0].ended()


PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
SIGNATURE = "do-not-tell-0123456789"
OTHER_SIGNATURE = "nor-this-9876543210"


async def test_downloaded_files_are_recorded_and_replayed_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "talk.jsonl"
    note = whole(f"The link was /note?sig={SIGNATURE}".encode(), content_type="text/plain")
    config = ONCE.changed(fetch=FetchPolicy(allow_http=True, allow_private=True))
    redirect = head(302, "", location=f"/there.png?X-Amz-Signature={OTHER_SIGNATURE}", content_length="0")
    played = {"/first.png": redirect, "/there.png": whole(PICTURE, content_type="image/png"), "/note": note}

    async def play(connection: Connection) -> None:
        while (seen := await connection.request()) is not None:
            await connection.send(played[seen.target.partition("?")[0]])

    async with ProviderServer() as provider, serve(play) as files:
        endpoint = endpoint_at(provider, Dialect.GEMINI)
        urls = [f"http://localhost:{files.port}/{name}?sig={SIGNATURE}" for name in ("first.png", "note")]
        question = [FilePart.from_url(urls[0]), FilePart.from_url(urls[1], media_type="text/plain"), "What is it?"]
        async with Recorder(AiohttpTransport(), file) as recorder:
            client = AIModelClient(endpoint, config, transport=recorder)
            told = (await client.generate(question)).text()
        assert len(files.requests) == 3
    assert PICTURE in b"".join(piece.data() for each in recorder.exchanges for piece in each.pieces)
    assert not {word for word in (SIGNATURE, OTHER_SIGNATURE) if word in file.read_text()}

    def no_network(*_: object) -> None:
        raise AssertionError("a replay looks up no names and opens no sockets")

    monkeypatch.setattr("anyio.getaddrinfo", no_network)
    replayer = Replayer(file)
    client = AIModelClient(endpoint, config, transport=replayer)
    assert (await client.generate(question)).text() == told
    assert replayer.left == ()
    with pytest.raises(ConfigurationError, match=r"the download of \S+sig=\*\*\* was not recorded, or is used"):
        await client.generate(question)
    with pytest.raises(ConnectError, match=r"elsewhere\.dev, was not found"):
        await client.generate([FilePart.from_url("http://elsewhere.dev/a.png"), "What?"])


async def test_a_recording_is_written_by_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers: list[int] = []
    opened: Any = Path.open

    def watched(self: Path, *args: Any) -> Any:
        if self.name == "talk.jsonl":
            writers.append(threading.get_ident())
        return opened(self, *args)

    async with ProviderServer() as server, Recorder(AiohttpTransport(), tmp_path / "talk.jsonl") as recorder:
        monkeypatch.setattr(Path, "open", watched)
        await AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), transport=recorder).generate("One?")
    assert writers
    assert threading.get_ident() not in writers
