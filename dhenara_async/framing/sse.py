r"""Server-Sent Events, on bytes.

Lines end with ``\n``, ``\r\n`` or ``\r`` and with nothing else (JSON strings may hold U+2028 or U+0085 raw); UTF-8 is
never decoded here, so no cut of the network can tear a character. A read is scanned once, for all its events.

Three things go beyond the standard, because providers need them. An event without its final blank line is handed over
at the end of the body. And lines that are no field but look like the start of a JSON or HTML document are kept, as one
frame: hosts break into a stream with a bare JSON error, and proxies with a page. Such a frame comes before the event
that follows it without a blank line between. So is a line ``error: …``, as an event named ``error``.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (read 2026-11-22)
"""

import re
from collections.abc import Sequence

import orjson

from dhenara_async.errors import BoundsError
from dhenara_async.framing import Frame, NamedFrame

DEFAULT_LIMIT_BYTES = 64 * 1024 * 1024
HEAVY_BYTES = 1024 * 1024
_CONTAINER_BYTES, _MEMBER_BYTES = 64, 32  # of memory, for each object or array, and for each of their members

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_COMMENT = re.compile(rb"^:.*\n", re.MULTILINE)
_DOCUMENT_STARTS = (b"{", b"[", b"<")
# By a line with a name, how the line of data behind it begins: the same in all streams of a dialect.
_beginnings: dict[bytes, bytes] = {}
_MOST_NAMES, _LONGEST_NAME = 1000, 100


class SSEFramer:
    """Cuts an event stream; see the module.

    Args:
        limit_bytes: The most one event may hold before it is refused as a fault of the provider.
    """

    __slots__ = ("_alike", "_at_start", "_data_at", "_full", "_held", "_limit", "_skip_newline")

    def __init__(self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._at_start = True
        self._skip_newline = False  # the last read ended with \r: a \n that leads the next one belongs to it
        self._held = bytearray()  # an event whose end has not come; grown in place, so that huge ones stay linear
        self._full = limit_bytes  # how many bytes may be held until comments are removed from them
        self._alike, self._data_at = b"data: ", 6  # how the last event began, and where its data did in that

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events that are complete with ``chunk``; see ``Framer``."""
        if self._skip_newline or b"\r" in chunk:
            chunk = self._with_plain_newlines(chunk)
        if chunk.endswith(b"\n\n") and chunk.startswith(self._alike) and not self._held:
            data = chunk[self._data_at : -2]
            if b"\n" not in data:  # one whole event, as most reads are that come while a model speaks
                self._at_start = False
                return [data]
        end = chunk.rfind(b"\n\n") + 2
        if end < 2:
            if chunk[:1] != b"\n" or not self._held.endswith(b"\n"):
                self._hold(chunk)
                return []
            end = 1  # the blank line came apart
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
        lines.pop()  # what follows the last newline: nothing
        return self._usual(lines) or _any(lines)

    def finish(self) -> list[Frame]:
        """The event that was pending when the body ended; see ``Framer``."""
        text = bytes(self._held)
        self._held = bytearray()
        if self._at_start:
            text = text.removeprefix(_BYTE_ORDER_MARK)
        return _any([*text.split(b"\n"), b""])

    def _usual(self, lines: list[bytes]) -> list[Frame]:
        """The events of ``lines`` if they are what they nearly always are: a blank line behind every one of data, or
        behind every pair of name and data. Else nothing."""
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
            kept = _COMMENT.sub(b"", self._held)  # some hosts send nothing else for a long time
            if len(kept) > self._limit:
                raise too_large("one event of the answer", self._limit)
            self._held = bytearray(kept)
            self._full = max(self._limit, len(kept) + self._limit // 4)  # removed for each quarter, not for each read

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        plain = chunk.replace(b"\r", b"")
        if not self._skip_newline and plain.replace(b"\n", b"\r\n") == chunk:  # faster than to look for pairs
            return plain
        if self._skip_newline and chunk:
            self._skip_newline = False
            chunk = chunk.removeprefix(b"\n")
        if chunk.endswith(b"\r"):
            self._skip_newline = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def too_large(subject: str, limit_bytes: int) -> BoundsError:
    """The error for an event or a plain body of more than ``limit_bytes``, which is half of what an answer may have."""
    return BoundsError(
        f"{subject} is larger than {limit_bytes} bytes", setting="max_answer_bytes", limit=limit_bytes * 2
    )


def check_weight(data: bytes, limit_bytes: int) -> None:
    """Refuse JSON that would take far more memory than its bytes, such as ``[[],[],[],…``.

    Args:
        data: An event or a body. Below ``HEAVY_BYTES`` the check is not worth its time.
        limit_bytes: The most that an event may have; its values may take four times as much.

    Raises:
        BoundsError: Its objects, arrays and members would take more.
    """
    containers, members = data.count(b"{") + data.count(b"["), data.count(b",")
    if len(data) + _CONTAINER_BYTES * containers + _MEMBER_BYTES * members > 4 * limit_bytes:
        raise too_large("one event of the answer, with the values that it holds,", limit_bytes)


def _any(lines: Sequence[bytes]) -> list[Frame]:
    """The events that end in ``lines``, whatever those are."""
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
        else:  # no space after the colon, or no colon; comments have an empty name; other fields mean nothing to us
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event = value
            elif name == b"error" and value:
                frames.append(_failure(value.strip()))
    return frames


def _failure(told: bytes) -> Frame:
    """The frame for a line ``error: …``, with which some servers end a stream: JSON, or plain words."""
    if told[:1] != b"{":
        told = orjson.dumps({"error": {"message": told.decode(errors="replace")}})
    return NamedFrame(told, b"error")


def _named(data: bytes, event: bytes) -> Frame:
    """``data`` with the name that was given it, unless it says the same first."""
    return NamedFrame(data, event) if event and _typed(data, event) is None else data


def _typed(data: bytes, event: bytes) -> bytes | None:
    """The beginning of ``data``, if that says what ``event`` does."""
    for usual in (b'{"type":"%b"' % event, b'{"type": "%b"' % event):  # a pattern costs more than a token
        if data.startswith(usual):
            return usual
    found = re.match(rb'\{\s*"type"\s*:\s*"%s"' % re.escape(event), data)
    return None if found is None else found[0]


def _beginning(name: bytes, line: bytes) -> bytes | None:
    """How a line of data begins that repeats the name in the line before it, to be remembered; None if it does not."""
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
