"""PostgreSQL behind pgbouncer in transaction mode, where two statements may have two servers."""

import os
import shutil
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import URL

from dhenara_async import AIModelCallConfig, AIModelEndpoint, ConversationManager, ConversationNode
from dhenara_async.stores import SQLStore
from dhenara_async.testing import check_store
from tests.loopback import PATIENCE

THOROUGH = bool(os.environ.get("DHENARA_TEST_THOROUGH"))


@pytest.fixture(scope="module")
def pooled(postgres: URL, tmp_path_factory: pytest.TempPathFactory) -> Generator[URL]:
    """The URL of the test database through a pooler with three connections."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("pgbouncer")
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={postgres.query.get('host', postgres.host)} port={postgres.port or 5432} "
        f"user={postgres.username} password={postgres.password or 'any'}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 100\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    command = [program, "-q", str(settings)]
    if os.getuid() == 0:  # it refuses to run as root
        for place in (settings, *list(settings.parents)[:3]):
            place.chmod(0o755)
        folder = Path(str(postgres.query.get("host", "")))
        command[1:1] = ["-u", folder.owner() if folder.is_absolute() else "nobody"]  # its socket may be in a folder
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            _wait_for(port, process)
            yield postgres.set(host="127.0.0.1", port=port, password="any", query={})
        finally:
            process.terminate()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(_reached, port, process)


async def _reached(port: int, process: "subprocess.Popen[bytes]") -> None:
    with anyio.fail_after(PATIENCE):
        while process.poll() is None:
            try:
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
            except OSError:
                await anyio.sleep(0.02)
            else:
                return
    raise RuntimeError("pgbouncer has ended")


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_every_promise_is_kept_through_a_pooler(pooled: URL, driver: str) -> None:
    pytest.importorskip(driver)
    address = pooled.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
    async with SQLStore(address, owner=uuid4().hex, pooled=True) as store:
        if THOROUGH:
            await check_store(lambda: store, durable=True)
        await store.create("a")
        async with anyio.create_task_group() as tasks:  # more statements at once than the pooler has servers
            for number in range(40):
                tasks.start_soon(store.append, "a", ConversationNode(id=f"{number}"))
                tasks.start_soon(store.list)
        assert len((await store.load("a")).nodes) == 40


async def test_a_turn_is_read_by_another_process_through_a_pooler(pooled: URL) -> None:
    address, owner = pooled.render_as_string(hide_password=False), uuid4().hex
    async with (
        SQLStore(address, owner=owner, pooled=True) as one,
        SQLStore(address, owner=owner, pooled=True) as two,
        ConversationManager(store=one) as answering,
        ConversationManager(store=two) as reading,
    ):
        who, config = AIModelEndpoint.of("anthropic:claude-sonnet-5-5"), AIModelCallConfig(test_mode=True)
        node = await answering.turn(await answering.create(), "Count.", who, config=config)
        async with reading.attach(node.id) as reader:
            assert len([event async for event in reader]) > 3
            assert reader.node == node
