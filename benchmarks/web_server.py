"""The web server that ``python -m benchmarks web`` measures: our responses beside loops written by hand, same events.

``python -m benchmarks.web_server FRAMEWORK CORE`` prints its port. ``/ours/EVENTS/GAP`` and ``/floor/EVENTS/GAP``
answer with so many token events, GAP microseconds apart; ``/facts`` says what the process has spent.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import orjson
import uvicorn
from aiohttp import web
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from benchmarks import machine
from dhenara_async import AIModelCallConfig, Message, Origin, Pricing, ResponseStream
from dhenara_async.calls.call import CallRecord
from dhenara_async.events import ChoiceFinish, PartEnd, PartStart, StreamEnd, StreamEvent, StreamStart, TextDelta
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.messages.messages import TextPart
from dhenara_async.request import ChatRequest
from dhenara_async.response import FinishReason
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web import starlette as for_asgi

WORD = "token "
_ORIGIN = Origin(provider="openai", dialect="openai_chat", endpoint="memory", account=None, model="memory")
_REQUEST = ChatRequest(messages=(Message.user("?"),), instructions=(), config=AIModelCallConfig(), stream=True)


class MemorySource:
    """An answer in memory: one event for each step, as from a provider that sends token by token. See ``EventSource``.

    Args:
        events: The number of token events.
        gap: Seconds between two; 0 = the next turn of the event loop. With a gap each text is the moment it was made.
    """

    repeatable = True
    origin = _ORIGIN

    def __init__(self, events: int, gap: float) -> None:
        self._left = events
        self._gap = gap
        self._words: list[str] = []
        self._begun = False
        self.over = False
        self.account = CallRecord(_ORIGIN, None, (), (), ConversionReport(), _REQUEST, Pricing(), None, None)

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        if not self._begun:
            self._begun = True
            return (StreamStart("memory", "openai"), PartStart(0, "text"))
        await asyncio.sleep(self._gap)
        if self._left:
            self._left -= 1
            text = f"{time.monotonic():.6f} " if self._gap else WORD
            self._words.append(text)
            return (TextDelta(0, text),)
        self.over = True
        end = StreamEnd(FinishReason.STOP, None, (ChoiceFinish(0, FinishReason.STOP),))
        return (PartEnd(0, TextPart(text="".join(self._words))), end)

    async def close(self, *, lost: bool = False) -> None:
        """See ``EventSource``."""


def stream_of(path: str) -> tuple[str, ResponseStream]:
    """Return who answers a path, and the answer."""
    _, who, events, gap = path.split("/")
    return who, ResponseStream(MemorySource(int(events), int(gap) / 1e6), AIModelCallConfig())


def facts() -> bytes:
    """Return what this process has spent, as JSON."""
    return orjson.dumps({"cpu": time.process_time(), "resident": machine.resident_bytes()})


def frame(event: StreamEvent) -> bytes:
    """Return one event as somebody would write it by hand."""
    if isinstance(event, TextDelta):
        return b"data: " + orjson.dumps({"type": "text_delta", "part_id": event.part_id, "text": event.text}) + b"\n\n"
    return b"data: " + orjson.dumps({"type": event.type}) + b"\n\n"


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/facts":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": facts()})
        return
    who, stream = stream_of(scope["path"])
    if who == "ours":
        await for_asgi.sse_response(stream, Request(scope, receive))(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async with stream:
        async for event in stream:
            await send({"type": "http.response.body", "body": frame(event), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def handle(request: web.Request) -> web.StreamResponse:
    """The handler of aiohttp.web."""
    if request.path == "/facts":
        return web.Response(body=facts())
    who, stream = stream_of(urlsplit(request.path).path)
    if who == "ours":
        return for_aiohttp.sse_response(stream, request)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    async with stream:
        async for event in stream:
            await response.write(frame(event))
    await response.write_eof()
    return response


def main(framework: str, core: str) -> None:
    """Serve until the process is ended."""
    machine.pin(int(core) if core else None)
    machine.allow_open_files(1000)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(1000)
    print(listening.getsockname()[1], flush=True)
    if framework == "aiohttp":
        app = web.Application()
        app.router.add_get("/{path:.*}", handle)
        web.run_app(app, sock=listening, print=None, access_log=None)
    else:
        config = uvicorn.Config(asgi, log_level="critical", lifespan="off", ws="none", loop="asyncio", http="h11")
        asyncio.run(uvicorn.Server(config).serve([listening]))


if __name__ == "__main__":
    main(*sys.argv[1:])
