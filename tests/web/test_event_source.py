"""``EventSource`` of a real browser: it comes back after a cut, misses nothing, and stops at the end."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL

import anyio
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from dhenara_async import ConversationManager, Dialect
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.web.starlette import sse_response
from tests.loopback import endpoint_at
from tests.web.servers import served

TEXT = "The robot paints a red fox, “slowly” and with care."
PAGE = """<script>
const words = [], seen = new EventSource('/events');
let opened = 0;
seen.onopen = () => opened++;
seen.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (event.type === 'text_delta') words.push(event.text);
};
seen.onerror = () => {
  if (seen.readyState === EventSource.CLOSED)
    fetch('/result', { method: 'POST', body: JSON.stringify({ text: words.join(''), opened }) });
};
</script>"""


class KilledResponse(Response):
    """A response whose connection breaks after some writes."""

    def __init__(self, whole: Response, writes: int) -> None:
        super().__init__()
        self._whole = whole
        self._left = writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def until_killed(message: Message) -> None:
            if message["type"] == "http.response.body":
                self._left -= 1
                if self._left < 0:
                    raise ConnectionResetError
            await send(message)

        await self._whole(scope, receive, until_killed)


@asynccontextmanager
async def chromium(url: str, profile: Path) -> AsyncGenerator[None]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    process = await anyio.open_process([program, *flags, url], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    async with process:
        try:
            yield
        finally:
            process.terminate()


async def test_a_killed_connection_comes_back_and_the_end_is_the_end(tmp_path: Path) -> None:
    told: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
    cursors: list[str | None] = []
    async with ProviderServer([Answer(text=TEXT)], delay=0.05) as provider, ConversationManager() as manager:
        turn = manager.turn(await manager.create(), "What?", endpoint_at(provider, Dialect.OPENAI_CHAT))

        async def page(request: Request) -> Response:
            return HTMLResponse(PAGE)

        async def events(request: Request) -> Response:
            cursors.append(request.headers.get("last-event-id"))
            if len(cursors) == 1:
                return KilledResponse(sse_response(turn, request, detach=True, retry=0.05), 4)
            whole = sse_response(manager.attach(turn.id), request, retry=0.05)
            return KilledResponse(whole, 2) if len(cursors) == 2 else whole

        async def result(request: Request) -> Response:
            told.set_result(orjson.loads(await request.body()))
            return Response()

        app = Starlette(routes=[Route("/", page), Route("/events", events), Route("/result", result, methods=["POST"])])
        async with served(app) as url, chromium(url, tmp_path):
            seen = await asyncio.wait_for(told, 60)
    assert seen["text"] == TEXT
    assert cursors[0] is None
    assert all(cursor is not None and cursor.startswith(turn.id) for cursor in cursors[1:-1])
    assert cursors[-1] == "end"
    assert seen["opened"] == len(cursors) - 1
