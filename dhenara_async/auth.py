"""Proves who we are: the last thing that happens to a request before it is sent.

A seam of its own because some hosts sign the finished bytes or want a token that must be fetched first.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import SecretStr

from dhenara_async.request import HttpRequest


class Auth(Protocol):
    """Signs requests; may await."""

    async def sign(self, request: HttpRequest) -> HttpRequest:
        """``request`` with the proof in it."""
        ...

    def hide(self, body: bytes) -> bytes:
        """An error's ``body`` without the proof: some hosts quote the key that they refuse."""
        ...


# Shorter keys are placeholders for hosts that want none, and words of any text.
_SHORTEST_SECRET = 12


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """A key in a header; no key, no header."""

    header: str
    key: SecretStr | None

    async def sign(self, request: HttpRequest) -> HttpRequest:
        if self.key is None:
            return request
        return replace(request, headers={**request.headers, self.header: self.key.get_secret_value()})

    def hide(self, body: bytes) -> bytes:
        secret = "" if self.key is None else self.key.get_secret_value().rpartition(" ")[2]
        return body.replace(secret.encode(), b"***") if len(secret) >= _SHORTEST_SECRET else body
