"""The search of every store: the words of a node, the words that are looked for, and the snippet of a hit."""

import re
from dataclasses import dataclass, field
from typing import Final

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import TextPart

MAX_WORDS_BYTES: Final = 250_000
"""How much of a node can be found, in bytes of UTF-8: PostgreSQL's index takes no more than 1 MB of one row."""
_MAX_ASKED: Final = 32
_WORD: Final = re.compile(r"[^\W_]+")
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_AROUND: Final = 60  # characters of a snippet on each side of the first word


@dataclass(frozen=True, slots=True, repr=False)
class SearchHit(ShortRepr):
    """A node that has every word that was looked for.

    Attributes:
        conversation: The id of its conversation.
        node: The node's id.
        title: The title of the conversation; None if it has none.
        snippet: The place of the first word, on one line, with ``…`` where text was left out.
    """

    conversation: str
    node: str
    title: str | None
    snippet: str = field(repr=False)


def words_of(node: ConversationNode) -> str:
    """The text by which a node is found: the question, then the answer without its reasoning."""
    texts = [node.user_query]
    if node.response is not None:
        texts += [part.text for choice in node.response.choices for part in choice.parts if isinstance(part, TextPart)]
    text = _UNSTORABLE.sub(" ", "\n".join(text for text in texts if text))
    return text.encode()[:MAX_WORDS_BYTES].decode(errors="ignore")


def asked_words(query: str) -> list[str]:
    """The words of a query, at most 32. All else in it means nothing: there are no operators to inject.

    Raises:
        ConfigurationError: It is no text.
    """
    if not isinstance(query, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"the query of a search is a text, not {type(query).__name__}")
    return _WORD.findall(query)[:_MAX_ASKED]


def demand_limit(limit: int) -> int:
    """Return a limit of rows, at most a million: a database takes no number of any size.

    Raises:
        ConfigurationError: It is below 1, or no integer.
    """
    if not isinstance(limit, int) or limit < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"limit is {limit!r}; pass an integer of at least 1")
    return min(limit, 1_000_000)


def demand_cursor(before: str | None) -> int | None:
    """Return the number in the cursor of a page; None = the newest page.

    Raises:
        ConfigurationError: It is no cursor of a page.
    """
    if before is None:
        return None
    if not isinstance(before, str) or not (  # pyright: ignore[reportUnnecessaryIsInstance]
        before.isascii() and before.isdecimal() and len(before) < 19
    ):
        raise ConfigurationError("before is not a cursor of this store: pass the next of the page before")
    return int(before)


def matches(text: str, words: list[str]) -> bool:
    """Whether ``text`` has every one of ``words``, as whole words."""
    return {word.lower() for word in words} <= set(_WORD.findall(text.lower()))


def snippet(text: str, words: list[str]) -> str:
    """The part of ``text`` around the first place where one of ``words`` stands."""
    found = re.search("|".join(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" for word in words), text, re.IGNORECASE)
    at = 0 if found is None else found.start()
    start, end = max(0, at - _AROUND), min(len(text), at + 2 * _AROUND)
    line = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{line}{'…' if end < len(text) else ''}"
