"""``ResponseBody``: decodes the bytes of a response body into events, by a framing and a dialect's decoder.

Events decoded before a failure are kept in ``salvaged``.

A decoder accepts strict JSON only. A frame that it refuses is examined again here, for all dialects: an event without
data, or a ``[DONE]`` where the dialect has none, is skipped, and nearly strict JSON is repaired (see ``lenient_json``).
Usual frames are decoded once and pay nothing for this.
"""

from collections.abc import Sequence
from operator import length_hint
from typing import cast

import orjson

from dhenara_async.calls.split_characters import SplitCharacters
from dhenara_async.config import Bounds
from dhenara_async.drivers.base import QUOTED_BYTES, Decoder, feed_all_of, quote
from dhenara_async.errors import BoundsError, DhenaraError, ProtocolError, TruncatedStreamError
from dhenara_async.events import StreamEnd, StreamEvent, StreamStart, UsageUpdate
from dhenara_async.framing import Frame, Framer, Framing, NamedFrame, name_of
from dhenara_async.framing.lenient_json import has_halves, repaired
from dhenara_async.framing.sse import HEAVY_BYTES, SSE, check_weight, too_large
from dhenara_async.usage.tokens import Usage

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_END_MARK = b"[DONE]"  # gateways put it behind the streams of all dialects, some behind plain bodies
_SHAPE_ERRORS = (AttributeError, KeyError, RecursionError, TypeError, ValueError)  # of a decoder
_DOCUMENT_STARTS = (b"{", b"[", b"<")


class ResponseBody:
    """A response body that is being read.

    Args:
        decoder: A new decoder of the endpoint's dialect.
        most_bytes: The maximum size of the body; ``Bounds.max_answer_bytes``.
        framing: How the body is cut into messages if it is streamed.
    """

    __slots__ = (
        "_content_type",
        "_decoder",
        "_feed_all",
        "_final_usage",
        "_framer",
        "_framing",
        "_head",
        "_left",
        "_most",
        "_plain",
        "_split",
        "_started",
        "complete",
        "salvaged",
    )

    def __init__(self, decoder: Decoder, most_bytes: int = Bounds().max_answer_bytes, framing: Framing = SSE) -> None:
        self._decoder = decoder
        self._feed_all = feed_all_of(decoder)
        self._framing = framing
        self._most = self._left = most_bytes
        self._content_type = ""
        self._framer: Framer | None = None  # None for a plain body, and until the kind of the body is known
        self._head = b""  # the first bytes of the body, quoted in errors
        self._plain: bytes | bytearray = b""
        self._split: SplitCharacters | None = None  # set once half of a character has arrived
        self._started = False
        self._final_usage: Usage | None = None  # the last token report of a complete answer
        self.complete: bool = False  # the end of the answer has been decoded
        self.salvaged: Sequence[StreamEvent] = ()  # events decoded before a failure

    @property
    def plain(self) -> bool:
        """Whether the body is not a stream, as far as is known: its events come with its end."""
        return self._framer is None

    @property
    def usage(self) -> Usage | None:
        """The newest token report, including one that no event has carried yet; None = none arrived."""
        return self._final_usage if self.complete else self._decoder.usage

    def begin(self, content_type: str) -> None:
        """Start reading a body with this ``Content-Type`` header; empty = the header is missing."""
        self._content_type = content_type
        if self._framing.announced_by(content_type):
            self._framer = self._new_framer()

    def take(self, chunk: bytes) -> Sequence[StreamEvent]:
        """Decode the next bytes; ``b""`` stands for the end of the body.

        Raises:
            DhenaraError: The answer failed or cannot be decoded; ``salvaged`` has the events before the failure.
        """
        self._left -= len(chunk)
        if self._left < 0:
            raise BoundsError("the answer is too large", setting="max_answer_bytes", limit=self._most)
        if not self._started and len(self._head) < QUOTED_BYTES:
            self._head = (self._head + chunk)[:QUOTED_BYTES]
        framer = self._framer
        if framer is None:
            return self._take_unannounced(chunk)
        return self._decode(framer.feed(chunk)) if chunk else self._end(framer)

    def _new_framer(self) -> Framer:
        return self._framing.framer(self._most // 2)

    def _take_unannounced(self, chunk: bytes) -> Sequence[StreamEvent]:
        """Read a body without the content type of a stream: plain, unless its first bytes are those of a stream."""
        if not chunk:
            return self._end_plain()
        if not self._plain:
            self._plain = chunk
        elif isinstance(self._plain, bytes):
            self._plain = bytearray(self._plain) + chunk
        else:
            self._plain += chunk
        if len(self._plain) > self._most // 2:
            raise too_large("the answer", self._most // 2)
        if self._is_stream():
            framer = self._framer = self._new_framer()
            body, self._plain = bytes(self._plain), b""
            return self._decode(framer.feed(body))
        return ()

    def _is_stream(self) -> bool:
        """Whether the bytes so far are the beginning of an event stream."""
        if self._head[:1] == b"{":  # as nearly all plain bodies begin
            return False
        head = self._head.lstrip(_BYTE_ORDER_MARK + b" \t\r\n")
        if head.startswith(_DOCUMENT_STARTS) or not head:
            return False
        starts = self._framing.starts
        if head.startswith(starts):
            return True
        return "json" not in self._content_type and not any(start.startswith(head) for start in starts)

    def _end_plain(self) -> Sequence[StreamEvent]:
        body = bytes(self._plain)
        if len(body) > HEAVY_BYTES:
            check_weight(body, self._most // 2)
        return self._finished(self._decode([body]))

    def _decode(self, frames: Sequence[Frame]) -> Sequence[StreamEvent]:
        """Decode frames up to the end of the answer."""
        events: list[StreamEvent] = []
        rest = iter(frames)
        try:
            while True:
                try:
                    self._feed_all(rest, events)
                    break
                except ProtocolError as exc:
                    events += self._feed_again(frames[-1 - length_hint(rest)], exc)
                    if events and events[-1].__class__ is StreamEnd:
                        break
        except DhenaraError:
            self.salvaged = self._joined(events)
            raise
        except _SHAPE_ERRORS as exc:
            self.salvaged = self._joined(events)
            raise _unreadable(exc) from exc
        if self._split is not None:
            events = self._joined(events)
        if not self._started or (events and events[-1].__class__ is StreamEnd):
            self._note(events)
        return events

    def _joined(self, events: Sequence[StreamEvent]) -> list[StreamEvent]:
        """Join the halves of split characters in ``events``, if there are any."""
        return list(events) if self._split is None else self._split.mend(events)

    def _feed_again(self, frame: Frame, refusal: ProtocolError) -> Sequence[StreamEvent]:
        """Decode a refused frame once more after repairing its JSON; raise ``refusal`` if its JSON was valid."""
        if isinstance(refusal, BoundsError | TruncatedStreamError) or _is_json(frame):
            raise refusal
        data = frame.strip()
        if self._framer is None:
            data = _without_end_mark(data)
        elif not data:
            return ()  # an event without data, which some hosts send to keep the connection alive
        elif data == _END_MARK:
            return self._feed_end_mark(frame)
        strict = repaired(data)
        if strict is None:
            raise refusal
        if self._split is None and has_halves(strict.decode()):
            self._split = SplitCharacters()
        name = name_of(frame)
        return self._decoder.feed(NamedFrame(strict, name) if name else strict)

    def _feed_end_mark(self, frame: Frame) -> Sequence[StreamEvent]:
        """Ignore a ``[DONE]`` that the dialect does not have: its own end mark decides if the answer is complete."""
        if frame != _END_MARK:
            try:
                return self._decoder.feed(_END_MARK)
            except ProtocolError:
                pass
        return ()

    def _note(self, events: Sequence[StreamEvent]) -> None:
        """Note whether ``events`` start or end the answer."""
        if not self._started and events:
            self._started = events[0].__class__ is StreamStart or any(type(event) is StreamStart for event in events)
        if events and events[-1].__class__ is StreamEnd:
            self._completed(events)

    def _end(self, framer: Framer) -> Sequence[StreamEvent]:
        """Decode the last, possibly incomplete frame of a stream, and finish the decoder."""
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
        """Return ``events``, the last ones, followed by the events that the end of the body adds."""
        self.salvaged = events
        try:
            last = self._decoder.finish()
        except DhenaraError:
            raise
        except _SHAPE_ERRORS as exc:
            raise _unreadable(exc) from exc
        events = [*events, *self._joined(last)]
        self.salvaged = ()
        if not self.complete:
            self._completed(events)
        return events

    def _completed(self, events: Sequence[StreamEvent]) -> None:
        """Note that the answer ended with the last of ``events``."""
        self.complete = True
        for event in reversed(events):
            if event.__class__ is UsageUpdate:
                self._final_usage = cast("UsageUpdate", event).usage
                return
        self._final_usage = self._decoder.usage


def _unreadable(exc: Exception) -> ProtocolError:
    return ProtocolError(f"the provider's answer has a shape that its dialect does not allow: {exc}")


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(bytes(data))
    except orjson.JSONDecodeError:
        return False
    return True


def _without_end_mark(body: bytes) -> bytes:
    """Remove the end mark of a stream that some gateways append to a plain body."""
    if not body.endswith(_END_MARK):
        return body
    return body.removesuffix(_END_MARK).rstrip().removesuffix(b"data:").rstrip()
