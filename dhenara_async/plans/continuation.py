"""Continues an answer with another endpoint: builds its request, and joins the two texts."""

from collections.abc import Sequence
from typing import assert_never

from dhenara_async.calls.source import EventSource
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import UnsupportedError
from dhenara_async.events import (
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
from dhenara_async.hosts.registry import rules_of
from dhenara_async.messages.messages import Citation, Message, Role, TextPart
from dhenara_async.plans.context import PlanContext
from dhenara_async.plans.wrapper import SourceWrapper


class CannotContinueError(UnsupportedError):
    """A target cannot continue the answer of another."""


def endpoint_source(endpoint: AIModelEndpoint, context: PlanContext) -> EventSource:
    """Build the event source of one endpoint, which starts an answer or continues ``context.so_far``.

    Raises:
        ConfigurationError: The endpoint cannot be called with this configuration.
        UnsupportedError: The endpoint does not support part of the request, or cannot continue an answer.
    """
    further_messages, dropped = _continuation_messages(endpoint, context)
    source = context.open_endpoint(endpoint, context.config, further_messages)
    return RestSource(source, dropped) if dropped else source


def _continuation_messages(endpoint: AIModelEndpoint, context: PlanContext) -> tuple[list[Message], str]:
    """Build the messages that ask ``endpoint`` to continue an answer.

    Returns:
        The messages to append to the request, and the trailing whitespace of the answer that they leave out.
    """
    so_far = context.so_far or ""
    without_trailing = so_far.rstrip()
    if not without_trailing:
        return [], so_far
    answer = Message(role=Role.ASSISTANT, parts=(TextPart(text=so_far),))
    rules = rules_of(endpoint)
    if rules.prefill:  # the formatter removes trailing whitespace that the target refuses, and reports the removal
        return [answer], "" if rules.ragged_prefill else so_far[len(without_trailing) :]
    if context.continuation is None:
        model = endpoint.ai_model.model_name
        raise CannotContinueError(
            f"{model} cannot be given the beginning of its answer as a prefill; set Failover(continuation=…)"
        )
    return [answer, Message.user(context.continuation)], ""


class RestSource(SourceWrapper):
    """Continues an answer for a model that was not shown its trailing whitespace; see ``EventSource``.

    Such a model often starts with this whitespace itself, but the reader has already received it. Whitespace at the
    start of the first text part is therefore held back until it can be compared.

    Args:
        source: Event source of the model.
        dropped: Trailing whitespace that the model was not shown.
    """

    def __init__(self, source: EventSource, dropped: str) -> None:
        super().__init__(source)
        self._dropped = dropped
        self._part: int | None = None  # id of the first text part; None = it has not started
        self._held: str | None = ""  # its leading whitespace received so far; None = its text was passed on
        self._cut = 0  # number of characters removed from its start
        self._settled = False  # the first text part has ended: all further events pass through

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        events = await self._source.receive()
        if self._settled or not events:
            return events
        return [delivered for event in events for delivered in self._deliver(event)]

    def _deliver(self, event: StreamEvent) -> Sequence[StreamEvent]:
        """Return the events that the reader gets for ``event``."""
        match event:
            case TextDelta():
                if event.part_id == self._part and self._held is not None:
                    return self._compare_start(event.part_id, self._held + event.text)
            case PartStart():
                if event.kind == "text" and self._part is None and not self._settled:
                    self._part = event.part_id
            case PartEnd():
                if event.part_id == self._part and isinstance(event.part, TextPart):
                    return self._end_part(event, event.part)
            case StreamReset():
                self._part, self._held, self._cut, self._settled = None, "", 0, False
            case ReasoningDelta() | RefusalDelta() | ToolCallDelta() | UsageUpdate() | Heartbeat():
                pass
            case StreamStart() | StreamSeam() | StreamEnd():
                pass
            case StepStart() | ToolApprovalRequest() | ToolStart() | ToolProgress() | ToolEnd():
                pass  # of a tool loop, which is around plans
            case _:
                assert_never(event)
        return (event,)

    def _compare_start(self, part_id: int, text: str) -> Sequence[StreamEvent]:
        """Hold ``text`` back as long as it is only whitespace, then pass it on."""
        words = text.lstrip()
        if not words:
            self._held = text
            return ()
        return self._pass_on(part_id, text[: len(text) - len(words)], words)

    def _end_part(self, end: PartEnd, part: TextPart) -> Sequence[StreamEvent]:
        """End the first text part, which may consist of whitespace only."""
        before = () if self._held is None else self._pass_on(end.part_id, self._held)
        self._settled = True
        return (*before, PartEnd(end.part_id, without_start(part, self._cut)) if self._cut else end)

    def _pass_on(self, part_id: int, whitespace: str, words: str = "") -> Sequence[StreamEvent]:
        """Pass on the start of the first text part, without the whitespace that the reader already has."""
        self._held = None
        self._cut = _repeated_length(self._dropped, whitespace)
        text = whitespace[self._cut :] + words
        return (TextDelta(part_id, text),) if text else ()


def _repeated_length(shown: str, following: str) -> int:
    """Return how many characters of the whitespace ``following`` repeat the whitespace ``shown`` before it.

    This is the length of the longest end of ``shown`` with which ``following`` starts. Without such an overlap, blanks
    without a line break only separate two words, which ``shown`` already separates, so all of them count.
    """
    for length in range(min(len(shown), len(following)), 0, -1):
        if shown.endswith(following[:length]):
            return length
    return 0 if "\n" in following else len(following)


def without_start(part: TextPart, cut: int) -> TextPart:
    """Return ``part`` without its first ``cut`` characters; citations keep pointing at the same text."""

    def shifted(citation: Citation) -> Citation:
        positions = {"start": citation.start, "end": citation.end}
        update = {name: max(0, position - cut) for name, position in positions.items() if position is not None}
        return citation.changed(**update) if update else citation

    return part.changed(text=part.text[cut:], citations=tuple(shifted(citation) for citation in part.citations))
