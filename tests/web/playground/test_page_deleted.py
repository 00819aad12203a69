"""Responses that their client has deleted at ``/v1/responses``, on the page: their places, without their words."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from dhenara_async import Conversation
from dhenara_async.testing import Answer
from dhenara_async.web.openai.responses.ids import TurnPlace, response_id
from dhenara_async.web.openai.responses.kept_responses import KeptResponses
from tests.web.playground.visits import Json, Visited, visiting
from tests.web.test_chat_routes import PNG

STORES = pytest.mark.parametrize("kept", [True, False], ids=["sqlite", "memory"])
FILE = {"name": "secret.png", "mediaType": "image/png", "data": base64.b64encode(PNG).decode()}


@asynccontextmanager
async def two_turns_of_which_the_first_is_deleted(store: Path | None) -> AsyncGenerator[tuple[Visited, Json, Json]]:
    async with visiting([Answer(text="A secret."), Answer(text="More."), Answer(text="Most.")], store=store) as at:
        [first] = await at.page.ask("Tell me a secret.", files=[FILE])
        [second] = await at.page.ask("And more?", parent=first["id"])
        await at.page.send("PATCH", f"api/conversations/{at.page.chat}", {"title": "Talk"})
        assert (await at.page.send("GET", first["files"][0]["url"]))[0] == 200
        await KeptResponses(at.manager.scoped("ann")).delete(response_id(TurnPlace(at.page.chat, first["id"])))
        yield at, first, second


@STORES
async def test_the_page_shows_the_place_of_a_deleted_response(tmp_path: Path, *, kept: bool) -> None:
    async with two_turns_of_which_the_first_is_deleted(tmp_path / "page.db" if kept else None) as (at, first, second):
        page, store = at.page, at.manager.scoped("ann").store
        assert len((await store.load(page.chat)).nodes) == 3  # the turns, and the mark of the first one
        assert [(node["id"], node["status"]) for node in (await page.in_chat())["nodes"]] == [
            (first["id"], "deleted"),
            (second["id"], "complete"),
        ]
        path = (await page.in_chat("/path"))["turns"]
        assert [(turn["status"], turn["question"], turn["siblings"]) for turn in path] == [
            ("deleted", "", [first["id"]]),
            ("complete", "And more?", [second["id"]]),
        ]
        assert b"secret" not in orjson.dumps(path)


@STORES
async def test_the_search_does_not_find_a_deleted_response(tmp_path: Path, *, kept: bool) -> None:
    async with two_turns_of_which_the_first_is_deleted(tmp_path / "page.db" if kept else None) as (at, _, second):
        assert await at.page.get("api/conversations/search?q=secret") == {"items": []}
        [hit] = (await at.page.get("api/conversations/search?q=more"))["items"]
        assert hit["nodeId"] == second["id"]


async def test_an_export_has_the_place_of_a_deleted_response_alone() -> None:
    async with two_turns_of_which_the_first_is_deleted(None) as (at, first, second):
        await at.page.ask("And most?", parent=second["id"])
        await at.page.send("POST", f"api/conversations/{at.page.chat}/checkout", {"nodeId": second["id"]})
        path = f"api/conversations/{at.page.chat}/export?format="
        text = (await at.page.send("GET", f"{path}json"))[1]
        exported = Conversation.import_json(text)
        assert [(node.id, node.parent_id, node.status) for node in exported.nodes[:2]] == [
            (first["id"], None, "failed"),
            (second["id"], first["id"], "complete"),
        ]
        assert exported.nodes[0].error == "its response was deleted"
        assert exported.head is not None
        assert exported.head.id == second["id"]
        markdown = (await at.page.send("GET", f"{path}markdown"))[1]
        assert b"its response was deleted" in markdown
        assert b"More." in markdown
        for told in (text, markdown):
            assert b"secret" not in told


async def test_files_events_and_requests_of_a_deleted_response_are_gone() -> None:
    async with two_turns_of_which_the_first_is_deleted(None) as (at, first, second):
        page = at.page
        assert (await page.send("GET", first["files"][0]["url"]))[0] == 404
        for turn in (first, second):  # the second one was sent with the words of the first
            status, words = await page.send("GET", f"api/conversations/{page.chat}/nodes/{turn['id']}/request")
            assert (status, words) == (404, b"The request had words that were deleted since.")
        frames = await page.frames(first["id"], second["id"])
        assert [frame["turn"] for frame in frames if "error" in frame] == [first["id"]]
        assert b"secret" not in orjson.dumps(frames)
        assert [frame["end"]["id"] for frame in frames if "end" in frame] == [second["id"]]


async def test_the_question_of_a_deleted_response_is_not_asked_again() -> None:
    async with two_turns_of_which_the_first_is_deleted(None) as (at, first, _):
        path = f"api/conversations/{at.page.chat}/turns"
        for more in ({"kind": "regenerate"}, {"kind": "edit", "question": "Other words"}):
            body = {**more, "nodeId": first["id"], "asks": [{"turnId": "again", "model": "gpt"}]}
            assert (await at.page.send("POST", path, body))[0] == 404
        assert len(at.provider.requests) == 2
