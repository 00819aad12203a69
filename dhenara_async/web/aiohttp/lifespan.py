"""``lifespan``: opens and closes a manager with its app."""

from collections.abc import AsyncGenerator, Callable

from aiohttp import web

from dhenara_async.manager import ConversationManager
from dhenara_async.web.lifetime import GRACE, open_with_app


def lifespan(
    manager: ConversationManager, *, grace: float = GRACE
) -> Callable[[web.Application], AsyncGenerator[None]]:
    """Return what opens and closes ``manager`` with an app: ``app.cleanup_ctx.append(lifespan(manager))``.

    At the end, turns that go on without a reader may finish for ``grace`` seconds. Then they are cut: each leaves an
    ``interrupted`` node with what came. The runner's own limit for open connections (``shutdown_timeout``) comes before
    that.

    Args:
        manager: The manager of the app; not opened yet.
        grace: Seconds.
    """

    async def life(app: web.Application) -> AsyncGenerator[None]:
        async with open_with_app(manager, grace):
            yield

    return life
