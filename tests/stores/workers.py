"""A worker that answers turns of a set of conversations, as each is at the moment; run alone or as a process.

``python -m tests.stores.workers ADDRESS OWNER WORKER TURNS`` prints a line for each turn that was kept.
"""

import random
import sys
from collections.abc import Callable
from typing import NamedTuple

import anyio

from dhenara_async import AIModelCallConfig, AIModelEndpoint, ConversationManager
from dhenara_async.errors import UnknownConversationError

CONVERSATIONS = 5
LONGEST = 15


class Kept(NamedTuple):
    """A turn that a worker was told is kept."""

    conversation: str
    parent: str
    node: str


async def work(
    manager: ConversationManager,
    worker: int,
    turns: int,
    log: Callable[[Kept], object],
    conversations: int = CONVERSATIONS,
) -> None:
    """Open a conversation, answer its next turn, and log it: again and again."""
    who = AIModelEndpoint.of("anthropic:claude-sonnet-5-5")
    config, chosen = AIModelCallConfig(test_mode=True), random.Random(worker)
    for turn in range(turns):
        name = f"talk-{chosen.randrange(conversations)}"
        try:
            conversation = await manager.open(name)
        except UnknownConversationError:
            await manager.store.create(name)
            conversation = await manager.open(name)
        path = conversation.path()
        if len(path) > LONGEST:  # go back, so that there are branches
            await manager.checkout(conversation, chosen.choice(path[:LONGEST]).id)
        node = await manager.ask(conversation, f"Turn {turn} of worker {worker}?", who, config=config)
        log(Kept(name, node.parent_id or "-", node.id))


async def _main(address: str, owner: str, worker: int, turns: int) -> None:
    async with ConversationManager(store=address) as manager:
        await work(manager.scoped(owner), worker, turns, lambda kept: print(*kept, flush=True))


if __name__ == "__main__":
    anyio.run(_main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
