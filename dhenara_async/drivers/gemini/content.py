"""Encodes messages and their parts as Gemini's ``contents``.

A part's ``thoughtSignature`` is sent back on exactly that part, and only to the model that produced it. Parts for tools
that Google ran are sent back if they are on the allow-list of ``native``. From Gemini 3 on, the first function call of
every model turn must have a signature; a call without one gets the documented stand-in.

Source: https://ai.google.dev/gemini-api/docs/thought-signatures, https://ai.google.dev/gemini-api/docs/function-calling
and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from dhenara_async.drivers.base import JsonObject, as_text, takes
from dhenara_async.drivers.gemini.native import native_name, vetted
from dhenara_async.drivers.rules import CallIds, Place, Rules, url_scheme
from dhenara_async.endpoint import AIModel, AIModelEndpoint
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

STAND_IN_SIGNATURE = "skip_thought_signature_validator"
FILES_URL = "https://generativelanguage.googleapis.com/v1beta"

_RESULT_MEDIA = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
_CALL_IDS = CallIds(re.compile(r".*", re.DOTALL))  # any text, and optional
_NAMES = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_FILE_ID = re.compile(rf"({re.escape(FILES_URL)}/)?(files/)?[a-zA-Z0-9_-]{{1,128}}|gs://[!-~]{{1,2000}}")
_OLD = re.compile(r"gemini-([12]\b|pro$|pro-vision|exp)")

_WITHOUT_FETCHING = re.compile(r"(models/)?gemini-([12]\b|pro$|pro-vision|exp)")
# Google reads its file store, its Cloud Storage buckets and YouTube for every model.
_GOOGLE_URL = re.compile(
    r"gs://|https://(generativelanguage\.googleapis\.com|(www\.)?youtube\.com|youtu\.be)/", re.IGNORECASE
)


def is_third_or_later(model: str) -> bool:
    """Whether ``model`` is Gemini 3 or newer. An unknown Gemini counts as newer."""
    return "gemini" in model and _OLD.search(model) is None


def rules(model: AIModel) -> Rules:
    """Return the demands of Gemini on a history for ``model``."""
    modern = is_third_or_later(model.model_name)
    talk = _ContentsEncoder(model.model_name, modern)
    return Rules(
        alternates=True,
        system_inside=False,
        prefill=capabilities(model).prefill,
        call_ids=_CALL_IDS,
        names=_NAMES,
        object_arguments=True,
        error_flag=True,
        files=talk.takes,
        fetches=lambda part: _fetches(model.model_name, part),
        generated=lambda part: talk.takes(part, "question"),
        hosted=_is_native,
        reasoning_back="model",
        replayable=_is_sendable,
        unsigned=lambda call: modern and not (call.provider_state or {}).get("thoughtSignature"),
        vet=vetted,
    )


def _fetches(model: str, part: FilePart) -> bool:
    if _GOOGLE_URL.match(part.url or ""):
        return True
    return url_scheme(part) == "https" and _WITHOUT_FETCHING.match(model) is None


def encode_contents(messages: Sequence[Message], endpoint: AIModelEndpoint) -> list[JsonObject]:
    """Encode a conversation that is legal for the endpoint.

    Raises:
        UnsupportedError: The dialect has no representation for a part.
    """
    model = endpoint.ai_model.model_name
    talk = _ContentsEncoder(model, is_third_or_later(model))
    return [talk.content(message) for message in messages]


@dataclass(frozen=True, slots=True)
class _ContentsEncoder:
    """Encodes one conversation."""

    model: str
    modern: bool

    def takes(self, part: FilePart, place: Place) -> bool:
        """Whether a file can be sent at this place."""
        if place == "result":
            return self.modern and part.data is not None and part.media_type in _RESULT_MEDIA
        return takes(self._file, part)

    def content(self, message: Message) -> JsonObject:
        """Encode one message part by part. Parts are never merged, because each may have a signature."""
        match message.role:
            case Role.ASSISTANT:
                return {"role": "model", "parts": self._model_parts(message.parts)}
            case Role.USER:
                return {"role": "user", "parts": [self._user_part(part) for part in message.parts]}
            case Role.SYSTEM:
                raise UnsupportedError(f"{self.model}: Gemini takes no system message inside the conversation")

    def _model_parts(self, parts: Sequence[Part]) -> list[JsonObject]:
        encoded = [self._model_part(part) for part in parts]
        first = next((wire for wire in encoded if "functionCall" in wire), None)
        if self.modern and first is not None and "thoughtSignature" not in first:
            first["thoughtSignature"] = STAND_IN_SIGNATURE
        return encoded

    def _model_part(self, part: Part) -> JsonObject:
        kept: JsonObject = dict(part.provider_state or {})
        signature = as_text(kept.get("thoughtSignature"))
        signed: JsonObject = {"thoughtSignature": signature} if signature else {}
        match part:
            case TextPart():
                return {"text": part.text, **signed}
            case ReasoningPart():
                return {"text": part.text, "thought": True, **signed}
            case ToolCallPart():
                call: JsonObject = {"id": part.call_id} if part.call_id else {}
                return {"functionCall": {**call, "name": part.name, "args": self._arguments(part)}, **signed}
            case FilePart():
                wire = self._file(part)
                media_type = kept.get("mimeType")
                if media_type and "inlineData" in wire and vetted(part).reason is None:
                    wire["inlineData"] = {**cast(JsonObject, wire["inlineData"]), "mimeType": media_type}
                return {**wire, **signed}
            case HostedToolPart() if (native := vetted(part).state) and native_name(part):
                return {**native}
            case _:
                raise self._unsupported(part)

    def _arguments(self, call: ToolCallPart) -> JsonObject:
        try:
            return cast(JsonObject, call.parsed())
        except ValueError as exc:
            raise UnsupportedError(f"{self.model}: the arguments of a call must be a JSON object: {exc}") from exc

    def _user_part(self, part: Part) -> JsonObject:
        match part:
            case TextPart():
                return {"text": part.text}
            case FilePart():
                return self._file(part)
            case ToolResultPart():
                return self._result(part)
            case _:
                raise self._unsupported(part)

    def _result(self, part: ToolResultPart) -> JsonObject:
        inside: list[JsonObject] = []
        values: list[object] = []
        for item in part.content:
            match item:
                case TextPart():
                    values.append(item.text)
                case JsonPart():
                    values.append(item.value)
                case FilePart() if self.takes(item, "result"):
                    name: JsonObject = {"displayName": item.filename} if item.filename else {}
                    blob: JsonObject = {"mimeType": item.media_type, "data": item.get_base64(), **name}
                    inside.append({"inlineData": blob})
                case FilePart():
                    raise self._unsupported(item)
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
            if _FILE_ID.fullmatch(part.file_id) is None:
                raise UnsupportedError(
                    f"{self.model}: the file_id is neither of Google's file store nor of a Cloud Storage bucket"
                )
            return {"fileData": {**known, "fileUri": _file_uri(part.file_id)}}
        kind = part.media_type.partition("/")[0]
        if kind == "text":
            return {"inlineData": {"mimeType": "text/plain", "data": part.get_base64()}}
        if kind in {"image", "audio", "video"} or part.media_type in {"application/pdf", "application/json"}:
            return {"inlineData": {"mimeType": part.media_type, "data": part.get_base64()}}
        raise UnsupportedError(f"{self.model}: Gemini does not take files of type {part.media_type}")

    def _unsupported(self, part: Part) -> UnsupportedError:
        return UnsupportedError(f"{self.model}: a part of type {part.type!r} cannot be sent to Gemini at this place")


def _is_native(part: HostedToolPart) -> bool:
    """Whether Gemini has a part of its own for a hosted tool part."""
    return native_name(part) is not None


def _is_sendable(part: ReasoningPart) -> bool:
    """Whether a reasoning part has anything to send."""
    return bool(part.text or (part.provider_state or {}).get("thoughtSignature"))


def _response(values: Sequence[object], *, is_error: bool) -> JsonObject:
    """Return the object that a functionResponse requires: a JSON object unchanged, any other value under a documented
    key."""
    value: object = list(values)
    if len(values) == 1:
        value = values[0]
    elif all(isinstance(item, str) for item in values):
        value = "\n".join(cast(Sequence[str], values))
    if isinstance(value, dict) and not is_error:
        return cast(JsonObject, value)
    return {"error" if is_error else "output": value}


def _file_uri(file_id: str) -> str:
    """Return the URI of a stored file: the store names files ``files/…``, but requests need the URI."""
    return file_id if "://" in file_id else f"{FILES_URL}/files/{file_id.removeprefix('files/')}"
