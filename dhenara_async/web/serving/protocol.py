"""The HTTP protocol of ``dhenara-async serve``: uvicorn's own, which tells of its connections."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from dhenara_async.web.serving.connections import ConnectionLimit


def counted_protocol(limit: ConnectionLimit) -> type[asyncio.Protocol]:
    """Return a protocol for ``uvicorn.Config(http=…)`` that counts its connections.

    It is the one on ``h11``, which reads requests strictly, whichever others are installed.
    """

    class CountedProtocol(H11Protocol):
        def connection_made(  # pyright: ignore[reportIncompatibleMethodOverride] - uvicorn narrows the transport, too
            self, transport: asyncio.Transport
        ) -> None:
            super().connection_made(transport)
            limit.opened(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            limit.closed(self.transport)
            super().connection_lost(exc)

    return CountedProtocol
