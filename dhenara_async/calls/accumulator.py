"""Folds the events of one stream into a ``ChatResponse``; a partial response is available at any moment.

A finished part is taken from its ``PartEnd``. Deltas are kept only for parts that are still open, so that an
interrupted response loses nothing. The texts of a part are joined once, not concatenated delta by delta.
"""

from collections.abc import Iterable
from typing import assert_never

from dhenara_async.errors import StreamStateError
from dhenara_async.events import (
    ChoiceFinish,
    Heartbeat,
    PartEnd,
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
from dhenara_async.messages.messages import Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.usage.tokens import UNKNOWN, Usage


class Accumulator:
    """Builds one response from the events of its stream.

    Args:
        provider: Name of the provider that responds.
        model: Id of the requested model; replaced by the id that the response reports.
    """

    __slots__ = (
        "_end",
        "_finished_parts",
        "_first_part_id",
        "_model",
        "_pieces",
        "_provider",
        "_response_id",
        "_starts",
        "_usage",
        "announced",
    )

    def __init__(self, *, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._response_id: str | None = None
        self._starts: list[PartStart] = []  # a part's id is its index in these two lists
        self._pieces: list[list[str]] = []  # the deltas of open parts
        self._finished_parts: dict[int, Part] = {}
        self._usage = UNKNOWN
        self._first_part_id = 0  # of the endpoint that responds now; earlier parts came from another endpoint
        self._end: StreamEnd | None = None
        self.announced: bool = False  # the endpoint that responds now has begun its answer

    @property
    def finished(self) -> bool:
        """Whether ``StreamEnd`` was received."""
        return self._end is not None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the first choice ended; None until ``StreamEnd`` was received."""
        return None if self._end is None else self._end.finish_reason

    def feed(self, events: Iterable[StreamEvent]) -> None:
        """Add the next events, in order."""
        pieces = self._pieces
        for event in events:
            kind = event.__class__
            # compares classes, the most frequent first, because this line runs once per token
            if kind is TextDelta or kind is ReasoningDelta or kind is RefusalDelta:
                pieces[event.part_id].append(event.text)  # type: ignore[union-attr] - the comparison above narrowed it
            elif kind is ToolCallDelta:
                pieces[event.part_id].append(event.arguments)  # type: ignore[union-attr] - as above
            else:
                self._add(event)

    def response(self) -> ChatResponse:
        """Return the complete response.

        Raises:
            StreamStateError: ``StreamEnd`` was not received yet; use ``partial`` instead.
        """
        if self._end is None:
            raise StreamStateError("the answer is not complete; .partial has what was received so far")
        return self._fold(self._end.choices)

    def partial(self) -> ChatResponse:
        """Return the response received so far: open parts have the status ``interrupted``, and usage that was
        not final has the source ``estimated``."""
        if self._end is not None:
            return self._fold(self._end.choices)
        choices = sorted({start.choice for start in self._starts}) or [0]
        usage = self._usage
        if usage.source == "reported":
            usage = usage.changed(source="estimated")
        return self._fold(tuple(ChoiceFinish(choice, FinishReason.ERROR) for choice in choices), usage)

    def texts(self) -> list[str]:
        """Return the texts of the first choice, in order; an open text as far as it was received."""
        texts: list[str] = []
        for start in self._starts:
            if start.kind == "text" and start.choice == 0:
                finished = self._finished_parts.get(start.part_id)
                texts.append(finished.get_text() if finished is not None else "".join(self._pieces[start.part_id]))
        return texts

    def parts_of_endpoint(self) -> list[Part]:
        """Return the parts of all choices that the current endpoint sent, open ones as far as they were received."""
        parts = (
            self._finished_parts.get(start.part_id) or self._interrupted(start)
            for start in self._starts[self._first_part_id :]
        )
        return [part for part in parts if part is not None]

    def close_open_parts(self) -> list[PartEnd]:
        """Build a ``PartEnd`` with the status ``interrupted`` for each open part.

        Files and hosted-tool blocks are left out, because they have no deltas to build a part from.
        """
        ends: list[PartEnd] = []
        for start in self._starts:
            part = None if start.part_id in self._finished_parts else self._interrupted(start)
            if part is not None:
                ends.append(PartEnd(start.part_id, part))
        return ends

    @property
    def part_count(self) -> int:
        """Number of parts, open ones included."""
        return len(self._starts)

    def _add(self, event: StreamEvent) -> None:
        match event:
            case PartStart():
                self._starts.append(event)
                self._pieces.append([])
            case PartEnd():
                self._finished_parts[event.part_id] = event.part
                self._pieces[event.part_id] = []
            case UsageUpdate():
                self._usage = event.usage
            case StreamStart():
                self._start_endpoint(event)
            case StreamEnd():
                self._end = event
                if event.model or event.response_id:
                    self._complete(event)
            case StreamReset():
                self._starts.clear()
                self._pieces.clear()
                self._finished_parts.clear()
                self._usage = UNKNOWN
                self._start_endpoint(event.start)
            case StreamSeam():
                self._usage = UNKNOWN  # the usage of the endpoint that continues is not reported yet
                self._start_endpoint(event.start)
            case TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta() | Heartbeat():
                pass  # ``feed`` adds the deltas, and a heartbeat has no content
            case StepStart() | ToolApprovalRequest() | ToolStart() | ToolProgress() | ToolEnd():
                pass  # of a tool loop, whose answers have an accumulator each
            case _:
                assert_never(event)

    def _start_endpoint(self, start: StreamStart | None) -> None:
        """Note which provider and model the following events come from."""
        self.announced = start is not None
        if start is not None:
            self._provider = start.provider
            self._model = start.model or self._model
            self._response_id = start.response_id
            self._first_part_id = len(self._starts)

    def _complete(self, end: StreamEnd) -> None:
        """Take the model and response id that the provider reported late, also for parts that had already ended."""
        self._response_id = end.response_id or self._response_id
        if end.model is None:
            return
        self._model = end.model
        for part_id, part in self._finished_parts.items():
            origin = part.origin
            if part_id >= self._first_part_id and origin is not None and origin.served_model is None:
                served = origin.changed(served_model=end.model)
                self._finished_parts[part_id] = part.changed(origin=served)

    def _fold(self, finishes: tuple[ChoiceFinish, ...], usage: Usage | None = None) -> ChatResponse:
        by_choice: dict[int, list[Part]] = {}
        for start in self._starts:
            part = self._finished_parts.get(start.part_id) or self._interrupted(start)
            if part is not None:
                by_choice.setdefault(start.choice, []).append(part)
        return ChatResponse.unchecked(  # its parts and the events were validated when they were made
            choices=tuple(
                [  # a generator would cost as much as a choice
                    Choice.unchecked(
                        index=finish.choice,
                        parts=tuple(by_choice.get(finish.choice, ())),
                        finish_reason=finish.finish_reason,
                        raw_finish_reason=finish.raw_finish_reason,
                        stop_sequence=finish.stop_sequence,
                    )
                    for finish in finishes
                ]
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
                return None  # a file or a hosted-tool block has no deltas
