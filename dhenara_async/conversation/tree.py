"""``Conversation``: a tree of finished turns. It only grows: a node is never changed, moved or replaced."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from dhenara_async.conversation.node import ConversationNode, new_id
from dhenara_async.conversation.summary import NumberedTurn, cost_by_model, outline, sections, usage_by_model
from dhenara_async.errors import ConfigurationError, NotLoadedError, StreamStateError
from dhenara_async.formatter.markdown import as_markdown
from dhenara_async.frozen import FrozenModel, ShortRepr, short_repr
from dhenara_async.response import ChatResponse, Usage


@dataclass(frozen=True, slots=True, repr=False)
class LoadedTurns(ShortRepr):
    """Some turns of a conversation, and the size of the rest, as a store had them at one moment.

    Attributes:
        nodes: The turns, parents before children. The turns that follow one turn are in the order in which they were
            added, if all of them are there.
        followers: The number of turns that follow a turn, by its id, for each turn on the path to one of ``nodes`` and
            for ``nodes`` themselves; by None, the number of first turns. An absent id counts as 0.
        turns: The number of turns of the conversation.
        head: The id of the head; None if there is none.
        tokens: The tokens that all turns of the conversation used; unknown usage counts as 0.
        money: Their cost; unknown prices count as 0.
        instructions: The standing instructions of the conversation; None = the manager's.
    """

    nodes: tuple[ConversationNode, ...] = field(repr=False)
    followers: Mapping[str | None, int] = field(repr=False)
    turns: int
    head: str | None = None
    tokens: int = 0
    money: Decimal = Decimal(0)
    instructions: tuple[str, ...] | None = None


class Conversation:
    """A tree of turns, with one of them as its head.

    A large conversation that is opened from a store has only a part of its turns: those up to the head. It is not
    ``complete`` then, and methods that need other turns raise ``NotLoadedError``, which says how to load them.

    Args:
        id: The conversation's id in a store; None = generated.
        nodes: The initial turns, parents before children.
        head: The id of the turn that the next one follows; None = the last of ``nodes``.
        instructions: The standing instructions, which lead every turn without instructions of its own; None = those of
            the manager.

    Raises:
        ConfigurationError: Two nodes share an id, a parent is missing, or ``head`` is not among the nodes.
    """

    def __init__(
        self,
        id: str | None = None,
        *,
        nodes: Iterable[ConversationNode] = (),
        head: str | None = None,
        instructions: Iterable[str] | None = None,
    ) -> None:
        if isinstance(instructions, str):
            raise ConfigurationError("instructions is a sequence of texts, not one text; write instructions=['…']")
        self.id: str = id or new_id()
        self._nodes: dict[str, ConversationNode] = {}
        self._followers: dict[str | None, list[str]] = {}
        self._head: str | None = None
        self._instructions = None if instructions is None else tuple(instructions)
        self._stored: LoadedTurns | None = None  # as it was opened; None = all turns were there from the beginning
        self._hidden: dict[str | None, int] = {}  # how many followers of a loaded turn are not loaded
        self._hidden_turns = 0
        self._appended: list[ConversationNode] = []
        self._lost: set[str] = set()  # turns that their store failed to keep
        self._not_kept: set[str] = set()  # turns that no store is known to have: it does not count them either
        self._imported: tuple[ConversationNode, ...] | None = None  # turns that the store of the next turn may lack
        for node in nodes:
            self.append(node)
        if head is not None:
            self.checkout(head)

    @classmethod
    def of_loaded(cls, id: str, loaded: LoadedTurns) -> "Conversation":
        """Return a conversation with those turns that a store has loaded, and its head; for managers and stores.

        Raises:
            ConfigurationError: The head is not among the turns, or a parent is missing.
        """
        conversation = cls(id, instructions=loaded.instructions)
        conversation._stored = loaded
        conversation.add_loaded(loaded)
        if loaded.head is not None:
            conversation.checkout(loaded.head)
        return conversation

    def __repr__(self) -> str:
        return short_repr("Conversation", (("id", self.id), ("nodes", len(self._nodes)), ("head", self._head)))

    def _repr_markdown_(self) -> str:
        """Return the turns up to the head as Jupyter shows them."""
        return "\n\n---\n\n".join(as_markdown(node) for node in self.path()) or "*an empty conversation*"

    def __str__(self) -> str:
        """Return the tree, a line for each turn; the turns behind a fork are indented. It says what is not loaded."""
        turns = len(self._nodes)
        size = f"{turns}" if self.complete else f"{turns} of {turns + self._hidden_turns}"
        loaded = "" if self.complete else ", the others are not loaded"
        return "\n".join((f"conversation {self.id}: {size} turns{loaded}", *outline(self._numbered(), self._head)))

    def to_markdown(self) -> str:
        """Return the whole tree as Markdown: an outline if it has forks, then every turn with its question and answer,
        the turns of a branch one after the other.

        Raises:
            NotLoadedError: Not all turns are loaded.
        """
        self._demand_complete("to_markdown()")
        forked = any(len(followers) > 1 for followers in self._followers.values())
        lines = outline(self._numbered(), self._head) if forked else ()
        overview = ("\n".join(f"    {line}" for line in lines),) if forked else ()
        return "\n\n".join((f"# Conversation {self.id}", *overview, *sections(self._numbered()))) + "\n"

    def usage(self) -> dict[str, Usage]:
        """Return the tokens of all turns of the tree by model id, including requests that failed after their answer
        had begun.

        Raises:
            NotLoadedError: Not all turns are loaded.
        """
        self._demand_complete("usage()")
        return usage_by_model(self._nodes.values())

    def cost(self) -> dict[str, Decimal | None]:
        """Return the cost of all turns of the tree by model id, as computed when each turn ended; None for a model one
        of whose turns has no known price.

        Raises:
            NotLoadedError: Not all turns are loaded.
        """
        self._demand_complete("cost()")
        return cost_by_model(self._nodes.values())

    def export_json(self) -> str:
        """Return the conversation as JSON, with everything that ``import_json`` needs to restore it exactly.

        Raises:
            NotLoadedError: Not all turns are loaded.
        """
        self._demand_complete("export_json()")
        export = _Export(id=self.id, head=self._head, instructions=self._instructions, nodes=self.nodes)
        return export.model_dump_json(exclude={"instructions"} if self._instructions is None else None)

    @classmethod
    def import_json(cls, text: str | bytes) -> "Conversation":
        """Return the conversation that ``export_json`` wrote; exporting it again gives the same text.

        The next turn of it, or ``manager.checkout``, keeps it in the manager's store, where that lacks it.

        Raises:
            ConfigurationError: The text is not an exported conversation, or its turns do not form a tree.
        """
        try:
            export = _Export.model_validate_json(text)
        except ValueError as exc:
            raise ConfigurationError("the text is not a conversation that export_json wrote") from exc
        conversation = cls(export.id, nodes=export.nodes, head=export.head, instructions=export.instructions)
        conversation._imported = export.nodes
        return conversation

    @property
    def imported(self) -> tuple[ConversationNode, ...] | None:
        """The imported turns, parents before children; None if there was no import, or a store has it; for managers."""
        return self._imported

    def mark_import_kept(self) -> None:
        """Note that a store has the imported turns; for managers."""
        for node in self._imported or ():
            self.mark_kept(node.id)
        self._imported = None

    @property
    def instructions(self) -> tuple[str, ...] | None:
        """The standing instructions, which lead every turn without instructions of its own; None = the manager's."""
        return self._instructions

    @property
    def nodes(self) -> tuple[ConversationNode, ...]:
        """All turns, in the order in which they were added; if it is not ``complete``, those that are loaded, parents
        before children."""
        return tuple(self._nodes.values())

    @property
    def complete(self) -> bool:
        """Whether all turns are loaded. ``await manager.load_all(conversation)`` loads the others."""
        return self._hidden_turns == 0

    @property
    def stored(self) -> LoadedTurns | None:
        """The part that was loaded when it was opened; None if the conversation was whole from the beginning."""
        return self._stored

    @property
    def appended(self) -> Sequence[ConversationNode]:
        """The turns that were added to this object since it was opened; all turns if it was whole at once."""
        return self._appended

    @property
    def head(self) -> ConversationNode | None:
        """The turn that the next one follows; None for an empty conversation."""
        return None if self._head is None else self._nodes[self._head]

    def numbered(self) -> tuple[ConversationNode, ...]:
        """Return the turns as they are numbered where the tree is shown, from 1: the turns of a branch one after the
        other."""
        return tuple(node for _, node, _ in self._numbered())

    def get(self, node_id: str) -> ConversationNode | None:
        """Return the turn with that id; None if there is none, or if it is not loaded."""
        return self._nodes.get(node_id)

    def path(self, node_id: str | None = None) -> tuple[ConversationNode, ...]:
        """Return the turns from the first to the head, the history of the next turn; or to another turn.

        Raises:
            ValueError: There is no turn ``node_id``.
        """
        path: list[ConversationNode] = []
        at = self._head if node_id is None else self._node(node_id).id
        while at is not None:
            node = self._nodes[at]
            path.append(node)
            at = node.parent_id
        return tuple(reversed(path))

    def children(self, node_id: str | None) -> tuple[ConversationNode, ...]:
        """Return the turns that follow a turn, in the order in which they were added.

        Args:
            node_id: The id of the turn; None = return the first turns of the conversation.

        Raises:
            ConfigurationError: There is no such turn.
            NotLoadedError: Not all of them are loaded; ``await manager.children(conversation, node_id)`` loads them.
        """
        if node_id is not None:
            self._node(node_id)
        if self._hidden.get(node_id):
            raise NotLoadedError(
                f"{self._hidden[node_id]} of the {self.children_count(node_id)} turns that follow "
                f"{'nothing' if node_id is None else node_id} are not loaded: "
                "await manager.children(conversation, node_id), or manager.siblings() of one of them"
            )
        return tuple(self._nodes[follower] for follower in self._followers.get(node_id, ()))

    def children_count(self, node_id: str | None) -> int:
        """Return how many turns follow a turn, loaded or not; None = how many first turns there are.

        Raises:
            ConfigurationError: There is no such turn, or it is not loaded.
        """
        if node_id is not None:
            self._node(node_id)
        return len(self._followers.get(node_id, ())) + self._hidden.get(node_id, 0)

    def siblings(self, node_id: str) -> tuple[ConversationNode, ...]:
        """Return the turn and all others with the same parent, in the order in which they were added.

        Raises:
            ConfigurationError: There is no such turn.
            NotLoadedError: Not all of them are loaded; ``await manager.siblings(conversation, node_id)`` loads them.
        """
        return self.children(self._node(node_id).parent_id)

    def siblings_count(self, node_id: str) -> int:
        """Return how many turns have the same parent as a turn, itself included, loaded or not.

        Raises:
            ConfigurationError: There is no such turn, or it is not loaded.
        """
        return self.children_count(self._node(node_id).parent_id)

    def append(self, node: ConversationNode) -> None:
        """Add a turn under its parent and make it the head; a ``failed`` turn does not become the head.

        Raises:
            ConfigurationError: Its id is taken, or its parent is not in this conversation.
        """
        if node.id in self._nodes:
            raise ConfigurationError(f"the conversation already has a node {node.id!r}; nothing is ever overwritten")
        self._insert(node)
        self._appended.append(node)
        self._not_kept.add(node.id)
        if node.status != "failed":
            self._head = node.id

    def mark_kept(self, node_id: str) -> None:
        """Note that a store has an appended turn, and counts it from now on; for managers."""
        self._not_kept.discard(node_id)
        self._lost.discard(node_id)

    def mark_lost(self, node_id: str) -> None:
        """Note that a store failed to keep an appended turn, so that the next turn has it kept first; for managers."""
        self._lost.add(node_id)

    def lost(self, node_id: str | None) -> tuple[ConversationNode, ...]:
        """Return the turns up to one, oldest first, that their store failed to keep; for managers."""
        if not self._lost or node_id is None:
            return ()
        return tuple(node for node in self.path(node_id) if node.id in self._lost)

    def add_loaded(self, loaded: LoadedTurns) -> None:
        """Add turns that a store had all along; the head stays. For managers and stores.

        Raises:
            ConfigurationError: A parent is missing.
        """
        arrived: dict[str | None, list[str]] = defaultdict(list)
        for node in loaded.nodes:
            if node.id not in self._nodes:
                self._insert(node)
            self._not_kept.discard(node.id)
            arrived[node.parent_id].append(node.id)
        for parent, ids in arrived.items():
            if len(ids) == loaded.followers.get(parent, 0):  # all of them: only now their order is known
                self._followers[parent] = list(dict.fromkeys((*ids, *self._followers[parent])))
        for parent in {None, *arrived, *loaded.followers, *(node.id for node in loaded.nodes)}:
            kept = sum(follower not in self._not_kept for follower in self._followers.get(parent, ()))
            self._hidden[parent] = max(0, loaded.followers.get(parent, 0) - kept)
        self._hidden_turns = max(0, loaded.turns - (len(self._nodes) - len(self._not_kept)))
        if len(loaded.nodes) == loaded.turns:
            order = dict.fromkeys((*(node.id for node in loaded.nodes), *self._nodes))
            self._nodes = {node_id: self._nodes[node_id] for node_id in order}

    def checkout(self, node_id: str) -> None:
        """Make another turn the head, so that the next turn branches off there.

        Raises:
            ConfigurationError: There is no such turn.
            NotLoadedError: It may be among those that are not loaded.
        """
        self._head = self._node(node_id).id

    def last_answer(self) -> ChatResponse:
        """Return the head's answer.

        Raises:
            StreamStateError: There is no answer yet.
        """
        head = self.head
        if head is None or head.response is None:
            raise StreamStateError("the conversation has no answer yet")
        return head.response

    def _numbered(self) -> Iterator[NumberedTurn]:
        """Yield the turns depth first, with their numbers and the number of forks above them."""
        followers_of = self._followers
        waiting = [(node_id, 0) for node_id in reversed(followers_of.get(None, ()))]
        number = 0
        while waiting:
            node_id, forks = waiting.pop()
            number += 1
            yield number, self._nodes[node_id], forks
            followers = followers_of.get(node_id, ())
            inner = forks + (len(followers) > 1)
            waiting += [(follower, inner) for follower in reversed(followers)]

    def _insert(self, node: ConversationNode) -> None:
        if node.parent_id is not None and node.parent_id not in self._nodes:
            if not self.complete:
                raise self._not_loaded(node.parent_id)
            raise ConfigurationError(f"node {node.id!r} follows {node.parent_id!r}, which is not in this conversation")
        self._nodes[node.id] = node
        self._followers.setdefault(node.parent_id, []).append(node.id)

    def _demand_complete(self, what: str) -> None:
        if not self.complete:
            raise NotLoadedError(
                f"{what} needs all turns, and {self._hidden_turns} of {len(self._nodes) + self._hidden_turns} are not "
                "loaded: await manager.load_all(conversation) first"
            )

    def _node(self, node_id: str) -> ConversationNode:
        node = self._nodes.get(node_id)
        if node is None:
            if not self.complete:
                raise self._not_loaded(node_id)
            raise ConfigurationError(f"the conversation has no node {node_id!r}")
        return node

    def _not_loaded(self, node_id: str) -> NotLoadedError:
        return NotLoadedError(
            f"node {node_id!r} is not among the loaded turns, and {self._hidden_turns} others are not loaded: "
            "await manager.load(conversation, node_id), or manager.load_all(conversation)"
        )


class _Export(FrozenModel):
    """A conversation as ``export_json`` writes it."""

    format: Literal["dhenara_async.conversation/1"] = "dhenara_async.conversation/1"
    id: str
    head: str | None
    instructions: tuple[str, ...] | None = None
    nodes: tuple[ConversationNode, ...]
