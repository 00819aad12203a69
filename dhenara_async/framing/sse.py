"""Server-Sent Events, on bytes.

Lines end with ``\n``, ``\r\n`` or ``\r`` only (JSON strings may hold U+2028 or U+0085 unescaped). UTF-8 is never
decoded here, so a split inside a character does no harm. Each read is scanned once for all its events.

Providers need three extensions of the standard. An event without its final blank line is delivered at the end of the
body. Lines that are not a field but look like the start of a JSON or HTML document are delivered as one frame, because
hosts put a bare JSON error into a stream, and proxies an error page; the frame ends at a following event even without a
blank line between. A line ``error: …`` is delivered as an event named ``error``.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (read 2026-11-22)
"""

import re
from collections.abc import Sequence

import orjson

from dhenara_async.errors import BoundsError
from dhenara_async.framing import Frame, Framing, NamedFrame

DEFAULT_LIMIT_BYTES = 64 * 1024 * 1024
HEAVY_BYTES = 1024 * 1024
_CONTAINER_BYTES, _MEMBER_BYTES = 64, 32  # estimated memory of each object or array, and of each of their members

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_COMMENT = re.compile(rb"^:.*\n", re.MULTILINE)
_DOCUMENT_STARTS = (b"{", b"[", b"<")
# By an event line, the start of the data line behind it, which is the same in all streams of a dialect.
_beginnings: dict[bytes, bytes] = {}
_MOST_NAMES, _LONGEST_NAME = 1000, 100


class SSEFramer:
    """Cuts an event stream into events; see the module.

    Args:
        limit_bytes: The size limit of one event; a larger one is refused as a fault of the provider.
    """

    __slots__ = ("_alike", "_at_start", "_data_at", "_full", "_held", "_limit", "_skip_newline")

    def __init__(self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._at_start = True
        self._skip_newline = False  # the last read ended with \r: a leading \n of the next one belongs to it
        self._held = bytearray()  # the incomplete event; grown in place, so that large ones take linear time
        self._full = limit_bytes  # how many bytes may be buffered before comments are removed from them
        self._alike, self._data_at = b"data: ", 6  # how the last event began, and where its data starts

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the events that ``chunk`` completes; see ``Framer``."""
        if self._skip_newline or b"\r" in chunk:
            chunk = self._with_plain_newlines(chunk)
        if chunk.endswith(b"\n\n") and chunk.startswith(self._alike) and not self._held:
            data = chunk[self._data_at : -2]
            if b"\n" not in data:  # one whole event: the usual read while a model generates
                self._at_start = False
                return [data]
        end = chunk.rfind(b"\n\n") + 2
        if end < 2:
            if chunk[:1] != b"\n" or not self._held.endswith(b"\n"):
                self._hold(chunk)
                return []
            end = 1  # the blank line arrived in a read of its own
        text = chunk[:end]
        if self._held:
            self._held += text
            text = bytes(self._held)
            self._held, self._full = bytearray(), self._limit
        if len(text) > HEAVY_BYTES:
            check_weight(text, self._limit)
        if end < len(chunk):
            self._hold(chunk[end:])
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BYTE_ORDER_MARK)
        lines = text.split(b"\n")
        lines.pop()  # the empty text behind the last newline
        return self._usual(lines) or _any(lines)

    def finish(self) -> list[Frame]:
        """Return the event that was pending when the body ended; see ``Framer``."""
        text = bytes(self._held)
        self._held = bytearray()
        if self._at_start:
            text = text.removeprefix(_BYTE_ORDER_MARK)
        return _any([*text.split(b"\n"), b""])

    def _usual(self, lines: list[bytes]) -> list[Frame]:
        """Return the events of ``lines`` in the usual layout: a blank line behind every data line, or behind every pair
        of event and data line. Empty for any other layout."""
        if lines[0][:6] == b"data: ":
            if len(lines) % 2 or any(lines[1::2]):
                return []
            data = [line[6:] for line in lines[::2] if line[:6] == b"data: "]
            return data if 2 * len(data) == len(lines) else []
        if len(lines) % 3 or any(lines[2::3]):
            return []
        frames: list[Frame] = []
        name = beginning = b""
        for name, line in zip(lines[::3], lines[1::3], strict=True):
            beginning = _beginnings.get(name)
            if beginning is None or not line.startswith(beginning):
                beginning = _beginning(name, line)
                if beginning is None:
                    return []
            frames.append(line[6:])
        named = name + b"\ndata: "
        self._alike, self._data_at = named + beginning[6:], len(named)
        return frames

    def _hold(self, piece: bytes) -> None:
        self._held += piece
        if len(self._held) > self._full:
            kept = _COMMENT.sub(b"", self._held)  # some hosts send only comments for a long time
            if len(kept) > self._limit:
                raise too_large("one event of the answer", self._limit)
            self._held = bytearray(kept)
            self._full = max(self._limit, len(kept) + self._limit // 4)  # removed once per quarter, not once per read

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        plain = chunk.replace(b"\r", b"")
        if not self._skip_newline and plain.replace(b"\n", b"\r\n") == chunk:  # faster than searching for pairs
            return plain
        if self._skip_newline and chunk:
            self._skip_newline = False
            chunk = chunk.removeprefix(b"\n")
        if chunk.endswith(b"\r"):
            self._skip_newline = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def too_large(subject: str, limit_bytes: int) -> BoundsError:
    """Return the error for an event or a plain body above ``limit_bytes``, which is half of the limit for a whole
    answer."""
    return BoundsError(
        f"{subject} is larger than {limit_bytes} bytes", setting="max_answer_bytes", limit=limit_bytes * 2
    )


def check_weight(data: bytes, limit_bytes: int) -> None:
    """Refuse JSON that would take far more memory than its bytes, such as ``[[],[],[],…``.

    Args:
        data: An event or a body. Not checked below ``HEAVY_BYTES``.
        limit_bytes: The size limit of an event; its parsed values may take four times as much memory.

    Raises:
        BoundsError: The objects, arrays and members would take more.
    """
    containers, members = data.count(b"{") + data.count(b"["), data.count(b",")
    if len(data) + _CONTAINER_BYTES * containers + _MEMBER_BYTES * members > 4 * limit_bytes:
        raise too_large("one event of the answer, with the values that it holds,", limit_bytes)


def _any(lines: Sequence[bytes]) -> list[Frame]:
    """Return the events in ``lines``, whatever their layout."""
    frames: list[Frame] = []
    data: list[bytes] = []
    stray: list[bytes] = []
    event = b""
    for line in lines:
        if line[:6] == b"data: ":
            data.append(line[6:])
        elif not line:
            if stray:
                frames.append(b"\n".join(stray))
                stray.clear()
            if data:
                frames.append(_named(b"\n".join(data), event))
                data.clear()
            event = b""
        elif line[:7] == b"event: ":
            event = line[7:]
        elif stray or (not data and line.lstrip()[:1] in _DOCUMENT_STARTS):
            stray.append(line)
        else:  # no space after the colon, or no colon; comments have an empty name; other fields are ignored
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event = value
            elif name == b"error" and value:
                frames.append(_failure(value.strip()))
    return frames


def _failure(error: bytes) -> Frame:
    """Return the frame for a line ``error: …``, with which some servers end a stream: JSON, or plain text."""
    if error[:1] != b"{":
        error = orjson.dumps({"error": {"message": error.decode(errors="replace")}})
    return NamedFrame(error, b"error")


def _named(data: bytes, event: bytes) -> Frame:
    """Return ``data`` with its event name, unless the data begins with the same name as its type."""
    return NamedFrame(data, event) if event and _typed(data, event) is None else data


def _typed(data: bytes, event: bytes) -> bytes | None:
    """Return the start of ``data`` if it gives ``event`` as its type; None otherwise."""
    for usual in (b'{"type":"%b"' % event, b'{"type": "%b"' % event):  # a compiled pattern is slower than formatting
        if data.startswith(usual):
            return usual
    found = re.match(rb'\{\s*"type"\s*:\s*"%s"' % re.escape(event), data)
    return None if found is None else found[0]


def _beginning(name: bytes, line: bytes) -> bytes | None:
    """Return the start of a data line that repeats the name in the event line before it, for the cache; None if it does
    not."""
    if name[:7] != b"event: " or line[:6] != b"data: ":
        return None
    typed = _typed(line[6:], name[7:])
    if typed is None:
        return None
    beginning = b"data: " + typed
    if len(name) <= _LONGEST_NAME:
        if len(_beginnings) >= _MOST_NAMES:
            _beginnings.clear()
        _beginnings[name] = beginning
    return beginning


def _framer(limit_bytes: int) -> SSEFramer:
    return SSEFramer(limit_bytes=limit_bytes)


SSE: Framing = Framing("text/event-stream", _framer, starts=(b":", b"data:", b"event:", b"id:", b"retry:"))
"""Server-sent events, the default framing of all hosts."""
