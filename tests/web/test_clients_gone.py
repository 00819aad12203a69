"""Clients that go away end the provider's call, unless the turn is detached."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import aiohttp
import anyio
import anyio.lowlevel
import pytest
from aiohttp import web
from starlette.requests import Request
from starlette.responses import Response

from dhenara_async import ConversationManager, Dialect
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.turns.turn import Turn
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web.sending import Sending, Wire
from dhenara_async.web.starlette import sse_response, ui_message_response
from tests.loopback import PATIENCE, Connection, chat_delta, chat_endpoint, chat_stream, endpoint_at, head, serve
from tests.web.servers import SERVERS, one_route, served, served_by_aiohttp

TEXT = "The robot paints a red fox."


@asynccontextmanager
async def answering(server: str, turn: Callable[[], Turn], *, detach: bool = False) -> AsyncGenerator[str]:
    """Serve an app that answers each request with a turn, and yield its URL."""

    async def answer(request: Request) -> Response:
        await request.body()
        return ui_message_response(turn(), request, detach=detach)

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        return for_aiohttp.ui_message_response(turn(), request, detach=detach)

    twin = web.Application()
    twin.router.add_post("/", handle)
    name, _, behind = server.partition(" behind ")
    app = one_route(answer, behind_middleware=bool(behind))
    async with served_by_aiohttp(twin) if name == "aiohttp" else served(app, name) as url:
        yield url


EVERY_SERVER = pytest.mark.parametrize("server", [*SERVERS, "uvicorn behind middleware", "aiohttp"])


@EVERY_SERVER
@pytest.mark.parametrize("stall", ["head", 4])
async def test_the_provider_is_left_when_the_client_goes_away(server: str, stall: str | int) -> None:
    quiet = Fault(answer=Answer(text=TEXT), stall="head" if stall == "head" else 4)
    async with ProviderServer([quiet]) as provider, ConversationManager() as manager:
        conversation = await manager.create()

        def turn() -> Turn:
            return manager.turn(conversation, "What?", endpoint_at(provider, Dialect.OPENAI_CHAT))

        async with answering(server, turn) as url, aiohttp.ClientSession() as session:
            async with session.post(url, json={}) as reply:
                while b"text-delta" not in await reply.content.readany() and stall != "head":
                    pass
                while not provider.requests:
                    await anyio.lowlevel.checkpoint()
            with anyio.fail_after(PATIENCE):
                await provider.wait_closed()
        assert provider.closed[0].by == "client"
        (node,) = (await manager.open(conversation.id)).nodes
        assert node.status == ("failed" if stall == "head" else "interrupted")


@EVERY_SERVER
async def test_a_detached_turn_goes_on_when_the_client_goes_away(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    send, client_left, rest = Sending.run, anyio.Event(), anyio.Event()

    async def run(sending: Sending, wire: Wire) -> None:
        try:
            await send(sending, wire)
        finally:
            client_left.set()

    async def play(connection: Connection) -> None:
        request = await connection.request()
        assert request is not None
        await connection.send(head(), chat_delta(TEXT[:10]) if b"after" in request.body else b"")
        await rest.wait()
        await connection.send(*chat_stream(TEXT[10:] if b"after" in request.body else TEXT))

    monkeypatch.setattr(Sending, "run", run)
    async with serve(play) as provider, ConversationManager() as manager:
        conversations = {moment: await manager.create() for moment in ("before", "after")}
        waiting = list(conversations.items())

        def turn() -> Turn:
            moment, conversation = waiting.pop()
            return manager.turn(conversation, moment, chat_endpoint(provider.url))

        async with answering(server, turn, detach=True) as url, aiohttp.ClientSession() as session:
            for moment in ("after", "before"):
                async with session.post(url, json={}) as reply:
                    began = await reply.content.readany()
                    while moment == "after" and b"text-delta" not in began:
                        began += await reply.content.readany()
                    await provider.asked.wait()
                with anyio.fail_after(PATIENCE):
                    await client_left.wait()
                client_left, provider.asked = anyio.Event(), anyio.Event()
            assert not provider.hung_up.is_set()
            rest.set()
            with anyio.fail_after(PATIENCE):
                await manager.finish(PATIENCE)
        for conversation in conversations.values():
            (node,) = (await manager.open(conversation.id)).nodes
            assert node.status == "complete"
            assert node.response is not None
            assert node.response.text() == TEXT


async def test_a_quiet_connection_gets_comments() -> None:
    enough = anyio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        await connection.send(head(), chat_delta(TEXT[:10]))
        await enough.wait()
        await connection.send(*chat_stream(TEXT[10:]))

    async with serve(play) as provider, ConversationManager() as manager:
        conversation = await manager.create()

        async def answer(request: Request) -> Response:
            turn = manager.turn(conversation, "What?", chat_endpoint(provider.url))
            return sse_response(turn, request, heartbeat=0.02)

        async with (
            served(one_route(answer)) as url,
            aiohttp.ClientSession() as session,
            session.get(url) as reply,
        ):
            with anyio.fail_after(PATIENCE):
                body = b""
                while body.count(b":\n\n:\n\n") < 1:
                    body += await reply.content.readany()
                enough.set()
                body += await reply.read()
            assert TEXT[10:].encode() in body
