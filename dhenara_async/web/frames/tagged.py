"""Several answers in one stream: each event says whose it is.

A page gets six connections to a host over HTTP/1.1, so a view that compares models reads one stream of all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dhenara_async.events import StreamEvent
from dhenara_async.fanout.values import Outcome
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.web.frames.event_json import event_json
from dhenara_async.web.frames.failures import Failure, failure_of
from dhenara_async.web.frames.json_lines import HEARTBEAT_LINE
from dhenara_async.web.frames.protocol import UNBUFFERED
from dhenara_async.web.frames.sse import COMMENT


class TaggedFrames(Protocol):
    """Writes the answers of a fan-out into one stream; like ``Frames``, for tagged batches.

    Each frame is a JSON object with ``index``, the ``key`` of the call if that is a text or a number, and either
    ``event`` (as ``event_to_dict``) or, once for each call, ``outcome``: ``complete``, ``failed`` or ``cancelled``,
    with ``error`` if it is not complete. The stream ends with ``{"type": "end"}``, or with an ``error`` if it was cut.
    """

    @property
    def media_type(self) -> str:
        """The content type of the response."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Further headers of the response, names in lower case."""
        ...

    @property
    def comment(self) -> bytes:
        """The bytes that keep a quiet connection open."""
        ...

    def begin(self) -> bytes:
        """Return what comes before the first frame."""
        ...

    def feed(self, index: int, key: object, events: Sequence[StreamEvent], outcome: Outcome | None) -> bytes:
        """Return the next events of one call, or its outcome.

        Args:
            index: The position of the call, from 0.
            key: The call's key.
            events: The events, in order; empty where there is an outcome.
            outcome: How the call ended; None = it is running.
        """
        ...

    def end(self) -> bytes:
        """Return the end, when every call has ended."""
        ...

    def fail(self, failure: Failure) -> bytes:
        """Return the end of a stream that was cut."""
        ...


class _Tagged:
    """Writes tagged JSON between ``_before`` and ``_after``."""

    headers: Mapping[str, str] = UNBUFFERED
    _before: bytes = b""
    _after: bytes = b"\n"

    def __init__(self) -> None:
        self._heads: dict[int, bytes] = {}

    def feed(self, index: int, key: object, events: Sequence[StreamEvent], outcome: Outcome | None) -> bytes:
        """See ``TaggedFrames``."""
        head = self._heads.get(index)
        if head is None:
            tag: dict[str, object] = {"index": index}
            if isinstance(key, str | int):
                tag["key"] = key
            head = self._heads[index] = self._before + dumps(tag)[:-1]
        frames = [b'%b,"event":%b}%b' % (head, event_json(event), self._after) for event in events]
        if outcome is not None:
            frames.append(b"%b,%b%b" % (head, dumps(_told(outcome))[1:], self._after))
        return b"".join(frames)

    def end(self) -> bytes:
        """Return ``{"type": "end"}``."""
        return self._before + b'{"type":"end"}' + self._after

    def fail(self, failure: Failure) -> bytes:
        """Return the error."""
        return self._before + dumps(failure.to_dict()) + self._after


class TaggedSSEFrames(_Tagged):
    """A fan-out as Server-Sent Events. See ``TaggedFrames``.

    Its events have no ids, for it cannot be gone on with; only its end has one, so that ``EventSource`` stops there.

    Args:
        retry: Seconds after which ``EventSource`` reconnects.
    """

    media_type: str = "text/event-stream"
    comment: bytes = COMMENT
    _before = b"data: "
    _after = b"\n\n"

    def __init__(self, *, retry: float = 1.0) -> None:
        super().__init__()
        self._retry = retry

    def begin(self) -> bytes:
        """Return the time to wait before reconnecting."""
        return b"retry: %d\n\n" % round(self._retry * 1000)

    def end(self) -> bytes:
        """Return ``{"type": "end"}`` with the last id."""
        return b"id: end\n" + super().end()

    def fail(self, failure: Failure) -> bytes:
        """Return the error with the last id."""
        return b"id: end\n" + super().fail(failure)


class TaggedJsonLinesFrames(_Tagged):
    """A fan-out as JSON lines. See ``TaggedFrames``."""

    media_type: str = "application/x-ndjson"
    comment: bytes = HEARTBEAT_LINE

    def begin(self) -> bytes:
        """Return nothing."""
        return b""


def _told(outcome: Outcome) -> dict[str, object]:
    if outcome.response is not None:
        return {"outcome": "complete"}
    if outcome.cancelled:
        return {"outcome": "cancelled"}
    failure = failure_of(outcome.error or Exception()).to_dict()
    del failure["type"]
    return {"outcome": "failed", "error": failure}
