"""The benchmarks run and check what they measure. Never a figure: those depend on the machine."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks import wire

_ROOT = Path(__file__).resolve().parent.parent


def test_stream_writes_rows_with_matching_texts(tmp_path: Path) -> None:
    path = tmp_path / "stream.json"
    options = ["--events", "20", "--rounds", "1", "--mode", "blast", "--peer", "floor", "--peer", "dhenara_async"]
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
    assert result["options"] == {"events": 20, "rounds": 1, "concurrency": 1}
    assert result["skipped"] == []
    assert set(result["events_per_read"]) == {f"{dialect} blast" for dialect in wire.DIALECTS}
    assert [(row["dialect"], row["peer"]) for row in result["rows"]] == [
        (dialect, peer) for dialect in wire.DIALECTS for peer in ("floor", "dhenara_async")
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
