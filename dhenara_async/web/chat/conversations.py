"""``ConversationRoutes``: list, search, rename and delete conversations, the same for every app of this room."""

from dhenara_async.conversation import Conversation
from dhenara_async.errors import ConfigurationError, StreamStateError, UnknownTurnError
from dhenara_async.events import PartEnd
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import FilePart
from dhenara_async.web.chat.branches import NO_ANSWER
from dhenara_async.web.chat.deleted import hits_left, is_deleted
from dhenara_async.web.chat.files import digest_of, file_reply, files_of
from dhenara_async.web.chat.http import WebReply, WebRequest, check_json, json_reply, nothing_reply
from dhenara_async.web.inputs.fields import (
    BodyFields,
    RefusedRequest,
    WebLimits,
    bad,
    checked_id,
    demanded,
    id_of,
    object_of,
    text_of,
)


class ConversationRoutes:
    """Routes about whole conversations, and about the files in them.

    Args:
        manager: Keeps the conversations; each request sees only those of its owner.
        limits: How much a client may send.
    """

    def __init__(self, manager: ConversationManager, limits: WebLimits) -> None:
        self._manager = manager
        self._limits = limits

    async def list(self, request: WebRequest) -> WebReply:
        """Route: a page of the list."""
        limit, before = self._page_size(request), request.query.get("before")
        try:
            page = await self.manager_of(request).list(limit=limit, before=before)
        except ValueError:
            raise bad("before is not a cursor of this list.") from None
        items = [
            {
                "id": item.id,
                "title": item.title,
                "createdAt": item.created.isoformat(),
                "updatedAt": item.updated.isoformat(),
            }
            for item in page.items
        ]
        return json_reply({"items": items, "next": page.next})

    async def search(self, request: WebRequest) -> WebReply:
        """Route: the turns that have every word of ``q``."""
        words = request.query.get("q", "")
        if len(words) > self._limits.title_characters:
            raise bad("q is too long.")
        mine = self.manager_of(request)
        hits = await hits_left(mine, await mine.search(words, limit=self._page_size(request)))
        told: list[dict[str, object]] = [
            {"id": hit.conversation, "nodeId": hit.node, "title": hit.title, "snippet": hit.snippet} for hit in hits
        ]
        return json_reply({"items": told})

    async def rename(self, request: WebRequest) -> WebReply:
        """Route: another title."""
        fields = await self.fields(request)
        title = text_of(fields, "title", limit=self._limits.title_characters)
        await self.manager_of(request).rename(chat_id_of(request), title)
        return nothing_reply()

    async def delete(self, request: WebRequest) -> WebReply:
        """Route: end what is running, and delete the conversation."""
        mine, chat_id = self.manager_of(request), chat_id_of(request)
        await self.stop(request)
        await mine.delete(chat_id)
        return nothing_reply()

    async def stop(self, request: WebRequest) -> WebReply:
        """Route: end what is running in a conversation."""
        mine = self.manager_of(request)
        for turn in await mine.running(chat_id_of(request)):
            try:
                await mine.cancel(turn.id)
            except (StreamStateError, UnknownTurnError):  # its page's own connection ends it, or it has ended
                continue
        return nothing_reply()

    async def checkout(self, request: WebRequest) -> WebReply:
        """Route: make another turn the one that the next turn follows."""
        mine, fields = self.manager_of(request), await self.fields(request)
        node_id = demanded(id_of(fields, "nodeId"), "nodeId")
        conversation = await opened_with(mine, chat_id_of(request), node_id)
        await mine.checkout(conversation, node_id)
        return nothing_reply()

    async def file(self, request: WebRequest) -> WebReply:
        """Route: a file of a turn, by the hash of its content."""
        mine, node_id, name = self.manager_of(request), request.path["node"], request.path["file"]
        chat_id = chat_id_of(request)
        running = [draft for draft in await mine.running(chat_id) if draft.id == node_id]
        if running:
            files = [*running[0].attached_files, *await _files_so_far(mine, node_id)]
        else:
            conversation = await opened_with(mine, chat_id, node_id)
            node = None if await is_deleted(mine, conversation, node_id) else conversation.get(node_id)
            files = [] if node is None else list(files_of(node))
        for file in files:
            if digest_of(file) == name:
                return file_reply(file)
        raise RefusedRequest(404, "There is no such file.")

    def manager_of(self, request: WebRequest) -> ConversationManager:
        """Return the manager as the request's owner sees it."""
        return self._manager.scoped(request.owner)

    async def fields(self, request: WebRequest) -> BodyFields:
        """Read a body of JSON.

        Raises:
            RefusedRequest: It is not a JSON object, not declared as one, or too large.
        """
        check_json(request.headers)
        return object_of(await request.read(self._limits.body_bytes))

    def _page_size(self, request: WebRequest) -> int:
        text = request.query.get("limit", "20")
        if not (text.isascii() and text.isdecimal() and len(text) < 5) or int(text) < 1:
            raise bad("limit is not a number from 1 on.")
        return min(int(text), self._limits.page)


def chat_id_of(request: WebRequest) -> str:
    """Return the conversation's id of a path.

    Raises:
        RefusedRequest: It cannot be one.
    """
    return checked_id(request.path["id"], "id")


async def opened_with(manager: ConversationManager, chat_id: str, node_id: str) -> Conversation:
    """Open a conversation with one of its turns.

    Raises:
        RefusedRequest: It has no such turn.
    """
    conversation = await manager.open(chat_id, path_only=True)
    try:
        await manager.load(conversation, node_id)
    except ConfigurationError:
        raise RefusedRequest(404, NO_ANSWER) from None
    return conversation


async def _files_so_far(manager: ConversationManager, turn_id: str) -> "list[FilePart]":
    """Return the files of an answer that is not complete."""
    async with manager.attach(turn_id) as reader:
        ended = [event.part for event in await reader.batch() if isinstance(event, PartEnd)]
    return [part for part in ended if isinstance(part, FilePart)]
