"""Calls that are answered from memory, and the checks that every replayed answer must pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dhenara_async import AIModelCallConfig, AIModelClient
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.errors import DhenaraError
from dhenara_async.events import (
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.response import ChatResponse
from dhenara_async.testing import check_grammar

CONFIG = AIModelCallConfig(retries=0)


@dataclass(frozen=True, slots=True)
class Heard:
    """The result of one streamed call.

    Attributes:
        stream: The call's stream.
        failure: The error that ended it; None if it ended well.
        events: All events before its end.
    """

    stream: ResponseStream
    failure: DhenaraError | None = None
    events: list[StreamEvent] = field(default_factory=list[StreamEvent])


async def listen(client: AIModelClient, config: AIModelCallConfig = CONFIG) -> Heard:
    """Run one streamed call to its end or failure."""
    async with client.stream("Go on.", config=config) as stream:
        heard = Heard(stream)
        try:
            async for event in stream:
                heard.events.append(event)
        except DhenaraError as exc:
            return replace(heard, failure=exc)
    return heard


def check_cut(heard: Heard, full: Sequence[StreamEvent], error: type[DhenaraError]) -> None:
    """Check a stream that was cut: it has the first of the ``full`` events, then raises exactly ``error``."""
    assert type(heard.failure) is error, repr(heard.failure)
    assert heard.events == full[: len(heard.events)]
    assert len(heard.events) < len(full)
    assert not heard.stream.complete
    check_grammar(heard.events, complete=False)
    assert heard.stream.partial.chat_response.usage.source != "reported"


def check_fold(events: Sequence[StreamEvent], response: ChatResponse) -> None:
    """Check that the deltas, joined in the simplest way, are the content of the response."""
    starts = [event for event in events if isinstance(event, PartStart)]
    pieces = [""] * len(starts)
    for event in events:
        match event:
            case TextDelta() | ReasoningDelta() | RefusalDelta():
                pieces[event.part_id] += event.text
            case ToolCallDelta():
                pieces[event.part_id] += event.arguments
            case _:
                pass
    for choice in response.choices:
        own = [(start.kind, piece) for start, piece in zip(starts, pieces, strict=True) if start.choice == choice.index]
        assert "".join(piece for kind, piece in own if kind == "text") == choice.text()
        assert "".join(piece for kind, piece in own if kind == "reasoning") == choice.reasoning()
        assert "".join(piece for kind, piece in own if kind == "refusal") == choice.refusal()
        assert [piece or "{}" for kind, piece in own if kind == "tool_call"] == [
            call.arguments or "{}" for call in choice.tools()
        ]
    end = events[-1]
    assert isinstance(end, StreamEnd)
    assert [(finish.choice, finish.finish_reason) for finish in end.choices] == [
        (choice.index, choice.finish_reason) for choice in response.choices
    ]
