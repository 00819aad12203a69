"""``chat_routes``: a whole chat as routes of Starlette or FastAPI."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from dhenara_async.config import AIModelCallConfig
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.web.chat.agent_runs import AgentRuns
from dhenara_async.web.chat.app import ChatApp
from dhenara_async.web.chat.http import BROKEN_BODY, Handler, WebApp, WebReply, WebRequest, body_of, owner_of
from dhenara_async.web.chat.options import chat_options
from dhenara_async.web.frames.ui_messages import UIStreamVersion
from dhenara_async.web.inputs.fields import RefusedRequest, WebLimits
from dhenara_async.web.sending import Sending
from dhenara_async.web.starlette.responses import AnswerResponse

OwnerOf = Callable[[Request], "str | Awaitable[str]"]
"""Returns the owner of a request's conversations: the app's own id of the user. It may raise ``HTTPException``."""


def chat_routes(
    manager: ConversationManager,
    endpoints: Mapping[str, Target | str],
    *,
    owner: OwnerOf,
    prefix: str = "/api",
    instructions: Iterable[str] = (),
    config: AIModelCallConfig | None = None,
    run_tools: ToolPolicy | None = None,
    detach: bool = True,
    sdk: UIStreamVersion = 6,
    known_tools: Collection[str] = (),
    origins: Collection[str] = (),
    limits: WebLimits | None = None,
) -> list[Route]:
    """Return the routes of a chat for ``useChat`` of the AI SDK: ``app.router.routes += chat_routes(…)``.

    Below ``prefix``: ``chat`` (ask, answer anew, edit), ``chat/{id}`` (history), ``…/stream`` (go on after a reload),
    ``…/stop``, ``…/tree``, ``…/regenerate``, ``…/edit``, ``…/checkout``, ``…/files``; ``models``; ``conversations``
    (list, ``search``, rename, delete).

    Args:
        manager: Answers and keeps the conversations, in a store with owners.
        endpoints: The targets, by the name that a page sends as ``model``; the first one is the default.
        owner: Tells whose conversations a request is about, and refuses strangers; it may be async.
        prefix: The beginning of the paths.
        instructions: System instructions of every turn.
        config: The options of every call, its tools among them; None = the manager's.
        run_tools: How the tools are run; None = they are not.
        detach: Whether an answer goes on when its page goes away; see ``ChatOptions``.
        sdk: The major version of the page's ``ai`` package.
        known_tools: Names of the tools that the page declares; all others are ``dynamic``.
        origins: Origins of other sites whose pages may send requests.
        limits: How much a client may send; None = ``WebLimits()``.

    Raises:
        ConfigurationError: There is no endpoint, or an option cannot be used.
    """
    options = chat_options(instructions, config, run_tools, detach, sdk, known_tools, origins, limits)
    app = ChatApp(manager, endpoints, prefix, options)
    return [
        Route(path, endpoint_of(app, handler, owner), methods=[method], include_in_schema=False)
        for method, path, handler in (*app.routes, *AgentRuns(app).routes)
    ]


def endpoint_of(app: WebApp, handler: Handler, owner: OwnerOf) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a route; what ``owner`` raises is raised by it."""

    async def endpoint(request: Request) -> Response:
        whose = await owner_of(request, owner)
        query = dict(request.query_params.multi_items())
        answer = await app.handle(
            handler,
            WebRequest(
                method=request.method,
                headers=request.headers,
                path={name: str(value) for name, value in request.path_params.items()},
                query=query,
                owner=whose,
                base=str(request.scope.get("root_path", "")),
                read=lambda limit: _body(request, limit),
            ),
        )
        if isinstance(answer, WebReply):
            return Response(answer.body, answer.status, {**answer.headers}, answer.media_type)
        return AnswerResponse(Sending(answer))

    return endpoint


async def _body(request: Request, limit: int) -> bytes:
    try:
        return await body_of(request.stream(), limit)
    except ClientDisconnect:
        raise RefusedRequest(400, BROKEN_BODY) from None
