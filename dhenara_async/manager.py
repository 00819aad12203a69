"""``ConversationManager``: runs turns, makes nodes of them and keeps them.

Whatever happens to a turn, it leaves a node: complete, interrupted with what came, or failed. The question of the turn
and its instructions go with that turn only.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from types import TracebackType
from typing import Self
from uuid import uuid4
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread

from dhenara_async import prices
from dhenara_async.budget import Budget, Reservation, Spending
from dhenara_async.caller import History, new_transport
from dhenara_async.client import AIModelClient, occasion_of
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode, question
from dhenara_async.conversion import ConversionPolicy
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import BudgetError, ConfigurationError, DeadlineError, DhenaraError, StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.fanout.engine import Fan
from dhenara_async.fanout.turns import TurnFanOut
from dhenara_async.fanout.values import FanOutProgress, Outcome
from dhenara_async.formatter import PromptFormatter
from dhenara_async.formatter.check import ConversionCheck, expected_price
from dhenara_async.limits import Limiter, Limits, LocalLimiter
from dhenara_async.means import Means
from dhenara_async.messages import FilePart, Message, ToolResultPart
from dhenara_async.response import AIModelCallResponse
from dhenara_async.stores import ConversationStore, MemoryStore
from dhenara_async.stream import ResponseStream
from dhenara_async.targets import (
    Experiment,
    Failover,
    Race,
    Router,
    Target,
    endpoints,
    expected,
    first_endpoint,
)
from dhenara_async.transport import Transport
from dhenara_async.warming import loaded, warm_up
from dhenara_async.window import ConversationPolicy, fit

logger: logging.Logger = logging.getLogger("dhenara_async")

STORE_SECONDS = 5.0
PRICES_SECONDS = 5.0
LONG_TURNS = 100
"""From this many turns on a history is formatted in a thread: a thousand take a tenth of a second when they are new."""

Attachment = FilePart | bytes | str | os.PathLike[str]


class Turn:
    """One turn being answered: iterate it inside ``async with``; afterwards ``node`` has it."""

    def __init__(
        self,
        manager: "ConversationManager",
        conversation: Conversation,
        draft: ConversationNode,
        opening: "_Opening",
    ) -> None:
        self._manager = manager
        self._conversation = conversation
        self._draft = draft
        self._opening = opening
        self._opened: ResponseStream | None = opening.at_once()
        self._reserved: list[Reservation] = []
        self._node: ConversationNode | None = None

    @property
    def _stream(self) -> ResponseStream:
        if self._opened is None:
            raise StreamStateError("a turn is read inside its block: async with manager.turn(…) as turn")
        return self._opened

    async def __aenter__(self) -> Self:
        if self._opened is None:
            await self._opening.format_ahead()
        self._reserved = self._manager.reserve(self._conversation, self._opening)
        try:
            if self._opened is None:
                self._opened = await self._opening.summarised()
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
        if not await _keep(self._manager.store, self._conversation, node) and exc is None:
            raise DeadlineError(limit="store", seconds=STORE_SECONDS)

    def _finished(self, exc: BaseException | None, cost: Decimal | None, charge: Decimal | None) -> ConversationNode:
        came = self._stream.partial
        if self._stream.complete:
            status, error = "complete", None
        else:
            status = "interrupted" if any(choice.parts for choice in came.chat_response.choices) else "failed"
            failure = self._stream.failure or exc
            error = "the reader left before the end" if failure is None else _described(failure)
        tries = came.tries
        if status == "failed" and tries and tries[-1].error is None:  # it was left; no answer tells what it took
            took = {"usage": came.chat_response.usage, "cost": cost}
            tries = (*tries[:-1], tries[-1].model_copy(update=took))
        return ConversationNode(
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


@dataclass(frozen=True, slots=True)
class _Opening:
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
        occasion = occasion_of(
            self.asked, self.config, history=self.history, conversation=self.conversation, node=self.draft.id
        )
        return expected(self.client.model_endpoint, occasion, self._expected_of)

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
            history=replace(self.history, summary=summary),
            conversation=self.conversation,
            node=self.draft.id,
        )


class ConversationManager:
    """Runs the turns of any number of conversations over one pool of connections.

    Args:
        store: Where nodes are kept; None = in memory, for as long as this process lives.
        transport: Connections to share; None = its own, closed with the block.
        config: The knobs of every turn that brings none of its own.
        policy: What a turn may do to a history made by other models.
        window: How much of a conversation a turn shows to its model; None = all of it.
        limits: How many requests and tokens each endpoint may be sent, by one rule for all of them or by whoever
            counts; None = as many as come.
        budget: What all turns of this manager together may spend; None = anything.
        conversation_budget: What the turns of each conversation may spend, those before included; None = anything.
    """

    def __init__(
        self,
        *,
        store: ConversationStore | None = None,
        transport: Transport | None = None,
        config: AIModelCallConfig | None = None,
        policy: ConversionPolicy | None = None,
        window: ConversationPolicy | None = None,
        limits: Limits | Limiter | None = None,
        budget: Budget | None = None,
        conversation_budget: Budget | None = None,
    ) -> None:
        self.store: ConversationStore = store or MemoryStore()
        self._config = config or AIModelCallConfig()
        self._policy = policy
        self._window = window
        self._means = Means(limiter=LocalLimiter(limits) if isinstance(limits, Limits) else limits)
        self._spending = None if budget is None else Spending(budget, whose="manager")
        self._conversation_budget = conversation_budget
        self._spendings: WeakKeyDictionary[Conversation, Spending] = WeakKeyDictionary()
        self._summaries: WeakKeyDictionary[Conversation, dict[str, str]] = WeakKeyDictionary()
        self._transport = transport
        self._owned: Transport | None = None

    async def __aenter__(self) -> Self:
        await loaded()
        if self._transport is None:
            self._transport = self._owned = new_transport()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        owned, self._owned = self._owned, None
        if owned is not None:
            self._transport = None
            with anyio.move_on_after(1, shield=True):
                await owned.aclose()

    async def warm_up(self, endpoints: Iterable[Target]) -> None:
        """Do ahead what only the first turn of each has to do; see ``AIModelClient.warm_up``.

        Args:
            endpoints: Who will be asked: endpoints, or plans over several.

        Raises:
            ConfigurationError: One of them has no address, or one that cannot be used.
            TransportError: A host could not be connected to; all others have been.
        """
        if isinstance(endpoints, Target):
            raise ConfigurationError("endpoints is a sequence of endpoints or plans, not one of them")
        await warm_up(endpoints, self._transport, self._config)

    async def create(self) -> Conversation:
        """A new, empty conversation."""
        conversation = Conversation()
        await self.store.create(conversation.id)
        return conversation

    async def open(self, conversation_id: str) -> Conversation:
        """A conversation from the store.

        Raises:
            UnknownConversationError: The store does not have it.
        """
        return await self.store.load(conversation_id)

    def turn(
        self,
        conversation: Conversation,
        query: str,
        endpoint: Target,
        *,
        instructions: Iterable[str] = (),
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
    ) -> Turn:
        """Ask ``endpoint`` the next question of ``conversation`` and stream the answer.

        Args:
            conversation: Its history up to the head is what the model sees; the turn's node becomes its new head.
            query: The question; may be empty where files or tool results say enough.
            endpoint: Who is asked: an endpoint, or a plan over several.
            instructions: What leads this turn, and only this one.
            files: Files, their bytes, paths or URLs to go with the question.
            tool_results: What running the calls of the answer before gave (``run_tools``).
            config: Knobs instead of the manager's.

        Raises:
            ConfigurationError: Nothing is asked, a file cannot be used, or the call cannot be made; nothing was sent.
                What is wrong with the call is raised where the block begins if a summary is made first, or the history
                is long.
        """
        draft = _drafted(conversation, query, instructions, files, tool_results)
        return self._turn(conversation, draft, endpoint, config or self._config, wire_stream=True)

    async def ask(
        self,
        conversation: Conversation,
        query: str,
        endpoint: Target,
        *,
        instructions: Iterable[str] = (),
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
    ) -> ConversationNode:
        """The same as ``turn`` without the events: the finished node. Streams on the wire if ``config.streaming``.

        Raises:
            DhenaraError: The turn failed; its node is in the conversation all the same.
        """
        knobs = config or self._config
        draft = _drafted(conversation, query, instructions, files, tool_results)
        turn = self._turn(conversation, draft, endpoint, knobs, wire_stream=knobs.streaming)
        async with turn:
            await turn.collect()
        return turn.node

    def fan_out(
        self,
        conversation: Conversation,
        query: str,
        endpoints: Iterable[Target],
        *,
        instructions: Iterable[str] = (),
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
        limit: int | None = None,
        on_progress: Callable[[FanOutProgress], object] | None = None,
    ) -> TurnFanOut:
        """Ask several the next question of ``conversation`` at once; each answer is a turn of its own, beside the rest.

        ``async with manager.fan_out(…) as fan: async for tagged in fan: …``, then ``fan.nodes``; or ``await`` it for
        the nodes alone. All follow the turn that is the head now, and none sees another. Every target leaves a node,
        in the conversation and the store, as soon as its turn ends: complete, interrupted or failed; one that could not
        be asked, or was not asked any more, leaves a failed one when the block ends.

        The head is then the first target's turn of which something came, in the order of ``endpoints``, whichever ended
        first; ``checkout`` goes on from another. If something else has become the head meanwhile, it stays that. A
        conversation that is opened from its store has as its head, as ever, the turn that was kept last.

        Args:
            conversation: Its history up to the head is what each model sees.
            query: The question; may be empty where files or tool results say enough.
            endpoints: Who is asked: endpoints, or plans over several.
            instructions: What leads these turns, and only these.
            files: Files, their bytes, paths or URLs to go with the question.
            tool_results: What running the calls of the answer before gave (``run_tools``).
            config: Knobs instead of the manager's.
            limit: How many turns are in flight at once; None = all.
            on_progress: Told when a turn begins and when it ends.

        Raises:
            ConfigurationError: Nothing is asked, nobody is, or a file cannot be used; nothing was sent.
        """
        if isinstance(endpoints, Target):
            raise ConfigurationError("endpoints is a sequence of endpoints or plans, not one of them")
        targets = list(endpoints)
        if not targets:
            raise ConfigurationError("there is nobody to ask: endpoints is empty")
        knobs, path = config or self._config, conversation.path()  # a turn may end before another has begun
        draft = _drafted(conversation, query, instructions, files, tool_results)
        drafts = [draft.model_copy(update={"id": uuid4().hex}) for _ in targets]

        def turn(draft: ConversationNode, target: Target, streamed: bool) -> Turn:
            wire_stream = streamed or knobs.streaming
            return self._turn(conversation, draft, target, knobs, wire_stream=wire_stream, path=path)

        siblings = _Siblings(self.store, conversation, drafts, turn)
        fan = Fan(targets, siblings, limit=limit, on_progress=on_progress, hands="events")
        return TurnFanOut(fan, siblings)

    def check(
        self,
        conversation: Conversation,
        endpoint: Target,
        *,
        query: str = "",
        instructions: Iterable[str] = (),
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
    ) -> ConversionCheck:
        """What the next turn of ``conversation`` would lose if ``endpoint`` were asked, without a network call.

        It also says about how many tokens the prompt would take and cost, and which knobs would be ignored. Of a plan
        it is the endpoint that would be asked first; an experiment by ``node`` may choose another for the turn itself.

        Args:
            conversation: Its history up to the head is what the model would see.
            endpoint: Who would be asked.
            query: What would be asked; may be left out.
            instructions: What would lead the turn.
            files: What would go with the question.
            tool_results: What running the calls of the answer before gave.
            config: Knobs instead of the manager's.

        Raises:
            ConfigurationError: A file cannot be used, or one value is given where several are taken.
            UnsupportedError: The target cannot be asked that at all.
        """
        _check_several(instructions, files, tool_results)
        knobs, asked = config or self._config, question(query, map(_as_file, files), tool_results)
        occasion = occasion_of(asked, knobs, history=History(conversation.path()), conversation=conversation.id)
        return PromptFormatter.check(
            conversation.path(),
            first_endpoint(endpoint, occasion),
            policy=self._policy,
            asked=asked,
            instructions=instructions,
            config=knobs,
            window=self._window,
        )

    def reserve(self, conversation: Conversation, opening: "_Opening") -> list[Reservation]:
        """Set aside what a turn is expected to take, of every budget that it is counted in; its maker settles it.

        Raises:
            BudgetError: There is not enough left; nothing was sent.
        """
        spendings = [] if self._spending is None else [self._spending]
        if self._conversation_budget is not None:
            whose = Spending(self._conversation_budget, whose="conversation", conversation=conversation)
            spendings.append(self._spendings.setdefault(conversation, whose))
        if not spendings:
            return []
        tokens, money = opening.expected()
        reserved: list[Reservation] = []
        try:
            for spending in spendings:
                reserved.append(spending.reserve(tokens=tokens, money=money))
        except BudgetError:
            for reservation in reserved:
                reservation.release()
            raise
        return reserved

    def _turn(
        self,
        conversation: Conversation,
        draft: ConversationNode,
        endpoint: Target,
        config: AIModelCallConfig,
        *,
        wire_stream: bool,
        path: tuple[ConversationNode, ...] | None = None,
    ) -> Turn:
        opening = _Opening(
            client=AIModelClient(endpoint, config, transport=self._transport, policy=self._policy, means=self._means),
            conversation=conversation.id,
            asked=question(draft.user_query, draft.attached_files, draft.tool_results),
            draft=draft,
            config=config,
            history=History(conversation.path() if path is None else path, self._window),
            wire_stream=wire_stream,
            summaries=self._summaries.setdefault(conversation, {}),
            policy=self._policy,
        )
        return Turn(self, conversation, draft, opening)


class _Siblings:
    """The turns of a fan-out; see ``Siblings``.

    Args:
        store: Where they are kept.
        conversation: Where they belong.
        drafts: One for each target.
        turn: Makes the turn of a draft by a target, streamed or not.
    """

    def __init__(
        self,
        store: ConversationStore,
        conversation: Conversation,
        drafts: list[ConversationNode],
        turn: Callable[[ConversationNode, Target, bool], Turn],
    ) -> None:
        self._store = store
        self._conversation = conversation
        self._drafts = drafts
        self._turn = turn
        self._turns: dict[int, Turn] = {}

    def key(self, item: Target) -> None:
        """See ``Opener``."""

    def open(self, item: Target, *, index: int, streamed: bool) -> Turn:
        """See ``Opener``."""
        turn = self._turns[index] = self._turn(self._drafts[index], item, streamed)
        return turn

    async def settle(self, outcomes: Sequence[Outcome]) -> tuple[ConversationNode, ...]:
        """See ``Siblings``."""
        nodes: list[ConversationNode] = []
        made_up: list[ConversationNode] = []
        for outcome, draft in zip(outcomes, self._drafts, strict=True):
            turn = self._turns.get(outcome.index)
            node = turn.node if turn is not None and turn.over else None
            if node is None:
                error = "it was not asked" if outcome.error is None else _described(outcome.error)
                node = draft.model_copy(update={"status": "failed", "error": error, "attempts": 0})
                self._conversation.append(node)
                made_up.append(node)
            nodes.append(node)
        head = self._conversation.head
        if head is not None and any(node.id == head.id for node in nodes):
            self._conversation.checkout(next(node.id for node in nodes if node.status != "failed"))
        for node in made_up:
            await _keep(self._store, self._conversation, node)
        return tuple(nodes)


async def _keep(store: ConversationStore, conversation: Conversation, node: ConversationNode) -> bool:
    """Keep ``node``, whoever is cancelled meanwhile; False where the store takes too long."""
    with anyio.move_on_after(STORE_SECONDS, shield=True) as limit:
        await store.append(conversation.id, node)
    if limit.cancelled_caught:
        logger.error("the store did not keep node %s within %s s; it is only in memory", node.id, STORE_SECONDS)
    return not limit.cancelled_caught


def _drafted(
    conversation: Conversation,
    query: str,
    instructions: Iterable[str],
    files: Iterable[Attachment],
    tool_results: Iterable[ToolResultPart],
) -> ConversationNode:
    """A turn as far as it is known before it is answered."""
    _check_several(instructions, files, tool_results)
    attached, results = tuple(map(_as_file, files)), tuple(tool_results)
    if not query.strip() and not attached and not results:
        raise ConfigurationError("the query is empty: there is nothing to ask")
    head = conversation.head
    return ConversationNode(
        parent_id=None if head is None else head.id,
        user_query=query,
        attached_files=attached,
        tool_results=results,
        instructions=tuple(instructions),
    )


def _check_several(
    instructions: Iterable[str], files: Iterable[Attachment], tool_results: Iterable[ToolResultPart]
) -> None:
    """Refuse one value where several are taken: a text is a sequence of texts too."""
    if isinstance(instructions, str):
        raise ConfigurationError("instructions is a sequence of texts, not one text")
    if isinstance(files, str | bytes | os.PathLike | FilePart):
        raise ConfigurationError("files is a sequence of files, not one file")
    if isinstance(tool_results, ToolResultPart):
        raise ConfigurationError("tool_results is a sequence of results, not one result")


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


def _as_file(attachment: Attachment) -> FilePart:
    if isinstance(attachment, FilePart):
        return attachment
    if isinstance(attachment, bytes):
        return FilePart.from_bytes(attachment)
    if isinstance(attachment, str) and attachment[:8].lower().startswith(("http://", "https://", "data:")):
        return FilePart.from_url(attachment)
    return FilePart.from_path(attachment)


def _described(exc: BaseException) -> str:
    """An error for a stored node: ours in their own words, which hold no secrets; others by name alone."""
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, DhenaraError) else type(exc).__name__
