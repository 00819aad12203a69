"""``Outlines``: the trees of conversations as the page shows them, kept so that only new turns are read.

Nodes never change and are never taken out, so what was read once stays true for as long as the conversation exists. A
page asks for its tree after every turn.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from dhenara_async.frozen import ShortRepr
from dhenara_async.manager import ConversationManager
from dhenara_async.stores import StoredConversation, StoreWithOutlines
from dhenara_async.stores.outline import ConversationOutline, NodeOutline, outline_of
from dhenara_async.web.chat.history import Json
from dhenara_async.web.chat.marks import is_mark
from dhenara_async.web.playground.node_json import DELETED

_KEPT: Final = 50_000
"""Turns that are kept, of all conversations together."""


@dataclass(frozen=True, slots=True, repr=False)
class ShownTree(ShortRepr):
    """The tree of a conversation as the page shows it.

    Attributes:
        head: The id of the head; None if there is none.
        turns: The turns by id, in the order in which they were added. Those whose responses were deleted at
            ``/v1/responses`` have the status ``deleted`` and no question; their marks are no turns.
    """

    head: str | None
    turns: dict[str, Json] = field(repr=False)

    def is_deleted(self, node_id: str) -> bool:
        """Whether the response of a turn was deleted."""
        shown = self.turns.get(node_id)
        return shown is not None and shown["status"] == DELETED


@dataclass(slots=True)
class _KeptTree:
    created: datetime
    last: str
    turns: dict[str, Json]


class Outlines:
    """The trees of one app.

    Args:
        shown: Returns a turn as the page shows it.
    """

    def __init__(self, shown: Callable[[NodeOutline], Json]) -> None:
        self._shown = shown
        self._kept = OrderedDict[tuple[str | None, str], _KeptTree]()  # the least lately read one first

    async def of(self, manager: ConversationManager, owner: str | None, described: StoredConversation) -> ShownTree:
        """Return the tree of a conversation as it is now.

        Args:
            manager: The manager of the owner.
            owner: The owner.
            described: The conversation.

        Raises:
            UnknownConversationError: The store does not have it any more.
        """
        key = owner, described.id
        kept = self._kept.get(key)
        if kept is not None and kept.created != described.created:  # deleted, and made again
            kept = None
        after = None if kept is None else kept.last
        try:
            told = await _outline(manager, described.id, after)
        except ValueError:  # deleted in between, and made again
            kept, told = None, await _outline(manager, described.id, None)
        turns = {} if kept is None else kept.turns
        if told.nodes:
            turns = self._with(turns, told.nodes)
            self._kept[key] = _KeptTree(described.created, told.nodes[-1].id, turns)
            while len(self._kept) > 1 and sum(len(each.turns) for each in self._kept.values()) > _KEPT:
                self._kept.popitem(last=False)
        if key in self._kept:
            self._kept.move_to_end(key)
        return ShownTree(told.head, turns)

    def _with(self, turns: Mapping[str, Json], nodes: Iterable[NodeOutline]) -> dict[str, Json]:
        """Return turns with further ones."""
        more = dict(turns)
        for node in nodes:
            if not is_mark(node):
                more[node.id] = self._shown(node)
            elif node.parent_id in more:
                more[node.parent_id] = {**more[node.parent_id], "status": DELETED, "question": ""}
        return more


async def _outline(manager: ConversationManager, chat_id: str, after: str | None) -> ConversationOutline:
    """Return the outline behind a node; of a store that gives none, of all nodes."""
    store = manager.store
    if isinstance(store, StoreWithOutlines):
        return await store.outline(chat_id, after=after)
    whole = await manager.load_all(await manager.open(chat_id))
    return ConversationOutline(tuple(map(outline_of, whole.nodes)), None if whole.head is None else whole.head.id)
