"""``Asking``: begins turns that go on without their page, several beside each other from the same question, and goes on
with tool loops that a person has decided about."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError, DhenaraError, UnknownConversationError
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import FilePart, ToolResultPart
from dhenara_async.tools.loop import calls_to_answer, decision_key
from dhenara_async.turns.turn import Turn
from dhenara_async.web.chat.branches import NO_ANSWER, AnswerBy
from dhenara_async.web.chat.deleted import is_deleted
from dhenara_async.web.chat.history import Json
from dhenara_async.web.inputs.fields import RefusedRequest, bad, demanded
from dhenara_async.web.playground.catalogue import MODEL
from dhenara_async.web.playground.inputs import Ask, ResumeRequest, TurnsRequest
from dhenara_async.web.playground.waiting import calls_left, goes_on

_DECIDED = "These calls were decided already, in another window or by another person."
_TITLE = 80
"""Characters of the first question that become the title of a conversation."""


class Asking:
    """Begins the turns of one owner.

    Args:
        manager: The manager, confined to the owner.
        answer_by: Returns the target by the name of a model; raises ``RefusedRequest`` if there is none of it.
        error_of: Returns an error in words.
        name_of: Returns the name of the model that answered a turn; None if it is none of the app's.
    """

    def __init__(
        self,
        manager: ConversationManager,
        answer_by: Callable[[str], AnswerBy],
        error_of: Callable[[BaseException], Json],
        name_of: Callable[[ConversationNode], str | None],
    ) -> None:
        self._manager = manager
        self._answer_by = answer_by
        self._error_of = error_of
        self._name_of = name_of

    async def begin(self, chat_id: str, asked: TurnsRequest) -> list[Json]:
        """Begin the turns, and return each with the error that kept it from beginning, if one did.

        Such a turn leaves a failed node, so that it is there after a reload as well.

        Raises:
            RefusedRequest: A model or a turn is not there; nothing was begun.
            UnknownConversationError: There is no conversation to ask again in.
        """
        targets = [(ask, self._answer_by(ask.model)) for ask in asked.asks]
        begun: list[Json] = []
        for ask, by in targets:
            # opened anew for each: a turn that has ended already is the head of the object that it was begun on
            question = await self._question(chat_id, asked)
            told: Json = {"turnId": ask.turn_id, "model": ask.model}
            try:
                async with self._turn(question, ask, by) as turn:
                    turn.detach()
            except UnknownConversationError:
                raise
            except DhenaraError as exc:
                told["error"] = self._error_of(exc)
                await self._leave_failed(question, ask, exc)
            begun.append(told)
        return begun

    async def resume(self, chat_id: str, asked: ResumeRequest) -> list[Json]:
        """Go on with a tool loop, and return its turn with the error that kept it from beginning, if one did.

        Of two requests that decide about the same calls, the first one counts, and the other one is refused.

        Raises:
            RefusedRequest: The turn is not there, has no such calls, or they are decided.
            UnknownConversationError: There is no such conversation.
        """
        manager = self._manager
        conversation = await manager.open(chat_id, path_only=True)
        node = await _load(manager, conversation, asked.node_id)
        left = await calls_left(manager, conversation, node)
        if left is None or node.response is None:
            raise RefusedRequest(409, "This turn does not wait for a decision.")
        if set(asked.decisions) - set(map(decision_key, calls_to_answer(node.response))):
            raise bad("decisions has a call that this turn does not have.")
        waits = set(map(decision_key, left.calls))
        if await goes_on(manager, chat_id, node) or (asked.decisions and not waits & set(asked.decisions)):
            raise RefusedRequest(409, _DECIDED)
        name = asked.model or self._name_of(node)
        by = self._answer_by(demanded(name, "model"))
        told: Json = {"turnId": None, "model": name, "parentId": node.id}
        try:
            turn = manager.resume(
                _at(conversation, node.id),
                asked.decisions,
                by.endpoint,
                config=by.config,
                run_tools=by.run_tools,
                metadata={MODEL: name},
            )
            async with turn:
                if await goes_on(manager, chat_id, node, turn.id):  # it began between the look above and this turn
                    raise RefusedRequest(409, _DECIDED)
                turn.detach()
            told["turnId"] = turn.id
        except UnknownConversationError:
            raise
        except DhenaraError as exc:
            told["error"] = self._error_of(exc)
        return [told]

    async def _question(self, chat_id: str, asked: TurnsRequest) -> "_PlacedQuestion":
        """Return what is asked, and where: behind a turn, or beside one."""
        if asked.kind == "ask":
            conversation = await following(self._manager, chat_id, asked.parent_id, title=asked.text)
            return _PlacedQuestion(conversation, asked.text, asked.files or ())
        conversation = await self._manager.open(chat_id, path_only=True)
        other = await _load(self._manager, conversation, asked.node_id)
        if await is_deleted(self._manager, conversation, other.id):
            raise RefusedRequest(404, NO_ANSWER)
        return _PlacedQuestion(
            _at(conversation, other.parent_id),
            other.user_query if asked.kind == "regenerate" else asked.text,
            other.files_to_ask_again() if asked.files is None else asked.files,
            other.tool_results,
            other.instructions,
        )

    def _turn(self, question: "_PlacedQuestion", ask: Ask, by: AnswerBy) -> Turn:
        return self._manager.turn(
            question.conversation,
            question.text,
            by.endpoint,
            instructions=by.instructions or question.instructions,
            files=question.files,
            tool_results=question.tool_results,
            config=by.config,
            run_tools=by.run_tools,
            turn_id=ask.turn_id,
            beside=True,
            metadata={MODEL: ask.model},
        )

    async def _leave_failed(self, question: "_PlacedQuestion", ask: Ask, error: DhenaraError) -> None:
        """Keep a turn that could not begin, unless it exists already."""
        head = question.conversation.head
        node = ConversationNode(
            id=ask.turn_id,
            parent_id=None if head is None else head.id,
            user_query=question.text,
            attached_files=question.files,
            tool_results=question.tool_results,
            instructions=question.instructions or (),
            metadata={MODEL: ask.model},
            status="failed",
            error=f"{type(error).__name__}: {error}",
            attempts=0,
        )
        with suppress(ValueError, DhenaraError):  # the words are in the reply at any rate
            await self._manager.store.append(question.conversation.id, node)


@dataclass(frozen=True, slots=True)
class _PlacedQuestion:
    """The questions of turns, and the conversation whose head they follow."""

    conversation: Conversation
    text: str
    files: Sequence[FilePart]
    tool_results: Sequence[ToolResultPart] = ()
    instructions: Sequence[str] | None = None


async def following(
    manager: ConversationManager, chat_id: str, parent_id: str | None, *, title: str | None = None
) -> Conversation:
    """Return a conversation with a turn as its head, so that the next turn follows that.

    Args:
        manager: The manager of the owner.
        chat_id: The conversation.
        parent_id: The turn, or a failed one that follows it; None = the next turn is a first one.
        title: The words that a conversation which does not exist is created with, shortened; None = it is not created.

    Raises:
        RefusedRequest: The conversation has no such turn.
    """
    try:
        conversation = await manager.open(chat_id, path_only=True)
    except UnknownConversationError:
        if parent_id is not None:
            raise RefusedRequest(404, NO_ANSWER) from None
        if title is None:
            return Conversation(chat_id)
        words = " ".join(title.split())
        shown = words if len(words) <= _TITLE else words[: _TITLE - 1] + "…"
        await manager.store.create(chat_id, title=shown or None)
        return await manager.open(chat_id, path_only=True)
    node = None if parent_id is None else await _load(manager, conversation, parent_id)
    while node is not None and node.status == "failed":  # it has no answer to go on from
        node = None if node.parent_id is None else conversation.get(node.parent_id)
    return _at(conversation, None if node is None else node.id)


def _at(conversation: Conversation, node_id: str | None) -> Conversation:
    """Return the conversation with a loaded turn as its head; None = without a head."""
    if node_id is None:  # an object without turns has none
        return Conversation(conversation.id, instructions=conversation.instructions)
    conversation.checkout(node_id)
    return conversation


async def _load(manager: ConversationManager, conversation: Conversation, node_id: str) -> ConversationNode:
    """Load a turn, and return it.

    Raises:
        RefusedRequest: The conversation does not have it.
    """
    try:
        return await manager.load(conversation, node_id)
    except ConfigurationError:
        raise RefusedRequest(404, NO_ANSWER) from None
