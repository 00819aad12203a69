"""The page for other eyes and other media, in a browser: large letters, colours of the system, no motion, paper."""

from pathlib import Path

import pytest
from playwright.async_api import expect

from dhenara_async import Pending, ToolPolicy
from dhenara_async.messages.messages import ToolCallPart
from tests.browser import Browsing
from tests.web.playground.person import at_page

pytestmark = pytest.mark.asyncio(loop_scope="session")
_WIDTH = "document.scrollingElement.scrollWidth"
_CLIPPED = """() => ["html", "body", "#app", ".page", ".main", "main"]
  .filter((name) => { const box = document.querySelector(name); return box.scrollHeight > box.clientHeight + 1; })"""


_MOTION = """() => {
  const dots = document.querySelector("main").appendChild(document.createElement("p"));
  dots.className = "waiting";
  const motion = getComputedStyle(dots.appendChild(document.createElement("span"))).animationName;
  dots.remove();
  return motion;
}"""


def wait(call: ToolCallPart) -> type[Pending]:
    return Pending


@pytest.mark.parametrize(("percent", "width", "height"), [(200, 640, 360), (400, 320, 180)])
async def test_with_large_letters_everything_is_reached_in_one_column(
    tmp_path: Path, browsing: Browsing, percent: int, width: int, height: int
) -> None:
    async with at_page(tmp_path, browsing, tools=ToolPolicy(approve=wait)) as person:
        page = person.page
        await page.set_viewport_size({"width": width, "height": height})  # that of 1280 x 720 at so many percent
        await person.asked("Something rich", "claude")
        await person.asked("How is the weather?", "gpt", "gemini")
        await expect(person.answer("gpt").locator(".answer-head")).to_be_in_viewport()
        await person.photograph(f"zoom-{percent}")
        assert await page.evaluate(_WIDTH) == width
        await person.button("Approve").last.click()
        await expect(person.answer("gemini")).to_contain_text("after 5 messages")
        await expect(person.question).to_be_in_viewport()  # it has the focus
        await person.button("Conversations").click()
        await expect(person.button("New conversation")).to_be_in_viewport(ratio=1)
        await page.keyboard.press("Escape")
        await person.button("Branches").click()
        assert await page.evaluate(_WIDTH) == width
        assert await person.violations() == []


async def test_in_the_colours_of_the_system_the_chosen_answer_and_the_focus_have_lines(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        await page.emulate_media(forced_colors="active", reduced_motion="reduce")
        await person.asked("Something rich", "claude", "gpt")
        await expect(page.locator(".column.chosen")).to_have_css("outline-style", "solid")
        await expect(page.locator(".column:not(.chosen)")).to_have_css("outline-style", "none")
        await expect(page.locator(".item.current")).to_have_css("outline-style", "solid")
        await expect(page.locator(".composer")).to_have_css("outline-style", "solid")
        await expect(page.locator(".question-text")).to_have_css("border-top-style", "solid")
        await person.photograph("forced-colours")
        assert await page.evaluate(_MOTION) == "none"
        await page.emulate_media(reduced_motion="no-preference")
        assert await page.evaluate(_MOTION) == "breathe"


async def test_paper_has_the_whole_conversation_and_nothing_else_in_light(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        for _ in range(3):
            await person.asked("Something rich", "claude")
        await page.emulate_media(media="print", color_scheme="dark")
        assert await page.evaluate(_CLIPPED) in ([], ["html"])  # the page itself is longer than the window
        for hidden in (person.question, page.get_by_role("navigation"), person.button("Branches")):
            await expect(hidden).to_be_hidden()
        await expect(person.button("Run again")).to_have_count(0)
        await expect(page.get_by_text("That is all.")).to_have_count(3)
        await expect(page.locator("body")).to_have_css("background-color", "rgb(251, 250, 247)")
        await person.photograph("paper")
