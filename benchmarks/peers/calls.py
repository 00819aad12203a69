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
        stream: One streamed call; hands over the text of each delta as soon as the peer does.
        generate: One plain call; the text of its answer.
        fold: One streamed call, and the text of the whole answer as the peer put it together; None if it does not.
    """

    stream: Callable[[Take], Coroutine[Any, Any, None]]
    generate: Callable[[], Awaitable[str]]
    fold: Callable[[], Awaitable[str]] | None = None


Open = Callable[[str, str], AbstractAsyncContextManager[Calls]]
"""Opens a peer for a dialect at the server's URL, which ends in the number of events."""

Opened = AsyncGenerator[Calls]


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who is measured.

    Attributes:
        name: As in the table.
        package: What must be importable.
        oldest: Its distribution's name and the lowest major version of that; None = any.
        dialects: What it speaks.
        open: Opens it.
        streams_only: Its plain call is no other than an earlier peer's.
        folds: Whether it puts the answer together, see ``Calls.fold``.
        slow: It takes so long that it sits most rounds out, and has fewer streams open.
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
        """What has to be installed, in words."""
        return self.package if self.oldest is None else f"{self.package} (version {self.oldest[1]} or later)"

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        try:
            if find_spec(self.package) is None:
                return False
        except ModuleNotFoundError:  # the parent of a dotted name is missing
            return False
        return self.oldest is None or int(version(self.oldest[0]).partition(".")[0]) >= self.oldest[1]


def loaded(module: str) -> Any:
    """A module that need not be installed, without its types: whoever checks types need not have it either."""
    return import_module(module)
