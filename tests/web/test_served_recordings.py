"""Every recorded answer as that of a provider, served in every protocol: whole, and cut in several places.

The client of a front gets the text, the calls and the tokens of a direct call, and is told of a cut in the words of its
protocol. Protocols, frameworks and cuts take turns from recording to recording; ``DHENARA_SOAK=1`` tries all of them.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, cast

import anyio
import orjson
import pytest
from aiohttp import ClientError, ClientSession, web
from pydantic import SecretStr, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelClient,
    AIModelEndpoint,
    Conversation,
    ConversationManager,
    Dialect,
)
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.config import Timeouts
from dhenara_async.errors import DhenaraError
from dhenara_async.request import HttpRequest
from dhenara_async.response import AIModelCallResponse, Choice, FinishReason, Usage
from dhenara_async.testing import ReplayTransport
from dhenara_async.testing.replay import ReplayExchange
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web import starlette as for_starlette
from tests import recordings
from tests.cases import SOAK, cases
from tests.loopback import ONCE
from tests.recordings import Recording
from tests.web.protocols import check_run, events_of, ui_message_of
from tests.web.servers import served_by_aiohttp

if not recordings.FOUND:
    pytest.skip(recordings.MISSING, allow_module_level=True)

completions = pytest.importorskip("openai.types.chat", reason="the openai SDK is not installed: pip install openai")
responses = pytest.importorskip("openai.types.responses")

_IDS = recordings.ids(framing="sse")
_QUESTION = "Go on."
_UNTYPED = b'{"type":"api"'  # a source of a web search that OpenAI sends, and its SDK has no type for
_CUTS = ("whole", "nothing", "inside the first event", "between events", "inside an event", "before the last event")


@lru_cache(maxsize=8)
def loaded(number: int) -> Recording:
    return recordings.load(_IDS[number])


def sent_by_provider(number: int, where: str) -> bytes:
    """The bytes of a recording up to a cut; nothing if it has no such place."""
    body = loaded(number).body
    blank = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    sizes = [len(event) + len(blank) for event in body.split(blank)[:-1]]
    ends = [sum(sizes[: at + 1]) for at in range(len(sizes))]
    if where == "whole":
        return body
    if len(ends) < 3:
        return b""
    middle = ends[len(ends) // 2 - 1]
    places = (0, ends[0] // 2, middle, middle + 9, ends[-2])
    return body[: places[_CUTS.index(where) - 1]]


class Provider:
    """A transport that answers by the path of the endpoint: ``/<number of the recording>/<cut>``."""

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> ReplayExchange:
        """See ``Transport``."""
        await anyio.lowlevel.checkpoint()
        number, where = request.url.split("/")[3:5]
        recording, body = loaded(int(number)), sent_by_provider(int(number), _CUTS[int(where)])
        chunks = [body[at : at + 997] for at in range(0, len(body), 997)]
        return ReplayExchange(recording.status, recording.headers, chunks)

    async def aclose(self) -> None:
        """See ``Transport``."""
        await anyio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class Told:
    """An answer as a client has it at its end; None = its protocol does not say that.

    Attributes:
        cut: Whether it is known to be cut.
        text: Its text.
        calls: The names and arguments of its whole calls.
        usage: The known counts, by the names of the AI SDK; of a cut answer nothing is compared.
    """

    cut: bool
    text: str | None = None
    calls: tuple[tuple[str, object], ...] | None = None
    usage: dict[str, int] | None = None


def counts(usage: Usage) -> dict[str, int]:
    named = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
    }
    return {name: count for name, count in named.items() if count is not None}


def arguments(text: str) -> object:
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text


def told_by(response: AIModelCallResponse, *, cut: bool) -> Told:
    first: list[Choice] = [choice for choice in response.chat_response.choices if choice.index == 0]
    return Told(
        cut,
        "".join(choice.text() for choice in first),
        tuple(
            (call.name, arguments(call.arguments))
            for choice in first
            for call in choice.tools()
            if call.status == "complete"
        ),
        counts(response.chat_response.usage),
    )


# --------------------------------------------------------------------------------------------------- protocols


@dataclass(frozen=True, slots=True)
class Sent:
    """The response of a front.

    Attributes:
        status: Its status.
        body: Its body.
        whole: Whether its body ended as HTTP has it.
    """

    status: int
    body: bytes
    whole: bool


Reader = Callable[[Sent], Awaitable[Told]]


def _no_nulls(value: object) -> None:
    """Fail at a null that is not a value of a tool or of a model."""
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            assert inner is not None, name
            if name not in {"input", "output"}:
                _no_nulls(inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            _no_nulls(inner)


def _events(events: list[dict[str, Any]]) -> Told:
    """Read our own events, without or with the error that ends them."""
    others = {event["part_id"] for event in events if event["type"] == "part_start" and event.get("choice")}
    parts = [event["part"] for event in events if event["type"] == "part_end" and event["part_id"] not in others]
    words = [event["text"] for event in events if event["type"] == "text_delta" and event["part_id"] not in others]
    usages = [event["usage"] for event in events if event["type"] == "usage_update"]
    return Told(
        not events or events[-1]["type"] != "stream_end",
        "".join(words),
        tuple((part["name"], arguments(part["arguments"])) for part in parts if part["type"] == "tool_call"),
        counts(Usage.model_validate(usages[-1])) if usages else {},
    )


async def read_sse(sent: Sent) -> Told:
    assert sent.whole
    assert sent.body.startswith(b"retry: ")
    assert b"id: end\n" in sent.body[-600:]
    return _with_error(events_of(sent.body))


async def read_json_lines(sent: Sent) -> Told:
    assert sent.whole
    return _with_error([orjson.loads(line) for line in sent.body.splitlines()])


def _with_error(events: list[dict[str, Any]]) -> Told:
    assert events[-1]["type"] in {"stream_end", "error"}
    _no_nulls({} if events[-1]["type"] == "stream_end" else events[-1])
    return _events(events)


async def read_text(sent: Sent) -> Told:
    return Told(not sent.whole, sent.body.decode())


async def read_ui(sent: Sent) -> Told:
    assert sent.whole
    for chunk in events_of(sent.body):
        _no_nulls(chunk)
    message = ui_message_of(sent.body)
    ends = [chunks[-1] for chunks in message.tools.values()]
    assert not {end["type"] for end in ends} & {"tool-input-start", "tool-input-delta"}
    calls = [chunk for chunks in message.tools.values() for chunk in chunks if not chunk.get("providerExecuted")]
    metadata: Any = (message.finish or {}).get("messageMetadata", {})
    return Told(
        message.error is not None,
        "".join(message.texts.values()),
        tuple(
            (str(chunk["toolName"]), chunk["input"])
            for chunk in calls
            if chunk["type"] == "tool-input-available" or isinstance(chunk.get("input"), str)
        ),
        metadata.get("usage", {}),
    )


async def read_agui(sent: Sent) -> Told:
    assert sent.whole
    events: list[dict[str, Any]] = events_of(sent.body)
    for event in events:
        _no_nulls(event)
    usages: list[dict[str, Any]] = events[-1].get("usage", [])
    told = {name: count for usage in usages for name, count in usage.items() if name not in {"provider", "model"}}
    return Told(events[-1]["type"] == "RUN_ERROR", check_run(sent.body), None, told)


async def read_tagged(sent: Sent) -> Told:
    assert sent.whole
    lines: list[dict[str, Any]] = events_of(sent.body)
    assert lines[-1] == {"type": "end"}
    outcomes = [line for line in lines if "outcome" in line]
    assert [line["index"] for line in sorted(outcomes, key=lambda line: line["index"])] == [0, 1]
    told = [_events([line["event"] for line in lines if line.get("index") == at and "event" in line]) for at in (0, 1)]
    assert told[0] == told[1]
    assert {line["outcome"] for line in outcomes} == {"failed" if told[0].cut else "complete"}
    _no_nulls(outcomes)
    return told[0]


def read_openai(dialect: Dialect, *, streamed: bool) -> Reader:
    """A reader that checks every object by the SDK's types, and leaves the rest to our own client."""
    path = "chat.completion" if dialect is Dialect.OPENAI_CHAT else "response"
    whole: Any = {"chat.completion": completions.ChatCompletion, "response": responses.Response}[path]
    piece: Any = {"chat.completion": completions.ChatCompletionChunk, "response": responses.ResponseStreamEvent}[path]
    api = AIModelAPI(
        provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
        api_key=SecretStr("key"),
        base_url="http://127.0.0.1",
        dialect=dialect,
    )
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))
    kind = TypeAdapter[object](piece if streamed else whole)

    async def read(sent: Sent) -> Told:
        assert sent.whole
        if sent.status != 200:
            assert orjson.loads(sent.body)["error"].keys() == {"message", "type", "param", "code"}
            return Told(cut=True)
        for told in events_of(sent.body) if streamed else [orjson.loads(sent.body)]:
            if ("error" not in told or "object" in told) and _UNTYPED not in sent.body:
                kind.validate_python(told)
        headers = {"content-type": "text/event-stream" if streamed else "application/json"}
        client = AIModelClient(endpoint, ONCE, transport=ReplayTransport(sent.body, headers=headers))
        if not streamed:
            return told_by(await client.generate(_QUESTION), cut=False)
        async with client.stream(_QUESTION) as stream:
            try:
                async for _event in stream:
                    pass
            except DhenaraError:
                return told_by(stream.partial, cut=True)
        return told_by(stream.response, cut=False)

    return read


READERS: dict[str, Reader] = {
    "sse": read_sse,
    "json_lines": read_json_lines,
    "text": read_text,
    "ui6": read_ui,
    "ui7": read_ui,
    "agui": read_agui,
    "tagged": read_tagged,
    "chat/completions": read_openai(Dialect.OPENAI_CHAT, streamed=False),
    "chat/completions streamed": read_openai(Dialect.OPENAI_CHAT, streamed=True),
    "responses": read_openai(Dialect.OPENAI_RESPONSES, streamed=False),
    "responses streamed": read_openai(Dialect.OPENAI_RESPONSES, streamed=True),
}


# --------------------------------------------------------------------------------------------------- the fronts

Ask = Callable[[str, str], Awaitable[Sent]]
"""Asks a front, by its name, for the answer of a model: ``<number of the recording>-<number of the cut>``."""


def endpoint_of(model: str) -> AIModelEndpoint:
    number, where = model.split("-")
    return loaded(int(number)).endpoint(f"http://127.0.0.1/{number}/{where}")


def _answer(front: str, model: str, request: Any, framework: Any, manager: ConversationManager) -> Any:
    """Return the response of a handler of the app."""
    endpoint, conversation = endpoint_of(model), Conversation()
    if front == "tagged":
        return framework.sse_response(manager.fan_out(conversation, _QUESTION, [endpoint] * 2), request)
    turn = manager.turn(conversation, _QUESTION, endpoint)
    if front.startswith("ui"):
        return framework.ui_message_response(turn, request, sdk=int(front[2:]))
    return getattr(framework, f"{front}_response")(turn, request)


def _asked_of(front: str, model: str) -> tuple[str, object]:
    """Return the path of a front, and the body of a request for an answer."""
    path, _, streamed = front.partition(" ")
    body: dict[str, object] = {"model": model, "stream": bool(streamed)}
    match path:
        case "responses":
            return f"/v1/{path}", {**body, "input": _QUESTION}
        case "chat/completions":
            options = {"stream_options": {"include_usage": True}} if streamed else {}
            return f"/v1/{path}", {**body, "messages": [{"role": "user", "content": _QUESTION}], **options}
        case _:
            return f"/own/{front}/{model}", {}


@asynccontextmanager
async def by_starlette(manager: ConversationManager, models: dict[str, AIModelEndpoint]) -> AsyncGenerator[Ask]:
    """Call an app of Starlette without a server."""

    async def own(request: Request) -> Response:
        path = request.path_params
        return _answer(path["front"], path["model"], request, for_starlette, manager)

    routes = [Route("/own/{front}/{model}", own, methods=["POST"])]
    routes += for_starlette.openai_routes(manager, models, owner=lambda _: "ann")
    app = Starlette(routes=routes)

    async def ask(front: str, model: str) -> Sent:
        path, body = _asked_of(front, model)
        incoming = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]
        messages: list[Any] = []

        async def receive() -> Any:
            if not incoming:
                await anyio.sleep_forever()
            return incoming.pop()

        async def send(message: Any) -> None:
            messages.append(message)

        headers = [(b"content-type", b"application/json"), (b"host", b"h")]
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path, "headers": headers}
        await app({**scope, "query_string": b"", "root_path": ""}, receive, send)
        sent = b"".join(message["body"] for message in messages[1:])
        return Sent(messages[0]["status"], sent, messages[-1].get("more_body", True) is False)

    yield ask


@asynccontextmanager
async def by_aiohttp(manager: ConversationManager, models: dict[str, AIModelEndpoint]) -> AsyncGenerator[Ask]:
    """Ask an app of aiohttp on a loopback server."""

    async def own(request: web.Request) -> web.StreamResponse:
        path = request.match_info
        return _answer(path["front"], path["model"], request, for_aiohttp, manager)

    app = web.Application()
    app.router.add_post("/own/{front}/{model}", own)
    app.add_subapp("/v1", for_aiohttp.openai_routes(manager, models, owner=lambda _: "ann"))
    async with served_by_aiohttp(app) as url, ClientSession() as session:

        async def ask(front: str, model: str) -> Sent:
            path, body = _asked_of(front, model)
            sent, whole = b"", False
            async with session.post(f"{url}{path}", json=body) as answer:
                with suppress(ClientError):
                    async for piece in answer.content.iter_any():
                        sent += piece
                    whole = True
            return Sent(answer.status, sent, whole)

        yield ask


# --------------------------------------------------------------------------------------------------- the test


def _tried() -> list[tuple[str, int, int, int]]:
    """The front, and the numbers of a framework, a recording and a cut: all, or one for every second recording."""
    fronts, numbers = list(READERS), range(len(_IDS))
    if SOAK:
        return [each for number in numbers for each in product(fronts, (0, 1), (number,), range(len(_CUTS)))]
    turns = [(number, at % len(fronts), at // len(fronts)) for at, number in enumerate(numbers[::2])]
    return [(fronts[front], turn // len(_CUTS) % 2, number, turn % len(_CUTS)) for number, front, turn in turns]


async def test_every_front_tells_of_every_answer_what_a_direct_call_tells() -> None:
    provider = Provider()
    tried = _tried()
    models = {model: endpoint_of(model) for model in {f"{number}-{cut}" for _, _, number, cut in tried}}
    async with (
        ConversationManager(transport=provider, config=ONCE) as manager,
        by_starlette(manager, models) as starlette,
        by_aiohttp(manager, models) as aiohttp,
    ):
        with cases() as case:
            for front, framework, number, cut in tried:
                model = f"{number}-{cut}"
                with case((_IDS[number], front, ("starlette", "aiohttp")[framework], _CUTS[cut])):
                    direct = await _direct(models[model], provider)
                    _compare(await READERS[front](await (starlette, aiohttp)[framework](front, model)), direct)


async def _direct(endpoint: AIModelEndpoint, provider: Provider) -> ResponseStream:
    async with AIModelClient(endpoint, ONCE, transport=provider).stream(_QUESTION) as stream:
        with suppress(DhenaraError):
            async for _event in stream:
                pass
    return stream


def _compare(told: Told, stream: ResponseStream) -> None:
    answer = stream.response if stream.complete else stream.partial
    direct, chat = told_by(answer, cut=not stream.complete), answer.chat_response
    if stream.complete and chat.finish_reason is FinishReason.ERROR:
        return  # each protocol has its own way to say so
    assert told.cut is direct.cut
    if told.text is not None and not chat.refusal():  # some protocols have a refusal as text
        assert told.text == direct.text
    if told.calls is not None and not direct.cut:
        assert told.calls == direct.calls
    known = chat.usage.input_tokens is not None and chat.usage.output_tokens is not None
    if told.usage is not None and not direct.cut and known:
        assert told.usage == direct.usage
