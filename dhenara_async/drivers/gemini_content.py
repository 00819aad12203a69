"""Messages and their parts as Gemini's ``contents``.

A part's ``thoughtSignature`` goes back on exactly that part, and only to the model that made it. From Gemini 3 on the
first function call of every model turn must carry one; a call that has none of its own gets the documented stand-in.

Source: https://ai.google.dev/gemini-api/docs/thought-signatures, https://ai.google.dev/gemini-api/docs/function-calling
and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from dhenara_async.drivers.base import JsonObject, as_text, takes
from dhenara_async.endpoint import AIModel, AIModelEndpoint, Dialect
from dhenara_async.errors import UnsupportedError
from dhenara_async.messages import (
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.models.families import capabilities
from dhenara_async.rules import CallIds, Place, Rules

STAND_IN_SIGNATURE = "skip_thought_signature_validator"
FILES_URL = "https://generativelanguage.googleapis.com/v1beta"

_NATIVE_DATA = frozenset(
    {"executableCode", "codeExecutionResult", "toolCall", "toolResponse", "inlineData", "fileData"}
)
_RESULT_MEDIA = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
_CALL_IDS = CallIds(re.compile(r".*", re.DOTALL))  # free, and there need be none
_NAMES = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_OLD = re.compile(r"gemini-([12]\b|pro$|pro-vision|exp)")


def is_third_or_later(model: str) -> bool:
    """Whether ``model`` is of Gemini 3 or newer, which an unknown Gemini is taken for."""
    return "gemini" in model and _OLD.search(model) is None


def rules(model: AIModel) -> Rules:
    """What Gemini demands of a history for ``model``."""
    modern = is_third_or_later(model.model_name)
    talk = _Talk(model.model_name, "", modern)
    return Rules(
        alternates=True,
        system_inside=False,
        prefill=capabilities(model).prefill,
        call_ids=_CALL_IDS,
        names=_NAMES,
        object_arguments=True,
        error_flag=True,
        files=talk.takes,
        generated=lambda part: talk.takes(part, "question"),
        hosted=lambda part: bool((part.provider_state or {}).keys() & _NATIVE_DATA),
        reasoning_back="model",
        unsigned=lambda call: modern and not (call.provider_state or {}).get("thoughtSignature"),
    )


def encode_contents(messages: Sequence[Message], endpoint: AIModelEndpoint) -> list[JsonObject]:
    """The conversation; a message that has nothing to say to this model is left out.

    Raises:
        UnsupportedError: A part has no place in this dialect.
    """
    model = endpoint.ai_model.model_name
    talk = _Talk(model, str(endpoint.api.provider), is_third_or_later(model))
    contents: list[JsonObject] = []
    for message in messages:
        parts = talk.answer(message.parts) if message.role is Role.ASSISTANT else talk.question(message.parts)
        if parts:
            contents.append({"role": "model" if message.role is Role.ASSISTANT else "user", "parts": parts})
    return contents


@dataclass(slots=True)
class _Talk:
    """One conversation on its way out; ``calls`` are those of the last model turn, which the next results answer."""

    model: str
    provider: str
    modern: bool
    calls: list[ToolCallPart] = field(default_factory=list[ToolCallPart])

    def takes(self, part: FilePart, place: Place) -> bool:
        """Whether there is a place for a file."""
        if place == "result":
            return self.modern and part.data is not None and part.media_type in _RESULT_MEDIA
        return takes(self._file, part)

    def answer(self, parts: Sequence[Part]) -> list[JsonObject]:
        """What the model said, part for part: never merged, because each may be signed."""
        self.calls = [part for part in parts if isinstance(part, ToolCallPart)]
        encoded = [wire for part in parts if (wire := self._said(part)) is not None]
        first = next((wire for wire in encoded if "functionCall" in wire), None)
        if self.modern and first is not None and "thoughtSignature" not in first:
            first["thoughtSignature"] = STAND_IN_SIGNATURE
        return encoded

    def question(self, parts: Sequence[Part]) -> list[JsonObject]:
        """What the user says; results come first, in the order of their calls."""
        results = [part for part in parts if isinstance(part, ToolResultPart)]
        encoded: list[JsonObject] = []
        beside: list[FilePart] = []
        for result in self._ordered(results):
            encoded.append(self._result(result, beside))
        encoded += [self._file(part) for part in beside]
        encoded += [self._asked(part) for part in parts if not isinstance(part, ToolResultPart)]
        if results:
            self.calls = []
        return encoded

    def _said(self, part: Part) -> JsonObject | None:
        kept = self._kept(part)
        signature = as_text(kept.get("thoughtSignature"))
        signed: JsonObject = {"thoughtSignature": signature} if signature else {}
        match part:
            case TextPart() | RefusalPart():
                return {"text": part.text, **signed} if part.text or signed else None
            case ReasoningPart():
                return {"text": part.text, "thought": True, **signed} if part.text or signed else None
            case ToolCallPart():
                call: JsonObject = {"id": part.call_id} if part.call_id else {}
                return {"functionCall": {**call, "name": part.name, "args": _arguments(part)}, **signed}
            case FilePart():
                wire = self._file(part)
                media_type = kept.get("mimeType")
                if media_type and "inlineData" in wire:
                    wire["inlineData"] = {**cast(JsonObject, wire["inlineData"]), "mimeType": media_type}
                return {**wire, **signed}
            case HostedToolPart():
                return dict(kept) if kept.keys() & _NATIVE_DATA else None
            case _:
                raise self._unsupported(part)

    def _asked(self, part: Part) -> JsonObject:
        match part:
            case TextPart() | RefusalPart():
                return {"text": part.text}
            case FilePart():
                return self._file(part)
            case _:
                raise self._unsupported(part)

    def _kept(self, part: Part) -> JsonObject:
        """The part's native state if this model made it; nobody else's signature may be handed in."""
        origin = part.origin
        own = (
            origin is not None
            and part.status == "complete"
            and (origin.dialect, origin.provider, origin.model) == (Dialect.GEMINI.value, self.provider, self.model)
        )
        return cast(JsonObject, part.provider_state or {}) if own else {}

    def _ordered(self, results: Sequence[ToolResultPart]) -> list[ToolResultPart]:
        """By the place of the call; a result whose call has no id is told by its name, else by its place."""
        left = list(results)
        ordered: list[ToolResultPart] = []
        for call in self.calls:
            found = next((result for result in left if _answers(result, call)), None)
            if found is not None:
                left.remove(found)
                ordered.append(found if found.name else found.model_copy(update={"name": call.name}))
        return ordered + left

    def _result(self, part: ToolResultPart, beside: list[FilePart]) -> JsonObject:
        """One functionResponse. Files that cannot be inside it stand ``beside`` the results."""
        if not part.name:
            raise UnsupportedError(
                f"{self.model}: the tool result for call {part.call_id!r} has no name and no call it could be told from"
            )
        inside: list[JsonObject] = []
        values: list[object] = []
        for item in part.content:
            match item:
                case TextPart():
                    values.append(item.text)
                case JsonPart():
                    values.append(item.value)
                case FilePart() if self.modern and item.data is not None and item.media_type in _RESULT_MEDIA:
                    name: JsonObject = {"displayName": item.filename} if item.filename else {}
                    blob: JsonObject = {"mimeType": item.media_type, "data": item.get_base64(), **name}
                    inside.append({"inlineData": blob})
                case FilePart():
                    beside.append(item)
        response: JsonObject = {"id": part.call_id} if part.call_id else {}
        response |= {"name": part.name, "response": _response(values, is_error=part.is_error)}
        if inside:
            response["parts"] = inside
        return {"functionResponse": response}

    def _file(self, part: FilePart) -> JsonObject:
        known: JsonObject = {} if part.media_type.endswith("/*") else {"mimeType": part.media_type}
        if part.url is not None:
            return {"fileData": {**known, "fileUri": part.url}}
        if part.file_id is not None:
            return {"fileData": {**known, "fileUri": _file_uri(part.file_id)}}
        kind = part.media_type.partition("/")[0]
        if kind == "text":
            return {"inlineData": {"mimeType": "text/plain", "data": part.get_base64()}}
        if kind in {"image", "audio", "video"} or part.media_type in {"application/pdf", "application/json"}:
            return {"inlineData": {"mimeType": part.media_type, "data": part.get_base64()}}
        raise UnsupportedError(f"{self.model}: Gemini takes no files of type {part.media_type}")

    def _unsupported(self, part: Part) -> UnsupportedError:
        return UnsupportedError(f"{self.model}: a part of type {part.type!r} has no place here in Gemini's contents")


def _answers(result: ToolResultPart, call: ToolCallPart) -> bool:
    if result.call_id or call.call_id:
        return result.call_id == call.call_id
    return result.name in ("", call.name)


def _arguments(call: ToolCallPart) -> JsonObject:
    """An object in any case: what the model wrote wrongly is wrapped, so that it can read its own mistake."""
    try:
        return cast(JsonObject, call.parsed())
    except ValueError:
        return {"_raw": call.arguments}


def _response(values: Sequence[object], *, is_error: bool) -> JsonObject:
    """The object a functionResponse wants: a JSON object as it is, anything else under one of the two known names."""
    value: object = list(values)
    if len(values) == 1:
        value = values[0]
    elif all(isinstance(item, str) for item in values):
        value = "\n".join(cast(Sequence[str], values))
    if isinstance(value, dict) and not is_error:
        return cast(JsonObject, value)
    return {"error" if is_error else "output": value}


def _file_uri(file_id: str) -> str:
    """The store names its files ``files/…`` but is asked for them by their address."""
    if "://" in file_id:
        return file_id
    return f"{FILES_URL}/files/{file_id.removeprefix('files/')}"
