"""Which targets fetch a file's URL themselves, and a request with the files of all others put in its place.

Pure: what is to be downloaded is told here, who downloads it is ``fetch``. Whether a target fetches depends on its
dialect, its host and the kind of file, never on whether the download would work.

Sources: the providers' pages on vision, PDF and file input (read 2026-11-22)
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from dhenara_async.downloads.file_urls import is_local, leads_inside
from dhenara_async.drivers.openai_chat.quirks import Quirks
from dhenara_async.endpoint import AIModelAPIProviderEnum, AIModelEndpoint, Dialect
from dhenara_async.hosts.registry import expected_origin, host_of
from dhenara_async.messages.media import Kind, placeholder
from dhenara_async.messages.messages import FilePart, Message, Part, Role, ToolResultPart

INLINED = "media_inlined"
"""The report's code for a file that is downloaded because its target cannot."""

FileKey = tuple[str, str]
"""What makes two files one download: their URL and their type."""

_FETCHED: Mapping[str, frozenset[Kind]] = {
    Dialect.OPENAI_RESPONSES: frozenset({"image", "pdf", "text", "other"}),
    Dialect.ANTHROPIC_MESSAGES: frozenset({"image", "pdf"}),
    Dialect.GEMINI: frozenset({"image", "pdf", "text", "audio", "video", "other"}),
}
_HTTP = frozenset({"http", "https"})
_ONLY_HTTPS: frozenset[str] = frozenset({Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI})
_OLD_GEMINI = re.compile(r"(models/)?gemini-([12]\b|pro$|pro-vision|exp)")
# Google reads its own places whatever the model: its file store, its cloud's buckets and YouTube.
_GOOGLE = re.compile(
    r"gs://|https://(generativelanguage\.googleapis\.com|(www\.)?youtube\.com|youtu\.be)/", re.IGNORECASE
)
# Servers people run themselves, wherever: they stand in somebody's own network, and some fetch what they are handed.
_SELF_RUN: frozenset[str] = frozenset(
    {
        AIModelAPIProviderEnum.OLLAMA,
        AIModelAPIProviderEnum.VLLM,
        AIModelAPIProviderEnum.LM_STUDIO,
        AIModelAPIProviderEnum.LLAMA_CPP,
    }
)


def fetches(endpoint: AIModelEndpoint, part: FilePart) -> bool:
    """Whether ``endpoint`` can and may be handed the URL of ``part``; True for a part that has none.

    No server is handed what may lead into its own network (``leads_inside``), and a server that people run themselves
    is handed nothing: what is not handed on is downloaded here, by the rules of the call's ``FetchPolicy``.
    """
    if part.url is None:
        return True
    host, target = host_of(endpoint.api.provider), expected_origin(endpoint)
    scheme = part.url.partition(":")[0].lower()
    if host.fetches is not None:
        return host.fetches(part) and not (scheme in _HTTP and leads_inside(part.url))
    dialect = target.dialect
    if dialect == Dialect.GEMINI and _GOOGLE.match(part.url):
        return True
    if scheme not in _HTTP or (scheme == "http" and dialect in _ONLY_HTTPS) or leads_inside(part.url):
        return False
    if endpoint.api.provider in _SELF_RUN or (
        endpoint.api.provider == AIModelAPIProviderEnum.OPENAI_COMPATIBLE and is_local(_name_of(target.endpoint))
    ):
        return False
    if dialect == Dialect.GEMINI and _OLD_GEMINI.match(target.model):
        return False
    if dialect == Dialect.OPENAI_CHAT:
        return _chat_fetches(host.quirks, part.kind)
    return part.kind in _FETCHED.get(dialect, ())  # of a dialect from outside nothing is known


def to_download(messages: Iterable[Message], endpoint: AIModelEndpoint) -> tuple[FilePart, ...]:
    """The files of ``messages`` that ``endpoint`` cannot fetch, each once, in order."""
    found = {key_of(part): part for part in _files(messages) if not fetches(endpoint, part)}
    return tuple(found.values())


def to_check(messages: Iterable[Message], endpoint: AIModelEndpoint) -> tuple[str, ...]:
    """The URLs that ``endpoint`` is handed and that have to be looked up first: none where a maker's own service is."""
    host = host_of(endpoint.api.provider)
    if host.base_url is not None and expected_origin(endpoint).endpoint == urlsplit(host.base_url).netloc:
        return ()
    urls = (part.url for part in _files(messages) if part.url is not None and fetches(endpoint, part))
    return tuple(url for url in urls if url.partition(":")[0].lower() in _HTTP)


def key_of(part: FilePart) -> FileKey:
    """What ``inlined`` knows a file by."""
    return part.url or "", part.media_type


def inlined(messages: Iterable[Message], files: Mapping[FileKey, FilePart]) -> tuple[Message, ...]:
    """``messages`` with every file that ``files`` has by its key replaced by that one."""
    return tuple(_replaced(message, files) for message in messages)


def stand_in(part: FilePart) -> FilePart:
    """A file that is not there yet, as far as an encoder looks at it: to find out whether it would be taken at all."""
    media_type = "image/png" if "*" in part.media_type else part.media_type
    return part.changed(url=None, media_type=media_type, data=placeholder(media_type))


def _files(messages: Iterable[Message]) -> Iterable[FilePart]:
    for message in messages:
        if message.role is Role.ASSISTANT:
            continue  # what a provider made goes back as it came
        for part in message.parts:
            if isinstance(part, FilePart):
                yield part
            elif isinstance(part, ToolResultPart):
                yield from (item for item in part.content if isinstance(item, FilePart))


def _replaced(message: Message, files: Mapping[FileKey, FilePart]) -> Message:
    if message.role is Role.ASSISTANT:
        return message
    parts = tuple(_replaced_part(part, files) for part in message.parts)
    if all(new is old for new, old in zip(parts, message.parts, strict=True)):
        return message
    return message.changed(parts=parts)


def _replaced_part(part: Part, files: Mapping[FileKey, FilePart]) -> Part:
    match part:
        case FilePart(url=str()):
            return files.get(key_of(part), part)
        case ToolResultPart():
            content = tuple(
                files.get(key_of(item), item) if isinstance(item, FilePart) else item for item in part.content
            )
            if all(new is old for new, old in zip(content, part.content, strict=True)):
                return part
            return part.changed(content=content)
        case _:
            return part


def _chat_fetches(quirks: Quirks, kind: Kind) -> bool:
    match kind:
        case "image":
            return quirks.image_urls
        case "pdf":
            return quirks.documents in ("file or url", "document_url")
        case "video":
            return quirks.video
        case _:
            return False


def _name_of(netloc: str) -> str:
    """The host of a host and port."""
    return urlsplit(f"//{netloc}").hostname or ""
