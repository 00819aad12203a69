"""The main thread of the page while three columns stream, as Chromium's own trace tells it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from playwright.async_api import expect

from tests.browser import Browsing
from tests.web.playground.page_app import ROWS
from tests.web.playground.person import at_page

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOKEN_SECONDS = 0.02
LONGEST_MS = 50
ATTEMPTS = 3
"""A task that is long each time is the page's; a crowded processor makes others long."""
_INSPECTOR = "blink.mojom.DevToolsSession"
Event = dict[str, Any]


def main_thread_tasks(trace: bytes) -> list[Event]:
    """The tasks of the main threads of pages, without those in which the test itself looks at the page."""
    events = cast("list[Event]", orjson.loads(trace)["traceEvents"])
    names = [event for event in events if event["name"] == "thread_name"]
    mains = {(event["pid"], event["tid"]) for event in names if event["args"]["name"] == "CrRendererMain"}
    looks = [(event["pid"], event["tid"], event["ts"]) for event in events if _INSPECTOR in str(event.get("args"))]
    return [
        task
        for task in events
        if task["name"].endswith("RunTask")
        and (task["pid"], task["tid"]) in mains
        and not any(
            (task["pid"], task["tid"]) == look[:2] and 0 <= look[2] - task["ts"] <= task.get("dur", 0) for look in looks
        )
    ]


def longest_task(trace: bytes) -> float:
    """The longest task in milliseconds.

    It is a task's own time on a processor: what other programs of a busy machine take is not the page's.
    """
    busy = [task["tdur"] / 1000 for task in main_thread_tasks(trace) if "tdur" in task]
    assert busy, "the trace has no task of the page"
    return max(busy)


@asynccontextmanager
async def traced(chromium: "Browser", tries: list[float]) -> AsyncGenerator[None]:
    """Add the milliseconds of the longest task in the block to the list."""
    await chromium.start_tracing(categories=["toplevel", "disabled-by-default-devtools.timeline"])
    yield
    tries.append(longest_task(await chromium.stop_tracing()))


async def test_three_columns_of_fifty_tokens_a_second_never_hold_the_main_thread_for_long(
    tmp_path: Path, browsing: Browsing, chromium: "Browser"
) -> None:
    async with at_page(tmp_path, browsing, delay=TOKEN_SECONDS) as person:
        tries = list[float]()
        while len(tries) < ATTEMPTS and not any(longest < LONGEST_MS for longest in tries):
            await person.ask("Three seconds of words", "claude", "gpt", "gemini")
            for model in ("claude", "gpt", "gemini"):
                await expect(person.answer(model).last).to_contain_text("A small tour")
            async with traced(chromium, tries):
                await person.answered("Three seconds")
    assert min(tries) < LONGEST_MS


async def test_a_table_that_grows_to_the_limit_never_holds_the_main_thread_for_long(
    tmp_path: Path, browsing: Browsing, chromium: "Browser"
) -> None:
    """It is plain text while it grows; its cells are made once, at its end, which is not measured."""
    async with at_page(tmp_path, browsing, delay=0.08) as person:
        tries = list[float]()
        while len(tries) < ATTEMPTS and not any(longest < LONGEST_MS for longest in tries):
            await person.button("New conversation").click()
            await person.ask("A large table", "claude")
            await expect(person.answer("claude").last).to_contain_text("row")
            async with traced(chromium, tries):
                await expect(person.answer("claude").last).to_contain_text(f"{ROWS * 7 // 10} |")
            await person.answered("A large table")
            await expect(person.answer("claude").last.locator("td:first-child")).to_have_count(ROWS)
    assert min(tries) < LONGEST_MS
