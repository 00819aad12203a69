"""``Step``: one step of a stream in a task of its own, which goes on when a reader that waits for it is cancelled.

Sending a request, waiting for its head, resting before another try and running a race cannot be begun again where they
were cancelled. So a reader does not do them: it waits for a step that does. A reader that is cancelled leaves the step
alone, and the next read waits for the same one. Whoever closes the stream ends it.

The task lives in a task group that the step enters and leaves. It is asyncio's, not anyio's: nothing of a stream may
hang on the task that opened it, because a stream may be read and closed in others.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

import anyio

from dhenara_async.errors import StreamStateError
from dhenara_async.transport.open_calls import outside_of_a_task, running_loop

Got = TypeVar("Got")


class Step(Generic[Got]):
    """Work that is done once, begun by ``begin``.

    Args:
        work: Does it.
    """

    __slots__ = ("_error", "_group", "_task", "_values", "_waiters", "_work")

    def __init__(self, work: Callable[[], Coroutine[object, object, Got]]) -> None:
        self._work = work
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None
        self._values: list[Got] = []  # the result of the work, once there is one
        self._waiters: list[asyncio.Future[None]] = []
        self._error: Exception | None = None

    async def begin(self) -> None:
        """Begin the work; does not wait.

        Raises:
            StreamStateError: There is no event loop, or this is no task of one.
        """
        running_loop()
        if asyncio.current_task() is None:
            raise outside_of_a_task()
        await self._group.__aenter__()
        self._task = self._group.create_task(self._run())

    async def wait(self) -> None:
        """Wait for the end of the work, and do not end it when this is cancelled.

        The work wakes its waiters itself: ``asyncio.wait`` would cost a turn of the loop more, at every first event.
        """
        if self._task is not None and not self._task.done() and not self._is_over():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def result(self) -> Got:
        """What came of the work, which is over.

        Raises:
            Exception: What it raised.
            StreamStateError: It was ended before it was done.
        """
        if self._error is not None:
            raise self._error
        if not self._values:
            raise StreamStateError("the stream was closed; ask the client for another")
        return self._values[0]

    async def end(self) -> None:
        """Cancel the work if it is not over, and wait until it is; whoever is cancelled meanwhile waits as well."""
        if self._task is not None:
            self._task.cancel()
            with anyio.CancelScope(shield=True):
                await self._group.__aexit__(None, None, None)
            self._wake()  # work that was cancelled before it began wakes nobody

    async def _run(self) -> None:
        try:
            self._values.append(await self._work())
        except Exception as exc:  # noqa: BLE001 - it is raised again to whoever waits, and not to the group
            self._error = exc
        finally:
            self._wake()

    def _is_over(self) -> bool:
        return self._error is not None or bool(self._values)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
