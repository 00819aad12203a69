"""``McpCall``: a call that an MCP server runs, and the questions that the server asks during it."""

from contextvars import ContextVar
from dataclasses import dataclass, field

import anyio

from dhenara_async.messages.messages import ToolCallPart
from dhenara_async.tools.deadline import CallDeadline
from dhenara_async.tools.sources import AskUser, ToolAnswer, ToolQuestion


@dataclass(slots=True, eq=False)
class McpCall:
    """A call that is being run.

    Attributes:
        call: The model's call.
        ask: Answers the server's questions; None = they are declined.
        deadline: The time limit of the call, which stops while a question is answered.
        declined: Questions that nobody was there to answer.
    """

    call: ToolCallPart
    ask: AskUser | None
    deadline: CallDeadline
    declined: list[str]
    _asking: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])

    async def answer(self, ask: AskUser, question: ToolQuestion) -> ToolAnswer | None:
        """Let ``ask`` answer a question of the server; None if the call ended meanwhile."""
        with self.deadline.paused(), anyio.CancelScope() as scope:
            self._asking.add(scope)
            try:
                return await ask(question)
            finally:
                self._asking.discard(scope)
        return None

    def dismiss(self) -> None:
        """Withdraw the questions that are still being answered, when the call has ended.

        Servers before 2026 ask in tasks of the session, which the end of the call does not cancel.
        """
        for scope in self._asking:
            scope.cancel()


running_call: ContextVar[McpCall | None] = ContextVar("running_call", default=None)
"""The call that this task runs: the SDK answers questions of servers of 2026 and later in the task of the call."""
