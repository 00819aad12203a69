"""The records that observers receive: of fan-outs, tool loops, calls, the endpoints that a call asks, and attempts.

The records nest: a tool loop has calls and tool calls; a call asks one endpoint, or, with a plan, several, at the same
time or in turn; each endpoint is sent one request or, with retries, several (attempts). Records are never changed. (Not
frozen, because that takes ten times as long to make one, and several are made per call.)
"""

from dataclasses import dataclass, field
from typing import Literal

from dhenara_async.config import AIModelCallConfig
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import Message, Origin, ToolResultPart
from dhenara_async.response import CallWarning, ChatResponse, FinishReason
from dhenara_async.tools.declarations import Usable
from dhenara_async.usage.tokens import Usage

CallOutcome = Literal["complete", "failed", "left", "cancelled"]
"""How a call or a loop ended. ``left``: its block was left before the end; ``cancelled``: so was its task."""

EndpointOutcome = Literal["complete", "failed", "left", "cancelled", "lost"]
"""How an endpoint's answer ended, as for a call. ``lost``: another member of a race was faster."""

LoopOutcome = Literal["complete", "limit", "pending", "failed", "left", "cancelled"]
"""How a tool loop ended. ``limit``: more steps were wanted than are allowed; ``pending``: it waits for an approval."""

ToolOutcome = Literal["complete", "failed", "denied", "cancelled"]
"""How a tool call ended. ``failed``: the model gets an error result; ``denied``: it was not approved, so not run."""


@dataclass(slots=True, repr=False)
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
        plan: The kind of plan that is asked (``failover``, ``race``, ``router``, ``experiment``); None = one endpoint.
        stream: Whether the provider is asked to stream.
    """

    call_id: str
    endpoint: Origin
    config: AIModelCallConfig
    messages: int
    instructions: int
    conversation: str | None
    node: str | None
    parent: str | None = None
    plan: str | None = None
    stream: bool = False


@dataclass(slots=True, repr=False)
class CallContent(ShortRepr):
    """The request to an endpoint.

    Attributes:
        messages: The messages, those of earlier turns included, oldest first.
        instructions: The instructions.
        tools: The tools that the model may call.
    """

    messages: tuple[Message, ...] = field(repr=False)
    instructions: tuple[str, ...] = field(repr=False)
    tools: tuple[Usable, ...] = field(repr=False)


@dataclass(slots=True, repr=False)
class EndpointStarted(ShortRepr):
    """An endpoint that is about to be asked: once in a call without a plan, any number of times with one.

    Attributes:
        call_id: Id of the call.
        number: Number of the endpoint within the call, from 1, in the order in which they are asked.
        endpoint: The endpoint.
        config: Options of the call; those that ``warnings`` name were not sent as they stand here.
        warnings: Options that were left out or changed for this endpoint.
        compacted: Whether turns of the conversation are left out, or a summary stands for them.
        content: The messages of the request; None unless the observer ``wants_content``.
    """

    call_id: str
    number: int
    endpoint: Origin
    config: AIModelCallConfig
    warnings: tuple[CallWarning, ...]
    compacted: bool
    content: CallContent | None


@dataclass(slots=True, repr=False)
class EndpointEnded(ShortRepr):
    """An endpoint whose answer ended, after all its attempts.

    Attributes:
        call_id: Id of the call.
        number: Number of the endpoint within the call.
        endpoint: The endpoint.
        outcome: How its answer ended.
        request_id: The provider's id of the last request; None if it sent none.
        status: HTTP status of the last request; None if no response head arrived.
        attempts: Number of requests to this endpoint.
        error: Why it failed; None unless ``outcome`` is ``failed``.
        usage: The last token report of its last request; None if none arrived.
        model: The model that the provider says has answered; None if it said nothing.
        response_id: The provider's id of the answer; None if it sent none.
        finish_reasons: Why each choice of a complete answer ended; empty for any other.
        first_content: Seconds until its first content; None if there was none.
        seconds: Time since the endpoint started.
    """

    call_id: str
    number: int
    endpoint: Origin
    outcome: EndpointOutcome
    request_id: str | None
    status: int | None
    attempts: int
    error: BaseException | None
    usage: Usage | None
    model: str | None
    response_id: str | None
    finish_reasons: tuple[FinishReason, ...]
    first_content: float | None
    seconds: float


@dataclass(slots=True, repr=False)
class AttemptStarted(ShortRepr):
    """A request that is about to be sent.

    Attributes:
        call_id: Id of the call.
        endpoint: The endpoint that is asked.
        number: Number of the request within the call, from 1; all members of a plan count together.
        asked: Number of the endpoint within the call, as in ``EndpointStarted``.
    """

    call_id: str
    endpoint: Origin
    number: int
    asked: int = 1


@dataclass(slots=True, repr=False)
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
        asked: Number of the endpoint within the call, as in ``EndpointStarted``.
    """

    call_id: str
    endpoint: Origin
    number: int
    request_id: str | None
    status: int | None
    error: BaseException | None
    usage: Usage | None
    seconds: float
    asked: int = 1


@dataclass(slots=True, repr=False)
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


@dataclass(slots=True, repr=False)
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
        outcome: How the call ended.
        answer: The answer, complete or not; None unless the observer ``wants_content``.
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
    outcome: CallOutcome = "complete"
    answer: ChatResponse | None = None


@dataclass(slots=True, repr=False)
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


@dataclass(slots=True, repr=False)
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


@dataclass(slots=True, repr=False)
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


@dataclass(slots=True, repr=False)
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


@dataclass(slots=True, repr=False)
class FanOutStarted(ShortRepr):
    """A fan-out that starts: many calls, or turns, at once.

    Attributes:
        fan_out_id: Unique id, the same in both records of the fan-out.
        calls: Number of its requests; None if their iterable has no length.
    """

    fan_out_id: str
    calls: int | None


@dataclass(slots=True, repr=False)
class FanOutEnded(ShortRepr):
    """A fan-out whose calls have all ended.

    Attributes:
        fan_out_id: Id of the fan-out.
        complete: Number of calls with a complete answer.
        failed: Number of calls that ended without one, those that were never started included.
        outcome: ``complete`` if every call ended by itself, with an answer or not; ``failed`` if the caller's iterable
            or progress hook failed.
        error: The error that left the block of the fan-out, or made it fail; None otherwise.
        seconds: Time since the fan-out started.
    """

    fan_out_id: str
    complete: int
    failed: int
    outcome: CallOutcome
    error: BaseException | None
    seconds: float


@dataclass(slots=True, repr=False)
class TraceIds(ShortRepr):
    """Where a call is found in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
    """

    trace_id: str
    span_id: str
