"""From what a page asks to a turn: where in the tree it goes, and which question it answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile

from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError, UnknownConversationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import FilePart
from dhenara_async.plans.targets import Target
from dhenara_async.tools.loop import calls_to_answer, decision_key
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.turns.turn import Turn
from dhenara_async.web.chat.history import loop_of, node_of_user_message
from dhenara_async.web.frames.call_names import key_named
from dhenara_async.web.inputs.fields import RefusedRequest
from dhenara_async.web.inputs.ui_chat import PageRequest

NO_ANSWER = "There is no such answer in this conversation."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AnswerBy(ShortRepr):
    """The target of an answer, and its options.

    Attributes:
        endpoint: The endpoint or plan.
        instructions: The app's instructions, which lead every turn.
        config: The options of the call; None = the manager's.
        run_tools: How the tools of the config are run; None = they are not.
    """

    endpoint: Target
    instructions: Sequence[str] = field(default=(), repr=False)
    config: AIModelCallConfig | None = None
    run_tools: ToolPolicy | None = None


class Branches:
    """The turns of one owner's conversation, as a page asks for them.

    Args:
        manager: The manager, confined to the owner.
        by: The target, and the options of the answer.
    """

    def __init__(self, manager: ConversationManager, by: AnswerBy) -> None:
        self._manager = manager
        self._by = by

    async def turn_for(self, request: PageRequest) -> Turn:
        """Return the turn that a page asks for, with a question or another answer; for decisions see ``decided``.

        Raises:
            RefusedRequest: It names a turn or a call that the conversation does not have.
            UnknownConversationError: There is no conversation to answer anew in.
        """
        if request.trigger == "regenerate-message":
            conversation = await self._opened(request.chat_id, request.message_id or request.after)
            return self.regenerate(conversation, await self._to_regenerate(conversation, request), request.turn_id)
        title = " ".join(request.text.split())
        conversation = await self._created(request.chat_id, request.after, title=title)
        if request.message_id is not None:
            edited = await self._to_edit(conversation, request)
            if edited is not None:
                return self.edit(conversation, edited, request.text, request.files, request.turn_id)
        await self._follow(conversation, request.after)
        return self._manager.turn(
            conversation,
            request.text,
            self._by.endpoint,
            instructions=self._by.instructions or None,
            files=request.files,
            config=self._by.config,
            run_tools=self._by.run_tools,
            turn_id=request.turn_id,
        )

    async def decided(self, request: PageRequest) -> Conversation:
        """Open the conversation whose calls a page decides about, with the answer that the page shows as its head."""
        conversation = await self._opened(request.chat_id, request.after)
        await self._follow(conversation, request.after)
        return conversation

    def resume(self, conversation: Conversation, decisions: Mapping[str, bool | str]) -> Turn:
        """Return the turn that goes on with a tool loop at the head, with the calls of the store.

        Raises:
            RefusedRequest: No call of the loop waits for such a decision.
        """
        by = self._by
        keyed = _by_key(conversation, decisions)
        try:
            return self._manager.resume(conversation, keyed, by.endpoint, config=by.config, run_tools=by.run_tools)
        except ConfigurationError:
            raise RefusedRequest(409, "No tool call waits for this approval any more.") from None

    def regenerate(self, conversation: Conversation, node_id: str, turn_id: str | None = None) -> Turn:
        """Return another answer to the question of a turn.

        Raises:
            RefusedRequest: The conversation does not have it.
        """
        if conversation.get(node_id) is None:
            raise RefusedRequest(404, NO_ANSWER)
        by = self._by
        return self._manager.regenerate(
            conversation,
            node_id,
            by.endpoint,
            instructions=by.instructions or None,
            config=by.config,
            run_tools=by.run_tools,
            turn_id=turn_id,
        )

    def edit(
        self,
        conversation: Conversation,
        node_id: str,
        text: str,
        files: Iterable[FilePart] | None,
        turn_id: str | None = None,
    ) -> Turn:
        """Return a turn with another question in place of a turn's; ``files`` None = those of that turn.

        Raises:
            RefusedRequest: The conversation does not have it.
        """
        if conversation.get(node_id) is None:
            raise RefusedRequest(404, NO_ANSWER)
        by = self._by
        return self._manager.edit(
            conversation,
            node_id,
            text,
            by.endpoint,
            instructions=by.instructions or None,
            files=files,
            config=by.config,
            run_tools=by.run_tools,
            turn_id=turn_id,
        )

    async def _created(self, chat_id: str, needed: str | None, *, title: str) -> Conversation:
        """Open the conversation of a page, which makes up its id with its first question."""
        try:
            return await self._opened(chat_id, needed)
        except UnknownConversationError:
            shown = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
            await self._manager.store.create(chat_id, title=shown or None)
            return await self._opened(chat_id, None)

    async def _opened(self, chat_id: str, needed: str | None) -> Conversation:
        """Open a conversation: the path to its head, or all of it if the page shows another branch."""
        conversation = await self._manager.open(chat_id, path_only=True)
        if needed is not None and conversation.get(needed) is None:
            await self._manager.load_all(conversation)
        return conversation

    async def _follow(self, conversation: Conversation, after: str | None) -> None:
        """Make the answer that the page shows the head of this copy; failed turns are passed over."""
        node = None if after is None else conversation.get(after)
        node = None if node is None else await self._end_of_loop(conversation, node)
        while node is not None and node.status == "failed":
            node = None if node.parent_id is None else conversation.get(node.parent_id)
        if node is not None:
            conversation.checkout(node.id)

    async def _end_of_loop(self, conversation: Conversation, node: ConversationNode) -> ConversationNode:
        """Return the last node of a tool loop, which a page knows by its first; ``node`` itself outside of a loop."""
        while node.loop_id is not None or (node.response is not None and calls_to_answer(node.response)):
            following = await self._next(conversation, node)
            if following is None or following.loop_id != loop_of(node):
                break
            node = following
        return node

    async def _next(self, conversation: Conversation, node: ConversationNode | None) -> ConversationNode | None:
        """Return the turn that follows another one on the way to the head, else the newest that follows it."""
        parent = None if node is None else node.id
        on_path = [follower for follower in conversation.path() if follower.parent_id == parent]
        return next(reversed(on_path or await self._manager.children(conversation, parent)), None)

    async def _next_shown(self, conversation: Conversation, after: str | None) -> ConversationNode | None:
        """Return the turn behind the answer that a page shows; ``after`` None = the first one."""
        before = None if after is None else conversation.get(after)
        if after is not None and before is None:
            return None
        return await self._next(conversation, before and await self._end_of_loop(conversation, before))

    async def _to_regenerate(self, conversation: Conversation, request: PageRequest) -> str:
        if request.message_id is not None:
            named = node_of_user_message(request.message_id)
            return request.message_id if named is None else named
        node = await self._next_shown(conversation, request.after)
        if node is None:
            raise RefusedRequest(404, NO_ANSWER)
        return node.id

    async def _to_edit(self, conversation: Conversation, request: PageRequest) -> str | None:
        """Return the id of the turn whose question was edited; None if it never became a turn.

        A page that has loaded its history from here names the turn. Otherwise the message has an id of the page's own,
        and its place says which turn it is: it follows the last answer before it.
        """
        named = None if request.message_id is None else node_of_user_message(request.message_id)
        if named is not None:
            if conversation.get(named) is None:
                await self._manager.load_all(conversation)
            if conversation.get(named) is not None:
                return named
        node = await self._next_shown(conversation, request.after)
        return None if node is None else node.id


def _by_key(conversation: Conversation, decisions: Mapping[str, bool | str]) -> dict[str, bool | str]:
    """Return what a page has decided by the keys that the store knows, from the ids that the page has.

    Calls without an id have one key if they call one function. They run only if the page allows each of them.

    Raises:
        RefusedRequest: Some of these calls are decided about, and others are not.
    """
    answers = [node.response for node in reversed(conversation.path()) if node.response is not None]
    keys = {decision_key(call) for answer in answers for call in calls_to_answer(answer)}
    keyed: dict[str, bool | str] = {}
    for name, decision in decisions.items():
        key = name if name in keys else key_named(name)
        keyed[key] = decision if keyed.get(key, True) is True else keyed[key]
    if answers:
        waiting = [decision_key(call) for call in calls_to_answer(answers[0])]
        for key in keyed:
            decided = sum(key in (name, key_named(name)) for name in decisions)
            if decided < waiting.count(key):
                raise RefusedRequest(409, "Some calls of one function have no ids: decide about all of them at once.")
    return keyed


def steps_after(conversation: Conversation, decisions: Iterable[str]) -> tuple[ConversationNode, ...]:
    """Return the steps on the path to the head that followed decisions, if the loop went on to its end; else none.

    Args:
        conversation: The conversation.
        decisions: The ids of the calls that are decided about.
    """
    path, keys = conversation.path(), set(decisions)
    for place in reversed(range(len(path) - 1)):
        answer = path[place].response
        if answer is None or keys.isdisjoint(map(decision_key, calls_to_answer(answer))):
            continue
        return _if_ended(tuple(takewhile(partial(_is_of, loop_of(path[place])), path[place + 1 :])))
    return ()


def _is_of(loop: str, node: ConversationNode) -> bool:
    return node.loop_id == loop


def _if_ended(steps: tuple[ConversationNode, ...]) -> tuple[ConversationNode, ...]:
    """Return steps whose last one has an answer that asks for nothing more; else none."""
    answer = steps[-1].response if steps and steps[0].tool_results and steps[-1].status == "complete" else None
    return () if answer is None or calls_to_answer(answer) else steps


_TITLE = 80
"""Characters of the first question that become the title of a conversation."""
