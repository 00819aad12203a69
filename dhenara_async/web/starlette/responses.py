"""Answers as responses of Starlette and FastAPI, on any ASGI server. Needs the extra ``starlette``.

A response listens for the end of its client itself: Starlette does so only under servers of older ASGI versions, and
otherwise notices at the next write, while the provider goes on for nobody.
"""

from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dhenara_async.web.feeds import Feed, WebFanOut, WebStream
from dhenara_async.web.frames.ui_messages import FileURL, UIStreamVersion
from dhenara_async.web.responses import agui_feed, json_lines_feed, sse_feed, text_feed, ui_message_feed
from dhenara_async.web.sending import HEARTBEAT, ClientLeft, Sending


class AnswerResponse(Response):
    """An answer on its way to one client; made by ``sse_response`` and its siblings. An endpoint returns it.

    Args:
        sending: The bytes of the answer, and their state.
    """

    def __init__(self, sending: Sending) -> None:
        self.status_code: int = HTTPStatus.OK
        self.background: BackgroundTask | None = None
        self.media_type: str | None = sending.feed.media_type
        self.init_headers({**sending.feed.headers, "content-type": sending.feed.media_type})
        self._sending = sending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, as an ASGI application.

        Raises:
            Exception: A fault of the app, after the client was told that the answer is cut.
        """
        await self._sending.run(_ASGIWire(self, receive, send))
        if self.background is not None:
            await self.background()


def sse_response(
    stream: WebStream | WebFanOut,
    request: Request,
    *,
    detach: bool = False,
    retry: float = 1.0,
    heartbeat: float = HEARTBEAT,
) -> Response:
    """Send our own events as Server-Sent Events; a fan-out is sent with a tag on each event.

    Args:
        stream: A turn or a stream whose block was not entered, a reader of ``manager.attach``, or a fan-out.
        request: The request, whose ``Last-Event-ID`` is the cursor of a reader.
        detach: Whether the turn goes on when the client goes away; otherwise the provider's call is cancelled.
        retry: Seconds after which ``EventSource`` reconnects.
        heartbeat: Seconds of silence after which a comment is sent.

    Returns:
        The response. The provider is asked when it is sent.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn.
    """
    last = request.headers.get("last-event-id")
    feed = sse_feed(stream, detach=detach, retry=retry, last_event_id=last)
    return AnswerResponse(Sending(feed, last_event_id=last, heartbeat=heartbeat))


def json_lines_response(
    stream: WebStream | WebFanOut, request: Request, *, detach: bool = False, heartbeat: float = HEARTBEAT
) -> Response:
    """Send our own events as JSON lines. Arguments as for ``sse_response``.

    Args:
        stream: The answer: a turn, a reader, a stream or a fan-out.
        request: The request.
        detach: Whether the turn goes on when the client goes away.
        heartbeat: Seconds of silence after which a ``heartbeat`` event is sent.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn.
    """
    return AnswerResponse(Sending(json_lines_feed(stream, detach=detach), heartbeat=heartbeat))


def text_response(stream: WebStream, request: Request, *, detach: bool = False) -> Response:
    """Send the words of an answer as plain text. Where the answer is cut, the connection is broken.

    Args:
        stream: The answer: a turn, an attached reader or a stream.
        request: The request.
        detach: Whether the turn goes on when the client goes away.

    Raises:
        ConfigurationError: ``detach`` is given for something that is not a turn, or ``stream`` is a fan-out.
    """
    return AnswerResponse(Sending(text_feed(stream, detach=detach)))


def ui_message_response(
    stream: WebStream,
    request: Request,
    *,
    sdk: UIStreamVersion = 6,
    detach: bool = False,
    known_tools: Collection[str] = (),
    file_url: FileURL | None = None,
    heartbeat: float = HEARTBEAT,
) -> Response:
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
    return AnswerResponse(Sending(feed, heartbeat=heartbeat))


def agui_response(
    stream: WebStream,
    request: Request,
    *,
    thread_id: str | None = None,
    run_id: str | None = None,
    before: Sequence[Mapping[str, object]] | None = None,
    joins: bool = False,
    detach: bool = False,
    heartbeat: float = HEARTBEAT,
) -> Response:
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
    return AnswerResponse(Sending(feed, heartbeat=heartbeat))


class _ASGIWire:
    """The connection to an ASGI client. See ``Wire``."""

    def __init__(self, response: Response, receive: Receive, send: Send) -> None:
        self._response = response
        self._receive = receive
        self._send = send

    async def start(self, feed: Feed) -> None:
        """See ``Wire``."""
        await self._head(HTTPStatus.OK)

    async def write(self, data: bytes) -> None:
        """See ``Wire``."""
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except OSError as exc:  # ASGI 2.4: the client has gone away
            raise ClientLeft from exc

    async def finish(self) -> None:
        """See ``Wire``."""
        await self._last(b"")

    async def abort(self) -> None:
        """See ``Wire``. A server breaks the connection of an application that returns in the middle of a body."""

    async def refuse(self, status: int, media_type: str, body: bytes, headers: Mapping[str, str]) -> None:
        """See ``Wire``."""
        self._response.headers.update({**headers, "content-type": media_type})
        await self._head(status)
        await self._last(body)

    async def nothing(self) -> None:
        """See ``Wire``."""
        del self._response.headers["content-type"]
        await self._head(HTTPStatus.NO_CONTENT)
        await self._last(b"")

    async def gone(self) -> None:
        """See ``Wire``."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _head(self, status: int) -> None:
        headers = self._response.raw_headers
        try:
            await self._send({"type": "http.response.start", "status": int(status), "headers": headers})
        except OSError as exc:
            raise ClientLeft from exc

    async def _last(self, data: bytes) -> None:
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": False})
        except OSError as exc:
            raise ClientLeft from exc
