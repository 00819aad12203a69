"""``SQLStore`` on PostgreSQL: migration, several migrators and workers, poolers and lost servers."""

import subprocess
import sys
from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import URL, Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from dhenara_async import ConversationManager, ConversationNode
from dhenara_async.errors import SchemaError, StoreError
from dhenara_async.stores import SQLStore
from dhenara_async.stores.sql.schema import SCHEMA
from dhenara_async.testing import check_store
from tests.loopback import PATIENCE

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def address(url: URL) -> str:
    """The URL with its password."""
    return url.render_as_string(hide_password=False)


async def test_a_database_is_migrated_by_the_command_only(empty: URL) -> None:
    with pytest.raises(SchemaError, match="dhenara-async db upgrade"):
        await SQLStore(address(empty)).list()
    command = [sys.executable, "-m", "dhenara_async", "db", "upgrade", address(empty)]
    outputs: list[bytes] = []

    async def migrate() -> None:
        run = await anyio.run_process(command, stderr=subprocess.STDOUT, check=False)
        outputs.append(run.stdout)

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(migrate)
    assert outputs == [f"the schema is {SCHEMA}\n".encode()] * 2
    async with ConversationManager(store=address(empty)) as manager:
        conversation = await manager.create(title="kept")
        assert [item.id for item in (await manager.list()).items] == [conversation.id]


async def test_asyncpg_and_poolers_are_served_alike(postgres: URL) -> None:
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    for driver in ("postgresql+psycopg", "postgresql+asyncpg"):
        async with SQLStore(address(postgres.set(drivername=driver)), owner=uuid4().hex, pooled=True) as store:
            await check_store(lambda store=store: store, durable=True)


async def test_a_server_that_is_not_there_is_a_store_error_without_the_password() -> None:
    with pytest.raises(StoreError) as raised:
        await SQLStore("postgresql://user:secret@127.0.0.1:9/name").list()
    assert "secret" not in str(raised.value)


async def test_cancelled_calls_leave_the_pool_full(postgres: URL) -> None:
    async with SQLStore(address(postgres), owner=uuid4().hex) as store:
        await store.create("c")
        for _ in range(50):
            with anyio.move_on_after(0.002):
                await store.append("c", ConversationNode(user_query="q"))
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(store.list)


async def test_a_transaction_that_a_deadlock_has_undone_runs_again(postgres: URL) -> None:
    owner, runs = uuid4().hex, list[str]()
    async with SQLStore(address(postgres), owner=owner) as store:
        for name in ("one", "two"):
            await store.create(name)
        locked = {name: anyio.Event() for name in ("one", "two")}
        lock = text("SELECT seq FROM conversations WHERE owner = :owner AND id = :id FOR UPDATE")

        def work(connection: Connection, first: str, second: str) -> None:
            runs.append(first)
            connection.execute(lock, {"owner": owner, "id": first})
            locked[first].set()
            await_only(locked[second].wait())
            connection.execute(lock, {"owner": owner, "id": second})

        database = store._database  # pyright: ignore[reportPrivateUsage]
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(database.write, partial(work, first="one", second="two"))
                tasks.start_soon(database.write, partial(work, first="two", second="one"))
    assert sorted(set(runs)) == ["one", "two"]
    assert len(runs) > 2


async def test_writers_of_a_locked_conversation_leave_connections_to_others(postgres: URL) -> None:
    """Another process locks a conversation: forty writers of it wait here, and the pool has eighteen connections."""
    owner, engine = uuid4().hex, create_async_engine(postgres)
    async with SQLStore(address(postgres), owner=owner) as store, engine.connect() as other:
        for name in ("locked", "free"):
            await store.create(name)
        lock = text("SELECT seq FROM conversations WHERE owner = :owner AND id = 'locked' FOR UPDATE")
        await other.execute(lock, {"owner": owner})
        nodes = [ConversationNode(user_query=f"{number}") for number in range(40)]
        async with anyio.create_task_group() as tasks:
            for node in nodes:
                tasks.start_soon(store.append, "locked", node)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(PATIENCE):
                await store.append("free", ConversationNode(user_query="free"))
                assert len((await store.list()).items) == 2
                while not (waiting := await other.scalar(text(WAITING))):  # noqa: ASYNC110 - no event tells of it
                    await anyio.sleep(0.01)
                assert waiting == 1
            await other.rollback()
        assert {node.id for node in (await store.load("locked")).nodes} == {node.id for node in nodes}
        assert not store._database._lines  # pyright: ignore[reportPrivateUsage] - nothing is left of who has waited
    await engine.dispose()


async def test_processes_that_wait_for_one_conversation_are_served_in_their_order(postgres: URL) -> None:
    """Who waits for a row that changes gets a stale version of it, and has to wait behind those who came later."""
    owner, engine = uuid4().hex, create_async_engine(postgres)
    nodes = [ConversationNode(user_query=f"{number}") for number in range(5)]
    async with AsyncExitStack() as stack, engine.connect() as other:
        stores = [await stack.enter_async_context(SQLStore(address(postgres), owner=owner)) for _ in nodes]
        await stores[0].create("c")
        locked = text("UPDATE conversations SET title = 'changed' WHERE owner = :owner")
        await other.execute(locked, {"owner": owner})
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(PATIENCE):
                for number, (store, node) in enumerate(zip(stores, nodes, strict=True), 1):
                    tasks.start_soon(store.append, "c", node)
                    while await other.scalar(text(WAITING)) != number:  # noqa: ASYNC110 - no event tells of it
                        await anyio.sleep(0.01)
                assert await other.scalar(text(f"{WAITING} AND wait_event = 'advisory'")) == len(nodes) - 1
            await other.commit()
        assert list((await stores[0].load("c")).nodes) == nodes
    await engine.dispose()
