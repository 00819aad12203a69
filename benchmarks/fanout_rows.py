"""The rows of the ``fanout`` table: a peer and a number of concurrent streams."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar

from benchmarks.fanout_round import Round
from benchmarks.quantiles import quantile
from benchmarks.rounds import one_line

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one round, of all workers together. Lags are in milliseconds.

    Attributes:
        tokens_per_second: Received tokens a second.
        lag_p50: The median lag of the tokens.
        lag_p99: The 99th percentile of the lags.
        server_p99: The 99th percentile of the lags of the server's writes, which are part of the other lags.
        microseconds_per_token: CPU of the workers, including the requests, which weigh more in short streams.
        errors: Streams that failed.
        wrong: Streams whose text differs from the text that was sent.
        first_error: The first failure.
        resident_bytes: Memory of the workers after the round.
    """

    tokens_per_second: float
    lag_p50: float
    lag_p99: float
    server_p99: float
    microseconds_per_token: float
    errors: int
    wrong: int
    first_error: str | None
    resident_bytes: int


def together(results: Sequence[Round], lateness: Sequence[Sequence[float]]) -> Figures:
    """Combine the results of all workers in a round with the lags of their servers (quantiles in milliseconds)."""
    lags = sorted(chain.from_iterable(result["lags"] for result in results))
    tokens = sum(result["tokens"] for result in results)
    return Figures(
        tokens_per_second=sum(result["tokens"] / result["seconds"] for result in results if result["seconds"]),
        lag_p50=quantile(lags, 0.5),
        lag_p99=quantile(lags, 0.99),
        server_p99=quantile(sorted(chain.from_iterable(lateness)), 0.99),
        microseconds_per_token=sum(result["cpu_seconds"] for result in results) * 1e6 / max(tokens, 1),
        errors=sum(result["errors"] for result in results),
        wrong=sum(result["wrong"] for result in results),
        first_error=next((result["first_error"] for result in results if result["first_error"]), None),
        resident_bytes=sum(result["resident_bytes"] for result in results),
    )


@dataclass(slots=True)
class FanoutRow:
    """A peer with a number of concurrent streams.

    Attributes:
        dialect: The dialect.
        concurrency: Concurrent streams.
        peer: The name of the peer.
        rounds: The figures of each round.
        ratios: For each of these rounds, the ratios to the floor: CPU a token, p50 and p99 of the lag.
        failure: Why the measurement stopped, on one line.
    """

    HEAD: ClassVar[tuple[str, ...]] = (
        *("dialect", "streams", "peer", "errors", "wrong", "tokens/s", "p50 ms", "÷ floor", "p99 ms", "÷ floor"),
        *("CPU us/token", "÷ floor", "server p99 ms", "RSS MiB"),
    )

    dialect: str
    concurrency: int
    peer: str
    rounds: list[Figures] = field(default_factory=list[Figures])
    ratios: list[tuple[float, float, float]] = field(default_factory=list[tuple[float, float, float]])
    failure: str | None = None

    @property
    def fine(self) -> bool:
        """Whether every stream is complete and has the text that was sent."""
        return self.failure is None and not any(figures.errors or figures.wrong for figures in self.rounds)

    def fail(self, error: BaseException) -> None:
        """Record ``error``, and print it at once."""
        self.failure = one_line(error)
        print(f"\nfailed: {self.peer} ({self.dialect}, {self.concurrency}): {self.failure}", file=sys.stderr)

    def enter(self, figures: Figures, floor: Figures | None) -> None:
        """Add a round, and its ratios to the same round of the floor, if there is one."""
        self.rounds.append(figures)
        if floor is None or not (floor.microseconds_per_token and floor.lag_p50 and floor.lag_p99):
            return
        cpu = figures.microseconds_per_token / floor.microseconds_per_token
        self.ratios.append((cpu, figures.lag_p50 / floor.lag_p50, figures.lag_p99 / floor.lag_p99))

    def median(self, name: str) -> float:
        """Return the median of a figure, by name, over the rounds; 0 if there are none."""
        return statistics.median(float(getattr(figures, name)) for figures in self.rounds) if self.rounds else 0.0

    def ratio(self, place: int) -> float | None:
        """Return the median of a ratio; None if there is no floor to compare with."""
        return statistics.median(ratios[place] for ratios in self.ratios) if self.ratios else None

    def as_cells(self) -> tuple[str, ...]:
        """Return the cells of the table row."""
        start = (self.dialect, str(self.concurrency), self.peer)
        if not self.rounds:
            return (*start, "FAILED", *["-"] * (len(self.HEAD) - 4))
        cpu, p50, p99 = ("-" if (value := self.ratio(place)) is None else f"{value:.2f}" for place in range(3))
        memory = [figures.resident_bytes / MEBIBYTE for figures in self.rounds]
        return (
            *start,
            "FAILED" if self.failure else str(sum(figures.errors for figures in self.rounds)),
            str(sum(figures.wrong for figures in self.rounds)),
            f"{self.median('tokens_per_second'):.0f}",
            f"{self.median('lag_p50'):.2f}",
            p50,
            f"{self.median('lag_p99'):.2f}",
            p99,
            f"{self.median('microseconds_per_token'):.1f}",
            cpu,
            f"{self.median('server_p99'):.2f}",
            f"{memory[0]:.0f}..{memory[-1]:.0f}",
        )

    def as_json(self) -> dict[str, object]:
        """Return JSON values: every round, and the medians."""
        names = ("tokens_per_second", "lag_p50", "lag_p99", "server_p99", "microseconds_per_token")
        return {
            "dialect": self.dialect,
            "concurrency": self.concurrency,
            "peer": self.peer,
            "errors": sum(figures.errors for figures in self.rounds),
            "wrong": sum(figures.wrong for figures in self.rounds),
            "failure": self.failure,
            **{name: [round(float(getattr(figures, name)), 3) for figures in self.rounds] for name in names},
            **{f"{name}_median": round(self.median(name), 3) for name in names},
            "microseconds_per_token_ratio_median": self.ratio(0),
            "lag_p50_ratio_median": self.ratio(1),
            "lag_p99_ratio_median": self.ratio(2),
            "resident_bytes": [figures.resident_bytes for figures in self.rounds],
        }
