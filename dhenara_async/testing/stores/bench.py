"""Helpers for the tests of a store: opened stores, nodes to store, and demands on a loaded conversation."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from decimal import Decimal
from uuid import uuid4

import anyio
from pydantic import JsonValue

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.formatter.conversion import ConversionEntry, ConversionReport
from dhenara_async.messages.messages import FilePart, Origin, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.response import ChatResponse, Choice, FinishReason, Usage
from dhenara_async.stores import ConversationStore, StoredConversation
from dhenara_async.testing.promises import demand


class OpenedStores:
    """Opens stores for the test of one promise, and closes them after it."""

    def __init__(self, store_factory: Callable[[], ConversationStore]) -> None:
        self._factory = store_factory
        self._opened: list[ConversationStore] = []

    @property
    def subject(self) -> str:
        """The class of the opened stores; empty before the first."""
        return type(self._opened[0]).__name__ if self._opened else ""

    def open(self) -> ConversationStore:
        """Open another store."""
        store = self._factory()
        self._opened.append(store)
        return store

    async def aclose(self) -> None:
        """Close every opened store."""
        for store in self._opened:
            with anyio.move_on_after(1, shield=True), suppress(Exception):  # only close.again tests closing
                await store.aclose()


def new_id() -> str:
    """Return the id of a new conversation."""
    return f"check_store-{uuid4().hex}"


def new_node(parent: ConversationNode | None = None, *, query: str = "Hello", failed: bool = False) -> ConversationNode:
    """Build a node that follows ``parent``; None = a first one."""
    return ConversationNode(
        parent_id=None if parent is None else parent.id, user_query=query, status="failed" if failed else "complete"
    )


def rich_node(parent: ConversationNode | None = None) -> ConversationNode:
    """Build a node with values that databases often change: key order, NUL, large numbers, zeros, spaces."""
    origin = Origin(provider="anthropic", dialect="anthropic_messages", endpoint="a.test", account="a", model="m")
    state: dict[str, JsonValue] = {"z": 1, "a": [True, None, 1.0, 2**53 + 1, "\0"], "Z": {"é": "e\u0301", "": ""}}
    parts = (
        ReasoningPart(text="Hm.\r\n", provider_state=state, origin=origin),
        TextPart(text=" \u00a0 \N{GRINNING FACE} \0 \u2028 "),
        ToolCallPart(call_id="call_1", name="add", arguments='{"b": 2,  "a": 1.0}'),
    )
    lost = ConversionEntry(
        code="media_dropped", severity="lossy", message=0, kind="file", target=origin, reason="unsupported_by_target"
    )
    report = ConversionReport(entries=(lost, lost.model_copy(update={"severity": "info"})))
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
        asked_at="2026-11-22T10:00:00.000001+00:00",
        first_word_at="2026-11-22T10:00:01+00:00",
        knobs={"top_p": 1.0, "stop": ["é"], "a": {"b": None}},
        loop_id="loop",
        metadata={"z": [1.0, None], "a": "é"},
        conversion=report,
    )


async def grow(store: ConversationStore, conversation_id: str, *nodes: ConversationNode) -> None:
    """Create a conversation, if it does not exist, and append ``nodes``."""
    await store.create(conversation_id)
    for node in nodes:
        await store.append(conversation_id, node)


def head_id(conversation: Conversation) -> str | None:
    """Return the id of the head; None without one."""
    return None if conversation.head is None else conversation.head.id


def demand_nodes(conversation: Conversation, *nodes: ConversationNode) -> None:
    """Demand that the conversation has exactly these nodes, in this order."""
    found = [node.id for node in conversation.nodes]
    demand(found == [node.id for node in nodes], f"{len(nodes)} nodes were stored, and {len(found)} came back: {found}")
    for stored, node in zip(conversation.nodes, nodes, strict=True):
        demand(stored == node, f"a node came back different: {stored!r} for {node!r}")


def demand_head(conversation: Conversation, node: ConversationNode | None, when: str) -> None:
    """Demand that ``node`` is the head; None = that there is none."""
    expected = None if node is None else node.id
    demand(head_id(conversation) == expected, f"{when}, the head should be {expected} and is {head_id(conversation)}")


async def demand_error(kind: type[Exception], call: Callable[[], Awaitable[object]], when: str) -> None:
    """Demand that ``call`` raises an error of this kind."""
    try:
        await call()
    except kind:
        return
    except Exception as exc:
        raise AssertionError(f"{when}: it should be {kind.__name__} and is {type(exc).__name__}: {exc}") from exc
    raise AssertionError(f"{when}: it should be {kind.__name__}, and nothing was raised")


async def own_conversations(
    store: ConversationStore, ids: Collection[str], *, limit: int = 100
) -> list[StoredConversation]:
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


async def create_several(store: ConversationStore, number: int) -> list[str]:
    """Create conversations, and return their ids, newest first."""
    ids = [new_id() for _ in range(number)]
    for conversation_id in ids:
        await store.create(conversation_id)
    return ids[::-1]
