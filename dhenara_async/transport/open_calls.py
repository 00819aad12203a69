"""The requests and answers that a transport has under way, so that closing the transport ends them all at once.

Without this, whoever waits over a closed connection would wait until a time limit, because an HTTP library that closes
its pool does not tell the readers of it.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakSet

from dhenara_async.errors import StreamStateError
from dhenara_async.transport import Exchange

Got = TypeVar("Got")


@dataclass(slots=True, eq=False)
class _Wait:
    """A task that waits for something, and how often it had been cancelled before."""

    task: asyncio.Task[object]
    cancelling: int
    ended: bool = False


class OpenCalls:
    """What one event loop has under way over a transport."""

    __slots__ = ("_exchanges", "_waits", "closed")

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._exchanges: WeakSet[Exchange] = WeakSet()
        self.closed: bool = False

    async def run(self, work: Coroutine[object, object, Got]) -> Got:
        """Await ``work``; it is broken off when the transport is closed meanwhile.

        As ``asyncio.timeout`` does it: the task is cancelled, and the cancellation is taken back here. A scope of
        anyio's would do the same, and cost as much as all else that is done to send a request.

        Raises:
            StreamStateError: The transport is closed, or was closed before ``work`` was done.
        """
        task = asyncio.current_task()
        if self.closed or task is None:
            work.close()
            raise refused() if self.closed else outside_of_a_task()
        wait = _Wait(task, task.cancelling())
        self._waits.add(wait)
        try:
            return await work
        except asyncio.CancelledError:
            if not wait.ended or task.cancelling() > wait.cancelling + 1:  # somebody else wants the task to end
                raise
            raise broken_off() from None
        finally:
            self._waits.discard(wait)
            if wait.ended:
                task.uncancel()

    def add(self, exchange: Exchange) -> None:
        """An answer has begun; it need not be taken back when it ends."""
        self._exchanges.add(exchange)

    def end(self) -> None:
        """The transport is closed: break off everything. To be called in the loop that all this belongs to."""
        self.closed = True
        for wait in tuple(self._waits):
            if not wait.ended:
                wait.ended = True
                wait.task.cancel()
        for exchange in tuple(self._exchanges):
            if not exchange.ended():
                exchange.interrupt(broken_off())


def broken_off() -> StreamStateError:
    """The error of a call whose connections were closed while it used them."""
    return StreamStateError(
        "the connections of this call were closed while it used them: its client's or manager's block has ended, or "
        "its transport was closed; keep them open until every answer has been read"
    )


def refused() -> StreamStateError:
    """The error of a call over connections that had been closed before."""
    return StreamStateError(
        "the connections of this call have been closed, so nothing was sent: its client's or manager's block has "
        "ended, or its transport was closed; make the call inside the block, or over another transport"
    )


def outside_of_a_task() -> StreamStateError:
    """The error of a call that nothing awaits which could be cancelled."""
    return StreamStateError("a call can only be made, and a stream only be read, inside a task of asyncio's")


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop.

    Raises:
        StreamStateError: None runs, as in a process that was forked from the midst of a coroutine.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as exc:
        raise StreamStateError(
            "no event loop runs here; a process that was forked has none of its parent's: begin one with asyncio.run()"
        ) from exc
