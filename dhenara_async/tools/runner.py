"""``ToolRunner``: runs the calls of one answer for a tool loop, with bounds, deadlines, events and observers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import anyio

from dhenara_async.calls.observed_loop import ObservedLoop, ObservedTool
from dhenara_async.calls.records import ToolOutcome
from dhenara_async.errors import ConfigurationError, DeadlineError
from dhenara_async.events import LoopEvent, ToolEnd, ToolStart
from dhenara_async.messages.messages import ToolCallPart, ToolResultPart
from dhenara_async.tools.deadline import CallDeadline
from dhenara_async.tools.declarations import HostedTool, Tool
from dhenara_async.tools.loop import decision_key, decision_result
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.tools.run import prepared, result_of, stay
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.tools.sources import AskUser, ToolAnswer, ToolQuestion, ToolSource

Keep = Callable[[int, ToolResultPart], Awaitable[None]]
"""Stores the result of a call, by the place of the call in its answer."""

_STORE_SECONDS: Final = 5.0


class _EndsInOrder:
    """Emits the ends of calls, in the order of the calls where they have one key: no id, and one function.

    Args:
        calls: The calls, each with its place.
        emit: Receives the events.
    """

    def __init__(self, calls: Sequence[tuple[int, ToolCallPart]], emit: Callable[[LoopEvent], None]) -> None:
        self._emit = emit
        self._ready: dict[int, ToolResultPart] = {}
        self._places: dict[str, list[int]] = {}
        for place, call in calls:
            self._places.setdefault(decision_key(call), []).append(place)

    def add(self, place: int, call: ToolCallPart, result: ToolResultPart) -> None:
        """Emit the end of a call, as soon as those before it with the same key have theirs."""
        self._ready[place] = result
        places = self._places[decision_key(call)]
        while places and places[0] in self._ready:
            self._emit(ToolEnd(self._ready[places.pop(0)]))


class ToolRunner:
    """Runs the calls of a loop's answers.

    Args:
        policy: The bounds.
        tools: The tools of the call.
        sessions: The open servers of tools.
        observed: Reports every call to observers.
        owned: Whether the sessions end with the loop.

    Raises:
        ConfigurationError: A tool has no function to run, or takes another context than the policy has, or two have
            the same name.
    """

    def __init__(
        self,
        policy: ToolPolicy,
        tools: Sequence[Tool | HostedTool | McpServer],
        sessions: ToolSessions,
        observed: ObservedLoop,
        *,
        owned: bool = False,
    ) -> None:
        self._policy = policy
        self._tools = tuple(tools)
        self._sessions = sessions
        self._observed = observed
        self._owned = owned
        self._sources: Mapping[str, ToolSource] | None = None
        own = [tool for tool in self._tools if isinstance(tool, Tool)]
        self._known: Mapping[str, Tool] = {tool.name: tool for tool in own}
        if len(self._known) < len(own):  # OpenAI takes them, and a call could mean either
            twice = next(tool.name for tool in own if self._known[tool.name] is not tool)
            raise ConfigurationError(
                f"two tools have the name {twice!r}: give one of them another, Tool.from_function(…, name=…)"
            )
        for tool in self._known.values():
            if not tool.can_run:
                raise ConfigurationError(
                    f"the tool {tool.name!r} was made from a schema alone: run_tools has no function to run; pass the "
                    "function itself, or run the calls yourself without run_tools"
                )
            tool.check_context(policy.context)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the functions; those of servers are not known before the first call."""
        return tuple(self._known)

    async def aclose(self) -> None:
        """Close the servers that the loop opened for itself."""
        self._sessions.forget(self._observed.loop_id)
        if self._owned:
            await self._sessions.aclose()

    async def run(
        self,
        calls: Sequence[tuple[int, ToolCallPart]],
        denials: Mapping[int, str],
        *,
        emit: Callable[[LoopEvent], None],
        keep: Keep,
    ) -> dict[int, ToolResultPart]:
        """Run calls concurrently and return their results by place. Every call gets a result.

        Args:
            calls: The calls, each with its place in its answer.
            denials: The words for the model about calls that are not run, by place.
            emit: Receives ``ToolStart`` when a call begins, ``ToolProgress`` while it runs, and ``ToolEnd`` after its
                result was stored. Those of calls that only their place tells apart come in the order of the calls.
            keep: Stores a result.

        Raises:
            Exception: ``on_error`` raised it, or a result could not be stored; all other calls were cancelled.
        """
        results: dict[int, ToolResultPart] = {}
        failures: list[BaseException] = []
        if self._sources is None:
            listed = await self._sessions.listed(self._tools, loop=self._observed.loop_id)
            self._sources = listed.sources
            self._known = {tool.name: tool for tool in listed.tools if isinstance(tool, Tool)}
        ends = _EndsInOrder(calls, emit)
        slots = anyio.Semaphore(self._policy.concurrency, fast_acquire=True)

        async def answer(place: int, call: ToolCallPart, group: anyio.abc.TaskGroup) -> None:
            try:
                emit(ToolStart(call))
                result = await self._answer(call, denials.get(place), emit)
                await stay()
                await _kept(keep, place, result)
                results[place] = result
                ends.add(place, call, result)
            except Exception as exc:  # noqa: BLE001 - raised below, alone rather than in a group
                failures.append(exc)
                group.cancel_scope.cancel()
            finally:
                slots.release()

        async with anyio.create_task_group() as group:
            for place, call in calls:
                await slots.acquire()
                group.start_soon(answer, place, call, group)
        if failures:
            raise failures[0]
        return results

    async def _answer(
        self, call: ToolCallPart, denial: str | None, emit: Callable[[LoopEvent], None]
    ) -> ToolResultPart:
        if call.hosted:  # the provider runs it, and sends its result with the next answer
            return decision_result(call, denial)
        observed = self._observed.tool(call)
        outcome: ToolOutcome = "cancelled"
        error: BaseException | None = None
        result: ToolResultPart | None = None
        try:
            if denial is not None:
                result = ToolResultPart.of(call, denial, is_error=True).model_copy(update={"denied": True})
                outcome = "denied"
                return result
            result, error = await self._run(call, observed, emit)
            outcome = "failed" if result.is_error else "complete"
            words = None if error is None or self._policy.on_error is None else self._policy.on_error(call, error)
            if words is not None:
                result = ToolResultPart.of(call, words, is_error=True)
            return result
        finally:
            observed.end(outcome=outcome, error=error, result=result)

    async def _run(
        self, call: ToolCallPart, observed: ObservedTool, emit: Callable[[LoopEvent], None]
    ) -> tuple[ToolResultPart, BaseException | None]:
        with observed.running(), anyio.move_on_after(self._policy.timeout) as scope:
            sources = self._sources or {}
            ask = self._asking(CallDeadline(scope))
            run = prepared(call, self._known, sources, self._policy.context, ask=ask, progress=emit)
            if isinstance(run, ToolResultPart):
                return run, None
            return await result_of(call, run, in_threads=call.name not in sources)
        words = f"the tool did not answer within {self._policy.timeout} seconds and was stopped"
        return ToolResultPart.of(call, words, is_error=True), TimeoutError(words)

    def _asking(self, deadline: CallDeadline) -> AskUser | None:
        """Return the policy's ``ask``, which stops the clock of the call while the user thinks."""
        ask = self._policy.ask
        if ask is None:
            return None

        async def asking(question: ToolQuestion) -> ToolAnswer:
            with deadline.paused():
                return await ask(question)

        return asking


async def _kept(keep: Keep, place: int, result: ToolResultPart) -> None:
    """Store a result, also under cancellation: a call that was run to its end is not run again.

    Raises:
        DeadlineError: The store takes too long.
    """
    with anyio.move_on_after(_STORE_SECONDS, shield=True) as scope:
        await keep(place, result)
    if scope.cancelled_caught:
        raise DeadlineError(limit="store", seconds=_STORE_SECONDS)
