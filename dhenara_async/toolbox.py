"""Runs the functions that a model asks for, and makes of what they give, or how they fail, the results it is told."""

from collections.abc import Callable, Iterable, Sequence
from inspect import isawaitable
from typing import cast

import anyio
from pydantic import BaseModel, JsonValue
from pydantic_core import to_jsonable_python

from dhenara_async.errors import ConfigurationError, ToolArgumentsError
from dhenara_async.messages import FilePart, JsonPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.tools import HostedTool, Tool, Usable


async def run_tools(calls: Iterable[ToolCallPart], tools: Iterable[Usable]) -> tuple[ToolResultPart, ...]:
    """Run every call at the same time and give their results, in the order of the calls.

    What goes wrong with a call is its result (``is_error``), so that the model can do better: arguments that do not
    fit, a tool that is not there, an exception of the function, by class and message. A function that is not ``async``
    runs on the event loop, which waits for it.

    A function may return text, any value that pydantic can write as JSON, a ``FilePart`` or another content part, or a
    sequence of these parts.

    Args:
        calls: What the model asks for: ``response.tools()``.
        tools: What the call offered: ``config.tools``.

    Raises:
        ConfigurationError: A call is for a tool that was made from a schema alone, so there is nothing to run.
    """
    known = {tool.name: tool for tool in map(_as_tool, tools) if tool is not None}
    asked = tuple(calls)
    results: dict[int, ToolResultPart] = {}

    async def answer(place: int, call: ToolCallPart) -> None:
        results[place] = await _result(call, known)

    try:
        async with anyio.create_task_group() as group:
            for place, call in enumerate(asked):
                group.start_soon(answer, place, call)
    except* ConfigurationError as wrong:  # one of them says it all: none is about what the model did
        raise _first(wrong) from None
    return tuple(results[place] for place in range(len(asked)))


def _as_tool(tool: Usable) -> Tool | None:
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, HostedTool):
        return None  # the provider runs it
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        return Tool.from_model(tool)
    return Tool.from_function(cast("Callable[..., object]", tool))


def _first(group: BaseExceptionGroup[ConfigurationError]) -> ConfigurationError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _result(call: ToolCallPart, known: dict[str, Tool]) -> ToolResultPart:
    tool = known.get(call.name)
    if tool is None:
        return ToolResultPart.of(
            call, f"there is no tool {call.name!r}; there are: {', '.join(known) or 'none'}", is_error=True
        )
    try:
        run = tool.bind(call)
    except ToolArgumentsError as exc:
        return ToolResultPart.of(call, str(exc), is_error=True)
    try:
        value = run()
        return ToolResultPart.of(call, *_contents(await value if isawaitable(value) else value))
    except Exception as exc:  # noqa: BLE001 - a function of the caller's can raise anything, and the model is to know
        return ToolResultPart.of(call, f"{type(exc).__name__}: {exc}", is_error=True)


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
    return (JsonPart(value=cast("JsonValue", to_jsonable_python(value))),)
