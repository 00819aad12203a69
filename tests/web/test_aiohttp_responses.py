"""The responses of aiohttp.web: what differs from those of ASGI servers."""

import aiohttp
import pytest
from aiohttp import web

from dhenara_async import ConversationManager, Dialect, event_to_dict
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.web.aiohttp import json_lines_response, sse_response, text_response
from tests.loopback import endpoint_at
from tests.web.protocols import blocks_of, events_of
from tests.web.servers import served_by_aiohttp

TEXT = "The robot paints a red fox."


async def test_events_go_on_and_end_with_204() -> None:
    async with ProviderServer([Answer(text=TEXT)]) as provider, ConversationManager() as manager:
        turn = manager.turn(await manager.create(), "What?", endpoint_at(provider, Dialect.OPENAI_CHAT))

        async def first(request: web.Request) -> web.StreamResponse:
            answer = await sse_response(turn, request)  # sent here already
            assert turn.over
            return answer

        async def again(request: web.Request) -> web.StreamResponse:
            return sse_response(manager.attach(request.match_info["id"]), request)

        app = web.Application()
        app.add_routes([web.get("/", first), web.get("/{id}", again)])
        async with served_by_aiohttp(app) as url, aiohttp.ClientSession() as session:
            async with session.get(url) as reply:
                body = await reply.read()
                assert reply.headers["content-type"] == "text/event-stream"
            _, *told, last = blocks_of(body)
            async with manager.attach(turn.id) as reader:
                assert events_of(body) == [event_to_dict(event) async for event in reader]
            async with session.get(f"{url}/{turn.id}", headers={"last-event-id": told[2].id or ""}) as reply:
                assert events_of(await reply.read()) == events_of(body)[3:]
            for done in (told[-1].id, last.id):
                async with session.get(f"{url}/{turn.id}", headers={"last-event-id": done or ""}) as reply:
                    assert (reply.status, await reply.read()) == (204, b"")
            async with session.get(f"{url}/nobody") as reply:
                assert (reply.status, await reply.text()) == (404, "There is no such answer, or it ended too long ago.")


async def test_a_cut_answer_breaks_words_and_says_so_in_lines() -> None:
    cut = Fault(answer=Answer(text=TEXT), cut=1500)
    async with ProviderServer(lambda _: cut) as provider, ConversationManager() as manager:

        async def answer(request: web.Request) -> web.StreamResponse:
            turn = manager.turn(await manager.create(), "What?", endpoint_at(provider, Dialect.OPENAI_CHAT))
            return text_response(turn, request) if request.path == "/text" else json_lines_response(turn, request)

        app = web.Application()
        app.add_routes([web.get("/text", answer), web.get("/lines", answer)])
        async with served_by_aiohttp(app) as url, aiohttp.ClientSession() as session:
            async with session.get(f"{url}/lines") as reply:
                assert b'"type":"error"' in (await reply.read()).splitlines()[-1]
            with pytest.raises(aiohttp.ClientError):
                async with session.get(f"{url}/text") as reply:
                    await reply.read()
