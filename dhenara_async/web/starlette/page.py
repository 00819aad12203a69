"""``playground``: a page to look at, as routes of Starlette or FastAPI."""

from collections.abc import Collection, Iterable, Mapping

from starlette.routing import Route

from dhenara_async.config import AIModelCallConfig
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.web.inputs.fields import WebLimits
from dhenara_async.web.playground.app import PlaygroundApp
from dhenara_async.web.playground.options import playground_options
from dhenara_async.web.starlette.routes import OwnerOf, endpoint_of


def playground(
    manager: ConversationManager,
    endpoints: Mapping[str, Target | str],
    *,
    owner: OwnerOf,
    prefix: str = "/",
    instructions: Iterable[str] = (),
    config: AIModelCallConfig | None = None,
    run_tools: ToolPolicy | None = None,
    origins: Collection[str] = (),
    limits: WebLimits | None = None,
    demo: bool = False,
    details: bool = False,
) -> list[Route]:
    """Return the routes of a page on which conversations change their model at every turn.

    ``app.router.routes += playground(…, prefix="/play")``, or ``Mount("/play", routes=playground(…))``. All addresses
    of the page are relative, so that it works below any path.

    Args:
        manager: Answers and keeps the conversations, in a store with owners and a journal.
        endpoints: The targets, by the name that the page shows: endpoints, their short names, or plans.
        owner: Tells whose conversations a request is about, and refuses strangers; it may be async.
        prefix: The beginning of the paths.
        instructions: System instructions of every turn; empty = those of the conversation or the manager.
        config: The options of every call, its tools among them; None = the manager's.
        run_tools: How the tools are run; None = they are not.
        origins: Origins of other sites whose pages may send requests.
        limits: How much a client may send; None = ``WebLimits()``.
        demo: Whether stand-ins answer in place of models, which the page then says.
        details: Whether the page shows errors as they are recorded, with the words of the provider: for those who run
            the app themselves.

    Raises:
        ConfigurationError: There is no endpoint, or an option cannot be used.
    """
    options = playground_options(instructions, config, run_tools, origins, limits, demo=demo, details=details)
    app = PlaygroundApp(manager, endpoints, prefix, options)
    return [
        Route(path, endpoint_of(app, handler, owner), methods=[method], include_in_schema=False)
        for method, path, handler in app.routes
    ]
