"""The page's turns: asked, compared, asked again, edited, read from any place, and the tree that they leave."""

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from dhenara_async import AIModelCallConfig, Conversation, ConversationManager, ConversationNode, ToolPolicy
from dhenara_async.messages.messages import FilePart, ToolCallPart, ToolResultPart
from dhenara_async.stores import ConversationOutline, MemoryStore, SQLStore
from dhenara_async.testing import Answer, Fault, ScriptedError, ScriptedToolCall
from dhenara_async.web.chat.http import WebReply, WebRequest
from dhenara_async.web.playground.app import PlaygroundApp
from dhenara_async.web.playground.options import PlaygroundOptions
from tests.web.playground.visits import visiting
from tests.web.test_chat_routes import PNG

FRAMEWORKS = pytest.mark.parametrize("framework", ["fastapi", "aiohttp"])


@FRAMEWORKS
async def test_three_turns_by_different_models_and_the_report_of_each_hop(framework: str, tmp_path: Path) -> None:
    script = [Answer(text="A fox.", reasoning="Hm."), Answer(text="Red."), Answer(text="Yes.")]
    async with visiting(script, framework, tmp_path / "page.db") as at:
        page = at.page
        [first] = await page.ask("What is it?", "claude")
        assert (first["status"], first["parts"][-1]["text"], first["siblings"]) == ("complete", "A fox.", [first["id"]])
        assert first["report"] is None
        [second] = await page.ask("Which colour?", "gpt", parent=first["id"])
        assert second["report"]["counts"]["omitted"] == 1
        assert second["report"]["lossless"] is True
        [entry] = second["report"]["entries"]
        assert (entry["code"], entry["reason"], entry["node"]) == ("reasoning_dropped", "foreign_origin", first["id"])
        await page.ask("Sure?", "safe", parent=second["id"])
        path = (await page.in_chat("/path"))["turns"]
        assert [turn["question"] for turn in path] == ["What is it?", "Which colour?", "Sure?"]
        assert [turn["modelId"] for turn in path] == ["claude", "gpt", "safe"]
        assert path[2]["plan"][0]["kind"] == "failover"
        assert path[0]["usage"]["known"] and path[0]["durationMs"] >= path[0]["firstWordMs"] >= 0
        tree = await page.in_chat()
        assert (tree["title"], tree["headId"], tree["running"]) == ("What is it?", path[2]["id"], [])
        assert [node["parentId"] for node in tree["nodes"]] == [None, path[0]["id"], path[1]["id"]]
        assert (await page.in_chat("/version"))["version"] == tree["version"]
        await page.send("PATCH", f"api/conversations/{page.chat}", {"title": "Foxes"})  # in another window
        assert (await page.in_chat("/version"))["version"] != tree["version"]


async def test_a_path_of_a_large_conversation_is_read_without_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with visiting(store=tmp_path / "page.db") as at:
        store, page = at.manager.scoped("ann").store, at.page
        await store.create(page.chat, title="Large")
        root = ConversationNode(user_query="Root")
        twigs = [ConversationNode(parent_id=root.id, user_query=f"Twig {number}") for number in range(150)]
        leaf = ConversationNode(parent_id=twigs[3].id, user_query="Leaf")
        for node in (root, *twigs, leaf, *(ConversationNode(parent_id=leaf.id) for _ in range(2))):
            await store.append(page.chat, node)

        async def refuse(*_: object) -> Conversation:
            raise AssertionError("the whole conversation was read")

        monkeypatch.setattr(type(store), "load", refuse)
        path = (await page.in_chat(f"/path?node={leaf.id}"))["turns"]
        assert [turn["question"] for turn in path] == ["Root", "Twig 3", "Leaf"]
        assert path[1]["siblings"] == [twig.id for twig in twigs]
        assert path[0]["siblings"] == [root.id] and path[2]["siblings"] == [leaf.id]
        assert len((await page.in_chat("/path"))["turns"]) == 4
        assert (await page.send("GET", f"api/conversations/{page.chat}/path?node=elsewhere"))[0] == 404


@pytest.mark.parametrize("kept", [True, False], ids=["sqlite", "memory"])
async def test_the_tree_is_read_without_answers_and_then_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    async with visiting(store=tmp_path / "page.db" if kept else None) as at:
        store, page = at.manager.scoped("ann").store, at.page
        await store.create(page.chat, title="Large")
        root = ConversationNode(user_query="Root " * 100)
        twigs = [ConversationNode(parent_id=root.id, user_query=f"Twig {number}") for number in range(600)]
        for node in (root, *twigs):
            await store.append(page.chat, node)
        read: list[int] = []
        assert isinstance(store, MemoryStore | SQLStore)
        outline = type(store).outline

        async def counted(self: Any, conversation_id: str, *, after: str | None = None) -> ConversationOutline:
            told = await outline(self, conversation_id, after=after)
            read.append(len(told.nodes))
            return told

        async def refuse(*_: object) -> Conversation:
            raise AssertionError("the whole conversation was read")

        monkeypatch.setattr(type(store), "load", refuse)
        monkeypatch.setattr(type(store), "outline", counted)
        tree = await page.in_chat()
        assert [node["id"] for node in tree["nodes"]] == [root.id, *(twig.id for twig in twigs)]
        assert (tree["headId"], tree["nodes"][0]["question"][-7:]) == (twigs[-1].id, "t Root…")
        await store.append(page.chat, ConversationNode(parent_id=twigs[0].id, user_query="New", status="failed"))
        tree = await page.in_chat()
        assert (tree["nodes"][-1]["question"], tree["nodes"][-1]["status"]) == ("New", "failed")
        assert read == [601, 1]
        await store.delete(page.chat)
        await store.create(page.chat)
        await store.append(page.chat, root)
        assert [node["id"] for node in (await page.in_chat())["nodes"]] == [root.id]


async def test_of_three_models_one_fails_and_the_others_answer() -> None:
    script = [Answer(text="One."), ScriptedError(401, "bad key"), Answer(text="Three.")]
    async with visiting(script, details=True) as at:
        turns = await at.page.ask("Which?", "gpt", "claude", "gpt")
        by_status = {turn["status"] for turn in turns}
        assert by_status == {"complete", "failed"}
        [failed] = [turn for turn in turns if turn["status"] == "failed"]
        assert failed["error"]["code"] == "AuthenticationError"
        assert "key" in failed["error"]["advice"]
        assert "detail" in failed["error"]
        assert failed["attempts"][0]["outcome"] == "failed"
        assert all(set(turn["siblings"]) == {each["id"] for each in turns} for turn in turns)
        good = next(turn for turn in turns if turn["status"] == "complete")
        status, _ = await at.page.send("POST", f"api/conversations/{at.page.chat}/checkout", {"nodeId": good["id"]})
        assert status == 204
        assert (await at.page.in_chat())["headId"] == good["id"]


async def test_turns_begin_beside_each_other_even_if_the_first_has_ended_before_the_last_begins() -> None:
    async with visiting() as at:
        turns = await at.page.ask("Which?", *["claude", "gpt"] * 6)
        assert {turn["parentId"] for turn in turns} == {None}
        parent = turns[3]["id"]
        turns = await at.page.ask("And now?", *["claude", "gpt"] * 6, parent=parent)
        assert {turn["parentId"] for turn in turns} == {parent}


async def test_a_model_that_cannot_be_asked_leaves_a_failed_turn() -> None:
    file = {"name": "a.png", "mediaType": "image/png", "data": base64.b64encode(PNG).decode()}
    text_only = {"old": "deepseek:deepseek-chat"}
    async with visiting(more=text_only) as at:  # pyright: ignore[reportArgumentType] - a mapping of names
        begun = await at.page.begin("gpt", "old", kind="ask", question="Which?", files=[file])
        assert ["error" in turn for turn in begun] == [False, True]
        frames = await at.page.frames(*(turn["turnId"] for turn in begun))
        ends = {frame["turn"]: frame["end"]["status"] for frame in frames if "end" in frame}
        assert ends == {begun[0]["turnId"]: "complete", begun[1]["turnId"]: "failed"}


async def test_the_name_that_was_asked_by_survives_a_restart(tmp_path: Path) -> None:
    async with visiting(store=tmp_path / "page.db") as at:
        [first] = await at.page.ask("One?", "safe")
        [again] = await at.page.begin("safe", kind="regenerate", nodeId=first["id"])
        await at.page.frames(again["turnId"])
    async with visiting(store=tmp_path / "page.db") as at:
        assert [node["modelId"] for node in (await at.page.in_chat())["nodes"]] == ["safe", "safe"]


@FRAMEWORKS
async def test_run_again_and_edit_make_branches_and_delete_nothing(framework: str) -> None:
    async with visiting(framework=framework) as at:
        page = at.page
        [first] = await page.ask("One?")
        [second] = await page.ask("Two?", parent=first["id"])
        [again] = await page.begin("claude", kind="regenerate", nodeId=second["id"])
        await page.frames(again["turnId"])
        [edited] = await page.begin("gpt", kind="edit", nodeId=second["id"], question="Three?")
        end = (await page.frames(edited["turnId"]))[-2]["end"]
        assert end["siblings"] == [second["id"], again["turnId"], edited["turnId"]]
        [root] = await page.ask("Zero?")
        assert root["siblings"] == [first["id"], root["id"]]
        old = (await page.in_chat(f"/path?node={second['id']}"))["turns"]
        assert [turn["question"] for turn in old] == ["One?", "Two?"]
        assert len((await page.in_chat())["nodes"]) == 5


@FRAMEWORKS
async def test_a_reload_in_the_middle_goes_on_from_the_cursor_and_stop_stops(framework: str) -> None:
    stalled = Fault(answer=Answer(text="A fox is red."), stall=4)
    async with visiting([stalled], framework) as at:
        page = at.page
        [turn] = await page.begin("gpt", kind="ask", question="What?")
        url = f"{page.url}api/events"
        async with page.session.get(url, params={"turns": turn["turnId"]}) as reply:
            first = await reply.content.readuntil(b"text_delta")
        tree = await page.in_chat()
        [going_on] = tree["running"]
        assert (going_on["turnId"], going_on["modelId"], going_on["question"]) == (turn["turnId"], "gpt", "What?")
        running = (await page.in_chat(f"/path?node={turn['turnId']}"))["turns"]
        assert [each["status"] for each in running] == ["running"]
        async with page.session.get(url, params={"turns": turn["turnId"]}) as reply:
            assert (await reply.content.readuntil(b"text_delta"))[:40] == first[:40]
            assert (await at.other.send("POST", f"api/turns/{turn['turnId']}/cancel"))[0] == 404
            assert (await page.send("POST", f"api/turns/{turn['turnId']}/cancel", {}))[0] == 204
            rest = await reply.read()
        assert b'"status":"interrupted"' in rest
        assert b'"code":"Cancelled"' in rest
        whole = await page.frames(turn["turnId"])
        cursor = whole[0]["cursor"]
        behind = await page.frames(f"{turn['turnId']}:{cursor}", "nobody")
        assert [frame["cursor"] for frame in behind if "event" in frame] == [
            frame["cursor"] for frame in whole[1:] if "event" in frame
        ]
        assert [frame["turn"] for frame in behind if "error" in frame] == ["nobody"]
        assert behind[-1] == {"type": "end"}


async def test_a_dry_run_tells_losses_and_cost_before_anything_is_sent() -> None:
    async with visiting([Answer(text="A fox.", reasoning="Hm.")]) as at:
        page = at.page
        [first] = await page.ask("What?", "claude")
        path = f"api/conversations/{page.chat}/check"
        body = {"model": "gpt", "parentId": first["id"], "question": "Why?"}
        status, reply = await page.send("POST", path, body)
        assert status == 200, reply
        assert b"reasoning_dropped" in reply
        assert b'"inputTokens":' in reply
        assert len(at.provider.requests) == 1
        status, reply = await page.send("POST", "api/conversations/new-one/check", {"model": "gpt", "question": "?"})
        assert status == 200
        assert (await page.send("GET", "api/conversations/new-one"))[0] == 404


async def test_files_come_from_their_own_address() -> None:
    file = {"name": "a.png", "mediaType": "image/png", "data": base64.b64encode(PNG).decode()}
    async with visiting() as at:
        [turn] = await at.page.ask("What is it?", files=[file])
        [told] = turn["files"]
        assert (told["name"], told["mediaType"], told["size"]) == ("a.png", "image/png", len(PNG))
        assert (await at.page.send("GET", told["url"])) == (200, PNG)
        assert (await at.other.send("GET", told["url"]))[0] == 404


async def test_the_request_as_sent_is_shown_without_the_key() -> None:
    file = {"name": "a.png", "mediaType": "image/png", "data": base64.b64encode(PNG + b"x" * 500).decode()}
    async with visiting() as at:
        for model, header in (("gpt", "authorization"), ("claude", "x-api-key")):
            [turn] = await at.page.ask("What is it?", model, files=[file])
            told = await at.page.in_chat(f"/nodes/{turn['id']}/request")
            sent = at.provider.requests[-1]
            assert told["url"].endswith(sent.path)
            assert told["headers"][header] == "***"
            body = told["body"].replace(f"({len(PNG) + 500} bytes of image/png)", file["data"])
            assert orjson.loads(body) == orjson.loads(sent.body)
        path = f"api/conversations/{at.page.chat}/nodes/{turn['id']}/request"
        assert (await at.other.send("GET", path))[0] == 404


@FRAMEWORKS
async def test_a_file_that_could_hold_a_script_is_saved_and_never_shown(framework: str) -> None:
    page = b"<!doctype html><script>alert(1)</script>"
    vector = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    files = [
        {"name": "a/ü'.html", "mediaType": "text/html", "data": base64.b64encode(page).decode()},
        {"name": "b.svg", "mediaType": "image/svg+xml", "data": base64.b64encode(vector).decode()},
    ]
    async with visiting(framework=framework) as at:
        [turn] = await at.page.begin("gpt", kind="ask", question="What?", files=files)
        await at.page.frames(turn["turnId"])
        [told] = (await at.page.in_chat(f"/path?node={turn['turnId']}"))["turns"]
        assert len(told["files"]) == 2
        for file in told["files"]:
            async with at.page.session.get(f"{at.page.url}{file['url']}") as reply:
                assert (reply.status, reply.content_type) == (200, "application/octet-stream")
                assert reply.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
                assert "/" not in reply.headers["content-disposition"]
                assert reply.headers["content-security-policy"] == "sandbox; default-src 'none'"
                assert reply.headers["x-content-type-options"] == "nosniff"


@FRAMEWORKS
async def test_a_conversation_is_found_renamed_exported_and_deleted(framework: str) -> None:
    async with visiting([Answer(text="A fox is red.")], framework) as at:
        page = at.page
        [turn] = await page.ask("Which colour has a fox?")
        [hit] = (await page.get("api/conversations/search?q=RED"))["items"]
        assert (hit["id"], hit["nodeId"]) == (page.chat, turn["id"])
        assert (await page.send("PATCH", f"api/conversations/{page.chat}", {"title": "Füchse/.."}))[0] == 204
        assert [item["title"] for item in (await page.get("api/conversations"))["items"]] == ["Füchse/.."]
        assert (await page.in_chat())["title"] == "Füchse/.."
        for shape, begins in (("markdown", "# Conversation"), ("json", '{"')):
            async with page.session.get(f"{page.url}api/conversations/{page.chat}/export?format={shape}") as reply:
                text = await reply.text()
                assert text.startswith(begins) and "A fox is red." in text
                assert "F%C3%BCchse." in reply.headers["content-disposition"]
        assert Conversation.import_json(text).head is not None
        assert (await page.send("GET", f"api/conversations/{page.chat}/export?format=x"))[0] == 400
        assert (await page.send("DELETE", f"api/conversations/{page.chat}"))[0] == 204
        assert (await page.get("api/conversations"))["items"] == []
        assert (await page.in_chat("/version")) == {"version": None}


def picture(of: str) -> ToolResultPart:
    """Draw a picture.

    Args:
        of: What it shows.
    """
    call = ToolCallPart(call_id="c1", name="picture")
    return ToolResultPart.of(call, f"a picture of {of}", FilePart.from_bytes(PNG))


async def test_the_steps_of_a_tool_loop_are_turns_of_the_page() -> None:
    call = ScriptedToolCall("c1", "picture", '{"of": "a fox"}')
    script = [Answer(tool_calls=(call,)), Answer(text="Here it is.")]
    async with visiting(script, config=AIModelCallConfig(tools=[picture]), run_tools=ToolPolicy()) as at:
        [begun] = await at.page.begin("gpt", kind="ask", question="Draw a fox.")
        frames = await at.page.frames(begun["turnId"])
        events = [frame["event"] for frame in frames if "event" in frame]
        assert [event["type"] for event in events].count("step_start") == 2
        assert b"127.0.0.1" not in orjson.dumps(events)  # nor the hosts of endpoints, nor their accounts
        assert b'"account"' not in orjson.dumps(events)
        [started] = [event["call"] for event in events if event["type"] == "tool_start"]
        assert (started["name"], started["call_id"], started["arguments"]) == ("picture", "c1", '{"of": "a fox"}')
        [result] = [event["result"] for event in events if event["type"] == "tool_end"]
        assert [part["type"] for part in result["content"]] == ["text", "file"]
        assert "data" not in result["content"][1]
        [end] = [frame["end"] for frame in frames if "end" in frame]
        assert end["parentId"] == end["loopId"] == begun["turnId"]
        assert end["toolResults"][0]["text"] == "a picture of a fox"
        [file] = end["toolResults"][0]["files"]
        assert (await at.page.send("GET", file["url"])) == (200, PNG)
        path = (await at.page.in_chat("/path"))["turns"]
        assert [turn["id"] for turn in path] == [begun["turnId"], end["id"]]
        assert path[0]["parts"][0]["type"] == "tool_call"


async def test_a_manager_without_a_journal_is_refused() -> None:
    app = PlaygroundApp(ConversationManager(journal=None), {"gpt": "openai:gpt-6.2-sol"}, "/", PlaygroundOptions())
    [begin] = [handler for _, path, handler in app.routes if path.endswith("/turns")]

    async def read(limit: int) -> bytes:
        return b'{"kind": "ask", "question": "?", "asks": [{"turnId": "t", "model": "gpt"}]}'

    headers = {"content-type": "application/json"}
    request = WebRequest(method="POST", headers=headers, path={"id": "c"}, query={}, owner="ann", read=read)
    reply = await app.handle(begin, request)
    assert isinstance(reply, WebReply)
    assert reply.status == 500
