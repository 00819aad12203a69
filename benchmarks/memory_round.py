"""One round of ``memory`` in a worker process: the memory that open, waiting streams add."""

from collections.abc import Mapping
from typing import TypedDict

import anyio
from anyio.abc import TaskGroup

from benchmarks import machine, wire
from benchmarks.peers import Calls
from benchmarks.worker import Job

_FIRST_SHARE = 4  # streams that fill memory which the imports left free; not counted
_BATCH = 50
_PAUSE = 0.002  # seconds for the server to accept a batch of connections


class Held(TypedDict):
    """The result of a round.

    Attributes:
        bytes_per_stream: Resident memory of one stream among many.
        text_matches: Whether each stream received all of the sent text.
    """

    bytes_per_stream: float
    text_matches: bool


async def work(job: Job, calls: Calls) -> Mapping[str, object]:
    """Open ``job.streams`` streams, read all sent events, and measure the memory; closes every stream."""
    answer = wire.answer(job.dialect, job.events + 1)
    expected = sum(map(len, answer.texts[: job.events]))
    counts = [0] * job.streams
    waited_for = 0
    all_received = anyio.Event()

    async def one(place: int) -> None:
        def take(text: str) -> None:
            nonlocal waited_for
            counts[place] += len(text)
            if counts[place] == expected:
                waited_for -= 1
                if waited_for == 0:
                    all_received.set()

        await calls.stream(take)

    async def open_some(group: TaskGroup, places: range) -> int:
        """Open these streams, and measure the memory when all have received the sent events."""
        nonlocal waited_for, all_received
        waited_for, all_received = len(places), anyio.Event()
        for place in places:
            group.start_soon(one, place)
            if place % _BATCH == 0:
                await anyio.sleep(_PAUSE)
        await all_received.wait()
        await anyio.sleep(_PAUSE)
        return machine.resident_bytes()

    first = job.streams // _FIRST_SHARE
    before = machine.resident_bytes()
    after = before
    async with anyio.create_task_group() as group:
        if first:
            before = await open_some(group, range(first))
        after = await open_some(group, range(first, job.streams))
        group.cancel_scope.cancel()
    held: Held = {
        "bytes_per_stream": (after - before) / (job.streams - first),
        "text_matches": all(count == expected for count in counts),
    }
    return {**held}
