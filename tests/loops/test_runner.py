"""``ToolRunner`` and ``LoopProgress`` without a model: concurrency, results stored under cancellation, tokens."""

import anyio
import anyio.lowlevel
import pytest
from pydantic import JsonValue

from dhenara_async import ToolPolicy
from dhenara_async.calls.loop_steps import EventBuffer
from dhenara_async.calls.observed_loop import ObservedLoop
from dhenara_async.errors import ConfigurationError
from dhenara_async.events import ToolEnd
from dhenara_async.messages.messages import HostedToolPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.response import CONTINUATION, ChatResponse, Choice, FinishReason
from dhenara_async.tools.declarations import Tool
from dhenara_async.tools.loop import AskNext, EndLoop, LoopProgress
from dhenara_async.tools.runner import ToolRunner
from dhenara_async.tools.sessions import ToolSessions
from tests.loopback import PATIENCE

CALLS = [(place, ToolCallPart(call_id=f"call_{place}", name="work", arguments="{}")) for place in range(6)]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_no_more_calls_run_at_once_than_the_policy_allows(concurrency: int) -> None:
    running, most = 0, 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        running -= 1

    async def keep(place: int, result: ToolResultPart) -> None:
        pass

    policy = ToolPolicy(concurrency=concurrency)
    runner = ToolRunner(policy, [Tool.from_function(work)], ToolSessions(), ObservedLoop((), "loop"))
    results = await runner.run(CALLS, {}, emit=lambda event: None, keep=keep)
    assert (sorted(results), most) == ([0, 1, 2, 3, 4, 5], concurrency)


def test_two_functions_of_one_name_are_refused() -> None:
    def work() -> str:
        return "done"

    tools = [Tool.from_function(work), Tool.from_function(lambda: 2, name="work")]
    with pytest.raises(ConfigurationError, match=r"two tools have the name 'work': give one of them another"):
        ToolRunner(ToolPolicy(), tools, ToolSessions(), ObservedLoop((), "loop"))


async def test_the_ends_of_calls_without_an_id_come_in_their_order() -> None:
    second, ended = anyio.Event(), list[str]()

    async def work(number: int) -> int:
        if number == 0:
            await second.wait()
        return number

    async def keep(place: int, result: ToolResultPart) -> None:
        if place == 1:  # the second result is stored before the first call is done
            second.set()

    calls = [(place, ToolCallPart(call_id="", name="work", arguments=f'{{"number":{place}}}')) for place in range(3)]
    runner = ToolRunner(ToolPolicy(), [Tool.from_function(work)], ToolSessions(), ObservedLoop((), "loop"))
    with anyio.fail_after(PATIENCE):
        await runner.run(
            calls,
            {},
            emit=lambda event: ended.append(event.result.get_text()) if isinstance(event, ToolEnd) else None,
            keep=keep,
        )
    assert ended == ["0", "1", "2"]


async def test_a_result_is_stored_although_the_loop_is_cancelled_meanwhile() -> None:
    stored: list[int] = []
    storing = anyio.Event()

    def work() -> str:
        return "done"

    async def keep(place: int, result: ToolResultPart) -> None:
        storing.set()
        await anyio.sleep(0.01)
        stored.append(place)

    runner = ToolRunner(ToolPolicy(), [Tool.from_function(work)], ToolSessions(), ObservedLoop((), "loop"))

    async def loop() -> None:
        await runner.run(CALLS[:1], {}, emit=lambda event: None, keep=keep)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop)
            await storing.wait()
            tasks.cancel_scope.cancel()
    assert stored == [0]


async def test_readers_that_give_up_leave_nothing_in_the_buffer() -> None:
    buffer = EventBuffer()
    for _ in range(3):
        with anyio.move_on_after(0.001):
            await buffer.wait()
    assert buffer.waiters == []


def test_a_provider_that_returns_with_the_token_that_it_was_given_is_not_asked_again() -> None:
    def cut(token: str) -> ChatResponse:
        state: dict[str, JsonValue] = {CONTINUATION: token}
        part = HostedToolPart(name=CONTINUATION, report=True, provider_state=state)
        choice = Choice(index=0, parts=(TextPart(text="Once "), part), finish_reason=FinishReason.PAUSE)
        return ChatResponse(choices=(choice,), model="model", provider="provider")

    progress = LoopProgress(ToolPolicy())
    assert progress.after(cut("one")) == AskNext(goes_on=True)
    assert progress.after(cut("two")) == AskNext(goes_on=True)
    assert progress.after(cut("two")) == EndLoop("complete")
