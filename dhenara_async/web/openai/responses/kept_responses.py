"""``KeptResponses``: the responses of one owner in the store: read, cancelled, deleted.

Nodes are never taken out of a conversation. A response that is deleted gets a mark behind its node, and is found no
more; the conversation goes with the last of its responses.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.drivers.base import JsonObject
from dhenara_async.errors import StreamStateError, UnknownConversationError, UnknownTurnError
from dhenara_async.frozen import ShortRepr
from dhenara_async.manager import ConversationManager
from dhenara_async.web.chat.deleted import has_node, is_deleted
from dhenara_async.web.chat.marks import is_mark, is_mark_id, mark_id, mark_of
from dhenara_async.web.openai.errors import OpenAIError, OpenAIRefusal
from dhenara_async.web.openai.responses.feeds import ResponseReplayFeed
from dhenara_async.web.openai.responses.ids import TurnPlace, place_of
from dhenara_async.web.openai.responses.object import response_body
from dhenara_async.web.openai.responses.records import body_of_node, input_items_of, is_given, record_of

_NO_RESPONSE = OpenAIError(404, "There is no such response.", None, "response_id")
_NO_JOURNAL = OpenAIError(
    400, "This server keeps no journal: a response cannot be read again as a stream, nor be cancelled."
)


@dataclass(frozen=True, slots=True, repr=False)
class FoundResponse(ShortRepr):
    """A response in the store.

    Attributes:
        place: Its turn.
        node: The turn's node; before its end, what is known of it.
        conversation: Its conversation, with the turns before it; None while it is answered.
    """

    place: TurnPlace
    node: ConversationNode
    conversation: Conversation | None

    @property
    def running(self) -> bool:
        """Whether it is being answered."""
        return self.conversation is None

    @property
    def body(self) -> bytes:
        """The response as one object."""
        head = record_of(self.place, self.node).head
        return response_body(head, None, "in_progress") if self.running else body_of_node(head, self.node)


class KeptResponses:
    """The responses of one owner.

    Args:
        manager: The manager, confined to the owner.
    """

    def __init__(self, manager: ConversationManager) -> None:
        self._manager = manager

    async def find(self, response_id: str) -> FoundResponse:
        """Return a response.

        Raises:
            OpenAIRefusal: The owner has none of that id.
        """
        place = place_of(response_id)
        if place is None or is_mark_id(place.node):
            raise OpenAIRefusal(_NO_RESPONSE)
        running = await self._manager.running(place.conversation)  # first: it may end in between
        try:
            conversation = await self._manager.open(place.conversation, path_only=True)
            if await is_deleted(self._manager, conversation, place.node):
                raise OpenAIRefusal(_NO_RESPONSE)
            if await has_node(self._manager, conversation, place.node):
                return FoundResponse(place, await self._manager.load(conversation, place.node), conversation)
        except UnknownConversationError:
            raise OpenAIRefusal(_NO_RESPONSE) from None
        for draft in running:
            if draft.id == place.node:
                return FoundResponse(place, draft, None)
        raise OpenAIRefusal(_NO_RESPONSE)

    def replay(self, found: FoundResponse, starting_after: int | None) -> ResponseReplayFeed:
        """Return a response as a stream, from its beginning or behind the event of a number.

        Raises:
            OpenAIRefusal: The manager keeps no journal.
        """
        if not self._manager.keeps_journal:
            raise OpenAIRefusal(_NO_JOURNAL)
        head = record_of(found.place, found.node).head
        return ResponseReplayFeed(self._manager.attach(found.place.node), head, starting_after)

    async def cancel(self, response_id: str) -> FoundResponse:
        """End a response, and return it; one that has ended stays as it is.

        Raises:
            OpenAIRefusal: The owner has none of that id, or the manager keeps no journal.
        """
        found = await self.find(response_id)
        if not found.running:
            return found
        await self._end(found)
        return await self.find(response_id)

    async def _end(self, found: FoundResponse) -> None:
        if not self._manager.keeps_journal:
            raise OpenAIRefusal(_NO_JOURNAL)
        with suppress(StreamStateError, UnknownTurnError):  # it has ended in between
            await self._manager.cancel(found.place.node)

    async def delete(self, response_id: str) -> None:
        """Delete a response; one that is being answered is ended first.

        Raises:
            OpenAIRefusal: The owner has none of that id.
        """
        found = await self.find(response_id)
        if found.running:
            await self._end(found)
            found = await self.find(response_id)
        place, manager = found.place, self._manager
        with suppress(UnknownConversationError):  # another request has deleted the last response in between
            await manager.store.append(place.conversation, mark_of(found.node))
            conversation = await manager.load_all(await manager.open(place.conversation))
            marks = {node.id for node in conversation.nodes if is_mark(node)}
            left = [node for node in conversation.nodes if not {node.id, mark_id(node.id)} & marks]
            if all(map(is_given, left)) and not await manager.running(place.conversation):
                await manager.delete(place.conversation)

    async def input_items(self, response_id: str, query: Mapping[str, str]) -> JsonObject:
        """Return the items of a response's request as a list of the API.

        Args:
            response_id: The response.
            query: ``order``, ``limit`` and ``after``.

        Raises:
            OpenAIRefusal: The owner has none of that id.
        """
        found = await self.find(response_id)
        path = (found.node,) if found.conversation is None else found.conversation.path(found.node.id)
        items = input_items_of(found.place, path)
        if query.get("order", "desc") != "asc":
            items.reverse()
        if (after := query.get("after")) is not None:
            places = [at for at, item in enumerate(items) if item["id"] == after]
            items = items[places[0] + 1 :] if places else []
        text = query.get("limit", "20")
        limit = min(max(int(text), 1), 100) if text.isascii() and text.isdecimal() and len(text) < 5 else 20
        page = items[:limit]
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        return {
            "object": "list",
            "data": page,
            "first_id": first,
            "last_id": last,
            "has_more": len(items) > limit,
        }
