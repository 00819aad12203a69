"""Folds the events of one stream into a ``ChatResponse``; at any moment it can say what has come so far.

A finished part is taken from its ``PartEnd``; deltas are kept only for parts that are still open, so that an
interrupted answer loses nothing. Texts are joined once, never added up.
"""

from collections.abc import Iterable

from dhenara_async.errors import StreamStateError
from dhenara_async.events import (
    ChoiceFinish,
    PartEnd,
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
from dhenara_async.messages.messages import Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.usage.tokens import UNKNOWN, Usage


class Accumulator:
    """One answer in the making.

    Args:
        provider: Who answers.
        model: The id that was asked for; the one the response reports replaces it.
    """

    __slots__ = ("_begun", "_end", "_ended", "_model", "_pieces", "_provider", "_response_id", "_starts", "_usage")

    def __init__(self, *, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._response_id: str | None = None
        self._starts: list[PartStart] = []  # a part's id is its place in these two lists
        self._pieces: list[list[str]] = []
        self._ended: dict[int, Part] = {}
        self._usage = UNKNOWN
        self._begun = 0  # the first part of who answers now
        self._end: StreamEnd | None = None

    @property
    def finished(self) -> bool:
        """Whether ``StreamEnd`` has come."""
        return self._end is not None

    def feed(self, events: Iterable[StreamEvent]) -> None:
        """Take the next events, in order."""
        pieces = self._pieces
        for event in events:
            kind = event.__class__
            # by class and most frequent first: this line runs once a token
            if kind is TextDelta or kind is ReasoningDelta or kind is RefusalDelta:
                pieces[event.part_id].append(event.text)  # type: ignore[union-attr] - its class was just compared
            elif kind is ToolCallDelta:
                pieces[event.part_id].append(event.arguments)  # type: ignore[union-attr] - likewise
            else:
                self._take(event)

    def response(self) -> ChatResponse:
        """The complete answer.

        Raises:
            StreamStateError: ``StreamEnd`` has not come yet; ``partial`` has what did.
        """
        if self._end is None:
            raise StreamStateError("the answer is not complete; .partial has what has come so far")
        return self._fold(self._end.choices)

    def partial(self) -> ChatResponse:
        """What has come so far; open parts are marked ``interrupted``, a usage report that was not final
        is marked ``estimated``."""
        if self._end is not None:
            return self._fold(self._end.choices)
        choices = sorted({start.choice for start in self._starts}) or [0]
        usage = self._usage
        if usage.source == "reported":
            usage = usage.changed(source="estimated")
        return self._fold(tuple(ChoiceFinish(choice, FinishReason.ERROR) for choice in choices), usage)

    def texts(self) -> list[str]:
        """The first choice's texts, in order, those that are still coming as far as they have come."""
        texts: list[str] = []
        for start in self._starts:
            if start.kind == "text" and start.choice == 0:
                ended = self._ended.get(start.part_id)
                texts.append(ended.get_text() if ended is not None else "".join(self._pieces[start.part_id]))
        return texts

    def broken_off(self) -> list[PartEnd]:
        """What ends the parts that are still open, as far as they have come; a part that comes whole or not at all
        stays open."""
        ends: list[PartEnd] = []
        for start in self._starts:
            part = None if start.part_id in self._ended else self._interrupted(start)
            if part is not None:
                ends.append(PartEnd(start.part_id, part))
        return ends

    @property
    def started(self) -> int:
        """How many parts there are, open ones included."""
        return len(self._starts)

    def _take(self, event: StreamEvent) -> None:
        match event:
            case PartStart():
                self._starts.append(event)
                self._pieces.append([])
            case PartEnd():
                self._ended[event.part_id] = event.part
                self._pieces[event.part_id] = []
            case UsageUpdate():
                self._usage = event.usage
            case StreamStart():
                self._begin(event)
            case StreamEnd():
                self._end = event
                if event.model or event.response_id:
                    self._complete(event)
            case StreamReset():
                self._starts.clear()
                self._pieces.clear()
                self._ended.clear()
                self._usage = UNKNOWN
                self._begin(event.start)
            case StreamSeam():
                self._usage = UNKNOWN  # of who goes on, as far as that is told
                self._begin(event.start)
            case _:
                pass  # deltas are handled in feed, heartbeats mean nothing here

    def _begin(self, start: StreamStart | None) -> None:
        """Who answers from here on."""
        if start is not None:
            self._provider = start.provider
            self._model = start.model or self._model
            self._response_id = start.response_id
            self._begun = len(self._starts)

    def _complete(self, end: StreamEnd) -> None:
        """Take what the provider told of itself after the start, also for the parts that had ended before that."""
        self._response_id = end.response_id or self._response_id
        if end.model is None:
            return
        self._model = end.model
        for part_id, part in self._ended.items():
            origin = part.origin
            if part_id >= self._begun and origin is not None and origin.served_model is None:
                served = origin.changed(served_model=end.model)
                self._ended[part_id] = part.changed(origin=served)

    def _fold(self, finishes: tuple[ChoiceFinish, ...], usage: Usage | None = None) -> ChatResponse:
        by_choice: dict[int, list[Part]] = {}
        for start in self._starts:
            part = self._ended.get(start.part_id) or self._interrupted(start)
            if part is not None:
                by_choice.setdefault(start.choice, []).append(part)
        return ChatResponse.unchecked(  # of parts that were checked, and of what events say
            choices=tuple(
                Choice.unchecked(
                    index=finish.choice,
                    parts=tuple(by_choice.get(finish.choice, ())),
                    finish_reason=finish.finish_reason,
                    raw_finish_reason=finish.raw_finish_reason,
                    stop_sequence=finish.stop_sequence,
                )
                for finish in finishes
            ),
            usage=usage or self._usage,
            model=self._model,
            provider=self._provider,
            response_id=self._response_id,
        )

    def _interrupted(self, start: PartStart) -> Part | None:
        text = "".join(self._pieces[start.part_id])
        match start.kind:
            case "text":
                return TextPart(text=text, status="interrupted")
            case "reasoning":
                return ReasoningPart(text=text, status="interrupted")
            case "refusal":
                return RefusalPart(text=text, status="interrupted")
            case "tool_call":
                return ToolCallPart(
                    call_id=start.call_id or "", name=start.name or "", arguments=text, status="interrupted"
                )
            case _:
                return None  # a file or a hosted block comes whole or not at all
