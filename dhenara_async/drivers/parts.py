"""Builds the parts of an answer, numbers them, and makes their events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from dhenara_async.config import Bounds
from dhenara_async.drivers.base import JsonObject, as_text
from dhenara_async.errors import BoundsError
from dhenara_async.events import (
    ChoiceFinish,
    PartEnd,
    PartKind,
    PartStart,
    StreamEnd,
    StreamEvent,
    StreamStart,
    TextDelta,
    UsageUpdate,
)
from dhenara_async.messages.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    Origin,
    Part,
    ProviderState,
    ReasoningPart,
    RefusalPart,
    TextPart,
    TokenLogprob,
    ToolCallPart,
)
from dhenara_async.response import FinishReason, Usage
from dhenara_async.tools.declarations import HostedToolType


def state(value: Mapping[str, object]) -> ProviderState | None:
    """Return opaque state to keep on a part; None if it is empty."""
    return cast(ProviderState, dict(value)) or None


@dataclass(slots=True)
class OpenPart:
    """A part that is being received."""

    part_id: int
    start: PartStart
    pieces: list[str] = field(default_factory=list[str])
    state: JsonObject = field(default_factory=dict[str, object])
    citations: Sequence[Citation] = ()
    logprobs: Sequence[TokenLogprob] = ()

    def cite(self, citations: Iterable[Citation]) -> None:
        """Add citations to the part's text."""
        known = self.citations
        if not isinstance(known, list):  # created late: most parts have no citations
            known = self.citations = list(known)
        known += citations


class PartsInFlight:
    """Numbers, opens and closes the parts of one answer, and makes the events for them.

    Args:
        origin: The endpoint that answers; ``begin`` or ``complete`` adds the model that the response names.
        most: The limit for parts and citations together; ``Bounds.max_parts``.
    """

    __slots__ = (
        "_count",
        "_late_id",
        "_late_model",
        "_left",
        "_most",
        "_origin",
        "_start",
        "finishes",
        "nameless",
        "started",
    )

    def __init__(self, origin: Origin, most: int = Bounds().max_parts) -> None:
        self._origin = origin
        self._count = 0
        self._most = self._left = most
        self._start: StreamStart | None = None
        self._late_model: str | None = None
        self._late_id: str | None = None
        self.started: bool = False
        self.nameless: bool = True  # until the provider has sent both its model and the answer's id
        self.finishes: dict[int, ChoiceFinish] = {}

    @property
    def opened(self) -> int:
        """The number of parts opened so far."""
        return self._count

    @property
    def provider(self) -> str:
        return self._origin.provider

    def begin(self, *, model: object, response_id: object) -> StreamStart:
        """Return the start of the stream, with ``model`` and ``response_id`` as reported by the provider."""
        self.started = True
        served = as_text(model) or None
        self._origin = _served_by(self._origin, served)
        self._start = StreamStart(served, self._origin.provider, as_text(response_id) or None)
        self.nameless = self._start.model is None or self._start.response_id is None
        return self._start

    def complete(self, *, model: object, response_id: object) -> None:
        """Take the model and the id of the answer from a later event; values received earlier stay.

        Some gateways begin with an event of their own that has neither. Parts that end after this call have the model
        in their origin; ``end`` reports both for consumers of the earlier start event.
        """
        start = self._start
        if start is None:
            return
        if start.model is None and self._late_model is None:
            self._late_model = as_text(model) or None
            self._origin = _served_by(self._origin, self._late_model)
        if start.response_id is None and self._late_id is None:
            self._late_id = as_text(response_id) or None

    def open(self, kind: PartKind, *, choice: int = 0, call_id: str | None = None, name: str | None = None) -> OpenPart:
        self.admit(1)
        part = OpenPart(self._count, PartStart(self._count, kind, choice, call_id, name))
        self._count += 1
        return part

    def admit(self, count: int) -> None:
        """Count ``count`` more parts, citations or other values that are kept one by one.

        Raises:
            BoundsError: The answer has more than ``Bounds.max_parts`` of them.
        """
        self._left -= count
        if self._left < 0:
            raise BoundsError("the answer has too many parts", setting="max_parts", limit=self._most)

    def close(self, part: OpenPart, *, text: str | None = None) -> PartEnd:
        """Close the part. ``text`` replaces its collected deltas where the provider repeats the whole text."""
        return PartEnd(part.part_id, self._finished(part, "".join(part.pieces) if text is None else text))

    def hosted(
        self,
        name: str,
        part_state: JsonObject,
        *,
        choice: int = 0,
        tool: HostedToolType | None = None,
        call_id: str | None = None,
        asked: object = None,
        output: object = None,
        report: bool = False,
        needs_approval: bool = False,
    ) -> list[StreamEvent]:
        """Return the events of a tool run by the provider that arrives in one piece, without deltas. ``asked`` and
        ``output`` are plain JSON."""
        part = self.open("hosted_tool", choice=choice, call_id=call_id, name=name)
        part.state = part_state
        ended = self.close_hosted(
            part, tool=tool, asked=asked, output=output, report=report, needs_approval=needs_approval
        )
        return [part.start, ended]

    def close_hosted(
        self,
        part: OpenPart,
        *,
        tool: HostedToolType | None = None,
        asked: object = None,
        output: object = None,
        report: bool = False,
        needs_approval: bool = False,
    ) -> PartEnd:
        """Close a hosted part that was opened earlier, because its input was streamed."""
        ended = HostedToolPart(
            name=part.start.name or "",
            tool=tool,
            call_id=part.start.call_id,
            input=cast("JsonValue", asked),
            output=cast("JsonValue", output),
            report=report,
            needs_approval=needs_approval,
            origin=self._origin,
            provider_state=state(part.state),
        )
        return PartEnd(part.part_id, ended)

    def file(
        self,
        media_type: str,
        part_state: JsonObject,
        *,
        choice: int = 0,
        data: bytes | None = None,
        url: str | None = None,
        file_id: str | None = None,
        filename: str | None = None,
    ) -> list[StreamEvent]:
        """Return the events of a generated file, which arrives in one piece, without deltas.

        Its bytes are not checked against the media type: a mislabelled file is still worth keeping.
        """
        part = self.open("file", choice=choice)
        ended = FilePart.unchecked(
            type="file",
            media_type=media_type,
            data=data,
            url=url,
            file_id=file_id,
            filename=filename,
            origin=self._origin,
            provider_state=state(part_state),
            status="complete",
        )
        return [part.start, PartEnd(part.part_id, ended)]

    def all_at_once(
        self,
        text: str,
        *,
        model: object,
        response_id: object,
        finish: ChoiceFinish,
        usage: Usage | None,
        kept: ProviderState | None = None,
    ) -> list[StreamEvent]:
        """Return every event of an answer that consists of one text and arrived in one piece."""
        return [
            self.begin(model=model, response_id=response_id),
            PartStart(0, "text", 0),
            TextDelta(0, text),
            PartEnd(0, self._text(text, kept, (), ())),
            *usage_events(usage),
            StreamEnd(finish.finish_reason, finish.raw_finish_reason, (finish,)),
        ]

    def end(self) -> StreamEnd:
        """Return the end of the stream, with the recorded finish of each choice."""
        finishes = tuple(self.finishes[choice] for choice in sorted(self.finishes))
        first = finishes[0]
        return StreamEnd(first.finish_reason, first.raw_finish_reason, finishes, self._late_model, self._late_id)

    def _text(
        self,
        text: str,
        kept: ProviderState | None,
        citations: tuple[Citation, ...],
        logprobs: tuple[TokenLogprob, ...],
    ) -> TextPart:
        return TextPart.unchecked(
            origin=self._origin,
            provider_state=kept,
            status="complete",
            type="text",
            text=text,
            citations=citations,
            logprobs=logprobs,
        )

    def _finished(self, part: OpenPart, text: str) -> Part:
        origin, kept = self._origin, state(part.state)
        match part.start.kind:
            case "text":
                return self._text(text, kept, tuple(part.citations), tuple(part.logprobs))
            case "reasoning":
                return ReasoningPart.unchecked(text=text, origin=origin, provider_state=kept)
            case "refusal":
                return RefusalPart.unchecked(text=text, origin=origin, provider_state=kept)
            case "tool_call":
                return ToolCallPart(
                    call_id=part.start.call_id or "",
                    name=part.start.name or "",
                    arguments=text,
                    origin=origin,
                    provider_state=kept,
                )
            case _:
                return HostedToolPart(name=part.start.name or "", origin=origin, provider_state=kept)


_served: dict[str | None, tuple[Origin, Origin]] = {}
_MOST_SERVED, _LONGEST_MODEL = 1000, 200


def _served_by(asked: Origin, model: str | None) -> Origin:
    """Return ``asked`` with the model that its host reports; cached, since it is the same for every answer.

    The cache has the last endpoint of each model: comparing origins costs nothing where they are the same object, and
    hashing them costs as much as making one.
    """
    known = _served.get(model)
    if known is not None and (known[0] is asked or known[0] == asked):
        return known[1]
    served = Origin.unchecked(
        provider=asked.provider,
        dialect=asked.dialect,
        endpoint=asked.endpoint,
        account=asked.account,
        model=asked.model,
        served_model=model,
    )
    if len(model or "") <= _LONGEST_MODEL:
        if len(_served) >= _MOST_SERVED:
            _served.clear()
        _served[model] = asked, served
    return served


def usage_events(usage: Usage | None) -> list[StreamEvent]:
    """Return the event that carries ``usage``, if there is any."""
    return [] if usage is None else [UsageUpdate(usage)]


_CLEAN = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})


def finish_of(
    raw: object, table: Mapping[str, FinishReason], *, has_calls: bool, choice: int = 0, stop_sequence: object = None
) -> ChoiceFinish:
    """Return how a choice ended, from the provider's finish reason ``raw``.

    A missing reason counts as a clean end; an unknown one becomes ``other`` and is kept. A clean end is ``tool_calls``
    if the choice has calls, else ``stop``, whichever of the two the provider sends.
    """
    word = str(raw) if raw is not None and raw != "" else None
    reason = FinishReason.STOP if word is None else table.get(word, FinishReason.OTHER)
    if reason in _CLEAN:
        reason = FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
    return ChoiceFinish(choice, reason, word, as_text(stop_sequence) or None)
