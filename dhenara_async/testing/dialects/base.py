"""The interface of a dialect of the loopback server, and the JSON helpers that all dialects share."""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple, cast

import orjson

from dhenara_async.endpoint import Dialect
from dhenara_async.response import Usage
from dhenara_async.testing.script import Answer, SeenTurn


class Refusal(Exception):
    """An error response of the provider.

    Attributes:
        message: The error message.
        status: HTTP status.
        code: The provider's error code, if it has one.
        type: The provider's name for the kind of error; None = the usual one of that status.
        param: The invalid field (OpenAI).
        headers: Extra response headers.
        retry_info: Seconds to wait, sent in the body (Gemini).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_info: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.headers: dict[str, str] = dict(headers or {})
        self.retry_info = retry_info


@dataclass(frozen=True, slots=True)
class Arrived:
    """A received request, in the form that the checks read.

    Attributes:
        provider: First segment of the path.
        path: The rest of the path.
        query: Query parameters.
        headers: Names in lower case.
        body: The JSON object with the dialect's usual field names; empty if the body is not an object.
        issued: Pairs of a model and a signature that this server has sent for it.
    """

    provider: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Mapping[str, object]
    issued: Set[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class ParsedConversation:
    """The content of a request, the same for every dialect; see ``SeenRequest``."""

    model: str
    stream: bool
    system: str
    turns: tuple[SeenTurn, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, ready to be written in a dialect.

    Attributes:
        answer: The scripted answer.
        usage: Its tokens, every count known.
        conversation: The conversation that it answers.
        arrived: The request that it answers.
        number: The request's number at this server, from 1; ids are derived from it.
    """

    answer: Answer
    usage: Usage
    conversation: ParsedConversation
    arrived: Arrived
    number: int

    @property
    def created(self) -> int:
        """A time stamp, the same in every run."""
        return 1_795_000_000 + self.number

    def identifier(self, prefix: str, index: int = 0) -> str:
        """Return an id in the style of the providers, the same in every run."""
        return f"{prefix}{blake2b(f'{prefix} {self.number} {index}'.encode(), digest_size=12).hexdigest()}"

    def signature(self) -> str:
        """Return the opaque state to send: the scripted one, or invented base64, the same in every run."""
        if self.answer.signature is not None:
            return self.answer.signature
        seed = f"{self.conversation.model}\n{self.answer.reasoning}\n{self.answer.text}".encode()
        return base64.b64encode(blake2b(seed, digest_size=48).digest()).decode()


class StreamPiece(NamedTuple):
    """Bytes of a stream, and whether they are a token, which a model takes time to produce."""

    data: bytes
    token: bool = False


class Streamed(NamedTuple):
    """A streamed body: its content type and its pieces in order."""

    content_type: str
    pieces: Iterable[StreamPiece]


Rule = Callable[[Arrived], None]


@dataclass(frozen=True, slots=True)
class WireDialect:
    """One wire dialect, as functions.

    Attributes:
        dialect: Its name.
        request_id_header: The response header with the request's id; None = there is none.
        credential: Returns the key in the headers; empty if there is none.
        unauthorized: Builds the error for a missing (empty) or a wrong key.
        not_found: Builds the error for an unknown path.
        read: Parses a request; never fails, whatever the body is.
        rules: The checks of a request, in order; each raises ``Refusal``.
        plain: Builds the answer as one JSON value; raises ``Refusal`` if the dialect cannot express it.
        stream: Builds the answer as a stream.
        error: Builds the error body of a refusal, given the request's id.
        content_type: The content type of a plain body.
        spelled: Rewrites a request's body with the field names that the other functions read, if the wire allows
            several; never fails, whatever the body is.
    """

    dialect: Dialect
    request_id_header: str | None
    credential: Callable[[Mapping[str, str]], str]
    unauthorized: Callable[[str], Refusal]
    not_found: Callable[[str, str], Refusal]
    read: Callable[[Arrived], ParsedConversation]
    rules: Sequence[Rule]
    plain: Callable[[Reply], object]
    stream: Callable[[Reply], Streamed]
    error: Callable[[Refusal, str, Arrived], object]
    content_type: str = "application/json"
    spelled: Callable[[Mapping[str, object]], Mapping[str, object]] = dict


class JsonKind(StrEnum):
    """The kind of a JSON value, as the providers name it in their errors."""

    STRING = "a string"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "a boolean"
    ARRAY = "an array"
    OBJECT = "an object"
    NULL = "null"


def kind_of(value: object) -> JsonKind:
    """Return the kind of a parsed JSON value."""
    match value:
        case None:
            return JsonKind.NULL
        case bool():
            return JsonKind.BOOLEAN
        case str():
            return JsonKind.STRING
        case int():
            return JsonKind.INTEGER
        case float():
            return JsonKind.NUMBER
        case list():
            return JsonKind.ARRAY
        case _:
            return JsonKind.OBJECT


def fits(value: object, kinds: Sequence[JsonKind]) -> bool:
    """Whether a JSON value has one of ``kinds``; an integer is a number."""
    kind = kind_of(value)
    return kind in kinds or (kind is JsonKind.INTEGER and JsonKind.NUMBER in kinds)


def as_object(value: object) -> dict[str, object]:
    """Return a JSON object; empty for any other value."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_array(value: object) -> list[object]:
    """Return a JSON array; empty for any other value."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a string; empty for any other value."""
    return value if isinstance(value, str) else ""


def objects(value: object) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the entries of an array as objects, with their indexes."""
    return ((index, as_object(entry)) for index, entry in enumerate(as_array(value)))


def parsed_arguments(arguments: str) -> dict[str, object]:
    """Parse a scripted call's arguments as an object.

    Raises:
        Refusal: They are not a JSON object, and this dialect cannot send anything else.
    """
    try:
        value: object = orjson.loads(arguments or "{}")
    except ValueError:
        value = None
    if kind_of(value) is not JsonKind.OBJECT:
        raise Refusal("The script's tool arguments are not a JSON object, which this dialect cannot send.", status=500)
    return as_object(value)


def is_base64(value: object) -> bool:
    """Whether a JSON value is base64 text, standard or URL-safe."""
    try:
        base64.b64decode(as_text(value).replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        return False
    return isinstance(value, str)


def dump(value: object) -> bytes:
    """Return compact JSON."""
    return orjson.dumps(value)


def sse(data: object, *, event: str | None = None, newline: str = "\n") -> bytes:
    """Build one server-sent event."""
    head = f"event: {event}{newline}" if event else ""
    return head.encode() + b"data: " + dump(data) + (newline * 2).encode()


def bearer(headers: Mapping[str, str]) -> str:
    """Return the bearer token of the ``authorization`` header; empty if there is none."""
    scheme, _space, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(slots=True)
class TurnBuilder:
    """Collects the turns of a conversation, and joins adjacent turns of one role."""

    _turns: list[SeenTurn] = field(default_factory=list[SeenTurn])

    def add(self, role: str, text: str) -> None:
        """Append text of ``role``; empty text, for example of opaque state, adds no turn."""
        if not text:
            return
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1] = (role, f"{self._turns[-1][1]}\n{text}")
        else:
            self._turns.append((role, text))

    def turns(self) -> tuple[SeenTurn, ...]:
        """Return the turns, oldest first."""
        return tuple(self._turns)
