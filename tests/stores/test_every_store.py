"""What memory, SQLite and PostgreSQL promise alike: owners, search, lists and deletion."""

from typing import cast
from uuid import uuid4

import anyio
import pytest
from pydantic import JsonValue

from dhenara_async import Conversation, ConversationManager, ConversationNode, Dialect, Journal
from dhenara_async.errors import ConfigurationError, UnknownConversationError, UnknownTurnError, UnsupportedError
from dhenara_async.messages.messages import ReasoningPart, TextPart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.stores import ConversationStore, MemoryStore, SQLStore
from dhenara_async.testing import ProviderServer, check_store
from tests.loopback import endpoint_at

Store = MemoryStore | SQLStore


def new_owner() -> str:
    """An owner that no other test has: the tests of one worker share a database."""
    return f"user-{uuid4().hex}"


def asked(query: str, answer: str = "", parent: ConversationNode | None = None) -> ConversationNode:
    """A node with a question and an answer."""
    parts = (ReasoningPart(text="thoughtful"), TextPart(text=answer))
    response = ChatResponse(model="m", provider="p", choices=(Choice(parts=parts, finish_reason=FinishReason.STOP),))
    return ConversationNode(parent_id=None if parent is None else parent.id, user_query=query, response=response)


async def test_every_store_keeps_every_promise(store: Store) -> None:
    await check_store(lambda: store, durable=True)


async def test_the_store_of_an_owner_keeps_every_promise(store: Store) -> None:
    await check_store(lambda: store.scoped(new_owner()))


async def test_an_owner_sees_only_its_own_conversations(store: Store) -> None:
    async with ConversationManager(store=store) as manager:
        mine, theirs = manager.scoped(new_owner()), manager.scoped(new_owner())
        own, secret, free = await mine.create(title="own"), await theirs.create(title="secret"), await manager.create()
        for owner, conversation in ((mine, own), (theirs, secret), (manager, free)):
            await owner.store.append(conversation.id, asked(f"painting {conversation.id}"))
        assert [item.title for item in (await mine.list()).items] == ["own"]
        assert [hit.conversation for hit in await mine.search("painting")] == [own.id]
        assert free.id in [hit.conversation for hit in await manager.search(f"painting {free.id}")]
        assert await manager.search(f"painting {secret.id}") == ()
        assert secret.id not in [item.id for item in (await manager.list(limit=1000)).items]


async def test_two_owners_may_use_the_same_id(store: Store) -> None:
    name, one, two = uuid4().hex, store.scoped(new_owner()), store.scoped(new_owner())
    await one.create(name, title="one")
    await two.create(name, title="two")
    await one.delete(name)
    assert [item.title for item in (await two.list()).items] == ["two"]
    await two.append(name, asked("still here"))


@pytest.mark.parametrize("owner", ["", "a\0b", "\ud800", 0, 7, False, b"", b"7", (), []])
async def test_an_owner_that_cannot_be_kept_is_refused(store: Store, owner: object) -> None:
    """A number is the id of many users; 0 must not be nobody, whose conversations are those without an owner."""
    with pytest.raises(ConfigurationError, match="owner"):
        store.scoped(cast("str", owner))
    with pytest.raises(ConfigurationError, match="owner"):
        ConversationManager(store=store).scoped(cast("str", owner))


async def test_descriptions_that_a_database_cannot_keep_are_refused_by_every_store(store: Store) -> None:
    async with ConversationManager(store=store) as manager:
        mine = manager.scoped(new_owner())
        conversation = await mine.create(title="kept", metadata={"n": 1})
        for title in ("a\0b", "\ud800", 5, b"x", ["x"]):
            with pytest.raises(ConfigurationError, match="the title of a conversation"):
                await mine.create(title=cast("str", title))
            with pytest.raises(ConfigurationError, match="the title of a conversation"):
                await mine.rename(conversation, cast("str", title))
        for metadata in ("text", 5, ["x"], {"k": float("nan")}, {"k": b"x"}, {b"k": 1}):
            with pytest.raises(ConfigurationError, match="metadata of a conversation is a JSON object"):
                await mine.create(metadata=cast("dict[str, JsonValue]", metadata))
        with pytest.raises(ConfigurationError, match="one of them is bytes"):
            await mine.create(instructions=cast("list[str]", [b"x"]))
        for name in ("a\0b", 5):
            with pytest.raises(ConfigurationError, match="id"):
                await mine.store.create(cast("str", name))
            with pytest.raises(ConfigurationError, match="id"):
                await mine.store.append(cast("str", name), asked("?"))
        (item,) = (await mine.list()).items
        assert (item.title, item.metadata) == ("kept", {"n": 1})


async def test_the_metadata_of_a_list_is_a_copy(store: Store) -> None:
    given: dict[str, JsonValue] = {"tags": ["new"]}
    store = store.scoped(new_owner())
    await store.create("a", metadata=given)
    cast("list[str]", given["tags"]).append("later")
    cast("list[str]", (await store.describe("a")).metadata["tags"]).append("later")
    assert (await store.describe("a")).metadata == {"tags": ["new"]}


@pytest.mark.parametrize("wrong", [None, 5, b"abc", 1.5])
async def test_arguments_of_another_type_are_refused_in_words(store: Store, wrong: object) -> None:
    """Values of a request that are missing or parsed come here unchecked."""
    given = cast("str", wrong)
    async with ConversationManager(store=store) as manager:
        mine = manager.scoped(new_owner())
        for call in (mine.describe, mine.delete, mine.running):
            with pytest.raises(ConfigurationError, match="is a Conversation or its id"):
                await call(given)
        with pytest.raises(ConfigurationError, match="is a Conversation or its id"):
            await mine.rename(given, "x")
        with pytest.raises(ConfigurationError, match="query of a search is a text"):
            await mine.search(given)
        with pytest.raises(UnknownConversationError):
            await mine.open(given)
        with pytest.raises(UnknownTurnError):
            await mine.cancel(given)
        with pytest.raises(UnknownTurnError):
            async with mine.attach(given):
                pass
        if wrong is not None:
            with pytest.raises(ConfigurationError, match="before is not a cursor"):
                await mine.list(before=given)


async def test_the_newest_nodes_with_every_word_are_found_first(store: Store) -> None:
    store = store.scoped(new_owner())
    first, second = asked("A painting robot", "It paints ÉTÉ 1,000 times."), asked("A robot", "painting, and more.")
    await store.create("a", title="Robots")
    await store.append("a", first)
    await store.append("a", second)
    await store.append("b", asked("paintings by robots"))
    hits = await store.search("Robot PAINTING")
    assert [(hit.conversation, hit.node, hit.title) for hit in hits] == [
        ("a", second.id, "Robots"),
        ("a", first.id, "Robots"),
    ]
    assert "painting" in hits[0].snippet
    assert [hit.node for hit in await store.search("été", limit=1)] == [first.id]
    assert await store.search("thoughtful") == ()  # reasoning is not searched
    assert await store.search("") == await store.search('"*" - ^ : ( )') == ()
    with pytest.raises(ConfigurationError, match="limit"):
        await store.search("robot", limit=0)
    await store.delete("a")
    assert await store.search("robot painting") == ()


@pytest.mark.parametrize("word", ["Straße", "ÉTÉ", "été", "ΣΊΣΥΦΟΣ", "日本", "x1"])
async def test_a_word_is_found_as_it_is_written(store: Store, word: str) -> None:
    store = store.scoped(f'{new_owner()} "quoted" \' OR *')
    await store.append("a", asked(f"({word}), and more"))
    assert [hit.conversation for hit in await store.search(word)] == ["a"]


async def test_pages_that_cannot_be_are_refused_in_words(store: Store) -> None:
    store = store.scoped(new_owner())
    await store.create("a")
    for cursor in ("", "x", "-1", "1.5", "\0", "\u0661", "9" * 40, "1' OR '1'='1"):
        with pytest.raises(ConfigurationError, match="before is not a cursor"):
            await store.list(before=cursor)
    for limit in (0, -1, cast("int", 1.5), cast("int", "2")):
        with pytest.raises(ConfigurationError, match="limit"):
            await store.list(limit=limit)
    assert [item.id for item in (await store.list(limit=10**30)).items] == ["a"]
    with pytest.raises(ConfigurationError, match="no node"):
        await store.checkout("a", "x")


async def test_a_node_without_its_parent_is_refused(store: Store) -> None:
    store, name, parent = store.scoped(new_owner()), uuid4().hex, asked("never kept")
    with pytest.raises(UnknownConversationError):
        await store.append(name, asked("?", parent=parent))
    await store.create(name)
    with pytest.raises(ConfigurationError, match="no node"):
        await store.append(name, asked("?", parent=parent))
    assert (await store.load(name)).nodes == ()


async def test_a_conversation_is_opened_by_its_path_alone(store: Store) -> None:
    async with ConversationManager(store=store) as manager:
        mine = manager.scoped(new_owner())
        conversation, path = await mine.create(), list[ConversationNode]()
        assert (await mine.open(conversation.id, path_only=True)).nodes == ()
        for number in range(30):
            path.append(asked(str(number), parent=path[-1] if path else None))
            await mine.store.append(conversation.id, asked("aside", parent=path[-2] if number else None))
            await mine.store.append(conversation.id, path[-1])
        await mine.store.append(conversation.id, path[-1].changed(id="failed", status="failed"))
        opened = await mine.open(conversation.id, path_only=True)
        assert (opened.path(), opened.head) == (tuple(path), path[-1])
        if isinstance(store, SQLStore):
            assert opened.nodes == tuple(path)
        assert len((await mine.open(conversation.id)).nodes) == 61
        with pytest.raises(UnknownConversationError):
            await manager.open(conversation.id, path_only=True)


async def test_two_workers_that_answer_one_conversation_leave_siblings(store: Store) -> None:
    name, root = uuid4().hex, asked("root")
    await store.append(name, root)
    answers = [asked(str(number), parent=root) for number in range(30)]
    async with anyio.create_task_group() as tasks:
        for answer in answers:
            tasks.start_soon(store.append, name, answer)
    conversation = await store.load(name)
    assert {node.id for node in conversation.children(root.id)} == {node.id for node in answers}
    assert conversation.head == conversation.nodes[-1]


async def test_a_store_without_owners_or_search_is_refused_in_words() -> None:
    async with ConversationManager(store=cast(ConversationStore, object())) as manager:
        with pytest.raises(UnsupportedError, match="owners"):
            manager.scoped("a")
        with pytest.raises(UnsupportedError, match="search"):
            await manager.search("a")


@pytest.mark.parametrize("first", ["turn", "branch", "checkout", "without a journal"])
async def test_an_imported_conversation_goes_on_in_a_store_that_lacks_it(store: Store, first: str) -> None:
    root = asked("Zero?", "0")
    left, right = asked("Left?", "1", parent=root), asked("Right?", "2", parent=root)
    exported = Conversation(nodes=[root, left, right], head=left.id, instructions=["Be brief."]).export_json()
    conversation = Conversation.import_json(exported)
    journal = None if first == "without a journal" else Journal()
    async with ProviderServer() as server, ConversationManager(store=store, journal=journal) as manager:
        mine, theirs = manager.scoped(new_owner()), manager.scoped(new_owner())
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        match first:
            case "branch":
                await mine.regenerate(conversation, root.id, endpoint)
            case "checkout":
                await mine.checkout(conversation, right.id)
            case _:
                await mine.ask(conversation, "And?", endpoint)
        opened = await mine.open(conversation.id)
        assert opened.nodes == conversation.nodes
        assert (opened.head, opened.instructions) == (conversation.head, ("Be brief.",))
        assert [hit.node for hit in await mine.search("Right")] == [right.id]
        with pytest.raises(UnknownConversationError):
            await theirs.open(conversation.id)

        again = Conversation.import_json(conversation.export_json())  # the store has it: nothing is kept twice
        node = await mine.ask(again, "More?", endpoint)
        assert (await mine.open(conversation.id)).nodes == (*conversation.nodes, node)
        await mine.delete(conversation.id)
        with pytest.raises(UnknownConversationError):
            await mine.ask(again, "Gone?", endpoint)  # the object is no import any more
        back = Conversation.import_json(exported)
        node = await mine.ask(back, "Back?", endpoint)
        assert (await mine.open(conversation.id)).path() == (root, left, node)
