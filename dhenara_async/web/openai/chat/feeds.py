"""``CompletionFeed`` and ``CompletionStreamFeed``: one answer of Chat Completions, whole or in chunks.

The head of the response is sent when the answer has begun, not before: an error until then gets its own HTTP status,
on which clients decide whether they ask again.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from dhenara_async.errors import ServerError
from dhenara_async.events import StreamEvent
from dhenara_async.response import AIModelCallResponse, FinishReason
from dhenara_async.turns.turn import Turn
from dhenara_async.web.frames.failures import Failure, failure_of
from dhenara_async.web.frames.protocol import Ended
from dhenara_async.web.openai.chat.frames import ChatFrames, CompletionHead, completion_body
from dhenara_async.web.openai.errors import FAILED
from dhenara_async.web.openai.whole_feed import WholeFeed, refusal_of


class CompletionStreamFeed:
    """An answer as chunks. See ``Feed``.

    Args:
        stream: The answer; its block was not entered.
        frames: Writes the chunks.
    """

    resumes: bool = False

    def __init__(self, stream: Turn, frames: ChatFrames) -> None:
        self._stream = stream
        self._frames = frames
        self._first: Sequence[StreamEvent] | None = None
        self._response: AIModelCallResponse | None = None
        self.media_type: str = frames.media_type
        self.headers: Mapping[str, str] = frames.headers
        self.comment: bytes = frames.comment

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        try:
            self._first = await self._stream.batch()
        except BaseException as exc:
            await self._stream.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, exc, trace)
        if self._stream.complete:
            self._response = self._stream.response

    def begin(self) -> bytes:
        """See ``Feed``."""
        return self._frames.begin()

    async def read(self) -> bytes | None:
        """See ``Feed``."""
        events, self._first = self._first, None
        if events is None:
            events = await self._stream.batch()
        return self._frames.feed(events) if events else None

    def end(self) -> bytes:
        """See ``Feed``."""
        return self._frames.end(Ended(response=self._response))

    def fail(self, error: BaseException) -> bytes | None:
        """See ``Feed``."""
        return self._frames.fail(failure_of(error))

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """See ``Feed``."""
        return refusal_of(failure)


class CompletionFeed(WholeFeed):
    """An answer as one object. See ``Feed``.

    Args:
        stream: The answer; its block was not entered.
        completion: Names the answer.
    """

    def __init__(self, stream: Turn, completion: CompletionHead) -> None:
        super().__init__()
        self._stream = stream
        self._completion = completion

    async def answered(self) -> bytes:
        """See ``WholeFeed``."""
        async with self._stream as stream:
            answer = (await stream.collect()).chat_response
        if answer.finish_reason is FinishReason.ERROR:
            raise ServerError(FAILED.message, provider=answer.provider, status=FAILED.status)
        return completion_body(self._completion, answer)
