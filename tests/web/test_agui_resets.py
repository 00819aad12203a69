"""Words that a plan takes back, as the events of AG-UI: they go, and everything before them stays."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from dhenara_async import Dialect, Failover
from dhenara_async.events import (
    PartEnd,
    PartStart,
    StreamEvent,
    StreamReset,
    StreamStart,
    TextDelta,
    ToolEnd,
)
from dhenara_async.messages.messages import FilePart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.web.frames.ag_ui import AGUIFrames
from dhenara_async.web.frames.agui_snapshot import AGUISnapshot
from tests.loops.tools import endpoint_of
from tests.web import node_clients
from tests.web.test_chat_routes import chatting

QUESTION = {"id": "q", "role": "user", "content": "Hello?"}
START = StreamStart(model="m", provider="acme")
CALL = ToolCallPart(call_id="c1", name="paint", arguments="{}")
RESULT = ToolEnd(ToolResultPart(call_id="c1", name="paint", content=(TextPart(text="Red."),)))


def said(part_id: int, text: str) -> list[StreamEvent]:
    return [PartStart(part_id, "text"), TextDelta(part_id, text), PartEnd(part_id, TextPart(text=text))]


def called(part_id: int) -> list[StreamEvent]:
    return [PartStart(part_id, "tool_call", call_id="c1", name="paint"), PartEnd(part_id, CALL)]


def shown(frames: bytes, before: Iterable[object] = (QUESTION,)) -> list[tuple[object, ...]]:
    """Return the messages as a client has them in the end: role, id, content, and ids of calls."""
    client = AGUISnapshot(before)  # pyright: ignore[reportArgumentType]
    for frame in frames.split(b"\n\n"):
        event: Any = orjson.loads(frame.removeprefix(b"data: ")) if frame else {}
        if event.get("type") == "MESSAGES_SNAPSHOT":
            client = AGUISnapshot(event["messages"])
        else:
            client.add(frame)
    return [
        (one["role"], one.get("content"), *[call["id"] for call in one.get("toolCalls", ())])
        for one in (dict[str, Any](message) for message in client.messages)
    ]


def test_a_reset_gives_the_client_its_own_messages_back() -> None:
    frames = AGUIFrames("t", "r", "n", before=[QUESTION])
    body = frames.feed([START, *said(0, "No")]) + frames.feed([StreamReset("it broke"), *said(0, "Yes")])
    assert shown(body) == [("user", "Hello?"), ("assistant", "Yes")]


def test_words_before_a_reset_are_a_message_of_their_own_where_nothing_is_known() -> None:
    frames = AGUIFrames("t", "r", "n")
    body = frames.feed([START, *said(0, "No"), StreamReset("it broke"), *said(0, "Yes")])
    assert shown(body) == [("user", "Hello?"), ("assistant", "No"), ("assistant", "Yes")]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_reset_in_a_later_step_keeps_the_steps_before(at_once: bool) -> None:
    frames = AGUIFrames("t", "r", "n", before=[QUESTION])
    events = [START, *said(0, "I paint."), *called(1), RESULT, START, *said(0, "No")]
    events += [StreamReset("it broke"), *said(0, "Yes")]
    batches = [events] if at_once else [[event] for event in events]
    body = b"".join(frames.feed(batch) for batch in batches)
    assert shown(body) == [
        ("user", "Hello?"),
        ("assistant", "I paint.", "c1"),
        ("tool", "Red."),
        ("assistant", "Yes"),
    ]


def test_a_reset_in_the_step_after_an_approval_keeps_the_result() -> None:
    frames = AGUIFrames("t", "r", "n", before=[QUESTION])
    body = frames.feed([RESULT, START, *said(0, "No"), StreamReset("it broke"), *said(0, "Yes")])
    assert shown(body) == [("user", "Hello?"), ("tool", "Red."), ("assistant", "Yes")]


def test_a_reset_before_the_first_word_of_a_step_takes_nothing_back() -> None:
    frames = AGUIFrames("t", "r", "n", before=[QUESTION])
    body = frames.feed([START, *said(0, "One."), START, StreamReset("it broke"), *said(0, "Two.")])
    assert b"reset" not in body
    assert b"MESSAGES_SNAPSHOT" not in body
    assert shown(body) == [("user", "Hello?"), ("assistant", "One."), ("assistant", "Two.")]


def test_a_late_join_has_neither_the_words_that_were_taken_back_nor_loses_a_file() -> None:
    frames = AGUIFrames("t", "r", "n", before=[QUESTION], joins=True)
    picture = FilePart(media_type="image/png", url="https://files.example.com/fox.png")
    events = [START, *said(0, "No"), StreamReset("it broke"), *said(0, "Look: "), PartEnd(1, picture)]
    body = frames.feed([*events, PartStart(2, "text"), TextDelta(2, "A f")]) + frames.feed([TextDelta(2, "ox.")])
    assert shown(body, before=()) == [("user", "Hello?"), ("assistant", "Look: "), ("assistant", "A fox.")]
    assert body.count(b"https://files.example.com/fox.png") == 1
    assert b'"reset"' not in body


@pytest.fixture(scope="session")
def node_home() -> Path:
    return node_clients.installed()


async def test_the_client_shows_an_answer_once_that_began_again(node_home: Path) -> None:
    cut = Fault(answer=Answer(text="Half of the words that the first model says."), cut=900)
    async with ProviderServer([cut]) as broken, ProviderServer([Answer(text="All of it.")]) as good:
        again = Failover(
            [endpoint_of(broken, Dialect.ANTHROPIC_MESSAGES), endpoint_of(good, Dialect.OPENAI_RESPONSES)],
            mode="restart",
        )
        async with chatting(more_models={"again": again}) as chat:
            steps = [{"thread": "r", "send": "Well?", "props": {"model": "again"}}]
            plan = {"api": f"{chat.page.url}/api/ag-ui", "steps": steps}
            [run] = await node_clients.run("agui.mjs", node_home, plan)
    assert "MESSAGES_SNAPSHOT" in [event["type"] for event in run["events"]]
    assert [(one["role"], one["content"]) for one in run["messages"]] == [
        ("user", "Well?"),
        ("assistant", "All of it."),
    ]
