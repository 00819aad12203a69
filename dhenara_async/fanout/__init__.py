"""Many calls at once: ``fan_out``, ``as_completed``, ``gather`` and ``first_of``.

Each call runs in a task of its own, in one task group that lives as long as the ``async with`` block. Leaving the block
cancels the running calls and closes every socket before control returns. An error of a call becomes its ``Outcome``
and does not affect other calls.
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
"""Default number of calls that run at once: well below the number of sockets that a process may open."""


class FanOutOptions(TypedDict, total=False):
    """Options of ``fan_out``, which ``as_completed``, ``gather`` and ``first_of`` take too.

    Attributes:
        limit: Highest number of running calls; None = no limit.
        connecting: Highest number of calls that connect and wait for their response head at once; None = no limit.
        transport: Connections to use, not closed here; None = one pool for all calls, closed at the end.
        shared: Resources to share with other calls; None = one retry budget for all calls, and no rate limits.
        policy: Permitted changes to a history that other models wrote.
        config: Configuration of requests without their own.
        on_progress: Called when a call starts and when it ends, not for each event.
    """

    limit: int | None
    connecting: int | None
    transport: Transport | None
    shared: SharedResources | None
    policy: ConversionPolicy | None
    config: AIModelCallConfig | None
    on_progress: Callable[[FanOutProgress], object] | None


class FanOut:
    """The events of many calls as one stream: iterate it inside ``async with``, or await it; made by ``fan_out``."""

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
        """Receive the events of one network read of one call, or its outcome; None when all calls have ended.

        This is cheaper than iterating over single events.

        Raises:
            StreamStateError: The block was not entered, or was left early.
            Exception: Raised by the iterable of requests or by ``on_progress``.
        """
        return await self._fan.batch()

    async def collect(self) -> list[Outcome]:
        """Wait until all calls have ended, without delivering their events; return the outcomes.

        Raises:
            StreamStateError: The block was not entered, or was left early.
            Exception: Raised by the iterable of requests or by ``on_progress``.
        """
        await self._fan.collect()
        return self._fan.results

    @property
    def results(self) -> list[Outcome]:
        """The outcomes of all calls, in the order of the requests.

        Requests that were not started before the block was left have the outcome ``cancelled``; they are left out if
        the iterable of requests has no length.

        Raises:
            StreamStateError: Some calls have not ended, and the block was not left yet.
        """
        return self._fan.results

    def outcome(self, index: int) -> Outcome | None:
        """Return the outcome of call ``index``; None if it has not ended or does not exist."""
        return self._fan.outcome(index)

    @property
    def progress(self) -> FanOutProgress:
        """The numbers of waiting, running and ended calls."""
        return self._fan.progress

    def cancel(self, index: int | None = None) -> None:
        """Cancel one call, or all calls and further requests.

        The block stays open. Ended calls keep their outcomes; the outcome of a cancelled call has its partial response.
        """
        self._fan.cancel(index)

    async def _run(self) -> list[Outcome]:
        self._fan.deliver_nothing()
        async with self:
            return await self.collect()


class Completions:
    """The outcomes of many calls as they end: iterate it inside ``async with``; made by ``as_completed``."""

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
        """The numbers of waiting, running and ended calls."""
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
    """Make many calls at once: await their outcomes, or read their events as they arrive.

    ::

        results = await fan_out([(a, "Why?"), (b, "Why?")])

        async with fan_out([(a, "Why?"), (b, "Why?")]) as fan:
            async for tagged in fan:
                print(tagged.index, tagged.event)
        results = fan.results

    The error of a call becomes its ``Outcome`` and does not affect other calls. An awaited fan-out streams on the wire
    only where the config sets ``streaming``, like ``generate``, and keeps no events.

    Args:
        requests: ``ModelCall``s, ``(endpoint, prompt)`` or ``(endpoint, prompt, config)``; the endpoint may be a
            short name, or a plan over several. Requests are taken one by one as calls end, so they may come from an
            endless generator, synchronous or asynchronous.
        limit: Highest number of running calls; None = no limit. The next call starts when a call has ended and the
            reader has received its outcome.
        connecting: Highest number of calls that connect and wait for their response head at once, so that thousands do
            not open connections together; None = no limit. The wait counts as part of the call.
        transport: Connections to use, not closed here; None = one pool for all calls, closed at the end.
        shared: Resources to share with other calls; None = one retry budget for all calls, and no rate limits.
        policy: Permitted changes to a history that other models wrote.
        config: Configuration of requests without their own.
        on_progress: Called when a call starts and when it ends, not for each event. An exception that it raises ends
            the fan-out.

    Raises:
        ConfigurationError: ``limit`` or ``connecting`` is below 1, or ``requests`` is not iterable.
    """
    calls = Calls(connecting, transport, shared, policy, config)
    observers = calls.observers
    fan = Fan(requests, calls, limit=limit, on_progress=on_progress, delivers="events", observers=observers)
    return FanOut(fan, calls)


def as_completed(
    requests: Iterable[ModelCallLike] | AsyncIterable[ModelCallLike], **options: Unpack[FanOutOptions]
) -> Completions:
    """Make many calls at once and receive their outcomes in the order in which they end.

    ``async with as_completed(requests) as outcomes: async for outcome in outcomes: …``. Leaving the block cancels the
    other calls. Delivered outcomes are not kept, so memory stays bounded for endless requests.

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
    fan = Fan(
        requests,
        calls,
        limit=limit,
        on_progress=on_progress,
        delivers="outcomes",
        keeps_outcomes=False,
        observers=calls.observers,
    )
    return Completions(fan, calls)


async def gather(
    requests: Iterable[ModelCallLike] | AsyncIterable[ModelCallLike], **options: Unpack[FanOutOptions]
) -> list[AIModelCallResponse]:
    """Make many calls at once and return all responses, in the order of the requests.

    The first call that fails cancels the others, on the wire too, and its error is raised as it is, not in an exception
    group. To get every outcome whether calls fail or not, await ``fan_out``.

    Args:
        requests: As for ``fan_out``.
        options: As for ``fan_out``.

    Raises:
        Exception: The error of the first call that failed.
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
    """Make many calls at once, return the first ``count`` responses in order of arrival, and cancel the other calls.

    Failed calls are ignored as long as enough others may still succeed.

    Args:
        count: Number of responses, 1 or more.
        requests: As for ``fan_out``.
        options: As for ``fan_out``.

    Raises:
        Exception: Too few calls succeeded; this is the first error, with notes about the others.
        ConfigurationError: No call failed, but there are too few requests; or as ``fan_out`` does.
    """
    if count < 1:
        raise ConfigurationError("count is the number of responses to return: 1 or more")
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
        raise ConfigurationError(
            f"first_of was asked for {count} responses, but there are only {len(responses)} requests"
        )
    first, *others = failures
    for other in others:
        if other is not first:
            first.add_note(f"another call failed too: {type(other).__name__}: {other}")
    raise first
