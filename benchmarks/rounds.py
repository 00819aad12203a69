"""Taking turns: what disturbs the machine for longer than a round disturbs every peer of the round alike."""

import gc
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import anyio

Item = TypeVar("Item")

_SLOW_EVERY = 3
_PATIENCE = 120.0  # seconds for one measurement; whoever takes longer waits for something that does not come


@dataclass(slots=True)
class Row:
    """A peer at one place, such as a dialect; one line of a table.

    Attributes:
        place: What is measured, column name to value.
        peer: Who.
        slow: It sits most rounds out.
        costs: An element a round in which the peer took part.
        ratios: The cost against the reference's of the same round; empty if the reference did not run.
        text_matches: Whether every answer was what the server sent.
        failure: What went wrong, on one line; the peer is not measured any further then.
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
        """Note ``error`` and say it at once."""
        self.failure = one_line(error)
        print(f"\nfailed: {self.peer} ({', '.join(self.place.values())}): {self.failure}", file=sys.stderr)

    def as_json(self, unit: str) -> dict[str, object]:
        """Plain values; ``unit`` names the costs."""
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
        """The place, peer, text check, median cost, median ratio and its spread."""
        text = "FAILED" if self.failure else "same" if self.text_matches else "DIFFERS"
        cost = statistics.median(self.costs) if self.costs else None
        shown = "-" if cost is None else f"{cost:.1f}" if cost >= 10 else f"{cost:.2f}"
        return (*self.place.values(), self.peer, text, shown, *ratio_cells(self.ratios))


def one_line(error: BaseException) -> str:
    """What went wrong, short; of a group, the first that did."""
    if isinstance(error, BaseExceptionGroup):
        return one_line(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def ratio_cells(ratios: Sequence[float]) -> tuple[str, str]:
    """The median ratio and its spread."""
    if not ratios:
        return "-", "-"
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}..{max(ratios):.2f}"


def positive(text: str) -> int:
    """A whole number above zero, for an option that counts.

    Raises:
        ValueError: It is not one.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def rotated(items: Sequence[Item], number: int) -> list[Item]:
    """``items`` beginning with another one in every round, so that nobody always follows the same neighbour's mess."""
    start = number % len(items) if items else 0
    return [*items[start:], *items[:start]]


def median_of(rounds: int) -> str:
    """Says of how many rounds a table has the medians."""
    return f"median of {rounds} rounds, of slow peers every third of them"


def takes_part(slow: bool, number: int) -> bool:
    """Whether a peer is measured in this round; a slow one is in every third. Its ratios are those rounds' own."""
    return not slow or number % _SLOW_EVERY == 0


async def take_turns(
    rows: Mapping[str, Row], measure: Callable[[str], Awaitable[float]], *, rounds: int, reference: str
) -> None:
    """Measure every peer once to warm it up, then round by round; fills the rows.

    A peer that fails is named and left out of what follows. What they have loaded is kept out of the collector's
    sight, or who makes garbage would pay for going through everybody's modules.
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
    """Put the costs of one round into the rows, and their ratios to the reference's."""
    for name, cost in costs.items():
        rows[name].costs.append(cost)
        if costs.get(reference):
            rows[name].ratios.append(cost / costs[reference])


async def _measure(row: Row, measure: Callable[[str], Awaitable[float]], name: str) -> float | None:
    try:
        with anyio.fail_after(_PATIENCE):
            return await measure(name)
    except Exception as error:  # noqa: BLE001 - whatever somebody else's library raises; the others go on
        row.fail(error)
        return None


def all_fine(rows: Iterable[Row]) -> bool:
    """Whether everybody did what was asked."""
    return all(row.fine for row in rows)
