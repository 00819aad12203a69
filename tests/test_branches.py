"""Turns can be awaited, asked again and edited; heads are chosen and kept; clients share a manager's budget."""

import pytest

from dhenara_async import Conversation, ConversationManager, ConversationNode, Dialect
from dhenara_async.errors import APIError, BudgetError, ConfigurationError, StreamStateError
from dhenara_async.testing import Answer, ProviderServer, ScriptedError
from dhenara_async.usage.budget import Budget
from tests.loopback import endpoint_at


async def test_a_turn_can_be_awaited_for_its_node() -> None:
    async with (
        ProviderServer([Answer(text="Fine."), ScriptedError(400, "no")]) as server,
        ConversationManager() as manager,
    ):
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.OPENAI_CHAT)
        node = await manager.turn(conversation, "How are you?", endpoint)
        assert node.answer.text() == "Fine."
        assert conversation.head == node
        with pytest.raises(APIError):
            await manager.turn(conversation, "And now?", endpoint)
        assert [node.status for node in conversation.nodes] == ["complete", "failed"]
        with pytest.raises(StreamStateError, match="its turn failed: "):
            _ = conversation.nodes[-1].answer


def test_a_node_made_by_hand_has_no_answer() -> None:
    with pytest.raises(StreamStateError, match="made without a response"):
        _ = ConversationNode(user_query="Hi.").answer


async def test_the_text_of_a_turn_and_of_a_stream() -> None:
    answers = [Answer(text="A red fox."), Answer(text="A red fox.")]
    async with ProviderServer(answers) as server, ConversationManager() as manager:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        async with manager.turn(await manager.create(), "What?", endpoint) as turn:
            words = [word async for word in turn.text()]
        async with manager.client(endpoint).stream("What?") as stream:
            again = [word async for word in stream.text()]
    assert "".join(words) == "".join(again) == turn.node.answer.text() == "A red fox."
    assert len(words) > 1


async def test_regenerate_makes_a_sibling_and_edit_a_branch() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await manager.create()
        gpt, claude = endpoint_at(server, Dialect.OPENAI_CHAT), endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        first = await manager.turn(
            conversation, "One?", gpt, instructions=["Be brief."], files=[b"\x89PNG\r\n\x1a\npixels"]
        )
        second = await manager.turn(conversation, "Two?", gpt)
        again = await manager.regenerate(conversation, first.id, claude)
        assert (again.parent_id, again.user_query, again.instructions) == (None, "One?", ("Be brief.",))
        assert again.attached_files == first.attached_files
        assert again.origin is not None
        assert again.origin.dialect == Dialect.ANTHROPIC_MESSAGES.value
        assert conversation.siblings(first.id) == (first, again)
        async with manager.edit(conversation, second.id, "Three?", claude) as turn:
            await turn.collect()
        assert (turn.node.parent_id, turn.node.user_query) == (first.id, "Three?")
        assert conversation.path() == (first, turn.node)
        assert [request.error for request in server.requests] == [None] * 4
        assert [len(request.turns) for request in server.requests] == [1, 3, 1, 3]
        assert (await manager.open(conversation.id)).path() == conversation.path()
        with pytest.raises(ConfigurationError, match="no turn 'x'"):
            manager.regenerate(conversation, "x", gpt)


async def test_a_head_that_was_chosen_is_kept() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation, endpoint = await manager.create(), endpoint_at(server, Dialect.GEMINI)
        a, b = await manager.fan_out(conversation, "Which?", [endpoint, endpoint])
        for node in (b, a):
            await manager.choose(conversation, node.id)
            assert conversation.head == node
            assert (await manager.open(conversation.id)).head == node
        await manager.checkout(conversation, b.id)
        assert (await manager.open(conversation.id)).head == b
        with pytest.raises(ConfigurationError, match="no turn 'x'"):
            await manager.checkout(conversation, "x")
        conversation.append(ConversationNode(id="f", status="failed"))
        with pytest.raises(ConfigurationError, match="failed"):
            await manager.choose(conversation, "f")
        assert conversation.head == b


async def test_a_client_of_a_manager_spends_its_budget() -> None:
    async with ProviderServer() as server, ConversationManager(budget=Budget(tokens=60)) as manager:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        await manager.client(endpoint).generate("Hi.")
        with pytest.raises(BudgetError):
            for _ in range(60):
                await manager.client(endpoint).generate("Hi.")
        sent = len(server.requests)
        with pytest.raises(BudgetError):
            await manager.turn(Conversation(), "Hi.", endpoint)
        assert 0 < sent == len(server.requests)
