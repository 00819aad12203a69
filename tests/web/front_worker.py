"""A worker of a web app with the OpenAI-compatible front: prints its URL, and serves until it is killed.

``python -m tests.web.front_worker ADDRESS``; the environment names the provider, by ``ProviderServer.environment``.
"""

import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import anyio
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelEndpoint,
    ConversationManager,
    Target,
)
from dhenara_async.stores import ConversationStore
from dhenara_async.web.starlette import openai_routes
from tests.loopback import ONCE
from tests.web.servers import served


def models_at(environment: Mapping[str, str]) -> dict[str, Target]:
    """``claude``, whose reasoning is signed, and ``gpt``, whose reasoning is encrypted."""
    claude, gpt = AIModelAPIProviderEnum.ANTHROPIC, AIModelAPIProviderEnum.OPEN_AI
    found: dict[str, Target] = {}
    for name, provider, maker, model in (
        ("claude", claude, "ANTHROPIC", "claude-opus-5-5"),
        ("gpt", gpt, "OPENAI", "gpt-6-sol"),
    ):
        key = SecretStr(environment[f"{maker}_API_KEY"])
        api = AIModelAPI(provider=provider, api_key=key, base_url=environment[f"{maker}_BASE_URL"])
        found[name] = AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))
    return found


async def key_as_owner(request: Request) -> str:
    """The bearer key names the owner."""
    return request.headers.get("authorization", "").removeprefix("Bearer ")


@asynccontextmanager
async def front_on(
    store: ConversationStore | str | None,
    models: Mapping[str, Target],
    *,
    keep: bool | None = None,
    signing_key: bytes | None = None,
) -> AsyncGenerator[tuple[str, ConversationManager]]:
    """Serve ``models``; yield the URL of the API, and the manager."""
    async with ConversationManager(store=store, config=ONCE, signing_key=signing_key) as manager:
        app = Starlette(routes=openai_routes(manager, models, owner=key_as_owner, keep=keep))
        async with served(app) as url:
            yield f"{url}/v1", manager


async def _main(address: str) -> None:
    async with front_on(address, models_at(os.environ)) as (url, _):
        print(url, flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_main, sys.argv[1])
