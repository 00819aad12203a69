"""Clients that go away end the provider's call, unless the turn is detached."""

import asyncio

import aiohttp
import anyio.lowlevel
import pytest
from aiohttp import web
from starlette.requests import Request
from starlette.responses import Response

from dhenara_async import ConversationManager, Dialect
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web.starlette import sse_response, ui_message_response
from tests.loopback import endpoint_at
from tests.web.servers import SERVERS, one_route, served, served_by_aiohttp

TEXT = "The robot paints a red fox."


@pytest.mark.parametrize("server", [*SERVERS, "uvicorn behind middleware", "aiohttp"])
@pytest.mark.parametrize("stall", ["head", 4])
async def test_the_provider_is_left_when_the_client_goes_away(server: str, stall: str | int) -> None:
    quiet = Fault(answer=Answer(text=TEXT), stall="head" if stall == "head" else 4)
    async with ProviderServer([quiet]) as provider, ConversationManager() as manager:
        conversation = await manager.create()

        async def answer(request: Request) -> Response:
            await request.body()
            return ui_message_response(
                manager.turn(conversation, "What?", endpoint_at(provider, Dialect.OPENAI_CHAT)), request
            )

        async def handle(request: web.Request) -> web.StreamResponse:
            await request.read()
            turn = manager.turn(conversation, "What?", endpoint_at(provider, Dialect.OPENAI_CHAT))
            return for_aiohttp.ui_message_response(turn, request)

        twin = web.Application()
        twin.router.add_post("/", handle)
        name, _, behind = server.partition(" behind ")
        app = one_route(answer, behind_middleware=bool(behind))
        serving = served_by_aiohttp(twin) if name == "aiohttp" else served(app, name)
        async with serving as url, aiohttp.ClientSession() as session:
            async with session.post(url, json={}) as reply:
                while b"text-delta" not in await reply.content.readany() and stall != "head":
                    pass
                while not provider.requests:
                    await anyio.lowlevel.checkpoint()
            left = asyncio.get_running_loop().time()
            await asyncio.wait_for(provider.wait_closed(), 5)
        assert provider.closed[0].by == "client"
        assert provider.closed[0].at - left < 1  # milliseconds; the bound is for busy machines
        (node,) = (await manager.open(conversation.id)).nodes
        assert node.status == ("failed" if stall == "head" else "interrupted")


async def test_a_detached_turn_goes_on_and_is_resumed() -> None:
    slow = Fault(answer=Answer(text=TEXT), stall=4, seconds=0.3)
    async with ProviderServer([slow]) as provider, ConversationManager() as manager:
        conversation = await manager.create()
        turn = manager.turn(conversation, "What?", endpoint_at(provider, Dialect.OPENAI_CHAT))

        async def answer(request: Request) -> Response:
            return sse_response(turn, request, detach=True)

        async with served(one_route(answer)) as url, aiohttp.ClientSession() as session:
            async with session.get(url) as reply:
                await reply.content.readany()
            async with manager.attach(turn.id) as reader:
                async for _ in reader:
                    pass
        assert turn.node.response is not None
        assert turn.node.response.text() == TEXT
        assert (await manager.open(conversation.id)).nodes == (turn.node,)


async def test_a_quiet_connection_gets_comments() -> None:
    slow = Fault(answer=Answer(text=TEXT), stall=4, seconds=0.2)
    async with ProviderServer([slow]) as provider, ConversationManager() as manager:
        conversation = await manager.create()

        async def answer(request: Request) -> Response:
            turn = manager.turn(conversation, "What?", endpoint_at(provider, Dialect.OPENAI_CHAT))
            return sse_response(turn, request, heartbeat=0.02)

        async with (
            served(one_route(answer)) as url,
            aiohttp.ClientSession() as session,
            session.get(url) as reply,
        ):
            assert (await reply.read()).count(b"\n\n:\n\n") >= 2
