"""What a manager's turns may spend, and how many may be under way."""

from collections.abc import Mapping
from decimal import Decimal

import anyio
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelEndpoint,
    Budget,
    ConversationManager,
    ConversationNode,
    Dialect,
    Experiment,
    Failover,
    FilePart,
    Limits,
    Origin,
    Pricing,
    Race,
    Rates,
    Router,
    StreamStart,
    Usage,
    UsageUpdate,
)
from dhenara_async.errors import BudgetError, OverloadedError, ServerError, UnsupportedError
from dhenara_async.limits.limiter import Slot
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from dhenara_async.usage.budget import Amount, spent_by
from tests.loopback import NO_RETRIES, ONCE, endpoint_at

STREAMED = AIModelCallConfig(streaming=True, retries=NO_RETRIES)
RATES = Pricing(rates=Rates(input=Decimal(1_000), output=Decimal(1_000)))  # a thousandth for each token


def priced(server: ProviderServer) -> AIModelEndpoint:
    """An endpoint whose tokens cost something."""
    return endpoint_at(server, Dialect.ANTHROPIC_MESSAGES).model_copy(update={"pricing": RATES})


def answer(tokens: int) -> Answer:
    """An answer that took ``tokens`` altogether."""
    return Answer(text="Yes.", usage=Usage(input_tokens=tokens - 1, output_tokens=1))


async def test_a_conversation_spends_no_more_than_its_budget() -> None:
    async with (
        ProviderServer([answer(60), answer(60), answer(60)]) as server,
        ConversationManager(conversation_budget=Budget(tokens=100)) as manager,
    ):
        conversation, who = await manager.create(), priced(server)
        await manager.ask(conversation, "One?", who)
        await manager.ask(conversation, "Two?", who)
        with pytest.raises(BudgetError, match="conversation") as caught:
            await manager.ask(conversation, "Three?", who)
        assert len(server.requests) == 2  # refused before anything was sent
        assert len(conversation.nodes) == 2
        other = await manager.create()  # has a budget of its own
        await manager.ask(other, "One?", who)
    assert caught.value.left == -20


async def test_a_manager_spends_no_more_than_its_budget() -> None:
    async with (
        ProviderServer([answer(60), answer(60)]) as server,
        ConversationManager(budget=Budget(money=Decimal("0.1"))) as manager,
    ):
        who = priced(server)
        await manager.ask(await manager.create(), "One?", who)
        await manager.ask(await manager.create(), "Two?", who)
        with pytest.raises(BudgetError, match="manager"):
            await manager.ask(await manager.create(), "Three?", who)
        assert len(server.requests) == 2


async def test_what_an_answer_may_take_counts_beforehand() -> None:
    async with ProviderServer() as server, ConversationManager(budget=Budget(tokens=1_000)) as manager:
        conversation = await manager.create()
        with pytest.raises(BudgetError):
            await manager.ask(conversation, "One?", priced(server), config=AIModelCallConfig(max_output_tokens=1_000))
        await manager.ask(conversation, "One?", priced(server), config=AIModelCallConfig(max_output_tokens=900))
        assert len(server.requests) == 1


async def test_turns_under_way_count_too() -> None:
    done: list[ConversationNode | BudgetError] = []
    async with (
        ProviderServer(delay=0.02) as server,
        ConversationManager(budget=Budget(tokens=1_000)) as manager,
    ):
        config = AIModelCallConfig(max_output_tokens=400, streaming=True)

        async def ask() -> None:
            try:
                done.append(await manager.ask(await manager.create(), "One?", priced(server), config=config))
            except BudgetError as exc:
                done.append(exc)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
        assert len(server.requests) == 2
        assert sum(isinstance(one, BudgetError) for one in done) == 18
        await manager.ask(await manager.create(), "One?", priced(server), config=config)  # settled by what they took


async def test_a_turn_that_came_to_nothing_spends_nothing() -> None:
    async with (
        ProviderServer([ScriptedError(529, "busy"), answer(50)]) as server,
        ConversationManager(budget=Budget(tokens=450), conversation_budget=Budget(tokens=450), config=ONCE) as manager,
    ):
        conversation, config = await manager.create(), AIModelCallConfig(max_output_tokens=400, retries=NO_RETRIES)
        with pytest.raises(OverloadedError):
            await manager.ask(conversation, "One?", priced(server), config=config)
        await manager.ask(conversation, "One?", priced(server), config=config)


# ------------------------------------------------------------------------------------- more than one request in a turn


def breaking(tokens: int, *, after: int) -> Fault:
    """An answer that tells of ``tokens``, and fails after so many events."""
    return Fault(answer=answer(tokens), error=ScriptedError(503, "busy"), error_at=after)


@pytest.mark.parametrize("whose", ["conversation", "manager"])
async def test_what_failed_requests_took_counts(whose: str) -> None:
    """The first one has read its question before it fails, and is paid for that."""
    budget = Budget(tokens=150, money=Decimal(1))
    async with (
        ProviderServer([breaking(60, after=1)]) as first,
        ProviderServer([answer(60), answer(60)]) as other,
        ConversationManager(
            budget=budget if whose == "manager" else None,
            conversation_budget=budget if whose == "conversation" else None,
            config=ONCE,
        ) as manager,
    ):
        conversation, plan = await manager.create(), Failover([priced(first), priced(other)])
        node = await manager.ask(conversation, "One?", plan, config=STREAMED)
        assert (node.usage.total_tokens, node.cost) == (60, Decimal("0.06"))  # its own, as before
        assert spent_by([node]) == Amount(120, Decimal("0.12"))
        await manager.ask(conversation, "Two?", plan)
        with pytest.raises(BudgetError, match=whose) as caught:
            await manager.ask(conversation, "Three?", plan)
    assert caught.value.left == 150 - 120 - 60


async def test_what_further_tries_of_one_endpoint_took_counts() -> None:
    config = AIModelCallConfig.model_validate({"retries": {"attempts": 3, "first_delay": 0}, "streaming": True})
    script = [breaking(60, after=1), breaking(50, after=1), answer(40)]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        node = await manager.ask(await manager.create(), "One?", priced(server), config=config)
    assert node.attempts == 3
    assert spent_by([node]) == Amount(150, Decimal("0.15"))


@pytest.mark.parametrize(("after", "status"), [(1, "failed"), (4, "interrupted")])
async def test_an_answer_that_broke_off_counts_once(after: int, status: str) -> None:
    """Its node and its request both tell of it."""
    async with (
        ProviderServer([breaking(60, after=after)]) as server,
        ConversationManager(budget=Budget(tokens=100, money=Decimal("0.1")), config=ONCE) as manager,
    ):
        conversation = await manager.create()
        with pytest.raises(ServerError):
            await manager.ask(conversation, "One?", priced(server), config=STREAMED)
        (node,) = conversation.nodes
        assert (node.status, node.cost, node.tries[0].cost) == (status, Decimal("0.06"), Decimal("0.06"))
        assert spent_by(conversation.nodes) == Amount(60, Decimal("0.06"))
        with pytest.raises(BudgetError) as caught:
            await manager.ask(
                conversation, "Two?", priced(server), config=AIModelCallConfig(max_output_tokens=50, retries=NO_RETRIES)
            )
        assert caught.value.left == Decimal("0.04")


async def test_what_a_turn_took_counts_that_was_left_before_anything_was_said() -> None:
    async with (
        ProviderServer([Fault(answer=answer(60), stall=1)]) as server,
        ConversationManager() as manager,
    ):
        turn = manager.turn(await manager.create(), "One?", priced(server))
        async with turn:
            async for event in turn:
                if isinstance(event, UsageUpdate):
                    break
    assert (turn.node.status, turn.node.tries[0].error) == ("failed", None)
    assert spent_by([turn.node]) == Amount(60, Decimal("0.06"))


async def test_for_a_race_as_much_is_set_aside_as_all_of_it_may_take() -> None:
    config = AIModelCallConfig(max_output_tokens=400)
    async with ProviderServer() as server, ConversationManager(budget=Budget(tokens=1_000)) as manager:
        who = priced(server)
        for plan in (Race([who] * 3), Race([Failover([who, who]), who, who], hedge_after=1.0)):
            with pytest.raises(BudgetError) as caught:
                await manager.ask(await manager.create(), "One?", plan, config=config)
            assert caught.value.left == 1_000
            assert 1_200 < caught.value.asked < 1_300
        assert server.requests == []
        await manager.ask(await manager.create(), "One?", Race([who, who]), config=config)
        await manager.ask(await manager.create(), "One?", Failover([who] * 3), config=config)


async def test_for_a_plan_that_chooses_as_much_is_set_aside_as_the_chosen_may_take() -> None:
    config = AIModelCallConfig(max_output_tokens=400)
    async with ProviderServer() as server, ConversationManager(budget=Budget(tokens=1_000)) as manager:
        who = priced(server)
        all_of_them = {"one": who, "three": Race([who] * 3)}
        for one, three in (
            (Router(lambda _said, _config: "one", all_of_them), Router(lambda _said, _config: "three", all_of_them)),
            (Experiment({"one": (who, 1.0), "three": (all_of_them["three"], 0.0)}), Experiment({"a": Race([who] * 3)})),
        ):
            await manager.ask(await manager.create(), "One?", one, config=config)
            with pytest.raises(BudgetError):
                await manager.ask(await manager.create(), "One?", three, config=config)


async def test_for_those_asked_one_after_the_other_the_dearest_is_set_aside() -> None:
    config = AIModelCallConfig(max_output_tokens=100)
    async with ProviderServer() as server, ConversationManager(budget=Budget(money=Decimal("0.5"))) as manager:
        dear = priced(server)
        cheap = dear.model_copy(update={"pricing": Pricing(rates=Rates(input=Decimal(1), output=Decimal(1)))})
        await manager.ask(await manager.create(), "One?", Failover([cheap, dear]), config=config)
        await manager.ask(await manager.create(), "One?", Failover([cheap, cheap]), config=config)
        larger = AIModelCallConfig(max_output_tokens=500)
        with pytest.raises(BudgetError):
            await manager.ask(await manager.create(), "One?", Failover([cheap, dear]), config=larger)
        await manager.ask(await manager.create(), "One?", Failover([cheap, cheap]), config=larger)


async def test_who_cannot_be_asked_sets_nothing_aside_and_is_passed_over() -> None:
    """The first one cannot be told of the file; with a budget the plan still asks the second one."""
    sound = FilePart(media_type="audio/wav", data=b"RIFF    WAVEfmt ")
    async with ProviderServer() as server, ConversationManager(budget=Budget(tokens=10_000)) as manager:
        deaf, hears = priced(server), endpoint_at(server, Dialect.GEMINI)
        with pytest.raises(UnsupportedError):
            await manager.ask(await manager.create(), "One?", Failover([deaf]), files=[sound])
        node = await manager.ask(await manager.create(), "One?", Failover([deaf, hears]), files=[sound])
    assert node.status == "complete"
    assert "UnsupportedError" in (node.plan[0].reason or "")


async def test_limits_hold_across_turns() -> None:
    async with ProviderServer(delay=0.005) as server, ConversationManager(limits=Limits(concurrency=2)) as manager:
        under_way: list[int] = []
        now = 0

        async def ask() -> None:
            nonlocal now
            conversation = await manager.create()
            async with manager.turn(conversation, "One?", priced(server)) as turn:
                async for event in turn:
                    if isinstance(event, StreamStart):
                        now += 1
                        under_way.append(now)
                now -= 1

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask)
        assert len(server.requests) == 8
        assert max(under_way) <= 2


class Noting:
    """A limiter that lets everybody go, and is the leave that it gives: it notes what becomes of it."""

    def __init__(self) -> None:
        self.spent_by_calls: list[Usage] = []
        self.released = 0

    async def acquire(self, origin: Origin, *, tokens: int) -> Slot:
        """See ``Limiter``."""
        return self

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """See ``Slot``."""

    def refused(self, seconds: float | None) -> None:
        """See ``Slot``."""

    def spent(self, usage: Usage) -> None:
        """See ``Slot``."""
        self.spent_by_calls.append(usage)

    def release(self) -> None:
        """See ``Slot``."""
        self.released += 1


@pytest.mark.parametrize("config", [AIModelCallConfig(), STREAMED], ids=["plain", "streamed"])
@pytest.mark.parametrize("dialect", Dialect)
async def test_limits_learn_what_an_answer_took(dialect: Dialect, config: AIModelCallConfig) -> None:
    limiter = Noting()
    async with ProviderServer([answer(60)]) as server, ConversationManager(limits=limiter) as manager:
        node = await manager.ask(await manager.create(), "One?", endpoint_at(server, dialect), config=config)
    assert limiter.spent_by_calls == [node.usage]
    assert node.usage is not None
    assert (node.usage.input_tokens, node.usage.output_tokens) == (59, 1)
    assert limiter.released == 1
