"""``open_with_app``: a manager that lives as long as its app, the same for Starlette and aiohttp."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dhenara_async.manager import ConversationManager

GRACE = 20.0
"""Seconds that running turns may go on when the app is stopped."""


@asynccontextmanager
async def open_with_app(manager: ConversationManager, grace: float) -> AsyncGenerator[None]:
    """Open a manager for the block. At its end, turns without a reader may finish for a while, then they are cut.

    Args:
        manager: The manager; not opened yet.
        grace: Seconds that these turns may go on.
    """
    async with manager:
        try:
            yield
        finally:
            await manager.finish(grace)
