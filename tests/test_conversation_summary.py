"""What a conversation tells of itself as a whole: its tree, its tokens and costs by model, and its export."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhenara_async import (
    ChatResponse,
    Conversation,
    ConversationManager,
    ConversationNode,
    Dialect,
    Usage,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import Origin, TextPart
from dhenara_async.response import Attempt, Choice, FinishReason
from dhenara_async.testing import ProviderServer
from dhenara_async.usage.tokens import total_usage
from tests.loopback import endpoint_at


def origin(model: str) -> Origin:
    return Origin(provider="openai", dialect="openai_chat", endpoint="h", account=None, model=model)


def node(id: str, parent: str | None, model: str = "a", **more: object) -> ConversationNode:
    response = ChatResponse(
        choices=(Choice(parts=(TextPart(text=f"Answer {id}."),), finish_reason=FinishReason.STOP),),
        usage=Usage(input_tokens=10, output_tokens=2, source="reported"),
        model=model,
        provider="openai",
    )
    given = {"cost": Decimal("0.5"), "response": response, "origin": origin(model), **more}
    return ConversationNode.model_validate({"id": id, "parent_id": parent, "user_query": f"Question {id}?", **given})


FORKED = (node("1", None), node("2", "1", "b"), node("3", "1"), node("4", "2", "b"))


def test_tokens_and_costs_are_summed_by_model() -> None:
    conversation = Conversation(nodes=FORKED)
    two = Usage(input_tokens=20, output_tokens=4, source="reported")
    assert conversation.usage() == {"a": two, "b": two}
    assert conversation.cost() == {"a": Decimal(1), "b": Decimal(1)}


def test_a_failed_request_that_took_tokens_counts_for_its_own_model() -> None:
    failed = Attempt(
        endpoint=origin("z"), error="cut", usage=Usage(output_tokens=7, source="reported"), cost=Decimal("0.1")
    )
    conversation = Conversation(nodes=[node("1", None, tries=(failed, Attempt(endpoint=origin("a"))))])
    assert conversation.usage()["z"].output_tokens == 7
    assert conversation.cost() == {"z": Decimal("0.1"), "a": Decimal("0.5")}


def test_an_interrupted_answer_counts_once() -> None:
    usage = Usage(input_tokens=10, output_tokens=2, source="estimated")
    last = Attempt(endpoint=origin("a"), error="left", usage=usage, cost=Decimal("0.5"))
    conversation = Conversation(nodes=[node("1", None, status="interrupted", tries=(last,))])
    assert conversation.usage() == {"a": usage}
    assert conversation.cost() == {"a": Decimal("0.5")}


def test_a_turn_without_a_price_leaves_the_cost_of_its_model_unknown() -> None:
    conversation = Conversation(nodes=[node("1", None), node("2", "1", cost=None), node("3", "2")])
    assert conversation.cost() == {"a": None}


def test_an_empty_conversation_has_no_tokens_and_no_costs() -> None:
    assert (Conversation().usage(), Conversation().cost()) == ({}, {})


def test_the_least_reliable_source_is_that_of_a_sum() -> None:
    assert total_usage([Usage(output_tokens=1, source="reported"), Usage(source="unknown")]) == Usage(output_tokens=1)
    assert total_usage([]) == Usage()


def test_the_tree_is_printed_with_its_forks_and_head() -> None:
    conversation = Conversation("c", nodes=FORKED, head="3")
    assert str(conversation).splitlines() == [
        "conversation c: 4 turns",
        "1. a: Question 1?",
        "  2. b: Question 2?",
        "  3. b: Question 4?",
        "  4. a: Question 3? ← head",
    ]


def test_the_markdown_has_every_turn_of_every_branch() -> None:
    text = Conversation("c", nodes=FORKED).to_markdown()
    assert text.startswith("# Conversation c\n\n    1. a: Question 1?\n")
    for id in "1234":
        assert f"> Question {id}?" in text
        assert f"Answer {id}." in text


def test_a_conversation_of_many_turns_is_printed_and_exported() -> None:
    nodes = [node(str(number), str(number - 1) if number else None) for number in range(3000)]
    conversation = Conversation(nodes=nodes)
    assert len(str(conversation).splitlines()) == 3001
    assert Conversation.import_json(conversation.export_json()).nodes == conversation.nodes


async def test_a_real_conversation_comes_back_byte_for_byte() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await manager.create()
        for dialect in (Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI, Dialect.OPENAI_RESPONSES):
            await manager.ask(conversation, "Hello?", endpoint_at(server, dialect), instructions=["Be kind."])
    conversation.append(conversation.path()[1].changed(id="again"))
    exported = conversation.export_json()
    restored = Conversation.import_json(exported)
    assert restored.export_json() == exported
    assert (restored.id, restored.head, restored.nodes) == (conversation.id, conversation.head, conversation.nodes)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": "other", "id": "1", "head": null, "nodes": []}', "\ud800"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="export_json"):
        Conversation.import_json(text)


def test_a_tree_with_a_missing_parent_is_refused() -> None:
    exported = Conversation(nodes=FORKED).export_json().replace('"parent_id":"2"', '"parent_id":"9"')
    with pytest.raises(ConfigurationError, match="not in this conversation"):
        Conversation.import_json(exported)


@given(st.text(), st.text())
def test_any_text_survives_an_export(question: str, instruction: str) -> None:
    conversation = Conversation(nodes=[node("1", None, user_query=question, instructions=(instruction,))])
    restored = Conversation.import_json(conversation.export_json())
    assert restored.nodes == conversation.nodes
