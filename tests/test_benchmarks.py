"""The benchmarks run and check what they measure. Never a figure: those depend on the machine."""

import gc
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from benchmarks import wire
from benchmarks.history import TARGETS, mixed_history
from dhenara_async import ConversationNode, Message, PromptFormatter
from dhenara_async.drivers.rules import CallIds
from dhenara_async.formatter import ledger
from dhenara_async.formatter.conversion import ConversionEntry, PartOutcome
from dhenara_async.messages.messages import PartBase

_ROOT = Path(__file__).resolve().parent.parent


def test_stream_writes_rows_with_matching_texts(tmp_path: Path) -> None:
    path = tmp_path / "stream.json"
    options = ["--events", "20", "--rounds", "1", "--mode", "blast", "--concurrency", "1", "--concurrency", "3"]
    options += ["--peer", "floor", "--peer", "dhenara_async"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "stream", *options, "--json", path],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 0, run.stderr
    result = orjson.loads(path.read_bytes())
    assert result["benchmark"] == "stream"
    assert result["options"] == {"events": 20, "rounds": 1, "concurrency": [1, 3]}
    assert result["skipped"] == []
    assert set(result["events_per_read"]) == {f"{dialect} blast" for dialect in wire.DIALECTS}
    assert [(row["streams"], row["dialect"], row["peer"]) for row in result["rows"]] == [
        (streams, dialect, peer)
        for streams in ("1", "3")
        for dialect in wire.DIALECTS
        for peer in ("floor", "dhenara_async")
    ]
    for row in result["rows"]:
        assert row["text_matches"], row
        assert len(row["cpu_microseconds_per_event"]) == len(row["ratios"]) == 1
        assert row["dialect"] in run.stdout


@pytest.mark.parametrize("dialect", wire.DIALECTS)
def test_answers_are_the_same_in_every_process(dialect: str) -> None:
    answer = wire.answer(dialect, 30)
    code = f"from benchmarks import wire; print(wire.answer({dialect!r}, 30).digest)"
    other = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True)

    assert other.stdout.strip() == answer.digest
    assert len(answer.texts) == 30
    assert len(answer.events) >= 30


# the hop: how much work it is, counted rather than timed

_PERIOD = 20  # turns until the mixture of the history begins anew


class Work:
    """Counts what takes time in formatting: turns opened, parts copied, ids made, lines of the report written."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: Counter[str] = Counter()
        self.opened: list[str] = []
        as_messages, made, copy = ConversationNode.as_messages, CallIds.made, PartBase.model_copy

        def open_turn(node: ConversationNode) -> list[Message]:
            self.opened.append(node.id)
            return as_messages(node)

        def make_id(rule: CallIds, seed: str) -> str:
            self.done["ids"] += 1
            return made(rule, seed)

        def copy_part(part: PartBase, **how: dict[str, object]) -> PartBase:
            self.done["copies"] += 1
            return copy(part, update=how.get("update"))

        def outcome(**fields: object) -> PartOutcome:
            self.done["outcomes"] += 1
            return PartOutcome.model_validate(fields)

        def entry(**fields: object) -> ConversionEntry:
            self.done["entries"] += 1
            return ConversionEntry.model_validate(fields)

        patch.setattr(ConversationNode, "as_messages", open_turn)
        patch.setattr(CallIds, "made", make_id)
        patch.setattr(PartBase, "model_copy", copy_part)
        patch.setattr(ledger.PartOutcome, "unchecked", outcome)
        patch.setattr(ledger.ConversionEntry, "unchecked", entry)

    def of(self, nodes: Sequence[ConversationNode], target: str) -> Counter[str]:
        """What formatting ``nodes`` takes."""
        self.done, self.opened = Counter(), []
        PromptFormatter.format_conversation(nodes, TARGETS[target], asked=[Message.user("And now?")])
        return self.done + Counter(turns=len(self.opened))


def new(nodes: Sequence[ConversationNode]) -> tuple[ConversationNode, ...]:
    return tuple(node.model_copy() for node in nodes)


@pytest.mark.parametrize("target", TARGETS)
def test_formatting_takes_work_in_proportion_to_the_history(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = [new(mixed_history(turns)) for turns in (5 * _PERIOD, 10 * _PERIOD, 20 * _PERIOD)]
    work = Work(monkeypatch)

    short, twice, four_times = (work.of(history, target) for history in histories)

    assert short["turns"] == 5 * _PERIOD
    assert short["outcomes"] > short["turns"]
    for what in short:
        assert four_times[what] - twice[what] == 2 * (twice[what] - short[what]), what


@pytest.mark.parametrize("target", TARGETS)
def test_one_more_turn_takes_the_work_of_that_turn_alone(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = new(mixed_history(2 * _PERIOD + 1)), new(mixed_history(20 * _PERIOD + 1))
    work = Work(monkeypatch)
    again: list[Counter[str]] = []
    for history in (short, long):
        work.of(history[:-1], target)
        again.append(work.of(history, target))
        assert work.opened == [history[-1].id]

    assert again[0] == again[1]
    # no more than the newest two turns and the question: an answer is settled when the next one stands there
    assert again[1]["outcomes"] <= sum(len(message.parts) for node in long[-2:] for message in node.as_messages()) + 1


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_remembered_grows_with_the_history_and_not_with_every_turn_of_it(target: str) -> None:
    history = mixed_history(2 * _PERIOD)
    at_once, grown = new(history), new(history)

    def remembered(kept: Sequence[ConversationNode], counts: Sequence[int]) -> int:
        """Bytes that are held for ``kept`` when it has been formatted at each of these lengths."""
        gc.collect()
        tracemalloc.start()
        for count in counts:  # each turn with instructions of its own, which matter to reasoning that is bound to them
            asked = [Message.user("And now?")]
            PromptFormatter.format_conversation(
                kept[:count], TARGETS[target], asked=asked, instructions=[f"This is turn {count}."]
            )
        gc.collect()
        held, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    once = remembered(at_once, [len(history)])
    assert once > 0
    assert remembered(grown, range(1, len(history) + 1)) < 2 * once


def test_convert_writes_rows_in_which_growing_came_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "convert.json"
    options = ["--turns", "25", "--turns", "50", "--rounds", "1", "--target", "gemini", "--target", "anthropic_bound"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "convert", *options, "--json", path],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 0, run.stderr
    result = orjson.loads(path.read_bytes())
    assert result["benchmark"] == "convert"
    assert result["options"] == {"turns": [25, 50], "rounds": 1}
    assert set(result["question_microseconds_median"]) == {"gemini", "anthropic_bound"}
    assert [(row["target"], row["turns"]) for row in result["rows"]] == [
        (target, turns) for target in ("gemini", "anthropic_bound") for turns in (25, 50)
    ]
    for row in result["rows"]:
        assert row["same"], row
        assert row["report_json_bytes"] > 0
        assert len(row["cold_microseconds_per_turn"]) == len(row["one_more_microseconds"]) == 1
        assert row["target"] in run.stdout
