"""Headers of a caller: what may not be sent, what nobody is told, and whose account they make a call."""

import logging
import traceback
from collections.abc import Mapping

import httpx
import orjson
import pytest
from pydantic import BaseModel, SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    AiohttpTransport,
    ConversationManager,
    HttpxTransport,
)
from dhenara_async.errors import APIError, ConfigurationError
from dhenara_async.hosts.auth import KeyHeader
from dhenara_async.hosts.registry import expected_origin, resolve
from dhenara_async.testing import ReplayTransport
from tests.loopback import chat_body, chat_endpoint, replies, serve, whole

SECRET = "vault-4711-quince"


def endpoint(
    url: str, headers: Mapping[str, str] | None = None, *, key: str | None = None, provider: str = "openai_compatible"
) -> AIModelEndpoint:
    made = AIModelAPI(provider=provider, api_key=key, base_url=url, headers=dict(headers or {}))
    return AIModelEndpoint(api=made, ai_model=AIModel(model_name="m"))


OF_THE_TRANSPORT = (
    *("Content-Length", "transfer-encoding", "Connection", "host", "TE", "trailer", "Upgrade", "Expect", "Keep-Alive"),
    *("proxy-connection", "http2-settings"),
)
NO_TOKENS = ("x:y", ":authority", "x y", " x", "x ", "", "x\t", "x\x00", "ü", "x\r\ny", 'x"', "x(y)", "x/y")
UNSENDABLE = ("a\nb", "a\r\nevil: 1", "\x00", "\x1b[31m", "a\x7f", "a\x0bb", "\ud800")


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
@pytest.mark.parametrize("place", ["config", "account"])
@pytest.mark.parametrize(
    "headers",
    [
        *({name: "5"} for name in OF_THE_TRANSPORT),
        *({name: "5"} for name in NO_TOKENS),
        *({"x-mine": value} for value in UNSENDABLE),
    ],
    ids=repr,
)
async def test_unsendable_headers_are_refused(headers: dict[str, str], place: str, transport: str) -> None:
    async with serve(replies(whole(chat_body("Hi.")))) as server, httpx.AsyncClient(trust_env=False) as http:
        over = AiohttpTransport(trust_env=False) if transport == "aiohttp" else HttpxTransport(http)
        if place == "config":
            asked = endpoint(f"{server.url}/v1")
            config = AIModelCallConfig().model_copy(update={"extra_headers": headers})  # half characters too
        else:
            asked, config = endpoint(f"{server.url}/v1"), AIModelCallConfig()
            asked = asked.model_copy(update={"api": asked.api.model_copy(update={"headers": headers})})
        with pytest.raises(ConfigurationError, match="extra header"):
            AIModelClient(asked, config, transport=over).stream("Hi.")
        await over.aclose()
    assert server.requests == []


@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_unusual_but_valid_headers_are_sent(transport: str) -> None:
    """A token may look odd, blanks around a value mean nothing, and a tab within it is one."""
    headers = {"X-Odd!#$%&'*+.^_`|~": "1", "x-blank": " \t a\tb ", "x-empty": ""}
    async with serve(replies(whole(chat_body("Hi.")))) as server, httpx.AsyncClient(trust_env=False) as http:
        over = AiohttpTransport(trust_env=False) if transport == "aiohttp" else HttpxTransport(http)
        config = AIModelCallConfig(extra_headers=headers)
        await AIModelClient(chat_endpoint(server.url), config, transport=over).generate("Hi.")
        await over.aclose()
    (seen,) = server.requests
    sent = {name: seen.header(name) for name in ("x-odd!#$%&'*+.^_`|~", "x-blank", "x-empty")}
    assert sent == {"x-odd!#$%&'*+.^_`|~": ["1"], "x-blank": ["a\tb"], "x-empty": [""]}


# ------------------------------------------------------------------------------------------------------------- accounts


def account(
    headers: Mapping[str, str] | None = None, *, key: str | None = None, url: str = "http://h.example"
) -> object:
    asked = endpoint(url, headers, key=key)
    assert resolve(asked).origin == expected_origin(asked)
    return expected_origin(asked).account


def test_keys_in_headers_are_part_of_the_account() -> None:
    assert account() is None
    accounts = [
        account({"authorization": "Bearer key-of-a"}),
        account({"authorization": "Bearer key-of-b"}),
        account({"x-api-key": "key-of-a"}),
        account({"x-api-key": "key-of-b"}),
        account({"x-api-key": "key-of-a"}, key="gateway"),
        account({"X-Portkey-Virtual-Key": "key-of-b"}, key="gateway"),
        account({"openai-organization": "org-a"}, key="gateway"),
        account(key="gateway"),
        account(url="http://me:word@h.example"),
        account(url="http://you:word@h.example"),
    ]
    assert None not in accounts
    assert len(set(accounts)) == len(accounts)


def test_other_headers_are_no_part_of_the_account() -> None:
    plain = account(key="k")
    for headers in ({"user-agent": "x"}, {"anthropic-beta": "x"}, {"idempotency-key": "x"}, {"x-trace": "1"}):
        assert account(headers, key="k") == plain


def test_a_key_is_the_same_account_however_it_is_passed() -> None:
    assert account({"Authorization": "Bearer one-key"}) == account(key="one-key")
    assert account({"Authorization": "Bearer one-key"}, key="not sent") == account(key="one-key")


async def test_credentials_in_a_calls_headers_are_its_account() -> None:
    """What one tenant was told with a key in the call's own headers is not another's: seals, limits and cooldowns."""
    asked = endpoint("http://h.example", key="gateway")
    accounts: list[object] = []
    for headers in ({}, {"authorization": "Bearer key-of-a"}, {"Authorization": "Bearer key-of-b"}, {"x-title": "t"}):
        replay = ReplayTransport(chat_body("Hi."))
        config = AIModelCallConfig(extra_headers=headers)
        async with AIModelClient(asked, config, transport=replay).stream("Hi.") as stream:
            response = await stream.collect()
        assert response.chat_response is not None
        origin = response.chat_response.choices[0].parts[0].origin
        assert origin is not None
        accounts.append(origin.account)
        sent = {name.lower(): value for name, value in headers.items()}
        assert replay.requests[0].headers["authorization"] == sent.get("authorization", "Bearer gateway")
    assert accounts[0] == accounts[3] == account(key="gateway")
    assert accounts[1] == account(key="key-of-a")
    assert accounts[2] == account(key="key-of-b")


# -------------------------------------------------------------------------------------------------------------- secrets


async def test_secrets_quoted_by_a_host_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="dhenara_async")
    refusal = {"error": {"message": f"who is {SECRET}, or {SECRET}-of-call?", "code": f"no-{SECRET}"}}
    heard: list[str] = []
    async with serve(replies(whole(orjson.dumps(refusal), 403, x_request_id=SECRET))) as server:
        url = server.url.replace("http://", f"http://me:{SECRET}@")
        for asked, config in (
            (endpoint(server.url, {"x-gateway": f"Token {SECRET}"}), AIModelCallConfig()),
            (endpoint(server.url), AIModelCallConfig(extra_headers={"cookie": f"{SECRET}"})),
            (endpoint(url), AIModelCallConfig()),
        ):
            async with ConversationManager(config=config) as manager:
                conversation = await manager.create()
                with pytest.raises(APIError) as caught:
                    await manager.ask(conversation, "Hi.", asked)
                heard += ["".join(traceback.format_exception(caught.value)), repr(vars(caught.value))]
                heard += [f"{node!r} {node.model_dump_json()}" for node in conversation.nodes]
                heard += [repr(asked), asked.model_dump_json(), config.model_dump_json(), repr(config)]
                heard += [repr(config.model_dump()), repr(asked.api.model_dump(exclude={"base_url"}))]
        assert [seen.header("authorization") for seen in server.requests][2][0].startswith("Basic ")
    heard += [repr(vars(record)) for record in caplog.records]
    assert [text for text in heard if SECRET in text] == []


async def test_harmless_values_may_be_quoted() -> None:
    refusal = whole(orjson.dumps({"error": {"message": "no beta is called fruit-basket-2026"}}), 400)
    async with serve(replies(refusal)) as server:
        asked = endpoint(server.url, {"anthropic-beta": "fruit-basket-2026"})
        with pytest.raises(APIError, match="fruit-basket-2026"):
            await AIModelClient(asked).generate("Hi.")


def test_dumps_hold_secrets_and_json_a_mask() -> None:
    made = endpoint("https://me:word-of-mine@h.example", {"x-mine": SECRET}, key="a-key-of-mine").api
    config = AIModelCallConfig(extra_headers={"x-mine": SECRET})
    for value in (made, config):
        assert SECRET not in f"{value!r} {value} {value.model_dump_json()} {value.model_dump(mode='json')}"
        assert type(value).model_validate(value.model_dump()) == value
    assert "word-of-mine" not in f"{made!r} {made.model_dump_json()}"
    assert made.headers == {"x-mine": SECRET}
    assert isinstance(made.model_dump()["headers"]["x-mine"], SecretStr)


@pytest.mark.parametrize("masked", ["key", "header"])
def test_a_mask_is_never_sent(masked: str) -> None:
    made = AIModelAPI(
        provider="groq",
        api_key=SECRET if masked == "key" else None,
        headers={"authorization": SECRET} if masked == "header" else {},
    )
    read = AIModelAPI.model_validate_json(made.model_dump_json())
    read = read if masked == "key" else read.model_copy(update={"api_key": SecretStr("k")})
    with pytest.raises(ConfigurationError, match="the mask that a dump has"):
        resolve(AIModelEndpoint(api=read, ai_model=AIModel(model_name="m")))


async def test_a_password_and_a_key_for_the_same_header_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="leave one out"):
        await AIModelClient(endpoint("http://me:word@h.example", key="k")).generate("Hi.")


def locals_of(exc: BaseException) -> list[str]:
    """What an error reporter that shows locals shows of an error and its causes."""
    shown: list[str] = []
    chain: list[BaseException] = [exc]
    while chain:
        one = chain.pop()
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if not frame.f_code.co_filename.endswith("test_headers.py"):
                shown += [f"{frame.f_code.co_qualname} {name}={value!r}" for name, value in frame.f_locals.items()]
        chain += [each for each in (one.__cause__, one.__context__) if each is not None]
    return shown


@pytest.mark.parametrize(
    "how", ["a bad key", "a bad header", "a bad header of the call", "a bad URL", "userinfo and key"]
)
def test_errors_before_sending_do_not_hold_the_key_in_a_local(how: str) -> None:
    bad = f"{SECRET}\n"
    asked, config = endpoint("http://h.example", provider="groq", key=SECRET), AIModelCallConfig()
    match how:
        case "a bad key":
            asked = endpoint("http://h.example", provider="groq", key=f"{SECRET}\nx")
        case "a bad header":
            asked = endpoint("http://h.example", {"authorization": bad}, provider="groq", key=SECRET)
        case "a bad header of the call":
            config = AIModelCallConfig(extra_headers={"authorization": bad})
        case "a bad URL":
            asked = endpoint(f"http://me:{SECRET}@h..example", provider="groq", key=SECRET)
        case _:
            asked = endpoint(f"http://me:{SECRET}@h.example", provider="groq", key=SECRET)
    with pytest.raises(ConfigurationError) as caught:
        AIModelClient(asked, config, transport=ReplayTransport(b"")).stream("Hi.")
    assert [text for text in locals_of(caught.value) if SECRET in text] == []


# ------------------------------------------------------------------------------------------------- endpoints from data


class Saved(BaseModel):
    """Somebody's own settings."""

    endpoints: list[AIModelEndpoint]


ENVIRONMENT = "env-key-of-the-server"
DATA = {"provider": "openai", "base_url": "https://collector.example/v1"}


def read(how: str, api: Mapping[str, object]) -> AIModelAPI:
    whole_ = {"api": api, "ai_model": {"model_name": "m"}}
    match how:
        case "python":
            return AIModelAPI.model_validate(api)
        case "json":
            return AIModelAPI.model_validate_json(orjson.dumps(api))
        case "nested":
            return AIModelEndpoint.model_validate(whole_).api
        case "nested in code":
            return AIModelEndpoint(api=api, ai_model=AIModel(model_name="m")).api  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        case "copied":
            return AIModelAPI.model_validate(api).model_copy(deep=True)
        case _:
            return Saved.model_validate_json(orjson.dumps({"endpoints": [whole_]})).endpoints[0].api


HOWS = ["python", "json", "nested", "nested in code", "copied", "deep"]


@pytest.mark.parametrize("how", HOWS)
def test_an_endpoint_from_data_does_not_get_the_key_of_the_environment(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    replay = ReplayTransport(chat_body("Hi."))
    api = read(how, DATA)
    assert api.from_data
    asked = AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))
    with pytest.raises(ConfigurationError, match="read from data") as caught:
        AIModelClient(asked, transport=replay).stream("Hi.")
    assert (replay.requests, [text for text in locals_of(caught.value) if ENVIRONMENT in text]) == ([], [])
    assert ENVIRONMENT not in str(caught.value)


@pytest.mark.parametrize("how", HOWS)
def test_an_endpoint_from_data_with_its_own_key_is_called(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT)
    for api, sent in (
        ({"provider": "openai"}, ENVIRONMENT),
        ({"provider": "openai", "base_url": "https://api.openai.com/v1/"}, ENVIRONMENT),
        (DATA | {"api_key": "their-own"}, "their-own"),
    ):
        made = resolve(AIModelEndpoint(api=read(how, api), ai_model=AIModel(model_name="m")))
        assert made.auth == KeyHeader("authorization", SecretStr(f"Bearer {sent}"))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    local = read(how, {"provider": "vllm", "base_url": "http://gpu:8000/v1"})
    assert resolve(AIModelEndpoint(api=local, ai_model=AIModel(model_name="m"))).auth == KeyHeader(
        "authorization", None
    )


def test_an_endpoint_from_code_gets_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT)
    api = AIModelAPI(provider="openai", base_url="https://gateway.example/v1")
    assert not api.from_data
    assert not api.model_copy(update={"dialect": None}).from_data
    assert api == AIModelAPI.model_validate(api.model_dump())
    auth = resolve(AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))).auth
    assert auth == KeyHeader("authorization", SecretStr(f"Bearer {ENVIRONMENT}"))
