"""A running page, and a client that sends what its modules send."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
from aiohttp import web
from fastapi import FastAPI, HTTPException, Request

from dhenara_async import ConversationManager, Dialect, Failover, Target
from dhenara_async.testing import ProviderServer
from dhenara_async.testing.script import Script
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web.starlette import lifespan, playground
from tests.loopback import endpoint_at
from tests.web.servers import served, served_by_aiohttp

Json = dict[str, Any]


async def owner_of(request: Request) -> str:
    name = request.headers.get("x-user")
    if name == "stranger":
        raise HTTPException(403, "no")
    return name or ""


async def aiohttp_owner_of(request: web.Request) -> str:
    return request.headers.get("x-user", "")


@dataclass
class Visit:
    """One user's page on a conversation.

    Attributes:
        url: Where the page is, with a slash at the end.
        session: Sends the requests.
        chat: The id of the conversation.
    """

    url: str
    session: aiohttp.ClientSession
    chat: str = "c1"

    async def send(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        async with self.session.request(method, f"{self.url}{path}", json=body, headers=headers) as reply:
            return reply.status, await reply.read()

    async def get(self, path: str) -> Any:
        async with self.session.get(f"{self.url}{path}") as reply:
            assert reply.status == 200, await reply.text()
            return await reply.json()

    async def in_chat(self, path: str = "") -> Any:
        return await self.get(f"api/conversations/{self.chat}{path}")

    async def begin(self, *models: str, **body: object) -> list[Json]:
        """Begin turns, and return them as the app tells them."""
        asks = [{"turnId": uuid4().hex, "model": model} for model in models]
        status, reply = await self.send("POST", f"api/conversations/{self.chat}/turns", {"asks": asks, **body})
        assert status == 202, reply
        return orjson.loads(reply)["turns"]

    async def frames(self, *turns: str) -> list[Json]:
        """Every frame of the turns, to the end."""
        async with self.session.get(f"{self.url}api/events", params={"turns": ",".join(turns)}) as reply:
            assert reply.status == 200, await reply.text()
            assert reply.content_type == "text/event-stream"
            body = await reply.read()
        return [orjson.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: ")]

    async def ask(self, question: str, *models: str, parent: str | None = None, **more: object) -> list[Json]:
        """Ask, and return the turns when they have ended, in the order of the models."""
        begun = await self.begin(*models or ("gpt",), kind="ask", parentId=parent, question=question, **more)
        ids = [turn["turnId"] for turn in begun]
        frames = await self.frames(*ids)
        ends = {frame["turn"]: frame["end"] for frame in frames if "end" in frame}
        return [ends[turn_id] for turn_id in ids]


@dataclass
class Visited:
    """A running app with its provider, and the pages of two users."""

    provider: ProviderServer
    manager: ConversationManager
    page: Visit
    other: Visit


@asynccontextmanager
async def visiting(
    script: Script | None = None,
    framework: str = "fastapi",
    store: Path | None = None,
    more: dict[str, Target | str] | None = None,
    **options: Any,
) -> AsyncGenerator[Visited]:
    async with ProviderServer(script) as provider:
        manager = ConversationManager(store=store)
        models: dict[str, Target | str] = {
            "gpt": endpoint_at(provider, Dialect.OPENAI_CHAT),
            "claude": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES),
            **(more or {}),
        }
        models["safe"] = Failover([models["gpt"], models["claude"]])
        async with (
            _serving(manager, models, framework, options) as url,
            aiohttp.ClientSession(headers={"x-user": "ann"}) as ann,
            aiohttp.ClientSession(headers={"x-user": "bob"}) as bob,
        ):
            yield Visited(provider, manager, Visit(f"{url}/play/", ann), Visit(f"{url}/play/", bob))


@asynccontextmanager
async def _serving(
    manager: ConversationManager, models: dict[str, Target | str], framework: str, options: Any
) -> AsyncGenerator[str]:
    if framework == "fastapi":
        app = FastAPI(lifespan=lifespan(manager, grace=0.1))
        app.router.routes += playground(manager, models, owner=owner_of, prefix="/play", **options)
        async with served(app) as url:
            yield url
    else:
        twin = web.Application()
        twin.cleanup_ctx.append(for_aiohttp.lifespan(manager, grace=0.1))
        twin.add_subapp("/play", for_aiohttp.playground(manager, models, owner=aiohttp_owner_of, **options))
        async with served_by_aiohttp(twin) as url:
            yield url
