"""Conversations of thousands of turns: opening reads the path to the head, and the rest comes when it is asked for."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import URL, make_url

from dhenara_async import Budget, Conversation, ConversationManager, ConversationNode, Dialect
from dhenara_async.errors import BudgetError, ConfigurationError, NotLoadedError, UnknownConversationError
from dhenara_async.stores import MemoryStore, SQLStore
from dhenara_async.stores.sql import sqlite
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.usage.tokens import Usage
from tests.loopback import endpoint_at
from tests.stores.large import branches, insert_nodes

PATH, TURNS = 20, 2_000


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The URL of a database of each kind."""
    return (
        make_url(f"sqlite:///{tmp_path}/chat.db") if request.param == "sqlite" else request.getfixturevalue("postgres")
    )


def address(url: URL) -> str:
    """The URL with its password."""
    return url.render_as_string(hide_password=False)


async def grown(store: SQLStore, url: URL, turns: int = TURNS) -> tuple[str, list[ConversationNode]]:
    """Keep a conversation: a path of ``PATH`` turns, and branches of ten turns behind the third one."""
    name, path = uuid4().hex, list[ConversationNode]()
    for number in range(PATH):
        path.append(ConversationNode(parent_id=path[-1].id if path else None, user_query=f"step {number}"))
        await store.append(name, path[-1])
    others = branches(path[2], turns - PATH)
    await insert_nodes(url, name, others)
    return name, [*path, *others]


async def test_a_large_tree_is_opened_by_its_path_and_loaded_when_asked_for(url: URL) -> None:
    async with SQLStore(address(url)) as store, ConversationManager(store=store) as manager:
        name, nodes = await grown(store, url)
        opened, path, fork = await manager.open(name), tuple(nodes[:PATH]), nodes[2]
        assert (opened.nodes, opened.path(), opened.head) == (path, path, nodes[PATH - 1])
        assert not opened.complete
        assert str(opened).startswith(f"conversation {name}: {PATH} of {TURNS} turns, the others are not loaded\n1. ")
        firsts = nodes[PATH::10]
        assert opened.children_count(fork.id) == opened.siblings_count(nodes[3].id) == 1 + len(firsts)
        assert (opened.siblings_count(path[0].id), opened.children_count(path[-1].id)) == (1, 0)
        assert opened.children(path[0].id) == path[1:2]  # all of them are loaded
        for partial in (opened.usage, opened.cost, opened.to_markdown, opened.export_json):
            with pytest.raises(NotLoadedError, match=r"1980 of 2000 are not loaded.*load_all"):
                partial()
        for unloaded in (lambda: opened.children(fork.id), lambda: opened.siblings(nodes[3].id)):
            with pytest.raises(NotLoadedError, match=r"198 of the 199 turns .*manager\.siblings"):
                unloaded()
        with pytest.raises(NotLoadedError, match=r"manager\.load\("):
            opened.checkout(nodes[-1].id)

        assert await manager.siblings(opened, nodes[3].id) == (nodes[3], *firsts)
        assert opened.children(fork.id) == (nodes[3], *firsts)
        assert opened.children_count(firsts[0].id) == 1
        with pytest.raises(NotLoadedError):
            opened.children(firsts[0].id)
        assert await manager.children(opened, nodes[PATH + 4].id) == (nodes[PATH + 5],)  # its path comes along
        assert await manager.load(opened, nodes[-1].id) == nodes[-1]
        for unknown in ("no such turn", "\0", ""):
            with pytest.raises(ConfigurationError, match="has no turn"):
                await manager.load(opened, unknown)

        assert await manager.load_all(opened) is opened
        whole = await store.load(name)
        assert opened.complete
        assert (opened.nodes, opened.head) == (whole.nodes, whole.head)
        assert opened.export_json() == whole.export_json()
        assert (opened.children(fork.id), str(opened)) == (whole.children(fork.id), str(whole))


async def test_turns_of_a_large_tree_go_on_from_any_turn(url: URL) -> None:
    async with (
        ProviderServer([Answer(text="Yes.")] * 4) as server,
        SQLStore(address(url)) as store,
        ConversationManager(store=store) as manager,
    ):
        name, nodes = await grown(store, url, 300)
        who, opened, last = endpoint_at(server, Dialect.OPENAI_CHAT), await manager.open(name), nodes[PATH + 19]
        turn = manager.regenerate(opened, last.id, who)
        node = await turn
        assert (node.id, node.parent_id, node.user_query) == (turn.id, last.parent_id, last.user_query)
        assert [len(part) for part in (opened.path(), opened.appended)] == [13, 1]
        node = await manager.edit(opened, nodes[PATH + 29].id, "In other words?", who)
        assert (node.parent_id, node.user_query) == (nodes[PATH + 28].id, "In other words?")
        with pytest.raises(ConfigurationError, match="has no turn"):
            await manager.edit(opened, "no such turn", "?", who)
        await manager.choose(opened, nodes[PATH + 39].id)
        await manager.checkout(opened, nodes[PATH + 49].id)
        assert (await manager.ask(opened, "And then?", who)).parent_id == nodes[PATH + 49].id
        assert not opened.complete  # 300 turns, of which most were never needed
        await manager.load_all(opened)
        assert (opened.complete, opened.nodes) == (True, (await store.load(name)).nodes)


async def test_turns_that_are_not_kept_are_not_taken_for_loaded_ones(url: URL) -> None:
    """A turn that was appended by hand, or whose store failed, is in no count of the store."""
    async with SQLStore(address(url)) as store, ConversationManager(store=store) as manager:
        name, nodes = await grown(store, url, 300)
        opened = await manager.open(name)
        mine = ConversationNode(parent_id=nodes[2].id, user_query="by hand")
        opened.append(mine)
        assert opened.children_count(nodes[2].id) == 1 + 28 + 1
        with pytest.raises(NotLoadedError):
            opened.children(nodes[2].id)
        assert await manager.children(opened, nodes[2].id) == (nodes[3], *nodes[PATH::10], mine)
        await manager.load_all(opened)
        assert (opened.complete, opened.nodes) == (True, (*nodes, mine))


async def test_small_trees_are_whole_and_path_only_still_leaves_the_rest(url: URL) -> None:
    async with SQLStore(address(url)) as store, ConversationManager(store=store) as manager:
        name, nodes = await grown(store, url, PATH + 100)
        opened = await manager.open(name)
        assert (opened.complete, opened.nodes) == (True, tuple(nodes))
        assert opened.export_json() == (await store.load(name)).export_json()
        assert (await manager.open(name, path_only=True)).nodes == tuple(nodes[:PATH])
        empty = await manager.create()
        assert (await manager.open(empty.id)).nodes == ()
        await store.append(empty.id, ConversationNode(status="failed"))
        opened = await manager.open(empty.id, path_only=True)
        assert (opened.nodes, opened.head, opened.children_count(None)) == ((), None, 1)
        with pytest.raises(UnknownConversationError):
            await manager.open(uuid4().hex)


@pytest.mark.parametrize("whole", [False, True])
async def test_a_budget_counts_the_turns_that_are_not_loaded(url: URL, *, whole: bool) -> None:
    """A restart does not fill the purse again, whichever part of the tree is opened."""
    usage = Usage(input_tokens=39, output_tokens=1)
    budget = Budget(tokens=100)
    async with ProviderServer([Answer(text="Yes.", usage=usage)] * 3) as server, SQLStore(address(url)) as store:
        who = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        async with ConversationManager(store=store) as manager:
            conversation = await manager.create()
            first = await manager.ask(conversation, "One?", who)
            for _ in range(2):
                await manager.regenerate(conversation, first.id, who)
        async with ConversationManager(store=store, conversation_budget=budget) as manager:
            opened = await manager.open(conversation.id, path_only=not whole)
            assert len(opened.nodes) == (3 if whole else 1)
            with pytest.raises(BudgetError) as caught:
                await manager.ask(opened, "Two?", who)
            await manager.load_all(opened)
            with pytest.raises(BudgetError) as again:
                await manager.ask(opened, "Two?", who)
        assert (caught.value.left, again.value.left, len(server.requests)) == (-20, -20, 3)


async def test_conversations_of_an_older_schema_are_summed_when_they_are_next_opened(url: URL) -> None:
    async with SQLStore(address(url)) as store:
        name, nodes = await grown(store, url, 1_200)
        await _forget_sums(url, name)
        assert (await store.load_path(name)).turns == 1_200
        await store.append(name, nodes[-1].changed(id="new", parent_id=nodes[-1].id))
        loaded = await store.load_path(name)
        assert (loaded.turns, loaded.followers[None], len(loaded.nodes)) == (1_201, 1, 3 + 10 + 1)


async def _forget_sums(url: URL, name: str) -> None:
    from sqlalchemy import create_engine, update

    from dhenara_async.stores.sql.tables import conversations

    def work() -> None:
        engine = create_engine(url)
        with engine.begin() as connection:
            nothing = {"turns": None, "tokens": None, "money": None}
            connection.execute(update(conversations).where(conversations.c.id == name).values(nothing))
        engine.dispose()

    await anyio.to_thread.run_sync(work)


async def test_what_opening_reads_does_not_grow_with_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own count of steps, a hundred at a time: no clock is asked."""
    steps, url, configure = [0], make_url(f"sqlite:///{tmp_path}/chat.db"), sqlite.configure

    def count() -> int:
        steps[0] += 1
        return 0

    def counting(connection: Any, record: object) -> None:
        configure(connection, record)
        connection.set_progress_handler(count, 100)

    monkeypatch.setattr(sqlite, "configure", counting)
    taken: list[int] = []
    async with SQLStore(tmp_path / "chat.db") as store, ConversationManager(store=store) as manager:
        for turns in (300, 10_000):
            name, _ = await grown(store, url, turns)
            steps[0] = 0
            opened = await manager.open(name)
            taken.append(steps[0])
            assert (len(opened.nodes), opened.children_count(opened.nodes[4].id)) == (PATH, 1)
            children = await manager.children(opened, opened.nodes[-2].id)
            assert children == opened.nodes[-1:]
    assert 0 < taken[1] < 2 * taken[0] + (10_000 // 10) // 10, taken  # the fork of a thousand turns is counted


async def test_a_store_in_memory_opens_everything() -> None:
    store = MemoryStore()
    async with ConversationManager(store=store) as manager:
        root = ConversationNode()
        for node in (root, *branches(root, 300)):
            await store.append("a", node)
        opened: Conversation = await manager.load_all(await manager.open("a", path_only=True))
        assert (opened.complete, len(opened.nodes)) == (True, 301)
        assert len(await manager.siblings(opened, opened.nodes[1].id)) == 30
