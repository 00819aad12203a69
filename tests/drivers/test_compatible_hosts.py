"""Every row of ``hosts``: where a call goes, how the key is shown, and that the key is seen nowhere else."""

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Dialect,
)
from dhenara_async.errors import AuthenticationError, ConfigurationError
from dhenara_async.hosts.registry import resolve
from dhenara_async.hosts.table import HOSTS
from dhenara_async.request import HttpRequest
from dhenara_async.testing import ProviderServer, ReplayTransport

_Provider = AIModelAPIProviderEnum
_CANARY = "sk-canary-0123456789abcdef"
_BEARER = ("authorization", f"Bearer {_CANARY}")


@dataclass(frozen=True, slots=True)
class _Row:
    """What a host's own documentation says; ``cap`` is the path of the limit in the body."""

    url: str | None
    variables: tuple[str, ...]
    cap: str = "max_tokens"
    usage_on_request: bool = True
    path: str = "/chat/completions"
    header: tuple[str, str] = _BEARER
    base_url_variable: str | None = None
    key_optional: bool = False


_ROWS: Mapping[AIModelAPIProviderEnum, _Row] = {
    _Provider.OPEN_AI: _Row(
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        cap="max_output_tokens",
        usage_on_request=False,
        path="/responses",
        base_url_variable="OPENAI_BASE_URL",
    ),
    _Provider.ANTHROPIC: _Row(
        "https://api.anthropic.com",
        ("ANTHROPIC_API_KEY",),
        usage_on_request=False,
        path="/v1/messages",
        header=("x-api-key", _CANARY),
        base_url_variable="ANTHROPIC_BASE_URL",
    ),
    _Provider.GOOGLE_AI: _Row(
        "https://generativelanguage.googleapis.com",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        cap="generationConfig.maxOutputTokens",
        usage_on_request=False,
        path="/v1beta/models/some-model:streamGenerateContent?alt=sse",
        header=("x-goog-api-key", _CANARY),
        base_url_variable="GOOGLE_GEMINI_BASE_URL",
    ),
    _Provider.DEEPSEEK: _Row("https://api.deepseek.com", ("DEEPSEEK_API_KEY",)),
    _Provider.GROQ: _Row("https://api.groq.com/openai/v1", ("GROQ_API_KEY",), cap="max_completion_tokens"),
    _Provider.MISTRAL: _Row("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), usage_on_request=False),
    _Provider.XAI: _Row("https://api.x.ai/v1", ("XAI_API_KEY",), cap="max_completion_tokens"),
    _Provider.OPENROUTER: _Row("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
    _Provider.TOGETHER: _Row("https://api.together.ai/v1", ("TOGETHER_API_KEY",), usage_on_request=False),
    _Provider.FIREWORKS: _Row("https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",)),
    _Provider.CEREBRAS: _Row("https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",), cap="max_completion_tokens"),
    _Provider.OLLAMA: _Row("http://localhost:11434/v1", ("OLLAMA_API_KEY",), key_optional=True),
    _Provider.VLLM: _Row("http://localhost:8000/v1", ("VLLM_API_KEY",), key_optional=True),
    _Provider.LM_STUDIO: _Row("http://localhost:1234/v1", (), key_optional=True),
    _Provider.LLAMA_CPP: _Row("http://localhost:8080/v1", ("LLAMA_API_KEY",), key_optional=True),
    _Provider.OPENAI_COMPATIBLE: _Row(None, (), key_optional=True),
}
_ALL = pytest.mark.parametrize("provider", _ROWS, ids=[provider.value for provider in _ROWS])
_ELSEWHERE = "https://elsewhere.test/base"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    """This machine's own keys and addresses stay out."""
    for host in HOSTS.values():
        for name in (*host.key_variables, *host.base_url_variables):
            monkeypatch.delenv(name, raising=False)


def _endpoint(
    provider: AIModelAPIProviderEnum, *, key: str | None = _CANARY, base_url: str | None = None
) -> AIModelEndpoint:
    if base_url is None and _ROWS[provider].url is None:
        base_url = _ELSEWHERE
    api = AIModelAPI(provider=provider, api_key=key, base_url=base_url)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model"))


def _refusing(status: int = 401) -> ReplayTransport:
    """A host that quotes the key it refuses, as some do."""
    message = f"Incorrect API key provided: {_CANARY}."
    body = {"error": {"message": message, "type": "authentication_error", "code": "invalid_api_key", "status": _CANARY}}
    return ReplayTransport(orjson.dumps(body), status=status, headers={"content-type": "application/json"})


async def _sent(endpoint: AIModelEndpoint, config: AIModelCallConfig | None = None) -> HttpRequest:
    transport = _refusing()
    client = AIModelClient(endpoint, config, transport=transport)
    with pytest.raises(AuthenticationError):
        async with client.stream("hi") as stream:
            await stream.collect()
    (request,) = transport.requests
    return request


def test_every_row_is_here() -> None:
    assert _ROWS.keys() == HOSTS.keys() == set(AIModelAPIProviderEnum)


@_ALL
async def test_where_a_call_goes_and_how_it_is_spelled(provider: AIModelAPIProviderEnum) -> None:
    row = _ROWS[provider]
    request = await _sent(_endpoint(provider), AIModelCallConfig(max_output_tokens=77))
    assert request.url == (row.url or _ELSEWHERE) + row.path
    assert [item for item in request.headers.items() if _CANARY in item[1]] == [row.header]
    assert _CANARY.encode() not in request.body
    body = orjson.loads(request.body)
    assert [name for name, value in _leaves(body) if value == 77] == [row.cap]
    assert body.get("stream_options") == ({"include_usage": True} if row.usage_on_request else None)


def _leaves(value: object, at: str = "") -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        return [(at.removeprefix("."), value)]
    members = cast("dict[str, object]", value).items()
    return [leaf for key, item in members for leaf in _leaves(item, f"{at}.{key}")]


@_ALL
async def test_key_from_the_environment(provider: AIModelAPIProviderEnum, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in _ROWS[provider].variables:
        monkeypatch.setenv(variable, _CANARY)
        request = await _sent(_endpoint(provider, key=None))
        assert _ROWS[provider].header in request.headers.items()
        monkeypatch.delenv(variable)


@_ALL
def test_missing_key_names_the_variable(provider: AIModelAPIProviderEnum) -> None:
    row, client = _ROWS[provider], AIModelClient(_endpoint(provider, key=None), transport=_refusing())
    if row.key_optional:
        assert client.stream("hi")
        return
    with pytest.raises(ConfigurationError) as caught:
        client.stream("hi")
    assert all(variable in str(caught.value) for variable in row.variables)
    assert provider.value in str(caught.value)


@pytest.mark.parametrize("key", ["", "  ", None])
async def test_no_key_no_header(key: str | None) -> None:
    request = await _sent(_endpoint(_Provider.OLLAMA, key=key))
    assert "authorization" not in request.headers


@pytest.mark.parametrize("key", ["", " \n"])
def test_empty_key_is_no_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key is a mistake to be told of, not a reason to take another from the environment."""
    monkeypatch.setenv("GROQ_API_KEY", _CANARY)
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        AIModelClient(_endpoint(_Provider.GROQ, key=key)).stream("hi")


async def test_key_is_trimmed() -> None:
    request = await _sent(_endpoint(_Provider.GROQ, key=f" {_CANARY}\n"))
    assert request.headers["authorization"] == f"Bearer {_CANARY}"


@pytest.mark.parametrize("key", [f"{_CANARY}é", f"{_CANARY}\r\nx-evil: 1"])
def test_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AIModelClient(_endpoint(_Provider.GROQ, key=key)).stream("hi")
    assert "canary" not in str(caught.value)


@_ALL
async def test_base_url_from_the_environment(provider: AIModelAPIProviderEnum, monkeypatch: pytest.MonkeyPatch) -> None:
    row = _ROWS[provider]
    if row.base_url_variable is None:
        assert HOSTS[provider].base_url_variables == ()
        return
    monkeypatch.setenv(row.base_url_variable, _ELSEWHERE + "/")
    assert (await _sent(_endpoint(provider))).url == _ELSEWHERE + row.path
    assert (await _sent(_endpoint(provider, base_url="http://here.test"))).url == "http://here.test" + row.path


def test_compatible_host_must_be_named() -> None:
    api = AIModelAPI(provider=_Provider.OPENAI_COMPATIBLE, api_key=_CANARY)
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model"))
    with pytest.raises(ConfigurationError, match="base_url"):
        AIModelClient(endpoint).stream("hi")


@pytest.mark.parametrize(
    "base_url", ["api.test/v1", "ftp://api.test", "https://", "https://a.test/v1?x=1", "http://[::"]
)
def test_base_url_that_is_none(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url of groq"):
        AIModelClient(_endpoint(_Provider.GROQ, base_url=base_url)).stream("hi")


def test_the_makers_own_host_is_recognized() -> None:
    assert resolve(_endpoint(_Provider.GROQ)).own_host
    assert resolve(_endpoint(_Provider.GROQ, base_url="https://api.groq.com/openai/v1/")).own_host
    assert not resolve(_endpoint(_Provider.GROQ, base_url=_ELSEWHERE)).own_host


@_ALL
async def test_key_is_seen_nowhere(provider: AIModelAPIProviderEnum, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a repr, a log, an error of a host that quotes it, a stored node, or a parsed request's origin."""
    caplog.set_level(logging.DEBUG)
    endpoint, transport = _endpoint(provider), _refusing()
    client = AIModelClient(endpoint, transport=transport)
    seen = [repr(endpoint), str(endpoint), endpoint.model_dump_json(), repr(client), repr(resolve(endpoint))]
    with pytest.raises(AuthenticationError) as caught:
        await client.generate("hi")
    error = caught.value
    seen += [str(error), repr(error), error.body, str(error.code), repr(vars(error))]
    seen += traceback.format_exception(error)
    seen += [repr(transport), repr(transport.requests)]
    manager = ConversationManager(transport=transport)
    conversation = await manager.create()
    with pytest.raises(AuthenticationError):
        await manager.ask(conversation, "hi", endpoint)
    (node,) = conversation.nodes
    seen += [node.model_dump_json(), repr(node), caplog.text]
    assert node.status == "failed"
    assert not [text for text in seen if _CANARY in text]
    assert any(_CANARY in value for value in transport.requests[0].headers.values())


@_ALL
async def test_answers_over_a_socket(provider: AIModelAPIProviderEnum) -> None:
    async with ProviderServer(api_key=_CANARY) as server:
        endpoint = AIModelEndpoint(api=server.api(provider), ai_model=AIModel(model_name="some-model"))
        async with AIModelClient(endpoint) as client:
            plain = await client.generate("hi")
            streamed = await client.generate("hi", config=AIModelCallConfig(streaming=True))
    assert plain.text() == streamed.text() != ""
    assert plain.endpoint.provider == provider.value
    assert [seen.stream for seen in server.requests] == [False, True]
    row = _ROWS[provider]
    if row.usage_on_request or row.path != "/chat/completions":  # else the real host tells it unasked
        assert streamed.chat_response.usage.source == "reported"


async def test_dialect_can_be_chosen() -> None:
    """A compatible host may speak another maker's dialect at its own address, with its own kind of key."""
    api = AIModelAPI(
        provider=_Provider.DEEPSEEK, api_key=_CANARY, base_url=_ELSEWHERE, dialect=Dialect.ANTHROPIC_MESSAGES
    )
    request = await _sent(AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model")))
    assert request.url == _ELSEWHERE + "/v1/messages"
    assert request.headers["authorization"] == f"Bearer {_CANARY}"
