"""Prints for a person: answers and dim status lines on stdout, errors on stderr.

Rich leaves out colours and styles where the output is not a terminal.
"""

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import assert_never

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from dhenara_async.cli.markdown import GrowingText, markdown
from dhenara_async.conversation import ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import DhenaraError
from dhenara_async.events import (
    Heartbeat,
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolApprovalRequest,
    ToolCallDelta,
    ToolEnd,
    ToolProgress,
    ToolStart,
    UsageUpdate,
)
from dhenara_async.fanout.values import FanOutProgress
from dhenara_async.formatter.conversion import ConversionEntry, ConversionReport
from dhenara_async.messages.messages import FilePart, ToolResultPart
from dhenara_async.response import FinishReason, Usage

# A model's answer must not move the cursor or retitle the window: only line feeds and tabs are let through.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_FILE_COLUMNS = 160
_FOLDED = 120
_COMMANDS = {
    "came from AIModelAPI(api_key=…)": "is kept here (dhenara-async keys)",
    "pass AIModelAPI(api_key=…)": "run dhenara-async keys set PROVIDER",
    "pass AIModelAPI(base_url=…)": "give --base-url URL",
    "AIModelAPI(base_url=…)": "--base-url",
}


class Screen:
    """Writes to standard output and standard error, and ends unfinished lines.

    Args:
        raw: Whether answers are shown as they are. Else a terminal shows them as Markdown, with words wrapped.
        json: Whether standard output is for JSON lines alone; everything for a person then goes to standard error.
    """

    def __init__(self, *, raw: bool = False, json: bool = False) -> None:
        # Rich assumes 80 columns for a file or a pipe, which would wrap tables needlessly.
        self._out = Console(stderr=json, highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
        self._err = Console(stderr=True, highlight=False)
        self._inside_line = False
        self._rendered = self._out.is_terminal and not raw
        self._growing: GrowingText | None = None
        self._growing_style = ""

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line."""
        self.end_line()
        self._out.print(_line(text, style), soft_wrap=not self._out.is_terminal)

    def quiet(self, text: str) -> None:
        """Print a dim line."""
        self.say(text, style="dim")

    def complain(self, text: str) -> None:
        """Print a line on stderr."""
        self.end_line()
        self._err.print(_line(text, ""), soft_wrap=not self._err.is_terminal)

    def problem(self, exc: DhenaraError) -> None:
        """Print an error of the library as one line on stderr."""
        self.complain("error: " + spoken(exc))

    def answer(self, text: str, *, style: str = "") -> None:
        """Print a piece of an answer, without its control characters."""
        shown = text.translate(_CONTROLS)
        if self._rendered:
            self._grow(shown, style)
        elif shown:
            self._out.out(shown, end="", style=style or None, highlight=False)
            self._inside_line = not shown.endswith("\n")

    def _grow(self, text: str, style: str) -> None:
        if self._growing is None or style != self._growing_style:
            self.end_line()
            self._growing_style = style
            render = partial(Text, style=style) if style else markdown
            self._growing = GrowingText(self._out, render)
        self._growing.add(text)

    def whole(self, text: str) -> None:
        """Print a complete answer."""
        if self._rendered:
            self.end_line()
            self._out.print(markdown(text.translate(_CONTROLS)))
        else:
            self.say(text)

    @property
    def for_a_person(self) -> bool:
        """Whether standard output is a terminal, not a file or a pipe."""
        return self._out.is_terminal

    def event(self, event: StreamEvent, *, reasoning: bool = True) -> None:
        """Print the content of an event.

        Args:
            event: The event.
            reasoning: Whether reasoning is shown.
        """
        match event:
            case TextDelta():
                self.answer(event.text)
            case RefusalDelta():
                self.answer(event.text, style="italic")
            case ReasoningDelta():
                if reasoning:
                    self.answer(event.text, style="dim italic")
            case PartStart():
                self.end_line()
            case StreamReset():
                self.quiet("(the answer starts anew)")
            case StreamSeam():
                self.quiet(f"({event.start.model or event.start.provider} goes on)")
            case ToolStart():
                self.quiet(f"→ {folded(event.call.get_text())}")
            case ToolEnd():
                self.quiet(f"← {folded(_result(event.result))}")
            case StepStart() | ToolApprovalRequest() | ToolProgress():
                pass
            case StreamStart() | PartEnd() | ToolCallDelta() | UsageUpdate() | Heartbeat() | StreamEnd():
                pass
            case _:
                assert_never(event)

    def end_line(self) -> None:
        """End the line if an answer has left it unfinished."""
        if self._growing is not None:
            self._growing.end()
            self._growing = None
        if self._inside_line:
            self._inside_line = False
            self._out.out("")

    def after_turn(self, node: ConversationNode, *, follows: bool, stand_in: bool = False) -> None:
        """Print dim lines below an answer: its ending, its tokens, their cost, and the losses of the hop.

        Args:
            node: The turn.
            follows: Whether the turn had a history.
            stand_in: Whether a stand-in answered; its cost is not shown.
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
        """Print the dim line below an answer outside a conversation."""
        self.quiet(f"usage: {_tokens(usage)}; {seconds:.1f} s")

    @contextmanager
    def progress(self) -> Generator[Callable[[FanOutProgress], None]]:
        """Show a progress bar below the output until the block ends; on a terminal only."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        # every report refreshes it, so rich needs no thread
        bar = Progress(
            *columns, console=self._out, transient=True, auto_refresh=False, disable=not self._out.is_terminal
        )
        with bar:
            task = bar.add_task("asking", total=None)

            def show(report: FanOutProgress) -> None:
                running = (
                    f"{report.running} answering, {report.failed} failed"
                    if report.failed
                    else f"{report.running} answering"
                )
                bar.update(
                    task, total=report.total, completed=report.done + report.failed, description=running, refresh=True
                )

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
                # an entry without a part of the history: the provider itself has left it out
                "" if entry.kind == "message" else outcomes.get((entry.message, entry.part), "omitted"),
                entry.code,
                _cell(f"{entry.reason.replace('_', ' ')}: {entry.detail}".removesuffix(": ")),
            )
        self._out.print(table)

    def summary(self, nodes: Iterable[ConversationNode]) -> None:
        """Show a table of turns, oldest first; "Changed" counts the parts of the history that were converted."""
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


def spoken(exc: Exception) -> str:
    """Return an error as one line that speaks of commands and options, where the library speaks of its constructors."""
    line = " ".join(str(exc).split())
    for constructor, command in _COMMANDS.items():
        line = line.replace(constructor, command)
    return line


def folded(text: str) -> str:
    """Return the first line of ``text``, shortened, with the number of lines left out."""
    first, *more = text.strip().splitlines() or [""]
    shown = first if len(first) <= _FOLDED else f"{first[: _FOLDED - 1]}…"
    return f"{shown} (+{len(more)} lines)" if more else shown


def _result(result: ToolResultPart) -> str:
    shown = "".join(
        f"({part.media_type})" if isinstance(part, FilePart) else part.get_text() for part in result.content
    )
    return f"failed: {shown}" if result.is_error else shown


def label(endpoint: AIModelEndpoint, *, stand_in: bool) -> str:
    """Describe an endpoint in a few words."""
    return f"{endpoint.ai_model.model_name} · {endpoint.api.provider}{' (stand-in)' if stand_in else ''}"


def _line(text: str, style: str) -> Text:
    return Text(text.translate(_CONTROLS), style=style)


def _cell(text: str) -> Text:
    """Build a cell for text of a model or a host; long text is folded."""
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
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return (
        f"{kinds.total()} of {sum(report.counts().values())} parts went as they were{f' ({listed})' if listed else ''}"
    )


def _route(entry: ConversionEntry) -> str:
    """Describe the hop of a part: from its model, or the user, to the target."""
    origin, target = entry.origin, entry.target
    return f"{'user' if origin is None else origin.model} → {target.model}"
