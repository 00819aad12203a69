"""What a dialect of the loopback server is, and the few tools they all check and spell JSON with."""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple, cast

import orjson

from dhenara_async.endpoint import Dialect
from dhenara_async.response import Usage
from dhenara_async.testing.script import Answer, Turn


class Refusal(Exception):
    """The provider says no.

    Attributes:
        message: Its words.
        status: HTTP status.
        code: Its code for the case, where it has one.
        type: Its kind of error; None = what it says with that status.
        param: The field at fault (OpenAI).
        headers: Extra response headers.
        retry_info: Seconds to wait, told in the body (Gemini).
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
    """A request whose body is a JSON object, as the checks see it.

    Attributes:
        provider: First segment of the path.
        path: The rest of the path.
        query: Query parameters.
        headers: Names in lower case.
        body: The JSON object in the dialect's usual spelling; empty if there was none.
        issued: Every model with a signature that this server has given out for it.
    """

    provider: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Mapping[str, object]
    issued: Set[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request says, in canonical words; see ``SeenRequest``."""

    model: str
    stream: bool
    system: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way to the wire.

    Attributes:
        answer: What is said.
        usage: Its tokens, all counted.
        conversation: What it answers.
        arrived: The request it answers.
        number: The request's number at this server, from 1; ids are made of it.
    """

    answer: Answer
    usage: Usage
    conversation: Conversation
    arrived: Arrived
    number: int

    @property
    def created(self) -> int:
        """A time stamp that is the same in every run."""
        return 1_795_000_000 + self.number

    def identifier(self, prefix: str, index: int = 0) -> str:
        """An id in the providers' manner, the same in every run."""
        return f"{prefix}{blake2b(f'{prefix} {self.number} {index}'.encode(), digest_size=12).hexdigest()}"

    def signature(self) -> str:
        """The opaque state to send: the scripted one, or a base64 stand-in that is the same in every run."""
        if self.answer.signature is not None:
            return self.answer.signature
        seed = f"{self.conversation.model}\n{self.answer.reasoning}\n{self.answer.text}".encode()
        return base64.b64encode(blake2b(seed, digest_size=48).digest()).decode()


class Piece(NamedTuple):
    """Bytes of a stream, and whether a model would have needed time for them."""

    data: bytes
    token: bool = False


class Streamed(NamedTuple):
    """A streamed body: its content type and its pieces in order."""

    content_type: str
    pieces: Iterable[Piece]


Rule = Callable[[Arrived], None]


@dataclass(frozen=True, slots=True)
class WireDialect:
    """One wire language, as functions.

    Attributes:
        dialect: Its name.
        request_id_header: Where it tells the request's id; None = nowhere.
        credential: The key out of the headers; empty if there is none.
        unauthorized: What it says to a missing (empty) or a wrong key.
        not_found: What it says to a path it does not serve.
        read: The canonical view of a request; never fails, whatever the body is.
        rules: Every check of a request, in order; each raises ``Refusal``.
        plain: The answer as one JSON value; ``Refusal`` where the dialect cannot say it.
        stream: The answer as a stream.
        error: The error body for a refusal, given the request's id.
        content_type: Of a plain body.
        spelled: A request's body as the other functions want it, where the wire has several spellings for one thing;
            never fails, whatever the body is.
    """

    dialect: Dialect
    request_id_header: str | None
    credential: Callable[[Mapping[str, str]], str]
    unauthorized: Callable[[str], Refusal]
    not_found: Callable[[str, str], Refusal]
    read: Callable[[Arrived], Conversation]
    rules: Sequence[Rule]
    plain: Callable[[Reply], object]
    stream: Callable[[Reply], Streamed]
    error: Callable[[Refusal, str, Arrived], object]
    content_type: str = "application/json"
    spelled: Callable[[Mapping[str, object]], Mapping[str, object]] = dict


class Kind(StrEnum):
    """What a JSON value is, as the providers name it in their errors."""

    STRING = "a string"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "a boolean"
    ARRAY = "an array"
    OBJECT = "an object"
    NULL = "null"


def kind_of(value: object) -> Kind:
    """The kind of a parsed JSON value."""
    match value:
        case None:
            return Kind.NULL
        case bool():
            return Kind.BOOLEAN
        case str():
            return Kind.STRING
        case int():
            return Kind.INTEGER
        case float():
            return Kind.NUMBER
        case list():
            return Kind.ARRAY
        case _:
            return Kind.OBJECT


def fits(value: object, kinds: Sequence[Kind]) -> bool:
    """Whether a JSON value is one of ``kinds``; an integer is a number."""
    kind = kind_of(value)
    return kind in kinds or (kind is Kind.INTEGER and Kind.NUMBER in kinds)


def as_object(value: object) -> dict[str, object]:
    """The JSON object, or an empty one for anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_array(value: object) -> list[object]:
    """The JSON array, or an empty one for anything else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """The string, or an empty one for anything else."""
    return value if isinstance(value, str) else ""


def objects(value: object) -> Iterator[tuple[int, dict[str, object]]]:
    """The entries of an array as objects, numbered from 0."""
    return ((index, as_object(entry)) for index, entry in enumerate(as_array(value)))


def parsed_arguments(arguments: str) -> dict[str, object]:
    """A scripted call's arguments as an object.

    Raises:
        Refusal: They are not a JSON object, and this dialect has no way to say that.
    """
    try:
        value: object = orjson.loads(arguments or "{}")
    except ValueError:
        value = None
    if kind_of(value) is not Kind.OBJECT:
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
    """The value as compact JSON."""
    return orjson.dumps(value)


def sse(data: object, *, event: str | None = None, newline: str = "\n") -> bytes:
    """One server-sent event."""
    head = f"event: {event}{newline}" if event else ""
    return head.encode() + b"data: " + dump(data) + (newline * 2).encode()


def bearer(headers: Mapping[str, str]) -> str:
    """The bearer token of an ``authorization`` header; empty if there is none."""
    scheme, _space, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(slots=True)
class TurnBuilder:
    """Collects the canonical turns of a conversation, joining neighbours of one role."""

    _turns: list[Turn] = field(default_factory=list[Turn])

    def add(self, role: str, text: str) -> None:
        """Append what ``role`` says; what says nothing at all (opaque state) makes no turn."""
        if not text:
            return
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1] = (role, f"{self._turns[-1][1]}\n{text}")
        else:
            self._turns.append((role, text))

    def turns(self) -> tuple[Turn, ...]:
        """The turns so far, oldest first."""
        return tuple(self._turns)
