"""Messages and the parts they are made of: the provider-neutral content of a conversation.

Every part is a frozen value that round-trips through JSON byte for byte. Beside its canonical view it may carry
``provider_state``, what its provider sent and wants echoed, exactly as received: a reasoning signature, an encrypted
item, an unknown native block. That state goes back only to the ``Origin`` it came from; nobody else may see it.
"""

import os
import re
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from dhenara_async.errors import ConfigurationError
from dhenara_async.framing.lenient_json import read, text_of
from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.media import ANY_IMAGE, Kind, by_extension, check_signature, kind_of, normalized, settled
from dhenara_async.tools.declarations import HostedToolType

MAX_FILE_BYTES = 64 * 1024 * 1024
"""The most bytes of a file that is read from disk, unless ``FilePart.from_path(max_bytes=…)`` says otherwise."""

ProviderState = dict[str, JsonValue]

Item = TypeVar("Item")
# Any sequence in, a tuple kept: users write lists, values stay frozen.
FrozenList = Annotated[Sequence[Item], AfterValidator(tuple)]


class Role(StrEnum):
    """Who speaks. ``SYSTEM`` inside a conversation is an instruction at that place; tool results are the user's."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class Origin(FrozenModel):
    """Which endpoint made a part. Opaque state returns only where all of this is the same.

    Attributes:
        provider: ``AIModelAPIProviderEnum`` value.
        dialect: ``Dialect`` value.
        endpoint: The host, without path or credentials.
        account: Keyed hash of the credential; None where the call had none.
        model: The id that was asked for.
        served_model: The id the response reports; aliases move, so it can differ. None = not told.
    """

    provider: str
    dialect: str
    endpoint: str
    account: str | None
    model: str
    served_model: str | None = None

    def same_account(self, other: "Origin") -> bool:
        """Whether ``other`` is the same API at the same host under the same account (the model may differ)."""
        return (self.provider, self.dialect, self.endpoint, self.account) == (
            other.provider,
            other.dialect,
            other.endpoint,
            other.account,
        )

    def same_model(self, other: "Origin") -> bool:
        """Whether ``other`` is the same account and was asked for the same model."""
        return self.same_account(other) and self.model == other.model


class PartBase(FrozenModel):
    """What every part carries beside its content.

    Attributes:
        origin: Who made it; None for what the user wrote.
        provider_state: The native form, exactly as received; None where the canonical view says it all.
        status: ``interrupted`` when the stream ended inside this part.
    """

    origin: Origin | None = None
    provider_state: ProviderState | None = Field(default=None, repr=False)
    status: Literal["complete", "interrupted"] = "complete"


class Citation(FrozenModel):
    """Where something in a text comes from.

    Attributes:
        url: The source's address; None if it has none.
        title: The source's title; None if not told.
        cited_text: The source's own words; None if not told.
        file_id: The file it is from, by the provider's id; None if it is not from a file.
        start: Where the cited passage begins in the answer's text, in characters; None if not told.
        end: Where it ends, exclusive.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    file_id: str | None = None
    start: int | None = None
    end: int | None = None


class TokenLogprob(FrozenModel):
    """How likely a token was.

    Attributes:
        token: Its text.
        logprob: Natural logarithm of its probability.
        top: The likeliest tokens at this place with theirs, likeliest first; empty if not asked for.
    """

    token: str
    logprob: float
    top: FrozenList[tuple[str, float]] = ()


class TextPart(PartBase):
    """Words.

    Attributes:
        text: The words.
        citations: Where they come from, in the order the provider told.
        logprobs: How likely each token was; empty unless asked for.
    """

    type: Literal["text"] = "text"
    text: str
    citations: FrozenList[Citation] = ()
    logprobs: FrozenList[TokenLogprob] = ()

    def get_text(self) -> str:
        """The words."""
        return self.text


class ReasoningPart(PartBase):
    """The model's thinking as far as it is shown; ``text`` may be empty while the state is not."""

    type: Literal["reasoning"] = "reasoning"
    text: str = ""

    def get_text(self) -> str:
        """The thinking that is shown; empty where only opaque state came."""
        return self.text


class ToolCallPart(PartBase):
    """The model asks for a function to be run.

    Attributes:
        call_id: The provider's id of this call; results name it. Empty where the provider sent none.
        name: The function.
        arguments: JSON text exactly as sent; it can be invalid JSON.
    """

    type: Literal["tool_call"] = "tool_call"
    call_id: str
    name: str
    arguments: str = ""

    def get_text(self) -> str:
        """The call as a person would read it."""
        return f"{self.name}({self.arguments})"

    def parsed(self) -> dict[str, JsonValue]:
        """The arguments as an object; ``{}`` for none at all.

        Integers of any size are exact. ``NaN`` and ``Infinity`` are None, and half of a surrogate pair is U+FFFD.

        Raises:
            ValueError: The model wrote something that is not a JSON object; ``arguments`` has it.
        """
        if not self.arguments.strip():
            return {}
        value = read(self.arguments)
        if not isinstance(value, dict):
            raise ValueError(f"the arguments of tool call {self.name!r} are JSON but not an object")
        return cast("dict[str, JsonValue]", value)


class FilePart(PartBase):
    """A file, by exactly one of its bytes, a URL, or the id it has at its provider.

    What a provider made is kept as it came; what a user attaches is checked when it is made.

    Attributes:
        media_type: ``image/png``, ``text/plain`` …; ``image/*`` for a picture of a format that is not known yet.
        data: The bytes; base64 in JSON.
        url: Where the provider, or the library for it, can fetch the file.
        file_id: What its provider's file store calls it.
        filename: For people and for providers that want a name.
    """

    type: Literal["file"] = "file"
    media_type: str
    data: bytes | None = Field(default=None, repr=False)
    url: str | None = None
    file_id: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "FilePart":
        if sum(source is not None for source in (self.data, self.url, self.file_id)) != 1:
            raise ValueError("a FilePart has exactly one of data, url and file_id")
        if self.origin is not None:
            return self  # a provider made it: it is worth having even if it is not what it says
        if _MEDIA_TYPE.fullmatch(self.media_type) is None:
            raise ValueError("media_type does not follow the pattern type/subtype, in lower case")
        if self.data is not None:
            check_signature(self.data, self.media_type)
        if self.url is not None and not self.url.lower().startswith(_URL_STARTS):
            raise ValueError("a file URL starts with https:// or http://; FilePart.from_url takes data: URLs apart")
        return self

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str | None = None, filename: str | None = None) -> "FilePart":
        """A file that is in memory.

        Args:
            data: All of it.
            media_type: What it is; None = told from the bytes, then from ``filename``.
            filename: Its name.

        Raises:
            ConfigurationError: It is empty, is not what ``media_type`` says, is a text that is not UTF-8, or nobody can
                tell what it is.
        """
        return _made(data, filename, "the file" if filename is None else repr(filename), declared=media_type)

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], *, media_type: str | None = None, max_bytes: int = MAX_FILE_BYTES
    ) -> "FilePart":
        """Read a file from disk, here and now; in a coroutine, hand its ``pathlib.Path`` to ``files=`` instead.

        Args:
            path: Where it is. Do not put together a path from what users write.
            media_type: What it is; None = told from its bytes, then from its name.
            max_bytes: The most bytes it may have.

        Raises:
            ConfigurationError: As for ``from_bytes``, or it cannot be read, is no regular file (a directory, a pipe, a
                device), or has more than ``max_bytes``.
        """
        source = Path(path)
        return _made(read_regular(source, max_bytes), source.name, repr(str(source)), declared=media_type)

    @classmethod
    def from_url(cls, url: str, *, media_type: str | None = None) -> "FilePart":
        """A file at ``https:``, or a ``data:`` URL, which is taken apart here.

        The provider fetches it where it can; for one that cannot, the library downloads it when the call is made, by
        the rules of ``FetchPolicy``.

        Args:
            url: Where it is.
            media_type: What it is; None = told from the URL's path, ``image/*`` where that does not tell.

        Raises:
            ConfigurationError: Not an http(s) or base64 data URL.
        """
        from urllib.parse import unquote, urlsplit

        if url[:5].lower() == "data:":
            return _from_data_url(url, media_type)
        try:
            parts = urlsplit(url)
        except ValueError as exc:
            raise ConfigurationError(f"the file URL is not a URL: {exc}") from exc
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ConfigurationError("a file URL starts with https://, http:// or data:")
        try:
            return cls(media_type=normalized(media_type or by_extension(unquote(parts.path)) or ANY_IMAGE), url=url)
        except ValueError as exc:
            raise ConfigurationError(f"cannot use the file URL as {media_type}: {_reason(exc)}") from exc

    @property
    def kind(self) -> Kind:
        """What sort of file it is: ``image``, ``pdf``, ``text``, ``audio``, ``video`` or ``other``."""
        return kind_of(self.media_type)

    @property
    def is_stored(self) -> bool:
        """Whether it is in a store that lets only some accounts read it: an id, or the address of a cloud's bucket."""
        return self.file_id is not None or (self.url is not None and not self.url.lower().startswith(_WEB))

    @property
    def size(self) -> int | None:
        """How many bytes it has; None where it is elsewhere."""
        return None if self.data is None else len(self.data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bytes to ``path``, over what is there, and return it. The provider's ``filename`` is not used.

        Raises:
            ConfigurationError: The file is elsewhere, or cannot be written there.
        """
        target = Path(path)
        if self.data is None:
            raise ConfigurationError("the file is at its provider or behind a URL: there is nothing here to save")
        try:
            target.write_bytes(self.data)
        except OSError as exc:
            raise ConfigurationError(f"cannot write {str(target)!r}: {exc.strerror or exc}") from exc
        return target

    def get_base64(self) -> str:
        """The bytes as base64; empty where the file is elsewhere."""
        import base64

        data = self.data or b""
        if len(data) <= _PIECE_BYTES:
            return base64.b64encode(data).decode()
        starts = range(0, len(data), _PIECE_BYTES)  # in one go it would keep all other threads from running
        return "".join([base64.b64encode(data[start : start + _PIECE_BYTES]).decode() for start in starts])

    def get_text(self) -> str:
        """The text of a text file that is here; empty for any other."""
        return self.data.decode(errors="replace") if self.data is not None and self.kind == "text" else ""


class JsonPart(PartBase):
    """A JSON value inside a tool result."""

    type: Literal["json"] = "json"
    value: JsonValue

    def get_text(self) -> str:
        """The value as compact JSON text."""
        return text_of(self.value)


ResultContent = Annotated[TextPart | JsonPart | FilePart, Field(discriminator="type")]


class ToolResultPart(PartBase):
    """What running a called function gave.

    Attributes:
        call_id: The call it answers.
        name: The function's name (Gemini matches by it).
        content: Text, JSON values or files, in order.
        is_error: Whether the function failed.
    """

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str = ""
    content: FrozenList[ResultContent] = ()
    is_error: bool = False

    @classmethod
    def of(
        cls, call: ToolCallPart, *content: "str | JsonValue | TextPart | JsonPart | FilePart", is_error: bool = False
    ) -> "ToolResultPart":
        """The result of ``call``: texts, files, or any JSON values, in order."""
        parts = tuple(_as_result(item) for item in content)
        return cls(call_id=call.call_id, name=call.name, content=parts, is_error=is_error)

    def get_text(self) -> str:
        """The result's texts, joined."""
        return "".join(part.get_text() for part in self.content)


class RefusalPart(PartBase):
    """The model or its safety layer declines, in words."""

    type: Literal["refusal"] = "refusal"
    text: str

    def get_text(self) -> str:
        """The words of the refusal."""
        return self.text


class HostedToolPart(PartBase):
    """Something the provider ran or reported itself: a search, a code run, or a native block we have no name for.

    Attributes:
        name: The provider's name for the block (``web_search_call``, ``server_tool_use`` …).
        tool: Which tool it belongs to; None where it is none of ours.
        call_id: What ties a call and its result together; None where one block is both.
        input: What the tool was asked (a query, code …); None where the block says nothing of it.
        output: What it gave, as plain JSON; None where the block says nothing of it.
        report: Whether the provider only says something of its answer here, such as why it declined or what it left
            out of the question; no model is told of it again.
    """

    type: Literal["hosted_tool"] = "hosted_tool"
    name: str
    tool: HostedToolType | None = None
    call_id: str | None = None
    input: JsonValue = Field(default=None, repr=False)
    output: JsonValue = Field(default=None, repr=False)
    report: bool = False

    def get_text(self) -> str:
        """Nothing a person would read; ``input``, ``output`` and ``provider_state`` have the block."""
        return ""


Part = Annotated[
    TextPart | ReasoningPart | ToolCallPart | ToolResultPart | FilePart | RefusalPart | HostedToolPart,
    Field(discriminator="type"),
]


def _as_parts(value: object) -> object:
    if isinstance(value, str):
        return (TextPart(text=value),)
    if isinstance(value, Iterable):
        items: Iterable[object] = value  # pyright: ignore[reportUnknownVariableType] - narrowed by pydantic next
        return tuple(TextPart(text=item) if isinstance(item, str) else item for item in items)
    return value


class Message(FrozenModel):
    """One speaker's turn, or a piece of it.

    Attributes:
        role: Who speaks.
        parts: What is said, in order; a plain ``str`` stands for one text part.
        node: The id of the conversation node it comes from; None outside a conversation.
        status: ``interrupted`` where the answer broke off before its end.
        prefix: Hash of everything the model had been shown when it said this; None where nobody needs to know.
    """

    role: Role
    parts: Annotated[FrozenList[Part], BeforeValidator(_as_parts)]
    node: str | None = None
    status: Literal["complete", "interrupted"] = "complete"
    prefix: str | None = None

    def get_text(self) -> str:
        """The texts of this message, joined with nothing between; reasoning and files are not among them."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @classmethod
    def user(cls, *parts: "str | Part") -> "Message":
        """A user message of texts and parts, in order."""
        if len(parts) == 1 and isinstance(parts[0], str):
            return cls.unchecked(role=Role.USER, parts=(_text(parts[0]),), node=None, status="complete", prefix=None)
        return cls(role=Role.USER, parts=_coerced(parts))

    @classmethod
    def assistant(cls, *parts: "str | Part") -> "Message":
        """An assistant message of texts and parts, in order."""
        return cls(role=Role.ASSISTANT, parts=_coerced(parts))

    @classmethod
    def system(cls, text: str) -> "Message":
        """An instruction that stands at its place in the conversation."""
        return cls(role=Role.SYSTEM, parts=(TextPart(text=text),))


def _as_result(item: "JsonValue | TextPart | JsonPart | FilePart") -> "TextPart | JsonPart | FilePart":
    if isinstance(item, TextPart | JsonPart | FilePart):
        return item
    return TextPart(text=item) if isinstance(item, str) else JsonPart(value=item)


def _coerced(parts: "Iterable[str | Part]") -> "tuple[Part, ...]":
    return tuple(_text(part) if isinstance(part, str) else part for part in parts)


def _text(text: str) -> TextPart:
    """A text part; only what is not plain ASCII has to be looked at: a text may hold halves of characters."""
    if not text.isascii() or text.__class__ is not str:
        return TextPart(text=text)
    return TextPart.unchecked(
        origin=None, provider_state=None, status="complete", type="text", text=text, citations=(), logprobs=()
    )


def check_path(path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Look whether a file could be read, without opening it: one of another kind can block who opens it.

    Raises:
        ConfigurationError: As for ``FilePart.from_path``, as far as the file's name and size tell.
    """
    with _path_errors(path):
        check_status(path, path.stat(), max_bytes)


def read_regular(path: Path, max_bytes: int) -> bytes:
    """All of a regular file. Whether it is one is looked at once it is open, so that it cannot be exchanged between."""
    # a pipe that nobody writes to would block who opens it, and a terminal could become the process's own
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_CLOEXEC"))
    with _path_errors(path):
        opened = os.open(path, flags)
        try:
            check_status(path, os.fstat(opened), max_bytes)
            with os.fdopen(opened, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)  # it can grow, and some files do not tell their size
        finally:
            os.close(opened)
    if len(data) > max_bytes:
        raise _too_large(path, len(data), max_bytes)
    return data


@contextmanager
def _path_errors(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as exc:
        raise ConfigurationError(f"cannot read {str(path)!r}: {exc.strerror or exc}") from exc
    except ConfigurationError:
        raise
    except ValueError as exc:  # a NUL in the name
        raise ConfigurationError(f"cannot read {str(path)!r}: it is no path of a file") from exc


def check_status(path: Path, status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = "it is a directory" if stat.S_ISDIR(status.st_mode) else "it is a device, a pipe or a socket"
        raise ConfigurationError(f"cannot read {str(path)!r}: {what}, not a regular file")
    if status.st_size > max_bytes:
        raise _too_large(path, status.st_size, max_bytes)


def _too_large(path: Path, size: int, max_bytes: int) -> ConfigurationError:
    return ConfigurationError(
        f"{str(path)!r} has {size} bytes or more, and max_bytes={max_bytes} is the most: "
        "FilePart.from_path(path, max_bytes=…) reads a larger one"
    )


_MEDIA_TYPE = re.compile(r"[a-z]+/[A-Za-z0-9.+*-]+")
# Object stores besides: a provider reads those of its own cloud.
_PIECE_BYTES = 3 << 18  # three bytes are four letters: pieces of these can be joined
_WEB = ("https://", "http://")
_URL_STARTS = (*_WEB, "gs://", "s3://")


def _made(data: bytes, filename: str | None, called: str, *, declared: str | None) -> FilePart:
    """A file of bytes, checked; ``called`` is what an error calls it."""
    kind = declared
    try:
        kind = settled(data, declared=declared, filename=filename)
        return FilePart(media_type=kind, data=data, filename=filename)
    except ConfigurationError as exc:
        raise ConfigurationError(f"cannot use {called}: {exc}") from exc
    except ValueError as exc:
        raise ConfigurationError(f"cannot use {called} as {kind}: {_reason(exc)}") from exc


def _from_data_url(url: str, media_type: str | None) -> FilePart:
    import base64

    head, comma, payload = url[len("data:") :].partition(",")
    declared, *options = head.split(";")
    if not comma or "base64" not in options:
        raise ConfigurationError("a data URL must have the form data:<media type>;base64,<data>")
    try:
        data = base64.b64decode(payload, validate=True)
    except ValueError as exc:  # binascii.Error, or characters beyond ASCII
        raise ConfigurationError("the data URL's base64 is broken") from exc
    return _made(data, None, "the data URL", declared=media_type or declared or "text/plain")


def _reason(exc: ValueError) -> str:
    """Our own words out of pydantic's wrapping; never the input, which can be a whole file."""
    from pydantic import ValidationError

    if isinstance(exc, ValidationError):
        return "; ".join(error["msg"].removeprefix("FrozenModel error, ") for error in exc.errors(include_input=False))
    return str(exc)
