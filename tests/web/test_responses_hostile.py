"""Whatever is sent to ``/v1/responses``: a status below 500, and nothing of the request in its errors."""

import asyncio
import json

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dhenara_async import AIModelCallConfig, ConversationManager
from dhenara_async.web.chat.http import WebReply, WebRequest
from dhenara_async.web.openai.app import OpenAIApp
from dhenara_async.web.openai.responses.ids import TurnPlace, place_of, response_id, response_of_item

_MARK = "reflected-words-of-the-request"
_UUIDS = TurnPlace(conversation="0" * 32, node="f" * 32)
_IDS = (response_id(_UUIDS), "resp_", "resp_tMi9", f"msg_{response_id(_UUIDS)[5:]}_0", "\u0661", _MARK)
_LEAVES: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from((*_IDS, "", "text", "auto", "data:image/png;base64,AAAA", "https://a/b", "gs://a/b", "{}", "\0")),
)
_TYPES: st.SearchStrategy[object] = st.sampled_from(
    (
        *("message", "function_call", "function_call_output", "reasoning", "item_reference", "web_search_call"),
        *("input_text", "output_text", "input_image", "input_file", "input_audio", "summary_text", "refusal", _MARK),
        *("function", "web_search", "mcp", "allowed_tools", "json_schema"),
    )
)
_KEYS = (
    *("role", "content", "text", "output", "name", "call_id", "arguments", "id", "image_url", "file_data", "filename"),
    *("summary", "encrypted_content", "tools", "mode", "schema", "format", "effort", _MARK),
)
_VALUES: st.SearchStrategy[object] = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)
        | st.fixed_dictionaries({"type": _TYPES}, optional=dict.fromkeys(_KEYS, inner))
    ),
    max_leaves=8,
)
_ROLES: st.SearchStrategy[object] = st.sampled_from(("user", "assistant", "system", "developer", "tool", _MARK))
_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "type": _TYPES,
    "content": st.one_of(st.text(max_size=5), _VALUES),
    **dict.fromkeys(("id", "call_id", "output", "name", "arguments", "summary", "encrypted_content"), _VALUES),
}
_ITEMS: st.SearchStrategy[object] = st.lists(st.fixed_dictionaries({"role": _ROLES}, optional=_FIELDS), max_size=3)
_OPTIONS = (
    *("stream", "store", "background", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning"),
    *("text", "max_output_tokens", "temperature", "top_p", "metadata", "previous_response_id", "conversation"),
    *("include", "truncation", "user", "prompt", _MARK),
)
_INPUTS: st.SearchStrategy[object] = st.one_of(st.text(max_size=5), _ITEMS, _VALUES)
_REQUESTS: st.SearchStrategy[object] = st.fixed_dictionaries(
    {"model": st.sampled_from(("m", "m", "m", _MARK)), "input": _INPUTS}, optional=dict.fromkeys(_OPTIONS, _VALUES)
)
_BODIES: st.SearchStrategy[object] = st.one_of(_REQUESTS, _REQUESTS, _VALUES)


async def _answer(method: str, ending: str, name: str, body: bytes, query: dict[str, str]) -> tuple[int, bytes]:
    """The status and the body of what is answered."""

    async def read(limit: int) -> bytes:
        return body

    async with ConversationManager(config=AIModelCallConfig(test_mode=True)) as manager:
        app = OpenAIApp(manager, {"m": "openai:gpt-6.2-sol"})
        handler = next(each for verb, path, each in app.routes if verb == method and path.endswith(ending))
        headers = {"content-type": "application/json", "authorization": "Bearer k"}
        request = WebRequest(method=method, headers=headers, path={"id": name}, query=query, owner="ann", read=read)
        answer = await app.handle(handler, request)
        if isinstance(answer, WebReply):
            return answer.status, answer.body
        told: list[bytes] = []
        async with answer:
            told.append(answer.begin())
            while (data := await answer.read()) is not None:
                told.append(data)
        return 200, b"".join([*told, answer.end()])


def _check(status: int, told: bytes) -> None:
    assert status < 500
    if status >= 400:
        assert set(orjson.loads(told)["error"]) == {"message", "type", "param", "code"}
        assert _MARK.encode() not in told


@settings(max_examples=50, deadline=None)
@example(body={"model": "m", "input": "Hi", "metadata": {_MARK: False}}, raw=None)
@given(body=_BODIES, raw=st.sampled_from((None, None, None, None, b"", b"[" * 3000, b"\xff", b'{"a":NaN}')))
def test_no_body_breaks_the_front(body: object, raw: bytes | None) -> None:
    _check(*asyncio.run(_answer("POST", "/responses", "", json.dumps(body).encode() if raw is None else raw, {})))


def test_a_history_of_too_many_items_is_refused() -> None:
    body = {"model": "m", "input": [{"role": "user", "content": "a"}] * 5_001}
    status, told = asyncio.run(_answer("POST", "/responses", "", json.dumps(body).encode(), {}))
    assert (status, b"more than 5000 items" in told) == (413, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": {"a" * 65: "b"}},
        {"metadata": {str(number): "b" for number in range(17)}},
        {"previous_response_id": response_id(_UUIDS), "conversation": "0"},
        {"prompt": {"id": "pmpt_1"}},
        {"background": True, "store": False},
        {"temperature": True},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ],
)
def test_what_would_change_the_question_is_refused(wrong: dict[str, object]) -> None:
    status, told = asyncio.run(
        _answer("POST", "/responses", "", json.dumps({"model": "m", "input": "a", **wrong}).encode(), {})
    )
    assert status == 400
    _check(status, told)


_PATHS = (("GET", "/responses/{id}"), ("DELETE", "/responses/{id}"), ("POST", "/cancel"), ("GET", "/input_items"))
_NAMES: st.SearchStrategy[str] = st.one_of(st.sampled_from(_IDS), st.text(max_size=70), st.text().map("resp_t".__add__))


@settings(max_examples=40, deadline=None)
@given(path=st.sampled_from(_PATHS), name=_NAMES, query=st.dictionaries(st.sampled_from(("stream", "limit")), _NAMES))
def test_no_id_breaks_the_front(path: tuple[str, str], name: str, query: dict[str, str]) -> None:
    status, told = asyncio.run(_answer(*path, name, b"", query))
    assert status == 404
    _check(status, told)


@given(conversation=st.text(min_size=1), node=st.text(min_size=1), tail=st.text())
def test_an_id_names_its_turn_and_any_text_is_read(conversation: str, node: str, tail: str) -> None:
    place = TurnPlace(conversation=conversation, node=node)
    try:
        name = response_id(place)
    except UnicodeEncodeError:  # no store keeps half of a surrogate pair
        return
    assert place_of(name) == place or len(name) > 1000
    assert response_of_item(f"msg_{name.removeprefix('resp_')}_12") == name
    assert place_of(response_id(_UUIDS)) == _UUIDS
    for text in (tail, f"resp_{tail}", f"resp_t{tail}"):
        place_of(text)
        response_of_item(text)
