"""Messages and the parts they are made of: the provider-neutral content of a conversation.

Every part is a frozen value that round-trips through JSON byte for byte. Beside its canonical view it may carry
``provider_state``, what its provider sent and wants echoed, exactly as received: a reasoning signature, an encrypted
item, an unknown native block. That state goes back only to the ``Origin`` it came from; nobody else may see it.
"""

import os
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from dhenara_async.errors import ConfigurationError
from dhenara_async.value import Value

ProviderState = dict[str, JsonValue]

Item = TypeVar("Item")
# Any sequence in, a tuple kept: users write lists, values stay frozen.
FrozenList = Annotated[Sequence[Item], AfterValidator(tuple)]


class Role(StrEnum):
    """Who speaks. ``SYSTEM`` inside a conversation is an instruction at that place; tool results are the user's."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class Origin(Value):
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


class PartBase(Value):
    """What every part carries beside its content.

    Attributes:
        origin: Who made it; None for what the user wrote.
        provider_state: The native form, exactly as received; None where the canonical view says it all.
        status: ``interrupted`` when the stream ended inside this part.
    """

    origin: Origin | None = None
    provider_state: ProviderState | None = Field(default=None, repr=False)
    status: Literal["complete", "interrupted"] = "complete"


class TextPart(PartBase):
    """Words."""

    type: Literal["text"] = "text"
    text: str

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

        Raises:
            ValueError: The model wrote something that is not a JSON object; ``arguments`` has it.
        """
        if not self.arguments.strip():
            return {}
        value = orjson.loads(self.arguments)
        if not isinstance(value, dict):
            raise ValueError(f"the arguments of tool call {self.name!r} are JSON but not an object")
        return value  # pyright: ignore[reportUnknownVariableType] - orjson yields str keys and JSON values


class FilePart(PartBase):
    """A file, by exactly one of its bytes, a URL, or the id it has at its provider.

    Attributes:
        media_type: ``image/png``, ``text/plain`` …
        data: The bytes; base64 in JSON.
        url: Where the provider can fetch it.
        file_id: What its provider's file store calls it.
        filename: For people and for providers that want a name.
    """

    type: Literal["file"] = "file"
    media_type: str = Field(pattern=r"^[a-z]+/[A-Za-z0-9.+*-]+$")
    data: bytes | None = Field(default=None, repr=False)
    url: str | None = None
    file_id: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _check_source(self) -> "FilePart":
        if sum(source is not None for source in (self.data, self.url, self.file_id)) != 1:
            raise ValueError("a FilePart has exactly one of data, url and file_id")
        if self.data is not None:
            _check_bytes(self.data, self.media_type)
        return self

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], *, media_type: str | None = None) -> "FilePart":
        """Read a file from disk.

        Args:
            path: Where it is.
            media_type: What it is; None = told from its name.

        Raises:
            ConfigurationError: It cannot be read, is empty, is not what its type says, or is a text that is not UTF-8.
        """
        from mimetypes import guess_type

        source = Path(path)
        kind = media_type or guess_type(source.name)[0]
        if kind is None:
            raise ConfigurationError(f"cannot tell the media type of {source.name!r}; pass media_type=")
        try:
            data = source.read_bytes()
            return cls(media_type=kind, data=data, filename=source.name)
        except OSError as exc:
            raise ConfigurationError(f"cannot read {str(source)!r}: {exc.strerror or exc}") from exc
        except ValueError as exc:
            raise ConfigurationError(f"cannot use {str(source)!r} as {kind}: {_reason(exc)}") from exc

    @classmethod
    def from_url(cls, url: str, *, media_type: str | None = None) -> "FilePart":
        """A file the provider fetches itself (``https:``), or a ``data:`` URL, which is taken apart here.

        Args:
            url: Where it is.
            media_type: What it is; None = told from the URL's path, ``image/*`` where that does not tell.

        Raises:
            ConfigurationError: Not an http(s) or base64 data URL.
        """
        from mimetypes import guess_type
        from urllib.parse import urlsplit

        if url.startswith("data:"):
            return _from_data_url(url)
        try:
            parts = urlsplit(url)
        except ValueError as exc:
            raise ConfigurationError(f"the file URL is not a URL: {exc}") from exc
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ConfigurationError("a file URL starts with https://, http:// or data:")
        return cls(media_type=media_type or guess_type(parts.path)[0] or "image/*", url=url)

    def get_base64(self) -> str:
        """The bytes as base64; empty where the file is elsewhere."""
        import base64

        return base64.b64encode(self.data or b"").decode()

    def get_text(self) -> str:
        """The text of a text file that is here; empty for any other."""
        return self.data.decode() if self.data is not None and self.media_type.startswith("text/") else ""


class ToolResultPart(PartBase):
    """What running a called function gave.

    Attributes:
        call_id: The call it answers.
        name: The function's name, where known (Gemini matches by it).
        content: Text, JSON text, or files, in order.
        is_error: Whether the function failed.
    """

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str = ""
    content: FrozenList[TextPart | FilePart] = ()
    is_error: bool = False

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
        name: The provider's name for it (``web_search_call``, ``server_tool_use`` …).
    """

    type: Literal["hosted_tool"] = "hosted_tool"
    name: str

    def get_text(self) -> str:
        """Nothing a person would read; ``provider_state`` has the block."""
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


class Message(Value):
    """One speaker's turn, or a piece of it.

    Attributes:
        role: Who speaks.
        parts: What is said, in order; a plain ``str`` stands for one text part.
        node: The id of the conversation node it comes from; None outside a conversation.
    """

    role: Role
    parts: Annotated[FrozenList[Part], BeforeValidator(_as_parts)]
    node: str | None = None

    def get_text(self) -> str:
        """The texts of this message, joined with nothing between; reasoning and files are not among them."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @classmethod
    def user(cls, *parts: "str | Part") -> "Message":
        """A user message of texts and parts, in order."""
        return cls(role=Role.USER, parts=_coerced(parts))

    @classmethod
    def assistant(cls, *parts: "str | Part") -> "Message":
        """An assistant message of texts and parts, in order."""
        return cls(role=Role.ASSISTANT, parts=_coerced(parts))

    @classmethod
    def system(cls, text: str) -> "Message":
        """An instruction that stands at its place in the conversation."""
        return cls(role=Role.SYSTEM, parts=(TextPart(text=text),))


def _coerced(parts: "Iterable[str | Part]") -> "tuple[Part, ...]":
    return tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)


_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF-",),
}


def _check_bytes(data: bytes, media_type: str) -> None:
    """Refuse what every provider would refuse, while nothing is sent yet."""
    if not data:
        raise ValueError("the file is empty")
    signatures = _SIGNATURES.get(media_type)
    if signatures and not data.startswith(signatures):
        raise ValueError(f"the bytes are not {media_type}")
    if media_type.startswith("text/"):
        try:
            data.decode()
        except UnicodeDecodeError as exc:
            raise ValueError(f"a text file must be UTF-8; byte {exc.start} is not") from exc


def _from_data_url(url: str) -> FilePart:
    import base64
    import binascii

    head, comma, payload = url[len("data:") :].partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options:
        raise ConfigurationError("a data URL must have the form data:<media type>;base64,<data>")
    try:
        return FilePart(media_type=media_type or "text/plain", data=base64.b64decode(payload, validate=True))
    except binascii.Error as exc:
        raise ConfigurationError("the data URL's base64 is broken") from exc
    except ValueError as exc:
        raise ConfigurationError(f"cannot use the data URL as {media_type}: {_reason(exc)}") from exc


def _reason(exc: ValueError) -> str:
    """Our own words out of pydantic's wrapping; never the input, which can be a whole file."""
    from pydantic import ValidationError

    if isinstance(exc, ValidationError):
        return "; ".join(error["msg"].removeprefix("Value error, ") for error in exc.errors(include_input=False))
    return str(exc)
