"""The transport around a caller's own httpx client: the same answers and the same errors."""

import httpx
import httpx2
import pytest
import respx

from dhenara_async import AIModelCallConfig, AIModelClient, Dialect, HttpxTransport, Timeouts
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    ProtocolError,
    RateLimitError,
    ReadError,
    TruncatedStreamError,
)
from dhenara_async.request import HttpRequest
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.testing.grammar import check_grammar
from tests.loopback import (
    NO_RETRIES,
    ONCE,
    PATIENCE,
    SPEAKERS,
    chat_body,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    endpoint_at,
    head,
    once,
    serve,
    stalling,
)

BASE = "http://provider.example"
URL = f"{BASE}/v1/chat/completions"
EVENTS = {"content-type": "text/event-stream"}
WORDS = ("One", " two", " three.")
TEXT = "".join(WORDS)


async def test_a_plain_response(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).respond(content=chat_body(TEXT), headers={"x-request-id": "req-1"})
    async with httpx.AsyncClient() as http:
        response = await AIModelClient(chat_endpoint(BASE), transport=HttpxTransport(http)).generate("Count.")
        assert not http.is_closed
    assert (response.text(), response.request_id) == (TEXT, "req-1")
    assert route.calls.last.request.headers["authorization"] == "Bearer loopback-key"


async def test_a_header_of_the_callers_replaces_ours(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).respond(content=chat_body(TEXT))
    config = AIModelCallConfig(extra_headers={"Accept": "text/mine", "Content-Type": "application/json; mine"})
    async with httpx.AsyncClient() as http:
        await AIModelClient(chat_endpoint(BASE), config, transport=HttpxTransport(http)).generate("Count.")
    sent = route.calls.last.request.headers
    assert (sent.get_list("accept"), sent.get_list("content-type")) == (["text/mine"], ["application/json; mine"])


async def test_a_streamed_response(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).respond(content=b"".join(chat_stream(*WORDS)), headers=EVENTS)
    async with httpx.AsyncClient() as http:
        client = AIModelClient(chat_endpoint(BASE), transport=HttpxTransport(http))
        async with client, client.stream("Count.") as stream:
            events = [event async for event in stream]
        assert not http.is_closed
    check_grammar(events)
    assert stream.response.text() == TEXT


@pytest.mark.parametrize(
    ("status", "kind", "retry_after"), [(401, AuthenticationError, None), (429, RateLimitError, 3.0)]
)
async def test_refusals(
    respx_mock: respx.MockRouter, status: int, kind: type[APIError], retry_after: float | None
) -> None:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    respx_mock.post(URL).respond(status, json={"error": {"message": "No."}}, headers=headers)
    async with httpx.AsyncClient() as http:
        with pytest.raises(kind, match=r"No\.") as caught:
            await AIModelClient(chat_endpoint(BASE), ONCE, transport=HttpxTransport(http)).generate("Hi.")
    assert (caught.value.status, caught.value.retry_after) == (status, retry_after)


async def test_a_redirect_is_refused_whatever_the_client_would_do(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).respond(307, headers={"location": "http://elsewhere.example/"})
    async with httpx.AsyncClient(follow_redirects=True) as http:
        with pytest.raises(ProtocolError, match="redirects elsewhere"):
            await AIModelClient(chat_endpoint(BASE), transport=HttpxTransport(http)).generate("Hi.")


@pytest.mark.parametrize(
    ("failure", "kind", "limit"),
    [
        (httpx.ConnectTimeout, DeadlineError, "connect"),
        (httpx.PoolTimeout, DeadlineError, "connect"),
        (httpx.ReadTimeout, DeadlineError, "between_bytes"),
        (httpx.WriteTimeout, DeadlineError, "between_bytes"),
        (httpx.ConnectError, ConnectError, None),
        (httpx.ProxyError, ConnectError, None),
        (httpx.ReadError, ReadError, None),
        (httpx.WriteError, ReadError, None),
        (httpx.RemoteProtocolError, ReadError, None),
    ],
)
async def test_failures_to_send(
    respx_mock: respx.MockRouter, failure: type[httpx.HTTPError], kind: type[DhenaraError], limit: str | None
) -> None:
    respx_mock.post(URL).mock(side_effect=failure)
    config = AIModelCallConfig(timeouts=Timeouts(connect=1.5, between_bytes=2.5), retries=NO_RETRIES)
    async with httpx.AsyncClient() as http:
        with pytest.raises(kind) as caught:
            await AIModelClient(chat_endpoint(BASE), config, transport=HttpxTransport(http)).generate("Hi.")
    assert type(caught.value) is kind
    assert caught.value.retryable
    if isinstance(caught.value, DeadlineError):
        assert (caught.value.limit, caught.value.seconds) == (limit, {"connect": 1.5}.get(limit or "", 2.5))


async def test_limits_are_passed_to_httpx(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).respond(content=chat_body(TEXT))
    config = AIModelCallConfig(timeouts=Timeouts(connect=1.5, between_bytes=2.5))
    async with httpx.AsyncClient(timeout=1000) as http:
        await AIModelClient(chat_endpoint(BASE), config, transport=HttpxTransport(http)).generate("Hi.")
    limits = route.calls.last.request.extensions["timeout"]
    assert limits == {"connect": 1.5, "read": None, "write": 2.5, "pool": 1.5}


async def test_limits_before_and_after_the_head() -> None:
    for play, limit in ((stalling(), "first_byte"), (stalling(head(), chat_delta("One")), "between_bytes")):
        async with serve(play) as server, httpx.AsyncClient() as http:
            limits = Timeouts.model_validate({"first_byte": PATIENCE, "between_bytes": PATIENCE, limit: 0.05})
            config = AIModelCallConfig(timeouts=limits, retries=NO_RETRIES)
            client = AIModelClient(chat_endpoint(server.url), config, transport=HttpxTransport(http))
            with pytest.raises(DeadlineError) as caught:
                await client.generate("Hi.")
            assert caught.value.limit == limit


@pytest.mark.parametrize("limit", ["total", "first_content", "between_content"])
async def test_limits_of_the_call(limit: str) -> None:
    async with serve(stalling(head(), b": ping\n\n")) as server, httpx.AsyncClient() as http:
        config = AIModelCallConfig.model_validate({"timeouts": {limit: 0.05}, "retries": NO_RETRIES})
        client = AIModelClient(chat_endpoint(server.url), config, transport=HttpxTransport(http))
        with pytest.raises(DeadlineError) as caught:
            await client.generate("Hi.")
        assert (caught.value.limit, caught.value.seconds) == (limit, 0.05)
        await server.wait_left()


@pytest.mark.parametrize(
    ("url", "headers"),
    [("http://[::1", {}), ("no-scheme", {}), ("http://host:port/", {}), (URL, {"x": "é"}), (URL, {"x": "\u2028"})],
)
async def test_an_unsendable_request_is_a_configuration_error(url: str, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(ConfigurationError):
            await HttpxTransport(http).send(HttpRequest(url, headers, b""), Timeouts())


@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("streaming", [False, True])
async def test_over_real_sockets(dialect: Dialect, streaming: bool) -> None:
    async with ProviderServer([Answer(text=TEXT, pieces=WORDS)]) as server, httpx.AsyncClient() as http:
        config = AIModelCallConfig(streaming=streaming)
        client = AIModelClient(endpoint_at(server, dialect), config, transport=HttpxTransport(http))
        assert (await client.generate("Count.")).text() == TEXT


async def test_broken_and_silent_streams() -> None:
    broken = once(head(transfer_encoding="chunked"), chunk(chat_delta("One")), b"99\r\ndata")
    silent = stalling(head(), chat_delta("One"))
    short = once(head(), chat_delta("One"))
    config = AIModelCallConfig(timeouts=Timeouts(between_bytes=0.05))
    for play, kind in ((broken, ReadError), (silent, DeadlineError), (short, TruncatedStreamError)):
        async with serve(play) as server, httpx.AsyncClient() as http:
            client = AIModelClient(chat_endpoint(server.url), config, transport=HttpxTransport(http))
            async with client.stream("Count.") as stream:
                with pytest.raises(kind) as caught:
                    await stream.collect()
            assert type(caught.value) is kind
            assert stream.partial.text() == "One"


async def test_leaving_early_closes_the_connection_but_not_the_client() -> None:
    async with serve(stalling(head(), chat_delta("One"))) as server, httpx.AsyncClient() as http:
        client = AIModelClient(chat_endpoint(server.url), transport=HttpxTransport(http))
        async with client.stream("Count.") as stream:
            await anext(stream)
        await server.wait_hung_up()
        assert not http.is_closed
        async with client.stream("Count.") as again:
            await anext(again)
        assert server.connections == 2


async def test_a_client_of_httpx2_answers_and_its_errors_are_translated_too() -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        async with ProviderServer([Answer(text=TEXT)]) as server:
            endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
            client = AIModelClient(endpoint, transport=HttpxTransport(http))
            assert (await client.generate("Count.")).text() == TEXT
        with pytest.raises(ConnectError, match="no connection"):
            await client.generate("Count.")
