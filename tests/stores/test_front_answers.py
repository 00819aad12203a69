"""The OpenAI-compatible front in several processes on one store: each recognises what another one has answered."""

import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import orjson
import pytest
from sqlalchemy import URL

from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.web.openai.sent_history import SOURCE
from tests.loopback import PATIENCE
from tests.web.front_worker import front_on, models_at

openai = pytest.importorskip("openai", reason="the openai SDK is not installed: pip install openai")

SIGNATURE = "c2lnbmVkIGJ5IGNsYXVkZQ=="
SCRIPT = [
    Answer(text="Four.", reasoning="2 + 2 is 4", signature=SIGNATURE),
    Answer(text="Yes.", reasoning="It was right", signature="ZW5jcnlwdGVk"),
    Answer(text="Sure."),
]


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database."""
    if request.param == "sqlite":
        return str(tmp_path / "chat.db")
    url: URL = request.getfixturevalue("postgres")
    return url.render_as_string(hide_password=False)


class Chat:
    """A client of the front that sends its whole history, words only, as open-webui and LibreChat do."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.messages: list[Any] = [{"role": "system", "content": "It is 9:00."}]

    async def ask(self, url: str, model: str, question: str) -> None:
        self.messages[0] = {"role": "system", "content": f"It is 9:0{len(self.messages)}."}
        self.messages.append({"role": "user", "content": question})
        async with openai.AsyncOpenAI(base_url=url, api_key=self.owner, max_retries=0) as sdk:
            stream = await sdk.chat.completions.create(model=model, messages=self.messages, stream=True)
            words = [chunk.choices[0].delta.content or "" async for chunk in stream]
        self.messages.append({"role": "assistant", "content": "".join(words)})


async def test_a_model_is_changed_and_changed_back_across_processes(address: str) -> None:
    owner = uuid4().hex
    chat = Chat(owner)
    async with ProviderServer(SCRIPT) as provider:
        environment = provider.environment()
        command = [sys.executable, "-W", "error", "-m", "tests.web.front_worker", address]
        worker = await create_subprocess_exec(*command, stdout=PIPE, env={**os.environ, **environment})
        try:
            assert worker.stdout is not None
            with anyio.fail_after(6 * PATIENCE):
                url = (await worker.stdout.readline()).decode().strip()
            await chat.ask(url, "claude", "2 + 2?")
        finally:
            worker.kill()
            await worker.wait()
        async with front_on(address, models_at(environment)) as (url, manager):
            await chat.ask(url, "gpt", "Sure?")
            await chat.ask(url, "claude", "Thanks")
            mine = manager.scoped(owner)
            (listed,) = (await mine.list()).items
            first, second, third = (await mine.open(listed.id)).path()
        _, to_gpt, back = (orjson.loads(request.body) for request in provider.requests)
    assert (listed.title, listed.metadata) == ("2 + 2?", SOURCE)
    assert SIGNATURE not in str(to_gpt)
    assert [text in str(to_gpt["input"]) for text in ("2 + 2?", "Four.", "Sure?")] == [True] * 3
    thinking, text = back["messages"][1]["content"]
    assert thinking == {"type": "thinking", "thinking": "2 + 2 is 4", "signature": SIGNATURE}
    assert text["text"] == "Four."
    assert [node.user_query for node in (first, second, third)] == ["2 + 2?", "Sure?", "Thanks"]
    assert second.conversion.entries[0].code == "reasoning_dropped"
    assert {entry.node for entry in third.conversion.entries} == {second.id}
