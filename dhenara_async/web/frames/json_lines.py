"""JSON lines (NDJSON): our own events, one on each line."""

from collections.abc import Mapping, Sequence

from dhenara_async.events import StreamEvent
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.web.frames.event_json import event_json
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.protocol import UNBUFFERED, Ended

HEARTBEAT_LINE = b'{"type":"heartbeat"}\n'


class JsonLinesFrames:
    """One answer as JSON lines, each the JSON of ``event_to_dict``. See ``Frames``.

    A complete answer ends with its ``stream_end``, one that was cut with ``{"type": "error", "code", "message",
    "retryable"}``. A quiet connection gets ``heartbeat`` events.
    """

    media_type: str = "application/x-ndjson"
    headers: Mapping[str, str] = UNBUFFERED
    comment: bytes = HEARTBEAT_LINE

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """See ``Frames``; the ids are left out."""
        return b"".join([b"%b\n" % event_json(event) for event in events])

    def end(self, ended: Ended) -> bytes:
        """Return nothing: the last event says it."""
        return b""

    def fail(self, failure: Failure) -> bytes:
        """Return the error."""
        return b"%b\n" % dumps(failure.to_dict())
