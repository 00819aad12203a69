"""``FollowedStream``: the stream of a turn that was begun before under the same id, here or in another process."""

from typing import NoReturn

from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import DetachedError, DhenaraError, StreamStateError
from dhenara_async.events import StepStart, StreamEvent, ToolApprovalRequest, ToolEnd, ToolStart
from dhenara_async.messages.messages import Origin
from dhenara_async.response import AIModelCallResponse, ChatResponse, Latency
from dhenara_async.turns.reader import TurnReader

_UNKNOWN = Origin(provider="", dialect="", endpoint="", account=None, model="")
_NONE = Latency(first_event=None, total=0.0)


class FollowedStream:
    """Reads a turn like a reader who attaches to it, with the results of a stream.

    Args:
        reader: The reader, whose block was entered.
    """

    def __init__(self, reader: TurnReader) -> None:
        self._reader = reader
        self._answer = Accumulator(provider="", model="")
        self._take(reader.before())

    @property
    def cursor(self) -> str:
        """See ``TurnReader.cursor``."""
        return self._reader.cursor

    @property
    def node(self) -> ConversationNode | None:
        """The finished turn; None if it is not over."""
        try:
            return self._reader.node
        except StreamStateError:
            return None

    async def __anext__(self) -> StreamEvent:
        event = await self._reader.__anext__()
        self._take([event])
        return event

    async def batch(self) -> list[StreamEvent]:
        """See ``ResponseStream.batch``."""
        events = await self._reader.batch()
        self._take(events)
        return events

    async def collect(self) -> AIModelCallResponse:
        """See ``ResponseStream.collect``."""
        while await self.batch():
            pass
        return self.response

    @property
    def complete(self) -> bool:
        """Whether the answer is complete."""
        node = self.node
        return node is not None and node.status == "complete"

    @property
    def response(self) -> AIModelCallResponse:
        """The complete answer.

        Raises:
            StreamStateError: It is not complete.
        """
        node = self.node
        if node is None or node.response is None or node.status != "complete":
            raise StreamStateError("the answer is not complete; .partial has what was received so far")
        return _response(node.response, node)

    @property
    def partial(self) -> AIModelCallResponse:
        """The answer as far as it was read."""
        return self.response if self.complete else _response(self._answer.partial(), self.node)

    async def aclose(self) -> None:
        """Stop reading; the turn goes on."""
        await self._reader.__aexit__(None, None, None)

    def _take(self, events: list[StreamEvent]) -> None:
        for event in events:
            if isinstance(event, StepStart):
                self._answer = Accumulator(provider=event.endpoint.provider, model=event.endpoint.model)
            elif not isinstance(event, ToolApprovalRequest | ToolStart | ToolEnd):
                self._answer.feed((event,))


class LeftStream:
    """The stream of a turn whose block was left after ``detach``: nothing can be read from it.

    Args:
        turn_id: The id of the turn.
    """

    def __init__(self, turn_id: str) -> None:
        self._turn_id = turn_id

    async def __anext__(self) -> NoReturn:
        raise detached(self._turn_id)

    async def batch(self) -> NoReturn:
        """Refuse.

        Raises:
            DetachedError: Always.
        """
        raise detached(self._turn_id)


def detached(turn_id: str) -> DhenaraError:
    """Return the error for a turn that goes on without its block."""
    return DetachedError(
        f"turn {turn_id} goes on without this block: manager.attach(turn.id, cursor) reads on and has its node"
    )


def _response(answer: ChatResponse, node: ConversationNode | None) -> AIModelCallResponse:
    if node is None:
        return AIModelCallResponse(chat_response=answer, endpoint=_UNKNOWN, latency=_NONE)
    return AIModelCallResponse(
        chat_response=answer,
        endpoint=node.origin or _UNKNOWN,
        request_id=node.request_id,
        attempts=node.attempts,
        tries=node.tries,
        plan=node.plan,
        seams=node.seams,
        latency=_NONE,
        warnings=node.warnings,
        conversion=node.conversion,
    )
