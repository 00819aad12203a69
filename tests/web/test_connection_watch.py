"""The watch of aiohttp's connections: it notices what is lost, and outlives neither its waiters nor its loop."""

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest

from dhenara_async.web.aiohttp.watch import SECONDS, ConnectionWatch


class Connection(asyncio.Transport):
    """A connection that the test closes."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.looks = 0

    def is_closing(self) -> bool:
        self.looks += 1
        return self.closed


async def test_each_waiter_hears_of_its_own_connection_and_nobody_looks_when_none_waits() -> None:
    watch = ConnectionWatch.of_running_loop()
    assert ConnectionWatch.of_running_loop() is watch
    first, second = Connection(), Connection()
    loop = asyncio.get_running_loop()
    one, other = loop.create_task(watch.lost(first)), loop.create_task(watch.lost(second))
    await asyncio.sleep(0)
    first.closed = True
    await asyncio.wait_for(one, 60)
    assert not other.done()
    other.cancel()
    with suppress(asyncio.CancelledError):
        await other
    looks = second.looks
    await asyncio.sleep(3 * SECONDS)
    assert second.looks == looks


@pytest.mark.parametrize("waiting", [False, True], ids=["after the last waiter", "with a waiter"])
def test_a_loop_that_ends_is_not_kept(waiting: bool) -> None:
    def run() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        connection = Connection()

        async def wait() -> None:
            await ConnectionWatch.of_running_loop().lost(connection)

        task = loop.create_task(wait())
        loop.run_until_complete(asyncio.sleep(0))
        if not waiting:
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        else:
            loop.set_exception_handler(lambda loop, context: None)  # a pending task is destroyed
        loop.close()
        return weakref.ref(loop)

    ended = run()
    gc.collect()
    assert ended() is None
