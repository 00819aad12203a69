"""The loopback server itself: its script, what it records, who it lets in."""

import asyncio
import subprocess
import sys
import time

import anthropic
import httpx
import openai
import pytest

from dhenara_async.endpoint import AIModelAPIProviderEnum, Dialect
from dhenara_async.response import FinishReason
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError, ScriptedToolCall, SeenRequest

_CHAT = "/openai/v1/chat/completions"
_GEMINI = "/google/v1beta/models/gemini-3.8-flash"
_QUESTION = "Tell me a story about a robot learning to paint."
_BEARER = {"authorization": "Bearer key"}


def _chat(*texts: str, model: str = "gpt-4o-mini") -> dict[str, object]:
    roles = ("user", "assistant")
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": "Be brief."},
            *({"role": roles[index % 2], "content": text} for index, text in enumerate(texts)),
        ],
    }


async def test_stand_in_shows_that_context_arrives() -> None:
    told: list[str] = [_QUESTION]
    async with ProviderServer() as server, httpx.AsyncClient(base_url=server.url, headers=_BEARER) as client:
        for question in ("And then?", "How does it end?", ""):
            response = await client.post(_CHAT, json=_chat(*told))
            told += [response.json()["choices"][0]["message"]["content"], question]
    first, second, third = told[1], told[3], told[5]
    assert len({first, second, third}) == 3
    assert "gpt-4o-mini" in first
    assert "not a model" in first
    assert "no earlier turn" in first
    assert "1 earlier turn.)" in second
    assert "“Tell me a story about a robot learning to paint”" in third
    assert "2 earlier turns" in third
    assert "“Its first lines were crooked" in third
    assert all("“Be brief”" in text for text in (first, second, third))


async def test_records_what_it_saw_without_keys() -> None:
    async with ProviderServer([Answer(text="x")]) as server, httpx.AsyncClient(base_url=server.url) as client:
        body = {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Wie "}, {"text": "geht es?"}]},
                {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "Gut."}]},
                {"role": "user", "parts": [{"text": "Und?"}]},
            ],
        }
        headers = {"x-goog-api-key": "very secret", "X-Other": "1"}
        await client.post(f"{_GEMINI}:streamGenerateContent?alt=sse&key=also%20secret", json=body, headers=headers)
        (seen,) = server.requests
    assert (seen.dialect, seen.provider, seen.method) == (Dialect.GEMINI, "google", "POST")
    assert seen.path == f"{_GEMINI}:streamGenerateContent"
    assert seen.query == {"alt": "sse", "key": "***"}
    assert (seen.headers["x-goog-api-key"], seen.headers["x-other"], seen.authenticated) == ("***", "1", True)
    assert (seen.json, seen.stream, seen.model, seen.system) == (body, True, "gemini-3.8-flash", "Be brief.")
    assert seen.turns == (("user", "Wie geht es?"), ("assistant", "Gut."), ("user", "Und?"))
    assert (seen.status, seen.error) == (200, None)
    assert "secret" not in repr(seen)


async def test_script_as_a_function_and_its_end() -> None:
    def echo(seen: SeenRequest) -> Answer | ScriptedError:
        return Answer(text=seen.turns[-1][1].upper()) if seen.turns else ScriptedError(418, "nothing said")

    async with ProviderServer(echo) as server, httpx.AsyncClient(base_url=server.url, headers=_BEARER) as client:
        response = await client.post(_CHAT, json=_chat("hi"))
        assert response.json()["choices"][0]["message"]["content"] == "HI"
    async with ProviderServer([]) as server, httpx.AsyncClient(base_url=server.url, headers=_BEARER) as client:
        response = await client.post(_CHAT, json=_chat("hi"))
        assert response.status_code == 500
        assert "The script has no more answers" in response.json()["error"]["message"]
        assert server.requests[0].status == 500


@pytest.mark.parametrize(("keep", "kept"), [(None, "abcd"), (9, "abcd"), (2, "cd"), (0, "")])
async def test_only_the_last_requests_are_kept_where_a_number_is_given(keep: int | None, kept: str) -> None:
    async with (
        ProviderServer(keep=keep) as server,
        httpx.AsyncClient(base_url=server.url, headers=_BEARER) as client,
    ):
        answers = [(await client.post(_CHAT, json=_chat(letter))).json() for letter in "abcd"]
    assert "".join(seen.turns[-1][1] for seen in server.requests) == kept
    assert len({answer["id"] for answer in answers}) == len(answers)  # they are counted all the same


async def test_scripted_errors_reach_the_sdks_as_their_own() -> None:
    slow = ScriptedError(429, "Too fast.", code="rate_limit_exceeded", headers={"retry-after": "7"})
    script = [slow, ScriptedError(529, "Overloaded", code="no_capacity"), ScriptedError(503, "Busy.")]
    async with ProviderServer(script) as server:
        base_url = server.base_url(AIModelAPIProviderEnum.OPEN_AI)
        async with openai.AsyncOpenAI(base_url=base_url, api_key="key", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as limited:
                await client.responses.create(model="m", input="hi", stream=True)
        base_url = server.base_url(AIModelAPIProviderEnum.ANTHROPIC)
        async with anthropic.AsyncAnthropic(base_url=base_url, api_key="key", max_retries=0) as client:
            with pytest.raises(anthropic.APIStatusError) as overloaded:
                await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        async with httpx.AsyncClient(base_url=server.url, headers={"x-goog-api-key": "key"}) as client:
            body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
            busy = await client.post(f"{_GEMINI}:streamGenerateContent", json=body)
        assert [seen.status for seen in server.requests] == [429, 529, 503]
    assert (limited.value.code, limited.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert limited.value.response.headers["retry-after"] == "7"
    assert overloaded.value.response.json() == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded", "details": {"error_code": "no_capacity"}},
        "request_id": overloaded.value.request_id,
    }
    assert busy.json() == [{"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}}]


@pytest.mark.parametrize("status", [401, 404])
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/openai/v1/responses", {"authorization": "Bearer wrong"}),
        (_CHAT, {"authorization": "Bearer wrong"}),
        ("/anthropic/v1/messages", {"x-api-key": "wrong"}),
        ("/anthropic/v1/messages", {"authorization": "Bearer wrong"}),
        (f"{_GEMINI}:generateContent", {"x-goog-api-key": "wrong"}),
        (_CHAT, {"authorization": "Basic key"}),
        ("/anthropic/v1/messages", {}),
        (f"{_GEMINI}:generateContent", {}),
    ],
)
async def test_wrong_doors_and_wrong_keys(path: str, headers: dict[str, str], status: int) -> None:
    async with ProviderServer(api_key="right") as server, httpx.AsyncClient(base_url=server.url) as client:
        response = await client.post(path + ("" if status == 401 else "/nowhere"), json={}, headers=headers)
        (seen,) = server.requests
    assert response.status_code == status
    error = response.json()["error"]
    if path.startswith("/google"):
        assert error["status"] == {401: "UNAUTHENTICATED", 404: "NOT_FOUND"}[status]
    elif path.startswith("/anthropic"):
        assert error["type"] == {401: "authentication_error", 404: "not_found_error"}[status]
    else:
        assert error["type"] == "invalid_request_error"
        assert error["code"] == ("invalid_api_key" if status == 401 and "wrong" in str(headers) else None)
    assert (seen.status, seen.authenticated, seen.error) == (status, False, error["message"])


@pytest.mark.parametrize("path", ["/nobody/v1/chat/completions", "/anthropic/v1/responses", "/", "/openai/v1"])
async def test_unknown_paths(path: str) -> None:
    async with ProviderServer() as server, httpx.AsyncClient(base_url=server.url, headers=_BEARER) as client:
        assert (await client.post(path, json={})).status_code == 404
        assert (await client.get(_CHAT)).status_code == 404


async def test_addresses() -> None:
    async with ProviderServer(api_key="right") as server:
        assert server.base_url(AIModelAPIProviderEnum.OPEN_AI) == f"{server.url}/openai/v1"
        assert server.base_url(AIModelAPIProviderEnum.ANTHROPIC) == f"{server.url}/anthropic"
        assert server.base_url(AIModelAPIProviderEnum.GOOGLE_AI) == f"{server.url}/google"
        assert server.base_url(AIModelAPIProviderEnum.GROQ) == f"{server.url}/groq/v1"
        api = server.api(AIModelAPIProviderEnum.OPENAI_COMPATIBLE, dialect=Dialect.ANTHROPIC_MESSAGES)
        assert (api.base_url, api.dialect) == (f"{server.url}/openai_compatible", Dialect.ANTHROPIC_MESSAGES)
        assert api.api_key is not None
        assert api.api_key.get_secret_value() == "right"
        environment = server.environment()
        assert environment["GOOGLE_GEMINI_BASE_URL"] == f"{server.url}/google"
        assert environment["ANTHROPIC_API_KEY"] == "right"
    with pytest.raises(RuntimeError, match="async with"):
        _ = ProviderServer().url


async def test_wire_of_the_streams() -> None:
    script = [Answer(text="a\u2028b c")] * 3
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    async with ProviderServer(script) as server, httpx.AsyncClient(base_url=server.url) as client:
        key = {"x-goog-api-key": "key"}
        events = await client.post(f"{_GEMINI}:streamGenerateContent?alt=sse", json=body, headers=key)
        array = await client.post(f"{_GEMINI}:streamGenerateContent", json=body, headers=key)
        chat = await client.post(_CHAT, json={**_chat("hi"), "stream": True}, headers=_BEARER)
    assert events.headers["content-type"] == "text/event-stream"
    assert events.content.count(b"\r\n\r\n") == 3
    assert b"[DONE]" not in events.content
    assert "x-request-id" not in events.headers
    assert [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in array.json()] == ["a", "\u2028b", " c"]
    assert chat.content.endswith(b"\n\ndata: [DONE]\n\n")
    assert b"usage" not in chat.content
    assert chat.headers["x-request-id"]


async def test_failure_inside_a_stream() -> None:
    failing = Answer(text="so far", finish_reason=FinishReason.ERROR)
    async with ProviderServer([failing] * 4) as server:
        base_url = server.base_url(AIModelAPIProviderEnum.OPEN_AI)
        async with openai.AsyncOpenAI(base_url=base_url, api_key="key", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            with pytest.raises(openai.APIError, match="failed while it answered"):
                async for _chunk in stream:
                    pass
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        base_url = server.base_url(AIModelAPIProviderEnum.ANTHROPIC)
        async with anthropic.AsyncAnthropic(base_url=base_url, api_key="key", max_retries=0) as client:
            with pytest.raises(anthropic.APIStatusError, match="failed while it answered"):
                async with client.messages.stream(
                    model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
                ) as stream:
                    await stream.until_done()
            with pytest.raises(anthropic.InternalServerError):
                await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])


async def test_what_a_dialect_cannot_say_is_an_error() -> None:
    broken = Answer(tool_calls=(ScriptedToolCall("1", "add", "{"),))
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    async with ProviderServer([broken]) as server, httpx.AsyncClient(base_url=server.url) as client:
        response = await client.post(
            f"{_GEMINI}:streamGenerateContent?alt=sse", json=body, headers={"x-goog-api-key": "key"}
        )
    assert response.status_code == 500
    with pytest.raises(ValueError, match="pieces"):
        Answer(text="ab", pieces=("a",))


async def test_delay_and_a_client_that_leaves() -> None:
    script = [Answer(text="one two three"), Answer(text="one two three four five six seven eight")]
    async with ProviderServer(script, delay=0.02) as server:
        async with httpx.AsyncClient(base_url=server.url, headers=_BEARER) as client:
            begun = time.perf_counter()
            await client.post(_CHAT, json={**_chat("hi"), "stream": True})
            assert time.perf_counter() - begun >= 0.06
            async with client.stream("POST", _CHAT, json={**_chat("hi"), "stream": True}) as response:
                async for _bytes in response.aiter_bytes():
                    break
        await asyncio.sleep(0.05)
        assert [seen.status for seen in server.requests] == [200, 200]


async def test_an_answer_is_held_until_its_event() -> None:
    gate = asyncio.Event()
    held = Fault(answer=Answer(text="one two"), stall=2, until=gate)
    async with (
        asyncio.timeout(30),
        ProviderServer([held]) as server,
        httpx.AsyncClient(base_url=server.url, headers=_BEARER) as client,
        client.stream("POST", _CHAT, json={**_chat("hi"), "stream": True}) as response,
    ):
        pieces = response.aiter_bytes()
        assert b"[DONE]" not in await anext(pieces)
        gate.set()
        assert b"[DONE]" in b"".join([piece async for piece in pieces])


# Background jobs of a shell ignore Ctrl-C, so the handler is set before ``python -m dhenara_async.testing`` begins.
_WITH_CTRL_C = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('dhenara_async.testing', run_name='__main__')"
)


def test_command_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _WITH_CTRL_C],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline().strip() for _line in range(6)]
        process.send_signal(2)
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert lines[0].startswith("export OPENAI_BASE_URL=http://127.0.0.1:")
    assert lines[5].startswith("export GEMINI_API_KEY=")
    assert errors == ""


_QUESTIONS = ("What is 1 + 1?", "And doubled?")
_CALL_ID = "call_1"
_SAME: list[tuple[str, dict[str, object]]] = [
    (
        _CHAT,
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": _QUESTIONS[0]},
                {
                    "role": "assistant",
                    "content": "I add.",
                    "tool_calls": [
                        {"id": _CALL_ID, "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":1}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": _CALL_ID, "content": "2"},
                {"role": "assistant", "content": "Two."},
                {"role": "user", "content": _QUESTIONS[1]},
            ],
        },
    ),
    (
        "/openai/v1/responses",
        {
            "model": "m",
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": _QUESTIONS[0]}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": "I add."}]},
                {"type": "function_call", "call_id": _CALL_ID, "name": "add", "arguments": '{"a":1,"b":1}'},
                {"type": "function_call_output", "call_id": _CALL_ID, "output": "2"},
                {"role": "assistant", "content": "Two."},
                {"role": "user", "content": _QUESTIONS[1]},
            ],
        },
    ),
    (
        "/anthropic/v1/messages",
        {
            "model": "m",
            "max_tokens": 9,
            "system": "Be brief.",
            "messages": [
                {"role": "user", "content": _QUESTIONS[0]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I add."},
                        {"type": "tool_use", "id": _CALL_ID, "name": "add", "input": {"b": 1, "a": 1}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": _CALL_ID, "content": "2"}]},
                {"role": "assistant", "content": "Two."},
                {"role": "user", "content": [{"type": "text", "text": _QUESTIONS[1]}]},
            ],
        },
    ),
    (
        "/google/v1beta/models/m:generateContent",
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": _QUESTIONS[0]}]},
                {
                    "role": "model",
                    "parts": [{"text": "I add."}, {"functionCall": {"name": "add", "args": {"b": 1, "a": 1}}}],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "add", "response": {"result": "2"}}}]},
                {"role": "model", "parts": [{"text": "Two."}]},
                {"role": "user", "parts": [{"text": _QUESTIONS[1]}]},
            ],
        },
    ),
]


@pytest.mark.parametrize(("path", "body"), _SAME)
async def test_one_conversation_reads_the_same_in_every_dialect(path: str, body: dict[str, object]) -> None:
    headers = {"x-goog-api-key": "key", "anthropic-version": "2026-10-21", **_BEARER}
    async with ProviderServer() as server, httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        response = await client.post(path, json=body)
        (seen,) = server.requests
    assert response.status_code == 200, response.text
    assert (seen.model, seen.system) == ("m", "Be brief.")
    assert seen.turns == (
        ("user", "What is 1 + 1?"),
        ("assistant", 'I add.\nadd({"a":1,"b":1})'),
        ("user", "2"),
        ("assistant", "Two."),
        ("user", "And doubled?"),
    )
