"""Encodes messages and their parts as content blocks of the Messages API.

Content that this API produced goes back unchanged: signed thinking, hosted tools with their results, citations. Only
blocks and keys on the allow-lists of ``native`` are sent, and a part's own text, name and arguments take precedence
over its state.

Source: https://docs.anthropic.com/en/api/messages and the types of the ``anthropic`` package 2.12 (read 2026-11-22)
"""

import re
from collections.abc import Iterable

import orjson

from dhenara_async.config import AIModelCallConfig
from dhenara_async.drivers.anthropic_messages.native import BLOCKS, vetted
from dhenara_async.drivers.base import JsonObject, takes
from dhenara_async.drivers.rules import CallIds, Place, Rules, url_scheme
from dhenara_async.endpoint import AIModel
from dhenara_async.errors import UnsupportedError
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.models.families import capabilities
from dhenara_async.tools.declarations import Tool
from dhenara_async.tools.schemas import output_schema

# Metadata of an answer: kept with it, never sent back as a block.
REPORTS = ("stop_details", "container", "context_management", "input_transformations")

FILES_BETA = "files-api-2025-04-14"
NO_OUTPUT = "(no output)"

# The API recognizes ids of its own tools by their prefix, and accepts them for those tools alone.
_CALL_IDS = CallIds(re.compile(r"(?!srvtoolu_)[a-zA-Z0-9_-]{1,64}"))

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
_TEXTS = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml"}
)


def answer_tool(config: AIModelCallConfig) -> str | None:
    """Return the name of the tool that carries the structured answer of a model without native support; None if no
    structured answer is requested. Derived from the schema's name, and different from every tool of the caller."""
    schema = output_schema(config)
    if schema is None:
        return None
    taken = {tool.name for tool in config.tools if isinstance(tool, Tool)}
    name = schema.name
    while name in taken:
        name = f"{name[:63]}_" if len(name) < 64 else f"{name[:-1]}{'_' if name[-1] != '_' else '-'}"
    return name


def rules(model: AIModel) -> Rules:
    """Return the demands of the Messages API on a history for ``model``."""
    can, content = capabilities(model), ContentEncoder(model.model_name)
    return Rules(
        alternates=True,
        system_inside=False,
        prefill=can.prefill,
        ragged_prefill=False,
        call_ids=_CALL_IDS,
        object_arguments=True,
        error_flag=True,
        files=content.takes,
        fetches=_fetches,
        citations=True,
        hosted=_is_block,
        hosted_pairs=True,
        reasoning_back="model",
        replayable=_is_signed,
        bound_to_prefix=can.prefix_bound,
        vet=vetted,
    )


def _fetches(part: FilePart) -> bool:
    return part.kind in ("image", "pdf") and url_scheme(part) == "https"


def _is_signed(part: ReasoningPart) -> bool:
    """Whether thinking has a signature or is encrypted; the API refuses any other."""
    state = part.provider_state or {}
    match state.get("type"):
        case "thinking":
            return bool(state.get("signature"))
        case "redacted_thinking":
            return bool(state.get("data"))
        case _:
            return False


def _is_block(part: HostedToolPart) -> bool:
    """Whether the API has a block type for a hosted part."""
    return (part.provider_state or {}).get("type") in BLOCKS and part.name not in REPORTS


class ContentEncoder:
    """Encodes the messages of one request.

    Args:
        model: The id of the model, for error messages.

    Attributes:
        betas: The beta features that the encoded content needs.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.betas: set[str] = set()

    def messages(self, messages: Iterable[Message]) -> list[JsonObject]:
        """Encode messages, oldest first, that are legal for the model."""
        return [self._message(message) for message in messages]

    def _message(self, message: Message) -> JsonObject:
        match message.role:
            case Role.ASSISTANT:
                return {"role": "assistant", "content": [self._assistant(part) for part in message.parts]}
            case Role.USER:
                return {"role": "user", "content": [self._user(part) for part in message.parts]}
            case Role.SYSTEM:
                raise UnsupportedError(f"{self._model}: no system message may stand inside the conversation")

    # ------------------------------------------------------------------------------------------------ what was answered

    def _assistant(self, part: Part) -> JsonObject:
        match part:
            case TextPart():
                return self._text(part)
            case ReasoningPart():
                return self._thinking(part)
            case ToolCallPart():
                return self._call(part)
            case HostedToolPart():
                return self._hosted(part)
            case _:
                raise self._cannot(part, "in an assistant message")

    def _text(self, part: TextPart) -> JsonObject:
        """Encode a text with its citations. A text that came as a call of the answer tool has no citations."""
        native = _sendable_state(part)
        return {"type": "text", "text": part.text, **(native if native.get("type") == "text" else {})}

    def _thinking(self, part: ReasoningPart) -> JsonObject:
        """Encode signed thinking unchanged, also without text."""
        native = _sendable_state(part)
        if not native or not _is_signed(part):
            raise self._cannot(part, "that nobody signed")
        shown = native.get("type") == "thinking"
        return {"type": "thinking", "thinking": part.text, **native} if shown else native

    def _call(self, part: ToolCallPart) -> JsonObject:
        extra = {key: value for key, value in _sendable_state(part).items() if key != "type"}
        return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": self._arguments(part), **extra}

    def _arguments(self, part: ToolCallPart) -> object:
        """Return the arguments as an object, byte for byte."""
        if not part.arguments.strip():
            return {}
        try:
            value = part.parsed()
        except ValueError as exc:
            raise self._cannot(part, f"whose arguments are not an object: {exc}") from exc
        try:
            orjson.loads(part.arguments)  # a fragment is not parsed: invalid JSON would break the whole body
        except orjson.JSONDecodeError:
            return value
        return orjson.Fragment(part.arguments)

    def _hosted(self, part: HostedToolPart) -> JsonObject:
        block = _sendable_state(part)
        if not block or not _is_block(part):
            raise self._cannot(part, f"({part.name}) that it did not produce")
        return block

    # ------------------------------------------------------------------------------------------------ what was asked

    def _user(self, part: Part) -> JsonObject:
        match part:
            case TextPart():
                return {"type": "text", "text": part.text}
            case FilePart():
                return self._file(part)
            case ToolResultPart():
                return self._result(part)
            case _:
                raise self._cannot(part, "in a user message")

    def _result(self, part: ToolResultPart) -> JsonObject:
        blocks: list[JsonObject] = []
        for item in part.content:
            match item:
                case FilePart():
                    blocks.append(self._inside(item))
                case TextPart() | JsonPart():
                    blocks += _result_text(item.get_text())
        result: JsonObject = {"type": "tool_result", "tool_use_id": part.call_id, "content": blocks or NO_OUTPUT}
        if len(blocks) == 1 and blocks[0]["type"] == "text":
            result["content"] = blocks[0]["text"]
        if part.is_error:
            result["is_error"] = True
        return result

    def takes(self, part: FilePart, place: Place) -> bool:
        """Whether a file can be sent. A file for the code tool cannot be inside a tool result."""
        return takes(lambda file: self._inside(file) if place == "result" else self._file(file), part)

    def _inside(self, part: FilePart) -> JsonObject:
        block = self._file(part)
        if block["type"] == "container_upload":
            raise self._cannot(part, f"of type {part.media_type} inside a tool's result")
        return block

    def _file(self, part: FilePart) -> JsonObject:
        if part.file_id is not None:
            return self._stored(part, part.file_id)
        if part.kind == "image":
            return {"type": "image", "source": self._image_source(part)}
        return _document(self._document_source(part), part)

    def _stored(self, part: FilePart, file_id: str) -> JsonObject:
        """Encode a file in the provider's file store. A file that the model cannot read is passed to the code tool."""
        source: JsonObject = {"type": "file", "file_id": file_id}
        self.betas.add(FILES_BETA)
        match part.kind:
            case "image":
                return {"type": "image", "source": source}
            case "pdf":
                return _document(source, part)
            case "text" if part.media_type == "text/plain":
                return _document(source, part)
            case "text" | "other":
                return {"type": "container_upload", "file_id": file_id}
            case "audio" | "video":
                raise self._cannot(part, f"of type {part.media_type}")

    def _image_source(self, part: FilePart) -> JsonObject:
        if part.url is not None:
            return {"type": "url", "url": part.url}
        if part.media_type not in _IMAGE_TYPES:
            raise UnsupportedError(f"{self._model} takes {', '.join(sorted(_IMAGE_TYPES))}, not {part.media_type}")
        return {"type": "base64", "media_type": part.media_type, "data": part.get_base64()}

    def _document_source(self, part: FilePart) -> JsonObject:
        if part.kind == "pdf" and part.url is not None:
            return {"type": "url", "url": part.url}
        if part.kind == "pdf":
            return {"type": "base64", "media_type": "application/pdf", "data": part.get_base64()}
        if part.kind != "text" or part.data is None:
            raise self._cannot(part, f"of type {part.media_type} {'by URL' if part.data is None else 'by its bytes'}")
        try:
            return {"type": "text", "media_type": "text/plain", "data": part.data.decode()}
        except UnicodeDecodeError as exc:
            raise self._cannot(part, f"of type {part.media_type} that is not UTF-8") from exc

    def _cannot(self, part: Part, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self._model}: the Messages API cannot be sent a part of type {part.type!r} {what}")


def _sendable_state(part: Part) -> JsonObject:
    """Return the fields of the part's state that may be sent; empty if there are none."""
    return {**(vetted(part).state or {})} if part.provider_state else {}


def _result_text(text: str) -> list[JsonObject]:
    """Encode a text of a tool result; no block for blank text, which the API refuses, so that a result of blank texts
    is empty."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _document(source: JsonObject, part: FilePart) -> JsonObject:
    document: JsonObject = {"type": "document", "source": source}
    if part.filename:
        document["title"] = part.filename
    return document
