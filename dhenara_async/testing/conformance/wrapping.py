"""Test a driver's promises about deviations of hosts: additions around events, sizes, finish reasons."""

import re
from collections.abc import Iterator
from dataclasses import replace

from dhenara_async.calls.body import ResponseBody
from dhenara_async.config import Bounds
from dhenara_async.errors import BoundsError
from dhenara_async.events import StreamEvent
from dhenara_async.response import ChatResponse, FinishReason
from dhenara_async.testing.conformance.bench import Bench, Decoded, Recorded, frames_of, parsed
from dhenara_async.testing.conformance.findings import Findings, demand

_NOT_A_NUMBER = b'{"x_not_a_number":NaN,'
_EVENT_OBJECT = re.compile(rb"^data: ?\{(?=\s*\")", re.MULTILINE)


def check_wrapping(
    bench: Bench,
    recorded: Recorded,
    body: bytes,
    response: ChatResponse,
    where: str,
    findings: Findings,
    *,
    stream: bool,
) -> None:
    """Test one complete answer, as a stream or as a plain body.

    Args:
        bench: The driver under test.
        recorded: The answer.
        body: The body that is tested.
        response: The response that it folds to.
        where: The name of the answer in a report.
        findings: Collects broken promises.
        stream: Whether ``body`` is a stream.
    """
    with findings.of("decode.repaired", where):
        for name, wrapped in _wrapped(body, stream=stream):
            found = bench.fold(Decoded(_events(bench, recorded, wrapped, stream=stream)))
            demand(_content(found) == _content(response), f"{name} changes the answer")
    with findings.of("decode.calls", where):
        for choice in response.choices:
            if choice.finish_reason in (FinishReason.STOP, FinishReason.TOOL_CALLS):
                called = choice.finish_reason is FinishReason.TOOL_CALLS
                demand(
                    called == bool(choice.tools()),
                    f"the finish reason is {choice.finish_reason}, and the calls are {choice.tools()!r}",
                )
    with findings.of("decode.bounds", where):
        count = sum(len(choice.parts) for choice in response.choices)
        if count > 1:
            config = recorded.config.model_copy(update={"bounds": Bounds(max_parts=count - 1)})
            bounded = replace(recorded, config=config)
            error = bench.decode(bounded, frames_of(body, stream=stream), stream=stream).error
            demand(isinstance(error, BoundsError), f"{count} parts with max_parts={count - 1} end in {error!r}")


def _wrapped(body: bytes, *, stream: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the body with additions of hosts and gateways, each with a name."""
    if stream:
        yield "a byte order mark", b"\xef\xbb\xbf" + body
        if b"\r" not in body:
            yield "an empty event between all others", body.replace(b"\n\n", b"\n\ndata:\n\n")
            yield "an end mark after it", body.rstrip(b"\n") + b"\n\ndata: [DONE]\n\n"
        yield "NaN in an unknown field", _EVENT_OBJECT.sub(b"data: " + _NOT_A_NUMBER, body)
    elif isinstance(parsed(body), dict):
        yield "a byte order mark", b"\xef\xbb\xbf" + body
        yield "an end mark after it", body + b"\n\ndata: [DONE]\n\n"
        if re.match(rb'\s*\{\s*"', body):
            yield "NaN in an unknown field", body.replace(b"{", _NOT_A_NUMBER, 1)


def _events(bench: Bench, recorded: Recorded, body: bytes, *, stream: bool) -> list[StreamEvent]:
    """Return the events of a body, read as the client does."""
    reader = ResponseBody(bench.decoder(recorded, stream=stream))
    reader.begin("text/event-stream" if stream else "application/json")
    events = list(reader.take(body))
    return events if reader.complete else [*events, *reader.take(b"")]


def _content(response: ChatResponse) -> object:
    """Return the response without opaque state, in which a driver may keep unknown fields."""
    parts = [
        part.model_dump(mode="json", exclude={"provider_state"}) for choice in response.choices for part in choice.parts
    ]
    return parts, [choice.finish_reason for choice in response.choices], response.usage
