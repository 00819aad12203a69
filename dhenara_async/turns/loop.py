"""``TurnLoop``: a turn that runs its tools. Each of its model calls is a turn of its own and leaves a node."""

from collections.abc import Callable, Mapping, Sequence
from uuid import uuid4

from dhenara_async.calls.loop import LoopStep, LoopStream
from dhenara_async.calls.observed_loop import ObservedLoop
from dhenara_async.calls.observer import LoopOutcome
from dhenara_async.calls.shared import SharedResources
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.messages.attachments import Attached
from dhenara_async.messages.messages import Origin, ToolResultPart
from dhenara_async.response import CallWarning
from dhenara_async.stores import ConversationStore
from dhenara_async.tools.loop import AskNext, LoopProgress
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.tools.runner import ToolRunner
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.turns.queue import TurnQueue
from dhenara_async.turns.results import ToolResults
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
        expected: Origin | None,
        path: Path | None,
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
        self._first = make(draft, config, self._history(draft))

    @property
    def node_id(self) -> str | None:
        """See ``LoopSteps``."""
        return None if self._turn is None else self._turn.id

    @property
    def expected(self) -> Origin | None:
        """See ``LoopSteps``."""
        return self._expected

    def make(self, asked: AskNext | None, seconds: float | None) -> Turn:
        """See ``LoopSteps``."""
        if asked is None and seconds is None:
            self._turn = self._first
            return self._first
        draft = self._draft
        if asked is not None:
            draft = draft.changed(
                id=uuid4().hex,
                parent_id=self.nodes[-1].id,
                user_query=asked.words,
                attached_files=(),
                tool_results=asked.results,
            )
        config = self._config
        if seconds is not None:
            config = config.changed(timeouts=config.timeouts.changed(total=seconds))
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
        """See ``LoopSteps``."""
        return await self._results.of(self._conversation, self.nodes[-1].id)

    async def keep(self, place: int, result: ToolResultPart) -> None:
        """See ``LoopSteps``."""
        await self._results.keep(self._conversation, self.nodes[-1].id, place, result)

    def _history(self, draft: ConversationNode) -> Path:
        if not self.nodes and self._path is not None:
            return self._path
        return () if draft.parent_id is None else self._conversation.path(draft.parent_id)


class TurnLoop(Turn):
    """A turn with ``run_tools``: it goes on until the model asks for no more tools.

    It is read, detached, attached to and awaited like any turn. ``node`` is the node of its last model call, ``nodes``
    has all of them. Its ``id`` is that of its first node, and the ``loop_id`` of all.

    Args:
        conversation: Where its nodes go.
        draft: Its first turn as far as it is known.
        make: Makes the turn of one model call.
        config: Options of every call.
        policy: How tools run; None = they do not run, and only answers that do not fit are asked again.
        store: Keeps the nodes.
        results: Keeps the results of tool calls.
        shared: Observers, and the open servers of tools.
        expected: The endpoint that is asked first; None if only a router's function knows.
        unread: The files of the question, if some are still to be read from disk; else None.
        queue: The queue of the conversation's turns; None = it follows the turn that its draft names.
        path: The history of the first turn; None = the path to the head when the turn begins.
        load: Completes the draft when the turn begins; None = it is complete.

    Raises:
        ConfigurationError: The first call cannot be made, or a tool cannot be run.
    """

    def __init__(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        make: MakeTurn,
        config: AIModelCallConfig,
        policy: ToolPolicy | None,
        *,
        store: ConversationStore,
        results: ToolResults,
        shared: SharedResources,
        expected: Origin | None,
        unread: Attached | None,
        queue: TurnQueue | None,
        path: Path | None,
        load: LoadDraft | None,
    ) -> None:
        self._make = make
        self._config = config
        self._policy = policy
        self._results = results
        self._shared = shared
        self._expected = expected
        self._path = path
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
        draft = self._draft = self._draft.changed(loop_id=self._draft.id)
        self._steps = TurnSteps(
            self._conversation, draft, self._make, self._config, self._results, self._expected, self._path
        )
        observed = ObservedLoop(self._shared.observers, self._draft.id)
        retries = 0 if self._config.structured_output is None else self._config.structured_retries
        self._loop = self._opened = LoopStream(
            self._steps,
            LoopProgress(self._policy, retries),
            None if self._policy is None else self._runner(self._policy, observed),
            observed,
            seconds=self._config.timeouts.total,
            conversation=self._conversation.id,
        )
        super()._begin()

    def _runner(self, policy: ToolPolicy, observed: ObservedLoop) -> ToolRunner:
        sessions = self._shared.tools
        return ToolRunner(policy, self._config.tools, sessions or ToolSessions(), observed, owned=sessions is None)

    async def _end(self, exc: BaseException | None) -> None:
        if self._steps is not None and self._loop is not None:
            self._steps.cancelled, self._loop.reason = self._cancelled, exc
        await super()._end(exc)

    async def _leave_node(self, exc: BaseException | None) -> None:
        if self._steps is not None and self._steps.nodes:
            self._node = self._steps.nodes[-1]
