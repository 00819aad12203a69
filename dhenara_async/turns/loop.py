"""``TurnLoop``: a turn that runs its tools. Each of its model calls is a turn of its own and leaves a node."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from pydantic import JsonValue

from dhenara_async.calls.loop import LoopStream
from dhenara_async.calls.loop_steps import LoopStep
from dhenara_async.calls.observed_loop import ObservedLoop
from dhenara_async.calls.records import LoopOutcome
from dhenara_async.calls.shared import SharedResources
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import StreamStateError
from dhenara_async.messages.attachments import Attached
from dhenara_async.messages.messages import Origin, ToolResultPart
from dhenara_async.response import CallWarning
from dhenara_async.stores import ConversationStore
from dhenara_async.tools.loop import AskNext, LoopProgress, step_config
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.tools.runner import ToolRunner
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.turns.log import TurnLog
from dhenara_async.turns.queue import TurnQueue
from dhenara_async.turns.results import ToolResults
from dhenara_async.turns.resumption import Resumed, Resumption
from dhenara_async.turns.turn import LoadDraft, Turn

Path = tuple[ConversationNode, ...]
MakeTurn = Callable[[ConversationNode, AIModelCallConfig, Path], Turn]
"""Makes the turn of one model call from its draft, its options and its history."""


class TurnSteps:
    """The turns of a loop, one for each model call; see ``LoopSteps``.

    Args:
        conversation: Where their nodes go.
        draft: The first turn as far as it is known; those behind it take its instructions.
        make: Makes a turn.
        config: Options of every call.
        results: Keeps the results of tool calls until the node that follows has them.
        expected: The endpoint that is asked first; None if only a router's function knows.
        path: The history of the first turn; None = the path to the parent of the draft.
        after: The node whose calls a resumed loop begins with; None = the loop begins with a model call.
        queue: The queue of the conversation's turns, which the loop's turn has passed; None = it has not queued.

    Attributes:
        nodes: The nodes that the turns left, oldest first.
        cancelled: Whether the loop was cancelled by the manager, for the node of the running turn.
    """

    def __init__(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        make: MakeTurn,
        config: AIModelCallConfig,
        results: ToolResults,
        *,
        expected: Origin | None,
        path: Path | None,
        after: ConversationNode | None = None,
        queue: TurnQueue | None = None,
    ) -> None:
        self.nodes: list[ConversationNode] = []
        self.cancelled: bool = False
        self._conversation = conversation
        self._draft = draft
        self._make = make
        self._config = config
        self._results = results
        self._expected = expected
        self._turn: Turn | None = None
        self._path = path
        self._after = after
        self._queue = queue
        self._first = None if after is not None else make(draft, config, self._history(draft))

    @property
    def node_id(self) -> str | None:
        """See ``LoopSteps``."""
        return None if self._turn is None else self._turn.id

    @property
    def expected(self) -> Origin | None:
        """See ``LoopSteps``."""
        return self._expected

    @property
    def last(self) -> ConversationNode | None:
        """The last node of the loop, that of an earlier part included."""
        return self.nodes[-1] if self.nodes else self._after

    def make(self, asked: AskNext | None, seconds: float | None) -> Turn:
        """See ``LoopSteps``."""
        if asked is None and seconds is None and self._first is not None:
            self._turn = self._first
            return self._first
        draft = self._draft
        if asked is not None:
            draft = draft.changed(
                id=uuid4().hex if self.nodes else draft.id,
                parent_id=self._answered().id,
                user_query=asked.words,
                attached_files=(),
                tool_results=asked.results,
            )
        config = step_config(self._config, later=self.last is not None, seconds=seconds)
        self._turn = self._make(draft, config, self._history(draft))
        return self._turn

    async def leave(self, step: LoopStep, reason: BaseException | None, warnings: Sequence[CallWarning]) -> None:
        """See ``LoopSteps``."""
        turn = self._turn
        if turn is None or turn is not step:
            return
        turn.will_leave(warnings, cancelled=self.cancelled)
        try:
            await turn.__aexit__(None if reason is None else type(reason), reason, None)
        finally:
            if turn.over:
                self.nodes.append(turn.node)

    async def results(self) -> Mapping[int, ToolResultPart]:
        """See ``LoopSteps``; called by the task that runs the calls, before it does."""
        if self._queue is not None:
            self._queue.run_tools_here()
        if self.nodes:  # the answer has just come: no call of it was run before
            return {}
        return await self._results.of(self._conversation, self._answered().id)

    async def keep(self, place: int, result: ToolResultPart) -> None:
        """See ``LoopSteps``."""
        await self._results.keep(self._conversation, self._answered().id, place, result)

    def _answered(self) -> ConversationNode:
        last = self.last
        if last is None:
            raise StreamStateError("the loop has no answer yet")
        return last

    def _history(self, draft: ConversationNode) -> Path:
        if not self.nodes and self._path is not None:
            return self._path
        return () if draft.parent_id is None else self._conversation.path(draft.parent_id)


@dataclass(frozen=True, slots=True)
class LoopTools:
    """How the tools of a turn run, and what that needs.

    Attributes:
        policy: How tools run; None = they do not run, and only answers that do not fit are asked again.
        results: Keeps the results of tool calls.
        shared: Observers, and the open servers of tools.
        expected: The endpoint that is asked first; None if only a router's function knows.
    """

    policy: ToolPolicy | None
    results: ToolResults
    shared: SharedResources
    expected: Origin | None


class TurnLoop(Turn):
    """A turn with ``run_tools``: it goes on until the model asks for no more tools.

    It is read, detached, attached to and awaited like any turn. ``node`` is the node of its last model call, ``nodes``
    has all of them. Its ``id`` is that of its first node, and the ``loop_id`` of all.

    Args:
        conversation: Where its nodes go.
        draft: Its first turn as far as it is known.
        make: Makes the turn of one model call.
        config: Options of every call.
        tools: How its tools run.
        store: Keeps the nodes.
        unread: The files of the question, if some are still to be read from disk; else None.
        queue: The queue of the conversation's turns; None = it follows the turn that its draft names.
        path: The history of the first turn; None = the path to the head when the turn begins.
        load: Completes the draft when the turn begins; None = it is complete.
        resumption: Finds where a loop that was cut or waits goes on; None = it begins with its question.

    Raises:
        ConfigurationError: The first call cannot be made, or a tool cannot be run.
    """

    def __init__(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        make: MakeTurn,
        config: AIModelCallConfig,
        tools: LoopTools,
        *,
        store: ConversationStore,
        unread: Attached | None = None,
        queue: TurnQueue | None,
        path: Path | None = None,
        load: LoadDraft | None = None,
        resumption: Resumption | None = None,
    ) -> None:
        self._make = make
        self._config = config
        self._tools = tools
        self._path = path
        self._resumption = resumption
        self._resumed: Resumed | None = None
        self._steps: TurnSteps | None = None
        self._loop: LoopStream | None = None
        super().__init__(conversation, draft, store=store, unread=unread, queue=queue, load=load)

    @property
    def nodes(self) -> tuple[ConversationNode, ...]:
        """The nodes of all model calls, oldest first, as far as they have ended."""
        return () if self._steps is None else tuple(self._steps.nodes)

    @property
    def outcome(self) -> LoopOutcome | None:
        """See ``Turn.outcome``."""
        return None if self._loop is None else self._loop.outcome

    def _begin(self) -> None:
        if self._resumption is not None and self._resumed is None:
            return  # it depends on the head when the turn begins
        draft, resumed = self._draft, self._resumed
        draft = self._draft = draft.changed(loop_id=draft.loop_id or draft.id)
        self._steps = TurnSteps(
            self._conversation,
            draft,
            self._make,
            self._config,
            self._tools.results,
            expected=self._tools.expected,
            path=self._path,
            after=None if resumed is None else resumed.after,
            queue=self._queue,
        )
        observed = ObservedLoop(self._tools.shared.observers, draft.loop_id or draft.id)
        policy = self._tools.policy
        retries = 0 if self._config.structured_output is None else self._config.structured_retries
        self._loop = self._opened = LoopStream(
            self._steps,
            LoopProgress(policy, retries),
            None if policy is None else self._runner(policy, observed),
            observed,
            seconds=self._config.timeouts.total,
            conversation=self._conversation.id,
            stored=None if resumed is None else resumed.calls,
        )
        super()._begin()

    def _follow_head(self) -> None:
        if self._resumption is None:
            super()._follow_head()
            return
        self._resumed = self._resumption.found()
        self._draft = self._resumed.draft.changed(id=self._draft.id, metadata=self._draft.metadata)

    async def _known(self) -> TurnLog | None:
        """Return the log of the turn of the same decisions, unless it ended without an answer: then they go on."""
        log = await super()._known()
        if self._resumption is None or log is None or log.ended_at is None:
            return log
        if log.is_complete and log.node is not None and log.node.id != self._draft.parent_id:
            return log
        self._release(log)
        self._draft = self._draft.changed(id=uuid4().hex)
        return None

    def _runner(self, policy: ToolPolicy, observed: ObservedLoop) -> ToolRunner:
        sessions = self._tools.shared.tools
        return ToolRunner(policy, self._config.tools, sessions or ToolSessions(), observed, owned=sessions is None)

    def _knobs(self) -> Mapping[str, JsonValue] | None:
        return self._config.knobs()

    def _target(self) -> Origin | None:
        return self._tools.expected

    async def _end(self, exc: BaseException | None) -> None:
        if self._steps is not None and self._loop is not None:
            self._steps.cancelled, self._loop.reason = self._cancelled, exc
        await super()._end(exc)

    async def _answered(self) -> ConversationNode:
        async with self:
            while await self.batch():  # a resumed loop may end without an answer
                pass
        return self.node

    async def _leave_node(self, exc: BaseException | None) -> None:
        if self._steps is not None:
            self._node = self._steps.last
        if self._node is None:  # it failed before its first step
            await self._leave_unasked(exc)
