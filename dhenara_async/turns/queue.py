"""``TurnQueue``: the turns of one conversation, one after another."""

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import Final
from weakref import ref

from dhenara_async.errors import StreamStateError

_TURNS_OF_TOOLS: Final[ContextVar[tuple[ref[object], ...]]] = ContextVar("turns whose tools run here", default=())


class TurnQueue:
    """Lets one turn of a conversation run at a time, in the order in which their blocks are entered.

    A turn whose block was entered and never left gives up its place when nothing refers to it any more, or when its
    event loop is closed.
    """

    def __init__(self) -> None:
        self._running: ref[object] | None = None
        self._task: ref[asyncio.Task[object]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, turn: object) -> None:
        """Wait until the turns before have ended.

        Raises:
            StreamStateError: This task is inside a turn of the same conversation, or runs a tool of it: it could never
                end.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if self._loop is not None and self._loop.is_closed():
            self._running, self._loop = None, None
            self._waiting.clear()
        if self._loop is not None:
            if task is not None and self._task is not None and self._task() is task:
                raise StreamStateError(
                    "this task is inside another turn of the same conversation, which has to end first; leave its "
                    "block, or write manager.turn(…, beside=True) for a sibling"
                )
            if self._running is not None and self._running in _TURNS_OF_TOOLS.get():
                raise StreamStateError(
                    "a tool cannot wait for a turn of the conversation that it runs in; write "
                    "manager.turn(…, beside=True), or use another conversation"
                )
            await self._turn_to_run(loop)
        self._loop = loop
        self._task = None if task is None else ref(task)
        self._running = ref(turn, self._abandoned)

    def run_tools_here(self) -> None:
        """Note that the current task, and those that it starts, run tools of the running turn."""
        if self._running is not None:
            _TURNS_OF_TOOLS.set((*_TURNS_OF_TOOLS.get(), self._running))

    def go_on_without_task(self, turn: object) -> None:
        """Note that the running turn goes on without the task that entered it, which may wait for it from now on."""
        if self._running is not None and self._running() is turn:
            self._task = None

    def leave(self, turn: object) -> None:
        """Let the next turn run. Nothing changes if ``turn`` does not run."""
        if self._running is not None and self._running() is turn:
            self._pass_on()

    async def _turn_to_run(self, loop: asyncio.AbstractEventLoop) -> None:
        place = loop.create_future()
        self._waiting.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        self._running = self._task = None
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)  # ``_loop`` stays, so that no other turn comes in between
                return
        self._loop = None

    def _abandoned(self, turn: ref[object]) -> None:
        """Pass on the place of a turn that was collected, maybe in another thread."""

        def pass_on() -> None:
            if self._running is turn:
                self._pass_on()

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(pass_on)
