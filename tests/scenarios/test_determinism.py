"""The same history makes the same bytes: a hundred times at once, in other processes, cut or broken off anywhere."""

import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import cast

import anyio
import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    ChatResponse,
    ConversationManager,
    ConversationNode,
    Dialect,
    FinishReason,
    Message,
    PromptFormatter,
    ReasoningPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.framing.sse import SSEFramer
from dhenara_async.hosts.registry import driver_for
from dhenara_async.messages.messages import Part, TextPart
from dhenara_async.request import ChatRequest
from dhenara_async.response import Choice
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall, SeenRequest
from tests import recordings
from tests.bodies import NODES, bodies
from tests.cases import sample
from tests.conversations import TARGETS, Target, encoded, refusal
from tests.histories import SOURCES, decoded, histories, sealed
from tests.recordings import Recording
from tests.replay_rules import Wire, violations

_Provider = AIModelAPIProviderEnum
_WHO: Mapping[AIModelAPIProviderEnum, str] = {
    _Provider.ANTHROPIC: "claude-sonnet-5-5",
    _Provider.OPEN_AI: "gpt-6.2-sol",
    _Provider.GOOGLE_AI: "gemini-3.8-flash",
    _Provider.GROQ: "openai/gpt-oss-120b",
    _Provider.MISTRAL: "mistral-large-4",
}
_TURNS = 100
_ELSEWHERE = ("anthropic", "responses", "gemini", "groq", "mistral")
_WIRES: Mapping[str, Wire] = {
    Dialect.ANTHROPIC_MESSAGES: "anthropic",
    Dialect.OPENAI_RESPONSES: "responses",
    Dialect.GEMINI: "gemini",
    Dialect.OPENAI_CHAT: "chat",
}
_needs_recordings = pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)


# ---------------------------------------------------------------------------------------------------- at once


def _answer(seen: SeenRequest) -> Answer:
    if not seen.turns[-1][1].endswith("Call it."):
        return Answer(text="Well, well.", reasoning="secret thoughts")
    call = ScriptedToolCall(f"call{len(seen.turns):05d}", "add", '{"b":2,"a":1}')
    return Answer(text="Let me see.", reasoning="secret thoughts", tool_calls=(call,))


def _hash(nodes: Iterable[ConversationNode]) -> str:
    return hashlib.sha256(b"\n".join(node.model_dump_json().encode() for node in nodes)).hexdigest()


async def test_a_hundred_turns_at_once_change_nothing_and_send_the_same_history() -> None:
    async with ProviderServer(_answer) as server, ConversationManager() as manager:
        endpoints = [
            AIModelEndpoint(api=server.api(provider), ai_model=AIModel(model_name=model))
            for provider, model in _WHO.items()
        ]
        conversation = await manager.create()
        for endpoint in endpoints:
            called = await manager.ask(conversation, "Call it.", endpoint)
            assert called.response is not None
            results = [ToolResultPart.of(call, "3") for call in called.response.tools()]
            assert results
            await manager.ask(conversation, "And so?", endpoint, tool_results=results)
        before, head = conversation.nodes, conversation.head
        expected, seen_before = _hash(before), len(server.requests)

        async def ask(number: int) -> None:
            await manager.turn(conversation, f"Question {number}?", endpoints[number % len(endpoints)], beside=True)

        async with anyio.create_task_group() as tasks:
            for number in range(_TURNS):
                tasks.start_soon(ask, number)

    made = conversation.nodes[len(before) :]
    assert len(made) == _TURNS
    assert head is not None
    assert {node.parent_id for node in made} == {head.id}
    assert all(now is then for now, then in zip(conversation.nodes, before, strict=False))
    assert _hash(before) == expected
    assert {(seen.status, seen.error) for seen in server.requests} == {(200, None)}
    sent: dict[str, list[SeenRequest]] = defaultdict(list)
    for seen in server.requests[seen_before:]:
        sent[seen.provider].append(seen)
    assert sum(map(len, sent.values())) == _TURNS
    assert len(sent) == len(_WHO)
    for requests in sent.values():
        histories_sent = {orjson.dumps(_said(seen)[:-1]) for seen in requests}
        assert len(histories_sent) == 1
        assert len({orjson.dumps(_said(seen)[-1]) for seen in requests}) == len(requests)


def _said(seen: SeenRequest) -> list[object]:
    body = cast("dict[str, list[object]]", seen.json)
    return next(body[key] for key in ("messages", "input", "contents") if key in body)


# ---------------------------------------------------------------------------------------------------- elsewhere


def test_another_process_sends_the_same_bytes() -> None:
    """One process for all conversations, because starting it takes longest."""
    conversations = [histories(source)["every kind"].nodes for source in _ELSEWHERE]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bodies"],
        input=b"".join(NODES.dump_json(list(nodes)) + b"\n" for nodes in conversations),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "4242"},
    )
    sent = ran.stdout.removesuffix(b"\n\n").split(b"\n\n")
    for nodes, lines in zip(conversations, sent, strict=True):
        here = dict(bodies(nodes))
        assert set(TARGETS) == {name.rpartition(" ")[0] for name in here}
        there = dict(line.split(b"\t", 1) for line in lines.splitlines())
        assert {name.decode(): body for name, body in there.items()} == here


# ---------------------------------------------------------------------------------------------------- cut anywhere

_LARGEST = 70_000
_MOST = 12
_TALKERS = ("anthropic", "responses", "gemini", "chat", "openrouter", "groq", "xai", "mistral")


def _recorded(source: str, *features: str) -> Iterator[Recording]:
    """The streams of a source that are whole, not too long and have any of some features."""
    for row in recordings.index():
        found = (row["api"], row["provider"]) in SOURCES[source].recorded and row["framing"] == "sse"
        if found and row["kind"] == "message" and not {*features}.isdisjoint(cast("list[str]", row["features"])):
            recording = recordings.load(str(row["id"]))
            if len(recording.body) <= _LARGEST:
                yield recording


def _node(source: str, number: int, parts: Sequence[Part], **fields: object) -> ConversationNode:
    origin = SOURCES[source].origin
    choice = Choice(parts=tuple(parts), finish_reason=FinishReason.STOP)
    response = ChatResponse(choices=(choice,), model=origin.model, provider=origin.provider)
    return ConversationNode.model_validate(
        {
            "id": f"node-{number}",
            "parent_id": f"node-{number - 1}" if number else None,
            "user_query": f"Question {number}?",
            "response": response,
            "timestamp": "2026-11-22T00:00:00+00:00",
            "origin": origin,
            **fields,
        }
    )


@cache
def _tool_conversation(source: str) -> tuple[ConversationNode, ...]:
    """Recorded answers with calls, each of another shape, the results of one handed in with the next question."""
    nodes: list[ConversationNode] = []
    shapes: set[tuple[str, ...]] = set()
    results: list[ToolResultPart] = []
    for recording in _recorded(source, "tool_calls"):
        parts = decoded(recording, SOURCES[source])[0].choices[0].parts
        shape = tuple(part.type for part in parts)
        if shape in shapes:
            continue
        shapes.add(shape)
        nodes.append(_node(source, len(nodes), parts, tool_results=tuple(results)))
        results = [ToolResultPart.of(part, "22 degrees") for part in parts if isinstance(part, ToolCallPart)]
        if len(nodes) == 3:
            break
    end = TextPart(text="It is warm.", origin=SOURCES[source].origin)
    return (*nodes, _node(source, len(nodes), [end], tool_results=tuple(results)))


def _cuts(nodes: Sequence[ConversationNode]) -> Iterator[tuple[ConversationNode, ...]]:
    """Every beginning of a conversation: between turns, between results and between the parts of an answer."""
    for number, node in enumerate(nodes):
        whole = tuple(nodes[:number])
        yield whole
        assert node.response is not None
        choice = node.response.choices[0]
        for count in range(len(node.tool_results) + 1):
            handed_in = {"tool_results": tuple(node.tool_results[:count]), "response": None, "status": "failed"}
            yield (*whole, node.model_copy(update=handed_in))
        for count in range(1, len(choice.parts) + 1):
            short = choice.model_copy(update={"parts": choice.parts[:count]})
            response = node.response.model_copy(update={"choices": (short,)})
            for status in ("complete", "interrupted"):
                yield (*whole, node.model_copy(update={"response": response, "status": status}))


def _check_legal(nodes: Sequence[ConversationNode], target: Target, hidden: Iterable[str] = ()) -> bytes:
    """The body of the request in which ``nodes`` are gone on with, which the target would take."""
    asked = [Message.user("Go on.")]
    formatted = PromptFormatter.format_conversation(nodes, target.endpoint, asked=asked)
    wire = encoded(formatted.messages, target)
    said = [message for node in nodes for message in node.as_messages()]
    own = (
        seal
        for message in said
        for part in message.parts
        if part.origin is not None and part.origin.same_model(target.origin)
        for seal in sealed(part)
    )
    origin = target.origin
    assert refusal(wire, target, own) is None
    assert not violations(_WIRES[origin.dialect], origin.provider, origin.model, wire.body, foreign={*hidden})
    return wire.body


@_needs_recordings
@pytest.mark.parametrize("source", _TALKERS)
def test_a_tool_conversation_cut_anywhere_goes_on_anywhere_always_the_same(source: str) -> None:
    """Each cut goes on at half of the targets, in turn; a soak tries all."""
    conversation = _tool_conversation(source)
    assert any(isinstance(part, ToolCallPart) for node in conversation for part in _answer_of(node))
    for number, nodes in enumerate(_cuts(conversation)):
        copies = [ConversationNode.model_validate_json(node.model_dump_json()) for node in nodes]
        for target in sample(list(TARGETS.values()), 2, number):
            assert _check_legal(nodes, target) == _check_legal(copies, target)


def _answer_of(node: ConversationNode) -> Sequence[Part]:
    return () if node.response is None else node.response.choices[0].parts


# ---------------------------------------------------------------------------------------------------- broken off


def _partials(recording: Recording, source: str) -> Iterator[ChatResponse]:
    """What had come of a recorded answer after each of its events, the last one left out."""
    speaker = SOURCES[source]
    request = ChatRequest.of([Message.user("?")], instructions=(), config=AIModelCallConfig(), stream=True)
    decoder = driver_for(speaker.endpoint).decoder(request, speaker.origin)
    accumulator = Accumulator(provider=speaker.origin.provider, model=speaker.model)
    framer = SSEFramer()
    for frame in [*framer.feed(recording.body), *framer.finish()]:
        for event in decoder.feed(frame):
            accumulator.feed([event])
            if accumulator.finished:
                return
            yield accumulator.partial()


@_needs_recordings
@pytest.mark.parametrize("source", ["anthropic", "responses", "gemini", "deepseek", "openrouter", "groq", "xai"])
def test_thinking_that_broke_off_is_never_replayed_wherever_the_stream_broke(source: str) -> None:
    speaker = SOURCES[source]
    target = Target(speaker.endpoint, speaker.origin, driver_for(speaker.endpoint).rules(speaker.endpoint))
    broken = 0
    thoughtful, signed = _recorded(source, "reasoning"), _recorded(source, "signature")
    for recording in (*islice(thoughtful, _MOST), *islice(signed, _MOST)):
        seen: set[str] = set()
        for came in _partials(recording, source):
            parts = came.choices[0].parts
            told = came.model_dump_json()
            if told in seen:
                continue  # the event told nothing of the answer
            seen.add(told)
            node = _node(source, 0, parts, status="interrupted" if parts else "failed")
            thoughts = [part for part in parts if isinstance(part, ReasoningPart)]
            hidden = {
                seal for part in parts if part in thoughts or part.status == "interrupted" for seal in sealed(part)
            }
            body = _check_legal([node], target, hidden)
            assert not [seal for seal in hidden if seal.encode() in body]
            words = [part.text for part in thoughts if len(part.text) > 20]
            assert not [text for text in words if orjson.dumps(text)[1:-1] in body]
            broken += bool(thoughts)
    assert broken
