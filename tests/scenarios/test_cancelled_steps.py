"""Calls, tool loops and turns that are cancelled in every step of the event loop: nothing is left of them.

A run ends when it is cancelled in one step: the loop counts how often it has looked at its sockets. So there is a run
for each place where a task can wait, in whichever task that is: a tool's, a server's or the reader's.
"""

import asyncio
import gc
import selectors
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import cache

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp.server.mcpserver import MCPServer

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Budget,
    ConversationManager,
    Dialect,
    McpServer,
    Tool,
    ToolPolicy,
)
from dhenara_async.testing import Answer, ProviderServer, SeenRequest
from tests.loopback import PATIENCE
from tests.loops.tools import answered, call, endpoint_of, paint_step
from tests.mcp_server import server_of

TOKENS = 1_000_000
MOST_STEPS = 1_000


async def paint(number: int) -> str:
    """Paint a picture."""
    await asyncio.sleep(0)
    return f"picture {number} is painted"


def hang_up(number: int) -> str:
    """Hang a picture up, in a thread."""
    return f"picture {number} hangs"


FUNCTIONS = AIModelCallConfig(tools=[Tool.from_function(paint), Tool.from_function(hang_up)])


def script(seen: SeenRequest) -> Answer:
    """A first answer that calls the tools that there are, and a last one."""
    text = seen.body.decode()
    if answered(seen) or "tools" not in text:
        return Answer(text="Done and done.")
    if "shop__add" in text:
        return paint_step(1, call(1, "shop__add", '{"a": 1, "b": 2}'), call(2, "none"))
    return paint_step(1, call(1, "paint", '{"number": 1}'), call(2, "hang_up", '{"number": 2}'))


# ------------------------------------------------------------------------------------------------------ the scenarios


async def plain_call(endpoint: AIModelEndpoint) -> None:
    await AIModelClient(endpoint).generate("Hello.")


async def stream(endpoint: AIModelEndpoint) -> None:
    async with AIModelClient(endpoint) as client, client.stream("Hello.") as answer:
        async for _ in answer:
            pass


async def loop_with_functions(endpoint: AIModelEndpoint) -> None:
    async with AIModelClient(endpoint, FUNCTIONS).stream("Paint.", run_tools=ToolPolicy()) as answers:
        async for _ in answers:
            pass
    assert len(answers.responses) == 2


async def loop_with_a_server(endpoint: AIModelEndpoint) -> None:
    client = AIModelClient(endpoint, AIModelCallConfig(tools=[McpServer.of(shop())]))
    await client.generate("Add.", run_tools=ToolPolicy())


@cache
def shop() -> MCPServer:
    """The server of all runs: to make one takes longer than a run."""
    return server_of()


async def turn_with_functions(endpoint: AIModelEndpoint) -> None:
    """A turn in a manager that is left with it, and whose budgets hold nothing back for it afterwards."""
    budget = Budget(tokens=TOKENS)
    async with ConversationManager(config=FUNCTIONS, budget=budget, conversation_budget=budget) as manager:
        conversation = await manager.create()
        try:
            async with manager.turn(conversation, "Paint.", endpoint, run_tools=ToolPolicy()) as turn:
                async for _ in turn:
                    pass
        finally:
            turns = manager._turns  # pyright: ignore[reportPrivateUsage] - a budget shows itself in refusals only
            each = turns._spendings.get(conversation)  # pyright: ignore[reportPrivateUsage]
            for spending in (turns.spending, each):
                if spending is not None:
                    spending.refuse(tokens=TOKENS - spending.spent.tokens, money=None)


async def turn_after_a_cancelled_one(endpoint: AIModelEndpoint) -> None:
    """A conversation whose last turn was cancelled takes the next one at once."""
    async with ConversationManager() as manager:
        conversation = await manager.create()
        try:
            await manager.ask(conversation, "Hello.", endpoint)
        finally:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                task.uncancel()
                await manager.ask(conversation, "Hello again.", endpoint)


# ------------------------------------------------------------------------------------------------------------ the runs


class CountingSelector(selectors.DefaultSelector):
    """Counts the steps of its event loop, and calls a function in one of them.

    Attributes:
        steps: The number of steps so far.
        at: The step of the call.
        call: The function; None = steps do not count.
    """

    def __init__(self, at: int) -> None:
        super().__init__()
        self.steps, self.at = 0, at
        self.call: Callable[[], object] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Count the step."""
        if self.call is not None:
            self.steps += 1
            if self.steps == self.at:
                self.call()
                timeout = 0
        return super().select(timeout)


def ends_when_cancelled(
    scenario: Callable[[AIModelEndpoint], Awaitable[None]], endpoint: AIModelEndpoint, at: int
) -> bool:
    """Run a scenario, cancel it in one of its steps, and return whether it had as many."""
    selector = CountingSelector(at)
    heard: list[dict[str, object]] = []

    async def run() -> None:
        loop, before = asyncio.get_running_loop(), asyncio.all_tasks()
        loop.set_exception_handler(lambda _, context: heard.append(context))

        async def whole() -> None:
            await scenario(endpoint)

        task = loop.create_task(whole())
        selector.call = lambda: loop.call_soon(task.cancel)
        await asyncio.wait([task], timeout=PATIENCE)
        selector.call = None
        assert task.done(), f"step {at}: it hangs"
        assert task.cancelled() or task.exception() is None, f"step {at}: {task.exception()!r}"
        left = [other for other in asyncio.all_tasks() - before if other is not task and not other.done()]
        assert left == [], f"step {at}"

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(run())
        gc.collect()
    assert heard == [], f"step {at}"
    return selector.steps >= at


@contextmanager
def unraised(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Fail if an error, or a warning such as that of an unclosed connection, cannot be raised inside."""
    heard: list[object] = []

    def hear(told: "sys.UnraisableHookArgs") -> None:
        heard.append((told.exc_value, told.object))

    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", hear)
        yield
        gc.collect()
    assert heard == []


@pytest.mark.parametrize(
    "scenario",
    [
        *(plain_call, stream, loop_with_functions, loop_with_a_server),
        *(turn_with_functions, turn_after_a_cancelled_one),
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_nothing_is_left_of_what_is_cancelled_in_any_step(
    scenario: Callable[[AIModelEndpoint], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(ProviderServer(script)) as server:
        endpoint = endpoint_of(server, Dialect.OPENAI_CHAT)
        cancelled = 0
        with unraised(monkeypatch):
            while ends_when_cancelled(scenario, endpoint, cancelled + 1):
                cancelled += 1
                assert cancelled < MOST_STEPS
        assert cancelled > 8
        all_are_closed(portal, server)


def all_are_closed(portal: BlockingPortal, server: ProviderServer) -> None:
    """Wait until the clients have closed every connection."""

    async def closed() -> None:
        async with asyncio.timeout(PATIENCE):
            await server.wait_closed(server.connections)

    portal.call(closed)
