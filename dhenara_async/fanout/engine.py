"""Runs many calls in one task group, with one reader.

The task of a call puts the events of one network read into the reader's queue and reads on; before it puts the next
ones there, it waits until the reader has taken the last. A slow reader therefore holds up every call after two reads,
the sockets fill up, and the hosts wait: memory is bounded by the number of running calls, not by the length of their
responses. Where the reader keeps up, a task never waits for it.

The task group stays open around the reader's block. It is not given exceptions of that block, which it would wrap in an
exception group. No task of the group fails either, for the same reason: an error of a call becomes its outcome.
"""

import asyncio
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Generic, Literal, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from dhenara_async.calls.observer import Observer
from dhenara_async.calls.records import CallOutcome
from dhenara_async.errors import ConfigurationError, StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.fanout.observed import ObservedFanOut
from dhenara_async.fanout.values import FanOutProgress, Outcome, TaggedBatch, TaggedEvent
from dhenara_async.response import AIModelCallResponse

_STARTS_PER_TURN = 16  # calls started before the running ones get a turn of the event loop

Item = TypeVar("Item")
Opened = TypeVar("Opened", contravariant=True)
DeliveryMode = Literal["events", "outcomes", "nothing"]
"""The kinds of items that the reader can receive while the calls run."""


class _FanState(Enum):
    """The progress of a fan-out; ``ENDED``, ``CLOSED`` and ``ABANDONED`` mean that every call has an outcome."""

    NEW = auto()
    """The block was not entered."""
    STARTING = auto()
    """Requests are taken from the iterable, and their calls are started."""
    DRAINING = auto()
    """All requests were taken; some of their calls are still running."""
    ENDED = auto()
    """All calls have ended, and the block is open."""
    LEAVING = auto()
    """The block is being left early: running calls are cancelled."""
    CLOSED = auto()
    """The block was left after everything was read."""
    ABANDONED = auto()
    """The block was left early."""


class _FanSignal(Enum):
    """The events that change the state."""

    ENTER = auto()
    """The block is entered."""
    ALL_TAKEN = auto()
    """No further request will be taken."""
    NONE_RUNNING = auto()
    """The last running call has ended."""
    LEAVE = auto()
    """The block is left, and the reader has received everything."""
    ABANDON = auto()
    """The block is left while calls are running, or before the reader has received everything."""
    CLEANED_UP = auto()
    """All tasks have ended, and all calls have outcomes."""


_TRANSITIONS: Mapping[_FanState, Mapping[_FanSignal, _FanState]] = {
    _FanState.NEW: {
        _FanSignal.ENTER: _FanState.STARTING,
    },
    _FanState.STARTING: {
        _FanSignal.ALL_TAKEN: _FanState.DRAINING,
        _FanSignal.ABANDON: _FanState.LEAVING,
    },
    _FanState.DRAINING: {
        _FanSignal.NONE_RUNNING: _FanState.ENDED,
        _FanSignal.ABANDON: _FanState.LEAVING,
    },
    _FanState.ENDED: {
        _FanSignal.LEAVE: _FanState.CLOSED,
        _FanSignal.ABANDON: _FanState.LEAVING,
    },
    _FanState.LEAVING: {
        _FanSignal.CLEANED_UP: _FanState.ABANDONED,
    },
    _FanState.CLOSED: {},
    _FanState.ABANDONED: {},
}
"""The next state. A signal that is not in a state's row leaves the state unchanged."""

_ALL_ENDED = frozenset({_FanState.ENDED, _FanState.CLOSED, _FanState.ABANDONED})
_READ_TO_THE_END = frozenset({_FanState.ENDED, _FanState.CLOSED})
_OPEN = frozenset({_FanState.STARTING, _FanState.DRAINING, _FanState.ENDED})


class Answering(Protocol):
    """The response of a call, received inside a block: the common part of ``ResponseStream`` and ``Turn``."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def batch(self) -> list[StreamEvent]:
        """Receive the events of the next network read; empty at the end."""
        ...

    async def collect(self) -> AIModelCallResponse:
        """Receive the whole response without delivering its events."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the whole response was received."""
        ...

    @property
    def response(self) -> AIModelCallResponse:
        """The complete response."""
        ...

    @property
    def partial(self) -> AIModelCallResponse:
        """The response received so far."""
        ...


class Opener(Protocol[Opened]):
    """Prepares the calls of the caller's requests."""

    def key(self, item: Opened) -> Hashable:
        """Return the caller's key of a request."""
        ...

    def open(self, item: Opened, *, index: int, stream: bool) -> Answering:
        """Prepare the call of a request; nothing is sent yet.

        Args:
            item: The request.
            index: Its position, from 0.
            stream: Whether the events of the call will be read.
        """
        ...


def _taken() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class _RunningCall:
    """A call that has been started and has not ended.

    Attributes:
        index: Position of its request, from 0.
        key: The caller's key of the request.
        scope: Cancels this call alone.
        taken: Set while none of its batches is in the reader's queue.
    """

    index: int
    key: Hashable
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    taken: asyncio.Event = field(default_factory=_taken)


@dataclass(slots=True)
class _Tally:
    """Outcomes and counts of calls.

    Attributes:
        total: Number of requests; None = not known.
        keeps_outcomes: Whether outcomes are stored.
        started: Number of requests taken.
        done: Number of calls with a complete response.
        failed: Number of calls that ended without one.
        outcomes: Outcomes by the position of their requests.
    """

    total: int | None
    keeps_outcomes: bool
    started: int = 0
    done: int = 0
    failed: int = 0
    outcomes: dict[int, Outcome] = field(default_factory=dict[int, Outcome])

    def next_index(self) -> int:
        """Count one more request; return its position."""
        self.started += 1
        return self.started - 1

    def add(self, outcome: Outcome) -> None:
        """Count the outcome of a call."""
        if outcome.response is not None:
            self.done += 1
        else:
            self.failed += 1
        if self.keeps_outcomes:
            self.outcomes[outcome.index] = outcome

    @property
    def progress(self) -> FanOutProgress:
        """The counts as a value."""
        ended = self.done + self.failed
        waiting = None if self.total is None else max(0, self.total - max(self.started, ended))
        return FanOutProgress(self.total, waiting, max(0, self.started - ended), self.done, self.failed)


class Fan(Generic[Item]):
    """Runs many calls in one task group; see the module. ``FanOut``, ``Completions`` and ``TurnFanOut`` wrap it.

    Args:
        items: The caller's requests, taken one by one as calls end.
        opener: Prepares their calls.
        limit: Highest number of running calls; None = no limit.
        on_progress: Called when a call starts and when it ends.
        delivers: The kind of items that the reader receives while the calls run.
        keeps_outcomes: Whether outcomes are stored for ``results``.
        observers: Are told when the fan-out starts and ends.

    Raises:
        ConfigurationError: ``limit`` is below 1, or ``items`` is a text or not iterable.
    """

    def __init__(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        opener: Opener[Item],
        *,
        limit: int | None,
        on_progress: Callable[[FanOutProgress], object] | None,
        delivers: DeliveryMode,
        keeps_outcomes: bool = True,
        observers: Sequence[Observer] = (),
    ) -> None:
        if limit is not None and limit < 1:
            raise ConfigurationError("limit is the number of calls that run at once: 1 or more, or None for no limit")
        _check_iterable(items)
        self._items = items
        self._opener = opener
        self._limit = limit
        self._on_progress = on_progress
        self._delivers: DeliveryMode = delivers
        self._state = _FanState.NEW
        self._requests: Iterator[Item] | AsyncIterator[Item] = iter(())
        self._tasks: TaskGroup | None = None
        self._starter_scope: anyio.CancelScope | None = None  # made in ``enter``: anyio needs a running loop for it
        self._running: dict[int, _RunningCall] = {}
        self._cancelled_early: set[int] = set()  # positions of requests cancelled before they were taken
        self._tally = _Tally(len(items) if isinstance(items, Sized) else None, keeps_outcomes)
        self._queue: deque[tuple[_RunningCall | None, TaggedBatch]] = deque()  # for the reader
        self._unread: deque[TaggedEvent] = deque()  # of the batch taken last, where events are read one by one
        self._changed = asyncio.Event()  # wakes the reader
        self._freed = asyncio.Event()  # wakes the task that starts calls
        self._observed = ObservedFanOut(observers)
        self._fault: BaseException | None = None  # error of the caller's iterable or hook, raised to the reader

    # ------------------------------------------------------------------------------------------------ the block

    async def enter(self) -> None:
        """Start the calls.

        Raises:
            StreamStateError: The block was entered before.
        """
        if self._state is not _FanState.NEW:
            raise StreamStateError("a fan-out is run once; make another")
        items = self._items
        self._requests = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._advance(_FanSignal.ENTER)
        self._observed.start(self._tally.total)
        scope = self._starter_scope = anyio.CancelScope()
        tasks = self._tasks = await anyio.create_task_group().__aenter__()
        tasks.start_soon(self._start_calls, scope)

    async def leave(self, exc: BaseException | None) -> None:
        """Cancel the running calls and wait until their tasks have ended.

        Args:
            exc: The exception that leaves the block; None where the block was completed.

        Raises:
            Exception: Raised by the caller's iterable of requests or progress hook; only if ``exc`` is None.
        """
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            return
        all_ended, all_read = self.over, self.over and not self._queue and not self._unread
        self._advance(_FanSignal.LEAVE if all_read else _FanSignal.ABANDON)
        try:
            tasks.cancel_scope.cancel()
            # without the reader's exception, which the task group would wrap in an exception group
            await tasks.__aexit__(None, None, None)
        finally:
            self._delivers = "nothing"
            self._queue.clear()
            self._unread.clear()
            for call in self._running.values():  # tasks that were cancelled before their first step
                self._record_not_started(call.index, call.key)
            self._running.clear()
            self._record_remaining_requests()
            self._advance(_FanSignal.CLEANED_UP)
            self._report_end(exc, all_ended=all_ended)
        if exc is None and self._fault is not None:
            raise self._fault

    def _report_end(self, exc: BaseException | None, *, all_ended: bool) -> None:
        """Report to observers that the fan-out has ended.

        Args:
            exc: The exception that leaves the block; None where the block was completed.
            all_ended: Whether every call had ended before the block was left.
        """
        outcome: CallOutcome = "left"
        if self._fault is not None:
            outcome = "failed"
        elif isinstance(exc, asyncio.CancelledError):  # its calls may have ended before, by the same cancellation
            outcome = "cancelled"
        elif all_ended:
            outcome = "complete"
        error = None if outcome == "complete" else self._fault or exc
        self._observed.end(complete=self._tally.done, failed=self._tally.failed, outcome=outcome, error=error)

    def _advance(self, signal: _FanSignal) -> None:
        self._state = _TRANSITIONS[self._state].get(signal, self._state)

    # ------------------------------------------------------------------------------------------------ the reader

    async def event(self) -> TaggedEvent:
        """Receive the next event; raises like ``batch``, and ``StopAsyncIteration`` when all calls have ended."""
        unread = self._unread
        while not unread:
            batch = await self.batch()
            if batch is None:
                raise StopAsyncIteration
            unread.extend([TaggedEvent(batch.index, batch.key, event) for event in batch.events])
        return unread.popleft()

    async def batch(self) -> TaggedBatch | None:
        """Receive the next batch in order of arrival; None when all calls have ended.

        Raises:
            StreamStateError: The block was not entered, or was left early.
            Exception: Raised by the caller's iterable of requests or progress hook.
        """
        unread = self._unread
        if unread:
            rest = TaggedBatch(unread[0].index, unread[0].key, tuple(tagged.event for tagged in unread))
            unread.clear()
            return rest
        queue = self._queue
        while not queue:
            if not await self._wait_for_change():
                return None
        call, batch = queue.popleft()
        if call is not None:
            call.taken.set()
        return batch

    def deliver_nothing(self) -> None:
        """Deliver neither events nor outcomes; called before the block is entered."""
        self._delivers = "nothing"

    async def collect(self) -> None:
        """Wait until all calls have ended, and stop delivering events and outcomes; raises like ``batch``."""
        self._delivers = "nothing"
        self._queue.clear()
        self._unread.clear()
        for call in self._running.values():
            call.taken.set()
        while await self._wait_for_change():
            pass

    async def _wait_for_change(self) -> bool:
        """Wait for the next batch or the next end of a call; False where neither will come."""
        if self._fault is not None:
            raise self._fault
        if self._state in _READ_TO_THE_END:
            return False
        if self._state not in _OPEN:
            raise StreamStateError("many calls are read inside their block: async with fan_out(…) as fan")
        self._changed.clear()
        await self._changed.wait()
        return True

    @property
    def over(self) -> bool:
        """Whether every call has ended."""
        return self._state in _ALL_ENDED

    @property
    def results(self) -> list[Outcome]:
        """Outcomes of all calls, in the order of the requests.

        Raises:
            StreamStateError: Some calls have not ended.
        """
        if not self.over:
            raise StreamStateError("not all calls have ended; results are available after the loop or the block")
        outcomes = self._tally.outcomes
        return [outcomes[index] for index in sorted(outcomes)]

    def outcome(self, index: int) -> Outcome | None:
        """Return the outcome of call ``index``; None if it has not ended."""
        return self._tally.outcomes.get(index)

    @property
    def progress(self) -> FanOutProgress:
        """The numbers of waiting, running and ended calls."""
        return self._tally.progress

    def cancel(self, index: int | None = None) -> None:
        """Cancel one call, or all calls and further requests; ended calls keep their outcomes."""
        if index is not None:
            if index in self._running:
                self._running[index].scope.cancel()
            elif index >= self._tally.started:
                self._cancelled_early.add(index)
            return
        if self._starter_scope is not None:
            self._starter_scope.cancel()
        for call in self._running.values():
            call.scope.cancel()

    # ------------------------------------------------------------------------------------------------ the tasks

    async def _start_calls(self, scope: anyio.CancelScope) -> None:
        """Task: start calls as long as there are requests and free places; ``scope`` cancels it."""
        try:
            with scope:
                await self._take_requests()
        except Exception as exc:  # noqa: BLE001 - an error of the caller's iterable, which the reader gets
            self._fault = self._fault or exc
            self._requests = iter(())
        finally:
            if self._state is _FanState.STARTING:  # else ``leave`` does this when all tasks have ended
                self._record_remaining_requests()
            self._advance(_FanSignal.ALL_TAKEN)
            self._note_end_of_call()

    async def _take_requests(self) -> None:
        requests = self._requests
        while self._fault is None and self._state is _FanState.STARTING:
            if self._limit is not None and len(self._running) >= self._limit:
                self._freed.clear()
                await self._freed.wait()
                continue
            try:
                item = await anext(requests) if isinstance(requests, AsyncIterator) else next(requests)
            except (StopIteration, StopAsyncIteration):
                self._tally.total = self._tally.started
                return
            self._start(item)
            if self._tally.started % _STARTS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _start(self, item: Item) -> None:
        index = self._tally.next_index()
        key = self._opener.key(item)
        if index in self._cancelled_early:
            self._cancelled_early.discard(index)
            self._record_not_started(index, key)
        elif self._tasks is not None:
            call = self._running[index] = _RunningCall(index, key)
            self._tasks.start_soon(self._run, call, item)
            self._report_progress()

    async def _run(self, call: _RunningCall, item: Item) -> None:
        """Task: run one call until the reader has taken its outcome."""
        answering: Answering | None = None
        error: Exception | None = None
        try:
            try:
                with call.scope, self._observed.calling():
                    if self._state in _OPEN and not call.scope.cancel_called:
                        stream = self._delivers == "events"
                        answering = self._opener.open(item, index=call.index, stream=stream)
                        async with answering:
                            await (self._relay(call, answering) if stream else answering.collect())
            except Exception as exc:  # noqa: BLE001 - any error of the call or of a caller's hook is this call's outcome
                error = exc
            finally:
                outcome = self._record_end(call, answering, error)
            await self._put(call, TaggedBatch(call.index, call.key, (), outcome))
            await call.taken.wait()
        finally:
            del self._running[call.index]
            self._freed.set()
            self._note_end_of_call()

    def _note_end_of_call(self) -> None:
        if not self._running:
            self._advance(_FanSignal.NONE_RUNNING)
        self._changed.set()

    async def _relay(self, call: _RunningCall, answering: Answering) -> None:
        while events := await answering.batch():
            await self._put(call, TaggedBatch(call.index, call.key, events))

    async def _put(self, call: _RunningCall, batch: TaggedBatch) -> None:
        """Queue ``batch`` for the reader, after the reader has taken the call's previous batch."""
        if not call.taken.is_set():
            await call.taken.wait()
        if self._delivers == "nothing" or (self._delivers == "outcomes" and batch.outcome is None):
            return
        call.taken.clear()
        self._queue.append((call, batch))
        self._changed.set()

    # ------------------------------------------------------------------------------------------------ outcomes

    def _record_end(self, call: _RunningCall, answering: Answering | None, error: Exception | None) -> Outcome:
        """Record the outcome of a call that ended with ``error``, or without one."""
        response: AIModelCallResponse | None = None
        try:
            if error is None and answering is not None and answering.complete:
                response = answering.response
        except Exception as exc:  # noqa: BLE001 - building the response failed: this call's outcome as well
            error = exc
        cancelled = response is None and error is None
        outcome = Outcome(
            call.index,
            call.key,
            response,
            _cancelled() if cancelled else error,
            None if response is not None else _partial(answering),
            cancelled,
        )
        self._record(outcome)
        return outcome

    def _record(self, outcome: Outcome) -> None:
        self._tally.add(outcome)
        self._report_progress()

    def _record_not_started(self, index: int, key: Hashable) -> None:
        """Record the outcome of a call that was cancelled before it was started."""
        outcome = Outcome(index, key, error=_cancelled(), cancelled=True)
        self._record(outcome)
        if self._delivers != "nothing":
            self._queue.append((None, TaggedBatch(index, key, (), outcome)))
            self._changed.set()

    def _record_remaining_requests(self) -> None:
        """Record an outcome for each request that was not taken, if their number is finite."""
        requests = self._requests
        if isinstance(self._items, Sized) and isinstance(requests, Iterator):
            for item in requests:
                self._record_not_started(self._tally.next_index(), self._opener.key(item))
        self._requests = iter(())

    def _report_progress(self) -> None:
        if self._on_progress is None or self._fault is not None:
            return
        try:
            self._on_progress(self.progress)
        except Exception as exc:  # noqa: BLE001 - an error of the caller's hook, which the reader gets
            self._fault = exc
            self._changed.set()


def _check_iterable(items: object) -> None:
    if isinstance(items, str | bytes) or not isinstance(items, Iterable | AsyncIterable):
        raise ConfigurationError("requests is a sequence, an iterable or an async iterable of calls")


def _partial(answering: Answering | None) -> AIModelCallResponse | None:
    try:
        return None if answering is None else answering.partial
    except Exception:  # noqa: BLE001 - the call's own error is reported already
        return None


def _cancelled() -> StreamStateError:
    return StreamStateError("the call was cancelled; .partial has what was received")
