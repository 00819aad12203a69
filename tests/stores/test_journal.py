"""Turns that are kept while they are answered, read and ended by other managers on the same store, and sent twice."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing, nullcontext
from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL

from dhenara_async import (
    AIModelCallConfig,
    Budget,
    ConversationManager,
    ConversationNode,
    Journal,
    StreamEvent,
    StreamReset,
    TextDelta,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.errors import ConfigurationError, DetachedError, StreamStateError, UnknownTurnError
from dhenara_async.events import PartEnd, PartStart, StepStart, StreamEnd, StreamStart, ToolEnd, ToolStart
from dhenara_async.messages.messages import Origin
from dhenara_async.response import FinishReason
from dhenara_async.stores import MemoryStore, NewTurn, SQLStore, TurnBatch, TurnWriter
from dhenara_async.turns.turn import Turn
from tests.loopback import PATIENCE, Connection, chat_delta, chat_endpoint, chat_stream, head, serve
from tests.stores.test_crashes import address as address
from tests.stores.test_crashes import crashing

Stores = tuple[MemoryStore | SQLStore, MemoryStore | SQLStore]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Stores]:
    """Two open stores with the same contents, as two processes have them."""
    if request.param == "memory":
        yield (one := MemoryStore()), one
        return
    address: str = str(tmp_path / "chat.db")
    if request.param == "postgres":
        url: URL = request.getfixturevalue("postgres")
        address = url.render_as_string(hide_password=False)
    async with SQLStore(address) as first, SQLStore(address) as second:
        yield first, second


class Gate:
    """A provider that sends half of an answer, and the rest when it is opened."""

    def __init__(self, rest: str = "three.") -> None:
        self.rest = rest
        self.open = anyio.Event()
        self.asked = anyio.Event()
        self.requests = 0

    async def play(self, connection: Connection) -> None:
        """Answer one request."""
        if await connection.request() is None:
            return
        self.requests += 1
        self.asked.set()
        await connection.send(head(), chat_delta("One "), chat_delta("two "))
        await self.open.wait()
        await connection.send(*chat_stream(self.rest))


async def events_of(manager: ConversationManager, turn_id: str, cursor: str | None = None) -> list[StreamEvent]:
    with anyio.fail_after(PATIENCE):
        async with manager.attach(turn_id, cursor) as reader:
            return [event async for event in reader]


async def test_another_manager_reads_at_every_cursor_of_a_running_and_an_ended_turn(stores: Stores) -> None:
    gate = Gate()
    async with (
        serve(gate.play) as server,
        ConversationManager(store=stores[0]) as one,
        ConversationManager(store=stores[1]) as two,
    ):
        talk = await one.create()
        async with one.turn(talk, "Count.", chat_endpoint(server.url)) as turn:
            own = [turn.cursor]
            async for event in turn:
                own.append(turn.cursor)
                if event == TextDelta(0, "two "):
                    break
            turn.detach()
        running, found = list(own), dict[int, list[StreamEvent]]()
        async with anyio.create_task_group() as tasks:

            async def read(place: int, cursor: str | None) -> None:
                found[place] = await events_of(two, turn.id, cursor)

            for place, cursor in enumerate(running):
                tasks.start_soon(read, place, cursor)
            for place in range(100, 200):
                tasks.start_soon(read, place, None)
            async with two.attach(turn.id, running[-1]):  # it has everything that is kept
                gate.open.set()
        events = await events_of(one, turn.id)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "One two three."
        for place in range(len(running)):
            assert found[place] == events[place:]
        assert all(found[place] == events for place in range(100, 200))
        cursors: list[str] = []
        async with two.attach(turn.id) as reader:
            cursors.append(reader.cursor)
            async for _ in reader:
                cursors.append(reader.cursor)
            assert reader.node == (await one.open(talk.id)).head
        assert cursors[: len(running)] == running
        for place, cursor in enumerate(cursors):
            assert await events_of(two, turn.id, cursor) == events[place:]
        for wrong in (f"{cursors[0][:-1]}{len(events) + 1}", f"{turn.id}.0.1", "x"):
            reset, *rest = await events_of(two, turn.id, wrong)
            assert isinstance(reset, StreamReset)
            assert [reset.start, *rest] == events


async def read_until_cancelled(turn: Turn, detached: bool, reading: anyio.Event) -> None:
    """Read a turn until it is cancelled elsewhere, or leave it alone before that."""
    async with turn:
        with pytest.raises(StreamStateError, match="the turn was cancelled") if not detached else nullcontext():
            async for event in turn:
                if event == TextDelta(0, "two "):
                    reading.set()
                    if detached:
                        turn.detach()
                        return


async def test_a_reader_that_is_cancelled_while_it_waits_for_its_cursor_follows_no_longer(stores: Stores) -> None:
    gate = Gate()
    async with (
        serve(gate.play) as server,
        ConversationManager(store=stores[0]) as one,
        ConversationManager(store=stores[1]) as two,
        one.turn(await one.create(), "Count.", chat_endpoint(server.url)) as turn,
    ):
        await anext(turn)
        live = two._turns.live  # pyright: ignore[reportPrivateUsage] - nothing public tells of followers
        assert live is not None
        assert turn.cursor is not None
        followers = live._followers  # pyright: ignore[reportPrivateUsage] - as above
        ahead = turn.cursor.rpartition(".")[0] + ".99"
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(events_of, two, turn.id, ahead)
                while not any(follower.log.readers for follower in followers.values()):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        assert followers == {}
        gate.open.set()
        await turn.collect()


async def test_another_manager_cancels(stores: Stores) -> None:
    gate = Gate()
    async with (
        serve(gate.play) as server,
        ConversationManager(store=stores[0]) as one,
        ConversationManager(store=stores[1]) as two,
    ):
        talk = await one.create()
        for detached in (True, False):
            turn, reading = one.turn(talk, "Count.", chat_endpoint(server.url)), anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_until_cancelled, turn, detached, reading)
                await reading.wait()
                with anyio.fail_after(PATIENCE):
                    await two.cancel(turn.id)
            node = (await two.open(talk.id)).head
            assert node is not None
            assert (node.id, node.status, node.error) == (turn.id, "interrupted", "the turn was cancelled")
            assert node.answer.text() == "One two "
            assert turn.node == node
            await two.cancel(turn.id)  # changes nothing
        with pytest.raises(UnknownTurnError):
            await two.cancel("nothing")
        with pytest.raises(UnknownTurnError):
            await events_of(two, "nothing")


async def test_a_turn_that_is_sent_twice_is_asked_once(stores: Stores) -> None:
    gate = Gate()
    async with (
        serve(gate.play) as server,
        ConversationManager(store=stores[0], journal=Journal(keep=0.5)) as one,
        ConversationManager(store=stores[1], budget=Budget(tokens=1_000)) as two,
    ):
        endpoint = chat_endpoint(server.url)
        talk = await one.create()
        again = await two.open(talk.id)
        nodes = [None] * 4
        async with anyio.create_task_group() as tasks:

            async def ask(place: int, manager: ConversationManager, talk: object) -> None:
                nodes[place] = await manager.turn(talk, "Count.", endpoint, turn_id="mine")  # type: ignore[arg-type,call-overload]

            for place, manager, its in ((0, one, talk), (1, one, talk), (2, two, again), (3, two, again)):
                tasks.start_soon(ask, place, manager, its)
            with anyio.fail_after(PATIENCE):
                await gate.asked.wait()
            gate.open.set()
        (node,) = talk.nodes
        assert node.id == "mine"
        assert nodes == [node] * 4
        assert (await one.open(talk.id)).nodes == again.nodes == talk.nodes
        assert await one.ask(talk, "Count.", endpoint, turn_id="mine") == node
        await anyio.sleep(0.6)  # longer than its events are kept
        await stores[0].expire_turns()
        assert await two.turn(await two.open(talk.id), "Count.", endpoint, turn_id="mine") == node
        async with one.regenerate(talk, "mine", endpoint, turn_id="mine") as same:
            assert [event async for event in same]
            assert same.response.text() == "One two three."
        assert gate.requests == 1
        whole = AIModelCallConfig(max_output_tokens=900)  # of its budget, of which nothing is reserved any more
        assert (await two.ask(again, "More?", endpoint, config=whole)).status == "complete"
        with pytest.raises(ConfigurationError, match="another conversation"):
            await two.turn(await two.create(), "Count.", endpoint, turn_id="mine")
        for wrong in ("", " ", "a\0b", 7, "x" * 201):
            with pytest.raises(ConfigurationError, match="turn_id"):
                one.turn(talk, "Count.", endpoint, turn_id=wrong)  # type: ignore[arg-type]


async def test_a_turn_of_another_process_is_read_sent_again_and_cancelled(address: str) -> None:
    gate = Gate()
    async with (
        serve(gate.play) as server,
        crashing() as child,
        SQLStore(address) as store,
        ConversationManager(store=store) as manager,
    ):
        talk = await manager.create()
        await child.start(store=address, url=server.url, conversation=talk.id, turns=2)
        with anyio.fail_after(2 * PATIENCE):
            turn_id = (await child.until("begun"))[1]
            await gate.asked.wait()
            async with manager.attach(turn_id) as reader:
                seen = [await anext(reader)]
                async with manager.turn(talk, "Question 0", chat_endpoint(server.url), turn_id=turn_id) as same:
                    await anext(same)
                    first, gate.open, gate.asked = gate.open, anyio.Event(), anyio.Event()
                    first.set()
                    assert (await same.collect()).text() == "One two three."
                assert await child.until("done") == ["done", turn_id]
                seen += [event async for event in reader]
                assert same.node == reader.node == (await manager.open(talk.id)).head
            assert "".join(event.text for event in seen if isinstance(event, TextDelta)) == "One two three."
            turn_id = (await child.until("begun"))[1]
            await gate.asked.wait()
            async with manager.attach(turn_id) as reader:
                while await anext(reader) != TextDelta(0, "two "):
                    pass
                await manager.cancel(turn_id)
            assert await child.until("failed") == ["failed", turn_id, "StreamStateError"]
            await child.until("gone")
        node = (await manager.open(talk.id)).head
        assert node is not None
        assert (node.id, node.status, node.error) == (turn_id, "interrupted", "the turn was cancelled")
        assert node.answer.text() == "One two "
        assert gate.requests == 2


async def test_a_detached_turn_cannot_be_read_in_its_block_any_more(stores: Stores) -> None:
    gate = Gate()
    async with serve(gate.play) as server, ConversationManager(store=stores[0]) as manager:
        async with manager.turn(await manager.create(), "Count.", chat_endpoint(server.url), turn_id="t") as turn:
            await anext(turn)
            turn.detach()
        for read in (turn.__anext__, turn.batch, turn.collect):
            with pytest.raises(DetachedError, match="attach"):
                await read()
        with pytest.raises(DetachedError, match="attach"):
            assert turn.node
        gate.open.set()
        await events_of(manager, turn.id)
        assert turn.node.status == "complete"


@pytest.mark.parametrize("way", ["pooled", "asyncpg"])
async def test_other_ways_to_postgres_read_a_running_turn(postgres: URL, way: str) -> None:
    if way == "asyncpg":
        pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    address = postgres.render_as_string(hide_password=False)
    gate, driver = Gate(), "+asyncpg:" if way == "asyncpg" else "+psycopg:"
    async with (
        serve(gate.play) as server,
        SQLStore(address) as first,
        SQLStore(address.replace("+psycopg:", driver), pooled=way == "pooled") as second,
        ConversationManager(store=first) as one,
        ConversationManager(store=second) as two,
    ):
        async with one.turn(await one.create(), "Count.", chat_endpoint(server.url)) as turn:
            await anext(turn)
            turn.detach()
        with anyio.fail_after(PATIENCE):
            async with two.attach(turn.id) as reader:
                seen = [await anext(reader)]
                gate.open.set()
                seen += [event async for event in reader]
        assert seen == await events_of(one, turn.id)


async def test_a_tool_loop_that_is_cut_keeps_the_model_call_that_was_running(stores: Stores) -> None:
    """The first call of the loop has left its node; the second one was asked with the result of a tool."""
    store, gone = stores[0], TurnWriter(id="gone", pid=1, host="another machine", started="1")
    origin = Origin(provider="groq", dialect="openai_chat", endpoint="a.test", account="a", model="m")
    called = ToolCallPart(call_id="c", name="add", arguments="{}")
    first = ConversationNode(
        user_query="Add.", loop_id="loop", id="loop", knobs={"seed": 7}, instructions=("Be brief.",), origin=origin
    )
    result = ToolResultPart(call_id="c", content=(TextPart(text="3"),))
    events: list[StreamEvent] = [
        *(StepStart("loop", origin), StreamStart("m", "groq"), PartStart(0, "tool_call", 0, "c", "add")),
        *(PartEnd(0, called), StreamEnd(FinishReason.TOOL_CALLS, None, ()), ToolStart(called), ToolEnd(result)),
        *(StepStart("second", origin), StreamStart("m", "groq"), PartStart(0, "text"), TextDelta(0, "It is ")),
    ]
    async with ConversationManager(store=store) as manager:
        talk = await manager.create()
        begun = await store.begin_turn(NewTurn(conversation_id=talk.id, draft=first, target=origin), gone, lease=60)
        assert begun is not None
        await store.flush_turns(gone, [TurnBatch(begun.number, 0, events)], lease=60)
        await store.append(talk.id, first)
        assert (await manager.open(talk.id)).head == first  # its lease holds
        await store.flush_turns(gone, [], lease=-1)
        node = (await manager.open(talk.id)).head
        assert node is not None
        assert (node.id, node.parent_id, node.loop_id, node.status) == ("second", "loop", "loop", "interrupted")
        assert (node.user_query, node.tool_results, node.instructions) == ("", (result,), ("Be brief.",))
        assert node.answer.text() == "It is "
        assert node.usage.source == "unknown"
        assert node.knobs == {"seed": 7}


async def test_a_reader_elsewhere_gets_an_event_of_two_megabytes(stores: Stores) -> None:
    """PostgreSQL's notifications take 8 000 bytes: ours name the turn, and the rows have the events."""
    gate = Gate("x" * 2_000_000)
    async with (
        serve(gate.play) as server,
        ConversationManager(store=stores[0]) as one,
        ConversationManager(store=stores[1]) as two,
    ):
        async with one.turn(await one.create(), "Count.", chat_endpoint(server.url)) as turn:
            await anext(turn)
            turn.detach()
        with anyio.fail_after(PATIENCE):
            async with two.attach(turn.id) as reader:
                await anext(reader)
                gate.open.set()
                texts = [event.text async for event in reader if isinstance(event, TextDelta)]
        assert "".join(texts) == "One two " + "x" * 2_000_000


async def test_a_manager_does_not_end_its_own_turn_whose_lease_ran_out(tmp_path: Path) -> None:
    """A database that was away for longer than the lease is opened again before the next flush."""
    gate, path = Gate(), tmp_path / "chat.db"
    async with serve(gate.play) as server, ConversationManager(store=path) as manager:
        conversation = await manager.create()
        async with manager.turn(conversation, "Count.", chat_endpoint(server.url)) as turn:
            await anext(turn)
            with closing(sqlite3.connect(path, isolation_level=None)) as file:
                file.execute("UPDATE turns SET lease_until = 0")
            await manager.open(conversation.id)
            gate.open.set()
            await turn.collect()
        assert turn.node.status == "complete"
        assert (await manager.open(conversation.id)).path() == (turn.node,)
