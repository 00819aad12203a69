"""One round of ``fanout`` in a worker process: many concurrent paced streams, and the lags of their tokens."""

import gc
import time
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypedDict

import anyio

from benchmarks import machine, wire
from benchmarks.peers import Calls
from benchmarks.quantiles import quantiles
from benchmarks.rounds import one_line
from benchmarks.worker import Job

_BATCH = 50
_PAUSE = 0.002  # seconds for the server to accept a batch of connections


class Round(TypedDict):
    """The result of a round.

    Attributes:
        tokens: Token events whose text was received.
        seconds: Seconds from the first token of the round to the last.
        cpu_seconds: CPU seconds of this process since the first request.
        lags: Quantiles of milliseconds between the due moment of a token and its receipt.
        errors: Streams that failed.
        wrong: Complete streams whose text differs from the text that was sent.
        first_error: The first failure; None if there is none.
        resident_bytes: Memory of this process after the round.
    """

    tokens: int
    seconds: float
    cpu_seconds: float
    lags: list[float]
    errors: int
    wrong: int
    first_error: str | None
    resident_bytes: int


class _Received:
    """The deltas of one stream: their texts and times."""

    __slots__ = ("moments", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.moments = array("d")

    def take(self, text: str) -> None:
        self.moments.append(time.monotonic())
        self.texts.append(text)


async def work(job: Job, calls: Calls) -> Mapping[str, object]:
    """Read ``job.streams`` concurrent streams to their end, and return a ``Round``."""
    received = [_Received() for _ in range(job.streams)]
    failures: list[str] = []

    async def one(stream: _Received) -> None:
        try:
            await calls.stream(stream.take)
        except Exception as error:  # noqa: BLE001 - counted; the other streams continue
            failures.append(one_line(error))
            stream.texts.clear()

    gc.collect()
    before = time.process_time()
    async with anyio.create_task_group() as group:
        for number, stream in enumerate(received, start=1):
            group.start_soon(one, stream)
            if number % _BATCH == 0:
                await anyio.sleep(_PAUSE)
    spent = time.process_time() - before
    result = _summary(job, received, failures, spent)
    del received
    return {**result, "resident_bytes": machine.resident_bytes()}


def _summary(job: Job, received: Sequence[_Received], failures: Sequence[str], spent: float) -> Round:
    answer = wire.answer(job.dialect, job.events, stamped=True)
    ends = list(accumulate(map(len, answer.texts)))
    gap = int(job.mode.split("-")[1]) / 1e6
    all_lags = array("d")
    moments = array("d")
    wrong = 0
    for stream in received:
        if not stream.texts:
            continue
        start, text = wire.split_stamp("".join(stream.texts))
        if wire.text_digest(text) != answer.digest:
            wrong += 1
            continue
        all_lags.extend(lags(stream.texts, stream.moments, ends=ends, start=start / 1e9, gap=gap))
        moments.extend((stream.moments[0], stream.moments[-1]))
    wrong += sum(not stream.texts for stream in received) - len(failures)
    return {
        "tokens": len(all_lags),
        "seconds": max(moments) - min(moments) if moments else 0.0,
        "cpu_seconds": spent,
        "lags": quantiles(sorted(lag * 1e3 for lag in all_lags)),
        "errors": len(failures),
        "wrong": wrong,
        "first_error": failures[0] if failures else None,
        "resident_bytes": 0,
    }


def lags(
    texts: Sequence[str], moments: Sequence[float], *, ends: Sequence[int], start: float, gap: float
) -> list[float]:
    """Return the seconds between the due moment of each token and its receipt, oldest first.

    Args:
        texts: The received deltas; a peer may have joined or cut tokens.
        moments: The time of each delta.
        ends: The end of each token in the whole text.
        start: The due moment of the first token.
        gap: Seconds between two tokens.
    """
    found: list[float] = []
    length = tokens = 0
    for text, moment in zip(texts, moments, strict=True):
        length += len(text)
        come = bisect_right(ends, length, tokens)
        found.extend(moment - (start + number * gap) for number in range(tokens, come))
        tokens = come
    return found
