"""Puts an ended turn into its store, counts its cost and describes its error."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from time import monotonic

import anyio
import anyio.to_thread

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import DhenaraError, StoreError, UnknownConversationError
from dhenara_async.response import AIModelCallResponse
from dhenara_async.stores import ConversationStore, StoreWithInstructions
from dhenara_async.usage import prices

logger: logging.Logger = logging.getLogger("dhenara_async")

STORE_SECONDS = 5.0
PRICES_SECONDS = 5.0


async def keep(store: ConversationStore, conversation: Conversation, node: ConversationNode) -> bool:
    """Store ``node``, also under cancellation. False if the store takes longer than ``STORE_SECONDS``.

    The store works in a task of its own: ``task.cancel()`` passes every shield of anyio, and would end the store's work
    between two statements. The cancellation is raised when the work is done.

    Raises:
        StoreError: The store failed; whatever else a store raises comes through too.
    """

    async def work() -> None:
        await keep_lost(store, conversation, node.parent_id)
        await store.append(conversation.id, node)
        conversation.mark_kept(node.id)

    try:
        is_kept = await keep_by(work, node.id)
    except StoreError:
        conversation.mark_lost(node.id)
        raise
    if not is_kept:
        conversation.mark_lost(node.id)
    return is_kept


async def keep_lost(store: ConversationStore, conversation: Conversation, node_id: str | None) -> None:
    """Store the turns up to one that the store failed to keep before, else the turn that follows has no parent there.
    An imported conversation is stored whole.

    Raises:
        StoreError: The store fails still.
        UnknownConversationError: The conversation was deleted.
    """
    if conversation.imported is not None:
        await _keep_import(store, conversation, conversation.imported)
    for node in conversation.lost(node_id):
        with suppress(ValueError):  # it has been ended as interrupted meanwhile
            await store.append(conversation.id, node)
        conversation.mark_kept(node.id)


async def _keep_import(
    store: ConversationStore, conversation: Conversation, imported: Sequence[ConversationNode]
) -> None:
    """Store the turns of an imported conversation that the store lacks; its head counts where it lacked them all.

    Raises:
        StoreError: The store failed.
    """
    head = conversation.head
    try:
        known = {node.id for node in (await store.load(conversation.id)).nodes}
    except UnknownConversationError:
        known = set[str]()
        if isinstance(store, StoreWithInstructions) and conversation.instructions is not None:
            await store.create_instructed(conversation.id, conversation.instructions)
        else:
            await store.create(conversation.id)
    for node in imported:
        if node.id not in known:
            await store.append(conversation.id, node)
    if (
        not known and head is not None and any(head.id == node.id for node in imported)
    ):  # else it is the turn that is kept next
        await store.checkout(conversation.id, head.id)
    conversation.mark_import_kept()


async def keep_by(store_it: Callable[[], Awaitable[None]], node_id: str) -> bool:
    """Store a node by a function that may be called twice; see ``keep``.

    Raises:
        StoreError: The store failed; whatever else a store raises comes through too.
    """

    async def work() -> None:
        try:
            await store_it()
        except StoreError:
            await store_it()  # the node may be kept: only the answer to its commit was lost

    keeping = asyncio.get_running_loop().create_task(work(), name=f"keeping node {node_id}")
    cancelled = await wait_out(keeping, STORE_SECONDS)
    if not keeping.done():
        keeping.add_done_callback(_log_failure)
        keeping.cancel()
        logger.error("the store did not keep node %s within %s s; it is only in memory", node_id, STORE_SECONDS)
    if cancelled is not None:
        if keeping.done():
            _log_failure(keeping)
        raise cancelled
    if not keeping.done():
        return False
    keeping.result()
    return True


async def wait_out(task: "asyncio.Task[None]", seconds: float) -> asyncio.CancelledError | None:
    """Wait for a task to end, at most so many seconds; return the cancellation that came meanwhile, if one did."""
    deadline, cancelled = monotonic() + seconds, None
    with anyio.CancelScope(shield=True):
        while not task.done() and monotonic() < deadline:
            try:
                await asyncio.wait([task], timeout=deadline - monotonic())
            except asyncio.CancelledError as exc:
                cancelled = exc
    return cancelled


def _log_failure(task: "asyncio.Task[None]") -> None:
    """Log the error of a task that nobody else is told of."""
    failure = None if task.cancelled() else task.exception()
    if failure is not None:
        logger.error("the node is only in memory: %s failed: %s", task.get_name(), described(failure))


async def counted(came: AIModelCallResponse) -> tuple[Decimal | None, Decimal | None]:
    """Return the cost and the charge of a turn; None where list prices are needed and their extra is missing.

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
    """Describe an error for a stored node: class and message of our errors, which hold no secrets; else the class."""
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, DhenaraError) else type(exc).__name__
