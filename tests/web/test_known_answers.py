"""What the OpenAI-compatible front keeps of its answers, and what it recognises when a client sends it back."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.lowlevel
import orjson
import pytest

from dhenara_async import ConversationManager, ConversationNode, Dialect, Failover
from dhenara_async.conversation import Conversation
from dhenara_async.errors import StoreError
from dhenara_async.messages.messages import FilePart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.stores import ConversationStore, MemoryStore
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedToolCall
from dhenara_async.testing.script import Script
from dhenara_async.web.openai import known_answers
from dhenara_async.web.openai.known_answers import SINGLE_ANSWERS, KnownAnswers
from dhenara_async.web.openai.sent_history import SOURCE
from tests.loopback import PATIENCE, endpoint_at
from tests.web.front_worker import front_on

openai = pytest.importorskip("openai", reason="the openai SDK is not installed: pip install openai")

SIGNATURE = "c2lnbmVkIGJ5IGNsYXVkZQ=="
SIGNED = Answer(text="Four.", reasoning="2 + 2 is 4", signature=SIGNATURE)
ADD: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@dataclass
class Front:
    """A front with the models ``claude``, ``gemini``, ``gpt`` and ``safe``, and what their provider was sent.

    Attributes:
        sdk: The openai SDK, as the owner ``ann``.
        mine: The manager, as ann sees it.
        provider: The provider of all models.
    """

    sdk: Any
    mine: ConversationManager
    provider: ProviderServer

    async def ask(self, messages: Sequence[object], model: str = "claude", **options: Any) -> str:
        """Ask by a stream and return the words of the answer."""
        stream = await self.sdk.chat.completions.create(model=model, messages=messages, stream=True, **options)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def path(self, place: int = 0) -> tuple[ConversationNode, ...]:
        """The path of a conversation; 0 is the newest one."""
        return (await self.mine.open((await self.mine.list()).items[place].id)).path()

    def sent(self) -> str:
        """What the provider was sent last."""
        return str(orjson.loads(self.provider.requests[-1].body))


@asynccontextmanager
async def front(
    script: Script, store: ConversationStore | None = None, *, keep: bool | None = True
) -> AsyncGenerator[Front]:
    async with ProviderServer(script) as provider:
        dialects = {"claude": Dialect.ANTHROPIC_MESSAGES, "gemini": Dialect.GEMINI, "gpt": Dialect.OPENAI_CHAT}
        models = {name: endpoint_at(provider, dialect) for name, dialect in dialects.items()}
        safe = Failover([models["gpt"], models["claude"]])
        async with (
            front_on(store, {**models, "safe": safe}, keep=keep) as (url, manager),
            openai.AsyncOpenAI(base_url=url, api_key="ann", max_retries=0) as sdk,
        ):
            yield Front(sdk, manager.scoped("ann"), provider)


def user(words: object) -> dict[str, object]:
    return {"role": "user", "content": words}


def answer(words: str | None, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": words, **fields}


async def test_ways_to_go_on_are_branches_of_one_conversation() -> None:
    async with front([SIGNED, SIGNED, Answer(text="4"), Answer(text="Yes."), Answer(text="No."), SIGNED]) as chat:
        asked = [{"role": "system", "content": "Be brief."}, user("2 + 2?")]
        for words in ("Four.", "Four.", "4"):  # the second one is the same answer again, the third one is another
            assert await chat.ask(asked) == words
        for question in ("Sure?", "Is it?"):
            await chat.ask([*asked, answer("Four."), user(question)])
        (listed,) = (await chat.mine.list()).items
        conversation = await chat.mine.open(listed.id)
        await chat.mine.ask(conversation, "Thanks", endpoint_at(chat.provider, Dialect.ANTHROPIC_MESSAGES))
        assert SIGNATURE in chat.sent()  # the app itself can go on from there
        first, other = conversation.children(None)
        followers = conversation.children(first.id)
    assert (listed.title, listed.metadata) == ("2 + 2?", SOURCE)
    assert [node.answer.text() for node in (first, other)] == ["Four.", "4"]
    assert [(node.user_query, node.answer.text()) for node in followers] == [("Sure?", "Yes."), ("Is it?", "No.")]
    assert (first.instructions, first.metadata) == (("Be brief.",), {**SOURCE, "model": "claude"})


async def test_from_an_edited_answer_on_a_history_is_taken_as_it_is_and_the_rest_stays_native() -> None:
    async with front([SIGNED, replace(SIGNED, text="Yes."), *[Answer(text="Ok.")] * 3]) as chat:
        talk = [user("2 + 2?"), answer("Four."), user("Sure?")]
        await chat.ask(talk[:1])
        await chat.ask(talk)
        talk += [answer("Edited."), user("Really?")]
        await chat.ask(talk)
        assert chat.sent().count(SIGNATURE) == 1
        assert "Edited." in chat.sent()
        await chat.ask([*talk, answer("Ok."), user("Well?")])
        assert [node.user_query for node in await chat.path()] == ["2 + 2?", "Really?", "Well?"]
        await chat.ask([user("3 + 3?"), answer("Four."), user("Sure?")])
        assert SIGNATURE not in chat.sent()


@pytest.mark.parametrize("keep", [True, False])
async def test_another_owner_is_not_recognised(keep: bool) -> None:
    async with front([SIGNED, Answer(text="Yes.")], keep=keep) as chat:
        await chat.ask([user("2 + 2?")])
        chat.sdk = chat.sdk.with_options(api_key="bob")
        await chat.ask([user("2 + 2?"), answer("Four."), user("Sure?")])
        assert SIGNATURE not in chat.sent()
        assert len((await chat.mine.list()).items) == keep


async def test_plain_single_answers_stand_together_until_a_client_goes_on_from_one() -> None:
    async with front([Answer(text="A title"), Answer(text="tags"), SIGNED, Answer(text="Yes.")]) as chat:
        for question in ("Write a title.", "Write tags.", "2 + 2?"):
            await chat.sdk.chat.completions.create(model="claude", messages=[user(question)])
        assert [item.title for item in (await chat.mine.list()).items] == [SINGLE_ANSWERS]
        await chat.ask([user("2 + 2?"), answer("Four."), user("Sure?")])
        assert SIGNATURE in chat.sent()
        assert [item.title for item in (await chat.mine.list()).items] == ["2 + 2?", SINGLE_ANSWERS]
        assert [node.answer.text() for node in await chat.path()] == ["Four.", "Yes."]


@pytest.mark.parametrize("streamed", [True, False])
async def test_calls_without_ids_of_their_provider_keep_their_signatures(streamed: bool) -> None:
    calls = (ScriptedToolCall("", "add", '{"a": 1}'), ScriptedToolCall("", "add", '{"a": 2}'))
    async with front([replace(SIGNED, text="", tool_calls=calls), Answer(text="3 and 4")]) as chat:
        asked: dict[str, Any] = {"model": "gemini", "messages": [user("Add")], "tools": [ADD]}
        if streamed:
            async with chat.sdk.chat.completions.stream(**asked) as stream:
                message = (await stream.get_final_completion()).choices[0].message
        else:
            message = (await chat.sdk.chat.completions.create(**asked)).choices[0].message
        told = [call.model_dump(include={"id", "type", "function"}) for call in message.tool_calls]
        assert len({call["id"] for call in told}) == 2
        for call in told:  # a client may write the arguments anew
            call["function"] = {"name": "add", "arguments": call["function"]["arguments"].replace(" ", "")}
        results = [{"role": "tool", "tool_call_id": call["id"], "content": str(at)} for at, call in enumerate(told, 3)]
        await chat.ask([user("Add"), answer(None, tool_calls=told), *reversed(results)], "gemini", tools=[ADD])
        contents = orjson.loads(chat.provider.requests[-1].body)["contents"]
        assert SIGNATURE in str(contents[1])
        said = [part["functionResponse"]["response"] for part in contents[2]["parts"]]
        assert [list(result.values()) for result in said] == [["3"], ["4"]]
        assert [result.call_id for result in (await chat.path())[-1].tool_results] == ["", ""]


async def test_a_cut_answer_is_kept_as_far_as_it_came() -> None:
    async with front([Fault(answer=Answer(text="one two three"), cut=700), Answer(text="four")]) as chat:
        words: list[str] = []
        stream = await chat.sdk.chat.completions.create(model="gpt", messages=[user("Count")], stream=True)
        with pytest.raises(openai.APIError):
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content or "")
        await chat.ask([user("Count"), answer("".join(words)), user("Go on")], "gpt")
        first, second = await chat.path()
    assert (first.status, first.answer.text(), second.status) == ("interrupted", "".join(words), "complete")


async def test_what_a_client_has_read_before_it_stopped_is_kept() -> None:
    script = [Fault(answer=Answer(text="one two three"), stall=3), Answer(text="four")]
    async with front(script) as chat:
        stream = await chat.sdk.chat.completions.create(model="gpt", messages=[user("Count")], stream=True)
        words = ""
        with anyio.fail_after(PATIENCE):
            async for chunk in stream:
                words += chunk.choices[0].delta.content or ""
                if words.endswith("two"):
                    break
            await stream.close()
            await chat.provider.wait_closed()
            while not (await chat.mine.list()).items:
                await anyio.lowlevel.checkpoint()
        assert chat.provider.closed[0].by == "client"
        await chat.ask([user("Count"), answer(words), user("Go on")], "gpt")
        first, second = await chat.path()
    assert (first.status, first.error) == ("interrupted", "the reader left before the end")
    assert (first.answer.text(), second.status) == ("one two", "complete")


async def test_an_answer_that_was_begun_again_is_recognised_by_all_its_words() -> None:
    async with front([Fault(answer=Answer(text="one two three"), cut=700), SIGNED, Answer(text="Yes.")]) as chat:
        words = await chat.ask([user("2 + 2?")], "safe")
        assert words.startswith("one")
        await chat.ask([user("2 + 2?"), answer(words), user("Sure?")])
        assert SIGNATURE in chat.sent()


@pytest.mark.parametrize("keep", [False, None])
async def test_answers_are_remembered_in_memory_where_they_are_not_kept(keep: bool | None) -> None:
    async with front([SIGNED, Answer(text="Yes.")], keep=keep) as chat:
        await chat.ask([user("2 + 2?")])
        await chat.ask([user("2 + 2?"), answer("Four."), user("Sure?")])
        assert SIGNATURE in chat.sent()
        assert (await chat.mine.list()).items == ()


async def test_a_request_can_ask_that_its_answer_is_not_kept() -> None:
    async with front([SIGNED, Answer(text="Yes.")]) as chat:
        await chat.ask([user("2 + 2?")], store=False)
        assert (await chat.mine.list()).items == ()
        await chat.ask([user("2 + 2?"), answer("Four."), user("Sure?")])
        assert SIGNATURE in chat.sent()
        (node,) = await chat.path()
        assert node.user_query == "Sure?"


async def test_a_node_that_is_not_signed_is_kept_on_and_not_believed() -> None:
    script = [SIGNED, Answer(text="Yes."), SIGNED, Answer(text="Yes.")]
    first = [user("2 + 2?"), answer("Four."), user("Sure?")]
    second = [user("3 + 1?"), answer("Four."), user("Sure?")]
    store, sent = MemoryStore(), list[bool]()
    async with ProviderServer(script) as provider:
        models = {"claude": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}

        async def ask(url: str, messages: list[Any]) -> None:
            async with openai.AsyncOpenAI(base_url=url, api_key="ann", max_retries=0) as sdk:
                await sdk.chat.completions.create(model="claude", messages=messages)
            sent.append(SIGNATURE in str(orjson.loads(provider.requests[-1].body)))

        async with front_on(store, models, keep=True) as (url, _):
            await ask(url, first[:1])
        async with front_on(store, models, keep=True, signing_key=b"k" * 32) as (url, manager):
            await ask(url, first)
            await ask(url, second[:1])
            await ask(url, second)
            mine = manager.scoped("ann")
            paths = [(await mine.open(item.id)).path() for item in (await mine.list()).items]
    assert sent == [False, False, False, True]
    assert [len(path) for path in paths] == [2, 2, 1]


class Failing(MemoryStore):
    """A store that fails, or does not answer."""

    hangs = False

    def scoped(self, owner: str | None) -> "Failing":
        return self

    async def load(self, conversation_id: str) -> Conversation:
        if self.hangs:
            await anyio.sleep_forever()
        raise StoreError("the disk is full")

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        raise StoreError("the disk is full")


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_store_that_fails_costs_no_answer(
    hangs: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(known_answers, "_READ_SECONDS", 0.02)
    caplog.set_level(logging.WARNING, "dhenara_async")
    store = Failing()
    store.hangs = hangs
    async with front([SIGNED, Answer(text="Yes.")], store) as chat:
        assert await chat.ask([user("2 + 2?")]) == "Four."
        assert await chat.ask([user("2 + 2?"), answer("Four."), user("Sure?")]) == "Yes."
        assert SIGNATURE in chat.sent()  # remembered in memory
    kept, read = caplog.messages
    assert kept.startswith("answer ")
    assert kept.endswith("is only in memory: StoreError: the disk is full")
    assert read.endswith("TimeoutError" if hangs else "StoreError: the disk is full")


def test_the_memory_of_a_process_takes_no_large_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_answers, "_MOST", 2)
    answers = KnownAnswers(ConversationManager(), keep=False)
    for name, size in (("a", 1), ("b", 1), ("c", 1 << 19), ("d", 1)):
        choice = Choice(parts=(FilePart(media_type="text/plain", data=b"x" * size),), finish_reason=FinishReason.STOP)
        response = ChatResponse(choices=(choice,), model="m", provider="p")
        answers.remember(ConversationNode(id=name, response=response))
    assert [*answers._remembered] == ["b", "d"]  # pyright: ignore[reportPrivateUsage]
