"""Processes that are killed, or stand still, while they answer turns: nothing that was kept is lost, and talks go on.

``DHENARA_TEST_KILLS`` is the number of kills for each store; 200 are some minutes.
"""

import json
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL

from dhenara_async import ConversationManager
from dhenara_async.errors import StreamStateError
from dhenara_async.stores import SQLStore
from tests.loopback import PATIENCE, Connection, chat_delta, chat_endpoint, chat_stream, head, serve

KILLS = int(os.environ.get("DHENARA_TEST_KILLS", "12"))
WORDS = [f"w{number} " for number in range(40)]


async def trickling(connection: Connection) -> None:
    """Answer slowly, word by word; at once if the question asks for that."""
    request = await connection.request()
    if request is None:
        return
    if b"at once" in request.body:
        await connection.send(head(), *chat_stream("Here."))
        return
    await connection.send(head())
    for word in WORDS:
        await connection.send(chat_delta(word))
        await anyio.sleep(0.002)
    await connection.send(*chat_stream("")[1:])


class Crashing:
    """The process of ``crashing``, and the fork that answers."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = 0
        self.lines: list[list[str]] = []

    async def start(self, **arguments: object) -> None:
        """Let a fork answer turns."""
        assert self._process.stdin is not None
        self.lines.clear()
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        self.pid = int((await self.until("pid"))[1])

    async def until(self, word: str) -> list[str]:
        """Read lines up to one that begins with ``word``."""
        assert self._process.stdout is not None
        with anyio.fail_after(PATIENCE):
            while True:
                said = (await self._process.stdout.readline()).decode()
                assert said, "the process has ended"
                line = ["gone"] if said.endswith("gone\n") else said.split()  # perhaps behind half a line
                self.lines.append(line)
                if line[0] == word:
                    return line

    async def kill(self) -> None:
        """Kill the fork, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        await self.until("gone")

    def end(self) -> None:
        """End the fork if a test has left it running: it holds the pipes on which everybody waits."""
        if self.pid and self.lines[-1] != ["gone"]:
            os.kill(self.pid, signal.SIGKILL)

    def ids(self, word: str) -> list[str]:
        """The turns of the lines that begin with ``word``."""
        return [line[1] for line in self.lines if line[0] == word]

    def flushed(self, turn_id: str) -> int:
        """How many events of a turn a flush has kept."""
        return max((int(line[2]) for line in self.lines if line[:2] == ["flushed", turn_id]), default=0)


@asynccontextmanager
async def crashing() -> AsyncGenerator[Crashing]:
    """Run the process until the block ends."""
    process = await create_subprocess_exec(sys.executable, "-m", "tests.stores.crashing", stdin=PIPE, stdout=PIPE)
    child = Crashing(process)
    try:
        await child.until("ready")
        yield child
    finally:
        child.end()
        process.kill()
        await process.wait()


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A path or a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "chat.db")
    url: URL = request.getfixturevalue("postgres")
    return url.render_as_string(hide_password=False)


async def test_processes_that_are_killed_at_random_moments(address: str) -> None:
    luck = random.Random(KILLS)
    async with (
        serve(trickling) as server,
        crashing() as child,
        SQLStore(address) as store,
        ConversationManager(store=store) as manager,
    ):
        talk = await manager.create()
        kept, flushed = dict[str, str](), 0
        for _ in range(KILLS):
            await child.start(store=address, url=server.url, conversation=talk.id)
            if luck.random() < 0.75:  # the others may be killed before their first turn
                await child.until("begun")
            await anyio.sleep(luck.uniform(0, 0.25))
            await child.kill()
            talk = await manager.open(talk.id)
            nodes = {node.id: node for node in talk.nodes}
            assert len(nodes) == len(talk.nodes)
            assert kept.items() <= {node.id: node.model_dump_json() for node in talk.nodes}.items()
            for turn_id in child.ids("done"):
                assert nodes[turn_id].status == "complete"
            for turn_id in set(nodes) - kept.keys() - set(child.ids("done")):
                node, seen = nodes[turn_id], 0
                async with manager.attach(turn_id) as reader:
                    try:
                        async for _ in reader:
                            seen += 1
                    except StreamStateError:
                        assert node.status == "interrupted"
                        assert node.usage.source == "unknown"
                assert seen >= child.flushed(turn_id)
                assert "".join(WORDS).startswith("" if node.response is None else node.response.text())
            assert set(child.ids("flushed")) <= set(nodes)
            assert await store.open_turns(talk.id) == ()
            flushed += len(set(child.ids("flushed")))
            kept = {node.id: node.model_dump_json() for node in talk.nodes}
        node = await manager.turn(talk, "Answer at once.", chat_endpoint(server.url))
        assert node.answer.text() == "Here."
        assert (await manager.open(talk.id)).head == node
        statuses = [node.status for node in talk.nodes]
        assert flushed >= KILLS / 3
        assert statuses.count("interrupted") >= KILLS / 3
