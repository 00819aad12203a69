"""Decompresses response bodies in pieces of bounded size, for all transports.

The transports accept gzip and deflate only, and receive bodies as they were sent. HTTP libraries would decompress a
read as a whole, and a few kilobytes of brotli can hold a gigabyte. Here a read returns at most ``PIECE_BYTES``, so that
``Bounds.max_answer_bytes`` can stop it in time.

Source: RFC 9110, section 8.4 and the IANA registry of content codings (read 2026-11-22)
"""

import zlib
from collections.abc import Mapping

from dhenara_async.errors import ProtocolError, ReadError
from dhenara_async.transport import Exchange

ACCEPTED = "gzip, deflate"
"""The ``accept-encoding`` header of requests."""

PIECE_BYTES = 1 << 18

_GZIP = frozenset({"gzip", "x-gzip"})
# Encodings that make a body unreadable. Other words in the header (a charset, say) change nothing.
_REFUSED = frozenset(
    {
        *("aes128gcm", "br", "brotli", "bzip2", "compress", "dcb", "dcz", "exi", "lz4", "lzma", "pack200-gzip"),
        *("snappy", "x-compress", "xz", "zstandard", "zstd"),
    }
)
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_ZLIB_METHOD = 8


def unpacked(exchange: Exchange) -> Exchange:
    """Return ``exchange``, decompressing its body if its ``content-encoding`` says that it is compressed."""
    encoding = exchange.headers.get("content-encoding")
    if encoding is None:
        return exchange
    codings = [name for word in encoding.lower().split(",") if (name := word.strip()) not in ("", "identity")]
    if codings == ["deflate"] or (len(codings) == 1 and codings[0] in _GZIP):
        return _Unpacked(exchange, gzip=codings[0] in _GZIP)
    if _REFUSED.isdisjoint(codings) and (len(codings) < 2 or _GZIP.isdisjoint(codings)):
        return exchange
    return _Refused(exchange, encoding)


class _Around:
    """An exchange that wraps another one."""

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
    """An exchange with a gzip or deflate body, also one of several members or without zlib's header."""

    __slots__ = ("_decompressor", "_full", "_gzip", "_held")

    def __init__(self, exchange: Exchange, *, gzip: bool) -> None:
        super().__init__(exchange)
        self._gzip = gzip
        self._decompressor: zlib._Decompress | None = None  # pyright: ignore[reportPrivateUsage] - it has no other name
        self._held = b""  # received, not yet decompressed
        self._full = False  # the last piece had the largest size: the decompressor may hold more

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
        """Decompress the received bytes, up to the size of a piece; empty if more bytes are needed."""
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
        """Return the decompressor of the body's next member, behind padding; None if no member has begun."""
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
    """An exchange whose body has an encoding that was not requested; only its status and headers can be read."""

    __slots__ = ("_encoding",)

    def __init__(self, exchange: Exchange, encoding: str) -> None:
        super().__init__(exchange)
        self._encoding = encoding

    async def read(self) -> bytes:
        """See ``Exchange``.

        Raises:
            ProtocolError: There is a body.
        """
        if not await self._exchange.read():
            return b""
        error = ProtocolError(
            f"the body of the answer is encoded as {self._encoding!r}, and {ACCEPTED} was asked for: look for a proxy "
            "between here and the host that ignores accept-encoding"
        )
        error.retryable = False
        raise error

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._exchange.ended()
