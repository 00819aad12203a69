"""``lifespan``: opens and closes a manager with its app."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette

from dhenara_async.manager import ConversationManager
from dhenara_async.web.lifetime import GRACE, open_with_app


def lifespan(
    manager: ConversationManager, *, grace: float = GRACE
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Return a lifespan for ``FastAPI(lifespan=…)`` or ``Starlette(lifespan=…)`` that opens and closes ``manager``.

    At the end, turns that go on without a reader may finish for ``grace`` seconds. Then they are cut: each leaves an
    ``interrupted`` node with what came. The server's own limit for open connections comes before that
    (``uvicorn --timeout-graceful-shutdown``).

    Args:
        manager: The manager of the app; not opened yet.
        grace: Seconds.
    """

    return lambda app: open_with_app(manager, grace)
