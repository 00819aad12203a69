"""``run_tools``: each call gets a result for any outcome of its function, and long error texts are cut."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from math import inf
from typing import NoReturn

import anyio
import anyio.lowlevel
import pytest
from pydantic import JsonValue

from dhenara_async import JsonPart, Tool, ToolCallPart, ToolResultPart, run_tools
from dhenara_async.errors import ConfigurationError
from dhenara_async.tools.run import LONGEST_ERROR

PATIENCE = 60
"""Most seconds that a thread waits, so that a failing test ends."""


def call(name: str, arguments: str = "{}", call_id: str = "1") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


async def fine() -> str:
    await anyio.lowlevel.checkpoint()
    return "fine"


class Unheard(BaseException):
    """A direct subclass of ``BaseException``."""


class Mute(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")


# -------------------------------------------------------------------------------------- exceptions and cancellation


async def waits_for_what_is_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def raises_cancelled() -> None:
    raise asyncio.CancelledError


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.lowlevel.checkpoint()


async def cancels_itself_and_ends() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "done"


def raises_cancelled_at_once() -> None:
    raise asyncio.CancelledError


def exits() -> None:
    raise SystemExit(3)


async def exits_later() -> None:
    await anyio.lowlevel.checkpoint()
    raise SystemExit(3)


async def interrupts() -> None:
    await anyio.lowlevel.checkpoint()
    raise KeyboardInterrupt


async def unheard() -> None:
    raise Unheard("of")


async def mute() -> None:
    raise Mute


async def in_a_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(unheard)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (waits_for_what_is_cancelled, "CancelledError: an operation inside the function was cancelled"),
        (raises_cancelled, "CancelledError: an operation inside the function was cancelled"),
        (raises_cancelled_at_once, "CancelledError: an operation inside the function was cancelled"),
        (cancels_itself, "CancelledError: an operation inside the function was cancelled"),
        (exits, "SystemExit: 3"),
        (exits_later, "SystemExit: 3"),
        (interrupts, "KeyboardInterrupt: "),
        (unheard, "Unheard: of"),
        (mute, "Mute: (its message cannot be read)"),
        (in_a_group, "BaseExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)"),
    ],
)
async def test_a_base_exception_of_a_function_becomes_an_error_result(
    function: Callable[..., object], words: str
) -> None:
    calls = [call("fine", call_id="1"), call(function.__name__, call_id="2"), call("fine", call_id="3")]
    results = await run_tools(calls, [fine, function])
    assert [(each.call_id, each.get_text(), each.is_error) for each in results] == [
        ("1", "fine", False),
        ("2", words, True),
        ("3", "fine", False),
    ]


async def test_a_function_that_cancels_its_task_and_returns_gives_its_result() -> None:
    results = await run_tools([call("cancels_itself_and_ends"), call("fine")], [cancels_itself_and_ends, fine])
    assert [each.get_text() for each in results] == ["done", "fine"]


@pytest.mark.parametrize("by_scope", [False, True])
async def test_a_cancelled_caller_cancels_its_running_functions(by_scope: bool) -> None:
    started, ended = anyio.Event(), list[str]()

    async def waits() -> None:
        started.set()
        try:
            await anyio.sleep(inf)
        finally:
            ended.append("waits")

    async def stubborn() -> str:
        try:
            await anyio.sleep(inf)
        except asyncio.CancelledError:
            ended.append("stubborn")
        return "I stay"

    async def caller() -> None:
        await run_tools([call("waits"), call("stubborn"), call("waits")], [waits, stubborn])
        ended.append("the caller was not cancelled")

    if by_scope:
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await started.wait()
            group.cancel_scope.cancel()
    else:
        tasks = list[asyncio.Task[object]]()

        async def known() -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            with pytest.raises(asyncio.CancelledError):
                await caller()
            task.uncancel()

        async with anyio.create_task_group() as group:
            group.start_soon(known)
            await started.wait()
            tasks[0].cancel()
    assert sorted(ended) == ["stubborn", "waits", "waits"]


# ------------------------------------------------------------------------------------------------ concurrency


@pytest.mark.parametrize(("asked", "most"), [(None, 8), (1, 1), (3, 3), (1000, 40)])
async def test_concurrency_limits_the_number_of_running_functions(asked: int | None, most: int) -> None:
    running, seen = 0, list[int]()

    async def counted(number: int) -> int:
        nonlocal running
        running += 1
        seen.append(running)
        for _turn in range(3):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return number

    calls = [call("counted", f'{{"number": {number}}}', str(number)) for number in range(40)]
    results = await (run_tools(calls, [counted]) if asked is None else run_tools(calls, [counted], concurrency=asked))
    assert max(seen) == most
    assert [(each.call_id, each.get_text()) for each in results] == [(str(at), str(at)) for at in range(40)]


async def test_a_concurrency_of_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="concurrency"):
        await run_tools([call("fine")], [fine], concurrency=0)


async def test_a_tool_without_a_function_is_refused_before_any_function_runs() -> None:
    ran = list[str]()

    def runs() -> None:
        ran.append("it")

    with pytest.raises(ConfigurationError, match="'plain' was made from a schema"):
        await run_tools([call("runs"), call("plain")], [runs, Tool(name="plain")])
    assert ran == []


# ------------------------------------------------------------------------------------------------ threads


async def test_a_blocking_function_does_not_block_the_loop() -> None:
    """The function waits for a task of the loop: on the loop's thread it would block that task."""
    asked, answered = anyio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def blocks() -> str:
        loop.call_soon_threadsafe(asked.set)
        return "heard" if answered.wait(PATIENCE) else "not heard"

    async def answers() -> None:
        await asked.wait()
        answered.set()

    async with anyio.create_task_group() as group:
        group.start_soon(answers)
        (result,) = await run_tools([call("blocks")], [blocks])
        assert result.get_text() == "heard"


async def test_blocking_functions_run_concurrently() -> None:
    together = threading.Barrier(3)

    def meets() -> str:
        together.wait(PATIENCE)
        return "met"

    results = await run_tools([call("meets", call_id=str(at)) for at in range(3)], [meets])
    assert [each.get_text() for each in results] == ["met"] * 3


class Adder:
    """A callable object."""

    def __call__(self, a: int) -> str:
        return f"{a} in {where()}"


class LaterAdder:
    """An async callable object."""

    async def __call__(self, a: int) -> str:
        return f"{a} in {where()}"


class Desk:
    """Methods."""

    def add(self, a: int) -> str:
        return f"{a} in {where()}"

    async def add_later(self, a: int) -> str:
        return f"{a} in {where()}"


def where() -> str:
    return "the loop's thread" if threading.current_thread() is threading.main_thread() else "a thread"


def plus(a: int, b: int) -> str:
    return f"{a + b} in {where()}"


async def plus_later(a: int, b: int) -> str:
    return f"{a + b} in {where()}"


def gives_awaitable(a: int) -> Awaitable[str]:
    return plus_later(a, 0)


@pytest.mark.parametrize(
    ("function", "in_threads", "words"),
    [
        (Adder(), True, "1 in a thread"),
        (Adder(), False, "1 in the loop's thread"),
        (LaterAdder(), True, "1 in the loop's thread"),
        (Desk().add, True, "1 in a thread"),
        (Desk().add_later, True, "1 in the loop's thread"),
        (partial(plus, b=2), True, "3 in a thread"),
        (partial(plus_later, b=2), True, "3 in the loop's thread"),
        (partial(partial(plus_later), b=2), True, "3 in the loop's thread"),
        (gives_awaitable, True, "1 in the loop's thread"),
    ],
)
async def test_only_sync_functions_run_in_threads(
    function: Callable[..., object], in_threads: bool, words: str
) -> None:
    tool = Tool.from_function(function)
    (result,) = await run_tools([call(tool.name, '{"a": 1}')], [tool], in_threads=in_threads)
    assert (result.get_text(), result.is_error) == (words, False)


async def test_a_function_in_a_thread_reads_the_context_variables_of_the_caller() -> None:
    tenant: ContextVar[str] = ContextVar("tenant")
    tenant.set("the caller's")

    def reads() -> str:
        seen = tenant.get()
        tenant.set("the thread's")
        return seen

    (result,) = await run_tools([call("reads")], [reads])
    assert (result.get_text(), tenant.get()) == ("the caller's", "the caller's")


def stops() -> None:
    raise StopIteration(3)


def leaves() -> None:
    raise GeneratorExit


@pytest.mark.parametrize(("function", "words"), [(stops, "StopIteration: 3"), (leaves, "GeneratorExit: ")])
async def test_stop_iteration_and_generator_exit_become_error_results(
    function: Callable[..., object], words: str
) -> None:
    results = await run_tools([call("fine"), call(function.__name__)], [fine, function])
    assert [(each.get_text(), each.is_error) for each in results] == [("fine", False), (words, True)]


async def test_a_cancelled_caller_does_not_wait_for_a_thread() -> None:
    started, released, ended = anyio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stuck() -> None:
        loop.call_soon_threadsafe(started.set)
        released.wait(PATIENCE)
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run_tools, [call("stuck")], [stuck])
        await started.wait()
        group.cancel_scope.cancel()
    assert not ended.is_set()  # the group has ended, and the function still runs
    released.set()
    assert await asyncio.to_thread(ended.wait, PATIENCE)


async def test_threads_of_cancelled_calls_count_for_the_thread_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new call after a cancellation gets no threads above the limit."""
    monkeypatch.setattr("dhenara_async.tools.run.TOOL_THREADS", 2)
    released, running = threading.Event(), list[int]()
    reached = anyio.Event()
    loop = asyncio.get_running_loop()

    def stuck(number: int) -> None:
        running.append(number)
        if len(running) == 2:
            loop.call_soon_threadsafe(reached.set)
        released.wait(PATIENCE)

    calls = [call("stuck", f'{{"number": {number}}}', str(number)) for number in range(4)]
    async with anyio.create_task_group() as group:
        group.start_soon(run_tools, calls, [stuck])
        await reached.wait()
        group.cancel_scope.cancel()
    async with anyio.create_task_group() as group:
        group.start_soon(run_tools, calls, [stuck])
        await anyio.wait_all_tasks_blocked()
        assert len(running) == 2
        released.set()
    assert len(running) == 6  # the two waiting calls of the cancelled caller never ran


# -------------------------------------------------------------------------------------- error texts and results


def listed(path: str, depth: int = 0) -> str:
    return f"{path} {depth}"


def echoes(path: str) -> None:
    raise LookupError(path)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("x" * 1_000_000, "{}"),
        ("listed", '{"path": "a", "' + "k" * 1_000_000 + '": 1}'),
        ("listed", '{"' + '": {"'.join(["k" * 100_000] * 10) + '": 1' + "}" * 10),
        ("echoes", '{"path": "' + "p" * 1_000_000 + '"}'),
    ],
)
async def test_long_names_and_arguments_are_cut_in_error_results(name: str, arguments: str) -> None:
    (result,) = await run_tools([call(name, arguments)], [listed, echoes])
    assert result.is_error
    assert len(result.get_text()) <= LONGEST_ERROR
    assert "…" in result.get_text()


async def test_an_error_text_below_the_limit_is_not_cut() -> None:
    (result,) = await run_tools([call("echoes", '{"path": "' + "p" * 7_000 + '"}')], [echoes])
    assert result.get_text() == "LookupError: " + "p" * 7_000


def names() -> list[str]:
    return [os.fsdecode(b"caf\xe9")]


def sizes() -> dict[str, int]:
    return {os.fsdecode(b"caf\xe9"): 4}


def one_name() -> str:
    return os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("function", "value"), [(names, ["caf\udce9"]), (sizes, {"caf\udce9": 4}), (one_name, "caf\udce9")]
)
async def test_file_names_with_invalid_utf8_stay_in_results(function: Callable[..., object], value: JsonValue) -> None:
    """The result keeps the lone surrogates; only the encoder replaces them."""
    (result,) = await run_tools([call(function.__name__)], [function])
    assert not result.is_error
    assert result.content == ToolResultPart.of(call(function.__name__), value).content


def thing() -> object:
    return object()


def circle() -> list[object]:
    endless: list[object] = []
    endless.append(endless)
    return endless


def deep() -> object:
    nested: object = 1
    for _level in range(5_000):
        nested = [nested]
    return nested


def raw() -> bytes:
    return b"\xff\xfe"


@pytest.mark.parametrize("function", [thing, circle, deep, raw])
async def test_return_values_without_a_json_form_become_error_results(function: Callable[..., object]) -> None:
    results = await run_tools([call(function.__name__), call("fine")], [function, fine])
    assert [each.is_error for each in results] == [True, False]
    assert results[0].get_text()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**30])
async def test_infinite_nan_and_large_numbers_become_json_results(value: float) -> None:
    def number() -> float:
        return value

    (result,) = await run_tools([call("number")], [number])
    assert [type(part) for part in result.content] == [JsonPart]
    assert not result.is_error
