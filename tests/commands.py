"""Starts the command line as a person does: in a process of its own, without keys or settings of the machine."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dhenara_async.hosts.table import HOSTS
from tests.commands_server import SUPPORTED, run_forked

ROOT = Path(__file__).resolve().parent.parent
GUARD_SECONDS = 60  # only a hang takes this long
# A shell that starts its jobs in the background has them ignore Ctrl-C; what is tested is the one that does not.
WITH_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from dhenara_async.__main__ import main; main()"
)
NO_SETTINGS = ROOT / "tests" / "no-such-folder"


def environment_of(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    provider_variables = {name for host in HOSTS.values() for name in (*host.key_variables, *host.base_url_variables)}
    left_out = provider_variables | {"FORCE_COLOR", "COLUMNS", "NO_COLOR", "DHENARA_ASYNC_MODEL"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PYTHONIOENCODING": "utf-8", "DHENARA_ASYNC_HOME": str(NO_SETTINGS), **(extra or {})}


def run(
    *arguments: str, typed: str = "", environment: Mapping[str, str] | None = None, code: str | None = None
) -> subprocess.CompletedProcess[str]:
    if code is None and SUPPORTED and "PYTHONPATH" not in (environment or ()):  # which only a new interpreter reads
        return run_forked(
            arguments, typed=typed, environment=environment_of(environment), folder=ROOT, timeout=GUARD_SECONDS
        )
    start = ("-m", "dhenara_async") if code is None else ("-c", code)
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=ROOT,
        env=environment_of(environment),
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=GUARD_SECONDS,
    )


async def start(*arguments: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WITH_CTRL_C,
        *arguments,
        cwd=ROOT,
        env=environment_of(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process, typed: str = "") -> tuple[str, str]:
    async with asyncio.timeout(GUARD_SECONDS):
        out, err = await process.communicate(typed.encode())
    return out.decode(), err.decode()


async def read_until(process: asyncio.subprocess.Process, text: bytes) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(GUARD_SECONDS):
        return await process.stdout.readuntil(text)
