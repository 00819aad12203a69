"""``TurnReader``: replays the events of a turn from a cursor, and follows it while it is answered."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import DhenaraError, StreamStateError
from dhenara_async.events import StreamEvent, StreamReset, StreamStart
from dhenara_async.turns.log import TurnLog

_RESET: Final = "the cursor is not one of this turn as it is kept; the turn follows whole"
_LATE_SECONDS: Final = 2.0


class TurnReader:
    """Reads a turn from a cursor: first what came before, then what comes. ``async with manager.attach(…) as reader``.

    Leaving the block never ends the turn.

    Args:
        find: The log, or a function that returns it and may raise ``UnknownTurnError``.
        release: Called with the log when the block is left.
        cursor: Where an earlier reader of this turn was; None = from the beginning.
    """

    def __init__(
        self,
        find: TurnLog | Callable[[], Awaitable[TurnLog]],
        release: Callable[[TurnLog], None],
        cursor: str | None = None,
    ) -> None:
        self._find = find
        self._release = release
        self._from = cursor
        self._log: TurnLog | None = None
        self._left = False
        self._seq = 0
        self._resets = False

    def go_on_from(self, cursor: str) -> None:
        """Set the cursor before the block begins, unless ``attach`` was given one."""
        if self._from is None:
            self._from = cursor

    @property
    def goes_on(self) -> bool:
        """Whether it reads from a cursor: there may be nothing more to read then."""
        return self._from is not None

    @property
    def waits(self) -> bool:
        """Whether nothing of the turn is there to read yet."""
        log = self._demand_log()
        return log.ended_at is None and self._seq >= len(log.events)

    async def __aenter__(self) -> Self:
        log = self._log = self._find if isinstance(self._find, TurnLog) else await self._find()
        self._left = False
        if self._from is not None:
            turn_id, _, place = str(self._from).rpartition(".")  # it often comes from a client, maybe as a number
            known = turn_id == f"{log.turn_id}.{log.epoch}" and place.isascii() and place.isdecimal()
            try:
                has = known and len(place) < 19 and await self._has(log, int(place))
            except BaseException:  # it is cancelled while it waits
                self._leave(log)
                raise
            if has:
                self._seq = int(place)
            else:
                self._resets = True
        return self

    async def _has(self, log: TurnLog, place: int) -> bool:
        """Whether the log has that many events. Those of another process come a moment later than its own readers had
        them; what was lost with that process never comes."""
        if log.is_copy and log.ended_at is None and place > len(log.events):
            try:
                async with asyncio.timeout(_LATE_SECONDS):
                    while place > len(log.events) and log.ended_at is None:
                        await log.wait()
            except TimeoutError:
                pass
        return place <= len(log.events)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._log is not None and not self._left:
            self._leave(self._log)

    def _leave(self, log: TurnLog) -> None:
        self._left = True
        self._release(log)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        log = self._demand_log()
        if self._left:
            raise StreamStateError("the events of a turn are read within the block of manager.attach(…); attach again")
        while self._seq >= len(log.events):
            if log.ended_at is not None:
                if self._resets and not log.events:
                    self._resets = False
                    return StreamReset(_RESET)
                self._end(log)
            await log.wait()
        event = log.events[self._seq]
        self._seq += 1
        if self._resets:
            self._resets = False
            if isinstance(event, StreamStart):
                return StreamReset(_RESET, event)
            self._seq -= 1  # a tool loop begins with a step or a call
            return StreamReset(_RESET)
        return event

    async def batch(self) -> list[StreamEvent]:
        """Return every event that is there, at least one; empty at the end. Cheaper than single events."""
        try:
            first = await self.__anext__()
        except StopAsyncIteration:
            return []
        log = self._demand_log()
        rest, self._seq = log.events[self._seq :], len(log.events)
        return [first, *rest]

    def before(self) -> list[StreamEvent]:
        """Return the events up to the cursor that it goes on from; empty if it reads from the beginning."""
        return self._demand_log().events[: self._seq]

    @property
    def turn_id(self) -> str:
        """The id of the turn."""
        return self._demand_log().turn_id

    @property
    def conversation_id(self) -> str:
        """The id of the conversation that the turn belongs to."""
        return self._demand_log().conversation_id

    @property
    def cursor(self) -> str:
        """Where this reader is: pass it to ``manager.attach`` to go on after the last event that was read.

        It ends in a dot and the number of the turn's events up to there.
        """
        log = self._demand_log()
        return f"{log.turn_id}.{log.epoch}.{self._seq}"

    @property
    def node(self) -> ConversationNode:
        """The finished turn; also after the block.

        Raises:
            StreamStateError: It was not over when the block was left.
        """
        node = self._demand_log().node
        if node is None:
            raise StreamStateError("the turn is not over; its node is there when its events have ended")
        return node

    def _demand_log(self) -> TurnLog:
        if self._log is None:
            raise StreamStateError("a turn is attached to in a block: async with manager.attach(…) as reader")
        return self._log

    def _end(self, log: TurnLog) -> None:
        """Raise the error of the turn, or stop the iteration."""
        if log.is_complete:
            raise StopAsyncIteration
        if isinstance(log.failure, DhenaraError):
            raise log.failure
        reason = "it failed" if log.node is None else log.node.error or "it was left while its tools ran"
        raise StreamStateError(f"turn {log.turn_id} ended before its answer was complete: {reason}")
