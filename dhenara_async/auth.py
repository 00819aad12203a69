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


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """A key in a header; no key, no header."""

    header: str
    key: SecretStr | None

    async def sign(self, request: HttpRequest) -> HttpRequest:
        if self.key is None:
            return request
        return replace(request, headers={**request.headers, self.header: self.key.get_secret_value()})
