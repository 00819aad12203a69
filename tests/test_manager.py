"""Turns leave nodes whatever happens to them, and a conversation is a tree that only grows."""

from collections.abc import Awaitable, Callable, Iterable

import anyio
import orjson
import pytest

from dhenara_async import (
    AIModelCallConfig,
    Conversation,
    ConversationManager,
    ConversationNode,
    Dialect,
    StreamEnd,
    TextDelta,
    Turn,
)
from dhenara_async.errors import (
    AuthenticationError,
    ConfigurationError,
    ProtocolError,
    StreamStateError,
    TruncatedStreamError,
    UnknownConversationError,
)
from dhenara_async.stores import MemoryStore
from dhenara_async.testing import Answer, ProviderServer, ReplayTransport, ScriptedError
from dhenara_async.testing.grammar import check_grammar
from tests.loopback import (
    ONCE,
    SPEAKERS,
    chat_body,
    chat_delta,
    chat_endpoint,
    endpoint_at,
    head,
    once,
    replies,
    serve,
    stalling,
    whole,
)

DIALECTS = list(SPEAKERS)


async def stored(manager: ConversationManager, conversation: Conversation) -> list[ConversationNode]:
    """What the store has of a conversation."""
    return list((await manager.store.load(conversation.id)).nodes)


# ---------------------------------------------------------------------------------------------------------- whole turns


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_turn(dialect: Dialect) -> None:
    async with ProviderServer([Answer(text="Fine, thanks.")]) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = endpoint_at(server, dialect)
        async with manager.turn(conversation, "How are you?", endpoint, instructions=["Be brief."]) as turn:
            with pytest.raises(StreamStateError, match="not over"):
                _ = turn.node
            events = [event async for event in turn]
            assert turn.response.text() == turn.partial.text() == "Fine, thanks."
            assert conversation.head is None
        check_grammar(events)
        node = turn.node
        assert conversation.head == node
        assert await stored(manager, conversation) == [node]
    assert (node.status, node.error, node.parent_id) == ("complete", None, None)
    assert (node.user_query, node.instructions) == ("How are you?", ("Be brief.",))
    assert node.response == turn.response.chat_response
    assert node.usage.source == "reported"
    assert node.origin is not None
    assert node.origin.dialect == dialect.value
    assert node.request_id == turn.response.request_id
    assert ConversationNode.model_validate_json(node.model_dump_json()) == node


async def test_every_dialect_in_one_conversation() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await manager.create()
        for dialect in (*DIALECTS, *reversed(DIALECTS)):
            node = await manager.ask(conversation, f"Hello, {dialect}.", endpoint_at(server, dialect))
            assert (node.status, conversation.head) == ("complete", node)
        assert [request.error for request in server.requests] == [None] * 8
        assert [len(request.turns) for request in server.requests] == list(range(1, 17, 2))
        reopened = await manager.open(conversation.id)
    assert reopened.path() == conversation.path()
    assert reopened.last_answer() == conversation.last_answer()
    assert reopened is not conversation


async def test_instructions_are_of_one_turn() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        for instructions in (["Be brief."], []):
            await manager.ask(conversation, "Hi.", endpoint, instructions=instructions)
        assert [request.system for request in server.requests] == ["Be brief.", ""]


async def test_connections_are_shared_between_turns() -> None:
    async with serve(replies(whole(b'{"choices": [{"message": {"content": "Hi."}}]}'))) as server:
        async with ConversationManager() as manager:
            conversation = await manager.create()
            for _ in range(3):
                await manager.ask(conversation, "Hi.", chat_endpoint(server.url))
            assert server.connections == 1
        await server.wait_hung_up()


async def test_a_scoped_manager_shares_the_block_of_its_manager_whenever_it_was_made() -> None:
    async with ProviderServer() as server:
        endpoint, manager = endpoint_at(server, Dialect.OPENAI_CHAT), ConversationManager()
        early = manager.scoped("early")
        async with manager:
            async with manager.scoped("inner") as inner:  # opens and closes nothing
                await inner.ask(await inner.create(), "Hi.", endpoint)
            for mine in (early, early, manager.scoped("late"), manager):
                node = await mine.ask(await mine.create(), "Hi.", endpoint)
                assert node.status == "complete"
    assert server.connections == 1


async def test_without_a_block_each_turn_brings_its_own_connection() -> None:
    async with ProviderServer() as server:
        manager = ConversationManager()
        conversation = await manager.create()
        node = await manager.ask(conversation, "Hi.", endpoint_at(server, Dialect.GEMINI))
    assert node.status == "complete"


async def test_the_config_of_the_manager_and_of_a_turn() -> None:
    async with (
        ProviderServer() as server,
        ConversationManager(config=AIModelCallConfig(max_output_tokens=7)) as manager,
    ):
        conversation = await manager.create()
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        await manager.ask(conversation, "Hi.", endpoint)
        await manager.ask(conversation, "Hi.", endpoint, config=AIModelCallConfig(max_output_tokens=8))
        limits = [orjson.loads(request.body)["max_tokens"] for request in server.requests]
    assert limits == [7, 8]


# --------------------------------------------------------------------------------------------------------- broken turns


async def _break_off(turn: Turn) -> None:
    async with turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                break


async def _raise(turn: Turn) -> None:
    with pytest.raises(KeyError):
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    raise KeyError("a secret of the reader")


async def _cancel(turn: Turn) -> None:
    with anyio.CancelScope() as scope:
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    scope.cancel()
    assert scope.cancelled_caught


async def _deadline(turn: Turn) -> None:
    with anyio.CancelScope() as scope:
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    scope.deadline = anyio.current_time()
    assert scope.cancelled_caught


_LEAVING = [
    (_break_off, "the reader left before the end"),
    (_raise, "KeyError"),
    (_cancel, "the reader left before the end"),
    (_deadline, "the reader left before the end"),
]


@pytest.mark.parametrize(("leave", "error"), _LEAVING)
async def test_a_turn_left_early_is_interrupted(leave: Callable[[Turn], Awaitable[None]], error: str) -> None:
    play = stalling(head(), chat_delta("Once upon"), chat_delta(" a time"))
    async with serve(play) as server, ProviderServer() as provider, ConversationManager() as manager:
        conversation = await manager.create()
        turn = manager.turn(conversation, "Tell.", chat_endpoint(server.url))
        await leave(turn)
        await server.wait_hung_up()
        node = turn.node
        assert (node.status, node.error) == ("interrupted", error)
        assert node.response is not None
        assert node.response.text() in {"Once upon", "Once upon a time"}
        assert node.usage.source != "reported"
        assert conversation.head == node
        assert await stored(manager, conversation) == [node]
        for dialect in DIALECTS:  # what came is history, for any other provider too
            following = await manager.ask(conversation, "Go on.", endpoint_at(provider, dialect))
            assert following.status == "complete"
        first = provider.requests[0].turns
        assert [role for role, _ in first] == ["user", "assistant", "user"]
        assert first[1][1] == node.response.text()
        assert len(await stored(manager, conversation)) == 1 + len(DIALECTS)


@pytest.mark.parametrize("fault", ["closing", "counting"])
async def test_a_second_fault_does_not_cost_the_node(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(*_: object) -> None:
        raise OSError("no")

    places = {"closing": "calls.stream.ResponseStream.aclose", "counting": "turns.turn.counted"}
    monkeypatch.setattr(f"dhenara_async.{places[fault]}", cancelled)
    transport = ReplayTransport(chat_body("One two."))
    async with ConversationManager(transport=transport) as manager:
        conversation = await manager.create()
        with pytest.raises(OSError, match="no"):
            await manager.ask(conversation, "Count.", chat_endpoint("http://127.0.0.1"))
        (node,) = conversation.nodes
        assert node.response is not None and node.response.text() == "One two."
        assert await stored(manager, conversation) == [node]


async def test_a_stream_cut_by_the_host_is_interrupted() -> None:
    async with serve(once(head(), chat_delta("Once"))) as server, ConversationManager() as manager:
        conversation = await manager.create()
        with pytest.raises(TruncatedStreamError):
            await manager.ask(
                conversation, "Tell.", chat_endpoint(server.url), config=AIModelCallConfig(streaming=True)
            )
        node = conversation.head
    assert node is not None
    assert node.status == "interrupted"
    assert (node.error or "").startswith("TruncatedStreamError: ")
    assert node.response is not None
    assert node.response.text() == "Once"


async def test_leaving_at_the_last_event_is_complete() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await manager.create()
        async with manager.turn(conversation, "Hi.", endpoint_at(server, Dialect.OPENAI_CHAT)) as turn:
            async for event in turn:
                if isinstance(event, StreamEnd):
                    break
    assert turn.node.status == "complete"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_refusal_is_a_failed_node_beside_the_path(dialect: Dialect) -> None:
    script = [Answer(text="One."), ScriptedError(401, "Unknown key."), Answer(text="Two.")]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        conversation = await manager.create()
        first = await manager.ask(conversation, "1?", endpoint_at(server, dialect))
        with pytest.raises(AuthenticationError, match=r"Unknown key\."):
            await manager.ask(conversation, "2?", endpoint_at(server, dialect))
        failed = conversation.nodes[-1]
        assert (failed.status, failed.response, failed.parent_id) == ("failed", None, first.id)
        assert (failed.error or "").startswith("AuthenticationError: ")
        assert conversation.head == first
        assert await stored(manager, conversation) == [first, failed]
        again = await manager.ask(conversation, "2?", endpoint_at(server, Dialect.OPENAI_CHAT))
        assert again.parent_id == first.id
        assert [text for _, text in server.requests[-1].turns] == ["1?", "One.", "2?"]
        assert (await manager.open(conversation.id)).head == again


async def test_a_failure_of_the_first_turn() -> None:
    async with (
        serve(replies(whole(b"<html>", 200, "text/html"))) as server,
        ConversationManager(config=ONCE) as manager,
    ):
        conversation = await manager.create()
        with pytest.raises(ProtocolError):
            await manager.ask(conversation, "Hi.", chat_endpoint(server.url))
        assert conversation.head is None
        assert [node.status for node in conversation.nodes] == ["failed"]
        with pytest.raises(StreamStateError, match="no answer yet"):
            conversation.last_answer()


async def test_a_turn_that_nobody_reads_is_failed() -> None:
    async with serve(stalling()) as server, ConversationManager() as manager:
        conversation = await manager.create()
        async with manager.turn(conversation, "Hi.", chat_endpoint(server.url)) as turn:
            pass
        assert server.connections == 0
    assert (turn.node.status, turn.node.error) == ("failed", "the reader left before the end")


async def test_turns_at_once_are_siblings_where_asked() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await manager.create()
        first = await manager.ask(conversation, "1?", endpoint_at(server, Dialect.GEMINI))

        async def ask(dialect: Dialect) -> None:
            await manager.turn(conversation, "2?", endpoint_at(server, dialect), beside=True)

        async with anyio.create_task_group() as tasks:
            for dialect in DIALECTS:
                tasks.start_soon(ask, dialect)
        children = [node for node in conversation.nodes if node.parent_id == first.id]
        assert [child.status for child in children] == ["complete"] * len(DIALECTS)
        assert conversation.head in children
        assert len(await stored(manager, conversation)) == 1 + len(DIALECTS)


async def test_a_store_of_ones_own_outlives_the_manager() -> None:
    store = MemoryStore()
    async with ProviderServer() as server, ConversationManager(store=store) as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "Hi.", endpoint_at(server, Dialect.GEMINI))
    reopened = await ConversationManager(store=store).open(conversation.id)
    assert list(reopened.nodes) == [node]


async def test_an_unknown_conversation() -> None:
    with pytest.raises(UnknownConversationError, match="'nobody'") as caught:
        await ConversationManager().open("nobody")
    assert isinstance(caught.value, LookupError)


async def test_an_empty_conversation_can_be_opened_again() -> None:
    manager = ConversationManager()
    conversation = await manager.create()
    assert list((await manager.open(conversation.id)).nodes) == []


async def test_nothing_is_kept_of_a_turn_that_cannot_be_made() -> None:
    manager = ConversationManager()
    conversation = await manager.create()
    with pytest.raises(ConfigurationError):
        manager.turn(conversation, "", chat_endpoint("http://127.0.0.1:1"))
    assert list(conversation.nodes) == []


# ------------------------------------------------------------------------------------------------------------- the tree


def grown() -> Conversation:
    """root ─ a ─ b, and c beside b."""
    return Conversation(
        nodes=[
            ConversationNode(id="root", user_query="0"),
            ConversationNode(id="a", parent_id="root"),
            ConversationNode(id="b", parent_id="a"),
            ConversationNode(id="c", parent_id="a"),
        ]
    )


def ids(nodes: Iterable[ConversationNode]) -> list[str]:
    return [node.id for node in nodes]


def test_the_tree() -> None:
    tree = grown()
    assert ids(tree.nodes) == ["root", "a", "b", "c"]
    assert ids(tree.path()) == ["root", "a", "c"]
    assert tree.head == tree.nodes[-1]
    assert "nodes=4" in repr(tree)


def test_checkout_branches() -> None:
    tree = grown()
    tree.checkout("b")
    assert ids(tree.path()) == ["root", "a", "b"]
    tree.checkout("root")
    tree.append(ConversationNode(id="d", parent_id="root"))
    assert ids(tree.path()) == ["root", "d"]
    assert ids(tree.nodes) == ["root", "a", "b", "c", "d"]


def test_a_failed_node_is_kept_and_not_followed() -> None:
    tree = grown()
    tree.append(ConversationNode(id="d", parent_id="c", status="failed"))
    assert ids(tree.path()) == ["root", "a", "c"]
    assert ids(tree.nodes)[-1] == "d"


def test_nothing_is_overwritten() -> None:
    tree = grown()
    with pytest.raises(ValueError, match="'a'"):
        tree.append(ConversationNode(id="a", parent_id="root", user_query="other"))
    with pytest.raises(ValueError, match="'nobody'"):
        tree.append(ConversationNode(id="d", parent_id="nobody"))
    with pytest.raises(ValueError, match="'nobody'"):
        tree.checkout("nobody")
    assert ids(tree.nodes) == ["root", "a", "b", "c"]
    assert ids(tree.path()) == ["root", "a", "c"]


def test_a_tree_from_nodes() -> None:
    nodes = grown().nodes
    assert ids(Conversation(nodes=nodes, head="b").path()) == ["root", "a", "b"]
    with pytest.raises(ValueError, match="not in this conversation"):
        Conversation(nodes=list(nodes)[1:])
    with pytest.raises(ValueError, match="'nobody'"):
        Conversation(nodes=nodes, head="nobody")
    assert Conversation().head is None
    assert Conversation().path() == ()
    assert Conversation().id != Conversation().id
