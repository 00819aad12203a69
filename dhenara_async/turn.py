"""``Turn``: one turn of a conversation being answered, and how it comes to be asked.

Whatever happens to a turn, it leaves a node: complete, interrupted with what came, or failed. The question of the turn
and its instructions go with that turn only.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from dhenara_async.calls.prepare import History
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.client import AIModelClient, routing_context
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import DeadlineError, DhenaraError, StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.formatter.check import expected_price
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.formatter.formatter import PromptFormatter
from dhenara_async.formatter.window import fit
from dhenara_async.messages.attachments import Attached
from dhenara_async.messages.messages import Message
from dhenara_async.plans.targets import Experiment, Failover, Race, Router, endpoints, expected
from dhenara_async.response import AIModelCallResponse
from dhenara_async.stores import ConversationStore
from dhenara_async.usage import prices
from dhenara_async.usage.budget import Reservation

logger: logging.Logger = logging.getLogger("dhenara_async")

STORE_SECONDS = 5.0
PRICES_SECONDS = 5.0
LONG_TURNS = 100
"""From this many turns on a history is formatted in a thread: a thousand take a tenth of a second when they are new."""

Reserve = Callable[["Opening"], list[Reservation]]
"""Sets aside what a turn is expected to take, of every budget that it is counted in."""


class Turn:
    """One turn being answered: iterate it inside ``async with``; afterwards ``node`` has it.

    A read that is cancelled can be repeated and loses nothing, as with ``ResponseStream``.

    Args:
        conversation: Where its node goes.
        draft: The turn as far as it is known.
        opening: Says of the whole draft how its stream is opened.
        reserve: Asked before anything is sent; may refuse.
        store: Where its node is kept.
        unread: The files that go with the question, where some have to be read first; None where none has.
    """

    def __init__(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        opening: Callable[[ConversationNode], "Opening"],
        *,
        reserve: Reserve,
        store: ConversationStore,
        unread: Attached | None = None,
    ) -> None:
        self._reserve = reserve
        self._keeper = store
        self._conversation = conversation
        self._draft = draft
        self._opening_of = opening
        self._unread = unread
        self._opening: Opening | None = None
        self._opened: ResponseStream | None = None
        if unread is None:
            self._begin()
        self._reserved: list[Reservation] = []
        self._node: ConversationNode | None = None

    @property
    def _stream(self) -> ResponseStream:
        if self._opened is None:
            raise StreamStateError("a turn is read inside its block: async with manager.turn(…) as turn")
        return self._opened

    def _begin(self) -> "Opening":
        """Open the stream, or find out how; all of the draft is there."""
        opening = self._opening = self._opening_of(self._draft)
        self._opened = opening.at_once()
        return opening

    async def __aenter__(self) -> Self:
        opening = self._opening
        if opening is None:
            files = () if self._unread is None else await self._unread.read_in_thread()
            self._draft = self._draft.changed(attached_files=tuple(files))
            opening = self._begin()
        if self._opened is None:
            await opening.format_ahead()
        self._reserved = self._reserve(opening)
        try:
            if self._opened is None:
                self._opened = await opening.summarised()
            await self._stream.__aenter__()
        except BaseException:
            self._settle(None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stream.aclose()
        finally:  # closing can be cancelled or fail; what came of the turn is kept all the same
            await self._leave_node(exc)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        return await self._stream.__anext__()

    async def batch(self) -> list[StreamEvent]:
        """The events of the next network read, at least one; empty at the end. Cheaper than one by one."""
        return await self._stream.batch()

    async def collect(self) -> AIModelCallResponse:
        """Receive the rest of the answer at once."""
        return await self._stream.collect()

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come."""
        return self._stream.complete

    @property
    def over(self) -> bool:
        """Whether the block has ended, so that there is a node."""
        return self._node is not None

    @property
    def node(self) -> ConversationNode:
        """The finished turn.

        Raises:
            StreamStateError: The block has not ended yet.
        """
        if self._node is None:
            raise StreamStateError("the turn is not over; its node is there when its block has ended")
        return self._node

    @property
    def response(self) -> AIModelCallResponse:
        """The complete answer, once it is complete."""
        return self._stream.response

    @property
    def partial(self) -> AIModelCallResponse:
        """The answer as far as it has come."""
        return self._stream.partial

    async def _leave_node(self, exc: BaseException | None) -> None:
        cost = charge = None
        try:
            cost, charge = await _counted(self._stream.partial)
        finally:  # a second cancellation may come while prices are loaded; it costs the price, not the node
            node = self._node = self._finished(exc, cost, charge)
            self._conversation.append(node)
            self._settle(node)
            await self._store(node, exc)

    def _settle(self, node: ConversationNode | None) -> None:
        """Say what was spent of what was set aside; nothing where no turn came about."""
        for reservation in self._reserved:
            if node is None:
                reservation.release()
            else:
                reservation.settle_turn(node)

    async def _store(self, node: ConversationNode, exc: BaseException | None) -> None:
        if not await keep(self._keeper, self._conversation, node) and exc is None:
            raise DeadlineError(limit="store", seconds=STORE_SECONDS)

    def _finished(self, exc: BaseException | None, cost: Decimal | None, charge: Decimal | None) -> ConversationNode:
        came = self._stream.partial
        if self._stream.complete:
            status, error = "complete", None
        else:
            status = "interrupted" if any(choice.parts for choice in came.chat_response.choices) else "failed"
            failure = self._stream.failure or exc
            error = "the reader left before the end" if failure is None else described(failure)
        tries = came.tries
        if status == "failed" and tries and tries[-1].error is None:  # it was left; no answer tells what it took
            took = {"usage": came.chat_response.usage, "cost": cost}
            tries = (*tries[:-1], tries[-1].changed(**took))
        node = ConversationNode(
            **self._draft.model_dump(include={"id", "parent_id", "user_query", "instructions"}),
            attached_files=self._draft.attached_files,
            tool_results=self._draft.tool_results,
            response=None if status == "failed" else came.chat_response,
            origin=came.endpoint,
            status=status,
            error=error,
            request_id=came.request_id,
            attempts=came.attempts,
            tries=tries,
            plan=came.plan,
            seams=came.seams,
            warnings=came.warnings,
            conversion=came.conversion.condensed(),
            cost=cost,
            charge=charge,
            prefix=self._stream.prefix,
        )
        signing = None if self._opening is None else self._opening.history.signing
        return node if signing is None else signing.signed(node)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a turn's stream is opened: at once, or after what does not fit the window has been summed up, or after a long
    history has been formatted in a thread.

    Attributes:
        client: Who asks.
        conversation: The id of the conversation.
        asked: What is asked.
        draft: The turn as far as it is known.
        config: Its knobs.
        history: The turns before.
        wire_stream: Whether the provider is asked to stream.
        summaries: What was summed up before, of this conversation: the newest turn in it, and the words.
        policy: What may be done to the history.
        ends_with_reader: See ``ResponseStream``.
    """

    client: AIModelClient
    conversation: str
    asked: list[Message]
    draft: ConversationNode
    config: AIModelCallConfig
    history: History
    wire_stream: bool
    summaries: dict[str, str]
    policy: ConversionPolicy | None
    ends_with_reader: bool = False

    def at_once(self) -> ResponseStream | None:
        """The stream; None where a summary has to be made first, or there is much to format."""
        if self._long_for():
            return None
        window, trimmed = self.history.window, self._trimmed()
        if window is None or window.summarise is None or not trimmed:
            return self._open(None)
        known = self.summaries.get(trimmed[-1].id)
        return None if known is None else self._open(known)

    async def format_ahead(self) -> None:
        """Have a long history formatted without holding up the loop; what is made of it is remembered for the call."""
        if self._long_for():
            await anyio.to_thread.run_sync(self._format)

    async def summarised(self) -> ResponseStream:
        """The stream, with a summary of what does not fit."""
        window, trimmed = self.history.window, self._trimmed()
        if window is None or window.summarise is None or not trimmed:
            return self._open(None)
        known = self.summaries.get(trimmed[-1].id)
        if known is not None:
            return self._open(known)
        words = window.summarise(trimmed)
        if not isinstance(words, str):
            words = await words
        self.summaries.clear()
        self.summaries[trimmed[-1].id] = words
        return self._open(words)

    def expected(self) -> tuple[int, Decimal | None]:
        """About how many tokens the turn takes and what it costs, as much of an answer included as it may have.

        Raises:
            DhenaraError: Nobody can be asked.
        """
        context = routing_context(
            self.asked, self.config, history=self.history, conversation=self.conversation, node=self.draft.id
        )
        return expected(self.client.model_endpoint, context, self._expected_of)

    def _expected_of(self, endpoint: AIModelEndpoint) -> tuple[int, Decimal | None]:
        answer = self.config.max_output_tokens or 0
        check = PromptFormatter.check(
            self.history.nodes,
            endpoint,
            policy=self.policy,
            asked=self.asked,
            instructions=self.draft.instructions,
            config=self.config,
            window=self.history.window,
            signing=self.history.signing,
        )
        return check.input_tokens + answer, expected_price(check.input_tokens, answer, endpoint)

    def _long_for(self) -> list[AIModelEndpoint]:
        """Those that a long history has to be formatted for, as far as that is known: who is asked first; none if it is
        short."""
        if len(self.history.nodes) < LONG_TURNS:
            return []
        match self.client.model_endpoint:
            case AIModelEndpoint() as endpoint:
                return [endpoint]
            case Race() as race:
                return list(endpoints(race))
            case Failover() as failover:
                return list(endpoints(failover))[:1]
            case Router() | Experiment():  # to decide is their caller's code, which is asked once
                return []

    def _format(self) -> None:
        for endpoint in self._long_for():
            with suppress(DhenaraError):  # it is raised again where the call is made
                PromptFormatter.format_conversation(
                    self.history.nodes,
                    endpoint,
                    policy=self.policy,
                    asked=self.asked,
                    instructions=self.draft.instructions,
                    config=self.config,
                    window=self.history.window,
                    signing=self.history.signing,
                )

    def _trimmed(self) -> tuple[ConversationNode, ...]:
        if self.history.window is None:
            return ()
        return fit(self.history.nodes, self.history.window, answers_calls=bool(self.draft.tool_results)).trimmed

    def _open(self, summary: str | None) -> ResponseStream:
        return self.client.open(
            self.asked,
            self.draft.instructions,
            self.config,
            wire_stream=self.wire_stream,
            ends_with_reader=self.ends_with_reader,
            history=replace(self.history, summary=summary),
            conversation=self.conversation,
            node=self.draft.id,
        )


async def keep(store: ConversationStore, conversation: Conversation, node: ConversationNode) -> bool:
    """Keep ``node``, whoever is cancelled meanwhile; False where the store takes too long."""
    with anyio.move_on_after(STORE_SECONDS, shield=True) as limit:
        await store.append(conversation.id, node)
    if limit.cancelled_caught:
        logger.error("the store did not keep node %s within %s s; it is only in memory", node.id, STORE_SECONDS)
    return not limit.cancelled_caught


async def _counted(came: AIModelCallResponse) -> tuple[Decimal | None, Decimal | None]:
    """What a turn cost and is charged at; None where list prices are wanted and the extra for them is missing.

    The first turn that needs list prices loads them in a thread, once its answer is over: that is half a second of
    work, in which the loop's other streams would stand still. Nothing of ours runs in the thread.
    """
    if came.list_prices_wanted and not prices.loaded():
        with anyio.move_on_after(PRICES_SECONDS, shield=True):
            await anyio.to_thread.run_sync(prices.load, abandon_on_cancel=True)
        if not prices.loaded():
            return None, came.charge() if came.pricing.price_list else None
    return came.cost(), came.charge()


def described(exc: BaseException) -> str:
    """An error for a stored node: ours in their own words, which hold no secrets; others by name alone."""
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, DhenaraError) else type(exc).__name__
