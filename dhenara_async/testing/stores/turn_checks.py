"""One test for each promise of a store that keeps turns while they are answered (``StoreWithJournal``)."""

from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Protocol
from uuid import uuid4

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import UnknownConversationError
from dhenara_async.events import (
    ChoiceFinish,
    Heartbeat,
    PartEnd,
    PartStart,
    ReasoningDelta,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamStart,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from dhenara_async.messages.messages import ReasoningPart, TextPart
from dhenara_async.response import CallWarning, FinishReason
from dhenara_async.stores import ConversationStore, NewTurn, StoredTurn, StoreWithJournal, TurnBatch, TurnWriter
from dhenara_async.testing.promises import demand
from dhenara_async.testing.stores.bench import (
    OpenedStores,
    demand_error,
    demand_head,
    demand_nodes,
    new_id,
    new_node,
    rich_node,
)
from dhenara_async.testing.stores.promises import StorePromise
from dhenara_async.usage.tokens import Usage

_LEASE = 60.0
_EVENTS: Sequence[StreamEvent] = (
    StreamStart("m", "p", warnings=(CallWarning(code="param_dropped", knob="k", message="one\ntwo"),)),
    PartStart(0, "reasoning"),
    ReasoningDelta(0, "Hm.\r\n"),
    PartEnd(0, ReasoningPart(text="Hm.\r\n", provider_state={"z": None, "a": [2**53 + 1, "\0", 1.0]})),
    StreamReset("it broke off", StreamStart(None, "p")),
    PartStart(0, "text"),
    TextDelta(0, " \u2028 \0 \N{GRINNING FACE}\n"),
    TextDelta(0, ""),
    Heartbeat(),
    PartEnd(0, TextPart(text=" \u2028 \0 \N{GRINNING FACE}\n")),
    PartStart(1, "tool_call", call_id="c", name="n"),
    ToolCallDelta(1, '{"a": '),
    UsageUpdate(Usage(input_tokens=0, source="reported")),
    StreamEnd(FinishReason.STOP, None, (ChoiceFinish(0, FinishReason.STOP),)),
)


class PromiseCheck(Protocol):
    """The test of one promise; its name says in words which case it tries."""

    __name__: str

    def __call__(self, stores: OpenedStores, /) -> Awaitable[None]: ...


def _writer() -> TurnWriter:
    return TurnWriter(id=uuid4().hex)


class _Begun:
    """A conversation with a turn that is answered."""

    def __init__(self, store: ConversationStore, journal: StoreWithJournal) -> None:
        self.store, self.journal = store, journal
        self.name, self.writer, self.draft = new_id(), _writer(), rich_node().changed(response=None)

    async def begin(self, *, lease: float = _LEASE) -> StoredTurn:
        """Begin it."""
        await self.store.create(self.name)
        turn = NewTurn(conversation_id=self.name, draft=self.draft, target=self.draft.origin)
        begun = await self.journal.begin_turn(turn, self.writer, lease=lease)
        demand(begun is not None, "a new turn was not begun")
        assert begun is not None  # noqa: S101 - demanded
        return begun

    async def flush(self, turn: StoredTurn, first: int, end: int) -> bool:
        """Keep some events; False if the turn is not the writer's."""
        batch = TurnBatch(turn.number, first, _EVENTS[first:end])
        return turn.number in await self.journal.flush_turns(self.writer, [batch], lease=_LEASE)

    async def demand_events(self, end: int) -> None:
        """Demand that the first ``end`` events come back, from every place."""
        for place in range(end + 2):
            page = await self.journal.read_turn(self.draft.id, place)
            found = None if page is None else list(page.events)
            demand(found == list(_EVENTS[place:end]), f"of {end} events, those from {place} on come back as {found!r}")


def _begun(stores: OpenedStores) -> _Begun | None:
    store = stores.open()
    return _Begun(store, store) if isinstance(store, StoreWithJournal) else None


async def _begin_a_turn(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn = await case.begin()
    page = await case.journal.read_turn(turn.id)
    demand(page is not None and not page.turn.ended, "the turn cannot be read, or has ended")
    (found,) = await case.journal.open_turns(case.name)
    demand(found.draft == case.draft, f"its question came back different: {found.draft!r}")
    demand(
        (found.target, found.writer.id) == (case.draft.origin, case.writer.id), "its target or writer is another one"
    )
    demand(not await case.journal.open_turns(new_id()), "another conversation has it too")


async def _begin_a_turn_twice(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn, again = await case.begin(), NewTurn(conversation_id=case.name, draft=case.draft)
    demand(await case.journal.begin_turn(again, _writer(), lease=1) is None, "a turn of a known id was begun")
    node = new_node()
    await case.store.append(case.name, node)
    again = NewTurn(conversation_id=case.name, draft=node)
    demand(await case.journal.begin_turn(again, _writer(), lease=1) is None, "a turn with the id of a node was begun")
    demand(await case.flush(turn, 0, 1), "the first turn is not its writer's any more")


async def _flush_events(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn, other = await case.begin(), _Begun(case.store, case.journal)
    other.writer = case.writer
    second = await other.begin()
    batches = [TurnBatch(turn.number, 0, _EVENTS[:2]), TurnBatch(second.number, 0, _EVENTS[:5])]
    states = await case.journal.flush_turns(case.writer, batches, lease=_LEASE)
    demand(set(states) == {turn.number, second.number}, f"a flush for two turns tells of {len(states)}")
    await case.demand_events(2)
    await other.demand_events(5)
    for first, end in ((2, 3), (3, 9), (9, len(_EVENTS))):
        demand(await case.flush(turn, first, end), "a running turn is not its writer's")
    await case.demand_events(len(_EVENTS))
    stranger = await case.journal.flush_turns(_writer(), [TurnBatch(turn.number, 99, _EVENTS[:1])], lease=1)
    demand(not stranger, "a flush of another writer tells of turns that are not its own")
    await case.demand_events(len(_EVENTS))


async def _end_a_turn(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn, node = await case.begin(), new_node().changed(id=case.draft.id)
    await case.flush(turn, 0, 4)
    last = [TurnBatch(turn.number, 4, _EVENTS[4:])]
    demand(await case.journal.end_turn(turn, case.writer, last, node, keep=60), "the end was refused")
    await case.demand_events(len(_EVENTS))
    page = await case.journal.read_turn(turn.id)
    demand(page is not None and page.turn.ended, "the turn has not ended")
    loaded = await case.store.load(case.name)
    demand_nodes(loaded, node)
    demand_head(loaded, node, "after the end of its turn")
    demand(not await case.journal.open_turns(case.name), "the ended turn is still open")
    demand(not await case.flush(turn, 0, 1), "an ended turn is still its writer's")
    demand(not await case.journal.end_turn(turn, case.writer, [], node, keep=60), "a turn ended twice")


async def _claim_turns(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn, other = await case.begin(), _writer()
    claim = partial(case.journal.claim_turn, turn, other, lease=_LEASE)
    demand(not await claim(gone=False), "a turn was claimed while its lease held")
    demand(await claim(gone=True), "the turn of a process that is gone was not claimed")
    demand(not await case.journal.claim_turn(turn, _writer(), lease=_LEASE, gone=True), "a turn was claimed twice")
    late = _Begun(case.store, case.journal)
    expired = await late.begin(lease=-1)
    page = await case.journal.read_turn(expired.id)
    demand(page is not None and page.turn.expired, "a lease that has run out is not told")
    claimed = await case.journal.claim_turn(expired, other, lease=_LEASE, gone=False)
    demand(claimed, "a turn whose lease had run out was not claimed")


async def _write_after_a_claim(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn, other, node = await case.begin(), _writer(), case.draft.changed(status="interrupted")
    await case.flush(turn, 0, 3)
    await case.journal.claim_turn(turn, other, lease=_LEASE, gone=True)
    demand(not await case.flush(turn, 3, 5), "the turn is still its first writer's")
    last = [TurnBatch(turn.number, 3, _EVENTS[3:])]
    demand(not await case.journal.end_turn(turn, case.writer, last, case.draft, keep=60), "the first writer ended it")
    demand(await case.journal.find_node(turn.id) is None, "the first writer's node is kept")
    await case.demand_events(3)
    newer = new_node()
    await case.store.append(case.name, newer)
    ended = await case.journal.end_turn(turn, other, [], node, keep=60, aside=True)
    demand(ended, "who claimed the turn cannot end it")
    await case.demand_events(3)
    loaded = await case.store.load(case.name)
    demand_nodes(loaded, newer, node)
    demand_head(loaded, newer, "after the end of a turn beside it")


async def _cancel_a_turn(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn = await case.begin()
    before = await case.journal.flush_turns(case.writer, [], lease=_LEASE)
    demand(not before[turn.number].cancel_requested, "a cancellation is told that nobody asked for")
    demand(await case.journal.cancel_turn(turn.id), "a running turn cannot be cancelled")
    after = await case.journal.flush_turns(case.writer, [], lease=_LEASE)
    demand(after[turn.number].cancel_requested, "the writer is not told of the cancellation")
    await case.journal.end_turn(turn, case.writer, [], case.draft, keep=60)
    demand(not await case.journal.cancel_turn(turn.id), "an ended turn was cancelled")
    demand(not await case.journal.cancel_turn(new_id()), "an unknown turn was cancelled")


async def _watch_a_turn(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn = await case.begin()
    before = await case.journal.flush_turns(case.writer, [], lease=_LEASE)
    demand(not before[turn.number].watched, "a reader is told whom nobody announced")
    await case.journal.watch_turn(turn, seconds=60)
    page = await case.journal.read_turn(turn.id)
    assert page is not None  # noqa: S101 - it has just begun
    after = await case.journal.flush_turns(case.writer, [TurnBatch(turn.number, 0, _EVENTS[:1])], lease=_LEASE)
    demand(after[turn.number].watched, "the writer is not told of the reader")
    await case.journal.turn_changed(page, seconds=600)  # the check has a time limit of its own


async def _expire_turns(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn, node, stays = await case.begin(), case.draft, _Begun(case.store, case.journal)
    kept = await stays.begin()
    await case.journal.end_turn(turn, case.writer, [TurnBatch(turn.number, 0, _EVENTS)], node, keep=-1)
    await stays.journal.end_turn(kept, stays.writer, [TurnBatch(kept.number, 0, _EVENTS)], stays.draft, keep=60)
    await case.journal.expire_turns()
    demand(await case.journal.read_turn(turn.id) is None, "a turn stays after its time")
    demand(await stays.journal.read_turn(kept.id) is not None, "a turn went before its time")
    found = await case.journal.find_node(node.id)
    demand(found == (case.name, node), f"the node of an expired turn is found as {found!r}")
    demand(await case.journal.find_node(new_id()) is None, "an unknown node is found")


async def _delete_the_conversation_of_a_turn(stores: OpenedStores) -> None:
    case = _begun(stores)
    if case is None:
        return
    turn, node = await case.begin(), ConversationNode(user_query="Late")
    await case.flush(turn, 0, 3)
    await case.store.delete(case.name)
    demand(await case.journal.read_turn(turn.id) is None, "a turn of a deleted conversation can be read")
    demand(not await case.flush(turn, 3, 5), "a turn of a deleted conversation is still its writer's")
    end = partial(case.journal.end_turn, turn, case.writer, [], case.draft, keep=60)
    await demand_error(UnknownConversationError, end, "the end of a turn of a deleted conversation")
    begin = partial(case.journal.begin_turn, NewTurn(conversation_id=case.name, draft=node), case.writer, lease=1)
    await demand_error(UnknownConversationError, begin, "a turn of a deleted conversation")


TURN_CHECKS: Mapping[StorePromise, PromiseCheck] = {
    "turn.begun": _begin_a_turn,
    "turn.again": _begin_a_turn_twice,
    "turn.events": _flush_events,
    "turn.ended": _end_a_turn,
    "turn.claimed": _claim_turns,
    "turn.fenced": _write_after_a_claim,
    "turn.cancelled": _cancel_a_turn,
    "turn.watched": _watch_a_turn,
    "turn.expired": _expire_turns,
    "turn.deleted": _delete_the_conversation_of_a_turn,
}
"""The test of each promise; a store that keeps no turns passes."""
