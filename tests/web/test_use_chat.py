"""``useChat`` of ``@ai-sdk/react``, versions 6 and 7, in a real browser: a person asks, reloads and stops."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
import orjson
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dhenara_async import AIModelCallConfig, Citation, Failover, Pending, Target, ToolCallPart, ToolPolicy
from dhenara_async.testing import Answer, Fault, ScriptedError, ScriptedToolCall
from dhenara_async.testing.script import ScriptStep, SeenRequest
from tests.browser import Browsing
from tests.loopback import Connection, chat_delta, chat_endpoint, chat_stream, chunked, head, replies, resetting, serve
from tests.web import node_clients
from tests.web.test_chat_routes import PNG, Chat, chatting
from tests.web.test_real_chat_clients import PICTURE, TEXT
from tests.web.wire import wired

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")
SDKS = pytest.mark.parametrize("sdk", [6, 7])
# React writes to the console that it has developer tools, unless it finds some.
PAGE = """<!doctype html><title>Chat</title><link rel="icon" href="data:,"><body>
<script>globalThis.__REACT_DEVTOOLS_GLOBAL_HOOK__ = { isDisabled: true };</script>
<script type="module" src="page.mjs"></script>"""
FILE = {"name": "fox.png", "mimeType": "image/png", "buffer": PNG}


@cache
def bundle(sdk: int) -> bytes:
    return node_clients.bundled("page.mjs", node_clients.installed(), sdk)


async def page(request: Request) -> Response:
    response = HTMLResponse(PAGE)
    response.set_cookie("user", "ann")
    return response


class Gate:
    """A provider that sends half of an answer, and the rest when it is opened."""

    def __init__(self) -> None:
        self.open = anyio.Event()

    async def play(self, connection: Connection) -> None:
        """Answer one request."""
        if await connection.request() is not None:
            await connection.send(head(), chat_delta(TEXT[:10]))
            await self.open.wait()
            await connection.send(*chat_stream(TEXT[10:]))


@dataclass
class Window:
    """One window of the browser, with the page of one chat at a time."""

    page: "Page"
    url: str

    async def another(self) -> "Window":
        """Open another window of the same person, in front of this one: a browser slows those behind down."""
        return Window(await self.page.context.new_page(), self.url)

    async def show(self, chat: str, history: str = "new", **query: str) -> Any:
        """Load the page of a chat, and return what it shows."""
        await self.page.goto(f"{self.url}/page?{urlencode({'chat': chat, 'history': history, **query})}")
        await self.page.locator("output").wait_for()
        return await self.page.evaluate("shown()")

    async def ask(self, text: str, *, file: bool = False, button: str = "Ask") -> None:
        await self.page.locator("input[type=text]").fill(text)
        if file:
            await self.page.locator("input[type=file]").set_input_files([FILE])  # pyright: ignore[reportArgumentType]
        await self.click(button)

    async def click(self, button: str) -> None:
        await self.page.get_by_role("button", name=button).last.click()

    async def reads(self, words: str) -> None:
        """Wait until the last answer has these words."""
        await self.page.locator("article[data-role=assistant] p").last.filter(has_text=words).wait_for()

    async def ended(self, answers: int = 1) -> Any:
        """Wait for the end of an answer, the how-many-th of this load of the page, and return what the page shows."""
        await self.page.locator(f"output[data-ended='{answers}']").wait_for()
        return await self.page.evaluate("shown()")


@asynccontextmanager
async def window_of(
    script: Any, sdk: int, browsing: Browsing, models: dict[str, Target] | None = None, **options: Any
) -> AsyncGenerator[tuple[Chat, Window]]:
    """Serve the page and its chat, and open a window."""
    code = bundle(sdk)

    async def module(request: Request) -> Response:
        return Response(code, media_type="text/javascript")

    routes = [Route("/page", page), Route("/page.mjs", module)]
    async with chatting(script, sdk=sdk, more_models=models, pages=routes, **options) as chat:
        yield chat, Window(await browsing.context.new_page(), chat.page.url)


def answer(seen: SeenRequest) -> ScriptStep:
    """Answer by the words of the question."""
    question = seen.turns[-1][1]
    if question.startswith("Paint it"):
        colour = "blue" if "blue" in question else "red"
        return Answer(
            text="I paint. ",
            reasoning="A fox is red.",
            tool_calls=(ScriptedToolCall("call_1", "paint", f'{{"colour": "{colour}"}}'),),
            citations=(Citation(url="https://example.com/fox", title="Fox"),),
        )
    if question == "draw":
        part = {"inlineData": {"mimeType": "image/png", "data": PICTURE.partition(",")[2]}}
        candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        return Fault(body=b"data: " + orjson.dumps({"candidates": [candidate]}) + b"\r\n\r\n")
    if "cut" in question:
        return Fault(answer=Answer(text=TEXT), cut=1500)
    if "refused" in question:
        return ScriptedError(400, "secret of the provider")
    if "stall" in question:
        return Fault(answer=Answer(text=TEXT), stall=6)
    return Answer(text=TEXT)


@SDKS
async def test_a_tool_is_approved_and_what_the_page_shows_is_what_a_reload_shows(sdk: int, browsing: Browsing) -> None:
    def paint(colour: str) -> str:
        """Paint something."""
        return f"It is {colour}."

    def approve(call: ToolCallPart) -> "str | Pending":
        return "It is red." if "blue" in call.arguments else Pending()

    options: dict[str, Any] = {
        "config": AIModelCallConfig(tools=[paint]),
        "run_tools": ToolPolicy(approve=approve),
    }
    async with window_of(answer, sdk, browsing, **options) as (_, window):
        await window.show("painted", model="claude")
        await window.ask("Paint it!", file=True)
        asked = await window.ended()
        await window.click("Approve")
        painted = await window.ended(2)
        reloaded = await window.show("painted", "server")
        await window.show("refused", model="claude")
        await window.ask("Paint it!")
        await window.ended()
        await window.click("Deny")
        denied = await window.ended(2)
        denied_again = await window.show("refused", "server")
        await window.show("blue", model="claude")
        await window.ask("Paint it blue!")
        blue = await window.ended()
        blue_again = await window.show("blue", "server")
    for whole, state, output in (
        (asked, "approval-requested", None),
        (painted, "output-available", "It is red."),
        (reloaded, "output-available", "It is red."),
        (denied, "output-denied", None),
        (denied_again, "output-denied", None),
        (blue, "output-denied", None),
        (blue_again, "output-denied", None),
    ):
        assert (whole["status"], whole["error"]) == ("ready", "")
        question, message = whole["messages"]
        assert message["reasoning"] == "A fox is red."
        assert message["text"] == ("I paint. " if whole is asked else f"I paint. {TEXT}")
        assert message["sources"] == [["https://example.com/fox", "Fox"]]
        ((shown, tool),) = message["tools"]
        assert (shown, orjson.loads(tool)) == (
            state,
            ["paint", {"colour": "blue" if whole in (blue, blue_again) else "red"}, output],
        )
        assert message["open"] == 0
        assert message["tokens"] > 0 or whole is asked
        if whole in (asked, painted, reloaded):
            assert question["pictures"] == [[1, "http:" if whole is reloaded else "data:"]]
            assert message["id"] == asked["messages"][1]["id"]
    assert browsing.problems == []


@SDKS
async def test_an_answer_is_shown_once_after_a_reload_with_any_history_and_in_other_windows(
    sdk: int, browsing: Browsing
) -> None:
    gate = Gate()
    async with serve(gate.play) as held:
        models: dict[str, Target] = {"held": chat_endpoint(held.url)}
        async with window_of(answer, sdk, browsing, models) as (_, asking):
            await asking.show("reloaded", model="gpt")
            await asking.ask("One?")
            before = await asking.ended()
            await asking.page.evaluate("history.replaceState(null, '', location.search.replace('gpt', 'held'))")
            await asking.ask("Two?")
            await asking.reads(TEXT[:10])
            histories = ("nothing", "all", "question", "turns")
            others: list[Window] = []
            for history in histories:
                others.append(window := await asking.another())
                await window.show("reloaded", history)
                await window.reads(TEXT[:10])
            await asking.show("reloaded", "server")
            await asking.reads(TEXT[:10])
            gate.open.set()
            reloads = {history: await window.ended() for window, history in zip(others, histories, strict=True)}
            reloads["server"] = await asking.ended()
    first, second = (f"{message['role']} {message['text']}" for message in before["messages"])
    question, found = "user Two?", f"assistant {TEXT}"
    assert second == found
    assert {
        history: [f"{message['role']} {message['text']}" for message in whole["messages"]]
        for history, whole in reloads.items()
    } == {
        "nothing": [found],
        "all": [first, second, question, found],
        "question": [first, second, question, found],
        "turns": [first, second, found],
        "server": [first, second, question, found],
    }
    for whole in reloads.values():
        assert (whole["status"], whole["error"], [message["open"] for message in whole["messages"]]) == (
            "ready",
            "",
            [0] * len(whole["messages"]),
        )
    assert len({whole["messages"][-1]["id"] for whole in reloads.values()}) == 1
    assert len(held.requests) == 1
    assert browsing.problems == []


@SDKS
async def test_answers_that_are_stopped_cut_taken_back_asked_anew_or_a_file(sdk: int, browsing: Browsing) -> None:
    breaks = anyio.Event()
    breaking, whole = resetting(head(), chat_delta(TEXT[:10]), when=breaks), replies(chunked(*chat_stream(TEXT)))
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serve(play)) for play in (breaking, whole)]
        models: dict[str, Target] = {"over": Failover([chat_endpoint(server.url) for server in servers])}
        chat, window = await stack.enter_async_context(window_of(answer, sdk, browsing, models))
        await window.show("stopped", model="gpt")
        await window.ask("stall")
        await window.reads("The robot")
        await window.click("Stop")
        stopped = await window.ended()
        await chat.provider.wait_closed()
        stopped_again = await window.show("stopped", "server")

        await window.show("cut", model="gpt")
        await window.ask("cut")
        cut = await window.ended()
        await window.ask("refused")
        refused = await window.ended(2)

        await window.show("over", model="over")
        await window.ask("over")
        await window.reads(TEXT[:10])
        breaks.set()
        over = await window.ended()
        over_again = await window.show("over", "server", model="claude")
        await window.click("Again")
        anew = await window.ended()
        await window.ask("drawn", button="Edit")
        edited = await window.ended(2)
        edited_again = await window.show("over", "server")

        await window.show("drawn", model="gemini")
        await window.ask("draw")
        drawn = await window.ended()
    for whole in (stopped, stopped_again):
        assert (whole["status"], whole["error"]) == ("ready", "")
        words = whole["messages"][-1]["text"]
        assert words
        assert TEXT.startswith(words)
        assert words != TEXT
    for whole in (cut, refused):
        assert whole["status"] == "error"
        assert whole["error"]
        assert "secret" not in whole["error"]
    assert TEXT.startswith(cut["messages"][1]["text"].strip() or "x")
    for whole in (over, over_again, anew, edited, edited_again, drawn):
        assert (whole["status"], whole["error"], len(whole["messages"])) == ("ready", "", 2)
        if whole is not drawn:
            text = whole["messages"][1]["text"]
            assert text == (TEXT[:10] + TEXT if whole is over and sdk == 6 else TEXT)
    assert ("data-reset" in over["messages"][1]["others"]) is (sdk == 6)
    assert len({whole["messages"][1]["id"] for whole in (over, over_again, anew, edited)}) == 3
    assert [message["text"] for message in edited_again["messages"]] == ["drawn", TEXT]
    assert drawn["messages"][1]["pictures"] == [[1, "http:"]]
    for whole in (stopped, stopped_again, cut, refused, over, anew, edited, drawn):
        assert all(message["open"] == 0 for message in whole["messages"])
    assert browsing.problems == []


@SDKS
async def test_a_broken_connection_is_mended_when_the_page_is_looked_at(sdk: int, browsing: Browsing) -> None:
    gate = Gate()
    async with serve(gate.play) as held:
        models: dict[str, Target] = {"held": chat_endpoint(held.url)}
        async with window_of(answer, sdk, browsing, models) as (chat, window), wired(chat.page.url) as wire:
            window.url = wire.url
            # the hook of version 6 hides from its chat that a resumed stream begins anew, and shows words twice
            await window.show("broken", model="held", made="yes")
            await window.ask("What?")
            await window.reads(TEXT[:10])
            await wire.cut()
            broken = await window.ended()
            async with window.page.expect_response("**/stream"):
                await window.page.evaluate("document.dispatchEvent(new Event('visibilitychange')), null")
            gate.open.set()
            mended = await window.ended(2)
    assert broken["status"] == "error"
    assert broken["messages"][-1]["text"] == TEXT[:10]
    assert (mended["status"], mended["error"]) == ("ready", "")
    assert [message["text"] for message in mended["messages"]] == ["What?", TEXT]
    assert mended["messages"][-1]["id"] == broken["messages"][-1]["id"]
    assert browsing.errors + browsing.elsewhere == []


@SDKS
async def test_without_detach_the_stop_of_the_page_is_the_end_of_the_call(sdk: int, browsing: Browsing) -> None:
    async with window_of(answer, sdk, browsing, detach=False) as (chat, window):
        await window.show("left", model="gpt")
        await window.ask("stall")
        await window.reads("The robot")
        await window.click("Leave")
        left = await window.ended()
        await chat.provider.wait_closed()
        assert chat.provider.closed[0].by == "client"
        left_again = await window.show("left", "server")
    for whole in (left, left_again):
        assert (whole["status"], whole["error"]) == ("ready", "")
        assert TEXT.startswith(whole["messages"][-1]["text"])
    assert browsing.problems == []
