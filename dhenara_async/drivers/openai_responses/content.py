"""Encodes a conversation as input items of OpenAI Responses, with nothing stored at the provider.

Items in canonical form carry no id: with ids, the API requires every item beside the reasoning that it was produced
with, and only accepts items that it stored. Reasoning and hosted items are sent back unchanged, if they are on the
allow-lists of ``native``.

Source: https://platform.openai.com/docs/api-reference/responses/create and the types of the ``openai`` package 3.54
(``types/responses/response_input_item_param.py``, read 2026-11-22)
"""

from collections.abc import Iterable

from dhenara_async.drivers.base import JsonObject, as_text, takes
from dhenara_async.drivers.openai_responses.native import ITEMS, vetted
from dhenara_async.drivers.rules import Place, Rules, url_scheme
from dhenara_async.errors import UnsupportedError
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    Part,
    PartBase,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

INPUT_TRANSFORMATIONS = "input_transformations"

_IMAGES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"})
_AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
    "audio/mp3": "mp3",
    "audio/mpeg": "mp3",
}
_DOCUMENTS = frozenset(
    {
        "application/pdf",
        "application/msword",
        "application/rtf",
        "application/json",
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/javascript",
        "application/typescript",
        "application/x-sh",
    }
)
_OFFICE = "application/vnd."  # Word, Excel, PowerPoint, OpenDocument, Pages, Keynote …

_FETCHED_KINDS = frozenset({"image", "pdf", "text", "other"})


def rules(model: str) -> Rules:
    """Return the demands of the Responses API on a history for ``model``."""
    speller = _InputEncoder(model)
    return Rules(
        files=speller.takes,
        fetches=_fetches,
        generated=_is_drawn,
        hosted=lambda part: _native(part).get("type") in ITEMS and part.name != INPUT_TRANSFORMATIONS,
        hosted_with_reasoning=True,
        reasoning_back="model",
        reasoning_leads=True,
        replayable=lambda part: _reasoning(part) is not None,
        vet=vetted,
    )


def _fetches(part: FilePart) -> bool:
    return part.kind in _FETCHED_KINDS and url_scheme(part) in ("https", "http")


def input_items(messages: Iterable[Message], model: str) -> list[JsonObject]:
    """Encode the conversation as items, oldest first.

    Args:
        messages: Legal for the target: opaque state of other providers is removed.
        model: The model's id, for error messages.

    Raises:
        UnsupportedError: The API has no representation for a part.
    """
    speller = _InputEncoder(model)
    return [item for message in messages for item in speller.message(message)]


class _InputEncoder:
    """Encodes one conversation. Keeps its calls, since a result has the same form as its call."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._custom: set[str] = set()
        self._approvals: set[str] = set()

    def takes(self, part: FilePart, place: Place) -> bool:
        """Whether a file can be sent."""
        return takes(self._file if place == "result" else self._content, part)

    def message(self, message: Message) -> list[JsonObject]:
        if message.role is Role.ASSISTANT:
            return [self._answer_item(part) for part in message.parts]
        results = [self._result(part) for part in message.parts if isinstance(part, ToolResultPart)]
        contents = [self._content(part) for part in message.parts if not isinstance(part, ToolResultPart)]
        role = "developer" if message.role is Role.SYSTEM else "user"
        return [*results, {"role": role, "content": contents}] if contents else results

    # ------------------------------------------------------------------------------------------ output items

    def _answer_item(self, part: Part) -> JsonObject:
        match part:
            case TextPart():
                # one message per text: several texts in one message are only valid with the ids of the answer
                phase = as_text(_native(part).get("phase"))
                item: JsonObject = {"role": "assistant", "content": part.text}
                return {**item, "phase": phase} if phase else item
            case ReasoningPart():
                return self._reasoning_item(part)
            case ToolCallPart():
                return self._call(part)
            case HostedToolPart():
                return self._hosted(part)
            case FilePart():
                return self._generated(part)
            case _:
                raise self._unsupported(part, "in an answer")

    def _reasoning_item(self, part: ReasoningPart) -> JsonObject:
        item = _reasoning(part)
        if item is None:
            raise self._unsupported(part, "without its encrypted form")
        return item

    def _call(self, part: ToolCallPart) -> JsonObject:
        native: JsonObject = {**(vetted(part).state or {})} if part.provider_state else {}
        call_id = part.call_id
        if native.get("type") == "custom_tool_call":
            self._custom.add(call_id)
            item: JsonObject = {"type": "custom_tool_call", "call_id": call_id, "name": part.name}
            item["input"] = part.arguments
        else:
            item = {"type": "function_call", "call_id": call_id, "name": part.name}
            item["arguments"] = part.arguments if part.arguments.strip() else "{}"
        if native.get("namespace"):
            item["namespace"] = native["namespace"]
        return item

    def _generated(self, part: FilePart) -> JsonObject:
        if not _is_drawn(part):
            raise self._unsupported(part, "in an answer")
        return {**(vetted(part).state or {}), "result": part.get_base64()}

    def _hosted(self, part: HostedToolPart) -> JsonObject:
        item = vetted(part).state
        if not item:
            raise self._unsupported(part, f"({part.name}) that is not an item of this API")
        if part.needs_approval and part.call_id is not None:
            self._approvals.add(part.call_id)
        return {**item}

    # ------------------------------------------------------------------------------------------ tool results

    def _result(self, part: ToolResultPart) -> JsonObject:
        if part.call_id in self._approvals:
            decision: JsonObject = {"type": "mcp_approval_response", "approval_request_id": part.call_id}
            decision["approve"] = not part.denied
            return {**decision, "reason": part.get_text()} if part.denied else decision
        kind = "custom_tool_call_output" if part.call_id in self._custom else "function_call_output"
        return {"type": kind, "call_id": part.call_id, "output": self._output(part)}

    def _output(self, part: ToolResultPart) -> str | list[JsonObject]:
        """Return text, or a list if files are among it; an error is marked in words, because the wire has no flag."""
        mark = "Error: " if part.is_error else ""
        if not any(isinstance(content, FilePart) for content in part.content):
            return mark + part.get_text()
        spelled: list[JsonObject] = [{"type": "input_text", "text": mark.rstrip()}] if mark else []
        for content in part.content:
            match content:
                case TextPart() | JsonPart():
                    spelled.append({"type": "input_text", "text": content.get_text()})
                case FilePart():
                    spelled.append(self._file(content))
        return spelled

    def _content(self, part: Part) -> JsonObject:
        match part:
            case TextPart():
                return {"type": "input_text", "text": part.text}
            case FilePart(data=bytes()) if part.media_type in _AUDIO_FORMATS:
                audio = {"data": part.get_base64(), "format": _AUDIO_FORMATS[part.media_type]}
                return {"type": "input_audio", "input_audio": audio}
            case FilePart():
                return self._file(part)
            case _:
                raise self._unsupported(part, "outside an answer")

    def _file(self, part: FilePart) -> JsonObject:
        kind = part.media_type
        if kind.startswith("image/"):
            return self._image(part)
        if kind.startswith("text/") and part.data is not None:
            return {"type": "input_text", "text": f"{part.filename or 'Attached text'}:\n{part.get_text()}"}
        if not (kind in _DOCUMENTS or kind.startswith(("text/", _OFFICE))):
            raise self._unsupported(part, f"of media type {kind}")
        if part.file_id is not None:
            return {"type": "input_file", "file_id": part.file_id}
        if part.url is not None:
            return {"type": "input_file", "file_url": part.url}
        return {"type": "input_file", "filename": part.filename or _filename(kind), "file_data": _data_url(part)}

    def _image(self, part: FilePart) -> JsonObject:
        if part.file_id is not None:
            return {"type": "input_image", "file_id": part.file_id, "detail": "auto"}
        if part.media_type not in _IMAGES and (part.url is None or part.media_type != "image/*"):
            raise self._unsupported(part, f"of media type {part.media_type}")
        return {"type": "input_image", "image_url": part.url or _data_url(part), "detail": "auto"}

    def _unsupported(self, part: Part | FilePart, where: str) -> UnsupportedError:
        return UnsupportedError(f"{self._model}: the Responses API does not take a part of type {part.type!r} {where}")


def _native(part: PartBase) -> JsonObject:
    """Return the state from this API to send back; empty for other APIs' parts, or if nothing is required."""
    return dict(part.provider_state or {})


def _is_drawn(part: FilePart) -> bool:
    """Whether a file is an image from the API's own tool, and has its data."""
    return _native(part).get("type") == "image_generation_call" and part.data is not None


def _reasoning(part: ReasoningPart) -> JsonObject | None:
    """Return the reasoning item unchanged; None without its encrypted form, the only form that the stateless API can
    read."""
    native = vetted(part).state or {}
    if not as_text(native.get("encrypted_content")):
        return None
    kept = {key: native[key] for key in ("id", "summary", "encrypted_content") if native.get(key) is not None}
    return {"type": "reasoning", "summary": [], **kept}


def _data_url(part: FilePart) -> str:
    return f"data:{part.media_type};base64,{part.get_base64()}"


def _filename(media_type: str) -> str:
    """Return a name for an unnamed document; the API recognizes its type by the extension."""
    from mimetypes import guess_extension

    return f"document{guess_extension(media_type) or ''}"
