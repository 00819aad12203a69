"""Whatever is sent to the OpenAI-compatible front: a status below 500, and nothing of the request in its errors."""

import asyncio
import json

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from dhenara_async import AIModelCallConfig, ConversationManager
from dhenara_async.web.chat.http import WebReply, WebRequest
from dhenara_async.web.openai.app import OpenAIApp

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

    async def read(limit: int) -> bytes:
        return body

    async with ConversationManager(config=AIModelCallConfig(test_mode=True)) as manager:
        app = OpenAIApp(manager, {"m": "openai:gpt-6.2-sol"})
        handler = next(handler for method, _, handler in app.routes if method == "POST")
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
