"""``ConnectionLimit``: how many connections ``dhenara-async serve`` keeps, and how long they wait for a request.

A connection waits from when it is opened until the head of a request is complete, and again after each response.
Servers count it against their limit all the time: some hundred connections that nobody uses would lock everybody out.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html (read 2026-11-28)
"""

import asyncio
from collections import Counter
from typing import cast

from dhenara_async.web.serving.guard import GuardedApp, GuardReceive, GuardScope, GuardSend

_Ends = tuple[str, int, str, int]
"""A connection: host and port of the client, then those of the server."""


class ConnectionLimit:
    """Closes connections that wait too long for a request, and old ones where there are too many.

    The protocol of the server tells of connections that begin and end. Of requests it learns as an ASGI app before
    another one.

    Args:
        app: The app that answers.
        most: Number of connections at which a new one takes the place of one that waits: of the oldest of the client
            with the most waiting connections.
        seconds: How long a connection may wait.
    """

    def __init__(self, app: GuardedApp, *, most: int = 256, seconds: float = 10.0) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds
        self._open: dict[_Ends, asyncio.Transport] = {}
        self._waiting: dict[str, dict[_Ends, asyncio.TimerHandle]] = {}  # by the host of the client, the oldest first
        self._asked: Counter[_Ends] = Counter()  # the next request may come before the app is done with the last one

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, transport: asyncio.Transport) -> None:
        """Count a connection that has begun."""
        if len(self._open) >= self._most and self._waiting:
            oldest = next(iter(max(self._waiting.values(), key=len)))
            self._open[oldest].abort()
            self._forget(oldest)
        ends = _ends(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        if ends is not None:
            self._open[ends] = transport
            self._wait(ends)

    def closed(self, transport: asyncio.Transport) -> None:
        """Forget a connection that has ended."""
        ends = _ends(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        if ends is not None and self._open.get(ends) is transport:
            self._forget(ends)

    async def __call__(self, scope: GuardScope, receive: GuardReceive, send: GuardSend) -> None:
        """Pass a request on. Its connection does not wait until it is answered."""
        ends = _ends(scope.get("client"), scope.get("server"))
        if ends is None or ends not in self._open:
            await self._app(scope, receive, send)
            return
        self._stop_waiting(ends)
        self._asked[ends] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._asked[ends] -= 1
            if not self._asked[ends]:
                del self._asked[ends]
                if ends in self._open:
                    self._wait(ends)

    def _forget(self, ends: _Ends) -> None:
        self._stop_waiting(ends)
        del self._open[ends]

    def _wait(self, ends: _Ends) -> None:
        self._stop_waiting(ends)  # a client may come back from the same port while its last request is still at work
        # close, not abort: the end of the last response may be on its way
        timer = asyncio.get_running_loop().call_later(self._seconds, self._open[ends].close)
        self._waiting.setdefault(ends[0], {})[ends] = timer

    def _stop_waiting(self, ends: _Ends) -> None:
        client = self._waiting.get(ends[0], {})
        timer = client.pop(ends, None)
        if timer is not None:
            timer.cancel()
        if not client:
            self._waiting.pop(ends[0], None)


def _ends(client: object, server: object) -> _Ends | None:
    """Return the ends of a connection; None = it is not one of a network."""
    if not isinstance(client, tuple) or not isinstance(server, tuple):
        return None
    there, here = cast("tuple[str, int]", client), cast("tuple[str, int]", server)
    return there[0], there[1], here[0], here[1]
