"""``Assets``: the files of the page, a fixed list from the package; a path of a request never reaches the disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from dhenara_async.frozen import ShortRepr
from dhenara_async.web.chat.http import WebReply
from dhenara_async.web.inputs.fields import RefusedRequest
from dhenara_async.web.playground.security import PAGE_POLICY

_INDEX = "index.html"
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
}


@dataclass(frozen=True, slots=True, repr=False)
class _Asset(ShortRepr):
    """One file of the page."""

    content: bytes = field(repr=False)
    media_type: str
    tag: str


class Assets:
    """The files of the page, read once."""

    def __init__(self) -> None:
        self._files: dict[str, _Asset] = dict(_found(files("dhenara_async.web.playground") / "page"))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, those in folders with a slash."""
        return tuple(self._files)

    def index(self, known: str | None) -> WebReply:
        """Return the page itself.

        Args:
            known: The header ``If-None-Match``; None if there is none.

        Raises:
            RefusedRequest: The package was installed without the page.
        """
        page = self._files.get(_INDEX)
        if page is None:
            raise RefusedRequest(404, "The page is not part of this installation.")
        reply = self._reply(page, known)
        return WebReply(
            reply.status, reply.body, reply.media_type, {**reply.headers, "content-security-policy": PAGE_POLICY}
        )

    def file(self, name: str, known: str | None) -> WebReply:
        """Return a file; arguments as for ``index``.

        Args:
            name: Its name.
            known: See ``index``.

        Raises:
            RefusedRequest: The page has no such file.
        """
        asset = self._files.get(name)
        if asset is None or name == _INDEX:
            raise RefusedRequest(404, "There is no such file.")
        return self._reply(asset, known)

    def _reply(self, asset: _Asset, known: str | None) -> WebReply:
        # asked again each time: an upgrade of the package must not leave old modules beside new ones
        headers = {"etag": asset.tag, "cache-control": "no-cache"}
        if known is not None and asset.tag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
            return WebReply(304, b"", None, headers)
        return WebReply(200, asset.content, asset.media_type, headers)


def _found(folder: Traversable, before: str = "") -> Iterator[tuple[str, _Asset]]:
    for item in sorted(folder.iterdir() if folder.is_dir() else (), key=lambda item: item.name):
        if item.is_dir():
            yield from _found(item, f"{before}{item.name}/")
            continue
        media_type = _TYPES.get("." + item.name.rpartition(".")[2])
        if media_type is not None:
            content = item.read_bytes()
            yield f"{before}{item.name}", _Asset(content, media_type, f'"{sha256(content).hexdigest()[:32]}"')
