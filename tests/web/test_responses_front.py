"""``/v1/responses`` of the OpenAI-compatible front, read by the real openai SDK."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dhenara_async import Dialect, Failover
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from dhenara_async.testing.script import ScriptedToolCall
from dhenara_async.turns.log import Journal
from dhenara_async.web.openai.responses.ids import TurnPlace, response_id
from tests.loopback import PATIENCE, endpoint_at
from tests.web.openai_clients import front, openai, sdk_at

DIALECTS = pytest.mark.parametrize(
    "dialect", [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI]
)
SERVERS = pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    "strict": False,
}
CALL = Answer(tool_calls=(ScriptedToolCall("call_1", "add", '{"a":1,"b":2}'),))


async def numbered(stream: Any) -> list[tuple[int, str]]:
    """The numbers and types of a stream's events."""
    return [(event.sequence_number, event.type) async for event in stream]


@DIALECTS
async def test_the_sdk_reads_a_response_plain_streamed_and_again(dialect: Dialect) -> None:
    async with (
        ProviderServer([Answer(text="Hello dear world", reasoning="Hm.")] * 2) as provider,
        front({"m": endpoint_at(provider, dialect)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        asked: dict[str, Any] = {"model": "m", "input": "Hi", "instructions": "Be brief.", "metadata": {"a": "b"}}
        plain = await sdk.responses.create(**asked)
        async with sdk.responses.stream(**asked) as stream:
            words = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
            streamed = await stream.get_final_response()
        assert plain.output_text == streamed.output_text == words == "Hello dear world"
        assert plain.status == streamed.status == "completed"
        assert plain.usage == streamed.usage
        assert (plain.model, plain.instructions, plain.metadata) == ("m", "Be brief.", {"a": "b"})
        assert [request.system for request in provider.requests] == ["Be brief."] * 2
        for response in (plain, streamed):
            again = await sdk.responses.retrieve(response.id)
            assert again.to_dict() == response.to_dict(exclude_unset=True) | {"output": again.to_dict()["output"]}
            assert again.output_text == "Hello dear world"
        items = await sdk.responses.input_items.list(plain.id)
        assert [(item.role, item.content[0].text) async for item in items] == [("user", "Hi")]


@SERVERS
async def test_a_cut_stream_goes_on_behind_the_last_number(server: str) -> None:
    """The same numbers on the first stream, on each replay, and on one that begins in the middle."""
    async with (
        ProviderServer([Answer(text="one two three four", reasoning="Hm.", tool_calls=CALL.tool_calls)]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}, server=server) as (url, _),
        sdk_at(url) as sdk,
    ):
        stream = await sdk.responses.create(model="m", input="Hi", tools=[ADD], stream=True, background=True)
        seen: list[Any] = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        name = seen[0].response.id
        rest = [
            event
            async for event in await sdk.responses.retrieve(name, stream=True, starting_after=seen[-1].sequence_number)
        ]
        told = [(event.sequence_number, event.type) for event in (*seen, *rest)]
        assert [number for number, _ in told] == list(range(len(told)))
        assert told == await numbered(await sdk.responses.retrieve(name, stream=True))
        words = [event.delta for event in (*seen, *rest) if event.type == "response.output_text.delta"]
        assert "".join(words) == "one two three four"
        assert rest[-1].response.to_dict() == (await sdk.responses.retrieve(name)).to_dict()
        nothing = await sdk.responses.retrieve(name, stream=True, starting_after=told[-1][0])
        assert await numbered(nothing) == []


@SERVERS
async def test_a_background_response_is_polled_and_cancelled(server: str) -> None:
    async with (
        ProviderServer([Fault(stall=3), Answer(text="Done")]) as provider,
        front({"m": endpoint_at(provider, Dialect.OPENAI_CHAT)}, server=server) as (url, _),
        sdk_at(url) as sdk,
    ):
        begun = await sdk.responses.create(model="m", input="Hi", background=True, metadata={"a": "b"})
        assert (begun.status, begun.background, begun.metadata) == ("in_progress", True, {"a": "b"})
        assert (await sdk.responses.retrieve(begun.id)).status == "in_progress"
        with pytest.raises(openai.BadRequestError, match="still being answered"):
            await sdk.responses.create(model="m", input="And?", previous_response_id=begun.id)
        cancelled = await sdk.responses.cancel(begun.id)
        assert cancelled.status == (await sdk.responses.retrieve(begun.id)).status == "cancelled"
        with anyio.fail_after(PATIENCE):
            await provider.wait_closed()
        done = await sdk.responses.create(model="m", input="Hi", background=True)
        with anyio.fail_after(PATIENCE):
            while done.status in {"queued", "in_progress"}:
                await anyio.lowlevel.checkpoint()
                done = await sdk.responses.retrieve(done.id)
        assert (done.status, done.output_text) == ("completed", "Done")
        assert (await sdk.responses.cancel(done.id)).status == "completed"


async def test_a_response_that_failed_is_told_alike_by_its_stream_and_when_it_is_polled() -> None:
    steps = [ScriptedError(429, "slow down"), Fault(answer=Answer(text="one two three"), terminal="missing")]
    async with (
        ProviderServer(steps) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        told: list[tuple[str, str]] = []
        for _ in steps:
            stream = await sdk.responses.create(model="m", input="Hi", background=True, stream=True)
            *_, last = [event async for event in stream]
            assert last.type == "response.failed"
            assert await sdk.responses.retrieve(last.response.id) == last.response
            told.append((last.response.error.code, last.response.output_text))
        assert told == [("rate_limit_exceeded", ""), ("server_error", "one two three")]


async def test_responses_are_chained_across_models_with_signatures_and_branch(tmp_path: Path) -> None:
    script = [
        Answer(text="Four.", reasoning="2 + 2", signature="c2lnbmVk"),
        *(Answer(text=text) for text in ("Yes.", "Sure.", "No.", "Fine.")),
    ]
    async with ProviderServer(script) as provider:
        claude, gpt = (endpoint_at(provider, each) for each in (Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT))
        models = {"claude": Failover([claude]), "gpt": gpt}
        async with front(models, store=tmp_path / "chat.db") as (url, _), sdk_at(url) as sdk:
            system = {"role": "developer", "content": "Be exact."}
            first = await sdk.responses.create(model="claude", input=[system, {"role": "user", "content": "2 + 2?"}])
            second = await sdk.responses.create(model="gpt", input="Sure?", previous_response_id=first.id)
        async with front(models, store=tmp_path / "chat.db") as (url, manager), sdk_at(url) as sdk:  # another process
            assert (await sdk.responses.retrieve(first.id)).output_text == "Four."
            third = await sdk.responses.create(model="claude", input="Really?", previous_response_id=second.id)
            branch = await sdk.responses.create(model="claude", input="Or not?", previous_response_id=first.id)
            assert third.previous_response_id == second.id
            assert third.conversation.id == branch.conversation.id == first.conversation.id
            tree = await manager.scoped("ann").open(first.conversation.id)
            assert [len(tree.path(node.id)) for node in tree.nodes] == [1, 2, 3, 2]
            added = await sdk.responses.create(model="gpt", input="Thanks", conversation=first.conversation.id)
            assert added.conversation.id == first.conversation.id
        sent = [request.body for request in provider.requests]
        assert [b"c2lnbmVk" in body for body in sent] == [False, False, True, True, False]
        assert all(b"Be exact." in body for body in sent)
        assert b"Sure?" not in sent[3]
        kinds = [{entry.kind for entry in node.conversion.entries} for node in tree.nodes]
        assert ["reasoning" in changed for changed in kinds] == [False, True, False, False]


@DIALECTS
async def test_results_of_calls_go_back_by_the_id_of_the_response_or_with_the_history(dialect: Dialect) -> None:
    async with (
        ProviderServer([CALL, Answer(text="3"), Answer(text="three")]) as provider,
        front({"m": endpoint_at(provider, dialect)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="1 + 2?", tools=[ADD])
        call = first.output[-1]
        assert (call.type, call.name, call.arguments) == ("function_call", "add", '{"a":1,"b":2}')
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
        chained = await sdk.responses.create(model="m", input=[result], tools=[ADD], previous_response_id=first.id)
        whole = [{"role": "user", "content": "1 + 2?"}, *first.output, result]
        again = await sdk.responses.create(model="m", input=whole, tools=[ADD])
        assert (chained.output_text, again.output_text) == ("3", "three")
        assert provider.requests[1].body == provider.requests[2].body
        assert again.conversation.id == first.conversation.id  # our own answer was recognised
        assert len((await manager.scoped("ann").list()).items) == 1
        wrong = {**result, "call_id": "secret"}
        with pytest.raises(openai.BadRequestError, match="No tool call") as refused:
            await sdk.responses.create(model="m", input=[wrong], previous_response_id=first.id)
        assert "secret" not in str(refused.value)


async def test_what_is_not_kept_cannot_be_read_and_a_deleted_response_is_gone() -> None:
    async with (
        ProviderServer([Answer(text=text) for text in ("Four.", "Sure.", "One", "Two")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        unkept = await sdk.responses.create(model="m", input="2 + 2?", store=False)
        history = [{"role": "user", "content": "2 + 2?"}, *unkept.output, {"role": "user", "content": "Sure?"}]
        stream = await sdk.responses.create(model="m", input=history, store=False, stream=True)
        assert [event.type async for event in stream][-1] == "response.completed"
        assert (await manager.scoped("ann").list()).items == ()
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(unkept.id)
        with pytest.raises(openai.BadRequestError, match="background needs store"):
            await sdk.responses.create(model="m", input="Hi", store=False, background=True)
        first = await sdk.responses.create(model="m", input="One?")
        second = await sdk.responses.create(model="m", input="Two?", previous_response_id=first.id)
        await sdk.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError):
            await sdk.responses.create(model="m", input="And?", previous_response_id=first.id)
        assert (await sdk.responses.retrieve(second.id)).output_text == "Two"
        await sdk.responses.delete(second.id)
        assert (await manager.scoped("ann").list()).items == ()


async def test_the_words_of_a_deleted_response_are_found_by_no_reference(tmp_path: Path) -> None:
    async with (
        ProviderServer([Answer(text=text) for text in ("secret", "Two", "Three")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}, store=tmp_path / "chat.db") as (url, manager),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="One?")
        second = await sdk.responses.create(model="m", input="Two?", previous_response_id=first.id)
        asked: list[Any] = [{"role": "user", "content": "One?"}, *first.output, {"role": "user", "content": "Again?"}]
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as requests:
                for _ in range(5):
                    requests.start_soon(_deleted, sdk, first.id)
        mark = next(
            node.id for node in (await manager.scoped("ann").open(first.conversation.id)).nodes if node.response is None
        )
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(response_id(TurnPlace(first.conversation.id, mark)))
        referred = [{"type": "item_reference", "id": first.output[0].id}, asked[-1]]
        with pytest.raises(openai.BadRequestError, match="not kept here"):
            await sdk.responses.create(model="m", input=referred)
        again = await sdk.responses.create(model="m", input=asked)  # its own words are taken as they are
        assert again.conversation.id != first.conversation.id
        conversation = await manager.scoped("ann").open(first.conversation.id)
        assert conversation.head is not None
        assert conversation.head.user_query == "Two?"
        assert (await sdk.responses.retrieve(second.id)).output_text == "Two"


async def _deleted(sdk: Any, name: str) -> None:
    """Delete a response, which another request may have done."""
    with suppress(openai.NotFoundError):
        await sdk.responses.delete(name)


async def test_the_last_responses_of_a_conversation_go_with_it_when_deleted_at_once(tmp_path: Path) -> None:
    async with (
        ProviderServer([Answer(text="One"), Answer(text="Two")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}, store=tmp_path / "chat.db") as (url, manager),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="One?")
        second = await sdk.responses.create(model="m", input="Two?", previous_response_id=first.id)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as requests:
                for name in (first.id, second.id, first.id, second.id):
                    requests.start_soon(_deleted, sdk, name)
        assert (await manager.scoped("ann").list()).items == ()


async def test_another_owner_finds_nothing() -> None:
    async with (
        ProviderServer([Answer(text="secret")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, _),
        sdk_at(url) as sdk,
        sdk_at(url, "bob") as other,
    ):
        mine = await sdk.responses.create(model="m", input="Hi")
        assert (await sdk.responses.retrieve(mine.id)).output_text == "secret"
        attempts = (
            lambda: other.responses.retrieve(mine.id),
            lambda: other.responses.retrieve(mine.id, stream=True),
            lambda: other.responses.cancel(mine.id),
            lambda: other.responses.delete(mine.id),
            lambda: other.responses.input_items.list(mine.id),
            lambda: other.responses.create(model="m", input="Hi", conversation=mine.conversation.id),
            lambda: other.responses.create(model="m", input="Hi", previous_response_id=mine.id, store=False),
            lambda: other.responses.create(
                model="m", input=[{"type": "item_reference", "id": mine.output[0].id}, {"role": "user", "content": "?"}]
            ),
        )
        for attempt in attempts:
            with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as refused:
                await attempt()
            assert "secret" not in str(refused.value)
        assert (await sdk.responses.retrieve(mine.id)).output_text == "secret"


async def test_a_client_that_leaves_ends_its_response_and_errors_leave_nothing() -> None:
    script = [ScriptedError(429, "secret"), ScriptedError(429, "secret"), Fault(stall=3)]
    async with (
        ProviderServer(script) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        for streamed in (False, True):
            with pytest.raises(openai.RateLimitError) as limited:
                await sdk.responses.create(model="m", input="Hi", stream=streamed)
            assert "secret" not in str(limited.value)
        assert (await manager.scoped("ann").list()).items == ()
        stream = await sdk.responses.create(model="m", input="Hi", stream=True)
        name = (await anext(aiter(stream))).response.id
        await stream.close()
        with anyio.fail_after(PATIENCE):
            await provider.wait_closed()
            while (left := await sdk.responses.retrieve(name)).status == "in_progress":
                await anyio.lowlevel.checkpoint()
        assert left.status == "failed"
        assert provider.closed[-1].by == "client"


async def test_without_a_journal_background_is_refused_in_words() -> None:
    async with (
        ProviderServer([Answer(text="Hi")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}, journal=None) as (url, _),
        sdk_at(url) as sdk,
    ):
        with pytest.raises(openai.BadRequestError, match="no journal"):
            await sdk.responses.create(model="m", input="Hi", background=True)
        kept = await sdk.responses.create(model="m", input="Hi")
        assert (await sdk.responses.retrieve(kept.id)).output_text == "Hi"
        with pytest.raises(openai.BadRequestError, match="no journal"):
            await sdk.responses.retrieve(kept.id, stream=True)


async def test_a_response_whose_events_are_gone_ends_with_the_whole_answer_and_repeats_no_word() -> None:
    async with (
        ProviderServer([Answer(text="one two three")]) as provider,
        front({"m": endpoint_at(provider, Dialect.OPENAI_RESPONSES)}, journal=Journal(keep=0.0)) as (url, _),
        sdk_at(url) as sdk,
    ):
        first = [event async for event in await sdk.responses.create(model="m", input="Hi", stream=True)]
        name, last = first[0].response.id, first[-1]
        replay = [event async for event in await sdk.responses.retrieve(name, stream=True)]
        assert replay[-1].response.output_text == "one two three"
        behind = [event async for event in await sdk.responses.retrieve(name, stream=True, starting_after=5)]
        assert [event.type for event in behind] == ["response.completed"]
        assert behind[0].sequence_number > 5
        assert behind[0].response.to_dict() == last.response.to_dict()
