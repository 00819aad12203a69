"""Tells this process from others, and whether the process of a writer is gone.

A process is known by its id together with the moment when it was started, on a machine since that was started, in one
space of process ids: a container has a space of its own. Where the system tells none of this, nothing is known to be
gone, and a writer's lease has to run out.
"""

import os
from functools import cache
from pathlib import Path
from uuid import uuid4

from dhenara_async.stores import TurnWriter

_PROC = Path("/proc")


def new_writer() -> TurnWriter:
    """Return a new writer of this process."""
    pid = os.getpid()
    state = _state(pid)
    return TurnWriter(id=uuid4().hex, host=_host(pid), pid=pid, started=None if state is None else state[1])


def is_gone(writer: TurnWriter) -> bool:
    """Whether the process of a writer is known to have ended."""
    if writer.host is None or writer.started is None or writer.host != _host(os.getpid()):
        return False
    state = _state(writer.pid)
    return state is None or state[1] != writer.started or state[0] in "ZX"  # ended, and its parent does not know yet


@cache
def _host(pid: int) -> str | None:
    """Return the machine since its start and the space of process ids of this process; a fork asks again."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {(_PROC / str(pid) / 'ns/pid').readlink()}"
    except (OSError, ValueError):
        return None


def _state(pid: int) -> tuple[str, str] | None:
    """Return the state letter and the start of a process; None if there is none, or the system does not tell."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may have any character
    return (fields[0], fields[19]) if len(fields) > 19 else None
