"""Web servers in the test's own event loop, and clients that read from them."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import anyio
import anyio.lowlevel
import uvicorn
from aiohttp import web
from granian.constants import Interfaces
from granian.server.embed import Server as Granian
from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Endpoint = Callable[[Request], Awaitable[Response]]
SERVERS = ("uvicorn", "hypercorn", "granian")


def _listening() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    return listening


@asynccontextmanager
async def served(
    app: Starlette, server: str = "uvicorn", *, http: type[asyncio.Protocol] | None = None
) -> AsyncGenerator[str]:
    """Serve ``app`` and yield its URL; its lifespan is part of it. ``http`` is a protocol for uvicorn."""
    listening = _listening()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    serving = {"uvicorn": partial(_uvicorn, http=http), "hypercorn": _hypercorn, "granian": _granian}[server]
    try:
        async with serving(app, listening):
            yield url
    except BaseExceptionGroup as group:  # the test's own error, as a task group raises it
        raise group.exceptions[0] from None


@asynccontextmanager
async def _uvicorn(
    app: Starlette, listening: socket.socket, *, http: type[asyncio.Protocol] | None = None
) -> AsyncGenerator[None]:
    config = uvicorn.Config(app, http=http or "auto", log_level="critical", timeout_graceful_shutdown=1, ws="none")
    running = uvicorn.Server(config)
    with listening:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.serve, [listening])
            while not running.started:
                await anyio.lowlevel.checkpoint()
            try:
                yield
            finally:
                running.should_exit = True


@asynccontextmanager
async def _hypercorn(app: Starlette, listening: socket.socket) -> AsyncGenerator[None]:
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.graceful_timeout = 0.2
    config.errorlog = None
    ended = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve_hypercorn, app, config, ended)
        try:
            yield
        finally:
            ended.set()


@asynccontextmanager
async def _granian(app: Starlette, listening: socket.socket) -> AsyncGenerator[None]:
    host, port = listening.getsockname()
    listening.close()
    running = Granian(app, address=host, port=port, interface=Interfaces.ASGINL, log_enabled=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.serve)
        await _listens(host, port)
        try:
            yield
        finally:
            running.stop()


async def _listens(host: str, port: int) -> None:
    while True:
        try:
            stream = await anyio.connect_tcp(host, port)
        except OSError:
            await anyio.sleep(0.01)
        else:
            await stream.aclose()
            return


async def _serve_hypercorn(app: Starlette, config: Config, ended: anyio.Event) -> None:
    await serve(cast("ASGIFramework", app), config, shutdown_trigger=ended.wait)


@asynccontextmanager
async def served_by_aiohttp(app: web.Application) -> AsyncGenerator[str]:
    """Serve ``app`` and yield its URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def one_route(endpoint: Endpoint, *, behind_middleware: bool = False) -> Starlette:
    """An app with one endpoint, at ``/``."""
    layers = [Middleware(BaseHTTPMiddleware, dispatch=_pass_on), Middleware(GZipMiddleware, minimum_size=1)]
    routes = [Route("/", endpoint, methods=["GET", "POST"])]
    return Starlette(routes=routes, middleware=layers if behind_middleware else [])
