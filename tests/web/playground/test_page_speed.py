"""The main thread of the page while three columns stream, as Chromium's own trace tells it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from playwright.async_api import expect

from tests.browser import Browsing
from tests.web.playground.person import at_page

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOKEN_SECONDS = 0.02
LONGEST_MS = 50
Event = dict[str, Any]


def main_thread_tasks(trace: bytes) -> list[Event]:
    """The tasks of the main threads of pages."""
    events = cast("list[Event]", orjson.loads(trace)["traceEvents"])
    names = [event for event in events if event["name"] == "thread_name"]
    mains = {(event["pid"], event["tid"]) for event in names if event["args"]["name"] == "CrRendererMain"}
    return [event for event in events if event["name"].endswith("RunTask") and (event["pid"], event["tid"]) in mains]


async def test_three_columns_of_fifty_tokens_a_second_never_hold_the_main_thread_for_long(
    tmp_path: Path, browsing: Browsing, chromium: "Browser"
) -> None:
    async with at_page(tmp_path, browsing, delay=TOKEN_SECONDS) as person:
        await person.ask("Three seconds of words", "claude", "gpt", "gemini")
        for model in ("claude", "gpt", "gemini"):
            await expect(person.answer(model)).to_contain_text("A small tour")
        await chromium.start_tracing(categories=["toplevel", "disabled-by-default-devtools.timeline"])
        await person.answered("Three seconds")
        tasks = main_thread_tasks(await chromium.stop_tracing())
    assert len(tasks) > 100
    # its own time on a processor: what other programs of a busy machine take is not the page's
    busy = sorted((task["tdur"] / 1000 for task in tasks if "tdur" in task), reverse=True)
    assert len(busy) > 100
    assert busy[0] < LONGEST_MS, busy[:5]
