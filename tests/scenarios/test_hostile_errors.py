"""Hostile error responses: odd retry delays, deeply nested JSON, control characters in messages and logs."""

import json
import logging
import math
import warnings
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Dialect,
    RetryPolicy,
    ToolCallPart,
)
from dhenara_async.drivers.base import dumped
from dhenara_async.drivers.failures import LONGEST_WAIT, retry_after_seconds
from dhenara_async.errors import (
    APIError,
    ConfigurationError,
    DeadlineError,
    DhenaraError,
    ProtocolError,
    RateLimitError,
    ToolArgumentsError,
    printable,
)
from dhenara_async.testing import ReplayTransport
from tests.cases import cases
from tests.loopback import ONCE, SPEAKERS

DATE = "Sun, 22 Nov 2026 12:00:00 GMT"


def asked(dialect: Dialect, model: str | None = None) -> AIModelEndpoint:
    provider, known = SPEAKERS[dialect]
    api = AIModelAPI(provider=provider, dialect=dialect, api_key="some-key", base_url="http://h.example")
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model or known))


# --------------------------------------------------------------------------------------------------------- retry delays


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "-inf"}, 0.0),
        ({"retry-after": "inf"}, LONGEST_WAIT),
        ({"retry-after": "1e999"}, LONGEST_WAIT),
        ({"retry-after": "9" * 400}, LONGEST_WAIT),
        ({"retry-after-ms": "9" * 400}, LONGEST_WAIT),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "nan", "retry-after": "2"}, 2.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": DATE}, LONGEST_WAIT),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 +9999999999999", "date": DATE}, None),
        ({"retry-after": "Sun, 22 Nov 99999999999999 12:00:30 GMT", "date": DATE}, None),
        ({"retry-after": DATE, "date": "x" * 1000}, None),
        ({"llm_provider-retry-after": "7"}, 7.0),
        ({"llm_provider-retry-after-ms": "1500", "llm_provider-retry-after": "7"}, 1.5),
        ({"llm_provider-retry-after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "2", "llm_provider-retry-after": "7"}, 2.0),
        ({"retry-after": "nan", "llm_provider-retry-after": "7"}, 7.0),
        ({}, None),
    ],
)
def test_retry_after_headers_are_parsed_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize("told", ["1e999", "nan", "inf", "-inf", "9" * 400, "-9" * 40])
async def test_an_invalid_retry_after_does_not_break_the_retry(told: str) -> None:
    replay = ReplayTransport(b"{}", status=429, headers={"retry-after": told})
    policy = RetryPolicy(attempts=2, first_delay=0, longest_delay=0)
    with pytest.raises(RateLimitError) as caught:
        config = AIModelCallConfig(retries=policy)
        await AIModelClient(asked(Dialect.OPENAI_CHAT), config, transport=replay).generate("Hi.")
    assert caught.value.retry_after is None or math.isfinite(caught.value.retry_after)


@pytest.mark.parametrize("delay", ["1e999s", "nans", "-5s", "9" * 400 + "s", "s", "soon"])
async def test_an_invalid_gemini_retry_delay_is_ignored_or_bounded(delay: str) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    body = {"error": {"code": 429, "message": "Later.", "status": "RESOURCE_EXHAUSTED", "details": details}}
    with pytest.raises(RateLimitError) as caught:
        replay = ReplayTransport(orjson.dumps(body), status=429)
        await AIModelClient(asked(Dialect.GEMINI), ONCE, transport=replay).generate("Hi.")
    assert caught.value.retry_after in (None, 0.0, LONGEST_WAIT)


# -------------------------------------------------------------------------------------------------------------- nesting


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("name", ["detail", "error", "message", "errors", "details"])
async def test_a_deeply_nested_error_body_becomes_a_typed_error(dialect: Dialect, name: str) -> None:
    with cases() as case:
        for depth in (100, 300, 900, 1020, 5000):
            for text in (
                f'{{"{name}":{nested(depth)}}}',
                f'{{"{name}":[{nested(depth)}]}}',
                f'{{"error":{{"{name}":{nested(depth)}}}}}',
            ):
                with case(f"{depth}: {text[:24]}"):
                    await check_error(dialect, text.encode())


async def check_error(dialect: Dialect, body: bytes) -> None:
    """Check that an error with this body is raised, plain and inside a stream, without retries, which would wait."""
    replay = ReplayTransport(body, status=400)
    with pytest.raises(APIError) as caught:
        await AIModelClient(asked(dialect), ONCE, transport=replay).generate("Hi.")
    assert caught.value.status == 400
    streamed = ReplayTransport(b"data: " + body + b"\n\n", headers={"content-type": "text/event-stream"})
    config = AIModelCallConfig(streaming=True, retries=0)
    with pytest.raises(DhenaraError):
        await AIModelClient(asked(dialect), config, transport=streamed).generate("Hi.")


@pytest.mark.parametrize("depth", [200, 300])
async def test_deeply_nested_tool_arguments_are_read_or_refused(depth: int) -> None:
    call = f'{{"functionCall":{{"name":"f","args":{nested(depth)}}}}}'
    body = f'{{"candidates":[{{"content":{{"role":"model","parts":[{call}]}},"finishReason":"STOP"}}]}}'
    answer = await AIModelClient(asked(Dialect.GEMINI), transport=ReplayTransport(body.encode())).generate("Hi.")
    assert answer.chat_response is not None
    (part,) = answer.chat_response.choices[0].parts
    assert isinstance(part, ToolCallPart)
    assert part.arguments == nested(depth)


def test_json_beyond_orjsons_limits_is_written() -> None:
    value: object = json.loads(nested(400))
    assert dumped(value) == nested(400)
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ProtocolError, match="nested too deep"):
        dumped(value)
    while isinstance(value, list):  # freeing it whole would recurse as deeply
        value = cast("list[object]", value)[0]


# --------------------------------------------------------------------------------------------------- control characters

FORGED = "ok\nWARNING everything is fine\r\x1b[2J\x85\u2028\u202e\x00"
PLAIN = r"ok\nWARNING everything is fine\r\x1b[2J\x85\u2028\u202e\x00"


def test_printable_escapes_control_characters() -> None:
    assert printable(FORGED) == PLAIN
    assert printable("Grüße, 🙂 und\u00a0mehr 👩‍🚀") == "Grüße, 🙂 und\u00a0mehr 👩‍🚀"
    assert printable("half \ud83d") == r"half \ud83d"


def test_error_messages_have_no_line_breaks() -> None:
    error = APIError(FORGED, provider="p", status=500, code=FORGED, request_id=FORGED)
    assert [str(each) for each in (ConfigurationError(FORGED), ProtocolError(FORGED), error)] == [PLAIN] * 3
    assert (error.code, error.request_id) == (PLAIN, PLAIN)
    assert str(DeadlineError(limit="total", seconds=1)) == "gave up: the time limit total=1 s ran out"


def test_tool_argument_errors_keep_line_breaks() -> None:
    assert str(ToolArgumentsError("one\n\ttwo\x1b", name="f")) == "one\n\ttwo\\x1b"


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_control_characters_are_escaped_in_logs_and_errors(
    dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="dhenara_async")
    error = {"message": FORGED, "code": FORGED, "type": FORGED, "status": FORGED}
    replay = ReplayTransport(orjson.dumps({"error": error}), status=503, headers={"x-request-id": FORGED})
    config = AIModelCallConfig(retries=RetryPolicy(attempts=2, first_delay=0, longest_delay=0))
    client = AIModelClient(asked(dialect, f"m{FORGED}"), config, transport=replay)
    with pytest.raises(APIError) as caught:
        await client.generate("Hi.")
    assert len(replay.requests) == 2
    told = [str(caught.value), f"{caught.value.code}", f"{caught.value.request_id}", repr(client)]
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 4
    assert [text for text in told if printable(text) != text] == []


async def test_warnings_about_models_have_no_line_breaks() -> None:
    model = AIModel.model_validate(
        {"model_name": FORGED, "provider": "groq", "retired_on": "2020-01-01", "capabilities": {"sampling": False}}
    )
    api = AIModelAPI(provider="groq", api_key="some-key")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = AIModelCallConfig(temperature=0.3)
        stream = AIModelClient(AIModelEndpoint(api=api, ai_model=model), config, transport=ReplayTransport(b"")).stream(
            "Hi."
        )
    told = [str(each.message) for each in caught] + [each.message for each in stream.partial.warnings]
    assert len(told) > 1
    assert [text for text in told if printable(text) != text] == []
