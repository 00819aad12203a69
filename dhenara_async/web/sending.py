"""Sends a feed over a connection of any framework, until it ends or the client goes away.

Theory. Three things happen at once: the answer is read and written, a quiet connection gets comments, and somebody
waits for the client to go away. The first runs in the handler's own task, because a turn has to be entered and left in
one task; the others are its helpers, and end with it. A client that reads slowly makes ``write`` wait, and so the
provider. A client that goes away cancels the scope: the turn's block is left, which closes the provider's socket.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Protocol

import anyio

from dhenara_async.errors import APIError, DhenaraError
from dhenara_async.web.feeds import Feed
from dhenara_async.web.frames.failures import OPERATOR_ERRORS, failure_of
from dhenara_async.web.frames.sse import END_ID

logger: logging.Logger = logging.getLogger("dhenara_async")

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent."""

_FIRST_WORD = 0.5
"""Seconds that a returning reader waits for something new, before the response begins all the same."""


class ClientLeft(Exception):
    """Raised by the methods of ``Wire`` where the client has gone away."""


class Wire(Protocol):
    """The connection to one client, before its response has begun. Its methods may raise ``ClientLeft``."""

    async def start(self, feed: Feed) -> None:
        """Send the head of the response."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait while the client reads slowly."""
        ...

    async def finish(self) -> None:
        """End the body."""
        ...

    async def abort(self) -> None:
        """Break the connection, so that the client does not take the body for complete."""
        ...

    async def refuse(self, status: int, media_type: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a whole response that says why there is no answer."""
        ...

    async def nothing(self) -> None:
        """Send the status 204: there is nothing more, and ``EventSource`` stops."""
        ...

    async def gone(self) -> None:
        """Return when the client has gone away."""
        ...


class Sending:
    """One response on its way.

    Args:
        feed: The bytes of the answer.
        last_event_id: The header ``Last-Event-ID``; None if the client did not send one.
        heartbeat: Seconds of silence after which a comment is sent.
    """

    def __init__(self, feed: Feed, *, last_event_id: str | None = None, heartbeat: float = HEARTBEAT) -> None:
        self._feed = feed
        self._last_event_id = last_event_id
        self._heartbeat = heartbeat
        self._written_at = 0.0
        self._writing = False

    @property
    def feed(self) -> Feed:
        """The feed that is sent."""
        return self._feed

    async def run(self, wire: Wire) -> None:
        """Send everything, until the end or until the client goes away.

        Raises:
            Exception: A fault of the app or of this library, after the client was told that the answer is cut.
        """
        if self._last_event_id == END_ID:
            with suppress(ClientLeft):
                await wire.nothing()
            return
        fault: Exception | None = None
        async with anyio.create_task_group() as tasks:
            scope = tasks.cancel_scope
            tasks.start_soon(self._leave_with_client, wire, scope)
            fault = await self._send(wire, lambda: tasks.start_soon(self._beat, wire, scope))
            scope.cancel()
        if fault is not None:
            raise fault

    async def _leave_with_client(self, wire: Wire, scope: anyio.CancelScope) -> None:
        await wire.gone()
        scope.cancel()

    async def _beat(self, wire: Wire, scope: anyio.CancelScope) -> None:
        """Task: send a comment whenever nothing was sent for a while. It may be the first to find the client gone."""
        try:
            while True:
                quiet = monotonic() - self._written_at
                if quiet < self._heartbeat:
                    await anyio.sleep(self._heartbeat - quiet)
                elif self._writing:  # the client reads slowly, and will have enough to read
                    await anyio.sleep(self._heartbeat)
                else:
                    await self._write(wire, self._feed.comment)
        except ClientLeft:
            scope.cancel()

    async def _write(self, wire: Wire, data: bytes) -> None:
        self._writing = True
        try:
            await wire.write(data)
        finally:
            self._writing = False
            self._written_at = monotonic()

    async def _send(self, wire: Wire, beat: Callable[[], object]) -> Exception | None:
        """Send the answer, and return a fault that is not an error of the answer."""
        feed, error = self._feed, None
        entered = started = False
        try:
            async with feed:
                entered = True
                ahead: bytes | None = b""
                if feed.resumes:
                    with anyio.move_on_after(_FIRST_WORD):
                        ahead = await feed.read()
                    if ahead is None:
                        await wire.nothing()
                        return None
                await wire.start(feed)
                started = True
                self._written_at = monotonic()
                if feed.comment:
                    beat()
                await self._relay(wire, feed.begin() + ahead)
        except ClientLeft:
            return None
        except Exception as exc:  # noqa: BLE001 - the client is told of any
            error = exc
        if isinstance(error, OPERATOR_ERRORS):
            _log(error)
        try:
            if error is not None and not entered:
                failure = failure_of(error)
                await wire.refuse(*feed.refusal(failure), failure.headers)
            else:
                if not started:
                    await wire.start(feed)
                    await wire.write(feed.begin())
                await self._end(wire, error)
        except ClientLeft:
            return None
        return None if isinstance(error, DhenaraError) else error

    async def _relay(self, wire: Wire, data: bytes | None) -> None:
        read = self._feed.read
        while data is not None:
            if data:
                await self._write(wire, data)
            data = await read()

    async def _end(self, wire: Wire, error: Exception | None) -> None:
        last = self._feed.end() if error is None else self._feed.fail(error)
        if last is None:
            await wire.abort()
            return
        if last:
            await self._write(wire, last)
        await wire.finish()


def _log(error: BaseException) -> None:
    """Tell the people who run the app of an error that its clients are told nothing about."""
    if isinstance(error, APIError):  # without the provider's own words, which may quote the request
        told = error.provider, error.status, error.request_id
        logger.warning("an answer failed with %s: %s answered %s (request %s)", type(error).__name__, *told)
    else:
        logger.warning("an answer failed with %s: %s", type(error).__name__, error)
