"""``Recorder`` and ``Replayer``: real exchanges in a file without keys, and the same answers from it."""

from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue, SecretStr

from dhenara_async import AIModelCallConfig, AIModelClient, AiohttpTransport, ConversationManager, Dialect, StreamEvent
from dhenara_async.config import RetryPolicy
from dhenara_async.errors import ConfigurationError, DhenaraError, ReadError, TruncatedStreamError
from dhenara_async.testing import Answer, Fault, ProviderServer, Recorder, Replayer, record_or_replay
from dhenara_async.transport import Transport
from tests.loopback import endpoint_at

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
            with anyio.fail_after(30), pytest.raises(DhenaraError) as failed:
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
