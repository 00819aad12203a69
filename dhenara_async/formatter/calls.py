"""Pairs tool calls with their results: each call gets one result, directly behind it, and each result needs a call.

The repair is not stored: it is repeated, with the same outcome, each time the history is formatted.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dhenara_async.formatter.conversion import Reason
from dhenara_async.formatter.ledger import Ledger, SourceMessage
from dhenara_async.formatter.parts import Files, Terms
from dhenara_async.formatter.summaries import MOVED, NO_DECISION, NO_RESULT, heading, result_gist
from dhenara_async.messages.messages import FilePart, JsonPart, Part, TextPart, ToolCallPart, ToolResultPart


@dataclass(slots=True)
class PairedCall:
    """A tool call with its result.

    Attributes:
        source: The call's message.
        index: The call's index in that message.
        given: The call as its provider sent it.
        part: The call as it is sent to the target, with its id there.
        result: The result, with its message and its index in it; None if there is none yet.
    """

    source: SourceMessage
    index: int
    given: ToolCallPart
    part: ToolCallPart
    result: tuple[SourceMessage, int, ToolResultPart] | None = None


@dataclass(slots=True)
class CallsNamed:
    """The call ids used so far in a conversation.

    Attributes:
        taken: All used ids.
        repeats: Number of ids generated so far for calls with the same id, name and arguments.
    """

    taken: set[str] = field(default_factory=set[str])
    repeats: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])

    def copy(self) -> "CallsNamed":
        return CallsNamed({*self.taken}, {**self.repeats})


class Ids:
    """Assigns call ids that are legal for the target, unique in the conversation, and deterministic.

    Args:
        terms: The target and its rules.
        ledger: Records changed ids.
        named: The ids used so far.
    """

    def __init__(self, terms: Terms, ledger: Ledger, named: CallsNamed) -> None:
        self._legal = terms.rules.call_ids
        self._ledger = ledger
        self._named = named

    def named(self, source: SourceMessage, index: int, given: ToolCallPart, part: ToolCallPart) -> PairedCall:
        """Assign a call's id. Some hosts send no id, or one id twice; such calls get an id made from their content."""
        wire, taken = self._legal.legal(given.call_id), self._named.taken
        if wire in taken:
            alike = given.call_id, given.name, given.arguments
            repeats = self._named.repeats.get(alike, 0)
            while wire in taken:
                repeats += 1
                wire = self._legal.made(f"{given.call_id}\n{given.name}\n{given.arguments}\n{repeats}")
            self._named.repeats[alike] = repeats
        if wire:
            taken.add(wire)
        if wire != given.call_id:
            words = f"{given.call_id!r} is now {wire!r}" if given.call_id else f"it had none and is now {wire!r}"
            self._ledger.note("id_rewritten", "converted", "invalid_for_target", source, index, detail=words)
            part = part.changed(call_id=wire)
        return PairedCall(source, index, given, part)


def paired(calls: Sequence[PairedCall], asked: Iterable[SourceMessage]) -> set[tuple[int, int]]:
    """Assign each call its result from the messages before the next answer; return the places of assigned results."""
    found: set[tuple[int, int]] = set()
    waiting = _Waiting(calls)
    for source in asked:
        for index, part in enumerate(source.message.parts):
            if isinstance(part, ToolResultPart) and (call := waiting.answered_by(part)) is not None:
                call.result = (source, index, part)
                found.add((source.at, index))
    return found


class _Waiting:
    """Finds calls without a result by id, or by name if they have no id.

    Each lookup takes amortised constant time, in any order of results: a call is in one queue per way to find it, and
    a queue skips a call once if another queue has served it.
    """

    def __init__(self, calls: Iterable[PairedCall]) -> None:
        self._by_id: dict[str, deque[PairedCall]] = {}
        self._by_name: dict[str, deque[PairedCall]] = {}
        self._nameless: deque[PairedCall] = deque()  # all calls without id, for results with neither id nor name
        for call in calls:
            if call.given.call_id:
                self._by_id.setdefault(call.given.call_id, deque()).append(call)
            else:
                self._by_name.setdefault(call.given.name, deque()).append(call)
                self._nameless.append(call)

    def answered_by(self, result: ToolResultPart) -> PairedCall | None:
        """Return the first waiting call that ``result`` may belong to; None if there is none."""
        if result.call_id:
            line = self._by_id.get(result.call_id)
        else:
            line = self._by_name.get(result.name) if result.name else self._nameless
        while line and line[0].result is not None:
            line.popleft()
        return line[0] if line else None


class Results:
    """Converts results. Files that a result cannot hold are collected in ``beside``, to be sent after all results."""

    def __init__(self, terms: Terms, ledger: Ledger, *, now: bool) -> None:
        self._rules = terms.rules
        self._ledger = ledger
        self._files = Files(terms, ledger)
        self._now = now
        self.beside: list[Part] = []

    def of(self, call: PairedCall) -> ToolResultPart:
        """Return a call's converted result; an error result is synthesised if none was recorded.

        The result of a hosted call is the decision about it: without one, the call is not approved.
        """
        if call.result is None:
            hosted = call.part.hosted
            words = NO_DECISION if hosted else NO_RESULT
            self._ledger.made_up("tool_result_synthesized", "tool_result", call.source, detail=words)
            content = (TextPart(text=words),)
            return ToolResultPart(
                call_id=call.part.call_id, name=call.part.name, content=content, is_error=True, denied=hosted
            )
        source, index, part = call.result
        if call.part.hosted:
            return part
        content = self._content(source, index, part)
        if part.is_error and not self._rules.error_flag:
            words = "the text says that it is an error"
            self._ledger.note("flag_dropped", "downgraded", "unsupported_by_target", source, index, detail=words)
        if call.part.call_id != part.call_id:
            words = f"{part.call_id!r} is now {call.part.call_id!r}, like its call"
            self._ledger.note("id_rewritten", "converted", "invalid_for_target", source, index, detail=words)
        if part.name not in ("", call.part.name):
            words = f"{part.name!r} is now {call.part.name!r}, like its call"
            self._ledger.note("id_rewritten", "converted", "invalid_for_target", source, index, detail=words)
        if (call.part.call_id, call.part.name, content) == (part.call_id, part.name, part.content):
            return part
        return part.changed(call_id=call.part.call_id, name=call.part.name, content=content)

    def stray(self, source: SourceMessage, index: int, part: ToolResultPart) -> list[Part]:
        """Convert a result without a call to user text."""
        words = "it answers no call that the target is shown"
        self._ledger.note("tool_result_as_text", "downgraded", "invalid_for_target", source, index, detail=words)
        parts: list[Part] = [TextPart(text=result_gist(part))]
        for item in part.content:
            if isinstance(item, FilePart):
                why = self._files.why_not(item, "question")
                kept = item if why is None else self._instead(source, index, part, item, why)
                if kept is item:
                    self._files.inline(source, index, item)
                parts += [] if kept is None else [kept]
        return parts

    def _content(
        self, source: SourceMessage, index: int, part: ToolResultPart
    ) -> Sequence[TextPart | JsonPart | FilePart]:
        if not any(isinstance(item, FilePart) for item in part.content):
            return part.content
        content: list[TextPart | JsonPart | FilePart] = []
        moved: list[FilePart] = []
        for item in part.content:
            if not isinstance(item, FilePart):
                content.append(item)
            elif self._files.why_not(item, "result") is None:
                self._files.inline(source, index, item)
                content.append(item)
            elif (why := self._files.why_not(item, "question")) is None:
                words = "out of the result, to what the user says behind it"
                self._ledger.note("media_moved", "downgraded", "unsupported_by_target", source, index, detail=words)
                self._files.inline(source, index, item)
                moved.append(item)
            else:
                kept = self._instead(source, index, part, item, why)
                content += [] if kept is None else [kept]
        if moved:
            content += [] if content else [TextPart(text=MOVED)]
            self.beside += [TextPart(text=heading(part)), *moved]
        return tuple(content)

    def _instead(
        self, source: SourceMessage, index: int, part: ToolResultPart, item: FilePart, why: Reason
    ) -> FilePart | TextPart | None:
        now = self._now and part.tool is None  # nobody here chose what the tool of a server returns
        return self._files.instead(source, index, item, why, made=False, now=now)
