"""Rounds in which peers take turns: a disturbance of the machine longer than a round affects all peers equally."""

import gc
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import anyio

Item = TypeVar("Item")

_SLOW_EVERY = 3
_PATIENCE = 120.0  # seconds for one measurement; a longer one is stuck


@dataclass(slots=True)
class Row:
    """A row of a table: a peer in one case, such as a dialect.

    Attributes:
        place: The case: column names and values.
        peer: The name of the peer.
        slow: Whether the peer skips most rounds.
        costs: The cost in each round of the peer.
        ratios: The cost divided by that of the reference in the same round; empty without a reference.
        text_matches: Whether every answer equals the text that the server sent.
        failure: The error that ended the measurement of this peer, on one line.
    """

    place: Mapping[str, str]
    peer: str
    slow: bool = False
    costs: list[float] = field(default_factory=list[float])
    ratios: list[float] = field(default_factory=list[float])
    text_matches: bool = True
    failure: str | None = None

    @property
    def fine(self) -> bool:
        """Whether the peer finished without an error and its text matched."""
        return self.text_matches and self.failure is None

    def fail(self, error: BaseException) -> None:
        """Record ``error``, and print it at once."""
        self.failure = one_line(error)
        print(f"\nfailed: {self.peer} ({', '.join(self.place.values())}): {self.failure}", file=sys.stderr)

    def as_json(self, unit: str) -> dict[str, object]:
        """Return JSON values; ``unit`` names the costs."""
        return {
            **self.place,
            "peer": self.peer,
            unit: [round(cost, 3) for cost in self.costs],
            f"{unit}_median": round(statistics.median(self.costs), 3) if self.costs else None,
            "ratios": [round(ratio, 3) for ratio in self.ratios],
            "ratio_median": round(statistics.median(self.ratios), 3) if self.ratios else None,
            "text_matches": self.text_matches,
            "failure": self.failure,
        }

    def as_cells(self) -> tuple[str, ...]:
        """Return the place, peer, text check, median cost, median ratio and its spread."""
        text = "FAILED" if self.failure else "same" if self.text_matches else "DIFFERS"
        cost = statistics.median(self.costs) if self.costs else None
        shown = "-" if cost is None else f"{cost:.1f}" if cost >= 10 else f"{cost:.2f}"
        return (*self.place.values(), self.peer, text, shown, *ratio_cells(self.ratios))


def one_line(error: BaseException) -> str:
    """Return an error as one short line; of a group, its first error."""
    if isinstance(error, BaseExceptionGroup):
        return one_line(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def ratio_cells(ratios: Sequence[float]) -> tuple[str, str]:
    """Return the cells of the median ratio and its spread."""
    if not ratios:
        return "-", "-"
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}..{max(ratios):.2f}"


def positive(text: str) -> int:
    """Parse a whole number above zero, for a count option.

    Raises:
        ValueError: The text is no such number.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def rotated(items: Sequence[Item], number: int) -> list[Item]:
    """Rotate ``items`` by the round, so that every peer follows different neighbours."""
    start = number % len(items) if items else 0
    return [*items[start:], *items[:start]]


def median_of(rounds: int) -> str:
    """Return the line that states the number of rounds behind the medians."""
    return f"median of {rounds} rounds, of slow peers every third of them"


def takes_part(slow: bool, number: int) -> bool:
    """Whether a peer is measured in this round; a slow one is measured in every third."""
    return not slow or number % _SLOW_EVERY == 0


async def take_turns(
    rows: Mapping[str, Row], measure: Callable[[str], Awaitable[float]], *, rounds: int, reference: str
) -> None:
    """Measure every peer once to warm it up, then round by round; fills the rows.

    A peer that fails is reported and skipped from then on. Loaded modules are frozen for the garbage collector, because
    a peer that creates garbage would pay for scanning the modules of all peers.
    """
    for name in rows:
        await _measure(rows[name], measure, name)
    gc.collect()
    gc.freeze()
    try:
        for number in range(rounds):
            costs: dict[str, float] = {}
            for name in rotated(list(rows), number):
                if rows[name].failure is None and takes_part(rows[name].slow, number):
                    cost = await _measure(rows[name], measure, name)
                    costs |= {} if cost is None else {name: cost}
            enter(rows, costs, reference=reference)
            print(".", end="", file=sys.stderr, flush=True)
    finally:
        gc.unfreeze()
    print(file=sys.stderr)


def enter(rows: Mapping[str, Row], costs: Mapping[str, float], *, reference: str) -> None:
    """Add the costs of one round to the rows, and their ratios to the reference."""
    for name, cost in costs.items():
        rows[name].costs.append(cost)
        if costs.get(reference):
            rows[name].ratios.append(cost / costs[reference])


async def _measure(row: Row, measure: Callable[[str], Awaitable[float]], name: str) -> float | None:
    try:
        with anyio.fail_after(_PATIENCE):
            return await measure(name)
    except Exception as error:  # noqa: BLE001 - a peer may raise any error; the others are still measured
        row.fail(error)
        return None


def all_fine(rows: Iterable[Row]) -> bool:
    """Whether every peer finished without an error and with the right text."""
    return all(row.fine for row in rows)
