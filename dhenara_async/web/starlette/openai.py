"""``openai_routes``: endpoints and plans for clients of OpenAI's API, as routes of Starlette or FastAPI."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dhenara_async.config import AIModelCallConfig
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.web.inputs.fields import WebLimits
from dhenara_async.web.openai.app import OpenAIApp
from dhenara_async.web.openai.errors import JSON, OpenAIError
from dhenara_async.web.starlette.routes import OwnerOf, endpoint_of

WebEndpoint = Callable[[Request], Awaitable[Response]]


def openai_routes(
    manager: ConversationManager,
    endpoints: Mapping[str, Target | str],
    *,
    owner: OwnerOf,
    prefix: str = "/v1",
    config: AIModelCallConfig | None = None,
    origins: Collection[str] = (),
    limits: WebLimits | None = None,
    keep: bool | None = None,
) -> list[Route]:
    """Return the routes of an OpenAI-compatible API: ``app.router.routes += openai_routes(…)``.

    Below ``prefix``: ``models``, ``models/{id}``, ``chat/completions`` and ``responses``, streamed and plain;
    ``responses/{id}`` (whole, as a stream from any number on, delete), ``…/cancel`` and ``…/input_items``. A response
    is a turn of a conversation of its owner, so it is kept in the manager's store unless its request says
    ``store: false``.

    Args:
        manager: Its connections, limits, budgets and store are used.
        endpoints: The targets, by the name that a client sends as ``model``: endpoints, their short names, or
            plans.
        owner: Checks the key of a request and returns whose it is; it may be async.
        prefix: The beginning of the paths.
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
    app = OpenAIApp(manager, endpoints, prefix, config=config, origins=origins, limits=limits, keep=keep)
    return [
        Route(path, _told(endpoint_of(app, handler, owner)), methods=[method], include_in_schema=False)
        for method, path, handler in app.routes
    ]


def _told(endpoint: WebEndpoint) -> WebEndpoint:
    """Return an endpoint that tells what the app's ``owner`` raises in the shape of this API."""

    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException as exc:
            error = OpenAIError(exc.status_code, str(exc.detail))
            return Response(error.body, error.status, exc.headers, JSON)

    return told
