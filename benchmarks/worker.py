"""Runs a peer in a separate process, to measure its memory, or the load of a whole core.

The process opens the peer, reports that, and runs the work once for each line of its input, until the input ends. Its
answers are lines of JSON; output of the peer itself goes to stderr.
"""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
import orjson

from benchmarks import machine
from benchmarks.peers import Calls, find
from benchmarks.rounds import one_line

_ROOT = Path(__file__).resolve().parent.parent
_OPENING_TIME = 120.0


@dataclass(frozen=True, slots=True)
class Job:
    """The work of a worker process.

    Attributes:
        work: ``fanout`` or ``memory``.
        peer: The name of the peer.
        dialect: The dialect.
        server: The server's root URL.
        mode: The mode of the server, as in its path.
        events: Token events of a stream.
        streams: Concurrent streams.
        core: The core of the process; None = any.
        loop: The kind of event loop.
        deadline: The most seconds of one round.
    """

    work: str
    peer: str
    dialect: str
    server: str
    mode: str
    events: int
    streams: int
    core: int | None
    loop: str
    deadline: float

    @property
    def url(self) -> str:
        """The URL of the measured calls."""
        return f"{self.server}/{self.dialect}/{self.mode}/{self.events}"

    @property
    def warm_up_url(self) -> str:
        """The URL of the warm-up calls."""
        return f"{self.server}/{self.dialect}/blast/{self.events}"


class WorkerError(Exception):
    """The worker process failed; the message is one line."""


@dataclass(slots=True)
class Worker:
    """A running worker process, as its parent sees it."""

    process: subprocess.Popen[str] = field(repr=False)

    def begin(self) -> None:
        """Start one round."""
        if self.process.stdin is not None:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def result(self) -> object:
        """Wait for the result of the round.

        Raises:
            WorkerError: The round failed.
        """
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise WorkerError("the process ended")
        answer = cast(dict[str, object], orjson.loads(line))
        if "failure" in answer:
            raise WorkerError(str(answer["failure"]))
        return answer


@contextmanager
def running_worker(job: Job) -> Generator[Worker]:
    """Run a process for ``job`` until the block ends; it has opened its peer when the block begins.

    Raises:
        WorkerError: The peer could not be opened.
    """
    command = [sys.executable, "-m", "benchmarks.worker", orjson.dumps(asdict(job)).decode()]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            worker = Worker(process)
            worker.result()
            yield worker
        finally:
            process.kill()  # without closing its streams, which is not part of the measurement


Work = Callable[[Job, Calls], Awaitable[Mapping[str, object]]]


async def _serve(job: Job, work: Work, answer: Callable[[Mapping[str, object]], None]) -> None:
    peer = find(job.peer, job.dialect)
    with anyio.fail_after(_OPENING_TIME):
        async with peer.open(job.dialect, job.warm_up_url) as warm_up:
            await warm_up.stream(len)
    async with peer.open(job.dialect, job.url) as calls:
        answer({})
        while await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            with anyio.fail_after(job.deadline):
                result = await work(job, calls)
            answer(result)


def _main() -> None:
    from benchmarks import fanout_round, memory_round  # those modules import this one

    job = Job(**orjson.loads(sys.argv[1]))
    works: Mapping[str, Work] = {"fanout": fanout_round.work, "memory": memory_round.work}
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(values: Mapping[str, object]) -> None:
        told.write(orjson.dumps(values).decode() + "\n")
        told.flush()

    machine.pin(job.core)
    try:
        machine.run_on(job.loop, _serve, job, works[job.work], answer)
    except Exception as error:  # noqa: BLE001 - a peer may raise any error; the others are still measured
        answer({"failure": one_line(error)})
    told.flush()
    os._exit(0)  # streams and threads of the peer may be open


if __name__ == "__main__":
    _main()
