"""What users of web apps write must type-check. Never run; pyright reads it."""

from typing import assert_type

from aiohttp import web
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import Route

from dhenara_async import AIModelCallConfig, AIModelClient, AIModelEndpoint, ConversationManager, Failover, ToolPolicy
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web.starlette import (
    WebLimits,
    agui_response,
    chat_routes,
    json_lines_response,
    lifespan,
    sse_response,
    text_response,
    ui_message_response,
)


def apps(manager: ConversationManager, claude: AIModelEndpoint, gpt: AIModelEndpoint) -> None:
    app = FastAPI(lifespan=lifespan(manager, grace=10))
    models = {"claude": claude, "gpt": gpt, "safe": Failover([claude, gpt])}
    app.router.routes += chat_routes(manager, models, owner=lambda request: request.headers["x-user"])
    assert_type(chat_routes(manager, {"gpt": "openai:gpt-6.2-sol"}, owner=owner_of, sdk=7), list[Route])
    config, limits = AIModelCallConfig(tools=[add]), WebLimits(files=3)
    chat_routes(
        manager,
        models,
        owner=owner_of,
        prefix="/v1",
        config=config,
        run_tools=ToolPolicy(),
        detach=False,
        limits=limits,
    )
    twin = web.Application()
    twin.cleanup_ctx.append(for_aiohttp.lifespan(manager))
    twin.add_subapp("/api", for_aiohttp.chat_routes(manager, models, owner=aiohttp_owner_of))


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def owner_of(request: Request) -> str:
    return request.headers["x-user"]


async def aiohttp_owner_of(request: web.Request) -> str:
    return request.headers["x-user"]


async def responses(manager: ConversationManager, client: AIModelClient, request: Request) -> None:
    turn = manager.turn(await manager.create(), "x", "openai:gpt-6.2-sol", turn_id="made-by-the-client")
    fan = manager.fan_out(await manager.create(), "x", ["openai:gpt-6.2-sol"])
    assert_type(sse_response(turn, request, detach=True), Response)
    assert_type(sse_response(fan, request), Response)
    assert_type(json_lines_response(fan, request), Response)
    assert_type(text_response(client.stream("x"), request), Response)
    assert_type(ui_message_response(manager.attach(turn.id), request, sdk=6), Response)
    assert_type(agui_response(turn, request, thread_id="t", run_id="r"), Response)


async def handler(manager: ConversationManager, request: web.Request) -> web.StreamResponse:
    turn = manager.turn(await manager.create(), "x", "openai:gpt-6.2-sol")
    if request.path == "/now":
        return await for_aiohttp.ui_message_response(turn, request)
    return for_aiohttp.sse_response(turn, request)
