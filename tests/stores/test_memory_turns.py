"""``MemoryStore`` keeps ended turns for minutes: flushes and reads of running turns do not look at them."""

import gc
from collections.abc import Iterator

import pytest

from dhenara_async import ConversationNode
from dhenara_async.events import TextDelta
from dhenara_async.stores import MemoryStore, NewTurn, StoredTurn, TurnBatch, TurnWriter, memory_turns
from dhenara_async.stores.event_list import EventList

WRITER = TurnWriter(id="writer")


class Unread(dict[int, object]):
    """A table that is only asked for single rows."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("all rows were looked at")

    items = values = __iter__  # type: ignore[assignment] - as above


async def _begun(store: MemoryStore, conversation: str = "a") -> StoredTurn:
    turn = await store.begin_turn(NewTurn(conversation_id=conversation, draft=ConversationNode()), WRITER, lease=60)
    assert turn is not None
    return turn


async def test_ended_turns_cost_nothing_while_others_run() -> None:
    store = MemoryStore()
    await store.create("a")
    ended = await _begun(store)
    await store.end_turn(ended, WRITER, (), ended.draft, keep=600)
    running = await _begun(store)
    table = store._turns  # pyright: ignore[reportPrivateUsage] - what is looked at is what this is about
    table.rows, table.ended = Unread(table.rows), Unread(table.ended)  # type: ignore[assignment] - as above
    assert set(await store.flush_turns(WRITER, (), lease=60)) == {running.number}
    assert [turn.id for turn in await store.open_turns("a")] == [running.id]
    assert await store.read_turn(ended.id) is not None
    assert await store.end_turn(running, WRITER, (), running.draft, keep=600)
    assert await store.open_turns("a") == ()


async def test_turns_expire_by_their_own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(memory_turns, "monotonic", lambda: clock[0])
    store = MemoryStore()
    await store.create("a")
    turns = [await _begun(store) for _ in range(3)]
    for turn, keep in zip(turns, (30, 10, 20), strict=True):
        await store.end_turn(turn, WRITER, (), turn.draft, keep=keep)
    left: list[list[bool]] = []
    for clock[0] in (1_009.0, 1_010.0, 1_020.0, 1_030.0):
        await store.expire_turns()
        left.append([await store.read_turn(turn.id) is not None for turn in turns])
    assert left == [[True] * 3, [True, False, True], [True, False, False], [False] * 3]


async def test_the_deltas_of_a_turn_are_kept_as_their_texts() -> None:
    store, before = MemoryStore(), _deltas()
    await store.create("a")
    turn = await _begun(store)
    log = EventList(TextDelta(0, str(number)) for number in range(500))
    batches = [TurnBatch(turn.number, place, log.cut(place, place + 64)) for place in range(0, 500, 64)]
    await store.flush_turns(WRITER, batches[:3], lease=60)
    await store.end_turn(turn, WRITER, batches[3:], turn.draft, keep=600)
    assert _deltas() - before < 5
    page = await store.read_turn(turn.id, 2)
    assert page is not None
    assert list(page.events) == log[2:]


def _deltas() -> int:
    """Return how many deltas there are as objects."""
    return sum(isinstance(thing, TextDelta) for thing in gc.get_objects())


async def test_the_turn_that_ended_first_goes_when_ended_turns_have_too_many_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_turns, "MOST_ENDED_EVENTS", 10)
    store = MemoryStore()
    await store.create("a")
    turns = [await _begun(store) for _ in range(3)]
    for turn in turns:
        events = [TextDelta(0, str(number)) for number in range(4)]
        await store.end_turn(turn, WRITER, [TurnBatch(turn.number, 0, events)], turn.draft, keep=600)
    assert [await store.read_turn(turn.id) is not None for turn in turns] == [False, True, True]
