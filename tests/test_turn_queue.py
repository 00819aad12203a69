"""Turns of one conversation follow each other, unless they are asked to run beside each other."""

import asyncio
import gc
from pathlib import Path

import anyio
import pytest

from dhenara_async import AIModelCallConfig, Budget, ConversationManager, Dialect, ToolPolicy
from dhenara_async.errors import StreamStateError
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.turns.queue import TurnQueue
from tests.loopback import PATIENCE, endpoint_at


async def test_turns_at_once_follow_each_other() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(manager.ask, conversation, f"Question {number}.", endpoint)
        assert len(conversation.path()) == 5
        assert [node.user_query for node in conversation.path()] == [f"Question {number}." for number in range(5)]
        assert [len(request.turns) for request in server.requests] == [1, 3, 5, 7, 9]


async def test_turns_beside_each_other_are_siblings() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        async with manager.turn(conversation, "One?", endpoint) as one:
            with pytest.raises(StreamStateError, match="beside=True"):
                await manager.ask(conversation, "Never.", endpoint)
            with anyio.fail_after(PATIENCE):
                two = await manager.turn(conversation, "Two?", endpoint, beside=True)
            await one.collect()
        assert conversation.siblings(two.id) == (two, one.node)


async def test_turns_of_a_conversation_that_is_opened_twice_are_siblings_and_none_waits() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        first = await manager.ask(conversation, "Zero?", endpoint)
        mine, other = await manager.open(conversation.id), await manager.open(conversation.id)
        with anyio.fail_after(PATIENCE):
            async with manager.turn(mine, "One?", endpoint) as one:
                two = await manager.ask(other, "Two?", endpoint)
                await one.collect()
        assert (mine.head, other.head) == (one.node, two)
        kept = await manager.open(conversation.id)
        assert kept.children(first.id) == (two, one.node)
        assert kept.head == one.node


async def test_a_turn_that_is_not_entered_or_does_not_wait_to_its_end_stops_nobody() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        never = manager.turn(conversation, "Never entered.", endpoint)
        with anyio.fail_after(PATIENCE):
            async with manager.turn(conversation, "One?", endpoint) as one, anyio.create_task_group() as group:
                group.start_soon(manager.ask, conversation, "Cancelled.", endpoint)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            await manager.ask(conversation, "Two?", endpoint)
            late = await never
        assert [node.user_query for node in conversation.nodes][-2:] == ["Two?", "Never entered."]
        assert one.node not in conversation.path() or one.node.status != "failed"
        assert late.parent_id == conversation.nodes[-2].id


class Place:
    """A turn, as the queue knows it."""


async def test_a_turn_that_leaves_the_queue_early_neither_frees_nor_keeps_the_place_of_another() -> None:
    queue, entered = TurnQueue(), list[Place]()
    one, two, three, four = Place(), Place(), Place(), Place()

    async def enter(place: Place) -> None:
        await queue.enter(place)
        entered.append(place)

    with anyio.fail_after(PATIENCE):
        tasks = [asyncio.create_task(enter(place)) for place in (one, two, three, four)]  # noqa: TID251 - natively cancelled
        await anyio.wait_all_tasks_blocked()
        queue.leave(two)  # which waits
        await anyio.wait_all_tasks_blocked()
        assert entered == [one]
        tasks[1].cancel()
        await anyio.wait_all_tasks_blocked()
        assert entered == [one]
        queue.leave(one)  # the place is given to the third
        tasks[2].cancel()  # natively, before it knows
        await tasks[3]
        assert entered == [one, four]
    assert tasks[2].cancelled()


async def test_an_abandoned_turn_gives_up_its_place() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)

        async def abandon() -> None:
            await manager.turn(conversation, "Abandoned.", endpoint).__aenter__()

        async with anyio.create_task_group() as group:
            group.start_soon(abandon)
        gc.collect()
        with anyio.fail_after(PATIENCE):
            node = await manager.ask(conversation, "Two?", endpoint)
        assert conversation.path() == (node,)


@pytest.mark.parametrize("run_tools", [None, ToolPolicy()])
async def test_a_turn_is_asked_once_whatever_it_is_entered_for(run_tools: ToolPolicy | None) -> None:
    budget = Budget(tokens=1_000)
    config = AIModelCallConfig(max_output_tokens=600)  # no room for two at once
    async with ProviderServer() as server, ConversationManager(budget=budget, config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        turn = manager.turn(conversation, "One?", endpoint, run_tools=run_tools)
        beside = manager.turn(conversation, "Beside?", endpoint, run_tools=run_tools, beside=True)
        given = manager.turn(conversation, "Given?", endpoint, run_tools=run_tools, turn_id="given")
        for entered in (turn, beside, given):
            async with entered:
                with pytest.raises(StreamStateError, match="asked once"):
                    await entered
                await entered.collect()
            async with manager.attach(entered.id) as reader:
                assert [event async for event in reader]
        for entered in (turn, beside):
            with pytest.raises(StreamStateError, match="asked once"):
                await entered
        async with given as again:
            events = [event async for event in again]
        async with manager.attach(given.id) as reader:
            assert [event async for event in reader] == events
        assert await given == given.node
        assert (await manager.ask(conversation, "Two?", endpoint)).parent_id == given.id
        assert len(server.requests) == 4


async def test_the_task_that_detached_a_turn_waits_for_it_with_the_next_one() -> None:
    slow = Fault(answer=Answer(text="One two three."), stall=3, seconds=0.05)
    async with ProviderServer([slow, Answer(text="Four.")]) as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        async with manager.turn(conversation, "One?", endpoint) as turn:
            await anext(turn)
            turn.detach()
        with anyio.fail_after(PATIENCE):
            node = await manager.turn(conversation, "Two?", endpoint)
        assert node.parent_id == turn.id
        assert turn.node.status == "complete"


@pytest.mark.parametrize("kind", ["one call", "a file to read", "a loop"])
async def test_a_turn_that_is_cancelled_in_the_queue_is_not_asked_and_leaves_a_failed_node(
    kind: str, tmp_path: Path
) -> None:
    paper = tmp_path / "paper.txt"
    paper.write_text("Foxes.")
    stalled = Fault(answer=Answer(text="One two three."), stall=3)
    async with (
        ProviderServer([stalled, Answer(text="Four.")]) as server,
        ConversationManager(conversation_budget=Budget(tokens=1_000_000)) as manager,
    ):
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        waiting = manager.turn(
            conversation,
            "Two?",
            endpoint,
            files=[paper] if kind == "a file to read" else [],
            run_tools=ToolPolicy() if kind == "a loop" else None,
            turn_id="waiting",
        )

        async def refused() -> None:
            with pytest.raises(StreamStateError, match="the turn was cancelled"):
                await waiting

        with anyio.fail_after(PATIENCE):
            async with (
                anyio.create_task_group() as group,
                manager.turn(conversation, "One?", endpoint) as running,
            ):
                await anext(running)
                group.start_soon(refused)
                await anyio.wait_all_tasks_blocked()
                await manager.cancel("waiting")
        with pytest.raises(StreamStateError, match="the turn was cancelled"):
            async with manager.attach("waiting") as reader:
                await anext(reader)
        assert (waiting.node.status, waiting.node.error) == ("failed", "the turn was cancelled")
        assert conversation.get("waiting") == (await manager.open(conversation.id)).get("waiting") == waiting.node
        assert len(server.requests) == 1
        assert (await manager.ask(conversation, "Three?", endpoint)).status == "complete"  # the queue goes on
