"""One row a provider: where it is, how a key is shown to it, which dialect it speaks and with which quirks.

To add a compatible host, add a row; a program that uses this library registers one instead, and the driver of a
dialect likewise. Base URLs mean what the vendor's own SDK means by them.

Sources: the vendors' SDKs and API references (read 2026-11-22)
"""

import os
import re
from base64 import b64encode
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from dhenara_async.drivers.base import Driver
from dhenara_async.drivers.openai_chat.quirks import OPENAI, Quirks
from dhenara_async.endpoint import AIModelAPI, AIModelAPIProviderEnum, AIModelEndpoint, Dialect, fingerprint
from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.addresses import ascii_host
from dhenara_async.hosts.headers import credentials_of, secrets_of, sendable
from dhenara_async.messages.messages import FilePart, Origin


@dataclass(frozen=True, slots=True)
class Host:
    """A row.

    Attributes:
        base_url: The real host; None = the caller has to say.
        dialect: What it speaks unless told otherwise; a member, or the name of a registered dialect.
        key_variables: Environment variables that hold the key, the first that is set wins.
        base_url_variables: Environment variables that move the base URL, likewise.
        key_header: The header that carries the key.
        key_prefix: What stands before the key in it.
        key_required: Whether a call without a key makes no sense.
        quirks: How its Chat Completions differ.
        fetches: Whether it fetches a file's URL itself; what it does not fetch is downloaded for it. None = the usual
            rule of its dialect; a dialect from outside this library has none, so all is downloaded.
    """

    base_url: str | None
    dialect: Dialect | str = Dialect.OPENAI_CHAT
    key_variables: tuple[str, ...] = ()
    base_url_variables: tuple[str, ...] = ()
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    key_required: bool = True
    quirks: Quirks = field(default_factory=Quirks)
    fetches: Callable[[FilePart], bool] | None = None


_Provider = AIModelAPIProviderEnum
_DIALECTS = frozenset(Dialect)  # the house's own
_UNLABELLED = frozenset({"metadata", "service_tier", "prompt_cache_key"})  # what only few hosts file a call under

HOSTS: Mapping[str, Host] = {
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


# What programs have registered. An endpoint is plain data and can only name its host, so these are looked up by name,
# the same everywhere in the process. Entries are only ever added, each by one atomic step: no lock is needed.
REGISTERED_HOSTS: dict[str, Host] = {}
_REGISTERED_DRIVERS: dict[str, Callable[[Host], Driver]] = {}


def register_host(name: str, host: Host) -> None:
    """Make a host known to this process as ``AIModelAPI(provider=name)``. Registering the same again changes nothing.

    Args:
        name: Stored with every answer from there, so it should never change.
        host: Where it is, how a key is shown to it and what it speaks.

    Raises:
        ConfigurationError: The name is empty, or belongs to another host.
    """
    _register("host", name, host, taken=HOSTS, among=REGISTERED_HOSTS)


def register_driver(dialect: str, make: Callable[[Host], Driver]) -> None:
    """Make a wire dialect known to this process as ``Host(dialect=…)`` and ``AIModelAPI(dialect=…)``.

    ``dhenara_async.drivers`` tells how a driver is written. Registering the same again changes nothing.

    Args:
        dialect: Its name; stored with every answer in it, so it should never change.
        make: Gives the driver for a host, called for each call; a driver class itself will do if it takes the host.

    Raises:
        ConfigurationError: The name is empty, or belongs to another dialect.
    """
    _register("dialect", dialect, make, taken=_DIALECTS, among=_REGISTERED_DRIVERS)


def host_of(provider: str) -> Host:
    """The row of a provider, the house's own or a registered one.

    Raises:
        ConfigurationError: There is none of that name.
    """
    host = HOSTS.get(provider) or REGISTERED_HOSTS.get(provider)
    if host is None:
        similar = _similar(provider, (*HOSTS, *REGISTERED_HOSTS))
        raise ConfigurationError(
            f"no host is called {str(provider)!r}{similar}; "
            "register_host(name, Host(…)) makes a host known that this library does not know"
        )
    return host


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint, resolved: everything of it that does not change from call to call.

    Attributes:
        base_url: Without a trailing slash, encoded, without a user and password.
        headers: The caller's extra headers for this host, checked, names in lower case; also what became of a user and
            password in the base URL.
        key_header: The header that carries the key.
        key: Its value, prefix included; None = no key.
        origin: What the parts of answers from here are marked with.
        own_host: Whether this is the provider's real host rather than a stand-in.
        secrets: What no error may quote, beside the key.
    """

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    key_header: str
    key: SecretStr | None
    origin: Origin
    own_host: bool
    secrets: tuple[str, ...] = field(default=(), repr=False)


def resolve(endpoint: AIModelEndpoint) -> Address:
    """Where ``endpoint`` is, from what it says itself, then the environment, then the provider's row.

    Raises:
        ConfigurationError: No key, no base URL, or one that cannot be used; a host or dialect that nobody knows.
    """
    api, host = endpoint.api, host_of(endpoint.api.provider)
    dialect_of(endpoint)  # one that nobody knows is the first thing to be told, not a key that is missing besides
    given_url = _base_url(api, host)
    base_url, userinfo = _spelled(given_url)
    headers = _headers(api)
    key = _key(api, host)
    secrets = tuple(secrets_of(headers))
    if userinfo is not None:
        basic = b64encode(userinfo.encode()).decode()
        if "authorization" in headers or (key is not None and host.key_header == "authorization"):
            del given_url, key, headers, secrets, basic, userinfo  # reporters of errors show the locals of this frame
            raise ConfigurationError(
                f"the base_url of {api.provider} has a user and password, and there is a key besides: both go into the "
                "authorization header, so leave one out"
            )
        headers["authorization"] = f"Basic {basic}"
        secrets += (basic, *filter(None, (userinfo, userinfo.partition(":")[2])))
    return Address(
        base_url=base_url,
        headers=headers,
        key_header=host.key_header,
        key=None if key is None else SecretStr(host.key_prefix + key),
        origin=origin_of(endpoint, given_url, key),
        own_host=base_url == host.base_url,
        secrets=secrets,
    )


def expected_origin(endpoint: AIModelEndpoint) -> Origin:
    """The origin that answers of ``endpoint`` would carry, as far as it can be told without a key or an address.

    Raises:
        ConfigurationError: Its host or dialect is one that nobody knows.
    """
    api, host = endpoint.api, host_of(endpoint.api.provider)
    base_url = api.base_url or _variable(host.base_url_variables) or host.base_url or ""
    key = api.api_key.get_secret_value() if api.api_key is not None else _variable(host.key_variables)
    return origin_of(endpoint, base_url.rstrip("/"), key or None)


def origin_of(endpoint: AIModelEndpoint, base_url: str, key: str | None) -> Origin:
    """The origin that answers of ``endpoint`` carry at ``base_url``, which may hold a user and password, by ``key``."""
    return Origin(
        provider=str(endpoint.api.provider),
        dialect=dialect_of(endpoint),
        endpoint=_host_of(base_url),
        account=_account(endpoint.api, base_url, key),
        model=endpoint.ai_model.model_name,
    )


def _account(api: AIModelAPI, base_url: str, key: str | None) -> str | None:
    """The fingerprint of everything that says whose call it is; None = nothing does.

    A key by itself has the fingerprint that it always had, however it is given: stored answers are known by it.
    """
    if not api.headers and "@" not in base_url:
        return None if key is None else fingerprint(key)
    host, proofs = host_of(api.provider), credentials_of(api.headers)
    stated = proofs.pop(host.key_header, None)  # goes out instead of the key
    if stated is not None:
        key = stated.removeprefix(host.key_prefix)
    userinfo = _userinfo(base_url)
    if userinfo is not None:
        proofs["userinfo"] = userinfo
    if not proofs:
        return None if key is None else fingerprint(key)
    return fingerprint("\n".join([key or "", *(f"{name}: {value}" for name, value in sorted(proofs.items()))]))


def dialect_of(endpoint: AIModelEndpoint) -> str:
    """The dialect spoken with ``endpoint``, by its plain name.

    Raises:
        ConfigurationError: Its host or dialect is one that nobody knows.
    """
    dialect = str(endpoint.api.dialect or host_of(endpoint.api.provider).dialect)
    if dialect not in _DIALECTS and dialect not in _REGISTERED_DRIVERS:
        similar = _similar(dialect, (*_DIALECTS, *_REGISTERED_DRIVERS))
        raise ConfigurationError(
            f"no dialect is called {dialect!r}{similar}; "
            "register_driver(name, make) makes a dialect known that this library does not speak"
        )
    return dialect


def driver_for(endpoint: AIModelEndpoint) -> Driver:
    """The codec for ``endpoint``; a dialect's module is loaded when it is first spoken.

    Raises:
        ConfigurationError: Its host or dialect is one that nobody knows.
    """
    host, dialect = host_of(endpoint.api.provider), dialect_of(endpoint)
    match dialect:
        case Dialect.OPENAI_CHAT:
            from dhenara_async.drivers.openai_chat.driver import OpenAIChatDriver

            return OpenAIChatDriver(host.quirks)
        case Dialect.OPENAI_RESPONSES:
            from dhenara_async.drivers.openai_responses.driver import OpenAIResponsesDriver

            return OpenAIResponsesDriver()
        case Dialect.ANTHROPIC_MESSAGES:
            from dhenara_async.drivers.anthropic_messages.driver import AnthropicMessagesDriver

            return AnthropicMessagesDriver()
        case Dialect.GEMINI:
            from dhenara_async.drivers.gemini.driver import GeminiDriver

            return GeminiDriver()
        case _:
            return _REGISTERED_DRIVERS[dialect](host)


_Registered = TypeVar("_Registered")


def _register(
    what: str, name: str, value: _Registered, *, taken: Container[str], among: dict[str, _Registered]
) -> None:
    plain = str(name)  # a member of somebody's own enum is its text
    if not plain.strip():
        raise ConfigurationError(f"a {what} is registered under a name, and this one is empty")
    if plain in taken:
        raise ConfigurationError(f"{plain!r} is a {what} of this library itself: choose another name")
    if among.setdefault(plain, value) != value:
        raise ConfigurationError(f"another {what} is registered as {plain!r} already: choose another name")


def _similar(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, map(str, names))
    return f" (similar: {', '.join(close)})" if close else ""


_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?=/|\?|$)", re.IGNORECASE)


def leaves_its_path(path: str) -> bool:
    """Whether a path has ``.`` or ``..`` as a segment, plain or encoded, which whoever reads it would resolve."""
    return _DOTS.search(path) is not None


def _base_url(api: AIModelAPI, host: Host) -> str:
    base_url = (api.base_url or _variable(host.base_url_variables) or host.base_url or "").rstrip("/")
    if not base_url:
        raise ConfigurationError(f"{api.provider} has no host of its own: pass AIModelAPI(base_url=…)")
    wrong = _fault_of(base_url)
    if wrong is not None:
        del base_url  # reporters of errors show the locals of this frame
        raise ConfigurationError(f"the base_url of {api.provider} {wrong}")
    return base_url


def _fault_of(base_url: str) -> str | None:
    """What keeps a text from being a base URL, to be put behind "the base_url"; None = nothing."""
    if not base_url.isprintable() or " " in base_url or "\\" in base_url:
        return "has spaces, backslashes or control characters in it"
    try:
        parts = urlsplit(base_url)
        hostname, _port = parts.hostname, parts.port  # reading the port is what checks it
    except ValueError:  # whose words may quote a password
        return "is not a URL: its host or its port is malformed"
    if parts.scheme not in {"http", "https"} or not hostname:
        return "must start with https:// or http://, and a host behind that"
    if "?" in base_url or "#" in base_url:
        return "ends before any ? or #; paths are added to it"
    if leaves_its_path(parts.path):
        return "has . or .. as a segment of its path: write the path that is meant"
    try:
        ascii_host(hostname)
    except ValueError as exc:
        return f"is not a URL: its host {exc}"
    return None


def _spelled(base_url: str) -> tuple[str, str | None]:
    """A faultless base URL as it is sent, and the ``user:password`` that it holds; None where it holds none."""
    parts = urlsplit(base_url)
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    return f"{parts.scheme}://{_host_of(base_url)}{path}", _userinfo(base_url)


def _userinfo(base_url: str) -> str | None:
    """The ``user:password`` in a base URL; None where there is none."""
    try:
        userinfo, at, _ = urlsplit(base_url).netloc.rpartition("@")
    except ValueError:
        return None
    return unquote(userinfo) if at else None


def _headers(api: AIModelAPI) -> dict[str, str]:
    if any(value and not value.strip("*") for value in api.headers.values()):
        raise ConfigurationError(
            f"a header of {api.provider} is the mask that a dump has in place of a secret: set the secret itself"
        )
    return sendable(api.headers)


def _host_of(base_url: str) -> str:
    """Host and port, without credentials; empty for what is no URL, which a call refuses in words."""
    try:
        parts = urlsplit(base_url)
        netloc = parts.netloc.rpartition("@")[2]
        if netloc.isascii():
            return netloc
        port = "" if parts.port is None else f":{parts.port}"
        return f"{ascii_host(parts.hostname or '')}{port}"
    except ValueError:
        return ""


def _key(api: AIModelAPI, host: Host) -> str | None:
    given = api.api_key.get_secret_value() if api.api_key is not None else None
    key = (given if given is not None else _variable(host.key_variables) or "").strip()
    if not key:
        if not host.key_required:
            return None
        variables = f" or set {' or '.join(host.key_variables)}" if host.key_variables else ""
        raise ConfigurationError(f"no API key for {api.provider}: pass AIModelAPI(api_key=…){variables}")
    fault = _fault_of_key(key, api, host, from_environment=given is None)
    if fault is not None:
        del given, key  # reporters of errors show the locals of this frame
        raise ConfigurationError(fault)
    return key


def _fault_of_key(key: str, api: AIModelAPI, host: Host, *, from_environment: bool) -> str | None:
    """Why a key may not be sent; None = it may."""
    if not (key.isascii() and key.isprintable()):
        return f"the API key of {api.provider} has characters that no header can carry"
    if not key.strip("*"):
        return f"the API key of {api.provider} is the mask that a dump has in its place: set the key itself"
    if from_environment and api.from_data and api.base_url and api.base_url.rstrip("/") != host.base_url:
        return (
            f"this endpoint of {api.provider} was read from data and names a base_url but no key: the key of the "
            "environment is not sent where data says; pass AIModelAPI(api_key=…), or build the AIModelAPI in code"
        )
    return None


def _variable(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
