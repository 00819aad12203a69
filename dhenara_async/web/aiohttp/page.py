"""``playground``: a page to look at, as an application of aiohttp."""

from collections.abc import Collection, Iterable, Mapping

from aiohttp import web

from dhenara_async.config import AIModelCallConfig
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.web.aiohttp.routes import AiohttpOwnerOf, endpoint_of
from dhenara_async.web.inputs.fields import WebLimits
from dhenara_async.web.playground.app import PlaygroundApp
from dhenara_async.web.playground.options import playground_options


def playground(
    manager: ConversationManager,
    endpoints: Mapping[str, Target | str],
    *,
    owner: AiohttpOwnerOf,
    instructions: Iterable[str] = (),
    config: AIModelCallConfig | None = None,
    run_tools: ToolPolicy | None = None,
    origins: Collection[str] = (),
    limits: WebLimits | None = None,
    demo: bool = False,
    details: bool = False,
) -> web.Application:
    """Return a page on which conversations change their model at every turn.

    ``app.add_subapp("/play", playground(…))``; all addresses of the page are relative, so it works below any path.

    Args:
        manager: Answers and keeps the conversations, in a store with owners and a journal.
        endpoints: The targets, by the name that the page shows: endpoints, their short names, or plans.
        owner: Tells whose conversations a request is about, and refuses strangers; it may be async.
        instructions: System instructions of every turn; empty = those of the conversation or the manager.
        config: The options of every call, its tools among them; None = the manager's.
        run_tools: How the tools are run; None = they are not.
        origins: Origins of other sites whose pages may send requests.
        limits: How much a client may send; None = ``WebLimits()``.
        demo: Whether stand-ins answer in place of models, which the page then says.
        details: Whether the page shows errors as they are recorded, with the words of the provider.

    Raises:
        ConfigurationError: There is no endpoint, or an option cannot be used.
    """
    options = playground_options(instructions, config, run_tools, origins, limits, demo=demo, details=details)
    page = PlaygroundApp(manager, endpoints, "", options)
    app = web.Application()
    for method, path, handler in (("GET", "", page.to_slash), *page.routes):
        app.router.add_route(method, path, endpoint_of(page, path, handler, owner))
    return app
