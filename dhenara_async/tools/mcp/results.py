"""Converts the result of an MCP tool to a ``ToolResultPart``, within the bounds of its server. Pure.

Texts stay texts; images, audio and other bytes become files; links are given as text, or as what the server holds under
them (``resources=True``); ``structuredContent`` is used only where there is no content, because the two repeat each
other.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

import mcp_types as types
from pydantic import JsonValue

from dhenara_async.errors import ConfigurationError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import FilePart, JsonPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.schema_answers import shortened

_LONGEST_NOTE = 1_000
_MOST_NOTES = 20
_MOST_FILES = 1_000
Contents = TextPart | JsonPart | FilePart
Resource = types.TextResourceContents | types.BlobResourceContents


def converted(
    call: ToolCallPart,
    result: types.CallToolResult,
    server: McpServer,
    *,
    resources: Mapping[str, Sequence[Resource]],
    declined: Iterable[str] = (),
) -> ToolResultPart:
    """Build the result of ``call``.

    Args:
        call: The model's call.
        result: The result as the server returned it.
        server: The server, whose bounds hold.
        resources: The contents of links that were read, by their URI; the others stay links.
        declined: Questions of the server that nobody was there to answer.
    """
    room = _Room(server.max_result_bytes, server.max_file_bytes)
    for block in result.content:
        match block:
            case types.TextContent(text=text):
                room.add_text(text)
            case types.ImageContent(data=data, mime_type=kind):
                room.add_file("an image", data, kind)
            case types.AudioContent(data=data, mime_type=kind):
                room.add_file("a sound", data, kind)
            case types.EmbeddedResource(resource=resource):
                room.add_resource(resource)
            case types.ResourceLink():
                room.add_link(block, resources.get(block.uri))
    if not result.content and result.structured_content is not None:
        room.add_json(result.structured_content)
    for question in declined:
        room.note(f"the server asked the user, but nobody could answer: {question}")
    return ToolResultPart.of(call, *room.finished(), is_error=result.is_error)


class _Room:
    """The content of a result, as far as there is room for it."""

    def __init__(self, text_bytes: int, file_bytes: int) -> None:
        self.parts: list[Contents] = []
        self._most_text, self._most_files = text_bytes, file_bytes
        self._text, self._files = text_bytes, file_bytes  # what is left
        self._cut = 0
        self._tried_files = 0
        self._notes = 0

    def add_text(self, text: str) -> None:
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if size > self._text:
            self._cut += size - self._text
            text = text.encode("utf-8", "surrogatepass")[: self._text].decode("utf-8", "ignore")
            size = self._text
        self._text -= size
        if text:
            self.parts.append(TextPart(text=text))

    def add_json(self, value: JsonValue) -> None:
        text = dumps(value)
        if len(text) > self._text:
            self.add_text(text.decode())
        else:
            self.parts.append(JsonPart(value=value))

    def add_file(self, what: str, data: str, kind: str | None, name: str | None = None) -> None:
        size = len(data) * 3 // 4
        if size > self._files:
            self.note(f"{what} of {size} bytes was left out: a result has at most {self._most_files}")
            return
        self._tried_files += 1
        if self._tried_files > _MOST_FILES:
            self.note(f"{what} was left out: a result has at most {_MOST_FILES} files")
            return
        self._files -= size
        try:
            self.parts.append(_file(base64.b64decode(data, validate=True), kind, name))
        except ValueError as exc:  # also a ConfigurationError
            reason = str(exc) if isinstance(exc, ConfigurationError) else "its base64 is broken"
            self.note(f"{what} was left out: {reason}")

    def add_resource(self, resource: Resource) -> None:
        if isinstance(resource, types.TextResourceContents):
            self.add_text(resource.text)
        else:
            name = unquote(urlsplit(resource.uri).path).rpartition("/")[2] or None
            self.add_file(f"the resource {shortened(resource.uri)}", resource.blob, resource.mime_type, name)

    def add_link(self, link: types.ResourceLink, contents: Sequence[Resource] | None) -> None:
        about = f": {link.description}" if link.description else ""
        self.add_text(f"[{link.title or link.name}]({link.uri}){about}")
        for resource in contents or ():
            self.add_resource(resource)

    def note(self, words: str) -> None:
        """Tell the model about content that it does not get, in words that the server causes, so within bounds."""
        self._notes += 1
        if self._notes <= _MOST_NOTES:
            self.parts.append(TextPart(text=f"[{shortened(words, _LONGEST_NOTE)}]"))

    def finished(self) -> Sequence[Contents]:
        if self._notes > _MOST_NOTES:
            self.parts.append(TextPart(text=f"[and {self._notes - _MOST_NOTES} more notes like these]"))
        if self._cut:
            self.parts.append(
                TextPart(
                    text=f"[cut: {self._cut} bytes of text were left out, because a result has at most "
                    f"{self._most_text}; ask for less at once]"
                )
            )
        return self.parts or [TextPart(text="(no content)")]


def _file(data: bytes, kind: str | None, name: str | None) -> FilePart:
    """Build a file; where its bytes contradict the type that the server gave, they decide."""
    try:
        return FilePart.from_bytes(data, media_type=kind, filename=name)
    except ConfigurationError:
        if kind is None:
            raise
        return FilePart.from_bytes(data, filename=name)
