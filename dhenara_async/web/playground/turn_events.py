"""``TurnEvents``: the events of several turns in one stream of Server-Sent Events, each tagged with its turn.

A page gets six connections to a host over HTTP/1.1, so a page that compares models reads one stream of all of them.

Theory. Each turn has a follower, a task that reads the turn's log and hands over one frame at a time; it waits until
that frame is taken. A page that reads slowly so makes the followers wait, while the log grows that the manager keeps
anyway: what waits here is one frame a turn, never more. A turn that fails, or does not exist, ends its own follower
alone.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import DhenaraError, StreamStateError
from dhenara_async.events import (
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    StreamEvent,
    TextDelta,
    ToolApprovalRequest,
    ToolCallDelta,
    ToolEnd,
    ToolProgress,
    ToolStart,
    event_to_dict,
)
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import Part
from dhenara_async.turns.reader import TurnReader
from dhenara_async.web.feeds import words_of
from dhenara_async.web.frames.event_json import event_json
from dhenara_async.web.frames.failures import Failure, failure_of
from dhenara_async.web.frames.protocol import UNBUFFERED
from dhenara_async.web.frames.sse import COMMENT

logger: logging.Logger = logging.getLogger("dhenara_async")

_EVENTS = 500
"""Events of one turn that are written at one go; a page that comes late gets a long answer in such pieces."""
_CHARACTERS = 64 * 1024
"""Characters that deltas are joined to at most."""
_PAUSE = 0.02
"""Seconds between two writes: tokens of several turns that come in between are written together."""
_WRITE_BYTES = 256 * 1024

_SHOWN: Mapping[str, Any] = {
    "exclude_none": True,
    "exclude": {"provider_state": True, "origin": True, "content": {"__all__": {"data"}}},
}
"""How the result of a tool is told: without the bytes of its files."""


@dataclass(frozen=True, slots=True)
class FollowedTurn:
    """A turn that a page reads.

    Attributes:
        id: The turn.
        cursor: Where the page has read it to; None = from the beginning.
    """

    id: str
    cursor: str | None = None


class TurnEvents:
    """The feed of several turns. See ``Feed``.

    Its frames are ``{"turn", "cursor", "event"}``; then for each turn ``{"turn", "end"}`` with the whole turn, or
    ``{"turn", "error"}``; then ``{"type": "end"}``. Deltas that came together are one event. The end of a part leaves
    out a text that came whole on this connection.

    Args:
        manager: The manager of the turns' owner.
        turns: The turns, each once.
        admit: Raises for a turn that is not to be read, from the ids of its conversation and the turn.
        ended: Returns a turn that has ended as the page shows it, from the id of its conversation and its node.
        part_of: Returns the JSON of a finished part, from the part and the ids of its conversation and turn.
        error_of: Returns an error in words, for a turn that cannot be read.
        headers: Further headers of the response.
    """

    media_type: str = "text/event-stream"
    comment: bytes = COMMENT
    resumes: bool = False

    def __init__(
        self,
        manager: ConversationManager,
        turns: Sequence[FollowedTurn],
        *,
        admit: Callable[[str, str], Awaitable[None]],
        ended: Callable[[str, ConversationNode], Awaitable[Mapping[str, object]]],
        part_of: Callable[[Part, str, str], Mapping[str, object]],
        error_of: Callable[[BaseException], Mapping[str, object]],
        headers: Mapping[str, str],
    ) -> None:
        self._manager = manager
        self._turns = turns
        self._admit = admit
        self._ended = ended
        self._part_of = part_of
        self._error_of = error_of
        self.headers: Mapping[str, str] = {**headers, **UNBUFFERED}
        self._tasks: TaskGroup | None = None
        self._frames: MemoryObjectReceiveStream[bytes] | None = None
        self._written_at = 0.0

    async def __aenter__(self) -> Self:
        sending, self._frames = anyio.create_memory_object_stream[bytes](0)
        self._tasks = await anyio.create_task_group().__aenter__()
        with sending:
            for turn in self._turns:
                self._tasks.start_soon(self._follow, turn, sending.clone())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, None
        if self._frames is not None:
            self._frames.close()
        if tasks is not None:
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(None, None, None)

    def begin(self) -> bytes:
        """See ``Feed``."""
        return b""

    async def read(self) -> bytes | None:
        """See ``Feed``."""
        frames = self._frames
        if frames is None:
            raise StreamStateError("the events of turns are read inside their block")
        pause = self._written_at + _PAUSE - monotonic()
        if pause > 0:
            await anyio.sleep(pause)
        try:
            found = [await frames.receive()]
        except anyio.EndOfStream:
            return None
        size = len(found[0])
        while size < _WRITE_BYTES:
            try:
                found.append(frames.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
            size += len(found[-1])
        self._written_at = monotonic()
        return b"".join(found)

    def end(self) -> bytes:
        """See ``Feed``."""
        return b'data: {"type":"end"}\n\n'

    def fail(self, error: BaseException) -> bytes | None:
        """See ``Feed``."""
        return b"data: %b\n\n" % dumps(failure_of(error).to_dict())

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """See ``Feed``."""
        return words_of(failure)

    async def _follow(self, turn: FollowedTurn, sending: MemoryObjectSendStream[bytes]) -> None:
        """Task: hand over the frames of one turn."""
        head = b'data: {"turn":' + dumps(turn.id)
        async with sending:
            with suppress(anyio.BrokenResourceError):  # the page has gone away
                try:
                    last = await self._last(turn, head, sending)
                except anyio.BrokenResourceError:
                    raise
                except Exception as exc:
                    if not isinstance(exc, DhenaraError):
                        logger.exception("the events of turn %s cannot be sent", turn.id)
                    last = b'%b,"error":%b}\n\n' % (head, dumps(self._error_of(exc)))
                await sending.send(last)

    async def _last(self, turn: FollowedTurn, head: bytes, sending: MemoryObjectSendStream[bytes]) -> bytes:
        """Hand over the events of a turn, and return its last frame."""
        async with self._manager.attach(turn.id, turn.cursor) as reader:
            await self._admit(reader.conversation_id, turn.id)
            chat_id, node = reader.conversation_id, await self._node_behind(reader, head, sending)
        return b'%b,"end":%b}\n\n' % (head, dumps(await self._ended(chat_id, node)))

    async def _node_behind(
        self, reader: TurnReader, head: bytes, sending: MemoryObjectSendStream[bytes]
    ) -> ConversationNode:
        """Hand over the events of a turn, and return its node, whatever has become of it."""
        told: dict[int, int] = {}
        try:
            while events := await reader.batch():
                first = _number(reader.cursor) - len(events) + 1
                base = reader.cursor.rpartition(".")[0].encode()
                for start in range(0, len(events), _EVENTS):
                    joined = _joined(events[start : start + _EVENTS], first + start)
                    frames = [
                        b'%b,"cursor":"%b.%d","event":%b}\n\n' % (head, base, place, self._json(event, reader, told))
                        for place, event in joined
                    ]
                    await sending.send(b"".join(frames))
        except DhenaraError:
            return reader.node  # the node says why it is not complete; without one, this raises
        return reader.node

    def _json(self, event: StreamEvent, reader: TurnReader, told: dict[int, int]) -> bytes:
        """Return an event as the page reads it.

        Args:
            event: The event.
            reader: The reader that the event comes from.
            told: Characters of each part that the page has, by the id of the part, for parts of which it read the start
                here. It is brought up to date.
        """
        if isinstance(event, PartStart):
            told[event.part_id] = 0
        elif isinstance(event, TextDelta | ReasoningDelta | RefusalDelta) and event.part_id in told:
            told[event.part_id] += len(event.text)
        elif isinstance(event, PartEnd):
            part = dict(self._part_of(event.part, reader.conversation_id, reader.turn_id))
            text = part.get("text")
            if isinstance(text, str) and text and len(text) == told.pop(event.part_id, None):
                del part["text"]
            return dumps({"type": event.type, "part_id": event.part_id, "part": part})
        if isinstance(event, ToolEnd):
            return dumps({"type": event.type, "result": event.result.model_dump(mode="json", **_SHOWN)})
        if isinstance(event, ToolStart | ToolProgress | ToolApprovalRequest):
            call = self._part_of(event.call, reader.conversation_id, reader.turn_id)
            return dumps({**event_to_dict(event), "call": call})
        if isinstance(event, StepStart):  # without the host and the account, which are nothing for a page
            named = {"provider": event.endpoint.provider, "model": event.endpoint.model}
            return dumps({"type": event.type, "node_id": event.node_id, "endpoint": named})
        return event_json(event)


def _joined(events: Sequence[StreamEvent], first: int) -> list[tuple[int, StreamEvent]]:
    """Join deltas of a part that follow each other; return events with the number of events up to each."""
    joined: list[tuple[int, StreamEvent]] = []
    texts: list[str] = []
    size = 0
    open_delta: StreamEvent | None = None

    def close() -> None:
        nonlocal open_delta, size
        if open_delta is not None:
            place = joined[-1][0]
            joined[-1] = (place, _with_text(open_delta, "".join(texts)))
        texts.clear()
        open_delta, size = None, 0

    for place, event in enumerate(events, first):
        text = _text_of(event)
        if text is None:
            close()
            joined.append((place, event))
        elif open_delta is not None and _same_part(open_delta, event) and size + len(text) <= _CHARACTERS:
            texts.append(text)
            size += len(text)
            joined[-1] = (place, event)
        else:
            close()
            open_delta, size = event, len(text)
            texts.append(text)
            joined.append((place, event))
    close()
    return joined


def _text_of(event: StreamEvent) -> str | None:
    """Return the text of a delta; None for other events."""
    if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
        return event.text
    return event.arguments if isinstance(event, ToolCallDelta) else None


def _same_part(one: StreamEvent, other: StreamEvent) -> bool:
    return one.type == other.type and getattr(one, "part_id", None) == getattr(other, "part_id", None)


def _with_text(event: StreamEvent, text: str) -> StreamEvent:
    if isinstance(event, ToolCallDelta):
        return replace(event, arguments=text)
    if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
        return replace(event, text=text)
    return event


def _number(cursor: str) -> int:
    return int(cursor.rpartition(".")[2])
