"""Conversations of hundreds of turns on the page: the last turns are there at once, the others when they matter."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Locator, expect

from tests.browser import Browsing
from tests.web.playground.page_app import Stand, page_stand
from tests.web.playground.person import Person, at_page, person_at
from tests.web.playground.test_page_speed import ATTEMPTS, LONGEST_MS, traced

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")
TURNS = 90
RECENT = 60
"""Turns that the page draws of itself, see ``path.js``; the last slice may go beyond."""
AT_ONCE = 6
"""No batch of changes draws more turns: it would hold the page up."""
# Counts the turns that each batch of changes draws.
_WATCH = """() => {
  window.most = 0;
  const turns = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.querySelectorAll(".turn").length : 0);
  const drawn = (changes) => {
    const added = changes.flatMap((change) => Array.from(change.addedNodes, turns));
    return added.reduce((sum, one) => sum + one, 0);
  };
  const observer = new MutationObserver((changes) => (window.most = Math.max(window.most, drawn(changes))));
  observer.observe(document.querySelector("main"), { childList: true, subtree: true });
}"""
_TOP = "element => element.getBoundingClientRect().top"
_END = "main => main.scrollHeight - main.clientHeight - main.scrollTop"


async def lengthen(stand: Stand, turns: int) -> None:
    """Make the one conversation longer: its first turn is followed by others with the same answer."""
    store = stand.manager.scoped("me").store
    [listed] = (await store.list()).items
    [first] = (await store.load(listed.id)).nodes
    before = first.id
    for number in range(2, turns + 1):
        more = {"id": f"turn-{number}", "parent_id": before, "user_query": f"Question {number}, please"}
        await store.append(listed.id, first.model_copy(update=more))
        before = f"turn-{number}"


@asynccontextmanager
async def at_long_conversation(folder: Path, browsing: Browsing, turns: int = TURNS) -> AsyncGenerator[Person]:
    """Bring a person to a page with a long conversation, which is not open."""
    async with page_stand(folder / "chat.db") as stand, person_at(stand.url, browsing) as person:
        await person.asked("Something rich", "claude")
        await person.button("New conversation").click()
        await expect(person.answer("claude")).to_have_count(0)
        await lengthen(stand, turns)
        yield person


async def open_it(person: Person) -> None:
    """Open the conversation, and wait until the page has drawn what it draws of itself."""
    await person.page.locator(".item .open").click()
    await expect(turns_of(person).nth(RECENT - 1)).to_be_attached()


def turns_of(person: Person) -> Locator:
    return person.page.locator("article.turn")


async def test_the_last_turns_are_there_at_once_and_no_task_draws_many(
    tmp_path: Path, browsing: Browsing, chromium: Browser
) -> None:
    async with at_long_conversation(tmp_path, browsing, 300) as person:
        await person.page.evaluate(_WATCH)
        opening, asking = list[float](), list[float]()
        while len(opening) < ATTEMPTS and (min(opening, default=99) >= LONGEST_MS or min(asking) >= LONGEST_MS):
            await person.button("New conversation").click()
            await expect(turns_of(person)).to_have_count(0)
            async with traced(chromium, opening):
                await open_it(person)
            async with traced(chromium, asking):
                await person.asked("One more, please")
        assert min(opening) < LONGEST_MS
        assert min(asking) < LONGEST_MS
        assert await person.page.evaluate("window.most") <= AT_ONCE
        assert await turns_of(person).count() < RECENT + AT_ONCE + ATTEMPTS
        await expect(turns_of(person).last).to_contain_text(
            re.compile(r"One more, please.*after \d{3} messages", re.DOTALL)
        )
        assert abs(await person.page.get_by_role("main").evaluate(_END)) < 2
        assert await person.violations() == []


@pytest.mark.parametrize("anchors", [True, False], ids=["chromium", "like safari"])
async def test_earlier_turns_are_drawn_when_the_reader_comes_near_and_nothing_moves(
    tmp_path: Path, browsing: Browsing, *, anchors: bool
) -> None:
    if not anchors:
        await browsing.context.add_init_script("CSS.supports = () => false")
    async with at_long_conversation(tmp_path, browsing) as person:
        main = person.page.get_by_role("main")
        if not anchors:
            await main.evaluate("main => { main.style.overflowAnchor = 'none'; }")
        await open_it(person)
        first, top = await main.evaluate(
            """main => {
              main.scrollTop = main.clientHeight;
              const turn = main.querySelector("article.turn");
              return [turn.id, turn.getBoundingClientRect().top];
            }"""
        )
        await expect(turns_of(person).first).not_to_have_id(first)
        assert abs(await person.page.locator(f"#{first}").evaluate(_TOP) - top) < 2
        await main.focus()
        await main.press("Home")
        await expect(turns_of(person)).to_have_count(TURNS)
        await expect(turns_of(person).first).to_be_in_viewport()


async def test_a_search_shows_an_early_turn_of_a_long_conversation(tmp_path: Path, browsing: Browsing) -> None:
    async with at_long_conversation(tmp_path, browsing) as person:
        await person.page.get_by_label("Search").fill("Question 9, please")
        await person.page.locator(".hits .open").first.click()
        found = person.page.locator("#turn-turn-9")
        await expect(found).to_be_in_viewport()
        main = person.page.get_by_role("main")
        assert abs(await found.evaluate(_TOP) - await main.evaluate(_TOP)) < 2


async def test_the_search_of_the_browser_and_paper_have_all_turns(tmp_path: Path, browsing: Browsing) -> None:
    async with at_long_conversation(tmp_path, browsing) as person:
        await open_it(person)
        await person.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        await person.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert await turns_of(person).count() == TURNS
        await person.button("New conversation").click()
        await open_it(person)
        assert await turns_of(person).count() < TURNS
        await person.page.keyboard.press("Control+f")
        await expect(turns_of(person)).to_have_count(TURNS)


async def test_a_turn_that_has_not_changed_is_not_drawn_again_when_the_path_is_loaded(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        merged = await person.page.evaluate(
            """async () => {
              const { mergePath } = await import(new URL("assets/store.js", document.baseURI));
              const turn = (question) => ({ id: "a", question, parts: [{ type: "text" }], status: "complete" });
              const known = turn("Why?");
              const isKnown = (told) => mergePath([told], [], { a: known }, []).turns.a === known;
              return ["Why?", "How?"].map((question) => isKnown(turn(question)));
            }"""
        )
        assert merged == [True, False]
