r"""Server-Sent Events, on bytes.

Lines end with ``\n``, ``\r\n`` or ``\r`` and with nothing else (JSON strings may hold U+2028 or U+0085 raw); UTF-8 is
never decoded here, so no cut of the network can tear a character. A read is scanned once, for all its events.

Two things go beyond the standard, because providers need them. An event without its final blank line is handed over at
the end of the body. And lines that are no field but look like the start of a JSON or HTML document are kept, as one
frame: hosts break into a stream with a bare JSON error, and proxies with a page. Such a frame comes before the event
that follows it without a blank line between.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (read 2026-11-22)
"""

from dhenara_async.errors import ProtocolError
from dhenara_async.framing import Frame

DEFAULT_LIMIT_BYTES = 64 * 1024 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DOCUMENT_STARTS = (b"{", b"[", b"<")


class SSEFramer:
    """Cuts an event stream; see the module.

    Args:
        limit_bytes: The most one event may hold before it is refused as a fault of the provider.
    """

    __slots__ = (
        "_at_start",
        "_data",
        "_event",
        "_held",
        "_held_bytes",
        "_limit",
        "_skip_newline",
        "_stray",
        "_weighed",
        "_weight",
    )

    def __init__(self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._at_start = True
        self._skip_newline = False  # the last read ended with \r: a \n that leads the next one belongs to it
        self._held: list[bytes] = []  # pieces of a line whose end has not come; joined once, so huge lines stay linear
        self._held_bytes = 0
        self._data: list[bytes] = []
        self._event = b""
        self._stray: list[bytes] = []
        self._weight = 0  # bytes of the pending lines in _data and _stray …
        self._weighed = (0, 0)  # … as far as they have been counted: each line once, however many there are

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events that are complete with ``chunk``; see ``Framer``."""
        if self._skip_newline or b"\r" in chunk:
            chunk = self._with_plain_newlines(chunk)
        end = chunk.rfind(b"\n")
        if end < 0:
            self._hold(chunk)
            return []
        text = chunk[:end]
        if self._held:
            self._held.append(text)
            text = b"".join(self._held)
            self._held = []
            self._held_bytes = 0
        if end + 1 < len(chunk):
            self._hold(chunk[end + 1 :])
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BYTE_ORDER_MARK)
        return self._events(text)

    def finish(self) -> list[Frame]:
        """The event that was pending when the body ended; see ``Framer``."""
        text = b"".join(self._held)
        self._held = []
        if self._at_start:
            text = text.removeprefix(_BYTE_ORDER_MARK)
        return self._events(text + b"\n")

    def _events(self, text: bytes) -> list[Frame]:
        frames: list[Frame] = []
        data, event = self._data, self._event
        for line in text.split(b"\n"):
            if line[:6] == b"data: ":
                data.append(line[6:])
            elif not line:
                if self._stray:
                    frames.append(Frame(b"\n".join(self._stray)))
                    self._stray.clear()
                if data:
                    if len(data) == 1:
                        frames.append(Frame(data[0], event))
                    else:
                        frames.append(Frame(b"\n".join(data), event))
                    data.clear()
                event = b""
            elif line[:7] == b"event: ":
                event = line[7:]
            else:
                event = self._other_line(line, event)
        self._event = event
        if frames:
            self._weight, self._weighed = 0, (0, 0)
        if len(data) > 1 or self._stray:
            self._weigh()
        return frames

    def _weigh(self) -> None:
        """Check the size of the event that is pending; a line weighs one byte more than it has, as it does joined."""
        fresh = self._data[self._weighed[0] :] + self._stray[self._weighed[1] :]
        self._weight += sum(map(len, fresh)) + len(fresh)
        self._weighed = len(self._data), len(self._stray)
        self._check(self._weight)

    def _other_line(self, line: bytes, event: bytes) -> bytes:
        """A line that is not the usual ``data: …`` or ``event: …``; returns the event's name from here on."""
        if self._stray or (not self._data and line.lstrip()[:1] in _DOCUMENT_STARTS):
            self._stray.append(line)
            return event
        name, _, value = line.partition(b":")
        if name == b"event":
            return value
        if name == b"data":  # no space after the colon, or no colon
            self._data.append(value)
        return event  # comments have an empty name; id, retry and unknown fields mean nothing to us

    def _hold(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_bytes += len(piece)
        self._check(self._held_bytes)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ProtocolError(f"one event of the stream is larger than {self._limit} bytes; giving it up")

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        if self._skip_newline and chunk:
            self._skip_newline = False
            chunk = chunk.removeprefix(b"\n")
        if chunk.endswith(b"\r"):
            self._skip_newline = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
