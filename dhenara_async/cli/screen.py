"""What a person sees: answers as they come on stdout, quiet lines about them, complaints on stderr.

Rich leaves out colours and styles where the output is not a terminal.
"""

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import assert_never

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from dhenara_async.conversation import ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import DhenaraError
from dhenara_async.events import (
    Heartbeat,
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from dhenara_async.fanout.values import FanOutProgress
from dhenara_async.formatter.conversion import ConversionEntry, ConversionReport
from dhenara_async.response import FinishReason, Usage

# A model's answer must not move the cursor or retitle the window: only line feeds and tabs are let through.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_FILE_COLUMNS = 160


class Screen:
    """Standard output and standard error, kept in lines."""

    def __init__(self) -> None:
        # Rich takes every output that is no terminal for 80 columns wide, which would break the table for nothing.
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
        self._err = Console(stderr=True, highlight=False)
        self._inside_line = False

    def say(self, text: str, *, style: str = "") -> None:
        """A line of its own."""
        self.end_line()
        self._out.print(_line(text, style), soft_wrap=True)

    def quiet(self, text: str) -> None:
        """A line that may be overlooked."""
        self.say(text, style="dim")

    def complain(self, text: str) -> None:
        """A line on stderr."""
        self.end_line()
        self._err.print(_line(text, ""), soft_wrap=True)

    def problem(self, exc: DhenaraError) -> None:
        """An error of the library, as one line on stderr."""
        self.complain("error: " + " ".join(str(exc).split()))

    def prompt(self, text: str) -> None:
        """The beginning of a line that somebody else will finish."""
        self.end_line()
        self._out.out(text, end="", style="bold", highlight=False)

    def answer(self, text: str, *, style: str = "") -> None:
        """A piece of an answer, exactly as it is."""
        shown = text.translate(_CONTROLS)
        if shown:
            self._out.out(shown, end="", style=style or None, highlight=False)
            self._inside_line = not shown.endswith("\n")

    def event(self, event: StreamEvent) -> None:
        """What an event adds to the answer."""
        match event:
            case TextDelta():
                self.answer(event.text)
            case RefusalDelta():
                self.answer(event.text, style="italic")
            case ReasoningDelta():
                self.answer(event.text, style="dim italic")
            case PartStart():
                self.end_line()
            case StreamReset():
                self.quiet("(the answer starts anew)")
            case StreamSeam():
                self.quiet(f"({event.start.model or event.start.provider} goes on)")
            case StreamStart() | PartEnd() | ToolCallDelta() | UsageUpdate() | Heartbeat() | StreamEnd():
                pass
            case _:
                assert_never(event)

    def end_line(self) -> None:
        """Finish the line that an answer has left unfinished."""
        if self._inside_line:
            self._inside_line = False
            self._out.out("")

    def after_turn(self, node: ConversationNode, *, follows: bool, stand_in: bool = False) -> None:
        """The quiet lines below an answer: how it ended, its tokens and their price, and what the hop lost.

        Args:
            node: The turn.
            follows: Whether it had a history to carry over.
            stand_in: Whether a stand-in answered, which costs nothing whatever its model costs.
        """
        response = node.response
        if node.status == "complete" and response is not None and response.finish_reason is not FinishReason.STOP:
            self.quiet(f"ended: {response.finish_reason.value}")
        for warning in node.warnings:
            self.quiet(f"warning: {warning.message}")
        self.quiet(f"usage: {_tokens(node.usage)}")
        if node.cost is not None and not stand_in:
            self.quiet(f"cost: ${node.cost:.6f}")  # list prices: the commands give endpoints no rates of their own
        if follows:
            self.quiet(f"hop: {_carried(node)}")

    def usage(self, usage: Usage, *, seconds: float) -> None:
        """The quiet line below an answer that stands alone."""
        self.quiet(f"usage: {_tokens(usage)}; {seconds:.1f} s")

    @contextmanager
    def progress(self) -> Generator[Callable[[FanOutProgress], None]]:
        """Show how far many calls have come, below what is said meanwhile; only on a terminal, and gone at the end."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        # refreshed by whoever tells: no thread of rich's
        bar = Progress(
            *columns, console=self._out, transient=True, auto_refresh=False, disable=not self._out.is_terminal
        )
        with bar:
            task = bar.add_task("asking", total=None)

            def show(told: FanOutProgress) -> None:
                running = (
                    f"{told.running} answering, {told.failed} failed" if told.failed else f"{told.running} answering"
                )
                bar.update(task, total=told.total, completed=told.done + told.failed, description=running, refresh=True)

            yield show

    def report(self, report: ConversionReport) -> None:
        """Show the conversion report of a turn: one line for native parts, a table for the rest."""
        self.quiet(f"report: {_native(report)}")
        if not report.entries:
            return
        table = Table("Kind", "From → to", "Outcome", "Code", "Why", box=SIMPLE_HEAD)
        outcomes = {(part.message, part.part): part.outcome for part in report.parts}
        for entry in report.entries:
            table.add_row(
                entry.kind,
                _cell(_route(entry)),
                # what is at no place of ours the provider has left out itself
                "" if entry.kind == "message" else outcomes.get((entry.message, entry.part), "omitted"),
                entry.code,
                _cell(f"{entry.reason.replace('_', ' ')}: {entry.detail}".removesuffix(": ")),
            )
        self._out.print(table)

    def summary(self, nodes: Iterable[ConversationNode]) -> None:
        """A table of turns, oldest first; "Changed" counts what of the history was not carried over as it was."""
        table = Table("Turn", "Model", "Provider", "Status", "Input", "Output", "Usage", "Changed", box=SIMPLE_HEAD)
        for number, node in enumerate(nodes, 1):
            usage, origin = node.usage, node.origin
            table.add_row(
                str(number),
                "" if origin is None else _cell(origin.model),
                "" if origin is None else origin.provider,
                node.status,
                _count(usage.input_tokens),
                _count(usage.output_tokens),
                usage.source,
                str(len(node.conversion.entries)),
            )
        self.end_line()
        self._out.print(table)


def label(endpoint: AIModelEndpoint, *, stand_in: bool) -> str:
    """An endpoint in a few words."""
    return f"{endpoint.ai_model.model_name} · {endpoint.api.provider}{' (stand-in)' if stand_in else ''}"


def _line(text: str, style: str) -> Text:
    return Text(text.translate(_CONTROLS), style=style)


def _cell(text: str) -> Text:
    """Words of a model or a host in a table; what is too long goes on in the next line."""
    return Text(text.translate(_CONTROLS), overflow="fold")


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)


def _tokens(usage: Usage) -> str:
    return f"{_count(usage.input_tokens)} input, {_count(usage.output_tokens)} output tokens ({usage.source})"


def _carried(node: ConversationNode) -> str:
    entries = node.conversion.entries
    if not entries:
        return "the whole history was carried over"
    codes = ", ".join(f"{code} x{count}" for code, count in sorted(Counter(entry.code for entry in entries).items()))
    lost = len(node.conversion.lossy)
    return f"{len(entries)} of the history not carried over as it was, {lost} of it lost ({codes})"


def _native(report: ConversionReport) -> str:
    kinds = Counter(part.kind for part in report.parts if part.outcome == "native")
    kinds.update(report.counted)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{kinds.total()} of {sum(report.counts().values())} parts went as they were{f' ({told})' if told else ''}"


def _route(entry: ConversionEntry) -> str:
    """Whose part it is and who was to have it; what nobody has said is the user's or was made up for the target."""
    origin, target = entry.origin, entry.target
    return f"{'user' if origin is None else origin.model} → {target.model}"
