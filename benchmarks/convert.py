"""``python -m benchmarks convert``: CPU microseconds a turn of history costs on its hop to another provider.

The history is mixed: four providers answer in turn, with reasoning, tool loops, files, searches of their own and
citations. Cold, nothing of it has been formatted before; then it grows by some turns, formatted after each: what one
more costs. Targets and sizes take turns within a round, and ratios are taken within it. What comes of a history that
grew is compared, outside the measured time, with what comes of the same one formatted at once.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.history import TARGETS, mixed_history
from benchmarks.rounds import positive, ratio_cells, rotated
from dhenara_async import (
    AIModelCallConfig,
    AIModelEndpoint,
    ConversationManager,
    ConversationNode,
    Message,
    PromptFormatter,
)
from dhenara_async.conversation import Conversation
from dhenara_async.formatter.formatter import FormattedConversation
from dhenara_async.hosts.registry import driver_for
from dhenara_async.request import ChatRequest
from dhenara_async.usage import prices

_SIZES = (125, 250, 500, 1000)
_MORE = 20  # turns until the mixture of the history begins anew
_QUESTIONS = 1000
_ASKED = (Message.user("And what follows from all that?"),)
_CONFIG = AIModelCallConfig()


@dataclass(slots=True)
class _Row:
    """One target and one length of the history; an element a round.

    Attributes:
        target: Its name.
        turns: How many the history has before it grows.
        cold: Microseconds a turn, formatting all of it.
        more: Microseconds for the whole history again, after one more turn.
        encoded: Microseconds a turn, formatting and encoding all of it.
        checked: Microseconds a turn of ``ConversationManager.check``.
        cold_ratios: ``cold`` against the shortest history's of the same round; 1 is linear.
        more_ratios: ``more`` against the shortest history's; 1 is in proportion to the new turn alone.
        shares: ``more`` against formatting all of it cold.
        report_bytes: The report as JSON.
        same: Whether growing came to the same as formatting at once.
    """

    target: str
    turns: int
    cold: list[float] = field(default_factory=list[float])
    more: list[float] = field(default_factory=list[float])
    encoded: list[float] = field(default_factory=list[float])
    checked: list[float] = field(default_factory=list[float])
    cold_ratios: list[float] = field(default_factory=list[float])
    more_ratios: list[float] = field(default_factory=list[float])
    shares: list[float] = field(default_factory=list[float])
    report_bytes: int = 0
    same: bool = True

    def as_json(self) -> dict[str, object]:
        costs = {
            "cold_microseconds_per_turn": self.cold,
            "one_more_microseconds": self.more,
            "encoded_microseconds_per_turn": self.encoded,
            "check_microseconds_per_turn": self.checked,
        }
        ratios = {"cold": self.cold_ratios, "one_more": self.more_ratios, "one_more_by_cold": self.shares}
        return {
            "target": self.target,
            "turns": self.turns,
            **{name: [round(value, 3) for value in values] for name, values in costs.items()},
            **{f"{name}_median": round(statistics.median(values), 3) for name, values in costs.items()},
            **{f"{name}_ratio_median": round(statistics.median(values), 5) for name, values in ratios.items()},
            "report_json_bytes": self.report_bytes,
            "same": self.same,
        }

    def as_cells(self) -> tuple[str, ...]:
        cold, more, encoded, checked = map(statistics.median, (self.cold, self.more, self.encoded, self.checked))
        return (
            self.target,
            str(self.turns),
            "same" if self.same else "DIFFERS",
            f"{cold:.1f}",
            *ratio_cells(self.cold_ratios),
            f"{more:.0f}",
            ratio_cells(self.more_ratios)[0],
            f"{statistics.median(self.shares):.2%}",
            f"{encoded:.1f}",
            f"{checked:.1f}",
            f"{self.report_bytes / 1000:.0f}",
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell ``parser`` this command's options."""
    parser.add_argument(
        "--turns",
        type=positive,
        action="append",
        help=f"length of the history; repeatable (default: {', '.join(map(str, _SIZES))})",
    )
    parser.add_argument(
        "--rounds", type=positive, default=7, help="how often each row is measured (default: %(default)s)"
    )
    parser.add_argument("--target", action="append", choices=tuple(TARGETS), help="repeatable (default: all)")
    parser.add_argument("--json", type=Path, default=report.RESULTS / "convert.json", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; the exit status is 1 if a history that grew came to something else."""
    facts = report.environment()
    prices.load()  # ``check`` asks for prices, and would load them amid the first measurement
    sizes = sorted(set(arguments.turns or _SIZES))
    history = mixed_history(sizes[-1] + _MORE)
    targets = {name: TARGETS[name] for name in arguments.target or TARGETS}
    rows = [_Row(name, size) for name in targets for size in sizes]
    questions: dict[str, list[float]] = {name: [] for name in targets}
    for row in rows:
        _inspect(row, history, targets[row.target])
    for number in range(arguments.rounds):
        for row in rotated(rows, number):
            _measure(row, history, targets[row.target])
        _compare(rows)
        for name, endpoint in targets.items():
            questions[name].append(_question_microseconds(endpoint))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)

    turns = str(sizes[0])
    head = ("target", "turns", "grown", "cold us/turn", f"÷ {turns}", "min..max")
    head += ("one more us", f"÷ {turns}", "÷ cold", "+encode us/turn", "check us/turn", "report kB")
    report.print_table(head, [row.as_cells() for row in rows], left=1)
    singles = ", ".join(f"{name} {statistics.median(costs):.1f}" for name, costs in questions.items())
    print(f"\na question without a history, us: {singles}")
    print(f"one more: mean of {_MORE} turns; all: median of {arguments.rounds}")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "convert",
            "environment": facts,
            "options": {"turns": sizes, "rounds": arguments.rounds},
            "question_microseconds_median": _medians(questions),
            "rows": [row.as_json() for row in rows],
        },
    )
    return 0 if all(row.same for row in rows) else 1


def _inspect(row: _Row, history: Sequence[ConversationNode], endpoint: AIModelEndpoint) -> None:
    """Look at what comes out, which warms everything up besides."""
    grown = _new(history[: row.turns + _MORE])
    row.report_bytes = len(_formatted(grown[: row.turns], endpoint).report.model_dump_json())
    _grow(grown, row.turns, endpoint)
    row.same = _formatted(grown, endpoint) == _formatted(_new(grown), endpoint)
    _measure(_Row(row.target, row.turns), history, endpoint)


def _measure(row: _Row, history: Sequence[ConversationNode], endpoint: AIModelEndpoint) -> None:
    """One round of a row; every stage has new nodes, of which nothing is remembered."""
    begun, manager = history[: row.turns], ConversationManager()
    grown = _new(history[: row.turns + _MORE])
    row.cold.append(_microseconds(lambda: _formatted(grown[: row.turns], endpoint)) / row.turns)
    row.more.append(_microseconds(lambda: _grow(grown, row.turns, endpoint)) / _MORE)
    row.shares.append(row.more[-1] / (row.cold[-1] * row.turns))
    nodes = _new(begun)
    row.encoded.append(_microseconds(lambda: _encoded(nodes, endpoint)) / row.turns)
    conversation = Conversation(nodes=_new(begun))
    row.checked.append(_microseconds(lambda: manager.check(conversation, endpoint)) / row.turns)


def _grow(nodes: Sequence[ConversationNode], turns: int, endpoint: AIModelEndpoint) -> None:
    """Format all of it again each time that a turn is added to the first ``turns``."""
    for count in range(turns + 1, len(nodes) + 1):
        _formatted(nodes[:count], endpoint)


def _compare(rows: Sequence[_Row]) -> None:
    """Each row of a round with the shortest history to the same target."""
    shortest: dict[str, _Row] = {}
    for row in rows:
        reference = shortest.setdefault(row.target, row)
        row.cold_ratios.append(row.cold[-1] / reference.cold[-1])
        row.more_ratios.append(row.more[-1] / reference.more[-1])


def _new(nodes: Sequence[ConversationNode]) -> tuple[ConversationNode, ...]:
    """The same turns as other objects, so that nothing is remembered of them."""
    return tuple(node.model_copy() for node in nodes)


def _formatted(nodes: Sequence[ConversationNode], endpoint: AIModelEndpoint) -> FormattedConversation:
    return PromptFormatter.format_conversation(nodes, endpoint, asked=_ASKED)


def _encoded(nodes: Sequence[ConversationNode], endpoint: AIModelEndpoint) -> bytes:
    messages = _formatted(nodes, endpoint).messages
    request = ChatRequest.of(messages, instructions=(), config=_CONFIG, stream=True)
    return driver_for(endpoint).encode(request, endpoint).body


def _question_microseconds(endpoint: AIModelEndpoint) -> float:
    def ask() -> None:
        for _ in range(_QUESTIONS):
            PromptFormatter.format_messages(_ASKED, endpoint)

    return _microseconds(ask) / _QUESTIONS


def _microseconds(work: Callable[[], object]) -> float:
    gc.collect()
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1e6


def _medians(costs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 3) for name, values in costs.items()}
