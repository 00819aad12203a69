"""``ResponseStreamFeed`` and ``ResponseFeed``: one response of the Responses API, as events or whole.

The head of the HTTP response is sent when the answer has begun, not before: an error until then gets its own status, on
which clients decide whether they ask again.
"""

from collections.abc import Awaitable, Callable
from typing import Self

from dhenara_async.errors import DhenaraError
from dhenara_async.turns.follower import NODE_EPOCH
from dhenara_async.turns.reader import TurnReader
from dhenara_async.turns.turn import CANCELLED, Turn
from dhenara_async.web.feeds import AnswerFeed
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.openai.responses.frames import ResponseFrames
from dhenara_async.web.openai.responses.object import ResponseHead, response_body
from dhenara_async.web.openai.responses.records import body_of_node
from dhenara_async.web.openai.whole_feed import WholeFeed, refusal_of

Discard = Callable[[], Awaitable[None]]
"""Removes what was made for an answer that did not begin."""


async def keep_all() -> None:
    """Remove nothing."""


class ResponseStreamFeed(AnswerFeed):
    """An answer as events. See ``Feed``.

    Args:
        stream: The answer; its block was not entered.
        head: The id and the other fields that it has from its beginning.
        discard: Is called if the answer does not begin.
    """

    def __init__(
        self,
        stream: Turn,
        head: ResponseHead,
        *,
        discard: Discard = keep_all,
    ) -> None:
        super().__init__(stream, lambda _: ResponseFrames(head))
        self._discard = discard
        self._ahead: bytes | None = None

    async def __aenter__(self) -> Self:
        try:
            await super().__aenter__()
            try:
                self._ahead = await super().read()
            except BaseException as exc:
                await self.__aexit__(type(exc), exc, exc.__traceback__)
                raise
        except DhenaraError:
            await self._discard()
            raise
        return self

    async def read(self) -> bytes | None:
        """See ``Feed``."""
        ahead, self._ahead = self._ahead, None
        return await super().read() if ahead is None else ahead

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """See ``Feed``."""
        return refusal_of(failure)


class ResponseReplayFeed(AnswerFeed):
    """A kept response as events, from its beginning or from where a client was cut. See ``Feed``.

    Args:
        reader: A reader of its turn, from the beginning.
        head: The id and the other fields that it has from its beginning.
        starting_after: The number of the last event that the client has; None = it has none.
    """

    def __init__(self, reader: TurnReader, head: ResponseHead, starting_after: int | None = None) -> None:
        def frames(turn_id: str | None) -> ResponseFrames:
            kept = turn_id is None or reader.cursor.split(".")[-2] != NODE_EPOCH
            return ResponseFrames(head, starting_after=starting_after, events_kept=kept, events_lost=True)

        super().__init__(reader, frames)

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """See ``Feed``."""
        return refusal_of(failure)


class ResponseFeed(WholeFeed):
    """An answer as one object. See ``Feed``.

    Args:
        stream: The answer; its block was not entered.
        head: The id and the other fields that it has from its beginning.
        discard: Is called if there is no answer.
    """

    def __init__(
        self,
        stream: Turn,
        head: ResponseHead,
        *,
        discard: Discard = keep_all,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._head = head
        self._discard = discard

    async def answered(self) -> bytes:
        """See ``WholeFeed``."""
        stream = self._stream
        try:
            async with stream:
                response = await stream.collect()
        except DhenaraError:
            if not (stream.over and stream.node.error == CANCELLED):
                await self._discard()
                raise
            return body_of_node(self._head, stream.node)
        return response_body(self._head, response.chat_response)
