"""One row a provider: where it is, how a key is shown to it, which dialect it speaks and with which quirks.

To add a compatible host, add a row. Base URLs mean what the vendor's own SDK means by them.

Sources: the vendors' SDKs and API references (read 2026-11-22)
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from dhenara_async.drivers.base import Driver
from dhenara_async.drivers.openai_chat_quirks import OPENAI, Quirks
from dhenara_async.endpoint import AIModelAPI, AIModelAPIProviderEnum, AIModelEndpoint, Dialect, fingerprint
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages import Origin


@dataclass(frozen=True, slots=True)
class Host:
    """A row.

    Attributes:
        base_url: The real host; None = the caller has to say.
        dialect: What it speaks unless told otherwise.
        key_variables: Environment variables that hold the key, the first that is set wins.
        base_url_variables: Environment variables that move the base URL, likewise.
        key_header: The header that carries the key.
        key_prefix: What stands before the key in it.
        key_required: Whether a call without a key makes no sense.
        quirks: How its Chat Completions differ.
    """

    base_url: str | None
    dialect: Dialect = Dialect.OPENAI_CHAT
    key_variables: tuple[str, ...] = ()
    base_url_variables: tuple[str, ...] = ()
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    key_required: bool = True
    quirks: Quirks = field(default_factory=Quirks)


_Provider = AIModelAPIProviderEnum
_UNLABELLED = frozenset({"metadata", "service_tier", "prompt_cache_key"})  # what only few hosts file a call under

HOSTS: Mapping[AIModelAPIProviderEnum, Host] = {
    _Provider.OPEN_AI: Host(
        "https://api.openai.com/v1",
        Dialect.OPENAI_RESPONSES,
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL",),
        quirks=OPENAI,
    ),
    _Provider.ANTHROPIC: Host(
        "https://api.anthropic.com",
        Dialect.ANTHROPIC_MESSAGES,
        ("ANTHROPIC_API_KEY",),
        ("ANTHROPIC_BASE_URL",),
        key_header="x-api-key",
        key_prefix="",
    ),
    _Provider.GOOGLE_AI: Host(
        "https://generativelanguage.googleapis.com",
        Dialect.GEMINI,
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        ("GOOGLE_GEMINI_BASE_URL",),
        key_header="x-goog-api-key",
        key_prefix="",
    ),
    _Provider.DEEPSEEK: Host(
        "https://api.deepseek.com",
        key_variables=("DEEPSEEK_API_KEY",),
        quirks=Quirks(
            lacks=_UNLABELLED | {"n", "seed", "user", "parallel_tool_calls"},
            listed_texts=False,
            thinking="effort and thinking",
            efforts=("low", "high", "max"),
            reasoning_back="reasoning_content",
            reasoning_always=True,
            strict_tools=False,
            schemas=None,
        ),
    ),
    _Provider.GROQ: Host(
        "https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            lacks={"n", "logprobs", "metadata", "prompt_cache_key"},
            system_anywhere=True,
            efforts_of=(("qwen/qwen3-", ("none",)),),
            reasoning_format=True,
            reasoning_back="reasoning",
        ),
    ),
    _Provider.MISTRAL: Host(
        "https://api.mistral.ai/v1",
        key_variables=("MISTRAL_API_KEY",),
        quirks=Quirks(
            seed_field="random_seed",
            lacks={"user"},
            top_k=True,
            stream_options=False,
            system_anywhere=True,
            prefix=True,
            bridge="OK",
            call_ids="nine",
            required_word="any",
            efforts=("none", "high"),
            reasoning_back="thinking_chunk",
            documents="document_url",
            audio="text",
        ),
    ),
    _Provider.XAI: Host(
        "https://api.x.ai/v1",
        key_variables=("XAI_API_KEY",),
        quirks=Quirks(max_tokens_field="max_completion_tokens", lacks=_UNLABELLED, reasoning_apart=True),
    ),
    _Provider.OPENROUTER: Host(
        "https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        quirks=Quirks(
            lacks={"n"},
            top_k=True,
            thinking="object",
            thinking_budget=True,
            reasoning_back="reasoning_details",
            require_parameters=True,
            documents="file or url",
            audio="object",
            web_search="plugin",
        ),
    ),
    _Provider.TOGETHER: Host(
        "https://api.together.ai/v1",
        key_variables=("TOGETHER_API_KEY",),
        quirks=Quirks(
            lacks=_UNLABELLED | {"user", "parallel_tool_calls"},
            top_k=True,
            stream_options=False,
            counted_logprobs=True,
            thinking="effort and flag",
            efforts=("low", "medium", "high"),
            schemas="host",
            video=True,
        ),
    ),
    _Provider.FIREWORKS: Host(
        "https://api.fireworks.ai/inference/v1",
        key_variables=("FIREWORKS_API_KEY",),
        quirks=Quirks(
            lacks={"metadata", "prompt_cache_key"},
            top_k=True,
            thinking="effort and thinking",
            thinking_budget=True,
            efforts=("low", "medium", "high"),
            reasoning_back="reasoning_content",
            schemas="host",
        ),
    ),
    _Provider.CEREBRAS: Host(
        "https://api.cerebras.ai/v1",
        key_variables=("CEREBRAS_API_KEY",),
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            lacks={"n", "metadata", "include_reasoning"},
            efforts=("none", "low", "medium", "high"),
            reasoning_format=True,
            reasoning_back="reasoning",
            schemas="host",
        ),
    ),
    _Provider.OLLAMA: Host(
        "http://localhost:11434/v1",
        key_variables=("OLLAMA_API_KEY",),
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED | {"n", "user", "parallel_tool_calls"},
            listed_texts=False,
            silence="",
            tool_choice=False,
            strict_tools=False,
            efforts=("none", "low", "medium", "high"),
            schemas="host",
            image_urls=False,
            ends_unsaid=True,
        ),
    ),
    _Provider.VLLM: Host(
        "http://localhost:8000/v1",
        key_variables=("VLLM_API_KEY",),
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED,
            top_k=True,
            alternates=True,
            listed_texts=False,
            silence="",
            schemas="host",
            audio="object",
        ),
    ),
    _Provider.LM_STUDIO: Host(
        "http://localhost:1234/v1",
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED | {"n", "user", "logprobs", "parallel_tool_calls"},
            top_k=True,
            alternates=True,
            listed_texts=False,
            silence="",
            schemas="host",
            image_urls=False,
            inline_thinking=True,
        ),
    ),
    _Provider.LLAMA_CPP: Host(
        "http://localhost:8080/v1",
        key_variables=("LLAMA_API_KEY",),
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED | {"user"},
            top_k=True,
            alternates=True,
            listed_texts=False,
            silence="",
            schemas="host",
            image_urls=False,
        ),
    ),
    _Provider.OPENAI_COMPATIBLE: Host(
        None, key_required=False, quirks=Quirks(top_k=True, documents="file", audio="object")
    ),
}


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint, resolved: everything of it that does not change from call to call.

    Attributes:
        base_url: Without a trailing slash.
        headers: The caller's extra headers for this host.
        key_header: The header that carries the key.
        key: Its value, prefix included; None = no key.
        origin: What the parts of answers from here are marked with.
        own_host: Whether this is the provider's real host rather than a stand-in.
    """

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    key_header: str
    key: SecretStr | None
    origin: Origin
    own_host: bool


def resolve(endpoint: AIModelEndpoint) -> Address:
    """Where ``endpoint`` is, from what it says itself, then the environment, then the provider's row.

    Raises:
        ConfigurationError: No key, no base URL, or one that cannot be used.
    """
    api, host = endpoint.api, HOSTS[endpoint.api.provider]
    base_url = _base_url(api, host)
    key = _key(api, host)
    return Address(
        base_url=base_url,
        headers=api.headers,
        key_header=host.key_header,
        key=None if key is None else SecretStr(host.key_prefix + key),
        origin=origin_of(endpoint, base_url, key),
        own_host=base_url == host.base_url,
    )


def target_of(endpoint: AIModelEndpoint) -> Origin:
    """The origin that answers of ``endpoint`` would carry, as far as it can be told without raising."""
    api, host = endpoint.api, HOSTS[endpoint.api.provider]
    base_url = api.base_url or _variable(host.base_url_variables) or host.base_url or ""
    key = api.api_key.get_secret_value() if api.api_key is not None else _variable(host.key_variables)
    return origin_of(endpoint, base_url.rstrip("/"), key or None)


def origin_of(endpoint: AIModelEndpoint, base_url: str, key: str | None) -> Origin:
    return Origin(
        provider=endpoint.api.provider.value,
        dialect=dialect_of(endpoint).value,
        endpoint=_host_of(base_url),
        account=None if key is None else fingerprint(key),
        model=endpoint.ai_model.model_name,
    )


def dialect_of(endpoint: AIModelEndpoint) -> Dialect:
    """The dialect spoken with ``endpoint``."""
    return endpoint.api.dialect or HOSTS[endpoint.api.provider].dialect


def driver_for(endpoint: AIModelEndpoint) -> Driver:
    """The codec for ``endpoint``; a dialect's module is loaded when it is first spoken."""
    match dialect_of(endpoint):
        case Dialect.OPENAI_CHAT:
            from dhenara_async.drivers.openai_chat import OpenAIChatDriver

            return OpenAIChatDriver(HOSTS[endpoint.api.provider].quirks)
        case Dialect.OPENAI_RESPONSES:
            from dhenara_async.drivers.openai_responses import OpenAIResponsesDriver

            return OpenAIResponsesDriver()
        case Dialect.ANTHROPIC_MESSAGES:
            from dhenara_async.drivers.anthropic_messages import AnthropicMessagesDriver

            return AnthropicMessagesDriver()
        case Dialect.GEMINI:
            from dhenara_async.drivers.gemini import GeminiDriver

            return GeminiDriver()


def _base_url(api: AIModelAPI, host: Host) -> str:
    base_url = (api.base_url or _variable(host.base_url_variables) or host.base_url or "").rstrip("/")
    if not base_url:
        raise ConfigurationError(f"{api.provider.value} has no host of its own: pass AIModelAPI(base_url=…)")
    try:
        parts = urlsplit(base_url)
        hostname, _port = parts.hostname, parts.port  # reading the port is what checks it
    except ValueError as exc:
        raise ConfigurationError(f"the base_url of {api.provider.value} is not a URL: {exc}") from exc
    if parts.scheme not in {"http", "https"} or not hostname:
        raise ConfigurationError(f"the base_url of {api.provider.value} must start with https:// or http://")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"the base_url of {api.provider.value} ends before any ? or #; paths are added to it")
    if not base_url.isprintable() or " " in base_url:
        raise ConfigurationError(f"the base_url of {api.provider.value} has spaces or control characters in it")
    return base_url


def _host_of(base_url: str) -> str:
    """Host and port, without credentials; empty for what is no URL, which a call refuses in words."""
    try:
        return urlsplit(base_url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _key(api: AIModelAPI, host: Host) -> str | None:
    given = api.api_key.get_secret_value() if api.api_key is not None else None
    key = (given if given is not None else _variable(host.key_variables) or "").strip()
    if not key:
        if not host.key_required:
            return None
        variables = " or ".join(host.key_variables)
        raise ConfigurationError(f"no API key for {api.provider.value}: pass AIModelAPI(api_key=…) or set {variables}")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"the API key of {api.provider.value} has characters that no header can carry")
    return key


def _variable(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
