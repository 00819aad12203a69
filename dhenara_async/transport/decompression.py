"""Compressed bodies, decompressed a bounded piece at a time, whichever library received them.

Both transports ask for gzip and deflate alone and take bodies as they were sent. HTTP libraries would decompress one
read at once, and a few kilobytes of brotli can hold a gigabyte; here a read hands over at most ``PIECE_BYTES``, so
whoever adds them up (``Bounds.max_answer_bytes``) can stop in time.

Source: RFC 9110, section 8.4 and the IANA registry of content codings (read 2026-11-22)
"""

import zlib
from collections.abc import Mapping

from dhenara_async.errors import ProtocolError, ReadError
from dhenara_async.transport import Exchange

ACCEPTED = "gzip, deflate"
"""What requests say in ``accept-encoding``."""

PIECE_BYTES = 1 << 18

_GZIP = frozenset({"gzip", "x-gzip"})
# What changes a body so that nobody reads it without undoing it. Other words there (a charset, say) change nothing.
_REFUSED = frozenset(
    {
        *("aes128gcm", "br", "brotli", "bzip2", "compress", "dcb", "dcz", "exi", "lz4", "lzma", "pack200-gzip"),
        *("snappy", "x-compress", "xz", "zstandard", "zstd"),
    }
)
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_ZLIB_METHOD = 8


def unpacked(exchange: Exchange) -> Exchange:
    """``exchange``, with its body decompressed where its head says that it is compressed."""
    told = exchange.headers.get("content-encoding")
    if told is None:
        return exchange
    codings = [name for word in told.lower().split(",") if (name := word.strip()) not in ("", "identity")]
    if codings == ["deflate"] or (len(codings) == 1 and codings[0] in _GZIP):
        return _Unpacked(exchange, gzip=codings[0] in _GZIP)
    if _REFUSED.isdisjoint(codings) and (len(codings) < 2 or _GZIP.isdisjoint(codings)):
        return exchange
    return _Refused(exchange, told)


class _Around:
    """An exchange whose body is read by way of another one."""

    __slots__ = ("_exchange", "headers", "repeatable", "status")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.repeatable: bool = getattr(exchange, "repeatable", False)
        self.status: int = exchange.status
        self.headers: Mapping[str, str] = exchange.headers

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._exchange.interrupt(error)

    async def close(self) -> None:
        """See ``Exchange``."""
        await self._exchange.close()


class _Unpacked(_Around):
    """An exchange with a body of gzip or deflate; in several members, or without zlib's head."""

    __slots__ = ("_decompressor", "_full", "_gzip", "_held")

    def __init__(self, exchange: Exchange, *, gzip: bool) -> None:
        super().__init__(exchange)
        self._gzip = gzip
        self._decompressor: zlib._Decompress | None = None  # pyright: ignore[reportPrivateUsage] - it has no other name
        self._held = b""  # received, and not decompressed yet
        self._full = False  # the last piece was as long as one may be: there may be more of what was received before

    async def read(self) -> bytes:
        """See ``Exchange``."""
        while True:
            if not self._held and not self._full:
                self._held = await self._exchange.read()
                if not self._held:
                    return b""
            piece = self._next()
            if piece:
                return piece

    def ended(self) -> bool:
        """See ``Exchange``."""
        return not self._held and not self._full and self._exchange.ended()

    def _next(self) -> bytes:
        """What can be decompressed of what was received, up to the length of a piece; empty if it takes more."""
        decompressor = self._decompressor or self._begun()
        if decompressor is None:
            return b""
        try:
            piece = decompressor.decompress(self._held, PIECE_BYTES)
        except zlib.error as exc:
            raise ReadError("the connection broke: the body is not compressed as its head says") from exc
        self._held = decompressor.unconsumed_tail
        self._full = len(piece) >= PIECE_BYTES
        if decompressor.eof:
            self._decompressor, self._full = None, False
            self._held = decompressor.unused_data
        return piece

    def _begun(self) -> "zlib._Decompress | None":  # pyright: ignore[reportPrivateUsage]
        """What decompresses the body, or another member of it behind some padding; None where nothing has begun."""
        if self._gzip:
            self._held = self._held.lstrip(b"\x00")
        if not self._held:
            return None
        window = _GZIP_WINDOW if self._gzip else zlib.MAX_WBITS
        if not self._gzip and self._held[0] & 0xF != _ZLIB_METHOD:
            window = -window  # without zlib's head
        self._decompressor = zlib.decompressobj(window)
        return self._decompressor


class _Refused(_Around):
    """An exchange with a body that nobody asked for and nothing here reads; its status and headers can be."""

    __slots__ = ("_told",)

    def __init__(self, exchange: Exchange, told: str) -> None:
        super().__init__(exchange)
        self._told = told

    async def read(self) -> bytes:
        """See ``Exchange``.

        Raises:
            ProtocolError: There is a body.
        """
        if not await self._exchange.read():
            return b""
        error = ProtocolError(
            f"the body of the answer is encoded as {self._told!r}, and {ACCEPTED} was asked for: look for a proxy "
            "between here and the host that ignores accept-encoding"
        )
        error.retryable = False
        raise error

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._exchange.ended()
