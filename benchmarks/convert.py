"""``python -m benchmarks convert``: CPU microseconds for each turn of a history on its hop to another provider.

The history is mixed: four providers answer in turn, with reasoning, tool loops, files, hosted searches and citations.
A cold run formats a new history; then the history grows by some turns and is formatted after each, which measures the
cost of one more turn. Targets and sizes alternate within a round, and ratios are taken within it. The result for a
history that grew is compared, outside the measured time, with the result of formatting the same history at once.
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
_MORE = 20  # turns after which the mixture of the history repeats
_QUESTIONS = 1000
_ASKED = (Message.user("And what follows from all that?"),)
_CONFIG = AIModelCallConfig()


@dataclass(slots=True)
class _Row:
    """The measurements of one target and one length of the history; lists have one element for each round.

    Attributes:
        target: The name of the target.
        turns: Turns of the history before it grows.
        cold: Microseconds for each turn to format the whole history.
        more: Microseconds to format the whole history again after one more turn.
        encoded: Microseconds for each turn to format and encode the whole history.
        checked: Microseconds for each turn of ``ConversationManager.check``.
        cold_ratios: ``cold`` divided by that of the shortest history in the same round; 1 is linear.
        more_ratios: ``more`` divided by that of the shortest history; 1 is proportional to the new turn alone.
        shares: ``more`` divided by the cold cost of the whole history.
        report_bytes: Size of the report as JSON.
        same: Whether growing gave the same result as formatting at once.
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
    """Add this command's options to ``parser``."""
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
    """Measure, print and write; returns 1 if a history that grew gave another result."""
    facts = report.environment()
    prices.load()  # ``check`` loads prices, which would disturb the first measurement
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
    """Compare the results, which also warms everything up."""
    grown = _new(history[: row.turns + _MORE])
    row.report_bytes = len(_formatted(grown[: row.turns], endpoint).report.model_dump_json())
    _grow(grown, row.turns, endpoint)
    row.same = _formatted(grown, endpoint) == _formatted(_new(grown), endpoint)
    _measure(_Row(row.target, row.turns), history, endpoint)


def _measure(row: _Row, history: Sequence[ConversationNode], endpoint: AIModelEndpoint) -> None:
    """Measure one round of a row; every stage uses new nodes, which no cache has."""
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
    """Format the whole history again after every turn that is added to the first ``turns``."""
    for count in range(turns + 1, len(nodes) + 1):
        _formatted(nodes[:count], endpoint)


def _compare(rows: Sequence[_Row]) -> None:
    """Compare each row of a round with the shortest history for the same target."""
    shortest: dict[str, _Row] = {}
    for row in rows:
        reference = shortest.setdefault(row.target, row)
        row.cold_ratios.append(row.cold[-1] / reference.cold[-1])
        row.more_ratios.append(row.more[-1] / reference.more[-1])


def _new(nodes: Sequence[ConversationNode]) -> tuple[ConversationNode, ...]:
    """Copy the turns to new objects, which no cache has."""
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
