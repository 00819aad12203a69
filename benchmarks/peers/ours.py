"""This library, through its public names."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.peers.calls import KEY, MAX_OUTPUT_TOKENS, PROMPT, Calls, Opened, Take
from benchmarks.wire import MODELS

if TYPE_CHECKING:
    from dhenara_async import Observer


@asynccontextmanager
async def open_dhenara_async(dialect: str, url: str, observers: "Sequence[Observer]" = ()) -> Opened:
    """Open this library through its public names, with observers of its calls."""
    from dhenara_async import (
        AIModel,
        AIModelAPI,
        AIModelAPIProviderEnum,
        AIModelCallConfig,
        AIModelClient,
        AIModelEndpoint,
        Dialect,
    )
    from dhenara_async.events import TextDelta

    provider = {
        "anthropic_messages": AIModelAPIProviderEnum.ANTHROPIC,
        "gemini": AIModelAPIProviderEnum.GOOGLE_AI,
    }.get(dialect, AIModelAPIProviderEnum.OPEN_AI)
    base_url = f"{url}/v1" if provider is AIModelAPIProviderEnum.OPEN_AI else url
    # From a mapping, as from a settings file: pydantic turns the plain key into a SecretStr.
    api = AIModelAPI.model_validate(
        {"provider": provider, "api_key": KEY, "base_url": base_url, "dialect": Dialect(dialect)}
    )
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=MODELS[dialect]))
    config = AIModelCallConfig(max_output_tokens=MAX_OUTPUT_TOKENS, retries=0)

    async with AIModelClient(model_endpoint=endpoint, config=config, observers=observers) as client:

        async def stream(take: Take) -> None:
            async with client.stream(prompt=PROMPT) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        take(event.text)

        async def generate() -> str:
            return (await client.generate(prompt=PROMPT)).text()

        async def fold() -> str:
            async with client.stream(prompt=PROMPT) as events:
                async for _ in events:
                    pass
            return events.response.text()

        yield Calls(stream=stream, generate=generate, fold=fold)
