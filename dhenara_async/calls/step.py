"""``Step``: one step of a stream in a task of its own, which continues when a reader that waits for it is cancelled.

Sending a request, waiting for its response head, waiting before another attempt and running a race cannot be resumed
after a cancellation. So a step does them, and a reader only waits for the step. A cancelled reader leaves the step
running, and the next read waits for the same step. Closing the stream ends it.

The task lives in a task group that the step enters and leaves: asyncio's group, not anyio's, because a stream may be
read and closed in other tasks than the one that opened it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

import anyio

from dhenara_async.errors import StreamStateError
from dhenara_async.transport.open_calls import outside_of_a_task, running_loop

Got = TypeVar("Got")


class Step(Generic[Got]):
    """Work that runs once in a task of its own, started by ``begin``.

    Args:
        work: The function that does the work.
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
        """Start the work without waiting for it.

        Raises:
            StreamStateError: There is no event loop, or the caller is not one of its tasks.
        """
        running_loop()
        if asyncio.current_task() is None:
            raise outside_of_a_task()
        await self._group.__aenter__()
        self._task = self._group.create_task(self._run())

    async def wait(self) -> None:
        """Wait for the end of the work; cancelling this does not cancel the work.

        The work wakes its waiters itself: ``asyncio.wait`` would cost one more loop iteration at every first event.
        """
        if self._task is not None and not self._task.done() and not self._is_over():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def result(self) -> Got:
        """Return the result of the finished work.

        Raises:
            Exception: The error of the work.
            StreamStateError: The work was ended before it finished.
        """
        if self._error is not None:
            raise self._error
        if not self._values:
            raise StreamStateError("the stream was closed; ask the client for another")
        return self._values[0]

    async def end(self) -> None:
        """Cancel the work if it is running, and wait for its end, even if the caller is cancelled meanwhile."""
        if self._task is not None:
            self._task.cancel()
            with anyio.CancelScope(shield=True):
                await self._group.__aexit__(None, None, None)
            self._wake()  # work that is cancelled before it starts wakes no waiter

    async def _run(self) -> None:
        try:
            self._values.append(await self._work())
        except Exception as exc:  # noqa: BLE001 - it is raised to the waiters, not to the group
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
