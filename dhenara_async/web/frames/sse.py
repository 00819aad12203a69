"""Server-Sent Events: our own events as JSON, with ids that ``EventSource`` sends back when it reconnects.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (read 2026-11-28)
"""

from collections.abc import Mapping, Sequence

from dhenara_async.events import StreamEvent
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.web.frames.event_json import event_json
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.protocol import UNBUFFERED, Ended

COMMENT = b":\n\n"
END_ID = "end"
"""The last id of an answer. A client that sends it back has everything and gets the status 204, which ends an
``EventSource``."""

_LAST = b"id: end\n\n"  # a block without data sets the id, and the page hears nothing of it


class SSEFrames:
    """One answer as Server-Sent Events. See ``Frames``.

    Each event is one ``data:`` line, the JSON of ``event_to_dict``; its ``id:`` is the cursor behind it. An answer that
    was cut ends with ``{"type": "error", "code", "message", "retryable"}``.

    Args:
        retry: Seconds after which ``EventSource`` reconnects.
    """

    media_type: str = "text/event-stream"
    headers: Mapping[str, str] = UNBUFFERED
    comment: bytes = COMMENT

    def __init__(self, *, retry: float = 1.0) -> None:
        self._retry = retry

    def begin(self) -> bytes:
        """Return the time to wait before reconnecting."""
        return b"retry: %d\n\n" % round(self._retry * 1000)

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """See ``Frames``."""
        if not ids:
            return b"".join([b"data: %b\n\n" % event_json(event) for event in events])
        pairs = zip(ids, events, strict=True)
        return b"".join([b"id: %b\ndata: %b\n\n" % (place.encode(), event_json(event)) for place, event in pairs])

    def end(self, ended: Ended) -> bytes:
        """Return the last id."""
        return _LAST

    def fail(self, failure: Failure) -> bytes:
        """Return the error, then the last id: the same cut is not told again."""
        return b"id: end\ndata: %b\n\n" % dumps(failure.to_dict())
