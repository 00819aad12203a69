"""What refusals of every dialect become, and what no error, repr or log may ever tell."""

import logging

import httpx
import orjson
import pytest
from pydantic import SecretStr, ValidationError

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Dialect,
    FilePart,
    HttpxTransport,
    Message,
)
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ContextLengthError,
    DhenaraError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ReadError,
    ServerError,
)
from dhenara_async.testing import Answer, ProviderServer, ScriptedError
from tests.loopback import (
    NO_RETRIES,
    ONCE,
    SPEAKERS,
    Connection,
    Play,
    chat_body,
    chat_delta,
    chat_endpoint,
    endpoint_at,
    event,
    head,
    moved,
    once,
    replies,
    serve,
    whole,
)

DIALECTS = list(SPEAKERS)
CANARY = "sk-canary-6f1b9a0c-do-not-tell"
PROMPT = "the prompt of a patient called Canary"

CLASSES: list[tuple[int, type[APIError], bool]] = [
    (400, InvalidRequestError, False),
    (401, AuthenticationError, False),
    (402, InvalidRequestError, False),
    (403, PermissionDeniedError, False),
    (404, NotFoundError, False),
    (408, InvalidRequestError, True),
    (409, InvalidRequestError, True),
    (422, InvalidRequestError, False),
    (429, RateLimitError, True),
    (500, ServerError, True),
    (502, ServerError, True),
    (503, OverloadedError, True),
    (504, ServerError, True),
    (529, OverloadedError, True),
]


async def refused(error: ScriptedError, dialect: Dialect = Dialect.OPENAI_CHAT, *, streaming: bool = False) -> APIError:
    """What a call raises that is answered with ``error``."""
    async with ProviderServer([error]) as server:
        client = AIModelClient(endpoint_at(server, dialect), AIModelCallConfig(streaming=streaming, retries=NO_RETRIES))
        with pytest.raises(APIError) as caught:
            await client.generate("Hi.")
    return caught.value


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("status", "kind", "retryable"), CLASSES)
async def test_statuses(dialect: Dialect, status: int, kind: type[APIError], retryable: bool) -> None:
    error = await refused(ScriptedError(status, "Not now, please."), dialect, streaming=status % 2 == 0)
    assert type(error) is kind
    assert "Not now, please." in str(error)
    assert (error.status, error.retryable, error.retry_after) == (status, retryable, None)
    assert error.provider == SPEAKERS[dialect][0].value
    assert error.provider in str(error)
    assert error.request_id == (None if dialect is Dialect.GEMINI else "req_loopback000001")
    assert "Not now, please." in error.body


@pytest.mark.parametrize("header", ["x-request-id", "apim-request-id", "mistral-correlation-id", "cf-ray"])
async def test_an_answer_and_an_error_have_the_request_id_of_the_same_header(header: str) -> None:
    answer = whole(chat_body("Hi."), 200, "application/json", **{header: "id-1"})
    refusal = whole(b"{}", 400, "application/json", **{header: "id-2"})
    async with serve(replies(answer, refusal)) as server, AIModelClient(chat_endpoint(server.url)) as client:
        assert (await client.generate("Hi.")).request_id == "id-1"
        with pytest.raises(APIError) as caught:
            await client.generate("Hi.")
    assert caught.value.request_id == "id-2"


@pytest.mark.parametrize("dialect", [dialect for dialect in DIALECTS if dialect is not Dialect.GEMINI])
async def test_codes(dialect: Dialect) -> None:
    error = await refused(ScriptedError(400, "Odd.", code="some_code", type="some_type"), dialect)
    assert error.code == "some_code"
    assert "some_code" in str(error)
    error = await refused(ScriptedError(400, "Odd.", type="some_type"), dialect)
    assert error.code == "some_type"


async def test_the_code_of_gemini_is_its_status() -> None:
    error = await refused(ScriptedError(400, "Odd.", type="FAILED_PRECONDITION"), Dialect.GEMINI)
    assert error.code == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    ("status", "code", "dialect"),
    [
        (400, "context_length_exceeded", Dialect.OPENAI_CHAT),
        (400, "context_length_exceeded", Dialect.OPENAI_RESPONSES),
        (400, "model_context_window_exceeded", Dialect.ANTHROPIC_MESSAGES),
        (413, "request_too_large", Dialect.ANTHROPIC_MESSAGES),
    ],
)
async def test_a_prompt_that_is_too_long(status: int, code: str, dialect: Dialect) -> None:
    error = await refused(ScriptedError(status, "Too long.", code=code), dialect)
    assert type(error) is ContextLengthError
    assert not error.retryable


async def test_a_body_that_is_too_large() -> None:
    assert type(await refused(ScriptedError(413, "Too large."))) is InvalidRequestError


async def test_a_missing_model_by_its_code() -> None:
    assert type(await refused(ScriptedError(400, "No such.", code="model_not_found"))) is NotFoundError


_DATE = "Sun, 22 Nov 2026 12:00:00 GMT"
_LATER = "Sun, 22 Nov 2026 12:00:42 GMT"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": _LATER, "date": _DATE}, 42.0),
        ({"retry-after": _DATE, "date": _LATER}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
async def test_retry_after(dialect: Dialect, headers: dict[str, str], seconds: float | None) -> None:
    error = await refused(ScriptedError(429, "Slow down.", headers=headers), dialect)
    assert (type(error), error.retryable, error.retry_after) == (RateLimitError, True, seconds)


@pytest.mark.parametrize("as_list", [False, True])
async def test_the_retry_delay_of_gemini(as_list: bool) -> None:
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure"},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"},
    ]
    body = {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": details}}
    error = await _raw(Dialect.GEMINI, whole(orjson.dumps([body] if as_list else body), 429))
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, error.code) == (17.5, "RESOURCE_EXHAUSTED")
    assert "Quota." in str(error)


@pytest.mark.parametrize(
    ("headers", "retryable"),
    [({"x-should-retry": "false"}, False), ({"x-should-retry": "true"}, True), ({"x-should-retry": "maybe"}, True)],
)
async def test_the_providers_own_verdict_on_retrying(headers: dict[str, str], retryable: bool) -> None:
    assert (await refused(ScriptedError(503, "No.", headers=headers))).retryable is retryable


async def test_an_empty_account_is_not_worth_retrying() -> None:
    error = await refused(ScriptedError(429, "Pay.", code="insufficient_quota"))
    assert (type(error), error.retryable) == (RateLimitError, False)


async def _raw(dialect: Dialect, answer: bytes) -> DhenaraError:
    """What a call of ``dialect`` raises that is answered with these bytes."""
    async with ProviderServer() as provider, serve(replies(answer)) as server:
        endpoint = endpoint_at(provider, dialect)
        base_url = (endpoint.api.base_url or "").replace(provider.url, server.url)
        with pytest.raises(DhenaraError) as caught:
            await AIModelClient(moved(endpoint, base_url), ONCE).generate(PROMPT)
    return caught.value


_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (_PAGE, "text/html", "502 Bad Gateway"),
        (b"upstream connect error", "text/plain", "upstream connect error"),
        (b"", "", "no message"),
        (b"\xff\xfe", "text/plain", "\ufffd"),
        (b"[]", "application/json", "[]"),
        (b'"down"', "application/json", "down"),
        (b'{"error": null}', "application/json", "error"),
    ],
)
async def test_a_proxy_answers_instead(dialect: Dialect, body: bytes, content_type: str, said: str) -> None:
    error = await _raw(dialect, whole(body, 502, content_type, x_request_id="proxy-1"))
    assert type(error) is ServerError
    assert (error.status, error.code, error.request_id, error.retryable) == (502, None, "proxy-1", True)
    assert said in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "plain words"}, "plain words"),
        ({"message": "at the top", "type": "x"}, "at the top"),
        ({"detail": "not here"}, "not here"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        ({"error": {"message": "inside", "code": 400}}, "inside"),
    ],
)
async def test_error_bodies_of_compatible_hosts(body: object, message: str) -> None:
    error = await _raw(Dialect.OPENAI_CHAT, whole(orjson.dumps(body), 400))
    assert type(error) is InvalidRequestError
    assert message in str(error)


async def test_an_endless_error_body_is_cut() -> None:
    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(head(500, "text/plain"))
            for _ in range(64):
                await connection.send(b"x" * 65536)

    async with serve(play) as server:
        with pytest.raises(ServerError) as caught:
            await AIModelClient(chat_endpoint(server.url), ONCE).generate("Hi.")
    assert len(caught.value.body) == 64 * 1024
    assert len(str(caught.value)) < 500


STREAM_ERRORS: list[tuple[Dialect, object, type[APIError], int, str]] = [
    (
        Dialect.OPENAI_CHAT,
        {"error": {"message": "Boom.", "type": "server_error", "code": 503}},
        OverloadedError,
        503,
        "server_error",
    ),
    (
        Dialect.OPENAI_RESPONSES,
        {"type": "error", "code": "rate_limit_exceeded", "message": "Boom.", "sequence_number": 0},
        RateLimitError,
        429,
        "rate_limit_exceeded",
    ),
    (
        Dialect.OPENAI_RESPONSES,
        {
            "type": "response.failed",
            "response": {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "Boom."}},
        },
        ServerError,
        500,
        "server_error",
    ),
    (
        Dialect.ANTHROPIC_MESSAGES,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Boom."}},
        OverloadedError,
        529,
        "overloaded_error",
    ),
    (
        Dialect.GEMINI,
        {"error": {"code": 503, "message": "Boom.", "status": "UNAVAILABLE"}},
        OverloadedError,
        503,
        "UNAVAILABLE",
    ),
]


@pytest.mark.parametrize(("dialect", "body", "kind", "status", "code"), STREAM_ERRORS)
@pytest.mark.parametrize("bare", [False, True])
async def test_errors_inside_a_stream(
    dialect: Dialect, body: object, kind: type[APIError], status: int, code: str, bare: bool
) -> None:
    sent = orjson.dumps(body) if bare else event(body)
    error = await _raw(dialect, whole(sent, 200, "text/event-stream"))
    assert type(error) is kind
    assert (error.status, error.code) == (status, code)
    assert "Boom." in str(error)


# -------------------------------------------------------------------------------------------------------------- secrets


def secretive(endpoint: AIModelEndpoint) -> AIModelEndpoint:
    return endpoint.model_copy(update={"api": endpoint.api.model_copy(update={"api_key": SecretStr(CANARY)})})


def told(exc: BaseException | None) -> str:
    """Everything that an exception and what caused it say of themselves."""
    if exc is None:
        return ""
    values = "\n".join(f"{name}={value!r}" for name, value in vars(exc).items())
    return f"{exc}\n{exc!r}\n{values}\n{told(exc.__cause__)}\n{told(exc.__context__)}"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_key_is_nowhere(dialect: Dialect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    script = [Answer(text="Fine."), Answer(text="Fine."), ScriptedError(401, "Unknown key.")]
    async with ProviderServer(script, api_key=CANARY) as server:
        endpoint = secretive(endpoint_at(server, dialect))
        client = AIModelClient(endpoint)
        stream = client.stream(PROMPT)
        async with stream:
            response = await stream.collect()
        async with ConversationManager() as manager:
            conversation = await manager.create()
            node = await manager.ask(conversation, PROMPT, endpoint)
            with pytest.raises(AuthenticationError) as caught:
                await manager.ask(conversation, PROMPT, endpoint)
            failed = conversation.nodes[-1]
        assert all(request.authenticated for request in server.requests)
    values = (endpoint, endpoint.api, client, stream, response, node, failed, conversation, manager)
    said = [f"{value!r}{value!s}" for value in values]
    said += [value.model_dump_json() for value in (endpoint, response, node, failed)]
    said += [told(caught.value), caplog.text, *(repr(vars(record)) for record in caplog.records)]
    assert CANARY not in "".join(said)
    assert CANARY[-8:] not in "".join(said)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("echo", ["header", "json"])
async def test_a_host_that_quotes_the_key_is_not_quoted(dialect: Dialect, echo: str) -> None:
    body = b"headers: " if echo == "header" else b'{"error": {"message": "Bad key: %s"}}' % CANARY.encode()

    async def play(connection: Connection) -> None:
        request = await connection.request()
        if request is not None:
            quoted = repr(request.headers).encode() if echo == "header" else b""
            await connection.send(whole(body + quoted, 401))

    async with ProviderServer() as provider, serve(play) as server:
        endpoint = secretive(endpoint_at(provider, dialect))
        base_url = (endpoint.api.base_url or "").replace(provider.url, server.url)
        with pytest.raises(AuthenticationError) as caught:
            await AIModelClient(moved(endpoint, base_url)).generate(PROMPT)
        assert CANARY in repr(server.requests)
    assert CANARY not in told(caught.value)
    assert "***" in caught.value.body


@pytest.mark.parametrize(
    ("play", "kind"),
    [
        (once(), ReadError),
        (once(whole(b"<html>", 200, "text/html")), ProtocolError),
        (once(whole(b"", 302, location="http://127.0.0.1:1")), ProtocolError),
        (once(head(), chat_delta("One")), ProtocolError),
        (replies(whole(b"no", 500)), ServerError),
    ],
)
async def test_failures_tell_neither_key_nor_prompt(
    play: Play, kind: type[DhenaraError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(play) as server, httpx.AsyncClient() as http:
        endpoint = secretive(chat_endpoint(server.url))
        for transport in (None, HttpxTransport(http)):
            with pytest.raises(kind) as caught:
                await AIModelClient(endpoint, ONCE, transport=transport).generate(PROMPT, instructions=[PROMPT])
            assert CANARY not in told(caught.value)
            assert PROMPT not in told(caught.value)
    assert CANARY not in caplog.text
    assert PROMPT not in caplog.text


def test_validation_errors_tell_neither_key_nor_prompt() -> None:
    model = {"model_name": "m"}
    attempts: list[tuple[type[object], dict[str, object]]] = [
        (AIModelAPI, {"api_key": CANARY}),
        (AIModelAPI, {"provider": "openai", "apikey": CANARY}),
        (AIModelAPI, {"provider": "openai", "headers": {"authorization": [CANARY]}}),
        (AIModelEndpoint, {"api": {"api_key": CANARY}, "ai_model": model}),
        (AIModelEndpoint, {"api": {"provider": "", "api_key": CANARY}, "ai_model": model}),
        (AIModelEndpoint, {"api_key": CANARY}),
        (AIModelCallConfig, {"api_key": CANARY}),
        (AIModelCallConfig, {"extra_headers": [CANARY]}),
        (Message, {"parts": PROMPT}),
        (Message, {"role": "user", "parts": PROMPT, "more": PROMPT}),
        (FilePart, {"media_type": "image/png", "data": PROMPT.encode()}),
    ]
    for kind, values in attempts:
        with pytest.raises(ConfigurationError) as caught:
            kind(**values)
        assert isinstance(caught.value.__cause__, ValidationError)
        said = f"{caught.value}{caught.value!r}{caught.value.__cause__}"
        assert CANARY not in said, values
        assert PROMPT not in said, values


async def test_prompts_and_answers_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ProviderServer([Answer(text="A private answer.")]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        async with AIModelClient(endpoint).stream(PROMPT) as stream:
            await stream.collect()
    assert PROMPT not in caplog.text
    assert "A private answer." not in caplog.text


def test_an_endpoint_prints_without_its_headers() -> None:
    api = AIModelAPI(
        provider=AIModelAPIProviderEnum.OPEN_AI, api_key=SecretStr(CANARY), headers={"authorization": CANARY}
    )
    assert CANARY not in repr(AIModelEndpoint(api=api, ai_model=AIModel(model_name="m")))
    assert CANARY not in repr(AIModelCallConfig(extra_headers={"x": CANARY}, extra_body={"y": CANARY}))
