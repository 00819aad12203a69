"""Many calls at once: ``fan_out``, and ``as_completed``, ``gather`` and ``first_of`` beside it.

Each call runs in a task of its own, in one task group that lives as long as the ``async with`` block; leaving the block
cancels what is left and closes every socket before control returns. What a call meets is its own affair: it becomes the
call's ``Outcome``, and no other call notices.
"""

from collections.abc import AsyncIterable, Callable, Generator, Iterable
from types import TracebackType
from typing import Self, TypedDict, Unpack

from dhenara_async.calls.shared import SharedResources
from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError
from dhenara_async.fanout.calls import Calls
from dhenara_async.fanout.engine import Fan
from dhenara_async.fanout.values import FanOutProgress, ModelCallLike, Outcome, TaggedBatch, TaggedEvent
from dhenara_async.fanout.values import ModelCall as ModelCall
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.response import AIModelCallResponse
from dhenara_async.transport import Transport

LIMIT = 100
"""How many calls are in flight at once unless the caller says otherwise: well below what a process may open."""


class FanOutOptions(TypedDict, total=False):
    """What ``fan_out`` takes beside its requests, and what is built on it takes too.

    Attributes:
        limit: How many calls are in flight at once; None = all.
        connecting: How many of them may connect and wait for the head of their answer at once; None = all.
        transport: Connections to share; None = one pool for all calls, closed at the end.
        shared: Limits and a budget of retries to share; None = one budget of retries for all calls, and no limits.
        policy: What a call may do to a history made by other models.
        config: The knobs of every call that brings none of its own.
        on_progress: Told when a call begins and when it ends, never for what it says.
    """

    limit: int | None
    connecting: int | None
    transport: Transport | None
    shared: SharedResources | None
    policy: ConversionPolicy | None
    config: AIModelCallConfig | None
    on_progress: Callable[[FanOutProgress], object] | None


class FanOut:
    """Many calls as one stream: iterate it inside ``async with``, or await it; made by ``fan_out``."""

    def __init__(self, fan: Fan[ModelCallLike], calls: Calls) -> None:
        self._fan = fan
        self._calls = calls

    async def __aenter__(self) -> Self:
        await self._calls.enter()
        await self._fan.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._calls:
            await self._fan.leave(exc)

    def __await__(self) -> Generator[object, None, list[Outcome]]:
        return self._run().__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaggedEvent:
        return await self._fan.event()

    async def batch(self) -> TaggedBatch | None:
        """What one network read of one call has brought, or how a call ended; None when all have. Cheaper than events.

        Raises:
            StreamStateError: The block has not been entered, or was left before the end.
            Exception: What the iterable of requests or ``on_progress`` raised.
        """
        return await self._fan.batch()

    async def collect(self) -> list[Outcome]:
        """Wait for the end of all calls without handing over what they say; the results.

        Raises:
            StreamStateError: The block has not been entered, or was left before the end.
            Exception: What the iterable of requests or ``on_progress`` raised.
        """
        await self._fan.collect()
        return self._fan.results

    @property
    def results(self) -> list[Outcome]:
        """How each call ended, in the order of the requests, once all have or the block has been left.

        After that, calls that were not begun are cancelled ones; of requests without a length they are left out.

        Raises:
            StreamStateError: They have not all ended.
        """
        return self._fan.results

    def outcome(self, index: int) -> Outcome | None:
        """How call ``index`` ended; None if it has not, or if there is none."""
        return self._fan.outcome(index)

    @property
    def progress(self) -> FanOutProgress:
        """How far it has come."""
        return self._fan.progress

    def cancel(self, index: int | None = None) -> None:
        """Cancel one call, or all with those that have not been begun; the block goes on, and calls that have ended
        are not touched. The outcome of a cancelled call has what had come of it."""
        self._fan.cancel(index)

    async def _run(self) -> list[Outcome]:
        self._fan.deliver_nothing()
        async with self:
            return await self.collect()


class Completions:
    """Many calls as they end: iterate it inside ``async with``; made by ``as_completed``."""

    def __init__(self, fan: Fan[ModelCallLike], calls: Calls) -> None:
        self._fan = fan
        self._calls = calls

    async def __aenter__(self) -> Self:
        await self._calls.enter()
        await self._fan.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._calls:
            await self._fan.leave(exc)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        while True:
            batch = await self._fan.batch()
            if batch is None:
                raise StopAsyncIteration
            if batch.outcome is not None:
                return batch.outcome

    @property
    def progress(self) -> FanOutProgress:
        """How far it has come."""
        return self._fan.progress

    def cancel(self, index: int | None = None) -> None:
        """Cancel one call, or all; see ``FanOut.cancel``."""
        self._fan.cancel(index)


def fan_out(
    requests: Iterable[ModelCallLike] | AsyncIterable[ModelCallLike],
    *,
    limit: int | None = LIMIT,
    connecting: int | None = None,
    transport: Transport | None = None,
    shared: SharedResources | None = None,
    policy: ConversionPolicy | None = None,
    config: AIModelCallConfig | None = None,
    on_progress: Callable[[FanOutProgress], object] | None = None,
) -> FanOut:
    """Make many calls at once: ``await`` it for their outcomes, or read their events as they come.

    ::

        results = await fan_out([(a, "Why?"), (b, "Why?")])

        async with fan_out([(a, "Why?"), (b, "Why?")]) as fan:
            async for tagged in fan:
                print(tagged.index, tagged.event)
        results = fan.results

    No call touches another: whatever one raises becomes its ``Outcome``. Awaited, it streams on the wire only where
    the config says so (``streaming``), as ``generate`` does, and keeps no events.

    Args:
        requests: ``ModelCall``s, or ``(endpoint, prompt)`` and ``(endpoint, prompt, config)``; a plan over endpoints
            will do wherever an endpoint does. They are taken one by one as there is room for them, so they may come
            from a generator, plain or asynchronous, that has no end.
        limit: How many calls are in flight at once; None = all. A call makes room for the next when it has ended and
            its reader has been told so.
        connecting: How many of them may connect and wait for the head of their answer at once, so that thousands do
            not begin by shaking hands together; None = all. The wait counts as part of the call.
        transport: Connections to share, closed by whoever made them; None = one pool for all calls, closed at the end.
        shared: Limits and a budget of retries to share; None = one budget of retries for all calls, and no limits.
        policy: What a call may do to a history made by other models.
        config: The knobs of every call that brings none of its own.
        on_progress: Told when a call begins and when it ends, never for what it says. What it raises ends the fan-out.

    Raises:
        ConfigurationError: ``limit`` or ``connecting`` is below 1, or ``requests`` is no iterable.
    """
    calls = Calls(connecting, transport, shared, policy, config)
    return FanOut(Fan(requests, calls, limit=limit, on_progress=on_progress, delivers="events"), calls)


def as_completed(
    requests: Iterable[ModelCallLike] | AsyncIterable[ModelCallLike], **options: Unpack[FanOutOptions]
) -> Completions:
    """Make many calls at once and receive each one's outcome as it ends, in the order in which they do.

    ``async with as_completed(requests) as ended: async for outcome in ended: …``. Leaving the block cancels the others.
    Outcomes are not kept once they are handed over, so requests without an end take no more memory than a few.

    Args:
        requests: As for ``fan_out``.
        options: As for ``fan_out``.

    Raises:
        ConfigurationError: As ``fan_out`` does.
    """
    calls = Calls(
        options.get("connecting"),
        options.get("transport"),
        options.get("shared"),
        options.get("policy"),
        options.get("config"),
    )
    limit, on_progress = options.get("limit", LIMIT), options.get("on_progress")
    return Completions(
        Fan(requests, calls, limit=limit, on_progress=on_progress, delivers="outcomes", keeps_outcomes=False), calls
    )


async def gather(
    requests: Iterable[ModelCallLike] | AsyncIterable[ModelCallLike], **options: Unpack[FanOutOptions]
) -> list[AIModelCallResponse]:
    """Make many calls at once; all their responses, in the order of the requests, or the first failure.

    The first call that fails ends the others, on the wire too, and its error is raised as it is, as by a task group
    but without the group. To have what came of each whatever happened, await ``fan_out``.

    Args:
        requests: As for ``fan_out``.
        options: As for ``fan_out``.

    Raises:
        Exception: What the first call raised that failed.
        ConfigurationError: As ``fan_out`` does.
    """
    responses: dict[int, AIModelCallResponse] = {}
    async with as_completed(requests, **options) as ended:
        async for outcome in ended:
            responses[outcome.index] = outcome.unwrap()
    return [responses[index] for index in sorted(responses)]


async def first_of(
    count: int, requests: Iterable[ModelCallLike] | AsyncIterable[ModelCallLike], **options: Unpack[FanOutOptions]
) -> list[AIModelCallResponse]:
    """Make many calls at once; the first ``count`` responses, in the order in which they came. The others are ended.

    Calls that fail are passed over as long as enough of the others may still answer.

    Args:
        count: How many are wanted, 1 or more.
        requests: As for ``fan_out``.
        options: As for ``fan_out``.

    Raises:
        Exception: Too few have answered: the first failure, with notes about the others.
        ConfigurationError: Nobody failed and there are too few requests; or as ``fan_out`` does.
    """
    if count < 1:
        raise ConfigurationError("count is how many responses are wanted: 1 or more")
    responses: list[AIModelCallResponse] = []
    failures: list[Exception] = []
    async with as_completed(requests, **options) as ended:
        async for outcome in ended:
            if outcome.error is not None:
                failures.append(outcome.error)
            else:
                responses.append(outcome.unwrap())
            if len(responses) == count:
                break
    if len(responses) == count:
        return responses
    if not failures:
        raise ConfigurationError(f"the first {count} responses are wanted of only {len(responses)} requests")
    first, *others = failures
    for other in others:
        if other is not first:
            first.add_note(f"another call failed too: {type(other).__name__}: {other}")
    raise first
