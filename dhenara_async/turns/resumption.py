"""``Resumption``: finds where a tool loop goes on that was cut, reached its limit, or waits for approval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from uuid import NAMESPACE_OID, uuid5

from dhenara_async.calls.loop_steps import StoredCalls
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import ToolCallPart
from dhenara_async.tools.loop import calls_to_answer, decision_key


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a loop goes on.

    Attributes:
        draft: The next turn as far as it is known.
        after: The node that the loop goes on from; None if its question is asked again.
        calls: The calls of that node; None = there is nothing to run.
    """

    draft: ConversationNode
    after: ConversationNode | None
    calls: StoredCalls | None

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.calls is not None and self.calls.over


@dataclass(frozen=True, slots=True)
class Resumption:
    """A request to go on with a loop.

    Attributes:
        conversation: Where the loop is.
        decisions: Decisions by the ids of calls.
    """

    conversation: Conversation
    decisions: Mapping[str, bool | str]

    def found(self) -> Resumed:
        """Return where the loop goes on, from the path to the head as it is now.

        Decisions about calls that have been answered already lead to the last node of that loop, with nothing to run.

        Raises:
            ConfigurationError: No call of the path has such an id, or the conversation went on without the results.
        """
        path = self.conversation.path()
        if not path:
            raise ConfigurationError("the conversation is empty: there is nothing to resume")
        place = self._place(path)
        node = path[place]
        if node.status == "interrupted" and place == len(path) - 1:
            before = path[place - 1] if place else None
            if before is not None and _asks_nothing(node) and _calls(before):
                return Resumed(_next(before), before, StoredCalls(_calls(before), dict(self.decisions)))
            return Resumed(_again(node), None, None)
        if place == len(path) - 1:
            calls = _calls(node)
            stored = StoredCalls(calls, dict(self.decisions)) if calls else StoredCalls((), {}, over=True)
            return Resumed(_next(node), node, stored)
        follower = path[place + 1]
        if place + 2 == len(path) and follower.status == "interrupted" and _asks_nothing(follower):
            # the process that had these decisions was killed before its node could have the results
            return Resumed(_next(node), node, StoredCalls(_calls(node), dict(self.decisions)))
        if not follower.tool_results:
            raise ConfigurationError(
                f"the conversation went on from node {node.id!r} without the results of its calls: write "
                f"await manager.checkout(conversation, {node.id!r}) first"
            )
        last = place + 1
        while last + 1 < len(path) and path[last + 1].loop_id == follower.loop_id:
            last += 1
        if last == len(path) - 1 and path[last].status == "interrupted":
            return Resumption(self.conversation, {}).found()
        return Resumed(_next(path[last]), path[last], StoredCalls((), {}, over=True))

    def turn_id(self, resumed: Resumed) -> str | None:
        """Return the id that every process gives to the turn of these decisions; None = it is no turn of decisions.

        The same decisions that are brought to two processes at once so are the same turn, whose calls run once.
        """
        if not self.decisions or resumed.over or resumed.after is None:
            return None
        after = resumed.after.id
        values = (self.conversation.id, after, self.conversation.children_count(after), sorted(self.decisions.items()))
        return uuid5(NAMESPACE_OID, repr(values)).hex

    def _place(self, path: tuple[ConversationNode, ...]) -> int:
        """Return the place of the newest node with one of the calls that are decided about, else of the head."""
        if not self.decisions:
            return len(path) - 1
        unknown = set(self.decisions)
        newest: int | None = None
        for place in reversed(range(len(path))):
            keys = set(map(decision_key, _calls(path[place])))
            if newest is None and keys & unknown:
                newest = place
            unknown -= keys
            if not unknown:
                break
        if newest is None or unknown:
            waiting = ", ".join(map(decision_key, _calls(path[-1]))) or "none"
            raise ConfigurationError(
                f"no call on the path to the head has the id {sorted(unknown)[0]!r}; the calls of the head: {waiting}"
            )
        return newest


def _calls(node: ConversationNode) -> tuple[ToolCallPart, ...]:
    return () if node.response is None or node.status != "complete" else calls_to_answer(node.response)


def _asks_nothing(node: ConversationNode) -> bool:
    """Whether a turn was begun for the results of calls, and cut before it had them."""
    return not (node.tool_results or node.user_query or node.attached_files)


def _next(node: ConversationNode) -> ConversationNode:
    """Return the turn behind ``node``, which has its instructions and metadata and belongs to its loop."""
    return ConversationNode(
        parent_id=node.id,
        instructions=node.instructions,
        loop_id=node.loop_id or node.id,
        metadata=node.metadata,
    )


def _again(node: ConversationNode) -> ConversationNode:
    """Return the turn that asks the question of an interrupted one again, beside it."""
    return ConversationNode(
        parent_id=node.parent_id,
        user_query=node.user_query,
        attached_files=node.files_to_ask_again(),
        order=node.order,
        tool_results=node.tool_results,
        instructions=node.instructions,
        loop_id=node.loop_id or node.id,
        metadata=node.metadata,
    )


def check_decisions(given: object) -> None:
    """Refuse decisions that are not a mapping from ids to True, False or a reason.

    Raises:
        ConfigurationError: They are something else.
    """
    if isinstance(given, Mapping):
        decisions = cast("Mapping[object, object]", given)
        if all(isinstance(key, str) and isinstance(value, bool | str) for key, value in decisions.items()):
            return
    raise ConfigurationError("decisions are True, False or a reason by the id of a call: {call.call_id: True}")
