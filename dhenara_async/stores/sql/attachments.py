"""Large files of nodes: taken out of a node's JSON, and put back where the JSON is read.

The JSON has a mark in the place of a file's base64 text. Large contents are never written as base64 or parsed: another
few bytes stand for them in the node while it is written or read. A node comes back equal, and so does its JSON, byte
for byte. ``files`` keeps the contents.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from os import urandom
from typing import Final

from anyio import to_thread

from dhenara_async.conversation import ConversationNode
from dhenara_async.messages.messages import FileContents, FilePart, PartBase, ToolResultPart

MIN_BYTES: Final = 65_536
"""The size from which a file is kept outside its node's row."""

# A NUL is in no base64 text, and JSON writes it like this.
_MARK: Final = '"data":"\\u0000file:'
_MARKED: Final = re.compile(re.escape(_MARK) + '([0-9a-f]{64})"')
_STAND_IN_BYTES: Final = 24  # nobody guesses them, and their base64 text has no padding


def is_large(node: ConversationNode) -> bool:
    """Whether a node has a file that is kept outside its row."""
    answered = () if node.response is None else (part for choice in node.response.choices for part in choice.parts)
    return has_large_file((*node.attached_files, *node.tool_results, *answered))


def has_large_file(parts: Iterable[PartBase]) -> bool:
    """Whether one of some parts is or has such a file."""
    return any(map(_is_large, _inside(parts)))


async def encoded(node: ConversationNode) -> tuple[str, dict[str, bytes]]:
    """Return the JSON of a node with marks for its large files, and the files by their hashes."""
    return await to_thread.run_sync(_encoded, node) if is_large(node) else (node.model_dump_json(), {})


def _encoded(node: ConversationNode) -> tuple[str, dict[str, bytes]]:
    contents: dict[str, bytes] = {}
    stand_ins: dict[str, bytes] = {}

    def stand_in(file: FilePart) -> FilePart:
        key = sha256(file.data or b"").hexdigest()
        contents[key] = file.data or b""
        return file.changed(data=stand_ins.setdefault(key, urandom(_STAND_IN_BYTES)))

    body = _with_large_files(node, stand_in).model_dump_json()
    if _MARK in body:  # somebody has written a mark of ours: it stays as it is, and so do the files
        return node.model_dump_json(), {}
    for key, token in stand_ins.items():
        body = body.replace(_data(token), f'{_MARK}{key}"')
    return body, contents


def is_marked(body: str) -> bool:
    """Whether a JSON may have marks of large files."""
    return _MARK in body


def decoded(body: str, contents: Mapping[str, Sequence[bytes]]) -> ConversationNode:
    """Return the node of a JSON.

    Args:
        body: The JSON.
        contents: The large files by their hashes, in pieces; a mark of another hash stays.
    """
    files = FileContents()

    def stand_in(mark: re.Match[str]) -> str:
        if mark[1] not in contents:
            return mark[0]
        token = urandom(_STAND_IN_BYTES)
        files[token] = b"".join(contents[mark[1]])
        return _data(token)

    if not contents:
        return ConversationNode.model_validate_json(body)
    return ConversationNode.model_validate_json(_MARKED.sub(stand_in, body), context=files)


def without_files(body: str) -> ConversationNode:
    """Return the node of a JSON with other bytes in the place of its large files, for readers that look elsewhere."""
    token = urandom(_STAND_IN_BYTES)
    return ConversationNode.model_validate_json(_MARKED.sub(_data(token), body), context=FileContents({token: token}))


def _data(data: bytes) -> str:
    return f'"data":"{urlsafe_b64encode(data).decode()}"'


def _is_large(part: PartBase) -> bool:
    return isinstance(part, FilePart) and part.data is not None and len(part.data) >= MIN_BYTES


def _inside(parts: Iterable[PartBase]) -> Iterator[PartBase]:
    for part in parts:
        if isinstance(part, ToolResultPart):
            yield from part.content
        else:
            yield part


def _with_large_files(node: ConversationNode, change: Callable[[FilePart], FilePart]) -> ConversationNode:
    """Return a node with its large files changed."""

    def changed(part: PartBase) -> PartBase:
        if isinstance(part, ToolResultPart):
            return part.changed(content=tuple(map(changed, part.content)))
        return change(part) if isinstance(part, FilePart) and _is_large(part) else part

    values: dict[str, object] = {
        "attached_files": tuple(map(changed, node.attached_files)),
        "tool_results": tuple(map(changed, node.tool_results)),
    }
    if node.response is not None:
        choices = node.response.choices
        answered = tuple(choice.changed(parts=tuple(map(changed, choice.parts))) for choice in choices)
        values["response"] = node.response.changed(choices=answered)
    return node.changed(**values)
