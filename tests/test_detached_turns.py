"""Turns that go on without a reader, readers that attach to them at any cursor, and turns cancelled from elsewhere."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from dhenara_async import ConversationManager, ConversationNode, Dialect, Journal, StreamEvent, StreamReset
from dhenara_async.errors import StreamStateError, UnknownTurnError, UnsupportedError
from dhenara_async.events import Heartbeat, TextDelta
from dhenara_async.stores import SQLStore, StoredTurn, TurnBatch, TurnWriter
from dhenara_async.testing import Answer, Fault, ProviderServer, check_grammar
from dhenara_async.turns import live
from dhenara_async.turns.live import LiveTurns
from dhenara_async.turns.log import TurnLog
from tests.loopback import chat_endpoint, endpoint_at, serve
from tests.stores.test_journal import Gate

TEXT = "The robot paints a red fox."


async def read(manager: ConversationManager, turn_id: str, cursor: str | None = None) -> list[StreamEvent]:
    async with manager.attach(turn_id, cursor) as reader:
        return [event async for event in reader]


async def test_a_detached_turn_finishes_and_is_read_by_others() -> None:
    gate = Gate()
    async with serve(gate.play) as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), chat_endpoint(server.url)
        async with manager.turn(conversation, "What?", endpoint) as turn:
            seen = [await anext(turn)]
            turn.detach()
        copies: list[list[StreamEvent]] = []

        async def copy() -> None:
            copies.append(await read(manager, turn.id))

        async with anyio.create_task_group() as readers:
            for _ in range(20):
                readers.start_soon(copy)
            await anyio.wait_all_tasks_blocked()
            assert not turn.over
            gate.open.set()
        assert copies[0][:1] == seen
        assert copies == [copies[0]] * 20
        async with manager.attach(turn.id) as reader:  # the end is told after the last event
            assert [event async for event in reader] == copies[0]
            assert reader.node.id == turn.id
            assert reader.node.response is not None
            assert reader.node.response.text() == "One two three."
        assert conversation.head == (await manager.open(conversation.id)).head == turn.node


async def test_a_reader_tells_of_its_turn_after_its_block() -> None:
    stalled = Fault(answer=Answer(text=TEXT), stall=4)
    async with ProviderServer([stalled]) as server, ConversationManager() as manager:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        async with manager.turn(await manager.create(), "What?", endpoint) as turn:
            await anext(turn)
            async with manager.attach(turn.id) as reader:
                await anext(reader)
            with pytest.raises(StreamStateError, match="not over"):
                _ = reader.node
            await manager.cancel(turn.id)
        async with manager.attach(turn.id, reader.cursor) as rest:
            with pytest.raises(StreamStateError):
                while await rest.batch():
                    pass
        assert rest.node == turn.node
        assert rest.turn_id == reader.turn_id == turn.id
        with pytest.raises(StreamStateError, match="attach again"):
            await anext(rest)


async def test_every_cursor_goes_on_where_it_was_and_others_reset() -> None:
    async with ProviderServer([Answer(text=TEXT)]) as server, ConversationManager() as manager:
        turn = manager.turn(await manager.create(), "What?", endpoint_at(server, Dialect.ANTHROPIC_MESSAGES))
        async with turn:
            own: list[str | None] = [turn.cursor]
            events: list[StreamEvent] = []
            async for event in turn:
                events.append(event)
                own.append(turn.cursor)
        cursors: list[str] = []
        async with manager.attach(turn.id) as reader:
            cursors.append(reader.cursor)
            async for _ in reader:
                cursors.append(reader.cursor)
        assert cursors == own
        for place, cursor in enumerate(cursors):
            assert await read(manager, turn.id, cursor) == events[place:]
            async with manager.attach(turn.id, cursor) as reader:
                assert await reader.batch() == events[place:]
                assert (reader.turn_id, reader.cursor) == (turn.id, cursors[-1])
                assert await reader.batch() == []
        epoch = cursors[0].rpartition(".")[0]
        for wrong in (f"{epoch}.{len(events) + 1}", f"{turn.id}.0.1", "", f"{epoch}.-1", f"{epoch}.²"):
            reset, *rest = await read(manager, turn.id, wrong)
            assert isinstance(reset, StreamReset)
            assert [reset.start, *rest] == events


async def test_a_cancelled_turn_keeps_what_came() -> None:
    stalled = Fault(answer=Answer(text=TEXT), stall=4)
    async with ProviderServer([stalled]) as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        async with manager.turn(conversation, "What?", endpoint) as turn:
            async for event in turn:
                if event.type == "text_delta":
                    break
            turn.detach()
        async with manager.attach(turn.id) as reader:
            await manager.cancel(turn.id)
            with pytest.raises(StreamStateError, match="cancelled"):
                async for _ in reader:
                    pass
        assert (turn.node.status, turn.node.error) == ("interrupted", "the turn was cancelled")
        assert conversation.head == turn.node
        await manager.cancel(turn.id)  # changes nothing


async def test_a_turn_is_cancelled_while_its_own_block_reads_it() -> None:
    stalled = Fault(answer=Answer(text=TEXT), stall=4)
    async with ProviderServer([stalled, Answer(text="Again.")]) as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        turn, reading = manager.turn(conversation, "What?", endpoint), asyncio.Event()

        async def read_on() -> None:
            async with turn:
                async for event in turn:
                    if event.type == "text_delta":
                        reading.set()

        reader = asyncio.create_task(read_on())  # noqa: TID251 - it is cancelled from beside
        await reading.wait()
        await manager.cancel(turn.id)
        assert (turn.node.status, turn.node.error) == ("interrupted", "the turn was cancelled")
        with pytest.raises(StreamStateError, match="the turn was cancelled"):
            await reader
        node = await manager.turn(conversation, "And now?", endpoint)  # the queue goes on
        assert node.parent_id == turn.id


async def test_owners_deletion_and_time_end_attaching() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        mine, endpoint = manager.scoped("a"), endpoint_at(server, Dialect.GEMINI)
        conversation = await mine.create()
        node = await mine.turn(conversation, "What?", endpoint)
        assert await read(mine, node.id)
        for stranger in (manager, manager.scoped("b")):
            with pytest.raises(UnknownTurnError):
                await read(stranger, node.id)
            with pytest.raises(UnknownTurnError):
                await stranger.cancel(node.id)
        await mine.delete(conversation)
        with pytest.raises(UnknownTurnError):
            await read(mine, node.id)


async def test_after_its_time_a_turn_is_replayed_from_its_node() -> None:
    async with ProviderServer() as server, ConversationManager(journal=Journal(keep=0)) as manager:
        turn = manager.turn(await manager.create(), "What?", endpoint_at(server, Dialect.GEMINI))
        cursor = None
        async with turn:
            async for _ in turn:
                cursor = turn.cursor
        answer = turn.node.answer.text()
        events = await read(manager, turn.id)
        check_grammar(events)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer
        reset, *rest = await read(manager, turn.id, cursor)
        assert isinstance(reset, StreamReset)
        assert [reset.start, *rest] == events
        async with manager.attach(turn.id) as reader:
            first = await anext(reader)
            cursor = reader.cursor
        assert [first, *await read(manager, turn.id, cursor)] == events


async def test_without_a_journal_nothing_is_kept() -> None:
    async with ProviderServer() as server, ConversationManager(journal=None) as manager:
        async with manager.turn(await manager.create(), "What?", endpoint_at(server, Dialect.GEMINI)) as turn:
            with pytest.raises(StreamStateError, match="journal"):
                turn.detach()
        with pytest.raises(UnsupportedError, match="journal"):
            await manager.cancel(turn.id)


async def test_a_manager_waits_for_its_detached_turns() -> None:
    slow = Fault(answer=Answer(text=TEXT), stall=4, seconds=0.1)
    async with ProviderServer([slow]) as server:
        async with ConversationManager() as manager:
            turn = manager.turn(await manager.create(), "What?", endpoint_at(server, Dialect.OPENAI_CHAT))
            async with turn:
                await anext(turn)
                turn.detach()
        assert turn.node.status == "complete"


def test_ended_turns_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MOST_ENDED_EVENTS", 10)
    turns, logs = LiveTurns(Journal()), [TurnLog(str(number), "c") for number in range(4)]
    for log in logs:
        turns.begin(None, log)
        for _ in range(3):
            log.add(Heartbeat())
        if log is not logs[1]:  # goes on, and is kept however old it is
            turns.end(None, log, None, None)
    assert turns.find(None, "0") is None
    assert [turns.find(None, number) for number in "123"] == logs[1:]


def test_a_turn_that_began_again_is_not_dropped_with_its_old_log() -> None:
    turns, first, again = LiveTurns(Journal()), TurnLog("1", "c"), TurnLog("1", "c")
    turns.begin("o", first)
    turns.end("o", first, None, None)
    turns.begin("o", again)
    turns.forget("o", "c")
    assert turns.find("o", "1") is again


class StoreThatEndsLate(SQLStore):
    """Keeps the end of a turn some time after it was asked to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()

    async def end_turn(
        self,
        turn: StoredTurn,
        writer: TurnWriter,
        batches: Sequence[TurnBatch],
        node: ConversationNode,
        *,
        keep: float,
        aside: bool = False,
    ) -> bool:
        """See ``StoreWithJournal``."""
        self.asked.set()
        await asyncio.sleep(0.1)
        return await super().end_turn(turn, writer, batches, node, keep=keep, aside=aside)


async def test_a_manager_is_left_when_a_turn_is_kept_whose_task_was_cancelled_meanwhile(tmp_path: Path) -> None:
    async with ProviderServer([Answer(text=TEXT)]) as server, StoreThatEndsLate(tmp_path / "chat.db") as store:
        async with ConversationManager(store=store) as manager:
            conversation = await manager.create()
            asking = manager.ask(conversation, "What?", endpoint_at(server, Dialect.OPENAI_CHAT))
            asked = asyncio.create_task(asking)  # noqa: TID251 - it is cancelled from beside
            await store.asked.wait()
            asked.cancel()
            await asyncio.wait([asked])
            assert asked.cancelled()
        assert (await store.load(conversation.id)).last_answer().text() == TEXT
