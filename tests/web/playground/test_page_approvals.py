"""Calls of tools that wait for a person at the page: allowed, denied, and decided once, whoever decides."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from dhenara_async import AIModelCallConfig, ConversationNode, Pending, ToolPolicy
from dhenara_async.messages.messages import ToolCallPart, ToolResultPart
from dhenara_async.stores import SQLStore
from dhenara_async.testing import Answer, ScriptedToolCall
from tests.web.playground.visits import Json, Visit, visiting

FRAMEWORKS = pytest.mark.parametrize("framework", ["fastapi", "aiohttp"])
CITIES = ("Bergen", "Oslo")


def calling(*cities: str) -> Answer:
    calls = (ScriptedToolCall(f"c-{city}", "weather", f'{{"city": "{city}"}}') for city in cities)
    return Answer(text="I look.", tool_calls=tuple(calls))


class Weather:
    """A tool that waits for a person, and counts its runs."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.held: asyncio.Event | None = None
        self.options: dict[str, Any] = {
            "config": AIModelCallConfig(tools=[self.weather]),
            "run_tools": ToolPolicy(approve=self.approve),
        }

    async def weather(self, city: str) -> str:
        """Tell the weather of a city."""
        if self.held is not None:
            await self.held.wait()
        self.runs.append(city)
        return f"It rains in {city}."

    def approve(self, call: ToolCallPart) -> type[Pending]:
        return Pending


async def decide(page: Visit, turn: Json, decisions: object, **more: object) -> tuple[int, Any]:
    body = {"kind": "resume", "nodeId": turn["id"], "decisions": decisions, **more}
    status, reply = await page.send("POST", f"api/conversations/{page.chat}/turns", body)
    return status, orjson.loads(reply)["turns"][0] if status == 202 else reply.decode()


async def ended(page: Visit, begun: Json) -> Json:
    return next(frame["end"] for frame in await page.frames(begun["turnId"]) if "end" in frame)


@FRAMEWORKS
async def test_a_call_waits_after_a_restart_is_allowed_once_and_the_loop_goes_on(
    framework: str, tmp_path: Path
) -> None:
    tool = Weather()
    async with visiting([calling("Bergen")], framework, tmp_path / "page.db", **tool.options) as at:
        [turn] = await at.page.ask("How is the weather?", "safe")
        [call] = turn["waiting"]["calls"]
        assert (turn["waiting"]["nodeId"], call["key"], call["name"]) == (turn["id"], "c-Bergen", "weather")
        assert orjson.loads(call["arguments"]) == {"city": "Bergen"}
    async with visiting([Answer(text="Rain.")], framework, tmp_path / "page.db", **tool.options) as at:
        page = at.page
        [shown] = (await page.in_chat("/path"))["turns"]
        assert shown["waiting"] == turn["waiting"]
        wrong: tuple[object, ...] = ({"other": True}, {"c-Bergen": 1}, "c-Bergen")
        for decisions in wrong:
            assert (await decide(page, turn, decisions))[0] == 400
        assert (await decide(at.other, turn, {"c-Bergen": True}))[0] == 404
        status, begun = await decide(page, turn, {"c-Bergen": True})
        assert (status, begun["model"], begun["parentId"]) == (202, "safe", turn["id"])
        end = await ended(page, begun)
        assert (end["parts"][-1]["text"], end["modelId"], end["loopId"]) == ("Rain.", "safe", turn["id"])
        assert [result["text"] for result in end["toolResults"]] == ["It rains in Bergen."]
        status, words = await decide(page, turn, {"c-Bergen": False})
        assert (status, words) == (409, "These calls were decided already, in another window or by another person.")
        path = (await page.in_chat("/path"))["turns"]
        assert [each["waiting"] for each in path] == [None, None]
    assert tool.runs == ["Bergen"]


async def test_a_denied_call_is_not_run_and_the_model_is_told_why() -> None:
    tool = Weather()
    async with visiting([calling("Bergen"), Answer(text="Then not.")], **tool.options) as at:
        [turn] = await at.page.ask("How is the weather?")
        _, begun = await decide(at.page, turn, {"c-Bergen": "  It costs too much. "})
        end = await ended(at.page, begun)
        assert [result["denied"] for result in end["toolResults"]] == [True]
        assert b"did not allow this call: It costs too much." in at.provider.requests[-1].body
    assert tool.runs == []


async def test_of_two_people_who_decide_at_once_one_is_told_that_it_was_decided(tmp_path: Path) -> None:
    tool = Weather()
    script, store = [calling("Bergen"), Answer(text="Done.")], tmp_path / "page.db"  # whose reads take turns
    async with visiting(script, store=store, **tool.options) as at:
        [turn] = await at.page.ask("How is the weather?")
        both = await asyncio.gather(*(decide(at.page, turn, {"c-Bergen": choice}) for choice in (True, False)))
        assert sorted(status for status, _ in both) == [202, 409]
        [begun] = [reply for status, reply in both if status == 202]
        await ended(at.page, begun)
        assert len((await at.page.in_chat())["nodes"]) == 2
        assert len(at.provider.requests) == 2


async def test_calls_that_are_not_decided_about_go_on_waiting_and_results_stay() -> None:
    tool = Weather()
    async with visiting([calling(*CITIES), Answer(text="Rain in both.")], **tool.options) as at:
        page = at.page
        [turn] = await page.ask("How is the weather?")
        _, begun = await decide(page, turn, {"c-Oslo": True})
        end = await ended(page, begun)
        assert (end["id"], [call["key"] for call in end["waiting"]["calls"]]) == (turn["id"], ["c-Bergen"])
        assert (await decide(page, turn, {"c-Oslo": True}))[0] == 409
        _, begun = await decide(page, turn, {"c-Bergen": True})
        end = await ended(page, begun)
        assert [result["text"] for result in end["toolResults"]] == [f"It rains in {city}." for city in CITIES]
    assert tool.runs == ["Oslo", "Bergen"]


async def test_a_question_instead_of_a_decision_leaves_nothing_to_decide() -> None:
    tool = Weather()
    async with visiting([calling("Bergen"), Answer(text="Fine.")], **tool.options) as at:
        [turn] = await at.page.ask("How is the weather?")
        await at.page.ask("Never mind.", parent=turn["id"])
        assert [each["waiting"] for each in (await at.page.in_chat("/path"))["turns"]] == [None, None]


async def test_a_call_that_was_stopped_while_it_ran_waits_again() -> None:
    tool = Weather()
    tool.held = asyncio.Event()
    async with visiting([calling("Bergen"), Answer(text="Rain.")], **tool.options) as at:
        page = at.page
        [turn] = await page.ask("How is the weather?")
        _, begun = await decide(page, turn, {"c-Bergen": True})
        [going_on] = (await page.in_chat())["running"]
        assert (going_on["turnId"], going_on["parentId"], going_on["resumes"]) == (begun["turnId"], turn["id"], True)
        assert [each["waiting"] for each in (await page.in_chat("/path"))["turns"]] == [None]
        await page.send("POST", f"api/turns/{begun['turnId']}/cancel", {})
        end = await ended(page, begun)
        assert (end["id"], len(end["waiting"]["calls"])) == (turn["id"], 1)
        tool.held.set()
        _, begun = await decide(page, turn, {"c-Bergen": True})
        assert (await ended(page, begun))["parts"][-1]["text"] == "Rain."


async def test_a_loop_goes_on_whose_process_ended_while_its_tools_ran(tmp_path: Path) -> None:
    tool = Weather()
    script = [calling(*CITIES), Answer(text="Rain in both."), Answer(text="And again.")]
    async with visiting(script, store=tmp_path / "page.db", **tool.options) as at:
        page, store = at.page, at.manager.scoped("ann").store
        [turn] = await page.ask("How is the weather?")
        assert isinstance(store, SQLStore)
        [call, other] = (await store.load(page.chat)).nodes[0].answer.tools()
        await store.keep_tool_result(page.chat, turn["id"], 0, ToolResultPart.of(call, "It snows."))
        cut = ConversationNode(parent_id=turn["id"], loop_id=turn["id"], status="interrupted", error="it ended")
        await store.append(page.chat, cut)
        last = (await page.in_chat("/path"))["turns"][-1]
        assert (last["id"], last["waiting"]["nodeId"]) == (cut.id, turn["id"])
        assert [each["key"] for each in last["waiting"]["calls"]] == ["c-Oslo"]
        await store.keep_tool_result(page.chat, turn["id"], 1, ToolResultPart.of(other, "It rains."))
        last = (await page.in_chat("/path"))["turns"][-1]
        assert last["waiting"] == {"nodeId": turn["id"], "calls": []}
        _, begun = await decide(page, turn, {})
        end = await ended(page, begun)
        assert [result["text"] for result in end["toolResults"]] == ["It snows.", "It rains."]
        assert set(end["siblings"]) == {cut.id, end["id"]}
    assert tool.runs == []
