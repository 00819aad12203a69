"""What is sent to the page's API by others than the page: hostile bodies, other owners, other sites, odd paths."""

import asyncio
import json
from collections.abc import Mapping

import aiohttp
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from yarl import URL

from dhenara_async import AIModelCallConfig, ConversationManager
from dhenara_async.errors import ConfigurationError
from dhenara_async.testing import Answer
from dhenara_async.web.chat.http import WebReply, WebRequest
from dhenara_async.web.feeds import Feed
from dhenara_async.web.playground.app import PlaygroundApp
from dhenara_async.web.playground.options import PlaygroundOptions
from dhenara_async.web.starlette import lifespan, playground
from tests.web.playground.visits import owner_of, visiting
from tests.web.servers import served

FRAMEWORKS = pytest.mark.parametrize("framework", ["fastapi", "aiohttp"])

Values = st.SearchStrategy[object]


def fixed(required: dict[str, Values], optional: dict[str, Values] | None = None) -> Values:
    return st.fixed_dictionaries(required, optional=optional or {})


_SECRET = "the words of another owner"
_MARK = "reflected-words-of-the-request"
_LEAVES: Values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=20),
    st.sampled_from((_MARK, "ask", "edit", "regenerate", "gpt", "theirs", "t1", "t:1", "image/png", "iVBORw0KGgo=")),
)
_NAMES: st.SearchStrategy[str] = st.sampled_from(
    ("kind", "parentId", "question", "files", "asks", "turnId", "model", "nodeId", "title", "name", "mediaType", "data")
)
_VALUES: Values = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=6), max_leaves=20
)
_MODELS: Values = st.one_of(st.just("gpt"), _LEAVES)
_TURNS: Values = st.one_of(st.sampled_from(("t1", "t2")), _LEAVES)
_KINDS: Values = st.one_of(st.sampled_from(("ask", "edit", "regenerate")), _LEAVES)
_QUESTIONS: Values = st.one_of(st.just("What?"), _LEAVES)
_ASK: Values = fixed({"turnId": _TURNS, "model": _MODELS})
_FILE: Values = fixed({"name": _LEAVES, "mediaType": _LEAVES, "data": _LEAVES})
_ASKS: Values = st.one_of(st.lists(_ASK, max_size=3), _VALUES)
_FILES: Values = st.one_of(st.lists(_FILE, max_size=2), _VALUES)
_BODIES: Values = st.one_of(
    _VALUES,
    fixed(
        {
            "kind": _KINDS,
            "question": _QUESTIONS,
            "asks": _ASKS,
        },
        optional={
            "parentId": _LEAVES,
            "nodeId": _LEAVES,
            "files": _FILES,
            "model": _MODELS,
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


async def _answers(body: bytes, path: Mapping[str, str]) -> list[WebReply | bytes]:
    """What every route says to a body."""

    async def read(limit: int) -> bytes:
        return body

    async with ConversationManager(config=AIModelCallConfig(test_mode=True)) as manager:
        theirs = manager.scoped("bob")
        await theirs.store.create("theirs")
        await theirs.ask(await theirs.open("theirs"), _SECRET, "openai:gpt-6.2-sol", turn_id="their-turn")
        app = PlaygroundApp(manager, {"gpt": "openai:gpt-6.2-sol"}, "/", PlaygroundOptions())
        answers: list[WebReply | bytes] = []
        for method, _, handler in app.routes:
            request = WebRequest(
                method=method,
                headers={"content-type": "application/json"},
                path=path,
                query={
                    "limit": path["node"],
                    "q": path["id"],
                    "node": path["node"],
                    "turns": f"their-turn,{path['id']}",
                },
                owner="ann",
                read=read,
            )
            answer = await app.handle(handler, request)
            answers.append(answer if isinstance(answer, WebReply) else await _told(answer))
        return answers


@settings(max_examples=30, deadline=None)
@given(
    body=_BODIES, raw=st.none() | st.binary(max_size=40), chat=st.sampled_from(("mine", "theirs", "../x", "", _MARK))
)
def test_no_body_breaks_a_route_or_shows_another_owners_words(body: object, raw: bytes | None, chat: str) -> None:
    sent = json.dumps(body).encode() if raw is None else raw
    path = {"id": chat, "node": chat, "file": chat, "name": "../app.py", "folder": ".."}
    for answer in asyncio.run(_answers(sent, path)):
        if isinstance(answer, WebReply):
            assert answer.status < 500
            assert answer.headers["x-content-type-options"] == "nosniff"
            if answer.status >= 400:
                assert _MARK.encode() not in answer.body
        told = answer.body if isinstance(answer, WebReply) else answer
        assert _SECRET.encode() not in told


@FRAMEWORKS
async def test_another_owners_conversation_is_not_there(framework: str) -> None:
    async with visiting([Answer(text="Secret!")], framework) as at:
        [turn] = await at.page.ask("Secret?")
        chat, node = at.page.chat, turn["id"]
        asks = [{"turnId": "mine", "model": "gpt"}]
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/path", None),
            ("GET", f"/path?node={node}", None),
            ("GET", "/export?format=markdown", None),
            ("GET", f"/nodes/{node}/request", None),
            ("GET", f"/files/{node}/{'0' * 32}", None),
            ("PATCH", "", {"title": "x"}),
            ("POST", "/checkout", {"nodeId": node}),
            ("POST", "/turns", {"kind": "regenerate", "nodeId": node, "asks": asks}),
            ("POST", "/turns", {"kind": "edit", "nodeId": node, "question": "x", "asks": asks}),
            ("POST", "/turns", {"kind": "ask", "parentId": node, "question": "x", "asks": asks}),
            ("POST", "/check", {"model": "gpt", "parentId": node, "question": "x"}),
        ):
            status, reply = await at.other.send(method, f"api/conversations/{chat}{path}", body)
            assert (status, b"ecret" in reply) == (404, False), path
        assert (await at.other.send("POST", f"api/turns/{node}/cancel", {}))[0] == 404
        assert (await at.other.in_chat("/version")) == {"version": None}
        frames = await at.other.frames(node)
        assert ["error" in frame for frame in frames] == [True, False]
        assert (await at.other.get("api/conversations"))["items"] == []
        assert (await at.other.get("api/conversations/search?q=secret"))["items"] == []
        assert (await at.other.send("DELETE", f"api/conversations/{chat}"))[0] == 204
        assert len((await at.page.in_chat())["nodes"]) == 1


@FRAMEWORKS
async def test_strangers_other_sites_and_forms_are_refused(framework: str) -> None:
    async with visiting(framework=framework) as at, aiohttp.ClientSession() as nobody:
        url = at.page.url
        for path in ("", "api/models", "assets/app.js", "api/events?turns=x"):
            async with nobody.get(f"{url}{path}") as reply:
                assert reply.status == 401, path
        if framework == "fastapi":
            async with nobody.get(url, headers={"x-user": "stranger"}) as reply:
                assert reply.status == 403
        body = {"kind": "ask", "question": "x", "asks": [{"turnId": "t", "model": "gpt"}]}
        path = f"api/conversations/{at.page.chat}/turns"
        assert (await at.page.send("POST", path, body, origin="http://evil.example"))[0] == 403
        assert (await at.page.send("POST", path, body, **{"sec-fetch-site": "cross-site", "origin": url}))[0] == 403
        async with at.page.session.post(f"{url}{path}", data=json.dumps(body)) as reply:  # as a form sends it
            assert reply.status == 415
        assert at.provider.requests == []


@FRAMEWORKS
async def test_the_page_comes_from_a_fixed_list_with_its_policy(framework: str) -> None:
    async with visiting(framework=framework) as at:
        session, url = at.page.session, at.page.url
        async with session.get(url) as reply:
            assert reply.status == 200
            assert reply.content_type == "text/html"
            policy = reply.headers["content-security-policy"]
            tag = reply.headers["etag"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
            "trusted-types dompurify"
        )
        async with session.get(url, headers={"if-none-match": f'W/"x", {tag}'}) as reply:
            assert reply.status == 304
        async with session.get(url[:-1], allow_redirects=False) as reply:
            assert (reply.status, reply.headers["location"]) == (307, "./play/")
        async with session.get(f"{url}assets/vendor/preact.mjs") as reply:
            assert (reply.status, reply.content_type) == (200, "text/javascript")
            assert reply.headers["x-content-type-options"] == "nosniff"
        for path in (
            "assets/index.html",
            "assets/../app.py",
            "assets/%2e%2e/app.py",
            "assets/..%2fapp.py",
            "assets/x.js",
        ):
            async with session.get(URL(f"{url}{path}", encoded=True)) as reply:
                assert reply.status == 404, path


async def test_it_is_mounted_below_any_path() -> None:
    models = {"gpt": "openai:gpt-6.2-sol"}
    manager = ConversationManager(config=AIModelCallConfig(test_mode=True))
    inner = Starlette(routes=playground(manager, models, owner=owner_of))
    app = FastAPI(lifespan=lifespan(manager))
    app.mount("/deep/down", inner)
    app.router.routes += [Mount("/mounted", routes=playground(manager, models, owner=owner_of))]
    app.router.routes += playground(manager, models, owner=owner_of, prefix="/plain/")
    async with served(app) as url, aiohttp.ClientSession(headers={"x-user": "ann"}) as session:
        for path in ("/deep/down", "/mounted", "/plain"):
            async with session.get(f"{url}{path}") as reply:
                assert reply.status == 200, path
                assert str(reply.url) == f"{url}{path}/"
                assert b"Playground" in await reply.read()
            async with session.get(f"{url}{path}/api/models") as reply:
                assert (await reply.json())["models"][0]["id"] == "gpt"
            async with session.get(f"{url}{path}/assets/app.js") as reply:
                assert reply.status == 200


def test_mistakes_of_an_app_are_told() -> None:
    manager = ConversationManager()
    with pytest.raises(ConfigurationError, match="endpoints is a mapping"):
        playground(manager, {}, owner=owner_of)
    with pytest.raises(ConfigurationError, match="sequences of texts"):
        playground(manager, {"gpt": "openai:gpt-6.2-sol"}, owner=owner_of, instructions="one")
