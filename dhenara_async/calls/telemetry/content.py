"""Prompts and answers in the shapes of the GenAI conventions, cut to a size. Pure; used only if content is asked for.

A message is ``{"role", "parts"}``, and a part has a ``type``: ``text``, ``reasoning``, ``tool_call``,
``tool_call_response``, ``server_tool_call``, ``blob``, ``uri``, ``file``, or one of our own.

Source: https://github.com/open-telemetry/semantic-conventions-genai, model/gen-ai/gen-ai-*-messages.json
(read 2026-11-28)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from pydantic import JsonValue

from dhenara_async.calls.records import CallContent
from dhenara_async.calls.telemetry import names
from dhenara_async.errors import ToolArgumentsError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.response import ChatResponse
from dhenara_async.tools.declarations import HostedTool, Tool, Usable

MOST_BYTES = 750_000
"""The most bytes of text of one attribute."""

ContentShape = dict[str, JsonValue]
_MODALITIES = {"image": "image", "audio": "audio", "video": "video", "pdf": "document", "text": "document"}
_MARK = "… (cut)"


class ByteBudget:
    """The bytes that one attribute may still take.

    Args:
        left: How many.

    Attributes:
        cut: Whether anything was cut.
    """

    def __init__(self, left: int = MOST_BYTES) -> None:
        self._left = left
        self.cut: bool = False
        self._over = False

    def text(self, text: str) -> str:
        """Return ``text``, or its beginning if it does not fit; nothing after a text that was cut."""
        if self._over:
            return ""
        encoded = text.encode("utf-8", "replace")
        self._left -= len(encoded)
        if self._left >= 0:
            return encoded.decode()
        self.cut = self._over = True
        kept = max(0, len(encoded) + self._left)
        self._left = 0
        return encoded[:kept].decode("utf-8", "ignore") + _MARK

    def whole(self, text: str) -> str:
        """Return ``text`` if it fits, else nothing: for what is of no use without its end."""
        if len(text) <= self._left:
            self._left -= len(text)
            return text
        self.cut = True
        return ""

    def json(self, value: JsonValue) -> JsonValue:
        """Return ``value`` if it fits, else the beginning of it as text."""
        text = dumps(value).decode()
        fitting = self.text(text)
        return value if fitting == text else fitting


def requested(content: CallContent, budget: Callable[[], ByteBudget]) -> tuple[dict[str, list[ContentShape]], bool]:
    """Return the attributes of a request, as plain JSON, and whether anything was cut.

    Args:
        content: The messages of the request.
        budget: Makes the budget of one attribute.
    """
    shapes: dict[str, list[ContentShape]] = {}
    cut = False
    sources: tuple[tuple[str, Callable[[ByteBudget], list[ContentShape]], Sequence[object]], ...] = (
        (
            names.INPUT_MESSAGES,
            lambda left: [_message(message, left) for message in content.messages],
            content.messages,
        ),
        (
            names.SYSTEM_INSTRUCTIONS,
            lambda left: [_text("text", text, left) for text in content.instructions],
            content.instructions,
        ),
        (names.TOOL_DEFINITIONS, lambda left: [_definition(tool, left) for tool in content.tools], content.tools),
    )
    for name, build, source in sources:
        if source:
            left = budget()
            shapes[name] = build(left)
            cut = cut or left.cut
    return shapes, cut


def answered(answer: ChatResponse, budget: ByteBudget) -> list[ContentShape]:
    """Return the choices of an answer, complete or not, as messages."""
    return [
        {
            "role": "assistant",
            "parts": [_part(part, budget) for part in choice.parts],
            "finish_reason": names.FINISH_REASONS.get(choice.finish_reason, str(choice.finish_reason)),
        }
        for choice in answer.choices
    ]


def result_text(result: ToolResultPart, budget: ByteBudget) -> str:
    """Return the result of a tool call as JSON text."""
    return as_text(_response(result, budget))


def as_text(value: object) -> str:
    """Return a value as JSON text, as spans take it."""
    return dumps(value).decode()


def _message(message: Message, budget: ByteBudget) -> ContentShape:
    results = bool(message.parts) and all(isinstance(part, ToolResultPart) for part in message.parts)
    role = "tool" if results else str(message.role)
    return {"role": role, "parts": [_part(part, budget) for part in message.parts]}


def _text(kind: str, text: str, budget: ByteBudget) -> ContentShape:
    return {"type": kind, "content": budget.text(text)}


def _part(part: Part | JsonPart, budget: ByteBudget) -> ContentShape:
    match part:
        case TextPart() | ReasoningPart() | RefusalPart():
            return _text(part.type, part.text, budget)
        case ToolCallPart():
            return {"type": "tool_call", "id": part.call_id, "name": part.name, "arguments": _arguments(part, budget)}
        case ToolResultPart():
            return {"type": "tool_call_response", "id": part.call_id, "response": _response(part, budget)}
        case FilePart():
            return _file(part, budget)
        case HostedToolPart():
            call: ContentShape = {"type": part.tool or part.name}
            call |= {} if part.input is None else {"input": budget.json(part.input)}
            call |= {} if part.output is None else {"output": budget.json(part.output)}
            return {"type": "server_tool_call", "id": part.call_id, "name": part.name, "server_tool_call": call}
        case JsonPart():
            return {"type": "json", "content": budget.json(part.value)}


def _arguments(part: ToolCallPart, budget: ByteBudget) -> JsonValue:
    try:
        return budget.json(part.parsed())
    except ToolArgumentsError:
        return budget.text(part.arguments)


def _response(part: ToolResultPart, budget: ByteBudget) -> JsonValue:
    """Return a tool result: the one text or value that it mostly is, else its parts."""
    if len(part.content) == 1:
        (only,) = part.content
        if isinstance(only, TextPart):
            return budget.text(only.text)
        if isinstance(only, JsonPart):
            return budget.json(only.value)
    return cast("JsonValue", [_part(each, budget) for each in part.content])


def _file(part: FilePart, budget: ByteBudget) -> ContentShape:
    shape: ContentShape = {"mime_type": part.media_type, "modality": _MODALITIES.get(part.kind, part.kind)}
    if part.file_id is not None:
        return {"type": "file", **shape, "file_id": budget.text(part.file_id)}
    if part.url is not None:
        return {"type": "uri", **shape, "uri": budget.text(part.url)}
    return {"type": "blob", **shape, "content": budget.whole(part.get_base64())}


def _definition(tool: Usable, budget: ByteBudget) -> ContentShape:
    if isinstance(tool, HostedTool):
        return {"type": tool.type, "name": tool.type}
    if not isinstance(tool, Tool):  # a config has made tools of all others
        return {"type": names.FUNCTION, "name": getattr(tool, "__name__", type(tool).__name__)}
    parameters = budget.json(cast("JsonValue", tool.parameters))
    return {
        "type": names.FUNCTION,
        "name": tool.name,
        "description": budget.text(tool.description),
        "parameters": parameters,
    }


def texts(shapes: Mapping[str, list[ContentShape]]) -> dict[str, str]:
    """Return attributes as JSON texts, as spans take them."""
    return {name: as_text(value) for name, value in shapes.items()}
