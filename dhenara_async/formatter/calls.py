"""Every call of a tool has one result, directly behind it, and every result a call: repaired here, both ways.

Nothing of the repair is kept: it is made again, the same, each time the history is formatted.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dhenara_async.formatter.conversion import Reason
from dhenara_async.formatter.ledger import Ledger, SourceMessage
from dhenara_async.formatter.parts import Files, Terms
from dhenara_async.formatter.summaries import MOVED, NO_RESULT, heading, result_gist
from dhenara_async.messages.messages import FilePart, JsonPart, Part, TextPart, ToolCallPart, ToolResultPart


@dataclass(slots=True)
class PairedCall:
    """A call on its way.

    Attributes:
        source: Its message.
        index: Its place there.
        given: What its provider sent.
        part: What goes to the target, with the id it has there.
        result: Its result, with the message it comes from and its place there; None while there is none.
    """

    source: SourceMessage
    index: int
    given: ToolCallPart
    part: ToolCallPart
    result: tuple[SourceMessage, int, ToolResultPart] | None = None


@dataclass(slots=True)
class CallsNamed:
    """The ids that calls of a conversation have by now.

    Attributes:
        taken: All of them.
        repeats: How often an id was made anew for what such calls have in common, so that nobody counts up to there
            again.
    """

    taken: set[str] = field(default_factory=set[str])
    repeats: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])

    def copy(self) -> "CallsNamed":
        return CallsNamed({*self.taken}, {**self.repeats})


class Ids:
    """Gives calls ids that the target takes, no two alike in one conversation, the same every time.

    Args:
        terms: What the target takes.
        named: The ids given so far.
    """

    def __init__(self, terms: Terms, ledger: Ledger, named: CallsNamed) -> None:
        self._legal = terms.rules.call_ids
        self._ledger = ledger
        self._named = named

    def named(self, source: SourceMessage, index: int, given: ToolCallPart, part: ToolCallPart) -> PairedCall:
        """A call with its id for the target. Hosts send no id, or one twice: such calls are told apart by content."""
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
    """Give every call its result out of what is said before the next answer; returns the places of those given."""
    found: set[tuple[int, int]] = set()
    waiting = _Waiting(calls)
    for source in asked:
        for index, part in enumerate(source.message.parts):
            if isinstance(part, ToolResultPart) and (call := waiting.answered_by(part)) is not None:
                call.result = (source, index, part)
                found.add((source.at, index))
    return found


class _Waiting:
    """Calls without a result yet, found by id, or by name where there is no id.

    Each lookup is a step, however many calls there are and in whatever order their results come: a call stands in a
    line for each way to find it, and one that another line has served is skipped once.
    """

    def __init__(self, calls: Iterable[PairedCall]) -> None:
        self._by_id: dict[str, deque[PairedCall]] = {}
        self._by_name: dict[str, deque[PairedCall]] = {}
        self._nameless: deque[PairedCall] = deque()  # all that have no id, for results that have neither id nor name
        for call in calls:
            if call.given.call_id:
                self._by_id.setdefault(call.given.call_id, deque()).append(call)
            else:
                self._by_name.setdefault(call.given.name, deque()).append(call)
                self._nameless.append(call)

    def answered_by(self, result: ToolResultPart) -> PairedCall | None:
        """The first call that ``result`` may belong to; it is taken off once it is given its result."""
        if result.call_id:
            line = self._by_id.get(result.call_id)
        else:
            line = self._by_name.get(result.name) if result.name else self._nameless
        while line and line[0].result is not None:
            line.popleft()
        return line[0] if line else None


class Results:
    """Converts results; what they have no place for is collected in ``beside``, to stand behind all of them."""

    def __init__(self, terms: Terms, ledger: Ledger, *, now: bool) -> None:
        self._rules = terms.rules
        self._ledger = ledger
        self._files = Files(terms, ledger)
        self._now = now
        self.beside: list[Part] = []

    def of(self, call: PairedCall) -> ToolResultPart:
        """The result of a call, made up if nobody recorded one."""
        if call.result is None:
            self._ledger.made_up("tool_result_synthesized", "tool_result", call.source, detail=NO_RESULT)
            return ToolResultPart(
                call_id=call.part.call_id, name=call.part.name, content=(TextPart(text=NO_RESULT),), is_error=True
            )
        source, index, part = call.result
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
        """A result that answers no call, as what the user tells."""
        words = "it answers no call that the target is shown"
        self._ledger.note("tool_result_as_text", "downgraded", "invalid_for_target", source, index, detail=words)
        told: list[Part] = [TextPart(text=result_gist(part))]
        for item in part.content:
            if isinstance(item, FilePart):
                why = self._files.why_not(item, "question")
                kept = item if why is None else self._instead(source, index, item, why)
                if kept is item:
                    self._files.inline(source, index, item)
                told += [] if kept is None else [kept]
        return told

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
                kept = self._instead(source, index, item, why)
                content += [] if kept is None else [kept]
        if moved:
            content += [] if content else [TextPart(text=MOVED)]
            self.beside += [TextPart(text=heading(part)), *moved]
        return tuple(content)

    def _instead(self, source: SourceMessage, index: int, item: FilePart, why: Reason) -> FilePart | TextPart | None:
        return self._files.instead(source, index, item, why, made=False, now=self._now)
