"""``ToolPolicy``: how a tool loop runs the calls of a model, and which calls need the approval of a person first."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import ToolCallPart
from dhenara_async.tools.sources import AskUser


@dataclass(frozen=True, slots=True, repr=False)
class Pending(ShortRepr):
    """The answer of an ``approve`` function that leaves the decision to a later ``manager.resume``."""


Approval = bool | str | Pending | type[Pending]
"""The answer of an ``approve`` function: True = run the call; False, or a reason for the model = do not run it;
``Pending`` = the decision comes later."""

Approve = Callable[[ToolCallPart], Approval | Awaitable[Approval]]
"""Decides whether a call may run."""

OnError = Callable[[ToolCallPart, BaseException], str | None]
"""Returns the words that the model gets about a failed call; None = the class and the message of the exception."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ToolPolicy(ShortRepr):
    """How a tool loop runs: ``run_tools=ToolPolicy(…)`` lets a turn or a call run its tools until the model is done.

    Attributes:
        max_steps: Maximum number of model calls. If the last one still asks for tools, these are not run: the answer
            has a warning ``tool_limit``, and ``manager.resume`` can run them later.
        concurrency: Maximum number of calls of one answer that run at the same time.
        timeout: Seconds that one call may run; None = unlimited. A call that takes longer is cancelled, and the model
            is told. A function in a thread cannot be cancelled: it runs on, and its result is dropped.
        approve: Decides about every call before any of an answer is run; may be ``async``. None = all calls run, but
            those of hosted MCP servers that the provider asks about (``call.hosted``) wait for a decision.
        on_error: Words about a call that failed, instead of the exception's class and message. It may raise, which
            ends the loop with that exception.
        ask: Answers the questions that a tool source (an MCP server) asks while a call runs; None = they are declined.
        context: A value for the parameters of tools that are annotated as ``ToolContext[…]``.
    """

    max_steps: int = 8
    concurrency: int = 4
    timeout: float | None = 30.0
    approve: Approve | None = None
    on_error: OnError | None = None
    ask: AskUser | None = None
    context: object = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigurationError: A number is too small.
        """
        if self.max_steps < 1 or self.concurrency < 1:
            raise ConfigurationError("max_steps and concurrency of a ToolPolicy are at least 1")
        if self.timeout is not None and self.timeout <= 0:
            raise ConfigurationError("timeout of a ToolPolicy is more than 0 seconds, or None for no limit")


def leave_pending(call: ToolCallPart) -> Approval:
    """Decide about no call: the ``approve`` function of a loop that is resumed without a policy."""
    return Pending


def check_policy(given: object) -> ToolPolicy | None:
    """Return a policy as it is; None = tools do not run.

    Raises:
        ConfigurationError: It is something else, such as True.
    """
    if given is None or isinstance(given, ToolPolicy):
        return given
    raise ConfigurationError(f"run_tools is a ToolPolicy, not {type(given).__name__}; write run_tools=ToolPolicy()")
