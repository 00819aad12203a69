"""``python -m benchmarks startup``: the cost of an import in a fresh interpreter.

Each statement runs in a new process, in an order that rotates from round to round; the start of the interpreter itself
(the row ``pass``) is subtracted within its round. Processor time varies less on a busy machine, wall time is the time
that a user waits.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks import report
from benchmarks.rounds import positive, ratio_cells, rotated

_ROOT = Path(__file__).resolve().parent.parent
_OURS = "from dhenara_async import AIModelClient, AIModelAPI, AIModelEndpoint, AIModelCallConfig"
_REFERENCE = "import pydantic"
_EMPTY = "pass"

# The label, the code, and the package that it needs.
_STATEMENTS = (
    (_EMPTY, _EMPTY, "sys"),
    (_REFERENCE, _REFERENCE, "pydantic"),
    ("from pydantic import BaseModel", "from pydantic import BaseModel", "pydantic"),
    (
        "class with one field from BaseModel",
        "from pydantic import BaseModel\nclass Value(BaseModel):\n    name: str",
        "pydantic",
    ),
    (_OURS, _OURS, "dhenara_async"),
    ("import openai", "import openai", "openai"),
    ("import anthropic", "import anthropic", "anthropic"),
    ("from google import genai", "from google import genai", "google"),
    ("import aiohttp", "import aiohttp", "aiohttp"),
)
_WATCHED = ("aiohttp", "anyio", "asyncio", "httpx", "orjson")


@dataclass(slots=True)
class _Row:
    """One statement: for each round, its milliseconds less the start of the interpreter."""

    label: str
    code: str
    processor: list[float] = field(default_factory=list[float])
    wall: list[float] = field(default_factory=list[float])
    ratios: list[float] = field(default_factory=list[float])

    def as_json(self) -> dict[str, object]:
        return {
            "statement": self.label,
            "cpu_milliseconds": [round(value, 2) for value in self.processor],
            "cpu_milliseconds_median": round(statistics.median(self.processor), 2),
            "wall_milliseconds_median": round(statistics.median(self.wall), 2),
            "ratio_median": round(statistics.median(self.ratios), 3),
        }

    def as_cells(self) -> tuple[str, ...]:
        return (
            self.label,
            f"{statistics.median(self.processor):.1f}",
            f"{statistics.median(self.wall):.1f}",
            *ratio_cells(self.ratios),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--rounds", type=positive, default=11, help="fresh interpreters a row (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=report.RESULTS / "startup.json", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write."""
    facts = report.environment()
    rows = [_Row(label, code) for label, code, package in _STATEMENTS if find_spec(package) is not None]
    for label, _, package in _STATEMENTS:
        if find_spec(package) is None:
            print(f"skipped: {label}: {package} is not installed")
    for row in rows:
        _interpreter_milliseconds(row.code)  # writes byte code and fills the file cache
    for number in range(arguments.rounds):
        _measure_round(rotated(rows, number))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)

    head = ("statement", "CPU ms", "wall ms", "÷ import pydantic", "min..max")
    report.print_table(head, [row.as_cells() for row in rows if row.label != _EMPTY], left=1)
    loaded = _loaded_after(_OURS)
    print(f"\nloaded after ours: {', '.join(loaded) or 'nothing'} (of {', '.join(_WATCHED)})")
    print(f"median of {arguments.rounds} fresh interpreters, the interpreter's own start taken off")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "startup",
            "environment": facts,
            "options": {"rounds": arguments.rounds},
            "loaded_after_ours": loaded,
            "rows": [row.as_json() for row in rows if row.label != _EMPTY],
        },
    )
    return 0


def _measure_round(rows: Sequence[_Row]) -> None:
    times = {row.label: _interpreter_milliseconds(row.code) for row in rows}
    empty_processor, empty_wall = times[_EMPTY]
    reference = times[_REFERENCE][0] - empty_processor
    for row in rows:
        processor, wall = times[row.label]
        row.processor.append(processor - empty_processor)
        row.wall.append(wall - empty_wall)
        row.ratios.append((processor - empty_processor) / reference)


def _interpreter_milliseconds(code: str) -> tuple[float, float]:
    """Return the processor and wall time of a fresh interpreter that runs ``code``.

    Raises:
        subprocess.CalledProcessError: The statement failed; its traceback is on stderr.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=True)
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return processor * 1e3, (ended - started) * 1e3


def _loaded_after(code: str) -> list[str]:
    question = f"{code}\nimport sys\nprint(*[name for name in {_WATCHED!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", question], cwd=_ROOT, check=True, capture_output=True, text=True)
    return answer.stdout.split()
