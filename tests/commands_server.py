"""Runs the command line in processes forked from one that has loaded it, which takes milliseconds instead of a second.

Each command is still a process of its own, with its own environment, standard streams and exit code.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

SUPPORTED = "forkserver" in multiprocessing.get_all_start_methods()
_STREAMS = ("stdin", "stdout", "stderr")


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["dhenara_async.cli.database", "dhenara_async.testing", "dhenara_async.transport.aiohttp_transport"]
    )
    return context


def run_forked(
    arguments: tuple[str, ...], *, typed: str, environment: Mapping[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run the command line with ``arguments`` in a forked process, and return what ``subprocess.run`` would.

    Raises:
        subprocess.TimeoutExpired: The command has not ended after ``timeout`` seconds.
    """
    with TemporaryDirectory() as streams:
        files = {name: Path(streams) / name for name in _STREAMS}
        files["stdin"].write_text(typed, encoding="utf-8", newline="")
        process = _context().Process(target=_child, args=(arguments, dict(environment), folder, files))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        out, err = (files[name].read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        assert process.exitcode is not None
        return subprocess.CompletedProcess(list(arguments), process.exitcode, out, err)


def _child(arguments: tuple[str, ...], environment: dict[str, str], folder: Path, files: dict[str, Path]) -> None:
    """Become the command: its environment, working directory and standard streams."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, name in enumerate(_STREAMS):
        with files[name].open("rb" if name == "stdin" else "wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.argv = ["dhenara-async", *arguments]
    from dhenara_async.__main__ import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
