"""The OpenAI-compatible front, read by the real openai SDK."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import anyio
import anyio.lowlevel
import orjson
import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request

from dhenara_async import (
    ConversationManager,
    Dialect,
    Failover,
    Target,
)
from dhenara_async.messages.messages import Citation
from dhenara_async.response import FinishReason
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from dhenara_async.testing.script import Script, ScriptedToolCall
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web.starlette import WebLimits, openai_routes
from tests.loopback import ONCE, PATIENCE, endpoint_at
from tests.web.servers import served, served_by_aiohttp

openai = pytest.importorskip("openai", reason="the openai SDK is not installed: pip install openai")

KEY = "front-key"
DIALECTS = pytest.mark.parametrize(
    "dialect", [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI]
)
ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}
CALL = Answer(tool_calls=(ScriptedToolCall("call_1", "add", '{"a":1,"b":2}'),))


async def owner_of(request: Request) -> str:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise HTTPException(401, "no such key")
    return "ann"


async def aiohttp_owner_of(request: web.Request) -> str:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise web.HTTPUnauthorized(text="no such key", headers={"www-authenticate": "Bearer"})
    return "ann"


@asynccontextmanager
async def front(models: Mapping[str, Target]) -> AsyncGenerator[str]:
    """Serve ``models`` and yield the URL of the API."""
    async with ConversationManager(config=ONCE) as manager:
        app = Starlette(routes=openai_routes(manager, models, owner=owner_of))
        async with served(app) as url:
            yield f"{url}/v1"


@asynccontextmanager
async def sdk_for(script: Script, dialect: Dialect = Dialect.ANTHROPIC_MESSAGES) -> AsyncGenerator[Any]:
    """Yield the openai SDK at a front whose model ``m`` is a scripted provider."""
    async with (
        ProviderServer(script) as provider,
        front({"m": endpoint_at(provider, dialect)}) as url,
        openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as sdk,
    ):
        yield sdk


async def test_models_are_listed_by_their_names() -> None:
    async with sdk_for([]) as sdk:
        assert [model.id async for model in sdk.models.list()] == ["m"]
        assert (await sdk.models.retrieve("m")).object == "model"
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("other")


# what open-webui, LibreChat and editors send beside what this API knows, and their way of leaving a field empty
OTHERS: dict[str, Any] = {
    **dict.fromkeys(("presence_penalty", "top_k", "min_p", "num_ctx", "mirostat", "logprobs_x", "verbosity_x"), 1),
    **{
        name: {"a": 1}
        for name in ("logit_bias", "metadata", "features", "variables", "options", "provider", "thinking")
    },
    **{name: ["x"] for name in ("tool_ids", "files", "modalities", "transforms", "plugins", "safety_settings")},
    **dict.fromkeys(("chat_id", "session_id", "keep_alive", "service_tier", "prompt_cache_key", "format"), "x"),
    **dict.fromkeys(
        ("tools", "tool_choice", "response_format", "stop", "n", "seed", "top_p", "stream_options", "user")
    ),
}


async def test_a_client_gets_what_it_checks_and_what_it_sends_beside_is_ignored() -> None:
    async with (
        ProviderServer([Answer(text="Hello")] * 2) as provider,
        front(
            {
                "m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES),
                "safe": Failover([endpoint_at(provider, Dialect.GEMINI)]),
            }
        ) as url,
        aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session,
    ):
        async with session.get(f"{url}/models") as reply:
            listed = await reply.json()
        assert [sorted(entry) for entry in listed["data"]] == [["created", "id", "object", "owned_by"]] * 2
        assert (listed["object"], [entry["id"] for entry in listed["data"]]) == ("list", ["m", "safe"])
        assert None not in [value for entry in listed["data"] for value in entry.values()]
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi", "name": "Ann", "timestamp": 1}], **OTHERS}
        for streamed in (True, None):
            async with session.post(f"{url}/chat/completions", json={**asked, "stream": streamed}) as reply:
                assert (reply.status, "Hello" in await reply.text()) == (200, True)
        sent = {*orjson.loads(provider.requests[0].body)}
    assert sent == {"model", "messages", "max_tokens", "stream"}


@DIALECTS
async def test_the_sdk_reads_words_and_usage_streamed_and_plain(dialect: Dialect) -> None:
    async with sdk_for([Answer(text="Hello dear world")] * 2, dialect) as sdk:
        asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "frequency_penalty": 1}
        plain = await sdk.chat.completions.create(**asked)
        stream = await sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert plain.choices[0].message.content == words == "Hello dear world"
    assert plain.choices[0].finish_reason == "stop"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    assert plain.usage.completion_tokens == 3


@DIALECTS
async def test_tools_go_both_ways(dialect: Dialect) -> None:
    async with sdk_for([CALL, CALL, Answer(text="3")], dialect) as sdk:
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is 1 + 2?"},
        ]
        async with sdk.chat.completions.stream(model="m", messages=messages, tools=[ADD]) as stream:
            async for _ in stream:
                pass
            streamed = await stream.get_final_completion()
        plain = await sdk.chat.completions.create(model="m", messages=messages, tools=[ADD])
        answer = plain.choices[0].message
        call = answer.tool_calls[0]
        assert plain.choices[0].finish_reason == streamed.choices[0].finish_reason == "tool_calls"
        first = streamed.choices[0].message.tool_calls[0].function
        assert (first.name, first.parsed_arguments or first.arguments) == (call.function.name, call.function.arguments)
        messages += [answer.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "3"}]
        last = await sdk.chat.completions.create(model="m", messages=messages, tools=[ADD])
        assert last.choices[0].message.content == "3"


async def test_errors_have_the_shape_of_the_api() -> None:
    async with sdk_for([ScriptedError(429, "a secret"), ScriptedError(400, "a secret")]) as sdk:
        question: list[Any] = [{"role": "user", "content": "Hi"}]
        with pytest.raises(openai.RateLimitError) as limited:
            await sdk.chat.completions.create(model="m", messages=question, stream=True)
        assert limited.value.code == "rate_limit_exceeded"
        assert limited.value.response.json()["error"]["type"] == "rate_limit_error"
        with pytest.raises(openai.BadRequestError) as denied:
            await sdk.chat.completions.create(model="m", messages=question)
        with pytest.raises(openai.NotFoundError) as unknown:
            await sdk.chat.completions.create(model="secret", messages=question)
        assert unknown.value.code == "model_not_found"
        told = [str(limited.value), str(denied.value), str(unknown.value).replace("no such", "")]
        bad: list[Any] = [[], [{"role": "secret"}], [{"role": "user", "content": [{"type": "secret"}]}]]
        for messages in bad:
            with pytest.raises(openai.BadRequestError) as refused:
                await sdk.chat.completions.create(model="m", messages=messages)
            told.append(str(refused.value))
        assert not any("secret" in words for words in told)
        with pytest.raises(openai.AuthenticationError, match="no such key"):
            await sdk.with_options(api_key="wrong").models.list()


async def test_what_is_refused_before_it_is_read_has_the_shape_of_an_error() -> None:
    async def anyone(request: Request) -> str:
        return "ann"

    async with ConversationManager(config=ONCE) as manager:
        models = {"m": "openai:gpt-6.2-sol"}
        app = Starlette(routes=openai_routes(manager, models, owner=anyone, limits=WebLimits(body_bytes=100)))
        async with served(app) as url, aiohttp.ClientSession() as session:

            async def status(body: bytes, **headers: str) -> int:
                named = {
                    "content-type": "application/json",
                    **{name.replace("_", "-"): headers[name] for name in headers},
                }
                async with session.post(f"{url}/v1/chat/completions", data=body, headers=named) as reply:
                    assert sorted((await reply.json())["error"]) == ["code", "message", "param", "type"]
                    return reply.status

            assert await status(b"{") == 400
            assert await status(b"{}", content_type="text/plain") == 415
            assert await status(b"{}" + b" " * 200) == 413
            assert await status(b"{}", origin="https://evil.example") == 403
            assert await status(b"{}", origin="https://evil.example", sec_fetch_site="cross-site") == 403
            assert await status(b"{}", origin="https://tool.example", authorization="Bearer k") == 400


async def test_a_cut_answer_raises_in_the_sdk() -> None:
    async with sdk_for([Fault(answer=Answer(text="one two three"), cut=700)], Dialect.OPENAI_CHAT) as sdk:
        stream = await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        words: list[str] = []
        with pytest.raises(openai.APIError, match="broke before the answer was complete"):
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content or "")
    assert "".join(words).startswith("one")


async def test_an_answer_that_its_provider_ended_with_an_error_or_early_is_no_success() -> None:
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    failed = Answer(text="One", finish_reason=FinishReason.ERROR)
    async with sdk_for([failed, failed, Answer(text="One", finish_reason=FinishReason.PAUSE)], Dialect.GEMINI) as sdk:
        with pytest.raises(openai.InternalServerError):
            await sdk.chat.completions.create(**asked)
        with pytest.raises(openai.APIError, match="in place of the rest"):
            async for _ in await sdk.chat.completions.create(**asked, stream=True):
                pass
        assert (await sdk.chat.completions.create(**asked)).choices[0].finish_reason == "length"


async def test_a_client_is_told_when_to_ask_again_and_when_not_to() -> None:
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    script = [ScriptedError(429, "slow", headers={"retry-after": "7"}), ScriptedError(401, "no such key")]
    async with (
        ProviderServer(script) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as url,
        openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=2) as sdk,
    ):
        with pytest.raises(openai.RateLimitError) as slow:
            await sdk.with_options(max_retries=0).chat.completions.create(**asked)
        assert slow.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.InternalServerError):
            await sdk.chat.completions.create(**asked)
        assert len(provider.requests) == 2


async def test_web_sources_are_annotations() -> None:
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    source = Citation(url="https://a.example", title="A", start=0, end=3)
    async with sdk_for([Answer(text="One two", citations=(source,))] * 2, Dialect.GEMINI) as sdk:
        plain = (await sdk.chat.completions.create(**asked)).choices[0].message.annotations
        deltas = [chunk.choices[0].delta async for chunk in await sdk.chat.completions.create(**asked, stream=True)]
        streamed = [delta.annotations for delta in deltas if getattr(delta, "annotations", None)]
        (cited,) = plain
        assert (cited.url_citation.url, cited.url_citation.title) == ("https://a.example", "A")
        assert (cited.url_citation.start_index, cited.url_citation.end_index) == (0, 3)
        assert streamed == [[cited.to_dict()]]


async def test_a_change_of_the_model_in_a_clients_menu_is_a_hop_with_our_own_answers() -> None:
    """The client returns words only; Anthropic gets its signed reasoning back all the same."""
    script = [Answer(text="Four.", reasoning="2 + 2", signature="c2lnbmVk"), Answer(text="Yes."), Answer(text="Sure.")]
    async with ProviderServer(script) as provider:
        claude, gpt = (endpoint_at(provider, each) for each in (Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT))
        async with (
            front({"claude": Failover([claude]), "gpt": gpt}) as url,
            openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as sdk,
        ):
            messages: list[Any] = [{"role": "system", "content": "It is 9:00."}, {"role": "user", "content": "2 + 2?"}]
            for model, question in (("claude", "Sure?"), ("gpt", "Really?"), ("claude", "Thanks")):
                answer = await sdk.chat.completions.create(model=model, messages=messages)
                words = answer.choices[0].message.content
                messages[0] = {"role": "system", "content": f"It is {len(messages)}:00."}
                messages += [{"role": "assistant", "content": words}, {"role": "user", "content": question}]
        sent = [request.body for request in provider.requests]
    assert b"c2lnbmVk" not in sent[1]
    assert b"c2lnbmVk" in sent[2]


async def test_a_client_that_goes_away_before_the_first_word_ends_the_call() -> None:
    async with (
        ProviderServer([Fault(stall="head")]) as provider,
        front({"m": endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)}) as url,
        aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(session.post, f"{url}/chat/completions", json=body))
                while not provider.requests:
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await provider.wait_closed()
        assert provider.closed[0].by == "client"


async def test_the_twin_for_aiohttp() -> None:
    async with (
        ProviderServer([Answer(text="Hello")] * 2) as provider,
        ConversationManager(config=ONCE) as manager,
    ):
        app = web.Application()
        models = {"m": endpoint_at(provider, Dialect.GEMINI)}
        app.add_subapp("/v1", for_aiohttp.openai_routes(manager, models, owner=aiohttp_owner_of))
        async with (
            served_by_aiohttp(app) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as sdk,
        ):
            asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
            plain = await sdk.chat.completions.create(**asked)
            stream = await sdk.chat.completions.create(**asked, stream=True)
            words = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert plain.choices[0].message.content == "".join(words) == "Hello"
            assert [model.id async for model in sdk.models.list()] == ["m"]
            with pytest.raises(openai.AuthenticationError, match="no such key") as refused:
                await sdk.with_options(api_key="wrong").models.list()
            assert refused.value.response.headers["www-authenticate"] == "Bearer"


async def _restarted(first: Fault, last: Answer) -> tuple[str, list[bytes]]:
    """What a client reads of an answer that a fail-over begins again; its words, and all events."""
    async with ProviderServer([first, last]) as provider:
        plan = Failover([endpoint_at(provider, each) for each in (Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES)])
        async with (
            front({"safe": plan}) as url,
            aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session,
        ):
            body = {"model": "safe", "stream": True, "messages": [{"role": "user", "content": "Hi"}], "tools": [ADD]}
            async with session.post(f"{url}/chat/completions", json=body) as reply:
                events = [line for line in (await reply.read()).split(b"\n\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"] for event in events for choice in orjson.loads(event[6:]).get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas), events


async def test_an_answer_that_is_begun_again_starts_a_paragraph_and_never_repeats_a_call() -> None:
    words, events = await _restarted(Fault(answer=Answer(text="one two three"), cut=700), Answer(text="Whole."))
    assert words.startswith("one")
    assert words.endswith("\n\nWhole.")
    assert b"error" not in events[-1]
    _, events = await _restarted(Fault(answer=CALL, terminal="missing"), CALL)
    assert orjson.loads(events[-1][6:])["error"]["type"] == "server_error"
    assert not any(b'"finish_reason":"' in event for event in events)
