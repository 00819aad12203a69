"""Integers beyond 64 bits in what models and tools write: told digit by digit, by every dialect, streamed and plain."""

from collections.abc import Sequence

import orjson
import pytest

from dhenara_async import AIModelCallConfig, ChatResponse, Dialect, Message
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.body import ResponseBody
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import HostedToolPart
from dhenara_async.request import ChatRequest
from tests.calls.test_input import endpoint_for
from tests.loopback import SPEAKERS
from tests.raw_json import leaves

BIG, LOW = 123456789012345678901234567890, -(1 << 63) - 1
ARGUMENTS = f'{{"id":{BIG},"more":[{LOW},1.5],"text":"{BIG}"}}'
VALUE = {"id": BIG, "more": [LOW, 1.5], "text": str(BIG)}


def read(dialect: Dialect, body: bytes, *, streamed: bool) -> ChatResponse:
    """The answer in a body."""
    endpoint = endpoint_for(dialect)
    request = ChatRequest((Message.user("Go."),), (), AIModelCallConfig(), streamed)
    reading = ResponseBody(driver_for(endpoint).decoder(request, expected_origin(endpoint)))
    reading.begin("text/event-stream" if streamed else "application/json")
    accumulator = Accumulator(provider="here", model="m")
    for chunk in (body, b""):
        accumulator.feed(reading.take(chunk))
    return accumulator.response()


def stream(*events: str, names: bool = False) -> bytes:
    def name(event: str) -> str:
        return f"event: {orjson.loads(event)['type']}\n" if names else ""

    return "".join(f"{name(event)}data: {event}\n\n" for event in events).encode()


GEMINI_CALL = (
    f'{{"candidates":[{{"content":{{"role":"model","parts":[{{"functionCall":{{"name":"look","args":{ARGUMENTS}}}}}]}},'
    '"finishReason":"STOP","index":0}]}'
)
CLAUDE_CALL = f'{{"type":"tool_use","id":"toolu_1","name":"look","input":{ARGUMENTS}}}'
CLAUDE_HEAD = '"id":"msg_1","type":"message","role":"assistant","model":"m"'
CLAUDE_USAGE = '"usage":{"input_tokens":1,"output_tokens":2}'
CHAT_CALL = f'{{"index":0,"id":"call_1","type":"function","function":{{"name":"look","arguments":{ARGUMENTS}}}}}'
RESPONSES_CALL = (
    '{"type":"function_call","id":"fc_1","call_id":"call_1","name":"look","status":"completed",'
    f'"arguments":{ARGUMENTS}}}'
)
RESPONSES_HEAD = '"id":"resp_1","object":"response","model":"m","created_at":1'
RESPONSES_USAGE = '"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}'

CALLS: dict[tuple[Dialect, bool], bytes] = {
    (Dialect.GEMINI, False): GEMINI_CALL.encode(),
    (Dialect.GEMINI, True): stream(GEMINI_CALL),
    (Dialect.ANTHROPIC_MESSAGES, False): (
        f'{{{CLAUDE_HEAD},"content":[{CLAUDE_CALL}],"stop_reason":"tool_use",{CLAUDE_USAGE}}}'.encode()
    ),
    (Dialect.ANTHROPIC_MESSAGES, True): stream(
        f'{{"type":"message_start","message":{{{CLAUDE_HEAD},"content":[],{CLAUDE_USAGE}}}}}',
        f'{{"type":"content_block_start","index":0,"content_block":{CLAUDE_CALL}}}',
        '{"type":"content_block_stop","index":0}',
        f'{{"type":"message_delta","delta":{{"stop_reason":"tool_use"}},{CLAUDE_USAGE}}}',
        '{"type":"message_stop"}',
        names=True,
    ),
    (Dialect.OPENAI_CHAT, False): (
        f'{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant",'
        f'"content":null,"tool_calls":[{CHAT_CALL}]}},"finish_reason":"tool_calls"}}]}}'.encode()
    ),
    (Dialect.OPENAI_CHAT, True): (
        stream(
            '{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant",'
            f'"tool_calls":[{CHAT_CALL}]}},"finish_reason":null}}]}}',
            '{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},'
            '"finish_reason":"tool_calls"}]}',
        )
        + b"data: [DONE]\n\n"
    ),
    (Dialect.OPENAI_RESPONSES, False): (
        f'{{{RESPONSES_HEAD},"status":"completed","output":[{RESPONSES_CALL}],{RESPONSES_USAGE}}}'.encode()
    ),
    (Dialect.OPENAI_RESPONSES, True): stream(
        f'{{"type":"response.created","sequence_number":0,"response":{{{RESPONSES_HEAD},"status":"in_progress",'
        '"output":[]}}',
        f'{{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{RESPONSES_CALL}}}',
        f'{{"type":"response.output_item.done","sequence_number":2,"output_index":0,"item":{RESPONSES_CALL}}}',
        f'{{"type":"response.completed","sequence_number":3,"response":{{{RESPONSES_HEAD},"status":"completed",'
        f'"output":[{RESPONSES_CALL}],{RESPONSES_USAGE}}}}}',
        names=True,
    ),
}


@pytest.mark.parametrize(("dialect", "streamed"), CALLS)
def test_arguments_that_come_as_an_object(dialect: Dialect, streamed: bool) -> None:
    (call,) = read(dialect, CALLS[dialect, streamed], streamed=streamed).tools()
    assert call.parsed() == VALUE
    assert call.arguments == ARGUMENTS


@pytest.mark.parametrize("streamed", [False, True])
def test_arguments_that_come_as_text(streamed: bool) -> None:
    text = orjson.dumps(ARGUMENTS).decode()
    for dialect in SPEAKERS:
        body = CALLS[dialect, streamed].decode().replace(f":{ARGUMENTS}", f":{text}").encode()
        (call,) = read(dialect, body, streamed=streamed).tools()
        assert call.parsed() == VALUE


HOSTED: dict[tuple[Dialect, bool], bytes] = {
    (Dialect.ANTHROPIC_MESSAGES, False): (
        f'{{{CLAUDE_HEAD},"content":[{{"type":"server_tool_use","id":"srvtoolu_1","name":"code_execution",'
        f'"input":{ARGUMENTS}}},{{"type":"code_execution_tool_result","tool_use_id":"srvtoolu_1",'
        f'"content":{ARGUMENTS}}}],"stop_reason":"end_turn",{CLAUDE_USAGE}}}'.encode()
    ),
    (Dialect.ANTHROPIC_MESSAGES, True): stream(
        f'{{"type":"message_start","message":{{{CLAUDE_HEAD},"content":[],{CLAUDE_USAGE}}}}}',
        f'{{"type":"content_block_start","index":0,"content_block":{{"type":"server_tool_use","id":"srvtoolu_1",'
        f'"name":"code_execution","input":{ARGUMENTS}}}}}',
        '{"type":"content_block_stop","index":0}',
        f'{{"type":"content_block_start","index":1,"content_block":{{"type":"code_execution_tool_result",'
        f'"tool_use_id":"srvtoolu_1","content":{ARGUMENTS}}}}}',
        '{"type":"content_block_stop","index":1}',
        f'{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},{CLAUDE_USAGE}}}',
        '{"type":"message_stop"}',
    ),
    (Dialect.OPENAI_RESPONSES, False): (
        f'{{{RESPONSES_HEAD},"status":"completed","output":[{{"type":"file_search_call","id":"fs_1",'
        f'"status":"completed","queries":["q"],"results":[{ARGUMENTS}]}}],{RESPONSES_USAGE}}}'.encode()
    ),
    (Dialect.GEMINI, False): (
        '{"candidates":[{"content":{"role":"model","parts":'
        f'[{{"toolCall":{{"id":"t","toolType":"URL_CONTEXT","args":{ARGUMENTS}}}}},'
        f'{{"toolResponse":{{"id":"t","toolType":"URL_CONTEXT","response":{ARGUMENTS}}}}},{{"text":"Done."}}]}},'
        f'"finishReason":"STOP","index":0}}]}}'.encode()
    ),
}


def numbers(value: object) -> Sequence[int]:
    """The integers beyond 64 bits in a value, at any depth."""
    return [item for _key, item in leaves(value) if isinstance(item, int) and not -(1 << 63) <= item < 1 << 64]


@pytest.mark.parametrize(("dialect", "streamed"), HOSTED)
def test_numbers_in_results_of_hosted_tools(dialect: Dialect, streamed: bool) -> None:
    answer = read(dialect, HOSTED[dialect, streamed], streamed=streamed)
    ran = [part for part in answer.choices[0].parts if isinstance(part, HostedToolPart)]
    told = [number for part in ran for number in (*numbers(part.input), *numbers(part.output))]
    assert set(told) == {BIG, LOW}
    assert {BIG, LOW} <= {number for part in ran for number in numbers(part.provider_state)}
    assert ChatResponse.model_validate_json(answer.model_dump_json()) == answer
