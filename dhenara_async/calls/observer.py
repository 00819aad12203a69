"""``Observer``: methods that a client calls when a call or an attempt starts and ends, for metrics, traces and logs.

Methods are synchronous and are called at most a few times per call, never per token. Without observers a call pays one
comparison for each of them.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from dhenara_async.config import AIModelCallConfig
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import Origin, ToolResultPart
from dhenara_async.response import FinishReason
from dhenara_async.usage.tokens import Usage

CallOutcome = Literal["complete", "failed", "left", "cancelled"]
"""How a call or a loop ended. ``left``: its block was left before the end; ``cancelled``: so was its task."""

LoopOutcome = Literal["complete", "limit", "pending", "failed", "left", "cancelled"]
"""How a tool loop ended. ``limit``: more steps were wanted than are allowed; ``pending``: it waits for an approval."""

ToolOutcome = Literal["complete", "failed", "denied", "cancelled"]
"""How a tool call ended. ``failed``: the model gets an error result; ``denied``: it was not approved, so not run."""


@dataclass(frozen=True, slots=True, repr=False)
class CallStarted(ShortRepr):
    """A call that starts.

    Attributes:
        call_id: Unique id, the same in all records of the call.
        endpoint: The endpoint that is asked first.
        config: Options of the call.
        messages: Number of messages in front of the model, those of earlier turns not included.
        instructions: Number of instructions.
        conversation: Id of the conversation; None outside of one.
        node: Id of the turn; None outside of a conversation.
        parent: Id of the tool loop that the call is a step of, as in ``LoopStarted``; None outside of one.
    """

    call_id: str
    endpoint: Origin
    config: AIModelCallConfig
    messages: int
    instructions: int
    conversation: str | None
    node: str | None
    parent: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class AttemptStarted(ShortRepr):
    """A request that is about to be sent.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that is asked.
        number: Number of the request within the call, from 1; all members of a plan count together.
    """

    call_id: str
    endpoint: Origin
    number: int


@dataclass(frozen=True, slots=True, repr=False)
class AttemptEnded(ShortRepr):
    """A request whose response ended.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that was asked.
        number: Number of the request within the call.
        request_id: The provider's id of the request; None if it sent none.
        status: HTTP status; None if no response head arrived.
        error: Why it failed; None if the answer is complete. ``StreamStateError`` if it was cancelled, as in a race.
        usage: The last token report; None if none arrived.
        seconds: Time since the attempt started, waiting for permission to send included.
    """

    call_id: str
    endpoint: Origin
    number: int
    request_id: str | None
    status: int | None
    error: BaseException | None
    usage: Usage | None
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class FirstContent(ShortRepr):
    """The first content of an answer: text, reasoning, a tool call or another part.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that answers.
        seconds: Time since the call started.
    """

    call_id: str
    endpoint: Origin
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class CallEnded(ShortRepr):
    """A call that ended.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that answered, or was asked last.
        request_id: The provider's id of the last request; None if it sent none.
        status: HTTP status of the last request; None if no response head arrived.
        attempts: Number of requests.
        error: Why the call failed; None if its answer is complete. If its block was left before the end: the exception
            that left it (``asyncio.CancelledError`` if it was cancelled), else a ``StreamStateError``.
        usage: Tokens of the answer; None if the provider reported none.
        finish_reason: Why the model stopped; None if the answer is not complete.
        seconds: Time since the call started.
    """

    call_id: str
    endpoint: Origin
    request_id: str | None
    status: int | None
    attempts: int
    error: BaseException | None
    usage: Usage | None
    finish_reason: FinishReason | None
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class LoopStarted(ShortRepr):
    """A tool loop that starts: model calls and tool calls in turn, until the model asks for no more.

    Attributes:
        loop_id: Unique id, the same in all records of the loop, and the ``parent`` of its model calls. A loop that is
            resumed starts again, with the same id, after its earlier part has ended.
        endpoint: The endpoint that is asked first.
        tools: Names of the functions that the model may call.
        max_steps: Maximum number of model calls; None = unlimited.
        conversation: Id of the conversation; None outside of one.
        node: Id of the first turn; None outside of a conversation.
    """

    loop_id: str
    endpoint: Origin
    tools: tuple[str, ...]
    max_steps: int | None
    conversation: str | None
    node: str | None


@dataclass(frozen=True, slots=True, repr=False)
class LoopEnded(ShortRepr):
    """A tool loop that ended, or that waits for an approval.

    Attributes:
        loop_id: Id of the loop.
        endpoint: The endpoint that was asked last.
        steps: Number of model calls.
        tool_calls: Number of tool calls that were run or denied.
        outcome: How it ended.
        error: Why it failed, or what left its block; None otherwise.
        seconds: Time since the loop started.
    """

    loop_id: str
    endpoint: Origin
    steps: int
    tool_calls: int
    outcome: LoopOutcome
    error: BaseException | None
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class ToolStarted(ShortRepr):
    """A tool call of a loop that is about to be run.

    Attributes:
        loop_id: Id of the loop.
        number: Number of the tool call within the loop, from 1.
        tool_call_id: The id that the provider gave the call.
        name: Name of the tool.
        arguments: The model's arguments, as JSON text; None unless the observer ``wants_content``.
    """

    loop_id: str
    number: int
    tool_call_id: str
    name: str
    arguments: str | None


@dataclass(frozen=True, slots=True, repr=False)
class ToolEnded(ShortRepr):
    """A tool call that has its result.

    Attributes:
        loop_id: Id of the loop.
        number: Number of the tool call within the loop.
        tool_call_id: The id that the provider gave the call.
        name: Name of the tool.
        outcome: How it ended.
        error: The exception of a tool that failed, where there is one; its message can hold content.
        result: The result that the model gets; None unless the observer ``wants_content``, and where there is none.
        seconds: Time since the tool call started.
    """

    loop_id: str
    number: int
    tool_call_id: str
    name: str
    outcome: ToolOutcome
    error: BaseException | None
    result: ToolResultPart | None
    seconds: float


class Observer:
    """Receives a record when a call or an attempt starts and ends. Subclass it, and override the methods you need.

    Pass observers to ``AIModelClient(observers=[…])`` or ``ConversationManager(observers=[…])``. A call that
    starts also ends, exactly once. A call that cannot be prepared (``ConfigurationError``) does not start.

    Methods run in the call's thread and event loop, so they have to be quick. An exception that a method raises is
    logged under ``dhenara_async`` and has no other effect. Records hold no prompts and no answers, unless the observer
    ``wants_content``.

    Attributes:
        wants_content: Whether its records hold prompts, answers, and the arguments and results of tools.
    """

    wants_content: bool = False

    def call_started(self, record: CallStarted) -> None:
        """A call starts."""

    def attempt_started(self, record: AttemptStarted) -> None:
        """A request is about to be sent."""

    def attempt_ended(self, record: AttemptEnded) -> None:
        """A request has ended, with an answer or an error."""

    def first_content(self, record: FirstContent) -> None:
        """The first content of the answer has arrived."""

    def call_ended(self, record: CallEnded) -> None:
        """The call has ended, with an answer or an error."""

    def loop_started(self, record: LoopStarted) -> None:
        """A tool loop starts; called by the loop (``ToolPolicy``) before its first model call."""

    def tool_started(self, record: ToolStarted) -> None:
        """A tool call of a loop is about to be run, or was denied; called by the loop."""

    def tool_ended(self, record: ToolEnded) -> None:
        """A tool call of a loop has its result; called by the loop."""

    def loop_ended(self, record: LoopEnded) -> None:
        """A tool loop has ended; called by the loop after its last model call and tool call have ended."""

    def around_tool(self, record: ToolStarted) -> AbstractContextManager[object] | None:
        """Return a context in which the tool is run, to make a span current there; None = no context.

        It is entered after ``tool_started`` and left before ``tool_ended``, in the task that runs the tool.
        """
        return None
