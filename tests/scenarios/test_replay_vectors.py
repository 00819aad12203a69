"""Sixteen common faults in sending the history of one provider to another, with a test for each.

Tests about the order of turns run real turns at the strict loopback server. Tests about the shape of a history build
it by hand, or decode it from a provider's bytes, then format and encode it. Further tests are about stubs: declarations
of functions that the history calls, for targets that require them (case 14).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ChatResponse,
    ConversationManager,
    ConversationNode,
    ConversionPolicy,
    ConversionReport,
    Dialect,
    FilePart,
    FinishReason,
    Host,
    HostedToolPart,
    Message,
    Origin,
    PartEnd,
    PromptFormatter,
    ReasoningDelta,
    ReasoningPart,
    StreamEvent,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    register_driver,
    register_host,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.downloads.inlining import inlined, key_of, stand_in, to_download
from dhenara_async.drivers import (
    ChatRequest,
    Decoder,
    Frame,
    JsonObject,
    KnobWarnings,
    Part,
    PartsInFlight,
    Rules,
    WireRequest,
    api_error,
    as_text,
    error_object,
    finish_of,
    load,
    truncated,
    wire,
)
from dhenara_async.errors import APIError, UnsupportedError
from dhenara_async.framing.sse import SSEFramer
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.response import Choice, Usage
from dhenara_async.testing import Answer, Fault, ProviderServer, ReplayTransport, ScriptedToolCall
from tests.cases import sample
from tests.histories import TARGETS, histories
from tests.raw_json import keys, objects, turns

_Provider = AIModelAPIProviderEnum

SONNET = "claude-sonnet-5-5"
HAIKU = "claude-haiku-4-5"
GPT = "gpt-6.2-sol"
GEMINI = "gemini-3.8-flash"
STAND_IN = "skip_thought_signature_validator"
PNG = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\npixels")
WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
ARGUMENTS = '{"city": "Paris"}'


# ---------------------------------------------------------------------------------------------------- histories


def _endpoint(
    provider: AIModelAPIProviderEnum | str, model: str = "model-1", dialect: Dialect | None = None
) -> AIModelEndpoint:
    api = AIModelAPI(provider=provider, dialect=dialect, api_key="key")
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


def _at(server: ProviderServer, provider: AIModelAPIProviderEnum, model: str) -> AIModelEndpoint:
    return AIModelEndpoint(api=server.api(provider), ai_model=AIModel(model_name=model))


CLAUDE = _endpoint(_Provider.ANTHROPIC, SONNET)
RESPONSES = _endpoint(_Provider.OPEN_AI, GPT)
CHAT = _endpoint(_Provider.OPEN_AI, "gpt-5", Dialect.OPENAI_CHAT)
GEMINI_3 = _endpoint(_Provider.GOOGLE_AI, GEMINI)
MISTRAL = _endpoint(_Provider.MISTRAL, "mistral-large-4")
DEEPSEEK = _endpoint(_Provider.DEEPSEEK, "deepseek-v4-pro")


def _turn(
    endpoint: AIModelEndpoint,
    *said: Part,
    query: str = "",
    results: Sequence[ToolResultPart] = (),
    status: Literal["complete", "interrupted"] = "complete",
) -> ConversationNode:
    """Return a turn answered by ``endpoint``."""
    origin = expected_origin(endpoint)
    parts = tuple(part.model_copy(update={"origin": origin}) for part in said)
    choice = Choice(parts=parts, finish_reason=FinishReason.STOP)
    response = ChatResponse(choices=(choice,), model=origin.model, provider=origin.provider)
    return ConversationNode(user_query=query, tool_results=results, response=response, origin=origin, status=status)


def _call(call_id: str, arguments: str = ARGUMENTS, name: str = "weather") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


def _decoded(endpoint: AIModelEndpoint, body: bytes, *, stream: bool) -> ChatResponse:
    """Decode the bytes of an answer of ``endpoint``."""
    request = ChatRequest.of([Message.user("q")], instructions=(), config=AIModelCallConfig(), stream=stream)
    decoder, framer = driver_for(endpoint).decoder(request, expected_origin(endpoint)), SSEFramer()
    accumulator = Accumulator(provider=str(endpoint.api.provider), model=endpoint.ai_model.model_name)
    for frame in [*framer.feed(body), *framer.finish()] if stream else [body]:
        accumulator.feed(decoder.feed(frame))
    accumulator.feed(decoder.finish())
    return accumulator.response()


# ---------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Sent:
    """A request, and the report on its history."""

    body: bytes
    report: ConversionReport

    @property
    def json(self) -> JsonObject:
        return cast(JsonObject, orjson.loads(self.body))

    @property
    def turns(self) -> list[JsonObject]:
        return objects(turns(self.body))

    @property
    def codes(self) -> list[str]:
        return [entry.code for entry in self.report.entries]


def _sent(
    nodes: Sequence[ConversationNode],
    endpoint: AIModelEndpoint,
    *asked: Message,
    config: AIModelCallConfig | None = None,
    policy: ConversionPolicy | None = None,
) -> Sent:
    """Return the request to ``endpoint`` that follows ``nodes``; files that it does not fetch are inlined."""
    knobs = config or AIModelCallConfig(max_output_tokens=1000)
    formatted = PromptFormatter.format_conversation(nodes, endpoint, policy=policy, asked=asked, config=knobs)
    request = ChatRequest.of(formatted.messages, instructions=(), config=formatted.declared(knobs), stream=False)
    links = {key_of(part): stand_in(part) for part in to_download(request.messages, endpoint)}
    request = ChatRequest(inlined(request.messages, links), (), request.config, stream=False)
    return Sent(driver_for(endpoint).encode(request, endpoint).body, formatted.report)


def _list(value: object) -> list[JsonObject]:
    assert isinstance(value, list)
    return cast("list[JsonObject]", value)


def _objects(value: object) -> list[JsonObject]:
    """Return all objects of a JSON document, at any depth."""
    if isinstance(value, dict):
        document = cast(JsonObject, value)
        return [document, *(found for item in document.values() for found in _objects(item))]
    if isinstance(value, list):
        return [found for item in cast("list[object]", value) for found in _objects(item)]
    return []


def _kinds(value: object) -> list[object]:
    return [found["type"] for found in _objects(value) if isinstance(found.get("type"), str)]


# ---------------------------------------------------------------------------------------------------- vectors


async def test_vector_01_claude_gets_its_closed_tool_loop_back_to_the_byte() -> None:
    """Claude reasons, calls and answers; OpenAI reasons and answers; Claude is asked again. Claude's own parts have the
    same bytes as in their first request, and OpenAI's reasoning is left out."""
    script = [
        Answer(reasoning="I must look.", tool_calls=(ScriptedToolCall("toolu_01", "weather", ARGUMENTS),)),
        Answer(text="It rains."),
        Answer(text="In Rome too.", reasoning="OpenAI's own thought."),
        Answer(text="So stay in."),
    ]
    config = AIModelCallConfig(tools=[WEATHER], reasoning=True)
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        claude, gpt = _at(server, _Provider.ANTHROPIC, SONNET), _at(server, _Provider.OPEN_AI, GPT)
        conversation = await manager.create()
        first = await manager.ask(conversation, "How is Paris?", claude)
        assert first.response is not None
        results = [ToolResultPart.of(call, "rain") for call in first.response.tools()]
        await manager.ask(conversation, "", claude, tool_results=results)
        hop = await manager.ask(conversation, "And Rome?", gpt)
        last = await manager.ask(conversation, "And now?", claude)
        requests = server.requests
    assert [seen.error for seen in requests] == [None] * 4
    sent = [turns(seen.body) for seen in requests if seen.dialect is Dialect.ANTHROPIC_MESSAGES]
    assert [len(request) for request in sent] == [1, 3, 7]
    assert sent[1][:1] == sent[0]
    assert sent[2][:3] == sent[1]
    thought = first.response.choices[0].parts[0]
    assert isinstance(thought, ReasoningPart) and thought.provider_state is not None
    block = _list(objects(sent[2])[1]["content"])[0]
    assert block == {"type": "thinking", "thinking": "I must look.", "signature": thought.provider_state["signature"]}
    assert hop.response is not None
    (foreign,) = [part for part in hop.response.choices[0].parts if isinstance(part, ReasoningPart)]
    seal = (foreign.provider_state or {})["encrypted_content"]
    assert isinstance(seal, str) and len(seal) > 10
    assert seal.encode() not in requests[3].body
    assert b"OpenAI's own thought." not in requests[3].body
    assert [(entry.code, entry.reason) for entry in last.conversion.entries] == [
        ("reasoning_dropped", "foreign_origin")
    ]


@pytest.mark.parametrize("call_id", ["call_abc", "call_abc|fc_0123", "c" * 64])
async def test_vector_02_thinking_is_off_where_claude_continues_an_open_tool_loop_of_openai(call_id: str) -> None:
    """The call is OpenAI's and has its result. A Claude model with a thinking budget would need thinking before the
    call, so thinking is switched off for this request."""
    script = [
        Answer(reasoning="Hm.", tool_calls=(ScriptedToolCall(call_id, "weather", ARGUMENTS),)),
        Answer(text="Ok."),
    ]
    tools = AIModelCallConfig(tools=[WEATHER])
    thinking = AIModelCallConfig(tools=[WEATHER], reasoning=True, max_reasoning_tokens=2048)
    async with ProviderServer(script) as server, ConversationManager() as manager:
        conversation = await manager.create()
        called = await manager.ask(conversation, "Paris?", _at(server, _Provider.OPEN_AI, GPT), config=tools)
        assert called.response is not None
        results = [ToolResultPart.of(call, "rain") for call in called.response.tools()]
        haiku = _at(server, _Provider.ANTHROPIC, HAIKU)
        node = await manager.ask(conversation, "", haiku, tool_results=results, config=thinking)
        seen = server.requests[-1]
    assert seen.error is None
    body = cast(JsonObject, seen.json)
    assert body["thinking"] == {"type": "disabled"}
    assert [warning.knob for warning in node.warnings] == ["reasoning"]
    answer, told = objects(turns(seen.body))[1:]
    (block,) = _list(answer["content"])
    (result,) = _list(told["content"])
    assert (block["type"], result["type"]) == ("tool_use", "tool_result")
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", str(block["id"]))
    assert result["tool_use_id"] == block["id"]
    assert (block["id"] == call_id) == ("|" not in call_id)


def test_vector_03_parallel_calls_of_others_become_one_step_of_gemini() -> None:
    """Two calls of one answer become one content, with the documented placeholder signature on the first only; their
    results become one content in the order of the calls."""
    calls = [_call("call_1"), _call("call_2", '{"city":"Rome"}')]
    results = [ToolResultPart.of(calls[1], "sun"), ToolResultPart.of(calls[0], "rain")]
    sent = _sent([_turn(RESPONSES, *calls, query="Weather?")], GEMINI_3, Message.user(*results))

    def call(call_id: str, city: str) -> JsonObject:
        return {"functionCall": {"id": call_id, "name": "weather", "args": {"city": city}}}

    def result(call_id: str, said: str) -> JsonObject:
        return {"functionResponse": {"id": call_id, "name": "weather", "response": {"output": said}}}

    assert sent.json["contents"] == [
        {"role": "user", "parts": [{"text": "Weather?"}]},
        {"role": "model", "parts": [{**call("call_1", "Paris"), "thoughtSignature": STAND_IN}, call("call_2", "Rome")]},
        {"role": "user", "parts": [result("call_1", "rain"), result("call_2", "sun")]},
    ]
    assert sent.codes == ["signature_synthesized"]


def test_vector_04_of_geminis_own_parallel_calls_only_the_first_is_signed() -> None:
    """They are sent back as they came: the second call gets no placeholder signature."""
    first = _call("c1").model_copy(update={"provider_state": {"thoughtSignature": "c2VhbGVk"}})
    calls = [first, _call("c2")]
    results = [ToolResultPart.of(call, "rain") for call in calls]
    sent = _sent([_turn(GEMINI_3, *calls, query="Weather?")], GEMINI_3, Message.user(*results))
    said = _list(sent.turns[1]["parts"])
    assert [part.get("thoughtSignature") for part in said] == ["c2VhbGVk", None]
    assert sent.codes == []
    assert STAND_IN.encode() not in sent.body


def test_vector_05_ten_thousand_foreign_ids_stay_unique_at_mistral() -> None:
    """Ids of Anthropic and OpenAI become nine letters and digits, all different, and every result keeps its call."""
    ids = [f"toolu_01{at:020d}" if at % 2 else f"call_{at:024d}|fc_{at:040d}" for at in range(10_000)]
    nodes: list[ConversationNode] = []
    results: list[ToolResultPart] = []
    for at in range(0, len(ids), 50):
        calls = [_call(call_id, "{}") for call_id in ids[at : at + 50]]
        nodes.append(_turn(CLAUDE, *calls, query="" if results else "Begin.", results=results))
        results = [ToolResultPart.of(call, f"of {call.call_id}") for call in calls]
    sent = _sent(nodes, MISTRAL, Message.user(*results)).turns
    called = [str(call["id"]) for message in sent for call in _list(message.get("tool_calls") or [])]
    assert len(called) == len(set(called)) == 10_000
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", call_id) for call_id in called)
    told = {message["tool_call_id"]: message["content"] for message in sent if message["role"] == "tool"}
    assert told == {wire_id: f"of {call_id}" for wire_id, call_id in zip(called, ids, strict=True)}


@pytest.mark.parametrize("host", [CHAT, _endpoint(_Provider.GROQ), _endpoint(_Provider.OPENROUTER)])
def test_vector_06_ids_of_83_characters_are_shortened_for_chat_completions(host: AIModelEndpoint) -> None:
    """Ids made of an item's id and a call's id are longer than the limit of 40 characters."""
    long = [f"call_{'a' * 24}|fc_{'b' * 49}{at}" for at in range(2)]
    assert {len(call_id) for call_id in long} == {83}
    calls = [_call(call_id) for call_id in long]
    asked = Message.user(*(ToolResultPart.of(call, call.call_id[-1]) for call in calls))
    sent = _sent([_turn(RESPONSES, *calls, query="Weather?")], host, asked)
    called = [str(call["id"]) for call in _list(sent.turns[1]["tool_calls"])]
    assert all(0 < len(call_id) <= 40 for call_id in called) and len(set(called)) == 2
    told = [(message["tool_call_id"], message["content"]) for message in sent.turns[2:]]
    assert told == [(called[0], "0"), (called[1], "1")]
    assert sent.codes == ["id_rewritten"] * 4


def test_vector_07_a_picture_of_a_result_follows_all_results_in_chat_completions() -> None:
    """A tool message holds text only; the picture goes into the user message after the last tool message."""
    calls = [_call("call_1"), _call("call_2")]
    results = [ToolResultPart.of(calls[0], "A chart:", PNG), ToolResultPart.of(calls[1], "rain")]
    sent = _sent([_turn(CHAT, *calls, query="Chart?")], CHAT, Message.user(*results))
    assert [message["role"] for message in sent.turns] == ["user", "assistant", "tool", "tool", "user"]
    assert [message["content"] for message in sent.turns[2:4]] == ["A chart:", "rain"]
    said = _list(sent.turns[4]["content"])
    assert [part["type"] for part in said] == ["text", "image_url"]
    assert cast(JsonObject, said[1]["image_url"])["url"] == f"data:image/png;base64,{PNG.get_base64()}"
    assert sent.codes == ["media_moved"]


@pytest.mark.parametrize("blank", ["", " ", "\n"])
@pytest.mark.parametrize("target", ["anthropic", "converse"])
def test_vector_08_blank_texts_are_dropped(target: str, blank: str) -> None:
    """Blank texts of any role are dropped, also beside a call."""
    endpoint = {"anthropic": CLAUDE, "converse": _converse()}[target]
    call = _call("call_1")
    asked = Message.user(ToolResultPart.of(call, "rain"), TextPart(text=blank))
    nodes = [
        _turn(RESPONSES, TextPart(text="Hello."), TextPart(text=blank), query="Hi."),
        _turn(RESPONSES, TextPart(text=blank), call, TextPart(text=blank), query="Weather?"),
    ]
    sent = _sent(nodes, endpoint, asked)
    parts = [part for message in sent.turns for part in _list(message["content"])]
    texts = [part["text"] for part in parts if "text" in part]
    assert texts == ["Hi.", "Hello.", "Weather?"]
    assert len(parts) == len(texts) + 2
    only = _list(sent.turns[3]["content"])
    assert len(only) == 1 and (only[0].get("type") == "tool_use" or "toolUse" in only[0])
    assert sent.codes.count("blank_text_dropped") == 4


@pytest.mark.parametrize(("until", "events"), [("amid its reasoning", 6), ("behind its reasoning", 10)])
async def test_vector_09_reasoning_without_an_answer_is_not_sent_to_responses(until: str, events: int) -> None:
    """The reader left during the reasoning, so no other item follows it; reasoning of a complete turn is sent."""
    script = [
        Answer(text="Hello.", reasoning="Greet."),
        Fault(answer=Answer(text="Never read.", reasoning="Let me think."), stall=events),
        Answer(text="Yes."),
    ]

    def is_enough(event: StreamEvent) -> bool:
        if until == "amid its reasoning":
            return isinstance(event, ReasoningDelta)
        return isinstance(event, PartEnd) and event.part.type == "reasoning"

    async with ProviderServer(script) as server, ConversationManager() as manager:
        gpt, conversation = _at(server, _Provider.OPEN_AI, GPT), await manager.create()
        await manager.ask(conversation, "Hi.", gpt)
        async with manager.turn(conversation, "Why?", gpt) as turn:
            async for event in turn:
                if is_enough(event):
                    break
        assert turn.node.status == "interrupted" and turn.node.response is not None
        assert {part.type for part in turn.node.response.choices[0].parts} == {"reasoning"}
        node = await manager.ask(conversation, "Still there?", gpt)
        seen = server.requests[-1]
    assert seen.error is None
    items = objects(turns(seen.body))
    assert [item.get("type", item.get("role")) for item in items] == ["user", "reasoning", "assistant", "user", "user"]
    assert [(entry.code, entry.reason) for entry in node.conversion.entries] == [("reasoning_dropped", "aborted_turn")]


async def test_vector_10_deepseek_gets_a_reasoning_field_with_every_answer_of_claude() -> None:
    """DeepSeek requires its reasoning beside calls; a call of another model gets an empty reasoning field."""
    script = [
        Answer(reasoning="Look.", tool_calls=(ScriptedToolCall("toolu_01", "weather", ARGUMENTS),)),
        Answer(text="It rains."),
        Answer(text="Indeed.", reasoning="They said so."),
        Answer(text="Bye."),
    ]
    config = AIModelCallConfig(tools=[WEATHER])
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        claude, deepseek = _at(server, _Provider.ANTHROPIC, SONNET), _at(server, _Provider.DEEPSEEK, "deepseek-v4-pro")
        conversation = await manager.create()
        called = await manager.ask(conversation, "Paris?", claude)
        assert called.response is not None
        results = [ToolResultPart.of(call, "rain") for call in called.response.tools()]
        await manager.ask(conversation, "", claude, tool_results=results)
        await manager.ask(conversation, "Really?", deepseek)
        await manager.ask(conversation, "Bye.", deepseek)
        requests = server.requests
    assert [seen.error for seen in requests] == [None] * 4
    thoughts = [_thoughts(seen.body, "reasoning_content") for seen in requests[2:]]
    assert thoughts == [["", ""], ["", "", "They said so."]]
    assert b"Look." not in requests[3].body


@pytest.mark.parametrize(
    ("provider", "model"), [(_Provider.CEREBRAS, "gpt-oss-120b"), (_Provider.GROQ, "openai/gpt-oss-120b")]
)
async def test_vector_11_hosts_that_refuse_reasoning_content_never_see_that_key(
    provider: AIModelAPIProviderEnum, model: str
) -> None:
    """The key is absent for DeepSeek's reasoning and for their own, which has another name there."""
    thinks = [Answer(text=f"Answer {at}.", reasoning=f"Thought {at}.") for at in range(3)]
    async with ProviderServer(thinks) as server, ConversationManager() as manager:
        host, deepseek = _at(server, provider, model), _at(server, _Provider.DEEPSEEK, "deepseek-v4-pro")
        conversation = await manager.create()
        for at, endpoint in enumerate((deepseek, host, host)):
            await manager.ask(conversation, f"Question {at}?", endpoint)
        requests = server.requests
    assert [seen.error for seen in requests] == [None] * 3
    for seen in requests[1:]:
        assert "reasoning_content" not in set(keys(seen.json))
        assert b"Thought 0." not in seen.body
    assert _thoughts(requests[2].body, "reasoning") == [None, "Thought 1."]


@pytest.mark.parametrize("shown", ["", " ", "\n Hm. \n"], ids=["nothing", "a space", "words in space"])
def test_vector_12_reasoning_without_text_keeps_its_signature(shown: str) -> None:
    """Hidden reasoning is signed; it is stored, read and sent back with its empty text, or any other unchanged."""
    block: JsonObject = {"type": "thinking", "thinking": shown, "signature": "RXF1YWw9c2ln"}
    content = [block, {"type": "text", "text": "Hello."}]
    usage = {"input_tokens": 1, "output_tokens": 2}
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": SONNET, "content": content}
    body = orjson.dumps({**answer, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})
    response = _decoded(CLAUDE, body, stream=False)
    node = ConversationNode(user_query="Hi.", response=response, origin=expected_origin(CLAUDE))
    kept = ConversationNode.model_validate_json(node.model_dump_json())
    assert kept == node and kept.model_dump_json() == node.model_dump_json()
    for nodes in ([node], [kept]):
        sent = _sent(nodes, CLAUDE, Message.user("And?"))
        assert sent.turns[1] == {"role": "assistant", "content": content}
        assert sent.codes == []


@pytest.mark.parametrize("target", TARGETS)
def test_vector_13_a_longer_history_begins_with_the_same_bytes(target: str) -> None:
    """Equal histories encode to equal bytes, also from stored nodes, and a request begins with the bytes of the request
    of the turn before, for every source, target and interrupted turn.

    Each target is sent half of the histories; a soak sends all.
    """
    lenient, grown = ConversionPolicy(media="describe"), 0
    tried = [(f"{source}, {name}", history) for source in _DETERMINED for name, history in histories(source).items()]
    for name, history in sample(tried, 2, list(TARGETS).index(target)):
        endpoint = TARGETS[target].endpoint
        stored = [ConversationNode.model_validate_json(node.model_dump_json()) for node in history.nodes]
        before: list[bytes] = []
        for length in range(len(history.nodes)):
            asked = [message for message in history.nodes[length].as_messages() if message.role != "assistant"]
            if not _is_asked(asked):
                continue
            sent = _sent(history.nodes[:length], endpoint, *asked, policy=lenient).body
            again = _sent(stored[:length], endpoint, *asked, policy=lenient).body
            assert again == sent, (name, length)
            spelled = turns(sent)
            assert _begins_with(spelled, before), (name, length)
            grown += len(spelled) > len(before) > 0
            before = spelled
    assert grown > 25


def test_vector_14_functions_that_the_history_calls_are_declared_where_that_is_demanded() -> None:
    """Converse refuses calls of undeclared functions, and this call declares none: each called name gets a stub, in the
    order of the first calls."""
    calls = [_call("c1", name="weather"), _call("c2", name="clock"), _call("c3", name="weather")]
    results = [ToolResultPart.of(call, "ok") for call in calls]
    sent = _sent([_turn(RESPONSES, *calls, query="Go.")], _converse(), Message.user(*results))

    def stub(name: str) -> JsonObject:
        schema: JsonObject = {"json": {"type": "object", "properties": {}}}
        words = "Declared because the conversation has used it."
        return {"toolSpec": {"name": name, "description": words, "inputSchema": schema}}

    assert sent.json["toolConfig"] == {"tools": [stub("weather"), stub("clock")]}
    told = [entry for entry in sent.report.entries if entry.code == "tools_stubbed"]
    assert [(entry.severity, entry.kind, entry.message, entry.part) for entry in told] == [
        ("info", "tool", 1, None)
    ] * 2
    made_up = [(part.kind, part.outcome) for part in sent.report.parts if part.part is None]
    assert made_up == [("tool", "synthesised")] * 2


@pytest.mark.parametrize(
    ("provider", "model", "dialect"),
    [(_Provider.OPEN_AI, GPT, None), (_Provider.OPEN_AI, "gpt-5", Dialect.OPENAI_CHAT)],
    ids=["responses", "chat"],
)
async def test_vector_15_a_search_that_anthropic_ran_is_a_line_of_text_at_openai(
    provider: AIModelAPIProviderEnum, model: str, dialect: Dialect | None
) -> None:
    """None of its blocks, and nothing encrypted in them, is sent; the report has an entry for the search and one for
    its results, and their summary is one line."""
    node = ConversationNode(user_query="Weather?", response=_searched(), origin=expected_origin(CLAUDE))
    assert node.response is not None
    hosted = [at for at, part in enumerate(node.response.choices[0].parts) if isinstance(part, HostedToolPart)]
    assert len(hosted) == 2
    async with ProviderServer() as server, ConversationManager() as manager:
        endpoint = AIModelEndpoint(api=server.api(provider, dialect=dialect), ai_model=AIModel(model_name=model))
        conversation = await manager.create()
        conversation.append(node)
        report = (await manager.ask(conversation, "Sure?", endpoint)).conversion
        (seen,) = server.requests
    assert seen.error is None
    assert _found_in(_SEARCH) == {"server_tool_use", "web_search_tool_result", "encrypted_content", "encrypted_index"}
    assert _found_in(seen.json) == set()
    assert b"sealed" not in seen.body
    assert seen.body.count(b'[web_search \\"rain in Paris\\" \xe2\x86\x92 1 result]') == 1
    entries = [entry for entry in report.entries if entry.kind == "hosted_tool"]
    assert [(entry.message, entry.part) for entry in entries] == [(1, at) for at in hosted]
    assert {(entry.code, entry.reason) for entry in entries} == {("hosted_tool_summarized", "foreign_origin")}


def test_vector_16_the_signed_empty_text_at_the_end_of_a_gemini_stream_keeps_its_place() -> None:
    """The thought has no signature; the signature comes last, on an empty text. Both are sent back unchanged, and
    another model gets nothing of the empty text."""
    events: list[list[JsonObject]] = [
        [{"text": "Let me see.", "thought": True}],
        [{"text": "It rains."}],
        [{"text": "", "thoughtSignature": "c2lnbmVkIGxhc3Q="}],
    ]
    stream = b"".join(_gemini_event(parts, last=parts is events[-1]) for parts in events)
    response = _decoded(GEMINI_3, stream, stream=True)
    node = ConversationNode(user_query="Weather?", response=response, origin=expected_origin(GEMINI_3))
    kept = ConversationNode.model_validate_json(node.model_dump_json())
    said = [part for parts in events for part in parts]
    for nodes in ([node], [kept]):
        sent = _sent(nodes, GEMINI_3, Message.user("And?"))
        assert sent.turns[1] == {"role": "model", "parts": said}
        assert sent.codes == []
    other = _sent([node], _endpoint(_Provider.GOOGLE_AI, "gemini-3.8-pro"), Message.user("And?"))
    assert other.turns[1] == {"role": "model", "parts": [{"text": "It rains."}]}
    assert other.codes == ["reasoning_dropped", "blank_text_dropped"]


_SEARCH: list[JsonObject] = [
    {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {"query": "rain in Paris"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_01",
        "content": [
            {
                "type": "web_search_result",
                "url": "https://news.test/rain",
                "title": "Rain",
                "encrypted_content": "sealed content",
                "page_age": None,
            }
        ],
    },
    {
        "type": "text",
        "text": "It rains.",
        "citations": [
            {
                "type": "web_search_result_location",
                "url": "https://news.test/rain",
                "title": "Rain",
                "encrypted_index": "sealed index",
                "cited_text": "It rains.",
            }
        ],
    },
]


def _searched() -> ChatResponse:
    """Return an answer of Claude with a search of its own."""
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": SONNET, "stop_reason": "end_turn"}
    usage = {"input_tokens": 1, "output_tokens": 2}
    body = orjson.dumps({**head, "stop_sequence": None, "content": _SEARCH, "usage": usage})
    return _decoded(CLAUDE, body, stream=False)


def _found_in(value: object) -> set[str]:
    """Return the names of Anthropic's search blocks that occur as keys or types in a JSON document."""
    words = {"server_tool_use", "web_search_tool_result", "encrypted_content", "encrypted_index"}
    return words & {*keys(value), *(str(kind) for kind in _kinds(value))}


_DETERMINED = ("anthropic", "responses", "gemini", "openrouter", "mistral")


def _begins_with(later: list[bytes], earlier: list[bytes]) -> bool:
    """Whether a request begins with the messages of an earlier one.

    If nothing of the answer between them can be sent, and roles must alternate, the last message of the earlier request
    may be longer in the later one.
    """
    if len(later) > len(earlier) or not earlier:
        return later[: len(earlier)] == earlier
    return later[:-1] == earlier[:-1] and later[-1].startswith(earlier[-1].rstrip(b'"]}'))


def _is_asked(messages: Sequence[Message]) -> bool:
    """Whether the messages end with a question."""
    parts = [part for message in messages for part in message.parts]
    return any(not isinstance(part, TextPart) or part.text.strip() for part in parts)


def _thoughts(body: bytes, field: str) -> list[object]:
    """Return a field of every answer in a Chat Completions request; None for answers without it."""
    return [message.get(field) for message in objects(turns(body)) if message["role"] == "assistant"]


def _gemini_event(parts: list[JsonObject], *, last: bool) -> bytes:
    candidate: JsonObject = {"content": {"role": "model", "parts": parts}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    return (
        b"data: " + orjson.dumps({"candidates": [candidate], "modelVersion": GEMINI, "responseId": "r"}) + b"\r\n\r\n"
    )


# ---------------------------------------------------------------------------------------------------- stubs


class ConverseDriver:
    """A part of Bedrock's Converse that shows which tools are declared."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return Rules(alternates=True, object_arguments=True, error_flag=True, needs_tools=True)

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        config = request.config
        messages = [
            {"role": message.role.value, "content": [_block(part) for part in message.parts]}
            for message in request.messages
        ]
        body: JsonObject = {"messages": messages}
        if tools := [_spec(tool) for tool in config.tools if isinstance(tool, Tool)]:
            body["toolConfig"] = {"tools": tools}
        warnings = KnobWarnings(endpoint.ai_model.model_name)
        return wire(f"/model/{endpoint.ai_model.model_name}/converse", body, config, warnings, {})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return ConverseDecoder(request, origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        message = as_text(error_object(body).get("message"))
        return api_error(status, headers, body, provider=provider, message=message, code=None)


def _block(part: Part) -> JsonObject:
    match part:
        case TextPart():
            return {"text": part.text}
        case ToolCallPart():
            return {"toolUse": {"toolUseId": part.call_id, "name": part.name, "input": part.parsed()}}
        case ToolResultPart():
            content = [{"text": item.get_text()} for item in part.content]
            return {"toolResult": {"toolUseId": part.call_id, "content": content}}
        case _:
            raise UnsupportedError(f"no block for a part of type {part.type!r}")


def _spec(tool: Tool) -> JsonObject:
    schema = {"json": tool.parameters}
    return {"toolSpec": {"name": tool.name, "description": tool.description, "inputSchema": schema}}


class ConverseDecoder:
    """Decodes plain bodies with one text."""

    def __init__(self, request: ChatRequest, origin: Origin) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)

    @property
    def usage(self) -> Usage | None:
        return None

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        text = self._parts.open("text")
        text.pieces.append(as_text(load(frame).get("text")))
        start = self._parts.begin(model=None, response_id=None)
        self._parts.finishes[0] = finish_of(None, {}, has_calls=False)
        return [start, text.start, self._parts.close(text)]

    def finish(self) -> Sequence[StreamEvent]:
        if not self._parts.started:
            raise truncated("a body")
        return [self._parts.end()]


_CONVERSE = Host("https://converse.test", "converse_of_the_vectors", key_required=False)


def _converse() -> AIModelEndpoint:
    """Return an endpoint of that dialect; registering it twice changes nothing."""
    register_driver("converse_of_the_vectors", ConverseDriver)
    register_host("converse_of_the_vectors", _CONVERSE)
    return _endpoint("converse_of_the_vectors", "model-1")


def _declared(body: bytes) -> list[str] | None:
    """Return the names of the declared tools of a request; None if it declares none."""
    declared = cast("dict[str, list[dict[str, dict[str, str]]]] | None", orjson.loads(body).get("toolConfig"))
    return None if declared is None else [spec["toolSpec"]["name"] for spec in declared["tools"]]


def _called(*names: str) -> list[ConversationNode]:
    """Return a turn with a call for each name; the last call has no result."""
    nodes: list[ConversationNode] = []
    results: list[ToolResultPart] = []
    for at, name in enumerate(names):
        call = _call(f"call_{at}", name=name)
        nodes.append(_turn(RESPONSES, call, query="" if results else "Go.", results=results))
        results = [ToolResultPart.of(call, "ok")]
    return nodes


def test_tools_that_the_call_declares_are_not_stubbed() -> None:
    """A call with tools of its own gets no stubs at all."""
    config = AIModelCallConfig(tools=[Tool(name="other")])
    sent = _sent(_called("weather"), _converse(), Message.user("And?"), config=config)
    assert _declared(sent.body) == ["other"]
    assert "tools_stubbed" not in sent.codes


def test_a_history_without_calls_needs_no_stubs() -> None:
    sent = _sent([_turn(RESPONSES, TextPart(text="Hello."), query="Hi.")], _converse(), Message.user("And?"))
    assert (_declared(sent.body), sent.codes) == (None, [])


@pytest.mark.parametrize("target", TARGETS)
def test_formatted_messages_have_no_stubs_unless_the_caller_asks(target: str) -> None:
    formatted = PromptFormatter.format_conversation(_called("weather"), TARGETS[target].endpoint)
    assert formatted.stubs == ()
    assert "tools_stubbed" not in {entry.code for entry in formatted.report.entries}


def test_stubs_have_the_names_that_the_calls_are_sent_with() -> None:
    """A name that the target forbids is rewritten in both; one that only this library forbids is kept."""
    sent = _sent(_called("get.weather", "9lives", "get weather"), _converse(), Message.user("And?"))
    uses = [cast(JsonObject, found["toolUse"])["name"] for found in _objects(sent.json) if "toolUse" in found]
    assert uses == ["get_weather", "9lives", "get_weather"]
    assert _declared(sent.body) == ["get_weather", "9lives"]


def test_stubs_grow_with_the_conversation() -> None:
    """The cache of a shorter history is extended for the longer one, and still serves the shorter one."""
    nodes, endpoint, asked = _called("weather", "clock", "weather", "tides"), _converse(), Message.user("And?")
    names = [["weather"], ["weather", "clock"], ["weather", "clock"], ["weather", "clock", "tides"]]
    for order in (range(4), range(4), reversed(range(4))):
        for at in order:
            sent = _sent(nodes[: at + 1], endpoint, asked)
            assert (_declared(sent.body), sent.codes.count("tools_stubbed")) == (names[at], len(names[at]))
    declaring = AIModelCallConfig(tools=[WEATHER])
    assert _declared(_sent(nodes, endpoint, asked, config=declaring).body) == ["weather"]
    assert _declared(_sent(nodes, endpoint, asked).body) == names[3]


def test_messages_and_nodes_get_equal_stubs() -> None:
    nodes, endpoint, asked = _called("weather", "clock"), _converse(), Message.user("And?")
    messages = [message for node in nodes for message in node.as_messages()]
    formatted = PromptFormatter.format_messages([*messages, asked], endpoint)
    of_nodes = PromptFormatter.format_conversation(nodes, endpoint, asked=[asked])
    assert [tool.name for tool in formatted.stubs] == ["weather", "clock"]
    assert formatted.stubs == of_nodes.stubs
    again = PromptFormatter.format_messages(formatted.messages, endpoint)
    assert (again.messages, again.stubs) == (formatted.messages, formatted.stubs)


async def test_a_client_sends_the_stubs() -> None:
    transport, config = ReplayTransport(b'{"text": "Ok."}'), AIModelCallConfig(max_output_tokens=10)
    client = AIModelClient(_converse(), config, transport=transport)
    messages = [message for node in _called("weather") for message in node.as_messages()]
    answer = await client.generate(messages=[*messages, Message.user("And?")])
    assert answer.text() == "Ok."
    assert [_declared(request.body) for request in transport.requests] == [["weather"]]
    assert "tools_stubbed" in {entry.code for entry in answer.conversion.entries}
    assert config.tools == ()


async def test_a_manager_sends_the_stubs_and_reports_them_on_the_node() -> None:
    transport = ReplayTransport(b'{"text": "Ok."}')
    async with ConversationManager(transport=transport) as manager:
        conversation = await manager.create()
        for node in _called("weather"):
            conversation.append(node)
        node = await manager.ask(conversation, "And?", _converse())
        plain = await manager.ask(conversation, "And?", _converse(), config=AIModelCallConfig(tools=[WEATHER]))
    assert [_declared(request.body) for request in transport.requests] == [["weather"]] * 2
    assert "tools_stubbed" in {entry.code for entry in node.conversion.entries}
    assert "tools_stubbed" not in {entry.code for entry in plain.conversion.entries}
    assert ConversationNode.model_validate_json(node.model_dump_json()) == node


def test_a_dry_run_reports_the_stubs_and_counts_their_tokens() -> None:
    asked = [Message.user("And?")]
    check = PromptFormatter.check(_called("weather"), _converse(), asked=asked)
    declaring = PromptFormatter.check(
        _called("weather"), _converse(), asked=asked, config=AIModelCallConfig(tools=[Tool(name="weather")])
    )
    assert {entry.code for entry in check.entries} == {"tools_stubbed", "tool_result_synthesized"}
    assert "tools_stubbed" in str(check) and check.lossy == ()
    assert check.input_tokens > declaring.input_tokens  # a stub has a description


def test_a_strict_policy_allows_stubs() -> None:
    strict = ConversionPolicy(strict=True)
    sent = _sent(_called("weather"), _converse(), Message.user("And?"), policy=strict)
    assert _declared(sent.body) == ["weather"]
