"""What a manager's turns may spend, and how many may be under way."""

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
    Limits,
    Pricing,
    Rates,
    StreamStart,
    Usage,
)
from dhenara_async.errors import BudgetError, OverloadedError
from dhenara_async.testing import Answer, ProviderServer, ScriptedError
from tests.loopback import endpoint_at

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
        ConversationManager(budget=Budget(tokens=450), conversation_budget=Budget(tokens=450)) as manager,
    ):
        conversation, config = await manager.create(), AIModelCallConfig(max_output_tokens=400)
        with pytest.raises(OverloadedError):
            await manager.ask(conversation, "One?", priced(server), config=config)
        await manager.ask(conversation, "One?", priced(server), config=config)


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
