"""Finished turns as data: who asked what, who answered, and how the turns hang together.

A conversation is a tree of nodes and only ever grows: a node is never changed, moved or replaced. Nothing here calls a
model.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal
from uuid import uuid4

from pydantic import Field

from dhenara_async.errors import StreamStateError
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.messages import FilePart, FrozenList, Message, Origin, Role, TextPart, ToolResultPart
from dhenara_async.response import Attempt, CallWarning, ChatResponse, Decision, Seam, Usage


def _new_id() -> str:
    return uuid4().hex


def _now() -> str:
    return datetime.now(UTC).isoformat()


class ConversationNode(FrozenModel):
    """One turn: a question and what was answered.

    Attributes:
        id: Unique; made here unless given.
        parent_id: The turn it follows; None for the first.
        user_query: The question's words.
        attached_files: What was sent with it, in order.
        tool_results: What running the calls of the turn before gave.
        instructions: What led this turn, and only this one.
        response: The answer, whole or as far as it came; None if nothing came.
        timestamp: When the turn ended, ISO 8601.
        origin: Who answered; None for nodes made by hand.
        status: ``interrupted``: cut, cancelled or crashed after something came; ``failed``: nothing came.
        error: Why it is not complete, in words without secrets; None if it is.
        request_id: What the provider calls the request; None if not told.
        attempts: How many requests the turn took.
        tries: What became of each of them, in order.
        plan: What plans over endpoints made of the turn, the outermost first; empty where an endpoint was asked.
        seams: Where one endpoint went on with the answer of another; ``origin`` is the last of them.
        warnings: Knobs the target could not take as given.
        conversion: What became of the history on its way to the model (``ConversionReport.condensed``).
        cost: What the provider took, as told when the turn ended: by the endpoint's own rates, else in US dollars by
            its list prices; None if not known.
        charge: What your own customer pays for it, likewise.
        prefix: Hash of everything the model was shown, where its thinking is of use only behind that; else None.
        signature: Of what is opaque in it, by the manager's ``signing_key``; None where it has none or nothing is.
    """

    id: str = Field(default_factory=_new_id, min_length=1)
    parent_id: str | None = None
    user_query: str = ""
    attached_files: FrozenList[FilePart] = ()
    tool_results: FrozenList[ToolResultPart] = ()
    instructions: FrozenList[str] = ()
    response: ChatResponse | None = None
    timestamp: str = Field(default_factory=_now)
    origin: Origin | None = None
    status: Literal["complete", "interrupted", "failed"] = "complete"
    error: str | None = None
    request_id: str | None = None
    attempts: int = 1
    tries: tuple[Attempt, ...] = ()
    plan: tuple[Decision, ...] = ()
    seams: tuple[Seam, ...] = ()
    warnings: tuple[CallWarning, ...] = ()
    conversion: ConversionReport = Field(default_factory=ConversionReport)
    cost: Decimal | None = None
    charge: Decimal | None = None
    prefix: str | None = None
    signature: str | None = None

    @property
    def usage(self) -> Usage:
        """What the turn cost in tokens, as far as known."""
        return Usage() if self.response is None else self.response.usage

    def as_messages(self) -> list[Message]:
        """The turn as messages: the question, then the first answer if there is one."""
        asked = question(self.user_query, map(self._known_there, self.attached_files), self.tool_results, node=self.id)
        answer = None if self.response is None or not self.response.choices[0].parts else self.response.choices[0].parts
        if answer is None:
            return asked
        status = "complete" if self.status == "complete" else "interrupted"
        said = Message(role=Role.ASSISTANT, parts=answer, node=self.id, status=status, prefix=self.prefix)
        return [*asked, said]

    def _known_there(self, file: FilePart) -> FilePart:
        """``file``, marked with whose store knows it where it is not here and not on the web."""
        if not file.is_stored or file.origin is not None or self.origin is None:
            return file
        return file.changed(origin=self.origin)


def question(
    user_query: str, files: Iterable[FilePart], results: Iterable[ToolResultPart] = (), *, node: str | None = None
) -> list[Message]:
    """What is asked, as a message if it is anything; results come first, files stand before the words about them."""
    asked = (*results, *files, *([TextPart(text=user_query)] if user_query else []))
    return [Message(role=Role.USER, parts=asked, node=node)] if asked else []


class Conversation:
    """A tree of turns with one of them as its head.

    Args:
        id: Its name in a store; made here if None.
        nodes: Turns to begin with, parents before children.
        head: The turn that the next one follows; None = the last of ``nodes``.

    Raises:
        ValueError: Two nodes share an id, a parent is missing, or ``head`` is not among them.
    """

    def __init__(
        self, id: str | None = None, *, nodes: Iterable[ConversationNode] = (), head: str | None = None
    ) -> None:
        self.id: str = id or _new_id()
        self._nodes: dict[str, ConversationNode] = {}
        self._head: str | None = None
        for node in nodes:
            self.append(node)
        if head is not None:
            self.checkout(head)

    def __repr__(self) -> str:
        return f"Conversation(id={self.id!r}, nodes={len(self._nodes)}, head={self._head!r})"

    @property
    def nodes(self) -> tuple[ConversationNode, ...]:
        """Every turn, in the order they were added."""
        return tuple(self._nodes.values())

    @property
    def head(self) -> ConversationNode | None:
        """The turn that the next one follows; None at the very beginning."""
        return None if self._head is None else self._nodes[self._head]

    def path(self) -> tuple[ConversationNode, ...]:
        """The turns from the first to the head: the history that the next turn sees."""
        path: list[ConversationNode] = []
        at = self._head
        while at is not None:
            node = self._nodes[at]
            path.append(node)
            at = node.parent_id
        return tuple(reversed(path))

    def children(self, node_id: str | None) -> tuple[ConversationNode, ...]:
        """The turns that follow another, in the order they were added; None for those that begin the conversation.

        Raises:
            ValueError: There is no such turn.
        """
        if node_id is not None:
            self._known(node_id)
        return tuple(node for node in self._nodes.values() if node.parent_id == node_id)

    def siblings(self, node_id: str) -> tuple[ConversationNode, ...]:
        """The turn and the others that follow the same one, in the order they were added.

        Raises:
            ValueError: There is no such turn.
        """
        return self.children(self._known(node_id).parent_id)

    def append(self, node: ConversationNode) -> None:
        """Add a turn under its parent and make it the head, unless nothing came of it (``failed``).

        Raises:
            ValueError: Its id is taken or its parent is not here.
        """
        if node.id in self._nodes:
            raise ValueError(f"the conversation already has a node {node.id!r}; nothing is ever overwritten")
        if node.parent_id is not None and node.parent_id not in self._nodes:
            raise ValueError(f"node {node.id!r} follows {node.parent_id!r}, which is not in this conversation")
        self._nodes[node.id] = node
        if node.status != "failed":
            self._head = node.id

    def checkout(self, node_id: str) -> None:
        """Make another turn the head, so that the next one branches off there.

        Raises:
            ValueError: There is no such turn.
        """
        self._head = self._known(node_id).id

    def last_answer(self) -> ChatResponse:
        """The head's answer.

        Raises:
            StreamStateError: There is none yet.
        """
        head = self.head
        if head is None or head.response is None:
            raise StreamStateError("the conversation has no answer yet")
        return head.response

    def _known(self, node_id: str) -> ConversationNode:
        node = self._nodes.get(node_id)
        if node is None:
            raise ValueError(f"the conversation has no node {node_id!r}")
        return node
