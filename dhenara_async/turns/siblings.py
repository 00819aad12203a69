"""``SiblingTurns``: the turns of a fan-out, one for each target, each of which leaves a node."""

from collections.abc import Callable, Sequence

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.fanout.values import Outcome
from dhenara_async.messages.attachments import Attached
from dhenara_async.plans.targets import Target
from dhenara_async.stores import ConversationStore
from dhenara_async.stores.signing import SigningKeys
from dhenara_async.turns.keeping import described, keep
from dhenara_async.turns.turn import Turn


class SiblingTurns:
    """The sibling turns of a fan-out; see ``Siblings``.

    Args:
        store: Where they are kept.
        conversation: Where they belong.
        drafts: One for each target.
        turn: Makes the turn of a draft by a target, streamed or not.
        unread: The files that go with the question, where some have to be read first; None where none has.
        signing: The keys that nodes are signed with; None = they are not.
    """

    def __init__(
        self,
        store: ConversationStore,
        conversation: Conversation,
        drafts: list[ConversationNode],
        turn: Callable[[ConversationNode, Target, bool], Turn],
        *,
        unread: Attached | None,
        signing: SigningKeys | None,
    ) -> None:
        self._store = store
        self._conversation = conversation
        self._drafts: list[ConversationNode] = drafts
        self._turn = turn
        self._unread = unread
        self._signing = signing
        self._turns: dict[int, Turn] = {}

    async def prepare(self) -> None:
        """See ``Siblings``."""
        if self._unread is not None:
            files = await self._unread.read_in_thread()
            self._drafts = [draft.changed(attached_files=files) for draft in self._drafts]

    def key(self, item: Target) -> None:
        """See ``Opener``."""

    def open(self, item: Target, *, index: int, stream: bool) -> Turn:
        """See ``Opener``."""
        turn = self._turns[index] = self._turn(self._drafts[index], item, stream)
        return turn

    async def settle(self, outcomes: Sequence[Outcome]) -> tuple[ConversationNode, ...]:
        """See ``Siblings``."""
        nodes: list[ConversationNode] = []
        made_up: list[ConversationNode] = []
        for outcome, draft in zip(outcomes, self._drafts, strict=True):
            turn = self._turns.get(outcome.index)
            node = turn.node if turn is not None and turn.over else None
            if node is None:
                error = "it was not asked" if outcome.error is None else described(outcome.error)
                node = draft.changed(status="failed", error=error, attempts=0)
                node = node if self._signing is None else self._signing.signed(node)
                self._conversation.append(node)
                made_up.append(node)
            nodes.append(node)
        head = self._conversation.head
        if head is not None and any(node.id == head.id for node in nodes):
            self._conversation.checkout(next(node.id for node in nodes if node.status != "failed"))
        for node in made_up:
            await keep(self._store, self._conversation, node)
        return tuple(nodes)
