"""Runs the functions that a model asks for, and makes of what they give, or how they fail, the results it is told."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from inspect import isawaitable
from math import inf
from typing import cast

import anyio
from pydantic import BaseModel, JsonValue
from pydantic_core import to_jsonable_python

from dhenara_async.errors import ConfigurationError, ToolArgumentsError
from dhenara_async.messages.messages import FilePart, JsonPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.tools.declarations import HostedTool, Tool, Usable
from dhenara_async.tools.schemas import shortened

LONGEST_ERROR = 8_000
"""The most characters of a failure that a model is told."""


async def run_tools(
    calls: Iterable[ToolCallPart], tools: Iterable[Usable], *, concurrency: int = 8
) -> tuple[ToolResultPart, ...]:
    """Run the calls of an answer, several at the same time, and give their results, in the order of the calls.

    What goes wrong with a call is its result (``is_error``), so that the model can do better: arguments that do not
    fit, a tool that is not there, an exception of the function, by class and message, at most 8 000 characters of it.
    That holds for ``SystemExit`` and its like, and for the cancellation of something that the function waits for; only
    when the caller is cancelled itself do all functions end, and this call with them. A function that is not ``async``
    runs on the event loop, which waits for it.

    A function may return text, any value that pydantic can write as JSON, a ``FilePart`` or another content part, or a
    sequence of these parts.

    Args:
        calls: What the model asks for: ``response.tools()``.
        tools: What the call offered: ``config.tools``.
        concurrency: The most functions that run at the same time; the others wait for their turn, in order.

    Raises:
        ConfigurationError: A call is for a tool that was made from a schema alone, so there is nothing to run, or
            ``concurrency`` is below 1. Nothing was run.
    """
    if concurrency < 1:
        raise ConfigurationError("concurrency is how many functions may run at the same time: at least 1")
    known = {tool.name: tool for tool in map(_as_tool, tools) if tool is not None}
    asked = tuple(calls)
    ready = [_prepared(call, known) for call in asked]
    results: dict[int, ToolResultPart] = {}
    slots = anyio.Semaphore(concurrency, fast_acquire=True)

    async def answer(place: int, call: ToolCallPart, run: Callable[[], object]) -> None:
        try:
            results[place] = await _result(call, run)
            await _stay()
        finally:
            slots.release()

    async with anyio.create_task_group() as group:
        for place, (call, run) in enumerate(zip(asked, ready, strict=True)):
            if isinstance(run, ToolResultPart):
                results[place] = run
            else:
                await slots.acquire()
                group.start_soon(answer, place, call, run)
    return tuple(results[place] for place in range(len(asked)))


def _as_tool(tool: Usable) -> Tool | None:
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, HostedTool):
        return None  # the provider runs it
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        return Tool.from_model(tool)
    return Tool.from_function(cast("Callable[..., object]", tool))


def _prepared(call: ToolCallPart, known: dict[str, Tool]) -> Callable[[], object] | ToolResultPart:
    """A call ready to be made, or the result that says why it cannot be."""
    tool = known.get(call.name)
    if tool is None:
        there = ", ".join(known) or "none"
        return ToolResultPart.of(call, f"there is no tool {shortened(call.name)!r}; there are: {there}", is_error=True)
    try:
        return tool.bind(call)
    except ToolArgumentsError as exc:
        return ToolResultPart.of(call, str(exc), is_error=True)


async def _result(call: ToolCallPart, run: Callable[[], object]) -> ToolResultPart:
    try:
        value = run()
        return ToolResultPart.of(call, *_contents(await value if isawaitable(value) else value))
    except GeneratorExit:  # the loop is torn down: there is nobody left to tell
        raise
    except asyncio.CancelledError:
        if _is_leaving():
            raise
        words = "CancelledError: something that it waited for was cancelled"
        return ToolResultPart.of(call, words, is_error=True)
    except BaseException as exc:  # noqa: BLE001 - a function of the caller's can raise anything, and the model is to know
        return ToolResultPart.of(call, _words(exc), is_error=True)


def _is_leaving() -> bool:
    """Whether the caller of ``run_tools`` is being cancelled, rather than something inside of a function."""
    return anyio.current_effective_deadline() == -inf


async def _stay() -> None:
    """Take back a cancellation that a function has asked for of the task that it ran in: the others go on."""
    task = asyncio.current_task()
    while task is not None and task.cancelling() and not _is_leaving():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # where it is raised, if it has not been
        task.uncancel()


def _words(exc: BaseException) -> str:
    """An exception by class and message, which can be of any length, and can fail to be told."""
    try:
        said = str(exc)
    except Exception:  # noqa: BLE001 - code of the caller's, about an exception of the caller's
        said = "(its message cannot be told)"
    return shortened(f"{type(exc).__name__}: {said}", LONGEST_ERROR)


def _contents(value: object) -> Sequence[TextPart | JsonPart | FilePart]:
    """What a function gave, as parts."""
    if isinstance(value, TextPart | JsonPart | FilePart):
        return (value,)
    if isinstance(value, str):
        return (TextPart(text=value),)
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        if items and all(isinstance(item, TextPart | JsonPart | FilePart) for item in items):
            return cast("Sequence[TextPart | JsonPart | FilePart]", items)
    return (JsonPart(value=_plain(cast("object", value))),)


def _plain(value: object) -> JsonValue:
    try:
        return cast("JsonValue", to_jsonable_python(value))
    except UnicodeEncodeError:  # half of a surrogate pair in a key, as file names have it; plain JSON may hold that
        return cast("JsonValue", value)
