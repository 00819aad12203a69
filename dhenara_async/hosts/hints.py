"""Advice for a host that refuses every call: the place the key came from (401), the end of the base URL (404).

Hints name variables and arguments, never their values.
"""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from dhenara_async.endpoint import AIModelAPI, Dialect
from dhenara_async.hosts.table import Host

_OPENAI = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES})
_ROOTED = frozenset({Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI})  # their drivers add the version to the path


def set_variable(names: tuple[str, ...]) -> str | None:
    """Return the first of some environment variables that is set; None = none is."""
    return next((name for name in names if os.environ.get(name)), None)


def hints(api: AIModelAPI, host: Host, dialect: str, base_url: str) -> Mapping[int, str]:
    """Return the hints for an account, by the status of the refusal.

    Args:
        api: The account.
        host: Its row.
        dialect: The name of its dialect.
        base_url: Its base URL, resolved.
    """
    found: dict[int, str] = {}
    if host.auth is None:
        found[401] = _of_key(api, host)
    if base_url != host.base_url and (hint := _of_path(api, host, dialect, urlsplit(base_url).path)):
        found[404] = hint
    return found


def _of_key(api: AIModelAPI, host: Host) -> str:
    if any(name.lower() == host.key_header for name in api.headers):
        return f"the key came from the header {host.key_header} that the caller set"
    if api.api_key is not None:
        return "the key came from AIModelAPI(api_key=…)"
    variable = set_variable(host.key_variables)
    if variable is not None:
        return f"the key came from the environment variable {variable}"
    return (
        f"no key was sent; pass AIModelAPI(api_key=…){f' or set {host.key_variables[0]}' if host.key_variables else ''}"
    )


def _of_path(api: AIModelAPI, host: Host, dialect: str, path: str) -> str | None:
    where = "AIModelAPI(base_url=…)" if api.base_url else set_variable(host.base_url_variables)
    if dialect in _OPENAI and not path.strip("/"):
        return f"the base URL, from {where}, has no path; for this dialect it usually ends in /v1"
    version = path.rstrip("/").rpartition("/")[2]
    if dialect in _ROOTED and version in ("v1", "v1beta"):
        return f"the base URL, from {where}, ends in /{version}; leave that out, it is added to each request"
    return None
