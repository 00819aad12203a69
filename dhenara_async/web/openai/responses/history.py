"""From the items of a request to turns, with our own answers in place of those that the client sends back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from dhenara_async.conversation import Conversation, ConversationNode, question_order
from dhenara_async.endpoint import AIModelEndpoint, Dialect
from dhenara_async.errors import ConfigurationError, UnknownConversationError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import ShortRepr
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import (
    FilePart,
    Message,
    Origin,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.plans.targets import Target
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.web.chat.deleted import is_deleted
from dhenara_async.web.inputs.fields import bad
from dhenara_async.web.openai.responses.ids import TurnPlace, place_of, response_id
from dhenara_async.web.openai.responses.input_items import GivenItem
from dhenara_async.web.openai.responses.items import call_ids
from dhenara_async.web.openai.responses.records import GIVEN
from dhenara_async.web.openai.sent_history import with_own_calls

SeenCalls = dict[str, ToolCallPart]
"""SeenCalls of our own answers, by the ids that a client knows them by."""


@dataclass(frozen=True, slots=True, repr=False)
class GivenMessage(ShortRepr):
    """A message of a request.

    Attributes:
        message: The message, our own in place of an answer that we know.
        place: The turn of that answer; None if it is not one of ours.
    """

    message: Message
    place: TurnPlace | None = None


@dataclass(frozen=True, slots=True, repr=False)
class GivenTurn(ShortRepr):
    """A question of a request, and its answer.

    Attributes:
        query: The question's text.
        files: Its files.
        results: The results of the calls of the answer before.
        order: The order of the question's texts and files, as its node has it.
        answer: The answer; None for the question that is asked.
    """

    query: str = field(repr=False)
    files: tuple[FilePart, ...] = field(repr=False)
    results: tuple[ToolResultPart, ...] = field(repr=False)
    answer: GivenMessage | None = None
    order: tuple[int, ...] | None = None

    def as_node(self, parent: str | None) -> ConversationNode:
        """Return it as a finished turn. Its id follows from its words and its place, so that it is kept once there."""
        parts = () if self.answer is None else self.answer.message.parts
        choice = Choice(parts=tuple(parts), finish_reason=FinishReason.STOP)
        return ConversationNode(
            id=self.id_behind(parent),
            parent_id=parent,
            user_query=self.query,
            order=self.order,
            attached_files=self.files,
            tool_results=self.results,
            response=ChatResponse(choices=(choice,), model="", provider="") if parts else None,
            metadata=GIVEN,
        )

    def id_behind(self, parent: str | None) -> str:
        """Return the id of its node behind another one: it follows from what a client shows, without ids of calls."""
        files = [sha256(name).hexdigest() if isinstance(name := _named(file), bytes) else name for file in self.files]
        said = [] if self.answer is None else _words(self.answer.message.parts)
        shown = [parent, self.query, files, [result.get_text() for result in self.results], said]
        return sha256(dumps(shown)).hexdigest()[:32]

    def is_that_of(self, node: ConversationNode) -> bool:
        """Whether a node has the same question and answer, and results of the same calls."""
        ids = [result.call_id for result in self.results]
        return self.shows(node) and ids == [result.call_id for result in node.tool_results]

    def shows(self, node: ConversationNode) -> bool:
        """Whether a node has the same question and answer, as a client shows them: calls may have other ids."""
        return (
            self.answer is not None
            and self.query == node.user_query
            and [_named(file) for file in self.files] == [_named(file) for file in node.attached_files]
            and [result.get_text() for result in self.results] == [result.get_text() for result in node.tool_results]
            and node.response is not None
            and _words(self.answer.message.parts) == _words(node.response.choices[0].parts)
        )


class OwnAnswers:
    """Finds the answers of one owner that a request sends back or refers to, except for those of deleted responses.

    Args:
        manager: The manager, confined to the owner.
    """

    def __init__(self, manager: ConversationManager) -> None:
        self._manager = manager
        self._opened: dict[str, Conversation] = {}
        self._deleted: dict[TurnPlace, bool] = {}

    async def found(self, place: TurnPlace) -> ConversationNode | None:
        """Return the node of a turn that has ended; None if the owner has none."""
        conversation = await self.conversation(place)
        return None if conversation is None else conversation.get(place.node)

    async def conversation(self, place: TurnPlace) -> Conversation | None:
        """Return the conversation of a turn that has ended, with the turns before it; None if the owner has none."""
        conversation = self._opened.get(place.conversation)
        try:
            if conversation is None:
                conversation = await self._manager.open(place.conversation, path_only=True)
                self._opened[place.conversation] = conversation
            await self._manager.load(conversation, place.node)
            if place not in self._deleted:
                self._deleted[place] = await is_deleted(self._manager, conversation, place.node)
        except (ConfigurationError, UnknownConversationError):
            return None
        return None if self._deleted[place] else conversation

    async def in_place(self, items: Iterable[GivenItem], calls: SeenCalls) -> list[GivenMessage]:
        """Return the messages of a request with our own in place of the answers that are found by their ids.

        Args:
            items: The messages as they were sent.
            calls: Gets the calls of these answers; it may have those of the answer before.

        Raises:
            RefusedRequest: An item is referred to that the owner does not have.
        """
        return [await self._in_place(item, calls) for item in items]

    async def _in_place(self, item: GivenItem, calls: SeenCalls) -> GivenMessage:
        message = item.message
        if message.role is not Role.ASSISTANT:
            return GivenMessage(with_own_calls(message, calls))
        for name in dict.fromkeys(reversed(item.responses)):
            place = place_of(name)
            node = None if place is None else await self.found(place)
            if place is None or node is None or node.response is None:
                continue
            own = node.as_messages()[-1]
            if own.role is Role.ASSISTANT and (item.referred or _words(own.parts) == _words(message.parts)):
                calls.update(calls_of(place, node))
                return GivenMessage(own, place)
        if item.referred:
            raise bad("input refers to an item that is not kept here.")
        return GivenMessage(message)


def calls_of(place: TurnPlace, node: ConversationNode) -> SeenCalls:
    """Return the calls of a turn's answer, by the ids that clients know them by."""
    return {} if node.response is None else dict(call_ids(response_id(place), node.response.choices[0].parts))


def turns_of(messages: Sequence[GivenMessage]) -> list[GivenTurn]:
    """Return messages as turns: each question is what came since the answer before."""
    turns: list[GivenTurn] = []
    asked: list[Part] = []
    for given in messages:
        if given.message.role is Role.ASSISTANT:
            turns.append(replace(_question(asked), answer=given))
            asked = []
        else:
            asked += given.message.parts
    return [*turns, _question(asked)] if asked else turns


def _question(parts: Sequence[Part]) -> GivenTurn:
    query, order = question_order(parts)
    files = tuple(part for part in parts if isinstance(part, FilePart))
    results = tuple(part for part in parts if isinstance(part, ToolResultPart))
    return GivenTurn(query, files, results, order=order)


def sealed_for(target: Target, messages: Iterable[GivenMessage]) -> list[GivenMessage]:
    """Return messages with encrypted reasoning as it was given, if it goes to a model of the same API; else without.

    Args:
        target: The target.
        messages: The messages.
    """
    origin = expected_origin(target) if isinstance(target, AIModelEndpoint) else None
    if origin is not None and origin.dialect != Dialect.OPENAI_RESPONSES:
        origin = None
    return [replace(given, message=_sealed(given.message, origin)) for given in messages]


def _sealed(message: Message, origin: Origin | None) -> Message:
    def sealed(part: Part) -> Part:
        if not isinstance(part, ReasoningPart) or part.origin is not None or part.provider_state is None:
            return part
        return part.changed(provider_state=None) if origin is None else part.changed(origin=origin)

    parts = tuple(map(sealed, message.parts))
    return (
        message
        if all(new is old for new, old in zip(parts, message.parts, strict=True))
        else message.changed(parts=parts)
    )


def _words(parts: Iterable[Part]) -> list[object]:
    """Return what a client shows of an answer and sends back: its words, then its calls."""
    said = "".join(part.text for part in parts if isinstance(part, TextPart | RefusalPart)).strip()
    return [said, *((part.name, part.arguments.strip() or "{}") for part in parts if isinstance(part, ToolCallPart))]


def _named(file: FilePart) -> object:
    return file.data or file.url or file.file_id
