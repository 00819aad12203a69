"""``python -m benchmarks tracing``: what tracing costs a token, and what it costs a call.

The same streamed calls are made without an observer, with an ``OpenTelemetryObserver`` and no SDK (``api``), and with
an SDK whose exporter drops everything (``sdk``). All three take turns within a round, and ratios are taken within it. A
token's figure is the processor time of a long stream divided by its tokens; a call's is that of streams with one token.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import machine, report, wire
from benchmarks.opened import open_all
from benchmarks.options import add_json, server_beside_us
from benchmarks.peers import Calls, Peer
from benchmarks.peers.ours import open_dhenara_async
from benchmarks.rounds import Row, all_fine, positive, take_turns

if TYPE_CHECKING:
    from dhenara_async import Observer

_WITHOUT, _API, _SDK = "without", "api", "sdk"
_BAR = 1.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument(
        "--events", type=positive, default=20_000, help="tokens of a long stream (default: %(default)s)"
    )
    parser.add_argument("--calls", type=positive, default=200, help="streams with one token (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=11, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--dialect", action="append", choices=wire.DIALECTS, help="repeatable (default: all)")
    parser.add_argument("--loop", choices=machine.LOOPS, default="asyncio", help="event loop (default: %(default)s)")
    add_json(parser, "tracing")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a call failed or its text differs from the text that the server sent."""
    facts = report.environment(arguments.loop)
    with server_beside_us(arguments) as server:
        rows = machine.run_on(arguments.loop, _measure_all, server, arguments)
    head = ("dialect", "of", "tracing", "text", "CPU us", "÷ without", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=4)
    print(f"\nmedian of {arguments.rounds}; the bar of a token is {_BAR} ÷ without")
    over = [row for row in rows if row.place["of"] == "token" and row.ratios and statistics.median(row.ratios) > _BAR]
    for row in over:
        print(f"over the bar: {row.peer} ({row.place['dialect']}) with {statistics.median(row.ratios):.3f}")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "tracing",
            "environment": facts,
            "options": {"events": arguments.events, "calls": arguments.calls, "rounds": arguments.rounds},
            "rows": [row.as_json("cpu_microseconds") for row in rows],
        },
    )
    return 0 if all_fine(rows) else 1


def _peers() -> list[Peer]:
    """Return this library without tracing, with the API alone, and with an SDK."""
    observers: dict[str, Sequence[Observer]] = {_WITHOUT: (), _API: _observers(sdk=False), _SDK: _observers(sdk=True)}
    return [
        Peer(name, "dhenara_async", wire.DIALECTS, partial(open_dhenara_async, observers=given))
        for name, given in observers.items()
    ]


def _observers(*, sdk: bool) -> "Sequence[Observer]":
    from dhenara_async import OpenTelemetryObserver

    if not sdk:
        return (OpenTelemetryObserver(),)
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Dropped(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(Dropped()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    return (OpenTelemetryObserver(tracers, meters),)


async def _measure_all(server: str, arguments: argparse.Namespace) -> list[Row]:
    peers, found = _peers(), list[Row]()
    for dialect in arguments.dialect or wire.DIALECTS:
        for of, events, calls in (("token", arguments.events, 1), ("call", 1, arguments.calls)):
            async with AsyncExitStack() as stack:
                place = {"dialect": dialect, "of": of}
                url = f"{server}/{dialect}/blast/{events}"
                rows, ready, opened = await open_all(stack, peers, place, dialect, url)

                async def measure(name: str) -> float:
                    return await _microseconds(opened[name], rows[name], dialect, events, calls)  # noqa: B023 - ends here

                await take_turns(ready, measure, rounds=arguments.rounds, reference=_WITHOUT)
                found += rows.values()
    return found


async def _microseconds(calls: Calls, row: Row, dialect: str, events: int, times: int) -> float:
    """Return the processor time of ``times`` streams for each of their tokens."""
    texts: list[str] = []
    gc.collect()
    before = time.process_time()
    for _ in range(times):
        await calls.stream(texts.append)
    spent = time.process_time() - before
    if wire.text_digest("".join(texts[:events])) != wire.answer(dialect, events).digest:
        row.text_matches = False
    return spent * 1e6 / (events * times)
