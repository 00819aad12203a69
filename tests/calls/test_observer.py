"""Observers: which records a call gives, in which order and with which values, however it ends."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    ConversationManager,
    Dialect,
    Failover,
    FinishReason,
    FirstContent,
    Message,
    Observer,
    Race,
    SharedResources,
    Target,
    Usage,
    fan_out,
)
from dhenara_async.errors import (
    AuthenticationError,
    ConfigurationError,
    DhenaraError,
    OverloadedError,
    ServerError,
    StreamStateError,
)
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from tests.loopback import (
    SPEAKERS,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    endpoint_at,
    head,
    once,
    serve,
    stalling,
)

Record = CallStarted | AttemptStarted | AttemptEnded | FirstContent | CallEnded
ANSWER = Answer("Pines sway.", usage=Usage(input_tokens=5, output_tokens=2))
NO_WAIT = {"retry-after": "0"}
ONCE = AIModelCallConfig(retries=0)
PLAIN_CALL = [CallStarted, AttemptStarted, FirstContent, AttemptEnded, CallEnded]
DIALECTS = tuple(SPEAKERS)


@dataclass
class Recorder(Observer):
    records: list[Record] = field(default_factory=list[Record])

    def call_started(self, record: CallStarted) -> None:
        self.records.append(record)

    def attempt_started(self, record: AttemptStarted) -> None:
        self.records.append(record)

    def attempt_ended(self, record: AttemptEnded) -> None:
        self.records.append(record)

    def first_content(self, record: FirstContent) -> None:
        self.records.append(record)

    def call_ended(self, record: CallEnded) -> None:
        self.records.append(record)

    @property
    def kinds(self) -> list[type[Record]]:
        return [type(record) for record in self.records]

    @property
    def attempts(self) -> list[AttemptEnded]:
        return [record for record in self.records if isinstance(record, AttemptEnded)]

    @property
    def end(self) -> CallEnded:
        (end,) = [record for record in self.records if isinstance(record, CallEnded)]
        assert self.records[-1] is end
        assert len({record.call_id for record in self.records}) == 1
        starts = [record.number for record in self.records if isinstance(record, AttemptStarted)]
        assert sorted(attempt.number for attempt in self.attempts) == starts == list(range(1, end.attempts + 1))
        return end


class Broken(Observer):
    """Raises in every method."""

    def call_started(self, record: CallStarted) -> None:
        raise ValueError("broken")

    def attempt_started(self, record: AttemptStarted) -> None:
        raise ValueError("broken")

    def attempt_ended(self, record: AttemptEnded) -> None:
        raise ValueError("broken")

    def first_content(self, record: FirstContent) -> None:
        raise ValueError("broken")

    def call_ended(self, record: CallEnded) -> None:
        raise ValueError("broken")


@asynccontextmanager
async def chat(*script: Answer | Fault | ScriptedError) -> AsyncGenerator[Target]:
    async with ProviderServer(list(script)) as server:
        yield endpoint_at(server, Dialect.OPENAI_CHAT)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_complete_call_gives_five_records_with_their_values(dialect: Dialect, streaming: bool) -> None:
    seen = Recorder()
    async with ProviderServer([ANSWER]) as server:
        endpoint = endpoint_at(server, dialect)
        config = AIModelCallConfig(streaming=streaming)
        client = AIModelClient(endpoint, config, observers=[seen])
        response = await client.generate(messages=[Message.user("Trees?")], instructions=["Be short."])
    kinds = sorted(PLAIN_CALL, key=lambda kind: kind.__name__)
    assert sorted(seen.kinds, key=lambda kind: kind.__name__) == kinds
    start, attempt = seen.records[:2]
    assert isinstance(start, CallStarted)
    assert (start.messages, start.instructions, start.config, start.conversation) == (1, 1, config, None)
    assert start.endpoint == response.endpoint
    assert isinstance(attempt, AttemptStarted)
    (ended,) = seen.attempts
    assert (ended.status, ended.error, ended.endpoint) == (200, None, response.endpoint)
    assert ended.request_id == seen.end.request_id == response.request_id
    assert (seen.end.status, seen.end.error, seen.end.finish_reason) == (200, None, FinishReason.STOP)
    assert seen.end.usage == response.chat_response.usage
    assert 0 <= ended.seconds <= seen.end.seconds


async def test_a_stream_gives_the_same_records_in_order() -> None:
    seen = Recorder()
    async with (
        serve(once(head(), *chat_stream("Pines", " sway."))) as server,
        AIModelClient(chat_endpoint(server.url), observers=[seen]).stream("Trees?") as stream,
    ):
        assert seen.kinds == [CallStarted]
        async for _ in stream:
            pass
        assert seen.kinds[-1] is CallEnded
    assert seen.kinds[:2] == PLAIN_CALL[:2]
    assert len(seen.records) == 5
    assert seen.end.error is None


async def test_each_retry_is_an_attempt() -> None:
    seen = Recorder()
    async with chat(ScriptedError(503, "Busy.", headers=NO_WAIT), ANSWER) as endpoint:
        await AIModelClient(endpoint, observers=[seen]).generate("Trees?")
    assert [(type(attempt.error), attempt.status) for attempt in seen.attempts][1] == (type(None), 200)
    assert isinstance(seen.attempts[0].error, OverloadedError)
    assert seen.attempts[0].status == 503
    assert (seen.end.attempts, seen.end.error) == (2, None)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_refused_call_ends_with_its_error(streaming: bool) -> None:
    seen = Recorder()
    async with chat(ScriptedError(401, "No.")) as endpoint:
        client = AIModelClient(endpoint, AIModelCallConfig(streaming=streaming), observers=[seen])
        with pytest.raises(AuthenticationError) as raised:
            await client.generate("Trees?")
    assert seen.kinds == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]
    assert seen.end.error is seen.attempts[0].error is raised.value
    assert (seen.end.status, seen.end.usage, seen.end.finish_reason) == (401, None, None)


async def test_a_cut_answer_ends_with_its_error() -> None:
    seen = Recorder()
    async with chat(Fault(answer=ANSWER, terminal="missing")) as endpoint:
        with pytest.raises(DhenaraError):
            await AIModelClient(endpoint, ONCE, observers=[seen]).generate("Trees?")
    assert isinstance(seen.end.error, DhenaraError)
    assert seen.end.finish_reason is None


async def test_a_stream_that_is_left_ends_once() -> None:
    seen = Recorder()
    async with serve(stalling(head(), chunk(chat_delta("Pines")))) as server:
        async with AIModelClient(chat_endpoint(server.url), observers=[seen]).stream("Trees?") as stream:
            await anext(stream)
        await stream.aclose()
    assert isinstance(seen.end.error, StreamStateError)
    assert isinstance(seen.attempts[0].error, StreamStateError)


async def test_a_cancelled_call_ends_with_its_cancellation() -> None:
    seen = Recorder()
    arrived = anyio.Event()

    class Watching(Observer):
        def attempt_started(self, record: AttemptStarted) -> None:
            arrived.set()

    async with serve(stalling()) as server, anyio.create_task_group() as tasks:
        client = AIModelClient(chat_endpoint(server.url), observers=[seen, Watching()])
        tasks.start_soon(client.generate, "Trees?")
        await arrived.wait()
        tasks.cancel_scope.cancel()
    assert isinstance(seen.end.error, asyncio.CancelledError)
    assert isinstance(seen.attempts[0].error, StreamStateError)


async def test_a_fail_over_reports_the_attempts_of_all_members() -> None:
    seen = Recorder()
    async with chat(ScriptedError(500, "Down.")) as one, chat(ANSWER) as two:
        response = await AIModelClient(Failover([one, two]), ONCE, observers=[seen]).generate("Trees?")
    assert [attempt.status for attempt in seen.attempts] == [500, 200]
    assert isinstance(seen.attempts[0].error, ServerError)
    assert seen.end.error is None
    assert seen.end.endpoint == response.endpoint
    assert seen.kinds.count(FirstContent) == 1


async def test_a_race_reports_the_cancelled_loser() -> None:
    seen = Recorder()
    async with serve(stalling()) as slow, chat(ANSWER) as quick:
        plan = Race([chat_endpoint(slow.url), quick])
        response = await AIModelClient(plan, ONCE, observers=[seen]).generate("Trees?")
    errors = {attempt.number: attempt.error for attempt in seen.attempts}
    assert isinstance(errors[1], StreamStateError)
    assert errors[2] is None
    assert (seen.end.attempts, seen.end.error, seen.end.endpoint) == (2, None, response.endpoint)
    assert seen.kinds.count(FirstContent) == 1


async def test_a_fan_out_reports_each_of_its_calls() -> None:
    seen = Recorder()
    async with chat(ANSWER) as one, chat(ANSWER) as two:
        await fan_out([(one, "Trees?"), (two, "Trees?")], shared=SharedResources(observers=(seen,)))
    assert [seen.kinds.count(kind) for kind in PLAIN_CALL] == [2, 2, 2, 2, 2]
    assert len({record.call_id for record in seen.records}) == 2


async def test_turns_report_their_conversation() -> None:
    seen = Recorder()
    async with chat(ANSWER) as endpoint, ConversationManager(observers=[seen]) as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "Trees?", endpoint)
    start = seen.records[0]
    assert isinstance(start, CallStarted)
    assert (start.conversation, start.node) == (conversation.id, node.id)
    assert seen.end.error is None


async def test_the_blocking_client_reports_too() -> None:
    seen = Recorder()
    async with chat(ANSWER) as endpoint:
        client = AIModelClient(endpoint, is_async=False, observers=[seen])
        await asyncio.to_thread(client.generate, "Trees?")
    assert sorted(kind.__name__ for kind in seen.kinds) == sorted(kind.__name__ for kind in PLAIN_CALL)
    assert seen.end.error is None


async def test_an_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen = Recorder()
    async with chat(ANSWER) as endpoint:
        with caplog.at_level(logging.ERROR, "dhenara_async"):
            response = await AIModelClient(endpoint, observers=[Broken(), seen]).generate("Trees?")
    assert response.text() == "Pines sway."
    assert seen.end.error is None
    assert len(caplog.records) == 5


async def test_test_mode_reports_a_call_without_attempts() -> None:
    seen = Recorder()
    config = AIModelCallConfig(test_mode=True)
    await AIModelClient(chat_endpoint("http://127.0.0.1:9"), config, observers=[seen]).generate("Trees?")
    assert seen.kinds == [CallStarted, FirstContent, CallEnded]


async def test_a_call_that_cannot_be_prepared_does_not_start() -> None:
    seen = Recorder()
    client = AIModelClient(chat_endpoint("http://127.0.0.1:9"), observers=[seen])
    with pytest.raises(ConfigurationError):
        await client.generate("")
    assert seen.records == []
