"""Converts attachments to ``FilePart``; files on disk are read in a thread.

Only ``pathlib.Path`` and other ``os.PathLike`` objects are paths. A ``str`` must be a URL: it may come from a user, and
reading it from disk could send ``/etc/passwd`` to a model.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import FilePart, check_path

Attachment = FilePart | bytes | str | os.PathLike[str]
"""A file, its bytes, its ``https:`` or ``data:`` URL, or its path."""


@dataclass(frozen=True, slots=True)
class Attached:
    """The attachments of a question, in order.

    Attributes:
        items: Files, and paths of files that are not read yet.
    """

    items: tuple[FilePart | Path, ...]

    @classmethod
    def of(cls, attachments: Iterable[Attachment]) -> "Attached":
        """Check attachments without reading files from disk.

        Raises:
            ConfigurationError: An attachment has a wrong type, or its path cannot be read.
        """
        return cls(tuple(map(_taken, attachments)))

    def at_hand(self) -> tuple[FilePart, ...] | None:
        """Return the files if all are in memory; else None."""
        files = tuple(item for item in self.items if isinstance(item, FilePart))
        return files if len(files) == len(self.items) else None

    def read(self) -> tuple[FilePart, ...]:
        """Read the files, blocking.

        Raises:
            ConfigurationError: A file cannot be read or used.
        """
        return tuple(item if isinstance(item, FilePart) else FilePart.from_path(item) for item in self.items)

    async def read_in_thread(self) -> tuple[FilePart, ...]:
        """Read the files in a thread, without blocking the event loop.

        Raises:
            ConfigurationError: A file cannot be read or used.
        """
        return self.at_hand() or await anyio.to_thread.run_sync(self.read, abandon_on_cancel=True)


def _taken(attachment: object) -> FilePart | Path:
    match attachment:
        case FilePart():
            return attachment
        case bytes():
            return FilePart.from_bytes(attachment)
        case str():
            return _from_text(attachment)
        case os.PathLike():
            path = Path(attachment)  # pyright: ignore[reportUnknownArgumentType] - checked next
            check_path(path)
            return path
        case _:
            raise ConfigurationError(
                f"files takes FilePart, bytes, pathlib.Path and URLs, not {type(attachment).__name__}"
            )


def _from_text(text: str) -> FilePart:
    if not text[:8].lower().startswith(("http://", "https://", "data:")):
        raise ConfigurationError(
            "a text among files is taken for a URL, and this one begins with neither https:// nor data:; for a file on "
            "disk pass pathlib.Path(…), for one in memory its bytes or FilePart.from_bytes(…)"
        )
    return FilePart.from_url(text)
