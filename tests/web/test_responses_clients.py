"""``/v1/responses`` by our own client, by several processes, and with everything that an input may hold."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelEndpoint,
    ConversationManager,
    Dialect,
    Failover,
    Tool,
    ToolResultPart,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.testing.script import ScriptedToolCall
from dhenara_async.web.starlette import openai_routes
from tests.loopback import ONCE, endpoint_at
from tests.stores.test_check_store import SqliteStore
from tests.web.openai_clients import front, openai, owner_of, sdk_at

DIALECTS = pytest.mark.parametrize(
    "dialect", [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI]
)
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CALLS = (ScriptedToolCall("call_1", "add", '{"a":1}'),)


def own_endpoint(url: str, model: str = "m") -> AIModelEndpoint:
    """The front, as our client asks it like any host of the Responses API."""
    api = AIModelAPI(
        provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
        api_key=SecretStr("ann-key"),
        base_url=url,
        dialect=Dialect.OPENAI_RESPONSES,
    )
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


@DIALECTS
async def test_a_conversation_of_our_client_is_asked_as_a_direct_one(dialect: Dialect) -> None:
    """Signatures and encrypted reasoning stay on the server and come back for the next question."""
    script = [Answer(text="Four.", reasoning="2 + 2", tool_calls=CALLS), Answer(text="Yes."), Answer(text="Sure.")]
    config = ONCE.changed(tools=(Tool(name="add", parameters=PARAMETERS),))
    bodies: list[list[bytes]] = []
    for through in (False, True):
        async with ProviderServer(script) as provider:
            endpoint = endpoint_at(provider, dialect)
            async with front({"m": endpoint}) as (url, _), ConversationManager(config=config) as manager:
                conversation = await manager.create()
                asked = own_endpoint(url) if through else endpoint
                node = await manager.turn(conversation, "2 + 2?", asked)
                results = [ToolResultPart.of(call, "3") for call in node.answer.tools()]
                await manager.turn(conversation, "", asked, tool_results=results)
                await manager.turn(conversation, "Really?", asked)
            bodies.append([request.body for request in provider.requests])
    assert bodies[0] == bodies[1]


async def test_what_a_client_says_of_an_item_goes_to_the_model() -> None:
    """References, files, a schema, hosted tools, encrypted reasoning of OpenAI, and answers of other hosts."""
    async with ProviderServer([Answer(text="One"), Answer(text='{"n":1}'), Answer(text="Two")]) as provider:
        claude, gpt = (endpoint_at(provider, each) for each in (Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_RESPONSES))
        async with front({"claude": claude, "gpt": gpt}) as (url, manager), sdk_at(url) as sdk:
            first = await sdk.responses.create(model="claude", input="One?")
            image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
            question = {"role": "user", "content": [{"type": "input_text", "text": "Two?"}, image]}
            referred: list[Any] = [
                {"role": "user", "content": "One?"},
                {"type": "item_reference", "id": first.output[0].id},
                question,
            ]
            schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
            second = await sdk.responses.create(
                model="gpt",
                input=referred,
                reasoning={"effort": "low"},
                tools=[{"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}],
                text={"format": {"type": "json_schema", "name": "number", "schema": schema}},
            )
            assert second.conversation.id == first.conversation.id
            body = orjson.loads(provider.requests[1].body)
            assert [item.get("role") for item in body["input"]] == ["user", "assistant", "user"]
            assert {part["type"] for part in body["input"][2]["content"]} == {"input_text", "input_image"}
            assert [tool["type"] for tool in body["tools"]] == ["web_search"]
            assert body["reasoning"]["effort"] == "low"
            assert body["text"]["format"]["name"] == "number"
            assert [tool.type for tool in second.tools] == ["web_search"]
            sealed: dict[str, Any] = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAsealed"}
            other = {"role": "assistant", "content": [{"type": "output_text", "text": "An answer of another host."}]}
            history: list[Any] = [{"role": "user", "content": "Hi"}, sealed, other, {"role": "user", "content": "And?"}]
            third = await sdk.responses.create(model="gpt", input=history)
            assert third.conversation.id != first.conversation.id
            sent = orjson.loads(provider.requests[2].body)["input"]
            assert [item for item in sent if item.get("type") == "reasoning"] == [sealed]
            given = [item async for item in await sdk.responses.input_items.list(third.id, order="asc")]
            assert [item.role for item in given] == ["user", "assistant", "user"]
            with pytest.raises(openai.BadRequestError, match="not kept here"):
                await sdk.responses.create(model="gpt", input=[{"type": "item_reference", "id": "msg_other"}, question])
            assert len((await manager.scoped("ann").list()).items) == 2


async def test_a_client_that_leaves_out_ids_is_known_by_the_encrypted_content() -> None:
    """Codex does so. A reference to an answer that is not known any more goes to no model."""
    script = [Answer(text="Four.", reasoning="2 + 2", signature="c2lnbmVk"), Answer(text="Yes."), Answer(text="No.")]
    async with ProviderServer(script) as provider:
        claude, gpt = (endpoint_at(provider, each) for each in (Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_RESPONSES))
        async with front({"claude": claude, "gpt": gpt}) as (url, _), sdk_at(url) as sdk:
            first = await sdk.responses.create(model="claude", input="2 + 2?")
            reasoning, _ = ({**item.to_dict(), "id": None} for item in first.output)
            altered = {"role": "assistant", "content": [{"type": "output_text", "text": "Four!"}]}
            history: list[Any] = [
                {"role": "user", "content": "2 + 2?"},
                {name: value for name, value in reasoning.items() if value is not None},
                {"role": "assistant", "content": [{"type": "output_text", "text": "Four."}]},
                {"role": "user", "content": "Sure?"},
            ]
            await sdk.responses.create(model="claude", input=history)
            assert b"c2lnbmVk" in provider.requests[1].body
            history[1]["encrypted_content"] = "rs_nabc_0"
            history[2] = altered
            await sdk.responses.create(model="gpt", input=history)
            assert b"rs_nabc_0" not in provider.requests[2].body


async def test_with_a_signing_key_all_words_of_a_history_stay_and_only_signed_state_is_used() -> None:
    """What came with a request is signed by nobody: of it, only encrypted reasoning is left out."""
    signed = Answer(text="Four.", reasoning="2 + 2", signature="c2lnbmVk")
    history: list[Any] = [
        {"role": "user", "content": "a question"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAforeign"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "an answer"}]},
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "a result"},
    ]
    async with (
        ProviderServer([Answer(text="Hi"), Answer(text="Hi"), signed, Answer(text="Hi")]) as provider,
        front(
            {d.value: endpoint_at(provider, d) for d in (Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES)},
            signing_key=b"k" * 32,
        ) as (url, _),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="openai_responses", input=history)
        await sdk.responses.create(model="openai_responses", input="And?", previous_response_id=first.id)
        for request in provider.requests:
            body = request.body.decode()
            assert [words in body for words in ("a question", "an answer", '{\\"a\\":1}', "a result")] == [True] * 4
            assert "gAAAforeign" not in body
        own = await sdk.responses.create(model="anthropic_messages", input="2 + 2?")
        again = [{"role": "user", "content": "2 + 2?"}, *own.output, {"role": "user", "content": "Sure?"}]
        await sdk.responses.create(model="anthropic_messages", input=again)
        assert b"c2lnbmVk" in provider.requests[-1].body


async def test_an_answer_that_is_cut_and_one_that_is_begun_again_say_so() -> None:
    cut = Fault(answer=Answer(text="one two three"), cut=700)
    async with ProviderServer([cut, cut, Answer(text="Whole.")]) as provider:
        chat, claude = (endpoint_at(provider, each) for each in (Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES))
        async with front({"m": chat, "safe": Failover([chat, claude])}) as (url, _), sdk_at(url) as sdk:
            events = [event async for event in await sdk.responses.create(model="m", input="Hi", stream=True)]
            assert [event.type for event in events[-2:]] == ["error", "response.failed"]
            assert "broke before the answer was complete" in events[-2].message
            again = await sdk.responses.retrieve(events[0].response.id)
            assert again.status == "failed"
            assert again.output_text.startswith("one")
            safe = [event async for event in await sdk.responses.create(model="safe", input="Hi", stream=True)]
            assert safe[-1].type == "response.completed"
            assert safe[-1].response.output_text == "Whole."
            assert (await sdk.responses.retrieve(safe[-1].response.id)).output_text == "Whole."


async def test_two_processes_on_one_store_serve_the_same_response(tmp_path: Path) -> None:
    """What one receives, the other reads with the same numbers, and cancels."""
    stalling = Fault(answer=Answer(text="one two three four"), stall=4)
    async with ProviderServer([stalling]) as provider:
        models = {"m": endpoint_at(provider, Dialect.OPENAI_CHAT)}
        async with (
            front(models, store=tmp_path / "chat.db") as (url, _),
            front(models, store=tmp_path / "chat.db") as (other_url, _),
            sdk_at(url) as sdk,
            sdk_at(other_url) as other,
        ):
            first: list[Any] = []
            async for event in await sdk.responses.create(model="m", input="Hi", stream=True, background=True):
                first.append(event)
                if event.type == "response.output_text.delta":
                    break
            name = first[0].response.id
            assert (await other.responses.retrieve(name)).status == "in_progress"
            second: list[Any] = []
            async for event in await other.responses.retrieve(name, stream=True):
                second.append(event)
                if len(second) == len(first):
                    break
            assert [event.to_dict() for event in second] == [event.to_dict() for event in first]
            assert (await other.responses.cancel(name)).status == "cancelled"
            assert (await sdk.responses.retrieve(name)).status == "cancelled"


async def test_a_front_that_keeps_nothing_answers_and_refuses_background() -> None:
    async with (
        ProviderServer([Answer(text="Hi")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}, keep=False) as (url, manager),
        sdk_at(url) as sdk,
    ):
        with pytest.raises(openai.BadRequestError, match="keeps no responses"):
            await sdk.responses.create(model="m", input="Hi", background=True)
        answer = await sdk.responses.create(model="m", input="Hi")
        assert (answer.output_text, answer.store) == ("Hi", False)
        assert (await manager.scoped("ann").list()).items == ()


async def test_a_store_that_does_not_keep_owners_apart_keeps_no_response(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "chat.db")
    async with (
        store,
        ProviderServer([Answer(text="Hi")] * 2) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}, store=store) as (url, manager),
        sdk_at(url) as sdk,
    ):
        made_by_the_app = await manager.create()
        answer = await sdk.responses.create(model="m", input="Hi")
        assert (answer.output_text, answer.store) == ("Hi", False)
        history = [{"role": "user", "content": "Hi"}, *answer.output, {"role": "user", "content": "And?"}]
        assert (await sdk.responses.create(model="m", input=history)).output_text == "Hi"
        for attempt in (
            lambda: sdk.responses.retrieve(answer.id),
            lambda: sdk.responses.create(model="m", input="Hi", background=True),
            lambda: sdk.responses.create(model="m", input="Hi", previous_response_id=answer.id),
            lambda: sdk.responses.create(model="m", input="Hi", conversation=made_by_the_app.id),
        ):
            with pytest.raises((openai.NotFoundError, openai.BadRequestError)):
                await attempt()
        with pytest.raises(ConfigurationError, match="SqliteStore has no scoped"):
            openai_routes(manager, {"m": endpoint_at(provider, Dialect.GEMINI)}, owner=owner_of, keep=True)
