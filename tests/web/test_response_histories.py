"""What a request for a response follows, and which of its messages are taken for answers of ours."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from dhenara_async import ConversationNode, Dialect
from dhenara_async.drivers.openai_responses.native import ITEMS
from dhenara_async.messages.messages import FilePart, Message, Role, TextPart, ToolResultPart
from dhenara_async.stores import MemoryStore
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from dhenara_async.testing.script import ScriptedToolCall
from dhenara_async.web.inputs.fields import RefusedRequest
from dhenara_async.web.openai.responses.history import GivenMessage, GivenTurn
from dhenara_async.web.openai.responses.ids import TurnPlace, response_id
from dhenara_async.web.openai.responses.input_items import given_items
from tests.loopback import endpoint_at
from tests.web.openai_clients import front, openai, sdk_at

SIGNED = Answer(text="Four.", reasoning="2 + 2", signature="c2lnbmVk")
SIGNATURE = b"c2lnbmVk"
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def test_an_answer_that_a_client_has_edited_is_taken_as_it_was_sent() -> None:
    async with (
        ProviderServer([SIGNED, Answer(text="Sure.")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="2 + 2?")
        edited = [item.to_dict() for item in first.output]
        edited[-1]["content"][0]["text"] = "Five."
        second = await sdk.responses.create(model="m", input=[user("2 + 2?"), *edited, user("Sure?")])
        body = provider.requests[-1].body
        assert (b"Five." in body, b"Four." in body, SIGNATURE in body) == (True, False, False)
        assert second.conversation.id != first.conversation.id


async def test_a_history_follows_an_answer_only_if_all_before_it_is_as_it_was() -> None:
    async with (
        ProviderServer([SIGNED, Answer(text="Sure."), Answer(text="Sure.")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="2 + 2?")
        same = await sdk.responses.create(model="m", input=[user("2 + 2?"), *first.output, user("Sure?")])
        other = await sdk.responses.create(model="m", input=[user("3 + 1?"), *first.output, user("Sure?")])
        assert same.conversation.id == first.conversation.id != other.conversation.id
        assert b"3 + 1?" in provider.requests[-1].body
        assert b"2 + 2?" not in provider.requests[-1].body
        assert [SIGNATURE in request.body for request in provider.requests] == [False, True, True]
        for response, words in ((same, ["Sure?"]), (other, ["3 + 1?", "Four.", "Sure?"])):
            items = await sdk.responses.input_items.list(response.id, order="asc")
            assert [item.content[0].text async for item in items] == words


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("durable", [False, True])
async def test_a_history_without_ids_is_known_by_its_words_and_copied_once(durable: bool, tmp_path: Path) -> None:
    script = [SIGNED, *(Answer(text=text) for text in ("Sure.", "Yes.", "Quite.", "No."))]
    store = tmp_path / "chat.db" if durable else MemoryStore()
    async with ProviderServer(script) as provider:
        models = {"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}
        history = [user("2 + 2?")]
        async with front(models, store=store) as (url, _), sdk_at(url) as sdk:
            first = await sdk.responses.create(model="m", input=history)
            history += [said("Four."), user("Sure?")]
            copied = await sdk.responses.create(model="m", input=history)
        async with front(models, store=store) as (url, manager), sdk_at(url) as sdk:  # another process
            again = await sdk.responses.create(model="m", input=history)
            history += [said("Sure."), user("Really?")]
            longer = await sdk.responses.create(model="m", input=history)
            async with sdk_at(url, "bob") as stranger:
                await stranger.responses.create(model="m", input=history)
            others = (await manager.scoped("ann").list()).items
            assert {item.id for item in others} == {first.conversation.id, copied.conversation.id}
            tree = await manager.scoped("ann").open(copied.conversation.id)
            assert [len(tree.path(node.id)) for node in tree.nodes] == [1, 2, 2, 3]
            assert [node.conversion.lossy for node in tree.nodes[1:]] == [()] * 3
            assert len((await manager.scoped("ann").open(first.conversation.id)).nodes) == 1
    assert copied.conversation.id == again.conversation.id == longer.conversation.id
    assert [SIGNATURE in request.body for request in provider.requests] == [False, True, True, True, False]


async def test_a_history_without_words_is_known_by_the_conversation_that_began_with_it() -> None:
    async with (
        ProviderServer([Answer(text="One."), Answer(text="Two.")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        history = [user("?"), said("!"), user("??")]
        first, second = [await sdk.responses.create(model="m", input=history) for _ in range(2)]
    assert first.conversation.id == second.conversation.id


async def test_a_history_that_repeats_itself_is_found_up_to_its_end() -> None:
    signed = [replace(SIGNED, text="Hello there.", signature=f"c2lnM{letter}==") for letter in "ABCD"]
    async with (
        ProviderServer([*signed, Answer(text="Sure.")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        await sdk.responses.create(model="m", input="Hi")
        first = await sdk.responses.create(model="m", input="Hi")
        await sdk.responses.create(model="m", input="Hi", previous_response_id=first.id)
        await sdk.responses.create(model="m", input="Hi")
        await sdk.responses.create(model="m", input=[*[user("Hi"), said("Hello there.")] * 2, user("Sure?")])
    sent = [b"c2lnM%b==" % letter in provider.requests[-1].body for letter in (b"A", b"B", b"C", b"D")]
    assert sent == [False, True, True, False]


async def test_a_history_without_ids_is_followed_on_the_longest_of_equal_ways() -> None:
    script = [Answer(text="Yes."), Answer(text="Yes."), SIGNED, Answer(text="Sure.")]
    async with (
        ProviderServer(script) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        history = [user("?"), said("!"), user("Really?")]
        _, second = [await sdk.responses.create(model="m", input=history) for _ in range(2)]
        await sdk.responses.create(model="m", input="2 + 2?", previous_response_id=second.id)
        history += [said("Yes."), user("2 + 2?"), said("Four."), user("Sure?")]
        last = await sdk.responses.create(model="m", input=history)
    assert last.conversation.id == second.conversation.id
    assert SIGNATURE in provider.requests[-1].body


async def test_answers_behind_another_question_than_ours_are_taken_as_they_were_sent() -> None:
    async with (
        ProviderServer([SIGNED, replace(SIGNED, text="Quite sure."), Answer(text="Yes.")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="2 + 2?")
        await sdk.responses.create(model="m", input="Sure?", previous_response_id=first.id)
        history = [user("3 + 1?"), said("Four."), user("Sure?"), said("Quite sure."), user("Really?")]
        await sdk.responses.create(model="m", input=history)
    assert SIGNATURE not in provider.requests[-1].body


def test_a_turn_is_known_by_everything_that_a_client_shows_and_by_no_id_of_a_call() -> None:
    def given(
        query: str = "Add.", said: str = "Four.", result: str = "3", file: bytes = b"a", call: str = "c1"
    ) -> GivenTurn:
        answer = GivenMessage(Message(role=Role.ASSISTANT, parts=[TextPart(text=said)]))
        files = (FilePart(media_type="text/plain", data=file),)
        results = (ToolResultPart(call_id=call, name="add", content=(TextPart(text=result),)),)
        return GivenTurn(query, files, results, answer, (1, -1))

    turn = given()
    node = turn.as_node("parent")
    assert node.order == (1, -1)
    assert turn.shows(node) and turn.is_that_of(node)
    assert turn.id_behind(None) != node.id
    for other in (given(query="Sub."), given(said="Five."), given(result="4"), given(file=b"b")):
        assert not other.shows(node), other
        assert other.id_behind("parent") != node.id
    renamed = given(call="c2")
    assert renamed.shows(node) and not renamed.is_that_of(node)
    assert renamed.id_behind("parent") == node.id


async def test_a_history_without_ids_whose_words_differ_is_taken_as_it_was_sent() -> None:
    asked = [user("2 + 2?"), said("Four."), user("Sure?")]
    edited = [[user("3 + 1?"), *asked[1:]], [asked[0], said("Four!"), asked[2]], [asked[1], asked[0]]]
    async with (
        ProviderServer([SIGNED, *[Answer(text="Sure.")] * 3]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        await sdk.responses.create(model="m", input="2 + 2?")
        for history in edited:
            await sdk.responses.create(model="m", input=history)
    assert not any(SIGNATURE in request.body for request in provider.requests)


async def test_nothing_follows_a_response_that_failed_before_its_first_word() -> None:
    async with (
        ProviderServer([Answer(text="One"), Fault(stall=0)]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="One?")
        begun = await sdk.responses.create(model="m", input="Two?", previous_response_id=first.id, background=True)
        failed = await sdk.responses.cancel(begun.id)
        assert failed.output == []
        with pytest.raises(openai.BadRequestError, match="follow the one before it"):
            await sdk.responses.create(model="m", input="And?", previous_response_id=failed.id)


async def test_a_response_repeats_no_large_part_of_its_request() -> None:
    async with (
        ProviderServer([Answer(text="Hi")] * 2) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        for description, shown in (("Adds.", 1), ("Adds. " * 5_000, 0)):
            response = await sdk.responses.create(
                model="m", input="Hi", tools=[{**ADD, "description": description}], temperature=0.5
            )
            assert (len(response.tools), response.temperature) == (shown, 0.5)
            assert b'"add"' in provider.requests[-1].body


@pytest.mark.parametrize("whole", [False, True])
async def test_results_of_calls_without_ids_go_to_their_calls(whole: bool) -> None:
    """The order of the calls is all that tells them apart, whatever the order of the results."""
    calls = (ScriptedToolCall("", "add", '{"a":1}'), ScriptedToolCall("", "add", '{"a":2}'))
    async with (
        ProviderServer([replace(SIGNED, text="", tool_calls=calls), Answer(text="3 and 4")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="Add", tools=[ADD])
        told = [item for item in first.output if item.type == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": str(at)}
            for at, call in enumerate(told, 3)
        ]
        asked: dict[str, Any] = {"input": [*reversed(results)], "previous_response_id": first.id}
        if whole:
            asked = {"input": [user("Add"), *first.output, *reversed(results)]}
        second = await sdk.responses.create(model="m", tools=[ADD], **asked)
        assert second.conversation.id == first.conversation.id
        contents = orjson.loads(provider.requests[-1].body)["contents"]
        assert SIGNATURE.decode() in str(contents[1])
        said = [part["functionResponse"]["response"] for part in contents[2]["parts"]]
        assert [list(result.values()) for result in said] == [["3"], ["4"]]


async def test_turns_that_came_with_a_request_go_with_its_response() -> None:
    foreign = [user("One?"), {"role": "assistant", "content": "One"}, user("Two?")]
    async with (
        ProviderServer([Answer(text="Two")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        response = await sdk.responses.create(model="m", input=foreign)
        (kept,) = (await manager.scoped("ann").list()).items
        assert (await manager.scoped("ann").open(kept.id)).head is not None
        await sdk.responses.delete(response.id)
        assert (await manager.scoped("ann").list()).items == ()


@pytest.mark.parametrize("background", [False, True])
async def test_a_response_that_cannot_begin_leaves_no_conversation(background: bool) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    async with (
        ProviderServer([]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        with pytest.raises(openai.BadRequestError):
            await sdk.responses.create(model="m", input=[{"role": "user", "content": [sound]}], background=background)
        assert (await manager.scoped("ann").list()).items == ()


def test_a_history_with_a_request_for_approval_is_read_and_a_decision_is_refused_in_words() -> None:
    request = {
        "type": "mcp_approval_request",
        "id": "mcpr_1",
        "server_label": "dice",
        "name": "roll",
        "arguments": "{}",
    }
    _, (item,) = given_items([request, {"role": "user", "content": "Go on."}], 9)
    assert item.message.get_text() == "Go on."
    decision = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    with pytest.raises(RefusedRequest, match=r"input\[1\] decides about a call of an MCP server") as refused:
        given_items([request, decision], 9)
    assert refused.value.status == 400


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_every_item_of_a_hosted_tool_that_an_answer_can_have_is_read_in_a_history(kind: str) -> None:
    items = [{"type": kind, "id": "item_1"}, {"role": "user", "content": "Go on."}]
    if kind == "compaction":  # it stands for the history before it
        with pytest.raises(RefusedRequest, match="type that is not known"):
            given_items(items, 9)
    else:
        _, (item,) = given_items(items, 9)
        assert item.message.get_text() == "Go on."


@pytest.mark.parametrize("named", ["conversation", "previous_response_id"])
async def test_turns_of_a_request_that_failed_are_there_once_when_it_is_tried_again(named: str, tmp_path: Path) -> None:
    refusals = [ScriptedError(400, "no")] * 2
    async with (
        ProviderServer([Answer(text="One"), *refusals, Answer(text="Three"), Answer(text="Four")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}, store=tmp_path / "chat.db") as (url, manager),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="One?")
        follows = {named: first.conversation.id if named == "conversation" else first.id}
        longer = [user("Two?"), said("Two"), user("Three?")]
        for _ in refusals:
            with pytest.raises(openai.BadRequestError):
                await sdk.responses.create(model="m", input=longer, **follows)
        third = await sdk.responses.create(model="m", input=longer, **follows)
        await sdk.responses.create(model="m", input="Four?", conversation=third.conversation.id)
        tree = await manager.scoped("ann").open(first.conversation.id)
        assert [node.user_query for node in tree.path()] == ["One?", "Two?", "Three?", "Four?"]
        assert [node.user_query for node in tree.nodes].count("Two?") == 1
    contents = [orjson.loads(request.body)["contents"] for request in provider.requests]
    assert [len(content) for content in contents] == [1, 5, 5, 5, 7]


async def test_a_turn_that_is_sent_again_with_other_ids_of_its_calls_is_another_one() -> None:
    async with (
        ProviderServer([Answer(text="One"), ScriptedError(400, "no"), Answer(text="Two")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="One?")
        for call in ("call_a", "call_b"):
            called = {"type": "function_call", "call_id": call, "name": "add", "arguments": '{"a":1}'}
            result = {"type": "function_call_output", "call_id": call, "output": "3"}
            asked: dict[str, Any] = {"input": [user("Add."), called, result], "previous_response_id": first.id}
            if call == "call_a":
                with pytest.raises(openai.BadRequestError):
                    await sdk.responses.create(model="m", tools=[ADD], **asked)
            else:
                await sdk.responses.create(model="m", tools=[ADD], **asked)
        tree = await manager.scoped("ann").open(first.conversation.id)
    assert provider.requests[-1].body.count(b"call_b") == 2
    assert tree.path()[-1].conversion.lossy == ()


async def test_a_conversation_goes_on_behind_its_last_response_that_is_not_deleted() -> None:
    async with (
        ProviderServer([Answer(text="One"), Answer(text="Two"), Answer(text="Three"), Answer(text="Four")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="One?")
        asked: dict[str, Any] = {"model": "m", "conversation": first.conversation.id}
        await sdk.responses.delete((await sdk.responses.create(**asked, input="Two?")).id)
        third = await sdk.responses.create(**asked, input="Three?")
        assert b"Two" not in provider.requests[-1].body
        for response in (first, third):
            await sdk.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.create(**asked, input="Four?")
        assert (await manager.scoped("ann").list()).items == ()


async def test_a_turn_of_a_chat_page_is_a_response_with_its_time() -> None:
    async with (
        ProviderServer([Answer(text="One")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        owned = manager.scoped("ann")
        conversation = await owned.create()
        node = await owned.ask(conversation, "One?", endpoint_at(provider, Dialect.GEMINI))
        response = await sdk.responses.retrieve(response_id(TurnPlace(conversation.id, node.id)))
        assert response.output_text == "One"
        assert response.created_at == int(datetime.fromisoformat(node.timestamp).timestamp())


@pytest.mark.parametrize("ours", [True, False])
async def test_each_call_with_a_history_without_ids_adds_one_turn(ours: bool, tmp_path: Path) -> None:
    """Also calls of a tool loop, which have no words to search for, and histories that began elsewhere."""
    signatures = ["c2lnMA==", "c2lnMQ==", "c2lnMg==", "c2lnMw=="]
    calls = [(ScriptedToolCall(f"c{at}", "add", f'{{"a":{at}}}'),) for at in (1, 2)]
    script = [
        Answer(text="Hello there.", reasoning="Hm.", signature=signatures[0]),
        *(Answer(reasoning="Hm.", signature=signatures[at], tool_calls=call) for at, call in enumerate(calls, 1)),
        Answer(text="Done.", reasoning="Hm.", signature=signatures[3]),
        Answer(text="Bye."),
    ]
    history = [user("Hi")]
    async with (
        ProviderServer(script if ours else script[1:]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}, store=tmp_path / "chat.db") as (url, manager),
        sdk_at(url) as sdk,
    ):
        if not ours:
            history += [said("Hello there."), user("Add, please.")]
        for number in range(len(script) - (not ours)):
            response = await sdk.responses.create(model="m", input=history, tools=[ADD])
            for item in response.output:
                if item.type == "message":
                    history.append(said(item.content[0].text))
                elif item.type == "function_call":
                    history.append(item.to_dict(exclude_none=True) | {"id": None})
                    history.append({"type": "function_call_output", "call_id": item.call_id, "output": "3"})
            if history[-1].get("role") == "assistant":
                history.append(user(f"And {number}?"))
        owned = manager.scoped("ann")
        kept = [await owned.open(item.id) for item in (await owned.list()).items]
    assert sorted(len(each.path()) for each in kept) == ([1, 5] if ours else [5])
    assert sum(len(each.nodes) for each in kept) == (6 if ours else 5)
    sent = [signature.encode() in provider.requests[-1].body for signature in signatures]
    assert sent == ([True] * 4 if ours else [False, True, True, True])
    assert not any(node.conversion.lossy for each in kept for node in each.nodes)


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_texts_and_files_of_a_question_keep_their_order(api: str, tmp_path: Path) -> None:
    url_of = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="
    async with (
        ProviderServer([Answer(text="Two cats."), Answer(text="Yes."), Answer(text="Cats.")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}, store=tmp_path / "chat.db") as (url, manager),
        sdk_at(url) as sdk,
    ):
        if api == "chat":
            picture: dict[str, Any] = {"type": "image_url", "image_url": {"url": url_of}}
            texts = [{"type": "text", "text": text} for text in ("First", "Second", "Which?")]
            asked = [texts[0], picture, texts[1], picture, texts[2]]
            stream = await sdk.chat.completions.create(
                model="m", messages=[{"role": "user", "content": asked}], stream=True
            )
            assert [chunk async for chunk in stream]
        else:
            picture = {"type": "input_image", "image_url": url_of}
            texts = [{"type": "input_text", "text": text} for text in ("First", "Second", "Which?")]
            asked = [texts[0], picture, texts[1], picture, texts[2]]
            first = await sdk.responses.create(model="m", input=[{"role": "user", "content": asked}])
            await sdk.responses.create(model="m", input="Sure?", previous_response_id=first.id)
            (item,) = [item async for item in sdk.responses.input_items.list(first.id)]
            assert [part.type for part in item.content] == [part["type"] for part in asked]
        owned = manager.scoped("ann")
        (kept,) = (await owned.list()).items
        conversation = await owned.open(kept.id)
        root = conversation.path()[0]
        assert (root.user_query, root.order) == ("First\n\nSecond\n\nWhich?", (5, -1, 6, -1, 6))
        async with owned.regenerate(conversation, root.id, endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)) as turn:
            await turn.collect()
        assert turn.node.order == root.order
        assert ConversationNode.model_validate_json(root.model_dump_json()) == root
        assert root.changed(user_query="Else").as_messages()[0].get_text() == "Else"
    for request in provider.requests:
        content = orjson.loads(request.body)["messages"][0]["content"]
        assert [part.get("text") for part in content] == ["First", None, "Second", None, "Which?"]
