"""Every command of the benchmarks runs with tiny counts, and what it measures with is right. Never a figure."""

import subprocess
import sys
import time
from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import anyio
import orjson
import pytest

from benchmarks import wire
from benchmarks.fanout_round import Round, lags
from benchmarks.fanout_rows import FanoutRow, together
from benchmarks.peers import Calls, Peer, Take, find
from benchmarks.quantiles import quantile, quantiles
from benchmarks.rounds import Row, take_turns
from benchmarks.server import lateness, running_server
from benchmarks.store import OPERATIONS as STORE_OPERATIONS

_ROOT = Path(__file__).resolve().parent.parent
_PEERS = ("--peer", "floor", "--peer", "dhenara_async")
_FIGURES = {
    "stream": "cpu_microseconds_per_event",
    "latency": "first_text_milliseconds",
    "accumulate": "cpu_microseconds_per_delta",
    "plain": "cpu_microseconds_per_call",
    "memory": "kibibytes_per_stream",
}


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_help_lists_every_command_without_optional_packages() -> None:
    missing = ["agents", "langgraph", "matplotlib", "opentelemetry", "sqlalchemy", "starlette", "uvicorn", "uvloop"]
    without = f"import runpy, sys; sys.modules.update(dict.fromkeys({missing}))"
    code = f"{without}; runpy.run_module('benchmarks', None, '__main__')"
    command = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert all(f"\n    {name}" in done.stdout for name in (*_FIGURES, "fanout", "store", "tracing", "web", "all"))


@pytest.mark.parametrize("name", [*_FIGURES, "fanout"])
def test_command_runs_and_every_text_is_what_was_sent(name: str, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    done = run("all", "--smoke", "--only", name, *_PEERS, "--json", path)

    assert done.returncode == 0, done.stderr + done.stdout
    results = orjson.loads(path.read_bytes())
    assert results["failed"] == []
    result = results["results"][name]
    assert result["benchmark"] == name
    assert result["skipped"] == []
    rows = result["rows"]
    assert {row["peer"] for row in rows} == {"floor", "dhenara_async"}
    dialects = {"openai_chat"} if name in ("fanout", "memory") else set(wire.DIALECTS)
    assert {row["dialect"] for row in rows} == dialects
    for row in rows:
        assert row["failure"] is None
        if name == "fanout":
            assert (row["errors"], row["wrong"], row["concurrency"]) == (0, 0, 6)
            assert len(row["tokens_per_second"]) == len(row["resident_bytes"]) == 1
        else:
            assert row["text_matches"]
            assert len(row[_FIGURES[name]]) == 1
            # what a call costs is taken off a short answer, and the noise can be more than that
            assert len(row["ratios"]) == 1 or name == "accumulate"
        assert row["peer"] in done.stdout


def test_fanout_says_that_it_cannot_draw_before_it_measures(tmp_path: Path) -> None:
    picture = tmp_path / "lags.svg"
    options = ["--concurrency", "2", "--concurrency", "4", "--seconds", "1", "--rounds", "1", "--plot", picture]
    done = run("fanout", *options, "--peer", "floor", "--json", tmp_path / "fanout.json")

    if find_spec("matplotlib") is None:
        assert done.returncode != 0
        assert "matplotlib" in done.stderr
        assert "dhenara-async[bench]" in done.stderr
        assert not (tmp_path / "fanout.json").exists()
    else:
        assert done.returncode == 0, done.stderr
        assert "<svg" in picture.read_text()


@pytest.mark.parametrize("dialect", wire.DIALECTS)
async def test_a_paced_answer_tells_its_schedule_and_waits_for_all_streams(dialect: str) -> None:
    """Two streams are due together, so the one that was asked for first has to wait for the other."""
    answer = wire.answer(dialect, 5, stamped=True)
    ends = list(accumulate(map(len, answer.texts)))
    received: list[tuple[list[str], array[float]]] = []
    asked = 0

    with running_server() as server:
        async with find("floor", dialect).open(dialect, f"{server}/{dialect}/paced-20000-2/5") as calls:

            async def one() -> None:
                texts: list[str] = []
                moments = array("d")

                def take(text: str) -> None:
                    moments.append(time.monotonic())
                    texts.append(text)

                await calls.stream(take)
                received.append((texts, moments))

            with anyio.fail_after(60):
                async with anyio.create_task_group() as group:
                    group.start_soon(one)
                    await anyio.sleep(0.3)  # the pacer would have begun by now
                    asked = time.monotonic_ns()
                    group.start_soon(one)
        late = lateness(server)
        assert lateness(server) == []

    assert len(late) == 10
    assert min(late) >= 0
    for texts, moments in received:
        start, text = wire.split_stamp("".join(texts))
        assert start > asked
        assert wire.text_digest(text) == answer.digest
        found = lags(texts, moments, ends=ends, start=start / 1e9, gap=0.02)
        assert len(found) == 5
        assert min(found) >= 0


def test_lags_are_of_tokens_even_where_deltas_are_others() -> None:
    tokens = ("ab", "c", "def", "g")
    ends = list(accumulate(map(len, tokens)))

    def of(texts: Sequence[str], moments: Sequence[float]) -> list[float]:
        return [round(lag, 6) for lag in lags(texts, moments, ends=ends, start=10.0, gap=1.0)]

    assert of(tokens, [10.5, 11.5, 12.5, 13.5]) == [0.5, 0.5, 0.5, 0.5]
    assert of(["abc", "d", "efg"], [11.25, 12.0, 13.5]) == [1.25, 0.25, 1.5, 0.5]
    assert of(["ab", "c"], [10.0, 11.0]) == [0.0, 0.0]


def test_quantiles_of_two_workers_are_those_of_their_values() -> None:
    values = [number / 10 for number in range(50_000)]
    halves = sorted([*quantiles(values[::2]), *quantiles(values[1::2])])

    assert quantiles([3.0, 4.0]) == [3.0, 4.0]
    assert len(quantiles(values)) == 1001
    assert quantile(halves, 0.5) == pytest.approx(2500, rel=0.01)
    assert quantile(halves, 0.99) == pytest.approx(4950, rel=0.01)
    assert quantile([], 0.5) == 0


def test_fanout_row_adds_workers_up_and_compares_within_a_round() -> None:
    def round_of(tokens: int, cpu: float, lag: float, errors: int = 0) -> Round:
        return {
            "tokens": tokens,
            "seconds": 2.0,
            "cpu_seconds": cpu,
            "lags": [lag],
            "errors": errors,
            "wrong": 0,
            "first_error": "ReadError" if errors else None,
            "resident_bytes": 1000,
        }

    floor = together([round_of(100, 1.0, 2.0)], [[0.5]])
    ours = together([round_of(100, 1.5, 3.0), round_of(300, 4.5, 3.0, errors=1)], [[0.5], [0.75]])
    row = FanoutRow("openai_chat", 8, "dhenara_async")
    row.enter(ours, floor)

    assert ours.tokens_per_second == 200
    assert (ours.server_p99, ours.resident_bytes, ours.first_error) == (0.75, 2000, "ReadError")
    assert row.ratios == [(1.5, 1.5, 1.5)]
    assert not row.fine


async def test_a_peer_that_fails_is_named_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {name: Row({"dialect": "gemini"}, name, slow=name == "slow") for name in ("floor", "slow", "broken")}
    calls: list[str] = []

    async def measure(name: str) -> float:
        calls.append(name)
        if name == "broken" and calls.count("broken") == 2:
            raise ExceptionGroup("unhandled", [ValueError("no\nmore")])
        return 2.0 if name == "floor" else 6.0

    await take_turns(rows, measure, rounds=4, reference="floor")

    assert rows["broken"].failure == "ValueError: no more"
    assert "failed: broken (gemini): ValueError: no more" in capsys.readouterr().err
    assert rows["broken"].costs == []
    assert rows["floor"].costs == [2.0] * 4
    assert rows["slow"].ratios == [3.0, 3.0]  # rounds 0 and 3
    assert "FAILED" in rows["broken"].as_cells()
    orjson.dumps([row.as_json("cost") for row in rows.values()])


def test_a_peer_that_is_too_old_counts_as_missing() -> None:
    @asynccontextmanager
    async def never(_dialect: str, _url: str) -> AsyncGenerator[Calls]:
        yield Calls(stream=_nothing, generate=_no_text)

    def peer(oldest: tuple[str, int] | None, package: str = "orjson") -> Peer:
        return Peer("somebody", package, ("gemini",), never, oldest=oldest)

    assert peer(None).installed
    assert peer(("orjson", 3)).installed
    assert not peer(("orjson", 999)).installed
    assert "999" in peer(("orjson", 999)).needs
    assert not peer(None, "no_such_package.inner").installed


async def _nothing(_take: Take) -> None:
    """A stream without a delta."""


async def _no_text() -> str:
    return ""


def test_web_measures_both_servers_and_every_text_is_the_answers(tmp_path: Path) -> None:
    path = tmp_path / "web.json"
    done = run("web", "--rounds", "1", "--events", "20", "--clients", "0", "--json", path)

    assert done.returncode == 0, done.stderr + done.stdout
    rows = orjson.loads(path.read_bytes())["rows"]
    assert [(row["server"], row["peer"]) for row in rows] == [
        ("uvicorn", "floor"),
        ("uvicorn", "ours"),
        ("aiohttp", "floor"),
        ("aiohttp", "ours"),
    ]
    for row in rows:
        assert row["failure"] is None
        assert row["text_matches"]
        assert len(row["ratios"]) == 1


def test_loop_measures_our_loops_and_their_last_texts_are_the_servers(tmp_path: Path) -> None:
    path = tmp_path / "loop.json"
    ours = ("--peer", "dhenara_async", "--peer", "dhenara_async turns")
    done = run("loop", "--rounds", "1", "--steps", "2", "--calls", "2", *ours, "--json", path)

    assert done.returncode == 0, done.stderr + done.stdout
    rows = orjson.loads(path.read_bytes())["rows"]
    assert [row["peer"] for row in rows] == ["dhenara_async", "dhenara_async turns"]
    for row in rows:
        assert row["failure"] is None
        assert row["text_matches"]
        assert len(row["cpu_milliseconds_per_loop"]) == 1


def test_stores_are_measured_by_what_they_give(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    sizes = (
        "--nodes",
        "200",
        "--nodes",
        "300",
        "--calls",
        "2",
        "--events",
        "200",
        "--rounds",
        "1",
        "--lag-events",
        "120",
    )
    done = run("store", *sizes, "--database", "sqlite", "--store", "dhenara_async", "--json", path)

    assert done.returncode == 0, done.stderr + done.stdout
    result = orjson.loads(path.read_bytes())
    measured = {(row["nodes"], row["operation"]) for row in result["rows"]}
    assert measured == {(nodes, name) for nodes in (200, 300) for name in STORE_OPERATIONS}
    assert all(len(row["milliseconds"]) == 2 for row in result["rows"])
    assert {(row["journal"], row["turns"]) for row in result["journal"]} == {
        (journal, turns) for journal in ("on", "off") for turns in (1, 100)
    }
    assert [row["reader"] for row in result["lag"]] == ["registered", "unregistered"]
    assert all(row["milliseconds"] for row in result["lag"])
    assert "growth" in done.stdout
