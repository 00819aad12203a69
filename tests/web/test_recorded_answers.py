"""Every recorded answer of every provider as a UI message stream and as a run of AG-UI, read strictly.

The readers here are written from the protocols; the real clients read the same answers where npm is there.
"""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dhenara_async import AIModelClient, StreamEvent
from dhenara_async.errors import DhenaraError
from dhenara_async.events import StreamEnd, StreamReset, TextDelta
from dhenara_async.testing import ReplayTransport
from dhenara_async.web.frames import AGUIFrames, Ended, Frames, UIMessageFrames, failure_of
from dhenara_async.web.starlette import agui_response, ui_message_response
from tests import recordings, wire_fixtures
from tests.web import node_clients
from tests.web.protocols import check_run, ui_message_of
from tests.web.servers import served

FIXTURES = [wire_fixtures.WireFixture(name) for name in wire_fixtures.names() if name.endswith(".sse")]


async def answers() -> AsyncGenerator[tuple[str, list[StreamEvent], DhenaraError | None]]:
    """The events of every answer, and the error that ends it."""
    for fixture in FIXTURES:
        yield fixture.name, *(await heard(fixture.client(fixture.body)))
    for name in recordings.ids(framing="sse"):
        recording = recordings.load(name)
        transport = ReplayTransport(recording.body, status=recording.status, headers=recording.headers)
        client = AIModelClient(recording.endpoint("http://127.0.0.1"), transport=transport)
        yield name, *(await heard(client))


async def heard(client: AIModelClient) -> tuple[list[StreamEvent], DhenaraError | None]:
    events: list[StreamEvent] = []
    async with client.stream("?") as stream:
        try:
            while batch := await stream.batch():
                events += batch
        except DhenaraError as exc:
            return events, exc
    return events, None


def written(frames: Frames, events: Sequence[StreamEvent], error: DhenaraError | None) -> bytes:
    pieces = [frames.begin(), *(frames.feed([event]) for event in events)]
    last = frames.end(Ended()) if error is None else frames.fail(failure_of(error))
    assert last is not None
    return b"".join([*pieces, last])


def words_of(events: Sequence[StreamEvent]) -> str:
    """The text that a client shows which obeys resets, of the first choice."""
    text = ""
    others = {event.part_id for event in events if event.type == "part_start" and event.choice}
    for event in events:
        if isinstance(event, StreamReset):
            text = ""
        elif isinstance(event, TextDelta) and event.part_id not in others:
            text += event.text
    return text


async def test_every_answer_is_written_by_the_rules() -> None:
    async for name, events, error in answers():
        refused = any(event.type == "part_start" and event.kind == "refusal" for event in events)
        for sdk in (6, 7):
            message = ui_message_of(written(UIMessageFrames("m", sdk=7 if sdk == 7 else 6), events, error))
            assert (message.error is None) is (error is None), name
            taken_back = any(event.type == "stream_reset" for event in events)
            if not (refused or taken_back):
                assert "".join(message.texts.values()) == words_of(events), name
            if error is None:
                assert isinstance(events[-1], StreamEnd)
                assert message.finish is not None
        text = check_run(written(AGUIFrames("t", "r", "m"), events, error))
        if not refused:
            assert text == words_of(events), name


async def serve_one(request: Request) -> Response:
    fixture = FIXTURES[int(request.path_params["number"])]
    stream = fixture.client(fixture.body).stream("?")
    match request.path_params["protocol"]:
        case "6":
            return ui_message_response(stream, request, sdk=6)
        case "7":
            return ui_message_response(stream, request, sdk=7)
        case _:
            body = orjson.loads(await request.body())
            return agui_response(stream, request, thread_id=body["threadId"], run_id=body["runId"])


@pytest.fixture(scope="session")
def node_home() -> Path:
    return node_clients.installed()


@pytest.mark.parametrize("protocol", ["6", "7", "agui"])
async def test_the_real_client_reads_every_answer(protocol: str, node_home: Path) -> None:
    app = Starlette(routes=[Route("/{protocol}/{number}", serve_one, methods=["POST"])])
    async with served(app) as url:
        apis = [f"{url}/{protocol}/{number}" for number in range(len(FIXTURES))]
        script = "agui.mjs" if protocol == "agui" else "chat.mjs"
        steps = [{"api": api, "chat": "c", "thread": "c", "send": "?"} for api in apis]
        plan = {"sdk": protocol, "api": url, "steps": steps}
        results = await node_clients.run(script, node_home, plan)
    for fixture, result in zip(FIXTURES, results, strict=True):
        events, error = await heard(fixture.client(fixture.body))
        if protocol == "agui":
            last = result["events"][-1]["type"]
            assert last == ("RUN_FINISHED" if error is None else "RUN_ERROR"), (fixture.name, result["error"])
            continue
        told = None if error is None else failure_of(error).message
        assert (fixture.name, result["error"]) == (fixture.name, told)
        parts = [part for message in result["messages"][1:] for part in message["parts"]]
        assert all(part.get("state") not in {"streaming", "input-streaming"} for part in parts), fixture.name
        refused = any(event.type == "part_start" and event.kind == "refusal" for event in events)
        if not refused:
            assert "".join(part["text"] for part in parts if part["type"] == "text") == words_of(events), fixture.name
