"""Somebody else's provider: the ``llmock`` package as the server of our client, in all four dialects.

Its pytest plugin starts it on a free port of the loopback interface and sets the vendors' environment variables, which
is also how our client finds it.
"""

from collections.abc import Mapping
from typing import Protocol, cast

import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Dialect,
    FinishReason,
    Message,
    StreamEnd,
    StreamStart,
    TextDelta,
)
from dhenara_async.errors import AuthenticationError, OverloadedError, RateLimitError, TruncatedStreamError
from tests.loopback import ONCE

_Provider = AIModelAPIProviderEnum
_ENDPOINTS: Mapping[str, AIModelEndpoint] = {
    name: AIModelEndpoint(api=AIModelAPI(provider=provider, dialect=dialect), ai_model=AIModel(model_name=model))
    for name, provider, dialect, model in (
        ("responses", _Provider.OPEN_AI, None, "gpt-6.2-sol"),
        ("chat", _Provider.OPEN_AI, Dialect.OPENAI_CHAT, "gpt-6-luna"),
        ("anthropic", _Provider.ANTHROPIC, None, "claude-sonnet-5-5"),
        ("gemini", _Provider.GOOGLE_AI, None, "gemini-3.8-flash"),
    )
}
_ANSWER = "Pico painted the same window every evening, until the light in it looked warm."
_SAID = ("Tell me a story.", "Once upon a time.", "And then?", "Be brief.")
_TALK = [Message.user("Tell me a story."), Message.assistant("Once upon a time."), Message.user("And then?")]


class _Record(Protocol):
    """What we read of a request that llmock received."""

    @property
    def stream(self) -> bool: ...
    @property
    def status(self) -> int: ...
    @property
    def body(self) -> object: ...


class _LLMock(Protocol):
    """What we use of the plugin's handle, whose own module is heavy and mostly untyped."""

    def reply(self, text: str) -> "_LLMock": ...
    def fail(self, status: int, *, retry_after: float | None = None) -> object: ...
    def truncate(self, *, after_chunks: int) -> object: ...

    @property
    def requests(self) -> list[_Record]: ...


@pytest.mark.parametrize("name", _ENDPOINTS)
async def test_plain_answer(name: str, llmock: _LLMock) -> None:
    llmock.reply(_ANSWER)
    async with AIModelClient(_ENDPOINTS[name]) as client:
        response = await client.generate(messages=_TALK, instructions=["Be brief."])
    chat = response.chat_response
    assert (response.text(), chat.finish_reason) == (_ANSWER, FinishReason.STOP)
    assert chat.usage.source == "reported"
    assert chat.usage.input_tokens
    assert chat.usage.output_tokens
    assert [record.status for record in llmock.requests] == [200]


@pytest.mark.parametrize("name", _ENDPOINTS)
async def test_streamed_answer(name: str, llmock: _LLMock) -> None:
    llmock.reply(_ANSWER)
    async with AIModelClient(_ENDPOINTS[name]).stream(messages=_TALK, instructions=["Be brief."]) as stream:
        events = [event async for event in stream]
    assert isinstance(events[0], StreamStart)
    assert isinstance(events[-1], StreamEnd)
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(deltas) > 1
    assert "".join(deltas) == stream.response.text() == _ANSWER
    assert events[-1].finish_reason is FinishReason.STOP
    assert stream.response.chat_response.usage.source == "reported"
    assert [(record.stream, record.status) for record in llmock.requests] == [(True, 200)]


@pytest.mark.parametrize("name", _ENDPOINTS)
async def test_every_word_of_the_history_is_sent(name: str, llmock: _LLMock) -> None:
    config = AIModelCallConfig(max_output_tokens=500)
    await AIModelClient(_ENDPOINTS[name], config).generate(messages=_TALK, instructions=["Be brief."])
    (record,) = llmock.requests
    leaves = _leaves(record.body)
    assert sorted(text for text in leaves if isinstance(text, str) and text in _SAID) == sorted(_SAID)
    assert 500 in leaves


def _leaves(value: object) -> list[object]:
    match value:
        case dict():
            return [leaf for item in cast("dict[str, object]", value).values() for leaf in _leaves(item)]
        case list():
            return [leaf for item in cast("list[object]", value) for leaf in _leaves(item)]
        case _:
            return [value]


@pytest.mark.parametrize("name", _ENDPOINTS)
async def test_connections_are_kept_over_calls(name: str, llmock: _LLMock) -> None:
    async with AIModelClient(_ENDPOINTS[name], AIModelCallConfig(streaming=True)) as client:
        for number in range(3):
            llmock.reply(f"{number} {_ANSWER}")
            assert (await client.generate("Tell me a story.")).text() == f"{number} {_ANSWER}"
    assert len(llmock.requests) == 3


@pytest.mark.parametrize("name", _ENDPOINTS)
async def test_rate_limit(name: str, llmock: _LLMock) -> None:
    llmock.fail(429, retry_after=7)
    with pytest.raises(RateLimitError) as caught:
        await AIModelClient(_ENDPOINTS[name], ONCE).generate("Tell me a story.")
    assert (caught.value.status, caught.value.retry_after, caught.value.retryable) == (429, 7, True)


@pytest.mark.parametrize("name", _ENDPOINTS)
async def test_outage_and_wrong_key(name: str, llmock: _LLMock) -> None:
    llmock.fail(503)
    with pytest.raises(OverloadedError) as overloaded:
        await AIModelClient(_ENDPOINTS[name], ONCE).generate("Tell me a story.")
    llmock.fail(401)
    with pytest.raises(AuthenticationError) as refused:
        async with AIModelClient(_ENDPOINTS[name]).stream("Tell me a story.") as stream:
            await stream.collect()
    assert (overloaded.value.retryable, refused.value.retryable) == (True, False)


@pytest.mark.parametrize("name", _ENDPOINTS)
async def test_stream_that_ends_too_early(name: str, llmock: _LLMock) -> None:
    """The body ends in good order, only the terminal event is missing: what came is kept, and it is no answer."""
    llmock.reply(_ANSWER).truncate(after_chunks=6)
    stream = AIModelClient(_ENDPOINTS[name]).stream("Tell me a story.")
    with pytest.raises(TruncatedStreamError):
        async with stream:
            await stream.collect()
    partial = stream.partial.text()
    assert partial
    assert _ANSWER.startswith(partial)
    assert partial != _ANSWER
