"""``ConversationManager``: runs turns over shared connections, limits and budgets, and stores their nodes."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import anyio
from pydantic import JsonValue

from dhenara_async.calls.checks import check_config, check_conversation, check_metadata, check_several, id_of
from dhenara_async.calls.input import CallInput, History
from dhenara_async.calls.observer import Observer
from dhenara_async.calls.prepare import new_transport
from dhenara_async.calls.preview import RequestPreview, preview_of
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.warmup import loaded, warm_up
from dhenara_async.client import AIModelClient
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode, question
from dhenara_async.errors import ConfigurationError, MissingExtraError, UnknownConversationError, UnsupportedError
from dhenara_async.fanout.engine import Fan
from dhenara_async.fanout.values import FanOutProgress
from dhenara_async.formatter.check import ConversionCheck
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.formatter.window import ConversationPolicy
from dhenara_async.limits.limiter import Limiter, Limits, LocalLimiter
from dhenara_async.messages.attachments import Attached, Attachment
from dhenara_async.messages.messages import ToolResultPart
from dhenara_async.plans.targets import Target, first_endpoint, target_of
from dhenara_async.stores import (
    ConversationPage,
    ConversationStore,
    MemoryStore,
    SearchHit,
    StoredConversation,
    StoreWithDescriptions,
    StoreWithInstructions,
    StoreWithOwners,
    StoreWithSearch,
)
from dhenara_async.stores.journal import StoreWithJournal
from dhenara_async.stores.signing import SigningKey, SigningKeys
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.transport import Transport
from dhenara_async.turns.factory import TurnFactory
from dhenara_async.turns.fan_out import TurnFanOut
from dhenara_async.turns.keeping import keep_lost
from dhenara_async.turns.live import LiveTurns
from dhenara_async.turns.loading import load_all, load_children, load_node, opened
from dhenara_async.turns.log import Journal
from dhenara_async.turns.reader import TurnReader
from dhenara_async.turns.siblings import SiblingTurns
from dhenara_async.turns.turn import Turn
from dhenara_async.usage.budget import Budget
from dhenara_async.usage.budgeted_client import ClientWithBudget

if TYPE_CHECKING:
    from dhenara_async.stores import SQLStore


class ConversationManager:
    """Runs the turns of any number of conversations over one pool of connections.

    Args:
        store: Keeps the nodes: a store, closed by its maker; or the path of an SQLite file (extra ``sql``) or a
            database's URL (extra ``postgres``), which the manager opens and closes. None = in memory, until the process
            ends.
        transport: Connections to share; None = its own, closed with the block.
        config: Options of turns without a config of their own.
        instructions: Standing instructions: they lead every turn without instructions of its own. A conversation keeps
            those of the manager that created it.
        policy: The conversion policy for content of other models.
        window: The part of a conversation that is sent to a model; None = everything.
        limits: How many requests and tokens each endpoint may be sent, by one rule for all of them or by a
            limiter of your own; None = as many as come.
        budget: The most that all turns of this manager may spend together; None = no limit.
        conversation_budget: The most that the turns of each conversation may spend, earlier ones included; None = no
            limit.
        signing_key: Signs the opaque state of every node that a turn leaves: a node of the store whose signature is
            missing or wrong is answered to without that state. One key, of 32 random bytes, or several of which the
            first signs and all are accepted. None = nodes are not signed, and no signature is looked at.
        observers: Receive a record when a call or an attempt of a turn starts and ends; see ``Observer``.
        journal: Keeps turns while they are answered, for ``attach`` and ``detach`` in any process and for crashes;
            None = only finished turns are kept.

    Raises:
        ConfigurationError: ``signing_key`` is empty, or ``store`` is no address. While an event loop runs, the address
            may be looked at only where the block begins, because that loads the database's library.
    """

    def __init__(
        self,
        *,
        store: ConversationStore | str | os.PathLike[str] | None = None,
        transport: Transport | None = None,
        config: AIModelCallConfig | None = None,
        instructions: Iterable[str] = (),
        policy: ConversionPolicy | None = None,
        window: ConversationPolicy | None = None,
        limits: Limits | Limiter | None = None,
        budget: Budget | None = None,
        conversation_budget: Budget | None = None,
        signing_key: SigningKey | Sequence[SigningKey] | None = None,
        observers: Iterable[Observer] = (),
        journal: Journal | None = Journal(),  # noqa: B008 - immutable
    ) -> None:
        config = AIModelCallConfig() if config is None else config
        check_config(config)
        limiter = LocalLimiter(limits) if isinstance(limits, Limits) else limits
        self._make_turns: Callable[[ConversationStore], TurnFactory] = partial(
            TurnFactory,
            config=config,
            instructions=_standing(instructions),
            policy=policy,
            window=window,
            transport=transport,
            shared=SharedResources(limiter=limiter, observers=tuple(observers)),
            budget=budget,
            conversation_budget=conversation_budget,
            signing=None if signing_key is None else SigningKeys(signing_key),
            journal=journal,
        )
        self._factory: TurnFactory | None = None  # made when it is first needed, if the store has to be loaded first
        self._address: str | os.PathLike[str] | None = None
        self._owned_store: ConversationStore | None = None
        self._owned: Transport | None = None
        self._tools: ToolSessions | None = None
        if not isinstance(store, str | os.PathLike):
            self._factory = self._make_turns(store or MemoryStore())
            return
        self._address = store
        if "dhenara_async.stores.sql" in sys.modules or not _on_loop():
            self._open_address(store)

    def __repr__(self) -> str:
        return f"ConversationManager(store={self.store!r})"

    @property
    def store(self) -> ConversationStore:
        """Where the conversations are kept."""
        return self._turns.store

    @property
    def config(self) -> AIModelCallConfig:
        """The options of turns and calls without a config of their own."""
        return self._turns.config

    @property
    def _turns(self) -> TurnFactory:
        if self._factory is None:
            return self._open_address(self._address or "")
        return self._factory

    def _open_address(self, address: str | os.PathLike[str]) -> TurnFactory:
        """Make the store at an address, which the manager's block opens and closes, and the factory of its turns."""
        self._owned_store = _sql_store(address)(address)
        self._factory = self._make_turns(self._owned_store)
        return self._factory

    async def __aenter__(self) -> Self:
        await loaded()
        if self._factory is None:
            await asyncio.get_running_loop().run_in_executor(None, _load_database, self._address or "")
        turns = self._turns
        if turns.shared.tools is not None:  # in the block of the manager that this one was scoped from
            return self
        if self._owned_store is not None:
            await self._owned_store.__aenter__()
        if turns.transport is None:
            turns.transport = self._owned = new_transport()
        self._tools = ToolSessions()
        turns.shared = replace(turns.shared, tools=self._tools)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        owned, self._owned = self._owned, None
        tools, self._tools = self._tools, None
        if tools is None:  # its block has opened nothing
            return
        try:
            if self._turns.live is not None:
                await self._turns.live.close(at_once=exc is not None)
        finally:
            await self._close(owned, tools)

    async def _close(self, transport: Transport | None, tools: ToolSessions) -> None:
        """Close the connections, the servers of tools and the store, each also if closing another one fails."""
        try:
            if transport is not None:
                self._turns.transport = None
                with anyio.move_on_after(1, shield=True):
                    await transport.aclose()
        finally:
            try:
                self._turns.shared = replace(self._turns.shared, tools=None)
                await tools.aclose()
            finally:
                if self._owned_store is not None:
                    await self._owned_store.aclose()

    async def warm_up(self, endpoints: Iterable[Target | str]) -> None:
        """Load modules and connect to hosts ahead of the first turns; see ``AIModelClient.warm_up``.

        Args:
            endpoints: The targets of the first turns: endpoints, their short names, or plans over several.

        Raises:
            ConfigurationError: One of them has no address, or one that cannot be used.
            TransportError: A host could not be connected to; all others have been.
        """
        config, tools = self._turns.config, self._turns.shared.tools
        await warm_up(_targets(endpoints), self._turns.transport, config)
        if config.tools and tools is not None:
            await tools.warm_up(config.tools)

    def scoped(self, owner: str | None) -> "ConversationManager":
        """Return this manager as one owner sees it: another owner's conversations do not exist for it.

        It shares everything else with this manager, whose block stays open while it is used; it may be made before that
        is entered. A manager that was not scoped sees only conversations without an owner.

        Args:
            owner: The id of a user, as the application knows it; None = conversations without an owner.

        Raises:
            ConfigurationError: The owner is empty or cannot be kept.
            UnsupportedError: The store does not keep owners apart.
        """
        if not isinstance(self.store, StoreWithOwners):
            raise UnsupportedError(f"{type(self.store).__name__} does not keep owners apart: it has no scoped()")
        scoped = copy(self)
        scoped._owned_store = scoped._owned = scoped._tools = None
        scoped._factory = self._turns.scoped(self.store.scoped(owner), owner)
        return scoped

    async def create(
        self,
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        instructions: Iterable[str] | None = None,
    ) -> Conversation:
        """Create an empty conversation.

        Args:
            title: A title to list it by.
            metadata: A JSON object of the application's own, listed with it.
            instructions: Its standing instructions, kept with it; None = those of the manager.

        Raises:
            StoreError: It is not stored.
            UnsupportedError: The store does not keep instructions.
        """
        led = self._turns.instructions if instructions is None else _standing(instructions)
        conversation = Conversation(instructions=led)
        if isinstance(self.store, StoreWithInstructions):
            await self.store.create_instructed(conversation.id, led, title=title, metadata=metadata)
        elif instructions is None:
            await self.store.create(conversation.id, title=title, metadata=metadata)
        else:
            raise UnsupportedError(
                f"{type(self.store).__name__} does not keep the instructions of a conversation: it has no "
                "create_instructed(); give them to ConversationManager(instructions=…) or to each turn"
            )
        return conversation

    async def list(self, *, limit: int = 20, before: str | None = None) -> ConversationPage:
        """List the conversations, the most recently created first; see ``ConversationStore.list``."""
        return await self.store.list(limit=limit, before=before)

    async def describe(self, conversation: Conversation | str) -> StoredConversation:
        """Return the title, the metadata and the times of a conversation, or of the one with that id.

        A store without ``describe`` is searched page by page of its list.

        Raises:
            UnknownConversationError: The store does not have it.
        """
        conversation_id, store = id_of(conversation), self.store
        if isinstance(store, StoreWithDescriptions):
            return await store.describe(conversation_id)
        cursor: str | None = None
        while True:
            page = await store.list(limit=100, before=cursor)
            for item in page.items:
                if item.id == conversation_id:
                    return item
            if (cursor := page.next) is None:
                raise UnknownConversationError(f"no conversation {conversation_id!r} in this store")

    async def search(self, query: str, *, limit: int = 20) -> tuple[SearchHit, ...]:
        """Return the nodes that have every word of ``query``, the newest first; see ``StoreWithSearch``.

        Raises:
            UnsupportedError: The store cannot search.
        """
        if not isinstance(self.store, StoreWithSearch):
            raise UnsupportedError(f"{type(self.store).__name__} cannot search: it has no search()")
        return await self.store.search(query, limit=limit)

    async def rename(self, conversation: Conversation | str, title: str | None) -> None:
        """Change the title of a conversation, or of the one with that id; None removes it.

        Raises:
            UnknownConversationError: The store does not have it.
        """
        await self.store.rename(id_of(conversation), title)

    async def delete(self, conversation: Conversation | str) -> None:
        """Delete a conversation, or the one with that id, and its nodes. Nothing changes if it does not exist."""
        conversation_id = id_of(conversation)
        await self.store.delete(conversation_id)
        if self._turns.live is not None:
            self._turns.live.forget(self._turns.owner, conversation_id)

    def attach(self, turn_id: str, cursor: str | None = None) -> TurnReader:
        """Read a turn from ``cursor`` on, and go on as it is answered; any number of readers may.

        The turn may be answered in any process on the same store, where that keeps a journal. A cursor that is not one
        of this turn as it is kept gets a ``StreamReset`` and the whole turn. When the time of its events is over
        (``Journal.keep``), the turn is replayed from its node. A turn whose process is gone is ended as
        ``interrupted``.

        Args:
            turn_id: The ``id`` of the turn.
            cursor: The ``cursor`` of an earlier reader; None = from the beginning.

        Raises:
            UnknownTurnError: Where the block begins: there is no such turn.
            StoreError: There too: the store failed.
        """
        owner, store = self._turns.owner, self.store
        return TurnReader(
            lambda: self._live().open(owner, store, turn_id), lambda log: self._live().release(owner, log), cursor
        )

    async def running(self, conversation: Conversation | str) -> tuple[ConversationNode, ...]:
        """Return the turns of a conversation that are being answered: their ids, parents and questions, no answers.

        They are in the order in which they began, those of other processes on the same store among them; empty without
        a journal. ``attach`` reads their answers.

        Args:
            conversation: The conversation, or its id; it need not exist.
        """
        if self._turns.live is None:
            return ()
        conversation_id = id_of(conversation)
        own = {draft.id: draft for draft in self._turns.live.running(self._turns.owner, conversation_id)}
        if not isinstance(self.store, StoreWithJournal):
            return tuple(own.values())
        await self._turns.live.end_dead(self.store, conversation_id)
        stored = [turn for turn in await self.store.open_turns(conversation_id) if turn.id in own or not turn.expired]
        return (*(own.pop(turn.id, turn.draft) for turn in stored), *own.values())

    async def finish(self, seconds: float) -> None:
        """Wait for the turns that go on without a reader, and cut those that take longer; for the end of an app.

        Args:
            seconds: How long; a turn that is cut leaves an ``interrupted`` node with what came.
        """
        if self._turns.live is not None:
            await self._turns.live.finish(seconds)

    @property
    def keeps_journal(self) -> bool:
        """Whether turns can be attached to, detached and cancelled."""
        return self._turns.live is not None

    async def cancel(self, turn_id: str) -> None:
        """End a turn, in whichever process it is answered; its node keeps what came. Nothing changes if it has ended.

        Its readers get a ``StreamStateError`` that says so, and the node's ``error`` does. The node is in the store
        when this returns. A turn that waits for another one, for its files or for a summary waits no longer; its node
        is ``failed``, and there is none if its question was still to be loaded.

        Raises:
            UnknownTurnError: There is no such turn.
            StoreError: The store failed, or the process that answers the turn does not end it.
        """
        await self._live().cancel(self._turns.owner, self.store, turn_id)

    def _live(self) -> LiveTurns:
        if self._turns.live is None:
            raise UnsupportedError("this manager keeps no journal: ConversationManager(journal=Journal())")
        return self._turns.live

    async def open(self, conversation_id: str, *, path_only: bool = False) -> Conversation:
        """Open a conversation from the store.

        Of a large tree it loads the turns from the first to the head and counts the others, where the store can: that
        costs as much as the path is long. ``conversation.complete`` says whether others are left. Whatever this manager
        is asked to do with one of them loads it; ``children``, ``siblings`` and ``load_all`` load more.

        Each call returns an object with a head of its own, which turns of other objects do not move; see ``turn``.

        Turns of it whose process is gone are ended first: each is an ``interrupted`` node with what was kept of its
        answer, where the store keeps a journal.

        Args:
            conversation_id: Its id.
            path_only: Load the path alone also if the whole tree has at most 100 turns more.

        Raises:
            UnknownConversationError: The store does not have it.
        """
        if self._turns.live is not None:
            await self._turns.live.end_dead(self.store, conversation_id)
        return await opened(self.store, conversation_id, path_only=path_only)

    async def load(self, conversation: Conversation, node_id: str) -> ConversationNode:
        """Return a turn of a conversation; if it is not loaded, it and the turns before it are loaded first.

        Raises:
            ConfigurationError: The conversation has no such turn.
            UnknownConversationError: The store does not have the conversation.
        """
        return await load_node(self.store, conversation, node_id)

    async def load_all(self, conversation: Conversation) -> Conversation:
        """Load the turns that are not loaded yet, and return the conversation, which is ``complete`` then.

        Raises:
            UnknownConversationError: The store does not have it.
        """
        return await load_all(self.store, conversation)

    async def children(self, conversation: Conversation, node_id: str | None) -> tuple[ConversationNode, ...]:
        """Return the turns that follow a turn, and load those that are not loaded; see ``Conversation.children``.

        Args:
            conversation: The conversation.
            node_id: The id of the turn; None = return the first turns of the conversation.

        Raises:
            ConfigurationError: The conversation has no such turn.
            UnknownConversationError: The store does not have the conversation.
        """
        return await load_children(self.store, conversation, node_id)

    async def siblings(self, conversation: Conversation, node_id: str) -> tuple[ConversationNode, ...]:
        """Return the turn and all others with the same parent, and load those that are not loaded.

        Raises:
            ConfigurationError: The conversation has no such turn.
            UnknownConversationError: The store does not have the conversation.
        """
        node = await load_node(self.store, conversation, node_id)
        return await load_children(self.store, conversation, node.parent_id)

    def turn(
        self,
        conversation: Conversation,
        query: str,
        endpoint: Target | str,
        *,
        instructions: Iterable[str] | None = None,
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
        turn_id: str | None = None,
        beside: bool = False,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> Turn:
        """Stream the answer of ``endpoint`` to the next question of ``conversation``.

        Turns of one conversation object run one after another: the block of a second one begins when the first one has
        ended, and follows it. Two objects that ``open`` has returned for one conversation have a head and a queue each:
        their turns run at the same time and are siblings, as those of two processes are, and the one that is kept last
        is the head at the next ``open``. Share the object, or look at ``running`` first, for one after another.

        Args:
            conversation: Its history up to the head is what the model sees; the turn's node becomes its new head.
            query: The question; may be empty where files or tool results say enough.
            endpoint: The target: an endpoint, its short name (``openai:gpt-6.2-sol``), or a plan over several.
            instructions: The instructions of this turn; None = the standing ones, empty = none.
            files: Files, their bytes, paths (``pathlib.Path``) or URLs (texts) to go with the question. Those on disk
                are read in a thread, when the block is entered.
            tool_results: The results of the calls of the answer before (``run_tools``).
            config: Knobs instead of the manager's.
            run_tools: Run the tools of the config and ask again with their results, until the model is done; None =
                leave the calls of the answer to the caller.
            turn_id: The id of the turn and its node, made by the caller, which no other turn of the owner has. A second
                call with the same id sends nothing: it reads the first turn, in whichever process that runs, whatever
                has become of it. None = a new one.
            beside: Run at once and follow the turn that is the head now, as a sibling of turns that are running.
            metadata: A JSON object of the application's own, kept with the node.

        Raises:
            ConfigurationError: Nothing is asked, a file cannot be used, or the call cannot be made; nothing was sent.
                A fault of the call is raised where the block begins if a summary is made first, a file is read
                from disk, or the history is long.
        """
        draft, unread = self._turns.drafted(conversation, query, instructions, files, tool_results, turn_id)
        if metadata is not None:
            draft = draft.model_copy(update={"metadata": check_metadata(metadata)})
        path = conversation.path() if beside else None
        knobs = config or self._turns.config
        turn = self._turns.turn(
            conversation, draft, endpoint, knobs, stream=True, path=path, unread=unread, run_tools=run_tools
        )
        return turn if turn_id is None else turn.with_given_id()

    async def ask(
        self,
        conversation: Conversation,
        query: str,
        endpoint: Target | str,
        *,
        instructions: Iterable[str] | None = None,
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
        turn_id: str | None = None,
    ) -> ConversationNode:
        """Answer the next question like ``turn`` and return the node. Streams on the wire if ``config.streaming``.

        Raises:
            DhenaraError: The turn failed; its node is in the conversation all the same.
        """
        knobs = config or self._turns.config
        draft, unread = self._turns.drafted(conversation, query, instructions, files, tool_results, turn_id)
        turn = self._turns.turn(
            conversation,
            draft,
            endpoint,
            knobs,
            stream=knobs.streaming,
            ends_with_reader=True,
            unread=unread,
            run_tools=run_tools,
        )
        async with turn if turn_id is None else turn.with_given_id():
            await turn.collect()
        return turn.node

    def regenerate(
        self,
        conversation: Conversation,
        node_id: str,
        endpoint: Target | str,
        *,
        instructions: Iterable[str] | None = None,
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
        turn_id: str | None = None,
    ) -> Turn:
        """Ask the question of a turn again: the new turn is a sibling of that turn and becomes the head.

        Args:
            conversation: The conversation of the turn.
            node_id: The turn whose question is asked again; it stays as it is.
            endpoint: The target of the new turn, the same or another, as for ``turn``.
            instructions: The instructions of the new turn; None = those of the other turn.
            config: Knobs instead of the manager's.
            run_tools: Run tools, as for ``turn``.
            turn_id: The new turn's id, as for ``turn``.

        Raises:
            ConfigurationError: The conversation has no such turn, or the call cannot be made; nothing was sent.
        """
        turn = self._turns.again(conversation, node_id, None, endpoint, instructions, None, config, run_tools, turn_id)
        return turn if turn_id is None else turn.with_given_id()

    def edit(
        self,
        conversation: Conversation,
        node_id: str,
        query: str,
        endpoint: Target | str,
        *,
        instructions: Iterable[str] | None = None,
        files: Iterable[Attachment] | None = None,
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
        turn_id: str | None = None,
    ) -> Turn:
        """Ask another question in place of a turn's: a branch that begins beside that turn and becomes the head.

        Args:
            conversation: The conversation of the turn.
            node_id: The turn whose question is asked in other words; it stays as it is.
            query: The new question.
            endpoint: The target, as for ``turn``.
            instructions: The instructions of the new turn; None = those of the other turn.
            files: The files of the question; None = the files of the other turn.
            config: Knobs instead of the manager's.
            run_tools: Run tools, as for ``turn``.
            turn_id: The new turn's id, as for ``turn``.

        Raises:
            ConfigurationError: The conversation has no such turn, or the call cannot be made; nothing was sent.
        """
        turn = self._turns.again(
            conversation, node_id, query, endpoint, instructions, files, config, run_tools, turn_id
        )
        return turn if turn_id is None else turn.with_given_id()

    def resume(
        self,
        conversation: Conversation,
        decisions: Mapping[str, bool | str],
        endpoint: Target | str,
        *,
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> Turn:
        """Go on with a tool loop that waits for approval, reached its limit, or was cut: run its stored calls, once.

        It goes on from the head, in the same process or another, with the same model or another. Results that are
        stored are not made again: a second resume with the same decisions runs nothing and has the same node. An answer
        that was cut is asked for again, as a sibling.

        Args:
            conversation: The conversation of the loop.
            decisions: True = run the call, False or a reason for the model = do not, by the ids of the calls (by the
                name of the function if the provider sent no id). ``run_tools.approve`` decides about all others.
            endpoint: The target of the next model call, as for ``turn``.
            config: Knobs with the tools of the loop; None = those of the loop if this manager began it, else the
                manager's.
            run_tools: How tools run; None = as the loop did if this manager began it. Otherwise every call that is not
                decided about waits for approval.
            metadata: A JSON object of the application's own, kept with the nodes; None = that of the loop.

        Raises:
            ConfigurationError: No call on the path to the head has such an id, the conversation went on without the
                results, or the call cannot be made; nothing was run.
        """
        known = None if metadata is None else check_metadata(metadata)
        return self._turns.resume(conversation, decisions, endpoint, config, run_tools, known)

    async def checkout(self, conversation: Conversation, node_id: str) -> None:
        """Make another turn the head, in the conversation and in the store; the next turn branches off there.

        Raises:
            ConfigurationError: The conversation has no such turn.
            UnknownConversationError: The store does not have the conversation.
        """
        node = await load_node(self.store, conversation, node_id)
        await keep_lost(self.store, conversation, node.id)
        await self.store.checkout(conversation.id, node.id)
        conversation.checkout(node.id)

    async def choose(self, conversation: Conversation, node_id: str) -> None:
        """Choose one answer of a fan-out, or of other siblings, for the next turn to follow; see ``checkout``.

        Raises:
            ConfigurationError: The conversation has no such turn, or it has no answer to go on from.
            UnknownConversationError: The store does not have the conversation.
        """
        if (await load_node(self.store, conversation, node_id)).status == "failed":
            raise ConfigurationError(f"turn {node_id!r} failed and has no answer: choose one of its siblings")
        await self.checkout(conversation, node_id)

    def client(self, endpoint: Target | str, config: AIModelCallConfig | None = None) -> AIModelClient:
        """Return a client for calls outside conversations; it shares this manager's connections, limits and budget.

        Leave the manager's block last: it closes the connections.

        Args:
            endpoint: The target, as for ``turn``.
            config: Knobs instead of the manager's.

        Raises:
            ConfigurationError: The endpoint's name means nothing.
        """
        shared, knobs = self._turns.shared, config or self._turns.config
        if self._turns.spending is None:
            return AIModelClient(
                endpoint, knobs, transport=self._turns.transport, policy=self._turns.policy, shared=shared
            )
        client = ClientWithBudget(
            endpoint, knobs, transport=self._turns.transport, policy=self._turns.policy, shared=shared
        )
        client.spending = self._turns.spending
        return client

    def fan_out(
        self,
        conversation: Conversation,
        query: str,
        endpoints: Iterable[Target | str],
        *,
        instructions: Iterable[str] | None = None,
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
        limit: int | None = None,
        on_progress: Callable[[FanOutProgress], object] | None = None,
    ) -> TurnFanOut:
        """Ask several endpoints the next question of ``conversation`` at once; their answers become sibling turns.

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
            endpoints: The targets: endpoints, their short names, or plans over several.
            instructions: The instructions of these turns; as for ``turn``.
            files: Files, their bytes, paths (``pathlib.Path``) or URLs (texts) to go with the question. Those on disk
                are read in a thread, when the block is entered.
            tool_results: The results of the calls of the answer before (``run_tools``).
            config: Knobs instead of the manager's.
            limit: How many turns are in flight at once; None = all.
            on_progress: Told when a turn begins and when it ends.

        Raises:
            ConfigurationError: Nothing is asked, nobody is, or a file cannot be used; nothing was sent.
        """
        targets = _targets(endpoints)
        if not targets:
            raise ConfigurationError("endpoints is empty: pass at least one endpoint or plan")
        check_conversation(conversation)
        knobs, path = config or self._turns.config, conversation.path()  # a turn may end before another has begun
        draft, unread = self._turns.drafted(conversation, query, instructions, files, tool_results)
        drafts = [draft.changed(id=uuid4().hex) for _ in targets]

        def turn(draft: ConversationNode, target: Target, stream: bool) -> Turn:
            stream = stream or knobs.streaming
            return self._turns.turn(conversation, draft, target, knobs, stream=stream, ends_with_reader=True, path=path)

        siblings = SiblingTurns(self.store, conversation, drafts, turn, unread=unread, signing=self._turns.signing)
        observers = self._turns.shared.observers
        fan = Fan(targets, siblings, limit=limit, on_progress=on_progress, delivers="events", observers=observers)
        return TurnFanOut(fan, siblings)

    def check(
        self,
        conversation: Conversation,
        endpoint: Target | str,
        *,
        query: str = "",
        instructions: Iterable[str] | None = None,
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
    ) -> ConversionCheck:
        """Report the content that the next turn would lose with ``endpoint``, without a network call.

        It also says about how many tokens the prompt would take and cost, and which knobs would be ignored. Of a plan
        it is the endpoint that would be asked first; an experiment by ``node`` may choose another for the turn itself.

        Args:
            conversation: Its history up to the head is what the model would see.
            endpoint: The target.
            query: The question; may be left out.
            instructions: The instructions of the turn; as for ``turn``.
            files: The files of the question; those on disk are read here and now.
            tool_results: The results of the calls of the answer before.
            config: Knobs instead of the manager's.

        Raises:
            ConfigurationError: A file cannot be used, or one value is given where several are taken.
            UnsupportedError: The target cannot be asked that at all.
        """
        call = self._call(conversation, query, instructions, files, tool_results, config)
        return call.check(first_endpoint(target_of(endpoint, "turn"), call.routing_context()), self._turns.policy)

    def preview(
        self,
        conversation: Conversation,
        endpoint: Target | str,
        *,
        query: str = "",
        instructions: Iterable[str] | None = None,
        files: Iterable[Attachment] = (),
        tool_results: Iterable[ToolResultPart] = (),
        config: AIModelCallConfig | None = None,
    ) -> RequestPreview:
        """Return the request of the next turn as it would be sent, for people: without secrets and without a network.

        Files that would be downloaded first are shown by their URLs. Arguments as for ``check``.

        Args:
            conversation: Its history up to the head is what the model would see.
            endpoint: The target.
            query: The question.
            instructions: The instructions of the turn.
            files: The files of the question; those on disk are read here and now.
            tool_results: The results of the calls of the answer before.
            config: Knobs instead of the manager's.

        Raises:
            ConfigurationError: Nothing is asked, a file cannot be used, or the endpoint has no address or key.
            UnsupportedError: The target cannot be asked that at all.
            ConversionLossError: The policy is strict and content would be lost.
        """
        call = self._call(conversation, query, instructions, files, tool_results, config)
        if not call.messages and (call.history is None or not call.history.nodes):
            raise ConfigurationError("the query is empty: there is nothing to ask")
        return preview_of(call, first_endpoint(target_of(endpoint, "turn"), call.routing_context()), self._turns.policy)

    def _call(
        self,
        conversation: Conversation,
        query: str,
        instructions: Iterable[str] | None,
        files: Iterable[Attachment],
        tool_results: Iterable[ToolResultPart],
        config: AIModelCallConfig | None,
    ) -> CallInput:
        """Return the call of a turn that is not made."""
        check_conversation(conversation)
        led = self._turns.leading(conversation, instructions)
        check_several(led, files, tool_results)
        return CallInput(
            question(query, Attached.of(files).read(), tool_results),
            tuple(led),
            config or self._turns.config,
            stream=True,
            history=History(conversation.path(), self._turns.window, signing=self._turns.signing),
            conversation=conversation.id,
        )


def _sql_store(address: str | os.PathLike[str]) -> "type[SQLStore]":
    """Return the class of the store at an address; loading it takes some tenths of a second.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    try:
        from dhenara_async.stores import SQLStore
    except MissingExtraError as exc:
        if os.fspath(address).startswith(("postgres://", "postgresql://", "postgresql+")):
            raise MissingExtraError("a store in PostgreSQL", extra="postgres") from exc
        raise
    return SQLStore


def _load_database(address: str | os.PathLike[str]) -> None:
    """Load what a store in a database needs; runs in a thread."""
    _sql_store(address)
    anyio.run(anyio.sleep, 0)  # anyio loads its backend at its first run


def _on_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _standing(instructions: Iterable[str]) -> tuple[str, ...]:
    """Return standing instructions as a tuple.

    Raises:
        ConfigurationError: They are not a sequence of texts.
    """
    check_several(instructions, (), ())
    texts = tuple(instructions)
    for text in texts:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"instructions is a sequence of texts, and one of them is {type(text).__name__}")
    return texts


def _targets(endpoints: Iterable[Target | str]) -> list[Target]:
    """Return several targets; each may be given by its short name.

    Raises:
        ConfigurationError: There is one target instead of a sequence of them, or one that cannot be used.
    """
    if isinstance(endpoints, Target | str) or not isinstance(endpoints, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("endpoints is a sequence of endpoints or plans: write [endpoint]")
    return [target_of(endpoint, "turn") for endpoint in endpoints]
