"""Proves who we are: the last thing that happens to a request before it is sent.

A seam of its own because some hosts sign the finished bytes or want a token that must be fetched first.
"""

from dataclasses import dataclass
from typing import Protocol

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
    """A key in a header; no key, no header. A header of the caller's own by that name stays."""

    header: str
    key: SecretStr | None

    async def sign(self, request: HttpRequest) -> HttpRequest:
        if self.key is None:
            return request
        return HttpRequest(request.url, {self.header: self.key.get_secret_value(), **request.headers}, request.body)

    def hide(self, text: str) -> str:
        secret = "" if self.key is None else self.key.get_secret_value().rpartition(" ")[2]
        return text.replace(secret, "***") if len(secret) >= _SHORTEST_SECRET else text
