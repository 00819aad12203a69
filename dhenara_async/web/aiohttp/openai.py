"""``openai_routes``: endpoints and plans for clients of OpenAI's API, as an application of aiohttp."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from aiohttp import web

from dhenara_async.config import AIModelCallConfig
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.web.aiohttp.routes import AiohttpOwnerOf, endpoint_of
from dhenara_async.web.inputs.fields import WebLimits
from dhenara_async.web.openai.app import OpenAIApp
from dhenara_async.web.openai.errors import JSON, OpenAIError

AiohttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def openai_routes(
    manager: ConversationManager,
    endpoints: Mapping[str, Target | str],
    *,
    owner: AiohttpOwnerOf,
    config: AIModelCallConfig | None = None,
    origins: Collection[str] = (),
    limits: WebLimits | None = None,
    keep: bool | None = None,
) -> web.Application:
    """Return an OpenAI-compatible API: ``app.add_subapp("/v1", openai_routes(…))``.

    Its paths are those of ``web.starlette.openai_routes`` below the place where it is mounted.

    Args:
        manager: Its connections, limits, budgets and store are used.
        endpoints: The targets, by the name that a client sends as ``model``: endpoints, their short names, or
            plans.
        owner: Checks the key of a request and returns whose it is; it may be async.
        config: Options of every call, where a request has none of its own; None = the manager's. Its tools are left
            out, because clients run their own.
        origins: Origins of other sites whose pages may send requests without a key.
        limits: How much a client may send; None = ``WebLimits()``.
        keep: Whether answers are kept in the manager's store, as conversations of the owner, so that every process
            recognises them when a client sends them back: the change of a model in its menu is then a hop with our own
            nodes. False = the newest 4 000 are remembered in the memory of this process. None = they are kept if the
            store outlives the process. Responses are kept in any store, except for False. A store without ``scoped``
            keeps nothing.

    Raises:
        ConfigurationError: There is no endpoint, an option cannot be used, or ``keep`` is True and the store has no
            ``scoped``.
    """
    front = OpenAIApp(manager, endpoints, "", config=config, origins=origins, limits=limits, keep=keep)
    app = web.Application()
    for method, path, handler in front.routes:
        app.router.add_route(method, path, _told(endpoint_of(front, path, handler, owner)))
    return app


def _told(endpoint: AiohttpHandler) -> AiohttpHandler:
    """Return a handler that tells what the app's ``owner`` raises in the shape of this API."""

    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await endpoint(request)
        except web.HTTPException as exc:
            error = OpenAIError(exc.status, exc.text or exc.reason)
            own = {"content-type", "content-length"}
            headers = {name: value for name, value in exc.headers.items() if name.lower() not in own}
            return web.Response(body=error.body, status=error.status, headers=headers, content_type=JSON)

    return told
