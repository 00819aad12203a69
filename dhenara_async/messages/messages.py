"""Messages and the parts they are made of: the provider-neutral content of a conversation.

Every part is a frozen value that round-trips through JSON byte for byte. Besides its provider-neutral fields it may
carry ``provider_state``: data that the provider wants echoed, exactly as received, such as a reasoning signature, an
encrypted item or an unknown native block. That state is sent back only to the ``Origin`` it came from.
"""

import os
import re
import stat
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo, model_validator

from dhenara_async.errors import ConfigurationError, ToolArgumentsError
from dhenara_async.framing.lenient_json import read, text_of
from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.media import (
    ANY_IMAGE,
    FileKind,
    by_extension,
    check_signature,
    kind_of,
    normalized,
    settled,
)
from dhenara_async.tools.declarations import HostedToolType

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Default maximum bytes of a file read from disk; ``FilePart.from_path(max_bytes=…)`` overrides it."""

ProviderState = dict[str, JsonValue]

Item = TypeVar("Item")
# Accepts any sequence and stores a tuple, so that callers may pass lists and values stay frozen.
FrozenList = Annotated[Sequence[Item], AfterValidator(tuple)]


class Role(StrEnum):
    """The author of a message. ``SYSTEM`` inside a conversation is an instruction at that place; tool results have the
    role ``USER``.
    """

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class Origin(FrozenModel):
    """The endpoint that made a part. Opaque state is sent back only to an equal origin.

    Attributes:
        provider: ``AIModelAPIProviderEnum`` value.
        dialect: ``Dialect`` value.
        endpoint: The host, without path or credentials.
        account: Keyed hash of the credential; None if the call had none.
        model: The requested model id.
        served_model: The reported model id, which can differ because aliases move; None if not reported.
    """

    provider: str
    dialect: str
    endpoint: str
    account: str | None
    model: str
    served_model: str | None = None

    def same_account(self, other: "Origin") -> bool:
        """Whether ``other`` has the same API, host and account (the model may differ)."""
        return (self.provider, self.dialect, self.endpoint, self.account) == (
            other.provider,
            other.dialect,
            other.endpoint,
            other.account,
        )

    def same_model(self, other: "Origin") -> bool:
        """Whether ``other`` has the same account and the same requested model."""
        return self.same_account(other) and self.model == other.model


class PartBase(FrozenModel):
    """The fields that all parts share.

    Attributes:
        origin: The endpoint that made the part; None for the user's own parts.
        provider_state: The provider's native data, exactly as received; None if the other fields are complete.
        status: ``interrupted`` if the stream ended inside this part.
    """

    origin: Origin | None = None
    provider_state: ProviderState | None = Field(default=None, repr=False)
    status: Literal["complete", "interrupted"] = "complete"


class Citation(FrozenModel):
    """A source of a passage in an answer's text.

    Attributes:
        url: The source's URL; None if it has none.
        title: The source's title; None if not reported.
        cited_text: The quoted text of the source; None if not reported.
        file_id: The provider's id of the source file; None if the source is not a file.
        start: Start of the passage in the answer's text, in characters; None if not reported.
        end: End of the passage, exclusive; None if not reported.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    file_id: str | None = None
    start: int | None = None
    end: int | None = None


class TokenLogprob(FrozenModel):
    """The log probability of a token.

    Attributes:
        token: The token's text.
        logprob: Natural logarithm of the token's probability.
        top: The likeliest tokens at this position with their log probabilities, likeliest first; empty if not
            requested.
    """

    token: str
    logprob: float
    top: FrozenList[tuple[str, float]] = ()


class TextPart(PartBase):
    """A text.

    Attributes:
        text: The text.
        citations: The text's sources, in the provider's order.
        logprobs: The log probability of each token; empty unless requested.
    """

    type: Literal["text"] = "text"
    text: str
    citations: FrozenList[Citation] = ()
    logprobs: FrozenList[TokenLogprob] = ()

    def get_text(self) -> str:
        """Return the text."""
        return self.text


class ReasoningPart(PartBase):
    """The model's visible reasoning; ``text`` may be empty although there is ``provider_state``."""

    type: Literal["reasoning"] = "reasoning"
    text: str = ""

    def get_text(self) -> str:
        """Return the visible reasoning; empty if there is only opaque state."""
        return self.text


def _is_false(value: object) -> bool:
    return value is False


class ToolCallPart(PartBase):
    """A model's request to run a function.

    Attributes:
        call_id: The provider's id of this call, which its result refers to; empty if the provider sent none.
        name: The function's name.
        arguments: The arguments as JSON text, exactly as received; may be invalid JSON.
        hosted: Whether the provider runs it, on an MCP server that it calls, once it is approved: such calls come from
            ``ChatResponse.approvals``. JSON has it only where it is true.
    """

    type: Literal["tool_call"] = "tool_call"
    call_id: str
    name: str
    arguments: str = ""
    hosted: bool = Field(default=False, exclude_if=_is_false)

    def get_text(self) -> str:
        """Return the call in readable form: ``name(arguments)``."""
        return f"{self.name}({self.arguments})"

    def parsed(self) -> dict[str, JsonValue]:
        """Parse the arguments to a dict; ``{}`` if they are blank.

        Integers of any size are exact. ``NaN`` and ``Infinity`` become None, and lone surrogates become U+FFFD.

        Raises:
            ToolArgumentsError: The arguments are not a JSON object.
        """
        if not self.arguments.strip():
            return {}
        try:
            value = read(self.arguments)
        except ValueError as exc:
            words = f"the arguments of tool call {self.name!r} are not JSON: {exc}"
            raise ToolArgumentsError(words, name=self.name) from exc
        if not isinstance(value, dict):
            words = f"the arguments of tool call {self.name!r} are JSON but not an object"
            raise ToolArgumentsError(words, name=self.name)
        return cast("dict[str, JsonValue]", value)


class FileContents(dict[bytes | None, bytes]):
    """The contents of files by the few bytes that stand for each of them in a JSON: the context of its validation."""


class FilePart(PartBase):
    """A file, given by exactly one of its bytes, a URL, or its id at a provider.

    A provider's file is kept as received; a user's file is validated on construction.

    Attributes:
        media_type: ``image/png``, ``text/plain`` …; ``image/*`` for an image of unknown format.
        data: The bytes; base64 in JSON.
        url: The URL for the provider, or for the library, to fetch the file from.
        file_id: The file's id in its provider's file store.
        filename: The file's name, for people and for providers that require one.
    """

    type: Literal["file"] = "file"
    media_type: str
    data: bytes | None = Field(default=None, repr=False)
    url: str | None = None
    file_id: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> "FilePart":
        if isinstance(info.context, FileContents) and self.data in info.context:
            return self.changed(data=info.context[self.data])  # it was checked when it was built
        if sum(source is not None for source in (self.data, self.url, self.file_id)) != 1:
            raise ValueError("a FilePart has exactly one of data, url and file_id")
        if self.origin is not None:
            return self  # a provider's file is kept even if its content does not match its media type
        if _MEDIA_TYPE.fullmatch(self.media_type) is None:
            raise ValueError("media_type does not follow the pattern type/subtype, in lower case")
        if self.data is not None:
            check_signature(self.data, self.media_type)
        if self.url is not None and not self.url.lower().startswith(_URL_STARTS):
            raise ValueError("a file URL starts with https:// or http://; FilePart.from_url takes data: URLs apart")
        return self

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str | None = None, filename: str | None = None) -> "FilePart":
        """Build a file from its bytes.

        Args:
            data: The whole file.
            media_type: The media type; None = detected from the bytes, then from ``filename``.
            filename: The file's name.

        Raises:
            ConfigurationError: The file is empty, contradicts ``media_type``, is a text but not UTF-8, or its media
                type cannot be detected.
        """
        return _checked_file(data, filename, "the file" if filename is None else repr(filename), declared=media_type)

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], *, media_type: str | None = None, max_bytes: int = MAX_FILE_BYTES
    ) -> "FilePart":
        """Read a file from disk, blocking; in a coroutine, pass its ``pathlib.Path`` to ``files=`` instead.

        Args:
            path: The file's path. Never build a path from user input.
            media_type: The media type; None = detected from the bytes, then from the name.
            max_bytes: Maximum size in bytes.

        Raises:
            ConfigurationError: As for ``from_bytes``, or the file cannot be read, is not a regular file (a directory,
                a pipe, a device), or is larger than ``max_bytes``.
        """
        source = Path(path)
        return _checked_file(read_regular(source, max_bytes), source.name, repr(str(source)), declared=media_type)

    @classmethod
    def from_url(cls, url: str, *, media_type: str | None = None) -> "FilePart":
        """Build a file from an ``https:`` URL, or from a ``data:`` URL, which is decoded here.

        The provider fetches the URL if it can; otherwise the library downloads it during the call, by the rules of
        ``FetchPolicy``.

        Args:
            url: The URL.
            media_type: The media type; None = by the extension in the URL's path, else ``image/*``.

        Raises:
            ConfigurationError: It is neither an http(s) URL nor a base64 data URL.
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
            kind = normalized(media_type or by_extension(unquote(parts.path)) or ANY_IMAGE)
            return cls.model_validate({"media_type": kind, "url": url})
        except ValueError as exc:
            raise ConfigurationError(f"cannot use the file URL as {media_type}: {_reason(exc)}") from exc

    @property
    def kind(self) -> FileKind:
        """The kind of file: ``image``, ``pdf``, ``text``, ``audio``, ``video`` or ``other``."""
        return kind_of(self.media_type)

    @property
    def is_stored(self) -> bool:
        """Whether it lies in a store with access control: a provider's file id or a cloud bucket's URL."""
        return self.file_id is not None or (self.url is not None and not self.url.lower().startswith(_WEB))

    @property
    def size(self) -> int | None:
        """The size in bytes; None if the bytes are not in memory."""
        return None if self.data is None else len(self.data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bytes to ``path``, replacing an existing file, and return the path; ``filename`` is not used.

        Raises:
            ConfigurationError: The bytes are not in memory, or ``path`` cannot be written.
        """
        target = Path(path)
        if self.data is None:
            raise ConfigurationError("cannot save a file that is only a URL or a provider's file id: download it first")
        try:
            target.write_bytes(self.data)
        except OSError as exc:
            raise ConfigurationError(f"cannot write {str(target)!r}: {exc.strerror or exc}") from exc
        return target

    def get_base64(self) -> str:
        """Return the bytes as base64; empty if the bytes are not in memory."""
        import base64

        data = self.data or b""
        if len(data) <= _PIECE_BYTES:
            return base64.b64encode(data).decode()
        starts = range(0, len(data), _PIECE_BYTES)  # one large encoding would block all other threads
        return "".join([base64.b64encode(data[start : start + _PIECE_BYTES]).decode() for start in starts])

    def get_text(self) -> str:
        """Return the text of a text file in memory; empty for any other file."""
        return self.data.decode(errors="replace") if self.data is not None and self.kind == "text" else ""


class JsonPart(PartBase):
    """A JSON value in a tool result."""

    type: Literal["json"] = "json"
    value: JsonValue

    def get_text(self) -> str:
        """Return the value as compact JSON text."""
        return text_of(self.value)


ResultContent = Annotated[TextPart | JsonPart | FilePart, Field(discriminator="type")]


class ToolOrigin(FrozenModel):
    """The tool of a server that a result comes from.

    Attributes:
        server: The name of the server.
        tool: The server's own name of the tool.
        definition: Hash of the definition that the tool had.
        protocol: Version of the protocol that was spoken; None if the server was not reached.
    """

    server: str
    tool: str
    definition: str
    protocol: str | None = None


def _is_none(value: object) -> bool:
    return value is None


class ToolResultPart(PartBase):
    """The result of a tool call.

    Attributes:
        call_id: The id of the call.
        name: The function's name (Gemini matches results by name).
        content: Texts, JSON values or files, in order.
        is_error: Whether the function failed.
        denied: Whether the call was not allowed, so that nothing ran; the content says why. JSON has it only where it
            is true.
        tool: The tool of a server that ran; None for functions of this program. JSON has it only where there is one.
    """

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str = ""
    content: FrozenList[ResultContent] = ()
    is_error: bool = False
    denied: bool = Field(default=False, exclude_if=_is_false)
    tool: ToolOrigin | None = Field(default=None, exclude_if=_is_none)

    @classmethod
    def of(
        cls, call: ToolCallPart, *content: "str | JsonValue | TextPart | JsonPart | FilePart", is_error: bool = False
    ) -> "ToolResultPart":
        """Build the result of ``call`` from texts, files, or any JSON values, in order."""
        parts = tuple(_as_result(item) for item in content)
        return cls(call_id=call.call_id, name=call.name, content=parts, is_error=is_error)

    def get_text(self) -> str:
        """Return the texts of all content parts, joined without separator."""
        return "".join(part.get_text() for part in self.content)


class RefusalPart(PartBase):
    """A refusal by the model or its safety layer."""

    type: Literal["refusal"] = "refusal"
    text: str

    def get_text(self) -> str:
        """Return the text of the refusal."""
        return self.text


class HostedToolPart(PartBase):
    """A block from a tool that the provider ran itself (a search, a code run), or an unknown native block.

    Attributes:
        name: The provider's name of the block (``web_search_call``, ``server_tool_use`` …).
        tool: The hosted tool; None if this library has no name for it.
        call_id: The id shared by a call and its result; None if one block is both.
        input: The tool's input (a query, code …); None if the block has none.
        output: The tool's output, as plain JSON; None if the block has none.
        report: Whether the block is only a remark on the answer, such as a reason for declining; it is never sent back
            to a model.
        needs_approval: Whether the provider asks if it may run the call of ``requested_call``. JSON has it only where
            it is true.
    """

    type: Literal["hosted_tool"] = "hosted_tool"
    name: str
    tool: HostedToolType | None = None
    call_id: str | None = None
    input: JsonValue = Field(default=None, repr=False)
    output: JsonValue = Field(default=None, repr=False)
    report: bool = False
    needs_approval: bool = Field(default=False, exclude_if=_is_false)

    def requested_call(self) -> ToolCallPart | None:
        """Return the call that the provider asks about, named ``server__tool``; None if it does not ask."""
        if not self.needs_approval or not self.call_id or not isinstance(self.input, dict):
            return None
        server, tool, arguments = (self.input.get(key) for key in ("server_label", "name", "arguments"))
        return ToolCallPart(
            call_id=self.call_id,
            name="__".join(filter(None, (server if isinstance(server, str) else "", str(tool or "")))),
            arguments=arguments if isinstance(arguments, str) else "" if arguments is None else text_of(arguments),
            hosted=True,
            origin=self.origin,
        )

    def get_text(self) -> str:
        """Return an empty text; ``input``, ``output`` and ``provider_state`` hold the block."""
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
    """A message of one author.

    Attributes:
        role: The author.
        parts: The content, in order; a plain ``str`` becomes one text part.
        node: The id of its conversation node; None outside a conversation.
        status: ``interrupted`` if the answer is not complete.
        prefix: Hash of everything the model was shown before this answer, for models that accept reasoning back only
            behind the same prefix; else None.
    """

    role: Role
    parts: Annotated[FrozenList[Part], BeforeValidator(_as_parts)]
    node: str | None = None
    status: Literal["complete", "interrupted"] = "complete"
    prefix: str | None = None

    def get_text(self) -> str:
        """Return the text parts, joined without separator; reasoning and files are left out."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @classmethod
    def user(cls, *parts: "str | Part") -> "Message":
        """Build a user message from texts and parts, in order."""
        if len(parts) == 1 and isinstance(parts[0], str):
            return cls.unchecked(role=Role.USER, parts=(_text(parts[0]),), node=None, status="complete", prefix=None)
        return cls(role=Role.USER, parts=_coerced(parts))

    @classmethod
    def assistant(cls, *parts: "str | Part") -> "Message":
        """Build an assistant message from texts and parts, in order."""
        return cls(role=Role.ASSISTANT, parts=_coerced(parts))

    @classmethod
    def system(cls, text: str) -> "Message":
        """Build a system message: an instruction at its place in the conversation."""
        return cls(role=Role.SYSTEM, parts=(TextPart(text=text),))


MessageLike = Message | Mapping[str, object]
"""A message, or the dict of one in the shape of OpenAI's or Anthropic's API."""

Prompt = str | MessageLike | Sequence[str | Part]
"""A question: a text, a message, or the texts, files and other parts of a message, in order."""


def _as_result(item: "JsonValue | TextPart | JsonPart | FilePart") -> "TextPart | JsonPart | FilePart":
    if isinstance(item, TextPart | JsonPart | FilePart):
        return item
    return TextPart(text=item) if isinstance(item, str) else JsonPart(value=item)


def _coerced(parts: "Iterable[str | Part]") -> "tuple[Part, ...]":
    return tuple(_text(part) if isinstance(part, str) else part for part in parts)


def _text(text: str) -> TextPart:
    """Build a text part; only non-ASCII text needs validation, because it may contain lone surrogates."""
    if not text.isascii() or text.__class__ is not str:
        return TextPart(text=text)
    return TextPart.unchecked(
        origin=None, provider_state=None, status="complete", type="text", text=text, citations=(), logprobs=()
    )


def check_path(path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Check by its status whether a file can be read, without opening it: opening a pipe or a device can block.

    Raises:
        ConfigurationError: It is missing, is not a regular file, or is larger than ``max_bytes``.
    """
    with _path_errors(path):
        check_status(path, path.stat(), max_bytes)


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file. Its kind is checked after opening, so that it cannot be replaced in between."""
    # opening a pipe without a writer would block, and a terminal could become the process's controlling terminal
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_CLOEXEC"))
    with _path_errors(path):
        opened = os.open(path, flags)
        try:
            check_status(path, os.fstat(opened), max_bytes)
            with os.fdopen(opened, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)  # the file can grow, and some files report no size
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
        raise ConfigurationError(f"cannot read {str(path)!r}: it is not a valid path") from exc


def check_status(path: Path, status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "it is a directory" if stat.S_ISDIR(status.st_mode) else "it is a device, a pipe or a socket"
        raise ConfigurationError(f"cannot read {str(path)!r}: {kind}, not a regular file")
    if status.st_size > max_bytes:
        raise _too_large(path, status.st_size, max_bytes)


def _too_large(path: Path, size: int, max_bytes: int) -> ConfigurationError:
    return ConfigurationError(
        f"{str(path)!r} has {size} bytes or more, and max_bytes={max_bytes} is the most: "
        "FilePart.from_path(path, max_bytes=…) reads a larger one"
    )


_MEDIA_TYPE = re.compile(r"[a-z]+/[A-Za-z0-9.+*-]+")
_PIECE_BYTES = 3 << 18  # a multiple of three, so that the base64 texts of pieces can be joined
_WEB = ("https://", "http://")
_URL_STARTS = (*_WEB, "gs://", "s3://")  # providers read the object stores of their own cloud


def _checked_file(data: bytes, filename: str | None, called: str, *, declared: str | None) -> FilePart:
    """Build and check a file from its bytes; ``called`` names it in errors."""
    kind = declared
    try:
        kind = settled(data, declared=declared, filename=filename)
        return FilePart.model_validate({"media_type": kind, "data": data, "filename": filename})
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
    return _checked_file(data, None, "the data URL", declared=media_type or declared or "text/plain")


def _reason(exc: ValueError) -> str:
    """Return the messages of a pydantic error, without the input, which can be a whole file."""
    from pydantic import ValidationError

    if isinstance(exc, ValidationError):
        return "; ".join(error["msg"].removeprefix("Value error, ") for error in exc.errors(include_input=False))
    return str(exc)
