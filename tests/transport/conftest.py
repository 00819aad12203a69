"""What tests of both transports have in common."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest

from dhenara_async import AiohttpTransport, HttpxTransport
from dhenara_async.transport import Transport
from dhenara_async.transport.aiohttp_asking import DirectSender

Opened = Callable[[], AbstractAsyncContextManager[Transport]]


@asynccontextmanager
async def _aiohttp() -> AsyncGenerator[Transport]:
    made = AiohttpTransport(trust_env=False)
    try:
        yield made
    finally:
        await made.aclose()


@asynccontextmanager
async def _httpx() -> AsyncGenerator[Transport]:
    async with httpx.AsyncClient(trust_env=False, timeout=None) as client:  # noqa: S113 - calls have limits
        yield HttpxTransport(client)


@pytest.fixture(params=["aiohttp", "aiohttp by session", "httpx"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens a transport of each kind."""
    if request.param == "aiohttp by session":

        def nothing(*_: object) -> None:
            """No way but the session."""

        monkeypatch.setattr(DirectSender, "find", nothing)
        monkeypatch.setattr(DirectSender, "learn", nothing)
    return _httpx if request.param == "httpx" else _aiohttp
