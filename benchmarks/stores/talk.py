"""The talk that every store keeps, and what each of them is asked to do with it."""

from collections.abc import Callable
from typing import Final, Protocol

TURNS: Final = 100
"""Turns of a conversation."""
PAGE: Final = 20
RARE: Final = "kingfisher"
"""A word of every hundredth turn."""

Progress = Callable[[int], None]
"""Called with the number of turns that are kept so far."""


def question(turn: int) -> str:
    """Return the question of a turn."""
    return f"Question {turn}: what does the {RARE if turn % 100 == 0 else 'robot'} do next?"


def answer(turn: int) -> str:
    """Return the answer of a turn."""
    return f"Answer {turn}: " + "it takes the brush and paints another piece of the sky. " * 4


def name_of(conversation: int) -> str:
    """Return the id of a conversation."""
    return f"conversation-{conversation}"


class WrongResultError(Exception):
    """A store did not give what it was asked for."""


def demand(right: bool, what: str) -> None:
    """Raise if a store gave something else; a fast wrong answer is no figure.

    Raises:
        WrongResultError: ``right`` is False.
    """
    if not right:
        raise WrongResultError(what)


class Keeper(Protocol):
    """A store while it is open, with the talk of ``conversations`` times ``TURNS`` turns in it."""

    async def fill(self, conversations: int, progress: Progress) -> None:
        """Keep the talk."""
        ...

    async def open(self, conversation: int) -> None:
        """Read a conversation as its next turn needs it."""
        ...

    async def append(self, conversation: int) -> None:
        """Keep one more turn of a conversation; what it follows is known."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


class SearchableKeeper(Keeper, Protocol):
    """A store that lists conversations and finds words."""

    async def list(self) -> None:
        """Read the first page of conversations."""
        ...

    async def search(self) -> None:
        """Find the newest turns with a rare word."""
        ...

    async def open_tree(self) -> None:
        """Read the path of ``PAGE`` turns to the head of a conversation that has all turns of the store."""
        ...
