"""The OpenAI-compatible front on a loopback server, and the real openai SDK at it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request

from dhenara_async import ConversationManager, Target
from dhenara_async.stores import ConversationStore
from dhenara_async.turns.log import Journal
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web.starlette import openai_routes
from tests.loopback import ONCE
from tests.web.servers import served, served_by_aiohttp

openai = pytest.importorskip("openai", reason="the openai SDK is not installed: pip install openai")

OWNERS = {"Bearer ann-key": "ann", "Bearer bob-key": "bob"}


async def owner_of(request: Request) -> str:
    owner = OWNERS.get(request.headers.get("authorization", ""))
    if owner is None:
        raise HTTPException(401, "no such key")
    return owner


async def aiohttp_owner_of(request: web.Request) -> str:
    owner = OWNERS.get(request.headers.get("authorization", ""))
    if owner is None:
        raise web.HTTPUnauthorized(text="no such key")
    return owner


@asynccontextmanager
async def front(
    models: Mapping[str, Target],
    *,
    store: ConversationStore | Path | None = None,
    server: str = "uvicorn",
    journal: Journal | None = Journal(),  # noqa: B008 - immutable
    keep: bool | None = None,
    signing_key: bytes | None = None,
) -> AsyncGenerator[tuple[str, ConversationManager]]:
    """Serve ``models`` and yield the URL of the API, and the manager below it."""
    async with ConversationManager(store=store, config=ONCE, journal=journal, signing_key=signing_key) as manager:
        if server == "aiohttp":
            app = web.Application()
            app.add_subapp("/v1", for_aiohttp.openai_routes(manager, models, owner=aiohttp_owner_of, keep=keep))
            async with served_by_aiohttp(app) as url:
                yield f"{url}/v1", manager
        else:
            async with served(
                Starlette(routes=openai_routes(manager, models, owner=owner_of, keep=keep)), server
            ) as url:
                yield f"{url}/v1", manager


def sdk_at(url: str, owner: str = "ann") -> Any:
    """Return the openai SDK for one owner; it does not try again."""
    return openai.AsyncOpenAI(base_url=url, api_key=f"{owner}-key", max_retries=0)
