"""What the page shows and keeps, in a real browser: hostile and long answers, files, the list, phones and the dark."""

import asyncio
import re
from base64 import b64decode
from pathlib import Path

import pytest
from playwright.async_api import expect

from dhenara_async import ToolPolicy
from tests.browser import Browsing
from tests.web.playground.page_app import held
from tests.web.playground.person import at_page

pytestmark = pytest.mark.asyncio(loop_scope="session")
PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


# Drops a file onto the page, and pastes another into the question, as the browser does.
_DROP = """async () => {
  const carrying = (name) => {
    const data = new DataTransfer();
    data.items.add(new File(["text"], name, { type: "text/plain" }));
    return data;
  };
  const found = async (count) => {
    while (document.querySelectorAll(".composer .files li").length < count) await new Promise(requestAnimationFrame);
  };
  const question = document.getElementById("question");
  const drop = { dataTransfer: carrying("drop.txt"), bubbles: true, cancelable: true };
  question.dispatchEvent(new DragEvent("drop", drop));
  await found(4);
  const paste = { clipboardData: carrying("paste.txt"), bubbles: true, cancelable: true };
  question.dispatchEvent(new ClipboardEvent("paste", paste));
}"""


async def test_a_hostile_answer_is_shown_and_not_run(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("Something hostile", "claude")
        answer = person.answer("claude").locator(".markdown").last
        await expect(answer).to_contain_text("<img src=x onerror=alert(1)>")
        await expect(answer).to_contain_text("<script>window.ran = true</script>")
        await expect(answer).to_contain_text("![beacon](https://example.com/beacon.png)")
        await expect(answer.locator("img, script, iframe, svg, [onclick], [onerror]")).to_have_count(0)
        await expect(answer.locator("a")).to_have_count(1)
        await expect(answer.locator("a")).to_have_attribute("href", "https://example.com/fine")
        await expect(answer.locator("a")).to_have_attribute("rel", "noopener noreferrer nofollow")
        await person.asked("Something deep")
        await expect(person.answer("claude").last.locator(".plain")).to_contain_text("bottom")
        await person.photograph("hostile")
        assert await person.page.evaluate("window.ran") is None
        assert await person.violations() == []


async def test_long_answers_are_markdown_up_to_a_limit_and_pages_of_text_above(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("Something long", "claude")
        await expect(person.answer("claude").locator("p strong").last).to_have_text("some")
        await expect(person.answer("claude").locator(".markdown p")).to_have_count(3000)
        await person.asked("Ten megabytes")
        pages = person.answer("claude").last.locator(".pages")
        await expect(pages).to_contain_text("page 1 of 105")
        await pages.get_by_role("button", name="Last").click()
        await expect(pages).to_contain_text("page 105 of 105")
        await expect(pages.get_by_role("button", name="Next")).to_be_disabled()
        await expect(person.answer("claude").last.locator(".plain")).to_contain_text("A line of a very long answer.")


async def test_files_go_with_a_question_and_images_are_shown(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        await page.locator("input[type=file]").set_input_files(
            [
                {"name": "dot.png", "mimeType": "image/png", "buffer": PNG},
                {"name": "pages.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 pages"},
                {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"some notes"},
            ]
        )
        files = page.get_by_role("list", name="Files")
        await expect(files.locator("li")).to_have_count(3)
        await page.evaluate(_DROP)
        await expect(files.locator("li")).to_have_text(
            [re.compile(name) for name in ("dot", "pages", "notes", "drop", "paste")]
        )
        for name in ("notes.txt", "drop.txt", "paste.txt"):
            await files.get_by_role("button", name=f"Remove {name}").click()
        await expect(files.locator("li")).to_have_count(2)
        await person.asked("What is in it?", "claude")
        await page.reload()
        picture = page.get_by_role("img", name="dot.png")
        await expect(picture).to_have_attribute("src", re.compile(r"^http://127\.0\.0\.1:\d+/play/api/conversations/"))
        assert await picture.evaluate("async (image) => (await image.decode(), image.naturalWidth)") == 1
        await person.choose("blind")
        await expect(page.get_by_role("list", name="Before sending")).to_contain_text("content lost")
        await person.asked("And without eyes?")
        seam = page.locator("details.seam")
        await expect(seam).to_contain_text("content lost")
        await seam.locator("summary").click()
        await expect(seam.locator("li.lossy")).to_contain_text("media dropped")
        await person.choose("gemini")
        await person.question.fill("And with eyes again?")
        await expect(page.get_by_role("list", name="Before sending")).to_contain_text("gemini would get")
        await page.get_by_role("main").evaluate("main => { main.scrollTop -= 190 }")
        await person.photograph("loss")  # a picture of the README
        assert await person.violations() == []
        await person.button("Request").last.click()
        sent = page.get_by_role("dialog", name="The request as sent")
        await expect(sent).to_contain_text("POST http://127.0.0.1")
        await expect(sent).to_contain_text('"model": "openai/gpt-oss-120b"')
        await person.photograph("request")
        assert await person.violations() == []
        await sent.get_by_role("button", name="Close").click()
        await expect(sent).to_be_hidden()


async def test_conversations_are_found_renamed_exported_and_deleted(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        await person.asked("A first subject", "claude")
        await person.button("New conversation").click()
        await person.asked("Another matter")
        search = page.get_by_label("Search conversations")
        await search.fill("subject")
        await page.locator(".hits").get_by_role("button", name="A first subject").click()
        await expect(page.locator(".question-text")).to_contain_text("A first subject")
        await search.fill("")
        await page.get_by_label("More for A first subject").click()
        await person.button("Rename").click()
        await page.get_by_label("New name").fill("A better name")
        await page.get_by_label("New name").press("Escape")
        await expect(page.get_by_label("More for A first subject")).to_be_focused()
        await page.get_by_label("More for A first subject").press("Enter")
        await person.button("Rename").click()
        await page.get_by_label("New name").fill("A better name")
        await page.get_by_label("New name").press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("A better name")
        await page.get_by_label("More for A better name").click()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Export as Markdown").click()
        assert (await download.value).suggested_filename == "A better name.md"
        await person.button("Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.locator(".items .item")).to_have_count(1)
        await expect(page.get_by_role("heading", level=1)).to_have_text("New conversation")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_everything_within_its_width(tmp_path: Path, browsing: Browsing, scheme: str) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        await page.set_viewport_size({"width": 390, "height": 780})
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        await person.asked("Something rich", "claude")
        await person.asked("And you?", "gpt", "gemini")
        width = "document.scrollingElement.scrollWidth"
        assert await page.evaluate(width) == 390
        await person.photograph(f"phone-{scheme}")
        assert await person.violations() == []
        await person.button("Conversations").click()
        await expect(person.button("New conversation")).to_be_focused()
        assert await person.violations() == []
        await page.keyboard.press("Escape")
        await expect(person.button("New conversation")).to_be_hidden()
        await expect(person.button("Conversations")).to_be_focused()
        assert await page.evaluate(width) == 390
        await page.set_viewport_size({"width": 320, "height": 640})
        composer = await page.locator(".composer").bounding_box()  # the page hides whatever goes beyond its width
        assert composer is not None
        assert composer["x"] + composer["width"] <= 320
        models = await page.locator(".composer-bar .models").bounding_box()
        assert models is not None
        assert models["width"] > 200  # beside the buttons their names could not be read


async def test_targets_are_large_enough_to_touch(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("Something rich", "claude")
        await person.asked("And you?", "gpt")
        small = await person.page.evaluate(
            """() => Array.from(document.querySelectorAll("button, select, summary, input, a.quiet"))
              .filter((target) => target.checkVisibility() && !target.matches(".copy-code"))
              .map((target) => [target.outerHTML, target.getBoundingClientRect()])
              .filter(([html, box]) => box.height < 24 || box.width < 24)
              .map(([html]) => html)"""
        )
        assert small == []


async def test_the_calls_of_tools_and_their_results_are_folded_into_the_answer(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing, tools=ToolPolicy()) as person:
        page = person.page
        await person.asked("How is the weather?", "claude")
        await expect(page.locator(".turn")).to_have_count(2)  # as they are stored: the events are not shown any more
        call = page.locator("details.fold").filter(has_text="Tool call: weather")
        await call.locator("summary").click()
        await expect(call.locator(".raw")).to_have_text(re.compile(r'"city": "Bergen"'))
        result = page.locator("details.fold").filter(has_text="Tool result: weather")
        await result.locator("summary").click()
        await expect(result.locator(".raw")).to_have_text("It rains in Bergen.")
        await expect(page.get_by_text("An answer by claude")).to_have_count(1)
        await expect(page.locator(".question-text")).to_have_count(1)
        await person.photograph("tools")
        assert await person.violations() == []
        await person.asked("Thanks", "gpt")
        await expect(person.answer("gpt")).to_contain_text("An answer by gpt")


async def test_tool_loops_stand_whole_in_their_columns_and_the_conversation_goes_on_after_their_ends(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing, tools=ToolPolicy()) as person:
        await person.asked("How is the weather?", "claude", "gpt")
        for model in ("claude", "gpt"):
            for words in ("I look.", "Tool result: weather", "An answer by"):
                await expect(person.answer(model)).to_contain_text(words)
        await person.page.reload()
        for model in ("claude", "gpt"):
            await expect(person.answer(model)).to_contain_text("Tool result: weather")
            await expect(person.answer(model)).to_contain_text("after 3 messages")
        assert await person.violations() == []
        await person.asked("Thanks", "gemini")
        await expect(person.answer("gemini")).to_contain_text("after 5 messages")


async def test_a_tool_loop_stays_one_running_turn_until_its_last_answer(tmp_path: Path, browsing: Browsing) -> None:
    gate = asyncio.Event()
    script = held(gate, 5, "after 3 messages")
    async with at_page(tmp_path, browsing, tools=ToolPolicy(), script=script) as person:
        page = person.page
        await person.ask("How is the weather?", "claude")
        await expect(person.answer("claude")).to_contain_text("Tool result: weather")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # asks for news
        await expect(person.button("Branches")).to_be_visible()  # the first answer is stored, and known to the page
        await expect(person.answer("claude")).to_contain_text("I look.")
        await expect(person.button("Stop", exact=True).first).to_be_visible()
        await page.reload()
        await expect(person.button("Stop", exact=True).first).to_be_visible()
        gate.set()
        await person.answered("How is the weather?")
        await expect(page.get_by_text("I look.")).to_have_count(1)
        await expect(page.get_by_text("after 3 messages")).to_have_count(1)
