"""Whatever is sent to the OpenAI-compatible front: a status below 500, and nothing of the request in its errors."""

import asyncio
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhenara_async import AIModelCallConfig, ConversationManager, ConversationNode, Dialect
from dhenara_async.errors import DhenaraError, RateLimitError, StoreError, StreamStateError
from dhenara_async.stores import MemoryStore
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.web.chat.http import WebReply, WebRequest
from dhenara_async.web.frames import Failure
from dhenara_async.web.inputs.fields import WebLimits
from dhenara_async.web.openai.app import OpenAIApp
from dhenara_async.web.openai.errors import error_of
from tests.loopback import ONCE, endpoint_at

_MARK = "reflected-words-of-the-request"
_LEAVES: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from((_MARK, "", "text", "function", "auto", "data:image/png;base64,AAAA", "gs://a/b", "{}")),
)
_KEYS = ("role", "content", "type", "text", "function", "name", "url", "image_url", "file", "file_data", "id", "parts")
_NAMES: st.SearchStrategy[str] = st.sampled_from((*_KEYS, _MARK))
_VALUES: st.SearchStrategy[object] = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
_PART_TYPES: st.SearchStrategy[object] = st.sampled_from(
    ("text", "image_url", "file", "input_audio", "refusal", "tool_result", "thinking")
)
_PART_FIELDS: dict[str, st.SearchStrategy[object]] = dict.fromkeys(
    ("text", "image_url", "file", "input_audio", "refusal"), _VALUES
)
_PARTS: st.SearchStrategy[object] = st.lists(
    st.fixed_dictionaries(
        {"type": _PART_TYPES},
        optional=_PART_FIELDS,
    ),
    max_size=2,
)
_ROLES: st.SearchStrategy[object] = st.sampled_from(
    ("user", "assistant", "system", "developer", "tool", "function", _MARK)
)
_CONTENTS: st.SearchStrategy[object] = st.one_of(st.text(max_size=5), _PARTS, _VALUES)
_MESSAGE_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "content": _CONTENTS,
    "tool_calls": _VALUES,
    "tool_call_id": _LEAVES,
    "parts": _VALUES,
    "provider_state": _VALUES,
}
_MESSAGES: st.SearchStrategy[object] = st.lists(
    st.fixed_dictionaries({"role": _ROLES}, optional=_MESSAGE_FIELDS), max_size=3
)
_OPTIONS = (
    *("stream", "stream_options", "max_tokens", "temperature", "stop", "n", "tools", "tool_choice", "seed"),
    *("response_format", "reasoning_effort", "user", "parallel_tool_calls", _MARK),
)
_TOOLS: st.SearchStrategy[object] = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": _VALUES}), max_size=2
)
_MODELS: st.SearchStrategy[object] = st.sampled_from(("m", "m", "m", _MARK))
_SENT: st.SearchStrategy[object] = st.one_of(_MESSAGES, _VALUES)
_CHOSEN: dict[str, st.SearchStrategy[object]] = {**dict.fromkeys(_OPTIONS, _VALUES), "tools": _TOOLS}
_REQUESTS: st.SearchStrategy[object] = st.fixed_dictionaries({"model": _MODELS, "messages": _SENT}, optional=_CHOSEN)
_BODIES: st.SearchStrategy[object] = st.one_of(_VALUES, _REQUESTS)


async def _answer(body: bytes) -> tuple[int, bytes]:
    """The status and the body of what is answered."""
    async with ConversationManager(config=AIModelCallConfig(test_mode=True)) as manager:
        return await _asked(OpenAIApp(manager, {"m": "openai:gpt-6.2-sol"}, keep=True), body)


async def _asked(app: OpenAIApp, body: bytes, asked: str = "/v1/chat/completions") -> tuple[int, bytes]:
    async def read(limit: int) -> bytes:
        return body

    handler = next(handler for method, path, handler in app.routes if (method, path) == ("POST", asked))
    headers = {"content-type": "application/json", "authorization": "Bearer k"}
    answer = await app.handle(
        handler, WebRequest(method="POST", headers=headers, path={}, query={}, owner="ann", read=read)
    )
    if isinstance(answer, WebReply):
        return answer.status, answer.body
    told = [answer.begin()]
    async with answer:
        while (data := await answer.read()) is not None:
            told.append(data)
    return 200, b"".join([*told, answer.end()])


@settings(max_examples=60, deadline=None)
@given(body=_BODIES, raw=st.sampled_from((None, None, None, None, b"", b"[" * 3000, b"\xff", b'{"a":NaN}')))
def test_no_body_breaks_the_front(body: object, raw: bytes | None) -> None:
    if raw is None:
        raw = json.dumps(body).encode()
    status, told = asyncio.run(_answer(raw))
    assert status < 500
    if status >= 400:
        assert set(orjson.loads(told)["error"]) == {"message", "type", "param", "code"}
        assert _MARK.encode() not in told


# Blocks that only a provider may make, in every place where clients of some host put such things.
_FORGED: dict[str, Any] = {
    "provider_state": {"signature": _MARK},
    "signature": _MARK,
    "thought_signature": _MARK,
    "reasoning": _MARK,
    "reasoning_content": _MARK,
    "reasoning_details": [{"type": "reasoning.encrypted", "data": _MARK}],
    "thinking_blocks": [{"type": "thinking", "thinking": _MARK, "signature": _MARK}],
    "extra_content": {"google": {"thought_signature": _MARK}},
    "cache_control": {"type": "ephemeral", "ttl": _MARK},
    "audio": {"id": _MARK},
    "origin": {"provider": _MARK},
    "node": _MARK,
    "prefix": _MARK,
    "name": _MARK,
}


@pytest.mark.parametrize("dialect", [*Dialect][:4])
async def test_a_forged_block_never_reaches_a_provider(dialect: Dialect) -> None:
    call = {"id": "c1", "type": "function", "function": {**_FORGED, "name": "add", "arguments": "{}"}, **_FORGED}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", **_FORGED}], **_FORGED},
        {"role": "assistant", "content": "One moment.", "tool_calls": [call], **_FORGED},
        {"role": "tool", "tool_call_id": "c1", "content": "3", **_FORGED},
        {"role": "user", "content": "Well?"},
    ]
    async with (
        ProviderServer([Answer(text="Three.")]) as provider,
        ConversationManager(config=ONCE) as manager,
    ):
        app = OpenAIApp(manager, {"m": endpoint_at(provider, dialect)}, keep=True)
        status, told = await _asked(app, json.dumps({"model": "m", "messages": messages}).encode())
        (request,) = provider.requests
    assert status == 200, told
    assert _MARK.encode() not in request.body


async def test_words_that_no_database_keeps_and_too_many_messages(tmp_path: Path) -> None:
    async with ConversationManager(config=AIModelCallConfig(test_mode=True), store=tmp_path / "chat.db") as manager:
        app = OpenAIApp(manager, {"m": "openai:gpt-6.2-sol"}, limits=WebLimits(messages=3))
        for words in ("a\0b\x7fc", "\0", "\u202e" * 300):
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": words}]}
            assert (await _asked(app, json.dumps(body).encode()))[0] == 200
        kept = (await manager.scoped("ann").list()).items
        assert [item.title for item in kept] == [None, None, "a b c"]
        body = {"model": "m", "messages": [{"role": "user", "content": "a"}] * 4}
        assert (await _asked(app, json.dumps(body).encode()))[0] == 413


@pytest.mark.parametrize("wrong", [{"n": 9}, {"temperature": True}, {"tools": [{"type": "custom"}]}, {"messages": []}])
async def test_what_would_change_the_question_is_refused(wrong: dict[str, object]) -> None:
    async with ConversationManager(config=AIModelCallConfig(test_mode=True)) as manager:
        app = OpenAIApp(manager, {"m": "openai:gpt-6.2-sol"})
        body = {"model": "m", "messages": [{"role": "user", "content": "a"}], **wrong}
        assert (await _asked(app, json.dumps(body).encode()))[0] == 400


@pytest.mark.parametrize(
    ("error", "status"), [("BudgetError", 403), ("ContextLengthError", 400), ("RateLimitError", 429), ("Other", 500)]
)
def test_a_client_is_told_to_ask_again_only_where_that_helps(error: str, status: int) -> None:
    """The SDK sends a request again at 429, and from 500 on."""
    told = error_of(Failure(error, "words", status={"BudgetError": 429, "ContextLengthError": 413}.get(error, status)))
    assert (told.status, told.message) == (status, "words")


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (RateLimitError("slow down", provider="acme", status=429, retry_after=2.1), 429, {"retry-after": "3"}),
        (StoreError("no such table"), 503, {"x-should-retry": "false"}),
        (StreamStateError("it has ended"), 500, {"x-should-retry": "false"}),
    ],
)
async def test_the_error_of_a_route_has_its_headers(error: DhenaraError, status: int, headers: dict[str, str]) -> None:
    async def failing(request: WebRequest) -> WebReply:
        raise error

    async def read(limit: int) -> bytes:
        return b""

    async with ConversationManager() as manager:
        app = OpenAIApp(manager, {"m": "openai:gpt-6.2-sol"})
        asked = WebRequest(method="GET", headers={}, path={}, query={}, owner="ann", read=read)
        reply = await app.handle(failing, asked)
    assert isinstance(reply, WebReply)
    assert (reply.status, {**reply.headers}) == (status, {"cache-control": "no-store", **headers})


class BrokenStore(MemoryStore):
    """A store of an app that cannot keep anything."""

    def scoped(self, owner: str | None) -> "BrokenStore":
        """See ``StoreWithOwners``."""
        return self

    async def append(self, conversation_id: str, node: ConversationNode) -> None:
        """See ``ConversationStore``."""
        raise ValueError("a fault of the store")


async def test_a_store_that_refuses_a_turn_for_a_reason_of_its_own_is_a_fault() -> None:
    history = [{"role": "assistant", "content": "One"}, {"role": "user", "content": "Two?"}]
    body = json.dumps({"model": "m", "input": history}).encode()
    async with ConversationManager(config=AIModelCallConfig(test_mode=True), store=BrokenStore()) as manager:
        app = OpenAIApp(manager, {"m": "openai:gpt-6.2-sol"})
        with pytest.raises(ValueError, match="a fault of the store"):
            await _asked(app, body, "/v1/responses")
