"""The end of a turn keeps its node in any store: under cancellation, and when the answer of the store is lost."""

import asyncio
import logging

import pytest

from dhenara_async import AIModelCallConfig, ConversationManager, ConversationNode
from dhenara_async.errors import DeadlineError, StoreError
from dhenara_async.stores import MemoryStore
from dhenara_async.turns import keeping

ECHO = AIModelCallConfig(test_mode=True)
WHO = "anthropic:claude-sonnet-5-5"


class Slow(MemoryStore):
    """A store that waits in the middle of an append."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.begun, self.open, self.failure = asyncio.Event(), asyncio.Event(), failure

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        self.begun.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        await super().append(conversation_id, node)


async def test_a_task_that_is_cancelled_while_its_node_is_kept_loses_no_node() -> None:
    store = Slow()
    async with ConversationManager(store=store, journal=None) as manager:
        talk = await manager.create()
        task = asyncio.get_running_loop().create_task(manager.ask(talk, "Hello?", WHO, config=ECHO))
        await store.begun.wait()
        for _ in range(3):  # as asyncio.timeout does, and others after it
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        store.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        (node,) = (await store.load(talk.id)).nodes
        assert (node, node.status) == (talk.head, "complete")


async def test_a_store_that_fails_under_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    store = Slow(StoreError("the disk is full"))
    async with ConversationManager(store=store, journal=None) as manager:
        talk = await manager.create()
        task = asyncio.get_running_loop().create_task(manager.ask(talk, "Hello?", WHO, config=ECHO))
        await store.begun.wait()
        task.cancel()
        store.open.set()
        with caplog.at_level(logging.ERROR, "dhenara_async"), pytest.raises(asyncio.CancelledError):
            await task
        assert talk.head is not None
        assert talk.head.id in caplog.text
        assert "the disk is full" in caplog.text


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, cancelled: bool) -> None:
    monkeypatch.setattr(keeping, "STORE_SECONDS", 0.05)
    store = Slow()
    async with ConversationManager(store=store, journal=None) as manager:
        talk = await manager.create()
        task = asyncio.get_running_loop().create_task(manager.ask(talk, "Hello?", WHO, config=ECHO))
        await store.begun.wait()
        if cancelled:
            task.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else DeadlineError):
            await task
        assert talk.head is not None
        store.open.set()
        await asyncio.sleep(0)
        assert await store.load(talk.id) is not None
        assert (await store.load(talk.id)).nodes == ()


class AnswersNever(MemoryStore):
    """A store whose connection dies after its first commits, before their answers have come."""

    def __init__(self) -> None:
        super().__init__()
        self.deaths = 1

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        await super().append(conversation_id, node)
        if self.deaths:
            self.deaths -= 1
            raise StoreError("the connection is closed")


async def test_a_node_whose_commit_was_not_answered_is_asked_for_again() -> None:
    store = AnswersNever()
    async with ConversationManager(store=store, journal=None) as manager:
        talk = await manager.create()
        node = await manager.ask(talk, "Hello?", WHO, config=ECHO)
        assert (await store.load(talk.id)).nodes == (node,)
        store.deaths = 2
        with pytest.raises(StoreError, match="connection is closed"):
            await manager.ask(talk, "Again?", WHO, config=ECHO)
