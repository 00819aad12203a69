"""Proves who we are: the last thing that happens to a request before it is sent.

A seam of its own because some hosts sign the finished bytes or want a token that must be fetched first.
"""

from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from pydantic import SecretStr

from dhenara_async.request import HttpRequest


class Auth(Protocol):
    """Signs requests; may await."""

    async def sign(self, request: HttpRequest) -> HttpRequest:
        """``request`` with the proof in it."""
        ...

    def hide(self, text: str) -> str:
        """An error's ``text`` without the proof: some hosts quote the key that they refuse."""
        ...


# Shorter keys are placeholders for hosts that want none, and words of any text.
_SHORTEST_SECRET = 12


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """A key in a header; no key, no header. A header of the caller's own by that name stays.

    Attributes:
        header: Its name, in lower case.
        key: Its value; None = no key.
        secrets: What no error may quote besides.
    """

    header: str
    key: SecretStr | None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    async def sign(self, request: HttpRequest) -> HttpRequest:
        if self.key is None:
            return request
        headers = {self.header: self.key.get_secret_value(), **request.headers}
        return HttpRequest(request.url, headers, request.body, request.max_header_bytes)

    def hide(self, text: str) -> str:
        for secret in self.secrets:
            text = _hidden(secret, text)
        secret = "" if self.key is None else self.key.get_secret_value().rpartition(" ")[2]
        return _hidden(secret, text) if len(secret) >= _SHORTEST_SECRET else text


def _hidden(secret: str, text: str) -> str:
    """``text`` with a mask wherever it has ``secret``, also in the escapes of a URL."""
    text = text.replace(secret, "***")
    escaped = quote(secret, safe="")
    return text if escaped == secret else text.replace(escaped, "***")
