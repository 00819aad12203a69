"""A process that serves ``/v1/responses`` until it is killed: its arguments are a store and a provider's URL."""

import asyncio
import sys
from pathlib import Path

from pydantic import SecretStr

from dhenara_async import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelEndpoint, Dialect
from tests.web.openai_clients import front


async def _serve(store: str, base_url: str) -> None:
    api = AIModelAPI(
        provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
        api_key=SecretStr("key"),
        base_url=base_url,
        dialect=Dialect.OPENAI_CHAT,
    )
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model"))
    async with front({"m": endpoint}, store=Path(store)) as (url, _):
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
