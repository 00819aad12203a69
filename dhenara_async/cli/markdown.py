"""Shows a growing answer on a terminal: words are wrapped, and Markdown is rendered while it comes.

Finished blocks are printed once and scroll away as any output does; only the last, unfinished one is redrawn.
"""

import re
import time
from collections.abc import Callable

from markdown_it import MarkdownIt
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
_BOUNDARY = re.compile(r"\n[ \t]*\n(?=\S)")  # an indented line goes on with the list item before it
_REST = 4  # drawing a long block may take at most a fifth of the time


def markdown(text: str) -> Markdown:
    """Return ``text`` rendered. HTML is shown as it is, and a link with its address: nothing of an answer is hidden."""
    rendered = Markdown("", hyperlinks=False)
    rendered.parsed = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).parse(text)
    return rendered


class GrowingText:
    """One text on a terminal, shown while it grows.

    Args:
        console: The terminal.
        render: Turns a block of the text into something to print.
    """

    def __init__(self, console: Console, render: Callable[[str], RenderableType]) -> None:
        self._console = console
        self._render = render
        self._pending = ""
        self._blocks = 0
        self._live: Live | None = None
        self._drawn = self._cost = 0.0

    def add(self, text: str) -> None:
        """Show a further piece of the text."""
        self._pending += text
        while (end := _finished(self._pending)) is not None:
            block, self._pending = self._pending[:end], self._pending[end:]
            self._print(block)
        begun = time.monotonic()
        if self._pending.strip() and begun - self._drawn >= _REST * self._cost:
            self._draw()
            self._drawn = time.monotonic()
            self._cost = self._drawn - begun

    def end(self) -> None:
        """Print the last block."""
        block, self._pending = self._pending, ""
        self._print(block)

    def _print(self, block: str) -> None:
        if self._live is not None:
            self._live.stop()  # it is transient: what it has drawn is wiped out
            self._live = None
        if block.strip():
            if self._blocks:
                self._console.print()
            self._blocks += 1
            self._console.print(_joined(self._lines(block)), end="")

    def _draw(self) -> None:
        height = max(self._console.size.height - 2, 1)
        gap: list[list[Segment]] = [[]] if self._blocks else []
        shown = _joined([*gap, *self._lines(self._pending)[-height:]])
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(shown, refresh=True)

    def _lines(self, block: str) -> list[list[Segment]]:
        """Render a block, without the empty lines that headings and lists put around themselves."""
        lines = self._console.render_lines(self._render(block.strip("\n")), pad=False)
        full = [number for number, line in enumerate(lines) if not _is_empty(line)]
        return lines[full[0] : full[-1] + 1] if full else []


def _is_empty(line: list[Segment]) -> bool:
    return not any(part.text.strip() or (part.style is not None and part.style.bgcolor is not None) for part in line)


def _joined(lines: list[list[Segment]]) -> Segments:
    return Segments([part for line in lines for part in (*line, Segment.line())])


def _finished(text: str) -> int | None:
    """Return where the first block of ``text`` ends; None if it may still grow."""
    for boundary in _BOUNDARY.finditer(text):
        if _closed(text[: boundary.start()]):
            return boundary.end()
    return None


def _closed(text: str) -> bool:
    """Whether no code fence of ``text`` is open."""
    fence = ""
    for match in _FENCE.finditer(text):
        mark = match[1]
        if not fence:
            fence = mark
        elif mark[0] == fence[0] and len(mark) >= len(fence):
            fence = ""
    return not fence
