"""Encodes a conversation's text, calls, results and files as Chat Completions messages.

Source: https://platform.openai.com/docs/api-reference/chat and the types of the ``openai`` package 3.54 (read
2026-11-22)
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from dhenara_async.drivers.base import JsonObject, as_list, as_text, takes
from dhenara_async.drivers.openai_chat.native import vetted
from dhenara_async.drivers.openai_chat.quirks import Quirks
from dhenara_async.drivers.rules import CallIds, Place, Rules, url_scheme
from dhenara_async.endpoint import AIModel
from dhenara_async.errors import UnsupportedError
from dhenara_async.messages.media import kind_of, normalized
from dhenara_async.messages.messages import (
    FilePart,
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

_CALL_IDS: Mapping[str, CallIds] = {
    "short": CallIds(re.compile(r".{1,40}", re.DOTALL)),
    "nine": CallIds(re.compile(r"[a-zA-Z0-9]{9}"), prefix="", length=9),
}
# Which models get their reasoning back, by the field; plain text may go to any model of the host.
_REASONING_BACK: Mapping[str | None, Literal["model"] | None] = {None: None, "reasoning_details": "model"}
_SOUNDS = {"audio/wav": "wav", "audio/mpeg": "mp3"}


def rules(quirks: Quirks, model: AIModel) -> Rules:
    """Return the demands of a host with these ``quirks`` on a history for ``model``."""
    writer = _MessageEncoder(quirks, "system", model.model_name)
    return Rules(
        alternates=quirks.alternates,
        system_inside=quirks.system_anywhere,
        prefill=capabilities(model).prefill,
        bridge=quirks.bridge,
        call_ids=_CALL_IDS[quirks.call_ids],
        files=writer.takes,
        fetches=lambda part: _fetches(quirks, part),
        refusals=quirks.refusals,
        reasoning_back=_REASONING_BACK.get(quirks.reasoning_back, "account"),
        replayable=writer.has_sendable_reasoning,
        vet=vetted,
    )


def _fetches(quirks: Quirks, part: FilePart) -> bool:
    if url_scheme(part) not in ("https", "http"):
        return False
    match part.kind:
        case "image":
            return quirks.image_urls
        case "pdf":
            return quirks.documents in ("file or url", "document_url")
        case "video":
            return quirks.video
        case _:
            return False


def encode_messages(
    messages: Iterable[Message], instructions: Sequence[str], quirks: Quirks, *, leader: str, model: str
) -> list[JsonObject]:
    """Encode the conversation as wire messages.

    Args:
        messages: The messages, oldest first, legal for the host.
        instructions: System instructions, sent first.
        quirks: The host's differences.
        leader: The role of instructions.
        model: The model's id, for error messages.

    Raises:
        UnsupportedError: The dialect or the host has no representation for a part.
    """
    writer = _MessageEncoder(quirks, leader, model)
    if instructions:
        writer.say(leader, "\n\n".join(instructions))
    for message in messages:
        match message.role:
            case Role.ASSISTANT:
                writer.answer(message.parts)
            case Role.SYSTEM:
                writer.lead(message.parts)
            case Role.USER:
                writer.ask(message.parts)
    return writer.written()


class _MessageEncoder:
    """Encodes the messages of one request."""

    def __init__(self, quirks: Quirks, leader: str, model: str) -> None:
        self._quirks = quirks
        self._leader = leader
        self._model = model
        self._messages: list[JsonObject] = []

    def takes(self, part: FilePart, place: Place) -> bool:
        """Whether a file can be sent; a tool result can only have text."""
        if place == "result":
            return part.kind == "text" and part.data is not None
        return takes(self._user_part, part)

    def has_sendable_reasoning(self, part: ReasoningPart) -> bool:
        """Whether a reasoning part has anything to send."""
        field = self._quirks.reasoning_back
        return field == "thinking_chunk" or bool(part.text or (field == "reasoning_details" and _details(part)))

    def written(self) -> list[JsonObject]:
        """Return all messages; the last one is for the model to answer or continue."""
        last: JsonObject = self._messages[-1] if self._messages else {}
        if self._quirks.prefix and last.get("role") == "assistant":
            last["prefix"] = True
        elif self._quirks.prefix and last.get("role") == self._leader and len(self._messages) > 1:
            last |= {"role": "user", "content": f"<system>{last['content']}</system>"}
        return self._messages

    def say(self, role: str, content: object) -> None:
        """Add a user or system message."""
        self._messages.append({"role": role, "content": content})

    def lead(self, parts: Sequence[Part]) -> None:
        """Add an instruction inside the conversation."""
        for part in parts:
            if not isinstance(part, TextPart):
                raise self._unsupported(part, "a system message can only have text")
        self.say(self._leader, "\n\n".join(part.get_text() for part in parts))

    def ask(self, parts: Sequence[Part]) -> None:
        """Add a user message: each tool result becomes a message of its own, and the remaining parts become one."""
        for part in parts:
            if isinstance(part, ToolResultPart):
                self._messages.append(self._result(part))
        content_parts = [part for part in parts if not isinstance(part, ToolResultPart)]
        if content_parts:
            bare = len(content_parts) == 1 and isinstance(content_parts[0], TextPart)
            self.say("user", self._content([self._user_part(part) for part in content_parts], bare=bare))

    def answer(self, parts: Sequence[Part]) -> None:
        """Add an assistant message."""
        message: JsonObject = {"role": "assistant"}
        content = [chunk for part in parts for chunk in self._assistant_chunks(part)]
        calls = [self._call(part) for part in parts if isinstance(part, ToolCallPart)]
        message["content"] = self._quirks.silence if calls else ""
        if content:
            message["content"] = self._content(content, between="", bare=len(content) == 1)
        if self._quirks.reasoning_back not in (None, "thinking_chunk"):
            self._add_reasoning(message, [part for part in parts if isinstance(part, ReasoningPart)])
        if calls:
            message["tool_calls"] = calls
        self._messages.append(message)

    def _add_reasoning(self, message: JsonObject, thoughts: list[ReasoningPart]) -> None:
        """Add the reasoning, in the field that the host requires."""
        field = self._quirks.reasoning_back or ""
        if field == "reasoning_details":
            if any(map(_details, thoughts)):
                message[field] = [detail for part in thoughts for detail in _details(part) or [_bare_detail(part)]]
                return
            field = "reasoning"
        text = "".join(part.text for part in thoughts)
        if text or self._quirks.reasoning_always:
            message[field] = text

    def _assistant_chunks(self, part: Part) -> list[JsonObject]:
        match part:
            case TextPart():
                return [{"type": "text", "text": part.text}]
            case RefusalPart() if self._quirks.refusals:
                return [{"type": "refusal", "refusal": part.text}]
            case ReasoningPart() if self._quirks.reasoning_back is None:
                raise self._unsupported(part, "this host does not accept earlier reasoning")
            case ReasoningPart() if self._quirks.reasoning_back == "thinking_chunk":
                return [_thinking_chunk(part)]
            case ReasoningPart() | ToolCallPart():
                return []
            case _:
                raise self._unsupported(part, "an assistant message can only have text and calls")

    def _call(self, part: ToolCallPart) -> JsonObject:
        state = vetted(part).state or {} if part.provider_state else {}
        if state.get("type") == "custom":
            return {"id": part.call_id, "type": "custom", "custom": {"name": part.name, "input": part.arguments}}
        function: JsonObject = {"name": part.name, "arguments": part.arguments if part.arguments.strip() else "{}"}
        call: JsonObject = {"id": part.call_id, "type": "function", "function": function}
        if "extra_content" in state:
            call["extra_content"] = state["extra_content"]
        return call

    def _result(self, result: ToolResultPart) -> JsonObject:
        """Encode a tool result as text; an error is marked in words, because the wire has no flag."""
        text = "\n".join(self._item_text(part) for part in result.content)
        if result.is_error:
            text = f"Error: {text}"
        return {"role": "tool", "tool_call_id": result.call_id, "content": text}

    def _item_text(self, part: TextPart | JsonPart | FilePart) -> str:
        if not isinstance(part, FilePart):
            return part.get_text()
        if not self.takes(part, "result"):
            raise self._unsupported(part, f"a tool result can only have text, not {part.media_type}")
        return str(self._user_part(part)["text"])

    def _content(self, chunks: list[JsonObject], *, bare: bool, between: str = "\n\n") -> object:
        """Return a plain string for a single text, which every host accepts, unlike lists."""
        texts = [str(chunk["text"]) for chunk in chunks if chunk["type"] == "text"]
        if len(texts) == len(chunks) and (bare or not self._quirks.listed_texts):
            return between.join(texts)
        return chunks

    def _user_part(self, part: Part) -> JsonObject:
        match part:
            case TextPart():
                return {"type": "text", "text": part.text}
            case FilePart(file_id=str()):
                return self._stored(part)
            case FilePart():
                match kind_of(part.media_type):
                    case "image":
                        return self._image(part)
                    case "audio":
                        return self._sound(part)
                    case "video" if self._quirks.video:
                        return {"type": "video_url", "video_url": {"url": part.url or _data_url(part)}}
                    case "pdf":
                        return self._document(part)
                    case "text" if part.data is not None:
                        text = part.data.decode(errors="replace")
                        return {"type": "text", "text": f"{part.filename or 'Attached text'}:\n{text}"}
                    case _:
                        raise self._unsupported(part, f"this API has no field for {part.media_type}")
            case _:
                raise self._unsupported(part, "a user message can only have text and files")

    def _stored(self, part: FilePart) -> JsonObject:
        if self._quirks.documents != "file" or kind_of(part.media_type) in {"image", "audio", "video"}:
            raise self._unsupported(part, f"{part.media_type} cannot be sent by file id here")
        return {"type": "file", "file": {"file_id": part.file_id}}

    def _image(self, part: FilePart) -> JsonObject:
        if part.url is not None and not self._quirks.image_urls:
            raise self._unsupported(part, "this host does not fetch images; send the bytes")
        return {"type": "image_url", "image_url": {"url": part.url or _data_url(part)}}

    def _sound(self, part: FilePart) -> JsonObject:
        if self._quirks.audio == "text":
            return {"type": "input_audio", "input_audio": part.url or part.get_base64()}
        if self._quirks.audio is None or part.data is None:
            raise self._unsupported(part, "this host takes no audio" + (" by its URL" if self._quirks.audio else ""))
        form = _SOUNDS.get(normalized(part.media_type))
        if form is None:
            raise self._unsupported(part, f"audio must be WAV or MP3, not {part.media_type}")
        return {"type": "input_audio", "input_audio": {"data": part.get_base64(), "format": form}}

    def _document(self, part: FilePart) -> JsonObject:
        match self._quirks.documents:
            case None:
                raise self._unsupported(part, "this host takes no PDF")
            case "document_url":
                chunk: JsonObject = {"type": "document_url", "document_url": part.url or _data_url(part)}
                return chunk if part.filename is None else {**chunk, "document_name": part.filename}
            case "file" if part.url is not None:
                raise self._unsupported(part, "this host does not fetch documents; send the bytes")
            case _:
                file = {"filename": part.filename or "document.pdf", "file_data": part.url or _data_url(part)}
                return {"type": "file", "file": file}

    def _unsupported(self, part: Part, why: str) -> UnsupportedError:
        return UnsupportedError(f"{self._model}: cannot send a part of type {part.type!r}: {why}")


def _data_url(part: FilePart) -> str:
    return f"data:{part.media_type};base64,{part.get_base64()}"


def _details(part: ReasoningPart) -> list[object]:
    return as_list((vetted(part).state or {}).get("reasoning_details")) if part.provider_state else []


def _bare_detail(part: ReasoningPart) -> JsonObject:
    return {"type": "reasoning.text", "text": part.text}


def _thinking_chunk(part: ReasoningPart) -> JsonObject:
    chunk: JsonObject = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}], "closed": True}
    signature = as_text((part.provider_state or {}).get("signature"))
    return {**chunk, "signature": signature} if signature else chunk
