"""``chat_routes``: a whole chat as an application of aiohttp."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from aiohttp import web

from dhenara_async.config import AIModelCallConfig
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.web.aiohttp.responses import AiohttpAnswer
from dhenara_async.web.chat.agent_runs import AgentRuns
from dhenara_async.web.chat.app import ChatApp
from dhenara_async.web.chat.http import BROKEN_BODY, Handler, WebApp, WebReply, WebRequest, body_of, owner_of
from dhenara_async.web.chat.options import chat_options
from dhenara_async.web.frames.ui_messages import UIStreamVersion
from dhenara_async.web.inputs.fields import RefusedRequest, WebLimits
from dhenara_async.web.sending import Sending

AiohttpOwnerOf = Callable[[web.Request], "str | Awaitable[str]"]
"""Returns the owner of a request's conversations: the app's own id of the user. It may raise ``web.HTTPException``."""


def chat_routes(
    manager: ConversationManager,
    endpoints: Mapping[str, Target | str],
    *,
    owner: AiohttpOwnerOf,
    instructions: Iterable[str] = (),
    config: AIModelCallConfig | None = None,
    run_tools: ToolPolicy | None = None,
    detach: bool = True,
    sdk: UIStreamVersion = 6,
    known_tools: Collection[str] = (),
    origins: Collection[str] = (),
    limits: WebLimits | None = None,
) -> web.Application:
    """Return a chat for ``useChat`` of the AI SDK: ``app.add_subapp("/api", chat_routes(…))``.

    Its paths are those of ``web.starlette.chat_routes`` below the place where it is mounted.

    Args:
        manager: Answers and keeps the conversations, in a store with owners.
        endpoints: The targets, by the name that a page sends as ``model``; the first one is the default.
        owner: Tells whose conversations a request is about, and refuses strangers; it may be async.
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
    chat = ChatApp(manager, endpoints, "", options)
    app = web.Application()
    for method, path, handler in (*chat.routes, *AgentRuns(chat).routes):
        app.router.add_route(method, path, endpoint_of(chat, path, handler, owner))
    return app


def endpoint_of(
    chat: WebApp, path: str, handler: Handler, owner: AiohttpOwnerOf
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler of a route; what ``owner`` raises is raised by it."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        whose = await owner_of(request, owner)
        resource = request.match_info.route.resource
        mounted = "" if resource is None else resource.canonical.removesuffix(path)
        answer = await chat.handle(
            handler,
            WebRequest(
                method=request.method,
                headers={name.lower(): value for name, value in request.headers.items()},
                path=dict(request.match_info),
                query=dict(request.query),
                owner=whose,
                base=mounted,
                read=lambda limit: _body(request, limit),
            ),
        )
        if isinstance(answer, WebReply):
            headers = dict(answer.headers)
            if answer.media_type is not None:
                headers["content-type"] = answer.media_type
            return web.Response(body=answer.body, status=answer.status, headers=headers)
        return AiohttpAnswer(request, Sending(answer))

    return endpoint


async def _body(request: web.Request, limit: int) -> bytes:
    try:
        return await body_of(request.content.iter_any(), limit)
    except (ConnectionError, web.RequestPayloadError):  # the second: not compressed as the request says
        raise RefusedRequest(400, BROKEN_BODY) from None
