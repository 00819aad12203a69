"""Thinking that is valid only behind an unchanged prefix of the conversation: Claude from Fable 5.1 on.

A node keeps the hash of everything its model was shown. As long as the same instructions, tools and messages stand
before the answer, its thinking goes back; else it is left out, because the provider would refuse the whole request.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Capabilities,
    ChatResponse,
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversationPolicy,
    FilePart,
    FinishReason,
    FormattedConversation,
    HostedTool,
    Message,
    PromptFormatter,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.conversation import question
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import Part
from dhenara_async.request import ChatRequest
from dhenara_async.response import Choice
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall, SeenRequest
from dhenara_async.testing.dialects.anthropic_messages_thinking import check_signatures
from dhenara_async.testing.dialects.base import Arrived, Refusal
from tests.raw_json import objects, turns

_Provider = AIModelAPIProviderEnum

BOUND = ("claude-fable-5-1", "claude-fable-6", "us.anthropic.claude-fable-5-1")
FREE = (
    "claude-fable-5",
    "claude-mythos-5",
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-4-5",
    "claude-3-7-sonnet",
)
LEADS = ("Be exact.", "Be brief.")
LOOK = Tool(name="look", description="Have a look.")
CONFIG = AIModelCallConfig(tools=[LOOK])
DROPPED = ("reasoning_dropped", "other_prefix")
PNG = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\npixels")


def _endpoint(model: str, provider: AIModelAPIProviderEnum = _Provider.ANTHROPIC) -> AIModelEndpoint:
    return AIModelEndpoint(api=AIModelAPI(provider=provider, api_key="key"), ai_model=AIModel(model_name=model))


FABLE = _endpoint("claude-fable-5-1")
GPT = _endpoint("gpt-6.2-sol", _Provider.OPEN_AI)


# ---------------------------------------------------------------------------------------------------- by hand


def _formatted(
    nodes: Sequence[ConversationNode],
    asked: Sequence[Message],
    *,
    endpoint: AIModelEndpoint = FABLE,
    instructions: Sequence[str] = LEADS,
    config: AIModelCallConfig | None = CONFIG,
) -> FormattedConversation:
    return PromptFormatter.format_conversation(nodes, endpoint, asked=asked, instructions=instructions, config=config)


def _thought(at: int) -> ReasoningPart:
    return ReasoningPart(text=f"Thought {at}.", provider_state={"type": "thinking", "signature": f"c2lnbmVk{at}AAA"})


def _history(endpoint: AIModelEndpoint = FABLE) -> list[ConversationNode]:
    """Three turns with thinking and a tool result, each with the hash of its prompt."""
    call = ToolCallPart(call_id="toolu_1", name="look", arguments='{"where": "there"}')
    nodes = [_answered([], endpoint, _thought(0), call, query="First?", files=[PNG])]
    result = ToolResultPart.of(call, {"seen": [1, 2.5, "é"]})
    nodes.append(_answered(nodes, endpoint, _thought(1), TextPart(text="Seen."), results=[result]))
    nodes.append(_answered(nodes, endpoint, _thought(2), TextPart(text="Third."), query="Third?"))
    return nodes


def _answered(
    before: Sequence[ConversationNode],
    endpoint: AIModelEndpoint,
    *said: Part,
    query: str = "",
    files: Sequence[FilePart] = (),
    results: Sequence[ToolResultPart] = (),
) -> ConversationNode:
    origin = expected_origin(endpoint)
    parts = tuple(part.model_copy(update={"origin": origin}) for part in said)
    response = ChatResponse(
        choices=(Choice(parts=parts, finish_reason=FinishReason.STOP),), model=origin.model, provider=origin.provider
    )
    prefix = _formatted(before, question(query, files, results), endpoint=endpoint).prefix
    return ConversationNode(
        user_query=query,
        attached_files=files,
        tool_results=results,
        instructions=LEADS,
        response=response,
        origin=origin,
        prefix=prefix,
    )


ASKED = (Message.user("And now?"),)


def _kept(formatted: FormattedConversation) -> list[str]:
    """The texts of the reasoning parts that are sent."""
    parts = (part for message in formatted.messages for part in message.parts)
    return [part.text for part in parts if isinstance(part, ReasoningPart)]


def _noted(formatted: FormattedConversation) -> list[tuple[str, str]]:
    return [(entry.code, entry.reason) for entry in formatted.report.entries]


ALL = ["Thought 0.", "Thought 1.", "Thought 2."]


@pytest.mark.parametrize("model", BOUND)
def test_thinking_is_sent_back_behind_an_unchanged_prefix(model: str) -> None:
    endpoint = _endpoint(model)
    nodes = _history(endpoint)
    formatted = _formatted(nodes, ASKED, endpoint=endpoint)
    assert (_kept(formatted), _noted(formatted)) == (ALL, [])
    prefixes = [*(node.prefix for node in nodes), formatted.prefix]
    assert None not in prefixes and len(set(prefixes)) == 4


@pytest.mark.parametrize(
    "instructions",
    [(), LEADS[:1], (*LEADS, "And kind."), LEADS[::-1], ("Be exact.Be brief.",), ("Be exact", ".Be brief.")],
)
def test_changed_instructions_drop_all_thinking(instructions: Sequence[str]) -> None:
    formatted = _formatted(_history(), ASKED, instructions=instructions)
    assert (_kept(formatted), _noted(formatted)) == ([], [DROPPED] * 3)
    assert {part.outcome for part in formatted.report.parts if part.kind == "reasoning"} == {"omitted"}
    assert formatted.report.lossy == ()


@pytest.mark.parametrize(
    "tools",
    [
        (),
        (LOOK, Tool(name="listen")),
        (Tool(name="look", description="Look."),),
        (Tool(name="look", description="Have a look.", strict=True),),
        (LOOK, HostedTool(type="web_search")),
    ],
    ids=["none", "one more", "other words", "stricter", "the provider's"],
)
def test_changed_tools_drop_all_thinking(tools: Sequence[Tool | HostedTool]) -> None:
    formatted = _formatted(_history(), ASKED, config=AIModelCallConfig(tools=tools))
    assert (_kept(formatted), _noted(formatted)) == ([], [DROPPED] * 3)


def test_settings_outside_the_prompt_keep_all_thinking() -> None:
    config = CONFIG.model_copy(update={"max_output_tokens": 77, "reasoning_effort": "high", "streaming": True})
    assert _kept(_formatted(_history(), ASKED, config=config)) == ALL


_CHANGES: dict[str, tuple[int, dict[str, object], int]] = {
    "the first question": (0, {"user_query": "First!"}, 0),
    "a file": (0, {"attached_files": (FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\nother!"),)}, 0),
    "a file's name": (0, {"attached_files": (PNG.model_copy(update={"filename": "a.png"}),)}, 0),
    "no file": (0, {"attached_files": ()}, 0),
    "a result": (
        1,
        {"tool_results": (ToolResultPart(call_id="toolu_1", name="look", content=(TextPart(text="x"),)),)},
        1,
    ),
    "the last question": (2, {"user_query": "Third!"}, 2),
}


@pytest.mark.parametrize(("node", "change", "kept"), _CHANGES.values(), ids=_CHANGES.keys())
def test_a_changed_message_drops_the_thinking_behind_it(node: int, change: dict[str, object], kept: int) -> None:
    """The thinking before the changed message stays: its prefix is unchanged."""
    nodes = _history()
    nodes[node] = nodes[node].model_copy(update=change)
    formatted = _formatted(nodes, ASKED)
    assert (_kept(formatted), _noted(formatted)) == (ALL[:kept], [DROPPED] * (3 - kept))


def test_a_missing_turn_drops_the_thinking_behind_it() -> None:
    nodes = _history()
    edited = [*nodes[:2], _answered(nodes[:2], FABLE, TextPart(text="Between."), query="Between?"), nodes[2]]
    formatted = _formatted(edited, ASKED)
    assert (_kept(formatted), _noted(formatted)) == (ALL[:2], [DROPPED])
    window = PromptFormatter.format_conversation(
        nodes, FABLE, asked=ASKED, instructions=LEADS, config=CONFIG, window=ConversationPolicy(keep_turns=1)
    )
    assert (_kept(window), _noted(window)[-1:]) == ([], [DROPPED])


def test_a_turn_of_another_model_keeps_all_thinking() -> None:
    """The later prompt of Fable held the answer of the other model, without its reasoning."""
    nodes = _history()
    nodes.append(_answered(nodes, GPT, ReasoningPart(text="Hm."), TextPart(text="Fourth."), query="Fourth?"))
    nodes.append(_answered(nodes, FABLE, _thought(4), TextPart(text="Fifth."), query="Fifth?"))
    formatted = _formatted(nodes, ASKED)
    assert _kept(formatted) == [*ALL, "Thought 4."]
    assert [reason for _code, reason in _noted(formatted)] == ["foreign_origin"]


def test_nodes_without_a_prefix_keep_their_thinking() -> None:
    """Such nodes were made by hand or by an older version: there is no prefix to compare."""
    nodes = [node.model_copy(update={"prefix": None}) for node in _history()]
    assert _kept(_formatted(nodes, ASKED, instructions=())) == ALL


def test_repeated_formatting_under_other_settings_gives_the_same_results() -> None:
    """Cached work for some instructions is never used for other instructions."""
    nodes = _history()
    for _again in range(2):
        assert _kept(_formatted(nodes, ASKED)) == ALL
        assert _kept(_formatted(nodes, ASKED, instructions=())) == []
        assert _kept(_formatted(nodes, ASKED, config=None)) == []
        assert _kept(_formatted(nodes, ASKED, endpoint=_endpoint("claude-fable-6"))) == []


# ---------------------------------------------------------------------------------------------------- other models


@pytest.mark.parametrize("model", FREE)
def test_older_models_keep_thinking_behind_a_changed_prefix(model: str) -> None:
    endpoint = _endpoint(model)
    nodes = _history(endpoint)
    assert {node.prefix for node in nodes} == {None}
    changed = [nodes[0].model_copy(update={"user_query": "First!", "prefix": "0" * 32}), *nodes[1:]]
    formatted = _formatted(changed, ASKED, endpoint=endpoint, instructions=(), config=None)
    assert (_kept(formatted), _noted(formatted), formatted.prefix) == (ALL, [], None)


def test_a_model_with_the_prefix_bound_capability_drops_thinking() -> None:
    capabilities = Capabilities(prefix_bound=True)
    model = AIModel(model_name="claude-sonnet-5-5", capabilities=capabilities)
    endpoint = FABLE.model_copy(update={"ai_model": model})
    nodes = _history(endpoint)
    assert _kept(_formatted(nodes, ASKED, endpoint=endpoint)) == ALL
    assert _kept(_formatted(nodes, ASKED, endpoint=endpoint, instructions=())) == []


# ---------------------------------------------------------------------------------------------------- stable hashes


def test_prefixes_survive_a_json_round_trip() -> None:
    nodes = _history()
    stored = [ConversationNode.model_validate_json(node.model_dump_json()) for node in nodes]
    assert [node.prefix for node in stored] == [node.prefix for node in nodes]
    fresh, again = _formatted(stored, ASKED), _formatted(nodes, ASKED)
    assert (_kept(fresh), fresh.prefix) == (ALL, again.prefix)
    messages = [
        Message.model_validate_json(message.model_dump_json()) for node in nodes for message in node.as_messages()
    ]
    flat = PromptFormatter.format_messages([*messages, *ASKED], FABLE, instructions=LEADS, config=CONFIG)
    assert (_kept(flat), flat.prefix) == (ALL, again.prefix)


_PROGRAM = """
import sys

import orjson

from dhenara_async import AIModelCallConfig, AIModelEndpoint, ConversationNode, Message, PromptFormatter, ReasoningPart

told = orjson.loads(sys.stdin.buffer.read())
formatted = PromptFormatter.format_conversation(
    [ConversationNode.model_validate_json(orjson.dumps(node)) for node in told["nodes"]],
    AIModelEndpoint.model_validate({**told["endpoint"], "api": {**told["endpoint"]["api"], "api_key": "key"}}),
    asked=[Message.user("And now?")],
    instructions=told["instructions"],
    config=AIModelCallConfig.model_validate(told["config"]),
)
parts = [part for message in formatted.messages for part in message.parts]
print(formatted.prefix, sum(isinstance(part, ReasoningPart) for part in parts), hash("prefix"))
"""


def test_prefixes_are_equal_in_processes_with_other_hash_seeds() -> None:
    """Python salts its own hashes in each process; a stored conversation is read by many processes."""
    nodes = _history()
    told = orjson.dumps(
        {
            "nodes": [orjson.loads(node.model_dump_json()) for node in nodes],
            "endpoint": orjson.loads(FABLE.model_dump_json()),
            "instructions": LEADS,
            "config": {"tools": [orjson.loads(LOOK.model_dump_json())]},
        }
    )
    here, hashes = _formatted(nodes, ASKED).prefix, set[str]()
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=told,
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        prefix, thoughts, salted = ran.stdout.decode().split()
        assert (prefix, thoughts) == (here, "3")
        hashes.add(salted)
    assert len(hashes) == 2


# ---------------------------------------------------------------------------------------------------- in real turns

_CALLS = (ScriptedToolCall("toolu_1", "look", "{}"),)


def _script() -> list[Answer]:
    return [
        Answer(text="One.", reasoning="Thought 0.", tool_calls=_CALLS),
        Answer(text="Two.", reasoning="Thought 1."),
        Answer(text="Three.", reasoning="Thought 2."),
    ]


async def _third_turn(
    manager: ConversationManager,
    server: ProviderServer,
    conversation: Conversation,
    *,
    instructions: Sequence[str] = LEADS,
    config: AIModelCallConfig = CONFIG,
) -> ConversationNode:
    """Two turns under the same instructions and config, then one under the given ones."""
    fable = AIModelEndpoint(api=server.api(_Provider.ANTHROPIC), ai_model=FABLE.ai_model)
    first = await manager.ask(conversation, "First?", fable, instructions=LEADS, config=CONFIG)
    assert first.response is not None
    results = [ToolResultPart.of(call, "ok") for call in first.response.tools()]
    await manager.ask(conversation, "", fable, tool_results=results, instructions=LEADS, config=CONFIG)
    stored = await manager.open(conversation.id)
    return await manager.ask(stored, "Third?", fable, instructions=instructions, config=config)


def _blocks(body: bytes) -> list[dict[str, object]]:
    """The blocks in a request to the Messages API."""
    return [block for message in objects(turns(body)) for block in cast("list[dict[str, object]]", message["content"])]


def _thoughts(body: bytes) -> list[object]:
    """The texts of the thinking blocks in a request to the Messages API."""
    return [block["thinking"] for block in _blocks(body) if block["type"] == "thinking"]


def _objection(seen: SeenRequest) -> str | None:
    """The server's error for the thinking in a request when it is not asked to drop invalid blocks; or ``None``."""
    assert seen.error is None
    body = cast("dict[str, object]", seen.json)
    unasked = {key: item for key, item in body.items() if key != "thinking"}
    try:
        check_signatures(Arrived(seen.provider, seen.path, {}, {}, unasked))
    except Refusal as refusal:
        return refusal.message
    return None


async def test_a_manager_sends_valid_thinking_back_to_the_strict_server() -> None:
    async with ProviderServer(_script()) as server, ConversationManager() as manager:
        node = await _third_turn(manager, server, await manager.create())
        seen = server.requests
    assert [_objection(request) for request in seen] == [None] * 3
    assert _thoughts(seen[2].body) == ["Thought 0.", "Thought 1."]
    assert node.conversion.entries == () and node.prefix is not None


@pytest.mark.parametrize(
    ("instructions", "config"),
    [
        (("Be rude.",), CONFIG),
        ((), CONFIG),
        (LEADS, AIModelCallConfig(tools=[LOOK, Tool(name="listen")])),
        (LEADS, AIModelCallConfig()),
    ],
    ids=["other instructions", "no instructions", "another tool", "no tools"],
)
async def test_a_manager_drops_thinking_under_changed_instructions_or_tools(
    instructions: Sequence[str], config: AIModelCallConfig
) -> None:
    async with ProviderServer(_script()) as server, ConversationManager() as manager:
        conversation = await manager.create()
        node = await _third_turn(manager, server, conversation, instructions=instructions, config=config)
        seen = server.requests
    assert [_objection(request) for request in seen] == [None] * 3
    assert _thoughts(seen[2].body) == []
    assert [(entry.code, entry.reason) for entry in node.conversion.entries] == [DROPPED] * 2


async def test_the_strict_server_refuses_thinking_of_nodes_without_a_prefix() -> None:
    """Without a prefix the formatter cannot see that the instructions have changed."""
    async with ProviderServer([*_script(), Answer(text="Four.")]) as server, ConversationManager() as manager:
        conversation = await manager.create()
        await _third_turn(manager, server, conversation)
        kept = await manager.open(conversation.id)
        ignorant = Conversation(nodes=[node.model_copy(update={"prefix": None}) for node in kept.nodes])
        await manager.store.create(ignorant.id)
        fable = AIModelEndpoint(api=server.api(_Provider.ANTHROPIC), ai_model=FABLE.ai_model)
        await manager.ask(ignorant, "Fourth?", fable, instructions=("Be rude.",), config=CONFIG)
        seen = server.requests[3]
    assert len(_thoughts(seen.body)) == 3
    objection = _objection(seen)
    assert objection is not None and "The block is bound to a different conversation." in objection


def test_a_changed_prefix_drops_only_thinking_blocks() -> None:
    nodes = _history()
    blocks: list[list[dict[str, object]]] = []
    for history in (nodes, [node.model_copy(update={"prefix": None}) for node in nodes]):
        formatted = _formatted(history, ASKED, instructions=())
        request = ChatRequest.of(formatted.messages, instructions=(), config=CONFIG, stream=False)
        blocks.append(_blocks(driver_for(FABLE).encode(request, FABLE).body))
    without, whole = blocks
    assert without == [block for block in whole if block["type"] != "thinking"]
    assert len(whole) == len(without) + 3


async def test_a_return_to_the_old_instructions_sends_the_old_thinking_again() -> None:
    """The thinking stays in the conversation; each request sends the thinking of its own instructions."""
    script = [*_script(), Answer(text="Four.", reasoning="Thought 3."), Answer(text="Five.")]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        conversation = await manager.create()
        third = await _third_turn(manager, server, conversation, instructions=("Be rude.",))
        conversation = await manager.open(conversation.id)
        fable = AIModelEndpoint(api=server.api(_Provider.ANTHROPIC), ai_model=FABLE.ai_model)
        fourth = await manager.ask(conversation, "Fourth?", fable, instructions=LEADS, config=CONFIG)
        fifth = await manager.ask(conversation, "Fifth?", fable, instructions=("Be rude.",), config=CONFIG)
        seen = server.requests
    assert [_objection(request) for request in seen] == [None] * 5
    assert _thoughts(seen[3].body) == ["Thought 0.", "Thought 1."]
    assert [(entry.code, entry.reason) for entry in fourth.conversion.entries] == [DROPPED]
    assert _thoughts(seen[4].body) == ["Thought 2."]
    assert [(entry.code, entry.reason) for entry in fifth.conversion.entries] == [DROPPED] * 3
    assert len({third.prefix, fourth.prefix, fifth.prefix}) == 3
