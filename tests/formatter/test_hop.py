"""Conversations that change the provider at every turn: requests of each provider and stored nodes."""

from collections.abc import Mapping
from itertools import pairwise, permutations
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Conversation,
    ConversationManager,
    ConversationNode,
    Dialect,
    FinishReason,
    StreamEnd,
    StreamStart,
    TextDelta,
)
from dhenara_async.models.anthropic import ClaudeSonnet55
from dhenara_async.models.google import Gemini38Flash
from dhenara_async.models.openai import GPT62Sol
from dhenara_async.stores import MemoryStore
from dhenara_async.testing import Answer, ProviderServer, SeenRequest

_CONFIG = AIModelCallConfig(max_output_tokens=1000)
_WHO: Mapping[str, tuple[AIModelAPIProviderEnum, Dialect | None, AIModel]] = {
    "anthropic": (AIModelAPIProviderEnum.ANTHROPIC, None, ClaudeSonnet55),
    "responses": (AIModelAPIProviderEnum.OPEN_AI, None, GPT62Sol),
    "gemini": (AIModelAPIProviderEnum.GOOGLE_AI, None, Gemini38Flash),
    "chat": (AIModelAPIProviderEnum.GROQ, None, AIModel(model_name="openai/gpt-oss-120b")),
}
_ORDERS = [*permutations(("anthropic", "responses", "gemini")), ("anthropic", "responses", "gemini", "chat")]
_QUESTIONS = ("How does it begin?", "What is the twist? \u201cé\u201d", "How does it end?", "And the moral?")
_LEADERS = ("Be creative.", "Build on it.", "Conclude.", "Be wise.")


def _answer(seen: SeenRequest) -> Answer:
    """An answer with reasoning that must stay with its provider, and a text with the provider and the turn."""
    return Answer(text=f"{seen.model} says {len(seen.turns) // 2 + 1}.\n\nYes \u2028😊", reasoning="secret thoughts")


def _text(who: str, turn: int) -> str:
    return f"{_WHO[who][2].model_name} says {turn}.\n\nYes \u2028😊"


def _endpoint(server: ProviderServer, who: str) -> AIModelEndpoint:
    provider, dialect, model = _WHO[who]
    return AIModelEndpoint(api=server.api(provider, dialect=dialect), ai_model=model)


def _expected(order: tuple[str, ...]) -> dict[str, object]:
    """The last request of a conversation with ``order``, in the wire format of the last provider."""
    *earlier, last = order
    texts = [text for turn, who in enumerate(earlier) for text in (_QUESTIONS[turn], _text(who, turn + 1))]
    said = list(zip(("user", "assistant") * len(order), [*texts, _QUESTIONS[len(earlier)]], strict=False))
    leader = _LEADERS[len(earlier)]
    match last:
        case "anthropic":
            return {
                "model": "claude-sonnet-5-5",
                "max_tokens": 1000,
                "messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said],
                "system": [{"type": "text", "text": leader}],
                "stream": True,
            }
        case "responses":
            return {
                "model": "gpt-6.2-sol",
                "input": [
                    {"role": role, "content": text if role == "assistant" else [{"type": "input_text", "text": text}]}
                    for role, text in said
                ],
                "store": False,
                "include": ["reasoning.encrypted_content"],
                "instructions": leader,
                "max_output_tokens": 1000,
                "stream": True,
            }
        case "gemini":
            roles = {"user": "user", "assistant": "model"}
            return {
                "contents": [{"role": roles[role], "parts": [{"text": text}]} for role, text in said],
                "systemInstruction": {"parts": [{"text": leader}]},
                "generationConfig": {"maxOutputTokens": 1000},
            }
        case _:
            return {
                "model": "openai/gpt-oss-120b",
                "messages": [
                    {"role": "system", "content": leader},
                    *({"role": role, "content": text} for role, text in said),
                ],
                "max_completion_tokens": 1000,
                "stream": True,
                "stream_options": {"include_usage": True},
            }


async def _talk(
    manager: ConversationManager, server: ProviderServer, order: tuple[str, ...], *, streamed: bool
) -> tuple[Conversation, list[str]]:
    """A conversation in ``order``, and the JSON of each node right after its turn."""
    conversation, made = await manager.create(), list[str]()
    for turn, who in enumerate(order):
        query, endpoint, instructions = _QUESTIONS[turn], _endpoint(server, who), [_LEADERS[turn]]
        if streamed:
            node = await _streamed(manager, conversation, query, endpoint, instructions)
        else:
            node = await manager.ask(conversation, query, endpoint, instructions=instructions)
        made.append(node.model_dump_json())
    return conversation, made


async def _streamed(
    manager: ConversationManager,
    conversation: Conversation,
    query: str,
    endpoint: AIModelEndpoint,
    instructions: list[str],
) -> ConversationNode:
    async with manager.turn(conversation, query, endpoint, instructions=instructions) as turn:
        events = [event async for event in turn]
    assert isinstance(events[0], StreamStart)
    assert isinstance(events[-1], StreamEnd)
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(deltas) > 1
    assert "".join(deltas) == turn.response.text()
    return turn.node


def _timeless(node: ConversationNode) -> dict[str, object]:
    """A node as JSON without ids and times."""
    changing = {"id", "parent_id", "asked_at", "first_word_at", "timestamp"}
    document = cast("dict[str, object]", orjson.loads(node.model_dump_json(exclude=changing)))
    document["conversion"] = [entry.code for entry in node.conversion.entries]
    return document


@pytest.mark.parametrize("order", _ORDERS, ids="-".join)
async def test_a_conversation_over_all_providers_sends_the_full_history_and_stores_each_turn(
    order: tuple[str, ...],
) -> None:
    store = MemoryStore()
    async with ProviderServer(_answer) as server, ConversationManager(store=store, config=_CONFIG) as manager:
        conversation, made = await _talk(manager, server, order, streamed=True)
        opened = await manager.open(conversation.id)

    # each request as JSON: all earlier turns, the instructions of this turn and no reasoning
    assert [seen.json for seen in server.requests] == [_expected(order[: turn + 1]) for turn in range(len(order))]
    assert {(seen.status, seen.error, seen.stream) for seen in server.requests} == {(200, None, True)}
    for turn, seen in enumerate(server.requests):
        assert b"secret thoughts" not in seen.body
        assert [leader for leader in _LEADERS if leader.encode() in seen.body] == [_LEADERS[turn]]

    # the chain
    nodes = conversation.path()
    assert nodes == conversation.nodes
    assert conversation.head is nodes[-1]
    assert [node.parent_id for node in nodes] == [None, *(node.id for node in nodes[:-1])]
    assert len({node.id for node in nodes}) == len(order)
    for turn, (who, node) in enumerate(zip(order, nodes, strict=True)):
        _check_node(node, who, turn)

    # later turns change no earlier node, and a store and JSON keep every node
    assert [node.model_dump_json() for node in nodes] == made
    assert [ConversationNode.model_validate_json(text) for text in made] == list(nodes)
    assert [ConversationNode.model_validate_json(text).model_dump_json() for text in made] == made
    assert opened.id == conversation.id
    assert opened.path() == nodes
    assert [node.model_dump_json() for node in opened.nodes] == made


def _check_node(node: ConversationNode, who: str, turn: int) -> None:
    provider, dialect, model = _WHO[who]
    assert node.response is not None
    assert node.response.text() == _text(who, turn + 1)
    assert node.response.finish_reason is FinishReason.STOP
    assert (node.status, node.error, node.user_query) == ("complete", None, _QUESTIONS[turn])
    assert tuple(node.instructions) == (_LEADERS[turn],)
    assert node.origin is not None
    assert (node.origin.provider, node.origin.model) == (provider.value, model.model_name)
    assert dialect is None or node.origin.dialect == dialect.value
    assert node.usage.source == "reported"
    assert node.warnings == ()
    # earlier answers have reasoning, Gemini's also a signed text, and the report has an entry for each
    for entry in node.conversion.entries:
        signed = entry.origin is not None and entry.origin.dialect == Dialect.GEMINI.value and entry.kind == "text"
        assert entry.code == "reasoning_dropped" or (signed and entry.code == "blank_text_dropped")
    places = [entry.message for entry in node.conversion.entries if entry.message is not None]
    assert len(places) == len(node.conversion.entries)
    assert places == sorted(places)


@pytest.mark.parametrize("order", _ORDERS, ids="-".join)
async def test_ask_and_turn_make_the_same_requests_and_nodes(order: tuple[str, ...]) -> None:
    """The nodes are equal except for ids and times."""
    config = _CONFIG.model_copy(update={"streaming": True})
    made: list[list[dict[str, object]]] = []
    bodies: list[list[bytes]] = []
    for streamed in (False, True):
        async with ProviderServer(_answer) as server, ConversationManager(config=config) as manager:
            conversation, _json = await _talk(manager, server, order, streamed=streamed)
        made.append([_timeless(node) for node in conversation.path()])
        bodies.append([seen.body for seen in server.requests])
    _forget_ports(made)
    assert made[0] == made[1]
    assert bodies[0] == bodies[1]


async def test_ask_without_streaming_sends_the_same_history() -> None:
    order = _ORDERS[-1]
    async with ProviderServer(_answer) as server, ConversationManager(config=_CONFIG) as manager:
        conversation, _json = await _talk(manager, server, order, streamed=False)
    for turn, (who, node) in enumerate(zip(order, conversation.path(), strict=True)):
        _check_node(node, who, turn)
        unstreamed = {key: item for key, item in _expected(order[: turn + 1]).items() if not key.startswith("stream")}
        assert server.requests[turn].json == unstreamed


def _forget_ports(value: object) -> None:
    """Replace the server's port, which is part of every origin and differs between servers."""
    if isinstance(value, dict):
        document = cast("dict[str, object]", value)
        if "endpoint" in document:
            document["endpoint"] = "127.0.0.1"
        for item in document.values():
            _forget_ports(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            _forget_ports(item)


@pytest.mark.parametrize("who", _WHO)
async def test_messages_of_each_request_begin_with_the_bytes_of_the_previous_request(who: str) -> None:
    """Prompt caches hit only on an unchanged prefix."""
    key = {"anthropic": "messages", "responses": "input", "gemini": "contents", "chat": "messages"}[who]
    async with ProviderServer(_answer) as server, ConversationManager() as manager:
        conversation = await manager.create()
        for query in _QUESTIONS:
            await manager.ask(conversation, query, _endpoint(server, who))
    spoken = [orjson.dumps(cast("dict[str, object]", seen.json)[key]) for seen in server.requests]
    assert all(later.startswith(earlier[:-1]) and later != earlier for earlier, later in pairwise(spoken))


async def test_a_branch_sends_only_the_turns_of_its_path() -> None:
    async with ProviderServer(_answer) as server, ConversationManager() as manager:
        conversation = await manager.create()
        first = await manager.ask(conversation, _QUESTIONS[0], _endpoint(server, "anthropic"))
        await manager.ask(conversation, "a dead end", _endpoint(server, "gemini"))
        conversation.checkout(first.id)
        other = await manager.ask(conversation, _QUESTIONS[1], _endpoint(server, "responses"))
        opened = await manager.open(conversation.id)
    assert other.parent_id == first.id
    assert conversation.path() == (first, other)
    assert len(conversation.nodes) == 3
    assert b"a dead end" not in server.requests[-1].body
    assert opened.path() == conversation.path()
