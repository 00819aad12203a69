"""Conversations on the page, in a real browser: hops, comparisons, branches, stops and reloads."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from tests.browser import Browsing
from tests.web.playground.cut_connections import proxied
from tests.web.playground.page_app import held, page_stand
from tests.web.playground.person import Person, at_page

pytestmark = pytest.mark.asyncio(loop_scope="session")
ABOVE_COLUMNS = 24
CONVERSATION = re.compile(r"#c=[0-9a-f]{32}(&at=[0-9a-f]{32})?$")


async def test_three_models_answer_one_conversation_and_each_hop_is_seen(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        await person.asked("Tell me something rich", "claude")
        await expect(person.answer("claude").get_by_role("heading", name="A small tour")).to_be_visible()
        await person.choose("gpt")
        await person.question.fill("Go on, please")
        forecast = page.get_by_role("list", name="Before sending")
        await expect(forecast).to_contain_text("gpt would get")
        await expect(forecast).to_contain_text("1 omitted")
        await expect(forecast).to_contain_text("tokens in")
        await forecast.locator("summary").click()
        await expect(forecast).to_contain_text("reasoning dropped")
        await person.question.press("Enter")
        await person.answered("Go on, please")
        await person.asked("And once more", "gemini")
        seams = page.locator("details.seam")
        await expect(seams).to_have_count(2)
        await expect(seams.first).to_contain_text("claude → gpt")
        await expect(seams.last).to_contain_text("gpt → gemini")
        await seams.first.locator("summary").click()
        await expect(seams.first).to_contain_text("reasoning of claude-sonnet-5-5: reasoning dropped")
        await expect(person.answer("gemini")).to_contain_text("after 5 messages")
        await expect(person.answer("gemini").locator(".numbers")).to_contain_text(
            re.compile(r"first word .+ tokens.*\$")
        )
        await person.photograph("hop")
        assert await person.violations() == []


async def test_three_models_answer_side_by_side_and_a_failure_leaves_the_others_alone(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        await person.asked("Something rich, please", "claude", "gpt", "broken")
        for model in ("claude", "gpt"):
            await expect(person.answer(model)).to_contain_text("That is all.")
            await expect(person.answer(model).locator(".numbers")).to_contain_text("first word")
        await expect(person.answer("broken")).to_contain_text("Check the key of this provider")
        await expect(person.button("Go on with this one")).to_have_count(2)
        await person.photograph("compare")
        assert await person.violations() == []
        await page.reload()
        await expect(person.button("Go on with this one")).to_have_count(2)
        await person.answer("gpt").get_by_role("button", name="Go on with this one").click()
        await expect(page.get_by_role("group", name="Answers at this fork")).to_contain_text("/3")
        await expect(person.answer("claude")).to_have_count(0)
        await person.asked("And now?", "gemini")
        await expect(person.answer("gemini")).to_contain_text("after 3 messages")
        await expect(page.locator("details.seam")).to_contain_text("gpt → gemini")


async def test_a_question_right_after_a_choice_follows_the_chosen_answer(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("First words", "claude", "gpt")
        asked = asyncio.Event()

        async def hold(route: Route) -> None:
            await asked.wait()
            await route.continue_()

        await person.page.route("**/checkout", hold)
        await person.answer("gpt").get_by_role("button", name="Go on with this one").click()
        await person.ask("And now?", "gemini")
        await expect(person.page.locator(".question-text").last).to_have_text("You asked: And now?")
        asked.set()
        await person.answered("And now?")
        await expect(person.answer("gemini")).to_contain_text("after 3 messages")
        await expect(person.page.locator("details.seam")).to_contain_text("gpt → gemini")


async def test_columns_are_shown_from_their_tops_and_a_long_answer_from_its_end(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        main = person.page.get_by_role("main")
        await person.asked("Something rich", "claude")
        await expect(person.button("Run again")).to_be_in_viewport()
        await person.asked("Something rich and more", "claude", "gpt")
        top = "main => main.querySelector('.compare').getBoundingClientRect().top - main.getBoundingClientRect().top"
        assert abs(await main.evaluate(top) - ABOVE_COLUMNS) < 3


async def test_one_column_is_stopped_while_the_other_goes_on(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.ask("Please wait", "claude", "gpt")
        await expect(person.answer("claude")).to_have_attribute("aria-label", "Answer of claude")
        for model in ("claude", "gpt"):
            await expect(person.answer(model)).to_contain_text("Words before")
        await person.answer("claude").get_by_role("button", name="Stop").click()
        await expect(person.answer("claude")).to_contain_text("stopped early")
        await expect(person.answer("claude")).to_contain_text("It was stopped.")
        await expect(person.answer("claude").locator(".problem")).to_have_count(0)
        await expect(person.answer("gpt")).to_contain_text("answering")
        await expect(person.answer("gpt").locator(".answer")).to_have_attribute("aria-busy", "true")
        await person.question.press("Escape")
        await expect(person.answer("gpt")).to_contain_text("stopped early")
        await expect(person.page.get_by_role("status")).to_contain_text("was stopped")


async def test_a_reload_in_mid_stream_goes_on_where_the_answer_was(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("First words", "gpt")
        await person.ask("Please wait", "claude")
        await expect(person.answer("claude")).to_contain_text("Words before")
        await expect(person.page).to_have_url(CONVERSATION)
        await person.button("Branches").click()
        await person.page.get_by_role("dialog").get_by_role("button", name="Please wait").click()
        await expect(person.page.locator(".notice")).to_have_count(0)
        await person.page.reload()
        await expect(person.answer("claude")).to_contain_text("Words before")
        await expect(person.button("Stop", exact=True).first).to_be_visible()
        await person.question.press("Escape")
        await expect(person.answer("claude")).to_contain_text("stopped early")


async def test_a_question_in_other_words_is_a_branch_and_every_branch_stays_reachable(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        page = person.page
        await person.asked("First words", "claude")
        await person.asked("Second words")
        await person.button("Edit").last.click()
        await page.get_by_label("Question in other words").press("Escape")
        await expect(person.button("Edit").last).to_be_focused()
        await person.button("Edit").last.press("Enter")
        await page.get_by_label("Question in other words").fill("Other words")
        await page.get_by_label("Question in other words").press("Enter")
        await expect(person.question).to_be_focused()
        fork = page.get_by_role("group", name="Answers at this fork")
        await expect(fork).to_contain_text("2/2")
        await expect(page.get_by_text("Second words")).to_have_count(0)
        await fork.get_by_role("button", name="Previous answer").click()
        await expect(fork).to_contain_text("1/2")
        await expect(page.locator(".question-text").last).to_contain_text("Second words")
        await person.button("Run again").last.click()
        await expect(fork).to_contain_text("3/3")
        await person.question.press("Alt+ArrowUp")
        await expect(fork).to_contain_text("2/3")
        await expect(page.locator(".question-text").last).to_contain_text("Other words")
        await person.question.press("Alt+ArrowDown")
        await expect(fork).to_contain_text("3/3")
        await person.button("Branches").click()
        tree = page.get_by_role("dialog", name="All branches")
        await expect(tree.locator(".node")).to_have_text(
            [re.compile(words) for words in ("First", "Second", "Other", "Second")]
        )
        await expect(tree.locator(".node[aria-current]")).to_have_count(2)
        await person.photograph("tree")
        assert await person.violations() == []
        await tree.get_by_role("button", name="Other words").click()
        await expect(page.locator(".question-text").last).to_contain_text("Other words")
        await fork.get_by_role("button", name="Side by side").click()
        await expect(page.locator(".column")).to_have_count(3)


async def test_a_late_reply_to_a_question_takes_the_focus_from_nothing(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        sent, may_come = asyncio.Event(), asyncio.Event()

        async def late(route: Route) -> None:
            reply = await route.fetch()
            sent.set()
            await may_come.wait()
            await route.fulfill(response=reply)

        await person.page.route("**/turns", late)
        await person.ask("First words", "claude")
        await sent.wait()
        await expect(person.question).to_be_focused()
        search = person.page.get_by_label("Search")
        await search.focus()
        async with person.page.expect_response("**/turns"):
            may_come.set()
        await expect(person.answer("claude")).to_contain_text("after 1 messages")
        await expect(search).to_be_focused()


async def test_two_windows_on_one_conversation_agree(tmp_path: Path, browsing: Browsing) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("First words", "claude")
        other = await person.another_window()
        await expect(other.answer("claude")).to_contain_text("after 1 messages")
        await other.asked("From the other window", "gpt")
        await person.page.bring_to_front()
        await expect(person.answer("gpt")).to_contain_text("after 3 messages")
        await person.button("Run again").last.click()
        await expect(person.page.get_by_role("group", name="Answers at this fork")).to_contain_text("2/2")
        await other.page.bring_to_front()
        await expect(other.page.get_by_role("group", name="Answers at this fork")).to_contain_text("2/2")
        for window in (person, other):
            await window.answered("From the other window")
        await other.page.get_by_label("More for First words").click()
        await other.button("Delete").click()
        await other.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(other.page.locator(".items .item")).to_have_count(0)
        await person.page.bring_to_front()
        await expect(person.page.locator(".notice")).to_contain_text("This conversation is gone.")
        # a window that loads what changed while the conversation is deleted is told 404, and Chromium logs that
        browsing.console[:] = [line for line in browsing.console if "status of 404" not in line]


async def test_a_broken_connection_is_told_and_the_answer_goes_on_where_it_was(
    tmp_path: Path, browsing: Browsing
) -> None:
    gate = asyncio.Event()
    async with page_stand(tmp_path / "chat.db", script=held(gate, 30)) as stand, proxied(stand.url) as proxy:
        person = await Person.at(proxy.url, browsing)
        await person.ask("Three seconds of words", "claude")
        await expect(person.answer("claude")).to_contain_text("A small tour")
        await proxy.break_connections()
        await expect(person.page.locator(".notice")).to_contain_text("The connection is lost")
        proxy.mend()
        gate.set()
        await person.answered("Three seconds")
        await expect(person.page.locator(".notice")).to_have_count(0)
        await expect(person.answer("claude").get_by_text("That is all.")).to_have_count(2)
        assert all("net::ERR_" in line for line in browsing.console)  # Chromium tells of each failed request
        assert browsing.errors == []
        await person.page.close()


async def test_a_failed_turn_stays_in_sight_with_advice_and_is_run_again_by_another_model(
    tmp_path: Path, browsing: Browsing
) -> None:
    async with at_page(tmp_path, browsing) as person:
        await person.asked("First words", "claude")
        await person.asked("Second words", "broken")
        await expect(person.answer("broken")).to_contain_text("Check the key of this provider")
        await person.page.reload()
        await expect(person.answer("broken")).to_contain_text("Check the key of this provider")
        again = person.answer("broken").get_by_label("Run again with another model")
        await again.select_option("gpt")
        await expect(person.answer("gpt")).to_contain_text("after 3 messages")
        await expect(person.page.get_by_role("group", name="Answers at this fork")).to_contain_text("2/2")
