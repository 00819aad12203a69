"""Runs a model's tool calls and turns return values and exceptions into tool results."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from math import inf
from threading import Thread
from typing import cast

import anyio
from anyio.lowlevel import RunVar
from pydantic import BaseModel, JsonValue
from pydantic_core import to_jsonable_python

from dhenara_async.errors import ConfigurationError, ToolArgumentsError
from dhenara_async.messages.messages import FilePart, JsonPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.tools.declarations import HostedTool, Tool, Usable
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.schema_answers import shortened
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.tools.sources import AskUser, OnProgress, ToolSource

LONGEST_ERROR = 8_000
"""Maximum characters of an error in a tool result."""

TOOL_THREADS = 40
"""Maximum threads of an event loop in which functions run, those of cancelled calls included; more calls wait."""

# For each event loop its own, so that a function may run tools itself, on a loop of its thread, and never waits for its
# own thread. Not anyio's threads: there a cancelled call makes room while its thread still runs.
_slots: RunVar[asyncio.Semaphore] = RunVar("dhenara_async tools")


async def run_tools(
    calls: Iterable[ToolCallPart],
    tools: Iterable[Usable],
    *,
    concurrency: int = 8,
    in_threads: bool = True,
    context: object = None,
) -> tuple[ToolResultPart, ...]:
    """Run an answer's tool calls concurrently and return their results, in the order of the calls.

    A failed call has an error result (``is_error``), so that the model can correct it: for arguments that do not fit,
    for an unknown tool, and for an exception of the function (class and message, at most 8 000 characters). This
    includes ``SystemExit``, ``KeyboardInterrupt`` and a cancellation inside the function. If the caller itself is
    cancelled, all functions are cancelled.

    An ``async`` function runs on the event loop. Any other function runs in a thread, with the context variables of the
    caller, so that it does not block the loop. A thread cannot be cancelled: a cancelled caller does not wait for it,
    and its function runs to its end. An awaitable that such a function returns is awaited on the loop.

    A function may return text, any value that pydantic can serialize to JSON, a ``FilePart`` or another content part,
    or a sequence of such parts.

    Args:
        calls: The model's tool calls: ``response.tools()``.
        tools: The tools of the call: ``config.tools``. An ``McpServer`` among them is opened for this, and closed.
        concurrency: Maximum number of functions that run at the same time; the others wait, in order.
        in_threads: Whether functions that are not ``async`` run in threads. False = they run on the event loop and
            block it; for functions that are not thread-safe, or need the running loop.
        context: The value of the parameters that are annotated as ``ToolContext[…]``.

    Raises:
        ConfigurationError: A called tool was made from a schema alone, so it has no function, or it takes another
            context, or ``concurrency`` is below 1. Nothing was run.
        ToolServerError: A server cannot be opened, or does not list its tools. Nothing was run.
    """
    if concurrency < 1:
        raise ConfigurationError("concurrency is how many functions may run at the same time: at least 1")
    given, asked = tuple(tools), tuple(calls)
    if not any(isinstance(tool, McpServer) for tool in given):
        return await _run(asked, given, {}, concurrency, in_threads=in_threads, context=context)
    sessions = ToolSessions()
    try:
        # functions among the tools become ``Tool``s first, so that all names are known
        usable = (tool if isinstance(tool, McpServer | HostedTool) else _as_tool(tool) for tool in given)
        listed = await sessions.listed(tool for tool in usable if tool is not None)
        return await _run(asked, listed.tools, listed.sources, concurrency, in_threads=in_threads, context=context)
    finally:
        await sessions.aclose()


async def _run(
    asked: Sequence[ToolCallPart],
    tools: Iterable[Usable],
    sources: Mapping[str, ToolSource],
    concurrency: int,
    *,
    in_threads: bool,
    context: object,
) -> tuple[ToolResultPart, ...]:
    """Run calls of ``tools``; ``sources`` run those of their tools."""
    known = {tool.name: tool for tool in map(_as_tool, tools) if tool is not None}
    for tool in known.values():
        tool.check_context(context)
    ready = [prepared(call, known, sources, context) for call in asked]
    results: dict[int, ToolResultPart] = {}
    slots = anyio.Semaphore(concurrency, fast_acquire=True)

    async def answer(place: int, call: ToolCallPart, run: Callable[[], object]) -> None:
        try:
            results[place], _ = await result_of(call, run, in_threads=in_threads)
            await stay()
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
    if isinstance(tool, HostedTool | McpServer):
        return None  # the provider runs it; or its tools are listed one by one
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        return Tool.from_model(tool)
    return Tool.from_function(cast("Callable[..., object]", tool))


def prepared(
    call: ToolCallPart,
    known: Mapping[str, Tool],
    sources: Mapping[str, ToolSource],
    context: object = None,
    *,
    ask: AskUser | None = None,
    progress: OnProgress | None = None,
) -> Callable[[], object] | ToolResultPart:
    """Return the call as a callable, or an error result if it cannot be run.

    Args:
        call: The model's call.
        known: The tools by name.
        sources: The sources that run some of them, by the tool's name.
        context: The value of the parameters that are annotated as ``ToolContext[…]``.
        ask: Answers the questions of a source; None = they are declined.
        progress: Receives the reports of a source; None = they are dropped.
    """
    source = sources.get(call.name)
    if source is not None:
        return partial(source.call, call, ask=ask, progress=progress)
    tool = known.get(call.name)
    if tool is None:
        names = ", ".join(known) or "none"
        return ToolResultPart.of(call, f"there is no tool {shortened(call.name)!r}; there are: {names}", is_error=True)
    try:
        return tool.bind(call, context=context)
    except ToolArgumentsError as exc:
        return ToolResultPart.of(call, str(exc), is_error=True)


def _is_async(run: Callable[[], object]) -> bool:
    """Whether ``run`` is a call of an ``async`` function, or of an object whose ``__call__`` is one."""
    function = run
    while isinstance(function, partial):
        function = cast("Callable[..., object]", function.func)
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


async def _run_in_thread(run: Callable[[], object]) -> tuple[object, BaseException | None]:
    """Return the value of ``run``, or its exception: futures do not carry ``StopIteration`` and cancellations.

    The thread is a daemon: a function that never returns does not keep the program from ending.
    """
    context, loop = copy_context(), asyncio.get_running_loop()
    ended: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()
    slots = _slots.get(None)
    if slots is None:
        slots = asyncio.Semaphore(TOOL_THREADS)
        _slots.set(slots)
    await slots.acquire()

    def work() -> None:
        outcome: tuple[object, BaseException | None]
        try:
            outcome = context.run(run), None
        except BaseException as exc:  # noqa: BLE001 - as in ``result_of``
            outcome = None, exc
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(end, outcome)

    def end(outcome: tuple[object, BaseException | None]) -> None:
        slots.release()
        if not ended.done():
            ended.set_result(outcome)

    try:
        Thread(target=work, name="dhenara_async tool", daemon=True).start()
    except BaseException:
        slots.release()
        raise
    return await ended


async def result_of(
    call: ToolCallPart, run: Callable[[], object], *, in_threads: bool = True
) -> tuple[ToolResultPart, BaseException | None]:
    """Run a prepared call and return its result, with the exception if it failed.

    Args:
        call: The model's call.
        run: The call as a callable; may return an awaitable.
        in_threads: Whether a function that is not ``async`` runs in a thread.

    Raises:
        asyncio.CancelledError: The caller is being cancelled.
    """
    try:
        in_thread = in_threads and not _is_async(run)
        value, failure = await _run_in_thread(run) if in_thread else (run(), None)
        if failure is not None:
            return failed(call, failure), failure
        made = await value if isawaitable(value) else value
        return made if isinstance(made, ToolResultPart) else ToolResultPart.of(call, *_contents(made)), None
    except GeneratorExit:  # the event loop is closing
        raise
    except asyncio.CancelledError as exc:
        if _is_leaving():
            raise
        return failed(call, exc), exc
    except BaseException as exc:  # noqa: BLE001 - a caller's function can raise anything, and the model must see it
        return failed(call, exc), exc


def failed(call: ToolCallPart, exc: BaseException) -> ToolResultPart:
    """Build the error result of a call that raised."""
    if isinstance(exc, asyncio.CancelledError):
        words = "CancelledError: an operation inside the function was cancelled"
        return ToolResultPart.of(call, words, is_error=True)
    return ToolResultPart.of(call, _words(exc), is_error=True)


def _is_leaving() -> bool:
    """Whether the caller of ``run_tools`` is being cancelled, rather than an operation inside a function."""
    return anyio.current_effective_deadline() == -inf


async def stay() -> None:
    """Undo a cancellation that a function requested for its own task, so that the other functions continue."""
    task = asyncio.current_task()
    while task is not None and task.cancelling() and not _is_leaving():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # raises the cancellation, if it was not raised yet
        task.uncancel()


def _words(exc: BaseException) -> str:
    """Return an exception's class and message, shortened; the caller's ``__str__`` may itself fail."""
    try:
        message = str(exc)
    except Exception:  # noqa: BLE001 - the __str__ is the caller's code
        message = "(its message cannot be read)"
    return shortened(f"{type(exc).__name__}: {message}", LONGEST_ERROR)


def _contents(value: object) -> Sequence[TextPart | JsonPart | FilePart]:
    """Convert a function's return value to content parts."""
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
    except UnicodeEncodeError:  # a lone surrogate in a key, as in some file names; a dict of JSON values may hold it
        return cast("JsonValue", value)
