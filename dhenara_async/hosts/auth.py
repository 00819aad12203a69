"""Authentication: the last step before a request is sent.

It is a seam of its own because some hosts want a signature over the finished bytes, or a token that is fetched first.
``Host.auth`` selects it; the default is a key in a header.
"""

from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from pydantic import SecretStr

from dhenara_async.request import HttpRequest


class Auth(Protocol):
    """Authenticates the requests of one endpoint; shared by all its calls, which may run at once."""

    async def sign(self, request: HttpRequest) -> HttpRequest:
        """Return ``request`` with its credentials; URL and body are final and must not be changed.

        Called before each request, retries included, within the time limits of the call. A ``DhenaraError`` raised here
        is treated as a failure of the request; other exceptions reach the caller.
        """
        ...

    def hide(self, text: str) -> str:
        """Return an error's ``text`` with the credentials masked: some hosts quote the key that they refuse."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """The values that an ``Auth`` is built from.

    Attributes:
        base_url: The address of the endpoint, without a trailing slash, user and password.
        key: The key as the caller or the environment gave it; None = no key.
    """

    base_url: str
    key: SecretStr | None


# Shorter keys are placeholders for hosts that want none, and words of any text.
_SHORTEST_SECRET = 12


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """Puts a key into a header. Without a key it adds none; the caller's own header of that name wins.

    Attributes:
        header: The header's name, in lower case.
        key: The header's value; None = no key.
    """

    header: str
    key: SecretStr | None

    async def sign(self, request: HttpRequest) -> HttpRequest:
        """See ``Auth``."""
        if self.key is None:
            return request
        headers = {self.header: self.key.get_secret_value(), **request.headers}
        return HttpRequest(request.url, headers, request.body, request.max_header_bytes)

    def hide(self, text: str) -> str:
        """See ``Auth``."""
        return text if self.key is None else _without_key(self.key, text)


@dataclass(frozen=True, slots=True)
class GuardedAuth:
    """Masks more secrets in errors than the authentication itself knows.

    Attributes:
        auth: Signs the requests.
        secrets: Credentials in the caller's headers or base URL.
        key: The key that ``auth`` was built from; None = no key.
    """

    auth: Auth
    secrets: tuple[str, ...] = field(repr=False)
    key: SecretStr | None = None

    async def sign(self, request: HttpRequest) -> HttpRequest:
        """See ``Auth``."""
        return await self.auth.sign(request)

    def hide(self, text: str) -> str:
        """See ``Auth``."""
        for secret in self.secrets:
            text = _masked(secret, text)
        if self.key is not None:
            text = _without_key(self.key, text)
        return self.auth.hide(text)


def guarded(auth: Auth, secrets: tuple[str, ...]) -> Auth:
    """Return ``auth``, masking also ``secrets`` in errors."""
    return GuardedAuth(auth, secrets) if secrets else auth


def _without_key(key: SecretStr, text: str) -> str:
    secret = key.get_secret_value().rpartition(" ")[2]  # without "Bearer"
    return _masked(secret, text) if len(secret) >= _SHORTEST_SECRET else text


def _masked(secret: str, text: str) -> str:
    """Return ``text`` with ``secret`` masked, also in its percent-encoded form."""
    text = text.replace(secret, "***")
    escaped = quote(secret, safe="")
    return text if escaped == secret else text.replace(escaped, "***")
