"""``TurnFactory``: makes the turns of a manager's conversations, with their history, queue, budgets and journal."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Self
from uuid import uuid4
from weakref import WeakKeyDictionary

from pydantic import JsonValue

from dhenara_async.calls.checks import check_config, check_conversation, check_query, check_several
from dhenara_async.calls.input import CallInput, History
from dhenara_async.calls.shared import SharedResources
from dhenara_async.client import AIModelClient, messages_of
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode, question
from dhenara_async.errors import BudgetError, ConfigurationError
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.formatter.window import ConversationPolicy
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.attachments import Attached, Attachment
from dhenara_async.messages.messages import Message, ToolResultPart
from dhenara_async.plans.targets import Target, endpoints, target_of
from dhenara_async.stores import ConversationStore
from dhenara_async.stores.signing import SigningKeys
from dhenara_async.tools.policy import ToolPolicy, check_policy, leave_pending
from dhenara_async.transport import Transport
from dhenara_async.turns.live import LiveTurns
from dhenara_async.turns.loading import load_node, node_of
from dhenara_async.turns.log import Journal
from dhenara_async.turns.loop import LoopTools, Path, TurnLoop
from dhenara_async.turns.opener import TurnOpener
from dhenara_async.turns.queue import TurnQueue
from dhenara_async.turns.results import ToolResults
from dhenara_async.turns.resumption import Resumption, check_decisions
from dhenara_async.turns.sent import AnswerKeeper, SentTurn
from dhenara_async.turns.turn import LoadDraft, Turn
from dhenara_async.usage.budget import Budget, Reservation, Spending

_LOOPS = 1_000
"""Number of the newest loops whose policies are remembered."""

_LoopKey = tuple[str | None, str, str]
"""The owner, the conversation and the id of a loop."""


class TurnFactory:
    """Makes the turns of a manager's conversations.

    Args:
        store: Keeps the nodes of the turns.
        config: Options of turns without a config of their own.
        instructions: The standing instructions of conversations without instructions of their own.
        policy: The conversion policy for content of other models.
        window: The part of a conversation that is sent to a model; None = everything.
        transport: The connections of all calls; None = each call opens and closes its own.
        shared: Limits and observers of all calls.
        budget: The budget of all turns together; None = no limit.
        conversation_budget: The budget of the turns of each conversation; None = no limit.
        signing: The keys that sign nodes; None = nodes are not signed.
        journal: Keeps the turns for readers; None = no reader can attach to them.

    Attributes:
        live: The turns that readers can attach to; None = no reader can.
        spending: The sum of all turns; None without a budget.
        owner: The owner of the conversations; None = conversations without an owner.
    """

    def __init__(
        self,
        store: ConversationStore,
        *,
        config: AIModelCallConfig,
        instructions: tuple[str, ...],
        policy: ConversionPolicy | None,
        window: ConversationPolicy | None,
        transport: Transport | None,
        shared: SharedResources,
        budget: Budget | None,
        conversation_budget: Budget | None,
        signing: SigningKeys | None,
        journal: Journal | None,
    ) -> None:
        self.store = store
        self.owner: str | None = None
        self.config = config
        self.instructions = instructions
        self.policy = policy
        self.window = window
        self.signing = signing
        self.live: LiveTurns | None = None if journal is None else LiveTurns(journal, store, signing)
        self._calls = _CallResources(transport, shared)
        self.spending: Spending | None = None if budget is None else Spending(budget, whose="manager")
        self._conversation_budget = conversation_budget
        self._spendings: WeakKeyDictionary[Conversation, Spending] = WeakKeyDictionary()
        self._queues: WeakKeyDictionary[Conversation, TurnQueue] = WeakKeyDictionary()
        self._summaries: WeakKeyDictionary[Conversation, dict[str, str]] = WeakKeyDictionary()
        self._results = ToolResults(store)
        self._loops: OrderedDict[_LoopKey, tuple[ToolPolicy, AIModelCallConfig]] = OrderedDict()

    @property
    def transport(self) -> Transport | None:
        """The connections of all calls; None = each call opens and closes its own. Set for every owner at once."""
        return self._calls.transport

    @transport.setter
    def transport(self, transport: Transport | None) -> None:
        self._calls.transport = transport

    @property
    def shared(self) -> SharedResources:
        """Limits, observers and servers of tools of all calls. Set for every owner at once."""
        return self._calls.shared

    @shared.setter
    def shared(self, shared: SharedResources) -> None:
        self._calls.shared = shared

    def scoped(self, store: ConversationStore, owner: str | None) -> Self:
        """Return this factory for the conversations of one owner; budgets, queues and connections are shared."""
        scoped = copy(self)
        scoped.store, scoped.owner, scoped._results = store, owner, ToolResults(store)
        return scoped

    def turn(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        endpoint: Target | str,
        config: AIModelCallConfig,
        *,
        stream: bool,
        ends_with_reader: bool = False,
        path: tuple[ConversationNode, ...] | None = None,
        unread: Attached | None = None,
        load: LoadDraft | None = None,
        run_tools: ToolPolicy | None = None,
    ) -> Turn:
        """Return the turn that answers ``draft``; a ``TurnLoop`` if tools run, or answers are asked again.

        Args:
            conversation: Where its node goes.
            draft: The turn as far as it is known.
            endpoint: The target.
            config: Options of the call.
            stream: Whether the answer is streamed on the wire.
            ends_with_reader: See ``ResponseStream``.
            path: The history; None = the path to the head when the turn begins, behind the turns in the queue.
            unread: The files of the question, if some are still to be read from disk.
            load: Completes the draft, and loads the turns before it, when the turn begins; None = it is complete.
            run_tools: How the tools of the call run; None = they do not.

        Raises:
            ConfigurationError: The call cannot be made; nothing was sent.
        """
        check_config(config)
        queue = None if path is not None else self._queues.setdefault(conversation, TurnQueue())
        calls = _TurnCalls(conversation, endpoint, stream, ends_with_reader)
        if run_tools is None and not (config.structured_output and config.structured_retries):
            turn = self._single(calls, draft, config, path, unread=unread, queue=queue, load=load)
        else:
            policy = check_policy(run_tools)
            turn = self._loop(calls, draft, config, policy, path, unread=unread, queue=queue, load=load)
        if self.live is not None:
            turn.attachable(self.live, self.owner)
        return turn

    def _loop(
        self,
        calls: "_TurnCalls",
        draft: ConversationNode,
        config: AIModelCallConfig,
        policy: ToolPolicy | None,
        path: Path | None,
        *,
        unread: Attached | None = None,
        queue: TurnQueue | None,
        load: LoadDraft | None = None,
        resumption: Resumption | None = None,
    ) -> TurnLoop:
        """Return a turn whose model calls are turns."""
        target = target_of(calls.endpoint, "turn")
        loop = TurnLoop(
            calls.conversation,
            draft,
            partial(self._single, replace(calls, endpoint=target)),
            config,
            LoopTools(policy, self._results, self.shared, next(map(expected_origin, endpoints(target)), None)),
            store=self.store,
            unread=unread,
            queue=queue,
            path=path if load is None else None,
            load=load,
            resumption=resumption,
        )
        if policy is not None:
            self._remember(self._loop_key(calls.conversation, draft), policy, config)
        return loop

    def _loop_key(self, conversation: Conversation, draft: ConversationNode) -> "_LoopKey":
        """Return the key of a loop: callers choose ids of turns, so two owners may choose the same one."""
        return self.owner, conversation.id, draft.loop_id or draft.id

    def _remember(self, key: "_LoopKey", policy: ToolPolicy, config: AIModelCallConfig) -> None:
        """Remember how the tools of a loop run, for ``resume`` in this process."""
        self._loops[key] = policy, config
        self._loops.move_to_end(key)
        if len(self._loops) > _LOOPS:
            self._loops.popitem(last=False)

    def resume(
        self,
        conversation: Conversation,
        decisions: Mapping[str, bool | str],
        endpoint: Target | str,
        config: AIModelCallConfig | None,
        run_tools: ToolPolicy | None,
        metadata: Mapping[str, JsonValue] | None,
    ) -> Turn:
        """Return the turn that goes on with a loop; see ``ConversationManager.resume``.

        Raises:
            ConfigurationError: There is nothing to resume, or the tools are missing.
        """
        check_conversation(conversation)
        check_decisions(decisions)
        resumption = Resumption(conversation, decisions)
        resumed = resumption.found()
        draft, turn_id = resumed.draft, resumption.turn_id(resumed)
        if turn_id is not None:
            draft = draft.changed(id=turn_id)
        if metadata is not None:
            draft = draft.changed(metadata=metadata)
        unknown = ToolPolicy(approve=leave_pending), self.config
        policy, remembered = self._loops.get(self._loop_key(conversation, draft), unknown)
        knobs = check_config(config or remembered)
        if not knobs.tools and any(decision is True for decision in decisions.values()):
            raise ConfigurationError(
                "the calls cannot be run without their tools: write resume(…, config=AIModelCallConfig(tools=[…]))"
            )
        turn = self._loop(
            _TurnCalls(conversation, endpoint, stream=True, ends_with_reader=False),
            draft,
            knobs,
            check_policy(run_tools) or policy,
            None,
            queue=self._queues.setdefault(conversation, TurnQueue()),
            resumption=resumption,
        )
        if self.live is not None:
            turn.attachable(self.live, self.owner)
        return turn if turn_id is None else turn.with_given_id()

    def _single(
        self,
        calls: "_TurnCalls",
        draft: ConversationNode,
        config: AIModelCallConfig,
        path: Path | None,
        *,
        unread: Attached | None = None,
        queue: TurnQueue | None = None,
        load: LoadDraft | None = None,
    ) -> Turn:
        """Return the turn of one model call."""
        conversation, endpoint = calls.conversation, calls.endpoint
        client = AIModelClient(endpoint, config, transport=self.transport, policy=self.policy, shared=self.shared)

        def opener(draft: ConversationNode) -> TurnOpener:
            if load is None:
                nodes = conversation.path() if path is None else path
            else:
                nodes = () if draft.parent_id is None else conversation.path(draft.parent_id)
            history = History(nodes, self.window, signing=self.signing)
            call = CallInput(
                question(draft.user_query, draft.attached_files, draft.tool_results, order=draft.order),
                tuple(draft.instructions),
                config,
                calls.stream,
                history,
                conversation.id,
                draft.id,
                draft.loop_id,
            )
            summaries = self._summaries.setdefault(conversation, {})
            return TurnOpener(client, call, draft, summaries, self.policy, calls.ends_with_reader)

        reserve = partial(self._reserve, conversation)
        return Turn(
            conversation, draft, opener, reserve=reserve, store=self.store, unread=unread, queue=queue, load=load
        )

    def sent(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        messages: Sequence[Message],
        endpoint: Target | str,
        config: AIModelCallConfig,
        *,
        known: tuple[ConversationNode, ...],
        keeper: AnswerKeeper,
    ) -> SentTurn:
        """Return the turn that answers a conversation which a client has sent whole.

        Args:
            conversation: The conversation of its node.
            draft: The turn as far as it is known.
            messages: The conversation, oldest first.
            endpoint: The target.
            config: Options of the call.
            known: The turns whose answers are among the messages.
            keeper: Names and keeps the node.

        Raises:
            ConfigurationError: The call cannot be made; nothing was sent.
        """
        check_config(config)
        client = AIModelClient(endpoint, config, transport=self.transport, policy=self.policy, shared=self.shared)
        asked, led = messages_of(None, (), messages), tuple(draft.instructions)

        def opener(draft: ConversationNode) -> TurnOpener:
            call = CallInput(asked, led, config, stream=True, conversation=conversation.id, node=draft.id, known=known)
            return TurnOpener(client, call, draft, {}, self.policy)

        reserve = partial(self._reserve, conversation)
        return SentTurn(
            conversation,
            draft,
            opener,
            reserve=reserve,
            store=self.store,
            keeper=keeper,
            signing=self.signing,
        )

    def again(
        self,
        conversation: Conversation,
        node_id: str,
        query: str | None,
        endpoint: Target | str,
        instructions: Iterable[str] | None,
        files: Iterable[Attachment] | None,
        config: AIModelCallConfig | None,
        run_tools: ToolPolicy | None,
        turn_id: str | None,
    ) -> Turn:
        """Return a turn beside another one, which answers its question, or ``query`` in its place.

        Raises:
            ConfigurationError: The conversation has no turn ``node_id``, or the call cannot be made.
        """
        check_conversation(conversation)
        knobs = config or self.config
        new_id = uuid4().hex if turn_id is None else _checked_id(turn_id)

        def beside() -> tuple[ConversationNode, Attached | None]:
            node = node_of(conversation, node_id)
            draft, unread = self.drafted(
                conversation,
                node.user_query if query is None else query,
                node.instructions if instructions is None else instructions,
                node.files_to_ask_again() if files is None else files,
                node.tool_results,
                new_id,
            )
            order = node.order if query is None and files is None else None
            return draft.changed(parent_id=node.parent_id, order=order), unread

        if conversation.complete or conversation.get(node_id) is not None:
            draft, unread = beside()
            path = () if draft.parent_id is None else conversation.path(draft.parent_id)
            return self.turn(
                conversation, draft, endpoint, knobs, stream=True, path=path, unread=unread, run_tools=run_tools
            )

        async def load() -> tuple[ConversationNode, Attached | None]:
            await load_node(self.store, conversation, node_id)
            return beside()

        draft = ConversationNode(id=new_id, user_query=query or "")
        return self.turn(conversation, draft, endpoint, knobs, stream=True, path=(), load=load, run_tools=run_tools)

    def leading(self, conversation: Conversation, instructions: Iterable[str] | None) -> Iterable[str]:
        """Return the instructions of a turn: its own, else the conversation's, else the manager's."""
        if instructions is not None:
            return instructions
        return self.instructions if conversation.instructions is None else conversation.instructions

    def drafted(
        self,
        conversation: Conversation,
        query: str,
        instructions: Iterable[str] | None,
        files: Iterable[Attachment],
        tool_results: Iterable[ToolResultPart],
        turn_id: str | None = None,
    ) -> tuple[ConversationNode, Attached | None]:
        """Build the node of a turn before its answer, and its files if some are still to be read from disk.

        Raises:
            ConfigurationError: Nothing is asked, or a value is of the wrong kind.
        """
        check_conversation(conversation)
        check_query(query)
        led = self.leading(conversation, instructions)
        check_several(led, files, tool_results)
        attached, results = Attached.of(files), tuple(tool_results)
        if not query.strip() and not attached.items and not results:
            raise ConfigurationError("the query is empty: there is nothing to ask")
        head, at_hand = conversation.head, attached.at_hand()
        draft = ConversationNode(
            id=uuid4().hex if turn_id is None else _checked_id(turn_id),
            parent_id=None if head is None else head.id,
            user_query=query,
            attached_files=at_hand or (),
            tool_results=results,
            instructions=tuple(led),
        )
        return draft, attached if at_hand is None else None

    def _reserve(self, conversation: Conversation, opener: TurnOpener) -> Sequence[Reservation]:
        """Reserve the expected tokens and cost of a turn in every budget that counts it; the turn settles them.

        Raises:
            BudgetError: A budget is exceeded; nothing was sent.
        """
        spendings = [] if self.spending is None else [self.spending]
        if self._conversation_budget is not None:
            whose = Spending(self._conversation_budget, whose="conversation", conversation=conversation)
            spendings.append(self._spendings.setdefault(conversation, whose))
        if not spendings:
            return []
        tokens, money = opener.expected()
        reserved: list[Reservation] = []
        try:
            for spending in spendings:
                reserved.append(spending.reserve(tokens=tokens, money=money))
        except BudgetError:
            for reservation in reserved:
                reservation.release()
            raise
        return reserved


@dataclass(slots=True)
class _CallResources:
    """The resources that the calls of all owners share; the manager's block opens and closes a part of them."""

    transport: Transport | None
    shared: SharedResources


@dataclass(frozen=True, slots=True)
class _TurnCalls:
    """The common part of the model calls of one turn; see ``TurnFactory.turn``."""

    conversation: Conversation
    endpoint: Target | str
    stream: bool
    ends_with_reader: bool


def _checked_id(turn_id: object) -> str:
    """Return the id that a caller has given to a turn.

    Raises:
        ConfigurationError: It is no text, is empty or long, or has characters that are not printed.
    """
    if not isinstance(turn_id, str) or not turn_id.strip() or len(turn_id) > 200 or not turn_id.isprintable():
        raise ConfigurationError("turn_id is a text of 1 to 200 printable characters, such as a UUID of your client's")
    return turn_id
