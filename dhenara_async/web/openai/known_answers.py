"""``KnownAnswers``: recognises our own answers in a history that a client sends back, and keeps them as nodes.

Clients of Chat Completions send the whole conversation with each question, and no signatures or encrypted reasoning. An
answer is known by the hash of everything before it and of its own words and calls (``Fingerprint``). Where that is the
hash of a node, the answer of the node takes the place of the message, so that a change of the model is a hop like any
other; where it is not, the message is taken as it is. The ids of conversations and nodes follow from the hash, so that
every process on the same store finds them by one look-up:

- A conversation is named by what was asked first. It holds every way in which its client went on, as branches.
- A node is named by the history up to its answer. If a model gives the same answer to the same history twice, the first
  node stays.
- Single plain answers, such as the titles and tags that a client asks for beside a chat, stand together in one
  conversation. One of them moves into a conversation of its own when a client goes on from it.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError, UnknownConversationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import FilePart, TextPart
from dhenara_async.plans.targets import Target
from dhenara_async.stores import ConversationStore, MemoryStore, StoreWithOwners, StoreWithPaths
from dhenara_async.stores.journal import StoreWithJournal
from dhenara_async.turns.factory import TurnFactory
from dhenara_async.turns.keeping import described, keep_by
from dhenara_async.turns.loading import opened
from dhenara_async.turns.sent import SentTurn
from dhenara_async.web.openai.chat.input import CompletionRequest
from dhenara_async.web.openai.fingerprint import Fingerprint
from dhenara_async.web.openai.sent_history import SOURCE, SentHistory

logger: logging.Logger = logging.getLogger("dhenara_async")

SINGLE_ANSWERS: Final = "Single answers"
"""The title of the conversation of plain answers that nobody has gone on from."""

_MOST: Final = 4_000
_FILE_BYTES: Final = 1 << 18
_READ_SECONDS: Final = 2.0


class KnownAnswers:
    """Finds and keeps the answers of a front.

    Args:
        manager: Its store keeps the answers.
        keep: Whether they are kept there; False = the newest ones are remembered in the memory of this process; None =
            they are kept if the store outlives the process and keeps owners apart.

    Raises:
        ConfigurationError: They are to be kept, but the store does not keep owners apart.
    """

    def __init__(self, manager: ConversationManager, *, keep: bool | None) -> None:
        if keep and not isinstance(manager.store, StoreWithOwners):
            raise ConfigurationError(
                f"keep=True needs a store that keeps owners apart, and {type(manager.store).__name__} has no scoped(): "
                "leave out keep, or pass a MemoryStore or SQLStore to the manager"
            )
        self._manager = manager
        self._keep = keep
        self._remembered: OrderedDict[str, ConversationNode] = OrderedDict()

    async def turn(
        self, asked: CompletionRequest, sent: "SentHistory", target: Target, void: Callable[[], str]
    ) -> SentTurn:
        """Return the turn that answers a request, with our own answers in place of those that are known.

        Args:
            asked: The request.
            sent: Its conversation.
            target: The target.
            void: Returns the words that the client has before the answer, if that was begun again.

        Raises:
            ConfigurationError: The call cannot be made; nothing was sent.
        """
        keeps = self._keeps()
        factory = factory_of(self._manager.scoped(sent.owner) if keeps else self._manager)
        stored = await _stored(factory.store, sent) if keeps and sent.answers else _Stored()
        if stored is None:  # the store failed, and the node could not say what it follows
            keeps, stored = False, _Stored()
        vouched = [node for node in stored.nodes if factory.signing is None or factory.signing.vouch_for(node)]
        found = {node.id: node for node in (*self._recalled(sent), *vouched)}
        known = {at: found[name] for at, name in sent.answers.items() if name in found}
        conversation = stored.conversation or Conversation(sent.conversation_id)
        messages = sent.with_answers(known)
        draft = sent.draft(messages, asked, stored.parent_id)
        keeper = _Keeper(self, factory.store if keeps and asked.kept else None, sent, stored, asked, void)
        return factory.sent(
            conversation,
            draft,
            messages,
            target,
            asked.config,
            known=tuple(known.values()),
            keeper=keeper,
        )

    def remember(self, node: ConversationNode) -> None:
        """Remember the answer of a node in this process. The newest ones stay, and none with a large file."""
        parts = () if node.response is None else node.response.choices[0].parts
        if any(isinstance(part, FilePart) and (part.size or 0) > _FILE_BYTES for part in parts):
            return
        self._remembered[node.id] = node.changed(attached_files=(), tool_results=())
        self._remembered.move_to_end(node.id)
        if len(self._remembered) > _MOST:
            self._remembered.popitem(last=False)

    def _recalled(self, sent: "SentHistory") -> list[ConversationNode]:
        """Return the nodes of a conversation that this process remembers, now the newest ones."""
        recalled = [name for name in sent.answers.values() if name in self._remembered]
        for name in recalled:
            self._remembered.move_to_end(name)
        return [self._remembered[name] for name in recalled]

    def _keeps(self) -> bool:
        if self._keep is not None:
            return self._keep
        store = self._manager.store
        return isinstance(store, StoreWithOwners) and not isinstance(store, MemoryStore)


@dataclass(frozen=True, slots=True, repr=False)
class _Stored(ShortRepr):
    """The part of a conversation sent by a client that a store has.

    Attributes:
        conversation: The conversation, as far as it was loaded; None = there is none.
        nodes: The answers that are known.
        parent_id: The id of the last one of them in the conversation.
        single: The first answer, if it is among the single answers and not in the conversation.
    """

    conversation: Conversation | None = None
    nodes: tuple[ConversationNode, ...] = ()
    parent_id: str | None = None
    single: ConversationNode | None = None


class _Keeper:
    """Names and keeps the node of one answer; see ``AnswerKeeper``."""

    def __init__(
        self,
        answers: KnownAnswers,
        store: ConversationStore | None,
        sent: SentHistory,
        stored: _Stored,
        asked: CompletionRequest,
        void: Callable[[], str],
    ) -> None:
        self._void = void
        self._answers = answers
        self._store = store
        self._sent = sent
        self._stored = stored
        self._single = not sent.answers and not asked.streamed

    def id_of(self, node: ConversationNode) -> str:
        """See ``AnswerKeeper``."""
        answer = node.answer_message()
        if answer is None:
            return node.id
        shown = answer.changed(parts=(TextPart(text=self._void()), *answer.parts))
        return self._sent.fingerprint.then(shown).id_of("answer")

    async def keep(self, node: ConversationNode) -> None:
        """See ``AnswerKeeper``. A turn that failed before its first word is not kept."""
        if node.status == "failed" or node.response is None:
            return
        store = self._store
        if store is None:
            self._answers.remember(node)
            return
        try:
            if await keep_by(lambda: self._append(store, node), node.id):
                return
        except ValueError:  # the same answer was kept before: the first one stays
            return
        except Exception as exc:  # noqa: BLE001 - whatever a store raises, the answer is complete
            _not_kept(node.id, exc)
        self._answers.remember(node)

    async def _append(self, store: ConversationStore, node: ConversationNode) -> None:
        """Put the node into its conversation, which is created if this is its first one."""
        sent, single = self._sent, self._stored.single
        if self._single:
            conversation_id, title = Fingerprint(sent.owner).id_of("single answers"), SINGLE_ANSWERS
        else:
            conversation_id, title = sent.conversation_id, sent.title
        if node.parent_id is None or single is not None:
            await store.create(conversation_id, title=title, metadata=SOURCE)
        if single is not None:
            await store.append(conversation_id, single)
        await store.append(conversation_id, node)


async def _stored(store: ConversationStore, sent: SentHistory) -> _Stored | None:
    """Return what a store has of a conversation, within a time limit; None if it failed."""
    try:
        with anyio.fail_after(_READ_SECONDS):
            return await _looked_up(store, sent)
    except Exception as exc:  # noqa: BLE001 - whatever a store raises, there is an answer without it
        logger.warning("a history is taken as it was sent, because the store did not answer: %s", described(exc))
        return None


async def _looked_up(store: ConversationStore, sent: SentHistory) -> _Stored:
    """Return what a store has of a conversation: by one look-up if its last answer is known."""
    names = tuple(sent.answers.values())
    conversation = await _loaded(store, sent.conversation_id, names[-1])
    nodes = () if conversation is None else tuple(filter(None, map(conversation.get, names)))
    if nodes:
        return _Stored(conversation, nodes, nodes[-1].id)
    found = await store.find_node(names[0]) if isinstance(store, StoreWithJournal) else None
    if found is None or found[1].parent_id is not None:
        return _Stored(conversation)
    return _Stored(conversation, (found[1],), found[1].id, found[1])


async def _loaded(store: ConversationStore, conversation_id: str, node_id: str) -> Conversation | None:
    """Return a conversation with the path to a node, or with the path to its head if it has no such node."""
    try:
        if not isinstance(store, StoreWithPaths):
            return await store.load(conversation_id)
        try:
            return Conversation.of_loaded(conversation_id, await store.load_path(conversation_id, node_id))
        except ValueError:  # it has no such node
            return await opened(store, conversation_id)
    except UnknownConversationError:
        return None


def _not_kept(node_id: str, exc: BaseException) -> None:
    logger.error("answer %s of the OpenAI-compatible front is only in memory: %s", node_id, described(exc))


def factory_of(manager: ConversationManager) -> TurnFactory:
    """Return the factory of a manager's turns, whose drafts can be completed before they are asked."""
    return manager._turns  # pyright: ignore[reportPrivateUsage] - the front is a part of the package
