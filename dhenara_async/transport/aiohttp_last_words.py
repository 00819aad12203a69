"""Answers of hosts that refuse a request while it is still being sent, and hang up at once.

A host that answers 413 to the first of twenty megabytes closes a connection on which more is coming, which resets it.
The next piece cannot be sent then, and asyncio gives a connection up as soon as sending fails, without a look at what
has been received: the answer would be lost, and the request sent again. Here it is received first.

There is no public way to do so, so this looks inside of aiohttp and of asyncio's TLS. Where it finds nothing that it
knows, as in uvloop's TLS, the answer is lost as before.

Source: aiohttp 3.14.5, ``client_proto.py``; CPython 3.11 to 3.14, ``asyncio/selector_events.py`` and ``sslproto.py``
(read 2026-11-28)
"""

import asyncio
import os
import socket
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

from aiohttp import ClientConnectionError, helpers
from aiohttp.client_proto import ResponseHandler

# Of another version it may be missing, where it is not used either.
_NO_CAUSE = cast("BaseException", getattr(helpers, "_EXC_SENTINEL", None))
_MOST_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16


class Listening(ResponseHandler):
    """A connection that receives what a host has said, before it is given up because nothing can be sent any more."""

    _heard_out = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        tls = _tls_of(transport)
        if tls is not None:
            _tell_first(tls, self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See ``asyncio.Protocol``."""
        if exc is not None:
            self.hear_out()
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _NO_CAUSE) -> None:
        """Fail whoever waits for an answer; aiohttp does so when it cannot send a body."""
        if isinstance(exc, OSError | ClientConnectionError) and not isinstance(exc, TimeoutError):
            self.hear_out()
        super().set_exception(exc, exc_cause)

    def hear_out(self) -> None:
        """Receive what has arrived at a connection that is being given up."""
        transport = self.transport
        if self._heard_out or transport is None:
            return
        self._heard_out = True
        tls = _tls_of(transport)
        if tls is None and transport.get_extra_info("sslcontext") is not None:
            return  # somebody else's TLS
        for piece in _arrived(transport):
            if tls is None:
                self.data_received(piece)
            else:
                tls.get_buffer(len(piece))[: len(piece)] = piece
                tls.buffer_updated(len(piece))


def _tls_of(transport: asyncio.BaseTransport) -> SSLProtocol | None:
    """asyncio's TLS below a connection, if there is any."""
    tls: object = getattr(transport, "_ssl_protocol", None)
    return tls if isinstance(tls, SSLProtocol) else None


def _tell_first(tls: SSLProtocol, listening: Listening) -> None:
    """Have ``listening`` hear out a host before TLS learns that the connection is lost: it forgets everything then."""
    lose = tls.connection_lost

    def lost(exc: BaseException | None) -> None:
        del tls.connection_lost  # or it would hold itself
        if exc is not None:
            listening.hear_out()
        lose(exc)

    tls.connection_lost = lost


def _arrived(transport: asyncio.BaseTransport) -> Iterator[bytes]:
    """What the system has received for a connection and nobody has read."""
    with suppress(OSError), socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as twin:
        twin.setblocking(False)
        for _ in range(_MOST_BYTES // _PIECE_BYTES):
            piece = twin.recv(_PIECE_BYTES)
            if not piece:
                return
            yield piece
