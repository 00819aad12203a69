"""Decisions about tool calls at the page, in a real browser: by the keyboard, after a reload, in columns."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from dhenara_async import Pending, ToolPolicy
from dhenara_async.messages.messages import ToolCallPart
from tests.browser import Browsing
from tests.web.playground.page_app import held
from tests.web.playground.person import at_page

pytestmark = pytest.mark.asyncio(loop_scope="session")


def wait(call: ToolCallPart) -> type[Pending]:
    return Pending


ASKING = ToolPolicy(approve=wait)


async def test_a_call_is_allowed_by_the_keyboard_after_a_reload(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing, tools=ASKING) as person:
        page = person.page
        await person.asked("How is the weather?", "claude")
        card = page.get_by_role("group", name="Decision about weather")
        await expect(card).to_contain_text('"city": "Bergen"')
        await expect(page.get_by_role("status")).to_have_text("claude waits for your decision about weather.")
        await person.photograph("decision")
        assert await person.violations() == []
        await page.reload()
        await expect(person.answer("claude")).to_contain_text("waits for you")
        await card.get_by_role("button", name="Approve").press("Enter")
        await expect(person.question).to_be_focused()
        await expect(page.get_by_text("after 3 messages")).to_have_count(1)
        await expect(page.locator("details.fold").filter(has_text="Tool result: weather")).to_have_count(1)
        await expect(card).to_have_count(0)
        await person.asked("Thanks", "gpt")
        await expect(person.answer("gpt")).to_contain_text("after 5 messages")
        await expect(page.get_by_text("I look.")).to_have_count(1)


async def test_of_two_calls_one_is_denied_with_a_reason_and_the_other_window_agrees(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing, tools=ASKING) as person:
        page = person.page
        await person.asked("The weather in two places", "claude")
        other = await person.another_window()
        first, second = (page.get_by_role("group", name=f"Decision about weather, call {place}") for place in (1, 2))
        await first.get_by_role("button", name="Approve").click()
        await expect(page.locator(".decisions-head")).to_have_text("Waits for your decision: 1 call left")
        reason = second.get_by_role("textbox", name="Reason to deny")
        await reason.fill("Nobody goes to Oslo")
        assert await person.violations() == []
        await reason.press("Enter")
        for window in (person, other):
            await window.page.bring_to_front()
            await expect(window.page.get_by_text("after 3 messages")).to_have_count(1)
            await expect(window.page.locator("details.fold").filter(has_text="Denied: weather")).to_have_count(1)
            await expect(window.page.locator(".decisions")).to_have_count(0)


async def test_a_decision_that_comes_too_late_is_told(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing, tools=ASKING) as person:
        await person.asked("How is the weather?", "claude")
        other = await person.another_window()
        late = other.button("Deny")
        await expect(late).to_be_visible()
        await other.page.route("**/version", lambda route: route.abort())  # no news reach it
        await person.button("Approve").click()
        await expect(person.page.get_by_text("after 3 messages")).to_have_count(1)
        await late.click()
        await expect(other.page.locator(".notice.problem")).to_contain_text("These calls were decided already")
        await expect(other.page.get_by_text("after 3 messages")).to_have_count(1)
        await expect(late).to_have_count(0)
        browsing.console.clear()  # Chromium tells of the refusal, and of the requests that were kept back


async def test_each_column_has_decisions_of_its_own(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing, tools=ASKING) as person:
        await person.asked("How is the weather?", "claude", "gpt")
        claude, gpt = person.answer("claude"), person.answer("gpt")
        await claude.get_by_role("button", name="Approve").click()
        await expect(claude).to_contain_text("after 3 messages")
        await expect(gpt.get_by_role("button", name="Approve")).to_be_visible()
        await person.photograph("decisions")
        await person.page.reload()
        await expect(claude).to_contain_text(re.compile("Tool result: weather.*after 3 messages", re.DOTALL))
        await gpt.get_by_role("button", name="Deny").click()
        await expect(gpt).to_contain_text(re.compile("Denied: weather.*after 3 messages", re.DOTALL))
        await expect(claude).to_contain_text("after 3 messages")
        assert await person.violations() == []


async def test_an_answer_that_goes_on_in_a_column_is_stopped_there(tmp_path: Path, browsing: Browsing) -> None:
    script = held(asyncio.Event(), 5, "after 3 messages")
    async with at_page(tmp_path, browsing, tools=ASKING, script=script) as person:
        await person.asked("How is the weather?", "claude", "gpt")
        claude, gpt = person.answer("claude"), person.answer("gpt")
        await claude.get_by_role("button", name="Approve").click()
        await expect(claude).to_contain_text("Tool result: weather")
        await claude.get_by_role("button", name="Stop").click()
        await expect(claude).to_contain_text("stopped early")
        await expect(gpt.get_by_role("button", name="Approve")).to_be_visible()
