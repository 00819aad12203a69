"""Many calls in one scope, with one reader.

A task hands over what one network read has brought, all of it at once, and reads on; when it has the next, it waits
until the reader has taken the last. So a slow reader holds up every call after two reads, the sockets fill up, and the
hosts wait: memory is bounded by the calls in flight, not by what they say. Where the reader keeps up, a task never
waits for it, and there are no switches between tasks beside those that the network makes.

The task group is open around the reader's block, and is never told of an exception in there: it would put it into a
group. For the same reason no task of ours ever fails: what a call meets is its outcome.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Literal, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from dhenara_async.errors import ConfigurationError, StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.fanout.values import FanOutProgress, Outcome, TaggedBatch, TaggedEvent
from dhenara_async.response import AIModelCallResponse

_AT_ONCE = 16  # calls that are begun before those under way get their turn again

Item = TypeVar("Item")
Opened = TypeVar("Opened", contravariant=True)
Hands = Literal["events", "outcomes", "nothing"]
"""What the reader is given as it comes."""


class Answering(Protocol):
    """An answer to be received inside a block: what a ``ResponseStream`` and a ``Turn`` have in common."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def batch(self) -> list[StreamEvent]:
        """The events of the next network read; empty at the end."""
        ...

    async def collect(self) -> AIModelCallResponse:
        """The whole answer, without handing it over piece by piece."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come."""
        ...

    @property
    def response(self) -> AIModelCallResponse:
        """The complete answer."""
        ...

    @property
    def partial(self) -> AIModelCallResponse:
        """The answer as far as it has come."""
        ...


class Opener(Protocol[Opened]):
    """Makes calls of a caller's items."""

    def key(self, item: Opened) -> Hashable:
        """The caller's own name for the call."""
        ...

    def open(self, item: Opened, *, index: int, streamed: bool) -> Answering:
        """The call, prepared; nothing is sent yet.

        Args:
            item: What the caller gave.
            index: Its place, from 0.
            streamed: Whether its events are wanted as they come.
        """
        ...


@dataclass(slots=True)
class _Running:
    """A call under way.

    Attributes:
        index: Its place.
        key: The caller's name for it.
        scope: Ends it, and nothing else.
        pending: Whether something that it handed over waits for the reader.
        taken: Set when nothing of it does.
    """

    index: int
    key: Hashable
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    pending: bool = False
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class Fan(Generic[Item]):
    """Runs many calls in one scope; see the module. The rooms above put a face of their own on it.

    Args:
        items: The caller's requests, taken one by one as there is room.
        opener: Makes calls of them.
        limit: How many are in flight at once; None = all.
        on_progress: Told when a call begins and when it ends.
        hands: What the reader is given as it comes.
        keeps: Whether outcomes are kept for ``results``.

    Raises:
        ConfigurationError: ``limit`` is below 1, or ``items`` is a text.
    """

    def __init__(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        opener: Opener[Item],
        *,
        limit: int | None,
        on_progress: Callable[[FanOutProgress], object] | None,
        hands: Hands,
        keeps: bool = True,
    ) -> None:
        if limit is not None and limit < 1:
            raise ConfigurationError("limit is how many calls are in flight at once: 1 or more, or None for all")
        _check_iterable(items)
        self._items = items
        self._opener = opener
        self._limit = limit
        self._on_progress = on_progress
        self._hands: Hands = hands
        self._keeps = keeps
        self._total = len(items) if isinstance(items, Sized) else None
        self._source: Iterator[Item] | AsyncIterator[Item] | None = None
        self._tasks: TaskGroup | None = None
        self._pump_scope: anyio.CancelScope | None = None
        self._begun = self._done = self._failed = 0
        self._running: dict[int, _Running] = {}
        self._withdrawn: set[int] = set()  # cancelled before they were begun
        self._outcomes: dict[int, Outcome] = {}
        self._ready: deque[tuple[_Running | None, TaggedBatch]] = deque()
        self._events: deque[StreamEvent] = deque()  # of what was taken last, where events are read one by one
        self._tag: tuple[int, Hashable] = 0, None
        self._news = asyncio.Event()  # for the reader
        self._freed = asyncio.Event()  # for the pump
        self._fault: BaseException | None = None  # of the caller's requests or hook, to be raised to the reader
        self._pumped = self._left = self._cut = False

    # ------------------------------------------------------------------------------------------------ the block

    async def enter(self) -> None:
        """Begin: the calls are made from here on."""
        if self._source is not None or self._left:
            raise StreamStateError("a fan-out is run once; make another")
        items = self._items
        self._source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._pump_scope = anyio.CancelScope()
        tasks = self._tasks = await anyio.create_task_group().__aenter__()
        tasks.start_soon(self._pump)

    async def leave(self, exc: BaseException | None) -> None:
        """Cancel what is left and wait for its end.

        Args:
            exc: Why the block is left; None where it has come to its end. It goes on as it is, in no group.
        """
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            return
        self._left, self._cut = True, not self.over or bool(self._ready or self._events)
        try:
            tasks.cancel_scope.cancel()
            # not told of the reader's exception, which it would put into a group
            await tasks.__aexit__(None, None, None)
        finally:
            self._hands = "nothing"  # nobody reads any more
            self._ready.clear()
            self._events.clear()
            for running in self._running.values():  # their tasks were cancelled before their first step
                self._never_begun(running.index, running.key)
            self._running.clear()
            self._withdraw_rest()
            self._pumped = True
        if exc is None and self._fault is not None:
            raise self._fault

    # ------------------------------------------------------------------------------------------------ the reader's side

    async def event(self) -> TaggedEvent:
        """The next event; raises as ``batch`` does, and ``StopAsyncIteration`` when all calls have ended."""
        events = self._events
        while not events:
            batch = await self.batch()
            if batch is None:
                raise StopAsyncIteration
            self._tag = batch.index, batch.key
            events.extend(batch.events)
        index, key = self._tag
        return TaggedEvent(index, key, events.popleft())

    async def batch(self) -> TaggedBatch | None:
        """What is next in order of arrival; None when all calls have ended.

        Raises:
            StreamStateError: The block has not been entered, or was left before the end.
            Exception: What the caller's requests or progress hook raised.
        """
        if self._events:
            index, key = self._tag
            events = tuple(self._events)
            self._events.clear()
            return TaggedBatch(index, key, events)
        ready = self._ready
        while not ready:
            if not await self._more():
                return None
        running, batch = ready.popleft()
        if running is not None:
            running.pending = False
            running.taken.set()
        return batch

    def hand_over_nothing(self) -> None:
        """Said before the block: nobody wants to read."""
        self._hands = "nothing"

    async def collect(self) -> None:
        """Wait for the end of all calls, and hand over nothing any more; raises as ``batch`` does."""
        self._hands = "nothing"
        self._ready.clear()
        self._events.clear()
        for running in self._running.values():
            running.pending = False
            running.taken.set()
        while await self._more():
            pass

    async def _more(self) -> bool:
        """Wait until something has happened; False if nothing will."""
        if self._fault is not None:
            raise self._fault
        if self.over and not self._cut:
            return False
        if self._tasks is None:
            raise StreamStateError("many calls are read inside their block: async with fan_out(…) as fan")
        self._news.clear()
        await self._news.wait()
        return True

    @property
    def over(self) -> bool:
        """Whether every call has ended."""
        return self._pumped and not self._running

    @property
    def results(self) -> list[Outcome]:
        """How each call ended, in the order of the requests.

        Raises:
            StreamStateError: They have not all ended.
        """
        if not self.over:
            raise StreamStateError("not all calls have ended; their results are there when the loop or the block has")
        return [self._outcomes[index] for index in sorted(self._outcomes)]

    def outcome(self, index: int) -> Outcome | None:
        """How call ``index`` ended; None if it has not."""
        return self._outcomes.get(index)

    @property
    def progress(self) -> FanOutProgress:
        """How far it has come."""
        total, ended = self._total, self._done + self._failed
        waiting = None if total is None else max(0, total - max(self._begun, ended))
        return FanOutProgress(total, waiting, max(0, self._begun - ended), self._done, self._failed)

    def cancel(self, index: int | None = None) -> None:
        """Cancel one call, or all; those that have ended are not touched."""
        if index is not None:
            if index in self._running:
                self._running[index].scope.cancel()
            elif index >= self._begun:
                self._withdrawn.add(index)
            return
        if self._pump_scope is not None:
            self._pump_scope.cancel()
        for running in self._running.values():
            running.scope.cancel()

    # ------------------------------------------------------------------------------------------------ the calls' side

    async def _pump(self) -> None:
        """Begin calls as long as there are requests and room."""
        try:
            with self._pump_scope or anyio.CancelScope():
                await self._begin_all()
        except Exception as exc:  # noqa: BLE001 - the requests are the caller's code: what it raises, the reader gets
            self._fault = self._fault or exc
            self._source = iter(())
        finally:
            if not self._left:  # else whoever leaves does it, when all tasks have ended
                self._withdraw_rest()
            self._pumped = True
            self._news.set()

    async def _begin_all(self) -> None:
        source = self._source
        while self._fault is None and not self._left:
            if self._limit is not None and len(self._running) >= self._limit:
                self._freed.clear()
                await self._freed.wait()
                continue
            try:
                item = await anext(source) if isinstance(source, AsyncIterator) else next(source or iter(()))
            except (StopIteration, StopAsyncIteration):
                self._total = self._begun
                return
            self._begin(item)
            if self._begun % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _begin(self, item: Item) -> None:
        index, self._begun = self._begun, self._begun + 1
        key = self._opener.key(item)
        if index in self._withdrawn:
            self._withdrawn.discard(index)
            self._never_begun(index, key)
        elif self._tasks is not None:
            running = self._running[index] = _Running(index, key)
            self._tasks.start_soon(self._run, running, item)
            self._tell()

    async def _run(self, running: _Running, item: Item) -> None:
        """One call, from its beginning until the reader has its outcome."""
        stream: Answering | None = None
        error: Exception | None = None
        try:
            try:
                with running.scope:
                    if not (self._left or running.scope.cancel_called):
                        streamed = self._hands == "events"
                        stream = self._opener.open(item, index=running.index, streamed=streamed)
                        async with stream:
                            await (self._relay(running, stream) if streamed else stream.collect())
            except Exception as exc:  # noqa: BLE001 - ours, or of a hook of the caller's: it is the outcome of this call
                error = exc
            finally:
                outcome = self._ended(running, stream, error)
            await self._hand(running, TaggedBatch(running.index, running.key, (), outcome))
            await self._taken(running)
        finally:
            del self._running[running.index]
            self._freed.set()
            self._news.set()

    async def _relay(self, running: _Running, stream: Answering) -> None:
        while events := await stream.batch():
            await self._hand(running, TaggedBatch(running.index, running.key, events))

    async def _hand(self, running: _Running, batch: TaggedBatch) -> None:
        """Hand over, once the reader has taken what was handed over before."""
        if running.pending:
            await self._taken(running)
        if self._hands == "nothing" or (self._hands == "outcomes" and batch.outcome is None):
            return
        running.pending = True
        self._ready.append((running, batch))
        self._news.set()

    async def _taken(self, running: _Running) -> None:
        while running.pending:
            running.taken.clear()
            await running.taken.wait()

    def _ended(self, running: _Running, stream: Answering | None, error: Exception | None) -> Outcome:
        index, key = running.index, running.key
        response: AIModelCallResponse | None = None
        try:
            if error is None and stream is not None and stream.complete:
                response = stream.response
        except Exception as exc:  # noqa: BLE001 - what the answer cannot be made into is this call's affair too
            error = exc
        cancelled = response is None and error is None
        outcome = Outcome(
            index,
            key,
            response,
            _cancelled() if cancelled else error,
            None if response is not None else _partial(stream),
            cancelled,
        )
        self._note(outcome)
        return outcome

    def _note(self, outcome: Outcome) -> None:
        if outcome.response is not None:
            self._done += 1
        else:
            self._failed += 1
        if self._keeps:
            self._outcomes[outcome.index] = outcome
        self._tell()

    def _never_begun(self, index: int, key: Hashable) -> None:
        outcome = Outcome(index, key, error=_cancelled(), cancelled=True)
        self._note(outcome)
        if self._hands != "nothing":
            self._ready.append((None, TaggedBatch(index, key, (), outcome)))
            self._news.set()

    def _withdraw_rest(self) -> None:
        """Requests that will not be begun, where there is an end to them: a result for each."""
        if isinstance(self._items, Sized) and isinstance(self._source, Iterator):
            for item in self._source:
                index, self._begun = self._begun, self._begun + 1
                self._never_begun(index, self._opener.key(item))
        self._source = iter(())

    def _tell(self) -> None:
        if self._on_progress is None or self._fault is not None:
            return
        try:
            self._on_progress(self.progress)
        except Exception as exc:  # noqa: BLE001 - the hook is the caller's: what it raises is raised to the reader
            self._fault = exc
            self._news.set()


def _check_iterable(items: object) -> None:
    if isinstance(items, str | bytes) or not isinstance(items, Iterable | AsyncIterable):
        raise ConfigurationError("requests is a sequence of calls, or anything else that gives one after another")


def _partial(stream: Answering | None) -> AIModelCallResponse | None:
    try:
        return None if stream is None else stream.partial
    except Exception:  # noqa: BLE001 - it failed for a reason that is told already
        return None


def _cancelled() -> StreamStateError:
    return StreamStateError("the call was cancelled; .partial has what had come")
