"""Turns that end before their stream is open: in the queue, while their files or the tree are read, while the turns
before are summarised."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelEndpoint,
    Budget,
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversationPolicy,
    Dialect,
    ToolPolicy,
)
from dhenara_async.errors import BudgetError, StreamStateError
from dhenara_async.messages.attachments import Attached
from dhenara_async.stores import SQLStore
from dhenara_async.testing import ProviderServer
from dhenara_async.turns.turn import Turn
from tests.loopback import PATIENCE, endpoint_at

CONFIG = AIModelCallConfig(max_output_tokens=1_200)
BUDGET = Budget(tokens=2_000)
"""Room for one answer and for the turns that were answered, not for two answers at once."""


class Held:
    """Holds a turn at one place before its stream is open."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.goes_on = anyio.Event()

    async def wait(self) -> None:
        """Tell that the turn is here, and hold it."""
        self.reached.set()
        await self.goes_on.wait()

    async def summarise(self, nodes: Sequence[ConversationNode]) -> str:
        """Summarise the turns before."""
        await self.wait()
        return f"{len(nodes)} turns"

    def before(self, function: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        """Return ``function`` behind this place."""

        async def held(*arguments: Any, **named: Any) -> object:
            await self.wait()
            return await function(*arguments, **named)

        return held


class Setting:
    """A manager, a conversation, and a turn of it that is held at a place before its stream is open."""

    def __init__(self, place: str, runs_tools: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = Held()
        self._place = place
        self._policy = ToolPolicy() if runs_tools else None
        self._paper = tmp_path / "paper.txt"
        self._paper.write_text("Foxes.")
        self._patch = monkeypatch
        self.manager = ConversationManager(
            store=tmp_path / "chat.db",
            config=AIModelCallConfig(max_output_tokens=1_200),
            budget=BUDGET,
            window=ConversationPolicy(keep_turns=1, summarise=self.held.summarise) if place == "summary" else None,
        )

    async def turn(self, endpoint: AIModelEndpoint) -> tuple[Conversation, Turn]:
        """Return the conversation and the turn."""
        manager, patch = self.manager, self._patch.setattr
        conversation = await manager.create()
        first = await manager.ask(conversation, "Zero?", endpoint)
        if self._place == "tree":
            await manager.edit(conversation, first.id, "Zero in other words?", endpoint)
            conversation = await manager.open(conversation.id, path_only=True)
            patch(SQLStore, "load_path", self.held.before(SQLStore.load_path))
            turn = manager.edit(conversation, first.id, "Two?", endpoint, run_tools=self._policy, turn_id="held")
            return conversation, turn
        files = [self._paper] if self._place == "file" else []
        if self._place == "summary":
            self.held.goes_on.set()
            await manager.ask(conversation, "One?", endpoint)
            self.held.reached, self.held.goes_on = anyio.Event(), anyio.Event()
        patch(Attached, "read_in_thread", self.held.before(Attached.read_in_thread))
        turn = manager.turn(conversation, "Two?", endpoint, files=files, run_tools=self._policy, turn_id="held")
        return conversation, turn

    @asynccontextmanager
    async def turn_before(self, conversation: Conversation, endpoint: AIModelEndpoint) -> AsyncGenerator[None]:
        """Let another turn of the conversation run, if the queue is the place."""
        if self._place != "queue":
            yield
            return
        async with self.manager.turn(conversation, "Before?", endpoint) as turn:
            yield
            await turn.collect()

    async def reached(self) -> None:
        """Wait until the turn is at the place."""
        if self._place == "queue":
            await anyio.wait_all_tasks_blocked()
        else:
            await self.held.reached.wait()


async def is_told(manager: ConversationManager, error: str) -> None:
    """Read the turn like a client that attaches to it."""
    with pytest.raises(StreamStateError, match=error):
        async with manager.attach("held") as reader:
            await anext(reader)


@pytest.mark.parametrize("runs_tools", [False, True], ids=["one call", "a loop"])
@pytest.mark.parametrize("place", ["queue", "file", "tree", "summary"])
async def test_a_turn_that_is_cancelled_ends_at_once_wherever_it_waits(
    place: str, runs_tools: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(place, runs_tools, tmp_path, monkeypatch)
    async with ProviderServer() as server, setting.manager as manager:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        conversation, turn = await setting.turn(endpoint)

        async def refused() -> None:
            with pytest.raises(StreamStateError, match="the turn was cancelled"):
                await turn

        with anyio.fail_after(PATIENCE):
            async with setting.turn_before(conversation, endpoint):
                head, asked = conversation.head, len(server.requests)
                async with anyio.create_task_group() as group:  # its end waits for everybody who is told
                    group.start_soon(refused)
                    await setting.reached()
                    group.start_soon(is_told, manager, "the turn was cancelled")
                    await anyio.wait_all_tasks_blocked()
                    await manager.cancel("held")
                    assert turn.over == (place != "tree")
                await is_told(manager, "the turn was cancelled")
                assert (conversation.head, len(server.requests)) == (head, asked)
                kept = (await manager.open(conversation.id)).get("held") if place != "tree" else None
                assert conversation.get("held") == kept
                if place == "tree":  # its question is not known yet
                    assert not turn.over
                else:
                    assert kept == turn.node
                    assert (turn.node.status, turn.node.error) == ("failed", "the turn was cancelled")
            setting.held.goes_on.set()
            node = await manager.ask(conversation, "Three?", endpoint)  # the queue goes on; the budget has room
        assert node.status == "complete"


@pytest.mark.parametrize("runs_tools", [False, True], ids=["one call", "a loop"])
@pytest.mark.parametrize("place", ["queue", "file", "tree", "summary"])
async def test_a_turn_whose_task_is_cancelled_before_its_stream_is_open_can_be_sent_again(
    place: str, runs_tools: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(place, runs_tools, tmp_path, monkeypatch)
    async with ProviderServer() as server, setting.manager as manager:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        conversation, turn = await setting.turn(endpoint)

        async def answered() -> None:
            await turn

        with anyio.fail_after(PATIENCE):
            async with setting.turn_before(conversation, endpoint):
                asked, running = len(server.requests), await manager.running(conversation)
                task = asyncio.create_task(answered())  # noqa: TID251 - it is cancelled natively
                await setting.reached()
                async with anyio.create_task_group() as group:
                    group.start_soon(is_told, manager, "before its answer was complete")
                    await anyio.wait_all_tasks_blocked()
                    task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (len(server.requests), await manager.running(conversation)) == (asked, running)
                assert conversation.get("held") is None
            setting.held.goes_on.set()
            node = await manager.turn(conversation, "Three?", endpoint, turn_id="held")
        assert (node.id, node.user_query, node.status) == ("held", "Three?", "complete")


@pytest.mark.parametrize("turn_id", [None, "held"])
async def test_a_turn_that_is_cancelled_before_its_block_is_told_at_once_and_never_asked(turn_id: str | None) -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        cancelled = manager.turn(conversation, "Never.", endpoint, turn_id=turn_id)
        await cancelled.cancel()
        assert (cancelled.node.status, cancelled.node.error) == ("failed", "the turn was cancelled")
        async with manager.turn(conversation, "One?", endpoint) as running:  # behind which it does not wait
            with pytest.raises(StreamStateError, match="the turn was cancelled"):
                await cancelled
            await running.collect()
        assert conversation.nodes == (cancelled.node, running.node)
        assert len(server.requests) == 1


@pytest.mark.parametrize("runs_tools", [False, True], ids=["one call", "a loop"])
async def test_a_turn_that_the_budget_refuses_behind_another_one_tells_its_readers_and_can_be_sent_again(
    runs_tools: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting("queue", runs_tools, tmp_path, monkeypatch)
    async with ProviderServer() as server, setting.manager as manager:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        conversation, turn = await setting.turn(endpoint)
        other = await manager.create()

        async def refused() -> None:
            with pytest.raises(BudgetError):
                await turn

        async def is_told_of_it() -> None:
            with pytest.raises(BudgetError):
                async with manager.attach("held") as reader:
                    await anext(reader)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group, manager.turn(other, "Elsewhere?", endpoint):
                small = AIModelCallConfig(max_output_tokens=1)
                async with manager.turn(conversation, "Before?", endpoint, config=small) as before:
                    group.start_soon(refused)
                    await anyio.wait_all_tasks_blocked()
                    group.start_soon(is_told_of_it)
                    await anyio.wait_all_tasks_blocked()
                    await before.collect()
            assert conversation.get("held") is None
            node = await manager.turn(conversation, "Three?", endpoint, turn_id="held")
        assert (node.id, node.status, len(conversation.path())) == ("held", "complete", 3)
