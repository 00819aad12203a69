"""``/v1/responses`` while answers are on their way: branches at once, cancellation, slow providers, typed answers."""

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
from pydantic import BaseModel

from dhenara_async import ConversationManager, Dialect
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.web.openai.responses.ids import TurnPlace, response_id
from tests.loopback import PATIENCE, endpoint_at
from tests.web.openai_clients import front, sdk_at


class Number(BaseModel):
    """The answer of a typed call."""

    n: int


async def running_in(manager: ConversationManager) -> str:
    """The id of the response that is being answered for ann."""
    mine = manager.scoped("ann")
    with anyio.fail_after(PATIENCE):
        while True:
            for item in (await mine.list()).items:
                for draft in await mine.running(item.id):
                    return response_id(TurnPlace(conversation=item.id, node=draft.id))
            await anyio.lowlevel.checkpoint()


async def test_a_plain_response_that_is_cancelled_elsewhere_says_so() -> None:
    async with (
        ProviderServer([Fault(stall=3)]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as (url, manager),
        sdk_at(url) as sdk,
    ):

        async def cancelled() -> Any:
            return await sdk.responses.cancel(await running_in(manager))

        async def plain() -> Any:
            return await sdk.responses.create(model="m", input="Hi")

        answer, seen = await asyncio.gather(plain(), cancelled())
        assert (answer.id, answer.status) == (seen.id, "cancelled")


async def test_a_background_response_does_not_wait_for_its_provider() -> None:
    async with (
        ProviderServer([Fault(stall="head")]) as provider,
        front({"m": endpoint_at(provider, Dialect.GEMINI)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        with anyio.fail_after(PATIENCE):
            begun = await sdk.responses.create(model="m", input="Hi", background=True)
            stream = await sdk.responses.retrieve(begun.id, stream=True)
            assert (await anext(aiter(stream))).type == "response.created"
            await stream.close()
            await sdk.responses.delete(begun.id)
            await provider.wait_closed()


async def test_branches_of_one_response_are_answered_at_once() -> None:
    async with (
        ProviderServer([Answer(text="One"), *[Answer(text="Two")] * 3]) as provider,
        front({"m": endpoint_at(provider, Dialect.OPENAI_CHAT)}) as (url, manager),
        sdk_at(url) as sdk,
    ):
        first = await sdk.responses.create(model="m", input="One?")
        asked: list[Any] = [
            sdk.responses.create(model="m", input=f"Two {number}?", previous_response_id=first.id)
            for number in range(3)
        ]
        answers: list[Any] = await asyncio.gather(*asked)
        tree = await manager.scoped("ann").open(first.conversation.id)
        root = tree.nodes[0]
        assert [node.parent_id for node in tree.nodes] == [None, root.id, root.id, root.id]
        assert {answer.output_text for answer in answers} == {"Two"}


async def test_the_sdk_reads_a_typed_answer() -> None:
    async with (
        ProviderServer([Answer(text='{"n":4}')]) as provider,
        front({"m": endpoint_at(provider, Dialect.OPENAI_RESPONSES)}) as (url, _),
        sdk_at(url) as sdk,
    ):
        parsed = await sdk.responses.parse(model="m", input="2 + 2?", text_format=Number)
        assert parsed.output_parsed == Number(n=4)
