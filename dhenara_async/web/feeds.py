"""Feeds of web responses: a turn, an attached reader, a plain stream or a fan-out, as the bytes of one protocol."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from dhenara_async.calls.stream import ResponseStream
from dhenara_async.errors import ConfigurationError, StreamStateError
from dhenara_async.events import StreamEvent, StreamReset, StreamStart
from dhenara_async.fanout import FanOut
from dhenara_async.turns.fan_out import TurnFanOut
from dhenara_async.turns.reader import TurnReader
from dhenara_async.turns.turn import Turn
from dhenara_async.web.frames.failures import Failure, failure_of
from dhenara_async.web.frames.protocol import Ended, Frames
from dhenara_async.web.frames.tagged import TaggedFrames

WebStream = Turn | TurnReader | ResponseStream
"""One answer to send: a turn or a stream whose block was not entered, or a reader of ``manager.attach``."""

WebFanOut = FanOut | TurnFanOut
"""Several answers to send as one stream."""

NewFrames = Callable[["str | None"], Frames]
"""Makes the frames of one answer from the id of its turn; None outside a conversation."""


_RESET = "the last event is not one of this turn as it is kept; the turn follows whole"


class Feed(Protocol):
    """The bytes of one response, read inside ``async with``."""

    @property
    def resumes(self) -> bool:
        """Whether there may be nothing more to send, because it has been read before."""
        ...

    @property
    def media_type(self) -> str:
        """The content type of the response."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Further headers of the response."""
        ...

    @property
    def comment(self) -> bytes:
        """The bytes that keep a quiet connection open; empty if there are none."""
        ...

    def begin(self) -> bytes:
        """Return the first bytes."""
        ...

    async def read(self) -> bytes | None:
        """Return the bytes of the next events, which may be none; None at the end."""
        ...

    def end(self) -> bytes:
        """Return the last bytes of what is complete, when the block was left."""
        ...

    def fail(self, error: BaseException) -> bytes | None:
        """Return the last bytes of what was cut, when the block was left; None = break the connection."""
        ...

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """Return status, content type and body of a response that says why there is no answer."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class AnswerFeed:
    """One answer in one protocol. See ``Feed``.

    Args:
        stream: The answer.
        frames: Makes the frames.
        detach: Whether a turn goes on when its response ends early.
        last_event_id: The cursor that the client sent back; None if it sent none.
        before: Events to send before those of the stream.
    """

    def __init__(
        self,
        stream: WebStream,
        frames: NewFrames,
        *,
        detach: bool = False,
        last_event_id: str | None = None,
        before: Sequence[StreamEvent] = (),
    ) -> None:
        self._stream = stream
        self._new_frames = frames
        self._detach = detach
        self._frames = frames(None)  # tells the content type before the turn is known
        self._ended = Ended()
        self._before = before
        self._first = b""
        self._foreign = False  # the cursor is of another turn: the whole turn follows a reset
        self.resumes: bool = isinstance(stream, TurnReader) and stream.goes_on
        if isinstance(stream, Turn | TurnReader) and last_event_id is not None:
            stream.go_on_from(last_event_id)
            self.resumes = True
        if detach and not isinstance(stream, Turn):
            raise ConfigurationError("detach is for turns: a reader never ends its turn, and a plain stream has none")

    @property
    def media_type(self) -> str:
        """See ``Feed``."""
        return self._frames.media_type

    @property
    def headers(self) -> Mapping[str, str]:
        """See ``Feed``."""
        return self._frames.headers

    @property
    def comment(self) -> bytes:
        """See ``Feed``."""
        return self._frames.comment

    async def __aenter__(self) -> Self:
        stream = self._stream
        await stream.__aenter__()
        match stream:
            case Turn():
                if self._detach:
                    stream.detach()
                self._frames = self._new_frames(stream.id)
                self._foreign = self.resumes and not stream.follows
            case TurnReader():
                self._frames = self._new_frames(stream.turn_id)
            case ResponseStream():
                pass
        self._first = self._frames.begin()
        if self._before:
            self._first += self._frames.feed(self._before)
        elif isinstance(stream, TurnReader) and stream.waits:
            self._first += self._frames.feed(())  # what a late client sees before the first event: the question
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream = self._stream
        if isinstance(stream, TurnReader):
            with suppress(StreamStateError):  # the turn goes on
                self._ended = Ended(node=stream.node)
        await stream.__aexit__(kind, exc, trace)
        if isinstance(stream, Turn) and stream.over:
            self._ended = Ended(node=stream.node)
        elif isinstance(stream, ResponseStream) and stream.complete:
            self._ended = Ended(response=stream.response)

    def begin(self) -> bytes:
        """See ``Feed``."""
        return self._first

    async def read(self) -> bytes | None:
        """See ``Feed``."""
        stream = self._stream
        events = await stream.batch()
        if not events:
            return None
        ids = () if isinstance(stream, ResponseStream) else _ids(stream.cursor, events)
        if self._foreign:
            self._foreign = False
            events, ids = _reset(events, ids)
        return self._frames.feed(events, ids)

    def end(self) -> bytes:
        """See ``Feed``."""
        return self._frames.end(self._ended)

    def fail(self, error: BaseException) -> bytes | None:
        """See ``Feed``."""
        return self._frames.fail(failure_of(error, self._ended.node))

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """See ``Feed``."""
        return words_of(failure)


class FanFeed:
    """Several answers in one stream. See ``Feed``.

    Args:
        fan: The answers.
        frames: Writes them.
    """

    def __init__(self, fan: WebFanOut, frames: TaggedFrames) -> None:
        self._fan = fan
        self._frames = frames
        self.resumes: bool = False
        self.media_type: str = frames.media_type
        self.headers: Mapping[str, str] = frames.headers
        self.comment: bytes = frames.comment

    async def __aenter__(self) -> Self:
        await self._fan.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fan.__aexit__(kind, exc, trace)

    def begin(self) -> bytes:
        """See ``Feed``."""
        return self._frames.begin()

    async def read(self) -> bytes | None:
        """See ``Feed``."""
        batch = await self._fan.batch()
        return None if batch is None else self._frames.feed(batch.index, batch.key, batch.events, batch.outcome)

    def end(self) -> bytes:
        """See ``Feed``."""
        return self._frames.end()

    def fail(self, error: BaseException) -> bytes | None:
        """See ``Feed``."""
        return self._frames.fail(failure_of(error))

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """See ``Feed``."""
        return words_of(failure)


def _reset(events: Sequence[StreamEvent], ids: Sequence[str]) -> tuple[Sequence[StreamEvent], Sequence[str]]:
    """Put a reset before the first events of a turn."""
    if isinstance(events[0], StreamStart):
        return [StreamReset(_RESET, events[0]), *events[1:]], ids
    if not ids:
        return [StreamReset(_RESET), *events], ids
    head, _, number = ids[0].rpartition(".")
    return [StreamReset(_RESET), *events], [f"{head}.{int(number) - 1}", *ids]  # a tool loop begins with a step


def words_of(failure: Failure) -> tuple[int, str, bytes]:
    """Return a failure as a response of plain words: its status, its content type and its body."""
    return failure.status, "text/plain; charset=utf-8", failure.message.encode()


def _ids(cursor: str | None, events: Sequence[StreamEvent]) -> Sequence[str]:
    """Return a cursor for each event, from the one behind the last; none if there is no journal to go on from."""
    if cursor is None:
        return ()
    head, _, number = cursor.rpartition(".")
    last = int(number)
    return [f"{head}.{place}" for place in range(last - len(events) + 1, last + 1)]
