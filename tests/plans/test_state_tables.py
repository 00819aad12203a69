"""The transition tables of fail-over and fan-out: every state is reachable, and final states have no way out."""

from collections.abc import Mapping
from enum import Enum

import pytest

from dhenara_async.calls.source import says
from dhenara_async.events import (
    ChoiceFinish,
    Heartbeat,
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from dhenara_async.fanout import engine
from dhenara_async.messages.messages import TextPart
from dhenara_async.plans import failover
from dhenara_async.response import FinishReason
from dhenara_async.usage.tokens import Usage

START = StreamStart(model="m", provider="p")
NO_CONTENT: list[StreamEvent] = [PartStart(0, "text"), PartStart(0, "reasoning"), UsageUpdate(Usage()), Heartbeat()]
CONTENT: list[StreamEvent] = [
    PartStart(0, "tool_call"),
    TextDelta(0, "a"),
    ReasoningDelta(0, "a"),
    RefusalDelta(0, "a"),
    ToolCallDelta(0, "{"),
    PartEnd(0, TextPart(text="a")),
    StreamSeam("busy", START),
    StreamEnd(FinishReason.STOP, choices=(ChoiceFinish(0, FinishReason.STOP),)),
]


@pytest.mark.parametrize(
    ("transitions", "first", "final"),
    [
        (failover._TRANSITIONS, "CONNECTING", {"FAILED"}),  # pyright: ignore[reportPrivateUsage]
        (engine._TRANSITIONS, "NEW", {"CLOSED", "ABANDONED"}),  # pyright: ignore[reportPrivateUsage]
    ],
)
def test_every_state_is_reachable_and_only_final_states_have_no_way_out(
    transitions: Mapping[Enum, Mapping[Enum, Enum]], first: str, final: set[str]
) -> None:
    states = type(next(iter(transitions)))
    reached, waiting = set[Enum](), [states[first]]
    while waiting:
        state = waiting.pop()
        if state not in reached:
            reached.add(state)
            waiting += transitions[state].values()
    assert reached == set(states) == set(transitions)
    assert {state.name for state, row in transitions.items() if set(row.values()) <= {state}} == final


@pytest.mark.parametrize("event", [*CONTENT, *NO_CONTENT], ids=lambda event: event.type)
def test_failover_and_retries_agree_which_events_are_content(event: StreamEvent) -> None:
    signal = failover._signal_of(event)  # pyright: ignore[reportPrivateUsage]
    assert (signal is failover._FailoverSignal.CONTENT) == says((event,)) == (event in CONTENT)  # pyright: ignore[reportPrivateUsage]


def test_starts_and_resets_have_their_own_signals() -> None:
    signals = [failover._signal_of(event) for event in (START, StreamReset("busy", START))]  # pyright: ignore[reportPrivateUsage]
    assert [signal and signal.name for signal in signals] == ["START", "RESET"]
