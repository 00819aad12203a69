"""Fan-outs: outcomes, their order, concurrency limits, and the isolation of calls."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import anyio
import anyio.lowlevel
import orjson
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelCallResponse,
    AIModelClient,
    AIModelEndpoint,
    Dialect,
    Failover,
    FanOutProgress,
    Message,
    ModelCall,
    Outcome,
    Race,
    SharedResources,
    StreamEnd,
    StreamEvent,
    TextDelta,
    Transport,
    as_completed,
    fan_out,
    first_of,
    gather,
)
from dhenara_async.errors import AuthenticationError, ConfigurationError, ServerError, StreamStateError
from dhenara_async.fanout.values import ModelCallLike
from dhenara_async.limits.limiter import Slot
from dhenara_async.messages.messages import Origin
from dhenara_async.testing import Answer, ProviderServer, ScriptedError, SeenRequest
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests.loopback import (
    LAST_CHUNK,
    ONCE,
    PATIENCE,
    SPEAKERS,
    Connection,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    chunked,
    endpoint_at,
    head,
    serve,
)

DIALECTS = list(SPEAKERS)
STREAMING = AIModelCallConfig(streaming=True)


def repeat_question(seen: SeenRequest) -> Answer | ScriptedError:
    """Answer with the question, word by word; refuse questions that start with "bad"."""
    question = seen.turns[-1][1]
    if question.startswith("bad"):
        return ScriptedError(401, "No.")
    return Answer(text=f"You said {question}, if I heard you well.")


def expected_text(question: str) -> str:
    return f"You said {question}, if I heard you well."


def requests_to(server: ProviderServer, questions: Iterable[str]) -> list[ModelCall]:
    """Make a request of each question, to a different provider in turn."""
    return [
        ModelCall(endpoint_at(server, DIALECTS[number % 4]), question, key=f"key of {question}")
        for number, question in enumerate(questions)
    ]


async def run_other_tasks() -> None:
    """Give all runnable tasks many turns of the event loop."""
    for _ in range(100):
        await asyncio.sleep(0)


@dataclass(slots=True)
class GroupingServer:
    """A server that answers when a group of requests has arrived, and counts requests.

    Attributes:
        group: Number of requests in a group.
        holds_head: Whether the response head is delayed, or the rest of the response.
        waiting: Number of requests without a response head.
        speaking: Number of requests without a complete response.
        most_waiting: Highest value of ``waiting``.
        most_speaking: Highest value of ``speaking``.
        left: Number of connections that the client closed early.
        questions: The received questions.
    """

    group: int
    holds_head: bool = False
    waiting: int = 0
    speaking: int = 0
    most_waiting: int = 0
    most_speaking: int = 0
    left: int = 0
    questions: list[str] = field(default_factory=list[str])
    _together: anyio.Event = field(default_factory=anyio.Event)
    _count: int = 0

    async def play(self, connection: Connection) -> None:
        """Answer with the question; "stay" is answered with one word, and the response stays open."""
        while (request := await connection.request()) is not None:
            question = orjson.loads(request.body)["messages"][-1]["content"]
            self.questions.append(question)
            self.waiting, self.speaking = self.waiting + 1, self.speaking + 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            self.most_speaking = max(self.most_speaking, self.speaking)
            if self.holds_head:
                await self._gathered()
            self.waiting -= 1
            await connection.send(head(transfer_encoding="chunked"), chunk(chat_delta(question)))
            if question == "stay":
                await connection.until_hung_up()
                self.left += 1
                self.speaking -= 1
                return
            if not self.holds_head:
                await self._gathered()
            self.speaking -= 1
            await connection.send(*map(chunk, chat_stream("!")), LAST_CHUNK)

    async def _gathered(self) -> None:
        self._count += 1
        if self._count % self.group == 0:
            await run_other_tasks()  # time for a request beyond the limit to arrive
            self._together.set()
            self._together = anyio.Event()
        else:
            await self._together.wait()

    async def wait_closed_early(self, count: int) -> None:
        """Wait until the client has closed ``count`` connections early."""
        with anyio.fail_after(PATIENCE):
            while self.left < count:  # noqa: ASYNC110 - only the network tells the server
                await anyio.sleep(0.001)


# ------------------------------------------------------------------------------------------------------------- outcomes


async def test_events_are_tagged_and_results_are_ordered() -> None:
    seen: dict[int, list[StreamEvent]] = {}
    async with ProviderServer(repeat_question) as server, fan_out(requests_to(server, "abcdefgh")) as fan:
        async for tagged in fan:
            seen.setdefault(tagged.index, []).append(tagged.event)
            assert tagged.key == f"key of {'abcdefgh'[tagged.index]}"
        assert fan.results[0].response is not None
    assert sorted(seen) == list(range(8))
    for events in seen.values():
        check_grammar(events)
    assert [result.unwrap().text() for result in fan.results] == [expected_text(question) for question in "abcdefgh"]
    assert [(result.index, result.key) for result in fan.results] == [
        (n, f"key of {q}") for n, q in enumerate("abcdefgh")
    ]
    assert [(result.error, result.partial, result.cancelled) for result in fan.results] == [(None, None, False)] * 8
    texts = {n: "".join(e.text for e in events if isinstance(e, TextDelta)) for n, events in seen.items()}
    assert texts == {number: expected_text(question) for number, question in enumerate("abcdefgh")}


@pytest.mark.parametrize("config", [AIModelCallConfig(), STREAMING])
async def test_an_awaited_fan_out_equals_single_calls(config: AIModelCallConfig) -> None:
    async with ProviderServer(repeat_question) as server:
        calls = requests_to(server, "abcd")
        outcomes = await fan_out(calls, config=config)
        streams = [seen.stream for seen in server.requests]
        alone = [await AIModelClient(call.endpoint, config).generate(call.prompt) for call in calls]
    together = [outcome.unwrap() for outcome in outcomes]
    assert [without_ids(response) for response in together] == [without_ids(response) for response in alone]
    assert streams == [config.streaming] * 4


def without_ids(response: AIModelCallResponse) -> object:
    """Return a response without ids, which differ from call to call."""
    answer = response.chat_response
    parts = [(part.type, part.get_text()) for part in answer.choices[0].parts]
    return parts, answer.usage, answer.finish_reason, answer.model, response.endpoint, response.attempts


async def test_requests_are_calls_or_tuples() -> None:
    async with ProviderServer() as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        results = await fan_out(
            [
                (endpoint, "one"),
                (endpoint, Message.user("two"), AIModelCallConfig(max_output_tokens=7)),
                ModelCall(endpoint, "three", context=["two and a half"], instructions=["Be brief."]),
                ModelCall(endpoint, messages=[Message.user("four")]),
            ],
            limit=1,
            config=AIModelCallConfig(max_output_tokens=5),
        )
        assert all(result.response is not None for result in results)
        assert [seen.turns[-1][1].splitlines()[-1] for seen in server.requests] == ["one", "two", "three", "four"]
        assert server.requests[2].system == "Be brief."
        assert [_limit_of(seen.json) for seen in server.requests] == [5, 7, 5, 5]


def _limit_of(body: object) -> object:
    fields = cast("dict[str, object]", body)
    return fields.get("max_completion_tokens") or fields.get("max_tokens")


async def test_plans_are_accepted_like_endpoints() -> None:
    async with ProviderServer(repeat_question) as server, ProviderServer([ScriptedError(503, "Full.")] * 9) as full:
        good = endpoint_at(server, Dialect.GEMINI)
        bad = endpoint_at(full, Dialect.OPENAI_CHAT)
        results = await fan_out([(Failover([bad, good]), "a"), (Race([good, bad]), "b"), (bad, "c")], config=ONCE)
    first, second, third = results
    assert (first.unwrap().text(), second.unwrap().text()) == (expected_text("a"), expected_text("b"))
    assert [decision.kind for decision in first.unwrap().plan] == ["failover"]
    assert third.error is not None


async def test_a_failed_call_does_not_affect_the_others() -> None:
    async with ProviderServer(repeat_question) as server, fan_out(requests_to(server, ["a", "bad", "c", "  "])) as fan:
        while batch := await fan.batch():
            if batch.outcome is not None:
                assert batch.events == ()
                assert fan.outcome(batch.index) == batch.outcome
    a, bad, c, empty = fan.results
    assert (a.unwrap().text(), c.unwrap().text()) == (expected_text("a"), expected_text("c"))
    assert isinstance(bad.error, AuthenticationError)
    assert bad.partial is not None
    assert bad.partial.tries[0].status == 401
    assert isinstance(empty.error, ConfigurationError)
    assert empty.partial is None
    with pytest.raises(AuthenticationError):
        bad.unwrap()


async def test_a_broken_answer_keeps_its_partial_response() -> None:
    async def cut(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(head(), chat_delta("Half an"))

    async with serve(cut) as server, ProviderServer(repeat_question) as good:
        fan = fan_out([(chat_endpoint(server.url), "a"), *requests_to(good, "b")])
        async with fan:
            events = [tagged async for tagged in fan]
    half, whole = fan.results
    assert half.partial is not None
    assert half.partial.text() == "Half an"
    assert half.error is not None
    assert not half.cancelled
    assert whole.unwrap().text() == expected_text("b")
    check_grammar([tagged.event for tagged in events if tagged.index == 0], complete=False)


class BrokenLimiter:
    """A custom limiter with a bug."""

    async def acquire(self, origin: Origin, *, tokens: int) -> Slot:
        """See ``Limiter``."""
        raise ZeroDivisionError(f"{origin} {tokens}")


async def test_an_error_of_the_callers_limiter_is_the_outcome_of_its_call() -> None:
    async with ProviderServer(repeat_question) as server:
        shared = SharedResources(limiter=BrokenLimiter())
        (outcome,) = await fan_out(requests_to(server, "a"), shared=shared)
    assert isinstance(outcome.error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        outcome.unwrap()


async def test_as_completed_uses_the_shared_limiter() -> None:
    shared = SharedResources(limiter=BrokenLimiter())
    async with (
        ProviderServer(repeat_question) as server,
        as_completed(requests_to(server, "a"), shared=shared) as completions,
    ):
        outcomes = [outcome async for outcome in completions]
    assert [type(outcome.error) for outcome in outcomes] == [ZeroDivisionError]


@pytest.mark.parametrize("request_", ["ab", ("question", "endpoint"), (1, 2, 3, 4), None])
async def test_an_invalid_request_fails_alone(request_: ModelCallLike) -> None:
    async with ProviderServer(repeat_question) as server:
        wrong, right = await fan_out([request_, *requests_to(server, "a")])
    assert isinstance(wrong.error, ConfigurationError)
    assert right.unwrap().text() == expected_text("a")


@pytest.mark.parametrize("options", [{"limit": 0}, {"connecting": 0}])
async def test_invalid_limits_are_refused_by_the_constructor(options: Mapping[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        fan_out([], limit=options.get("limit", 1), connecting=options.get("connecting"))
    with pytest.raises(ConfigurationError, match="sequence"):
        fan_out("abc")  # type: ignore[arg-type] - that is the point


async def test_no_requests_give_no_results() -> None:
    assert await fan_out([]) == []
    assert await gather([]) == []
    async with fan_out([]) as fan:
        assert [tagged async for tagged in fan] == []
        assert fan.progress == FanOutProgress(0, 0, 0, 0, 0)
    assert fan.results == []


async def test_five_hundred_calls_run_at_once() -> None:
    questions = [f"number {number}" for number in range(500)]
    async with ProviderServer(repeat_question) as server:
        texts: dict[int, list[str]] = {}
        async with fan_out(requests_to(server, questions), limit=None) as fan:
            while batch := await fan.batch():
                texts.setdefault(batch.index, []).extend(e.text for e in batch.events if isinstance(e, TextDelta))
    assert ["".join(texts[number]) for number in range(500)] == [expected_text(question) for question in questions]
    assert [result.unwrap().text() for result in fan.results] == [expected_text(question) for question in questions]


# ---------------------------------------------------------------------------------------------------------- concurrency


async def test_running_calls_never_exceed_the_limit() -> None:
    grouping = GroupingServer(group=3)
    pulled = 0

    def requests() -> Generator[ModelCallLike]:
        nonlocal pulled
        for number in range(12):
            pulled += 1
            yield chat_endpoint(server.url), f"{number}"

    async with serve(grouping.play) as server:
        async with fan_out(requests(), limit=3) as fan:
            async for _ in fan:
                ended = fan.progress.done
                assert pulled <= ended + 3
                assert fan.progress.running <= 3
        assert server.connections <= 4  # a fourth where a connection is not back yet
    assert (grouping.most_speaking, len(grouping.questions)) == (3, 12)
    assert [result.unwrap().text() for result in fan.results] == [f"{number}!" for number in range(12)]


async def test_connecting_limits_how_many_calls_wait_for_their_response_head() -> None:
    grouping = GroupingServer(group=2, holds_head=True)
    async with serve(grouping.play) as server:
        results = await fan_out(((chat_endpoint(server.url), f"{n}", STREAMING) for n in range(8)), connecting=2)
    assert (grouping.most_waiting, len(grouping.questions)) == (2, 8)
    assert all(result.response is not None for result in results)


async def test_a_connecting_place_is_released_once_the_response_head_arrived() -> None:
    grouping = GroupingServer(group=8)  # none is answered until all have their head
    async with serve(grouping.play) as server:
        results = await fan_out(((chat_endpoint(server.url), f"{n}", STREAMING) for n in range(8)), connecting=2)
    assert grouping.most_speaking == 8
    assert all(result.response is not None for result in results)


async def test_requests_are_taken_as_calls_end() -> None:
    pulled = 0

    def endless(endpoint: AIModelEndpoint) -> Generator[ModelCallLike]:
        nonlocal pulled
        while True:
            pulled += 1
            yield endpoint, f"{pulled}"

    async with ProviderServer(repeat_question) as server:
        fan = fan_out(endless(endpoint_at(server, Dialect.OPENAI_CHAT)), limit=4)
        async with fan:
            assert fan.progress.total is None
            await run_other_tasks()
            assert pulled == 4
            while batch := await fan.batch():
                if batch.outcome is not None and batch.index == 9:
                    break
            for _ in range(10):
                await run_other_tasks()
            assert pulled <= 14  # the reader has stopped: ended calls wait for it, and count as running
    assert len(fan.results) == pulled


async def test_requests_can_come_from_an_async_iterable() -> None:
    async def requests(server: ProviderServer) -> AsyncGenerator[ModelCall]:
        for call in requests_to(server, "abcde"):
            await anyio.lowlevel.checkpoint()
            yield call

    async with ProviderServer(repeat_question) as server:
        results = await fan_out(requests(server), limit=2)
        async with fan_out(requests(server)) as fan:
            assert len({tagged.index async for tagged in fan}) == 5
    assert [result.unwrap().text() for result in results] == [expected_text(question) for question in "abcde"]


async def test_an_error_of_the_request_iterable_is_raised_to_the_reader() -> None:
    def requests(server: ProviderServer) -> Generator[ModelCallLike]:
        yield from requests_to(server, "ab")
        raise ZeroDivisionError("in the caller's own generator")

    async with ProviderServer(repeat_question) as server:
        with pytest.raises(ZeroDivisionError):
            await fan_out(requests(server))
        with pytest.raises(ZeroDivisionError):
            async with fan_out(requests(server), limit=1) as fan:
                async for _ in fan:
                    pass
        with pytest.raises(ZeroDivisionError):  # also if no events are read
            async with fan_out(requests(server)):
                await run_other_tasks()


async def test_progress_is_reported_when_a_call_starts_and_ends() -> None:
    told: list[FanOutProgress] = []
    async with ProviderServer(repeat_question) as server:
        await fan_out(requests_to(server, ["a", "bad", "c"]), limit=1, on_progress=told.append)
    steps = [(step.waiting, step.running, step.done, step.failed) for step in told]
    assert steps == [(2, 1, 0, 0), (2, 0, 1, 0), (1, 1, 1, 0), (1, 0, 1, 1), (0, 1, 1, 1), (0, 0, 2, 1)]
    assert {step.total for step in told} == {3}


async def test_an_error_of_the_progress_hook_is_raised_to_the_reader() -> None:
    def broken(progress: FanOutProgress) -> None:
        raise ZeroDivisionError(str(progress.done))

    async with ProviderServer(repeat_question) as server:
        with pytest.raises(ZeroDivisionError):
            await fan_out(requests_to(server, "abc"), on_progress=broken)


# ------------------------------------------------------------------------------------ gather, as_completed and first_of


async def test_gather_returns_all_responses_in_order() -> None:
    async with ProviderServer(repeat_question) as server:
        responses = await gather(requests_to(server, "abcde"), limit=2, config=STREAMING)
    assert [response.text() for response in responses] == [expected_text(question) for question in "abcde"]


async def test_gather_raises_the_first_error_and_cancels_the_others() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server, ProviderServer([ScriptedError(500, "No.")]) as bad:
        stay = [(chat_endpoint(server.url), "stay", STREAMING)] * 3

        async def requests() -> AsyncGenerator[ModelCallLike]:
            for one in stay:
                yield one
            while len(grouping.questions) < 3:  # noqa: ASYNC110 - only the network tells the server
                await anyio.sleep(0.001)
            yield endpoint_at(bad, Dialect.OPENAI_CHAT), "no", ONCE

        with pytest.raises(ServerError):
            await gather(requests())
        await grouping.wait_closed_early(3)


async def test_as_completed_yields_outcomes_in_order_of_completion() -> None:
    go = anyio.Event()

    async def slow(connection: Connection) -> None:
        if await connection.request() is not None:
            await go.wait()
            await connection.send(chunked(*chat_stream("Slow.")))

    async with serve(slow) as server, ProviderServer(repeat_question) as quick:
        order: list[int] = []
        async with as_completed([(chat_endpoint(server.url), "a"), *requests_to(quick, ["b", "bad"])]) as ended:
            async for outcome in ended:
                order.append(outcome.index)
                assert isinstance(outcome, Outcome)
                if len(order) == 2:
                    go.set()
            assert ended.progress == FanOutProgress(3, 0, 0, 2, 1)
    assert sorted(order[:2]) == [1, 2]
    assert order[2] == 0


async def test_first_of_cancels_the_other_calls() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server, ProviderServer(repeat_question) as good:
        stay = [(chat_endpoint(server.url), "stay", STREAMING)] * 3

        async def requests() -> AsyncGenerator[ModelCallLike]:
            for one in stay:
                yield one
            while len(grouping.questions) < 3:  # noqa: ASYNC110 - only the network tells the server
                await anyio.sleep(0.001)
            for one in requests_to(good, ["bad", "a", "b"]):
                yield one

        responses = await first_of(2, requests())
        await grouping.wait_closed_early(3)
    assert sorted(response.text() for response in responses) == [expected_text("a"), expected_text("b")]


async def test_first_of_raises_if_too_few_calls_succeed() -> None:
    async with ProviderServer(repeat_question) as server:
        with pytest.raises(AuthenticationError) as caught:
            await first_of(2, requests_to(server, ["a", "bad one", "bad two"]))
        assert len(caught.value.__notes__) == 1
        with pytest.raises(ConfigurationError, match="only 1"):
            await first_of(2, requests_to(server, ["a"]))
        with pytest.raises(ConfigurationError, match="1 or more"):
            await first_of(0, requests_to(server, ["a"]))


# ---------------------------------------------------------------------------------------------------------- connections


async def test_all_calls_share_one_pool_which_is_closed_at_the_end() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server:
        await fan_out([(chat_endpoint(server.url), f"{number}") for number in range(5)], limit=1)
        await server.wait_hung_up()
        assert server.connections == 1


async def test_a_given_transport_is_not_closed() -> None:
    class Watched(AiohttpTransport):
        closed = False

        async def aclose(self) -> None:
            self.closed = True
            await super().aclose()

    transport = Watched()
    brought: Transport = transport
    async with ProviderServer(repeat_question) as server:
        for connecting in (None, 2):
            await fan_out(requests_to(server, "ab"), transport=brought, connecting=connecting)
        assert not transport.closed
        await transport.aclose()


async def test_a_fan_out_runs_once_and_is_read_in_its_block() -> None:
    async with ProviderServer(repeat_question) as server:
        fan = fan_out(requests_to(server, "ab"))
        with pytest.raises(StreamStateError, match="inside their block"):
            await anext(fan)
        with pytest.raises(StreamStateError, match="not all calls"):
            _ = fan.results
        async with fan:
            assert [type(tagged.event) async for tagged in fan].count(StreamEnd) == 2
        assert await fan.batch() is None
        with pytest.raises(StreamStateError, match="run once"):
            await fan


async def test_remaining_events_can_be_skipped_by_collect() -> None:
    async with ProviderServer(repeat_question) as server, fan_out(requests_to(server, "abcd")) as fan:
        first = await anext(fan)
        results = await fan.collect()
        assert await fan.batch() is None
    assert results == fan.results
    assert results[first.index].unwrap().text() == expected_text("abcd"[first.index])
    assert all(result.response is not None for result in results)
