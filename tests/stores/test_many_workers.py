"""Many workers and processes answer the same conversations: no turn is lost, and every sibling stays.

``DHENARA_TEST_THOROUGH=1`` runs 50 workers of 200 turns on PostgreSQL and 8 processes of 100 turns on one SQLite file.
"""

import os
import sys
from pathlib import Path
from uuid import uuid4

import anyio
from sqlalchemy import URL

from dhenara_async import ConversationManager
from dhenara_async.stores import SQLStore
from tests.stores.workers import Kept, work

THOROUGH = bool(os.environ.get("DHENARA_TEST_THOROUGH"))
WORKERS, WORKER_TURNS, CONVERSATIONS = (50, 200, 5) if THOROUGH else (12, 6, 3)
STORES = 4
"""As many processes would have: each has a pool, and a connection that listens; PostgreSQL takes 100 in all."""
PROCESSES, PROCESS_TURNS = (8, 100) if THOROUGH else (4, 10)


async def demand_every_turn(store: SQLStore, log: list[Kept]) -> None:
    """Compare what is kept with what the workers were told."""
    for name in {kept.conversation for kept in log}:
        mine = [kept for kept in log if kept.conversation == name]
        conversation = await store.load(name)  # refuses a child before its parent, so there is no cycle
        assert {node.id: node.parent_id or "-" for node in conversation.nodes} == {
            kept.node: kept.parent for kept in mine
        }
        assert len(conversation.nodes) == len(mine)
        for parent in {kept.parent for kept in mine}:
            siblings = {node.id for node in conversation.children(None if parent == "-" else parent)}
            assert siblings == {kept.node for kept in mine if kept.parent == parent}
        assert conversation.head in conversation.nodes
        assert (await store.load_path(name)).turns == len(mine)


async def test_workers_on_postgres_lose_no_turn(postgres: URL) -> None:
    address, owner, log = postgres.render_as_string(hide_password=False), uuid4().hex, list[Kept]()

    async def answer(workers: range) -> None:
        async with (
            SQLStore(address, owner=owner) as store,
            ConversationManager(store=store) as manager,
            anyio.create_task_group() as tasks,
        ):
            for worker in workers:
                tasks.start_soon(work, manager, worker, WORKER_TURNS, log.append, CONVERSATIONS)

    async with anyio.create_task_group() as tasks:
        for number in range(STORES):
            tasks.start_soon(answer, range(number, WORKERS, STORES))
    assert len(log) == WORKERS * WORKER_TURNS
    async with SQLStore(address, owner=owner) as store:
        await demand_every_turn(store, log)


async def test_processes_that_open_one_new_sqlite_file_together_lose_no_turn(tmp_path: Path) -> None:
    path, log = str(tmp_path / "chat.db"), list[Kept]()
    command = [sys.executable, "-W", "error", "-m", "tests.stores.workers", path, "user-7"]

    async def answer(worker: int) -> None:
        run = await anyio.run_process([*command, str(worker), str(PROCESS_TURNS)], check=False)
        assert (run.stderr, run.returncode) == (b"", 0)  # "database is locked" would be here
        log.extend(Kept(*line.split()) for line in run.stdout.decode().splitlines())

    async with anyio.create_task_group() as tasks:
        for worker in range(PROCESSES):
            tasks.start_soon(answer, worker)
    assert len(log) == PROCESSES * PROCESS_TURNS
    async with SQLStore(path, owner="user-7") as store:
        await demand_every_turn(store, log)
