"""Markdown for notebooks: pieces of ``_repr_markdown_``, which Jupyter shows instead of the ``repr``."""

from collections.abc import Iterable, Sequence
from typing import Protocol


class ShownInJupyter(Protocol):
    """An object with Jupyter's method."""

    def _repr_markdown_(self) -> str: ...


def as_markdown(value: ShownInJupyter) -> str:
    """Return the Markdown that Jupyter shows for ``value``."""
    return value._repr_markdown_()  # pyright: ignore[reportPrivateUsage] - the name is Jupyter's


def quoted_lines(text: str) -> str:
    """Return ``text`` as a Markdown quotation."""
    return "\n".join(f"> {line}" for line in text.splitlines())


def code_span(text: str) -> str:
    """Return one line of code in Markdown, between more backquotes than it has in a row."""
    line = " ".join(text.split())
    fence = "`"
    while fence in line:
        fence += "`"
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a cell's line ends and bars are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
