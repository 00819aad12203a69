"""Answers as responses of aiohttp.web.

aiohttp tells a handler that its client has gone away only at the next write, unless its runner was made with
``handler_cancellation=True``; a response of ours has the connection watched (``watch.py``).
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from http import HTTPStatus
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from dhenara_async.web.aiohttp.watch import ConnectionWatch
from dhenara_async.web.feeds import Feed, WebFanOut, WebStream
from dhenara_async.web.frames.ui_messages import FileURL, UIStreamVersion
from dhenara_async.web.responses import agui_feed, json_lines_feed, sse_feed, text_feed, ui_message_feed
from dhenara_async.web.sending import HEARTBEAT, ClientLeft, Sending


class AiohttpAnswer(web.StreamResponse):
    """An answer on its way to one client; made by ``sse_response`` and its siblings. A handler returns it.

    Args:
        request: The request.
        sending: The bytes of the answer, and their state.
    """

    def __init__(self, request: web.Request, sending: Sending) -> None:
        super().__init__(headers={**sending.feed.headers, "content-type": sending.feed.media_type})
        self._request = request
        self._sending = sending
        self._begun = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Do nothing yet: the status is known when the answer begins. aiohttp calls this after the handler."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the answer. aiohttp calls this after the handler.

        Raises:
            Exception: A fault of the app, after the client was told that the answer is cut.
        """
        if not self._begun:
            self._begun = True
            await self._sending.run(self)

    def __await__(self) -> Generator[object, None, Self]:
        return self._sent().__await__()

    async def _sent(self) -> Self:
        await self.write_eof()
        return self

    # ------------------------------------------------------------------------------------------------ the wire

    async def start(self, feed: Feed) -> None:
        """See ``Wire``."""
        await self._head(HTTPStatus.OK)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Wire``."""
        try:
            await super().write(data)
        except ConnectionError as exc:
            raise ClientLeft from exc

    async def finish(self) -> None:
        """See ``Wire``."""
        try:
            await super().write_eof()
        except ConnectionError as exc:
            raise ClientLeft from exc

    async def abort(self) -> None:
        """See ``Wire``."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def refuse(self, status: int, media_type: str, body: bytes, headers: Mapping[str, str]) -> None:
        """See ``Wire``."""
        self.headers.update({**headers, "content-type": media_type})
        await self._head(status)
        await self.write(body)
        await self.finish()

    async def nothing(self) -> None:
        """See ``Wire``."""
        del self.headers["content-type"]
        await self._head(HTTPStatus.NO_CONTENT)
        await self.finish()

    async def gone(self) -> None:
        """See ``Wire``."""
        await ConnectionWatch.of_running_loop().lost(self._request.transport)

    async def _head(self, status: int) -> None:
        self.set_status(int(status))
        try:
            await super().prepare(self._request)
        except ConnectionError as exc:
            raise ClientLeft from exc


def sse_response(
    stream: WebStream | WebFanOut,
    request: web.Request,
    *,
    detach: bool = False,
    retry: float = 1.0,
    heartbeat: float = HEARTBEAT,
) -> AiohttpAnswer:
    """Send our own events as Server-Sent Events; a fan-out is sent with a tag on each event.

    Args:
        stream: A turn or a stream whose block was not entered, a reader of ``manager.attach``, or a fan-out.
        request: The request, whose ``Last-Event-ID`` is the cursor of a reader.
        detach: Whether the turn goes on when the client goes away; otherwise the provider's call is cancelled.
        retry: Seconds after which ``EventSource`` reconnects.
        heartbeat: Seconds of silence after which a comment is sent.

    Returns:
        The response, for the handler to return. The provider is asked when it is sent; ``await`` sends it at once.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn.
    """
    last = request.headers.get("last-event-id")
    feed = sse_feed(stream, detach=detach, retry=retry, last_event_id=last)
    return AiohttpAnswer(request, Sending(feed, last_event_id=last, heartbeat=heartbeat))


def json_lines_response(
    stream: WebStream | WebFanOut, request: web.Request, *, detach: bool = False, heartbeat: float = HEARTBEAT
) -> AiohttpAnswer:
    """Send our own events as JSON lines. Arguments as for ``sse_response``.

    Args:
        stream: The answer: a turn, a reader, a stream or a fan-out.
        request: The request.
        detach: Whether the turn goes on when the client goes away.
        heartbeat: Seconds of silence after which a ``heartbeat`` event is sent.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn.
    """
    return AiohttpAnswer(request, Sending(json_lines_feed(stream, detach=detach), heartbeat=heartbeat))


def text_response(stream: WebStream, request: web.Request, *, detach: bool = False) -> AiohttpAnswer:
    """Send the words of an answer as plain text. Where the answer is cut, the connection is broken.

    Args:
        stream: The answer: a turn, an attached reader or a stream.
        request: The request.
        detach: Whether the turn goes on when the client goes away.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn, or ``stream`` is a fan-out.
    """
    return AiohttpAnswer(request, Sending(text_feed(stream, detach=detach)))


def ui_message_response(
    stream: WebStream,
    request: web.Request,
    *,
    sdk: UIStreamVersion = 6,
    detach: bool = False,
    known_tools: Collection[str] = (),
    file_url: FileURL | None = None,
    heartbeat: float = HEARTBEAT,
) -> AiohttpAnswer:
    """Send an answer to ``useChat`` of the AI SDK.

    Args:
        stream: The answer: a turn, an attached reader or a stream.
        request: The request.
        sdk: The major version of the page's ``ai`` package.
        detach: Whether the turn goes on when the client goes away.
        known_tools: Names of the tools that the page declares; all others are ``dynamic``.
        file_url: Returns the URL of a generated file; None = ``data:`` URLs.
        heartbeat: Seconds of silence after which a comment is sent.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn, ``stream`` is a fan-out, or ``sdk`` is
            neither 6 nor 7.
    """
    feed = ui_message_feed(stream, sdk=sdk, detach=detach, known_tools=known_tools, file_url=file_url)
    return AiohttpAnswer(request, Sending(feed, heartbeat=heartbeat))


def agui_response(
    stream: WebStream,
    request: web.Request,
    *,
    thread_id: str | None = None,
    run_id: str | None = None,
    before: Sequence[Mapping[str, object]] | None = None,
    joins: bool = False,
    detach: bool = False,
    heartbeat: float = HEARTBEAT,
) -> AiohttpAnswer:
    """Send an answer to a client of AG-UI 1.0.

    Args:
        stream: The answer: a turn, an attached reader or a stream.
        request: The request.
        thread_id: The ``threadId`` of the run's input; None = the turn's id.
        run_id: Its ``runId``; None = the turn's id.
        before: The messages before the answer, with its question; needed for ``joins``.
        joins: Whether the client comes late: what is there already is sent as one ``MESSAGES_SNAPSHOT``.
        detach: Whether the turn goes on when the client goes away.
        heartbeat: Seconds of silence after which a comment is sent.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn, or ``stream`` is a fan-out.
    """
    feed = agui_feed(stream, thread_id=thread_id, run_id=run_id, before=before, joins=joins, detach=detach)
    return AiohttpAnswer(request, Sending(feed, heartbeat=heartbeat))
