"""Turn a good answer into a faulty one: its events changed, compressed and framed, as bytes to send.

Pure. The few wire words in here are those that a dialect has for failing inside a stream and for ending one.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Protocol

from dhenara_async.endpoint import Dialect
from dhenara_async.testing.dialects.base import as_object, sse
from dhenara_async.testing.script import Coding, Fault

# What is in the events that end an answer, the last one or two of a stream.
_ENDS: Mapping[Dialect, tuple[bytes, ...]] = {
    Dialect.ANTHROPIC_MESSAGES: (b'"type":"message_stop"',),
    Dialect.GEMINI: (b'"finishReason":',),
    Dialect.OPENAI_CHAT: (b'"finish_reason":"', b"data: [DONE]"),
    Dialect.OPENAI_RESPONSES: (b'"type":"response.completed"', b'"type":"response.incomplete"'),
}


def reported(dialect: Dialect, error: object) -> bytes:
    """Turn the body of an HTTP error into an error event of a stream."""
    match dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            return sse(error, event="error")
        case Dialect.OPENAI_RESPONSES:
            told = as_object(as_object(error).get("error"))
            code = told.get("code") or told.get("type")
            return sse({**told, "type": "error", "code": code, "sequence_number": 0}, event="error")
        case _:
            return sse(error)


def bend(
    fault: Fault, dialect: Dialect, events: Sequence[bytes], *, streamed: bool, failure: bytes | None
) -> list[bytes]:
    """The body's events as ``fault`` has them; see ``Fault`` for the order.

    Args:
        fault: What goes wrong.
        dialect: The wire language.
        events: The good body, whole; a plain one is one event.
        streamed: Whether it is a stream.
        failure: The fault's ``error`` in the dialect's words.
    """
    bent = list(events)
    if failure is not None:
        bent = [*bent[: fault.error_at], failure] if streamed else [failure]
    if fault.corrupt is not None:
        place = fault.corrupt_at if streamed else 0
        bent[place] = _corrupted(bent[place], fault.corrupt)
    if fault.terminal is not None:
        if streamed:
            bent = _ended(bent, _ENDS[dialect], twice=fault.terminal == "twice")
        else:
            bent = bent * 2 if fault.terminal == "twice" else [b"".join(bent).rstrip()[:-1]]
    moved = (fault.swap, fault.repeat, fault.lose, fault.stall)
    if not streamed and len(bent) == 1 and moved != (None, None, None, None):
        middle = len(bent[0]) // 2
        bent = [bent[0][:middle], bent[0][middle:]]
    if fault.swap is not None:
        one, other = fault.swap
        bent[one], bent[other] = bent[other], bent[one]
    if fault.repeat is not None:
        bent.insert(fault.repeat, bent[fault.repeat])
    if fault.lose is not None:
        del bent[fault.lose]
    if fault.padding:
        bent = [_padded(event, fault.padding) for event in bent]
    return bent if fault.body is None else [fault.body]


def _corrupted(event: bytes, how: str) -> bytes:
    """``event``, whose lines stay lines, with JSON that is none."""
    begin, end = event.index(b"{"), event.rindex(b"}") + 1
    json = event[begin:end]
    bad = json[: len(json) // 2] if how == "json" else json.replace(b'"', b'"\xff', 1)
    return event[:begin] + bad + event[end:]


def _ended(events: Sequence[bytes], marks: Sequence[bytes], *, twice: bool) -> list[bytes]:
    ends = [any(mark in event for mark in marks) for event in events]
    if not twice:
        return [event for event, is_end in zip(events, ends, strict=True) if not is_end]
    return [*events, *(event for event, is_end in zip(events, ends, strict=True) if is_end)]


def _padded(event: bytes, padding: int) -> bytes:
    place = event.find(b"{")
    return event if place < 0 else event[:place] + b" " * padding + event[place:]


# ---------------------------------------------------------------------------------------------------- compressing


class _Compressor(Protocol):
    def __call__(self, data: bytes, *, last: bool) -> bytes: ...


def codings() -> tuple[Coding, ...]:
    """The compressions that can be made here: brotli and zstandard take a package of their own."""
    return tuple(name for name, make in _COMPRESSORS.items() if make() is not None)


def compressed(pieces: Sequence[bytes], coding: Coding) -> list[bytes]:
    """``pieces``, each of which can be read as soon as it is there.

    Raises:
        ValueError: The package for ``coding`` is missing here.
    """
    squeeze = _COMPRESSORS[coding]()
    if squeeze is None:
        raise ValueError(f"nothing here can compress with {coding}; it can with {', '.join(codings())}")
    return [squeeze(piece, last=number == len(pieces)) for number, piece in enumerate(pieces, start=1)]


def _zlib(window_bits: int) -> Callable[[], _Compressor]:
    def make() -> _Compressor:
        worker = zlib.compressobj(wbits=window_bits)

        def squeeze(data: bytes, *, last: bool) -> bytes:
            return worker.compress(data) + worker.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

        return squeeze

    return make


class _Brotli(Protocol):
    def process(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class _Zstandard(Protocol):
    FLUSH_BLOCK: int
    FLUSH_FRAME: int

    def compress(self, data: bytes, mode: int) -> bytes: ...


def _brotli() -> _Compressor | None:
    module = _optional("brotli")
    if module is None:
        return None
    worker: _Brotli = module.Compressor()

    def squeeze(data: bytes, *, last: bool) -> bytes:
        return worker.process(data) + (worker.finish() if last else worker.flush())

    return squeeze


def _zstd() -> _Compressor | None:
    module = _optional("compression.zstd") or _optional("backports.zstd")
    if module is None:
        return None
    worker: _Zstandard = module.ZstdCompressor()

    def squeeze(data: bytes, *, last: bool) -> bytes:
        return worker.compress(data, worker.FLUSH_FRAME if last else worker.FLUSH_BLOCK)

    return squeeze


def _optional(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ImportError:
        return None


_COMPRESSORS: Mapping[Coding, Callable[[], _Compressor | None]] = {
    "gzip": _zlib(31),
    "deflate": _zlib(15),
    "br": _brotli,
    "zstd": _zstd,
}

# ---------------------------------------------------------------------------------------------------- framing


def head_of(fault: Fault, status: int, headers: Mapping[str, str], length: int) -> bytes:
    """The head of an answer whose body has ``length`` bytes, its empty line included."""
    named = {
        **headers,
        "transfer-encoding": "chunked" if fault.framing == "chunked" else "",
        "content-length": str(length) if fault.framing == "length" else "",
        "connection": "keep-alive" if fault.cut == "idle" else "close",
        **fault.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"HTTP/1.1 {status} Loopback\r\n{lines}\r\n".encode()


def framed(fault: Fault, pieces: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """The body as it is sent, as far as it is, and the sign that it is over."""
    kept = list(_until(pieces, fault.cut)) if isinstance(fault.cut, int) else [piece for piece in pieces if piece]
    if fault.framing != "chunked":
        return kept, b""
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in kept], b"0\r\n\r\n"


def _until(pieces: Sequence[bytes], place: int) -> Iterator[bytes]:
    for piece in pieces:
        if place > 0 and piece:
            yield piece[:place]
        place -= len(piece)
