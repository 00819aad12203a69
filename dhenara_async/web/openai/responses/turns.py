"""``ResponseTurns``: from a request for a response to a turn, in a conversation of its owner or kept nowhere.

A request follows the response that it names, or the head of the conversation that it names. Without either, a history
that ends with an answer of ours, behind the same turns as ours, follows that answer too; any other history begins a
conversation of its own, with the answers as they were sent. Where the history has no ids, our answers are known by
their words. Such a history follows them only in a conversation that began with one: others belong to clients that name
what they follow, and may have the same words by chance. So the first such request begins a conversation with a copy of
the answers, and the next ones go on in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import cast
from uuid import uuid4

from pydantic import JsonValue

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import DhenaraError
from dhenara_async.frozen import ShortRepr
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import ToolResultPart
from dhenara_async.plans.targets import Target
from dhenara_async.turns.turn import Turn
from dhenara_async.web.chat.deleted import has_node, is_deleted
from dhenara_async.web.inputs.fields import bad
from dhenara_async.web.openai.chat.input import CompletionRequest
from dhenara_async.web.openai.errors import OpenAIError, OpenAIRefusal
from dhenara_async.web.openai.known_answers import KnownAnswers, factory_of
from dhenara_async.web.openai.responses.feeds import Discard, keep_all
from dhenara_async.web.openai.responses.history import (
    GivenMessage,
    GivenTurn,
    OwnAnswers,
    SeenCalls,
    calls_of,
    sealed_for,
    turns_of,
)
from dhenara_async.web.openai.responses.ids import TurnPlace, unkept_response_id
from dhenara_async.web.openai.responses.input import ResponseRequest
from dhenara_async.web.openai.responses.kept_responses import KeptResponses
from dhenara_async.web.openai.responses.object import ResponseHead
from dhenara_async.web.openai.responses.recognition import AnswersByWords
from dhenara_async.web.openai.responses.records import is_given, metadata_of, record_of, system_of
from dhenara_async.web.openai.sent_history import SOURCE, SentHistory

_NO_PREVIOUS = OpenAIError(
    400, "There is no previous response of that id.", "previous_response_not_found", "previous_response_id"
)
_RUNNING = OpenAIError(
    400, "The previous response is still being answered: wait for its end.", None, "previous_response_id"
)
_FAILED = OpenAIError(
    400, "The previous response failed and has no answer: follow the one before it.", None, "previous_response_id"
)
_NO_CALL = OpenAIError(400, "No tool call is found for one of the function call outputs.", None, "input")
_TITLE = 80


@dataclass(frozen=True, slots=True, repr=False)
class KeptTurn(ShortRepr):
    """A turn that answers a request.

    Attributes:
        turn: The turn; its block was not entered.
        place: Where it is.
        head: The fields that the response has from its beginning.
        discard: Removes its conversation, if that was made for it.
    """

    turn: Turn
    place: TurnPlace
    head: ResponseHead
    discard: Discard


@dataclass(frozen=True, slots=True, repr=False)
class _Followed(ShortRepr):
    """The turn that a request follows; ``by_words`` if its answers are known by their words alone."""

    conversation: Conversation | None = None
    response: str | None = None
    path: tuple[ConversationNode, ...] = ()
    by_words: bool = False


class ResponseTurns:
    """Makes the turns of one owner's responses.

    Args:
        manager: The manager, confined to the owner.
        known: Recognises answers by their words, for requests that are not to be kept.
        owner: The owner.
    """

    def __init__(self, manager: ConversationManager, known: KnownAnswers, owner: str) -> None:
        self._manager = manager
        self._known = known
        self._owner = owner
        self._own = OwnAnswers(manager)

    async def kept(self, asked: ResponseRequest, target: Target) -> KeptTurn:
        """Return the turn that answers a request.

        Raises:
            RefusedRequest: It names what the owner does not have, or asks nothing.
            DhenaraError: The turn cannot be made.
        """
        followed, messages = await self._followed(asked, target)
        turns = turns_of(messages)
        if not turns or turns[-1].answer is not None:
            raise bad("input ends with an answer: nothing is asked.")
        if followed.conversation is None:
            followed, turns = await self._recognised(followed, turns)
        else:
            _check_results(followed, turns)
        conversation, discard = followed.conversation, keep_all
        if conversation is None:
            conversation, discard = await self._created(turns)
        try:
            if len(turns) > 1:
                conversation = await self._with_history(conversation, turns[:-1])
            turn, head = self._turn(asked, target, followed, conversation, turns)
        except DhenaraError:
            await discard()
            raise
        return KeptTurn(turn, TurnPlace(conversation.id, turn.id), head, discard)

    def _turn(
        self,
        asked: ResponseRequest,
        target: Target,
        followed: _Followed,
        conversation: Conversation,
        turns: Sequence[GivenTurn],
    ) -> tuple[Turn, ResponseHead]:
        metadata = metadata_of(asked, created_at=int(time()), previous=followed.response, history=len(turns) - 1)
        question = turns[-1]
        factory = factory_of(self._manager)
        led = _instructions(asked, followed)
        draft, _ = factory.drafted(conversation, question.query, led, question.files, question.results)
        draft = draft.changed(metadata=cast("dict[str, JsonValue]", metadata), order=question.order)
        turn = factory.turn(conversation, draft, target, asked.config, stream=True)
        return turn, record_of(TurnPlace(conversation.id, turn.id), draft).head

    async def unkept(self, asked: ResponseRequest, target: Target) -> tuple[Turn, ResponseHead]:
        """Return the turn that answers a request without being kept, and what names the response.

        Raises:
            RefusedRequest: It names what the owner does not have, or asks nothing.
            DhenaraError: The turn cannot be made.
        """
        followed, given = await self._followed(asked, target)
        before = [message for node in followed.path for message in node.as_messages()]
        request = CompletionRequest(
            model=asked.model,
            instructions=tuple(_instructions(asked, followed) or ()),
            messages=(*before, *(each.message for each in given)),
            config=asked.config,
            streamed=asked.streamed,
            include_usage=False,
            kept=False,
        )
        # an answer that is begun again leaves no words of the first one: clients keep what the last event has
        sent = SentHistory(self._owner, request.messages)
        turn = await self._known.turn(request, sent, target, lambda: "")
        head = ResponseHead(
            id=unkept_response_id(),
            created_at=int(time()),
            model=asked.model,
            previous_response_id=followed.response,
            store=False,
            instructions=asked.instructions,
            metadata=asked.metadata,
            echo=asked.echo,
        )
        return turn, head

    # ------------------------------------------------------------------------------------------------ what came before

    async def _followed(self, asked: ResponseRequest, target: Target) -> tuple[_Followed, list[GivenMessage]]:
        """Return what a request names, and its messages with our own answers among them."""
        calls: SeenCalls = {}
        followed = _Followed()
        if asked.previous is not None:
            followed = await self._previous(asked.previous, calls)
        elif asked.conversation is not None:
            conversation = await self._open_end(asked.conversation)
            followed = _Followed(conversation, None, conversation.path())
            head = conversation.head
            if head is not None:
                calls.update(calls_of(TurnPlace(conversation.id, head.id), head))
        items = asked.items
        if followed.conversation is None:
            items = await AnswersByWords(self._manager, self._own).with_ids(items)
            followed = _Followed(by_words=items is not asked.items)
        return followed, sealed_for(target, await self._own.in_place(items, calls))

    async def _open_end(self, name: str) -> Conversation:
        """Return a conversation with its last response as the head.

        Deleted responses at its end are passed over, and so are turns that came with a request whose call has failed:
        nobody has asked anything behind them, and the client sends them again.
        """
        conversation = await self._manager.open(name, path_only=True)
        for node in reversed(conversation.path()):
            if not is_given(node) and not await is_deleted(self._manager, conversation, node.id):
                conversation.checkout(node.id)
                return conversation
        return Conversation(conversation.id, instructions=conversation.instructions)

    async def _previous(self, response: str, calls: SeenCalls) -> _Followed:
        try:
            found = await KeptResponses(self._manager).find(response)
        except OpenAIRefusal:
            raise OpenAIRefusal(_NO_PREVIOUS) from None
        if found.conversation is None:
            raise OpenAIRefusal(_RUNNING)
        if found.node.status == "failed":
            raise OpenAIRefusal(_FAILED)
        found.conversation.checkout(found.node.id)  # of this object: the head of the stored one is nobody else's matter
        calls.update(calls_of(found.place, found.node))
        return _Followed(found.conversation, response, found.conversation.path())

    async def _recognised(
        self, followed: _Followed, turns: Sequence[GivenTurn]
    ) -> tuple[_Followed, Sequence[GivenTurn]]:
        """Follow the last answer of ours in a history, if everything before it is as it was here."""
        for at in range(len(turns) - 1, -1, -1):
            answer = turns[at].answer
            place = None if answer is None else answer.place
            conversation = None if place is None else await self._own.conversation(place)
            if place is None or conversation is None:
                continue
            path = conversation.path(place.node)
            if len(path) != at + 1 or not all(turn.is_that_of(node) for turn, node in zip(turns, path, strict=False)):
                return followed, turns
            if followed.by_words and not is_given(path[0]):
                return followed, turns
            conversation.checkout(place.node)
            return _Followed(conversation), turns[at + 1 :]
        return followed, turns

    async def _created(self, turns: Sequence[GivenTurn]) -> tuple[Conversation, Discard]:
        """Begin a conversation, with the beginning of its first question as its title."""
        title = " ".join(turns[0].query.split())
        title = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
        conversation = await self._manager.create(title=title or None, metadata=SOURCE)

        async def discard() -> None:
            await self._manager.delete(conversation.id)

        return conversation, discard

    async def _with_history(self, conversation: Conversation, turns: Sequence[GivenTurn]) -> Conversation:
        """Put turns that came with a request behind the head; those that an earlier try has put there stay."""
        head = conversation.head
        parent = None if head is None else head.id
        for turn in turns:
            node = turn.as_node(parent)
            try:
                await self._manager.store.append(conversation.id, node)
            except ValueError:
                if not await has_node(self._manager, conversation, node.id):
                    raise
                kept = await self._manager.load(conversation, node.id)
                if not turn.is_that_of(kept) or _call_ids(kept) != _call_ids(node):
                    node = node.changed(id=uuid4().hex)
                    await self._manager.store.append(conversation.id, node)
            parent = node.id
        opened = await self._manager.open(conversation.id, path_only=True)
        if parent is not None:
            await self._manager.load(opened, parent)
            opened.checkout(parent)
        return opened


def _instructions(asked: ResponseRequest, followed: _Followed) -> list[str] | None:
    """Return what leads a turn; None = the standing instructions of the app."""
    own = [] if asked.instructions is None else [asked.instructions]
    return [*own, *system_of(followed.path), *asked.system] or None


def _call_ids(node: ConversationNode) -> list[str]:
    return [] if node.response is None else [call.call_id for call in node.response.tools()]


def _check_results(followed: _Followed, turns: Sequence[GivenTurn]) -> None:
    """Refuse results that no call of the answer before has asked for."""
    head = None if followed.conversation is None else followed.conversation.head
    answer = None if head is None else head.response
    asked = [] if answer is None else [call.call_id for call in answer.tools()]
    results: Sequence[ToolResultPart] = turns[0].results
    if any(result.call_id not in asked for result in results):
        raise OpenAIRefusal(_NO_CALL)
