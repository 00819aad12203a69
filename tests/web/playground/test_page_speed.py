"""The main thread of the page while three columns stream, as Chromium's own trace tells it."""

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


def longest_task(trace: bytes) -> tuple[float, int]:
    """The longest task in milliseconds, and the number of tasks.

    It is a task's own time on a processor: what other programs of a busy machine take is not the page's.
    """
    busy = [task["tdur"] / 1000 for task in main_thread_tasks(trace) if "tdur" in task]
    return max(busy), len(busy)


async def test_three_columns_of_fifty_tokens_a_second_never_hold_the_main_thread_for_long(
    tmp_path: Path, browsing: Browsing, chromium: "Browser"
) -> None:
    async with at_page(tmp_path, browsing, delay=TOKEN_SECONDS) as person:
        await person.ask("Three seconds of words", "claude", "gpt", "gemini")
        for model in ("claude", "gpt", "gemini"):
            await expect(person.answer(model)).to_contain_text("A small tour")
        await chromium.start_tracing(categories=["toplevel", "disabled-by-default-devtools.timeline"])
        await person.answered("Three seconds")
        longest, tasks = longest_task(await chromium.stop_tracing())
    assert tasks > 100
    assert longest < LONGEST_MS


async def test_a_table_that_grows_to_the_limit_never_holds_the_main_thread_for_long(
    tmp_path: Path, browsing: Browsing, chromium: "Browser"
) -> None:
    """It is plain text while it grows; its cells are made once, at its end, which is not measured here."""
    async with at_page(tmp_path, browsing, delay=0.15) as person:
        await person.ask("A large table", "claude")
        await expect(person.answer("claude")).to_contain_text("row")
        await chromium.start_tracing(categories=["toplevel", "disabled-by-default-devtools.timeline"])
        await expect(person.answer("claude")).to_contain_text(f"{ROWS * 7 // 10} |")
        longest, _ = longest_task(await chromium.stop_tracing())
        await person.answered("A large table")
    assert longest < LONGEST_MS
