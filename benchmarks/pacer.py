"""Writes events at their due moments, on many connections at once.

One heap and one callback serve all connections: a timer for each would make the server slower than its clients. Timers
of the event loop are up to a millisecond late, so with its own core the pacer polls the clock instead.
"""

import asyncio
import heapq
import os
import random
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_NANOSECONDS = 1_000_000_000
_NEAR = 2_000_000  # nanoseconds below which a timer is too coarse
_PATIENCE = 5.0  # seconds without a new stream after which the schedule starts with fewer streams
_SEED = 20261122

Write = Callable[[bytes], bool]
"""Sends a piece; False if the connection is gone."""


@dataclass(slots=True)
class _Paced:
    """One answer that is being written.

    Attributes:
        write: Writes bytes to the connection.
        pieces: The remaining pieces, last one first.
        gap: Nanoseconds between two pieces.
        due: The due moment of the next piece, by ``time.monotonic_ns``.
        scheduled: Whether later pieces keep their due moments after a late one.
    """

    write: Write
    pieces: list[bytes]
    gap: int
    due: int
    scheduled: bool


class Pacer:
    """Writes all paced answers. Belongs to the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spins = (os.cpu_count() or 1) > 1
        self._heap: list[tuple[int, int, _Paced]] = []
        self._count = 0
        self._running = False
        self._lateness = array("q")
        self._gathered: list[tuple[Write, Callable[[int], Sequence[bytes]], int]] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._random = random.Random(_SEED)

    def spread(self, write: Write, pieces: Sequence[bytes], gap: int) -> None:
        """Write ``pieces`` with at least ``gap`` nanoseconds between them, starting now."""
        self._push(_Paced(write, [*reversed(pieces)], gap, time.monotonic_ns(), scheduled=False))
        self._run()

    def gather(self, write: Write, pieces: Callable[[int], Sequence[bytes]], gap: int, streams: int) -> None:
        """Write the pieces by a schedule that starts when ``streams`` answers have been requested.

        Each answer starts at its own moment within the first gap. ``pieces`` is called with that moment, in nanoseconds
        of the monotonic clock, which all processes of a machine share. Piece number n is due n gaps later. If no new
        request arrives for some seconds, the requested answers start.
        """
        self._gathered.append((write, pieces, gap))
        if self._gathering is not None:
            self._gathering.cancel()
        if len(self._gathered) >= streams:
            self._begin()
        else:
            self._gathering = self._loop.call_later(_PATIENCE, self._begin)

    def take_lateness(self) -> list[float]:
        """Return the lags of scheduled pieces in milliseconds, sorted, and clear them."""
        lateness = sorted(nanoseconds / 1e6 for nanoseconds in self._lateness)
        self._lateness = array("q")
        return lateness

    def _begin(self) -> None:
        self._gathering = None
        gathered, self._gathered = self._gathered, []
        starts = time.monotonic_ns() + _NANOSECONDS // 20
        for write, pieces, gap in gathered:
            start = starts + self._random.randrange(gap)
            self._push(_Paced(write, [*reversed(pieces(start))], gap, start, scheduled=True))
        self._run()

    def _push(self, paced: _Paced) -> None:
        self._count += 1
        heapq.heappush(self._heap, (paced.due, self._count, paced))

    def _run(self) -> None:
        if not self._running:
            self._running = True
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        heap = self._heap
        now = time.monotonic_ns()
        while (
            heap and heap[0][0] <= now
        ):  # leave pieces that become due now to the next call: a late server must also read
            self._write(heapq.heappop(heap)[2])
        now = time.monotonic_ns()
        if not heap:
            self._running = False
        elif self._spins and heap[0][0] - now < _NEAR:
            self._loop.call_soon(self._tick)
        else:
            self._loop.call_later((heap[0][0] - now) / _NANOSECONDS, self._tick)

    def _write(self, paced: _Paced) -> None:
        now = time.monotonic_ns()
        if not paced.write(paced.pieces.pop()):
            return
        if paced.scheduled:
            self._lateness.append(now - paced.due)
        if paced.pieces:
            paced.due = (paced.due if paced.scheduled else time.monotonic_ns()) + paced.gap
            self._push(paced)
