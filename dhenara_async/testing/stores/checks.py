"""One test for each promise of a store."""

from collections.abc import Mapping
from functools import partial

import anyio
from pydantic import JsonValue

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import UnknownConversationError
from dhenara_async.stores import StoreWithDescriptions, StoreWithInstructions, StoreWithOutlines
from dhenara_async.stores.outline import outline_of
from dhenara_async.testing.promises import demand
from dhenara_async.testing.stores.bench import (
    OpenedStores,
    create_several,
    demand_error,
    demand_head,
    demand_nodes,
    grow,
    head_id,
    new_id,
    new_node,
    own_conversations,
    rich_node,
)
from dhenara_async.testing.stores.promises import StorePromise
from dhenara_async.testing.stores.result_checks import RESULT_CHECKS
from dhenara_async.testing.stores.turn_checks import TURN_CHECKS, PromiseCheck


async def _create_one(stores: OpenedStores) -> None:
    store, name = stores.open(), new_id()
    await store.create(name)
    loaded = await store.load(name)
    demand(loaded.id == name, f"the loaded conversation has the id {loaded.id!r} and not {name!r}")
    demand_nodes(loaded)
    demand_head(loaded, None, "without nodes")


async def _create_one_twice(stores: OpenedStores) -> None:
    store, name, node = stores.open(), new_id(), new_node()
    await store.create(name, title="First")
    await store.append(name, node)
    await store.create(name, title="Second", metadata={"a": 1})
    loaded = await store.load(name)
    demand_nodes(loaded, node)
    demand_head(loaded, node, "after the second create")
    listed = await own_conversations(store, [name])
    demand([item.title for item in listed] == ["First"], "the second create changed the title, or the list")
    demand(all(not item.metadata for item in listed), "the second create changed the metadata")


async def _create_some_with_instructions(stores: OpenedStores) -> None:
    store = stores.open()
    if not isinstance(store, StoreWithInstructions):
        return
    plain = new_id()
    await store.create(plain)
    demand((await store.load(plain)).instructions is None, "a conversation without instructions came back with some")
    for instructions in ((), ("Be exact.", "Be “kind”.\n\u0000 😀")):
        name = new_id()
        await store.create_instructed(name, instructions, title="Instructed")
        await store.create_instructed(name, ["Others"], title="Others")
        loaded = await store.load(name)
        same = loaded.instructions == instructions
        demand(same, f"the loaded instructions are {loaded.instructions!r} and not {instructions!r}")
        demand([item.title for item in await own_conversations(store, [name])] == ["Instructed"], "the title is lost")


async def _append_a_tree_of_nodes(stores: OpenedStores) -> None:
    store, name, root = stores.open(), new_id(), new_node(query="0")
    children = [new_node(root, query=str(number)) for number in range(5)]
    grandchild = new_node(children[0])
    await grow(store, name, root, *children, grandchild)
    demand_nodes(await store.load(name), root, *children, grandchild)


async def _append_a_node_with_every_field(stores: OpenedStores) -> None:
    store, name, first = stores.open(), new_id(), rich_node()
    second = rich_node(first)
    await grow(store, name, first, second)
    for stored, node in zip((await store.load(name)).nodes, (first, second), strict=True):
        demand(stored == node, f"the loaded node is different: {stored!r} for {node!r}")
        same = stored.model_dump_json() == node.model_dump_json()
        demand(
            same,
            "the JSON of the loaded node is different: store model_dump_json() as text, which no database reorders",
        )


async def _append_nodes_again(stores: OpenedStores) -> None:
    store, name, first = stores.open(), new_id(), rich_node()
    second = new_node(first)
    await grow(store, name, first, second)
    await store.append(name, first)
    await store.append(name, ConversationNode.model_validate_json(second.model_dump_json()))
    await store.append(name, first)
    loaded = await store.load(name)
    demand_nodes(loaded, first, second)
    demand_head(loaded, second, "after the first node was appended again")


async def _append_a_different_node_of_the_same_id(stores: OpenedStores) -> None:
    store, name, node = stores.open(), new_id(), new_node()
    await grow(store, name, node)
    other = node.model_copy(update={"user_query": "Goodbye"})
    await demand_error(ValueError, partial(store.append, name, other), "a different node of the same id")
    demand_nodes(await store.load(name), node)


async def _append_to_a_new_conversation(stores: OpenedStores) -> None:
    store, name, node = stores.open(), new_id(), new_node()
    await store.append(name, node)
    loaded = await store.load(name)
    demand_nodes(loaded, node)
    demand_head(loaded, node, "after one append")
    demand(len(await own_conversations(store, [name])) == 1, "the conversation is not listed")


async def _append_a_node_to_two_conversations(stores: OpenedStores) -> None:
    store, first, second, node = stores.open(), new_id(), new_id(), new_node()
    other = node.model_copy(update={"user_query": "Goodbye"})
    await grow(store, first, node)
    await grow(store, second, other, new_node(other))
    demand_nodes(await store.load(first), node)
    demand(len((await store.load(second)).nodes) == 2, "the second conversation lacks nodes")


async def _append_many_nodes_at_once(stores: OpenedStores) -> None:
    store, name, root = stores.open(), new_id(), new_node()
    children = [new_node(root, query=str(number)) for number in range(20)]
    await grow(store, name, root)
    async with anyio.create_task_group() as tasks:
        for child in children:
            tasks.start_soon(store.append, name, child)
    loaded = await store.load(name)
    stored = {node.id for node in loaded.nodes}
    demand(stored == {root.id, *(child.id for child in children)}, f"of 21 nodes, {len(stored)} came back")
    demand(head_id(loaded) == loaded.nodes[-1].id, "the head is not the node that was stored last")


async def _append_two_nodes(stores: OpenedStores) -> None:
    store, name, first = stores.open(), new_id(), new_node()
    await grow(store, name, first)
    demand_head(await store.load(name), first, "after one append")
    second = new_node(first)
    await store.append(name, second)
    demand_head(await store.load(name), second, "after two appends")


async def _append_a_failed_node(stores: OpenedStores) -> None:
    store, name, begun_badly = stores.open(), new_id(), new_node(failed=True)
    await grow(store, name, begun_badly)
    demand_head(await store.load(name), None, "after a failed node alone")
    first = new_node()
    failed = new_node(first, failed=True)
    await grow(store, name, first, failed)
    loaded = await store.load(name)
    demand_nodes(loaded, begun_badly, first, failed)
    demand_head(loaded, first, "after a failed node")


async def _check_out_nodes(stores: OpenedStores) -> None:
    store, name, root = stores.open(), new_id(), new_node()
    second, failed = new_node(root), new_node(root, failed=True)
    await grow(store, name, root, second, failed)
    for node in (root, failed, second):
        await store.checkout(name, node.id)
        loaded = await store.load(name)
        demand_head(loaded, node, "after a checkout")
        demand_nodes(loaded, root, second, failed)


async def _check_out_and_append(stores: OpenedStores) -> None:
    store, name, root = stores.open(), new_id(), new_node()
    second, branch = new_node(root), new_node(root)
    await grow(store, name, root, second)
    await store.checkout(name, root.id)
    await store.append(name, branch)
    loaded = await store.load(name)
    demand_head(loaded, branch, "after an append that followed a checkout")
    demand_nodes(loaded, root, second, branch)


async def _check_out_unknown_ids(stores: OpenedStores) -> None:
    store, name, other, node = stores.open(), new_id(), new_id(), new_node()
    await grow(store, name, node)
    foreign = new_node()
    await grow(store, other, foreign)
    await demand_error(ValueError, partial(store.checkout, name, foreign.id), "a node of another conversation")
    await demand_error(UnknownConversationError, partial(store.checkout, new_id(), node.id), "an unknown conversation")
    demand_head(await store.load(name), node, "after a refused checkout")


async def _change_a_loaded_conversation(stores: OpenedStores) -> None:
    store, name, root = stores.open(), new_id(), new_node()
    second = new_node(root)
    await grow(store, name, root, second)
    loaded = await store.load(name)
    loaded.append(new_node(second))
    loaded.checkout(root.id)
    again = await store.load(name)
    demand_nodes(again, root, second)
    demand_head(again, second, "after a change of a loaded conversation")


async def _load_an_unknown_id(stores: OpenedStores) -> None:
    store = stores.open()
    await demand_error(UnknownConversationError, partial(store.load, new_id()), "an unknown conversation")


async def _outline_one(stores: OpenedStores) -> None:
    store, name = stores.open(), new_id()
    if not isinstance(store, StoreWithOutlines):
        return
    first = rich_node()
    long = new_node(first, query="word \n" * 500)
    failed = new_node(first, failed=True)
    await grow(store, name, first, long, failed)
    await grow(store, new_id(), new_node())
    told = await store.outline(name)
    demand(told.nodes == tuple(map(outline_of, (first, long, failed))), f"the outlines are wrong: {told.nodes!r}")
    demand(told.head == long.id, "the head of the outline is another one")
    newer = await store.outline(name, after=first.id)
    demand([node.id for node in newer.nodes] == [long.id, failed.id], "there are other nodes behind the first one")
    demand((await store.outline(name, after=failed.id)).nodes == (), "there are nodes behind the last one")
    await demand_error(ValueError, partial(store.outline, name, after=new_id()), "an unknown node")
    await demand_error(UnknownConversationError, partial(store.outline, new_id()), "an unknown conversation")


async def _list_after_changes(stores: OpenedStores) -> None:
    store = stores.open()
    ids = await create_several(store, 4)
    await store.append(ids[2], new_node())
    await store.rename(ids[3], "Renamed")
    listed = [item.id for item in await own_conversations(store, ids)]
    demand(listed == ids, f"they should be {ids} and are {listed}")


async def _list_in_pages(stores: OpenedStores) -> None:
    store = stores.open()
    ids = await create_several(store, 5)
    for limit in (1, 2, 5, 6):
        listed = [item.id for item in await own_conversations(store, ids, limit=limit)]
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


async def _list_while_conversations_change(stores: OpenedStores) -> None:
    store = stores.open()
    ids = await create_several(store, 6)
    first = await store.list(limit=2)
    demand([item.id for item in first.items] == ids[:2], "the first page does not have the newest conversations")
    new = await create_several(store, 2)
    await store.append(ids[5], new_node())
    await store.append(ids[0], new_node())
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


async def _list_with_wrong_arguments(stores: OpenedStores) -> None:
    store = stores.open()
    await store.create(new_id())
    for limit in (0, -1):
        await demand_error(ValueError, partial(store.list, limit=limit), f"limit={limit}")
    await demand_error(ValueError, partial(store.list, before="not a cursor"), "before='not a cursor'")


async def _list_one(stores: OpenedStores) -> None:
    store, name, plain = stores.open(), new_id(), new_id()
    metadata: dict[str, JsonValue] = {"user": "é\N{GRINNING FACE}", "tags": ["a", None, 1.5], "nested": {"b": True}}
    await store.create(name, title="Robots", metadata=metadata)
    await store.create(plain)
    without, described = await own_conversations(store, [name, plain])
    demand(described.title == "Robots", f"the title is {described.title!r}")
    demand(described.metadata == metadata, f"the metadata is {described.metadata!r}")
    demand(
        (without.title, without.metadata) == (None, {}), "a conversation without title and metadata is listed with some"
    )
    for moment in (described.created, described.updated):
        zero = moment.utcoffset()
        demand(zero is not None and not zero, f"{moment!r} is not in UTC")
    demand(described.created <= without.created, "the conversation that was created later has an earlier time")
    await store.append(name, new_node())
    (later,) = await own_conversations(store, [name])
    demand(later.created == described.created, "an append changed the time of creation")
    demand(later.updated >= described.updated, "an append moved the time of the last change back")
    if isinstance(store, StoreWithDescriptions):
        demand(await store.describe(name) == later, "describe() does not return what the list has")
        await demand_error(UnknownConversationError, partial(store.describe, new_id()), "an unknown conversation")


async def _rename_one(stores: OpenedStores) -> None:
    store, name, node = stores.open(), new_id(), new_node()
    await store.create(name, title="Before")
    await store.append(name, node)
    for title in ("After", "", None):
        await store.rename(name, title)
        (listed,) = await own_conversations(store, [name])
        demand(listed.title == title, f"the title should be {title!r} and is {listed.title!r}")
    demand_nodes(await store.load(name), node)


async def _rename_an_unknown_id(stores: OpenedStores) -> None:
    store = stores.open()
    await demand_error(UnknownConversationError, partial(store.rename, new_id(), "Robots"), "an unknown conversation")


async def _delete_one(stores: OpenedStores) -> None:
    store, name, other, node = stores.open(), new_id(), new_id(), new_node()
    await grow(store, name, node)
    await grow(store, other, node)
    await store.delete(name)
    await demand_error(UnknownConversationError, partial(store.load, name), "a deleted conversation")
    demand(
        [item.id for item in await own_conversations(store, [name, other])] == [other], "the list is wrong after delete"
    )
    demand_nodes(await store.load(other), node)


async def _delete_unknown_ids(stores: OpenedStores) -> None:
    store, name = stores.open(), new_id()
    await store.delete(new_id())
    await store.create(name)
    await store.delete(name)
    await store.delete(name)


async def _append_to_a_deleted_conversation(stores: OpenedStores) -> None:
    store, name, node = stores.open(), new_id(), new_node()
    await grow(store, name, node)
    await store.delete(name)
    for late in (node, new_node(node), new_node()):
        await demand_error(UnknownConversationError, partial(store.append, name, late), "a node after delete")
    await demand_error(UnknownConversationError, partial(store.load, name), "load after a refused node")
    await store.create(name)
    demand_nodes(await store.load(name))
    await store.append(name, node)
    demand_nodes(await store.load(name), node)


async def _close_twice(stores: OpenedStores) -> None:
    unused = stores.open()
    await unused.aclose()
    await unused.aclose()
    async with stores.open() as store:
        await store.create(new_id())
        await store.aclose()
    await store.aclose()


async def _reopen_and_load(stores: OpenedStores) -> None:
    name, node = new_id(), rich_node()
    async with stores.open() as store:
        await store.append(name, node)
    demand_nodes(await stores.open().load(name), node)


async def _reopen_after_a_checkout(stores: OpenedStores) -> None:
    name, root = new_id(), new_node()
    async with stores.open() as store:
        await grow(store, name, root, new_node(root))
        await store.checkout(name, root.id)
    demand_head(await stores.open().load(name), root, "in a store that was opened later")


async def _reopen_and_list(stores: OpenedStores) -> None:
    async with stores.open() as store:
        ids = await create_several(store, 3)
        await store.rename(ids[2], "Robots")
        first = await store.list(limit=1)
    later = stores.open()
    listed = await own_conversations(later, ids)
    demand([item.id for item in listed] == ids, "the list is not the same")
    demand(listed[2].title == "Robots", f"the title is {listed[2].title!r}")
    second = await later.list(limit=1, before=first.next)
    demand([item.id for item in second.items] == ids[1:2], "the cursor of an earlier store leads elsewhere")
    new = new_id()
    await later.create(new)
    listed = await own_conversations(later, [new, *ids], limit=1)
    demand([item.id for item in listed] == [new, *ids], "a conversation of the later store breaks the list")


async def _reopen_after_delete(stores: OpenedStores) -> None:
    name, node = new_id(), new_node()
    async with stores.open() as store:
        await grow(store, name, node)
        await store.delete(name)
    later = stores.open()
    await demand_error(UnknownConversationError, partial(later.append, name, node), "a node after delete")


async def _use_two_stores_at_once(stores: OpenedStores) -> None:
    one, two, name, root = stores.open(), stores.open(), new_id(), new_node()
    await grow(one, name, root)
    second = new_node(root)
    await two.append(name, second)
    await two.append(name, root)
    loaded = await one.load(name)
    demand_nodes(loaded, root, second)
    demand_head(loaded, second, "after the other store's append")
    await one.checkout(name, root.id)
    demand_head(await two.load(name), root, "after the other store's checkout")


CHECKS: Mapping[StorePromise, PromiseCheck] = {
    "create.empty": _create_one,
    "create.again": _create_one_twice,
    "create.instructed": _create_some_with_instructions,
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
    "load.outlined": _outline_one,
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
    **TURN_CHECKS,
    **RESULT_CHECKS,
    "close.again": _close_twice,
    "durable.nodes": _reopen_and_load,
    "durable.head": _reopen_after_a_checkout,
    "durable.list": _reopen_and_list,
    "durable.deleted": _reopen_after_delete,
    "durable.shared": _use_two_stores_at_once,
}
"""The test of each promise."""
