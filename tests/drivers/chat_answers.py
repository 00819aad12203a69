"""Answers of Chat Completions as a test writes them, and what the dialect's decoder makes of them."""

from collections.abc import Iterable

import orjson
from chat_hosts import JSON, endpoint_at

from dhenara_async import AIModelAPIProviderEnum, AIModelCallConfig, StreamEvent
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import ChatResponse
from dhenara_async.testing import check_grammar

DONE = b"[DONE]"
SOME_HOST = AIModelAPIProviderEnum.OPENAI_COMPATIBLE


def events_of(
    chunks: Iterable[JSON | bytes],
    host: AIModelAPIProviderEnum = SOME_HOST,
    *,
    config: JSON | None = None,
    stream: bool = True,
) -> list[StreamEvent]:
    """The events of an answer in these chunks; a plain one has one."""
    endpoint = endpoint_at(host)
    request = ChatRequest((), (), AIModelCallConfig.model_validate(config or {}), stream=stream)
    decoder = driver_for(endpoint).decoder(request, expected_origin(endpoint))
    events: list[StreamEvent] = []
    for chunk in chunks:
        events += decoder.feed(chunk if isinstance(chunk, bytes) else orjson.dumps(chunk))
    events += decoder.finish()
    check_grammar(events)
    return events


def decoded(
    chunks: Iterable[JSON | bytes],
    host: AIModelAPIProviderEnum = SOME_HOST,
    *,
    config: JSON | None = None,
    stream: bool = True,
) -> ChatResponse:
    """The answer in these chunks."""
    accumulator = Accumulator(provider="x", model="m")
    accumulator.feed(events_of(chunks, host, config=config, stream=stream))
    return accumulator.response()


def delta(finish: object = None, /, **said: object) -> JSON:
    """A chunk of a stream."""
    return {"id": "c", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def whole(finish: object = "stop", /, **said: object) -> JSON:
    """A plain body."""
    message = {"role": "assistant", **said}
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
