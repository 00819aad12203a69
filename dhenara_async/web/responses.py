"""The feeds of every kind of response, the same for Starlette and aiohttp."""

from collections.abc import Collection, Mapping, Sequence

from dhenara_async.errors import ConfigurationError
from dhenara_async.events import StreamEvent
from dhenara_async.fanout import FanOut
from dhenara_async.turns.fan_out import TurnFanOut
from dhenara_async.web.feeds import AnswerFeed, FanFeed, Feed, WebFanOut, WebStream
from dhenara_async.web.frames.ag_ui import AGUIFrames
from dhenara_async.web.frames.call_names import KnownCalls
from dhenara_async.web.frames.json_lines import JsonLinesFrames
from dhenara_async.web.frames.sse import SSEFrames
from dhenara_async.web.frames.tagged import TaggedJsonLinesFrames, TaggedSSEFrames
from dhenara_async.web.frames.text import TextFrames
from dhenara_async.web.frames.ui_messages import FileURL, UIMessageFrames, UIStreamVersion


def sse_feed(
    stream: WebStream | WebFanOut, *, detach: bool = False, retry: float = 1.0, last_event_id: str | None = None
) -> Feed:
    """Return a feed of Server-Sent Events; see ``web.starlette.sse_response``."""
    if isinstance(stream, FanOut | TurnFanOut):
        return FanFeed(stream, TaggedSSEFrames(retry=retry))
    return AnswerFeed(stream, lambda _: SSEFrames(retry=retry), detach=detach, last_event_id=last_event_id)


def json_lines_feed(stream: WebStream | WebFanOut, *, detach: bool = False) -> Feed:
    """Return a feed of JSON lines; see ``web.starlette.json_lines_response``."""
    if isinstance(stream, FanOut | TurnFanOut):
        return FanFeed(stream, TaggedJsonLinesFrames())
    return AnswerFeed(stream, lambda _: JsonLinesFrames(), detach=detach)


def text_feed(stream: WebStream, *, detach: bool = False) -> Feed:
    """Return a feed of plain text; see ``web.starlette.text_response``."""
    return AnswerFeed(_one(stream, "text_response"), lambda _: TextFrames(), detach=detach)


def ui_message_feed(
    stream: WebStream,
    *,
    sdk: UIStreamVersion = 6,
    detach: bool = False,
    known_tools: Collection[str] = (),
    file_url: FileURL | None = None,
    message_id: str | None = None,
    before: Sequence[StreamEvent] = (),
    calls: KnownCalls = (),
) -> Feed:
    """Return a feed for ``useChat``; see ``web.starlette.ui_message_response``.

    A ``message_id`` lets a message of the page go on, which has ``calls`` already; ``before`` are events of it before
    those of the stream.
    """
    if sdk not in (6, 7):
        raise ConfigurationError(f"sdk is the major version of the page's ai package, 6 or 7, not {sdk!r}")

    def frames(turn_id: str | None) -> UIMessageFrames:
        return UIMessageFrames(message_id or turn_id, sdk=sdk, known_tools=known_tools, file_url=file_url, calls=calls)

    return AnswerFeed(_one(stream, "ui_message_response"), frames, detach=detach, before=before)


def agui_feed(
    stream: WebStream,
    *,
    thread_id: str | None = None,
    run_id: str | None = None,
    before: Sequence[Mapping[str, object]] | None = None,
    joins: bool = False,
    detach: bool = False,
    calls: KnownCalls = (),
) -> Feed:
    """Return a feed of AG-UI events; see ``web.starlette.agui_response``. The client has ``calls`` already."""

    def frames(turn_id: str | None) -> AGUIFrames:
        name = turn_id or "run"
        return AGUIFrames(thread_id or name, run_id or name, turn_id, before=before, joins=joins, calls=calls)

    return AnswerFeed(_one(stream, "agui_response"), frames, detach=detach)


def _one(stream: object, name: str) -> WebStream:
    if isinstance(stream, WebStream):
        return stream
    if isinstance(stream, FanOut | TurnFanOut):
        raise ConfigurationError(f"{name} sends one answer: send a fan-out by sse_response or json_lines_response")
    raise ConfigurationError(
        f"{name} takes a turn, a reader of manager.attach or client.stream(…), not {type(stream).__name__}"
    )
