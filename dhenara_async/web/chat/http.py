"""Requests and replies without a framework."""

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Protocol, TypeVar, cast
from urllib.parse import urlsplit

from dhenara_async.errors import ConfigurationError, DhenaraError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import ShortRepr
from dhenara_async.stores.storable import storable
from dhenara_async.web.feeds import Feed
from dhenara_async.web.frames.failures import Failure, failure_of
from dhenara_async.web.inputs.fields import RefusedRequest

Handler = Callable[["WebRequest"], Awaitable["WebReply | Feed"]]
"""Answers one request: with a whole reply, or with a feed to send."""

logger: logging.Logger = logging.getLogger("dhenara_async")

BROKEN_BODY = "The body is not complete."

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_Request = TypeVar("_Request")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WebRequest(ShortRepr):
    """One request, as a framework gives it.

    Attributes:
        method: The method, in upper case.
        headers: The headers, names in lower case.
        path: The values of the path's parameters.
        query: The query's parameters; the last one of a name counts.
        owner: The owner of the conversations; empty if nobody has signed in.
        base: Where the app is mounted, as the client sees it; empty at the root.
        read: Reads the body; raises ``RefusedRequest`` where it is longer than the given number of bytes.
    """

    method: str
    headers: Mapping[str, str] = field(repr=False)
    path: Mapping[str, str]
    query: Mapping[str, str] = field(repr=False)
    owner: str
    base: str = ""
    read: Callable[[int], Awaitable[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class WebReply(ShortRepr):
    """A whole response.

    Attributes:
        status: The HTTP status.
        body: The body.
        media_type: Its content type; None without a body.
        headers: Further headers.
    """

    status: int
    body: bytes = b""
    media_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class WebApp(Protocol):
    """The app that the routes of a framework call: ``ChatApp`` or ``OpenAIApp``."""

    async def handle(self, handler: Handler, request: WebRequest) -> WebReply | Feed:
        """Answer one request by the handler of its route; errors become replies."""
        ...


async def owner_of(request: _Request, owner: Callable[[_Request], str | Awaitable[str]]) -> str:
    """Return the owner of a request's conversations; empty if the app's function names none.

    Args:
        request: The request of the framework.
        owner: The app's function.

    Raises:
        ConfigurationError: The function returned something other than a text.
        Exception: The function raised it.
    """
    answer = owner(request)
    named = cast("object", await answer if isawaitable(answer) else answer)  # the function is the app's own
    if named is None:
        return ""
    if not isinstance(named, str):
        raise ConfigurationError(
            f"owner returned a value of type {type(named).__name__}: return the user's id as a text"
        )
    return named


async def body_of(pieces: AsyncIterable[bytes], limit: int) -> bytes:
    """Read a body piece by piece; no more of it is kept than ``limit`` and one piece.

    Raises:
        RefusedRequest: It is longer than ``limit`` bytes.
    """
    kept: list[bytes] = []
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RefusedRequest(413, "The body is too large.")
        kept.append(piece)
    return b"".join(kept)


def json_reply(value: object) -> WebReply:
    """Return a value as JSON."""
    return WebReply(200, dumps(value), "application/json", {"cache-control": "no-store"})


def nothing_reply() -> WebReply:
    """Return the status 204."""
    return WebReply(204)


def words_reply(status: int, words: str) -> WebReply:
    """Return plain words, which a page may show as they are."""
    return WebReply(status, words.encode(), "text/plain; charset=utf-8", {"x-content-type-options": "nosniff"})


def failure_reply(failure: Failure) -> WebReply:
    """Return the words of a failure with its status."""
    return words_reply(failure.status, failure.message)


def check_origin(method: str, headers: Mapping[str, str], origins: Collection[str]) -> None:
    """Refuse what a page of another site sends with the cookies of this one.

    Raises:
        RefusedRequest: The request changes something, and its site is neither this one nor in ``origins``.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if method not in _UNSAFE or origin in origins or (origin is None and site is None):
        return
    if site in {"same-origin", "none"}:
        return
    if site is None and origin is not None and _same_host(origin, headers.get("host")):
        return
    raise RefusedRequest(403, "This app does not take requests from that site.")


def check_owner(owner: str) -> None:
    """Refuse an owner that no store can keep: the app may have read the name in the request itself.

    Raises:
        RefusedRequest: The name has a NUL or half a surrogate pair.
    """
    if not storable(owner):
        raise RefusedRequest(400, "The name of the user has characters that cannot be kept.")


async def handled(handler: Handler, request: WebRequest, origins: Collection[str]) -> WebReply | Feed:
    """Answer one request of a signed-in owner; errors become replies.

    Args:
        handler: Answers it.
        request: The request.
        origins: Origins of other sites whose pages may send requests.
    """
    try:
        check_origin(request.method, request.headers, origins)
        if not request.owner:
            raise RefusedRequest(401, "Sign in first.")
        check_owner(request.owner)
        return await handler(request)
    except RefusedRequest as refused:
        return words_reply(refused.status, refused.words)
    except DhenaraError as exc:
        failure = failure_of(exc)
        if failure.status >= 500:
            logger.warning("a request of a chat failed with %s: %s", type(exc).__name__, exc)
        return failure_reply(failure)


def check_json(headers: Mapping[str, str]) -> None:
    """Refuse a body that is not declared as JSON: a form of another site could send it.

    Raises:
        RefusedRequest: It is not.
    """
    declared = headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json":
        raise RefusedRequest(415, "The body is sent as application/json.")


def _same_host(origin: str, host: str | None) -> bool:
    try:
        return host is not None and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
