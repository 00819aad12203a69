"""Stores that fail, processes that stand still, and wake-ups that are lost while turns are answered."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import URL, NullPool, create_engine, event, text
from sqlalchemy.exc import OperationalError

from dhenara_async import (
    AIModelCallConfig,
    ConversationManager,
    ConversationNode,
    Dialect,
    Journal,
    StreamEvent,
    TextDelta,
)
from dhenara_async.errors import StoreError
from dhenara_async.stores import SQLStore, StoredTurn, TurnBatch, TurnState, TurnWriter
from dhenara_async.stores.sql.changes import Changes
from dhenara_async.testing import Answer, ProviderServer
from tests.loopback import PATIENCE, Connection, chat_endpoint, chat_stream, endpoint_at, head, serve
from tests.stores.dying import DyingConnections
from tests.stores.test_crashes import address as address
from tests.stores.test_crashes import crashing
from tests.stores.test_journal import Gate, events_of


def _words(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def _answered_while(
    store: SQLStore,
    breaks: Callable[[], object],
    *,
    mends: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
    rest: str = "three.",
) -> str:
    """Break a store while a turn is answered; return the error of the turn's end, empty if there is none."""
    gate = Gate(rest)
    async with (
        serve(gate.play) as server,
        ConversationManager(store=store, journal=Journal(max_delay=0.01, max_events=1)) as manager,
    ):
        talk, seen = await manager.create(), list[StreamEvent]()
        turn, error = manager.turn(talk, "Count.", chat_endpoint(server.url)), ""
        try:
            async with turn:
                async for event in turn:
                    seen.append(event)
                    if event == TextDelta(0, "two "):
                        breaks()
                        await anyio.sleep(0.05)  # a flush or two fail
                        mends()
                        gate.open.set()
        except StoreError as exc:
            error = str(exc)
        finally:
            after()
        assert _words(seen) == f"One two {rest}"
        assert turn.node.status == "complete"
        assert (turn.id in error) is bool(error)
        if not error:
            assert (await manager.open(talk.id)).head == turn.node
        return error


async def test_a_full_disk_stops_no_stream_and_the_end_names_the_turn(tmp_path: Path) -> None:
    async with SQLStore(tmp_path / "chat.db") as store:
        full = False

        def begin(connection: object) -> None:
            if full:  # SQLite has this limit for tests of full disks
                connection.exec_driver_sql("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

        engine = await store._database._opened()  # pyright: ignore[reportPrivateUsage] - the limit is a connection's
        event.listen(engine, "begin", begin)

        def fill() -> None:
            nonlocal full
            full = True

        assert "full" in await _answered_while(store, fill, rest="x" * 100_000)


async def test_a_file_that_becomes_read_only_stops_no_stream(tmp_path: Path) -> None:
    async with SQLStore(tmp_path / "chat.db") as store:
        engine = await store._database._opened()  # pyright: ignore[reportPrivateUsage] - as above
        read_only = False

        def begin(connection: object) -> None:
            if read_only:
                connection.exec_driver_sql("PRAGMA query_only = ON")  # type: ignore[attr-defined]

        event.listen(engine, "begin", begin)

        def switch() -> None:
            nonlocal read_only
            read_only = True

        assert "it is read-only: let this process write the file and its folder" in await _answered_while(store, switch)


class Failing(SQLStore):
    """A store whose flushes fail for a while: before anything is kept, or when the answer of the commit is lost."""

    fails = False
    is_kept = False
    failures = 0

    async def flush_turns(
        self, writer: TurnWriter, batches: Sequence[TurnBatch], *, lease: float
    ) -> Mapping[int, TurnState]:
        if self.fails:
            self.failures += 1
            if self.is_kept:
                await super().flush_turns(writer, batches, lease=lease)
            raise StoreError("the disk is away for a moment")
        return await super().flush_turns(writer, batches, lease=lease)


@pytest.mark.parametrize("is_kept", [False, True])
async def test_flushes_that_fail_for_a_while_lose_nothing(address: str, is_kept: bool) -> None:
    owner = uuid4().hex
    async with Failing(address, owner=owner) as store, SQLStore(address, owner=owner) as other:
        store.is_kept = is_kept

        def switch() -> None:
            store.fails = not store.fails

        assert await _answered_while(store, switch, mends=switch) == ""
        assert store.failures
        (page,) = [await other.read_turn(node.id) async for node in _nodes(other)]
        assert page is not None
        assert page.turn.ended
        assert _words(list(page.events)) == "One two three."


class Down(SQLStore):
    """A store that keeps nothing while ``is_down``."""

    is_down = False

    def _demand(self) -> None:
        if self.is_down:
            raise StoreError("the store is down")

    async def append(self, *given: Any, **named: Any) -> None:
        self._demand()
        await super().append(*given, **named)

    async def begin_turn(self, *given: Any, **named: Any) -> StoredTurn | None:
        self._demand()
        return await super().begin_turn(*given, **named)

    async def end_turn(self, *given: Any, **named: Any) -> bool:
        self._demand()
        return await super().end_turn(*given, **named)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("journal", [Journal(), None])
async def test_a_turn_that_its_store_missed_is_kept_with_the_next(
    address: str, journal: Journal | None, begun: bool
) -> None:
    answers = [Answer(text=text) for text in ("One.", "Two.", "Three.")]
    async with (
        Down(address) as store,
        ProviderServer(answers) as server,
        ConversationManager(store=store, journal=journal) as manager,
    ):
        talk, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        await manager.ask(talk, "1", endpoint)
        store.is_down = not begun
        turn = manager.turn(talk, "2", endpoint)
        with pytest.raises(StoreError):
            async with turn:
                async for _ in turn:
                    store.is_down = True
        assert turn.node.status == "complete"
        store.is_down = False
        with_next = await manager.ask(talk, "3", endpoint)
        assert with_next.parent_id == turn.id
        again = await manager.open(talk.id)
        assert [node.answer.text() for node in again.path()] == ["One.", "Two.", "Three."]
        assert again.export_json() == talk.export_json()
        await manager.checkout(talk, turn.id)
        assert (await manager.open(talk.id)).head == turn.node


class AnswersLate(SQLStore):
    """A store that ends a turn, or lets another process end it, before it says that it has failed."""

    failures = 0
    other: ConversationNode | None = None

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
        kept = node if self.other is None else self.other.changed(id=node.id)
        ended = await super().end_turn(turn, writer, batches, kept, keep=keep, aside=aside)
        if ended:
            self.failures += 1
            raise StoreError("the connection is closed")
        return ended


async def test_an_end_whose_commit_was_not_answered_is_kept(address: str) -> None:
    owner = uuid4().hex
    async with AnswersLate(address, owner=owner) as store:
        assert await _answered_while(store, lambda: None, mends=lambda: None) == ""
        assert store.failures == 1


async def test_an_end_that_failed_and_was_taken_over_is_not_told_as_kept(address: str) -> None:
    owner = uuid4().hex
    async with AnswersLate(address, owner=owner) as store, ConversationManager(store=store) as manager:
        talk, store.other = await manager.create(), ConversationNode(user_query="Ended.", status="interrupted")
        with pytest.raises(StoreError, match="is not kept: another process has ended it"):
            await manager.ask(talk, "Hello?", "anthropic:claude-sonnet-5-5", config=AIModelCallConfig(test_mode=True))
        assert [node.user_query for node in (await manager.open(talk.id)).nodes] == ["Ended."]


async def test_an_end_is_kept_whose_connection_dies_after_the_commit_was_sent(postgres: URL) -> None:
    async with (
        DyingConnections(postgres) as proxy,
        SQLStore(proxy.address, owner=uuid4().hex) as store,
        ConversationManager(store=store, journal=Journal(max_delay=60)) as manager,
    ):
        talk = await manager.create()
        config = AIModelCallConfig(test_mode=True)
        async with manager.turn(talk, "Hello?", "anthropic:claude-sonnet-5-5", config=config) as turn:
            await turn.collect()
            proxy.dies_at_commit = True
        assert proxy.deaths == 1
        assert (await manager.open(talk.id)).nodes == (turn.node,)


async def _nodes(store: SQLStore) -> AsyncGenerator[ConversationNode]:
    for item in (await store.list()).items:
        for node in (await store.load(item.id)).nodes:
            yield node


async def test_a_server_that_is_stopped_stops_no_stream(postgres: URL) -> None:
    url = postgres.render_as_string(hide_password=False)
    async with SQLStore(url) as store:
        engine = await store._database._opened()  # pyright: ignore[reportPrivateUsage] - as above
        stopped = False

        def connect(*_: object) -> None:
            if stopped:
                raise OperationalError("connect", {}, ConnectionRefusedError("the server is stopped"))

        event.listen(engine, "begin", connect)

        def stop() -> None:
            nonlocal stopped
            stopped = True

        def start() -> None:
            nonlocal stopped
            stopped = False

        assert "stopped" in await _answered_while(store, stop, after=start)


async def test_a_process_that_stands_still_past_its_lease_is_fenced(address: str) -> None:
    """SIGSTOP, another process ends the turn, SIGCONT: nothing more is written, and the provider's call is closed."""
    asked, left = anyio.Event(), anyio.Event()

    async def play(connection: Connection) -> None:
        request = await connection.request()
        if request is None or b"at once" in request.body:
            await connection.send(head(), *chat_stream("Here."))
            return
        await connection.send(head(), *chat_stream("One ")[:1])
        asked.set()
        await connection.until_hung_up()
        left.set()

    async with serve(play) as server, crashing() as child, ConversationManager(store=address) as manager:
        talk = await manager.create()
        await child.start(store=address, url=server.url, conversation=talk.id, turns=1, lease=0.4)
        turn_id = (await child.until("begun"))[1]
        with anyio.fail_after(PATIENCE):
            await asked.wait()
            while child.flushed(turn_id) < 3:
                await child.until("flushed")
            await _stop(child.pid, address)
            node = None
            while node is None:
                node = (await manager.open(talk.id)).head
                await anyio.sleep(0.05)
        assert (node.id, node.status, node.answer.text()) == (turn_id, "interrupted", "One ")
        node = await manager.ask(await manager.open(talk.id), "Answer at once.", chat_endpoint(server.url))
        kept = (await manager.open(talk.id)).export_json()
        events = await _kept_events(address, turn_id)
        os.kill(child.pid, signal.SIGCONT)
        with anyio.fail_after(PATIENCE):
            await left.wait()
            assert (await child.until("failed"))[1:] == [turn_id, "StoreError"]
            await child.until("gone")
        assert (await manager.open(talk.id)).export_json() == kept
        assert await _kept_events(address, turn_id) == events


async def _stop(pid: int, address: str) -> None:
    """Stop a process outside of its transactions: what one has locked would stay so as long as it stands still."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        if not await _is_locked(address):
            return
        os.kill(pid, signal.SIGCONT)
        await anyio.sleep(0.01)


async def _is_locked(address: str) -> bool:
    """Whether another process is in a transaction that writes."""
    if "://" not in address:
        with closing(sqlite3.connect(address, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
            return False
    begun = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return bool(await _rows(address, f"{begun} AND xact_start IS NOT NULL"))


async def _kept_events(address: str, turn_id: str) -> list[str]:
    of = "SELECT first_seq, events FROM turn_events WHERE turn = (SELECT seq FROM turns WHERE id = :turn) ORDER BY 1"
    return await _rows(address, of, turn=turn_id)


async def _rows(address: str, statement: str, **values: str) -> list[str]:
    async with SQLStore(address) as store:
        return await store._database.read(  # pyright: ignore[reportPrivateUsage] - rows are what this is about
            lambda connection: [str(tuple(row)) for row in connection.execute(text(statement), values)]
        )


async def test_a_reader_whose_wake_ups_are_lost_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    path = tmp_path / "chat.db"
    async with (
        serve(gate.play) as server,
        ConversationManager(store=path) as one,
        ConversationManager(store=path) as two,
    ):
        async with one.turn(await one.create(), "Count.", chat_endpoint(server.url)) as turn:
            await anext(turn)
            turn.detach()
        with anyio.fail_after(PATIENCE):
            async with two.attach(turn.id) as reader:
                await anext(reader)
                monkeypatch.setattr(Changes, "_wake_all", _nothing)
                gate.open.set()
                events = [event async for event in reader]
        assert _words(events) == "One two three."
        assert await events_of(one, turn.id) == await events_of(two, turn.id)


async def test_a_reader_whose_notifications_are_lost_in_mid_turn_reads_the_rows(postgres: URL) -> None:
    """Nothing outside the rows has to last: the server ends the connections that listen."""
    gate = Gate()
    url = postgres.render_as_string(hide_password=False)
    async with (
        serve(gate.play) as server,
        ConversationManager(store=url) as one,
        ConversationManager(store=url) as two,
    ):
        async with one.turn(await one.create(), "Count.", chat_endpoint(server.url)) as turn:
            await anext(turn)
            turn.detach()
        with anyio.fail_after(PATIENCE):
            async with two.attach(turn.id) as reader:
                events = [await anext(reader)]
                async with anyio.create_task_group() as group:

                    async def read() -> None:
                        events.extend([event async for event in reader])

                    group.start_soon(read)
                    while not _end_listeners(postgres):  # noqa: ASYNC110 - the server tells nobody of its connections
                        await anyio.sleep(0.01)
                    gate.open.set()
        assert _words(events) == "One two three."
        assert await events_of(one, turn.id) == await events_of(two, turn.id)


def _end_listeners(url: URL) -> int:
    """End the connections to a database that listen to notifications; return their number."""
    statement = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN %'"
    )
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return connection.execute(statement).scalar_one()


async def test_the_hints_of_changes_are_bounded_and_old_ones_are_not_lost() -> None:
    async def connect() -> NoReturn:
        await anyio.sleep_forever()
        raise AssertionError

    changes = Changes(None, connect)
    mark = changes.mark()
    for number in range(20_000):
        changes._wake(number)  # pyright: ignore[reportPrivateUsage] - as a notification does
    assert len(changes._hints) <= 10_000  # pyright: ignore[reportPrivateUsage] - they grew for as long as somebody read
    with anyio.fail_after(PATIENCE):
        await changes.wait(0, mark, 2 * PATIENCE)
    await changes.aclose()


def _nothing(_: Changes) -> None:
    """Lose a wake-up."""


EXITS = """
import asyncio, sys
from dhenara_async import ConversationManager
from dhenara_async.stores import SQLStore, TurnBatch, TurnState, TurnWriter
from tests.loopback import chat_endpoint

async def main(store, url):
    manager = ConversationManager(store=SQLStore(store))
    conversation = await manager.create()
    turn = manager.turn(conversation, "Count.", chat_endpoint(url))
    await turn.__aenter__()
    await anext(turn)
    turn.detach()
    print("left", flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_a_process_exits_without_closing_anything(tmp_path: Path) -> None:
    gate = Gate()
    async with serve(gate.play) as server:
        command = [sys.executable, "-W", "ignore", "-c", EXITS, str(tmp_path / "chat.db"), server.url]
        process = await anyio.open_process(command, stdout=subprocess.PIPE, stderr=None)
        async with process:
            assert process.stdout is not None
            with anyio.fail_after(PATIENCE):
                assert (await process.stdout.receive()).startswith(b"left")  # the line may come in two pieces
                assert await process.wait() == 0  # threads of drivers keep no process alive
