"""The protocol of an adapter: each peer makes the same call and returns only the text."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

KEY = "benchmark"
PROMPT = "Tell me about streams."
MAX_OUTPUT_TOKENS = 1024

Take = Callable[[str], object]
"""Gets the text of a delta."""


@dataclass(frozen=True, slots=True)
class Calls:
    """An opened peer.

    Attributes:
        stream: Makes a streamed call, and yields the text of each delta at once.
        generate: Makes a plain call, and returns the text of its answer.
        fold: Makes a streamed call, and returns the text of the answer that the peer has accumulated; None if the peer
            accumulates none.
    """

    stream: Callable[[Take], Coroutine[Any, Any, None]]
    generate: Callable[[], Awaitable[str]]
    fold: Callable[[], Awaitable[str]] | None = None


Open = Callable[[str, str], AbstractAsyncContextManager[Calls]]
"""Opens a peer for a dialect at the server's URL, which ends in the number of events."""

Opened = AsyncGenerator[Calls]


@dataclass(frozen=True, slots=True)
class Peer:
    """A library that is measured.

    Attributes:
        name: Its name in the table.
        package: The package that must be importable.
        oldest: The name of its distribution, and the lowest supported major version; None = any.
        dialects: The dialects that it supports.
        open: Opens the peer.
        streams_only: Whether its plain call is the same as that of an earlier peer.
        folds: Whether it accumulates the answer, see ``Calls.fold``.
        slow: Whether it skips most rounds, and opens fewer streams, because it takes long.
    """

    name: str
    package: str
    dialects: tuple[str, ...]
    open: Open
    oldest: tuple[str, int] | None = None
    streams_only: bool = False
    folds: bool = False
    slow: bool = False

    @property
    def needs(self) -> str:
        """The requirement to install."""
        return self.package if self.oldest is None else f"{self.package} (version {self.oldest[1]} or later)"

    @property
    def installed(self) -> bool:
        """Whether the requirement is installed."""
        try:
            if find_spec(self.package) is None:
                return False
        except ModuleNotFoundError:  # the parent of a dotted name is missing
            return False
        return self.oldest is None or int(version(self.oldest[0]).partition(".")[0]) >= self.oldest[1]


def loaded(module: str) -> Any:
    """Import an optional module without its types, so that type checks do not need it."""
    return import_module(module)
