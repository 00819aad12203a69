"""Reads the code blocks of the README, and pastes them as a reader would paste them into ``python -m asyncio``."""

import ast
import inspect
import re
from codeop import CommandCompiler
from dataclasses import dataclass
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$\n?(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block of the README.

    Attributes:
        heading: The heading above it.
        language: The word behind its fence.
        code: Its lines.
        output: The lines of the ``text`` block right behind it; None if there is none.
    """

    heading: str
    language: str
    code: str
    output: str | None


def blocks(language: str, text: str = README) -> list[Block]:
    """The blocks in ``language``, in order."""
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        above = [heading for _level, heading in _HEADING.findall(_without_code(text[: match.start()]))]
        found.append(Block(above[-1] if above else "", match[1], match[2], match[3]))
    return [block for block in found if block.language == language]


def anchors(text: str = README) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = [heading for _level, heading in _HEADING.findall(_without_code(text))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(heading: str, text: str = README) -> str:
    """What stands below ``heading``, up to the next heading of any level.

    Raises:
        LookupError: There is no such heading.
    """
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise LookupError(f"the README has no heading {heading!r}")
    return found[1]


async def paste(code: str, names: dict[str, object]) -> None:
    """Run ``code`` line by line as ``python -m asyncio`` does: the values of lone expressions are printed.

    Args:
        code: What is pasted, with a blank line behind it.
        names: The names that the lines before have defined; changed.

    Raises:
        SyntaxError: A line does not fit, such as one that follows an indented line without a blank line between.
    """
    compiler = CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    lines: list[str] = []
    for line in [*code.splitlines(), ""]:
        lines.append(line)
        statement = compiler("\n".join(lines), "README.md", "single")
        if statement is None:  # goes on in the next line
            continue
        lines.clear()
        outcome: object = eval(statement, names)  # noqa: S307 - our own README
        if inspect.isawaitable(outcome):
            await outcome
    if lines:
        raise SyntaxError(f"the block ends inside a statement: {lines[-1]!r}")


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
