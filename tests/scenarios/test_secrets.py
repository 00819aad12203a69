"""One key, used in every kind of call that goes wrong, by hosts that repeat it wherever they can: nobody ever tells it.

Looked through: what is logged, every exception with all that caused it and its traceback, the reprs of what a caller
holds, answers, nodes, reports and tries as JSON, and what the loopback server keeps of requests.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio
import httpx
import orjson
import pytest
from pydantic import BaseModel, SecretStr

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Budget,
    ConversationManager,
    ConversionPolicy,
    Dialect,
    FetchPolicy,
    FilePart,
    HttpxTransport,
    Message,
    ResponseStream,
    RetryPolicy,
    Timeouts,
)
from dhenara_async.calls.input import CallInput
from dhenara_async.errors import DhenaraError
from dhenara_async.testing import ProviderServer, ReplayTransport, ScriptedError
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests.loopback import (
    PATIENCE,
    SPEAKERS,
    Connection,
    Play,
    chat_delta,
    endpoint_at,
    event,
    head,
    moved,
    serve,
    whole,
)

KEY = "sk-canary-0d9b7c31-nobody-may-see-this"
RETRIES = RetryPolicy(attempts=2, first_delay=0, longest_delay=0)
_QUOTE = KEY.encode()


def says(*pieces: bytes, reset: bool = False) -> Play:
    """The same answer to every request, the end of the connection after it."""

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(*pieces)
            if reset:
                connection.reset_on_close()

    return play


async def silent(connection: Connection) -> None:
    if await connection.request() is not None:
        await connection.send(head())
        await connection.until_hung_up()


def refusing(status: int, body: object = None) -> Play:
    """A refusal that has the key in its words, its code and its id."""
    quoted = {"error": {"message": f"No: {KEY}", "code": f"code-{KEY}", "type": KEY, "status": KEY}}
    return says(whole(orjson.dumps(quoted if body is None else body), status, x_request_id=f"id-{KEY}"))


_BAD_EVENT = b'data: {"oops": "' + _QUOTE + b"\n\n"
_ERRORS: Mapping[Dialect, object] = {
    Dialect.OPENAI_CHAT: {"error": {"message": KEY, "type": KEY, "code": 503}},
    Dialect.OPENAI_RESPONSES: {"type": "error", "code": KEY, "message": KEY, "sequence_number": 0},
    Dialect.ANTHROPIC_MESSAGES: {"type": "error", "error": {"type": "overloaded_error", "message": KEY}},
    Dialect.GEMINI: {"error": {"code": 503, "message": KEY, "status": KEY}},
}


def plays(dialect: Dialect) -> dict[str, Play]:
    """What a host can do, all of it with the key in its mouth where it says anything."""
    refusals = {f"refuses with {status}": refusing(status) for status in (400, 401, 402, 403, 404, 413, 429, 500, 529)}
    return {
        **refusals,
        "refuses in a page": says(whole(b"<html>" + _QUOTE, 502, "text/html", x_request_id=KEY)),
        "refuses in words": says(whole(b"authorization: Bearer " + _QUOTE, 401, "text/plain")),
        "refuses in a list": refusing(400, [{"error": {"message": KEY}}]),
        "refuses in detail": refusing(422, {"detail": [{"loc": ["header"], "msg": KEY, "input": KEY}]}),
        "breaks a refusal off": says(head(500, content_length="1000") + _QUOTE),
        "redirects": says(whole(_QUOTE, 307, location=f"http://127.0.0.1:1/?key={KEY}")),
        "answers with a page": says(whole(b"<html>" + _QUOTE, 200, "text/html")),
        "answers with words": says(whole(_QUOTE, 200, "text/plain")),
        "answers with half of an object": says(whole(b'{"a": "' + _QUOTE, 200)),
        "answers with another shape": says(whole(orjson.dumps([KEY, {"choices": KEY}]), 200)),
        "streams what is no JSON": says(head(), _BAD_EVENT),
        "streams half of an event": says(head(), b'data: {"oops": "' + _QUOTE),
        "streams what is no UTF-8": says(head(), b'data: {"oops": "\xff' + _QUOTE + b'"}\n\n'),
        "streams a list": says(head(), event([KEY, {"choices": KEY}])),
        "streams an error": says(head(), event(_ERRORS[dialect])),
        "streams nothing": says(head()),
        "names itself by the key": says(head(x_request_id=KEY), _BAD_EVENT),
        "hangs up": says(),
        "resets": says(head(), reset=True),
        "is no HTTP": says(b"SSH-2.0 " + _QUOTE + b"\r\n\r\n"),
        "has a bad header": says(b"HTTP/1.1 200 OK\r\nx: " + _QUOTE + b"\x00\r\n\r\n"),
        "has a bad length": says(b"HTTP/1.1 200 OK\r\ncontent-length: " + _QUOTE + b"\r\n\r\n"),
        "has a bad encoding": says(head(content_encoding="gzip"), _QUOTE),
        "is silent": silent,
    }


def secretive(endpoint: AIModelEndpoint) -> AIModelEndpoint:
    return endpoint.model_copy(update={"api": endpoint.api.model_copy(update={"api_key": SecretStr(KEY)})})


@dataclass(slots=True)
class Heard:
    """Everything that was told, a text for each thing that told it."""

    told: list[tuple[str, str]]

    def value(self, where: str, value: object) -> None:
        self.told.append((where, f"{value!r}\n{value}"))
        if isinstance(value, BaseModel):
            self.told.append((where, value.model_dump_json()))

    def failure(self, where: str, exc: BaseException | None) -> None:
        """An exception as it is printed, and what it and all that caused it hold."""
        if exc is None:
            return
        self.told.append((where, "".join(traceback.format_exception(exc))))
        chain: list[BaseException] = [exc]
        while chain:
            one = chain.pop()
            self.told.append((where, f"{one!r} {one}"))
            if isinstance(one, DhenaraError):
                self.told.append((where, f"{vars(one)!r} {one.args!r}"))
            chain += [each for each in (one.__cause__, one.__context__) if each is not None]

    def stream(self, where: str, stream: ResponseStream) -> None:
        partial = stream.partial
        for value in (stream, partial, partial.tries, partial.conversion, partial.warnings):
            self.value(where, value)
        self.failure(where, stream.failure)

    def found(self) -> list[tuple[str, str]]:
        """Where the key was told, or enough of it to guess the rest."""
        return [(where, text) for where, text in self.told if KEY in text or KEY[-16:] in text or KEY[:20] in text]


async def ask(heard: Heard, name: str, endpoint: AIModelEndpoint, http: httpx.AsyncClient) -> int:
    """One call by each face and transport; how many of them failed."""
    timeouts = Timeouts(first_content=0.2) if "silent" in name else Timeouts()
    failed = 0
    for streaming in (False, True):
        config = AIModelCallConfig(streaming=streaming, retries=RETRIES, timeouts=timeouts)
        for transport in (AiohttpTransport(trust_env=False), HttpxTransport(http)):
            client = AIModelClient(endpoint, config, transport=transport)
            stream = client.open(CallInput([Message.user("Hi.")], (), config, streaming))
            try:
                async with stream:
                    async for each in stream:
                        heard.value(name, type(each))
            except DhenaraError as exc:
                failed += 1
                heard.failure(name, exc)
            heard.stream(name, stream)
            heard.value(name, client)
            heard.value(name, transport)
            await transport.aclose()
    async with ConversationManager(config=AIModelCallConfig(retries=RETRIES, timeouts=timeouts)) as manager:
        conversation = await manager.create()
        turn = manager.turn(conversation, "Hi.", endpoint)
        try:
            async with turn:
                async for _ in turn:
                    pass
        except DhenaraError as exc:
            failed += 1
            heard.failure(name, exc)
        (node,) = conversation.nodes
        assert (await manager.open(conversation.id)).nodes == conversation.nodes
        for value in (manager, conversation, turn, node, node.tries, node.conversion, node.origin):
            heard.value(name, value)
    return failed


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_keys_repeated_by_a_host_stay_out_of_errors_and_logs(
    dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="dhenara_async")
    heard, failed = Heard([]), dict[str, int]()
    async with ProviderServer() as provider, httpx.AsyncClient() as http:
        endpoint = secretive(endpoint_at(provider, dialect))
        for name, play in plays(dialect).items():
            async with serve(play) as server:
                base_url = (endpoint.api.base_url or "").replace(provider.url, server.url)
                with anyio.fail_after(PATIENCE):
                    failed[name] = await ask(heard, name, moved(endpoint, base_url), http)
                if "is silent" not in name:
                    assert KEY in repr(server.requests)  # it was sent, and could be told
    assert {name: count for name, count in failed.items() if count != 5} == {}
    heard.told += [("log", f"{record.getMessage()} {vars(record)!r}") for record in caplog.records]
    assert any(where == "log" for where, _ in heard.told)
    assert heard.found() == []


def _in_a_header(endpoint: AIModelEndpoint) -> AIModelClient:
    return AIModelClient(endpoint, AIModelCallConfig(extra_headers={"x-more": f"{KEY}\r\n"}))


LOCAL: dict[str, Callable[[AIModelEndpoint], AIModelClient]] = {
    "nobody listens": lambda endpoint: AIModelClient(moved(endpoint, "http://127.0.0.1:1/v1")),
    "no such host": lambda endpoint: AIModelClient(moved(endpoint, "http://nowhere.invalid/v1")),
    "no URL": lambda endpoint: AIModelClient(moved(endpoint, "http://[/v1")),
    "a header that cannot be sent": _in_a_header,
}


@pytest.mark.parametrize("name", LOCAL)
async def test_errors_of_calls_that_send_nothing_hold_no_secret(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="dhenara_async")
    heard = Heard([])
    async with ProviderServer() as provider:
        endpoint = secretive(endpoint_at(provider, Dialect.OPENAI_CHAT))
        with pytest.raises(DhenaraError) as caught:
            await LOCAL[name](endpoint).generate("Hi.")
    heard.failure(name, caught.value)
    heard.told += [("log", repr(vars(record))) for record in caplog.records]
    assert heard.told
    assert heard.found() == []


async def test_recorded_requests_reprs_and_plans_hold_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """What the loopback server and the replaying transport keep, what is refused unsent, and what is fine."""
    caplog.set_level(logging.DEBUG, logger="dhenara_async")
    heard = Heard([])
    for dialect in SPEAKERS:
        async with ProviderServer(api_key=KEY) as server:
            endpoint = secretive(endpoint_at(server, dialect))
            for value in (endpoint, endpoint.api, endpoint.model_dump(), AIModelClient(endpoint)):
                heard.value(dialect, value)
            async with AIModelClient(endpoint).stream("Hi.") as stream:
                response = await stream.collect()
            heard.value(dialect, response)
            heard.stream(dialect, stream)
            assert all(seen.authenticated for seen in server.requests)
            for seen in server.requests:
                heard.value(dialect, seen)
            async with ConversationManager(budget=Budget(tokens=1), policy=ConversionPolicy()) as manager:
                conversation = await manager.create()
                with pytest.raises(DhenaraError) as caught:
                    await manager.ask(conversation, "Hi. " * 100, endpoint)
                heard.failure(dialect, caught.value)
                heard.value(dialect, manager.check(conversation, endpoint, query="Hi."))
        async with ProviderServer([ScriptedError(401, f"Unknown: {KEY}")]) as server:
            with pytest.raises(DhenaraError) as caught:
                await AIModelClient(secretive(endpoint_at(server, dialect))).generate("Hi.")
            heard.failure(dialect, caught.value)
        replay = ReplayTransport(chat_delta("One"))
        with pytest.raises(DhenaraError) as caught:
            await AIModelClient(endpoint, transport=replay).generate("Hi.", config=AIModelCallConfig(streaming=True))
        heard.failure(dialect, caught.value)
        heard.value(dialect, replay)
        fetch = AIModelCallConfig(fetch=FetchPolicy(allow_http=True, allow_private=True))
        async with serve(says(whole(_QUOTE, 404, "text/plain"))) as files:
            asked = Message.user("?", FilePart.from_url(f"{files.url}/a.txt"))
            with pytest.raises(DhenaraError) as caught:
                await AIModelClient(secretive(endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)), fetch).generate(asked)
            heard.failure(dialect, caught.value)
            assert KEY not in repr(files.requests)  # nor is it sent to hosts of files
    heard.told += [("log", repr(vars(record))) for record in caplog.records]
    assert heard.found() == []
