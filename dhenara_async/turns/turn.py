"""``Turn``: one turn of a conversation while it is answered.

Every turn leaves a node: complete, interrupted with the partial answer, or failed. The instructions of a turn are sent
with that turn only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Protocol, Self

import anyio
from pydantic import JsonValue

from dhenara_async.calls.loop import LoopStream
from dhenara_async.calls.records import LoopOutcome
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.calls.text import TextStream
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import (
    ConfigurationError,
    DeadlineError,
    DhenaraError,
    StoreError,
    StreamStateError,
    UnknownTurnError,
)
from dhenara_async.events import StreamEvent
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import short_repr
from dhenara_async.messages.attachments import Attached
from dhenara_async.messages.messages import Origin
from dhenara_async.response import AIModelCallResponse, CallWarning
from dhenara_async.stores import ConversationStore, NewTurn
from dhenara_async.turns.followed import FollowedStream, LeftStream, detached
from dhenara_async.turns.follower import log_of_node
from dhenara_async.turns.keeping import STORE_SECONDS, counted, described, keep
from dhenara_async.turns.live import LiveTurns
from dhenara_async.turns.log import TurnLog
from dhenara_async.turns.opener import TurnOpener
from dhenara_async.turns.queue import TurnQueue
from dhenara_async.turns.reader import TurnReader
from dhenara_async.usage.budget import Reservation

logger: logging.Logger = logging.getLogger("dhenara_async")

CANCELLED = "the turn was cancelled"
"""The ``error`` of a node whose turn was cancelled, and the end of the error that its readers get."""

_ADVICE = "a turn is read inside its block: async with manager.turn(…) as turn"
_ONCE = (
    "a turn is asked once, and turn.node is its node: make another turn, or read this one with manager.attach(turn.id)"
)

Reserve = Callable[[TurnOpener], Sequence[Reservation]]
"""Reserves the expected tokens and cost of a turn in every budget that counts it."""
LoadDraft = Callable[[], Awaitable[tuple[ConversationNode, Attached | None]]]
"""Loads the turns before a turn, and returns its draft, and its files if some are still to be read from disk."""


class _Readable(Protocol):
    """Where a turn reads its events."""

    async def __anext__(self) -> StreamEvent: ...

    async def batch(self) -> list[StreamEvent]: ...


class _Unread:
    """The stream of a turn whose block was not entered yet.

    Args:
        turn: The turn.
    """

    def __init__(self, turn: "Turn") -> None:
        self._turn = turn

    async def __anext__(self) -> StreamEvent:
        return await self._turn._stream.__anext__()  # pyright: ignore[reportPrivateUsage] - a part of the turn

    async def batch(self) -> list[StreamEvent]:
        return await self._turn._stream.batch()  # pyright: ignore[reportPrivateUsage] - as above


class Turn:
    """One turn while it is answered: iterate it inside ``async with``; ``node`` is the finished turn afterwards.

    ``await`` it for the node alone; that raises the error of a turn that fails, whose node is kept all the same.

    A read that is cancelled can be repeated and loses nothing, as with ``ResponseStream``.

    Args:
        conversation: Where its node goes.
        draft: The turn as far as it is known.
        opener: Makes the opener of the stream from the complete draft; None in a loop, whose steps are turns.
        reserve: Reserves budget before anything is sent; may refuse. None in a loop.
        store: Keeps the node.
        unread: The files of the question, if some are still to be read from disk; else None.
        queue: The queue of the conversation's turns, which it follows one by one; None = it follows the turn that its
            draft names, beside others.
        load: Completes the draft when the turn begins; None = it is complete.
    """

    _advice = _ADVICE

    def __init__(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        opener: Callable[[ConversationNode], TurnOpener] | None = None,
        *,
        reserve: Reserve | None = None,
        store: ConversationStore,
        unread: Attached | None = None,
        queue: TurnQueue | None = None,
        load: LoadDraft | None = None,
    ) -> None:
        self._queue = queue
        self._load = load
        self._reserve = reserve
        self._keeper = store
        self._conversation = conversation
        self._draft = draft
        self._make_opener = opener
        self._unread = unread
        self._opener: TurnOpener | None = None
        self._begun = False
        self._opened: ResponseStream | LoopStream | None = None
        self._more_warnings: tuple[CallWarning, ...] = ()
        if unread is None and load is None:
            self._begin()
        self._entering: tuple[anyio.CancelScope, asyncio.Event] | None = None  # set when the block has begun, or failed
        self._reserved: Sequence[Reservation] = ()
        self._node: ConversationNode | None = None
        self._asked_at: datetime | None = None
        self._opened_at: datetime | None = None
        self._live: tuple[LiveTurns, str | None] | None = None
        self._log: TurnLog | None = None
        self._in_block = self._detached = self._cancelled = False
        self._stopped: DhenaraError | None = None  # what its reader is told, if it is ended from elsewhere
        self._ending: asyncio.Event | None = None
        self._id_given = False
        self._followed: FollowedStream | None = None
        self._from: str | None = None  # where a reader of a turn that was begun before goes on
        self._reading: _Readable = _Unread(self)

    def __repr__(self) -> str:
        status = "unfinished" if self._node is None else self._node.status
        return short_repr("Turn", (("conversation", self._conversation.id), ("status", status)))

    @property
    def _stream(self) -> ResponseStream | LoopStream:
        if self._opened is None:
            raise StreamStateError(_ADVICE)
        return self._opened

    def _begin(self) -> None:
        """Open the stream if that needs no waiting. The draft is complete."""
        if self._make_opener is not None:
            self._opener = self._make_opener(self._draft)
            self._opened = self._opener.open_now()
        if self._opened is not None:
            self._opened.advice = self._advice
        self._begun = True

    async def __aenter__(self) -> Self:
        if self._in_block or self._entering is not None or (self._opened_at is not None and not self._id_given):
            raise StreamStateError(_ONCE)
        if self._id_given and await self._follows():
            return self
        try:
            await self._enter()
            if self._live is not None:
                await self._begin_log(*self._live)
        except BaseException as exc:
            if self._queue is not None:
                self._queue.leave(self)
            self._forget(exc)
            raise
        self._in_block = self._followed is None
        return self

    def with_given_id(self) -> Self:
        """Follow the turn of the same id, if there is one, in place of answering; for the manager."""
        self._id_given = True
        return self

    def go_on_from(self, cursor: str) -> None:
        """Read on from a cursor, as ``manager.attach`` does, if the turn was begun before under this id.

        Call it before the block begins.
        """
        self._from = cursor

    @property
    def follows(self) -> bool:
        """Whether the turn was begun before under this id, so that its block reads it and asks nobody."""
        return self._followed is not None

    async def _follows(self) -> bool:
        """Follow the turn that has this id, if there is one; else take the id for this turn."""
        log = await self._known()
        if log is None:
            if self._live is not None:
                live, owner = self._live
                self._log = TurnLog(self.id, self._conversation.id, self._draft)
                live.begin(owner, self._log, self)
            return False
        await self._read_along(log)
        return True

    async def _known(self) -> TurnLog | None:
        """Return the log of the turn that has this id; None if there is none."""
        if self._live is not None:
            live, owner = self._live
            with suppress(UnknownTurnError, StoreError):  # a store that fails stops no turn
                return await live.open(owner, self._keeper, self.id)
            found = live.find(owner, self.id)  # another one may have been faster
            if found is not None:
                found.readers += 1
                return found
        node = self._conversation.get(self.id)
        return None if node is None else log_of_node(self._conversation.id, node)

    def _release(self, log: TurnLog) -> None:
        if self._live is not None:
            live, owner = self._live
            live.release(owner, log)

    def _forget(self, exc: BaseException) -> None:
        """Give up the id of a turn that could not begin."""
        if self._live is not None and self._log is not None and self._ending is None:
            live, owner = self._live
            live.discard(owner, self._log, exc)
            self._log = None

    async def _follow_instead(self, live: LiveTurns, owner: str | None, log: TurnLog) -> None:
        """Follow a turn that another process has begun under this id a moment before."""
        await self._stream.aclose()
        self._settle(None)
        if self._queue is not None:
            self._queue.leave(self)
        self._log = None
        log.readers += 1
        try:
            await live.follow_instead(owner, self._keeper, log)
            await self._read_along(log)
        except BaseException as exc:
            log.end(None, exc)
            raise

    async def _read_along(self, log: TurnLog) -> None:
        """Read a turn of this id that was begun before."""
        if log.conversation_id != self._conversation.id:
            self._release(log)
            raise ConfigurationError(f"turn {self.id!r} is in another conversation: pass another turn_id")
        reader = await TurnReader(log, self._release, self._from).__aenter__()
        self._followed = self._reading = FollowedStream(reader)

    def _follow_head(self) -> None:
        """Follow the turn that has become the head since this one was made."""
        head = self._conversation.head
        after = None if head is None else head.id
        if after == self._draft.parent_id:
            return
        if self._draft.tool_results:
            raise StreamStateError(
                f"the tool results answer turn {self._draft.parent_id}, but {after} has become the head meanwhile; "
                "write await manager.checkout(conversation, node_id) and ask again"
            )
        self._draft = self._draft.changed(parent_id=after)
        if self._begun:
            self._begin()

    async def _enter(self) -> None:
        """Wait for the turns before, prepare the call and open its stream.

        A turn that is cancelled meanwhile waits no longer. It is ended here, and not beside a preparation that goes on.

        Raises:
            StreamStateError: It was cancelled.
        """
        self._demand_not_cancelled()
        scope, over = self._entering = anyio.CancelScope(), asyncio.Event()
        try:
            with scope:
                if self._queue is not None:
                    await self._queue.enter(self)
                    self._follow_head()
                await self._prepare()
                await self._open()
            self._demand_not_cancelled()
        except BaseException as exc:
            if self._stopped is not None:
                await self._end(exc)
            raise
        finally:
            self._entering = None
            over.set()
        self._reading = self._stream

    async def _prepare(self) -> None:
        """Complete the draft and make the opener."""
        self._asked_at = datetime.now(UTC)
        if not self._begun:
            if self._load is not None:
                self._draft, self._unread = await self._load()
                self._load = None
            if self._unread is not None:
                self._draft = self._draft.changed(attached_files=tuple(await self._unread.read_in_thread()))
            self._begin()

    async def _open(self) -> None:
        """Reserve budget and enter the stream."""
        opener = self._opener
        if opener is not None:
            if self._opened is None:
                await opener.format_ahead()
            self._reserved = () if self._reserve is None else self._reserve(opener)
        try:
            if opener is not None and self._opened is None:
                self._opened = await opener.open_summarised()
            self._opened_at = datetime.now(UTC)
            await self._stream.__aenter__()
        except BaseException:
            self._settle(None)
            raise

    def _demand_not_cancelled(self) -> None:
        """Refuse to ask for a turn that was cancelled before its stream was open.

        Raises:
            StreamStateError: It was.
        """
        if self._stopped is not None:
            raise self._stopped

    async def _begin_log(self, live: LiveTurns, owner: str | None) -> None:
        """Let readers attach, and keep the turn in the store before its first request."""
        log = self._log
        if log is None:
            log = self._log = TurnLog(self.id, self._conversation.id)
            live.begin(owner, log, self)
        log.draft = self._draft
        try:
            is_new = await live.keep(log, self._keeper, self._described(log.epoch), self._conversation)
        except BaseException as exc:
            await self._end(exc)
            raise
        if not is_new:
            await self._follow_instead(live, owner, log)

    def _described(self, epoch: str) -> NewTurn:
        """Describe the turn for the store."""
        knobs = self._knobs()
        asked_at = None if self._asked_at is None else self._asked_at.isoformat()
        draft = self._draft.changed(knobs=knobs, asked_at=asked_at)
        config = dumps(knobs or {}).decode()
        return NewTurn(
            conversation_id=self._conversation.id, draft=draft, epoch=epoch, config=config, target=self._target()
        )

    def _knobs(self) -> Mapping[str, JsonValue] | None:
        """Return the settings of the call that differ from their defaults."""
        return None if self._opener is None else self._opener.call.config.knobs()

    def _target(self) -> Origin | None:
        """Return the endpoint that is asked first, as far as it is known."""
        return self._stream.partial.endpoint

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_block = False
        if self._followed is not None:
            await self._stop_following(self._followed)
            return
        if self._ending is None and self._detached and self._live and self._log and not self._stream.complete:
            self._reading = LeftStream(self.id)
            if self._queue is not None:
                self._queue.go_on_without_task(self)
            self._live[0].go_on(self._log, self._finish_alone)
            return
        await self._end(exc)

    async def _stop_following(self, followed: FollowedStream) -> None:
        node = self._node = followed.node
        self._reading = LeftStream(self.id)
        await followed.aclose()
        if node is not None and self._conversation.get(node.id) is None:
            with suppress(ConfigurationError):  # turns before it are not loaded here: open() has them all
                self._conversation.append(node)
                self._conversation.mark_kept(node.id)

    async def _end(self, exc: BaseException | None) -> None:
        if self._ending is not None:  # it was ended from elsewhere
            await self._ending.wait()
            return
        self._ending = asyncio.Event()
        try:
            if self._opened is not None:
                await self._opened.aclose()
        finally:  # closing can be cancelled or fail; the partial answer is stored all the same
            try:
                await self._log_unread()
                try:
                    await (self._leave_unasked(exc) if self._opened is None else self._leave_node(exc))
                finally:
                    await self._keep_rest(exc)
            finally:
                if self._live is not None and self._log is not None:
                    live, owner = self._live
                    live.end(owner, self._log, self._node, self._failure(exc))
                if self._queue is not None:
                    self._queue.leave(self)
                self._ending.set()

    async def cancel(self) -> None:
        """End the turn from outside of its block, as ``manager.cancel`` does; its node keeps what came."""
        self._cancelled = True
        if self._stopped is None:
            self._stopped = self._cut_by(CANCELLED)
        if self._entering is None:
            await self._end(None)
            return
        scope, over = self._entering
        scope.cancel()
        await over.wait()

    async def cut(self, failure: DhenaraError) -> None:
        """Close the call; the reader of the turn gets ``failure``, and its block ends it."""
        if self._stopped is None:
            self._stopped = failure
        await self._stream.aclose()

    async def _log_unread(self) -> None:
        """Log the events that arrived and were not read; the closed stream has them at once."""
        if self._log is not None:
            with suppress(DhenaraError):
                self._log.add_all(await self._stream.batch())

    async def _finish_alone(self) -> None:
        """Receive the rest without a reader, and leave the node."""
        failure: BaseException | None = None
        try:
            while await self._batch(self._stream):
                pass
        except BaseException as exc:  # noqa: BLE001 - also a cancellation: the node says so
            failure = exc
            self._cancelled = isinstance(exc, asyncio.CancelledError)
        try:
            await self._end(failure)
        except Exception:  # nobody reads this turn any more
            logger.exception("turn %s, which went on without a reader, was not kept", self.id)

    @property
    def id(self) -> str:
        """The id of the turn: that of its node, and the one to attach to it or to cancel it by."""
        return self._draft.id

    @property
    def cursor(self) -> str | None:
        """Where this reader is, for ``manager.attach``, as ``TurnReader.cursor``; None if the manager keeps no journal.

        Raises:
            StreamStateError: The block was not entered.
        """
        if self._followed is not None:
            return self._followed.cursor
        if self._live is None:
            return None
        if self._log is None:
            raise StreamStateError(_ADVICE)
        return f"{self._log.turn_id}.{self._log.epoch}.{len(self._log.events)}"

    def attachable(self, live: LiveTurns, owner: str | None) -> None:
        """Let readers attach to this turn through ``live`` once it has begun; for the manager."""
        self._live = live, owner

    def detach(self) -> None:
        """Let the answer finish in the manager when this block is left, without a reader.

        The node is in the conversation and the store when the answer has ended. ``manager.attach`` reads on.

        Raises:
            StreamStateError: The turn has not begun, is over, or its manager keeps no journal.
        """
        if self._followed is not None:
            return  # its answer goes on anyway
        if self._log is None or self._node is not None:
            raise StreamStateError(
                "only a turn that is being answered can go on without a reader: call detach() inside its block, "
                "under a manager with a journal"
            )
        self._detached = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        try:
            event = await self._reading.__anext__()
        except DhenaraError as exc:
            if self._stopped is None:
                raise
            raise self._stopped from exc
        if self._log is not None and self._followed is None:  # what is followed is in its log
            self._log.add(event)
        return event

    def __await__(self) -> Generator[object, None, ConversationNode]:
        return self._answered().__await__()

    async def _answered(self) -> ConversationNode:
        async with self:
            await self.collect()
        return self.node

    def text(self) -> TextStream:
        """Return the text of the answer as it arrives; see ``ResponseStream.text``."""
        return TextStream(self.__anext__)

    async def batch(self) -> list[StreamEvent]:
        """Return the events of the next network read, at least one; empty at the end. Cheaper than single events."""
        return await self._batch(self._reading)

    async def _batch(self, reading: "_Readable") -> list[StreamEvent]:
        try:
            events = await reading.batch()
        except DhenaraError as exc:
            if self._stopped is None:
                raise
            raise self._stopped from exc
        if self._log is not None and reading is not self._followed:
            self._log.add_all(events)
        return events

    async def collect(self) -> AIModelCallResponse:
        """Receive the rest of the answer and return the complete answer."""
        if self._followed is not None:
            return await self._followed.collect()
        if self._log is not None:
            while await self.batch():
                pass
        return await self._stream.collect()

    @property
    def complete(self) -> bool:
        """Whether the answer is complete."""
        return (self._followed or self._stream).complete

    @property
    def over(self) -> bool:
        """Whether the block has ended and the node exists."""
        return self._node is not None

    @property
    def node(self) -> ConversationNode:
        """The finished turn.

        Raises:
            StreamStateError: The block has not ended yet.
            DetachedError: The turn goes on without this block.
        """
        if self._node is None:
            if self._detached or self._followed is not None:
                raise detached(self.id)
            raise StreamStateError("the turn is not over; its node is there when its block has ended")
        return self._node

    @property
    def nodes(self) -> tuple[ConversationNode, ...]:
        """The nodes of all model calls that have ended, oldest first: several in a turn with ``run_tools``."""
        return () if self._node is None else (self._node,)

    @property
    def outcome(self) -> LoopOutcome | None:
        """How a turn with ``run_tools`` ended; None while it runs, after a failure, and for any other turn.

        ``complete``; ``limit``: the model wanted more steps than ``ToolPolicy.max_steps``; or ``pending``: a call waits
        for approval. ``manager.resume`` goes on from the last two.
        """
        return None

    def will_leave(self, warnings: Sequence[CallWarning], *, cancelled: bool) -> None:
        """Take what the node of this step says beside its answer; for the loop that it is a step of.

        Args:
            warnings: Warnings beside those of the answer.
            cancelled: Whether the manager cancelled the loop.
        """
        self._more_warnings, self._cancelled = tuple(warnings), cancelled

    @property
    def response(self) -> AIModelCallResponse:
        """The complete answer.

        Raises:
            StreamStateError: The answer is not complete.
        """
        return (self._followed or self._stream).response

    @property
    def partial(self) -> AIModelCallResponse:
        """The partial answer received so far."""
        return (self._followed or self._stream).partial

    async def _leave_node(self, exc: BaseException | None) -> None:
        cost = charge = None
        try:
            cost, charge = await counted(self._stream.partial)
        finally:  # a second cancellation while prices are loaded loses the price, not the node
            node = self._node = self._finished(exc, cost, charge)
            self._settle(node)
            self._conversation.append(node)
            await self._store(node, exc)

    def _settle(self, node: ConversationNode | None) -> None:
        """Settle the budget reservations with the tokens and cost of ``node``; release them if there is no node."""
        for reservation in self._reserved:
            if node is None:
                reservation.release()
            else:
                reservation.settle_turn(node)

    async def _keep_rest(self, exc: BaseException | None) -> None:
        """Keep the last events of the turn, and its node, if the store keeps its events."""
        if self._live is not None and self._log is not None and self._node is not None:
            await self._live[0].kept(self._log, self._conversation, self._node)

    async def _leave_unasked(self, exc: BaseException | None) -> None:
        """Leave the node of a turn that ended before anybody was asked; none if its question is not loaded yet, or is
        the results of calls that did not run."""
        draft = self._draft
        if self._load is not None or not (draft.user_query or draft.attached_files or draft.tool_results):
            return
        node = self._node = draft.changed(status="failed", error=self._reason(exc), attempts=0)
        self._conversation.append(node)
        await self._store(node, exc)

    async def _store(self, node: ConversationNode, exc: BaseException | None) -> None:
        if self._live is not None and self._log is not None and self._live[0].is_kept(self._log):
            return  # ``_keep_rest`` does, together with its last events
        if not await keep(self._keeper, self._conversation, node) and exc is None:
            raise DeadlineError(limit="store", seconds=STORE_SECONDS)

    def _finished(self, exc: BaseException | None, cost: Decimal | None, charge: Decimal | None) -> ConversationNode:
        came = self._stream.partial
        if self._stream.complete:
            status, error = "complete", None
        else:
            status = "interrupted" if any(choice.parts for choice in came.chat_response.choices) else "failed"
            error = self._reason(self._stopped or self._stream.failure or exc)
        tries = came.tries
        if (
            status == "failed" and tries and tries[-1].error is None
        ):  # the reader left before a word; usage is only known here
            took = {"usage": came.chat_response.usage, "cost": cost}
            tries = (*tries[:-1], tries[-1].changed(**took))
        node = ConversationNode(
            **self._draft.model_dump(
                include={"id", "parent_id", "user_query", "order", "instructions", "loop_id", "metadata"}
            ),
            attached_files=self._draft.attached_files,
            tool_results=self._draft.tool_results,
            response=None if status == "failed" else came.chat_response,
            origin=came.endpoint,
            status=status,
            error=error,
            request_id=came.request_id,
            attempts=came.attempts,
            tries=tries,
            plan=came.plan,
            seams=came.seams,
            warnings=(*came.warnings, *self._more_warnings),
            conversion=came.conversion.condensed(),
            cost=cost,
            charge=charge,
            prefix=self._stream.prefix,
            trace_id=came.trace_id,
            span_id=came.span_id,
            asked_at=None if self._asked_at is None else self._asked_at.isoformat(),
            first_word_at=self._first_word_at(came.latency.first_content),
            knobs=self._knobs(),
        )
        signing = None if self._opener is None else self._opener.history.signing
        return node if signing is None else signing.signed(node)

    def _failure(self, exc: BaseException | None) -> BaseException | None:
        """Return the error that readers get at the end; None if the answer is complete."""
        opened = self._opened
        if opened is None:  # it was ended while it waited
            return self._stopped or self._cut_by(self._reason(exc))
        if opened.complete:
            return None
        return self._stopped or opened.failure or self._cut_by(self._reason(exc))

    def _cut_by(self, reason: str) -> StreamStateError:
        return StreamStateError(f"turn {self.id} ended before its answer was complete: {reason}")

    def _reason(self, failure: BaseException | None) -> str:
        """Describe why the answer is not complete."""
        if self._cancelled:
            return CANCELLED
        if failure is None or isinstance(failure, asyncio.CancelledError | GeneratorExit):
            return "the reader left before the end"
        return described(failure)

    def _first_word_at(self, seconds: float | None) -> str | None:
        """When the first content came, so many seconds after the stream was opened."""
        if seconds is None or self._opened_at is None:
            return None
        return (self._opened_at + timedelta(seconds=seconds)).isoformat()
