"""Whatever is sent to the routes of a chat: a status below 500, words of ours, and nothing of another owner."""

import asyncio
import json
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from dhenara_async import AIModelCallConfig, ConversationManager
from dhenara_async.web.chat.agent_runs import AgentRuns
from dhenara_async.web.chat.app import ChatApp
from dhenara_async.web.chat.http import Handler, WebReply, WebRequest
from dhenara_async.web.chat.options import ChatOptions
from dhenara_async.web.feeds import Feed

_SECRET = "the words of another owner"
_MARK = "reflected-words-of-the-request"

_LEAVES: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from(
        (_MARK, "user", "assistant", "theirs", "secret-node", "text", "file", "data:image/png;base64,AAAA")
    ),
)
_NAMES: st.SearchStrategy[str] = st.sampled_from(
    (
        *(
            "id",
            "messages",
            "trigger",
            "messageId",
            "turnId",
            "model",
            "role",
            "parts",
            "type",
            "text",
            "url",
            "mediaType",
        ),
        *("nodeId", "title", "files", "threadId", "runId", "content", _MARK),
    )
)
_VALUES: st.SearchStrategy[object] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=6), max_leaves=20
)
_PART: st.SearchStrategy[object] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(("text", "file", "tool-x", "data-x", "reasoning")), "text": _LEAVES}
    ),
    st.fixed_dictionaries({"type": st.just("file"), "url": _LEAVES, "mediaType": _LEAVES}),
    _VALUES,
)
_MESSAGE: st.SearchStrategy[object] = st.fixed_dictionaries(
    {"id": _LEAVES, "role": st.sampled_from(("user", "assistant", "system", "tool"))},
    optional={"parts": st.lists(_PART, max_size=3) | _VALUES, "content": st.lists(_PART, max_size=3) | _VALUES},
)
_CHATS: st.SearchStrategy[object] = st.one_of(st.sampled_from(("mine", "theirs")), _LEAVES)
_TRIGGERS: st.SearchStrategy[object] = st.one_of(st.sampled_from(("submit-message", "regenerate-message")), _LEAVES)
_BODIES: st.SearchStrategy[object] = st.one_of(
    _VALUES,
    st.fixed_dictionaries(
        {"id": _CHATS, "messages": st.lists(_MESSAGE, max_size=3) | _VALUES},
        optional={
            "trigger": _TRIGGERS,
            "messageId": _LEAVES,
            "threadId": _CHATS,
            "runId": _LEAVES,
            "forwardedProps": _VALUES,
            "turnId": _LEAVES,
            "model": _LEAVES,
            "nodeId": _LEAVES,
            "text": _LEAVES,
            "title": _LEAVES,
        },
    ),
)


async def _told(feed: Feed) -> bytes:
    told = [feed.begin()]
    async with feed:
        while (data := await feed.read()) is not None:
            told.append(data)
    return b"".join(told)


async def _answers(body: bytes, path: Mapping[str, str]) -> list[tuple[Handler, WebReply | bytes]]:
    """What every route says to a body."""

    async def read(limit: int) -> bytes:
        return body

    async with ConversationManager(config=AIModelCallConfig(test_mode=True)) as manager:
        theirs = manager.scoped("bob")
        await theirs.store.create("theirs")
        await theirs.ask(await theirs.open("theirs"), _SECRET, "openai:gpt-6.2-sol")
        app = ChatApp(manager, {"gpt": "openai:gpt-6.2-sol"}, "/api", ChatOptions())
        answers: list[tuple[Handler, WebReply | bytes]] = []
        for method, _, handler in (*app.routes, *AgentRuns(app).routes):
            request = WebRequest(
                method=method,
                headers={"content-type": "application/json"},
                path=path,
                query={"limit": path["node"], "q": path["id"], "before": path["node"]},
                owner="ann",
                read=read,
            )
            answer = await app.handle(handler, request)
            answers.append((handler, answer if isinstance(answer, WebReply) else await _told(answer)))
        return answers


@settings(max_examples=30, deadline=None)
@given(
    body=_BODIES, raw=st.none() | st.binary(max_size=40), chat=st.sampled_from(("mine", "theirs", "../x", "", _MARK))
)
def test_no_body_breaks_a_route(body: object, raw: bytes | None, chat: str) -> None:
    sent = json.dumps(body).encode() if raw is None else raw
    for _, answer in asyncio.run(_answers(sent, {"id": chat, "node": chat, "file": chat})):
        if isinstance(answer, WebReply):
            assert answer.status < 500
            told = answer.body
            if answer.status >= 400:
                assert _MARK.encode() not in told
        else:
            told = answer
        assert _SECRET.encode() not in told
