"""The events of a turn in memory: deltas that follow each other keep their texts alone, and nobody sees that."""

import random

import pytest

from dhenara_async.events import ReasoningDelta, RefusalDelta, StreamEvent, TextDelta, UsageUpdate
from dhenara_async.stores.event_lines import event_lines, events_of
from dhenara_async.stores.event_list import DeltaRun, EventList
from dhenara_async.usage.tokens import UNKNOWN


def _random_events(seed: int) -> list[StreamEvent]:
    chosen = random.Random(seed)
    events: list[StreamEvent] = []
    while len(events) < 60:
        part, times = chosen.randrange(2), chosen.choice((1, 1, 2, 9))
        kind = chosen.choice((TextDelta, ReasoningDelta, RefusalDelta))
        events += [kind(part, f"{len(events)}.{time}") for time in range(times)]
        if chosen.random() < 0.3:
            events.append(UsageUpdate(UNKNOWN))
    return events


@pytest.mark.parametrize("seed", range(8))
def test_events_are_read_as_they_were_added_however_they_were_added(seed: int) -> None:
    events, chosen, listed = _random_events(seed), random.Random(seed), EventList()
    while len(listed) < len(events):
        some = events[len(listed) : len(listed) + chosen.randrange(12)]
        match chosen.randrange(3):
            case 0:
                listed.append(events[len(listed)])
            case 1:
                listed.extend(some)
            case _:
                listed.extend(EventList(some).cut(0, len(some)))
        assert listed[-1:] == events[len(listed) - 1 : len(listed)]
    assert list(listed) == events
    assert [listed[place] for place in range(-len(events), len(events))] == events * 2
    for first in range(len(events) + 2):
        for end in range(first, len(events) + 2):
            assert listed[first:end] == list(listed.cut(first, end)) == events[first:end]
    assert listed[::-3] == events[::-3]
    assert events_of(event_lines(listed.cut(7, 50))) == events_of(event_lines(events[7:50])) == events[7:50]
    with pytest.raises(IndexError):
        _ = listed[len(events)]


def test_a_part_that_was_taken_does_not_grow_with_the_list() -> None:
    events: list[StreamEvent] = [ReasoningDelta(0, "r"), TextDelta(1, "a"), TextDelta(1, "b")]
    listed = EventList(events)
    taken = [listed.cut(first, 3) for first in (0, 1)]

    listed.extend([TextDelta(1, "c")])

    assert list(listed) == [*events, TextDelta(1, "c")]
    assert [list(part) for part in taken] == [events, events[1:]]


def test_deltas_that_follow_each_other_are_one_piece() -> None:
    listed = EventList(TextDelta(0, str(number)) for number in range(1_000))

    (run,) = listed.pieces()

    assert isinstance(run, DeltaRun)
    assert len(run.texts) == 1_000


def test_a_run_goes_on_with_a_run_of_its_own_kind_and_part_alone() -> None:
    listed, runs = EventList(), [(TextDelta, 0), (TextDelta, 0), (TextDelta, 1), (ReasoningDelta, 1)]

    for kind, part in runs:
        listed.extend(DeltaRun(kind, part, ["a", "b"]))

    assert list(listed) == [kind(part, text) for kind, part in runs for text in "ab"]
    assert len(list(listed.pieces())) == len(runs) - 1
