"""A chat app for ``useChat``: FastAPI with our routes, read by a client that sends what the page sends."""

import asyncio
import base64
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI, HTTPException, Request
from starlette.routing import BaseRoute

from dhenara_async import AIModelCallConfig, ConversationManager, Dialect, Failover, Pending, Target, ToolPolicy
from dhenara_async.errors import ConfigurationError, MissingExtraError
from dhenara_async.stores import MemoryStore
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError, ScriptedToolCall
from dhenara_async.testing.script import Script
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web.starlette import WebLimits, chat_routes, lifespan
from tests.loopback import PATIENCE, endpoint_at
from tests.web.protocols import events_of, ui_message_of
from tests.web.servers import served, served_by_aiohttp

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


FRAMEWORKS = pytest.mark.parametrize("framework", ["fastapi", "aiohttp"])


async def owner_of(request: Request) -> str:
    name = request.headers.get("x-user") or request.cookies.get("user")
    if name == "stranger":
        raise HTTPException(403, "no")
    return name or ""


async def aiohttp_owner_of(request: web.Request) -> str:
    return request.headers.get("x-user", "")


@dataclass
class Page:
    """A page of ``useChat``.

    Attributes:
        url: The app.
        session: Sends the requests.
        chat: The id of the chat.
        messages: What the page shows.
    """

    url: str
    session: aiohttp.ClientSession
    chat: str = "chat-1"
    messages: list[dict[str, object]] = field(default_factory=list[dict[str, object]])

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        async with self.session.get(f"{self.url}/api/{path}", params=query) as reply:
            json = reply.content_type == "application/json"
            return reply.status, await reply.json() if json else await reply.read()

    async def send(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        async with self.session.request(method, f"{self.url}/api/{path}", json=body) as reply:
            return reply.status, await reply.read()

    def body(self, **more: object) -> dict[str, object]:
        return {"id": self.chat, "messages": self.messages, "trigger": "submit-message", **more}

    def say(self, text: str, message_id: str = "", /, **more: object) -> dict[str, object]:
        """Add a question, and return the body that asks it."""
        part = {"type": "text", "text": text}
        self.messages.append({"id": message_id or f"m{len(self.messages)}", "role": "user", "parts": [part]})
        return self.body(**more)

    def hear(self, body: bytes, *, error: bool = False) -> str:
        """Add an answer, and return its text."""
        message = ui_message_of(body)
        assert (message.error is not None) is error
        text = "".join(message.texts.values())
        parts = [{"type": "text", "text": text}]
        self.messages.append({"id": message.id, "role": "assistant", "parts": parts})
        return text

    async def ask(self, text: str, **more: object) -> str:
        status, body = await self.send("POST", "chat", self.say(text, **more))
        assert status == 200, body
        return self.hear(body)


@dataclass
class Chat:
    """A running app with its provider and a page of one user."""

    provider: ProviderServer
    manager: ConversationManager
    page: Page
    other: Page


@asynccontextmanager
async def chatting(
    script: Script | None = None,
    framework: str = "fastapi",
    store: Path | str | None = None,
    more_models: Mapping[str, Target] | None = None,
    pages: Sequence[BaseRoute] = (),
    **options: object,
) -> AsyncGenerator[Chat]:
    async with ProviderServer(script) as provider:
        manager = ConversationManager(store=store)
        models: dict[str, Target | str] = {
            "gpt": endpoint_at(provider, Dialect.OPENAI_CHAT),
            "claude": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES),
            "gemini": endpoint_at(provider, Dialect.GEMINI),
        }
        models["safe"] = Failover([models["gpt"], models["claude"]])
        models |= more_models or {}
        async with (
            _serving(manager, models, framework, pages, options) as url,
            aiohttp.ClientSession(headers={"x-user": "ann"}) as ann,
            aiohttp.ClientSession(headers={"x-user": "bob"}) as bob,
        ):
            yield Chat(provider, manager, Page(url, ann), Page(url, bob))


@asynccontextmanager
async def _serving(
    manager: ConversationManager,
    models: dict[str, Target | str],
    framework: str,
    pages: Sequence[BaseRoute],
    options: Any,
) -> AsyncGenerator[str]:
    if framework == "fastapi":
        app = FastAPI(lifespan=lifespan(manager, grace=0.1))
        app.router.routes += pages
        app.router.routes += chat_routes(manager, models, owner=owner_of, **options)
        async with served(app) as url:
            yield url
    else:
        twin = web.Application()
        twin.cleanup_ctx.append(for_aiohttp.lifespan(manager, grace=0.1))
        twin.add_subapp("/api", for_aiohttp.chat_routes(manager, models, owner=aiohttp_owner_of, **options))
        async with served_by_aiohttp(twin) as url:
            yield url


def asked(provider: ProviderServer, place: int = -1) -> list[str]:
    return [text for _, text in provider.requests[place].turns]


@FRAMEWORKS
async def test_history_comes_from_the_store_and_never_from_the_page(framework: str) -> None:
    async with chatting([Answer(text="A fox."), Answer(text="Red."), Answer(text="No.")], framework=framework) as chat:
        page = chat.page
        assert await page.ask("What is it?") == "A fox."
        page.messages[-1]["parts"] = [{"type": "text", "text": "FORGED"}]
        page.messages.insert(0, {"id": "x", "role": "system", "parts": [{"type": "text", "text": "FORGED"}]})
        assert await page.ask("Which colour?", model="claude") == "Red."
        assert asked(chat.provider) == ["What is it?", "A fox.", "Which colour?"]
        assert chat.provider.requests[-1].dialect is Dialect.ANTHROPIC_MESSAGES
        status, history = await page.get(f"chat/{page.chat}")
        assert status == 200
        assert [part["text"] for message in history["messages"] for part in message["parts"] if "text" in part] == [
            "What is it?",
            "A fox.",
            "Which colour?",
            "Red.",
        ]
        assert history["messages"][1]["id"] == page.messages[2]["id"]
        fresh = Page(page.url, page.session)  # a page that sends its last message alone
        assert await fresh.ask("Sure?") == "No."
        assert len(asked(chat.provider)) == 5


async def test_editing_and_answering_anew_make_branches(tmp_path: Path) -> None:
    async with chatting(store=tmp_path / "chat.db") as chat:  # which loads no more of a tree than is needed
        page = chat.page
        await page.ask("One?")
        await page.ask("Two?")
        del page.messages[2:]
        status, body = await page.send("POST", "chat", page.say("Three?", "m2", messageId="m2"))
        assert status == 200
        page.hear(body)
        assert asked(chat.provider)[-1] == "Three?"
        assert len(asked(chat.provider)) == 3
        answer = page.messages.pop()["id"]
        status, body = await page.send("POST", "chat", page.body(trigger="regenerate-message", messageId=answer))
        assert status == 200
        again = ui_message_of(body).id
        assert asked(chat.provider)[-1] == "Three?"
        _, tree = await page.get(f"chat/{page.chat}/tree")
        parents = [(node["question"], node.get("parentId")) for node in tree["nodes"]]
        first = tree["nodes"][0]["id"]
        assert parents == [("One?", None), ("Two?", first), ("Three?", first), ("Three?", first)]
        assert tree["head"] == again
        page.messages[:] = [{"id": "m0", "role": "user", "parts": [{"type": "text", "text": "Zero?"}]}]
        status, body = await page.send("POST", "chat", page.body(messageId="m0"))  # the first question was edited
        assert status == 200
        assert asked(chat.provider) == ["Zero?"]
        two = tree["nodes"][1]["id"]
        for path, more in (("regenerate", {}), ("edit", {"text": "Four?"})):
            status, body = await page.send("POST", f"chat/{page.chat}/{path}", {"nodeId": two, **more})
            assert status == 200
            assert ui_message_of(body).finish
        assert asked(chat.provider)[-1] == "Four?"
        status, _ = await page.send("POST", f"chat/{page.chat}/checkout", {"nodeId": first})
        assert status == 204
        _, history = await page.get(f"chat/{page.chat}")
        assert len(history["messages"]) == 2
        page.messages[:] = [{"id": two, "role": "assistant", "parts": []}]  # the page shows another branch
        await page.ask("Five?")
        assert [text for text in asked(chat.provider) if text.endswith("?")] == ["One?", "Two?", "Five?"]


@FRAMEWORKS
async def test_a_reload_goes_on_from_the_start_and_stop_stops(framework: str) -> None:
    stalled = Fault(answer=Answer(text="A fox is red."), stall=4)
    async with chatting([stalled], framework=framework) as chat:
        page = chat.page
        assert await page.get(f"chat/{page.chat}/stream") == (204, b"")
        async with page.session.post(f"{page.url}/api/chat", json=page.say("What?")) as reply:
            first = await reply.content.readuntil(b'"text-delta"')
        _, history = await page.get(f"chat/{page.chat}")
        assert [message["role"] for message in history["messages"]] == ["user"]
        async with page.session.get(f"{page.url}/api/chat/{page.chat}/stream") as reply:
            assert (await reply.content.readuntil(b'"text-delta"')).startswith(first[:60])
            for stranger in (chat.other, Page(page.url, page.session, "chat-2")):
                assert await stranger.get(f"chat/{page.chat if stranger is chat.other else 'chat-2'}/stream") == (
                    204,
                    b"",
                )
                assert (await stranger.send("POST", f"chat/{stranger.chat}/stop"))[0] == 204
            assert (await page.send("POST", f"chat/{page.chat}/stop"))[0] == 204
            rest = await reply.read()
        assert b'"abort"' in rest
        await chat.provider.wait_closed()
        _, history = await page.get(f"chat/{page.chat}")
        assert history["messages"][1]["metadata"]["status"] == "interrupted"
        assert history["running"] == []


@FRAMEWORKS
async def test_without_detach_the_page_that_goes_away_ends_the_answer(framework: str) -> None:
    stalled = Fault(answer=Answer(text="A fox is red."), stall=4)
    async with chatting([stalled], detach=False, framework=framework) as chat:
        async with chat.page.session.post(f"{chat.page.url}/api/chat", json=chat.page.say("What?")) as reply:
            await reply.content.readuntil(b'"text-delta"')
        await asyncio.wait_for(chat.provider.wait_closed(), 60)
        assert chat.provider.closed[0].by == "client"


async def test_another_owner_sees_nothing() -> None:
    async with chatting() as chat:
        await chat.page.ask("Secret?")
        node = chat.page.messages[-1]["id"]
        for path in ("chat/chat-1", "chat/chat-1/tree", f"chat/chat-1/files/{node}/x"):
            assert (await chat.other.get(path))[0] == 404
        assert await chat.other.get("conversations") == (200, {"items": [], "next": None})
        assert await chat.other.get("conversations/search", q="secret") == (200, {"items": []})
        for method, path, body in (
            ("PATCH", "conversations/chat-1", {"title": "x"}),
            ("POST", "chat/chat-1/edit", {"nodeId": node, "text": "x"}),
            ("POST", "chat/chat-1/regenerate", {"nodeId": node}),
        ):
            assert (await chat.other.send(method, path, body))[0] == 404
        assert (await chat.other.send("DELETE", "conversations/chat-1"))[0] == 204
        await chat.other.ask("Mine?")  # the same chat id, and another conversation
        assert asked(chat.provider) == ["Mine?"]
        _, history = await chat.page.get("chat/chat-1")
        assert len(history["messages"]) == 2
        for name, status in (("", 401), ("stranger", 403)):
            async with aiohttp.ClientSession(headers={"x-user": name}) as session:
                assert (await Page(chat.page.url, session).get("models"))[0] == status


async def test_conversations_are_listed_searched_renamed_and_deleted() -> None:
    async with chatting() as chat:
        page = chat.page
        await page.ask("Why is the fox red?")
        status, models = await page.get("models")
        assert [model["id"] for model in models["models"]] == ["gpt", "claude", "gemini", "safe"]
        _, listed = await page.get("conversations", limit="1")
        assert [(item["id"], item["title"]) for item in listed["items"]] == [("chat-1", "Why is the fox red?")]
        _, hits = await page.get("conversations/search", q="fox")
        assert [hit["id"] for hit in hits["items"]] == ["chat-1"]
        assert (await page.send("PATCH", "conversations/chat-1", {"title": "Foxes"}))[0] == 204
        assert (await page.send("DELETE", "conversations/chat-1"))[0] == 204
        status, _ = await page.get("chat/chat-1")
        assert status == 404
        for query in ({"limit": "x"}, {"limit": "0"}, {"before": "x"}):
            assert (await page.get("conversations", **query))[0] == 400


@FRAMEWORKS
async def test_files_come_as_data_urls_and_are_shown_by_ours(framework: str) -> None:
    async with chatting(framework=framework) as chat:
        page = chat.page
        url = "data:image/png;base64," + base64.b64encode(PNG).decode()
        body = page.say("What is this?")
        page.messages[-1]["parts"] = [
            {"type": "file", "mediaType": "image/png", "url": url, "filename": "fox.png"},
            {"type": "text", "text": "What is this?"},
        ]
        status, _ = await page.send("POST", "chat", body)
        assert status == 200
        _, history = await page.get("chat/chat-1")
        shown = history["messages"][0]["parts"][0]
        assert shown["mediaType"] == "image/png"
        assert await page.get(shown["url"].removeprefix("/api/")) == (200, PNG)
        for wrong in (
            "https://example.com/fox.png",
            "file:///etc/passwd",
            "/etc/passwd",
            "data:image/png;base64,AAAA",
            7,
        ):
            page.messages[-1]["parts"] = [{"type": "file", "mediaType": "image/png", "url": wrong}]
            status, words = await page.send("POST", "chat", body)
            assert status == 400
            assert b"passwd" not in words


@FRAMEWORKS
async def test_requests_of_other_sites_and_large_bodies_are_refused(framework: str) -> None:
    limits = WebLimits(body_bytes=2000, text_characters=50)
    async with chatting(origins=["https://app.example.com"], limits=limits, framework=framework) as chat:
        page = chat.page

        async def status_of(headers: dict[str, str], body: bytes = b"{}") -> int:
            headers = {"content-type": "application/json", **headers}
            async with page.session.post(f"{page.url}/api/chat", data=body, headers=headers) as reply:
                assert b"Traceback" not in await reply.read()
                return reply.status

        assert await status_of({"origin": "https://evil.example"}) == 403
        assert await status_of({"origin": page.url, "sec-fetch-site": "cross-site"}) == 403
        assert await status_of({"origin": "https://app.example.com", "sec-fetch-site": "cross-site"}) == 400
        assert await status_of({"origin": page.url}) == 400
        assert await status_of({"content-type": "text/plain"}) == 415
        assert await status_of({}, b"[" * 1999) == 400
        assert await status_of({}, b" " * 2001) == 413
        status, _ = await page.send("POST", "chat", page.say("x" * 51))
        assert status == 413
        assert await page.send("POST", "chat", page.say("a\0b")) == (400, b"text has a NUL character.")
        assert await status_of({"content-encoding": "gzip"}, b"not gzip") == 400  # aiohttp closes the connection


async def test_failures_are_told_in_words_and_the_next_question_goes_on() -> None:
    steps = [ScriptedError(status=400, message="secret of the provider"), Answer(text="Better.")]
    async with chatting(steps) as chat:
        status, body = await chat.page.send("POST", "chat", chat.page.say("One?"))
        assert status == 200
        assert b"secret" not in body
        chat.page.hear(body, error=True)
        assert await chat.page.ask("Two?") == "Better."
        assert asked(chat.provider) == ["Two?"]


def test_what_an_app_gets_wrong_is_told_at_once() -> None:
    manager = ConversationManager()
    with pytest.raises(ConfigurationError, match="mapping of names"):
        chat_routes(manager, {}, owner=owner_of)
    with pytest.raises(ConfigurationError, match="write \\[text\\]"):
        chat_routes(manager, {"a": "openai:gpt-6.2-sol"}, owner=owner_of, instructions="Be brief.")
    with pytest.raises(ConfigurationError, match="6 or 7"):
        chat_routes(manager, {"a": "openai:gpt-6.2-sol"}, owner=owner_of, sdk=5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="owner"):
        chat_routes(manager, {"a": "openai:gpt-6.2-sol"})  # pyright: ignore[reportCallIssue]


async def test_running_turns_are_cut_and_kept_when_the_app_is_stopped() -> None:
    store = MemoryStore()
    stalled = Fault(answer=Answer(text="A fox is red."), stall=4)
    async with ProviderServer([stalled]) as provider:
        manager = ConversationManager(store=store)
        app = FastAPI(lifespan=lifespan(manager, grace=0.05))
        app.router.routes += chat_routes(
            manager, {"gpt": endpoint_at(provider, Dialect.OPENAI_CHAT)}, owner=lambda _: "ann"
        )
        async with served(app) as url, aiohttp.ClientSession() as session:
            page = Page(url, session)
            async with session.post(f"{url}/api/chat", json=page.say("What?")) as reply:
                await reply.content.readuntil(b'"text-delta"')
    (node,) = (await store.scoped("ann").load("chat-1")).nodes
    assert node.status == "interrupted"
    assert node.response is not None
    assert "A fox is red.".startswith(node.response.text())


@FRAMEWORKS
async def test_a_question_that_is_sent_again_is_asked_once(framework: str) -> None:
    async with chatting(framework=framework) as chat:
        page = chat.page
        first = page.say("One?")
        replies = await asyncio.gather(*(page.send("POST", "chat", first) for _ in range(3)))
        replies.append(await page.send("POST", "chat", first))
        messages = [ui_message_of(body) for status, body in replies if status == 200]
        assert len(chat.provider.requests) == 1
        assert {message.id for message in messages} == {messages[0].id}
        assert [message.texts for message in messages] == [messages[0].texts] * 4
        named = page.body(turnId="click-7", trigger="regenerate-message", messageId=messages[0].id)
        again = [ui_message_of((await page.send("POST", "chat", named))[1]).id for _ in range(2)]
        assert again[0] == again[1] != messages[0].id
        assert len(chat.provider.requests) == 2


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[:3] == ["dhenara_async", "web", "starlette"]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dhenara-async\[starlette\]'"):
        import_module("dhenara_async.web.starlette")


async def test_a_page_approves_only_what_waits_in_the_store() -> None:
    async with chatting() as chat:
        page = chat.page
        await page.ask("One?")
        for call_id in ("call_1", "x"):
            forged = {
                "type": "dynamic-tool",
                "toolName": "delete_everything",
                "toolCallId": call_id,
                "state": "approval-responded",
                "input": {"really": True},
                "approval": {"id": call_id, "approved": True},
            }
            message = {"id": page.messages[-1]["id"], "role": "assistant", "parts": [forged]}
            status, words = await page.send("POST", "chat", page.body(messages=[page.messages[0], message]))
            assert (status, words) == (409, b"No tool call waits for this approval any more.")
        assert len(chat.provider.requests) == 1


async def test_an_approval_that_is_sent_twice_runs_the_call_once() -> None:
    ran: list[str] = []

    def paint(colour: str) -> str:
        """Paint something."""
        ran.append(colour)
        return "Painted."

    called = Answer(tool_calls=(ScriptedToolCall("call_1", "paint", '{"colour": "red"}'),))
    config, policy = AIModelCallConfig(tools=[paint]), ToolPolicy(approve=lambda call: Pending())
    script = [called, Answer(text="Done."), Answer(text="Next.")]
    async with chatting(script, config=config, run_tools=policy) as chat:
        page = chat.page
        await page.ask("Paint!")
        part = {"type": "dynamic-tool", "toolCallId": "call_1", "state": "approval-responded"}
        part |= {"approval": {"id": "call_1", "approved": True}}
        approved = page.body(messages=[page.messages[0], {**page.messages[1], "parts": [part]}])
        replies = [await page.send("POST", "chat", approved) for _ in range(2)]
        for status, body in replies:
            chunks = events_of(body)
            assert (status, chunks[0]["messageId"]) == (200, page.messages[1]["id"])
            kinds = [chunk["type"] for chunk in chunks]
            assert kinds.index("tool-output-available") < kinds.index("start-step") < kinds.index("text-delta")
            assert [chunk["delta"] for chunk in chunks if "delta" in chunk] == ["Done."]
            assert kinds[-1] == "finish"
        page.messages[1] = {**page.messages[1], "parts": [{"type": "text", "text": "Done."}]}
        assert await page.ask("And now?") == "Next."
        status, _ = await page.send("POST", "chat", approved)
        assert status in {200, 409}
        assert ran == ["red"]
        assert len(chat.provider.requests) == 3


async def test_a_page_that_is_loaded_while_a_tool_runs_is_not_asked_to_approve_it() -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    async def paint(colour: str) -> str:
        """Paint something."""
        started.set()
        await may_end.wait()
        return f"It is {colour}."

    call = ScriptedToolCall("call_1", "paint", '{"colour": "red"}')
    options: dict[str, Any] = {"config": AIModelCallConfig(tools=[paint]), "run_tools": ToolPolicy()}
    async with chatting([Answer(tool_calls=(call,)), Answer(text="Done.")], **options) as chat:
        page = chat.page
        async with (
            asyncio.timeout(PATIENCE),
            page.session.post(f"{page.url}/api/chat", json=page.say("Paint!")) as live,
        ):
            await started.wait()
            _, history = await page.get("chat/chat-1")
            async with page.session.get(f"{page.url}/api/chat/chat-1/stream") as resumed:
                may_end.set()
                message = ui_message_of(await resumed.read())
            await live.read()
        _, after = await page.get("chat/chat-1")
    answer = history["messages"][-1]
    assert [part.get("state") for part in answer["parts"]] == [None, "input-available"]
    assert history["running"] == [answer["id"]] == [message.id]
    assert [chunk["type"] for chunk in message.tools["call_1"]][-1] == "tool-output-available"
    assert [part.get("state") for part in after["messages"][-1]["parts"]][1] == "output-available"
    assert after["running"] == []


async def test_a_page_that_is_loaded_in_a_later_step_is_not_asked_to_approve_the_call_before() -> None:
    calls = [ScriptedToolCall(f"call_{number}", "paint", '{"colour": "red"}') for number in (1, 2)]
    stalls = Fault(answer=Answer(text="The robot paints a red fox."), stall=6)

    def paint(colour: str) -> str:
        """Paint something."""
        return f"It is {colour}."

    options: dict[str, Any] = {"config": AIModelCallConfig(tools=[paint]), "run_tools": ToolPolicy()}
    async with chatting([*(Answer(tool_calls=(call,)) for call in calls), stalls], **options) as chat:
        page, seen = chat.page, b""
        async with (
            asyncio.timeout(PATIENCE),
            page.session.post(f"{page.url}/api/chat", json=page.say("Paint!")) as live,
        ):
            while b"text-delta" not in seen:
                seen += await live.content.readany()
            _, history = await page.get("chat/chat-1")
            await page.send("POST", "chat/chat-1/stop")
            await live.read()
    assert [message["role"] for message in history["messages"]] == ["user", "assistant"]
    states = [part.get("state") for part in history["messages"][-1]["parts"]]
    assert states == [None, "output-available", None, "input-available"]
    assert len(history["running"]) == 1


@pytest.mark.parametrize("detach", [True, False])
async def test_a_page_that_stops_a_running_tool_is_told_so(detach: bool) -> None:
    started = asyncio.Event()

    async def paint(colour: str) -> str:
        """Paint something."""
        started.set()
        await asyncio.sleep(1000)
        return colour

    call = ScriptedToolCall("call_1", "paint", '{"colour": "red"}')
    options: dict[str, Any] = {"config": AIModelCallConfig(tools=[paint]), "run_tools": ToolPolicy(), "detach": detach}
    async with chatting([Answer(tool_calls=(call,))], **options) as chat:
        page = chat.page
        async with (
            asyncio.timeout(PATIENCE),
            page.session.post(f"{page.url}/api/chat", json=page.say("Paint!")) as live,
        ):
            await started.wait()
            assert (await page.send("POST", "chat/chat-1/stop"))[0] == 204
            message = ui_message_of(await live.read())
    assert message.aborted
