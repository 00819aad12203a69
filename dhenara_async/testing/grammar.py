"""Check the event grammar: the order of events that every decoded answer must have.

The rules are those in the docstring of ``events``. Whoever writes a driver, a transport or a stand-in client runs its
events through ``check_grammar``; whoever consumes a stream may rely on everything in here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn, assert_never

from dhenara_async.events import (
    Heartbeat,
    PartEnd,
    PartKind,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from dhenara_async.messages.messages import HostedToolPart, Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart


def check_grammar(events: Iterable[StreamEvent], *, complete: bool = True) -> None:
    """Check that ``events``, from the first to the last of one call, follow the event grammar.

    Args:
        events: All of them, in order.
        complete: Whether the answer came to its end; False for the events before a failure, which leave parts open.

    Raises:
        AssertionError: A rule is broken; the message names the rule and the event by its place, from 0.
    """
    check = _Check()
    for event in events:
        check.take(event)
        check.index += 1
    if complete and not check.ended:
        check.broken("a stream ends with StreamEnd", "nothing more came")


@dataclass(slots=True)
class _Part:
    """A part as far as it has come."""

    start: PartStart
    pieces: list[str] = field(default_factory=list[str])
    ended: bool = False


@dataclass(slots=True)
class _Check:
    """The state of one run over a stream."""

    index: int = 0
    started: bool = False
    ended: bool = False
    parts: list[_Part] = field(default_factory=list[_Part])

    def take(self, event: StreamEvent) -> None:
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
            case StreamSeam():
                self._seam()
            case StreamEnd():
                self._end(event)
            case UsageUpdate() | Heartbeat():
                pass  # allowed anywhere between start and end
            case _:
                assert_never(event)

    def broken(self, rule: str, instead: str) -> NoReturn:
        raise AssertionError(f"event {self.index}: {rule}, but {instead}")

    def _open(self, event: PartStart) -> None:
        if event.part_id != len(self.parts):
            self.broken(
                "part ids are 0, 1, 2 … in order of PartStart", f"{event.part_id} follows {len(self.parts)} parts"
            )
        self.parts.append(_Part(event))

    def _seam(self) -> None:
        still_open = [part.start.part_id for part in self.parts if not part.ended]
        if still_open:
            self.broken("a seam stands between parts", f"these are open: {still_open}")

    def _opened(self, part_id: int, rule: str) -> _Part:
        if not 0 <= part_id < len(self.parts):
            self.broken(rule, f"part {part_id} was never started")
        part = self.parts[part_id]
        if part.ended:
            self.broken(rule, f"part {part_id} has ended before")
        return part

    def _grow(self, part_id: int, kind: PartKind, piece: str) -> None:
        part = self._opened(part_id, "a delta belongs to an open part")
        if part.start.kind != kind:
            self.broken("a delta is of its part's kind", f"a {kind} delta came for part {part_id}, a {part.start.kind}")
        part.pieces.append(piece)

    def _close(self, event: PartEnd) -> None:
        part = self._opened(event.part_id, "a part ends once, after its start")
        part.ended = True
        start, whole = part.start, event.part
        if whole.type != start.kind:
            self.broken("a PartEnd's part is of its PartStart's kind", f"a {start.kind} ended as a {whole.type}")
        self._check_name(start, whole)
        told, joined = _told(whole), "".join(part.pieces)
        # a function without parameters streams nothing; its call is whole all the same
        without_arguments = start.kind == "tool_call" and not joined and told == "{}"
        if told != joined and not without_arguments:
            self.broken("a part is its deltas, joined", f"part {event.part_id} has {told!r} and its deltas {joined!r}")

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
        self.ended = True
        still_open = [part.start.part_id for part in self.parts if not part.ended]
        if still_open:
            self.broken("every part ends before StreamEnd", f"these are open: {still_open}")
        finishes = {finish.choice: finish.finish_reason for finish in event.choices}
        unfinished = {part.start.choice for part in self.parts} - finishes.keys()
        if unfinished or not finishes:
            self.broken(
                "StreamEnd says how every choice ended", f"it is silent on {sorted(unfinished) or 'all of them'}"
            )
        if event.finish_reason != event.choices[0].finish_reason:
            self.broken("StreamEnd's reason is its first choice's", f"they are {event.finish_reason} and another")


def _told(part: Part) -> str:
    """What a whole part says in the words that its deltas can carry; files and hosted tools have no deltas."""
    match part:
        case TextPart() | ReasoningPart() | RefusalPart():
            return part.text
        case ToolCallPart():
            return part.arguments
        case _:
            return ""
