"""Draws the picture of the README: a conversation that moves from Claude to GPT, and the report of that hop.

``python -m tests.readme.picture`` runs the conversation against a ``ProviderServer`` and writes ``hop.svg``. The
picture is the same each time: it has no times and no random ids, and it loads nothing from the network.
"""

import asyncio
import io
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dhenara_async import (
    AIModelAPIProviderEnum,
    AIModelEndpoint,
    Conversation,
    ConversationManager,
    ConversionReport,
    ReasoningDelta,
    TextDelta,
)
from dhenara_async.models.anthropic import ClaudeSonnet55
from dhenara_async.models.openai import GPT62Sol
from dhenara_async.testing import ProviderServer
from dhenara_async.testing.examples import ExampleAnswers

PICTURE = Path(__file__).with_name("hop.svg")
_TURNS = (
    ("Tell a short story about a robot.", AIModelAPIProviderEnum.ANTHROPIC, ClaudeSonnet55),
    ("Now give it a twist.", AIModelAPIProviderEnum.OPEN_AI, GPT62Sol),
)
_COLUMNS = 98
_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix, .{unique_id}-title {{ font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }}
.{unique_id}-matrix {{ font-size: {char_height}px; line-height: {line_height}px }}
.{unique_id}-title {{ font-size: 18px }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""The frame of the recording. Rich's own frame loads a font from the network; this one takes a font of the reader's."""


async def draw() -> str:
    """Have the conversation, and return its recording as SVG."""
    console = Console(
        record=True,
        width=_COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        no_color=False,
        legacy_windows=False,
    )
    async with ProviderServer(ExampleAnswers()) as server, ConversationManager() as manager:
        conversation, report = await manager.create(), ConversionReport()
        for question, provider, model in _TURNS:
            endpoint = AIModelEndpoint(api=server.api(provider), ai_model=model)
            report = await _ask(console, manager, conversation, question, endpoint)
    console.print(_table(report, conversation))
    return console.export_svg(title="dhenara_async", unique_id="hop", code_format=_SVG)


async def _ask(
    console: Console, manager: ConversationManager, conversation: Conversation, question: str, endpoint: AIModelEndpoint
) -> ConversionReport:
    """Show one turn, token by token, and return what the model was sent."""
    console.print(Text(f"\nYou: {question}", style="bold"))
    console.print(Text(f"{endpoint.ai_model.display_name}:", style="bold cyan"))
    reasons = False
    async with manager.turn(conversation, question, endpoint) as turn:
        async for event in turn:
            if isinstance(event, ReasoningDelta):
                console.out(event.text, style="italic bright_black", end="")
                reasons = True
            elif isinstance(event, TextDelta):
                console.out("\n" if reasons else "", event.text, sep="", end="")
                reasons = False
    console.out("")
    return turn.response.conversion


def _table(report: ConversionReport, conversation: Conversation) -> Table:
    """The parts that the second model was sent, or not."""
    messages = [message for node in conversation.path() for message in node.as_messages()]
    reasons = {(entry.message, entry.part): entry.reason.replace("_", " ") for entry in report.entries}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("Report of the hop", "Part", "From", "Outcome", "Reason"):
        table.add_column(column, no_wrap=True)
    for sent in report.parts:
        assert sent.message is not None and sent.part is not None
        part = messages[sent.message].parts[sent.part]
        maker = "you" if part.origin is None else part.origin.provider
        outcome = Text(sent.outcome, style="green" if sent.outcome == "native" else "yellow")
        table.add_row(part.get_text(), sent.kind, maker, outcome, reasons.get((sent.message, sent.part), ""))
    return table


if __name__ == "__main__":
    PICTURE.write_text(asyncio.run(draw()), encoding="utf-8")
