"""The README's fan-out beyond a machine runs as it stands: on a Ray of its own, against the loopback server."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from subprocess import PIPE

import anyio
import pytest

from dhenara_async.testing import Answer, ProviderServer, ScriptedError, SeenRequest
from tests.test_readme import RAY, SETUP

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray, which dev leaves out for its size: pip install -e '.[ray]'", allow_module_level=True)

ROWS = 1000
AT_ONCE = 50  # as the README's Limits say
FAILING = {7, 503}
PATIENCE = 120.0  # of which Ray takes about ten, on two idle cores

# One core has room for one actor, so what the server counts is that actor's.
START = """
import ray
ray.init(address="local", num_cpus=1, object_store_memory=100_000_000, include_dashboard=False, _temp_dir={home!r})
"""


def squares(seen: SeenRequest) -> Answer | ScriptedError:
    """The answer to "What is 7 squared?"; refuses a few."""
    number = int(seen.turns[-1][1].split()[2])
    return ScriptedError(401, "No.") if number in FAILING else Answer(text=str(number**2))


def running(home: str) -> dict[int, str]:
    """Processes of the Ray that lives in ``home``, by id; none where the system does not tell."""
    found: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:  # gone meanwhile, or somebody else's
            continue
        if home.encode() in command + environment:
            found[int(process.name)] = command.rstrip(b"\0").decode(errors="replace")
    return found


@pytest.fixture
def home() -> Generator[str]:
    """A directory for Ray and what it keeps in a home, with a path short enough for its sockets."""
    directory = tempfile.mkdtemp(prefix="ray")
    yield directory
    for process in running(directory):  # only where the test has failed: Ray's agents outlive a driver that was killed
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


async def test_every_row_has_its_answer_or_its_error(home: str) -> None:
    program = START.format(home=home) + SETUP.code + RAY
    async with ProviderServer(squares) as server:
        environment = {**os.environ, **server.environment(), "HOME": home, "RAY_USAGE_STATS_ENABLED": "0"}
        with anyio.fail_after(PATIENCE):
            done = await anyio.run_process(
                [sys.executable, "-c", program], env=environment, check=False, stdout=PIPE, stderr=PIPE
            )
            told = done.stderr.decode()
            assert done.returncode == 0, told
            rows = re.findall(r"^(\d+) (.*)$", done.stdout.decode(), re.MULTILINE)
            answers = {int(number): answer for number, answer in rows}
            assert len(rows) == len(answers) == len(server.requests) == ROWS
            wrong = {number: answer for number, answer in answers.items() if answer != str(number**2)}
            assert wrong.keys() == FAILING
            assert all("401" in error for error in wrong.values())

            # One pool for ten batches, closed in good order before its actor ended.
            assert server.connections <= AT_ONCE
            await server.wait_closed(server.connections)
            assert {closing.by for closing in server.closed} == {"client"}
            assert "Unclosed" not in told
            assert "Exception ignored" not in told
            with anyio.move_on_after(30):
                while running(home):  # noqa: ASYNC110 - processes end a moment after their driver, and tell nobody
                    await anyio.sleep(0.05)
            assert running(home) == {}
