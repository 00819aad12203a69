"""``SQLStore`` in an SQLite file: promises, processes, deletion and refusals."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, event

from dhenara_async import ConversationManager, ConversationNode
from dhenara_async.errors import ConfigurationError, SchemaError, StoreError, UnknownConversationError
from dhenara_async.stores import SQLStore
from dhenara_async.stores.sql import database, schema, sqlite
from dhenara_async.testing import check_store
from tests.loopback import PATIENCE


async def test_the_sqlite_store_keeps_every_promise(tmp_path: Path) -> None:
    await check_store(lambda: SQLStore(tmp_path / "chat.db"), durable=True)


async def test_a_manager_opens_and_closes_the_store_of_a_path(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with ConversationManager(store=str(path)) as manager:
        conversation = await manager.create()
        await manager.store.append(conversation.id, ConversationNode(user_query="Hello"))
    assert not path.with_name("chat.db-wal").exists()  # SQLite removes it with the last connection
    async with ConversationManager(store=path) as manager:
        assert (await manager.open(conversation.id)).path()[0].user_query == "Hello"


async def test_a_program_that_never_closes_its_store_ends(tmp_path: Path) -> None:
    script = f"""
import anyio
from dhenara_async.messages.messages import FilePart, ReasoningPart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.stores import SQLStore
async def main():
    global store
    store = SQLStore({str(tmp_path / "chat.db")!r})
    await store.create("c")
anyio.run(main)
"""
    run = await anyio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    )
    assert run.returncode == 0, run.stderr


async def test_a_program_that_ends_while_another_one_locks_the_file_waits_no_longer(tmp_path: Path) -> None:
    script = f"""
import asyncio, threading
from sqlalchemy import event
from dhenara_async import ConversationNode
from dhenara_async.stores import SQLStore
begun = threading.Event()
async def main():
    global store, task
    store = SQLStore({str(tmp_path / "chat.db")!r})
    engine = await store._database._opened()
    event.listen(engine, "before_cursor_execute", lambda *_: begun.set())
    print("opened", flush=True)
    input()
    task = asyncio.create_task(store.append("c", ConversationNode()))
    while not begun.is_set():
        await asyncio.sleep(0.001)
asyncio.run(main())
"""
    async with await anyio.open_process([sys.executable, "-c", script], stderr=None) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        with anyio.fail_after(PATIENCE):
            assert await process.stdout.receive()
        other = _lock(tmp_path / "chat.db")
        with anyio.fail_after(sqlite.BUSY_SECONDS / 2):
            await process.stdin.send(b"\n")
            assert await process.wait() == 0
    other.close()


async def test_a_store_serves_one_event_loop_after_another_and_refuses_two_at_once(tmp_path: Path) -> None:
    store = SQLStore(tmp_path / "chat.db")
    for turn in range(2):  # each run has a loop of its own, which is gone when the next one begins
        await anyio.to_thread.run_sync(lambda turn=turn: anyio.run(store.create, f"conversation-{turn}"))
    assert len((await store.list()).items) == 2
    for use in (store.list, lambda: store.create("another")):
        with pytest.raises(ConfigurationError, match="make a store for each loop"):
            await anyio.to_thread.run_sync(lambda use=use: anyio.run(use))
    await store.aclose()
    await anyio.to_thread.run_sync(lambda: anyio.run(store.list))  # closed here, it may be used elsewhere
    await store.aclose()


def _bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_deleted_words_are_nowhere_in_the_files(tmp_path: Path) -> None:
    path, secret = tmp_path / "chat.db", "Rumpelstilzchen"
    async with SQLStore(path) as store, SQLStore(path) as other:
        await store.create("kept", title="kept")
        await store.append("kept", ConversationNode(user_query="bread and butter"))
        await store.create("gone", title=secret, metadata={"about": secret})
        parent = None
        for number in range(40):
            node = ConversationNode(parent_id=parent, user_query=f"{secret} {number} " * 100)
            await other.append("gone", node)
            parent = node.id
        assert secret.encode() in _bytes_of(tmp_path)
        await store.delete("gone")
        assert secret.casefold().encode() not in _bytes_of(tmp_path).lower()
        assert [hit.conversation for hit in await store.search("butter")] == ["kept"]
        with pytest.raises(UnknownConversationError):
            await other.load("gone")


async def test_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with SQLStore(path) as store:
        await store.create("c")
    with sqlite3.connect(path) as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    file.close()
    with pytest.raises(SchemaError, match=r"9999.*upgrade the package"):
        await SQLStore(path).list()


async def test_a_migration_that_breaks_off_leaves_nothing_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(connection: Connection) -> None:
        schema.upgrade(connection)
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite, "upgrade", breaks_off)
        with pytest.raises(StoreError, match="disk is full"):
            await SQLStore(tmp_path / "chat.db").list()
    with sqlite3.connect(tmp_path / "chat.db") as file:
        assert file.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    file.close()
    async with SQLStore(tmp_path / "chat.db") as store:
        await store.create("c")


def test_the_newest_migration_is_the_version_that_is_used() -> None:
    assert max(schema.versions()) == schema.SCHEMA


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
async def test_a_network_file_system_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(sqlite, "MOUNTS", mounts)
    with pytest.raises(StoreError, match=rf"network file system \({kind}\).*journal='delete'"):
        await SQLStore(tmp_path / "chat.db").list()
    async with SQLStore(tmp_path / "chat.db", journal="delete") as store:
        await store.create("c")


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":memory:",
        "sqlite://",
        "sqlite:///chat.db?mode=ro",
        "mysql://host/name",
        "postgresql://host:port/name",
        "a\0b",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        SQLStore(address)


async def test_a_file_that_is_no_database_and_a_missing_folder_are_store_errors(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is not a database, " * 100)
    with pytest.raises(StoreError, match="not a database; another program wrote the file: pass another path"):
        await SQLStore(tmp_path / "text").list()
    with pytest.raises(StoreError, match="unable to open database file; let this process read and write"):
        await SQLStore(tmp_path).list()
    with pytest.raises(StoreError, match="does not exist"):
        await SQLStore(tmp_path / "nowhere" / "chat.db").list()


async def test_cancelled_calls_leave_the_connections_usable(tmp_path: Path) -> None:
    async with SQLStore(tmp_path / "chat.db") as store:
        await store.create("c")
        for _ in range(100):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.list)
                tasks.start_soon(store.append, "c", ConversationNode(user_query="q"))
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        await store.append("c", ConversationNode(id="last"))
        assert (await store.load("c")).nodes[-1].id == "last"


async def test_writes_at_once_share_a_transaction_and_none_takes_others_along(tmp_path: Path) -> None:
    async with SQLStore(tmp_path / "chat.db") as store:
        transactions = 0

        def count(*_: object) -> None:
            nonlocal transactions
            transactions += 1

        engine = await store._database._opened()  # pyright: ignore[reportPrivateUsage] - nobody else sees transactions
        event.listen(engine, "commit", count)
        await store.create("c")
        first = ConversationNode(id="0")
        nodes = [first, *(ConversationNode(id=str(number)) for number in range(1, 40))]
        outcomes = await asyncio.gather(*(store.append("c", node) for node in nodes))
        assert outcomes == [None] * 40
        assert transactions < 10
        wrong = first.model_copy(update={"user_query": "Another."})
        more = [ConversationNode(id=f"more {number}") for number in range(10)]
        outcomes = await asyncio.gather(
            *(store.append("c", node) for node in (*more[:5], wrong, *more[5:])), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [*[type(None)] * 5, ConfigurationError, *[type(None)] * 5]
        assert {node.id for node in (await store.load("c")).nodes} == {node.id for node in (*nodes, *more)}


async def test_a_write_that_was_given_up_leaves_nothing_when_the_file_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLStore(tmp_path / "chat.db") as store:
        await store.create("c")
        over = threading.Event()

        def end(_: object) -> None:
            over.set()

        engine = await store._database._opened()  # pyright: ignore[reportPrivateUsage] - nobody else sees transactions
        event.listen(engine, "rollback", end)
        event.listen(engine, "commit", end)
        monkeypatch.setattr(database, "_DEADLINE", 0.1)
        other = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="did not answer within"):
            await store.append("c", ConversationNode(user_query="Given up."))
        monkeypatch.undo()
        other.execute("ROLLBACK")
        other.close()
        assert await anyio.to_thread.run_sync(over.wait, PATIENCE)
        assert (await store.load("c")).nodes == ()


def _lock(path: Path) -> sqlite3.Connection:
    """Lock an SQLite file, as another process does that writes."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


async def test_closing_waits_for_the_writers_of_a_file_and_leaves_no_connection(tmp_path: Path) -> None:
    store = SQLStore(tmp_path / "chat.db")
    await store.create("c")
    other = _lock(tmp_path / "chat.db")
    async with anyio.create_task_group() as tasks:
        for number in range(3):  # the first one waits for the lock, the others for the first one
            tasks.start_soon(store.append, "c", ConversationNode(id=str(number)))
            await anyio.wait_all_tasks_blocked()
        tasks.start_soon(store.aclose)
        await anyio.wait_all_tasks_blocked()
        other.execute("ROLLBACK")
        other.close()
    assert not (tmp_path / "chat.db-wal").exists()  # SQLite removes it with the last connection
    assert {node.id for node in (await store.load("c")).nodes} == {"0", "1", "2"}
    await store.aclose()


async def test_a_transaction_that_was_left_running_closes_its_connection_behind_a_closed_store(tmp_path: Path) -> None:
    store = SQLStore(tmp_path / "chat.db")
    await store.create("c")
    reading, go_on = threading.Event(), threading.Event()

    def read(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT 1 FROM conversations").all()
        reading.set()
        go_on.wait(PATIENCE)

    database = store._database  # pyright: ignore[reportPrivateUsage] - no call of the store takes long by itself
    task = asyncio.get_running_loop().create_task(database.read(read))
    assert await anyio.to_thread.run_sync(reading.wait, PATIENCE)
    task.cancel()
    await asyncio.wait([task])
    await store.aclose()
    assert (tmp_path / "chat.db-wal").exists()
    go_on.set()
    with anyio.fail_after(PATIENCE):
        while (tmp_path / "chat.db-wal").exists():  # noqa: ASYNC110 - no event tells of it
            await anyio.sleep(0.01)


async def test_nobody_waits_for_a_writer_that_was_cancelled_with_every_task_of_the_loop(tmp_path: Path) -> None:
    async with SQLStore(tmp_path / "chat.db") as store:
        await store.create("c")
        other = _lock(tmp_path / "chat.db")
        loop = asyncio.get_running_loop()
        first, second = (loop.create_task(store.append("c", ConversationNode(id=name))) for name in "ab")
        await anyio.wait_all_tasks_blocked()
        third = loop.create_task(store.append("c", ConversationNode(id="c")))
        await anyio.wait_all_tasks_blocked()
        writer = store._database._writing  # pyright: ignore[reportPrivateUsage] - as asyncio.run does at its end
        assert writer is not None
        writer.cancel()
        done, pending = await asyncio.wait([first, second, third], timeout=PATIENCE)
        assert not pending
        assert all(task.cancelled() for task in done)
        other.execute("ROLLBACK")
        other.close()
        await store.append("c", ConversationNode(id="later"))


async def test_writers_of_a_file_that_stays_locked_wait_once_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLStore(tmp_path / "chat.db") as first:
        await first.create("c")
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    async with SQLStore(tmp_path / "chat.db") as store:
        statements: list[str] = []

        def count(connection: object, cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        engine = await store._database._opened()  # pyright: ignore[reportPrivateUsage] - nobody else sees transactions
        event.listen(engine, "before_cursor_execute", count)
        other = _lock(tmp_path / "chat.db")
        nodes = [ConversationNode(id=str(number)) for number in range(20)]
        outcomes = await asyncio.gather(*(store.append("c", node) for node in nodes), return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {
            f"the store {tmp_path / 'chat.db'} failed: database is locked"
        }
        assert 0 < statements.count("BEGIN IMMEDIATE") < 5
        other.execute("ROLLBACK")
        other.close()
