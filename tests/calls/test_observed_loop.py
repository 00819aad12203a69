"""``ObservedLoop`` reports a tool loop and its tool calls to observers."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from dhenara_async import LoopEnded, LoopStarted, Observer, Origin, ToolCallPart, ToolEnded, ToolResultPart, ToolStarted
from dhenara_async.calls import observed_loop
from dhenara_async.calls.observed_loop import ObservedLoop

ORIGIN = Origin(provider="openai", dialect="openai_chat", endpoint="https://host", account="a", model="gpt-x")
CALL = ToolCallPart(call_id="call_1", name="weather", arguments='{"city": "Rome"}')
RESULT = ToolResultPart.of(CALL, "mild")


class Seen(Observer):
    def __init__(self, *, wants_content: bool = False, breaks: bool = False) -> None:
        self.wants_content = wants_content
        self.breaks = breaks
        self.records: list[object] = []

    def _keep(self, record: object) -> None:
        self.records.append(record)
        if self.breaks:
            raise ValueError("broken")

    def loop_started(self, record: LoopStarted) -> None:
        self._keep(record)

    def tool_started(self, record: ToolStarted) -> None:
        self._keep(record)

    def tool_ended(self, record: ToolEnded) -> None:
        self._keep(record)

    def loop_ended(self, record: LoopEnded) -> None:
        self._keep(record)

    @contextmanager
    def around_tool(self, record: ToolStarted) -> Generator[None]:
        self._keep("in")
        yield
        self._keep("out")


def test_a_loop_reports_its_tool_calls_and_content_only_with_wants_content() -> None:
    plain, curious, broken = Seen(), Seen(wants_content=True), Seen(breaks=True)
    loop = ObservedLoop([broken, plain, curious], "loop-1", clock=iter([1.0, 2.0, 4.0, 8.0]).__next__)
    loop.end(ORIGIN, steps=0, outcome="left")  # it has not started
    loop.start(ORIGIN, tools=["weather"], max_steps=8)
    tool = loop.tool(CALL)
    with tool.running():
        pass
    tool.end(outcome="complete", result=RESULT)
    tool.end(outcome="failed")
    loop.end(ORIGIN, steps=2, outcome="complete")
    loop.end(ORIGIN, steps=2, outcome="failed")
    assert plain.records == [
        LoopStarted("loop-1", ORIGIN, ("weather",), 8, None, None),
        ToolStarted("loop-1", 1, "call_1", "weather", None),
        *("in", "out"),
        ToolEnded("loop-1", 1, "call_1", "weather", "complete", None, None, 2.0),
        LoopEnded("loop-1", ORIGIN, 2, 1, "complete", None, 7.0),
    ]
    assert curious.records[1] == ToolStarted("loop-1", 1, "call_1", "weather", CALL.arguments)
    assert curious.records[4] == ToolEnded("loop-1", 1, "call_1", "weather", "complete", None, RESULT, 2.0)
    assert [type(record) for record in broken.records] == [LoopStarted, ToolStarted, str, ToolEnded, LoopEnded]


def test_an_observers_context_around_a_tool_is_left_when_the_tool_fails() -> None:
    seen = Seen()
    loop = ObservedLoop([seen], "loop-1")
    loop.start(ORIGIN, tools=["weather"], max_steps=None)
    with pytest.raises(LookupError), loop.tool(CALL).running():
        raise LookupError("no such city")
    assert seen.records[2:] == ["in"]  # a generator context without a finally


def test_a_loop_without_observers_builds_no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LoopStarted", "ToolStarted", "ToolEnded", "LoopEnded"):
        monkeypatch.setattr(observed_loop, name, None)
    loop = ObservedLoop((), "loop-1")
    loop.start(ORIGIN, tools=[], max_steps=None)
    tool = loop.tool(CALL)
    with tool.running():
        pass
    tool.end(outcome="complete")
    loop.end(ORIGIN, steps=1, outcome="complete")
