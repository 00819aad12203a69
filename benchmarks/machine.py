"""Prepares the machine for a measurement: a core for each process, open files, the event loop, memory readings.

The client and the server get separate cores if the platform supports that. Otherwise the scheduler moves both between
cores, which costs both their caches.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import anyio

LOOPS = ("asyncio", "uvloop")

_SPARE_FILES = 100
_STATEMENT_OF_MEMORY = Path("/proc/self/statm")

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


def cores() -> list[int]:
    """Return the cores that this process may use, in order; empty if the platform does not report them."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def core_of(place: int, available: list[int]) -> int | None:
    """Return the core of a client (even indexes) or a server (odd indexes); None = any core.

    With fewer cores than processes, cores are reused from the first one; with a single core there is no choice.
    """
    return available[place % len(available)] if len(available) > 1 else None


def pin(core: int | None) -> None:
    """Pin this process and its future children to ``core``; None changes nothing."""
    if core is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {core})


def allow_open_files(needed: int) -> None:
    """Raise the limit of open files of this process and its children to at least ``needed`` connections.

    Raises:
        SystemExit: The hard limit is below that.
    """
    import resource

    needed += _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{needed} open files are needed, {hard} are allowed: ulimit -Hn {needed}, or fewer streams")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))


def resident_bytes() -> int:
    """Return the resident memory of this process, after a garbage collection."""
    gc.collect()
    if _STATEMENT_OF_MEMORY.exists():
        return int(_STATEMENT_OF_MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    asked = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())],  # noqa: S607 - its path depends on the system
        check=True,
        capture_output=True,
        text=True,
    )
    return int(asked.stdout) * 1024


def check_loop(loop: str) -> None:
    """Check that the event loop ``loop`` is available.

    Raises:
        SystemExit: The event loop is not installed.
    """
    if loop == "uvloop" and find_spec("uvloop") is None:
        raise SystemExit("uvloop is not installed: pip install 'dhenara-async[bench]'")


def run_on(loop: str, work: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments) -> Result:
    """Run ``work`` on an event loop of this kind."""
    return anyio.run(work, *arguments, backend_options={"use_uvloop": loop == "uvloop"})
