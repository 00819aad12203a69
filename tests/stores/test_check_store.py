"""The conformance kit for stores: which stores pass, and that each broken promise is reported."""

import json
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

import anyio
import pytest
from pydantic import JsonValue

from dhenara_async import ConversationManager, ConversationNode, ToolResultPart
from dhenara_async.conversation import Conversation
from dhenara_async.errors import UnknownConversationError
from dhenara_async.stores import (
    ConversationOutline,
    ConversationPage,
    ConversationStore,
    MemoryStore,
    NewTurn,
    StoredConversation,
    StoredTurn,
    TurnBatch,
    TurnPage,
    TurnState,
    TurnWriter,
)
from dhenara_async.testing import STORE_PROMISES, StorePromise, check_store

# ---------------------------------------------------------------------------------------- stores that keep all promises


class SqliteStore:
    """A store in an SQLite file: the smallest one that keeps every promise. It blocks the loop, so it is for tests."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(
            """
            CREATE TABLE IF NOT EXISTS conversations (
                number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, title TEXT, metadata TEXT, head TEXT,
                created TEXT, updated TEXT, deleted INTEGER DEFAULT 0
            );
            CREATE TABLE IF NOT EXISTS nodes (
                number INTEGER PRIMARY KEY AUTOINCREMENT, conversation TEXT, id TEXT, json TEXT,
                UNIQUE (conversation, id)
            );
            """
        )

    async def create(
        self, conversation_id: str, *, title: str | None = None, metadata: Mapping[str, JsonValue] | None = None
    ) -> None:
        with self._db:
            self._db.execute("DELETE FROM conversations WHERE id = ? AND deleted", (conversation_id,))
            self._create(conversation_id, title, metadata or {})

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        document = node.model_dump_json()
        with self._db:
            self._create(conversation_id, None, {})
            (deleted,) = self._row("SELECT deleted FROM conversations WHERE id = ?", conversation_id)
            if deleted:
                raise UnknownConversationError(f"conversation {conversation_id!r} was deleted")
            stored = self._row("SELECT json FROM nodes WHERE conversation = ? AND id = ?", conversation_id, node.id)
            if stored == (document,):
                return
            if stored:
                raise ValueError(f"conversation {conversation_id!r} has a different node {node.id!r}")
            self._db.execute(
                "INSERT INTO nodes (conversation, id, json) VALUES (?, ?, ?)", (conversation_id, node.id, document)
            )
            self._touch(conversation_id)
            if node.status != "failed":
                self._db.execute("UPDATE conversations SET head = ? WHERE id = ?", (node.id, conversation_id))

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        self._known(conversation_id)
        if not self._row("SELECT 1 FROM nodes WHERE conversation = ? AND id = ?", conversation_id, node_id):
            raise ValueError(f"conversation {conversation_id!r} has no node {node_id!r}")
        self._db.execute("UPDATE conversations SET head = ? WHERE id = ?", (node_id, conversation_id))
        self._touch(conversation_id)

    async def load(self, conversation_id: str) -> Conversation:
        self._known(conversation_id)
        rows = self._db.execute("SELECT json FROM nodes WHERE conversation = ? ORDER BY number", (conversation_id,))
        nodes = [ConversationNode.model_validate_json(document) for (document,) in rows]
        (head,) = self._row("SELECT head FROM conversations WHERE id = ?", conversation_id)
        return Conversation(conversation_id, nodes=nodes, head=head)

    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        if limit < 1:
            raise ValueError("limit is below 1")
        found = self._db.execute(
            "SELECT number, id, title, metadata, created, updated FROM conversations "
            "WHERE NOT deleted AND number < ? ORDER BY number DESC LIMIT ?",
            (2**62 if before is None else int(before), limit + 1),
        ).fetchall()
        items = tuple(
            StoredConversation(
                id, title, _json(metadata), datetime.fromisoformat(created), datetime.fromisoformat(updated)
            )
            for _, id, title, metadata, created, updated in found[:limit]
        )
        return ConversationPage(items, str(found[limit - 1][0]) if len(found) > limit else None)

    async def rename(self, conversation_id: str, title: str | None) -> None:
        self._known(conversation_id)
        self._db.execute("UPDATE conversations SET title = ? WHERE id = ?", (title, conversation_id))
        self._touch(conversation_id)

    async def delete(self, conversation_id: str) -> None:
        with self._db:
            self._db.execute("DELETE FROM nodes WHERE conversation = ?", (conversation_id,))
            self._db.execute("UPDATE conversations SET deleted = 1, head = NULL WHERE id = ?", (conversation_id,))

    async def aclose(self) -> None:
        self._db.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _row(self, statement: str, *values: str) -> tuple[str, ...]:
        return self._db.execute(statement, values).fetchone() or ()

    def _known(self, conversation_id: str) -> None:
        if not self._row("SELECT 1 FROM conversations WHERE id = ? AND NOT deleted", conversation_id):
            raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")

    def _create(self, conversation_id: str, title: str | None, metadata: Mapping[str, JsonValue]) -> None:
        now = datetime.now(UTC).isoformat()
        self._db.execute(
            "INSERT INTO conversations (id, title, metadata, created, updated) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING",
            (conversation_id, title, json.dumps(dict(metadata)), now, now),
        )

    def _touch(self, conversation_id: str) -> None:
        now = datetime.now(UTC).isoformat()
        self._db.execute("UPDATE conversations SET updated = ? WHERE id = ?", (now, conversation_id))


def _json(document: str) -> Mapping[str, JsonValue]:
    found: Mapping[str, JsonValue] = json.loads(document)
    return found


async def test_the_memory_store_keeps_every_promise() -> None:
    await check_store(MemoryStore)


async def test_one_memory_store_may_be_checked_as_a_durable_one() -> None:
    store = MemoryStore()
    await check_store(lambda: store, durable=True)


async def test_a_store_in_a_database_can_keep_every_promise(tmp_path: Path) -> None:
    await check_store(lambda: SqliteStore(tmp_path / "chat.db"), durable=True)


async def test_a_manager_takes_any_store_of_the_protocol(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "chat.db") as store:
        conversation = await ConversationManager(store=store).create()
        assert (await ConversationManager(store=store).open(conversation.id)).nodes == ()


# ----------------------------------------------------------------------------------------------------- broken stores


Metadata = Mapping[str, JsonValue] | None


class CreatesNothingAlone(MemoryStore):
    async def load(self, conversation_id: str) -> Conversation:
        loaded = await super().load(conversation_id)
        if not loaded.nodes:
            raise UnknownConversationError(conversation_id)
        return loaded


class CreatesAnew(MemoryStore):
    async def create(self, conversation_id: str, *, title: str | None = None, metadata: Metadata = None) -> None:
        await super().create(conversation_id, title=title, metadata=metadata)
        await super().rename(conversation_id, title)


class ForgetsInstructions(MemoryStore):
    async def load(self, conversation_id: str) -> Conversation:
        loaded = await super().load(conversation_id)
        return Conversation(loaded.id, nodes=loaded.nodes, head=None if loaded.head is None else loaded.head.id)


class ForgetsMetadata(MemoryStore):
    async def create(self, conversation_id: str, *, title: str | None = None, metadata: Metadata = None) -> None:
        await super().create(conversation_id, title=title)


class KeepsLocalTimes(MemoryStore):
    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        page = await super().list(limit=limit, before=before)
        items = tuple(replace(item, created=item.created.replace(tzinfo=None)) for item in page.items)
        return replace(page, items=items)


class LoadsSiblingsBackwards(MemoryStore):
    async def load(self, conversation_id: str) -> Conversation:
        loaded = await super().load(conversation_id)
        roots, root = loaded.children(None), loaded.nodes[0].id if loaded.nodes else None
        siblings = () if root is None else loaded.children(root)
        rest = [node for node in loaded.nodes if node not in (*roots, *siblings)]
        head = None if loaded.head is None else loaded.head.id
        return Conversation(
            conversation_id, nodes=[*roots, *reversed(siblings), *rest], head=head, instructions=loaded.instructions
        )


class SortsKeys(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        document = json.dumps(json.loads(node.model_dump_json()), sort_keys=True)
        await super().append(conversation_id, ConversationNode.model_validate_json(document))


class StopsAtNul(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        document = node.model_dump_json().replace("\\u0000", "")
        await super().append(conversation_id, ConversationNode.model_validate_json(document))


class MovesTheHeadAgain(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        await super().append(conversation_id, node)
        if node.status != "failed":
            await super().checkout(conversation_id, node.id)


class RefusesASecondTime(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        if conversation_id in self._records and node.id in self._records[conversation_id].nodes:
            raise ValueError("UNIQUE constraint failed")
        await super().append(conversation_id, node)


class Overwrites(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        if conversation_id in self._records and node.id in self._records[conversation_id].nodes:
            self._records[conversation_id].nodes[node.id] = node
        else:
            await super().append(conversation_id, node)


class WantsCreateFirst(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        if conversation_id not in self._records:
            raise UnknownConversationError(conversation_id)
        await super().append(conversation_id, node)


class HasOneTableOfNodeIds(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[str, str] = {}

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        if self.ids.setdefault(node.id, conversation_id) == conversation_id:
            await super().append(conversation_id, node)


class WritesItAllBack(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        before = dict(self._records[conversation_id].nodes) if conversation_id in self._records else {}
        await anyio.lowlevel.checkpoint()  # another task appends meanwhile
        await super().append(conversation_id, node)
        self._records[conversation_id].nodes = {**before, node.id: before.get(node.id, node)}


class KeepsNoHead(MemoryStore):
    async def load(self, conversation_id: str) -> Conversation:
        loaded = await super().load(conversation_id)
        return Conversation(conversation_id, nodes=loaded.nodes, instructions=loaded.instructions)


class MakesAFailedNodeTheHead(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        known = conversation_id in self._records and node.id in self._records[conversation_id].nodes
        await super().append(conversation_id, node)
        if not known:
            await super().checkout(conversation_id, node.id)


class StaysAtTheCheckout(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.heads: dict[str, str] = {}

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        await super().checkout(conversation_id, node_id)
        self.heads[conversation_id] = node_id

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        await super().append(conversation_id, node)
        if conversation_id in self.heads:
            await super().checkout(conversation_id, self.heads[conversation_id])


class NeverMovesTheHead(MemoryStore):
    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        await super().append(conversation_id, node)
        first = next(iter(self._records[conversation_id].nodes.values()))
        self._records[conversation_id].head = None if first.status == "failed" else first.id


class ChecksOutAnything(MemoryStore):
    async def checkout(self, conversation_id: str, node_id: str) -> None:
        if conversation_id in self._records and node_id in self._records[conversation_id].nodes:
            await super().checkout(conversation_id, node_id)


class SharesWhatItLoads(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[str, Conversation] = {}

    async def load(self, conversation_id: str) -> Conversation:
        loaded = await super().load(conversation_id)
        known = self.loaded.setdefault(conversation_id, loaded)
        return known if len(known.nodes) >= len(loaded.nodes) > 0 and known.nodes[0] == loaded.nodes[0] else loaded


class LoadsTheUnknownAsEmpty(MemoryStore):
    async def load(self, conversation_id: str) -> Conversation:
        return await super().load(conversation_id) if conversation_id in self._records else Conversation()


class ListsByTheLastChange(MemoryStore):
    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        page = await super().list(limit=limit, before=before)
        return replace(page, items=tuple(sorted(page.items, key=lambda item: item.updated, reverse=True)))


class ListsByOffset(MemoryStore):
    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        if before is not None and not before.isdecimal():
            raise ValueError("before is not a cursor")
        start = int(before or 0)
        every = (await super().list(limit=start + limit + 1)).items if limit > 0 else ()
        if limit < 1:
            raise ValueError("limit is below 1")
        return ConversationPage(every[start : start + limit], str(start + limit) if every[start + limit :] else None)


class AlwaysHasANextPage(MemoryStore):
    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        page = await super().list(limit=limit, before=before)
        oldest = min((record.number for record in self._records.values()), default=0)
        last = self._records[page.items[-1].id].number if page.items else oldest
        return replace(page, next=page.next or (None if before == str(oldest) else str(last)))


class TakesAnyLimit(MemoryStore):
    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        return await super().list(limit=max(limit, 1), before=before)


class KeepsTheFirstTitle(MemoryStore):
    async def rename(self, conversation_id: str, title: str | None) -> None:
        self._record(conversation_id)


class RenamesTheUnknown(MemoryStore):
    async def rename(self, conversation_id: str, title: str | None) -> None:
        if conversation_id in self._records:
            await super().rename(conversation_id, title)


class HidesInsteadOfDeleting(MemoryStore):
    async def delete(self, conversation_id: str) -> None:
        self._deleted.add(conversation_id)


class WillNotDeleteTheUnknown(MemoryStore):
    async def delete(self, conversation_id: str) -> None:
        self._record(conversation_id)
        await super().delete(conversation_id)


class OutlinesFromTheNodeOn(MemoryStore):
    async def outline(self, conversation_id: str, *, after: str | None = None) -> ConversationOutline:
        told = await super().outline(conversation_id, after=after)
        if after is None:
            return told
        return await super().outline(conversation_id)


class ForgetsThatItDeleted(MemoryStore):
    async def delete(self, conversation_id: str) -> None:
        await super().delete(conversation_id)
        self._deleted.clear()


class ClosesOnce(MemoryStore):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("pool is closed")
        self.closed = True


class ForgetsTheTarget(MemoryStore):
    async def begin_turn(self, turn: NewTurn, writer: TurnWriter, *, lease: float) -> StoredTurn | None:
        return await super().begin_turn(replace(turn, target=None), writer, lease=lease)


class BeginsOverNodes(MemoryStore):
    def _has_node(self, conversation_id: str, node_id: str) -> bool:
        return False


class KeepsBatchesWhole(MemoryStore):
    async def read_turn(self, turn_id: str, first_seq: int = 0) -> TurnPage | None:
        page = await super().read_turn(turn_id)
        return page if page is None or first_seq < len(page.events) else replace(page, events=[])


class LosesTheLastEvents(MemoryStore):
    async def end_turn(
        self,
        turn: StoredTurn,
        writer: TurnWriter,
        batches: Sequence[TurnBatch],
        node: ConversationNode,
        *,
        keep: float,
        aside: bool = False,
    ) -> bool:
        return await super().end_turn(turn, writer, [], node, keep=keep, aside=aside)


class ClaimsLivingTurns(MemoryStore):
    async def claim_turn(self, turn: StoredTurn, writer: TurnWriter, *, lease: float, gone: bool) -> bool:
        return await super().claim_turn(turn, writer, lease=lease, gone=True)


class KnowsNoFence(MemoryStore):
    async def claim_turn(self, turn: StoredTurn, writer: TurnWriter, *, lease: float, gone: bool) -> bool:
        row = self._turns.rows[turn.number]
        claimed = await super().claim_turn(turn, writer, lease=lease, gone=gone)
        row.turn, self.first = replace(row.turn, writer=turn.writer), (turn.writer, writer)
        return claimed

    async def end_turn(
        self,
        turn: StoredTurn,
        writer: TurnWriter,
        batches: Sequence[TurnBatch],
        node: ConversationNode,
        *,
        keep: float,
        aside: bool = False,
    ) -> bool:
        row = self._turns.rows.get(turn.number)
        writer = writer if row is None else row.turn.writer
        return await super().end_turn(turn, writer, batches, node, keep=keep, aside=aside)


class TellsNobodyOfCancellation(MemoryStore):
    async def flush_turns(
        self, writer: TurnWriter, batches: Sequence[TurnBatch], *, lease: float
    ) -> Mapping[int, TurnState]:
        states = await super().flush_turns(writer, batches, lease=lease)
        return {number: replace(state, cancel_requested=False) for number, state in states.items()}


class WatchesNothing(MemoryStore):
    async def watch_turn(self, turn: StoredTurn, *, seconds: float) -> None:
        pass


class ExpiresNothing(MemoryStore):
    async def end_turn(
        self,
        turn: StoredTurn,
        writer: TurnWriter,
        batches: Sequence[TurnBatch],
        node: ConversationNode,
        *,
        keep: float,
        aside: bool = False,
    ) -> bool:
        return await super().end_turn(turn, writer, batches, node, keep=600, aside=aside)


class KeepsTurnsOfDeletedConversations(MemoryStore):
    def _forget_turns_of(self, conversation_id: str) -> None:
        pass


class KeepsTheLastResult(MemoryStore):
    async def keep_tool_result(self, conversation_id: str, node_id: str, place: int, result: ToolResultPart) -> None:
        await super().keep_tool_result(conversation_id, node_id, place, result)
        self._records[conversation_id].results[node_id, place] = result


class KeepsResultsOfDeletedConversations(MemoryStore):
    _results: dict[tuple[str, str], Mapping[int, ToolResultPart]] | None = None

    async def keep_tool_result(self, conversation_id: str, node_id: str, place: int, result: ToolResultPart) -> None:
        await super().keep_tool_result(conversation_id, node_id, place, result)
        kept = await super().tool_results(conversation_id, node_id)
        self._results = {**(self._results or {}), (conversation_id, node_id): kept}

    async def tool_results(self, conversation_id: str, node_id: str) -> Mapping[int, ToolResultPart]:
        return (self._results or {}).get((conversation_id, node_id), {})


BROKEN: dict[Callable[[], ConversationStore], set[StorePromise]] = {
    CreatesNothingAlone: {"create.empty", "create.instructed", "delete.final"},
    CreatesAnew: {"create.again"},
    ForgetsInstructions: {"create.instructed"},
    ForgetsMetadata: {"list.described"},
    KeepsLocalTimes: {"list.described"},
    LoadsSiblingsBackwards: {"append.order", "append.at_once", "head.branch", "head.checkout"},
    SortsKeys: {"append.exact"},
    StopsAtNul: {"append.exact", "append.again"},
    MovesTheHeadAgain: {"append.again"},
    RefusesASecondTime: {"append.again"},
    Overwrites: {"append.conflict"},
    WantsCreateFirst: {"append.creates"},
    HasOneTableOfNodeIds: {"append.apart", "delete.gone"},
    WritesItAllBack: {"append.at_once"},
    KeepsNoHead: {"head.checkout", "turn.fenced"},
    MakesAFailedNodeTheHead: {"head.failed", "load.outlined"},
    StaysAtTheCheckout: {"head.branch"},
    NeverMovesTheHead: {"append.again", "append.at_once", "head.last", "head.branch", "load.apart", "load.outlined"},
    ChecksOutAnything: {"head.unknown"},
    SharesWhatItLoads: {"load.apart", "head.checkout"},
    LoadsTheUnknownAsEmpty: {"load.unknown", "delete.gone", "delete.final"},
    ListsByTheLastChange: {"list.newest"},
    ListsByOffset: {"list.moving"},
    AlwaysHasANextPage: {"list.pages"},
    TakesAnyLimit: {"list.limits"},
    KeepsTheFirstTitle: {"rename.title"},
    RenamesTheUnknown: {"rename.unknown"},
    HidesInsteadOfDeleting: {"list.moving", "delete.gone", "delete.final", "turn.deleted", "results.deleted"},
    WillNotDeleteTheUnknown: {"delete.again"},
    OutlinesFromTheNodeOn: {"load.outlined"},
    ForgetsThatItDeleted: {"delete.final", "turn.deleted"},
    ForgetsTheTarget: {"turn.begun"},
    BeginsOverNodes: {"turn.again"},
    KeepsBatchesWhole: {"turn.events", "turn.ended", "turn.fenced"},
    LosesTheLastEvents: {"turn.ended"},
    ClaimsLivingTurns: {"turn.claimed"},
    KnowsNoFence: {"turn.claimed", "turn.fenced"},
    TellsNobodyOfCancellation: {"turn.cancelled"},
    WatchesNothing: {"turn.watched"},
    ExpiresNothing: {"turn.expired"},
    KeepsTurnsOfDeletedConversations: {"turn.deleted"},
    KeepsTheLastResult: {"results.first"},
    KeepsResultsOfDeletedConversations: {"results.deleted"},
    ClosesOnce: {"close.again"},
}
"""The promises that each store breaks."""


class Disk(MemoryStore):
    """A store whose contents outlive it: all stores that are made from one ``place`` share them."""

    def __init__(self, place: MemoryStore) -> None:
        super().__init__()
        self._records, self._deleted, self._numbers = place._records, place._deleted, place._numbers
        self._turns, self._order = place._turns, place._order


class KeepsHeadsInMemory(Disk):
    def __init__(self, place: MemoryStore) -> None:
        super().__init__(place)
        self.heads: dict[str, str] = {}

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        head = self._record(conversation_id).head
        await super().checkout(conversation_id, node_id)
        self._record(conversation_id).head = head
        self.heads[conversation_id] = node_id

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        known = conversation_id in self._records and node.id in self._records[conversation_id].nodes
        await super().append(conversation_id, node)
        if not known and node.status != "failed":
            self.heads.pop(conversation_id, None)

    async def load(self, conversation_id: str) -> Conversation:
        loaded = await super().load(conversation_id)
        if conversation_id in self.heads and loaded.nodes:
            loaded.checkout(self.heads[conversation_id])
        return loaded


class KeepsDeletionsInMemory(Disk):
    def __init__(self, place: MemoryStore) -> None:
        super().__init__(place)
        self._deleted = set()


class CountsFromOneAgain(Disk):
    def __init__(self, place: MemoryStore) -> None:
        super().__init__(place)
        self._numbers = count(1)


BROKEN_ON_DISK: dict[type[Disk], set[StorePromise]] = {
    KeepsHeadsInMemory: {"durable.head", "durable.shared"},
    KeepsDeletionsInMemory: {"durable.deleted"},
    CountsFromOneAgain: {"durable.list"},
}


async def _report(make: Callable[[], ConversationStore], *, durable: bool = False, seconds: float = 30) -> str:
    with pytest.raises(AssertionError) as caught:
        await check_store(make, durable=durable, seconds=seconds)
    return str(caught.value)


def _broken(report: str) -> set[str]:
    return set(re.findall(r"^([a-z]+\.[a-z_]+): ", report, re.MULTILINE))


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
async def test_a_broken_store_is_reported_with_every_promise_it_breaks(make: Callable[[], ConversationStore]) -> None:
    report = await _report(make)
    assert _broken(report) == BROKEN[make], report


@pytest.mark.parametrize("kind", BROKEN_ON_DISK, ids=lambda kind: kind.__name__)
async def test_a_store_that_forgets_on_closing_is_reported(kind: type[Disk]) -> None:
    place = MemoryStore()
    report = await _report(lambda: kind(place), durable=True)
    assert _broken(report) == BROKEN_ON_DISK[kind], report


async def test_stores_that_share_nothing_are_not_durable() -> None:
    report = await _report(MemoryStore, durable=True)
    assert _broken(report) == {promise for promise in STORE_PROMISES if promise.startswith("durable.")}


def test_every_promise_of_a_store_is_broken_by_a_test() -> None:
    broken = set[str]().union(*BROKEN.values(), *BROKEN_ON_DISK.values())
    assert set(STORE_PROMISES) - broken == {"durable.nodes"}  # by stores that share nothing
    assert tuple(STORE_PROMISES) == get_args(StorePromise)


async def test_the_report_names_the_store_its_promises_and_the_cases() -> None:
    report = await _report(KeepsTheFirstTitle)
    assert report.startswith("KeepsTheFirstTitle breaks 1 promise:\nrename.title: ")
    assert f"rename.title: {STORE_PROMISES['rename.title']}\n    - rename one: the title should be 'After'" in report
    await check_store(KeepsTheFirstTitle, except_for=["rename.title"])


async def test_an_exception_for_an_unknown_promise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no promise list\.everything; testing\.STORE_PROMISES"):
        await check_store(MemoryStore, except_for=["list.everything"])  # type: ignore[list-item] - that is the test


class NeverLoads(MemoryStore):
    async def load(self, conversation_id: str) -> Conversation:
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_store_that_never_returns_is_reported() -> None:
    report = await _report(NeverLoads, seconds=0.01)
    assert "load.unknown" in _broken(report)
    assert "load an unknown id: TimeoutError" in report


async def test_a_factory_that_fails_is_reported() -> None:
    def fails() -> ConversationStore:
        raise OSError("no such database")

    assert "create one: OSError: no such database" in await _report(fails)
