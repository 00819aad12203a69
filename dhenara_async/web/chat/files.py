"""Files of turns by the hash of their content, so that a page shows them by a URL and not as base64. Pure."""

from collections.abc import Iterator
from hashlib import sha256
from urllib.parse import quote

from dhenara_async.conversation import ConversationNode
from dhenara_async.messages.messages import FilePart
from dhenara_async.web.chat.http import WebReply

_SHOWN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "audio/mpeg", "audio/wav"})
"""Types that a browser shows in place; any other file is saved, because it could hold a script."""


def digest_of(file: FilePart) -> str | None:
    """Return the name of a file in URLs; None if its bytes are not here."""
    return None if file.data is None else sha256(file.data).hexdigest()[:32]


def files_of(node: ConversationNode) -> Iterator[FilePart]:
    """Iterate over the files of a turn: of its question or the results of tools in its place, then of its answer."""
    yield from node.attached_files
    for result in node.tool_results:
        yield from (part for part in result.content if isinstance(part, FilePart))
    if node.response is not None:
        yield from node.response.files()


def file_reply(file: FilePart) -> WebReply:
    """Return a file as a whole response, which the browser may keep: its name is its content."""
    shown = file.media_type in _SHOWN
    headers = {
        "cache-control": "private, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "content-disposition": "inline" if shown else saved_as(file.filename),
    }
    return WebReply(200, file.data or b"", file.media_type if shown else "application/octet-stream", headers)


def saved_as(name: str | None) -> str:
    """Return the header ``Content-Disposition`` of a file to save; None = the browser chooses its name."""
    return "attachment" if not name else f"attachment; filename*=UTF-8''{quote(name, safe='')}"
