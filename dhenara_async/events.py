"""The events of a stream, the same for every provider.

The grammar, checked by ``testing.check_grammar``::

    StreamStart  ( PartStart  delta*  PartEnd )*  UsageUpdate*  StreamEnd

Parts may interleave; deltas name their part by ``part_id`` (0, 1, 2 … in order of appearance); ``Heartbeat`` may appear
anywhere after the start; nothing follows ``StreamEnd``. ``StreamReset`` voids everything since ``StreamStart``;
``StreamSeam`` stands between parts and marks that another endpoint continues the answer.

A tool loop (``run_tools``) has several answers, each announced by ``StepStart``, and the tool calls after each::

    ( StepStart  answer  ToolApprovalRequest*  ( ToolStart  ToolEnd )* )+

Tool calls run concurrently, so their events interleave. A loop that is resumed begins with the tool calls.

Usage events are snapshots: the last one counts, they are never summed. A failure is not an event: it is raised, so that
an ``async for`` cannot overlook it.

Events are slotted dataclasses and are never changed. One is made per token, so they are not validated.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from pydantic import BaseModel

from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import Origin, Part, ToolCallPart, ToolResultPart
from dhenara_async.response import CallWarning, FinishReason, Usage

PartKind = Literal["text", "reasoning", "tool_call", "file", "refusal", "hosted_tool"]


@dataclass(slots=True, repr=False)
class StreamStart(ShortRepr):
    """The answer begins.

    Attributes:
        model: The model id that the provider reports; None if it reports it later, in ``StreamEnd``.
        provider: The answering provider.
        response_id: The provider's id of the answer; None if it reports it later, in ``StreamEnd``.
        request_id: The provider's request id, to quote to its support; None if absent.
        warnings: Settings that the target dropped or adjusted.
    """

    type: ClassVar[Literal["stream_start"]] = "stream_start"
    model: str | None
    provider: str
    response_id: str | None = None
    request_id: str | None = None
    warnings: tuple[CallWarning, ...] = ()


@dataclass(slots=True, repr=False)
class PartStart(ShortRepr):
    """A part begins.

    Attributes:
        part_id: The part's number in this stream, from 0.
        kind: The part's type.
        choice: Index of the answer it belongs to, from 0.
        call_id: The id of a tool call; None for other kinds.
        name: The function name of a tool call or the name of a hosted tool; None for other kinds.
    """

    type: ClassVar[Literal["part_start"]] = "part_start"
    part_id: int
    kind: PartKind
    choice: int = 0
    call_id: str | None = None
    name: str | None = None


@dataclass(slots=True, repr=False)
class TextDelta(ShortRepr):
    """More text of a text part."""

    type: ClassVar[Literal["text_delta"]] = "text_delta"
    part_id: int
    text: str


@dataclass(slots=True, repr=False)
class ReasoningDelta(ShortRepr):
    """More text of a reasoning part."""

    type: ClassVar[Literal["reasoning_delta"]] = "reasoning_delta"
    part_id: int
    text: str


@dataclass(slots=True, repr=False)
class RefusalDelta(ShortRepr):
    """More text of a refusal. Not a ``TextDelta``, so that the joined text deltas are exactly the answer."""

    type: ClassVar[Literal["refusal_delta"]] = "refusal_delta"
    part_id: int
    text: str


@dataclass(slots=True, repr=False)
class ToolCallDelta(ShortRepr):
    """More of a tool call's arguments: a piece of JSON text."""

    type: ClassVar[Literal["tool_call_delta"]] = "tool_call_delta"
    part_id: int
    arguments: str


@dataclass(slots=True, repr=False)
class PartEnd(ShortRepr):
    """A part is finished; ``part`` is the complete part."""

    type: ClassVar[Literal["part_end"]] = "part_end"
    part_id: int
    part: Part


@dataclass(slots=True, repr=False)
class UsageUpdate(ShortRepr):
    """The token usage so far; replaces every earlier ``UsageUpdate``."""

    type: ClassVar[Literal["usage_update"]] = "usage_update"
    usage: Usage


@dataclass(slots=True, repr=False)
class Heartbeat(ShortRepr):
    """The provider sent a sign of life without content."""

    type: ClassVar[Literal["heartbeat"]] = "heartbeat"


@dataclass(slots=True, repr=False)
class StreamReset(ShortRepr):
    """The answer starts again, at another endpoint or the same one: everything after ``StreamStart`` is void.

    Attributes:
        reason: Why it starts again, without secrets.
        start: The start of the new answer; None if it is not known yet.
    """

    type: ClassVar[Literal["stream_reset"]] = "stream_reset"
    reason: str
    start: StreamStart | None = None


@dataclass(slots=True, repr=False)
class StreamSeam(ShortRepr):
    """Another endpoint continues the interrupted answer: received parts stay, and open parts have ended.

    Attributes:
        reason: Why the first endpoint's answer was interrupted, without secrets.
        start: The start of the continuing endpoint's answer.
    """

    type: ClassVar[Literal["stream_seam"]] = "stream_seam"
    reason: str
    start: StreamStart


@dataclass(slots=True, repr=False)
class ChoiceFinish(ShortRepr):
    """How one of several answers ended; see ``Choice`` for the fields."""

    choice: int
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    stop_sequence: str | None = None


@dataclass(slots=True, repr=False)
class StreamEnd(ShortRepr):
    """The answer is complete: the dialect's terminal event was received.

    Attributes:
        finish_reason: Why the first choice ended.
        raw_finish_reason: The provider's own value; None if it sent none.
        choices: How each choice ended.
        model: The model id, if it was reported after the start; None if ``StreamStart`` has it, or none was reported.
        response_id: The answer's id, if it was reported after the start; else None.
    """

    type: ClassVar[Literal["stream_end"]] = "stream_end"
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    choices: tuple[ChoiceFinish, ...] = ()
    model: str | None = None
    response_id: str | None = None


@dataclass(slots=True, repr=False)
class StepStart(ShortRepr):
    """A tool loop asks a model; the events of its answer follow, with part ids from 0.

    Attributes:
        node_id: The id of the node of this answer; None outside of a conversation.
        endpoint: The endpoint that is asked first.
    """

    type: ClassVar[Literal["step_start"]] = "step_start"
    node_id: str | None
    endpoint: Origin


@dataclass(slots=True, repr=False)
class ToolApprovalRequest(ShortRepr):
    """A tool call waits for a decision (``Pending``); the turn ends, and ``manager.resume`` brings the decision."""

    type: ClassVar[Literal["tool_approval_request"]] = "tool_approval_request"
    call: ToolCallPart


@dataclass(slots=True, repr=False)
class ToolStart(ShortRepr):
    """A tool call begins. A call that cannot be run or was denied begins, too, and ends at once."""

    type: ClassVar[Literal["tool_start"]] = "tool_start"
    call: ToolCallPart


@dataclass(slots=True, repr=False)
class ToolProgress(ShortRepr):
    """A tool that runs reports how far it is; only tools of servers do.

    Attributes:
        call: The call.
        done: How much is done, in units of the tool's own; it grows from report to report.
        total: The value of ``done`` at the end; None if the tool does not know it.
        message: The tool's own words; None if it has none.
    """

    type: ClassVar[Literal["tool_progress"]] = "tool_progress"
    call: ToolCallPart
    done: float
    total: float | None = None
    message: str | None = None


@dataclass(slots=True, repr=False)
class ToolEnd(ShortRepr):
    """A tool call has its result, which is stored where the conversation is."""

    type: ClassVar[Literal["tool_end"]] = "tool_end"
    result: ToolResultPart


LoopEvent = StepStart | ToolApprovalRequest | ToolStart | ToolProgress | ToolEnd
"""The events of a tool loop beside those of its answers."""

StreamEvent = (
    StreamStart
    | PartStart
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | PartEnd
    | UsageUpdate
    | Heartbeat
    | StreamReset
    | StreamSeam
    | StreamEnd
    | LoopEvent
)


def event_to_dict(event: StreamEvent) -> dict[str, object]:
    """Return the event as plain JSON values, ``type`` first, without None and empty fields."""
    return {"type": event.type, **_plain_fields(event)}


def event_to_json(event: StreamEvent) -> str:
    """Return the event as one line of JSON."""
    from dhenara_async.framing.lenient_json import dumps

    return dumps(event_to_dict(event)).decode()


def _plain_fields(value: StreamEvent | ChoiceFinish) -> dict[str, object]:
    plain = ((field.name, _plain(getattr(value, field.name))) for field in fields(value))
    return {name: item for name, item in plain if item is not None and item != []}


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, ChoiceFinish | StreamStart):
        return _plain_fields(value)
    if isinstance(value, tuple):
        items: tuple[object, ...] = value  # pyright: ignore[reportUnknownVariableType] - a tuple field of an event
        return [_plain(item) for item in items]
    return value
