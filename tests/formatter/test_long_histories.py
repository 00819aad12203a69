"""Turns after long histories: each message of the history is formatted once, in a thread."""

import threading

import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelEndpoint,
    Budget,
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversationPolicy,
    ConversionPolicy,
    Failover,
    Race,
    Router,
)
from dhenara_async.errors import StreamStateError, UnsupportedError
from dhenara_async.formatter.hop import Fold
from dhenara_async.messages.messages import FilePart, Message, Origin, TextPart
from dhenara_async.plans.targets import Target
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.stores import ConversationStore
from dhenara_async.turns.opener import LONG_TURNS
from tests.loopback import chat_endpoint

REHEARSAL = AIModelCallConfig(test_mode=True)
FILM = FilePart(media_type="video/mp4", data=b"film")
ANSWERED = 2  # messages of a turn


class Added:
    """Counts of formatted messages: on the loop and in other threads."""

    def __init__(self) -> None:
        self.by_loop = self.elsewhere = 0
        self._loop = threading.get_ident()

    def count(self) -> None:
        if threading.get_ident() == self._loop:
            self.by_loop += 1
        else:
            self.elsewhere += 1


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Added:
    counts, add = Added(), Fold.add

    def counted(self: Fold, message: Message) -> None:
        counts.count()
        add(self, message)

    monkeypatch.setattr(Fold, "add", counted)
    return counts


async def long_ago(store: ConversationStore, turns: int) -> Conversation:
    conversation = Conversation()
    await store.create(conversation.id)
    origin = Origin(provider="anthropic", dialect="anthropic_messages", endpoint="a.test", account="a", model="m")
    for number in range(turns):
        head = conversation.head
        said = (TextPart(text=f"Answer {number}."),)
        answer = ChatResponse(
            model="m", provider="anthropic", choices=(Choice(parts=said, finish_reason=FinishReason.STOP),)
        )
        node = ConversationNode(
            parent_id=None if head is None else head.id,
            user_query=f"Question {number}?",
            response=answer,
            origin=origin,
        )
        conversation.append(node)
        await store.append(conversation.id, node)
    return conversation


def elsewhere(number: int) -> AIModelEndpoint:
    return chat_endpoint(f"http://127.0.0.1:{number + 1}")


async def test_a_long_history_is_formatted_in_a_thread_and_the_question_on_the_loop(added: Added) -> None:
    async with ConversationManager(config=REHEARSAL) as manager:
        conversation = await long_ago(manager.store, LONG_TURNS)
        node = await manager.ask(conversation, "And now?", elsewhere(0))
        assert node.status == "complete"
        assert added.by_loop == 1
        assert added.elsewhere == ANSWERED * LONG_TURNS + 1
        await manager.ask(conversation, "And then?", elsewhere(0))
    assert added.by_loop == 2
    assert added.elsewhere == ANSWERED * LONG_TURNS + 1 + ANSWERED + 1  # the new turn


async def test_a_short_history_is_formatted_on_the_loop(added: Added) -> None:
    async with ConversationManager(config=REHEARSAL) as manager:
        conversation = await long_ago(manager.store, LONG_TURNS - 1)
        turn = manager.turn(conversation, "And now?", elsewhere(0))
        assert added.by_loop == ANSWERED * (LONG_TURNS - 1) + 1
        async with turn:
            await turn.collect()
    assert added.elsewhere == 0


@pytest.mark.parametrize(
    ("plan", "formatted"),
    [
        (Failover([elsewhere(0), elsewhere(1)]), 1),
        (Race([elsewhere(0), elsewhere(1)]), 2),
        (Router(strengths={"anything": elsewhere(0)}), 0),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_plan_formats_a_long_history_in_a_thread_for_its_first_targets(
    plan: Target, formatted: int, added: Added
) -> None:
    async with ConversationManager(config=REHEARSAL) as manager:
        conversation = await long_ago(manager.store, LONG_TURNS)
        node = await manager.ask(conversation, "And now?", plan)
    assert node.status == "complete"
    assert added.elsewhere == formatted * (ANSWERED * LONG_TURNS + 1)


async def test_a_budget_estimate_formats_only_the_question_on_the_loop(added: Added) -> None:
    async with ConversationManager(config=REHEARSAL, budget=Budget(tokens=10**6)) as manager:
        conversation = await long_ago(manager.store, LONG_TURNS)
        node = await manager.ask(conversation, "And now?", elsewhere(0))
    assert node.status == "complete"
    assert added.by_loop == 2  # the question: once for the estimate and once for the request


async def test_a_window_is_applied_before_a_long_history_is_formatted(added: Added) -> None:
    window = ConversationPolicy(keep_turns=3, summarise=lambda trimmed: f"{len(trimmed)} turns")
    async with ConversationManager(config=REHEARSAL, window=window) as manager:
        conversation = await long_ago(manager.store, LONG_TURNS)
        node = await manager.ask(conversation, "And now?", elsewhere(0))
    assert node.status == "complete"
    assert added.elsewhere == ANSWERED * 3 + 1


async def test_a_refused_file_after_a_long_history_raises_when_the_block_is_entered() -> None:
    async with ConversationManager(config=REHEARSAL, policy=ConversionPolicy(media="refuse")) as manager:
        conversation = await long_ago(manager.store, LONG_TURNS)
        turn = manager.turn(conversation, "And now?", elsewhere(0), files=[FILM])
        with pytest.raises(StreamStateError):
            _ = turn.complete
        with pytest.raises(UnsupportedError):
            await turn.__aenter__()
    assert len(conversation.path()) == LONG_TURNS


async def test_a_fan_out_of_a_long_conversation_completes_every_sibling() -> None:
    async with ConversationManager(config=REHEARSAL) as manager:
        conversation = await long_ago(manager.store, LONG_TURNS)
        nodes = await manager.fan_out(conversation, "And now?", [elsewhere(number) for number in range(8)])
    assert [node.status for node in nodes] == ["complete"] * 8
