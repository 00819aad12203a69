"""Messages and their parts as the content blocks of the Messages API.

What this API made itself goes back exactly as it came: signed thinking, hosted tools with their results, citations.
Only blocks and keys that are on its lists are sent (``anthropic_messages_native``), and a part's own words, names and
arguments always stand before what its state says.

Source: https://docs.anthropic.com/en/api/messages and the types of the ``anthropic`` package 2.12 (read 2026-11-22)
"""

import re
from collections.abc import Iterable

import orjson

from dhenara_async.config import AIModelCallConfig
from dhenara_async.drivers.anthropic_messages.native import BLOCKS, vetted
from dhenara_async.drivers.base import JsonObject, takes
from dhenara_async.drivers.rules import CallIds, Place, Rules
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

# What an answer says of itself rather than to the reader: kept with it, never sent back as a block.
REPORTS = ("stop_details", "container", "context_management", "input_transformations")

FILES_BETA = "files-api-2025-04-14"
NO_OUTPUT = "(no output)"

# Ids of the API's own tools are told by how they begin, and belong to those alone.
_CALL_IDS = CallIds(re.compile(r"(?!srvtoolu_)[a-zA-Z0-9_-]{1,64}"))

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
_TEXTS = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml"}
)


def answer_tool(config: AIModelCallConfig) -> str | None:
    """The name of the tool that carries a structured answer of models that have no better way; None if none is asked
    for. It is the schema's name, made different from every tool of the caller's."""
    schema = output_schema(config)
    if schema is None:
        return None
    taken = {tool.name for tool in config.tools if isinstance(tool, Tool)}
    name = schema.name
    while name in taken:
        name = f"{name[:63]}_" if len(name) < 64 else f"{name[:-1]}{'_' if name[-1] != '_' else '-'}"
    return name


def rules(model: AIModel) -> Rules:
    """What the Messages API demands of a history for ``model``."""
    can, content = capabilities(model), Content(model.model_name)
    return Rules(
        alternates=True,
        system_inside=False,
        prefill=can.prefill,
        ragged_prefill=False,
        call_ids=_CALL_IDS,
        object_arguments=True,
        error_flag=True,
        files=content.takes,
        citations=True,
        hosted=_is_block,
        hosted_pairs=True,
        reasoning_back="model",
        replayable=_is_signed,
        bound_to_prefix=can.prefix_bound,
        vet=vetted,
    )


def _is_signed(part: ReasoningPart) -> bool:
    """Whether thinking came with its signature, or encrypted altogether; any other would only be refused."""
    state = part.provider_state or {}
    match state.get("type"):
        case "thinking":
            return bool(state.get("signature"))
        case "redacted_thinking":
            return bool(state.get("data"))
        case _:
            return False


def _is_block(part: HostedToolPart) -> bool:
    """Whether the API has a block of its own for what it ran."""
    return (part.provider_state or {}).get("type") in BLOCKS and part.name not in REPORTS


class Content:
    """Encodes the messages of one request.

    Args:
        model: The id of the model that is asked; it is named where something cannot be sent.

    Attributes:
        betas: The beta features that what was encoded needs.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.betas: set[str] = set()

    def messages(self, messages: Iterable[Message]) -> list[JsonObject]:
        """The messages, oldest first, which are legal for the model already."""
        return [self._message(message) for message in messages]

    def _message(self, message: Message) -> JsonObject:
        match message.role:
            case Role.ASSISTANT:
                return {"role": "assistant", "content": [self._assistant(part) for part in message.parts]}
            case Role.USER:
                return {"role": "user", "content": [self._user(part) for part in message.parts]}
            case Role.SYSTEM:
                raise UnsupportedError(f"{self._model}: no system message is sent inside the conversation")

    # ------------------------------------------------------------------------------------------------ what was answered

    def _assistant(self, part: Part) -> JsonObject:
        match part:
            case TextPart():
                return self._said(part)
            case ReasoningPart():
                return self._thinking(part)
            case ToolCallPart():
                return self._call(part)
            case HostedToolPart():
                return self._hosted(part)
            case _:
                raise self._cannot(part, "in what the model said")

    def _said(self, part: TextPart) -> JsonObject:
        """A text with its sources; what came as the call of a tool of ours is no block of text and brings none."""
        native = _own(part)
        return {"type": "text", "text": part.text, **(native if native.get("type") == "text" else {})}

    def _thinking(self, part: ReasoningPart) -> JsonObject:
        """Signed thinking as it came, also without text."""
        native = _own(part)
        if not native or not _is_signed(part):
            raise self._cannot(part, "that nobody signed")
        shown = native.get("type") == "thinking"
        return {"type": "thinking", "thinking": part.text, **native} if shown else native

    def _call(self, part: ToolCallPart) -> JsonObject:
        extra = {key: value for key, value in _own(part).items() if key != "type"}
        return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": self._arguments(part), **extra}

    def _arguments(self, part: ToolCallPart) -> object:
        """The arguments byte for byte, as the object that they are."""
        if not part.arguments.strip():
            return {}
        try:
            value = part.parsed()
        except ValueError as exc:
            raise self._cannot(part, f"with other arguments than an object: {exc}") from exc
        try:
            orjson.loads(part.arguments)  # a fragment is written unread: what is no JSON would break the whole body
        except orjson.JSONDecodeError:
            return value
        return orjson.Fragment(part.arguments)

    def _hosted(self, part: HostedToolPart) -> JsonObject:
        block = _own(part)
        if not block or not _is_block(part):
            raise self._cannot(part, f"({part.name}) that it did not make")
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
                raise self._cannot(part, "in what the user said")

    def _result(self, part: ToolResultPart) -> JsonObject:
        blocks: list[JsonObject] = []
        for item in part.content:
            match item:
                case FilePart():
                    blocks.append(self._inside(item))
                case TextPart() | JsonPart():
                    blocks += _told(item.get_text())
        result: JsonObject = {"type": "tool_result", "tool_use_id": part.call_id, "content": blocks or NO_OUTPUT}
        if len(blocks) == 1 and blocks[0]["type"] == "text":
            result["content"] = blocks[0]["text"]
        if part.is_error:
            result["is_error"] = True
        return result

    def takes(self, part: FilePart, place: Place) -> bool:
        """Whether there is a place for a file; what goes to the model's own code is no part of a result."""
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
        """A file of the provider's own store; what the model cannot read itself goes to the code it may run."""
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


def _own(part: Part) -> JsonObject:
    """What the API gave of a part beside what we show of it, as far as it may be sent; empty if there is nothing."""
    return {**(vetted(part).state or {})} if part.provider_state else {}


def _told(text: str) -> list[JsonObject]:
    """A text of a result; none for a blank one, for which the API has no block: a result of nothing else is empty."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _document(source: JsonObject, part: FilePart) -> JsonObject:
    document: JsonObject = {"type": "document", "source": source}
    if part.filename:
        document["title"] = part.filename
    return document
