"""The open requests and responses of a transport, so that closing the transport ends them at once.

Without this, a reader of a closed connection would wait until a time limit: HTTP libraries close their pool without
waking its readers.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import ref

from dhenara_async.errors import StreamStateError

Got = TypeVar("Got")

_FEW = 100


class Interruptible(Protocol):
    """A request or response that can be aborted from outside; see ``Exchange``."""

    def interrupt(self, error: Exception) -> None:
        """Raise ``error`` in the task that waits for it."""
        ...

    def ended(self) -> bool:
        """Whether there is nothing left to wait for."""
        ...


@dataclass(slots=True, eq=False)
class _Wait:
    """A waiting task, and its number of cancellations before the wait."""

    task: asyncio.Task[object]
    cancelling: int
    ended: bool = False


class OpenCalls:
    """The open requests and responses of one event loop."""

    __slots__ = ("_exchanges", "_most", "_waits", "closed")

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._exchanges: list[ref[Interruptible]] = []  # some of them dead
        self._most = _FEW  # how many there may be before the dead ones are removed
        self.closed: bool = False

    async def run(self, work: Coroutine[object, object, Got]) -> Got:
        """Await ``work``; closing the transport cancels it.

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
            if not wait.ended or task.cancelling() > wait.cancelling + 1:  # the task was cancelled from elsewhere too
                raise
            raise broken_off() from None
        finally:
            self._waits.discard(wait)
            if wait.ended:
                task.uncancel()

    def add(self, exchange: Interruptible) -> None:
        """Register a request or response; only weakly, since a reader may drop it unread.

        A ``WeakSet`` would do the same at ten times the cost: it calls Python for each one that is freed.
        """
        exchanges = self._exchanges
        exchanges.append(ref(exchange))
        if len(exchanges) > self._most:
            exchanges[:] = [kept for kept in exchanges if kept() is not None]
            self._most = max(_FEW, 2 * len(exchanges))

    def end(self) -> None:
        """End all requests and responses, because the transport is closed. Call this in their event loop."""
        self.closed = True
        for wait in tuple(self._waits):
            if not wait.ended:
                wait.ended = True
                wait.task.cancel()
        for registered in tuple(self._exchanges):
            exchange = registered()
            if exchange is not None and not exchange.ended():
                exchange.interrupt(broken_off())


def broken_off() -> StreamStateError:
    """Build the error of a call whose connections were closed while it used them."""
    return StreamStateError(
        "the connections of this call were closed while it used them: its client's or manager's block has ended, or "
        "its transport was closed; keep them open until every answer has been read"
    )


def refused() -> StreamStateError:
    """Build the error of a call over connections that had been closed before."""
    return StreamStateError(
        "the connections of this call have been closed, so nothing was sent: its client's or manager's block has "
        "ended, or its transport was closed; make the call inside the block, or over another transport"
    )


def outside_of_a_task() -> StreamStateError:
    """Build the error of a call outside of an asyncio task."""
    return StreamStateError("a call can only be made, and a stream only be read, inside a task of asyncio's")


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        StreamStateError: None runs, as in a process that was forked from the midst of a coroutine.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as exc:
        raise StreamStateError(
            "no event loop runs here; a process that was forked has none of its parent's: begin one with asyncio.run()"
        ) from exc
