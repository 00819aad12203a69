"""Check the event grammar: the order of events that every decoded answer must have.

The rules are those in the docstring of ``events``. Authors of drivers, transports and stand-in clients run their events
through ``check_grammar``; consumers of a stream may rely on all of its rules.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn, assert_never

from dhenara_async.events import (
    Heartbeat,
    LoopEvent,
    PartEnd,
    PartKind,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolApprovalRequest,
    ToolCallDelta,
    ToolEnd,
    ToolProgress,
    ToolStart,
    UsageUpdate,
)
from dhenara_async.messages.messages import HostedToolPart, Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart


def check_grammar(events: Iterable[StreamEvent], *, complete: bool = True) -> None:
    """Check that ``events``, from the first to the last of one call or tool loop, follow the event grammar.

    Args:
        events: All events of the call, in order.
        complete: Whether the answer is complete; False for the events before a failure, which leave parts open, and
            tool calls without a result.

    Raises:
        AssertionError: A rule is broken; the message names the rule and the event's index, from 0.
    """
    check = _GrammarCheck()
    for event in events:
        check.take(event)
        check.index += 1
    if complete:
        check.finish()


@dataclass(slots=True)
class _PartState:
    """The received events of one part."""

    start: PartStart
    pieces: list[str] = field(default_factory=list[str])
    ended: bool = False


@dataclass(slots=True)
class _GrammarCheck:
    """Checks the events of one call."""

    index: int = 0
    started: bool = False
    ended: bool = False
    loops: bool = False
    in_step: bool = False
    parts: list[_PartState] = field(default_factory=list[_PartState])
    calls: Counter[str] | None = None  # those of the last answer that have not begun; None in a resumed loop
    running: Counter[str] = field(default_factory=Counter[str])

    def take(self, event: StreamEvent) -> None:
        if isinstance(event, LoopEvent):
            self._take_loop(event)
            return
        if self.loops and not self.ended and not self.started and not self.in_step:
            self.broken("an answer of a tool loop follows StepStart", f"{event.type} came")
        if self.ended:
            self.broken("nothing follows StreamEnd", f"{event.type} came")
        if isinstance(event, StreamStart):
            if self.started:
                self.broken("StreamStart comes once", "it came again")
            self.started = True
            return
        if not self.started:
            self.broken("StreamStart comes first", f"{event.type} came")
        match event:
            case PartStart():
                self._open(event)
            case TextDelta():
                self._grow(event.part_id, "text", event.text)
            case ReasoningDelta():
                self._grow(event.part_id, "reasoning", event.text)
            case RefusalDelta():
                self._grow(event.part_id, "refusal", event.text)
            case ToolCallDelta():
                self._grow(event.part_id, "tool_call", event.arguments)
            case PartEnd():
                self._close(event)
            case StreamReset():
                self.parts.clear()
                self.calls = None if self.calls is None else Counter()
            case StreamSeam():
                self._seam()
            case StreamEnd():
                self._end(event)
            case UsageUpdate() | Heartbeat():
                pass  # allowed anywhere between start and end
            case _:
                assert_never(event)

    def finish(self) -> None:
        """Check that nothing is missing at the end."""
        if self.running:
            self.broken("every ToolStart has its ToolEnd", f"these are running: {sorted(self.running)}")
        if not self.ended and (self.in_step or not self.loops):
            self.broken("a stream ends with StreamEnd", "the events end without it")

    def _take_loop(self, event: LoopEvent) -> None:
        if (self.started and not self.ended) or (self.in_step and not self.started):
            self.broken("the events of a tool loop stand between its answers", f"{event.type} came inside of one")
        if self.ended and not self.loops:
            self.broken("nothing follows StreamEnd", f"{event.type} came")
        self.loops = True
        match event:
            case StepStart():
                if self.running:
                    self.broken("every ToolStart has its ToolEnd", f"these are running: {sorted(self.running)}")
                self.in_step, self.started, self.ended = True, False, False
                self.parts, self.calls = [], Counter()
            case ToolApprovalRequest():
                self._begin(event.call, "a call that waits for approval")
            case ToolStart():
                self._begin(event.call, "a call that begins")
                self.running[event.call.call_id] += 1
            case ToolProgress():
                if not self.running[event.call.call_id]:
                    self.broken(
                        "a ToolProgress comes between ToolStart and ToolEnd", f"{event.call.call_id!r} has none"
                    )
            case ToolEnd():
                if not self.running[event.result.call_id]:
                    self.broken("a ToolEnd has its ToolStart", f"{event.result.call_id!r} has none")
                self.running = self.running - Counter([event.result.call_id])
            case _:
                assert_never(event)

    def _begin(self, call: ToolCallPart, which: str) -> None:
        if self.calls is None:  # the calls of a resumed loop belong to an answer before
            return
        if not self.calls[call.call_id]:
            self.broken(f"{which} is one of the answer's, and comes once", f"{call.call_id!r} is not")
        self.calls[call.call_id] -= 1

    def broken(self, rule: str, instead: str) -> NoReturn:
        raise AssertionError(f"event {self.index}: {rule}, but {instead}")

    def _open(self, event: PartStart) -> None:
        if event.part_id != len(self.parts):
            self.broken(
                "part ids are 0, 1, 2 … in order of PartStart", f"{event.part_id} follows {len(self.parts)} parts"
            )
        self.parts.append(_PartState(event))

    def _seam(self) -> None:
        still_open = [part.start.part_id for part in self.parts if not part.ended]
        if still_open:
            self.broken("a seam stands between parts", f"these are open: {still_open}")

    def _opened(self, part_id: int, rule: str) -> _PartState:
        if not 0 <= part_id < len(self.parts):
            self.broken(rule, f"part {part_id} was never started")
        part = self.parts[part_id]
        if part.ended:
            self.broken(rule, f"part {part_id} has already ended")
        return part

    def _grow(self, part_id: int, kind: PartKind, piece: str) -> None:
        part = self._opened(part_id, "a delta belongs to an open part")
        if part.start.kind != kind:
            self.broken(
                "a delta has the kind of its part", f"a {kind} delta came for part {part_id}, a {part.start.kind}"
            )
        part.pieces.append(piece)

    def _close(self, event: PartEnd) -> None:
        part = self._opened(event.part_id, "a part ends once, after its start")
        part.ended = True
        start, whole = part.start, event.part
        call = whole.requested_call() if isinstance(whole, HostedToolPart) else whole
        if self.calls is not None and isinstance(call, ToolCallPart):
            self.calls[call.call_id] += 1
        if whole.type != start.kind:
            self.broken("the part of PartEnd has the kind of its PartStart", f"a {start.kind} ended as a {whole.type}")
        self._check_name(start, whole)
        text, joined = _delta_text(whole), "".join(part.pieces)
        # a call without arguments has no deltas, and its arguments are {}
        without_arguments = start.kind == "tool_call" and not joined and text == "{}"
        if text != joined and not without_arguments:
            self.broken("a part is its deltas, joined", f"part {event.part_id} has {text!r} and its deltas {joined!r}")

    def _check_name(self, start: PartStart, whole: Part) -> None:
        match whole:
            case ToolCallPart():
                same = (whole.call_id, whole.name) == (start.call_id or "", start.name or "")
            case HostedToolPart():
                same = whole.name == (start.name or "")
            case _:
                same = True
        if not same:
            self.broken("a part keeps the name and the call id of its PartStart", f"part {start.part_id} has others")

    def _end(self, event: StreamEnd) -> None:
        self.ended, self.in_step = True, False
        still_open = [part.start.part_id for part in self.parts if not part.ended]
        if still_open:
            self.broken("every part ends before StreamEnd", f"these are open: {still_open}")
        finishes = {finish.choice: finish.finish_reason for finish in event.choices}
        unfinished = {part.start.choice for part in self.parts} - finishes.keys()
        if unfinished or not finishes:
            self.broken(
                "StreamEnd has the finish reason of every choice", f"it lacks {sorted(unfinished) or 'all of them'}"
            )
        if event.finish_reason != event.choices[0].finish_reason:
            self.broken(
                "StreamEnd's reason is its first choice's",
                f"they are {event.finish_reason} and {event.choices[0].finish_reason}",
            )


def _delta_text(part: Part) -> str:
    """Return the text that the deltas of a part join to; empty for files and hosted tools, which have no deltas."""
    match part:
        case TextPart() | ReasoningPart() | RefusalPart():
            return part.text
        case ToolCallPart():
            return part.arguments
        case _:
            return ""
