"""Decides which file URLs a target fetches itself, and puts downloaded files into a request in place of the others.

Pure: ``fetch`` does the downloads. Whether a target fetches a URL depends on its driver's rules, its host and the kind
of file, never on whether the download would work.

Sources: the providers' pages on vision, PDF and file input (read 2026-11-22)
"""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from dhenara_async.downloads.file_urls import is_local, leads_inside
from dhenara_async.drivers.rules import url_scheme
from dhenara_async.endpoint import AIModelAPIProviderEnum, AIModelEndpoint
from dhenara_async.hosts.registry import expected_origin, host_of, rules_of
from dhenara_async.messages.media import placeholder
from dhenara_async.messages.messages import FilePart, Message, Part, Role, ToolResultPart

INLINED = "media_inlined"
"""The report's code for a file that is downloaded because its target does not fetch it."""

FileKey = tuple[str, str]
"""The URL and the media type of a file; files with the same key are downloaded once."""

_HTTP = frozenset({"http", "https"})
# Self-hosted servers: they stand in a private network, and some fetch any URL that they get.
_SELF_RUN: frozenset[str] = frozenset(
    {
        AIModelAPIProviderEnum.OLLAMA,
        AIModelAPIProviderEnum.VLLM,
        AIModelAPIProviderEnum.LM_STUDIO,
        AIModelAPIProviderEnum.LLAMA_CPP,
    }
)


def fetches(endpoint: AIModelEndpoint, part: FilePart) -> bool:
    """Whether the URL of ``part`` is sent to ``endpoint``, which fetches it; True for a part without a URL.

    URLs that may lead into the server's own network (``leads_inside``) are never sent, and self-hosted servers get no
    URLs. Those files are downloaded here, under the call's ``FetchPolicy``, and sent inline.
    """
    if part.url is None:
        return True
    if url_scheme(part) in _HTTP and leads_inside(part.url):
        return False
    provider = endpoint.api.provider
    host = host_of(provider)
    if host.fetches is not None:
        return host.fetches(part)
    if provider in _SELF_RUN or (provider == AIModelAPIProviderEnum.OPENAI_COMPATIBLE and _is_local(endpoint)):
        return False
    return rules_of(endpoint).fetches(part)


def to_download(messages: Iterable[Message], endpoint: AIModelEndpoint) -> tuple[FilePart, ...]:
    """Return the files of ``messages`` that ``endpoint`` cannot fetch, without duplicates, in order."""
    found = {key_of(part): part for part in _files(messages) if not fetches(endpoint, part)}
    return tuple(found.values())


def to_check(messages: Iterable[Message], endpoint: AIModelEndpoint) -> tuple[str, ...]:
    """Return the URLs for ``endpoint`` whose hosts must be checked first; none for a provider's official host."""
    host = host_of(endpoint.api.provider)
    if host.base_url is not None and expected_origin(endpoint).endpoint == urlsplit(host.base_url).netloc:
        return ()
    urls = (part.url for part in _files(messages) if part.url is not None and fetches(endpoint, part))
    return tuple(url for url in urls if url.partition(":")[0].lower() in _HTTP)


def key_of(part: FilePart) -> FileKey:
    """Return the key of a file for ``inlined``."""
    return part.url or "", part.media_type


def inlined(messages: Iterable[Message], files: Mapping[FileKey, FilePart]) -> tuple[Message, ...]:
    """Return ``messages`` with every file replaced by the file of the same key in ``files``."""
    return tuple(_replaced(message, files) for message in messages)


def stand_in(part: FilePart) -> FilePart:
    """Return a placeholder for a file not downloaded yet, to find out whether an encoder accepts the file."""
    media_type = "image/png" if "*" in part.media_type else part.media_type
    return part.changed(url=None, media_type=media_type, data=placeholder(media_type))


def _files(messages: Iterable[Message]) -> Iterable[FilePart]:
    for message in messages:
        if message.role is Role.ASSISTANT:
            continue  # a provider's own files are sent back unchanged
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


def _is_local(endpoint: AIModelEndpoint) -> bool:
    """Whether the address of ``endpoint`` is in a private network."""
    return is_local(urlsplit(f"//{expected_origin(endpoint).endpoint}").hostname or "")
