"""``ConversationStore``, the protocol of every store, and the records that a store lists.

``testing.check_store`` tests every promise that is made here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from pydantic import JsonValue

from dhenara_async.conversation import Conversation, ConversationNode, LoadedTurns
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import ToolResultPart
from dhenara_async.stores.outline import ConversationOutline
from dhenara_async.stores.search import SearchHit


@dataclass(frozen=True, slots=True, repr=False)
class StoredConversation(ShortRepr):
    """One conversation in a list: its description without its nodes.

    Attributes:
        id: The conversation's id.
        title: Its title; None if it has none.
        metadata: The JSON object that was given to ``create``.
        created: When it was created, in UTC.
        updated: When a node was last added, or the head or the title last changed, in UTC.
    """

    id: str
    title: str | None
    metadata: Mapping[str, JsonValue] = field(repr=False)
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True, repr=False)
class ConversationPage(ShortRepr):
    """A part of the list of all conversations.

    Attributes:
        items: The conversations of this page, the most recently created first.
        next: The cursor of the next page, to pass as ``before``; None on the last page. Only its store can read it.
    """

    items: tuple[StoredConversation, ...]
    next: str | None = None


class ConversationStore(Protocol):
    """Stores conversations: their nodes, their heads and their titles.

    Nodes are only ever added. Every method may be called at the same time as any other, by several tasks of one event
    loop. A change is stored when its method returns, and not at all if the method raises.
    The code that makes a store closes it: ``async with store:`` or ``aclose``.
    """

    async def create(
        self, conversation_id: str, *, title: str | None = None, metadata: Mapping[str, JsonValue] | None = None
    ) -> None:
        """Create an empty conversation. Nothing changes if it exists.

        Args:
            conversation_id: Its id, which no other conversation of the store has.
            title: A title to list it by.
            metadata: A JSON object of the application's own; None = an empty one.
        """
        ...

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """Add a node to a conversation and make it the head, unless its status is ``failed``.

        A conversation that was never created is created. Appending the same node again changes nothing, neither the
        head nor the order, so a caller may repeat an append whose outcome it does not know. Node ids are unique
        in their conversation; another conversation may have a node of the same id.

        Args:
            conversation_id: The node's conversation.
            node: The node; its parent was appended before it.

        Raises:
            UnknownConversationError: The conversation was deleted.
            ValueError: The conversation has a different node of that id, or lacks the parent. ``MemoryStore`` without
                an owner takes any parent, so that a conversation built by hand can go on.
        """
        ...

    async def checkout(self, conversation_id: str, node_id: str) -> None:
        """Make a stored node the head of its conversation.

        Raises:
            UnknownConversationError: The store does not have the conversation.
            ValueError: The conversation does not have the node.
        """
        ...

    async def load(self, conversation_id: str) -> Conversation:
        """Return a conversation with all its nodes, in the order they were appended, and its head.

        The nodes are exactly those that were appended: they are equal, and so is their JSON, byte for byte. Each call
        returns an object of its own; changing it changes nothing in the store.

        Raises:
            UnknownConversationError: The store does not have the conversation.
        """
        ...

    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        """List the conversations, the most recently created first.

        Following ``next`` from page to page returns every conversation once, whatever is created, changed or deleted
        in between; conversations that are created after the first page are not in the later ones.

        Args:
            limit: How many conversations a page has at most, from 1.
            before: The ``next`` of the page before; None = the first page.

        Raises:
            ValueError: ``limit`` is below 1, or ``before`` is not a cursor of this store.
        """
        ...

    async def rename(self, conversation_id: str, title: str | None) -> None:
        """Change the title of a conversation; None removes it.

        Raises:
            UnknownConversationError: The store does not have the conversation.
        """
        ...

    async def delete(self, conversation_id: str) -> None:
        """Delete a conversation and its nodes. Nothing changes if the store does not have it.

        A turn that ends later cannot bring it back: ``append`` refuses its node. Only ``create`` makes an empty
        conversation of that id again.
        """
        ...

    async def aclose(self) -> None:
        """Release what the store holds, such as its connections. Closing it again does nothing."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class StoreWithOwners(Protocol):
    """A store that keeps the conversations of several owners apart, such as the users of a web application."""

    def scoped(self, owner: str | None) -> ConversationStore:
        """Return the store as one owner sees it: another owner's conversations do not exist for it.

        Args:
            owner: An id of the application's own, not empty; None = conversations without an owner.

        Raises:
            ConfigurationError: The owner is empty, or cannot be kept.
        """
        ...


@runtime_checkable
class StoreWithSearch(Protocol):
    """A store whose nodes can be searched."""

    async def search(self, query: str, *, limit: int = 20) -> tuple[SearchHit, ...]:
        """Return the nodes that have every word of ``query`` in their question or answer, the newest first.

        Upper and lower case are the same. Everything but letters and digits separates words; there are no operators. A
        query without words finds nothing.

        Args:
            query: The words; more than 32 are ignored.
            limit: How many nodes are returned at most, from 1.

        Raises:
            ValueError: ``limit`` is below 1.
        """
        ...


@runtime_checkable
class StoreWithDescriptions(Protocol):
    """A store that describes one conversation without reading its nodes, and without listing the others."""

    async def describe(self, conversation_id: str) -> StoredConversation:
        """Return a conversation as ``list`` shows it.

        Raises:
            UnknownConversationError: The store does not have the conversation.
        """
        ...


@runtime_checkable
class StoreWithInstructions(Protocol):
    """A store that keeps the standing instructions of conversations; ``load`` returns conversations with them."""

    async def create_instructed(
        self,
        conversation_id: str,
        instructions: Sequence[str],
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Create an empty conversation with standing instructions. Nothing changes if it exists.

        Args:
            conversation_id: Its id, as for ``create``.
            instructions: The texts that lead its turns, in order; may be empty.
            title: A title to list it by.
            metadata: A JSON object of the application's own; None = an empty one.
        """
        ...


@runtime_checkable
class StoreWithPaths(Protocol):
    """A store that can load a part of a large conversation: it costs what that part costs, not the whole tree."""

    async def load_path(self, conversation_id: str, node_id: str | None = None, *, others: int = 0) -> LoadedTurns:
        """Return the turns from the first one to a node, and the number of turns that follow each of them.

        Args:
            conversation_id: The conversation.
            node_id: The last node of the path; None = the head.
            others: If at most that many turns are not on the path, they are returned too.

        Raises:
            UnknownConversationError: The store does not have the conversation.
            ValueError: The conversation does not have the node.
        """
        ...

    async def load_children(self, conversation_id: str, node_id: str | None) -> LoadedTurns:
        """Return the turns that follow a node, in the order in which they were added; None = the first turns.

        Raises:
            UnknownConversationError: The store does not have the conversation.
            ValueError: The conversation does not have the node.
        """
        ...


@runtime_checkable
class StoreWithOutlines(Protocol):
    """A store that gives the tree of a conversation without reading all answers into nodes."""

    async def outline(self, conversation_id: str, *, after: str | None = None) -> ConversationOutline:
        """Return the outlines of a conversation's nodes, in the order in which they were added, and its head.

        Args:
            conversation_id: The conversation.
            after: Only the nodes that were added after that one; None = all. Nodes never change, so a caller may keep
                what it was given, and ask for the rest.

        Raises:
            UnknownConversationError: The store does not have the conversation.
            ValueError: The conversation does not have the node ``after``.
        """
        ...


@runtime_checkable
class StoreWithToolResults(Protocol):
    """A store that keeps the results of tool calls before a model was shown them.

    A tool loop stores each result before it tells anybody of it, so that a loop that is resumed in another process runs
    no call again whose result was seen. Deleting a conversation deletes its results.
    """

    async def keep_tool_result(self, conversation_id: str, node_id: str, place: int, result: ToolResultPart) -> None:
        """Keep the result of a call; the first result of a call stays.

        Args:
            conversation_id: The conversation.
            node_id: The node whose answer has the call.
            place: The place of the call in the answer, from 0.
            result: The result.

        Raises:
            UnknownConversationError: The conversation was deleted, or does not exist.
        """
        ...

    async def tool_results(self, conversation_id: str, node_id: str) -> Mapping[int, ToolResultPart]:
        """Return the results of a node's calls that are kept, by place; empty if there are none."""
        ...
