"""Turn a good answer into a faulty one: its events changed, compressed and framed, as bytes to send.

Pure. The only wire details here are how each dialect reports an error inside a stream, and how it ends a stream.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Protocol

from dhenara_async.endpoint import Dialect
from dhenara_async.testing.dialects.base import as_object, sse
from dhenara_async.testing.script import Coding, Fault

# Bytes that mark the events at the end of an answer, the last one or two of a stream.
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
            details = as_object(as_object(error).get("error"))
            code = details.get("code") or details.get("type")
            return sse({**details, "type": "error", "code": code, "sequence_number": 0}, event="error")
        case _:
            return sse(error)


def bend(
    fault: Fault, dialect: Dialect, events: Sequence[bytes], *, streamed: bool, failure: bytes | None
) -> list[bytes]:
    """Apply ``fault`` to the events of a body; see ``Fault`` for the order.

    Args:
        fault: The fault.
        dialect: The wire dialect.
        events: The complete good body; a plain body is one event.
        streamed: Whether the body is a stream.
        failure: The fault's ``error`` in the shape of the dialect.
    """
    faulty = list(events)
    if failure is not None:
        faulty = [*faulty[: fault.error_at], failure] if streamed else [failure]
    if fault.corrupt is not None:
        index = fault.corrupt_at if streamed else 0
        faulty[index] = _corrupted(faulty[index], fault.corrupt)
    if fault.terminal is not None:
        if streamed:
            faulty = _ended(faulty, _ENDS[dialect], twice=fault.terminal == "twice")
        else:
            faulty = faulty * 2 if fault.terminal == "twice" else [b"".join(faulty).rstrip()[:-1]]
    moves = (fault.swap, fault.repeat, fault.lose, fault.stall)
    if not streamed and len(faulty) == 1 and moves != (None, None, None, None):
        middle = len(faulty[0]) // 2
        faulty = [faulty[0][:middle], faulty[0][middle:]]
    if fault.swap is not None:
        first, second = fault.swap
        faulty[first], faulty[second] = faulty[second], faulty[first]
    if fault.repeat is not None:
        faulty.insert(fault.repeat, faulty[fault.repeat])
    if fault.lose is not None:
        del faulty[fault.lose]
    if fault.padding:
        faulty = [_padded(event, fault.padding) for event in faulty]
    return faulty if fault.body is None else [fault.body]


def _corrupted(event: bytes, how: str) -> bytes:
    """Break the JSON of an event, and keep its lines."""
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
    start = event.find(b"{")
    return event if start < 0 else event[:start] + b" " * padding + event[start:]


# ---------------------------------------------------------------------------------------------------- compressing


class _Compressor(Protocol):
    def __call__(self, data: bytes, *, last: bool) -> bytes: ...


def codings() -> tuple[Coding, ...]:
    """Return the available compressions: brotli and zstandard need an extra package."""
    return tuple(name for name, make in _COMPRESSORS.items() if make() is not None)


def compressed(pieces: Sequence[bytes], coding: Coding) -> list[bytes]:
    """Compress ``pieces``, each flushed so that it can be read at once.

    Raises:
        ValueError: The package for ``coding`` is not installed.
    """
    squeeze = _COMPRESSORS[coding]()
    if squeeze is None:
        raise ValueError(f"no installed package compresses with {coding}; available: {', '.join(codings())}")
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
    """Build the head of an answer whose body has ``length`` bytes, with its empty line."""
    fields = {
        **headers,
        "transfer-encoding": "chunked" if fault.framing == "chunked" else "",
        "content-length": str(length) if fault.framing == "length" else "",
        "connection": "keep-alive" if fault.cut == "idle" else "close",
        **fault.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status} Loopback\r\n{lines}\r\n".encode()


def framed(fault: Fault, pieces: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """Frame the body up to its cut; returns its pieces and the end of its framing."""
    kept = list(_until(pieces, fault.cut)) if isinstance(fault.cut, int) else [piece for piece in pieces if piece]
    if fault.framing != "chunked":
        return kept, b""
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in kept], b"0\r\n\r\n"


def _until(pieces: Sequence[bytes], remaining: int) -> Iterator[bytes]:
    for piece in pieces:
        if remaining > 0 and piece:
            yield piece[:remaining]
        remaining -= len(piece)
