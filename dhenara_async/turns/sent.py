"""``SentTurn``: the answer to a conversation that a client sends whole, as a turn."""

from collections.abc import Callable
from typing import Protocol

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.stores import ConversationStore
from dhenara_async.stores.signing import SigningKeys
from dhenara_async.turns.keeping import counted
from dhenara_async.turns.opener import TurnOpener
from dhenara_async.turns.turn import Reserve, Turn


class AnswerKeeper(Protocol):
    """Names the node of an answer, and keeps it."""

    def id_of(self, node: ConversationNode) -> str:
        """Return the id of a node: it may follow from the answer, since nobody can ask for the turn before its end."""
        ...

    async def keep(self, node: ConversationNode) -> None:
        """Keep a node that has its id. It is called under cancellation too, and does not raise for a failing store."""
        ...


class SentTurn(Turn):
    """A turn whose history is the messages of a request; its node gets its id when the answer has ended.

    It has no journal and no readers: its protocol knows no way to ask for an answer again.

    Args:
        conversation: The conversation of its node, for budgets and plans; the node is not added to this object.
        draft: The turn as far as it is known.
        opener: Makes the opener of the stream.
        reserve: Reserves budget before anything is sent; may refuse.
        store: The store of the conversation.
        keeper: Names and keeps the node.
        signing: The keys that sign the node; None = it is not signed.
    """

    def __init__(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        opener: Callable[[ConversationNode], TurnOpener],
        *,
        reserve: Reserve,
        store: ConversationStore,
        keeper: AnswerKeeper,
        signing: SigningKeys | None,
    ) -> None:
        super().__init__(conversation, draft, opener, reserve=reserve, store=store)
        self._keeps = keeper
        self._signing = signing

    async def _leave_node(self, exc: BaseException | None) -> None:
        cost = charge = None
        try:
            cost, charge = await counted(self._stream.partial)
        finally:  # as in other turns, a second cancellation loses the price, not the node
            node = self._finished(exc, cost, charge)
            node = node.changed(id=self._keeps.id_of(node))
            if self._signing is not None:
                node = self._signing.signed(node)
            self._node = node
            self._settle(node)
            await self._keeps.keep(node)
