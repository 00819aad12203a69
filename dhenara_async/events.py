"""The one stream type: what comes out of every provider, token by token.

The grammar, checked by ``testing.check_grammar``::

    StreamStart  ( PartStart  delta*  PartEnd )*  UsageUpdate*  StreamEnd

Parts may interleave; deltas name their part by ``part_id`` (0, 1, 2 … in order of appearance); ``Heartbeat`` may stand
anywhere after the start; nothing follows ``StreamEnd``. ``StreamReset`` takes back everything since ``StreamStart``;
``StreamSeam`` stands between parts, where another endpoint goes on.
Usage events are snapshots: the last one counts, they are never summed. A failure is not an event: it is raised, so that
an ``async for`` cannot overlook it.

Slotted and never changed after they are made; one is made per token, so there is no validation here.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from pydantic import BaseModel

from dhenara_async.messages.messages import Part
from dhenara_async.response import CallWarning, FinishReason, Usage

PartKind = Literal["text", "reasoning", "tool_call", "file", "refusal", "hosted_tool"]


@dataclass(slots=True)
class StreamStart:
    """The provider has begun to answer.

    Attributes:
        model: The id it reports; None if it has not told yet, which ``StreamEnd`` then does.
        provider: Who answers.
        response_id: Its id of the answer; None if it has not told yet, likewise.
        request_id: Its id of the request, for its support; None if not told.
        warnings: Knobs that the target could not take as given.
    """

    type: ClassVar[Literal["stream_start"]] = "stream_start"
    model: str | None
    provider: str
    response_id: str | None = None
    request_id: str | None = None
    warnings: tuple[CallWarning, ...] = ()


@dataclass(slots=True)
class PartStart:
    """A part begins.

    Attributes:
        part_id: Its number in this stream, from 0.
        kind: What it is.
        choice: Which of several answers it belongs to.
        call_id: A tool call's id; None otherwise.
        name: A tool call's function or a hosted tool's name; None otherwise.
    """

    type: ClassVar[Literal["part_start"]] = "part_start"
    part_id: int
    kind: PartKind
    choice: int = 0
    call_id: str | None = None
    name: str | None = None


@dataclass(slots=True)
class TextDelta:
    """More of a text part."""

    type: ClassVar[Literal["text_delta"]] = "text_delta"
    part_id: int
    text: str


@dataclass(slots=True)
class ReasoningDelta:
    """More of the thinking that is shown."""

    type: ClassVar[Literal["reasoning_delta"]] = "reasoning_delta"
    part_id: int
    text: str


@dataclass(slots=True)
class RefusalDelta:
    """More of a refusal. Kept apart from ``TextDelta`` so that joined text deltas are the answer and nothing else."""

    type: ClassVar[Literal["refusal_delta"]] = "refusal_delta"
    part_id: int
    text: str


@dataclass(slots=True)
class ToolCallDelta:
    """More of a tool call's arguments: a piece of JSON text."""

    type: ClassVar[Literal["tool_call_delta"]] = "tool_call_delta"
    part_id: int
    arguments: str


@dataclass(slots=True)
class PartEnd:
    """A part is finished; ``part`` is the whole of it."""

    type: ClassVar[Literal["part_end"]] = "part_end"
    part_id: int
    part: Part


@dataclass(slots=True)
class UsageUpdate:
    """Tokens so far; replaces every earlier one."""

    type: ClassVar[Literal["usage_update"]] = "usage_update"
    usage: Usage


@dataclass(slots=True)
class Heartbeat:
    """The provider is alive and has nothing to say."""

    type: ClassVar[Literal["heartbeat"]] = "heartbeat"


@dataclass(slots=True)
class StreamReset:
    """The answer starts anew, elsewhere or once more: everything after ``StreamStart`` is void.

    Attributes:
        reason: Why, in words without secrets.
        start: Who answers now.
    """

    type: ClassVar[Literal["stream_reset"]] = "stream_reset"
    reason: str
    start: StreamStart | None = None


@dataclass(slots=True)
class StreamSeam:
    """The answer goes on elsewhere from where it broke off: what came so far stands, and what was open has ended.

    Attributes:
        reason: Why it broke off, in words without secrets.
        start: Who goes on.
    """

    type: ClassVar[Literal["stream_seam"]] = "stream_seam"
    reason: str
    start: StreamStart


@dataclass(slots=True)
class ChoiceFinish:
    """How one of the answers ended; see ``Choice``."""

    choice: int
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    stop_sequence: str | None = None


@dataclass(slots=True)
class StreamEnd:
    """The answer is complete: the dialect's terminal event was seen.

    Attributes:
        finish_reason: Why the first choice ended.
        raw_finish_reason: The provider's own word for it; None if it sent none.
        choices: The same for every choice.
        model: The id it reported after the start; None if ``StreamStart`` has it, or none came.
        response_id: Its id of the answer, likewise.
    """

    type: ClassVar[Literal["stream_end"]] = "stream_end"
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    choices: tuple[ChoiceFinish, ...] = ()
    model: str | None = None
    response_id: str | None = None


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
)


def event_to_dict(event: StreamEvent) -> dict[str, object]:
    """The event as plain JSON values, ``type`` first; None and empty fields are left out."""
    return {"type": event.type, **_plain_fields(event)}


def event_to_json(event: StreamEvent) -> str:
    """The event as one line of JSON."""
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
