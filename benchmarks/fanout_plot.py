"""Plots ``fanout``: tokens a second and lags, by concurrent streams. Needs matplotlib (extra ``bench``)."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.fanout_rows import FanoutRow
from benchmarks.peers.calls import loaded


def check() -> None:
    """Check, before the measurement, that a plot can be drawn.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise SystemExit("--plot needs matplotlib: pip install 'dhenara-async[bench]'")


def draw(rows: Sequence[FanoutRow], path: Path) -> None:
    """Plot the medians of ``rows`` to ``path``, in the format of its extension."""
    loaded("matplotlib").use("Agg")
    figure, (rates, lags) = loaded("matplotlib.pyplot").subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    lines: dict[tuple[str, str], list[FanoutRow]] = {}
    for row in rows:
        if row.rounds:
            lines.setdefault((row.dialect, row.peer), []).append(row)
    several = len({dialect for dialect, _ in lines}) > 1
    for (dialect, peer), line in lines.items():
        name = f"{peer}, {dialect}" if several else peer
        streams = [row.concurrency for row in line]
        (drawn,) = rates.plot(streams, [row.median("tokens_per_second") for row in line], marker="o", label=name)
        for figure_name, style in (("lag_p50", "-"), ("lag_p99", "--")):
            values = [row.median(figure_name) for row in line]
            label = f"{name}, {figure_name.removeprefix('lag_')}"
            lags.plot(streams, values, style, marker="o", color=drawn.get_color(), label=label)
    rates.set(xlabel="streams at once", ylabel="tokens a second", title="received", ylim=(0, None))
    lags.set(xlabel="streams at once", ylabel="milliseconds", title="token lag", yscale="log")
    for axes in (rates, lags):
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"written: {path}", file=sys.stderr)
