"""Reads fields of a JSON body strictly. Refusals name our fields and never repeat what was sent."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import FilePart

_ID = re.compile(r"[A-Za-z0-9_.:~-]{1,128}")

BodyFields = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WebLimits(ShortRepr):
    """How much a client may send.

    Attributes:
        body_bytes: Bytes of one request body; files come in it as base64.
        text_characters: Characters of one question.
        files: Number of files of one question.
        messages: Number of messages of a history that a client of OpenAI's API sends.
        title_characters: Characters of a title.
        page: How many conversations or hits are listed at most.
    """

    body_bytes: int = 20 * 1024 * 1024
    text_characters: int = 200_000
    files: int = 10
    messages: int = 5_000
    title_characters: int = 200
    page: int = 100


class RefusedRequest(Exception):
    """A request that is answered with a status.

    Attributes:
        status: The HTTP status.
        words: The message for the client, without anything that it sent.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def bad(words: str) -> RefusedRequest:
    """Return a refusal with the status 400."""
    return RefusedRequest(400, words)


def object_of(body: bytes) -> BodyFields:
    """Parse a body that is one JSON object.

    A body that names a field twice is refused: a proxy that checked the first may see another request than we do.

    Raises:
        RefusedRequest: It is not one, or names a field twice.
    """
    try:
        value: object = orjson.loads(body)
        json.loads(body, object_pairs_hook=_check_names)  # orjson keeps the last of two in silence
    except (orjson.JSONDecodeError, RecursionError):
        raise bad("The body is not JSON.") from None
    return as_fields(value, "body")


def _check_names(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise bad("The body names a field twice.")


def as_fields(value: object, name: str) -> BodyFields:
    """Return a JSON object.

    Raises:
        RefusedRequest: It is something else.
    """
    if not isinstance(value, dict):
        raise bad(f"{name} is not a JSON object.")
    return cast("BodyFields", value)


def items_of(fields: BodyFields, name: str) -> Sequence[object]:
    """Return a list of the body.

    Raises:
        RefusedRequest: It is missing or something else.
    """
    value = fields.get(name)
    if not isinstance(value, list):
        raise bad(f"{name} is not a list.")
    return cast("list[object]", value)


def text_of(fields: BodyFields, name: str, *, limit: int) -> str | None:
    """Return a text of the body; None if it is missing or null.

    Raises:
        RefusedRequest: It is something else, longer than ``limit`` characters, or has a NUL, which no database keeps.
    """
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad(f"{name} is not a text.")
    if len(value) > limit:
        raise RefusedRequest(413, f"{name} is longer than {limit} characters.")
    if "\0" in value:
        raise bad(f"{name} has a NUL character.")
    return value


def id_of(fields: BodyFields, name: str) -> str | None:
    """Return an id of the body; None if it is missing or null.

    Raises:
        RefusedRequest: It is something else than 1 to 128 letters, digits and ``_.:~-``.
    """
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad(f"{name} is not a text.")
    return checked_id(value, name)


def checked_id(value: str, name: str) -> str:
    """Return ``value`` if it can be an id.

    Raises:
        RefusedRequest: It cannot.
    """
    if _ID.fullmatch(value) is None:
        raise bad(f"{name} is not an id: 1 to 128 letters, digits and _.:~-")
    return value


def demanded(value: str | None, name: str) -> str:
    """Return ``value``.

    Raises:
        RefusedRequest: It is missing.
    """
    if value is None:
        raise bad(f"{name} is missing.")
    return value


def file_of(url: object, media_type: object, filename: object) -> FilePart:
    """Return a file that a page sent as a ``data:`` URL. Other URLs are refused: nobody is sent to fetch them.

    Raises:
        RefusedRequest: It is not a file of that kind.
    """
    if not isinstance(url, str) or url[:5].lower() != "data:":
        raise bad("A file is sent as a data: URL.")
    if media_type is not None and not isinstance(media_type, str):
        raise bad("mediaType is not a text.")
    try:
        part = FilePart.from_url(url, media_type=media_type)
    except (ConfigurationError, ValueError):
        raise bad("A file cannot be used: it is empty, or not what its media type says.") from None
    if isinstance(filename, str) and filename:
        return part.changed(filename=filename[:200])
    return part
