"""Fan-outs of turns: every target adds a sibling node to the conversation and the store."""

from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest

from dhenara_async import (
    Budget,
    Conversation,
    ConversationManager,
    ConversationNode,
    Dialect,
    Failover,
    Outcome,
    StreamEvent,
    TextDelta,
)
from dhenara_async.errors import AuthenticationError, ConfigurationError, StreamStateError
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.testing.grammar import check_grammar
from tests.fanout.test_fan_out import GroupingServer, expected_text, repeat_question
from tests.loopback import (
    PATIENCE,
    SPEAKERS,
    Connection,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunked,
    endpoint_at,
    head,
    once,
    serve,
    stalling,
)

DIALECTS = list(SPEAKERS)


async def kept(manager: ConversationManager, conversation: Conversation) -> dict[str, ConversationNode]:
    """Return the nodes in the store."""
    return {node.id: node for node in (await manager.store.load(conversation.id)).nodes}


def ids(nodes: Iterable[ConversationNode]) -> set[str]:
    return {node.id for node in nodes}


async def test_every_target_adds_a_sibling_node() -> None:
    events: dict[int, list[StreamEvent]] = {}
    async with ProviderServer(repeat_question) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoints = [endpoint_at(server, dialect) for dialect in DIALECTS]
        before = await manager.ask(conversation, "First", endpoints[0])
        async with manager.fan_out(conversation, "Why?", endpoints, instructions=["Be brief."]) as fan:
            with pytest.raises(StreamStateError, match="have not ended"):
                _ = fan.nodes
            async for tagged in fan:
                events.setdefault(tagged.index, []).append(tagged.event)
        assert await kept(manager, conversation) == {node.id: node for node in (before, *fan.nodes)}
        assert [len(seen.turns) for seen in server.requests] == [1, 3, 3, 3, 3]
    for each in events.values():
        check_grammar(each)
    assert sorted(events) == [0, 1, 2, 3]
    assert [node.origin.dialect for node in fan.nodes if node.origin is not None] == DIALECTS
    assert {(node.parent_id, node.status, node.user_query) for node in fan.nodes} == {(before.id, "complete", "Why?")}
    assert {node.instructions for node in fan.nodes} == {("Be brief.",)}
    assert ids(conversation.siblings(fan.nodes[0].id)) == ids(fan.nodes)
    assert [node.response.text() for node in fan.nodes if node.response is not None] == [expected_text("Why?")] * 4
    assert [result.unwrap().chat_response for result in fan.results] == [node.response for node in fan.nodes]
    assert conversation.head == fan.nodes[0]


async def test_the_first_target_becomes_the_head_whichever_ends_first() -> None:
    go = anyio.Event()

    async def slow_host(connection: Connection) -> None:
        if await connection.request() is not None:
            await go.wait()
            await connection.send(chunked(*chat_stream("Slow.")))

    async with serve(slow_host) as slow, ProviderServer(repeat_question) as quick, ConversationManager() as manager:
        conversation = await manager.create()
        endpoints = [chat_endpoint(slow.url), endpoint_at(quick, Dialect.GEMINI), chat_endpoint(slow.url)]
        async with manager.fan_out(conversation, "a", endpoints) as fan:
            while batch := await fan.batch():
                if batch.outcome is not None and batch.index == 1:
                    assert conversation.head is not None
                    go.set()
        assert conversation.nodes[0] == fan.nodes[1]
        assert conversation.head == fan.nodes[0]
        further = await manager.ask(conversation, "b", endpoints[1])
        assert further.parent_id == fan.nodes[0].id


async def test_turns_stay_siblings_under_a_concurrency_limit() -> None:
    async with ProviderServer(repeat_question) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        nodes = await manager.fan_out(conversation, "a", [endpoint] * 3, limit=1)
        assert [len(seen.turns) for seen in server.requests] == [1, 1, 1]
    assert [node.parent_id for node in nodes] == [None] * 3
    assert len({node.id for node in nodes}) == 3


async def test_complete_interrupted_and_failed_turns_add_a_node() -> None:
    async with (
        serve(once(head(), chat_delta("Half an"))) as cut,
        serve(stalling(head(), chat_delta("One"))) as silent,
        ProviderServer(repeat_question) as good,
        ProviderServer(repeat_question, api_key="another") as closed,
        ConversationManager() as manager,
    ):
        conversation = await manager.create()
        refused = endpoint_at(closed, Dialect.GEMINI)
        wrong_key = refused.model_copy(update={"api": refused.api.model_copy(update={"api_key": None})})
        endpoints = [
            chat_endpoint(cut.url),
            chat_endpoint(silent.url),
            Failover([wrong_key]),
            endpoint_at(good, Dialect.OPENAI_CHAT),
        ]
        async with manager.fan_out(conversation, "a", endpoints) as fan:
            async for tagged in fan:
                if tagged.index == 1 and isinstance(tagged.event, TextDelta):
                    fan.cancel(1)
        with anyio.fail_after(PATIENCE):
            await silent.wait_hung_up()
        assert await kept(manager, conversation) == {node.id: node for node in fan.nodes}
    half, one, failed, whole = fan.nodes
    assert [node.status for node in fan.nodes] == ["interrupted", "interrupted", "failed", "complete"]
    assert [node.response.text() for node in (half, one, whole) if node.response] == [
        "Half an",
        "One",
        expected_text("a"),
    ]
    assert [result.cancelled for result in fan.results] == [False, True, False, False]
    assert failed.response is None
    assert failed.error is not None
    assert conversation.head == half
    assert ids(conversation.children(None)) == ids(fan.nodes)


async def test_a_target_that_cannot_be_called_adds_a_failed_node() -> None:
    async with ProviderServer(repeat_question) as server, ConversationManager(budget=Budget(tokens=100_000)) as manager:
        conversation = await manager.create()
        good = endpoint_at(server, Dialect.OPENAI_CHAT)
        keyless = good.model_copy(update={"api": good.api.model_copy(update={"api_key": None})})
        nodes = await manager.fan_out(conversation, "a", [keyless, good])
        assert await kept(manager, conversation) == {node.id: node for node in nodes}
    assert [(node.status, node.attempts) for node in nodes] == [("failed", 0), ("complete", 1)]
    assert (nodes[0].error or "").startswith("ConfigurationError")
    assert conversation.head == nodes[1]


async def test_leaving_the_block_early_adds_a_node_for_every_target() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server, ConversationManager() as manager:
        conversation = await manager.create()
        fan = manager.fan_out(conversation, "stay", [chat_endpoint(server.url)] * 3, limit=2)
        with pytest.raises(ZeroDivisionError):
            async with fan:
                heard: set[int] = set()
                async for tagged in fan:
                    heard |= {tagged.index} if isinstance(tagged.event, TextDelta) else set()
                    if len(heard) == 2:
                        raise ZeroDivisionError
        await grouping.wait_closed_early(2)
        assert await kept(manager, conversation) == {node.id: node for node in fan.nodes}
    assert [node.status for node in fan.nodes] == ["interrupted", "interrupted", "failed"]
    assert [node.response is None for node in fan.nodes] == [False, False, True]
    assert conversation.head == fan.nodes[0]


async def test_cancellation_from_outside_stores_every_node() -> None:
    grouping = GroupingServer(group=1)
    async with serve(grouping.play) as server, ConversationManager() as manager:
        conversation = await manager.create()
        fan = manager.fan_out(conversation, "stay", [chat_endpoint(server.url)] * 3)
        with anyio.CancelScope() as scope:
            async with fan:
                async for tagged in fan:
                    if isinstance(tagged.event, TextDelta):
                        scope.cancel()
        await grouping.wait_closed_early(3)
        assert await kept(manager, conversation) == {node.id: node for node in fan.nodes}
    assert len(fan.nodes) == 3
    assert "interrupted" in {node.status for node in fan.nodes}


async def test_two_fan_outs_run_at_once_in_one_conversation() -> None:
    async with ProviderServer(repeat_question) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoints = [endpoint_at(server, dialect) for dialect in DIALECTS]
        root = await manager.ask(conversation, "root", endpoints[0])
        answers: list[tuple[ConversationNode, ...]] = []

        async def ask(query: str) -> None:
            answers.append(await manager.fan_out(conversation, query, endpoints))

        async with anyio.create_task_group() as tasks:
            for query in "abcde":
                tasks.start_soon(ask, query)
        nodes = [node for answer in answers for node in answer]
        assert len(await kept(manager, conversation)) == 21
    assert {node.parent_id for node in nodes} == {root.id}
    assert ids(conversation.children(root.id)) == ids(nodes)
    assert {node.response.text() for node in nodes if node.response} == {expected_text(query) for query in "abcde"}
    assert conversation.head in [answer[0] for answer in answers]


async def test_a_head_that_was_set_meanwhile_is_kept() -> None:
    async with ProviderServer(repeat_question) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        async with manager.fan_out(conversation, "a", [endpoint, endpoint]) as fan:
            await fan.collect()
            other = await manager.ask(conversation, "b", endpoint)
    assert conversation.head == other


async def test_invalid_arguments_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with ProviderServer([Answer("x")]) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        with pytest.raises(ConfigurationError, match="endpoints is empty"):
            manager.fan_out(conversation, "a", [])
        with pytest.raises(ConfigurationError, match="sequence of endpoints"):
            manager.fan_out(conversation, "a", endpoint)  # type: ignore[arg-type] - that is the point
        with pytest.raises(ConfigurationError, match="nothing to ask"):
            manager.fan_out(conversation, " ", [endpoint])
        with pytest.raises(ConfigurationError):
            manager.fan_out(conversation, "a", [endpoint], files=[tmp_path / "none.png"])
    assert conversation.nodes == ()


async def test_an_error_response_is_the_outcome_of_its_turn() -> None:
    async with ProviderServer(repeat_question) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        async with manager.fan_out(conversation, "bad", [endpoint]) as fan:
            ends: list[Outcome | None] = []
            while batch := await fan.batch():
                ends.append(batch.outcome)
    assert isinstance(fan.results[0].error, AuthenticationError)
    assert ends == fan.results
    assert conversation.head is None
