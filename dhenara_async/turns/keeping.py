"""Puts an ended turn into its store, counts its cost and describes its error."""

import logging
from decimal import Decimal

import anyio
import anyio.to_thread

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import DhenaraError
from dhenara_async.response import AIModelCallResponse
from dhenara_async.stores import ConversationStore
from dhenara_async.usage import prices

logger: logging.Logger = logging.getLogger("dhenara_async")

STORE_SECONDS = 5.0
PRICES_SECONDS = 5.0


async def keep(store: ConversationStore, conversation: Conversation, node: ConversationNode) -> bool:
    """Store ``node``, also under cancellation. False if the store takes longer than ``STORE_SECONDS``."""
    with anyio.move_on_after(STORE_SECONDS, shield=True) as limit:
        await store.append(conversation.id, node)
        conversation.mark_kept(node.id)
    if limit.cancelled_caught:
        logger.error("the store did not keep node %s within %s s; it is only in memory", node.id, STORE_SECONDS)
    return not limit.cancelled_caught


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
