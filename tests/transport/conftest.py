"""What tests of both transports have in common."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import httpx2
import pytest

from dhenara_async import AiohttpTransport, HttpxTransport
from dhenara_async.transport import Transport

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


@asynccontextmanager
async def _httpx2() -> AsyncGenerator[Transport]:
    async with httpx2.AsyncClient(trust_env=False, timeout=None) as client:
        yield HttpxTransport(client)


@pytest.fixture(params=["aiohttp", "aiohttp, public", "httpx", "httpx2"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Opens a transport of each kind."""
    if request.param in ("httpx", "httpx2"):
        return _httpx if request.param == "httpx" else _httpx2
    request.getfixturevalue("public_aiohttp" if request.param == "aiohttp, public" else "private_aiohttp")
    return _aiohttp
