"""The apps of the README run as they stand, in at most 30 lines each."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from starlette.applications import Starlette

from dhenara_async.testing import ProviderServer
from tests.readme.blocks import blocks
from tests.web.protocols import events_of, ui_message_of
from tests.web.servers import served, served_by_aiohttp

FASTAPI, AIOHTTP, WORKERS = (block.code for block in blocks("python") if block.heading == "Web apps")


@asynccontextmanager
async def running(code: str) -> AsyncGenerator[str]:
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own README
    app = names["app"]
    serving = served_by_aiohttp(app) if isinstance(app, web.Application) else served(cast("Starlette", app))
    async with serving as url:
        yield url


@pytest.mark.parametrize("code", [FASTAPI, AIOHTTP], ids=["fastapi", "aiohttp"])
async def test_an_app_of_the_readme(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    monkeypatch.chdir(tmp_path)
    question = {"role": "user", "id": "m1", "parts": [{"type": "text", "text": "What is a fox?"}]}
    async with ProviderServer() as provider:
        for name, value in provider.environment().items():
            monkeypatch.setenv(name, value)
        async with running(code) as url, aiohttp.ClientSession() as session:
            async with session.get(f"{url}/api/models") as reply:
                assert reply.status == 401
            async with aiohttp.ClientSession(cookies={"user": "ann"}) as page:
                async with page.post(f"{url}/api/chat", json={"id": "c1", "messages": [question]}) as reply:
                    assert "fox" in "".join(ui_message_of(await reply.read()).texts.values())
                for status in (200, 204):  # EventSource comes back after the end
                    headers = {} if status == 200 else {"last-event-id": "end"}
                    async with page.get(f"{url}/ask/q1", params={"question": "Why?"}, headers=headers) as reply:
                        assert reply.status == status
                        if status == 200:
                            assert events_of(await reply.read())[-1]["type"] == "stream_end"
                async with page.get(f"{url}/api/conversations") as reply:
                    assert len((await reply.json())["items"]) == 2
