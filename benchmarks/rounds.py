"""Taking turns: what disturbs the machine for longer than a round disturbs every peer of the round alike."""

import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class Row:
    """A peer at one place, such as a dialect; one line of a table.

    Attributes:
        place: What is measured, column name to value.
        peer: Who.
        costs: An element a round.
        ratios: The cost against the reference's of the same round; empty if the reference did not run.
        text_matches: Whether every answer was what the server sent.
    """

    place: Mapping[str, str]
    peer: str
    costs: list[float] = field(default_factory=list[float])
    ratios: list[float] = field(default_factory=list[float])
    text_matches: bool = True

    def as_json(self, unit: str) -> dict[str, object]:
        """Plain values; ``unit`` names the costs."""
        return {
            **self.place,
            "peer": self.peer,
            unit: [round(cost, 3) for cost in self.costs],
            f"{unit}_median": round(statistics.median(self.costs), 3),
            "ratios": [round(ratio, 3) for ratio in self.ratios],
            "ratio_median": round(statistics.median(self.ratios), 3) if self.ratios else None,
            "text_matches": self.text_matches,
        }

    def as_cells(self) -> tuple[str, ...]:
        """The place, peer, text check, median cost, median ratio and its spread."""
        text = "same" if self.text_matches else "DIFFERS"
        cost = f"{statistics.median(self.costs):.1f}"
        return (*self.place.values(), self.peer, text, cost, *ratio_cells(self.ratios))


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


async def take_turns(
    rows: Mapping[str, Row], measure: Callable[[str], Awaitable[float]], *, rounds: int, reference: str
) -> None:
    """Measure every peer once to warm it up, then once a round; fills the rows."""
    names = list(rows)
    for name in names:
        await measure(name)
    for number in range(rounds):
        costs = {name: await measure(name) for name in rotated(names, number)}
        for name, cost in costs.items():
            rows[name].costs.append(cost)
            if reference in costs:
                rows[name].ratios.append(cost / costs[reference])
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
