"""A provider that refuses the reasoning of a history is asked once more without it, and what was lost is told."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Capabilities,
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversionEntry,
    ConversionPolicy,
    Dialect,
    FetchPolicy,
    FilePart,
    HostedTool,
    Message,
    PromptFormatter,
    ReasoningPart,
    TextPart,
    ToolResultPart,
    run_tools,
)
from dhenara_async.calls.blocking import BlockingClient
from dhenara_async.config import Timeouts
from dhenara_async.drivers.reasoning_refusals import refuses_reasoning
from dhenara_async.errors import APIError, ConnectError, InvalidRequestError, TransportError
from dhenara_async.formatter.formatter import FormattedConversation
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.models.anthropic import ClaudeFable52, ClaudeOpus55
from dhenara_async.request import ChatRequest, HttpRequest, WireRequest
from dhenara_async.testing import (
    REASONING_REFUSALS,
    Answer,
    ProviderServer,
    ReplayTransport,
    ScriptedError,
    ScriptedToolCall,
)
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.transport import Exchange
from tests.loopback import NO_RETRIES, ONCE, head, once, replies, serve, whole

JSON = dict[str, object]
_P = AIModelAPIProviderEnum


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CALL = ScriptedToolCall("call_1", "add", '{"a":1,"b":2}')
BEGUN = Answer(reasoning="I should add.", text="Let me see.", tool_calls=(CALL,))
DONE = Answer(reasoning="That is three.", text="3.")
LAST = Answer(text="You are welcome.")
KEY = "sk-a-key-nobody-may-see"
SEAL = "c2VhbGVkIGJ5IG1l"
STRIPPED = "reasoning_stripped_after_400"

SPEAKERS: Mapping[str, tuple[AIModelAPIProviderEnum, str, JSON]] = {
    "anthropic": (_P.ANTHROPIC, "claude-opus-5-5", {}),
    "anthropic by budget": (_P.ANTHROPIC, "claude-opus-4-5", {"reasoning": True}),
    "responses": (_P.OPEN_AI, "gpt-6-sol", {}),
    "gemini": (_P.GOOGLE_AI, "gemini-3.8-flash", {}),
    "openrouter": (_P.OPENROUTER, "some/model", {}),
}
OF_DIALECT = {
    Dialect.ANTHROPIC_MESSAGES: ("anthropic", "anthropic by budget"),
    Dialect.OPENAI_RESPONSES: ("responses",),
    Dialect.GEMINI: ("gemini",),
    Dialect.OPENAI_CHAT: ("openrouter",),
}
CASES = [
    pytest.param(speaker, refusal, id=f"{speaker}-{name}")
    for dialect, refusals in REASONING_REFUSALS.items()
    for speaker in OF_DIALECT[dialect]
    for name, refusal in refusals.items()
]
ONE_EACH = dict(cast("tuple[str, ScriptedError]", case.values) for case in CASES)


def endpoint_of(server: ProviderServer, speaker: str) -> AIModelEndpoint:
    provider, model, _knobs = SPEAKERS[speaker]
    return AIModelEndpoint(api=server.api(provider), ai_model=AIModel(model_name=model))


def config_of(speaker: str, **more: object) -> AIModelCallConfig:
    return AIModelCallConfig.model_validate({"tools": [add], "retries": NO_RETRIES, **SPEAKERS[speaker][2], **more})


def seals_in(value: object) -> Iterator[str]:
    """Every piece of opaque reasoning at any depth; the documented stand-in is none."""
    if isinstance(value, dict):
        for key, item in cast("JSON", value).items():
            if key in {"signature", "encrypted_content", "thoughtSignature"} and item:
                if item != "skip_thought_signature_validator":
                    yield str(item)
            else:
                yield from seals_in(item)
    elif isinstance(value, list | tuple):
        for item in cast("Sequence[object]", value):
            yield from seals_in(item)


def seals_of(node: ConversationNode) -> set[str]:
    assert node.response is not None
    return set(seals_in([part.provider_state for part in node.response.choices[0].parts]))


async def asked(
    manager: ConversationManager,
    conversation: Conversation,
    query: str,
    endpoint: AIModelEndpoint,
    *,
    streamed: bool = False,
    results: Sequence[ToolResultPart] = (),
    config: AIModelCallConfig | None = None,
) -> ConversationNode:
    """A turn, streamed and read event by event, or plain."""
    if not streamed:
        return await manager.ask(conversation, query, endpoint, tool_results=results, config=config)
    async with manager.turn(conversation, query, endpoint, tool_results=results, config=config) as turn:
        check_grammar([event async for event in turn])
    return turn.node


async def results_of(node: ConversationNode) -> Sequence[ToolResultPart]:
    assert node.response is not None
    return await run_tools(node.response.tools(), AIModelCallConfig(tools=[add]).tools)


async def begun(
    manager: ConversationManager, endpoint: AIModelEndpoint
) -> tuple[Conversation, ConversationNode, Sequence[ToolResultPart]]:
    """A conversation with an open tool loop: its first turn, and the results of the calls in that."""
    conversation = await manager.create()
    first = await asked(manager, conversation, "Add 1 and 2.", endpoint)
    return conversation, first, await results_of(first)


# ---------------------------------------------------------------------------------------------------- once more


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("speaker", "refusal"), CASES)
async def test_a_turn_refused_for_its_reasoning_is_asked_once_more_without_it(
    speaker: str, refusal: ScriptedError, streamed: bool
) -> None:
    config = config_of(speaker)
    async with (
        ProviderServer([BEGUN, refusal, DONE, LAST]) as server,
        ConversationManager(config=config) as manager,
    ):
        endpoint = endpoint_of(server, speaker)
        conversation, first, results = await begun(manager, endpoint)
        second = await asked(manager, conversation, "", endpoint, streamed=streamed, results=results)
        third = await asked(manager, conversation, "Thanks!", endpoint, streamed=streamed)
        _first, tried, again, later = server.requests
    sealed = seals_of(first)
    assert sealed
    assert sealed <= set(seals_in(tried.json))
    assert (tried.status, tried.error, again.status, later.status) == (400, refusal.message, 200, 200)
    assert not set(seals_in(again.json))
    assert (tried.headers.keys(), tried.path, tried.stream) == (again.headers.keys(), again.path, again.stream)

    assert second.response is not None
    assert (second.status, second.response.text(), second.attempts) == ("complete", "3.", 2)
    assert second.request_id is None or second.request_id != first.request_id
    told = [entry for entry in second.conversion.entries if entry.code == STRIPPED]
    assert told
    assert {(entry.node, entry.severity, entry.reason) for entry in told} == {(first.id, "lossy", "refused_by_target")}
    assert ConversationNode.model_validate_json(second.model_dump_json()) == second

    # it is not tried again, and what came after it goes back
    assert (third.status, third.attempts, later.error) == ("complete", 1, None)
    assert sealed.isdisjoint(seals_in(later.json))
    assert seals_of(second) <= set(seals_in(later.json))
    dropped = {entry.node: entry for entry in third.conversion.entries if entry.reason == "refused_by_target"}
    assert {(node, entry.code, entry.severity) for node, entry in dropped.items()} == {
        (first.id, "reasoning_dropped", "info")
    }
    assert not third.conversion.lossy


async def test_gemini_gets_the_placeholder_signature_at_the_retry() -> None:
    async with (
        ProviderServer([BEGUN, ONE_EACH["gemini"], DONE]) as server,
        ConversationManager(config=config_of("gemini")) as manager,
    ):
        endpoint = endpoint_of(server, "gemini")
        conversation, _first, results = await begun(manager, endpoint)
        node = await asked(manager, conversation, "", endpoint, results=results)
        tried, again = (cast("JSON", seen.json) for seen in server.requests[1:])
    assert b"skip_thought_signature_validator" not in orjson.dumps(tried)
    assert b"skip_thought_signature_validator" in orjson.dumps(again)
    assert "signature_synthesized" in {entry.code for entry in node.conversion.entries}


async def test_claude_with_a_budget_goes_on_with_an_open_loop_without_thinking() -> None:
    speaker = "anthropic by budget"
    async with (
        ProviderServer([BEGUN, ONE_EACH[speaker], DONE]) as server,
        ConversationManager(config=config_of(speaker)) as manager,
    ):
        endpoint = endpoint_of(server, speaker)
        conversation, _first, results = await begun(manager, endpoint)
        node = await asked(manager, conversation, "", endpoint, results=results)
        kinds = [cast("JSON", cast("JSON", seen.json)["thinking"])["type"] for seen in server.requests]
    assert kinds == ["enabled", "enabled", "disabled"]
    assert [warning.knob for warning in node.warnings] == ["reasoning"]  # the second request's, not the first one's


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_a_real_refusal_of_the_strict_server(streamed: bool) -> None:
    """Nothing is scripted: the seal is one that the account cannot read any more."""
    async with ProviderServer([Answer(text="Two.")]) as server, ConversationManager() as manager:
        endpoint = endpoint_of(server, "responses")
        origin = expected_origin(endpoint)
        thought = ReasoningPart(origin=origin, provider_state={"type": "reasoning", "encrypted_content": SEAL})
        rehearsed = await AIModelClient(endpoint, AIModelCallConfig(test_mode=True)).generate("hi")
        choice = rehearsed.chat_response.choices[0].model_copy(
            update={"parts": (thought, TextPart(text="One.", origin=origin))}
        )
        answer = rehearsed.chat_response.model_copy(update={"choices": (choice,)})
        first = ConversationNode(user_query="Count.", response=answer, origin=origin)
        second = await asked(manager, Conversation(nodes=[first]), "Go on.", endpoint, streamed=streamed)
        statuses = [seen.status for seen in server.requests]
    assert statuses == [400, 200]
    assert (second.status, second.attempts) == ("complete", 2)
    assert [(entry.node, entry.kind) for entry in second.conversion.lossy] == [(first.id, "reasoning")]


def claude_at(url: str, model: str = "claude-opus-5-5") -> AIModelEndpoint:
    api = AIModelAPI(provider=_P.ANTHROPIC, api_key=SecretStr(KEY), base_url=url)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


def thoughtful(endpoint: AIModelEndpoint, question: str = "Go on.") -> list[Message]:
    """A history without a conversation, in which Claude at ``endpoint`` has thought."""
    origin = expected_origin(endpoint)
    seal: dict[str, str] = {"type": "thinking", "signature": SEAL}
    thought = ReasoningPart(text="hm", origin=origin, provider_state={**seal})
    return [
        Message.user("Count."),
        Message.assistant(thought, TextPart(text="One.", origin=origin)),
        Message.user(question),
    ]


class Scripted:
    """A transport that gives these answers, one a request; an exception is raised instead."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.requests: list[HttpRequest] = []
        self._left = list(answers)

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``."""
        self.requests.append(request)
        answer = self._left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status = 400 if answer.startswith(b'{"type":"error"') else 200
        headers = {"content-type": "application/json", "request-id": f"req_{len(self.requests)}"}
        return await ReplayTransport(answer, status=status, headers=headers).send(request, timeouts)

    async def aclose(self) -> None:
        """See ``Transport``."""


def refusal_body(message: str) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}})


def refused(message: str) -> bytes:
    return whole(refusal_body(message), 400)


def answered(text: str = "Two.", **more: object) -> bytes:
    """A plain answer of Claude's, whole."""
    return whole(plain_body(text, **more))


def plain_body(text: str = "Two.", **more: object) -> bytes:
    message: JSON = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        **more,
    }
    return orjson.dumps(message)


CHANGED = REASONING_REFUSALS[Dialect.ANTHROPIC_MESSAGES]["thinking_changed"].message


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_the_retry_without_reasoning_works_without_conversation_and_pool(streamed: bool) -> None:
    """Both requests go over one connection, which is closed with the call."""
    async with serve(replies(refused(CHANGED), answered())) as server:
        endpoint = claude_at(server.url)
        client = AIModelClient(endpoint)
        if streamed:
            async with client.stream(messages=thoughtful(endpoint)) as stream:
                check_grammar([event async for event in stream])
            response = stream.response
        else:
            response = await client.generate(messages=thoughtful(endpoint))
        await server.wait_hung_up()
        assert (server.connections, len(server.requests)) == (1, 2)
        tried, again = (seen.body for seen in server.requests)
    assert (response.text(), response.attempts) == ("Two.", 2)
    assert (SEAL.encode() in tried, SEAL.encode() in again) == (True, False)
    assert [(entry.code, entry.node, entry.message) for entry in response.conversion.lossy] == [(STRIPPED, None, 1)]


async def test_a_refusal_that_does_not_end_is_left_before_the_second_request() -> None:
    """Its connection cannot be used again, so it is closed rather than waited for."""
    endless = head(400, "application/json", content_length=str(10**9)) + orjson.dumps(
        {"type": "error", "error": {"type": "invalid_request_error", "message": CHANGED}}
    )
    async with serve(replies(endless + b" " * 100_000, answered())) as server:
        endpoint = claude_at(server.url)
        async with AIModelClient(endpoint) as client:
            response = await client.generate(messages=thoughtful(endpoint))
            await server.wait_hung_up()
        assert (server.connections, len(server.requests), response.attempts) == (2, 2, 2)


def test_the_blocking_client_retries_without_reasoning_too() -> None:
    transport = Scripted(refusal_body(CHANGED), plain_body())
    endpoint = claude_at("http://127.0.0.1:1")
    client = AIModelClient(endpoint, transport=transport)
    response = BlockingClient(client).generate(messages=thoughtful(endpoint))
    assert (response.text(), response.attempts, len(transport.requests)) == ("Two.", 2, 2)


async def test_files_are_downloaded_for_the_second_request_as_well() -> None:
    config = AIModelCallConfig(fetch=FetchPolicy(allow_http=True, allow_private=True))
    png = b"\x89PNG\r\n\x1a\n" + bytes(40)
    async with (
        serve(replies(whole(png, content_type="image/png"))) as files,
        serve(replies(refused(CHANGED), answered())) as server,
    ):
        endpoint = claude_at(server.url)
        history = thoughtful(endpoint)
        picture = FilePart(media_type="image/png", url=f"{files.url}/cat.png")
        response = await AIModelClient(endpoint, config).generate(
            messages=[*history[:2], Message.user("And?", picture)]
        )
    assert (response.text(), response.attempts) == ("Two.", 2)
    sent = [cast("JSON", orjson.loads(seen.body))["messages"] for seen in server.requests]
    last = [cast("list[JSON]", messages)[-1] for messages in sent]
    assert last[0] == last[1]
    assert FilePart(media_type="image/png", data=png).get_base64().encode() in server.requests[1].body
    assert [SEAL.encode() in seen.body for seen in server.requests] == [True, False]
    assert {entry.code for entry in response.conversion.entries} == {STRIPPED, "media_inlined"}


# ---------------------------------------------------------------------------------------------------- and no further


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("speaker", list(ONE_EACH))
async def test_a_second_refusal_is_raised(speaker: str, streamed: bool) -> None:
    refusal = ONE_EACH[speaker]
    again = ScriptedError(400, f"{refusal.message} Still.", code=refusal.code)
    async with (
        ProviderServer([BEGUN, refusal, again, DONE]) as server,
        ConversationManager(config=config_of(speaker)) as manager,
    ):
        endpoint = endpoint_of(server, speaker)
        conversation, first, results = await begun(manager, endpoint)
        with pytest.raises(InvalidRequestError, match=r"Still\.") as caught:
            await asked(manager, conversation, "", endpoint, streamed=streamed, results=results)
        assert len(server.requests) == 3
    assert caught.value.attempts == 2
    assert isinstance(caught.value.__context__, InvalidRequestError)
    assert "Still." not in str(caught.value.__context__)
    assert any(refusal.message in note for note in caught.value.__notes__)
    node = conversation.nodes[-1]
    assert (node.status, node.attempts) == ("failed", 2)
    assert {entry.node for entry in node.conversion.lossy} == {first.id}
    assert conversation.head == first  # so that the next turn tries with the reasoning again


async def test_another_error_of_the_second_request_is_raised() -> None:
    async with (
        ProviderServer([BEGUN, ONE_EACH["responses"], ScriptedError(503, "Busy.")]) as server,
        ConversationManager(config=config_of("responses")) as manager,
    ):
        endpoint = endpoint_of(server, "responses")
        conversation, _first, results = await begun(manager, endpoint)
        with pytest.raises(APIError, match=r"Busy\.") as caught:
            await asked(manager, conversation, "", endpoint, results=results)
        assert (len(server.requests), caught.value.attempts, caught.value.retryable) == (3, 2, True)


async def test_a_connection_error_of_the_second_request_is_raised() -> None:
    transport = Scripted(refusal_body(CHANGED), ConnectError("nobody there"))
    endpoint = claude_at("http://127.0.0.1:1")
    async with AIModelClient(endpoint, ONCE, transport=transport).stream(messages=thoughtful(endpoint)) as stream:
        with pytest.raises(TransportError, match="nobody there") as caught:
            await stream.collect()
        assert (stream.partial.attempts, stream.partial.request_id, caught.value.attempts) == (2, None, 2)
    assert isinstance(caught.value.__context__, InvalidRequestError)


OTHERS = [
    ScriptedError(400, "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1"),
    ScriptedError(400, "`temperature` may only be set to 1 when thinking is enabled."),
    ScriptedError(400, "Invalid 'input[1].call_id': string too long.", code="string_above_max_length"),
    ScriptedError(400, "Invalid 'tools': array too long. Expected an array with maximum length 128, but got 200."),
    ScriptedError(400, "Please ensure that function call turn comes immediately after a user turn."),
    ScriptedError(400, "prompt is too long: 300000 tokens > 200000 maximum"),
    ScriptedError(403, "The encrypted content could not be verified.", code="invalid_encrypted_content"),
    ScriptedError(429, CHANGED),
    ScriptedError(500, CHANGED),
]


@pytest.mark.parametrize("refusal", OTHERS, ids=lambda refusal: f"{refusal.status} {refusal.message[:30]}")
@pytest.mark.parametrize("speaker", list(ONE_EACH))
async def test_an_unrelated_refusal_is_not_retried(speaker: str, refusal: ScriptedError) -> None:
    async with (
        ProviderServer([BEGUN, refusal, DONE]) as server,
        ConversationManager(config=config_of(speaker)) as manager,
    ):
        endpoint = endpoint_of(server, speaker)
        conversation, _first, results = await begun(manager, endpoint)
        with pytest.raises(APIError) as caught:
            await asked(manager, conversation, "", endpoint, results=results)
        assert (len(server.requests), caught.value.attempts) == (2, 1)
    assert conversation.nodes[-1].attempts == 1
    assert not conversation.nodes[-1].conversion.lossy


@pytest.mark.parametrize("speaker", list(ONE_EACH))
async def test_a_strict_policy_raises_instead_of_retrying_without_reasoning(speaker: str) -> None:
    refusal = ONE_EACH[speaker]
    async with (
        ProviderServer([BEGUN, refusal, DONE]) as server,
        ConversationManager(config=config_of(speaker), policy=ConversionPolicy(strict=True)) as manager,
    ):
        endpoint = endpoint_of(server, speaker)
        conversation, _first, results = await begun(manager, endpoint)
        with pytest.raises(InvalidRequestError, match="strict policy forbids") as caught:
            await asked(manager, conversation, "", endpoint, results=results)
        assert (len(server.requests), caught.value.attempts) == (2, 1)
        assert refusal.message in str(caught.value)


@pytest.mark.parametrize("strict", [False, True])
async def test_results_of_hosted_tools_are_left_out_unless_the_policy_is_strict(strict: bool) -> None:
    """It is sealed like reasoning; that a line of text stands for it is no loss, and still not what was asked for."""
    config = AIModelCallConfig(tools=[HostedTool(type="web_search")])
    script = [Answer(text="Found.", web_searches=("cats",)), ONE_EACH["anthropic"], DONE, LAST]
    async with (
        ProviderServer(script) as server,
        ConversationManager(config=config, policy=ConversionPolicy(strict=strict)) as manager,
    ):
        endpoint = endpoint_of(server, "anthropic")
        conversation = await manager.create()
        first = await asked(manager, conversation, "Search.", endpoint)
        if strict:
            with pytest.raises(InvalidRequestError, match="strict policy forbids"):
                await asked(manager, conversation, "And?", endpoint)
            assert len(server.requests) == 2
            return
        second = await asked(manager, conversation, "And?", endpoint)
        await asked(manager, conversation, "Thanks!", endpoint)
        held = [b"server_tool_use" in seen.body for seen in server.requests]
    assert held == [False, True, False, False]
    assert second.attempts == 2
    assert {(entry.code, entry.node, entry.reason) for entry in second.conversion.entries} == {
        ("hosted_tool_summarized", first.id, "refused_by_target")
    }


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("speaker", list(ONE_EACH))
async def test_without_reasoning_in_the_history_there_is_nothing_to_leave_out(speaker: str, strict: bool) -> None:
    """Another provider has thought, so nothing of that was sent."""
    elsewhere = "gemini" if speaker != "gemini" else "responses"
    async with (
        ProviderServer([Answer(reasoning="hm", text="One."), ONE_EACH[speaker], DONE]) as server,
        ConversationManager(config=config_of(speaker), policy=ConversionPolicy(strict=strict)) as manager,
    ):
        conversation = await manager.create()
        await asked(manager, conversation, "Count.", endpoint_of(server, elsewhere), config=config_of(elsewhere))
        with pytest.raises(InvalidRequestError) as caught:
            await asked(manager, conversation, "Go on.", endpoint_of(server, speaker))
        assert (len(server.requests), caught.value.attempts) == (2, 1)
        assert "strict" not in str(caught.value)


async def test_a_refusal_inside_a_stream_is_not_retried() -> None:
    """The answer had begun, as far as HTTP is concerned; with some of it, as far as the reader is."""
    error: JSON = {"type": "error", "error": {"type": "invalid_request_error", "message": CHANGED}}
    start: JSON = {"type": "message_start", "message": {"id": "msg_1", "model": "m"}}
    beginnings: list[list[JSON]] = [[], [start]]
    for begun_with in beginnings:
        frames = b"".join(b"data: " + orjson.dumps(item) + b"\n\n" for item in (*begun_with, error))
        async with serve(once(head(), frames)) as server:
            endpoint = claude_at(server.url)
            async with AIModelClient(endpoint).stream(messages=thoughtful(endpoint)) as stream:
                with pytest.raises(APIError, match="cannot be modified"):
                    await stream.collect()
            assert len(server.requests) == 1


async def test_the_history_without_reasoning_is_formatted_only_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    formatted: list[bool] = []
    real = PromptFormatter.format_messages

    def counted(messages: Sequence[Message], endpoint: AIModelEndpoint, **knobs: object) -> FormattedConversation:
        formatted.append(bool(knobs["opaque"]))
        return real(messages, endpoint, opaque=bool(knobs["opaque"]))

    monkeypatch.setattr(PromptFormatter, "format_messages", counted)
    endpoint = claude_at("http://127.0.0.1:1")
    for bodies, made in (((plain_body(),), [True]), ((refusal_body(CHANGED), plain_body()), [True, False])):
        formatted.clear()
        await AIModelClient(endpoint, transport=Scripted(*bodies)).generate(messages=thoughtful(endpoint))
        assert formatted == made


async def test_test_mode_does_not_retry_without_reasoning() -> None:
    endpoint = claude_at("http://127.0.0.1:1")
    config = AIModelCallConfig(test_mode=True)
    response = await AIModelClient(endpoint, config).generate(messages=thoughtful(endpoint))
    assert response.attempts == 1


async def test_it_is_logged_without_content_and_the_first_refusal_without_the_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="dhenara_async")
    transport = Scripted(refusal_body(f"{CHANGED} You said SECRET with {KEY}."), refusal_body("No."))
    endpoint = claude_at("http://127.0.0.1:1")
    with pytest.raises(InvalidRequestError) as caught:
        await AIModelClient(endpoint, transport=transport).generate(messages=thoughtful(endpoint, "SECRET"))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.name == "dhenara_async"
    assert "anthropic" in record.getMessage()
    assert "claude-opus-5-5" in record.getMessage()
    first = caught.value.__context__
    assert isinstance(first, APIError)
    for told in (caplog.text, str(first), first.body, *caught.value.__notes__):
        assert KEY not in told
    assert "SECRET" not in caplog.text


# ---------------------------------------------------------------------------------------------------- the next turns


async def stripped(server: ProviderServer, manager: ConversationManager, speaker: str) -> Conversation:
    """A conversation whose second turn was made without the reasoning of the first."""
    endpoint = endpoint_of(server, speaker)
    conversation, _first, results = await begun(manager, endpoint)
    await asked(manager, conversation, "", endpoint, results=results)
    return conversation


def body_for(nodes: Sequence[ConversationNode], endpoint: AIModelEndpoint, config: AIModelCallConfig) -> bytes:
    formatted = PromptFormatter.format_conversation(nodes, endpoint, asked=[Message.user("?")], config=config)
    request = ChatRequest.of(formatted.messages, instructions=(), config=config, stream=False)
    return driver_for(endpoint).encode(request, endpoint).body


@pytest.mark.parametrize("speaker", list(ONE_EACH))
async def test_refused_reasoning_stays_out_for_that_model_only(speaker: str) -> None:
    config = config_of(speaker)
    async with (
        ProviderServer([BEGUN, ONE_EACH[speaker], DONE]) as server,
        ConversationManager(config=config) as manager,
    ):
        first, second = (await stripped(server, manager, speaker)).path()
        endpoint = endpoint_of(server, speaker)
    told = body_for([first, second], endpoint, config)  # nothing is remembered of it, or all: it is the same
    assert told == body_for([first, second], endpoint, config)
    copies = [ConversationNode.model_validate_json(node.model_dump_json()) for node in (first, second)]
    assert told == body_for(copies, endpoint, config)
    assert not seals_of(first) & set(seals_in(orjson.loads(told)))
    # a branch that never met the refusal, and one for which somebody else did
    assert seals_of(first) <= set(seals_in(orjson.loads(body_for([first], endpoint, config))))
    other = second.conversion.entries[0].target.model_copy(update={"model": "another"})
    entries = tuple(entry.model_copy(update={"target": other}) for entry in second.conversion.entries)
    report = second.conversion.model_copy(update={"entries": entries})
    foreign = second.model_copy(update={"conversion": report})
    assert seals_of(first) <= set(seals_in(orjson.loads(body_for([first, foreign], endpoint, config))))


def test_files_of_the_models_own_go_back_without_their_signature() -> None:
    """A picture that Gemini drew is signed like its words; its bytes are the user's and stay."""
    api = AIModelAPI(provider=_P.GOOGLE_AI, api_key=SecretStr(KEY))
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="gemini-3.8-flash"))
    origin = expected_origin(endpoint)
    drawn = FilePart(
        media_type="image/png",
        data=b"\x89PNG\r\n\x1a\n" + bytes(8),
        origin=origin,
        provider_state={"thoughtSignature": SEAL, "mimeType": "image/png"},
    )
    talk = [Message.user("Draw."), Message.assistant(drawn), Message.user("And?")]
    bodies: list[bytes] = []
    for opaque in (True, False):
        formatted = PromptFormatter.format_messages(talk, endpoint, opaque=opaque)
        request = ChatRequest.of(formatted.messages, instructions=(), config=AIModelCallConfig(), stream=False)
        bodies.append(driver_for(endpoint).encode(request, endpoint).body)
        told = [(entry.code, entry.kind, entry.message, entry.part) for entry in formatted.report.entries]
        assert told == ([] if opaque else [(STRIPPED, "file", 1, 0)])
    assert [SEAL.encode() in body for body in bodies] == [True, False]
    assert all(drawn.get_base64().encode() in body for body in bodies)


async def test_thinking_bound_to_its_prefix_goes_on_after_the_refusal() -> None:
    """What was made behind the stripped history fits behind it, turn after turn."""
    script = [BEGUN, ONE_EACH["anthropic"], DONE, Answer(reasoning="hm", text="Well."), LAST]
    async with ProviderServer(script) as server, ConversationManager(config=config_of("anthropic")) as manager:
        endpoint = AIModelEndpoint(api=server.api(_P.ANTHROPIC), ai_model=ClaudeFable52)
        conversation, first, results = await begun(manager, endpoint)
        second = await asked(manager, conversation, "", endpoint, results=results)
        third = await asked(manager, conversation, "And?", endpoint)
        last = await asked(manager, conversation, "Bye.", endpoint)
        sent = set(seals_in(server.requests[-1].json))
    assert sent == seals_of(second) | seals_of(third)
    assert not sent & seals_of(first)
    assert {(entry.code, entry.reason) for entry in last.conversion.entries} <= {
        ("reasoning_dropped", "refused_by_target"),
        ("reasoning_dropped", "unsupported_by_target"),
    }


# ---------------------------------------------------------------------------------------------------- whose fault it is


def error_of(refusal: ScriptedError, status: int | None = None, code: str | None = None) -> APIError:
    told = code or refusal.code or "invalid_request_error"
    return InvalidRequestError(f"p answered 400: {refusal.message}", provider="p", status=status or 400, code=told)


REASONS = [refusal for refusals in REASONING_REFUSALS.values() for refusal in refusals.values()]


@pytest.mark.parametrize("refusal", REASONS, ids=lambda refusal: refusal.message[:40])
def test_refusals_that_blame_reasoning_do_so_with_status_400_only(refusal: ScriptedError) -> None:
    assert refuses_reasoning(error_of(refusal))
    for status in (401, 403, 404, 409, 413, 422, 429, 500, 503, 529):
        assert not refuses_reasoning(error_of(refusal, status))


@pytest.mark.parametrize(
    ("message", "code", "blames"),
    [
        ("messages.3.content.1: Invalid `signature` in `thinking` block", None, True),
        ("Expected `thinking` or `redacted_thinking`, but found `text`.", None, True),
        ("Whatever it says.", "invalid_encrypted_content", True),
        ("The encrypted content for item rs_1 could not be verified. Reason: decryption failed.", None, True),
        ("Item 'fc_1' of type 'function_call' was provided without its required 'reasoning' item: 'rs_1'.", None, True),
        ("No tool call found for function call output with call_id call_1.", None, False),
        ("Item 'msg_1' of type 'message' was provided without its required following item.", None, False),
        ("Invalid 'input[1].summary': array too long. Expected an array with maximum length 0.", None, False),
        ("Invalid 'input[1].content': array too long. Expected an array with maximum length 2048.", None, False),
        ("thinking.adaptive.block_binding: Extra inputs are not permitted", None, False),
        ("Tool call context circulation is not enabled", None, False),
        ("The `reasoning_content` in the thinking mode must be passed back to the API.", None, False),
        ("Function call is missing a name in functionCall parts.", None, False),
        ("", None, False),
    ],
)
def test_words_and_codes_that_blame_reasoning(message: str, code: str | None, blames: bool) -> None:
    assert refuses_reasoning(error_of(ScriptedError(400, message), code=code)) is blames


# ---------------------------------------------------------------------------------------------------- drop_block


BINDING: JSON = {"block_binding": {"prefix_mismatch_behavior": "drop_block"}}
BETA = "thinking-binding-controls-2026-08-01"


def wire_of(model: AIModel, **knobs: object) -> WireRequest:
    endpoint = AIModelEndpoint(api=AIModelAPI(provider=_P.ANTHROPIC, api_key=SecretStr(KEY)), ai_model=model)
    config = AIModelCallConfig.model_validate(knobs)
    request = ChatRequest.of([Message.user("hi")], instructions=(), config=config, stream=False)
    return driver_for(endpoint).encode(request, endpoint)


def thinking_of(wire: WireRequest) -> object:
    return cast("JSON", orjson.loads(wire.body)).get("thinking")


BOUND = AIModel(model_name="mine", capabilities=Capabilities(reasoning="adaptive", prefix_bound=True))


@pytest.mark.parametrize(
    ("model", "knobs", "thinking"),
    [
        (ClaudeFable52, {}, {"type": "adaptive", **BINDING}),
        (ClaudeFable52, {"reasoning": True}, {"type": "adaptive", **BINDING}),
        (ClaudeFable52, {"reasoning_effort": "low"}, {"type": "adaptive", **BINDING}),
        (ClaudeFable52, {"reasoning": False}, {"type": "adaptive", **BINDING}),  # it thinks all the same
        (ClaudeFable52, {"reasoning_summary": "auto"}, {"type": "adaptive", "display": "summarized", **BINDING}),
        (BOUND, {}, {"type": "adaptive", **BINDING}),
        (BOUND, {"reasoning": False}, {"type": "disabled"}),
        (ClaudeOpus55, {}, None),
        (ClaudeOpus55, {"reasoning": True}, {"type": "adaptive"}),
        (AIModel(model_name="claude-fable-5"), {"reasoning": True}, {"type": "adaptive"}),
        (
            AIModel(model_name="claude-opus-4-5"),
            {"reasoning_effort": "low"},
            {"type": "enabled", "budget_tokens": 2048},
        ),
        (
            ClaudeFable52,
            {"extra_body": {"thinking": {"block_binding": {"prefix_mismatch_behavior": "error"}}}},
            {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}},
        ),
        (
            ClaudeFable52,
            {"extra_body": {"thinking": {"display": "omitted"}}},
            {"type": "adaptive", "display": "omitted", **BINDING},
        ),
        (ClaudeFable52, {"extra_body": {"thinking": {"type": "disabled"}}}, {"type": "disabled"}),
        (ClaudeFable52, {"extra_body": {"thinking": None}}, None),
    ],
)
def test_models_bound_to_their_prefix_are_asked_to_drop_what_does_not_fit(
    model: AIModel, knobs: JSON, thinking: object
) -> None:
    wire = wire_of(model, **knobs)
    assert thinking_of(wire) == thinking
    binds = isinstance(thinking, dict) and "block_binding" in thinking
    assert (wire.headers.get("anthropic-beta") == BETA, "anthropic-beta" in wire.lists) == (binds, binds)


async def test_the_beta_joins_the_callers_own() -> None:
    config = AIModelCallConfig(extra_headers={"anthropic-beta": "mine-2026-01-01"})
    async with ProviderServer() as server:
        endpoint = AIModelEndpoint(api=server.api(_P.ANTHROPIC), ai_model=ClaudeFable52)
        await AIModelClient(endpoint, config).generate("hi")
        assert server.requests[0].headers["anthropic-beta"] == f"{BETA},mine-2026-01-01"


# ---------------------------------------------------------------------------------------------------- server's drops


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_thinking_that_the_server_drops_is_told(streamed: bool) -> None:
    """The strict server is asked to drop what does not fit, and does: one request, an answer, and an entry."""
    script = [Answer(reasoning="hm", text="One."), Answer(text="Two.")]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        endpoint = AIModelEndpoint(api=server.api(_P.ANTHROPIC), ai_model=ClaudeFable52)
        first = await manager.ask(await manager.create(), "Count.", endpoint, instructions=["Be brief."])
        unknowing = first.model_copy(update={"prefix": None})  # stored by somebody who did not keep it
        node = await asked(manager, Conversation(nodes=[unknowing]), "Go on.", endpoint, streamed=streamed)
        assert [seen.status for seen in server.requests] == [200, 200]
    (entry,) = [entry for entry in node.conversion.entries if entry.code == "server_dropped_reasoning"]
    assert entry == node.conversion.entries[-1]
    assert (entry.severity, entry.reason, entry.kind, entry.node) == ("info", "other_prefix", "reasoning", first.id)
    assert (entry.message, entry.origin, entry.target) == (None, first.response and first_thought(first), node.origin)
    assert entry.detail == "messages.1.content.0: prefix_binding_mismatch"
    assert node.attempts == 1
    assert ConversationNode.model_validate_json(node.model_dump_json()) == node
    line = str(node.conversion).splitlines()[-1]
    assert "omitted" in line
    assert "server_dropped_reasoning" in line


def first_thought(node: ConversationNode) -> object:
    assert node.response is not None
    return node.response.choices[0].parts[0].origin


async def test_a_prefix_mismatch_is_retried_without_reasoning() -> None:
    knobs = {"extra_body": {"thinking": {"block_binding": {"prefix_mismatch_behavior": "error"}}}}
    config = AIModelCallConfig.model_validate(knobs)
    script = [Answer(reasoning="hm", text="One."), Answer(text="Two.")]
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        endpoint = AIModelEndpoint(api=server.api(_P.ANTHROPIC), ai_model=ClaudeFable52)
        first = await manager.ask(await manager.create(), "Count.", endpoint, instructions=["Be brief."])
        conversation = Conversation(nodes=[first.model_copy(update={"prefix": None})])
        node = await manager.ask(conversation, "Go on.", endpoint)
        assert [seen.status for seen in server.requests] == [200, 400, 200]
    assert [(entry.code, entry.node) for entry in node.conversion.lossy] == [(STRIPPED, first.id)]


CLAUDES = [
    ("model_binding_mismatch", "other_model"),
    ("prefix_binding_mismatch", "other_prefix"),
    ("organization_binding_mismatch", "other_account"),
    ("end_user_binding_mismatch", "other_account"),
    ("a_new_reason", "refused_by_target"),
]
OPENAIS = [
    ("model_mismatch", "other_model"),
    ("prefix_mismatch", "other_prefix"),
    ("organization_mismatch", "other_account"),
    ("end_user_mismatch", "other_account"),
    ("turn_boundary", "refused_by_target"),
]


def told_by(entries: Sequence[ConversionEntry]) -> list[tuple[str, str, str]]:
    return [(entry.code, entry.reason, entry.detail) for entry in entries]


async def received(endpoint: AIModelEndpoint, body: bytes, *, streamed: bool) -> Sequence[ConversionEntry]:
    client = AIModelClient(endpoint, transport=ReplayTransport(body))
    if not streamed:
        return (await client.generate("hi")).conversion.entries
    async with client.stream("hi") as stream:
        return (await stream.collect()).conversion.entries


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_every_drop_of_claudes_server_is_an_entry(streamed: bool) -> None:
    said: list[object] = [
        {"type": "thinking_dropped", "path": f"messages.{at}.content.0", "reason": word}
        for at, (word, _) in enumerate(CLAUDES)
    ]
    said += [
        {"type": "thinking_mismatch_allowed", "path": "messages.9.content.0", "reason": "prefix_binding_mismatch"},
        {"type": "something_new", "path": "messages.9.content.0"},
        "nonsense",
        {"type": "thinking_dropped"},
    ]
    body = plain_body(input_transformations=said)
    if streamed:
        start: JSON = {"type": "message_start", "message": {"id": "msg_1", "model": "m"}}
        delta: JSON = {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {},
            "input_transformations": said,
        }
        events = (start, delta, {"type": "message_stop"})
        body = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)
    entries = await received(claude_at("http://127.0.0.1:1"), body, streamed=streamed)
    code = "server_dropped_reasoning"
    expected = [(code, reason, f"messages.{at}.content.0: {word}") for at, (word, reason) in enumerate(CLAUDES)]
    assert told_by(entries) == [*expected, (code, "refused_by_target", "no reason given")]
    assert {(entry.node, entry.message, entry.part, entry.severity) for entry in entries} == {
        (None, None, None, "info")
    }


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_every_item_that_responses_withholds_is_an_entry(streamed: bool) -> None:
    said: list[object] = [
        {"id": f"rs_{at}", "type": "reasoning", "action": "removed", "reason": word}
        for at, (word, _) in enumerate(OPENAIS)
    ]
    said.append({"id": "rs_9", "type": "reasoning", "action": "kept", "reason": "model_mismatch"})
    words = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    response: JSON = {"object": "response", "id": "resp_1", "model": "m", "status": "completed", "output": [words]}
    response["input_transformations"] = said
    body = orjson.dumps(response)
    if streamed:
        events = ({"type": "response.created", "response": {"id": "resp_1", "model": "m"}},)
        ended = {"type": "response.completed", "response": response}
        body = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in (*events, ended))
    api = AIModelAPI(provider=_P.OPEN_AI, api_key=SecretStr(KEY))
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="gpt-6-sol"))
    entries = await received(endpoint, body, streamed=streamed)
    assert told_by(entries) == [
        ("server_dropped_reasoning", reason, f"rs_{at}: {word}") for at, (word, reason) in enumerate(OPENAIS)
    ]


async def test_an_answer_without_such_a_report_has_the_report_of_its_request_as_it_is() -> None:
    assert await received(claude_at("http://127.0.0.1:1"), plain_body(), streamed=False) == ()
    assert (
        await received(claude_at("http://127.0.0.1:1"), plain_body(input_transformations={"a": 1}), streamed=False)
        == ()
    )
