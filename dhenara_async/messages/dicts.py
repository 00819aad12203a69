"""Reads messages that were written for another library: the dicts of OpenAI's and Anthropic's APIs and SDKs.

A program that changes to this library can pass them on as they are: ``{"role": …, "content": …}`` with a text or a list
of content parts, tool calls and tool results of both shapes, and the items of OpenAI's Responses API. Fields that only
report on an answer (``id``, ``usage`` …) are left out. A field or a part that is not known here is refused, because
leaving it out would change the question.

Source: https://platform.openai.com/docs/api-reference/chat/create and https://docs.claude.com/en/api/messages (read
2026-11-28)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from pydantic import ValidationError

from dhenara_async.errors import ConfigurationError
from dhenara_async.framing.lenient_json import text_of
from dhenara_async.messages.media import by_extension
from dhenara_async.messages.messages import (
    FilePart,
    JsonPart,
    Message,
    MessageLike,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

_PDF = "application/pdf"

DictFields = Mapping[str, object]

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.SYSTEM}
_MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "refusal"})
# fields of an answer that say nothing to a model
_REPORTS = frozenset(
    {"id", "type", "model", "status", "stop_reason", "stop_sequence", "usage", "annotations", "citations", "logprobs"}
)


def read_messages(items: Iterable[str | MessageLike]) -> list[Message]:
    """Return messages as they are, texts as the user's, and dicts as messages.

    The results of one answer's tool calls become one message.

    Args:
        items: The conversation, oldest first.

    Raises:
        ConfigurationError: An item is none of these, or a dict has an unknown shape; the sentence names its place.
    """
    read: list[list[Message]] = []  # a list becomes one message at the end: joining pair by pair would be quadratic
    names: dict[str, str] = {}  # of the functions, by the ids of their calls
    for at, item in enumerate(items):
        try:
            message = _read(item, names)
        except ConfigurationError as exc:
            raise ConfigurationError(f"message {at}: {exc}") from exc
        names.update({part.call_id: part.name for part in message.parts if isinstance(part, ToolCallPart)})
        if read and _belongs_to(message, read[-1][-1], item):
            read[-1].append(message)
        else:
            read.append([message])
    return [_joined(several) for several in read]


def _joined(messages: Sequence[Message]) -> Message:
    first = messages[0]
    if len(messages) == 1:
        return first
    return Message(role=first.role, parts=[part for message in messages for part in message.parts])


def _belongs_to(message: Message, before: Message, item: object) -> bool:
    """Whether a message from a dict continues the one before it: a result after a result, a call after an answer."""
    if isinstance(item, str | Message) or message.role is not before.role or not (message.parts and before.parts):
        return False
    last, first = before.parts[-1], message.parts[0]
    if isinstance(first, ToolResultPart):
        return isinstance(last, ToolResultPart)
    return isinstance(first, ToolCallPart) and before.role is Role.ASSISTANT


def _read(item: object, names: Mapping[str, str]) -> Message:
    if isinstance(item, Message):
        return item
    if isinstance(item, str):
        return Message.user(item)
    if not isinstance(item, Mapping):
        raise ConfigurationError(
            f"a message is a Message, a text or a dict with role and content, not {type(item).__name__}; "
            "write Message.user(…)"
        )
    fields = cast("DictFields", item)
    if "parts" in fields:
        return _own(fields)
    if fields.get("role") in ("tool", "function") or "role" not in fields:
        return _item(fields, names)
    role = _ROLES.get(str(fields["role"]))
    if role is None:
        raise ConfigurationError("the role of a message is user, assistant, system, developer or tool")
    _refuse_unknown(fields, _MESSAGE_FIELDS)
    parts = _parts(fields.get("content"), names)
    if refusal := fields.get("refusal"):
        parts.append(RefusalPart(text=_text(refusal, "refusal")))
    parts += [_call(_fields(call, "a tool call")) for call in _list(fields.get("tool_calls") or (), "tool_calls")]
    if role is Role.SYSTEM and not all(isinstance(part, TextPart) for part in parts):
        raise ConfigurationError("a system message has texts only")
    return Message(role=role, parts=parts)


def _own(fields: DictFields) -> Message:
    """Return a message that was dumped by this library."""
    try:
        return Message.model_validate(fields)
    except ValidationError as exc:
        raise ConfigurationError("a dict with parts is a dumped Message; write content for texts and parts") from exc


def _item(fields: DictFields, names: Mapping[str, str]) -> Message:
    """Return a dict that is a tool result, or an item of the Responses API that is no message."""
    match fields.get("role") or fields.get("type"):
        case "tool" | "function_call_output":
            _refuse_unknown(fields, frozenset({"role", "content", "tool_call_id", "call_id", "output", "name"}))
            given = fields.get("tool_call_id") or fields.get("call_id")
            call_id = _text(given, "tool_call_id")
            name = fields.get("name") or names.get(call_id, "")
            content = _results(fields.get("content", fields.get("output")), names)
            result = ToolResultPart(call_id=call_id, name=_text(name, "name"), content=content)
            return Message(role=Role.USER, parts=[result])
        case "function_call":
            call = ToolCallPart(
                call_id=_text(fields.get("call_id"), "call_id"),
                name=_text(fields.get("name"), "name"),
                arguments=_arguments(fields.get("arguments")),
            )
            return Message(role=Role.ASSISTANT, parts=[call])
        case _:
            raise ConfigurationError("a message has a role and a content; write {'role': 'user', 'content': '…'}")


def _parts(content: object, names: Mapping[str, str]) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [TextPart(text=content)] if content else []
    return [_part(part, names) for part in _list(content, "content")]


def _part(part: object, names: Mapping[str, str]) -> Part:
    if isinstance(part, str):
        return TextPart(text=part)
    fields = _fields(part, "a content part")
    if fields.get("type") == "tool_result":
        return _result(fields, names)
    reader = _READERS.get(str(fields.get("type")))
    if reader is None:
        kind, known = str(fields.get("type"))[:40], ", ".join(sorted({*_READERS, "tool_result"}))
        raise ConfigurationError(f"a content part of type {kind!r} is unknown; known are {known}")
    return reader(fields)


def _result(fields: DictFields, names: Mapping[str, str]) -> ToolResultPart:
    """Return a ``tool_result`` block of Anthropic's."""
    _refuse_unknown(fields, frozenset({"tool_use_id", "content", "is_error"}))
    call_id = _text(fields.get("tool_use_id"), "tool_use_id")
    return ToolResultPart(
        call_id=call_id,
        name=names.get(call_id, ""),
        content=_results(fields.get("content"), names),
        is_error=fields.get("is_error") is True,
    )


def _results(content: object, names: Mapping[str, str]) -> list[TextPart | JsonPart | FilePart]:
    """Return the content of a tool result: a text, content parts, or any JSON."""
    if content is None or isinstance(content, str):
        return [TextPart(text=content or "")]
    items = cast("Sequence[object]", content) if isinstance(content, list | tuple) else None
    if items is None or not all(isinstance(item, Mapping) and "type" in item for item in items):
        return [JsonPart.model_validate({"value": content})]
    parts = [_part(item, names) for item in items]
    kept = [part for part in parts if isinstance(part, TextPart | FilePart)]
    if len(kept) != len(parts):
        raise ConfigurationError("the content of a tool result is texts and files")
    return [*kept]


def _read_text(fields: DictFields) -> Part:
    _refuse_unknown(fields, frozenset({"text"}))
    return TextPart(text=_text(fields.get("text"), "text"))


def _read_refusal(fields: DictFields) -> Part:
    return RefusalPart(text=_text(fields.get("refusal"), "refusal"))


def _read_thinking(fields: DictFields) -> Part:
    """The signature of an Anthropic thinking block says nothing without the account that it belongs to."""
    _refuse_unknown(fields, frozenset({"thinking", "signature"}))
    return ReasoningPart(text=_text(fields.get("thinking"), "thinking"))


def _read_image_url(fields: DictFields) -> Part:
    """``image_url`` of Chat Completions (an object with the URL) and ``input_image`` of Responses (the URL)."""
    _refuse_unknown(fields, frozenset({"image_url", "file_id", "detail"}))
    if fields.get("file_id"):
        return FilePart(media_type="image/*", file_id=_text(fields["file_id"], "file_id"))
    image = fields.get("image_url")
    url = cast("DictFields", image).get("url") if isinstance(image, Mapping) else image
    return FilePart.from_url(_text(url, "the url of image_url"))


def _read_audio(fields: DictFields) -> Part:
    audio = _fields(fields.get("input_audio"), "input_audio")
    media_type = f"audio/{_text(audio.get('format'), 'format')}".replace("/mp3", "/mpeg")
    return FilePart.from_bytes(_bytes(audio.get("data")), media_type=media_type)


def _read_file(fields: DictFields) -> Part:
    """``file`` of Chat Completions (an object) and ``input_file`` of Responses (its fields in the part)."""
    file = _fields(fields.get("file", fields), "file")
    _refuse_unknown(file, frozenset({"file_data", "file_url", "file_id", "filename"}))
    name = None if file.get("filename") is None else _text(file["filename"], "filename")
    if file.get("file_id"):
        return FilePart(
            media_type=by_extension(name or "") or _PDF, file_id=_text(file["file_id"], "file_id"), filename=name
        )
    if file.get("file_url"):
        return FilePart.from_url(_text(file["file_url"], "file_url"))
    data = _text(file.get("file_data"), "file_data")
    read = FilePart.from_url(data) if data[:5].lower() == "data:" else FilePart.from_bytes(_bytes(data), filename=name)
    return read if name is None else read.changed(filename=name)


def _read_source(fields: DictFields) -> Part:
    """An ``image`` or a ``document`` of Anthropic's."""
    _refuse_unknown(fields, frozenset({"source", "title"}))
    source = _fields(fields.get("source"), "source")
    title = None if fields.get("title") is None else _text(fields["title"], "title")
    default = "image/*" if fields.get("type") == "image" else _PDF
    match source.get("type"):
        case "base64":
            media_type = _text(source.get("media_type"), "media_type")
            return FilePart.from_bytes(_bytes(source.get("data")), media_type=media_type, filename=title)
        case "text":
            text = _text(source.get("data"), "data")
            return FilePart.from_bytes(text.encode(errors="replace"), media_type="text/plain", filename=title)
        case "url":
            read = FilePart.from_url(_text(source.get("url"), "url"), media_type=None if default != _PDF else _PDF)
            return read if title is None else read.changed(filename=title)
        case "file":
            return FilePart(media_type=default, file_id=_text(source.get("file_id"), "file_id"), filename=title)
        case _:
            raise ConfigurationError("the source of an image or a document is base64, url, text or file")


def _read_tool_use(fields: DictFields) -> Part:
    _refuse_unknown(fields, frozenset({"name", "input", "caller"}))
    return ToolCallPart(
        call_id=_text(fields.get("id"), "id"),
        name=_text(fields.get("name"), "name"),
        arguments=_arguments(fields.get("input")),
    )


_READERS: Mapping[str, Callable[[DictFields], Part]] = {
    "text": _read_text,
    "input_text": _read_text,
    "output_text": _read_text,
    "refusal": _read_refusal,
    "thinking": _read_thinking,
    "image_url": _read_image_url,
    "input_image": _read_image_url,
    "input_audio": _read_audio,
    "file": _read_file,
    "input_file": _read_file,
    "image": _read_source,
    "document": _read_source,
    "tool_use": _read_tool_use,
}


def _call(fields: DictFields) -> ToolCallPart:
    """Return an entry of ``tool_calls``."""
    function = _fields(fields.get("function"), "the function of a tool call")
    return ToolCallPart(
        call_id=_text(fields.get("id"), "the id of a tool call"),
        name=_text(function.get("name"), "the name of a tool call"),
        arguments=_arguments(function.get("arguments")),
    )


def _arguments(given: object) -> str:
    """Return arguments as JSON text, exactly as given where they are a text."""
    return given if isinstance(given, str) else text_of({} if given is None else given)


def _refuse_unknown(fields: DictFields, known: frozenset[str]) -> None:
    """Refuse fields with a value that are neither known nor a mere report."""
    unknown = [name for name, value in fields.items() if name not in known | _REPORTS and value]
    if not unknown:
        return
    if "cache_control" in unknown:
        raise ConfigurationError("cache_control is an option of the call; write AIModelCallConfig(prompt_cache=True)")
    raise ConfigurationError(f"the field {str(unknown[0])[:40]!r} cannot be kept; leave it out")


def _fields(value: object, name: str) -> DictFields:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} is a dict, not {type(value).__name__}")
    return cast("DictFields", value)


def _list(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f"{name} is a text or a list, not {type(value).__name__}")
    return cast("Sequence[object]", value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a text, not {type(value).__name__}")
    return value


def _bytes(value: object) -> bytes:
    from base64 import b64decode

    try:
        return b64decode(_text(value, "data"), validate=True)
    except ValueError as exc:
        if isinstance(exc, ConfigurationError):
            raise
        raise ConfigurationError("the data of a file is not base64") from exc
