"""``StoreWithJournal``: the protocol of stores that keep turns while they are answered, and its records.

A turn has a row from before its first request on, and its events follow in batches, so that a crash loses neither the
question nor what was kept of the answer, and so that other processes can read the answer while it grows.

One process answers a turn: its writer. The writer's lease is renewed with every flush. When the lease has run out, or
the process is gone, another process may claim the turn and end it; from then on nothing that the first writer sends is
kept (it is fenced). ``testing.check_store`` tests every promise that is made here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from uuid import uuid4

from dhenara_async.conversation import ConversationNode
from dhenara_async.events import StreamEvent
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import Origin


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TurnWriter(ShortRepr):
    """The writer of a turn: one manager in one process, which answers it.

    Attributes:
        id: The writer's own id, which no other writer has.
        host: The machine since it was started, and the space of its process ids; None = not known.
        pid: The process id.
        started: When the process was started, as the system counts it; None = not known.
    """

    id: str
    host: str | None = None
    pid: int = 0
    started: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NewTurn(ShortRepr):
    """A turn before its answer.

    Attributes:
        conversation_id: Where its node goes.
        draft: The node as far as it is known: id, parent, question, files, instructions, tool results.
        epoch: Names its events, in the cursors of readers too; another turn of the same id has another epoch.
        config: The options of the call as a JSON object, without secrets.
        target: The target, as far as it is known; None where a plan decides later.
    """

    conversation_id: str
    draft: ConversationNode
    epoch: str = field(default_factory=lambda: uuid4().hex[:8])
    config: str = field(default="{}", repr=False)
    target: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoredTurn(ShortRepr):
    """A turn in a store.

    Attributes:
        number: The store's number of the turn.
        id: Its id, which is that of its node.
        conversation_id: Where its node goes.
        epoch: Names the turn's events; it stands in the cursors of readers.
        draft: The node as far as it was known when the turn began.
        target: The target; None if it was not known.
        writer: The writer that answers it, or has answered it.
        expired: Whether the writer's lease has run out.
        ended: Whether the turn is over; its node is in the store then.
    """

    number: int
    id: str
    conversation_id: str
    epoch: str
    draft: ConversationNode = field(repr=False)
    target: Origin | None
    writer: TurnWriter
    expired: bool
    ended: bool

    @classmethod
    def begun(cls, number: int, turn: NewTurn, writer: TurnWriter) -> "StoredTurn":
        """Return a new turn as it is in a store that has just begun it.

        Args:
            number: The store's number of the turn.
            turn: The turn before its answer.
            writer: The writer that answers it.
        """
        return cls(
            number=number,
            id=turn.draft.id,
            conversation_id=turn.conversation_id,
            epoch=turn.epoch,
            draft=turn.draft,
            target=turn.target,
            writer=writer,
            expired=False,
            ended=False,
        )


@dataclass(frozen=True, slots=True, repr=False)
class TurnBatch(ShortRepr):
    """Events of one turn that follow each other.

    Attributes:
        turn: The number of the turn.
        first_seq: The place of the first event in the turn, from 0.
        events: The events, at least one.
    """

    turn: int
    first_seq: int
    events: Sequence[StreamEvent] = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class TurnState(ShortRepr):
    """The state of a turn that is still the writer's, as a flush returns it.

    Attributes:
        cancel_requested: Whether somebody asked for its end.
        watched: Whether a reader in another process follows it, or did a moment ago.
    """

    cancel_requested: bool
    watched: bool


@dataclass(frozen=True, slots=True, repr=False)
class TurnPage(ShortRepr):
    """A turn with its events from one place on, as they were at one moment.

    Attributes:
        turn: The turn.
        events: The events from that place on; empty if there are no more, and if the place is beyond them.
        mark: The moment, for ``turn_changed``.
    """

    turn: StoredTurn
    events: Sequence[StreamEvent] = field(repr=False)
    mark: int


@runtime_checkable
class StoreWithJournal(Protocol):
    """A store that keeps turns while they are answered.

    The ids of an owner's turns are unique. A turn and its events stay for some time after its end; ``expire_turns``
    removes them later, and the node stays. Deleting a conversation deletes its turns, also those that are answered.
    """

    async def begin_turn(self, turn: NewTurn, writer: TurnWriter, *, lease: float) -> StoredTurn | None:
        """Keep a turn before it is answered.

        Args:
            turn: The turn.
            writer: The writer that answers it.
            lease: Seconds after which others may claim it, unless a flush renews the lease.

        Returns:
            The turn; None if the owner has a turn of that id, or the conversation has a node of that id.

        Raises:
            UnknownConversationError: The conversation was deleted.
        """
        ...

    async def flush_turns(
        self, writer: TurnWriter, batches: Sequence[TurnBatch], *, lease: float
    ) -> Mapping[int, TurnState]:
        """Keep events of any number of turns of a writer, and renew the leases of all its turns, at one go.

        The turns may be those of several owners.

        Args:
            writer: The writer that answers the turns.
            batches: The events; those of turns that are not the writer's any more are left out.
            lease: Seconds, as for ``begin_turn``.

        Returns:
            The turns that are still the writer's, by number. One that is not among them has ended, was claimed by
            somebody else, or was deleted.
        """
        ...

    async def end_turn(
        self,
        turn: StoredTurn,
        writer: TurnWriter,
        batches: Sequence[TurnBatch],
        node: ConversationNode,
        *,
        keep: float,
        aside: bool = False,
    ) -> bool:
        """Keep the last events of a turn, append its node and end the turn, all or nothing.

        Args:
            turn: The turn.
            writer: The writer that answers it.
            batches: Its last events.
            node: Its node; it is appended as by ``ConversationStore.append``.
            keep: Seconds that the turn and its events stay.
            aside: Whether the node becomes the head only if the head is the node's parent, or there is none.

        Returns:
            False if the turn is not the writer's any more; nothing is kept then.

        Raises:
            UnknownConversationError: The conversation was deleted.
            ValueError: The node cannot be appended.
        """
        ...

    async def open_turns(self, conversation_id: str) -> tuple[StoredTurn, ...]:
        """Return the turns of a conversation that have not ended, in the order in which they began."""
        ...

    async def claim_turn(self, turn: StoredTurn, writer: TurnWriter, *, lease: float, gone: bool) -> bool:
        """Make ``writer`` the writer of a turn whose writer cannot end it any more.

        Args:
            turn: The turn.
            writer: The writer that takes it over.
            lease: Seconds, as for ``begin_turn``.
            gone: Whether the turn's process is known to be gone; else its lease must have run out.

        Returns:
            False if the turn has ended, another writer has claimed it, or its lease was renewed.
        """
        ...

    async def read_turn(self, turn_id: str, first_seq: int = 0) -> TurnPage | None:
        """Return a turn with its events from a place on; None if the owner has no such turn."""
        ...

    async def cancel_turn(self, turn_id: str) -> bool:
        """Ask for the end of a turn; the writer learns of it with its next flush.

        Returns:
            False if the owner has no such turn, or it has ended.
        """
        ...

    async def watch_turn(self, turn: StoredTurn, *, seconds: float) -> None:
        """Say that a reader in another process follows a turn, for so many seconds: its writer flushes sooner then."""
        ...

    async def turn_changed(self, page: TurnPage, *, seconds: float) -> None:
        """Return when a turn may have changed since ``page`` was read, at the latest after so many seconds."""
        ...

    async def find_node(self, node_id: str) -> tuple[str, ConversationNode] | None:
        """Return the node of an id with its conversation's id, the newest one if several conversations have one."""
        ...

    async def expire_turns(self) -> None:
        """Remove the turns of all owners whose time after their end is over, and their events. Their nodes stay."""
        ...
