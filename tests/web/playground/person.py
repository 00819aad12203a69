"""A person at the page: the few things that people do, by the names that they see."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhenara_async import ToolPolicy
from tests.browser import Browsing
from tests.web import node_clients
from tests.web.playground.page_app import Script, page_stand, stand_in

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
_RULES = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.html).join(" | ")}`);
}"""


@cache
def _axe() -> str:
    return (node_clients.installed() / "node_modules" / "axe-core" / "axe.min.js").read_text()


@dataclass
class Person:
    """A person with one window of the page.

    Attributes:
        page: The window.
        url: Where the page is.
        browsing: The profile, with what its pages complained about.
    """

    page: Page
    url: str
    browsing: Browsing

    @classmethod
    async def at(cls, url: str, browsing: Browsing) -> Person:
        """Open the page."""
        person = cls(await browsing.open(url), url, browsing)
        await person.question.wait_for()
        return person

    async def another_window(self) -> Person:
        """Open the same address in a second window."""
        return await Person.at(self.page.url, self.browsing)

    @property
    def question(self) -> Locator:
        """Where questions are written."""
        return self.page.get_by_role("textbox", name="Your question")

    def button(self, name: str, *, exact: bool = False) -> Locator:
        """Buttons of a name."""
        return self.page.get_by_role("button", name=name, exact=exact)

    def answer(self, model: str) -> Locator:
        """The answers of a model."""
        return self.page.locator(f'[aria-label="Answer of {model}"]')

    async def choose(self, *models: str) -> None:
        """Choose the models of the next question."""
        while await self.button("Leave out").count():
            await self.button("Leave out").last.click()
        await self.page.get_by_label("Model", exact=True).select_option(models[0])
        for number, model in enumerate(models[1:], 2):
            await self.button("Compare", exact=True).click()
            await self.page.get_by_label(f"Model {number}").select_option(model)

    async def ask(self, text: str, *models: str) -> None:
        """Ask, by the keyboard."""
        if models:
            await self.choose(*models)
        await self.question.fill(text)
        await self.question.press("Enter")

    async def asked(self, text: str, *models: str) -> None:
        """Ask, and wait until nobody answers any more."""
        await self.ask(text, *models)
        await self.answered(text)

    async def answered(self, text: str) -> None:
        """Wait until a question stands above its answers, and nothing runs: the button asks again."""
        await self.page.locator(".question-text").filter(has_text=text).last.wait_for()
        await self.page.locator(".composer button[type=submit]").wait_for()

    async def violations(self) -> list[str]:
        """The rules of axe-core that the page breaks, with the elements."""
        await self.page.evaluate(_axe())
        found: Any = await self.page.evaluate(_RULES)
        return list(found)

    async def photograph(self, name: str) -> None:
        """Keep a picture of the window."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@asynccontextmanager
async def person_at(url: str, browsing: Browsing) -> AsyncGenerator[Person]:
    """Bring a person to a page; at the end, no page may have complained."""
    try:
        yield await Person.at(url, browsing)
        assert browsing.problems == [], browsing.problems
    finally:
        for page in browsing.context.pages:  # before the server, which would wait for their events
            await page.close()


@asynccontextmanager
async def at_page(
    folder: Path,
    browsing: Browsing,
    *,
    script: Script = stand_in,
    delay: float = 0.0,
    tools: ToolPolicy | None = None,
) -> AsyncGenerator[Person]:
    """Serve the page over a fresh database, and bring a person to it; see ``person_at``.

    Args:
        folder: Where the database lies.
        browsing: The person's profile.
        script: Answers in place of models.
        delay: Seconds before each token of an answer, for measurements; other tests hold answers by ``held``.
        tools: How the models' tool that tells the weather is run; None = they have none.
    """
    async with (
        page_stand(folder / "chat.db", script=script, delay=delay, tools=tools) as stand,
        person_at(stand.url, browsing) as person,
    ):
        yield person
