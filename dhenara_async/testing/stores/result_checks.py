"""One test for each promise of a store that keeps results of tool calls (``StoreWithToolResults``)."""

from collections.abc import Mapping
from functools import partial

from dhenara_async.errors import UnknownConversationError
from dhenara_async.messages.messages import FilePart, JsonPart, TextPart, ToolResultPart
from dhenara_async.stores import StoreWithToolResults
from dhenara_async.testing.promises import demand
from dhenara_async.testing.stores.bench import OpenedStores, demand_error, new_id, new_node
from dhenara_async.testing.stores.promises import StorePromise
from dhenara_async.testing.stores.turn_checks import PromiseCheck

_RESULT = ToolResultPart(
    call_id="call \0",
    name="paint",
    content=(
        TextPart(text="a \u2028 \N{GRINNING FACE}"),
        JsonPart(value={"z": None, "a": [2**53 + 1, 1.0]}),
        FilePart(media_type="application/octet-stream", data=b"\x00\xff"),
    ),
)
_OTHER = ToolResultPart(call_id="", is_error=True)


async def _keep_results_of_two_calls(stores: OpenedStores) -> None:
    store, name, node = stores.open(), new_id(), new_node()
    if not isinstance(store, StoreWithToolResults):
        return
    await store.create(name)
    await store.append(name, node)
    demand(await store.tool_results(name, node.id) == {}, "there are results before any was kept")
    await store.keep_tool_result(name, node.id, 1, _RESULT)
    await store.keep_tool_result(name, node.id, 0, _OTHER)
    await store.keep_tool_result(name, node.id, 1, _OTHER)
    kept = await store.tool_results(name, node.id)
    demand(dict(kept) == {0: _OTHER, 1: _RESULT}, f"the results came back as {dict(kept)!r}")
    demand(await store.tool_results(name, new_id()) == {}, "another node has the results, too")


async def _delete_a_conversation_with_results(stores: OpenedStores) -> None:
    store, name, node = stores.open(), new_id(), new_node()
    if not isinstance(store, StoreWithToolResults):
        return
    await store.create(name)
    await store.append(name, node)
    await store.keep_tool_result(name, node.id, 0, _RESULT)
    await store.delete(name)
    demand(await store.tool_results(name, node.id) == {}, "a deleted conversation has results")
    keep = partial(store.keep_tool_result, name, node.id, 0, _RESULT)
    await demand_error(UnknownConversationError, keep, "a result in a deleted conversation")


RESULT_CHECKS: Mapping[StorePromise, PromiseCheck] = {
    "results.first": _keep_results_of_two_calls,
    "results.deleted": _delete_a_conversation_with_results,
}
"""The test of each promise; a store that keeps no results passes."""
