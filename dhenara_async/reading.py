"""The body of one answer: bytes in, events out. Knows a framing and a dialect's decoder, and nothing of networks.

Events that came before something that cannot be read are kept, so that a failure takes nothing along with it.
"""

from collections.abc import Sequence
from typing import cast

from dhenara_async.drivers.base import QUOTED_BYTES, Decoder, quote
from dhenara_async.errors import DhenaraError, ProtocolError, TruncatedStreamError
from dhenara_async.events import StreamEnd, StreamEvent, StreamStart, UsageUpdate
from dhenara_async.framing import Frame, Framer
from dhenara_async.framing.sse import DEFAULT_LIMIT_BYTES, SSEFramer
from dhenara_async.usage import Usage


class Reading:
    """An answer that is being read.

    Args:
        decoder: Of the answer's dialect, fresh.
    """

    __slots__ = (
        "_content_type",
        "_decoder",
        "_framer",
        "_head",
        "_plain",
        "_plain_bytes",
        "_started",
        "_told",
        "complete",
        "salvaged",
    )

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._content_type = ""
        self._framer: Framer | None = None  # None while it is not known, or for a plain body
        self._head = b""  # the first bytes of the body, to quote if nothing can be made of them
        self._plain: bytes | list[bytes] = b""
        self._plain_bytes = 0
        self._started = False
        self._told: Usage | None = None  # tokens that were told at the end
        self.complete: bool = False  # the end of the answer has been decoded; what follows is no part of it
        self.salvaged: Sequence[StreamEvent] = ()  # decoded before what could not be

    @property
    def plain(self) -> bool:
        """Whether the body is no stream, as far as is known: all that it says comes with its end."""
        return self._framer is None

    @property
    def usage(self) -> Usage | None:
        """The newest report of tokens, even one that no event has carried yet; None = none came."""
        return self._told if self.complete else self._decoder.usage

    def begin(self, content_type: str) -> None:
        """The head of the answer has come, and says what its body is; empty = it does not say."""
        self._content_type = content_type
        if "event-stream" in content_type:
            self._framer = SSEFramer()

    def take(self, chunk: bytes) -> Sequence[StreamEvent]:
        """The events in the next bytes; those of the end for ``b""``, where the body is over.

        Raises:
            DhenaraError: The answer failed, or is none; ``salvaged`` has the events before that.
        """
        if not self._started and len(self._head) < QUOTED_BYTES:
            self._head = (self._head + chunk)[:QUOTED_BYTES]
        framer = self._framer
        if framer is None:
            framer = self._framer = self._unannounced(chunk)
            if framer is None:
                return self._take_plain(chunk)
        return self._decode(framer.feed(chunk)) if chunk else self._end(framer)

    def _unannounced(self, chunk: bytes) -> Framer | None:
        """A body that is not announced as a stream: a plain one, unless its first byte says otherwise."""
        if self._plain or "json" in self._content_type or not chunk.strip():
            return None
        return None if chunk.lstrip()[:1] in (b"{", b"[", b"<") else SSEFramer()

    def _take_plain(self, chunk: bytes) -> Sequence[StreamEvent]:
        if not chunk:
            plain = self._plain if isinstance(self._plain, bytes) else b"".join(self._plain)
            return self._finished(self._decode([plain]))
        if not self._plain:
            self._plain = b"" if chunk.isspace() else chunk  # what the body is comes after leading white space
        elif isinstance(self._plain, bytes):
            self._plain = [self._plain, chunk]
        else:
            self._plain.append(chunk)
        self._plain_bytes += len(chunk)
        if self._plain_bytes > DEFAULT_LIMIT_BYTES:
            raise ProtocolError(f"the answer is larger than {DEFAULT_LIMIT_BYTES} bytes; giving it up")
        return ()

    def _decode(self, frames: Sequence[Frame]) -> Sequence[StreamEvent]:
        """Decode frames; nothing is read after the answer's end."""
        events: list[StreamEvent] = []
        feed = self._decoder.feed
        try:
            if len(frames) == 1:  # as in most reads while a model speaks
                last = feed(frames[0])
                if not self._started or (last and last[-1].__class__ is StreamEnd):
                    self._note(last)
                return last
            for frame in frames:
                last = feed(frame)
                events += last
                if last and last[-1].__class__ is StreamEnd:
                    break
        except DhenaraError:
            self.salvaged = events
            raise
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as exc:
            self.salvaged = events
            raise ProtocolError(f"the provider's answer has a shape that its dialect does not allow: {exc}") from exc
        self._note(events)
        return events

    def _note(self, events: Sequence[StreamEvent]) -> None:
        """Whether ``events`` begin the answer, or end it."""
        if not self._started and events:
            self._started = events[0].__class__ is StreamStart or any(type(event) is StreamStart for event in events)
        if events and events[-1].__class__ is StreamEnd:
            self._completed(events)

    def _end(self, framer: Framer) -> Sequence[StreamEvent]:
        """The end of a stream's body: its last, maybe torn, frame, then whatever the decoder makes of it."""
        torn: ProtocolError | None = None
        try:
            events = self._decode(framer.finish())
        except ProtocolError as exc:
            torn, events = exc, self.salvaged
        try:
            return self._finished(events)
        except TruncatedStreamError as exc:
            if not self._started and not events:
                raise TruncatedStreamError(f"{exc}; it began with {quote(self._head.lstrip())}") from torn
            raise exc from torn

    def _finished(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """``events``, which were the last, and those that the end of the body adds to them."""
        self.salvaged = events
        events = [*events, *self._decoder.finish()]
        self.salvaged = ()
        if not self.complete:
            self._completed(events)
        return events

    def _completed(self, events: Sequence[StreamEvent]) -> None:
        """The answer has come to its end with the last of ``events``."""
        self.complete = True
        for event in reversed(events):
            if event.__class__ is UsageUpdate:
                self._told = cast("UsageUpdate", event).usage
                return
        self._told = self._decoder.usage
