"""The conformance kit for stores: tests every promise of ``ConversationStore`` on your store.

For authors of stores. One call in a test is enough::

    from dhenara_async.testing import check_store

    async def test_my_store_conforms() -> None:
        await check_store(lambda: MyStore("test.db"), durable=True)

``STORE_PROMISES`` lists the promises. No model is called.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Literal, Protocol
from uuid import uuid4

import anyio
from pydantic import JsonValue

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import UnknownConversationError
from dhenara_async.messages.messages import FilePart, Origin, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.response import ChatResponse, Choice, FinishReason, Usage
from dhenara_async.stores import ConversationStore, StoredConversation
from dhenara_async.testing.promises import BrokenPromises, demand

StorePromise = Literal[
    "create.empty",
    "create.again",
    "append.order",
    "append.exact",
    "append.again",
    "append.conflict",
    "append.creates",
    "append.apart",
    "append.at_once",
    "head.last",
    "head.failed",
    "head.checkout",
    "head.branch",
    "head.unknown",
    "load.apart",
    "load.unknown",
    "list.newest",
    "list.pages",
    "list.moving",
    "list.limits",
    "list.described",
    "rename.title",
    "rename.unknown",
    "delete.gone",
    "delete.again",
    "delete.final",
    "close.again",
    "durable.nodes",
    "durable.head",
    "durable.list",
    "durable.deleted",
    "durable.shared",
]

STORE_PROMISES: Mapping[StorePromise, str] = {
    "create.empty": "a created conversation can be loaded and is empty",
    "create.again": "creating a conversation that exists changes nothing",
    "append.order": "nodes come back in the order they were appended",
    "append.exact": "a node comes back equal, and its JSON byte for byte",
    "append.again": "appending the same node again changes nothing, neither the order nor the head",
    "append.conflict": "a different node of the same id is a ValueError, and the first one stays",
    "append.creates": "appending to a conversation that was never created creates it",
    "append.apart": "two conversations may have nodes of the same id",
    "append.at_once": "nodes that are appended at the same time are all stored",
    "head.last": "an appended node is the head",
    "head.failed": "a failed node is stored and is not the head",
    "head.checkout": "the head that checkout set is the head of the loaded conversation",
    "head.branch": "a node that is appended after a checkout is the head, and the other branch stays",
    "head.unknown": "checkout of an unknown node is a ValueError, of a conversation an UnknownConversationError",
    "load.apart": "changing a loaded conversation changes nothing in the store",
    "load.unknown": "loading an unknown conversation is an UnknownConversationError",
    "list.newest": "conversations are listed by creation, the newest first, whichever was changed last",
    "list.pages": "the pages together have every conversation once, and the last one has no next",
    "list.moving": "conversations created, changed or deleted between two pages repeat and skip no other one",
    "list.limits": "a limit below 1 and an unknown cursor are a ValueError",
    "list.described": "a listed conversation has its title, its metadata and its times in UTC",
    "rename.title": "rename changes the title, None removes it, and the nodes stay",
    "rename.unknown": "renaming an unknown conversation is an UnknownConversationError",
    "delete.gone": "a deleted conversation is neither loaded nor listed, and others stay",
    "delete.again": "deleting an unknown conversation, or one again, changes nothing",
    "delete.final": "a node of a deleted conversation is refused; created again, the conversation is empty",
    "close.again": "closing a store again does nothing, and so does leaving the block of a closed one",
    "durable.nodes": "a store that is opened later has the nodes",
    "durable.head": "a store that is opened later has the head",
    "durable.list": "a store that is opened later lists the conversations, and takes cursors of an earlier one",
    "durable.deleted": "a store that is opened later refuses nodes of a deleted conversation",
    "durable.shared": "two open stores see each other's changes at once",
}
"""Every promise that ``check_store`` tests, and its meaning."""


async def check_store(
    store_factory: Callable[[], ConversationStore],
    *,
    durable: bool = False,
    except_for: Collection[StorePromise] = (),
    seconds: float = 30.0,
) -> None:
    """Test every promise of ``ConversationStore``, and report all that are broken at once.

    Args:
        store_factory: Makes a store. It is called for each promise, sometimes twice, and every store is closed. Stores
            may share their contents: the test uses conversation ids of its own. They stay behind.
        durable: Whether stores share their contents, as those of one database do. Then persistence is tested too.
        except_for: Promises that are not tested.
        seconds: How long the test of one promise may take before the promise counts as broken.

    Raises:
        AssertionError: Promises are broken; the message names each, with the case that was tried.
        ValueError: ``except_for`` names a promise that does not exist.
    """
    broken = BrokenPromises(STORE_PROMISES, except_for, table="testing.STORE_PROMISES")
    subject = "the store"
    for promise, check in _CHECKS.items():
        if promise.startswith("durable.") and not durable:
            continue
        stores = _OpenedStores(store_factory)
        try:
            with broken.of(promise, check.__name__.strip("_").replace("_", " ")), anyio.fail_after(seconds):
                await check(stores)
        finally:
            await stores.aclose()
        subject = stores.subject or subject
    broken.raise_if_any(subject)


class _OpenedStores:
    """Opens stores for the test of one promise, and closes them after it."""

    def __init__(self, store_factory: Callable[[], ConversationStore]) -> None:
        self._factory = store_factory
        self._opened: list[ConversationStore] = []

    @property
    def subject(self) -> str:
        return type(self._opened[0]).__name__ if self._opened else ""

    def open(self) -> ConversationStore:
        store = self._factory()
        self._opened.append(store)
        return store

    async def aclose(self) -> None:
        for store in self._opened:
            with anyio.move_on_after(1, shield=True), suppress(Exception):  # only close.again tests closing
                await store.aclose()


class _PromiseCheck(Protocol):
    __name__: str

    def __call__(self, stores: _OpenedStores, /) -> Awaitable[None]: ...


# ----------------------------------------------------------------------------------------------------- test data


def _id() -> str:
    return f"check_store-{uuid4().hex}"


def _node(parent: ConversationNode | None = None, *, query: str = "Hello", failed: bool = False) -> ConversationNode:
    return ConversationNode(
        parent_id=None if parent is None else parent.id, user_query=query, status="failed" if failed else "complete"
    )


def _rich_node(parent: ConversationNode | None = None) -> ConversationNode:
    """Build a node with values that databases often change: key order, NUL, large numbers, zeros, spaces."""
    origin = Origin(provider="anthropic", dialect="anthropic_messages", endpoint="a.test", account="a", model="m")
    state: dict[str, JsonValue] = {"z": 1, "a": [True, None, 1.0, 2**53 + 1, "\0"], "Z": {"é": "e\u0301", "": ""}}
    parts = (
        ReasoningPart(text="Hm.\r\n", provider_state=state, origin=origin),
        TextPart(text=" \u00a0 \N{GRINNING FACE} \0 \u2028 "),
        ToolCallPart(call_id="call_1", name="add", arguments='{"b": 2,  "a": 1.0}'),
    )
    return ConversationNode(
        parent_id=None if parent is None else parent.id,
        user_query="What is it? \N{PILE OF POO}\t",
        attached_files=(FilePart.from_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), media_type="image/png"),),
        tool_results=(ToolResultPart(call_id="call_0", content=(TextPart(text=""),)),),
        instructions=("Be brief.", ""),
        response=ChatResponse(
            model="m",
            provider="anthropic",
            choices=(Choice(parts=parts, finish_reason=FinishReason.TOOL_CALLS),),
            usage=Usage(input_tokens=0, output_tokens=None),
        ),
        origin=origin,
        status="interrupted",
        error="it broke off",
        cost=Decimal("0.1000"),
        signature="5ea1",
    )


async def _grow(store: ConversationStore, conversation_id: str, *nodes: ConversationNode) -> None:
    await store.create(conversation_id)
    for node in nodes:
        await store.append(conversation_id, node)


def _head(conversation: Conversation) -> str | None:
    return None if conversation.head is None else conversation.head.id


def _demand_nodes(conversation: Conversation, *nodes: ConversationNode) -> None:
    found = [node.id for node in conversation.nodes]
    demand(found == [node.id for node in nodes], f"{len(nodes)} nodes were stored, and {len(found)} came back: {found}")
    for stored, node in zip(conversation.nodes, nodes, strict=True):
        demand(stored == node, f"a node came back different: {stored!r} for {node!r}")


def _demand_head(conversation: Conversation, node: ConversationNode | None, when: str) -> None:
    expected = None if node is None else node.id
    demand(_head(conversation) == expected, f"{when}, the head should be {expected} and is {_head(conversation)}")


async def _demand_error(kind: type[Exception], call: Callable[[], Awaitable[object]], when: str) -> None:
    try:
        await call()
    except kind:
        return
    except Exception as exc:
        raise AssertionError(f"{when}: it should be {kind.__name__} and is {type(exc).__name__}: {exc}") from exc
    raise AssertionError(f"{when}: it should be {kind.__name__}, and nothing was raised")


async def _ours(store: ConversationStore, ids: Collection[str], *, limit: int = 100) -> list[StoredConversation]:
    """Return every listed conversation that the test created, over all pages."""
    found: list[StoredConversation] = []
    cursor: str | None = None
    while len([item for item in found if item.id in ids]) < len(ids):
        page = await store.list(limit=limit, before=cursor)
        demand(len(page.items) <= limit, f"a page of at most {limit} has {len(page.items)} conversations")
        found += page.items
        if page.next is None:
            break
        demand(page.next != cursor and page.items, "a page without conversations, or without progress, has a next")
        cursor = page.next
    return [item for item in found if item.id in ids]


async def _created(store: ConversationStore, number: int) -> list[str]:
    """Create conversations, and return their ids, newest first."""
    ids = [_id() for _ in range(number)]
    for conversation_id in ids:
        await store.create(conversation_id)
    return ids[::-1]


# ------------------------------------------------------------------------------------------------------ the tests


async def _create_one(stores: _OpenedStores) -> None:
    store, name = stores.open(), _id()
    await store.create(name)
    loaded = await store.load(name)
    demand(loaded.id == name, f"the loaded conversation has the id {loaded.id!r} and not {name!r}")
    _demand_nodes(loaded)
    _demand_head(loaded, None, "without nodes")


async def _create_one_twice(stores: _OpenedStores) -> None:
    store, name, node = stores.open(), _id(), _node()
    await store.create(name, title="First")
    await store.append(name, node)
    await store.create(name, title="Second", metadata={"a": 1})
    loaded = await store.load(name)
    _demand_nodes(loaded, node)
    _demand_head(loaded, node, "after the second create")
    listed = await _ours(store, [name])
    demand([item.title for item in listed] == ["First"], "the second create changed the title, or the list")
    demand(all(not item.metadata for item in listed), "the second create changed the metadata")


async def _append_a_tree_of_nodes(stores: _OpenedStores) -> None:
    store, name, root = stores.open(), _id(), _node(query="0")
    children = [_node(root, query=str(number)) for number in range(5)]
    grandchild = _node(children[0])
    await _grow(store, name, root, *children, grandchild)
    _demand_nodes(await store.load(name), root, *children, grandchild)


async def _append_a_node_with_every_field(stores: _OpenedStores) -> None:
    store, name, first = stores.open(), _id(), _rich_node()
    second = _rich_node(first)
    await _grow(store, name, first, second)
    for stored, node in zip((await store.load(name)).nodes, (first, second), strict=True):
        demand(stored == node, f"the loaded node is different: {stored!r} for {node!r}")
        same = stored.model_dump_json() == node.model_dump_json()
        demand(
            same,
            "the JSON of the loaded node is different: store model_dump_json() as text, which no database reorders",
        )


async def _append_nodes_again(stores: _OpenedStores) -> None:
    store, name, first = stores.open(), _id(), _rich_node()
    second = _node(first)
    await _grow(store, name, first, second)
    await store.append(name, first)
    await store.append(name, ConversationNode.model_validate_json(second.model_dump_json()))
    await store.append(name, first)
    loaded = await store.load(name)
    _demand_nodes(loaded, first, second)
    _demand_head(loaded, second, "after the first node was appended again")


async def _append_a_different_node_of_the_same_id(stores: _OpenedStores) -> None:
    store, name, node = stores.open(), _id(), _node()
    await _grow(store, name, node)
    other = node.model_copy(update={"user_query": "Goodbye"})
    await _demand_error(ValueError, partial(store.append, name, other), "a different node of the same id")
    _demand_nodes(await store.load(name), node)


async def _append_to_a_new_conversation(stores: _OpenedStores) -> None:
    store, name, node = stores.open(), _id(), _node()
    await store.append(name, node)
    loaded = await store.load(name)
    _demand_nodes(loaded, node)
    _demand_head(loaded, node, "after one append")
    demand(len(await _ours(store, [name])) == 1, "the conversation is not listed")


async def _append_a_node_to_two_conversations(stores: _OpenedStores) -> None:
    store, first, second, node = stores.open(), _id(), _id(), _node()
    other = node.model_copy(update={"user_query": "Goodbye"})
    await _grow(store, first, node)
    await _grow(store, second, other, _node(other))
    _demand_nodes(await store.load(first), node)
    demand(len((await store.load(second)).nodes) == 2, "the second conversation lacks nodes")


async def _append_many_nodes_at_once(stores: _OpenedStores) -> None:
    store, name, root = stores.open(), _id(), _node()
    children = [_node(root, query=str(number)) for number in range(20)]
    await _grow(store, name, root)
    async with anyio.create_task_group() as tasks:
        for child in children:
            tasks.start_soon(store.append, name, child)
    loaded = await store.load(name)
    stored = {node.id for node in loaded.nodes}
    demand(stored == {root.id, *(child.id for child in children)}, f"of 21 nodes, {len(stored)} came back")
    demand(_head(loaded) == loaded.nodes[-1].id, "the head is not the node that was stored last")


async def _append_two_nodes(stores: _OpenedStores) -> None:
    store, name, first = stores.open(), _id(), _node()
    await _grow(store, name, first)
    _demand_head(await store.load(name), first, "after one append")
    second = _node(first)
    await store.append(name, second)
    _demand_head(await store.load(name), second, "after two appends")


async def _append_a_failed_node(stores: _OpenedStores) -> None:
    store, name, begun_badly = stores.open(), _id(), _node(failed=True)
    await _grow(store, name, begun_badly)
    _demand_head(await store.load(name), None, "after a failed node alone")
    first = _node()
    failed = _node(first, failed=True)
    await _grow(store, name, first, failed)
    loaded = await store.load(name)
    _demand_nodes(loaded, begun_badly, first, failed)
    _demand_head(loaded, first, "after a failed node")


async def _check_out_nodes(stores: _OpenedStores) -> None:
    store, name, root = stores.open(), _id(), _node()
    second, failed = _node(root), _node(root, failed=True)
    await _grow(store, name, root, second, failed)
    for node in (root, failed, second):
        await store.checkout(name, node.id)
        loaded = await store.load(name)
        _demand_head(loaded, node, "after a checkout")
        _demand_nodes(loaded, root, second, failed)


async def _check_out_and_append(stores: _OpenedStores) -> None:
    store, name, root = stores.open(), _id(), _node()
    second, branch = _node(root), _node(root)
    await _grow(store, name, root, second)
    await store.checkout(name, root.id)
    await store.append(name, branch)
    loaded = await store.load(name)
    _demand_head(loaded, branch, "after an append that followed a checkout")
    _demand_nodes(loaded, root, second, branch)


async def _check_out_unknown_ids(stores: _OpenedStores) -> None:
    store, name, other, node = stores.open(), _id(), _id(), _node()
    await _grow(store, name, node)
    foreign = _node()
    await _grow(store, other, foreign)
    await _demand_error(ValueError, partial(store.checkout, name, foreign.id), "a node of another conversation")
    await _demand_error(UnknownConversationError, partial(store.checkout, _id(), node.id), "an unknown conversation")
    _demand_head(await store.load(name), node, "after a refused checkout")


async def _change_a_loaded_conversation(stores: _OpenedStores) -> None:
    store, name, root = stores.open(), _id(), _node()
    second = _node(root)
    await _grow(store, name, root, second)
    loaded = await store.load(name)
    loaded.append(_node(second))
    loaded.checkout(root.id)
    again = await store.load(name)
    _demand_nodes(again, root, second)
    _demand_head(again, second, "after a change of a loaded conversation")


async def _load_an_unknown_id(stores: _OpenedStores) -> None:
    store = stores.open()
    await _demand_error(UnknownConversationError, partial(store.load, _id()), "an unknown conversation")


async def _list_after_changes(stores: _OpenedStores) -> None:
    store = stores.open()
    ids = await _created(store, 4)
    await store.append(ids[2], _node())
    await store.rename(ids[3], "Renamed")
    listed = [item.id for item in await _ours(store, ids)]
    demand(listed == ids, f"they should be {ids} and are {listed}")


async def _list_in_pages(stores: _OpenedStores) -> None:
    store = stores.open()
    ids = await _created(store, 5)
    for limit in (1, 2, 5, 6):
        listed = [item.id for item in await _ours(store, ids, limit=limit)]
        demand(listed == ids, f"in pages of {limit} they should be {ids} and are {listed}")
    every, cursor = list[str](), None
    while True:
        page = await store.list(limit=1000, before=cursor)
        every += [item.id for item in page.items]
        cursor = page.next
        if cursor is None:
            break
    demand(len(every) == len(set(every)), "a conversation is on two pages")
    last = await store.list(limit=len(every))
    demand(last.next is None, "a page that has every conversation has a next")


async def _list_while_conversations_change(stores: _OpenedStores) -> None:
    store = stores.open()
    ids = await _created(store, 6)
    first = await store.list(limit=2)
    demand([item.id for item in first.items] == ids[:2], "the first page does not have the newest conversations")
    new = await _created(store, 2)
    await store.append(ids[5], _node())
    await store.append(ids[0], _node())
    await store.delete(ids[1])  # the cursor's own conversation
    await store.delete(ids[3])
    rest: list[str] = []
    cursor = first.next
    while cursor is not None and not set(ids[2:]) - {ids[3]} <= set(rest):
        page = await store.list(limit=2, before=cursor)
        rest += [item.id for item in page.items]
        cursor = page.next
    expected = [ids[2], ids[4], ids[5]]
    demand(
        [item for item in rest if item in (*ids, *new)] == expected, f"after the first page come {rest}, not {expected}"
    )


async def _list_with_wrong_arguments(stores: _OpenedStores) -> None:
    store = stores.open()
    await store.create(_id())
    for limit in (0, -1):
        await _demand_error(ValueError, partial(store.list, limit=limit), f"limit={limit}")
    await _demand_error(ValueError, partial(store.list, before="not a cursor"), "before='not a cursor'")


async def _list_one(stores: _OpenedStores) -> None:
    store, name, plain = stores.open(), _id(), _id()
    metadata: dict[str, JsonValue] = {"user": "é\N{GRINNING FACE}", "tags": ["a", None, 1.5], "nested": {"b": True}}
    await store.create(name, title="Robots", metadata=metadata)
    await store.create(plain)
    without, described = await _ours(store, [name, plain])
    demand(described.title == "Robots", f"the title is {described.title!r}")
    demand(described.metadata == metadata, f"the metadata is {described.metadata!r}")
    demand(
        (without.title, without.metadata) == (None, {}), "a conversation without title and metadata is listed with some"
    )
    for moment in (described.created, described.updated):
        zero = moment.utcoffset()
        demand(zero is not None and not zero, f"{moment!r} is not in UTC")
    demand(described.created <= without.created, "the conversation that was created later has an earlier time")
    await store.append(name, _node())
    (later,) = await _ours(store, [name])
    demand(later.created == described.created, "an append changed the time of creation")
    demand(later.updated >= described.updated, "an append moved the time of the last change back")


async def _rename_one(stores: _OpenedStores) -> None:
    store, name, node = stores.open(), _id(), _node()
    await store.create(name, title="Before")
    await store.append(name, node)
    for title in ("After", "", None):
        await store.rename(name, title)
        (listed,) = await _ours(store, [name])
        demand(listed.title == title, f"the title should be {title!r} and is {listed.title!r}")
    _demand_nodes(await store.load(name), node)


async def _rename_an_unknown_id(stores: _OpenedStores) -> None:
    store = stores.open()
    await _demand_error(UnknownConversationError, partial(store.rename, _id(), "Robots"), "an unknown conversation")


async def _delete_one(stores: _OpenedStores) -> None:
    store, name, other, node = stores.open(), _id(), _id(), _node()
    await _grow(store, name, node)
    await _grow(store, other, node)
    await store.delete(name)
    await _demand_error(UnknownConversationError, partial(store.load, name), "a deleted conversation")
    demand([item.id for item in await _ours(store, [name, other])] == [other], "the list is wrong after delete")
    _demand_nodes(await store.load(other), node)


async def _delete_unknown_ids(stores: _OpenedStores) -> None:
    store, name = stores.open(), _id()
    await store.delete(_id())
    await store.create(name)
    await store.delete(name)
    await store.delete(name)


async def _append_to_a_deleted_conversation(stores: _OpenedStores) -> None:
    store, name, node = stores.open(), _id(), _node()
    await _grow(store, name, node)
    await store.delete(name)
    for late in (node, _node(node), _node()):
        await _demand_error(UnknownConversationError, partial(store.append, name, late), "a node after delete")
    await _demand_error(UnknownConversationError, partial(store.load, name), "load after a refused node")
    await store.create(name)
    _demand_nodes(await store.load(name))
    await store.append(name, node)
    _demand_nodes(await store.load(name), node)


async def _close_twice(stores: _OpenedStores) -> None:
    unused = stores.open()
    await unused.aclose()
    await unused.aclose()
    async with stores.open() as store:
        await store.create(_id())
        await store.aclose()
    await store.aclose()


async def _reopen_and_load(stores: _OpenedStores) -> None:
    name, node = _id(), _rich_node()
    async with stores.open() as store:
        await store.append(name, node)
    _demand_nodes(await stores.open().load(name), node)


async def _reopen_after_a_checkout(stores: _OpenedStores) -> None:
    name, root = _id(), _node()
    async with stores.open() as store:
        await _grow(store, name, root, _node(root))
        await store.checkout(name, root.id)
    _demand_head(await stores.open().load(name), root, "in a store that was opened later")


async def _reopen_and_list(stores: _OpenedStores) -> None:
    async with stores.open() as store:
        ids = await _created(store, 3)
        await store.rename(ids[2], "Robots")
        first = await store.list(limit=1)
    later = stores.open()
    listed = await _ours(later, ids)
    demand([item.id for item in listed] == ids, "the list is not the same")
    demand(listed[2].title == "Robots", f"the title is {listed[2].title!r}")
    second = await later.list(limit=1, before=first.next)
    demand([item.id for item in second.items] == ids[1:2], "the cursor of an earlier store leads elsewhere")
    new = _id()
    await later.create(new)
    listed = await _ours(later, [new, *ids], limit=1)
    demand([item.id for item in listed] == [new, *ids], "a conversation of the later store breaks the list")


async def _reopen_after_delete(stores: _OpenedStores) -> None:
    name, node = _id(), _node()
    async with stores.open() as store:
        await _grow(store, name, node)
        await store.delete(name)
    later = stores.open()
    await _demand_error(UnknownConversationError, partial(later.append, name, node), "a node after delete")


async def _use_two_stores_at_once(stores: _OpenedStores) -> None:
    one, two, name, root = stores.open(), stores.open(), _id(), _node()
    await _grow(one, name, root)
    second = _node(root)
    await two.append(name, second)
    await two.append(name, root)
    loaded = await one.load(name)
    _demand_nodes(loaded, root, second)
    _demand_head(loaded, second, "after the other store's append")
    await one.checkout(name, root.id)
    _demand_head(await two.load(name), root, "after the other store's checkout")


_CHECKS: Mapping[StorePromise, _PromiseCheck] = {
    "create.empty": _create_one,
    "create.again": _create_one_twice,
    "append.order": _append_a_tree_of_nodes,
    "append.exact": _append_a_node_with_every_field,
    "append.again": _append_nodes_again,
    "append.conflict": _append_a_different_node_of_the_same_id,
    "append.creates": _append_to_a_new_conversation,
    "append.apart": _append_a_node_to_two_conversations,
    "append.at_once": _append_many_nodes_at_once,
    "head.last": _append_two_nodes,
    "head.failed": _append_a_failed_node,
    "head.checkout": _check_out_nodes,
    "head.branch": _check_out_and_append,
    "head.unknown": _check_out_unknown_ids,
    "load.apart": _change_a_loaded_conversation,
    "load.unknown": _load_an_unknown_id,
    "list.newest": _list_after_changes,
    "list.pages": _list_in_pages,
    "list.moving": _list_while_conversations_change,
    "list.limits": _list_with_wrong_arguments,
    "list.described": _list_one,
    "rename.title": _rename_one,
    "rename.unknown": _rename_an_unknown_id,
    "delete.gone": _delete_one,
    "delete.again": _delete_unknown_ids,
    "delete.final": _append_to_a_deleted_conversation,
    "close.again": _close_twice,
    "durable.nodes": _reopen_and_load,
    "durable.head": _reopen_after_a_checkout,
    "durable.list": _reopen_and_list,
    "durable.deleted": _reopen_after_delete,
    "durable.shared": _use_two_stores_at_once,
}
