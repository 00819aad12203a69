"""Small mishaps at the page, in a real browser: files that cannot be read, impatient hands, unknown currencies."""

from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from tests.browser import Browsing
from tests.web.playground.person import at_page

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The second time while it says that it has copied.
_PRESS_TWICE = """async (button) => {
  button.click();
  while (button.textContent !== "Copied") await new Promise(requestAnimationFrame);
  button.click();
}"""


async def test_a_file_that_cannot_be_read_is_told_and_the_others_are_added(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        # as Chromium does for a folder that is dropped
        await person.page.evaluate(
            """() => {
              const read = FileReader.prototype.readAsDataURL;
              FileReader.prototype.readAsDataURL = function (file) {
                if (file.name === "folder") this.onerror(new Event("error"));
                else read.call(this, file);
              };
            }"""
        )
        await person.page.locator("input[type=file]").set_input_files(
            [
                {"name": "folder", "mimeType": "", "buffer": b"..."},
                {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"some notes"},
            ]
        )
        await expect(person.page.locator(".composer .files li")).to_have_count(1)
        await expect(person.page.locator(".composer .problem")).to_have_text("folder cannot be read.")


async def test_a_button_that_copies_has_its_name_again_however_often_it_was_pressed(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("Something rich", "claude")
        answer = person.answer("claude")
        for button in (answer.locator(".copy-code"), answer.locator(".tools button").nth(1)):
            await expect(button).to_have_text("Copy")
            await button.evaluate(_PRESS_TWICE)
            await expect(button).to_have_text("Copy")


async def test_a_file_of_another_host_is_named_and_never_fetched(tmp_path: Path, browsing: Browsing) -> None:
    async def elsewhere(route: Route) -> None:
        told = await (await route.fetch()).json()
        for turn in told["turns"]:
            file = {"name": "beacon.png", "mediaType": "image/png", "size": 1, "url": "https://example.com/beacon.png"}
            turn["files"] = [file]
        await route.fulfill(json=told)

    async with at_page(tmp_path, browsing) as person:
        await person.page.route("**/path*", elsewhere)
        await person.asked("First words", "claude")
        await expect(person.page.locator("span.file")).to_contain_text("beacon.png")
        await expect(person.page.locator(".file img, a.file")).to_have_count(0)


async def test_costs_in_words(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        words = await person.page.evaluate(
            """async () => {
              const { money } = await import(new URL("assets/words.js", document.baseURI));
              const costs = [["0", "USD"], ["0.00001", "USD"], ["0.0012345", "USD"], ["0.25", "USD"], ["12.5", null]];
              return costs.map(([amount, currency]) => money({ amount, currency }));
            }"""
        )
        assert words == ["$0", "less than $0.0001", "$0.0012", "$0.250", "¤12.50"]
