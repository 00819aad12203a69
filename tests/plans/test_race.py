"""``Race``: which target wins, which connections are closed, and what the losing targets cost."""

from collections.abc import Mapping
from decimal import Decimal

import anyio
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Budget,
    ConversationManager,
    Dialect,
    Failover,
    Pricing,
    Race,
    Rates,
    ResponseStream,
    SharedResources,
    StreamStart,
    TextDelta,
    Timeouts,
    Usage,
)
from dhenara_async.errors import (
    AuthenticationError,
    BudgetError,
    DeadlineError,
    DhenaraError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.plans.context import LOST_RACE
from dhenara_async.plans.race import MIN_LATENCY_SAMPLES
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.usage.budget import spent_by
from tests.loopback import (
    PATIENCE,
    Connection,
    Play,
    chat_delta,
    chat_endpoint,
    chat_stream,
    endpoint_at,
    event,
    head,
    once,
    serve,
    stalling,
)

ONCE = AIModelCallConfig(retries=0)
FOREVER = 3600.0
DONE = b"data: [DONE]\n\n"
USED_FEW = {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40}
USED = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}


def when(go: anyio.Event, *pieces: bytes) -> Play:
    """Answer one request with ``pieces``: the head at once, the rest when ``go`` is set."""

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(head())
            await go.wait()
            await connection.send(*pieces)

    return play


def usage_event(used: Mapping[str, int]) -> bytes:
    return event({"id": "x", "object": "chat.completion.chunk", "model": "served", "choices": [], "usage": used})


def client_of(
    plan: Race | Failover | AIModelEndpoint, *, shared: SharedResources | None = None, **timeouts: float
) -> AIModelClient:
    config = ONCE.model_copy(update={"timeouts": Timeouts.model_validate(timeouts)})
    return AIModelClient(plan, config, shared=shared)


# --------------------------------------------------------------------------------------------------- winners and losers


async def test_the_first_target_to_send_content_answers_and_the_others_are_closed() -> None:
    async with (
        serve(stalling(head())) as slow,
        serve(stalling()) as mute,
        serve(once(head(), *chat_stream("one ", "two"))) as quick,
    ):
        plan = Race([chat_endpoint(server.url) for server in (slow, mute, quick)])
        async with client_of(plan).stream("Well?") as stream:
            first = await anext(stream)
            # the others were closed before any event was delivered: their servers notice it on their own
            await slow.wait_hung_up()
            await mute.wait_hung_up()
            events = [first, *[event async for event in stream]]
        check_grammar(events)
        response = stream.response
        assert isinstance(first, StreamStart)
        assert response.text() == "one two"
        assert response.endpoint == expected_origin(chat_endpoint(quick.url))
        assert [len(server.requests) for server in (slow, mute, quick)] == [1, 1, 1]
    (decision,) = response.plan
    assert (decision.kind, decision.choice) == ("race", "openai_compatible:some-model")
    assert decision.reason == "the first of 3 to send content"
    assert [attempt.error for attempt in response.tries] == [LOST_RACE, LOST_RACE, None]
    assert response.attempts == 3


async def test_heartbeats_and_response_heads_do_not_win_a_race() -> None:
    go = anyio.Event()
    async with (
        serve(stalling(head(), b": ping\n\n", chat_delta(""), usage_event(USED))) as talker,
        serve(when(go, *chat_stream("words"))) as speaker,
    ):
        plan = Race([chat_endpoint(talker.url), chat_endpoint(speaker.url)])
        stream = client_of(plan).stream("Well?")
        async with anyio.create_task_group() as tasks, stream:

            async def later() -> None:
                await talker.asked.wait()
                await speaker.asked.wait()
                go.set()

            tasks.start_soon(later)
            await stream.collect()
        assert stream.response.text() == "words"


async def test_the_known_usage_of_a_losing_target_is_recorded_with_its_cost() -> None:
    go = anyio.Event()
    rates = Pricing(rates=Rates(input=Decimal(1), output=Decimal(2)))
    async with (
        serve(stalling(head(), usage_event(USED))) as loser,
        serve(stalling(head())) as untold,
        serve(when(go, *chat_stream("words"))) as winner,
    ):
        priced = chat_endpoint(loser.url).model_copy(update={"pricing": rates})
        plan = Race([priced, chat_endpoint(untold.url), chat_endpoint(winner.url)])
        async with ConversationManager(config=ONCE) as manager:
            turn = manager.turn(await manager.create(), "Well?", plan)
            async with turn, anyio.create_task_group() as tasks:

                async def later() -> None:
                    await loser.asked.wait()
                    await untold.asked.wait()
                    while turn.partial.tries[0].usage.input_tokens is None:  # noqa: ASYNC110 - no event reports it
                        await anyio.sleep(0.001)
                    go.set()

                tasks.start_soon(later)
                await turn.collect()
    known, unknown, answered = turn.node.tries
    assert (known.error, known.usage.input_tokens, known.usage.source) == (LOST_RACE, 1000, "estimated")
    assert known.cost == Decimal("0.002")
    assert (unknown.error, unknown.usage.input_tokens, unknown.usage.source) == (LOST_RACE, None, "unknown")
    assert unknown.cost is None
    assert answered.error is None
    assert turn.node.plan[0].kind == "race"
    assert turn.node.status == "complete"


@pytest.mark.parametrize("whose", ["conversation", "manager"])
async def test_the_usage_of_losing_targets_counts_in_the_budget(whose: str) -> None:
    """The losing target reported tokens before it was closed; they exceed the budget, so the next turn is refused."""
    go, budget = anyio.Event(), Budget(tokens=100)
    told = Answer(text="Yes.", usage=Usage(input_tokens=70, output_tokens=1))
    async with (
        ProviderServer([Fault(answer=told, stall=1)]) as loser,
        serve(when(go, chat_delta("words"), usage_event(USED_FEW), chat_delta("", finish="stop"), DONE)) as winner,
        ConversationManager(
            config=ONCE,
            budget=budget if whose == "manager" else None,
            conversation_budget=budget if whose == "conversation" else None,
        ) as manager,
    ):
        conversation = await manager.create()
        plan = Race([endpoint_at(loser, Dialect.ANTHROPIC_MESSAGES), chat_endpoint(winner.url)])
        turn = manager.turn(conversation, "Well?", plan)
        async with turn, anyio.create_task_group() as tasks:

            async def later() -> None:
                while not turn.partial.tries or turn.partial.tries[0].usage.input_tokens is None:  # noqa: ASYNC110
                    await anyio.sleep(0.001)  # no event reports it
                go.set()

            tasks.start_soon(later)
            await turn.collect()
        assert turn.node.usage.total_tokens == 40  # the answer's own
        assert spent_by([turn.node]).tokens == 111
        with pytest.raises(BudgetError, match=whose):
            await manager.ask(conversation, "Well?", chat_endpoint(winner.url))


@pytest.mark.parametrize("dialect", [Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI])
async def test_the_race_continues_without_a_failed_target(dialect: Dialect) -> None:
    async with ProviderServer([ScriptedError(500, "no")]) as bad, ProviderServer([Answer(text="Well.")]) as good:
        plan = Race([endpoint_at(bad, Dialect.OPENAI_RESPONSES), endpoint_at(good, dialect)])
        async with client_of(plan).stream("Well?") as stream:
            check_grammar([event async for event in stream])
        assert stream.response.text() == "Well."
        assert len(bad.requests) == len(good.requests) == 1


async def test_if_all_targets_fail_the_first_error_is_raised_with_notes_about_the_others() -> None:
    async with ProviderServer([ScriptedError(401, "no")]) as one, ProviderServer([ScriptedError(500, "oh")]) as two:
        plan = Race([endpoint_at(one, Dialect.OPENAI_CHAT), endpoint_at(two, Dialect.GEMINI)])
        with pytest.raises(AuthenticationError) as caught:
            await client_of(plan).generate("Well?")
    assert caught.value.attempts == 2
    assert any(ServerError.__name__ in note for note in caught.value.__notes__)


async def test_a_winner_that_fails_is_not_replaced() -> None:
    async with serve(once(head(), chat_delta("one "))) as winner, serve(stalling(head())) as loser:
        plan = Race([chat_endpoint(winner.url), chat_endpoint(loser.url)])
        async with client_of(plan).stream("Well?") as stream:
            with pytest.raises(TruncatedStreamError):
                await stream.collect()
        assert stream.partial.text() == "one "


async def test_a_failover_calls_the_next_target_after_all_targets_of_a_race_failed() -> None:
    async with serve(once()) as one, serve(once()) as two, ProviderServer([Answer(text="Well.")]) as good:
        race = Race([chat_endpoint(one.url), chat_endpoint(two.url)])
        plan = Failover([race, endpoint_at(good, Dialect.GEMINI)])
        response = await client_of(plan).generate("Well?")
    assert (response.text(), response.attempts) == ("Well.", 3)
    assert [decision.kind for decision in response.plan] == ["failover"]


# ----------------------------------------------------------------------------------------- cancellation and time limits


async def test_cancelling_a_race_closes_all_targets() -> None:
    async with serve(stalling(head())) as one, serve(stalling()) as two:
        streams: list[ResponseStream] = []

        async def read() -> None:
            plan = Race([chat_endpoint(one.url), chat_endpoint(two.url)])
            async with client_of(plan).stream("Well?") as stream:
                streams.append(stream)
                await stream.collect()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await one.asked.wait()
            await two.asked.wait()
            tasks.cancel_scope.cancel()
        await one.wait_hung_up()
        await two.wait_hung_up()
    assert [attempt.usage.source for attempt in streams[0].partial.tries] == ["unknown", "unknown"]


async def test_leaving_after_the_race_closes_the_winner() -> None:
    async with serve(stalling(head(), chat_delta("one "))) as winner, serve(stalling()) as loser:
        plan = Race([chat_endpoint(winner.url), chat_endpoint(loser.url)])
        async with client_of(plan).stream("Well?") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
        await winner.wait_hung_up()
        await loser.wait_hung_up()


async def test_the_total_time_limit_ends_a_race() -> None:
    async with serve(stalling(head())) as one, serve(stalling()) as two:
        plan = Race([chat_endpoint(one.url), chat_endpoint(two.url)], hedge_after=0.01)
        with pytest.raises(DeadlineError) as caught:
            await client_of(plan, total=0.1).generate("Well?")
        assert (caught.value.limit, caught.value.seconds) == ("total", 0.1)
        await one.wait_left()
        await two.wait_left()


async def test_an_internal_error_is_raised_outside_of_an_exception_group() -> None:
    class Broken(Exception):
        pass

    def fails(_error: DhenaraError) -> bool:
        raise Broken

    async with serve(once()) as one, serve(stalling()) as two:
        inner = Failover([chat_endpoint(one.url), chat_endpoint(one.url)], on=fails)
        with pytest.raises(Broken):
            await client_of(Race([inner, chat_endpoint(two.url)])).generate("Well?")
        await two.wait_hung_up()


# -------------------------------------------------------------------------------------------------------------- hedging


async def test_a_first_target_faster_than_the_hedge_delay_runs_alone() -> None:
    async with serve(once(head(), *chat_stream("words"))) as one, serve(stalling()) as two:
        plan = Race([chat_endpoint(one.url), chat_endpoint(two.url)], hedge_after=FOREVER)
        response = await client_of(plan).generate("Well?")
        assert (two.connections, response.attempts) == (0, 1)
    assert response.plan[0].reason == "the first of 1 to send content"


async def test_the_next_target_starts_after_the_hedge_delay() -> None:
    async with serve(stalling(head())) as one, serve(once(head(), *chat_stream("words"))) as two:
        plan = Race([chat_endpoint(one.url), chat_endpoint(two.url)], hedge_after=0.02)
        response = await client_of(plan).generate("Well?")
        await one.wait_hung_up()
    assert (response.text(), [attempt.error for attempt in response.tries]) == ("words", [LOST_RACE, None])


async def test_the_next_target_starts_at_once_if_all_earlier_ones_failed() -> None:
    async with serve(once()) as one, serve(once(head(), *chat_stream("words"))) as two:
        plan = Race([chat_endpoint(one.url), chat_endpoint(two.url)], hedge_after=FOREVER)
        with anyio.fail_after(PATIENCE):
            response = await client_of(plan).generate("Well?")
    assert response.text() == "words"


async def test_a_percentile_uses_the_latencies_of_earlier_calls() -> None:
    shared = SharedResources()
    async with serve(stalling(head())) as one, serve(once(head(), *chat_stream("words"))) as two:
        plan = Race([chat_endpoint(one.url), chat_endpoint(two.url)], hedge_after="p95")
        for _ in range(
            MIN_LATENCY_SAMPLES
        ):  # it usually answers within 10 ms, so the default delay of a second is not needed
            shared.latencies.learn(expected_origin(chat_endpoint(one.url)), 0.01)
        response = await client_of(plan, shared=shared).generate("Well?")
    assert response.text() == "words"
    times = shared.latencies.of(expected_origin(chat_endpoint(one.url)))
    assert len(times) == MIN_LATENCY_SAMPLES + 1
    assert times[-1] > 0.01  # a lower bound: the target was cancelled before it answered
    assert len(shared.latencies.of(expected_origin(chat_endpoint(two.url)))) == 1


async def test_the_default_hedge_delay_applies_while_there_are_too_few_latencies() -> None:
    async with serve(once(head(), *chat_stream("words"))) as one, serve(stalling()) as two:
        plan, shared = Race([chat_endpoint(one.url), chat_endpoint(two.url)], hedge_after="p50"), SharedResources()
        await client_of(plan, shared=shared).generate("Well?")
        assert two.connections == 0
        assert len(shared.latencies.of(expected_origin(chat_endpoint(one.url)))) == 1
