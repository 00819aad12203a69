"""Recorded exchanges: one request and its response, as one line of JSON without credentials."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import orjson
from pydantic import Field, JsonValue, ValidationError

from dhenara_async.endpoint import without_password
from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import FrozenModel
from dhenara_async.hosts.headers import secrets_of
from dhenara_async.request import HttpRequest

HIDDEN = "***"
_SECRET_NAMES = re.compile(
    r"(?i)(authorization|(access|auth|authorization|bearer|refresh|security|session)[-_]?token|(api|private)[-_]?key"
    r"|cookie|password|secret)$"
)
_SECRET_PARAMETERS = re.compile(r"(?i)key|token|sig|secret|credential")
_SHORTEST_SECRET = 8  # shorter values are words of any text
_RESPONSE_SECRETS = re.compile(r"(?i)cookie|organi[sz]ation|project|account")


class RecordedPiece(FrozenModel):
    """The bytes of one network read.

    Attributes:
        after: Seconds since the read before, or since the request for the first one.
        text: The bytes as text; None if they are no UTF-8.
        base64: The bytes in base64 if they are no UTF-8.
    """

    after: float
    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, data: bytes, after: float) -> "RecordedPiece":
        """Return the piece of a read."""
        try:
            return cls(after=round(after, 4), text=data.decode())
        except UnicodeDecodeError:
            return cls(after=round(after, 4), base64=base64.b64encode(data).decode())

    def data(self) -> bytes:
        """Return the bytes."""
        return base64.b64decode(self.base64 or "") if self.text is None else self.text.encode()


class RecordedExchange(FrozenModel):
    """One request and its response.

    Attributes:
        url: The address; values of parameters that are credentials are ``***``.
        body: The request's body as JSON, without credentials; a text if it is no JSON, None for a file.
        addresses: The network addresses of the host of a file, which was downloaded from one of them; else empty.
        status: The HTTP status; None if no response came.
        headers: The response's headers, without cookies and names of accounts.
        pieces: The pieces that were read, in order.
        ended: How the response ended: at its end, because its reader left, or with an error.
        error: The class and the message of the error.
    """

    url: str
    body: JsonValue = None
    addresses: Sequence[str] = ()
    status: int | None = None
    headers: Mapping[str, str] = Field(default_factory=dict)
    pieces: Sequence[RecordedPiece] = ()
    ended: Literal["end", "left", "error"] = "end"
    error: tuple[str, str] | None = None

    @property
    def is_download(self) -> bool:
        """Whether it is that of a file, not of a model."""
        return bool(self.addresses)

    def line(self) -> bytes:
        """Return the exchange as a line of a file."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True)) + b"\n"


def read_exchanges(lines: Iterable[bytes], name: str) -> list[RecordedExchange]:
    """Read a recording.

    Args:
        lines: The lines of the file.
        name: The file's name, for errors.

    Raises:
        ConfigurationError: A line is not a recorded exchange.
    """
    found: list[RecordedExchange] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(RecordedExchange.model_validate_json(line))
            except ValidationError as exc:
                raise ConfigurationError(f"line {number} of {name} is not a recorded exchange") from exc
    return found


def hide_address(url: str, secrets: Sequence[str]) -> str:
    """Return ``url`` without credentials."""
    parts = urlsplit(without_password(url))
    asked = parse_qsl(parts.query, keep_blank_values=True)
    hidden = [(name, HIDDEN if _SECRET_PARAMETERS.search(name) else value) for name, value in asked]
    return hide(urlunsplit(parts._replace(query=urlencode(hidden, safe="*"))), secrets)


def hide_body(body: bytes, secrets: Sequence[str], of_files: Sequence[str] = ()) -> JsonValue:
    """Return the body of a request as JSON, or as text, without credentials.

    Args:
        body: The body.
        secrets: The credentials of the request.
        of_files: Those of links to files that were downloaded: a file in the body may repeat them.
    """
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        return hide(body.decode(errors="replace"), (*secrets, *of_files))
    return _without_secrets(value, secrets, of_files)


def hide_headers(headers: Mapping[str, str], secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of a response, names in lower case, without cookies, names of accounts and credentials."""
    kept = {name.lower(): value for name, value in headers.items() if not _RESPONSE_SECRETS.search(name)}
    return {
        name: hide_address(value, secrets) if name == "location" else hide(value, secrets)
        for name, value in kept.items()
    }


def hide_pieces(pieces: Sequence[tuple[bytes, float]], secrets: Sequence[str]) -> list[RecordedPiece]:
    """Return what was read without credentials, also those that a network read cut in two.

    Args:
        pieces: The bytes of each read, and the seconds before it.
        secrets: The credentials; the mask of each stands in the piece where it begins.
    """
    whole = b"".join(data for data, _ in pieces)
    pattern = b"|".join(re.escape(form.encode()) for form in _spellings(secrets))
    found = [match.span() for match in re.finditer(pattern, whole)] if pattern else []
    kept: list[RecordedPiece] = []
    start, waited = 0, 0.0
    for data, after in pieces:
        end, at, shown = start + len(data), start, b""
        for first, last in found:
            if first < end and last > at:
                shown += whole[at : max(at, first)] + (HIDDEN.encode() if first >= start else b"")
                at = min(last, end)
        shown += whole[at:end]
        start, waited = end, waited + after
        if shown:  # an empty piece would be read as the end of the body
            kept.append(RecordedPiece.of(shown, waited))
            waited = 0.0
    return kept


def hide(text: str, secrets: Sequence[str]) -> str:
    """Return ``text`` with every secret replaced by ``***``."""
    for spelling in _spellings(secrets):
        text = text.replace(spelling, HIDDEN)
    return text


def secrets_in_address(url: str) -> tuple[str, ...]:
    """Return the credentials in the address of a file, such as the signature of a link, the longest first."""
    return tuple(sorted(_secrets_of_address(url), key=len, reverse=True))


def secrets_in(request: HttpRequest) -> tuple[str, ...]:
    """Return the credentials in the headers, the address and the body of a request, the longest first."""
    found = {*secrets_of(request.headers), *_secrets_of_address(request.url)}
    with suppress(orjson.JSONDecodeError):
        found.update(_secrets_of_body(orjson.loads(request.body)))
    return tuple(sorted(found, key=len, reverse=True))


def _spellings(secrets: Sequence[str]) -> list[str]:
    """Return every secret as it is, as in an address, and as in JSON; the longest first."""
    each = ((secret, quote(secret, safe=""), orjson.dumps(secret).decode()[1:-1]) for secret in secrets)
    return sorted({form for forms in each for form in forms}, key=len, reverse=True)


def _secrets_of_address(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:  # a text that begins like an address
        return
    values = [value for name, value in parse_qsl(parts.query) if _SECRET_PARAMETERS.search(name)]
    yield from (value for value in (*values, unquote(parts.password or "")) if len(value) >= _SHORTEST_SECRET)


def _secrets_of_body(value: JsonValue) -> Iterator[str]:
    """Yield the members of a body that are named like credentials, also inside addresses and headers of servers."""
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str) and _SECRET_NAMES.search(name):
                yield from secrets_of({name: item})
            elif isinstance(item, dict) and name.lower() == "headers":
                yield from secrets_of({header: text for header, text in item.items() if isinstance(text, str)})
            yield from _secrets_of_body(item)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets_of_body(item)
    elif isinstance(value, str) and value.startswith(("http://", "https://")):
        yield from _secrets_of_address(value)


def _without_secrets(value: JsonValue, secrets: Sequence[str], of_files: Sequence[str]) -> JsonValue:
    """Return a JSON value without the secrets, and with the members that are named like credentials replaced."""
    if isinstance(value, dict):
        return {
            name: HIDDEN
            if _SECRET_NAMES.search(name) and isinstance(item, str)
            else _without_secrets(item, secrets, of_files)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(item, secrets, of_files) for item in value]
    if not isinstance(value, str):
        return value
    return hide(hide(_without_secrets_in_file(value, of_files) if of_files else value, secrets), of_files)


def _without_secrets_in_file(text: str, secrets: Sequence[str]) -> str:
    """Return a file in base64, or a data URL, without the secrets; any other text as it is."""
    head, mark, data = text.rpartition(";base64,")
    try:
        whole = base64.b64decode(data, validate=True)
    except ValueError:
        return text
    shown = whole
    for spelling in _spellings(secrets):
        shown = shown.replace(spelling.encode(), HIDDEN.encode())
    return text if shown == whole else f"{head}{mark}{base64.b64encode(shown).decode()}"


def first_difference(recorded: JsonValue, asked: JsonValue, where: str = "body") -> str | None:
    """Return the place of the first difference between two requests, in words; None if they are equal."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for name in {**recorded, **asked}:
            if name not in asked:
                return f"{where}.{name} is missing"
            if name not in recorded:
                return f"{where}.{name} was not in it"
            if found := first_difference(recorded[name], asked[name], f"{where}.{name}"):
                return found
        return None
    if isinstance(recorded, list) and isinstance(asked, list):
        for number, (one, other) in enumerate(zip(recorded, asked, strict=False)):
            if found := first_difference(one, other, f"{where}[{number}]"):
                return found
        return None if len(recorded) == len(asked) else f"{where} has {len(asked)} items and had {len(recorded)}"
    return None if recorded == asked else f"{where} is {_short(asked)} and was {_short(recorded)}"


def _short(value: JsonValue) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:79]}…"
