"""Registers hosts and dialects, and resolves an endpoint to an address, credentials and a driver.

The library's own hosts are rows of ``hosts.table``.
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
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModelAPI, AIModelEndpoint, Dialect, fingerprint
from dhenara_async.errors import ConfigurationError
from dhenara_async.framing import Framing
from dhenara_async.frozen import Memo
from dhenara_async.hosts.addresses import ascii_host
from dhenara_async.hosts.auth import Auth, Credentials, GuardedAuth, KeyHeader, guarded
from dhenara_async.hosts.headers import credentials_of, secrets_of, sendable
from dhenara_async.hosts.hints import hints
from dhenara_async.hosts.names import REGISTERED_NAMES
from dhenara_async.hosts.table import HOSTS, Host
from dhenara_async.messages.messages import Origin

_DIALECTS = frozenset(Dialect)  # the library's own

# Hosts and dialects that the program registered. An endpoint is plain data and can only name its host, so the tables
# belong to the process. Entries are only added, each by one atomic operation: no lock is needed.
REGISTERED_HOSTS: dict[str, Host] = {}
_REGISTERED_DRIVERS: dict[str, Callable[[Host], Driver]] = {}


def register_host(name: str, host: Host) -> None:
    """Make a host known to this process as ``AIModelAPI(provider=name)``. Registering the same again changes nothing.

    Args:
        name: Stored with every answer from there, so it should never change.
        host: Its address, authentication, dialect and framing.

    Raises:
        ConfigurationError: The name is empty, or belongs to another host.
    """
    _register("host", name, host, reserved=HOSTS, table=REGISTERED_HOSTS)
    REGISTERED_NAMES.add(str(name))  # for AIModelEndpoint.of


def register_driver(dialect: str, make: Callable[[Host], Driver]) -> None:
    """Make a wire dialect known to this process as ``Host(dialect=…)`` and ``AIModelAPI(dialect=…)``.

    ``dhenara_async.drivers`` explains how a driver is written. Registering the same again changes nothing.

    Args:
        dialect: Its name; stored with every answer in it, so it should never change.
        make: Returns the driver for a host, once for each call; a driver class can be passed if its only argument is
            the host.

    Raises:
        ConfigurationError: The name is empty, or belongs to another dialect.
    """
    _register("dialect", dialect, make, reserved=_DIALECTS, table=_REGISTERED_DRIVERS)


def host_of(provider: str) -> Host:
    """Return the row of a provider, the library's own or a registered one.

    Raises:
        ConfigurationError: No host has that name.
    """
    host = HOSTS.get(provider) or REGISTERED_HOSTS.get(provider)
    if host is None:
        similar = _similar(provider, (*HOSTS, *REGISTERED_HOSTS))
        raise ConfigurationError(
            f"no host is called {str(provider)!r}{similar}; "
            "register_host(name, Host(…)) adds a host that this library does not have"
        )
    return host


@dataclass(frozen=True, slots=True)
class ResolvedHost:
    """An endpoint's address, authentication and framing: everything that is the same for all its calls.

    Attributes:
        base_url: Without a trailing slash, encoded, without a user and password.
        headers: The caller's extra headers for this host, checked, names in lower case; a user and password in the
            base URL are the ``authorization`` header.
        auth: Signs requests, and masks credentials in errors.
        framing: How a streamed body is cut into messages.
        origin: The origin that the parts of its answers carry.
        own_host: Whether this is the provider's own address rather than a gateway's.
        hints: Advice for a refusal, by its status; see ``hosts.hints``.
    """

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    auth: Auth
    framing: Framing
    origin: Origin
    own_host: bool
    hints: Mapping[int, str] = field(default_factory=dict[int, str])


def resolve(endpoint: AIModelEndpoint) -> ResolvedHost:
    """Resolve ``endpoint`` from its own fields, then the environment, then the provider's row.

    Raises:
        ConfigurationError: The key or base URL is missing or invalid, or the host or dialect is unknown.
    """
    api, host = endpoint.api, host_of(endpoint.api.provider)
    dialect = dialect_of(endpoint)  # an unknown dialect is reported before a missing key
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
                f"the base_url of {api.provider} has a user and password beside a key: both are sent in the "
                "authorization header, so leave one out"
            )
        headers["authorization"] = f"Basic {basic}"
        secrets += (basic, *filter(None, (userinfo, userinfo.partition(":")[2])))
    return ResolvedHost(
        base_url=base_url,
        headers=headers,
        auth=_auth(host, base_url, None if key is None else SecretStr(key), secrets),
        framing=host.framing,
        origin=origin_of(endpoint, given_url, key),
        own_host=base_url == host.base_url,
        hints=hints(api, host, dialect, base_url),
    )


def _auth(host: Host, base_url: str, key: SecretStr | None, secrets: tuple[str, ...]) -> Auth:
    """Build the authentication of an endpoint of ``host``; ``secrets`` are masked in errors beside the key."""
    if host.auth is not None:
        return GuardedAuth(host.auth(Credentials(base_url, key)), secrets, key)
    value = None if key is None else SecretStr(host.key_prefix + key.get_secret_value())
    return guarded(KeyHeader(host.key_header, value), secrets)


def expected_origin(endpoint: AIModelEndpoint) -> Origin:
    """Return the origin of ``endpoint``'s answers, as far as it is known without checking key and address.

    Raises:
        ConfigurationError: Its host or dialect is unknown.
    """
    api, host = endpoint.api, host_of(endpoint.api.provider)
    base_url = api.base_url or _variable(host.base_url_variables) or host.base_url or ""
    key = api.api_key.get_secret_value() if api.api_key is not None else _variable(host.key_variables)
    return origin_of(endpoint, base_url.rstrip("/"), key or None)


def origin_of(endpoint: AIModelEndpoint, base_url: str, key: str | None) -> Origin:
    """Return the origin of ``endpoint``'s answers; ``base_url`` may contain a user and password."""
    return Origin(
        provider=str(endpoint.api.provider),
        dialect=dialect_of(endpoint),
        endpoint=_host_of(base_url),
        account=_account(endpoint.api, base_url, key),
        model=endpoint.ai_model.model_name,
    )


def _account(api: AIModelAPI, base_url: str, key: str | None) -> str | None:
    """Return the fingerprint of all account credentials; None = there are none.

    The fingerprint of a lone key does not depend on how it is passed, because stored answers carry it.
    """
    if not api.headers and "@" not in base_url:
        return None if key is None else fingerprint(key)
    host, proofs = host_of(api.provider), credentials_of(api.headers)
    header_key = proofs.pop(host.key_header, None)  # sent instead of the key
    if header_key is not None:
        key = header_key.removeprefix(host.key_prefix)
    userinfo = _userinfo(base_url)
    if userinfo is not None:
        proofs["userinfo"] = userinfo
    if not proofs:
        return None if key is None else fingerprint(key)
    return fingerprint("\n".join([key or "", *(f"{name}: {value}" for name, value in sorted(proofs.items()))]))


def dialect_of(endpoint: AIModelEndpoint) -> str:
    """Return the name of the dialect of ``endpoint``.

    Raises:
        ConfigurationError: Its host or dialect is unknown.
    """
    dialect = str(endpoint.api.dialect or host_of(endpoint.api.provider).dialect)
    if dialect not in _DIALECTS and dialect not in _REGISTERED_DRIVERS:
        similar = _similar(dialect, (*_DIALECTS, *_REGISTERED_DRIVERS))
        raise ConfigurationError(
            f"no dialect is called {dialect!r}{similar}; "
            "register_driver(name, make) adds a dialect that this library does not have"
        )
    return dialect


def driver_for(endpoint: AIModelEndpoint) -> Driver:
    """Return the driver for ``endpoint``. The module of a dialect is imported at its first use.

    Raises:
        ConfigurationError: Its host or dialect is unknown.
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


def rules_of(endpoint: AIModelEndpoint) -> Rules:
    """Return the rules of the endpoint's driver, cached on the endpoint: every call needs them.

    Raises:
        ConfigurationError: Its host or dialect is unknown.
    """
    rules = endpoint._rules.of(endpoint)  # pyright: ignore[reportPrivateUsage] - kept there for this function
    if not isinstance(rules, Rules):
        rules = driver_for(endpoint).rules(endpoint)
        endpoint._rules = Memo[object](endpoint, rules)  # pyright: ignore[reportPrivateUsage]
    return rules


_Registered = TypeVar("_Registered")


def _register(
    kind: str, name: str, value: _Registered, *, reserved: Container[str], table: dict[str, _Registered]
) -> None:
    key = str(name)  # the text of an enum member
    if not key.strip():
        raise ConfigurationError(f"the name of a {kind} is empty: pass a name")
    if key in reserved:
        raise ConfigurationError(f"{key!r} is a {kind} of this library itself: choose another name")
    if table.setdefault(key, value) != value:
        raise ConfigurationError(f"another {kind} is registered as {key!r} already: choose another name")


def _similar(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, map(str, names))
    return f" (similar: {', '.join(close)})" if close else ""


_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?=/|\?|$)", re.IGNORECASE)


def leaves_its_path(path: str) -> bool:
    """Whether a path has a ``.`` or ``..`` segment, plain or encoded, which a server would resolve."""
    return _DOTS.search(path) is not None


def _base_url(api: AIModelAPI, host: Host) -> str:
    base_url = (api.base_url or _variable(host.base_url_variables) or host.base_url or "").rstrip("/")
    if not base_url:
        raise ConfigurationError(f"{api.provider} has no default address: pass AIModelAPI(base_url=…)")
    fault = _fault_of(base_url)
    if fault is not None:
        del base_url  # reporters of errors show the locals of this frame
        raise ConfigurationError(f"the base_url of {api.provider} {fault}")
    return base_url


def _fault_of(base_url: str) -> str | None:
    """Return why a text is not a base URL, to continue a sentence that begins with "the base_url"; None = it is one."""
    if not base_url.isprintable() or " " in base_url or "\\" in base_url:
        return "has spaces, backslashes or control characters in it"
    try:
        parts = urlsplit(base_url)
        hostname, _port = parts.hostname, parts.port  # reading the port validates it
    except ValueError:  # its message may quote a password
        return "is not a URL: its host or its port is malformed"
    if parts.scheme not in {"http", "https"} or not hostname:
        return "must start with https:// or http://, followed by a host"
    if "?" in base_url or "#" in base_url:
        return "must not have a ? or #: paths are appended to it"
    if leaves_its_path(parts.path):
        return "has . or .. as a segment of its path: write the resolved path"
    try:
        ascii_host(hostname)
    except ValueError as exc:
        return f"is not a URL: its host {exc}"
    return None


def _spelled(base_url: str) -> tuple[str, str | None]:
    """Split a valid base URL into its encoded form and its ``user:password``; None = it has none."""
    parts = urlsplit(base_url)
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    return f"{parts.scheme}://{_host_of(base_url)}{path}", _userinfo(base_url)


def _userinfo(base_url: str) -> str | None:
    """Return the ``user:password`` of a base URL; None = it has none."""
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
    """Return host and port without credentials; empty for an invalid URL, which a call refuses."""
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
    passed_key = api.api_key.get_secret_value() if api.api_key is not None else None
    key = (passed_key if passed_key is not None else _variable(host.key_variables) or "").strip()
    if not key:
        if not host.key_required:
            return None
        variables = f" or set {' or '.join(host.key_variables)}" if host.key_variables else ""
        raise ConfigurationError(f"no API key for {api.provider}: pass AIModelAPI(api_key=…){variables}")
    fault = _fault_of_key(key, api, host, from_environment=passed_key is None)
    if fault is not None:
        del passed_key, key  # reporters of errors show the locals of this frame
        raise ConfigurationError(fault)
    return key


def _fault_of_key(key: str, api: AIModelAPI, host: Host, *, from_environment: bool) -> str | None:
    """Return why a key may not be sent; None = it may."""
    if not (key.isascii() and key.isprintable()):
        return f"the API key of {api.provider} has characters that no header can carry"
    if not key.strip("*"):
        return f"the API key of {api.provider} is the mask that a dump has in its place: set the key itself"
    if from_environment and api.from_data and api.base_url and api.base_url.rstrip("/") != host.base_url:
        return (
            f"this endpoint of {api.provider} was read from data and has a base_url but no key: the key of the "
            "environment is not sent to such an address; pass AIModelAPI(api_key=…), or build the AIModelAPI in code"
        )
    return None


def _variable(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
