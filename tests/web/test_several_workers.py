"""Several workers on one database: any of them goes on with what another began, or ends it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import anyio
import pytest
from anyio.abc import Process
from sqlalchemy import URL

from dhenara_async import AIModelCallConfig, Pending, ToolPolicy
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedToolCall
from dhenara_async.testing.script import ScriptStep, SeenRequest
from tests.loopback import PATIENCE
from tests.web.protocols import events_of, ui_message_of
from tests.web.test_chat_routes import Page, chatting
from tests.web.test_readme_apps import WORKERS
from tests.web.wire import wired

TEXT = "The robot paints a red fox."
HELD = b"paints"
"""The provider's words from here on arrive when the test says so."""


def answer(seen: SeenRequest) -> ScriptStep:
    return Fault(answer=Answer(text=TEXT), stall=6) if "stall" in seen.turns[-1][1] else Answer(text=TEXT)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What the managers of several workers are given."""
    if request.param == "sqlite":
        return str(tmp_path / "chat.db")
    url: URL = request.getfixturevalue("postgres")
    return url.render_as_string(hide_password=False)


async def test_any_worker_goes_on_with_a_turn_of_another_and_stops_it(store: str) -> None:
    stalled = Fault(answer=Answer(text=TEXT), stall=6)
    async with chatting([stalled], store=store) as one, chatting(store=store) as two:
        one.page.chat = two.page.chat = name = uuid4().hex
        async with one.page.session.post(f"{one.page.url}/api/chat", json=one.page.say("What?")) as reply:
            await reply.content.readuntil(b'"text-delta"')
        history: Any = (await two.page.get(f"chat/{name}"))[1]
        assert [message["role"] for message in history["messages"]] == ["user"]
        async with two.page.session.get(f"{two.page.url}/api/chat/{name}/stream") as reply:
            await reply.content.readuntil(b'"text-delta"')
            assert (await two.page.send("POST", f"chat/{name}/stop"))[0] == 204
            assert b'"abort"' in await reply.read()
        await one.provider.wait_closed()
        history = (await two.page.get(f"chat/{name}"))[1]
        assert history["messages"][1]["metadata"]["status"] == "interrupted"


async def test_an_approval_that_reaches_two_workers_at_once_runs_the_call_once(store: str) -> None:
    ran: list[str] = []

    def paint(colour: str) -> str:
        """Paint something."""
        ran.append(colour)
        return "Painted."

    def steps(seen: SeenRequest) -> ScriptStep:
        if seen.turns[-1][1] == "Paint!":
            return Answer(tool_calls=(ScriptedToolCall("call_1", "paint", '{"colour": "red"}'),))
        return Answer(text=TEXT)

    config, policy = AIModelCallConfig(tools=[paint]), ToolPolicy(approve=lambda call: Pending())
    async with (
        chatting(steps, store=store, config=config, run_tools=policy) as one,
        chatting(steps, store=store, config=config, run_tools=policy) as two,
    ):
        one.page.chat = name = uuid4().hex
        await one.page.ask("Paint!")
        part = {"type": "dynamic-tool", "toolCallId": "call_1", "state": "approval-responded"}
        part |= {"approval": {"id": "call_1", "approved": True}}
        question, asked = one.page.messages
        approved = one.page.body(messages=[question, {**asked, "parts": [part]}])
        replies = await asyncio.gather(*(chat.page.send("POST", "chat", approved) for chat in (two, one)))
        assert ran == ["red"]
        assert sum(len(chat.provider.requests) for chat in (one, two)) == 2
        for status, body in replies:
            assert status == 200
            chunks = events_of(body)
            assert chunks[0] == {"type": "start", "messageId": asked["id"]}
            assert "".join(str(chunk["delta"]) for chunk in chunks if chunk["type"] == "text-delta") == TEXT
            assert chunks[-1]["type"] == "finish"
        histories = [(await chat.page.get(f"chat/{name}"))[1] for chat in (one, two)]
        assert histories[0] == histories[1]


@asynccontextmanager
async def worker(folder: Path, environment: dict[str, str]) -> AsyncGenerator[tuple[Process, str]]:
    """Run the app of ``folder`` in a process of its own, and yield its URL; connections wait until it has begun."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        number = listening.fileno()
        command = [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(number), "--timeout-graceful-shutdown", "1"]
        process = await anyio.open_process(
            [*command, "--log-level", "error"], cwd=folder, env=environment, pass_fds=[number], stdin=None
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with process:
        try:
            yield process, url
        finally:
            if process.returncode is None:
                process.kill()


async def words_of(page: Page, node: str) -> Any:
    """The words and the status of a turn, as one worker shows them."""
    _, history = await page.get(f"chat/{page.chat}")
    (message,) = [message for message in history["messages"] if message["id"] == node]
    return "".join(part["text"] for part in message["parts"] if "text" in part), message["metadata"]["status"]


async def test_any_process_goes_on_with_a_turn_of_another_stops_it_and_tells_that_it_was_killed(
    postgres: URL, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(WORKERS, encoding="utf-8")
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(ProviderServer(answer))
        wire = await stack.enter_async_context(wired(provider.url, hold=HELD))
        environment = {**os.environ, "DATABASE_URL": postgres.render_as_string(hide_password=False)}
        environment |= {name: value.replace(provider.url, wire.url) for name, value in provider.environment().items()}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        session = await stack.enter_async_context(aiohttp.ClientSession(cookies={"user": uuid4().hex}))
        workers = [await stack.enter_async_context(worker(tmp_path, environment)) for _ in range(2)]
        one, two = (Page(url, session) for _, url in workers)

        with anyio.fail_after(6 * PATIENCE):  # two processes import everything first
            question = one.say("What?")
            async with session.post(f"{one.url}/api/chat", json=question) as reply:
                await reply.content.readuntil(b'"text-delta"')
            _, history = await two.get("chat/chat-1")
            assert [message["role"] for message in history["messages"]] == ["user"]
            async with (
                session.get(f"{two.url}/api/chat/chat-1/stream") as resumed,
                session.post(f"{two.url}/api/chat", json=question) as again,
            ):
                began = [await reply.content.readuntil(b'"text-delta"') for reply in (resumed, again)]
                wire.release()
                rest = [await reply.content.read() for reply in (resumed, again)]
            seen = [ui_message_of(first + last) for first, last in zip(began, rest, strict=True)]
            assert [list(message.texts.values()) for message in seen] == [[TEXT], [TEXT]]
            assert len({message.id for message in seen}) == 1
            assert len(provider.requests) == 1
            node = seen[0].id
            assert node is not None
            assert [await words_of(page, node) for page in (one, two)] == [(TEXT, "complete")] * 2

            two.messages = [*one.messages, {"id": node, "role": "assistant", "parts": []}]
            async with session.post(f"{two.url}/api/chat", json=two.say("And now? stall")) as reply:
                began = await reply.content.readuntil(b'"text-delta"')
                assert (await one.send("POST", "chat/chat-1/stop"))[0] == 204
                stopped = ui_message_of(began + await reply.content.read())
            assert stopped.aborted
            await provider.wait_closed()
            assert [text for _, text in provider.requests[-1].turns] == ["What?", TEXT, "And now? stall"]
            assert stopped.id is not None
            assert (await words_of(one, stopped.id))[1] == "interrupted"

            one.chat = two.chat = "chat-2"
            async with session.post(f"{one.url}/api/chat", json=one.say("stall")) as reply:
                await reply.content.readuntil(b'"text-delta"')
                async with session.get(f"{two.url}/api/chat/chat-2/stream") as resumed:
                    began = await resumed.content.readuntil(b'"text-delta"')
                    workers[0][0].send_signal(signal.SIGKILL)
                    killed = ui_message_of(began + await resumed.content.read())
            assert killed.error is not None
            assert killed.id is not None
            words, status = await words_of(two, killed.id)
            assert status == "interrupted"
            assert words
            assert TEXT.startswith(words)
