"""Observers receive records of each endpoint that a call asks, and may return trace ids, headers and contexts."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import anyio
import pytest

from dhenara_async import (
    AIModelClient,
    AttemptStarted,
    CallEnded,
    CallStarted,
    ConversationManager,
    ConversationNode,
    Dialect,
    EndpointEnded,
    EndpointStarted,
    Failover,
    FinishReason,
    Message,
    Observer,
    Race,
    TraceIds,
)
from dhenara_async.errors import ServerError
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from tests.loopback import ONCE, SPEAKERS, chat_endpoint, endpoint_at, serve, stalling

ANSWER = Answer("Pines sway.")


class Seen(Observer):
    def __init__(self, *, wants_content: bool = False) -> None:
        self.wants_content = wants_content
        self.starts: list[EndpointStarted] = []
        self.ends: list[EndpointEnded] = []
        self.call: CallStarted | None = None
        self.end: CallEnded | None = None

    def call_started(self, record: CallStarted) -> None:
        self.call = record

    def endpoint_started(self, record: EndpointStarted) -> None:
        self.starts.append(record)

    def endpoint_ended(self, record: EndpointEnded) -> None:
        assert self.end is None
        self.ends.append(record)

    def call_ended(self, record: CallEnded) -> None:
        assert self.end is None
        self.end = record


class Tracer(Observer):
    """Returns a trace for the call, a header for the request, and a context for sending it."""

    adds_headers = True

    def __init__(self) -> None:
        self.now_sending = 0
        self.sent = 0

    def trace_ids(self, call_id: str) -> TraceIds:
        return TraceIds(call_id, "0123456789abcdef")

    def request_headers(self, record: AttemptStarted) -> Mapping[str, str]:
        assert self.now_sending == 0
        return {"traceparent": f"attempt-{record.number}"}

    @contextmanager
    def around_request(self, record: AttemptStarted) -> Generator[None]:
        self.now_sending += 1
        self.sent += 1
        try:
            yield
        finally:
            self.now_sending -= 1


@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("streaming", [True, False])
async def test_the_record_of_a_complete_answer_has_model_response_id_and_finish_reasons(
    dialect: Dialect, streaming: bool
) -> None:
    seen = Seen()
    async with ProviderServer([ANSWER]) as server:
        client = AIModelClient(endpoint_at(server, dialect), ONCE.changed(streaming=streaming), observers=[seen])
        response = await client.generate("Trees?")
    (start,), (end,) = seen.starts, seen.ends
    assert (start.number, end.number, end.outcome, end.attempts, end.error) == (1, 1, "complete", 1, None)
    assert start.content is None
    answer = response.chat_response
    assert (end.model, end.response_id, end.usage) == (answer.model, answer.response_id, answer.usage)
    assert end.finish_reasons == (FinishReason.STOP,)
    assert end.first_content is not None
    assert seen.call is not None
    assert (seen.call.plan, seen.call.stream) == (None, streaming)
    assert seen.end is not None
    assert (seen.end.outcome, seen.end.answer) == ("complete", None)


async def test_only_observers_with_wants_content_receive_content() -> None:
    plain, curious = Seen(), Seen(wants_content=True)
    async with ProviderServer([ANSWER]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        client = AIModelClient(endpoint, observers=[plain, curious])
        response = await client.generate("Trees?", instructions=["Be short."])
    content = curious.starts[0].content
    assert plain.starts[0].content is None
    assert content is not None
    assert (content.messages, content.instructions) == ((Message.user("Trees?"),), ("Be short.",))
    assert "Trees" not in repr(curious.starts[0])
    assert curious.end is not None
    assert curious.end.answer == response.chat_response


async def test_each_endpoint_of_a_plan_has_a_record_of_its_own() -> None:
    seen = Seen()
    async with ProviderServer([ScriptedError(500, "Down."), ANSWER]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        await AIModelClient(Failover([endpoint, endpoint]), ONCE, observers=[seen]).generate("Trees?")
    assert seen.call is not None
    assert seen.call.plan == "failover"
    assert [(end.number, end.outcome) for end in seen.ends] == [(1, "failed"), (2, "complete")]
    assert isinstance(seen.ends[0].error, ServerError)
    assert seen.ends[0].status == 500


async def test_the_loser_of_a_race_has_the_outcome_lost() -> None:
    seen = Seen()
    async with serve(stalling()) as slow, ProviderServer([ANSWER]) as quick:
        plan = Race([chat_endpoint(slow.url), endpoint_at(quick, Dialect.OPENAI_CHAT)])
        await AIModelClient(plan, ONCE, observers=[seen]).generate("Trees?")
    assert {end.number: end.outcome for end in seen.ends} == {1: "lost", 2: "complete"}


async def _leave(client: AIModelClient) -> None:
    async with client.stream("Trees?") as stream:
        await anext(stream)


async def _raise(client: AIModelClient) -> None:
    with pytest.raises(LookupError):
        async with client.stream("Trees?") as stream:
            await anext(stream)
            raise LookupError


async def _cancel(client: AIModelClient) -> None:
    with anyio.CancelScope() as scope:
        async with client.stream("Trees?") as stream:
            await anext(stream)
            scope.cancel()
            await asyncio.sleep(1)


async def _close_from_another_task(client: AIModelClient) -> None:
    async with client.stream("Trees?") as stream, anyio.create_task_group() as tasks:
        await anext(stream)
        tasks.start_soon(stream.aclose)


@pytest.mark.parametrize("racing", [True, False])
@pytest.mark.parametrize(
    ("leave", "outcome"),
    [(_leave, "left"), (_raise, "left"), (_cancel, "cancelled"), (_close_from_another_task, "left")],
)
async def test_a_left_or_cancelled_stream_is_not_reported_as_failed(
    leave: Callable[[AIModelClient], object], outcome: str, racing: bool
) -> None:
    seen = Seen()
    async with ProviderServer(lambda _: Fault(answer=ANSWER, stall=3)) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        target = Race([endpoint]) if racing else endpoint
        work = leave(AIModelClient(target, ONCE, observers=[seen]))
        assert asyncio.iscoroutine(work)
        await work
    assert seen.end is not None
    assert seen.end.outcome == outcome
    assert [end.outcome for end in seen.ends] == [outcome]
    assert seen.ends[0].finish_reasons == ()


async def test_a_stream_that_nobody_reads_asks_no_endpoint() -> None:
    seen = Seen()
    async with ProviderServer([]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        async with AIModelClient(endpoint, ONCE, observers=[seen]).stream("Trees?"):
            pass
    assert (seen.starts, seen.ends) == ([], [])
    assert seen.end is not None
    assert seen.end.outcome == "left"


async def test_a_trace_is_in_the_request_the_response_and_the_node() -> None:
    tracer, seen = Tracer(), Seen()
    again = ScriptedError(503, "Busy.", headers={"retry-after": "0"})
    async with (
        ProviderServer([again, ANSWER]) as server,
        ConversationManager(observers=[Observer(), tracer, seen]) as manager,
    ):
        conversation = await manager.create()
        node = await manager.ask(conversation, "Trees?", endpoint_at(server, Dialect.ANTHROPIC_MESSAGES))
    assert [request.headers["traceparent"] for request in server.requests] == ["attempt-1", "attempt-2"]
    assert (tracer.now_sending, tracer.sent) == (0, 2)
    assert seen.call is not None
    assert (node.trace_id, node.span_id) == (seen.call.call_id, "0123456789abcdef")
    assert ConversationNode.model_validate_json(node.model_dump_json()).model_dump_json() == node.model_dump_json()


def test_a_stored_node_without_trace_ids_loads() -> None:
    stored = ConversationNode(user_query="Trees?").model_dump_json(exclude={"trace_id", "span_id"})
    node = ConversationNode.model_validate_json(stored)
    assert (node.trace_id, node.span_id) == (None, None)
